//! OTLP requests as points for the ledger.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;

use super::ledger::{Arrived, STALE, Series};

/// The flag of a point that says: nothing was recorded.
const NO_RECORDED_VALUE: u32 = 1;

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::BoolValue(flag)) => flag.to_string(),
        Some(any_value::Value::IntValue(int)) => int.to_string(),
        Some(any_value::Value::DoubleValue(double)) => double.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn extend(series: &mut Series, attributes: &[KeyValue]) {
    for pair in attributes {
        series.insert(pair.key.clone(), text(pair.value.as_ref()));
    }
}

/// Every point of a request: its series, and what arrived.
pub(super) fn points(
    message: &ExportMetricsServiceRequest,
    request: u64,
    mut each: impl FnMut(Series, Arrived),
) {
    for of_resource in &message.resource_metrics {
        let mut resource = Series::new();
        extend(&mut resource, of_resource.resource.as_ref().map_or(&[], |r| &r.attributes));
        for metric in of_resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let mut point = |attributes: &[KeyValue], time: u64, flags: u32, value: f64| {
                let mut series = resource.clone();
                extend(&mut series, attributes);
                series.insert("__name__".to_owned(), metric.name.clone());
                let stale = flags & NO_RECORDED_VALUE != 0;
                let value = if stale { f64::from_bits(STALE) } else { value };
                let time_ms = i64::try_from(time / 1_000_000).unwrap_or(i64::MAX);
                each(series, Arrived { time_ms, value, request });
            };
            let mut number = |p: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
                let value = match p.value {
                    Some(number_data_point::Value::AsInt(int)) => int as f64,
                    Some(number_data_point::Value::AsDouble(double)) => double,
                    None => f64::NAN,
                };
                point(&p.attributes, p.time_unix_nano, p.flags, value);
            };
            match &metric.data {
                Some(Data::Gauge(data)) => data.data_points.iter().for_each(&mut number),
                Some(Data::Sum(data)) => data.data_points.iter().for_each(&mut number),
                Some(Data::Histogram(data)) => data.data_points.iter().for_each(|p| {
                    point(&p.attributes, p.time_unix_nano, p.flags, p.count as f64);
                }),
                Some(Data::ExponentialHistogram(data)) => data.data_points.iter().for_each(|p| {
                    point(&p.attributes, p.time_unix_nano, p.flags, p.count as f64);
                }),
                Some(Data::Summary(data)) => data.data_points.iter().for_each(|p| {
                    point(&p.attributes, p.time_unix_nano, p.flags, p.count as f64);
                }),
                None => {}
            }
        }
    }
}

/// Points of a request.
pub fn count(message: &ExportMetricsServiceRequest) -> usize {
    let mut count = 0;
    points(message, 0, |_, _| count += 1);
    count
}

/// A readable line per point, for a test that fails.
pub fn shown(message: &ExportMetricsServiceRequest) -> String {
    let mut out = String::new();
    points(message, 0, |series, arrived| {
        out += &format!("{series:?} {} @{}\n", arrived.value, arrived.time_ms);
    });
    out
}
