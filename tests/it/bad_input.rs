//! Bad input from end to end: one clear error or counter each, everything else goes on.

use simulator::{EngineSpec, Fault, FleetSpec, Load, Release};
use testkit::{get_with, value, wait_until};

use crate::agent::{Agent, Engines, PATIENCE, config};
use crate::conformance::serve;

fn engines(count: usize) -> Engines {
    let spec = |n: usize| EngineSpec {
        load: Load::steady(2.0),
        seed: n as u64 + 1,
        ..EngineSpec::new(&format!("engine{n}"), Release::Vllm0_33_0)
    };
    let engines = Engines::start(FleetSpec::new((0..count).map(spec).collect()));
    engines.advance(20);
    engines
}

fn targets(addresses: &[String]) -> String {
    format!("targets = {addresses:?}\nbody_size_limit = \"2MiB\"\n")
}

#[test]
fn one_bad_target_costs_only_itself() {
    let engines = engines(2);
    let (bad, good) = (engines.address(0), engines.address(1));
    let agent = Agent::start(&config(&targets(&[bad.clone(), good.clone()])));
    let up = |page: &str, instance: &str| value(page, "up", &[("instance", instance)]);
    for fault in [
        Fault::Truncated,
        Fault::Garbage,
        Fault::Endless,
        Fault::Status(503),
        Fault::Slow(PATIENCE),
    ] {
        agent.page_when("both up", |page| {
            up(page, &bad) == Some(1.0) && up(page, &good) == Some(1.0)
        });
        engines.fleet.set_fault(0, fault.clone());
        let page =
            agent.page_when(&format!("{fault:?} makes up 0"), |page| up(page, &bad) == Some(0.0));
        assert_eq!(up(&page, &good), Some(1.0), "{fault:?}");
        engines.fleet.set_fault(0, Fault::None);
    }
    agent.page_when("it comes back", |page| up(page, &bad) == Some(1.0));
    let (status, log) = agent.binary.stop();
    assert!(status.success(), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_malformed_page_names_the_line() {
    let bad = serve("# TYPE a gauge\na 1\na{b=\"c} 2\n".to_owned());
    let mut agent = Agent::start(&config(&targets(&[bad])));
    let line = agent.binary.line_with(&["level=warn", "line 3"]);
    assert!(line.contains("target=http://") && line.contains("help="), "{line}");
    agent.page_when("up is 0", |page| value(page, "up", &[]) == Some(0.0));
}

#[test]
fn a_label_explosion_is_held_by_the_limit() {
    let page: String = (0..5000).map(|n| format!("x{{user=\"{n}\"}} 1\n")).collect();
    let address = serve(format!("# TYPE x gauge\n{page}"));
    let receiver = format!("{}sample_limit = 1000\n", targets(&[address]));
    let mut agent = Agent::start(&config(&receiver));
    agent.binary.line_with(&["level=warn", "1000"]);
    let page = agent.page_when("up is 0", |page| value(page, "up", &[]) == Some(0.0));
    assert!(!page.contains("x{"), "{page}");
}

#[test]
fn a_wrong_token_gets_401_and_a_right_one_its_models() {
    let page = "# TYPE baseten_replicas_active gauge\nbaseten_replicas_active{model_id=\"a\"} 1\n\
        baseten_replicas_active{model_id=\"b\"} 2\n";
    let address = serve(page.to_owned());
    let config = config(&format!("{}honor_labels = true\n", targets(&[address]))).replace(
        "[pipelines.metrics]",
        "[[exporters.prometheus.tokens]]\ntoken = \"everything\"\n[[exporters.prometheus.tokens]]\n\
         token = \"only-a\"\nmodel_ids = [\"a\"]\n[pipelines.metrics]",
    );
    let agent = Agent::start(&config);
    let read = |header: &str| {
        get_with(&agent.exposition, "/metrics", &[("Authorization", header)]).unwrap()
    };
    for wrong in ["", "Bearer wrong", "Basic everything", "Bearer "] {
        assert_eq!(read(wrong).status, 401, "{wrong:?}");
    }
    for right in ["Bearer everything", "Api-Key everything", "Bearer Api-Key everything"] {
        wait_until("both models", PATIENCE, || {
            let answer = read(right);
            assert_eq!(answer.status, 200, "{right}");
            let both = ["a", "b"].map(|model| {
                value(&answer.body, "baseten_replicas_active", &[("model_id", model)])
            });
            (both == [Some(1.0), Some(2.0)]).then_some(())
        });
    }
    let only = read("Bearer only-a").body;
    assert_eq!(value(&only, "baseten_replicas_active", &[("model_id", "a")]), Some(1.0));
    assert!(!only.contains("model_id=\"b\""), "{only}");
}

#[test]
fn a_page_cannot_claim_to_be_another_deployment() {
    let page = "# TYPE a gauge\na{job=\"evil\",instance=\"evil\",deployment_id=\"evil\",model_id=\"evil\"} 1\n\
        # TYPE vllm:num_requests_running gauge\n\
        vllm:num_requests_running{model_name=\"m\",engine=\"0\",deployment_id=\"evil\",replica=\"evil\",model_id=\"evil\"} 7\n";
    let address = serve(page.to_owned());
    let receiver = format!(
        "[[receivers.engines.static]]\ntargets = [\"{address}\"]\n\
         labels = {{ deployment_id = \"d\", replica = \"r\", model_id = \"m1\" }}\n"
    );
    let agent = Agent::start(&config(&receiver));
    let page = agent.page_when("both series", |page| page.contains("num_requests_running{"));
    let labels = [("deployment_id", "d"), ("replica", "r")];
    assert_eq!(value(&page, "vllm:num_requests_running", &labels), Some(7.0), "{page}");
    assert_eq!(
        value(&page, "a", &[("deployment_id", "d"), ("model_id", "m1"), ("instance", &address)]),
        Some(1.0),
        "{page}"
    );
    for sample in testkit::samples(&page) {
        for name in ["job", "instance", "deployment_id", "replica", "model_id"] {
            assert_ne!(sample.labels.get(name).map(String::as_str), Some("evil"), "{sample:?}");
        }
    }
}

#[test]
fn a_token_for_a_model_shows_its_engines() {
    let engines = engines(2);
    let statics: String = (0..2)
        .map(|n| {
            format!(
                "[[receivers.engines.static]]\ntargets = [\"{}\"]\nlabels = {{ model_id = \"m{n}\", deployment_id = \"d{n}\" }}\n",
                engines.address(n)
            )
        })
        .collect();
    let config = config(&statics).replace(
        "[pipelines.metrics]",
        "[[exporters.prometheus.tokens]]\ntoken = \"only-m1\"\nmodel_ids = [\"m1\"]\n[pipelines.metrics]",
    );
    let agent = Agent::start(&config);
    let page = wait_until("the engine of the model", PATIENCE, || {
        let page =
            get_with(&agent.exposition, "/metrics", &[("Authorization", "Bearer only-m1")])?.body;
        value(&page, "vllm:num_requests_running", &[("deployment_id", "d1")]).map(|_| page)
    });
    assert!(!page.contains("deployment_id=\"d0\""), "{page}");
}
