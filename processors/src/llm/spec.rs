//! `llm_spec_decode_num_*` where the engine does not count them.
//!
//! SGLang from 0.5.13 on counts the calls that verify a draft, of finished requests. Every such call accepts some draft
//! tokens and adds one of its own, and the first token of a request comes from its prefill; so of `g` tokens of `r`
//! finished requests with `v` calls `g - r - v` were accepted drafts. A call proposes the configured number of draft
//! tokens less the one position that it adds itself.

use pipeline_model::Mark;

use super::odd::Reason;
use super::page::{Col, Outputs, Page};

/// Where the values are.
#[derive(Clone, Copy, Debug)]
pub(super) struct VerifiedCols {
    pub(super) generated: Col,
    pub(super) finished: Col,
    pub(super) verified: Col,
    pub(super) length: Col,
    pub(super) accepted_out: Col,
    pub(super) drafted_out: Col,
}

/// Both counters of one pod. They count with the engine, from the start of its process.
#[derive(Debug)]
pub(super) struct Verified {
    cols: VerifiedCols,
    /// None before the first page.
    seen: Option<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Calls at the last page.
    verified: f64,
    /// The most accepted tokens that a page of this process amounted to.
    accepted: f64,
    /// The draft's length may change while the process runs, so this is added up from page to page.
    drafted: f64,
}

impl Verified {
    pub(super) fn new(cols: VerifiedCols) -> Self {
        Self { cols, seen: None }
    }

    pub(super) fn adopt(&mut self, old: &Self) {
        self.seen = old.seen;
    }

    /// Accepted and drafted tokens of the process.
    pub(super) fn run(&mut self, page: &Page<'_>, out: &mut Outputs<'_>) -> Option<(f64, f64)> {
        let seen = self.count(page);
        if let Ok(seen) = seen {
            self.seen = Some(seen);
        }
        out.number(self.cols.accepted_out, seen.map(|seen| seen.accepted));
        out.number(self.cols.drafted_out, seen.map(|seen| seen.drafted));
        seen.ok().map(|seen| (seen.accepted, seen.drafted))
    }

    fn count(&self, page: &Page<'_>) -> Result<Seen, Mark> {
        let cols = self.cols;
        let verified = page.number(cols.verified)?;
        let length = (page.number(cols.length)? - 1.0).max(0.0);
        let first_and_own = page.number(cols.finished)? + verified;
        let accepted = (page.number(cols.generated)? - first_and_own).max(0.0);
        Ok(match self.seen {
            Some(before) if verified >= before.verified && !page.restarted => {
                let drafted = before.drafted + (verified - before.verified) * length;
                // Requests that end without a call (one token, aborted) must not make the counter fall.
                Seen { verified, accepted: before.accepted.max(accepted).min(drafted), drafted }
            }
            fell => {
                if fell.is_some() && !page.restarted {
                    page.odd.count(Reason::CounterReset);
                }
                let drafted = verified * length;
                Seen { verified, accepted: accepted.min(drafted), drafted }
            }
        })
    }
}
