//! Requests as stores read them.

use std::sync::Arc;

use expect_test::{Expect, expect};
use pipeline_model::{
    Batch, Bounds, Exemplar, ExponentialBuckets, ExponentialPoint, Extras, Group, Hint, Interner,
    Kind, Label, Labels, Mark, Metric, Number, Resource, STALE_NAN_BITS, Scope, Shape,
    ShapeBuilder, Slot, SourceId, Temporality, Value,
};

use super::decode::{Request, Sample, request, unsnappy};
use super::{BucketRule, Encoder, Form, Glob, Options, TargetInfos, Version, Written};
use crate::prometheus::Naming;

const SECOND: i64 = 1_000_000_000;
const TIME: i64 = 1_700_000_000 * SECOND;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn encoder(options: Options) -> Encoder {
    Encoder::new(options, Arc::new(TargetInfos::default()))
}

fn encode(encoder: &mut Encoder, version: Version, batches: &[Batch]) -> (Request, Written) {
    let mut out = Vec::new();
    let parts = batches.iter().map(|batch| (batch, 0..batch.shape.len() as u32));
    let written = encoder.encode(parts, Form { version, snappy: true }, &mut out);
    let plain = unsnappy(&out, 1 << 24).unwrap();
    (request(version, &plain).unwrap(), written)
}

/// `name{labels} value @second` of each sample; markers as `stale`.
fn lines(request: &Request) -> Vec<String> {
    let value = |sample: &Sample| match sample.bits {
        STALE_NAN_BITS => "stale".to_owned(),
        _ => sample.value().to_string(),
    };
    let at = |ms: i64| (ms - TIME / 1_000_000) as f64 / 1000.0;
    let of = |series: &super::decode::Series| {
        let text = series.text();
        let samples = series.samples.iter().map(|s| format!("{text} {} @{}", value(s), at(s.ms)));
        let histograms = series.histograms.iter().map(|h| {
            let sum = match h.sum_bits {
                STALE_NAN_BITS => "stale".to_owned(),
                bits => f64::from_bits(bits).to_string(),
            };
            format!(
                "{text} schema {} count {} sum {sum} zero {} {:?} {:?} @{}",
                h.schema,
                h.count,
                h.zero_count,
                h.negative,
                h.positive,
                at(h.ms)
            )
        });
        let exemplars = series.exemplars.iter().map(|e| format!("  {} {:?}", e.value, e.labels));
        samples.chain(histograms).chain(exemplars).collect::<Vec<_>>()
    };
    request.series.iter().flat_map(of).collect()
}

fn check(request: &Request, expected: &Expect) {
    expected.assert_eq(&(lines(request).join("\n") + "\n"));
}

fn scraped() -> Group {
    Group { labels: labels(&[("instance", "i"), ("job", "j")]), ..Group::default() }
}

fn otel() -> Group {
    Group {
        resource: Arc::new(Resource {
            attributes: labels(&[
                ("host.name", "h"),
                ("service.instance.id", "i"),
                ("service.name", "s"),
                ("service.namespace", "n"),
            ]),
            ..Resource::default()
        }),
        scope: Arc::new(Scope { name: "lib".into(), version: "1".into(), ..Scope::default() }),
        labels: Labels::empty(),
    }
}

type Row = (Metric, Labels, Vec<f64>);

fn shape_of(group: &Group, rows: &[Row]) -> Arc<Shape> {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let group = builder.group(group.clone());
    for (metric, labels, _) in rows {
        builder.push(group, &Arc::new(metric.clone()), labels).unwrap();
    }
    builder.finish()
}

fn batch(source: SourceId, group: &Group, rows: &[Row]) -> Batch {
    let values = rows.iter().flat_map(|(metric, _, values)| {
        values.iter().map(|value| match metric.number {
            Number::Int => Slot::int(*value as i64),
            Number::Double => Slot::double(*value),
        })
    });
    Batch::new(source, shape_of(group, rows), TIME, values.collect())
}

fn all_kinds() -> Vec<Row> {
    let metric = |name: &str, kind| Metric::new(name, "", "Words.", kind);
    let bounds = Bounds::new(&[0.5, 1.0]);
    let mut int = metric("tokens_total", Kind::COUNTER);
    int.number = Number::Int;
    let mut info = metric("build_info", Kind::Gauge);
    info.hint = Hint::Info;
    let own = labels(&[("model", "m"), ("Zone", "z")]);
    vec![
        (metric("depth", Kind::Gauge), own.clone(), vec![0.0]),
        (int, own.clone(), vec![7.0]),
        (info, labels(&[("version", "1"), ("empty", "")]), vec![1.0]),
        (metric("wait_seconds", Kind::histogram(bounds)), own, vec![4.5, 3.0, 1.0, 2.0]),
        (
            metric("took", Kind::Summary { quantiles: Bounds::new(&[0.5, 1.0]) }),
            labels(&[("quantile", "mine")]),
            vec![f64::NAN, 2.0, 3.0, f64::NAN],
        ),
    ]
}

#[test]
fn all_kinds_of_a_page_keep_their_names() {
    for version in [Version::V1, Version::V2] {
        let batch = batch(SourceId::next(), &scraped(), &all_kinds());
        let (request, written) = encode(&mut encoder(Options::default()), version, &[batch]);
        check(
            &request,
            &expect![[r#"
                depth{Zone="z",instance="i",job="j",model="m"} 0 @0
                tokens_total{Zone="z",instance="i",job="j",model="m"} 7 @0
                build_info{instance="i",job="j",version="1"} 1 @0
                wait_seconds_bucket{Zone="z",instance="i",job="j",le="0.5",model="m"} 1 @0
                wait_seconds_bucket{Zone="z",instance="i",job="j",le="1.0",model="m"} 2 @0
                wait_seconds_bucket{Zone="z",instance="i",job="j",le="+Inf",model="m"} 3 @0
                wait_seconds_sum{Zone="z",instance="i",job="j",model="m"} 4.5 @0
                wait_seconds_count{Zone="z",instance="i",job="j",model="m"} 3 @0
                took{instance="i",job="j",quantile="0.5"} 3 @0
                took{instance="i",job="j",quantile="1.0"} NaN @0
                took_count{instance="i",job="j"} 2 @0
            "#]],
        );
        assert_eq!(written, Written { samples: 11, ..Written::default() });
    }
}

#[test]
fn version_2_says_types_words_units_and_starts() {
    let rows = [
        (Metric::new("a_total", "", "Words.", Kind::COUNTER), Labels::empty(), vec![1.0]),
        (Metric::new("b_seconds", "s", "", Kind::Gauge), Labels::empty(), vec![1.0]),
    ];
    let mut batch = batch(SourceId::next(), &scraped(), &rows);
    batch.starts = Some(Arc::new(vec![TIME - SECOND, TIME - SECOND]));
    let (request, _) = encode(&mut encoder(Options::default()), Version::V2, &[batch]);
    let said: Vec<_> = request
        .series
        .iter()
        .map(|series| {
            let metadata = series.metadata.clone().unwrap();
            (metadata.ty, metadata.help, metadata.unit, series.samples[0].start_ms)
        })
        .collect();
    let start = TIME / 1_000_000 - 1000;
    assert_eq!(
        said,
        [
            (1, "Words.".to_owned(), String::new(), start),
            (2, String::new(), "seconds".to_owned(), 0)
        ]
    );
    assert_eq!(request.symbols[0], "");
}

#[test]
fn opentelemetrys_names_resources_and_scopes() {
    let rows = [
        (
            Metric::new("http.server.duration", "ms", "", Kind::Gauge),
            Labels::new(vec![
                Label { name: "a.b".into(), value: "x".into() },
                Label { name: "a_b".into(), value: Value::Int(2) },
                Label { name: "job".into(), value: "not this".into() },
            ]),
            vec![1.0],
        ),
        (Metric::new("sent", "By", "", Kind::COUNTER), Labels::empty(), vec![2.0]),
    ];
    let batch = batch(SourceId::next(), &otel(), &rows);
    let of = |options: Options, version| {
        encode(&mut encoder(options), version, std::slice::from_ref(&batch)).0
    };
    let lib = "otel_scope_name=\"lib\",otel_scope_version=\"1\"";
    check(
        &of(Options::default(), Version::V1),
        &expect![[r#"
            target_info{host_name="h",instance="i",job="n/s"} 1 @0
            http_server_duration_milliseconds{a_b="x;2",instance="i",job="n/s",otel_scope_name="lib",otel_scope_version="1"} 1 @0
            sent_bytes_total{instance="i",job="n/s",otel_scope_name="lib",otel_scope_version="1"} 2 @0
        "#]],
    );
    let options = Options {
        naming: Naming::NoTranslation,
        scope_labels: false,
        target_info: false,
        promote: vec!["host.name".to_owned()],
        external_labels: vec![("cluster".into(), "c".into()), ("job".into(), "e".into())],
        ..Options::default()
    };
    let request = of(options.clone(), Version::V2);
    check(
        &request,
        &expect![[r#"
            http.server.duration{a.b="x",a_b="2",cluster="c",host.name="h",instance="i",job="n/s"} 1 @0
            sent{cluster="c",host.name="h",instance="i",job="n/s"} 2 @0
        "#]],
    );
    assert!(!lines(&request).join("").contains(lib));
    // Version 1 has no dots, whatever was wanted.
    check(
        &of(options, Version::V1),
        &expect![[r#"
            http_server_duration{a_b="x;2",cluster="c",host_name="h",instance="i",job="n/s"} 1 @0
            sent{cluster="c",host_name="h",instance="i",job="n/s"} 2 @0
        "#]],
    );
}

#[test]
fn names_change_with_the_version_in_one_encoder() {
    let rows = [(Metric::new("a.b", "", "", Kind::Gauge), Labels::empty(), vec![1.0])];
    let options = Options { naming: Naming::NoTranslation, ..Options::default() };
    let (mut encoder, mut batch) = (encoder(options), batch(SourceId::next(), &scraped(), &rows));
    for (version, name) in [(Version::V2, "a.b"), (Version::V1, "a_b"), (Version::V2, "a.b")] {
        let (request, _) = encode(&mut encoder, version, &[batch.clone()]);
        encoder.commit();
        batch.time += SECOND;
        assert_eq!(request.series[0].label("__name__"), name);
    }
}

#[test]
fn one_source_speaks_for_a_resource() {
    let infos = Arc::new(TargetInfos::default());
    let encoder = || Encoder::new(Options::default(), Arc::clone(&infos));
    let (mut one, mut other) = (encoder(), encoder());
    let rows = [(Metric::new("a", "", "", Kind::Gauge), Labels::empty(), vec![1.0])];
    let mut a = batch(SourceId::next(), &otel(), &rows);
    let mut b = batch(SourceId::next(), &otel(), &rows);
    let infos_of = |encoder: &mut Encoder, batch: &Batch| {
        let (request, _) = encode(encoder, Version::V2, std::slice::from_ref(batch));
        encoder.commit();
        lines(&request)
            .into_iter()
            .filter(|line| line.starts_with("target_info"))
            .collect::<Vec<_>>()
    };
    let said = |what: &str, at: u32| {
        vec![format!("target_info{{host_name=\"h\",instance=\"i\",job=\"n/s\"}} {what} @{at}")]
    };
    assert_eq!(infos_of(&mut one, &a), said("1", 0));
    assert_eq!(infos_of(&mut other, &b), Vec::<String>::new());
    a.time += 30 * SECOND;
    assert_eq!(infos_of(&mut one, &a), Vec::<String>::new(), "once a minute");
    a.time += 40 * SECOND;
    assert_eq!(infos_of(&mut one, &a), said("1", 70));
    let end = Batch::end(a.source, Arc::clone(&a.shape), a.time + 10 * SECOND);
    assert_eq!(infos_of(&mut one, &end), said("stale", 80));
    assert_eq!(one.sources(), 0);
    b.time += 90 * SECOND;
    assert_eq!(infos_of(&mut other, &b), said("1", 90), "the next one does");
}

/// What the lines of a request say of resources; not committed.
fn infos_said(encoder: &mut Encoder, batches: &[Batch]) -> Vec<String> {
    let (request, _) = encode(encoder, Version::V2, batches);
    lines(&request).into_iter().filter(|line| line.starts_with("target_info")).collect()
}

#[test]
fn a_source_that_ends_and_is_back_in_one_request_speaks_alike_in_a_second_attempt() {
    let mut encoder = encoder(Options::default());
    let rows = [(Metric::new("a", "", "", Kind::Gauge), Labels::empty(), vec![1.0])];
    let mut a = batch(SourceId::next(), &otel(), &rows);
    let mut b = batch(SourceId::next(), &otel(), &rows);
    assert_eq!(infos_said(&mut encoder, &[a.clone(), b.clone()]).len(), 1);
    encoder.commit();
    let end = Batch::end(a.source, Arc::clone(&a.shape), a.time + 10 * SECOND);
    b.time += 70 * SECOND;
    a.time += 80 * SECOND;
    let request = [end, b, a];
    let said = infos_said(&mut encoder, &request);
    assert_eq!(said.len(), 2, "it ended and is back, and is not the other's to tell: {said:?}");
    assert_eq!(infos_said(&mut encoder, &request), said);
    assert_eq!(infos_said(&mut encoder, &request), said);
}

#[test]
fn nobody_else_speaks_between_two_attempts() {
    let infos = Arc::new(TargetInfos::default());
    let encoder = || Encoder::new(Options::default(), Arc::clone(&infos));
    let (mut one, mut other) = (encoder(), encoder());
    let rows = [(Metric::new("a", "", "", Kind::Gauge), Labels::empty(), vec![1.0])];
    let a = [batch(SourceId::next(), &otel(), &rows)];
    let mut b = [batch(SourceId::next(), &otel(), &rows)];
    let said = infos_said(&mut one, &a);
    assert_eq!(said.len(), 1);
    // The first attempt may have been taken without a word; the other connection has its turn before the second.
    assert_eq!(infos_said(&mut other, &b), Vec::<String>::new());
    assert_eq!(infos_said(&mut one, &a), said);
    // A request that is given up leaves the word to others with the next that is taken.
    infos_said(&mut one, &[batch(SourceId::next(), &Group::default(), &rows)]);
    assert_eq!(infos_said(&mut other, &b), Vec::<String>::new());
    one.commit();
    b[0].time += SECOND;
    assert_eq!(infos_said(&mut other, &b).len(), 1);
}

#[test]
fn an_encoder_that_goes_amid_a_request_leaves_the_word_to_others() {
    let infos = Arc::new(TargetInfos::default());
    let encoder = || Encoder::new(Options::default(), Arc::clone(&infos));
    let (mut one, mut other) = (encoder(), encoder());
    let rows = [(Metric::new("a", "", "", Kind::Gauge), Labels::empty(), vec![1.0])];
    let a = batch(SourceId::next(), &otel(), &rows);
    let b = batch(SourceId::next(), &otel(), &rows);
    infos_said(&mut one, std::slice::from_ref(&a));
    one.commit();
    infos_said(&mut one, &[Batch::end(a.source, Arc::clone(&a.shape), a.time + SECOND)]);
    drop(one);
    assert_eq!(infos_said(&mut other, &[b]).len(), 1);
}

#[test]
fn series_end_when_they_are_stale_gone_or_their_source_is() {
    let (source, gauge) = (SourceId::next(), |name: &str| Metric::new(name, "", "", Kind::Gauge));
    let row = |name: &str, value| (gauge(name), Labels::empty(), vec![value]);
    let mut encoder = encoder(Options::default());
    let none = Group::default();
    let mut step = |batch: &Batch| {
        let (request, _) = encode(&mut encoder, Version::V1, std::slice::from_ref(batch));
        encoder.commit();
        lines(&request)
    };
    let first = batch(source, &none, &[row("a", 1.0), row("b", 2.0)]);
    assert_eq!(step(&first), ["a{} 1 @0", "b{} 2 @0"]);
    let mut second = Batch { time: TIME + SECOND, ..first };
    second.marks = Some(Arc::new(vec![Mark::Absent, Mark::Stale]));
    assert_eq!(step(&second), ["b{} stale @1"]);
    let mut third = batch(source, &none, &[row("c", 3.0), row("b", 4.0)]);
    third.time = TIME + 2 * SECOND;
    assert_eq!(step(&third), ["a{} stale @2", "c{} 3 @2", "b{} 4 @2"]);
    // The same name and labels, told as something else, goes on.
    let counter = (Metric::new("c", "", "", Kind::COUNTER), Labels::empty(), vec![5.0]);
    let mut fourth = batch(source, &none, &[counter]);
    fourth.time = TIME + 3 * SECOND;
    assert_eq!(step(&fourth), ["b{} stale @3", "c{} 5 @3"]);
    let end = Batch::end(source, Arc::clone(&fourth.shape), TIME + 4 * SECOND);
    assert_eq!(step(&end), ["c{} stale @4"]);
}

#[test]
fn what_was_sent_is_not_sent_again() {
    let rows: Vec<Row> = ["a", "b"]
        .map(|name| (Metric::new(name, "", "", Kind::Gauge), Labels::empty(), vec![1.0]))
        .to_vec();
    let (mut encoder, batch) =
        (encoder(Options::default()), batch(SourceId::next(), &Group::default(), &rows));
    let at = |ms: i64| Batch { time: TIME + ms * 1_000_000, ..batch.clone() };
    let mut send = |batch: &Batch, rows: std::ops::Range<u32>, taken: bool| {
        let mut out = Vec::new();
        let form = Form { version: Version::V1, snappy: false };
        let written = encoder.encode([(batch, rows)], form, &mut out);
        if taken {
            encoder.commit();
        }
        (written.samples, written.late)
    };
    assert_eq!(send(&at(0), 0..2, false), (2, 0));
    assert_eq!(send(&at(0), 0..2, false), (2, 0), "not taken, so it is made again");
    assert_eq!(send(&at(0), 0..1, true), (1, 0));
    assert_eq!(send(&at(0), 1..2, true), (1, 0), "the other half of a request that was split");
    assert_eq!(send(&at(0), 0..2, true), (0, 2));
    assert_eq!(send(&at(-5), 0..2, true), (0, 2));
    assert_eq!(send(&at(5), 0..2, true), (2, 0));
    // By row, once rows are absent or have times of their own.
    let mut partly = at(6);
    partly.marks = Some(Arc::new(vec![Mark::Present, Mark::Absent]));
    assert_eq!(send(&partly, 0..2, false), (1, 0));
    assert_eq!(send(&partly, 0..2, true), (1, 0));
    assert_eq!(send(&at(6), 0..2, true), (1, 1));
    let mut own = at(20);
    let times = Some(vec![TIME + 6_000_000, 0]);
    own.extras = Some(Arc::new(Extras { times, ..Extras::default() }));
    assert_eq!(send(&own, 0..2, true), (1, 1));
}

#[test]
fn exponential_histograms_become_native_ones() {
    let cumulative = Kind::ExponentialHistogram { temporality: Temporality::Cumulative };
    let rows: Vec<Row> = ["coarse", "fine", "lost"]
        .map(|name| {
            (Metric::new(name, "", "", cumulative.clone()), Labels::empty(), vec![9.5, 6.0])
        })
        .to_vec();
    let mut batch = batch(SourceId::next(), &scraped(), &rows);
    let point = |scale| ExponentialPoint {
        scale,
        zero_count: 2.0,
        positive: ExponentialBuckets { offset: -2, counts: vec![1.0, 0.0, 3.0] },
        ..ExponentialPoint::default()
    };
    let exponentials = vec![(0, point(3)), (1, point(9)), (2, point(-5))];
    batch.extras = Some(Arc::new(Extras { exponentials, ..Extras::default() }));
    for version in [Version::V1, Version::V2] {
        let mut encoder = encoder(Options::default());
        let (request, written) = encode(&mut encoder, version, &[batch.clone()]);
        check(
            &request,
            &expect![[r#"
                coarse{instance="i",job="j"} schema 3 count 6 sum 9.5 zero 2 [] [(-1, 1.0), (1, 3.0)] @0
                fine{instance="i",job="j"} schema 8 count 6 sum 9.5 zero 2 [] [(0, 1.0), (1, 3.0)] @0
            "#]],
        );
        assert_eq!((written.histograms, written.native), (2, 1));
        encoder.commit();
        let end = Batch::end(batch.source, Arc::clone(&batch.shape), TIME + SECOND);
        let (request, _) = encode(&mut encoder, version, &[end]);
        check(
            &request,
            &expect![[r#"
                coarse{instance="i",job="j"} schema 0 count 0 sum stale zero 0 [] [] @1
                fine{instance="i",job="j"} schema 0 count 0 sum stale zero 0 [] [] @1
                lost{instance="i",job="j"} schema 0 count 0 sum stale zero 0 [] [] @1
            "#]],
        );
    }
    let options = Options { native_histograms: false, ..Options::default() };
    let (request, written) = encode(&mut encoder(options), Version::V2, &[batch]);
    assert_eq!((request.series.len(), written.native), (0, 3));
}

#[test]
fn exemplars_are_with_their_bucket() {
    let rows = [
        (
            Metric::new("wait", "", "", Kind::histogram(Bounds::new(&[1.0, 2.0]))),
            Labels::empty(),
            vec![4.5, 3.0, 1.0, 2.0],
        ),
        (Metric::new("hits_total", "", "", Kind::COUNTER), Labels::empty(), vec![1.0]),
    ];
    let mut batch = batch(SourceId::next(), &Group::default(), &rows);
    let exemplar = |row, value, time| Exemplar {
        row,
        value,
        time,
        labels: labels(&[("trace_id", "t"), ("http.route", "/")]),
    };
    let exemplars = vec![
        exemplar(0, 0.5, TIME),
        exemplar(0, 0.25, TIME - SECOND),
        exemplar(0, 9.0, TIME),
        exemplar(0, 1.5, 0),
        exemplar(1, 1.0, TIME),
    ];
    batch.extras = Some(Arc::new(Extras { exemplars, ..Extras::default() }));
    for version in [Version::V1, Version::V2] {
        let options = Options {
            buckets: vec![BucketRule { metrics: Glob::new("w*"), keep: vec![2.0] }],
            ..Options::default()
        };
        let (request, written) = encode(&mut encoder(options), version, &[batch.clone()]);
        check(
            &request,
            &expect![[r#"
                wait_bucket{le="2.0"} 2 @0
                  0.5 [("http_route", "/"), ("trace_id", "t")]
                wait_bucket{le="+Inf"} 3 @0
                  9 [("http_route", "/"), ("trace_id", "t")]
                wait_sum{} 4.5 @0
                wait_count{} 3 @0
                hits_total{} 1 @0
                  1 [("http_route", "/"), ("trace_id", "t")]
            "#]],
        );
        assert_eq!(written.exemplars, 3);
    }
}

#[test]
fn what_cannot_be_said_is_counted() {
    let delta = Kind::Sum { monotonic: true, temporality: Temporality::Delta };
    let rows = [
        (Metric::new("d_total", "", "", delta), Labels::empty(), vec![1.0]),
        (Metric::new("a", "", "", Kind::Gauge), labels(&[("b.c", "x")]), vec![1.0]),
        (Metric::new("a", "", "Else.", Kind::Gauge), labels(&[("b_c", "x")]), vec![2.0]),
    ];
    let batch = batch(SourceId::next(), &scraped(), &rows);
    let (request, written) = encode(&mut encoder(Options::default()), Version::V1, &[batch]);
    assert_eq!(lines(&request), ["a{b_c=\"x\",instance=\"i\",job=\"j\"} 1 @0"]);
    assert_eq!(written, Written { samples: 1, delta: 1, duplicate: 1, ..Written::default() });
}

#[test]
fn a_value_is_no_marker() {
    let rows = [(
        Metric::new("a", "", "", Kind::Gauge),
        Labels::empty(),
        vec![f64::from_bits(STALE_NAN_BITS)],
    )];
    let batch = batch(SourceId::next(), &scraped(), &rows);
    let (request, _) = encode(&mut encoder(Options::default()), Version::V1, &[batch]);
    let bits = request.series[0].samples[0].bits;
    assert!(f64::from_bits(bits).is_nan() && bits != STALE_NAN_BITS);
}

#[test]
fn metadata_of_version_1_is_a_request_of_its_own() {
    let mut encoder = encoder(Options::default());
    let mut out = Vec::new();
    encoder.metadata(0, true, &mut out);
    assert!(out.is_empty());
    encode(&mut encoder, Version::V1, &[batch(SourceId::next(), &scraped(), &all_kinds())]);
    assert_eq!(encoder.families(), 5);
    encoder.metadata(5, true, &mut out);
    assert!(out.is_empty());
    encoder.metadata(0, true, &mut out);
    let request = request(Version::V1, &unsnappy(&out, 1 << 20).unwrap()).unwrap();
    let said: Vec<_> = request
        .metadata
        .iter()
        .map(|metadata| format!("{} {} {}", metadata.name, metadata.ty, metadata.help))
        .collect();
    assert_eq!(
        said,
        [
            "depth 2 Words.",
            "tokens_total 1 Words.",
            "build_info 6 Words.",
            "wait_seconds 3 Words.",
            "took 5 Words."
        ]
    );
    assert!(request.series.is_empty());
}

#[test]
fn series_are_counted_by_metric() {
    let mut encoder = encoder(Options::default());
    encode(&mut encoder, Version::V1, &[batch(SourceId::next(), &scraped(), &all_kinds())]);
    let mut active: Vec<_> = encoder.active().collect();
    active.sort_unstable();
    let expected =
        [("build_info", 1), ("depth", 1), ("tokens_total", 1), ("took", 4), ("wait_seconds", 5)];
    assert_eq!(active, expected);
}

#[test]
fn a_dictionary_does_not_grow_for_ever() {
    let mut encoder = encoder(Options::default());
    let mut most = 0;
    for round in 0..60i64 {
        // Every time other labels, long ones: a fleet whose pods come and go.
        let rows: Vec<Row> = (0..200)
            .map(|row| {
                let value = format!("{round}-{row}-{}", "x".repeat(400));
                let labels = labels(&[("pod", value.as_str())]);
                (Metric::new("a", "", "", Kind::Gauge), labels, vec![1.0; 1])
            })
            .collect();
        let mut batch = batch(SourceId::next(), &Group::default(), &rows);
        batch.time += round * 1800 * SECOND;
        encode(&mut encoder, Version::V1, &[batch]);
        encoder.commit();
        most = most.max(encoder.sources());
    }
    assert!(most <= 4, "silent sources go: {most}");
}

#[test]
fn long_texts_go_through_snappy() {
    let long = "y".repeat(200_000);
    let rows: Vec<Row> = (0..3)
        .map(|n| {
            let n = n.to_string();
            let labels = labels(&[("long", long.as_str()), ("n", n.as_str())]);
            (Metric::new("a", "", &long, Kind::Gauge), labels, vec![1.0])
        })
        .collect();
    let batch = batch(SourceId::next(), &Group::default(), &rows);
    for version in [Version::V1, Version::V2] {
        let (request, _) =
            encode(&mut encoder(Options::default()), version, std::slice::from_ref(&batch));
        assert!(request.series.iter().all(|series| series.label("long") == long));
        assert_eq!(request.series.len(), 3);
    }
}
