//! [`Batch`]: one moment of one source: a shape and a column of values.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{ExponentialPoint, Labels, RowId, Shape};

/// Prometheus' staleness marker: a NaN with these bits says that the series has ended.
/// Source: Prometheus, model/value.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Eight bytes of value: a double or, for rows of [`crate::Number::Int`], a signed integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Slot(u64);

impl Slot {
    /// A double.
    #[inline]
    pub fn double(value: f64) -> Self {
        Self(value.to_bits())
    }

    /// An integer.
    #[inline]
    pub fn int(value: i64) -> Self {
        Self(value.cast_unsigned())
    }

    /// Read as a double.
    #[inline]
    pub fn as_double(self) -> f64 {
        f64::from_bits(self.0)
    }

    /// Read as an integer.
    #[inline]
    pub fn as_int(self) -> i64 {
        self.0.cast_signed()
    }
}

/// Who a batch comes from: one scrape target, one OTLP stream, one derived stream. Two batches of one source are
/// two moments of the same thing; a series that the next shape of a source lacks has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(u64);

impl SourceId {
    /// A new id, unique in this process.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The id of a stream made from this one: the same `tag` gives the same id. Pipelines use it, so that two
    /// pipelines fed by one receiver are two sources to the exporter that both feed.
    pub fn derive(self, tag: u64) -> Self {
        // splitmix64's finaliser: a bijection of 64 bits, so distinct inputs collide only by the addition.
        let mut z = self.0.wrapping_add(tag.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((z ^ (z >> 31)) | 1 << 63)
    }

    /// The raw number, for sharding.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The id whose raw number [`SourceId::get`] gave, in this process: another process' numbers mean nothing here.
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }
}

/// What a row of a batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Mark {
    /// It has a value.
    #[default]
    Present,
    /// Nothing this time: its slots mean nothing, its last value stands.
    Absent,
    /// It has ended: said once, then it is absent or gone from the shape.
    Stale,
}

/// Start times per row, Unix nanoseconds; 0 = unknown. Shared from batch to batch while unchanged.
pub type Starts = Arc<Vec<i64>>;

/// An exemplar: one observation of a row, with the trace it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// The row it belongs to.
    pub row: RowId,
    /// The observed value.
    pub value: f64,
    /// Unix nanoseconds; 0 = unknown.
    pub time: i64,
    /// `trace_id`, `span_id` and filtered attributes.
    pub labels: Labels,
}

/// What only few batches have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extras {
    /// Time per row, Unix nanoseconds, where the source gave each point its own; 0 = the batch's.
    pub times: Option<Vec<i64>>,
    /// Points of rows of [`crate::Kind::ExponentialHistogram`], ascending by row.
    pub exponentials: Vec<(RowId, ExponentialPoint)>,
    /// Exemplars, ascending by row.
    pub exemplars: Vec<Exemplar>,
}

impl Extras {
    /// The exponential point of `row`.
    pub fn exponential(&self, row: RowId) -> Option<&ExponentialPoint> {
        let idx = self.exponentials.binary_search_by_key(&row, |(r, _)| *r).ok()?;
        Some(&self.exponentials[idx].1)
    }
}

/// One moment of one source. Cheap to clone: everything large is shared.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Where it comes from.
    pub source: SourceId,
    /// Which series, in which slots.
    pub shape: Arc<Shape>,
    /// When, Unix nanoseconds.
    pub time: i64,
    /// Start times per row, if any is known.
    pub starts: Option<Starts>,
    /// `shape.slots()` values.
    pub values: Arc<Vec<Slot>>,
    /// One per row; `None` when every row is present.
    pub marks: Option<Arc<Vec<Mark>>>,
    /// Exponential histograms, exemplars, times of their own.
    pub extras: Option<Arc<Extras>>,
    /// True on a source's last batch: whoever keeps state for it may let go.
    pub ended: bool,
}

impl Batch {
    /// A batch in which every row is present.
    pub fn new(source: SourceId, shape: Arc<Shape>, time: i64, values: Vec<Slot>) -> Self {
        debug_assert_eq!(values.len(), shape.slots(), "a batch fills its shape");
        Self {
            source,
            shape,
            time,
            starts: None,
            values: Arc::new(values),
            marks: None,
            extras: None,
            ended: false,
        }
    }

    /// The last batch of a source: every row stale.
    pub fn end(source: SourceId, shape: Arc<Shape>, time: i64) -> Self {
        let marks = vec![Mark::Stale; shape.len()];
        let values = vec![Slot::double(f64::from_bits(STALE_NAN_BITS)); shape.slots()];
        Self { marks: Some(Arc::new(marks)), ended: true, ..Self::new(source, shape, time, values) }
    }

    /// What `row` says.
    #[inline]
    pub fn mark(&self, row: RowId) -> Mark {
        self.marks.as_ref().and_then(|marks| marks.get(row as usize)).copied().unwrap_or_default()
    }

    /// The slots of `row`.
    #[inline]
    pub fn point(&self, row: RowId) -> &[Slot] {
        self.values.get(self.shape.slots_of(row)).unwrap_or_default()
    }

    /// Start time of `row`, Unix nanoseconds; 0 = unknown.
    #[inline]
    pub fn start(&self, row: RowId) -> i64 {
        self.starts.as_ref().and_then(|starts| starts.get(row as usize)).copied().unwrap_or(0)
    }

    /// Time of `row`, Unix nanoseconds.
    #[inline]
    pub fn time_of(&self, row: RowId) -> i64 {
        let own = self
            .extras
            .as_ref()
            .and_then(|extras| extras.times.as_ref()?.get(row as usize).copied());
        own.filter(|time| *time != 0).unwrap_or(self.time)
    }

    /// Rows that have a value: what self telemetry counts as points.
    pub fn points(&self) -> usize {
        match &self.marks {
            None => self.shape.len(),
            Some(marks) => marks.iter().filter(|mark| **mark == Mark::Present).count(),
        }
    }

    /// Bytes this batch holds beyond what it shares with its shape: what a queue accounts for.
    pub fn bytes(&self) -> usize {
        let extras = self.extras.as_ref().map_or(0, |extras| {
            extras.times.as_ref().map_or(0, |times| times.len() * 8)
                + extras.exemplars.len() * size_of::<Exemplar>()
                + extras
                    .exponentials
                    .iter()
                    .map(|(_, p)| {
                        size_of_val(p) + 8 * (p.positive.counts.len() + p.negative.counts.len())
                    })
                    .sum::<usize>()
        });
        size_of::<Self>()
            + self.values.len() * 8
            + self.marks.as_ref().map_or(0, |marks| marks.len())
            + extras
    }
}
