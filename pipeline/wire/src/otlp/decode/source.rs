//! [`Source`]: the rows of one source, and [`Column`]: the values of a request on their way into a batch.

use std::sync::Arc;

use pipeline_model::{
    Batch, Exemplar, ExponentialPoint, Extras, Group, Interner, Labels, Mark, RowId,
    STALE_NAN_BITS, Shape, ShapeBuilder, Slot, SourceId, Starts,
};

use super::vocabulary::{Renumbered, Vocabulary};

/// What makes a series of a resource.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Index among the resource's variants.
    pub(super) variant: u32,
    /// First slot in its source.
    pub(super) slot: u32,
    pub(super) labels: Labels,
}

impl Row {
    /// Bytes that a row of `slots` slots costs, here, in the shape and in a column.
    pub(super) fn bytes(slots: u32) -> usize {
        3 * size_of::<Self>() + 8 * slots as usize
    }
}

/// Values of one moment of a source while a request is being read.
#[derive(Debug)]
pub(super) struct Column {
    values: Vec<Slot>,
    /// Time of the batch: that of the first point.
    time: i64,
    /// Where a row's differs.
    times: Option<Vec<i64>>,
    known_starts: Option<Starts>,
    /// A copy of those, once one of them has changed.
    fresh_starts: Option<Vec<i64>>,
    /// Rows that have a point, or are said to have none.
    filled: usize,
    /// Rows that are said to have none.
    stale: Vec<RowId>,
    exponentials: Vec<(RowId, ExponentialPoint)>,
    exemplars: Vec<Exemplar>,
}

impl Column {
    pub(super) fn new(slots: usize, time: i64, known_starts: Option<Starts>) -> Self {
        Self {
            values: vec![Slot::default(); slots],
            time,
            times: None,
            known_starts,
            fresh_starts: None,
            filled: 0,
            stale: Vec::new(),
            exponentials: Vec::new(),
            exemplars: Vec::new(),
        }
    }

    /// Takes in that `row` has a point. Columns of rows may be shorter than the shape until the batch is made.
    #[inline]
    pub(super) fn fill(&mut self, row: RowId, time: i64, start: i64) {
        self.filled += 1;
        if time != self.time {
            put(self.times.get_or_insert_default(), row, time);
        }
        if let Some(fresh) = &mut self.fresh_starts {
            put(fresh, row, start);
        } else if self.known_start(row) != start {
            let mut fresh = self.known_starts.as_ref().map(|known| known.to_vec());
            put(fresh.get_or_insert_default(), row, start);
            self.fresh_starts = fresh;
        }
    }

    #[inline]
    fn known_start(&self, row: RowId) -> i64 {
        let known = self.known_starts.as_ref().and_then(|known| known.get(row as usize));
        known.copied().unwrap_or(0)
    }

    /// The slots from `slot` on.
    #[inline]
    pub(super) fn slots(&mut self, slot: u32, len: usize) -> &mut [Slot] {
        let slot = slot as usize;
        self.values.get_mut(slot..slot + len).unwrap_or_default()
    }

    #[inline]
    pub(super) fn set(&mut self, slot: u32, value: Slot) {
        if let Some(place) = self.values.get_mut(slot as usize) {
            *place = value;
        }
    }

    /// Takes in that `row`, filled already, is said to have no value.
    pub(super) fn stale(&mut self, row: RowId, slot: u32, slots: u32) {
        self.slots(slot, slots as usize).fill(Slot::double(f64::from_bits(STALE_NAN_BITS)));
        self.stale.push(row);
    }

    pub(super) fn exponential(&mut self, row: RowId, point: ExponentialPoint) {
        self.exponentials.push((row, point));
    }

    pub(super) fn exemplar(&mut self, exemplar: Exemplar) {
        self.exemplars.push(exemplar);
    }

    /// Time of `row`, which is filled.
    pub(super) fn time_of(&self, row: RowId) -> i64 {
        let own = self.times.as_ref().and_then(|times| times.get(row as usize)).copied();
        own.filter(|time| *time != 0).unwrap_or(self.time)
    }

    /// The batch. `marks` makes the marks when they are needed: when a row is absent or stale.
    fn batch(
        mut self,
        source: SourceId,
        shape: Arc<Shape>,
        marks: impl FnOnce(&[RowId]) -> Option<Arc<Vec<Mark>>>,
    ) -> Batch {
        let rows = shape.len();
        if let Some(times) = &mut self.times {
            times.resize(rows, 0);
        }
        let starts = match self.fresh_starts {
            Some(mut fresh) => {
                fresh.resize(rows, 0);
                Some(Arc::new(fresh))
            }
            None => self.known_starts.map(|mut known| {
                if known.len() != rows {
                    Arc::make_mut(&mut known).resize(rows, 0);
                }
                known
            }),
        };
        self.exponentials.sort_by_key(|(row, _)| *row);
        self.exemplars.sort_by_key(|exemplar| exemplar.row);
        let plain =
            self.times.is_none() && self.exponentials.is_empty() && self.exemplars.is_empty();
        let extras = (!plain).then_some(Extras {
            times: self.times,
            exponentials: self.exponentials,
            exemplars: self.exemplars,
        });
        Batch {
            starts,
            marks: marks(&self.stale),
            extras: extras.map(Arc::new),
            ..Batch::new(source, shape, self.time, self.values)
        }
    }
}

/// Sets one item of a column that grows on demand.
#[inline]
fn put<T: Copy + Default>(column: &mut Vec<T>, row: RowId, value: T) {
    let row = row as usize;
    if row >= column.len() {
        column.resize(row + 1, T::default());
    }
    if let Some(place) = column.get_mut(row) {
        *place = value;
    }
}

/// One source: rows of a resource up to a number.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) id: SourceId,
    /// As of the last batch: rows that came since are only in `rows`.
    pub(super) shape: Arc<Shape>,
    pub(super) rows: Vec<Row>,
    /// Per row the number of the last request that had it.
    pub(super) seen: Vec<u32>,
    pub(super) slots: u32,
    starts: Option<Starts>,
    /// Those of the last batch that had any, to be shared while they stay the same.
    marks: Option<Arc<Vec<Mark>>>,
    pub(super) column: Option<Column>,
    /// Rows that another row has replaced.
    superseded: Vec<RowId>,
}

impl Source {
    /// One without rows.
    pub(super) fn new(interner: &Interner) -> Self {
        Self {
            id: SourceId::next(),
            shape: ShapeBuilder::new(interner).finish(),
            rows: Vec::new(),
            seen: Vec::new(),
            slots: 0,
            starts: None,
            marks: None,
            column: None,
            superseded: Vec::new(),
        }
    }

    /// The column of the request, begun at need with `time` for the batch.
    #[inline]
    pub(super) fn open(&mut self, time: i64) -> &mut Column {
        let (slots, starts) = (self.slots as usize, &self.starts);
        self.column.get_or_insert_with(|| Column::new(slots, time, starts.clone()))
    }

    /// Adds a row of `slots` slots, which begin where the others end; its id.
    pub(super) fn push(&mut self, row: Row, slots: u32) -> RowId {
        let id = self.rows.len() as RowId;
        self.rows.push(row);
        self.seen.push(0);
        self.slots += slots;
        if let Some(column) = &mut self.column {
            column.values.resize(self.slots as usize, Slot::default());
        }
        id
    }

    /// Takes in that `row` goes on as another one: it ends with the next batch unless that has a value for it.
    pub(super) fn supersede(&mut self, row: RowId) {
        if !self.superseded.contains(&row) {
            self.superseded.push(row);
        }
    }

    /// True when there is something to say.
    pub(super) fn is_open(&self) -> bool {
        self.column.is_some() || !self.superseded.is_empty()
    }

    /// Brings the shape up to the rows.
    ///
    /// # Errors
    /// When the model does not take them, which would be a mistake here.
    pub(super) fn grow(
        &mut self,
        interner: &Interner,
        vocabulary: &Vocabulary,
    ) -> Result<(), &'static str> {
        if self.rows.len() == self.shape.len() {
            return Ok(());
        }
        let mut builder = ShapeBuilder::grow(interner, &self.shape);
        for row in self.rows.get(self.shape.len()..).unwrap_or_default() {
            let (Some(metric), Some(scope)) = (vocabulary.metric(row), vocabulary.scope(row))
            else {
                return Err("a row without metric or scope");
            };
            let group = builder.group(Group {
                resource: Arc::clone(&vocabulary.resource),
                scope: Arc::clone(scope),
                labels: Labels::empty(),
            });
            builder.push(group, metric, &row.labels).map_err(|_| "a row that is there twice")?;
        }
        self.shape = builder.finish();
        Ok(())
    }

    /// The batch of request number `request`, if it had anything for this source. The shape is grown.
    pub(super) fn close(&mut self, request: u32, time: i64) -> Option<Batch> {
        if !self.is_open() {
            return None;
        }
        let (slots, starts) = (self.slots as usize, &self.starts);
        let column = self.column.take().unwrap_or_else(|| Column::new(slots, time, starts.clone()));
        let replaced = std::mem::take(&mut self.superseded);
        let all = column.filled == self.rows.len() && replaced.is_empty();
        let (seen, last) = (&self.seen, &mut self.marks);
        let marks = |stale: &[RowId]| {
            if all && stale.is_empty() {
                return None;
            }
            let mark = |seen: &u32| if *seen == request { Mark::Present } else { Mark::Absent };
            let mut marks: Vec<Mark> = seen.iter().map(mark).collect();
            for row in replaced {
                mark_stale(&mut marks, row, Mark::Absent);
            }
            for row in stale {
                mark_stale(&mut marks, *row, Mark::Present);
            }
            Some(shared(marks, last))
        };
        let batch = column.batch(self.id, Arc::clone(&self.shape), marks);
        self.starts.clone_from(&batch.starts);
        Some(batch)
    }

    /// A batch of a further moment of the same request; `filled` rows have a value in it.
    pub(super) fn layer(&self, column: Column, filled: &[RowId]) -> Batch {
        let marks = |stale: &[RowId]| {
            let mut marks = vec![Mark::Absent; self.shape.len()];
            for row in filled {
                if let Some(mark) = marks.get_mut(*row as usize) {
                    *mark = Mark::Present;
                }
            }
            for row in stale {
                mark_stale(&mut marks, *row, Mark::Present);
            }
            marks.iter().any(|mark| *mark != Mark::Present).then(|| Arc::new(marks))
        };
        column.batch(self.id, Arc::clone(&self.shape), marks)
    }

    /// Keeps only the rows that a request after number `request` had. For each old row its new id.
    pub(super) fn retain(
        &mut self,
        interner: &Interner,
        request: u32,
        vocabulary: &Vocabulary,
        renumbered: &Renumbered,
    ) -> Vec<Option<RowId>> {
        let old = std::mem::replace(self, Self { id: self.id, ..Self::new(interner) });
        let mut starts = Vec::new();
        let mut moved = Vec::with_capacity(old.rows.len());
        for (was, (row, seen)) in old.rows.into_iter().zip(old.seen).enumerate() {
            let variant = renumbered.variants.get(&row.variant).copied();
            let known = variant.and_then(|variant| vocabulary.variant(variant).zip(Some(variant)));
            let kept = known.filter(|_| seen > request).map(|(known, variant)| {
                let slot = self.slots;
                let id = self.push(Row { variant, slot, labels: row.labels }, known.slots());
                put(&mut self.seen, id, seen);
                let start = old.starts.as_ref().and_then(|starts| starts.get(was)).copied();
                starts.push(start.unwrap_or(0));
                id
            });
            moved.push(kept);
        }
        self.starts = old.starts.map(|_| Arc::new(starts));
        let grown = self.grow(interner, vocabulary);
        debug_assert!(grown.is_ok(), "rows of a shape are a shape: {grown:?}");
        moved
    }

    /// The last batch of this source.
    pub(super) fn end(&self, time: i64) -> Batch {
        Batch::end(self.id, Arc::clone(&self.shape), time)
    }

    pub(super) fn starts(&self) -> Option<Starts> {
        self.starts.clone()
    }
}

fn mark_stale(marks: &mut [Mark], row: RowId, only: Mark) {
    if let Some(mark) = marks.get_mut(row as usize)
        && *mark == only
    {
        *mark = Mark::Stale;
    }
}

/// `marks`, as the allocation `last` when that says the same.
fn shared(marks: Vec<Mark>, last: &mut Option<Arc<Vec<Mark>>>) -> Arc<Vec<Mark>> {
    match last {
        Some(last) if **last == marks => Arc::clone(last),
        _ => Arc::clone(last.insert(Arc::new(marks))),
    }
}
