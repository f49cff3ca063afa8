//! The load on an engine over simulated time: a smooth rise and fall of the arrival rate.

use std::time::Duration;

use crate::random::Random;

/// Arrival rate of requests: starts at `low` when the fleet starts, reaches `high` half a period later, and so on.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Requests a second at the quietest moment, 0 or more.
    pub low: f64,
    /// Requests a second at the busiest moment, at least `low`.
    pub high: f64,
    /// Time from one quietest moment to the next; zero keeps the rate at `high`.
    pub period: Duration,
}

impl Load {
    /// A rate that never changes.
    pub fn steady(rate: f64) -> Self {
        Load { low: rate, high: rate, period: Duration::ZERO }
    }

    /// Requests a second at `time` seconds after the fleet's start.
    pub fn rate(&self, time: f64) -> f64 {
        let period = self.period.as_secs_f64();
        if period <= 0.0 {
            return self.high;
        }
        let phase = std::f64::consts::TAU * time / period;
        self.low + (self.high - self.low) * 0.5 * (1.0 - phase.cos())
    }

    /// The arrival after `time`, both in seconds, of the `share`th part of this load: a Poisson process of the highest
    /// rate, thinned to the rate of the moment.
    pub(crate) fn next_arrival(&self, time: f64, share: f64, random: &mut Random) -> f64 {
        let high = self.high.max(self.low);
        if high * share <= 0.0 {
            return f64::INFINITY;
        }
        let mut next = time;
        loop {
            next += random.exponential(high * share);
            if random.chance(self.rate(next) / high) {
                return next;
            }
        }
    }
}
