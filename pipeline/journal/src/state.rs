//! What appending and acknowledging touch: memory. The disk follows at the next commit.

use std::collections::VecDeque;
use std::sync::Arc;

use pipeline_model::{Batch, Shape};

use crate::api::{AppendError, JournalSettings, JournalStats, Position};
use crate::bytes::{Malformed, Reader, put_varint};
use crate::codec::{Dictionary, put_batch};
use crate::record::{self, Header, Kind, PAYLOAD_MAX, VERSION};
use crate::segment::{Name, Segment};

/// Segments are at least this long.
const SEGMENT_MIN: u64 = 4096;

/// Bytes that a batch has beyond [`Batch::bytes`], at most but for start times.
const HEAD: usize = 128;

/// Bytes of one segment that only memory has.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: Arc<Vec<u8>>,
    /// The last sequence that is in it or before it.
    pub(crate) last: u64,
}

impl Chunk {
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// A segment as a reader sees it at one moment.
pub(crate) struct View {
    pub(crate) name: Name,
    /// The sequence of its first batch, and the one after its last.
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) durable: u64,
    pub(crate) len: u64,
    pub(crate) chunks: Vec<Chunk>,
}

#[derive(Debug)]
pub(crate) struct State {
    settings: JournalSettings,
    /// Ascending. The last one takes appends when `is_open`.
    pub(crate) segments: VecDeque<Segment>,
    is_open: bool,
    epoch: u64,
    next_segment: u64,
    next_sequence: u64,
    /// Up to here all batches that are waited for are durable.
    durable: u64,
    pub(crate) dictionary: Dictionary,
    /// The end of the open segment.
    buffer: Vec<u8>,
    /// What lies between the files' ends and `buffer`.
    chunks: VecDeque<Chunk>,
    chunk_bytes: usize,
    /// Sequences acknowledged since the last commit began.
    acked: Vec<u64>,
    /// Bytes of all segments, and of those that nobody waits for.
    bytes: u64,
    free: u64,
}

impl State {
    /// With the segments that were found, none of them open.
    pub(crate) fn new(
        mut settings: JournalSettings,
        segments: VecDeque<Segment>,
        next_segment: u64,
        next_sequence: u64,
    ) -> Self {
        settings.segment_bytes =
            settings.segment_bytes.min(settings.bytes_max / 8).max(SEGMENT_MIN);
        let bytes = segments.iter().map(|segment| segment.len).sum();
        let idle = segments.iter().filter(|segment| segment.pending == 0);
        let free = idle.map(|segment| segment.len).sum();
        Self {
            settings,
            segments,
            is_open: false,
            epoch: next_segment,
            next_segment,
            next_sequence,
            durable: next_sequence - 1,
            dictionary: Dictionary::default(),
            buffer: Vec::new(),
            chunks: VecDeque::new(),
            chunk_bytes: 0,
            acked: Vec::new(),
            bytes,
            free,
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn append(&mut self, batch: &Batch) -> Result<Position, AppendError> {
        let starts = batch.starts.as_ref().map_or(0, |starts| starts.len() * 10);
        let bytes = batch.bytes() + starts + HEAD;
        if bytes > PAYLOAD_MAX || bytes as u64 > self.settings.bytes_max / 2 {
            return Err(AppendError::TooLarge { bytes });
        }
        if self.bytes - self.free + self.held() + bytes as u64 > self.settings.bytes_max {
            return Err(AppendError::Full);
        }
        let buffered = self.buffered();
        if buffered > 0 && buffered + bytes > self.settings.buffer_bytes_max {
            return Err(AppendError::Behind);
        }
        let is_long = |segment: &Segment| segment.len >= self.settings.segment_bytes;
        if !self.is_open || self.segments.back().is_none_or(is_long) {
            self.begin_segment();
        }
        let from = self.buffer.len();
        let sequence = self.next_sequence;
        let points = u32::try_from(batch.points()).unwrap_or(u32::MAX - 1).min(u32::MAX - 1);
        let outcome = self.put(batch, sequence, points);
        self.grown(from);
        outcome.map_err(|bytes| AppendError::TooLarge { bytes })?;
        self.next_sequence += 1;
        if let Some(segment) = self.segments.back_mut() {
            segment.push(sequence, points);
        }
        Ok(Position { sequence, points })
    }

    fn put(&mut self, batch: &Batch, sequence: u64, points: u32) -> Result<(), usize> {
        self.dictionary.define(&mut self.buffer, &batch.shape)?;
        let starts = self.dictionary.starts(&mut self.buffer, batch)?;
        let start = record::begin(&mut self.buffer, Kind::Batch);
        put_batch(&mut self.buffer, sequence, points, &starts, batch);
        record::finish(&mut self.buffer, start)
    }

    /// Counts what came to the buffer since it had `from` bytes.
    fn grown(&mut self, from: usize) {
        let bytes = (self.buffer.len() - from) as u64;
        self.bytes += bytes;
        if let Some(segment) = self.segments.back_mut() {
            segment.len += bytes;
        }
    }

    fn buffered(&self) -> usize {
        self.chunk_bytes + self.buffer.len()
    }

    /// No longer takes appends to the last segment.
    fn close_segment(&mut self) {
        self.seal();
        if self.is_open
            && let Some(segment) = self.segments.back()
            && segment.pending == 0
        {
            self.free += segment.len;
        }
        self.is_open = false;
    }

    /// Begins a segment. It says first what is acknowledged in the others, so that a segment that nobody waits for can
    /// go although it has acknowledgements of others.
    fn begin_segment(&mut self) {
        self.close_segment();
        let name = Name { id: self.next_segment, epoch: self.epoch };
        self.next_segment += 1;
        Header::put(&mut self.buffer, VERSION, self.next_sequence);
        let settled: Vec<_> = self.segments.iter().flat_map(Segment::settled).collect();
        put_acks(&mut self.buffer, &settled);
        self.segments.push_back(Segment::new(name, self.next_sequence));
        self.dictionary.begin_segment(name.id);
        self.is_open = true;
        self.grown(0);
    }

    /// Makes the buffer a chunk.
    fn seal(&mut self) {
        let Some(segment) = self.segments.back() else { return };
        if self.buffer.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.buffer);
        self.chunk_bytes += bytes.len();
        let offset = segment.len - bytes.len() as u64;
        let (segment, last) = (segment.name.id, self.next_sequence - 1);
        self.chunks.push_back(Chunk { segment, offset, bytes: Arc::new(bytes), last });
    }

    fn index_of(&self, sequence: u64) -> Option<usize> {
        self.segments.partition_point(|segment| segment.first <= sequence).checked_sub(1)
    }

    /// Points of the batch with this sequence, if it is waited for.
    pub(crate) fn waiting(&self, sequence: u64) -> Option<u32> {
        self.segments[self.index_of(sequence)?].waiting(sequence)
    }

    pub(crate) fn ack(&mut self, sequence: u64) -> bool {
        let Some(idx) = self.index_of(sequence) else { return false };
        if self.segments[idx].settle(sequence).is_none() {
            return false;
        }
        self.acked.push(sequence);
        self.settled(idx);
        true
    }

    /// A segment may now be one that nobody waits for.
    fn settled(&mut self, idx: usize) {
        let is_open = self.is_open && idx + 1 == self.segments.len();
        let segment = &self.segments[idx];
        if segment.pending == 0 && !is_open {
            self.free += segment.len;
        }
    }

    pub(crate) fn drop_oldest(&mut self) -> Vec<Position> {
        let Some(idx) = self.segments.iter().position(|segment| segment.pending > 0) else {
            return Vec::new();
        };
        if self.is_open && idx + 1 == self.segments.len() {
            self.close_segment();
        }
        let segment = &mut self.segments[idx];
        let dropped: Vec<Position> =
            segment.waiting_all().map(|(sequence, points)| Position { sequence, points }).collect();
        for position in &dropped {
            segment.settle(position.sequence);
            self.acked.push(position.sequence);
        }
        self.settled(idx);
        dropped
    }

    /// The segment with the first batch from `sequence` on that may be waited for.
    pub(crate) fn view(&mut self, sequence: u64) -> Option<View> {
        self.seal();
        let segment =
            self.segments.iter().find(|segment| segment.pending > 0 && segment.end() > sequence)?;
        let chunks = self.chunks.iter().filter(|chunk| chunk.segment == segment.name.id);
        Some(View {
            name: segment.name,
            first: segment.first,
            end: segment.end(),
            durable: segment.durable,
            len: segment.len,
            chunks: chunks.cloned().collect(),
        })
    }

    /// The segments of one process that have a file, and how much of it is durable.
    pub(crate) fn files_of(&self, epoch: u64) -> Vec<(Name, u64)> {
        let of_epoch = self.segments.iter().filter(|segment| segment.name.epoch == epoch);
        of_epoch.map(|segment| (segment.name, segment.durable)).collect()
    }

    pub(crate) fn live_shape(&self, number: u64) -> Option<Arc<Shape>> {
        self.dictionary.live(number)
    }

    /// What a commit has to write. Also gives the last sequence that is durable with it.
    pub(crate) fn begin_commit(&mut self) -> (Vec<Chunk>, u64) {
        if (!self.acked.is_empty() || self.free > 0) && !self.is_open {
            self.begin_segment();
        }
        if !self.acked.is_empty() {
            let from = self.buffer.len();
            let mut acked = std::mem::take(&mut self.acked);
            acked.sort_unstable();
            let ranges: Vec<_> = acked
                .chunk_by(|a, b| a + 1 == *b)
                .map(|run| (run[0], run[run.len() - 1] + 1))
                .collect();
            put_acks(&mut self.buffer, &ranges);
            self.grown(from);
        }
        self.seal();
        self.forget_idle_chunks();
        (self.chunks.iter().cloned().collect(), self.next_sequence - 1)
    }

    /// What is in memory only, and whose every batch is settled, need not be written.
    fn forget_idle_chunks(&mut self) {
        let last = self.segments.back().map(|segment| segment.name.id);
        let is_open = self.is_open;
        let segments = &self.segments;
        self.chunks.retain(|chunk| {
            (is_open && Some(chunk.segment) == last)
                || segments
                    .iter()
                    .any(|segment| segment.name.id == chunk.segment && segment.pending > 0)
        });
        self.chunk_bytes = self.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
    }

    pub(crate) fn segment_mut(&mut self, id: u64) -> Option<&mut Segment> {
        let idx = self.segments.binary_search_by_key(&id, |segment| segment.name.id).ok()?;
        self.segments.get_mut(idx)
    }

    /// A chunk is durable, and everything of its segment before it.
    pub(crate) fn written(&mut self, chunk: &Chunk) {
        let (id, end) = (chunk.segment, chunk.end());
        if let Some(segment) = self.segment_mut(id) {
            segment.durable = end;
            segment.is_linked = true;
        }
        self.durable = self.durable.max(chunk.last);
        self.chunks.retain(|chunk| chunk.segment != id || chunk.end() > end);
        self.chunk_bytes = self.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
    }

    /// The disk did not take what a commit had to write. True when nobody waits for anything any more: all segments can
    /// go then, and no acknowledgement has to be written.
    pub(crate) fn write_failed(&mut self) -> bool {
        let is_idle = self.segments.iter().all(|segment| segment.pending == 0);
        // What comes from here on is in another file, so that this one can go, and make room, when it is delivered.
        let is_stuck = |segment: &Segment| segment.is_created && segment.pending > 0;
        if is_idle || self.segments.back().is_some_and(is_stuck) {
            self.close_segment();
        }
        if is_idle {
            self.acked.clear();
            self.forget_idle_chunks();
        }
        is_idle
    }

    /// Up to which sequence all batches that are waited for are durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    /// Batches after `sequence` that are waited for, and their points.
    pub(crate) fn waiting_after(&self, sequence: u64) -> (u64, u64) {
        let after = self.segments.iter().filter(|segment| segment.end() > sequence + 1);
        let waiting = after.flat_map(Segment::waiting_all).filter(|(at, _)| *at > sequence);
        waiting.fold((0, 0), |(batches, points), (_, more)| (batches + 1, points + u64::from(more)))
    }

    /// True when another segment needs the shapes of this one, which nobody waits for.
    fn is_held(&self, name: Name) -> bool {
        self.segments.iter().any(|segment| {
            segment.is_lacking && segment.pending > 0 && segment.name.epoch == name.epoch
        })
    }

    /// Bytes of such segments: none, unless there was damage.
    fn held(&self) -> u64 {
        if !self.segments.iter().any(|segment| segment.is_lacking) {
            return 0;
        }
        let idle = self.segments.iter().filter(|segment| segment.pending == 0);
        idle.filter(|segment| self.is_held(segment.name)).map(|segment| segment.len).sum()
    }

    /// A segment whose file can go: nobody waits for its batches, and its acknowledgements of other segments' batches
    /// are either said again in a later segment that is durable, or of batches that are gone before it.
    pub(crate) fn disposable(&self) -> Option<(Name, bool)> {
        let closed = self.segments.len() - usize::from(self.is_open);
        let is_said_again =
            self.is_open && self.segments.back().is_some_and(|segment| segment.durable > 0);
        for (idx, segment) in self.segments.iter().enumerate().take(closed) {
            let is_idle = segment.pending == 0 && (is_said_again || idx == 0);
            if is_idle && !self.is_held(segment.name) {
                return Some((segment.name, segment.is_created));
            }
        }
        None
    }

    /// The file of a segment is gone for good.
    pub(crate) fn removed(&mut self, id: u64) {
        if let Ok(idx) = self.segments.binary_search_by_key(&id, |segment| segment.name.id)
            && let Some(segment) = self.segments.remove(idx)
        {
            self.bytes -= segment.len;
            self.free -= segment.len;
        }
    }

    pub(crate) fn stats(&self) -> JournalStats {
        JournalStats {
            batches: self.segments.iter().map(|segment| segment.pending).sum(),
            points: self.segments.iter().map(|segment| segment.pending_points).sum(),
            bytes: self.bytes,
            buffered: self.buffered() as u64,
            segments: self.segments.len() as u64,
        }
    }
}

/// Appends a record of acknowledged ranges, ascending; none when there are none.
fn put_acks(out: &mut Vec<u8>, ranges: &[(u64, u64)]) {
    // A record has a limit of its own; a million ranges are far below it.
    for ranges in ranges.chunks(1 << 20) {
        let start = record::begin(out, Kind::Acks);
        put_varint(out, ranges.len() as u64);
        let mut at = 0;
        for (from, to) in ranges {
            put_varint(out, from - at);
            put_varint(out, to - from);
            at = *to;
        }
        let outcome = record::finish(out, start);
        debug_assert!(outcome.is_ok(), "a record of ranges is small");
    }
}

/// The ranges of a record of acknowledgements.
pub(crate) fn read_acks(payload: &[u8]) -> Result<Vec<(u64, u64)>, Malformed> {
    let mut from = Reader::new(payload);
    let n = from.count(2)?;
    let mut at: u64 = 0;
    (0..n)
        .map(|_| {
            let start = at.checked_add(from.varint()?).ok_or(Malformed)?;
            at = start.checked_add(from.varint()?).ok_or(Malformed)?;
            Ok((start, at))
        })
        .collect()
}
