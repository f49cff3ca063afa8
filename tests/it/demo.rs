//! `inferometer demo`, as a newcomer types it.

use std::collections::BTreeSet;

use pipeline_model::{CONTRACT, Contract};
use simulator::demo_fleet;
use testkit::{Binary, get, samples, value, wait_until};

use crate::agent::{BINARY, PATIENCE};

#[test]
fn the_demo_shows_three_engines_under_one_vocabulary() {
    let args =
        ["demo", "--listen", "127.0.0.1:0", "--set", "admin.listen=127.0.0.1:0", "--speed", "20"];
    let mut binary = Binary::start(BINARY, &args, None);
    let address = binary.address_of("exporters.prometheus");
    let page = wait_until("all three engines on the exposition", PATIENCE, || {
        let page = get(&address, "/metrics")?.body;
        let up: Vec<f64> =
            samples(&page).into_iter().filter(|s| s.name == "up").map(|s| s.value).collect();
        (up == [1.0, 1.0, 1.0]).then_some(page)
    });
    for deployment in ["simulated-llama-8b-v1", "simulated-llama-8b-v2"] {
        let labels = [("deployment_id", deployment)];
        assert!(
            value(&page, "vllm:kv_cache_usage_perc", &labels).is_some(),
            "{deployment}:\n{page}"
        );
        assert!(
            value(&page, "vllm:prompt_tokens_total", &labels).is_some_and(|tokens| tokens > 0.0),
            "{deployment}"
        );
    }
    assert!(
        value(&page, "sglang:num_running_reqs", &[("deployment_id", "simulated-qwen-32b-v1")])
            .is_some()
    );
    assert!(!page.contains("vllm:gpu_cache_usage_perc"), "old names are gone");
    let admin = binary.address_of("component=admin");
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(get(&admin, path).unwrap().status, 200, "{path}");
    }
    assert_eq!(get(&admin, "/nothing").unwrap().status, 404);
    let own = get(&admin, "/metrics").unwrap().body;
    let points = |direction: &str| {
        value(&own, "inferometer_pipeline_points_total", &[("direction", direction)]).unwrap()
    };
    let taken = [("component", "receivers.engines"), ("outcome", "accepted")];
    let delivered = [("component", "exporters.prometheus"), ("outcome", "delivered")];
    assert!(value(&own, "inferometer_receiver_points_total", &taken).unwrap() > 0.0);
    assert!(value(&own, "inferometer_exporter_points_total", &delivered).unwrap() <= points("out"));
    let (status, log) = binary.stop();
    assert!(status.success(), "{log}");
    assert!(!log.contains("level=error"), "{log}");
}

#[test]
fn the_demo_shows_every_llm_metric() {
    let args =
        ["demo", "--listen", "127.0.0.1:0", "--set", "admin.listen=127.0.0.1:0", "--speed", "20"];
    let mut binary = Binary::start(BINARY, &args, None);
    let address = binary.address_of("exporters.prometheus");
    let contract = Contract::default();
    let wanted: Vec<String> = CONTRACT
        .iter()
        .filter(|metric| metric.name.starts_with("llm_"))
        .map(|metric| contract.name(metric))
        .collect();
    assert_eq!(wanted.len(), 11);
    // Observations beyond the first page, which is where they begin: two scrapes of each engine.
    let moved = "baseten_llm_tokens_per_second_per_request_count";
    let page = wait_until("speeds of all three engines", PATIENCE, || {
        let page = get(&address, "/metrics")?.body;
        let all = samples(&page);
        let counts = all.iter().filter(|sample| sample.name == moved && sample.value > 0.0);
        (counts.count() == 3).then_some(page)
    });
    for name in &wanted {
        assert!(page.contains(&format!("# TYPE {name} ")), "{name} is missing:\n{page}");
    }
    let hashed: Vec<_> = samples(&page)
        .into_iter()
        .filter(|sample| sample.labels.contains_key("_internal_pod_id"))
        .collect();
    let ids: BTreeSet<&str> =
        hashed.iter().map(|sample| sample.labels["_internal_pod_id"].as_str()).collect();
    assert_eq!(ids.len(), 3, "one id for each pod: {ids:?}");
    assert!(
        samples(&page)
            .iter()
            .filter(|sample| sample.name.starts_with("baseten_llm_"))
            .all(|sample| sample.labels.contains_key("_internal_pod_id"))
    );
    for pod in demo_fleet().engines.into_iter().map(|engine| engine.identity.pod_name) {
        let named =
            hashed.iter().find(|sample| sample.labels.values().any(|text| text.contains(&pod)));
        assert_eq!(named, None, "{pod} is named beside its hash");
    }
}
