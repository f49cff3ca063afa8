//! Why a scrape failed: as a word for the counter, as a text that says what to do, and as a log line that is written
//! when something is new and not a thousand times.

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pipeline_component::RateLimiter;
use pipeline_net::FetchError;
use pipeline_wire::scrape::PageError;
use tokio::time::Instant;
use tracing::{info, warn};

/// A failure that goes on is told again after this time.
const REMIND_EVERY: Duration = Duration::from_secs(600);

/// Log lines about targets per [`BURST_EVERY`]: a switch that fails takes a thousand targets with it.
const BURST: u32 = 20;
const BURST_EVERY: Duration = Duration::from_secs(60);

/// SGLang's default port.
const SGLANG_PORT: u16 = 30_000;

/// Why a scrape failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScrapeError {
    /// There is no answer, or not the one wanted.
    #[error("{}", chain(.0))]
    Fetch(#[from] FetchError),
    /// An answer that is no page of metrics.
    #[error("expected a page of metrics, found {0}")]
    NotMetrics(String),
    /// A page that cannot be read, or is over a limit.
    #[error(transparent)]
    Page(#[from] PageError),
}

impl ScrapeError {
    /// One of a closed set of words.
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::Fetch(error) => error.cause(),
            Self::NotMetrics(_) => "not_metrics",
            Self::Page(PageError::Limit { .. } | PageError::TooLarge(_)) => "limit",
            Self::Page(_) => "malformed",
        }
    }

    /// What to do about it.
    pub(super) fn advice(&self, url: &str) -> &'static str {
        let port = url.parse::<http::Uri>().ok().and_then(|uri| uri.port_u16());
        match self {
            Self::Fetch(FetchError::Refused { .. }) if port == Some(SGLANG_PORT) => {
                "is the engine running, and on this address? SGLang listens on 127.0.0.1 unless told otherwise by --host"
            }
            Self::Fetch(FetchError::Refused { .. } | FetchError::Dns { .. }) => {
                "is the engine running, and on this address?"
            }
            Self::Fetch(FetchError::Timeout { .. }) => {
                "raise `timeout`, or see what keeps the engine busy"
            }
            Self::Fetch(FetchError::Tls { .. } | FetchError::TlsFiles { .. }) => {
                "check `scheme` and `tls`"
            }
            Self::Fetch(FetchError::Status { status: 401 | 403, .. }) => {
                "the page wants credentials: set `bearer_token` or `authorization` (SGLang before 0.4.5.post3: its API key)"
            }
            Self::Fetch(FetchError::Status { status: 404, .. }) => {
                "there is no page at this path: set `metrics_path`; SGLang has /metrics only with --enable-metrics"
            }
            Self::Fetch(FetchError::TooLarge { .. }) => {
                "raise `body_size_limit` if this page shall be that large"
            }
            Self::Fetch(_) => "look at the log of the target",
            Self::NotMetrics(_) => "is this the address of the metrics? set `metrics_path`",
            Self::Page(PageError::Limit { .. }) => "raise the limit, or have the target say less",
            Self::Page(_) => "open the page to see what is wrong with it",
        }
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Lets [`BURST`] log lines through per [`BURST_EVERY`], for all targets of a receiver together.
#[derive(Debug)]
pub(super) struct Budget(Mutex<(Instant, u32)>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Mutex::new((Instant::now(), 0)))
    }

    /// Whether to log; the last line before silence says so.
    fn admit(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.elapsed() >= BURST_EVERY {
            *state = (Instant::now(), 0);
        }
        state.1 = state.1.saturating_add(1);
        if state.1 == BURST + 1 {
            warn!("many targets change state; more of it is only counted for a minute");
        }
        state.1 <= BURST
    }
}

/// What was last heard of a target.
#[derive(Debug)]
pub(super) struct Health {
    cause: Option<&'static str>,
    reminder: RateLimiter,
}

impl Health {
    pub(super) fn new() -> Self {
        Self { cause: None, reminder: RateLimiter::new(REMIND_EVERY) }
    }

    /// Logs a failure when it is the first, another one than before, or has lasted long.
    pub(super) fn failed(&mut self, url: &str, error: &ScrapeError, budget: &Budget) {
        let cause = error.cause();
        if self.cause.replace(cause) != Some(cause) {
            self.reminder = RateLimiter::new(REMIND_EVERY);
        }
        if let Some(swallowed) = self.reminder.admit()
            && budget.admit()
        {
            warn!(target = %without_query(url), cause, %error, help = error.advice(url), swallowed, "scrape failed");
        }
    }

    /// Logs a recovery.
    pub(super) fn succeeded(&mut self, url: &str, budget: &Budget) {
        if self.cause.take().is_some() && budget.admit() {
            info!(target = %without_query(url), "target answers again");
        }
    }
}

/// A query may hold secrets.
pub(super) fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}
