//! Families: what type a series' family has, and whether two types can stand under one `# TYPE`.

use pipeline_model::{Hint, Kind, Metric, Temporality};

use crate::scrape::unit::ucum;

/// The type on a `# TYPE` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Unknown,
    Info,
    StateSet,
    GaugeHistogram,
}

impl Type {
    /// The type of `metric`'s family; `None` when it cannot be exposed: its points are deltas.
    pub(crate) fn of(metric: &Metric) -> Option<Self> {
        Some(match (&metric.kind, metric.hint) {
            (
                Kind::Sum { temporality: Temporality::Delta, .. }
                | Kind::Histogram { temporality: Temporality::Delta, .. }
                | Kind::ExponentialHistogram { temporality: Temporality::Delta },
                _,
            ) => return None,
            (Kind::Sum { monotonic: true, .. }, _) => Self::Counter,
            (Kind::Histogram { .. } | Kind::ExponentialHistogram { .. }, Hint::GaugeHistogram) => {
                Self::GaugeHistogram
            }
            (Kind::Histogram { .. } | Kind::ExponentialHistogram { .. }, _) => Self::Histogram,
            (Kind::Summary { .. }, _) => Self::Summary,
            (Kind::Gauge | Kind::Sum { .. }, Hint::Unknown) => Self::Unknown,
            (Kind::Gauge | Kind::Sum { .. }, Hint::Info) => Self::Info,
            (Kind::Gauge | Kind::Sum { .. }, Hint::StateSet) => Self::StateSet,
            (Kind::Gauge | Kind::Sum { .. }, _) => Self::Gauge,
        })
    }

    /// The type that `metric`'s family has once its deltas are made cumulative.
    pub(crate) fn of_delta(metric: &Metric) -> Self {
        match metric.kind {
            Kind::Sum { monotonic: true, .. } => Self::Counter,
            Kind::Histogram { .. } | Kind::ExponentialHistogram { .. } => Self::Histogram,
            Kind::Summary { .. } => Self::Summary,
            Kind::Gauge | Kind::Sum { .. } => Self::Gauge,
        }
    }

    /// True when points of `other` can be shown in a family of this type: equal, or both plain numbers whose
    /// difference is only how much their source said about them.
    pub(crate) fn takes(self, other: Self) -> bool {
        let like_gauge =
            |ty| matches!(ty, Self::Gauge | Self::Unknown | Self::Info | Self::StateSet);
        self == other
            || (like_gauge(self) && like_gauge(other))
            || matches!(
                (self, other),
                (Self::Counter, Self::Unknown) | (Self::Unknown, Self::Counter)
            )
    }

    /// What OpenMetrics has at the end of the samples' names and not of the family's.
    pub(crate) fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Counter => Some("_total"),
            Self::Info => Some("_info"),
            _ => None,
        }
    }

    /// What the names of a family's samples end in, beside the plain name: nobody else may have such a name on the page.
    pub(crate) fn suffixes(self, open_metrics: bool) -> &'static [&'static str] {
        match (self, open_metrics) {
            (Self::Histogram | Self::GaugeHistogram, false) => &["_bucket", "_sum", "_count"],
            (Self::Summary, false) => &["_sum", "_count"],
            (Self::Counter, true) => &["_total", "_created"],
            (Self::Histogram, true) => &["_bucket", "_sum", "_count", "_created"],
            (Self::GaugeHistogram, true) => &["_bucket", "_gsum", "_gcount"],
            (Self::Summary, true) => &["_sum", "_count", "_created"],
            (Self::Info, true) => &["_info"],
            (Self::Gauge | Self::Unknown | Self::StateSet, _)
            | (Self::Counter | Self::Info, false) => &[],
        }
    }

    /// The word in text 0.0.4, which knows five types.
    pub(crate) fn text_word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge | Self::Info | Self::StateSet => "gauge",
            Self::Histogram | Self::GaugeHistogram => "histogram",
            Self::Summary => "summary",
            Self::Unknown => "untyped",
        }
    }

    /// The word in OpenMetrics.
    pub(crate) fn open_metrics_word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Unknown => "unknown",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::GaugeHistogram => "gaugehistogram",
        }
    }
}

/// The word for `unit` (UCUM) on a `# UNIT` line, which may only stand where the family's name ends in that word.
pub(crate) fn unit_word<'a>(family: &'a str, unit: &str) -> Option<&'a str> {
    let (_, word) = family.rsplit_once('_')?;
    (!unit.is_empty() && ucum(word) == unit).then_some(word)
}
