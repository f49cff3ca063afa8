//! Numbers to bytes and back: what records are made of. Reading checks every length against what is left, so that a
//! record that lies costs neither a panic nor memory.

/// Bytes that do not say what they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Appends `value` in groups of seven bits, lowest first.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number; small ones of either sign are short.
#[inline]
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends eight bytes.
#[inline]
pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a double, bit by bit.
#[inline]
pub(crate) fn put_f64(out: &mut Vec<u8>, value: f64) {
    put_u64(out, value.to_bits());
}

/// Appends a count that is mostly a whole number: as such where that loses nothing.
pub(crate) fn put_count(out: &mut Vec<u8>, value: f64) {
    let whole = value as u64;
    if whole < 1 << 53 && (whole as f64).to_bits() == value.to_bits() {
        put_varint(out, whole << 1);
    } else {
        put_varint(out, 1);
        put_f64(out, value);
    }
}

/// Appends a length and that many bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends numbers as runs of equal ones, each as the difference to the one before: start times are mostly all the same.
pub(crate) fn put_runs(out: &mut Vec<u8>, values: &[i64]) {
    let mut previous = 0;
    for run in values.chunk_by(|a, b| a == b) {
        put_varint(out, run.len() as u64);
        put_signed(out, run[0].wrapping_sub(previous));
        previous = run[0];
    }
}

/// Reads what was appended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes that are left.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(8)?;
        bytes.try_into().map(u64::from_le_bytes).map_err(|_| Malformed)
    }

    pub(crate) fn f64(&mut self) -> Result<f64, Malformed> {
        self.u64().map(f64::from_bits)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                return Err(Malformed);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Malformed> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    pub(crate) fn signed32(&mut self) -> Result<i32, Malformed> {
        i32::try_from(self.signed()?).map_err(|_| Malformed)
    }

    /// How many things follow, each of at least `each` bytes.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, Malformed> {
        let n = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        if n > self.left() / each.max(1) { Err(Malformed) } else { Ok(n) }
    }

    /// An index, below `len`.
    pub(crate) fn index(&mut self, len: usize) -> Result<usize, Malformed> {
        let idx = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        if idx < len { Ok(idx) } else { Err(Malformed) }
    }

    /// What [`put_count`] wrote.
    pub(crate) fn whole(&mut self) -> Result<f64, Malformed> {
        let value = self.varint()?;
        if value & 1 == 1 { self.f64() } else { Ok((value >> 1) as f64) }
    }

    /// What [`put_bytes`] wrote.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.count(1)?;
        self.take(n)
    }

    /// What [`put_bytes`] wrote of a text.
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// What [`put_runs`] wrote: `n` numbers.
    pub(crate) fn runs(&mut self, n: usize) -> Result<Vec<i64>, Malformed> {
        let mut values = Vec::with_capacity(n);
        let mut previous: i64 = 0;
        while values.len() < n {
            let run = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
            if run == 0 || run > n - values.len() {
                return Err(Malformed);
            }
            previous = previous.wrapping_add(self.signed()?);
            values.resize(values.len() + run, previous);
        }
        Ok(values)
    }
}
