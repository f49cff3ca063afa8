//! [`Disk`]: what of a queue is in files. Every batch is written to a journal as it is taken. While memory has room it
//! is held there too, and the files are read only by the next process; beyond that the journal alone has it, and it is
//! read back in order when memory has room again.
//!
//! ```text
//! lanes (memory, oldest) ◀─ read back ─ journal ◀─ written ─ tail (memory, newest; only while the disk refuses)
//! ```
//!
//! This file is the bookkeeping, under the queue's lock; `tend.rs` waits for the disk.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use pipeline_component::WhenFull;
use pipeline_component::telemetry::{Counter, Gauge, Telemetry, table};
use pipeline_journal::{AppendError, Chunk, Cursor, Journal, Position, Recovered};
use pipeline_model::Batch;
use tokio::time::Instant;
use tracing::warn;

use super::entry::{Entry, Lane};
use super::ledger::{Ledger, Reason};

/// Files that may have to go for one batch. Each is at least a record, so one should do.
const ATTEMPTS: usize = 4;
/// How finely the age of what is on disk is known.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// What is unread of an earlier process.
#[derive(Clone, Copy, Debug)]
struct Left {
    batches: u64,
    points: usize,
}

/// The part of a queue that is on disk.
#[derive(Debug)]
pub(super) struct Disk {
    /// None until it could be opened.
    pub(super) journal: Option<Arc<Journal>>,
    /// It takes nothing for now: memory alone has what comes.
    pub(super) refusing: bool,
    /// Points that are on disk alone.
    pub(super) points: usize,
    batches: u64,
    /// Something is on disk alone, or must still be settled before what is: all that comes goes behind it.
    ahead: bool,
    /// Up to here everything made room, what memory has included.
    gone_to: u64,
    /// The first sequence that is on disk alone.
    from: u64,
    /// Where it is read from; away while it is read.
    pub(super) cursor: Option<Cursor>,
    /// Batches of an earlier process that are unread. Those of this process come after they are settled: the
    /// same series may be in another lane now.
    recovering: Option<Left>,
    first_own: Option<Position>,
    /// What came while the journal could not take it, behind what it has.
    pub(super) tail: Lane,
    /// When sequences from here on were taken.
    marks: VecDeque<(u64, Instant)>,
    /// Something was written or acknowledged since the last commit.
    pub(super) dirty: bool,
    /// Something was acknowledged since the last commit.
    pub(super) acked: bool,
    pub(super) failing: Gauge,
    pub(super) bytes: Gauge,
    pub(super) errors: Counter,
    pub(super) damaged: Counter,
}

impl Disk {
    /// Not open yet; `telemetry` is scoped to the exporter.
    pub(super) fn new(telemetry: &Telemetry) -> Self {
        Self {
            journal: None,
            refusing: true,
            points: 0,
            batches: 0,
            ahead: false,
            gone_to: 0,
            from: 0,
            cursor: None,
            recovering: None,
            first_own: None,
            tail: Lane::default(),
            marks: VecDeque::new(),
            dirty: false,
            acked: false,
            failing: telemetry.gauge(&table::EXPORTER_DISK_FAILING, &[]),
            bytes: telemetry.gauge(&table::EXPORTER_DISK_BYTES, &[]),
            errors: telemetry.counter(&table::EXPORTER_DISK_ERRORS, &[]),
            damaged: telemetry.counter(&table::EXPORTER_DISK_DAMAGED, &[]),
        }
    }

    /// The journal is there, with what an earlier process left in it.
    pub(super) fn opened(&mut self, journal: Journal, found: &Recovered, ledger: &mut Ledger) {
        let points = usize::try_from(found.points).unwrap_or(usize::MAX);
        ledger.recover(points);
        self.damaged.add(found.damaged_records);
        if found.batches > 0 {
            self.points = points;
            self.batches = found.batches;
            self.ahead = true;
            self.from = 0;
            self.cursor = Some(journal.cursor());
            self.recovering = Some(Left { batches: found.batches, points });
            self.marks.push_back((0, Instant::now()));
        }
        self.refusing = false;
        self.journal = Some(Arc::new(journal));
    }

    /// True when what comes must go behind what the disk has.
    pub(super) fn is_ahead(&self) -> bool {
        self.ahead
    }

    /// True while what earlier processes left is not settled.
    pub(super) fn is_recovering(&self) -> bool {
        self.recovering.is_some()
    }

    /// True while it takes what memory has no room for.
    pub(super) fn takes(&self) -> bool {
        self.journal.is_some() && !self.refusing
    }

    /// Points that wait here, in files or behind them.
    pub(super) fn waiting(&self) -> usize {
        self.points + self.tail.size.points
    }

    /// Where the batches are, by sequence, that are not settled and that the next process will find.
    pub(super) fn kept(&self) -> RangeInclusive<u64> {
        let durable = self.journal.as_ref().map_or(0, |journal| journal.durable());
        self.gone_to + 1..=durable
    }

    /// At exit: what the disk alone was to have and is not durable in `kept` is lost, as is what waits behind it. Gives
    /// the points.
    pub(super) fn lose_rest(&mut self, kept: &RangeInclusive<u64>) -> usize {
        let mut lost = std::mem::take(&mut self.tail).size.points;
        if let Some(journal) = self.journal.as_ref().filter(|_| self.ahead) {
            let after = (*kept.end()).max(self.from.saturating_sub(1));
            let (batches, points) = journal.waiting_after(after);
            let points = usize::try_from(points).unwrap_or(usize::MAX).min(self.points);
            self.batches = self.batches.saturating_sub(batches);
            self.points -= points;
            lost += points;
        }
        lost
    }

    /// True while something waits behind what the journal has.
    pub(super) fn has_tail(&self) -> bool {
        !self.tail.waiting.is_empty()
    }

    /// Reading went wrong and took the cursor along: it begins again before everything that is not settled.
    pub(super) fn restart_cursor(&mut self) {
        self.cursor = self.journal.as_ref().map(|journal| journal.cursor());
    }

    /// When the oldest of them was taken.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let tail = || self.tail.oldest();
        let mark = self.marks.front().filter(|_| self.batches > 0);
        mark.map(|(_, taken)| *taken).or_else(tail)
    }

    /// Writes `batch` down; `None`: memory alone has it. With [`WhenFull::DropOldest`] the oldest makes room, counted.
    pub(super) fn append(
        &mut self,
        batch: &Batch,
        when_full: WhenFull,
        ledger: &mut Ledger,
    ) -> Option<Position> {
        // What waits behind the disk would be overtaken.
        if self.refusing || self.has_tail() {
            return None;
        }
        let journal = Arc::clone(self.journal.as_ref()?);
        for _ in 0..ATTEMPTS {
            match journal.append(batch) {
                Ok(position) => {
                    self.dirty = true;
                    self.first_own.get_or_insert(position);
                    return Some(position);
                }
                Err(AppendError::Full) if when_full == WhenFull::DropOldest => {
                    let gone = journal.drop_oldest();
                    if gone.is_empty() {
                        break;
                    }
                    self.dirty = true;
                    self.gone(&gone, Reason::DiskFull, ledger);
                }
                Err(AppendError::Full | AppendError::Behind) => break,
                // It alone; the next one may do.
                Err(AppendError::TooLarge { .. }) => return None,
            }
        }
        self.refusing = true;
        None
    }

    /// The journal alone has the batch at `position`.
    pub(super) fn spill(&mut self, position: Position, taken: Instant) {
        if !self.ahead {
            self.ahead = true;
            self.from = position.sequence();
            self.cursor = self.journal.as_ref().map(|journal| journal.cursor_at(position));
        }
        self.batches += 1;
        self.points += position.points() as usize;
        if self.marks.back().is_none_or(|(_, last)| taken.duration_since(*last) >= MARK_EVERY) {
            self.marks.push_back((position.sequence(), taken));
        }
    }

    /// The batch at `position` is delivered, or lost and counted.
    pub(super) fn ack(&mut self, position: Position) {
        if let Some(journal) = &self.journal {
            journal.ack(position);
            self.dirty = true;
            self.acked = true;
        }
    }

    /// Batches at `positions` are no longer in the journal. Those that memory has are still delivered.
    pub(super) fn gone(&mut self, positions: &[Position], reason: Reason, ledger: &mut Ledger) {
        let mut lost = 0;
        for position in positions {
            if self.ahead && position.sequence() >= self.from {
                self.left(*position);
                lost += position.points() as usize;
            }
        }
        ledger.drop(reason, lost);
        // Whatever is before the last that made room is gone with it; damage lies between others.
        if let Some(last) = positions.last()
            && reason == Reason::DiskFull
        {
            self.gone_to = last.sequence();
            self.from = self.from.max(last.sequence() + 1);
        }
        if lost > 0 {
            warn!(points = lost, ?reason, "points on disk are lost");
        }
    }

    fn left(&mut self, position: Position) {
        self.batches = self.batches.saturating_sub(1);
        self.points = self.points.saturating_sub(position.points() as usize);
        if let Some(left) = &mut self.recovering {
            left.batches = left.batches.saturating_sub(1);
            left.points = left.points.saturating_sub(position.points() as usize);
        }
    }

    /// What may be read now: a cursor, and what to read up to. `is_idle`: nothing is in memory.
    pub(super) fn readable(&mut self, is_idle: bool) -> Option<(Cursor, Option<Position>)> {
        match self.recovering {
            Some(Left { batches: 0, .. }) if !is_idle => return None,
            Some(Left { batches: 0, .. }) => self.recovering = None,
            Some(_) | None => {}
        }
        if self.batches == 0 {
            return None;
        }
        let until = self.first_own.filter(|_| self.recovering.is_some());
        Some((self.cursor.take()?, until))
    }

    /// What was read, as entries. `seq` numbers them.
    pub(super) fn read(
        &mut self,
        cursor: Cursor,
        chunk: Chunk,
        seq: &mut u64,
        ledger: &mut Ledger,
    ) -> Vec<Entry> {
        self.cursor = Some(cursor);
        self.damaged.add(chunk.lost.len() as u64);
        self.gone(&chunk.lost, Reason::DiskDamaged, ledger);
        let mut entries = Vec::with_capacity(chunk.batches.len());
        for (position, batch) in chunk.batches {
            // It made room while it was read.
            if position.sequence() < self.from {
                continue;
            }
            // The first of our own came while it was read, without an end to read up to.
            if self.recovering.is_some() && self.first_own.is_some_and(|own| position >= own) {
                self.cursor = self.journal.as_ref().map(|journal| journal.cursor_at(position));
                break;
            }
            self.from = position.sequence() + 1;
            self.left(position);
            while self.marks.get(1).is_some_and(|(from, _)| *from <= position.sequence()) {
                self.marks.pop_front();
            }
            let taken = self.marks.front().map_or_else(Instant::now, |(_, taken)| *taken);
            let mut entry = Entry::new(batch, taken);
            entry.position = Some(position);
            entry.seq = *seq;
            *seq += 1;
            entries.push(entry);
        }
        if let Some(left) = self.recovering.filter(|left| chunk.is_end && left.batches > 0) {
            // Fewer came than were found at the start: they cannot be read.
            ledger.drop(Reason::DiskDamaged, left.points);
            self.batches = self.batches.saturating_sub(left.batches);
            self.points = self.points.saturating_sub(left.points);
            self.recovering = Some(Left { batches: 0, points: 0 });
        }
        entries
    }

    /// When nothing is on disk alone any more, what waits behind it may go on. None while something is.
    pub(super) fn caught_up(&mut self) -> Option<VecDeque<Entry>> {
        if !self.ahead || self.batches > 0 || self.recovering.is_some() {
            return None;
        }
        self.ahead = false;
        self.cursor = None;
        self.marks.clear();
        Some(std::mem::take(&mut self.tail).waiting)
    }

    /// Writes down what waits behind the disk, about `bytes_max` of it; gives the bytes of memory that are free by it.
    pub(super) fn write_tail(&mut self, bytes_max: usize) -> usize {
        let Some(journal) = self.journal.clone() else { return 0 };
        let mut freed = 0;
        while freed < bytes_max {
            let Some(front) = self.tail.waiting.front() else { break };
            let Ok(position) = journal.append(&front.part.batch) else { break };
            self.dirty = true;
            self.first_own.get_or_insert(position);
            let Some(entry) = self.tail.pop() else { break };
            freed += entry.bytes;
            self.spill(position, entry.taken);
        }
        freed
    }
}
