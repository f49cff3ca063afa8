//! Running the graph: exporters first, receivers last; stopped the other way round, within a deadline.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use pipeline_component::telemetry::{Telemetry, table};
use pipeline_component::{ExportError, Exporter, RateLimiter, Running, Shutdown, StartError};
use pipeline_model::Interner;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};

use crate::delivery::{self, DeliveryQueue};
use crate::graph::{Ends, ExporterNode, Graph};
use crate::health::{Health, Status};
use crate::queue::ExporterQueue;

/// First pause after a retryable failure; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(200);
/// Longest pause between two attempts.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Runs `graph` until `stop`, then drains it. `on_ready` is called once when every component serves.
///
/// # Errors
/// When a component cannot begin. What was begun before is stopped again.
pub async fn run(graph: Graph, stop: Shutdown, on_ready: impl FnOnce()) -> Result<(), StartError> {
    let Graph { receivers, workers, exporters, health, interner, telemetry, drain_timeout } = graph;
    let mut worker_tasks = JoinSet::new();
    let mut receiver_tasks = JoinSet::new();
    let (stop_receivers, stop_exporters) = (Shutdown::new(), Shutdown::new());
    let mut running = Exporters::default();
    for node in exporters {
        running.start(node, &stop_exporters, &health, &telemetry, &interner).await?;
    }
    for worker in workers {
        worker_tasks.spawn(worker.run());
    }
    for node in receivers {
        let started = node.receiver.start(Arc::new(node.edge), stop_receivers.clone()).await;
        let running = started.map_err(|wrong| wrong.of(&node.name))?;
        receiver_tasks.spawn(supervise(node.name, running, Arc::clone(&health)));
    }
    on_ready();

    let mut housekeeping = JoinSet::new();
    housekeeping.spawn(keep_house(interner, telemetry));
    stop.triggered().await;
    info!("stopping: draining what was taken");
    let deadline = Instant::now() + drain_timeout;
    stop_receivers.trigger();
    join("receivers", &mut receiver_tasks, deadline).await;
    // With the receivers their edges are gone, so the workers come to the end of their channels.
    join("pipelines", &mut worker_tasks, deadline).await;
    running.drain(deadline).await;
    stop_exporters.trigger();
    join("exporters", &mut running.tasks, deadline + Duration::from_millis(500)).await;
    Ok(())
}

/// Exporters that were started, and what is to be done at their end.
#[derive(Default)]
struct Exporters {
    /// Of exporters within this process.
    tasks: JoinSet<()>,
    /// What empties queues.
    queue_tasks: JoinSet<()>,
    /// What they need meanwhile.
    helpers: JoinSet<()>,
    local: Vec<(String, Arc<ExporterQueue>)>,
    pushing: Vec<Arc<DeliveryQueue>>,
    health: Vec<(Arc<Health>, String)>,
}

impl Exporters {
    async fn start(
        &mut self,
        node: ExporterNode,
        stop: &Shutdown,
        health: &Arc<Health>,
        telemetry: &Telemetry,
        interner: &Arc<Interner>,
    ) -> Result<(), StartError> {
        let ExporterNode { name, ends, .. } = node;
        match ends {
            Ends::Local { exporter, queue } => {
                let started = exporter.start(stop.clone()).await;
                let running = started.map_err(|wrong| wrong.of(&name))?;
                self.tasks.spawn(supervise(name.clone(), running, Arc::clone(health)));
                self.local.push((name.clone(), Arc::clone(&queue)));
                self.queue_tasks.spawn(export_loop(name, exporter, queue, telemetry.clone()));
            }
            Ends::Push(node) => {
                let tasks = (&mut self.queue_tasks, &mut self.helpers);
                let started = node.start(tasks.0, tasks.1, interner).await;
                self.pushing.push(started.map_err(|wrong| wrong.of(&name))?);
                health.set(&name, Status::Running);
                self.health.push((Arc::clone(health), name));
            }
        }
        Ok(())
    }

    /// Empties the queues until `deadline`; what is left is counted, or stays on disk.
    async fn drain(&mut self, deadline: Instant) {
        self.local.iter().for_each(|(_, queue)| queue.close());
        self.pushing.iter().for_each(|queue| queue.close());
        join("exporter queues", &mut self.queue_tasks, deadline).await;
        for (name, queue) in &self.local {
            let lost = queue.abandon();
            if lost > 0 {
                error!(component = %name, points = lost, "not delivered before the deadline, lost");
            }
        }
        self.helpers.shutdown().await;
        let ends = self.pushing.iter().map(|queue| delivery::end(queue, deadline));
        futures_util::future::join_all(ends).await;
        self.health.iter().for_each(|(health, name)| health.set(name, Status::Stopped));
    }
}

async fn join(what: &str, tasks: &mut JoinSet<()>, deadline: Instant) {
    while !tasks.is_empty() {
        if timeout_at(deadline, tasks.join_next()).await.is_err() {
            warn!(what, left = tasks.len(), "did not stop before the deadline, cut off");
            tasks.shutdown().await;
        }
    }
}

/// Awaits a component; its panic or error is reported and ends nothing else.
async fn supervise(name: String, running: Running, health: Arc<Health>) {
    health.set(&name, Status::Running);
    match AssertUnwindSafe(running).catch_unwind().await {
        Ok(Ok(())) => health.set(&name, Status::Stopped),
        Ok(Err(failed)) => {
            error!(component = %name, error = %failed, "component ended, the others go on");
            health.set(&name, Status::Failed(failed.to_string()));
        }
        Err(panic) => {
            let what = panic_text(&*panic);
            error!(component = %name, panic = what, "component panicked, the others go on");
            health.panicked(&name, what);
        }
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

/// Takes batches off the queue in order and delivers each, however often it takes.
async fn export_loop(
    name: String,
    exporter: Arc<dyn Exporter>,
    queue: Arc<ExporterQueue>,
    telemetry: Telemetry,
) {
    let telemetry = telemetry.scoped(&[("component", &name)]);
    let delivered = telemetry.counter(&table::EXPORTER_POINTS, &[("outcome", "delivered")]);
    let failed = telemetry.counter(&table::EXPORTER_POINTS, &[("outcome", "failed")]);
    let permanent = telemetry.counter(&table::EXPORTER_DROPPED, &[("reason", "permanent")]);
    let panicked = telemetry.counter(&table::EXPORTER_DROPPED, &[("reason", "panic")]);
    let seconds = telemetry.seconds(&table::EXPORT_SECONDS, &[]);
    let limiter = RateLimiter::default();
    while let Some(entry) = queue.pop().await {
        let points = entry.points() as u64;
        let mut pause = RETRY_MIN;
        loop {
            let began = Instant::now();
            // Within the block, because an exporter may do its work before it gives its future.
            let attempt = async { exporter.export(entry.batch()).await };
            let outcome = AssertUnwindSafe(attempt).catch_unwind().await;
            seconds.observe(began.elapsed());
            match outcome {
                Ok(Ok(())) => {
                    delivered.add(points);
                    break;
                }
                Ok(Err(ExportError::Retryable { reason, after })) => {
                    if let Some(swallowed) = limiter.admit() {
                        warn!(component = %name, error = reason, swallowed, "export failed, will retry");
                    }
                    tokio::time::sleep(after.unwrap_or(pause)).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
                Ok(Err(ExportError::Permanent(reason) | ExportError::TooLarge(reason))) => {
                    failed.add(points);
                    permanent.add(points);
                    if let Some(swallowed) = limiter.admit() {
                        error!(component = %name, error = reason, points, swallowed, "export refused, lost");
                    }
                    break;
                }
                Err(panic) => {
                    failed.add(points);
                    panicked.add(points);
                    error!(component = %name, panic = panic_text(&*panic), points, "exporter panicked, batch lost");
                    break;
                }
            }
        }
    }
}

/// Lets go of shared values that nobody holds, and shows how many there are.
async fn keep_house(interner: Arc<Interner>, telemetry: Telemetry) {
    let gauge = |pool| telemetry.gauge(&table::INTERNED, &[("pool", pool)]);
    let (strings, labels, metrics) = (gauge("strings"), gauge("labels"), gauge("metrics"));
    let (tables, programs) = (gauge("tables"), gauge("programs"));
    let bytes = telemetry.gauge(&table::SHAPE_BYTES, &[]);
    // The first look comes when first batches have had time to arrive.
    let first = Instant::now() + Duration::from_secs(1);
    let mut tick = tokio::time::interval_at(first, Duration::from_secs(10));
    loop {
        tick.tick().await;
        interner.sweep();
        let stats = interner.stats();
        strings.set(stats.strings as f64);
        labels.set(stats.labels as f64);
        metrics.set(stats.metrics as f64);
        tables.set(stats.tables as f64);
        programs.set(stats.programs as f64);
        bytes.set(stats.table_bytes as f64);
    }
}
