//! Scrapes of real servers on loopback.

mod config;
mod discovery;
mod failure;
mod scrapes;
mod server;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline_component::telemetry::{Telemetry, table};
use pipeline_component::{BoxFuture, ConsumeError, Consumer, Receiver as _, Settings, Shutdown};
use pipeline_config::Section;
use pipeline_model::{Batch, Mark, Series};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Config, Prometheus};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes batches, and refuses them when told to.
struct Sink {
    batches: Mutex<Vec<Batch>>,
    arrived: watch::Sender<usize>,
    refuse: Mutex<Option<ConsumeError>>,
    panics: AtomicU32,
}

impl Consumer for Sink {
    fn consume(&self, batch: Batch) -> BoxFuture<'_, Result<(), ConsumeError>> {
        Box::pin(async move {
            if let Some(error) = self.refuse.lock().unwrap().clone() {
                return Err(error);
            }
            let panics = self.panics.load(Ordering::Relaxed);
            if panics > 0 {
                self.panics.store(panics - 1, Ordering::Relaxed);
                panic!("as the test wants");
            }
            self.batches.lock().unwrap().push(batch);
            self.arrived.send_modify(|n| *n += 1);
            Ok(())
        })
    }
}

/// A receiver that runs.
struct Rig {
    sink: Arc<Sink>,
    stop: Shutdown,
    task: JoinSet<()>,
    telemetry: Telemetry,
}

/// Runs a receiver with this configuration.
async fn run(toml: &str) -> Rig {
    let section = Section::from_toml("receivers.engines", toml).unwrap();
    let config: Config = section.decode().unwrap_or_else(|errors| panic!("{errors:?}"));
    let mut settings = Settings::standalone("receiver", "prometheus");
    settings.id.name = "engines".to_owned();
    let telemetry = settings.telemetry.clone();
    let mut receiver =
        Prometheus::new(config, &section, settings).unwrap_or_else(|errors| panic!("{errors:?}"));
    // The servers of the tests are in this process.
    receiver.host.1 = false;
    let sink = Arc::new(Sink {
        batches: Mutex::default(),
        arrived: watch::Sender::new(0),
        refuse: Mutex::default(),
        panics: AtomicU32::new(0),
    });
    let stop = Shutdown::new();
    let running = Box::new(receiver).start(Arc::<Sink>::clone(&sink), stop.clone()).await.unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move { running.await.unwrap() });
    Rig { sink, stop, task, telemetry }
}

impl Rig {
    /// Waits until a batch from number `from` on fits, and returns it and its number.
    async fn batch(&self, from: usize, fits: impl Fn(&Batch) -> bool) -> (usize, Batch) {
        let mut arrived = self.sink.arrived.subscribe();
        let search = async {
            loop {
                arrived.borrow_and_update();
                let batches = self.sink.batches.lock().unwrap().clone();
                let found =
                    batches.into_iter().enumerate().skip(from).find(|(_, batch)| fits(batch));
                match found {
                    Some(found) => return found,
                    None => arrived.changed().await.unwrap(),
                }
            }
        };
        timeout(PATIENCE, search).await.expect("such a batch comes")
    }

    /// The first batch from number `from` on in which `up` is `up`.
    async fn up(&self, from: usize, up: f64) -> (usize, Batch) {
        self.batch(from, |batch| value(batch, "up") == Some(up)).await
    }

    fn batches(&self) -> Vec<Batch> {
        self.sink.batches.lock().unwrap().clone()
    }

    fn scrapes(&self, outcome: &str) -> u64 {
        self.telemetry.counter(&table::SCRAPES, &[("outcome", outcome)]).get()
    }

    /// Stops it; panics when that takes long.
    async fn stop(mut self) -> Vec<Batch> {
        self.stop.trigger();
        timeout(PATIENCE, self.task.join_next()).await.expect("it stops").unwrap().unwrap();
        self.batches()
    }
}

fn find<'a>(batch: &'a Batch, name: &str) -> Option<Series<'a>> {
    batch.shape.iter().find(|series| series.metric.name == *name)
}

/// The first slot of the first series of that name, if it is present.
fn value(batch: &Batch, name: &str) -> Option<f64> {
    let series = find(batch, name)?;
    (batch.mark(series.row) == Mark::Present).then(|| batch.point(series.row)[0].as_double())
}

fn mark(batch: &Batch, name: &str) -> Option<Mark> {
    find(batch, name).map(|series| batch.mark(series.row))
}

fn labels(batch: &Batch, name: &str) -> String {
    let series = find(batch, name).expect("the series is there");
    series
        .labels_merged()
        .map(|label| format!("{}={}", label.name, label.value))
        .collect::<Vec<_>>()
        .join(" ")
}
