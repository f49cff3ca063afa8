//! What users write under `[exporters.debug]`.

use pipeline_config::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much is printed of a point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verbosity {
    /// Name, labels and value; of a histogram its count and sum.
    #[default]
    Basic,
    /// Also kind, unit, start, buckets, exemplars, resource and scope.
    Detailed,
}

/// Prints what passes, for looking at a pipeline while setting it up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `basic` or `detailed`.
    pub verbosity: Verbosity,
    /// A source is printed at most once in this time.
    pub every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { verbosity: Verbosity::Basic, every: Duration::from_secs(10) }
    }
}
