//! Engine knowledge as data: one constant table per engine.
//!
//! A table says what each engine metric is called in the newest release, what kind it is, in which releases it
//! exists, and how its parallel series become one; what older releases called it; and which signs on a page give
//! the release away. Names are without the engine's prefix; counters carry their `_total`. Ranges cover every
//! release of vLLM from 0.2.6 to 0.33.0 and of SGLang from 0.3.5.post1 to 0.5.23 and were taken from the
//! engines' own metric definitions.

pub(crate) mod sglang;
pub(crate) mod vllm;

use super::version::Range;

/// The kind of a metric, as far as normalising needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    /// No `# TYPE` on the page.
    Unknown,
}

/// How the series of parallel ranks become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    /// Parts of a whole: requests, tokens, bytes. Counters, histograms and summaries are always sums, of their
    /// increments, so that the restart of one rank is not a fall of the whole.
    Sum,
    /// The fullest or slowest rank: ratios of a limit, configuration values, infos and states.
    Max,
    /// Ratios without a limit. Unweighted: a page carries no weights.
    Mean,
}

/// One metric under its newest name.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) fold: Fold,
    /// Releases that have it under this name, over all generations of the engine.
    pub(crate) range: Range,
}

/// An older name (or kind) of a metric. Where the page has the new one beside it, the old one is a duplicate
/// and is dropped.
#[derive(Debug)]
pub(crate) struct Rename {
    pub(crate) old: &'static str,
    pub(crate) kind: Kind,
    /// Only series with this label value; the label is dropped.
    pub(crate) when: Option<(&'static str, &'static str)>,
    /// A name of the table's metrics, which also says the kind it becomes.
    pub(crate) new: &'static str,
    pub(crate) scale: Scale,
    /// Releases that have it under the old name.
    pub(crate) range: Range,
}

/// What a value under the old name is multiplied with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    One,
    /// A unit change: values, sums and bucket bounds.
    By(f64),
    /// Counted KV blocks before vLLM 0.9.0, tokens since: times the block size that `cache_config_info` tells.
    /// A page that does not tell keeps the old name, so that blocks and tokens never meet under one.
    Blocks,
}

/// A sign of the release beyond the mere presence of a metric: on the page, the release is in `range`; missing,
/// it is not, in the contexts `always`.
#[derive(Debug)]
pub(crate) struct Sign {
    pub(crate) what: What,
    pub(crate) range: Range,
    /// Contexts (bits, defined beside each table) in which every page of `range` shows it.
    pub(crate) always: u8,
}

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// A family, by name.
    Family(&'static str),
    /// A label on a family.
    Label(&'static str, &'static str),
    /// A label value on a family.
    Value(&'static str, &'static str, &'static str),
    /// A histogram's bucket bound.
    Bound(&'static str, f64),
}

/// Everything about one engine.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Canonical prefix, with the colon.
    pub(crate) prefix: &'static str,
    /// Sorted by name.
    pub(crate) metrics: &'static [Metric],
    pub(crate) renames: &'static [Rename],
    pub(crate) signs: &'static [Sign],
    /// Families that tell an engine from something that merely reuses its prefix.
    pub(crate) core: &'static [&'static str],
    /// Names that only routers and gateways in front of the engine use.
    pub(crate) router_only: &'static [&'static str],
    /// Labels of ranks that report the same numbers: the lowest rank speaks for all.
    pub(crate) copies: &'static [&'static str],
    /// Labels of parts that are folded into one.
    pub(crate) parts: &'static [&'static str],
    /// A label whose empty value is the total over its other values.
    pub(crate) totals: &'static [&'static str],
    /// Labels that say the same on the whole page, and are kept where they do not.
    pub(crate) constant: &'static [&'static str],
}

impl Engine {
    pub(crate) fn metric(&self, name: &str) -> Option<&'static Metric> {
        let found = self.metrics.binary_search_by(|metric| metric.name.cmp(name)).ok()?;
        self.metrics.get(found)
    }

    /// True when `label` is the engine's own bookkeeping: what the tables fold away, or take off where it says the
    /// same on the whole page.
    pub(crate) fn keeps_book_by(&self, label: &str) -> bool {
        [self.copies, self.parts, self.totals, self.constant]
            .iter()
            .any(|names| names.contains(&label))
    }
}

const fn metric(name: &'static str, kind: Kind, fold: Fold, since: &str, last: &str) -> Metric {
    Metric { name, kind, fold, range: Range::new(since, last) }
}

const fn counter(name: &'static str, since: &str, last: &str) -> Metric {
    metric(name, Kind::Counter, Fold::Sum, since, last)
}

const fn histogram(name: &'static str, since: &str, last: &str) -> Metric {
    metric(name, Kind::Histogram, Fold::Sum, since, last)
}

const fn summary(name: &'static str, since: &str, last: &str) -> Metric {
    metric(name, Kind::Summary, Fold::Sum, since, last)
}

const fn gauge(name: &'static str, fold: Fold, since: &str, last: &str) -> Metric {
    metric(name, Kind::Gauge, fold, since, last)
}

const fn renamed(
    old: &'static str,
    kind: Kind,
    new: &'static str,
    since: &str,
    last: &str,
) -> Rename {
    Rename { old, kind, when: None, new, scale: Scale::One, range: Range::new(since, last) }
}

const fn sign(what: What, since: &str, last: &str, always: u8) -> Sign {
    Sign { what, range: Range::new(since, last), always }
}
