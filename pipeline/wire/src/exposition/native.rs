//! Native histograms in the protobuf format.

use pipeline_model::ExponentialPoint;

pub(super) use crate::prometheus::native::is_whole;
use crate::prometheus::native::{Native, Side};
use crate::proto::client_model as proto;

/// Fills the native part of `out`; leaves it alone when the scale is too coarse.
pub(super) fn fill(point: &ExponentialPoint, count: f64, out: &mut proto::Histogram) {
    let mut native = Native::default();
    if !native.set(point, count) {
        return;
    }
    out.schema = Some(native.schema);
    out.zero_threshold = Some(native.zero_threshold);
    (out.positive_span, out.negative_span) = (spans(&native.positive), spans(&native.negative));
    if native.whole {
        out.zero_count = Some(native.zero_count as u64);
        out.positive_delta = native.positive.deltas().collect();
        out.negative_delta = native.negative.deltas().collect();
    } else {
        (out.sample_count, out.sample_count_float) = (None, Some(count));
        out.zero_count_float = Some(native.zero_count);
        (out.positive_count, out.negative_count) = (native.positive.counts, native.negative.counts);
    }
}

fn spans(side: &Side) -> Vec<proto::BucketSpan> {
    side.spans
        .iter()
        .map(|(offset, length)| proto::BucketSpan { offset: Some(*offset), length: Some(*length) })
        .collect()
}
