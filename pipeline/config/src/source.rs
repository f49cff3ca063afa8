//! [`Source`], a text that was read, and [`Location`], a place in it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A text with a name: a configuration file, or one `--set` argument.
#[derive(PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.name).finish()
    }
}

impl Source {
    /// Keeps a text under a name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into() })
    }

    /// What it is called in messages: the path as given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The place of a byte range. A range that is outside the text or inside a character is widened or cut to fit.
    pub(crate) fn at(self: &Arc<Self>, span: Range<usize>) -> Location {
        let start = floor(&self.text, span.start);
        let end = ceil(&self.text, span.end).max(start);
        Location { source: Arc::clone(self), span: start..end }
    }

    /// Line (from 0) and the byte where it starts, for a byte offset.
    fn line(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or_default();
        let line = before.bytes().filter(|&b| b == b'\n').count();
        (line, before.rfind('\n').map_or(0, |at| at + 1))
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceil(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

/// A byte range of a [`Source`]; always within it and at character boundaries. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    source: Arc<Source>,
    span: Range<usize>,
}

impl Location {
    /// The text it is in.
    #[must_use]
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The byte range.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// What is written there.
    #[must_use]
    pub fn text(&self) -> &str {
        self.source.text.get(self.span.clone()).unwrap_or_default()
    }

    /// Line and column of the start, from 1; columns count characters.
    #[must_use]
    pub fn line_column(&self) -> (usize, usize) {
        let (line, start) = self.source.line(self.span.start);
        let column =
            self.source.text.get(start..self.span.start).unwrap_or_default().chars().count();
        (line + 1, column + 1)
    }

    /// Start and end as (line, character) from 0; characters count UTF-16 units, as language servers do.
    pub(crate) fn utf16(&self) -> [(usize, usize); 2] {
        [self.span.start, self.span.end].map(|offset| {
            let (line, start) = self.source.line(offset);
            let before = self.source.text.get(start..offset).unwrap_or_default();
            (line, before.encode_utf16().count())
        })
    }

    /// The first occurrence of `part` within the location, or all of it.
    pub(crate) fn narrow(&self, part: &str) -> Self {
        match self.text().find(part) {
            Some(at) if !part.is_empty() => {
                let start = self.span.start + at;
                Self { source: Arc::clone(&self.source), span: start..start + part.len() }
            }
            _ => self.clone(),
        }
    }
}

impl fmt::Display for Location {
    /// `file:line:column`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_column();
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
