//! OTLP requests from batches whose shapes are known: numbers of an SDK, pages of a fleet, and what learning costs.
//!
//! `items` of the counter column are points: a histogram is one.

#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use pipeline_model::{
    Batch, Bounds, Group, Interner, Kind, Labels, Metric, Resource, RowId, Shape, ShapeBuilder,
    Slot, SourceId,
};
use pipeline_net::Coding;
use pipeline_net::compress::Encoder as Compressor;
use pipeline_wire::otlp::encode::{Encoder, Options};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// `metrics` counters with `rows` series each, four attributes a point, of one resource.
fn sdk(metrics: usize, rows: usize) -> Batch {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let attributes = Labels::from_pairs([
        ("service.name", "checkout"),
        ("service.instance.id", "0af7651916cd43dd8448eb211c80319c"),
        ("k8s.pod.name", "checkout-7d9c5b8f6-abcde"),
    ]);
    let resource = Arc::new(Resource { attributes, ..Resource::default() });
    let group = builder.group(Group { resource, ..Group::default() });
    for metric in 0..metrics {
        let name = format!("http.server.requests_{metric}");
        let metric = Arc::new(Metric::new(&name, "{request}", "Requests.", Kind::COUNTER));
        for row in 0..rows {
            let route = format!("/api/v1/things/{row}");
            let own = Labels::from_pairs([
                ("http.request.method", "GET"),
                ("http.response.status_code", "200"),
                ("http.route", route.as_str()),
                ("server.address", "10.0.0.1"),
            ]);
            builder.push(group, &metric, &own).expect("new");
        }
    }
    batch(&builder.finish())
}

/// The page of an engine: 15 histograms of 20 bounds and 155 numbers, with the labels of its target.
fn page(interner: &Interner, replica: usize) -> Batch {
    let mut builder = ShapeBuilder::new(interner);
    let instance = format!("10.0.0.{replica}:8000");
    let pairs = [("deployment_id", "qvm1v4e"), ("instance", instance.as_str()), ("job", "vllm")];
    let group = builder.group(Group { labels: Labels::from_pairs(pairs), ..Group::default() });
    let own = Labels::from_pairs([("engine", "0"), ("model_name", "meta-llama/Llama-3.1-8B")]);
    let bounds: Vec<f64> = (0..20).map(|n| 0.001 * f64::from(1 << n)).collect();
    let bounds = Bounds::new(&bounds);
    for n in 0..170 {
        let (name, kind) = match n {
            0..15 => (format!("vllm:phase_{n}_seconds"), Kind::histogram(bounds.clone())),
            _ if n % 2 == 0 => (format!("vllm:thing_{n}_total"), Kind::COUNTER),
            _ => (format!("vllm:state_{n}"), Kind::Gauge),
        };
        let metric = Arc::new(Metric::new(&name, "", "What it is.", kind));
        builder.push(group, &metric, &own).expect("new");
    }
    batch(&builder.finish())
}

fn batch(shape: &Arc<Shape>) -> Batch {
    let slots = (0..shape.slots()).map(|n| Slot::double(n as f64 * 1.5)).collect();
    let starts = vec![1_699_999_000_000_000_000; shape.len()];
    let batch = Batch::new(SourceId::next(), Arc::clone(shape), 1_700_000_000_000_000_000, slots);
    Batch { starts: Some(Arc::new(starts)), ..batch }
}

fn run(bencher: Bencher<'_, '_>, batches: &[Batch]) {
    let points: usize = batches.iter().map(Batch::points).sum();
    let mut encoder = Encoder::new(Options::default());
    let mut encode = || {
        let all = batches.iter().map(|batch| (batch, 0..batch.shape.len() as RowId));
        black_box(encoder.encode(all)).bytes.len()
    };
    encode();
    bencher.counter(ItemsCount::new(points)).bench_local(encode);
}

/// 1000 counters: 10 metrics of 100 series.
#[divan::bench]
fn sdk_steady(bencher: Bencher<'_, '_>) {
    run(bencher, &[sdk(10, 100)]);
}

/// 10 counters of 10 metrics: the smallest request that is worth one.
#[divan::bench]
fn sdk_small(bencher: Bencher<'_, '_>) {
    run(bencher, &[sdk(10, 1)]);
}

/// 20 engines: 170 points each, 15 of them histograms.
#[divan::bench]
fn pages_steady(bencher: Bencher<'_, '_>) {
    let interner = Interner::new();
    let pages: Vec<Batch> = (0..20).map(|replica| page(&interner, replica)).collect();
    run(bencher, &pages);
}

/// Shapes that have not been seen before.
#[divan::bench]
fn learn(bencher: Bencher<'_, '_>) {
    let batch = sdk(10, 100);
    bencher.counter(ItemsCount::new(1000usize)).bench_local(|| {
        let mut encoder = Encoder::new(Options::default());
        black_box(encoder.encode([(&batch, 0..1000)])).points
    });
}

/// What compression costs a point of [`sdk_steady`], at the level that exporters use.
#[divan::bench(args = [Coding::Gzip, Coding::Zstd])]
fn compress(bencher: Bencher<'_, '_>, coding: Coding) {
    let batch = sdk(10, 100);
    let mut encoder = Encoder::new(Options::default());
    let request = encoder.encode([(&batch, 0..1000)]).bytes.to_vec();
    let (mut compressor, mut out) = (Compressor::new(1, 1), Vec::new());
    bencher.counter(ItemsCount::new(1000usize)).bench_local(|| {
        compressor.encode(coding, &request, &mut out).expect("room");
        black_box(&out).len()
    });
}
