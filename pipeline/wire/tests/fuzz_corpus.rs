//! The committed fuzz corpora, replayed as a plain test.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::path::Path;

use pipeline_wire::scrape::PageFormat;

#[expect(unreachable_pub, reason = "public where the fuzz targets use it")]
#[path = "../../../fuzz/src/otlp.rs"]
mod otlp;
#[expect(unreachable_pub, reason = "public where the fuzz targets use it")]
#[path = "../../../fuzz/src/scrape.rs"]
mod scrape;

fn replay(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        check(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "no inputs for {target}");
}

#[test]
fn text() {
    replay("text", |data| scrape::check(PageFormat::Text, data));
}

#[test]
fn openmetrics() {
    replay("openmetrics", |data| scrape::check(PageFormat::OpenMetrics, data));
}

#[test]
fn protobuf() {
    replay("protobuf", |data| scrape::check(PageFormat::Protobuf, data));
}

#[test]
fn otlp_metrics() {
    replay("otlp_metrics", |data| otlp::check(otlp::Encoding::Protobuf, data));
}

#[test]
fn otlp_json() {
    replay("otlp_json", |data| otlp::check(otlp::Encoding::Json, data));
}
