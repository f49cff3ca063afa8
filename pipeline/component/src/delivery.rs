//! How a pushing exporter queues, batches and retries: what users write, the same for all of them.

use std::path::PathBuf;

use pipeline_config::{ByteSize, Diagnostics, Duration, Section};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All of it, as an exporter hands it to the engine. An exporter's configuration has the four parts as `queue`, `batch`,
/// `retry` and `concurrency`, with its own defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What waits.
    pub queue: QueueSettings,
    /// What goes into one request.
    pub batch: BatchSettings,
    /// What happens after a failure.
    pub retry: RetrySettings,
    /// Requests in flight at a time. Batches of one source go through one shard, so their order is kept.
    pub concurrency: usize,
}

impl Delivery {
    /// Checks what types alone do not say, for an exporter whose section has the four parts.
    pub fn check(&self, section: &Section, wrong: &mut Diagnostics) {
        let Self { queue, batch, retry, concurrency } = self;
        if *concurrency == 0 {
            let message = "expected at least one request at a time, found none";
            wrong.push(section.bad_value(&["concurrency"], message, "1 keeps everything in order"));
        }
        if batch.points_max == 0 {
            let message = "expected requests of at least one point, found none";
            let help = "for example `points_max = 8192`";
            wrong.push(section.bad_value(&["batch", "points_max"], message, help));
        }
        let sizes: [(&[&str], Option<ByteSize>, &str); 3] = [
            (&["queue", "bytes_max"], Some(queue.bytes_max), "for example `\"64MiB\"`"),
            (
                &["queue", "disk", "bytes_max"],
                queue.disk.as_ref().map(|disk| disk.bytes_max),
                "for example `\"1GiB\"`",
            ),
            (&["batch", "bytes_max"], Some(batch.bytes_max), "for example `\"4MiB\"`"),
        ];
        for (path, size, help) in sizes {
            if size.is_some_and(|size| size.get() == 0) {
                let key = path.join(".");
                let message = format!("expected some room for `{key}`, found none");
                wrong.push(section.bad_value(path, message, help));
            }
        }
        if retry.pause_min > retry.pause_max {
            // Where the user wrote one of them, that is the one to look at.
            let key = if section.has(&["retry", "pause_min"]) { "pause_min" } else { "pause_max" };
            let message = format!(
                "expected `pause_min` to be no longer than `pause_max`, found {} and {}",
                retry.pause_min, retry.pause_max
            );
            wrong.push(section.bad_value(&["retry", key], message, "set both"));
        }
    }
}

/// What waits for a backend.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSettings {
    /// Memory that waiting batches may take.
    pub bytes_max: ByteSize,
    /// What happens to a batch for which there is no room.
    pub when_full: WhenFull,
    /// Keeps what waits in files as well, so that it survives the end of the process.
    pub disk: Option<DiskSettings>,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self { bytes_max: ByteSize::from_mib(64), when_full: WhenFull::DropOldest, disk: None }
    }
}

/// What happens to a batch for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// The oldest batches make room: of metrics the newest is worth most.
    #[default]
    DropOldest,
    /// It is dropped.
    DropNewest,
    /// Receivers are told to wait: clients get a retryable answer, scrapes come late.
    Backpressure,
}

/// A queue in files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiskSettings {
    /// The folder. Without it: a folder of the exporter's name in `service.data_dir`.
    pub path: Option<PathBuf>,
    /// Room that the files may take.
    pub bytes_max: ByteSize,
    /// How often what was written is made durable; what came since is what a crash of the machine may lose.
    pub commit_interval: Duration,
}

impl Default for DiskSettings {
    fn default() -> Self {
        Self {
            path: None,
            bytes_max: ByteSize::from_mib(1024),
            commit_interval: Duration::from_millis(100),
        }
    }
}

/// What goes into one request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSettings {
    /// Points at most.
    pub points_max: usize,
    /// Bytes of memory at most; a backend's own limit is met by splitting.
    pub bytes_max: ByteSize,
    /// How long a request waits for more points while it has fewer than `points_max`.
    pub timeout: Duration,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            points_max: 8192,
            bytes_max: ByteSize::from_mib(4),
            timeout: Duration::from_millis(200),
        }
    }
}

/// What happens after a failure that is worth another attempt. There is no last attempt while the queue has room.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySettings {
    /// First pause; it doubles with every failure, give or take half of it at random.
    pub pause_min: Duration,
    /// Longest pause, unless the backend asks for more.
    pub pause_max: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { pause_min: Duration::from_millis(500), pause_max: Duration::from_secs(30) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What exporters have in their sections.
    #[derive(Default, Deserialize, Serialize, JsonSchema)]
    #[serde(default)]
    struct Parts {
        queue: QueueSettings,
        batch: BatchSettings,
        retry: RetrySettings,
        concurrency: usize,
    }

    #[track_caller]
    fn check(toml: &str, expected: &[(&str, usize)]) {
        let section = Section::from_toml("exporters.x", toml).unwrap();
        let Parts { queue, batch, retry, concurrency } = section.decode().unwrap();
        let mut wrong = Diagnostics::new();
        Delivery { queue, batch, retry, concurrency }.check(&section, &mut wrong);
        assert_eq!(wrong.len(), expected.len(), "{wrong}");
        let found = wrong.to_string();
        for (message, line) in expected {
            assert!(found.contains(message), "`{message}` is not in:\n{found}");
            assert!(found.contains(&format!("toml:{line}:")), "line {line} is not in:\n{found}");
        }
    }

    #[test]
    fn what_cannot_be() {
        check("concurrency = 1", &[]);
        check("concurrency = 1\nretry = { pause_min = \"1s\", pause_max = \"1s\" }", &[]);
        check("concurrency = 0", &[("at least one request at a time", 1)]);
        check(
            "concurrency = 1\n[queue]\nbytes_max = \"0B\"\n[queue.disk]\nbytes_max = \"0B\"\n[batch]\nbytes_max = \"0B\"\npoints_max = 0",
            &[
                ("at least one point", 8),
                ("room for `queue.bytes_max`", 3),
                ("room for `queue.disk.bytes_max`", 5),
                ("room for `batch.bytes_max`", 7),
            ],
        );
        check("concurrency = 1\n[retry]\npause_min = \"1m\"", &[("found 1m and 30s", 3)]);
        check("concurrency = 1\n[retry]\npause_max = \"1ms\"", &[("found 500ms and 1ms", 3)]);
    }
}
