//! The delimited protobuf format: for readers that want native histograms and start times.

use pipeline_model::{Batch, Extras, Mark, Series, Slot};
use prost::Message;

use super::index::Layout;
use super::label_text::BoundTexts;
use super::snapshot::{Only, Snapshot, View, bit};
use super::text::{family_names, latest};
use super::{Escaping, Options, native};
use crate::prometheus::family::{Type, unit_word};
use crate::prometheus::labels::{escaped_labels, reserved_label};
use crate::proto::client_model::{
    Bucket, Counter, Exemplar, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
    Quantile, Summary, Timestamp, Untyped,
};

/// Writes the page. One family is in memory at a time.
pub(super) fn render(
    snapshot: &Snapshot,
    escaping: Escaping,
    options: Options,
    only: Option<Only<'_>>,
    out: &mut Vec<u8>,
) {
    let hidden: Vec<_> = snapshot.views.iter().map(|view| view.hidden(only)).collect();
    let names = family_names(&snapshot.heads, snapshot.naming, escaping, false);
    for (head, name) in snapshot.heads.iter().zip(names) {
        let Some(name) = name else { continue };
        let mut family = MetricFamily {
            help: Some(head.metric.description.to_string()).filter(|help| !help.is_empty()),
            r#type: Some(type_of(name.ty) as i32),
            unit: unit_word(&name.family, &head.metric.unit).map(str::to_owned),
            name: Some(name.family),
            metric: Vec::new(),
        };
        for (view, hidden) in snapshot.views.iter().zip(&hidden) {
            let page = Page { view, hidden: hidden.as_deref(), ty: head.ty, escaping, options };
            page.append(&head.metric.name, &mut family.metric);
        }
        if !family.metric.is_empty() {
            // A Vec grows: encoding cannot run out of room.
            _ = family.encode_length_delimited(out);
        }
    }
}

fn type_of(ty: Type) -> MetricType {
    match ty {
        Type::Counter => MetricType::Counter,
        Type::Gauge | Type::Info | Type::StateSet => MetricType::Gauge,
        Type::Histogram => MetricType::Histogram,
        Type::Summary => MetricType::Summary,
        Type::Unknown => MetricType::Untyped,
        Type::GaugeHistogram => MetricType::GaugeHistogram,
    }
}

/// One source's part of one family.
struct Page<'a> {
    view: &'a View,
    hidden: Option<&'a [u64]>,
    ty: Type,
    escaping: Escaping,
    options: Options,
}

impl Page<'_> {
    fn append(&self, family: &str, out: &mut Vec<Metric>) {
        let (table, batch) = (&self.view.index.table, &self.view.batch);
        let Ok(idx) = table.spans.binary_search_by(|span| span.metric.name.as_str().cmp(family))
        else {
            return;
        };
        for position in table.spans[idx].rows.clone() {
            let Some(row) = table.rows.get(position as usize) else { continue };
            if bit(self.hidden, position) || batch.mark(row.row) != Mark::Present {
                continue;
            }
            if let (Some(series), Some((_, layout))) =
                (batch.shape.get(row.row), table.metrics.get(row.metric as usize))
            {
                out.push(self.metric(batch, &series, layout));
            }
        }
    }

    fn metric(&self, batch: &Batch, series: &Series<'_>, layout: &Layout) -> Metric {
        let slots = batch.point(series.row);
        let reserved = reserved_label(&series.metric.kind);
        let mut out = Metric {
            label: pairs(escaped_labels(series.labels_merged(), self.escaping, reserved)),
            timestamp_ms: self
                .options
                .timestamps
                .then(|| batch.time_of(series.row).div_euclid(1_000_000)),
            ..Metric::default()
        };
        let created_timestamp =
            Some(batch.start(series.row)).filter(|start| *start > 0).map(timestamp);
        let exemplar =
            |above, upto| self.exemplar(batch.extras.as_deref(), series.row, above, upto);
        let double = |idx: usize| slots.get(idx).copied().unwrap_or_default().as_double();
        let (sum, count) = (Some(double(0)).filter(|sum| !sum.is_nan()), double(1));
        match layout {
            Layout::Number { int } => {
                let slot = slots.first().copied().unwrap_or_default();
                let value = Some(if *int { slot.as_int() as f64 } else { slot.as_double() });
                match self.ty {
                    Type::Counter => {
                        let exemplar = exemplar(f64::NEG_INFINITY, f64::INFINITY);
                        out.counter = Some(Counter { value, exemplar, created_timestamp });
                    }
                    Type::Unknown => out.untyped = Some(Untyped { value }),
                    _ => out.gauge = Some(Gauge { value }),
                }
            }
            Layout::Summary { quantiles } => {
                let quantile = |idx| Quantile {
                    quantile: Some(quantiles.value(idx)),
                    value: Some(double(2 + idx)),
                };
                out.summary = Some(Summary {
                    sample_count: Some(count as u64),
                    sample_sum: sum,
                    quantile: (0..quantiles.len() - 1).map(quantile).collect(),
                    created_timestamp,
                });
            }
            Layout::Histogram { first, bounds } => {
                let buckets = slots.get(*first..).unwrap_or_default();
                let mut histogram = histogram(count, sum, created_timestamp);
                histogram.bucket = classic(buckets, slots.get(1), bounds, exemplar);
                out.histogram = Some(histogram);
            }
            Layout::Exponential => {
                let mut histogram = histogram(count, sum, created_timestamp);
                if let Some(point) =
                    batch.extras.as_ref().and_then(|extras| extras.exponential(series.row))
                {
                    native::fill(point, count, &mut histogram);
                    histogram.exemplars.extend(exemplar(f64::NEG_INFINITY, f64::INFINITY));
                }
                out.histogram = Some(histogram);
            }
        }
        out
    }

    fn exemplar(
        &self,
        extras: Option<&Extras>,
        row: u32,
        above: f64,
        upto: f64,
    ) -> Option<Exemplar> {
        let exemplar = latest(&extras?.exemplars, row, above, upto)?;
        Some(Exemplar {
            label: pairs(escaped_labels(exemplar.labels.iter(), self.escaping, None)),
            value: Some(exemplar.value),
            timestamp: Some(exemplar.time).filter(|time| *time > 0).map(timestamp),
        })
    }
}

fn histogram(
    count: f64,
    sample_sum: Option<f64>,
    created_timestamp: Option<Timestamp>,
) -> Histogram {
    let whole = native::is_whole(count);
    Histogram {
        sample_count: whole.then_some(count as u64),
        sample_count_float: (!whole).then_some(count),
        sample_sum,
        created_timestamp,
        ..Histogram::default()
    }
}

fn classic(
    buckets: &[Slot],
    count: Option<&Slot>,
    bounds: &BoundTexts,
    exemplar: impl Fn(f64, f64) -> Option<Exemplar>,
) -> Vec<Bucket> {
    buckets
        .iter()
        .take(bounds.len() - 1)
        .chain(count)
        .enumerate()
        .map(|(idx, slot)| {
            let (value, whole) = (slot.as_double(), native::is_whole(slot.as_double()));
            let above = if idx == 0 { f64::NEG_INFINITY } else { bounds.value(idx - 1) };
            Bucket {
                cumulative_count: whole.then_some(value as u64),
                cumulative_count_float: (!whole).then_some(value),
                upper_bound: Some(bounds.value(idx)),
                exemplar: exemplar(above, bounds.value(idx)),
            }
        })
        .collect()
}

fn timestamp(nanos: i64) -> Timestamp {
    Timestamp {
        seconds: nanos.div_euclid(1_000_000_000),
        nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
    }
}

fn pairs(labels: Vec<(std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)>) -> Vec<LabelPair> {
    labels
        .into_iter()
        .map(|(name, value)| LabelPair {
            name: Some(name.into_owned()),
            value: Some(value.into_owned()),
        })
        .collect()
}
