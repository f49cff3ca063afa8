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

mod api;

pub use api::{
    AppendError, Chunk, CommitError, Committed, Cursor, Journal, JournalSettings, JournalStats,
    OpenError, Position, Recovered,
};
