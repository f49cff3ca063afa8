//! Requests as backends see them, and what becomes of their answers.

mod balance;
mod tonic;

use std::sync::Arc;
use std::time::Duration;

use ::tokio::runtime::Runtime;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use pipeline_component::{Delivered, ExportError, Part};
use pipeline_config::Section;
use pipeline_model::{Batch, Group, Interner, Kind, Labels, Metric, ShapeBuilder, Slot, SourceId};
use testkit::{Backend, Fault};

use super::config::Config;
use super::sender::Sender;

/// A sender and what runs it.
pub(super) struct Bench {
    pub(super) runtime: Runtime,
    pub(super) sender: Sender,
}

impl Bench {
    pub(super) fn new(toml: &str) -> Self {
        let section = Section::from_toml("exporters.otlp", toml).expect("toml");
        let config: Config = section.decode().expect("config");
        let plan = config.plan(&section).expect("a plan");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { runtime, sender: Sender::new(&Arc::new(plan)) }
    }

    pub(super) fn send(&mut self, parts: &[Part]) -> Result<Delivered, ExportError> {
        self.runtime.block_on(pipeline_component::Sender::send(&mut self.sender, parts))
    }
}

/// Gauges of one target, `m0`, `m1`, ...
pub(super) fn batch(instance: &str, time: i64, values: &[f64]) -> Batch {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let labels = Labels::from_pairs([("instance", instance), ("job", "vllm")]);
    let group = builder.group(Group { labels, ..Group::default() });
    for n in 0..values.len() {
        let metric = Arc::new(Metric::new(&format!("m{n}"), "", "", Kind::Gauge));
        builder.push(group, &metric, &Labels::from_pairs([("k", "v")])).expect("new");
    }
    let slots = values.iter().copied().map(Slot::double).collect();
    Batch::new(SourceId::next(), builder.finish(), time, slots)
}

pub(super) fn part(instance: &str, time: i64, values: &[f64]) -> Part {
    Part::whole(batch(instance, time, values))
}

/// `instance/metric@time` of each point.
pub(super) fn points(requests: &[ExportMetricsServiceRequest]) -> Vec<String> {
    let mut all = Vec::new();
    for of_resource in requests.iter().flat_map(|request| &request.resource_metrics) {
        let attributes = &of_resource.resource.as_ref().expect("a resource").attributes;
        let instance = attributes.iter().find(|pair| pair.key == "service.instance.id");
        let instance = format!("{:?}", instance.expect("an instance").value);
        let instance = instance.split('"').nth(1).expect("a text").to_owned();
        for metric in of_resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let Some(Data::Gauge(gauge)) = &metric.data else { panic!("{metric:?}") };
            let name = &metric.name;
            let point =
                gauge.data_points.iter().map(|p| format!("{instance}/{name}@{}", p.time_unix_nano));
            all.extend(point);
        }
    }
    all
}

fn of(backend: &Backend, protocol: &str, more: &str) -> Bench {
    Bench::new(&format!("endpoint = \"{}\"\nprotocol = \"{protocol}\"\n{more}", backend.url("")))
}

const DONE: Delivered = Delivered { rejected: 0, message: String::new() };

#[test]
fn every_protocol_and_coding_delivers_the_same() {
    for protocol in ["http", "grpc"] {
        for coding in ["none", "gzip", "zstd"] {
            let backend = Backend::start();
            let more = format!(
                "compression = \"{coding}\"\nheaders = {{ x-tenant = \"t1\" }}\nbearer_token = \"secret\""
            );
            let mut bench = of(&backend, protocol, &more);
            for time in 1..4 {
                let parts = [part("a", time, &[1.0; 20]), part("b", time, &[2.0; 3])];
                assert_eq!(bench.send(&parts), Ok(DONE), "{protocol} {coding}");
            }
            let got = points(&backend.otlp());
            assert_eq!(got.len(), 69);
            assert_eq!((got[0].as_str(), got[68].as_str()), ("a/m0@1", "b/m2@3"));
            let requests = backend.requests();
            let header = |name: &str| requests[0].header(name).unwrap_or("").to_owned();
            assert_eq!(header("x-tenant"), "t1");
            assert_eq!(header("authorization"), "Bearer secret");
            assert!(header("user-agent").starts_with("inferometer/"));
            let (kind, name) = match protocol {
                "http" => ("application/x-protobuf", "content-encoding"),
                _ => ("application/grpc", "grpc-encoding"),
            };
            assert_eq!(header("content-type"), kind);
            assert_eq!(header(name), if coding == "none" { "" } else { coding });
            let path = &requests[0].path;
            assert!(
                path.ends_with(if protocol == "http" { "/v1/metrics" } else { "/Export" }),
                "{path}"
            );
            assert_eq!(backend.violations(), Vec::<String>::new());
        }
    }
}

fn show(result: &Result<Delivered, ExportError>) -> String {
    match result {
        Ok(Delivered { rejected, message }) => format!("{rejected} rejected {message}"),
        Err(ExportError::Retryable { after, .. }) => format!("again {after:?}"),
        Err(ExportError::TooLarge(_)) => "halves".to_owned(),
        Err(ExportError::Permanent(_)) => "never".to_owned(),
    }
}

#[test]
fn every_fault_has_one_meaning() {
    let after = |text: &str| Some(text.to_owned());
    let faults = [
        (Fault::Status(429, after("7")), "again Some(7s)", "again Some(7s)"),
        (Fault::Status(503, after("2")), "again Some(2s)", "again Some(2s)"),
        (
            Fault::Status(503, after("Wed, 21 Oct 2015 07:28:00 GMT")),
            "again Some(0ns)",
            "again None",
        ),
        (Fault::Status(502, None), "again None", "again None"),
        (Fault::Status(413, None), "halves", "never"),
        (Fault::Status(400, None), "never", "never"),
        (Fault::Status(401, None), "never", "never"),
        (Fault::Status(500, None), "never", "never"),
        (Fault::Reset, "again None", "again None"),
        (Fault::TakeThenClose, "again None", "again None"),
        (Fault::Slow(Duration::from_secs(3)), "again None", "again None"),
        (Fault::Partial(2), "2 rejected scripted", "2 rejected scripted"),
    ];
    for protocol in ["http", "grpc"] {
        let backend = Backend::start();
        let mut bench = of(&backend, protocol, "timeout = \"400ms\"");
        for (fault, http, grpc) in faults.clone() {
            backend.next([fault.clone()]);
            let parts = [part("a", 1, &[1.0, 2.0, 3.0])];
            let expected = if protocol == "http" { http } else { grpc };
            assert_eq!(show(&bench.send(&parts)), expected, "{protocol} {fault:?}");
            // The next one is well.
            assert_eq!(bench.send(&parts), Ok(DONE), "{protocol} after {fault:?}");
        }
        backend.down();
        let gone = bench.send(&[part("a", 2, &[1.0])]);
        assert_eq!(show(&gone), "again None");
        assert!(gone.unwrap_err().to_string().contains(&backend.url("")));
        backend.up();
        assert_eq!(bench.send(&[part("a", 3, &[1.0])]), Ok(DONE));
    }
}

#[test]
fn a_request_above_the_limit_is_not_sent() {
    let backend = Backend::start();
    let mut bench = of(&backend, "http", "request_bytes_max = \"1KiB\"");
    let whole = part("a", 1, &[1.0; 40]);
    assert_eq!(show(&bench.send(std::slice::from_ref(&whole))), "halves");
    assert_eq!(backend.requests_n(), 0);
    for rows in [0..20, 20..40] {
        let half = Part { rows, ..whole.clone() };
        assert_eq!(bench.send(&[half]), Ok(DONE));
    }
    assert_eq!(backend.points(), 40);
}

#[test]
fn the_first_endpoint_that_works_is_used() {
    let backends = [Backend::start(), Backend::start()];
    let urls = [backends[0].url(""), backends[1].url("")];
    let mut bench = Bench::new(&format!("endpoints = {urls:?}"));
    assert_eq!(bench.send(&[part("a", 1, &[1.0])]), Ok(DONE));
    backends[0].down();
    // Within one attempt.
    assert_eq!(bench.send(&[part("a", 2, &[1.0])]), Ok(DONE));
    assert_eq!(points(&backends[0].otlp()), ["a/m0@1"]);
    assert_eq!(points(&backends[1].otlp()), ["a/m0@2"]);
    backends[1].down();
    assert_eq!(show(&bench.send(&[part("a", 3, &[1.0])])), "again None");
    backends[0].up();
    assert_eq!(bench.send(&[part("a", 3, &[1.0])]), Ok(DONE));
    assert_eq!(points(&backends[0].otlp()), ["a/m0@1", "a/m0@3"]);
}

#[test]
fn nothing_to_say_is_no_request() {
    let backend = Backend::start();
    let mut bench = of(&backend, "http", "");
    let mut batch = batch("a", 1, &[1.0]);
    batch.marks = Some(Arc::new(vec![pipeline_model::Mark::Absent]));
    assert_eq!(bench.send(&[Part::whole(batch)]), Ok(DONE));
    assert_eq!(backend.requests_n(), 0);
}

#[track_caller]
fn refused(toml: &str, expected: &[&str]) {
    let section = Section::from_toml("exporters.otlp", toml).expect("toml");
    let config: Config = section.decode().expect("config");
    let Err(wrong) = config.plan(&section) else { panic!("a plan") };
    let found: Vec<&str> = wrong.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(found, expected);
}

#[test]
fn mistakes_are_named() {
    refused("", &["expected an `endpoint`, found none"]);
    refused(
        "endpoint = \"http://a\"\nendpoints = [\"http://b\"]\nconcurrency = 0\ntimeout = \"0s\"",
        &[
            "expected one of `endpoint` and `endpoints`, found both",
            "expected some time for an attempt, found none",
            "expected at least one request at a time, found none",
        ],
    );
    refused(
        "endpoints = [\"gateway:4317\"]\nresolve_interval = \"0s\"",
        &[
            "expected some time between two looks, found none",
            "expected an address such as https://gw:4317, found `gateway:4317`",
        ],
    );
    refused(
        "endpoint = \"http://a\"\nrequest_bytes_max = \"1B\"\nretry.pause_min = \"1m\"\nqueue.bytes_max = \"0B\"",
        &[
            "expected some room for `queue.bytes_max`, found none",
            "expected `pause_min` to be no longer than `pause_max`, found 1m and 30s",
            "expected requests of at least 1 KiB, found 1B",
        ],
    );
    refused(
        "endpoint = \"http://a\"\nheaders = { host = \"x\" }",
        &["header `host` cannot be set, it follows from the request"],
    );
}

#[test]
fn paths() {
    use super::{Protocol, url_of};
    let http = |url: &str| url_of(url, Protocol::Http);
    assert_eq!(http("http://h:4318"), "http://h:4318/v1/metrics");
    assert_eq!(http("http://h:4318/"), "http://h:4318/v1/metrics");
    assert_eq!(http("https://h/otlp?x=1"), "https://h/otlp/v1/metrics?x=1");
    assert_eq!(http("https://h/v1/metrics"), "https://h/v1/metrics");
    assert_eq!(url_of("http://h:4317", Protocol::Grpc), "http://h:4317");
}

/// What compresses is read by what decompresses.
#[test]
fn compressed_requests_are_small() {
    let backend = Backend::start();
    let mut bench = of(&backend, "http", "compression = \"zstd\"");
    bench.send(&[part("a", 1, &[1.0; 100])]).expect("delivered");
    let request = &backend.requests()[0];
    assert!(
        request.wire_bytes * 5 < request.body.len(),
        "{} of {}",
        request.wire_bytes,
        request.body.len()
    );
}
