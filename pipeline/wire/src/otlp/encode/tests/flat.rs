//! Points in words, from a request and from a batch.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar as ProtoExemplar, Metric as ProtoMetric, exemplar, metric, number_data_point,
};
use pipeline_model::{
    Batch, ExponentialBuckets, ExponentialPoint, Group, Hint, Kind, Labels, Mark, Metric, Number,
    Series, Temporality, Value,
};
use prost::Message;

/// One point, in words: resource | scope | metric | attributes | numbers.
pub(super) type Flat = String;

fn attributes<'a>(pairs: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
    pairs.sort();
    pairs.join(",")
}

fn any(value: Option<&AnyValue>) -> String {
    use any_value::Value as V;
    match value.and_then(|value| value.value.as_ref()) {
        None => "empty".to_owned(),
        Some(V::StringValue(text)) => format!("{text:?}"),
        Some(V::BoolValue(value)) => value.to_string(),
        Some(V::IntValue(value)) => format!("{value}i"),
        Some(V::DoubleValue(value)) => format!("{:x}d", value.to_bits()),
        Some(V::BytesValue(bytes)) => format!("{bytes:?}b"),
        Some(V::ArrayValue(list)) => {
            format!("[{}]", list.values.iter().map(|v| any(Some(v))).collect::<Vec<_>>().join(","))
        }
        Some(V::KvlistValue(map)) => {
            let pair = |pair: &KeyValue| format!("{}={}", pair.key, any(pair.value.as_ref()));
            format!("{{{}}}", map.values.iter().map(pair).collect::<Vec<_>>().join(","))
        }
        Some(other) => format!("{other:?}"),
    }
}

fn pairs(list: &[KeyValue]) -> String {
    attributes(list.iter().map(|pair| (pair.key.as_str(), any(pair.value.as_ref()))))
}

fn value(value: &Value) -> String {
    match value {
        Value::Str(text) => format!("{:?}", text.as_str()),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => format!("{value}i"),
        Value::Double(value) => format!("{:x}d", value.to_bits()),
        Value::Bytes(bytes) => format!("{bytes:?}b"),
        Value::List(list) => {
            format!("[{}]", list.iter().map(self::value).collect::<Vec<_>>().join(","))
        }
        Value::Map(map) => {
            let pair =
                |(key, item): &(pipeline_model::Str, Value)| format!("{key}={}", self::value(item));
            format!("{{{}}}", map.iter().map(pair).collect::<Vec<_>>().join(","))
        }
        Value::Empty => "empty".to_owned(),
    }
}

fn labels(labels: &Labels) -> String {
    attributes(labels.iter().map(|label| (label.name.as_str(), value(&label.value))))
}

/// Numbers of a point that has them.
struct Numbers {
    attributes: String,
    start: u64,
    time: u64,
    flags: u32,
    exemplars: String,
    text: String,
}

impl Numbers {
    fn show(&self, head: &str) -> Flat {
        let Self { attributes, start, time, flags, exemplars, text } = self;
        let text = if *flags == 1 { "" } else { text };
        format!("{head} | {attributes} | {start}..{time} f{flags} {text} x[{exemplars}]")
    }
}

fn proto_exemplars(list: &[ProtoExemplar]) -> String {
    let show = |e: &ProtoExemplar| {
        let Some(exemplar::Value::AsDouble(value)) = e.value else { panic!("{e:?}") };
        let (time, trace, span) = (e.time_unix_nano, &e.trace_id, &e.span_id);
        format!("{value} @{time} {trace:x?} {span:x?} {}", pairs(&e.filtered_attributes))
    };
    list.iter().map(show).collect::<Vec<_>>().join(";")
}

fn points(metric: &ProtoMetric) -> (String, Vec<Numbers>) {
    match metric.data.as_ref().expect("data") {
        metric::Data::Gauge(gauge) => ("gauge".to_owned(), numbers(&gauge.data_points)),
        metric::Data::Sum(sum) => {
            let kind = format!("sum {} {}", sum.aggregation_temporality, sum.is_monotonic);
            (kind, numbers(&sum.data_points))
        }
        metric::Data::Histogram(histogram) => {
            let show = histogram.data_points.iter().map(|p| Numbers {
                attributes: pairs(&p.attributes),
                start: p.start_time_unix_nano,
                time: p.time_unix_nano,
                flags: p.flags,
                exemplars: proto_exemplars(&p.exemplars),
                text: format!(
                    "{} {:?} {:?} {:?} {:?} {:?}",
                    p.count, p.sum, p.bucket_counts, p.explicit_bounds, p.min, p.max
                ),
            });
            (format!("histogram {}", histogram.aggregation_temporality), show.collect())
        }
        metric::Data::ExponentialHistogram(histogram) => {
            let show = histogram.data_points.iter().map(|p| {
                let side = |b: &Option<
                    opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets,
                >| {
                    b.as_ref().map_or("0 []".to_owned(), |b| format!("{} {:?}", b.offset, b.bucket_counts))
                };
                Numbers {
                    attributes: pairs(&p.attributes),
                    start: p.start_time_unix_nano,
                    time: p.time_unix_nano,
                    flags: p.flags,
                    exemplars: proto_exemplars(&p.exemplars),
                    text: format!(
                        "{} {:?} {} {} {} {} {} {:?} {:?}",
                        p.count, p.sum, p.scale, p.zero_count, p.zero_threshold,
                        side(&p.positive), side(&p.negative), p.min, p.max
                    ),
                }
            });
            (format!("exponential {}", histogram.aggregation_temporality), show.collect())
        }
        metric::Data::Summary(summary) => {
            let show = summary.data_points.iter().map(|p| {
                let quantiles: Vec<_> =
                    p.quantile_values.iter().map(|q| (q.quantile, q.value)).collect();
                Numbers {
                    attributes: pairs(&p.attributes),
                    start: p.start_time_unix_nano,
                    time: p.time_unix_nano,
                    flags: p.flags,
                    exemplars: String::new(),
                    text: format!("{} {} {quantiles:?}", p.count, p.sum),
                }
            });
            ("summary".to_owned(), show.collect())
        }
    }
}

fn numbers(list: &[opentelemetry_proto::tonic::metrics::v1::NumberDataPoint]) -> Vec<Numbers> {
    let show = list.iter().map(|p| Numbers {
        attributes: pairs(&p.attributes),
        start: p.start_time_unix_nano,
        time: p.time_unix_nano,
        flags: p.flags,
        exemplars: proto_exemplars(&p.exemplars),
        text: match p.value {
            Some(number_data_point::Value::AsDouble(value)) => format!("{:x}d", value.to_bits()),
            Some(number_data_point::Value::AsInt(value)) => format!("{value}i"),
            None => "none".to_owned(),
        },
    });
    show.collect()
}

/// All points of a request, in its order.
pub(super) fn decoded(bytes: &[u8]) -> Vec<Flat> {
    let request = ExportMetricsServiceRequest::decode(bytes).expect("a request");
    let mut all = Vec::new();
    for of_resource in &request.resource_metrics {
        let resource = of_resource.resource.as_ref().expect("a resource");
        let resource = format!("{} {}", pairs(&resource.attributes), of_resource.schema_url);
        for of_scope in &of_resource.scope_metrics {
            let scope = of_scope.scope.as_ref().expect("a scope");
            let scope = format!(
                "{} {} {} {}",
                scope.name,
                scope.version,
                pairs(&scope.attributes),
                of_scope.schema_url
            );
            for metric in &of_scope.metrics {
                let (kind, list) = points(metric);
                let ProtoMetric { name, description, unit, metadata, .. } = metric;
                let metadata = pairs(metadata);
                let head =
                    format!("{resource} | {scope} | {name} {description} {unit} {metadata} {kind}");
                assert!(!list.is_empty(), "no metric without points");
                all.extend(list.iter().map(|point| point.show(&head)));
            }
        }
    }
    all
}

/// The same from the batch, by the rules of the specification alone.
pub(super) fn expected(batch: &Batch) -> Vec<Flat> {
    let of_row = |series: Series<'_>| {
        let stale = match batch.mark(series.row) {
            Mark::Absent => return None,
            mark => mark == Mark::Stale,
        };
        let Group { resource, scope, .. } = series.group;
        let resource = format!("{} {}", labels(&resource.attributes), resource.schema_url);
        let scope = format!(
            "{} {} {} {}",
            scope.name,
            scope.version,
            labels(&scope.attributes),
            scope.schema_url
        );
        let Metric { name, description, unit, hint, .. } = &**series.metric;
        let metadata = match hint {
            Hint::Info => "prometheus.type=\"info\"",
            _ => "",
        };
        let (kind, text) = kind_and_numbers(batch, &series);
        let extras = batch.extras.as_deref();
        let exemplars: Vec<String> = extras
            .into_iter()
            .flat_map(|extras| &extras.exemplars)
            .filter(|e| e.row == series.row && !matches!(series.metric.kind, Kind::Summary { .. }))
            .map(|e| format!("{} @{} {:x?} {:x?} k=\"v\"", e.value, e.time, [0xabu8; 16], [1u8; 8]))
            .collect();
        let merged = series.labels_merged().map(|label| (label.name.as_str(), value(&label.value)));
        let numbers = Numbers {
            attributes: attributes(merged),
            start: batch.start(series.row).cast_unsigned(),
            time: batch.time_of(series.row).cast_unsigned(),
            flags: u32::from(stale),
            exemplars: exemplars.join(";"),
            text,
        };
        Some(
            numbers.show(&format!(
                "{resource} | {scope} | {name} {description} {unit} {metadata} {kind}"
            )),
        )
    };
    batch.shape.iter().filter_map(of_row).collect()
}

fn kind_and_numbers(batch: &Batch, series: &Series<'_>) -> (String, String) {
    let slots = batch.point(series.row);
    let at = |n: usize| slots[n].as_double();
    let count = |n: usize| at(n) as u64;
    let sum = Some(at(0)).filter(|sum| !sum.is_nan());
    let word = |temporality: &Temporality| if *temporality == Temporality::Delta { 1 } else { 2 };
    let number = || match series.metric.number {
        Number::Int => format!("{}i", slots[0].as_int()),
        Number::Double => format!("{:x}d", at(0).to_bits()),
    };
    match &series.metric.kind {
        Kind::Gauge => ("gauge".to_owned(), number()),
        Kind::Sum { monotonic, temporality } => {
            (format!("sum {} {monotonic}", word(temporality)), number())
        }
        Kind::Histogram { temporality, bounds, min_max } => {
            let first = series.metric.kind.first_bucket();
            let upper: Vec<u64> =
                (0..bounds.len()).map(|n| count(first + n)).chain([count(1)]).collect();
            let each: Vec<u64> = (0..upper.len())
                .map(|n| upper[n] - if n == 0 { 0 } else { upper[n - 1] })
                .collect();
            let (min, max) = if *min_max { (Some(at(2)), Some(at(3))) } else { (None, None) };
            let bounds = bounds.as_slice();
            let text = format!("{} {sum:?} {each:?} {bounds:?} {min:?} {max:?}", count(1));
            (format!("histogram {}", word(temporality)), text)
        }
        Kind::ExponentialHistogram { temporality } => {
            let none = ExponentialPoint::default();
            let point =
                batch.extras.as_deref().and_then(|e| e.exponential(series.row)).unwrap_or(&none);
            let side = |b: &ExponentialBuckets| {
                format!("{} {:?}", b.offset, b.counts.iter().map(|c| *c as u64).collect::<Vec<_>>())
            };
            let text = format!(
                "{} {sum:?} {} {} {} {} {} {:?} {:?}",
                count(1),
                point.scale,
                point.zero_count as u64,
                point.zero_threshold,
                side(&point.positive),
                side(&point.negative),
                point.min,
                point.max
            );
            (format!("exponential {}", word(temporality)), text)
        }
        Kind::Summary { quantiles } => {
            let pairs: Vec<_> =
                quantiles.as_slice().iter().enumerate().map(|(n, q)| (*q, at(2 + n))).collect();
            ("summary".to_owned(), format!("{} {} {pairs:?}", count(1), at(0)))
        }
    }
}
