//! What is known of every component: what `/readyz` answers and logs at the end are made of.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pipeline_component::telemetry::{Gauge, Telemetry, table};

/// Where a component is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Made, not yet serving.
    Starting,
    /// Serving.
    Running,
    /// Ended because it was asked to.
    Stopped,
    /// Ended although nobody asked it to; the text says why.
    Failed(String),
}

/// The status of every component. Shared by the engine, which writes, and the admin server, which reads.
#[derive(Debug)]
pub struct Health {
    components: Mutex<BTreeMap<String, (Status, Gauge)>>,
    telemetry: Telemetry,
    ready: Gauge,
}

impl Health {
    pub(crate) fn new(telemetry: &Telemetry) -> Self {
        Self {
            components: Mutex::default(),
            telemetry: telemetry.clone(),
            ready: telemetry.gauge(&table::READY, &[]),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (Status, Gauge)>> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, component: &str, status: Status) {
        let mut components = self.lock();
        let entry = components.entry(component.to_owned()).or_insert_with(|| {
            (
                status.clone(),
                self.telemetry.gauge(&table::COMPONENT_UP, &[("component", component)]),
            )
        });
        entry.1.set(f64::from(u8::from(status == Status::Running)));
        entry.0 = status;
        let ready = components.values().all(|(status, _)| *status == Status::Running);
        self.ready.set(f64::from(u8::from(ready)));
    }

    pub(crate) fn panicked(&self, component: &str, what: &str) {
        self.telemetry.counter(&table::COMPONENT_PANICS, &[("component", component)]).inc();
        self.set(component, Status::Failed(format!("panicked: {what}")));
    }

    /// True when every component serves.
    pub fn is_ready(&self) -> bool {
        let components = self.lock();
        !components.is_empty() && components.values().all(|(status, _)| *status == Status::Running)
    }

    /// Every component with its status, by name.
    pub fn components(&self) -> Vec<(String, Status)> {
        self.lock().iter().map(|(name, (status, _))| (name.clone(), status.clone())).collect()
    }
}
