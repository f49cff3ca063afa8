//! [`Odd`]: what can be wrong with an engine's page, and how often it was.

use pipeline_component::telemetry::{Counter, Telemetry, table::LLM_ANOMALIES};

/// What was odd. Each has one defined outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// NaN or infinite where a number is needed: the value is left out.
    NotANumber,
    /// Below zero where nothing can be: the value is left out.
    Negative,
    /// A counter fell, or the process restarted: its new value is what it counted since.
    CounterReset,
    /// More prefix cache hits than queries: no observation.
    HitsAboveQueries,
    /// Buckets that fell without a restart, or do not ascend: no observation, and the histogram is not passed on.
    Buckets,
    /// The engine's buckets have other bounds than before: the histogram starts again.
    BoundsChanged,
    /// The time of a page is before that of the last one: intervals begin anew.
    ClockStep,
    /// Longer than `max_gap` since the last page: the time between is unknown.
    Gap,
    /// A delta where only cumulative values can be used: the series is not read.
    Temporality,
    /// A series that does not have the kind of its metric: it is not read.
    Kind,
    /// A window in metadata that is none: the configured one is used.
    Window,
}

const REASONS: [(Reason, &str); 11] = [
    (Reason::NotANumber, "not_a_number"),
    (Reason::Negative, "negative"),
    (Reason::CounterReset, "counter_reset"),
    (Reason::HitsAboveQueries, "hits_above_queries"),
    (Reason::Buckets, "buckets"),
    (Reason::BoundsChanged, "bounds_changed"),
    (Reason::ClockStep, "clock_step"),
    (Reason::Gap, "gap"),
    (Reason::Temporality, "temporality"),
    (Reason::Kind, "kind"),
    (Reason::Window, "window"),
];

/// Counts by reason.
#[derive(Clone, Debug)]
pub(super) struct Odd(Vec<Counter>);

impl Odd {
    pub(super) fn new(telemetry: &Telemetry) -> Self {
        let counter = |(_, name)| telemetry.counter(&LLM_ANOMALIES, &[("reason", name)]);
        Self(REASONS.map(counter).into())
    }

    pub(super) fn count(&self, reason: Reason) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.inc();
        }
    }

    #[cfg(test)]
    pub(super) fn get(&self, reason: Reason) -> u64 {
        self.0[reason as usize].get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter() {
        for (idx, (reason, _)) in REASONS.iter().enumerate() {
            assert_eq!(*reason as usize, idx, "{reason:?}");
        }
    }
}
