//! Delimited `MetricFamily` messages. Series are decoded one at a time, so that a page of many empty messages takes
//! little more memory than its bytes. There is no layout here: each page is read in full.

use std::sync::Arc;

use foldhash::HashSet;
use pipeline_model::{
    Bounds, Exemplar, ExponentialPoint, Hint, Interner, Kind, Label, Labels, Metric, Number, RowId,
    ShapeBuilder, Str, Temporality, Value,
};
use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::error::{PageError, PageLimit};
use super::filling::Filling;
use super::labeler::{LabelFault, Labeler, exceeds};
use super::native::{self, NativeFault};
use super::unit::ucum;
use super::{Page, PagePath, PageReader, nanos_of};
use crate::proto::client_model as pb;

/// Bytes of the message of one series: some twenty thousand buckets.
const SERIES_BYTES_MAX: usize = 1 << 20;

/// What precedes the series of a family, which protobuf allows in any order.
#[derive(Debug)]
struct Head {
    name: Str,
    help: Str,
    unit: Str,
    of: pb::MetricType,
}

/// Why a family is none.
enum Fault {
    Reason(String),
    Page(PageError),
}

impl From<prost::DecodeError> for Fault {
    fn from(error: prost::DecodeError) -> Self {
        Self::Reason(error.to_string())
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Self::Reason(reason.to_owned())
    }
}

impl From<LabelFault> for Fault {
    fn from(fault: LabelFault) -> Self {
        match fault {
            LabelFault::Expected(what) => Self::Reason(format!("expected {what}")),
            LabelFault::Page(error) => Self::Page(error),
        }
    }
}

/// A page in the making: columns per row and slot.
struct Families<'a> {
    labeler: Labeler<'a>,
    builder: ShapeBuilder<'a>,
    group: u32,
    seen: HashSet<(Str, Labels)>,
    slots: Vec<f64>,
    starts: Vec<i64>,
    times: Vec<i64>,
    lines_of: Vec<u32>,
    exemplars: Vec<Exemplar>,
    exponentials: Vec<(RowId, ExponentialPoint)>,
    samples: usize,
    duplicates: usize,
    incomplete: usize,
    metric: Option<Arc<Metric>>,
}

/// One series before it has a row.
struct Point {
    kind: Kind,
    hint: Hint,
    slots: Vec<f64>,
    start: i64,
    exemplars: Vec<pb::Exemplar>,
    exponential: Option<ExponentialPoint>,
    /// Sample lines that the text formats would take.
    lines: u32,
}

/// Reads a page and remembers its shape.
pub(crate) fn read(
    reader: &mut PageReader,
    body: &[u8],
    interner: &Interner,
) -> Result<Page, PageError> {
    let mut builder = ShapeBuilder::new(interner);
    let (group, slots) = reader.start_shape(&mut builder);
    let synthetic = builder.len();
    let mut families = Families {
        labeler: Labeler { interner, settings: &reader.settings },
        builder,
        group,
        seen: HashSet::default(),
        slots: vec![0.0; slots as usize],
        starts: vec![0; synthetic],
        times: vec![0; synthetic],
        lines_of: vec![0; synthetic],
        exemplars: Vec::new(),
        exponentials: Vec::new(),
        samples: 0,
        duplicates: 0,
        incomplete: 0,
        metric: None,
    };
    for metric in reader.settings.synthetic.iter() {
        families.seen.insert((metric.name.clone(), Labels::empty()));
    }
    families.read(body)?;
    let max = reader.settings.limits.samples;
    if max != 0 && families.samples > max {
        let found = families.samples;
        return Err(PageError::Limit { limit: PageLimit::Samples, allowed: max, found, at: None });
    }
    let Families {
        builder,
        slots,
        starts,
        times,
        lines_of,
        exemplars,
        exponentials,
        samples,
        duplicates,
        incomplete,
        ..
    } = families;
    let shape = builder.finish_or(reader.shape.as_ref());
    let mut filling = Filling::new(shape.len(), shape.slots(), None);
    (0..).zip(slots).for_each(|(slot, value)| filling.set(slot, value));
    (0..).zip(starts).filter(|(_, start)| *start != 0).for_each(|(row, s)| filling.start(row, s));
    if reader.settings.honor_timestamps {
        (0..).zip(times).filter(|(_, time)| *time != 0).for_each(|(row, t)| filling.time(row, t));
    }
    exemplars.into_iter().for_each(|exemplar| filling.exemplar(exemplar));
    filling.exponentials = exponentials;
    filling.stats.samples = samples;
    filling.stats.duplicates = duplicates;
    filling.stats.incomplete = incomplete;
    reader.layout = None;
    Ok(reader.replace(shape, filling, &lines_of, PagePath::Full))
}

/// The next length-delimited piece of `rest`.
fn delimited<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let len = usize::try_from(decode_varint(rest)?).unwrap_or(usize::MAX);
    let (piece, after) = rest.split_at_checked(len).ok_or("truncated message")?;
    *rest = after;
    Ok(piece)
}

/// Calls `each` with the field number and bytes of every length-delimited field of `message`; others are given as
/// their number and value where they are varints, and skipped else.
fn fields<'a>(
    mut message: &'a [u8],
    mut each: impl FnMut(u32, &'a [u8], u64) -> Result<(), Fault>,
) -> Result<(), Fault> {
    while message.has_remaining() {
        let (tag, wire) = decode_key(&mut message)?;
        match wire {
            WireType::LengthDelimited => each(tag, delimited(&mut message)?, 0)?,
            WireType::Varint => each(tag, &[], decode_varint(&mut message)?)?,
            WireType::SixtyFourBit
            | WireType::ThirtyTwoBit
            | WireType::StartGroup
            | WireType::EndGroup => skip_field(wire, tag, &mut message, DecodeContext::default())?,
        }
    }
    Ok(())
}

impl Families<'_> {
    fn read(&mut self, mut body: &[u8]) -> Result<(), PageError> {
        let mut family = 0;
        while !body.is_empty() {
            family += 1;
            delimited(&mut body).and_then(|message| self.family(message)).map_err(|fault| {
                match fault {
                    Fault::Reason(reason) => PageError::Protobuf { family, reason },
                    Fault::Page(error) => error,
                }
            })?;
        }
        Ok(())
    }

    fn family(&mut self, message: &[u8]) -> Result<(), Fault> {
        let interner = self.labeler.interner;
        let empty = interner.str("");
        let mut head = Head {
            name: empty.clone(),
            help: empty.clone(),
            unit: empty,
            of: pb::MetricType::Counter,
        };
        fields(message, |tag, bytes, value| {
            let text = || std::str::from_utf8(bytes).map_err(|_| Fault::from("invalid UTF-8"));
            match tag {
                1 => head.name = interner.str(text()?),
                2 => head.help = interner.str(text()?),
                5 => head.unit = interner.str(ucum(text()?)),
                3 => {
                    head.of = i32::try_from(value)
                        .ok()
                        .and_then(|value| pb::MetricType::try_from(value).ok())
                        .ok_or("unknown metric type")?;
                }
                _ => {}
            }
            Ok(())
        })?;
        if head.name.is_empty() {
            return Err("a family without a name".into());
        }
        self.metric = None;
        fields(message, |tag, bytes, _| if tag == 4 { self.series(&head, bytes) } else { Ok(()) })
    }

    fn series(&mut self, head: &Head, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.len() > SERIES_BYTES_MAX {
            return Err("a series of more than 1 MiB".into());
        }
        let mut series = pb::Metric::decode(bytes)?;
        let labels = std::mem::take(&mut series.label);
        let time = series.timestamp_ms.unwrap_or(0).saturating_mul(1_000_000);
        let labels = self.labels(&labels)?;
        let Some(point) = self.point(head, series)? else {
            self.samples += 1;
            self.incomplete += 1;
            return Ok(());
        };
        self.samples += point.lines as usize;
        if !self.seen.insert((head.name.clone(), labels.clone())) {
            self.duplicates += point.lines as usize;
            return Ok(());
        }
        let metric = self.metric(head, &point);
        let row = self
            .builder
            .push(self.group, &metric, &labels)
            .map_err(|error| Fault::Page(error.into()))?;
        self.slots.extend(&point.slots);
        self.starts.push(point.start);
        self.times.push(time);
        self.lines_of.push(point.lines);
        self.exponentials.extend(point.exponential.map(|point| (row, point)));
        for exemplar in &point.exemplars {
            let labels = self.pairs(&exemplar.label, false)?;
            let time = exemplar.timestamp.as_ref().map_or(0, nanos_of);
            let value = exemplar.value.unwrap_or(0.0);
            self.exemplars.push(Exemplar { row, value, time, labels: Labels::new(labels) });
        }
        Ok(())
    }

    /// Labels of a series, interned, or of an exemplar, whose values never come again.
    fn pairs(&self, pairs: &[pb::LabelPair], interned: bool) -> Result<Vec<Label>, Fault> {
        let interner = self.labeler.interner;
        let label = |pair: &pb::LabelPair| {
            let name = pair.name.as_deref().unwrap_or_default();
            if name.is_empty() {
                return Err(Fault::from("a label without a name"));
            }
            let value = pair.value.as_deref().unwrap_or_default();
            let value = if interned { interner.str(value) } else { Str::new(value) };
            Ok(Label { name: interner.str(name), value: Value::Str(value) })
        };
        pairs.iter().map(label).collect()
    }

    fn labels(&self, pairs: &[pb::LabelPair]) -> Result<Labels, Fault> {
        Ok(self.labeler.make(self.pairs(pairs, true)?, 0)?)
    }

    fn metric(&mut self, head: &Head, point: &Point) -> Arc<Metric> {
        if let Some(known) = self.metric.as_ref().filter(|known| known.kind == point.kind) {
            return Arc::clone(known);
        }
        let metric = Arc::new(Metric {
            name: head.name.clone(),
            unit: head.unit.clone(),
            description: head.help.clone(),
            kind: point.kind.clone(),
            number: Number::Double,
            hint: point.hint,
        });
        self.metric = Some(Arc::clone(&metric));
        metric
    }

    /// The values of a series; `None` when it has none of its family's type.
    fn point(&self, head: &Head, series: pb::Metric) -> Result<Option<Point>, Fault> {
        let number = |kind, hint, value: Option<f64>| Point {
            kind,
            hint,
            slots: vec![value.unwrap_or(0.0)],
            start: 0,
            exemplars: Vec::new(),
            exponential: None,
            lines: 1,
        };
        Ok(match head.of {
            pb::MetricType::Counter => series.counter.map(|counter| Point {
                start: counter.created_timestamp.as_ref().map_or(0, nanos_of),
                exemplars: counter.exemplar.into_iter().collect(),
                ..number(Kind::COUNTER, Hint::None, counter.value)
            }),
            pb::MetricType::Gauge => {
                series.gauge.map(|gauge| number(Kind::Gauge, Hint::None, gauge.value))
            }
            pb::MetricType::Untyped => {
                series.untyped.map(|value| number(Kind::Gauge, Hint::Unknown, value.value))
            }
            pb::MetricType::Summary => series.summary.and_then(|summary| summary_point(&summary)),
            pb::MetricType::Histogram | pb::MetricType::GaugeHistogram => {
                let gauge = head.of == pb::MetricType::GaugeHistogram;
                let hint = if gauge { Hint::GaugeHistogram } else { Hint::None };
                match series.histogram {
                    Some(histogram) if native::is_native(&histogram) => {
                        self.native(histogram, hint)?
                    }
                    Some(histogram) => classic(histogram, hint),
                    None => None,
                }
            }
        })
    }

    fn native(&self, histogram: pb::Histogram, hint: Hint) -> Result<Option<Point>, Fault> {
        let allowed = self.labeler.settings.limits.native_buckets;
        exceeds(PageLimit::NativeBuckets, allowed, native::bucket_count(&histogram), b"")?;
        let exponential = match native::point(&histogram) {
            Ok(point) => point,
            Err(NativeFault::Unsupported) => return Ok(None),
            Err(NativeFault::Malformed(reason)) => return Err(reason.into()),
        };
        let count = native::float_or(histogram.sample_count_float, histogram.sample_count);
        Ok(Some(Point {
            kind: Kind::ExponentialHistogram { temporality: Temporality::Cumulative },
            hint,
            slots: vec![histogram.sample_sum.unwrap_or(f64::NAN), count],
            start: histogram.created_timestamp.as_ref().map_or(0, nanos_of),
            exemplars: histogram.exemplars,
            exponential: Some(exponential),
            lines: 1,
        }))
    }
}

/// Ascending by bound, the first of equal ones kept; `None` when a bound is no number.
fn ascending<T>(mut of: Vec<(f64, T)>) -> Option<Vec<(f64, T)>> {
    if of.iter().any(|(bound, _)| bound.is_nan()) {
        return None;
    }
    of.iter_mut().for_each(|(bound, _)| *bound += 0.0);
    of.sort_by(|a, b| a.0.total_cmp(&b.0));
    of.dedup_by(|later, kept| later.0 == kept.0);
    Some(of)
}

#[expect(clippy::cast_precision_loss, reason = "counts are doubles in the model")]
fn summary_point(summary: &pb::Summary) -> Option<Point> {
    let quantile = |q: &pb::Quantile| (q.quantile.unwrap_or(0.0), q.value.unwrap_or(f64::NAN));
    let quantiles = ascending(summary.quantile.iter().map(quantile).collect())?;
    let bounds: Vec<f64> = quantiles.iter().map(|(q, _)| *q).collect();
    if bounds.iter().any(|q| q.is_infinite()) {
        return None;
    }
    let mut slots =
        vec![summary.sample_sum.unwrap_or(f64::NAN), summary.sample_count.unwrap_or(0) as f64];
    slots.extend(quantiles.iter().map(|(_, value)| *value));
    Some(Point {
        kind: Kind::Summary { quantiles: Bounds::new(&bounds) },
        hint: Hint::None,
        lines: slots.len() as u32,
        slots,
        start: summary.created_timestamp.as_ref().map_or(0, nanos_of),
        exemplars: Vec::new(),
        exponential: None,
    })
}

fn classic(histogram: pb::Histogram, hint: Hint) -> Option<Point> {
    let counted = histogram.sample_count.is_some() || histogram.sample_count_float.is_some();
    let mut exemplars = histogram.exemplars;
    let mut buckets = Vec::with_capacity(histogram.bucket.len());
    for bucket in histogram.bucket {
        let count = native::float_or(bucket.cumulative_count_float, bucket.cumulative_count);
        buckets.push((bucket.upper_bound.unwrap_or(f64::NAN), count));
        exemplars.extend(bucket.exemplar);
    }
    let mut buckets = ascending(buckets)?;
    if buckets.first().is_some_and(|(bound, _)| *bound == f64::NEG_INFINITY) {
        return None;
    }
    let last = buckets.last().map(|(_, count)| *count);
    let count = match last {
        Some(last) if !counted => last,
        None if !counted => return None,
        _ => native::float_or(histogram.sample_count_float, histogram.sample_count),
    };
    let lines = buckets.len() as u32 + 2;
    buckets.retain(|(bound, _)| bound.is_finite());
    let bounds: Vec<f64> = buckets.iter().map(|(bound, _)| *bound).collect();
    let mut slots = vec![histogram.sample_sum.unwrap_or(f64::NAN), count];
    slots.extend(buckets.iter().map(|(_, count)| *count));
    Some(Point {
        kind: Kind::histogram(Bounds::new(&bounds)),
        hint,
        slots,
        start: histogram.created_timestamp.as_ref().map_or(0, nanos_of),
        exemplars,
        exponential: None,
        lines,
    })
}
