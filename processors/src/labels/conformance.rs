//! Walks the contract and what goes beyond it: every metric, however noisy its source, leaves `pod_id` and `labels` exactly as promised.

use std::collections::BTreeSet;
use std::sync::Arc;

use pipeline_component::Settings;
use pipeline_model::{
    Bounds, Contract, ContractMetric, ContractType, Entity, Kind, LabelGroup, Labels, Shape,
};

use super::AttachLabels;
use crate::pod_id::{POD_ID_LABEL, PodId};
use crate::testing::{Pipeline, build, page, settings};

/// Values by which the contract's own labels are filled in.
fn value_of(label: &str) -> &'static str {
    match label {
        "status_code" => "200",
        "is_async" => "true",
        "condition" => "unknown",
        "gpu" => "0",
        "replica" => "abcde",
        "model_id" => "m1",
        "model_name" => "Model One",
        "deployment_id" => "d1",
        "environment" => "production",
        "rollout_phase" => "promoting",
        other => panic!("{other} is new in the contract: say what it looks like here"),
    }
}

/// A series of `row` as a source may have it: its intrinsic labels, and much that is not the contract's.
fn source(settings: &Settings, row: &ContractMetric) -> Arc<Shape> {
    let name = settings.contract.name(row);
    let kind = match row.kind {
        ContractType::Counter => Kind::COUNTER,
        ContractType::Gauge => Kind::Gauge,
        ContractType::Histogram => Kind::histogram(Bounds::new(row.buckets.unwrap())),
    };
    let mut labels = vec![("noise", "x"), ("model_version", "7"), ("empty", "")];
    for group in row.labels {
        match group {
            LabelGroup::Request | LabelGroup::Condition => {
                labels.extend(group.names().iter().map(|name| (*name, value_of(name))));
            }
            LabelGroup::Gpu => labels.push(("gpu", value_of("gpu"))),
            LabelGroup::Model | LabelGroup::Env | LabelGroup::Replica | LabelGroup::Pod => {}
        }
    }
    let target = [
        ("job", "engines"),
        ("instance", "10.0.0.7:8000"),
        ("namespace", "ns"),
        ("pod", "vllm-7d9f8-abcde"),
        ("region", "x"),
    ];
    let resource = [("k8s.pod.name", "vllm-7d9f8-abcde"), ("host.name", "node-1")];
    page(settings, &target, &resource, &[(&name, kind, &labels)])
}

/// Metadata as discovery would give it.
fn facts(settings: &Settings, environment: bool) {
    let mut labels = vec![("k8s.pod.uid", "u-1"), ("k8s.pod.name", "vllm-7d9f8-abcde")];
    labels.extend(["model_id", "model_name", "deployment_id"].map(|name| (name, value_of(name))));
    if environment {
        labels.extend(["environment", "rollout_phase"].map(|name| (name, value_of(name))));
    }
    let facts = Labels::from_pairs(labels);
    let pod = Entity::Pod { namespace: "ns".into(), name: "vllm-7d9f8-abcde".into() };
    settings.metadata.update(|metadata| metadata.set(pod.clone(), facts.clone()));
}

fn walk(prefix: &str, environment: bool) {
    let mut settings = settings();
    settings.contract = Arc::new(Contract::new(prefix));
    facts(&settings, environment);
    let mut steps = build::<PodId>("key = 'an example key, not a secret'", &settings).unwrap();
    steps.extend(build::<AttachLabels>("strict = true", &settings).unwrap());
    for row in ContractMetric::all() {
        let input = source(&settings, row);
        let output = Pipeline::new(steps.clone(), &settings).apply(&input, |slot| slot as f64);
        let name = settings.contract.name(row);
        assert_eq!(output.shape.len(), 1, "{name} is put out once");
        let series = output.shape.get(0).unwrap();
        assert_eq!(*series.metric.name, *name);
        assert!(name.starts_with(prefix) && name.ends_with(row.name));
        assert_eq!(
            (&*series.metric.unit, &*series.metric.description),
            (row.unit, row.help),
            "{name}"
        );
        let expected = settings.contract.metric(row, None, &settings.interner);
        assert_eq!(series.metric.kind, expected.kind, "{name}");
        let wanted: BTreeSet<&str> =
            if environment { row.label_names().collect() } else { row.required_names().collect() };
        let labels: Vec<_> = series.labels_merged().collect();
        assert_eq!(
            labels.iter().map(|label| &*label.name).collect::<BTreeSet<_>>(),
            wanted,
            "labels of {name}"
        );
        for label in labels.iter().filter(|label| *label.name != *POD_ID_LABEL) {
            assert_eq!(
                label.value.as_str(),
                Some(value_of(&label.name)),
                "{} of {name}",
                label.name
            );
        }
        let told = format!("{:?} {:?}", series.labels, series.group);
        if row.labels.contains(&LabelGroup::Pod) {
            assert_eq!(series.label_text(POD_ID_LABEL).map(str::len), Some(32), "{name}");
            assert!(
                !told.contains("vllm-7d9f8") && !told.contains("u-1"),
                "{name} names its pod: {told}"
            );
        }
        assert_eq!(output.values.len(), input.slots(), "{name} keeps its values");
    }
}

#[test]
fn every_metric_has_exactly_its_labels_with_an_environment() {
    walk("baseten", true);
}

#[test]
fn and_without_one() {
    walk("baseten", false);
}

#[test]
fn and_under_another_prefix() {
    walk("acme_llm", true);
    walk("", true);
}
