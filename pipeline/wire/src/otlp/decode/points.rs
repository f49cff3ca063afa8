//! Data points, parsed where they lie. Field numbers: opentelemetry-proto, metrics/v1/metrics.proto.

use pipeline_model::{ExponentialBuckets, ExponentialPoint};

use super::Reason;
use super::attributes::Refusal;
use super::cursor::{Cursor, Fault, Field, Run};

/// `DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`.
const NO_RECORDED_VALUE: u64 = 1;

/// What points of every kind have.
#[derive(Debug, Default)]
pub(super) struct Head<'a> {
    message: &'a [u8],
    attributes: Run,
    exemplars: Run,
    /// Unix nanoseconds, 0 = unknown.
    pub(super) start: u64,
    /// Unix nanoseconds, 0 = unknown.
    pub(super) time: u64,
    flags: u64,
    /// True when the attributes were found to be the expected ones.
    pub(super) expected: bool,
}

impl<'a> Head<'a> {
    fn new(message: &'a [u8]) -> Self {
        Self { message, ..Self::default() }
    }

    /// The fields with the attributes, tags and all.
    #[inline]
    pub(super) fn attributes(&self) -> &[u8] {
        self.attributes.of(self.message)
    }

    /// The fields with the exemplars.
    #[inline]
    pub(super) fn exemplars(&self) -> &[u8] {
        self.exemplars.of(self.message)
    }

    #[inline]
    pub(super) fn has_exemplars(&self) -> bool {
        !self.exemplars.is_empty()
    }

    #[inline]
    pub(super) fn no_value(&self) -> bool {
        self.flags & NO_RECORDED_VALUE != 0
    }

    /// Skips the attributes if they are `expected`.
    #[inline]
    fn skip(&mut self, cursor: &mut Cursor<'a>, expected: &[u8]) {
        let from = cursor.pos();
        if self.attributes.is_empty() && !expected.is_empty() && cursor.skip(expected) {
            self.attributes.add(self.message, from, cursor.pos());
            self.expected = true;
        }
    }

    /// Adds the field from `from` to where the cursor is.
    #[inline]
    fn attribute(&mut self, from: usize, cursor: &Cursor<'a>) {
        self.attributes.add(self.message, from, cursor.pos());
        self.expected = false;
    }

    #[inline]
    fn exemplar(&mut self, from: usize, cursor: &Cursor<'a>) {
        self.exemplars.add(self.message, from, cursor.pos());
    }
}

/// A number as sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given {
    Double(f64),
    Int(i64),
}

/// `NumberDataPoint`.
#[derive(Debug)]
pub(super) struct NumberPoint<'a> {
    pub(super) head: Head<'a>,
    pub(super) value: Option<Given>,
}

impl<'a> NumberPoint<'a> {
    /// Parses `message`, whose attributes are probably `expected`.
    #[inline]
    pub(super) fn parse(message: &'a [u8], expected: &[u8]) -> Result<Self, Fault> {
        let mut head = Head::new(message);
        let mut value = None;
        let mut cursor = Cursor::new(message);
        loop {
            head.skip(&mut cursor, expected);
            let from = cursor.pos();
            let Some(field) = cursor.next()? else { break };
            match field {
                (2, Field::Fixed64(start)) => head.start = start,
                (3, Field::Fixed64(time)) => head.time = time,
                (4, Field::Fixed64(bits)) => value = Some(Given::Double(f64::from_bits(bits))),
                (5, Field::Bytes(_)) => head.exemplar(from, &cursor),
                (6, Field::Fixed64(bits)) => value = Some(Given::Int(bits.cast_signed())),
                (7, Field::Bytes(_)) => head.attribute(from, &cursor),
                (8, Field::Varint(flags)) => head.flags = flags,
                (2..=8, _) => return Err(cursor.wrong_type()),
                _ => {}
            }
        }
        Ok(Self { head, value })
    }
}

/// Packed numbers of eight bytes.
fn eights(bytes: &[u8]) -> impl Iterator<Item = [u8; 8]> {
    bytes.as_chunks::<8>().0.iter().copied()
}

/// `HistogramDataPoint`.
#[derive(Debug)]
pub(super) struct HistogramPoint<'a> {
    pub(super) head: Head<'a>,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    counts: Run,
    bounds: Run,
}

impl<'a> HistogramPoint<'a> {
    /// Parses `message`, whose attributes are probably `expected`.
    pub(super) fn parse(message: &'a [u8], expected: &[u8]) -> Result<Self, Fault> {
        let mut point = Self {
            head: Head::new(message),
            count: 0,
            sum: None,
            min: None,
            max: None,
            counts: Run::default(),
            bounds: Run::default(),
        };
        let mut cursor = Cursor::new(message);
        loop {
            point.head.skip(&mut cursor, expected);
            let from = cursor.pos();
            let Some(field) = cursor.next()? else { break };
            let to = cursor.pos();
            match field {
                (2, Field::Fixed64(start)) => point.head.start = start,
                (3, Field::Fixed64(time)) => point.head.time = time,
                (4, Field::Fixed64(count)) => point.count = count,
                (5, Field::Fixed64(bits)) => point.sum = Some(f64::from_bits(bits)),
                (6, Field::Bytes(packed)) if packed.len().is_multiple_of(8) => {
                    point.counts.add(message, to - packed.len(), to);
                }
                (6, Field::Fixed64(_)) => point.counts.add(message, to - 8, to),
                (7, Field::Bytes(packed)) if packed.len().is_multiple_of(8) => {
                    point.bounds.add(message, to - packed.len(), to);
                }
                (7, Field::Fixed64(_)) => point.bounds.add(message, to - 8, to),
                (8, Field::Bytes(_)) => point.head.exemplar(from, &cursor),
                (9, Field::Bytes(_)) => point.head.attribute(from, &cursor),
                (10, Field::Varint(flags)) => point.head.flags = flags,
                (11, Field::Fixed64(bits)) => point.min = Some(f64::from_bits(bits)),
                (12, Field::Fixed64(bits)) => point.max = Some(f64::from_bits(bits)),
                (6 | 7, Field::Bytes(_)) => return Err(cursor.fault("torn packed number")),
                (2..=12, _) => return Err(cursor.wrong_type()),
                _ => {}
            }
        }
        Ok(point)
    }

    /// The bounds as packed doubles.
    #[inline]
    pub(super) fn bounds(&self) -> &[u8] {
        self.bounds.of(self.head.message)
    }

    /// The count of each bucket, the one to +Inf last.
    pub(super) fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        eights(self.counts.of(self.head.message)).map(u64::from_le_bytes)
    }

    /// How many buckets.
    pub(super) fn counts_len(&self) -> usize {
        self.counts.of(self.head.message).len() / 8
    }
}

/// Packed doubles.
pub(super) fn doubles(packed: &[u8]) -> Vec<f64> {
    eights(packed).map(f64::from_le_bytes).collect()
}

/// `ExponentialHistogramDataPoint`.
#[derive(Debug)]
pub(super) struct ExponentialHistogramPoint<'a> {
    pub(super) head: Head<'a>,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) buckets: ExponentialPoint,
}

impl<'a> ExponentialHistogramPoint<'a> {
    /// Parses `message`, whose attributes are probably `expected`; no more than `buckets_max` buckets are decoded.
    pub(super) fn parse(
        message: &'a [u8],
        expected: &[u8],
        buckets_max: usize,
    ) -> Result<Self, Refusal> {
        let mut point = Self {
            head: Head::new(message),
            count: 0,
            sum: None,
            buckets: ExponentialPoint::default(),
        };
        let mut cursor = Cursor::new(message);
        let buckets = &mut point.buckets;
        let mut refused = None;
        loop {
            point.head.skip(&mut cursor, expected);
            let from = cursor.pos();
            let Some(field) = cursor.next()? else { break };
            match field {
                (1, Field::Bytes(_)) => point.head.attribute(from, &cursor),
                (2, Field::Fixed64(start)) => point.head.start = start,
                (3, Field::Fixed64(time)) => point.head.time = time,
                (4, Field::Fixed64(count)) => point.count = count,
                (5, Field::Fixed64(bits)) => point.sum = Some(f64::from_bits(bits)),
                (6, Field::Varint(scale)) => buckets.scale = zigzag(scale),
                (7, Field::Fixed64(count)) => buckets.zero_count = count as f64,
                (8, Field::Bytes(side)) => {
                    refused = one_side(side, &mut buckets.positive, buckets_max)?.or(refused);
                }
                (9, Field::Bytes(side)) => {
                    refused = one_side(side, &mut buckets.negative, buckets_max)?.or(refused);
                }
                (10, Field::Varint(flags)) => point.head.flags = flags,
                (11, Field::Bytes(_)) => point.head.exemplar(from, &cursor),
                (12, Field::Fixed64(bits)) => buckets.min = Some(f64::from_bits(bits)),
                (13, Field::Fixed64(bits)) => buckets.max = Some(f64::from_bits(bits)),
                (14, Field::Fixed64(bits)) => buckets.zero_threshold = f64::from_bits(bits),
                (1..=14, _) => return Err(cursor.wrong_type().into()),
                _ => {}
            }
        }
        // Only now: a malformed rest refuses the body.
        match refused {
            Some(reason) => Err(reason.into()),
            None => Ok(point),
        }
    }
}

/// A `sint32`; of a longer varint the low 32 bits count, as everywhere.
fn zigzag(value: u64) -> i32 {
    let value = value as u32;
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// `Buckets`, merged into `side`; a reason when they are too many or reach beyond any index.
fn one_side(
    message: &[u8],
    side: &mut ExponentialBuckets,
    buckets_max: usize,
) -> Result<Option<Reason>, Fault> {
    let mut found = side.counts.len();
    let mut count = |value: u64, counts: &mut Vec<f64>| {
        found += 1;
        if found <= buckets_max {
            counts.push(value as f64);
        }
    };
    let mut cursor = Cursor::new(message);
    while let Some(field) = cursor.next()? {
        match field {
            (1, Field::Varint(offset)) => side.offset = zigzag(offset),
            (2, Field::Varint(value)) => count(value, &mut side.counts),
            (2, Field::Bytes(packed)) => {
                let mut packed = Cursor::new(packed);
                while let Some(value) = packed.next_varint()? {
                    count(value, &mut side.counts);
                }
            }
            (1 | 2, _) => return Err(cursor.wrong_type()),
            _ => {}
        }
    }
    let last = i32::try_from(found).ok().and_then(|found| side.offset.checked_add(found));
    Ok((found > buckets_max || last.is_none()).then_some(Reason::Buckets))
}

/// `SummaryDataPoint`.
#[derive(Debug)]
pub(super) struct SummaryPoint<'a> {
    pub(super) head: Head<'a>,
    pub(super) count: u64,
    pub(super) sum: f64,
}

impl<'a> SummaryPoint<'a> {
    /// Parses `message`, whose attributes are probably `expected`. Packed quantiles and their values are left in
    /// `quantiles` and `values`.
    pub(super) fn parse(
        message: &'a [u8],
        expected: &[u8],
        quantiles: &mut Vec<u8>,
        values: &mut Vec<f64>,
    ) -> Result<Self, Fault> {
        quantiles.clear();
        values.clear();
        let mut point = Self { head: Head::new(message), count: 0, sum: 0.0 };
        let mut cursor = Cursor::new(message);
        loop {
            point.head.skip(&mut cursor, expected);
            let from = cursor.pos();
            let Some(field) = cursor.next()? else { break };
            match field {
                (2, Field::Fixed64(start)) => point.head.start = start,
                (3, Field::Fixed64(time)) => point.head.time = time,
                (4, Field::Fixed64(count)) => point.count = count,
                (5, Field::Fixed64(bits)) => point.sum = f64::from_bits(bits),
                (6, Field::Bytes(pair)) => {
                    let (quantile, value) = value_at_quantile(pair)?;
                    quantiles.extend_from_slice(&quantile.to_le_bytes());
                    values.push(value);
                }
                (7, Field::Bytes(_)) => point.head.attribute(from, &cursor),
                (8, Field::Varint(flags)) => point.head.flags = flags,
                (2..=8, _) => return Err(cursor.wrong_type()),
                _ => {}
            }
        }
        Ok(point)
    }
}

fn value_at_quantile(message: &[u8]) -> Result<(f64, f64), Fault> {
    let (mut quantile, mut value) = (0.0, 0.0);
    let mut cursor = Cursor::new(message);
    while let Some(field) = cursor.next()? {
        match field {
            (1, Field::Fixed64(bits)) => quantile = f64::from_bits(bits),
            (2, Field::Fixed64(bits)) => value = f64::from_bits(bits),
            (1 | 2, _) => return Err(cursor.wrong_type()),
            _ => {}
        }
    }
    Ok((quantile, value))
}

/// An `Exemplar`, its attributes undecoded.
#[derive(Debug, Default)]
pub(super) struct RawExemplar<'a> {
    /// The message, whose fields of number 7 are the attributes.
    pub(super) message: &'a [u8],
    pub(super) time: u64,
    pub(super) value: Option<f64>,
    pub(super) span: &'a [u8],
    pub(super) trace: &'a [u8],
}

impl<'a> RawExemplar<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, Fault> {
        let mut exemplar = Self { message, ..Self::default() };
        let mut cursor = Cursor::new(message);
        while let Some(field) = cursor.next()? {
            match field {
                (2, Field::Fixed64(time)) => exemplar.time = time,
                (3, Field::Fixed64(bits)) => exemplar.value = Some(f64::from_bits(bits)),
                (4, Field::Bytes(id)) => exemplar.span = id,
                (5, Field::Bytes(id)) => exemplar.trace = id,
                (6, Field::Fixed64(bits)) => exemplar.value = Some(bits.cast_signed() as f64),
                (2..=6, _) => return Err(cursor.wrong_type()),
                _ => {}
            }
        }
        Ok(exemplar)
    }
}
