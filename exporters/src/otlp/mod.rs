//! Exporter `otlp`: metrics to whatever takes OTLP, over gRPC or HTTP.
//!
//! What it writes is [`pipeline_wire::otlp::encode`]'s; here is how it gets there, and what the answers mean. Presets
//! for backends with rules of their own are made from the same [`Plan`] and [`Sender`].

mod answer;
mod config;
mod lane;
mod plan;
mod routes;
mod sender;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use pipeline_component::{
    BuildExporter, Component, Delivery, Outlet, Processor, Push, Settings, Stability,
};
use pipeline_config::{Diagnostics, Section};

pub use config::{Balance, Compression, Config, Protocol};
pub(crate) use config::{bad_endpoint, check_common, check_request_bytes, client, url_of};
pub(crate) use plan::{Plan, Rules};
use sender::Sender;

/// The exporter.
pub struct Otlp;

impl Component for Otlp {
    type Config = Config;
    const TYPE: &'static str = "otlp";
    const STABILITY: Stability = Stability::Beta;
    const SUMMARY: &'static str = "Delivers to an OTLP endpoint, over gRPC or HTTP.";
}

impl BuildExporter for Otlp {
    fn build(config: Config, section: &Section, _: Settings) -> Result<Outlet, Diagnostics> {
        let plan = config.plan(section)?;
        Ok(push(plan, config.delivery(), Vec::new()))
    }
}

/// An exporter that delivers by `plan`.
pub(crate) fn push(plan: Plan, delivery: Delivery, steps: Vec<Processor>) -> Outlet {
    let plan = Arc::new(plan);
    let sender =
        Box::new(move || -> Box<dyn pipeline_component::Sender> { Box::new(Sender::new(&plan)) });
    Outlet::Push(Push { steps, delivery, sender })
}
