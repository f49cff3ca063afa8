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
}

impl Page<'_> {
    pub(super) fn mark(&self, col: Col) -> Mark {
        self.batch.mark(col.row)
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
        if !value.is_finite() {
            self.odd.count(Reason::NotANumber);
            return Err(Mark::Absent);
        }
        Ok(value)
    }
}

/// What is filled: the outputs at the same moment.
pub(super) struct Outputs<'a> {
    pub(super) values: &'a mut [Slot],
    pub(super) marks: &'a mut [Mark],
}

impl Outputs<'_> {
    /// A number, or why there is none.
    pub(super) fn number(&mut self, col: Col, value: Result<f64, Mark>) {
        match value {
            Ok(value) => self.slots(col)[0] = Slot::double(value),
            Err(mark) => self.gone(col, mark),
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
    /// value since its process started.
    pub(super) fn increase(&mut self, now: f64, odd: &Odd) -> Option<f64> {
        match self.0.replace(now) {
            None => None,
            Some(before) if now < before => {
                odd.count(Reason::CounterReset);
                Some(now)
            }
            Some(before) => Some(now - before),
        }
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
