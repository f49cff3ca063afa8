//! The tables of vLLM's families.

use crate::buckets::{
    VLLM_FIRST_TOKEN, VLLM_FIRST_TOKEN_V0, VLLM_LATENCY, VLLM_LATENCY_V0, VLLM_N, VLLM_PER_TOKEN,
    VLLM_PER_TOKEN_V0, VLLM_PREEMPTIONS, VLLM_STEP_TOKENS, VLLM_TOKENS,
};
use crate::engine::View;
use crate::pages::family::{
    Family, Read, Scope, counter, counter_by, counter_by_position, gauge, gauge_by, histogram,
};
use crate::spec::Release::{Vllm0_8_5Post1, Vllm0_10_2, Vllm0_33_0};
use crate::truth::FinishReason;

fn zero(_: &View<'_>) -> f64 {
    0.0
}

fn kv_usage(view: &View<'_>) -> f64 {
    view.now.kv_used_tokens as f64 / view.now.kv_capacity_tokens as f64
}

fn running(view: &View<'_>) -> f64 {
    view.now.running as f64
}

fn waiting(view: &View<'_>) -> f64 {
    view.now.waiting as f64
}

fn queries(view: &View<'_>) -> f64 {
    view.truth.prefix_queries as f64
}

fn hits(view: &View<'_>) -> f64 {
    view.truth.prefix_hits as f64
}

fn cached(view: &View<'_>) -> f64 {
    view.truth.cached_tokens as f64
}

fn finished(view: &View<'_>, reason: FinishReason) -> f64 {
    view.truth.finished[reason as usize] as f64
}

const FINISHED: &[(&str, Read); 5] = &[
    ("stop", |view| finished(view, FinishReason::Stop)),
    ("length", |view| finished(view, FinishReason::Length)),
    ("abort", |view| finished(view, FinishReason::Abort)),
    ("error", |view| finished(view, FinishReason::Error)),
    ("repetition", |view| finished(view, FinishReason::Repetition)),
];
const FINISHED_THREE: &[(&str, Read)] = FINISHED.split_at(3).0;

/// The families of V0, as 0.6.3.post1 prints them.
pub(crate) const V0: &[Family] = &[
    gauge("vllm:num_requests_running", "Requests running.", running),
    gauge("vllm:num_requests_swapped", "Requests swapped out.", zero),
    gauge("vllm:num_requests_waiting", "Requests waiting.", waiting),
    gauge("vllm:gpu_cache_usage_perc", "KV cache in use, 1 is all.", kv_usage),
    gauge("vllm:cpu_cache_usage_perc", "KV cache in use on the host, 1 is all.", zero),
    gauge(
        "vllm:cpu_prefix_cache_hit_rate",
        "Prefix cache hit rate on the host, -1 is off.",
        |_| -1.0,
    ),
    gauge("vllm:gpu_prefix_cache_hit_rate", "Prefix cache hit rate since the start.", |view| {
        if view.truth.prefix_queries == 0 { 0.0 } else { hits(view) / queries(view) }
    }),
    gauge(
        "vllm:avg_prompt_throughput_toks_per_s",
        "Prompt tokens a second, last window.",
        |view| view.v0.prompt_throughput,
    ),
    gauge(
        "vllm:avg_generation_throughput_toks_per_s",
        "Generated tokens a second, last window.",
        |view| view.v0.generation_throughput,
    ),
    gauge("vllm:spec_decode_draft_acceptance_rate", "Accepted part of the draft tokens.", |view| {
        view.truth.accepted_tokens as f64 / (view.truth.draft_tokens as f64).max(1.0)
    })
    .speculative(),
    gauge(
        "vllm:spec_decode_efficiency",
        "Emitted part of the tokens that could have been.",
        |view| {
            let possible = view.truth.draft_tokens + view.truth.drafts;
            (view.truth.accepted_tokens + view.truth.drafts) as f64 / (possible as f64).max(1.0)
        },
    )
    .speculative(),
    counter("vllm:num_preemptions", "Preemptions.", |view| view.truth.preemptions as f64),
    counter("vllm:prompt_tokens", "Prompt tokens.", |view| view.truth.prompt_tokens as f64),
    counter("vllm:generation_tokens", "Generated tokens.", |view| {
        view.truth.generation_tokens as f64
    }),
    counter_by("vllm:request_success", "Requests finished.", "finished_reason", FINISHED_THREE)
        .lazy(),
    counter("vllm:spec_decode_num_accepted_tokens", "Accepted draft tokens.", |view| {
        view.v0.accepted_tokens as f64
    })
    .speculative(),
    counter("vllm:spec_decode_num_draft_tokens", "Draft tokens.", |view| {
        view.v0.draft_tokens as f64
    })
    .speculative(),
    counter("vllm:spec_decode_num_emitted_tokens", "Emitted tokens.", |view| {
        view.v0.emitted_tokens as f64
    })
    .speculative(),
    histogram(
        "vllm:time_to_first_token_seconds",
        "Time to first token.",
        |view| &view.truth.time_to_first_token,
        VLLM_FIRST_TOKEN_V0,
    )
    .lazy(),
    histogram(
        "vllm:time_per_output_token_seconds",
        "Time between outputs.",
        |view| &view.truth.inter_event,
        VLLM_PER_TOKEN_V0,
    )
    .lazy(),
    histogram(
        "vllm:e2e_request_latency_seconds",
        "Time from arrival to end.",
        |view| &view.truth.end_to_end,
        VLLM_LATENCY_V0,
    )
    .lazy(),
    histogram(
        "vllm:request_prompt_tokens",
        "Prompt tokens of a request.",
        |view| &view.truth.request_prompt_tokens,
        VLLM_TOKENS,
    )
    .lazy(),
    histogram(
        "vllm:request_generation_tokens",
        "Generated tokens of a request.",
        |view| &view.truth.request_generation_tokens,
        VLLM_TOKENS,
    )
    .lazy(),
    histogram("vllm:request_params_n", "Answers asked for.", |view| &view.truth.request_n, VLLM_N)
        .lazy(),
];

/// The families of V1, in the order of its page.
pub(crate) const V1: &[Family] = &[
    counter("vllm:spec_decode_num_drafts", "Drafts.", |view| view.truth.drafts as f64)
        .speculative(),
    counter("vllm:spec_decode_num_draft_tokens", "Draft tokens.", |view| {
        view.truth.draft_tokens as f64
    })
    .speculative(),
    counter("vllm:spec_decode_num_accepted_tokens", "Accepted draft tokens.", |view| {
        view.truth.accepted_tokens as f64
    })
    .speculative(),
    counter_by_position(
        "vllm:spec_decode_num_accepted_tokens_per_pos",
        "Accepted draft tokens by position.",
    )
    .speculative(),
    counter("vllm:estimated_flops_per_gpu", "Estimated floating point operations.", zero)
        .since(Vllm0_33_0),
    counter("vllm:estimated_read_bytes_per_gpu", "Estimated bytes read.", zero).since(Vllm0_33_0),
    counter("vllm:estimated_write_bytes_per_gpu", "Estimated bytes written.", zero)
        .since(Vllm0_33_0),
    gauge("vllm:num_requests_running", "Requests running.", running),
    gauge("vllm:num_requests_waiting", "Requests waiting.", waiting),
    gauge_by(
        "vllm:num_requests_waiting_by_reason",
        "Requests waiting, by reason.",
        "reason",
        &[("capacity", waiting), ("deferred", zero)],
    )
    .since(Vllm0_33_0),
    gauge_by(
        "vllm:engine_sleep_state",
        "Whether the engine is awake.",
        "sleep_state",
        &[("awake", |_| 1.0), ("weights_offloaded", zero), ("discard_all", zero)],
    )
    .since(Vllm0_33_0),
    gauge("vllm:gpu_cache_usage_perc", "KV cache in use, 1 is all.", kv_usage).until(Vllm0_10_2),
    // 0.8.5 counts blocks, 0.10.2 tokens.
    counter("vllm:gpu_prefix_cache_queries", "Blocks looked up.", |view| {
        (queries(view) / 16.0).floor()
    })
    .until(Vllm0_8_5Post1),
    counter("vllm:gpu_prefix_cache_hits", "Blocks found.", |view| (hits(view) / 16.0).floor())
        .until(Vllm0_8_5Post1),
    counter("vllm:gpu_prefix_cache_queries", "Tokens looked up.", queries)
        .since(Vllm0_10_2)
        .until(Vllm0_10_2),
    counter("vllm:gpu_prefix_cache_hits", "Tokens found.", hits)
        .since(Vllm0_10_2)
        .until(Vllm0_10_2),
    gauge("vllm:kv_cache_usage_perc", "KV cache in use, 1 is all.", kv_usage).since(Vllm0_10_2),
    counter("vllm:prefix_cache_queries", "Tokens looked up.", queries).since(Vllm0_10_2),
    counter("vllm:prefix_cache_hits", "Tokens found.", hits).since(Vllm0_10_2),
    counter("vllm:external_prefix_cache_queries", "Tokens looked up elsewhere.", zero)
        .since(Vllm0_33_0),
    counter("vllm:external_prefix_cache_hits", "Tokens found elsewhere.", zero).since(Vllm0_33_0),
    counter("vllm:mm_cache_queries", "Media items looked up.", zero).since(Vllm0_33_0),
    counter("vllm:mm_cache_hits", "Media items found.", zero).since(Vllm0_33_0),
    counter("vllm:num_preemptions", "Preemptions.", |view| view.truth.preemptions as f64),
    counter("vllm:prompt_tokens", "Prompt tokens.", |view| view.truth.prompt_tokens as f64),
    counter_by(
        "vllm:prompt_tokens_by_source",
        "Prompt tokens, by source.",
        "source",
        &[
            ("local_compute", |view| (view.truth.prompt_tokens - view.truth.cached_tokens) as f64),
            ("local_cache_hit", cached),
            ("external_kv_transfer", zero),
        ],
    )
    .since(Vllm0_33_0),
    counter("vllm:prompt_tokens_cached", "Cached prompt tokens.", cached).since(Vllm0_33_0),
    counter_by(
        "vllm:prompt_tokens_cached_by_source",
        "Prefix cache hits, by tier.",
        "source",
        &[
            ("device", hits),
            ("host", zero),
            ("p2p", zero),
            ("disk", zero),
            ("external_unspecified", zero),
        ],
    )
    .since(Vllm0_33_0),
    counter("vllm:generation_tokens", "Generated tokens.", |view| {
        view.truth.generation_tokens as f64
    }),
    counter_by("vllm:request_success", "Requests finished.", "finished_reason", FINISHED_THREE)
        .until(Vllm0_10_2),
    counter_by("vllm:request_success", "Requests finished.", "finished_reason", FINISHED)
        .since(Vllm0_33_0),
    counter_by(
        "vllm:admission_rejections",
        "Requests refused, by limit.",
        "reason",
        &[("max_num_queued_reqs", zero), ("max_num_queued_tokens", zero)],
    )
    .scope(Scope::Process)
    .since(Vllm0_33_0),
    histogram(
        "vllm:request_prompt_tokens",
        "Prompt tokens of a request.",
        |view| &view.truth.request_prompt_tokens,
        VLLM_TOKENS,
    ),
    histogram(
        "vllm:request_generation_tokens",
        "Generated tokens of a request.",
        |view| &view.truth.request_generation_tokens,
        VLLM_TOKENS,
    ),
    histogram(
        "vllm:iteration_tokens_total",
        "Tokens of a step.",
        |view| &view.truth.step_tokens,
        VLLM_STEP_TOKENS,
    ),
    histogram(
        "vllm:request_max_num_generation_tokens",
        "Most tokens generated for one answer of a request.",
        |view| &view.truth.request_generation_tokens,
        VLLM_TOKENS,
    ),
    histogram("vllm:request_params_n", "Answers asked for.", |view| &view.truth.request_n, VLLM_N),
    histogram(
        "vllm:request_params_max_tokens",
        "Token limit asked for.",
        |view| &view.truth.request_max_tokens,
        VLLM_TOKENS,
    ),
    histogram(
        "vllm:time_to_first_token_seconds",
        "Time to first token.",
        |view| &view.truth.time_to_first_token,
        VLLM_FIRST_TOKEN,
    ),
    histogram(
        "vllm:time_per_output_token_seconds",
        "Time between outputs.",
        |view| &view.truth.inter_event,
        VLLM_PER_TOKEN,
    )
    .until(Vllm0_10_2),
    histogram(
        "vllm:inter_token_latency_seconds",
        "Time between outputs.",
        |view| &view.truth.inter_event,
        VLLM_PER_TOKEN,
    )
    .since(Vllm0_10_2),
    histogram(
        "vllm:request_time_per_output_token_seconds",
        "Time per token after the first, of a request.",
        |view| &view.truth.time_per_output_token,
        VLLM_PER_TOKEN,
    )
    .since(Vllm0_33_0),
    histogram(
        "vllm:e2e_request_latency_seconds",
        "Time from arrival to end.",
        |view| &view.truth.end_to_end,
        VLLM_LATENCY,
    ),
    histogram(
        "vllm:request_queue_time_seconds",
        "Time waiting.",
        |view| &view.truth.queue,
        VLLM_LATENCY,
    ),
    histogram(
        "vllm:request_inference_time_seconds",
        "Time running.",
        |view| &view.truth.inference,
        VLLM_LATENCY,
    ),
    histogram(
        "vllm:request_prefill_time_seconds",
        "Time in prefill.",
        |view| &view.truth.prefill,
        VLLM_LATENCY,
    ),
    histogram(
        "vllm:request_decode_time_seconds",
        "Time in decode.",
        |view| &view.truth.decode,
        VLLM_LATENCY,
    ),
    histogram(
        "vllm:request_num_preemptions",
        "Preemptions of a request.",
        |view| &view.truth.request_preemptions,
        VLLM_PREEMPTIONS,
    )
    .since(Vllm0_33_0),
    histogram(
        "vllm:request_prefill_kv_computed_tokens",
        "Prompt tokens of a request that were computed.",
        |view| &view.truth.request_computed_tokens,
        VLLM_TOKENS,
    )
    .since(Vllm0_33_0),
];
