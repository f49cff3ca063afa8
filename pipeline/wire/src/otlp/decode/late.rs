//! [`Late`]: further points of a series that the request had a point of already, and the batches they make.

use std::cmp::Ordering;

use pipeline_model::{Batch, RowId};

use super::attributes::{Decoder, Refusal};
use super::cursor::Fault;
use super::fill::Fill;
use super::known::Place;
use super::points::{ExponentialHistogramPoint, HistogramPoint, NumberPoint, SummaryPoint};
use super::source::{Column, Source};
use super::vocabulary::Data;
use super::{Reason, write};

/// Points of one resource put aside in one request.
const POINTS_MAX: usize = 1 << 20;
/// Slots of all further batches of one request: 32 MiB. A few bytes of one point cost a column of its source.
pub(super) const SLOTS_MAX: usize = 4 << 20;

/// When a point was made, and what it counts from, Unix nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) time: i64,
    /// 0 = unknown.
    pub(super) start: i64,
}

/// A point put aside.
#[derive(Clone, Copy, Debug)]
struct Aside {
    data: Data,
    place: Place,
    moment: Moment,
    /// Its message, in `bytes`.
    at: usize,
    len: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Late {
    points: Vec<Aside>,
    bytes: Vec<u8>,
}

impl Late {
    /// Puts a point aside; false when there are too many.
    pub(super) fn push(
        &mut self,
        data: Data,
        place: Place,
        moment: Moment,
        message: &[u8],
    ) -> bool {
        if self.points.len() >= POINTS_MAX {
            return false;
        }
        let (at, len) = (self.bytes.len(), message.len());
        self.bytes.extend_from_slice(message);
        self.points.push(Aside { data, place, moment, at, len });
        true
    }

    fn message(&self, point: &Aside) -> &[u8] {
        self.bytes.get(point.at..point.at + point.len).unwrap_or_default()
    }
}

/// Points put aside of one source, by the batch they go into: the first of each list next to the main one.
#[derive(Debug, Default)]
struct Layers {
    before: Vec<Vec<Aside>>,
    after: Vec<Vec<Aside>>,
    duplicates: u64,
    too_many: u64,
}

impl Layers {
    /// Up to `layers_max` before and as many after. `points` are in order of row and time, those of one row and time in that of the request; `time_of` is that
    /// of a row in the main batch.
    fn new(points: &[Aside], time_of: impl Fn(RowId) -> i64, layers_max: usize) -> Self {
        let mut layers = Self::default();
        for row in points.chunk_by(|a, b| a.place.row == b.place.row) {
            let Some(first) = row.first() else { continue };
            let main = time_of(first.place.row);
            let mut of_row: Vec<Aside> = row.to_vec();
            of_row.dedup_by(|later, kept| later.moment.time == kept.moment.time);
            of_row.retain(|point| point.moment.time != main);
            layers.duplicates += (row.len() - of_row.len()) as u64;
            let split = of_row.partition_point(|point| point.moment.time < main);
            let (before, after) = of_row.split_at_checked(split).unwrap_or_default();
            layers.too_many += add(&mut layers.before, before.iter().rev(), layers_max)
                + add(&mut layers.after, after.iter(), layers_max);
        }
        layers
    }
}

/// Adds a point to each layer in turn; the number of those for which there is none.
fn add<'a>(
    layers: &mut Vec<Vec<Aside>>,
    points: impl ExactSizeIterator<Item = &'a Aside>,
    layers_max: usize,
) -> u64 {
    let too_many = points.len().saturating_sub(layers_max);
    for (idx, point) in points.take(layers_max).enumerate() {
        match layers.get_mut(idx) {
            Some(layer) => layer.push(*point),
            None => layers.push(vec![*point]),
        }
    }
    too_many as u64
}

/// Why a request came to no end.
#[derive(Debug)]
pub(super) enum Unfinished {
    /// The body is malformed after all.
    Fault(Fault),
    /// A shape could not be made, a mistake here: nothing of this resource can be said.
    Mistake(&'static str),
}

impl Fill<'_> {
    /// Ends the request: a batch for each source that it had points of, and further ones for further points.
    pub(super) fn finish(mut self, out: &mut Vec<Batch>) -> Result<(), Unfinished> {
        let mut late = std::mem::take(&mut self.late);
        late.points.sort_by_key(|point| (point.place.source, point.place.row, point.moment.time));
        let batch = |source: &Source, layer: &[Aside]| {
            layer_batch(source, layer, &late, &self.decoder).map_err(Unfinished::Fault)
        };
        for (idx, source) in self.known.sources.iter_mut().enumerate() {
            if !source.is_open() {
                continue;
            }
            source
                .grow(self.decoder.interner, &self.known.vocabulary)
                .map_err(Unfinished::Mistake)?;
            let of_source = |point: &Aside| usize::from(point.place.source).cmp(&idx);
            let from = late.points.partition_point(|point| of_source(point) == Ordering::Less);
            let to = late.points.partition_point(|point| of_source(point) != Ordering::Greater);
            let points = late.points.get(from..to).unwrap_or_default();
            let slots = (source.slots as usize).max(1);
            let layers_max = self.request.late_slots / slots;
            let layers = match &source.column {
                Some(column) => Layers::new(points, |row| column.time_of(row), layers_max),
                None => Layers::default(),
            };
            let taken = slots * (layers.before.len() + layers.after.len());
            self.request.late_slots = self.request.late_slots.saturating_sub(taken);
            self.request.stats.reject(Reason::Duplicate, layers.duplicates);
            self.request.stats.reject(Reason::Times, layers.too_many);
            for layer in layers.before.iter().rev() {
                out.push(batch(source, layer)?);
            }
            out.extend(source.close(self.known.request, self.request.received));
            for layer in &layers.after {
                out.push(batch(source, layer)?);
            }
        }
        Ok(())
    }
}

fn layer_batch(
    source: &Source,
    layer: &[Aside],
    late: &Late,
    decoder: &Decoder<'_>,
) -> Result<Batch, Fault> {
    let time = layer.first().map_or(0, |point| point.moment.time);
    let mut column = Column::new(source.slots as usize, time, source.starts());
    let mut filled = Vec::with_capacity(layer.len());
    let (mut quantiles, mut values) = (Vec::new(), Vec::new());
    for point in layer {
        let (place, message) = (point.place, late.message(point));
        column.fill(place.row, point.moment.time, point.moment.start);
        filled.push(place.row);
        match point.data {
            Data::Gauge | Data::Sum { .. } => {
                write::number(&mut column, place, &NumberPoint::parse(message, b"")?, decoder)?;
            }
            Data::Histogram(_) => {
                let point = HistogramPoint::parse(message, b"")?;
                write::histogram(&mut column, place, &point, decoder)?;
            }
            Data::ExponentialHistogram(_) => {
                // It was parsed before, with the limit that is not to be reached now.
                match ExponentialHistogramPoint::parse(message, b"", usize::MAX) {
                    Ok(point) => write::exponential(&mut column, place, point, decoder)?,
                    Err(Refusal::Fault(fault)) => return Err(fault),
                    Err(Refusal::Reject(_)) => {}
                }
            }
            Data::Summary => {
                let point = SummaryPoint::parse(message, b"", &mut quantiles, &mut values)?;
                write::summary(&mut column, place, &point, &values);
            }
        }
    }
    Ok(source.layer(column, &filled))
}
