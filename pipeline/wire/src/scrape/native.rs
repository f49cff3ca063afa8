//! Native histograms: spans and deltas of the protobuf exposition to dense buckets.

use pipeline_model::{ExponentialBuckets, ExponentialPoint};

use crate::proto::client_model::{BucketSpan, Histogram};

/// Buckets from the first to the last of one sign, gaps included: 256 doublings at the finest resolution. What is
/// wider is a handful of bytes that would take megabytes.
const WIDTH_MAX: usize = 65_536;

/// Resolutions of exponential native histograms. Source: Prometheus' native histogram specification.
const SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;

/// Why there is no point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NativeFault {
    /// Valid, but nothing that the model can hold: custom bounds, absurdly sparse buckets.
    Unsupported,
    /// Spans and counts contradict each other.
    Malformed(&'static str),
}

/// True for a histogram with native buckets; one may have classic ones as well.
/// Source: Prometheus, model/textparse: no span, no zero bucket, no width means classic only.
pub(crate) fn is_native(histogram: &Histogram) -> bool {
    !histogram.positive_span.is_empty()
        || !histogram.negative_span.is_empty()
        || histogram.zero_threshold.unwrap_or(0.0) > 0.0
        || histogram.zero_count.unwrap_or(0) > 0
        || histogram.zero_count_float.unwrap_or(0.0) > 0.0
}

/// Number of buckets of both signs, gaps not counted.
pub(crate) fn bucket_count(histogram: &Histogram) -> usize {
    let sign = |deltas: &[i64], counts: &[f64]| deltas.len().max(counts.len());
    sign(&histogram.positive_delta, &histogram.positive_count)
        + sign(&histogram.negative_delta, &histogram.negative_count)
}

/// The ragged part of a native histogram.
pub(crate) fn point(histogram: &Histogram) -> Result<ExponentialPoint, NativeFault> {
    let scale = histogram.schema.unwrap_or(0);
    if !SCHEMAS.contains(&scale) {
        return Err(NativeFault::Unsupported);
    }
    Ok(ExponentialPoint {
        scale,
        zero_count: float_or(histogram.zero_count_float, histogram.zero_count),
        zero_threshold: histogram.zero_threshold.unwrap_or(0.0),
        positive: buckets(
            &histogram.positive_span,
            &histogram.positive_delta,
            &histogram.positive_count,
        )?,
        negative: buckets(
            &histogram.negative_span,
            &histogram.negative_delta,
            &histogram.negative_count,
        )?,
        min: None,
        max: None,
    })
}

/// A count: the float where it is above 0, else the integer.
pub(crate) fn float_or(float: Option<f64>, int: Option<u64>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts are doubles in the model")]
    float.filter(|count| *count > 0.0).unwrap_or(int.unwrap_or(0) as f64)
}

fn buckets(
    spans: &[BucketSpan],
    deltas: &[i64],
    counts: &[f64],
) -> Result<ExponentialBuckets, NativeFault> {
    let mut total = 0_i64;
    #[expect(clippy::cast_precision_loss, reason = "counts are doubles in the model")]
    let running = deltas.iter().map(|delta| {
        total = total.wrapping_add(*delta);
        total as f64
    });
    let values: Vec<f64> = if counts.is_empty() { running.collect() } else { counts.to_vec() };
    let mut values = values.into_iter();
    let mut out = ExponentialBuckets::default();
    for (idx, span) in spans.iter().enumerate() {
        let offset = span.offset.unwrap_or(0);
        let length = span.length.unwrap_or(0) as usize;
        if idx == 0 {
            // Prometheus numbers a bucket by its upper end, OpenTelemetry by its lower.
            out.offset = offset.checked_sub(1).ok_or(NativeFault::Unsupported)?;
        } else {
            let gap = usize::try_from(offset)
                .map_err(|_| NativeFault::Malformed("spans of buckets overlap"))?;
            if out.counts.len().saturating_add(gap) > WIDTH_MAX {
                return Err(NativeFault::Unsupported);
            }
            out.counts.resize(out.counts.len() + gap, 0.0);
        }
        if out.counts.len().saturating_add(length) > WIDTH_MAX {
            return Err(NativeFault::Unsupported);
        }
        let before = out.counts.len();
        out.counts.extend(values.by_ref().take(length));
        if out.counts.len() - before != length {
            return Err(NativeFault::Malformed("fewer bucket counts than spans tell"));
        }
    }
    match values.next() {
        Some(_) => Err(NativeFault::Malformed("more bucket counts than spans tell")),
        None => Ok(out),
    }
}
