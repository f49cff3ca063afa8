//! The committed fuzz corpora, replayed as a plain test.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::path::Path;

use pipeline_wire::scrape::PageFormat;

#[expect(unreachable_pub, reason = "public where the fuzz targets use it")]
#[path = "../../../fuzz/src/scrape.rs"]
mod scrape;

fn replay(target: &str, format: PageFormat) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        scrape::check(format, &std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "no inputs for {target}");
}

#[test]
fn text() {
    replay("text", PageFormat::Text);
}

#[test]
fn openmetrics() {
    replay("openmetrics", PageFormat::OpenMetrics);
}

#[test]
fn protobuf() {
    replay("protobuf", PageFormat::Protobuf);
}
