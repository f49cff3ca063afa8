//! OpenTelemetry's GenAI server metrics beside the engines' own (`semantics = "otel"`).
//!
//! The conventions define three histograms on the server side, all in seconds, and nothing for caches, queues or
//! tokens (<https://github.com/open-telemetry/semantic-conventions-genai>, docs/gen-ai/gen-ai-metrics.md, status
//! development). Both engines measure all three the same way; `time_per_output_token` only since vLLM 0.11.0 and
//! SGLang 0.5.22, and older releases do without: their inter-token latency is another quantity. Bucket bounds are
//! the engine's.

use std::borrow::Cow;

use pipeline_model::{Label, Labels, Value};

use super::config::Config;
use super::detect::{Source, Verdict};
use super::map::Output;
use super::page::Page;

/// Engine metric (both engines agree on the names) and convention.
const NAMES: [(&str, &str); 3] = [
    ("e2e_request_latency_seconds", "gen_ai.server.request.duration"),
    ("time_to_first_token_seconds", "gen_ai.server.time_to_first_token"),
    ("request_time_per_output_token_seconds", "gen_ai.server.time_per_output_token"),
];

/// Adds them at the end of `outputs`.
pub(crate) fn add(
    page: &Page<'_>,
    verdict: &Verdict,
    config: &Config,
    outputs: &mut Vec<Output<'_>>,
) {
    let Some(engine) = verdict.engine() else { return };
    // Neither is a registered value of `gen_ai.provider.name`; the attribute allows others.
    let provider = if verdict.source == Source::Sglang { "sglang" } else { "vllm" };
    let model = |output: &Output<'_>| {
        let (first, _) = output.feeds.first()?;
        page.series[*first].labels.get("model_name").cloned()
    };
    let mut added = Vec::new();
    for (native, convention) in NAMES {
        let same = |output: &&Output<'_>| output.name.strip_prefix(engine.prefix) == Some(native);
        for output in outputs.iter().filter(same) {
            let mut labels = vec![
                label("gen_ai.operation.name", config.otel_operation_name.as_str().into()),
                label("gen_ai.provider.name", provider.into()),
            ];
            labels.extend(model(output).map(|model| label("gen_ai.request.model", model)));
            labels.extend(output.labels.iter().filter(|l| l.name != "model_name").cloned());
            added.push(Output {
                name: Cow::Borrowed(convention),
                labels: Labels::new(labels),
                unit: Some("s"),
                ..output.clone()
            });
        }
    }
    outputs.append(&mut added);
}

fn label(name: &str, value: Value) -> Label {
    Label { name: name.into(), value }
}
