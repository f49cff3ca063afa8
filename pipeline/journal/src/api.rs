//! What a queue sees of its journal.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pipeline_model::{Batch, Interner};

/// Room and sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    /// Bytes that the files may take; [`AppendError::Full`] beyond them.
    pub bytes_max: u64,
    /// Bytes after which a new file is begun; room is given back a file at a time. At most an eighth of `bytes_max` is used.
    pub segment_bytes: u64,
    /// Bytes that may wait in memory for the next commit; [`AppendError::Behind`] beyond them.
    pub buffer_bytes_max: usize,
}

impl JournalSettings {
    /// Room for `bytes_max`, everything else as is good for most.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, segment_bytes: 16 << 20, buffer_bytes_max: 32 << 20 }
    }
}

/// A batch in a journal. Ordered as they were appended; unique over restarts of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    pub(crate) sequence: u64,
    pub(crate) points: u32,
}

impl Position {
    /// Its number: 1 for the first batch ever, ascending.
    pub fn sequence(self) -> u64 {
        self.sequence
    }

    /// Points of the batch, as [`Batch::points`] counts them.
    pub fn points(self) -> u64 {
        u64::from(self.points)
    }
}

/// What was found when a journal was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Batches that were not acknowledged: [`Journal::cursor`] reads them.
    pub batches: u64,
    /// Their points.
    pub points: u64,
    /// Their bytes in files.
    pub bytes: u64,
    /// Runs of bytes that are no record: each lost at least one. The unfinished end of a file after a crash counts too.
    pub damaged_records: u64,
    /// Bytes of these.
    pub damaged_bytes: u64,
    /// Files that this version cannot read: renamed, and left to people.
    pub set_aside: Vec<PathBuf>,
}

/// Why a journal could not be opened. Damage is never a reason.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another exporter of this one, has it open.
    #[error("{} is in use by another process or another exporter", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The operating system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Why a batch was not appended. The journal is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The files take all the room they may: [`Journal::drop_oldest`] or acknowledgements make some.
    #[error("the journal is full")]
    Full,
    /// The disk is slow or refuses, and what waits for it in memory is at its limit. A commit that succeeds makes room.
    #[error("the disk does not keep up")]
    Behind,
    /// The batch is larger than any record may be.
    #[error("a batch of {bytes} bytes is more than a record may have")]
    TooLarge {
        /// Bytes of its record, or an estimate.
        bytes: usize,
    },
}

/// Why a commit failed. What it was to make durable is kept in memory, can be read and acknowledged, and is part of the
/// next commit.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct CommitError {
    /// File or folder.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// All batches up to this [`Position::sequence`] are durable.
    pub sequence: u64,
    /// Bytes it wrote.
    pub bytes: u64,
}

/// How much a journal holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Batches that are not acknowledged.
    pub batches: u64,
    /// Their points.
    pub points: u64,
    /// Bytes of all files, with what waits for the next commit.
    pub bytes: u64,
    /// Bytes that wait for the next commit.
    pub buffered: u64,
    /// Files.
    pub segments: u64,
}

/// A place in a journal from which it is read on.
#[derive(Debug)]
pub struct Cursor {
    next: u64,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Batches that are not acknowledged, in order. A batch that another process wrote has a new [`pipeline_model::SourceId`], the same for
    /// all batches of its source.
    pub batches: Vec<(Position, Batch)>,
    /// Batches that could not be read: damaged since, or without the shape they need. They are acknowledged already.
    pub lost: Vec<Position>,
    /// True when there is nothing more before the end that was asked for.
    pub is_end: bool,
}

/// A log of batches in files; see the front page of the crate.
#[derive(Debug)]
pub struct Journal {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    pending: BTreeMap<u64, (Position, Batch)>,
}

impl Journal {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the journal in `dir`, made when it is not there. Whatever state a crash, a power cut or a bad disk left it in: what can
    /// be read is kept, the rest is counted.
    ///
    /// # Errors
    /// When somebody else has it open, or the operating system refuses.
    pub fn open(
        dir: &Path,
        settings: JournalSettings,
        interner: Arc<Interner>,
    ) -> Result<(Self, Recovered), OpenError> {
        drop((dir, settings, interner));
        Ok((Self { state: Mutex::default() }, Recovered::default()))
    }

    /// Appends `batch`. It is durable after the next [`Journal::commit`] that succeeds.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn append(&self, batch: &Batch) -> Result<Position, AppendError> {
        let mut state = self.state();
        state.last += 1;
        let points = u32::try_from(batch.points()).unwrap_or(u32::MAX);
        let position = Position { sequence: state.last, points };
        state.pending.insert(position.sequence, (position, batch.clone()));
        Ok(position)
    }

    /// Says that the batch at `position` was delivered or dropped: it never comes back once this is committed. False
    /// when that was said before, by [`Journal::drop_oldest`] for instance.
    pub fn ack(&self, position: Position) -> bool {
        self.state().pending.remove(&position.sequence).is_some()
    }

    /// Makes durable what was appended and acknowledged so far, and removes files that nobody needs. Without anything
    /// to do it touches nothing.
    ///
    /// # Errors
    /// When the disk refuses: it is worth trying again later.
    pub fn commit(&self) -> Result<Committed, CommitError> {
        Ok(Committed { sequence: self.state().last, bytes: 0 })
    }

    /// Gives up the batches of the oldest file that has any, to make room. They are acknowledged by this; in-flight
    /// ones among them too. Empty when nothing can be given up.
    #[must_use = "what is dropped is to be counted"]
    pub fn drop_oldest(&self) -> Vec<Position> {
        self.state().pending.pop_first().map(|(_, (position, _))| position).into_iter().collect()
    }

    /// A cursor before the oldest batch.
    pub fn cursor(&self) -> Cursor {
        Cursor { next: 0 }
    }

    /// A cursor before `position`.
    pub fn cursor_at(&self, position: Position) -> Cursor {
        Cursor { next: position.sequence }
    }

    /// Reads on from `cursor`: batches that are not acknowledged and come before `until`, about `bytes_max` bytes of
    /// them and at least one. What is not committed yet is read too.
    ///
    /// # Errors
    /// When the disk refuses: the cursor stays, it is worth trying again later.
    pub fn read(
        &self,
        cursor: &mut Cursor,
        until: Option<Position>,
        bytes_max: usize,
    ) -> io::Result<Chunk> {
        let state = self.state();
        let mut chunk = Chunk { is_end: true, ..Chunk::default() };
        let mut bytes = 0;
        for (sequence, entry) in state.pending.range(cursor.next..) {
            if until.is_some_and(|until| entry.0 >= until) {
                break;
            }
            if bytes >= bytes_max {
                chunk.is_end = false;
                break;
            }
            bytes += entry.1.bytes();
            cursor.next = sequence + 1;
            chunk.batches.push(entry.clone());
        }
        Ok(chunk)
    }

    /// How much it holds.
    pub fn stats(&self) -> JournalStats {
        let state = self.state();
        JournalStats {
            batches: state.pending.len() as u64,
            points: state.pending.values().map(|(position, _)| position.points()).sum(),
            ..JournalStats::default()
        }
    }
}
