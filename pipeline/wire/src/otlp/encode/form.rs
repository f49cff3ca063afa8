//! [`Form`]: what of a metric stands around its points.

use pipeline_model::{Bounds, Hint, Kind, Metric, Number, Temporality, Value};

use super::attributes::pair;
use super::back::Back;
use super::{Limits, Options};

/// Tags of the attributes of a point: one for each kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attributes {
    /// `NumberDataPoint` and `SummaryDataPoint`.
    Number,
    /// `HistogramDataPoint`.
    Histogram,
    /// `ExponentialHistogramDataPoint`.
    Exponential,
}

impl Attributes {
    /// All, in the order of [`super::memo::Group::attributes`].
    pub(super) const ALL: [Self; 3] = [Self::Number, Self::Histogram, Self::Exponential];

    /// The tag.
    pub(super) fn tag(self) -> u8 {
        match self {
            Self::Number => 0x3a,
            Self::Histogram => 0x4a,
            Self::Exponential => 0x0a,
        }
    }

    /// Those of a kind of metric.
    pub(super) fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Gauge | Kind::Sum { .. } | Kind::Summary { .. } => Self::Number,
            Kind::Histogram { .. } => Self::Histogram,
            Kind::ExponentialHistogram { .. } => Self::Exponential,
        }
    }
}

/// How points of a metric are written.
#[derive(Debug)]
pub(super) enum Points {
    /// `NumberDataPoint`s.
    Number { int: bool },
    /// `HistogramDataPoint`s; the bounds as they stand in each point.
    Histogram { finite: usize, bounds: Box<[u8]>, min_max: bool },
    /// `ExponentialHistogramDataPoint`s.
    Exponential,
    /// `SummaryDataPoint`s.
    Summary { quantiles: Bounds },
    /// Not at all: delta of a sum that goes up and down.
    LeftOut,
}

/// A metric less its points.
#[derive(Debug)]
pub(super) struct Form {
    /// Name, description, unit and metadata.
    pub(super) head: Box<[u8]>,
    /// Tag of the message with the points.
    pub(super) tag: u8,
    /// What that message says beside points: temporality, monotonicity.
    pub(super) after: Box<[u8]>,
    pub(super) points: Points,
    pub(super) attributes: Attributes,
}

impl Form {
    pub(super) fn new(metric: &Metric, options: &Options, scratch: &mut Back) -> Self {
        scratch.clear();
        if let Some(word) = type_word(metric.hint) {
            // OpenTelemetry's Prometheus compatibility page, "Metric Metadata".
            pair(scratch, 0x62, "prometheus.type", &Value::from(word), &Limits::NONE);
        }
        scratch.text_field(0x1a, &metric.unit);
        scratch.text_field(0x12, &metric.description);
        scratch.text_field(0x0a, &metric.name);
        let head = scratch.written().into();
        scratch.clear();
        let (tag, points) = match &metric.kind {
            Kind::Gauge => (0x2a, Points::Number { int: metric.number == Number::Int }),
            Kind::Sum { monotonic, temporality } => {
                scratch.varint_field(0x18, u64::from(*monotonic));
                aggregation(scratch, *temporality);
                let up_down_delta = !monotonic && *temporality == Temporality::Delta;
                let int = metric.number == Number::Int;
                let left_out = up_down_delta && options.no_up_down_deltas;
                (0x3a, if left_out { Points::LeftOut } else { Points::Number { int } })
            }
            Kind::Histogram { temporality, bounds, min_max } => {
                let packed: Vec<u8> =
                    bounds.as_slice().iter().flat_map(|b| b.to_le_bytes()).collect();
                if !packed.is_empty() {
                    scratch.field(0x3a, &packed);
                }
                let packed = scratch.written().into();
                scratch.clear();
                aggregation(scratch, *temporality);
                let (finite, min_max) = (bounds.len(), *min_max);
                (0x4a, Points::Histogram { finite, bounds: packed, min_max })
            }
            Kind::ExponentialHistogram { temporality } => {
                aggregation(scratch, *temporality);
                (0x52, Points::Exponential)
            }
            Kind::Summary { quantiles } => (0x5a, Points::Summary { quantiles: quantiles.clone() }),
        };
        let attributes = Attributes::of(&metric.kind);
        Self { head, tag, after: scratch.written().into(), points, attributes }
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let bounds =
            if let Points::Histogram { bounds, .. } = &self.points { bounds.len() } else { 0 };
        size_of::<Self>() + self.head.len() + self.after.len() + bounds
    }
}

fn aggregation(back: &mut Back, temporality: Temporality) {
    back.varint_field(
        0x10,
        match temporality {
            Temporality::Delta => 1,
            Temporality::Cumulative => 2,
        },
    );
}

/// Prometheus' word for what the kind alone does not say.
fn type_word(hint: Hint) -> Option<&'static str> {
    match hint {
        Hint::None => None,
        Hint::Unknown => Some("unknown"),
        Hint::Info => Some("info"),
        Hint::StateSet => Some("stateset"),
        Hint::GaugeHistogram => Some("gaugehistogram"),
    }
}
