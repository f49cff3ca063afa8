//! The component: the pure mapping of [`super::map`] as a reshape step, and what it says about itself.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use pipeline_component::telemetry::table::{ENGINE, NORMALIZE_DROPPED, NORMALIZE_UNKNOWN};
use pipeline_component::telemetry::{Gauge, Telemetry};
use pipeline_component::{BuildProcessor, Component, Processor, Settings, Stability};
use pipeline_config::{Diagnostics, Section};
use pipeline_model::{
    Bounds, Context, Feed, Fold, Group, Hint, Metric, PushError, Reshape, Reshaped, Series, Shape,
};

use super::config::Config;
use super::detect::{Source, Verdict};
use super::map::{Output, normalise};
use super::page::split;
use super::recognise::{pages, put_back};
use super::tables::Kind;
use crate::engine::is_health;

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
        for (page, group) in pages(input).zip(input.groups()) {
            let (rows, ids) = (&page.rows, page.ids());
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
                if put_out(output, rows, out).is_err() {
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
pub(crate) fn target(group: &Group) -> &str {
    group
        .labels
        .text("instance")
        .or_else(|| group.resource.attributes.text("service.instance.id"))
        .unwrap_or("")
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
