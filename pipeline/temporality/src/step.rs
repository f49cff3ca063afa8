//! [`Step`]: the state of each source, and a batch's way through it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use foldhash::HashMap;
use pipeline_component::Settings;
use pipeline_model::{
    Batch, Compute, ExponentialPoint, Extras, Interner, Mark, Number, Pool, RowId, Shape, Slot,
    SourceId, Starts, Temporality,
};

use crate::Options;
use crate::counts::{Counts, Tally};
use crate::exponential::Exponentials;
use crate::layout::{Class, Layout, Run, wanted};
use crate::points::{Histograms, Numbers, Rows, convert};
use crate::rule::{NONE, Rule};

/// What the workers share.
pub(crate) struct Common {
    options: Options,
    rule: Rule,
    interner: Arc<Interner>,
    counts: Counts,
    /// Series that are remembered.
    series: Arc<AtomicUsize>,
}

impl Common {
    pub(crate) fn new(options: Options, settings: &Settings) -> Self {
        // Half of what a time can be: differences of two do not run over.
        let max_gap =
            i64::try_from(options.max_gap.as_nanos()).unwrap_or(i64::MAX).min(i64::MAX / 2);
        let watching_since = settings.clock.now();
        Self {
            options,
            rule: Rule { initial: options.initial, max_gap, watching_since },
            interner: Arc::clone(&settings.interner),
            counts: Counts::new(&settings.telemetry),
            series: Arc::default(),
        }
    }

    fn room(&self) -> usize {
        self.options.series_max.saturating_sub(self.series.load(Ordering::Relaxed))
    }

    fn show(&self) {
        self.counts.series.set(self.series.load(Ordering::Relaxed) as f64);
    }
}

/// Places among the series that are remembered; given back when dropped.
struct Seats {
    taken: usize,
    of: Arc<AtomicUsize>,
}

impl Seats {
    /// Up to `wanted`.
    fn take(common: &Common, wanted: usize) -> Self {
        let mut taken = 0;
        let take = |series: usize| {
            taken = wanted.min(common.options.series_max.saturating_sub(series));
            Some(series + taken)
        };
        // The closure never refuses.
        _ = common.series.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        Self { taken, of: Arc::clone(&common.series) }
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        self.of.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

/// One worker's step.
pub(crate) struct Step {
    common: Arc<Common>,
    sources: HashMap<SourceId, Source>,
}

impl Step {
    pub(crate) fn new(common: Arc<Common>) -> Self {
        Self { common, sources: HashMap::default() }
    }
}

impl Compute for Step {
    fn compute(&mut self, batch: Batch, out: &mut Vec<Batch>) {
        let (id, ended) = (batch.source, batch.ended);
        let source = self.sources.entry(id).or_insert_with(|| Source::new(&batch.shape));
        source.seen = Instant::now();
        source.bind(&self.common, &batch.shape);
        out.push(match &mut source.bound {
            Some(bound) => bound.run(&self.common, &batch),
            None => batch,
        });
        if ended {
            self.sources.remove(&id);
            self.common.show();
        }
    }

    fn sweep(&mut self, idle: Duration) {
        // Within the gap a source may come back and go on.
        let idle = idle.max(self.common.options.max_gap);
        self.sources.retain(|_, source| source.seen.elapsed() < idle);
        self.common.show();
    }
}

/// All about one source.
struct Source {
    input: Arc<Shape>,
    /// Nothing where the shape has nothing to convert, or was not looked at.
    bound: Option<Bound>,
    looked_at: bool,
    seen: Instant,
}

/// A source with something to convert.
struct Bound {
    layout: Layout,
    /// Rows that had no seat.
    unseated: usize,
    _seats: Seats,
    state: State,
    columns: Columns,
}

/// What is remembered, laid out like the output.
struct State {
    /// Last value or count so far.
    base: Vec<Slot>,
    /// Time of the last point; [`NONE`] without a base.
    last: Vec<i64>,
    /// To cumulative: when the count began.
    since: Vec<i64>,
    exponentials: HashMap<RowId, ExponentialPoint>,
}

/// Output columns.
#[derive(Default)]
struct Columns {
    values: Pool<Slot>,
    marks: Pool<Mark>,
    starts: Pool<i64>,
    last_starts: Option<Starts>,
}

impl Source {
    fn new(input: &Arc<Shape>) -> Self {
        Self { input: Arc::clone(input), bound: None, looked_at: false, seen: Instant::now() }
    }

    /// Makes sure that the layout is that of `input`, and that rows without a seat get one when there is room.
    fn bind(&mut self, common: &Common, input: &Arc<Shape>) {
        let is_seated = self
            .bound
            .as_ref()
            .is_none_or(|bound| bound.unseated == 0 || bound.unseated > common.room());
        if self.looked_at && self.input.id() == input.id() && is_seated {
            return;
        }
        self.looked_at = true;
        self.input = Arc::clone(input);
        let wanted = wanted(input, &common.options);
        let old = self.bound.take().map(|bound| (bound.layout.output, bound.state));
        if wanted > 0 {
            let seats = Seats::take(common, wanted);
            let previous = old.as_ref().map(|(output, _)| output);
            let layout =
                Layout::new(input, &common.options, seats.taken, &common.interner, previous);
            let state = match old {
                Some((output, state)) => state.move_to(&output, &layout.output),
                None => State::new(&layout.output),
            };
            self.bound = Some(Bound {
                layout,
                unseated: wanted - seats.taken,
                _seats: seats,
                state,
                columns: Columns::default(),
            });
        }
        common.show();
    }
}

impl State {
    fn new(shape: &Shape) -> Self {
        Self {
            base: vec![Slot::default(); shape.slots()],
            last: vec![NONE; shape.len()],
            since: vec![0; shape.len()],
            exponentials: HashMap::default(),
        }
    }

    /// The same, laid out like `next`.
    fn move_to(mut self, shape: &Arc<Shape>, next: &Arc<Shape>) -> Self {
        if Arc::ptr_eq(shape, next) {
            return self;
        }
        let mut moved = Self::new(next);
        for (row, to) in shape.match_rows(next).into_iter().enumerate() {
            let Some(to) = to else { continue };
            let (from, row) = (shape.slots_of(row as RowId), row as RowId);
            moved.base[next.slots_of(to)].copy_from_slice(&self.base[from]);
            moved.last[to as usize] = self.last[row as usize];
            moved.since[to as usize] = self.since[row as usize];
            if let Some(point) = self.exponentials.remove(&row) {
                moved.exponentials.insert(to, point);
            }
        }
        moved
    }
}

impl Bound {
    fn run(&mut self, common: &Common, batch: &Batch) -> Batch {
        let shape = Arc::clone(&self.layout.output);
        let mut values = self.columns.values.free(shape.slots());
        let mut marks = self.columns.marks.free(shape.len());
        let mut starts = self.columns.starts.free(shape.len());
        let mut tally = Tally::default();
        for (row, reason) in &self.layout.refused {
            if batch.mark(*row) == Mark::Present {
                tally.drop(*reason);
            }
        }
        let mut pass = Pass {
            batch,
            state: &mut self.state,
            // Columns that are free are nobody else's: nothing is copied here.
            values: Arc::make_mut(&mut values).as_mut_slice(),
            marks: Arc::make_mut(&mut marks).as_mut_slice(),
            starts: Arc::make_mut(&mut starts).as_mut_slice(),
            exponentials: Vec::new(),
            held_back: false,
            rule: &common.rule,
            tally: &mut tally,
        };
        for run in &self.layout.runs {
            match common.options.to {
                Temporality::Delta => pass.run::<true>(run),
                Temporality::Cumulative => pass.run::<false>(run),
            }
        }
        let (held_back, exponentials) = (pass.held_back, pass.exponentials);
        common.counts.add(&tally);
        let has_marks = batch.marks.is_some() || held_back;
        self.columns.values.keep(&values);
        self.columns.marks.keep(&marks);
        self.columns.starts.keep(&starts);
        if self.columns.last_starts.as_ref().is_none_or(|last| *last != starts) {
            self.columns.last_starts = Some(starts);
        }
        Batch {
            source: batch.source,
            extras: self.extras(batch, exponentials),
            shape,
            time: batch.time,
            starts: self.columns.last_starts.clone(),
            values,
            marks: has_marks.then_some(marks),
            ended: batch.ended,
        }
    }

    /// The extras with the converted points in them, and rows renamed where some are left out.
    fn extras(
        &self,
        batch: &Batch,
        exponentials: Vec<(RowId, ExponentialPoint)>,
    ) -> Option<Arc<Extras>> {
        let extras = batch.extras.as_ref()?;
        let layout = &self.layout;
        if layout.keeps_rows() && !layout.exponentials {
            return Some(Arc::clone(extras));
        }
        let mut times = extras.times.clone();
        if let (Some(times), false) = (&mut times, layout.keeps_rows()) {
            for run in &layout.runs {
                times.copy_within(run.rows_in.clone(), run.rows_out.start);
            }
            times.truncate(layout.output.len());
        }
        let mut exemplars = extras.exemplars.clone();
        exemplars.retain_mut(|exemplar| match layout.row_out(exemplar.row) {
            Some(row) => {
                exemplar.row = row;
                true
            }
            None => false,
        });
        Some(Arc::new(Extras { times, exponentials, exemplars }))
    }
}

/// One batch on its way.
struct Pass<'a> {
    batch: &'a Batch,
    state: &'a mut State,
    values: &'a mut [Slot],
    marks: &'a mut [Mark],
    starts: &'a mut [i64],
    exponentials: Vec<(RowId, ExponentialPoint)>,
    held_back: bool,
    rule: &'a Rule,
    tally: &'a mut Tally,
}

impl Pass<'_> {
    fn run<const DELTA: bool>(&mut self, run: &Run) {
        let batch = self.batch;
        let marks = &mut self.marks[run.rows_out.clone()];
        match &batch.marks {
            Some(all) => marks.copy_from_slice(&all[run.rows_in.clone()]),
            None => marks.fill(Mark::Present),
        }
        let input = &batch.values[run.slots_in.clone()];
        let output = &mut self.values[run.slots_out.clone()];
        let starts_in = batch.starts.as_ref().map(|starts| &starts[run.rows_in.clone()]);
        let starts_out = &mut self.starts[run.rows_out.clone()];
        let times = batch.extras.as_ref().and_then(|extras| extras.times.as_ref());
        let state = &mut *self.state;
        let base = &mut state.base[run.slots_out.clone()];
        if run.class == Class::Pass {
            output.copy_from_slice(input);
            match starts_in {
                Some(starts) => starts_out.copy_from_slice(starts),
                None => starts_out.fill(0),
            }
            self.pass_exponentials(run);
            return;
        }
        let mut rows = Rows {
            time: batch.time,
            own_times: times.map(|times| &times[run.rows_in.clone()]),
            starts_in,
            starts_out,
            marks,
            last: &mut state.last[run.rows_out.clone()],
            since: &mut state.since[run.rows_out.clone()],
            held_back: false,
        };
        let (rule, tally) = (self.rule, &mut *self.tally);
        match run.class {
            Class::Pass => {}
            Class::Number { number: Number::Double, monotonic } => {
                let mut points = Numbers::<DELTA, f64>::new(input, base, output, monotonic);
                convert::<DELTA, _>(&mut points, &mut rows, rule, tally);
            }
            Class::Number { number: Number::Int, monotonic } => {
                let mut points = Numbers::<DELTA, i64>::new(input, base, output, monotonic);
                convert::<DELTA, _>(&mut points, &mut rows, rule, tally);
            }
            Class::Histogram { min_max_in, min_max_out } => {
                let mut points = Histograms::<DELTA> {
                    input,
                    base,
                    output,
                    width_in: run.width_in(),
                    width_out: run.width_out(),
                    bucket_in: if min_max_in { 4 } else { 2 },
                    bucket_out: if min_max_out { 4 } else { 2 },
                };
                convert::<DELTA, _>(&mut points, &mut rows, rule, tally);
            }
            Class::Exponential => {
                let mut points = Exponentials::<DELTA> {
                    input,
                    base,
                    output,
                    extras: batch.extras.as_deref(),
                    row_in: run.rows_in.start as RowId,
                    row_out: run.rows_out.start as RowId,
                    bases: &mut state.exponentials,
                    given: &mut self.exponentials,
                };
                convert::<DELTA, _>(&mut points, &mut rows, rule, tally);
            }
        }
        self.held_back |= rows.held_back;
    }

    /// Exponential histograms that have the wanted temporality.
    fn pass_exponentials(&mut self, run: &Run) {
        let Some(extras) = &self.batch.extras else { return };
        let all = &extras.exponentials;
        let from = all.partition_point(|(row, _)| (*row as usize) < run.rows_in.start);
        for (row, point) in
            all[from..].iter().take_while(|(row, _)| (*row as usize) < run.rows_in.end)
        {
            let row = *row as usize - run.rows_in.start + run.rows_out.start;
            self.exponentials.push((row as RowId, point.clone()));
        }
    }
}
