//! Histogram bounds as the engines define them, and their union per unit: observations are kept at the union, so
//! every release's buckets can be read from one record exactly.

use std::sync::LazyLock;

/// vLLM request latencies, V1.
pub(crate) const VLLM_LATENCY: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
];
/// vLLM request latencies, V0.
pub(crate) const VLLM_LATENCY_V0: &[f64] =
    &[1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0];
/// vLLM time to first token, from 0.8.4.
pub(crate) const VLLM_FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
/// vLLM time to first token, before 0.8.4.
pub(crate) const VLLM_FIRST_TOKEN_V0: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// vLLM time between and per output tokens, V1.
pub(crate) const VLLM_PER_TOKEN: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];
/// vLLM time per output token, V0.
pub(crate) const VLLM_PER_TOKEN_V0: &[f64] =
    &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
/// vLLM token counts: the 1-2-5 series up to a model length of 8192.
pub(crate) const VLLM_TOKENS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0];
/// vLLM tokens per engine step.
pub(crate) const VLLM_STEP_TOKENS: &[f64] =
    &[1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];
/// vLLM's `n` parameter.
pub(crate) const VLLM_N: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0];
/// vLLM preemptions per request.
pub(crate) const VLLM_PREEMPTIONS: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0];
/// The web framework's latencies without labels.
pub(crate) const HTTP_FINE: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0,
    7.5, 10.0, 30.0, 60.0,
];
/// The web framework's latencies by handler.
pub(crate) const HTTP_COARSE: &[f64] = &[0.1, 0.5, 1.0];
/// SGLang time to first token.
pub(crate) const SGLANG_FIRST_TOKEN: &[f64] = &[
    0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 200.0,
    400.0,
];
/// SGLang time between and per output tokens.
pub(crate) const SGLANG_PER_TOKEN: &[f64] = &[
    0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08, 0.1, 0.2,
    0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0,
];
/// SGLang end to end latency, 0.5.23.
pub(crate) const SGLANG_LATENCY: &[f64] = &[
    0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 200.0,
    400.0, 600.0, 1200.0, 1800.0, 2400.0,
];
/// SGLang end to end latency, 0.4.10.
pub(crate) const SGLANG_LATENCY_0_4: &[f64] = &[
    0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 200.0,
    400.0, 800.0,
];
/// SGLang time in the scheduler's queue.
pub(crate) const SGLANG_QUEUE: &[f64] = &[
    0.0, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 15.0, 20.0, 30.0,
    40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0,
    900.0, 1000.0, 1200.0, 1400.0, 1600.0, 1800.0, 2000.0, 2500.0, 3000.0,
];
/// SGLang stage latency: 0.001 times powers of 1.62, as floating point multiplication gives them.
pub(crate) const SGLANG_STAGE: &[f64] = &[
    0.001,
    0.0016200000000000001,
    0.0026244000000000007,
    0.004251528,
    0.006887475360000002,
    0.011157710083200004,
    0.018075490334784006,
    0.029282294342350097,
    0.047437316834607154,
    0.07684845327206359,
    0.12449449430074302,
    0.20168108076720373,
    0.3267233508428701,
    0.5292918283654495,
    0.8574527619520282,
    1.389073474362286,
    2.2502990284669036,
    3.6454844261163837,
    5.905684770308542,
    9.567209327899839,
    15.49887911119774,
    25.10818416014034,
    40.67525833942735,
    65.89391850987231,
    106.74814798599316,
    172.93199973730896,
    280.1498395744405,
    453.84274011059364,
    735.2252389791618,
    1191.064887146242,
];
/// SGLang tokens per request, 0.5.23.
pub(crate) const SGLANG_TOKENS: &[f64] = &[
    100.0, 300.0, 500.0, 700.0, 1000.0, 1500.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0, 7000.0,
    8000.0, 9000.0, 10000.0, 12500.0, 15000.0, 17500.0, 20000.0, 22500.0, 25000.0, 27500.0,
    30000.0, 35000.0, 40000.0, 60000.0, 80000.0, 100000.0, 200000.0, 300000.0, 400000.0, 600000.0,
    800000.0, 1000000.0, 1100000.0,
];
/// SGLang prompt tokens per request, 0.4.10.
pub(crate) const SGLANG_PROMPT_0_4: &[f64] = &[
    100.0, 300.0, 500.0, 700.0, 1000.0, 1500.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0, 7000.0,
    8000.0, 9000.0, 10000.0, 12000.0, 15000.0, 20000.0, 22000.0, 25000.0, 30000.0, 35000.0,
    40000.0,
];
/// SGLang generated tokens per request, 0.4.10.
pub(crate) const SGLANG_GENERATION_0_4: &[f64] = &[
    100.0, 300.0, 500.0, 1000.0, 1200.0, 1500.0, 1700.0, 2000.0, 2500.0, 3000.0, 3500.0, 4000.0,
    4500.0, 5000.0, 6000.0, 7000.0, 8000.0, 9000.0, 10000.0,
];
/// SGLang imbalance between data-parallel ranks.
pub(crate) const SGLANG_IMBALANCE: &[f64] =
    &[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];
/// SGLang wait for the slowest data-parallel rank.
pub(crate) const SGLANG_SYNC_WAIT: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// The project's own bounds of tokens per second and request.
pub(crate) const CONTRACT_SPEED: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 75.0, 100.0,
    125.0, 150.0, 200.0, 300.0, 500.0, 1000.0,
];

/// Every bound of a time, in seconds.
pub(crate) static SECONDS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    union(&[
        VLLM_LATENCY,
        VLLM_LATENCY_V0,
        VLLM_FIRST_TOKEN,
        VLLM_FIRST_TOKEN_V0,
        VLLM_PER_TOKEN,
        VLLM_PER_TOKEN_V0,
        HTTP_FINE,
        HTTP_COARSE,
        SGLANG_FIRST_TOKEN,
        SGLANG_PER_TOKEN,
        SGLANG_LATENCY,
        SGLANG_LATENCY_0_4,
        SGLANG_QUEUE,
        SGLANG_STAGE,
        SGLANG_SYNC_WAIT,
    ])
});

/// Every bound of a count.
pub(crate) static COUNTS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    union(&[
        VLLM_TOKENS,
        VLLM_STEP_TOKENS,
        VLLM_N,
        VLLM_PREEMPTIONS,
        SGLANG_TOKENS,
        SGLANG_PROMPT_0_4,
        SGLANG_GENERATION_0_4,
        SGLANG_IMBALANCE,
    ])
});

/// Every bound of a speed: the project's own, and what the engines' times per token are when turned over.
pub(crate) static SPEEDS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let turned: Vec<f64> = [VLLM_PER_TOKEN, VLLM_PER_TOKEN_V0, SGLANG_PER_TOKEN]
        .concat()
        .into_iter()
        .map(|seconds| 1.0 / seconds)
        .collect();
    union(&[CONTRACT_SPEED, &turned])
});

fn union(lists: &[&[f64]]) -> Vec<f64> {
    let mut all: Vec<f64> = lists.concat();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}
