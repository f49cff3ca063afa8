//! Reading back: batches that memory let go of, and those of earlier processes.

use std::io;

use pipeline_model::Batch;

use crate::api::{Chunk, Position};
use crate::bytes::Reader;
use crate::codec::{BatchHead, ReadDictionary};
use crate::fs::DiskFile;
use crate::journal::Journal;
use crate::record::{Bytes, Header, Item, Kind, Records};
use crate::state::View;

/// A place in a journal from which it is read on.
#[derive(Debug, Default)]
pub struct Cursor {
    /// The sequence that is wanted.
    next: u64,
    /// The segment that is read, and how far it was.
    segment: u64,
    offset: u64,
    file: Option<Box<dyn DiskFile>>,
    dictionary: ReadDictionary,
    /// The segment for which all others were searched for what it lacks.
    rescued: u64,
    window: Vec<u8>,
}

/// How a pass over a segment ended.
enum Pass {
    /// At its end, for now.
    End,
    /// Before it: enough was read.
    Enough,
    /// At the batch that was said to be the end.
    Until,
}

/// The bytes of a segment: what is durable comes from the file, the rest from memory.
struct Source<'a> {
    file: Option<&'a dyn DiskFile>,
    view: &'a View,
}

impl Bytes for Source<'_> {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset < self.view.durable {
            let n = (self.view.durable - offset).min(out.len() as u64) as usize;
            return self.file.map_or(Ok(0), |file| file.read_at(&mut out[..n], offset));
        }
        let found = self.view.chunks.iter().find(|chunk| chunk.end() > offset);
        let Some(chunk) = found.filter(|chunk| chunk.offset <= offset) else { return Ok(0) };
        let bytes = &chunk.bytes[(offset - chunk.offset) as usize..];
        let n = bytes.len().min(out.len());
        out[..n].copy_from_slice(&bytes[..n]);
        Ok(n)
    }
}

/// What is read in one call.
struct Wanted {
    until: u64,
    bytes_max: u64,
    bytes: u64,
    chunk: Chunk,
}

impl Journal {
    /// A cursor before the oldest batch.
    pub fn cursor(&self) -> Cursor {
        Cursor::default()
    }

    /// A cursor before `position`.
    pub fn cursor_at(&self, position: Position) -> Cursor {
        Cursor { next: position.sequence, ..Cursor::default() }
    }

    /// Reads on from `cursor`: batches that are not acknowledged and come before `until`, about `bytes_max` bytes of
    /// them and at least one. What is not committed yet is read too.
    ///
    /// # Errors
    /// When the disk refuses: the cursor stays, it is worth trying again later. Sectors that cannot be read are no
    /// error: their batches are lost.
    pub fn read(
        &self,
        cursor: &mut Cursor,
        until: Option<Position>,
        bytes_max: usize,
    ) -> io::Result<Chunk> {
        let until = until.map_or(u64::MAX, |until| until.sequence);
        let mut wanted =
            Wanted { until, bytes_max: bytes_max as u64, bytes: 0, chunk: Chunk::default() };
        loop {
            let view = if cursor.next < until { self.state().view(cursor.next) } else { None };
            let Some(view) = view else {
                wanted.chunk.is_end = true;
                return Ok(wanted.chunk);
            };
            let outcome = self.read_segment(cursor, &view, &mut wanted);
            match outcome {
                Ok(Pass::End) => {}
                Ok(Pass::Enough) => return Ok(wanted.chunk),
                Ok(Pass::Until) => {
                    wanted.chunk.is_end = true;
                    return Ok(wanted.chunk);
                }
                // What was read before the error is not to be read again.
                Err(_) if !wanted.chunk.batches.is_empty() || !wanted.chunk.lost.is_empty() => {
                    return Ok(wanted.chunk);
                }
                // Removed meanwhile, since nobody waits for it any more; or by somebody else.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.lose(cursor, view.end, &mut wanted);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn read_segment(
        &self,
        cursor: &mut Cursor,
        view: &View,
        wanted: &mut Wanted,
    ) -> io::Result<Pass> {
        if cursor.segment != view.name.id {
            cursor.segment = view.name.id;
            cursor.offset = 0;
            cursor.file = None;
            cursor.dictionary.begin_segment(view.name.id, view.name.epoch);
        }
        if cursor.file.is_none() && cursor.offset < view.durable {
            cursor.file = Some(self.files.open(&view.name.path(&self.dir))?);
        }
        cursor.next = cursor.next.max(view.first);
        let file = cursor.file.take();
        let source = Source { file: file.as_deref(), view };
        let mut records =
            Records::new(&source, cursor.offset, view.len, std::mem::take(&mut cursor.window));
        let outcome = self.read_records(cursor, view, &mut records, wanted);
        cursor.window = records.into_window();
        cursor.file = file;
        outcome
    }

    fn read_records(
        &self,
        cursor: &mut Cursor,
        view: &View,
        records: &mut Records<'_>,
        wanted: &mut Wanted,
    ) -> io::Result<Pass> {
        if records.at() == 0 && Header::read(records.peek(Header::BYTES)?) != Header::Damaged {
            records.skip(Header::BYTES as u64);
            cursor.offset = records.at();
        }
        while let Some(item) = records.next()? {
            if let Item::Record { bytes, .. } = item
                && let Some((kind, body)) = Kind::of(records.payload())
            {
                if kind == Kind::Batch {
                    let mut from = Reader::new(body);
                    if let Ok(head) = BatchHead::read(&mut from)
                        && (cursor.next..view.end).contains(&head.sequence)
                        && let Some(points) = self.waiting(head.sequence)
                    {
                        // One more record than fits is looked at, and read again next time.
                        if let Some(pass) = wanted.is_enough(head.sequence) {
                            return Ok(pass);
                        }
                        self.lose(cursor, head.sequence, wanted);
                        cursor.next = head.sequence + 1;
                        let position = Position { sequence: head.sequence, points };
                        let source = self.source(view.name.epoch, head.source);
                        if !cursor.dictionary.knows(head.shape) {
                            self.rescue(cursor, view);
                        }
                        match cursor.dictionary.batch(&head, &mut from, source) {
                            Ok(batch) => wanted.push(position, batch, bytes),
                            Err(_) => self.give_up(position, wanted),
                        }
                    }
                } else {
                    self.learn(cursor, view, kind, body);
                }
            }
            cursor.offset = records.at();
        }
        self.lose(cursor, view.end.min(wanted.until), wanted);
        Ok(Pass::End)
    }

    /// Takes a table, shape or start times. One that cannot be read is missed by the batches that need it: they are
    /// the ones to be counted.
    fn learn(&self, cursor: &mut Cursor, view: &View, kind: Kind, body: &[u8]) {
        let live = |number| {
            let state = self.state();
            (view.name.epoch == state.epoch()).then(|| state.live_shape(number))?
        };
        let _malformed = match kind {
            Kind::Table => cursor.dictionary.table(body, &self.interner),
            Kind::Shape => cursor.dictionary.shape(body, &self.interner, live),
            Kind::Starts => cursor.dictionary.start_times(body),
            Kind::Batch | Kind::Acks => Ok(()),
        };
    }

    /// A shape of this segment is damaged: most are written to many segments, so whatever the others of the same process
    /// have is taken. It is a search through all of them, and the only case in which one is made.
    fn rescue(&self, cursor: &mut Cursor, view: &View) {
        if std::mem::replace(&mut cursor.rescued, view.name.id) == view.name.id {
            return;
        }
        let files = self.state().files_of(view.name.epoch);
        // This one last: a shape in it may have waited for its table.
        let (own, others): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|(name, _)| *name == view.name);
        for (name, durable) in others.into_iter().chain(own) {
            let Ok(file) = self.files.open(&name.path(&self.dir)) else { continue };
            let file = &*file;
            let mut records = Records::new(&file, 0, durable, Vec::new());
            while let Ok(Some(item)) = records.next() {
                if matches!(item, Item::Record { .. })
                    && let Some((kind @ (Kind::Table | Kind::Shape), body)) =
                        Kind::of(records.payload())
                {
                    self.learn(cursor, view, kind, body);
                }
            }
        }
    }

    fn waiting(&self, sequence: u64) -> Option<u32> {
        self.state().waiting(sequence)
    }

    /// Batches from the cursor up to `end` that are waited for and were not found.
    fn lose(&self, cursor: &mut Cursor, end: u64, wanted: &mut Wanted) {
        for sequence in cursor.next..end {
            if let Some(points) = self.waiting(sequence) {
                self.give_up(Position { sequence, points }, wanted);
            }
        }
        cursor.next = cursor.next.max(end);
    }

    fn give_up(&self, position: Position, wanted: &mut Wanted) {
        if self.ack(position) {
            wanted.chunk.lost.push(position);
        }
    }
}

impl Wanted {
    fn push(&mut self, position: Position, batch: Batch, bytes: u64) {
        self.bytes += bytes;
        self.chunk.batches.push((position, batch));
    }

    fn is_enough(&self, sequence: u64) -> Option<Pass> {
        if sequence >= self.until {
            Some(Pass::Until)
        } else if self.bytes >= self.bytes_max && !self.chunk.batches.is_empty() {
            Some(Pass::Enough)
        } else {
            None
        }
    }
}
