//! A batch as text: a line for the batch, one for each point.

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime};

use pipeline_model::{Batch, Kind, Mark, Number, Series, Slot, Temporality};

use super::Verbosity;

/// Everything of `batch`, rows that are absent left out.
pub(super) fn batch(batch: &Batch, verbosity: Verbosity) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    _ = write_batch(&mut out, batch, verbosity == Verbosity::Detailed);
    out
}

fn write_batch(out: &mut String, batch: &Batch, detailed: bool) -> fmt::Result {
    let end = if batch.ended { ", the last" } else { "" };
    let (points, series) = (batch.points(), batch.shape.len());
    write!(out, "# source {}", batch.source.get())?;
    let group = batch.shape.groups().first();
    let mut before = " {";
    for label in group.iter().flat_map(|group| group.labels.iter()) {
        if matches!(label.name.as_str(), "instance" | "job") {
            write!(out, "{before}{}={:?}", label.name, label.value.to_string())?;
            before = ",";
        }
    }
    let close = if before == "," { "}" } else { "" };
    writeln!(out, "{close} at {}: {points} points of {series} series{end}", moment(batch.time))?;
    let mut group = None;
    for series in batch.shape.iter() {
        if detailed && group != Some(series.group_idx) {
            group = Some(series.group_idx);
            let (resource, scope) = (&series.group.resource.attributes, &series.group.scope);
            writeln!(
                out,
                "# resource {resource} scope {:?} {:?}",
                scope.name.as_str(),
                scope.version.as_str()
            )?;
        }
        match batch.mark(series.row) {
            Mark::Absent => continue,
            Mark::Stale => {
                name(out, &series)?;
                out.push_str(" stale");
            }
            Mark::Present => {
                name(out, &series)?;
                point(out, batch, &series, detailed)?;
                if detailed {
                    details(out, batch, &series)?;
                }
            }
        }
        out.push('\n');
    }
    Ok(())
}

/// Unix nanoseconds for people.
fn moment(nanos: i64) -> String {
    match u64::try_from(nanos) {
        Ok(nanos) => {
            let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
            humantime::format_rfc3339_millis(time).to_string()
        }
        // Before 1970, where RFC 3339 is of no help to find the mistake.
        Err(_) => format!("{:.3}", nanos as f64 / 1e9),
    }
}

fn name(out: &mut String, series: &Series<'_>) -> fmt::Result {
    out.push_str(&series.metric.name);
    let mut before = '{';
    for label in series.labels_merged() {
        write!(out, "{before}{}={:?}", label.name, label.value.to_string())?;
        before = ',';
    }
    if before == ',' {
        out.push('}');
    }
    Ok(())
}

fn point(out: &mut String, batch: &Batch, series: &Series<'_>, detailed: bool) -> fmt::Result {
    let slots = batch.point(series.row);
    let double = |idx: usize| slots.get(idx).copied().unwrap_or_default().as_double();
    match &series.metric.kind {
        Kind::Gauge | Kind::Sum { .. } if series.metric.number == Number::Int => {
            write!(out, " {}", slots.first().copied().unwrap_or_default().as_int())
        }
        Kind::Gauge | Kind::Sum { .. } => write!(out, " {}", double(0)),
        Kind::Histogram { bounds, .. } => {
            write!(out, " count={} sum={}", double(1), double(0))?;
            if detailed {
                buckets(
                    out,
                    bounds.as_slice(),
                    slots.get(series.metric.kind.first_bucket()..).unwrap_or_default(),
                )?;
            }
            Ok(())
        }
        Kind::Summary { quantiles } => {
            write!(out, " count={} sum={}", double(1), double(0))?;
            buckets(out, quantiles.as_slice(), slots.get(2..).unwrap_or_default())
        }
        Kind::ExponentialHistogram { .. } => {
            write!(out, " count={} sum={}", double(1), double(0))?;
            match batch.extras.as_ref().and_then(|extras| extras.exponential(series.row)) {
                Some(point) if detailed => write!(
                    out,
                    " scale={} zero={} positive={}{:?} negative={}{:?}",
                    point.scale,
                    point.zero_count,
                    point.positive.offset,
                    point.positive.counts,
                    point.negative.offset,
                    point.negative.counts
                ),
                _ => Ok(()),
            }
        }
    }
}

fn buckets(out: &mut String, bounds: &[f64], values: &[Slot]) -> fmt::Result {
    bounds
        .iter()
        .zip(values)
        .try_for_each(|(bound, value)| write!(out, " {bound}:{}", value.as_double()))
}

fn details(out: &mut String, batch: &Batch, series: &Series<'_>) -> fmt::Result {
    let kind = match &series.metric.kind {
        Kind::Gauge => "gauge",
        Kind::Sum { monotonic: true, .. } => "counter",
        Kind::Sum { monotonic: false, .. } => "sum",
        Kind::Histogram { .. } => "histogram",
        Kind::ExponentialHistogram { .. } => "exponential histogram",
        Kind::Summary { .. } => "summary",
    };
    write!(out, " ({kind}")?;
    if let Kind::Sum { temporality: Temporality::Delta, .. }
    | Kind::Histogram { temporality: Temporality::Delta, .. }
    | Kind::ExponentialHistogram { temporality: Temporality::Delta } = &series.metric.kind
    {
        out.push_str(", delta");
    }
    if !series.metric.unit.is_empty() {
        write!(out, ", unit {}", series.metric.unit)?;
    }
    let start = batch.start(series.row);
    if start != 0 {
        write!(out, ", since {}", moment(start))?;
    }
    out.push(')');
    let exemplars = batch.extras.iter().flat_map(|extras| &extras.exemplars);
    for exemplar in exemplars.filter(|exemplar| exemplar.row == series.row) {
        write!(out, " # {} {}", exemplar.labels, exemplar.value)?;
    }
    Ok(())
}
