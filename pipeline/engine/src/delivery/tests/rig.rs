//! A queue with its shards in front of a backend that does as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline_component::telemetry::{Definition, Telemetry, table};
use pipeline_component::{
    BatchSettings, BoxFuture, Delivered, Delivery, DiskSettings, ExportError, Part, QueueSettings,
    RetrySettings, Sender, WhenFull,
};
use pipeline_config::ByteSize;
use pipeline_journal::{FileSystem, Os};
use pipeline_model::{
    Batch, Group, Interner, Kind, Labels, Mark, Metric, RowId, Shape, ShapeBuilder, Slot, SourceId,
};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::delivery::{DeliveryNode, DeliveryQueue, end};

/// What the backend does with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Take,
    /// Takes it after a while.
    Slow(Duration),
    Reject(u64),
    Fail,
    FailFor(Duration),
    TooLarge,
    Refuse,
    /// With these words.
    RefuseFor(&'static str),
    Panic,
    Hang,
}

/// A row of a batch that the backend took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Got {
    pub(crate) source: SourceId,
    pub(crate) time: i64,
    pub(crate) row: RowId,
}

/// One request as the backend saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) at: Instant,
    pub(crate) weight: usize,
    pub(crate) parts: usize,
}

type Rule = Box<dyn FnMut(&[Part]) -> Reply + Send>;

/// The backend, shared by all senders.
#[derive(Default)]
pub(crate) struct Backend {
    /// Replies to come; then `rule`, or else everything is taken.
    pub(crate) script: VecDeque<Reply>,
    pub(crate) rule: Option<Rule>,
    pub(crate) got: Vec<Got>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) senders: usize,
}

pub(crate) type Shared = Arc<Mutex<Backend>>;

pub(crate) struct Fake(Shared);

impl Fake {
    /// A maker of senders to `backend`.
    pub(crate) fn make(backend: &Shared) -> Box<dyn Fn() -> Box<dyn Sender> + Send + Sync> {
        let backend = Arc::clone(backend);
        Box::new(move || {
            backend.lock().unwrap().senders += 1;
            Box::new(Self(Arc::clone(&backend)))
        })
    }

    fn keep(&self, parts: &[Part]) {
        let mut backend = self.0.lock().unwrap();
        for part in parts {
            for row in part.rows.clone().filter(|row| part.batch.mark(*row) == Mark::Present) {
                let (source, time) = (part.batch.source, part.batch.time);
                backend.got.push(Got { source, time, row });
            }
        }
    }
}

impl Sender for Fake {
    fn send<'a>(&'a mut self, parts: &'a [Part]) -> BoxFuture<'a, Result<Delivered, ExportError>> {
        let reply = {
            let mut backend = self.0.lock().unwrap();
            let weight = parts.iter().map(Part::points).sum();
            backend.attempts.push(Attempt { at: Instant::now(), weight, parts: parts.len() });
            let next = backend.script.pop_front();
            next.unwrap_or_else(|| backend.rule.as_mut().map_or(Reply::Take, |rule| rule(parts)))
        };
        Box::pin(async move {
            let fail = |after| Err(ExportError::Retryable { reason: "not now".to_owned(), after });
            let mut rejected = 0;
            match reply {
                Reply::Take => {}
                Reply::Slow(time) => tokio::time::sleep(time).await,
                Reply::Reject(points) => rejected = points,
                Reply::Fail => return fail(None),
                Reply::FailFor(after) => return fail(Some(after)),
                Reply::TooLarge => return Err(ExportError::TooLarge("too much".to_owned())),
                Reply::Refuse => return Err(ExportError::Permanent("never".to_owned())),
                Reply::RefuseFor(words) => return Err(ExportError::Permanent(words.to_owned())),
                Reply::Panic => panic!("told to panic"),
                Reply::Hang => std::future::pending().await,
            }
            self.keep(parts);
            Ok(Delivered { rejected, message: String::new() })
        })
    }
}

/// Small numbers, one shard.
pub(crate) fn settings() -> Delivery {
    Delivery {
        queue: QueueSettings {
            bytes_max: ByteSize::from_mib(1),
            when_full: WhenFull::DropOldest,
            disk: None,
        },
        batch: BatchSettings {
            points_max: 100,
            bytes_max: ByteSize::from_mib(1),
            timeout: Duration::from_millis(200).into(),
        },
        retry: RetrySettings {
            pause_min: Duration::from_millis(100).into(),
            pause_max: Duration::from_secs(5).into(),
        },
        concurrency: 1,
    }
}

pub(crate) struct Rig {
    pub(crate) queue: Arc<DeliveryQueue>,
    pub(crate) backend: Shared,
    pub(crate) telemetry: Telemetry,
    pub(crate) interner: Arc<Interner>,
    shapes: BTreeMap<usize, Arc<Shape>>,
    shards: JoinSet<()>,
    helpers: JoinSet<()>,
}

impl Rig {
    pub(crate) async fn new(settings: Delivery) -> Self {
        Self::at(settings, PathBuf::new(), Arc::new(Os)).await
    }

    /// With a queue on disk, of `bytes_max`.
    pub(crate) async fn on_disk(
        mut settings: Delivery,
        dir: &Path,
        bytes_max: u64,
        files: Arc<dyn FileSystem>,
    ) -> Self {
        settings.queue.disk = Some(DiskSettings {
            bytes_max: ByteSize::from_bytes(bytes_max),
            commit_interval: Duration::from_millis(100).into(),
            path: None,
        });
        Self::at(settings, dir.to_owned(), files).await
    }

    async fn at(settings: Delivery, dir: PathBuf, files: Arc<dyn FileSystem>) -> Self {
        let (telemetry, interner) = (Telemetry::default(), Arc::new(Interner::new()));
        let backend = Shared::default();
        let queue = Arc::new(DeliveryQueue::new("exporters.fake", settings, &telemetry));
        let (mut shards, mut helpers) = (JoinSet::new(), JoinSet::new());
        let node = DeliveryNode::new(queue, Fake::make(&backend), dir).on(files);
        let queue = node.start(&mut shards, &mut helpers, &interner).await.unwrap();
        Self { queue, backend, telemetry, interner, shapes: BTreeMap::new(), shards, helpers }
    }

    /// A batch of `rows` points.
    pub(crate) fn batch(&mut self, source: SourceId, time: i64, rows: usize) -> Batch {
        let interner = &self.interner;
        let shape = self.shapes.entry(rows).or_insert_with(|| shape(interner, rows));
        Batch::new(source, Arc::clone(shape), time, vec![Slot::double(time as f64); rows])
    }

    pub(crate) fn push(&mut self, source: SourceId, time: i64, rows: usize) {
        let batch = self.batch(source, time, rows);
        self.queue.push(batch);
    }

    pub(crate) fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.backend.lock().unwrap().script.extend(replies);
    }

    /// From now on the backend goes by `rule`.
    pub(crate) fn rule(&self, rule: impl FnMut(&[Part]) -> Reply + Send + 'static) {
        self.backend.lock().unwrap().rule = Some(Box::new(rule));
    }

    pub(crate) fn always(&self, reply: Reply) {
        self.rule(move |_| reply);
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.backend.lock().unwrap().got.clone()
    }

    /// Times of all batches that came, whoever they are of.
    pub(crate) fn all_times(&self) -> Vec<i64> {
        let mut times: Vec<i64> = self.got().iter().map(|got| got.time).collect();
        times.dedup();
        times
    }

    /// Times of the batches that came, in order, once per batch.
    pub(crate) fn times(&self, source: SourceId) -> Vec<i64> {
        let mut times: Vec<i64> =
            self.got().iter().filter(|got| got.source == source).map(|got| got.time).collect();
        times.dedup();
        times
    }

    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.backend.lock().unwrap().attempts.clone()
    }

    pub(crate) fn counter(&self, of: &'static Definition, labels: &[(&'static str, &str)]) -> u64 {
        self.telemetry.counter(of, labels).get()
    }

    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        self.counter(&table::EXPORTER_DROPPED, &[("reason", reason)])
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.counter(&table::EXPORTER_POINTS, &[("outcome", "delivered")])
    }

    pub(crate) fn gauge(&self, of: &'static Definition) -> f64 {
        self.telemetry.gauge(of, &[]).get()
    }

    /// taken = delivered + waiting + in flight + dropped, as self telemetry says it.
    #[track_caller]
    pub(crate) fn check_balance(&self) {
        let samples = self.telemetry.snapshot().into_iter().flat_map(|family| family.samples);
        let sum = |name: &str, label: Option<&str>| -> f64 {
            let samples = samples.clone().filter(|sample| sample.name == name);
            samples
                .filter(|sample| {
                    label.is_none_or(|label| sample.labels.iter().any(|(_, value)| value == label))
                })
                .map(|sample| sample.value)
                .sum()
        };
        let taken = sum("inferometer_exporter_taken_points_total", None);
        let parts = [
            sum("inferometer_exporter_points_total", Some("delivered")),
            sum("inferometer_exporter_dropped_points_total", None),
            sum("inferometer_exporter_queue_points", None),
            sum("inferometer_exporter_in_flight_points", None),
        ];
        assert_eq!(
            taken,
            parts.iter().sum::<f64>(),
            "taken = delivered + dropped + waiting: {parts:?}"
        );
        assert_eq!(self.queue.lock().unaccounted(), 0);
    }

    /// Waits until nothing waits any more.
    pub(crate) async fn settle(&self) {
        let wait = async {
            while self.queue.lock().waiting() > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let settled = tokio::time::timeout(Duration::from_secs(3600), wait).await;
        settled.expect("everything is settled within the hour");
        self.check_balance();
    }

    /// As a shutdown does it.
    pub(crate) async fn stop(&mut self, within: Duration) {
        let deadline = Instant::now() + within;
        self.queue.close();
        let drained = async { while self.shards.join_next().await.is_some() {} };
        drop(tokio::time::timeout_at(deadline, drained).await);
        self.kill().await;
        end(&self.queue, deadline).await;
        self.check_balance();
        assert_eq!(self.counter(&table::EXPORTER_UNBALANCED, &[]), 0);
    }

    /// As a kill does it: nothing is said to anybody.
    pub(crate) async fn kill(&mut self) {
        self.shards.shutdown().await;
        self.helpers.shutdown().await;
        // A commit that had begun ends on its own thread; a process takes its threads with it.
        let journal = self.queue.lock().disk.as_ref().and_then(|disk| disk.journal.clone());
        while journal.as_ref().is_some_and(|journal| Arc::strong_count(journal) > 2) {
            tokio::task::spawn_blocking(std::thread::yield_now).await.unwrap();
        }
    }
}

pub(crate) fn shape(interner: &Interner, rows: usize) -> Arc<Shape> {
    let mut builder = ShapeBuilder::new(interner);
    let group = builder.group(Group::default());
    for n in 0..rows {
        let metric = Arc::new(Metric::new(&format!("m{n}"), "", "", Kind::Gauge));
        builder.push(group, &metric, &Labels::empty()).unwrap();
    }
    builder.finish()
}
