//! [`Filling`]: the columns of a page while it is being read.

use std::sync::Arc;

use pipeline_model::{
    Exemplar, ExponentialPoint, Extras, Interner, Label, Labels, Mark, RowId, Shape, Slot, Starts,
    Str, Value,
};

use super::layout::{Action, Fix};
use super::lex::nanos;
use super::raw::{Lists, RawLabel, Tail};
use super::rows::NO_ROW;
use super::{Page, PagePath, PageStats};

/// Start times, copied only when one has changed.
#[derive(Debug, Default)]
struct StartColumn {
    known: Option<Starts>,
    fresh: Option<Vec<i64>>,
}

impl StartColumn {
    #[inline]
    fn set(&mut self, row: RowId, start: i64, rows: usize) {
        let row = row as usize;
        if self.fresh.is_none() {
            if self.known.as_ref().is_some_and(|known| known.get(row) == Some(&start)) {
                return;
            }
            let mut fresh = self.known.as_ref().map(|known| known.to_vec()).unwrap_or_default();
            fresh.resize(rows, 0);
            self.fresh = Some(fresh);
        }
        if let Some(slot) = self.fresh.as_mut().and_then(|fresh| fresh.get_mut(row)) {
            *slot = start;
        }
    }

    /// The column; `previous` itself when nothing differs from it.
    fn finish(self, previous: Option<&Starts>, rows: usize) -> Option<Starts> {
        match self.fresh {
            Some(fresh) => match previous.filter(|previous| ***previous == fresh) {
                Some(previous) => Some(Arc::clone(previous)),
                None => Some(Arc::new(fresh)),
            },
            None => self.known.map(|mut known| {
                if known.len() != rows {
                    Arc::make_mut(&mut known).resize(rows, 0);
                }
                known
            }),
        }
    }
}

/// Columns in the making.
#[derive(Debug)]
pub(crate) struct Filling {
    pub(crate) values: Vec<Slot>,
    rows: usize,
    starts: StartColumn,
    times: Option<Vec<i64>>,
    exemplars: Vec<Exemplar>,
    pub(crate) exponentials: Vec<(RowId, ExponentialPoint)>,
    pub(crate) stats: PageStats,
}

impl Filling {
    /// For a shape of `rows` rows and `slots` slots, starting from the start times `known`.
    pub(crate) fn new(rows: usize, slots: usize, known: Option<Starts>) -> Self {
        Self {
            values: vec![Slot::default(); slots],
            rows,
            starts: StartColumn { known, fresh: None },
            times: None,
            exemplars: Vec::new(),
            exponentials: Vec::new(),
            stats: PageStats::default(),
        }
    }

    /// Makes room for a shape that has grown.
    pub(crate) fn grow(&mut self, shape: &Shape) {
        self.rows = shape.len();
        self.values.resize(shape.slots(), Slot::default());
        if let Some(fresh) = &mut self.starts.fresh {
            fresh.resize(self.rows, 0);
        }
        if let Some(times) = &mut self.times {
            times.resize(self.rows, 0);
        }
    }

    /// Puts the value of one line where it belongs.
    #[inline]
    pub(crate) fn store(&mut self, action: Action, row: RowId, value: f64) {
        match action {
            Action::Value(slot) => self.set(slot, value),
            // Before 1970 and beyond 2262 nothing was started.
            Action::Start => self.start(row, nanos(value).unwrap_or(0).max(0)),
            Action::Duplicate => self.stats.duplicates += 1,
            Action::Incomplete => self.stats.incomplete += 1,
            Action::Meta | Action::Ignore | Action::Alias(_) => {}
        }
    }

    #[inline]
    pub(crate) fn set(&mut self, slot: u32, value: f64) {
        if let Some(slot) = self.values.get_mut(slot as usize) {
            *slot = Slot::double(value);
        }
    }

    /// Sets a start time, Unix nanoseconds.
    #[inline]
    pub(crate) fn start(&mut self, row: RowId, start: i64) {
        self.starts.set(row, start, self.rows);
    }

    /// Sets a time of its own, Unix nanoseconds; of several lines of a row the latest counts.
    pub(crate) fn time(&mut self, row: RowId, time: i64) {
        let rows = self.rows;
        let times = self.times.get_or_insert_with(|| vec![0; rows]);
        if let Some(known) = times.get_mut(row as usize)
            && (*known == 0 || time > *known)
        {
            *known = time;
        }
    }

    pub(crate) fn exemplar(&mut self, exemplar: Exemplar) {
        self.exemplars.push(exemplar);
    }

    /// Keeps what followed a value.
    pub(crate) fn tail(&mut self, row: RowId, tail: &Tail, from: &TailSource<'_>) {
        if row == NO_ROW {
            return;
        }
        if tail.time != 0 && from.honor_timestamps {
            self.time(row, tail.time);
        }
        if let Some(raw) = from.lists.exemplar(tail) {
            let labels = from.lists.labels(raw.labels);
            let label = |label: &RawLabel| Label {
                name: from.interner.str(&label.name.of_bytes(from.body)),
                // Trace ids never come again: interning them would only fill the pool.
                value: Value::Str(Str::new(&label.value.of_bytes(from.body))),
            };
            let labels = Labels::new(labels.iter().map(label).collect());
            self.exemplar(Exemplar { row, value: raw.value, time: raw.time, labels });
        }
    }

    /// The page. `previous` are the start times before.
    pub(crate) fn page(
        mut self,
        shape: Arc<Shape>,
        marks: Option<Vec<Mark>>,
        previous: Option<&Starts>,
        path: PagePath,
        series_added: usize,
    ) -> Page {
        self.exemplars.sort_by_key(|exemplar| exemplar.row);
        self.exponentials.sort_by_key(|(row, _)| *row);
        let plain =
            self.times.is_none() && self.exemplars.is_empty() && self.exponentials.is_empty();
        let extras = (!plain).then_some(Extras {
            times: self.times,
            exponentials: self.exponentials,
            exemplars: self.exemplars,
        });
        Page {
            starts: self.starts.finish(previous, shape.len()),
            shape,
            values: self.values,
            marks,
            extras,
            stats: PageStats { path, series_added, ..self.stats },
        }
    }

    pub(crate) fn fix(&mut self, fixes: &[Fix]) {
        fixes.iter().for_each(|fix| fix.apply(&mut self.values));
    }
}

/// What the spans of a [`Tail`] mean.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TailSource<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) lists: &'a Lists,
    pub(crate) interner: &'a Interner,
    pub(crate) honor_timestamps: bool,
}
