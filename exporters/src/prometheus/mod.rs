//! Exporter `prometheus`: a page that is pulled.
//!
//! Deltas are added up before they come here, and OpenTelemetry's series get Prometheus' names and labels.
//!
//! `export` only keeps the newest batch of its source, so it never fails and never waits. Readers get a page that is
//! made when the first of them asks and shared by all that ask for the same within a moment ([`pages`]).
//!
//! Formats and content negotiation: <https://prometheus.io/docs/instrumenting/content_negotiation/>.

mod config;
mod page;
mod pages;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pipeline_component::telemetry::{Counter, table};
use pipeline_component::{
    BoxFuture, BuildExporter, Component, ExportError, Exporter, Outlet, RateLimiter, Running,
    Settings, Shutdown, Stability, StartError,
};
use pipeline_config::{Diagnostics, Section};
use pipeline_model::Batch;
use pipeline_net::{Address, BindError, ListenSettings, Server, ServerPlan, Tokens};
use pipeline_wire::exposition::{Dropped, Exposition, Options};
use tokio::time::{Duration, Instant, interval};
use tracing::{info, warn};

pub use config::Config;
use page::Site;
use pages::Pages;

/// How often what has expired is let go although nobody reads.
const TIDY_EVERY: Duration = Duration::from_secs(15);

/// The state that readers and writers share.
struct State {
    exposition: Mutex<Exposition>,
    /// The clock of the exposition counts from here.
    epoch: Instant,
    expiry: Duration,
}

impl State {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Works on the exposition, for as short as possible: writers wait.
    fn with<T>(&self, work: impl FnOnce(&mut Exposition) -> T) -> T {
        work(&mut self.exposition.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets go of what has been silent for too long.
    fn tidy(&self) {
        let expiry = u64::try_from(self.expiry.as_millis()).unwrap_or(u64::MAX);
        if let Some(deadline) = self.now().checked_sub(expiry) {
            self.with(|exposition| exposition.expire(deadline));
        }
    }
}

/// Counters of series that are not on the page.
struct DropCounters {
    duplicate: Counter,
    type_conflict: Counter,
    delta: Counter,
    limit: Counter,
    limiter: RateLimiter,
}

impl DropCounters {
    fn new(settings: &Settings) -> Self {
        let counter =
            |reason| settings.telemetry.counter(&table::EXPOSITION_DROPPED, &[("reason", reason)]);
        Self {
            duplicate: counter("duplicate"),
            type_conflict: counter("type_conflict"),
            delta: counter("delta"),
            limit: counter("limit"),
            limiter: RateLimiter::default(),
        }
    }

    /// `example` names one of them.
    fn add(&self, dropped: Dropped, component: &str, example: impl FnOnce() -> Option<String>) {
        if dropped == Dropped::default() {
            return;
        }
        let Dropped { duplicate, type_conflict, delta, limit } = dropped;
        self.duplicate.add(duplicate);
        self.type_conflict.add(type_conflict);
        self.delta.add(delta);
        self.limit.add(limit);
        if let Some(swallowed) = self.limiter.admit() {
            let example = example().unwrap_or_default();
            warn!(
                component,
                example,
                duplicate,
                type_conflict,
                delta,
                limit,
                swallowed,
                "series of a source cannot be on the page"
            );
        }
    }
}

/// The exporter.
pub struct Prometheus {
    config: Config,
    site: Arc<Site>,
    drops: DropCounters,
    name: String,
    address: OnceLock<Address>,
}

impl Prometheus {
    fn new(config: Config, tokens: Option<Tokens>, settings: &Settings) -> Self {
        let max_series = usize::try_from(config.max_series.get()).unwrap_or(usize::MAX);
        let state = Arc::new(State {
            exposition: Mutex::new(Exposition::with_otel(max_series, config.otel(settings))),
            epoch: Instant::now(),
            expiry: config.expiry.get(),
        });
        let options = Options { created: config.created, timestamps: config.timestamps };
        let pages = Pages::new(state, options, config.refresh.get(), settings);
        let site =
            Arc::new(Site::new(pages, tokens, config.path.clone(), config.compress, settings));
        let drops = DropCounters::new(settings);
        Self { config, site, drops, name: settings.id.to_string(), address: OnceLock::new() }
    }

    /// The address in use, once started.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.get().and_then(Address::tcp)
    }

    async fn open(&self, stop: Shutdown) -> Result<Running, StartError> {
        let Config { listen, tls, max_connections, .. } = self.config.clone();
        let listen = ListenSettings { listen, tls, max_connections };
        let bound = Server::bind(ServerPlan { listen, ..ServerPlan::default() })
            .await
            .map_err(|error| start_error(&error))?;
        let address = bound.address().clone();
        self.address.set(address.clone()).unwrap_or_default();
        info!(component = %self.name, %address, path = %self.config.path, "listening");
        if !address.is_local() && !self.site.has_tokens() {
            warn!(component = %self.name, %address, "everybody who reaches this address can read all metrics; set `tokens`");
        }
        let site = Arc::clone(&self.site);
        let handler = Arc::clone(&site);
        let serving = bound.serve(
            move |request| {
                let site = Arc::clone(&handler);
                async move { site.answer(&request).await }
            },
            stop.owned(),
        );
        Ok(Box::pin(async move {
            let tidying = async {
                let mut every = interval(TIDY_EVERY);
                loop {
                    every.tick().await;
                    site.tidy();
                }
            };
            tokio::select! {
                served = serving => {
                    if served.cut > 0 {
                        warn!(connections = served.cut, "readers were cut at the end");
                    }
                }
                never = tidying => never,
            }
            Ok(())
        }))
    }
}

/// What binding tells, with its cause, classified by what the user has to change.
fn start_error(error: &BindError) -> StartError {
    let text = error.with_causes();
    match error {
        BindError::Permission { .. } | BindError::SocketPermission { .. } => {
            StartError::Permission(text)
        }
        BindError::Tls { .. } | BindError::TlsOnSocket { .. } => StartError::Other(text),
        BindError::Address { .. }
        | BindError::InUse { .. }
        | BindError::NotHere { .. }
        | BindError::Io { .. } => StartError::Bind(text),
    }
}

impl Exporter for Prometheus {
    fn start(&self, stop: Shutdown) -> BoxFuture<'_, Result<Running, StartError>> {
        Box::pin(self.open(stop))
    }

    fn export<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), ExportError>> {
        let state = self.site.state();
        let dropped = state.with(|exposition| exposition.update(batch.clone(), state.now()));
        self.drops
            .add(dropped, &self.name, || state.with(|exposition| exposition.example(batch.source)));
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Component for Prometheus {
    type Config = Config;
    const TYPE: &'static str = "prometheus";
    const STABILITY: Stability = Stability::Beta;
    const SUMMARY: &'static str = "A page that Prometheus scrapes: text, OpenMetrics, protobuf.";
}

impl BuildExporter for Prometheus {
    fn build(config: Config, section: &Section, settings: Settings) -> Result<Outlet, Diagnostics> {
        let tokens = config.check(section)?;
        // A page is read by many, who all want to see the same: it has no deltas.
        let cumulative = pipeline_temporality::Options::cumulative();
        let steps = vec![pipeline_temporality::processor(cumulative, &settings)];
        Ok(Outlet::local_after(steps, Self::new(config, tokens, &settings)))
    }
}
