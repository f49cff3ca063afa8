//! Points into the slots of a column.

use std::fmt::Write as _;

use pipeline_model::{Exemplar, Label, Labels, RowId, Slot, Str, Value};

use super::attributes::{Decoder, Refusal};
use super::cursor::{Cursor, Fault, Field};
use super::known::Place;
use super::points::{
    ExponentialHistogramPoint, Given, Head, HistogramPoint, NumberPoint, RawExemplar, SummaryPoint,
};
use super::source::Column;
use super::vocabulary::Form;

/// A number; an integer of a series that has had doubles becomes one.
#[inline]
pub(super) fn number(
    column: &mut Column,
    place: Place,
    point: &NumberPoint<'_>,
    decoder: &Decoder<'_>,
) -> Result<(), Fault> {
    if point.head.no_value() {
        column.stale(place.row, place.slot, 1);
        return Ok(());
    }
    let slot = match point.value {
        Some(Given::Int(value)) if place.form == Form::Int => Slot::int(value),
        Some(Given::Int(value)) => Slot::double(value as f64),
        Some(Given::Double(value)) => Slot::double(value),
        None => Slot::default(),
    };
    column.set(place.slot, slot);
    if point.head.has_exemplars() {
        exemplars(column, place.row, &point.head, 5, decoder)
    } else {
        Ok(())
    }
}

/// A histogram with explicit bounds. Without sum, minimum or maximum that is NaN.
pub(super) fn histogram(
    column: &mut Column,
    place: Place,
    point: &HistogramPoint<'_>,
    decoder: &Decoder<'_>,
) -> Result<(), Fault> {
    let bounds = point.bounds().len() / 8;
    let min_max = place.form == Form::MinMax;
    let first = if min_max { 4 } else { 2 };
    if point.head.no_value() {
        // Its bounds may be missing; what counts is the mark.
        column.stale(place.row, place.slot, 2);
        return Ok(());
    }
    let mut total = 0_u64;
    let slots = column.slots(place.slot, first + bounds);
    let (head, buckets) = slots.split_at_mut_checked(first).unwrap_or_default();
    let mut counts = point.counts();
    for slot in buckets {
        total = total.saturating_add(counts.next().unwrap_or(0));
        *slot = Slot::double(total as f64);
    }
    total = counts.fold(total, u64::saturating_add);
    let nan = |value: Option<f64>| Slot::double(value.unwrap_or(f64::NAN));
    // Where a sender's count and buckets disagree, the count must not be less than a bucket.
    let values = [
        nan(point.sum),
        Slot::double(point.count.max(total) as f64),
        nan(point.min),
        nan(point.max),
    ];
    head.iter_mut().zip(values).for_each(|(slot, value)| *slot = value);
    if point.head.has_exemplars() {
        exemplars(column, place.row, &point.head, 8, decoder)
    } else {
        Ok(())
    }
}

/// An exponential histogram: its buckets travel beside the slots.
pub(super) fn exponential(
    column: &mut Column,
    place: Place,
    point: ExponentialHistogramPoint<'_>,
    decoder: &Decoder<'_>,
) -> Result<(), Fault> {
    if point.head.no_value() {
        column.stale(place.row, place.slot, 2);
        return Ok(());
    }
    column.set(place.slot, Slot::double(point.sum.unwrap_or(f64::NAN)));
    column.set(place.slot + 1, Slot::double(point.count as f64));
    column.exponential(place.row, point.buckets);
    if point.head.has_exemplars() {
        exemplars(column, place.row, &point.head, 11, decoder)
    } else {
        Ok(())
    }
}

/// A summary.
pub(super) fn summary(column: &mut Column, place: Place, point: &SummaryPoint<'_>, values: &[f64]) {
    if point.head.no_value() {
        column.stale(place.row, place.slot, 2);
        return;
    }
    let head = [point.sum, point.count as f64];
    let slots = column.slots(place.slot, 2 + values.len());
    slots.iter_mut().zip(head.iter().chain(values)).for_each(|(slot, v)| *slot = Slot::double(*v));
}

/// The exemplars in fields of number `number`. One whose attributes are not taken comes without them.
fn exemplars(
    column: &mut Column,
    row: RowId,
    head: &Head<'_>,
    number: u32,
    decoder: &Decoder<'_>,
) -> Result<(), Fault> {
    let mut cursor = Cursor::new(head.exemplars());
    while let Some(field) = cursor.next()? {
        let (found, Field::Bytes(message)) = field else { continue };
        if found != number {
            continue;
        }
        let raw = RawExemplar::parse(message)?;
        let attributes = match decoder.labels(raw.message, 7) {
            Ok(labels) => labels,
            Err(Refusal::Reject(_)) => Labels::empty(),
            Err(Refusal::Fault(fault)) => return Err(fault),
        };
        let Some(value) = raw.value else { continue };
        let ids = [("trace_id", raw.trace), ("span_id", raw.span)];
        let ids = ids.into_iter().filter(|(_, id)| !id.is_empty()).map(|(name, id)| Label {
            name: decoder.interner.str(name),
            // Ids never come again: interning them would only fill the pool.
            value: Value::Str(Str::from(hex(id))),
        });
        column.exemplar(Exemplar {
            row,
            value,
            time: i64::try_from(raw.time).unwrap_or(0),
            labels: Labels::new(attributes.iter().cloned().chain(ids).collect()),
        });
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}
