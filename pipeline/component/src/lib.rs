//! What a component is: the traits that receivers, processors and exporters implement, the factory by which the
//! binary lists them, the settings they are given, and the self telemetry they count with.
//!
//! A new component is one folder with a type that implements [`Component`] and [`BuildReceiver`],
//! [`BuildProcessor`] or [`BuildExporter`], and one line in its crate's `factories()`.

mod consumer;
mod delivery;
mod factory;
mod limiter;
mod settings;
mod shutdown;
pub mod telemetry;

pub use consumer::{
    ConsumeError, Consumer, Delivered, ExportError, Exporter, Local, Outlet, Part, Processor, Push,
    Receiver, RunError, Running, Sender, StartError,
};
pub use delivery::{BatchSettings, Delivery, DiskSettings, QueueSettings, RetrySettings, WhenFull};
pub use factory::{
    BuildExporter, BuildProcessor, BuildReceiver, Component, ExporterFactory, Factories, Factory,
    ProcessorFactory, ReceiverFactory, Stability,
};
pub use limiter::RateLimiter;
pub use settings::{ComponentId, Settings, SystemTimeSource, TimeSource};
pub use shutdown::Shutdown;

/// A boxed future, as the object-safe async traits here return.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
