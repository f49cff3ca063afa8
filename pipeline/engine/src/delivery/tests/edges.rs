//! Between a pipeline and its exporters: backpressure, steps of their own, and who holds up whom.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline_component::telemetry::{Telemetry, table};
use pipeline_component::{ConsumeError, Consumer, Delivery, Processor, WhenFull};
use pipeline_model::{Batch, Compute, Interner, MetadataStore, SourceId};
use tokio::task::JoinSet;

use super::rig::{Reply, Rig, settings};
use super::{batch_bytes, small};
use crate::pipeline::{Outflow, PipelineInput, Queue, ReceiverEdge, pipeline};
use crate::steps::{Segment, segments};

fn no_steps() -> Arc<[Segment]> {
    steps(Vec::new())
}

fn steps(steps: Vec<Processor>) -> Arc<[Segment]> {
    segments(steps, &Arc::new(Interner::new()), &Arc::new(MetadataStore::new()))
}

fn outflow(rig: &Rig, segments: Arc<[Segment]>) -> Outflow {
    Outflow { segments, queue: Queue::Push(Arc::clone(&rig.queue)) }
}

/// A pipeline without steps in front of `outflows`.
fn piped(outflows: &[Outflow], tag: u64) -> (PipelineInput, JoinSet<()>) {
    let (input, workers) = pipeline("one", tag, &no_steps(), outflows, 2, &Telemetry::default());
    let mut running = JoinSet::new();
    workers.into_iter().for_each(|worker| drop(running.spawn(worker.run())));
    (input, running)
}

#[tokio::test(start_paused = true)]
async fn backpressure_reaches_the_receiver_and_loses_nothing() {
    let mut rig = Rig::new(small(10, WhenFull::Backpressure)).await;
    let other = Rig::new(settings()).await;
    let outflows = [outflow(&rig, no_steps()), outflow(&other, no_steps())];
    let (input, _running) = piped(&outflows, 0);
    rig.always(Reply::Fail);
    let source = SourceId::next();
    let (mut taken, mut told) = (Vec::new(), 0);
    for time in 0..40 {
        let batch = rig.batch(source, time, 10);
        match input.consume(batch).await {
            Ok(()) => taken.push(time),
            Err(ConsumeError::Full { after }) => {
                assert!(after >= Duration::from_secs(1));
                told += 1;
            }
            Err(wrong) => panic!("{wrong}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((taken.len(), told), (10, 30));
    assert_eq!(other.got().len() as u64, 100, "refused before anything took it");
    rig.always(Reply::Take);
    rig.settle().await;
    let batch = rig.batch(source, 40, 10);
    input.consume(batch).await.unwrap();
    taken.push(40);
    rig.settle().await;
    assert_eq!(rig.times(source.derive(0)), taken);
    assert_eq!(rig.dropped("queue_full"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_for_two_pipelines_is_taken_by_both_or_neither() {
    let mut full = Rig::new(small(4, WhenFull::Backpressure)).await;
    let free = Rig::new(settings()).await;
    let (first, _one) = piped(&[outflow(&free, no_steps())], 0);
    let (second, _two) = piped(&[outflow(&full, no_steps())], 1);
    let edge = ReceiverEdge::new(vec![first, second], &Telemetry::default());
    full.always(Reply::Hang);
    let source = SourceId::next();
    let mut taken = 0;
    for time in 0..10 {
        let batch = full.batch(source, time, 10);
        taken += usize::from(edge.consume(batch).await.is_ok());
    }
    assert_eq!(taken, 4);
    free.settle().await;
    assert_eq!(free.times(source.derive(0)), [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_exporter_changes_nothing_for_the_others() {
    let mut dead = Rig::new(small(50, WhenFull::DropOldest)).await;
    let (one, two) = (Rig::new(settings()).await, Rig::new(settings()).await);
    let outflows = [&dead, &one, &two].map(|rig| outflow(rig, no_steps()));
    let (input, _running) = piped(&outflows, 0);
    dead.always(Reply::Fail);
    let sources: Vec<SourceId> = (0..5).map(|_| SourceId::next()).collect();
    // Ten minutes, two batches a second from each source.
    for time in 0..1200 {
        for source in &sources {
            let batch = dead.batch(*source, time, 10);
            input.consume(batch).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(dead.gauge(&table::EXPORTER_QUEUE_BYTES) <= (50 * batch_bytes()) as f64);
        for well in [&one, &two] {
            assert_eq!(well.got().len() as i64, (time + 1) * 50, "no batch comes late");
        }
    }
    for source in &sources {
        let expected: Vec<i64> = (0..1200).collect();
        assert_eq!(one.times(source.derive(0)), expected);
        assert_eq!(two.times(source.derive(0)), expected);
    }
    dead.check_balance();
    assert_eq!(dead.dropped("queue_full") + 500, 60_000);
    dead.always(Reply::Take);
    dead.settle().await;
    assert_eq!(dead.delivered(), 500);
}

/// Leaves out every other batch, and panics at time 13.
struct EveryOther {
    seen: u64,
}

impl Compute for EveryOther {
    fn compute(&mut self, batch: Batch, out: &mut Vec<Batch>) {
        assert_ne!(batch.time, 13, "told to panic");
        self.seen += 1;
        if self.seen % 2 == 1 {
            out.push(batch);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn steps_of_an_exporter_are_its_own_and_so_are_their_panics() {
    let mut with = Rig::new(settings()).await;
    let without = Rig::new(Delivery { concurrency: 2, ..settings() }).await;
    let made = Arc::new(Mutex::new(0));
    let count = Arc::clone(&made);
    let make = move || -> Box<dyn Compute> {
        *count.lock().unwrap() += 1;
        Box::new(EveryOther { seen: 0 })
    };
    let own = steps(vec![Processor::Compute(Box::new(make))]);
    let (input, _running) = piped(&[outflow(&with, own), outflow(&without, no_steps())], 0);
    assert_eq!(*made.lock().unwrap(), 2, "one per worker");
    let source = SourceId::next();
    for time in 10..17 {
        let batch = with.batch(source, time, 10);
        input.consume(batch).await.unwrap();
    }
    with.settle().await;
    without.settle().await;
    assert_eq!(without.times(source.derive(0)), (10..17).collect::<Vec<_>>());
    // Made anew after the panic at 13, so it begins again.
    assert_eq!(with.times(source.derive(0)), [10, 12, 14, 16]);
    assert_eq!((with.dropped("panic"), without.dropped("panic")), (10, 0));
    assert_eq!(with.counter(&table::EXPORTER_RESHAPED, &[("effect", "removed")]), 20);
    assert_eq!(with.counter(&table::EXPORTER_TAKEN, &[]), 50);
}
