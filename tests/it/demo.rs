//! `inferometer demo`, as a newcomer types it.

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
