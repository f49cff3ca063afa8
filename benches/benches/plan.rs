//! The plan of normalize, pod_id and labels: what it costs per sample once it is made, and what making it costs.
//!
//! 200 sources with the page of a newest vLLM. `samples` of the counter column are lines of such a page: divide the
//! time by them for the cost of one. `build` makes one source's plan anew; its items are rows.
#![expect(clippy::expect_used, reason = "a benchmark stops where it stands")]

use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use pipeline_component::{BuildProcessor, Processor, Settings};
use pipeline_config::Section;
use pipeline_model::{
    Batch, Bounds, Group, Kind, Labels, Metric, Plan, Reshape, Shape, ShapeBuilder, Slot, SourceId,
    SourcePlan,
};
use processors::labels::AttachLabels;
use processors::normalize::Normalize;
use processors::pod_id::PodId;

const SOURCES: usize = 200;
/// Lines of a page of one engine.
const LINES: usize = 500;

const HISTOGRAMS: [&str; 14] = [
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_inference_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "request_max_num_generation_tokens",
    "request_params_n",
    "request_params_max_tokens",
    "iteration_tokens_total",
];
const GAUGES: [&str; 3] = ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"];
const COUNTERS: [&str; 5] = [
    "prompt_tokens_total",
    "generation_tokens_total",
    "num_preemptions_total",
    "prefix_cache_queries_total",
    "prefix_cache_hits_total",
];

fn main() {
    divan::main();
}

fn steps<T: BuildProcessor>(toml: &str, settings: &Settings) -> Vec<Arc<dyn Reshape>> {
    let section = Section::from_toml(T::TYPE, toml).expect("it is TOML");
    let config = section.decode().expect("it is a configuration");
    let steps = T::build(config, &section, settings.clone()).expect("it is right");
    steps
        .into_iter()
        .filter_map(|step| match step {
            Processor::Reshape(step) => Some(step),
            Processor::Compute(_) => None,
        })
        .collect()
}

fn plan(settings: &Settings) -> Plan {
    let mut all = steps::<Normalize>("", settings);
    all.extend(steps::<PodId>("key = 'an example key, not a secret'", settings));
    all.extend(steps::<AttachLabels>(
        "attach = { model_id = 'm', model_name = 'M', deployment_id = 'd' }",
        settings,
    ));
    Plan::new(all, Arc::clone(&settings.interner), Arc::clone(&settings.metadata))
}

/// The page of a process with so many engines, and its lines.
fn page(settings: &Settings, source: usize, engines: usize) -> (Arc<Shape>, usize) {
    let mut builder = ShapeBuilder::new(&settings.interner);
    let (instance, pod) =
        (format!("10.0.{}.{}:8000", source / 250, source % 250), format!("vllm-7d9f8-{source:05}"));
    let target = [("job", "vllm"), ("instance", &instance), ("namespace", "llm"), ("pod", &pod)];
    let group = builder.group(Group { labels: Labels::from_pairs(target), ..Group::default() });
    let bounds: Vec<f64> = (0..20).map(|n| 0.001 * f64::from(1 << n)).collect();
    let histogram = Kind::histogram(Bounds::new(&bounds));
    let mut lines = 0;
    let mut push = |name: &str, kind: &Kind, labels: &[(&str, &str)]| {
        lines += if matches!(kind, Kind::Histogram { .. }) { bounds.len() + 3 } else { 1 };
        let metric = Arc::new(Metric::new(name, "", "Help of one metric.", kind.clone()));
        builder
            .push(group, &metric, &Labels::from_pairs(labels.iter().copied()))
            .expect("it is new");
    };
    let numbers = GAUGES
        .map(|name| (name, Kind::Gauge))
        .into_iter()
        .chain(COUNTERS.map(|name| (name, Kind::COUNTER)));
    let numbers: Vec<_> = numbers.chain(HISTOGRAMS.map(|name| (name, histogram.clone()))).collect();
    for (name, kind) in &numbers {
        for engine in 0..engines {
            let engine = engine.to_string();
            let own =
                [("engine", engine.as_str()), ("model_name", "meta-llama/Llama-3.1-8B-Instruct")];
            push(&format!("vllm:{name}"), kind, &own);
        }
    }
    let series = LINES - GAUGES.len() - COUNTERS.len() - HISTOGRAMS.len() * (bounds.len() + 3);
    for n in 0..series {
        push(
            "http_requests_total",
            &Kind::COUNTER,
            &[("handler", &format!("/v1/{n}")), ("status", "2xx")],
        );
    }
    push("baseten_llm_num_requests", &Kind::Gauge, &[]);
    (builder.finish(), lines)
}

/// Batches of all sources, each with its plan made.
fn bound(settings: &Settings, engines: usize) -> (Vec<(Batch, Option<SourcePlan>)>, usize) {
    let plan = plan(settings);
    let mut lines = 0;
    let sources = (0..SOURCES).map(|source| {
        let (shape, of_one) = page(settings, source, engines);
        lines += of_one;
        let values = (0..shape.slots()).map(|slot| Slot::double(slot as f64)).collect();
        let batch = Batch::new(SourceId::next(), shape, 1, values);
        let mut bound = None;
        black_box(plan.apply(batch.clone(), &mut bound));
        (batch, bound)
    });
    (sources.collect(), lines)
}

/// One scrape of every source; with several engines their series are folded into one.
#[divan::bench(args = [1, 2, 8])]
fn steady(bencher: Bencher<'_, '_>, engines: usize) {
    let settings = Settings::standalone("processor", "bench");
    let plan = plan(&settings);
    let (mut sources, lines) = bound(&settings, engines);
    bencher.counter(ItemsCount::new(lines)).bench_local(|| {
        for (batch, bound) in &mut sources {
            black_box(plan.apply(batch.clone(), bound));
        }
    });
}

/// A plan for one more source with a page like the others'.
#[divan::bench(args = [1, 8])]
fn build(bencher: Bencher<'_, '_>, engines: usize) {
    let settings = Settings::standalone("processor", "bench");
    let plan = plan(&settings);
    let (sources, _) = bound(&settings, engines);
    let shape = Arc::clone(&sources[0].0.shape);
    bencher
        .counter(ItemsCount::new(shape.len()))
        .bench_local(|| black_box(plan.bind(&shape, None)));
}
