//! The queue in front of every exporter: bounded in bytes, so that a slow backend costs memory up to a line and then
//! the oldest batches, counted, and never another exporter's time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pipeline_component::telemetry::{Counter, Gauge, Telemetry, table};
use pipeline_model::Batch;
use tokio::sync::Notify;
use tracing::error;

/// Bytes a queue may hold.
pub(crate) const QUEUE_BYTES_MAX: usize = 64 << 20;

/// A batch and its sizes, which are counted once: with marks that is a scan of all rows.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    batch: Batch,
    bytes: usize,
    points: usize,
}

impl Entry {
    pub(crate) fn new(batch: Batch) -> Self {
        Self { bytes: batch.bytes(), points: batch.points(), batch }
    }

    /// Points of the batch.
    pub(crate) fn points(&self) -> usize {
        self.points
    }

    /// The batch.
    pub(crate) fn batch(&self) -> &Batch {
        &self.batch
    }
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Entry>,
    bytes: usize,
    points: usize,
    /// Points of the batch that was handed out last, until the next is asked for: its fate is not known yet.
    in_flight: usize,
    closed: bool,
}

/// One exporter's queue. Taking never blocks; when full the oldest batches make room, because in metrics the newest
/// value is worth most.
#[derive(Debug)]
pub(crate) struct ExporterQueue {
    name: String,
    waiting: Mutex<Waiting>,
    arrived: Notify,
    bytes_max: usize,
    bytes: Gauge,
    points: Gauge,
    dropped_full: Counter,
    dropped_shutdown: Counter,
    dropped_panic: Counter,
    panics: Counter,
    removed: Counter,
    added: Counter,
}

impl ExporterQueue {
    /// An empty queue; `telemetry` is scoped to the exporter.
    pub(crate) fn new(name: &str, bytes_max: usize, telemetry: &Telemetry) -> Arc<Self> {
        let dropped = |reason| telemetry.counter(&table::EXPORTER_DROPPED, &[("reason", reason)]);
        let reshaped = |effect| telemetry.counter(&table::EXPORTER_RESHAPED, &[("effect", effect)]);
        Arc::new(Self {
            name: name.to_owned(),
            waiting: Mutex::default(),
            arrived: Notify::new(),
            bytes_max,
            bytes: telemetry.gauge(&table::EXPORTER_QUEUE_BYTES, &[]),
            points: telemetry.gauge(&table::EXPORTER_QUEUE_POINTS, &[]),
            dropped_full: dropped("queue_full"),
            dropped_shutdown: dropped("shutdown"),
            dropped_panic: dropped("panic"),
            panics: telemetry.counter(&table::COMPONENT_PANICS, &[]),
            removed: reshaped("removed"),
            added: reshaped("added"),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, waiting: &Waiting) {
        self.bytes.set(waiting.bytes as f64);
        self.points.set(waiting.points as f64);
    }

    /// The exporter's own steps made `given` points of `taken`.
    pub(crate) fn reshaped(&self, taken: usize, given: usize) {
        self.removed.add(taken.saturating_sub(given) as u64);
        self.added.add(given.saturating_sub(taken) as u64);
    }

    /// One of the exporter's own steps panicked on a batch of `points`.
    pub(crate) fn step_panicked(&self, points: usize) {
        self.panics.inc();
        self.dropped_panic.add(points as u64);
        error!(component = %self.name, points, "a step before the exporter panicked");
    }

    /// Takes a batch; drops the oldest while over the limit. A batch larger than the whole queue is taken alone.
    /// Returns how many points it has.
    pub(crate) fn push(&self, entry: Entry) -> usize {
        let points = entry.points;
        let mut waiting = self.lock();
        if waiting.closed {
            self.dropped_shutdown.add(points as u64);
            return points;
        }
        waiting.bytes += entry.bytes;
        waiting.points += entry.points;
        waiting.batches.push_back(entry);
        while waiting.bytes > self.bytes_max && waiting.batches.len() > 1 {
            self.dropped_full.add(waiting.take().map_or(0, |entry| entry.points) as u64);
        }
        self.show(&waiting);
        drop(waiting);
        self.arrived.notify_one();
        points
    }

    /// The next batch, in order; `None` once closed and empty. Asking says that the one before is settled: delivered
    /// or counted as lost. One caller at a time. Cancel safe.
    pub(crate) async fn pop(&self) -> Option<Entry> {
        loop {
            {
                let mut waiting = self.lock();
                waiting.in_flight = 0;
                if let Some(entry) = waiting.take() {
                    waiting.in_flight = entry.points;
                    self.show(&waiting);
                    return Some(entry);
                }
                if waiting.closed {
                    return None;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// No more batches will come; what waits is still handed out.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Gives up what still waits or was never settled, and counts it: the deadline has passed.
    pub(crate) fn abandon(&self) -> usize {
        let mut waiting = self.lock();
        waiting.closed = true;
        let points = waiting.points + waiting.in_flight;
        *waiting = Waiting { closed: true, ..Waiting::default() };
        self.dropped_shutdown.add(points as u64);
        self.show(&waiting);
        points
    }
}

impl Waiting {
    fn take(&mut self) -> Option<Entry> {
        let entry = self.batches.pop_front()?;
        self.bytes -= entry.bytes;
        self.points -= entry.points;
        Some(entry)
    }
}
