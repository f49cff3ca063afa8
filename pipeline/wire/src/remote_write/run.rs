//! The writing of one part: its rows, one after the other.

use std::ops::Range;

use pipeline_model::{Batch, Exemplar, Mark, RowId, STALE_NAN_BITS, Slot};

use super::Written;
use super::dictionary::Dictionary;
use super::memo::{Memo, One, Row, Say};
use super::put::{Moment, fixed, histogram, message, number, stale_histogram};
use super::source::{Last, NEVER, Source, Undo};
use super::write::Writer;
use crate::prometheus::Escaping;
use crate::prometheus::escape::label_name;
use crate::prometheus::native::Native;

/// How often a resource is told of. Prometheus looks back five minutes.
const INFO_EVERY_MS: i64 = 60_000;
/// A NaN that is no staleness marker.
const NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Room that is used again for every series.
#[derive(Default)]
pub(super) struct Scratch {
    moment: Moment,
    body: Vec<u8>,
    refs: Vec<u8>,
    native: Native,
}

/// Unix milliseconds.
pub(super) fn millis(nanos: i64) -> i64 {
    nanos.div_euclid(1_000_000)
}

/// The writing of one part.
pub(super) struct Run<'a, W> {
    pub(super) dictionary: &'a Dictionary,
    pub(super) scratch: &'a mut Scratch,
    pub(super) undo: &'a mut Vec<Undo>,
    pub(super) writer: &'a mut W,
    pub(super) written: &'a mut Written,
}

impl<W: Writer> Run<'_, W> {
    /// Says who the source's resources are, now and then.
    pub(super) fn infos(&mut self, batch: &Batch, source: &mut Source) {
        let ms = millis(batch.time);
        let due = source.info_due || ms >= source.info_ms.saturating_add(INFO_EVERY_MS);
        let known = source.info_ms != NEVER;
        if source.infos.is_empty() || !(if batch.ended { known } else { due }) {
            return;
        }
        let bits = if batch.ended { STALE_NAN_BITS } else { 1f64.to_bits() };
        let ms = ms.max(source.info_ms.saturating_add(1));
        self.undo.push(Undo::Info(batch.source, source.info_ms, source.info_due));
        (source.info_ms, source.info_due) = (ms, false);
        for (_, ids) in &source.infos {
            if let Some((ids, family)) = ids {
                self.number(ids, *family, ms, bits);
            }
        }
    }

    /// One sample of a series that is no row.
    pub(super) fn number(&mut self, ids: &[u32], family: u32, ms: i64, bits: u64) {
        self.scratch.moment.set(ms, 0);
        self.scratch.body.clear();
        self.scratch.moment.sample(&mut self.scratch.body, bits, W::STARTS);
        let bytes = self.dictionary.fields_len(ids);
        self.writer.series(self.dictionary, ids, bytes, &self.scratch.body, family);
        self.written.samples += 1;
    }

    /// A series of a row has ended.
    pub(super) fn stale(&mut self, memo: &Memo, row: Row, one: &One, ms: i64) {
        let Scratch { body, moment, .. } = &mut *self.scratch;
        body.clear();
        if row.say == Say::Native {
            message(body, W::HISTOGRAM, |out| stale_histogram(out, ms));
            self.written.histograms += 1;
        } else {
            moment.set(ms, 0);
            moment.sample(body, STALE_NAN_BITS, true);
            self.written.samples += 1;
        }
        let (ids, bytes) = (memo.labels(one), one.bytes as usize);
        self.writer.series(self.dictionary, ids, bytes, &self.scratch.body, row.family);
    }

    pub(super) fn rows(&mut self, batch: &Batch, rows: Range<RowId>, source: &mut Source) {
        let rows = rows.start..rows.end.min(batch.shape.len() as RowId);
        let times = batch.extras.as_ref().and_then(|extras| extras.times.as_ref());
        if source.row_last.is_empty() && (batch.marks.is_some() && !batch.ended || times.is_some())
        {
            source.by_row();
            self.undo.push(Undo::ByRow(batch.source));
        }
        let by_row = !source.row_last.is_empty();
        let mut ms = millis(batch.time);
        if !by_row {
            let Last { ms: last, rows: sent } = source.last;
            if batch.ended && ms <= last {
                ms = if rows.start >= sent { last } else { last.saturating_add(1) };
            }
            if ms < last || (ms == last && rows.start < sent) {
                let points = rows.filter(|row| batch.mark(*row) != Mark::Absent).count();
                self.written.late += points as u64;
                return;
            }
            self.undo.push(Undo::Last(batch.source, source.last));
            source.last = Last { ms, rows: rows.end };
        }
        let Some(memo) = &source.memo else { return };
        let exemplars = batch.extras.as_ref().map_or(&[][..], |extras| &extras.exemplars);
        for row in rows {
            let (Some(of), mark) = (memo.row(row), batch.mark(row)) else { continue };
            if mark == Mark::Absent {
                continue;
            }
            let mut ms = ms;
            if by_row {
                ms = millis(batch.time_of(row));
                let Some(last) = source.row_last.get_mut(row as usize) else { continue };
                if mark == Mark::Stale {
                    if *last == NEVER {
                        continue;
                    }
                    ms = ms.max(last.saturating_add(1));
                } else if ms <= *last || (*last == NEVER && ms <= source.floor) {
                    self.written.late += 1;
                    continue;
                }
                self.undo.push(Undo::Row(batch.source, row, *last));
                *last = ms;
            }
            match mark {
                Mark::Stale => {
                    memo.of(of).iter().for_each(|one| self.stale(memo, of, one, ms));
                }
                _ => self.row(batch, row, memo, of, ms, of_row(exemplars, row)),
            }
        }
    }

    fn row(
        &mut self,
        batch: &Batch,
        row: RowId,
        memo: &Memo,
        of: Row,
        ms: i64,
        exemplars: &[Exemplar],
    ) {
        let start = if W::STARTS && of.starts {
            Some(millis(batch.start(row))).filter(|start| *start > 0 && *start <= ms).unwrap_or(0)
        } else {
            0
        };
        match of.say {
            Say::Delta => self.written.delta += 1,
            Say::Duplicate => self.written.duplicate += 1,
            Say::Off => self.written.native += 1,
            Say::Native => self.native(batch, row, memo, of, (ms, start), exemplars),
            Say::Doubles | Say::Int => {
                self.scratch.moment.set(ms, start);
                let mut above = f64::NEG_INFINITY;
                for one in memo.of(of) {
                    let slot = batch.values.get(one.slot as usize).copied().unwrap_or_default();
                    let bits = bits(slot, of.say == Say::Int);
                    if one.optional && f64::from_bits(bits).is_nan() {
                        continue;
                    }
                    self.scratch.body.clear();
                    self.scratch.moment.sample(&mut self.scratch.body, bits, W::STARTS);
                    if !exemplars.is_empty()
                        && let Some(upto) = one.upto
                    {
                        self.exemplars(exemplars, above, upto);
                        above = upto;
                    }
                    self.writer.series(
                        self.dictionary,
                        memo.labels(one),
                        one.bytes as usize,
                        &self.scratch.body,
                        of.family,
                    );
                    self.written.samples += 1;
                }
            }
        }
    }

    fn native(
        &mut self,
        batch: &Batch,
        row: RowId,
        memo: &Memo,
        of: Row,
        (ms, start): (i64, i64),
        exemplars: &[Exemplar],
    ) {
        let point = batch.extras.as_ref().and_then(|extras| extras.exponential(row));
        let slots = batch.point(row);
        let slot = |idx: usize| slots.get(idx).copied().unwrap_or_default().as_double();
        let (Some(point), Some(one)) = (point, memo.of(of).first()) else {
            self.written.native += 1;
            return;
        };
        let scratch = &mut *self.scratch;
        if !scratch.native.set(point, slot(1)) {
            self.written.native += 1;
            return;
        }
        let sum = bits(Slot::double(slot(0)), false);
        scratch.body.clear();
        message(&mut scratch.body, W::HISTOGRAM, |out| {
            histogram(out, &scratch.native, sum, ms, start);
        });
        self.exemplars(exemplars, f64::NEG_INFINITY, f64::INFINITY);
        let (ids, bytes) = (memo.labels(one), one.bytes as usize);
        self.writer.series(self.dictionary, ids, bytes, &self.scratch.body, of.family);
        self.written.histograms += 1;
    }

    /// Appends the latest exemplar above one bound and up to the other.
    fn exemplars(&mut self, exemplars: &[Exemplar], above: f64, upto: f64) {
        let within = exemplars.iter().filter(|one| {
            one.time > 0 && (one.value > above || above == f64::NEG_INFINITY) && one.value <= upto
        });
        let Some(exemplar) = within.max_by_key(|one| one.time) else { return };
        let Scratch { body, refs, .. } = &mut *self.scratch;
        refs.clear();
        for label in &exemplar.labels {
            let value = label.value.to_string();
            if !value.is_empty() {
                let name = label_name(&label.name, Escaping::Underscores);
                self.writer.exemplar_label(self.dictionary, &name, &value, refs);
            }
        }
        message(body, W::EXEMPLAR, |out| {
            W::exemplar_labels(out, refs);
            fixed(out, 0x11, exemplar.value.to_bits());
            number(out, 0x18, millis(exemplar.time).cast_unsigned());
        });
        self.written.exemplars += 1;
    }
}

/// The value of a slot, as it goes out: only [`Mark::Stale`] may say that a series has ended.
#[inline]
fn bits(slot: Slot, int: bool) -> u64 {
    let value = if int { slot.as_int() as f64 } else { slot.as_double() };
    let bits = value.to_bits();
    if bits == STALE_NAN_BITS { NAN_BITS } else { bits }
}

/// The exemplars of a row.
#[inline]
fn of_row(exemplars: &[Exemplar], row: RowId) -> &[Exemplar] {
    if exemplars.is_empty() {
        return &[];
    }
    let from = exemplars.partition_point(|one| one.row < row);
    let to = exemplars.partition_point(|one| one.row <= row);
    exemplars.get(from..to).unwrap_or_default()
}
