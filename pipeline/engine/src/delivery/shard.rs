//! [`Shard`]: one sender and its task. Attempts, failures and what follows from them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use pipeline_component::{Delivered, ExportError, RateLimiter, Sender};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::backoff::Backoff;
use super::ledger::{Outcome, Reason};
use super::queue::DeliveryQueue;
use super::request::Request;
use crate::run::panic_text;

/// A ceiling is never lower than this share of what is configured,
const FLOOR_SHARE: usize = 16;
/// nor than this many points. A request that is too large even so is halved further, and that is not remembered.
const FLOOR_MIN: usize = 64;
/// Requests that must fit, at most, before a larger one is tried.
const FITTING_MAX: u32 = 64;

/// Makes senders.
pub(crate) type MakeSender = Box<dyn Fn() -> Box<dyn Sender> + Send + Sync>;

/// Log lines of one exporter that may repeat.
#[derive(Debug, Default)]
pub(crate) struct Said {
    retry: RateLimiter,
    remarks: RateLimiter,
    split: RateLimiter,
}

/// How much a request may weigh: less after one was too large, and twice as much after each that fits, up to what is
/// configured. Where a larger one was tried in vain, more must fit before the next try.
#[derive(Debug)]
struct Ceiling {
    max: usize,
    floor: usize,
    now: usize,
    /// Requests that must fit before the ceiling is raised, and those that did.
    fitting: u32,
    fitted: u32,
    /// It was raised, and nothing was too large since.
    is_raised: bool,
}

impl Ceiling {
    fn new(max: usize) -> Self {
        let floor = (max / FLOOR_SHARE).max(FLOOR_MIN).min(max);
        Self { max, floor, now: max, fitting: 1, fitted: 0, is_raised: false }
    }

    /// One point alone was too large: it was not the number of them.
    fn lift(&mut self) {
        self.now = self.max;
    }

    /// A request of `weight` was too large.
    fn lower(&mut self, weight: usize) {
        self.now = self.now.min(weight / 2).max(self.floor);
        self.fitted = 0;
        if std::mem::take(&mut self.is_raised) {
            self.fitting = (self.fitting * 2).min(FITTING_MAX);
        }
    }

    /// A request of `weight` was taken. Those much smaller than the ceiling say nothing about it.
    fn fits(&mut self, weight: usize) {
        if weight <= self.now / 2 {
            return;
        }
        if self.now == self.max {
            (self.fitting, self.is_raised) = (1, false);
            return;
        }
        self.fitted += 1;
        if self.fitted >= self.fitting {
            self.now = self.now.saturating_mul(2).min(self.max);
            (self.fitted, self.is_raised) = (0, true);
        }
    }
}

/// Takes requests from one lane and sees to each until it is settled.
pub(crate) struct Shard {
    queue: Arc<DeliveryQueue>,
    lane: usize,
    make: Arc<MakeSender>,
    sender: Option<Box<dyn Sender>>,
    backoff: Backoff,
    failures: u64,
    ceiling: Ceiling,
    said: Arc<Said>,
}

/// What a failed attempt leaves to be done.
enum Next {
    /// The request is settled.
    Done,
    /// Once more, after the pause.
    Again { pause: Duration, asked: bool },
}

impl Shard {
    pub(crate) fn new(
        queue: Arc<DeliveryQueue>,
        lane: usize,
        make: Arc<MakeSender>,
        said: Arc<Said>,
        seed: u64,
    ) -> Self {
        let max = queue.settings.batch.points_max.max(1);
        Self {
            backoff: Backoff::new(&queue.settings.retry, seed),
            ceiling: Ceiling::new(max),
            sender: None,
            failures: 0,
            queue,
            lane,
            make,
            said,
        }
    }

    /// Works until the queue is closed and empty. A panic of its own loses what is in flight.
    pub(crate) async fn run(mut self) {
        while let Err(panic) = AssertUnwindSafe(self.work()).catch_unwind().await {
            self.queue.shown.panicked();
            error!(component = self.queue.name(), panic = panic_text(&*panic), "delivery panicked");
            self.sender = None;
            self.queue.finish(self.lane);
        }
    }

    async fn work(&mut self) {
        loop {
            let ceiling = self.ceiling.now;
            let Some(request) = self.queue.next(self.lane, ceiling).await else { return };
            let mut requests = request.plan(ceiling);
            while let Some(request) = requests.pop() {
                self.deliver(request, &mut requests).await;
            }
            self.queue.finish(self.lane);
        }
    }

    /// Sees to `request` until it is delivered, lost, or cut into others, which go first.
    async fn deliver(&mut self, request: Request, others: &mut Vec<Request>) {
        let mut is_first = true;
        loop {
            self.queue.quiet().await;
            if !std::mem::take(&mut is_first) {
                self.queue.shown.retry();
            }
            match self.attempt(&request, others).await {
                Next::Done => return,
                Next::Again { pause, asked } => {
                    if asked {
                        self.queue.keep_quiet(pause);
                    } else {
                        self.pause(pause).await;
                    }
                }
            }
        }
    }

    /// A pause of our own; the word to close cuts it short once, because there may be no time for a later attempt.
    async fn pause(&mut self, pause: Duration) {
        let closing = self.queue.closing.clone();
        if closing.is_triggered() {
            tokio::time::sleep(pause).await;
        } else if tokio::time::timeout(pause, closing.triggered()).await.is_ok() {
            self.backoff.reset();
        }
    }

    async fn attempt(&mut self, request: &Request, others: &mut Vec<Request>) -> Next {
        let (began, points) = (Instant::now(), request.size.points);
        let (sender, make) = (&mut self.sender, &self.make);
        // Within the block, because a sender may do its work before it gives its future, or not come to be at all.
        let attempt = async { sender.get_or_insert_with(|| make()).send(&request.parts).await };
        let outcome = AssertUnwindSafe(attempt).catch_unwind().await;
        let (next, outcome) = match outcome {
            Ok(Ok(delivered)) => {
                self.ceiling.fits(request.size.weight);
                (self.delivered(points, &delivered), Outcome::Delivered)
            }
            Ok(Err(ExportError::Retryable { reason, after })) => {
                (self.failed(&reason, after), Outcome::Retryable)
            }
            Ok(Err(ExportError::TooLarge(reason))) => {
                (self.too_large(request, &reason, others), Outcome::TooLarge)
            }
            Ok(Err(ExportError::Permanent(reason))) => {
                (self.lost(points, Reason::Permanent, &reason), Outcome::Permanent)
            }
            Err(panic) => {
                self.sender = None;
                let panic = format!("the sender panicked: {}", panic_text(&*panic));
                (self.lost(points, Reason::Panic, &panic), Outcome::Panic)
            }
        };
        self.queue.attempt(outcome, began.elapsed());
        next
    }

    fn delivered(&mut self, points: usize, delivered: &Delivered) -> Next {
        let component = self.queue.name();
        let rejected = usize::try_from(delivered.rejected).unwrap_or(usize::MAX).min(points);
        self.queue.delivered(self.lane, points, rejected);
        let remark = delivered.message.as_str();
        if rejected > 0 {
            self.queue.tell_lost(Reason::Rejected, rejected, remark);
        } else if !remark.is_empty()
            && let Some(swallowed) = self.said.remarks.admit()
        {
            warn!(component, remark, swallowed, "the backend took it, with a remark");
        }
        if self.failures > 0 {
            info!(component, shard = self.lane, failures = self.failures, "delivering again");
            self.failures = 0;
        }
        self.backoff.reset();
        Next::Done
    }

    fn failed(&mut self, reason: &str, after: Option<Duration>) -> Next {
        self.failures += 1;
        let pause = self.backoff.pause(after);
        if let Some(swallowed) = self.said.retry.admit() {
            let component = self.queue.name();
            warn!(component, error = reason, ?pause, swallowed, "delivery failed, will retry");
        }
        Next::Again { pause, asked: after.is_some() }
    }

    fn too_large(&mut self, request: &Request, reason: &str, others: &mut Vec<Request>) -> Next {
        let Some((first, second)) = request.halve() else {
            self.ceiling.lift();
            return self.lost(request.size.points, Reason::TooLarge, reason);
        };
        self.ceiling.lower(request.size.weight);
        if let Some(swallowed) = self.said.split.admit() {
            let (component, rows) = (self.queue.name(), request.size.weight);
            warn!(component, error = reason, rows, swallowed, "request too large, halved");
        }
        others.push(second);
        others.push(first);
        Next::Done
    }

    fn lost(&self, points: usize, why: Reason, reason: &str) -> Next {
        self.queue.refused(self.lane, points, why);
        self.queue.tell_lost(why, points, reason);
        Next::Done
    }
}
