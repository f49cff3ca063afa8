//! What a series measures: name, unit, description, kind, and how many value slots a point of it takes.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::Str;

/// Ascending finite upper bounds of histogram buckets (or the quantiles of a summary, 0 to 1).
///
/// The bucket to +Inf is not listed: its cumulative count is the point's count.
#[derive(Clone, Debug)]
pub struct Bounds(Arc<[f64]>);

impl Bounds {
    /// Takes bounds as they are; the caller has them ascending and finite.
    pub fn new(bounds: &[f64]) -> Self {
        debug_assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "bounds ascend");
        Self(Arc::from(bounds))
    }

    /// The bounds.
    pub fn as_slice(&self) -> &[f64] {
        &self.0
    }

    /// How many finite bounds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when all observations fall into the one bucket to +Inf.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Bounds {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.len() == other.len()
                && self.0.iter().zip(other.0.iter()).all(|(a, b)| a.to_bits() == b.to_bits()))
    }
}

impl Eq for Bounds {}

impl Hash for Bounds {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|bound| bound.to_bits().hash(state));
    }
}

/// Whether a sum or histogram counts since its start or since the last point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Temporality {
    /// Since the start time; what Prometheus has.
    Cumulative,
    /// Since the previous point.
    Delta,
}

/// What kind of points the series has, and with them the layout of its slots.
///
/// | kind | slots |
/// |---|---|
/// | `Gauge`, `Sum` | value |
/// | `Histogram` | sum, count, \[min, max,\] cumulative count per finite bound |
/// | `ExponentialHistogram` | sum, count; the rest is in [`crate::Extras`] |
/// | `Summary` | sum, count, value per quantile |
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A value that is added up; `monotonic` is Prometheus' counter.
    Sum {
        /// True when it never falls but at a reset.
        monotonic: bool,
        /// Since start or since the last point.
        temporality: Temporality,
    },
    /// A histogram with explicit bounds. Counts are doubles: exact up to 2^53.
    Histogram {
        /// Since start or since the last point.
        temporality: Temporality,
        /// Finite upper bounds.
        bounds: Bounds,
        /// True when the point has slots for its smallest and largest observation (OTLP).
        min_max: bool,
    },
    /// OpenTelemetry's exponential histogram, Prometheus' native histogram.
    ExponentialHistogram {
        /// Since start or since the last point.
        temporality: Temporality,
    },
    /// Quantiles computed at the source.
    Summary {
        /// The quantiles, 0 to 1.
        quantiles: Bounds,
    },
}

impl Kind {
    /// Prometheus' counter.
    pub const COUNTER: Self = Self::Sum { monotonic: true, temporality: Temporality::Cumulative };

    /// A cumulative classic histogram as Prometheus has it.
    pub fn histogram(bounds: Bounds) -> Self {
        Self::Histogram { temporality: Temporality::Cumulative, bounds, min_max: false }
    }

    /// Value slots that one point takes.
    pub fn slots(&self) -> u32 {
        let slots = match self {
            Self::Gauge | Self::Sum { .. } => 1,
            Self::Histogram { bounds, min_max, .. } => 2 + 2 * usize::from(*min_max) + bounds.len(),
            Self::ExponentialHistogram { .. } => 2,
            Self::Summary { quantiles } => 2 + quantiles.len(),
        };
        u32::try_from(slots).unwrap_or(u32::MAX)
    }

    /// The slot, within a point's run, of the first bucket (or quantile).
    pub fn first_bucket(&self) -> usize {
        if matches!(self, Self::Histogram { min_max: true, .. }) { 4 } else { 2 }
    }

    /// True for monotonic sums and for histograms: what must not fall but at a reset.
    pub fn is_cumulative_monotonic(&self) -> bool {
        matches!(
            self,
            Self::Sum { monotonic: true, temporality: Temporality::Cumulative }
                | Self::Histogram { temporality: Temporality::Cumulative, .. }
                | Self::ExponentialHistogram { temporality: Temporality::Cumulative }
        )
    }
}

/// How the slot of a gauge or sum is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Number {
    /// IEEE double.
    #[default]
    Double,
    /// Signed 64-bit integer, kept exact (OTLP `as_int`).
    Int,
}

/// What the source called the metric, where [`Kind`] alone would lose it on the way back to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Hint {
    /// Nothing beyond the kind.
    #[default]
    None,
    /// No `# TYPE` was given: `untyped` in text 0.0.4, `unknown` in OpenMetrics.
    Unknown,
    /// OpenMetrics `info`.
    Info,
    /// OpenMetrics `stateset`.
    StateSet,
    /// OpenMetrics `gaugehistogram`.
    GaugeHistogram,
}

/// A metric: all that its series share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name. Prometheus counters keep their `_total`; histograms are named without `_bucket`, `_sum`, `_count`.
    pub name: Str,
    /// UCUM unit (`s`, `By`, `{token}`); empty when unknown.
    pub unit: Str,
    /// HELP, description.
    pub description: Str,
    /// Kind of points.
    pub kind: Kind,
    /// How number slots are read; histograms and summaries are always [`Number::Double`].
    pub number: Number,
    /// The source's own type word where needed.
    pub hint: Hint,
}

impl Hash for Metric {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Metrics of one name mostly differ in their slots if at all; texts and bounds are long and left to `eq`.
        self.name.hash(state);
        self.kind.slots().hash(state);
    }
}

impl Metric {
    /// A metric with double values and no hint.
    pub fn new(name: &str, unit: &str, description: &str, kind: Kind) -> Self {
        Self {
            name: name.into(),
            unit: unit.into(),
            description: description.into(),
            kind,
            number: Number::Double,
            hint: Hint::None,
        }
    }
}
