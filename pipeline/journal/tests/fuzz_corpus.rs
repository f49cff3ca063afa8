//! The committed fuzz corpus, replayed as a plain test.

#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::path::Path;

#[expect(unreachable_pub, reason = "public where the fuzz targets use it")]
#[path = "../../../fuzz/src/journal.rs"]
mod journal;

#[test]
fn journal_opens_after_any_damage() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/journal");
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        journal::check(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "no inputs");
}
