//! Cumulative to delta and back, for sums, histograms and exponential histograms: a step that an exporter inserts
//! because its backend wants one of the two, or that a user inserts as the processor `temporality`.
//!
//! Not here: gauges, summaries, and points that have the wanted temporality already; they pass untouched.
//!
//! The rules are OpenTelemetry's data model (specification, metrics/data-model, "Sums", "Resets and gaps"), where that
//! leaves something open what the Collector and Datadog's mapper do. Per series, to delta:
//!
//! * a point's delta is its difference to the one before, and starts at that one's time;
//! * a value that fell, or a start time after the last point, is a reset: the new value has been counted since the new
//!   start, or where that is unknown since the last point. A start time of 0, or not before the point's own time, is
//!   unknown;
//! * the first point has a delta by [`Initial`];
//! * after a silence longer than [`Options::max_gap`] a point is only a new base, unless a reset says since when it has
//!   been counting.
//!
//! To cumulative: the first delta begins a count at its start; one that begins where the last ended, or later, is
//! added; one that begins more than a tenth of its own length before is dropped; after a gap the count begins anew.
//!
//! Both: a point not after the last one is dropped, unless it is older by more than a gap, since then the clock was
//! set back and everything after would be lost. What says nothing (NaN, infinity, counts that fall with their bounds,
//! a negative delta of something monotonic) is dropped and the base stays. A stale row passes as stale and its series
//! begins anew after it. Integers stay exact; one that ran over the top of 64 bits goes on. Whatever is dropped is
//! counted by reason.

mod counts;
mod exponential;
mod layout;
mod points;
mod rule;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use pipeline_component::{Processor, Settings};
use pipeline_model::Temporality;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of a series' first cumulative point, whose value may have been counted before anybody looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Initial {
    /// Its value is a delta when its start time is known and not before this process began to watch; else it is only
    /// the base of the next.
    #[default]
    Auto,
    /// Its value is a delta.
    Keep,
    /// It is only the base of the next.
    Drop,
}

/// How to convert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What comes out.
    pub to: Temporality,
    /// The first point of a series; to delta only.
    pub initial: Initial,
    /// Silence after which a series starts anew.
    pub max_gap: Duration,
    /// Also converts cumulative sums that go up and down to delta. Most backends want them cumulative; delta ones are
    /// made cumulative whatever this says.
    pub non_monotonic: bool,
    /// Series that are remembered, over all sources; points of others are dropped.
    pub series_max: usize,
}

impl Options {
    /// To delta, with defaults: a gap of an hour, as Datadog's mapper has.
    pub fn delta() -> Self {
        Self {
            to: Temporality::Delta,
            initial: Initial::Auto,
            max_gap: Duration::from_secs(3600),
            non_monotonic: false,
            series_max: 1_000_000,
        }
    }

    /// To cumulative, with defaults: a gap of five minutes, as the Collector's `deltatocumulative` has.
    pub fn cumulative() -> Self {
        Self { to: Temporality::Cumulative, max_gap: Duration::from_secs(300), ..Self::delta() }
    }
}

/// The step. What was counted before now is from before this process began to watch.
pub fn processor(options: Options, settings: &Settings) -> Processor {
    let common = Arc::new(step::Common::new(options, settings));
    Processor::Compute(Box::new(move || Box::new(step::Step::new(Arc::clone(&common)))))
}
