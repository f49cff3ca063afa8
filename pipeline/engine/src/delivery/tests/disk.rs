//! The queue on disk, with the real journal: restarts, outages, disks that are full or fail.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pipeline_component::telemetry::{Telemetry, table};
use pipeline_component::{Delivery, DiskSettings, Part, StartError, WhenFull};
use pipeline_journal::Os;
use pipeline_journal::faulty::{Fault, FaultyDisk};
use pipeline_model::SourceId;
use proptest::prelude::*;
use tokio::task::JoinSet;

use super::rig::{Fake, Reply, Rig, Shared, settings};
use super::{batch_bytes, small};
use crate::delivery::{DeliveryNode, DeliveryQueue};

const MIB: u64 = 1 << 20;

async fn wait(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_shutdown_leaves_is_delivered_first_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let source = SourceId::next();
    let mut rig = Rig::on_disk(settings(), dir.path(), MIB, Arc::new(Os)).await;
    rig.push(source, 0, 50);
    rig.settle().await;
    rig.always(Reply::Fail);
    (1..30).for_each(|time| rig.push(source, time, 50));
    wait(1000).await;
    rig.stop(Duration::from_secs(5)).await;
    assert_eq!((rig.delivered(), rig.dropped("shutdown")), (50, 0));
    drop(rig);

    // Another process: other ids, four lanes, and new batches of the same series from the beginning.
    let settings = Delivery { concurrency: 4, ..settings() };
    let mut rig = Rig::on_disk(settings, dir.path(), MIB, Arc::new(Os)).await;
    assert_eq!(rig.counter(&table::EXPORTER_RECOVERED, &[]), 29 * 50);
    rig.check_balance();
    for time in 30..50 {
        rig.push(SourceId::next(), time, 50);
        wait(20).await;
    }
    rig.settle().await;
    let times = rig.all_times();
    assert_eq!(times[..29], (1..30).collect::<Vec<_>>(), "first what was there, in order");
    assert_eq!(times.len(), 49);
    assert_eq!(rig.delivered(), 49 * 50);
    // Caught up: memory alone from here on.
    assert_eq!(rig.gauge(&table::EXPORTER_DISK_POINTS), 0.0);
    rig.push(source, 50, 50);
    rig.settle().await;
    rig.stop(Duration::from_secs(1)).await;
    drop(rig);
    let rig = Rig::on_disk(settings_of(1), dir.path(), MIB, Arc::new(Os)).await;
    assert_eq!(rig.counter(&table::EXPORTER_RECOVERED, &[]), 0, "nothing was left");
}

fn settings_of(concurrency: usize) -> Delivery {
    Delivery { concurrency, ..settings() }
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_memory_is_read_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut delivery = small(20, WhenFull::DropOldest);
    delivery.concurrency = 3;
    let mut rig = Rig::on_disk(delivery, dir.path(), 4 * MIB, Arc::new(Os)).await;
    rig.always(Reply::Fail);
    let sources: Vec<SourceId> = (0..7).map(|_| SourceId::next()).collect();
    let memory = (20 * batch_bytes()) as f64;
    for time in 0..200 {
        sources.iter().for_each(|source| rig.push(*source, time, 10));
        wait(100).await;
        rig.check_balance();
        assert!(rig.gauge(&table::EXPORTER_QUEUE_BYTES) <= memory);
    }
    assert!(rig.gauge(&table::EXPORTER_DISK_POINTS) > 13_000.0);
    let age = rig.gauge(&table::EXPORTER_OLDEST_SECONDS);
    assert!((18.0..=20.0).contains(&age), "{age}");
    rig.always(Reply::Take);
    // Live data goes on meanwhile.
    for time in 200..250 {
        sources.iter().for_each(|source| rig.push(*source, time, 10));
        wait(100).await;
        rig.check_balance();
        assert!(rig.gauge(&table::EXPORTER_QUEUE_BYTES) <= memory * 1.5);
    }
    rig.settle().await;
    for source in &sources {
        assert_eq!(rig.times(*source), (0..250).collect::<Vec<_>>());
    }
    assert_eq!((rig.delivered(), rig.got().len()), (17_500, 17_500));
    rig.stop(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_gives_up_the_oldest_and_counts_it() {
    let disk = FaultyDisk::new();
    let files = Arc::new(disk.clone());
    let delivery = small(20, WhenFull::DropOldest);
    let mut rig = Rig::on_disk(delivery, Path::new("/queue"), 200_000, files).await;
    rig.always(Reply::Hang);
    let source = SourceId::next();
    for time in 0..5000 {
        rig.push(source, time, 10);
        if time % 10 == 0 {
            wait(50).await;
            rig.check_balance();
            assert!(disk.bytes() < 260_000, "{}", disk.bytes());
        }
    }
    let lost = rig.dropped("disk_full");
    assert!(lost > 10_000, "{lost}");
    assert_eq!(rig.dropped("queue_full"), 0);
    rig.stop(Duration::from_secs(1)).await;
    drop(rig);
    let rig = Rig::on_disk(settings(), Path::new("/queue"), 200_000, Arc::new(disk)).await;
    rig.settle().await;
    let times = rig.all_times();
    assert!(times.is_sorted() && times.last() == Some(&4999));
    let tail: Vec<i64> = (5000 - times.len() as i64 + 20..5000).collect();
    assert!(times.ends_with(&tail), "the newest are whole");
}

#[tokio::test(start_paused = true)]
async fn backpressure_begins_when_disk_and_memory_are_full() {
    let files = Arc::new(FaultyDisk::new());
    let delivery = small(20, WhenFull::Backpressure);
    let mut rig = Rig::on_disk(delivery, Path::new("/queue"), 100_000, files).await;
    rig.always(Reply::Fail);
    let (source, mut taken) = (SourceId::next(), 0);
    for _ in 0..3000 {
        if rig.queue.full_for().is_none() {
            rig.push(source, taken, 10);
            taken += 1;
        }
        wait(20).await;
    }
    assert!((200..1500).contains(&taken), "{taken}");
    rig.check_balance();
    assert!(rig.gauge(&table::EXPORTER_QUEUE_BYTES) <= (22 * batch_bytes()) as f64);
    rig.always(Reply::Take);
    rig.settle().await;
    assert_eq!(rig.times(source), (0..taken).collect::<Vec<_>>());
    wait(1000).await;
    assert!(rig.queue.full_for().is_none());
    assert_eq!(rig.delivered() as i64, taken * 10);
}

#[tokio::test(start_paused = true)]
async fn a_failing_disk_is_gone_on_without_and_comes_back() {
    let disk = FaultyDisk::new();
    let files = Arc::new(disk.clone());
    let mut rig =
        Rig::on_disk(small(50, WhenFull::DropOldest), Path::new("/queue"), MIB, files).await;
    let source = SourceId::next();
    rig.push(source, 0, 10);
    wait(500).await;
    assert_eq!(rig.gauge(&table::EXPORTER_DISK_FAILING), 0.0);
    disk.fail(0, u64::MAX, Fault::NoSpace);
    for time in 1..100 {
        rig.push(source, time, 10);
        wait(100).await;
    }
    assert_eq!(rig.gauge(&table::EXPORTER_DISK_FAILING), 1.0);
    assert!(rig.counter(&table::EXPORTER_DISK_ERRORS, &[]) < 15, "no spinning");
    rig.settle().await;
    assert_eq!(rig.times(source), (0..100).collect::<Vec<_>>(), "delivery goes on");
    disk.heal();
    wait(3000).await;
    assert_eq!(rig.gauge(&table::EXPORTER_DISK_FAILING), 0.0);
    rig.always(Reply::Fail);
    (100..120).for_each(|time| rig.push(source, time, 10));
    wait(1000).await;
    rig.stop(Duration::from_secs(1)).await;
    drop(rig);
    let rig = Rig::on_disk(settings(), Path::new("/queue"), MIB, Arc::new(disk)).await;
    rig.settle().await;
    assert_eq!(rig.all_times(), (100..120).collect::<Vec<_>>(), "kept again");
}

#[tokio::test(start_paused = true)]
async fn a_disk_smaller_than_its_limit_frees_itself_and_what_it_refused_is_lost_at_exit() {
    let disk = FaultyDisk::new();
    disk.set_capacity(Some(20_000));
    let files = Arc::new(disk.clone());
    let mut rig =
        Rig::on_disk(small(300, WhenFull::DropOldest), Path::new("/queue"), MIB, files).await;
    let source = SourceId::next();
    rig.always(Reply::Fail);
    for time in 0..250 {
        rig.push(source, time, 10);
        wait(20).await;
    }
    wait(2000).await;
    assert_eq!(rig.gauge(&table::EXPORTER_DISK_FAILING), 1.0);
    rig.always(Reply::Take);
    rig.settle().await;
    // Delivered, and nothing has to be written to give its room back.
    wait(5000).await;
    assert_eq!(rig.gauge(&table::EXPORTER_DISK_FAILING), 0.0);
    assert!(disk.bytes() < 1000 && rig.gauge(&table::EXPORTER_DISK_BYTES) < 1000.0);
    let errors = rig.counter(&table::EXPORTER_DISK_ERRORS, &[]);
    wait(10_000).await;
    assert_eq!(rig.counter(&table::EXPORTER_DISK_ERRORS, &[]), errors, "it is well");

    rig.always(Reply::Fail);
    for time in 250..700 {
        rig.push(source, time, 10);
        wait(20).await;
    }
    let overflown = rig.dropped("queue_full");
    rig.stop(Duration::from_secs(1)).await;
    let lost = rig.dropped("shutdown");
    let kept = rig.gauge(&table::EXPORTER_QUEUE_POINTS) + rig.gauge(&table::EXPORTER_IN_FLIGHT);
    assert!(lost > 1000, "{lost}");
    assert_eq!(rig.delivered() + overflown + lost + kept as u64, 7000);
    drop(rig);

    let rig = Rig::on_disk(settings(), Path::new("/queue"), MIB, Arc::new(disk)).await;
    assert_eq!(rig.counter(&table::EXPORTER_RECOVERED, &[]), kept as u64, "what was said is there");
    assert_eq!(rig.counter(&table::EXPORTER_DISK_DAMAGED, &[]), 0);
    rig.settle().await;
    let times = rig.all_times();
    assert_eq!(times, (250..250 + times.len() as i64).collect::<Vec<_>>(), "nothing comes twice");
    assert!(times.len() > 50, "{}", times.len());
}

/// Why a queue on disk at `path` does not start.
async fn start_error(path: &Path) -> StartError {
    let mut delivery = settings();
    delivery.queue.disk = Some(DiskSettings::default());
    let queue = DeliveryQueue::new("exporters.fake", delivery, &Telemetry::default());
    let make = Fake::make(&Shared::default());
    let node = DeliveryNode::new(Arc::new(queue), make, path.to_owned());
    let (mut shards, mut helpers) = (JoinSet::new(), JoinSet::new());
    node.start(&mut shards, &mut helpers, &Arc::default()).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_cannot_be_used_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let _rig = Rig::on_disk(settings(), dir.path(), MIB, Arc::new(Os)).await;
    let locked = start_error(dir.path()).await.to_string();
    assert!(locked.contains("is in use by another") && locked.contains("queue.disk.path"));
    let blocked = dir.path().join("file");
    std::fs::write(&blocked, "in the way").unwrap();
    let wrong = start_error(&blocked.join("queue")).await.to_string();
    assert!(wrong.contains("file/queue: Not a directory") && wrong.contains("queue.disk.path"));
}

/// What one process does before it is killed.
#[derive(Clone, Debug)]
struct Life {
    ops: Vec<(u64, usize)>,
    replies: Vec<Reply>,
    dead: bool,
}

fn life() -> impl Strategy<Value = Life> {
    let reply = prop_oneof![
        4 => Just(Reply::Take),
        1 => (1..500_u64).prop_map(|ms| Reply::Slow(Duration::from_millis(ms))),
        2 => Just(Reply::Fail),
        1 => Just(Reply::TooLarge),
    ];
    let ops = prop::collection::vec((0..300_u64, 0..4_usize), 1..60);
    (ops, prop::collection::vec(reply, 0..20), any::<bool>())
        .prop_map(|(ops, replies, dead)| Life { ops, replies, dead })
}

/// Lives one after the other on one disk, each ended by a power cut; then one that is well. Every source numbers its
/// batches over all lives.
async fn live(lives: Vec<Life>, seed: u64, memory: usize) {
    let disk = FaultyDisk::new();
    let (mut time, mut first) = (0, BTreeMap::<usize, Vec<i64>>::new());
    let (mut lost_to_cut, mut came) = (0, 0);
    let open = async || {
        let mut delivery = small(memory, WhenFull::DropOldest);
        delivery.concurrency = 3;
        Rig::on_disk(delivery, Path::new("/queue"), 64 * MIB, Arc::new(disk.clone())).await
    };
    let note = |rig: &Rig, first: &mut BTreeMap<usize, Vec<i64>>| {
        // Rows say which series it is: a source has another id in every life.
        for got in rig.got().iter().filter(|got| got.row == 0) {
            let series = (got.time % 4) as usize;
            let seen = first.entry(series).or_default();
            if !seen.contains(&got.time) {
                seen.push(got.time);
            }
        }
    };
    let mut pushed: Vec<i64> = Vec::new();
    for (n, life) in lives.into_iter().enumerate() {
        let mut rig = open().await;
        let sources: Vec<SourceId> = (0..4).map(|_| SourceId::next()).collect();
        let (mut replies, dead) = (life.replies.into_iter(), life.dead);
        rig.rule(move |parts| {
            let weight: usize = parts.iter().map(Part::points).sum();
            match replies.next() {
                // A single point that is too large is lost for good, and that is not looked for here.
                Some(Reply::TooLarge) if weight < 2 => Reply::Take,
                Some(reply) => reply,
                None if dead => Reply::Fail,
                None => Reply::Take,
            }
        });
        for (ms, series) in life.ops {
            time += 4;
            let stamp = time + series as i64;
            rig.push(sources[series], stamp, 10);
            pushed.push(stamp);
            wait(ms).await;
            rig.check_balance();
        }
        // All but the last moment is durable.
        wait(150).await;
        let volatile = time + 4;
        rig.push(sources[0], volatile, 10);
        time += 4;
        lost_to_cut += 1;
        rig.kill().await;
        note(&rig, &mut first);
        came += rig.got().len();
        drop(rig);
        disk.cut_power(seed.wrapping_add(n as u64));
    }
    let rig = open().await;
    rig.settle().await;
    note(&rig, &mut first);
    came += rig.got().len();
    let all: Vec<i64> = first.values().flatten().copied().collect();
    for stamp in pushed {
        assert!(all.contains(&stamp), "{stamp} was committed and is lost");
    }
    for (series, times) in &first {
        assert!(times.is_sorted(), "series {series}: {times:?}");
    }
    assert!(came >= all.len() * 10 - lost_to_cut * 10);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn power_cuts_lose_nothing_that_was_committed_and_no_order(
        lives in prop::collection::vec(life(), 1..4),
        seed in any::<u64>(),
        memory in 6..40_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(live(lives, seed, memory));
    }
}
