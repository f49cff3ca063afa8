//! The reader against the generated types, and what it does with everything that is unusual.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyKind;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use pipeline_model::{Batch, Interner};
use prost::Message;

use super::{MetricsReader, ReadError, ReadSettings, ReadStats};

mod agree;
mod cases;
mod facts;
mod json;
mod malformed;

/// Unix nanoseconds at which requests are received.
const NOW: i64 = 1_800_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

fn reader() -> MetricsReader {
    MetricsReader::new(ReadSettings::default(), Arc::new(Interner::new()))
}

fn text(value: &str) -> AnyValue {
    AnyValue { value: Some(AnyKind::StringValue(value.into())) }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.into(), value: Some(text(value)), ..KeyValue::default() }
}

fn point(attributes: &[(&str, &str)], time: u64, value: Number) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        time_unix_nano: time,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn gauge(name: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    metric(name, Data::Gauge(Gauge { data_points }))
}

fn counter(name: &str, temporality: i32, data_points: Vec<NumberDataPoint>) -> Metric {
    let aggregation_temporality = temporality;
    metric(name, Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true }))
}

fn metric(name: &str, data: Data) -> Metric {
    Metric { name: name.into(), unit: "s".into(), data: Some(data), ..Metric::default() }
}

fn histogram(attributes: &[(&str, &str)], counts: &[u64], bounds: &[f64]) -> HistogramDataPoint {
    HistogramDataPoint {
        attributes: attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        time_unix_nano: NOW.cast_unsigned(),
        count: counts.iter().sum(),
        sum: Some(1.5),
        bucket_counts: counts.to_vec(),
        explicit_bounds: bounds.to_vec(),
        ..HistogramDataPoint::default()
    }
}

fn of_resource(pod: &str, metrics: Vec<Metric>) -> ResourceMetrics {
    ResourceMetrics {
        resource: Some(Resource { attributes: vec![attribute("pod", pod)], ..Resource::default() }),
        scope_metrics: vec![ScopeMetrics {
            scope: Some(InstrumentationScope { name: "lib".into(), ..Default::default() }),
            metrics,
            ..ScopeMetrics::default()
        }],
        ..ResourceMetrics::default()
    }
}

fn request(resource_metrics: Vec<ResourceMetrics>) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest { resource_metrics }
}

/// A request of one resource.
fn body(metrics: Vec<Metric>) -> Vec<u8> {
    request(vec![of_resource("p", metrics)]).encode_to_vec()
}

fn read(reader: &MetricsReader, body: &[u8]) -> (Vec<Batch>, ReadStats) {
    let mut out = Vec::new();
    let stats = reader.read(body, NOW, &mut out).unwrap();
    (out, stats)
}

fn read_err(reader: &MetricsReader, body: &[u8]) -> ReadError {
    let mut out = Vec::new();
    let error = reader.read(body, NOW, &mut out).unwrap_err();
    assert!(out.is_empty(), "nothing is taken");
    error
}

/// Reasons and counts, as text.
fn rejected(stats: &ReadStats) -> String {
    let reasons = stats.reasons().map(|(reason, count)| format!("{reason} {count}"));
    reasons.collect::<Vec<_>>().join(", ")
}
