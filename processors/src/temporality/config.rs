//! What users write under `[processors.temporality]`.

use std::num::NonZeroU32;

use pipeline_config::{Diagnostics, Duration, Section, codes};
use pipeline_temporality::{Initial, Options};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Converts cumulative sums, histograms and exponential histograms to delta, or back. Exporters whose backend wants one
/// of the two do so themselves; this is for other places. Summaries and gauges pass untouched.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What comes out.
    pub to: To,
    /// To delta: what becomes of the first point of a series. `keep`: its value goes out; `drop`: it is only the base of the
    /// next; `auto`: it goes out when its start time says that all of it was counted since this process began to watch.
    pub initial: Initial,
    /// A series that is silent for longer starts anew. 1h to delta and 5m to cumulative where it is not set.
    pub max_gap: Option<Duration>,
    /// To delta: also converts sums that go up and down; most backends want those cumulative. Delta ones are made
    /// cumulative whatever this says.
    pub non_monotonic: bool,
    /// Series that are remembered; points of further ones are dropped and counted.
    pub max_series: NonZeroU32,
}

/// What comes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// Each point says what was counted since the one before.
    #[default]
    Delta,
    /// Each point says what was counted since a start.
    Cumulative,
}

impl Default for Config {
    fn default() -> Self {
        let defaults = Options::delta();
        let series = u32::try_from(defaults.series_max).ok().and_then(NonZeroU32::new);
        Self {
            to: To::default(),
            initial: defaults.initial,
            max_gap: None,
            non_monotonic: defaults.non_monotonic,
            max_series: series.unwrap_or(NonZeroU32::MAX),
        }
    }
}

impl Config {
    /// What is meant.
    pub(super) fn options(&self) -> Options {
        let defaults = match self.to {
            To::Delta => Options::delta(),
            To::Cumulative => Options::cumulative(),
        };
        Options {
            initial: self.initial,
            max_gap: self.max_gap.map_or(defaults.max_gap, Duration::get),
            non_monotonic: self.non_monotonic,
            series_max: self.max_series.get() as usize,
            ..defaults
        }
    }

    pub(super) fn validate(&self, section: &Section) -> Result<(), Diagnostics> {
        let mut found = Diagnostics::new();
        if self.max_gap.is_some_and(|gap| gap.is_zero()) {
            let help = "write how far two points may be apart, at least several intervals";
            found.push(section.bad_value(
                &["max_gap"],
                "a gap of 0s makes every point the first",
                help,
            ));
        }
        found.into_result()
    }

    /// What is written and means nothing.
    pub(super) fn warnings(&self, section: &Section) -> Diagnostics {
        let mut found = Diagnostics::new();
        for key in ["initial", "non_monotonic"] {
            if self.to == To::Cumulative && section.has(&[key]) {
                found.push(section.warning(
                    &[key],
                    codes::CONFLICT,
                    format!("`{key}` says nothing when `to` is \"cumulative\""),
                    "remove it",
                ));
            }
        }
        found
    }
}
