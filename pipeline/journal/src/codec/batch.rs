//! Batches: the head that the journal itself needs, then start times, marks, values and extras. Slots of absent rows mean
//! nothing and are not written: a request of ten points to a source of a thousand series takes the room of ten.

use std::ops::Range;
use std::sync::Arc;

use pipeline_model::{
    Batch, Exemplar, ExponentialBuckets, ExponentialPoint, Extras, Mark, RowId, Shape, Slot,
    SourceId, Str,
};

use super::StartsRef;
use super::texts::{ReadTexts, put_with_texts};
use crate::bytes::{
    Malformed, Reader, put_count, put_f64, put_runs, put_signed, put_u64, put_varint,
};

const ENDED: u8 = 1;
const MARKS: u8 = 2;
const STARTS_KNOWN: u8 = 4;
const STARTS_INLINE: u8 = 8;
const TIMES: u8 = 16;
const EXPONENTIALS: u8 = 32;
const EXEMPLARS: u8 = 64;

/// What a batch record says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHead {
    pub(crate) sequence: u64,
    pub(crate) points: u32,
    /// The source's number in the process that wrote it.
    pub(crate) source: u64,
    /// The shape's.
    pub(crate) shape: u64,
}

impl BatchHead {
    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            sequence: from.varint()?,
            points: u32::try_from(from.varint()?).map_err(|_| Malformed)?,
            source: from.u64()?,
            shape: from.varint()?,
        })
    }
}

/// Appends `batch`, whose shape the segment knows.
pub(crate) fn put_batch(
    out: &mut Vec<u8>,
    sequence: u64,
    points: u32,
    starts: &StartsRef,
    batch: &Batch,
) {
    put_varint(out, sequence);
    put_varint(out, u64::from(points));
    put_u64(out, batch.source.get());
    put_varint(out, batch.shape.id());
    put_u64(out, batch.time.cast_unsigned());
    let extras = batch.extras.as_deref();
    let times = extras.and_then(|extras| extras.times.as_deref());
    let exponentials = extras.map_or(&[][..], |extras| &extras.exponentials);
    let exemplars = extras.map_or(&[][..], |extras| &extras.exemplars);
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let starts_flag = match starts {
        StartsRef::None => 0,
        StartsRef::Known(_) => STARTS_KNOWN,
        StartsRef::Inline(_) => STARTS_INLINE,
    };
    out.push(
        starts_flag
            | flag(batch.ended, ENDED)
            | flag(batch.marks.is_some(), MARKS)
            | flag(times.is_some(), TIMES)
            | flag(!exponentials.is_empty(), EXPONENTIALS)
            | flag(!exemplars.is_empty(), EXEMPLARS),
    );
    match starts {
        StartsRef::None => {}
        StartsRef::Known(number) => put_varint(out, *number),
        StartsRef::Inline(bytes) => out.extend_from_slice(bytes),
    }
    match &batch.marks {
        None => put_slots(out, &batch.values),
        Some(marks) => {
            put_marks(out, marks);
            for (rows, mark) in runs_of(marks) {
                if mark != Mark::Absent {
                    put_slots(
                        out,
                        batch.values.get(slots_of(&batch.shape, rows)).unwrap_or_default(),
                    );
                }
            }
        }
    }
    if let Some(times) = times {
        put_varint(out, times.len() as u64);
        put_runs(out, times);
    }
    if !exponentials.is_empty() {
        put_varint(out, exponentials.len() as u64);
        exponentials.iter().for_each(|(row, point)| put_exponential(out, *row, point));
    }
    if !exemplars.is_empty() {
        put_exemplars(out, exemplars);
    }
}

fn put_slots(out: &mut Vec<u8>, slots: &[Slot]) {
    let start = out.len();
    out.resize(start + slots.len() * 8, 0);
    for (bytes, slot) in out[start..].chunks_exact_mut(8).zip(slots) {
        bytes.copy_from_slice(&slot.as_int().to_le_bytes());
    }
}

/// Runs of rows with one mark.
fn runs_of(marks: &[Mark]) -> impl Iterator<Item = (Range<usize>, Mark)> {
    let mut at = 0;
    marks.chunk_by(|a, b| a == b).map(move |run| {
        let rows = at..at + run.len();
        at = rows.end;
        (rows, run[0])
    })
}

fn slots_of(shape: &Shape, rows: Range<usize>) -> Range<usize> {
    if rows.is_empty() {
        return 0..0;
    }
    shape.slots_of(rows.start as RowId).start..shape.slots_of(rows.end as RowId - 1).end
}

fn put_marks(out: &mut Vec<u8>, marks: &[Mark]) {
    for (rows, mark) in runs_of(marks) {
        put_varint(out, (rows.len() as u64) << 2 | mark as u64);
    }
}

fn put_exponential(out: &mut Vec<u8>, row: RowId, point: &ExponentialPoint) {
    put_varint(out, u64::from(row));
    put_signed(out, i64::from(point.scale));
    put_count(out, point.zero_count);
    put_f64(out, point.zero_threshold);
    for buckets in [&point.positive, &point.negative] {
        put_signed(out, i64::from(buckets.offset));
        put_varint(out, buckets.counts.len() as u64);
        buckets.counts.iter().for_each(|count| put_count(out, *count));
    }
    for end in [point.min, point.max] {
        out.push(u8::from(end.is_some()));
        if let Some(value) = end {
            put_f64(out, value);
        }
    }
}

fn put_exemplars(out: &mut Vec<u8>, exemplars: &[Exemplar]) {
    put_with_texts(out, |out, texts| {
        put_varint(out, exemplars.len() as u64);
        for exemplar in exemplars {
            put_varint(out, u64::from(exemplar.row));
            put_f64(out, exemplar.value);
            put_u64(out, exemplar.time.cast_unsigned());
            texts.put_labels(out, &exemplar.labels);
        }
    });
}

/// What follows the head. `starts_of` knows start times by number; unknown ones are left out, since a batch is worth more
/// than when its series began.
pub(super) fn read_batch(
    from: &mut Reader<'_>,
    source: SourceId,
    shape: &Arc<Shape>,
    starts_of: impl Fn(u64) -> Option<Arc<Vec<i64>>>,
) -> Result<Batch, Malformed> {
    let time = from.u64()?.cast_signed();
    let flags = from.u8()?;
    let starts = if flags & STARTS_KNOWN != 0 {
        starts_of(from.varint()?)
    } else if flags & STARTS_INLINE != 0 {
        Some(Arc::new(read_starts(from, shape.len())?))
    } else {
        None
    };
    let mut values = Vec::new();
    let mut marks = None;
    if flags & MARKS == 0 {
        read_slots(from, shape.slots(), &mut values)?;
    } else {
        let read = read_marks(from, shape.len())?;
        values.reserve_exact(shape.slots());
        for (rows, mark) in runs_of(&read) {
            let slots = slots_of(shape, rows).len();
            if mark == Mark::Absent {
                values.resize(values.len() + slots, Slot::default());
            } else {
                read_slots(from, slots, &mut values)?;
            }
        }
        marks = Some(Arc::new(read));
    }
    let extras = read_extras(from, flags, shape)?;
    Ok(Batch {
        source,
        shape: Arc::clone(shape),
        time,
        starts,
        values: Arc::new(values),
        marks,
        extras: extras.map(Arc::new),
        ended: flags & ENDED != 0,
    })
}

/// Start times: how many, at most `rows`, and the times.
pub(super) fn read_starts(from: &mut Reader<'_>, rows: usize) -> Result<Vec<i64>, Malformed> {
    let n = from.index(rows + 1)?;
    from.runs(n)
}

fn read_slots(from: &mut Reader<'_>, n: usize, values: &mut Vec<Slot>) -> Result<(), Malformed> {
    let bytes = from.take(n.checked_mul(8).ok_or(Malformed)?)?;
    values.extend(bytes.as_chunks::<8>().0.iter().map(|slot| Slot::int(i64::from_le_bytes(*slot))));
    Ok(())
}

fn read_marks(from: &mut Reader<'_>, rows: usize) -> Result<Vec<Mark>, Malformed> {
    let mut marks = Vec::with_capacity(rows);
    while marks.len() < rows {
        let run = from.varint()?;
        let mark = match run & 3 {
            0 => Mark::Present,
            1 => Mark::Absent,
            2 => Mark::Stale,
            _ => return Err(Malformed),
        };
        let n = usize::try_from(run >> 2).map_err(|_| Malformed)?;
        if n == 0 || n > rows - marks.len() {
            return Err(Malformed);
        }
        marks.resize(marks.len() + n, mark);
    }
    Ok(marks)
}

fn read_extras(
    from: &mut Reader<'_>,
    flags: u8,
    shape: &Shape,
) -> Result<Option<Extras>, Malformed> {
    if flags & (TIMES | EXPONENTIALS | EXEMPLARS) == 0 {
        return Ok(None);
    }
    let mut extras = Extras::default();
    if flags & TIMES != 0 {
        extras.times = Some(read_starts(from, shape.len())?);
    }
    if flags & EXPONENTIALS != 0 {
        let n = from.count(10)?;
        extras.exponentials =
            (0..n).map(|_| read_exponential(from, shape)).collect::<Result<_, _>>()?;
    }
    if flags & EXEMPLARS != 0 {
        let texts = ReadTexts::read(from, Str::new)?;
        let n = from.count(18)?;
        let exemplars = (0..n).map(|_| {
            Ok(Exemplar {
                row: from.index(shape.len())? as RowId,
                value: from.f64()?,
                time: from.u64()?.cast_signed(),
                labels: texts.labels(from)?,
            })
        });
        extras.exemplars = exemplars.collect::<Result<_, Malformed>>()?;
    }
    Ok(Some(extras))
}

fn read_exponential(
    from: &mut Reader<'_>,
    shape: &Shape,
) -> Result<(RowId, ExponentialPoint), Malformed> {
    let row = from.index(shape.len())? as RowId;
    let mut point = ExponentialPoint {
        scale: from.signed32()?,
        zero_count: from.whole()?,
        zero_threshold: from.f64()?,
        ..ExponentialPoint::default()
    };
    for buckets in [&mut point.positive, &mut point.negative] {
        let offset = from.signed32()?;
        let n = from.count(1)?;
        let counts = (0..n).map(|_| from.whole()).collect::<Result<_, _>>()?;
        *buckets = ExponentialBuckets { offset, counts };
    }
    for end in [&mut point.min, &mut point.max] {
        *end = if from.u8()? != 0 { Some(from.f64()?) } else { None };
    }
    Ok((row, point))
}
