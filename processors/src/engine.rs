//! Which metrics an inference engine or its router gives under its own names.

/// How such names begin: vLLM and its router, SGLang and its router, either behind Ray, and OpenTelemetry's names.
const PREFIXES: [&str; 11] = [
    "vllm:",
    "vllm_",
    "sglang:",
    "sglang_",
    "ray_vllm_",
    "gen_ai.",
    "gen_ai_",
    "sgl_router_",
    "sgl_tokenizer_",
    "smg_",
    "router_mesh_",
];

/// True for a metric of an engine or its router.
pub(crate) fn is_engine(metric: &str) -> bool {
    PREFIXES.iter().any(|prefix| metric.starts_with(prefix))
}
