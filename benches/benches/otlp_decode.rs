//! OTLP requests into batches: what a request costs whose series are known, in the sender's order and not, and the
//! first one. Divide by the items for one point; a histogram is one.
//!
//! A request is what an engine with the OpenTelemetry SDK sends: half integer counters, a third gauges, the rest
//! histograms of 12 buckets, three attributes a point, six of the resource. Values and times change each time.

use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyKind;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
    Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use pipeline_model::{Batch, Interner};
use pipeline_wire::otlp::{MetricsReader, ReadSettings};
use prost::Message;

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

/// Points of a request.
const POINTS: [usize; 2] = [1000, 10];
/// Requests taken in turn.
const REQUESTS: u64 = 16;
const NOW: u64 = 1_800_000_000_000_000_000;

fn main() {
    divan::main();
}

fn pair(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(AnyKind::StringValue(value.into())) };
    KeyValue { key: key.into(), value: Some(value), ..KeyValue::default() }
}

fn attributes(idx: usize) -> Vec<KeyValue> {
    let model = ["meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-32B"][idx % 2];
    let reason = ["stop", "length", "abort"][idx % 3];
    vec![pair("model_name", model), pair("engine", &idx.to_string()), pair("reason", reason)]
}

fn number(idx: usize, turn: u64, value: Number) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(idx),
        start_time_unix_nano: NOW - 1_000_000_000,
        time_unix_nano: NOW + turn,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn distribution(idx: usize, turn: u64) -> HistogramDataPoint {
    let mut bucket_counts = vec![0; 13];
    bucket_counts[6] = turn;
    HistogramDataPoint {
        attributes: attributes(idx),
        start_time_unix_nano: NOW - 1_000_000_000,
        time_unix_nano: NOW + turn,
        count: turn,
        sum: Some(turn as f64),
        bucket_counts,
        explicit_bounds: (0..12).map(|b| 0.001 * 1.7_f64.powi(b)).collect(),
        ..HistogramDataPoint::default()
    }
}

/// Metrics of up to 50 series.
fn metrics(points: usize, turn: u64) -> Vec<Metric> {
    let chunk = |metric: usize| {
        let first = metric * 50;
        let idx = first..points.min(first + 50);
        let data = match metric % 6 {
            0 | 2 | 4 => Data::Sum(Sum {
                data_points: idx
                    .map(|i| number(i, turn, Number::AsInt(turn.cast_signed())))
                    .collect(),
                aggregation_temporality: 2,
                is_monotonic: true,
            }),
            1 | 3 => Data::Gauge(Gauge {
                data_points: idx.map(|i| number(i, turn, Number::AsDouble(turn as f64))).collect(),
            }),
            _ => Data::Histogram(Histogram {
                data_points: idx.map(|i| distribution(i, turn)).collect(),
                aggregation_temporality: 2,
            }),
        };
        Metric {
            name: format!("vllm.metric_{metric}"),
            unit: "1".into(),
            description: "What it is.".into(),
            data: Some(data),
            ..Metric::default()
        }
    };
    (0..points.div_ceil(50)).map(chunk).collect()
}

fn request(points: usize, turn: u64) -> ExportMetricsServiceRequest {
    let resource = Resource {
        attributes: vec![
            pair("service.name", "vllm"),
            pair("service.instance.id", "7d9f6c54b8-00001"),
            pair("k8s.namespace.name", "inference"),
            pair("k8s.pod.name", "vllm-llama-7d9f6c54b8-00001"),
            pair("k8s.node.name", "gpu-node-001"),
            pair("cloud.region", "eu-west-1"),
        ],
        ..Resource::default()
    };
    let scope =
        InstrumentationScope { name: "vllm".into(), version: "1".into(), ..Default::default() };
    let metrics = metrics(points, turn);
    let scope = ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() };
    let of_one = ResourceMetrics {
        resource: Some(resource),
        scope_metrics: vec![scope],
        ..ResourceMetrics::default()
    };
    ExportMetricsServiceRequest { resource_metrics: vec![of_one] }
}

fn reader() -> MetricsReader {
    MetricsReader::new(ReadSettings::default(), Arc::new(Interner::new()))
}

fn read(reader: &MetricsReader, body: &[u8], out: &mut Vec<Batch>) {
    match reader.read(body, NOW.cast_signed(), out) {
        Ok(stats) if stats.rejected == 0 => {}
        other => unreachable!("{other:?}"),
    }
}

/// Reads `bodies` in turn; after the first round every series is known.
fn bench(bencher: Bencher<'_, '_>, points: usize, bodies: &[Vec<u8>]) {
    let reader = reader();
    let mut out = Vec::new();
    for body in bodies.iter().chain(bodies) {
        out.clear();
        read(&reader, body, &mut out);
    }
    let mut turn = 0;
    bencher.counter(ItemsCount::new(points)).bench_local(|| {
        turn += 1;
        out.clear();
        let body = bodies.get(turn % bodies.len()).map(Vec::as_slice).unwrap_or_default();
        read(&reader, black_box(body), &mut out);
        black_box(&out);
    });
}

/// The same series in the same order: what every request but the first costs.
#[divan::bench(args = POINTS)]
fn steady(bencher: Bencher<'_, '_>, points: usize) {
    let bodies: Vec<_> = (0..REQUESTS).map(|turn| request(points, turn).encode_to_vec()).collect();
    bench(bencher, points, &bodies);
}

/// Every other request has its metrics in reverse order and only two thirds of the points.
#[divan::bench(args = POINTS)]
fn reordered_and_partly_missing(bencher: Bencher<'_, '_>, points: usize) {
    let bodies = (0..REQUESTS).map(|turn| {
        let mut request = request(points, turn);
        let scopes = request.resource_metrics.iter_mut().flat_map(|r| &mut r.scope_metrics);
        for metrics in scopes.map(|scope| &mut scope.metrics).filter(|_| turn % 2 == 1) {
            metrics.reverse();
            for metric in metrics {
                if let Some(
                    Data::Gauge(Gauge { data_points }) | Data::Sum(Sum { data_points, .. }),
                ) = &mut metric.data
                {
                    let mut idx = 0;
                    data_points.retain(|_| {
                        idx += 1;
                        idx % 3 != 0
                    });
                }
            }
        }
        request.encode_to_vec()
    });
    bench(bencher, points, &bodies.collect::<Vec<_>>());
}

/// The first request of a resource.
#[divan::bench(args = POINTS)]
fn first(bencher: Bencher<'_, '_>, points: usize) {
    let body = request(points, 1).encode_to_vec();
    let mut out = Vec::new();
    bencher.counter(ItemsCount::new(points)).bench_local(|| {
        out.clear();
        read(&reader(), black_box(&body), &mut out);
        black_box(&out);
    });
}

/// Decoding alone, as every receiver does it that goes through the generated types.
#[divan::bench(args = POINTS)]
fn generated_types(bencher: Bencher<'_, '_>, points: usize) {
    let body = request(points, 1).encode_to_vec();
    bencher
        .counter(ItemsCount::new(points))
        .bench_local(|| ExportMetricsServiceRequest::decode(black_box(body.as_slice())));
}

/// The JSON of the same request.
#[divan::bench(args = POINTS)]
fn json(bencher: Bencher<'_, '_>, points: usize) {
    let Ok(body) = serde_json::to_vec(&request(points, 1)) else { return };
    let reader = reader();
    let mut out = Vec::new();
    bencher.counter(ItemsCount::new(points)).bench_local(|| {
        out.clear();
        let read = reader.read_json(black_box(&body), NOW.cast_signed(), &mut out);
        assert!(read.is_ok());
        black_box(&out);
    });
}
