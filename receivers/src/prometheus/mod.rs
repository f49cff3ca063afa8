//! Receiver `prometheus`: scrapes pages of metrics from targets that are listed, read from files, or found on this host.
//!
//! Every target has a task with a schedule, a connection and a reader of its own, so a slow target delays nobody.
//! [`discovery`] says what there is, [`fleet`] starts and ends the tasks, [`scrape`] is what one of them does.
//!
//! What is copied from Prometheus: a scrape that fails, for whatever limit or error, is an empty page; its series are
//! stale; `up` and the other synthetic series say so. What is not: relabelling (the processors of the pipeline do that),
//! and failing all targets when `target_limit` is exceeded.
//! <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#scrape_config>

mod buffers;
mod config;
mod discovery;
mod failure;
mod fleet;
mod format;
mod schedule;
mod scrape;
mod target;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use pipeline_component::telemetry::table;
use pipeline_component::{
    BoxFuture, BuildReceiver, Component, Consumer, RateLimiter, Receiver, Running, Settings,
    Shutdown, Stability, StartError,
};
use pipeline_config::{Diagnostics, Section};
use pipeline_net::{ClientPlan, Coding, Limits};
use pipeline_wire::scrape::{Layouts, PageLimits, PageSettings};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::error;

pub use config::{
    Config, Discover, FileSdConfig, LocalConfig, PortRange, Scheme, ScrapeProtocol, StaticTargets,
};
use discovery::Found;
use discovery::file_sd::FileSd;
use discovery::local::{Local, LocalPlan};
use failure::{Budget, chain};
use fleet::{Fleet, FleetPlan};
use scrape::{Counts, Shared};

/// Scrapes at a time, where the limit of open files allows that many.
const IN_FLIGHT_MAX: usize = 512;

/// Open files that a process may have where the system does not say.
const OPEN_FILES_DEFAULT: usize = 1024;
/// How often layouts that nobody has any more are let go.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// The receiver.
pub struct Prometheus {
    config: Config,
    settings: Settings,
    /// Where the kernel's tables are, and whether sockets of this process are left out.
    host: (PathBuf, bool),
}

impl Component for Prometheus {
    type Config = Config;
    const TYPE: &'static str = "prometheus";
    const STABILITY: Stability = Stability::Beta;
    const SUMMARY: &'static str =
        "scrapes engines and everything else that serves Prometheus metrics";

    fn warnings(config: &Config, section: &Section) -> Diagnostics {
        config.warnings(section)
    }
}

impl BuildReceiver for Prometheus {
    fn build(
        config: Config,
        section: &Section,
        settings: Settings,
    ) -> Result<Box<dyn Receiver>, Diagnostics> {
        Ok(Box::new(Self::new(config, section, settings)?))
    }
}

impl Prometheus {
    fn new(config: Config, section: &Section, settings: Settings) -> Result<Self, Diagnostics> {
        config.check(section).into_result()?;
        Ok(Self { config, settings, host: (PathBuf::from("/proc"), true) })
    }

    fn fleet_plan(&self) -> FleetPlan {
        let Self { config, settings, .. } = self;
        let limit =
            |limit: Option<std::num::NonZeroUsize>| limit.map_or(0, std::num::NonZeroUsize::get);
        let limits = PageLimits {
            samples: limit(config.sample_limit),
            labels: limit(config.label_limit),
            label_name_bytes: limit(config.label_name_length_limit),
            label_value_bytes: limit(config.label_value_length_limit),
            native_buckets: 0,
        };
        let codings =
            if config.enable_compression { vec![Coding::Zstd, Coding::Gzip] } else { Vec::new() };
        FleetPlan {
            defaults: config.target_defaults(&settings.id.name),
            statics: config.candidates(),
            files_max: open_files_max(),
            targets_max: config.target_limit.map(std::num::NonZeroUsize::get),
            client: ClientPlan {
                settings: config.client_settings(),
                // The header is made of words that we know.
                accept: HeaderValue::from_str(&config.accept()).ok(),
                accept_encoding: codings,
                ..ClientPlan::default()
            },
            pages: PageSettings {
                synthetic: scrape::synthetic(&settings.interner),
                limits,
                honor_labels: config.honor_labels,
                honor_timestamps: config.honor_timestamps,
                ..PageSettings::default()
            },
        }
    }

    fn shared(&self, next: Arc<dyn Consumer>) -> Shared {
        let Self { config, settings, .. } = self;
        Shared {
            next,
            clock: Arc::clone(&settings.clock),
            interner: Arc::clone(&settings.interner),
            layouts: Layouts::new(),
            limits: Limits::bytes(config.body_size_limit.as_usize()),
            fallback: config.fallback_scrape_protocol.into(),
            counts: Counts::new(&settings.telemetry),
            buffers: buffers::Buffers::default(),
            budget: Budget::default(),
            permits: Semaphore::new(in_flight_max(open_files_max())),
            refused: RateLimiter::default(),
        }
    }

    /// Starts what looks for targets; an empty set where all of them are listed.
    fn discover(&self, out: &watch::Sender<Found>, stop: &Shutdown) -> JoinSet<()> {
        let Self { config, settings, host: (proc, skip_own) } = self;
        let errors = |provider| {
            settings.telemetry.counter(&table::DISCOVERY_ERRORS, &[("provider", provider)])
        };
        let mut providers = JoinSet::new();
        if let Some(file_sd) = &config.file_sd {
            let files = FileSd::new(config.patterns(), file_sd.refresh.get(), errors("file_sd"));
            providers.spawn(files.run(out.clone(), stop.clone()));
        }
        if config.discover == Some(Discover::Local) {
            let plan = LocalPlan {
                ports: config.local.ports.clone(),
                deny_ports: config.local.deny_ports.clone(),
                lost_after: config.local.lost_after.get(),
                path: config.metrics_path.clone(),
                proc: proc.clone(),
                skip_own: *skip_own,
            };
            providers.spawn(Local::new(plan, errors("local")).run(out.clone(), stop.clone()));
        }
        providers
    }

    async fn run(self: Box<Self>, mut fleet: Fleet, stop: Shutdown) {
        let (out, mut found) = watch::channel(Found::default());
        let mut providers = self.discover(&out, &stop);
        let mut tidying = tokio::time::interval(TIDY_EVERY);
        let mut minutes = tokio::time::interval(failure::BURST_EVERY);
        fleet.apply(&Found::default()).await;
        loop {
            tokio::select! {
                () = stop.triggered() => break,
                Ok(()) = found.changed() => {
                    let now = found.borrow_and_update().clone();
                    fleet.apply(&now).await;
                }
                Some(ended) = providers.join_next(), if !providers.is_empty() => {
                    if let Err(failure) = ended {
                        self.settings.telemetry.counter(&table::COMPONENT_PANICS, &[]).inc();
                        error!(error = %failure, "a discovery panicked; known targets are scraped on, new ones are not found");
                    }
                }
                () = fleet.watch() => {}
                _ = minutes.tick() => fleet.sum_up(),
                _ = tidying.tick() => fleet.tidy(),
            }
        }
        fleet.close().await;
        while providers.join_next().await.is_some() {}
    }
}

impl Receiver for Prometheus {
    fn start(
        self: Box<Self>,
        next: Arc<dyn Consumer>,
        stop: Shutdown,
    ) -> BoxFuture<'static, Result<Running, StartError>> {
        Box::pin(async move {
            let shared = Arc::new(self.shared(next));
            let fleet =
                Fleet::new(self.fleet_plan(), shared, &self.settings.telemetry, stop.clone())
                    .await
                    .map_err(|error| StartError::Other(chain(&error)))?;
            let running: Running = Box::pin(async move {
                self.run(fleet, stop).await;
                Ok(())
            });
            Ok(running)
        })
    }
}

/// Half of the open files are left to kept connections, exporters and the rest.
fn in_flight_max(open_files: usize) -> usize {
    (open_files / 2).clamp(16, IN_FLIGHT_MAX)
}

/// The soft limit of open files of this process.
fn open_files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(OPEN_FILES_DEFAULT)
}
