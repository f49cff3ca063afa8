//! What users write under `[processors.llm]`.

use std::collections::BTreeMap;

use pipeline_config::{Diagnostics, Duration, Section};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Derives the `llm_*` metrics of every engine pod from the engine's own page.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Over how long `llm_avg_in_flight_tokens` is averaged, 10 s to 1 h, where neither `deployments` nor the
    /// deployment's metadata (`autoscaling_window`) says otherwise. Scrape several times within it.
    pub autoscaling_window: Duration,
    /// Settings of single deployments, by their id as the target's labels, its pod or the metadata have it
    /// (`deployment_id`, `deployment`, `k8s.deployment.name`). An id that only `processors.labels.attach` sets is not
    /// known yet here: where there is but one deployment, set `autoscaling_window` itself.
    pub deployments: BTreeMap<String, Deployment>,
    /// Adds what goes beyond the contract: `llm_queue_time_seconds`, `llm_prefill_time_seconds`,
    /// `llm_decode_time_seconds`, `llm_preemptions_total`, `llm_spec_decode_acceptance_ratio` and
    /// `llm_prefix_cache_hit_ratio`.
    pub extended: bool,
    /// Names of gauges, on the engine's page or beside it in one OTLP resource, that count tokens queued for the pod
    /// in a router: they are added to `llm_in_flight_tokens`.
    pub queued_tokens: Vec<String>,
    /// Two pages further apart than this are not two ends of one interval: the time between them is unknown.
    pub max_gap: Duration,
}

/// Settings of one deployment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Its autoscaling window, 10 s to 1 h.
    pub autoscaling_window: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            autoscaling_window: Duration::from_secs(60),
            deployments: BTreeMap::new(),
            extended: false,
            queued_tokens: Vec::new(),
            max_gap: Duration::from_secs(300),
        }
    }
}

/// True for a span that an autoscaling window may have.
pub(super) fn is_window(span: std::time::Duration) -> bool {
    (10..=3600).contains(&span.as_secs()) && span.as_secs_f64() <= 3600.0
}

impl Config {
    /// Every window in its range.
    pub(super) fn validate(&self, section: &Section) -> Result<(), Diagnostics> {
        let mut found = Diagnostics::new();
        let mut check = |path: &[&str], window: Duration| {
            if !is_window(window.get()) {
                let message = format!("an autoscaling window of {window} is out of range");
                found.push(section.bad_value(path, message, "write 10s to 1h; the default is 60s"));
            }
        };
        check(&["autoscaling_window"], self.autoscaling_window);
        for (id, deployment) in &self.deployments {
            check(&["deployments", id, "autoscaling_window"], deployment.autoscaling_window);
        }
        if self.max_gap.is_zero() {
            let help = "write how far two pages may be apart, at least several scrape intervals";
            found.push(section.bad_value(&["max_gap"], "a gap of 0s leaves no interval", help));
        }
        if self.queued_tokens.iter().any(String::is_empty) {
            let help = "write the name of a gauge, or leave it out";
            found.push(section.bad_value(&["queued_tokens"], "a metric without a name", help));
        }
        found.into_result()
    }
}
