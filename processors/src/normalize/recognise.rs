//! The page of one target as the tables see it: for `normalize` itself, and for `llm`, which reads the same pages.

use pipeline_model::{Label, Labels, Series, Shape, Str, Value};

use super::config::Config;
use super::map::normalise;
use super::page::{Page, SeriesId};
use super::tables::{Engine, Kind, sglang, vllm};
use super::version::{Range, Version};
use crate::engine::exported;

pub(crate) use super::map::Output;

/// The series of one group of a shape: one target's page.
pub(crate) struct OnePage<'s> {
    /// In the order of the page.
    pub(crate) rows: Vec<Series<'s>>,
    labels: Vec<Labels>,
}

/// The pages of a shape, one per group.
pub(crate) fn pages(input: &Shape) -> impl Iterator<Item = OnePage<'_>> {
    let mut of_group: Vec<Vec<Series<'_>>> = vec![Vec::new(); input.groups().len()];
    for series in input.iter() {
        of_group[series.group_idx as usize].push(series);
    }
    of_group.into_iter().map(|rows| {
        let labels = rows.iter().map(page_labels).collect();
        OnePage { rows, labels }
    })
}

impl OnePage<'_> {
    /// The identities that normalising depends on.
    pub(crate) fn ids(&self) -> Vec<SeriesId<'_>> {
        let pairs = self.rows.iter().zip(&self.labels);
        pairs.map(|(series, labels)| series_id(series, labels)).collect()
    }

    /// Normalises the page, if it is an engine's, and gives what came of it to `read`.
    pub(crate) fn recognise(&self, config: &Config, read: impl FnOnce(&Recognised<'_, '_>)) {
        let ids = self.ids();
        let normalised = normalise(&ids, config);
        let Some(engine) = normalised.verdict.engine() else { return };
        read(&Recognised {
            engine,
            releases: normalised.verdict.releases,
            page: &Page::new(&ids),
            outputs: &normalised.outputs,
            rows: &self.rows,
        });
    }
}

/// An engine's page.
pub(crate) struct Recognised<'a, 's> {
    pub(crate) engine: &'static Engine,
    /// Releases that fit.
    releases: Range,
    /// As scraped.
    pub(crate) page: &'a Page<'a>,
    /// Under newest names; their feeds are indices of `rows`.
    pub(crate) outputs: &'a [Output<'a>],
    pub(crate) rows: &'a [Series<'s>],
}

impl Recognised<'_, '_> {
    /// The name of `output` without the engine's prefix; `None` when it is not the engine's.
    pub(crate) fn base<'o>(&self, output: &'o Output<'_>) -> Option<&'o str> {
        output.name.strip_prefix(self.engine.prefix)
    }

    /// True when the engine is certainly not older than `release`.
    pub(crate) fn is_since(&self, release: &str) -> bool {
        self.releases.since >= Version::new(release)
    }

    /// The name under which the engine serves its model, where the page has one.
    pub(crate) fn served_model(&self) -> Option<&Value> {
        let mut names = self.page.series.iter().filter_map(|id| id.labels.get("model_name"));
        names.next()
    }

    /// `labels` of `series` as they go on: none may pass for the target's.
    pub(crate) fn put_back(&self, series: &Series<'_>, labels: &Labels) -> Labels {
        put_back(series, labels)
    }
}

/// Every family that the tables of an engine know, by prefix, older names included.
#[cfg(test)]
pub(crate) fn families(prefix: &str) -> Vec<&'static str> {
    let engine = if prefix == "vllm:" { &vllm::ENGINE } else { &sglang::ENGINE };
    let old = engine.renames.iter().map(|rename| rename.old);
    engine.metrics.iter().map(|metric| metric.name).chain(old).collect()
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
pub(super) fn put_back(series: &Series<'_>, labels: &Labels) -> Labels {
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
    use pipeline_model::{Hint, Kind as Model};
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
