//! `labels`: attaches what a series belongs to, and enforces the label sets of the contract.
//!
//! It is the last reshape step of a pipeline: what it puts out is what users see. Attached labels go to the groups of
//! the output shape, so that targets with equal pages go on sharing one table of rows.

mod config;
#[cfg(test)]
mod conformance;
mod guard;
mod resolve;
mod rules;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use pipeline_component::{BuildProcessor, Component, Processor, Settings, Stability};
use pipeline_config::{Diagnostics, Section};
use pipeline_model::label_values;

pub use crate::pod::PodNames;
pub use config::{Attach, Config, Limit, Other, OtherNames, ReplicaFrom};

/// The processor.
#[derive(Debug)]
pub struct AttachLabels;

impl Component for AttachLabels {
    type Config = Config;
    const TYPE: &'static str = "labels";
    const STABILITY: Stability = Stability::Beta;
    const SUMMARY: &'static str =
        "attaches model, deployment and replica; enforces the contract's label sets";
}

impl BuildProcessor for AttachLabels {
    fn build(
        config: Config,
        section: &Section,
        settings: Settings,
    ) -> Result<Vec<Processor>, Diagnostics> {
        check(&config, section)?;
        Ok(vec![Processor::Reshape(Arc::new(step::Step::new(config, &settings)))])
    }
}

fn check(config: &Config, section: &Section) -> Result<(), Diagnostics> {
    let mut errors = Diagnostics::new();
    let phase = &config.attach.rollout_phase;
    let phases = label_values("rollout_phase").unwrap_or_default();
    if !phase.is_empty() && !phases.contains(&phase.as_str()) {
        errors.push(section.bad_value(
            &["attach", "rollout_phase"],
            format!("`{phase}` is no rollout phase"),
            format!("one of `{}`, or nothing", phases.join("`, `")),
        ));
    }
    for name in config.limits.keys() {
        if let Some(values) = label_values(name) {
            errors.push(section.bad_value(
                &["limits", name],
                format!(
                    "`{name}` has a closed set of values and cannot overflow: `{}`",
                    values.join("`, `")
                ),
                "remove this limit",
            ));
        }
    }
    errors.into_result()
}
