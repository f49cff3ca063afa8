//! Exporter `remote_write`: metrics to whatever takes Prometheus' remote write, 1.0 and 2.0.
//!
//! What it writes is [`pipeline_wire::remote_write`]'s; here is how it gets there, and what the answers mean. The store
//! wants cumulative values, so deltas are added up before they are queued. Grafana Cloud's preset is made from the same
//! [`Plan`] and [`Sender`].

mod answer;
mod config;
mod plan;
pub(crate) mod rules;
mod sender;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use pipeline_component::{
    BuildExporter, Component, Delivery, Outlet, Processor, Push, Settings, Stability,
};
use pipeline_config::{Diagnostics, Section, codes};

pub(crate) use config::batch;
pub use config::{Compression, Config, Protocol};
pub(crate) use plan::{Dialect, Plan};
pub use rules::{DropLabels, Gauges, KeepBuckets, Translation};
use sender::Sender;

/// The exporter.
pub struct RemoteWrite;

impl Component for RemoteWrite {
    type Config = Config;
    const TYPE: &'static str = "remote_write";
    const STABILITY: Stability = Stability::Beta;
    const SUMMARY: &'static str = "Delivers to a store that takes Prometheus' remote write.";

    fn warnings(config: &Config, section: &Section) -> Diagnostics {
        let mut found = Diagnostics::new();
        let url = config.endpoint.parse::<http::Uri>();
        // Without a host it is no address at all, which is an error.
        if url.is_ok_and(|url| url.host().is_some() && url.path().trim_matches('/').is_empty()) {
            let message = "the `endpoint` has no path: stores take remote write at one";
            let help = "`/api/v1/write` for Prometheus, `/api/v1/push` for Mimir, `/api/v1/receive` for Thanos";
            found.push(section.warning(&["endpoint"], codes::BAD_VALUE, message, help));
        }
        found
    }
}

impl BuildExporter for RemoteWrite {
    fn build(config: Config, section: &Section, settings: Settings) -> Result<Outlet, Diagnostics> {
        let plan = config.plan(section, &settings)?;
        let Config { drop_metrics, drop_labels, translation_strategy, .. } = &config;
        let steps = steps(drop_metrics, drop_labels, *translation_strategy, &settings);
        Ok(push(plan, config.delivery(), steps))
    }
}

/// What happens before batches are queued: some things are left out, and deltas added up.
pub(crate) fn steps(
    drop_metrics: &[String],
    drop_labels: &[DropLabels],
    translation: Translation,
    settings: &Settings,
) -> Vec<Processor> {
    let left_out = rules::LeaveOut::new(
        drop_metrics,
        drop_labels,
        translation,
        Arc::clone(&settings.contract),
    );
    let mut steps: Vec<Processor> =
        left_out.into_iter().map(|step| Processor::Reshape(Arc::new(step))).collect();
    let cumulative = pipeline_temporality::Options::cumulative();
    steps.push(pipeline_temporality::processor(cumulative, settings));
    steps
}

/// An exporter that delivers by `plan`.
pub(crate) fn push(plan: Plan, delivery: Delivery, steps: Vec<Processor>) -> Outlet {
    let plan = Arc::new(plan);
    let sender =
        Box::new(move || -> Box<dyn pipeline_component::Sender> { Box::new(Sender::new(&plan)) });
    Outlet::Push(Push { steps, delivery, sender })
}
