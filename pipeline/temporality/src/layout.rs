//! [`Layout`]: which rows of a shape are converted, and the shape that comes of it. Made once per input shape.

use std::ops::Range;
use std::sync::Arc;

use foldhash::HashMap;
use pipeline_model::{
    Interner, Kind, Metric, Number, RowId, Shape, ShapeBuilder, ShapeError, Temporality,
};

use crate::Options;
use crate::counts::Reason;

/// What happens to the points of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// They pass.
    Pass,
    /// One number.
    Number { number: Number, monotonic: bool },
    /// Sum, count, cumulative counts; smallest and largest where the input has them.
    Histogram { min_max_in: bool, min_max_out: bool },
    /// Sum, count, and the rest in the extras.
    Exponential,
}

/// Consecutive rows that are treated alike; each takes the same number of slots, but for those that pass.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) class: Class,
    /// Rows of the input.
    pub(crate) rows_in: Range<usize>,
    /// Their slots.
    pub(crate) slots_in: Range<usize>,
    /// Rows of the output.
    pub(crate) rows_out: Range<usize>,
    /// Their slots.
    pub(crate) slots_out: Range<usize>,
}

/// Where the rows of an input shape go.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) output: Arc<Shape>,
    pub(crate) runs: Vec<Run>,
    /// Rows of the input that have no output, and why.
    pub(crate) refused: Vec<(RowId, Reason)>,
    /// True when a row of the output is converted and has points beside its slots.
    pub(crate) exponentials: bool,
}

impl Layout {
    /// The layout for `input` with at most `seats` converted rows. `previous` is the output so far.
    pub(crate) fn new(
        input: &Shape,
        options: &Options,
        seats: usize,
        interner: &Interner,
        previous: Option<&Arc<Shape>>,
    ) -> Self {
        let mut builder = ShapeBuilder::new(interner);
        let groups: Vec<u32> =
            input.groups().iter().map(|group| builder.group(group.clone())).collect();
        let mut converted: HashMap<*const Metric, Option<(Class, Arc<Metric>)>> =
            HashMap::default();
        let (mut runs, mut refused) = (Vec::<Run>::new(), Vec::new());
        let (mut seats, mut slots_out) = (seats, 0);
        for series in input.iter() {
            let other = converted
                .entry(Arc::as_ptr(series.metric))
                .or_insert_with(|| convert(series.metric, options));
            let (class, metric) = match other {
                Some((class, metric)) => (*class, &*metric),
                None => (Class::Pass, series.metric),
            };
            if class != Class::Pass && seats == 0 {
                refused.push((series.row, Reason::Limit));
                continue;
            }
            let group = groups.get(series.group_idx as usize).copied().unwrap_or_default();
            let row = match builder.push(group, metric, series.labels) {
                Ok(row) => row as usize,
                Err(ShapeError::Duplicate(_)) => {
                    refused.push((series.row, Reason::Conflict));
                    continue;
                }
                Err(_) => {
                    refused.push((series.row, Reason::Limit));
                    continue;
                }
            };
            seats -= usize::from(class != Class::Pass);
            let width_out = metric.kind.slots() as usize;
            let point = Run {
                class,
                rows_in: series.row as usize..series.row as usize + 1,
                slots_in: series.slots(),
                rows_out: row..row + 1,
                slots_out: slots_out..slots_out + width_out,
            };
            slots_out += width_out;
            match runs.last_mut() {
                Some(run) if run.goes_on(&point) => run.extend(&point),
                _ => runs.push(point),
            }
        }
        Self {
            exponentials: runs.iter().any(|run| run.class == Class::Exponential),
            output: builder.finish_or(previous),
            runs,
            refused,
        }
    }

    /// True when every row of the input is the same row of the output.
    pub(crate) fn keeps_rows(&self) -> bool {
        self.refused.is_empty()
    }

    /// The row of the output for one of the input.
    pub(crate) fn row_out(&self, row: RowId) -> Option<RowId> {
        let row = row as usize;
        let idx = self.runs.partition_point(|run| run.rows_in.end <= row);
        let run = self.runs.get(idx).filter(|run| run.rows_in.contains(&row))?;
        Some((run.rows_out.start + row - run.rows_in.start) as RowId)
    }
}

impl Run {
    /// Slots of one point of the output.
    pub(crate) fn width_out(&self) -> usize {
        self.slots_out.len() / self.rows_out.len().max(1)
    }

    /// Slots of one point of the input.
    pub(crate) fn width_in(&self) -> usize {
        self.slots_in.len() / self.rows_in.len().max(1)
    }

    fn goes_on(&self, point: &Self) -> bool {
        self.class == point.class
            && self.rows_in.end == point.rows_in.start
            && self.rows_out.end == point.rows_out.start
            && (self.class == Class::Pass || self.width_in() == point.slots_in.len())
    }

    fn extend(&mut self, point: &Self) {
        self.rows_in.end = point.rows_in.end;
        self.slots_in.end = point.slots_in.end;
        self.rows_out.end = point.rows_out.end;
        self.slots_out.end = point.slots_out.end;
    }
}

/// How many rows of `input` want to be converted.
pub(crate) fn wanted(input: &Shape, options: &Options) -> usize {
    input.iter().filter(|series| class(series.metric, options).is_some()).count()
}

fn class(metric: &Metric, options: &Options) -> Option<Class> {
    let from = match &metric.kind {
        Kind::Gauge | Kind::Summary { .. } => return None,
        Kind::Sum { temporality, .. }
        | Kind::Histogram { temporality, .. }
        | Kind::ExponentialHistogram { temporality } => *temporality,
    };
    if from == options.to {
        return None;
    }
    let to_delta = options.to == Temporality::Delta;
    match &metric.kind {
        Kind::Sum { monotonic: false, .. } if to_delta && !options.non_monotonic => None,
        Kind::Sum { monotonic, .. } => {
            Some(Class::Number { number: metric.number, monotonic: *monotonic })
        }
        Kind::Histogram { min_max, .. } => {
            // The extremes since the start say nothing about those since the last point.
            Some(Class::Histogram { min_max_in: *min_max, min_max_out: *min_max && !to_delta })
        }
        Kind::ExponentialHistogram { .. } => Some(Class::Exponential),
        Kind::Gauge | Kind::Summary { .. } => None,
    }
}

/// The metric with the wanted temporality, where that is another.
fn convert(metric: &Metric, options: &Options) -> Option<(Class, Arc<Metric>)> {
    let class = class(metric, options)?;
    let to = options.to;
    let kind = match (&metric.kind, class) {
        (Kind::Sum { monotonic, .. }, _) => Kind::Sum { monotonic: *monotonic, temporality: to },
        (Kind::Histogram { bounds, .. }, Class::Histogram { min_max_out: min_max, .. }) => {
            Kind::Histogram { temporality: to, bounds: bounds.clone(), min_max }
        }
        _ => Kind::ExponentialHistogram { temporality: to },
    };
    Some((class, Arc::new(Metric { kind, ..metric.clone() })))
}
