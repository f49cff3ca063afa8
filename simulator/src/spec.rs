//! What a user of the simulator describes: engines, their releases, load, identity and scripted events.

use std::time::Duration;

use crate::load::Load;
use crate::server::Fault;

/// An engine release whose page can be printed. Ordered by age within one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Release {
    /// vLLM 0.6.3.post1: engine generation V0, multiprocess page, no `_created`.
    Vllm0_6_3Post1,
    /// vLLM 0.8.5.post1: V1, `gpu_cache_usage_perc` only, prefix cache counted in blocks.
    Vllm0_8_5Post1,
    /// vLLM 0.10.2: V1, old and new names side by side.
    Vllm0_10_2,
    /// vLLM 0.33.0: V1, newest names, token sources.
    Vllm0_33_0,
    /// SGLang 0.4.10.post2: few families, no engine type on frontend metrics.
    Sglang0_4_10Post2,
    /// SGLang 0.5.23: newest names, rank labels, streaming label.
    Sglang0_5_23,
}

impl Release {
    /// Every release, vLLM first, each engine from old to new.
    pub const ALL: [Release; 6] = [
        Release::Vllm0_6_3Post1,
        Release::Vllm0_8_5Post1,
        Release::Vllm0_10_2,
        Release::Vllm0_33_0,
        Release::Sglang0_4_10Post2,
        Release::Sglang0_5_23,
    ];

    /// The engine's name as it appears in metric prefixes: `vllm` or `sglang`.
    pub fn engine(self) -> &'static str {
        if self.is_vllm() { "vllm" } else { "sglang" }
    }

    /// The version as the package spells it, for example `0.6.3.post1`.
    pub fn version(self) -> &'static str {
        match self {
            Release::Vllm0_6_3Post1 => "0.6.3.post1",
            Release::Vllm0_8_5Post1 => "0.8.5.post1",
            Release::Vllm0_10_2 => "0.10.2",
            Release::Vllm0_33_0 => "0.33.0",
            Release::Sglang0_4_10Post2 => "0.4.10.post2",
            Release::Sglang0_5_23 => "0.5.23",
        }
    }

    pub(crate) fn is_vllm(self) -> bool {
        self <= Release::Vllm0_33_0
    }

    /// Tokens per KV cache block: vLLM's default of 16, SGLang's page size of 1.
    pub(crate) fn block_tokens(self) -> u64 {
        if self.is_vllm() { 16 } else { 1 }
    }
}

/// Speculative decoding with a chain of draft tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speculation {
    /// Draft tokens proposed per step and request, 1 to 8.
    pub draft_tokens: u32,
    /// Probability that a draft token is accepted when those before it were.
    pub acceptance: f64,
}

/// Who an engine is in the fleet: what a scheduler would know and a metrics page does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Stable id of the model.
    pub model_id: String,
    /// Name of the model as people know it.
    pub model_name: String,
    /// Id of the deployment this engine belongs to.
    pub deployment_id: String,
    /// Environment, for example `production`.
    pub environment: String,
    /// Rollout phase: `stable`, or `promoting` for the candidate of a rollout.
    pub rollout_phase: String,
    /// Name of the replica.
    pub replica: String,
    /// Kubernetes pod name, raw.
    pub pod_name: String,
}

impl Identity {
    /// The attributes as label pairs, in a fixed order.
    pub fn pairs(&self) -> [(&'static str, &str); 7] {
        [
            ("model_id", &self.model_id),
            ("model_name", &self.model_name),
            ("deployment_id", &self.deployment_id),
            ("environment", &self.environment),
            ("rollout_phase", &self.rollout_phase),
            ("replica", &self.replica),
            ("pod_name", &self.pod_name),
        ]
    }
}

/// Something that happens to an engine at a set time.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The process ends: its requests are lost, its port refuses.
    Stop,
    /// A new process of the same release starts: all counters at zero.
    Start,
    /// Stop and start in one moment.
    Restart,
    /// Stop, and start under another release.
    Upgrade(Release),
    /// The server starts to misbehave, or recovers with [`Fault::None`].
    Fault(Fault),
}

/// Scripted events, in the order of their times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// Simulated time since the fleet's start (or since the start of the round), and what happens then.
    pub events: Vec<(Duration, Event)>,
    /// The script starts over after this time; `None` plays it once.
    pub every: Option<Duration>,
}

/// One simulated server process: an engine of some release with its model, size, load and fate.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSpec {
    /// Short unique name for people, for example `vllm-new`.
    pub name: String,
    /// Which release's page it prints, and whose habits it follows.
    pub release: Release,
    /// The `model_name` label of its page.
    pub served_model: String,
    /// Data-parallel engines in this process, at least 1: vLLM's `engine`, SGLang's `dp_rank`. vLLM before 0.8.3
    /// had none, and a page of such a release then shows the first one only.
    pub data_parallel: u32,
    /// Tensor-parallel ranks, at least 1; SGLang shows them as `tp_rank` when `data_parallel` is 1.
    pub tensor_parallel: u32,
    /// API server processes, at least 1. With more than one, a vLLM V1 page has the multiprocess form:
    /// no `_created`, no `process_*`, `_sum` before the buckets.
    pub api_servers: u32,
    /// Speculative decoding, if on.
    pub speculation: Option<Speculation>,
    /// Requests that one data-parallel engine decodes at a time, at least 1.
    pub max_num_seqs: u32,
    /// KV cache of one data-parallel engine in tokens; raised to 4096 when lower.
    pub kv_capacity_tokens: u64,
    /// Arrivals at the whole process, spread evenly over its data-parallel engines.
    pub load: Load,
    /// Names the run: equal specs with equal seeds behave equally.
    pub seed: u64,
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Who it is in the fleet.
    pub identity: Identity,
    /// What happens to it.
    pub script: Script,
}

impl EngineSpec {
    /// A small engine of `release` under a steady load of two requests a second.
    pub fn new(name: &str, release: Release) -> Self {
        EngineSpec {
            name: name.to_owned(),
            release,
            served_model: "simulated/llama-8b".to_owned(),
            data_parallel: 1,
            tensor_parallel: 1,
            api_servers: 1,
            speculation: None,
            max_num_seqs: 32,
            kv_capacity_tokens: 32_768,
            load: Load::steady(2.0),
            seed: 1,
            port: 0,
            identity: Identity::default(),
            script: Script::default(),
        }
    }

    /// Capacity of one data-parallel engine in whole blocks.
    pub(crate) fn kv_blocks(&self) -> u64 {
        self.kv_capacity_tokens.max(4096) / self.release.block_tokens()
    }
}
