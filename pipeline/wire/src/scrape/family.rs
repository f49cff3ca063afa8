//! Families: what a page says about its metrics, and which of them a sample belongs to.
//!
//! The whole page's metadata is read before any sample is judged, so a TYPE after its samples counts as well. Which
//! family a sample name resolves to is the first hit in a fixed list of candidates; leaving out a family that was not
//! hit never changes the answer, which is what lets a cached layout do without it.

use std::borrow::Cow;

use foldhash::HashMap;
use pipeline_model::{Hint, Kind, Temporality};

use super::error::Fault;
use super::raw::{Comment, Span, Text};

/// No family.
pub(crate) const NONE: u32 = u32::MAX;

/// The type words of both text formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
    Unknown,
}

impl Type {
    fn parse(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"counter" => Self::Counter,
            b"gauge" => Self::Gauge,
            b"histogram" => Self::Histogram,
            b"gaugehistogram" => Self::GaugeHistogram,
            b"summary" => Self::Summary,
            b"info" => Self::Info,
            b"stateset" => Self::StateSet,
            b"unknown" | b"untyped" => Self::Unknown,
            _ => return None,
        })
    }

    /// Kind and hint of a series of one number.
    pub(crate) fn number(self) -> (Kind, Hint) {
        match self {
            Self::Counter => {
                (Kind::Sum { monotonic: true, temporality: Temporality::Cumulative }, Hint::None)
            }
            Self::Gauge => (Kind::Gauge, Hint::None),
            Self::Info => (Kind::Gauge, Hint::Info),
            Self::StateSet => (Kind::Gauge, Hint::StateSet),
            // A sample that is none of the parts of its histogram or summary is a number of its own.
            Self::Histogram | Self::GaugeHistogram | Self::Summary | Self::Unknown => {
                (Kind::Gauge, Hint::Unknown)
            }
        }
    }

    /// True when its series may have a `_created` sample.
    fn starts(self) -> bool {
        matches!(self, Self::Counter | Self::Histogram | Self::Summary)
    }
}

/// Which series a sample is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    Number = 0,
    Histogram,
    Summary,
}

/// Which part of its series a sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Value,
    Sum,
    Count,
    /// With the bound in label `le`.
    Bucket,
    /// With the quantile in label `quantile`.
    Quantile,
    Created,
}

/// Where a sample name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) class: Class,
    pub(crate) part: Part,
    pub(crate) of: Type,
    /// Index of the family, or [`NONE`].
    pub(crate) family: u32,
    /// Bytes of the sample name that name the series.
    pub(crate) base_bytes: usize,
}

/// One family.
#[derive(Debug, Default)]
pub(crate) struct Family<'a> {
    name: Cow<'a, str>,
    pub(crate) of: Option<Type>,
    pub(crate) help: Option<Cow<'a, str>>,
    pub(crate) unit: Option<Cow<'a, str>>,
}

/// All metadata of a page.
#[derive(Debug, Default)]
pub(crate) struct Families<'a> {
    list: Vec<Family<'a>>,
    by_name: HashMap<Cow<'a, str>, u32>,
    /// By name with `:` as `_`, for pages whose samples were escaped but whose metadata was not; made when needed.
    by_escaped: Option<HashMap<String, u32>>,
    /// Two lines of one family contradict each other: which comes first matters.
    pub(crate) ambiguous: bool,
}

impl<'a> Families<'a> {
    /// Takes a comment in; the index of its family, or `None` when the comment says nothing.
    pub(crate) fn add(&mut self, comment: Comment, body: &'a str) -> Result<Option<u32>, Fault> {
        let (name, text) = match comment {
            Comment::Help(name, text) | Comment::Type(name, text) | Comment::Unit(name, text) => {
                (name, text)
            }
            Comment::Eof | Comment::Other => return Ok(None),
        };
        let idx = self.family(name, body);
        let Some(family) = self.list.get_mut(idx as usize) else { return Ok(None) };
        let conflict = match comment {
            Comment::Type(..) => {
                let word = Type::parse(text.of(body.as_bytes()))
                    .ok_or(Fault::At(text.at as usize, "a metric type"))?;
                *family.of.get_or_insert(word) != word
            }
            Comment::Unit(..) => set(&mut family.unit, text, body),
            Comment::Help(..) | Comment::Eof | Comment::Other => set(&mut family.help, text, body),
        };
        self.ambiguous |= conflict;
        Ok(Some(idx))
    }

    fn family(&mut self, name: Text, body: &'a str) -> u32 {
        let name = name.of(body);
        let next = self.list.len() as u32;
        // HELP and TYPE of one family mostly come together.
        if self.list.last().is_some_and(|last| last.name == name) {
            return next - 1;
        }
        let idx = *self.by_name.entry(name.clone()).or_insert(next);
        if idx == next {
            self.list.push(Family { name, ..Family::default() });
        }
        idx
    }

    pub(crate) fn get(&self, idx: u32) -> Option<&Family<'a>> {
        self.list.get(idx as usize)
    }

    /// Where `name` leads. Never fails: without metadata a sample is a number of unknown type.
    pub(crate) fn resolve(&mut self, name: &str) -> Resolved {
        let unknown = Resolved {
            class: Class::Number,
            part: Part::Value,
            of: Type::Unknown,
            family: NONE,
            base_bytes: name.len(),
        };
        if self.list.is_empty() {
            return unknown;
        }
        if let Some(found) = candidates(name, |name| self.typed(*self.by_name.get(name)?)) {
            return found;
        }
        let escaped = self.by_escaped.take().unwrap_or_else(|| self.escaped());
        self.ambiguous |= escaped.len() < self.list.len();
        let found = candidates(&name.replace(':', "_"), |name| self.typed(*escaped.get(name)?));
        self.by_escaped = Some(escaped);
        found.unwrap_or(unknown)
    }

    fn typed(&self, idx: u32) -> Option<(u32, Type)> {
        Some((idx, self.get(idx)?.of.unwrap_or(Type::Unknown)))
    }

    /// Of families that look alike the first in the order of names counts, wherever it stands on the page.
    fn escaped(&self) -> HashMap<String, u32> {
        let mut order: Vec<u32> = (0..self.list.len() as u32).collect();
        order.sort_by(|a, b| {
            self.get(*b).map(|family| &family.name).cmp(&self.get(*a).map(|family| &family.name))
        });
        let named = |idx: &u32| Some((self.get(*idx)?.name.replace(':', "_"), *idx));
        order.iter().filter_map(named).collect()
    }
}

/// The first line counts; true when a later one differs.
fn set<'a>(known: &mut Option<Cow<'a, str>>, span: Span, body: &'a str) -> bool {
    let new = Text { span, escaped: true }.of(body);
    match known {
        Some(known) => *known != new,
        None => {
            *known = Some(new);
            false
        }
    }
}

/// The fixed list: a start time of a known parent, the family of exactly this name, a part of a larger family.
fn candidates(name: &str, find: impl Fn(&str) -> Option<(u32, Type)>) -> Option<Resolved> {
    let resolved = |class, part, (family, of): (u32, Type), base: &str| Resolved {
        class,
        part,
        of,
        family,
        base_bytes: base.len(),
    };
    if let Some(base) = name.strip_suffix("_created") {
        let parent = find(base)
            .filter(|(_, of)| of.starts())
            .or_else(|| find(&format!("{base}_total")).filter(|(_, of)| *of == Type::Counter));
        if let Some(parent) = parent {
            let class = match parent.1 {
                Type::Histogram => Class::Histogram,
                Type::Summary => Class::Summary,
                _ => Class::Number,
            };
            return Some(resolved(class, Part::Created, parent, base));
        }
    }
    if let Some(found) = find(name) {
        return Some(match found.1 {
            Type::Summary => resolved(Class::Summary, Part::Quantile, found, name),
            _ => resolved(Class::Number, Part::Value, found, name),
        });
    }
    let (at, _) = name.rmatch_indices('_').next()?;
    let (base, suffix) = name.split_at_checked(at)?;
    let found = find(base)?;
    let (class, part) = match (suffix, found.1) {
        ("_total", Type::Counter) | ("_info", Type::Info) => {
            return Some(resolved(Class::Number, Part::Value, found, name));
        }
        ("_bucket", Type::Histogram | Type::GaugeHistogram) => (Class::Histogram, Part::Bucket),
        ("_sum", Type::Histogram | Type::GaugeHistogram) | ("_gsum", Type::GaugeHistogram) => {
            (Class::Histogram, Part::Sum)
        }
        ("_count", Type::Histogram | Type::GaugeHistogram) | ("_gcount", Type::GaugeHistogram) => {
            (Class::Histogram, Part::Count)
        }
        ("_sum", Type::Summary) => (Class::Summary, Part::Sum),
        ("_count", Type::Summary) => (Class::Summary, Part::Count),
        _ => return None,
    };
    Some(resolved(class, part, found, base))
}
