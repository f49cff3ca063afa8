//! A pipeline: workers that run its steps. A source always goes to the same worker, so state needs no lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use pipeline_component::telemetry::{Counter, Gauge, Telemetry, table};
use pipeline_component::{BoxFuture, ConsumeError, Consumer, Processor};
use pipeline_model::{
    Batch, Compute, Interner, MetadataStore, Plan, Reshape, SourceId, SourcePlan,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::error;

use crate::queue::{Entry, ExporterQueue};

/// Batches that may wait for one worker. A receiver waits for its own batch, so this bounds senders, not bytes.
const WORKER_QUEUE: usize = 64;

/// A source that has been silent for so long is forgotten: its plan and state go.
const SOURCE_IDLE_MAX: Duration = Duration::from_secs(15 * 60);

/// Consecutive steps of one sort.
pub(crate) enum Segment {
    Plan(Plan),
    Compute(Box<dyn Fn() -> Box<dyn Compute> + Send + Sync>),
}

/// Folds consecutive reshape steps into plans.
pub(crate) fn segments(
    steps: Vec<Processor>,
    interner: &Arc<Interner>,
    metadata: &Arc<MetadataStore>,
) -> Vec<Segment> {
    let plan = |steps| Segment::Plan(Plan::new(steps, Arc::clone(interner), Arc::clone(metadata)));
    let mut segments = Vec::new();
    let mut reshapes: Vec<Arc<dyn Reshape>> = Vec::new();
    for step in steps {
        match step {
            Processor::Reshape(step) => reshapes.push(step),
            Processor::Compute(make) => {
                if !reshapes.is_empty() {
                    segments.push(plan(std::mem::take(&mut reshapes)));
                }
                segments.push(Segment::Compute(make));
            }
        }
    }
    if !reshapes.is_empty() {
        segments.push(plan(reshapes));
    }
    segments
}

/// What self telemetry says of one pipeline.
#[derive(Clone, Debug)]
struct Counts {
    points_in: Counter,
    points_out: Counter,
    removed: Counter,
    added: Counter,
    dropped_panic: Counter,
    panics: Counter,
    builds: Counter,
    waiting: Gauge,
    sources: Gauge,
}

impl Counts {
    fn new(name: &str, telemetry: &Telemetry) -> Self {
        let component = format!("pipelines.{name}");
        let panics = telemetry.counter(&table::COMPONENT_PANICS, &[("component", &component)]);
        let telemetry = telemetry.scoped(&[("pipeline", name)]);
        let points =
            |direction| telemetry.counter(&table::PIPELINE_POINTS, &[("direction", direction)]);
        let reshaped = |effect| telemetry.counter(&table::PIPELINE_RESHAPED, &[("effect", effect)]);
        Self {
            points_in: points("in"),
            points_out: points("out"),
            removed: reshaped("removed"),
            added: reshaped("added"),
            dropped_panic: telemetry.counter(&table::PIPELINE_DROPPED, &[("reason", "panic")]),
            panics,
            builds: telemetry.counter(&table::PLAN_BUILDS, &[]),
            waiting: telemetry.gauge(&table::PIPELINE_QUEUE, &[]),
            sources: telemetry.gauge(&table::PIPELINE_SOURCES, &[]),
        }
    }
}

struct Job {
    batch: Batch,
    done: oneshot::Sender<()>,
}

/// The way into a pipeline; clones are the same way. The pipeline ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct PipelineInput {
    workers: Arc<[mpsc::Sender<Job>]>,
    tag: u64,
}

/// One worker's state, and where its batches go.
pub(crate) struct Worker {
    name: Arc<str>,
    jobs: mpsc::Receiver<Job>,
    segments: Arc<[Segment]>,
    plans: HashMap<SourceId, SourceState>,
    /// Sources that the batch at work ends: the one it came from, and those that compute steps derive from it.
    ended: Vec<SourceId>,
    computes: Vec<Option<Box<dyn Compute>>>,
    exporters: Arc<[Arc<ExporterQueue>]>,
    counts: Counts,
    shown_sources: f64,
}

struct SourceState {
    plans: Vec<Option<SourcePlan>>,
    seen: Instant,
}

/// Makes a pipeline: its input, and the workers to be spawned. `tag` tells its streams from those of other pipelines
/// fed by the same receivers.
pub(crate) fn pipeline(
    name: &str,
    tag: u64,
    segments: Vec<Segment>,
    exporters: Vec<Arc<ExporterQueue>>,
    workers: usize,
    telemetry: &Telemetry,
) -> (PipelineInput, Vec<Worker>) {
    let segments: Arc<[Segment]> = segments.into();
    let exporters: Arc<[Arc<ExporterQueue>]> = exporters.into();
    let counts = Counts::new(name, telemetry);
    let name: Arc<str> = Arc::from(name);
    let (senders, workers) = (0..workers.max(1))
        .map(|_| {
            let (sender, jobs) = mpsc::channel(WORKER_QUEUE);
            let worker = Worker {
                name: Arc::clone(&name),
                jobs,
                segments: Arc::clone(&segments),
                plans: HashMap::default(),
                ended: Vec::new(),
                computes: made(&segments),
                exporters: Arc::clone(&exporters),
                counts: counts.clone(),
                shown_sources: 0.0,
            };
            (sender, worker)
        })
        .unzip::<_, _, Vec<_>, Vec<_>>();
    (PipelineInput { workers: senders.into(), tag }, workers)
}

fn made(segments: &[Segment]) -> Vec<Option<Box<dyn Compute>>> {
    segments
        .iter()
        .map(|segment| match segment {
            Segment::Plan(_) => None,
            Segment::Compute(make) => Some(make()),
        })
        .collect()
}

impl Consumer for PipelineInput {
    fn consume(&self, mut batch: Batch) -> BoxFuture<'_, Result<(), ConsumeError>> {
        Box::pin(async move {
            batch.source = batch.source.derive(self.tag);
            let shard = (batch.source.get() % self.workers.len() as u64) as usize;
            let (done, finished) = oneshot::channel();
            let worker = self.workers.get(shard).ok_or(ConsumeError::Closed)?;
            worker.send(Job { batch, done }).await.map_err(|_| ConsumeError::Closed)?;
            // A worker that panicked on this batch has counted it and answers by dropping `done`.
            match finished.await {
                Ok(()) => Ok(()),
                Err(_) => {
                    Err(ConsumeError::Permanent("a processor panicked on this batch".to_owned()))
                }
            }
        })
    }
}

impl Worker {
    /// Works until every input is gone.
    pub(crate) async fn run(mut self) {
        let mut sweep = tokio::time::interval(Duration::from_secs(60));
        loop {
            tokio::select! {
                job = self.jobs.recv() => match job {
                    Some(job) => self.work(job),
                    None => return,
                },
                _ = sweep.tick() => self.forget_idle(),
            }
        }
    }

    fn work(&mut self, job: Job) {
        let Job { batch, done } = job;
        let (source, points) = (batch.source, batch.points() as u64);
        if batch.ended {
            self.ended.push(source);
        }
        self.counts.points_in.add(points);
        self.counts.waiting.set(self.jobs.len() as f64);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.process(batch, points)));
        for source in self.ended.drain(..) {
            self.plans.remove(&source);
        }
        if outcome.is_err() {
            // What the panic left half done is this source's alone, but for compute steps, which are made anew.
            self.plans.remove(&source);
            self.computes = made(&self.segments);
            self.show_sources();
            self.counts.panics.inc();
            self.counts.dropped_panic.add(points);
            error!(pipeline = %self.name, points, "a processor panicked, the batch is lost");
            return;
        }
        self.show_sources();
        // The sender may have gone; the batch was taken all the same.
        _ = done.send(());
    }

    /// Runs the steps on `batch`, which has `taken` points, and hands what comes out to the exporters.
    fn process(&mut self, batch: Batch, taken: u64) {
        let mut given = 0;
        let segments = Arc::clone(&self.segments);
        let mut batches = vec![batch];
        for (idx, segment) in segments.iter().enumerate() {
            let mut out = Vec::with_capacity(batches.len());
            for batch in batches {
                match segment {
                    Segment::Plan(plan) => out.push(self.reshape(idx, plan, batch)),
                    Segment::Compute(_) => {
                        if let Some(compute) = self.computes.get_mut(idx).and_then(Option::as_mut) {
                            compute.compute(batch, &mut out);
                        }
                    }
                }
            }
            batches = out;
        }
        for batch in batches {
            let entry = Entry::new(batch);
            given += entry.points() as u64;
            for exporter in self.exporters.iter() {
                exporter.push(entry.clone());
            }
        }
        self.counts.points_out.add(given);
        self.counts.removed.add(taken.saturating_sub(given));
        self.counts.added.add(given.saturating_sub(taken));
    }

    fn reshape(&mut self, idx: usize, plan: &Plan, batch: Batch) -> Batch {
        if batch.ended {
            self.ended.push(batch.source);
        }
        let state = self
            .plans
            .entry(batch.source)
            .or_insert_with(|| SourceState { plans: Vec::new(), seen: Instant::now() });
        state.seen = Instant::now();
        if state.plans.len() <= idx {
            state.plans.resize_with(idx + 1, || None);
        }
        let bound = &mut state.plans[idx];
        let before = bound.as_ref().map(SourcePlan::rebuilds);
        let batch = plan.apply(batch, bound);
        if bound.as_ref().map(SourcePlan::rebuilds) != before {
            self.counts.builds.inc();
        }
        batch
    }

    fn forget_idle(&mut self) {
        self.plans.retain(|_, state| state.seen.elapsed() < SOURCE_IDLE_MAX);
        let computes = &mut self.computes;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            computes.iter_mut().flatten().for_each(|compute| compute.sweep(SOURCE_IDLE_MAX));
        }));
        if outcome.is_err() {
            self.computes = made(&self.segments);
            self.counts.panics.inc();
            error!(pipeline = %self.name, "a processor panicked letting go of silent sources");
        }
        self.counts.waiting.set(self.jobs.len() as f64);
        self.show_sources();
    }

    /// Several workers share the gauge: each replaces its own share.
    fn show_sources(&mut self) {
        let sources = self.plans.len() as f64;
        if sources != self.shown_sources {
            self.counts.sources.set(self.counts.sources.get() - self.shown_sources + sources);
            self.shown_sources = sources;
        }
    }
}

/// What a receiver is given: its pipelines, and the count of what they took.
pub(crate) struct ReceiverEdge {
    pipelines: Vec<PipelineInput>,
    accepted: Counter,
    refused: Counter,
}

impl ReceiverEdge {
    /// An edge to `pipelines`; `telemetry` is scoped to the receiver.
    pub(crate) fn new(pipelines: Vec<PipelineInput>, telemetry: &Telemetry) -> Self {
        let points = |outcome| telemetry.counter(&table::RECEIVER_POINTS, &[("outcome", outcome)]);
        Self { pipelines, accepted: points("accepted"), refused: points("refused") }
    }
}

impl Consumer for ReceiverEdge {
    fn consume(&self, batch: Batch) -> BoxFuture<'_, Result<(), ConsumeError>> {
        Box::pin(async move {
            let points = batch.points() as u64;
            let mut outcome = Ok(());
            for pipeline in &self.pipelines {
                let taken = pipeline.consume(batch.clone()).await;
                outcome = outcome.and(taken);
            }
            if outcome.is_ok() { &self.accepted } else { &self.refused }.add(points);
            outcome
        })
    }
}
