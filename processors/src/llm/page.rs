//! Reading a batch of inputs and filling a batch of outputs, column by column.

use pipeline_model::{Batch, Mark, Number, RowId, STALE_NAN_BITS, Series, Slot};

use super::odd::{Odd, Reason};

/// Where the values of one series are in every batch of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Col {
    row: RowId,
    slot: u32,
    len: u32,
    int: bool,
}

impl Col {
    pub(super) fn of(series: &Series<'_>) -> Self {
        let slots = series.slots();
        Self {
            row: series.row,
            slot: slots.start as u32,
            len: slots.len() as u32,
            int: series.metric.number == Number::Int,
        }
    }

    /// The next `len` slots of a shape that is being made.
    pub(super) fn at(row: RowId, slot: u32, len: u32) -> Self {
        Self { row, slot, len, int: false }
    }

    pub(super) fn is_number(self) -> bool {
        self.len == 1
    }

    /// What counts: the number, or the count of a histogram.
    pub(super) fn counting(self) -> Self {
        if self.len == 1 { self } else { self.count() }
    }

    pub(super) fn row(self) -> RowId {
        self.row
    }

    /// The count of a histogram, as a number of its own.
    pub(super) fn count(self) -> Self {
        Self { slot: self.slot + 1, len: 1, ..self }
    }
}

/// A page: the inputs at one moment.
#[derive(Clone, Copy)]
pub(super) struct Page<'a> {
    pub(super) batch: &'a Batch,
    pub(super) odd: &'a Odd,
    /// The pod's process is another one than on the last page: all its counters began at nothing.
    pub(super) restarted: bool,
}

impl Page<'_> {
    pub(super) fn mark(&self, col: Col) -> Mark {
        self.batch.mark(col.row)
    }

    /// `value`, unless it is beyond all numbers.
    pub(super) fn finite(&self, value: f64) -> Result<f64, Mark> {
        if value.is_finite() {
            return Ok(value);
        }
        self.odd.count(Reason::NotANumber);
        Err(Mark::Absent)
    }

    /// A number as it stands there, if it is finite.
    pub(super) fn raw(&self, col: Col) -> Option<f64> {
        let slot = self.slots(col).ok()?.first()?;
        let value = if col.int { slot.as_int() as f64 } else { slot.as_double() };
        value.is_finite().then_some(value)
    }

    /// The slots of a series that is there.
    pub(super) fn slots(&self, col: Col) -> Result<&[Slot], Mark> {
        match self.mark(col) {
            Mark::Present => {
                Ok(&self.batch.values[col.slot as usize..(col.slot + col.len) as usize])
            }
            gone => Err(gone),
        }
    }

    /// A finite number that is not negative. All inputs count something.
    pub(super) fn number(&self, col: Col) -> Result<f64, Mark> {
        let value = self.signed(col)?;
        if value < 0.0 {
            self.odd.count(Reason::Negative);
            return Err(Mark::Absent);
        }
        Ok(value)
    }

    /// A finite number.
    pub(super) fn signed(&self, col: Col) -> Result<f64, Mark> {
        let slot = self.slots(col)?.first().copied().unwrap_or_default();
        let value = if col.int { slot.as_int() as f64 } else { slot.as_double() };
        self.finite(value)
    }
}

/// What is filled: the outputs at the same moment.
pub(super) struct Outputs<'a> {
    pub(super) values: &'a mut [Slot],
    pub(super) marks: &'a mut [Mark],
    /// The marks of the last page; empty before the first.
    pub(super) before: &'a [Mark],
}

impl Outputs<'_> {
    /// A number, or why there is none.
    pub(super) fn number(&mut self, col: Col, value: Result<f64, Mark>) {
        match value {
            Ok(value) => self.slots(col)[0] = Slot::double(value),
            Err(mark) => self.gone(col, mark),
        }
    }

    /// A gauge, or why there is none. One that has no value now has ended: its last one does not stand.
    pub(super) fn gauge(&mut self, col: Col, value: Result<f64, Mark>) {
        let was_there = self.before.get(col.row as usize) == Some(&Mark::Present);
        match value {
            Err(Mark::Absent) if was_there => self.gone(col, Mark::Stale),
            value => self.number(col, value),
        }
    }

    /// The slots of a series.
    pub(super) fn slots(&mut self, col: Col) -> &mut [Slot] {
        &mut self.values[col.slot as usize..(col.slot + col.len) as usize]
    }

    /// Says that a series has no value now, or has ended.
    pub(super) fn gone(&mut self, col: Col, mark: Mark) {
        self.marks[col.row as usize] = mark;
        if mark == Mark::Stale {
            self.slots(col).fill(Slot::double(f64::from_bits(STALE_NAN_BITS)));
        }
    }
}

/// A counter's last value, to tell its increase.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last(Option<f64>);

impl Last {
    /// What was counted since the last value; nothing before there was one. A counter that fell has counted its new
    /// value since it began again.
    pub(super) fn increase(&mut self, now: f64, page: &Page<'_>) -> Option<f64> {
        let before = self.0.replace(now)?;
        if page.restarted {
            return Some(now);
        }
        if now < before {
            page.odd.count(Reason::CounterReset);
            return Some(now);
        }
        Some(now - before)
    }

    /// True when `now` is less than the last value.
    pub(super) fn fell(&self, now: f64) -> bool {
        self.0.is_some_and(|before| now < before)
    }
}

/// A histogram that is counted here: sum, count, cumulative counts per bound.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    /// As in a batch.
    pub(super) slots: Vec<f64>,
    /// Since when, Unix nanoseconds.
    pub(super) since: i64,
}

impl Counted {
    /// An empty one of so many bounds.
    pub(super) fn new(bounds: usize, since: i64) -> Self {
        Self { slots: vec![0.0; 2 + bounds], since }
    }

    /// Adds `times` observations of `value`.
    pub(super) fn observe(&mut self, bounds: &[f64], value: f64, times: f64) {
        let (totals, counts) = self.slots.split_at_mut(2);
        totals[0] += value * times;
        totals[1] += times;
        let first = bounds.partition_point(|bound| *bound < value);
        counts.iter_mut().skip(first).for_each(|count| *count += times);
    }

    pub(super) fn put(&self, col: Col, out: &mut Outputs<'_>) {
        for (slot, value) in out.slots(col).iter_mut().zip(&self.slots) {
            *slot = Slot::double(*value);
        }
    }
}
