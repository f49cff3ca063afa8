//! Points of one batch, in bytes.

use std::ops::Range;

use pipeline_model::{Batch, Bounds, Exemplar, ExponentialBuckets, Extras, Mark, RowId, Slot};

use super::attributes::pair;
use super::back::{Back, put_fixed, put_varint, varint_len, zigzag};
use super::form::Points;
use super::memo::{Group, Row, Run, TableMemo};
use super::{LeftOut, Limits, Options};

/// `DataPointFlags.NO_RECORDED_VALUE_MASK`.
const NO_RECORDED_VALUE: u64 = 1;

/// A batch that is being written, and what was written of it.
pub(super) struct Moment<'a> {
    batch: &'a Batch,
    rows: Range<RowId>,
    options: &'a Options,
    values: &'a [Slot],
    marks: Option<&'a [Mark]>,
    starts: Option<&'a [i64]>,
    extras: Option<&'a Extras>,
    pub(super) points: usize,
    pub(super) left_out: LeftOut,
}

/// One point less its numbers.
struct Point<'a> {
    row: RowId,
    /// Attributes of its group, then its own.
    attributes: [&'a [u8]; 2],
    start: u64,
    time: u64,
    stale: bool,
    slots: &'a [Slot],
}

impl<'a> Moment<'a> {
    pub(super) fn new(batch: &'a Batch, rows: Range<RowId>, options: &'a Options) -> Self {
        Self {
            batch,
            rows,
            options,
            values: &batch.values,
            marks: batch.marks.as_ref().map(|marks| marks.as_slice()),
            starts: batch.starts.as_ref().map(|starts| starts.as_slice()),
            extras: batch.extras.as_deref(),
            points: 0,
            left_out: LeftOut::default(),
        }
    }

    /// Writes a group as `ScopeMetrics` within its resource. False when there is nothing to write.
    pub(super) fn group(
        &mut self,
        back: &mut Back,
        table: &TableMemo,
        group: &Group,
        group_idx: u32,
    ) -> bool {
        let runs =
            table.groups.get(group_idx as usize).and_then(|runs| table.runs.get(runs.clone()));
        let mark = back.len();
        for run in runs.unwrap_or_default().iter().rev() {
            self.run(back, table, group, run);
        }
        if back.len() == mark {
            return false;
        }
        back.bytes(&group.scope);
        back.close(0x12, mark);
        true
    }

    /// Writes a metric, if it has points.
    fn run(&mut self, back: &mut Back, table: &TableMemo, group: &Group, run: &Run) {
        let rows = table.rows.get(run.rows.clone()).unwrap_or_default();
        if let Points::LeftOut = run.form.points {
            let present = |row: &&Row| {
                self.rows.contains(&row.row) && self.batch.mark(row.row) == Mark::Present
            };
            self.left_out.up_down_deltas += rows.iter().filter(present).count();
            return;
        }
        let metric = back.len();
        back.bytes(&run.form.after);
        let data = back.len();
        let shared = &*group.attributes[run.form.attributes as usize];
        for row in rows.iter().rev() {
            let Some(point) = self.point(table, shared, row, run) else { continue };
            match &run.form.points {
                Points::Number { int } => self.number(back, &point, *int),
                Points::Histogram { finite, bounds, min_max } => {
                    self.histogram(back, &point, *finite, bounds, *min_max);
                }
                Points::Exponential => self.exponential(back, &point),
                Points::Summary { quantiles } => self.summary(back, &point, quantiles),
                Points::LeftOut => {}
            }
        }
        if back.len() == data {
            back.drop_to(metric);
            return;
        }
        back.close(run.form.tag, metric);
        back.bytes(&run.form.head);
        back.close(0x12, metric);
    }

    /// The point of a row; `None`: there is nothing to say about it.
    #[inline]
    fn point<'b>(
        &mut self,
        table: &'b TableMemo,
        shared: &'b [u8],
        row: &Row,
        run: &Run,
    ) -> Option<Point<'b>>
    where
        'a: 'b,
    {
        if !self.rows.contains(&row.row) {
            return None;
        }
        let at = row.row as usize;
        let stale =
            match self.marks.map_or(Mark::Present, |m| m.get(at).copied().unwrap_or_default()) {
                Mark::Present => false,
                Mark::Absent => return None,
                Mark::Stale if self.options.ends => true,
                Mark::Stale => {
                    self.left_out.ends += 1;
                    return None;
                }
            };
        let slots = self.values.get(row.slot as usize..).unwrap_or_default();
        if let Points::Number { int: false } = run.form.points
            && self.options.only_finite
            && !stale
            && !slots.first().is_some_and(|slot| slot.as_double().is_finite())
        {
            self.left_out.not_finite += 1;
            return None;
        }
        self.points += 1;
        let own = table.attributes.get(row.at as usize..row.at as usize + row.len as usize);
        let start = self.starts.and_then(|starts| starts.get(at)).copied().unwrap_or(0);
        let time =
            if self.extras.is_some() { self.batch.time_of(row.row) } else { self.batch.time };
        Some(Point {
            row: row.row,
            attributes: [shared, own.unwrap_or_default()],
            start: start.max(0).cast_unsigned(),
            time: time.max(0).cast_unsigned(),
            stale,
            slots,
        })
    }

    fn number(&self, back: &mut Back, point: &Point<'_>, int: bool) {
        if self.extras.is_some() || point.stale {
            let mark = back.len();
            self.exemplars(back, 0x2a, point.row);
            if point.stale {
                back.varint_field(0x40, NO_RECORDED_VALUE);
            } else {
                back.fixed_field(if int { 0x31 } else { 0x21 }, bits(point.slots, 0));
            }
            point.identity(back);
            return back.close(0x0a, mark);
        }
        // The usual case as one piece: length, start, time, value, attributes.
        let [shared, own] = point.attributes;
        let known = 9 * usize::from(point.start != 0);
        let body = known + 18 + shared.len() + own.len();
        let prefix = 1 + varint_len(body as u64);
        let (head, body) = back.take(prefix + body).split_at_mut(prefix);
        head[0] = 0x0a;
        put_varint(&mut head[1..], body.len() as u64);
        let (start, body) = body.split_at_mut(known);
        if known > 0 {
            put_fixed(start, 0x11, point.start);
        }
        let (numbers, attributes) = body.split_at_mut(18);
        put_fixed(&mut numbers[..9], 0x19, point.time);
        put_fixed(&mut numbers[9..], if int { 0x31 } else { 0x21 }, bits(point.slots, 0));
        let (first, second) = attributes.split_at_mut(shared.len());
        first.copy_from_slice(shared);
        second.copy_from_slice(own);
    }

    fn histogram(
        &self,
        back: &mut Back,
        point: &Point<'_>,
        finite: usize,
        bounds: &[u8],
        min_max: bool,
    ) {
        let mark = back.len();
        self.exemplars(back, 0x42, point.row);
        if point.stale {
            back.varint_field(0x50, NO_RECORDED_VALUE);
        } else {
            if min_max {
                optional(back, 0x61, double(point.slots, 3), false);
                optional(back, 0x59, double(point.slots, 2), false);
            }
            back.bytes(bounds);
            let count = whole(double(point.slots, 1));
            let first = if min_max { 4 } else { 2 };
            let cumulative = point.slots.get(first..first + finite).unwrap_or_default();
            let packed = back.len();
            let out = back.take(8 * (cumulative.len() + 1));
            let mut below = 0;
            let upper = cumulative.iter().map(|slot| whole(slot.as_double())).chain([count]);
            for (bucket, upper) in out.chunks_exact_mut(8).zip(upper) {
                bucket.copy_from_slice(&upper.saturating_sub(below).to_le_bytes());
                below = upper;
            }
            back.close(0x32, packed);
            optional(back, 0x29, double(point.slots, 0), self.options.only_finite);
            back.fixed_field(0x21, count);
        }
        point.identity(back);
        back.close(0x0a, mark);
    }

    fn exponential(&self, back: &mut Back, point: &Point<'_>) {
        let mark = back.len();
        self.exemplars(back, 0x5a, point.row);
        let ragged = self.extras.and_then(|extras| extras.exponential(point.row));
        if point.stale {
            back.varint_field(0x50, NO_RECORDED_VALUE);
        } else {
            if let Some(ragged) = ragged {
                back.double_field(0x71, ragged.zero_threshold);
                optional(back, 0x69, ragged.max.unwrap_or(f64::NAN), false);
                optional(back, 0x61, ragged.min.unwrap_or(f64::NAN), false);
                buckets(back, 0x4a, &ragged.negative);
                buckets(back, 0x42, &ragged.positive);
                back.fixed_field(0x39, whole(ragged.zero_count));
                back.varint_field(0x30, zigzag(ragged.scale));
            }
            optional(back, 0x29, double(point.slots, 0), self.options.only_finite);
            back.fixed_field(0x21, whole(double(point.slots, 1)));
        }
        point.identity(back);
        back.close(0x0a, mark);
    }

    fn summary(&self, back: &mut Back, point: &Point<'_>, quantiles: &Bounds) {
        let mark = back.len();
        if point.stale {
            back.varint_field(0x40, NO_RECORDED_VALUE);
        } else {
            let values = point.slots.get(2..2 + quantiles.len()).unwrap_or_default();
            for (quantile, value) in quantiles.as_slice().iter().zip(values).rev() {
                let value = value.as_double();
                if self.options.only_finite && !value.is_finite() {
                    continue;
                }
                let mark = back.len();
                back.double_field(0x11, value);
                back.double_field(0x09, *quantile);
                back.close(0x32, mark);
            }
            back.double_field(0x29, double(point.slots, 0));
            back.fixed_field(0x21, whole(double(point.slots, 1)));
        }
        point.identity(back);
        back.close(0x0a, mark);
    }

    fn exemplars(&self, back: &mut Back, tag: u8, row: RowId) {
        let Some(extras) = self.extras else { return };
        let from = extras.exemplars.partition_point(|exemplar| exemplar.row < row);
        let to = extras.exemplars.partition_point(|exemplar| exemplar.row <= row);
        for exemplar in extras.exemplars.get(from..to).unwrap_or_default().iter().rev() {
            exemplar_field(back, tag, exemplar);
        }
    }
}

impl Point<'_> {
    /// Attributes and times. Their tags are the same in all kinds of points; those of attributes are in the bytes.
    fn identity(&self, back: &mut Back) {
        let [shared, own] = self.attributes;
        back.bytes(own);
        back.bytes(shared);
        back.fixed_field(0x19, self.time);
        if self.start != 0 {
            back.fixed_field(0x11, self.start);
        }
    }
}

fn bits(slots: &[Slot], at: usize) -> u64 {
    slots.get(at).map_or(0, |slot| slot.as_int().cast_unsigned())
}

fn double(slots: &[Slot], at: usize) -> f64 {
    slots.get(at).map_or(0.0, |slot| slot.as_double())
}

/// A count; what is negative or none is nothing.
fn whole(count: f64) -> u64 {
    count as u64
}

/// A double that may be missing: NaN says so.
fn optional(back: &mut Back, tag: u8, value: f64, only_finite: bool) {
    if value.is_finite() || (value.is_infinite() && !only_finite) {
        back.double_field(tag, value);
    }
}

fn buckets(back: &mut Back, tag: u8, buckets: &ExponentialBuckets) {
    if buckets.counts.is_empty() && buckets.offset == 0 {
        return;
    }
    let mark = back.len();
    let counts = back.len();
    buckets.counts.iter().rev().for_each(|count| back.varint(whole(*count)));
    back.close(0x12, counts);
    back.varint_field(0x08, zigzag(buckets.offset));
    back.close(tag, mark);
}

fn exemplar_field(back: &mut Back, tag: u8, exemplar: &Exemplar) {
    let mark = back.len();
    let (mut trace, mut span) = (None, None);
    for label in exemplar.labels.iter().rev() {
        let text = label.value.as_str();
        match label.name.as_str() {
            "trace_id" if let Some(id) = text.and_then(id::<16>) => trace = Some(id),
            "span_id" if let Some(id) = text.and_then(id::<8>) => span = Some(id),
            name => pair(back, 0x3a, name, &label.value, &Limits::NONE),
        }
    }
    if let Some(id) = trace {
        back.field(0x2a, &id);
    }
    if let Some(id) = span {
        back.field(0x22, &id);
    }
    back.double_field(0x19, exemplar.value);
    if exemplar.time > 0 {
        back.fixed_field(0x11, exemplar.time.cast_unsigned());
    }
    back.close(tag, mark);
}

/// An id from hex; `None` when it is not one of that length.
fn id<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    if text.len() != 2 * BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
