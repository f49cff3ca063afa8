//! `llm_kv_cache_hit_rate`: one observation per page and worker that looked anything up.

use pipeline_model::{Bounds, Mark};

use super::odd::{Odd, Reason};
use super::page::{Col, Counted, Last, Outputs, Page};

/// The metric of one pod.
#[derive(Debug)]
pub(super) struct HitRate {
    pub(super) out: Col,
    pub(super) bounds: Bounds,
    pub(super) workers: Vec<Worker>,
    /// Hits by queries since the last page, over all workers: beyond the contract.
    pub(super) ratio_out: Option<Col>,
    counted: Counted,
}

/// One data-parallel engine.
#[derive(Debug)]
pub(super) struct Worker {
    /// Its rank as text; empty where there is but one.
    pub(super) rank: String,
    pub(super) from: From,
}

/// Where a worker's hit rate comes from.
#[derive(Debug)]
pub(super) enum From {
    /// Counted tokens. Hits are missing on pages that never had one.
    Counters {
        queries: Col,
        hits: Option<Col>,
        last_queries: Last,
        last_hits: Last,
        method: String,
    },
    /// A gauge that averages over the whole life of the process, read when prompts were processed since.
    Gauge { rate: Col, prompts: Col, last_prompts: Last },
}

impl HitRate {
    pub(super) fn new(out: Col, bounds: Bounds, workers: Vec<Worker>, since: i64) -> Self {
        let counted = Counted::new(bounds.len(), since);
        Self { out, bounds, workers, ratio_out: None, counted }
    }

    /// Goes on from an earlier binding of the same pod. Workers go on where they are measured as before.
    pub(super) fn adopt(&mut self, mut old: Self) {
        for worker in &mut self.workers {
            if let Some(idx) = old.workers.iter().position(|before| before.rank == worker.rank) {
                worker.adopt(old.workers.swap_remove(idx));
            }
        }
        if old.bounds == self.bounds {
            self.counted = old.counted;
        }
    }

    /// Since when it counts.
    pub(super) fn since(&self) -> i64 {
        self.counted.since
    }

    pub(super) fn run(&mut self, page: &Page<'_>, out: &mut Outputs<'_>) {
        let (mut hits, mut queries) = (0.0, 0.0);
        let mut mark = Mark::Absent;
        for worker in &mut self.workers {
            match worker.observe(page) {
                Ok(seen) => {
                    mark = Mark::Present;
                    let Some(Seen { hits: h, queries: q }) = seen else { continue };
                    self.counted.observe(self.bounds.as_slice(), h / q, 1.0);
                    hits += h;
                    queries += q;
                }
                Err(Mark::Stale) if mark != Mark::Present => mark = Mark::Stale,
                Err(_) => {}
            }
        }
        match mark {
            Mark::Present => self.counted.put(self.out, out),
            gone => out.gone(self.out, gone),
        }
        if let Some(col) = self.ratio_out {
            let ratio = match mark {
                Mark::Present if queries > 0.0 => Ok(hits / queries),
                Mark::Present => Err(Mark::Absent),
                gone => Err(gone),
            };
            out.gauge(col, ratio);
        }
    }
}

/// What a worker looked up and found since the last page. A gauge counts as one query.
struct Seen {
    hits: f64,
    queries: f64,
}

impl Worker {
    fn adopt(&mut self, old: Self) {
        match (&mut self.from, old.from) {
            (
                From::Counters { last_queries, last_hits, method, .. },
                From::Counters { last_queries: queries, last_hits: hits, method: before, .. },
            ) if *method == before => (*last_queries, *last_hits) = (queries, hits),
            (From::Gauge { last_prompts, .. }, From::Gauge { last_prompts: prompts, .. }) => {
                *last_prompts = prompts;
            }
            _ => {}
        }
    }

    fn observe(&mut self, page: &Page<'_>) -> Result<Option<Seen>, Mark> {
        match &mut self.from {
            From::Counters { queries, hits, last_queries, last_hits, .. } => {
                let queried = page.number(*queries)?;
                let hit = match hits {
                    None => 0.0,
                    Some(col) => match page.number(*col) {
                        Ok(hit) => hit,
                        // Not there, or no number: nothing can be said of this interval, and the next one begins here.
                        Err(_) => {
                            (*last_queries, *last_hits) = (Last::default(), Last::default());
                            return Ok(None);
                        }
                    },
                };
                // Both are one engine's: where one fell, both began again.
                let fell = last_queries.fell(queried) || last_hits.fell(hit);
                if fell && !page.restarted {
                    page.odd.count(Reason::CounterReset);
                }
                let page = &Page { restarted: page.restarted || fell, ..*page };
                let queried = last_queries.increase(queried, page);
                let hit = last_hits.increase(hit, page);
                Ok(queried.zip(hit).and_then(|(queries, hits)| seen(hits, queries, page.odd)))
            }
            From::Gauge { rate, prompts, last_prompts } => {
                let rate = page.signed(*rate)?;
                let prompts = page.number(*prompts)?;
                let processed = last_prompts.increase(prompts, page).is_some_and(|p| p > 0.0);
                // -1: prefix caching is off.
                let rate = Some(rate).filter(|rate| processed && *rate >= 0.0);
                Ok(rate.and_then(|rate| seen(rate, 1.0, page.odd)))
            }
        }
    }
}

fn seen(hits: f64, queries: f64, odd: &Odd) -> Option<Seen> {
    if hits > queries {
        odd.count(Reason::HitsAboveQueries);
        return None;
    }
    (queries > 0.0).then_some(Seen { hits, queries })
}
