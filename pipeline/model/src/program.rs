//! [`Program`]: what a plan does to a column of values, compiled to runs of copies and a few folds.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::reshape::RowPlan;
use crate::{
    Batch, Extras, Feed, Fold, Interner, Kind, Mark, RowId, STALE_NAN_BITS, Shape, Slot, Starts,
};

/// `len` slots from one place to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Copy {
    from: u32,
    to: u32,
    len: u32,
}

/// One output row that is more than a copy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FoldRow {
    fold: Fold,
    row: RowId,
    slot: u32,
    len: u32,
    /// Range in `Program::inputs`.
    inputs: (u32, u32),
    /// Slots, from the first, that are scaled: 1 for a number, 1 (sum) or 4 (sum, count, min, max: count is not) for
    /// a histogram.
    scaled: Scaled,
    /// First of the `len` state cells of each input, for [`Fold::SumCounter`].
    state: u32,
}

/// Which slots of a run carry the metric's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scaled {
    /// The one value, or the sum.
    First,
    /// Sum, min and max.
    SumMinMax,
    /// Sum and quantile values: all but the count.
    AllButCount,
}

impl Scaled {
    fn applies(self, idx: usize) -> bool {
        match self {
            Self::First => idx == 0,
            Self::SumMinMax => idx == 0 || idx == 2 || idx == 3,
            Self::AllButCount => idx != 1,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Input {
    row: RowId,
    slot: u32,
    scale: f64,
}

impl PartialEq for Input {
    fn eq(&self, other: &Self) -> bool {
        (self.row, self.slot, self.scale.to_bits())
            == (other.row, other.slot, other.scale.to_bits())
    }
}

impl Eq for Input {}

impl Hash for Input {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.row, self.slot, self.scale.to_bits()).hash(state);
    }
}

/// A compiled plan from one shape's column to another's. Equal programs of one interner are stored once.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Program {
    copies: Box<[Copy]>,
    folds: Box<[FoldRow]>,
    inputs: Box<[Input]>,
    /// Per output row its first input row, for marks, start times and extras.
    sources: Box<[RowId]>,
    slots: u32,
    state_cells: u32,
}

/// Per output row what its total contains beyond the last values of its inputs, slot by slot.
pub(crate) type Offsets = foldhash::HashMap<RowId, Vec<f64>>;

/// What a program remembers of one source between batches.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Per cell of each SumCounter input: last value seen (NaN = none yet) and what earlier lives added up to; then
    /// per fold what inputs that are gone added up to.
    cells: Vec<(f64, f64)>,
    /// Per fold the start time its total counts from: what its parts had counted before they restarted is in the
    /// total, so the first known start stays. 0 = unknown.
    first_starts: Vec<i64>,
    /// Input start times and what became of them: they rarely change.
    starts: Option<(Starts, Option<Starts>)>,
    /// The column put out last: filled again once nobody else has it.
    column: Arc<Vec<Slot>>,
}

impl Program {
    /// `offsets`: output rows whose totals contain what inputs had counted that are gone.
    pub(crate) fn compile(
        input: &Shape,
        output: &Shape,
        rows: &[RowPlan],
        offsets: &Offsets,
        interner: &Interner,
    ) -> Arc<Self> {
        let mut copies: Vec<Copy> = Vec::new();
        let (mut folds, mut inputs, mut sources) = (Vec::new(), Vec::new(), Vec::new());
        let mut state_cells = 0;
        for (series, plan) in output.iter().zip(rows) {
            let (slots, first) = (series.slots(), plan.feeds[0]);
            sources.push(first.row);
            let from = input.slots_of(first.row).start as u32;
            let alone = plan.feeds.len() == 1 && !offsets.contains_key(&series.row);
            if alone && first.scale == 1.0 {
                push_copy(
                    &mut copies,
                    Copy { from, to: slots.start as u32, len: slots.len() as u32 },
                );
                continue;
            }
            let start = inputs.len() as u32;
            inputs.extend(plan.feeds.iter().map(|feed| Input {
                row: feed.row,
                slot: input.slots_of(feed.row).start as u32,
                scale: feed.scale,
            }));
            // One input needs no state: its resets stay visible, as they do in a copy.
            let fold = if alone { Fold::Only } else { plan.fold };
            folds.push(FoldRow {
                fold,
                row: series.row,
                slot: slots.start as u32,
                len: slots.len() as u32,
                inputs: (start, inputs.len() as u32),
                scaled: scaled(&series.metric.kind),
                state: state_cells,
            });
            if fold == Fold::SumCounter {
                // One more for what is gone.
                state_cells += (slots.len() * (plan.feeds.len() + 1)) as u32;
            }
        }
        interner.program(Self {
            copies: copies.into(),
            folds: folds.into(),
            inputs: inputs.into(),
            sources: sources.into(),
            slots: output.slots() as u32,
            state_cells,
        })
    }

    /// Runs of copies and folds: how dear it is.
    pub fn steps(&self) -> (usize, usize) {
        (self.copies.len(), self.folds.len())
    }

    /// State for a new source.
    pub(crate) fn state(&self) -> State {
        State {
            cells: vec![(f64::NAN, 0.0); self.state_cells as usize],
            first_starts: vec![0; self.folds.len()],
            starts: None,
            column: Arc::default(),
        }
    }

    /// What the totals of this program contain beyond the last values of the inputs that stay: what those counted before
    /// they restarted, and all that the others counted.
    pub(crate) fn left_over(&self, state: &State, stays: impl Fn(RowId) -> bool) -> Offsets {
        let mut offsets = Offsets::default();
        for (_, row) in self.counters() {
            let mut sum = vec![0.0; row.len as usize];
            let mut cells = state.cells[row.state as usize..].chunks_exact(sum.len());
            for (input, cells) in self.inputs_of(row).iter().zip(&mut cells) {
                for (idx, (sum, (last, lives))) in sum.iter_mut().zip(cells).enumerate() {
                    let gone = if stays(input.row) || last.is_nan() { 0.0 } else { *last };
                    let factor = if row.scaled.applies(idx) { input.scale } else { 1.0 };
                    *sum += (gone + lives) * factor;
                }
            }
            let before = cells.next().into_iter().flatten();
            sum.iter_mut().zip(before).for_each(|(sum, (_, gone))| *sum += gone);
            if sum.iter().any(|sum| *sum != 0.0) {
                offsets.insert(row.row, sum);
            }
        }
        offsets
    }

    /// State that goes on from `old`, which belonged to `old_program`: `old_input_of` says which old input row an input
    /// row was. Only inputs of the same output row are carried over; the rest is in `offsets`.
    pub(crate) fn carry_over(
        &self,
        old_program: &Self,
        old: &State,
        offsets: &Offsets,
        old_input_of: impl Fn(RowId) -> Option<RowId>,
    ) -> State {
        let mut state = self.state();
        let mut old_cells: foldhash::HashMap<(RowId, u32), (u32, usize)> =
            foldhash::HashMap::default();
        for (fold, row) in old_program.counters() {
            for (nth, input) in old_program.inputs_of(row).iter().enumerate() {
                old_cells.insert((input.row, row.len), (row.state + nth as u32 * row.len, fold));
            }
        }
        for (fold, row) in self.counters() {
            let inputs = self.inputs_of(row);
            for (nth, input) in inputs.iter().enumerate() {
                let Some(from) =
                    old_input_of(input.row).and_then(|old| old_cells.get(&(old, row.len)))
                else {
                    continue;
                };
                let (from, old_fold) = *from;
                state.first_starts[fold] = old.first_starts[old_fold];
                let to = (row.state + nth as u32 * row.len) as usize;
                for idx in 0..row.len as usize {
                    state.cells[to + idx] = (old.cells[from as usize + idx].0, 0.0);
                }
            }
            let gone = (row.state + inputs.len() as u32 * row.len) as usize;
            for (idx, sum) in offsets.get(&row.row).into_iter().flatten().enumerate() {
                state.cells[gone + idx] = (f64::NAN, *sum);
            }
        }
        state
    }

    /// The folds that are [`Fold::SumCounter`], with their index.
    fn counters(&self) -> impl Iterator<Item = (usize, &FoldRow)> {
        self.folds.iter().enumerate().filter(|(_, row)| row.fold == Fold::SumCounter)
    }

    fn inputs_of(&self, row: &FoldRow) -> &[Input] {
        &self.inputs[row.inputs.0 as usize..row.inputs.1 as usize]
    }

    /// Makes the output batch. The steady state is a handful of `memcpy`s, and one allocation for the column where
    /// the last one is still held.
    pub(crate) fn run(&self, batch: &Batch, output: &Arc<Shape>, state: &mut State) -> Batch {
        let slots = self.slots as usize;
        if Arc::get_mut(&mut state.column).is_none_or(|column| column.len() != slots) {
            state.column = Arc::new(vec![Slot::default(); slots]);
        }
        // Nobody else has it, so nothing is copied.
        let values = Arc::make_mut(&mut state.column);
        for copy in &self.copies {
            let (from, to, len) = (copy.from as usize, copy.to as usize, copy.len as usize);
            values[to..to + len].copy_from_slice(&batch.values[from..from + len]);
        }
        let mut marks = self.marks(batch);
        let seen_starts = state.starts.as_ref().map(|(seen, _)| Arc::clone(seen));
        let seen_starts = seen_starts
            .filter(|seen| batch.starts.as_ref().is_some_and(|starts| !Arc::ptr_eq(seen, starts)));
        for (fold_idx, row) in self.folds.iter().enumerate() {
            let (out, inputs) = (
                &mut values[row.slot as usize..(row.slot + row.len) as usize],
                self.inputs_of(row),
            );
            // Sums add to what is there, and a row that is absent leaves it.
            out.fill(Slot::default());
            if row.fold == Fold::SumCounter
                && began_anew(row, inputs, batch, &state.cells, seen_starts.as_ref())
            {
                let cells = row.state as usize..row.state as usize + (inputs.len() + 1) * out.len();
                state.cells[cells].fill((f64::NAN, 0.0));
                state.first_starts[fold_idx] = 0;
                state.starts = None;
            }
            let mark = fold(row, inputs, batch, out, &mut state.cells);
            if mark != Mark::Present && marks.is_none() {
                marks = Some(vec![Mark::Present; self.sources.len()]);
            }
            if let Some(marks) = &mut marks {
                marks[row.row as usize] = mark;
            }
        }
        Batch {
            source: batch.source,
            shape: Arc::clone(output),
            time: batch.time,
            starts: self.starts(batch, state),
            values: Arc::clone(&state.column),
            marks: marks.map(Arc::new),
            extras: batch.extras.as_ref().map(|extras| Arc::new(self.extras(extras))),
            ended: batch.ended,
        }
    }

    fn marks(&self, batch: &Batch) -> Option<Vec<Mark>> {
        let marks = batch.marks.as_ref()?;
        Some(
            self.sources
                .iter()
                .map(|row| marks.get(*row as usize).copied().unwrap_or_default())
                .collect(),
        )
    }

    fn starts(&self, batch: &Batch, state: &mut State) -> Option<Starts> {
        let starts = batch.starts.as_ref()?;
        if let Some((seen, made)) = &state.starts
            && Arc::ptr_eq(seen, starts)
        {
            return made.clone();
        }
        let mut made: Vec<i64> = self
            .sources
            .iter()
            .map(|row| starts.get(*row as usize).copied().unwrap_or(0))
            .collect();
        for (fold, row) in self.counters() {
            let first = &mut state.first_starts[fold];
            if *first == 0 {
                // The total counts since the first of its parts began; unknown if any part's start is.
                let of_part = |input: &Input| starts.get(input.row as usize).copied().unwrap_or(0);
                *first = self.inputs_of(row).iter().map(of_part).min().unwrap_or(0);
            }
            made[row.row as usize] = *first;
        }
        let made = made.iter().any(|start| *start != 0).then(|| Arc::new(made));
        state.starts = Some((Arc::clone(starts), made.clone()));
        made
    }

    /// Extras are rare: a scan per output row is cheaper than an index kept for all.
    fn extras(&self, extras: &Extras) -> Extras {
        let mut out = Extras {
            times: extras.times.as_ref().map(|times| {
                self.sources
                    .iter()
                    .map(|row| times.get(*row as usize).copied().unwrap_or(0))
                    .collect()
            }),
            ..Extras::default()
        };
        if extras.exponentials.is_empty() && extras.exemplars.is_empty() {
            return out;
        }
        for (row, source) in self.sources.iter().enumerate() {
            let row = row as RowId;
            if let Some(point) = extras.exponential(*source) {
                out.exponentials.push((row, point.clone()));
            }
            let from = extras.exemplars.partition_point(|exemplar| exemplar.row < *source);
            for exemplar in
                extras.exemplars[from..].iter().take_while(|exemplar| exemplar.row == *source)
            {
                out.exemplars.push(crate::Exemplar { row, ..exemplar.clone() });
            }
        }
        out
    }
}

fn push_copy(copies: &mut Vec<Copy>, next: Copy) {
    if let Some(last) = copies.last_mut()
        && last.from + last.len == next.from
        && last.to + last.len == next.to
    {
        last.len += next.len;
    } else {
        copies.push(next);
    }
}

fn scaled(kind: &Kind) -> Scaled {
    match kind {
        Kind::Histogram { min_max: true, .. } => Scaled::SumMinMax,
        Kind::Summary { .. } => Scaled::AllButCount,
        Kind::Gauge
        | Kind::Sum { .. }
        | Kind::Histogram { .. }
        | Kind::ExponentialHistogram { .. } => Scaled::First,
    }
}

/// Fills `out` from the present inputs; says what the row is.
fn fold(
    row: &FoldRow,
    inputs: &[Input],
    batch: &Batch,
    out: &mut [Slot],
    cells: &mut [(f64, f64)],
) -> Mark {
    if row.fold == Fold::SumCounter {
        return sum_counters(row, inputs, batch, out, cells);
    }
    let (mut present, mut stale) = (0u32, false);
    for input in inputs {
        match batch.mark(input.row) {
            Mark::Present => {}
            Mark::Absent => continue,
            Mark::Stale => {
                stale = true;
                continue;
            }
        }
        let run = &batch.values[input.slot as usize..input.slot as usize + out.len()];
        for (idx, (to, from)) in out.iter_mut().zip(run).enumerate() {
            *to = if present == 0 && input.scale == 1.0 {
                *from
            } else {
                let factor = if row.scaled.applies(idx) { input.scale } else { 1.0 };
                Slot::double(combine(row.fold, present, to.as_double(), from.as_double() * factor))
            };
        }
        present += 1;
        if matches!(row.fold, Fold::First | Fold::Only) {
            break;
        }
    }
    if row.fold == Fold::Mean && present > 1 {
        out.iter_mut().for_each(|slot| *slot = Slot::double(slot.as_double() / f64::from(present)));
    }
    settle(present > 0, stale, out)
}

fn combine(fold: Fold, present: u32, so_far: f64, next: f64) -> f64 {
    if present == 0 {
        return next;
    }
    match fold {
        Fold::Sum | Fold::Mean | Fold::SumCounter => so_far + next,
        // `max` and `min` pass over NaN, which one broken engine may report.
        Fold::Max => so_far.max(next),
        Fold::Min => so_far.min(next),
        Fold::First | Fold::Only => so_far,
    }
}

fn settle(present: bool, stale: bool, out: &mut [Slot]) -> Mark {
    match (present, stale) {
        (true, _) => Mark::Present,
        (false, true) => {
            out.fill(Slot::double(f64::from_bits(STALE_NAN_BITS)));
            Mark::Stale
        }
        (false, false) => Mark::Absent,
    }
}

/// True when the inputs' process restarted: of those on the page that had counted anything, all fell or have a later
/// start than in `seen`. Then the total restarts as well, as that of a process with one input does. It must not go on
/// from what it had been: whoever takes over from this process could not know that, and would show a fall where the
/// engine had none.
fn began_anew(
    row: &FoldRow,
    inputs: &[Input],
    batch: &Batch,
    cells: &[(f64, f64)],
    seen: Option<&Starts>,
) -> bool {
    let len = row.len as usize;
    let counting = usize::from(len > 1);
    let mut began = false;
    for (input, cells) in inputs.iter().zip(cells[row.state as usize..].chunks_exact(len)) {
        let (last, _) = cells[counting];
        let now = batch.values[input.slot as usize + counting].as_double();
        if last.is_nan() || last == 0.0 || now.is_nan() || batch.mark(input.row) != Mark::Present {
            continue;
        }
        let before = seen.and_then(|seen| seen.get(input.row as usize)).copied().unwrap_or(0);
        let later = before != 0 && batch.start(input.row) > before;
        if now >= last && !later {
            return false;
        }
        began = true;
    }
    began
}

/// Each input adds `last + lives`, where `lives` is what it had counted before its resets. An input that is away
/// keeps its share, so the total stays; when all are away the row says so.
fn sum_counters(
    row: &FoldRow,
    inputs: &[Input],
    batch: &Batch,
    out: &mut [Slot],
    cells: &mut [(f64, f64)],
) -> Mark {
    let (mut present, mut stale) = (false, false);
    let mut cells = cells[row.state as usize..].chunks_exact_mut(out.len());
    for (input, cells) in inputs.iter().zip(&mut cells) {
        match batch.mark(input.row) {
            Mark::Present => {
                present = true;
                let run = &batch.values[input.slot as usize..input.slot as usize + out.len()];
                advance(cells, run);
            }
            Mark::Absent => {}
            Mark::Stale => stale = true,
        }
        for (idx, (to, (last, lives))) in out.iter_mut().zip(cells.iter()).enumerate() {
            if last.is_finite() {
                let factor = if row.scaled.applies(idx) { input.scale } else { 1.0 };
                *to = Slot::double(to.as_double() + (last + lives) * factor);
            }
        }
    }
    let gone = cells.next().into_iter().flatten();
    for (to, (_, gone)) in out.iter_mut().zip(gone) {
        *to = Slot::double(to.as_double() + *gone);
    }
    settle(present, stale, out)
}

/// Takes the new values of one input. A reset is seen on any slot that counts: for a histogram a sum may fall
/// honestly (negative observations), a count may not.
fn advance(cells: &mut [(f64, f64)], run: &[Slot]) {
    let counting = usize::from(cells.len() > 1);
    let reset = cells[counting..]
        .iter()
        .zip(&run[counting..])
        .any(|((last, _), now)| now.as_double() < *last);
    for ((last, lives), now) in cells.iter_mut().zip(run) {
        if reset && last.is_finite() {
            *lives += *last;
        }
        let now = now.as_double();
        if now.is_finite() {
            *last = now;
        } else if reset {
            *last = 0.0;
        }
    }
}

/// The plan of two steps in a row as one, where folds allow: `outer` reads rows of `inner`'s output.
pub(crate) fn compose(inner: &[RowPlan], outer: &[RowPlan]) -> Option<Vec<RowPlan>> {
    outer
        .iter()
        .map(|row| {
            if let [only] = row.feeds[..] {
                let below = inner.get(only.row as usize)?;
                // Scaling commutes with every fold but an ordering one turned around.
                if only.scale < 0.0 && matches!(below.fold, Fold::Max | Fold::Min) {
                    return None;
                }
                let fold = if below.feeds.len() == 1 { row.fold } else { below.fold };
                return Some(RowPlan { fold, feeds: scale(&below.feeds, only.scale) });
            }
            let mut feeds = Vec::with_capacity(row.feeds.len());
            for feed in &row.feeds {
                let below = inner.get(feed.row as usize)?;
                if below.feeds.len() != 1 {
                    return None;
                }
                feeds.extend(scale(&below.feeds, feed.scale));
            }
            Some(RowPlan { fold: row.fold, feeds })
        })
        .collect()
}

fn scale(feeds: &[Feed], by: f64) -> Vec<Feed> {
    feeds.iter().map(|feed| Feed { row: feed.row, scale: feed.scale * by }).collect()
}
