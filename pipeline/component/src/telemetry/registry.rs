//! The registry behind [`Telemetry`], its handles, and its text form.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::table::{Definition, Type};

/// Series one metric may have. Beyond it new label values are counted under `other`.
const SERIES_MAX: usize = 2000;

/// Upper bounds of duration histograms, seconds.
const SECONDS_BOUNDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

type LabelPairs = Vec<(&'static str, String)>;

/// A monotonic count.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that goes up and down. A gauge whose handles are all dropped disappears.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// Sets the value.
    #[inline]
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// A histogram of durations.
#[derive(Clone, Debug, Default)]
pub struct Seconds(Arc<SecondsCells>);

#[derive(Debug, Default)]
struct SecondsCells {
    nanos: AtomicU64,
    counts: [AtomicU64; SECONDS_BOUNDS.len() + 1],
}

impl Seconds {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = SECONDS_BOUNDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(SECONDS_BOUNDS.len());
        if let Some(cell) = self.0.counts.get(bucket) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|cell| cell.load(Ordering::Relaxed)).sum()
    }
}

#[derive(Clone, Debug)]
enum Cell {
    Counter(Counter),
    Gauge(Gauge),
    Seconds(Seconds),
}

#[derive(Debug)]
struct FamilyCells {
    definition: &'static Definition,
    series: BTreeMap<LabelPairs, Cell>,
}

#[derive(Debug, Default)]
struct Registry {
    families: Mutex<BTreeMap<&'static str, FamilyCells>>,
}

/// One line of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name with `_bucket`, `_sum` or `_count` where the family is a histogram.
    pub name: String,
    /// Labels in order.
    pub labels: Vec<(&'static str, String)>,
    /// Value.
    pub value: f64,
}

/// A metric and its series at one moment.
#[derive(Clone, Debug)]
pub struct Family {
    /// What it is.
    pub definition: &'static Definition,
    /// Its lines.
    pub samples: Vec<Sample>,
}

/// Hands out counters and gauges. Clones share the registry; [`Telemetry::scoped`] adds labels to all that is handed
/// out after.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    registry: Arc<Registry>,
    labels: LabelPairs,
}

impl Telemetry {
    /// This registry with more labels on everything.
    #[must_use]
    pub fn scoped(&self, labels: &[(&'static str, &str)]) -> Self {
        Self { registry: Arc::clone(&self.registry), labels: self.with(labels) }
    }

    fn with(&self, labels: &[(&'static str, &str)]) -> LabelPairs {
        let mut all = self.labels.clone();
        all.extend(labels.iter().map(|(name, value)| (*name, (*value).to_owned())));
        all.sort();
        all
    }

    /// The counter of `definition` with these labels; the same call gives the same counter.
    pub fn counter(
        &self,
        definition: &'static Definition,
        labels: &[(&'static str, &str)],
    ) -> Counter {
        match self.cell(definition, labels, || Cell::Counter(Counter::default())) {
            Cell::Counter(counter) => counter,
            Cell::Gauge(_) | Cell::Seconds(_) => Counter::default(),
        }
    }

    /// The gauge of `definition` with these labels.
    pub fn gauge(&self, definition: &'static Definition, labels: &[(&'static str, &str)]) -> Gauge {
        match self.cell(definition, labels, || Cell::Gauge(Gauge::default())) {
            Cell::Gauge(gauge) => gauge,
            Cell::Counter(_) | Cell::Seconds(_) => Gauge::default(),
        }
    }

    /// The duration histogram of `definition` with these labels.
    pub fn seconds(
        &self,
        definition: &'static Definition,
        labels: &[(&'static str, &str)],
    ) -> Seconds {
        match self.cell(definition, labels, || Cell::Seconds(Seconds::default())) {
            Cell::Seconds(seconds) => seconds,
            Cell::Counter(_) | Cell::Gauge(_) => Seconds::default(),
        }
    }

    fn families(&self) -> MutexGuard<'_, BTreeMap<&'static str, FamilyCells>> {
        self.registry.families.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cell(
        &self,
        definition: &'static Definition,
        labels: &[(&'static str, &str)],
        make: impl FnOnce() -> Cell,
    ) -> Cell {
        let mut labels = self.with(labels);
        let mut families = self.families();
        let family = families
            .entry(definition.name)
            .or_insert_with(|| FamilyCells { definition, series: BTreeMap::new() });
        if family.series.len() >= SERIES_MAX && !family.series.contains_key(&labels) {
            for (name, value) in &mut labels {
                if *name != "component" && *name != "pipeline" {
                    "other".clone_into(value);
                }
            }
        }
        family.series.entry(labels).or_insert_with(make).clone()
    }

    /// Everything at this moment, families by name. Gauges that nobody holds any more are let go.
    pub fn snapshot(&self) -> Vec<Family> {
        let mut families = self.families();
        for family in families.values_mut() {
            family.series.retain(|_, cell| match cell {
                Cell::Gauge(gauge) => Arc::strong_count(&gauge.0) > 1,
                Cell::Counter(_) | Cell::Seconds(_) => true,
            });
        }
        families
            .values()
            .filter(|family| !family.series.is_empty())
            .map(|family| Family {
                definition: family.definition,
                samples: family
                    .series
                    .iter()
                    .flat_map(|(labels, cell)| samples(family.definition.name, labels, cell))
                    .collect(),
            })
            .collect()
    }

    /// The snapshot in Prometheus' text format 0.0.4.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for family in self.snapshot() {
            let Definition { name, help, kind, .. } = family.definition;
            // Writing to a String cannot fail.
            _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
            for sample in &family.samples {
                out.push_str(&sample.name);
                for (idx, (name, value)) in sample.labels.iter().enumerate() {
                    let value =
                        value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                    _ = write!(out, "{}{name}=\"{value}\"", if idx == 0 { '{' } else { ',' });
                }
                let close = if sample.labels.is_empty() { "" } else { "}" };
                _ = writeln!(out, "{close} {}", sample.value);
            }
        }
        out
    }
}

fn samples(name: &str, labels: &LabelPairs, cell: &Cell) -> Vec<Sample> {
    let sample = |suffix: &str, extra: Option<(&'static str, String)>, value: f64| Sample {
        name: format!("{name}{suffix}"),
        labels: labels.iter().cloned().chain(extra).collect(),
        value,
    };
    match cell {
        Cell::Counter(counter) => vec![sample("", None, counter.get() as f64)],
        Cell::Gauge(gauge) => vec![sample("", None, gauge.get())],
        Cell::Seconds(Seconds(cells)) => {
            let mut total = 0;
            let bounds = SECONDS_BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            let mut lines: Vec<Sample> = bounds
                .zip(&cells.counts)
                .map(|(bound, count)| {
                    total += count.load(Ordering::Relaxed);
                    sample("_bucket", Some(("le", bound)), total as f64)
                })
                .collect();
            lines.push(sample("_sum", None, cells.nanos.load(Ordering::Relaxed) as f64 / 1e9));
            lines.push(sample("_count", None, total as f64));
            lines
        }
    }
}

impl Type {
    /// The word of a `# TYPE` line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}
