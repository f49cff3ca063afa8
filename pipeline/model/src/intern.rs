//! [`Interner`]: one allocation for equal strings, label sets, metrics, tables and programs.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashSet;

use crate::shape::{Group, Resource, Scope, Table};
use crate::{Labels, Metric, Program, Str};

/// Entries below which a pool is never swept.
const SWEEP_FLOOR: usize = 256;

/// A set of shared values that forgets those nobody else holds. Its size is bounded by twice what is alive: it
/// sweeps when it has doubled since the last sweep.
#[derive(Debug)]
struct Pool<T> {
    known: HashSet<T>,
    sweep_at: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { known: HashSet::default(), sweep_at: SWEEP_FLOOR }
    }
}

/// A shared handle that knows whether others hold it too.
trait Held {
    fn is_held(&self) -> bool;
}

impl Held for Str {
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Held for Labels {
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl<T> Held for Arc<T> {
    fn is_held(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

impl<T: Held + Eq + Hash + Clone> Pool<T> {
    fn insert(&mut self, value: T) -> T {
        if self.known.len() >= self.sweep_at {
            self.sweep();
        }
        self.known.insert(value.clone());
        value
    }

    fn intern(&mut self, value: &T) -> T {
        match self.known.get(value) {
            Some(known) => known.clone(),
            None => self.insert(value.clone()),
        }
    }

    fn sweep(&mut self) {
        self.known.retain(Held::is_held);
        self.sweep_at = SWEEP_FLOOR.max(self.known.len() * 2);
    }
}

/// How many distinct values are kept; for self telemetry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InternerStats {
    /// Strings.
    pub strings: usize,
    /// Label sets.
    pub labels: usize,
    /// Metrics.
    pub metrics: usize,
    /// Tables of shapes.
    pub tables: usize,
    /// Bytes of those tables.
    pub table_bytes: usize,
    /// Plans.
    pub programs: usize,
}

/// One per process (or per test). Locks are held for a look-up only and never on the hot path: shapes and plans are
/// made at start, at churn and when metadata changes.
#[derive(Debug, Default)]
pub struct Interner {
    strings: Mutex<Pool<Str>>,
    labels: Mutex<Pool<Labels>>,
    metrics: Mutex<Pool<Arc<Metric>>>,
    resources: Mutex<Pool<Arc<Resource>>>,
    scopes: Mutex<Pool<Arc<Scope>>>,
    tables: Mutex<Pool<Arc<Table>>>,
    programs: Mutex<Pool<Arc<Program>>>,
}

fn lock<T>(pool: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere while holding a pool leaves at worst a value that is not shared.
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Interner {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The shared string equal to `text`.
    pub fn str(&self, text: &str) -> Str {
        let mut pool = lock(&self.strings);
        match pool.known.get(text) {
            Some(known) => known.clone(),
            None => pool.insert(Str::new(text)),
        }
    }

    /// The shared label set equal to `labels`.
    pub fn labels(&self, labels: &Labels) -> Labels {
        lock(&self.labels).intern(labels)
    }

    /// The shared metric equal to `metric`.
    pub fn metric(&self, metric: &Arc<Metric>) -> Arc<Metric> {
        lock(&self.metrics).intern(metric)
    }

    pub(crate) fn group(&self, group: &Group) -> Group {
        Group {
            resource: lock(&self.resources).intern(&group.resource),
            scope: lock(&self.scopes).intern(&group.scope),
            labels: self.labels(&group.labels),
        }
    }

    pub(crate) fn table(&self, table: Table) -> Arc<Table> {
        let mut pool = lock(&self.tables);
        match pool.known.get(&table) {
            Some(known) => Arc::clone(known),
            None => pool.insert(Arc::new(table)),
        }
    }

    pub(crate) fn program(&self, program: Program) -> Arc<Program> {
        let mut pool = lock(&self.programs);
        match pool.known.get(&program) {
            Some(known) => Arc::clone(known),
            None => pool.insert(Arc::new(program)),
        }
    }

    /// Forgets what nobody holds. The engine calls it from time to time; without it a pool shrinks only when it
    /// would double.
    pub fn sweep(&self) {
        // Outer values hold inner ones, so they go first.
        lock(&self.programs).sweep();
        lock(&self.tables).sweep();
        lock(&self.resources).sweep();
        lock(&self.scopes).sweep();
        lock(&self.metrics).sweep();
        lock(&self.labels).sweep();
        lock(&self.strings).sweep();
    }

    /// Sizes now.
    pub fn stats(&self) -> InternerStats {
        let tables = lock(&self.tables);
        InternerStats {
            strings: lock(&self.strings).known.len(),
            labels: lock(&self.labels).known.len(),
            metrics: lock(&self.metrics).known.len(),
            table_bytes: tables.known.iter().map(|table| table.bytes()).sum(),
            tables: tables.known.len(),
            programs: lock(&self.programs).known.len(),
        }
    }
}
