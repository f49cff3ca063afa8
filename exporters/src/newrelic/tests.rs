//! What New Relic would get.

use std::sync::Arc;

use expect_test::{Expect, expect};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use pipeline_component::{
    BuildExporter, Delivered, ExportError, Outlet, Part, Processor, Push, Sender, Settings,
};
use pipeline_config::Section;
use pipeline_model::{
    Batch, Bounds, Compute, Group, Interner, Kind, Labels, Mark, Metric, Shape, ShapeBuilder, Slot,
    SourceId, Temporality,
};
use testkit::{Backend, Fault};
use tokio::runtime::Runtime;

use super::{Config, NewRelic};

const SECOND: i64 = 1_000_000_000;

/// The exporter as the engine runs it: steps, then a sender.
struct Bench {
    runtime: Runtime,
    steps: Vec<Box<dyn Compute>>,
    sender: Box<dyn Sender>,
}

impl Bench {
    fn new(backend: &Backend, more: &str) -> Self {
        let toml = format!("api_key = \"K\"\nendpoint = \"{}\"\n{more}", backend.url(""));
        let section = Section::from_toml("exporters.newrelic", &toml).expect("toml");
        let settings = Settings::standalone("exporter", "newrelic");
        let config: Config = section.decode().expect("config");
        let Ok(Outlet::Push(Push { steps, sender, .. })) =
            NewRelic::build(config, &section, settings)
        else {
            panic!("a push exporter");
        };
        let steps = steps.into_iter().map(|step| match step {
            Processor::Compute(make) => make(),
            Processor::Reshape(_) => panic!("no such step"),
        });
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { runtime, steps: steps.collect(), sender: sender() }
    }

    fn send(&mut self, batch: Batch) -> Result<Delivered, ExportError> {
        let mut batches = vec![batch];
        for step in &mut self.steps {
            let mut out = Vec::new();
            batches.into_iter().for_each(|batch| step.compute(batch, &mut out));
            batches = out;
        }
        let parts: Vec<Part> = batches.into_iter().map(Part::whole).collect();
        self.runtime.block_on(self.sender.send(&parts))
    }
}

fn pairs(list: &[KeyValue]) -> String {
    let value = |pair: &KeyValue| {
        let text = format!("{:?}", pair.value.as_ref().and_then(|value| value.value.as_ref()));
        text.split('"').nth(1).unwrap_or(&text).chars().take(12).collect::<String>()
    };
    let pairs: Vec<String> =
        list.iter().map(|pair| format!("{}={}", pair.key, value(pair))).collect();
    pairs.join(",")
}

fn show(requests: &[ExportMetricsServiceRequest]) -> String {
    let mut text = String::new();
    for of_resource in requests.iter().flat_map(|request| &request.resource_metrics) {
        text += &format!("{}\n", pairs(&of_resource.resource.as_ref().expect("it").attributes));
        for metric in of_resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let (kind, points) = match metric.data.as_ref().expect("data") {
                Data::Gauge(gauge) => ("gauge".to_owned(), &gauge.data_points),
                Data::Sum(sum) => {
                    let kind = format!("sum {} {}", sum.aggregation_temporality, sum.is_monotonic);
                    (kind, &sum.data_points)
                }
                Data::Histogram(histogram) => {
                    for p in &histogram.data_points {
                        let Some(sum) = p.sum else { panic!("{p:?}") };
                        let temporality = histogram.aggregation_temporality;
                        text += &format!(
                            "  {} histogram {temporality} {}: {sum} {:?}\n",
                            metric.name,
                            pairs(&p.attributes),
                            p.bucket_counts
                        );
                    }
                    continue;
                }
                other => panic!("{other:?}"),
            };
            for p in points {
                let Some(Number::AsDouble(value)) = p.value else { panic!("{p:?}") };
                text += &format!("  {} {kind} {}: {value}\n", metric.name, pairs(&p.attributes));
            }
        }
    }
    text
}

fn shape(metrics: &[(&str, Kind)], own: &[(&str, &str)]) -> Arc<Shape> {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let labels = Labels::from_pairs([("instance", "h:1"), ("job", "vllm")]);
    let group = builder.group(Group { labels, ..Group::default() });
    for (name, kind) in metrics {
        let metric = Arc::new(Metric::new(name, "s", "", kind.clone()));
        builder.push(group, &metric, &Labels::from_pairs(own.iter().copied())).expect("new");
    }
    builder.finish()
}

fn at(shape: &Arc<Shape>, source: SourceId, second: i64, values: &[f64]) -> Batch {
    let slots = values.iter().copied().map(Slot::double).collect();
    Batch::new(source, Arc::clone(shape), (1_700_000_000 + second) * SECOND, slots)
}

#[track_caller]
fn check(backend: &Backend, expect: &Expect) {
    expect.assert_eq(&show(&backend.otlp()));
}

#[test]
fn counters_and_histograms_are_deltas() {
    let backend = Backend::start();
    let mut bench = Bench::new(&backend, "initial = \"drop\"");
    let metrics = [
        ("requests_total", Kind::COUNTER),
        ("seconds", Kind::histogram(Bounds::new(&[0.5]))),
        ("running", Kind::Gauge),
        ("queue", Kind::Sum { monotonic: false, temporality: Temporality::Cumulative }),
    ];
    let (shape, source) = (shape(&metrics, &[("engine", "0")]), SourceId::next());
    bench.send(at(&shape, source, 0, &[10.0, 1.0, 4.0, 3.0, 7.0, 1.0])).expect("delivered");
    bench.send(at(&shape, source, 10, &[15.0, 2.5, 9.0, 5.0, 8.0, 2.0])).expect("delivered");
    check(
        &backend,
        &expect![[r#"
        service.instance.id=h:1,service.name=vllm
          running gauge engine=0: 7
          queue sum 2 false engine=0: 1
        service.instance.id=h:1,service.name=vllm
          requests_total sum 1 true engine=0: 5
          seconds histogram 1 engine=0: 1.5 [2, 3]
          running gauge engine=0: 8
          queue sum 2 false engine=0: 2
    "#]],
    );
    let request = &backend.requests()[0];
    assert_eq!(request.header("api-key"), Some("K"));
    assert_eq!(request.header("content-encoding"), Some("zstd"));
    assert_eq!(request.path, "/v1/metrics");
}

/// A quantile of nothing is none, and no loss.
#[test]
fn summaries_become_sums_and_gauges() {
    let backend = Backend::start();
    let mut bench = Bench::new(&backend, "initial = \"drop\"");
    let quantiles = Bounds::new(&[0.5, 0.99]);
    let metrics =
        [("before", Kind::Gauge), ("rpc", Kind::Summary { quantiles }), ("after", Kind::Gauge)];
    let (shape, source) = (shape(&metrics, &[]), SourceId::next());
    let first = bench.send(at(&shape, source, 0, &[1.0, 2.0, 3.0, 0.1, f64::NAN, 9.0]));
    assert_eq!(first, Ok(Delivered::default()));
    bench.send(at(&shape, source, 10, &[1.0, 5.0, 10.0, 0.1, 0.2, 9.0])).expect("delivered");
    let end = Batch::end(source, Arc::clone(&shape), 1_700_000_020 * SECOND);
    bench.send(end).expect("nothing to deliver");
    check(
        &backend,
        &expect![[r#"
        service.instance.id=h:1,service.name=vllm
          before gauge : 1
          rpc gauge quantile=0.5: 0.1
          after gauge : 9
        service.instance.id=h:1,service.name=vllm
          before gauge : 1
          rpc_sum sum 1 true : 3
          rpc_count sum 1 true : 7
          rpc gauge quantile=0.5: 0.1
          rpc gauge quantile=0.99: 0.2
          after gauge : 9
    "#]],
    );
}

#[test]
fn what_cannot_be_taken_is_counted_and_what_is_too_long_is_cut() {
    let backend = Backend::start();
    let mut bench = Bench::new(&backend, "");
    let metrics = [
        ("nan", Kind::Gauge),
        ("delta", Kind::Sum { monotonic: false, temporality: Temporality::Delta }),
        ("ok", Kind::Gauge),
    ];
    let long = "x".repeat(5000);
    let shape = shape(&metrics, &[("metricName", "mine"), ("text", &long), (&long, "v")]);
    let batch = at(&shape, SourceId::next(), 0, &[f64::INFINITY, 1.0, 2.0]);
    let marks = vec![Mark::Present; 3];
    let delivered = bench.send(Batch { marks: Some(Arc::new(marks)), ..batch }).expect("delivered");
    assert_eq!(delivered.rejected, 2);
    expect!["left out 1 numbers that are NaN or infinite and 1 deltas of sums that go up and down"]
        .assert_eq(&delivered.message);
    let requests = backend.otlp();
    let metric = &requests[0].resource_metrics[0].scope_metrics[0].metrics[0];
    let Some(Data::Gauge(gauge)) = &metric.data else { panic!("{metric:?}") };
    let sizes: Vec<(usize, usize)> = gauge.data_points[0]
        .attributes
        .iter()
        .map(|pair| (pair.key.len(), format!("{:?}", pair.value).matches('x').count()))
        .collect();
    assert_eq!(gauge.data_points[0].attributes[0].key, "metricName_");
    assert_eq!(sizes, [(11, 0), (4, 4095), (255, 0)]);
}

#[test]
fn its_answers_have_its_meanings() {
    let backend = Backend::start();
    let mut bench = Bench::new(&backend, "");
    let shape = shape(&[("a", Kind::Gauge)], &[]);
    let mut send = |fault| {
        backend.next([fault]);
        match bench.send(at(&shape, SourceId::next(), 0, &[1.0])) {
            Ok(delivered) => format!("{delivered:?}"),
            Err(ExportError::Retryable { after, .. }) => format!("again {after:?}"),
            Err(ExportError::TooLarge(_)) => "halves".to_owned(),
            Err(ExportError::Permanent(why)) => why,
        }
    };
    for status in [408, 500, 502, 520] {
        assert_eq!(send(Fault::Status(status, None)), "again None", "{status}");
    }
    assert_eq!(send(Fault::Status(429, Some("29".to_owned()))), "again Some(29s)");
    assert_eq!(send(Fault::Status(413, None)), "halves");
    let refused = "New Relic refuses the license key; check `api_key` and `region`";
    for status in [401, 403] {
        let said = send(Fault::Status(status, None));
        assert_eq!(said, format!("HTTP status {status}: scripted: {refused}"));
    }
}

/// The limit is on what is sent.
#[test]
fn requests_keep_to_the_limit() {
    let backend = Backend::start();
    let mut bench = Bench::new(&backend, "request_bytes_max = \"1KiB\"\ncompression = \"none\"");
    let metrics: Vec<(String, Kind)> = (0..40).map(|n| (format!("m{n}"), Kind::Gauge)).collect();
    let metrics: Vec<(&str, Kind)> = metrics.iter().map(|(n, k)| (n.as_str(), k.clone())).collect();
    let batch = at(&shape(&metrics, &[]), SourceId::next(), 0, &[1.0; 40]);
    let error = bench.send(batch).unwrap_err();
    assert!(
        matches!(&error, ExportError::TooLarge(text) if text.contains("at most 1024 bytes")),
        "{error}"
    );
    assert_eq!(backend.requests_n(), 0);
}

#[test]
fn regions_and_mistakes() {
    let plan = |toml: &str| {
        let section = Section::from_toml("exporters.newrelic", toml).expect("toml");
        let config: Config = section.decode().expect("config");
        match config.plan(&section) {
            Ok(plan) => plan.urls.concat(),
            Err(wrong) => {
                wrong.iter().map(|one| one.message.clone()).collect::<Vec<_>>().join("; ")
            }
        }
    };
    assert_eq!(plan("api_key = \"k\""), "https://otlp.nr-data.net/v1/metrics");
    assert_eq!(
        plan("api_key = \"k\"\nregion = \"eu\""),
        "https://otlp.eu01.nr-data.net/v1/metrics"
    );
    assert_eq!(
        plan("api_key = \"k\"\nregion = \"gov-us\""),
        "https://gov-otlp.nr-data.net/v1/metrics"
    );
    assert_eq!(
        plan("api_key = \"k\"\nrequest_bytes_max = \"1000B\"\nbatch.points_max = 0"),
        "expected requests of at least one point, found none; \
         expected requests of at least 1 KiB, found 1KB"
    );
    assert_eq!(plan(""), "expected the account's license key, found none");
    assert_eq!(
        plan("api_key = \"k\"\nendpoint = \"proxy\""),
        "expected an address such as https://gw:4317, found `proxy`"
    );
}
