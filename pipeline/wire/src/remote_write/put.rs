//! Protobuf's pieces, written by hand: what a sample needs is a few bytes.

use pipeline_model::STALE_NAN_BITS;

use crate::prometheus::native::{Native, Side};

/// Appends a varint.
#[inline]
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of a varint.
#[inline]
pub(super) fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends a signed number, small where it is near zero.
fn zigzag(out: &mut Vec<u8>, value: i64) {
    varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends a field of bytes.
pub(super) fn bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a field of eight bytes.
pub(super) fn fixed(out: &mut Vec<u8>, tag: u8, bits: u64) {
    out.push(tag);
    out.extend_from_slice(&bits.to_le_bytes());
}

/// Appends a field that is a varint.
pub(super) fn number(out: &mut Vec<u8>, tag: u8, value: u64) {
    out.push(tag);
    varint(out, value);
}

/// Appends a field that `write` fills, of at most 2^14 - 1 bytes mostly; longer ones are moved once.
pub(super) fn message(out: &mut Vec<u8>, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let at = out.len();
    out.push(0);
    write(out);
    let len = out.len() - at - 1;
    if len < 0x80 {
        out[at] = len as u8;
        return;
    }
    let mut head = Vec::with_capacity(10);
    varint(&mut head, len as u64);
    out.splice(at..=at, head);
}

/// When a sample is, as its message's tail: `timestamp` and, where given, `start_timestamp`. Mostly the same from one
/// sample to the next.
#[derive(Debug, Default)]
pub(super) struct Moment {
    ms: i64,
    start: i64,
    tail: Vec<u8>,
}

impl Moment {
    /// Becomes this time; `start` 0 is none. Unix milliseconds.
    #[inline]
    pub(super) fn set(&mut self, ms: i64, start: i64) {
        if self.tail.is_empty() || (self.ms, self.start) != (ms, start) {
            (self.ms, self.start) = (ms, start);
            self.tail.clear();
            number(&mut self.tail, 0x10, ms.cast_unsigned());
            if start != 0 {
                number(&mut self.tail, 0x18, start.cast_unsigned());
            }
        }
    }

    /// Appends field 2 of a series: one `Sample`. `zero`: it says its value even where that is nothing, which protobuf
    /// leaves out; messages of one layout are worth more to Snappy than nine bytes.
    #[inline]
    pub(super) fn sample(&self, out: &mut Vec<u8>, bits: u64, zero: bool) {
        let mut sample = [0u8; 40];
        sample[0] = 0x12;
        let value = if bits == 0 && !zero {
            0
        } else {
            sample[2] = 0x09;
            sample[3..11].copy_from_slice(&bits.to_le_bytes());
            9
        };
        let (from, to) = (2 + value, 2 + value + self.tail.len());
        sample[1] = (to - 2) as u8;
        sample[from..to].copy_from_slice(&self.tail);
        out.extend_from_slice(&sample[..to]);
    }
}

/// Appends the fields of a native histogram; both versions have the same. `sum` by its bits.
pub(super) fn histogram(out: &mut Vec<u8>, native: &Native, sum: u64, ms: i64, start: i64) {
    if native.whole {
        number(out, 0x08, native.count as u64);
    } else {
        fixed(out, 0x11, native.count.to_bits());
    }
    fixed(out, 0x19, sum);
    out.push(0x20);
    zigzag(out, i64::from(native.schema));
    fixed(out, 0x29, native.zero_threshold.to_bits());
    if native.whole {
        number(out, 0x30, native.zero_count as u64);
    } else {
        fixed(out, 0x39, native.zero_count.to_bits());
    }
    side(out, &native.negative, native.whole, [0x42, 0x4a, 0x52]);
    side(out, &native.positive, native.whole, [0x5a, 0x62, 0x6a]);
    moment(out, ms, start);
}

/// Appends the fields of a histogram that says that its series has ended.
pub(super) fn stale_histogram(out: &mut Vec<u8>, ms: i64) {
    number(out, 0x08, 0);
    fixed(out, 0x19, STALE_NAN_BITS);
    moment(out, ms, 0);
}

fn moment(out: &mut Vec<u8>, ms: i64, start: i64) {
    number(out, 0x78, ms.cast_unsigned());
    if start != 0 {
        // Field 17: the first whose tag takes two bytes.
        out.push(0x88);
        number(out, 0x01, start.cast_unsigned());
    }
}

fn side(out: &mut Vec<u8>, side: &Side, whole: bool, [spans, deltas, counts]: [u8; 3]) {
    for (offset, length) in &side.spans {
        message(out, spans, |out| {
            if *offset != 0 {
                out.push(0x08);
                zigzag(out, i64::from(*offset));
            }
            if *length != 0 {
                number(out, 0x10, u64::from(*length));
            }
        });
    }
    if side.counts.is_empty() {
    } else if whole {
        message(out, deltas, |out| side.deltas().for_each(|delta| zigzag(out, delta)));
    } else {
        message(out, counts, |out| {
            side.counts
                .iter()
                .for_each(|count| out.extend_from_slice(&count.to_bits().to_le_bytes()));
        });
    }
}
