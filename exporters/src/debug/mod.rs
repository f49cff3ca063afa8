//! Exporter `debug`: batches as lines on stdout.
//!
//! A terminal may be slower than the pipeline, or stopped: what does not fit into a short queue is not printed, and
//! counted.

mod config;
mod print;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pipeline_component::telemetry::{Counter, table};
use pipeline_component::{
    BoxFuture, BuildExporter, Component, ExportError, Exporter, Outlet, Running, Settings,
    Shutdown, Stability, StartError,
};
use pipeline_config::{Diagnostics, Section};
use pipeline_model::{Batch, SourceId};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use config::{Config, Verbosity};

/// Batches that wait for the terminal.
const QUEUE_BATCHES: usize = 16;

/// Sources whose last print is remembered; beyond them the oldest are forgotten and print again.
const SOURCES_MAX: usize = 10_000;

/// The exporter.
pub struct Debug {
    config: Config,
    printed: Mutex<HashMap<SourceId, Instant>>,
    lines: mpsc::Sender<String>,
    /// Taken by `start`.
    waiting: Mutex<Option<mpsc::Receiver<String>>>,
    dropped: Counter,
}

impl Debug {
    fn new(config: Config, settings: &Settings) -> Self {
        let (lines, waiting) = mpsc::channel(QUEUE_BATCHES);
        let dropped =
            settings.telemetry.counter(&table::EXPORTER_DROPPED, &[("reason", "output_full")]);
        Self {
            config,
            printed: Mutex::default(),
            lines,
            waiting: Mutex::new(Some(waiting)),
            dropped,
        }
    }

    /// True when the source of `batch` has not been printed for long enough. Its end is always printed.
    fn is_due(&self, batch: &Batch) -> bool {
        let now = Instant::now();
        let every = self.config.every.get();
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        if batch.ended {
            printed.remove(&batch.source);
            return true;
        }
        if printed.get(&batch.source).is_some_and(|last| now.duration_since(*last) < every) {
            return false;
        }
        if printed.len() >= SOURCES_MAX {
            printed.retain(|_, last| now.duration_since(*last) < every);
        }
        if printed.len() < SOURCES_MAX {
            printed.insert(batch.source, now);
        }
        true
    }

    fn run(&self, stop: Shutdown, mut output: impl AsyncWrite + Unpin + Send + 'static) -> Running {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            let Some(mut waiting) = waiting else { return Ok(()) };
            loop {
                tokio::select! {
                    () = stop.triggered() => break,
                    Some(text) = waiting.recv() => write(&mut output, &text).await,
                }
            }
            // What is there already is still printed.
            while let Ok(text) = waiting.try_recv() {
                write(&mut output, &text).await;
            }
            Ok(())
        })
    }
}

/// A closed stdout is no reason to stop a pipeline.
async fn write(output: &mut (impl AsyncWrite + Unpin), text: &str) {
    if output.write_all(text.as_bytes()).await.is_ok() {
        drop(output.flush().await);
    }
}

impl Exporter for Debug {
    fn start(&self, stop: Shutdown) -> BoxFuture<'_, Result<Running, StartError>> {
        Box::pin(std::future::ready(Ok(self.run(stop, tokio::io::stdout()))))
    }

    fn export<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), ExportError>> {
        if self.is_due(batch) {
            match self.lines.try_reserve() {
                Ok(place) => place.send(print::batch(batch, self.config.verbosity)),
                Err(_) => self.dropped.add(batch.points() as u64),
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Component for Debug {
    type Config = Config;
    const TYPE: &'static str = "debug";
    const STABILITY: Stability = Stability::Beta;
    const SUMMARY: &'static str =
        "Prints what passes, for looking at a pipeline while setting it up.";
}

impl BuildExporter for Debug {
    fn build(config: Config, _: &Section, settings: Settings) -> Result<Outlet, Diagnostics> {
        Ok(Outlet::local(Self::new(config, &settings)))
    }
}
