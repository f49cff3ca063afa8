//! Genuine third parties: Debian's Prometheus scrapes the exposition, promtool judges it, Python's client library is
//! scraped.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use simulator::{EngineSpec, FleetSpec, Load, Release};
use testkit::{Child, Sample, get, part, python_with, samples, value, wait_until};

use crate::agent::{Agent, Engines, PATIENCE, config};

fn engines() -> Engines {
    let spec = |name: &str, release, data_parallel, tensor_parallel| EngineSpec {
        load: Load::steady(3.0),
        data_parallel,
        tensor_parallel,
        ..EngineSpec::new(name, release)
    };
    let engines = Engines::start(FleetSpec::new(vec![
        spec("old", Release::Vllm0_6_3Post1, 1, 1),
        spec("new", Release::Vllm0_33_0, 2, 1),
        spec("sglang", Release::Sglang0_5_23, 1, 2),
    ]));
    // Time stands still afterwards, so that every reader sees the same values.
    engines.advance(120);
    engines
}

fn agent_on(engines: &Engines) -> Agent {
    let statics: String = (0..engines.fleet.len())
        .map(|engine| {
            format!(
                "[[receivers.engines.static]]\ntargets = [\"{}\"]\nlabels = {{ deployment_id = \"d{engine}\", replica = \"r{engine}\" }}\n",
                engines.address(engine)
            )
        })
        .collect();
    let agent = Agent::start(&config(&statics));
    agent.page_when("all engines", |page| {
        samples(page).iter().filter(|s| s.name == "up" && s.value == 1.0).count()
            == engines.fleet.len()
    });
    agent
}

#[test]
fn promtool_finds_nothing_in_the_exposition() {
    let Some(promtool) = part("promtool") else { return };
    let engines = engines();
    let agent = agent_on(&engines);
    let page = agent.page();
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), page.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    // Lint about names is about the engines' names, which are theirs; anything else is about us.
    let about_us: Vec<&str> = said
        .lines()
        .filter(|line| {
            !line.is_empty()
                && !["vllm:", "sglang:", "http_", "process_"].iter().any(|own| line.contains(own))
        })
        .collect();
    assert!(about_us.is_empty(), "{}", about_us.join("\n"));
    assert_ne!(out.status.code(), Some(1), "the page parses: {said}");
}

/// A Prometheus that scrapes `target`, started with `args` and configured with `more` as well.
pub(crate) fn prometheus(
    program: &std::path::Path,
    target: &str,
    args: &[&str],
    more: &str,
) -> (Child, String, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n- job_name: inferometer\n  honor_labels: true\n  static_configs: [{{targets: ['{target}']}}]\n{more}"
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let mut command = Command::new(program);
    command
        .current_dir(dir.path())
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=error"])
        .arg(format!("--web.listen-address={address}"))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = Child(command.spawn().unwrap());
    wait_until("Prometheus is ready", Duration::from_secs(60), || {
        get(&address, "/-/ready").filter(|answer| answer.status == 200)
    });
    (child, address, dir)
}

/// Every series that Prometheus has now, but its own about the scrape.
pub(crate) fn stored(address: &str) -> Vec<Sample> {
    let query = "/api/v1/query?query=%7B__name__%3D~%22.%2B%22%7D";
    let answer = get(address, query).expect("Prometheus answers");
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    json["data"]["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|series| {
            let mut labels: BTreeMap<String, String> =
                serde_json::from_value(series["metric"].clone()).unwrap();
            let name = labels.remove("__name__").unwrap();
            let value = series["value"][1].as_str().map_or(f64::NAN, |text| text.parse().unwrap());
            Sample { name, labels, value }
        })
        .collect()
}

#[test]
fn prometheus_reads_the_values_that_the_fleet_has() {
    let Some(program) = part("prometheus") else { return };
    let engines = engines();
    let agent = agent_on(&engines);
    let (_child, address, _dir) = prometheus(&program, &agent.exposition, &[], "");
    let page = agent.page();
    let expected: Vec<Sample> =
        samples(&page).into_iter().filter(|s| s.name.contains(':')).collect();
    assert!(expected.len() > 500, "{}", expected.len());
    wait_until("every sample of the page, as it is", PATIENCE, || {
        let stored = stored(&address);
        let key = |s: &Sample| {
            let mut labels = s.labels.clone();
            labels.retain(|name, _| !["job", "instance"].contains(&name.as_str()));
            // OpenMetrics and text write bounds differently ("1.0" and "1"): one number.
            for name in ["le", "quantile"] {
                if let Some(value) = labels.get_mut(name) {
                    *value = value.parse::<f64>().unwrap().to_string();
                }
            }
            format!("{}{labels:?}", s.name)
        };
        let stored: BTreeMap<String, f64> = stored.iter().map(|s| (key(s), s.value)).collect();
        let missing = expected.iter().find(|s| {
            let found = stored.get(&key(s));
            found.is_none_or(|found| {
                found.to_bits() != s.value.to_bits() && !(found.is_nan() && s.value.is_nan())
            })
        });
        missing.is_none().then_some(())
    });
    let truth = engines.fleet.truth(1);
    let stored = stored(&address);
    let tokens = stored.iter().find(|s| {
        s.name == "vllm:prompt_tokens_total"
            && s.labels.get("deployment_id").is_some_and(|d| d == "d1")
    });
    assert_eq!(
        tokens.unwrap().value,
        truth.prompt_tokens as f64,
        "both data-parallel engines together"
    );
}

#[test]
fn prometheus_reads_the_protobuf_format() {
    let Some(program) = part("prometheus") else { return };
    let engines = engines();
    let agent = agent_on(&engines);
    // With native histograms on, Prometheus asks for protobuf first.
    let (_child, address, _dir) =
        prometheus(&program, &agent.exposition, &["--enable-feature=native-histograms"], "");
    let truth = engines.fleet.truth(1);
    wait_until("values through protobuf", PATIENCE, || {
        let stored = stored(&address);
        let of = |name: &str| {
            stored
                .iter()
                .find(|s| {
                    s.name == name && s.labels.get("deployment_id").is_some_and(|d| d == "d1")
                })
                .map(|s| s.value)
        };
        (of("vllm:prompt_tokens_total") == Some(truth.prompt_tokens as f64)
            && of("vllm:e2e_request_latency_seconds_count").is_some_and(|count| count > 0.0))
        .then_some(())
    });
}

#[test]
fn a_page_of_pythons_client_library_is_read_whole() {
    let Some(python) = python_with("prometheus_client") else { return };
    let script = "
import sys, time
from prometheus_client import start_http_server, Counter, Gauge, Histogram, Summary, Info, Enum
Counter('jobs', 'Jobs done', ['kind']).labels('a\"b\\\\c\\nd').inc(3)
Gauge('temperature', 'Degrees').set(-2.5)
Histogram('latency_seconds', 'Latency', buckets=(0.1, 1, 10)).observe(0.5)
Summary('size_bytes', 'Size').observe(12)
Info('build', 'Build').info({'version': '1.2'})
Enum('state', 'State', states=['on', 'off']).state('off')
server, _ = start_http_server(0, addr='127.0.0.1')
print(server.server_port, flush=True)
sys.stdin.read()
";
    let mut child = Command::new(python)
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.take().unwrap()),
        &mut port,
    )
    .unwrap();
    let _child = Child(child);
    for protocols in ["\"PrometheusText0.0.4\"", "\"OpenMetricsText1.0.0\""] {
        let receiver = format!(
            "targets = [\"127.0.0.1:{}\"]\nscrape_protocols = [{protocols}]\n",
            port.trim()
        );
        let agent = Agent::start(&config(&receiver));
        let page = agent.page_when("the page", |page| value(page, "up", &[]) == Some(1.0));
        assert_eq!(value(&page, "jobs_total", &[("kind", "a\"b\\c\nd")]), Some(3.0), "{page}");
        assert_eq!(value(&page, "temperature", &[]), Some(-2.5));
        assert_eq!(
            value(&page, "latency_seconds_bucket", &[("le", "1")]).or_else(|| value(
                &page,
                "latency_seconds_bucket",
                &[("le", "1.0")]
            )),
            Some(1.0)
        );
        assert_eq!(value(&page, "latency_seconds_count", &[]), Some(1.0));
        assert_eq!(value(&page, "size_bytes_sum", &[]), Some(12.0));
        assert_eq!(value(&page, "build_info", &[("version", "1.2")]), Some(1.0));
        assert_eq!(value(&page, "state", &[("state", "off")]), Some(1.0));
        let open_metrics = agent.page_as("application/openmetrics-text;version=1.0.0");
        assert!(
            open_metrics
                .header("content-type")
                .unwrap()
                .contains("openmetrics-text; version=1.0.0")
        );
        assert!(open_metrics.body.ends_with("# EOF\n"));
        assert!(open_metrics.body.contains("# TYPE jobs counter\n"));
    }
}
