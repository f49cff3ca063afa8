//! Configuration to a running graph: workers, queues, fan-out, supervision, shutdown.
//!
//! ```text
//! receivers ─▶ edge ─▶ pipeline workers (plans, computes) ─┬▶ queue ─▶ exporter of this process
//!                                                         └▶ steps ─▶ delivery: queue, batches, attempts ─▶ sender
//! ```
//!
//! A batch is handed over when every exporter's queue has it. Knows no concrete component and opens no socket.

mod delivery;
mod graph;
mod health;
mod pipeline;
mod queue;
mod run;
mod service;
mod steps;
#[cfg(test)]
mod tests;

pub use graph::{Graph, PipelineConfig, build};
pub use health::{Health, Status};
pub use run::run;
pub use service::Service;
