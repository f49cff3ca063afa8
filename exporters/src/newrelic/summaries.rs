//! [`Summaries`]: summaries as sums and gauges.
//!
//! New Relic takes the count and sum of a summary for what came since the last point. Those of Prometheus count since
//! the start, so they become sums, which are made deltas like all others, and the quantiles become gauges.

use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use pipeline_model::{
    Batch, Compute, Extras, Interner, Kind, Label, Labels, Mark, Metric, RowId, Series, Shape,
    ShapeBuilder, SourceId, Value,
};
use tokio::time::Instant;

/// The step.
pub(super) struct Summaries {
    interner: Arc<Interner>,
    sources: HashMap<SourceId, Split>,
}

/// How batches of one source are taken apart.
struct Split {
    input: Arc<Shape>,
    /// `None`: there are no summaries, or nothing can be added to the shape.
    output: Option<Output>,
    last: Instant,
}

struct Output {
    shape: Arc<Shape>,
    /// For each row the one that it comes from.
    rows: Vec<RowId>,
    /// For each slot the one that it comes from.
    slots: Vec<u32>,
    /// For each row: is it a quantile, which may be none?
    quantiles: Vec<bool>,
}

impl Summaries {
    pub(super) fn new(interner: Arc<Interner>) -> Self {
        Self { interner, sources: HashMap::default() }
    }
}

impl Output {
    fn new(interner: &Interner, input: &Shape) -> Option<Self> {
        if !input.iter().any(|series| matches!(series.metric.kind, Kind::Summary { .. })) {
            return None;
        }
        let mut builder = ShapeBuilder::new(interner);
        let groups: Vec<u32> =
            input.groups().iter().map(|group| builder.group(group.clone())).collect();
        let (mut rows, mut slots, mut quantiles) = (Vec::new(), Vec::new(), Vec::new());
        let mut metrics: HashMap<usize, [Arc<Metric>; 3]> = HashMap::default();
        for series in input.iter() {
            let group = groups.get(series.group_idx as usize)?;
            let from = series.slots();
            let mut push = |metric: &Arc<Metric>, labels: &Labels, from: std::ops::Range<usize>| {
                // What is there under that name already is left as it is.
                if builder.push(*group, metric, labels).is_ok() {
                    rows.push(series.row);
                    slots.extend(from.map(|slot| slot as u32));
                    quantiles.push(
                        matches!(series.metric.kind, Kind::Summary { .. })
                            && metric.kind == Kind::Gauge,
                    );
                }
            };
            let Kind::Summary { quantiles: at } = &series.metric.kind else {
                push(series.metric, series.labels, from);
                continue;
            };
            let [sum, count, quantile] = metrics
                .entry(Arc::as_ptr(series.metric) as usize)
                .or_insert_with(|| parts_of(&series));
            push(sum, series.labels, from.start..from.start + 1);
            push(count, series.labels, from.start + 1..from.start + 2);
            for (nth, at) in at.as_slice().iter().enumerate() {
                let value = Value::from(at.to_string().as_str());
                let label = Label { name: interner.str("quantile"), value };
                let labels = series.labels.merged(&Labels::new(vec![label]));
                push(quantile, &labels, from.start + 2 + nth..from.start + 3 + nth);
            }
        }
        Some(Self { shape: builder.finish(), rows, slots, quantiles })
    }

    fn apply(&self, batch: &Batch) -> Batch {
        let values = self.slots.iter().map(|slot| batch.values.get(*slot as usize));
        let values = Arc::new(values.map(|slot| slot.copied().unwrap_or_default()).collect());
        let mut out = Batch { shape: Arc::clone(&self.shape), values, ..batch.clone() };
        let of_row = |row: &RowId| batch.start(*row);
        out.starts =
            batch.starts.is_some().then(|| Arc::new(self.rows.iter().map(of_row).collect()));
        let marks =
            self.rows.iter().zip(&self.quantiles).enumerate().map(|(row, (from, quantile))| {
                let none = *quantile
                    && out.point(row as RowId).first().is_none_or(|slot| slot.as_double().is_nan());
                match batch.mark(*from) {
                    Mark::Present if none => Mark::Absent,
                    mark => mark,
                }
            });
        let marks: Vec<Mark> = marks.collect();
        out.marks = marks.iter().any(|mark| *mark != Mark::Present).then(|| Arc::new(marks));
        out.extras = batch.extras.as_deref().map(|extras| Arc::new(self.extras(extras)));
        out
    }

    fn extras(&self, extras: &Extras) -> Extras {
        // Rows keep their order, so what was ascending still is.
        let mut to: HashMap<RowId, RowId> = HashMap::default();
        for (row, from) in self.rows.iter().enumerate() {
            to.entry(*from).or_insert(row as RowId);
        }
        let time = |times: &Vec<i64>, row: &RowId| times.get(*row as usize).copied().unwrap_or(0);
        let exemplars = extras.exemplars.iter().filter_map(|exemplar| {
            let row = *to.get(&exemplar.row)?;
            Some(pipeline_model::Exemplar { row, ..exemplar.clone() })
        });
        Extras {
            times: extras
                .times
                .as_ref()
                .map(|times| self.rows.iter().map(|row| time(times, row)).collect()),
            exponentials: extras
                .exponentials
                .iter()
                .filter_map(|(row, point)| Some((*to.get(row)?, point.clone())))
                .collect(),
            exemplars: exemplars.collect(),
        }
    }
}

/// Sum, count and quantile of a summary.
fn parts_of(series: &Series<'_>) -> [Arc<Metric>; 3] {
    let Metric { name, unit, description, .. } = &**series.metric;
    let part = |name: &str, unit: &str, kind| Arc::new(Metric::new(name, unit, description, kind));
    [
        part(&format!("{name}_sum"), unit, Kind::COUNTER),
        part(&format!("{name}_count"), "", Kind::COUNTER),
        part(name, unit, Kind::Gauge),
    ]
}

impl Compute for Summaries {
    fn compute(&mut self, batch: Batch, out: &mut Vec<Batch>) {
        let now = Instant::now();
        let known = self.sources.get_mut(&batch.source);
        let split = match known.filter(|split| Arc::ptr_eq(&split.input, &batch.shape)) {
            Some(split) => split,
            None => {
                let output = Output::new(&self.interner, &batch.shape);
                let split = Split { input: Arc::clone(&batch.shape), output, last: now };
                self.sources.insert(batch.source, split);
                let Some(split) = self.sources.get_mut(&batch.source) else { return };
                split
            }
        };
        split.last = now;
        let (source, ended) = (batch.source, batch.ended);
        out.push(match &split.output {
            None => batch,
            Some(output) => output.apply(&batch),
        });
        if ended {
            self.sources.remove(&source);
        }
    }

    fn sweep(&mut self, idle: Duration) {
        self.sources.retain(|_, split| split.last.elapsed() < idle);
    }
}
