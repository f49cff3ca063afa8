//! Delivery against a backend that fails in every way, on virtual time.

mod disk;
mod edges;
mod failures;
mod losses;
mod property;
mod rig;

use std::time::Duration;

use pipeline_component::WhenFull;
use pipeline_component::telemetry::table;
use pipeline_config::ByteSize;
use pipeline_model::{Mark, SourceId};
use rig::{Reply, Rig, settings};

#[tokio::test(start_paused = true)]
async fn everything_arrives_once_and_in_order() {
    let mut rig = Rig::new(pipeline_component::Delivery { concurrency: 4, ..settings() }).await;
    let sources: Vec<SourceId> = (0..20).map(|_| SourceId::next()).collect();
    for time in 0..30 {
        sources.iter().for_each(|source| rig.push(*source, time, 7));
        rig.check_balance();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    rig.settle().await;
    let mut got = rig.got();
    assert_eq!(got.len(), 20 * 30 * 7);
    for source in &sources {
        assert_eq!(rig.times(*source), (0..30).collect::<Vec<_>>());
    }
    got.sort_unstable();
    got.dedup();
    assert_eq!(got.len(), 20 * 30 * 7, "nothing twice");
    assert!(rig.attempts().iter().all(|attempt| attempt.weight <= 100));
    assert_eq!(rig.delivered(), 20 * 30 * 7);
    rig.stop(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_more_and_no_longer_than_it_must() {
    let (mut rig, source) = (Rig::new(settings()).await, SourceId::next());
    let began = tokio::time::Instant::now();
    rig.push(source, 1, 30);
    tokio::time::sleep(Duration::from_millis(150)).await;
    rig.push(source, 2, 30);
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert!(rig.attempts().is_empty(), "190 ms of 200");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let first = rig.attempts()[0];
    assert_eq!((first.parts, first.weight), (2, 60));
    assert_eq!(first.at.duration_since(began), Duration::from_millis(200));
    // A full request goes at once, with what fits.
    (3..7).for_each(|time| rig.push(source, time, 30));
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!((rig.attempts()[1].parts, rig.attempts().len()), (3, 2));
    rig.settle().await;
    assert_eq!(rig.times(source), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_a_request_is_cut_by_rows() {
    let (mut rig, source) = (Rig::new(settings()).await, SourceId::next());
    rig.push(source, 1, 20);
    rig.push(source, 2, 250);
    rig.push(source, 3, 20);
    rig.settle().await;
    let weights: Vec<usize> = rig.attempts().iter().map(|attempt| attempt.weight).collect();
    assert_eq!(weights, [20, 100, 100, 50, 20]);
    let rows: Vec<u32> = rig.got().iter().filter(|got| got.time == 2).map(|got| got.row).collect();
    assert_eq!(rows, (0..250).collect::<Vec<_>>());
    assert_eq!(rig.times(source), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn ends_of_series_travel_and_are_no_points() {
    let (mut rig, source) = (Rig::new(settings()).await, SourceId::next());
    let mut batch = rig.batch(source, 1, 3);
    batch.marks = Some(std::sync::Arc::new(vec![Mark::Stale, Mark::Absent, Mark::Present]));
    rig.queue.push(batch.clone());
    batch.marks = Some(std::sync::Arc::new(vec![Mark::Absent; 3]));
    batch.ended = true;
    rig.queue.push(batch);
    rig.settle().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let attempts = rig.attempts();
    assert_eq!(attempts.iter().map(|attempt| attempt.parts).sum::<usize>(), 2, "the end comes too");
    assert_eq!(attempts.iter().map(|attempt| attempt.weight).sum::<usize>(), 2);
    assert_eq!((rig.delivered(), rig.got().len()), (1, 1));
}

/// Memory for about `batches` batches of ten rows.
fn small(batches: usize, when_full: WhenFull) -> pipeline_component::Delivery {
    let mut settings = settings();
    settings.queue.when_full = when_full;
    settings.queue.bytes_max = ByteSize::from_bytes(batches as u64 * batch_bytes() as u64);
    settings.batch.points_max = 20;
    settings
}

fn batch_bytes() -> usize {
    let interner = pipeline_model::Interner::new();
    let shape = rig::shape(&interner, 10);
    let values = vec![pipeline_model::Slot::default(); 10];
    let batch = pipeline_model::Batch::new(SourceId::next(), shape, 0, values);
    super::entry::Entry::new(batch, tokio::time::Instant::now()).bytes
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_the_oldest_but_nothing_in_flight() {
    let (mut rig, source) = (Rig::new(small(10, WhenFull::DropOldest)).await, SourceId::next());
    rig.script([Reply::Slow(Duration::from_secs(60))]);
    for time in 0..100 {
        rig.push(source, time, 10);
        rig.check_balance();
        let bytes = rig.gauge(&table::EXPORTER_QUEUE_BYTES);
        assert!(bytes <= (10 * batch_bytes()) as f64, "{bytes}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(rig.gauge(&table::EXPORTER_IN_FLIGHT), 20.0);
    assert_eq!(rig.gauge(&table::EXPORTER_QUEUE_POINTS), 80.0);
    assert_eq!(rig.dropped("queue_full"), 900);
    let age = rig.gauge(&table::EXPORTER_OLDEST_SECONDS);
    assert!((8.0..=10.0).contains(&age), "{age}");
    rig.settle().await;
    let kept: Vec<i64> = (0..2).chain(92..100).collect();
    assert_eq!(rig.times(source), kept);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_the_newest_where_that_is_wanted() {
    let (mut rig, source) = (Rig::new(small(10, WhenFull::DropNewest)).await, SourceId::next());
    rig.script([Reply::Slow(Duration::from_secs(60))]);
    for time in 0..100 {
        rig.push(source, time, 10);
        rig.check_balance();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(rig.dropped("queue_full"), 900);
    rig.settle().await;
    assert_eq!(rig.times(source), (0..10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_the_queue_is_taken_alone() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Backpressure] {
        let (mut rig, source) = (Rig::new(small(2, when_full)).await, SourceId::next());
        rig.push(source, 1, 90);
        rig.settle().await;
        assert_eq!((rig.delivered(), rig.times(source)), (90, vec![1]), "{when_full:?}");
    }
}
