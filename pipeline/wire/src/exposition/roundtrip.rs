//! A page that is read back says what was written, in every format and whatever the labels and values are.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipeline_model::{
    Batch, Bounds, ExponentialBuckets, ExponentialPoint, Extras, Group, Interner, Kind, Label,
    Labels, Metric, Series, ShapeBuilder, Slot, SourceId, Str, Temporality, Value,
};
use proptest::prelude::*;

use super::{Escaping, Exposition, Format, Options, Style};
use crate::scrape::{Layouts, PageFormat, PageReader, PageSettings};

/// What a series says: kind and values, with NaNs all alike.
type Said = BTreeMap<String, String>;

const BOUNDS: &[f64] = &[1e-5, 0.5, 1.0, 2_500_000.0];

/// One row: which metric, its labels, seeds of its values.
type Row = (usize, Vec<(usize, String)>, Vec<f64>);

/// The metrics: one kind each, so that names do not conflict.
fn metric(idx: usize) -> Metric {
    let native = Kind::ExponentialHistogram { temporality: Temporality::Cumulative };
    let (name, unit, kind) = match idx {
        0 => ("requests_total", "", Kind::COUNTER),
        1 => ("http.open", "", Kind::Gauge),
        2 => ("wait_seconds", "s", Kind::histogram(Bounds::new(BOUNDS))),
        3 => ("größe", "", Kind::histogram(Bounds::new(&[]))),
        4 => ("took", "", Kind::Summary { quantiles: Bounds::new(&[0.0, 0.5, 1.0]) }),
        5 => ("sent.bytes_total", "By", Kind::COUNTER),
        _ => ("native", "", native),
    };
    Metric::new(name, unit, "Help \\ with\n\"all\".", kind)
}

fn slots(kind: &Kind, seeds: &[f64]) -> Vec<Slot> {
    let seed = |idx: usize| seeds.get(idx % seeds.len().max(1)).copied().unwrap_or(0.0);
    let count =
        |idx: usize| if seed(idx).is_finite() { (seed(idx).abs() % 1e9).floor() } else { 3.0 };
    let mut values = vec![seed(0)];
    match kind {
        Kind::Gauge | Kind::Sum { .. } => {}
        Kind::Histogram { bounds, .. } => {
            let mut total = 0.0;
            let buckets: Vec<f64> = (0..=bounds.len())
                .map(|idx| {
                    total += count(idx);
                    total
                })
                .collect();
            values.push(total);
            values.extend(&buckets[..bounds.len()]);
        }
        Kind::ExponentialHistogram { .. } => values.push(count(1) + 7.0),
        Kind::Summary { quantiles } => {
            values.push(count(1));
            values.extend((0..quantiles.len()).map(seed));
        }
    }
    values.into_iter().map(Slot::double).collect()
}

fn point(seeds: &[f64]) -> ExponentialPoint {
    let spread = seeds.len() as i32;
    ExponentialPoint {
        scale: spread % 9,
        zero_count: 1.0,
        zero_threshold: 0.25,
        positive: ExponentialBuckets { offset: -spread, counts: vec![1.0, 0.0, 0.0, 3.0] },
        negative: ExponentialBuckets { offset: spread, counts: vec![2.0] },
        ..ExponentialPoint::default()
    }
}

fn batch(interner: &Interner, replica: usize, rows: &[Row]) -> Batch {
    let mut builder = ShapeBuilder::new(interner);
    let labels = Labels::from_pairs([("replica", replica.to_string().as_str())]);
    let group = builder.group(Group { labels, ..Group::default() });
    let (mut values, mut extras) = (Vec::new(), Extras::default());
    for (idx, labels, seeds) in rows {
        let metric = Arc::new(metric(*idx));
        let labels = labels.iter().map(|(name, value)| Label {
            name: Str::new(["a", "b.c", "übel", "x_y"][*name]),
            value: Value::Str(Str::new(value)),
        });
        let Ok(row) = builder.push(group, &metric, &Labels::new(labels.collect())) else {
            continue;
        };
        values.extend(slots(&metric.kind, seeds));
        if matches!(metric.kind, Kind::ExponentialHistogram { .. }) {
            extras.exponentials.push((row, point(seeds)));
        }
    }
    let mut batch = Batch::new(SourceId::next(), builder.finish(), 0, values);
    batch.extras = Some(Arc::new(extras));
    batch
}

fn say(batch: &Batch, native: bool) -> Said {
    let one = |series: Series<'_>| {
        // To Prometheus an empty label is none.
        let labels: Vec<String> = series
            .labels_merged()
            .filter(|label| label.value.as_str() != Some(""))
            .map(|label| format!("{label:?}"))
            .collect();
        let mut kind = format!("{:?}", series.metric.kind);
        let mut values: Vec<f64> =
            batch.point(series.row).iter().map(|slot| slot.as_double()).collect();
        let mut extra = String::new();
        if matches!(series.metric.kind, Kind::ExponentialHistogram { .. }) {
            if native {
                extra = format!(
                    "{:?}",
                    batch.extras.as_ref().and_then(|extras| extras.exponential(series.row))
                );
            } else {
                // As text it is a histogram with the bucket to +Inf alone.
                kind = format!("{:?}", Kind::histogram(Bounds::new(&[])));
                values.truncate(2);
            }
        }
        (format!("{} {labels:?}", series.metric.name), format!("{kind} {values:?} {extra}"))
    };
    batch.shape.iter().map(one).collect()
}

fn read_back(page: &[u8], format: PageFormat) -> Said {
    let interner = Interner::new();
    let mut reader = PageReader::new(PageSettings::default());
    let page = reader.read(format, page, &interner, &Layouts::default()).expect("a page");
    assert_eq!(page.stats.duplicates, 0);
    let mut batch = Batch::new(SourceId::next(), page.shape, 0, page.values);
    batch.extras = page.extras.map(Arc::new);
    say(&batch, format == PageFormat::Protobuf)
}

fn rows() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let value = prop_oneof![
        any::<f64>(),
        (0u32..1000).prop_map(f64::from),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(-0.0),
        Just(1e15),
    ];
    let text = prop_oneof!["[a-z]{0,4}", "[\"\\\\\n{},= ü#]{0,6}", any::<String>()];
    let labels = prop::collection::vec((0usize..4, text), 0..3);
    let row = (0usize..7, labels, prop::collection::vec(value, 1..6));
    prop::collection::vec(prop::collection::vec(row, 0..8), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_written_is_read_back(sources in rows()) {
        let interner = Interner::new();
        let batches: Vec<Batch> =
            sources.iter().enumerate().map(|(replica, rows)| batch(&interner, replica, rows)).collect();
        let mut exposition = Exposition::new(10_000);
        let mut shown = true;
        for batch in &batches {
            shown &= exposition.update(batch.clone(), 0) == super::Dropped::default();
        }
        // Series that differ by an empty label alone are one: unit tests have them.
        prop_assume!(shown);
        for (format, page_format) in [
            (Format::Text, PageFormat::Text),
            (Format::OpenMetrics, PageFormat::OpenMetrics),
            (Format::Protobuf, PageFormat::Protobuf),
        ] {
            let mut page = Vec::new();
            let style = Style { format, escaping: Escaping::AllowUtf8 };
            exposition.snapshot().render(style, Options::default(), None, &mut page);
            let native = format == Format::Protobuf;
            let written: Said = batches.iter().flat_map(|batch| say(batch, native)).collect();
            prop_assert_eq!(
                read_back(&page, page_format), written, "{:?}:\n{}", format, String::from_utf8_lossy(&page)
            );
        }
    }
}
