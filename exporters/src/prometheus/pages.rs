//! [`Pages`]: rendered pages, shared by the readers who ask for the same.
//!
//! A page is rendered when somebody asks and the data has changed since it was made, but not more often than once in
//! `refresh`. Readers of one style and one list of models take turns at its entry: the first renders, the others find it
//! done. Only a few pages are kept, whatever formats readers think of.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pipeline_component::Settings;
use pipeline_component::telemetry::{Gauge, Seconds, table};
use pipeline_net::Coding;
use pipeline_net::compress::Encoder;
use pipeline_wire::exposition::{Only, Options, Style};
use tokio::time::{Duration, Instant};

use super::State;

/// Pages kept at a time. A fleet's readers use one or two; each is about as large as all the rest of the state.
const PAGES_MAX: usize = 4;

/// A page that nobody has asked for in this time is let go. Longer than the usual scrape interval of a minute, so that
/// a page that has not changed is made once.
const UNUSED_MAX: Duration = Duration::from_secs(150);

/// The label, or else the resource's attribute, that tokens are limited by.
const MODEL_LABEL: &str = "model_id";

/// What makes two requests ask for the same page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Format and escaping.
    pub(super) style: Style,
    /// Only series of these models; `None`: all.
    pub(super) models: Option<Arc<[String]>>,
}

/// A page at one moment, as it is and compressed where somebody asked.
struct Rendered {
    version: u64,
    at: Instant,
    plain: Bytes,
    gzip: Option<Bytes>,
    zstd: Option<Bytes>,
}

struct Entry {
    key: Key,
    used: Mutex<Instant>,
    /// Held while it is made. `None` before the first time, and when making it was broken off.
    page: tokio::sync::Mutex<Option<Rendered>>,
}

/// See the module.
pub(super) struct Pages {
    pub(super) state: Arc<State>,
    options: Options,
    refresh: Duration,
    entries: Mutex<Vec<Arc<Entry>>>,
    series: Gauge,
    seconds: Seconds,
}

impl Pages {
    pub(super) fn new(
        state: Arc<State>,
        options: Options,
        refresh: Duration,
        settings: &Settings,
    ) -> Self {
        let series = settings.telemetry.gauge(&table::EXPOSITION_SERIES, &[]);
        let seconds = settings.telemetry.seconds(&table::EXPOSITION_RENDER_SECONDS, &[]);
        Self { state, options, refresh, entries: Mutex::default(), series, seconds }
    }

    /// The page for `key`, in `coding`. `None` only when the process is out of memory or going down.
    ///
    /// Cancel safe: a reader who goes away while it makes a page leaves it to the next one.
    pub(super) async fn get(&self, key: Key, coding: Coding) -> Option<Bytes> {
        let entry = self.entry(key);
        let mut page = entry.page.lock().await;
        let mut current = match page.take() {
            Some(current) if self.is_fresh(&current) => current,
            last => self.render(&entry.key, last.map(|last| last.plain)).await?,
        };
        if current.get(coding).is_none() {
            current = compress(current, coding).await?;
        }
        let body = current.get(coding).cloned();
        *page = Some(current);
        body
    }

    fn is_fresh(&self, page: &Rendered) -> bool {
        if page.at.elapsed() < self.refresh {
            return true;
        }
        self.state.tidy();
        page.version == self.state.with(|exposition| exposition.version())
    }

    async fn render(&self, key: &Key, last: Option<Bytes>) -> Option<Rendered> {
        self.state.tidy();
        let (snapshot, series) =
            self.state.with(|exposition| (exposition.snapshot(), exposition.series()));
        self.series.set(series as f64);
        let (key, options, at) = (key.clone(), self.options, Instant::now());
        let seconds = self.seconds.clone();
        // A fleet's page takes milliseconds: too long for a thread that serves others.
        let rendering = tokio::task::spawn_blocking(move || {
            let mut out = reuse(last);
            let only = key.models.as_deref().map(|values| Only { label: MODEL_LABEL, values });
            snapshot.render(key.style, options, only, &mut out);
            seconds.observe(at.elapsed());
            Rendered { version: snapshot.version(), at, plain: out.into(), gzip: None, zstd: None }
        });
        rendering.await.ok()
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry of `key`, made when it is not there; the longest unused one makes room for it.
    fn entry(&self, key: Key) -> Arc<Entry> {
        let mut entries = self.entries();
        if let Some(idx) = entries.iter().position(|entry| entry.key == key) {
            let entry = entries.remove(idx);
            *entry.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            entries.push(Arc::clone(&entry));
            return entry;
        }
        if entries.len() >= PAGES_MAX {
            entries.remove(0);
        }
        let entry = Arc::new(Entry {
            key,
            used: Mutex::new(Instant::now()),
            page: tokio::sync::Mutex::default(),
        });
        entries.push(Arc::clone(&entry));
        entry
    }

    /// How many are kept now.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.entries().len()
    }

    /// Lets go of pages that nobody reads any more.
    pub(super) fn tidy(&self) {
        self.state.tidy();
        self.series.set(self.state.with(|exposition| exposition.series()) as f64);
        self.entries().retain(|entry| {
            entry.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < UNUSED_MAX
        });
    }
}

/// The memory of the last page, if nobody sends it any more, so that no two are held at a time. No time is saved.
fn reuse(last: Option<Bytes>) -> Vec<u8> {
    let Some(Ok(last)) = last.map(Bytes::try_into_mut) else { return Vec::new() };
    let mut out = Vec::from(last);
    out.clear();
    out
}

impl Rendered {
    fn get(&self, coding: Coding) -> Option<&Bytes> {
        match coding {
            Coding::Identity => Some(&self.plain),
            Coding::Gzip => self.gzip.as_ref(),
            Coding::Zstd => self.zstd.as_ref(),
        }
    }
}

async fn compress(mut page: Rendered, coding: Coding) -> Option<Rendered> {
    let compressing = tokio::task::spawn_blocking(move || {
        let mut out = Vec::new();
        // The fastest levels: a page has so much repetition that the others gain little.
        Encoder::new(1, 1).encode(coding, &page.plain, &mut out).ok()?;
        match coding {
            Coding::Identity => {}
            Coding::Gzip => page.gzip = Some(out.into()),
            Coding::Zstd => page.zstd = Some(out.into()),
        }
        Some(page)
    });
    compressing.await.ok()?
}
