//! A pipeline: workers that run its steps. A source always goes to the same worker, so state needs no lock.

use std::sync::Arc;
use std::time::Duration;

use pipeline_component::telemetry::{Counter, Gauge, Telemetry, table};
use pipeline_component::{BoxFuture, ConsumeError, Consumer};
use pipeline_model::Batch;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::delivery::DeliveryQueue;
use crate::queue::{Entry, ExporterQueue};
use crate::steps::{Panicked, Segment, Steps};

/// Batches that may wait for one worker. A receiver waits for its own batch, so this bounds senders, not bytes.
const WORKER_QUEUE: usize = 64;

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

/// An exporter's queue.
#[derive(Clone)]
pub(crate) enum Queue {
    /// Of an exporter within this process.
    Local(Arc<ExporterQueue>),
    /// Of one that delivers elsewhere.
    Push(Arc<DeliveryQueue>),
}

impl Queue {
    /// Takes a batch; how many points it has.
    fn push(&self, batch: Batch) -> usize {
        match self {
            Self::Local(queue) => queue.push(Entry::new(batch)),
            Self::Push(queue) => queue.push(batch),
        }
    }

    /// The exporter's own steps made `given` points of `taken`.
    fn reshaped(&self, taken: usize, given: usize) {
        match self {
            Self::Local(queue) => queue.reshaped(taken, given),
            Self::Push(queue) => queue.reshaped(taken, given),
        }
    }

    /// One of the exporter's own steps panicked on a batch of `points`.
    fn step_panicked(&self, points: usize) {
        match self {
            Self::Local(queue) => queue.step_panicked(points),
            Self::Push(queue) => queue.step_panicked(points),
        }
    }
}

/// Where a pipeline's batches go: one exporter's own steps, and its queue.
#[derive(Clone)]
pub(crate) struct Outflow {
    pub(crate) segments: Arc<[Segment]>,
    pub(crate) queue: Queue,
}

/// One worker's way to one exporter.
struct Outlet {
    steps: Steps,
    queue: Queue,
}

impl Outlet {
    fn new(outflow: &Outflow) -> Self {
        Self { steps: Steps::new(Arc::clone(&outflow.segments)), queue: outflow.queue.clone() }
    }

    fn push(&mut self, batch: Batch) {
        let Self { steps, queue } = self;
        if steps.is_empty() {
            queue.push(batch);
            return;
        }
        let taken = batch.points();
        match steps.run(batch) {
            Ok(batches) => {
                let given = batches.into_iter().map(|batch| queue.push(batch)).sum();
                queue.reshaped(taken, given);
            }
            Err(Panicked) => queue.step_panicked(taken),
        }
    }

    fn forget_idle(&mut self) {
        if self.steps.forget_idle().is_err() {
            self.queue.step_panicked(0);
        }
    }
}

/// The way into a pipeline; clones are the same way. The pipeline ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct PipelineInput {
    workers: Arc<[mpsc::Sender<Job>]>,
    tag: u64,
    /// Exporters that would rather have receivers wait than lose anything.
    gates: Arc<[Arc<DeliveryQueue>]>,
}

/// One worker's state, and where its batches go.
pub(crate) struct Worker {
    name: Arc<str>,
    jobs: mpsc::Receiver<Job>,
    steps: Steps,
    outlets: Vec<Outlet>,
    counts: Counts,
    shown_sources: f64,
}

/// Makes a pipeline: its input, and the workers to be spawned. `tag` tells its streams from those of other pipelines
/// fed by the same receivers.
pub(crate) fn pipeline(
    name: &str,
    tag: u64,
    segments: &Arc<[Segment]>,
    outflows: &[Outflow],
    workers: usize,
    telemetry: &Telemetry,
) -> (PipelineInput, Vec<Worker>) {
    let counts = Counts::new(name, telemetry);
    let name: Arc<str> = Arc::from(name);
    let (senders, workers) = (0..workers.max(1))
        .map(|_| {
            let (sender, jobs) = mpsc::channel(WORKER_QUEUE);
            let worker = Worker {
                name: Arc::clone(&name),
                jobs,
                steps: Steps::new(Arc::clone(segments)),
                outlets: outflows.iter().map(Outlet::new).collect(),
                counts: counts.clone(),
                shown_sources: 0.0,
            };
            (sender, worker)
        })
        .unzip::<_, _, Vec<_>, Vec<_>>();
    let gates = outflows.iter().filter_map(|outflow| match &outflow.queue {
        Queue::Push(queue) if queue.holds_back() => Some(Arc::clone(queue)),
        Queue::Push(_) | Queue::Local(_) => None,
    });
    (PipelineInput { workers: senders.into(), tag, gates: gates.collect() }, workers)
}

impl PipelineInput {
    /// Says when to come again where an exporter that holds receivers back has no room.
    fn check(&self) -> Result<(), ConsumeError> {
        let after = self.gates.iter().filter_map(|queue| queue.full_for()).max();
        after.map_or(Ok(()), |after| Err(ConsumeError::Full { after }))
    }

    /// Takes `batch`; with `checked`, only if there is still room once a worker has a place for it.
    async fn take(&self, mut batch: Batch, checked: bool) -> Result<(), ConsumeError> {
        batch.source = batch.source.derive(self.tag);
        let shard = (batch.source.get() % self.workers.len() as u64) as usize;
        let (done, finished) = oneshot::channel();
        let worker = self.workers.get(shard).ok_or(ConsumeError::Closed)?;
        let place = worker.reserve().await.map_err(|_| ConsumeError::Closed)?;
        if checked {
            self.check()?;
        }
        place.send(Job { batch, done });
        // A worker that panicked on this batch has counted it and answers by dropping `done`.
        finished
            .await
            .map_err(|_| ConsumeError::Permanent("a processor panicked on this batch".to_owned()))
    }
}

impl Consumer for PipelineInput {
    fn consume(&self, batch: Batch) -> BoxFuture<'_, Result<(), ConsumeError>> {
        Box::pin(async move {
            self.check()?;
            self.take(batch, true).await
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
        let points = batch.points() as u64;
        self.counts.points_in.add(points);
        self.counts.waiting.set(self.jobs.len() as f64);
        let outcome = self.steps.run(batch);
        self.counts.builds.add(self.steps.take_builds());
        self.show_sources();
        let Ok(batches) = outcome else {
            self.counts.panics.inc();
            self.counts.dropped_panic.add(points);
            error!(pipeline = %self.name, points, "a processor panicked, the batch is lost");
            return;
        };
        let mut given = 0;
        for batch in &batches {
            given += batch.points() as u64;
            for outlet in &mut self.outlets {
                outlet.push(batch.clone());
            }
        }
        self.counts.points_out.add(given);
        self.counts.removed.add(points.saturating_sub(given));
        self.counts.added.add(given.saturating_sub(points));
        // The sender may have gone; the batch was taken all the same.
        _ = done.send(());
    }

    fn forget_idle(&mut self) {
        if self.steps.forget_idle().is_err() {
            self.counts.panics.inc();
            error!(pipeline = %self.name, "a processor panicked letting go of silent sources");
        }
        self.outlets.iter_mut().for_each(Outlet::forget_idle);
        self.counts.waiting.set(self.jobs.len() as f64);
        self.show_sources();
    }

    /// Several workers share the gauge: each replaces its own share.
    fn show_sources(&mut self) {
        let sources = self.steps.sources() as f64;
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
            let outcome = match self.pipelines.as_slice() {
                [pipeline] => pipeline.consume(batch).await,
                pipelines => take_all(pipelines, &batch).await,
            };
            if outcome.is_ok() { &self.accepted } else { &self.refused }.add(points);
            outcome
        })
    }
}

/// Hands `batch` to every pipeline or, where one of them has no room, to none: what is sent again is not doubled.
async fn take_all(pipelines: &[PipelineInput], batch: &Batch) -> Result<(), ConsumeError> {
    pipelines.iter().try_for_each(PipelineInput::check)?;
    let mut outcome = Ok(());
    for pipeline in pipelines {
        let taken = pipeline.take(batch.clone(), false).await;
        outcome = outcome.and(taken);
    }
    outcome
}
