//! [`Backoff`]: how long to wait after a failure.

use std::time::Duration;

use pipeline_component::RetrySettings;

/// More than a backend can sensibly ask for: a typing error there must not stop delivery for good.
const AFTER_MAX: Duration = Duration::from_secs(3600);

/// Pauses between attempts: doubling, give or take half, so that a fleet does not come back all at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    random: u64,
}

impl Backoff {
    /// Equal seeds give equal pauses.
    pub(crate) fn new(settings: &RetrySettings, seed: u64) -> Self {
        let min = settings.pause_min.get().max(Duration::from_millis(1));
        let max = settings.pause_max.get().max(min);
        Self { min, max, next: min, random: seed }
    }

    /// The pause after one more failure. Where the backend said when to come again, that and up to a tenth more.
    pub(crate) fn pause(&mut self, after: Option<Duration>) -> Duration {
        let share = self.random();
        let own = self.next.mul_f64(0.5 + share).min(self.max);
        self.next = (self.next * 2).min(self.max);
        match after {
            Some(after) => {
                let after = after.min(AFTER_MAX);
                (after + after.mul_f64(share / 10.0)).max(self.min)
            }
            None => own,
        }
    }

    /// An attempt succeeded.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }

    /// splitmix64, as a share of 1.
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(seed: u64) -> Backoff {
        let settings = RetrySettings {
            pause_min: Duration::from_millis(100).into(),
            pause_max: Duration::from_secs(2).into(),
        };
        Backoff::new(&settings, seed)
    }

    #[test]
    fn pauses_double_within_bounds_and_differ() {
        let mut firsts = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut backoff = backoff(seed);
            let mut middle = 0.1;
            for attempt in 0..20 {
                let pause = backoff.pause(None).as_secs_f64();
                let (low, high) = (middle * 0.5, (middle * 1.5f64).min(2.0));
                assert!(pause >= low - 1e-6 && pause <= high + 1e-6, "{attempt}: {pause}");
                middle = (middle * 2.0).min(2.0);
                if attempt == 0 {
                    firsts.insert((pause * 1e9) as u64);
                }
            }
            backoff.reset();
            assert!(backoff.pause(None) <= Duration::from_millis(150));
        }
        assert!(firsts.len() > 190, "seeds spread: {}", firsts.len());
    }

    #[test]
    fn what_the_backend_asks_for_is_kept() {
        let mut backoff = backoff(7);
        for seconds in [1, 60] {
            let after = Duration::from_secs(seconds);
            let pause = backoff.pause(Some(after));
            assert!(pause >= after && pause <= after.mul_f64(1.1), "{pause:?}");
        }
        assert_eq!(
            backoff.pause(Some(Duration::ZERO)),
            Duration::from_millis(100),
            "never at once"
        );
        assert!(backoff.pause(Some(Duration::MAX)) <= Duration::from_secs(3960));
    }
}
