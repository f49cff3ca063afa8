//! [`Settings`]: what every component is given beside its configuration.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pipeline_model::{Contract, Interner, MetadataStore};

use crate::telemetry::Telemetry;

/// Which component: its kind (`receiver`), and the name it has in the configuration (`engines`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentId {
    /// `receiver`, `processor` or `exporter`.
    pub kind: &'static str,
    /// The type, e.g. `prometheus`.
    pub type_name: &'static str,
    /// The name in the configuration; equal to the type where the user gave no other.
    pub name: String,
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s.{}", self.kind, self.name)
    }
}

/// Tells the wall clock. Timers are `tokio::time`; this is for timestamps alone.
pub trait TimeSource: Send + Sync + fmt::Debug {
    /// Unix nanoseconds.
    fn now(&self) -> i64;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemTimeSource;

impl TimeSource for SystemTimeSource {
    fn now(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }
}

/// What every component is given beside its configuration. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who it is.
    pub id: ComponentId,
    /// Shares strings, labels, metrics and shapes of the whole process.
    pub interner: Arc<Interner>,
    /// Facts about pods, targets, deployments.
    pub metadata: Arc<MetadataStore>,
    /// The metric contract with the configured prefix.
    pub contract: Arc<Contract>,
    /// Counts what the component does; its series carry the component's name.
    pub telemetry: Telemetry,
    /// Wall clock.
    pub clock: Arc<dyn TimeSource>,
    /// Where the component may keep small files (keys, checkpoints) of its own. It may not exist yet.
    pub data_dir: PathBuf,
}

impl Settings {
    /// Settings for tests and tools: own interner, empty metadata, a fresh telemetry registry, the system clock.
    pub fn standalone(kind: &'static str, type_name: &'static str) -> Self {
        let id = ComponentId { kind, type_name, name: type_name.to_owned() };
        Self {
            telemetry: Telemetry::default().scoped(&[("component", &id.to_string())]),
            id,
            interner: Arc::new(Interner::new()),
            metadata: Arc::new(MetadataStore::new()),
            contract: Arc::new(Contract::default()),
            clock: Arc::new(SystemTimeSource),
            data_dir: std::env::temp_dir(),
        }
    }
}
