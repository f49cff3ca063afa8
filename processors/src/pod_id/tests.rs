//! Tests of `pod_id`.

use std::os::unix::fs::PermissionsExt;

use expect_test::{Expect, expect};
use pipeline_component::telemetry::table;
use pipeline_model::{Entity, Kind, Labels};

use super::*;
use crate::testing::{Pipeline, Row, build, page, settings};

const KEY: &str = "key = 'an example key, not a secret'\n";
const TOKENS: Row<'_> = ("baseten_llm_input_tokens_total", Kind::COUNTER, &[]);
const RUNNING: Row<'_> = ("vllm:num_requests_running", Kind::Gauge, &[("engine", "0")]);

fn pipeline(toml: &str, settings: &Settings) -> Pipeline {
    Pipeline::new(build::<PodId>(toml, settings).unwrap(), settings)
}

/// The id that a target with these labels gets.
fn id(toml: &str, settings: &Settings, target: &[(&str, &str)]) -> String {
    let batch = pipeline(toml, settings).apply(&page(settings, target, &[], &[TOKENS]), |_| 0.0);
    let series = batch.shape.get(0).unwrap();
    series.label_text(POD_ID_LABEL).unwrap_or_default().to_owned()
}

#[test]
fn the_hash_replaces_what_names_the_pod() {
    let settings = settings();
    let uid = "5f0d4b8e-0c9a-4c1e-9d5e-0123456789ab";
    let shape = page(
        &settings,
        &[
            ("job", "vllm"),
            ("namespace", "ns"),
            ("pod", "vllm-7d9f8-abcde"),
            ("instance", "10.0.0.7:8000"),
        ],
        &[("k8s.pod.uid", uid), ("service.instance.id", "x"), ("k8s.node.name", "node-1")],
        &[
            RUNNING,
            TOKENS,
            (
                "baseten_llm_num_requests",
                Kind::Gauge,
                &[
                    ("cgroup", "/kubepods/pod5f0d4b8e_0c9a_4c1e_9d5e_0123456789ab/x"),
                    ("log", "ns/vllm-7d9f8-abcde/0.log"),
                    ("server", "http://10.0.0.7:8000"),
                    ("model_name", "vllm-7d9f8-abcde"),
                    ("peer", "vllm-7d9f8-abcdef 10.0.0.77"),
                ],
            ),
        ],
    );
    expect![[r#"
        vllm:num_requests_running{engine="0",instance="10.0.0.7:8000",job="vllm",namespace="ns",pod="vllm-7d9f8-abcde"} 1 of {k8s.node.name="node-1",k8s.pod.uid="5f0d4b8e-0c9a-4c1e-9d5e-0123456789ab",service.instance.id="x"}
        baseten_llm_input_tokens_total{_internal_pod_id="c4e35c8f45770e4bb946d83609630065",job="vllm",namespace="ns"} 2 of {k8s.node.name="node-1",replica="abcde"}
        baseten_llm_num_requests{_internal_pod_id="c4e35c8f45770e4bb946d83609630065",job="vllm",model_name="vllm-7d9f8-abcde",namespace="ns",peer="vllm-7d9f8-abcdef 10.0.0.77"} 3 of {k8s.node.name="node-1",replica="abcde"}
    "#]]
    .assert_eq(&pipeline(KEY, &settings).lines(&shape));
}

/// A change of this id is a change of everybody's ids.
#[test]
fn the_hash_is_what_it_always_was() {
    let settings = settings();
    let check =
        |target: &[(&str, &str)], expected: Expect| expected.assert_eq(&id(KEY, &settings, target));
    check(
        &[("pod_uid", "5f0d4b8e-0c9a-4c1e-9d5e-0123456789ab")],
        expect!["c4e35c8f45770e4bb946d83609630065"],
    );
    check(&[("namespace", "ns"), ("pod", "p")], expect!["3f28c07627532f485af58e1cd0186d94"]);
    check(&[("instance", "10.0.0.7:8000")], expect!["d8554612874f762345251f65150a9d47"]);
}

#[test]
fn one_pod_has_one_id_whatever_names_it() {
    let settings = settings();
    let facts = Labels::from_pairs([
        ("k8s.pod.uid", "U-1"),
        ("k8s.namespace.name", "ns"),
        ("k8s.pod.name", "p"),
    ]);
    settings.metadata.update(|metadata| {
        let by_name = Entity::Pod { namespace: "ns".into(), name: "p".into() };
        metadata.set(by_name, facts.clone())
            | metadata.set(Entity::PodIp("10.0.0.7".into()), facts.clone())
    });
    let ids = [
        &[("pod_uid", "u-1")][..],
        &[("namespace", "ns"), ("pod", "p")],
        &[("instance", "10.0.0.7:8000")],
        &[("instance", "10.0.0.7:8001")],
    ]
    .map(|target| id(KEY, &settings, target));
    assert!(ids.iter().all(|id| *id == ids[0] && id.len() == 32), "{ids:?}");
    // Another agent that shares the key and names the pod by its uid, and one with a key of its own.
    let agent = crate::testing::settings();
    assert_eq!(id(KEY, &agent, &[("pod_uid", "u-1")]), ids[0]);
    assert_ne!(id("key = 'another key, no secret either'", &agent, &[("pod_uid", "u-1")]), ids[0]);
    assert_ne!(id(KEY, &agent, &[("pod_uid", "u-2")]), ids[0]);
}

/// `127.0.0.1:8000` is another engine on every host.
#[test]
fn loopback_addresses_differ_between_hosts() {
    use crate::pod::Identity;
    let key = Key::from_text("an example key, not a secret").unwrap();
    for address in ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"] {
        let identity = Identity::Address(address.to_owned());
        assert_ne!(key.id(&identity, "a"), key.id(&identity, "b"), "{address}");
    }
    let routed = Identity::Address("10.0.0.7:8000".to_owned());
    assert_eq!(key.id(&routed, "a"), key.id(&routed, "b"));
}

/// What `labels` will ask for later is kept where it names nobody.
#[test]
fn what_is_known_about_the_pod_moves_to_its_resource() {
    let settings = settings();
    let facts = Labels::from_pairs([
        ("k8s.pod.uid", "u-1"),
        ("k8s.pod.name", "vllm-7d9f8-abcde"),
        ("deployment_id", "d1"),
        ("k8s.deployment.name", "vllm"),
    ]);
    settings
        .metadata
        .update(|metadata| metadata.set(Entity::Address("10.0.0.7:8000".into()), facts.clone()));
    let shape = page(&settings, &[("instance", "10.0.0.7:8000")], &[], &[TOKENS]);
    expect![[r#"
        baseten_llm_input_tokens_total{_internal_pod_id="bbd8f3183e6097a2ef7b837d2690af66"} 1 of {deployment_id="d1",k8s.deployment.name="vllm",replica="abcde"}
    "#]].assert_eq(&pipeline(KEY, &settings).lines(&shape));
}

#[test]
fn series_that_name_a_pod_themselves_carry_its_hash() {
    let settings = settings();
    let shape = page(
        &settings,
        &[("instance", "agent:9000"), ("namespace", "monitoring"), ("pod", "agent-x")],
        &[],
        &[
            ("baseten_llm_num_requests", Kind::Gauge, &[("pod", "a"), ("namespace", "ns")]),
            ("baseten_llm_num_requests", Kind::Gauge, &[("pod", "b"), ("namespace", "ns")]),
            TOKENS,
        ],
    );
    let batch = pipeline(KEY, &settings).apply(&shape, |_| 0.0);
    let ids: Vec<_> = batch
        .shape
        .iter()
        .map(|series| series.label_text(POD_ID_LABEL).unwrap().to_owned())
        .collect();
    assert_eq!(ids[0], id(KEY, &settings, &[("namespace", "ns"), ("pod", "a")]));
    assert_eq!(ids[1], id(KEY, &settings, &[("namespace", "ns"), ("pod", "b")]));
    assert_eq!(ids[2], id(KEY, &settings, &[("namespace", "monitoring"), ("pod", "agent-x")]));
    for series in batch.shape.iter() {
        assert!(series.label("pod").is_none() && series.label("instance").is_none());
    }
}

#[test]
fn while_keys_change_each_series_goes_out_under_both_ids() {
    let settings = settings();
    let rotating = "key = 'the next key, not a secret'\nprevious_key = 'an example key, not a secret'\nrotation = 'both'";
    let target = [("namespace", "ns"), ("pod", "p")];
    let batch = pipeline(rotating, &settings)
        .apply(&page(&settings, &target, &[], &[TOKENS, RUNNING]), |slot| slot as f64 + 1.0);
    let told: Vec<_> = batch
        .shape
        .iter()
        .map(|series| {
            let id = series.label_text(POD_ID_LABEL).unwrap_or_default().to_owned();
            (series.metric.name.to_string(), id, batch.values[series.slots()][0].as_double())
        })
        .collect();
    let (name, running) = (TOKENS.0.to_owned(), RUNNING.0.to_owned());
    let next = id("key = 'the next key, not a secret'", &settings, &target);
    let previous = id(KEY, &settings, &target);
    assert_eq!(
        told,
        [(name.clone(), next, 1.0), (name, previous, 1.0), (running, String::new(), 2.0)]
    );
}

#[test]
fn a_series_that_comes_with_a_hash_keeps_it() {
    let settings = settings();
    let own: Row<'_> = (TOKENS.0, Kind::COUNTER, &[("_internal_pod_id", "c4e3"), ("pod", "p")]);
    let shape = page(&settings, &[("instance", "agent:9464"), ("job", "agents")], &[], &[own]);
    assert_eq!(
        pipeline(KEY, &settings).lines(&shape),
        "baseten_llm_input_tokens_total{_internal_pod_id=\"c4e3\",job=\"agents\"} 1\n"
    );
}

#[test]
fn engine_series_carry_it_on_demand() {
    let settings = settings();
    let toml = format!("{KEY}series = 'engines'");
    let shape = page(
        &settings,
        &[("instance", "10.0.0.7:8000")],
        &[],
        &[RUNNING, ("up", Kind::Gauge, &[])],
    );
    let batch = pipeline(&toml, &settings).apply(&shape, |_| 0.0);
    assert!(batch.shape.get(0).unwrap().label(POD_ID_LABEL).is_some());
    assert!(batch.shape.get(1).unwrap().label(POD_ID_LABEL).is_none());
}

#[test]
fn a_series_without_a_pod_goes_out_as_it_is_and_is_counted() {
    let settings = settings();
    let shape = page(&settings, &[("job", "vllm")], &[], &[TOKENS]);
    assert_eq!(
        pipeline(KEY, &settings).lines(&shape),
        "baseten_llm_input_tokens_total{job=\"vllm\"} 1\n"
    );
    assert_eq!(settings.telemetry.counter(&table::POD_ID_MISSING, &[]).get(), 1);
}

/// Two names of one pod on one page: without them nothing tells the series apart.
#[test]
fn series_that_become_equal_are_counted() {
    let settings = settings();
    let rows = [
        ("baseten_llm_num_requests", Kind::Gauge, &[("instance", "10.0.0.7:1")][..]),
        ("baseten_llm_num_requests", Kind::Gauge, &[("instance", "10.0.0.7:2")]),
    ];
    let shape = page(&settings, &[("pod_uid", "u")], &[], &rows);
    settings.metadata.update(|metadata| {
        metadata.set(Entity::PodIp("10.0.0.7".into()), Labels::from_pairs([("k8s.pod.uid", "u")]))
    });
    assert_eq!(pipeline(KEY, &settings).apply(&shape, |_| 0.0).shape.len(), 1);
    assert_eq!(settings.telemetry.counter(&table::POD_ID_DUPLICATES, &[]).get(), 1);
}

#[test]
fn a_missing_key_is_generated_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.data_dir = folder.path().join("data");
    let file = settings.data_dir.join(KEY_FILE);
    let steps = build::<PodId>("", &settings).unwrap();
    assert!(!file.exists(), "looking at a configuration leaves no trace");
    drop(steps);
    let target = [("pod_uid", "u")];
    let first = id("", &settings, &target);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        std::fs::read_dir(&settings.data_dir).unwrap().count(),
        1,
        "nothing else is left there"
    );
    assert_eq!(id("", &settings, &target), first);
    // Another agent to which the file was copied.
    let toml = format!("key_file = '{}'", file.display());
    assert_eq!(id(&toml, &crate::testing::settings(), &target), first);
}

/// Ids still work, for as long as the process runs, where the key cannot be kept.
#[test]
fn a_data_directory_that_cannot_be_written_is_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let mut settings = settings();
    settings.data_dir = blocked.join("data");
    // The path leads through a file, which is said at once.
    let error = build::<PodId>("", &settings).map(drop).unwrap_err().to_string();
    assert!(error.contains("cannot read"), "{error}");
    let keys = Keys::kept_in(folder.path().join("a").join(KEY_FILE), None).unwrap();
    std::fs::write(folder.path().join("a"), "").unwrap();
    let identity = crate::pod::Identity::Uid("u".into());
    assert_eq!(keys.current().id(&identity, ""), keys.current().id(&identity, ""));
}

#[test]
fn what_is_wrong_with_keys_is_said_before_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (short, long) = (write("short", b"abc\n"), write("long", &[b'x'; 5000]));
    let gone = folder.path().join("gone").display().to_string();
    for (toml, expected) in [
        ("key = 'short'".to_owned(), "the key has 5 bytes, at least 16 are needed"),
        (format!("key_file = '{short}'"), "the key has 3 bytes, at least 16 are needed"),
        (format!("key_file = '{long}'"), "holds more than a key"),
        (format!("key_file = '{gone}'"), "No such file"),
        (format!("{KEY}key_file = '{short}'"), "`key` and `key_file` are both set"),
        (format!("{KEY}rotation = 'both'"), "there is no previous key"),
        (format!("{KEY}previous_key_file = '{gone}'"), "No such file"),
    ] {
        let error = build::<PodId>(&toml, &settings()).map(drop).unwrap_err().to_string();
        assert!(error.contains(expected), "{toml}: {error}");
    }
}
