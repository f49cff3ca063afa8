//! [`PageError`]: why a page was refused, with the place and what was found there.

use pipeline_model::ShapeError;

/// A limit on pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageLimit {
    /// Samples on one page.
    Samples,
    /// Labels of one series, with those of the target and the metric name, as Prometheus counts them.
    Labels,
    /// Bytes of a label name.
    LabelNameBytes,
    /// Bytes of a label value.
    LabelValueBytes,
    /// Buckets of one native histogram.
    NativeBuckets,
}

impl std::fmt::Display for PageLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Samples => "samples on the page",
            Self::Labels => "labels of one series",
            Self::LabelNameBytes => "bytes of a label name",
            Self::LabelValueBytes => "bytes of a label value",
            Self::NativeBuckets => "buckets of one native histogram",
        })
    }
}

/// Why a page was refused. Always the whole page: half a page would look like series that ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// A line that is not of the format.
    #[error("line {line}: expected {expected}, found {excerpt:?}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What should have been there.
        expected: &'static str,
        /// What is there, cut to a few dozen characters.
        excerpt: String,
    },
    /// A text page that ends within a line, or an OpenMetrics page without `# EOF`.
    #[error("truncated after line {lines}: {missing} is missing")]
    Truncated {
        /// Complete lines.
        lines: usize,
        /// What ends a whole page.
        missing: &'static str,
    },
    /// A limit is exceeded.
    #[error("{found} {limit}, the limit is {allowed}{}", at.as_ref().map(|at| format!(": {at:?}")).unwrap_or_default())]
    Limit {
        /// Which.
        limit: PageLimit,
        /// The limit.
        allowed: usize,
        /// What the page has.
        found: usize,
        /// The offending series, cut to a few dozen characters.
        at: Option<String>,
    },
    /// More than 4 GiB.
    #[error("page of {0} bytes is larger than 4 GiB")]
    TooLarge(usize),
    /// The rows do not fit a shape.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Bytes that are no delimited `MetricFamily` messages.
    #[error("protobuf family {family}: {reason}")]
    Protobuf {
        /// Counted from 1.
        family: usize,
        /// What is wrong.
        reason: String,
    },
}

/// What went wrong where, before line numbers are known.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Something else was expected at this byte.
    At(usize, &'static str),
    /// The page ended too early.
    Truncated(&'static str),
    /// Known in full already.
    Page(PageError),
}

impl From<PageError> for Fault {
    fn from(error: PageError) -> Self {
        Self::Page(error)
    }
}

impl From<ShapeError> for Fault {
    fn from(error: ShapeError) -> Self {
        Self::Page(error.into())
    }
}

/// Characters of an excerpt.
const EXCERPT_CHARS: usize = 60;

/// The first characters of `bytes`.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // Four bytes a character at most; what is cut in the middle is shown as a replacement character.
    let head = line.get(..4 * EXCERPT_CHARS).unwrap_or(line);
    String::from_utf8_lossy(head).chars().take(EXCERPT_CHARS).collect()
}

impl Fault {
    /// With line numbers of `body`.
    pub(crate) fn locate(self, body: &[u8]) -> PageError {
        let lines_to =
            |at: usize| memchr::memchr_iter(b'\n', body.get(..at).unwrap_or(body)).count();
        match self {
            Self::Page(error) => error,
            Self::Truncated(missing) => {
                PageError::Truncated { lines: lines_to(body.len()), missing }
            }
            Self::At(at, expected) => PageError::Syntax {
                line: lines_to(at) + 1,
                expected,
                excerpt: excerpt(body.get(at..).unwrap_or_default()),
            },
        }
    }
}
