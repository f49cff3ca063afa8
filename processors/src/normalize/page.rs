//! A page as the normaliser sees it: identities only, with every family found under its engine's own spelling.

use std::collections::{HashMap, HashSet};

use pipeline_model::{Labels, Value};

use super::tables::{Engine, Kind, Metric, Rename, What, sglang, vllm};
use super::version::Range;

/// One series of a page: all that normalising may depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeriesId<'a> {
    /// As on the page; counters with `_total`, histograms without a suffix.
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
    /// Without the target's labels.
    pub(crate) labels: &'a Labels,
    /// A histogram's finite upper bounds.
    pub(crate) bounds: &'a [f64],
}

/// How an engine's name was spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// With the colon, or with `_` instead: some transports allow no colon.
    Plain,
    /// Exported by Ray, which puts `ray_` before it.
    Ray,
}

const PREFIXES: [(&str, &Engine, Spelling); 5] = [
    ("vllm:", &vllm::ENGINE, Spelling::Plain),
    ("vllm_", &vllm::ENGINE, Spelling::Plain),
    ("ray_vllm_", &vllm::ENGINE, Spelling::Ray),
    ("sglang:", &sglang::ENGINE, Spelling::Plain),
    ("sglang_", &sglang::ENGINE, Spelling::Plain),
];

/// The engine that `name` claims to belong to, and the rest of the name. `vllm_router_x` and `sglang_router_x` are
/// the routers' own.
pub(crate) fn split(name: &str) -> Option<(&'static Engine, Spelling, &str)> {
    PREFIXES.iter().find_map(|(prefix, engine, spelling)| {
        let rest = name.strip_prefix(prefix)?;
        (!rest.is_empty() && !rest.starts_with("router_")).then_some((*engine, *spelling, rest))
    })
}

/// What a table knows about a series.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Known {
    /// It is called so in the newest release that has it.
    Current(&'static Metric),
    /// It is called `Metric` now.
    Old(&'static Rename, &'static Metric),
}

impl Known {
    /// Releases that have it under the name on the page.
    pub(crate) fn range(self) -> Range {
        match self {
            Self::Current(metric) => metric.range,
            Self::Old(rename, _) => rename.range,
        }
    }
}

/// Looks up `base` (a name without prefix) as a series of `kind`.
pub(crate) fn look_up(engine: &Engine, base: &str, series: &SeriesId<'_>) -> Option<Known> {
    let renamed = engine.renames.iter().find(|rename| {
        rename.old == base
            && fits(series.kind, rename.kind)
            && rename.when.is_none_or(|(label, value)| series.labels.text(label) == Some(value))
    });
    if let Some(rename) = renamed {
        return engine.metric(rename.new).map(|metric| Known::Old(rename, metric));
    }
    engine.metric(base).filter(|metric| fits(series.kind, metric.kind)).map(Known::Current)
}

/// True when what the page calls `page` can be what the table calls `table`. A number without a type, and a counter
/// that Ray exports as a gauge, are what the table says.
fn fits(page: Kind, table: Kind) -> bool {
    page == table
        || (matches!(page, Kind::Unknown | Kind::Gauge)
            && matches!(table, Kind::Counter | Kind::Gauge))
}

/// A page's families by engine.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    pub(crate) series: &'a [SeriesId<'a>],
    /// Per series: engine, spelling, base name with the `_total` that some exporters leave out of counters.
    pub(crate) names: Vec<Option<(&'static Engine, Spelling, Base<'a>)>>,
    /// By engine's prefix, by base name.
    families: HashMap<&'static str, HashMap<Base<'a>, Vec<usize>>>,
}

/// A name without its prefix: the page's text, or the table's where that is completed.
pub(crate) type Base<'a> = &'a str;

impl<'a> Page<'a> {
    pub(crate) fn new(series: &'a [SeriesId<'a>]) -> Self {
        let mut families: HashMap<_, HashMap<_, Vec<usize>>> = HashMap::new();
        let names = series
            .iter()
            .map(|id| {
                let (engine, spelling, rest) = split(id.name)?;
                Some((engine, spelling, complete(engine, rest)))
            })
            .collect::<Vec<_>>();
        for (idx, name) in names.iter().enumerate() {
            if let Some((engine, _, base)) = name {
                let of_engine = families.entry(engine.prefix).or_default();
                of_engine.entry(*base).or_default().push(idx);
            }
        }
        Self { series, names, families }
    }

    /// Series of a family of `engine`.
    pub(crate) fn family(&self, engine: &Engine, base: &str) -> &[usize] {
        let rows = self.families.get(engine.prefix).and_then(|of_engine| of_engine.get(base));
        rows.map_or(&[], Vec::as_slice)
    }

    pub(crate) fn has(&self, engine: &Engine, base: &str) -> bool {
        !self.family(engine, base).is_empty()
    }

    /// Families of `engine` on the page, by base name, in no order.
    pub(crate) fn families(&self, engine: &Engine) -> impl Iterator<Item = (&'a str, &[usize])> {
        let families = self.families.get(engine.prefix).into_iter().flatten();
        families.map(|(base, rows)| (*base, rows.as_slice()))
    }

    /// Whether the page shows `what`; `None` when the family that would show it is missing.
    pub(crate) fn shows(&self, engine: &Engine, what: What) -> Option<bool> {
        let any = |family: &str, test: &dyn Fn(&SeriesId<'_>) -> bool| {
            let rows = self.family(engine, family);
            (!rows.is_empty()).then(|| rows.iter().any(|idx| test(&self.series[*idx])))
        };
        match what {
            What::Family(name) => Some(self.has(engine, name)),
            What::Label(name, label) => any(name, &|id| id.labels.get(label).is_some()),
            What::Value(name, label, value) => {
                any(name, &|id| id.labels.text(label) == Some(value))
            }
            What::Bound(name, bound) => any(name, &|id| id.bounds.contains(&bound)),
        }
    }

    /// Labels among `engine.constant` that have one value on all of the engine's series.
    pub(crate) fn constant_labels(&self, engine: &Engine) -> Vec<&'static str> {
        let one_value = |label: &&&str| {
            let values: HashSet<&Value> = self
                .names
                .iter()
                .zip(self.series)
                .filter(|(name, _)| name.is_some_and(|(of, _, _)| of.prefix == engine.prefix))
                .filter_map(|(_, id)| id.labels.get(label))
                .collect();
            values.len() < 2
        };
        engine.constant.iter().filter(one_value).copied().collect()
    }

    /// Text of `label` on the first series of `engine` that has it.
    pub(crate) fn label(&self, engine: &Engine, family: &str, label: &str) -> Option<&'a str> {
        self.family(engine, family).iter().find_map(|idx| self.series[*idx].labels.text(label))
    }
}

/// `rest` as the tables spell it: counters without `_total` and infos without `_info` get it back.
fn complete<'a>(engine: &Engine, rest: &'a str) -> &'a str {
    if engine.metric(rest).is_some() || rest.ends_with("_total") {
        return rest;
    }
    let of_metrics = ["_total", "_info"]
        .iter()
        .find_map(|suffix| engine.metric(&format!("{rest}{suffix}")).map(|metric| metric.name));
    let of_renames = || {
        let mut names = engine.renames.iter().map(|rename| rename.old);
        names.find(|name| name.strip_suffix("_total") == Some(rest))
    };
    of_metrics.or_else(of_renames).unwrap_or(rest)
}
