//! The rules of the house that clippy cannot check: which crate may depend on which, how long a file may be, that
//! every file says what it is, and which licences and sources a dependency may have.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which crates of this workspace a crate may depend on; the doors of docs/ARCHITECTURE.md.
const DOORS: &[(&str, &[&str])] = &[
    ("pipeline-model", &[]),
    ("pipeline-config", &[]),
    ("pipeline-net", &[]),
    ("simulator", &[]),
    ("pipeline-wire", &["pipeline-model"]),
    ("pipeline-journal", &["pipeline-model"]),
    ("pipeline-component", &["pipeline-model", "pipeline-config"]),
    ("pipeline-temporality", &["pipeline-component", "pipeline-model"]),
    (
        "pipeline-engine",
        &["pipeline-component", "pipeline-config", "pipeline-journal", "pipeline-model"],
    ),
    (
        "pipeline-admin",
        &["pipeline-component", "pipeline-config", "pipeline-engine", "pipeline-net"],
    ),
    ("receivers", COMPONENT_DOORS),
    ("processors", COMPONENT_DOORS),
    ("exporters", COMPONENT_DOORS),
];

/// What receivers, processors and exporters may know: the pipeline, never each other or the engine.
const COMPONENT_DOORS: &[&str] = &[
    "pipeline-component",
    "pipeline-config",
    "pipeline-model",
    "pipeline-net",
    "pipeline-temporality",
    "pipeline-wire",
];

/// Lines that a source file may have, tests and tables of facts apart.
const LINES_MAX: usize = 600;

/// Licences that a dependency may offer.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "MIT-0",
    "Unlicense",
    "BSL-1.0",
];

/// Crates that must not come in.
const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "TLS is rustls"),
    ("aws-lc-rs", "rustls runs on ring, which builds without cmake"),
    ("serde_yaml", "no longer kept"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn metadata() -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn source_files() -> Vec<PathBuf> {
    let out = Command::new("git").args(["ls-files", "*.rs"]).current_dir(root()).output();
    let listed = out
        .ok()
        .filter(|out| out.status.success())
        .map(|out| String::from_utf8(out.stdout).unwrap());
    let listed = listed.expect("git lists the files of the checkout");
    listed.lines().map(PathBuf::from).filter(|path| root().join(path).is_file()).collect()
}

#[track_caller]
fn none_of(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn crates_depend_only_through_their_doors() {
    let metadata = metadata();
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some((_, doors)) = DOORS.iter().find(|(of, _)| *of == name) else { continue };
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            if dependency["path"].is_string()
                && dependency["kind"].is_null()
                && !doors.contains(&to)
            {
                wrong.push(format!("{name} -> {to}"));
            }
        }
    }
    none_of("a dependency between crates that has no door", &wrong);
}

#[test]
fn dependencies_have_agreed_licences_and_come_from_the_registry() {
    let metadata = metadata();
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let Some(source) = package["source"].as_str() else { continue };
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or("none");
        let is_agreed =
            |part: &str| part.split([' ', '/', '(', ')']).any(|word| LICENCES.contains(&word));
        if !licence.split(" AND ").all(is_agreed) {
            wrong.push(format!("{name}: licence {licence}"));
        }
        if !source.starts_with("registry+") {
            wrong.push(format!("{name}: source {source}"));
        }
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            wrong.push(format!("{name}: {why}"));
        }
    }
    none_of("a dependency that must not come in", &wrong);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for path in source_files() {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        let shown = path.display();
        let parts: Vec<_> =
            path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        let is_test = path.ends_with("tests.rs") || parts.iter().any(|part| part == "tests");
        let is_table = parts.iter().any(|part| part == "tables" || part == "table.rs");
        let lines = text.lines().count();
        if lines > LINES_MAX && !is_test && !is_table {
            wrong.push(format!("{shown}: {lines} lines, at most {LINES_MAX}"));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{shown}: does not begin with //! and what it is"));
        }
    }
    none_of("a file that is too long or does not introduce itself", &wrong);
}
