//! What is unusual, case by case.

use std::time::Duration;

use expect_test::{Expect, expect};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{Histogram, Summary, SummaryDataPoint};
use pipeline_model::{Hint, Mark};

use super::facts::of_batches;
use super::*;

const T: u64 = NOW.cast_unsigned();

#[expect(clippy::needless_pass_by_value, reason = "as written where it is called")]
fn check(batches: &[Batch], expect: Expect) {
    let lines: Vec<String> = of_batches(batches)
        .iter()
        .map(|line| line.replace(&NOW.to_string(), "now").replace("{pod=\"p\"}  | lib  {}  | ", ""))
        .collect();
    expect.assert_eq(&lines.join("\n"));
}

fn cumulative(data_points: Vec<HistogramDataPoint>) -> Metric {
    metric("h", Data::Histogram(Histogram { data_points, aggregation_temporality: 2 }))
}

/// Reads one request after the other.
fn read_all(reader: &MetricsReader, bodies: &[Vec<u8>]) -> Vec<Vec<Batch>> {
    bodies.iter().map(|body| read(reader, body).0).collect()
}

#[test]
fn what_repeats_shares_its_shape() {
    let reader = reader();
    let gauges = |values: &[(&str, i64)]| {
        let one = |(name, value): &(&str, i64)| point(&[("a", name)], T, Number::AsInt(*value));
        body(vec![gauge("g", values.iter().map(one).collect())])
    };
    let batches = read_all(
        &reader,
        &[
            gauges(&[("x", 1), ("y", 2), ("z", 3)]),
            gauges(&[("x", 4), ("y", 5), ("z", 6)]),
            gauges(&[("z", 9), ("x", 7)]),
            gauges(&[("z", 9), ("x", 7)]),
            gauges(&[("w", 0), ("y", 1)]),
        ],
    );
    let [a, b, c, d, e] = &batches.concat()[..] else { panic!("one batch each") };
    assert!([b, c, d, e].iter().all(|other| other.source == a.source));
    assert!([b, c, d].iter().all(|other| Arc::ptr_eq(&other.shape, &a.shape)));
    assert!(a.marks.is_none() && b.marks.is_none());
    assert!(a.extras.is_none() && a.starts.is_none());
    assert_eq!(**c.marks.as_ref().unwrap(), [Mark::Present, Mark::Absent, Mark::Present]);
    assert!(Arc::ptr_eq(c.marks.as_ref().unwrap(), d.marks.as_ref().unwrap()));
    assert_eq!((e.shape.len(), a.shape.vanished(&e.shape)), (4, Vec::new()));
    let values: Vec<i64> = e.values.iter().map(|slot| slot.as_int()).collect();
    assert_eq!((e.points(), &values[..]), (2, &[0, 1, 0, 0][..]));
}

#[test]
fn several_times_of_a_series_are_batches_in_order() {
    let at = |s: i64| (NOW + s * 1_000_000_000).cast_unsigned();
    let one = |name: &str, s: i64| point(&[("a", name)], at(s), Number::AsInt(s));
    let metric = gauge("g", vec![one("x", 5), one("y", 5), one("x", 7), one("x", 3), one("x", 1)]);
    let (batches, stats) = read(&reader(), &body(vec![metric]));
    let times: Vec<_> =
        batches.iter().map(|batch| (batch.time_of(0) - NOW) / 1_000_000_000).collect();
    assert_eq!(times, [1, 3, 5, 7]);
    assert_eq!(batches.iter().map(Batch::points).collect::<Vec<_>>(), [1, 1, 2, 1]);
    assert_eq!((stats.points, stats.rejected), (5, 0));
    assert!(batches.iter().all(|batch| Arc::ptr_eq(&batch.shape, &batches[0].shape)));
}

#[test]
fn the_same_resource_twice_in_a_request_is_one_source() {
    let of = |s: u64, value| {
        of_resource("p", vec![gauge("g", vec![point(&[], T + s, Number::AsInt(value))])])
    };
    let other = of_resource("q", vec![gauge("g", vec![point(&[], T, Number::AsInt(1))])]);
    let (batches, _) = read(&reader(), &request(vec![of(9, 1), other, of(0, 2)]).encode_to_vec());
    let mut sources: Vec<_> = batches.iter().map(|batch| batch.source).collect();
    sources.dedup();
    assert_eq!((batches.len(), sources.len()), (3, 2));
}

#[test]
fn a_time_twice_is_a_duplicate() {
    let two = vec![point(&[], T, Number::AsInt(1)), point(&[], T, Number::AsInt(2))];
    let late = vec![point(&[], T + 5, Number::AsInt(3)), point(&[], T + 5, Number::AsInt(4))];
    let (batches, stats) = read(&reader(), &body(vec![gauge("g", [two, late].concat())]));
    assert_eq!(rejected(&stats), "duplicate 2");
    assert_eq!(
        stats.message(),
        "rejected 2 of 4 points: 2 that repeat a series and time of the same request"
    );
    let values: Vec<_> = batches.iter().map(|batch| batch.values[0].as_int()).collect();
    assert_eq!(values, [1, 3]);
}

#[test]
fn attributes_in_another_order_are_the_same_series() {
    let reader = reader();
    let one =
        |pairs: &[(&str, &str)]| body(vec![gauge("g", vec![point(pairs, T, Number::AsInt(1))])]);
    let orders = [
        one(&[("a", "1"), ("b", "2")]),
        one(&[("b", "2"), ("a", "1")]),
        one(&[("b", "0"), ("a", "1"), ("b", "2")]),
    ];
    for batches in read_all(&reader, &orders) {
        check(&batches, expect![[r#"g s gauge | {a="1",b="2"} {} | (now, 0) | 1.0 []"#]]);
    }
    assert_eq!(reader.stats().series, 1);
}

#[test]
fn a_series_that_changes_its_kind_or_bounds_goes_on_as_another() {
    let reader = reader();
    let bodies = [
        body(vec![cumulative(vec![histogram(&[], &[1, 2], &[0.5])])]),
        body(vec![cumulative(vec![histogram(&[], &[1, 2, 3], &[0.5, 1.0])])]),
        body(vec![counter("h", 2, vec![point(&[], T, Number::AsInt(1))])]),
        body(vec![counter("h", 1, vec![point(&[], T, Number::AsInt(1))])]),
        body(vec![counter("h", 1, vec![point(&[], T, Number::AsInt(1))])]),
    ];
    let batches = read_all(&reader, &bodies).concat();
    check(
        &batches[1..2],
        expect![[r#"
            h s histogram 2 | {} {} | (now, 0) | [1.5, 6.0] [NaN, NaN] [0.5, 1.0] [1.0, 3.0] []
            h s histogram 2 | {} {} | (now, 0) | stale"#]],
    );
    check(
        &batches[2..3],
        expect![[r#"
            h s histogram 2 | {} {} | (now, 0) | stale
            h s histogram 2 | {} {} | (now, 0) | stale
            h s sum true 2 | {} {} | (now, 0) | 1.0 []"#]],
    );
    check(&batches[4..], expect!["h s sum true 1 | {} {} | (now, 0) | 1.0 []"]);
}

#[test]
fn integers_become_doubles_and_stay_so() {
    let reader = reader();
    let one = |value| body(vec![gauge("g", vec![point(&[], T, value)])]);
    let bodies = [
        one(Number::AsInt(i64::MAX)),
        one(Number::AsDouble(0.5)),
        one(Number::AsInt(3)),
        one(Number::AsDouble(f64::NAN)),
    ];
    let batches = read_all(&reader, &bodies).concat();
    assert_eq!(batches[0].values[0].as_int(), i64::MAX);
    assert_eq!((batches[1].mark(0), batches[1].mark(1)), (Mark::Stale, Mark::Present));
    assert_eq!((batches[2].mark(0), batches[2].values[1].as_double()), (Mark::Absent, 3.0));
    assert!(batches[3].values[1].as_double().is_nan());
    assert_eq!(reader.stats().series, 2);
}

#[test]
fn a_histogram_that_has_no_minimum_this_time() {
    let reader = reader();
    let with =
        HistogramDataPoint { min: Some(0.1), max: Some(9.0), ..histogram(&[], &[1, 2], &[0.5]) };
    let without = HistogramDataPoint { sum: None, ..histogram(&[], &[0, 0], &[0.5]) };
    let bodies = [body(vec![cumulative(vec![with])]), body(vec![cumulative(vec![without])])];
    let batches = read_all(&reader, &bodies);
    check(
        &batches[0],
        expect!["h s histogram 2 | {} {} | (now, 0) | [1.5, 3.0] [0.1, 9.0] [0.5] [1.0] []"],
    );
    check(
        &batches[1],
        expect!["h s histogram 2 | {} {} | (now, 0) | [NaN, 0.0] [NaN, NaN] [0.5] [0.0] []"],
    );
    assert_eq!(reader.stats().series, 1);
}

#[test]
fn no_recorded_value_ends_the_series_as_it_was() {
    let reader = reader();
    let flagged = HistogramDataPoint { flags: 1, ..histogram(&[("a", "1")], &[], &[]) };
    let gone = NumberDataPoint { flags: 1, value: None, ..point(&[], T, Number::AsInt(0)) };
    let new = NumberDataPoint { attributes: vec![attribute("never", "seen")], ..gone.clone() };
    let bodies = [
        body(vec![
            cumulative(vec![histogram(&[("a", "1")], &[1, 2], &[0.5])]),
            gauge("g", vec![point(&[], T, Number::AsInt(1))]),
        ]),
        body(vec![cumulative(vec![flagged]), gauge("g", vec![gone, new])]),
    ];
    let batches = read_all(&reader, &bodies);
    assert_eq!(
        batches[0][0].shape.get(0).unwrap().metric,
        batches[1][0].shape.get(0).unwrap().metric
    );
    check(
        &batches[1],
        expect![[r#"
        g s gauge | {never="seen"} {} | (now, 0) | stale
        g s gauge | {} {} | (now, 0) | stale
        h s histogram 2 | {a="1"} {} | (now, 0) | stale"#]],
    );
}

#[test]
fn points_that_make_no_sense() {
    let no_value = NumberDataPoint { value: None, ..point(&[], T, Number::AsInt(0)) };
    let late = point(&[], u64::MAX, Number::AsInt(0));
    let future = point(&[], T + 25 * 3600 * SECOND, Number::AsInt(0));
    let start =
        NumberDataPoint { start_time_unix_nano: 1 << 63, ..point(&[], T, Number::AsInt(0)) };
    let quantiles = |quantiles: &[f64]| SummaryDataPoint {
        quantile_values: quantiles
            .iter()
            .map(|q| ValueAtQuantile { quantile: *q, value: 1.0 })
            .collect(),
        ..SummaryDataPoint::default()
    };
    let bad = |counts: &[u64], bounds: &[f64]| histogram(&[], counts, bounds);
    let nameless = point(&[("", "x")], T, Number::AsInt(0));
    let (batches, stats) = read(
        &reader(),
        &body(vec![
            gauge(
                "g",
                vec![
                    no_value,
                    late,
                    future,
                    start,
                    nameless,
                    point(&[("fine", "1")], 0, Number::AsInt(1)),
                ],
            ),
            gauge("", vec![point(&[], T, Number::AsInt(0))]),
            counter(
                "c",
                0,
                vec![point(&[], T, Number::AsInt(0)), point(&[("a", "b")], T, Number::AsInt(0))],
            ),
            Metric { data: None, ..metric("nothing", Data::Gauge(Gauge::default())) },
            cumulative(vec![
                bad(&[1], &[1.0]),
                bad(&[], &[1.0]),
                bad(&[1, 2, 3], &[2.0, 1.0]),
                bad(&[1, 2, 3], &[1.0, 1.0]),
                bad(&[1, 2], &[f64::NAN]),
                bad(&[1, 2], &[f64::INFINITY]),
                bad(&[1, 1], &[0.0]),
                bad(&[3], &[]),
                HistogramDataPoint {
                    attributes: vec![attribute("no", "buckets")],
                    count: 7,
                    ..bad(&[], &[])
                },
            ]),
            metric(
                "q",
                Data::Summary(Summary {
                    data_points: vec![quantiles(&[0.9, 0.5]), quantiles(&[0.5, 0.9])],
                }),
            ),
        ]),
    );
    expect!["bad_name 2, no_value 2, no_temporality 2, bad_buckets 7, bad_time 3"]
        .assert_eq(&rejected(&stats));
    assert_eq!(stats.points, 21);
    check(
        &batches,
        expect![[r#"
        g s gauge | {fine="1"} {} | (now, 0) | 1.0 []
        h s histogram 2 | {no="buckets"} {} | (now, 0) | [1.5, 7.0] [NaN, NaN] [] [] []
        h s histogram 2 | {} {} | (now, 0) | [1.5, 2.0] [NaN, NaN] [0.0] [1.0] []
        h s histogram 2 | {} {} | (now, 0) | [1.5, 3.0] [NaN, NaN] [] [] []
        q s summary | {} {} | (now, 0) | [0.0, 0.0, 1.0, 1.0] [0.5, 0.9] []"#]],
    );
}

#[test]
fn a_count_below_its_buckets_is_their_sum() {
    let torn = HistogramDataPoint { count: 2, ..histogram(&[], &[1, 4], &[0.5]) };
    let (batches, _) = read(&reader(), &body(vec![cumulative(vec![torn])]));
    check(
        &batches,
        expect!["h s histogram 2 | {} {} | (now, 0) | [1.5, 5.0] [NaN, NaN] [0.5] [1.0] []"],
    );
}

#[test]
fn limits_cost_what_is_beyond_them() {
    let settings = ReadSettings {
        resources_max: 2,
        series_max: 3,
        attributes_max: 2,
        name_bytes_max: 8,
        value_bytes_max: 8,
        buckets_max: 2,
        ..ReadSettings::default()
    };
    let reader = MetricsReader::new(settings, Arc::new(Interner::new()));
    let number = |pairs: &[(&str, &str)]| point(pairs, T, Number::AsInt(1));
    let points = vec![
        number(&[("a", "1"), ("b", "2"), ("c", "3")]),
        number(&[("much_too_long", "1")]),
        number(&[("a", "much too long")]),
        number(&[("a", "1")]),
        number(&[("a", "2")]),
        number(&[("a", "3")]),
        number(&[("a", "4")]),
        number(&[("a", "5")]),
    ];
    let body = request(vec![
        of_resource(
            "p",
            vec![
                gauge("g", points),
                gauge("much_too_long", vec![number(&[]), number(&[("a", "1")])]),
                cumulative(vec![histogram(&[], &[1, 1, 1, 1], &[1.0, 2.0, 3.0])]),
            ],
        ),
        of_resource("much too long", vec![gauge("g", vec![number(&[]), number(&[("a", "1")])])]),
        of_resource("q", vec![gauge("g", vec![number(&[])])]),
        of_resource("r", vec![gauge("g", vec![number(&[])])]),
    ])
    .encode_to_vec();
    let of_p = "too_many_series 2, too_many_attributes 1, bad_name 3";
    let expected = [
        format!("too_many_resources 1, {of_p}, bad_attribute_value 3, bad_buckets 1"),
        // Nobody looks at the attributes of one resource more.
        format!("too_many_resources 3, {of_p}, bad_attribute_value 1, bad_buckets 1"),
    ];
    for expected in expected {
        let (batches, stats) = read(&reader, &body);
        assert_eq!(rejected(&stats), expected);
        let taken = batches.iter().map(|batch| batch.points() as u64).sum::<u64>();
        assert_eq!(stats.points - stats.rejected, taken);
    }
}

#[test]
fn memory_is_accounted_for_and_given_back() {
    let settings = ReadSettings { bytes_max: 20_000, ..ReadSettings::default() };
    let reader = MetricsReader::new(settings, Arc::new(Interner::new()));
    let names: Vec<String> = (0..1000).map(|idx| format!("value-{idx}")).collect();
    let points = names.iter().map(|name| point(&[("a", name)], T, Number::AsInt(1)));
    let (batches, stats) = read(&reader, &body(vec![gauge("g", points.collect())]));
    let taken = batches[0].points() as u64;
    assert!((50..900).contains(&taken), "{taken}");
    assert_eq!(rejected(&stats), format!("no_memory {}", 1000 - taken));
    assert!(reader.stats().bytes <= 20_000);
    let mut out = Vec::new();
    reader.sweep(Duration::from_secs(1), NOW + 2_000_000_000, &mut out);
    assert_eq!(reader.stats(), super::super::ReaderStats::default());
    assert!(out.len() == 1 && out[0].ended);
}

#[test]
fn text_that_is_none_costs_its_points() {
    let body = body(vec![
        gauge(
            "g",
            vec![point(&[("a", "??")], T, Number::AsInt(1)), point(&[], T, Number::AsInt(1))],
        ),
        gauge("name??", vec![point(&[], T, Number::AsInt(1))]),
    ]);
    let damaged: Vec<u8> =
        body.iter().map(|byte| if *byte == b'?' { 0xff } else { *byte }).collect();
    let (batches, stats) = read(&reader(), &damaged);
    assert_eq!(rejected(&stats), "not_utf8 2");
    check(&batches, expect!["g s gauge | {} {} | (now, 0) | 1.0 []"]);
}

#[test]
fn a_resource_with_many_series_is_several_sources() {
    let settings = ReadSettings { source_series_max: 4, ..ReadSettings::default() };
    let reader = MetricsReader::new(settings, Arc::new(Interner::new()));
    let names: Vec<String> = (0..10).map(|idx| idx.to_string()).collect();
    let of = |names: &[String]| {
        let points = names.iter().map(|name| point(&[("a", name)], T, Number::AsInt(1)));
        body(vec![gauge("g", points.collect())])
    };
    let rows =
        |batches: &[Batch]| batches.iter().map(|batch| batch.shape.len()).collect::<Vec<_>>();
    assert_eq!(rows(&read(&reader, &of(&names)).0), [4, 4, 2]);
    let (batches, _) = read(&reader, &of(&names[5..7]));
    assert_eq!((rows(&batches), batches[0].points()), (vec![4], 2));
}

#[test]
fn the_silent_end() {
    let second = 1_000_000_000;
    let reader = reader();
    let of = |pod: &str, names: &[&str], s: i64| {
        let time = (NOW + s * second).cast_unsigned();
        let metrics = names
            .iter()
            .map(|name| gauge(name, vec![point(&[("a", name)], time, Number::AsInt(s))]));
        request(vec![of_resource(pod, metrics.collect())]).encode_to_vec()
    };
    let read_at = |pod: &str, names: &[&str], s: i64| {
        let mut out = Vec::new();
        reader.read(&of(pod, names, s), NOW + s * second, &mut out).unwrap();
        out.remove(0)
    };
    let sweep = |s: i64| {
        let mut out = Vec::new();
        reader.sweep(Duration::from_secs(60), NOW + s * second, &mut out);
        out
    };
    let quiet = read_at("quiet", &["x"], 0);
    let first = read_at("p", &["x", "y", "z"], 0);
    read_at("p", &["z", "x"], 50);
    let ended = sweep(61);
    assert_eq!((ended.len(), ended[0].source, ended[0].ended), (1, quiet.source, true));
    assert_eq!(ended[0].mark(0), Mark::Stale);
    read_at("p", &["z", "x"], 110);
    assert!(sweep(125).is_empty(), "the resource goes on");
    let next = read_at("p", &["z", "x"], 126);
    assert_eq!((next.source, next.points()), (first.source, 2));
    let vanished: Vec<_> = first.shape.vanished(&next.shape);
    assert_eq!(vanished, [1], "y has ended");
    assert_eq!(reader.stats().series, 2);
    // And it may come back.
    let back = read_at("p", &["x", "y", "z"], 127);
    assert_eq!((back.source, back.points(), reader.stats().series), (first.source, 3, 3));
}

#[test]
fn what_a_prometheus_receiver_said_of_the_type() {
    let typed = |hint: &str| Metric {
        metadata: vec![attribute("prometheus.type", hint)],
        ..gauge(hint, vec![point(&[], T, Number::AsInt(1))])
    };
    let (batches, _) =
        read(&reader(), &body(vec![typed("info"), typed("unknown"), typed("gauge")]));
    let hints: Vec<_> = batches[0].shape.iter().map(|series| series.metric.hint).collect();
    assert_eq!(hints, [Hint::Info, Hint::Unknown, Hint::None]);
}

#[test]
fn fields_in_any_order_and_unknown_ones() {
    // A gauge point: attribute, value, attribute, an unknown field, time; then the name, after the data.
    let pair = |key: &str| attribute(key, "1").encode_to_vec();
    let field = |tag: u8, bytes: &[u8]| [&[tag, bytes.len() as u8], bytes].concat();
    let number = |tag: u8, bits: u64| [&[tag][..], &bits.to_le_bytes()].concat();
    let point = [
        field(0x3a, &pair("a")),
        number(0x21, 2.0_f64.to_bits()),
        field(0x3a, &pair("b")),
        field(0x7a, b"unknown"),
        number(0x19, T),
        vec![0x75, 1, 2, 3, 4],
    ]
    .concat();
    let metric = [field(0x2a, &field(0x0a, &point)), field(0x0a, b"late")].concat();
    // Two halves of a scope and of a resource are one.
    let scope =
        [field(0x12, &metric), field(0x0a, &field(0x0a, b"lib")), field(0x0a, &field(0x12, b"2"))]
            .concat();
    let resource = [
        field(0x12, &scope),
        field(0x0a, &field(0x0a, &pair("x"))),
        field(0x0a, &field(0x0a, &pair("y"))),
    ]
    .concat();
    let reader = reader();
    for _ in 0..2 {
        let (batches, _) = read(&reader, &field(0x0a, &resource));
        check(
            &batches,
            expect![[
                r#"{x="1",y="1"}  | lib 2 {}  | late  gauge | {a="1",b="1"} {} | (now, 0) | 2.0 []"#
            ]],
        );
    }
    assert_eq!(reader.stats().series, 1);
}

#[test]
fn times_cost_no_more_memory_than_allowed() {
    // One series of a wide source has very many times: each would be a column of the whole source.
    let bounds: Vec<f64> = (0..4096).map(f64::from).collect();
    let counts = vec![0; bounds.len() + 1];
    let wide = (0..7).map(|idx| histogram(&[("a", &idx.to_string())], &counts, &bounds)).collect();
    let many = (0..2000).map(|s| point(&[], T + s, Number::AsInt(1))).collect();
    let (batches, stats) = read(&reader(), &body(vec![cumulative(wide), gauge("g", many)]));
    let slots = batches.iter().map(|batch| batch.values.len()).sum::<usize>();
    assert!(slots <= (4 << 20) + 2 * 28_700, "{slots}");
    assert_eq!(rejected(&stats), format!("too_many_times {}", stats.rejected));
    assert_eq!(batches.iter().map(Batch::points).sum::<usize>() as u64, 2007 - stats.rejected);
    assert!((1000..2000).contains(&stats.rejected), "{}", stats.rejected);
}
