//! Configuration of `labels`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pod::{DEPLOYMENT_NAMES, PodNames};

/// Attaches the labels that say which model, deployment and replica a series belongs to, and enforces the contract's
/// label sets.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Values for every series that passes. They win over everything else.
    pub attach: Attach,
    /// Other names under which a value may be found, tried in order after the label's own name.
    pub from: OtherNames,
    /// Where `replica` comes from when no source has it under its name, tried in order.
    pub replica_from: Vec<ReplicaFrom>,
    /// How sources name pods, for asking the metadata store.
    pub pod: PodNames,
    /// What becomes of metrics that are neither the contract's nor an engine's. `up` and `scrape_*` are always kept.
    pub other: Other,
    /// Drop series of the contract that lack a required label or break a closed set of values, rather than count
    /// them and put them out as they are.
    pub strict: bool,
    /// Caps on the distinct values of a label, by label name.
    pub limits: BTreeMap<String, Limit>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            attach: Attach::default(),
            from: OtherNames::default(),
            replica_from: vec![ReplicaFrom::Pod, ReplicaFrom::Address, ReplicaFrom::PodId],
            pod: PodNames::default(),
            other: Other::default(),
            strict: false,
            limits: BTreeMap::new(),
        }
    }
}

/// Fixed values; an empty one is none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Attach {
    /// The model's id.
    pub model_id: String,
    /// The model's name.
    pub model_name: String,
    /// The deployment's id.
    pub deployment_id: String,
    /// The environment that the deployment is tied to.
    pub environment: String,
    /// `promoting` or `stable`; left out where there is no environment.
    pub rollout_phase: String,
    /// The replica's short id.
    pub replica: String,
}

/// Names of labels, metadata and resource attributes that hold a value under another name.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtherNames {
    /// For the model's id.
    pub model_id: Vec<String>,
    /// For the model's name.
    pub model_name: Vec<String>,
    /// For the deployment's id.
    pub deployment_id: Vec<String>,
    /// For the environment.
    pub environment: Vec<String>,
    /// For the rollout phase.
    pub rollout_phase: Vec<String>,
    /// For the replica.
    pub replica: Vec<String>,
}

impl Default for OtherNames {
    fn default() -> Self {
        Self {
            model_id: Vec::new(),
            model_name: Vec::new(),
            deployment_id: DEPLOYMENT_NAMES.map(str::to_owned).into(),
            environment: Vec::new(),
            rollout_phase: Vec::new(),
            replica: Vec::new(),
        }
    }
}

/// What a replica's id is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaFrom {
    /// The last segment of the pod's name: `vllm-7d9f8-abcde` is `abcde`.
    Pod,
    /// The pod's whole name.
    PodName,
    /// The address, `host:port`, that the series were read from; for series of engines and the contract alone, since
    /// all others show it as `instance`.
    Address,
    /// The pod's hash, `_internal_pod_id`, where `pod_id` has put it in the place of whatever named the pod; for series
    /// of engines and the contract alone.
    PodId,
}

/// What becomes of metrics that are neither the contract's nor an engine's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Other {
    /// They keep their labels and the target's, and get `deployment_id` and `replica` where known.
    #[default]
    Keep,
    /// They are dropped.
    Drop,
}

/// A cap on the distinct values of one label.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// So many values, the first to be seen, keep their own; later ones become `other` for as long as the process
    /// runs. Series that become equal are added up.
    pub max: usize,
    /// Values that are always kept and do not count.
    #[serde(default)]
    pub pinned: Vec<String>,
}
