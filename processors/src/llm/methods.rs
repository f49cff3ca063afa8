//! What is measured how: the table behind the reference page, one row per metric, engine and method.

/// One way to measure one metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Name of the metric without prefix.
    pub metric: &'static str,
    /// `vllm` or `sglang`.
    pub engine: &'static str,
    /// Releases that are measured this way.
    pub releases: &'static str,
    /// Its name in self telemetry (`inferometer_llm_method`); empty where there is but one.
    pub method: &'static str,
    /// The formula, in the engine's newest names without prefix. `d(x)` is the increase since the last page.
    pub formula: &'static str,
    /// How good it is, and where it ends.
    pub quality: &'static str,
}

const fn vllm(
    metric: &'static str,
    releases: &'static str,
    method: &'static str,
    formula: &'static str,
    quality: &'static str,
) -> Method {
    Method { metric, engine: "vllm", releases, method, formula, quality }
}

const fn sglang(
    metric: &'static str,
    releases: &'static str,
    method: &'static str,
    formula: &'static str,
    quality: &'static str,
) -> Method {
    Method { engine: "sglang", ..vllm(metric, releases, method, formula, quality) }
}

const INPUT: &str = "llm_input_tokens_total";
const OUTPUT: &str = "llm_output_tokens_total";
const INPUT_PER_REQUEST: &str = "llm_input_tokens_per_request";
const OUTPUT_PER_REQUEST: &str = "llm_output_tokens_per_request";
const SPEED: &str = "llm_tokens_per_second_per_request";
const HIT_RATE: &str = "llm_kv_cache_hit_rate";
const ACCEPTED: &str = "llm_spec_decode_num_accepted_tokens_total";
const DRAFTED: &str = "llm_spec_decode_num_draft_tokens_total";
const IN_FLIGHT: &str = "llm_in_flight_tokens";
const AVERAGE: &str = "llm_avg_in_flight_tokens";
const REQUESTS: &str = "llm_num_requests";

const EXACT_BUCKETS: &str = "exact, with the engine's own buckets";
const MEAN_ONLY: &str = "sum and count, so the mean, are the engine's; the distribution is unknown and no bucket is invented";
const MEAN_LENGTH: &str =
    "num_requests_running × (mean of request_prompt_tokens + mean of request_generation_tokens)";
const MEAN_LENGTH_QUALITY: &str = "estimate: requests that run are taken to be as long as those that finished; absent until one has finished";

/// Every method, in the order of the contract.
pub fn methods() -> &'static [Method] {
    METHODS
}

const METHODS: &[Method] = &[
    vllm(
        INPUT,
        "0.3.3 on",
        "",
        "prompt_tokens_total",
        "exact, cached tokens included; counted when a prefill completes",
    ),
    sglang(
        INPUT,
        "0.3.5.post1 on",
        "",
        "prompt_tokens_total",
        "exact, cached tokens included; counted when a request finishes, so it lags by the generation",
    ),
    vllm(OUTPUT, "0.3.3 on", "", "generation_tokens_total", "exact, counted every step"),
    sglang(
        OUTPUT,
        "0.3.5.post1 on",
        "",
        "generation_tokens_total",
        "exact, counted when a request finishes: a rate over a few seconds is in bursts",
    ),
    vllm(INPUT_PER_REQUEST, "0.4.2 on", "histogram", "request_prompt_tokens", EXACT_BUCKETS),
    vllm(
        INPUT_PER_REQUEST,
        "0.3.3 to 0.4.1",
        "mean",
        "sum prompt_tokens_total, count of e2e_request_latency_seconds",
        MEAN_ONLY,
    ),
    sglang(
        INPUT_PER_REQUEST,
        "0.4.6.post4 on; to 0.5.10.post1 only with --collect-tokens-histogram",
        "histogram",
        "prompt_tokens_histogram",
        EXACT_BUCKETS,
    ),
    sglang(
        INPUT_PER_REQUEST,
        "without that histogram",
        "mean",
        "sum prompt_tokens_total, count num_requests_total (before 0.4.1.post6: of e2e_request_latency_seconds)",
        MEAN_ONLY,
    ),
    vllm(OUTPUT_PER_REQUEST, "0.4.2 on", "histogram", "request_generation_tokens", EXACT_BUCKETS),
    vllm(
        OUTPUT_PER_REQUEST,
        "0.3.3 to 0.4.1",
        "mean",
        "sum generation_tokens_total, count of e2e_request_latency_seconds",
        MEAN_ONLY,
    ),
    sglang(
        OUTPUT_PER_REQUEST,
        "0.4.6.post4 on; to 0.5.10.post1 only with --collect-tokens-histogram",
        "histogram",
        "generation_tokens_histogram",
        EXACT_BUCKETS,
    ),
    sglang(
        OUTPUT_PER_REQUEST,
        "without that histogram",
        "mean",
        "sum generation_tokens_total, count num_requests_total (before 0.4.1.post6: of e2e_request_latency_seconds)",
        MEAN_ONLY,
    ),
    vllm(
        SPEED,
        "0.11.0 on",
        "time_per_output_token",
        "request_time_per_output_token_seconds, inverted: speeds up to 1/b = count − times up to b",
        "counts exact but for times equal to a bound; the sum is an estimate from the buckets and the total of the times, exact for a lone request; the fastest bucket begins at 100/s; requests of one token have no speed",
    ),
    vllm(
        SPEED,
        "0.3.3 to 0.10.2, no speculation",
        "inter_token_latency",
        "inter_token_latency_seconds, inverted likewise",
        "a distribution over tokens, not requests: long answers weigh more",
    ),
    vllm(
        SPEED,
        "to 0.10.2, with speculation",
        "decode_time",
        "(d(generation_tokens_total) − d(requests finished)) / d(sum of inter_token_latency_seconds), once per finished request",
        "estimate: all requests that finish between two pages have one speed, that of all tokens in that time",
    ),
    vllm(
        SPEED,
        "without any of these histograms",
        "interval",
        "d(generation_tokens_total) / ∫ num_requests_running dt, once per finished request",
        "estimate: all requests between two pages have one speed, and time to the first token counts as running",
    ),
    sglang(
        SPEED,
        "0.5.22 on",
        "time_per_output_token",
        "request_time_per_output_token_seconds, inverted: speeds up to 1/b = count − times up to b",
        "counts exact but for times equal to a bound; the sum is an estimate from the buckets and the total of the times, exact for a lone request; the fastest bucket begins at 500/s; requests of one token have no speed",
    ),
    sglang(
        SPEED,
        "0.3.5.post1 to 0.5.21",
        "inter_token_latency",
        "inter_token_latency_seconds, inverted likewise",
        "a distribution over tokens, not requests: long answers weigh more",
    ),
    vllm(
        HIT_RATE,
        "0.7.3 on (V1)",
        "prefix_cache",
        "(d(prefix_cache_hits_total) + d(external_prefix_cache_hits_total)) / d(prefix_cache_queries_total), per engine",
        "exact per interval, counted at admission; how many observations there are depends on the scrape interval",
    ),
    vllm(
        HIT_RATE,
        "0.5.5 to 0.9.0.1 (V0)",
        "hit_rate_gauge",
        "gpu_prefix_cache_hit_rate, once per page with new prompts",
        "the gauge averages over the whole life of the process and hardly moves; -1 (caching off) is no observation",
    ),
    sglang(
        HIT_RATE,
        "0.5.18 on",
        "prefill_tokens",
        "prefill_effective_tokens_total: d(device_hit + host_hit + storage_hit) / d(those + input), per rank",
        "exact per interval, counted at prefill",
    ),
    sglang(
        HIT_RATE,
        "0.5.7 to 0.5.17",
        "realtime_tokens",
        "realtime_tokens_total: d(prefill_cache) / d(prefill_cache + prefill_compute), per rank",
        "retracted requests count again",
    ),
    sglang(
        HIT_RATE,
        "0.4.3.post4 to 0.5.6",
        "cached_tokens",
        "d(cached_tokens_total) / d(prompt_tokens_total)",
        "counted when a request finishes",
    ),
    sglang(
        HIT_RATE,
        "to 0.4.3.post3",
        "",
        "not available",
        "the gauge of these releases says nothing about an interval",
    ),
    vllm(
        ACCEPTED,
        "0.8.3 on (V1)",
        "counters",
        "spec_decode_num_accepted_tokens_total",
        "exact; the token that each step adds itself is not among them",
    ),
    vllm(
        ACCEPTED,
        "V0",
        "",
        "not available",
        "V0 adds its running totals to the counters again and again",
    ),
    sglang(
        ACCEPTED,
        "0.5.13 on",
        "verify_calls",
        "generation_tokens_total − num_requests_total − spec_verify_calls_total",
        "counted when a request finishes; exact while every request is decoded with speculation to its end",
    ),
    sglang(ACCEPTED, "to 0.5.12", "", "not available", "no counter tells"),
    vllm(DRAFTED, "0.8.3 on (V1)", "counters", "spec_decode_num_draft_tokens_total", "exact"),
    vllm(DRAFTED, "V0", "", "not available", "as above"),
    sglang(
        DRAFTED,
        "0.5.13 on",
        "verify_calls",
        "Σ d(spec_verify_calls_total) × (spec_num_draft_tokens − 1)",
        "counted when a request finishes; with a tree of drafts only one path can be accepted",
    ),
    sglang(DRAFTED, "to 0.5.12", "", "not available", "as above"),
    vllm(
        IN_FLIGHT,
        "where the size of the KV cache is known",
        "kv_usage",
        "Σ over engines: kv_cache_usage_perc × kv_cache_size_tokens (before 0.24.0: block_size × num_gpu_blocks / engines)",
        "whole blocks; prefixes shared by requests count once; wrong for models with state-space or sliding-window layers",
    ),
    vllm(IN_FLIGHT, "V1 0.8, Rust frontend", "mean_length", MEAN_LENGTH, MEAN_LENGTH_QUALITY),
    sglang(
        IN_FLIGHT,
        "0.3.5.post1 on",
        "used_tokens",
        "Σ num_used_tokens over data-parallel ranks",
        "as of the engine's last report: at every prefill and every 40 decode steps",
    ),
    vllm(
        AVERAGE,
        "as llm_in_flight_tokens",
        "",
        "∫ llm_in_flight_tokens dt over the window / known time in it",
        "between two pages the gauge is taken to move in a straight line: scrape several times per window",
    ),
    sglang(
        AVERAGE,
        "as llm_in_flight_tokens",
        "",
        "∫ llm_in_flight_tokens dt over the window / known time in it",
        "likewise",
    ),
    vllm(
        REQUESTS,
        "0.2.6 on",
        "",
        "num_requests_running + num_requests_waiting (+ num_requests_swapped in V0)",
        "exact",
    ),
    sglang(
        REQUESTS,
        "0.3.5.post1 on",
        "",
        "num_running_reqs + num_queue_reqs + num_grammar_queue_reqs + the queues of a prefill or decode role",
        "as of the engine's last report",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference must not promise what the contract does not have, nor leave a metric or an engine out.
    #[test]
    fn every_metric_is_told_for_both_engines() {
        let contract =
            pipeline_model::CONTRACT.iter().filter(|metric| metric.name.starts_with("llm_"));
        for metric in contract {
            for engine in ["vllm", "sglang"] {
                let told = METHODS.iter().any(|m| m.metric == metric.name && m.engine == engine);
                assert!(told, "{} of {engine}", metric.name);
            }
        }
        for method in METHODS {
            assert!(
                pipeline_model::CONTRACT.iter().any(|metric| metric.name == method.metric),
                "{}",
                method.metric
            );
        }
    }
}
