//! The component: the pure mapping of [`super::map`] as a reshape step, and what it says about itself.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use pipeline_component::telemetry::table::{ENGINE, NORMALIZE_DROPPED, NORMALIZE_UNKNOWN};
use pipeline_component::telemetry::{Gauge, Telemetry};
use pipeline_component::{BuildProcessor, Component, Processor, Settings, Stability};
use pipeline_config::{Diagnostics, Section};
use pipeline_model::{
    Bounds, Context, Feed, Fold, Group, Hint, Label, Labels, Metric, PushError, Reshape, Reshaped,
    Series, Shape, Str,
};

use super::config::Config;
use super::detect::{Source, Verdict};
use super::map::{Output, normalise};
use super::page::{SeriesId, split};
use super::tables::{Kind, sglang, vllm};
use crate::engine::{exported, is_health};

/// Names remembered as unknown. Beyond that all are forgotten, and counted again when they come again.
const REMEMBERED_MAX: usize = 2000;

/// The processor.
#[derive(Debug)]
pub struct Normalize {
    config: Config,
    telemetry: Telemetry,
    /// Unknown names that are counted, with their targets.
    unknown: Mutex<HashSet<(String, String)>>,
}

impl Component for Normalize {
    type Config = Config;
    const TYPE: &'static str = "normalize";
    const STABILITY: Stability = Stability::Beta;
    const SUMMARY: &'static str =
        "Maps the metrics of every vLLM and SGLang release onto one vocabulary.";
}

impl BuildProcessor for Normalize {
    fn build(
        config: Config,
        _section: &Section,
        settings: Settings,
    ) -> Result<Vec<Processor>, Diagnostics> {
        Ok(vec![Processor::Reshape(Arc::new(Self::new(config, settings.telemetry)))])
    }
}

impl Normalize {
    /// A step that counts with `telemetry`.
    pub fn new(config: Config, telemetry: Telemetry) -> Self {
        Self { config, telemetry, unknown: Mutex::default() }
    }

    /// The verdict on `target`, on show for as long as the gauge is held.
    fn say(&self, target: &str, verdict: &Verdict) -> Option<Gauge> {
        if target.is_empty() && verdict.source == Source::Unknown {
            return None;
        }
        let releases = match verdict.source {
            Source::Vllm | Source::RayVllm | Source::Sglang => verdict.releases.to_string(),
            Source::SglangRouter | Source::Router | Source::Unknown => String::new(),
        };
        let gauge = self.telemetry.gauge(
            &ENGINE,
            &[
                ("target", target),
                ("engine", verdict.source.as_str()),
                ("engine_version", &releases),
                ("verdict", verdict.word()),
            ],
        );
        gauge.set(1.0);
        Some(gauge)
    }

    fn count_unknown(&self, target: &str, name: &str) {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.len() >= REMEMBERED_MAX {
            unknown.clear();
        }
        if unknown.insert((target.to_owned(), name.to_owned())) {
            self.telemetry.counter(&NORMALIZE_UNKNOWN, &[("name", name)]).inc();
        }
    }
}

impl Reshape for Normalize {
    fn reshape(&self, input: &Shape, _context: &Context<'_>, out: &mut Reshaped<'_>) {
        let mut dropped: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (group_idx, group) in input.groups().iter().enumerate() {
            let rows: Vec<Series<'_>> =
                input.iter().filter(|series| series.group_idx as usize == group_idx).collect();
            let labels: Vec<Labels> = rows.iter().map(page_labels).collect();
            let ids: Vec<SeriesId<'_>> = rows
                .iter()
                .zip(&labels)
                .map(|(series, labels)| series_id(series, labels))
                .collect();
            let normalised = normalise(&ids, &self.config);
            let target = target(group);
            // A page of nothing but its receiver's words is that of a target that was not reached.
            if rows.iter().any(|series| !is_health(&series.metric.name))
                && let Some(gauge) = self.say(target, &normalised.verdict)
            {
                out.hold(Arc::new(gauge));
            }
            for name in &normalised.unknown {
                self.count_unknown(target, name);
            }
            for (_, why) in &normalised.dropped {
                *dropped.entry(why.as_str()).or_default() += 1;
            }
            for output in &normalised.outputs {
                if put_out(output, &rows, out).is_err() {
                    *dropped.entry("duplicate").or_default() += 1;
                }
            }
        }
        for (reason, series) in dropped {
            self.telemetry.counter(&NORMALIZE_DROPPED, &[("reason", reason)]).add(series);
        }
    }
}

/// What names the source in self telemetry.
fn target(group: &Group) -> &str {
    group
        .labels
        .text("instance")
        .or_else(|| group.resource.attributes.text("service.instance.id"))
        .unwrap_or("")
}

/// The name by which the tables know a label of `series`, where it is not the label's own: an engine's bookkeeping
/// (`exported_model_name`) that had to give way to the target's label of the same name. All other labels stay what the
/// receiver made of them: the target's win.
fn own_name<'a>(series: &Series<'a>, name: &'a str) -> Option<&'a str> {
    let bare = exported(name)?;
    let known = [&vllm::ENGINE, &sglang::ENGINE].iter().any(|engine| engine.keeps_book_by(bare));
    let gave_way = series.group.labels.get(bare).is_some() && series.labels.get(bare).is_none();
    (known && gave_way).then_some(bare)
}

/// The labels of `series` as the tables know them.
fn page_labels(series: &Series<'_>) -> Labels {
    if !series.labels.iter().any(|label| own_name(series, &label.name).is_some()) {
        return series.labels.clone();
    }
    let renamed = series.labels.iter().map(|label| Label {
        name: own_name(series, &label.name).map_or_else(|| label.name.clone(), Str::new),
        value: label.value.clone(),
    });
    Labels::new(renamed.collect())
}

/// The inverse of [`page_labels`], for what is left of the labels of `series`: none may pass for the target's.
fn put_back(series: &Series<'_>, labels: &Labels) -> Labels {
    let scraped = |label: &Label| {
        let found = series.labels.iter().find(|l| own_name(series, &l.name) == Some(&*label.name));
        found.map(|found| found.name.clone())
    };
    if !labels.iter().any(|label| scraped(label).is_some()) {
        return labels.clone();
    }
    let renamed = labels.iter().map(|label| Label {
        name: scraped(label).unwrap_or_else(|| label.name.clone()),
        value: label.value.clone(),
    });
    Labels::new(renamed.collect())
}

fn series_id<'a>(series: &Series<'a>, labels: &'a Labels) -> SeriesId<'a> {
    use pipeline_model::Kind as Model;
    let metric = series.metric;
    let (kind, bounds): (_, &[f64]) = match &metric.kind {
        Model::Gauge if metric.hint == Hint::Unknown => (Kind::Unknown, &[]),
        Model::Gauge | Model::Sum { monotonic: false, .. } => (Kind::Gauge, &[]),
        Model::Sum { monotonic: true, .. } => (Kind::Counter, &[]),
        Model::Histogram { bounds, .. } => (Kind::Histogram, bounds.as_slice()),
        Model::ExponentialHistogram { .. } => (Kind::Histogram, &[]),
        Model::Summary { quantiles } => (Kind::Summary, quantiles.as_slice()),
    };
    SeriesId { name: &metric.name, kind, labels, bounds }
}

/// Pushes `output`. Points that cannot be folded (exponential histograms, integers to be averaged) go on one by one,
/// as they were.
fn put_out(
    output: &Output<'_>,
    rows: &[Series<'_>],
    out: &mut Reshaped<'_>,
) -> Result<(), PushError> {
    let Some((first, first_scale)) = output.feeds.first().copied() else { return Ok(()) };
    let metric = Arc::new(metric(output, rows[first].metric, first_scale));
    let group = out.same_group(rows[first].group_idx)?;
    let labels = put_back(&rows[first], &output.labels);
    let fold = match output.fold {
        // Only what never falls but at a reset can be made whole over one; deltas and summaries are added as they are.
        Fold::SumCounter if !metric.kind.is_cumulative_monotonic() => Fold::Sum,
        fold => fold,
    };
    for (idx, scale) in &output.feeds {
        let feed = Feed { row: rows[*idx].row, scale: *scale };
        match out.push(group, &metric, &labels, fold, feed) {
            Err(PushError::Kind) => out.keep(&rows[*idx])?,
            pushed => pushed?,
        };
    }
    Ok(())
}

/// The output's metric: the first input's, with the table's name and kind.
fn metric(output: &Output<'_>, page: &Metric, scale: f64) -> Metric {
    use pipeline_model::Kind as Model;
    let kind = match (output.kind, &page.kind) {
        (Kind::Counter, Model::Gauge) => Model::COUNTER,
        (Kind::Counter, Model::Sum { temporality, .. }) => {
            Model::Sum { monotonic: true, temporality: *temporality }
        }
        (Kind::Gauge, Model::Gauge | Model::Sum { .. }) if output.feeds.len() > 1 => Model::Gauge,
        (Kind::Histogram, Model::Histogram { temporality, bounds, min_max }) if scale != 1.0 => {
            let bounds: Vec<f64> = bounds.as_slice().iter().map(|bound| bound * scale).collect();
            Model::Histogram {
                temporality: *temporality,
                bounds: Bounds::new(&bounds),
                min_max: *min_max,
            }
        }
        (_, kind) => kind.clone(),
    };
    // What an engine's table types needs no hint; vLLM's infos became gauges in 0.5.5.
    let typed = output.kind != Kind::Unknown && split(&output.name).is_some();
    let hint = if typed { Hint::None } else { page.hint };
    Metric {
        name: output.name.as_ref().into(),
        unit: output.unit.map_or_else(|| page.unit.clone(), Into::into),
        description: page.description.clone(),
        kind,
        number: page.number,
        hint,
    }
}
