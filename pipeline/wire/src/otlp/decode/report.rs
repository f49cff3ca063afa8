//! What became of a request: [`ReadStats`], [`Reason`] and [`ReadError`].

use std::fmt;

/// Why a point was rejected. The sender must not send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// More resources than the reader remembers.
    Resources,
    /// More series than a resource may have.
    Series,
    /// No room to remember the series.
    Memory,
    /// More attributes than a resource, scope or point may have.
    Attributes,
    /// A name that is empty or too long: of the metric, its unit, or an attribute.
    Name,
    /// An attribute's value that is too long or too deeply nested.
    Value,
    /// Text that is not UTF-8.
    Text,
    /// Neither a value nor the flag that says that there is none; a metric without known kind of data.
    NoValue,
    /// A sum or histogram that is neither delta nor cumulative.
    Temporality,
    /// Buckets or quantiles that do not fit together, or too many.
    Buckets,
    /// A time beyond the year 2262 or too far ahead of the clock here.
    Time,
    /// A series that was in the request already, with the same time.
    Duplicate,
    /// More times of one series than fit one request.
    Times,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Resources,
        Self::Series,
        Self::Memory,
        Self::Attributes,
        Self::Name,
        Self::Value,
        Self::Text,
        Self::NoValue,
        Self::Temporality,
        Self::Buckets,
        Self::Time,
        Self::Duplicate,
        Self::Times,
    ];

    /// A word for self telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resources => "too_many_resources",
            Self::Series => "too_many_series",
            Self::Memory => "no_memory",
            Self::Attributes => "too_many_attributes",
            Self::Name => "bad_name",
            Self::Value => "bad_attribute_value",
            Self::Text => "not_utf8",
            Self::NoValue => "no_value",
            Self::Temporality => "no_temporality",
            Self::Buckets => "bad_buckets",
            Self::Time => "bad_time",
            Self::Duplicate => "duplicate",
            Self::Times => "too_many_times",
        }
    }

    /// What the sender is told.
    fn text(self) -> &'static str {
        match self {
            Self::Resources => "of more resources than are taken",
            Self::Series => "of more series than are taken of one resource",
            Self::Memory => "of series for which there is no memory",
            Self::Attributes => "with too many attributes",
            Self::Name => "with an empty or too long metric name, unit or attribute key",
            Self::Value => "with an attribute value that is too long or too deeply nested",
            Self::Text => "with text that is not UTF-8",
            Self::NoValue => "without a value",
            Self::Temporality => "without aggregation temporality",
            Self::Buckets => "whose buckets or quantiles do not fit together, or are too many",
            Self::Time => "with a time out of range or too far in the future",
            Self::Duplicate => "that repeat a series and time of the same request",
            Self::Times => "beyond the number of times a series may have in one request",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of the points of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadStats {
    /// All points of the request, rejected ones too.
    pub points: u64,
    /// Those that were not taken.
    pub rejected: u64,
    by_reason: [u64; Reason::ALL.len()],
}

impl ReadStats {
    /// Counts `points` as seen and rejected.
    pub(super) fn reject(&mut self, reason: Reason, points: u64) {
        self.rejected += points;
        if let Some(count) = self.by_reason.get_mut(reason as usize) {
            *count += points;
        }
    }

    /// Why points were rejected, and how many for each reason.
    pub fn reasons(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.into_iter().zip(self.by_reason).filter(|(_, count)| *count > 0)
    }

    /// The text for `partial_success.error_message`; empty when nothing was rejected.
    pub fn message(&self) -> String {
        let parts: Vec<String> =
            self.reasons().map(|(reason, count)| format!("{count} {}", reason.text())).collect();
        if parts.is_empty() {
            return String::new();
        }
        format!("rejected {} of {} points: {}", self.rejected, self.points, parts.join(", "))
    }
}

/// Why a request was refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Bytes that are no protobuf of the message.
    #[error("malformed protobuf at byte {offset}: {what}")]
    Protobuf {
        /// From the start of the body; 0 where scattered parts had to be merged first.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// Text that is no JSON of the message.
    #[error("malformed JSON at {at}: {what}")]
    Json {
        /// Line and column, or the path of the value.
        at: String,
        /// What is wrong there.
        what: String,
    },
}

/// How much a reader remembers; for self telemetry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderStats {
    /// Resources.
    pub resources: usize,
    /// Their series.
    pub series: usize,
    /// Bytes held for knowing them again, about.
    pub bytes: usize,
}
