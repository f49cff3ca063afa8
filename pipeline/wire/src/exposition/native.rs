//! Exponential points as Prometheus' native histograms.
//!
//! Both count observations in buckets whose bounds are powers of 2^(2^-scale); Prometheus numbers a bucket by its upper
//! bound, OpenTelemetry by its lower one (hence one less), and Prometheus knows the scales -4 to 8 only. A finer scale is
//! merged down, a coarser one cannot be said.

use pipeline_model::{ExponentialBuckets, ExponentialPoint};

use crate::proto::client_model as proto;

/// Prometheus' finest schema.
const SCHEMA_MAX: i32 = 8;
/// Prometheus' coarsest schema.
const SCHEMA_MIN: i32 = -4;
/// Width of the zero bucket where the source says none. Source: Prometheus' OTLP translation.
const ZERO_THRESHOLD: f64 = 1e-128;

/// Fills the native part of `out`; leaves it alone when the scale is too coarse.
pub(super) fn fill(point: &ExponentialPoint, count: f64, out: &mut proto::Histogram) {
    if point.scale < SCHEMA_MIN {
        return;
    }
    let shift = (point.scale - SCHEMA_MAX).max(0);
    let (positive, negative) = (merged(&point.positive, shift), merged(&point.negative, shift));
    out.schema = Some(point.scale - shift);
    out.zero_threshold =
        Some(if point.zero_threshold > 0.0 { point.zero_threshold } else { ZERO_THRESHOLD });
    let whole = [count, point.zero_count]
        .iter()
        .chain(&positive.counts)
        .chain(&negative.counts)
        .all(|n| is_whole(*n));
    let (positive_spans, positive) = spans(&positive);
    let (negative_spans, negative) = spans(&negative);
    (out.positive_span, out.negative_span) = (positive_spans, negative_spans);
    if whole {
        out.zero_count = Some(point.zero_count as u64);
        (out.positive_delta, out.negative_delta) = (deltas(&positive), deltas(&negative));
    } else {
        (out.sample_count, out.sample_count_float) = (None, Some(count));
        out.zero_count_float = Some(point.zero_count);
        (out.positive_count, out.negative_count) = (positive, negative);
    }
    if out.positive_span.is_empty() && out.negative_span.is_empty() {
        // An empty span is how a native histogram without observations tells itself from a classic one.
        out.positive_span.push(proto::BucketSpan { offset: Some(0), length: Some(0) });
    }
}

/// True for what an integer field can hold.
pub(super) fn is_whole(count: f64) -> bool {
    (0.0..9_007_199_254_740_992.0).contains(&count) && count.fract() == 0.0
}

/// Buckets of a scale that is lower by `shift`.
fn merged(buckets: &ExponentialBuckets, shift: i32) -> ExponentialBuckets {
    if shift == 0 || buckets.counts.is_empty() {
        return buckets.clone();
    }
    let shift = shift.min(31);
    let offset = buckets.offset >> shift;
    let mut counts: Vec<f64> = Vec::new();
    for (idx, count) in (i64::from(buckets.offset)..).zip(&buckets.counts) {
        let to = usize::try_from((idx >> shift) - i64::from(offset)).unwrap_or(0);
        if counts.len() <= to {
            counts.resize(to + 1, 0.0);
        }
        counts[to] += count;
    }
    ExponentialBuckets { offset, counts }
}

/// Runs of buckets that are not empty. A span's offset counts from the end of the one before, the first from zero.
fn spans(buckets: &ExponentialBuckets) -> (Vec<proto::BucketSpan>, Vec<f64>) {
    let (mut spans, mut counts): (Vec<proto::BucketSpan>, Vec<f64>) = Default::default();
    // Prometheus' index is one higher.
    let mut next = 0;
    for (idx, count) in (buckets.offset.saturating_add(1)..)
        .zip(&buckets.counts)
        .filter(|(_, count)| **count != 0.0)
    {
        match spans.last_mut() {
            Some(span) if idx == next => span.length = span.length.map(|length| length + 1),
            _ => spans.push(proto::BucketSpan {
                offset: Some(idx.saturating_sub(next)),
                length: Some(1),
            }),
        }
        next = idx.saturating_add(1);
        counts.push(*count);
    }
    (spans, counts)
}

fn deltas(counts: &[f64]) -> Vec<i64> {
    let before = std::iter::once(&0.0).chain(counts);
    counts.iter().zip(before).map(|(count, before)| *count as i64 - *before as i64).collect()
}
