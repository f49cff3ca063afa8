//! Where bytes go: as they are, or straight into Snappy's block format.
//!
//! Snappy is elements, each a few bytes as they are or a copy of bytes that came before. What repeats is known here
//! without looking for it: labels come from a dictionary that knows where each was last written, and series of the second
//! version are laid out like the one before. So the block is written in one pass, without a hash per four bytes.
//!
//! Format: <https://github.com/google/snappy/blob/main/format_description.txt>.

use super::put::varint;

/// How far back a copy of three bytes reaches.
const REACH: u64 = 1 << 16;
/// Bytes of a literal whose header is one byte.
const SHORT_LITERAL: usize = 60;
/// Bytes of a copy worth its element.
const RUN_MIN: usize = 6;

/// See the module.
pub(super) struct Sink {
    snappy: bool,
    out: Vec<u8>,
    /// Bytes that came in, over all requests: a position never comes twice.
    at: u64,
    /// `at` when the request began.
    base: u64,
    /// The open literal: where its header is, and its length; 0: none is open.
    literal: (usize, usize),
    /// The open copy: from where, and its length; 0: none is open.
    copy: (u64, u64),
    /// One more than the position where each label was last written.
    labels: Vec<u64>,
    previous: Previous,
    encoder: snap::raw::Encoder,
    head: Vec<u8>,
}

/// The message before, where it was written, and where in it its value is.
#[derive(Default)]
struct Previous {
    at: u64,
    value: usize,
    bytes: Vec<u8>,
}

impl Default for Sink {
    fn default() -> Self {
        Self {
            snappy: false,
            out: Vec::new(),
            at: 0,
            base: 0,
            literal: (0, 0),
            copy: (0, 0),
            labels: Vec::new(),
            previous: Previous::default(),
            encoder: snap::raw::Encoder::new(),
            head: Vec::new(),
        }
    }
}

impl Sink {
    /// Begins a request.
    pub(super) fn begin(&mut self, snappy: bool) {
        self.snappy = snappy;
        self.out.clear();
        self.base = self.at;
        (self.literal, self.copy) = ((0, 0), (0, 0));
        self.previous.bytes.clear();
    }

    /// Bytes of the request so far, before compression.
    pub(super) fn len(&self) -> u64 {
        self.at - self.base
    }

    /// Makes room for positions of `count` labels. Fewer than before: they are other labels.
    pub(super) fn know(&mut self, count: usize) {
        if count < self.labels.len() {
            self.labels.clear();
        }
        self.labels.resize(count, 0);
    }

    /// Writes bytes of which nothing is known.
    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let at = self.at;
        self.at += bytes.len() as u64;
        if bytes.is_empty() {
        } else if self.snappy {
            self.close_copy(at);
            self.literal(bytes);
        } else {
            self.out.extend_from_slice(bytes);
        }
    }

    /// Writes the label `id`, which is always these bytes.
    #[inline]
    pub(super) fn label(&mut self, id: u32, bytes: &[u8]) {
        let at = self.at;
        let Some(last) = self.labels.get_mut(id as usize) else { return self.put(bytes) };
        let from = std::mem::replace(last, at + 1);
        self.at += bytes.len() as u64;
        if !self.snappy {
            self.out.extend_from_slice(bytes);
        } else if from > self.base && at + 1 - from < REACH && bytes.len() >= 4 {
            self.copy_from(at, from - 1, bytes.len() as u64);
        } else {
            self.close_copy(at);
            self.literal(bytes);
        }
    }

    /// Writes a message that is probably much like the one before, but for the eight bytes of its value at `value`.
    pub(super) fn message(&mut self, message: &[u8], value: usize) {
        if !self.snappy {
            self.at += message.len() as u64;
            self.out.extend_from_slice(message);
            return;
        }
        let start = self.at;
        let Previous { at, value: value_before, mut bytes } = std::mem::take(&mut self.previous);
        if start - at + (bytes.len() as u64) < REACH {
            let (head, tail) = message.split_at_checked(value).unwrap_or((message, &[]));
            let (before, after) = bytes.split_at_checked(value_before).unwrap_or((&bytes, &[]));
            self.alike(head, at, before);
            let (number, tail) = tail.split_at_checked(8).unwrap_or((tail, &[]));
            let (number_before, after) = after.split_at_checked(8).unwrap_or((after, &[]));
            let at = at + before.len() as u64;
            if number == number_before {
                self.run(number, at);
            } else {
                self.put(number);
            }
            self.alike(tail, at + number_before.len() as u64, after);
        } else {
            self.put(message);
        }
        bytes.clear();
        bytes.extend_from_slice(message);
        self.previous = Previous { at: start, value, bytes };
    }

    /// Writes `bytes` as copies of `previous`, which was written at `was`, as far as front and end are the same.
    #[inline]
    fn alike(&mut self, bytes: &[u8], was: u64, previous: &[u8]) {
        let front = common(bytes, previous);
        let (same, rest) = bytes.split_at(front);
        self.run(same, was);
        let rest_before = previous.get(front..).unwrap_or_default();
        let end = common_end(rest, rest_before);
        let (other, same) = rest.split_at(rest.len() - end);
        self.put(other);
        self.run(same, was + (previous.len() - end) as u64);
    }

    /// Writes `bytes`, which stand at `from` already.
    #[inline]
    fn run(&mut self, bytes: &[u8], from: u64) {
        let (open, length) = self.copy;
        if bytes.len() >= RUN_MIN || (length > 0 && open + length == from) {
            self.copy_from(self.at, from, bytes.len() as u64);
            self.at += bytes.len() as u64;
        } else {
            self.put(bytes);
        }
    }

    /// Ends the request: `head` and what was written, coded, is appended to `out`.
    pub(super) fn end(&mut self, head: &[u8], out: &mut Vec<u8>) {
        if !self.snappy {
            out.extend_from_slice(head);
            out.extend_from_slice(&self.out);
            return;
        }
        self.close_copy(self.at);
        varint(out, head.len() as u64 + self.len());
        self.head.resize(snap::raw::max_compress_len(head.len()), 0);
        // Elements without the length in front; a head beyond 4 GiB, the one error, fits no request.
        let mut length = Vec::with_capacity(5);
        varint(&mut length, head.len() as u64);
        if let Ok(coded) = self.encoder.compress(head, &mut self.head) {
            out.extend_from_slice(self.head.get(length.len()..coded).unwrap_or_default());
        }
        out.extend_from_slice(&self.out);
    }

    fn literal(&mut self, bytes: &[u8]) {
        let (head, len) = self.literal;
        if len + bytes.len() <= SHORT_LITERAL {
            let head = if len == 0 { self.out.len() } else { head };
            if len == 0 {
                self.out.push(0);
            }
            self.out.extend_from_slice(bytes);
            let len = len + bytes.len();
            self.out[head] = ((len - 1) << 2) as u8;
            self.literal = (head, len);
            return;
        }
        self.literal = (0, 0);
        for chunk in bytes.chunks(REACH as usize) {
            let less = (chunk.len() - 1) as u16;
            if chunk.len() <= SHORT_LITERAL {
                self.out.push((less << 2) as u8);
            } else {
                self.out.push(61 << 2);
                self.out.extend_from_slice(&less.to_le_bytes());
            }
            self.out.extend_from_slice(chunk);
        }
    }

    /// `len` bytes at `at` are those at `from`; makes an open copy longer where it ends just there.
    #[inline]
    fn copy_from(&mut self, at: u64, from: u64, len: u64) {
        let (open, length) = self.copy;
        if length > 0 && open + length == from {
            self.copy.1 += len;
        } else {
            self.close_copy(at);
            self.literal = (0, 0);
            self.copy = (from, len);
        }
    }

    /// Writes the open copy, which ends at `at`.
    #[inline]
    fn close_copy(&mut self, at: u64) {
        let (from, mut len) = self.copy;
        if len == 0 {
            return;
        }
        let offset = (at - len - from) as u16;
        while len > 0 {
            // What is left after a full element is long enough for the short form.
            let part = if len > 67 {
                64
            } else if len > 64 {
                60
            } else {
                len
            };
            if offset < 2048 && (4..=11).contains(&part) {
                let head = 1 | (part as u16 - 4) << 2 | (offset >> 8) << 5;
                self.out.extend_from_slice(&[head as u8, offset as u8]);
            } else {
                let [low, high] = offset.to_le_bytes();
                self.out.extend_from_slice(&[2 | ((part - 1) << 2) as u8, low, high]);
            }
            len -= part;
        }
        self.copy.1 = 0;
    }
}

/// How many bytes two slices have in common at the front.
#[inline]
fn common(a: &[u8], b: &[u8]) -> usize {
    let mut same = 0;
    for (x, y) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return same + differ.trailing_zeros() as usize / 8;
        }
        same += 8;
    }
    let rest = a.iter().skip(same).zip(b.iter().skip(same));
    same + rest.take_while(|(x, y)| x == y).count()
}

/// The same at the end.
#[inline]
fn common_end(a: &[u8], b: &[u8]) -> usize {
    let mut same = 0;
    for (x, y) in a.as_rchunks::<8>().1.iter().rev().zip(b.as_rchunks::<8>().1.iter().rev()) {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return same + differ.leading_zeros() as usize / 8;
        }
        same += 8;
    }
    let rest = a.iter().rev().skip(same).zip(b.iter().rev().skip(same));
    same + rest.take_while(|(x, y)| x == y).count()
}
