//! Tests of `labels`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use expect_test::{Expect, expect};
use pipeline_component::Settings;
use pipeline_component::telemetry::table;
use pipeline_model::{Bounds, Entity, Kind, Labels, Slot};

use super::*;
use crate::normalize::Normalize;
use crate::pod_id::PodId;
use crate::testing::{Pipeline, Row, build, page, settings};

const RUNNING: Row<'_> = ("vllm:num_requests_running", Kind::Gauge, &[("engine", "0")]);
const ACTIVE: Row<'_> = ("baseten_replicas_active", Kind::Gauge, &[]);
const CPU: Row<'_> = ("baseten_container_cpu_usage_seconds_total", Kind::COUNTER, &[]);
const REQUESTS: &str = "baseten_inference_requests_total";
const STATIC: &str =
    "attach = { model_id = 'm', model_name = 'M', deployment_id = 'd', replica = 'r' }\n";

fn pipeline(toml: &str, settings: &Settings) -> Pipeline {
    Pipeline::new(build::<AttachLabels>(toml, settings).unwrap(), settings)
}

fn check(
    toml: &str,
    target: &[(&str, &str)],
    resource: &[(&str, &str)],
    rows: &[Row<'_>],
    expected: &Expect,
) {
    let settings = settings();
    expected.assert_eq(&pipeline(toml, &settings).lines(&page(&settings, target, resource, rows)));
}

/// Violations by metric and reason.
fn violations(settings: &Settings) -> BTreeMap<(String, String), f64> {
    let families = settings.telemetry.snapshot();
    let family =
        families.iter().find(|family| family.definition.name == table::LABELS_VIOLATIONS.name);
    let get = |labels: &[(&str, String)], name: &str| {
        labels.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone()).unwrap()
    };
    family
        .map(|family| &family.samples[..])
        .unwrap_or_default()
        .iter()
        .map(|sample| {
            ((get(&sample.labels, "metric"), get(&sample.labels, "reason")), sample.value)
        })
        .collect()
}

#[test]
fn each_class_of_metric_gets_its_own_labels() {
    check(
        STATIC,
        &[("job", "vllm"), ("instance", "10.0.0.7:8000"), ("team", "a")],
        &[],
        &[
            RUNNING,
            (
                "sglang:gen_throughput",
                Kind::Gauge,
                &[("model_name", "served"), ("replica", "the page's")],
            ),
            ("gen_ai.server.request.duration", Kind::Gauge, &[]),
            ACTIVE,
            CPU,
            ("process_open_fds", Kind::Gauge, &[("deployment_id", "its own")]),
            ("up", Kind::Gauge, &[]),
        ],
        &expect![[r#"
            vllm:num_requests_running{deployment_id="d",engine="0",replica="r"} 1 of {model_id="m"}
            sglang:gen_throughput{deployment_id="d",model_name="served",replica="r"} 2 of {model_id="m"}
            gen_ai.server.request.duration{deployment_id="d",replica="r"} 3 of {model_id="m"}
            baseten_replicas_active{deployment_id="d",model_id="m",model_name="M"} 4
            baseten_container_cpu_usage_seconds_total{deployment_id="d",model_id="m",model_name="M",replica="r"} 5
            process_open_fds{deployment_id="its own",instance="10.0.0.7:8000",job="vllm",replica="r",team="a"} 6 of {model_id="m"}
            up{deployment_id="d",instance="10.0.0.7:8000",job="vllm",replica="r",team="a"} 7 of {model_id="m"}
        "#]],
    );
}

#[test]
fn other_metrics_can_be_dropped_but_not_the_targets_health() {
    check(
        "other = 'drop'",
        &[("instance", "i:1")],
        &[],
        &[
            ("process_open_fds", Kind::Gauge, &[]),
            ("up", Kind::Gauge, &[]),
            ("scrape_duration_seconds", Kind::Gauge, &[]),
            RUNNING,
        ],
        &expect![[r#"
            up{instance="i:1"} 2
            scrape_duration_seconds{instance="i:1"} 3
            vllm:num_requests_running{engine="0",replica="i:1"} 4
        "#]],
    );
}

/// Each line takes the source that won in the line before away.
#[test]
fn precedence() {
    let attach = "attach = { deployment_id = 'static' }";
    let target = [("deployment_id", "target"), ("instance", "i:1")];
    let instance = [("instance", "i:1")];
    let resource = [("deployment_id", "resource")];
    let own: Row<'_> = (
        "baseten_replicas_active",
        Kind::Gauge,
        &[("deployment_id", "own"), ("model_id", "m"), ("model_name", "M")],
    );
    let none: Row<'_> = (
        "baseten_replicas_active",
        Kind::Gauge,
        &[("deployment", "own mapped"), ("model_id", "m"), ("model_name", "M")],
    );
    let mapped = [("deployment", "target mapped")];
    let mapped_resource = [("deployment", "resource mapped")];
    let check = |toml: &str,
                 known: bool,
                 target: &[(&str, &str)],
                 resource: &[(&str, &str)],
                 row: &Row<'_>,
                 winner: &str| {
        let settings = settings();
        if known {
            let facts = Labels::from_pairs([("deployment_id", "metadata")]);
            settings
                .metadata
                .update(|metadata| metadata.set(Entity::Address("i:1".into()), facts.clone()));
        }
        let shape = page(&settings, target, resource, std::slice::from_ref(row));
        let batch = pipeline(toml, &settings).apply(&shape, |_| 0.0);
        assert_eq!(batch.shape.get(0).unwrap().label_text("deployment_id"), Some(winner));
    };
    check(attach, true, &target, &resource, &own, "static");
    check("", true, &target, &resource, &own, "target");
    check("", true, &instance, &resource, &own, "metadata");
    check("", false, &instance, &resource, &own, "resource");
    check("", false, &mapped, &mapped_resource, &own, "own");
    check("", false, &mapped, &mapped_resource, &none, "target mapped");
    check("", false, &[], &mapped_resource, &none, "resource mapped");
    check("", false, &[], &[], &none, "own mapped");
}

#[test]
fn what_is_known_of_a_deployment_is_found_by_its_id() {
    let settings = settings();
    let facts = Labels::from_pairs([
        ("model_id", "m"),
        ("model_name", "M"),
        ("environment", "e"),
        ("rollout_phase", "stable"),
    ]);
    settings
        .metadata
        .update(|metadata| metadata.set(Entity::Deployment("d".into()), facts.clone()));
    let own: Row<'_> = (
        REQUESTS,
        Kind::COUNTER,
        &[("deployment_id", "d"), ("status_code", "200"), ("is_async", "false")],
    );
    expect![[r#"
        baseten_inference_requests_total{deployment_id="d",environment="e",is_async="false",model_id="m",model_name="M",rollout_phase="stable",status_code="200"} 1
    "#]].assert_eq(&pipeline("", &settings).lines(&page(&settings, &[], &[], &[own])));
}

/// A page about many pods, such as that of a node's GPUs.
#[test]
fn series_that_name_a_pod_get_its_labels() {
    let settings = settings();
    for (pod, deployment) in [("a-1", "d1"), ("b-2", "d2")] {
        let facts = Labels::from_pairs([
            ("deployment_id", deployment),
            ("model_id", "m"),
            ("model_name", "M"),
        ]);
        let entity = Entity::Pod { namespace: "ns".into(), name: pod.into() };
        settings.metadata.update(|metadata| metadata.set(entity.clone(), facts.clone()));
    }
    let gpu = |labels: &'static [(&'static str, &'static str)]| {
        ("baseten_gpu_memory_used", Kind::Gauge, labels)
    };
    let rows = [
        gpu(&[("gpu", "0"), ("pod", "a-1"), ("namespace", "ns")]),
        gpu(&[("gpu", "1"), ("pod", "a-1"), ("namespace", "ns")]),
        gpu(&[("gpu", "2"), ("pod", "b-2"), ("namespace", "ns")]),
        ("DCGM_FI_DEV_GPU_TEMP", Kind::Gauge, &[("gpu", "2"), ("pod", "b-2"), ("namespace", "ns")]),
    ];
    let shape = page(&settings, &[("instance", "node:9400"), ("pod", "dcgm-x")], &[], &rows);
    expect![[r#"
        baseten_gpu_memory_used{deployment_id="d1",gpu="0",model_id="m",model_name="M",replica="1"} 1
        baseten_gpu_memory_used{deployment_id="d1",gpu="1",model_id="m",model_name="M",replica="1"} 2
        baseten_gpu_memory_used{deployment_id="d2",gpu="2",model_id="m",model_name="M",replica="2"} 3
        DCGM_FI_DEV_GPU_TEMP{deployment_id="d2",gpu="2",instance="node:9400",namespace="ns",pod="b-2",replica="2"} 4 of {model_id="m"}
    "#]].assert_eq(&pipeline("", &settings).lines(&shape));
    assert_eq!(violations(&settings), BTreeMap::new());
}

#[test]
fn replicas_are_found_or_made() {
    let check = |toml: &str, target: &[(&str, &str)], replica: Option<&str>| {
        let settings = settings();
        let batch =
            pipeline(toml, &settings).apply(&page(&settings, target, &[], &[RUNNING]), |_| 0.0);
        assert_eq!(batch.shape.get(0).unwrap().label_text("replica"), replica, "{toml} {target:?}");
    };
    let target = [("pod", "vllm-7d9f8-abcde"), ("instance", "10.0.0.7:8000")];
    check("", &target, Some("abcde"));
    check("", &target[1..], Some("10.0.0.7:8000"));
    check("", &[], None);
    check("replica_from = ['pod_name']", &target, Some("vllm-7d9f8-abcde"));
    check("replica_from = []", &target, None);
    check("from = { replica = ['shard'] }", &[("shard", "7"), target[0]], Some("7"));
}

/// Omitted, never invented.
#[test]
fn environment_and_phase_come_together_or_not_at_all() {
    let check = |attach: &str, environment: Option<&str>, phase: Option<&str>| {
        let settings = settings();
        let toml = format!("attach = {{ {attach} }}");
        let batch =
            pipeline(&toml, &settings).apply(&page(&settings, &[], &[], &[ACTIVE]), |_| 0.0);
        let series = batch.shape.get(0).unwrap();
        assert_eq!(
            (series.label_text("environment"), series.label_text("rollout_phase")),
            (environment, phase)
        );
    };
    check("environment = 'e', rollout_phase = 'stable'", Some("e"), Some("stable"));
    check("environment = 'e'", Some("e"), None);
    check("environment = '', rollout_phase = 'stable'", None, None);
    check("model_id = 'm'", None, None);
}

#[test]
fn what_breaks_the_contract_is_counted_and_the_strict_drop_it() {
    let rows: [Row<'_>; 6] = [
        (REQUESTS, Kind::COUNTER, &[("status_code", "200"), ("is_async", "yes"), ("path", "/")]),
        (REQUESTS, Kind::COUNTER, &[("status_code", "200"), ("is_async", "true")]),
        (REQUESTS, Kind::COUNTER, &[("status_code", "200"), ("is_async", "true"), ("path", "/")]),
        (REQUESTS, Kind::COUNTER, &[("is_async", "true")]),
        ("baseten_replicas_active", Kind::COUNTER, &[]),
        RUNNING,
    ];
    let target = [("rollout_phase", "blue"), ("environment", "e"), ("job", "x")];
    let lenient = settings();
    let out = pipeline(STATIC, &lenient).lines(&page(&lenient, &target, &[], &rows));
    expect![[r#"
        baseten_inference_requests_total{deployment_id="d",environment="e",is_async="yes",model_id="m",model_name="M",status_code="200"} 1
        baseten_inference_requests_total{deployment_id="d",environment="e",is_async="true",model_id="m",model_name="M",status_code="200"} 2
        baseten_inference_requests_total{deployment_id="d",environment="e",is_async="true",model_id="m",model_name="M"} 4
        baseten_replicas_active{deployment_id="d",environment="e",model_id="m",model_name="M"} 5
        vllm:num_requests_running{deployment_id="d",engine="0",replica="r"} 6 of {model_id="m"}
    "#]].assert_eq(&out);
    let counted: Vec<String> = violations(&lenient)
        .iter()
        .map(|((metric, reason), n)| format!("{metric} {reason} {n}"))
        .collect();
    expect![[r#"
        baseten_inference_requests_total collision 1
        baseten_inference_requests_total extra 2
        baseten_inference_requests_total missing 1
        baseten_inference_requests_total value 5
        baseten_replicas_active type 1
        baseten_replicas_active value 1"#]]
    .assert_eq(&counted.join("\n"));

    let strict = settings();
    let out = pipeline(&format!("strict = true\n{STATIC}"), &strict).lines(&page(
        &strict,
        &target,
        &[],
        &rows,
    ));
    expect![[r#"
        baseten_inference_requests_total{deployment_id="d",environment="e",is_async="true",model_id="m",model_name="M",status_code="200"} 2
        vllm:num_requests_running{deployment_id="d",engine="0",replica="r"} 6 of {model_id="m"}
    "#]].assert_eq(&out);
}

#[test]
fn an_engine_of_an_unknown_deployment_is_counted_and_kept() {
    let settings = settings();
    let out = pipeline("strict = true", &settings).lines(&page(
        &settings,
        &[("instance", "i:1")],
        &[],
        &[RUNNING],
    ));
    assert_eq!(out, "vllm:num_requests_running{engine=\"0\",replica=\"i:1\"} 1\n");
    assert_eq!(violations(&settings), [(("engine".to_owned(), "missing".to_owned()), 1.0)].into());
}

#[test]
fn pages_that_are_equal_share_their_rows_and_their_program() {
    let settings = settings();
    let mut steps = build::<PodId>("key = 'an example key, not a secret'", &settings).unwrap();
    steps.extend(build::<AttachLabels>(STATIC, &settings).unwrap());
    let rows = [
        RUNNING,
        ACTIVE,
        CPU,
        ("baseten_llm_num_requests", Kind::Gauge, &[]),
        ("up", Kind::Gauge, &[]),
    ];
    let shapes: Vec<_> = ["10.0.0.7:8000", "10.0.0.8:8000"]
        .map(|instance| {
            let shape = page(&settings, &[("instance", instance)], &[], &rows);
            Pipeline::new(steps.clone(), &settings).apply(&shape, |_| 0.0).shape
        })
        .into();
    assert_ne!(shapes[0].groups(), shapes[1].groups());
    assert!(Arc::ptr_eq(shapes[0].table(), shapes[1].table()));
    assert_eq!(settings.interner.stats().programs, 1);
}

/// `pod_id` has taken the pod's name off: what is attached by it must be there all the same.
#[test]
fn after_pod_id_the_pods_labels_are_still_found() {
    let settings = settings();
    let facts = Labels::from_pairs([
        ("model_id", "m"),
        ("model_name", "M"),
        ("k8s.deployment.name", "d"),
        ("k8s.pod.name", "vllm-7d9f8-abcde"),
    ]);
    settings
        .metadata
        .update(|metadata| metadata.set(Entity::PodIp("10.0.0.7".into()), facts.clone()));
    let mut steps =
        build::<PodId>("key = 'an example key, not a secret'\nseries = 'engines'", &settings)
            .unwrap();
    steps.extend(build::<AttachLabels>("", &settings).unwrap());
    let shape = page(
        &settings,
        &[("instance", "10.0.0.7:8000")],
        &[],
        &[RUNNING, ("baseten_llm_num_requests", Kind::Gauge, &[])],
    );
    expect![[r#"
        vllm:num_requests_running{_internal_pod_id="d0adbb2c7bf8df4ef522762f322fbd63",deployment_id="d",engine="0",replica="abcde"} 1 of {k8s.deployment.name="d",model_id="m",model_name="M",replica="abcde"}
        baseten_llm_num_requests{_internal_pod_id="d0adbb2c7bf8df4ef522762f322fbd63",deployment_id="d",model_id="m",model_name="M"} 2 of {k8s.deployment.name="d",model_id="m",model_name="M",replica="abcde"}
    "#]].assert_eq(&Pipeline::new(steps, &settings).lines(&shape));
    assert_eq!(violations(&settings), BTreeMap::new());
}

#[test]
fn a_change_of_metadata_changes_the_labels() {
    let settings = settings();
    let shape = page(&settings, &[("instance", "i:1")], &[], &[RUNNING]);
    let mut pipeline = pipeline("", &settings);
    let before = pipeline.apply(&shape, |_| 0.0);
    let facts = Labels::from_pairs([("deployment_id", "d"), ("replica", "abcde")]);
    settings.metadata.update(|metadata| metadata.set(Entity::Address("i:1".into()), facts.clone()));
    let after = pipeline.apply(&shape, |_| 0.0);
    assert_eq!(before.shape.get(0).unwrap().label_text("replica"), Some("i:1"));
    assert_eq!(after.shape.get(0).unwrap().label_text("replica"), Some("abcde"));
    assert_eq!(
        before.shape.vanished(&after.shape),
        [0],
        "the series under its old labels has ended"
    );
}

/// Beyond the cap series become one, and their sum never falls, not even when one of them starts anew.
#[test]
fn overflowing_values_are_added_up() {
    let settings = settings();
    let toml = format!("{STATIC}limits = {{ status_code = {{ max = 1, pinned = ['500'] }} }}");
    let counter = |code: &'static [(&'static str, &'static str)]| (REQUESTS, Kind::COUNTER, code);
    let rows = [
        counter(&[("status_code", "200"), ("is_async", "true")]),
        counter(&[("status_code", "404"), ("is_async", "true")]),
        counter(&[("status_code", "500"), ("is_async", "true")]),
        counter(&[("status_code", "418"), ("is_async", "true")]),
        ("x", Kind::Gauge, &[("status_code", "a")]),
        ("x", Kind::Gauge, &[("status_code", "b")]),
        ("h", Kind::histogram(Bounds::new(&[1.0])), &[("status_code", "a")]),
        ("h", Kind::histogram(Bounds::new(&[1.0])), &[("status_code", "b")]),
        ("s", Kind::Summary { quantiles: Bounds::new(&[0.5]) }, &[("status_code", "a")]),
        ("s", Kind::Summary { quantiles: Bounds::new(&[0.5]) }, &[("status_code", "b")]),
    ];
    let shape = page(&settings, &[], &[], &rows);
    let mut pipeline = pipeline(&toml, &settings);
    expect![[r#"
        baseten_inference_requests_total{deployment_id="d",is_async="true",model_id="m",model_name="M",status_code="200"} 1
        baseten_inference_requests_total{deployment_id="d",is_async="true",model_id="m",model_name="M",status_code="other"} 6
        baseten_inference_requests_total{deployment_id="d",is_async="true",model_id="m",model_name="M",status_code="500"} 3
        x{deployment_id="d",replica="r",status_code="other"} 11 of {model_id="m"}
        h{deployment_id="d",replica="r",status_code="other"} 17 19 21 of {model_id="m"}
        s{deployment_id="d",replica="r",status_code="other"} 13 14 15 of {model_id="m"}
    "#]].assert_eq(&pipeline.lines(&shape));
    let limited = settings.telemetry.counter(&table::LABELS_LIMITED, &[("label", "status_code")]);
    assert_eq!(limited.get(), 8);
    // The 404s of slot 1 start again at 1, the 418s of slot 3 go on to 10.
    let batch = pipeline.apply(&shape, |slot| if slot == 3 { 10.0 } else { 1.0 });
    assert_eq!(batch.values[1], Slot::double(2.0 + 1.0 + 10.0));
    assert_eq!(violations(&settings), [(("other".to_owned(), "collision".to_owned()), 1.0)].into());
}

#[test]
fn attached_values_are_limited_too() {
    let settings = settings();
    let steps =
        build::<AttachLabels>("limits = { deployment_id = { max = 1 } }", &settings).unwrap();
    let of = |deployment: &str| {
        let shape =
            page(&settings, &[("deployment_id", deployment), ("replica", "r")], &[], &[RUNNING]);
        Pipeline::new(steps.clone(), &settings).lines(&shape)
    };
    assert!(of("a").contains("deployment_id=\"a\""));
    assert!(of("b").contains("deployment_id=\"other\""));
    assert!(of("a").contains("deployment_id=\"a\""), "the first value stays");
}

#[test]
fn what_is_wrong_is_said_where_it_is() {
    for (toml, expected) in [
        ("attach = { rollout_phase = 'blue' }", "`blue` is no rollout phase"),
        ("attach = { deployment = 'x' }", "deployment_id"),
        ("limits = { condition = { max = 1 } }", "`condition` has a closed set of values"),
        ("limits = { x = { } }", "max"),
        ("other = 'maybe'", "keep"),
    ] {
        let error = build::<AttachLabels>(toml, &settings()).map(drop).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("1:"), "{toml}: {error}");
    }
}

/// A page that was read with `honor_labels = false`: what it calls itself is beside what the target is called.
#[test]
fn a_page_cannot_pass_for_another_target() {
    const CLAIMS: &[(&str, &str)] = &[
        ("engine", "0"),
        ("exported_deployment_id", "evil"),
        ("exported_exported_replica", "evil"),
        ("exported_instance", "evil"),
        ("exported_job", "evil"),
        ("exported_model_id", "evil"),
        ("exported_model_name", "served"),
        ("exported_replica", "evil"),
        ("model_id_2", "evil"),
    ];
    let settings = settings();
    let rows = [
        ("vllm:num_requests_running", Kind::Gauge, CLAIMS),
        ("vllm:kv_cache_usage_perc", Kind::Gauge, CLAIMS),
        ("vllm:brand_new", Kind::Gauge, CLAIMS),
        ("process_open_fds", Kind::Gauge, CLAIMS),
        ("baseten_llm_num_requests", Kind::Gauge, CLAIMS),
    ];
    let target = [
        ("deployment_id", "d"),
        ("instance", "10.0.0.7:8000"),
        ("job", "vllm"),
        ("model_id", "m"),
        ("model_name", "M"),
        ("replica", "r"),
    ];
    let mut steps = build::<Normalize>("", &settings).unwrap();
    steps.extend(
        build::<PodId>("key = 'an example key, not a secret'\nseries = 'engines'", &settings)
            .unwrap(),
    );
    steps.extend(build::<AttachLabels>("", &settings).unwrap());
    let shape = page(&settings, &target, &[], &rows);
    expect![[r#"
        vllm:num_requests_running{_internal_pod_id="d8554612874f762345251f65150a9d47",deployment_id="d",exported_job="evil",model_id_2="evil",replica="r"} 1 of {model_id="m"}
        vllm:kv_cache_usage_perc{_internal_pod_id="d8554612874f762345251f65150a9d47",deployment_id="d",exported_job="evil",model_id_2="evil",replica="r"} 2 of {model_id="m"}
        vllm:brand_new{_internal_pod_id="d8554612874f762345251f65150a9d47",deployment_id="d",engine="0",exported_job="evil",model_id_2="evil",model_name="served",replica="r"} 3 of {model_id="m"}
        process_open_fds{deployment_id="d",engine="0",exported_deployment_id="evil",exported_exported_replica="evil",exported_instance="evil",exported_job="evil",exported_model_id="evil",exported_model_name="served",exported_replica="evil",instance="10.0.0.7:8000",job="vllm",model_id="m",model_id_2="evil",model_name="M",replica="r"} 4
        baseten_llm_num_requests{_internal_pod_id="d8554612874f762345251f65150a9d47",deployment_id="d",model_id="m",model_name="M"} 5
    "#]].assert_eq(&Pipeline::new(steps, &settings).lines(&shape));
}

#[test]
fn the_models_of_one_engine_stay_apart_whatever_the_target_says_of_models() {
    let settings = settings();
    let rows: [Row<'_>; 4] = [
        ("vllm:num_requests_running", Kind::Gauge, &[("exported_model_name", "a")]),
        ("vllm:num_requests_running", Kind::Gauge, &[("exported_model_name", "b")]),
        ("vllm:kv_cache_usage_perc", Kind::Gauge, &[("exported_model_name", "a")]),
        ("http_requests_total", Kind::COUNTER, &[("exported_model_name", "a")]),
    ];
    let shape = page(&settings, &[("model_name", "M")], &[], &rows);
    let normalize = build::<Normalize>("", &settings).unwrap();
    expect![[r#"
        vllm:num_requests_running{exported_model_name="a",model_name="M"} 1
        vllm:num_requests_running{exported_model_name="b",model_name="M"} 2
        vllm:kv_cache_usage_perc{exported_model_name="a",model_name="M"} 3
        http_requests_total{exported_model_name="a",model_name="M"} 4
    "#]]
    .assert_eq(&Pipeline::new(normalize.clone(), &settings).lines(&shape));
    let mut steps = normalize;
    steps.extend(build::<AttachLabels>(STATIC, &settings).unwrap());
    expect![[r#"
        vllm:num_requests_running{deployment_id="d",model_name="a",replica="r"} 1 of {model_id="m"}
        vllm:num_requests_running{deployment_id="d",model_name="b",replica="r"} 2 of {model_id="m"}
        vllm:kv_cache_usage_perc{deployment_id="d",model_name="a",replica="r"} 3 of {model_id="m"}
        http_requests_total{deployment_id="d",exported_model_name="a",model_name="M",replica="r"} 4 of {model_id="m"}
    "#]].assert_eq(&Pipeline::new(steps, &settings).lines(&shape));
}

/// Only the address names the pod, and `pod_id` has taken it off.
#[test]
fn the_pods_hash_is_a_replica_where_nothing_else_is_left() {
    let check = |pod_id: &str, labels: &str, expected: &Expect| {
        let settings = settings();
        let key = format!("key = 'an example key, not a secret'\n{pod_id}");
        let mut steps = build::<PodId>(&key, &settings).unwrap();
        steps.extend(build::<AttachLabels>(labels, &settings).unwrap());
        let rows = [
            RUNNING,
            ("sglang:token_usage", Kind::Gauge, &[("_internal_pod_id", "c4e3")][..]),
            ("up", Kind::Gauge, &[]),
        ];
        let target = [("deployment_id", "d"), ("instance", "10.0.0.7:8000")];
        let shape = page(&settings, &target, &[], &rows);
        expected.assert_eq(&Pipeline::new(steps, &settings).lines(&shape));
    };
    check(
        "series = 'engines'",
        "",
        &expect![[r#"
        vllm:num_requests_running{_internal_pod_id="d8554612874f762345251f65150a9d47",deployment_id="d",engine="0",replica="d8554612874f762345251f65150a9d47"} 1
        sglang:token_usage{_internal_pod_id="c4e3",deployment_id="d",replica="c4e3"} 2
        up{deployment_id="d",instance="10.0.0.7:8000"} 3
    "#]],
    );
    check(
        "series = 'engines'",
        "replica_from = ['pod', 'address']",
        &expect![[r#"
        vllm:num_requests_running{_internal_pod_id="d8554612874f762345251f65150a9d47",deployment_id="d",engine="0"} 1
        sglang:token_usage{_internal_pod_id="c4e3",deployment_id="d"} 2
        up{deployment_id="d",instance="10.0.0.7:8000"} 3
    "#]],
    );
    check(
        "",
        "",
        &expect![[r#"
        vllm:num_requests_running{deployment_id="d",engine="0",replica="10.0.0.7:8000"} 1
        sglang:token_usage{_internal_pod_id="c4e3",deployment_id="d",replica="10.0.0.7:8000"} 2
        up{deployment_id="d",instance="10.0.0.7:8000"} 3
    "#]],
    );
    check(
        "",
        "replica_from = ['pod_id']",
        &expect![[r#"
        vllm:num_requests_running{deployment_id="d",engine="0"} 1
        sglang:token_usage{_internal_pod_id="c4e3",deployment_id="d",replica="c4e3"} 2
        up{deployment_id="d",instance="10.0.0.7:8000"} 3
    "#]],
    );
}

#[test]
fn series_without_the_models_id_have_it_in_their_resource() {
    let settings = settings();
    let rows = [
        ("vllm:num_requests_running", Kind::Gauge, &[("model_id", "the page's")][..]),
        RUNNING,
        ACTIVE,
        CPU,
        ("up", Kind::Gauge, &[]),
        ("process_open_fds", Kind::Gauge, &[("model_id", "own")]),
    ];
    let shapes: Vec<_> = ["10.0.0.7:8000", "10.0.0.8:8000"]
        .map(|instance| {
            let target = [("instance", instance), ("replica", "r"), ("deployment_id", "d")];
            let shape = page(&settings, &target, &[("model_id", "m"), ("zone", "z")], &rows);
            let mut pipeline = pipeline("attach.model_id = 'm2'", &settings);
            let batch = pipeline.apply(&shape, |_| 0.0);
            (crate::testing::lines(&batch), batch.shape)
        })
        .into();
    expect![[r#"
        vllm:num_requests_running{deployment_id="d",replica="r"} 0 of {model_id="m2",zone="z"}
        vllm:num_requests_running{deployment_id="d",engine="0",replica="r"} 0 of {model_id="m2",zone="z"}
        baseten_replicas_active{deployment_id="d",model_id="m2"} 0 of {model_id="m",zone="z"}
        baseten_container_cpu_usage_seconds_total{deployment_id="d",model_id="m2",replica="r"} 0 of {model_id="m",zone="z"}
        up{deployment_id="d",instance="10.0.0.7:8000",replica="r"} 0 of {model_id="m2",zone="z"}
        process_open_fds{deployment_id="d",instance="10.0.0.7:8000",model_id="own",replica="r"} 0 of {model_id="m",zone="z"}
    "#]].assert_eq(&shapes[0].0);
    assert!(Arc::ptr_eq(shapes[0].1.table(), shapes[1].1.table()));
}

/// The fields of warnings, one line each.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = self.0.lock().unwrap();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            write!(text, "{field}={value:?} ").unwrap();
        });
        text.push_str(";\n");
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn the_warning_says_what_to_do() {
    let settings = settings();
    let log = Log::default();
    let rows: [Row<'_>; 2] = [RUNNING, ("vllm:x", Kind::Gauge, &[("status_code", "")])];
    let shape = page(&settings, &[("instance", "i:1")], &[], &rows);
    // A place that another thread reaches in between is remembered as one that nobody listens to.
    tracing::subscriber::with_default(log.clone(), || {
        while log.0.lock().unwrap().is_empty() {
            tracing::callsite::rebuild_interest_cache();
            pipeline("", &settings).lines(&shape);
        }
    });
    expect![[r#"
        message=labels: series break their label set metric=engine reason="missing" label=deployment_id series=2 help="set it under [processors.labels.attach], or as a label of the target" ;
    "#]].assert_eq(&log.0.lock().unwrap());
}
