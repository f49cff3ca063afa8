//! `temporality`: cumulative to delta and back, for who wants it at a place of their own. Exporters whose backend wants
//! one of the two insert the same step themselves. What it does is [`pipeline_temporality`].

mod config;
#[cfg(test)]
mod tests;

use pipeline_component::{BuildProcessor, Component, Processor, Settings, Stability};
use pipeline_config::{Diagnostics, Section};
use pipeline_temporality::processor;

pub use config::{Config, To};

/// The processor.
#[derive(Debug)]
pub struct Temporality;

impl Component for Temporality {
    type Config = Config;
    const TYPE: &'static str = "temporality";
    const STABILITY: Stability = Stability::Beta;
    const SUMMARY: &'static str = "converts cumulative sums and histograms to delta, or back";

    fn warnings(config: &Config, section: &Section) -> Diagnostics {
        config.warnings(section)
    }
}

impl BuildProcessor for Temporality {
    fn build(
        config: Config,
        section: &Section,
        settings: Settings,
    ) -> Result<Vec<Processor>, Diagnostics> {
        config.validate(section)?;
        Ok(vec![processor(config.options(), &settings)])
    }
}
