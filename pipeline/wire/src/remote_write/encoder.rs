//! [`Encoder`]: batches to one request, and what must not be forgotten until it was taken.

use std::ops::Range;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use pipeline_model::{Batch, RowId, STALE_NAN_BITS, SourceId};

use super::dictionary::Dictionary;
use super::infos::{Claim, Key};
use super::memo::{Info, Maker, Memo};
use super::run::{Run, Scratch, millis};
use super::sink::Sink;
use super::source::{FIRST, NEVER, Source, Undo, match_rows};
use super::write::{Symbols, V1, V2, Writer, metadata};
use super::{Form, Options, TargetInfos, Version, Written};

/// A source that said nothing for this long is let go.
const SILENCE_MS: i64 = 3_600_000;
/// How often silent sources are looked for.
const SWEEP_EVERY_MS: i64 = 600_000;
/// Bytes of the dictionary at which it begins anew.
const DICTIONARY_BYTES_MAX: usize = 64 << 20;
/// Claims of requests that were not taken and are held all the same.
const LOOSE_MAX: usize = 10_000;

/// Makes requests out of batches. One per connection: all batches of a source go through one.
///
/// What it remembers is bounded by the shapes of its sources (some 60 bytes a series) and 64 MiB of texts.
pub struct Encoder {
    state: State,
    sink: Sink,
    symbols: Symbols,
}

/// All but the bytes.
struct State {
    options: Options,
    infos: Arc<TargetInfos>,
    dictionary: Dictionary,
    /// What the memos were made for.
    utf8: bool,
    sources: HashMap<SourceId, Source>,
    /// Bytes of memos that were let go since the dictionary began.
    garbage: usize,
    undo: Vec<Undo>,
    /// Claims that only requests made that were not taken. Held until one is: were they let go of when a request is
    /// undone, another source could take them before it is made again, and it would say other things.
    loose: HashSet<(SourceId, Key)>,
    newest_ms: i64,
    swept_ms: i64,
    scratch: Scratch,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder")
            .field("sources", &self.state.sources.len())
            .field("labels", &self.state.dictionary.labels())
            .finish_non_exhaustive()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.rollback();
        self.let_go();
        for (id, source) in &self.sources {
            release(&self.infos, *id, source);
        }
    }
}

fn release(infos: &TargetInfos, id: SourceId, source: &Source) {
    for (info, ids) in &source.infos {
        if ids.is_some() {
            infos.release(&info.key, id, source.info_ms);
        }
    }
}

impl Encoder {
    /// An encoder that knows nothing yet. Encoders of one exporter share `infos`.
    pub fn new(options: Options, infos: Arc<TargetInfos>) -> Self {
        let state = State {
            options,
            infos,
            dictionary: Dictionary::default(),
            utf8: false,
            sources: HashMap::default(),
            garbage: 0,
            undo: Vec::new(),
            loose: HashSet::default(),
            newest_ms: NEVER,
            swept_ms: NEVER,
            scratch: Scratch::default(),
        };
        Self { state, sink: Sink::default(), symbols: Symbols::default() }
    }

    /// Appends one request to `out`: what `parts` (batches and which of their rows) say, in order.
    ///
    /// The encoder takes it for not sent until [`Encoder::commit`]: the next call begins where the last commit was, so
    /// that a request can be made again.
    pub fn encode<'b>(
        &mut self,
        parts: impl IntoIterator<Item = (&'b Batch, Range<RowId>)>,
        form: Form,
        out: &mut Vec<u8>,
    ) -> Written {
        let Self { state, sink, symbols } = self;
        state.rollback();
        state.renew(form.version);
        sink.begin(form.snappy);
        match form.version {
            Version::V1 => {
                let written = state.parts(parts, &mut V1(sink));
                sink.end(&[], out);
                written
            }
            Version::V2 => {
                symbols.begin();
                let written = state.parts(parts, &mut V2(sink, symbols));
                sink.end(&symbols.fields, out);
                written
            }
        }
    }

    /// The last request was taken: its points are sent.
    pub fn commit(&mut self) {
        self.state.commit();
    }

    /// Metrics that [`Encoder::metadata`] can tell of. Fewer than before: they are counted anew.
    pub fn families(&self) -> usize {
        self.state.dictionary.families().len()
    }

    /// Appends what is known of metrics, without the first `known` of them, to `out`: a request of the first version that
    /// has metadata alone. The second version says it with every series. Without any, nothing is appended.
    pub fn metadata(&mut self, known: usize, snappy: bool, out: &mut Vec<u8>) {
        let dictionary = &self.state.dictionary;
        if let Some(families @ [_, ..]) = dictionary.families().get(known..) {
            self.sink.begin(snappy);
            metadata(&mut self.sink, dictionary, families);
            self.sink.end(&[], out);
        }
    }

    /// Series that are sent now, by the name of their metric, in no order; a name comes once per row.
    pub fn active(&self) -> impl Iterator<Item = (&str, u64)> {
        let State { sources, dictionary, .. } = &self.state;
        sources.values().filter_map(|source| source.memo.as_ref()).flat_map(|memo| {
            memo.rows.iter().filter(|row| row.end > row.first).map(|row| {
                let name = dictionary.families().get(row.family as usize);
                let name = name.map_or("", |family| dictionary.text_of(family.name));
                (name, u64::from(row.end - row.first))
            })
        })
    }

    /// Sources it remembers.
    pub fn sources(&self) -> usize {
        self.state.sources.len()
    }
}

impl State {
    fn commit(&mut self) {
        let (undo, infos) = (&mut self.undo, &self.infos);
        for step in undo.drain(..) {
            if let Undo::Source(id, Some(was)) = step {
                self.garbage += was.memo.as_ref().map_or(0, Memo::bytes);
                let now = self.sources.get(&id);
                for (info, ids) in &was.infos {
                    let stays = now.is_some_and(|now| {
                        now.infos.iter().any(|(other, ids)| other.key == info.key && ids.is_some())
                    });
                    if ids.is_some() && !stays {
                        infos.release(&info.key, id, was.info_ms);
                    }
                }
            }
        }
        self.let_go();
        self.sweep();
    }

    /// Releases what only requests claimed that were not made again.
    fn let_go(&mut self) {
        for (id, key) in self.loose.drain() {
            // Nothing was said: up to when it was before stands.
            self.infos.release(&key, id, NEVER);
        }
    }

    fn rollback(&mut self) {
        while let Some(step) = self.undo.pop() {
            match step {
                Undo::Source(id, Some(was)) => {
                    self.sources.insert(id, *was);
                }
                Undo::Source(id, None) => {
                    self.sources.remove(&id);
                }
                Undo::Claim(id, key) => {
                    let infos = self.sources.get_mut(&id).map(|source| &mut source.infos);
                    for (_, ids) in infos.into_iter().flatten().filter(|(info, _)| info.key == key)
                    {
                        *ids = None;
                    }
                    self.loose.insert((id, key));
                }
                Undo::Asked(id, asked) => {
                    if let Some(source) = self.sources.get_mut(&id) {
                        source.asked = asked;
                    }
                }
                Undo::Row(id, row, ms) => {
                    let source = self.sources.get_mut(&id);
                    if let Some(slot) = source.and_then(|s| s.row_last.get_mut(row as usize)) {
                        *slot = ms;
                    }
                }
                Undo::Last(id, last) => {
                    if let Some(source) = self.sources.get_mut(&id) {
                        source.last = last;
                    }
                }
                Undo::ByRow(id) => {
                    if let Some(source) = self.sources.get_mut(&id) {
                        source.row_last = Vec::new();
                    }
                }
                Undo::Info(id, ms, due) => {
                    if let Some(source) = self.sources.get_mut(&id) {
                        (source.info_ms, source.info_due) = (ms, due);
                    }
                }
            }
        }
        if self.loose.len() > LOOSE_MAX {
            self.let_go();
        }
    }

    /// Begins a new dictionary where the names must be others, or most of what it has belongs to nobody.
    fn renew(&mut self, version: Version) {
        let utf8 = version == Version::V2;
        let names = utf8 != self.utf8 && self.options.naming.keeps_utf8();
        self.utf8 = utf8;
        let live = || self.sources.values().filter_map(|s| s.memo.as_ref()).map(Memo::bytes).sum();
        let dirty = self.garbage > 1 << 20 && self.garbage > live();
        if names || dirty || self.dictionary.bytes() > DICTIONARY_BYTES_MAX {
            self.dictionary = Dictionary::default();
            self.garbage = 0;
            for source in self.sources.values_mut() {
                // With it the numbers of its infos are made again.
                source.memo = None;
            }
        }
    }

    /// Lets go of sources that went silent without a word.
    fn sweep(&mut self) {
        if self.newest_ms.saturating_sub(self.swept_ms) < SWEEP_EVERY_MS {
            return;
        }
        self.swept_ms = self.newest_ms;
        let deadline = self.newest_ms.saturating_sub(SILENCE_MS);
        let (infos, garbage) = (&self.infos, &mut self.garbage);
        self.sources.retain(|id, source| {
            let stays = source.seen_ms >= deadline;
            if !stays {
                release(infos, *id, source);
                *garbage += source.memo.as_ref().map_or(0, Memo::bytes);
            }
            stays
        });
    }

    fn parts<'b, W: Writer>(
        &mut self,
        parts: impl IntoIterator<Item = (&'b Batch, Range<RowId>)>,
        writer: &mut W,
    ) -> Written {
        let mut written = Written::default();
        for (batch, rows) in parts {
            self.part(batch, rows, writer, &mut written);
        }
        written
    }

    fn part<W: Writer>(
        &mut self,
        batch: &Batch,
        rows: Range<RowId>,
        writer: &mut W,
        written: &mut Written,
    ) {
        let id = batch.source;
        let mut source = match self.sources.remove(&id) {
            Some(source) if source.shape.id() == batch.shape.id() => source,
            Some(source) => self.change(source, batch, writer, written),
            None => {
                self.undo.push(Undo::Source(id, None));
                Source::new(Arc::clone(&batch.shape))
            }
        };
        self.newest_ms = self.newest_ms.max(millis(batch.time));
        source.seen_ms = source.seen_ms.max(millis(batch.time));
        self.prepare(id, &mut source);
        writer.know(&self.dictionary);
        let mut run = Run {
            dictionary: &self.dictionary,
            scratch: &mut self.scratch,
            undo: &mut self.undo,
            writer,
            written,
        };
        run.infos(batch, &mut source);
        run.rows(batch, rows, &mut source);
        if batch.ended {
            self.undo.push(Undo::Source(id, Some(Box::new(source))));
        } else {
            self.sources.insert(id, source);
        }
    }

    /// Makes what is missing of a source's labels, and asks for whom it may speak.
    fn prepare(&mut self, id: SourceId, source: &mut Source) {
        if source.memo.is_none() {
            let (options, utf8) = (&self.options, self.utf8);
            let mut maker = Maker { options, dictionary: &mut self.dictionary, utf8 };
            source.memo = Some(maker.memo(&source.shape));
            let had = std::mem::take(&mut source.infos);
            for info in maker.infos(&source.shape) {
                let is_mine = had.iter().any(|(old, ids)| old.key == info.key && ids.is_some());
                let ids = is_mine.then(|| maker.info_ids(&info));
                source.infos.push((info, ids));
            }
        }
        let freed = self.infos.freed();
        if source.asked.is_some_and(|asked| asked != freed) {
            self.ask(id, source, freed);
        }
    }

    /// Claims what `source` does not speak for yet.
    fn ask(&mut self, id: SourceId, source: &mut Source, freed: u64) {
        if source.asked != Some(FIRST) {
            self.undo.push(Undo::Info(id, source.info_ms, source.info_due));
            self.undo.push(Undo::Asked(id, source.asked));
        }
        let (options, utf8) = (&self.options, self.utf8);
        let mut maker = Maker { options, dictionary: &mut self.dictionary, utf8 };
        let mut refused = false;
        for (info, ids) in source.infos.iter_mut().filter(|(_, ids)| ids.is_none()) {
            let Some(Claim { after, new }) = self.infos.claim(&info.key, id) else {
                refused = true;
                continue;
            };
            let loose = || !self.loose.is_empty() && self.loose.contains(&(id, info.key.clone()));
            if new || loose() {
                let claim = (id, info.key.clone());
                self.loose.remove(&claim);
                self.undo.push(Undo::Claim(claim.0, claim.1));
            }
            (source.info_ms, source.info_due) = (source.info_ms.max(after), true);
            *ids = Some(maker.info_ids(info));
        }
        source.asked = refused.then_some(freed);
    }

    /// Another shape: says that what it lacks has ended.
    fn change<W: Writer>(
        &mut self,
        mut was: Source,
        batch: &Batch,
        writer: &mut W,
        written: &mut Written,
    ) -> Source {
        let id = batch.source;
        let matched = match_rows(&was.shape, &batch.shape);
        let mut next = was.with_shape(&batch.shape, &matched);
        self.prepare(id, &mut was);
        self.prepare(id, &mut next);
        writer.know(&self.dictionary);
        let mut run = Run {
            dictionary: &self.dictionary,
            scratch: &mut self.scratch,
            undo: &mut self.undo,
            writer,
            written,
        };
        let ms = millis(batch.time);
        if matched.contains(&None)
            && let (Some(old), Some(new)) = (&was.memo, &next.memo)
        {
            let stay = new.identities();
            for (row, of) in old.rows.iter().enumerate().filter(|(row, _)| matched[*row].is_none())
            {
                let last = was.last_of(row as RowId);
                let gone = old.of(*of).iter().filter(|one| !stay.contains(&old.identity(one)));
                if last != NEVER {
                    let ms = ms.max(last.saturating_add(1));
                    next.ended_ms = next.ended_ms.max(ms);
                    gone.for_each(|one| run.stale(old, *of, one, ms));
                }
            }
            next.take_over(&was, &matched);
        }
        let kept = |info: &Info| next.infos.iter().any(|(other, _)| other == info);
        next.info_due = was.info_due || !next.infos.iter().all(|info| was.infos.contains(info));
        let ended = ms.max(was.info_ms.saturating_add(1));
        let mut last = was.info_ms;
        for (_, ids) in was.infos.iter().filter(|(info, _)| !kept(info)) {
            if was.info_ms != NEVER
                && let Some((ids, family)) = ids
            {
                run.number(ids, *family, ended, STALE_NAN_BITS);
                last = ended;
            }
        }
        next.info_ms = next.info_ms.max(last);
        // Who speaks for it next goes on after that.
        self.undo.push(Undo::Info(id, was.info_ms, was.info_due));
        was.info_ms = last;
        self.undo.push(Undo::Source(id, Some(Box::new(was))));
        next
    }
}
