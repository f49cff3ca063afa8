//! [`Thin`]: at most one sample per series and interval, because data points are billed.
//!
//! Time is cut into intervals, for each source at another offset so that not all is sent at once. The first value of an
//! interval is sent as it comes, the others of the interval are not; the series ends at once where it ends. Counters
//! lose nothing by it, they count on.

use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use pipeline_model::{Batch, Compute, Mark, RowId, Shape, SourceId};
use tokio::time::Instant;

/// The step.
pub(super) struct Thin {
    interval: i64,
    sources: HashMap<SourceId, Source>,
}

struct Source {
    shape: Arc<Shape>,
    /// The interval of the last sample, of all rows or of each.
    last: i64,
    rows: Vec<i64>,
    seen: Instant,
}

impl Thin {
    /// `interval` is not nothing.
    pub(super) fn new(interval: Duration) -> Self {
        let interval = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX).max(1);
        Self { interval, sources: HashMap::default() }
    }
}

impl Source {
    fn new(shape: &Arc<Shape>) -> Self {
        let (shape, seen) = (Arc::clone(shape), Instant::now());
        Self { shape, last: i64::MIN, rows: Vec::new(), seen }
    }

    /// The same with another shape: series that stay have had their sample.
    fn change(&mut self, shape: &Arc<Shape>) {
        let mut rows = vec![i64::MIN; shape.len()];
        for (row, to) in self.shape.match_rows(shape).into_iter().enumerate() {
            if let Some(slot) = to.and_then(|to| rows.get_mut(to as usize)) {
                *slot = self.rows.get(row).copied().unwrap_or(self.last);
            }
        }
        let seen = self.seen;
        *self = Self { rows, seen, ..Self::new(shape) };
    }

    /// The batch with what is to be sent now; `None` when that is nothing.
    fn thin(&mut self, batch: Batch, interval_of: impl Fn(i64) -> i64) -> Option<Batch> {
        let own_times = batch.extras.as_ref().is_some_and(|extras| extras.times.is_some());
        if self.rows.is_empty() && batch.marks.is_none() && !own_times {
            let interval = interval_of(batch.time);
            let due = interval > self.last;
            self.last = self.last.max(interval);
            return due.then_some(batch);
        }
        if self.rows.is_empty() {
            self.rows = vec![self.last; batch.shape.len()];
        }
        let (mut any, mut all) = (false, true);
        let mut marks = Vec::with_capacity(batch.shape.len());
        for (row, last) in self.rows.iter_mut().enumerate() {
            let row = row as RowId;
            let mark = match batch.mark(row) {
                Mark::Present => {
                    let interval = interval_of(batch.time_of(row));
                    let due = interval > *last;
                    *last = (*last).max(interval);
                    if due { Mark::Present } else { Mark::Absent }
                }
                other => other,
            };
            any |= mark != Mark::Absent;
            all &= mark == Mark::Present;
            marks.push(mark);
        }
        any.then(|| Batch { marks: (!all).then(|| Arc::new(marks)), ..batch })
    }
}

impl Compute for Thin {
    fn compute(&mut self, batch: Batch, out: &mut Vec<Batch>) {
        if batch.ended {
            self.sources.remove(&batch.source);
            return out.push(batch);
        }
        let source = self.sources.entry(batch.source).or_insert_with(|| Source::new(&batch.shape));
        source.seen = Instant::now();
        if source.shape.id() != batch.shape.id() {
            source.change(&batch.shape);
        }
        let interval = self.interval;
        // A multiple of 2^64 by a number without pattern: sources are spread evenly.
        let spread = batch.source.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1;
        let offset = spread.cast_signed() % interval;
        out.extend(source.thin(batch, |time| time.saturating_add(offset).div_euclid(interval)));
    }

    fn sweep(&mut self, idle: Duration) {
        self.sources.retain(|_, source| source.seen.elapsed() < idle);
    }
}
