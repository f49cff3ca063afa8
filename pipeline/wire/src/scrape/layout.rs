//! [`Layout`]: what a page looked like, line by line up to the values, and where each value goes.
//!
//! Layouts know keys and slots, not names and labels, so all targets with equal pages share one through [`Layouts`].

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashSet;
use foldhash::fast::FixedState;
use hashbrown::{HashTable, hash_table};
use pipeline_model::{RowId, Slot};

use super::PageFormat;

/// What to do with the value of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// A HELP, TYPE or UNIT line: no value.
    Meta,
    /// Into this slot.
    Value(u32),
    /// It is the row's start time.
    Start,
    /// Read and forget: a `+Inf` bucket beside its count, a start time without a series.
    Ignore,
    /// The sum of a histogram that has nothing else.
    Incomplete,
    /// It repeats a row that the caller fills.
    Duplicate,
    /// Another spelling of the line of this entry.
    Alias(u32),
}

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    at: u32,
    bytes: u32,
    pub(crate) action: Action,
    /// Its row, or `NO_ROW`.
    pub(crate) row: RowId,
    /// The family that it belongs to (a sample) or speaks of (a metadata line), or `NONE`.
    pub(crate) family: u32,
}

impl Entry {
    #[inline]
    fn key(self, text: &[u8]) -> &[u8] {
        let at = self.at as usize;
        text.get(at..at + self.bytes as usize).unwrap_or_default()
    }
}

/// A slot that no line fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fix {
    /// A sum that the page does not give.
    Nan(u32),
    /// A count that only another slot tells.
    Copy { from: u32, to: u32 },
}

impl Fix {
    pub(crate) fn apply(self, values: &mut [Slot]) {
        let (to, value) = match self {
            Self::Nan(to) => (to, Slot::double(f64::NAN)),
            Self::Copy { from, to } => (to, values.get(from as usize).copied().unwrap_or_default()),
        };
        if let Some(slot) = values.get_mut(to as usize) {
            *slot = value;
        }
    }
}

/// A page's lines in order. Immutable; two are equal when pages look alike and values go to equal places.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) format: PageFormat,
    /// Keys of all entries, one after the other.
    text: Box<[u8]>,
    /// The lines in order, then the other spellings.
    entries: Box<[Entry]>,
    lines: usize,
    /// Entries by the hash of their key.
    index: HashTable<u32>,
    pub(crate) fixes: Box<[Fix]>,
    /// A new line may change what known lines mean: no growing.
    pub(crate) loose: bool,
    /// The order of metadata matters: no moving.
    pub(crate) ambiguous: bool,
    hash: u64,
}

fn hasher() -> FixedState {
    FixedState::with_seed(3)
}

impl Layout {
    /// The lines in page order.
    pub(crate) fn lines(&self) -> &[Entry] {
        self.entries.get(..self.lines).unwrap_or_default()
    }

    /// An entry, spellings included.
    pub(crate) fn entry(&self, idx: u32) -> Option<&Entry> {
        self.entries.get(idx as usize)
    }

    /// All entries, spellings included.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The bytes of a line up to its value.
    #[inline]
    pub(crate) fn key(&self, entry: &Entry) -> &[u8] {
        entry.key(&self.text)
    }

    /// The entry with this key.
    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        find(&self.index, &self.entries, &self.text, key, hasher().hash_one(key))
    }

    /// Bytes held.
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.text.len()
            + size_of_val(&*self.entries)
            + size_of_val(&*self.fixes)
            + self.index.allocation_size()
    }
}

fn find(
    index: &HashTable<u32>,
    entries: &[Entry],
    text: &[u8],
    key: &[u8],
    hash: u64,
) -> Option<u32> {
    let is_key = |idx: &u32| entries.get(*idx as usize).is_some_and(|entry| entry.key(text) == key);
    index.find(hash, is_key).copied()
}

impl PartialEq for Layout {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && (self.format, self.lines, self.loose, self.ambiguous)
                == (other.format, other.lines, other.loose, other.ambiguous)
            && self.text == other.text
            && self.entries == other.entries
            && self.fixes == other.fixes
    }
}

impl Eq for Layout {}

impl Hash for Layout {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Makes layouts.
#[derive(Debug)]
pub(crate) struct LayoutBuilder {
    text: Vec<u8>,
    entries: Vec<Entry>,
    index: HashTable<u32>,
    aliases: Vec<(Vec<u8>, u32)>,
    /// Of all keys in their order.
    hash: u64,
}

impl LayoutBuilder {
    /// An empty one with room for `lines` of `bytes` in all.
    pub(crate) fn new(lines: usize, bytes: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes),
            entries: Vec::with_capacity(lines),
            index: HashTable::with_capacity(lines),
            aliases: Vec::new(),
            hash: 0,
        }
    }

    /// Adds a line; the index of its entry, which is an older one when the key is there already.
    pub(crate) fn push(&mut self, key: &[u8], action: Action, row: RowId, family: u32) -> u32 {
        let hash = hasher().hash_one(key);
        let idx = self.entries.len() as u32;
        let (entries, text) = (&self.entries, &self.text);
        let key_of = |idx: u32| entries.get(idx as usize).map(|entry| entry.key(text));
        let slot = self.index.entry(
            hash,
            |idx| key_of(*idx) == Some(key),
            |idx| hasher().hash_one(key_of(*idx).unwrap_or_default()),
        );
        match slot {
            hash_table::Entry::Occupied(known) => return *known.get(),
            hash_table::Entry::Vacant(slot) => slot.insert(idx),
        };
        self.hash = self.hash.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash;
        let at = self.text.len() as u32;
        self.text.extend_from_slice(key);
        self.entries.push(Entry { at, bytes: key.len() as u32, action, row, family });
        idx
    }

    /// Adds another spelling of the line of entry `owner`.
    pub(crate) fn alias(&mut self, key: &[u8], owner: u32) {
        let hash = hasher().hash_one(key);
        if find(&self.index, &self.entries, &self.text, key, hash).is_none() {
            self.aliases.push((key.to_vec(), owner));
        }
    }

    /// The layout.
    pub(crate) fn finish(
        mut self,
        format: PageFormat,
        fixes: Vec<Fix>,
        loose: bool,
        ambiguous: bool,
    ) -> Layout {
        let lines = self.entries.len();
        for (key, owner) in std::mem::take(&mut self.aliases) {
            self.push(&key, Action::Alias(owner), super::rows::NO_ROW, super::family::NONE);
        }
        Layout {
            format,
            text: self.text.into_boxed_slice(),
            entries: self.entries.into_boxed_slice(),
            lines,
            index: self.index,
            fixes: fixes.into_boxed_slice(),
            loose,
            ambiguous,
            hash: self.hash,
        }
    }
}

/// Sizes of a pool of layouts, for self telemetry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayoutStats {
    /// Distinct layouts.
    pub layouts: usize,
    /// Bytes that they hold.
    pub bytes: usize,
}

/// All layouts of a process: equal ones are stored once. It forgets those that no reader holds when it has doubled
/// since it last did so, so its size is bounded by twice what is in use.
#[derive(Debug, Default)]
pub struct Layouts {
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    known: HashSet<Arc<Layout>>,
    sweep_at: usize,
}

/// Layouts below which the pool is not swept but on request.
const SWEEP_FLOOR: usize = 64;

impl Pool {
    fn sweep(&mut self) {
        self.known.retain(|layout| Arc::strong_count(layout) > 1);
        self.sweep_at = SWEEP_FLOOR.max(2 * self.known.len());
    }
}

impl Layouts {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        // A panic elsewhere leaves at worst a layout that is not shared.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shared layout equal to `layout`.
    pub(crate) fn intern(&self, layout: Layout) -> Arc<Layout> {
        let mut pool = self.lock();
        if let Some(known) = pool.known.get(&layout) {
            return Arc::clone(known);
        }
        if pool.known.len() >= pool.sweep_at {
            pool.sweep();
        }
        let layout = Arc::new(layout);
        pool.known.insert(Arc::clone(&layout));
        layout
    }

    /// Forgets what no reader holds.
    pub fn sweep(&self) {
        self.lock().sweep();
    }

    /// Sizes now.
    pub fn stats(&self) -> LayoutStats {
        let pool = self.lock();
        LayoutStats {
            layouts: pool.known.len(),
            bytes: pool.known.iter().map(|layout| layout.bytes()).sum(),
        }
    }
}
