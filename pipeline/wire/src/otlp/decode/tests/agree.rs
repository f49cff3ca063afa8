//! The walk says what the generated types say, for any requests in any order.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyKind;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value as ExemplarValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use pipeline_model::{Batch, Mark};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::facts::{labels, of_batches, of_request};
use super::{NOW, SECOND, attribute, reader, request};

/// One series of the few that requests are made of; its metric decides on the kind.
type Which = (u8, u8, u8, Vec<KeyValue>);

/// A point of a series: which, a seed for its values, how many times, newest first, without value.
#[derive(Clone, Debug)]
struct Pick {
    which: Which,
    seed: u64,
    times: u64,
    newest_first: bool,
    no_value: bool,
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        4 => "[a-c]{0,3}".prop_map(|text| Some(AnyKind::StringValue(text))),
        1 => any::<bool>().prop_map(|flag| Some(AnyKind::BoolValue(flag))),
        1 => any::<i64>().prop_map(|value| Some(AnyKind::IntValue(value))),
        1 => (-1e9..1e9).prop_map(|value| Some(AnyKind::DoubleValue(value))),
        1 => vec(any::<u8>(), 0..4).prop_map(|bytes| Some(AnyKind::BytesValue(bytes))),
        1 => Just(None),
    ];
    leaf.prop_map(|value| AnyValue { value }).prop_recursive(3, 12, 3, |inner| {
        let list =
            vec(inner.clone(), 0..3).prop_map(|values| AnyKind::ArrayValue(ArrayValue { values }));
        let map = vec(("[a-z]{1,3}", inner), 0..3).prop_map(|pairs| {
            let pair = |(key, value)| KeyValue { key, value: Some(value), ..KeyValue::default() };
            AnyKind::KvlistValue(KeyValueList { values: pairs.into_iter().map(pair).collect() })
        });
        prop_oneof![list, map].prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(("[a-d]", any_value()), 0..4).prop_map(|pairs| {
        let pair = |(key, value)| KeyValue { key, value: Some(value), ..KeyValue::default() };
        pairs.into_iter().map(pair).collect()
    })
}

/// Requests of a few series, of which each has some, in some order.
fn requests() -> impl Strategy<Value = Vec<Vec<Pick>>> {
    vec((0..3_u8, 0..2_u8, 0..10_u8, attributes()), 1..24).prop_flat_map(|universe: Vec<Which>| {
        let len = universe.len();
        let pick = (0..len, any::<u64>(), 0..12_u64, any::<bool>(), 0..10_u8);
        vec(vec(pick, 0..2 * len), 1..6).prop_map(move |requests: Vec<Vec<_>>| {
            let pick =
                |(idx, seed, times, newest_first, no_value): (usize, u64, u64, bool, u8)| Pick {
                    which: universe[idx].clone(),
                    seed,
                    times: if times < 10 { 1 } else { times - 8 },
                    newest_first,
                    no_value: no_value == 0,
                };
            requests.into_iter().map(|picks| picks.into_iter().map(pick).collect()).collect()
        })
    })
}

/// The request of `picks`: neighbours of one metric, scope or resource stand together. No series has a time twice.
fn build(picks: &[Pick]) -> ExportMetricsServiceRequest {
    let mut out: Vec<ResourceMetrics> = Vec::new();
    let mut last: Option<&Which> = None;
    let mut moment = 0;
    for pick in picks {
        let (resource, scope, metric, _) = &pick.which;
        if last.is_none_or(|last| last.0 != *resource) {
            out.push(a_resource(*resource));
            last = None;
        }
        let scopes = &mut out.last_mut().unwrap().scope_metrics;
        if last.is_none_or(|last| last.1 != *scope) {
            scopes.push(a_scope(*scope));
            last = None;
        }
        let metrics = &mut scopes.last_mut().unwrap().metrics;
        if last.is_none_or(|last| last.2 != *metric) {
            metrics.push(a_metric(*metric));
        }
        let mut moments: Vec<u64> = (moment..moment + pick.times).collect();
        moment += pick.times;
        if pick.newest_first {
            moments.reverse();
        }
        for moment in moments {
            add_point(metrics.last_mut().unwrap(), pick, NOW.cast_unsigned() + moment * SECOND);
        }
        last = Some(&pick.which);
    }
    request(out)
}

fn a_resource(idx: u8) -> ResourceMetrics {
    ResourceMetrics {
        // One of them has none at all.
        resource: (idx > 0).then(|| Resource {
            attributes: vec![attribute("pod", &idx.to_string())],
            ..Resource::default()
        }),
        schema_url: if idx == 2 { "https://schema".into() } else { String::new() },
        ..ResourceMetrics::default()
    }
}

fn a_scope(idx: u8) -> ScopeMetrics {
    ScopeMetrics {
        scope: (idx > 0).then(|| InstrumentationScope {
            name: "lib".into(),
            version: "1".into(),
            attributes: vec![attribute("short", "yes")],
            ..InstrumentationScope::default()
        }),
        ..ScopeMetrics::default()
    }
}

fn a_metric(idx: u8) -> Metric {
    let aggregation_temporality = i32::from(idx % 2) + 1;
    let data = match idx {
        0 | 1 => Data::Gauge(Gauge::default()),
        2 | 3 => {
            Data::Sum(Sum { aggregation_temporality, is_monotonic: idx == 2, ..Sum::default() })
        }
        4..=6 => Data::Histogram(Histogram { aggregation_temporality, ..Histogram::default() }),
        7 | 8 => Data::ExponentialHistogram(ExponentialHistogram {
            aggregation_temporality,
            ..ExponentialHistogram::default()
        }),
        _ => Data::Summary(Summary::default()),
    };
    let unit = if idx.is_multiple_of(2) { "By" } else { "" };
    Metric { name: format!("m{idx}"), unit: unit.into(), data: Some(data), ..Metric::default() }
}

fn add_point(metric: &mut Metric, pick: &Pick, time_unix_nano: u64) {
    let (idx, seed) = (pick.which.2, pick.seed ^ time_unix_nano);
    let mut attributes = pick.which.3.clone();
    if seed.is_multiple_of(4) && labels(&attributes).len() == attributes.len() {
        // Another order of the same; where a key stands twice the order counts.
        attributes.reverse();
    }
    let start_time_unix_nano = if idx > 1 { 1_000 + pick.seed % 3 } else { 0 };
    let flags = u32::from(pick.no_value);
    let small = seed % 1000;
    let double = small as f64 / 8.0;
    let some = |value: f64| (seed % 5 != 0).then_some(value);
    let exemplars = if seed % 7 == 0 { an_exemplar(seed, time_unix_nano) } else { Vec::new() };
    match metric.data.as_mut().unwrap() {
        Data::Gauge(Gauge { data_points }) | Data::Sum(Sum { data_points, .. }) => {
            let value = (!pick.no_value).then(|| number(idx, small, double));
            data_points.push(NumberDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                exemplars,
                flags,
                value,
            });
        }
        Data::Histogram(histogram) => {
            let bounds: &[f64] = if idx == 6 { &[] } else { &[-1.0, 0.5, 10.0] };
            let counts: Vec<u64> = (0..=bounds.len() as u64).map(|i| seed >> i & 0xff).collect();
            histogram.data_points.push(HistogramDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                count: counts.iter().sum(),
                sum: some(double),
                bucket_counts: counts,
                explicit_bounds: bounds.to_vec(),
                exemplars,
                flags,
                min: (idx == 5).then_some(-double),
                max: (idx == 5).then_some(double),
            });
        }
        Data::ExponentialHistogram(histogram) => {
            histogram.data_points.push(ExponentialHistogramDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                count: small,
                sum: some(double),
                flags,
                exemplars,
                min: some(1.0),
                max: some(2.0),
                zero_threshold: double,
                ..exponential(seed)
            });
        }
        Data::Summary(summary) => summary.data_points.push(SummaryDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            count: small,
            sum: double,
            quantile_values: [0.0, 0.5, 1.0]
                .map(|quantile| ValueAtQuantile { quantile, value: double + quantile })
                .to_vec(),
            flags,
        }),
    }
}

fn number(idx: u8, int: u64, double: f64) -> Number {
    if idx.is_multiple_of(2) { Number::AsDouble(double) } else { Number::AsInt(int.cast_signed()) }
}

fn exponential(seed: u64) -> ExponentialHistogramDataPoint {
    let buckets = |len: u64| Buckets {
        offset: (seed % 21) as i32 - 10,
        bucket_counts: (0..len).map(|i| seed >> i & 0x3ff).collect(),
    };
    ExponentialHistogramDataPoint {
        scale: (seed % 31) as i32 - 10,
        zero_count: seed % 9,
        positive: Some(buckets(seed % 6)),
        negative: seed.is_multiple_of(3).then(|| buckets(2)),
        ..ExponentialHistogramDataPoint::default()
    }
}

fn an_exemplar(seed: u64, time_unix_nano: u64) -> Vec<Exemplar> {
    let value = if seed.is_multiple_of(2) {
        ExemplarValue::AsDouble(0.25)
    } else {
        ExemplarValue::AsInt(3)
    };
    vec![Exemplar {
        filtered_attributes: vec![attribute("user", "u")],
        time_unix_nano,
        span_id: seed.to_be_bytes().to_vec(),
        trace_id: [seed.to_le_bytes(), seed.to_be_bytes()].concat(),
        value: Some(value),
    }]
}

/// Per series the times are in order, and rows that a batch does not say are those that it cannot.
fn check_batches(batches: &[Batch]) {
    let mut last: std::collections::HashMap<(u64, u32), i64> = std::collections::HashMap::new();
    for batch in batches {
        assert_eq!(batch.values.len(), batch.shape.slots());
        let lens = [
            batch.marks.as_ref().map(|marks| marks.len()),
            batch.starts.as_ref().map(|starts| starts.len()),
            batch.extras.as_ref().and_then(|extras| extras.times.as_ref()).map(Vec::len),
        ];
        assert!(lens.into_iter().flatten().all(|len| len == batch.shape.len()), "{lens:?}");
        for row in (0..batch.shape.len() as u32).filter(|row| batch.mark(*row) != Mark::Absent) {
            let time = batch.time_of(row);
            let before = last.insert((batch.source.get(), row), time);
            assert!(before.is_none_or(|before| before < time), "row {row}: {before:?}, {time}");
        }
    }
}

/// Each name has one kind: what follows from a change of kind is not in the request.
#[track_caller]
fn agrees(requests: &[Vec<Pick>], json: bool) {
    let reader = reader();
    for picks in requests {
        let request = build(picks);
        let mut batches = Vec::new();
        let stats = if json {
            let body = serde_json::to_vec(&request).unwrap();
            reader.read_json(&body, NOW, &mut batches).unwrap()
        } else {
            reader.read(&request.encode_to_vec(), NOW, &mut batches).unwrap()
        };
        assert_eq!(of_batches(&batches), of_request(&request, NOW));
        assert_eq!((stats.points, stats.rejected), (picks.iter().map(|p| p.times).sum(), 0));
        check_batches(&batches);
    }
    let series: std::collections::HashSet<String> = requests
        .iter()
        .flatten()
        .map(|pick| {
            let (resource, scope, metric, attributes) = &pick.which;
            format!("{resource} {scope} {metric} {:?}", labels(attributes))
        })
        .collect();
    assert_eq!(reader.stats().series, series.len(), "each series is known once");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn with_the_generated_types(requests in requests()) {
        agrees(&requests, false);
    }

    #[test]
    fn with_the_generated_types_in_json(requests in requests()) {
        agrees(&requests, true);
    }

    /// A reader that has seen other requests says the same as a fresh one.
    #[test]
    fn whatever_came_before(requests in requests()) {
        let used = reader();
        for picks in &requests {
            let body = build(picks).encode_to_vec();
            let (mut along, mut alone) = (Vec::new(), Vec::new());
            used.read(&body, NOW, &mut along).unwrap();
            reader().read(&body, NOW, &mut alone).unwrap();
            prop_assert_eq!(of_batches(&along), of_batches(&alone));
        }
    }
}
