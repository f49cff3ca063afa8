//! [`Pod`]: all formulas of one pod, and what they remember from page to page.

use pipeline_component::telemetry::Gauge;
use pipeline_model::{Group, Labels, Mark, Slot};

use super::hits::HitRate;
use super::inputs::Input;
use super::load::{InFlight, Requests};
use super::odd::Reason;
use super::page::{Col, Last, Outputs, Page};
use super::spec::Verified;
use super::speed::Speed;

/// What tells one pod from another: where its page comes from, and what the page says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) group: Group,
    pub(super) labels: Labels,
}

/// The formulas of one pod.
pub(super) struct Pod {
    pub(super) key: Key,
    pub(super) carried: Vec<Carried>,
    pub(super) speed: Option<Speed>,
    pub(super) hits: Option<HitRate>,
    pub(super) verified: Option<Verified>,
    pub(super) acceptance: Option<Acceptance>,
    pub(super) requests: Option<Requests>,
    pub(super) in_flight: Option<InFlight>,
    /// Counters by which a restart of the process is told.
    pub(super) lives: Vec<Life>,
    /// Time of the last page.
    pub(super) last: Option<i64>,
    /// The methods in use, on show in self telemetry.
    pub(super) _shown: Vec<Gauge>,
}

/// A counter as it was on the last page that had it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    input: Input,
    col: Col,
    value: f64,
    start: i64,
}

impl Life {
    pub(super) fn new(input: Input, col: Col) -> Self {
        Self { input, col: col.counting(), value: 0.0, start: 0 }
    }
}

/// What the engine counts and is passed on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Carried {
    /// A counter or a histogram.
    Whole { from: Col, to: Col },
    /// A histogram without buckets, of which two counters are sum and count.
    Mean { sum: Col, count: Col, to: Col },
}

impl Pod {
    /// Goes on from an earlier binding of the same pod.
    pub(super) fn adopt(&mut self, old: Self, page: &Page<'_>) {
        self.last = old.last;
        for own in &mut self.lives {
            if let Some(old) = old.lives.iter().find(|old| old.input == own.input) {
                (own.value, own.start) = (old.value, old.start);
            }
        }
        if let (Some(own), Some(old)) = (&mut self.speed, old.speed) {
            own.adopt(old, page);
        }
        if let (Some(own), Some(old)) = (&mut self.hits, old.hits) {
            own.adopt(old);
        }
        if let (Some(own), Some(old)) = (&mut self.verified, &old.verified) {
            own.adopt(old);
        }
        if let (Some(own), Some(old)) = (&mut self.acceptance, old.acceptance) {
            own.adopt(&old);
        }
        if let (Some(own), Some(old)) = (&mut self.in_flight, old.in_flight) {
            own.window.adopt(old.window);
        }
    }

    /// Takes a page.
    pub(super) fn run(&mut self, page: &Page<'_>, max_gap: i64, out: &mut Outputs<'_>) {
        let continuous = self.is_continuous(page, max_gap);
        let page = &Page { restarted: self.has_restarted(page), ..*page };
        if page.restarted {
            page.odd.count(Reason::CounterReset);
        }
        for carried in &self.carried {
            carried.run(page, out);
        }
        if let Some(speed) = &mut self.speed {
            speed.run(page, continuous, out);
        }
        if let Some(hits) = &mut self.hits {
            hits.run(page, out);
        }
        let verified = self.verified.as_mut().and_then(|verified| verified.run(page, out));
        if let Some(acceptance) = &mut self.acceptance {
            acceptance.run(page, verified, out);
        }
        if let Some(requests) = self.requests {
            requests.run(page, out);
        }
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.run(page, out);
        }
    }

    /// True when the process is another one than on the last page: a start time says so, or most of its counters fell.
    /// One that counts faster than the page is read does not fall with every counter, and a single one that falls is no
    /// new process.
    fn has_restarted(&mut self, page: &Page<'_>) -> bool {
        let (mut fell, mut counted, mut later) = (0, 0, false);
        for life in &mut self.lives {
            let Some(now) = page.raw(life.col) else { continue };
            let start = page.batch.start(life.col.row());
            later |= life.start != 0 && start > life.start;
            if life.value > 0.0 {
                counted += 1;
                fell += usize::from(now < life.value);
            }
            (life.value, life.start) = (now, start);
        }
        later || fell > 0 && 2 * fell >= counted
    }

    /// True when this page and the last one are two ends of one interval.
    fn is_continuous(&mut self, page: &Page<'_>, max_gap: i64) -> bool {
        let time = page.batch.time;
        let Some(last) = self.last.replace(time) else { return false };
        let window = self.in_flight.as_mut().map(|in_flight| &mut in_flight.window);
        if time < last {
            page.odd.count(Reason::ClockStep);
            window.into_iter().for_each(|window| window.clear());
            return false;
        }
        if time - last > max_gap {
            page.odd.count(Reason::Gap);
            window.into_iter().for_each(|window| window.gap());
            return false;
        }
        true
    }
}

impl Carried {
    fn run(self, page: &Page<'_>, out: &mut Outputs<'_>) {
        match self {
            Self::Whole { from, to } if to.is_number() => out.number(to, page.number(from)),
            Self::Whole { from, to } => match page.slots(from) {
                Ok(slots) if ascends(slots) => out.slots(to).copy_from_slice(slots),
                Ok(_) => {
                    page.odd.count(Reason::Buckets);
                    out.gone(to, Mark::Absent);
                }
                Err(gone) => out.gone(to, gone),
            },
            Self::Mean { sum, count, to } => {
                let both = page.number(sum).and_then(|sum| Ok((sum, page.number(count)?)));
                match both {
                    Ok((sum, count)) => {
                        out.slots(to).copy_from_slice(&[Slot::double(sum), Slot::double(count)]);
                    }
                    Err(gone) => out.gone(to, gone),
                }
            }
        }
    }
}

/// True for the slots of a histogram: finite counts that ascend over the bounds to the count. Its sum may be missing
/// (NaN).
fn ascends(slots: &[Slot]) -> bool {
    let mut below = 0.0;
    let counts = slots.iter().skip(2).chain(slots.get(1)).map(|slot| slot.as_double());
    counts
        .into_iter()
        .all(|count| count.is_finite() && count >= std::mem::replace(&mut below, count))
}

/// `llm_spec_decode_acceptance_ratio`: accepted by drafted tokens since the last page.
#[derive(Debug)]
pub(super) struct Acceptance {
    share: Share,
    out: Col,
    accepted: Last,
    drafted: Last,
}

/// Where both counters are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Share {
    /// On the page.
    Cols { accepted: Col, drafted: Col },
    /// Counted by [`Verified`].
    Verified,
}

impl Acceptance {
    pub(super) fn new(share: Share, out: Col) -> Self {
        Self { share, out, accepted: Last::default(), drafted: Last::default() }
    }

    fn adopt(&mut self, old: &Self) {
        (self.accepted, self.drafted) = (old.accepted, old.drafted);
    }

    fn run(&mut self, page: &Page<'_>, verified: Option<(f64, f64)>, out: &mut Outputs<'_>) {
        let both = match self.share {
            Share::Verified => verified.ok_or(Mark::Absent),
            Share::Cols { accepted, drafted } => {
                page.number(accepted).and_then(|a| Ok((a, page.number(drafted)?)))
            }
        };
        let ratio = both.and_then(|(accepted, drafted)| {
            let accepted = self.accepted.increase(accepted, page);
            let drafted = self.drafted.increase(drafted, page);
            let since = accepted.zip(drafted).filter(|(_, drafted)| *drafted > 0.0);
            since.map(|(accepted, drafted)| accepted / drafted).ok_or(Mark::Absent)
        });
        out.gauge(self.out, ratio);
    }
}
