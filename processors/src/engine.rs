//! Which metrics an inference engine or its router gives under its own names, and which a receiver adds.

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

/// True for what a receiver says about a target itself.
pub(crate) fn is_health(metric: &str) -> bool {
    metric == "up" || metric.starts_with("scrape_")
}

/// What a scraped label's name begins with where the target has a label of that name.
const EXPORTED: &str = "exported_";

/// The name that a page gave a label, when `name` says that the label had to give way to the target's.
pub(crate) fn exported(name: &str) -> Option<&str> {
    name.strip_prefix(EXPORTED)
}
