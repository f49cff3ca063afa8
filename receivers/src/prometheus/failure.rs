//! Why a scrape failed: as a word for the counter, as a text that says what to do, and as a log line that is written
//! when something is new and not a thousand times.

use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pipeline_component::RateLimiter;
use pipeline_net::FetchError;
use pipeline_wire::scrape::PageError;
use tracing::{info, warn};

/// A failure that goes on is told again after this time.
const REMIND_EVERY: Duration = Duration::from_secs(600);

/// Log lines about targets per [`BURST_EVERY`]: a switch that fails takes a thousand targets with it.
const BURST: u32 = 20;
pub(super) const BURST_EVERY: Duration = Duration::from_secs(60);

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
            Self::Page(_) => {
                "the target must serve Prometheus text, OpenMetrics or protobuf; check `metrics_path`"
            }
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

/// Lets [`BURST`] log lines through per [`BURST_EVERY`], for all targets of a receiver together, and sums up the rest.
#[derive(Debug, Default)]
pub(super) struct Budget(Mutex<Minute>);

/// What happened since the last summary.
#[derive(Debug, Default)]
struct Minute {
    lines: u32,
    /// Failures without a line of their own, by cause.
    failed: BTreeMap<&'static str, Untold>,
    /// Targets that answer again without a line of their own.
    answer: HashSet<String>,
}

/// Failures of one cause; the example is the first of them.
#[derive(Debug)]
struct Untold {
    targets: HashSet<String>,
    example: String,
    error: String,
    help: &'static str,
}

impl Budget {
    /// Room for one line more, or what to remember instead.
    fn admit(&self, remember: impl FnOnce(&mut Minute)) -> bool {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        minute.lines = minute.lines.saturating_add(1);
        if minute.lines == BURST + 1 {
            warn!("many targets change state; a summary follows within a minute");
        }
        if minute.lines > BURST {
            remember(&mut minute);
        }
        minute.lines <= BURST
    }

    /// Tells what had no line of its own, one line per cause, and begins the next minute.
    pub(super) fn sum_up(&self) {
        let minute = {
            let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *minute)
        };
        for (cause, Untold { targets, example, error, help }) in minute.failed {
            warn!(cause, targets = targets.len(), %example, %error, help, "scrapes of more targets failed");
        }
        if !minute.answer.is_empty() {
            info!(targets = minute.answer.len(), "more targets answer again");
        }
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
        let Some(swallowed) = self.reminder.admit() else { return };
        let (target, help) = (without_query(url), error.advice(url));
        let remember = |minute: &mut Minute| {
            let untold = minute.failed.entry(cause).or_insert_with(|| Untold {
                targets: HashSet::new(),
                example: target.to_owned(),
                error: error.to_string(),
                help,
            });
            untold.targets.insert(target.to_owned());
            minute.answer.remove(target);
        };
        if budget.admit(remember) {
            let swallowed = (swallowed > 0).then_some(swallowed);
            warn!(%target, cause, %error, help, swallowed, "scrape failed");
        }
    }

    /// Logs a recovery.
    pub(super) fn succeeded(&mut self, url: &str, budget: &Budget) {
        let target = without_query(url);
        let remember = |minute: &mut Minute| _ = minute.answer.insert(target.to_owned());
        if self.cause.take().is_some() && budget.admit(remember) {
            info!(%target, "target answers again");
        }
    }
}

/// A query may hold secrets.
pub(super) fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}
