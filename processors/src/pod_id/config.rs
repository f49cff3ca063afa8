//! Configuration of `pod_id`.

use std::path::PathBuf;

use pipeline_net::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pod::PodNames;

/// Replaces what names a pod by a keyed hash, `_internal_pod_id`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which series carry the hash.
    pub series: Carriers,
    /// The secret key, at least 16 bytes. Agents that share it give a pod the same id. Without `key` and `key_file`
    /// a key is generated and kept in `pod_id.key` in the data directory.
    pub key: Option<Secret>,
    /// A file that holds the key; read when the configuration is read.
    pub key_file: Option<PathBuf>,
    /// The key before the current one, for `rotation`.
    pub previous_key: Option<Secret>,
    /// A file that holds the previous key.
    pub previous_key_file: Option<PathBuf>,
    /// What happens while keys change.
    pub rotation: Rotation,
    /// How sources name pods.
    pub pod: PodNames,
    /// Labels and resource attributes that are taken off series that carry the hash, beside those of `pod`. A label
    /// under any other name goes as well where its value contains the pod's uid, name or address.
    pub remove: Vec<String>,
}

/// Which series carry the hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Carriers {
    /// Those of the contract that must: `llm_*`.
    #[default]
    Contract,
    /// Those, and every series of an engine under its own name.
    Engines,
}

/// What happens while keys change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// Ids of the current key alone.
    #[default]
    Off,
    /// Every series twice, with the id of the current and of the previous key, so that queries for either find it.
    Both,
}

impl Default for Config {
    fn default() -> Self {
        let remove = [
            "address",
            "container.id",
            "container_id",
            "exported_instance",
            "exported_pod",
            "host",
            "host.ip",
            "host.name",
            "hostname",
            "kubernetes_pod_name",
            "server.address",
            "service.instance.id",
        ];
        Self {
            series: Carriers::default(),
            key: None,
            key_file: None,
            previous_key: None,
            previous_key_file: None,
            rotation: Rotation::default(),
            pod: PodNames::default(),
            remove: remove.map(str::to_owned).into(),
        }
    }
}
