//! Self telemetry: counters and gauges that say what this process does, lost and costs.
//!
//! Every metric is declared in [`table`]; handles are atomics, so counting on a hot path is one relaxed add.
//! Labels come from closed sets and configuration; the few that come from data (target, metric name) are capped per
//! metric, and what goes over the cap is counted under the value `other`.

mod registry;
pub mod table;
#[cfg(test)]
mod tests;

pub use registry::{Counter, Family, Gauge, Sample, Seconds, Telemetry};
pub use table::{Definition, Type};
