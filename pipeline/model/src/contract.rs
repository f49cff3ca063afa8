//! The contract: every metric that users may rely on, as one table.
//!
//! Names, types, units and labels are exact. HELP and TYPE of the exposition, label allow-lists, units for other
//! backends, the reference pages and the conformance test are all derived from [`CONTRACT`]. [`EXTENSIONS`] is the
//! same for the series that a component puts out beyond it when it is told to.

mod tables;

use std::sync::Arc;

use crate::{Bounds, Interner, Kind, Metric, Temporality};

pub use tables::{CONTRACT, EXTENSIONS};

/// Prefix of contract names unless configured.
pub const DEFAULT_PREFIX: &str = "baseten";

/// Type of a contract metric, in Prometheus' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContractType {
    /// Monotonic cumulative sum.
    Counter,
    /// Value that goes up and down.
    Gauge,
    /// Cumulative histogram.
    Histogram,
}

impl ContractType {
    /// `counter`, `gauge` or `histogram`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Labels that come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelGroup {
    /// `model_id`, `model_name`, `deployment_id`: always present.
    Model,
    /// `environment`, `rollout_phase`: only for deployments tied to an environment; omitted otherwise, never invented.
    Env,
    /// `status_code`, `is_async`.
    Request,
    /// `replica`.
    Replica,
    /// `replica`, `gpu`.
    Gpu,
    /// `_internal_pod_id`.
    Pod,
    /// `condition`: true, false or unknown.
    Condition,
}

impl LabelGroup {
    /// The label names of the group.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Model => &["model_id", "model_name", "deployment_id"],
            Self::Env => &["environment", "rollout_phase"],
            Self::Request => &["status_code", "is_async"],
            Self::Replica => &["replica"],
            Self::Gpu => &["replica", "gpu"],
            Self::Pod => &["_internal_pod_id"],
            Self::Condition => &["condition"],
        }
    }

    /// True when a series of the metric must have these labels.
    pub fn is_required(self) -> bool {
        self != Self::Env
    }
}

/// The values a label may take, where the contract closes the set; `None` for open sets.
pub fn label_values(label: &str) -> Option<&'static [&'static str]> {
    match label {
        "condition" => Some(&["true", "false", "unknown"]),
        "is_async" => Some(&["true", "false"]),
        "rollout_phase" => Some(&["promoting", "stable"]),
        _ => None,
    }
}

/// Labels attached to every engine-native (vLLM, SGLang) series, beside the series' intrinsic ones.
pub const ENGINE_LABELS: &[&str] = &["deployment_id", "replica"];

/// One metric of the contract, or beyond it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContractMetric {
    /// Name without prefix.
    pub name: &'static str,
    /// Type.
    pub kind: ContractType,
    /// UCUM unit. The name carries it only where it always did: `gpu_memory_used` is in MiB.
    pub unit: &'static str,
    /// Its labels, exactly.
    pub labels: &'static [LabelGroup],
    /// HELP text.
    pub help: &'static str,
    /// Finite bounds that this program's own histograms get; one carried over from an engine keeps the engine's.
    pub buckets: Option<&'static [f64]>,
    /// Which kind of source it comes from.
    pub source: &'static str,
    /// The graph that shows it; empty for what no graph shows.
    pub graph: &'static str,
}

impl ContractMetric {
    /// The contract, then what goes beyond it.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        CONTRACT.iter().chain(EXTENSIONS)
    }

    /// True for what the contract does not have: off unless a setting turns it on.
    pub fn is_extension(&self) -> bool {
        EXTENSIONS.iter().any(|extension| extension.name == self.name)
    }

    /// All label names that a series of it may have.
    pub fn label_names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.labels.iter().flat_map(|group| group.names().iter().copied())
    }

    /// Label names that every series of it must have.
    pub fn required_names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.labels
            .iter()
            .filter(|group| group.is_required())
            .flat_map(|group| group.names().iter().copied())
    }
}

/// The table with a prefix applied.
#[derive(Clone, Debug)]
pub struct Contract {
    prefix: String,
}

impl Contract {
    /// With the given prefix, without the underscore; an empty one leaves bare names.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}_") } }
    }

    /// The row for an exposed name, of the contract or of what goes beyond it; `None` for any other name.
    pub fn find(&self, name: &str) -> Option<&'static ContractMetric> {
        let bare = name.strip_prefix(self.prefix.as_str())?;
        ContractMetric::all().find(|metric| metric.name == bare)
    }

    /// The exposed name of a row.
    pub fn name(&self, metric: &ContractMetric) -> String {
        format!("{}{}", self.prefix, metric.name)
    }

    /// The row as a metric of the model. `bounds` replace the table's for histograms carried over from a source.
    pub fn metric(
        &self,
        metric: &ContractMetric,
        bounds: Option<Bounds>,
        interner: &Interner,
    ) -> Arc<Metric> {
        let kind = match metric.kind {
            ContractType::Counter => Kind::COUNTER,
            ContractType::Gauge => Kind::Gauge,
            ContractType::Histogram => Kind::Histogram {
                temporality: Temporality::Cumulative,
                bounds: bounds.unwrap_or_else(|| Bounds::new(metric.buckets.unwrap_or_default())),
                min_max: false,
            },
        };
        interner.metric(&Arc::new(Metric::new(&self.name(metric), metric.unit, metric.help, kind)))
    }
}

impl Default for Contract {
    fn default() -> Self {
        Self::new(DEFAULT_PREFIX)
    }
}
