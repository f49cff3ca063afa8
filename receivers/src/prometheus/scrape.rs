//! [`Loop`]: one target, from its first scrape to its last batch.
//!
//! A failed scrape is an empty page: `up` is 0 and every series of the target is stale. When the target itself goes, its
//! last batch says that all of it has ended; when the process stops, nothing is said, because a restarted agent goes on
//! with the same series.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use pipeline_component::telemetry::{Counter, Gauge, Seconds, Telemetry, table};
use pipeline_component::{ConsumeError, Consumer, RateLimiter, Shutdown, TimeSource};
use pipeline_model::{Batch, Interner, Kind, Mark, Metric, Shape, Slot, SourceId};
use pipeline_net::{Answer, Connection, Limits};
use pipeline_wire::scrape::{Layouts, Page, PageFormat, PagePath, PageReader, PageStats};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, warn};

use super::buffers::Buffers;
use super::failure::{Budget, Health, ScrapeError, without_query};
use super::format::format_of;
use super::schedule::Schedule;
use super::target::Target;

/// How long the last batch of a target is offered to a full pipeline.
const END_WITHIN: Duration = Duration::from_secs(10);

/// What of a page goes on. Nothing is relabelled at the scrape, so both names say the same.
const HANDED_OVER: &str = "Samples of the page that were handed to the pipeline, before any of its processors: without \
     repeated and incomplete ones, none of a page over a limit.";

/// The series that are about a scrape itself, in the order of their rows. The names are Prometheus' own, but for
/// `scrape_samples_post_processing`.
const SYNTHETIC: [(&str, &str, &str); 6] = [
    ("up", "1", "1 if the last scrape of the target succeeded, 0 if it failed."),
    ("scrape_duration_seconds", "s", "Time that the scrape took."),
    ("scrape_samples_scraped", "{sample}", "Samples that the page had."),
    ("scrape_samples_post_metric_relabeling", "{sample}", HANDED_OVER),
    ("scrape_samples_post_processing", "{sample}", HANDED_OVER),
    ("scrape_series_added", "{series}", "Series of the page that the one before did not have."),
];

/// The metrics of the synthetic series, shared by all targets.
pub(super) fn synthetic(interner: &Interner) -> Arc<[Arc<Metric>]> {
    let metric =
        |(name, unit, help)| interner.metric(&Arc::new(Metric::new(name, unit, help, Kind::Gauge)));
    SYNTHETIC.into_iter().map(metric).collect()
}

/// Self telemetry of a receiver.
pub(super) struct Counts {
    telemetry: Telemetry,
    seconds: Seconds,
    late: Seconds,
    bytes: Counter,
    success: Counter,
    skipped: Counter,
    panics: Counter,
    cached: Counter,
    patched: Counter,
    full: Counter,
    uncached: Counter,
    duplicates: Counter,
    incomplete: Counter,
    layouts: Gauge,
    layout_bytes: Gauge,
}

impl Counts {
    pub(super) fn new(telemetry: &Telemetry) -> Self {
        let scrapes = |outcome| telemetry.counter(&table::SCRAPES, &[("outcome", outcome)]);
        let pages = |path| telemetry.counter(&table::SCRAPE_PAGES, &[("path", path)]);
        let dropped = |reason| telemetry.counter(&table::SCRAPE_DROPPED, &[("reason", reason)]);
        Self {
            seconds: telemetry.seconds(&table::SCRAPE_SECONDS, &[]),
            late: telemetry.seconds(&table::SCRAPE_LATE_SECONDS, &[]),
            bytes: telemetry.counter(&table::SCRAPE_BYTES, &[]),
            success: scrapes("success"),
            skipped: scrapes("skipped"),
            panics: telemetry.counter(&table::COMPONENT_PANICS, &[]),
            cached: pages("cached"),
            patched: pages("patched"),
            full: pages("full"),
            uncached: pages("uncached"),
            duplicates: dropped("duplicate"),
            incomplete: dropped("incomplete"),
            layouts: telemetry.gauge(&table::SCRAPE_LAYOUTS, &[]),
            layout_bytes: telemetry.gauge(&table::SCRAPE_LAYOUT_BYTES, &[]),
            telemetry: telemetry.clone(),
        }
    }

    /// Lets go of layouts that no target has any more, and shows what is left.
    pub(super) fn tidy(&self, layouts: &Layouts) {
        layouts.sweep();
        let stats = layouts.stats();
        self.layouts.set(stats.layouts as f64);
        self.layout_bytes.set(stats.bytes as f64);
    }

    fn page(&self, stats: &PageStats) {
        match stats.path {
            PagePath::Cached => &self.cached,
            PagePath::Patched => &self.patched,
            PagePath::Full => &self.full,
            PagePath::Uncached => &self.uncached,
        }
        .inc();
        self.duplicates.add(stats.duplicates as u64);
        self.incomplete.add(stats.incomplete as u64);
    }

    fn failed(&self, error: &ScrapeError) {
        self.telemetry.counter(&table::SCRAPES, &[("outcome", error.cause())]).inc();
    }
}

/// What all targets of a receiver share.
pub(super) struct Shared {
    pub(super) next: Arc<dyn Consumer>,
    pub(super) clock: Arc<dyn TimeSource>,
    pub(super) interner: Arc<Interner>,
    pub(super) layouts: Layouts,
    pub(super) limits: Limits,
    pub(super) fallback: PageFormat,
    pub(super) counts: Counts,
    pub(super) buffers: Buffers,
    pub(super) budget: Budget,
    /// Scrapes at a time: each may need a file descriptor.
    pub(super) permits: Semaphore,
    /// For batches that the pipeline did not take.
    pub(super) refused: RateLimiter,
}

/// One target.
pub(super) struct Loop {
    shared: Arc<Shared>,
    target: Target,
    connection: Connection,
    reader: PageReader,
    source: SourceId,
    schedule: Schedule,
    health: Health,
    up: Gauge,
    /// The cause of the last failure; its gauge goes with it.
    failing: Option<(&'static str, Gauge)>,
    /// Of the last batch that was handed over; `None` before the first one.
    shape: Option<Arc<Shape>>,
    /// A batch that said which series are stale was lost: the next one says it again.
    owes_stale: bool,
}

impl Loop {
    /// A target that was never scraped.
    pub(super) fn new(
        shared: Arc<Shared>,
        target: Target,
        connection: Connection,
        reader: PageReader,
    ) -> Self {
        let spread = target.key.spread();
        let schedule =
            Schedule::new(spread, target.key.interval, Instant::now(), shared.clock.now());
        let url = without_query(&target.key.url).to_owned();
        let up = shared.counts.telemetry.gauge(&table::TARGET_UP, &[("target", &url)]);
        Self {
            shared,
            target,
            connection,
            reader,
            source: SourceId::next(),
            schedule,
            health: Health::new(),
            up,
            failing: None,
            shape: None,
            owes_stale: false,
        }
    }

    /// Scrapes until `stop` (nothing more is said) or `gone` (the last batch says that the target has ended). After a
    /// panic all that was ends, and it begins anew with the next interval.
    pub(super) async fn run(mut self, stop: Shutdown, gone: Shutdown) {
        loop {
            let panicked = tokio::select! {
                biased;
                () = stop.triggered() => return,
                () = gone.triggered() => false,
                _ = AssertUnwindSafe(self.scrape_forever()).catch_unwind() => true,
            };
            tokio::select! {
                () = stop.triggered() => return,
                () = self.end() => {}
            }
            if !panicked {
                return;
            }
            self.shared.counts.panics.inc();
            let target = without_query(&self.target.key.url);
            error!(%target, "the scrape of a target panicked; it starts again with the next interval");
            self.reader = PageReader::new(self.reader.settings().clone());
            self.source = SourceId::next();
            self.schedule.advance(Instant::now());
        }
    }

    /// Says that all series of the target have ended, if there were any.
    async fn end(&mut self) {
        let Some(shape) = self.shape.take() else { return };
        let batch = Batch::end(self.source, shape, self.shared.clock.now());
        self.deliver(batch, Instant::now() + END_WITHIN).await;
        self.shape = None;
    }

    async fn scrape_forever(&mut self) {
        loop {
            sleep_until(self.schedule.due()).await;
            let due = self.schedule.due();
            let batch = self.scrape(due).await;
            let until = due + self.target.key.interval;
            self.deliver(batch, until).await;
            let skipped = self.schedule.advance(Instant::now());
            self.shared.counts.skipped.add(skipped);
        }
    }

    /// One scrape, and what came of it.
    async fn scrape(&mut self, due: Instant) -> Batch {
        let shared = Arc::clone(&self.shared);
        // Only a closed semaphore refuses, and nobody closes it.
        let _permit = shared.permits.acquire().await.ok();
        let (began, time) = (Instant::now(), shared.clock.now());
        shared.counts.late.observe(began.saturating_duration_since(due));
        let mut body = shared.buffers.take();
        let deadline = began + self.target.key.timeout;
        let result = match self.connection.get(&mut body, shared.limits, deadline).await {
            Ok(answer) => self.read(&answer, &body),
            Err(error) => Err(error.into()),
        };
        shared.buffers.give(body);
        let page = self.outcome(result);
        let took = began.elapsed();
        shared.counts.seconds.observe(took);
        self.batch(page, time, took)
    }

    fn read(&mut self, answer: &Answer, body: &[u8]) -> Result<Page, ScrapeError> {
        let shared = &self.shared;
        shared.counts.bytes.add(body.len() as u64);
        let content_type = answer.content_type.as_ref().and_then(|value| value.to_str().ok());
        let format =
            format_of(content_type, body, shared.fallback).map_err(ScrapeError::NotMetrics)?;
        let page = self.reader.read(format, body, &shared.interner, &shared.layouts)?;
        shared.counts.page(&page.stats);
        Ok(page)
    }

    /// Tells everybody how it went; a failure becomes the page on which everything is gone.
    fn outcome(&mut self, result: Result<Page, ScrapeError>) -> Option<Page> {
        let url = &self.target.key.url;
        match result {
            Ok(page) => {
                self.target.failures.store(0, Ordering::Relaxed);
                self.shared.counts.success.inc();
                self.health.succeeded(url, &self.shared.budget);
                self.up.set(1.0);
                self.failing = None;
                Some(page)
            }
            Err(error) => {
                self.target.failures.fetch_add(1, Ordering::Relaxed);
                self.shared.counts.failed(&error);
                self.health.failed(url, &error, &self.shared.budget);
                self.up.set(0.0);
                self.fails_by(error.cause());
                None
            }
        }
    }

    fn fails_by(&mut self, cause: &'static str) {
        if self.failing.as_ref().is_some_and(|(before, _)| *before == cause) {
            return;
        }
        let labels = [("target", without_query(&self.target.key.url)), ("cause", cause)];
        let gauge = self.shared.counts.telemetry.gauge(&table::TARGET_FAILING, &labels);
        gauge.set(1.0);
        self.failing = Some((cause, gauge));
    }

    /// The page with the synthetic rows filled in; `None` is the page of a scrape that failed.
    fn batch(&mut self, page: Option<Page>, time: i64, took: Duration) -> Batch {
        let up = f64::from(u8::from(page.is_some()));
        let mut page = page.unwrap_or_else(|| self.reader.gone(&self.shared.interner));
        let samples = page.stats.samples as f64;
        let kept = samples - (page.stats.duplicates + page.stats.incomplete) as f64;
        let synthetic =
            [up, took.as_secs_f64(), samples, kept, kept, page.stats.series_added as f64];
        for (slot, value) in page.values.iter_mut().zip(synthetic) {
            *slot = Slot::double(value);
        }
        if std::mem::take(&mut self.owes_stale) {
            let absent = page.marks.iter_mut().flatten().filter(|mark| **mark == Mark::Absent);
            absent.for_each(|mark| *mark = Mark::Stale);
        }
        Batch {
            starts: page.starts,
            marks: page.marks.map(Arc::new),
            extras: page.extras.map(Arc::new),
            ..Batch::new(self.source, page.shape, time, page.values)
        }
    }

    /// Hands `batch` over. A pipeline that is full is asked again until `until`, when the next scrape has newer values.
    async fn deliver(&mut self, batch: Batch, until: Instant) {
        let shared = Arc::clone(&self.shared);
        loop {
            let error = match shared.next.consume(batch.clone()).await {
                Ok(()) => {
                    self.shape = Some(batch.shape);
                    return;
                }
                Err(error) => error,
            };
            if let ConsumeError::Full { after } = error
                && Instant::now() + after < until
            {
                sleep(after).await;
                continue;
            }
            self.owes_stale |= batch.marks.is_some();
            if let (false, Some(swallowed)) =
                (error == ConsumeError::Closed, shared.refused.admit())
            {
                let target = without_query(&self.target.key.url);
                let swallowed = (swallowed > 0).then_some(swallowed);
                warn!(%target, %error, swallowed, "a scrape is lost, the pipeline did not take it");
            }
            return;
        }
    }
}
