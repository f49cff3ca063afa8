//! [`Vocabulary`]: what the series of one resource are made of: scopes, metrics and their variants.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::HashMap;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use pipeline_model::{Bounds, Hint, Kind, Metric, Number, Resource, Scope, Str, Temporality};

use super::Reason;
use super::attributes::{Decoder, Refusal, text};
use super::cursor::{Cursor, Fault, Field};
use super::points::doubles;
use super::source::Row;

/// Scopes of one resource.
const SCOPES_MAX: usize = 4096;
/// Forms and bounds of one metric; they are looked through one by one.
const VARIANTS_MAX: u32 = 256;

/// The oneof of `Metric` with what stands beside its points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Gauge,
    Sum { monotonic: bool, temporality: Temporality },
    Histogram(Temporality),
    ExponentialHistogram(Temporality),
    Summary,
}

/// In which form a series has its points; with the bounds this decides on its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Int,
    Double,
    /// A histogram without minimum and maximum.
    Plain,
    /// A histogram with them.
    MinMax,
    Exponential,
    Summary,
}

impl Form {
    /// The form that holds points of this one too: once a series has had it, it keeps it.
    fn wider(self) -> Self {
        match self {
            Self::Int | Self::Double => Self::Double,
            Self::Plain | Self::MinMax => Self::MinMax,
            other => other,
        }
    }

    /// True when a series of this form takes points of form `given`.
    #[inline]
    pub(super) fn holds(self, given: Self) -> bool {
        self == given || self == given.wider()
    }
}

/// A metric as a request introduces it.
#[derive(Debug)]
pub(super) struct MetricHead<'a> {
    pub(super) name: &'a [u8],
    pub(super) unit: &'a [u8],
    pub(super) description: &'a [u8],
    /// Fields of number 12.
    pub(super) metadata: &'a [u8],
    pub(super) data: Data,
}

#[derive(Debug)]
struct KnownMetric {
    scope: u32,
    data: Data,
    name: Str,
    unit: Str,
    /// As first sent: it does not identify.
    description: Str,
    hint: Hint,
    /// The metric that followed last time.
    next: u32,
    /// The newest of its variants, and how many there are.
    variant: Option<u32>,
    variants: u32,
}

/// A metric with one form and one set of bounds: a metric of the model.
#[derive(Debug)]
pub(super) struct Variant {
    metric: u32,
    pub(super) form: Form,
    /// Bounds or quantiles, packed.
    bounds: Box<[u8]>,
    model: Arc<Metric>,
    /// The one before it of the same metric.
    before: Option<u32>,
}

/// One spelling of a scope.
#[derive(Debug)]
struct Spelling {
    raw: Box<[u8]>,
    schema: Box<[u8]>,
    scope: u32,
}

// What they cost, with what the model holds of them.
impl Spelling {
    fn bytes(&self) -> usize {
        size_of::<Self>() + 2 * (self.raw.len() + self.schema.len())
    }
}

impl KnownMetric {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.unit.len() + self.description.len()
    }
}

impl Variant {
    pub(super) fn slots(&self) -> u32 {
        self.model.kind.slots()
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + size_of::<Metric>() + 2 * self.bounds.len()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Vocabulary {
    pub(super) resource: Arc<Resource>,
    scopes: Vec<Arc<Scope>>,
    spellings: Vec<Spelling>,
    by_spelling: HashTable<u32>,
    metrics: Vec<KnownMetric>,
    by_name: HashTable<u32>,
    variants: Vec<Variant>,
    hasher: RandomState,
    /// The metric before, and the one expected now.
    last: Option<u32>,
    ahead: u32,
}

fn index(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

impl Vocabulary {
    pub(super) fn new(resource: Arc<Resource>, hasher: RandomState) -> Self {
        Self {
            resource,
            scopes: Vec::new(),
            spellings: Vec::new(),
            by_spelling: HashTable::new(),
            metrics: Vec::new(),
            by_name: HashTable::new(),
            variants: Vec::new(),
            hasher,
            last: None,
            ahead: 0,
        }
    }

    /// Expects the order of the last request.
    pub(super) fn rewind(&mut self) {
        (self.last, self.ahead) = (None, 0);
    }

    pub(super) fn metric(&self, row: &Row) -> Option<&Arc<Metric>> {
        self.variant(row.variant).map(|variant| &variant.model)
    }

    pub(super) fn scope(&self, row: &Row) -> Option<&Arc<Scope>> {
        let (scope, _) = self.names(row.variant)?;
        self.scopes.get(scope as usize)
    }

    #[inline]
    pub(super) fn variant(&self, variant: u32) -> Option<&Variant> {
        self.variants.get(variant as usize)
    }

    /// Scope and name of the metric of `variant`.
    pub(super) fn names(&self, variant: u32) -> Option<(u32, &Str)> {
        let metric = self.metrics.get(self.variant(variant)?.metric as usize)?;
        Some((metric.scope, &metric.name))
    }

    /// The scope with these bytes, if known.
    pub(super) fn find_scope(&self, raw: &[u8], schema: &[u8]) -> Option<u32> {
        let is = |idx: &u32| {
            let known = self.spellings.get(*idx as usize);
            known.is_some_and(|known| *known.raw == *raw && *known.schema == *schema)
        };
        let idx = self.by_spelling.find(self.hasher.hash_one((raw, schema)), is)?;
        self.spellings.get(*idx as usize).map(|known| known.scope)
    }

    /// Takes in a scope that is not known.
    pub(super) fn add_scope(
        &mut self,
        decoder: &Decoder<'_>,
        raw: &[u8],
        schema: &[u8],
    ) -> Result<u32, Refusal> {
        let scope = decoder.scope(raw, schema)?;
        let known = self.scopes.iter().position(|known| **known == scope);
        let idx = index(known.unwrap_or(self.scopes.len()));
        let spelling = Spelling { raw: raw.into(), schema: schema.into(), scope: idx };
        if self.spellings.len() >= SCOPES_MAX {
            return Err(Reason::Series.into());
        }
        if !decoder.reserve(spelling.bytes()) {
            return Err(Reason::Memory.into());
        }
        if known.is_none() {
            self.scopes.push(Arc::new(scope));
        }
        self.spell(spelling);
        Ok(idx)
    }

    fn spell(&mut self, spelling: Spelling) {
        let idx = index(self.spellings.len());
        self.spellings.push(spelling);
        let (spellings, hasher) = (&self.spellings, &self.hasher);
        let hash_of = |idx: &u32| {
            let known = spellings.get(*idx as usize);
            known.map_or(0, |known| hasher.hash_one((&*known.raw, &*known.schema)))
        };
        self.by_spelling.insert_unique(hash_of(&idx), idx, hash_of);
    }

    /// The metric `head` of `scope`, if known.
    pub(super) fn find_metric(&mut self, scope: u32, head: &MetricHead<'_>) -> Option<u32> {
        let same = |known: &KnownMetric| {
            known.scope == scope
                && known.data == head.data
                && known.name.as_bytes() == head.name
                && known.unit.as_bytes() == head.unit
        };
        let found = if self.metrics.get(self.ahead as usize).is_some_and(same) {
            self.ahead
        } else {
            let hash = self.hasher.hash_one((scope, head.name));
            let metrics = &self.metrics;
            let is = |idx: &u32| metrics.get(*idx as usize).is_some_and(same);
            *self.by_name.find(hash, is)?
        };
        self.step(found);
        Some(found)
    }

    fn step(&mut self, metric: u32) {
        if let Some(last) = self.last.and_then(|last| self.metrics.get_mut(last as usize)) {
            last.next = metric;
        }
        self.last = Some(metric);
        self.ahead = self.metrics.get(metric as usize).map_or(0, |known| known.next);
    }

    /// Takes in a metric that is not known.
    pub(super) fn add_metric(
        &mut self,
        decoder: &Decoder<'_>,
        scope: u32,
        head: &MetricHead<'_>,
    ) -> Result<u32, Refusal> {
        if head.name.is_empty() {
            return Err(Reason::Name.into());
        }
        // A description that is no text or too long is no reason to lose the values.
        let described = text(head.description).unwrap_or_default();
        let described =
            if described.len() > decoder.settings.value_bytes_max { "" } else { described };
        let metric = KnownMetric {
            scope,
            data: head.data,
            name: decoder.name(head.name)?,
            unit: decoder.name(head.unit)?,
            description: decoder.interner.str(described),
            hint: prometheus_type(head.metadata)?,
            next: 0,
            variant: None,
            variants: 0,
        };
        if self.metrics.len() >= decoder.settings.series_max {
            return Err(Reason::Series.into());
        }
        if !decoder.reserve(metric.bytes()) {
            return Err(Reason::Memory.into());
        }
        let idx = self.push_metric(metric);
        self.step(idx);
        Ok(idx)
    }

    fn push_metric(&mut self, metric: KnownMetric) -> u32 {
        let idx = index(self.metrics.len());
        // What comes next is probably what will be taken in next.
        self.metrics.push(KnownMetric { next: idx.saturating_add(1), ..metric });
        let (metrics, hasher) = (&self.metrics, &self.hasher);
        let hash_of = |idx: &u32| {
            let known = metrics.get(*idx as usize);
            known.map_or(0, |known| hasher.hash_one((known.scope, known.name.as_bytes())))
        };
        self.by_name.insert_unique(hash_of(&idx), idx, hash_of);
        idx
    }

    /// The variants of `metric`, newest first.
    pub(super) fn variants_of(&self, metric: u32) -> impl Iterator<Item = (u32, &Variant)> {
        let mut at = self.metrics.get(metric as usize).and_then(|known| known.variant);
        std::iter::from_fn(move || {
            let idx = at?;
            let variant = self.variant(idx)?;
            at = variant.before;
            Some((idx, variant))
        })
    }

    /// The variants of `metric` with these bounds that hold points of form `given`, the widest first.
    pub(super) fn variants_for(
        &self,
        metric: u32,
        given: Form,
        bounds: &[u8],
    ) -> impl Iterator<Item = u32> + use<> {
        let find = |form: Form| {
            let is = |(_, known): &(u32, &Variant)| known.form == form && *known.bounds == *bounds;
            self.variants_of(metric).find(is).map(|(idx, _)| idx)
        };
        let wider = (given.wider() != given).then(|| find(given.wider())).flatten();
        wider.into_iter().chain(find(given))
    }

    /// True when series of `variant` take points of form `given` with these bounds.
    #[inline]
    pub(super) fn takes(&self, variant: u32, given: Form, bounds: &[u8]) -> bool {
        self.variant(variant)
            .is_some_and(|known| known.form.holds(given) && *known.bounds == *bounds)
    }

    /// Takes in a variant that is not known.
    pub(super) fn add_variant(
        &mut self,
        decoder: &Decoder<'_>,
        metric: u32,
        form: Form,
        bounds: &[u8],
    ) -> Result<u32, Refusal> {
        let Some(known) = self.metrics.get(metric as usize) else {
            return Err(Reason::Memory.into());
        };
        if known.variants >= VARIANTS_MAX {
            return Err(Reason::Series.into());
        }
        let model = decoder.interner.metric(&Arc::new(Metric {
            name: known.name.clone(),
            unit: known.unit.clone(),
            description: known.description.clone(),
            kind: kind(known.data, form, bounds)?,
            number: if form == Form::Int { Number::Int } else { Number::Double },
            hint: known.hint,
        }));
        let variant = Variant { metric, form, bounds: bounds.into(), model, before: None };
        if !decoder.reserve(variant.bytes()) {
            return Err(Reason::Memory.into());
        }
        Ok(self.push_variant(variant))
    }

    fn push_variant(&mut self, variant: Variant) -> u32 {
        let idx = index(self.variants.len());
        let mut before = None;
        if let Some(metric) = self.metrics.get_mut(variant.metric as usize) {
            before = metric.variant.replace(idx);
            metric.variants += 1;
        }
        self.variants.push(Variant { before, ..variant });
        idx
    }

    /// Forgets the variants that `is_used` does not say, and metrics and scopes without any. What is left gets new
    /// indices: by old ones those of metrics and of variants.
    pub(super) fn retain(&mut self, is_used: impl Fn(u32) -> bool) -> Renumbered {
        let fresh = Self::new(Arc::clone(&self.resource), self.hasher.clone());
        let old = std::mem::replace(self, fresh);
        let mut scopes: HashMap<u32, u32> = HashMap::default();
        let mut new = Renumbered::default();
        let mut metrics: Vec<_> = old.metrics.into_iter().map(Some).collect();
        for (idx, variant) in (0_u32..).zip(old.variants).filter(|(idx, _)| is_used(*idx)) {
            let was = variant.metric;
            if let Some(metric) = metrics.get_mut(was as usize).and_then(Option::take) {
                let scope = *scopes.entry(metric.scope).or_insert_with(|| {
                    self.scopes.extend(old.scopes.get(metric.scope as usize).cloned());
                    index(self.scopes.len().saturating_sub(1))
                });
                let metric = KnownMetric { scope, variant: None, variants: 0, ..metric };
                new.metrics.insert(was, self.push_metric(metric));
            }
            let metric = new.metrics.get(&was).copied().unwrap_or(u32::MAX);
            new.variants.insert(idx, self.push_variant(Variant { metric, ..variant }));
        }
        for spelling in old.spellings {
            if let Some(scope) = scopes.get(&spelling.scope) {
                self.spell(Spelling { scope: *scope, ..spelling });
            }
        }
        new
    }

    /// Bytes accounted for when all this was taken in.
    pub(super) fn bytes(&self) -> usize {
        let spellings = self.spellings.iter().map(Spelling::bytes).sum::<usize>();
        let metrics = self.metrics.iter().map(KnownMetric::bytes).sum::<usize>();
        spellings + metrics + self.variants.iter().map(Variant::bytes).sum::<usize>()
    }
}

/// New indices by old ones.
#[derive(Debug, Default)]
pub(super) struct Renumbered {
    pub(super) metrics: HashMap<u32, u32>,
    pub(super) variants: HashMap<u32, u32>,
}

/// The kind of the model.
fn kind(data: Data, form: Form, bounds: &[u8]) -> Result<Kind, Reason> {
    let bounds = doubles(bounds);
    let ascending = bounds.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
    if !ascending || !bounds.iter().all(|bound| bound.is_finite()) {
        return Err(Reason::Buckets);
    }
    Ok(match data {
        Data::Gauge => Kind::Gauge,
        Data::Sum { monotonic, temporality } => Kind::Sum { monotonic, temporality },
        Data::Histogram(temporality) => Kind::Histogram {
            temporality,
            bounds: Bounds::new(&bounds),
            min_max: form == Form::MinMax,
        },
        Data::ExponentialHistogram(temporality) => Kind::ExponentialHistogram { temporality },
        Data::Summary => Kind::Summary { quantiles: Bounds::new(&bounds) },
    })
}

/// The hint in `prometheus.type` of a metric's metadata, where a Prometheus receiver keeps the original type.
/// Source: OpenTelemetry specification, compatibility/prometheus_and_openmetrics.md.
fn prometheus_type(metadata: &[u8]) -> Result<Hint, Fault> {
    let mut hint = Hint::None;
    let mut cursor = Cursor::new(metadata);
    while let Some(field) = cursor.next()? {
        let (12, Field::Bytes(pair)) = field else { continue };
        let (mut is_type, mut said) = (false, Hint::None);
        let mut pair = Cursor::new(pair);
        while let Some(field) = pair.next()? {
            match field {
                (1, Field::Bytes(key)) => is_type = key == b"prometheus.type",
                (2, Field::Bytes(value)) => said = hint_of(value)?,
                _ => {}
            }
        }
        if is_type {
            hint = said;
        }
    }
    Ok(hint)
}

/// The hint in an `AnyValue`.
fn hint_of(value: &[u8]) -> Result<Hint, Fault> {
    let mut hint = Hint::None;
    let mut cursor = Cursor::new(value);
    while let Some(field) = cursor.next()? {
        hint = match field {
            (1, Field::Bytes(b"unknown")) => Hint::Unknown,
            (1, Field::Bytes(b"info")) => Hint::Info,
            (1, Field::Bytes(b"stateset")) => Hint::StateSet,
            (1, Field::Bytes(b"gaugehistogram")) => Hint::GaugeHistogram,
            _ => Hint::None,
        };
    }
    Ok(hint)
}
