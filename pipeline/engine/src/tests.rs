//! The engine with components made for it: what it counts, contains, drains and refuses.

mod computes;
mod holds_up;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline_component::telemetry::Telemetry;
use pipeline_component::{
    BoxFuture, BuildExporter, BuildProcessor, BuildReceiver, Component, Consumer, ExportError,
    Exporter, ExporterFactory, Factories, Outlet, Processor, ProcessorFactory, Receiver,
    ReceiverFactory, RunError, Running, Settings, Shutdown, Stability, StartError,
};
use pipeline_config::{Diagnostics, Document, Section};
use pipeline_model::{
    Batch, Context, Group, Kind, Labels, Metric, Reshape, Reshaped, Shape, ShapeBuilder, Slot,
    SourceId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::queue::{Entry, ExporterQueue};
use crate::{Graph, Status, build, run};

/// What every test component can be told.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Told {
    /// Batches that a receiver sends.
    batches: usize,
    /// Fails in this way.
    fails: String,
}

/// What exporters of one test saw: exporter name and value. Shared through a global, because factories have no state.
static SEEN: Mutex<Vec<(String, f64)>> = Mutex::new(Vec::new());

fn seen(name: &str) -> Vec<f64> {
    SEEN.lock().unwrap().iter().filter(|(of, _)| of == name).map(|(_, value)| *value).collect()
}

struct Source {
    told: Told,
    settings: Settings,
}

impl Component for Source {
    type Config = Told;
    const TYPE: &'static str = "source";
    const STABILITY: Stability = Stability::Alpha;
    const SUMMARY: &'static str = "Sends 0, 1, 2 …";

    fn warnings(told: &Told, section: &Section) -> Diagnostics {
        let mut found = Diagnostics::new();
        if told.batches > 1_000_000 {
            found.push(section.warning(&["batches"], "config::conflict", "that many", ""));
        }
        found
    }
}

impl BuildReceiver for Source {
    fn build(
        told: Told,
        _: &Section,
        settings: Settings,
    ) -> Result<Box<dyn Receiver>, Diagnostics> {
        Ok(Box::new(Self { told, settings }))
    }
}

impl Receiver for Source {
    fn start(
        self: Box<Self>,
        next: Arc<dyn Consumer>,
        stop: Shutdown,
    ) -> BoxFuture<'static, Result<Running, StartError>> {
        Box::pin(async move {
            if self.told.fails == "start" {
                return Err(StartError::Bind("told to fail".to_owned()));
            }
            let running: Running = Box::pin(async move {
                let mut builder = ShapeBuilder::new(&self.settings.interner);
                let group = builder.group(Group::default());
                let metric = Arc::new(Metric::new("n", "", "", Kind::Gauge));
                builder.push(group, &metric, &Labels::empty()).unwrap();
                let (shape, source) = (builder.finish(), SourceId::next());
                for n in 0..self.told.batches {
                    let batch =
                        Batch::new(source, Arc::clone(&shape), 1, vec![Slot::double(n as f64)]);
                    // A batch that a processor panicked on is refused; the next one goes on.
                    drop(next.consume(batch).await);
                }
                match self.told.fails.as_str() {
                    "run" => return Err(RunError("told to fail".to_owned())),
                    "panic" => panic!("told to panic"),
                    _ => {}
                }
                stop.triggered().await;
                Ok(())
            });
            Ok(running)
        })
    }
}

struct Step(Told);

impl Component for Step {
    type Config = Told;
    const TYPE: &'static str = "step";
    const STABILITY: Stability = Stability::Alpha;
    const SUMMARY: &'static str = "Keeps, or panics.";
}

impl BuildProcessor for Step {
    fn build(told: Told, _: &Section, _: Settings) -> Result<Vec<Processor>, Diagnostics> {
        Ok(vec![Processor::Reshape(Arc::new(Self(told)))])
    }
}

impl Reshape for Step {
    fn reshape(&self, input: &Shape, _: &Context<'_>, out: &mut Reshaped<'_>) {
        assert!(self.0.fails.is_empty(), "told to panic");
        input.iter().for_each(|series| {
            out.keep(&series).unwrap();
        });
    }
}

/// Keeps everything, and should come before [`Step`].
struct Early;

impl Component for Early {
    type Config = Told;
    const TYPE: &'static str = "early";
    const STABILITY: Stability = Stability::Alpha;
    const SUMMARY: &'static str = "Keeps.";
    const BEFORE: &'static [(&'static str, &'static str)] = &[("step", "nothing is left for it")];
}

impl BuildProcessor for Early {
    fn build(told: Told, _: &Section, _: Settings) -> Result<Vec<Processor>, Diagnostics> {
        Ok(vec![Processor::Reshape(Arc::new(Step(told)))])
    }
}

struct Sink {
    told: Told,
    name: String,
    attempts: Mutex<u32>,
}

impl Component for Sink {
    type Config = Told;
    const TYPE: &'static str = "sink";
    const STABILITY: Stability = Stability::Alpha;
    const SUMMARY: &'static str = "Remembers.";
}

impl BuildExporter for Sink {
    fn build(told: Told, _: &Section, settings: Settings) -> Result<Outlet, Diagnostics> {
        let steps: Vec<Processor> = match told.fails.strip_prefix("step ") {
            Some(fails) => {
                let told = Told { fails: fails.replace("never", ""), ..Told::default() };
                vec![Processor::Reshape(Arc::new(Step(told)))]
            }
            None => Vec::new(),
        };
        let sink = Self { told, name: settings.id.name, attempts: Mutex::new(0) };
        Ok(Outlet::local_after(steps, sink))
    }
}

impl Exporter for Sink {
    fn start(&self, stop: Shutdown) -> BoxFuture<'_, Result<Running, StartError>> {
        Box::pin(async move {
            let running: Running = Box::pin(async move {
                stop.triggered().await;
                Ok(())
            });
            Ok(running)
        })
    }

    fn export<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), ExportError>> {
        assert_ne!(self.told.fails, "panic early", "told to panic");
        Box::pin(async move {
            let attempt = {
                let mut attempts = self.attempts.lock().unwrap();
                *attempts += 1;
                *attempts
            };
            match self.told.fails.as_str() {
                "first" if attempt == 1 => {
                    return Err(ExportError::Retryable {
                        reason: "not yet".to_owned(),
                        after: None,
                    });
                }
                "always" => return Err(ExportError::Permanent("never".to_owned())),
                "panic" => panic!("told to panic"),
                "hang" => std::future::pending().await,
                _ => {}
            }
            SEEN.lock().unwrap().push((self.name.clone(), batch.values[0].as_double()));
            Ok(())
        })
    }
}

fn factories() -> Factories {
    Factories {
        receivers: vec![ReceiverFactory::receiver::<Source>()],
        processors: vec![
            ProcessorFactory::processor::<Step>(),
            ProcessorFactory::processor::<Early>(),
        ],
        exporters: vec![ExporterFactory::exporter::<Sink>()],
    }
}

fn graph(text: &str, telemetry: &Telemetry) -> Graph {
    let document = Document::parse("test.toml", text).unwrap();
    build(&document, &factories(), telemetry).unwrap().0
}

/// Runs for a (virtual) while, stops, and gives the self telemetry.
async fn run_for(text: &str, time: Duration) -> (Telemetry, Result<(), StartError>) {
    let telemetry = Telemetry::default();
    let stop = Shutdown::new();
    let running = run(graph(text, &telemetry), stop.clone(), || {});
    let (ended, ()) = tokio::join!(running, async {
        tokio::time::sleep(time).await;
        stop.trigger();
    });
    (telemetry, ended)
}

fn count(telemetry: &Telemetry, name: &str, labels: &[(&str, &str)]) -> f64 {
    let all = telemetry.snapshot();
    let samples =
        all.iter().flat_map(|family| &family.samples).filter(|sample| sample.name == name);
    let fits = |wanted: &(&str, &str), sample: &pipeline_component::telemetry::Sample| {
        sample.labels.iter().any(|(name, value)| (*name, value.as_str()) == *wanted)
    };
    samples
        .filter(|sample| labels.iter().all(|label| fits(label, sample)))
        .map(|sample| sample.value)
        .sum()
}

#[tokio::test(start_paused = true)]
async fn batches_reach_every_exporter_in_order_and_are_counted() {
    let text = "
        [receivers.source]
        batches = 5
        [processors.step]
        [exporters.order_a]
        type = 'sink'
        [exporters.order_b]
        type = 'sink'
        fails = 'first'
        [pipelines.one]
        receivers = ['source']
        processors = ['step']
        exporters = ['order_a', 'order_b']";
    let (telemetry, ended) = run_for(text, Duration::from_secs(5)).await;
    ended.unwrap();
    assert_eq!(seen("order_a"), [0.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(seen("order_b"), [0.0, 1.0, 2.0, 3.0, 4.0], "a retry keeps the order");
    let accepted = [("component", "receivers.source"), ("outcome", "accepted")];
    assert_eq!(count(&telemetry, "inferometer_receiver_points_total", &accepted), 5.0);
    let out = [("pipeline", "one"), ("direction", "out")];
    assert_eq!(count(&telemetry, "inferometer_pipeline_points_total", &out), 5.0);
    let delivered = [("component", "exporters.order_b"), ("outcome", "delivered")];
    assert_eq!(count(&telemetry, "inferometer_exporter_points_total", &delivered), 5.0);
}

#[tokio::test(start_paused = true)]
async fn an_exporter_that_keeps_batches_has_steps_of_its_own() {
    let text = "
        [receivers.source]
        batches = 3
        [exporters.steps_keep]
        type = 'sink'
        fails = 'step never'
        [exporters.steps_panic]
        type = 'sink'
        fails = 'step panics'
        [pipelines.one]
        receivers = ['source']
        exporters = ['steps_panic', 'steps_keep']";
    let (telemetry, ended) = run_for(text, Duration::from_secs(5)).await;
    ended.unwrap();
    assert_eq!(seen("steps_keep"), [0.0, 1.0, 2.0]);
    assert_eq!(seen("steps_panic"), [0.0; 0]);
    let lost = [("component", "exporters.steps_panic"), ("reason", "panic")];
    assert_eq!(count(&telemetry, "inferometer_exporter_dropped_points_total", &lost), 3.0);
    let panics = [("component", "exporters.steps_panic")];
    assert_eq!(count(&telemetry, "inferometer_component_panics_total", &panics), 3.0);
    let removed = [("component", "exporters.steps_keep"), ("effect", "removed")];
    assert_eq!(count(&telemetry, "inferometer_exporter_reshaped_points_total", &removed), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_its_batch_and_nothing_else() {
    let text = "
        [receivers.source]
        batches = 3
        [processors.step]
        fails = 'panic'
        [exporters.panic_good]
        type = 'sink'
        [exporters.panic_bad]
        type = 'sink'
        fails = 'panic'
        [exporters.panic_early]
        type = 'sink'
        fails = 'panic early'
        [pipelines.bad]
        receivers = ['source']
        processors = ['step']
        exporters = ['panic_good']
        [pipelines.good]
        receivers = ['source']
        exporters = ['panic_good', 'panic_bad', 'panic_early']";
    let (telemetry, ended) = run_for(text, Duration::from_secs(5)).await;
    ended.unwrap();
    assert_eq!(seen("panic_good"), [0.0, 1.0, 2.0]);
    let lost = [("pipeline", "bad"), ("reason", "panic")];
    assert_eq!(count(&telemetry, "inferometer_pipeline_dropped_points_total", &lost), 3.0);
    for name in ["exporters.panic_bad", "exporters.panic_early"] {
        let lost = [("component", name), ("reason", "panic")];
        assert_eq!(
            count(&telemetry, "inferometer_exporter_dropped_points_total", &lost),
            3.0,
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_dies_is_visible_and_the_others_go_on() {
    for way in ["run", "panic"] {
        let telemetry = Telemetry::default();
        let text = format!(
            "[receivers.dies]
            type = 'source'
            fails = '{way}'
            [receivers.lives]
            type = 'source'
            batches = 2
            [exporters.dies_{way}]
            type = 'sink'
            [pipelines.one]
            receivers = ['dies', 'lives']
            exporters = ['dies_{way}']"
        );
        let graph = graph(&text, &telemetry);
        let health = graph.health();
        assert!(!health.is_ready(), "nothing has started yet");
        let stop = Shutdown::new();
        let (ended, ()) = tokio::join!(run(graph, stop.clone(), || {}), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let of =
                health.components().into_iter().find(|(name, _)| name == "receivers.dies").unwrap();
            assert!(matches!(of.1, Status::Failed(why) if why.contains("told to")));
            assert!(!health.is_ready());
            stop.trigger();
        });
        ended.unwrap();
        assert_eq!(seen(&format!("dies_{way}")), [0.0, 1.0]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_drained_in_time_is_counted() {
    let text = "
        [service]
        shutdown_timeout = '3s'
        [receivers.source]
        batches = 4
        [exporters.hangs]
        type = 'sink'
        fails = 'hang'
        [exporters.refused]
        type = 'sink'
        fails = 'always'
        [pipelines.one]
        receivers = ['source']
        exporters = ['hangs', 'refused']";
    let began = tokio::time::Instant::now();
    let (telemetry, ended) = run_for(text, Duration::from_secs(1)).await;
    ended.unwrap();
    assert!(began.elapsed() < Duration::from_secs(6), "the deadline holds: {:?}", began.elapsed());
    let lost = [("component", "exporters.hangs"), ("reason", "shutdown")];
    assert_eq!(count(&telemetry, "inferometer_exporter_dropped_points_total", &lost), 4.0);
    let lost = [("component", "exporters.refused"), ("reason", "permanent")];
    assert_eq!(count(&telemetry, "inferometer_exporter_dropped_points_total", &lost), 4.0);
}

#[tokio::test(start_paused = true)]
async fn a_component_that_cannot_begin_ends_the_start() {
    let text = "
        [receivers.source]
        fails = 'start'
        [exporters.sink]
        [pipelines.one]
        receivers = ['source']
        exporters = ['sink']";
    let (_, ended) = run_for(text, Duration::from_secs(1)).await;
    assert!(matches!(ended, Err(StartError::Bind(why)) if why == "receivers.source: told to fail"));
}

#[test]
fn a_full_queue_drops_the_oldest_and_says_so() {
    let interner = pipeline_model::Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let group = builder.group(Group::default());
    builder
        .push(group, &Arc::new(Metric::new("n", "", "", Kind::Gauge)), &Labels::empty())
        .unwrap();
    let shape = builder.finish();
    let batch = |n: f64| Batch::new(SourceId::next(), Arc::clone(&shape), 1, vec![Slot::double(n)]);
    let telemetry = Telemetry::default();
    let queue = ExporterQueue::new("q", batch(0.0).bytes() * 3, &telemetry);
    (0..10).for_each(|n| assert_eq!(queue.push(Entry::new(batch(f64::from(n)))), 1));
    assert_eq!(count(&telemetry, "inferometer_exporter_queue_points", &[]), 3.0);
    assert_eq!(
        count(&telemetry, "inferometer_exporter_dropped_points_total", &[("reason", "queue_full")]),
        7.0
    );
    queue.close();
    queue.push(Entry::new(batch(11.0)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rest: Vec<f64> = runtime.block_on(async {
        let mut rest = Vec::new();
        while let Some(entry) = queue.pop().await {
            rest.push(entry.batch().values[0].as_double());
        }
        rest
    });
    assert_eq!(rest, [7.0, 8.0, 9.0]);
    assert_eq!(
        count(&telemetry, "inferometer_exporter_dropped_points_total", &[("reason", "shutdown")]),
        1.0
    );
}

#[test]
fn what_components_warn_of_fails_nothing_and_is_told() {
    let text = "
[receivers.source]
batches = 1_000_001
[exporters.sink]
[pipelines.one]
receivers = ['source']
exporters = ['sink']
";
    let document = Document::parse("test.toml", text).unwrap();
    let (_, warnings) = build(&document, &factories(), &Telemetry::default()).unwrap();
    let told: Vec<_> = warnings
        .iter()
        .map(|one| (one.message.as_str(), one.primary.as_ref().unwrap().line_column().0))
        .collect();
    assert_eq!(told, [("that many", 3)]);
}

#[test]
fn an_order_of_processors_that_loses_something_is_warned_of() {
    let text = "
[receivers.source]
[processors.a]
type = 'step'
[processors.b]
type = 'step'
[processors.late]
type = 'early'
[exporters.sink]
[pipelines.one]
receivers = ['source']
processors = [
    'a',
    'b',
    'late',
]
exporters = ['sink']
[pipelines.two]
receivers = ['source']
processors = ['late', 'a', 'b']
exporters = ['sink']
";
    let document = Document::parse("test.toml", text).unwrap();
    let (_, warnings) = build(&document, &factories(), &Telemetry::default()).unwrap();
    let told: Vec<_> = warnings.iter().collect();
    let [one] = told[..] else { panic!("one warning: {told:?}") };
    assert_eq!(one.code, "config::order");
    assert_eq!(one.message, "`late` comes after `a`: nothing is left for it");
    assert_eq!(one.primary.as_ref().unwrap().line_column().0, 15);
    assert!(warnings.to_string().contains(r#"processors = ["late", "a", "b"]"#), "{warnings}");
}

#[test]
fn everything_wrong_with_a_configuration_is_told_at_once() {
    let text = "
[servce]
[service]
metric_prefix = '9 x'
[receivers.source]
batchs = 5
[receivers.other]
type = 'sorce'
[exporters.sink]
[exporters.unused]
type = 'sink'
[pipelines.one]
receivers = ['source', 'other', 'sourc']
processors = ['normalise']
exporters = ['sink', 'sink', 'snk']
[pipelines.two]
receivers = ['source']
";
    let document = Document::parse("test.toml", text).unwrap();
    let found = build(&document, &factories(), &Telemetry::default()).unwrap_err();
    let mut codes: Vec<&str> = found.iter().map(|one| one.code).collect();
    codes.sort_unstable();
    let expected = [
        "config::bad-value",
        "config::conflict",
        "config::dangling-route",
        "config::dangling-route",
        "config::dangling-route",
        "config::incomplete",
        "config::unknown-key",
        "config::unknown-table",
        "config::unknown-type",
        "config::unused",
    ];
    assert_eq!(codes, expected, "{found}");
    let text = found.to_string();
    assert!(text.contains("did you mean `sink`?") && text.contains("test.toml:6:1"), "{text}");
}
