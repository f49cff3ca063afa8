//! Exponential points as Prometheus' native histograms.
//!
//! Both count observations in buckets whose bounds are powers of 2^(2^-scale); Prometheus numbers a bucket by its upper
//! bound, OpenTelemetry by its lower one (hence one less), and Prometheus knows the scales -4 to 8 only. A finer scale is
//! merged down, a coarser one cannot be said.

use pipeline_model::{ExponentialBuckets, ExponentialPoint};

/// Prometheus' finest schema.
const SCHEMA_MAX: i32 = 8;
/// Prometheus' coarsest schema.
const SCHEMA_MIN: i32 = -4;
/// Width of the zero bucket where the source says none. Source: Prometheus' OTLP translation.
const ZERO_THRESHOLD: f64 = 1e-128;

/// A native histogram without its sum. Used again and again: its columns keep their room.
#[derive(Debug, Default)]
pub(crate) struct Native {
    /// Resolution, -4 to 8.
    pub(crate) schema: i32,
    pub(crate) zero_threshold: f64,
    pub(crate) zero_count: f64,
    /// All observations.
    pub(crate) count: f64,
    /// True when all counts are whole, so that they can be said as integers and deltas.
    pub(crate) whole: bool,
    pub(crate) positive: Side,
    pub(crate) negative: Side,
}

/// The buckets of one sign: runs of those that are not empty.
#[derive(Debug, Default)]
pub(crate) struct Side {
    /// How far a run begins behind the end of the one before (the first: behind bucket zero), and its length.
    pub(crate) spans: Vec<(i32, u32)>,
    /// Observations per bucket.
    pub(crate) counts: Vec<f64>,
}

impl Native {
    /// Becomes `point`, which has `count` observations. False, and nothing of use here, when its scale is too coarse.
    pub(crate) fn set(&mut self, point: &ExponentialPoint, count: f64) -> bool {
        if point.scale < SCHEMA_MIN {
            return false;
        }
        let shift = (point.scale - SCHEMA_MAX).max(0);
        self.schema = point.scale - shift;
        self.zero_threshold =
            if point.zero_threshold > 0.0 { point.zero_threshold } else { ZERO_THRESHOLD };
        (self.zero_count, self.count) = (point.zero_count, count);
        self.positive.set(&point.positive, shift);
        self.negative.set(&point.negative, shift);
        self.whole = [count, point.zero_count]
            .iter()
            .chain(&self.positive.counts)
            .chain(&self.negative.counts)
            .all(|n| is_whole(*n));
        if self.positive.spans.is_empty() && self.negative.spans.is_empty() {
            // An empty span is how a native histogram without observations tells itself from a classic one.
            self.positive.spans.push((0, 0));
        }
        true
    }
}

impl Side {
    /// Becomes `buckets` at a scale that is lower by `shift`.
    fn set(&mut self, buckets: &ExponentialBuckets, shift: i32) {
        self.spans.clear();
        self.counts.clear();
        let shift = shift.min(31);
        // Where the run before ends, as Prometheus counts.
        let mut next = 0;
        let mut last: Option<i32> = None;
        for (idx, count) in
            (i64::from(buckets.offset)..).zip(&buckets.counts).filter(|(_, count)| **count != 0.0)
        {
            // Prometheus' index is one higher.
            let idx = i32::try_from((idx >> shift).saturating_add(1)).unwrap_or(i32::MAX);
            if last == Some(idx) {
                if let Some(sum) = self.counts.last_mut() {
                    *sum += count;
                }
                continue;
            }
            match self.spans.last_mut() {
                Some((_, length)) if idx == next => *length += 1,
                _ => self.spans.push((idx.saturating_sub(next), 1)),
            }
            (last, next) = (Some(idx), idx.saturating_add(1));
            self.counts.push(*count);
        }
    }

    /// Each count less the one before, as integer histograms say them.
    pub(crate) fn deltas(&self) -> impl Iterator<Item = i64> {
        let before = std::iter::once(&0.0).chain(&self.counts);
        self.counts.iter().zip(before).map(|(count, before)| *count as i64 - *before as i64)
    }
}

/// True for what an integer field can hold.
pub(crate) fn is_whole(count: f64) -> bool {
    (0.0..9_007_199_254_740_992.0).contains(&count) && count.fract() == 0.0
}
