//! `llm_num_requests`, `llm_in_flight_tokens` and its trailing average.

use pipeline_model::Mark;

use super::page::{Col, Outputs, Page};
use super::window::Window;

/// Requests inside the engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requests {
    pub(super) running: Col,
    pub(super) waiting: Option<Col>,
    pub(super) out: Col,
}

impl Requests {
    pub(super) fn run(self, page: &Page<'_>, out: &mut Outputs<'_>) {
        let running = page.number(self.running);
        let waiting = self.waiting.map_or(Ok(0.0), |col| page.number(col));
        let all = running.and_then(|running| page.finite(running + waiting?));
        out.gauge(self.out, all);
    }
}

/// Tokens in flight of one pod, now and on average.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) from: Held,
    /// Tokens queued in a router, where the page tells.
    pub(super) queued: Option<Col>,
    pub(super) out: Col,
    pub(super) average_out: Col,
    pub(super) window: Window,
}

/// How the tokens held by running requests are found out.
#[derive(Debug)]
pub(super) enum Held {
    /// Share of the KV cache in use times its size, per data-parallel engine.
    Usage(Vec<(Col, Capacity)>),
    /// The engine tells.
    Tokens(Col),
    /// Running requests times the mean length of those that finished.
    MeanLength { running: Col, prompts: Mean, outputs: Mean },
}

/// Tokens that a KV cache has room for.
#[derive(Debug)]
pub(super) enum Capacity {
    /// Told by the labels of an info series. Several where a process with another configuration took the address over:
    /// the one on the page counts.
    Told(Vec<(Col, f64)>),
    /// A gauge.
    Gauge(Col),
}

/// A mean as sum and count: of a histogram, or of two counters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mean {
    pub(super) sum: Col,
    pub(super) count: Col,
}

impl Mean {
    fn get(self, page: &Page<'_>) -> Result<f64, Mark> {
        let (sum, count) = (page.number(self.sum)?, page.number(self.count)?);
        if count > 0.0 { Ok(sum / count) } else { Err(Mark::Absent) }
    }
}

impl Capacity {
    fn get(&self, page: &Page<'_>) -> Result<f64, Mark> {
        match self {
            Self::Gauge(col) => page.number(*col),
            Self::Told(told) => {
                let present = told.iter().find(|(col, _)| page.mark(*col) == Mark::Present);
                present.map(|(_, tokens)| *tokens).ok_or(Mark::Absent)
            }
        }
    }
}

impl Held {
    fn get(&self, page: &Page<'_>) -> Result<f64, Mark> {
        match self {
            Self::Tokens(col) => page.number(*col),
            Self::Usage(workers) => {
                // An engine that has left holds nothing.
                let (mut tokens, mut gone) = (None, Mark::Absent);
                for (usage, capacity) in workers {
                    match page.mark(*usage) {
                        Mark::Present => {
                            let held = page.number(*usage)? * capacity.get(page)?;
                            tokens = Some(tokens.unwrap_or(0.0) + held);
                        }
                        Mark::Stale => gone = Mark::Stale,
                        Mark::Absent => {}
                    }
                }
                tokens.ok_or(gone)
            }
            Self::MeanLength { running, prompts, outputs } => {
                let running = page.number(*running)?;
                if running == 0.0 {
                    return Ok(0.0);
                }
                Ok(running * (prompts.get(page)? + outputs.get(page)?))
            }
        }
    }
}

impl InFlight {
    pub(super) fn run(&mut self, page: &Page<'_>, out: &mut Outputs<'_>) {
        let held = self.from.get(page);
        // A router that says nothing right now has nothing queued.
        let queued = self.queued.and_then(|col| page.number(col).ok()).unwrap_or(0.0);
        let tokens = held.and_then(|held| page.finite(held + queued));
        out.gauge(self.out, tokens);
        let average = match tokens {
            Ok(tokens) => Ok(self.window.observe(page.batch.time, tokens)),
            Err(gone) => {
                self.window.gap();
                Err(gone)
            }
        };
        out.gauge(self.average_out, average);
    }
}
