//! In the steady state a page costs a fixed handful of allocations, however many samples it has.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::Arc;

use pipeline_model::{Group, Interner, Kind, Labels, Metric};
use pipeline_wire::scrape::{Layouts, PageFormat, PagePath, PageReader, PageSettings};

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
