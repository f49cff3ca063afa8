//! A text page read along the layout of the last one.
//!
//! First straight: each line's key is compared with the one that stood in its place, the value goes to its slot. From
//! the first line that differs on, lines are looked up by their keys: a known one is taken and the walk goes on
//! behind it; an unknown sample is put aside; anything that could change the meaning of other lines gives up, and the
//! page is parsed in full. What gives up, and why that is enough:
//!
//! - an unknown HELP, TYPE or UNIT line, or one that is missing though samples of its family are there;
//! - new rows while any metadata line is missing;
//! - a row that has some of its lines but not all (a bucket less is another histogram);
//! - metadata out of order where its order matters;
//! - any line that does not lex: the full parse words the error.

use std::sync::Arc;

use pipeline_model::{Interner, RowId, Shape};

use super::filling::{Filling, TailSource};
use super::float;
use super::grow;
use super::layout::{Action, Entry, Layout, LayoutBuilder, Layouts};
use super::lex::Lexer;
use super::raw::{Comment, Lists, Tail};
use super::rows::NO_ROW;
use super::{Page, PageFormat, PagePath, PageReader, REORDER_WAIT_MAX, UNSEEN_MAX};

/// A set of small numbers.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    fn has(&self, idx: usize) -> bool {
        self.0.get(idx / 64).is_some_and(|word| word >> (idx % 64) & 1 == 1)
    }

    /// True when it was not there.
    fn add(&mut self, idx: usize) -> bool {
        let Some(word) = self.0.get_mut(idx / 64) else { return false };
        let fresh = *word >> (idx % 64) & 1 == 0;
        *word |= 1 << (idx % 64);
        fresh
    }
}

/// A place on the page: a known line, or one put aside.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen {
    Known(u32),
    Fresh(u32),
}

/// A walk along a layout.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) body: &'a [u8],
    pub(crate) interner: &'a Interner,
    pub(crate) filling: Filling,
    lexer: Lexer<'a>,
    lists: Lists,
    honor_timestamps: bool,
    /// Lines of the layout that the page has.
    seen: Bits,
    /// Order of the page from the first difference on, and how many lines of the layout came before.
    pub(crate) order: Vec<Seen>,
    pub(crate) straight: usize,
    /// Where unknown samples start.
    pub(crate) fresh: Vec<u32>,
    jumps: usize,
    meta_moved: bool,
}

/// Rows of a page that is not as its layout.
struct Settled {
    present: Bits,
    absent: bool,
    /// All metadata of the layout is there.
    described: bool,
}

/// Reads `body` along `layout`; `None` when it has to be parsed in full.
pub(crate) fn read(
    reader: &mut PageReader,
    layout: &Arc<Layout>,
    shape: &Arc<Shape>,
    body: &[u8],
    interner: &Interner,
    layouts: &Layouts,
) -> Option<Page> {
    let mut walk = Walk {
        layout,
        body,
        interner,
        filling: Filling::new(shape.len(), shape.slots(), reader.starts.clone()),
        lexer: Lexer::new(body, layout.format),
        lists: Lists::default(),
        honor_timestamps: reader.settings.honor_timestamps,
        seen: Bits::default(),
        order: Vec::new(),
        straight: 0,
        fresh: Vec::new(),
        jumps: 0,
        meta_moved: false,
    };
    let at = walk.straight();
    let whole = walk.straight == layout.lines().len() && walk.is_end(at);
    if whole && reader.unseen.is_empty() {
        walk.filling.fix(&layout.fixes);
        if over(reader, &walk) {
            return None;
        }
        reader.quiet();
        reader.reorder.1 = 1;
        let page = walk.filling.page(Arc::clone(shape), None, None, PagePath::Cached, 0);
        reader.starts.clone_from(&page.starts);
        return Some(page);
    }
    walk.seen = Bits::new(layout.lines().len());
    (0..walk.straight).for_each(|idx| {
        walk.seen.add(idx);
    });
    if !whole {
        walk.resync(at)?;
    }
    if over(reader, &walk) {
        return None;
    }
    let settled = walk.settle(shape)?;
    walk.filling.fix(&layout.fixes);
    let path = if whole { PagePath::Cached } else { PagePath::Patched };
    if walk.fresh.is_empty() {
        return Some(patch(reader, walk, shape, &settled, layouts, path));
    }
    let long_gone =
        |(row, unseen): (usize, &u8)| *unseen >= UNSEEN_MAX && !settled.present.has(row);
    // A new row is judged by the metadata that is there now, every other row of the layout by all of it.
    if !settled.described || reader.unseen.iter().enumerate().any(long_gone) {
        return None;
    }
    let grown = grow::read(reader, &mut walk, shape)?;
    reader.layout = Some(layouts.intern(grown.layout));
    reader.shape = Some(Arc::clone(&grown.shape));
    let added = walk.returned(&reader.unseen) + grown.lines;
    let old = shape.len();
    let marks = reader.mark(grown.shape.len(), |row| row >= old || settled.present.has(row));
    let page = walk.filling.page(grown.shape, marks, None, PagePath::Patched, added);
    reader.starts.clone_from(&page.starts);
    reader.changed();
    Some(page)
}

fn over(reader: &PageReader, walk: &Walk<'_>) -> bool {
    let max = reader.settings.limits.samples;
    max != 0 && walk.filling.stats.samples + walk.fresh.len() > max
}

/// A page of known lines only.
fn patch(
    reader: &mut PageReader,
    walk: Walk<'_>,
    shape: &Arc<Shape>,
    settled: &Settled,
    layouts: &Layouts,
    path: PagePath,
) -> Page {
    let added = walk.returned(&reader.unseen);
    let marks = match settled.absent {
        true => reader.mark(shape.len(), |row| settled.present.has(row)),
        false => {
            reader.unseen = Vec::new();
            None
        }
    };
    let (wait, step) = reader.reorder;
    if wait > 0 {
        reader.reorder.0 = wait - 1;
    } else if walk.jumps > 8 + walk.layout.lines().len() / 64 {
        // Orders that never settle are looked up line by line, which is cheaper than a new layout each time.
        reader.reorder = (step, (2 * step).min(REORDER_WAIT_MAX));
        let mut builder = LayoutBuilder::new(walk.layout.entries().len(), walk.body.len());
        let layout = walk.ordered(&mut builder, &[]);
        let done = builder.finish(
            walk.layout.format,
            walk.layout.fixes.to_vec(),
            walk.layout.loose,
            walk.layout.ambiguous,
        );
        debug_assert_eq!(layout.len(), walk.layout.entries().len(), "no line is lost");
        reader.layout = Some(layouts.intern(done));
    }
    reader.quiet();
    let page = walk.filling.page(Arc::clone(shape), marks, None, path, added);
    reader.starts.clone_from(&page.starts);
    page
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok() && memchr::memchr(0, bytes).is_none()
}

impl<'a> Walk<'a> {
    /// Reads lines as long as they are as the layout has them; where it stopped. `self.straight` says after how many.
    fn straight(&mut self) -> usize {
        let layout = self.layout;
        let body = self.body;
        let mut at = 0;
        let mut samples = 0;
        let mut lines = 0;
        for entry in layout.lines() {
            let key = layout.key(entry);
            let end = at + key.len();
            if body.get(at..end) != Some(key) {
                break;
            }
            if entry.action == Action::Meta {
                at = end;
            } else if let Some(next) = self.value(entry, end) {
                at = next;
                samples += 1;
            } else {
                break;
            }
            lines += 1;
        }
        self.straight = lines;
        self.filling.stats.samples = samples;
        at
    }

    /// Reads the value at `at` into the place of `entry`; the place behind the line.
    #[inline]
    fn value(&mut self, entry: &Entry, at: usize) -> Option<usize> {
        let rest = self.body.get(at..)?;
        match float::prefix(rest) {
            Some((value, len)) if rest.get(len) == Some(&b'\n') => {
                self.filling.store(entry.action, entry.row, value);
                Some(at + len + 1)
            }
            _ => self.value_and_more(entry, at),
        }
    }

    /// The same for values that are not plain numbers or have something behind them.
    #[cold]
    fn value_and_more(&mut self, entry: &Entry, at: usize) -> Option<usize> {
        self.lists.clear();
        let (value, tail, next) = self.number(at)?;
        self.filling.store(entry.action, entry.row, value);
        if tail.time != 0 || tail.exemplar != 0 {
            let source = TailSource {
                body: self.body,
                lists: &self.lists,
                interner: self.interner,
                honor_timestamps: self.honor_timestamps,
            };
            self.filling.tail(entry.row, &tail, &source);
        }
        Some(next)
    }

    fn number(&mut self, at: usize) -> Option<(f64, Tail, usize)> {
        let (value, end) = self.lexer.number(at, "").ok()?;
        let (tail, next) = self.lexer.tail(end, &mut self.lists).ok()?;
        // Labels of exemplars are the only texts here that the layout does not vouch for.
        let valid = tail.exemplar == 0 || is_text(self.body.get(end..next)?);
        valid.then_some((value, tail, next))
    }

    /// True when nothing but the end of the page is at `at`.
    fn is_end(&self, at: usize) -> bool {
        let rest = self.body.get(at..).unwrap_or_default();
        match self.layout.format {
            PageFormat::OpenMetrics => matches!(rest, b"# EOF" | b"# EOF\n"),
            PageFormat::Text | PageFormat::Protobuf => rest.is_empty(),
        }
    }

    /// Reads the rest line by line, from `at` on.
    fn resync(&mut self, mut at: usize) -> Option<()> {
        let layout = self.layout;
        let strict = layout.format == PageFormat::OpenMetrics;
        let mut next = self.straight;
        while at < self.body.len() {
            if strict && self.is_end(at) {
                return Some(());
            }
            if let Some(entry) = layout.lines().get(next)
                && !self.seen.has(next)
                && self.body.get(at..at + layout.key(entry).len()) == Some(layout.key(entry))
            {
                let end = at + layout.key(entry).len();
                at = self.take(next as u32, entry, end)?;
                next += 1;
                continue;
            }
            let len = memchr::memchr(b'\n', self.body.get(at..)?)?;
            let line_end = at + len;
            let first = if strict { at } else { self.lexer.blanks(at) };
            let key_end = match self.body.get(first)? {
                b'\n' if !strict => {
                    at = first + 1;
                    continue;
                }
                b'#' => line_end + 1,
                _ => self.lexer.key_end(at, line_end),
            };
            match self.known(at, key_end) {
                Some((idx, entry, spelled)) if !self.seen.has(idx as usize) => {
                    self.meta_moved |= entry.action == Action::Meta;
                    at = self.take(idx, entry, key_end)?;
                    if !spelled {
                        next = idx as usize + 1;
                    }
                    self.jumps += 1;
                }
                Some((_, entry, _)) => at = self.repeated(entry, key_end)?,
                None => at = self.unknown(first, at, line_end)?,
            }
        }
        (!strict).then_some(())
    }

    /// The entry of a key, with its index, and whether the key is another spelling of it.
    fn known(&self, at: usize, key_end: usize) -> Option<(u32, &'a Entry, bool)> {
        let layout = self.layout;
        let idx = layout.find(self.body.get(at..key_end)?)?;
        let entry = layout.entry(idx)?;
        match entry.action {
            Action::Alias(owner) => Some((owner, layout.entry(owner)?, true)),
            _ => Some((idx, entry, false)),
        }
    }

    fn take(&mut self, idx: u32, entry: &Entry, at: usize) -> Option<usize> {
        self.seen.add(idx as usize);
        self.order.push(Seen::Known(idx));
        if entry.action == Action::Meta {
            return Some(at);
        }
        self.filling.stats.samples += 1;
        self.value(entry, at)
    }

    /// A line that the page had already: it has to be valid, no more.
    fn repeated(&mut self, entry: &Entry, at: usize) -> Option<usize> {
        if entry.action == Action::Meta {
            return Some(at);
        }
        self.filling.stats.samples += 1;
        self.filling.stats.duplicates += 1;
        self.number(at).map(|(_, _, next)| next)
    }

    /// A comment that says nothing, or a sample to be put aside.
    fn unknown(&mut self, first: usize, at: usize, line_end: usize) -> Option<usize> {
        let line = self.body.get(at..line_end)?;
        if self.body.get(first) == Some(&b'#') {
            return match self.lexer.comment(at).ok()? {
                (Comment::Other, next) if is_text(line) => Some(next),
                _ => None,
            };
        }
        self.order.push(Seen::Fresh(self.fresh.len() as u32));
        self.fresh.push(at as u32);
        Some(line_end + 1)
    }

    /// Which rows are there; `None` when one is there in part, or lacks its metadata.
    fn settle(&self, shape: &Shape) -> Option<Settled> {
        if self.layout.ambiguous && self.meta_moved {
            return None;
        }
        let mut present = Bits::new(shape.len());
        let mut missing = Bits::new(shape.len());
        let mut families = Vec::new();
        for (idx, entry) in self.layout.lines().iter().enumerate() {
            let seen = self.seen.has(idx);
            if entry.action == Action::Meta && !seen {
                families.push(entry.family);
            } else if entry.row != NO_ROW {
                let rows = if seen { &mut present } else { &mut missing };
                rows.add(entry.row as usize);
            }
        }
        if present.0.iter().zip(&missing.0).any(|(a, b)| a & b != 0) {
            return None;
        }
        if !families.is_empty() {
            families.sort_unstable();
            let lacks = |(idx, entry): (usize, &Entry)| {
                entry.action != Action::Meta
                    && self.seen.has(idx)
                    && families.binary_search(&entry.family).is_ok()
            };
            if self.layout.ambiguous || self.layout.lines().iter().enumerate().any(lacks) {
                return None;
            }
        }
        // Rows without a line are the caller's: always there.
        let absent = missing.0.iter().any(|word| *word != 0);
        for row in 0..shape.len() {
            if !missing.has(row) {
                present.add(row);
            }
        }
        Some(Settled { present, absent, described: families.is_empty() })
    }

    /// Lines of rows that the last page did not have.
    fn returned(&self, unseen: &[u8]) -> usize {
        if unseen.is_empty() {
            return 0;
        }
        let was_absent = |row: RowId| unseen.get(row as usize).is_some_and(|scrapes| *scrapes > 0);
        let lines = self.layout.lines().iter().enumerate();
        lines.filter(|(idx, entry)| self.seen.has(*idx) && was_absent(entry.row)).count()
    }

    /// Writes the layout's lines to `builder` in the order of this page, those that it lacks last, with `fresh` lines
    /// where they stand. The new index of each old entry.
    pub(crate) fn ordered(
        &self,
        builder: &mut LayoutBuilder,
        fresh: &[(&[u8], Action, RowId, u32)],
    ) -> Vec<u32> {
        let mut moved = vec![super::family::NONE; self.layout.entries().len()];
        let straight = (0..self.straight as u32).map(Seen::Known);
        let absent = (0..self.layout.lines().len()).filter(|idx| !self.seen.has(*idx));
        let absent = absent.map(|idx| Seen::Known(idx as u32));
        for seen in straight.chain(self.order.iter().copied()).chain(absent) {
            match seen {
                Seen::Known(idx) => {
                    if let (Some(entry), Some(to)) =
                        (self.layout.entry(idx), moved.get_mut(idx as usize))
                    {
                        let key = self.layout.key(entry);
                        *to = builder.push(key, entry.action, entry.row, entry.family);
                    }
                }
                Seen::Fresh(idx) => {
                    if let Some((key, action, row, family)) = fresh.get(idx as usize) {
                        builder.push(key, *action, *row, *family);
                    }
                }
            }
        }
        for entry in self.layout.entries().iter().skip(self.layout.lines().len()) {
            if let Action::Alias(owner) = entry.action
                && let Some(owner) = moved.get(owner as usize)
            {
                builder.alias(self.layout.key(entry), *owner);
            }
        }
        moved
    }
}
