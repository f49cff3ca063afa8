//! The simulated pods: what each runs, and how well its page lets the truth be known.

use std::time::Duration;

use pipeline_component::{Processor, Settings};
use pipeline_config::Section;
use pipeline_model::Compute;
use simulator::{Engine, EngineSpec, Load, Release, Speculation, Truth};

use super::{EXACT, START};

/// What the speed histogram is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speed {
    /// The engine's time per output token of each request.
    Requests,
    /// The engine's time between tokens.
    Tokens,
    /// Tokens and decoding time of each interval.
    Intervals,
}

/// By what the engine counts prefix cache queries and hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hits {
    /// Tokens, when a request is admitted.
    Tokens,
    /// Blocks of 16 tokens, when a request is admitted.
    Blocks,
    /// Tokens, when a request ends.
    AtEnd,
    /// Not at all: there is a gauge of the rate since the start.
    Gauge,
}

/// What the page says of speculation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drafts {
    Off,
    /// Counted step by step.
    Counted,
    /// Verifications, when a request ends.
    AtEnd,
    /// Counters that cannot be used.
    Broken,
}

/// What is known of the tokens in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InFlight {
    /// Used blocks at every moment.
    Blocks,
    /// Used tokens at the engine's last report.
    Reported,
    /// Running requests only.
    Requests,
}

/// Largest relative errors, where a metric is an estimate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    /// Mean of the speeds.
    pub(super) speed: f64,
    /// Mean deviation over the pages, in parts of the true mean; likewise below.
    pub(super) in_flight: f64,
    pub(super) average: f64,
    pub(super) requests: f64,
}

/// One simulated pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pod {
    pub(super) title: &'static str,
    pub(super) release: Release,
    pub(super) data_parallel: u32,
    pub(super) tensor_parallel: u32,
    pub(super) speculative: bool,
    /// Families that its operator has not switched on.
    pub(super) without: &'static [&'static str],
    /// Seconds of its deployment's autoscaling window.
    pub(super) window: usize,
    pub(super) speed: Speed,
    pub(super) hits: Hits,
    pub(super) drafts: Drafts,
    pub(super) in_flight: InFlight,
    pub(super) allowed: Allowed,
}

/// What pods have unless they say otherwise: the newest vLLM alone.
const VLLM: Pod = Pod {
    title: "vLLM 0.33.0",
    release: Release::Vllm0_33_0,
    data_parallel: 1,
    tensor_parallel: 1,
    speculative: false,
    without: &[],
    window: 60,
    speed: Speed::Requests,
    hits: Hits::Tokens,
    drafts: Drafts::Off,
    in_flight: InFlight::Blocks,
    allowed: Allowed { speed: 0.05, in_flight: 0.02, average: 0.10, requests: EXACT },
};

/// The newest SGLang on two devices.
const SGLANG: Pod = Pod {
    title: "SGLang 0.5.23, tensor parallel 2",
    release: Release::Sglang0_5_23,
    tensor_parallel: 2,
    in_flight: InFlight::Reported,
    allowed: Allowed { speed: 0.05, in_flight: 0.05, average: 0.10, requests: 0.08 },
    ..VLLM
};

pub(super) const PODS: &[Pod] = &[
    Pod {
        title: "vLLM 0.6.3.post1 (V0)",
        release: Release::Vllm0_6_3Post1,
        speed: Speed::Tokens,
        hits: Hits::Gauge,
        allowed: Allowed { speed: 0.25, ..VLLM.allowed },
        ..VLLM
    },
    Pod {
        title: "vLLM 0.6.3.post1 (V0), speculation",
        release: Release::Vllm0_6_3Post1,
        speculative: true,
        speed: Speed::Intervals,
        hits: Hits::Gauge,
        drafts: Drafts::Broken,
        ..VLLM
    },
    Pod {
        title: "vLLM 0.8.5.post1",
        release: Release::Vllm0_8_5Post1,
        speed: Speed::Tokens,
        hits: Hits::Blocks,
        in_flight: InFlight::Requests,
        allowed: Allowed { speed: 0.25, in_flight: 0.2, average: 0.2, ..VLLM.allowed },
        ..VLLM
    },
    Pod {
        title: "vLLM 0.10.2, speculation",
        release: Release::Vllm0_10_2,
        speculative: true,
        speed: Speed::Intervals,
        drafts: Drafts::Counted,
        ..VLLM
    },
    Pod {
        title: "vLLM 0.10.2, 2 data-parallel engines",
        release: Release::Vllm0_10_2,
        data_parallel: 2,
        speed: Speed::Tokens,
        allowed: Allowed { speed: 0.25, ..VLLM.allowed },
        ..VLLM
    },
    VLLM,
    Pod {
        title: "vLLM 0.33.0, 2 data-parallel engines, speculation, window of 120 s",
        data_parallel: 2,
        speculative: true,
        drafts: Drafts::Counted,
        window: 120,
        ..VLLM
    },
    Pod {
        title: "SGLang 0.4.10.post2, tensor parallel 2",
        release: Release::Sglang0_4_10Post2,
        speed: Speed::Tokens,
        hits: Hits::AtEnd,
        allowed: Allowed { speed: 0.2, ..SGLANG.allowed },
        ..SGLANG
    },
    Pod {
        title: "SGLang 0.4.10.post2, tensor parallel 2, without --collect-tokens-histogram",
        release: Release::Sglang0_4_10Post2,
        without: &["sglang:prompt_tokens_histogram", "sglang:generation_tokens_histogram"],
        speed: Speed::Tokens,
        hits: Hits::AtEnd,
        allowed: Allowed { speed: 0.2, ..SGLANG.allowed },
        ..SGLANG
    },
    SGLANG,
    Pod {
        title: "SGLang 0.5.23, tensor parallel 2, speculation",
        speculative: true,
        drafts: Drafts::AtEnd,
        ..SGLANG
    },
];

impl Pod {
    pub(super) fn engine(&self) -> Engine {
        let high = f64::from(self.data_parallel) * if self.speculative { 26.0 } else { 13.0 };
        let spec = EngineSpec {
            data_parallel: self.data_parallel,
            tensor_parallel: self.tensor_parallel,
            speculation: self
                .speculative
                .then_some(Speculation { draft_tokens: 3, acceptance: 0.7 }),
            load: Load { low: 2.0, high, period: Duration::from_secs(170) },
            kv_capacity_tokens: 40_000,
            seed: 5,
            ..EngineSpec::new("truth", self.release)
        };
        Engine::new(spec, START)
    }

    pub(super) fn page(&self, engine: &Engine) -> String {
        let page = engine.page();
        let kept = page.split_inclusive('\n').filter(|line| {
            let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
            !self.without.iter().any(|family| name.starts_with(family))
        });
        kept.collect()
    }

    /// What each worker has counted of its prefix cache, in the unit and at the moment of the engine's own counters.
    pub(super) fn lookups(&self, engine: &Engine) -> Vec<Lookups> {
        let of = |truth: Truth| {
            let (hits, queries) = match self.hits {
                Hits::Tokens | Hits::Gauge => (truth.prefix_hits, truth.prefix_queries),
                Hits::Blocks => (truth.prefix_hits / 16, truth.prefix_queries / 16),
                Hits::AtEnd => (truth.finished_cached_tokens, truth.finished_prompt_tokens),
            };
            Lookups {
                hits: hits as f64,
                queries: queries as f64,
                prompts: truth.prompt_tokens,
                true_hits: truth.prefix_hits,
                true_queries: truth.prefix_queries,
            }
        };
        engine.truth_by_rank().into_iter().map(of).collect()
    }

    pub(super) fn processor(&self, settings: &Settings) -> Box<dyn Compute> {
        let toml = format!("[deployments.truth]\nautoscaling_window = \"{}s\"", self.window);
        let section = Section::from_toml("processors.llm", &toml).unwrap();
        let factories = processors::factories();
        let factory = factories.iter().find(|factory| factory.type_name == "llm").unwrap();
        let steps = (factory.build)(&section, settings.clone()).unwrap();
        let [Processor::Compute(make)] = steps.as_slice() else {
            unreachable!("one step computes")
        };
        make()
    }
}

/// Totals of one worker's prefix cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookups {
    pub(super) hits: f64,
    pub(super) queries: f64,
    /// Prompt tokens processed.
    pub(super) prompts: u64,
    /// Tokens, when requests were admitted.
    pub(super) true_hits: u64,
    pub(super) true_queries: u64,
}
