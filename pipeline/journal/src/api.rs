//! What a queue sees of its journal.

use std::io;
use std::path::PathBuf;

use pipeline_model::Batch;

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
    /// Batches that were not acknowledged: [`crate::Journal::cursor`] reads them.
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
    /// The files take all the room they may: [`crate::Journal::drop_oldest`] or acknowledgements make some.
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

/// What was read.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Batches that are not acknowledged, in order. A batch that another process wrote has a new
    /// [`pipeline_model::SourceId`], the same for all batches of its source.
    pub batches: Vec<(Position, Batch)>,
    /// Batches that could not be read: damaged since, or without the shape they need. They are acknowledged already.
    pub lost: Vec<Position>,
    /// True when there is nothing more before the end that was asked for.
    pub is_end: bool,
}
