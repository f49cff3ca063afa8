//! Delivery under faults: what was taken arrives, once and in order, whatever the backend does; the books balance.

use std::time::{Duration, Instant};

use testkit::{Backend, Fault, NUMBERED, Source, Verdict, wait_until};

use crate::agent::PATIENCE;
use crate::flow::{Flow, QUICK, config, judged};

/// An exporter that delivers to a [`Backend`].
struct Destination {
    /// Its table, for a backend.
    table: fn(&Backend) -> String,
    /// Whether a request that is too large is told apart from one that is wrong.
    splits: bool,
}

fn otlp_http(backend: &Backend) -> String {
    format!(
        "[exporters.out]\ntype = \"otlp\"\nprotocol = \"http\"\nendpoint = \"{}\"\n{QUICK}",
        backend.url("")
    )
}

fn otlp_grpc(backend: &Backend) -> String {
    format!(
        "[exporters.out]\ntype = \"otlp\"\nprotocol = \"grpc\"\nendpoint = \"{}\"\n{QUICK}",
        backend.url("")
    )
}

fn newrelic(backend: &Backend) -> String {
    format!(
        "[exporters.out]\ntype = \"newrelic\"\nendpoint = \"{}\"\napi_key = \"a-licence-of-the-test\"\n{QUICK}",
        backend.url("")
    )
}

fn write_1(backend: &Backend) -> String {
    format!(
        "[exporters.out]\ntype = \"remote_write\"\nprotocol = \"1.0\"\nendpoint = \"{}\"\n{QUICK}",
        backend.url("/api/v1/write")
    )
}

fn write_2(backend: &Backend) -> String {
    format!(
        "[exporters.out]\ntype = \"remote_write\"\nprotocol = \"2.0\"\nendpoint = \"{}\"\n{QUICK}",
        backend.url("/api/v1/write")
    )
}

fn grafana_cloud(backend: &Backend) -> String {
    format!(
        "[exporters.out]\ntype = \"grafana_cloud\"\nendpoint = \"{}\"\ninstance_id = \"123\"\ntoken = \"a-token-of-the-test\"\ninterval = \"0s\"\n{QUICK}",
        backend.url("/api/prom/push")
    )
}

/// When the request after the `n`th came.
fn after(backend: &Backend, n: usize) -> Instant {
    wait_until("the next attempt", PATIENCE, || backend.requests().get(n).map(|request| request.at))
}

/// Every fault in turn, each while points keep coming; then health.
fn survives(destination: &Destination) {
    let backend = Backend::start();
    let flow = Flow::start(&(destination.table)(&backend));
    let mut source = flow.source("a", 4);
    source.send_all(3);
    assert_eq!(judged(&backend, &[&source]), Verdict::PERFECT, "without a fault");

    // Nothing is taken: nothing comes twice.
    for fault in [
        Fault::Status(503, None),
        Fault::Status(502, None),
        Fault::Status(503, Some("0".to_owned())),
        Fault::Reset,
    ] {
        backend.next([fault.clone()]);
        source.send_all(3);
        assert_eq!(judged(&backend, &[&source]), Verdict::PERFECT, "{fault:?}");
        assert_eq!(backend.faults_left(), 0);
    }
    backend.next([Fault::Status(429, Some("1".to_owned()))]);
    let before = backend.requests_n();
    source.send_all(1);
    let refused = after(&backend, before);
    source.send_all(2);
    assert_eq!(judged(&backend, &[&source]), Verdict::PERFECT, "429");
    let waited = after(&backend, before + 1) - refused;
    assert!(waited >= Duration::from_millis(950), "came again after {waited:?} instead of 1 s");
    backend.next([Fault::Slow(Duration::from_millis(300))]);
    source.send_all(10);
    assert_eq!(judged(&backend, &[&source]), Verdict::PERFECT, "a slow answer");
    flow.settled("out");
    backend.down();
    source.send_all(10);
    backend.up();
    source.send_all(3);
    assert_eq!(judged(&backend, &[&source]), Verdict::PERFECT, "nobody listens");
    if destination.splits {
        source.send_all(1);
        judged(&backend, &[&source]);
        // Fewer bytes than ten requests' points need, more than one's.
        let one = backend.requests().last().unwrap().body.len();
        backend.always(Fault::TooLargeAbove(one * 2));
        source.send_all(20);
        assert_eq!(judged(&backend, &[&source]), Verdict::PERFECT, "413");
        backend.always(Fault::None);
    }
    let books = flow.settled("out");
    assert_eq!((books.taken, books.dropped), (source.points() as f64, 0.0), "{books:?}");

    // Taken, and no answer: it comes again, and that is all that comes twice.
    backend.next([Fault::TakeThenClose, Fault::TakeThenStatus(503)]);
    let before = backend.requests_n();
    source.send_all(3);
    let verdict = judged(&backend, &[&source]);
    let lost: usize = backend.requests()[before..before + 2].iter().map(|r| r.points).sum();
    assert!(verdict.duplicates > 0 && verdict.duplicates <= lost, "{verdict:?}, {lost}");
    assert_eq!(Verdict { duplicates: 0, ..verdict }, Verdict::PERFECT);

    // Refused for good: dropped and counted, and no matter to what comes after.
    backend.next([Fault::Status(400, None)]);
    let before = backend.requests_n();
    source.send_all(1);
    let refused = wait_until("the refusal", PATIENCE, || {
        backend.requests().get(before).map(|request| request.points)
    });
    let mut later = flow.source("later", 2);
    later.send_all(3);
    let verdict = judged(&backend, &[&later]);
    assert_eq!(Verdict { foreign: 0, ..verdict }, Verdict::PERFECT, "those of the other source");
    let books = flow.settled("out");
    assert_eq!(books.dropped, refused as f64, "{books:?}");
    assert_eq!(books.taken, (source.points() + later.points()) as f64);
    let (status, log) = flow.binary.stop();
    assert!(status.success(), "{log}");
    assert!(!log.contains("does not hold"), "the books balance at exit:\n{log}");
}

#[test]
fn otlp_over_http_survives_every_fault() {
    survives(&Destination { table: otlp_http, splits: true });
}

#[test]
fn otlp_over_grpc_survives_every_fault() {
    survives(&Destination { table: otlp_grpc, splits: false });
}

#[test]
fn newrelic_survives_every_fault() {
    survives(&Destination { table: newrelic, splits: true });
}

#[test]
fn remote_write_1_survives_every_fault() {
    survives(&Destination { table: write_1, splits: true });
}

#[test]
fn remote_write_2_survives_every_fault() {
    survives(&Destination { table: write_2, splits: true });
}

#[test]
fn grafana_cloud_survives_every_fault() {
    survives(&Destination { table: grafana_cloud, splits: true });
}

#[test]
fn what_a_backend_rejects_in_part_is_counted_and_not_sent_again() {
    for table in [otlp_http, otlp_grpc] {
        let backend = Backend::start();
        let flow = Flow::start(&table(&backend));
        let mut source = flow.source("a", 4);
        backend.next([Fault::Partial(3)]);
        source.send_all(1);
        let books = flow.settled("out");
        assert_eq!((books.delivered, books.dropped), (1.0, 3.0), "{books:?}");
        assert_eq!(backend.requests_n(), 1);
    }
}

/// Points of the numbered series so far.
fn came(backend: &Backend) -> usize {
    backend.with_ledger(|ledger| ledger.points(NUMBERED))
}

#[test]
fn a_dead_backend_is_no_matter_to_the_other() {
    let (alive, dead) = (Backend::start(), Backend::start());
    let name = |table: String, name: &str| {
        table.replace("[exporters.out]", &format!("[exporters.{name}]"))
    };
    let tables = format!("{}{}", name(otlp_grpc(&alive), "alive"), name(write_1(&dead), "dead"));
    let flow = Flow::start(&tables);
    let mut source = flow.source("a", 10);
    source.send_all(5);
    assert_eq!(judged(&dead, &[&source]), Verdict::PERFECT);
    dead.down();
    // Each request is delivered to the one before the next is sent: nothing of it waits for the other.
    for _ in 0..50 {
        let before = came(&alive);
        source.send_all(1);
        let began = Instant::now();
        wait_until("the living backend has it", PATIENCE, || {
            (came(&alive) == before + 10).then_some(())
        });
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    assert_eq!(judged(&alive, &[&source]), Verdict::PERFECT);
    let books = flow.books("dead");
    assert_eq!((books.waiting, books.dropped), (500.0, 0.0), "{books:?}");
    assert_eq!(books.taken, books.delivered + books.waiting, "{books:?}");
    dead.up();
    assert_eq!(judged(&dead, &[&source]), Verdict::PERFECT);
    for name in ["alive", "dead"] {
        assert_eq!(flow.settled(name).delivered, 550.0);
    }
}

#[test]
fn a_full_queue_drops_the_oldest_and_says_so() {
    let backend = Backend::start();
    backend.down();
    let flow =
        Flow::start(&format!("{}queue = {{ bytes_max = \"64KiB\" }}\n", otlp_http(&backend)));
    let mut source = flow.source("a", 100);
    let books = wait_until("a full queue", PATIENCE, || {
        source.send_all(10);
        let books = flow.books("out");
        (books.dropped > 0.0).then_some(books)
    });
    assert_eq!(books.taken, books.delivered + books.dropped + books.waiting, "{books:?}");
    backend.up();
    source.send_all(1);
    let books = flow.settled("out");
    let newest = source.began_ms() + *source.taken_at().keys().max().unwrap() - source.began_ms();
    assert_eq!(came(&backend) as f64, books.delivered);
    backend.with_ledger(|ledger| {
        for (series, arrived) in ledger.named(NUMBERED, &[]) {
            let times: Vec<i64> = arrived.iter().map(|one| one.time_ms).collect();
            assert!(times.is_sorted(), "{series:?}: {times:?}");
            assert_eq!(times.last(), Some(&newest), "the newest is kept");
        }
    });
}

#[test]
fn clients_of_a_full_pipeline_are_told_when_to_come_again_and_lose_nothing() {
    let backend = Backend::start();
    backend.down();
    let flow = Flow::start(&format!(
        "{}queue = {{ bytes_max = \"64KiB\", when_full = \"backpressure\" }}\n",
        otlp_http(&backend)
    ));
    let mut source = flow.source("a", 100);
    let refused = wait_until("a refusal", PATIENCE, || {
        Some(source.send().expect("an answer")).filter(|reply| reply.status != 200)
    });
    assert_eq!(refused.status, 503);
    assert!(refused.retry_after.is_some_and(|after| after.parse::<u64>().is_ok()));
    let books = flow.books("out");
    assert_eq!(books.dropped, 0.0, "{books:?}");
    backend.up();
    source.send_all(50);
    assert_eq!(judged(&backend, &[&source]), Verdict::PERFECT);
    assert_eq!(flow.settled("out").delivered, source.points() as f64);
}

/// A disk queue in `dir`, with a backend.
fn on_disk(backend: &Backend, dir: &std::path::Path) -> String {
    let queue = format!("queue = {{ disk = {{ path = {:?} }} }}\n", dir.join("queue"));
    config(&[], &format!("{}{queue}", otlp_http(backend)))
}

#[test]
fn a_stop_with_a_dead_backend_ends_in_time_and_all_is_delivered_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::start();
    backend.down();
    let config = on_disk(&backend, dir.path());
    let flow = Flow::run(&config);
    let mut source = flow.source("a", 10);
    source.send_all(100);
    let began = Instant::now();
    let (status, log) = flow.binary.stop();
    assert!(status.success(), "{log}");
    assert!(!log.contains("does not hold"), "the books balance at exit:\n{log}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    backend.up();
    let flow = Flow::run(&config);
    assert_eq!(judged(&backend, &[&source]), Verdict::PERFECT);
    source.move_to(&flow.http);
    source.send_all(5);
    assert_eq!(judged(&backend, &[&source]), Verdict::PERFECT);
    let books = flow.settled("out");
    assert_eq!((books.delivered, books.dropped), (source.points() as f64, 0.0), "{books:?}");
}

#[test]
fn a_few_kills_lose_nothing_that_was_committed() {
    crate::kill9::run(5, 7).assert_within_bounds();
}

/// Each series goes to one gateway, and all gateways get some.
#[test]
fn agents_share_out_their_series_over_gateways() {
    let gateways = [Backend::start(), Backend::start()];
    let endpoints: Vec<String> = gateways.iter().map(|gateway| gateway.url("")).collect();
    let table = format!(
        "[exporters.out]\ntype = \"otlp\"\nprotocol = \"grpc\"\nendpoints = {endpoints:?}\nbalance = \"series\"\n{QUICK}"
    );
    let agents = [Flow::start(&table), Flow::start(&table)];
    // Both agents have a source of each name: the same from every agent goes to the same gateway.
    let mut sources: Vec<Source> = agents
        .iter()
        .flat_map(|agent| (0..20).map(|n| agent.source(&format!("pod-{n}"), 3)))
        .collect();
    for source in &mut sources {
        source.send_all(20);
    }
    let wanted: usize = sources.iter().map(Source::points).sum();
    assert_eq!(wanted, 2 * 20 * 3 * 20);
    wait_until("everything at either gateway", PATIENCE, || {
        (gateways.iter().map(came).sum::<usize>() == wanted).then_some(())
    });
    let of = |gateway: &Backend| -> std::collections::BTreeSet<String> {
        gateway.with_ledger(|ledger| {
            ledger.named(NUMBERED, &[]).map(|(series, _)| series["series"].clone()).collect()
        })
    };
    let (one, two) = (of(&gateways[0]), of(&gateways[1]));
    assert!(one.is_disjoint(&two), "a series at both: {:?}", one.intersection(&two).next());
    assert!(one.len() >= 9 && two.len() >= 9, "{} and {} of 60", one.len(), two.len());
    for gateway in &gateways {
        gateway.with_ledger(|ledger| {
            for (series, arrived) in ledger.named(NUMBERED, &[]) {
                assert_eq!(arrived.len(), 40, "{series:?}");
            }
        });
    }
}
