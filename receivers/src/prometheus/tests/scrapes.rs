//! One target and its moods.

use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pipeline_component::ConsumeError;
use pipeline_component::telemetry::table;
use pipeline_model::{Batch, Mark};
use simulator::{EngineSpec, Fleet, FleetSpec, Release};
use tokio::time::timeout;

use super::server::Server;
use super::{PATIENCE, find, labels, mark, run, value};

const PAGE: &str = "# TYPE requests_total counter\nrequests_total{code=\"200\"} 7\n# TYPE running gauge\nrunning 3\n";

fn config(server: &Server, more: &str) -> String {
    format!("targets = [\"{}\"]\ninterval = \"200ms\"\n{more}", server.address)
}

#[tokio::test]
async fn a_target_that_goes_down_and_comes_back() {
    let server = Server::start(PAGE).await;
    let rig = run(&config(&server, "labels = { environment = \"prod\" }")).await;
    let (first, batch) = rig.up(0, 1.0).await;
    assert_eq!(value(&batch, "requests_total"), Some(7.0));
    assert_eq!(
        labels(&batch, "requests_total"),
        format!("code=200 environment=prod instance={} job=engines", server.address)
    );
    assert_eq!(
        labels(&batch, "up"),
        format!("environment=prod instance={} job=engines", server.address)
    );
    assert_eq!(value(&batch, "scrape_samples_scraped"), Some(2.0));
    assert_eq!(value(&batch, "scrape_samples_post_metric_relabeling"), Some(2.0));
    assert_eq!(value(&batch, "scrape_samples_post_processing"), Some(2.0));
    assert_eq!(value(&batch, "scrape_series_added"), Some(2.0));
    assert!(
        value(&batch, "scrape_duration_seconds")
            .is_some_and(|seconds| seconds > 0.0 && seconds < 1.0)
    );
    let (second, batch) = rig.up(first + 1, 1.0).await;
    assert_eq!(value(&batch, "scrape_series_added"), Some(0.0));

    server.set(|script| script.status = 500);
    let (down, batch) = rig.up(second, 0.0).await;
    assert_eq!(mark(&batch, "requests_total"), Some(Mark::Stale));
    assert_eq!(value(&batch, "scrape_samples_scraped"), Some(0.0));
    let (still, batch) = rig.up(down + 1, 0.0).await;
    assert_eq!(mark(&batch, "running"), Some(Mark::Absent));
    let failing = |cause| {
        let line = format!("inferometer_target_failing{{cause=\"{cause}\",component=\"receiver",);
        let text = rig.telemetry.text();
        let mut lines = text.lines().filter(|text| text.starts_with(&line));
        lines.next().is_some_and(|line| line.ends_with("/metrics\"} 1"))
    };
    assert!(failing("status"));
    server.set(|script| script.body = b"running three\n".to_vec());
    server.set(|script| script.status = 200);
    let malformed = async {
        while rig.scrapes("malformed") == 0 {
            rig.batch(rig.batches().len(), |_| true).await;
        }
    };
    timeout(PATIENCE, malformed).await.expect("it fails otherwise");
    let (broken, _) = rig.up(rig.batches().len(), 0.0).await;
    assert!(!failing("status") && failing("malformed"), "the cause is the last one");
    server.body(PAGE);
    let (_, batch) = rig.up(broken.max(still), 1.0).await;
    assert_eq!(value(&batch, "running"), Some(3.0));
    assert!(!rig.telemetry.text().contains("target_failing"), "gone with the failure");

    assert!(rig.scrapes("success") >= 3 && rig.scrapes("status") >= 2);
    let sources: Vec<_> = rig.batches().iter().map(|batch| batch.source).collect();
    assert!(sources.iter().all(|source| *source == sources[0]));
    assert!(
        rig.stop().await.iter().all(|batch| !batch.ended),
        "a restarted agent goes on with the same series"
    );
}

#[tokio::test]
async fn samples_that_are_repeated_or_incomplete_are_not_handed_over() {
    let page =
        "# TYPE h histogram\nh_sum 3\n# TYPE running gauge\nrunning 3\nrunning 4\nwaiting 1\n";
    let server = Server::start(page).await;
    let rig = run(&config(&server, "")).await;
    let (_, batch) = rig.up(0, 1.0).await;
    assert_eq!(value(&batch, "scrape_samples_scraped"), Some(4.0));
    for name in ["scrape_samples_post_metric_relabeling", "scrape_samples_post_processing"] {
        assert_eq!(value(&batch, name), Some(2.0), "{name}");
    }
}

#[tokio::test]
async fn one_connection_for_all_scrapes() {
    let server = Server::start(PAGE).await;
    let rig = run(&config(&server, "")).await;
    rig.batch(4, |_| true).await;
    let seen = server.seen.lock().unwrap();
    assert!(seen.requests.len() >= 5);
    assert_eq!(seen.connections, 1);
}

#[tokio::test]
async fn a_restart_of_the_server_costs_the_scrapes_in_between() {
    let server = Server::start(PAGE).await;
    let rig = run(&config(&server, "")).await;
    let (first, _) = rig.up(0, 1.0).await;
    let address = server.close().await;
    let (down, _) = rig.up(first, 0.0).await;
    assert!(rig.scrapes("refused") > 0);
    let server = Server::at(address, "running 4\n").await;
    let (_, batch) = rig.up(down, 1.0).await;
    assert_eq!(value(&batch, "running"), Some(4.0));
    assert!(server.requests() > 0);
}

#[tokio::test]
async fn a_slow_target_delays_nobody() {
    let (slow, quick) = (Server::start(PAGE).await, Server::start(PAGE).await);
    slow.set(|script| script.delay = Duration::from_secs(3600));
    let toml = format!(
        "targets = [\"{}\", \"{}\"]\ninterval = \"2s\"\ntimeout = \"1s\"",
        slow.address, quick.address
    );
    let rig = run(&toml).await;
    let of = |server: &Server| {
        let instance = format!("instance={} ", server.address);
        move |batch: &Batch| labels(batch, "up").contains(&instance)
    };
    let (of_slow, of_quick) = (of(&slow), of(&quick));
    let (_, batch) = rig.batch(0, |batch| of_slow(batch)).await;
    assert_eq!(value(&batch, "up"), Some(0.0));
    let took = value(&batch, "scrape_duration_seconds").unwrap();
    assert!((0.99..10.0).contains(&took), "{took}");
    assert!(rig.scrapes("timeout") > 0);
    let (_, batch) = rig.batch(0, |batch| of_quick(batch)).await;
    assert_eq!(value(&batch, "up"), Some(1.0));
    assert!(value(&batch, "scrape_duration_seconds").unwrap() < 0.9);
}

#[tokio::test]
async fn pages_over_the_limit_and_without_end() {
    let (large, endless) =
        (Server::start(&"running 1\n".repeat(1000)).await, Server::endless().await);
    for server in [&large, &endless] {
        let rig = run(&config(server, "interval = \"1s\"\nbody_size_limit = \"4KiB\"").replacen(
            "interval = \"200ms\"\n",
            "",
            1,
        ))
        .await;
        rig.up(0, 0.0).await;
        assert_eq!(rig.scrapes("too_large"), 1);
    }
    large.body("running 1\n");
    let rig = run(&config(&large, "body_size_limit = \"4KiB\"")).await;
    rig.up(0, 1.0).await;
}

#[tokio::test]
async fn compressed_pages_are_understood_and_asked_for_on_request() {
    let server = Server::start("").await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(PAGE.as_bytes()).unwrap();
    let packed = gzip.finish().unwrap();
    server.set(|script| {
        script.body = packed;
        script.headers.push(("content-encoding", "gzip".to_owned()));
    });
    for (setting, expected) in [("", "identity"), ("enable_compression = true", "zstd, gzip")] {
        let before = server.requests();
        let rig = run(&config(&server, setting)).await;
        let (_, batch) = rig.up(0, 1.0).await;
        assert_eq!(value(&batch, "requests_total"), Some(7.0));
        assert_eq!(server.seen.lock().unwrap().requests[before].1["accept-encoding"], expected);
    }
    let bomb = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&vec![b'#'; 8 << 20]).unwrap();
        gzip.finish().unwrap()
    };
    server.set(|script| script.body = bomb);
    let rig = run(&config(&server, "body_size_limit = \"1MiB\"")).await;
    rig.up(0, 0.0).await;
    assert!(rig.scrapes("too_large") > 0);
}

#[tokio::test]
async fn what_is_asked() {
    let server = Server::start(PAGE).await;
    let toml = config(
        &server,
        "timeout = \"150ms\"\nbearer_token = \"s3cret\"\nheaders = { X-Team = \"a\" }\nmetrics_path = \"/m\"\nparams = { q = [\"a b\", \"c\"] }\n\
         scrape_protocols = [\"OpenMetricsText1.0.0\", \"text\"]\nnative_histograms = true",
    );
    let rig = run(&toml).await;
    rig.up(0, 1.0).await;
    let seen = server.seen.lock().unwrap();
    let (uri, headers) = &seen.requests[0];
    assert_eq!(uri, "/m?q=a%20b&q=c");
    assert_eq!(headers["authorization"], "Bearer s3cret");
    assert_eq!(headers["x-team"], "a");
    assert_eq!(headers["x-prometheus-scrape-timeout-seconds"], "0.15");
    assert_eq!(
        headers["accept"],
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
         application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
    );
}

#[tokio::test]
async fn labels_that_clash() {
    let server = Server::start("running{job=\"page\",a=\"b\"} 1\n").await;
    let rig = run(&config(&server, "")).await;
    let (_, batch) = rig.up(0, 1.0).await;
    let instance = format!("instance={}", server.address);
    assert_eq!(labels(&batch, "running"), format!("a=b exported_job=page {instance} job=engines"));
    let rig = run(&config(&server, "honor_labels = true")).await;
    let (_, batch) = rig.up(0, 1.0).await;
    assert_eq!(labels(&batch, "running"), format!("a=b {instance} job=page"));
}

#[tokio::test]
async fn what_is_no_page_of_metrics() {
    let server = Server::start("").await;
    let cases: [(Option<&str>, &str, &str, &str); 6] = [
        (Some("text/html"), "<html>", "", "not_metrics"),
        (Some("text/plain"), "<!doctype html>", "", "not_metrics"),
        (None, PAGE, "", "success"),
        (Some("application/openmetrics-text; version=1.0.0"), PAGE, "", "malformed"),
        (Some("text/plain"), "running 1\nrunning{ 2\n", "", "malformed"),
        (Some("text/plain"), PAGE, "sample_limit = 1", "limit"),
    ];
    for (content_type, body, settings, outcome) in cases {
        server.body(body);
        server.set(|script| {
            script.headers =
                content_type.map(|text| ("content-type", text.to_owned())).into_iter().collect();
        });
        let rig = run(&config(&server, settings)).await;
        rig.up(0, f64::from(u8::from(outcome == "success"))).await;
        assert!(rig.scrapes(outcome) > 0, "{content_type:?} {body:?}");
    }
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_scrape() {
    let server = Server::start(PAGE).await;
    server.set(|script| script.delay = Duration::from_secs(3600));
    let rig = run(&config(&server, "interval = \"1h\"\ntimeout = \"1h\"").replacen(
        "interval = \"200ms\"\n",
        "",
        1,
    ))
    .await;
    while server.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(rig.stop().await.is_empty());
}

#[tokio::test]
async fn a_pipeline_that_is_full_gets_the_newest_scrape_and_every_stale_mark() {
    let server = Server::start(PAGE).await;
    let rig = run(&config(&server, "")).await;
    let (first, _) = rig.up(0, 1.0).await;
    *rig.sink.refuse.lock().unwrap() =
        Some(ConsumeError::Full { after: Duration::from_millis(10) });
    server.set(|script| script.status = 500);
    let before = server.requests();
    while server.requests() < before + 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused_from = rig.batches().len();
    *rig.sink.refuse.lock().unwrap() = None;
    let (_, batch) = rig.batch(refused_from.max(first), |_| true).await;
    assert_eq!(value(&batch, "up"), Some(0.0));
    assert_eq!(
        mark(&batch, "running"),
        Some(Mark::Stale),
        "said again, because nobody has heard it"
    );
}

#[tokio::test]
async fn a_panic_ends_the_series_and_the_target_goes_on() {
    let server = Server::start(PAGE).await;
    let rig = run(&config(&server, "")).await;
    let (first, old) = rig.up(0, 1.0).await;
    rig.sink.panics.store(1, Ordering::Relaxed);
    let (ended, end) = rig.batch(first, |batch| batch.ended).await;
    assert_eq!(end.source, old.source);
    let (_, new) = rig.up(ended, 1.0).await;
    assert_ne!(new.source, old.source);
    assert_eq!(rig.telemetry.counter(&table::COMPONENT_PANICS, &[]).get(), 1);
}

#[tokio::test]
async fn engines_of_every_release() {
    let engines =
        Release::ALL.iter().map(|release| EngineSpec::new(release.version(), *release)).collect();
    let fleet = Fleet::start(FleetSpec::new(engines)).await.unwrap();
    fleet.advance(Duration::from_secs(60));
    let addresses: Vec<String> = fleet.addresses().iter().map(ToString::to_string).collect();
    let rig = run(&format!("targets = {addresses:?}\ninterval = \"100ms\"")).await;
    for address in &addresses {
        let (_, batch) = rig
            .batch(0, |batch| {
                value(batch, "up") == Some(1.0) && labels(batch, "up").contains(address.as_str())
            })
            .await;
        assert!(value(&batch, "scrape_samples_scraped").unwrap() > 50.0);
        let engine_series = batch.shape.iter().filter(|series| {
            series.metric.name.starts_with("vllm:") || series.metric.name.starts_with("sglang:")
        });
        assert!(engine_series.count() > 10);
        assert!(find(&batch, "up").is_some());
    }
    rig.batch(30, |_| true).await;
    let pages = |path| rig.telemetry.counter(&table::SCRAPE_PAGES, &[("path", path)]).get();
    assert!(pages("cached") > pages("full"), "{} cached, {} full", pages("cached"), pages("full"));
}
