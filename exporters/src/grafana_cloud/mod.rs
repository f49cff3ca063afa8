//! Exporter `grafana_cloud`: [`crate::remote_write`] or [`crate::otlp`] with what Grafana Cloud wants and bills.
//!
//! Billed are active series and data points a minute, so that series are thinned to one sample a minute before they are
//! queued, buckets and labels can be left out, and self telemetry tells which metrics have how many series.

mod config;
mod report;
#[cfg(test)]
mod tests;
mod thin;

use pipeline_component::{BuildExporter, Component, Outlet, Processor, Settings, Stability};
use pipeline_config::{Diagnostics, Section};

pub use config::{Config, Protocol};
pub(crate) use report::{Report, Teller};
use thin::Thin;

/// The exporter.
pub struct GrafanaCloud;

impl Component for GrafanaCloud {
    type Config = Config;
    const TYPE: &'static str = "grafana_cloud";
    const STABILITY: Stability = Stability::Beta;
    const SUMMARY: &'static str = "Delivers to Grafana Cloud.";
}

impl BuildExporter for GrafanaCloud {
    fn build(config: Config, section: &Section, settings: Settings) -> Result<Outlet, Diagnostics> {
        let Config { drop_metrics, drop_labels, translation_strategy, .. } = &config;
        let mut steps =
            crate::remote_write::steps(drop_metrics, drop_labels, *translation_strategy, &settings);
        // After deltas were added up: thinning would lose some of them.
        let interval = config.interval.get();
        if !interval.is_zero() {
            steps.push(Processor::Compute(Box::new(move || Box::new(Thin::new(interval)))));
        }
        match config.protocol {
            Protocol::RemoteWrite => {
                let plan = config.plan(section, &settings)?;
                Ok(crate::remote_write::push(plan, config.delivery(), steps))
            }
            Protocol::Otlp => {
                let plan = config.otlp(section)?;
                Ok(crate::otlp::push(plan, config.delivery(), steps))
            }
        }
    }
}
