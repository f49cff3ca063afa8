//! The fleet of `inferometer demo`: three engines of different kind and age on a few-minute cycle of load.

use std::time::Duration;

use crate::fleet::FleetSpec;
use crate::load::Load;
use crate::spec::{EngineSpec, Event, Identity, Release, Script, Speculation};

/// One cycle of load: quiet, busy, quiet.
const CYCLE: Duration = Duration::from_secs(240);
/// The old engine ends at this point of each round of its script, and is back after a pause.
const RESTART_AT: Duration = Duration::from_secs(150);
const RESTART_TAKES: Duration = Duration::from_secs(8);
const RESTART_EVERY: Duration = Duration::from_secs(600);

/// An old vLLM that restarts now and then, a new vLLM with two data-parallel engines and speculation, and an SGLang
/// over two devices. Ports are free ones; models, pods and deployments are clearly simulated. Deterministic but for
/// the moment at which it begins.
pub fn demo_fleet() -> FleetSpec {
    let old = EngineSpec {
        served_model: "simulated/llama-8b".to_owned(),
        max_num_seqs: 24,
        kv_capacity_tokens: 24_000,
        load: Load { low: 0.5, high: 8.0, period: CYCLE },
        seed: 11,
        identity: identity("llama-8b", "llama-8b-v1", "production", "stable", "old-0"),
        script: Script {
            events: vec![(RESTART_AT, Event::Stop), (RESTART_AT + RESTART_TAKES, Event::Start)],
            every: Some(RESTART_EVERY),
        },
        ..EngineSpec::new("vllm-old", Release::Vllm0_6_3Post1)
    };
    let new = EngineSpec {
        served_model: "simulated/llama-8b".to_owned(),
        data_parallel: 2,
        speculation: Some(Speculation { draft_tokens: 3, acceptance: 0.7 }),
        max_num_seqs: 32,
        kv_capacity_tokens: 40_000,
        load: Load { low: 2.0, high: 24.0, period: CYCLE },
        seed: 22,
        identity: identity("llama-8b", "llama-8b-v2", "production", "promoting", "new-0"),
        ..EngineSpec::new("vllm-new", Release::Vllm0_33_0)
    };
    let sglang = EngineSpec {
        served_model: "simulated/qwen-32b".to_owned(),
        tensor_parallel: 2,
        max_num_seqs: 32,
        kv_capacity_tokens: 32_768,
        load: Load { low: 1.0, high: 9.0, period: CYCLE.mul_f64(0.75) },
        seed: 33,
        identity: identity("qwen-32b", "qwen-32b-v1", "staging", "stable", "sglang-0"),
        ..EngineSpec::new("sglang", Release::Sglang0_5_23)
    };
    FleetSpec::new(vec![old, new, sglang])
}

fn identity(
    model: &str,
    deployment: &str,
    environment: &str,
    rollout_phase: &str,
    replica: &str,
) -> Identity {
    Identity {
        model_id: format!("simulated-{model}"),
        model_name: format!("simulated/{model}"),
        deployment_id: format!("simulated-{deployment}"),
        environment: environment.to_owned(),
        rollout_phase: rollout_phase.to_owned(),
        replica: replica.to_owned(),
        pod_name: format!("simulated-{model}-{replica}"),
    }
}
