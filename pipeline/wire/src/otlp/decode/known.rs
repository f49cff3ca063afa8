//! [`Known`]: what is remembered of one resource, so that its next request is recognised by its bytes.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::HashSet;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use pipeline_model::{Batch, Interner, Labels, Resource, RowId};

use super::Reason;
use super::attributes::{Decoder, Refusal};
use super::points::Head;
use super::source::{Row, Source};
use super::vocabulary::{Form, Variant, Vocabulary};

/// Slots of one source for each of its rows, on average; beyond it begins the next source.
const SLOTS_PER_ROW: usize = 16;

/// Where the values of a series go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) variant: u32,
    pub(super) row: RowId,
    pub(super) slot: u32,
    pub(super) source: u16,
    pub(super) form: Form,
}

/// One spelling of the attributes of a metric's series.
#[derive(Clone, Copy, Debug)]
struct Entry {
    metric: u32,
    place: Place,
    /// The entry that followed last time.
    next: u32,
    /// Its attributes, in `attributes`.
    at: u32,
    len: u32,
}

/// What a sweep has ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Swept {
    Nothing,
    /// Some series.
    Series {
        released: usize,
    },
    /// The resource.
    All,
}

fn series_hash(
    hasher: &RandomState,
    vocabulary: &Vocabulary,
    variant: u32,
    labels: &Labels,
) -> u64 {
    hasher.hash_one((vocabulary.names(variant), labels))
}

/// See the module.
#[derive(Debug)]
pub(super) struct Known {
    raw: Box<[u8]>,
    schema: Box<[u8]>,
    pub(super) vocabulary: Vocabulary,
    pub(super) sources: Vec<Source>,
    entries: Vec<Entry>,
    /// The bytes of the attributes of all entries.
    attributes: Vec<u8>,
    by_attributes: HashTable<u32>,
    /// Rows by scope, name and labels: more than one where a metric changed its kind or bounds.
    by_series: HashTable<(u16, RowId)>,
    hasher: RandomState,
    /// The entry before, and the one expected now.
    last: Option<u32>,
    ahead: u32,
    /// Number of the request being read, from 1.
    pub(super) request: u32,
    /// When the last one was received, Unix nanoseconds.
    received: i64,
    /// The number of the request and the time from which on the silence of series is counted.
    silent_since: (u32, i64),
}

impl Entry {
    fn bytes(attributes: usize) -> usize {
        size_of::<Self>() + 2 * size_of::<u64>() + attributes
    }
}

impl Known {
    pub(super) fn new(raw: &[u8], schema: &[u8], resource: Resource, hasher: RandomState) -> Self {
        Self {
            raw: raw.into(),
            schema: schema.into(),
            vocabulary: Vocabulary::new(Arc::new(resource), hasher.clone()),
            sources: Vec::new(),
            entries: Vec::new(),
            attributes: Vec::new(),
            by_attributes: HashTable::new(),
            by_series: HashTable::new(),
            hasher,
            last: None,
            ahead: 0,
            request: 0,
            received: 0,
            silent_since: (0, 0),
        }
    }

    /// Bytes of a resource without series.
    pub(super) fn bytes_of(raw: &[u8], schema: &[u8]) -> usize {
        size_of::<Self>() + 2 * (raw.len() + schema.len())
    }

    /// True when this is the resource with these bytes.
    pub(super) fn is(&self, raw: &[u8], schema: &[u8]) -> bool {
        *self.raw == *raw && *self.schema == *schema
    }

    /// The bytes that identify it.
    pub(super) fn identity(&self) -> (&[u8], &[u8]) {
        (&self.raw, &self.schema)
    }

    /// Series remembered.
    pub(super) fn series(&self) -> usize {
        self.sources.iter().map(|source| source.rows.len()).sum()
    }

    /// Bytes accounted for when all this was taken in.
    pub(super) fn bytes(&self) -> usize {
        let slots = |row: &Row| self.vocabulary.variant(row.variant).map_or(0, Variant::slots);
        let rows = self.sources.iter().flat_map(|source| &source.rows);
        Self::bytes_of(&self.raw, &self.schema)
            + self.vocabulary.bytes()
            + self.entries.iter().map(|entry| Entry::bytes(entry.len as usize)).sum::<usize>()
            + rows.map(|row| Row::bytes(slots(row))).sum::<usize>()
    }

    /// Begins a request.
    pub(super) fn begin(&mut self, received: i64) {
        if self.request == u32::MAX {
            self.sources.iter_mut().for_each(|source| source.seen.fill(0));
            (self.request, self.silent_since.0) = (0, 0);
        }
        if self.request == 0 {
            self.silent_since.1 = received;
        }
        self.request += 1;
        self.received = self.received.max(received);
        (self.last, self.ahead) = (None, 0);
        self.vocabulary.rewind();
    }

    /// The attributes that the next point probably has.
    #[inline]
    pub(super) fn expected(&self) -> &[u8] {
        self.entries.get(self.ahead as usize).map_or(&[], |entry| self.attributes_of(entry))
    }

    #[inline]
    fn attributes_of(&self, entry: &Entry) -> &[u8] {
        let at = entry.at as usize;
        self.attributes.get(at..at + entry.len as usize).unwrap_or_default()
    }

    /// Where the series of `metric` with these attributes is. `expected` says that they are those of
    /// [`Known::expected`].
    #[inline]
    pub(super) fn find(&mut self, metric: u32, attributes: &[u8], expected: bool) -> Option<Place> {
        let ahead = self.entries.get(self.ahead as usize).filter(|entry| {
            entry.metric == metric && (expected || self.attributes_of(entry) == attributes)
        });
        let idx = match ahead {
            Some(_) => self.ahead,
            None => self.find_entry(metric, attributes)?,
        };
        self.step(idx);
        self.entries.get(idx as usize).map(|entry| entry.place)
    }

    fn find_entry(&self, metric: u32, attributes: &[u8]) -> Option<u32> {
        let is = |idx: &u32| {
            let entry = self.entries.get(*idx as usize);
            entry.is_some_and(|entry| {
                entry.metric == metric && self.attributes_of(entry) == attributes
            })
        };
        self.by_attributes.find(self.hasher.hash_one((metric, attributes)), is).copied()
    }

    #[inline]
    fn step(&mut self, idx: u32) {
        if let Some(last) = self.last.and_then(|last| self.entries.get_mut(last as usize))
            && last.next != idx
        {
            last.next = idx;
        }
        self.last = Some(idx);
        self.ahead = self.entries.get(idx as usize).map_or(0, |entry| entry.next);
    }

    /// Where the series of a point is, taken in when it is new. The head of the point comes with the number of its
    /// field of attributes.
    pub(super) fn admit(
        &mut self,
        decoder: &Decoder<'_>,
        metric: u32,
        (head, number): (&Head<'_>, u32),
        given: Form,
        bounds: &[u8],
    ) -> Result<Place, Refusal> {
        let raw = head.attributes();
        let labels = decoder.labels(raw, number)?;
        let row = |variant| self.find_row(variant, &labels);
        let known = if head.no_value() {
            // It has no form: it is about the series as it was.
            self.vocabulary.variants_of(metric).find_map(|(variant, _)| row(variant))
        } else {
            self.vocabulary.variants_for(metric, given, bounds).find_map(row)
        };
        let place = match known {
            Some(place) => place,
            None => self.add_row(decoder, metric, given, bounds, &labels)?,
        };
        self.remember(decoder, metric, raw, place);
        Ok(place)
    }

    /// The row of `variant` with these labels.
    fn find_row(&self, variant: u32, labels: &Labels) -> Option<Place> {
        let hash = self.series_hash(variant, labels);
        let found = self.by_series.find(hash, |at| {
            self.row(*at).is_some_and(|row| row.variant == variant && row.labels == *labels)
        });
        self.place(*found?)
    }

    fn row(&self, (source, row): (u16, RowId)) -> Option<&Row> {
        self.sources.get(usize::from(source))?.rows.get(row as usize)
    }

    fn place(&self, (source, row): (u16, RowId)) -> Option<Place> {
        let at = self.sources.get(usize::from(source))?;
        let known = at.rows.get(row as usize)?;
        let form = self.vocabulary.variant(known.variant)?.form;
        Some(Place { variant: known.variant, row, slot: known.slot, source, form })
    }

    fn series_hash(&self, variant: u32, labels: &Labels) -> u64 {
        series_hash(&self.hasher, &self.vocabulary, variant, labels)
    }

    /// A source with room for `slots` more slots.
    fn roomy(&mut self, decoder: &Decoder<'_>, slots: u32) -> Result<u16, Reason> {
        let rows_max = decoder.settings.source_series_max.max(1);
        let room = self.sources.last().is_some_and(|last| {
            last.rows.len() < rows_max
                && last.slots as usize + slots as usize <= SLOTS_PER_ROW * rows_max
        });
        if !room {
            self.sources.push(Source::new(decoder.interner));
        }
        u16::try_from(self.sources.len() - 1).map_err(|_| {
            self.sources.pop();
            Reason::Series
        })
    }

    fn add_row(
        &mut self,
        decoder: &Decoder<'_>,
        metric: u32,
        given: Form,
        bounds: &[u8],
        labels: &Labels,
    ) -> Result<Place, Refusal> {
        if self.series() >= decoder.settings.series_max {
            return Err(Reason::Series.into());
        }
        let variants = &mut self.vocabulary;
        let known = variants.variants_for(metric, given, bounds).next();
        let variant = match known {
            Some(variant) => variant,
            None => variants.add_variant(decoder, metric, given, bounds)?,
        };
        let Some((form, slots)) =
            variants.variant(variant).map(|known| (known.form, known.slots()))
        else {
            return Err(Reason::Memory.into());
        };
        if !decoder.reserve(Row::bytes(slots)) {
            return Err(Reason::Memory.into());
        }
        let source = self.roomy(decoder, slots)?;
        let Some(at) = self.sources.get_mut(usize::from(source)) else {
            return Err(Reason::Memory.into());
        };
        let slot = at.slots;
        let row = at.push(Row { variant, slot, labels: labels.clone() }, slots);
        self.supersede(variant, labels);
        self.enlist((source, row));
        Ok(Place { variant, row, slot, source, form })
    }

    /// Ends the series with the name and labels of a new one: its kind, form or bounds have changed.
    fn supersede(&mut self, variant: u32, labels: &Labels) {
        let hash = self.series_hash(variant, labels);
        let names = self.vocabulary.names(variant);
        let is = |at: &&(u16, RowId)| {
            self.row(**at).is_some_and(|row| {
                row.labels == *labels && self.vocabulary.names(row.variant) == names
            })
        };
        let old: Vec<_> = self.by_series.iter_hash(hash).filter(is).copied().collect();
        for (source, row) in old {
            if let Some(source) = self.sources.get_mut(usize::from(source)) {
                source.supersede(row);
            }
        }
    }

    fn enlist(&mut self, at: (u16, RowId)) {
        let (sources, vocabulary, hasher) = (&self.sources, &self.vocabulary, &self.hasher);
        let hash_of = |(source, row): &(u16, RowId)| {
            let row = sources.get(usize::from(*source)).and_then(|s| s.rows.get(*row as usize));
            row.map_or(0, |row| series_hash(hasher, vocabulary, row.variant, &row.labels))
        };
        self.by_series.insert_unique(hash_of(&at), at, hash_of);
    }

    /// Makes `raw` known as the attributes of a series. Without room it stays unknown, and the series takes the slow
    /// way each time.
    fn remember(&mut self, decoder: &Decoder<'_>, metric: u32, raw: &[u8], place: Place) {
        if let Some(idx) = self.find_entry(metric, raw) {
            if let Some(entry) = self.entries.get_mut(idx as usize) {
                entry.place = place;
            }
            self.step(idx);
            return;
        }
        let spellings_max = 2 * decoder.settings.series_max;
        let (Ok(at), Ok(len)) = (u32::try_from(self.attributes.len()), u32::try_from(raw.len()))
        else {
            return;
        };
        if self.entries.len() < spellings_max && decoder.reserve(Entry::bytes(raw.len())) {
            self.attributes.extend_from_slice(raw);
            let idx = self.push_entry(Entry { metric, place, next: 0, at, len });
            self.step(idx);
        }
    }

    /// Adds an entry whose attributes are there.
    fn push_entry(&mut self, entry: Entry) -> u32 {
        let idx = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        // What comes next is probably what will be taken in next.
        self.entries.push(Entry { next: idx.saturating_add(1), ..entry });
        let (entries, attributes, hasher) = (&self.entries, &self.attributes, &self.hasher);
        let hash_of = |idx: &u32| {
            let Some(entry) = entries.get(*idx as usize) else { return 0 };
            let at = entry.at as usize;
            let raw = attributes.get(at..at + entry.len as usize).unwrap_or_default();
            hasher.hash_one((entry.metric, raw))
        };
        self.by_attributes.insert_unique(hash_of(&idx), idx, hash_of);
        idx
    }

    /// Ends what was silent for `idle` nanoseconds: single series, or all of it.
    pub(super) fn sweep(
        &mut self,
        interner: &Interner,
        idle: i64,
        now: i64,
        out: &mut Vec<Batch>,
    ) -> Swept {
        if now.saturating_sub(self.received) >= idle {
            out.extend(self.sources.iter().map(|source| source.end(now)));
            return Swept::All;
        }
        let (request, since) = self.silent_since;
        if now.saturating_sub(since) < idle {
            return Swept::Nothing;
        }
        self.silent_since = (self.request, now);
        let is_silent = |source: &Source| source.seen.iter().any(|seen| *seen <= request);
        if !self.sources.iter().any(is_silent) {
            return Swept::Nothing;
        }
        let before = self.bytes();
        self.forget(interner, request, now, out);
        Swept::Series { released: before.saturating_sub(self.bytes()) }
    }

    /// Forgets the rows that no request after number `request` had.
    fn forget(&mut self, interner: &Interner, request: u32, now: i64, out: &mut Vec<Batch>) {
        let kept = |source: &Source| {
            let rows = source.rows.iter().zip(&source.seen);
            rows.filter(|(_, seen)| **seen > request)
                .map(|(row, _)| row.variant)
                .collect::<Vec<_>>()
        };
        let used: HashSet<u32> = self.sources.iter().flat_map(kept).collect();
        let renumbered = self.vocabulary.retain(|variant| used.contains(&variant));
        let mut moved: Vec<Option<(u16, Vec<Option<RowId>>)>> = Vec::new();
        for mut source in std::mem::take(&mut self.sources) {
            if source.seen.iter().all(|seen| *seen <= request) {
                out.push(source.end(now));
                moved.push(None);
                continue;
            }
            let rows = source.retain(interner, request, &self.vocabulary, &renumbered);
            moved.push(u16::try_from(self.sources.len()).ok().zip(Some(rows)));
            self.sources.push(source);
        }

        let entries = std::mem::take(&mut self.entries);
        let attributes = std::mem::take(&mut self.attributes);
        self.by_attributes.clear();
        self.by_series.clear();
        for entry in entries {
            let place = moved
                .get(usize::from(entry.place.source))
                .and_then(Option::as_ref)
                .and_then(|(source, rows)| {
                    let row = rows.get(entry.place.row as usize).copied().flatten()?;
                    self.place((*source, row))
                });
            let metric = renumbered.metrics.get(&entry.metric).copied();
            let (at, len) = (entry.at as usize, entry.len as usize);
            let raw = attributes.get(at..at + len);
            let (Some(place), Some(metric), Some(raw)) = (place, metric, raw) else { continue };
            let at = self.attributes.len() as u32;
            self.attributes.extend_from_slice(raw);
            self.push_entry(Entry { metric, place, next: 0, at, len: entry.len });
        }
        for source in 0..self.sources.len() {
            for row in 0..self.sources.get(source).map_or(0, |source| source.rows.len()) {
                self.enlist((source as u16, row as RowId));
            }
        }
    }
}
