//! Whatever the backend does and whenever: nothing is unaccounted for, nothing comes twice, order is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use pipeline_component::{Delivery, WhenFull};
use pipeline_config::ByteSize;
use pipeline_model::SourceId;
use proptest::prelude::*;

use super::rig::{Reply, Rig, settings};

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        6 => Just(Reply::Take),
        2 => (1..2000_u64).prop_map(|ms| Reply::Slow(Duration::from_millis(ms))),
        1 => (0..30_u64).prop_map(Reply::Reject),
        2 => Just(Reply::Fail),
        1 => (0..5000_u64).prop_map(|ms| Reply::FailFor(Duration::from_millis(ms))),
        2 => Just(Reply::TooLarge),
        1 => Just(Reply::Refuse),
        1 => Just(Reply::Panic),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Push { source: usize, rows: usize },
    Wait(Duration),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..6_usize, 0..150_usize).prop_map(|(source, rows)| Op::Push { source, rows }),
        1 => (1..3000_u64).prop_map(|ms| Op::Wait(Duration::from_millis(ms))),
    ]
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let when_full = prop_oneof![
        Just(WhenFull::DropOldest),
        Just(WhenFull::DropNewest),
        Just(WhenFull::Backpressure)
    ];
    (1..4_usize, 1..120_usize, 500..60_000_u64, when_full).prop_map(
        |(concurrency, points_max, bytes, when_full)| {
            let mut delivery = Delivery { concurrency, ..settings() };
            delivery.batch.points_max = points_max;
            delivery.queue.bytes_max = ByteSize::from_bytes(bytes);
            delivery.queue.when_full = when_full;
            delivery
        },
    )
}

async fn run(delivery: Delivery, ops: Vec<Op>, replies: Vec<Reply>, stop_after: Duration) {
    let mut rig = Rig::new(delivery).await;
    rig.script(replies);
    let sources: Vec<SourceId> = (0..6).map(|_| SourceId::next()).collect();
    let mut pushed = 0;
    for (time, op) in (0..).zip(ops) {
        match op {
            Op::Push { source, rows } => {
                rig.push(sources[source], time, rows);
                pushed += rows as u64;
            }
            Op::Wait(wait) => tokio::time::sleep(wait).await,
        }
        rig.check_balance();
    }
    rig.stop(stop_after).await;
    let (taken, delivered, dropped) = rig.queue.lock().ledger.flows();
    assert_eq!(taken, pushed);
    assert_eq!(taken, delivered + dropped, "nothing waits any more");
    let rejected = rig.dropped("rejected");
    let mut last = BTreeMap::new();
    for got in rig.got() {
        let before = last.insert(got.source, (got.time, got.row));
        assert!(before < Some((got.time, got.row)), "in order and once: {before:?}, {got:?}");
    }
    assert_eq!(rig.got().len() as u64, delivered + rejected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_point_is_accounted_for(
        delivery in delivery(),
        ops in prop::collection::vec(op(), 1..60),
        replies in prop::collection::vec(reply(), 0..60),
        stop_after in 0..20_000_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(delivery, ops, replies, Duration::from_millis(stop_after)));
    }
}
