//! [`Reshape`]: work on identity, done once per shape.

use std::any::Any;
use std::sync::Arc;

use foldhash::HashMap;

use crate::{
    Group, Interner, Labels, Metadata, Metric, Number, RowId, Series, Shape, ShapeBuilder,
    ShapeError,
};

/// How the input rows of one output row become one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fold {
    /// One input, copied (and scaled). A second series of the same identity is refused as a duplicate.
    Only,
    /// The first present input, in the order they were pushed: for two spellings of one thing.
    First,
    /// The sum of the present inputs: for gauges that count things.
    Sum,
    /// The sum of the inputs' increases: for counters and cumulative histograms. Each input is made monotonic first, so
    /// that one that resets or goes away never makes the total fall. When all of them fell at once, their process
    /// restarted, and the total is theirs again.
    SumCounter,
    /// The mean of the present inputs, slot by slot.
    Mean,
    /// The largest, slot by slot.
    Max,
    /// The smallest, slot by slot.
    Min,
}

/// One input of an output row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feed {
    /// Row of the input shape.
    pub row: RowId,
    /// Factor on values: of a number the value, of a histogram or summary its sum (and min and max); never counts.
    pub scale: f64,
}

impl Feed {
    /// `row` as it is.
    pub fn of(row: RowId) -> Self {
        Self { row, scale: 1.0 }
    }
}

/// Why a series was not put out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// Another series of the same identity is there and both are [`Fold::Only`], or they disagree on the fold.
    #[error("duplicate series: already put out as row {0}")]
    Duplicate(RowId),
    /// Input and output differ in slots or number, or the fold cannot be done on this kind.
    #[error("the input's points do not fit the output's kind")]
    Kind,
    /// The shape is full, or row or group unknown.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// What a reshape step may look at beside the shape.
#[derive(Debug)]
pub struct Context<'a> {
    /// Facts about pods, targets, deployments. The plan is made again when the generation changes.
    pub metadata: &'a Metadata,
}

/// A pure function from the identities of all series of a source to output series.
///
/// It runs once per shape and metadata generation, never per value. Most steps walk `input.iter()` and push; one
/// that must see the whole page first (which engine is this?) can.
pub trait Reshape: Send + Sync {
    /// Puts out what becomes of `input`. A row that is not pushed is dropped.
    fn reshape(&self, input: &Shape, context: &Context<'_>, out: &mut Reshaped<'_>);
}

/// One output row: how it is made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RowPlan {
    pub(crate) fold: Fold,
    pub(crate) feeds: Vec<Feed>,
}

/// Collects the output of a reshape step.
#[derive(Debug)]
pub struct Reshaped<'a> {
    input: &'a Shape,
    builder: ShapeBuilder<'a>,
    rows: Vec<RowPlan>,
    groups: HashMap<u32, u32>,
    held: Vec<Held>,
}

/// Something that is kept and never looked at.
pub(crate) type Held = Arc<dyn Any + Send + Sync>;

impl<'a> Reshaped<'a> {
    pub(crate) fn new(input: &'a Shape, interner: &'a Interner) -> Self {
        Self {
            input,
            builder: ShapeBuilder::new(interner),
            rows: Vec::new(),
            groups: HashMap::default(),
            held: Vec::new(),
        }
    }

    /// Shares strings, labels and metrics.
    pub fn interner(&self) -> &'a Interner {
        self.builder.interner()
    }

    /// Keeps `thing` alive for as long as the plan made from this shape: it is dropped when the source ends or its
    /// plan is made again. For a gauge that is on show while somebody holds it.
    pub fn hold(&mut self, thing: Arc<dyn Any + Send + Sync>) {
        self.held.push(thing);
    }

    /// An output group; equal groups are one.
    pub fn group(&mut self, group: Group) -> u32 {
        self.builder.group(group)
    }

    /// The output group equal to the input's group `input_idx`.
    ///
    /// # Errors
    /// When the input has no such group.
    pub fn same_group(&mut self, input_idx: u32) -> Result<u32, PushError> {
        if let Some(idx) = self.groups.get(&input_idx) {
            return Ok(*idx);
        }
        let group =
            self.input.groups().get(input_idx as usize).ok_or(ShapeError::NoGroup(input_idx))?;
        let idx = self.builder.group(group.clone());
        self.groups.insert(input_idx, idx);
        Ok(idx)
    }

    /// Puts `series` out unchanged.
    ///
    /// # Errors
    /// When a series of the same identity is there.
    pub fn keep(&mut self, series: &Series<'_>) -> Result<RowId, PushError> {
        let group = self.same_group(series.group_idx)?;
        self.push(group, series.metric, series.labels, Fold::Only, Feed::of(series.row))
    }

    /// Puts out a series, or adds an input to the one of the same identity that is there with the same fold.
    ///
    /// # Errors
    /// [`PushError::Duplicate`] when it is there and cannot take a second input, [`PushError::Kind`] when the
    /// input's points do not fit.
    pub fn push(
        &mut self,
        group: u32,
        metric: &Arc<Metric>,
        labels: &Labels,
        fold: Fold,
        feed: Feed,
    ) -> Result<RowId, PushError> {
        let input = self.input.get(feed.row).ok_or(PushError::Kind)?;
        if !fits(input.metric, metric, fold, feed) {
            return Err(PushError::Kind);
        }
        match self.builder.push(group, metric, labels) {
            Ok(row) => {
                self.rows.push(RowPlan { fold, feeds: vec![feed] });
                Ok(row)
            }
            Err(ShapeError::Duplicate(row)) => {
                let known = self.rows.get_mut(row as usize).ok_or(PushError::Duplicate(row))?;
                if known.fold != fold || fold == Fold::Only {
                    return Err(PushError::Duplicate(row));
                }
                known.feeds.push(feed);
                Ok(row)
            }
            Err(other) => Err(other.into()),
        }
    }

    pub(crate) fn finish(
        self,
        previous: Option<&Arc<Shape>>,
    ) -> (Arc<Shape>, Vec<RowPlan>, Vec<Held>) {
        (self.builder.finish_or(previous), self.rows, self.held)
    }
}

/// True when points of `input` can become points of `output`: the slots lie alike, and numbers stay what they are.
fn fits(input: &Metric, output: &Metric, fold: Fold, feed: Feed) -> bool {
    use crate::Kind;
    let same_slots = match (&input.kind, &output.kind) {
        (Kind::Gauge | Kind::Sum { .. }, Kind::Gauge | Kind::Sum { .. })
        | (Kind::ExponentialHistogram { .. }, Kind::ExponentialHistogram { .. }) => true,
        (
            Kind::Histogram { bounds: a, min_max: x, .. },
            Kind::Histogram { bounds: b, min_max: y, .. },
        ) => a.len() == b.len() && x == y,
        (Kind::Summary { quantiles: a }, Kind::Summary { quantiles: b }) => a.len() == b.len(),
        _ => false,
    };
    // Ragged buckets do not lie in slots, and a scaled or averaged integer is none.
    let copies = matches!(fold, Fold::Only | Fold::First) && feed.scale == 1.0;
    let foldable = copies
        || (output.number == Number::Double
            && !matches!(output.kind, Kind::ExponentialHistogram { .. }));
    same_slots
        && input.number == output.number
        && foldable
        && feed.scale.is_finite()
        && feed.scale != 0.0
}
