//! What users write under `[processors.normalize]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Brings the metrics of every vLLM and SGLang release onto the newest release's names, kinds and units, and folds
/// parallel ranks into one series.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `native`: the engines' own names. `otel`: beside them the three server metrics that OpenTelemetry's GenAI
    /// conventions define, `gen_ai.server.request.duration`, `gen_ai.server.time_to_first_token` and
    /// `gen_ai.server.time_per_output_token`.
    pub semantics: Semantics,
    /// What happens to metrics with an engine's prefix that no known release has: `pass` (under their own name, as
    /// they are) or `drop`. Either way they are counted by name.
    pub unknown: PassOrDrop,
    /// What happens to `python_*`, the Python runtime's own metrics, on engines' pages. `process_*` and `http_*`
    /// always pass.
    pub runtime_metrics: PassOrDrop,
    /// Engine labels to keep that would be folded away or removed, for instance `engine` and `dp_rank` for one
    /// series per data-parallel rank, or `model_name`, `is_streaming`, `priority`.
    pub keep_labels: Vec<String>,
    /// `gen_ai.operation.name` of the metrics that `semantics = "otel"` adds: the convention requires it and an
    /// engine's page does not tell it.
    pub otel_operation_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            semantics: Semantics::Native,
            unknown: PassOrDrop::Pass,
            runtime_metrics: PassOrDrop::Drop,
            keep_labels: Vec::new(),
            otel_operation_name: "chat".to_owned(),
        }
    }
}

/// Which vocabularies to put out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Semantics {
    /// The engines' own names.
    Native,
    /// OpenTelemetry's names beside them.
    Otel,
}

/// Whether a class of metrics goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PassOrDrop {
    /// It does.
    Pass,
    /// It does not.
    Drop,
}
