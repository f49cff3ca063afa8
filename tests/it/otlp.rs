//! OTLP through the agent: what goes in comes out, every kind of point with all that belongs to it; and the Python SDK
//! and the specification's own classes agree.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use serde_json::{Value, json};
use testkit::{Backend, Fault, Source, get, python_with, value, wait_until};

use crate::agent::PATIENCE;
use crate::flow::{Flow, QUICK};

const SDK_SEND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/python/sdk_send.py");
const OTLP_READ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/python/otlp_read.py");
const GRPC_SEND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/python/grpc_send.py");
const SDK: &str = "opentelemetry.exporter.otlp.proto.grpc, opentelemetry.exporter.otlp.proto.http";

/// An agent that sends OTLP on to `backend` and shows a page as well.
fn flow(backend: &Backend, protocol: &str) -> (Flow, String) {
    let mut flow = Flow::start(&format!(
        "[exporters.out]\ntype = \"otlp\"\nprotocol = \"{protocol}\"\nendpoint = \"{}\"\n{QUICK}[exporters.prometheus]\nlisten = \"127.0.0.1:0\"\n",
        backend.url("")
    ));
    let page = flow.binary.address_of("exporters.prometheus");
    (flow, page)
}

/// What the specification's own classes read in every request that `backend` took, a point each; without repetitions.
fn read(python: &Path, backend: &Backend) -> BTreeSet<String> {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command.arg(OTLP_READ);
    for (n, request) in backend.requests().iter().enumerate() {
        let path = dir.path().join(n.to_string());
        std::fs::write(&path, &request.body).unwrap();
        command.arg(path);
    }
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn send(python: &Path, protocol: &str, endpoint: &str, temporality: &str) {
    let out =
        Command::new(python).args([SDK_SEND, protocol, endpoint, temporality]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.is_empty(), "{said}");
}

/// What the SDK's script says through the agent is what it says to a backend of its own.
fn sdk_is_passed_on(protocol: &str, temporality: &str) {
    let Some(python) = python_with(SDK) else { return };
    let (direct, through) = (Backend::start(), Backend::start());
    let (flow, page) = flow(&through, protocol);
    let endpoint = |address: &str| match protocol {
        "grpc" => address.to_owned(),
        _ => format!("http://{address}"),
    };
    send(&python, protocol, &endpoint(&direct.address()), temporality);
    send(
        &python,
        protocol,
        &endpoint(if protocol == "grpc" { &flow.grpc } else { &flow.http }),
        temporality,
    );
    let wanted = read(&python, &direct);
    // A delta of nothing comes with the SDK's last words.
    assert!((12..=13).contains(&wanted.len()), "{wanted:#?}");
    wait_until("every point", PATIENCE, || {
        (read(&python, &through).len() >= wanted.len()).then_some(())
    });
    assert_eq!(read(&python, &through), wanted);
    assert_eq!(through.violations(), Vec::<String>::new());
    if temporality == "cumulative" {
        let page = wait_until("the page", PATIENCE, || {
            get(&page, "/metrics")
                .map(|answer| answer.body)
                .filter(|page| page.contains("disk_usage_ratio"))
        });
        looks_right(&page);
        spot_check(&wanted);
    }
}

/// The values of the script, on the page for Prometheus.
fn looks_right(page: &str) {
    for (name, labels, expected) in [
        ("http_requests_total", &[("route", "/pay"), ("status", "200")][..], 5.0),
        ("http_requests_total", &[("route", "/pay"), ("status", "500")], 2.0),
        ("http_requests_total", &[("route", "/quoted \"path\"\n")], 1.0),
        ("network_sent_bytes_total", &[], 1.5),
        ("queue_length", &[("queue", "a")], 7.0),
        ("queue_length", &[("queue", "b")], -9.0),
        ("http_latency_seconds_count", &[("route", "/pay")], 6.0),
        ("http_latency_seconds_bucket", &[("le", "1.0")], 3.0),
        ("http_latency_seconds_bucket", &[("le", "+Inf")], 6.0),
        ("http_latency_seconds_sum", &[], 52.65),
        ("room_temperature_celsius", &[("room", "north"), ("heated", "false")], -2.5),
        ("disk_reads_total", &[("disk", "sda")], 123_456_789_012.0),
        ("disk_files", &[("disk", "sda"), ("job", "europe/shop")], -3.0),
        ("disk_usage_ratio", &[("disk", "sda")], 0.25),
    ] {
        assert_eq!(value(page, name, labels), Some(expected), "{name} {labels:?} on\n{page}");
    }
}

/// The direct reading is what the script says: else two equal mistakes would agree.
fn spot_check(points: &BTreeSet<String>) {
    let points: Vec<Value> =
        points.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let one =
        |name: &str| points.iter().find(|point| point["name"] == name).expect("every instrument");
    let size = one("payload.size");
    assert_eq!((&size["kind"], &size["count"]), (&json!("exponential_histogram"), &json!(5)));
    assert_eq!(one("http.latency")["counts"], json!([2, 1, 1, 2]));
    assert_eq!(one("disk.reads")["as_int"], json!(123_456_789_012_i64));
    assert_eq!(one("room.temperature")["attributes"], json!({"heated": false, "room": "north"}));
    assert_eq!(one("network.sent")["resource"]["cores"], json!(4));
}

#[test]
fn the_sdk_over_grpc_is_passed_on_as_it_is() {
    sdk_is_passed_on("grpc", "cumulative");
}

#[test]
fn the_sdk_over_http_is_passed_on_as_it_is() {
    sdk_is_passed_on("http", "cumulative");
}

#[test]
fn deltas_of_the_sdk_are_passed_on_as_deltas() {
    sdk_is_passed_on("http", "delta");
}

#[test]
fn grpc_clients_of_a_full_pipeline_are_told_when_to_come_again() {
    let Some(python) = python_with(SDK) else { return };
    let backend = Backend::start();
    backend.down();
    let flow = Flow::start(&format!(
        "[exporters.out]\ntype = \"otlp\"\nprotocol = \"http\"\nendpoint = \"{}\"\n{QUICK}queue = {{ bytes_max = \"64KiB\", when_full = \"backpressure\" }}\n",
        backend.url("")
    ));
    let mut filler = flow.source("filler", 100);
    wait_until("a full queue", PATIENCE, || filler.send().filter(|reply| reply.status == 503));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("request");
    let request = Source::new(&flow.http, "grpc", 100).request(1);
    std::fs::write(&file, prost::Message::encode_to_vec(&request)).unwrap();
    let exported = || -> String {
        let out = Command::new(&python)
            .arg(GRPC_SEND)
            .args([&flow.grpc, file.to_str().unwrap()])
            .output();
        String::from_utf8(out.unwrap().stdout).unwrap()
    };
    let refused = exported();
    let after = refused.trim().strip_prefix("UNAVAILABLE ").map(str::parse::<f64>);
    assert!(matches!(after, Some(Ok(seconds)) if seconds > 0.0), "{refused}");
    backend.up();
    wait_until("room", PATIENCE, || (exported().trim() == "OK 0").then_some(()));
}

/// Every kind of point that the protocol has, by hand: what no SDK sends is there as well.
fn everything(base: u64) -> ExportMetricsServiceRequest {
    let attributes = json!([
        {"key": "text", "value": {"stringValue": "a"}}, {"key": "flag", "value": {"boolValue": true}},
        {"key": "int", "value": {"intValue": "-7"}}, {"key": "double", "value": {"doubleValue": 0.5}},
        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "x"}, {"intValue": "1"}]}}}
    ]);
    let exemplar = json!([{
        "timeUnixNano": (base + 1).to_string(), "asDouble": 0.25, "traceId": "0102030405060708090a0b0c0d0e0f10",
        "spanId": "0102030405060708", "filteredAttributes": [{"key": "user", "value": {"stringValue": "u"}}]
    }]);
    let times = |point: Value| -> Value {
        let mut point = point;
        point["attributes"] = attributes.clone();
        point["startTimeUnixNano"] = json!(base.to_string());
        point["timeUnixNano"] = json!((base + 5_000_000_000).to_string());
        point
    };
    let number = |value: Value| json!([times(value)]);
    let histogram = json!([times(json!({
        "count": "6", "sum": 12.5, "bucketCounts": ["1", "2", "3"], "explicitBounds": [0.5, 2], "min": 0.1, "max": 9,
        "exemplars": exemplar
    }))]);
    let exponential = json!([times(json!({
        "count": "9", "sum": 3.5, "scale": 2, "zeroCount": "1", "zeroThreshold": 0.001, "min": -4, "max": 4,
        "positive": {"offset": -3, "bucketCounts": ["1", "0", "2"]}, "negative": {"offset": 1, "bucketCounts": ["5"]}
    }))]);
    let summary = json!([times(json!({
        "count": "4", "sum": 10, "quantileValues": [{"quantile": 0.5, "value": 2}, {"quantile": 0.99, "value": 5}]
    }))]);
    let metric = |name: &str, kind: &str, data: Value| json!({"name": name, "unit": "s", "description": format!("about {name}"), kind: data});
    let request = json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "every"}}]},
        "schemaUrl": "https://example.com/resource",
        "scopeMetrics": [{
            "scope": {"name": "by.hand", "version": "3", "attributes": [{"key": "team", "value": {"stringValue": "t"}}]},
            "schemaUrl": "https://example.com/scope",
            "metrics": [
                metric("gauge.int", "gauge", json!({"dataPoints": number(json!({"asInt": "-5"}))})),
                metric("gauge.double", "gauge", json!({"dataPoints": number(json!({"asDouble": 1e300}))})),
                metric("sum.cumulative", "sum", json!({"dataPoints": number(json!({"asInt": "9007199254740993"})),
                    "aggregationTemporality": 2, "isMonotonic": true})),
                metric("sum.delta", "sum", json!({"dataPoints": number(json!({"asDouble": 2.5, "exemplars": exemplar})),
                    "aggregationTemporality": 1, "isMonotonic": true})),
                metric("sum.updown", "sum", json!({"dataPoints": number(json!({"asInt": "-1"})),
                    "aggregationTemporality": 2, "isMonotonic": false})),
                metric("histogram.cumulative", "histogram", json!({"dataPoints": histogram, "aggregationTemporality": 2})),
                metric("histogram.delta", "histogram", json!({"dataPoints": histogram, "aggregationTemporality": 1})),
                metric("exponential", "exponentialHistogram", json!({"dataPoints": exponential, "aggregationTemporality": 1})),
                metric("summary", "summary", json!({"dataPoints": summary})),
                metric("ended", "gauge", json!({"dataPoints": [times(json!({"flags": 1}))]})),
            ]
        }]
    }]});
    serde_json::from_value(request).unwrap()
}

/// Metrics in the order of their names, attributes in the order of their keys: order says nothing.
fn ordered(mut request: ExportMetricsServiceRequest) -> Value {
    for of_resource in &mut request.resource_metrics {
        for scope in &mut of_resource.scope_metrics {
            scope.metrics.sort_by(|one, other| one.name.cmp(&other.name));
        }
    }
    fn sorted(value: &mut Value) {
        match value {
            Value::Array(items) => {
                items.iter_mut().for_each(sorted);
                if items.iter().all(|item| item["key"].is_string()) {
                    items.sort_by_key(|item| item["key"].to_string());
                }
            }
            Value::Object(fields) => fields.values_mut().for_each(sorted),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(request).unwrap();
    sorted(&mut value);
    value
}

#[test]
fn every_kind_of_point_comes_out_as_it_went_in() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let request = everything(now.as_nanos() as u64 - 6_000_000_000);
    for protocol in ["http", "grpc"] {
        let backend = Backend::start();
        let (flow, _) = flow(&backend, protocol);
        let reply = testkit::post_otlp(&flow.http, &request).expect("an answer");
        assert_eq!(reply.status, 200);
        wait_until("ten points", PATIENCE, || (backend.points() >= 10).then_some(()));
        let came = backend.otlp();
        assert_eq!(came.len(), 1, "one request");
        assert_eq!(ordered(came[0].clone()), ordered(request.clone()), "{protocol}");
    }
}

#[test]
fn an_outage_of_the_backend_is_no_matter_to_the_sdk() {
    let Some(python) = python_with(SDK) else { return };
    let backend = Backend::start();
    let (flow, _) = flow(&backend, "grpc");
    backend.next([
        Fault::Status(503, None),
        Fault::Status(429, Some("1".to_owned())),
        Fault::Reset,
    ]);
    send(&python, "grpc", &flow.grpc, "cumulative");
    wait_until("every point", PATIENCE, || (backend.points() >= 12).then_some(()));
    assert_eq!(flow.settled("out").dropped, 0.0);
}
