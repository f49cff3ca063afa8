//! The traits on the edges of the graph, and their errors.

use std::sync::Arc;
use std::time::Duration;

use pipeline_model::{Batch, Compute, Reshape};

use crate::{BoxFuture, Shutdown};

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
    /// Never worth trying again: the batch is counted as lost.
    #[error("{0}")]
    Permanent(String),
}

/// Takes batches out of the process.
///
/// Queueing, retry and concurrency are the engine's, the same for all: an exporter makes one attempt and classifies
/// its outcome. One that is pulled (Prometheus) just keeps the newest state.
pub trait Exporter: Send + Sync {
    /// Binds and opens; the returned future serves until `stop`. Exporters that only push return a future that waits
    /// for `stop`.
    fn start(&self, stop: Shutdown) -> BoxFuture<'_, Result<Running, StartError>>;

    /// One attempt to deliver `batch`.
    fn export<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), ExportError>>;
}
