//! [`Back`]: protobuf written from its end to its beginning.
//!
//! The length of a message stands before it, and is known once it is written: so everything is written last things
//! first, and no length needs a second pass or a guess.

/// Bytes of a buffer that are kept for the next request; a larger one is let go.
const KEPT_BYTES: usize = 4 << 20;

/// A buffer that grows towards its front.
#[derive(Debug, Default)]
pub(super) struct Back {
    buf: Vec<u8>,
    /// What is written is `buf[at..]`.
    at: usize,
}

impl Back {
    /// Empties it.
    pub(super) fn clear(&mut self) {
        if self.buf.len() > KEPT_BYTES {
            self.buf = Vec::new();
        }
        self.at = self.buf.len();
    }

    /// Bytes written so far: a mark for [`Back::close`].
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.buf.len() - self.at
    }

    /// Takes back what was written since `mark`.
    pub(super) fn drop_to(&mut self, mark: usize) {
        self.at = self.buf.len() - mark;
    }

    /// What is written.
    pub(super) fn written(&self) -> &[u8] {
        self.buf.get(self.at..).unwrap_or_default()
    }

    /// The next `len` bytes, to be filled.
    #[inline]
    pub(super) fn take(&mut self, len: usize) -> &mut [u8] {
        if self.at < len {
            self.grow(len);
        }
        let end = self.at;
        self.at -= len;
        &mut self.buf[self.at..end]
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        let used = self.len();
        let mut larger = vec![0; (self.buf.len() * 2).max(used + len).max(1 << 10)];
        let at = larger.len() - used;
        larger[at..].copy_from_slice(self.written());
        self.buf = larger;
        self.at = at;
    }

    /// Bytes as they are.
    #[inline]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.take(bytes.len()).copy_from_slice(bytes);
    }

    /// A varint.
    #[inline]
    pub(super) fn varint(&mut self, value: u64) {
        let len = varint_len(value);
        put_varint(self.take(len), value);
    }

    /// A field of wire type 0.
    #[inline]
    pub(super) fn varint_field(&mut self, tag: u8, value: u64) {
        self.varint(value);
        self.bytes(&[tag]);
    }

    /// A field of wire type 1.
    #[inline]
    pub(super) fn fixed_field(&mut self, tag: u8, value: u64) {
        put_fixed(self.take(9), tag, value);
    }

    /// A field of wire type 1 that holds a double.
    #[inline]
    pub(super) fn double_field(&mut self, tag: u8, value: f64) {
        self.fixed_field(tag, value.to_bits());
    }

    /// A field of wire type 2.
    pub(super) fn field(&mut self, tag: u8, bytes: &[u8]) {
        let mark = self.len();
        self.bytes(bytes);
        self.close(tag, mark);
    }

    /// A field of wire type 2, left out when empty.
    pub(super) fn text_field(&mut self, tag: u8, text: &str) {
        if !text.is_empty() {
            self.field(tag, text.as_bytes());
        }
    }

    /// Makes what was written since `mark` a field of wire type 2.
    #[inline]
    pub(super) fn close(&mut self, tag: u8, mark: usize) {
        self.varint((self.len() - mark) as u64);
        self.bytes(&[tag]);
    }
}

/// Bytes of a varint.
#[inline]
pub(super) fn varint_len(value: u64) -> usize {
    // Seven bits a byte, one byte at least.
    (((64 - (value | 1).leading_zeros()) * 9 + 64) / 64) as usize
}

/// Fills `out`, which has [`varint_len`] bytes.
#[inline]
pub(super) fn put_varint(out: &mut [u8], mut value: u64) {
    let last = out.len() - 1;
    for byte in &mut out[..last] {
        *byte = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
    }
    out[last] = value as u8;
}

/// Fills `out`, which has 9 bytes.
#[inline]
pub(super) fn put_fixed(out: &mut [u8], tag: u8, value: u64) {
    out[0] = tag;
    out[1..9].copy_from_slice(&value.to_le_bytes());
}

/// Zigzag: signed integers as unsigned ones that are small when these are near zero.
pub(super) fn zigzag(value: i32) -> u64 {
    u64::from(((value << 1) ^ (value >> 31)).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_as_short_as_can_be() {
        for shift in 0..64 {
            for value in [(1u64 << shift) - 1, 1 << shift, (1 << shift) + 1] {
                let mut back = Back::default();
                back.varint(value);
                let mut expected = Vec::new();
                prost::encoding::encode_varint(value, &mut expected);
                assert_eq!(back.written(), expected, "{value}");
            }
        }
    }

    #[test]
    fn growing_keeps_what_is_written() {
        let mut back = Back::default();
        let mut expected = Vec::new();
        for n in 0..5000u32 {
            back.bytes(&n.to_le_bytes());
            expected.splice(0..0, n.to_le_bytes());
        }
        assert_eq!(back.written(), expected);
        back.clear();
        assert_eq!(back.written(), b"");
    }
}
