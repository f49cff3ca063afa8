//! Steps bound to sources: what one worker runs for a pipeline, or for one exporter after it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use pipeline_component::Processor;
use pipeline_model::{
    Batch, Compute, Interner, MetadataStore, Plan, Reshape, SourceId, SourcePlan,
};
use tokio::time::Instant;

/// A source that has been silent for so long is forgotten: its plan and state go.
const SOURCE_IDLE_MAX: Duration = Duration::from_secs(15 * 60);

/// Consecutive steps of one sort.
pub(crate) enum Segment {
    Plan(Plan),
    Compute(Box<dyn Fn() -> Box<dyn Compute> + Send + Sync>),
}

/// Folds consecutive reshape steps into plans.
pub(crate) fn segments(
    steps: Vec<Processor>,
    interner: &Arc<Interner>,
    metadata: &Arc<MetadataStore>,
) -> Arc<[Segment]> {
    let plan = |steps| Segment::Plan(Plan::new(steps, Arc::clone(interner), Arc::clone(metadata)));
    let mut segments = Vec::new();
    let mut reshapes: Vec<Arc<dyn Reshape>> = Vec::new();
    for step in steps {
        match step {
            Processor::Reshape(step) => reshapes.push(step),
            Processor::Compute(make) => {
                if !reshapes.is_empty() {
                    segments.push(plan(std::mem::take(&mut reshapes)));
                }
                segments.push(Segment::Compute(make));
            }
        }
    }
    if !reshapes.is_empty() {
        segments.push(plan(reshapes));
    }
    segments.into()
}

/// A step panicked: the batch is lost, and what was remembered of its source; nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

struct SourceState {
    plans: Vec<Option<SourcePlan>>,
    seen: Instant,
}

/// One worker's run of the steps: plans by source, and compute steps with their state.
pub(crate) struct Steps {
    segments: Arc<[Segment]>,
    plans: HashMap<SourceId, SourceState>,
    /// Sources that the batch at work ends: the one it came from, and those that compute steps derive from it.
    ended: Vec<SourceId>,
    computes: Vec<Option<Box<dyn Compute>>>,
    builds: u64,
}

fn made(segments: &[Segment]) -> Vec<Option<Box<dyn Compute>>> {
    let make = |segment: &Segment| match segment {
        Segment::Plan(_) => None,
        Segment::Compute(make) => Some(make()),
    };
    segments.iter().map(make).collect()
}

impl Steps {
    pub(crate) fn new(segments: Arc<[Segment]>) -> Self {
        Self {
            computes: made(&segments),
            segments,
            plans: HashMap::default(),
            ended: Vec::new(),
            builds: 0,
        }
    }

    /// True when batches pass unchanged.
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Sources with a remembered plan.
    pub(crate) fn sources(&self) -> usize {
        self.plans.len()
    }

    /// Plans made since the last call.
    pub(crate) fn take_builds(&mut self) -> u64 {
        std::mem::take(&mut self.builds)
    }

    /// Runs the steps on `batch`; what comes out is in order.
    pub(crate) fn run(&mut self, batch: Batch) -> Result<Vec<Batch>, Panicked> {
        let source = batch.source;
        if batch.ended {
            self.ended.push(source);
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| self.process(batch)));
        for source in self.ended.drain(..) {
            self.plans.remove(&source);
        }
        outcome.map_err(|_| {
            // What the panic left half done is this source's alone, but for compute steps, which are made anew.
            self.plans.remove(&source);
            self.computes = made(&self.segments);
            Panicked
        })
    }

    fn process(&mut self, batch: Batch) -> Vec<Batch> {
        let segments = Arc::clone(&self.segments);
        let mut batches = vec![batch];
        for (idx, segment) in segments.iter().enumerate() {
            let mut out = Vec::with_capacity(batches.len());
            for batch in batches {
                match segment {
                    Segment::Plan(plan) => out.push(self.reshape(idx, plan, batch)),
                    Segment::Compute(_) => {
                        if let Some(compute) = self.computes.get_mut(idx).and_then(Option::as_mut) {
                            compute.compute(batch, &mut out);
                        }
                    }
                }
            }
            batches = out;
        }
        batches
    }

    fn reshape(&mut self, idx: usize, plan: &Plan, batch: Batch) -> Batch {
        if batch.ended {
            self.ended.push(batch.source);
        }
        let state = self
            .plans
            .entry(batch.source)
            .or_insert_with(|| SourceState { plans: Vec::new(), seen: Instant::now() });
        state.seen = Instant::now();
        if state.plans.len() <= idx {
            state.plans.resize_with(idx + 1, || None);
        }
        let bound = &mut state.plans[idx];
        let before = bound.as_ref().map(SourcePlan::rebuilds);
        let batch = plan.apply(batch, bound);
        if bound.as_ref().map(SourcePlan::rebuilds) != before {
            self.builds += 1;
        }
        batch
    }

    /// Forgets sources that have been silent for long.
    pub(crate) fn forget_idle(&mut self) -> Result<(), Panicked> {
        self.plans.retain(|_, state| state.seen.elapsed() < SOURCE_IDLE_MAX);
        let computes = &mut self.computes;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            computes.iter_mut().flatten().for_each(|compute| compute.sweep(SOURCE_IDLE_MAX));
        }));
        outcome.map_err(|_| {
            self.computes = made(&self.segments);
            Panicked
        })
    }
}
