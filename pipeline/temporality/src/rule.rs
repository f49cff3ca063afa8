//! [`Rule`]: what a point is to its series by its times alone.

use crate::Initial;
use crate::counts::Reason;

/// Time of a series without a base.
pub(crate) const NONE: i64 = i64::MIN;

/// What a point is, when it does not simply follow the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rare {
    /// A count that began at this time, Unix nanoseconds; 0 = unknown.
    Begin(i64),
    /// Only the base of the next.
    Hold(Reason),
    /// Nothing: the base stays.
    Drop(Reason),
}

/// The settings, as the loops want them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) initial: Initial,
    /// Nanoseconds.
    pub(crate) max_gap: i64,
    /// When this process began to watch, Unix nanoseconds.
    pub(crate) watching_since: i64,
}

/// A start time that says something about a point of `time`.
fn is_known(start: i64, time: i64) -> bool {
    start > 0 && start < time
}

fn known(start: i64, time: i64) -> i64 {
    if is_known(start, time) { start } else { 0 }
}

impl Rule {
    /// `None`: the point follows the one of time `last`.
    #[inline]
    pub(crate) fn delta(&self, last: i64, time: i64, start: i64) -> Option<Rare> {
        let began = start > last && start < time;
        let near = time.wrapping_sub(last).cast_unsigned() <= self.max_gap.cast_unsigned();
        if last != NONE && time > last && near && !began {
            return None;
        }
        Some(self.rare_delta(last, time, start))
    }

    #[cold]
    fn rare_delta(&self, last: i64, time: i64, start: i64) -> Rare {
        if last == NONE {
            let kept = match self.initial {
                Initial::Auto => is_known(start, time) && start >= self.watching_since,
                Initial::Keep => true,
                Initial::Drop => false,
            };
            return if kept { Rare::Begin(known(start, time)) } else { Rare::Hold(Reason::First) };
        }
        if time <= last {
            return self.old(last, time).map_or(Rare::Hold(Reason::Gap), Rare::Drop);
        }
        if start > last && is_known(start, time) {
            return Rare::Begin(start);
        }
        Rare::Hold(Reason::Gap)
    }

    /// `None`: the point is added to the count, which ends at `last`.
    #[inline]
    pub(crate) fn sum(&self, last: i64, time: i64, start: i64) -> Option<Rare> {
        let from = if is_known(start, time) { start } else { time };
        let gap = from.wrapping_sub(last);
        if last != NONE && time > last && gap >= 0 && gap <= self.max_gap {
            return None;
        }
        self.rare_sum(last, time, start)
    }

    #[cold]
    fn rare_sum(&self, last: i64, time: i64, start: i64) -> Option<Rare> {
        let since = known(start, time);
        if last == NONE {
            return Some(Rare::Begin(since));
        }
        if time <= last {
            let old = self.old(last, time);
            return Some(old.map_or(Rare::Begin(since), Rare::Drop));
        }
        if since != 0 && since < last {
            // Clocks that are read twice differ a little; a tenth of what the point covers is no second writer.
            let is_slack = last.saturating_sub(since) <= (time - since) / 10;
            return (!is_slack).then_some(Rare::Drop(Reason::Overlap));
        }
        Some(Rare::Begin(if since == 0 { last } else { since }))
    }

    /// What a point is whose value says that the count began anew after `last`, whatever the times say.
    pub(crate) fn anew<const DELTA: bool>(last: i64, time: i64, start: i64) -> Rare {
        if DELTA && start == time {
            // "Begun now" is how senders say that they do not know since when they count.
            return Rare::Hold(Reason::First);
        }
        Rare::Begin(known(start, time).max(last))
    }

    /// Why a point not after `last` is dropped. `None`: it is so old that the clock was set back.
    fn old(&self, last: i64, time: i64) -> Option<Reason> {
        if last.saturating_sub(time) > self.max_gap {
            None
        } else if last == time {
            Some(Reason::Duplicate)
        } else {
            Some(Reason::OutOfOrder)
        }
    }
}
