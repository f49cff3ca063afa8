//! Exporter `newrelic`: [`crate::otlp`] with New Relic's address, limits and rules.
//!
//! New Relic thinks in deltas, so cumulative sums and histograms are made deltas before they are queued; what it cannot
//! take (numbers that are none, deltas of sums that go up and down) is left out and counted.

mod config;
mod summaries;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use pipeline_component::{BuildExporter, Component, Outlet, Processor, Settings, Stability};
use pipeline_config::{Diagnostics, Section};
use pipeline_temporality::Options;

pub use config::{Config, Region};
use summaries::Summaries;

use crate::otlp::push;

/// The exporter.
pub struct NewRelic;

impl Component for NewRelic {
    type Config = Config;
    const TYPE: &'static str = "newrelic";
    const STABILITY: Stability = Stability::Beta;
    const SUMMARY: &'static str = "Delivers to New Relic.";
}

impl BuildExporter for NewRelic {
    fn build(config: Config, section: &Section, settings: Settings) -> Result<Outlet, Diagnostics> {
        let plan = config.plan(section)?;
        let interner = Arc::clone(&settings.interner);
        let summaries =
            Processor::Compute(Box::new(move || Box::new(Summaries::new(Arc::clone(&interner)))));
        let delta = Options { initial: config.initial, ..Options::delta() };
        let steps = vec![summaries, pipeline_temporality::processor(delta, &settings)];
        Ok(push(plan, config.delivery(), steps))
    }
}
