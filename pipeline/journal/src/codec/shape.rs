//! Shapes: a record for the table, which equal pages share, and one for the groups.

use std::sync::Arc;

use foldhash::HashMap;
use pipeline_model::{
    Bounds, Group, Hint, Interner, Kind, Labels, Metric, Number, Resource, Scope, Shape,
    ShapeBuilder, Temporality,
};

use super::texts::{ReadTexts, Texts, put_with_texts};
use crate::bytes::{Malformed, Reader, put_f64, put_varint};

const MONOTONIC: u8 = 1;
const DELTA: u8 = 2;
const MIN_MAX: u8 = 4;

/// Appends the rows of `shape` as table `number`.
pub(super) fn put_table(out: &mut Vec<u8>, number: u64, shape: &Shape) {
    put_varint(out, number);
    put_with_texts(out, |out, texts| {
        let mut metric_of: HashMap<*const Metric, u64> = HashMap::default();
        let mut labels_of: HashMap<&Labels, u64> = HashMap::default();
        let (mut metrics, mut sets, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for series in shape.iter() {
            let next = metric_of.len() as u64;
            let metric = *metric_of.entry(Arc::as_ptr(series.metric)).or_insert(next);
            if metric == next {
                put_metric(&mut metrics, texts, series.metric);
            }
            let next = labels_of.len() as u64;
            let labels = *labels_of.entry(series.labels).or_insert(next);
            if labels == next {
                texts.put_labels(&mut sets, series.labels);
            }
            put_varint(&mut rows, metric);
            put_varint(&mut rows, labels);
            put_varint(&mut rows, u64::from(series.group_idx));
        }
        put_varint(out, metric_of.len() as u64);
        out.extend_from_slice(&metrics);
        put_varint(out, labels_of.len() as u64);
        out.extend_from_slice(&sets);
        put_varint(out, shape.len() as u64);
        out.extend_from_slice(&rows);
    });
}

fn put_metric<'a>(out: &mut Vec<u8>, texts: &mut Texts<'a>, metric: &'a Metric) {
    texts.put(out, &metric.name);
    texts.put(out, &metric.unit);
    texts.put(out, &metric.description);
    out.push(match metric.number {
        Number::Double => 0,
        Number::Int => 1,
    });
    out.push(match metric.hint {
        Hint::None => 0,
        Hint::Unknown => 1,
        Hint::Info => 2,
        Hint::StateSet => 3,
        Hint::GaugeHistogram => 4,
    });
    let delta = |temporality: &Temporality| match temporality {
        Temporality::Cumulative => 0,
        Temporality::Delta => DELTA,
    };
    match &metric.kind {
        Kind::Gauge => out.push(0),
        Kind::Sum { monotonic, temporality } => {
            out.extend_from_slice(&[1, (u8::from(*monotonic) * MONOTONIC) | delta(temporality)]);
        }
        Kind::Histogram { temporality, bounds, min_max } => {
            out.extend_from_slice(&[2, (u8::from(*min_max) * MIN_MAX) | delta(temporality)]);
            put_bounds(out, bounds);
        }
        Kind::ExponentialHistogram { temporality } => {
            out.extend_from_slice(&[3, delta(temporality)]);
        }
        Kind::Summary { quantiles } => {
            out.push(4);
            put_bounds(out, quantiles);
        }
    }
}

fn put_bounds(out: &mut Vec<u8>, bounds: &Bounds) {
    put_varint(out, bounds.len() as u64);
    bounds.as_slice().iter().for_each(|bound| put_f64(out, *bound));
}

/// Appends `shape`: its number, its table's, its groups.
pub(super) fn put_shape(out: &mut Vec<u8>, table: u64, shape: &Shape) {
    put_varint(out, shape.id());
    put_varint(out, table);
    put_with_texts(out, |out, texts| {
        put_varint(out, shape.groups().len() as u64);
        for group in shape.groups() {
            texts.put(out, &group.resource.schema_url);
            texts.put_labels(out, &group.resource.attributes);
            texts.put(out, &group.scope.name);
            texts.put(out, &group.scope.version);
            texts.put(out, &group.scope.schema_url);
            texts.put_labels(out, &group.scope.attributes);
            texts.put_labels(out, &group.labels);
        }
    });
}

/// The number of a table record.
pub(crate) fn table_number(payload: &[u8]) -> Option<u64> {
    Reader::new(payload).varint().ok()
}

/// What a shape record says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShapeHead {
    pub(crate) number: u64,
    pub(crate) table: u64,
}

impl ShapeHead {
    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { number: from.varint()?, table: from.varint()? })
    }
}

/// The rows of a table that was read.
#[derive(Debug)]
pub(super) struct ReadTable {
    metrics: Vec<Arc<Metric>>,
    sets: Vec<Labels>,
    /// Metric, labels, group.
    rows: Vec<(u32, u32, u32)>,
}

impl ReadTable {
    /// What follows the table's number.
    pub(super) fn read(from: &mut Reader<'_>, interner: &Interner) -> Result<Self, Malformed> {
        let texts = ReadTexts::read(from, |text| interner.str(text))?;
        let n = from.count(6)?;
        let metrics = (0..n)
            .map(|_| Ok(interner.metric(&Arc::new(metric(from, &texts)?))))
            .collect::<Result<Vec<_>, Malformed>>()?;
        let n = from.count(1)?;
        let sets = (0..n)
            .map(|_| Ok(interner.labels(&texts.labels(from)?)))
            .collect::<Result<Vec<_>, Malformed>>()?;
        let n = from.count(3)?;
        let rows = (0..n)
            .map(|_| {
                let metric = from.index(metrics.len())? as u32;
                let labels = from.index(sets.len())? as u32;
                Ok((metric, labels, from.index(u32::MAX as usize)? as u32))
            })
            .collect::<Result<Vec<_>, Malformed>>()?;
        Ok(Self { metrics, sets, rows })
    }

    /// The shape of these rows and the groups that follow the head of a shape record.
    pub(super) fn shape(
        &self,
        from: &mut Reader<'_>,
        interner: &Interner,
    ) -> Result<Arc<Shape>, Malformed> {
        let texts = ReadTexts::read(from, |text| interner.str(text))?;
        let mut builder = ShapeBuilder::new(interner);
        let n = from.count(7)?;
        let mut groups = Vec::with_capacity(n);
        for _ in 0..n {
            let schema_url = texts.text(from)?;
            let resource =
                Resource { attributes: interner.labels(&texts.labels(from)?), schema_url };
            let (name, version, schema_url) =
                (texts.text(from)?, texts.text(from)?, texts.text(from)?);
            let attributes = interner.labels(&texts.labels(from)?);
            let scope = Scope { name, version, attributes, schema_url };
            groups.push(builder.group(Group {
                resource: Arc::new(resource),
                scope: Arc::new(scope),
                labels: interner.labels(&texts.labels(from)?),
            }));
        }
        for (metric, labels, group) in &self.rows {
            let group = *groups.get(*group as usize).ok_or(Malformed)?;
            let (metric, labels) = (&self.metrics[*metric as usize], &self.sets[*labels as usize]);
            builder.push(group, metric, labels).map_err(|_| Malformed)?;
        }
        Ok(builder.finish())
    }
}

fn metric(from: &mut Reader<'_>, texts: &ReadTexts) -> Result<Metric, Malformed> {
    let (name, unit, description) = (texts.text(from)?, texts.text(from)?, texts.text(from)?);
    let number = match from.u8()? {
        0 => Number::Double,
        1 => Number::Int,
        _ => return Err(Malformed),
    };
    let hint = match from.u8()? {
        0 => Hint::None,
        1 => Hint::Unknown,
        2 => Hint::Info,
        3 => Hint::StateSet,
        4 => Hint::GaugeHistogram,
        _ => return Err(Malformed),
    };
    let temporality =
        |flags: u8| if flags & DELTA == 0 { Temporality::Cumulative } else { Temporality::Delta };
    let kind = match from.u8()? {
        0 => Kind::Gauge,
        1 => {
            let flags = from.u8()?;
            Kind::Sum { monotonic: flags & MONOTONIC != 0, temporality: temporality(flags) }
        }
        2 => {
            let flags = from.u8()?;
            Kind::Histogram {
                temporality: temporality(flags),
                bounds: bounds(from)?,
                min_max: flags & MIN_MAX != 0,
            }
        }
        3 => Kind::ExponentialHistogram { temporality: temporality(from.u8()?) },
        4 => Kind::Summary { quantiles: bounds(from)? },
        _ => return Err(Malformed),
    };
    Ok(Metric { name, unit, description, kind, number, hint })
}

fn bounds(from: &mut Reader<'_>) -> Result<Bounds, Malformed> {
    let n = from.count(8)?;
    let bounds = (0..n).map(|_| from.f64()).collect::<Result<Vec<_>, _>>()?;
    if bounds.windows(2).all(|pair| pair[0] < pair[1]) {
        Ok(Bounds::new(&bounds))
    } else {
        Err(Malformed)
    }
}
