//! The loops over columns: [`convert`] goes through the rows of a run, and [`Points`] is what a kind of points does
//! with one of them.

use std::marker::PhantomData;

use pipeline_model::{Mark, STALE_NAN_BITS, Slot};

use crate::counts::{Reason, Tally};
use crate::rule::{NONE, Rare, Rule};

/// The points of a run, with what is remembered of each: to delta the last value, to cumulative the count so far.
pub(crate) trait Points {
    /// Puts out what follows from point `idx`, and remembers it. False, and nothing remembered, when it does not follow.
    fn follow(&mut self, idx: usize) -> bool;

    /// True when point `idx` says anything.
    fn is_sound(&self, idx: usize) -> bool;

    /// Remembers point `idx` and puts it out as it is. False when it cannot be put out.
    fn begin(&mut self, idx: usize) -> bool;

    /// Remembers point `idx` and puts nothing out.
    fn hold(&mut self, idx: usize) {
        // What the output has is not looked at.
        self.begin(idx);
    }

    /// Says that the series has ended.
    fn end(&mut self, idx: usize);
}

/// What the rows of a run have beside their points.
pub(crate) struct Rows<'a> {
    /// Of the batch.
    pub(crate) time: i64,
    /// Of the points, where they have their own; 0 = the batch's.
    pub(crate) own_times: Option<&'a [i64]>,
    pub(crate) starts_in: Option<&'a [i64]>,
    pub(crate) starts_out: &'a mut [i64],
    /// As they came; what does not go out becomes absent.
    pub(crate) marks: &'a mut [Mark],
    /// Time of the last point.
    pub(crate) last: &'a mut [i64],
    /// To cumulative: when the count began.
    pub(crate) since: &'a mut [i64],
    /// True when a row does not go out that came.
    pub(crate) held_back: bool,
}

/// Converts the points of a run.
#[inline]
pub(crate) fn convert<const DELTA: bool, P: Points>(
    points: &mut P,
    rows: &mut Rows<'_>,
    rule: &Rule,
    tally: &mut Tally,
) {
    let len = rows.last.len();
    let (marks, last, since) = (&mut rows.marks[..len], &mut rows.last[..], &mut rows.since[..len]);
    let starts_out = &mut rows.starts_out[..len];
    for idx in 0..len {
        match marks[idx] {
            Mark::Present => {}
            Mark::Absent => {
                starts_out[idx] = if DELTA { 0 } else { since[idx] };
                continue;
            }
            Mark::Stale => {
                points.end(idx);
                starts_out[idx] = if DELTA { 0 } else { since[idx] };
                // One failed scrape ends all series of a target; most are back with the next one, and what they counted
                // meanwhile is not lost. A counter that restarted is told by its value or start. A total that was made
                // here has ended.
                if !DELTA {
                    (last[idx], since[idx]) = (NONE, 0);
                }
                continue;
            }
        }
        let own = rows.own_times.map_or(0, |times| times[idx]);
        let time = if own == 0 { rows.time } else { own };
        let start = rows.starts_in.map_or(0, |starts| starts[idx]);
        let before = last[idx];
        let rare =
            if DELTA { rule.delta(before, time, start) } else { rule.sum(before, time, start) };
        if rare.is_none() && points.follow(idx) {
            starts_out[idx] = if DELTA { before } else { since[idx] };
            last[idx] = time;
            continue;
        }
        let rare = match rare {
            _ if !points.is_sound(idx) => Rare::Drop(Reason::Invalid),
            Some(rare) => rare,
            None => Rule::anew::<DELTA>(before, time, start),
        };
        if before != NONE && matches!(rare, Rare::Begin(_) | Rare::Hold(Reason::First)) {
            tally.resets += 1;
        }
        let why = match rare {
            Rare::Begin(start) => {
                last[idx] = time;
                if points.begin(idx) {
                    (starts_out[idx], since[idx]) = (start, start);
                    continue;
                }
                Reason::Invalid
            }
            Rare::Hold(reason) => {
                last[idx] = time;
                points.hold(idx);
                reason
            }
            Rare::Drop(reason) => reason,
        };
        starts_out[idx] = if DELTA { 0 } else { since[idx] };
        marks[idx] = Mark::Absent;
        rows.held_back = true;
        tally.drop(why);
    }
}

/// A number as slots have it.
pub(crate) trait Number: Copy {
    fn of(slot: Slot) -> Self;
    fn slot(self) -> Slot;
    /// The difference to `last`, if the count goes on.
    fn since(self, last: Self, monotonic: bool) -> Option<Self>;
    /// `delta` added, if the sum can be said.
    fn plus(self, delta: Self, monotonic: bool) -> Option<Self>;
    fn is_finite(self) -> bool;
    fn is_negative(self) -> bool;
}

impl Number for f64 {
    #[inline]
    fn of(slot: Slot) -> Self {
        slot.as_double()
    }

    #[inline]
    fn slot(self) -> Slot {
        Slot::double(self)
    }

    #[inline]
    fn since(self, last: Self, monotonic: bool) -> Option<Self> {
        let delta = self - last;
        (f64::is_finite(delta) && (delta >= 0.0 || !monotonic)).then_some(delta)
    }

    #[inline]
    fn plus(self, delta: Self, monotonic: bool) -> Option<Self> {
        let sum = self + delta;
        (f64::is_finite(sum) && (delta >= 0.0 || !monotonic)).then_some(sum)
    }

    fn is_finite(self) -> bool {
        f64::is_finite(self)
    }

    fn is_negative(self) -> bool {
        self < 0.0
    }
}

impl Number for i64 {
    #[inline]
    fn of(slot: Slot) -> Self {
        slot.as_int()
    }

    #[inline]
    fn slot(self) -> Slot {
        Slot::int(self)
    }

    #[inline]
    fn since(self, last: Self, monotonic: bool) -> Option<Self> {
        if monotonic {
            // A counter that ran over the top has counted what the difference modulo 2^64 says.
            let delta = self.wrapping_sub(last);
            return (delta >= 0).then_some(delta);
        }
        self.checked_sub(last)
    }

    #[inline]
    fn plus(self, delta: Self, monotonic: bool) -> Option<Self> {
        self.checked_add(delta).filter(|_| delta >= 0 || !monotonic)
    }

    fn is_finite(self) -> bool {
        true
    }

    fn is_negative(self) -> bool {
        self < 0
    }
}

/// Sums.
pub(crate) struct Numbers<'a, const DELTA: bool, T> {
    input: &'a [Slot],
    base: &'a mut [Slot],
    output: &'a mut [Slot],
    monotonic: bool,
    number: PhantomData<T>,
}

impl<'a, const DELTA: bool, T> Numbers<'a, DELTA, T> {
    /// One slot per row each; all slices have one length.
    pub(crate) fn new(
        input: &'a [Slot],
        base: &'a mut [Slot],
        output: &'a mut [Slot],
        monotonic: bool,
    ) -> Self {
        Self { input, base, output, monotonic, number: PhantomData }
    }
}

impl<const DELTA: bool, T: Number> Points for Numbers<'_, DELTA, T> {
    #[inline]
    fn follow(&mut self, idx: usize) -> bool {
        let (value, base) = (T::of(self.input[idx]), T::of(self.base[idx]));
        let given = if DELTA {
            value.since(base, self.monotonic)
        } else {
            base.plus(value, self.monotonic)
        };
        let Some(given) = given else { return false };
        self.output[idx] = given.slot();
        self.base[idx] = if DELTA { value.slot() } else { given.slot() };
        true
    }

    fn is_sound(&self, idx: usize) -> bool {
        let value = T::of(self.input[idx]);
        // A negative integer may be one that ran over the top.
        value.is_finite() && (DELTA || !self.monotonic || !value.is_negative())
    }

    fn begin(&mut self, idx: usize) -> bool {
        let value = self.input[idx];
        (self.base[idx], self.output[idx]) = (value, value);
        !(self.monotonic && T::of(value).is_negative())
    }

    fn end(&mut self, idx: usize) {
        self.output[idx] = Slot::double(f64::from_bits(STALE_NAN_BITS));
    }
}

/// Histograms with explicit bounds: sum, count, \[min, max,\] cumulative counts.
pub(crate) struct Histograms<'a, const DELTA: bool> {
    pub(crate) input: &'a [Slot],
    pub(crate) base: &'a mut [Slot],
    pub(crate) output: &'a mut [Slot],
    /// Slots of a point of the input and of the output.
    pub(crate) width_in: usize,
    pub(crate) width_out: usize,
    /// The slot of its first bucket in the input and in the output.
    pub(crate) bucket_in: usize,
    pub(crate) bucket_out: usize,
}

const SUM: usize = 0;
const COUNT: usize = 1;
const MIN: usize = 2;
const MAX: usize = 3;

impl<const DELTA: bool> Histograms<'_, DELTA> {
    fn point(&self, idx: usize) -> &[Slot] {
        &self.input[idx * self.width_in..(idx + 1) * self.width_in]
    }
}

/// Counts that are finite, not negative, and rise with their bounds up to the count of all.
#[inline]
fn is_histogram(count: f64, buckets: impl Iterator<Item = f64>) -> bool {
    let (mut below, mut rises) = (0.0, true);
    for bucket in buckets {
        rises &= bucket >= below;
        below = bucket;
    }
    rises && count >= below && count < f64::INFINITY
}

impl<const DELTA: bool> Points for Histograms<'_, DELTA> {
    #[inline]
    fn follow(&mut self, idx: usize) -> bool {
        let input = &self.input[idx * self.width_in..(idx + 1) * self.width_in];
        let own = idx * self.width_out..(idx + 1) * self.width_out;
        let (base, output) = (&mut self.base[own.clone()], &mut self.output[own]);
        let count = difference_or_sum::<DELTA>(input[COUNT], base[COUNT]);
        let (mut below, mut rises) = (0.0, true);
        let buckets = input[self.bucket_in..].iter().zip(&base[self.bucket_out..]);
        for ((value, base), output) in buckets.zip(&mut output[self.bucket_out..]) {
            let given = difference_or_sum::<DELTA>(*value, *base);
            // Of a sum the deltas have to rise: that the total does is not enough.
            let seen = if DELTA { given } else { value.as_double() };
            rises &= seen >= below;
            below = seen;
            *output = Slot::double(given);
        }
        let seen = if DELTA { count } else { input[COUNT].as_double() };
        if !rises || seen < below || !(0.0..f64::INFINITY).contains(&count) || seen.is_nan() {
            return false;
        }
        output[SUM] = Slot::double(difference_or_sum::<DELTA>(input[SUM], base[SUM]));
        output[COUNT] = Slot::double(count);
        if DELTA {
            (base[SUM], base[COUNT]) = (input[SUM], input[COUNT]);
            base[self.bucket_out..].copy_from_slice(&input[self.bucket_in..]);
        } else {
            if self.bucket_out > MAX {
                let (min, max) = (input[MIN].as_double(), input[MAX].as_double());
                output[MIN] = Slot::double(base[MIN].as_double().min(min));
                output[MAX] = Slot::double(base[MAX].as_double().max(max));
            }
            base.copy_from_slice(output);
        }
        true
    }

    fn is_sound(&self, idx: usize) -> bool {
        let point = self.point(idx);
        let buckets = point[self.bucket_in..].iter().map(|slot| slot.as_double());
        is_histogram(point[COUNT].as_double(), buckets)
    }

    fn begin(&mut self, idx: usize) -> bool {
        let input = &self.input[idx * self.width_in..(idx + 1) * self.width_in];
        let own = idx * self.width_out..(idx + 1) * self.width_out;
        let (base, output) = (&mut self.base[own.clone()], &mut self.output[own]);
        let head = self.bucket_out.min(self.bucket_in);
        output[..head].copy_from_slice(&input[..head]);
        output[self.bucket_out..].copy_from_slice(&input[self.bucket_in..]);
        base.copy_from_slice(output);
        true
    }

    fn end(&mut self, idx: usize) {
        let own = idx * self.width_out..(idx + 1) * self.width_out;
        self.output[own].fill(Slot::double(f64::from_bits(STALE_NAN_BITS)));
    }
}

#[inline]
fn difference_or_sum<const DELTA: bool>(value: Slot, base: Slot) -> f64 {
    if DELTA { value.as_double() - base.as_double() } else { base.as_double() + value.as_double() }
}
