//! The `llm_*` series end to end: engines that restart, are away, are upgraded, removed or made of several.

use std::collections::{BTreeMap, BTreeSet};

use pipeline_model::{CONTRACT, Contract};
use simulator::{EngineSpec, Fault, FleetSpec, Load, Release};
use testkit::{Sample, samples, value};

use crate::agent::{Agent, Engines, config};

/// The prefix of the series looked at here.
const PREFIX: &str = "baseten_llm_";
/// The raw name of the pod that the targets name.
const POD: &str = "engine-7d9f8-abcde";

fn spec(release: Release) -> EngineSpec {
    EngineSpec { load: Load::steady(4.0), seed: 3, ..EngineSpec::new("llm", release) }
}

fn engines(spec: EngineSpec) -> Engines {
    let engines = Engines::start(FleetSpec::new(vec![spec]));
    engines.advance(60);
    engines
}

fn agent_on(engines: &Engines) -> Agent {
    Agent::start(&config(&format!(
        "[[receivers.engines.static]]\ntargets = [\"{}\"]\nlabels = {{ model_id = \"m1\", model_name = \"Model One\", \
         deployment_id = \"dep1\", pod = \"{POD}\", namespace = \"prod\" }}\n",
        engines.address(0)
    )))
}

/// The value of the one series `name`, given without prefix; `None` when there is none.
fn llm(page: &str, name: &str) -> Option<f64> {
    value(page, &format!("{PREFIX}{name}"), &[])
}

fn llm_samples(page: &str) -> Vec<Sample> {
    samples(page).into_iter().filter(|sample| sample.name.starts_with(PREFIX)).collect()
}

/// The page once it shows what the engine has counted by now: nothing is in between, as simulated time stands still.
fn page_of_now(engines: &Engines, agent: &Agent) -> String {
    let truth = engines.fleet.truth(0);
    // SGLang counts a request's tokens when it ends.
    let (input, output) = match engines.fleet.spec(0).release.engine() {
        "sglang" => (truth.finished_prompt_tokens, truth.finished_generation_tokens),
        _ => (truth.prompt_tokens, truth.generation_tokens),
    };
    agent.page_when("what the engine has counted", |page| {
        llm(page, "output_tokens_total") == Some(output as f64)
            && llm(page, "input_tokens_total") == Some(input as f64)
    })
}

/// Every series is of the contract, there once, under its own labels and no raw pod name; numbers are numbers, none is
/// negative, buckets ascend to the count.
fn assert_sound(page: &str) {
    let contract = Contract::default();
    let mut seen = BTreeSet::new();
    let mut buckets: BTreeMap<&str, f64> = BTreeMap::new();
    let all = llm_samples(page);
    for sample in &all {
        let Sample { name, labels, value } = sample;
        assert!(seen.insert((name, labels)), "{name} {labels:?} is there twice");
        assert!(value.is_finite() && *value >= 0.0, "{name} is {value}");
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let row = contract.find(name).or_else(|| contract.find(base?));
        assert!(row.is_some(), "{name} is not of the contract");
        let row = row.unwrap();
        let expected: BTreeSet<&str> = row.required_names().collect();
        let own: BTreeSet<&str> =
            labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
        assert_eq!(own, expected, "labels of {name}");
        assert!(!labels.values().any(|text| text.contains(POD)), "{name} names its pod");
        if name.ends_with("_bucket") {
            let before = buckets.insert(base.unwrap_or(name), *value).unwrap_or_default();
            assert!(*value >= before, "{name} {labels:?} falls from {before} to {value}");
        }
    }
    for (name, last) in buckets {
        let count = all.iter().find(|sample| sample.name == format!("{name}_count"));
        assert_eq!(count.map(|sample| sample.value), Some(last), "count of {name}");
    }
}

/// Names and labels of the series that are there whatever the release: buckets are the engine's own.
fn identities(page: &str) -> BTreeSet<(String, BTreeMap<String, String>)> {
    llm_samples(page)
        .into_iter()
        .filter(|sample| !sample.name.ends_with("_bucket"))
        .map(|sample| (sample.name, sample.labels))
        .collect()
}

/// The engine starts anew between pages: no total is lost or counted twice, and what is counted here goes on.
fn restarted(spec: EngineSpec) {
    let engines = engines(spec);
    let agent = agent_on(&engines);
    let first = page_of_now(&engines, &agent);
    assert_eq!(llm(&first, "tokens_per_second_per_request_count"), Some(0.0), "no false delta");
    assert_eq!(llm(&first, "kv_cache_hit_rate_count"), Some(0.0));
    let finished =
        |engines: &Engines| engines.fleet.with_engine(0, |engine| engine.lifetime().speed.count());
    let (before, mut speeds, mut rates) = (finished(&engines), 0.0, 0.0);
    for step in 0..8 {
        if step == 4 {
            engines.fleet.restart(0);
        }
        engines.advance(7);
        let page = page_of_now(&engines, &agent);
        assert_sound(&page);
        let truth = engines.fleet.truth(0);
        let requests = llm(&page, "output_tokens_per_request_count");
        assert_eq!(requests, Some(truth.finished_total() as f64), "step {step}");
        let (speeds_now, rates_now) = (
            llm(&page, "tokens_per_second_per_request_count").unwrap(),
            llm(&page, "kv_cache_hit_rate_count").unwrap(),
        );
        assert!(speeds_now >= speeds && rates_now >= rates, "step {step}: nothing falls");
        (speeds, rates) = (speeds_now, rates_now);
        let counted = (finished(&engines) - before) as f64;
        assert_eq!(speeds, counted, "step {step}: a speed for each request, no more");
        let workers = f64::from(engines.fleet.spec(0).data_parallel);
        assert!(
            rates <= workers * (f64::from(step) + 2.0),
            "at most one rate for each page that moved"
        );
        assert!(llm(&page, "kv_cache_hit_rate_sum").unwrap() <= rates);
        let (asked, now) = engines
            .fleet
            .with_engine(0, |engine| (engine.spec().kv_capacity_tokens, engine.reported()));
        let ranks = now.len() as u64;
        assert!(llm(&page, "in_flight_tokens").unwrap() <= (asked * ranks) as f64);
        let requests: u64 = now.iter().map(|now| now.running + now.waiting).sum();
        assert_eq!(llm(&page, "num_requests"), Some(requests as f64));
    }
    assert!(speeds > 20.0 && rates > 4.0, "{speeds} speeds, {rates} rates");
}

#[test]
fn a_restart_of_vllm_takes_nothing_back() {
    restarted(spec(Release::Vllm0_33_0));
}

/// Folded series restart with their process, as single ones do.
#[test]
fn a_restart_of_two_engines_takes_nothing_back() {
    restarted(EngineSpec { data_parallel: 2, ..spec(Release::Vllm0_33_0) });
}

/// It counts streamed requests apart from others.
#[test]
fn a_restart_of_sglang_takes_nothing_back() {
    restarted(spec(Release::Sglang0_5_23));
}

#[test]
fn a_gap_ends_the_series_and_has_no_weight() {
    let engines = engines(spec(Release::Vllm0_33_0));
    let agent = agent_on(&engines);
    let mut page = page_of_now(&engines, &agent);
    let in_flight = |page: &str| llm(page, "in_flight_tokens").unwrap();
    let mut seen = vec![in_flight(&page)];
    for fault in [Fault::Status(503), Fault::Truncated] {
        for _ in 0..3 {
            engines.advance(5);
            seen.push(in_flight(&page_of_now(&engines, &agent)));
        }
        engines.fleet.set_fault(0, fault.clone());
        let gap = agent.page_when("the gap", |page| value(page, "up", &[]) == Some(0.0));
        assert!(llm_samples(&gap).is_empty(), "{fault:?}: stale series vanish:\n{gap}");
        // What nobody sees.
        engines.advance(40);
        engines.fleet.set_fault(0, Fault::None);
        page = page_of_now(&engines, &agent);
        assert_sound(&page);
        seen.push(in_flight(&page));
    }
    let (low, high) = seen
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
    assert!(low < high, "the load moves: {seen:?}");
    let average = llm(&page, "avg_in_flight_tokens").unwrap();
    assert!((low..=high).contains(&average), "{average} of {seen:?}");
}

/// A rolling upgrade keeps the series that both releases have, and shows the new process's totals.
fn upgraded(from: Release, to: Release) {
    let engines = engines(spec(from));
    let agent = agent_on(&engines);
    let old = page_of_now(&engines, &agent);
    assert_sound(&old);
    engines.advance(10);
    let counted = llm(&page_of_now(&engines, &agent), "tokens_per_second_per_request_count");
    engines.fleet.upgrade(0, to);
    engines.advance(45);
    let new = page_of_now(&engines, &agent);
    assert_sound(&new);
    let (before, after) = (identities(&old), identities(&new));
    for name in [
        "input_tokens_total",
        "output_tokens_total",
        "input_tokens_per_request_count",
        "output_tokens_per_request_count",
        "tokens_per_second_per_request_count",
        "in_flight_tokens",
        "avg_in_flight_tokens",
        "num_requests",
    ] {
        let name = format!("{PREFIX}{name}");
        let of = |all: &BTreeSet<(String, BTreeMap<String, String>)>| -> Vec<_> {
            all.iter().filter(|(of, _)| *of == name).cloned().collect()
        };
        assert_eq!(of(&before).len(), 1, "{name} before the upgrade");
        assert_eq!(of(&before), of(&after), "{name} is one unbroken series");
    }
    let truth = engines.fleet.truth(0);
    let finished = Some(truth.finished_total() as f64);
    assert_eq!(llm(&new, "output_tokens_per_request_count"), finished);
    assert_eq!(
        llm(&new, "output_tokens_per_request_sum"),
        Some(truth.finished_generation_tokens as f64)
    );
    assert_eq!(
        llm(&new, "input_tokens_per_request_sum"),
        Some(truth.finished_prompt_tokens as f64)
    );
    assert!(counted.is_some_and(|count| count > 0.0));
}

#[test]
fn one_unbroken_series_through_a_vllm_upgrade() {
    upgraded(Release::Vllm0_6_3Post1, Release::Vllm0_33_0);
}

#[test]
fn one_unbroken_series_through_an_sglang_upgrade() {
    upgraded(Release::Sglang0_4_10Post2, Release::Sglang0_5_23);
}

#[test]
fn a_target_that_is_removed_takes_its_series_along() {
    let two = |seed| EngineSpec { seed, ..spec(Release::Vllm0_33_0) };
    let engines = Engines::start(FleetSpec::new(vec![two(1), two(2)]));
    engines.advance(60);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("targets.json");
    let write = |of: &[usize]| {
        let targets: Vec<String> = of
            .iter()
            .map(|engine| {
                let address = engines.address(*engine);
                format!(
                    r#"{{"targets": ["{address}"], "labels": {{"deployment_id": "d{engine}", "pod": "p{engine}"}}}}"#
                )
            })
            .collect();
        // Renamed into place: a half written file is never seen.
        let fresh = folder.path().join("targets.new");
        std::fs::write(&fresh, format!("[{}]", targets.join(","))).unwrap();
        std::fs::rename(fresh, &file).unwrap();
    };
    write(&[0, 1]);
    let agent = Agent::start(&config(&format!(
        "[receivers.engines.file_sd]\nfiles = [{file:?}]\nrefresh = \"200ms\"\n"
    )));
    let of = |page: &str, deployment: &str| {
        let all = llm_samples(page);
        all.iter().filter(|sample| sample.labels["deployment_id"] == deployment).count()
    };
    let page = agent.page_when("both engines", |page| of(page, "d0") > 0 && of(page, "d1") > 0);
    let per_pod = of(&page, "d0");
    assert_eq!(per_pod, of(&page, "d1"));
    engines.runtime.block_on(engines.fleet.stop(1));
    write(&[0]);
    let page =
        agent.page_when("one engine", |page| of(page, "d1") == 0 && !page.contains("\"d1\""));
    assert_eq!(of(&page, "d0"), per_pod, "the other stays whole");
}

#[test]
fn two_data_parallel_engines_are_added_up() {
    let two = EngineSpec { data_parallel: 2, ..spec(Release::Vllm0_33_0) };
    let engines = engines(two);
    let agent = agent_on(&engines);
    for _ in 0..3 {
        engines.advance(5);
        let page = page_of_now(&engines, &agent);
        assert_sound(&page);
        let reported = engines.fleet.with_engine(0, |engine| engine.reported());
        assert_eq!(reported.len(), 2);
        let requests: u64 = reported.iter().map(|rank| rank.running + rank.waiting).sum();
        assert_eq!(llm(&page, "num_requests"), Some(requests as f64));
        let used: u64 = reported.iter().map(|rank| rank.kv_used_tokens).sum();
        let shown = llm(&page, "in_flight_tokens").unwrap();
        assert!(
            (shown - used as f64).abs() <= used as f64 * 1e-6,
            "{shown} shown, {used} used: {reported:?}"
        );
    }
    let page = agent.page();
    let names: BTreeSet<String> = identities(&page).into_iter().map(|(name, _)| name).collect();
    let of_llm = CONTRACT.iter().filter(|metric| metric.name.starts_with("llm_")).count();
    assert!(names.len() >= of_llm - 2, "all but speculation: {names:?}");
}
