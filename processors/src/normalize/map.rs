//! From the series of a page to the series that go on: renamed, re-typed, scaled, folded, or dropped for a reason.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use pipeline_model::{Fold, Label, Labels};

use super::config::{Config, PassOrDrop, Semantics};
use super::detect::{Generation, Verdict, counts_blocks, detect};
use super::otel;
use super::page::{Known, Page, SeriesId, look_up};
use super::tables::{self, Engine, Kind, Metric, Scale};

/// Why a series does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The creation time of a counter or histogram, as a gauge of its own.
    Created,
    /// The page has the metric under its newer name as well.
    Superseded,
    /// Another rank reports the same.
    Copy,
    /// A part of a total that is on the page.
    Part,
    /// vLLM V0's speculative decoding counters add their running totals to themselves.
    Broken,
    /// The Python runtime's own.
    Runtime,
    /// No known release has it, and the configuration says so.
    Unknown,
    /// Its buckets differ from those of the other ranks.
    Bounds,
}

impl Why {
    /// As in self telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Superseded => "superseded",
            Self::Copy => "copy",
            Self::Part => "part",
            Self::Broken => "broken",
            Self::Runtime => "runtime",
            Self::Unknown => "unknown",
            Self::Bounds => "bounds",
        }
    }
}

/// One series that goes on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Output<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) kind: Kind,
    pub(crate) labels: Labels,
    pub(crate) fold: Fold,
    /// Indices of the page's series and the factor on their values; never empty.
    pub(crate) feeds: Vec<(usize, f64)>,
    /// Unit where it is not the page's.
    pub(crate) unit: Option<&'static str>,
}

/// What became of a page.
#[derive(Debug)]
pub(crate) struct Normalised<'a> {
    pub(crate) verdict: Verdict,
    pub(crate) outputs: Vec<Output<'a>>,
    pub(crate) dropped: Vec<(usize, Why)>,
    /// Names with an engine's prefix that its table lacks, passed or dropped.
    pub(crate) unknown: BTreeSet<&'a str>,
}

/// Normalises `page`. Pages of anything but an engine pass as they are.
pub(crate) fn normalise<'a>(series: &'a [SeriesId<'a>], config: &Config) -> Normalised<'a> {
    let page = Page::new(series);
    let verdict = detect(&page);
    let Some(engine) = verdict.engine() else {
        let outputs = series.iter().enumerate().map(|(idx, id)| pass(idx, id)).collect();
        return Normalised { verdict, outputs, dropped: Vec::new(), unknown: BTreeSet::new() };
    };
    let mut mapper = Mapper::new(&page, engine, &verdict, config);
    for idx in 0..series.len() {
        mapper.take(idx);
    }
    let Mapper { groups, mut dropped, unknown, mut outputs, .. } = mapper;
    for (place, group) in groups {
        let output = group.fold(engine, series, config, &mut dropped);
        outputs.push((place, output));
    }
    outputs.sort_by_key(|(place, _)| *place);
    let mut outputs: Vec<_> = outputs.into_iter().map(|(_, output)| output).collect();
    if config.semantics == Semantics::Otel {
        otel::add(&page, &verdict, config, &mut outputs);
    }
    dropped.sort_unstable();
    Normalised { verdict, outputs, dropped, unknown }
}

fn pass<'a>(idx: usize, id: &SeriesId<'a>) -> Output<'a> {
    Output {
        name: Cow::Borrowed(id.name),
        kind: id.kind,
        labels: id.labels.clone(),
        fold: Fold::Only,
        feeds: vec![(idx, 1.0)],
        unit: None,
    }
}

/// The name that the creation time of `id` would be called after.
fn parent<'a>(id: &SeriesId<'a>) -> Option<&'a str> {
    match id.kind {
        Kind::Counter => Some(id.name.strip_suffix("_total").unwrap_or(id.name)),
        Kind::Histogram | Kind::Summary => Some(id.name),
        Kind::Gauge | Kind::Unknown => None,
    }
}

/// Series of the page that become one.
#[derive(Debug)]
struct Group {
    name: String,
    metric: &'static Metric,
    labels: Labels,
    members: Vec<(usize, f64)>,
}

#[derive(Debug)]
struct Mapper<'a, 'p> {
    page: &'p Page<'a>,
    engine: &'static Engine,
    config: &'p Config,
    /// Labels that say the same on the whole page.
    constant: Vec<&'static str>,
    /// Tokens per KV block, when the page counts blocks and tells.
    block_tokens: Option<f64>,
    counts_blocks: bool,
    v0: bool,
    /// Names, without `_total`, that may have a creation time beside them.
    parents: HashSet<&'a str>,
    of_key: HashMap<(String, Labels), usize>,
    /// With the place of the first member, which orders the output.
    groups: BTreeMap<usize, Group>,
    outputs: Vec<(usize, Output<'a>)>,
    dropped: Vec<(usize, Why)>,
    unknown: BTreeSet<&'a str>,
}

impl<'a, 'p> Mapper<'a, 'p> {
    fn new(
        page: &'p Page<'a>,
        engine: &'static Engine,
        verdict: &Verdict,
        config: &'p Config,
    ) -> Self {
        let block_size = page.label(engine, "cache_config_info", "block_size");
        Self {
            page,
            engine,
            config,
            constant: page.constant_labels(engine),
            block_tokens: block_size.and_then(|text| text.parse().ok()).filter(|size| *size > 0.0),
            counts_blocks: counts_blocks(verdict),
            v0: verdict.generation == Some(Generation::V0),
            parents: page.series.iter().filter_map(parent).collect(),
            of_key: HashMap::new(),
            groups: BTreeMap::new(),
            outputs: Vec::new(),
            dropped: Vec::new(),
            unknown: BTreeSet::new(),
        }
    }

    fn take(&mut self, idx: usize) {
        let id = self.page.series[idx];
        if self.is_created(&id) {
            self.dropped.push((idx, Why::Created));
        } else if let Some((engine, _, base)) = self.page.names[idx] {
            if engine.prefix == self.engine.prefix {
                self.take_engine(idx, &id, base);
            } else {
                self.outputs.push((idx, pass(idx, &id)));
            }
        } else if id.name.starts_with("python_") && self.config.runtime_metrics == PassOrDrop::Drop
        {
            self.dropped.push((idx, Why::Runtime));
        } else {
            self.outputs.push((idx, pass(idx, &id)));
        }
    }

    /// `x_created` beside a counter `x_total` or a histogram or summary `x`.
    fn is_created(&self, id: &SeriesId<'_>) -> bool {
        matches!(id.kind, Kind::Gauge | Kind::Unknown)
            && id.name.strip_suffix("_created").is_some_and(|name| self.parents.contains(name))
    }

    fn take_engine(&mut self, idx: usize, id: &SeriesId<'a>, base: &'a str) {
        let (base, metric, scale, when) = match look_up(self.engine, base, id) {
            Some(Known::Current(metric)) if self.is_broken(metric) => {
                self.dropped.push((idx, Why::Broken));
                return;
            }
            Some(Known::Current(metric)) => (metric.name, metric, 1.0, None),
            Some(Known::Old(rename, metric)) => {
                if rename.new != rename.old && self.page.has(self.engine, rename.new) {
                    self.dropped.push((idx, Why::Superseded));
                    return;
                }
                match self.scale(rename.scale) {
                    Some(scale) => (metric.name, metric, scale, rename.when),
                    None => (rename.old, metric, 1.0, rename.when),
                }
            }
            None => return self.take_unknown(idx, id, base),
        };
        let labels = self.labels(base, id.labels, when.map(|(label, _)| label));
        let key = (format!("{}{base}", self.engine.prefix), labels);
        match self.of_key.get(&key).and_then(|place| self.groups.get_mut(place)) {
            Some(group) => group.members.push((idx, scale)),
            None => {
                self.of_key.insert(key.clone(), idx);
                let (name, labels) = key;
                let group = Group { name, metric, labels, members: vec![(idx, scale)] };
                self.groups.insert(idx, group);
            }
        }
    }

    fn take_unknown(&mut self, idx: usize, id: &SeriesId<'a>, base: &str) {
        self.unknown.insert(id.name);
        if self.config.unknown == PassOrDrop::Drop {
            self.dropped.push((idx, Why::Unknown));
            return;
        }
        let name = Cow::Owned(format!("{}{base}", self.engine.prefix));
        self.outputs.push((idx, Output { name, ..pass(idx, id) }));
    }

    /// V0 counts speculation by adding its running totals every few seconds: no rate of that means anything.
    fn is_broken(&self, metric: &Metric) -> bool {
        self.v0 && metric.kind == Kind::Counter && metric.name.starts_with("spec_decode_num_")
    }

    /// The factor; `None` when it cannot be known and the old name stays.
    fn scale(&self, scale: Scale) -> Option<f64> {
        match scale {
            Scale::One => Some(1.0),
            Scale::By(factor) => Some(factor),
            Scale::Blocks if self.counts_blocks => self.block_tokens,
            Scale::Blocks => Some(1.0),
        }
    }

    /// The labels that stay: intrinsic ones, those that the configuration keeps, and those that tell several
    /// models (or workers) on one page apart.
    fn labels(&self, base: &str, labels: &Labels, when: Option<&str>) -> Labels {
        let engine = self.engine;
        let kept = |name: &str| self.config.keep_labels.iter().any(|kept| kept == name);
        let stays = labels.without(|name| {
            let folded = [engine.copies, engine.parts, engine.totals]
                .iter()
                .any(|names| names.contains(&name))
                || self.constant.contains(&name);
            when == Some(name) || (folded && !kept(name))
        });
        // 0.5.9 to 0.5.19 named the storage tier after its backend.
        match stays.text("cache_source") {
            Some(source) if base == "cached_tokens_total" && source.starts_with("storage_") => {
                stays.merged(&Labels::from_pairs([("cache_source", "storage")]))
            }
            _ => stays,
        }
    }
}

impl Group {
    fn fold(
        self,
        engine: &Engine,
        page: &[SeriesId<'_>],
        config: &Config,
        dropped: &mut Vec<(usize, Why)>,
    ) -> Output<'static> {
        let folded = |names: &[&'static str]| -> Vec<&'static str> {
            let kept = |name: &str| config.keep_labels.iter().any(|keep| keep == name);
            names.iter().copied().filter(|name| !kept(name)).collect()
        };
        let mut members = self.members;
        only_totals(&folded(engine.totals), page, &mut members, dropped);
        let mut parts = folded(engine.parts);
        parts.extend(folded(engine.totals));
        only_lowest(&folded(engine.copies), &parts, page, &mut members, dropped);
        if let Some(bounds) = members.first().map(|(idx, _)| page[*idx].bounds) {
            retain(&mut members, dropped, Why::Bounds, |idx| page[idx].bounds == bounds);
        }
        let fold = match (members.len(), self.metric.kind, self.metric.fold) {
            (1, _, _) => Fold::Only,
            (_, Kind::Gauge | Kind::Unknown, tables::Fold::Max) => Fold::Max,
            (_, Kind::Gauge | Kind::Unknown, tables::Fold::Mean) => Fold::Mean,
            (_, Kind::Gauge | Kind::Unknown, tables::Fold::Sum) => Fold::Sum,
            (_, Kind::Counter | Kind::Histogram | Kind::Summary, _) => Fold::SumCounter,
        };
        Output {
            name: Cow::Owned(self.name),
            kind: self.metric.kind,
            labels: self.labels,
            fold,
            feeds: members,
            unit: None,
        }
    }
}

/// Keeps the members that `keep` says and notes the others.
fn retain(
    members: &mut Vec<(usize, f64)>,
    dropped: &mut Vec<(usize, Why)>,
    why: Why,
    keep: impl Fn(usize) -> bool,
) {
    members.retain(|(idx, _)| {
        let stays = keep(*idx);
        if !stays {
            dropped.push((*idx, why));
        }
        stays
    });
}

/// Where the page has the total over a label (its value is empty or it is missing), that is the value.
fn only_totals(
    names: &[&str],
    page: &[SeriesId<'_>],
    members: &mut Vec<(usize, f64)>,
    dropped: &mut Vec<(usize, Why)>,
) {
    let is_total =
        |idx: usize| names.iter().all(|name| page[idx].labels.text(name).unwrap_or("").is_empty());
    if members.iter().any(|(idx, _)| is_total(*idx)) {
        retain(members, dropped, Why::Part, is_total);
    }
}

/// Of the ranks that report the same part, the lowest speaks; of two spellings of one series, the first.
fn only_lowest(
    copies: &[&str],
    parts: &[&str],
    page: &[SeriesId<'_>],
    members: &mut Vec<(usize, f64)>,
    dropped: &mut Vec<(usize, Why)>,
) {
    if members.len() < 2 {
        return;
    }
    let part = |idx: usize| -> Vec<&Label> {
        page[idx].labels.iter().filter(|label| parts.contains(&&*label.name)).collect()
    };
    // A rank that is missing or no number comes first: such a series is not one of a rank.
    let rank = |idx: usize| -> Vec<Option<u32>> {
        copies.iter().map(|name| page[idx].labels.text(name)?.parse().ok()).collect()
    };
    let mut lowest: HashMap<Vec<&Label>, usize> = HashMap::new();
    for (idx, _) in members.iter() {
        let best = lowest.entry(part(*idx)).or_insert(*idx);
        if rank(*idx) < rank(*best) {
            *best = *idx;
        }
    }
    retain(members, dropped, Why::Copy, |idx| lowest.get(&part(idx)) == Some(&idx));
}
