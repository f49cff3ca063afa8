//! The contract: every metric that users may rely on, as one table.
//!
//! Names, types, units and labels are exact. HELP and TYPE of the exposition, label allow-lists, units for other
//! backends, the reference pages and the conformance test are all derived from [`CONTRACT`].

use std::sync::Arc;

use crate::{Bounds, Interner, Kind, Metric, Temporality};

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

/// One metric of the contract.
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
    /// The graph that shows it.
    pub graph: &'static str,
}

impl ContractMetric {
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

    /// The contract's row for an exposed name; `None` when the name is not of the contract.
    pub fn find(&self, name: &str) -> Option<&'static ContractMetric> {
        let bare = name.strip_prefix(self.prefix.as_str())?;
        CONTRACT.iter().find(|metric| metric.name == bare)
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

/// Six bounds a decade from 1 ms to an hour: each nests in an 18-a-decade logarithmic grid, so quantiles stay
/// comparable with stores that use one.
const SECONDS: &[f64] = &[
    0.001, 0.00147, 0.00215, 0.00316, 0.00464, 0.00681, 0.01, 0.0147, 0.0215, 0.0316, 0.0464,
    0.0681, 0.1, 0.147, 0.215, 0.316, 0.464, 0.681, 1.0, 1.47, 2.15, 3.16, 4.64, 6.81, 10.0, 14.7,
    21.5, 31.6, 46.4, 68.1, 100.0, 147.0, 215.0, 316.0, 464.0, 681.0, 1000.0, 1470.0, 2150.0,
    3600.0,
];

/// Powers of four from 64 B to 1 GiB.
const BYTES: &[f64] = &[
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262144.0,
    1048576.0,
    4194304.0,
    16777216.0,
    67108864.0,
    268435456.0,
    1073741824.0,
];

/// 1, 2, 5 up to two million: the series that vLLM uses.
const TOKENS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0,
    50000.0, 100000.0, 200000.0, 500000.0, 1000000.0, 2000000.0,
];

/// From a stalled stream to a small model alone on a GPU.
const TOKENS_PER_SECOND: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 75.0, 100.0,
    125.0, 150.0, 200.0, 300.0, 500.0, 1000.0,
];

/// Twentieths, with both ends told apart.
const RATIO: &[f64] = &[
    0.0, 0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75,
    0.8, 0.85, 0.9, 0.95, 0.99, 1.0,
];

/// Every metric of the contract.
pub const CONTRACT: &[ContractMetric] = &[
    ContractMetric {
        name: "inference_requests_total",
        kind: ContractType::Counter,
        unit: "{request}",
        labels: &[LabelGroup::Model, LabelGroup::Request, LabelGroup::Env],
        help: "Finished inference requests, sync and async. WebSocket: after close; gRPC: after the RPC ends.",
        buckets: None,
        source: "gateway",
        graph: "inference_volume",
    },
    ContractMetric {
        name: "end_to_end_response_time_seconds",
        kind: ContractType::Histogram,
        unit: "s",
        labels: &[LabelGroup::Model, LabelGroup::Request, LabelGroup::Env],
        help: "Whole response time including cold start, queueing and inference; excludes client network. WebSocket: open to close.",
        buckets: Some(SECONDS),
        source: "gateway",
        graph: "response_time",
    },
    ContractMetric {
        name: "container_cpu_usage_seconds_total",
        kind: ContractType::Counter,
        unit: "s",
        labels: &[LabelGroup::Model, LabelGroup::Replica, LabelGroup::Env],
        help: "Cumulative CPU time consumed by the model container.",
        buckets: None,
        source: "kubelet | cgroup",
        graph: "cpu_usage",
    },
    ContractMetric {
        name: "replicas_active",
        kind: ContractType::Gauge,
        unit: "{replica}",
        labels: &[LabelGroup::Model, LabelGroup::Env],
        help: "Replicas ready to serve requests.",
        buckets: None,
        source: "kubernetes",
        graph: "replicas",
    },
    ContractMetric {
        name: "replicas_starting",
        kind: ContractType::Gauge,
        unit: "{replica}",
        labels: &[LabelGroup::Model, LabelGroup::Env],
        help: "Replicas waiting for resources or loading the model.",
        buckets: None,
        source: "kubernetes",
        graph: "replicas",
    },
    ContractMetric {
        name: "container_restarts_total",
        kind: ContractType::Counter,
        unit: "{restart}",
        labels: &[LabelGroup::Model, LabelGroup::Env],
        help: "Restarts of the model container, summed over pods; never falls when a pod is deleted.",
        buckets: None,
        source: "kubernetes",
        graph: "restarts",
    },
    ContractMetric {
        name: "pod_readiness",
        kind: ContractType::Gauge,
        unit: "{pod}",
        labels: &[LabelGroup::Model, LabelGroup::Condition, LabelGroup::Env],
        help: "Pods by Kubernetes Ready condition; all three series are always present.",
        buckets: None,
        source: "kubernetes",
        graph: "traffic_ready_replicas",
    },
    ContractMetric {
        name: "container_cpu_memory_working_set_bytes",
        kind: ContractType::Gauge,
        unit: "By",
        labels: &[LabelGroup::Model, LabelGroup::Replica, LabelGroup::Env],
        help: "Working set memory of the model container.",
        buckets: None,
        source: "kubelet | cgroup",
        graph: "memory_usage",
    },
    ContractMetric {
        name: "request_size_bytes",
        kind: ContractType::Histogram,
        unit: "By",
        labels: &[LabelGroup::Model, LabelGroup::Request, LabelGroup::Env],
        help: "Request size; a proxy for input tokens. WebSocket: bytes received over the connection.",
        buckets: Some(BYTES),
        source: "gateway",
        graph: "request_size",
    },
    ContractMetric {
        name: "response_size_bytes",
        kind: ContractType::Histogram,
        unit: "By",
        labels: &[LabelGroup::Model, LabelGroup::Request, LabelGroup::Env],
        help: "Response size; a proxy for generated tokens. WebSocket: bytes sent over the connection.",
        buckets: Some(BYTES),
        source: "gateway",
        graph: "response_size",
    },
    ContractMetric {
        name: "time_to_first_byte_seconds",
        kind: ContractType::Histogram,
        unit: "s",
        labels: &[LabelGroup::Model, LabelGroup::Request, LabelGroup::Env],
        help: "Time to the first byte written, queueing and routing included; a proxy for TTFT.",
        buckets: Some(SECONDS),
        source: "gateway",
        graph: "response_time",
    },
    ContractMetric {
        name: "time_in_async_queue_seconds",
        kind: ContractType::Histogram,
        unit: "s",
        labels: &[LabelGroup::Model, LabelGroup::Env],
        help: "Time an async request waits in the queue before it is processed.",
        buckets: Some(SECONDS),
        source: "gateway",
        graph: "async_queue_time",
    },
    ContractMetric {
        name: "async_queue_size",
        kind: ContractType::Gauge,
        unit: "{request}",
        labels: &[LabelGroup::Model, LabelGroup::Env],
        help: "Queued async requests.",
        buckets: None,
        source: "gateway",
        graph: "async_queue_size",
    },
    ContractMetric {
        name: "async_webhook_requests_total",
        kind: ContractType::Counter,
        unit: "{request}",
        labels: &[LabelGroup::Model, LabelGroup::Env],
        help: "Webhook delivery requests sent for async inference; every attempt counts.",
        buckets: None,
        source: "gateway",
        graph: "webhook_requests",
    },
    ContractMetric {
        name: "async_webhook_latency_seconds",
        kind: ContractType::Histogram,
        unit: "s",
        labels: &[LabelGroup::Model, LabelGroup::Env],
        help: "Latency of one webhook delivery request.",
        buckets: Some(SECONDS),
        source: "gateway",
        graph: "webhook_latency",
    },
    ContractMetric {
        name: "gpu_memory_used",
        kind: ContractType::Gauge,
        unit: "MiBy",
        labels: &[LabelGroup::Model, LabelGroup::Gpu, LabelGroup::Env],
        help: "GPU memory used in MiB.",
        buckets: None,
        source: "nvml",
        graph: "gpu_memory",
    },
    ContractMetric {
        name: "gpu_utilization",
        kind: ContractType::Gauge,
        unit: "%",
        labels: &[LabelGroup::Model, LabelGroup::Gpu, LabelGroup::Env],
        help: "Percentage of time, 0 to 100, a kernel occupied the GPU.",
        buckets: None,
        source: "nvml",
        graph: "gpu_usage",
    },
    ContractMetric {
        name: "ongoing_websocket_connections",
        kind: ContractType::Gauge,
        unit: "{connection}",
        labels: &[LabelGroup::Model, LabelGroup::Env],
        help: "Open WebSocket connections.",
        buckets: None,
        source: "gateway",
        graph: "websocket_connections",
    },
    ContractMetric {
        name: "concurrent_requests",
        kind: ContractType::Gauge,
        unit: "{request}",
        labels: &[LabelGroup::Model, LabelGroup::Env],
        help: "In-flight sync requests: being served plus waiting. Async requests are not included. The signal that drives autoscaling.",
        buckets: None,
        source: "gateway",
        graph: "concurrent_requests",
    },
    ContractMetric {
        name: "llm_input_tokens_total",
        kind: ContractType::Counter,
        unit: "{token}",
        labels: &[LabelGroup::Model, LabelGroup::Pod, LabelGroup::Env],
        help: "Input tokens processed.",
        buckets: None,
        source: "engine",
        graph: "llm_input_tokens",
    },
    ContractMetric {
        name: "llm_output_tokens_total",
        kind: ContractType::Counter,
        unit: "{token}",
        labels: &[LabelGroup::Model, LabelGroup::Pod, LabelGroup::Env],
        help: "Output tokens generated.",
        buckets: None,
        source: "engine",
        graph: "llm_output_tokens",
    },
    ContractMetric {
        name: "llm_input_tokens_per_request",
        kind: ContractType::Histogram,
        unit: "{token}",
        labels: &[LabelGroup::Model, LabelGroup::Pod, LabelGroup::Env],
        help: "Input tokens per request.",
        buckets: Some(TOKENS),
        source: "engine",
        graph: "llm_input_tokens_per_request",
    },
    ContractMetric {
        name: "llm_output_tokens_per_request",
        kind: ContractType::Histogram,
        unit: "{token}",
        labels: &[LabelGroup::Model, LabelGroup::Pod, LabelGroup::Env],
        help: "Output tokens per request.",
        buckets: Some(TOKENS),
        source: "engine",
        graph: "llm_output_tokens_per_request",
    },
    ContractMetric {
        name: "llm_tokens_per_second_per_request",
        kind: ContractType::Histogram,
        unit: "{token}/s",
        labels: &[LabelGroup::Model, LabelGroup::Pod, LabelGroup::Env],
        help: "Tokens per second per request.",
        buckets: Some(TOKENS_PER_SECOND),
        source: "engine",
        graph: "llm_tokens_per_second_per_request",
    },
    ContractMetric {
        name: "llm_kv_cache_hit_rate",
        kind: ContractType::Histogram,
        unit: "1",
        labels: &[LabelGroup::Model, LabelGroup::Pod, LabelGroup::Env],
        help: "KV cache hit rates observed by workers, 0 to 1.",
        buckets: Some(RATIO),
        source: "engine",
        graph: "llm_kv_cache_hit_rate",
    },
    ContractMetric {
        name: "llm_spec_decode_num_accepted_tokens_total",
        kind: ContractType::Counter,
        unit: "{token}",
        labels: &[LabelGroup::Model, LabelGroup::Pod, LabelGroup::Env],
        help: "Draft tokens accepted by speculative decoding. Present only while speculative decoding is active.",
        buckets: None,
        source: "engine",
        graph: "llm_speculation",
    },
    ContractMetric {
        name: "llm_spec_decode_num_draft_tokens_total",
        kind: ContractType::Counter,
        unit: "{token}",
        labels: &[LabelGroup::Model, LabelGroup::Pod, LabelGroup::Env],
        help: "Draft tokens proposed by speculative decoding. Present only while speculative decoding is active.",
        buckets: None,
        source: "engine",
        graph: "llm_speculation",
    },
    ContractMetric {
        name: "llm_in_flight_tokens",
        kind: ContractType::Gauge,
        unit: "{token}",
        labels: &[LabelGroup::Model, LabelGroup::Pod, LabelGroup::Env],
        help: "Tokens in flight now: worker load plus tokens queued in the router.",
        buckets: None,
        source: "engine + gateway",
        graph: "llm_in_flight_tokens",
    },
    ContractMetric {
        name: "llm_avg_in_flight_tokens",
        kind: ContractType::Gauge,
        unit: "{token}",
        labels: &[LabelGroup::Model, LabelGroup::Pod, LabelGroup::Env],
        help: "Trailing average of in-flight tokens over the deployment's autoscaling_window.",
        buckets: None,
        source: "derived from llm_in_flight_tokens",
        graph: "llm_in_flight_tokens",
    },
    ContractMetric {
        name: "llm_num_requests",
        kind: ContractType::Gauge,
        unit: "{request}",
        labels: &[LabelGroup::Model, LabelGroup::Pod, LabelGroup::Env],
        help: "Concurrent in-flight requests across the workers.",
        buckets: None,
        source: "engine",
        graph: "llm_num_requests",
    },
];
