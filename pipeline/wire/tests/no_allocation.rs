//! In the steady state a page costs a fixed handful of allocations, however many samples it has, and so does an OTLP
//! request.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric as OtlpMetric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
};
use pipeline_model::{
    Batch, Bounds, Group, Interner, Kind, Labels, Mark, Metric, ShapeBuilder, Slot, SourceId,
};
use pipeline_wire::otlp::{MetricsReader, ReadSettings};
use pipeline_wire::remote_write::{Encoder, Form, Options, TargetInfos, Version};
use pipeline_wire::scrape::{Layouts, PageFormat, PagePath, PageReader, PageSettings};
use prost::Message;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[expect(
    unsafe_code,
    reason = "a global allocator that counts; it hands everything to the system's"
)]
// SAFETY: all calls go to `System` unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A page of `families` histograms with 20 buckets, counters and gauges; values change with `moment`.
fn page(families: usize, moment: usize) -> String {
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").unwrap();
    for f in 0..families {
        let labels = format!("engine=\"0\",model_name=\"some/model-{f}\"");
        line(format_args!(
            "# HELP eng:phase_{f}_seconds One phase.\n# TYPE eng:phase_{f}_seconds histogram"
        ));
        for b in 0..20 {
            line(format_args!(
                "eng:phase_{f}_seconds_bucket{{le=\"{b}.5\",{labels}}} {}.0",
                b + moment
            ));
        }
        line(format_args!(
            "eng:phase_{f}_seconds_bucket{{le=\"+Inf\",{labels}}} {}.0",
            20 + moment
        ));
        line(format_args!("eng:phase_{f}_seconds_count{{{labels}}} {}.0", 20 + moment));
        line(format_args!("eng:phase_{f}_seconds_sum{{{labels}}} {}.318684866375648", moment + 12));
        line(format_args!("eng:phase_{f}_seconds_created{{{labels}}} 1.7953193486548054e+09"));
        line(format_args!(
            "# TYPE eng:done_{f}_total counter\neng:done_{f}_total{{{labels}}} {moment}e+06"
        ));
        line(format_args!("# TYPE eng:depth_{f} gauge\neng:depth_{f}{{{labels}}} NaN"));
    }
    out
}

/// Allocations of reading one more page of `families` families that looks like the ones before.
fn allocations(families: usize) -> usize {
    let (interner, layouts) = (Interner::new(), Layouts::new());
    let mut reader = PageReader::new(PageSettings {
        group: Group { labels: Labels::from_pairs([("instance", "t")]), ..Group::default() },
        synthetic: Arc::new([Arc::new(Metric::new("up", "", "", Kind::Gauge))]),
        ..PageSettings::default()
    });
    for moment in 0..3 {
        let body = page(families, moment);
        reader.read(PageFormat::Text, body.as_bytes(), &interner, &layouts).unwrap();
    }
    let body = page(families, 3);
    let before = ALLOCATIONS.with(Cell::get);
    let page = reader.read(PageFormat::Text, body.as_bytes(), &interner, &layouts).unwrap();
    let count = ALLOCATIONS.with(Cell::get) - before;
    assert_eq!(page.stats.path, PagePath::Cached);
    assert_eq!(page.stats.samples, families * 26);
    count
}

#[test]
fn none_per_sample() {
    let (small, large) = (allocations(2), allocations(200));
    assert_eq!(small, large, "52 and 5200 samples");
    assert!(large <= 2, "{large} allocations a page");
}

/// A request of `series` gauges.
fn request(series: usize, moment: u64) -> Vec<u8> {
    let point = |idx: usize| NumberDataPoint {
        attributes: vec![KeyValue {
            key: "engine".into(),
            value: Some(AnyValue { value: Some(Value::StringValue(idx.to_string())) }),
            ..KeyValue::default()
        }],
        time_unix_nano: moment,
        value: Some(Number::AsInt(moment.cast_signed())),
        ..NumberDataPoint::default()
    };
    let metric = |name: usize| OtlpMetric {
        name: format!("m{name}"),
        data: Some(Data::Gauge(Gauge { data_points: (0..10).map(point).collect() })),
        ..OtlpMetric::default()
    };
    let metrics = (0..series / 10).map(metric).collect();
    let scope = ScopeMetrics { metrics, ..ScopeMetrics::default() };
    let one = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![one] }.encode_to_vec()
}

/// Allocations of one more request of known series.
fn allocations_of_request(series: usize) -> usize {
    let reader = MetricsReader::new(ReadSettings::default(), Arc::new(Interner::new()));
    let mut out = Vec::with_capacity(8);
    for moment in 1..3 {
        reader.read(&request(series, moment), 9, &mut out).unwrap();
    }
    let body = request(series, 3);
    let before = ALLOCATIONS.with(Cell::get);
    let stats = reader.read(&body, 9, &mut out).unwrap();
    let count = ALLOCATIONS.with(Cell::get) - before;
    assert_eq!((stats.points, stats.rejected), (series as u64, 0));
    count
}

#[test]
fn none_per_point() {
    let (small, large) = (allocations_of_request(10), allocations_of_request(2000));
    assert_eq!(small, large, "10 and 2000 points");
    assert!(large <= 4, "{large} allocations a request");
}

/// Allocations of one more remote-write request of `rows` histograms, some absent, that looks like the ones before.
fn written(rows: usize, form: Form) -> usize {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let group = builder.group(Group::default());
    let kind = Kind::histogram(Bounds::new(&[0.5, 1.0, 2.0]));
    for row in 0..rows {
        let metric = Arc::new(Metric::new(&format!("wait_{row}"), "", "", kind.clone()));
        builder.push(group, &metric, &Labels::from_pairs([("model", "m")])).unwrap();
    }
    let shape = builder.finish();
    let values = (0..shape.slots()).map(|slot| Slot::double(slot as f64)).collect();
    let mut batch = Batch::new(SourceId::next(), shape, 1_700_000_000_000_000_000, values);
    let mark = |row| if row % 3 == 0 { Mark::Absent } else { Mark::Present };
    batch.marks = Some(Arc::new((0..rows).map(mark).collect()));
    let mut encoder = Encoder::new(Options::default(), Arc::new(TargetInfos::default()));
    let mut out = Vec::new();
    let mut count = 0;
    for _ in 0..4 {
        batch.time += 15_000_000_000;
        out.clear();
        let before = ALLOCATIONS.with(Cell::get);
        encoder.encode([(&batch, 0..rows as u32)], form, &mut out);
        encoder.commit();
        count = ALLOCATIONS.with(Cell::get) - before;
    }
    count
}

#[test]
fn none_per_sample_of_remote_write() {
    for version in [Version::V1, Version::V2] {
        for snappy in [false, true] {
            let form = Form { version, snappy };
            let (small, large) = (written(3, form), written(300, form));
            assert_eq!(small, large, "{form:?}: 18 and 1800 samples");
            assert!(large <= 1, "{form:?}: {large} allocations a request");
        }
    }
}
