//! Sources shared out over gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use testkit::{Backend, Fault};

use super::*;

fn gateways(backends: &[Backend]) -> Bench {
    let urls: Vec<String> = backends.iter().map(|backend| backend.url("")).collect();
    Bench::new(&format!("endpoints = {urls:?}\nbalance = \"series\"\ntimeout = \"2s\""))
}

fn sources(time: i64) -> Vec<Part> {
    (0..60).map(|n| part(&format!("h{n}"), time, &[1.0, 2.0])).collect()
}

/// Instances that a backend has.
fn instances(backend: &Backend) -> BTreeSet<String> {
    let points = points(&backend.otlp());
    points.iter().map(|point| point.split('/').next().unwrap_or_default().to_owned()).collect()
}

/// How often each point came, over all backends.
fn counts(backends: &[Backend]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for point in backends.iter().flat_map(|backend| points(&backend.otlp())) {
        *counts.entry(point).or_default() += 1;
    }
    counts
}

#[test]
fn each_source_is_always_on_one_gateway_whoever_sends_it() {
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    // Two agents: each makes its own shapes.
    for _ in 0..2 {
        let mut bench = gateways(&backends);
        for time in 1..4 {
            assert_eq!(bench.send(&sources(time)), Ok(DONE));
        }
    }
    let of = [0, 1, 2].map(|n| instances(&backends[n]));
    assert_eq!(of.iter().map(BTreeSet::len).sum::<usize>(), 60, "none is on two");
    for share in &of {
        assert!((8..=35).contains(&share.len()), "{of:?}");
    }
    assert!(counts(&backends).values().all(|count| *count == 2), "once from each agent");
}

#[test]
fn when_a_gateway_goes_only_its_share_moves_and_it_comes_back() {
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let mut bench = gateways(&backends);
    bench.send(&sources(1)).expect("delivered");
    let before = [0, 1, 2].map(|n| instances(&backends[n]));
    backends[1].down();
    assert_eq!(bench.send(&sources(2)), Ok(DONE), "within one attempt");
    let after = [0, 2].map(|n| instances(&backends[n]));
    assert!(after[0].is_superset(&before[0]) && after[1].is_superset(&before[2]));
    let moved: BTreeSet<_> =
        after[0].union(&after[1]).filter(|h| before[1].contains(*h)).cloned().collect();
    assert_eq!(moved, before[1]);
    assert!(
        after[0].len() > before[0].len() && after[1].len() > before[2].len(),
        "it is shared out"
    );
    backends[1].up();
    // It is left out for a while, then has its share again.
    bench.send(&sources(3)).expect("delivered");
    assert_eq!(points(&backends[1].otlp()).len(), 2 * before[1].len());
    bench.runtime.block_on(async {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(31)).await;
        tokio::time::resume();
    });
    bench.send(&sources(4)).expect("delivered");
    assert_eq!(instances(&backends[1]), before[1]);
    assert_eq!(points(&backends[1].otlp()).len(), 4 * before[1].len());
    assert!(counts(&backends).values().all(|count| *count == 1), "nothing came twice");
}

#[test]
fn what_was_delivered_is_not_sent_again() {
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let mut bench = gateways(&backends);
    let parts = sources(1);
    backends[2]
        .next([Fault::Status(429, Some("3".to_owned())), Fault::Status(503, Some("1".to_owned()))]);
    assert_eq!(show(&bench.send(&parts)), "again Some(3s)");
    assert_eq!(show(&bench.send(&parts)), "again Some(1s)");
    backends[2].next([Fault::Status(413, None)]);
    let first = bench.send(&parts);
    // Halves, as the engine makes them; gRPC has no 413, so the scripted one is in vain and counted.
    let Ok(Delivered { rejected, message }) = first else { panic!("{first:?}") };
    let others = points(&backends[0].otlp()).len() + points(&backends[1].otlp()).len();
    assert_eq!(rejected as usize, 120 - others);
    assert!(message.contains("RESOURCE_EXHAUSTED"), "{message}");
    assert_eq!(counts(&backends).len(), others);
    assert!(counts(&backends).values().all(|count| *count == 1));
}

#[test]
fn halves_of_what_was_delivered_in_part_are_not_sent_again() {
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let urls: Vec<String> = backends.iter().map(|backend| backend.url("")).collect();
    let mut bench =
        Bench::new(&format!("endpoints = {urls:?}\nbalance = \"series\"\nprotocol = \"http\""));
    let parts = sources(1);
    backends[2].next([Fault::Status(413, None)]);
    assert_eq!(show(&bench.send(&parts)), "halves");
    assert_eq!(bench.send(&parts[..30]), Ok(DONE));
    // A part may be cut as well.
    let (mut left, mut right) = (parts[30..31].to_vec(), parts[30..].to_vec());
    left[0].rows = 0..1;
    right[0].rows = 1..2;
    assert_eq!(bench.send(&left), Ok(DONE));
    assert_eq!(bench.send(&right), Ok(DONE));
    assert_eq!(counts(&backends).len(), 120);
    assert!(counts(&backends).values().all(|count| *count == 1), "nothing came twice");
}

#[test]
fn all_gone_is_worth_another_attempt() {
    let backends = [Backend::start(), Backend::start()];
    let mut bench = gateways(&backends);
    backends.iter().for_each(Backend::down);
    assert_eq!(show(&bench.send(&sources(1))), "again None");
    backends.iter().for_each(Backend::up);
    assert_eq!(bench.send(&sources(1)), Ok(DONE));
    assert!(counts(&backends).values().all(|count| *count == 1));
}

/// The other gateways do not wait for one that is silent: they have theirs while it says nothing.
#[test]
fn a_silent_gateway_costs_one_timeout() {
    let backends = [Backend::start(), Backend::start()];
    let urls: Vec<String> = backends.iter().map(|backend| backend.url("")).collect();
    let mut bench =
        Bench::new(&format!("endpoints = {urls:?}\nbalance = \"series\"\ntimeout = \"300ms\""));
    bench.send(&sources(1)).expect("delivered");
    backends[0].always(Fault::Slow(Duration::from_secs(60)));
    let began = std::time::Instant::now();
    assert_eq!(bench.send(&sources(2)), Ok(DONE));
    let first = began.elapsed();
    assert_eq!(bench.send(&sources(3)), Ok(DONE));
    assert!(first >= Duration::from_millis(300) && first < Duration::from_secs(5), "{first:?}");
    let times: Vec<u64> = (1..4)
        .map(|time| {
            points(&backends[1].otlp()).iter().filter(|p| p.ends_with(&format!("@{time}"))).count()
                as u64
        })
        .collect();
    assert!(times[0] < 120 && times[1] == 120 && times[2] == 120, "{times:?}");
}
