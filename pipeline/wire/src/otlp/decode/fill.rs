//! [`Fill`]: the walk through the metrics of one resource, values straight into columns.

use pipeline_model::Temporality;

use super::attributes::{Decoder, Refusal};
use super::cursor::{Cursor, Fault, Field, Run};
use super::known::{Known, Place};
use super::late::{Late, Moment};
use super::points::{
    ExponentialHistogramPoint, Given, Head, HistogramPoint, NumberPoint, SummaryPoint,
};
use super::source::Column;
use super::vocabulary::{Data, Form, MetricHead};
use super::{ReadStats, Reason, late, write};

/// A request while it is being read.
#[derive(Debug)]
pub(super) struct Request {
    /// Unix nanoseconds.
    pub(super) received: i64,
    pub(super) stats: ReadStats,
    /// Slots that batches of further times may still take.
    pub(super) late_slots: usize,
}

impl Request {
    pub(super) fn new(received: i64) -> Self {
        Self { received, stats: ReadStats::default(), late_slots: late::SLOTS_MAX }
    }
}

/// One part of a request that is introduced once: a scope, a metric.
#[derive(Clone, Copy, Debug)]
enum Introduced {
    Known(u32),
    New,
    /// Not taken, and its points neither.
    Refused(Reason),
}

/// A scope as a request introduces it.
struct ScopeHead<'a> {
    raw: &'a [u8],
    schema: &'a [u8],
    found: Introduced,
}

/// A metric under its scope, and what is known of it.
struct Under<'s, 'a, 'm> {
    scope: &'s mut ScopeHead<'a>,
    head: MetricHead<'m>,
    found: Introduced,
}

/// See the module.
pub(super) struct Fill<'f> {
    pub(super) known: &'f mut Known,
    pub(super) decoder: Decoder<'f>,
    pub(super) request: &'f mut Request,
    /// The latest time a point may have.
    latest: i64,
    pub(super) late: Late,
    /// Quantiles and values of one summary point.
    quantiles: Vec<u8>,
    values: Vec<f64>,
}

impl<'f> Fill<'f> {
    /// Begins a request to `known`.
    pub(super) fn new(
        known: &'f mut Known,
        decoder: Decoder<'f>,
        request: &'f mut Request,
    ) -> Self {
        let received = request.received;
        known.begin(received);
        let ahead = i64::try_from(decoder.settings.future_max.as_nanos()).unwrap_or(i64::MAX);
        Self {
            known,
            decoder,
            request,
            latest: received.saturating_add(ahead),
            late: Late::default(),
            quantiles: Vec::new(),
            values: Vec::new(),
        }
    }

    /// The `ScopeMetrics` of a `ResourceMetrics`.
    pub(super) fn resource_metrics(&mut self, message: &[u8]) -> Result<(), Fault> {
        let mut cursor = Cursor::new(message);
        while let Some(field) = cursor.next()? {
            match field {
                (2, Field::Bytes(scope)) => self.scope_metrics(scope)?,
                (2, _) => return Err(cursor.wrong_type()),
                _ => {}
            }
        }
        Ok(())
    }

    fn scope_metrics(&mut self, message: &[u8]) -> Result<(), Fault> {
        // The schema comes last, so all is seen before the first metric is taken.
        let (mut raw, mut schema): (_, &[u8]) = (Run::default(), b"");
        let mut cursor = Cursor::new(message);
        while let Some(field) = cursor.next()? {
            match field {
                (1, Field::Bytes(scope)) => {
                    raw.add(message, cursor.pos() - scope.len(), cursor.pos());
                }
                (3, Field::Bytes(url)) => schema = url,
                (1..=3, Field::Bytes(_)) => {}
                (1..=3, _) => return Err(cursor.wrong_type()),
                _ => {}
            }
        }
        let raw = raw.of(message);
        let found = self.known.vocabulary.find_scope(raw, schema);
        let found = found.map_or(Introduced::New, Introduced::Known);
        let mut scope = ScopeHead { raw, schema, found };
        let mut cursor = Cursor::new(message);
        while let Some(field) = cursor.next()? {
            if let (2, Field::Bytes(metric)) = field {
                self.metric(&mut scope, metric)?;
            }
        }
        Ok(())
    }

    fn metric(&mut self, scope: &mut ScopeHead<'_>, message: &[u8]) -> Result<(), Fault> {
        let parts = MetricParts::parse(message)?;
        let body = parts.body.of(message);
        let data = match parts.data(body)? {
            Ok(data) => data,
            Err(reason) => {
                // A metric without any kind of data that we know counts as one point.
                let points = if parts.number == 0 { 1 } else { points(body)? };
                self.request.stats.points += points;
                self.request.stats.reject(reason, points);
                return Ok(());
            }
        };
        let head = MetricHead {
            name: parts.name,
            unit: parts.unit,
            description: parts.description,
            metadata: parts.metadata.of(message),
            data,
        };
        let found = match scope.found {
            Introduced::Known(scope) => self.known.vocabulary.find_metric(scope, &head),
            _ => None,
        };
        let found = found.map_or(Introduced::New, Introduced::Known);
        let mut metric = Under { scope, head, found };
        let mut cursor = Cursor::new(body);
        while let Some(field) = cursor.next()? {
            match field {
                (1, Field::Bytes(point)) => {
                    self.request.stats.points += 1;
                    match self.point(&mut metric, point) {
                        Ok(()) => {}
                        Err(Refusal::Reject(reason)) => self.request.stats.reject(reason, 1),
                        Err(Refusal::Fault(fault)) => return Err(fault),
                    }
                }
                (1, _) => return Err(cursor.wrong_type()),
                _ => {}
            }
        }
        Ok(())
    }

    #[inline]
    fn point(&mut self, metric: &mut Under<'_, '_, '_>, message: &[u8]) -> Result<(), Refusal> {
        match metric.head.data {
            Data::Gauge | Data::Sum { .. } => self.number(metric, message),
            Data::Histogram(_) => self.histogram(metric, message),
            Data::ExponentialHistogram(_) => self.exponential(metric, message),
            Data::Summary => self.summary(metric, message),
        }
    }

    #[inline]
    fn number(&mut self, metric: &mut Under<'_, '_, '_>, message: &[u8]) -> Result<(), Refusal> {
        let point = NumberPoint::parse(message, self.known.expected())?;
        let form = match point.value {
            Some(Given::Int(_)) => Form::Int,
            Some(Given::Double(_)) => Form::Double,
            None if point.head.no_value() => Form::Double,
            None => return Err(Reason::NoValue.into()),
        };
        let moment = self.moment(&point.head)?;
        let place = self.place(metric, (&point.head, 7), form, b"")?;
        match self.column(metric.head.data, place, moment, message) {
            Some((column, decoder)) => Ok(write::number(column, place, &point, &decoder)?),
            None => Ok(()),
        }
    }

    fn histogram(&mut self, metric: &mut Under<'_, '_, '_>, message: &[u8]) -> Result<(), Refusal> {
        let point = HistogramPoint::parse(message, self.known.expected())?;
        let (bounds, counts) = (point.bounds().len() / 8, point.counts_len());
        if (counts != bounds + 1 && counts + bounds > 0)
            || bounds > self.decoder.settings.buckets_max
        {
            return Err(Reason::Buckets.into());
        }
        let has_min_max = point.min.is_some() || point.max.is_some();
        let form = if has_min_max { Form::MinMax } else { Form::Plain };
        let moment = self.moment(&point.head)?;
        let place = self.place(metric, (&point.head, 9), form, point.bounds())?;
        match self.column(metric.head.data, place, moment, message) {
            Some((column, decoder)) => Ok(write::histogram(column, place, &point, &decoder)?),
            None => Ok(()),
        }
    }

    fn exponential(
        &mut self,
        metric: &mut Under<'_, '_, '_>,
        message: &[u8],
    ) -> Result<(), Refusal> {
        let buckets_max = self.decoder.settings.buckets_max;
        let expected = self.known.expected();
        let point = ExponentialHistogramPoint::parse(message, expected, buckets_max)?;
        let moment = self.moment(&point.head)?;
        let place = self.place(metric, (&point.head, 1), Form::Exponential, b"")?;
        match self.column(metric.head.data, place, moment, message) {
            Some((column, decoder)) => Ok(write::exponential(column, place, point, &decoder)?),
            None => Ok(()),
        }
    }

    fn summary(&mut self, metric: &mut Under<'_, '_, '_>, message: &[u8]) -> Result<(), Refusal> {
        let mut quantiles = std::mem::take(&mut self.quantiles);
        let mut values = std::mem::take(&mut self.values);
        let expected = self.known.expected();
        let point = SummaryPoint::parse(message, expected, &mut quantiles, &mut values)?;
        if values.len() > self.decoder.settings.buckets_max {
            return Err(Reason::Buckets.into());
        }
        let moment = self.moment(&point.head)?;
        let place = self.place(metric, (&point.head, 7), Form::Summary, &quantiles)?;
        if let Some((column, _)) = self.column(metric.head.data, place, moment, message) {
            write::summary(column, place, &point, &values);
        }
        (self.quantiles, self.values) = (quantiles, values);
        Ok(())
    }

    /// When a point was made and what it counts from.
    #[inline]
    fn moment(&self, head: &Head<'_>) -> Result<Moment, Refusal> {
        let (Ok(time), Ok(start)) = (i64::try_from(head.time), i64::try_from(head.start)) else {
            return Err(Reason::Time.into());
        };
        if time > self.latest {
            return Err(Reason::Time.into());
        }
        Ok(Moment { time: if time == 0 { self.request.received } else { time }, start })
    }

    /// Where a point goes. `head` comes with the number of its field of attributes.
    #[inline]
    fn place(
        &mut self,
        metric: &mut Under<'_, '_, '_>,
        head: (&Head<'_>, u32),
        form: Form,
        bounds: &[u8],
    ) -> Result<Place, Refusal> {
        if let Introduced::Known(metric) = metric.found {
            let (head, _) = head;
            if let Some(place) = self.known.find(metric, head.attributes(), head.expected) {
                let takes = match form {
                    Form::Int | Form::Double | Form::Exponential => place.form.holds(form),
                    _ => self.known.vocabulary.takes(place.variant, form, bounds),
                };
                if takes || head.no_value() {
                    return Ok(place);
                }
            }
        }
        self.admit(metric, head, form, bounds)
    }

    /// The slow way of [`Fill::place`].
    fn admit(
        &mut self,
        metric: &mut Under<'_, '_, '_>,
        (head, number): (&Head<'_>, u32),
        form: Form,
        bounds: &[u8],
    ) -> Result<Place, Refusal> {
        let vocabulary = &mut self.known.vocabulary;
        let Under { scope, head: new, found } = metric;
        let decoder = &self.decoder;
        let scope =
            scope.found.or_add(|| vocabulary.add_scope(decoder, scope.raw, scope.schema))?;
        let metric = found.or_add(|| match vocabulary.find_metric(scope, new) {
            Some(metric) => Ok(metric),
            None => vocabulary.add_metric(decoder, scope, new),
        })?;
        self.known.admit(decoder, metric, (head, number), form, bounds)
    }

    /// The column that takes the point at `place`, with the row marked as filled; `None` when the row has a point
    /// already, and then the point is put aside.
    #[inline]
    fn column(
        &mut self,
        data: Data,
        place: Place,
        moment: Moment,
        message: &[u8],
    ) -> Option<(&mut Column, Decoder<'f>)> {
        let source = self.known.sources.get_mut(usize::from(place.source))?;
        let seen = source.seen.get_mut(place.row as usize)?;
        if *seen == self.known.request {
            if !self.late.push(data, place, moment, message) {
                self.request.stats.reject(Reason::Times, 1);
            }
            return None;
        }
        *seen = self.known.request;
        let column = source.open(moment.time);
        column.fill(place.row, moment.time, moment.start);
        Some((column, self.decoder))
    }
}

impl Introduced {
    /// What is known, or what `add` makes known; a refusal is remembered.
    fn or_add(&mut self, add: impl FnOnce() -> Result<u32, Refusal>) -> Result<u32, Refusal> {
        match *self {
            Self::Known(idx) => Ok(idx),
            Self::Refused(reason) => Err(reason.into()),
            Self::New => {
                let added = add();
                match added {
                    Ok(idx) => *self = Self::Known(idx),
                    Err(Refusal::Reject(reason)) => *self = Self::Refused(reason),
                    Err(Refusal::Fault(_)) => {}
                }
                added
            }
        }
    }
}

/// The fields of a `Metric`.
#[derive(Default)]
struct MetricParts<'a> {
    name: &'a [u8],
    unit: &'a [u8],
    description: &'a [u8],
    metadata: Run,
    /// Number of the last field of the oneof, 0 when there is none, and its message.
    number: u32,
    body: Run,
}

impl<'a> MetricParts<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, Fault> {
        let mut parts = Self::default();
        let mut cursor = Cursor::new(message);
        loop {
            let from = cursor.pos();
            let Some((number, field)) = cursor.next()? else { break };
            let Field::Bytes(bytes) = field else {
                if matches!(number, 1..=3 | 5 | 7 | 9..=12) {
                    return Err(cursor.wrong_type());
                }
                continue;
            };
            match number {
                1 => parts.name = bytes,
                2 => parts.description = bytes,
                3 => parts.unit = bytes,
                5 | 7 | 9..=11 => {
                    if parts.number != number {
                        (parts.number, parts.body) = (number, Run::default());
                    }
                    parts.body.add(message, cursor.pos() - bytes.len(), cursor.pos());
                }
                12 => parts.metadata.add(message, from, cursor.pos()),
                _ => {}
            }
        }
        Ok(parts)
    }

    /// What kind of data it is; a reason when none that is taken.
    fn data(&self, body: &[u8]) -> Result<Result<Data, Reason>, Fault> {
        let (mut temporality, mut monotonic) = (0, false);
        if matches!(self.number, 7 | 9 | 10) {
            // They come after the points.
            let mut cursor = Cursor::new(body);
            while let Some(field) = cursor.next()? {
                match field {
                    (2, Field::Varint(value)) => temporality = value,
                    (3, Field::Varint(value)) if self.number == 7 => monotonic = value != 0,
                    (2, _) => return Err(cursor.wrong_type()),
                    _ => {}
                }
            }
        }
        let temporality = match temporality {
            1 => Ok(Temporality::Delta),
            2 => Ok(Temporality::Cumulative),
            _ => Err(Reason::Temporality),
        };
        Ok(match self.number {
            5 => Ok(Data::Gauge),
            7 => temporality.map(|temporality| Data::Sum { monotonic, temporality }),
            9 => temporality.map(Data::Histogram),
            10 => temporality.map(Data::ExponentialHistogram),
            11 => Ok(Data::Summary),
            _ => Err(Reason::NoValue),
        })
    }
}

/// The number of points in the data of a metric.
fn points(body: &[u8]) -> Result<u64, Fault> {
    let mut points = 0;
    let mut cursor = Cursor::new(body);
    while let Some((number, _)) = cursor.next()? {
        points += u64::from(number == 1);
    }
    Ok(points)
}

/// The number of points in a `ResourceMetrics`.
pub(super) fn all_points(message: &[u8]) -> Result<u64, Fault> {
    let mut all = 0;
    let mut cursor = Cursor::new(message);
    while let Some(field) = cursor.next()? {
        let (2, Field::Bytes(scope)) = field else { continue };
        let mut scope = Cursor::new(scope);
        while let Some(field) = scope.next()? {
            let (2, Field::Bytes(metric)) = field else { continue };
            let parts = MetricParts::parse(metric)?;
            all += if parts.number == 0 { 1 } else { points(parts.body.of(metric))? };
        }
    }
    Ok(all)
}
