//! Batches of any kind to remote write and back: the committed fuzz corpus, and chance.

#![expect(clippy::expect_used, clippy::panic, reason = "a test, helpers included")]

use std::path::Path;

use proptest::prelude::*;

#[expect(unreachable_pub, reason = "public where the fuzz targets use it")]
#[path = "../../../fuzz/src/remote_write.rs"]
mod remote_write;

#[test]
fn corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/remote_write");
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        remote_write::check(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "no inputs");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_comes(data in proptest::collection::vec(any::<u8>(), 0..1500)) {
        remote_write::check(&data);
    }
}
