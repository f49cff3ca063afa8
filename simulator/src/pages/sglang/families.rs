//! The tables of SGLang's families.

use std::sync::LazyLock;

use crate::buckets::{
    SGLANG_FIRST_TOKEN, SGLANG_GENERATION_0_4, SGLANG_IMBALANCE, SGLANG_LATENCY,
    SGLANG_LATENCY_0_4, SGLANG_PER_TOKEN, SGLANG_PROMPT_0_4, SGLANG_QUEUE, SGLANG_STAGE,
    SGLANG_SYNC_WAIT, SGLANG_TOKENS,
};
use crate::engine::View;
use crate::histogram::{Histogram, Unit};
use crate::pages::family::{
    Family, Scope, counter, counter_by, gauge, gauge_by, histogram, ranges,
};

fn zero(_: &View<'_>) -> f64 {
    0.0
}

fn running(view: &View<'_>) -> f64 {
    view.report.now.running as f64
}

fn waiting(view: &View<'_>) -> f64 {
    view.report.now.waiting as f64
}

fn used(view: &View<'_>) -> f64 {
    view.report.now.kv_used_tokens as f64
}

fn capacity(view: &View<'_>) -> f64 {
    view.report.now.kv_capacity_tokens as f64
}

/// The ratio with two decimals, as the engine rounds it.
fn usage(view: &View<'_>) -> f64 {
    (used(view) / capacity(view) * 100.0).round() / 100.0
}

fn draft_tokens(view: &View<'_>) -> f64 {
    view.spec.speculation.map_or(0.0, |speculation| f64::from(speculation.draft_tokens))
}

fn first_token<'v>(view: &'v View<'_>) -> &'v Histogram {
    &view.truth.time_to_first_token
}

fn inter_token<'v>(view: &'v View<'_>) -> &'v Histogram {
    &view.truth.inter_token
}

fn end_to_end<'v>(view: &'v View<'_>) -> &'v Histogram {
    &view.truth.end_to_end
}

fn prompt<'v>(view: &'v View<'_>) -> &'v Histogram {
    &view.truth.request_prompt_tokens
}

fn generation<'v>(view: &'v View<'_>) -> &'v Histogram {
    &view.truth.request_generation_tokens
}

static NOTHING: LazyLock<Histogram> = LazyLock::new(|| Histogram::new(Unit::Seconds));

fn nothing<'v>(_: &'v View<'_>) -> &'v Histogram {
    &NOTHING
}

const ROUTING_RANGES: &[&str] = &["1", "2", "3", "5", "7", "10", "20", "50", "100", "200", "+Inf"];

/// The families of 0.4.10.post2.
pub(crate) const OLD: &[Family] = &[
    counter("sglang:prompt_tokens", "Prompt tokens.", |view| {
        view.truth.finished_prompt_tokens as f64
    })
    .scope(Scope::Process)
    .lazy(),
    counter("sglang:generation_tokens", "Generated tokens.", |view| {
        view.truth.finished_generation_tokens as f64
    })
    .scope(Scope::Process)
    .lazy(),
    counter("sglang:cached_tokens", "Cached prompt tokens.", |view| {
        view.truth.finished_cached_tokens as f64
    })
    .scope(Scope::Process)
    .lazy(),
    counter("sglang:num_requests", "Requests.", |view| view.truth.finished_total() as f64)
        .scope(Scope::Process)
        .lazy(),
    counter("sglang:num_aborted_requests", "Requests aborted.", |view| {
        view.truth.finished[2] as f64
    })
    .scope(Scope::Process)
    .lazy(),
    histogram(
        "sglang:time_to_first_token_seconds",
        "Time to first token.",
        first_token,
        SGLANG_FIRST_TOKEN,
    )
    .scope(Scope::Process)
    .lazy(),
    histogram(
        "sglang:inter_token_latency_seconds",
        "Time between tokens.",
        inter_token,
        SGLANG_PER_TOKEN,
    )
    .scope(Scope::Process)
    .lazy(),
    histogram(
        "sglang:e2e_request_latency_seconds",
        "Time from arrival to end.",
        end_to_end,
        SGLANG_LATENCY_0_4,
    )
    .scope(Scope::Process)
    .lazy(),
    histogram(
        "sglang:prompt_tokens_histogram",
        "Prompt tokens of a request.",
        prompt,
        SGLANG_PROMPT_0_4,
    )
    .scope(Scope::Process)
    .lazy(),
    histogram(
        "sglang:generation_tokens_histogram",
        "Generated tokens of a request.",
        generation,
        SGLANG_GENERATION_0_4,
    )
    .scope(Scope::Process)
    .lazy(),
    gauge("sglang:num_running_reqs", "Requests running.", running),
    gauge("sglang:num_used_tokens", "KV cache tokens in use.", used),
    gauge("sglang:token_usage", "KV cache in use, 1 is all.", usage),
    gauge("sglang:gen_throughput", "Generated tokens a second.", |view| {
        view.report.generation_throughput
    }),
    gauge("sglang:num_queue_reqs", "Requests waiting.", waiting),
    gauge("sglang:num_grammar_queue_reqs", "Requests waiting for a grammar.", zero),
    gauge("sglang:cache_hit_rate", "Prefix cache hit rate of the last batch.", |view| {
        view.report.batch_hit_rate
    }),
    gauge("sglang:spec_accept_length", "Tokens per speculative round.", |view| {
        view.report.accept_length
    }),
    gauge("sglang:total_retracted_reqs", "Requests put back.", |view| {
        view.truth.preemptions as f64
    }),
    gauge("sglang:num_prefill_prealloc_queue_reqs", "Prefill preallocation queue.", zero),
    gauge("sglang:num_prefill_infight_queue_reqs", "Prefill in-flight queue.", zero),
    gauge("sglang:num_decode_prealloc_queue_reqs", "Decode preallocation queue.", zero),
    gauge("sglang:num_decode_transfer_queue_reqs", "Decode transfer queue.", zero),
];

/// The families of 0.5.23.
pub(crate) const NEW: &[Family] = &[
    counter_by(
        "sglang:prefill_effective_tokens",
        "Prompt tokens by where they came from, each once.",
        "mode",
        &[
            ("input", |view| view.report.prefix_computed as f64),
            ("device_hit", |view| view.report.prefix_hits as f64),
            ("host_hit", zero),
            ("storage_hit", zero),
        ],
    )
    .scope(Scope::TensorRank),
    counter("sglang:scheduler_idle_seconds", "Time without work.", |view| view.truth.idle_seconds)
        .scope(Scope::TensorRank),
    counter("sglang:scheduler_process_cpu_seconds", "CPU time of the scheduler.", zero)
        .scope(Scope::TensorRank),
    counter_by(
        "sglang:scheduler_stage_seconds",
        "Time of the scheduler's loop by stage.",
        "category",
        &[
            ("other", zero),
            ("recv_requests", zero),
            ("process_input_requests", zero),
            ("get_next_batch_to_run", zero),
            ("process_queue", zero),
            ("run_batch", zero),
            ("process_batch_result", zero),
            ("sanity_check_cache", zero),
            ("idle", zero),
        ],
    )
    .fixed(&[("forward_overlap", "none")])
    .scope(Scope::TensorRank),
    counter_by(
        "sglang:dp_attention_tokens",
        "Tokens of synchronous steps.",
        "kind",
        &[("scheduled", zero), ("imbalance", zero)],
    )
    .scope(Scope::TensorRank),
    counter_by(
        "sglang:dp_attention_steps",
        "Synchronous steps.",
        "rank_state",
        &[("active", zero), ("idle", zero)],
    )
    .scope(Scope::TensorRank),
    counter_by(
        "sglang:dp_attention_pairs",
        "Query and key pairs of synchronous steps.",
        "kind",
        &[("scheduled", zero), ("imbalance", zero)],
    )
    .scope(Scope::TensorRank),
    gauge("sglang:max_total_num_tokens", "KV cache size in tokens.", capacity),
    gauge("sglang:weight_memory_usage_gb", "Memory of the weights.", |_| 15.27),
    gauge("sglang:kv_cache_memory_usage_gb", "Memory of the KV cache.", |_| 38.12),
    gauge_by(
        "sglang:graph_memory_usage_gb",
        "Memory of graphs.",
        "phase",
        &[("decode", |_| 1.31), ("prefill", zero)],
    ),
    gauge("sglang:page_size", "KV cache page size in tokens.", |view| {
        view.spec.release.block_tokens() as f64
    }),
    gauge("sglang:num_pages", "KV cache pages.", capacity),
    gauge("sglang:context_len", "Longest context.", |_| 40_960.0),
    gauge("sglang:startup_available_gpu_memory_gb", "Memory left at startup.", |_| 9.84),
    gauge("sglang:num_running_reqs", "Requests running.", running),
    gauge("sglang:num_queue_reqs", "Requests waiting.", waiting),
    gauge("sglang:num_grammar_queue_reqs", "Requests waiting for a grammar.", zero),
    gauge("sglang:gen_throughput", "Generated tokens a second.", |view| {
        view.report.generation_throughput
    }),
    gauge("sglang:cache_hit_rate", "Prefix cache hit rate of the last batch.", |view| {
        view.report.batch_hit_rate
    }),
    gauge("sglang:decode_sum_seq_lens", "Tokens of all sequences.", |view| {
        view.report.now.sequence_tokens as f64
    }),
    gauge("sglang:token_usage", "KV cache in use, 1 is all.", usage),
    gauge("sglang:full_token_usage", "KV cache in use by full attention.", usage),
    gauge("sglang:swa_token_usage", "KV cache in use by window attention.", zero),
    gauge("sglang:mamba_usage", "State in use.", zero),
    gauge("sglang:num_used_tokens", "KV cache tokens in use.", used),
    gauge("sglang:kv_available_tokens", "KV cache tokens free.", |view| {
        capacity(view) - used(view) - view.report.cached_idle_tokens as f64
    }),
    gauge("sglang:kv_evictable_tokens", "KV cache tokens only cached.", |view| {
        view.report.cached_idle_tokens as f64
    }),
    gauge("sglang:kv_used_tokens", "KV cache tokens in use.", used),
    gauge("sglang:swa_available_tokens", "Window tokens free.", zero),
    gauge("sglang:swa_evictable_tokens", "Window tokens only cached.", zero),
    gauge("sglang:swa_used_tokens", "Window tokens in use.", zero),
    gauge("sglang:mamba_available_tokens", "State slots free.", zero),
    gauge("sglang:mamba_evictable_tokens", "State slots only cached.", zero),
    gauge("sglang:mamba_used_tokens", "State slots in use.", zero),
    gauge("sglang:spec_accept_length", "Tokens per speculative round.", |view| {
        view.report.accept_length
    }),
    gauge("sglang:spec_accept_rate", "Accepted part of the draft tokens.", |view| {
        view.report.accept_rate
    }),
    gauge("sglang:spec_cap_length", "Scheduled verify window.", zero),
    gauge("sglang:spec_block_accept_length", "Accepted length without cap.", zero),
    gauge("sglang:spec_num_steps", "Draft steps.", draft_tokens),
    // The token that each verification adds itself counts here.
    gauge("sglang:spec_num_draft_tokens", "Draft tokens and one.", |view| {
        view.spec.speculation.map_or(0.0, |speculation| f64::from(speculation.draft_tokens) + 1.0)
    }),
    gauge("sglang:num_prefill_bootstrap_queue_reqs", "Prefill bootstrap queue.", zero),
    gauge("sglang:num_prefill_inflight_queue_reqs", "Prefill in-flight queue.", zero),
    gauge("sglang:num_decode_prealloc_queue_reqs", "Decode preallocation queue.", zero),
    gauge("sglang:num_decode_transfer_queue_reqs", "Decode transfer queue.", zero),
    gauge("sglang:num_decode_host_receive_queue_reqs", "Decode transfers into host memory.", zero),
    gauge(
        "sglang:num_decode_deferred_kv_release_reqs",
        "Failed requests whose cache is still held.",
        zero,
    ),
    gauge("sglang:pending_prealloc_token_usage", "Use by tokens not yet allocated.", zero),
    gauge("sglang:prealloc_full_token_usage", "Use by pending transfers.", zero),
    gauge("sglang:prealloc_swa_token_usage", "Window use by pending transfers.", zero),
    gauge("sglang:utilization", "Utilization.", zero),
    gauge("sglang:fwd_occupancy", "Occupancy of the forward pass in percent.", |_| 93.1),
    gauge("sglang:new_token_ratio", "Expected share of new tokens.", |_| 0.42),
    gauge("sglang:is_cuda_graph", "Whether the batch uses a graph.", |view| {
        f64::from(u8::from(running(view) > 0.0))
    }),
    gauge("sglang:num_unique_running_routing_keys", "Routing keys running.", zero),
    ranges(
        "sglang:routing_key_running_req_count",
        "Routing keys by requests running.",
        ROUTING_RANGES,
    ),
    ranges("sglang:routing_key_all_req_count", "Routing keys by requests.", ROUTING_RANGES),
    gauge("sglang:routing_keys_active", "Routing keys active.", zero).scope(Scope::Bare),
    histogram(
        "sglang:dp_attention_token_imbalance_ratio",
        "Largest over mean tokens of the ranks.",
        nothing,
        SGLANG_IMBALANCE,
    )
    .scope(Scope::TensorRank),
    histogram(
        "sglang:dp_attention_sync_wait_seconds",
        "Wait for the slowest rank.",
        nothing,
        SGLANG_SYNC_WAIT,
    )
    .scope(Scope::TensorRank),
    histogram(
        "sglang:time_to_first_token_seconds",
        "Time to first token.",
        first_token,
        SGLANG_FIRST_TOKEN,
    )
    .scope(Scope::Streaming)
    .lazy(),
    histogram(
        "sglang:inter_token_latency_seconds",
        "Time between tokens.",
        inter_token,
        SGLANG_PER_TOKEN,
    )
    .scope(Scope::Process)
    .lazy(),
    histogram(
        "sglang:e2e_request_latency_seconds",
        "Time from arrival to end.",
        end_to_end,
        SGLANG_LATENCY,
    )
    .scope(Scope::Streaming)
    .lazy(),
    histogram(
        "sglang:request_time_per_output_token_seconds",
        "Time per token after the first, of a request.",
        |view| &view.truth.time_per_output_token,
        SGLANG_PER_TOKEN,
    )
    .scope(Scope::Streaming)
    .lazy(),
    histogram(
        "sglang:prompt_tokens_histogram",
        "Prompt tokens of a request.",
        prompt,
        SGLANG_TOKENS,
    )
    .scope(Scope::Process)
    .lazy(),
    histogram(
        "sglang:uncached_prompt_tokens_histogram",
        "Prompt tokens of a request that were computed.",
        |view| &view.truth.request_computed_tokens,
        SGLANG_TOKENS,
    )
    .scope(Scope::Process)
    .lazy(),
    histogram(
        "sglang:generation_tokens_histogram",
        "Generated tokens of a request.",
        generation,
        SGLANG_TOKENS,
    )
    .scope(Scope::Process)
    .lazy(),
    gauge("sglang:num_retracted_reqs", "Requests put back, last window.", zero)
        .scope(Scope::RankPid),
    gauge("sglang:num_paused_reqs", "Requests paused for new weights.", zero).scope(Scope::RankPid),
    counter("sglang:num_retracted_requests", "Requests put back.", |view| {
        view.truth.preemptions as f64
    })
    .lazy(),
    counter("sglang:num_retracted_input_tokens", "Prompt tokens put back.", |view| {
        view.truth.preempted_prompt_tokens as f64
    })
    .lazy(),
    counter("sglang:num_retracted_output_tokens", "Generated tokens put back.", |view| {
        view.truth.preempted_generation_tokens as f64
    })
    .lazy(),
    counter("sglang:prompt_tokens", "Prompt tokens.", |view| {
        view.truth.finished_prompt_tokens as f64
    })
    .scope(Scope::Streaming)
    .lazy(),
    counter("sglang:generation_tokens", "Generated tokens.", |view| {
        view.truth.finished_generation_tokens as f64
    })
    .scope(Scope::Streaming)
    .lazy(),
    counter("sglang:spec_verify_calls", "Speculative rounds.", |view| {
        view.truth.finished_drafts as f64
    })
    .scope(Scope::Process)
    .speculative()
    .lazy(),
    counter_by(
        "sglang:cached_tokens",
        "Cached prompt tokens.",
        "cache_source",
        &[("device", |view| view.truth.finished_cached_tokens as f64)],
    )
    .scope(Scope::Process)
    .lazy(),
    counter("sglang:num_requests", "Requests.", |view| view.truth.finished_total() as f64)
        .scope(Scope::Streaming)
        .lazy(),
    counter("sglang:num_aborted_requests", "Requests aborted.", |view| {
        view.truth.finished[2] as f64
    })
    .scope(Scope::Process)
    .lazy(),
    histogram(
        "sglang:queue_time_seconds",
        "Time waiting.",
        |view| &view.truth.queue_at_admission,
        SGLANG_QUEUE,
    )
    .lazy(),
    histogram(
        "sglang:per_stage_req_latency_seconds",
        "Time of a request in a stage.",
        |view| &view.truth.prefill_at_first_token,
        SGLANG_STAGE,
    )
    .fixed(&[("stage", "prefill_forward")])
    .lazy(),
    counter_by(
        "sglang:cuda_graph_passes",
        "Forward passes by kind of graph.",
        "mode",
        &[("decode_cuda_graph", |view| view.truth.decode_steps as f64)],
    )
    .lazy(),
    counter_by(
        "sglang:forward_execution_seconds",
        "Time of forward passes.",
        "category",
        &[
            ("extend", |view| view.truth.prefill_seconds),
            ("decode", |view| view.truth.decode_seconds),
        ],
    )
    .lazy(),
    counter_by(
        "sglang:realtime_tokens",
        "Tokens as they are made.",
        "mode",
        &[
            ("prefill_compute", |view| view.report.computed_tokens as f64),
            ("prefill_cache", |view| view.report.cached_tokens as f64),
            ("decode", |view| view.report.decode_tokens as f64),
        ],
    )
    .lazy(),
];
