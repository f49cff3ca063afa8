//! Scraped pages to shapes and columns of values: Prometheus text, OpenMetrics and delimited protobuf.
//!
//! The one idea: a target serves the same lines again and again, and only the numbers change. A [`PageReader`] keeps
//! the layout of the last page; on the next it compares the bytes up to each value with what stood there before and
//! reads the number straight into its slot. Nothing is hashed, allocated or looked up per sample while a page stays
//! as it is. What differs is looked up line by line; what is new is parsed in full; and whenever a difference could
//! change what *other* lines mean, the whole page is parsed in full. So a page read through the layout gives what a
//! full parse gives, which the tests hold against any two pages.
//!
//! Sans-IO: bodies come in whole and decompressed.

mod error;
mod family;
mod filling;
mod float;
mod full;
mod grow;
mod labeler;
mod layout;
mod lex;
mod native;
mod protobuf;
mod raw;
mod rows;
pub(crate) mod unit;
mod walk;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use pipeline_model::{
    Extras, Group, Interner, Labels, Mark, Metric, Shape, ShapeBuilder, Slot, Starts,
};

pub use error::{PageError, PageLimit};
use filling::Filling;
use layout::Layout;
pub use layout::{LayoutStats, Layouts};

/// What a page is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageFormat {
    /// Prometheus text 0.0.4, and 1.0.0 with quoted names.
    Text,
    /// OpenMetrics text 1.0 (and 0.0.1).
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages.
    Protobuf,
}

/// Limits on a page; 0 is none. One that is exceeded fails the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageLimits {
    /// Samples on the page.
    pub samples: usize,
    /// Labels of a series, with the target's and the metric name, as Prometheus counts them.
    pub labels: usize,
    /// Bytes of a label name.
    pub label_name_bytes: usize,
    /// Bytes of a label value.
    pub label_value_bytes: usize,
    /// Buckets of one native histogram, both signs together.
    pub native_buckets: usize,
}

/// How the pages of one target are read.
#[derive(Clone, Debug)]
pub struct PageSettings {
    /// Who the series belong to; its labels are the target's.
    pub group: Group,
    /// Rows that come first in every shape and whose values the caller fills in: `up`, `scrape_duration_seconds`.
    /// They have no labels of their own. A series of the page that repeats one is counted as a duplicate.
    pub synthetic: Arc<[Arc<Metric>]>,
    /// Limits.
    pub limits: PageLimits,
    /// True: a label of the page wins over the target's label of that name. False: it becomes `exported_<name>`.
    pub honor_labels: bool,
    /// False: timestamps of the page are read over.
    pub honor_timestamps: bool,
}

impl Default for PageSettings {
    fn default() -> Self {
        Self {
            group: Group::default(),
            synthetic: Arc::new([]),
            limits: PageLimits::default(),
            honor_labels: false,
            honor_timestamps: true,
        }
    }
}

/// How a page was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PagePath {
    /// It looked like the one before.
    Cached,
    /// Lines were missing, moved or new; the rest looked like the one before.
    Patched,
    /// Parsed in full.
    #[default]
    Full,
    /// Parsed in full without keeping a layout, because the pages of this target kept changing.
    Uncached,
}

/// What there is to say about a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageStats {
    /// Sample lines, as `scrape_samples_scraped` counts them: a histogram counts each bucket, sum and count.
    pub samples: usize,
    /// Those of them that belong to series which the page before did not have.
    pub series_added: usize,
    /// Sample lines that repeated an earlier one, which counts.
    pub duplicates: usize,
    /// Lines of histograms and summaries with neither count nor buckets: nothing can be made of them.
    pub incomplete: usize,
    /// How it was read.
    pub path: PagePath,
}

/// One page.
#[derive(Clone, Debug)]
pub struct Page {
    /// The series; the same `Arc` as before while they are the same.
    pub shape: Arc<Shape>,
    /// `shape.slots()` values; those of synthetic rows are 0 until the caller fills them in.
    pub values: Vec<Slot>,
    /// One per row; `None` when every row is present.
    pub marks: Option<Vec<Mark>>,
    /// Start times per row; the same `Arc` as before while they are the same.
    pub starts: Option<Starts>,
    /// Timestamps, native histograms and exemplars, if the page has any.
    pub extras: Option<Extras>,
    /// What there is to say about it.
    pub stats: PageStats,
}

/// Scrapes for which a vanished row is kept in the shape before a growing shape drops it.
const UNSEEN_MAX: u8 = 10;
/// Changing pages in a row (half as many, for each counts two and each quiet page takes one back) until a target's
/// pages are read without a layout.
const CHURN_MAX: u32 = 16;
/// Pages read without a layout before another try.
const UNCACHED_PAGES: u32 = 32;
/// Most pages to wait before the order of a layout is made anew again.
const REORDER_WAIT_MAX: u32 = 64;

/// Reads the pages of one target, one after the other.
#[derive(Debug)]
pub struct PageReader {
    settings: PageSettings,
    shape: Option<Arc<Shape>>,
    layout: Option<Arc<Layout>>,
    starts: Option<Starts>,
    /// Scrapes since a row was last present, per row; empty when all were present on the last page.
    unseen: Vec<u8>,
    churn: u32,
    uncached_left: u32,
    /// Pages until the order may be made anew, and how many the next wait takes.
    reorder: (u32, u32),
}

impl PageReader {
    /// One that knows nothing yet.
    pub fn new(settings: PageSettings) -> Self {
        Self {
            settings,
            shape: None,
            layout: None,
            starts: None,
            unseen: Vec::new(),
            churn: 0,
            uncached_left: 0,
            reorder: (0, 1),
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &PageSettings {
        &self.settings
    }

    /// The shape of the last page, if there was one.
    pub fn shape(&self) -> Option<&Arc<Shape>> {
        self.shape.as_ref()
    }

    /// Reads a page.
    ///
    /// # Errors
    /// When the page is malformed, truncated or beyond a limit. The reader then stands as before; a caller that has
    /// given up on the target's series for now says so with [`Self::gone`].
    pub fn read(
        &mut self,
        format: PageFormat,
        body: &[u8],
        interner: &Interner,
        layouts: &Layouts,
    ) -> Result<Page, PageError> {
        if u32::try_from(body.len()).is_err() {
            return Err(PageError::TooLarge(body.len()));
        }
        if format == PageFormat::Protobuf {
            return protobuf::read(self, body, interner);
        }
        let cached = match (&self.layout, &self.shape) {
            (Some(layout), Some(shape)) if layout.format == format => {
                Some((Arc::clone(layout), Arc::clone(shape)))
            }
            _ => None,
        };
        if let Some((layout, shape)) = &cached
            && let Some(page) = walk::read(self, layout, shape, body, interner, layouts)
        {
            return Ok(page);
        }
        let page = full::read(self, format, body, interner, layouts)
            .map_err(|fault| fault.locate(body))?;
        if cached.is_some() {
            self.changed();
        }
        Ok(page)
    }

    /// The page of a scrape that failed: every row that was present is stale, then absent. Synthetic rows are present.
    pub fn gone(&mut self, interner: &Interner) -> Page {
        let shape = match &self.shape {
            Some(shape) => Arc::clone(shape),
            None => {
                let mut builder = ShapeBuilder::new(interner);
                self.start_shape(&mut builder);
                let shape = builder.finish();
                self.shape = Some(Arc::clone(&shape));
                shape
            }
        };
        let rows = shape.len();
        self.unseen.resize(rows, 0);
        let synthetic = self.settings.synthetic.len().min(rows);
        let marks = self.mark(rows, |row| row < synthetic);
        Page {
            values: vec![Slot::default(); shape.slots()],
            shape,
            marks,
            starts: self.starts.clone(),
            extras: None,
            stats: PageStats::default(),
        }
    }

    /// Group and synthetic rows of a new shape: the group's index and the first free slot.
    fn start_shape(&self, builder: &mut ShapeBuilder<'_>) -> (u32, u32) {
        let group = builder.group(self.settings.group.clone());
        let mut slots = 0;
        for metric in self.settings.synthetic.iter() {
            // A metric listed twice is one row, as on a page.
            if builder.push(group, metric, &Labels::empty()).is_ok() {
                slots += metric.kind.slots();
            }
        }
        (group, slots)
    }

    /// Marks of `rows` rows, of which `present` are there; remembers who is not.
    fn mark(&mut self, rows: usize, present: impl Fn(usize) -> bool) -> Option<Vec<Mark>> {
        self.unseen.resize(rows, 0);
        let mut marks = None;
        for (row, unseen) in self.unseen.iter_mut().enumerate() {
            if present(row) {
                *unseen = 0;
                continue;
            }
            let marks = marks.get_or_insert_with(|| vec![Mark::Present; rows]);
            if let Some(mark) = marks.get_mut(row) {
                *mark = if *unseen == 0 { Mark::Stale } else { Mark::Absent };
            }
            *unseen = unseen.saturating_add(1);
        }
        if marks.is_none() {
            self.unseen = Vec::new();
        }
        marks
    }

    /// Takes over what a page that was parsed in full looks like. `lines_of` gives the sample lines per row.
    fn replace(
        &mut self,
        shape: Arc<Shape>,
        filling: Filling,
        lines_of: &[u32],
        path: PagePath,
    ) -> Page {
        let added = self.added(&shape, lines_of);
        let page = filling.page(Arc::clone(&shape), None, self.starts.as_ref(), path, added);
        self.starts.clone_from(&page.starts);
        self.shape = Some(shape);
        self.unseen = Vec::new();
        page
    }

    /// Sample lines of the rows of `shape` that the last page lacked.
    fn added(&self, shape: &Arc<Shape>, lines_of: &[u32]) -> usize {
        let mut lines = lines_of.to_vec();
        if let Some(previous) = &self.shape {
            for (row, matched) in previous.match_rows(shape).into_iter().enumerate() {
                let was_present = self.unseen.get(row).is_none_or(|unseen| *unseen == 0);
                if let Some(known) = matched.filter(|_| was_present)
                    && let Some(count) = lines.get_mut(known as usize)
                {
                    *count = 0;
                }
            }
        }
        lines.into_iter().sum::<u32>() as usize
    }

    /// A page that changed the shape or the layout: when that goes on and on, a layout is a waste.
    fn changed(&mut self) {
        self.churn += 2;
        if self.churn >= CHURN_MAX {
            self.churn = CHURN_MAX / 2;
            self.uncached_left = UNCACHED_PAGES;
            self.layout = None;
        }
    }

    fn quiet(&mut self) {
        self.churn = self.churn.saturating_sub(1);
    }
}

/// Unix nanoseconds of a protobuf timestamp; 0 before 1970 and beyond 2262.
fn nanos_of(time: &crate::proto::client_model::Timestamp) -> i64 {
    let nanos = time.seconds.checked_mul(1_000_000_000);
    nanos.and_then(|nanos| nanos.checked_add(i64::from(time.nanos))).unwrap_or(0).max(0)
}
