//! The component: the pure mapping of [`super::map`] as a reshape step, and what it says about itself.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
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
use super::tables::Kind;

/// Targets whose verdict is shown, and names remembered as unknown. Beyond that the oldest are forgotten; a target
/// that is forgotten shows again when its page changes.
const REMEMBERED_MAX: usize = 2000;

/// The processor.
#[derive(Debug)]
pub struct Normalize {
    config: Config,
    telemetry: Telemetry,
    said: Mutex<Said>,
}

/// What self telemetry was told.
#[derive(Debug, Default)]
struct Said {
    /// Holding a gauge keeps it on show.
    engines: HashMap<String, Gauge>,
    order: VecDeque<String>,
    unknown: HashSet<(String, String)>,
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
        Self { config, telemetry, said: Mutex::default() }
    }

    /// Shows the verdict on `target`, in place of an earlier one.
    fn say(&self, target: &str, verdict: &Verdict) {
        if target.is_empty() && verdict.source == Source::Unknown {
            return;
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
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.engines.insert(target.to_owned(), gauge).is_none() {
            said.order.push_back(target.to_owned());
        }
        if said.order.len() > REMEMBERED_MAX
            && let Some(oldest) = said.order.pop_front()
        {
            said.engines.remove(&oldest);
        }
    }

    fn count_unknown(&self, target: &str, name: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.unknown.len() >= REMEMBERED_MAX {
            said.unknown.clear();
        }
        if said.unknown.insert((target.to_owned(), name.to_owned())) {
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
            self.say(target, &normalised.verdict);
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

/// The labels as the page has them: where a scraped label had to give way to the target's of the same name
/// (`exported_model_name`), it is known to the tables by its own.
fn page_labels(series: &Series<'_>) -> Labels {
    let own_name = |name: &str| {
        let bare = name.strip_prefix("exported_")?;
        series.group.labels.get(bare).map(|_| Str::new(bare))
    };
    if !series.labels.iter().any(|label| own_name(&label.name).is_some()) {
        return series.labels.clone();
    }
    Labels::new(
        series
            .labels
            .iter()
            .map(|label| Label {
                name: own_name(&label.name).unwrap_or_else(|| label.name.clone()),
                value: label.value.clone(),
            })
            .collect(),
    )
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
    let fold = match output.fold {
        // Only what never falls but at a reset can be made whole over one; deltas and summaries are added as they are.
        Fold::SumCounter if !metric.kind.is_cumulative_monotonic() => Fold::Sum,
        fold => fold,
    };
    for (idx, scale) in &output.feeds {
        let feed = Feed { row: rows[*idx].row, scale: *scale };
        match out.push(group, &metric, &output.labels, fold, feed) {
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
