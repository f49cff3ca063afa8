//! What is known of a shape before its values: which series each row becomes, and their labels by number.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use foldhash::{HashMap, HashSet, HashSetExt};
use pipeline_model::{Kind, Label, Metric, Number, RowId, Series, Shape};

use super::dictionary::Dictionary;
use super::infos::Key;
use super::{BucketRule, Options};
use crate::prometheus::Escaping;
use crate::prometheus::family::Type;
use crate::prometheus::labels::{escaped_labels, reserved_label};
use crate::prometheus::number::push_bound;
use crate::prometheus::origin::{OriginLabel, is_otel, origin_labels, target_info};
use crate::prometheus::translate::stored_name;

/// How the points of a row are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// Numbers in slots, doubles.
    Doubles,
    /// One integer.
    Int,
    /// A native histogram.
    Native,
    /// Not at all: its points are deltas.
    Delta,
    /// Not at all: another row has the same name and labels.
    Duplicate,
    /// Not at all: native histograms are off.
    Off,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Its series in [`Memo::series`].
    pub(super) first: u32,
    pub(super) end: u32,
    pub(super) family: u32,
    pub(super) say: Say,
    /// It has a start that stores want to know.
    pub(super) starts: bool,
}

/// One series of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct One {
    first: u32,
    end: u32,
    /// Where its value is in a batch.
    pub(super) slot: u32,
    /// Bytes of its labels in the first version.
    pub(super) bytes: u32,
    /// NaN means that there is none: a histogram's sum.
    pub(super) optional: bool,
    /// It is a bucket: the exemplars up to here and above the bucket before are its.
    pub(super) upto: Option<f64>,
}

/// Labels of a series that says who a resource is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) key: Key,
    /// The rest, sorted.
    labels: Vec<(String, String)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memo {
    pub(super) rows: Box<[Row]>,
    series: Box<[One]>,
    ids: Box<[u32]>,
}

impl Memo {
    #[inline]
    pub(super) fn row(&self, row: RowId) -> Option<Row> {
        self.rows.get(row as usize).copied()
    }

    /// The series of a row.
    #[inline]
    pub(super) fn of(&self, row: Row) -> &[One] {
        self.series.get(row.first as usize..row.end as usize).unwrap_or_default()
    }

    /// The labels of a series.
    #[inline]
    pub(super) fn labels(&self, one: &One) -> &[u32] {
        self.ids.get(one.first as usize..one.end as usize).unwrap_or_default()
    }

    /// The same for equal labels of one dictionary.
    pub(super) fn identity(&self, one: &One) -> u64 {
        identity(&self.ids, one)
    }

    /// The identities of all series.
    pub(super) fn identities(&self) -> HashSet<u64> {
        self.series.iter().map(|one| self.identity(one)).collect()
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.rows) + size_of_val(&*self.series) + size_of_val(&*self.ids)
    }
}

/// What is decided once per metric and origin.
struct Plan {
    name: String,
    family: u32,
    say: Say,
    starts: bool,
    /// Of a histogram: buckets that are sent, with their `le`.
    buckets: Vec<(usize, f64, String)>,
}

/// Labels of a row without name and bound.
struct Base {
    ids: Vec<u32>,
    /// Where `__name__` goes, and `le` or `quantile`.
    name: usize,
    bound: usize,
}

/// Makes memos.
pub(super) struct Maker<'a> {
    pub(super) options: &'a Options,
    pub(super) dictionary: &'a mut Dictionary,
    /// Names may have all their characters.
    pub(super) utf8: bool,
}

impl Maker<'_> {
    fn escaping(&self) -> Escaping {
        if self.utf8 && self.options.naming.keeps_utf8() {
            Escaping::AllowUtf8
        } else {
            Escaping::Underscores
        }
    }

    /// The memo of a shape.
    pub(super) fn memo(&mut self, shape: &Shape) -> Memo {
        let mut plans: HashMap<(*const Metric, bool), Plan> = HashMap::default();
        let mut bases: HashMap<(*const Label, u32, Option<&str>, bool), Base> = HashMap::default();
        let mut of_contract: HashMap<*const Metric, bool> = HashMap::default();
        let mut seen = HashSet::with_capacity(shape.len());
        let (mut rows, mut series) = (Vec::with_capacity(shape.len()), Vec::new());
        let mut ids = Vec::new();
        for one in shape.iter() {
            let is_ours = *of_contract
                .entry(Arc::as_ptr(one.metric))
                .or_insert_with(|| self.options.contract.find(&one.metric.name).is_some());
            let otel = !is_ours && is_otel(one.group, &one.metric.name);
            let plan = plans
                .entry((Arc::as_ptr(one.metric), otel))
                .or_insert_with(|| self.plan(one.metric, otel));
            let reserved = reserved_label(&one.metric.kind);
            let own = one.labels.iter().as_slice().as_ptr();
            let base = bases
                .entry((own, one.group_idx, reserved, otel))
                .or_insert_with(|| self.base(&one, otel, reserved));
            let first = series.len() as u32;
            self.series(&one, plan, base, &mut series, &mut ids);
            let mut say = plan.say;
            let is_taken = |one: &One| seen.contains(&identity(&ids, one));
            if series[first as usize..].iter().any(is_taken) {
                say = Say::Duplicate;
                ids.truncate(series[first as usize].first as usize);
                series.truncate(first as usize);
            }
            seen.extend(series[first as usize..].iter().map(|one| identity(&ids, one)));
            let (family, starts, end) = (plan.family, plan.starts, series.len() as u32);
            rows.push(Row { first, end, family, say, starts });
        }
        Memo { rows: rows.into(), series: series.into(), ids: ids.into() }
    }

    fn plan(&mut self, metric: &Metric, otel: bool) -> Plan {
        let ty = Type::of(metric);
        let say = match (&metric.kind, ty) {
            (_, None) => Say::Delta,
            (Kind::ExponentialHistogram { .. }, _) if !self.options.native_histograms => Say::Off,
            (Kind::ExponentialHistogram { .. }, _) => Say::Native,
            _ if metric.number == Number::Int => Say::Int,
            _ => Say::Doubles,
        };
        let ty = ty.unwrap_or(Type::Unknown);
        let name = stored_name(metric, ty, self.options.naming, otel, self.utf8);
        // A name has to be something.
        let name = if name.is_empty() { "_".to_owned() } else { name.into_owned() };
        let family = self.dictionary.family(&name, ty, metric);
        let first = metric.kind.first_bucket();
        let bounds = match &metric.kind {
            Kind::Histogram { bounds, .. } => bounds.as_slice(),
            Kind::Summary { quantiles } => quantiles.as_slice(),
            _ => &[],
        };
        let rule = self.options.buckets.iter().find(|rule| rule.metrics.matches(&name));
        let kept = |bound: f64| {
            !matches!(metric.kind, Kind::Histogram { .. })
                || rule.is_none_or(|rule: &BucketRule| rule.keep.contains(&bound))
        };
        let buckets = bounds
            .iter()
            .enumerate()
            .filter(|(_, bound)| kept(**bound))
            .map(|(idx, bound)| (first + idx, *bound, bound_text(*bound)))
            .collect();
        let starts = !matches!(ty, Type::Gauge | Type::Unknown | Type::Info | Type::StateSet);
        Plan { name, family, say, starts, buckets }
    }

    /// Labels of `one` beside name and bound, sorted.
    fn base(&mut self, one: &Series<'_>, otel: bool, reserved: Option<&str>) -> Base {
        let labels = self.labels(one, otel, reserved);
        let at = |name: &str| labels.partition_point(|(known, _)| known.as_str() < name);
        let (name, bound) = (at("__name__"), reserved.map_or(0, at));
        let ids = labels.iter().map(|(name, value)| self.dictionary.label(name, value)).collect();
        Base { ids, name, bound }
    }

    fn labels(
        &self,
        one: &Series<'_>,
        otel: bool,
        reserved: Option<&str>,
    ) -> Vec<(String, String)> {
        let mut out: Vec<(String, String)> =
            escaped_labels(one.labels_merged(), self.escaping(), reserved)
                .into_iter()
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect();
        // What belongs to the resource is no label of the series, so it gives way to one, but for who produced it.
        let mut add = |label: OriginLabel| {
            if !label.value.is_empty() && reserved != Some(label.name.as_str()) {
                label.put(&mut out);
            }
        };
        if otel {
            let Options { scope_labels, promote, .. } = self.options;
            origin_labels(one.group, self.escaping(), *scope_labels, promote)
                .into_iter()
                .for_each(&mut add);
        }
        for (name, value) in &self.options.external_labels {
            add(OriginLabel { name: name.clone(), value: value.clone(), wins: false });
        }
        out.retain(|(name, value)| !name.is_empty() && !value.is_empty() && name != "__name__");
        out.sort_unstable();
        out
    }

    fn series(
        &mut self,
        one: &Series<'_>,
        plan: &Plan,
        base: &Base,
        series: &mut Vec<One>,
        ids: &mut Vec<u32>,
    ) {
        if matches!(plan.say, Say::Delta | Say::Off) {
            return;
        }
        let slot = one.slots().start as u32;
        let mut push =
            |suffix: &str, bound: Option<(&str, &str)>, offset: usize, optional, upto| {
                let name = self.dictionary.label("__name__", &format!("{}{suffix}", plan.name));
                let bound = bound.map(|(name, value)| self.dictionary.label(name, value));
                let first = ids.len();
                ids.extend_from_slice(&base.ids);
                if let Some(bound) = bound {
                    ids.insert(first + base.bound, bound);
                }
                // `__name__` sorts before `le` and `quantile`.
                ids.insert(first + base.name, name);
                let bytes = self.dictionary.fields_len(&ids[first..]) as u32;
                let (first, end) = (first as u32, ids.len() as u32);
                series.push(One { first, end, slot: slot + offset as u32, bytes, optional, upto });
            };
        match &one.metric.kind {
            Kind::Gauge | Kind::Sum { .. } | Kind::ExponentialHistogram { .. } => {
                push("", None, 0, false, Some(f64::INFINITY));
            }
            Kind::Histogram { .. } => {
                for (offset, bound, text) in &plan.buckets {
                    push("_bucket", Some(("le", text)), *offset, false, Some(*bound));
                }
                push("_bucket", Some(("le", "+Inf")), 1, false, Some(f64::INFINITY));
                push("_sum", None, 0, true, None);
                push("_count", None, 1, false, None);
            }
            Kind::Summary { .. } => {
                for (offset, _, text) in &plan.buckets {
                    push("", Some(("quantile", text)), *offset, false, None);
                }
                push("_sum", None, 0, true, None);
                push("_count", None, 1, false, None);
            }
        }
    }

    /// What `target_info` says of the resources of a shape.
    pub(super) fn infos(&self, shape: &Shape) -> Vec<Info> {
        let mut out: Vec<Info> = Vec::new();
        if !self.options.target_info {
            return out;
        }
        for group in shape.groups() {
            let said = target_info(&group.resource, self.escaping());
            let Some((key, mut labels)) = said else { continue };
            if out.iter().any(|info| info.key == key) {
                continue;
            }
            for (name, value) in &self.options.external_labels {
                if labels.iter().all(|(known, _)| known != name) {
                    labels.push((name.clone(), value.clone()));
                }
            }
            labels.push(("__name__".to_owned(), "target_info".to_owned()));
            labels.retain(|(_, value)| !value.is_empty());
            labels.sort_unstable();
            out.push(Info { key, labels });
        }
        out
    }

    /// The labels of `target_info`, by number, and its family.
    pub(super) fn info_ids(&mut self, info: &Info) -> (Vec<u32>, u32) {
        let ids =
            info.labels.iter().map(|(name, value)| self.dictionary.label(name, value)).collect();
        let metric = Metric::new("target_info", "", "Attributes of the resource.", Kind::Gauge);
        (ids, self.dictionary.family("target_info", Type::Gauge, &metric))
    }
}

fn identity(ids: &[u32], one: &One) -> u64 {
    let labels = ids.get(one.first as usize..one.end as usize).unwrap_or_default();
    FixedState::with_seed(11).hash_one(labels)
}

fn bound_text(bound: f64) -> String {
    let mut text = Vec::new();
    push_bound(&mut text, bound);
    String::from_utf8(text).unwrap_or_default()
}
