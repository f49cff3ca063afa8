//! Compute steps in a pipeline: sources that they derive, silence, and panics.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline_component::telemetry::{Telemetry, table};
use pipeline_component::{ConsumeError, Consumer, Processor};
use pipeline_model::{
    Batch, Compute, Context, Group, Interner, Kind, Labels, MetadataStore, Metric, Reshape,
    Reshaped, Shape, ShapeBuilder, Slot, SourceId,
};
use tokio::task::JoinSet;

use crate::pipeline::{Outflow, PipelineInput, Queue, pipeline};
use crate::queue::ExporterQueue;
use crate::steps::segments;

/// The value that the compute step of these tests panics on.
const BAD: f64 = 13.0;
const TAG: u64 = 7;

/// Puts out what comes in, and a second source that counts batches. Says how it was swept.
struct Derives {
    batches: f64,
    sweeps: Arc<Mutex<Vec<Duration>>>,
}

impl Compute for Derives {
    fn compute(&mut self, batch: Batch, out: &mut Vec<Batch>) {
        self.batches += 1.0;
        assert_ne!(batch.values[0].as_double(), BAD, "told to panic");
        let values = vec![Slot::double(self.batches)];
        let mut derived =
            Batch::new(batch.source.derive(TAG), Arc::clone(&batch.shape), batch.time, values);
        derived.ended = batch.ended;
        out.push(batch);
        out.push(derived);
    }

    fn sweep(&mut self, idle: Duration) {
        self.sweeps.lock().unwrap().push(idle);
        assert!(self.sweeps.lock().unwrap().len() != 2, "told to panic");
    }
}

/// Keeps everything.
struct Keeps;

impl Reshape for Keeps {
    fn reshape(&self, input: &Shape, _: &Context<'_>, out: &mut Reshaped<'_>) {
        input.iter().for_each(|series| {
            out.keep(&series).unwrap();
        });
    }
}

/// A pipeline of one worker: a reshape step, the compute step, a reshape step; and where its batches go.
struct Rig {
    input: PipelineInput,
    queue: Arc<ExporterQueue>,
    telemetry: Telemetry,
    shape: Arc<Shape>,
    sweeps: Arc<Mutex<Vec<Duration>>>,
    _running: JoinSet<()>,
}

impl Rig {
    fn new() -> Self {
        let interner = Arc::new(Interner::new());
        let (telemetry, sweeps) = (Telemetry::default(), Arc::new(Mutex::new(Vec::new())));
        let mut builder = ShapeBuilder::new(&interner);
        let group = builder.group(Group::default());
        let metric = Arc::new(Metric::new("n", "", "", Kind::Gauge));
        builder.push(group, &metric, &Labels::empty()).unwrap();
        let shape = builder.finish();
        let of_worker = Arc::clone(&sweeps);
        let make = move || -> Box<dyn Compute> {
            Box::new(Derives { batches: 0.0, sweeps: Arc::clone(&of_worker) })
        };
        let steps = vec![
            Processor::Reshape(Arc::new(Keeps)),
            Processor::Compute(Box::new(make)),
            Processor::Reshape(Arc::new(Keeps)),
        ];
        let segments = segments(steps, &interner, &Arc::new(MetadataStore::new()));
        let queue = ExporterQueue::new("one", 1 << 20, &telemetry);
        let outflow = Outflow { segments: Arc::from([]), queue: Queue::Local(Arc::clone(&queue)) };
        let (input, workers) = pipeline("one", 0, &segments, &[outflow], 1, &telemetry);
        let mut running = JoinSet::new();
        workers.into_iter().for_each(|worker| drop(running.spawn(worker.run())));
        Self { _running: running, input, queue, telemetry, shape, sweeps }
    }

    async fn send(&self, source: SourceId, value: f64, ended: bool) -> Result<(), ConsumeError> {
        let mut batch = Batch::new(source, Arc::clone(&self.shape), 1, vec![Slot::double(value)]);
        batch.ended = ended;
        self.input.consume(batch).await
    }

    /// The next batch that came out.
    async fn next(&self) -> (SourceId, f64, bool) {
        let entry = self.queue.pop().await.unwrap();
        let batch = entry.batch();
        (batch.source, batch.values[0].as_double(), batch.ended)
    }

    fn gauge(&self) -> f64 {
        self.telemetry.scoped(&[("pipeline", "one")]).gauge(&table::PIPELINE_SOURCES, &[]).get()
    }

    fn panics(&self) -> u64 {
        let labels = [("component", "pipelines.one")];
        self.telemetry.counter(&table::COMPONENT_PANICS, &labels).get()
    }
}

#[tokio::test(start_paused = true)]
async fn a_derived_source_is_forgotten_with_the_one_it_comes_from() {
    let (rig, first, second) = (Rig::new(), SourceId::next(), SourceId::next());
    rig.send(first, 1.0, false).await.unwrap();
    assert_eq!(rig.gauge(), 2.0, "the source and what is derived from it");
    rig.send(second, 2.0, false).await.unwrap();
    assert_eq!(rig.gauge(), 4.0);
    rig.send(first, 3.0, true).await.unwrap();
    assert_eq!(rig.gauge(), 2.0, "both of the first are gone");
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(rig.next().await);
    }
    let (a, b) = (first.derive(0), second.derive(0));
    let expected = [
        (a, 1.0, false),
        (a.derive(TAG), 1.0, false),
        (b, 2.0, false),
        (b.derive(TAG), 2.0, false),
        (a, 3.0, true),
        (a.derive(TAG), 3.0, true),
    ];
    assert_eq!(seen, expected);
    rig.send(second, 4.0, true).await.unwrap();
    assert_eq!(rig.gauge(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_compute_step_loses_one_batch() {
    let (rig, bad, good) = (Rig::new(), SourceId::next(), SourceId::next());
    rig.send(good, 1.0, false).await.unwrap();
    rig.send(bad, 2.0, false).await.unwrap();
    let lost = rig.send(bad, BAD, false).await;
    assert!(matches!(lost, Err(ConsumeError::Permanent(_))), "{lost:?}");
    assert_eq!(rig.panics(), 1);
    rig.send(good, 3.0, false).await.unwrap();
    rig.send(bad, 4.0, false).await.unwrap();
    let mut values = Vec::new();
    for _ in 0..8 {
        values.push(rig.next().await.1);
    }
    // The step was made anew, so its own count begins again.
    assert_eq!(values, [1.0, 1.0, 2.0, 2.0, 3.0, 1.0, 4.0, 2.0]);
    assert_eq!(rig.gauge(), 4.0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_at_the_end_of_a_source_leaves_none_of_it() {
    let (rig, source) = (Rig::new(), SourceId::next());
    rig.send(source, BAD, true).await.unwrap_err();
    assert_eq!(rig.gauge(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn compute_steps_are_told_of_silence_and_may_panic_at_it() {
    let (rig, source) = (Rig::new(), SourceId::next());
    rig.send(source, 1.0, false).await.unwrap();
    tokio::time::sleep(Duration::from_secs(16 * 60)).await;
    assert_eq!(rig.gauge(), 0.0, "a silent source is forgotten");
    let sweeps = rig.sweeps.lock().unwrap().clone();
    assert!(sweeps.len() > 10 && sweeps.iter().all(|idle| *idle == Duration::from_secs(900)));
    assert_eq!(rig.panics(), 1);
    rig.send(source, 2.0, false).await.unwrap();
    assert_eq!(rig.gauge(), 2.0);
}
