//! What is sent, as the bill sees it: active series by metric, and data points a minute.
//!
//! Grafana Cloud bills the larger of active series and data points a minute, where each active series has one data point
//! a minute for free. Source: Grafana Cloud's documentation, "Active series and DPM", 2026-11.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::HashMap;
use pipeline_component::Settings;
use pipeline_component::telemetry::{Gauge, Telemetry, table};
use pipeline_wire::remote_write::Encoder;
use tokio::time::Instant;

/// How often a sender counts its series.
const EVERY: Duration = Duration::from_secs(60);

/// What all senders of an exporter have told.
pub(crate) struct Report {
    telemetry: Telemetry,
    /// Metrics that are named.
    top: usize,
    total: Gauge,
    per_minute: Gauge,
    billed: Gauge,
    state: Mutex<State>,
    next: AtomicU64,
}

#[derive(Default)]
struct State {
    /// By sender: its series by metric, and its samples a minute.
    told: BTreeMap<u64, (HashMap<String, u64>, f64)>,
    /// The gauges on show.
    named: BTreeMap<String, Gauge>,
}

/// One sender's part in a report. It takes back what it told when it is dropped.
pub(crate) struct Teller {
    report: Arc<Report>,
    id: u64,
    since: Instant,
    samples: u64,
    told: bool,
}

impl Report {
    pub(crate) fn new(top: usize, settings: &Settings) -> Self {
        let gauge = |definition| settings.telemetry.gauge(definition, &[]);
        Self {
            top,
            total: gauge(&table::EXPORTER_SERIES),
            per_minute: gauge(&table::EXPORTER_DPM),
            billed: gauge(&table::EXPORTER_BILLED),
            telemetry: settings.telemetry.clone(),
            state: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    fn tell(&self, id: u64, part: Option<(HashMap<String, u64>, f64)>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match part {
            Some(part) => drop(state.told.insert(id, part)),
            None => drop(state.told.remove(&id)),
        }
        let mut by_metric: HashMap<&str, u64> = HashMap::default();
        let mut per_minute = 0.0;
        for (series, samples) in state.told.values() {
            per_minute += samples;
            for (name, count) in series {
                *by_metric.entry(name).or_default() += count;
            }
        }
        let total: u64 = by_metric.values().sum();
        self.total.set(total as f64);
        self.per_minute.set(per_minute);
        self.billed.set(per_minute.max(total as f64));
        let mut sorted: Vec<(&str, u64)> = by_metric.into_iter().collect();
        sorted.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        sorted.truncate(self.top);
        let mut named = BTreeMap::new();
        for (name, count) in sorted {
            let gauge = state.named.get(name).cloned().unwrap_or_else(|| {
                self.telemetry.gauge(&table::EXPORTER_METRIC_SERIES, &[("metric", name)])
            });
            gauge.set(count as f64);
            named.insert(name.to_owned(), gauge);
        }
        // Gauges that nobody holds any more are gone.
        state.named = named;
    }
}

impl Teller {
    pub(crate) fn new(report: &Arc<Report>) -> Self {
        let id = report.next.fetch_add(1, Ordering::Relaxed);
        Self { report: Arc::clone(report), id, since: Instant::now(), samples: 0, told: false }
    }

    /// So many samples were sent; now and then what the encoder has is counted.
    pub(crate) fn sent(&mut self, samples: u64, encoder: &Encoder) {
        self.samples += samples;
        let passed = self.since.elapsed();
        // The first request shows what there is; how often it comes is known a minute later.
        if self.told && passed < EVERY {
            return;
        }
        let mut series: HashMap<String, u64> = HashMap::default();
        for (name, count) in encoder.active() {
            match series.get_mut(name) {
                Some(sum) => *sum += count,
                None => drop(series.insert(name.to_owned(), count)),
            }
        }
        let minutes = passed.as_secs_f64().max(60.0) / 60.0;
        self.report.tell(self.id, Some((series, self.samples as f64 / minutes)));
        if self.told {
            self.samples = 0;
        }
        (self.told, self.since) = (true, Instant::now());
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.report.tell(self.id, None);
    }
}
