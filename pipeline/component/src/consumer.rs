//! The traits on the edges of the graph, and their errors.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use pipeline_model::{Batch, Compute, Mark, Reshape, RowId};

use crate::{BoxFuture, Delivery, Shutdown};

/// Takes batches. Every edge of the graph is one; the cost is one box per batch, never per point.
pub trait Consumer: Send + Sync {
    /// Hands `batch` over. `Ok` means that responsibility has moved: a receiver answers its client after it.
    /// Cancel safe: a dropped future leaves the batch either taken whole or not at all.
    fn consume(&self, batch: Batch) -> BoxFuture<'_, Result<(), ConsumeError>>;
}

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeError {
    /// A queue on the way is full: the sender may come again.
    #[error("the pipeline is full, retry after {after:?}")]
    Full {
        /// When it is worth trying again.
        after: Duration,
    },
    /// The pipeline is shutting down.
    #[error("the pipeline is shutting down")]
    Closed,
    /// The batch can never be taken.
    #[error("refused: {0}")]
    Permanent(String),
}

/// What a component does from start to stop. Resolves when `stop` was asked for and everything is let go, or when it
/// cannot go on.
pub type Running = BoxFuture<'static, Result<(), RunError>>;

/// A component that could not begin: it ends the process before it serves.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound; exit code 6.
    #[error("{0}")]
    Bind(String),
    /// The operating system denies something; exit code 7.
    #[error("{0}")]
    Permission(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl StartError {
    /// The same, said of the component `name`.
    #[must_use]
    pub fn of(self, name: &str) -> Self {
        match self {
            Self::Bind(text) => Self::Bind(format!("{name}: {text}")),
            Self::Permission(text) => Self::Permission(format!("{name}: {text}")),
            Self::Other(text) => Self::Other(format!("{name}: {text}")),
        }
    }
}

/// A component that stopped although nobody asked it to. The engine reports it and lets the others go on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub String);

/// Brings batches in.
pub trait Receiver: Send {
    /// Binds and opens what it needs; the returned future serves until `stop`, handing batches to `next`.
    fn start(
        self: Box<Self>,
        next: Arc<dyn Consumer>,
        stop: Shutdown,
    ) -> BoxFuture<'static, Result<Running, StartError>>;
}

/// One step of a pipeline. A processor is one, or a small composition of them.
pub enum Processor {
    /// Work on identity, once per shape; consecutive ones are folded into one plan.
    Reshape(Arc<dyn Reshape>),
    /// Work on values; made once per worker, because its state is not shared between them.
    Compute(Box<dyn Fn() -> Box<dyn Compute> + Send + Sync>),
}

impl std::fmt::Debug for Processor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reshape(_) => "Reshape",
            Self::Compute(_) => "Compute",
        })
    }
}

/// Why an attempt to deliver failed; classified where the fact is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// Worth trying again.
    #[error("{reason}")]
    Retryable {
        /// What happened, for the log.
        reason: String,
        /// What the other side asked for.
        after: Option<Duration>,
    },
    /// More than one request may hold: worth trying in halves. Nothing of it was taken.
    #[error("{0}")]
    TooLarge(String),
    /// Never worth trying again: the points are counted as lost.
    #[error("{0}")]
    Permanent(String),
}

/// Takes batches to where they are read, within this process: a page that is scraped, a terminal. It keeps up with
/// whatever comes, and what it cannot keep it counts itself.
pub trait Exporter: Send + Sync {
    /// Binds and opens; the returned future serves until `stop`.
    fn start(&self, stop: Shutdown) -> BoxFuture<'_, Result<Running, StartError>>;

    /// Takes `batch`.
    fn export<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), ExportError>>;
}

/// What an exporter is: one that keeps what it is given, or one that delivers it elsewhere.
pub enum Outlet {
    /// Keeps it.
    Local(Local),
    /// Delivers it.
    Push(Push),
}

impl Outlet {
    /// An exporter that keeps what it is given.
    pub fn local(exporter: impl Exporter + 'static) -> Self {
        Self::local_after(Vec::new(), exporter)
    }

    /// One that keeps what `steps` make of it.
    pub fn local_after(steps: Vec<Processor>, exporter: impl Exporter + 'static) -> Self {
        Self::Local(Local { steps, exporter: Box::new(exporter) })
    }
}

/// An exporter that keeps what it is given.
pub struct Local {
    /// What happens to batches before they are queued, on the pipeline's workers. Made for this exporter alone.
    pub steps: Vec<Processor>,
    /// Keeps what comes of them.
    pub exporter: Box<dyn Exporter>,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("steps", &self.steps).finish_non_exhaustive()
    }
}

/// An exporter that delivers to a backend. Queueing, batching, retry, order and concurrency are the engine's, the same
/// for all: a sender makes one attempt and classifies its outcome.
pub struct Push {
    /// What happens to batches before they are queued, on the pipeline's workers: the temporality that the backend
    /// wants, for instance. Made for this exporter alone.
    pub steps: Vec<Processor>,
    /// How it queues, batches and retries.
    pub delivery: Delivery,
    /// Makes a sender; one for each of `delivery.concurrency` shards, and a new one after a panic. All batches of a
    /// source go through one shard, so a sender may remember what it wrote about a source or shape.
    pub sender: Box<dyn Fn() -> Box<dyn Sender> + Send + Sync>,
}

impl std::fmt::Debug for Push {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Push").field("delivery", &self.delivery).finish_non_exhaustive()
    }
}

/// One connection's worth of delivery.
pub trait Sender: Send {
    /// One attempt to deliver `parts`, which are in order. After a failure the same parts come again, or the halves of
    /// them where they were too large.
    fn send<'a>(&'a mut self, parts: &'a [Part]) -> BoxFuture<'a, Result<Delivered, ExportError>>;
}

/// Some rows of a batch: all of them, unless a request had to be split.
#[derive(Clone, Debug)]
pub struct Part {
    /// The batch.
    pub batch: Batch,
    /// Its rows that are meant.
    pub rows: Range<RowId>,
}

impl Part {
    /// All rows of `batch`.
    pub fn whole(batch: Batch) -> Self {
        let rows = 0..batch.shape.len() as RowId;
        Self { batch, rows }
    }

    /// Points that are there, or say that they have ended: what a backend may be told of.
    pub fn points(&self) -> usize {
        match &self.batch.marks {
            None => self.rows.len(),
            Some(_) => {
                self.rows.clone().filter(|row| self.batch.mark(*row) != Mark::Absent).count()
            }
        }
    }
}

/// What a backend did with a request that it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Points that it refused all the same; they are counted as lost.
    pub rejected: u64,
    /// Why, or a warning without a refusal; for the log. Empty: all is well.
    pub message: String,
}
