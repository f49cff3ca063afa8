//! Binding the formulas to a page: which pods it has, which method each metric can use, and the shape that comes out.

use std::collections::HashMap;
use std::sync::Arc;

use pipeline_component::telemetry::{Gauge, table::LLM_METHOD};
use pipeline_model::{
    Bounds, CONTRACT, ContractMetric, EXTENSIONS, Entity, Group, Kind, Labels, Metadata, Series,
    Shape, ShapeBuilder, Value,
};

use super::config::is_window;
use super::hits::{From, HitRate, Worker};
use super::inputs::{Input, KV_CONFIG, RANK};
use super::load::{Capacity, Held, InFlight, Mean, Requests};
use super::odd::Reason;
use super::page::{Col, Last};
use super::pod::{Acceptance, Carried, Key, Life, Pod, Share};
use super::spec::{Verified, VerifiedCols};
use super::speed::{Busy, IntervalCols, Speed, inverted};
use super::step::Common;
use super::window::Window;
use crate::normalize::target;
use crate::pod::{DEPLOYMENT_NAMES, PodNames};

/// The formulas of all pods of one page.
pub(super) struct Bound {
    /// Of the inputs.
    pub(super) input: Arc<Shape>,
    pub(super) output: Arc<Shape>,
    pub(super) pods: Vec<Pod>,
    /// Per output row the input row whose start time it has.
    pub(super) starts_of: Vec<Option<Col>>,
}

/// Counters that every process has, and that restart with it.
const LIVES: [Input; 10] = [
    Input::PromptTokens,
    Input::GenerationTokens,
    Input::Finished,
    Input::FinishedTime,
    Input::PromptPerRequest,
    Input::GenerationPerRequest,
    Input::OutputTokenTime,
    Input::InterTokenTime,
    Input::DraftTokens,
    Input::VerifyCalls,
];

/// The inputs of one pod.
#[derive(Default)]
struct Found<'s> {
    of: HashMap<Input, Vec<Series<'s>>>,
}

impl<'s> Found<'s> {
    fn all(&self, input: Input) -> &[Series<'s>] {
        self.of.get(&input).map_or(&[], Vec::as_slice)
    }

    fn one(&self, input: Input) -> Option<&Series<'s>> {
        self.all(input).first()
    }

    fn col(&self, input: Input) -> Option<Col> {
        self.one(input).map(Col::of)
    }

    /// The counter of finished requests.
    fn finished(&self) -> Option<Col> {
        self.col(Input::Finished).or_else(|| Some(self.col(Input::FinishedTime)?.count()))
    }

    fn rank(series: &Series<'_>) -> String {
        series.labels.get(RANK).map(Value::to_string).unwrap_or_default()
    }
}

/// Binds the formulas to `input` at `time`.
pub(super) fn bind(
    common: &Common,
    input: &Arc<Shape>,
    previous: Option<&Arc<Shape>>,
    metadata: &Metadata,
    time: i64,
) -> Bound {
    let mut order: Vec<(u32, Labels)> = Vec::new();
    let mut pods: HashMap<(u32, Labels), Found<'_>> = HashMap::new();
    let mut configs: Vec<((u32, Labels), Series<'_>)> = Vec::new();
    for series in input.iter() {
        let Some(kind) = Input::of(&series) else { continue };
        let is_ours =
            |name: &str| name == RANK || kind == Input::KvConfig && KV_CONFIG.contains(&name);
        let key = (series.group_idx, series.labels.without(is_ours));
        if kind == Input::KvConfig {
            configs.push((key, series));
            continue;
        }
        let found = pods.entry(key.clone()).or_insert_with(|| {
            order.push(key);
            Found::default()
        });
        found.of.entry(kind).or_default().push(series);
    }
    // An info series tells less of its engine than the others: it belongs to every pod that it does not exclude.
    for ((group, labels), config) in configs {
        let of_group = pods.iter_mut().filter(|((pod, _), _)| *pod == group);
        for ((_, pod), found) in of_group {
            if labels.iter().all(|label| pod.get(&label.name) == Some(&label.value)) {
                found.of.entry(Input::KvConfig).or_default().push(config);
            }
        }
    }
    let mut rows = Rows::new(common);
    let pods = order
        .into_iter()
        .filter_map(|key| {
            let found = pods.remove(&key)?;
            let group = input.groups().get(key.0 as usize)?;
            let labels = common.settings.interner.labels(&key.1);
            Some(Binder::new(common, group, labels, &found, &mut rows, time).pod(metadata))
        })
        .collect();
    Bound {
        input: Arc::clone(input),
        output: rows.builder.finish_or(previous),
        pods,
        starts_of: rows.starts_of,
    }
}

/// The output shape as it grows.
struct Rows<'c> {
    common: &'c Common,
    builder: ShapeBuilder<'c>,
    slots: u32,
    starts_of: Vec<Option<Col>>,
}

impl<'c> Rows<'c> {
    fn new(common: &'c Common) -> Self {
        let builder = ShapeBuilder::new(&common.settings.interner);
        Self { common, builder, slots: 0, starts_of: Vec::new() }
    }

    /// Adds a row of the metric called `name`; its start is that of `from`, where there is one.
    fn add(
        &mut self,
        group: u32,
        labels: &Labels,
        name: &str,
        bounds: Option<Bounds>,
        from: Option<Col>,
    ) -> Option<(Col, Bounds)> {
        let row = metric(name)?;
        let settings = &self.common.settings;
        let metric = settings.contract.metric(row, bounds, &settings.interner);
        let id = self.builder.push(group, &metric, labels).ok()?;
        self.starts_of.push(from);
        let len = metric.kind.slots();
        let col = Col::at(id, self.slots, len);
        self.slots += len;
        let bounds = match &metric.kind {
            Kind::Histogram { bounds, .. } => bounds.clone(),
            _ => Bounds::new(&[]),
        };
        Some((col, bounds))
    }
}

/// A metric of the contract, or beyond it, by its bare name.
fn metric(name: &str) -> Option<&'static ContractMetric> {
    CONTRACT.iter().chain(EXTENSIONS).find(|metric| metric.name == name)
}

/// Makes one pod.
struct Binder<'b, 'c, 's> {
    common: &'b Common,
    rows: &'b mut Rows<'c>,
    found: &'b Found<'s>,
    group: &'b Group,
    group_idx: u32,
    labels: Labels,
    time: i64,
    shown: Vec<Gauge>,
    carried: Vec<Carried>,
}

impl<'b, 'c, 's> Binder<'b, 'c, 's> {
    fn new(
        common: &'b Common,
        group: &'b Group,
        labels: Labels,
        found: &'b Found<'s>,
        rows: &'b mut Rows<'c>,
        time: i64,
    ) -> Self {
        let group_idx = rows.builder.group(group.clone());
        let (shown, carried) = (Vec::new(), Vec::new());
        Self { common, rows, found, group, group_idx, labels, time, shown, carried }
    }

    fn pod(mut self, metadata: &Metadata) -> Pod {
        self.carry("llm_input_tokens_total", Input::PromptTokens);
        self.carry("llm_output_tokens_total", Input::GenerationTokens);
        self.per_request(
            "llm_input_tokens_per_request",
            Input::PromptPerRequest,
            Input::PromptTokens,
        );
        self.per_request(
            "llm_output_tokens_per_request",
            Input::GenerationPerRequest,
            Input::GenerationTokens,
        );
        let speed = self.speed();
        let hits = self.hits();
        let (verified, acceptance) = self.speculation();
        let in_flight = self.in_flight(metadata);
        let requests = self.requests();
        for (name, input) in [
            ("llm_queue_time_seconds", Input::QueueTime),
            ("llm_prefill_time_seconds", Input::PrefillTime),
            ("llm_decode_time_seconds", Input::DecodeTime),
            ("llm_preemptions_total", Input::Preemptions),
        ] {
            self.carry(name, input);
        }
        let found = self.found;
        let life = |input| Some(Life::new(input, found.col(input)?));
        Pod {
            key: Key { group: self.group.clone(), labels: self.labels },
            carried: self.carried,
            speed,
            hits,
            verified,
            acceptance,
            requests,
            in_flight,
            lives: LIVES.into_iter().filter_map(life).collect(),
            last: None,
            _shown: self.shown,
        }
    }

    fn add(
        &mut self,
        name: &str,
        bounds: Option<Bounds>,
        from: Option<Col>,
    ) -> Option<(Col, Bounds)> {
        self.rows.add(self.group_idx, &self.labels, name, bounds, from)
    }

    fn out(&mut self, name: &str) -> Option<Col> {
        self.add(name, None, None).map(|(col, _)| col)
    }

    /// Says in self telemetry how `metric` is measured, for as long as the pod is bound.
    fn show(&mut self, metric: &str, method: &str) {
        let labels = [("target", target(self.group)), ("metric", metric), ("method", method)];
        let gauge = self.common.settings.telemetry.gauge(&LLM_METHOD, &labels);
        gauge.set(1.0);
        self.shown.push(gauge);
    }

    /// Passes an input on as it is.
    fn carry(&mut self, name: &str, input: Input) -> bool {
        let Some(series) = self.found.one(input) else { return false };
        let from = Col::of(series);
        let bounds = match &series.metric.kind {
            Kind::Histogram { bounds, .. } => Some(bounds.clone()),
            _ => None,
        };
        let Some((to, _)) = self.add(name, bounds, Some(from)) else { return false };
        self.carried.push(Carried::Whole { from, to });
        true
    }

    /// A histogram of tokens per request: the engine's, or one without buckets from two counters.
    fn per_request(&mut self, name: &'static str, histogram: Input, tokens: Input) {
        if self.carry(name, histogram) {
            self.show(name, "histogram");
            return;
        }
        if let (Some(sum), Some(count)) = (self.found.col(tokens), self.found.finished())
            && let Some((to, _)) = self.add(name, Some(Bounds::new(&[])), Some(sum))
        {
            self.carried.push(Carried::Mean { sum, count, to });
            self.show(name, "mean");
        }
    }

    fn speed(&mut self) -> Option<Speed> {
        const NAME: &str = "llm_tokens_per_second_per_request";
        let times = [
            (Input::OutputTokenTime, "time_per_output_token"),
            (Input::InterTokenTime, "inter_token_latency"),
        ];
        for (input, method) in times {
            let Some(series) = self.found.one(input) else { continue };
            let Kind::Histogram { bounds, min_max: false, .. } = &series.metric.kind else {
                self.common.odd.count(Reason::Kind);
                continue;
            };
            let speeds = inverted(bounds.as_slice());
            let (out, speeds) = self.add(NAME, Some(speeds), None)?;
            self.show(NAME, method);
            return Some(Speed::of_times(Col::of(series), bounds, out, speeds, self.time));
        }
        let (busy, method) = match self.found.col(Input::EventTime) {
            Some(decoding) => (Busy::Decoding(decoding), "decode_time"),
            None => (Busy::Running(self.found.col(Input::Running)?), "interval"),
        };
        let cols = IntervalCols {
            generated: self.found.col(Input::GenerationTokens)?,
            finished: self.found.finished()?,
            busy,
        };
        let (out, bounds) = self.add(NAME, None, None)?;
        self.show(NAME, method);
        Some(Speed::interval(cols, out, bounds, self.time))
    }

    fn hits(&mut self) -> Option<HitRate> {
        const NAME: &str = "llm_kv_cache_hit_rate";
        let hits = self.found.all(Input::CacheHits);
        let counted = self.found.all(Input::CacheQueries).iter().map(|queries| {
            let rank = Found::rank(queries);
            let same = hits.iter().find(|hits| Found::rank(hits) == rank);
            let method = queries.metric.description.to_string();
            let from = From::Counters {
                queries: Col::of(queries),
                hits: same.map(Col::of),
                last_queries: Last::default(),
                last_hits: Last::default(),
                method: method.clone(),
            };
            (Worker { rank, from }, method)
        });
        let mut workers: Vec<(Worker, String)> = counted.collect();
        if workers.is_empty() {
            let prompts = self.found.col(Input::PromptTokens)?;
            let gauges = self.found.all(Input::CacheHitRate).iter().map(|rate| {
                let last_prompts = Last::default();
                let from = From::Gauge { rate: Col::of(rate), prompts, last_prompts };
                (Worker { rank: Found::rank(rate), from }, rate.metric.description.to_string())
            });
            workers = gauges.collect();
        }
        let method = workers.first()?.1.clone();
        let (out, bounds) = self.add(NAME, None, None)?;
        self.show(NAME, &method);
        let workers = workers.into_iter().map(|(worker, _)| worker).collect();
        let mut rate = HitRate::new(out, bounds, workers, self.time);
        if self.common.config.extended {
            rate.ratio_out = self.out("llm_prefix_cache_hit_ratio");
        }
        Some(rate)
    }

    fn speculation(&mut self) -> (Option<Verified>, Option<Acceptance>) {
        const ACCEPTED: &str = "llm_spec_decode_num_accepted_tokens_total";
        const DRAFTED: &str = "llm_spec_decode_num_draft_tokens_total";
        let found = self.found;
        let mut share = None;
        let mut verified = None;
        if let (Some(accepted), Some(drafted)) =
            (found.col(Input::AcceptedTokens), found.col(Input::DraftTokens))
        {
            self.carry(ACCEPTED, Input::AcceptedTokens);
            self.carry(DRAFTED, Input::DraftTokens);
            self.show(ACCEPTED, "counters");
            self.show(DRAFTED, "counters");
            share = Some(Share::Cols { accepted, drafted });
        } else if let Some(cols) = self.verified(ACCEPTED, DRAFTED) {
            self.show(ACCEPTED, "verify_calls");
            self.show(DRAFTED, "verify_calls");
            verified = Some(Verified::new(cols));
            share = Some(Share::Verified);
        }
        let acceptance = share.filter(|_| self.common.config.extended).and_then(|share| {
            let out = self.out("llm_spec_decode_acceptance_ratio")?;
            Some(Acceptance::new(share, out))
        });
        (verified, acceptance)
    }

    fn verified(&mut self, accepted: &str, drafted: &str) -> Option<VerifiedCols> {
        let found = self.found;
        let generated = found.col(Input::GenerationTokens)?;
        let finished = found.finished()?;
        let verified = found.col(Input::VerifyCalls)?;
        let length = found.col(Input::DraftLength)?;
        let (accepted_out, _) = self.add(accepted, None, Some(verified))?;
        let (drafted_out, _) = self.add(drafted, None, Some(verified))?;
        Some(VerifiedCols { generated, finished, verified, length, accepted_out, drafted_out })
    }

    fn requests(&mut self) -> Option<Requests> {
        let running = self.found.col(Input::Running)?;
        let waiting = self.found.col(Input::Waiting);
        let out = self.out("llm_num_requests")?;
        Some(Requests { running, waiting, out })
    }

    fn in_flight(&mut self, metadata: &Metadata) -> Option<InFlight> {
        const NAME: &str = "llm_in_flight_tokens";
        let (from, method) = self.held()?;
        let out = self.out(NAME)?;
        let average_out = self.out("llm_avg_in_flight_tokens")?;
        self.show(NAME, method);
        let window = Window::new(self.window(metadata));
        let queued = self.found.col(Input::QueuedTokens);
        Some(InFlight { from, queued, out, average_out, window })
    }

    /// The best way there is to know the tokens that requests hold.
    fn held(&self) -> Option<(Held, &'static str)> {
        let found = self.found;
        if let Some(tokens) = found.col(Input::UsedTokens) {
            return Some((Held::Tokens(tokens), "used_tokens"));
        }
        let usages = found.all(Input::KvUsage);
        let workers: Option<Vec<_>> = usages
            .iter()
            .map(|usage| Some((Col::of(usage), self.capacity(usage, usages.len())?)))
            .collect();
        if let Some(workers) = workers.filter(|workers| !workers.is_empty()) {
            return Some((Held::Usage(workers), "kv_usage"));
        }
        let running = found.col(Input::Running)?;
        let mean = |histogram, tokens| {
            let of_histogram =
                found.col(histogram).map(|col| Mean { sum: col, count: col.count() });
            of_histogram
                .or_else(|| Some(Mean { sum: found.col(tokens)?, count: found.finished()? }))
        };
        let prompts = mean(Input::PromptPerRequest, Input::PromptTokens)?;
        let outputs = mean(Input::GenerationPerRequest, Input::GenerationTokens)?;
        Some((Held::MeanLength { running, prompts, outputs }, "mean_length"))
    }

    /// Tokens that the KV cache of the engine with this usage holds.
    fn capacity(&self, usage: &Series<'_>, engines: usize) -> Option<Capacity> {
        let rank = Found::rank(usage);
        let same = |series: &&Series<'_>| Found::rank(series) == rank;
        if let Some(gauge) = self.found.all(Input::KvCapacity).iter().find(same) {
            return Some(Capacity::Gauge(Col::of(gauge)));
        }
        let configs = self.found.all(Input::KvConfig);
        let mut of_rank: Vec<_> = configs.iter().filter(same).collect();
        if of_rank.is_empty() && engines == 1 {
            of_rank = configs.iter().collect();
        }
        let told = of_rank
            .into_iter()
            .filter_map(|config| Some((Col::of(config), told_capacity(config.labels, engines)?)));
        let told: Vec<_> = told.collect();
        (!told.is_empty()).then_some(Capacity::Told(told))
    }

    /// The autoscaling window of the pod's deployment, in nanoseconds.
    fn window(&self, metadata: &Metadata) -> i64 {
        let config = &self.common.config;
        let get = |name: &str| {
            let group = self.group;
            let own = self.labels.get(name).or_else(|| group.labels.get(name));
            own.or_else(|| group.resource.attributes.get(name))
        };
        let pod = PodNames::default().find(get, get, metadata);
        let facts = pod.as_ref().and_then(|pod| pod.facts);
        let of_pod = |name: &str| facts.and_then(|facts| facts.text(name));
        // Under the names by which `labels` finds it, in its order.
        let names = || ["deployment_id"].into_iter().chain(DEPLOYMENT_NAMES);
        let id = names()
            .find_map(|name| get(name).and_then(Value::as_str))
            .or_else(|| names().find_map(of_pod));
        let configured = id.and_then(|id| config.deployments.get(id));
        let told = || {
            let entity = Entity::Deployment(id?.into());
            metadata.get(&entity).and_then(|facts| facts.text("autoscaling_window"))
        };
        let told = || of_pod("autoscaling_window").or_else(told);
        let span = match configured {
            Some(deployment) => deployment.autoscaling_window.get(),
            None => told()
                .and_then(|text| {
                    let span = read_window(text);
                    if span.is_none() {
                        self.common.odd.count(Reason::Window);
                    }
                    span
                })
                .unwrap_or_else(|| config.autoscaling_window.get()),
        };
        i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
    }
}

/// Seconds, or a number with a unit.
fn read_window(text: &str) -> Option<std::time::Duration> {
    let seconds = text.parse().ok().map(std::time::Duration::from_secs);
    let span = seconds.or_else(|| text.parse::<pipeline_config::Duration>().ok().map(|d| d.get()));
    span.filter(|span| is_window(*span))
}

/// The size that an engine's info series tells. Newer releases give it per engine, in tokens; before that it is blocks,
/// and their number is that of all engines of the process together, repeated on the series of each. vLLM 0.8 has the
/// word `None` there: unknown.
fn told_capacity(labels: &Labels, engines: usize) -> Option<f64> {
    let number = |name: &str| {
        let value = labels.text(name)?.parse::<f64>().ok()?;
        (value.is_finite() && value > 0.0).then_some(value)
    };
    number("kv_cache_size_tokens")
        .or_else(|| Some(number("block_size")? * number("num_gpu_blocks")? / engines as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_as_engines_tell_them() {
        let told = |labels: &[(&str, &str)], engines| {
            told_capacity(&Labels::from_pairs(labels.iter().copied()), engines)
        };
        let blocks = [("block_size", "16"), ("num_gpu_blocks", "3000")];
        assert_eq!(told(&blocks, 1), Some(48_000.0));
        assert_eq!(told(&blocks, 2), Some(24_000.0));
        let tokens = [("kv_cache_size_tokens", "24000"), blocks[0], blocks[1]];
        assert_eq!(told(&tokens, 2), Some(24_000.0));
        assert_eq!(
            told(&[("kv_cache_size_tokens", "None"), blocks[0], blocks[1]], 1),
            Some(48_000.0)
        );
        assert_eq!(told(&[("block_size", "16"), ("num_gpu_blocks", "None")], 1), None);
        assert_eq!(told(&[("block_size", "0"), ("num_gpu_blocks", "1")], 1), None);
        assert_eq!(told(&[], 1), None);
    }

    #[test]
    fn windows_as_metadata_has_them() {
        for (text, seconds) in [
            ("300", Some(300)),
            ("5m", Some(300)),
            ("10", Some(10)),
            ("1h", Some(3600)),
            ("9", None),
            ("3601", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(read_window(text), seconds.map(std::time::Duration::from_secs), "{text}");
        }
    }
}
