//! `llm`: the `llm_*` metrics of every engine pod, whatever engine and release it runs.
//!
//! Place in a pipeline: first. It reads an engine's page by the tables of [`normalize`](crate::normalize), but rank by
//! rank, so it goes before `normalize` folds the ranks; another order is refused. Batches pass on unchanged; beside each
//! page goes one more batch, of a source of its own, with the page's `llm_*` series under the page's target.
//!
//! What is measured how, per engine and release, is the table of [`methods`]; the method in use per target is in self
//! telemetry. Rules that hold for all of it:
//!
//! * What the engine counts is passed on: counters and per-request histograms show what its process has counted, with
//!   its own bounds, and a restart of the process shows as the reset that it is.
//! * What is counted here (speeds, hit rates) begins at zero with the first page and does not fall when the engine
//!   restarts: a counter that fell has counted its new value since.
//! * A page without usable values makes no observation; what was odd is counted by reason.
//! * A failed scrape makes the series stale, and is a gap in the average: unknown time has no weight.

mod bind;
mod config;
mod hits;
mod inputs;
mod load;
mod methods;
mod odd;
mod page;
mod pod;
mod spec;
mod speed;
mod step;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;

use pipeline_component::{BuildProcessor, Component, Processor, Settings, Stability};
use pipeline_config::{Diagnostics, Section};

pub use config::{Config, Deployment};
pub use methods::{Method, methods};

/// The processor.
#[derive(Debug)]
pub struct Llm;

impl Component for Llm {
    type Config = Config;
    const TYPE: &'static str = "llm";
    const STABILITY: Stability = Stability::Beta;
    const SUMMARY: &'static str = "derives the `llm_*` metrics of every engine pod";
    const ORDER_MATTERS: bool = true;
    const BEFORE: &'static [(&'static str, &'static str)] = &[
        ("normalize", "it reads ranks one by one, which `normalize` folds"),
        ("pod_id", "its series are to carry the pod's id"),
        ("labels", "its series are to carry the deployment's labels"),
    ];
}

impl BuildProcessor for Llm {
    fn build(
        config: Config,
        section: &Section,
        settings: Settings,
    ) -> Result<Vec<Processor>, Diagnostics> {
        config.validate(section)?;
        let common = Arc::new(step::Common::new(config, settings));
        Ok(vec![Processor::Compute(Box::new(move || {
            Box::new(step::Step::new(Arc::clone(&common)))
        }))])
    }
}
