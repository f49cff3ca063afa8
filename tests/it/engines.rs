//! Engines through the whole pipeline: what is found, upgraded, restarted and lost.

use std::collections::BTreeSet;

use simulator::{EngineSpec, FleetSpec, Identity, Load, Release};
use testkit::{samples, value};

use crate::agent::{Agent, Engines, config};

fn spec(name: &str, release: Release) -> EngineSpec {
    EngineSpec {
        load: Load::steady(4.0),
        identity: Identity {
            deployment_id: "dep1".to_owned(),
            replica: "abcde".to_owned(),
            ..Identity::default()
        },
        ..EngineSpec::new(name, release)
    }
}

fn agent_on(engines: &Engines) -> Agent {
    let address = engines.address(0);
    Agent::start(&config(&format!(
        "[[receivers.engines.static]]\ntargets = [\"{address}\"]\nlabels = {{ deployment_id = \"dep1\", replica = \"abcde\", model_name = \"mine\" }}\n"
    )))
}

#[test]
fn an_engine_on_this_host_is_found_without_configuration() {
    let engines = Engines::start(FleetSpec::new(vec![spec("found", Release::Vllm0_33_0)]));
    engines.advance(60);
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/configs/default.toml"))
            .unwrap();
    let port = engines.fleet.address(0).port();
    let text = text
        .replace("discover = \"local\"", &format!("discover = \"local\"\ninterval = \"200ms\"\n[receivers.engines.local]\nports = [{port}]"))
        .replace("when_taken = \"skip\"", "grpc = { listen = \"127.0.0.1:0\" }\nhttp = { listen = \"127.0.0.1:0\" }")
        .replace("[exporters.prometheus]", "[exporters.prometheus]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[service]\ndata_dir = \"data\"");
    let agent = Agent::start(&text);
    let address = engines.address(0);
    let page = agent.page_when("the engine on the exposition", |page| {
        page.contains("vllm:num_requests_running")
    });
    assert_eq!(value(&page, "up", &[("instance", &address)]), Some(1.0));
    let truth = engines.fleet.truth(0);
    let tokens = value(&page, "vllm:generation_tokens_total", &[]).unwrap();
    assert_eq!(tokens, truth.generation_tokens as f64);
    let own = agent.telemetry();
    assert!(own.contains("engine=\"vllm\""), "the verdict is told");
    assert!(value(&own, "inferometer_scrape_layouts", &[]).is_some());
}

/// Names that a dashboard would ask for, which must not change their series while engines are upgraded below.
fn upgraded(from: Release, to: Release, expected: &[&str]) {
    let engines = Engines::start(FleetSpec::new(vec![spec("upgraded", from)]));
    engines.advance(60);
    let agent = agent_on(&engines);
    let series_of = |page: &str, name: &str| -> BTreeSet<String> {
        samples(page)
            .into_iter()
            .filter(|s| s.name == name)
            .map(|s| format!("{:?}", s.labels))
            .collect()
    };
    let old = agent.page_when("the old engine", |page| value(page, "up", &[]) == Some(1.0));
    engines.fleet.upgrade(0, to);
    engines.advance(30);
    let version = format!(
        "engine_version=\"{}",
        to.version().split('.').take(2).collect::<Vec<_>>().join(".")
    );
    testkit::wait_until("the new engine recognised", crate::agent::PATIENCE, || {
        agent.telemetry().contains(&version).then_some(())
    });
    let new = agent.page_when("the new engine", |page| value(page, "up", &[]) == Some(1.0));
    for name in expected {
        let (before, after) = (series_of(&old, name), series_of(&new, name));
        assert_eq!(before.len(), 1, "{name} before the upgrade: {before:?}");
        assert_eq!(before, after, "{name} is one unbroken series");
    }
}

#[test]
fn one_unbroken_series_through_a_vllm_upgrade() {
    upgraded(
        Release::Vllm0_6_3Post1,
        Release::Vllm0_33_0,
        &[
            "vllm:num_requests_running",
            "vllm:num_requests_waiting",
            "vllm:kv_cache_usage_perc",
            "vllm:prompt_tokens_total",
            "vllm:generation_tokens_total",
            "vllm:inter_token_latency_seconds_count",
            "vllm:time_to_first_token_seconds_sum",
            "vllm:e2e_request_latency_seconds_count",
        ],
    );
}

#[test]
fn one_unbroken_series_through_an_sglang_upgrade() {
    upgraded(
        Release::Sglang0_4_10Post2,
        Release::Sglang0_5_23,
        &[
            "sglang:num_running_reqs",
            "sglang:num_queue_reqs",
            "sglang:token_usage",
            "sglang:prompt_tokens_total",
            "sglang:generation_tokens_total",
            "sglang:time_to_first_token_seconds_count",
            "sglang:e2e_request_latency_seconds_count",
        ],
    );
}

#[test]
fn engine_series_carry_exactly_deployment_and_replica() {
    let engines = Engines::start(FleetSpec::new(vec![spec("exact", Release::Sglang0_5_23)]));
    engines.advance(60);
    let agent = agent_on(&engines);
    let page = agent.page_when("the engine", |page| page.contains("sglang:num_running_reqs"));
    for name in ["sglang:num_running_reqs", "sglang:token_usage", "sglang:prompt_tokens_total"] {
        let found: Vec<_> =
            samples(&page).into_iter().filter(|sample| sample.name == name).collect();
        let labels: Vec<&str> = found[0].labels.keys().map(String::as_str).collect();
        assert_eq!((found.len(), labels), (1, vec!["deployment_id", "replica"]), "{name}");
    }
}

#[test]
fn data_parallel_engines_are_one_replica() {
    let two = EngineSpec { data_parallel: 2, ..spec("dp2", Release::Vllm0_33_0) };
    let engines = Engines::start(FleetSpec::new(vec![two]));
    engines.advance(90);
    let agent = agent_on(&engines);
    let truth = engines.fleet.truth(0);
    let page = agent.page_when("the sum of both", |page| {
        value(page, "vllm:prompt_tokens_total", &[]) == Some(truth.prompt_tokens as f64)
    });
    assert!(!page.contains("engine=\"0\""), "ranks are folded");
    assert!(
        value(&page, "vllm:kv_cache_usage_perc", &[])
            .is_some_and(|ratio| (0.0..=1.0).contains(&ratio))
    );
}

#[test]
fn a_lost_engine_leaves_up_0_and_nothing_stale() {
    let engines = Engines::start(FleetSpec::new(vec![spec("lost", Release::Vllm0_33_0)]));
    engines.advance(30);
    let agent = agent_on(&engines);
    agent.page_when("the engine", |page| page.contains("vllm:num_requests_running"));
    engines.runtime.block_on(engines.fleet.stop(0));
    let page = agent.page_when("up is 0", |page| value(page, "up", &[]) == Some(0.0));
    assert!(!page.contains("vllm:"), "stale series vanish:\n{page}");
    engines.runtime.block_on(engines.fleet.start_engine(0));
    engines.advance(10);
    agent.page_when("it is back", |page| {
        value(page, "up", &[]) == Some(1.0) && page.contains("vllm:num_requests_running")
    });
}
