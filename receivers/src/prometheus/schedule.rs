//! [`Schedule`]: when a target is scraped. Pure: it is told the time and tells the next one.
//!
//! Scrapes lie on a grid of one interval, shifted by a hash of the target, so that a fleet spreads over the interval and
//! a restart changes nothing. The grid is laid once and never moved by what a scrape takes: no drift. Only the first
//! scrape comes early, so that a new target shows within a second and not within an interval.

use std::time::Duration;

use tokio::time::Instant;

/// A new target is scraped within this time, spread by its hash.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// The times of one target.
#[derive(Debug)]
pub(super) struct Schedule {
    due: Instant,
    /// The first time of the grid after `due`.
    grid: Instant,
    interval: Duration,
}

impl Schedule {
    /// A target with this hash, seen first at `now`, which is `wall` in Unix nanoseconds.
    pub(super) fn new(hash: u64, interval: Duration, now: Instant, wall: i64) -> Self {
        let interval = interval.max(Duration::from_millis(1));
        let nanos = i128::try_from(interval.as_nanos()).unwrap_or(i128::MAX);
        let until_grid = (i128::from(hash) - i128::from(wall)).rem_euclid(nanos);
        let grid = now + Duration::from_nanos(u64::try_from(until_grid).unwrap_or(0));
        let spread = u64::try_from(FIRST_WITHIN.min(interval).as_nanos()).unwrap_or(u64::MAX);
        let due = grid.min(now + Duration::from_nanos(hash % spread));
        // Two scrapes close to each other say nothing new.
        let grid = if grid - due < interval / 2 { grid + interval } else { grid };
        Self { due, grid, interval }
    }

    /// When the next scrape shall begin.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Moves on after the scrape that was due, at `now`. A scrape whose time has come meanwhile is due at once, older
    /// ones are skipped; returns how many.
    pub(super) fn advance(&mut self, now: Instant) -> u64 {
        let behind = now.saturating_duration_since(self.grid);
        let skipped = behind.as_nanos() / self.interval.as_nanos();
        let skipped = u32::try_from(skipped).unwrap_or(u32::MAX);
        self.due = self.grid + self.interval * skipped;
        self.grid = self.due + self.interval;
        u64::from(skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn keeps_to_its_grid_whatever_a_scrape_takes() {
        let (now, wall) = (Instant::now(), 1_700_000_000_123_456_789);
        let mut schedule = Schedule::new(0xdead_beef_1234_5678, INTERVAL, now, wall);
        assert!(schedule.due() - now <= FIRST_WITHIN);
        schedule.advance(schedule.due());
        let first = schedule.due();
        for n in 1..1000 {
            let took = Duration::from_millis(n % 14_000);
            assert_eq!(schedule.advance(schedule.due() + took), 0);
            assert_eq!(schedule.due(), first + INTERVAL * u32::try_from(n).unwrap());
        }
        let restarted = Schedule::new(0xdead_beef_1234_5678, INTERVAL, now, wall + 4_000_000_000);
        let apart = (restarted.grid - (first - Duration::from_secs(4))).as_nanos();
        assert_eq!(apart % INTERVAL.as_nanos(), 0, "a restart finds the same grid");
    }

    #[tokio::test(start_paused = true)]
    async fn an_overrun_is_late_once_and_skips_the_rest() {
        let now = Instant::now();
        let mut schedule = Schedule::new(0, INTERVAL, now, 0);
        assert_eq!(schedule.due(), now);
        assert_eq!(schedule.advance(now + INTERVAL + Duration::from_secs(1)), 0);
        assert_eq!(schedule.due(), now + INTERVAL, "one second late");
        assert_eq!(schedule.advance(now + INTERVAL * 5), 3);
        assert_eq!(schedule.due(), now + INTERVAL * 5);
    }

    #[tokio::test(start_paused = true)]
    async fn targets_spread_over_the_interval() {
        let now = Instant::now();
        let mut thirds = [0; 3];
        for n in 0..300_u64 {
            let mut schedule =
                Schedule::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), INTERVAL, now, 0);
            schedule.advance(schedule.due());
            let third = (schedule.due() - now).as_millis() % 15_000 / 5_000;
            thirds[usize::try_from(third).unwrap()] += 1;
        }
        assert!(thirds.iter().all(|n| (70..130).contains(n)), "{thirds:?}");
    }
}
