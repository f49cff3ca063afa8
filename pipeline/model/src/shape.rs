//! [`Shape`]: the ordered list of series of one source, and where each finds its values.
//!
//! A shape is cut in two, because fleets are many targets with equal pages: the [`Table`] (rows: metric, own
//! labels, slots) is stored once for all shapes with equal rows; the [`Group`]s (resource, scope, labels that every
//! series of the group carries) are the shape's own and few. A thousand replicas of one engine cost one table and a
//! thousand pairs of groups.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::HashMap;

use crate::{Interner, Label, Labels, Metric, Str, Value};

/// Index of a series in its shape.
pub type RowId = u32;

/// Rows a shape may have; a source with more is refused where it is read.
const ROWS_MAX: usize = 16 << 20;

/// Groups up to which a builder finds one by looking at all.
const GROUPS_SCANNED: usize = 16;

/// OpenTelemetry's resource: the entity that produced the telemetry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Its attributes.
    pub attributes: Labels,
    /// Schema of the attributes; mostly empty.
    pub schema_url: Str,
}

/// OpenTelemetry's instrumentation scope: the code that produced the telemetry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Name of the library.
    pub name: Str,
    /// Its version.
    pub version: Str,
    /// Its attributes.
    pub attributes: Labels,
    /// Schema of the metrics within; mostly empty.
    pub schema_url: Str,
}

/// What a run of series shares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Group {
    /// Who produced them. Attributes here are not labels.
    pub resource: Arc<Resource>,
    /// What code produced them.
    pub scope: Arc<Scope>,
    /// Labels that each of the series carries beside its own: target labels, attached labels.
    pub labels: Labels,
}

/// A row of a table: one series less its group.
#[derive(Clone, Debug)]
struct Row {
    metric: Arc<Metric>,
    labels: Labels,
    slot: u32,
    group: u32,
}

impl Row {
    /// Identity within one interner: equal content is one allocation there.
    fn key(&self) -> (u32, usize, usize) {
        (self.group, Arc::as_ptr(&self.metric) as usize, self.labels.0.as_ptr() as usize)
    }
}

/// The rows of a shape; equal tables of one [`Interner`] are one allocation.
#[derive(Debug)]
pub struct Table {
    rows: Box<[Row]>,
    slots: u32,
}

impl Table {
    /// Bytes of the table itself, for self telemetry.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.rows.len() * size_of::<Row>()
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.rows.len() == other.rows.len()
            && self.rows.iter().zip(&other.rows).all(|(a, b)| a.key() == b.key())
    }
}

impl Eq for Table {}

impl Hash for Table {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rows.iter().for_each(|row| row.key().hash(state));
    }
}

/// The ordered list of series of one source. Immutable; made by [`ShapeBuilder`].
#[derive(Debug)]
pub struct Shape {
    id: u64,
    groups: Box<[Group]>,
    table: Arc<Table>,
}

impl Shape {
    /// Unique in this process: a key for what is remembered per shape.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.table.rows.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.table.rows.is_empty()
    }

    /// Number of value slots of a batch of this shape.
    pub fn slots(&self) -> usize {
        self.table.slots as usize
    }

    /// The rows, shared by all shapes with equal ones: a key for what depends on rows alone.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The slots of `row`; empty when there is no such row.
    #[inline]
    pub fn slots_of(&self, row: RowId) -> Range<usize> {
        match self.table.rows.get(row as usize) {
            Some(r) => r.slot as usize..(r.slot + r.metric.kind.slots()) as usize,
            None => 0..0,
        }
    }

    /// The series of `row`.
    pub fn get(&self, row: RowId) -> Option<Series<'_>> {
        let r = self.table.rows.get(row as usize)?;
        let group = self.groups.get(r.group as usize)?;
        Some(Series {
            row,
            group_idx: r.group,
            group,
            metric: &r.metric,
            labels: &r.labels,
            slot: r.slot,
        })
    }

    /// All series in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Series<'_>> + Clone {
        self.table.rows.iter().enumerate().map(|(row, r)| Series {
            row: row as RowId,
            group_idx: r.group,
            group: &self.groups[r.group as usize],
            metric: &r.metric,
            labels: &r.labels,
            slot: r.slot,
        })
    }

    /// For each row of `self` the row of `next` that is the same series, if any: how state moves on, and what a
    /// change of shape ends. Cost: one hash per row of both.
    pub fn match_rows(&self, next: &Self) -> Vec<Option<RowId>> {
        if Arc::ptr_eq(&self.table, &next.table) && self.groups == next.groups {
            return (0..self.len() as RowId).map(Some).collect();
        }
        let mut of_hash: HashMap<u64, Vec<RowId>> = HashMap::default();
        for series in next.iter() {
            of_hash.entry(series.identity_hash()).or_default().push(series.row);
        }
        self.iter()
            .map(|series| {
                let candidates = of_hash.get(&series.identity_hash())?;
                candidates
                    .iter()
                    .copied()
                    .find(|row| next.get(*row).is_some_and(|other| series.is_same(&other)))
            })
            .collect()
    }

    /// Rows of `self` that `next` lacks: each of them has ended.
    pub fn vanished(&self, next: &Self) -> Vec<RowId> {
        let matched = self.match_rows(next);
        (0..self.len() as RowId).filter(|row| matched[*row as usize].is_none()).collect()
    }
}

/// One series of a shape, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// Its index in the shape.
    pub row: RowId,
    /// Index of its group in the shape.
    pub group_idx: u32,
    /// What it shares with its group.
    pub group: &'a Group,
    /// What it measures.
    pub metric: &'a Arc<Metric>,
    /// Its own labels, without the group's.
    pub labels: &'a Labels,
    slot: u32,
}

impl<'a> Series<'a> {
    /// The value of a label: its own, else its group's.
    pub fn label(&self, name: &str) -> Option<&'a Value> {
        self.labels.get(name).or_else(|| self.group.labels.get(name))
    }

    /// The text of a label.
    pub fn label_text(&self, name: &str) -> Option<&'a str> {
        self.label(name).and_then(Value::as_str)
    }

    /// The value of a label or, where there is none, of the resource's attribute.
    pub fn attribute(&self, name: &str) -> Option<&'a Value> {
        self.label(name).or_else(|| self.group.resource.attributes.get(name))
    }

    /// Its slots in a batch.
    pub fn slots(&self) -> Range<usize> {
        self.slot as usize..(self.slot + self.metric.kind.slots()) as usize
    }

    /// Own and group labels as one sorted sequence; where both have a name the own value is given.
    pub fn labels_merged(&self) -> impl Iterator<Item = &'a Label> + use<'a> {
        let mut own = self.labels.iter().peekable();
        let mut group = self.group.labels.iter().peekable();
        std::iter::from_fn(move || match (own.peek(), group.peek()) {
            (Some(a), Some(b)) if a.name == b.name => {
                group.next();
                own.next()
            }
            (Some(a), Some(b)) if b.name < a.name => group.next(),
            (Some(_), _) => own.next(),
            (None, _) => group.next(),
        })
    }

    /// True when `other`, of another shape, is the same series with the same slots: name, kind, number, labels,
    /// resource and scope. Unit and description may differ.
    pub fn is_same(&self, other: &Series<'_>) -> bool {
        (Arc::ptr_eq(self.metric, other.metric)
            || (self.metric.name == other.metric.name
                && self.metric.kind == other.metric.kind
                && self.metric.number == other.metric.number))
            && self.labels == other.labels
            && self.group == other.group
    }

    fn identity_hash(&self) -> u64 {
        use std::hash::BuildHasher;
        let state = foldhash::fast::FixedState::with_seed(7);
        state.hash_one((&self.metric.name, self.labels, &self.group.labels))
    }
}

/// Why a row was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The same metric with the same labels is already there, as this row.
    #[error("duplicate series, first seen as row {0}")]
    Duplicate(RowId),
    /// The limit of rows or slots is reached.
    #[error("more than {ROWS_MAX} series in one shape")]
    TooLarge,
    /// There is no such group.
    #[error("no group {0}")]
    NoGroup(u32),
}

/// Makes shapes.
#[derive(Debug)]
pub struct ShapeBuilder<'a> {
    interner: &'a Interner,
    groups: Vec<Group>,
    /// Index of the groups, once there are many.
    group_of: HashMap<Group, u32>,
    rows: Vec<Row>,
    slots: u32,
    seen: HashMap<(u32, usize, usize), RowId>,
}

impl<'a> ShapeBuilder<'a> {
    /// An empty one.
    pub fn new(interner: &'a Interner) -> Self {
        Self {
            interner,
            groups: Vec::new(),
            group_of: HashMap::default(),
            rows: Vec::new(),
            slots: 0,
            seen: HashMap::default(),
        }
    }

    /// One that starts with all groups and rows of `shape`, row ids and slots unchanged: how a layout grows.
    pub fn grow(interner: &'a Interner, shape: &Shape) -> Self {
        let mut builder = Self::new(interner);
        builder.groups = shape.groups.to_vec();
        builder.rows = shape.table.rows.to_vec();
        builder.slots = shape.table.slots;
        builder.seen =
            builder.rows.iter().enumerate().map(|(idx, row)| (row.key(), idx as RowId)).collect();
        builder
    }

    /// The interner that this builder's strings, labels and metrics belong to.
    pub fn interner(&self) -> &'a Interner {
        self.interner
    }

    /// The index of `group`, added when new.
    pub fn group(&mut self, group: Group) -> u32 {
        // Most shapes have a few groups, and equal ones share their parts: a scan is a few pointer comparisons. Shapes
        // that name many pods get an index.
        if self.groups.len() <= GROUPS_SCANNED {
            if let Some(idx) = self.groups.iter().position(|known| *known == group) {
                return idx as u32;
            }
        } else {
            for (idx, known) in self.groups.iter().enumerate().skip(self.group_of.len()) {
                self.group_of.insert(known.clone(), idx as u32);
            }
            if let Some(idx) = self.group_of.get(&group) {
                return *idx;
            }
        }
        self.groups.push(group);
        (self.groups.len() - 1) as u32
    }

    /// Adds a series.
    ///
    /// # Errors
    /// When the series is there already, the shape is full, or the group unknown.
    pub fn push(
        &mut self,
        group: u32,
        metric: &Arc<Metric>,
        labels: &Labels,
    ) -> Result<RowId, ShapeError> {
        if group as usize >= self.groups.len() {
            return Err(ShapeError::NoGroup(group));
        }
        let slots = self.slots.checked_add(metric.kind.slots()).ok_or(ShapeError::TooLarge)?;
        if self.rows.len() >= ROWS_MAX || slots as usize > 8 * ROWS_MAX {
            return Err(ShapeError::TooLarge);
        }
        let row = Row {
            metric: self.interner.metric(metric),
            labels: self.interner.labels(labels),
            slot: self.slots,
            group,
        };
        let id = self.rows.len() as RowId;
        match self.seen.entry(row.key()) {
            std::collections::hash_map::Entry::Occupied(entry) => {
                return Err(ShapeError::Duplicate(*entry.get()));
            }
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(id);
            }
        }
        self.rows.push(row);
        self.slots = slots;
        Ok(id)
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The shape.
    pub fn finish(self) -> Arc<Shape> {
        self.finish_or(None)
    }

    /// The shape, or `previous` itself when that is equal: what is remembered by shape id stays valid.
    pub fn finish_or(self, previous: Option<&Arc<Shape>>) -> Arc<Shape> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let table =
            self.interner.table(Table { rows: self.rows.into_boxed_slice(), slots: self.slots });
        if let Some(previous) = previous
            && Arc::ptr_eq(&previous.table, &table)
            && *previous.groups == *self.groups
        {
            return Arc::clone(previous);
        }
        let groups = self.groups.iter().map(|group| self.interner.group(group)).collect();
        Arc::new(Shape { id: NEXT.fetch_add(1, Ordering::Relaxed), groups, table })
    }
}
