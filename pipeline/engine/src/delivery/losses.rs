//! [`Losses`]: what the log says of lost points. One line a minute for each cause, and none of them is left out of the
//! totals.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pipeline_component::RateLimiter;
use tracing::error;

use super::ledger::Reason;
use super::queue::DeliveryQueue;

/// Causes that are told apart; a backend that makes up statuses gets no more memory than this.
const CAUSES_MAX: usize = 32;
/// Bytes of a status.
const STATUS_MAX: usize = 32;

/// Equal losses.
#[derive(Debug)]
struct Cause {
    reason: Reason,
    /// What the backend answered, or nothing.
    status: String,
    limiter: RateLimiter,
    /// Points of which no line has told yet.
    unsaid: u64,
}

/// One exporter's losses by cause.
#[derive(Debug, Default)]
pub(super) struct Losses(Mutex<Vec<Cause>>);

impl Losses {
    fn lock(&self) -> MutexGuard<'_, Vec<Cause>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes `points`. Gives all that were lost since the last line of this cause when it is time for another.
    fn note(&self, reason: Reason, status: &str, points: u64) -> Option<u64> {
        let mut causes = self.lock();
        let found =
            causes.iter().position(|cause| cause.reason == reason && cause.status == status);
        let at = match found {
            Some(at) => at,
            None if causes.len() < CAUSES_MAX || status.is_empty() => {
                let (status, limiter) = (status.to_owned(), RateLimiter::default());
                causes.push(Cause { reason, status, limiter, unsaid: 0 });
                causes.len() - 1
            }
            None => {
                drop(causes);
                return self.note(reason, "", points);
            }
        };
        let cause = causes.get_mut(at)?;
        cause.unsaid += points;
        cause.limiter.admit().map(|_| std::mem::take(&mut cause.unsaid))
    }

    /// Causes that no line came for since, and for which it is time.
    fn due(&self) -> Vec<(Reason, String, u64)> {
        let mut due = Vec::new();
        for cause in self.lock().iter_mut().filter(|cause| cause.unsaid > 0) {
            if cause.limiter.admit().is_some() {
                due.push((cause.reason, cause.status.clone(), std::mem::take(&mut cause.unsaid)));
            }
        }
        due
    }
}

/// The status in the text of a sender's error: `400` of `HTTP status 400: …`, `INTERNAL` of `gRPC status INTERNAL`.
fn status(error: &str) -> &str {
    let after = ["HTTP status ", "gRPC status "].iter().find_map(|start| error.strip_prefix(start));
    let after = after.unwrap_or_default();
    let is_status = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let status = after.split(|c: char| !is_status(c)).next().unwrap_or_default();
    if status.len() <= STATUS_MAX { status } else { "" }
}

impl DeliveryQueue {
    /// Tells of `points` that were lost for `reason`; the ledger has them already.
    pub(super) fn tell_lost(&self, reason: Reason, points: usize, error: &str) {
        if let Some(since_last_line) = self.losses.note(reason, status(error), points as u64) {
            let (component, reason) = (self.name(), reason.name());
            error!(component, reason, error, points, since_last_line, "points are lost");
        }
    }

    /// Tells of what was swallowed and is due. `disk_told` is what was told of each reason that the disk has, so far.
    pub(super) fn tell_due(&self, disk_told: &mut [(Reason, u64)]) {
        for (reason, told) in disk_told {
            let lost = self.lock().ledger.lost(*reason);
            let more = lost - std::mem::replace(told, lost);
            if more > 0 {
                let more = usize::try_from(more).unwrap_or(usize::MAX);
                self.tell_lost(*reason, more, "the queue on disk lost them");
            }
        }
        for (reason, status, since_last_line) in self.losses.due() {
            let (component, reason) = (self.name(), reason.name());
            error!(
                component,
                reason,
                status,
                since_last_line,
                "{since_last_line} points lost since the last line"
            );
        }
    }

    /// Tells of everything that was lost, by reason. Called at exit.
    pub(super) fn tell_totals(&self) {
        for (reason, points) in self.lock().ledger.losses() {
            error!(component = self.name(), reason, points, "points lost in all");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_what_the_error_begins_with() {
        assert_eq!(status("HTTP status 404: no page"), "404");
        assert_eq!(status("HTTP status 501"), "501");
        assert_eq!(status("gRPC status INVALID_ARGUMENT: bad"), "INVALID_ARGUMENT");
        assert_eq!(status("cannot read: HTTP status 200"), "");
        assert_eq!(status(&format!("HTTP status {}", "9".repeat(99))), "");
    }

    #[tokio::test(start_paused = true)]
    async fn made_up_statuses_are_bounded_and_every_point_is_told_once() {
        let losses = Losses::default();
        let mut told = 0;
        for n in 0..1000 {
            told += losses.note(Reason::Permanent, &n.to_string(), 3).unwrap_or_default();
        }
        assert_eq!(losses.lock().len(), CAUSES_MAX + 1);
        assert!(losses.due().is_empty(), "not within the minute");
        tokio::time::advance(std::time::Duration::from_secs(61)).await;
        told += losses.due().iter().map(|(.., points)| points).sum::<u64>();
        assert_eq!(told, 3000);
        assert!(losses.due().is_empty());
    }
}
