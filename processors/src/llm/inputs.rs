//! What is read of an engine's page, and the reshape step that brings it onto one vocabulary for both engines.
//!
//! The step recognises the page by normalize's tables, with ranks kept, and puts out one series per [`Input`] (and rank,
//! where the rank matters). Folding of streams, processes and tensor-parallel ranks, resets of single ranks and scaled
//! units are thereby normalize's and the plan's business, not the formulas'.

use std::collections::HashSet;
use std::sync::Arc;

use pipeline_model::{
    Context, Feed, Fold, Kind, Label, Labels, Metric, Number, PushError, Reshape, Reshaped, Series,
    Shape, Str,
};

use super::odd::{Odd, Reason};
use crate::normalize::recognise::{self, Output, Recognised};

/// The label by which the data-parallel engine of an input is told.
pub(super) const RANK: &str = "inferometer.rank";

/// The label under which the name of the served model is passed on.
const MODEL_NAME: &str = "model_name";

/// One quantity that formulas ask for, the same for both engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Input {
    PromptTokens,
    GenerationTokens,
    Finished,
    /// The same as the count of a histogram.
    FinishedTime,
    PromptPerRequest,
    GenerationPerRequest,
    OutputTokenTime,
    InterTokenTime,
    /// Time between output events where one brings several tokens: its sum is the time spent on decoding.
    EventTime,
    CacheQueries,
    CacheHits,
    CacheHitRate,
    AcceptedTokens,
    DraftTokens,
    VerifyCalls,
    DraftLength,
    KvUsage,
    KvConfig,
    KvCapacity,
    UsedTokens,
    Running,
    Waiting,
    QueuedTokens,
    QueueTime,
    PrefillTime,
    DecodeTime,
    Preemptions,
}

/// What sort of points an input has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Counter,
    Histogram,
    Gauge,
    /// The largest speaks for all.
    Largest,
}

/// Name in the inner shape, sort, and whether ranks are kept apart.
const INPUTS: [(Input, &str, Sort, bool); 27] = [
    (Input::PromptTokens, "prompt_tokens", Sort::Counter, false),
    (Input::GenerationTokens, "generation_tokens", Sort::Counter, false),
    (Input::Finished, "finished", Sort::Counter, false),
    (Input::FinishedTime, "finished_time", Sort::Histogram, false),
    (Input::PromptPerRequest, "prompt_per_request", Sort::Histogram, false),
    (Input::GenerationPerRequest, "generation_per_request", Sort::Histogram, false),
    (Input::OutputTokenTime, "output_token_time", Sort::Histogram, false),
    (Input::InterTokenTime, "inter_token_time", Sort::Histogram, false),
    (Input::EventTime, "event_time", Sort::Histogram, false),
    (Input::CacheQueries, "cache_queries", Sort::Counter, true),
    (Input::CacheHits, "cache_hits", Sort::Counter, true),
    (Input::CacheHitRate, "cache_hit_rate", Sort::Gauge, true),
    (Input::AcceptedTokens, "accepted_tokens", Sort::Counter, false),
    (Input::DraftTokens, "draft_tokens", Sort::Counter, false),
    (Input::VerifyCalls, "verify_calls", Sort::Counter, false),
    (Input::DraftLength, "draft_length", Sort::Largest, false),
    (Input::KvUsage, "kv_usage", Sort::Gauge, true),
    (Input::KvConfig, "kv_config", Sort::Largest, true),
    (Input::KvCapacity, "kv_capacity", Sort::Gauge, true),
    (Input::UsedTokens, "used_tokens", Sort::Gauge, false),
    (Input::Running, "running", Sort::Gauge, false),
    (Input::Waiting, "waiting", Sort::Gauge, false),
    (Input::QueuedTokens, "queued_tokens", Sort::Gauge, false),
    (Input::QueueTime, "queue_time", Sort::Histogram, false),
    (Input::PrefillTime, "prefill_time", Sort::Histogram, false),
    (Input::DecodeTime, "decode_time", Sort::Histogram, false),
    (Input::Preemptions, "preemptions", Sort::Counter, false),
];

impl Input {
    /// The input that a series of the inner shape is.
    pub(super) fn of(series: &Series<'_>) -> Option<Self> {
        INPUTS.iter().find(|(_, name, ..)| series.metric.name == **name).map(|(input, ..)| *input)
    }

    fn facts(self) -> (&'static str, Sort, bool) {
        let (_, name, sort, ranked) = INPUTS[self as usize];
        (name, sort, ranked)
    }
}

/// Labels of an engine's info series that say how large its KV cache is.
pub(super) const KV_CONFIG: [&str; 3] = ["kv_cache_size_tokens", "block_size", "num_gpu_blocks"];

/// An engine metric, under its newest name, and the input it is.
struct Use {
    family: &'static str,
    input: Input,
    /// Only series whose label has one of these values.
    only: Option<(&'static str, &'static [&'static str])>,
    /// Not when the page has one of these families: they say it better, or contradict it.
    unless: &'static [&'static str],
    /// Only when the page has this family.
    with: Option<&'static str>,
    /// Key of the method in [`super::methods`], where the input decides it.
    method: &'static str,
}

const fn of(family: &'static str, input: Input) -> Use {
    Use { family, input, only: None, unless: &[], with: None, method: "" }
}

/// vLLM's.
const VLLM: &[Use] = &[
    of("prompt_tokens_total", Input::PromptTokens),
    of("generation_tokens_total", Input::GenerationTokens),
    of("request_success_total", Input::Finished),
    Use {
        unless: &["request_success_total"],
        ..of("e2e_request_latency_seconds", Input::FinishedTime)
    },
    of("request_prompt_tokens", Input::PromptPerRequest),
    of("request_generation_tokens", Input::GenerationPerRequest),
    of("request_time_per_output_token_seconds", Input::OutputTokenTime),
    Use {
        // With speculation an event brings several tokens, and this is the time between events.
        unless: &["request_time_per_output_token_seconds", "spec_decode_num_draft_tokens_total"],
        ..of("inter_token_latency_seconds", Input::InterTokenTime)
    },
    Use {
        unless: &["request_time_per_output_token_seconds"],
        with: Some("spec_decode_num_draft_tokens_total"),
        ..of("inter_token_latency_seconds", Input::EventTime)
    },
    prefix_cache("prefix_cache_queries_total", Input::CacheQueries),
    prefix_cache("prefix_cache_hits_total", Input::CacheHits),
    // What a shared cache adds was looked up for tokens that the local one lacked: the queries are counted already.
    prefix_cache("external_prefix_cache_hits_total", Input::CacheHits),
    // Counted in blocks of unknown size: their ratio is as good.
    prefix_cache("gpu_prefix_cache_queries_total", Input::CacheQueries),
    prefix_cache("gpu_prefix_cache_hits_total", Input::CacheHits),
    Use {
        unless: &["prefix_cache_queries_total", "gpu_prefix_cache_queries_total"],
        method: "hit_rate_gauge",
        ..of("gpu_prefix_cache_hit_rate", Input::CacheHitRate)
    },
    of("spec_decode_num_accepted_tokens_total", Input::AcceptedTokens),
    of("spec_decode_num_draft_tokens_total", Input::DraftTokens),
    of("kv_cache_usage_perc", Input::KvUsage),
    of("cache_config_info", Input::KvConfig),
    of("num_requests_running", Input::Running),
    of("num_requests_waiting", Input::Waiting),
    of("num_requests_swapped", Input::Waiting),
    of("request_queue_time_seconds", Input::QueueTime),
    of("request_prefill_time_seconds", Input::PrefillTime),
    of("request_decode_time_seconds", Input::DecodeTime),
    of("num_preemptions_total", Input::Preemptions),
];

const fn prefix_cache(family: &'static str, input: Input) -> Use {
    Use { method: "prefix_cache", ..of(family, input) }
}

const PREFILL_TOKENS: &str = "prefill_effective_tokens_total";
const REALTIME_TOKENS: &str = "realtime_tokens_total";
const PREFILL_HITS: &[&str] = &["device_hit", "host_hit", "storage_hit"];
const PREFILL_ALL: &[&str] = &["device_hit", "host_hit", "storage_hit", "input"];

/// SGLang's.
const SGLANG: &[Use] = &[
    of("prompt_tokens_total", Input::PromptTokens),
    of("generation_tokens_total", Input::GenerationTokens),
    of("num_requests_total", Input::Finished),
    Use {
        unless: &["num_requests_total"],
        ..of("e2e_request_latency_seconds", Input::FinishedTime)
    },
    of("prompt_tokens_histogram", Input::PromptPerRequest),
    of("generation_tokens_histogram", Input::GenerationPerRequest),
    of("request_time_per_output_token_seconds", Input::OutputTokenTime),
    Use {
        unless: &["request_time_per_output_token_seconds"],
        ..of("inter_token_latency_seconds", Input::InterTokenTime)
    },
    prefill(PREFILL_TOKENS, Input::CacheQueries, PREFILL_ALL),
    prefill(PREFILL_TOKENS, Input::CacheHits, PREFILL_HITS),
    realtime(Input::CacheQueries, &["prefill_cache", "prefill_compute"]),
    realtime(Input::CacheHits, &["prefill_cache"]),
    cached("prompt_tokens_total", Input::CacheQueries),
    cached("cached_tokens_total", Input::CacheHits),
    of("spec_verify_calls_total", Input::VerifyCalls),
    of("spec_num_draft_tokens", Input::DraftLength),
    of("num_used_tokens", Input::UsedTokens),
    Use { unless: &["num_used_tokens"], ..of("kv_used_tokens", Input::UsedTokens) },
    Use { unless: &["num_used_tokens", "kv_used_tokens"], ..of("token_usage", Input::KvUsage) },
    Use {
        unless: &["num_used_tokens", "kv_used_tokens"],
        ..of("max_total_num_tokens", Input::KvCapacity)
    },
    of("num_running_reqs", Input::Running),
    of("num_queue_reqs", Input::Waiting),
    of("num_grammar_queue_reqs", Input::Waiting),
    of("num_prefill_bootstrap_queue_reqs", Input::Waiting),
    of("num_prefill_inflight_queue_reqs", Input::Waiting),
    of("num_decode_prealloc_queue_reqs", Input::Waiting),
    of("num_decode_transfer_queue_reqs", Input::Waiting),
    of("queue_time_seconds", Input::QueueTime),
    of("num_retracted_requests_total", Input::Preemptions),
];

const fn prefill(family: &'static str, input: Input, modes: &'static [&'static str]) -> Use {
    Use { only: Some(("mode", modes)), method: "prefill_tokens", ..of(family, input) }
}

const fn realtime(input: Input, modes: &'static [&'static str]) -> Use {
    Use {
        only: Some(("mode", modes)),
        unless: &[PREFILL_TOKENS],
        method: "realtime_tokens",
        ..of(REALTIME_TOKENS, input)
    }
}

/// Since 0.4.3.post4. A page that never had a hit lacks the hits, not the queries; releases before it have the gauge
/// alone, which says nothing usable of an interval.
const fn cached(family: &'static str, input: Input) -> Use {
    Use { unless: &[PREFILL_TOKENS, REALTIME_TOKENS], method: "cached_tokens", ..of(family, input) }
}

/// The reshape step.
#[derive(Debug)]
pub(super) struct Inputs {
    config: crate::normalize::Config,
    queued_tokens: HashSet<String>,
    extended: bool,
    odd: Odd,
}

impl Inputs {
    pub(super) fn new(queued_tokens: &[String], extended: bool, odd: Odd) -> Self {
        let keep_labels = vec!["engine".to_owned(), "dp_rank".to_owned()];
        Self {
            config: crate::normalize::Config { keep_labels, ..Default::default() },
            queued_tokens: queued_tokens.iter().cloned().collect(),
            extended,
            odd,
        }
    }

    fn wants(&self, input: Input) -> bool {
        self.extended
            || !matches!(
                input,
                Input::QueueTime | Input::PrefillTime | Input::DecodeTime | Input::Preemptions
            )
    }
}

impl Reshape for Inputs {
    fn reshape(&self, input: &Shape, _context: &Context<'_>, out: &mut Reshaped<'_>) {
        for page in recognise::pages(input) {
            page.recognise(&self.config, |recognised| self.page(recognised, out));
        }
    }
}

impl Inputs {
    fn page(&self, page: &Recognised<'_, '_>, out: &mut Reshaped<'_>) {
        let uses = if page.engine.prefix == "vllm:" { VLLM } else { SGLANG };
        let telling = telling_labels(page);
        let has = |family: &&'static str| {
            page.outputs.iter().any(|output| page.base(output) == Some(*family))
                || page.page.has(page.engine, family)
        };
        // Before that release the page never has hits; since, it has none until the first.
        let counts_hits = page.is_since("0.4.3.post4") || has(&"cached_tokens_total");
        for used in uses {
            let skip = used.method == "cached_tokens" && !counts_hits;
            let lacks = used.with.is_some_and(|family| !has(&family));
            if skip || lacks || !self.wants(used.input) || used.unless.iter().any(has) {
                continue;
            }
            for output in page.outputs.iter().filter(|o| page.base(o) == Some(used.family)) {
                let fits = used.only.is_none_or(|(label, values)| {
                    output.labels.text(label).is_some_and(|value| values.contains(&value))
                });
                if fits && let Err(reason) = put(page, output, used, &telling, out) {
                    self.odd.count(reason);
                }
            }
        }
        let queued = page.rows.iter().filter(|row| self.queued_tokens.contains(&*row.metric.name));
        for series in queued {
            let labels = of_instance(page, series, series.labels, &telling);
            let feed = Feed::of(series.row);
            if push(Input::QueuedTokens, "", series, labels, &[feed], out).is_err() {
                self.odd.count(Reason::Kind);
            }
        }
    }
}

/// Names of the labels that tell several pods or models of one page apart: those of the gauge of running requests,
/// which has no label of its own.
fn telling_labels(page: &Recognised<'_, '_>) -> HashSet<Str> {
    let running = |output: &&Output<'_>| {
        matches!(page.base(output), Some("num_requests_running" | "num_running_reqs"))
    };
    let labels = page.outputs.iter().filter(running).flat_map(|output| output.labels.iter());
    labels.map(|label| label.name.clone()).filter(|name| !is_rank(name)).collect()
}

fn is_rank(name: &str) -> bool {
    matches!(name, "engine" | "dp_rank")
}

/// Labels of `series` that say which pod and model it is about.
fn of_instance(
    page: &Recognised<'_, '_>,
    series: &Series<'_>,
    labels: &Labels,
    telling: &HashSet<Str>,
) -> Vec<Label> {
    let kept = labels.without(|name| !telling.iter().any(|telling| *telling == *name));
    let mut kept: Vec<Label> = page.put_back(series, &kept).iter().cloned().collect();
    let named = kept.iter().any(|label| label.name == *MODEL_NAME);
    if !named
        && !telling.contains(MODEL_NAME)
        && series.group.labels.get(MODEL_NAME).is_none()
        && let Some(value) = page.served_model()
    {
        kept.push(Label { name: MODEL_NAME.into(), value: value.clone() });
    }
    kept
}

/// Puts `output` out as the input that it is used for.
fn put(
    page: &Recognised<'_, '_>,
    output: &Output<'_>,
    used: &Use,
    telling: &HashSet<Str>,
    out: &mut Reshaped<'_>,
) -> Result<(), Reason> {
    let Some(series) = output.feeds.first().and_then(|(idx, _)| page.rows.get(*idx)) else {
        return Ok(());
    };
    let mut labels = of_instance(page, series, &output.labels, telling);
    let (_, _, ranked) = used.input.facts();
    if ranked && let Some(rank) = output.labels.iter().find(|label| is_rank(&label.name)) {
        labels.push(Label { name: RANK.into(), value: rank.value.clone() });
    }
    if used.input == Input::KvConfig {
        labels.extend(output.labels.iter().filter(|l| KV_CONFIG.contains(&&*l.name)).cloned());
    }
    let row = |(idx, scale): &(usize, f64)| {
        page.rows.get(*idx).map(|series| Feed { row: series.row, scale: *scale })
    };
    let feeds: Vec<Feed> = output.feeds.iter().filter_map(row).collect();
    push(used.input, used.method, series, labels, &feeds, out)
}

fn push(
    input: Input,
    method: &str,
    series: &Series<'_>,
    labels: Vec<Label>,
    feeds: &[Feed],
    out: &mut Reshaped<'_>,
) -> Result<(), Reason> {
    let page = series.metric;
    let (name, sort, _) = input.facts();
    let (kind, fold) = match (sort, &page.kind) {
        (Sort::Counter, Kind::Sum { monotonic: true, .. }) | (Sort::Histogram, _)
            if !page.kind.is_cumulative_monotonic() =>
        {
            return Err(Reason::Temporality);
        }
        (Sort::Counter, Kind::Sum { .. } | Kind::Gauge) => (Kind::COUNTER, Fold::SumCounter),
        (Sort::Histogram, Kind::Histogram { .. }) => (page.kind.clone(), Fold::SumCounter),
        (Sort::Gauge, Kind::Sum { .. } | Kind::Gauge) => (Kind::Gauge, Fold::Sum),
        (Sort::Largest, Kind::Sum { .. } | Kind::Gauge) => (Kind::Gauge, Fold::Max),
        _ => return Err(Reason::Kind),
    };
    // Integers are passed on as they are: they cannot be folded.
    let fold = if page.number == Number::Int { Fold::First } else { fold };
    // A method is a word of ours, put where nobody else looks: it is read back when the formulas are bound.
    let metric = Metric { number: page.number, ..Metric::new(name, "", method, kind) };
    let metric = out.interner().metric(&Arc::new(metric));
    let labels = Labels::new(labels);
    let group = out.same_group(series.group_idx).map_err(|_| Reason::Kind)?;
    for feed in feeds {
        match out.push(group, &metric, &labels, fold, *feed) {
            Ok(_) => {}
            Err(PushError::Duplicate(_) | PushError::Kind | PushError::Shape(_)) => {
                return Err(Reason::Kind);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normalize::recognise::families;

    #[test]
    fn every_input_is_at_its_place() {
        for (idx, (input, name, ..)) in INPUTS.iter().enumerate() {
            assert_eq!(*input as usize, idx, "{name}");
        }
    }

    /// A typing error here would read nothing, silently.
    #[test]
    fn every_family_is_one_of_the_engines() {
        for (prefix, uses) in [("vllm:", VLLM), ("sglang:", SGLANG)] {
            for used in uses {
                for family in [used.family].iter().chain(used.unless).chain(&used.with) {
                    assert!(families(prefix).contains(family), "{prefix}{family}");
                }
            }
        }
    }
}
