//! Records: the unit of writing, checking and losing. A segment file is a [`Header`] and records, each of
//!
//! ```text
//! mark 4 | length of the payload 4 | CRC-32 of length and payload 4 | payload
//! ```
//!
//! all little-endian; the first byte of a payload is its [`Kind`]. The mark is what a reader looks for when the CRC says
//! that the bytes before it are damaged, so that one bad record costs no other.

use std::io;

use memchr::memmem::Finder;

/// Begins a record. Neither text nor a usual double looks like it.
const MARK: [u8; 4] = [0xf5, 0xc1, 0x4a, 0x9e];

/// Bytes before a payload.
const FRAME: usize = 12;

/// Bytes of a payload at most: a length beyond it is damage.
pub(crate) const PAYLOAD_MAX: usize = 64 << 20;

/// Bytes that are read at a time.
const WINDOW: usize = 256 << 10;

/// Bytes that a bad sector takes with it.
const BLOCK: usize = 4096;

/// "Input/output error" of every Unix.
const EIO: i32 = 5;

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Rows that shapes share.
    Table = 1,
    /// A table and the groups of one source.
    Shape = 2,
    /// Start times that batches share.
    Starts = 3,
    /// A batch.
    Batch = 4,
    /// Sequences that are acknowledged.
    Acks = 5,
}

impl Kind {
    /// The kind of a payload, and what follows it.
    pub(crate) fn of(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (first, rest) = payload.split_first()?;
        let kind = match first {
            1 => Self::Table,
            2 => Self::Shape,
            3 => Self::Starts,
            4 => Self::Batch,
            5 => Self::Acks,
            _ => return None,
        };
        Some((kind, rest))
    }
}

/// Begins a record at the end of `out`; what is appended until [`finish`] is its payload.
pub(crate) fn begin(out: &mut Vec<u8>, kind: Kind) -> usize {
    let start = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[0; FRAME - 4]);
    out.push(kind as u8);
    start
}

/// Ends the record that [`begin`] began at `start`. A record that is too large is taken back, and its size given.
pub(crate) fn finish(out: &mut Vec<u8>, start: usize) -> Result<(), usize> {
    let payload = out.len() - start - FRAME;
    if payload > PAYLOAD_MAX {
        out.truncate(start);
        return Err(payload);
    }
    let length = (payload as u32).to_le_bytes();
    let crc = checksum(&length, &out[start + FRAME..]);
    out[start + 4..start + 8].copy_from_slice(&length);
    out[start + 8..start + FRAME].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

fn checksum(length: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(payload);
    hasher.finalize()
}

/// What a segment file begins with: 8 bytes of magic, version 4, first sequence 8, CRC-32 of these 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// Ours: every batch in it has this sequence or a later one.
    Known { first: u64 },
    /// Of a version that this program does not read.
    Foreign,
    /// None.
    Damaged,
}

/// The format that this program writes, and the only one it reads.
pub(crate) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"\x89IFMlog\n";

impl Header {
    /// Bytes of it.
    pub(crate) const BYTES: usize = 24;

    pub(crate) fn put(out: &mut Vec<u8>, version: u32, first: u64) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&first.to_le_bytes());
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    pub(crate) fn may_begin_with(bytes: &[u8]) -> bool {
        bytes.iter().zip(&MAGIC).all(|(a, b)| a == b)
    }

    pub(crate) fn read(bytes: &[u8]) -> Self {
        let Some((header, _)) = bytes.split_first_chunk::<{ Self::BYTES }>() else {
            return Self::Damaged;
        };
        let number = |range: std::ops::Range<usize>| {
            header[range].iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte))
        };
        if header[..8] != MAGIC || u64::from(crc32fast::hash(&header[..20])) != number(20..24) {
            return Self::Damaged;
        }
        if number(8..12) != u64::from(VERSION) {
            return Self::Foreign;
        }
        Self::Known { first: number(12..20) }
    }
}

/// Where a segment's bytes come from: its file, and memory for what is not written yet.
pub(crate) trait Bytes {
    /// Reads some bytes from `offset` on; 0 at the end.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// What [`Records::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A record; [`Records::payload`] is its payload.
    Record {
        /// Where it begins.
        offset: u64,
        /// Bytes of it, frame included.
        bytes: u64,
    },
    /// Bytes that are no record.
    Damaged {
        /// How many.
        bytes: u64,
    },
}

/// The records of a segment, one after the other.
pub(crate) struct Records<'a> {
    source: &'a dyn Bytes,
    /// Bytes in memory, and where they begin.
    window: Vec<u8>,
    base: u64,
    at: u64,
    end: u64,
    payload: (usize, usize),
    /// Bytes that may still be spent on checking what only looks like a record: values can be made to look so.
    budget: u64,
}

impl<'a> Records<'a> {
    /// Those from `at` up to `end`; `window` is memory to use.
    pub(crate) fn new(source: &'a dyn Bytes, at: u64, end: u64, mut window: Vec<u8>) -> Self {
        window.clear();
        Self { source, window, base: at, at, end, payload: (0, 0), budget: 4 * end + (1 << 20) }
    }

    /// Where the next record begins.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The memory, to be used again.
    pub(crate) fn into_window(mut self) -> Vec<u8> {
        if self.window.capacity() > 4 * WINDOW {
            self.window = Vec::new();
        }
        self.window
    }

    /// The payload of the last record.
    pub(crate) fn payload(&self) -> &[u8] {
        self.window.get(self.payload.0..self.payload.1).unwrap_or_default()
    }

    /// The bytes from `at` on, `n` of them or up to the end.
    pub(crate) fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        let at = self.at;
        let n = (n as u64).min(self.end.saturating_sub(at)) as usize;
        let start = self.ensure(at, n)?;
        Ok(&self.window[start..(start + n).min(self.window.len())])
    }

    /// Goes on by `n` bytes.
    pub(crate) fn skip(&mut self, n: u64) {
        self.at = (self.at + n).min(self.end);
    }

    /// The next record, or what lies before it.
    pub(crate) fn next(&mut self) -> io::Result<Option<Item>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let from = self.at;
        if let Some(bytes) = self.check(from)? {
            self.at = from + bytes;
            return Ok(Some(Item::Record { offset: from, bytes }));
        }
        let mut candidate = from;
        self.at = loop {
            match self.find_mark(candidate + 1)? {
                Some(found) if self.check(found)?.is_some() => break found,
                Some(found) => candidate = found,
                None => break self.end,
            }
            if self.budget == 0 {
                break self.end;
            }
        };
        Ok(Some(Item::Damaged { bytes: self.at - from }))
    }

    /// The length of the record at `offset`, if there is a whole one.
    fn check(&mut self, offset: u64) -> io::Result<Option<u64>> {
        let left = self.end - offset;
        if left < FRAME as u64 + 1 {
            return Ok(None);
        }
        let start = self.ensure(offset, FRAME)?;
        let Some((frame, _)) = self.window[start..].split_first_chunk::<FRAME>() else {
            return Ok(None);
        };
        let [m0, m1, m2, m3, l0, l1, l2, l3, c0, c1, c2, c3] = *frame;
        let payload = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let is_possible = [m0, m1, m2, m3] == MARK
            && (1..=PAYLOAD_MAX).contains(&payload)
            && (FRAME + payload) as u64 <= left;
        if !is_possible {
            return Ok(None);
        }
        let start = self.ensure(offset, FRAME + payload)? + FRAME;
        let Some(bytes) = self.window.get(start..start + payload) else { return Ok(None) };
        if checksum(&[l0, l1, l2, l3], bytes) != u32::from_le_bytes([c0, c1, c2, c3]) {
            self.budget = self.budget.saturating_sub(payload as u64);
            return Ok(None);
        }
        self.payload = (start, start + payload);
        Ok(Some((FRAME + payload) as u64))
    }

    /// Where the next mark is, from `offset` on.
    fn find_mark(&mut self, mut offset: u64) -> io::Result<Option<u64>> {
        let finder = Finder::new(&MARK);
        while offset + MARK.len() as u64 <= self.end {
            // What is in memory is searched before more is read, or many marks would mean many moves of the window.
            let start = self.ensure(offset, MARK.len())?;
            let have = &self.window[start..];
            if let Some(found) = finder.find(have) {
                return Ok(Some(offset + found as u64));
            }
            if have.len() < MARK.len() {
                break;
            }
            offset += (have.len() - MARK.len() + 1) as u64;
        }
        Ok(None)
    }

    /// Has `n` bytes from `offset` on in the window, unless the file is shorter than it was; gives where they begin.
    fn ensure(&mut self, offset: u64, n: usize) -> io::Result<usize> {
        let have = self.base + self.window.len() as u64;
        if offset >= self.base && offset + n as u64 <= have {
            return Ok((offset - self.base) as usize);
        }
        if offset >= self.base && offset <= have {
            self.window.drain(..(offset - self.base) as usize);
        } else {
            self.window.clear();
        }
        self.base = offset;
        let want = (n.max(WINDOW) as u64).min(self.end - offset) as usize;
        let mut filled = self.window.len();
        self.window.resize(want.max(filled), 0);
        while filled < want {
            match self.source.read_at(&mut self.window[filled..want], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(EIO) => {
                    filled += self.skip_bad_block(offset, filled, want);
                }
                Err(error) => {
                    self.window.truncate(filled);
                    return Err(error);
                }
            }
        }
        self.window.truncate(filled);
        Ok(0)
    }

    /// A sector that cannot be read must not keep the rest from being read: the block it may lie in reads as zeros,
    /// which is no record. Gives how many bytes to go on by.
    fn skip_bad_block(&mut self, offset: u64, filled: usize, want: usize) -> usize {
        let at = offset + filled as u64;
        let block = (BLOCK - (at % BLOCK as u64) as usize).min(want - filled);
        let out = &mut self.window[filled..filled + block];
        match self.source.read_at(out, at) {
            Ok(read) if read > 0 => read,
            _ => {
                out.fill(0);
                block
            }
        }
    }
}
