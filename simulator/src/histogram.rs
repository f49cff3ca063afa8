//! A record of observations at the union of all engines' bounds.

use crate::buckets::{COUNTS, SECONDS, SPEEDS};

/// What kind of quantity a histogram holds; decides its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Times in seconds.
    Seconds,
    /// Numbers of things.
    Count,
    /// Tokens per second.
    Speed,
}

/// Observations of one quantity. Cumulative counts are exact at every bound that some release uses for this unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Histogram {
    /// Without observations.
    pub fn new(unit: Unit) -> Self {
        let bounds: &'static [f64] = match unit {
            Unit::Seconds => &SECONDS,
            Unit::Count => &COUNTS,
            Unit::Speed => &SPEEDS,
        };
        Histogram { bounds, counts: vec![0; bounds.len() + 1], count: 0, sum: 0.0 }
    }

    pub(crate) fn observe(&mut self, value: f64) {
        self.observe_times(value, 1);
    }

    pub(crate) fn observe_times(&mut self, value: f64, times: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket] += times;
        self.count += times;
        self.sum += value * times as f64;
    }

    pub(crate) fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of the observed values.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// The bounds at which [`Histogram::cumulative`] is exact, rising.
    pub fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// Observations at or below `bound`; exact where `bound` is one of the engines' bounds, else that of the next
    /// lower one.
    pub fn cumulative(&self, bound: f64) -> u64 {
        let within = self.bounds.partition_point(|own| *own <= bound);
        self.counts.iter().take(within).sum()
    }
}
