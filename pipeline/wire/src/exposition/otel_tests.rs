//! What came by OTLP, on the page.

use std::sync::Arc;

use expect_test::{Expect, expect};
use pipeline_model::{
    Batch, Bounds, Contract, ContractMetric, Group, Interner, Kind, Label, Labels, Mark, Metric,
    Resource, Scope, ShapeBuilder, Slot, SourceId, Str, Temporality, Value,
};
use prost::Message;

use super::{Dropped, Escaping, Exposition, Format, Naming, Only, Options, Otel, Style};
use crate::proto::client_model as proto;

type Pairs<'a> = &'a [(&'a str, &'a str)];

const A: Pairs<'_> = &[
    ("service.name", "chat"),
    ("service.namespace", "prod"),
    ("service.instance.id", "i-1"),
    ("host.name", "h1"),
];
const B: Pairs<'_> = &[("service.name", "search"), ("host.name", "h2"), ("k8s.pod.name", "p")];

fn library() -> Scope {
    Scope { name: "lib".into(), version: "1.2".into(), ..Scope::default() }
}

fn group(resource: Pairs<'_>, scope: Scope) -> Group {
    let attributes = Labels::from_pairs(resource.iter().copied());
    let resource = Arc::new(Resource { attributes, ..Resource::default() });
    Group { resource, scope: Arc::new(scope), ..Group::default() }
}

fn metric(name: &str, unit: &str, kind: Kind) -> Metric {
    Metric::new(name, unit, "", kind)
}

/// One series of each kind, values counted from `first`.
fn rows(first: f64) -> Vec<(Metric, Labels, Vec<f64>)> {
    let own = Labels::new(vec![
        Label { name: Str::new("gen_ai.model"), value: Value::from("m") },
        Label { name: Str::new("ok"), value: Value::Bool(true) },
    ]);
    let histogram = Kind::histogram(Bounds::new(&[0.5]));
    let up_down = Kind::Sum { monotonic: false, temporality: Temporality::Cumulative };
    vec![
        (metric("http.requests", "{request}", Kind::COUNTER), own.clone(), vec![first]),
        (metric("sent", "By", Kind::COUNTER), Labels::empty(), vec![first + 1.0]),
        (metric("queue.size", "", up_down), Labels::empty(), vec![first + 2.0]),
        (metric("http.duration", "s", histogram), own, vec![1.5, 4.0, 3.0]),
    ]
}

fn batch(group: Group, rows: &[(Metric, Labels, Vec<f64>)]) -> Batch {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let group = builder.group(group);
    let mut values = Vec::new();
    for (metric, labels, slots) in rows {
        builder.push(group, &Arc::new(metric.clone()), labels).expect("new");
        values.extend(slots.iter().copied().map(Slot::double));
    }
    Batch::new(SourceId::next(), builder.finish(), 1_700_000_000_000_000_000, values)
}

fn two_services(exposition: &mut Exposition) -> (Batch, Batch) {
    let one = batch(group(A, library()), &rows(1.0));
    let two = batch(group(B, library()), &rows(10.0));
    for batch in [&one, &two] {
        assert_eq!(exposition.update(batch.clone(), 0), Dropped::default());
    }
    (one, two)
}

fn page(exposition: &mut Exposition, format: Format, escaping: Escaping) -> Vec<u8> {
    let mut out = Vec::new();
    exposition.snapshot().render(Style { format, escaping }, Options::default(), None, &mut out);
    out
}

fn text(exposition: &mut Exposition) -> String {
    String::from_utf8(page(exposition, Format::Text, Escaping::Underscores)).expect("text")
}

fn with(otel: Otel) -> Exposition {
    Exposition::with_otel(1000, otel)
}

/// The lines of a page with some text in them.
fn lines(page: &str, with: &str) -> String {
    page.lines().filter(|line| line.contains(with)).collect::<Vec<_>>().join("\n")
}

#[test]
fn two_services_with_equal_series_stand_side_by_side() {
    let mut exposition = Exposition::new(1000);
    two_services(&mut exposition);
    let expected = expect![[r##"
        # TYPE http_duration_seconds histogram
        http_duration_seconds_bucket{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true",le="0.5"} 3
        http_duration_seconds_bucket{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true",le="+Inf"} 4
        http_duration_seconds_sum{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true"} 1.5
        http_duration_seconds_count{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true"} 4
        http_duration_seconds_bucket{job="search",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true",le="0.5"} 3
        http_duration_seconds_bucket{job="search",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true",le="+Inf"} 4
        http_duration_seconds_sum{job="search",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true"} 1.5
        http_duration_seconds_count{job="search",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true"} 4
        # TYPE http_requests_total counter
        http_requests_total{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true"} 1
        http_requests_total{job="search",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true"} 10
        # TYPE queue_size gauge
        queue_size{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2"} 3
        queue_size{job="search",otel_scope_name="lib",otel_scope_version="1.2"} 12
        # TYPE sent_bytes_total counter
        sent_bytes_total{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2"} 2
        sent_bytes_total{job="search",otel_scope_name="lib",otel_scope_version="1.2"} 11
        # HELP target_info Attributes of the resource.
        # TYPE target_info gauge
        target_info{host_name="h1",instance="i-1",job="prod/chat"} 1
        target_info{host_name="h2",job="search",k8s_pod_name="p"} 1
    "##]];
    expected.assert_eq(&text(&mut exposition));
    assert_eq!((exposition.sources(), exposition.series()), (2, 10));
    let open = page(&mut exposition, Format::OpenMetrics, Escaping::AllowUtf8);
    let open = String::from_utf8(open).expect("text");
    let expected: Expect = expect![[r##"
        # TYPE http_duration_seconds histogram
        # UNIT http_duration_seconds seconds
        http_duration_seconds_bucket{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true",le="0.5"} 3
        http_duration_seconds_bucket{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true",le="+Inf"} 4
        http_duration_seconds_sum{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true"} 1.5
        http_duration_seconds_count{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true"} 4
        http_duration_seconds_bucket{job="search",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true",le="0.5"} 3
        http_duration_seconds_bucket{job="search",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true",le="+Inf"} 4
        http_duration_seconds_sum{job="search",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true"} 1.5
        http_duration_seconds_count{job="search",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true"} 4
        # TYPE http_requests counter
        http_requests_total{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true"} 1
        http_requests_total{job="search",otel_scope_name="lib",otel_scope_version="1.2",gen_ai_model="m",ok="true"} 10
        # TYPE queue_size gauge
        queue_size{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2"} 3
        queue_size{job="search",otel_scope_name="lib",otel_scope_version="1.2"} 12
        # TYPE sent_bytes counter
        # UNIT sent_bytes bytes
        sent_bytes_total{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2"} 2
        sent_bytes_total{job="search",otel_scope_name="lib",otel_scope_version="1.2"} 11
        # HELP target Attributes of the resource.
        # TYPE target info
        target_info{host_name="h1",instance="i-1",job="prod/chat"} 1
        target_info{host_name="h2",job="search",k8s_pod_name="p"} 1
        # EOF
    "##]];
    expected.assert_eq(&open);
    let samples = |page: &str| {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let mut names: Vec<String> =
            lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect();
        names.sort();
        names
    };
    assert_eq!(samples(&open), samples(&text(&mut exposition)), "one identity in all formats");
}

#[test]
fn protobuf_says_the_same() {
    let mut exposition = Exposition::new(1000);
    two_services(&mut exposition);
    let out = page(&mut exposition, Format::Protobuf, Escaping::AllowUtf8);
    let (mut rest, mut said) = (&out[..], String::new());
    while !rest.is_empty() {
        let family = proto::MetricFamily::decode_length_delimited(&mut rest).expect("a family");
        for metric in &family.metric {
            let labels: Vec<_> = metric
                .label
                .iter()
                .map(|pair| format!("{}={}", pair.name(), pair.value()))
                .collect();
            said += &format!("{} {}\n", family.name(), labels.join(","));
        }
    }
    expect![[r#"
        http_duration_seconds gen_ai_model=m,instance=i-1,job=prod/chat,ok=true,otel_scope_name=lib,otel_scope_version=1.2
        http_duration_seconds gen_ai_model=m,job=search,ok=true,otel_scope_name=lib,otel_scope_version=1.2
        http_requests_total gen_ai_model=m,instance=i-1,job=prod/chat,ok=true,otel_scope_name=lib,otel_scope_version=1.2
        http_requests_total gen_ai_model=m,job=search,ok=true,otel_scope_name=lib,otel_scope_version=1.2
        queue_size instance=i-1,job=prod/chat,otel_scope_name=lib,otel_scope_version=1.2
        queue_size job=search,otel_scope_name=lib,otel_scope_version=1.2
        sent_bytes_total instance=i-1,job=prod/chat,otel_scope_name=lib,otel_scope_version=1.2
        sent_bytes_total job=search,otel_scope_name=lib,otel_scope_version=1.2
        target_info host_name=h1,instance=i-1,job=prod/chat
        target_info host_name=h2,job=search,k8s_pod_name=p
    "#]].assert_eq(&said);
}

#[test]
fn what_a_scraped_page_said_stays_as_it_was() {
    let rows = [
        (metric("hits", "By", Kind::COUNTER), Labels::from_pairs([("a.b", "1")]), vec![1.0]),
        (metric("up", "", Kind::Gauge), Labels::from_pairs([("job", "j")]), vec![1.0]),
    ];
    let scraped = batch(group(&[("model_id", "m")], Scope::default()), &rows);
    let mut exposition = Exposition::new(1000);
    exposition.update(scraped.clone(), 0);
    let source = exposition.snapshot();
    assert_eq!(source.views[0].batch.shape.id(), scraped.shape.id(), "the very shape");
    expect![[r#"
        # TYPE hits counter
        hits{a_b="1"} 1
        # TYPE up gauge
        up{job="j"} 1
    "#]]
    .assert_eq(&text(&mut exposition));
}

#[test]
fn the_contracts_metrics_keep_names_and_labels() {
    let contract = Contract::default();
    let of = |name: &str| ContractMetric::all().any(|metric| contract.name(metric) == name);
    let row = ContractMetric::all().next().expect("some");
    let name = contract.name(row);
    assert!(of(&name));
    let kept = Arc::new(Metric::new(&name, row.unit, "", Kind::COUNTER));
    let rows = [
        (Metric::clone(&kept), Labels::from_pairs([("model_id", "m")]), vec![1.0]),
        (metric("other", "s", Kind::COUNTER), Labels::empty(), vec![2.0]),
    ];
    let mut exposition = Exposition::new(1000);
    exposition.update(batch(group(A, library()), &rows), 0);
    let page = text(&mut exposition);
    assert_eq!(lines(&page, &format!("{name}{{")), format!("{name}{{model_id=\"m\"}} 1"));
    assert!(page.contains("other_seconds_total{"), "{page}");
    let mut only = Exposition::new(1000);
    only.update(batch(group(A, library()), &rows[..1]), 0);
    assert!(!text(&mut only).contains("target_info"), "nothing to join it with");
}

#[test]
fn each_choice_does_what_its_name_says() {
    let mut exposition = with(Otel {
        scope_labels: false,
        target_info: false,
        promote: vec!["host.name".to_owned(), "ok".to_owned(), "none".to_owned()],
        ..Otel::default()
    });
    two_services(&mut exposition);
    expect![[r##"
        # TYPE http_requests_total counter
        http_requests_total{host_name="h1",instance="i-1",job="prod/chat",gen_ai_model="m",ok="true"} 1
        http_requests_total{host_name="h2",job="search",gen_ai_model="m",ok="true"} 10"##]].assert_eq(&lines(&text(&mut exposition), "http_requests"));
    for (naming, utf8, old) in [
        (
            Naming::UnderscoreEscapingWithSuffixes,
            "http_duration_seconds_bucket{",
            "http_duration_seconds_bucket{",
        ),
        (
            Naming::UnderscoreEscapingWithoutSuffixes,
            "http_duration_bucket{",
            "http_duration_bucket{",
        ),
        (
            Naming::NoUtf8EscapingWithSuffixes,
            "{\"http.duration_seconds_bucket\",",
            "http_duration_seconds_bucket{",
        ),
        (Naming::NoTranslation, "{\"http.duration_bucket\",", "http_duration_bucket{"),
    ] {
        let mut exposition = with(Otel { naming, ..Otel::default() });
        two_services(&mut exposition);
        let raw = page(&mut exposition, Format::Text, Escaping::AllowUtf8);
        let raw = String::from_utf8(raw).expect("text");
        assert!(raw.lines().any(|line| line.starts_with(utf8)), "{naming:?}\n{raw}");
        assert_eq!(raw.contains("\"gen_ai.model\"="), naming.keeps_utf8(), "{raw}");
        let text = text(&mut exposition);
        assert!(text.lines().any(|line| line.starts_with(old)), "{naming:?}\n{text}");
    }
}

#[test]
fn labels_of_the_origin_win_but_for_promoted_ones() {
    let own = [("job", "mine"), ("otel_scope_name", "mine"), ("host.name", "mine"), ("x.y", "1")];
    let own = Labels::from_pairs(own.into_iter().chain([("x_y", "2"), ("empty", "")]));
    let rows = [(metric("a", "", Kind::Gauge), own, vec![1.0])];
    let mut exposition = with(Otel { promote: vec!["host.name".to_owned()], ..Otel::default() });
    exposition.update(batch(group(A, library()), &rows), 0);
    expect![[r#"a{host_name="mine",instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2",x_y="1;2"} 1"#]].assert_eq(&lines(&text(&mut exposition), "a{"));
}

#[test]
fn names_that_become_one_are_shown_once_and_counted() {
    let gauge = |name| (metric(name, "", Kind::Gauge), Labels::empty(), vec![1.0]);
    let names = ["a.b", "a_b", "a-b", "a/b", "c"];
    let batch = batch(group(A, library()), &names.map(gauge));
    let mut exposition = Exposition::new(1000);
    let dropped = exposition.update(batch.clone(), 0);
    assert_eq!(dropped, Dropped { duplicate: 3, ..Dropped::default() });
    let mut next = batch;
    next.values = Arc::new([1.0, 2.0, 3.0, 4.0, 5.0].map(Slot::double).to_vec());
    assert_eq!(exposition.update(next, 1), Dropped::default());
    expect![[r##"
        # TYPE a_b gauge
        a_b{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2"} 1
        # TYPE c gauge
        c{instance="i-1",job="prod/chat",otel_scope_name="lib",otel_scope_version="1.2"} 5
        # HELP target_info Attributes of the resource.
        # TYPE target_info gauge
        target_info{host_name="h1",instance="i-1",job="prod/chat"} 1
    "##]]
    .assert_eq(&text(&mut exposition));
}

#[test]
fn target_info_is_said_once_and_goes_with_its_source() {
    let gauge = [(metric("a", "", Kind::Gauge), Labels::empty(), vec![1.0])];
    let other = [(metric("b", "", Kind::Gauge), Labels::empty(), vec![1.0])];
    let same = [("service.name", "search"), ("host.name", "h3")];
    let first = batch(group(B, library()), &gauge);
    let second = batch(group(&same, library()), &other);
    let mut exposition = Exposition::new(1000);
    exposition.update(first, 0);
    exposition.update(second.clone(), 10);
    let infos = |exposition: &mut Exposition| lines(&text(exposition), "target_info{");
    let of_first = "target_info{host_name=\"h2\",job=\"search\",k8s_pod_name=\"p\"} 1";
    let of_second = "target_info{host_name=\"h3\",job=\"search\"} 1";
    assert_eq!(infos(&mut exposition), of_first, "once per job and instance");
    assert_eq!(exposition.expire(5), 1);
    assert_eq!(infos(&mut exposition), of_second, "the first has expired");
    let version = exposition.version();
    assert_eq!(infos(&mut exposition), of_second);
    assert_eq!(exposition.version(), version, "to look changes nothing");
    exposition.update(Batch::end(second.source, second.shape, 2), 11);
    assert_eq!(text(&mut exposition), "");
    assert_eq!((exposition.sources(), exposition.series()), (0, 0));
}

#[test]
fn a_target_info_that_was_scraped_is_one_of_them() {
    let labels =
        Labels::from_pairs([("host_name", "h1"), ("instance", "i-1"), ("job", "prod/chat")]);
    let scraped = [(metric("target_info", "", Kind::Gauge), labels, vec![1.0])];
    let mut exposition = Exposition::new(1000);
    exposition.update(batch(Group::default(), &scraped), 0);
    two_services(&mut exposition);
    let page = text(&mut exposition);
    assert_eq!(page.matches("# TYPE target_info").count(), 1, "{page}");
    assert_eq!(lines(&page, "target_info{").lines().count(), 2, "{page}");
    let gone = Batch::end(SourceId::next(), batch(Group::default(), &scraped).shape, 1);
    assert_eq!(exposition.update(gone, 1).duplicate, 1, "told with the next update");
}

#[test]
fn a_token_sees_the_target_info_of_its_models() {
    let gauge = [(metric("a", "", Kind::Gauge), Labels::empty(), vec![1.0])];
    let mut exposition = Exposition::new(1000);
    for model in ["m1", "m2"] {
        let resource = [("service.name", model), ("model_id", model)];
        exposition.update(batch(group(&resource, library()), &gauge), 0);
    }
    let values = ["m1".to_owned()];
    let only = Some(Only { label: "model_id", values: &values });
    let mut out = Vec::new();
    let style = Style { format: Format::Text, escaping: Escaping::Underscores };
    exposition.snapshot().render(style, Options::default(), only, &mut out);
    let page = String::from_utf8(out).expect("text");
    assert!(page.contains("target_info{job=\"m1\",model_id=\"m1\"} 1"), "{page}");
    assert!(!page.contains("m2"), "{page}");
}

#[test]
fn rows_that_are_absent_or_new_keep_their_values() {
    let interner = Interner::new();
    let gauge = |name| Arc::new(metric(name, "s", Kind::Gauge));
    let mut builder = ShapeBuilder::new(&interner);
    let of = builder.group(group(B, library()));
    builder.push(of, &gauge("a"), &Labels::empty()).expect("new");
    let first = Batch::new(SourceId::next(), builder.finish(), 1, vec![Slot::double(1.0)]);
    let mut grown = ShapeBuilder::grow(&interner, &first.shape);
    grown.push(of, &gauge("b"), &Labels::empty()).expect("new");
    let values = vec![Slot::double(0.0), Slot::double(2.0)];
    let mut second = Batch::new(first.source, grown.finish(), 2, values);
    second.marks = Some(Arc::new(vec![Mark::Absent, Mark::Present]));
    let mut exposition = Exposition::new(1000);
    exposition.update(first, 0);
    exposition.update(second, 1);
    let page = text(&mut exposition);
    assert!(lines(&page, "a_seconds{").ends_with(" 1"), "{page}");
    assert!(lines(&page, "b_seconds{").ends_with(" 2"), "{page}");
}

#[test]
fn many_names_that_become_one_take_no_long() {
    let spelt = |n: u32| -> String {
        (0..13).map(|bit| if n >> bit & 1 == 1 { "x." } else { "x-" }).collect()
    };
    let names = (0..8192).map(|n| format!("{}x", spelt(n)));
    let rows: Vec<_> =
        names.map(|name| (metric(&name, "", Kind::Gauge), Labels::empty(), vec![1.0])).collect();
    let mut exposition = Exposition::new(100_000);
    let dropped = exposition.update(batch(group(A, library()), &rows), 0);
    assert_eq!(dropped.duplicate, 8191);
}
