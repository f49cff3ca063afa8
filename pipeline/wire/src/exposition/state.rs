//! [`Exposition`]: the newest batch of each source, and who may show which series.

use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, Weak};

use foldhash::fast::RandomState;
use foldhash::{HashMap, HashMapExt};
use pipeline_model::{Batch, Metric, RowId, Shape, Slot, SourceId, Str};

use super::carry::{self, Seen};
use super::index::{Span, TableIndex};
use super::otel::{Info, Otel, Shown};
use super::snapshot::{FamilyHead, Snapshot, SourceIndex, View, bit, set_bit};
use crate::prometheus::family::Type;

/// Series of one source that are not shown, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Another series has the same name and labels; the one that came first is shown.
    pub duplicate: u64,
    /// The family has another type already, from the source that came first; or its name is that of a histogram's or
    /// summary's samples.
    pub type_conflict: u64,
    /// Delta points: nothing that is pulled can be made of them.
    pub delta: u64,
    /// More series than may be shown.
    pub limit: u64,
}

impl Dropped {
    /// What is in `self` beyond `before`, each reason for itself.
    #[must_use]
    fn beyond(self, before: Self) -> Self {
        Self {
            duplicate: self.duplicate.saturating_sub(before.duplicate),
            type_conflict: self.type_conflict.saturating_sub(before.type_conflict),
            delta: self.delta.saturating_sub(before.delta),
            limit: self.limit.saturating_sub(before.limit),
        }
    }

    fn add(&mut self, other: Self) {
        self.duplicate += other.duplicate;
        self.type_conflict += other.type_conflict;
        self.delta += other.delta;
        self.limit += other.limit;
    }

    /// True when another source's leaving may bring some of these to light.
    fn is_contested(self) -> bool {
        self.duplicate + self.type_conflict + self.limit > 0
    }
}

/// The source that says `target_info` for all others.
const INFOS: u64 = u64::MAX;

struct Source {
    /// Names it in `claims`; shorter than its id.
    key: u32,
    /// The shape that it came with: that of `batch` has the page's names.
    came_with: u64,
    /// What `target_info` says of its resources.
    infos: Box<[Info]>,
    batch: Batch,
    index: Arc<SourceIndex>,
    dropped: Dropped,
    /// When the newest batch came.
    at: u64,
    /// Where rows have been absent: when each was last said.
    seen: Option<Seen>,
}

impl Source {
    /// Takes the newest batch. True when its shape is another one.
    fn renew(&mut self, batch: Batch, now: u64) -> bool {
        let (batch, seen) = if carry::has_absent(&batch) {
            let (batch, seen) =
                carry::carry_over(&self.batch, self.seen.as_ref(), self.at, batch, now);
            (batch, Some(seen))
        } else {
            (batch, None)
        };
        let same = self.batch.shape.id() == batch.shape.id();
        (self.batch, self.seen, self.at) = (batch, seen, now);
        !same
    }
}

#[derive(Debug)]
struct Family {
    ty: Type,
    metric: Arc<Metric>,
    sources: usize,
    /// Rows that are not hidden.
    series: u64,
}

/// See the module. Times are the caller's monotonic clock, in any unit.
///
/// Memory is bounded by the series that may be shown: per series some 20 bytes for its claim and, for each distinct
/// table, its rows and texts; sources beyond the limit hold their batch and one bit per row.
pub struct Exposition {
    series_max: usize,
    otel: Otel,
    /// `target_info` has to be said anew.
    infos_changed: bool,
    /// What `target_info` has left out since the last update.
    infos_dropped: Dropped,
    hasher: RandomState,
    sources: BTreeMap<SourceId, Source>,
    families: BTreeMap<Str, Family>,
    heads: Option<Arc<[FamilyHead]>>,
    /// Identity of each shown series, and who shows it. Identities are 64-bit hashes with a random seed: among a
    /// million series two are taken for one with a chance of 3e-8.
    claims: HashMap<u64, u32>,
    tables: HashMap<usize, Weak<TableIndex>>,
    next_key: u32,
    version: u64,
}

impl std::fmt::Debug for Exposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exposition")
            .field("sources", &self.sources.len())
            .field("series", &self.claims.len())
            .finish_non_exhaustive()
    }
}

impl Exposition {
    /// One that shows at most `series_max` series, and OpenTelemetry's by default rules.
    pub fn new(series_max: usize) -> Self {
        Self::with_otel(series_max, Otel::default())
    }

    /// One that shows at most `series_max` series, and OpenTelemetry's by `otel`.
    pub fn with_otel(series_max: usize, otel: Otel) -> Self {
        Self {
            series_max,
            otel,
            infos_changed: false,
            infos_dropped: Dropped::default(),
            hasher: RandomState::default(),
            sources: BTreeMap::new(),
            families: BTreeMap::new(),
            heads: None,
            claims: HashMap::new(),
            tables: HashMap::new(),
            next_key: 0,
            version: 0,
        }
    }

    /// Takes the newest batch of a source; its columns are kept as they are. While the shape stays the cost does not
    /// depend on the number of series (but where rows are absent); a new shape indexes this source again, and only it.
    ///
    /// Returns what this source has in series that cannot be shown beyond what it had before; those of others that its
    /// histograms and summaries keep off the page are among them.
    pub fn update(&mut self, batch: Batch, now: u64) -> Dropped {
        self.version += 1;
        let mut dropped = std::mem::take(&mut self.infos_dropped);
        if batch.ended {
            self.remove(batch.source);
            return dropped;
        }
        let (id, came_with) = (batch.source, batch.shape.id());
        let known = self.sources.get_mut(&id);
        if let Some(source) = known.filter(|source| source.came_with == came_with) {
            let shape = Arc::clone(&source.batch.shape);
            source.renew(Batch { shape, ..batch }, now);
            return dropped;
        }
        let Shown { shape, infos } = self.otel.shown(&batch.shape);
        let before = self.sources.get(&id).map_or(&[][..], |source| &source.infos);
        self.infos_changed |= *before != *infos;
        dropped.add(self.take(Batch { shape, ..batch }, now));
        if let Some(source) = self.sources.get_mut(&id) {
            (source.came_with, source.infos) = (came_with, infos);
        }
        dropped
    }

    /// Takes a batch with the page's names and a shape that is new to its source.
    fn take(&mut self, batch: Batch, now: u64) -> Dropped {
        let id = batch.source;
        let Some(source) = self.sources.get_mut(&id) else {
            let key = self.next_key;
            self.next_key = self.next_key.wrapping_add(1);
            let (index, dropped) = self.index(&batch.shape, key);
            let (came_with, infos) = (batch.shape.id(), Box::default());
            let source =
                Source { key, came_with, infos, index, dropped, at: now, seen: None, batch };
            self.sources.insert(id, source);
            return dropped;
        };
        let before = source.dropped;
        if !source.renew(batch, now) {
            return Dropped::default();
        }
        let after = self.index_again(id);
        self.settle_contested(Some(id));
        after.beyond(before)
    }

    /// Says `target_info` anew where the resources have changed. Put off until somebody looks, so that many sources
    /// that come at once cost one index.
    fn settle_infos(&mut self) {
        if !std::mem::take(&mut self.infos_changed) {
            return;
        }
        let shape = self.otel.info_shape(self.sources.values().flat_map(|source| &source.infos));
        let id = SourceId::from_raw(INFOS);
        if shape.is_empty() {
            return self.remove(id);
        }
        let values = vec![Slot::double(1.0); shape.slots()];
        let dropped = self.take(Batch::new(id, shape, 0, values), u64::MAX);
        self.infos_dropped.add(dropped);
    }

    /// Lets go of what was last said before `deadline`: whole sources, and rows that have been absent for that long.
    /// Returns how many sources went.
    pub fn expire(&mut self, deadline: u64) -> usize {
        let silent: Vec<SourceId> = self
            .sources
            .iter()
            .filter(|(_, source)| source.at < deadline)
            .map(|(id, _)| *id)
            .collect();
        for id in &silent {
            self.version += 1;
            self.remove(*id);
        }
        for source in self.sources.values_mut() {
            if let Some(seen) = &source.seen
                && carry::expire(&mut source.batch, seen, deadline)
            {
                self.version += 1;
            }
        }
        silent.len()
    }

    /// Changes whenever the page may have changed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Series that are shown while none of them is stale or absent. Those of families that stand aside for another's
    /// samples are among them.
    pub fn series(&self) -> usize {
        self.claims.len()
    }

    /// Sources that are shown.
    pub fn sources(&self) -> usize {
        self.sources.len() - usize::from(self.sources.contains_key(&SourceId::from_raw(INFOS)))
    }

    /// The state of now, to be rendered at leisure: a few pointers per source.
    pub fn snapshot(&mut self) -> Snapshot {
        self.settle_infos();
        let heads = self.heads.get_or_insert_with(|| {
            self.families
                .values()
                .map(|family| FamilyHead { ty: family.ty, metric: Arc::clone(&family.metric) })
                .collect()
        });
        let mut views: Vec<View> = self
            .sources
            .values()
            .map(|source| View { batch: source.batch.clone(), index: Arc::clone(&source.index) })
            .collect();
        if let Some(infos) = views.last_mut().filter(|view| view.batch.source.get() == INFOS) {
            let told = self.sources.values().filter(|source| !source.infos.is_empty());
            infos.batch.time = told.map(|source| source.batch.time).max().unwrap_or_default();
        }
        let (heads, naming) = (Arc::clone(heads), self.otel.naming);
        Snapshot { heads, views, naming, version: self.version }
    }

    fn remove(&mut self, id: SourceId) {
        if let Some(source) = self.sources.remove(&id) {
            self.infos_changed |= !source.infos.is_empty();
            self.release(&source.index, source.key);
            drop(source);
            self.settle_contested(None);
        }
    }

    fn index_again(&mut self, id: SourceId) -> Dropped {
        let Some(source) = self.sources.get(&id) else { return Dropped::default() };
        let (key, shape, old) =
            (source.key, Arc::clone(&source.batch.shape), Arc::clone(&source.index));
        self.release(&old, key);
        let (index, dropped) = self.index(&shape, key);
        if let Some(source) = self.sources.get_mut(&id) {
            (source.index, source.dropped) = (index, dropped);
        }
        dropped
    }

    /// After something was let go, those who came second look again. Rare: it costs nothing while nobody did.
    fn settle_contested(&mut self, except: Option<SourceId>) {
        let contested: Vec<SourceId> = self
            .sources
            .iter()
            .filter(|(id, source)| source.dropped.is_contested() && Some(**id) != except)
            .map(|(id, _)| *id)
            .collect();
        for id in contested {
            self.index_again(id);
        }
    }

    fn table(&mut self, shape: &Shape) -> Arc<TableIndex> {
        let address = Arc::as_ptr(shape.table()) as usize;
        if let Some(known) = self.tables.get(&address).and_then(Weak::upgrade)
            && known.is_of(shape.table())
        {
            return known;
        }
        if self.tables.len() == self.tables.capacity() {
            self.tables.retain(|_, table| table.strong_count() > 0);
        }
        let table = Arc::new(TableIndex::new(shape, &self.hasher));
        self.tables.insert(address, Arc::downgrade(&table));
        table
    }

    /// Claims what it can of `shape` for the source `key`.
    fn index(&mut self, shape: &Arc<Shape>, key: u32) -> (Arc<SourceIndex>, Dropped) {
        let table = self.table(shape);
        let mut dropped = Dropped {
            delta: u64::from(table.deltas),
            type_conflict: u64::from(table.conflicts),
            ..Dropped::default()
        };
        let mut index = SourceIndex {
            shape: Arc::clone(shape),
            hidden: None,
            identities: SourceIndex::identities(shape, &table),
            table: Arc::clone(&table),
            texts: Mutex::default(),
        };
        let groups = index.group_hashes(&self.hasher);
        for span in &table.spans {
            let family = self.families.get_mut(&span.metric.name);
            let rejected = family.as_ref().is_some_and(|family| !family.ty.takes(span.ty));
            let mut shown = 0;
            for position in span.rows.clone() {
                let row = &table.rows[position as usize];
                let identity = index.identity(row, &groups, &self.hasher);
                let full = self.claims.len() >= self.series_max;
                let reason = match self.claims.entry(identity) {
                    _ if rejected => &mut dropped.type_conflict,
                    Entry::Occupied(_) => &mut dropped.duplicate,
                    Entry::Vacant(_) if full => &mut dropped.limit,
                    Entry::Vacant(claim) => {
                        claim.insert(key);
                        shown += 1;
                        continue;
                    }
                };
                *reason += 1;
                set_bit(
                    index.hidden.get_or_insert_with(|| vec![0; table.rows.len().div_ceil(64)]),
                    position,
                );
            }
            if shown > 0 {
                dropped.type_conflict += self.join(span.ty, &span.metric, shown);
            }
        }
        (Arc::new(index), dropped)
    }

    /// Adds `series` of one source to a family. Returns how many series this keeps off the page because they have the
    /// name of another family's samples: these, or those of the others. Which families stand aside is settled when names
    /// are made, so that the lesser one is there again as soon as the other is gone.
    fn join(&mut self, ty: Type, metric: &Arc<Metric>, series: u64) -> u64 {
        let eclipsed = if self.eclipsing(&metric.name).is_some() { series } else { 0 };
        if let Some(family) = self.families.get_mut(&metric.name) {
            family.sources += 1;
            family.series += series;
            return eclipsed;
        }
        self.heads = None;
        let family = Family { ty, metric: Arc::clone(metric), sources: 1, series };
        self.families.insert(metric.name.clone(), family);
        eclipsed + self.eclipsed_by(&metric.name, ty).map(|family| family.series).sum::<u64>()
    }

    /// The family whose samples are named `name`.
    fn eclipsing(&self, name: &str) -> Option<&Family> {
        let (base, _) = name.rsplit_once('_')?;
        let family = self.families.get(base)?;
        let is_sample =
            |suffix: &&str| name.strip_suffix(suffix).is_some_and(|found| found == base);
        family.ty.suffixes(false).iter().any(is_sample).then_some(family)
    }

    /// The families that are named like samples of the family `name`.
    fn eclipsed_by(&self, name: &str, ty: Type) -> impl Iterator<Item = &Family> {
        ty.suffixes(false)
            .iter()
            .filter_map(move |suffix| self.families.get(format!("{name}{suffix}").as_str()))
    }

    /// One of the series of a source that are not on the page: name and labels, for people.
    pub fn example(&self, source: SourceId) -> Option<String> {
        let Source { index, batch, .. } = self.sources.get(&source)?;
        let (table, shape) = (&index.table, &batch.shape);
        let is_out = |span: &&Span, position| {
            bit(index.hidden.as_deref(), position) || self.eclipsing(&span.metric.name).is_some()
        };
        let hidden = table
            .spans
            .iter()
            .find_map(|span| span.rows.clone().find(|position| is_out(&span, *position)));
        let row = match hidden {
            Some(position) => Some(table.rows.get(position as usize)?.row),
            // What the table's index has left out already.
            None if table.rows.len() < shape.len() => {
                let mut kept = vec![false; shape.len()];
                table.rows.iter().for_each(|row| kept[row.row as usize] = true);
                kept.iter().position(|kept| !kept).map(|row| row as RowId)
            }
            None => None,
        };
        if let Some(series) = row.and_then(|row| shape.get(row)) {
            let labels: Vec<String> = series
                .labels_merged()
                .map(|label| format!("{}={:?}", label.name, label.value.to_string()))
                .collect();
            return Some(format!("{}{{{}}}", series.metric.name, labels.join(",")));
        }
        // It has the family that others stand aside for.
        let mut spans = table.spans.iter();
        spans.find_map(|span| {
            Some(self.eclipsed_by(&span.metric.name, span.ty).next()?.metric.name.to_string())
        })
    }

    /// The reverse of `index`.
    fn release(&mut self, index: &SourceIndex, key: u32) {
        let groups = index.group_hashes(&self.hasher);
        for span in &index.table.spans {
            let mut shown = 0;
            for position in
                span.rows.clone().filter(|position| !bit(index.hidden.as_deref(), *position))
            {
                shown += 1;
                let identity =
                    index.identity(&index.table.rows[position as usize], &groups, &self.hasher);
                if self.claims.get(&identity) == Some(&key) {
                    self.claims.remove(&identity);
                }
            }
            if shown > 0
                && let Some(family) = self.families.get_mut(&span.metric.name)
            {
                family.sources -= 1;
                family.series -= shown;
                if family.sources == 0 {
                    self.families.remove(&span.metric.name);
                    self.heads = None;
                }
            }
        }
        if self.claims.capacity() > 4 * self.claims.len().max(1024) {
            self.claims.shrink_to_fit();
        }
    }
}
