//! What the fuzz target `config` checks, on its corpus.

#[path = "../../fuzz/src/config.rs"]
#[expect(unreachable_pub, reason = "shared with the fuzz target, where it is public")]
mod config;

#[test]
fn configurations_of_the_corpus() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/config");
    let mut replayed = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        config::check(&std::fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 6);
}
