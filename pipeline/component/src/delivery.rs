//! How a pushing exporter queues, batches and retries: what users write, the same for all of them.

use std::path::PathBuf;

use pipeline_config::{ByteSize, Duration};
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
