//! What lies between a receiver and a sender: worker, queue, batching, ledger, with a sender that does nothing. One
//! thread does all of it, so time is CPU; the items are points.
//!
//! `marked` has every seventh row absent, as batches of OTLP streams have. `disk` writes a queue on disk as well.
#![expect(clippy::expect_used, reason = "a benchmark stops where it stands")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use divan::Bencher;
use divan::counter::ItemsCount;
use pipeline_component::telemetry::Telemetry;
use pipeline_component::{
    BoxFuture, BuildExporter, BuildReceiver, Component, Consumer, Delivered, Delivery,
    DiskSettings, ExportError, ExporterFactory, Factories, Outlet, Part, Push, Receiver,
    ReceiverFactory, Running, Sender, Settings, Shutdown, Stability, StartError,
};
use pipeline_config::{Diagnostics, Document, Section};
use pipeline_model::{
    Batch, Group, Interner, Kind, Labels, Mark, Metric, ShapeBuilder, Slot, SourceId,
};
use tokio::task::JoinSet;

/// Points of one round.
const POINTS: usize = 500_000;
/// Sources, so that all shards have work.
const SOURCES: usize = 40;

/// The way into the pipeline, and what came out; factories have no state.
static NEXT: Mutex<Option<Arc<dyn Consumer>>> = Mutex::new(None);
static CAME: AtomicUsize = AtomicUsize::new(0);

fn main() {
    divan::main();
}

type Config = BTreeMap<String, String>;

struct Door;

impl Component for Door {
    type Config = Config;
    const TYPE: &'static str = "door";
    const STABILITY: Stability = Stability::Alpha;
    const SUMMARY: &'static str = "Hands its consumer to the benchmark.";
}

impl BuildReceiver for Door {
    fn build(_: Config, _: &Section, _: Settings) -> Result<Box<dyn Receiver>, Diagnostics> {
        Ok(Box::new(Self))
    }
}

impl Receiver for Door {
    fn start(
        self: Box<Self>,
        next: Arc<dyn Consumer>,
        stop: Shutdown,
    ) -> BoxFuture<'static, Result<Running, StartError>> {
        Box::pin(async move {
            *NEXT.lock().expect("one benchmark") = Some(next);
            let running: Running = Box::pin(async move {
                stop.triggered().await;
                *NEXT.lock().expect("one benchmark") = None;
                Ok(())
            });
            Ok(running)
        })
    }
}

struct Null;

impl Component for Null {
    type Config = Config;
    const TYPE: &'static str = "null";
    const STABILITY: Stability = Stability::Alpha;
    const SUMMARY: &'static str = "Counts.";
}

impl BuildExporter for Null {
    fn build(config: Config, _: &Section, _: Settings) -> Result<Outlet, Diagnostics> {
        let mut delivery = Delivery {
            queue: Default::default(),
            batch: Default::default(),
            retry: Default::default(),
            concurrency: 4,
        };
        delivery.queue.disk = config
            .get("disk")
            .map(|dir| DiskSettings { path: Some(dir.into()), ..DiskSettings::default() });
        let sender = Box::new(|| -> Box<dyn Sender> { Box::new(Self) });
        Ok(Outlet::Push(Push { steps: Vec::new(), delivery, sender }))
    }
}

impl Sender for Null {
    fn send<'a>(&'a mut self, parts: &'a [Part]) -> BoxFuture<'a, Result<Delivered, ExportError>> {
        Box::pin(async move {
            CAME.fetch_add(parts.len(), Ordering::Relaxed);
            Ok(Delivered::default())
        })
    }
}

fn batches(rows: usize, marked: bool) -> Vec<Batch> {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let group = builder.group(Group::default());
    let metric = Arc::new(Metric::new("m", "", "", Kind::Gauge));
    for row in 0..rows {
        let labels = Labels::from_pairs([("row", row.to_string().as_str())]);
        builder.push(group, &metric, &labels).expect("rows differ");
    }
    let shape = builder.finish();
    let mark = |row: usize| if row.is_multiple_of(7) { Mark::Absent } else { Mark::Present };
    let marks = marked.then(|| Arc::new((0..rows).map(mark).collect::<Vec<_>>()));
    let batch = |time: i64| {
        let values = (0..rows).map(|row| Slot::double((row as i64 * time) as f64)).collect();
        let source = SourceId::next();
        Batch { marks: marks.clone(), ..Batch::new(source, Arc::clone(&shape), time, values) }
    };
    (0..SOURCES as i64).map(batch).collect()
}

fn delivers(bencher: Bencher<'_, '_>, rows: usize, marked: bool, disk: bool) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("queue");
    let disk = if disk { format!("disk = '{}'", path.display()) } else { String::new() };
    let text = format!(
        "[receivers.door]\n[exporters.null]\n{disk}\n[pipelines.one]\nreceivers = ['door']\nexporters = ['null']\n"
    );
    let document = Document::parse("bench.toml", &text).expect("it is well formed");
    let factories = Factories {
        receivers: vec![ReceiverFactory::receiver::<Door>()],
        processors: Vec::new(),
        exporters: vec![ExporterFactory::exporter::<Null>()],
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (graph, _) =
        pipeline_engine::build(&document, &factories, &Telemetry::default()).expect("it is right");
    let (stop, mut running) = (Shutdown::new(), JoinSet::new());
    let run = pipeline_engine::run(graph, stop.clone(), || {});
    running.spawn_on(async { run.await.expect("it starts") }, runtime.handle());
    let next = runtime.block_on(async {
        loop {
            if let Some(next) = NEXT.lock().expect("one benchmark").clone() {
                return next;
            }
            tokio::task::yield_now().await;
        }
    });
    let (batches, n) = (batches(rows, marked), POINTS / rows);
    bencher.counter(ItemsCount::new(n * rows)).bench_local(|| {
        runtime.block_on(async {
            let goal = CAME.load(Ordering::Relaxed) + n;
            for batch in batches.iter().cycle().take(n) {
                next.consume(batch.clone()).await.expect("there is room");
            }
            // The rest of the last round waits for its timeout; what is in full requests is enough.
            while CAME.load(Ordering::Relaxed) + (4 * 8192 / rows) < goal {
                tokio::task::yield_now().await;
            }
        });
    });
    drop(next);
    stop.trigger();
    runtime.block_on(async { while running.join_next().await.is_some() {} });
}

#[divan::bench(args = [10, 100, 500, 5000])]
fn memory(bencher: Bencher<'_, '_>, rows: usize) {
    delivers(bencher, rows, false, false);
}

#[divan::bench(args = [10, 500])]
fn marked(bencher: Bencher<'_, '_>, rows: usize) {
    delivers(bencher, rows, true, false);
}

#[divan::bench(args = [10, 100, 500, 5000])]
fn disk(bencher: Bencher<'_, '_>, rows: usize) {
    delivers(bencher, rows, false, true);
}
