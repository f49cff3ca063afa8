//! [`Cursor`]: the fields of a protobuf message, borrowed.
//!
//! It knows the wire format and no message. Groups, which proto3 does not have, are malformed.
//! Format: <https://protobuf.dev/programming-guides/encoding/>.

use super::ReadError;

/// Bytes that are not protobuf, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    /// The address: the walk deals in slices, and only the reader knows where the body starts.
    at: usize,
    what: &'static str,
}

impl Fault {
    /// With the offset in `body`.
    pub(super) fn locate(self, body: &[u8]) -> ReadError {
        let offset = self.at.checked_sub(body.as_ptr() as usize);
        // What lies in a merged copy of scattered parts has no offset.
        let offset = offset.filter(|offset| *offset <= body.len()).unwrap_or(0);
        ReadError::Protobuf { offset, what: self.what }
    }
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// OTLP metrics have none that is known.
    Fixed32,
}

/// Reads a message field by field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    message: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { message, pos: 0 }
    }

    /// Bytes read so far.
    #[inline]
    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    /// Skips `known` if it is what follows. The caller knows it to be whole fields.
    #[inline]
    pub(super) fn skip(&mut self, known: &[u8]) -> bool {
        // Most fields differ in the first byte, their tag.
        let rest = self.message.get(self.pos..).unwrap_or_default();
        let found = rest.first() == known.first() && rest.starts_with(known);
        if found {
            self.pos += known.len();
        }
        found
    }

    /// A fault at the last byte read.
    #[cold]
    pub(super) fn fault(&self, what: &'static str) -> Fault {
        Fault { at: self.message.as_ptr() as usize + self.pos, what }
    }

    /// The fault of a known field that has another wire type than it should.
    #[cold]
    pub(super) fn wrong_type(&self) -> Fault {
        self.fault("wrong wire type for a known field")
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Fault> {
        match self.message.get(self.pos) {
            Some(byte) if *byte < 0x80 => {
                self.pos += 1;
                Ok(u64::from(*byte))
            }
            Some(_) => self.long_varint(),
            None => Err(self.fault("truncated varint")),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let Some(byte) = self.message.get(self.pos).copied() else {
                return Err(self.fault("truncated varint"));
            };
            if shift == 63 && byte > 1 {
                break;
            }
            self.pos += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.fault("varint of more than 64 bits"))
    }

    #[inline]
    fn take(&mut self, len: u64) -> Result<&'a [u8], Fault> {
        let end = usize::try_from(len).ok().and_then(|len| self.pos.checked_add(len));
        let taken = end.and_then(|end| self.message.get(self.pos..end));
        let Some(taken) = taken else {
            return Err(self.fault("length beyond the end of the message"));
        };
        self.pos += taken.len();
        Ok(taken)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let rest = self.message.get(self.pos..).unwrap_or_default();
        let Some(bytes) = rest.first_chunk::<N>() else {
            return Err(self.fault("truncated number"));
        };
        self.pos += N;
        Ok(*bytes)
    }

    /// The next field and its number; `None` at the end of the message.
    ///
    /// # Errors
    /// When what follows is no field.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, Fault> {
        if self.pos >= self.message.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let Ok(number @ 1..=0x1fff_ffff) = u32::try_from(tag >> 3) else {
            return Err(self.fault("field number out of range"));
        };
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let len = self.varint()?;
                Field::Bytes(self.take(len)?)
            }
            5 => self.fixed::<4>().map(|_| Field::Fixed32)?,
            _ => return Err(self.fault("wire type that proto3 does not have")),
        };
        Ok(Some((number, field)))
    }

    /// The next packed varint; `None` at the end.
    ///
    /// # Errors
    /// When what follows is none.
    pub(super) fn next_varint(&mut self) -> Result<Option<u64>, Fault> {
        if self.pos >= self.message.len() {
            return Ok(None);
        }
        self.varint().map(Some)
    }
}

/// Parts of a message that belong together: the fields of one number, or their contents. Most lie side by side, and
/// are then borrowed; else they are copied together, which for protobuf means the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    start: usize,
    end: usize,
    copied: Vec<u8>,
}

impl Run {
    /// Adds the bytes from `from` to `to` of `message`.
    #[inline]
    pub(super) fn add(&mut self, message: &[u8], from: usize, to: usize) {
        if self.start == self.end {
            (self.start, self.end) = (from, to);
        } else if self.end == from && self.copied.is_empty() {
            self.end = to;
        } else {
            self.scattered(message, from, to);
        }
    }

    #[cold]
    fn scattered(&mut self, message: &[u8], from: usize, to: usize) {
        if self.copied.is_empty() {
            self.copied.extend_from_slice(message.get(self.start..self.end).unwrap_or_default());
        }
        self.copied.extend_from_slice(message.get(from..to).unwrap_or_default());
    }

    /// The bytes.
    #[inline]
    pub(super) fn of<'s>(&'s self, message: &'s [u8]) -> &'s [u8] {
        if self.copied.is_empty() {
            message.get(self.start..self.end).unwrap_or_default()
        } else {
            &self.copied
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }
}
