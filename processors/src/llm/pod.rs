//! [`Pod`]: all formulas of one pod, and what they remember from page to page.

use pipeline_component::telemetry::Gauge;
use pipeline_model::{Group, Labels, Mark, Slot};

use super::hits::HitRate;
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
    /// Time of the last page.
    pub(super) last: Option<i64>,
    /// The methods in use, on show in self telemetry.
    pub(super) _shown: Vec<Gauge>,
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
                // A sum may be missing (NaN); a count may not.
                Ok(slots) if slots.iter().skip(1).all(|slot| slot.as_double() >= 0.0) => {
                    out.slots(to).copy_from_slice(slots);
                }
                Ok(_) => {
                    page.odd.count(Reason::NotANumber);
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
            let accepted = self.accepted.increase(accepted, page.odd);
            let drafted = self.drafted.increase(drafted, page.odd);
            let since = accepted.zip(drafted).filter(|(_, drafted)| *drafted > 0.0);
            since.map(|(accepted, drafted)| accepted / drafted).ok_or(Mark::Absent)
        });
        out.number(self.out, ratio);
    }
}
