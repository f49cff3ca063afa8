//! What a request says, one line a point: from batches, and from the generated types.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyKind;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value as ExemplarValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
    SummaryDataPoint,
};
use pipeline_model::{
    Batch, ExponentialBuckets, ExponentialPoint, Kind, Label, Labels, Mark, Number as ModelNumber,
    Series, Str, Temporality, Value,
};

/// Lines of `batches`, sorted.
pub(super) fn of_batches(batches: &[Batch]) -> Vec<String> {
    let mut lines: Vec<String> = batches
        .iter()
        .flat_map(|batch| batch.shape.iter().filter_map(|series| of_series(batch, &series)))
        .collect();
    lines.sort();
    lines
}

fn of_series(batch: &Batch, series: &Series<'_>) -> Option<String> {
    let mark = batch.mark(series.row);
    if mark == Mark::Absent {
        return None;
    }
    let (resource, scope) = (&series.group.resource, &series.group.scope);
    let slots = batch.point(series.row);
    let doubles: Vec<f64> = slots.iter().map(|slot| slot.as_double()).collect();
    let (kind, value) = match &series.metric.kind {
        Kind::Gauge => ("gauge".into(), number(series, batch)),
        Kind::Sum { monotonic, temporality } => {
            (format!("sum {monotonic} {}", word(*temporality)), number(series, batch))
        }
        Kind::Histogram { temporality, bounds, min_max } => {
            let nan = [f64::NAN; 2];
            let (head, cumulative) = doubles.split_at(if *min_max { 4 } else { 2 });
            let min_max = if *min_max { &head[2..] } else { &nan };
            let value =
                format!("{:?} {min_max:?} {:?} {cumulative:?}", &head[..2], bounds.as_slice());
            (format!("histogram {}", word(*temporality)), value)
        }
        Kind::ExponentialHistogram { temporality } => {
            let point = batch.extras.as_ref().and_then(|extras| extras.exponential(series.row));
            (format!("exponential {}", word(*temporality)), format!("{doubles:?} {point:?}"))
        }
        Kind::Summary { quantiles } => {
            ("summary".into(), format!("{doubles:?} {:?}", quantiles.as_slice()))
        }
    };
    let exemplars = batch.extras.iter().flat_map(|extras| &extras.exemplars);
    let exemplars = exemplars
        .filter(|exemplar| exemplar.row == series.row)
        .map(|exemplar| format!("{} {} {}", exemplar.value, exemplar.time, exemplar.labels));
    let what = if mark == Mark::Stale {
        "stale".into()
    } else {
        format!("{value} {:?}", exemplars.collect::<Vec<_>>())
    };
    Some(line(
        &format!("{} {}", resource.attributes, resource.schema_url),
        &format!("{} {} {} {}", scope.name, scope.version, scope.attributes, scope.schema_url),
        &format!("{} {} {kind}", series.metric.name, series.metric.unit),
        &format!("{} {}", series.labels, series.group.labels),
        (batch.time_of(series.row), batch.start(series.row)),
        &what,
    ))
}

fn number(series: &Series<'_>, batch: &Batch) -> String {
    let slot = batch.point(series.row)[0];
    // A series keeps to doubles once it has had one.
    let value = match series.metric.number {
        ModelNumber::Int => slot.as_int() as f64,
        ModelNumber::Double => slot.as_double(),
    };
    format!("{value:?}")
}

fn word(temporality: Temporality) -> i32 {
    match temporality {
        Temporality::Delta => 1,
        Temporality::Cumulative => 2,
    }
}

fn line(
    resource: &str,
    scope: &str,
    metric: &str,
    labels: &str,
    when: (i64, i64),
    what: &str,
) -> String {
    format!("{resource} | {scope} | {metric} | {labels} | {when:?} | {what}")
}

/// Lines of a request, sorted.
pub(super) fn of_request(request: &ExportMetricsServiceRequest, received: i64) -> Vec<String> {
    let mut lines = Vec::new();
    for of_resource in &request.resource_metrics {
        let resource = of_resource.resource.clone().unwrap_or_default();
        let resource = format!("{} {}", labels(&resource.attributes), of_resource.schema_url);
        for of_scope in &of_resource.scope_metrics {
            let scope = of_scope.scope.clone().unwrap_or_default();
            let attributes = labels(&scope.attributes);
            let scope =
                format!("{} {} {attributes} {}", scope.name, scope.version, of_scope.schema_url);
            for metric in &of_scope.metrics {
                of_metric(&resource, &scope, metric, received, &mut lines);
            }
        }
    }
    lines.sort();
    lines
}

struct Said<'a> {
    attributes: &'a [KeyValue],
    time: u64,
    start: u64,
    flags: u32,
    value: String,
    exemplars: &'a [Exemplar],
}

fn of_metric(resource: &str, scope: &str, metric: &Metric, received: i64, out: &mut Vec<String>) {
    let (kind, points) = said(metric);
    for point in points {
        let exemplars: Vec<String> = point.exemplars.iter().map(exemplar).collect();
        let what = if point.flags & 1 == 1 {
            "stale".into()
        } else {
            format!("{} {exemplars:?}", point.value)
        };
        let time = point.time.cast_signed();
        out.push(line(
            resource,
            scope,
            &format!("{} {} {kind}", metric.name, metric.unit),
            &format!("{} {{}}", labels(point.attributes)),
            (if time == 0 { received } else { time }, point.start.cast_signed()),
            &what,
        ));
    }
}

fn said(metric: &Metric) -> (String, Vec<Said<'_>>) {
    macro_rules! said {
        ($points:expr, $exemplars:ident, $value:expr) => {
            $points
                .iter()
                .map(|p| Said {
                    attributes: &p.attributes,
                    time: p.time_unix_nano,
                    start: p.start_time_unix_nano,
                    flags: p.flags,
                    exemplars: said!(@ $exemplars p),
                    value: $value(p),
                })
                .collect()
        };
        (@ none $p:ident) => { &[] };
        (@ some $p:ident) => { &$p.exemplars };
    }
    match metric.data.as_ref().unwrap() {
        Data::Gauge(gauge) => ("gauge".into(), said!(gauge.data_points, some, number_point)),
        Data::Sum(sum) => (
            format!("sum {} {}", sum.is_monotonic, sum.aggregation_temporality),
            said!(sum.data_points, some, number_point),
        ),
        Data::Histogram(histogram) => (
            format!("histogram {}", histogram.aggregation_temporality),
            said!(histogram.data_points, some, histogram_point),
        ),
        Data::ExponentialHistogram(histogram) => (
            format!("exponential {}", histogram.aggregation_temporality),
            said!(histogram.data_points, some, exponential_point),
        ),
        Data::Summary(summary) => {
            ("summary".into(), said!(summary.data_points, none, summary_point))
        }
    }
}

fn nan(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::NAN)
}

fn number_point(p: &NumberDataPoint) -> String {
    match p.value {
        Some(Number::AsDouble(value)) => format!("{value:?}"),
        Some(Number::AsInt(value)) => format!("{:?}", value as f64),
        None => "nothing".into(),
    }
}

fn histogram_point(p: &HistogramDataPoint) -> String {
    let mut total = 0;
    let finite = p.bucket_counts.iter().take(p.explicit_bounds.len());
    let cumulative: Vec<f64> = finite
        .map(|count| {
            total += count;
            total as f64
        })
        .collect();
    let (head, min_max) = ([nan(p.sum), p.count as f64], [nan(p.min), nan(p.max)]);
    format!("{head:?} {min_max:?} {:?} {cumulative:?}", p.explicit_bounds)
}

fn exponential_point(p: &ExponentialHistogramDataPoint) -> String {
    let point = ExponentialPoint {
        scale: p.scale,
        zero_count: p.zero_count as f64,
        zero_threshold: p.zero_threshold,
        positive: buckets(p.positive.as_ref()),
        negative: buckets(p.negative.as_ref()),
        min: p.min,
        max: p.max,
    };
    format!("{:?} {:?}", [nan(p.sum), p.count as f64], Some(point))
}

fn summary_point(p: &SummaryDataPoint) -> String {
    let mut values = vec![p.sum, p.count as f64];
    values.extend(p.quantile_values.iter().map(|pair| pair.value));
    let quantiles: Vec<f64> = p.quantile_values.iter().map(|pair| pair.quantile).collect();
    format!("{values:?} {quantiles:?}")
}

fn buckets(side: Option<&Buckets>) -> ExponentialBuckets {
    side.map_or_else(ExponentialBuckets::default, |side| ExponentialBuckets {
        offset: side.offset,
        counts: side.bucket_counts.iter().map(|count| *count as f64).collect(),
    })
}

fn exemplar(exemplar: &Exemplar) -> String {
    let mut all: Vec<Label> = labels(&exemplar.filtered_attributes).iter().cloned().collect();
    for (name, id) in [("trace_id", &exemplar.trace_id), ("span_id", &exemplar.span_id)] {
        if !id.is_empty() {
            let mut hex = String::new();
            id.iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
            all.push(Label { name: name.into(), value: Value::Str(Str::from(hex)) });
        }
    }
    let value = match exemplar.value.unwrap() {
        ExemplarValue::AsDouble(value) => value,
        ExemplarValue::AsInt(value) => value as f64,
    };
    format!("{value} {} {}", exemplar.time_unix_nano, Labels::new(all))
}

pub(super) fn labels(attributes: &[KeyValue]) -> Labels {
    let label = |pair: &KeyValue| Label {
        name: pair.key.as_str().into(),
        value: pair.value.as_ref().map_or(Value::Empty, any),
    };
    Labels::new(attributes.iter().map(label).collect())
}

fn any(value: &AnyValue) -> Value {
    match &value.value {
        None | Some(AnyKind::StringValueStrindex(_)) => Value::Empty,
        Some(AnyKind::StringValue(text)) => text.as_str().into(),
        Some(AnyKind::BoolValue(flag)) => Value::Bool(*flag),
        Some(AnyKind::IntValue(value)) => Value::Int(*value),
        Some(AnyKind::DoubleValue(value)) => Value::Double(*value),
        Some(AnyKind::BytesValue(bytes)) => Value::Bytes(bytes.as_slice().into()),
        Some(AnyKind::ArrayValue(list)) => Value::List(list.values.iter().map(any).collect()),
        Some(AnyKind::KvlistValue(list)) => Value::Map(
            list.values
                .iter()
                .map(|pair| {
                    let value = pair.value.as_ref().map_or(Value::Empty, any);
                    (pair.key.as_str().into(), value)
                })
                .collect(),
        ),
    }
}
