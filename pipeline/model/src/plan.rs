//! [`Plan`]: a row of reshape steps, folded into as few programs as possible and remembered per source.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::program::{Offsets, Program, State, compose};
use crate::reshape::{Context, Held, Reshape, Reshaped, RowPlan};
use crate::{Batch, Interner, MetadataStore, RowId, Shape};

/// Work on values over time: deltas, rates, trailing averages. Its state is columns keyed by source and laid out like
/// the shape; it lets go of a source at [`Batch::ended`].
pub trait Compute: Send {
    /// Takes `batch` and puts out none, one or several.
    fn compute(&mut self, batch: Batch, out: &mut Vec<Batch>);

    /// Lets go of sources that have been silent for `idle`. Called now and then; a source that says nothing any more
    /// without ending must not stay for ever.
    fn sweep(&mut self, idle: Duration) {
        let _ = idle;
    }
}

/// Consecutive reshape steps of a pipeline, with what they need to be planned.
#[derive(Clone)]
pub struct Plan {
    steps: Vec<Arc<dyn Reshape>>,
    interner: Arc<Interner>,
    metadata: Arc<MetadataStore>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("steps", &self.steps.len()).finish_non_exhaustive()
    }
}

/// One program and the shapes it goes between.
struct Stage {
    program: Arc<Program>,
    output: Arc<Shape>,
    state: State,
}

/// A plan bound to one source: what its shape was, and the programs made for it.
pub struct SourcePlan {
    input: Arc<Shape>,
    generation: u64,
    stages: Vec<Stage>,
    rebuilds: u64,
    /// What the steps wanted kept for as long as this plan.
    _held: Vec<Held>,
}

impl std::fmt::Debug for SourcePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourcePlan")
            .field("input", &self.input.id())
            .field("generation", &self.generation)
            .field("stages", &self.stages.len())
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// A plan of `steps`, in order.
    pub fn new(
        steps: Vec<Arc<dyn Reshape>>,
        interner: Arc<Interner>,
        metadata: Arc<MetadataStore>,
    ) -> Self {
        Self { steps, interner, metadata }
    }

    /// True when batches pass unchanged.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The plan for a source that now has `input`, going on from `previous` where there is one: equal output shapes
    /// stay the same allocation, and counters that are summed keep what they had counted.
    pub fn bind(&self, input: &Arc<Shape>, previous: Option<SourcePlan>) -> SourcePlan {
        let metadata = self.metadata.snapshot();
        let context = Context { metadata: &metadata };
        let last_output =
            previous.as_ref().and_then(|p| p.stages.last()).map(|stage| &stage.output);
        let mut stages: Vec<(Arc<Shape>, Arc<Shape>, Vec<RowPlan>)> = Vec::new();
        let mut shape = Arc::clone(input);
        let mut held = Vec::new();
        for (idx, step) in self.steps.iter().enumerate() {
            let mut out = Reshaped::new(&shape, &self.interner);
            step.reshape(&shape, &context, &mut out);
            let is_last = idx + 1 == self.steps.len();
            let (output, rows, kept) = out.finish(last_output.filter(|_| is_last));
            held.extend(kept);
            let folded = stages.last().and_then(|(_, _, inner)| compose(inner, &rows));
            match (stages.last_mut(), folded) {
                (Some((_, last, inner)), Some(rows)) => {
                    *last = Arc::clone(&output);
                    *inner = rows;
                }
                _ => stages.push((Arc::clone(&shape), Arc::clone(&output), rows)),
            }
            shape = output;
        }
        let rebuilds = previous.as_ref().map_or(0, |previous| previous.rebuilds + 1);
        let stages = self.compile(stages, previous);
        SourcePlan {
            input: Arc::clone(input),
            generation: metadata.generation(),
            stages,
            rebuilds,
            _held: held,
        }
    }

    fn compile(
        &self,
        stages: Vec<(Arc<Shape>, Arc<Shape>, Vec<RowPlan>)>,
        previous: Option<SourcePlan>,
    ) -> Vec<Stage> {
        let (mut old_input, old_stages) = match previous {
            Some(previous) => (Some(previous.input), previous.stages),
            None => (None, Vec::new()),
        };
        let mut old_stages = old_stages.into_iter();
        let mut made = Vec::with_capacity(stages.len());
        for (input, output, rows) in stages {
            let (program, state) = match (old_input.take(), old_stages.next()) {
                (Some(was), Some(old)) => {
                    let old_row = input.match_rows(&was);
                    let stays: HashSet<RowId> = old_row.iter().flatten().copied().collect();
                    let left_over = old.program.left_over(&old.state, |row| stays.contains(&row));
                    let offsets = moved(left_over, &output, &old.output);
                    let program =
                        Program::compile(&input, &output, &rows, &offsets, &self.interner);
                    let state = program.carry_over(&old.program, &old.state, &offsets, |row| {
                        old_row.get(row as usize).copied().flatten()
                    });
                    old_input = Some(old.output);
                    (program, state)
                }
                _ => {
                    let offsets = Offsets::default();
                    let program =
                        Program::compile(&input, &output, &rows, &offsets, &self.interner);
                    let state = program.state();
                    (program, state)
                }
            };
            made.push(Stage { program, output, state });
        }
        made
    }

    /// Applies the plan kept in `bound` to `batch`, making it (again) when the shape or the metadata has changed.
    pub fn apply(&self, batch: Batch, bound: &mut Option<SourcePlan>) -> Batch {
        if self.steps.is_empty() {
            return batch;
        }
        let generation = self.metadata.generation();
        let current = bound.as_ref().is_some_and(|plan| {
            plan.generation == generation && plan.input.id() == batch.shape.id()
        });
        if !current {
            *bound = Some(self.bind(&batch.shape, bound.take()));
        }
        match bound {
            Some(plan) => plan.run(batch),
            None => batch,
        }
    }
}

/// `left_over`, which is by rows of `old`, by rows of `new`.
fn moved(mut left_over: Offsets, new: &Shape, old: &Shape) -> Offsets {
    if left_over.is_empty() {
        return left_over;
    }
    let old_rows = new.match_rows(old).into_iter().enumerate();
    let fits =
        |(row, old_row): (usize, Option<RowId>)| Some((row as RowId, left_over.remove(&old_row?)?));
    old_rows.filter_map(fits).collect()
}

impl SourcePlan {
    /// Runs the programs. The batch must be of the shape that the plan was bound to.
    fn run(&mut self, batch: Batch) -> Batch {
        let mut batch = batch;
        for stage in &mut self.stages {
            batch = stage.program.run(&batch, &stage.output, &mut stage.state);
        }
        batch
    }

    /// The shape that comes out.
    pub fn output(&self) -> Option<&Arc<Shape>> {
        self.stages.last().map(|stage| &stage.output)
    }

    /// How many programs a batch goes through.
    pub fn stages(&self) -> usize {
        self.stages.len()
    }

    /// How often it was made again.
    pub fn rebuilds(&self) -> u64 {
        self.rebuilds
    }
}
