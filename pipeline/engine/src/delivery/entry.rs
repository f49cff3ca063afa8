//! [`Entry`]: a batch that waits, with its sizes; and [`Flight`]: what a shard has taken and not settled.

use std::collections::VecDeque;

use pipeline_component::Part;
use pipeline_journal::Position;
use pipeline_model::{Batch, Mark};
use tokio::time::Instant;

use super::request::Request;

/// What allocations of a batch cost beyond their content.
const OVERHEAD: usize = 64;
/// Entries that an empty lane keeps room for.
const SPARE_MAX: usize = 256;

/// How much a part is, by both measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Rows with a value: what is counted, here as everywhere.
    pub(crate) points: usize,
    /// Rows that a backend is told of, ends of series included: what limits a request.
    pub(crate) weight: usize,
}

impl Size {
    /// The size of `part`: a scan of its rows where it has marks.
    pub(crate) fn of(part: &Part) -> Self {
        let Some(marks) = &part.batch.marks else {
            return Self { points: part.rows.len(), weight: part.rows.len() };
        };
        let rows = part.rows.start as usize..part.rows.end as usize;
        let mut size = Self::default();
        for mark in marks.get(rows).unwrap_or_default() {
            size.points += usize::from(*mark == Mark::Present);
            size.weight += usize::from(*mark != Mark::Absent);
        }
        size
    }
}

impl std::ops::AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.points += other.points;
        self.weight += other.weight;
    }
}

/// A batch that waits.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) part: Part,
    pub(crate) size: Size,
    /// Bytes that the queue accounts for.
    pub(crate) bytes: usize,
    pub(crate) taken: Instant,
    /// Its place among all that the exporter took.
    pub(crate) seq: u64,
    /// Where it is on disk.
    pub(crate) position: Option<Position>,
}

impl Entry {
    /// `batch`, measured.
    pub(crate) fn new(batch: Batch, taken: Instant) -> Self {
        let bytes = batch.bytes() + size_of::<Self>() - size_of::<Batch>() + OVERHEAD;
        let part = Part::whole(batch);
        Self { size: Size::of(&part), part, bytes, taken, seq: 0, position: None }
    }
}

/// When a shard wants to be woken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Wake {
    /// It is at work, or woken already.
    #[default]
    No,
    /// By the first entry.
    First,
    /// When a request is full.
    At { weight: usize, bytes: usize },
}

/// One shard's share of the queue.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) waiting: VecDeque<Entry>,
    pub(crate) size: Size,
    pub(crate) bytes: usize,
    pub(crate) wake: Wake,
    pub(crate) flight: Flight,
}

impl Lane {
    /// Adds `entry`; true when the shard is to be woken.
    pub(crate) fn push(&mut self, entry: Entry) -> bool {
        self.size += entry.size;
        self.bytes += entry.bytes;
        self.waiting.push_back(entry);
        let is_due = match self.wake {
            Wake::No => false,
            Wake::First => true,
            Wake::At { weight, bytes } => self.size.weight >= weight || self.bytes >= bytes,
        };
        if is_due {
            self.wake = Wake::No;
        }
        is_due
    }

    /// Takes the oldest entry away.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let entry = self.waiting.pop_front()?;
        self.size.points -= entry.size.points;
        self.size.weight -= entry.size.weight;
        self.bytes -= entry.bytes;
        Some(entry)
    }

    /// Moves entries into flight until a request has `weight` or `bytes`, at least one. An entry is never divided here.
    pub(crate) fn take(&mut self, weight: usize, bytes: usize) -> Request {
        let mut parts = Vec::with_capacity(self.waiting.len().min(64));
        let (mut size, mut held) = (Size::default(), 0);
        while let Some(front) = self.waiting.front() {
            let is_over = size.weight + front.size.weight > weight || held + front.bytes > bytes;
            if is_over && !parts.is_empty() {
                break;
            }
            let Some(entry) = self.pop() else { break };
            size += entry.size;
            held += entry.bytes;
            self.flight.oldest.get_or_insert(entry.taken);
            self.flight.positions.extend(entry.position);
            parts.push(entry.part);
        }
        if self.waiting.is_empty() {
            // After an outage the room for it goes too.
            self.waiting.shrink_to(SPARE_MAX);
        }
        self.flight.points = size.points;
        self.flight.bytes = held;
        Request { parts, size }
    }

    /// When the oldest of what waits or is in flight was taken.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.flight.oldest.or_else(|| self.waiting.front().map(|entry| entry.taken))
    }

    /// True when nothing waits and nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.flight.is_open()
    }
}

/// What a shard has taken from its lane and not settled yet: the parts of one request, or of a few that were one.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    /// Points that are not settled.
    pub(crate) points: usize,
    /// Bytes of all of it, held until the last of it is settled.
    pub(crate) bytes: usize,
    /// When the first entry was taken; none when nothing is in flight.
    pub(crate) oldest: Option<Instant>,
    /// Entries that are on disk.
    pub(crate) positions: Vec<Position>,
}

impl Flight {
    /// True while something is in flight, be it a batch without points.
    pub(crate) fn is_open(&self) -> bool {
        self.oldest.is_some()
    }
}
