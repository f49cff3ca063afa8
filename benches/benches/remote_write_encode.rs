//! Remote write: 200 sources of one table, 500 samples each, to requests of 20 sources, in each form.
//!
//! Divide the time by the items for the cost of a sample. `memory`: the column "max alloc" is what the encoder holds for
//! all of them.

#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::sync::Arc;

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use pipeline_model::{
    Batch, Bounds, Group, Interner, Kind, Labels, Metric, Shape, ShapeBuilder, Slot, SourceId,
};
use pipeline_wire::remote_write::{Encoder, Form, Options, TargetInfos, Version};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

const SOURCES: usize = 200;
/// 15 histograms of 23 series and 155 numbers.
const SAMPLES: usize = 500;
/// Sources of one request.
const PARTS: usize = 20;

fn main() {
    divan::main();
}

fn shape(interner: &Interner, replica: usize) -> Arc<Shape> {
    let mut builder = ShapeBuilder::new(interner);
    let replica = format!("10.0.{}.{}:8000", replica / 250, replica % 250);
    let group = builder.group(Group {
        labels: Labels::from_pairs([
            ("deployment_id", "qvm1v4e"),
            ("instance", replica.as_str()),
            ("job", "engines"),
        ]),
        ..Group::default()
    });
    let own =
        Labels::from_pairs([("engine", "0"), ("model_name", "meta-llama/Llama-3.1-8B-Instruct")]);
    let bounds: Vec<f64> = (0..20).map(|n| 0.001 * f64::from(1 << n)).collect();
    let bounds = Bounds::new(&bounds);
    for n in 0..15 {
        let name = format!("vllm:request_phase_{n:02}_seconds");
        let help = "Histogram of one phase of requests.";
        let metric = Metric::new(&name, "s", help, Kind::histogram(bounds.clone()));
        builder.push(group, &Arc::new(metric), &own).expect("new");
    }
    for n in 0..155 {
        let (name, kind) = if n % 2 == 0 {
            (format!("vllm:thing_{n:03}_total"), Kind::COUNTER)
        } else {
            (format!("vllm:state_{n:03}"), Kind::Gauge)
        };
        let metric = Metric::new(&name, "", "A number.", kind);
        builder.push(group, &Arc::new(metric), &own).expect("new");
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
    let time = 1_700_000_000_000_000_000;
    let mut batch = Batch::new(SourceId::next(), Arc::clone(shape), time, values);
    batch.starts = Some(Arc::new(vec![time - 3_600_000_000_000; shape.len()]));
    batch
}

fn batches() -> Vec<Batch> {
    let interner = Interner::new();
    (0..SOURCES).map(|n| batch(&shape(&interner, n), n)).collect()
}

/// All batches, in requests; says how many bytes come out.
fn encode(encoder: &mut Encoder, batches: &mut [Batch], form: Form, out: &mut Vec<u8>) -> usize {
    let mut bytes = 0;
    for parts in batches.chunks_mut(PARTS) {
        parts.iter_mut().for_each(|batch| batch.time += 15_000_000_000);
        out.clear();
        let parts = parts.iter().map(|batch| (batch, 0..batch.shape.len() as u32));
        black_box(encoder.encode(parts, form, out));
        encoder.commit();
        bytes += out.len();
    }
    bytes
}

const FORMS: [(Version, bool); 4] =
    [(Version::V1, true), (Version::V2, true), (Version::V1, false), (Version::V2, false)];

/// The steady state: known shapes, new values.
#[divan::bench(args = FORMS)]
fn steady(bencher: Bencher<'_, '_>, (version, snappy): (Version, bool)) {
    let (mut batches, mut out) = (batches(), Vec::new());
    let form = Form { version, snappy };
    let mut encoder = Encoder::new(Options::default(), Arc::new(TargetInfos::default()));
    let bytes = encode(&mut encoder, &mut batches, form, &mut out);
    bencher
        .counter(ItemsCount::new(SOURCES * SAMPLES))
        .counter(BytesCount::new(bytes))
        .bench_local(|| encode(&mut encoder, &mut batches, form, &mut out));
}

/// All shapes new, and what is held for them.
#[divan::bench]
fn memory(bencher: Bencher<'_, '_>) {
    let mut batches = batches();
    let form = Form { version: Version::V1, snappy: true };
    let mut out = Vec::with_capacity(4 << 20);
    bencher.counter(ItemsCount::new(SOURCES * SAMPLES)).bench_local(|| {
        let mut encoder = Encoder::new(Options::default(), Arc::new(TargetInfos::default()));
        encode(&mut encoder, &mut batches, form, &mut out);
        encoder
    });
}
