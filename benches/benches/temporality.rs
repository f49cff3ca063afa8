//! What the conversion of temporality costs. Divide by the items: numbers, or slots of histograms (sum, count and each
//! bound one).
//!
//! Steady state: sources are known, exporters hold the newest column, as they do in the agent. `marked` has every
//! seventh row absent, as batches of OTLP streams have. No batch may allocate.
#![expect(clippy::expect_used, reason = "a benchmark stops where it stands")]

use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use pipeline_component::{Processor, Settings};
use pipeline_model::{
    Batch, Bounds, Compute, Group, Kind, Labels, Mark, Metric, Shape, ShapeBuilder, Slot, SourceId,
    Temporality,
};
use pipeline_temporality::{Options, processor};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

/// Rows of a source.
const ROWS: usize = 1000;
/// Finite bounds of its histograms.
const BOUNDS: usize = 14;
/// Seconds between batches.
const INTERVAL: i64 = 10_000_000_000;

fn main() {
    divan::main();
}

fn step(settings: &Settings, to: Temporality) -> Box<dyn Compute> {
    let options = match to {
        Temporality::Delta => Options::delta(),
        Temporality::Cumulative => Options::cumulative(),
    };
    match processor(options, settings) {
        Processor::Compute(make) => make(),
        Processor::Reshape(_) => unreachable!("it works on values"),
    }
}

fn shape(settings: &Settings, kind: Kind) -> Arc<Shape> {
    let mut builder = ShapeBuilder::new(&settings.interner);
    let group = builder.group(Group::default());
    let metric = Arc::new(Metric::new("m", "", "", kind));
    for row in 0..ROWS {
        let labels = Labels::from_pairs([("row", row.to_string().as_str())]);
        builder.push(group, &metric, &labels).expect("rows differ");
    }
    builder.finish()
}

/// Batches follow each other in time; of cumulative kinds the values rise.
fn steady(bencher: Bencher<'_, '_>, to: Temporality, kind: Kind, absent: bool) {
    let settings = Settings::standalone("processor", "bench");
    let shape = shape(&settings, kind);
    let source = SourceId::next();
    let marks = absent.then(|| {
        let mark = |row| if row % 7 == 0 { Mark::Absent } else { Mark::Present };
        Arc::new((0..ROWS).map(mark).collect())
    });
    let width = shape.slots() / ROWS;
    let column = |turn: usize| {
        let value = |slot: usize| match slot % width {
            // The count of all, and one number.
            1 | 0 if width > 1 => (100 * turn) as f64,
            0 => turn as f64,
            bucket => ((bucket - 1) * turn) as f64,
        };
        Arc::new((0..shape.slots()).map(|slot| Slot::double(value(slot))).collect::<Vec<_>>())
    };
    // A cycle ends in a reset; it is long enough for that to be nothing.
    let columns: Vec<_> = (1..=256).map(column).collect();
    let mut step = step(&settings, to);
    let (mut out, mut held) = (Vec::with_capacity(4), None);
    let mut turn = 0;
    let mut run = || {
        turn += 1;
        let batch = Batch {
            source,
            shape: Arc::clone(&shape),
            time: turn as i64 * INTERVAL,
            starts: None,
            values: Arc::clone(&columns[turn % columns.len()]),
            marks: marks.clone(),
            extras: None,
            ended: false,
        };
        step.compute(black_box(batch), &mut out);
        held = out.pop();
    };
    (0..8).for_each(|_| run());
    bencher.counter(ItemsCount::new(ROWS * width)).bench_local(run);
    assert!(held.is_some_and(|batch| batch.points() > ROWS / 2), "points go out");
}

const fn counter(temporality: Temporality) -> Kind {
    Kind::Sum { monotonic: true, temporality }
}

fn histogram(temporality: Temporality) -> Kind {
    let bounds: Vec<f64> = (0..BOUNDS).map(|bound| bound as f64).collect();
    Kind::Histogram { temporality, bounds: Bounds::new(&bounds), min_max: false }
}

#[divan::bench]
fn numbers_to_delta(bencher: Bencher<'_, '_>) {
    steady(bencher, Temporality::Delta, counter(Temporality::Cumulative), false);
}

#[divan::bench]
fn numbers_to_delta_marked(bencher: Bencher<'_, '_>) {
    steady(bencher, Temporality::Delta, counter(Temporality::Cumulative), true);
}

#[divan::bench]
fn numbers_to_cumulative(bencher: Bencher<'_, '_>) {
    steady(bencher, Temporality::Cumulative, counter(Temporality::Delta), false);
}

#[divan::bench]
fn histograms_to_delta(bencher: Bencher<'_, '_>) {
    steady(bencher, Temporality::Delta, histogram(Temporality::Cumulative), false);
}

#[divan::bench]
fn histograms_to_cumulative(bencher: Bencher<'_, '_>) {
    steady(bencher, Temporality::Cumulative, histogram(Temporality::Delta), false);
}
