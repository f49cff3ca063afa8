//! What is known of a [`Table`] whatever its values: rows in the order of the page, their families, their hashes.
//!
//! One [`TableIndex`] serves all sources with an equal table; it keeps the table alive, so that its address names it.

use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::HashMap;
use foldhash::fast::RandomState;
use pipeline_model::{Kind, Labels, Metric, Number, RowId, Shape, Str, Table};

use super::Escaping;
use super::label_text::{BoundTexts, OwnTexts};
use crate::prometheus::escape::is_legal_label;
use crate::prometheus::family::Type;
use crate::prometheus::labels::{is_empty, reserved_label};

/// How the slots of a metric's points become lines.
#[derive(Debug)]
pub(super) enum Layout {
    /// One value.
    Number { int: bool },
    /// Sum, count, cumulative buckets from slot `first`.
    Histogram { first: usize, bounds: BoundTexts },
    /// Sum, count, quantiles.
    Summary { quantiles: BoundTexts },
    /// Sum and count; the buckets are in the batch's extras.
    Exponential,
}

impl Layout {
    fn of(metric: &Metric) -> Self {
        match &metric.kind {
            Kind::Gauge | Kind::Sum { .. } => Self::Number { int: metric.number == Number::Int },
            Kind::Histogram { bounds, .. } => Self::Histogram {
                first: metric.kind.first_bucket(),
                bounds: BoundTexts::new("le", bounds),
            },
            Kind::ExponentialHistogram { .. } => Self::Exponential,
            Kind::Summary { quantiles } => {
                Self::Summary { quantiles: BoundTexts::new("quantile", quantiles) }
            }
        }
    }
}

/// One row of the table, in the order of the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Its id.
    pub(super) row: RowId,
    /// Its first slot.
    pub(super) slot: u32,
    /// Its group.
    pub(super) group: u32,
    /// Its metric, in [`TableIndex::metrics`].
    pub(super) metric: u32,
    /// Name and own labels, to which the hash of the group's labels is added.
    hash: u64,
}

/// Consecutive rows of one family.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) ty: Type,
    /// The first metric: its name is the family's.
    pub(super) metric: Arc<Metric>,
    /// Positions in [`TableIndex::rows`].
    pub(super) rows: Range<u32>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct TableIndex {
    table: Arc<Table>,
    pub(super) rows: Box<[Row]>,
    /// Sorted by family name.
    pub(super) spans: Box<[Span]>,
    /// Distinct metrics with how their points are written.
    pub(super) metrics: Box<[(Arc<Metric>, Layout)]>,
    /// Per group the names that its rows use for themselves, reserved ones included.
    pub(super) own_names: Box<[Vec<Str>]>,
    /// Rows whose points are deltas.
    pub(super) deltas: u32,
    /// Rows whose type is not that of the first row of their name.
    pub(super) conflicts: u32,
    /// True when every escaping but `Dots` leaves the own labels' names alone.
    legal: bool,
    /// At most two, the last used ones: readers choose the escaping, and must not choose how much is kept.
    texts: Mutex<Vec<(Escaping, Arc<OwnTexts>)>>,
}

/// Hashes of labels add up, so that those of a group are hashed once and order does not matter.
pub(super) fn hash_labels<'a>(
    hasher: &RandomState,
    labels: impl IntoIterator<Item = &'a pipeline_model::Label>,
) -> u64 {
    labels
        .into_iter()
        .filter(|label| !is_empty(&label.value))
        .map(|label| hasher.hash_one(label))
        .fold(0, u64::wrapping_add)
}

impl TableIndex {
    pub(super) fn new(shape: &Shape, hasher: &RandomState) -> Self {
        let mut builder = Builder::new(shape, hasher);
        builder.read();
        let (spans, rows, conflicts) = builder.spans();
        let legal = builder.own_names.iter().flatten().all(|name| is_legal_label(name));
        Self {
            table: Arc::clone(shape.table()),
            rows,
            spans,
            metrics: builder.metrics.into(),
            own_names: builder.own_names.into(),
            deltas: builder.deltas,
            conflicts,
            legal,
            texts: Mutex::default(),
        }
    }

    /// True for the index of `table`.
    pub(super) fn is_of(&self, table: &Arc<Table>) -> bool {
        Arc::ptr_eq(&self.table, table)
    }

    /// Identity of a row together with its group's hash; `labels` where the two share names.
    pub(super) fn identity(&self, row: &Row, group: u64, hasher: &RandomState) -> u64 {
        hasher.hash_one(row.hash.wrapping_add(group))
    }

    /// Identity of a row from its whole label set.
    pub(super) fn identity_of(&self, row: &Row, shape: &Shape, hasher: &RandomState) -> u64 {
        let Some(series) = shape.get(row.row) else { return 0 };
        let labels = hash_labels(hasher, series.labels_merged());
        hasher.hash_one(hasher.hash_one(&series.metric.name).wrapping_add(labels))
    }

    /// The texts of the rows' own labels; made when first asked for.
    pub(super) fn own_texts(&self, shape: &Shape, escaping: Escaping) -> Arc<OwnTexts> {
        let escaping =
            if self.legal && escaping != Escaping::Dots { Escaping::Underscores } else { escaping };
        remembered(&self.texts, escaping, || OwnTexts::new(self, shape, escaping, false))
    }
}

/// The text under `escaping` out of the at most two that are kept; made when it is not there.
pub(super) fn remembered<T>(
    texts: &Mutex<Vec<(Escaping, Arc<T>)>>,
    escaping: Escaping,
    make: impl FnOnce() -> T,
) -> Arc<T> {
    let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(idx) = texts.iter().position(|(known, _)| *known == escaping) {
        return Arc::clone(&texts[idx].1);
    }
    let made = Arc::new(make());
    if texts.len() >= 2 {
        texts.remove(0);
    }
    texts.push((escaping, Arc::clone(&made)));
    made
}

struct Builder<'a> {
    shape: &'a Shape,
    hasher: &'a RandomState,
    metrics: Vec<(Arc<Metric>, Layout)>,
    own_names: Vec<Vec<Str>>,
    rows: Vec<Row>,
    deltas: u32,
}

impl<'a> Builder<'a> {
    fn new(shape: &'a Shape, hasher: &'a RandomState) -> Self {
        let own_names = vec![Vec::new(); shape.groups().len()];
        Self {
            shape,
            hasher,
            metrics: Vec::new(),
            own_names,
            rows: Vec::with_capacity(shape.len()),
            deltas: 0,
        }
    }

    fn read(&mut self) {
        let mut known: HashMap<*const Metric, (u32, u64)> = HashMap::default();
        let mut named: Option<(u32, *const Metric, Labels)> = None;
        for series in self.shape.iter() {
            if Type::of(series.metric).is_none() {
                self.deltas += 1;
                continue;
            }
            let address = Arc::as_ptr(series.metric);
            let (metric, name_hash) = *known.entry(address).or_insert_with(|| {
                self.metrics.push((Arc::clone(series.metric), Layout::of(series.metric)));
                (self.metrics.len() as u32 - 1, self.hasher.hash_one(&series.metric.name))
            });
            // Rows of one label set follow each other: their names are looked at once.
            if named.as_ref().is_none_or(|(group, seen, labels)| {
                *group != series.group_idx || *seen != address || labels != series.labels
            }) {
                let names = &mut self.own_names[series.group_idx as usize];
                let reserved = reserved_label(&series.metric.kind).map(Str::new);
                for name in series.labels.iter().map(|label| label.name.clone()).chain(reserved) {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                named = Some((series.group_idx, address, series.labels.clone()));
            }
            let hash = name_hash.wrapping_add(hash_labels(self.hasher, series.labels));
            let (row, slot, group) = (series.row, series.slots().start as u32, series.group_idx);
            self.rows.push(Row { row, slot, group, metric, hash });
        }
    }

    /// Brings the rows into the order of the page and cuts them at the families' ends.
    fn spans(&mut self) -> (Box<[Span]>, Box<[Row]>, u32) {
        let metrics = &self.metrics;
        let name_of = |row: &Row| metrics[row.metric as usize].0.name.as_str();
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_by(|a, b| name_of(a).cmp(name_of(b)));
        let (mut spans, mut kept, mut conflicts) =
            (Vec::<Span>::new(), Vec::with_capacity(rows.len()), 0);
        for row in rows {
            let metric = &metrics[row.metric as usize].0;
            let Some(ty) = Type::of(metric) else { continue };
            let at = kept.len() as u32;
            match spans.last_mut().filter(|span| span.metric.name == metric.name) {
                Some(span) if span.ty.takes(ty) => span.rows.end = at + 1,
                Some(_) => {
                    conflicts += 1;
                    continue;
                }
                None => spans.push(Span { ty, metric: Arc::clone(metric), rows: at..at + 1 }),
            }
            kept.push(row);
        }
        (spans.into(), kept.into(), conflicts)
    }
}
