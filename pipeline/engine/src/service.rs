//! `[service]`: what concerns the process as a whole.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use pipeline_config::{Diagnostic, Duration, Section};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the process as a whole.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Prefix of the contract's metric names, without the underscore.
    pub metric_prefix: String,
    /// Where keys and checkpoints are kept; made when first needed. Absent: systemd's `STATE_DIRECTORY`, else
    /// `/var/lib/inferometer` for root, else `inferometer` in the user's `XDG_STATE_HOME` (`~/.local/state`).
    pub data_dir: Option<PathBuf>,
    /// How long a stop may take before what is left is counted as lost.
    pub shutdown_timeout: Duration,
    /// Workers per pipeline. A source always goes to the same one.
    pub workers: NonZeroUsize,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            metric_prefix: pipeline_model::DEFAULT_PREFIX.to_owned(),
            data_dir: None,
            shutdown_timeout: std::time::Duration::from_secs(10).into(),
            workers: NonZeroUsize::MIN.saturating_add(1),
        }
    }
}

impl Service {
    /// What the types alone do not say.
    pub(crate) fn check(&self, section: &Section) -> Option<Diagnostic> {
        let is_name = |(idx, c): (usize, char)| {
            c.is_ascii_alphabetic() || matches!(c, '_' | ':') || (idx > 0 && c.is_ascii_digit())
        };
        if self.metric_prefix.chars().enumerate().all(is_name) {
            return None;
        }
        let message =
            format!("expected the beginning of a metric name, found `{}`", self.metric_prefix);
        Some(section.bad_value(
            &["metric_prefix"],
            message,
            "use letters, digits and underscores, not beginning with a digit: metric_prefix = \"acme\"",
        ))
    }

    /// The folder for keys and checkpoints, as `data_dir` says it.
    pub fn data_dir(&self) -> PathBuf {
        let named = |name: &str| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        let of_user = || {
            let state =
                named("XDG_STATE_HOME").or_else(|| Some(named("HOME")?.join(".local/state")))?;
            // Root's home is not where a service keeps its state.
            (named("HOME")? != std::path::Path::new("/root")).then(|| state.join("inferometer"))
        };
        self.data_dir
            .clone()
            .or_else(|| named("STATE_DIRECTORY"))
            .or_else(of_user)
            .unwrap_or_else(|| PathBuf::from("/var/lib/inferometer"))
    }
}
