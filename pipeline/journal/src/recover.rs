//! Opening: what the files say is waited for. Nothing is changed on disk but that files of another version are renamed:
//! the first commit begins a segment of its own, since what comes after a torn end is not to be trusted.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use foldhash::HashMap;

use crate::api::{JournalSettings, OpenError, Recovered};
use crate::bytes::Reader;
use crate::codec::{BatchHead, ShapeHead, table_number};
use crate::fs::{DiskFile, FileSystem};
use crate::record::{Bytes, Header, Item, Kind, Records};
use crate::segment::{Name, Segment};
use crate::state::{State, read_acks};

/// Sequences beyond this are no sequences.
const SEQUENCE_MAX: u64 = u64::MAX / 4;

/// The shortest batch record: what sequences of one file can span at most follows from it.
const BATCH_MIN: u64 = 32;

/// Reads all segments in `dir`.
pub(crate) fn recover(
    files: &dyn FileSystem,
    dir: &Path,
    settings: JournalSettings,
) -> Result<(State, Recovered), OpenError> {
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |source| OpenError::Io { path, source }
    };
    let listed = files.list(dir).map_err(at(dir))?;
    let mut names: Vec<_> = listed.iter().filter_map(|file| Name::parse(file)).collect();
    names.sort_unstable();
    let next_segment = names.last().map_or(1, |(name, _)| name.id + 1);
    names.retain(|(_, is_aside)| !is_aside);
    let mut scan = Scan::default();
    for (name, _) in names {
        let path = name.path(dir);
        let file = files.open(&path).map_err(at(&path))?;
        if scan.segment(&*file, name).map_err(at(&path))? == Verdict::Foreign {
            let aside = name.aside(dir);
            files.rename(&path, &aside).map_err(at(&path))?;
            scan.recovered.set_aside.push(aside);
        }
    }
    // What a killed process wrote and did not sync is in the page cache only; from here on it counts as durable. Where
    // that fails there is nothing to be done that the next commit does not try.
    let _synced = files.sync_dir(dir);
    scan.drop_orphans();
    let mut recovered = scan.recovered;
    for segment in scan.segments.iter().filter(|segment| segment.pending > 0) {
        recovered.batches += segment.pending;
        recovered.points += segment.pending_points;
        recovered.bytes += segment.len;
    }
    let state = State::new(settings, scan.segments, next_segment, scan.next_sequence.max(1));
    Ok((state, recovered))
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ours,
    /// Of another version, or nothing of ours at all.
    Foreign,
}

impl Bytes for &dyn DiskFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(out, offset)
    }
}

#[derive(Default)]
struct Scan {
    segments: VecDeque<Segment>,
    next_sequence: u64,
    recovered: Recovered,
    /// Tables that were seen, and shapes with their tables, by the process that wrote them.
    tables: HashMap<(u64, u64), Seen>,
    shapes: HashMap<(u64, u64), (u64, Seen)>,
    /// Batches whose own segment lacks their shape: another may have it.
    orphans: Vec<Orphan>,
    window: Vec<u8>,
}

/// The last segment that something was seen in.
#[derive(Clone, Copy)]
struct Seen(u64);

/// A batch without a shape.
struct Orphan {
    shape: (u64, u64),
    segment: u64,
    sequence: u64,
    bytes: u64,
}

impl Scan {
    /// Whether there is a shape and its table: in `segment`, or in any.
    fn has_shape(&self, shape: (u64, u64), segment: Option<u64>) -> bool {
        let is_there = |seen: Seen| segment.is_none_or(|segment| seen.0 == segment);
        self.shapes.get(&shape).is_some_and(|(table, seen)| {
            is_there(*seen)
                && self.tables.get(&(shape.0, *table)).is_some_and(|seen| is_there(*seen))
        })
    }

    /// Batches whose shape nobody has are as good as damaged.
    fn drop_orphans(&mut self) {
        for orphan in std::mem::take(&mut self.orphans) {
            let idx =
                self.segments.binary_search_by_key(&orphan.segment, |segment| segment.name.id);
            let Ok(idx) = idx else { continue };
            if self.has_shape(orphan.shape, None) {
                self.segments[idx].is_lacking = true;
            } else if self.segments[idx].settle(orphan.sequence).is_some() {
                self.recovered.damaged_records += 1;
                self.recovered.damaged_bytes += orphan.bytes;
            }
        }
    }

    fn segment(&mut self, file: &dyn DiskFile, name: Name) -> io::Result<Verdict> {
        let len = file.length()?;
        let mut records = Records::new(&file, 0, len, std::mem::take(&mut self.window));
        let header = Header::read(records.peek(Header::BYTES)?);
        match header {
            Header::Foreign => return Ok(Verdict::Foreign),
            Header::Known { first } if first < SEQUENCE_MAX => {
                self.next_sequence = self.next_sequence.max(first);
            }
            Header::Known { .. } | Header::Damaged => {}
        }
        if header != Header::Damaged {
            records.skip(Header::BYTES as u64);
        }
        let before = (self.recovered.damaged_records, self.recovered.damaged_bytes);
        let mut segment = Segment::new(name, self.next_sequence);
        segment.len = len;
        segment.durable = len;
        segment.is_created = true;
        segment.is_linked = true;
        let mut n_good = 0;
        while let Some(item) = records.next()? {
            let (is_good, bytes) = match item {
                Item::Record { bytes, .. } => {
                    let is_good = self.record(&mut segment, records.payload(), bytes).is_some();
                    n_good += usize::from(is_good);
                    (is_good, bytes)
                }
                Item::Damaged { bytes } => (false, bytes),
            };
            if !is_good {
                self.recovered.damaged_records += 1;
                self.recovered.damaged_bytes += bytes;
            }
        }
        self.window = records.into_window();
        if header == Header::Damaged && n_good == 0 && is_foreign(file) {
            (self.recovered.damaged_records, self.recovered.damaged_bytes) = before;
            return Ok(Verdict::Foreign);
        }
        let _synced = file.sync();
        self.next_sequence = self.next_sequence.max(segment.end());
        self.segments.push_back(segment);
        Ok(Verdict::Ours)
    }

    /// Takes a record; `None` when it says nothing of use.
    fn record(&mut self, segment: &mut Segment, payload: &[u8], bytes: u64) -> Option<()> {
        let epoch = segment.name.epoch;
        let (kind, body) = Kind::of(payload)?;
        match kind {
            Kind::Table => {
                self.tables.insert((epoch, table_number(body)?), Seen(segment.name.id));
            }
            Kind::Shape => {
                let head = ShapeHead::read(&mut Reader::new(body)).ok()?;
                let seen = Seen(segment.name.id);
                self.shapes.insert((epoch, head.number), (head.table, seen));
            }
            Kind::Starts => {}
            Kind::Batch => {
                let head = BatchHead::read(&mut Reader::new(body)).ok()?;
                let is_first = segment.end() == segment.first;
                let first = if is_first { head.sequence } else { segment.first };
                let is_in_order = head.sequence >= segment.end().max(self.next_sequence)
                    && head.sequence < SEQUENCE_MAX
                    && (head.sequence - first) < segment.len / BATCH_MIN + 1;
                if !is_in_order {
                    return None;
                }
                segment.push(head.sequence, head.points);
                let shape = (epoch, head.shape);
                if !self.has_shape(shape, Some(segment.name.id)) {
                    let (segment, sequence) = (segment.name.id, head.sequence);
                    self.orphans.push(Orphan { shape, segment, sequence, bytes });
                }
            }
            Kind::Acks => self.acks(segment, body)?,
        }
        Some(())
    }

    fn acks(&mut self, current: &mut Segment, payload: &[u8]) -> Option<()> {
        for (from, to) in read_acks(payload).ok()? {
            if to > SEQUENCE_MAX {
                return None;
            }
            for segment in self.segments.iter_mut().chain(std::iter::once(&mut *current)) {
                for sequence in from.max(segment.first)..to.min(segment.end()) {
                    segment.settle(sequence);
                }
            }
            // Batches that were written and lost: their sequences are not to be used again.
            self.next_sequence = self.next_sequence.max(to);
        }
        Some(())
    }
}

/// Whether a file without a header and without a good record is somebody else's, or one that nobody can read. A power
/// cut or a full disk leaves files like that too, but with nothing or only the beginning of a header.
fn is_foreign(file: &dyn DiskFile) -> bool {
    let mut header = [0; Header::BYTES];
    match file.read_at(&mut header, 0) {
        Ok(_) => {
            let is_said = header.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            is_said == Header::BYTES || !Header::may_begin_with(&header[..is_said])
        }
        Err(_) => true,
    }
}
