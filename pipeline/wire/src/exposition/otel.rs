//! OpenTelemetry's series as the page shows them: under Prometheus' names, with the labels that say where they come from.
//!
//! A shape is said anew once, when it comes: rows and slots stay where they are, so that a batch's columns serve as they
//! came, and everything after - families, conflicts, texts - sees Prometheus' series alone.
//!
//! Rules: <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>.

use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use pipeline_model::{
    Contract, Group, Hint, Interner, Kind, Label, Labels, Metric, Resource, Scope, Series, Shape,
    ShapeBuilder, ShapeError, Str,
};

use super::Escaping;
use crate::prometheus::Naming;
use crate::prometheus::family::Type;
use crate::prometheus::labels::escaped_labels;
use crate::prometheus::origin::{is_otel_group, origin_labels, target_info};
use crate::prometheus::translate::stored_name;

/// What becomes of OpenTelemetry's series on a page. Those of scraped pages are shown as they are.
#[derive(Clone, Debug)]
pub struct Otel {
    /// What becomes of names.
    pub naming: Naming,
    /// `otel_scope_name` and the like on series of OpenTelemetry's scopes.
    pub scope_labels: bool,
    /// A series `target_info` per job and instance, with the other attributes of the resource.
    pub target_info: bool,
    /// Attributes of resources that become labels of their series.
    pub promote: Vec<String>,
    /// Its metrics are shown as they are, wherever they come from.
    pub contract: Arc<Contract>,
    /// Keeps what the new shapes have in common.
    pub interner: Arc<Interner>,
}

impl Default for Otel {
    fn default() -> Self {
        Self {
            naming: Naming::default(),
            scope_labels: true,
            target_info: true,
            promote: Vec::new(),
            contract: Arc::default(),
            interner: Arc::default(),
        }
    }
}

/// What `target_info` says of one resource.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Info {
    /// Job and instance.
    key: (String, String),
    labels: Labels,
    resource: Arc<Resource>,
}

/// A shape as it is shown.
pub(super) struct Shown {
    /// The same rows and slots under the names of the page.
    pub(super) shape: Arc<Shape>,
    /// One per resource.
    pub(super) infos: Box<[Info]>,
}

impl Otel {
    fn escaping(&self) -> Escaping {
        if self.naming.keeps_utf8() { Escaping::AllowUtf8 } else { Escaping::Underscores }
    }

    /// `shape` as it is shown: itself, when nothing in it is OpenTelemetry's.
    pub(super) fn shown(&self, shape: &Arc<Shape>) -> Shown {
        let same = || Shown { shape: Arc::clone(shape), infos: Box::default() };
        if !shape.groups().iter().any(is_otel_group) {
            return same();
        }
        let mut run = Run::new(self, shape);
        match shape.iter().try_for_each(|series| run.row(&series)) {
            Ok(()) => run.finish(),
            // It has as many rows as before: there is room.
            Err(_) => same(),
        }
    }

    /// The shape of a source that says `target_info`, once per job and instance: of several the first.
    pub(super) fn info_shape<'a>(&self, infos: impl Iterator<Item = &'a Info>) -> Arc<Shape> {
        let mut builder = ShapeBuilder::new(&self.interner);
        let mut known: HashSet<&(String, String)> = HashSet::default();
        let metric = Metric::new("target_info", "", "Attributes of the resource.", Kind::Gauge);
        let metric = Arc::new(Metric { hint: Hint::Info, ..metric });
        for info in infos {
            if known.insert(&info.key) {
                let (labels, resource) = (info.labels.clone(), Arc::clone(&info.resource));
                let group = builder.group(Group { resource, labels, ..Group::default() });
                // Job and instance differ.
                _ = builder.push(group, &metric, &Labels::empty());
            }
        }
        builder.finish()
    }
}

/// What a group of the input becomes.
struct Target {
    /// For OpenTelemetry's metrics: the group with the labels of its origin.
    group: u32,
    /// Names of those labels that series have no own labels beside.
    wins: Vec<String>,
    /// For the contract's metrics: the group as it is.
    plain: Option<u32>,
    /// Copies of `group`, for rows that say what another row says.
    copies: u32,
    copy: u32,
    /// Some series is shown with the labels of its origin.
    used: bool,
}

/// The making of one shape.
struct Run<'a> {
    otel: &'a Otel,
    shape: &'a Shape,
    builder: ShapeBuilder<'a>,
    /// Per group; `None` for one that is not OpenTelemetry's.
    targets: Vec<Option<Target>>,
    /// `None` for the contract's.
    metrics: HashMap<*const Metric, Option<Arc<Metric>>>,
    labels: HashMap<(*const Label, u32), Labels>,
}

impl<'a> Run<'a> {
    fn new(otel: &'a Otel, shape: &'a Shape) -> Self {
        let mut builder = ShapeBuilder::new(&otel.interner);
        let targets = shape.groups().iter().map(|group| {
            is_otel_group(group).then(|| {
                let (labels, wins) = otel.group_labels(group);
                let group = builder.group(Group { labels, ..group.clone() });
                Target { group, wins, plain: None, copies: 0, copy: group, used: false }
            })
        });
        let targets = targets.collect();
        Self {
            otel,
            shape,
            builder,
            targets,
            metrics: HashMap::default(),
            labels: HashMap::default(),
        }
    }

    fn row(&mut self, series: &Series<'_>) -> Result<(), ShapeError> {
        let otel = self.otel;
        let Some(Some(target)) = self.targets.get_mut(series.group_idx as usize) else {
            let group = self.builder.group(series.group.clone());
            return self.builder.push(group, series.metric, series.labels).map(drop);
        };
        let metric = self
            .metrics
            .entry(Arc::as_ptr(series.metric))
            .or_insert_with(|| otel.metric(series.metric));
        let Some(metric) = metric else {
            let builder = &mut self.builder;
            let plain = *target.plain.get_or_insert_with(|| builder.group(series.group.clone()));
            return builder.push(plain, series.metric, series.labels).map(drop);
        };
        target.used = true;
        let own = series.labels.iter().as_slice().as_ptr();
        let wins = &target.wins;
        let labels = self
            .labels
            .entry((own, series.group_idx))
            .or_insert_with(|| otel.own_labels(series.labels, wins));
        // Names that become one make rows that say the same. Each keeps its place, in a copy of the group; that they
        // are duplicates is found where series are claimed.
        for group in [target.group, target.copy] {
            match self.builder.push(group, metric, labels) {
                Err(ShapeError::Duplicate(_)) => {}
                done => return done.map(drop),
            }
        }
        target.copies += 1;
        let group = &series.group;
        let schema_url = Str::new(&format!("{} copy {}", group.scope.schema_url, target.copies));
        let scope = Arc::new(Scope { schema_url, ..Scope::clone(&group.scope) });
        let (labels_of_group, _) = otel.group_labels(group);
        target.copy =
            self.builder.group(Group { scope, labels: labels_of_group, ..Group::clone(group) });
        self.builder.push(target.copy, metric, labels).map(drop)
    }

    fn finish(self) -> Shown {
        let mut told: HashSet<*const Resource> = HashSet::default();
        let groups = self.shape.groups().iter().zip(&self.targets);
        let infos = groups
            .filter(|(_, target)| target.as_ref().is_some_and(|target| target.used))
            .filter(|(group, _)| told.insert(Arc::as_ptr(&group.resource)))
            .filter_map(|(group, _)| self.otel.info(&group.resource));
        let infos = if self.otel.target_info { infos.collect() } else { Box::default() };
        Shown { shape: self.builder.finish(), infos }
    }
}

impl Otel {
    /// `metric` under the page's name; `None` for one of the contract.
    fn metric(&self, metric: &Arc<Metric>) -> Option<Arc<Metric>> {
        if self.contract.find(&metric.name).is_some() {
            return None;
        }
        let ty = Type::of(metric).unwrap_or_else(|| Type::of_delta(metric));
        let name = stored_name(metric, ty, self.naming, true, true);
        // A name has to be something.
        let name = if name.is_empty() { "_" } else { &*name };
        if *name == *metric.name {
            return Some(Arc::clone(metric));
        }
        Some(Arc::new(Metric { name: Str::new(name), ..Metric::clone(metric) }))
    }

    /// The labels of a group, and which of them take the place of own ones.
    fn group_labels(&self, group: &Group) -> (Labels, Vec<String>) {
        let mut labels = pairs(&group.labels, self.escaping());
        let mut wins = Vec::new();
        for label in origin_labels(group, self.escaping(), self.scope_labels, &self.promote) {
            if label.wins {
                wins.push(label.name.clone());
            }
            label.put(&mut labels);
        }
        (labels_of(&labels, &[]), wins)
    }

    fn own_labels(&self, labels: &Labels, wins: &[String]) -> Labels {
        labels_of(&pairs(labels, self.escaping()), wins)
    }

    fn info(&self, resource: &Arc<Resource>) -> Option<Info> {
        let (key, labels) = target_info(resource, self.escaping())?;
        Some(Info { key, labels: labels_of(&labels, &[]), resource: Arc::clone(resource) })
    }
}

fn pairs(labels: &Labels, escaping: Escaping) -> Vec<(String, String)> {
    let escaped = escaped_labels(labels.iter(), escaping, None).into_iter();
    escaped.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// The labels that Prometheus takes, without those named in `less`. To Prometheus an empty label is none.
fn labels_of(pairs: &[(String, String)], less: &[String]) -> Labels {
    let kept = pairs.iter().filter(|(name, value)| {
        !name.is_empty() && !value.is_empty() && name != "__name__" && !less.contains(name)
    });
    Labels::from_pairs(kept.map(|(name, value)| (name.as_str(), value.as_str())))
}
