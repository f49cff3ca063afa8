//! Prometheus remote write, versions 1.0 and 2.0: batches to requests. Sans-IO.
//!
//! The one idea: the labels of a series are known before its values are. Each distinct label is a number in a
//! dictionary that all sources share, a series is a few numbers per shape, and a sample costs the copying of its labels'
//! bytes (version 1) or of references to them (version 2) and of its value. Since it is known where a label was last
//! written, Snappy's block format is written in the same pass.
//!
//! Not here: connections, retries, negotiation (the exporter), and temporality (delta points are left out and counted).
//!
//! Specifications: <https://prometheus.io/docs/specs/prw/remote_write_spec/> (1.0),
//! <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/> (2.0-rc.4). What becomes of names, labels, resources and
//! scopes: <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>.

pub mod decode;
mod dictionary;
mod encoder;
mod infos;
mod memo;
mod put;
mod rules;
mod run;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod write;

pub use encoder::Encoder;
pub use infos::TargetInfos;
pub use rules::{BucketRule, Glob};

use std::sync::Arc;

use pipeline_model::Contract;

use crate::prometheus::Naming;

/// Which message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

/// What bytes come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// The message.
    pub version: Version,
    /// In Snappy's block format; else as it is.
    pub snappy: bool,
}

/// What is said, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// What becomes of OpenTelemetry's names.
    pub naming: Naming,
    /// `otel_scope_name` and the like on series of OpenTelemetry's scopes.
    pub scope_labels: bool,
    /// A series `target_info` per job and instance of OpenTelemetry's resources.
    pub target_info: bool,
    /// Attributes of resources that become labels of their series.
    pub promote: Vec<String>,
    /// Labels of every series that has none of the name.
    pub external_labels: Vec<(String, String)>,
    /// Buckets that are sent; the first rule that fits a metric counts.
    pub buckets: Vec<BucketRule>,
    /// Exponential histograms go out as native ones; else they are left out.
    pub native_histograms: bool,
    /// Metrics that keep their names and labels, wherever they come from.
    pub contract: Arc<Contract>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            naming: Naming::default(),
            scope_labels: true,
            target_info: true,
            promote: Vec::new(),
            external_labels: Vec::new(),
            buckets: Vec::new(),
            native_histograms: true,
            contract: Arc::default(),
        }
    }
}

/// What is in a request, and which points are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Float samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Points that are not after what was sent of their series.
    pub late: u64,
    /// Delta points.
    pub delta: u64,
    /// Points of a series that another row of the source is already.
    pub duplicate: u64,
    /// Exponential points that are too coarse for a native histogram, or are not to be sent.
    pub native: u64,
}

impl Written {
    /// True when there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.samples + self.histograms == 0
    }
}
