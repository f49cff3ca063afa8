//! What is left out before it is sent: metrics, labels, buckets. Shared by the exporters that write remotely.

use std::sync::Arc;

use foldhash::HashMap;
use pipeline_config::{Diagnostics, Section};
use pipeline_model::{
    Context, Contract, Feed, Fold, Group, Kind, Number, Reshape, Reshaped, Series, Shape,
    Temporality,
};
use pipeline_wire::prometheus::{Naming, stored_name};
use pipeline_wire::remote_write::{BucketRule, Glob};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Labels that some metrics are sent without.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DropLabels {
    /// The metrics, by the name that the store sees; `*` and `?` are wildcards. Histograms without `_bucket`.
    pub metrics: String,
    /// The labels.
    pub labels: Vec<String>,
    /// Series that are then the same become one: counters and histograms their sum, gauges this. Of integers, summaries and
    /// native histograms, which cannot be added up here, the first stays.
    pub gauges: Gauges,
}

/// What becomes of gauges that have become one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gauges {
    /// Their sum.
    #[default]
    Sum,
    /// Their mean.
    Mean,
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

/// Buckets that some histograms are sent with.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeepBuckets {
    /// The histograms, by the name that the store sees without `_bucket`; `*` and `?` are wildcards.
    pub metrics: String,
    /// Upper bounds that stay, beside `+Inf`. Counts are cumulative, so those that stay lose nothing.
    pub le: Vec<f64>,
}

/// OpenTelemetry's names in Prometheus: the words of Prometheus' own `translation_strategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Translation {
    /// `http.server.duration` in `s` becomes `http_server_duration_seconds`, counters end in `_total`.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// `http_server_duration`: no unit and no `_total`.
    UnderscoreEscapingWithoutSuffixes,
    /// `http.server.duration_seconds`; for a reader that takes no dots, such as version 1.0 of remote write, as
    /// `underscore_escaping_with_suffixes`.
    NoUtf8EscapingWithSuffixes,
    /// `http.server.duration`; for a reader that takes no dots as `underscore_escaping_without_suffixes`.
    NoTranslation,
}

impl Translation {
    pub(crate) fn naming(self) -> Naming {
        match self {
            Self::UnderscoreEscapingWithSuffixes => Naming::UnderscoreEscapingWithSuffixes,
            Self::UnderscoreEscapingWithoutSuffixes => Naming::UnderscoreEscapingWithoutSuffixes,
            Self::NoUtf8EscapingWithSuffixes => Naming::NoUtf8EscapingWithSuffixes,
            Self::NoTranslation => Naming::NoTranslation,
        }
    }
}

/// The rules for buckets as the encoder takes them.
pub(crate) fn buckets(rules: &[KeepBuckets]) -> Vec<BucketRule> {
    let rule = |rule: &KeepBuckets| BucketRule {
        metrics: Glob::new(&rule.metrics),
        keep: rule.le.clone(),
    };
    rules.iter().map(rule).collect()
}

/// Checks the rules: a pattern that is empty fits nothing.
pub(crate) fn check(
    section: &Section,
    labels: &[DropLabels],
    buckets: &[KeepBuckets],
    wrong: &mut Diagnostics,
) {
    let mut pattern = |list: &str, at: usize, metrics: &str| {
        if metrics.is_empty() {
            let message = "expected the names of metrics, found none";
            let at = at.to_string();
            let help = "for example `metrics = \"*\"`";
            wrong.push(section.bad_value(&[list, &at, "metrics"], message, help));
        }
    };
    labels.iter().enumerate().for_each(|(at, rule)| pattern("drop_labels", at, &rule.metrics));
    buckets.iter().enumerate().for_each(|(at, rule)| pattern("keep_buckets", at, &rule.metrics));
}

/// The step that leaves metrics and labels out, before anything is queued.
pub(crate) struct LeaveOut {
    metrics: Vec<Glob>,
    labels: Vec<(Glob, DropLabels)>,
    naming: Naming,
    contract: Arc<Contract>,
}

impl LeaveOut {
    /// `None`: nothing is left out.
    pub(crate) fn new(
        metrics: &[String],
        labels: &[DropLabels],
        translation: Translation,
        contract: Arc<Contract>,
    ) -> Option<Self> {
        if metrics.is_empty() && labels.is_empty() {
            return None;
        }
        Some(Self {
            metrics: metrics.iter().map(|pattern| Glob::new(pattern)).collect(),
            labels: labels.iter().map(|rule| (Glob::new(&rule.metrics), rule.clone())).collect(),
            naming: translation.naming(),
            contract,
        })
    }

    fn without(&self, series: &Series<'_>, rule: &DropLabels, out: &mut Reshaped<'_>) {
        let drop = |name: &str| rule.labels.iter().any(|label| label == name);
        let group = Group {
            labels: series.group.labels.without(drop),
            resource: Arc::clone(&series.group.resource),
            scope: Arc::clone(&series.group.scope),
        };
        let group = out.group(group);
        let labels = series.labels.without(drop);
        let (fold, feed) = (fold(series, rule.gauges), Feed::of(series.row));
        // What cannot be folded is one series at most: a second one is counted as dropped by whoever runs the step.
        if out.push(group, series.metric, &labels, fold, feed).is_err() {
            out.push(group, series.metric, &labels, Fold::Only, feed)
                .map(drop_row)
                .unwrap_or_default();
        }
    }
}

fn drop_row(_: u32) {}

fn fold(series: &Series<'_>, gauges: Gauges) -> Fold {
    if series.metric.number == Number::Int {
        return Fold::Only;
    }
    match (&series.metric.kind, gauges) {
        (kind, _) if kind.is_cumulative_monotonic() => Fold::SumCounter,
        (Kind::Sum { .. }, _)
        | (Kind::Histogram { temporality: Temporality::Delta, .. }, _)
        | (Kind::Gauge, Gauges::Sum) => Fold::Sum,
        (Kind::Gauge, Gauges::Mean) => Fold::Mean,
        (Kind::Gauge, Gauges::Max) => Fold::Max,
        (Kind::Gauge, Gauges::Min) => Fold::Min,
        (Kind::Summary { .. } | Kind::ExponentialHistogram { .. } | Kind::Histogram { .. }, _) => {
            Fold::Only
        }
    }
}

impl Reshape for LeaveOut {
    fn reshape(&self, input: &Shape, _: &Context<'_>, out: &mut Reshaped<'_>) {
        let mut known: HashMap<(usize, u32), Option<Option<usize>>> = HashMap::default();
        for series in input.iter() {
            let key = (Arc::as_ptr(series.metric) as usize, series.group_idx);
            let fate = *known.entry(key).or_insert_with(|| {
                let name = stored_name(&series, &self.contract, self.naming, true);
                let left_out = self.metrics.iter().any(|pattern| pattern.matches(&name));
                let rule = self.labels.iter().position(|(pattern, _)| pattern.matches(&name));
                (!left_out).then_some(rule)
            });
            match fate.map(|rule| rule.and_then(|rule| self.labels.get(rule))) {
                None => {}
                Some(Some((_, rule))) => self.without(&series, rule, out),
                // It was one series before and is one still.
                Some(None) => out.keep(&series).map(drop_row).unwrap_or_default(),
            }
        }
    }
}
