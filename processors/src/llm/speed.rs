//! `llm_tokens_per_second_per_request`.
//!
//! Engines measure times per token, whose histogram is one of speeds read backwards: a time between `b` and `c` seconds
//! is a speed between `1/c` and `1/b`. Counts carry over exactly, but for times equal to a bound, which belong to the
//! other side of it. The sum does not: of the requests that finished between two pages only their buckets and the total
//! of their times are known. They are taken to lie at the same share of the width of their buckets, the share by which
//! they add up to that total; a lone request, or requests of one speed, come out exactly.

use pipeline_model::{Bounds, Mark};

use super::odd::Reason;
use super::page::{Col, Counted, Last, Outputs, Page};

/// Finite bounds of the speeds that times with the bounds `times` become, ascending.
pub(super) fn inverted(times: &[f64]) -> Bounds {
    let speeds: Vec<f64> =
        times.iter().rev().filter(|bound| **bound > 0.0).map(|bound| 1.0 / bound).collect();
    Bounds::new(&speeds)
}

/// The metric of one pod.
#[derive(Debug)]
pub(super) struct Speed {
    pub(super) out: Col,
    pub(super) bounds: Bounds,
    from: From,
    counted: Counted,
}

#[derive(Debug)]
enum From {
    /// A histogram of seconds per token with the same number of bounds as the output, or more where some are not
    /// positive.
    Times(Times),
    /// Tokens generated, time that requests took, and requests finished, from page to page.
    Interval(Interval),
}

#[derive(Debug)]
struct Times {
    col: Col,
    /// Finite bounds, seconds.
    bounds: Bounds,
    /// Sum, count and cumulative counts of the last page; none before the first.
    last: Option<Vec<f64>>,
    /// The same of this page, and then what was counted between the two.
    now: Vec<f64>,
}

/// Where the values for [`Speed::interval`] are.
#[derive(Clone, Copy, Debug)]
pub(super) struct IntervalCols {
    pub(super) generated: Col,
    pub(super) finished: Col,
    pub(super) busy: Busy,
}

/// What tells for how long requests were worked on, all of them together.
#[derive(Clone, Copy, Debug)]
pub(super) enum Busy {
    /// Seconds from token to token, as the engine adds them up.
    Decoding(Col),
    /// Requests that run right now.
    Running(Col),
}

#[derive(Debug)]
struct Interval {
    cols: IntervalCols,
    generated: Last,
    finished: Last,
    decoding: Last,
    running: Option<(i64, f64)>,
    open: Open,
}

/// What was counted since the last observation.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    tokens: f64,
    /// Seconds of requests.
    seconds: f64,
    /// That finished.
    requests: f64,
}

impl Speed {
    /// From a histogram of times with the bounds `times`.
    pub(super) fn of_times(col: Col, times: &Bounds, out: Col, bounds: Bounds, since: i64) -> Self {
        let counted = Counted::new(bounds.len(), since);
        let now = vec![0.0; 2 + times.len()];
        let from = From::Times(Times { col, bounds: times.clone(), last: None, now });
        Self { out, bounds, from, counted }
    }

    /// From tokens, finished requests, and how long they were worked on.
    pub(super) fn interval(cols: IntervalCols, out: Col, bounds: Bounds, since: i64) -> Self {
        let counted = Counted::new(bounds.len(), since);
        let [generated, finished, decoding] = [Last::default(); 3];
        let open = Open::default();
        let interval = Interval { cols, generated, finished, decoding, running: None, open };
        Self { out, bounds, from: From::Interval(interval), counted }
    }

    /// Goes on from an earlier binding of the same pod. Another method, or other bounds, starts again.
    pub(super) fn adopt(&mut self, old: Self, page: &Page<'_>) {
        if old.bounds != self.bounds {
            page.odd.count(Reason::BoundsChanged);
            return;
        }
        match (&mut self.from, old.from) {
            (From::Times(own), From::Times(before)) if own.bounds == before.bounds => {
                own.last = before.last;
            }
            (From::Interval(own), From::Interval(before)) => {
                *own = Interval { cols: own.cols, ..before };
            }
            _ => {}
        }
        self.counted = old.counted;
    }

    /// Since when it counts.
    pub(super) fn since(&self) -> i64 {
        self.counted.since
    }

    pub(super) fn run(&mut self, page: &Page<'_>, continuous: bool, out: &mut Outputs<'_>) {
        let mark = match &mut self.from {
            From::Times(times) => times.run(page, &mut self.counted),
            From::Interval(interval) => {
                interval.run(page, continuous, &self.bounds, &mut self.counted)
            }
        };
        match mark {
            Mark::Present => self.counted.put(self.out, out),
            gone => out.gone(self.out, gone),
        }
    }
}

impl Times {
    /// Adds what the histogram has counted since the last page.
    fn run(&mut self, page: &Page<'_>, counted: &mut Counted) -> Mark {
        match page.slots(self.col) {
            Ok(slots) => {
                self.now.iter_mut().zip(slots).for_each(|(to, slot)| *to = slot.as_double());
            }
            Err(gone) => return gone,
        }
        if self.now.iter().any(|value| !value.is_finite()) {
            page.odd.count(Reason::NotANumber);
            return Mark::Present;
        }
        let Some(last) = &mut self.last else {
            self.last = Some(self.now.clone());
            return Mark::Present;
        };
        if page.restarted {
            last.fill(0.0);
        } else if self.now[1] < last[1] {
            page.odd.count(Reason::CounterReset);
            last.fill(0.0);
        }
        for (now, last) in self.now.iter_mut().zip(last) {
            let before = std::mem::replace(last, *now);
            *now -= before;
        }
        if self.now[1] > 0.0 {
            match speeds(self.bounds.as_slice(), &self.now) {
                Some(sum) => self.add(sum, counted),
                None => page.odd.count(Reason::Buckets),
            }
        }
        Mark::Present
    }

    fn add(&self, sum: f64, counted: &mut Counted) {
        let count = self.now[1];
        counted.slots[0] += sum;
        counted.slots[1] += count;
        // The slowest speed is the longest time. Bounds that are not positive come first and have no inverse.
        for (speed, within) in counted.slots[2..].iter_mut().zip(self.now[2..].iter().rev()) {
            *speed += count - within;
        }
    }
}

/// The sum of the speeds of the requests whose times are in `slots`: sum, count, cumulative counts. `None` when these
/// are not those of a histogram.
fn speeds(bounds: &[f64], slots: &[f64]) -> Option<f64> {
    let (total, count) = (slots[0], slots[1]);
    // Requests, and the ends of their bucket. Where a bucket has but one end, requests are taken to be up to twice as
    // slow, or as fast, as that: from zero on, what little the slow ones leave over would make the fast ones much too
    // fast.
    let ends = |idx: usize| {
        let below = idx.checked_sub(1).map_or(0.0, |below| bounds[below]);
        let above = bounds.get(idx).copied().unwrap_or(2.0 * below).max(0.0);
        (if below > 0.0 { below } else { above / 2.0 }, above)
    };
    let within = |idx: usize| slots.get(idx + 2).copied().unwrap_or(count);
    let requests = |idx: usize| within(idx) - idx.checked_sub(1).map_or(0.0, within);
    let (mut least, mut width) = (0.0, 0.0);
    for idx in 0..=bounds.len() {
        let (below, above) = ends(idx);
        let timeless = above <= 0.0 && !bounds.is_empty();
        if requests(idx) < 0.0 || timeless && requests(idx) > 0.0 {
            return None;
        }
        least += requests(idx) * below;
        width += requests(idx) * (above - below);
    }
    if total <= 0.0 {
        return None;
    }
    // Bounds that do not fit the times, or none: one speed for all.
    if !(least..=least + width).contains(&total) || width <= 0.0 {
        return Some(count * count / total);
    }
    let share = (total - least) / width;
    let speed = |idx: usize| {
        let (below, above) = ends(idx);
        requests(idx) / (below + share * (above - below))
    };
    Some((0..=bounds.len()).filter(|idx| requests(*idx) > 0.0).map(speed).sum())
}

impl Interval {
    /// Shares out the tokens since the last observation among the requests that were worked on. Each finished request
    /// is one observation, so that the count is the number of requests however often pages are read.
    fn run(
        &mut self,
        page: &Page<'_>,
        continuous: bool,
        bounds: &Bounds,
        counted: &mut Counted,
    ) -> Mark {
        let (Busy::Decoding(busy) | Busy::Running(busy)) = self.cols.busy;
        let generated = page.number(self.cols.generated);
        let (busy, finished) = (page.number(busy), page.number(self.cols.finished));
        let (Ok(generated), Ok(busy), Ok(finished)) = (generated, busy, finished) else {
            self.running = None;
            return generated.err().filter(|mark| *mark == Mark::Stale).unwrap_or(Mark::Present);
        };
        let tokens = self.generated.increase(generated, page);
        let requests = self.finished.increase(finished, page);
        let seconds = match self.cols.busy {
            Busy::Decoding(_) => self.decoding.increase(busy, page),
            Busy::Running(_) => {
                let time = page.batch.time;
                let before = self.running.replace((time, busy)).filter(|_| continuous);
                before.map(|(at, was)| f64::midpoint(was, busy) * (time - at) as f64 / 1e9)
            }
        };
        let (Some(tokens), Some(seconds), Some(requests)) = (tokens, seconds, requests) else {
            self.open = Open::default();
            return Mark::Present;
        };
        // No decoding brought a request's first token.
        let first = if matches!(self.cols.busy, Busy::Decoding(_)) { requests } else { 0.0 };
        self.open.tokens += tokens - first;
        self.open.seconds += seconds;
        self.open.requests += requests;
        let Open { tokens, seconds, requests } = self.open;
        if tokens > 0.0 && seconds > 0.0 && requests > 0.0 {
            counted.observe(bounds.as_slice(), tokens / seconds, requests);
            self.open = Open::default();
        }
        Mark::Present
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, expected: f64) {
        let found = found.unwrap();
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn one_request_and_requests_of_one_speed_are_exact() {
        let bounds = [0.01, 0.025, 0.05];
        close(speeds(&bounds, &[0.02, 1.0, 0.0, 1.0, 1.0]), 50.0);
        close(speeds(&bounds, &[0.2, 10.0, 0.0, 10.0, 10.0]), 500.0);
        close(speeds(&bounds, &[0.08, 1.0, 0.0, 0.0, 0.0]), 12.5);
        // Beyond the bounds.
        close(speeds(&bounds, &[0.003, 1.0, 1.0, 1.0, 1.0]), 1000.0 / 3.0);
        close(speeds(&bounds, &[0.5, 1.0, 0.0, 0.0, 0.0]), 2.0);
        // Without bounds the mean time is all there is.
        close(speeds(&[], &[0.2, 10.0]), 500.0);
    }

    /// Two fast and two slow requests: the harmonic mean, 4 / 0.52 s, would be far off.
    #[test]
    fn slow_requests_do_not_hide_fast_ones() {
        let bounds = [0.015, 0.025, 0.2, 0.3];
        let found = speeds(&bounds, &[0.54, 4.0, 0.0, 2.0, 2.0, 4.0]).unwrap();
        let truth = 2.0 / 0.02 + 2.0 / 0.25;
        assert!((found / truth - 1.0).abs() < 0.02, "{found} is not {truth}");
    }

    /// Thirty just within the first bound, ten slower ones: the first bucket must not take up the slack alone.
    #[test]
    fn the_fastest_are_not_taken_for_faster_than_they_can_be() {
        let found =
            speeds(&[0.01, 0.025, 0.05], &[0.09 * 3.0 + 0.11, 40.0, 30.0, 40.0, 40.0]).unwrap();
        let truth = 30.0 / 0.009 + 10.0 / 0.011;
        assert!((found / truth - 1.0).abs() < 0.2, "{found} is not {truth}");
    }

    #[test]
    fn what_is_no_histogram_says_nothing() {
        assert_eq!(speeds(&[0.01, 0.02], &[1.0, 1.0, 1.0, 0.0]), None);
        assert_eq!(speeds(&[0.01, 0.02], &[1.0, 1.0, 2.0, 2.0]), None);
        assert_eq!(speeds(&[0.01, 0.02], &[0.0, 1.0, 0.0, 1.0]), None);
        assert_eq!(speeds(&[0.01, 0.02], &[-1.0, 1.0, 0.0, 1.0]), None);
        assert_eq!(speeds(&[0.0, 0.01], &[0.005, 2.0, 1.0, 2.0]), None);
    }

    #[test]
    fn bounds_turn_around() {
        assert_eq!(inverted(&[0.0, 0.01, 0.5]).as_slice(), [2.0, 100.0]);
        assert!(inverted(&[]).is_empty());
    }
}
