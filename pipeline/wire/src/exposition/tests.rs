//! What pages look like, and what does not get onto them.

use std::sync::Arc;

use expect_test::{Expect, expect};
use pipeline_model::{
    Batch, Bounds, Exemplar, ExponentialBuckets, ExponentialPoint, Extras, Group, Hint, Interner,
    Kind, Label, Labels, Mark, Metric, Number, Resource, Shape, ShapeBuilder, Slot, SourceId, Str,
    Temporality, Value,
};
use prost::Message;

use super::{Dropped, Escaping, Exposition, Format, Only, Options, Style};
use crate::prometheus::{escape, number};
use crate::proto::client_model as proto;
use crate::scrape::{Layouts, PageFormat, PageReader, PageSettings};

type Pairs<'a> = &'a [(&'a str, &'a str)];

/// One source: group labels, then (metric, own labels, slots).
struct Source<'a>(Pairs<'a>, Vec<(Metric, Pairs<'a>, Vec<Slot>)>);

fn doubles(values: &[f64]) -> Vec<Slot> {
    values.iter().copied().map(Slot::double).collect()
}

fn gauge(name: &str) -> Metric {
    Metric::new(name, "", "", Kind::Gauge)
}

fn counter(name: &str) -> Metric {
    Metric::new(name, "", "", Kind::COUNTER)
}

fn hinted(name: &str, hint: Hint) -> Metric {
    Metric { hint, ..gauge(name) }
}

fn histogram(name: &str, bounds: &[f64]) -> Metric {
    Metric::new(name, "s", "Time.", Kind::histogram(Bounds::new(bounds)))
}

fn shape(interner: &Interner, source: &Source<'_>) -> Arc<Shape> {
    let mut builder = ShapeBuilder::new(interner);
    let labels = Labels::from_pairs(source.0.iter().copied());
    let group = builder.group(Group { labels, ..Group::default() });
    for (metric, own, _) in &source.1 {
        let own = Labels::from_pairs(own.iter().copied());
        builder.push(group, &Arc::new(metric.clone()), &own).expect("no duplicates");
    }
    builder.finish()
}

fn batch(interner: &Interner, source: &Source<'_>) -> Batch {
    let values = source.1.iter().flat_map(|(_, _, slots)| slots.clone()).collect();
    Batch::new(SourceId::next(), shape(interner, source), 1_700_000_000_123_000_000, values)
}

fn page_of(
    exposition: &mut Exposition,
    format: Format,
    escaping: Escaping,
    options: Options,
) -> String {
    let mut out = Vec::new();
    exposition.snapshot().render(Style { format, escaping }, options, None, &mut out);
    String::from_utf8(out).expect("text")
}

fn text(exposition: &mut Exposition) -> String {
    page_of(exposition, Format::Text, Escaping::Underscores, Options::default())
}

fn exposition(sources: &[Source<'_>]) -> (Exposition, Dropped) {
    let (interner, mut exposition, mut dropped) =
        (Interner::new(), Exposition::new(1000), Dropped::default());
    for source in sources {
        let one = exposition.update(batch(&interner, source), 0);
        dropped.duplicate += one.duplicate;
        dropped.type_conflict += one.type_conflict;
        dropped.delta += one.delta;
        dropped.limit += one.limit;
    }
    (exposition, dropped)
}

fn check(sources: &[Source<'_>], format: Format, escaping: Escaping, expected: &Expect) {
    expected.assert_eq(&page_of(&mut exposition(sources).0, format, escaping, Options::default()));
}

/// Every kind and hint, two sources with one table.
fn all_kinds() -> Vec<Source<'static>> {
    let source = |replica: Pairs<'static>, add: f64| {
        let int = Metric { number: Number::Int, ..counter("tokens_total") };
        let described =
            Metric::new("latency_seconds", "s", "Quote \" slash \\ line\nend.", Kind::Gauge);
        let summary =
            Metric::new("took", "", "", Kind::Summary { quantiles: Bounds::new(&[0.5, 1.0]) });
        let min_max = Kind::Histogram {
            temporality: Temporality::Cumulative,
            bounds: Bounds::new(&[0.5, 1.0, 1e6]),
            min_max: true,
        };
        Source(
            replica,
            vec![
                (int, &[("model", "a")][..], vec![Slot::int(9_007_199_254_740_993)]),
                (described, &[], doubles(&[0.25 + add])),
                (counter("hits"), &[], doubles(&[3.0 + add])),
                (
                    histogram("wait_seconds", &[0.005, 1.0]),
                    &[("model", "a")],
                    doubles(&[1.5, 4.0, 1.0, 3.0]),
                ),
                (
                    Metric::new("size", "", "", min_max),
                    &[],
                    doubles(&[f64::NAN, 4.0, 0.1, 2.0, 1.0, 3.0, 4.0]),
                ),
                (summary, &[], doubles(&[7.0, 2.0, 3.0, f64::NAN])),
                (hinted("build_info", Hint::Info), &[("version", "1")], doubles(&[1.0])),
                (hinted("state", Hint::StateSet), &[("state", "on")], doubles(&[1.0])),
                (hinted("odd", Hint::Unknown), &[], doubles(&[f64::INFINITY])),
                (
                    Metric { hint: Hint::GaugeHistogram, ..histogram("queue", &[1.0]) },
                    &[],
                    doubles(&[1.0, 2.0, 1.0]),
                ),
            ],
        )
    };
    vec![source(&[("replica", "r1")], 0.0), source(&[("replica", "r\"2\\\n")], 1.0)]
}

#[test]
fn text_of_all_kinds() {
    check(
        &all_kinds(),
        Format::Text,
        Escaping::Underscores,
        &expect![[r##"
        # TYPE build_info gauge
        build_info{replica="r1",version="1"} 1
        build_info{replica="r\"2\\\n",version="1"} 1
        # TYPE hits counter
        hits{replica="r1"} 3
        hits{replica="r\"2\\\n"} 4
        # HELP latency_seconds Quote " slash \\ line\nend.
        # TYPE latency_seconds gauge
        latency_seconds{replica="r1"} 0.25
        latency_seconds{replica="r\"2\\\n"} 1.25
        # TYPE odd untyped
        odd{replica="r1"} +Inf
        odd{replica="r\"2\\\n"} +Inf
        # HELP queue Time.
        # TYPE queue histogram
        queue_bucket{replica="r1",le="1.0"} 1
        queue_bucket{replica="r1",le="+Inf"} 2
        queue_sum{replica="r1"} 1
        queue_count{replica="r1"} 2
        queue_bucket{replica="r\"2\\\n",le="1.0"} 1
        queue_bucket{replica="r\"2\\\n",le="+Inf"} 2
        queue_sum{replica="r\"2\\\n"} 1
        queue_count{replica="r\"2\\\n"} 2
        # TYPE size histogram
        size_bucket{replica="r1",le="0.5"} 1
        size_bucket{replica="r1",le="1.0"} 3
        size_bucket{replica="r1",le="1e+06"} 4
        size_bucket{replica="r1",le="+Inf"} 4
        size_count{replica="r1"} 4
        size_bucket{replica="r\"2\\\n",le="0.5"} 1
        size_bucket{replica="r\"2\\\n",le="1.0"} 3
        size_bucket{replica="r\"2\\\n",le="1e+06"} 4
        size_bucket{replica="r\"2\\\n",le="+Inf"} 4
        size_count{replica="r\"2\\\n"} 4
        # TYPE state gauge
        state{replica="r1",state="on"} 1
        state{replica="r\"2\\\n",state="on"} 1
        # TYPE tokens_total counter
        tokens_total{replica="r1",model="a"} 9007199254740993
        tokens_total{replica="r\"2\\\n",model="a"} 9007199254740993
        # TYPE took summary
        took{replica="r1",quantile="0.5"} 3
        took{replica="r1",quantile="1.0"} NaN
        took_sum{replica="r1"} 7
        took_count{replica="r1"} 2
        took{replica="r\"2\\\n",quantile="0.5"} 3
        took{replica="r\"2\\\n",quantile="1.0"} NaN
        took_sum{replica="r\"2\\\n"} 7
        took_count{replica="r\"2\\\n"} 2
        # HELP wait_seconds Time.
        # TYPE wait_seconds histogram
        wait_seconds_bucket{replica="r1",model="a",le="0.005"} 1
        wait_seconds_bucket{replica="r1",model="a",le="1.0"} 3
        wait_seconds_bucket{replica="r1",model="a",le="+Inf"} 4
        wait_seconds_sum{replica="r1",model="a"} 1.5
        wait_seconds_count{replica="r1",model="a"} 4
        wait_seconds_bucket{replica="r\"2\\\n",model="a",le="0.005"} 1
        wait_seconds_bucket{replica="r\"2\\\n",model="a",le="1.0"} 3
        wait_seconds_bucket{replica="r\"2\\\n",model="a",le="+Inf"} 4
        wait_seconds_sum{replica="r\"2\\\n",model="a"} 1.5
        wait_seconds_count{replica="r\"2\\\n",model="a"} 4
    "##]],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is one page")]
fn open_metrics_of_all_kinds() {
    check(
        &all_kinds(),
        Format::OpenMetrics,
        Escaping::Underscores,
        &expect![[r##"
        # TYPE build info
        build_info{replica="r1",version="1"} 1
        build_info{replica="r\"2\\\n",version="1"} 1
        # TYPE hits counter
        hits_total{replica="r1"} 3
        hits_total{replica="r\"2\\\n"} 4
        # HELP latency_seconds Quote \" slash \\ line\nend.
        # TYPE latency_seconds gauge
        # UNIT latency_seconds seconds
        latency_seconds{replica="r1"} 0.25
        latency_seconds{replica="r\"2\\\n"} 1.25
        # TYPE odd unknown
        odd{replica="r1"} +Inf
        odd{replica="r\"2\\\n"} +Inf
        # HELP queue Time.
        # TYPE queue gaugehistogram
        queue_bucket{replica="r1",le="1.0"} 1
        queue_bucket{replica="r1",le="+Inf"} 2
        queue_gsum{replica="r1"} 1
        queue_gcount{replica="r1"} 2
        queue_bucket{replica="r\"2\\\n",le="1.0"} 1
        queue_bucket{replica="r\"2\\\n",le="+Inf"} 2
        queue_gsum{replica="r\"2\\\n"} 1
        queue_gcount{replica="r\"2\\\n"} 2
        # TYPE size histogram
        size_bucket{replica="r1",le="0.5"} 1
        size_bucket{replica="r1",le="1.0"} 3
        size_bucket{replica="r1",le="1e+06"} 4
        size_bucket{replica="r1",le="+Inf"} 4
        size_count{replica="r1"} 4
        size_bucket{replica="r\"2\\\n",le="0.5"} 1
        size_bucket{replica="r\"2\\\n",le="1.0"} 3
        size_bucket{replica="r\"2\\\n",le="1e+06"} 4
        size_bucket{replica="r\"2\\\n",le="+Inf"} 4
        size_count{replica="r\"2\\\n"} 4
        # TYPE state stateset
        state{replica="r1",state="on"} 1
        state{replica="r\"2\\\n",state="on"} 1
        # TYPE tokens counter
        tokens_total{replica="r1",model="a"} 9007199254740993
        tokens_total{replica="r\"2\\\n",model="a"} 9007199254740993
        # TYPE took summary
        took{replica="r1",quantile="0.5"} 3
        took{replica="r1",quantile="1.0"} NaN
        took_sum{replica="r1"} 7
        took_count{replica="r1"} 2
        took{replica="r\"2\\\n",quantile="0.5"} 3
        took{replica="r\"2\\\n",quantile="1.0"} NaN
        took_sum{replica="r\"2\\\n"} 7
        took_count{replica="r\"2\\\n"} 2
        # HELP wait_seconds Time.
        # TYPE wait_seconds histogram
        # UNIT wait_seconds seconds
        wait_seconds_bucket{replica="r1",model="a",le="0.005"} 1
        wait_seconds_bucket{replica="r1",model="a",le="1.0"} 3
        wait_seconds_bucket{replica="r1",model="a",le="+Inf"} 4
        wait_seconds_sum{replica="r1",model="a"} 1.5
        wait_seconds_count{replica="r1",model="a"} 4
        wait_seconds_bucket{replica="r\"2\\\n",model="a",le="0.005"} 1
        wait_seconds_bucket{replica="r\"2\\\n",model="a",le="1.0"} 3
        wait_seconds_bucket{replica="r\"2\\\n",model="a",le="+Inf"} 4
        wait_seconds_sum{replica="r\"2\\\n",model="a"} 1.5
        wait_seconds_count{replica="r\"2\\\n",model="a"} 4
        # EOF
    "##]],
    );
}

#[test]
fn protobuf_of_all_kinds() {
    let (mut exposition, _) = exposition(&all_kinds()[..1]);
    let mut page = Vec::new();
    let style = Style { format: Format::Protobuf, escaping: Escaping::Underscores };
    exposition.snapshot().render(style, Options::default(), None, &mut page);
    let mut page = &page[..];
    let mut families = Vec::new();
    while !page.is_empty() {
        let family = proto::MetricFamily::decode_length_delimited(&mut page).expect("a family");
        families.push(format!(
            "{} {:?} {:?} {:?}",
            family.name(),
            family.r#type(),
            family.unit,
            family.metric
        ));
    }
    let families = families
        .join("\n")
        .replace("LabelPair ", "")
        .replace("exemplar: None", "")
        .replace("None", "-");
    expect![[r#"
        build_info Gauge - [Metric { label: [{ name: Some("replica"), value: Some("r1") }, { name: Some("version"), value: Some("1") }], gauge: Some(Gauge { value: Some(1.0) }), counter: -, summary: -, untyped: -, histogram: -, timestamp_ms: - }]
        hits Counter - [Metric { label: [{ name: Some("replica"), value: Some("r1") }], gauge: -, counter: Some(Counter { value: Some(3.0), , created_timestamp: - }), summary: -, untyped: -, histogram: -, timestamp_ms: - }]
        latency_seconds Gauge Some("seconds") [Metric { label: [{ name: Some("replica"), value: Some("r1") }], gauge: Some(Gauge { value: Some(0.25) }), counter: -, summary: -, untyped: -, histogram: -, timestamp_ms: - }]
        odd Untyped - [Metric { label: [{ name: Some("replica"), value: Some("r1") }], gauge: -, counter: -, summary: -, untyped: Some(Untyped { value: Some(inf) }), histogram: -, timestamp_ms: - }]
        queue GaugeHistogram - [Metric { label: [{ name: Some("replica"), value: Some("r1") }], gauge: -, counter: -, summary: -, untyped: -, histogram: Some(Histogram { sample_count: Some(2), sample_count_float: -, sample_sum: Some(1.0), bucket: [Bucket { cumulative_count: Some(1), cumulative_count_float: -, upper_bound: Some(1.0),  }, Bucket { cumulative_count: Some(2), cumulative_count_float: -, upper_bound: Some(inf),  }], created_timestamp: -, schema: -, zero_threshold: -, zero_count: -, zero_count_float: -, negative_span: [], negative_delta: [], negative_count: [], positive_span: [], positive_delta: [], positive_count: [], exemplars: [] }), timestamp_ms: - }]
        size Histogram - [Metric { label: [{ name: Some("replica"), value: Some("r1") }], gauge: -, counter: -, summary: -, untyped: -, histogram: Some(Histogram { sample_count: Some(4), sample_count_float: -, sample_sum: -, bucket: [Bucket { cumulative_count: Some(1), cumulative_count_float: -, upper_bound: Some(0.5),  }, Bucket { cumulative_count: Some(3), cumulative_count_float: -, upper_bound: Some(1.0),  }, Bucket { cumulative_count: Some(4), cumulative_count_float: -, upper_bound: Some(1000000.0),  }, Bucket { cumulative_count: Some(4), cumulative_count_float: -, upper_bound: Some(inf),  }], created_timestamp: -, schema: -, zero_threshold: -, zero_count: -, zero_count_float: -, negative_span: [], negative_delta: [], negative_count: [], positive_span: [], positive_delta: [], positive_count: [], exemplars: [] }), timestamp_ms: - }]
        state Gauge - [Metric { label: [{ name: Some("replica"), value: Some("r1") }, { name: Some("state"), value: Some("on") }], gauge: Some(Gauge { value: Some(1.0) }), counter: -, summary: -, untyped: -, histogram: -, timestamp_ms: - }]
        tokens_total Counter - [Metric { label: [{ name: Some("model"), value: Some("a") }, { name: Some("replica"), value: Some("r1") }], gauge: -, counter: Some(Counter { value: Some(9007199254740992.0), , created_timestamp: - }), summary: -, untyped: -, histogram: -, timestamp_ms: - }]
        took Summary - [Metric { label: [{ name: Some("replica"), value: Some("r1") }], gauge: -, counter: -, summary: Some(Summary { sample_count: Some(2), sample_sum: Some(7.0), quantile: [Quantile { quantile: Some(0.5), value: Some(3.0) }, Quantile { quantile: Some(1.0), value: Some(NaN) }], created_timestamp: - }), untyped: -, histogram: -, timestamp_ms: - }]
        wait_seconds Histogram Some("seconds") [Metric { label: [{ name: Some("model"), value: Some("a") }, { name: Some("replica"), value: Some("r1") }], gauge: -, counter: -, summary: -, untyped: -, histogram: Some(Histogram { sample_count: Some(4), sample_count_float: -, sample_sum: Some(1.5), bucket: [Bucket { cumulative_count: Some(1), cumulative_count_float: -, upper_bound: Some(0.005),  }, Bucket { cumulative_count: Some(3), cumulative_count_float: -, upper_bound: Some(1.0),  }, Bucket { cumulative_count: Some(4), cumulative_count_float: -, upper_bound: Some(inf),  }], created_timestamp: -, schema: -, zero_threshold: -, zero_count: -, zero_count_float: -, negative_span: [], negative_delta: [], negative_count: [], positive_span: [], positive_delta: [], positive_count: [], exemplars: [] }), timestamp_ms: - }]"#]].assert_eq(&families);
}

fn utf8_names() -> Vec<Source<'static>> {
    let bytes = Metric::new("gen_ai.tokens", "By", "Dots.", Kind::COUNTER);
    vec![Source(
        &[("service.name", "a\"b")],
        vec![
            (bytes, &[][..], doubles(&[1.0])),
            (
                histogram("http.time_s", &[1.0]),
                &[("9lives", "x"), ("url:part", "y")],
                doubles(&[1.0, 2.0, 1.0]),
            ),
            (gauge("größe"), &[("plain", "z")], doubles(&[1.0])),
        ],
    )]
}

#[test]
fn names_quoted() {
    check(
        &utf8_names(),
        Format::OpenMetrics,
        Escaping::AllowUtf8,
        &expect![[r##"
            # HELP "gen_ai.tokens" Dots.
            # TYPE "gen_ai.tokens" counter
            {"gen_ai.tokens_total","service.name"="a\"b"} 1
            # TYPE "größe" gauge
            {"größe","service.name"="a\"b",plain="z"} 1
            # HELP "http.time_s" Time.
            # TYPE "http.time_s" histogram
            # UNIT "http.time_s" s
            {"http.time_s_bucket","service.name"="a\"b","9lives"="x","url:part"="y",le="1.0"} 1
            {"http.time_s_bucket","service.name"="a\"b","9lives"="x","url:part"="y",le="+Inf"} 2
            {"http.time_s_sum","service.name"="a\"b","9lives"="x","url:part"="y"} 1
            {"http.time_s_count","service.name"="a\"b","9lives"="x","url:part"="y"} 2
            # EOF
        "##]],
    );
}

#[test]
fn names_with_underscores() {
    check(
        &utf8_names(),
        Format::Text,
        Escaping::Underscores,
        &expect![[r##"
            # HELP gen_ai_tokens_bytes_total Dots.
            # TYPE gen_ai_tokens_bytes_total counter
            gen_ai_tokens_bytes_total{service_name="a\"b"} 1
            # TYPE gr__e gauge
            gr__e{service_name="a\"b",plain="z"} 1
            # HELP http_time_s_seconds Time.
            # TYPE http_time_s_seconds histogram
            http_time_s_seconds_bucket{service_name="a\"b",key_9lives="x",url_part="y",le="1.0"} 1
            http_time_s_seconds_bucket{service_name="a\"b",key_9lives="x",url_part="y",le="+Inf"} 2
            http_time_s_seconds_sum{service_name="a\"b",key_9lives="x",url_part="y"} 1
            http_time_s_seconds_count{service_name="a\"b",key_9lives="x",url_part="y"} 2
        "##]],
    );
}

#[test]
fn names_with_dots() {
    check(
        &utf8_names(),
        Format::Text,
        Escaping::Dots,
        &expect![[r##"
        # HELP gen__ai_dot_tokens Dots.
        # TYPE gen__ai_dot_tokens counter
        gen__ai_dot_tokens{service_dot_name="a\"b"} 1
        # TYPE gr__e gauge
        gr__e{service_dot_name="a\"b",plain="z"} 1
        # HELP http_dot_time__s Time.
        # TYPE http_dot_time__s histogram
        http_dot_time__s_bucket{service_dot_name="a\"b",_lives="x",url_part="y",le="1.0"} 1
        http_dot_time__s_bucket{service_dot_name="a\"b",_lives="x",url_part="y",le="+Inf"} 2
        http_dot_time__s_sum{service_dot_name="a\"b",_lives="x",url_part="y"} 1
        http_dot_time__s_count{service_dot_name="a\"b",_lives="x",url_part="y"} 2
    "##]],
    );
}

#[test]
fn names_with_values() {
    check(
        &utf8_names(),
        Format::Text,
        Escaping::Values,
        &expect![[r##"
        # HELP U__gen__ai_2e_tokens Dots.
        # TYPE U__gen__ai_2e_tokens counter
        U__gen__ai_2e_tokens{U__service_2e_name="a\"b"} 1
        # TYPE U__gr_f6__df_e gauge
        U__gr_f6__df_e{U__service_2e_name="a\"b",plain="z"} 1
        # HELP U__http_2e_time__s Time.
        # TYPE U__http_2e_time__s histogram
        U__http_2e_time__s_bucket{U__service_2e_name="a\"b",U___39_lives="x",U__url_3a_part="y",le="1.0"} 1
        U__http_2e_time__s_bucket{U__service_2e_name="a\"b",U___39_lives="x",U__url_3a_part="y",le="+Inf"} 2
        U__http_2e_time__s_sum{U__service_2e_name="a\"b",U___39_lives="x",U__url_3a_part="y"} 1
        U__http_2e_time__s_count{U__service_2e_name="a\"b",U___39_lives="x",U__url_3a_part="y"} 2
    "##]],
    );
}

#[test]
fn escaping_keeps_to_the_specification() {
    use Escaping::{Dots, Underscores, Values};
    for (escaping, name, expected) in [
        (Underscores, "metric.name/with/slashes", "metric_name_with_slashes"),
        (Underscores, "1st", "_st"),
        (Underscores, "", "_"),
        (Dots, "metric.name.with.dots", "metric_dot_name_dot_with_dot_dots"),
        (Dots, "plain_name", "plain__name"),
        (Dots, "a/b", "a_b"),
        (Values, "metric.name_with", "U__metric_2e_name__with"),
        (Values, "plain_name", "plain_name"),
        (Values, "花", "U___82b1_"),
    ] {
        assert_eq!(escape::metric_name(name, escaping), expected, "{escaping:?} {name}");
    }
    assert_eq!(escape::metric_name("a:b", Underscores), "a:b");
    assert_eq!(escape::label_name("a:b", Underscores), "a_b", "labels have no colon");
    for (name, expected) in [("1x", "key_1x"), ("2x", "key_2x"), ("1.x", "key_1_x"), ("_1x", "_1x")]
    {
        assert_eq!(escape::label_name(name, Underscores), expected);
    }
    assert_eq!(escape::label_name("1x", Values), "U___31_x");
}

#[test]
fn labels_that_become_one_name_are_joined() {
    let labels: Pairs<'_> = &[("a.b", "1"), ("a_b", "2")];
    check(
        &[Source(&[], vec![(gauge("one"), labels, doubles(&[1.0]))])],
        Format::Text,
        Escaping::Underscores,
        &expect![[r#"
            # TYPE one gauge
            one{a_b="1;2"} 1
        "#]],
    );
    check(
        &[Source(&[("a.b", "1")], vec![(gauge("one"), &[("a_b", "2")], doubles(&[1.0]))])],
        Format::Text,
        Escaping::Underscores,
        &expect![[r#"
            # TYPE one gauge
            one{a_b="1;2"} 1
        "#]],
    );
}

#[test]
fn families_that_become_one_name_do_not_mix() {
    let source = Source(
        &[],
        vec![(gauge("a.b"), &[][..], doubles(&[1.0])), (counter("a_b"), &[], doubles(&[2.0]))],
    );
    check(
        &[source],
        Format::Text,
        Escaping::Underscores,
        &expect![[r#"
        # TYPE a_b gauge
        a_b 1
    "#]],
    );
}

#[test]
fn a_counter_beside_a_gauge_of_its_open_metrics_name_is_kept() {
    let source = Source(
        &[],
        vec![(gauge("a"), &[][..], doubles(&[1.0])), (counter("a_total"), &[], doubles(&[2.0]))],
    );
    check(
        &[source],
        Format::OpenMetrics,
        Escaping::Underscores,
        &expect![[r#"
        # TYPE a gauge
        a 1
        # TYPE a_total unknown
        a_total 2
        # EOF
    "#]],
    );
}

#[test]
fn a_counter_whose_open_metrics_name_is_a_sample_of_a_histogram_is_kept() {
    let source = Source(
        &[],
        vec![
            (counter("k_bucket_total"), &[][..], doubles(&[1.0])),
            (histogram("k", &[]), &[], doubles(&[1.0, 2.0])),
            (gauge("k_created"), &[], doubles(&[3.0])),
            (counter("c_total"), &[], doubles(&[4.0])),
            (gauge("c_created"), &[], doubles(&[5.0])),
        ],
    );
    check(
        std::slice::from_ref(&source),
        Format::OpenMetrics,
        Escaping::Underscores,
        &expect![[r##"
            # TYPE c counter
            c_total 4
            # HELP k Time.
            # TYPE k histogram
            k_bucket{le="+Inf"} 2
            k_sum 1
            k_count 2
            # TYPE k_bucket_total unknown
            k_bucket_total 1
            # EOF
        "##]],
    );
    check(
        &[source],
        Format::Text,
        Escaping::Underscores,
        &expect![[r##"
        # TYPE c_created gauge
        c_created 5
        # TYPE c_total counter
        c_total 4
        # HELP k Time.
        # TYPE k histogram
        k_bucket{le="+Inf"} 2
        k_sum 1
        k_count 2
        # TYPE k_bucket_total counter
        k_bucket_total 1
        # TYPE k_created gauge
        k_created 3
    "##]],
    );
}

#[test]
fn what_is_named_like_a_sample_of_a_histogram_stands_aside_while_it_is_there() {
    let interner = Interner::new();
    let plain = |value| {
        let rows = vec![
            (gauge("k_bucket"), &[("le", "x")][..], doubles(&[value])),
            (gauge("k_gsum"), &[], doubles(&[value])),
        ];
        batch(&interner, &Source(&[("s", "plain")], rows))
    };
    let rows = vec![(histogram("k", &[]), &[][..], doubles(&[1.0, 1.0]))];
    let whole = batch(&interner, &Source(&[("s", "whole")], rows));
    let (with, without) = (
        "# TYPE k_bucket gauge\nk_bucket{s=\"plain\",le=\"x\"} 7\n\
         # TYPE k_gsum gauge\nk_gsum{s=\"plain\"} 7\n",
        "# HELP k Time.\n# TYPE k histogram\nk_bucket{s=\"whole\",le=\"+Inf\"} 1\nk_sum{s=\"whole\"} 1\n\
         k_count{s=\"whole\"} 1\n# TYPE k_gsum gauge\nk_gsum{s=\"plain\"} 7\n",
    );
    let conflict = Dropped { type_conflict: 1, ..Dropped::default() };
    for order in [[plain(7.0), whole.clone()], [whole.clone(), plain(7.0)]] {
        let mut exposition = Exposition::new(10);
        assert_eq!(exposition.update(order[0].clone(), 0), Dropped::default());
        assert_eq!(exposition.update(order[1].clone(), 0), conflict);
        let example = exposition.example(order[1].source).expect("there is one");
        assert!(example.starts_with("k_bucket"), "{example}");
        assert_eq!(exposition.update(order[0].clone(), 0), Dropped::default());
        assert_eq!(text(&mut exposition), without);
        exposition.update(Batch::end(whole.source, Arc::clone(&whole.shape), 1), 1);
        assert_eq!(text(&mut exposition), with);
        assert_eq!(exposition.series(), 2);
    }
}

#[test]
fn a_page_with_a_broken_histogram_comes_out_valid() {
    let text = "# TYPE k histogram\nk_bucket{le=\"x\"} 1\nk_bucket{le=\"+Inf\"} 1\nk_count 1\n";
    let interner = Interner::new();
    let mut reader = PageReader::new(PageSettings::default());
    let page = reader
        .read(PageFormat::Text, text.as_bytes(), &interner, &Layouts::default())
        .expect("a page");
    let mut exposition = Exposition::new(10);
    let batch = Batch::new(SourceId::next(), page.shape, 0, page.values);
    assert_eq!(exposition.update(batch.clone(), 0).type_conflict, 1);
    assert_eq!(exposition.example(batch.source).as_deref(), Some("k_bucket{le=\"x\"}"));
    for format in [Format::Text, Format::OpenMetrics] {
        let out = page_of(&mut exposition, format, Escaping::Underscores, Options::default());
        assert_eq!(out.matches("# TYPE").count(), 1, "{out}");
        assert!(out.contains("# TYPE k histogram\nk_bucket{le=\"+Inf\"} 1\n"), "{out}");
    }
}

#[test]
fn examples_name_what_is_not_shown() {
    let interner = Interner::new();
    let delta =
        Metric::new("d", "", "", Kind::Sum { monotonic: true, temporality: Temporality::Delta });
    let rows =
        vec![(gauge("a"), &[][..], doubles(&[1.0])), (delta, &[("x", "\"")], doubles(&[1.0]))];
    let first = batch(&interner, &Source(&[("instance", "h:1")], rows));
    let rows = vec![(gauge("a"), &[("instance", "h:1")][..], doubles(&[1.0]))];
    let second = batch(&interner, &Source(&[], rows));
    let mut exposition = Exposition::new(10);
    exposition.update(first.clone(), 0);
    exposition.update(second.clone(), 0);
    expect![[r#"d{instance="h:1",x="\""}"#]]
        .assert_eq(&exposition.example(first.source).expect("the delta"));
    expect![[r#"a{instance="h:1"}"#]]
        .assert_eq(&exposition.example(second.source).expect("the duplicate"));
    let third = batch(&interner, &Source(&[], vec![(gauge("b"), &[][..], doubles(&[1.0]))]));
    exposition.update(third.clone(), 0);
    assert_eq!(exposition.example(third.source), None);
}

#[test]
fn own_labels_win_over_the_groups_and_le_is_ours() {
    let source = Source(
        &[("replica", "group"), ("zone", "z")],
        vec![
            (gauge("a"), &[("replica", "own")][..], doubles(&[1.0])),
            (gauge("b"), &[], doubles(&[2.0])),
            (histogram("h", &[1.0]), &[("le", "mine")], doubles(&[1.0, 1.0, 1.0])),
        ],
    );
    check(
        &[source],
        Format::Text,
        Escaping::Underscores,
        &expect![[r##"
        # TYPE a gauge
        a{replica="own",zone="z"} 1
        # TYPE b gauge
        b{replica="group",zone="z"} 2
        # HELP h Time.
        # TYPE h histogram
        h_bucket{replica="group",zone="z",le="1.0"} 1
        h_bucket{replica="group",zone="z",le="+Inf"} 1
        h_sum{replica="group",zone="z"} 1
        h_count{replica="group",zone="z"} 1
    "##]],
    );
}

#[test]
fn values_are_text_or_json() {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let label = |name: &str, value| Label { name: Str::new(name), value };
    let labels = Labels::new(vec![
        label("n", Value::Int(-3)),
        label("t", Value::Bool(true)),
        label("e", Value::Empty),
    ]);
    let group = builder.group(Group::default());
    builder.push(group, &Arc::new(gauge("a")), &labels).expect("new");
    let mut exposition = Exposition::new(10);
    exposition.update(Batch::new(SourceId::next(), builder.finish(), 0, doubles(&[1.0])), 0);
    expect![[r#"
        # TYPE a gauge
        a{e="",n="-3",t="true"} 1
    "#]]
    .assert_eq(&text(&mut exposition));
}

#[test]
fn numbers_read_back() {
    let print = |value: f64| {
        let mut out = Vec::new();
        number::push_double(&mut out, value);
        String::from_utf8(out).expect("ascii")
    };
    for value in [
        0.0,
        -0.0,
        1.0,
        0.1,
        1e15,
        -1e15,
        1e21,
        5e-324,
        f64::MAX,
        f64::MIN,
        123_456.789,
        9.007_199_254_740_993e15,
    ] {
        assert_eq!(
            print(value).parse::<f64>().expect("a number").to_bits(),
            value.to_bits(),
            "{}",
            print(value)
        );
    }
    assert_eq!(print(17.0), "17");
    assert_eq!(print(9_007_199_254_740_992.0), "9007199254740992");
    assert_eq!(print(-9.3e18), "-9300000000000000000");
    assert_eq!(print(999_999_999_999_999_868_928.0), "999999999999999868928");
    assert_eq!(print(1e21), "1e+21");
    assert_eq!(print(-0.0), "-0.0");
    assert_eq!(print(f64::NAN), "NaN");
    assert_eq!(print(f64::NEG_INFINITY), "-Inf");
}

#[test]
fn bounds_are_canonical() {
    let print = |value: f64| {
        let mut out = Vec::new();
        number::push_bound(&mut out, value);
        String::from_utf8(out).expect("ascii")
    };
    let bounds = [
        0.0,
        1e-10,
        1e-5,
        1e-4,
        0.25,
        1.0,
        10.0,
        100_000.0,
        123_456.0,
        1e6,
        2.5e6,
        1e10,
        1e100,
        f64::INFINITY,
    ];
    expect![
        "0.0 1e-10 1e-05 0.0001 0.25 1.0 10.0 100000.0 123456.0 1e+06 2.5e+06 1e+10 1e+100 +Inf"
    ]
    .assert_eq(&bounds.map(print).join(" "));
}

#[test]
fn the_first_type_wins_and_everybody_else_is_counted() {
    let (mut exposition, dropped) = exposition(&[
        Source(&[("s", "1")], vec![(gauge("a"), &[][..], doubles(&[1.0]))]),
        Source(
            &[("s", "2")],
            vec![(counter("a"), &[], doubles(&[2.0])), (gauge("b"), &[], doubles(&[3.0]))],
        ),
        Source(&[("s", "3")], vec![(hinted("a", Hint::Unknown), &[], doubles(&[4.0]))]),
    ]);
    assert_eq!(dropped, Dropped { type_conflict: 1, ..Dropped::default() });
    expect![[r#"
        # TYPE a gauge
        a{s="1"} 1
        a{s="3"} 4
        # TYPE b gauge
        b{s="2"} 3
    "#]]
    .assert_eq(&text(&mut exposition));
}

#[test]
fn the_first_of_equal_series_wins_until_it_goes() {
    let interner = Interner::new();
    // The same series, once with the label in the group, once of its own.
    let first = batch(
        &interner,
        &Source(&[("x", "1"), ("y", "")], vec![(gauge("a"), &[][..], doubles(&[1.0]))]),
    );
    let second =
        batch(&interner, &Source(&[], vec![(gauge("a"), &[("x", "1")][..], doubles(&[2.0]))]));
    let mut exposition = Exposition::new(10);
    assert_eq!(exposition.update(first.clone(), 0), Dropped::default());
    assert_eq!(
        exposition.update(second.clone(), 0),
        Dropped { duplicate: 1, ..Dropped::default() }
    );
    assert_eq!(exposition.update(second, 1), Dropped::default(), "counted when first seen");
    assert_eq!(text(&mut exposition), "# TYPE a gauge\na{x=\"1\",y=\"\"} 1\n");
    exposition.update(Batch::end(first.source, first.shape, 1), 1);
    assert_eq!(text(&mut exposition), "# TYPE a gauge\na{x=\"1\"} 2\n");
    assert_eq!((exposition.series(), exposition.sources()), (1, 1));
}

#[test]
fn a_type_is_free_again_when_its_last_source_goes() {
    let interner = Interner::new();
    let first = batch(&interner, &Source(&[], vec![(gauge("a"), &[][..], doubles(&[1.0]))]));
    let second =
        batch(&interner, &Source(&[("s", "2")], vec![(counter("a"), &[][..], doubles(&[2.0]))]));
    let mut exposition = Exposition::new(10);
    exposition.update(first, 0);
    exposition.update(second, 5);
    assert_eq!(exposition.expire(3), 1);
    assert_eq!(text(&mut exposition), "# TYPE a counter\na{s=\"2\"} 2\n");
}

#[test]
fn deltas_and_what_is_too_much_are_counted() {
    let delta =
        Metric::new("d", "", "", Kind::Sum { monotonic: true, temporality: Temporality::Delta });
    let rows = vec![
        (delta, &[][..], doubles(&[1.0])),
        (gauge("a"), &[], doubles(&[1.0])),
        (gauge("b"), &[], doubles(&[1.0])),
        (gauge("c"), &[], doubles(&[1.0])),
    ];
    let mut exposition = Exposition::new(2);
    let dropped = exposition.update(batch(&Interner::new(), &Source(&[], rows)), 0);
    assert_eq!(dropped, Dropped { delta: 1, limit: 1, ..Dropped::default() });
    assert_eq!(text(&mut exposition), "# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\n");
}

#[test]
fn a_new_shape_replaces_the_old_one() {
    let interner = Interner::new();
    let old = batch(
        &interner,
        &Source(
            &[],
            vec![(gauge("a"), &[][..], doubles(&[1.0])), (gauge("b"), &[], doubles(&[2.0]))],
        ),
    );
    let new = batch(
        &interner,
        &Source(
            &[],
            vec![(gauge("b"), &[][..], doubles(&[3.0])), (counter("c"), &[], doubles(&[4.0]))],
        ),
    );
    let mut exposition = Exposition::new(10);
    exposition.update(old.clone(), 0);
    exposition.update(Batch { source: old.source, ..new }, 1);
    assert_eq!(text(&mut exposition), "# TYPE b gauge\nb 3\n# TYPE c counter\nc 4\n");
    assert_eq!(exposition.series(), 2);
}

#[test]
fn stale_rows_vanish_and_absent_rows_stand_until_they_expire() {
    let interner = Interner::new();
    let rows = || {
        vec![
            (gauge("a"), &[][..], doubles(&[1.0])),
            (gauge("b"), &[], doubles(&[2.0])),
            (gauge("c"), &[], doubles(&[3.0])),
        ]
    };
    let first = batch(&interner, &Source(&[], rows()));
    let mut next = first.clone();
    next.values = Arc::new(doubles(&[10.0, 20.0, 30.0]));
    next.marks = Some(Arc::new(vec![Mark::Present, Mark::Absent, Mark::Stale]));
    let mut exposition = Exposition::new(10);
    exposition.update(first, 0);
    exposition.update(next.clone(), 10);
    exposition.update(next, 20);
    assert_eq!(text(&mut exposition), "# TYPE a gauge\na 10\n# TYPE b gauge\nb 2\n");
    let version = exposition.version();
    assert_eq!(exposition.expire(5), 0);
    assert_ne!(exposition.version(), version);
    assert_eq!(text(&mut exposition), "# TYPE a gauge\na 10\n");
}

#[test]
fn only_some_models() {
    let (mut exposition, _) = exposition(&[
        Source(&[("model_id", "m1")], vec![(gauge("a"), &[][..], doubles(&[1.0]))]),
        Source(
            &[("model_id", "m2")],
            vec![(gauge("a"), &[], doubles(&[2.0])), (gauge("b"), &[], doubles(&[2.0]))],
        ),
        Source(
            &[],
            vec![
                (gauge("c"), &[("model_id", "m1")], doubles(&[3.0])),
                (gauge("d"), &[], doubles(&[4.0])),
            ],
        ),
    ]);
    let values = ["m1".to_owned()];
    let only = Some(Only { label: "model_id", values: &values });
    let mut out = Vec::new();
    let style = Style { format: Format::Text, escaping: Escaping::Underscores };
    exposition.snapshot().render(style, Options::default(), only, &mut out);
    expect![[r#"
        # TYPE a gauge
        a{model_id="m1"} 1
        # TYPE c gauge
        c{model_id="m1"} 3
    "#]]
    .assert_eq(&String::from_utf8(out).expect("text"));
}

#[test]
fn without_the_label_the_resource_says_the_model() {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let int = |name: &str, value| Label { name: Str::new(name), value: Value::Int(value) };
    for (engine, group, model) in
        [("e1", None, "m1"), ("e2", None, "m2"), ("e3", Some("m2"), "m1"), ("e4", Some(""), "m1")]
    {
        let attributes = Labels::from_pairs([("model_id", model)]);
        let labels = [("engine", engine)].into_iter().chain(group.map(|id| ("model_id", id)));
        let group = builder.group(Group {
            resource: Arc::new(Resource { attributes, ..Resource::default() }),
            labels: Labels::from_pairs(labels),
            ..Group::default()
        });
        builder.push(group, &Arc::new(gauge("a")), &Labels::empty()).expect("new");
        let other = Labels::from_pairs([("model_id", "m1")]);
        builder.push(group, &Arc::new(gauge("b")), &other).expect("new");
        let number = Labels::new(vec![int("model_id", 1)]);
        builder.push(group, &Arc::new(gauge("c")), &number).expect("new");
    }
    let neither = builder.group(Group::default());
    builder.push(neither, &Arc::new(gauge("a")), &Labels::empty()).expect("new");
    let mut exposition = Exposition::new(100);
    exposition.update(Batch::new(SourceId::next(), builder.finish(), 0, doubles(&[1.0; 13])), 0);
    let values = ["m1".to_owned()];
    let only = Some(Only { label: "model_id", values: &values });
    let mut out = Vec::new();
    let style = Style { format: Format::Text, escaping: Escaping::Underscores };
    exposition.snapshot().render(style, Options::default(), only, &mut out);
    expect![[r##"
        # TYPE a gauge
        a{engine="e1"} 1
        a{engine="e4",model_id=""} 1
        # TYPE b gauge
        b{engine="e1",model_id="m1"} 1
        b{engine="e2",model_id="m1"} 1
        b{engine="e3",model_id="m1"} 1
        b{engine="e4",model_id="m1"} 1
    "##]]
    .assert_eq(&String::from_utf8(out).expect("text"));
}

#[test]
fn exemplars_created_and_timestamps() {
    let rows = vec![
        (counter("c_total"), &[][..], doubles(&[1.0])),
        (gauge("g"), &[], doubles(&[1.0])),
        (histogram("h", &[1.0, 2.0]), &[("a", "b")], doubles(&[1.0, 3.0, 1.0, 2.0])),
    ];
    let mut batch = batch(&Interner::new(), &Source(&[], rows));
    let exemplar = |row, value, time, id: &str| Exemplar {
        row,
        value,
        time,
        labels: Labels::from_pairs([("trace_id", id)]),
    };
    let long = "x".repeat(200);
    batch.starts = Some(Arc::new(vec![1_600_000_000_500_000_000, 1, 0]));
    batch.extras = Some(Arc::new(Extras {
        exemplars: vec![
            exemplar(0, 1.0, 0, "t0"),
            exemplar(1, 1.0, 0, "gauges have none"),
            exemplar(2, 0.5, 1_000_000_000, "early"),
            exemplar(2, 0.75, 2_500_000_000, "late"),
            exemplar(2, 7.0, 2, &long),
        ],
        ..Extras::default()
    }));
    let mut exposition = Exposition::new(10);
    exposition.update(batch, 0);
    let options = Options { created: true, timestamps: true };
    expect![[r##"
        # TYPE c counter
        c_total 1 1700000000.123 # {trace_id="t0"} 1
        c_created 1600000000.500
        # TYPE g gauge
        g 1 1700000000.123
        # HELP h Time.
        # TYPE h histogram
        h_bucket{a="b",le="1.0"} 1 1700000000.123 # {trace_id="late"} 0.75 2.500
        h_bucket{a="b",le="2.0"} 2 1700000000.123
        h_bucket{a="b",le="+Inf"} 3 1700000000.123
        h_sum{a="b"} 1 1700000000.123
        h_count{a="b"} 3 1700000000.123
        # EOF
    "##]]
    .assert_eq(&page_of(&mut exposition, Format::OpenMetrics, Escaping::Underscores, options));
    expect![[r##"
        # TYPE c_total counter
        c_total 1 1700000000123
        # TYPE g gauge
        g 1 1700000000123
        # HELP h Time.
        # TYPE h histogram
        h_bucket{a="b",le="1.0"} 1 1700000000123
        h_bucket{a="b",le="2.0"} 2 1700000000123
        h_bucket{a="b",le="+Inf"} 3 1700000000123
        h_sum{a="b"} 1 1700000000123
        h_count{a="b"} 3 1700000000123
    "##]]
    .assert_eq(&page_of(&mut exposition, Format::Text, Escaping::Underscores, options));
}

fn native(point: &ExponentialPoint, count: f64) -> String {
    let mut out = proto::Histogram { sample_count: Some(1), ..proto::Histogram::default() };
    super::native::fill(point, count, &mut out);
    let spans = |spans: &[proto::BucketSpan]| {
        spans
            .iter()
            .map(|span| format!("{}+{}", span.offset(), span.length()))
            .collect::<Vec<_>>()
            .join(" ")
    };
    format!(
        "schema {:?} zero {:?}/{:?} threshold {:?} positive [{}] {:?} {:?} negative [{}] {:?}",
        out.schema,
        out.zero_count,
        out.zero_count_float,
        out.zero_threshold,
        spans(&out.positive_span),
        out.positive_delta,
        out.positive_count,
        spans(&out.negative_span),
        out.negative_delta
    )
}

#[test]
fn exponential_points_become_native_histograms() {
    let buckets = |offset, counts: &[f64]| ExponentialBuckets { offset, counts: counts.to_vec() };
    let point = ExponentialPoint {
        scale: 3,
        zero_count: 2.0,
        positive: buckets(-2, &[1.0, 3.0, 0.0, 0.0, 2.0]),
        negative: buckets(4, &[1.0]),
        ..ExponentialPoint::default()
    };
    expect!["schema Some(3) zero Some(2)/None threshold Some(1e-128) positive [-1+2 2+1] [1, 2, -1] [] negative [5+1] [1]"].assert_eq(&native(&point, 9.0));
    // Two scales finer than Prometheus has: four buckets become one, on both sides of zero.
    let fine = ExponentialPoint {
        scale: 10,
        positive: buckets(-5, &[1.0; 10]),
        ..ExponentialPoint::default()
    };
    expect!["schema Some(8) zero Some(0)/None threshold Some(1e-128) positive [-1+4] [1, 3, 0, -3] [] negative [] []"].assert_eq(&native(&fine, 10.0));
    let float =
        ExponentialPoint { scale: 0, positive: buckets(0, &[0.5]), ..ExponentialPoint::default() };
    expect!["schema Some(0) zero None/Some(0.0) threshold Some(1e-128) positive [1+1] [] [0.5] negative [] []"].assert_eq(&native(&float, 0.5));
    expect!["schema Some(0) zero Some(0)/None threshold Some(1e-128) positive [0+0] [] [] negative [] []"].assert_eq(&native(&ExponentialPoint::default(), 0.0));
    let coarse = ExponentialPoint { scale: -5, ..point };
    expect!["schema None zero None/None threshold None positive [] [] [] negative [] []"]
        .assert_eq(&native(&coarse, 9.0));
}

#[test]
fn text_shows_of_exponential_histograms_what_it_can() {
    let kind = Kind::ExponentialHistogram { temporality: Temporality::Cumulative };
    let rows = vec![(Metric::new("e", "", "", kind), &[("a", "b")][..], doubles(&[1.5, 4.0]))];
    check(
        &[Source(&[], rows)],
        Format::Text,
        Escaping::Underscores,
        &expect![[r#"
        # TYPE e histogram
        e_bucket{a="b",le="+Inf"} 4
        e_sum{a="b"} 1.5
        e_count{a="b"} 4
    "#]],
    );
}

#[test]
fn nothing_is_a_page_too() {
    let mut exposition = Exposition::new(10);
    assert_eq!(text(&mut exposition), "");
    assert_eq!(
        page_of(&mut exposition, Format::OpenMetrics, Escaping::Underscores, Options::default()),
        "# EOF\n"
    );
}
