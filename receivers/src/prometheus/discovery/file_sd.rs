//! Targets in files, in Prometheus' JSON format: a list of `{"targets": ["host:port"], "labels": {"name": "value"}}`.
//!
//! A file that cannot be read or is malformed leaves what it said last in place; one that is deleted takes its targets
//! with it. Files are found again and looked at (time and length) every few seconds, and read in any case every
//! `refresh`, for file systems whose times tell nothing.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pipeline_component::Shutdown;
use pipeline_component::telemetry::Counter;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::Found;
use crate::prometheus::target::{Candidate, LabelMap};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// A longer file is refused: a hundred thousand targets take a tenth of it.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// One pattern of files: a folder, and a name in which `*` stands for any text and `?` for any character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::prometheus) struct Pattern {
    folder: PathBuf,
    name: String,
}

impl Pattern {
    /// Takes a pattern as users write it.
    ///
    /// # Errors
    /// A text that says what was expected.
    pub(in crate::prometheus) fn parse(text: &str) -> Result<Self, &'static str> {
        let path = Path::new(text);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        if folder.to_string_lossy().contains(['*', '?']) {
            return Err("`*` and `?` work in the name of the file, not in its folder");
        }
        if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            return Err(
                "expected the name of a JSON file, such as `/etc/inferometer/targets/*.json`",
            );
        }
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
        Ok(Self { folder, name: name.to_owned() })
    }

    /// The files that fit, sorted. A folder that is not there has none. Blocks.
    fn files(&self) -> Vec<PathBuf> {
        if !self.name.contains(['*', '?']) {
            let path = self.folder.join(&self.name);
            return if path.exists() { vec![path] } else { Vec::new() };
        }
        let mut found: Vec<PathBuf> = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| {
                entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| fits(self.name.as_bytes(), name.as_bytes()))
            })
            .map(|entry| entry.path())
            .collect();
        found.sort();
        found
    }
}

/// Matches `*` and `?`. Of several stars only the last one tried is tried again: that is enough and never exponential.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut pos) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while pos < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at, pos));
                at += 1;
            }
            Some(c) if *c == b'?' || *c == name[pos] => {
                at += 1;
                pos += 1;
            }
            _ => {
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                at = star + 1;
                pos = from + 1;
            }
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|c| *c == b'*')
}

/// A group of targets as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    labels: LabelMap,
}

/// What a file said last.
#[derive(Debug, Default)]
struct FileState {
    stamp: Option<(SystemTime, u64)>,
    bad: bool,
    candidates: Vec<Candidate>,
}

/// Why a file says nothing.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("cannot read the file: {0}")]
    Read(#[from] std::io::Error),
    #[error("expected at most {FILE_BYTES_MAX} bytes, found more")]
    TooLarge,
    #[error("expected a JSON list of objects with `targets` and `labels`: {0}")]
    Json(#[from] serde_json::Error),
}

/// Looks at files until told to stop.
pub(in crate::prometheus) struct FileSd {
    patterns: Vec<Pattern>,
    refresh: Duration,
    files: BTreeMap<PathBuf, FileState>,
    errors: Counter,
}

impl FileSd {
    /// `errors` counts files that could not be used.
    pub(in crate::prometheus) fn new(
        patterns: Vec<Pattern>,
        refresh: Duration,
        errors: Counter,
    ) -> Self {
        Self { patterns, refresh, files: BTreeMap::new(), errors }
    }

    /// Publishes all targets with every change, until `stop`.
    pub(in crate::prometheus) async fn run(mut self, out: watch::Sender<Found>, stop: Shutdown) {
        let mut ticks = interval(LOOK_EVERY.min(self.refresh));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut read_all = Instant::now() + self.refresh;
        loop {
            tokio::select! {
                () = stop.triggered() => return,
                _ = ticks.tick() => {}
            }
            let now = Instant::now();
            let all = now >= read_all;
            if all {
                read_all = now + self.refresh;
            }
            let looked = tokio::task::spawn_blocking(move || {
                let changed = self.look(all);
                (self, changed)
            });
            // The job fails only when the runtime goes down.
            let Ok((same, changed)) = looked.await else { return };
            self = same;
            if changed {
                let targets = self.targets();
                info!(targets = targets.len(), files = self.files.len(), "read target files");
                out.send_modify(|found| found.files = targets);
            }
        }
    }

    /// Looks at the files; reads those that have changed, or all. True when anything is different. Blocks.
    fn look(&mut self, all: bool) -> bool {
        let paths: Vec<PathBuf> = self.patterns.iter().flat_map(Pattern::files).collect();
        let before = self.files.len();
        self.files.retain(|path, _| paths.contains(path));
        let mut changed = self.files.len() != before;
        for path in paths {
            let stamp = std::fs::metadata(&path)
                .ok()
                .and_then(|meta| Some((meta.modified().ok()?, meta.len())));
            let is_new = !self.files.contains_key(&path);
            let state = self.files.entry(path.clone()).or_default();
            if !is_new && !all && state.stamp == stamp {
                continue;
            }
            state.stamp = stamp;
            match read(&path) {
                Ok(candidates) => {
                    changed |= is_new || !same(&candidates, &state.candidates);
                    state.candidates = candidates;
                    state.bad = false;
                }
                Err(error) => {
                    self.errors.inc();
                    if !std::mem::replace(&mut state.bad, true) {
                        warn!(path = %path.display(), %error, kept = state.candidates.len(), "cannot use a target file, its last good content stays");
                    }
                }
            }
        }
        changed
    }

    fn targets(&self) -> Arc<[Candidate]> {
        self.files.values().flat_map(|state| state.candidates.iter().cloned()).collect()
    }
}

fn same(a: &[Candidate], b: &[Candidate]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| a.address == b.address && a.labels == b.labels)
}

fn read(path: &Path) -> Result<Vec<Candidate>, FileError> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::TooLarge);
    }
    let groups: Vec<Group> = serde_json::from_slice(&text)?;
    let of_group = |group: Group| {
        let labels = group.labels;
        group
            .targets
            .into_iter()
            .map(move |address| Candidate { labels: labels.clone(), ..Candidate::at(&address) })
    };
    Ok(groups.into_iter().flat_map(of_group).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, name, expected) in [
            ("*.json", "a.json", true),
            ("*.json", ".json", true),
            ("*.json", "a.jsonx", false),
            ("a*b*c.json", "aXbXbYc.json", true),
            ("a*b*c.json", "aXbXbY.json", false),
            ("t?.json", "t1.json", true),
            ("t?.json", "t.json", false),
            ("a.json", "a.json", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
        let long = "a".repeat(10_000);
        assert!(!fits(b"*a*a*a*a*a*b", long.as_bytes()), "and within a moment");
        assert!(Pattern::parse("/etc/*/t.json").is_err());
        assert!(Pattern::parse("/etc/t.yaml").is_err());
        assert_eq!(Pattern::parse("t.json").unwrap().folder, Path::new("."));
    }

    struct Files {
        dir: tempfile::TempDir,
        sd: FileSd,
    }

    impl Files {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let pattern = Pattern::parse(dir.path().join("*.json").to_str().unwrap()).unwrap();
            Self {
                sd: FileSd::new(vec![pattern], Duration::from_secs(30), Counter::default()),
                dir,
            }
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.dir.path().join(name), text).unwrap();
        }

        /// Whether anything changed, and the targets.
        fn look(&mut self, all: bool) -> (bool, String) {
            let changed = self.sd.look(all);
            let found: Vec<String> =
                self.sd.targets().iter().map(|c| format!("{}{:?}", c.address, c.labels)).collect();
            (changed, found.join(" "))
        }
    }

    #[test]
    fn follows_edits_and_keeps_the_last_good_state() {
        let mut files = Files::new();
        assert_eq!(files.look(false), (false, String::new()));
        files.write(
            "a.json",
            r#"[{"targets": ["h:1", "h:2"], "labels": {"model_id": "m"}}, {"targets": ["h:3"]}]"#,
        );
        files.write("ignored.yaml", "x");
        let all = r#"h:1{"model_id": "m"} h:2{"model_id": "m"} h:3{}"#;
        assert_eq!(files.look(false), (true, all.to_owned()));
        assert_eq!(files.look(false), (false, all.to_owned()));
        for bad in [
            "[{\"targets\": [\"h:9\"",
            "{}",
            r#"[{"targetz": []}]"#,
            r#"[{"targets": [], "labels": {"a": 1}}]"#,
            "",
        ] {
            files.write("a.json", bad);
            assert_eq!(files.look(true), (false, all.to_owned()), "{bad}");
        }
        assert_eq!(files.sd.errors.get(), 5);
        files.write("b.json", r#"[{"targets": ["h:4"]}]"#);
        assert_eq!(files.look(false), (true, format!("{all} h:4{{}}")));
        std::fs::remove_file(files.dir.path().join("a.json")).unwrap();
        assert_eq!(files.look(false), (true, "h:4{}".to_owned()));
    }

    #[test]
    fn reads_again_although_time_and_length_are_the_same() {
        let mut files = Files::new();
        files.write("a.json", r#"[{"targets": ["h:1"]}]"#);
        files.look(false);
        let path = files.dir.path().join("a.json");
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        files.write("a.json", r#"[{"targets": ["h:2"]}]"#);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_eq!(files.look(false), (false, "h:1{}".to_owned()));
        assert_eq!(files.look(true), (true, "h:2{}".to_owned()));
    }
}
