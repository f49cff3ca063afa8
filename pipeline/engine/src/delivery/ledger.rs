//! [`Ledger`]: what was taken, delivered and lost. All counting of points goes through it.
//!
//! It holds flows alone; what waits is counted where it waits, so that the two can be held against each other:
//! taken = delivered + waiting + in flight + dropped.

use std::time::Duration;

use pipeline_component::telemetry::{Counter, Gauge, Seconds, Telemetry, table};

/// Why points were lost: the `reason` of `exporter_dropped_points_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No room in memory, by `when_full`.
    QueueFull,
    /// No room on disk: the oldest made room.
    DiskFull,
    /// What was on disk can no longer be read.
    DiskDamaged,
    /// The backend refused the request for good.
    Permanent,
    /// The backend took the request, but not these points.
    Rejected,
    /// More than a request may hold, and not to be split any further.
    TooLarge,
    /// A sender or one of the exporter's own steps panicked.
    Panic,
    /// Not delivered before the deadline of the shutdown.
    Shutdown,
}

const REASONS: [(Reason, &str); 8] = [
    (Reason::QueueFull, "queue_full"),
    (Reason::DiskFull, "disk_full"),
    (Reason::DiskDamaged, "disk_damaged"),
    (Reason::Permanent, "permanent"),
    (Reason::Rejected, "rejected"),
    (Reason::TooLarge, "too_large"),
    (Reason::Panic, "panic"),
    (Reason::Shutdown, "shutdown"),
];

impl Reason {
    /// As it is told.
    pub(crate) fn name(self) -> &'static str {
        REASONS.iter().find(|(of, _)| *of == self).map_or("", |(_, name)| name)
    }
}

/// How an attempt ended: the `outcome` of `exporter_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    Retryable,
    TooLarge,
    Permanent,
    Panic,
}

const OUTCOMES: [(Outcome, &str); 5] = [
    (Outcome::Delivered, "delivered"),
    (Outcome::Retryable, "retryable"),
    (Outcome::TooLarge, "too_large"),
    (Outcome::Permanent, "permanent"),
    (Outcome::Panic, "panic"),
];

/// One exporter's flows of points. It begins at zero with the process; what an earlier one left on disk is taken anew.
#[derive(Debug)]
pub(crate) struct Ledger {
    taken: u64,
    delivered: u64,
    dropped: u64,
    lost: [u64; REASONS.len()],
    taken_total: Counter,
    delivered_total: Counter,
    failed_total: Counter,
    dropped_total: [Counter; REASONS.len()],
    recovered_total: Counter,
    unbalanced: Counter,
}

impl Ledger {
    /// Nothing yet; `telemetry` is scoped to the exporter.
    pub(crate) fn new(telemetry: &Telemetry) -> Self {
        let points = |outcome| telemetry.counter(&table::EXPORTER_POINTS, &[("outcome", outcome)]);
        Self {
            taken: 0,
            delivered: 0,
            dropped: 0,
            lost: [0; REASONS.len()],
            taken_total: telemetry.counter(&table::EXPORTER_TAKEN, &[]),
            delivered_total: points("delivered"),
            failed_total: points("failed"),
            dropped_total: REASONS.map(|(_, reason)| {
                telemetry.counter(&table::EXPORTER_DROPPED, &[("reason", reason)])
            }),
            recovered_total: telemetry.counter(&table::EXPORTER_RECOVERED, &[]),
            unbalanced: telemetry.counter(&table::EXPORTER_UNBALANCED, &[]),
        }
    }

    /// The exporter is answerable for `points` more.
    pub(crate) fn take(&mut self, points: usize) {
        self.taken += points as u64;
        self.taken_total.add(points as u64);
    }

    /// An earlier process was answerable for `points`, and left them on disk.
    pub(crate) fn recover(&mut self, points: usize) {
        self.take(points);
        self.recovered_total.add(points as u64);
    }

    /// The backend has `points`.
    pub(crate) fn deliver(&mut self, points: usize) {
        self.delivered += points as u64;
        self.delivered_total.add(points as u64);
    }

    /// `points` are lost.
    pub(crate) fn drop(&mut self, reason: Reason, points: usize) {
        let points = points as u64;
        self.dropped += points;
        if let Some(at) = REASONS.iter().position(|(of, _)| *of == reason) {
            self.lost[at] += points;
            self.dropped_total[at].add(points);
        }
        if matches!(reason, Reason::Permanent | Reason::Rejected | Reason::TooLarge | Reason::Panic)
        {
            self.failed_total.add(points);
        }
    }

    /// Points lost for `reason`.
    pub(crate) fn lost(&self, reason: Reason) -> u64 {
        REASONS.iter().zip(self.lost).find(|((of, _), _)| *of == reason).map_or(0, |(_, n)| n)
    }

    /// Every reason for which something was lost, and how many points.
    pub(crate) fn losses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = REASONS.iter().zip(self.lost).map(|((_, name), points)| (*name, points));
        all.filter(|(_, points)| *points > 0)
    }

    /// Points that `waiting`, counted where they wait, is off by.
    pub(crate) fn unaccounted(&self, waiting: usize) -> u64 {
        self.taken.abs_diff(self.delivered + self.dropped + waiting as u64)
    }

    /// Tells of `points` that [`Self::unaccounted`] found at exit.
    pub(crate) fn unbalanced(&self, points: u64) {
        self.unbalanced.add(points);
    }

    #[cfg(test)]
    pub(crate) fn flows(&self) -> (u64, u64, u64) {
        (self.taken, self.delivered, self.dropped)
    }
}

/// What self telemetry says of requests and of what waits.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) queue_bytes: Gauge,
    pub(crate) queue_points: Gauge,
    pub(crate) in_flight: Gauge,
    pub(crate) oldest: Gauge,
    pub(crate) disk_points: Gauge,
    removed: Counter,
    added: Counter,
    retries: Counter,
    panics: Counter,
    requests: [Counter; OUTCOMES.len()],
    seconds: Seconds,
}

impl Shown {
    /// `telemetry` is scoped to the exporter.
    pub(crate) fn new(telemetry: &Telemetry) -> Self {
        let gauge = |definition| telemetry.gauge(definition, &[]);
        let reshaped = |effect| telemetry.counter(&table::EXPORTER_RESHAPED, &[("effect", effect)]);
        Self {
            queue_bytes: gauge(&table::EXPORTER_QUEUE_BYTES),
            queue_points: gauge(&table::EXPORTER_QUEUE_POINTS),
            in_flight: gauge(&table::EXPORTER_IN_FLIGHT),
            oldest: gauge(&table::EXPORTER_OLDEST_SECONDS),
            disk_points: gauge(&table::EXPORTER_DISK_POINTS),
            removed: reshaped("removed"),
            added: reshaped("added"),
            retries: telemetry.counter(&table::EXPORTER_RETRIES, &[]),
            panics: telemetry.counter(&table::COMPONENT_PANICS, &[]),
            requests: OUTCOMES.map(|(_, outcome)| {
                telemetry.counter(&table::EXPORTER_REQUESTS, &[("outcome", outcome)])
            }),
            seconds: telemetry.seconds(&table::EXPORT_SECONDS, &[]),
        }
    }

    /// An attempt ended.
    pub(crate) fn attempt(&self, outcome: Outcome, took: Duration) {
        self.seconds.observe(took);
        if let Some(at) = OUTCOMES.iter().position(|(of, _)| *of == outcome) {
            self.requests[at].inc();
        }
        if outcome == Outcome::Panic {
            self.panics.inc();
        }
    }

    /// Another attempt at a request begins.
    pub(crate) fn retry(&self) {
        self.retries.inc();
    }

    /// Something other than an attempt panicked.
    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }

    /// The exporter's own steps made `given` points of `taken`.
    pub(crate) fn reshaped(&self, taken: usize, given: usize) {
        self.removed.add(taken.saturating_sub(given) as u64);
        self.added.add(given.saturating_sub(taken) as u64);
    }
}
