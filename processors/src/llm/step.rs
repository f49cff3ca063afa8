//! The compute step: keeps what each source's pods remember, and puts their series out beside the page.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use pipeline_component::Settings;
use pipeline_model::{
    Batch, Compute, Mark, MetadataStore, Plan, Pool, Reshape, Shape, Slot, SourceId, SourcePlan,
    Starts,
};

use super::bind::{Bound, bind};
use super::config::Config;
use super::inputs::Inputs;
use super::odd::Odd;
use super::page::{Outputs, Page};
use super::pod::{Key, Pod};

/// Tells the derived source from its page's: a word no pipeline uses, since those count up from zero.
const TAG: u64 = 0x6c6c_6d00_0000_0000;

/// What the workers share.
pub(super) struct Common {
    pub(super) config: Config,
    pub(super) settings: Settings,
    pub(super) odd: Odd,
    plan: Plan,
    max_gap: i64,
}

impl Common {
    pub(super) fn new(config: Config, settings: Settings) -> Self {
        let odd = Odd::new(&settings.telemetry);
        let inputs = Inputs::new(&config.queued_tokens, config.extended, odd.clone());
        let steps: Vec<Arc<dyn Reshape>> = vec![Arc::new(inputs)];
        // What is read of a page does not depend on metadata: with a store of its own it is not planned again when they
        // change, only the window is looked up again.
        let (interner, none) = (Arc::clone(&settings.interner), Arc::new(MetadataStore::new()));
        let plan = Plan::new(steps, interner, none);
        let max_gap = i64::try_from(config.max_gap.as_nanos()).unwrap_or(i64::MAX);
        Self { config, settings, odd, plan, max_gap }
    }
}

/// One worker's step.
pub(super) struct Step {
    common: Arc<Common>,
    sources: HashMap<SourceId, Source>,
}

/// All about one source.
struct Source {
    plan: Option<SourcePlan>,
    /// The formulas, with the metadata's generation that they were bound at.
    bound: Option<(Bound, u64)>,
    /// The last page's shape, if no engine is in it.
    idle: Option<Arc<Shape>>,
    columns: Columns,
    seen: Instant,
}

/// Output columns that are filled again once nobody else holds them.
#[derive(Default)]
struct Columns {
    values: Pool<Slot>,
    marks: Vec<Mark>,
    /// Of the page before; empty before the first.
    before: Vec<Mark>,
    last_marks: Option<Arc<Vec<Mark>>>,
    /// Start times of the inputs and what became of them.
    starts: Option<(Option<Starts>, Option<Starts>)>,
}

impl Step {
    pub(super) fn new(common: Arc<Common>) -> Self {
        Self { common, sources: HashMap::default() }
    }
}

impl Compute for Step {
    fn compute(&mut self, batch: Batch, out: &mut Vec<Batch>) {
        let source = self.sources.entry(batch.source).or_insert_with(|| Source {
            plan: None,
            bound: None,
            idle: None,
            columns: Columns::default(),
            seen: Instant::now(),
        });
        source.seen = Instant::now();
        let derived = source.take(&self.common, &batch);
        if batch.ended {
            self.sources.remove(&batch.source);
        }
        out.push(batch);
        out.extend(derived);
    }

    fn sweep(&mut self, idle: Duration) {
        self.sources.retain(|_, source| source.seen.elapsed() < idle);
    }
}

impl Source {
    fn take(&mut self, common: &Common, batch: &Batch) -> Option<Batch> {
        let id = batch.source.derive(TAG);
        if batch.ended {
            let (bound, _) = self.bound.take()?;
            return Some(Batch::end(id, bound.output, batch.time));
        }
        if self.idle.as_ref().is_some_and(|shape| shape.id() == batch.shape.id()) {
            return None;
        }
        let inputs = common.plan.apply(batch.clone(), &mut self.plan);
        let page = Page { batch: &inputs, odd: &common.odd, restarted: false };
        if let Some(ended) = self.bind(common, &page, &batch.shape) {
            return Some(Batch { source: id, ..ended });
        }
        let (bound, _) = self.bound.as_mut()?;
        let mut values = self.columns.values.free(bound.output.slots());
        std::mem::swap(&mut self.columns.marks, &mut self.columns.before);
        self.columns.marks.clear();
        self.columns.marks.resize(bound.output.len(), Mark::Present);
        // A column that is free is nobody else's.
        if let Some(values) = Arc::get_mut(&mut values) {
            let (marks, before) = (&mut self.columns.marks, &self.columns.before);
            let mut outputs = Outputs { values, marks, before };
            for pod in &mut bound.pods {
                pod.run(&page, common.max_gap, &mut outputs);
            }
        }
        self.columns.values.keep(&values);
        Some(Batch {
            source: id,
            shape: Arc::clone(&bound.output),
            time: batch.time,
            starts: self.columns.starts(bound, inputs.starts.as_ref()),
            values,
            marks: self.columns.marks(),
            extras: None,
            ended: false,
        })
    }

    /// Makes sure that the formulas are bound to this page. A page without an engine where there was one gives the
    /// batch that ends its series.
    fn bind(&mut self, common: &Common, page: &Page<'_>, shape: &Arc<Shape>) -> Option<Batch> {
        let generation = common.settings.metadata.generation();
        let input = &page.batch.shape;
        let current = self
            .bound
            .as_ref()
            .is_some_and(|(bound, at)| bound.input.id() == input.id() && *at == generation);
        if current {
            return None;
        }
        let old = self.bound.take().map(|(bound, _)| bound);
        if input.is_empty() {
            self.idle = Some(Arc::clone(shape));
            return old.map(|old| Batch::end(page.batch.source, old.output, page.batch.time));
        }
        self.idle = None;
        let previous = old.as_ref().map(|old| &old.output);
        let metadata = common.settings.metadata.snapshot();
        let mut bound = bind(common, input, previous, &metadata, page.batch.time);
        let mut of_key: HashMap<Key, Pod> =
            old.into_iter().flat_map(|old| old.pods).map(|pod| (pod.key.clone(), pod)).collect();
        for pod in &mut bound.pods {
            if let Some(old) = of_key.remove(&pod.key) {
                pod.adopt(old, page);
            }
        }
        self.columns.starts = None;
        self.columns.marks.clear();
        self.bound = Some((bound, metadata.generation()));
        None
    }
}

impl Columns {
    fn marks(&mut self) -> Option<Arc<Vec<Mark>>> {
        if self.marks.iter().all(|mark| *mark == Mark::Present) {
            return None;
        }
        if self.last_marks.as_ref().is_none_or(|last| **last != self.marks) {
            self.last_marks = Some(Arc::new(self.marks.clone()));
        }
        self.last_marks.clone()
    }

    fn starts(&mut self, bound: &Bound, inputs: Option<&Starts>) -> Option<Starts> {
        let same = |seen: &Option<Starts>| match (seen, inputs) {
            (Some(seen), Some(inputs)) => Arc::ptr_eq(seen, inputs),
            (None, None) => true,
            _ => false,
        };
        if let Some((seen, made)) = &self.starts
            && same(seen)
        {
            return made.clone();
        }
        let of_input = |col: &Option<super::page::Col>| {
            let start = col.and_then(|col| inputs?.get(col.row() as usize).copied());
            start.unwrap_or(0)
        };
        let mut made: Vec<i64> = bound.starts_of.iter().map(of_input).collect();
        for pod in &bound.pods {
            let speed = pod.speed.as_ref().map(|speed| (speed.out, speed.since()));
            let hits = pod.hits.as_ref().map(|hits| (hits.out, hits.since()));
            for (col, since) in speed.into_iter().chain(hits) {
                made[col.row() as usize] = since;
            }
        }
        let made = made.iter().any(|start| *start != 0).then(|| Arc::new(made));
        self.starts = Some((inputs.cloned(), made.clone()));
        made
    }
}
