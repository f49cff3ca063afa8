//! The configuration: any text gives a graph or located errors, and both can be shown.

use pipeline_component::Factories;
use pipeline_component::telemetry::Telemetry;
use pipeline_config::{Color, Document};

/// Loads `data` as a file, builds what it says, renders what is wrong with it. Files and the environment are not read.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Settings that name files are read when the graph is built; a fuzzer would find the terminal.
    if text.contains("_file") {
        return;
    }
    let env = |name: &str| (name == "SET").then(|| "12".to_owned());
    let found = match Document::parse_with("fuzz.toml", text, &env) {
        Ok(document) => {
            let factories = Factories {
                receivers: receivers::factories(),
                processors: processors::factories(),
                exporters: exporters::factories(),
            };
            match pipeline_engine::build(&document, &factories, &Telemetry::default()) {
                Ok((_, warnings)) => warnings,
                Err(errors) => {
                    assert!(errors.has_errors(), "a refusal says why");
                    errors
                }
            }
        }
        Err(errors) => errors,
    };
    assert_eq!(found.is_empty(), found.render(Color::Never).is_empty());
    assert_eq!(found.to_json().as_array().is_some_and(Vec::is_empty), found.is_empty());
}
