//! Differences and sums of exponential histograms: first the finer one's buckets are merged in pairs until both have
//! one scale, and the narrower zero bucket takes in what the wider one covers.

use foldhash::HashMap;
use pipeline_model::{ExponentialBuckets, ExponentialPoint, Extras, RowId, STALE_NAN_BITS, Slot};

use crate::points::Points;

/// Buckets of one sign that a point may have: OpenTelemetry's default for SDKs.
pub(crate) const BUCKETS_MAX: i64 = 160;

/// The rows of a run, whose sum and count are slots and whose rest is beside them.
pub(crate) struct Exponentials<'a, const DELTA: bool> {
    /// Sum and count of each.
    pub(crate) input: &'a [Slot],
    pub(crate) base: &'a mut [Slot],
    pub(crate) output: &'a mut [Slot],
    /// The rest of the input.
    pub(crate) extras: Option<&'a Extras>,
    /// The first row of the input and of the output.
    pub(crate) row_in: RowId,
    pub(crate) row_out: RowId,
    /// What is remembered, by row of the output.
    pub(crate) bases: &'a mut HashMap<RowId, ExponentialPoint>,
    /// The rest of the output.
    pub(crate) given: &'a mut Vec<(RowId, ExponentialPoint)>,
}

const SUM: usize = 0;
const COUNT: usize = 1;

impl<const DELTA: bool> Exponentials<'_, DELTA> {
    fn point(&self, idx: usize) -> Option<&ExponentialPoint> {
        self.extras?.exponential(self.row_in + idx as RowId)
    }
}

impl<const DELTA: bool> Points for Exponentials<'_, DELTA> {
    fn follow(&mut self, idx: usize) -> bool {
        let row = self.row_out + idx as RowId;
        if !self.is_sound(idx) {
            return false;
        }
        let (Some(point), Some(base)) = (self.point(idx), self.bases.get(&row)) else {
            return false;
        };
        let point = fit(point.clone());
        let given = if DELTA { difference(&point, base) } else { sum(base, &point) };
        let at = |slots: &[Slot], slot: usize| slots[2 * idx + slot].as_double();
        let of = |slot| {
            let (value, base) = (at(self.input, slot), at(self.base, slot));
            if DELTA { value - base } else { base + value }
        };
        let count = of(COUNT);
        let (Some(given), true) = (given, (0.0..f64::INFINITY).contains(&count)) else {
            return false;
        };
        (self.output[2 * idx], self.output[2 * idx + 1]) =
            (Slot::double(of(SUM)), Slot::double(count));
        let remembered = if DELTA { self.input } else { &*self.output };
        self.base[2 * idx..2 * idx + 2].copy_from_slice(&remembered[2 * idx..2 * idx + 2]);
        self.bases.insert(row, if DELTA { point } else { given.clone() });
        self.given.push((row, given));
        true
    }

    fn is_sound(&self, idx: usize) -> bool {
        let count = self.input[2 * idx + COUNT].as_double();
        let is_count = |count: &f64| (0.0..f64::INFINITY).contains(count);
        is_count(&count)
            && self.point(idx).is_some_and(|point| {
                is_count(&point.zero_count)
                    && is_count(&point.zero_threshold)
                    && point.positive.counts.iter().chain(&point.negative.counts).all(is_count)
            })
    }

    fn begin(&mut self, idx: usize) -> bool {
        let row = self.row_out + idx as RowId;
        let Some(point) = self.point(idx).cloned().map(fit) else { return false };
        let own = 2 * idx..2 * idx + 2;
        self.base[own.clone()].copy_from_slice(&self.input[own.clone()]);
        self.output[own.clone()].copy_from_slice(&self.input[own]);
        let (min, max) = if DELTA { (None, None) } else { (point.min, point.max) };
        self.given.push((row, ExponentialPoint { min, max, ..point.clone() }));
        self.bases.insert(row, point);
        true
    }

    fn hold(&mut self, idx: usize) {
        if self.begin(idx) {
            self.given.pop();
        }
    }

    fn end(&mut self, idx: usize) {
        if !DELTA {
            self.bases.remove(&(self.row_out + idx as RowId));
        }
        self.output[2 * idx..2 * idx + 2].fill(Slot::double(f64::from_bits(STALE_NAN_BITS)));
    }
}

/// What was counted between `last` and `now`. `None` when a count fell: there was a reset.
pub(crate) fn difference(
    now: &ExponentialPoint,
    last: &ExponentialPoint,
) -> Option<ExponentialPoint> {
    let (mut now, mut last) = (now.clone(), last.clone());
    align(&mut now, &mut last);
    let zero_count = now.zero_count - last.zero_count;
    subtract(&mut now.positive, &last.positive)?;
    subtract(&mut now.negative, &last.negative)?;
    // The extremes are those since the start.
    (zero_count >= 0.0).then(|| fit(ExponentialPoint { zero_count, min: None, max: None, ..now }))
}

/// What both have counted. `None` when a count is beyond all numbers.
pub(crate) fn sum(total: &ExponentialPoint, delta: &ExponentialPoint) -> Option<ExponentialPoint> {
    let (mut total, mut delta) = (total.clone(), delta.clone());
    align(&mut total, &mut delta);
    let by = reduction(span_of(&total.positive, &delta.positive))
        .max(reduction(span_of(&total.negative, &delta.negative)));
    merge_down(&mut total, by);
    merge_down(&mut delta, by);
    add(&mut total.positive, &delta.positive);
    add(&mut total.negative, &delta.negative);
    total.zero_count += delta.zero_count;
    total.min = fold(total.min, delta.min, f64::min);
    total.max = fold(total.max, delta.max, f64::max);
    let mut counts = total.positive.counts.iter().chain(&total.negative.counts);
    (total.zero_count.is_finite() && counts.all(|count| count.is_finite())).then_some(total)
}

fn fold(a: Option<f64>, b: Option<f64>, by: fn(f64, f64) -> f64) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(by(a, b)),
        (a, b) => a.or(b),
    }
}

/// The point without empty buckets at its ends, and with few enough.
pub(crate) fn fit(mut point: ExponentialPoint) -> ExponentialPoint {
    trim(&mut point.positive);
    trim(&mut point.negative);
    let by = reduction(span(&point.positive)).max(reduction(span(&point.negative)));
    merge_down(&mut point, by);
    point
}

fn trim(buckets: &mut ExponentialBuckets) {
    let filled = buckets.counts.iter().rposition(|count| *count != 0.0).map_or(0, |idx| idx + 1);
    buckets.counts.truncate(filled);
    let empty = buckets.counts.iter().take_while(|count| **count == 0.0).count();
    buckets.counts.drain(..empty);
    buckets.offset = i32::try_from(i64::from(buckets.offset) + empty as i64).unwrap_or(i32::MAX);
    if buckets.counts.is_empty() {
        buckets.offset = 0;
    }
}

/// Index of the first and the last bucket.
fn span(buckets: &ExponentialBuckets) -> Option<(i64, i64)> {
    let first = i64::from(buckets.offset);
    (!buckets.counts.is_empty()).then(|| (first, first + buckets.counts.len() as i64 - 1))
}

fn span_of(a: &ExponentialBuckets, b: &ExponentialBuckets) -> Option<(i64, i64)> {
    match (span(a), span(b)) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

/// How many times pairs have to be merged until a span has few enough buckets.
fn reduction(span: Option<(i64, i64)>) -> u32 {
    let Some((first, last)) = span else { return 0 };
    // Indexes have some 33 bits: after as many merges one bucket of either sign of the index is left.
    (0..40).find(|by| (last >> by) - (first >> by) < BUCKETS_MAX).unwrap_or(40)
}

/// Merges pairs of buckets `by` times: bucket i goes to bucket i >> by.
fn merge_down(point: &mut ExponentialPoint, by: u32) {
    if by == 0 {
        return;
    }
    let shift = by.min(63);
    for buckets in [&mut point.positive, &mut point.negative] {
        let Some((first, last)) = span(buckets) else { continue };
        let offset = first >> shift;
        let mut counts = vec![0.0; usize::try_from((last >> shift) - offset + 1).unwrap_or(1)];
        for (idx, count) in (first..).zip(&buckets.counts) {
            if let Some(merged) =
                usize::try_from((idx >> shift) - offset).ok().and_then(|idx| counts.get_mut(idx))
            {
                *merged += count;
            }
        }
        *buckets = ExponentialBuckets { offset: i32::try_from(offset).unwrap_or(0), counts };
    }
    point.scale = i32::try_from(i64::from(point.scale) - i64::from(by)).unwrap_or(i32::MIN);
}

/// Gives both one scale and one zero bucket.
fn align(a: &mut ExponentialPoint, b: &mut ExponentialPoint) {
    let scale = a.scale.min(b.scale);
    for point in [&mut *a, &mut *b] {
        merge_down(point, point.scale.abs_diff(scale));
    }
    // A zero bucket ends where a bucket ends, so the second may move the first once more.
    widen_zero(a, b.zero_threshold);
    widen_zero(b, a.zero_threshold);
    widen_zero(a, b.zero_threshold);
}

/// Takes the buckets that begin below `threshold` into the zero bucket, which then ends where the last of them does.
fn widen_zero(point: &mut ExponentialPoint, threshold: f64) {
    if threshold <= point.zero_threshold {
        return;
    }
    let width = (-f64::from(point.scale)).exp2();
    let mut end = threshold;
    for buckets in [&mut point.positive, &mut point.negative] {
        let lower = |idx: usize| ((f64::from(buckets.offset) + idx as f64) * width).exp2();
        let covered = (0..buckets.counts.len()).take_while(|idx| lower(*idx) < threshold).count();
        let taken: f64 = buckets.counts[..covered].iter().sum();
        if taken > 0.0 {
            // The buckets of both signs end alike, so what one sign adds covers none of the other.
            end = end.max(lower(covered));
        }
        point.zero_count += taken;
        buckets.counts.drain(..covered);
        let offset = i64::from(buckets.offset) + covered as i64;
        buckets.offset = i32::try_from(offset).unwrap_or(i32::MAX);
    }
    point.zero_threshold = end;
}

/// Takes `last` from `now`, of the same scale. `None` when a count would fall below zero.
fn subtract(now: &mut ExponentialBuckets, last: &ExponentialBuckets) -> Option<()> {
    for (idx, count) in (i64::from(last.offset)..).zip(&last.counts) {
        if *count == 0.0 {
            continue;
        }
        let idx = usize::try_from(idx - i64::from(now.offset)).ok()?;
        let left = now.counts.get_mut(idx)?;
        *left -= count;
        if *left < 0.0 {
            return None;
        }
    }
    Some(())
}

/// Adds `delta` to `total`, of the same scale; the span of both is small.
fn add(total: &mut ExponentialBuckets, delta: &ExponentialBuckets) {
    let Some((first, last)) = span_of(total, delta) else { return };
    let mut counts = vec![0.0; usize::try_from(last - first + 1).unwrap_or(1)];
    for buckets in [&*total, delta] {
        let skip = usize::try_from(i64::from(buckets.offset) - first).unwrap_or(0);
        for (sum, count) in counts.iter_mut().skip(skip).zip(&buckets.counts) {
            *sum += count;
        }
    }
    *total = ExponentialBuckets { offset: i32::try_from(first).unwrap_or(0), counts };
}
