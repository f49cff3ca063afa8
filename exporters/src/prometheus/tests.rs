//! The page as its readers see it.

use std::sync::Arc;

use bytes::Bytes;
use expect_test::{Expect, expect};
use pipeline_component::telemetry::table;
use pipeline_component::{
    BuildExporter, Exporter, Local, Outlet, Processor, Settings, Shutdown, StartError,
};
use pipeline_config::Section;
use pipeline_model::{
    Batch, Group, Interner, Kind, Labels, Metric, Resource, Scope, ShapeBuilder, Slot, SourceId,
    Temporality,
};
use pipeline_net::compress::decode;
use pipeline_net::{Coding, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, advance};

use super::{Config, Prometheus};

const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
    text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

struct Bench {
    exporter: Prometheus,
    settings: Settings,
}

impl Bench {
    fn new(toml: &str) -> Self {
        let section = Section::from_toml("exporters.prometheus", toml).expect("toml");
        let config: Config = section.decode().expect("config");
        let tokens = config.check(&section).expect("config");
        let settings = Settings::standalone("exporter", "prometheus");
        Self { exporter: Prometheus::new(config, tokens, &settings), settings }
    }

    async fn export(&self, batch: &Batch) {
        self.exporter.export(batch).await.expect("never fails");
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::new()).expect("a request");
        self.exporter.site.answer(&Request::from_memory(request)).await
    }

    async fn text(&self, headers: &[(&str, &str)]) -> String {
        let response = self.ask("GET", "/metrics", headers).await;
        assert_eq!(response.status(), 200);
        String::from_utf8(response.body().whole().expect("whole").to_vec()).expect("text")
    }

    fn renders(&self) -> u64 {
        self.settings.telemetry.seconds(&table::EXPOSITION_RENDER_SECONDS, &[]).count()
    }
}

fn batch(model: &str, values: &[(&str, f64)]) -> Batch {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let group = builder
        .group(Group { labels: Labels::from_pairs([("model_id", model)]), ..Group::default() });
    for (name, _) in values {
        let metric = Metric::new(name, "", "", Kind::Gauge);
        builder.push(group, &Arc::new(metric), &Labels::empty()).expect("new");
    }
    let slots = values.iter().map(|(_, value)| Slot::double(*value)).collect();
    Batch::new(SourceId::next(), builder.finish(), 1, slots)
}

fn again(last: &Batch, values: &[f64]) -> Batch {
    let values = Arc::new(values.iter().copied().map(Slot::double).collect());
    Batch { values, ..last.clone() }
}

#[tokio::test(start_paused = true)]
async fn the_newest_batch_is_shown_until_the_source_is_silent_for_too_long() {
    let bench = Bench::new("expiry = \"1m\"\nrefresh = \"0s\"");
    let (one, two) = (batch("m1", &[("a", 1.0)]), batch("m2", &[("a", 2.0)]));
    bench.export(&one).await;
    bench.export(&two).await;
    assert_eq!(
        bench.text(&[]).await,
        "# TYPE a gauge\na{model_id=\"m1\"} 1\na{model_id=\"m2\"} 2\n"
    );
    advance(Duration::from_secs(50)).await;
    bench.export(&again(&one, &[3.0])).await;
    assert_eq!(
        bench.text(&[]).await,
        "# TYPE a gauge\na{model_id=\"m1\"} 3\na{model_id=\"m2\"} 2\n"
    );
    advance(Duration::from_secs(11)).await;
    assert_eq!(bench.text(&[]).await, "# TYPE a gauge\na{model_id=\"m1\"} 3\n");
    bench.export(&Batch::end(one.source, one.shape, 2)).await;
    assert_eq!(bench.text(&[]).await, "");
}

#[tokio::test(start_paused = true)]
async fn readers_share_a_page_until_the_data_changes() {
    let bench = Bench::new("");
    let source = batch("m", &[("a", 1.0)]);
    bench.export(&source).await;
    let ask = || bench.ask("GET", "/metrics", &[]);
    let (one, two, three) = tokio::join!(ask(), ask(), ask());
    let address = |response: &Response| response.body().whole().expect("whole").as_ptr();
    assert_eq!(bench.renders(), 1);
    assert!(address(&one) == address(&two) && address(&two) == address(&three), "one body for all");

    advance(Duration::from_secs(60)).await;
    assert_eq!(address(&ask().await), address(&one), "nothing has changed");
    bench.export(&again(&source, &[2.0])).await;
    assert_eq!(bench.text(&[]).await, "# TYPE a gauge\na{model_id=\"m\"} 2\n");
    assert_eq!(bench.renders(), 2);

    bench.export(&again(&source, &[3.0])).await;
    assert_eq!(bench.text(&[]).await, "# TYPE a gauge\na{model_id=\"m\"} 2\n", "within `refresh`");
    advance(Duration::from_millis(100)).await;
    assert_eq!(bench.text(&[]).await, "# TYPE a gauge\na{model_id=\"m\"} 3\n");
    assert_eq!(
        one.body().whole().expect("whole").as_ref(),
        b"# TYPE a gauge\na{model_id=\"m\"} 1\n",
        "sent as begun"
    );
}

#[tokio::test(start_paused = true)]
async fn whatever_formats_are_asked_for_only_few_pages_are_kept() {
    let bench = Bench::new("");
    bench.export(&batch("m", &[("a", 1.0)])).await;
    for version in ["0.0.4", "1.0.0"] {
        for escaping in ["allow-utf-8", "underscores", "dots", "values"] {
            let text = format!("text/plain;version={version};escaping={escaping}");
            let open = format!("application/openmetrics-text;version=1.0.0;escaping={escaping}");
            bench.text(&[("accept", &text)]).await;
            bench.text(&[("accept", &open)]).await;
        }
    }
    assert_eq!(bench.exporter.site.page_count(), 4);
    advance(Duration::from_secs(200)).await;
    bench.exporter.site.tidy();
    assert_eq!(bench.exporter.site.page_count(), 0);
}

#[tokio::test]
async fn formats_and_codings() {
    let bench = Bench::new("");
    bench.export(&batch("m", &[("a", 1.0)])).await;
    let get = async |accept: &str, encoding: &str| {
        let response = bench
            .ask("GET", "/metrics", &[("accept", accept), ("accept-encoding", encoding)])
            .await;
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .map_or("-", |value| value.to_str().expect("ascii"))
                .to_owned()
        };
        let body = response.body().whole().expect("whole").clone();
        let coding = Coding::parse(&header("content-encoding").replace('-', "")).expect("known");
        let mut plain = Vec::new();
        decode(coding, &body, &mut plain, 1 << 20).expect("decodes");
        format!(
            "{} {} {}\n{}",
            response.status(),
            header("content-type"),
            header("content-encoding"),
            String::from_utf8_lossy(&plain)
        )
    };
    let check = |got: String, expected: Expect| expected.assert_eq(&got);
    check(
        get(PROMETHEUS, "gzip").await,
        expect![[r#"
        200 OK application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8 gzip
        # TYPE a gauge
        a{model_id="m"} 1
        # EOF
    "#]],
    );
    check(
        get("*/*", "gzip;q=0.5, zstd").await,
        expect![[r#"
        200 OK text/plain; version=0.0.4; charset=utf-8 zstd
        # TYPE a gauge
        a{model_id="m"} 1
    "#]],
    );
    check(
        get("application/json", "br, identity;q=0").await,
        expect![[r#"
        200 OK text/plain; version=0.0.4; charset=utf-8 -
        # TYPE a gauge
        a{model_id="m"} 1
    "#]],
    );
    check(
        get("text/plain;version=1.0.0;escaping=values", "").await,
        expect![[r#"
        200 OK text/plain; version=1.0.0; charset=utf-8; escaping=values -
        # TYPE a gauge
        a{model_id="m"} 1
    "#]],
    );
    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    assert!(get(protobuf, "").await.starts_with("200 OK application/vnd.google.protobuf; "));
}

#[tokio::test(start_paused = true)]
async fn tokens_open_what_they_are_for() {
    let bench = Bench::new(
        "tokens = [{ token = \"all.1\" }, { token = \"one.2\", model_ids = [\"m2\"], requests_per_minute = 2 }]",
    );
    bench.export(&batch("m1", &[("a", 1.0), ("b", 1.0)])).await;
    bench.export(&batch("m2", &[("a", 2.0)])).await;
    for header in ["Api-Key all.1", "Bearer all.1", "Bearer Api-Key all.1"] {
        assert_eq!(
            bench.text(&[("authorization", header)]).await,
            "# TYPE a gauge\na{model_id=\"m1\"} 1\na{model_id=\"m2\"} 2\n# TYPE b gauge\nb{model_id=\"m1\"} 1\n"
        );
    }
    let one = [("authorization", "Bearer one.2")];
    assert_eq!(bench.text(&one).await, "# TYPE a gauge\na{model_id=\"m2\"} 2\n");
    assert_eq!(bench.text(&one).await, "# TYPE a gauge\na{model_id=\"m2\"} 2\n");
    let limited = bench.ask("GET", "/metrics", &one).await;
    assert_eq!(
        (limited.status().as_u16(), limited.headers()["retry-after"].to_str().expect("ascii")),
        (429, "30")
    );
    for headers in [&[][..], &[("authorization", "Bearer two.3")]] {
        let refused = bench.ask("GET", "/metrics", headers).await;
        assert_eq!(refused.status(), 401);
        assert!(refused.headers().contains_key("www-authenticate"));
    }
    let count = |code| {
        bench.settings.telemetry.counter(&table::EXPOSITION_REQUESTS, &[("code", code)]).get()
    };
    assert_eq!((count("200"), count("401"), count("429")), (5, 2, 1));
}

#[tokio::test]
async fn a_token_sees_what_the_resource_says_is_its_models() {
    let bench = Bench::new("tokens = [{ token = \"one.2\", model_ids = [\"m2\"] }]");
    let interner = Interner::new();
    for model in ["m1", "m2"] {
        let mut builder = ShapeBuilder::new(&interner);
        let attributes = Labels::from_pairs([("model_id", model)]);
        let group = builder.group(Group {
            resource: Arc::new(Resource { attributes, ..Resource::default() }),
            labels: Labels::from_pairs([("instance", model)]),
            ..Group::default()
        });
        let metric = Arc::new(Metric::new("a", "", "", Kind::Gauge));
        builder.push(group, &metric, &Labels::empty()).expect("new");
        let values = vec![Slot::double(1.0)];
        bench.export(&Batch::new(SourceId::next(), builder.finish(), 1, values)).await;
    }
    assert_eq!(
        bench.text(&[("authorization", "Bearer one.2")]).await,
        "# TYPE a gauge\na{instance=\"m2\"} 1\n"
    );
}

#[tokio::test]
async fn other_paths_and_methods() {
    let bench = Bench::new("path = \"/prom\"");
    assert_eq!(bench.ask("GET", "/metrics", &[]).await.status(), 404);
    let refused = bench.ask("POST", "/prom", &[]).await;
    assert_eq!(
        (refused.status().as_u16(), refused.headers()["allow"].to_str().expect("ascii")),
        (405, "GET, HEAD")
    );
    let welcome = bench.ask("GET", "/", &[]).await;
    let body = String::from_utf8_lossy(welcome.body().whole().expect("whole")).into_owned();
    assert!(welcome.status() == 200 && body.contains("<a href=\"/prom\">"), "{body}");
    assert_eq!(
        bench.ask("GET", "/prom?name[]=a", &[]).await.status(),
        200,
        "a query changes nothing"
    );
}

#[tokio::test]
async fn series_that_cannot_be_shown_are_counted_once() {
    let bench = Bench::new("max_series = 2");
    let first = batch("m", &[("a", 1.0)]);
    let second = batch("m", &[("a", 2.0), ("b", 1.0), ("c", 1.0)]);
    for _ in 0..3 {
        bench.export(&first).await;
        bench.export(&second).await;
    }
    let count = |reason| {
        bench.settings.telemetry.counter(&table::EXPOSITION_DROPPED, &[("reason", reason)]).get()
    };
    assert_eq!(
        (count("duplicate"), count("limit"), count("delta"), count("type_conflict")),
        (1, 1, 0, 0)
    );
}

async fn raw(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answers");
    answer
}

#[tokio::test]
async fn over_a_socket() {
    let bench = Bench::new("listen = \"127.0.0.1:0\"");
    bench.export(&batch("m", &[("a", 1.0)])).await;
    let stop = Shutdown::new();
    let running = bench.exporter.start(stop.clone()).await.expect("starts");
    let running = tokio::task::JoinSet::from_iter([running]);
    let address = bench.exporter.address().expect("started");
    let get = raw(address, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(
        get.starts_with("HTTP/1.1 200 OK\r\n")
            && get.ends_with("\r\n\r\n# TYPE a gauge\na{model_id=\"m\"} 1\n"),
        "{get}"
    );
    let head = raw(address, "HEAD /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(head.contains("content-length: 33\r\n") && head.ends_with("\r\n\r\n"), "{head}");

    let taken = Bench::new(&format!("listen = \"{address}\""));
    let Err(StartError::Bind(text)) = taken.exporter.start(Shutdown::new()).await else {
        panic!("the port is taken")
    };
    assert_eq!(text, format!("another process listens on {address}; stop it or set `listen`"));

    stop.trigger();
    assert!(running.join_all().await.into_iter().all(|ended| ended.is_ok()));
    assert!(TcpStream::connect(address).await.is_err(), "closed");
}

#[test]
fn wrong_settings_are_located() {
    let check = |toml: &str| {
        let section = Section::from_toml("exporters.prometheus", toml).expect("toml");
        let settings = Settings::standalone("exporter", "prometheus");
        let config = section.decode().expect("config");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _inside = runtime.enter();
        Prometheus::build(config, &section, settings).err().expect("wrong").to_string()
    };
    expect![[r#"
        error[config::bad-value]: expected a path that starts with `/`, found `metrics`
         --> exporters.prometheus.toml:1:8
          |
        1 | path = "metrics"
          |        ^^^^^^^^^
          |
        help: for example `/metrics`

        error[config::bad-value]: expected some time to live, found an expiry of nothing
         --> exporters.prometheus.toml:2:10
          |
        2 | expiry = "0s"
          |          ^^^^
          |
        help: for example `"5m"`

        error[config::bad-value]: expected each token once, found token 2 before
         --> exporters.prometheus.toml:3:38
          |
        3 | tokens = [{ token = "a" }, { token = "a" }]
          |                                      ^^^
    "#]]
    .assert_eq(&check(
        "path = \"metrics\"\nexpiry = \"0s\"\ntokens = [{ token = \"a\" }, { token = \"a\" }]",
    ));
    expect![[r#"
        error[config::bad-value]: expected visible ascii characters without spaces in token 1, found something else
         --> exporters.prometheus.toml:1:21
          |
        1 | tokens = [{ token = "with space" }]
          |                     ^^^^^^^^^^^^
    "#]].assert_eq(&check("tokens = [{ token = \"with space\" }]"));
    expect![[r#"
        error[config::bad-value]: expected `host:port` such as 127.0.0.1:9464, found `nonsense`
         --> exporters.prometheus.toml:1:10
          |
        1 | listen = "nonsense"
          |          ^^^^^^^^^^
          |
        help: for example `127.0.0.1:9464`

        error[config::bad-value]: cannot read /no/cert as PEM: I/O error: No such file or directory (os error 2)
         --> exporters.prometheus.toml:2:21
          |
        2 | tls = { cert_file = "/no/cert", key_file = "/no/key" }
          |                     ^^^^^^^^^^

        error[config::bad-value]: cannot read /no/key as PEM: I/O error: No such file or directory (os error 2)
         --> exporters.prometheus.toml:2:44
          |
        2 | tls = { cert_file = "/no/cert", key_file = "/no/key" }
          |                                            ^^^^^^^^^
    "#]].assert_eq(&check(
        "listen = \"nonsense\"\ntls = { cert_file = \"/no/cert\", key_file = \"/no/key\" }",
    ));
}

/// A sum from a service, as the OTLP receiver hands it over.
fn of_service(service: &str, temporality: Temporality, value: f64) -> Batch {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let attributes = Labels::from_pairs([("service.name", service), ("host.name", "h")]);
    let group = builder.group(Group {
        resource: Arc::new(Resource { attributes, ..Resource::default() }),
        scope: Arc::new(Scope { name: "lib".into(), ..Scope::default() }),
        ..Group::default()
    });
    let kind = Kind::Sum { monotonic: true, temporality };
    let metric = Arc::new(Metric::new("http.requests", "", "", kind));
    builder.push(group, &metric, &Labels::empty()).expect("new");
    Batch::new(SourceId::next(), builder.finish(), 60_000_000_000, vec![Slot::double(value)])
}

#[tokio::test]
async fn what_came_by_otlp_is_shown_as_the_settings_say() {
    for (settings, expected) in [
        (
            "",
            expect![[r##"
                # TYPE http_requests_total counter
                http_requests_total{job="one",otel_scope_name="lib"} 1
                http_requests_total{job="two",otel_scope_name="lib"} 2
                # HELP target_info Attributes of the resource.
                # TYPE target_info gauge
                target_info{host_name="h",job="one"} 1
                target_info{host_name="h",job="two"} 1
            "##]],
        ),
        (
            "scope_labels = false\ntarget_info = false\npromote_resource_attributes = [\"host.name\"]",
            expect![[r##"
                # TYPE http_requests_total counter
                http_requests_total{host_name="h",job="one"} 1
                http_requests_total{host_name="h",job="two"} 2
            "##]],
        ),
        (
            "scope_labels = false\ntarget_info = false\ntranslation_strategy = \"no_translation\"",
            expect![[r##"
                # TYPE "http.requests" counter
                {"http.requests",job="one"} 1
                {"http.requests",job="two"} 2
            "##]],
        ),
    ] {
        let bench = Bench::new(settings);
        for (service, value) in [("one", 1.0), ("two", 2.0)] {
            bench.export(&of_service(service, Temporality::Cumulative, value)).await;
        }
        let utf8 = [("accept", "text/plain;version=1.0.0;escaping=allow-utf-8")];
        expected.assert_eq(&bench.text(&utf8).await);
    }
}

#[tokio::test]
async fn deltas_are_added_up_before_they_are_shown() {
    let section = Section::from_toml("exporters.prometheus", "").expect("toml");
    let settings = Settings::standalone("exporter", "prometheus");
    let built = Prometheus::build(Config::default(), &section, settings).expect("built");
    let Outlet::Local(Local { steps, .. }) = built else { panic!("it keeps what it is given") };
    let [Processor::Compute(make)] = &steps[..] else { panic!("one step: {steps:?}") };
    let (mut step, bench) = (make(), Bench::new("target_info = false"));
    let mut batch = of_service("one", Temporality::Delta, 3.0);
    for time in [60_000_000_000, 120_000_000_000] {
        batch.time = time;
        batch.starts = Some(Arc::new(vec![time - 60_000_000_000]));
        let mut out = Vec::new();
        step.compute(batch.clone(), &mut out);
        for batch in &out {
            bench.export(batch).await;
        }
    }
    let page = bench.text(&[]).await;
    assert!(page.contains("# TYPE http_requests_total counter\n"), "{page}");
    assert!(page.ends_with(" 6\n"), "{page}");
}
