//! Rendering the exposition: 200 sources of one table, 500 samples each, in each format; and what the state costs.
//!
//! `samples` of the counter column are lines: divide the time by them for the cost of one. The column "max alloc" of
//! `state` is all that the exposition holds beyond the batches themselves, texts of one escaping included.

#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use pipeline_model::{
    Batch, Bounds, Group, Interner, Kind, Labels, Metric, Shape, ShapeBuilder, Slot, SourceId,
};
use pipeline_net::Coding;
use pipeline_net::compress::Encoder;
use pipeline_wire::exposition::{Escaping, Exposition, Format, Only, Options, Style};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

const SOURCES: usize = 200;
/// 15 histograms of 23 lines and 155 numbers.
const SAMPLES: usize = 500;

fn main() {
    divan::main();
}

fn shape(interner: &Interner, replica: usize, distinct: bool) -> Arc<Shape> {
    let mut builder = ShapeBuilder::new(interner);
    let replica = format!("r{replica:04}");
    let group = builder.group(Group {
        labels: Labels::from_pairs([("deployment_id", "qvm1v4e"), ("replica", replica.as_str())]),
        ..Group::default()
    });
    let own = Labels::from_pairs([
        ("engine", if distinct { replica.as_str() } else { "0" }),
        ("model_name", "meta-llama/Llama-3.1-8B-Instruct"),
    ]);
    let bounds: Vec<f64> = (0..20).map(|n| 0.001 * f64::from(1 << n)).collect();
    let bounds = Bounds::new(&bounds);
    for n in 0..15 {
        let name = format!("vllm:request_phase_{n:02}_seconds");
        let metric = Metric::new(
            &name,
            "s",
            "Histogram of one phase of requests.",
            Kind::histogram(bounds.clone()),
        );
        builder.push(group, &Arc::new(metric), &own).expect("new");
    }
    for n in 0..155 {
        let (name, kind) = if n % 2 == 0 {
            (format!("vllm:thing_{n:03}_total"), Kind::COUNTER)
        } else {
            (format!("vllm:state_{n:03}"), Kind::Gauge)
        };
        builder
            .push(group, &Arc::new(Metric::new(&name, "", "A number.", kind)), &own)
            .expect("new");
    }
    builder.finish()
}

/// Counts are whole, gauges and sums are not: the mix of an engine's page.
fn batch(shape: &Arc<Shape>, seed: usize) -> Batch {
    let mut values = vec![Slot::default(); shape.slots()];
    for series in shape.iter() {
        for (nth, slot) in values[series.slots()].iter_mut().enumerate() {
            let whole = (seed * 7919 + series.row as usize * 131 + nth * 977) as f64;
            let fraction = matches!(series.metric.kind, Kind::Gauge)
                || (nth == 0 && series.metric.kind.slots() > 1);
            *slot = Slot::double(if fraction { whole / 1024.3 } else { whole });
        }
    }
    Batch::new(SourceId::next(), Arc::clone(shape), 1_700_000_000_000_000_000, values)
}

fn batches(distinct: bool) -> Vec<Batch> {
    let interner = Interner::new();
    (0..SOURCES).map(|n| batch(&shape(&interner, n, distinct), n)).collect()
}

fn filled(batches: &[Batch]) -> Exposition {
    let mut exposition = Exposition::new(10_000_000);
    for batch in batches {
        exposition.update(batch.clone(), 0);
    }
    exposition
}

#[divan::bench(args = [Format::Text, Format::OpenMetrics, Format::Protobuf])]
fn render(bencher: Bencher<'_, '_>, format: Format) {
    let mut exposition = filled(&batches(false));
    let style = Style { format, escaping: Escaping::AllowUtf8 };
    let mut page = Vec::new();
    bencher.counter(ItemsCount::new(SOURCES * SAMPLES)).bench_local(|| {
        page.clear();
        exposition.snapshot().render(style, Options::default(), None, &mut page);
        black_box(&page).len()
    });
}

/// What a reader costs that asks for compression, at the level that the exporter uses.
#[divan::bench(args = [Coding::Gzip, Coding::Zstd])]
fn compress(bencher: Bencher<'_, '_>, coding: Coding) {
    let mut page = Vec::new();
    let style = Style { format: Format::Text, escaping: Escaping::AllowUtf8 };
    filled(&batches(false)).snapshot().render(style, Options::default(), None, &mut page);
    let (mut encoder, mut out) = (Encoder::new(1, 1), Vec::new());
    bencher.counter(ItemsCount::new(SOURCES * SAMPLES)).bench_local(|| {
        encoder.encode(coding, &page, &mut out).expect("room");
        black_box(&out).len()
    });
}

/// The steady state of `update`: same shape, new values.
#[divan::bench]
fn update(bencher: Bencher<'_, '_>) {
    let batches = batches(false);
    let mut exposition = filled(&batches);
    bencher.counter(ItemsCount::new(SOURCES)).bench_local(|| {
        for batch in &batches {
            exposition.update(batch.clone(), 1);
        }
    });
}

/// Indexing all sources and rendering them once; `distinct`: no two tables are equal.
#[divan::bench(args = [false, true])]
fn state(bencher: Bencher<'_, '_>, distinct: bool) {
    let batches = batches(distinct);
    let style = Style { format: Format::Text, escaping: Escaping::Underscores };
    bencher.counter(ItemsCount::new(SOURCES * SAMPLES)).bench_local(|| {
        let mut exposition = filled(&batches);
        // Nothing passes, so that the texts are made and the page takes no memory.
        let nothing = Only { label: "none", values: &[] };
        exposition.snapshot().render(style, Options::default(), Some(nothing), &mut Vec::new());
        exposition
    });
}
