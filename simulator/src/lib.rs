//! A simulated inference fleet: engines of many releases with the pages that those releases print, over real HTTP.
//!
//! It is what `inferometer demo` shows, and what tests and benchmarks scrape. Three layers: [`Engine`] works through
//! simulated requests one by one and knows the [`Truth`]; its page renders that truth as its release would; [`Fleet`]
//! serves pages on loopback. [`BulkFleet`] is something else: many large pages with moving numbers and no truth behind
//! them, made to cost next to nothing. Nothing here reaches beyond 127.0.0.1.

mod buckets;
mod bulk;
mod demo;
mod engine;
mod fleet;
mod histogram;
mod load;
mod pages;
mod random;
mod request;
mod scheduler;
mod server;
mod spec;
#[cfg(test)]
mod tests;
mod truth;

pub use bulk::{BulkFleet, BulkSpec, BulkTemplate, SEQUENCE, bulk_page};
pub use demo::demo_fleet;
pub use engine::Engine;
pub use fleet::{Fleet, FleetSpec};
pub use histogram::{Histogram, Unit};
pub use load::Load;
pub use server::Fault;
pub use spec::{EngineSpec, Event, Identity, Release, Script, Speculation};
pub use truth::{DRAFT_POSITIONS_MAX, FinishReason, Now, Truth};
