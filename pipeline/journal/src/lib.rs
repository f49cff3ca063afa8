//! A log of batches in files: what an exporter's queue keeps over the end of the process.
//!
//! One [`Journal`] is one folder. Batches are appended, made durable together by [`Journal::commit`], acknowledged in
//! any order, and read back in the order they were appended: by the process that wrote them, when it let go of them, or
//! by the next one. [`Journal::append`] and [`Journal::ack`] touch memory only and may be called from async code;
//! [`Journal::open`], [`Journal::commit`] and [`Journal::read`] wait for the disk and belong on a blocking thread. All
//! of them take `&self`.
//!
//! After a crash a batch comes back when it was committed and its acknowledgement was not. So what a crash can lose is
//! what came after the last commit, and what it can send twice is what was acknowledged after it.
//!
//! # Files
//! A journal is a run of segment files; only the last is written, and a new process begins its own. A segment is a
//! header and records with a checksum each: tables and shapes, each before the first batch of the segment that needs
//! it; batches; and acknowledgements, all that are known at the beginning of a segment and later those that came since
//! the last commit. A segment goes when nobody waits for a batch in it. A damaged record costs itself; a damaged shape
//! costs the batches of its segment that need it, unless another segment has it too.
//!
//! # Costs
//! 8 bytes of disk a point and about 40 a batch; four bytes of memory a batch that is on disk only.

mod api;
mod bytes;
mod codec;
pub mod faulty;
mod fs;
mod journal;
mod read;
mod record;
mod recover;
mod segment;
mod state;

pub use api::{
    AppendError, Chunk, CommitError, Committed, JournalSettings, JournalStats, OpenError, Position,
    Recovered,
};
pub use fs::{DiskFile, FileSystem, Lock, Os};
pub use journal::Journal;
pub use read::Cursor;

#[cfg(test)]
mod tests;
