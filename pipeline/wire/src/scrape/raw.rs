//! What lines are made of: ranges of the body, and lists that they refer to.

use std::borrow::Cow;

/// A range of the body. Bodies are below 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) at: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn new(at: usize, end: usize) -> Self {
        Self { at: at as u32, end: end as u32 }
    }

    /// The range `by` further on.
    pub(crate) fn moved(self, by: u32) -> Self {
        Self { at: self.at + by, end: self.end + by }
    }

    pub(crate) fn len(self) -> usize {
        (self.end - self.at) as usize
    }

    pub(crate) fn of(self, body: &[u8]) -> &[u8] {
        body.get(self.at as usize..self.end as usize).unwrap_or_default()
    }
}

/// A text between quotes or bare.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Text {
    pub(crate) span: Span,
    /// It has backslashes to be resolved.
    pub(crate) escaped: bool,
}

impl Text {
    /// The text with escapes resolved: `\\`, `\"` and `\n`; others stay as they are, as in Prometheus.
    pub(crate) fn of(self, body: &str) -> Cow<'_, str> {
        let raw = body.get(self.span.at as usize..self.span.end as usize).unwrap_or_default();
        if self.escaped { unescape(raw) } else { Cow::Borrowed(raw) }
    }

    /// The same for a body that was not checked as a whole.
    pub(crate) fn of_bytes(self, body: &[u8]) -> Cow<'_, str> {
        match String::from_utf8_lossy(self.span.of(body)) {
            Cow::Borrowed(raw) if self.escaped => unescape(raw),
            raw => raw,
        }
    }
}

/// `raw` with escapes resolved.
pub(crate) fn unescape(raw: &str) -> Cow<'_, str> {
    if memchr::memchr(b'\\', raw.as_bytes()).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some(c @ ('\\' | '"')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    Cow::Owned(out)
}

/// A label as written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawLabel {
    pub(crate) name: Text,
    pub(crate) value: Text,
}

/// An exemplar as written; its labels are a range of the label list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawExemplar {
    pub(crate) labels: (u32, u32),
    pub(crate) value: f64,
    /// Unix nanoseconds; 0 = none.
    pub(crate) time: i64,
}

/// What may follow a value; mostly nothing does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tail {
    /// Unix nanoseconds; 0 = none.
    pub(crate) time: i64,
    /// One more than the index in the list of exemplars; 0 = none.
    pub(crate) exemplar: u32,
}

/// Lists that spans and indices of lines refer to.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    pub(crate) labels: Vec<RawLabel>,
    pub(crate) exemplars: Vec<RawExemplar>,
}

impl Lists {
    pub(crate) fn clear(&mut self) {
        self.labels.clear();
        self.exemplars.clear();
    }

    /// Labels `first..end`.
    pub(crate) fn labels(&self, (first, end): (u32, u32)) -> &[RawLabel] {
        self.labels.get(first as usize..end as usize).unwrap_or_default()
    }

    pub(crate) fn exemplar(&self, tail: &Tail) -> Option<&RawExemplar> {
        self.exemplars.get((tail.exemplar as usize).checked_sub(1)?)
    }
}

/// A sample line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawSample {
    /// From the start of the line to the value: what identifies the line on the next page.
    pub(crate) key: Span,
    pub(crate) name: Text,
    /// A range of the label list.
    pub(crate) labels: (u32, u32),
    pub(crate) value: f64,
    pub(crate) tail: Tail,
    /// The line differs from the one before in the value of this label only, counted from the line's first; or
    /// `u32::MAX`.
    pub(crate) changed: u32,
}

/// What a line beginning with `#` is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Comment {
    Help(Text, Span),
    Type(Text, Span),
    Unit(Text, Span),
    /// OpenMetrics' end of page.
    Eof,
    /// Nothing to us.
    Other,
}
