//! A segment as memory knows it: which of its batches are still waited for, and how much of it is durable.

use std::path::{Path, PathBuf};

/// End of the name of a segment file.
const SUFFIX: &str = ".journal";

/// End of the name of a file that was set aside.
const ASIDE: &str = ".set-aside";

/// The name of a segment file: its number, and the number of the first segment of the process that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) id: u64,
    /// Says whose numbers of sources and shapes they are.
    pub(crate) epoch: u64,
}

impl Name {
    /// The name that `file` says; also of a file that was set aside, so that no number is used twice.
    pub(crate) fn parse(file: &str) -> Option<(Self, bool)> {
        let (stem, is_aside) = match file.strip_suffix(ASIDE) {
            Some(stem) => (stem, true),
            None => (file, false),
        };
        let (id, epoch) = stem.strip_suffix(SUFFIX)?.split_once('-')?;
        let number = |digits: &str| {
            let is_ours = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            u64::from_str_radix(digits, 16).ok().filter(|number| is_ours && *number < u64::MAX / 2)
        };
        Some((Self { id: number(id)?, epoch: number(epoch)? }, is_aside))
    }

    pub(crate) fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:016x}-{:016x}{SUFFIX}", self.id, self.epoch))
    }

    /// Where it goes when it cannot be read.
    pub(crate) fn aside(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:016x}-{:016x}{SUFFIX}{ASIDE}", self.id, self.epoch))
    }
}

/// One segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) name: Name,
    /// Sequence of `batches[0]`.
    pub(crate) first: u64,
    /// Per sequence: points + 1 of a batch that is waited for, 0 of one that is not. Four bytes a batch is what a
    /// backlog on disk costs in memory.
    batches: Vec<u32>,
    /// Batches that are waited for.
    pub(crate) pending: u64,
    /// Their points.
    pub(crate) pending_points: u64,
    /// Bytes, with those that only memory has.
    pub(crate) len: u64,
    /// Bytes that are in the file for good.
    pub(crate) durable: u64,
    /// There is, or may be, a file.
    pub(crate) is_created: bool,
    /// The folder's entry for the file is durable.
    pub(crate) is_linked: bool,
    /// It has batches whose shapes only other segments of the same process have: those stay as long as it is waited for.
    pub(crate) is_lacking: bool,
}

impl Segment {
    pub(crate) fn new(name: Name, first: u64) -> Self {
        Self {
            name,
            first,
            batches: Vec::new(),
            pending: 0,
            pending_points: 0,
            len: 0,
            durable: 0,
            is_created: false,
            is_linked: false,
            is_lacking: false,
        }
    }

    /// The sequence after its last batch.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.batches.len() as u64
    }

    /// Adds a batch that is waited for. Sequences between the last one and this one are not.
    pub(crate) fn push(&mut self, sequence: u64, points: u32) {
        if self.batches.is_empty() {
            self.first = sequence;
        }
        let Some(gap) = sequence.checked_sub(self.end()) else { return };
        self.batches.resize(self.batches.len() + gap as usize, 0);
        self.batches.push(points.saturating_add(1));
        self.pending += 1;
        self.pending_points += u64::from(points);
    }

    /// Points of the batch with this sequence, if it is waited for.
    pub(crate) fn waiting(&self, sequence: u64) -> Option<u32> {
        let idx = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.batches.get(idx)?.checked_sub(1)
    }

    /// No longer waits for a batch; gives its points if it did.
    pub(crate) fn settle(&mut self, sequence: u64) -> Option<u32> {
        let points = self.waiting(sequence)?;
        self.batches[(sequence - self.first) as usize] = 0;
        self.pending -= 1;
        self.pending_points -= u64::from(points);
        Some(points)
    }

    /// Batches that are waited for: sequence and points.
    pub(crate) fn waiting_all(&self) -> impl Iterator<Item = (u64, u32)> {
        self.batches.iter().enumerate().filter_map(|(idx, points)| {
            points.checked_sub(1).map(|points| (self.first + idx as u64, points))
        })
    }

    /// Ranges of sequences that are not waited for.
    pub(crate) fn settled(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut at = self.first;
        self.batches.chunk_by(|a, b| (*a == 0) == (*b == 0)).filter_map(move |run| {
            let start = at;
            at += run.len() as u64;
            (run[0] == 0).then_some((start, at))
        })
    }
}
