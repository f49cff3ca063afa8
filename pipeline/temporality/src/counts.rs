//! What is counted about points that do not go out.

use pipeline_component::telemetry::{Counter, Gauge, Telemetry, table};

/// Why a point does not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The first of its series: only a base.
    First,
    /// The first after a gap, or after the clock was set back: only a base.
    Gap,
    /// Of the same time as the last.
    Duplicate,
    /// Older than the last.
    OutOfOrder,
    /// A delta that begins before the last one ended.
    Overlap,
    /// It says nothing.
    Invalid,
    /// The source has the same series in the wanted temporality as well.
    Conflict,
    /// There are too many series.
    Limit,
}

const NAMES: [&str; 8] =
    ["first", "gap", "duplicate", "out_of_order", "overlap", "invalid", "conflict", "limit"];

/// Counts of one batch.
#[derive(Default)]
pub(crate) struct Tally {
    dropped: [u64; NAMES.len()],
    pub(crate) resets: u64,
}

impl Tally {
    pub(crate) fn drop(&mut self, reason: Reason) {
        self.dropped[reason as usize] += 1;
    }
}

/// Counts of the component.
pub(crate) struct Counts {
    dropped: [Counter; NAMES.len()],
    resets: Counter,
    pub(crate) series: Gauge,
}

impl Counts {
    pub(crate) fn new(telemetry: &Telemetry) -> Self {
        let dropped =
            |reason| telemetry.counter(&table::TEMPORALITY_DROPPED, &[("reason", reason)]);
        Self {
            dropped: NAMES.map(dropped),
            resets: telemetry.counter(&table::TEMPORALITY_RESETS, &[]),
            series: telemetry.gauge(&table::TEMPORALITY_SERIES, &[]),
        }
    }

    pub(crate) fn add(&self, tally: &Tally) {
        for (counter, n) in self.dropped.iter().zip(tally.dropped) {
            if n > 0 {
                counter.add(n);
            }
        }
        if tally.resets > 0 {
            self.resets.add(tally.resets);
        }
    }
}
