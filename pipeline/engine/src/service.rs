//! `[service]`: what concerns the process as a whole.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use pipeline_config::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the process as a whole.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Prefix of the contract's metric names, without the underscore.
    pub metric_prefix: String,
    /// Where keys and checkpoints are kept. Made when first needed.
    pub data_dir: PathBuf,
    /// How long a stop may take before what is left is counted as lost.
    pub shutdown_timeout: Duration,
    /// Workers per pipeline. A source always goes to the same one.
    pub workers: NonZeroUsize,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            metric_prefix: pipeline_model::DEFAULT_PREFIX.to_owned(),
            data_dir: PathBuf::from("/var/lib/inferometer"),
            shutdown_timeout: std::time::Duration::from_secs(10).into(),
            workers: NonZeroUsize::MIN.saturating_add(1),
        }
    }
}
