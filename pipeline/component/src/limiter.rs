//! [`RateLimiter`]: repeated log lines become one line that says how many it stands for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Lets the first of many equal events through, then one per interval with the number it stands for. One per cause,
/// kept beside the counter of the same cause.
#[derive(Debug)]
pub struct RateLimiter {
    every: Duration,
    last: Mutex<Option<Instant>>,
    swallowed: AtomicU64,
}

impl RateLimiter {
    /// At most one event in `every`.
    pub fn new(every: Duration) -> Self {
        Self { every, last: Mutex::new(None), swallowed: AtomicU64::new(0) }
    }

    /// `Some(n)` when the caller should log, `n` being how many events were swallowed since the last time.
    pub fn admit(&self) -> Option<u64> {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.is_some_and(|last| now.duration_since(last) < self.every) {
            self.swallowed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(now);
        Some(self.swallowed.swap(0, Ordering::Relaxed))
    }
}

impl Default for RateLimiter {
    /// One a minute.
    fn default() -> Self {
        Self::new(Duration::from_secs(60))
    }
}
