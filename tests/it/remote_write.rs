//! Remote write end to end: Debian's Prometheus stores what the engines say, a strict reader of 2.0 finds nothing wrong,
//! series end where they end, and faults cost no scrape.

use std::collections::BTreeMap;

use simulator::{BulkFleet, BulkSpec, EngineSpec, FleetSpec, Load, Release, SEQUENCE};
use testkit::{Backend, Fault, Sample, part, samples, wait_until};

use crate::agent::{Agent, Engines, PATIENCE};
use crate::flow::{Books, QUICK};
use crate::parts::{prometheus, stored};

fn engines() -> Engines {
    let spec = |name: &str, release| EngineSpec {
        load: Load::steady(3.0),
        ..EngineSpec::new(name, release)
    };
    let engines = Engines::start(FleetSpec::new(vec![
        spec("vllm", Release::Vllm0_33_0),
        spec("sglang", Release::Sglang0_5_23),
    ]));
    // Time stands still afterwards, so that every reader sees the same values.
    engines.advance(120);
    engines
}

/// The usual pipeline, with an exporter `out` of this table beside the page.
fn config(engines: &Engines, table: &str) -> String {
    let targets: String = (0..engines.fleet.len())
        .map(|engine| {
            format!(
                "[[receivers.engines.static]]\ntargets = [\"{}\"]\nlabels = {{ deployment_id = \"d{engine}\", replica = \"r{engine}\" }}\n",
                engines.address(engine)
            )
        })
        .collect();
    crate::agent::config(&targets)
        .replace("exporters = [\"prometheus\"]", "exporters = [\"prometheus\", \"out\"]")
        .replace("[pipelines.metrics]", &format!("{table}[pipelines.metrics]"))
}

fn table(protocol: &str, url: &str) -> String {
    format!(
        "[exporters.out]\ntype = \"remote_write\"\nprotocol = \"{protocol}\"\nendpoint = \"{url}\"\n{QUICK}"
    )
}

/// Name and labels as one key; bounds as numbers, because formats write them differently.
fn key(sample: &Sample) -> String {
    let mut labels = sample.labels.clone();
    labels.retain(|name, _| !["job", "instance"].contains(&name.as_str()));
    for name in ["le", "quantile"] {
        if let Some(value) = labels.get_mut(name) {
            *value = value.parse::<f64>().unwrap().to_string();
        }
    }
    format!("{}{labels:?}", sample.name)
}

fn same(one: f64, other: f64) -> bool {
    one.to_bits() == other.to_bits() || (one.is_nan() && other.is_nan())
}

/// What of the page is not in `found` with the page's value.
fn missing(page: &str, found: &BTreeMap<String, f64>) -> Vec<String> {
    // What changes while time stands still is about the scrape.
    let own = |name: &str| name == "up" || name.starts_with("scrape_");
    let page = samples(page).into_iter().filter(|sample| !own(&sample.name));
    page.filter(|sample| !found.get(&key(sample)).is_some_and(|value| same(*value, sample.value)))
        .map(|sample| format!("{} {}", key(&sample), sample.value))
        .collect()
}

#[test]
fn prometheus_stores_what_the_engines_say_until_they_end() {
    let Some(program) = part("prometheus") else { return };
    let engines = engines();
    // It scrapes nobody who answers.
    let args = ["--web.enable-remote-write-receiver"];
    let (_child, address, _dir) = prometheus(&program, "127.0.0.1:1", &args, "");
    let url = format!("http://{address}/api/v1/write");
    let mut agent = Agent::start(&config(&engines, &table("auto", &url)));
    let page = agent.page_when("all engines", |page| {
        samples(page).iter().filter(|s| s.name == "up" && s.value == 1.0).count() == 2
    });
    assert!(samples(&page).len() > 400, "{}", samples(&page).len());
    let found = || -> BTreeMap<String, f64> {
        stored(&address).iter().map(|sample| (key(sample), sample.value)).collect()
    };
    let page = agent.page();
    let mut left = Vec::new();
    let all = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until("every sample of the page, as it is", PATIENCE, || {
            left = missing(&page, &found());
            left.is_empty().then_some(())
        });
    }));
    assert!(all.is_ok(), "{} samples are missing: {:#?}", left.len(), left.get(..5));

    engines.runtime.block_on(engines.fleet.stop(1));
    wait_until("its series end, and up says why", PATIENCE, || {
        let stored = stored(&address);
        let of = |name: &str| stored.iter().filter(|s| s.name.starts_with(name)).count();
        let down = stored.iter().any(|s| {
            s.name == "up"
                && s.value == 0.0
                && s.labels.get("deployment_id").is_some_and(|d| d == "d1")
        });
        (of("sglang:") == 0 && down && of("vllm:") > 0).then_some(())
    });
    let books = Books::of(&agent.telemetry(), "out");
    assert_eq!(books.dropped, 0.0, "{books:?}");
    agent.binary.line_with(&["msg=ready"]);
    let (status, log) = agent.binary.stop();
    assert!(status.success(), "{log}");
    assert!(!log.contains("level=error"), "{log}");
}

#[test]
fn version_2_says_what_the_page_says_and_breaks_no_rule() {
    let engines = engines();
    let backend = Backend::start();
    let agent = Agent::start(&config(&engines, &table("auto", &backend.url("/api/v1/write"))));
    let page = agent.page_when("all engines", |page| {
        samples(page).iter().filter(|s| s.name == "up" && s.value == 1.0).count() == 2
    });
    let found = || -> BTreeMap<String, f64> {
        let mut found = BTreeMap::new();
        backend.with_ledger(|ledger| {
            for (series, arrived) in ledger.series() {
                let mut labels = series.clone();
                let name = labels.remove("__name__").unwrap();
                let value = arrived.last().map_or(f64::NAN, |last| last.value);
                found.insert(key(&Sample { name, labels, value }), value);
            }
        });
        found
    };
    wait_until("every sample of the page", PATIENCE, || {
        missing(&page, &found()).is_empty().then_some(())
    });
    assert_eq!(backend.violations(), Vec::<String>::new());
    let last = backend.requests().pop().unwrap();
    assert_eq!(
        last.header("content-type"),
        Some("application/x-protobuf;proto=io.prometheus.write.v2.Request")
    );
    let mut kinds = BTreeMap::new();
    for written in backend.written().iter().flat_map(|request| &request.written) {
        let (kind, help, _) = written.metadata.clone().expect("metadata of every series");
        kinds.insert(written.series["__name__"].clone(), (kind, help));
    }
    // Numbers of the specification: 1 counter, 2 gauge, 3 histogram.
    assert_eq!(kinds["vllm:prompt_tokens_total"].0, 1);
    assert_eq!(kinds["vllm:num_requests_running"].0, 2);
    assert_eq!(kinds["vllm:e2e_request_latency_seconds_bucket"].0, 3);
    assert!(!kinds["vllm:prompt_tokens_total"].1.is_empty(), "its help");

    // An engine that goes away: every one of its series ends with a marker, once.
    engines.runtime.block_on(engines.fleet.stop(0));
    wait_until("markers", PATIENCE, || {
        backend.with_ledger(|ledger| {
            let mut own =
                ledger.series().filter(|(series, _)| series["__name__"].starts_with("vllm:"));
            own.all(|(_, arrived)| arrived.last().is_some_and(testkit::Arrived::is_stale))
                .then_some(())
        })
    });
    backend.with_ledger(|ledger| {
        for (series, arrived) in ledger.series() {
            let markers = arrived.iter().filter(|one| one.is_stale()).count();
            let expected = usize::from(series["__name__"].starts_with("vllm:"));
            assert!(
                markers == expected || series["__name__"] != "vllm:prompt_tokens_total",
                "{series:?}"
            );
            let times = arrived.iter().map(|one| one.time_ms);
            assert!(times.is_sorted_by(|one, next| one < next), "{series:?}");
        }
    });
}

#[test]
fn a_receiver_of_1_alone_is_spoken_to_in_1() {
    let engines = engines();
    let backend = Backend::start();
    backend.refuse_write_2();
    let agent = Agent::start(&config(&engines, &table("auto", &backend.url("/api/v1/write"))));
    wait_until("points", PATIENCE, || (backend.points() > 1000).then_some(()));
    let last = backend.requests().pop().unwrap();
    assert_eq!(last.header("content-type"), Some("application/x-protobuf"));
    assert_eq!(last.header("content-encoding"), Some("snappy"));
    assert_eq!(backend.violations(), Vec::<String>::new());
    wait_until("metadata", PATIENCE, || {
        let metadata: BTreeMap<_, _> =
            backend.written().into_iter().flat_map(|request| request.metadata).collect();
        // 1: a counter.
        metadata.get("vllm:prompt_tokens_total").filter(|told| told.0 == 1).map(|_| ())
    });
    let books = Books::of(&agent.telemetry(), "out");
    assert_eq!(books.dropped, 0.0, "{books:?}");
}

#[test]
fn no_scrape_is_lost_to_faults() {
    let backend = Backend::start();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let spec = BulkSpec { targets: 4, series: 100, releases: Vec::new(), port: 0 };
    let fleet = runtime.block_on(BulkFleet::start(&spec)).unwrap();
    let targets: String = (0..4)
        .map(|target| {
            let url = format!("http://{}{}", fleet.address(), BulkFleet::path(target));
            format!("[[receivers.engines.static]]\ntargets = [{url:?}]\nlabels = {{ replica = \"r{target}\" }}\n")
        })
        .collect();
    let agent = Agent::start(&format!(
        "[receivers.engines]\ntype = \"prometheus\"\ninterval = \"100ms\"\ntimeout = \"100ms\"\n{targets}\
         [admin]\nlisten = \"127.0.0.1:0\"\n[exporters.prometheus]\nlisten = \"127.0.0.1:0\"\n{}\n\
         [pipelines.metrics]\nreceivers = [\"engines\"]\nexporters = [\"prometheus\", \"out\"]\n[service]\ndata_dir = \"data\"\n",
        table("1.0", &backend.url("/api/v1/write"))
    ));
    let least = |rounds: u64| {
        wait_until("scrapes", PATIENCE, || {
            fleet.scrapes().iter().all(|n| *n >= rounds).then_some(())
        });
    };
    least(3);
    for fault in
        [Fault::Status(503, None), Fault::Reset, Fault::Status(500, None), Fault::Status(429, None)]
    {
        backend.next([fault.clone(), fault.clone(), fault]);
        wait_until("the faults", PATIENCE, || (backend.faults_left() == 0).then_some(()));
    }
    backend.down();
    least(fleet.scrapes()[0] + 5);
    backend.up();
    least(fleet.scrapes()[0] + 3);
    let (status, log) = agent.binary.stop();
    assert!(status.success(), "{log}");
    let scrapes = fleet.scrapes();
    let ledger = backend.ledger();
    let mut seen: Vec<u64> = Vec::new();
    for (series, arrived) in ledger.named(SEQUENCE, &[]) {
        let numbers: Vec<f64> =
            arrived.iter().filter(|one| !one.is_stale()).map(|one| one.value).collect();
        // A scrape that the end cut off has no number here.
        let expected: Vec<f64> = (1..=numbers.len()).map(|n| n as f64).collect();
        assert_eq!(numbers, expected, "{series:?}");
        seen.push(numbers.len() as u64);
    }
    assert_eq!(seen.len(), 4);
    let (asked, came): (u64, u64) = (scrapes.iter().sum(), seen.iter().sum());
    assert!(came + 4 >= asked, "{came} of {asked}");
    assert_eq!(backend.violations(), Vec::<String>::new());
}

/// The judge is judged: what Prometheus itself sends breaks none of the rules that our requests are held to.
#[test]
fn the_backend_of_these_tests_finds_nothing_wrong_with_prometheus() {
    let Some(program) = part("prometheus") else { return };
    let engines = engines();
    let backend = Backend::start();
    let more = format!("remote_write: [{{url: '{}'}}]\n", backend.url("/api/v1/write"));
    let (_child, _, _dir) = prometheus(&program, &engines.address(0), &[], &more);
    wait_until("points", PATIENCE, || (backend.points() > 2000).then_some(()));
    assert_eq!(backend.violations(), Vec::<String>::new());
    let truth = engines.fleet.truth(0).prompt_tokens as f64;
    backend.with_ledger(|ledger| {
        let mut tokens = ledger.named("vllm:prompt_tokens_total", &[]);
        assert!(
            tokens.next().is_some_and(|(_, arrived)| arrived.iter().all(|one| one.value == truth))
        );
    });
}
