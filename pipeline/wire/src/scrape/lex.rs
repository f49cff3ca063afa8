//! Lines of the text formats, taken apart: spans into the body, nothing copied.
//!
//! Text 0.0.4 and 1.0.0 and OpenMetrics 1.0 differ in blanks, comments and what may follow a value; the rest is one
//! grammar. Where Prometheus' own lexer is stricter or laxer than the specifications, Prometheus is followed, but for
//! one thing: a label value never spans lines here.

use std::borrow::Cow;

use super::PageFormat;
use super::error::Fault;
use super::float;

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

const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const COLON: u8 = 4;
/// It ends a run of plain characters between quotes.
const STOP: u8 = 8;

/// What each byte is to names and quoted texts.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut c = 0;
    while c < 256 {
        classes[c] = match c as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => LETTER,
            b'0'..=b'9' => DIGIT,
            b':' => COLON,
            b'"' | b'\\' | b'\n' => STOP,
            _ => 0,
        };
        c += 1;
    }
    classes
};

/// Reads lines of one body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexer<'a> {
    body: &'a [u8],
    strict: bool,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(body: &'a [u8], format: PageFormat) -> Self {
        Self { body, strict: format == PageFormat::OpenMetrics }
    }

    fn peek(self, at: usize) -> u8 {
        // NUL never is part of a valid page, so it can stand for the end.
        self.body.get(at).copied().unwrap_or(0)
    }

    /// The first place from `at` on that is neither space nor tab.
    pub(crate) fn blanks(self, mut at: usize) -> usize {
        while matches!(self.peek(at), b' ' | b'\t') {
            at += 1;
        }
        at
    }

    /// Skips to the next token between parts of a line: any blanks in text, exactly one space in OpenMetrics.
    fn gap(self, at: usize) -> Result<usize, Fault> {
        if !self.strict {
            return Ok(self.blanks(at));
        }
        if self.peek(at) == b' ' { Ok(at + 1) } else { Err(Fault::At(at, "one space")) }
    }

    /// The end of the name that starts at `at`; `at` itself when none does.
    fn name(self, at: usize, colons: bool) -> usize {
        let start = if colons { LETTER | COLON } else { LETTER };
        let rest = self.body.get(at..).unwrap_or_default();
        if rest.first().is_none_or(|c| CLASSES[usize::from(*c)] & start == 0) {
            return at;
        }
        let name = start | DIGIT;
        at + rest.iter().position(|c| CLASSES[usize::from(*c)] & name == 0).unwrap_or(rest.len())
    }

    /// The quoted text whose opening quote is at `at`, and the place behind its closing one.
    fn quoted(self, at: usize) -> Result<(Text, usize), Fault> {
        let mut escaped = false;
        let mut end = at + 1;
        loop {
            let rest = self.body.get(end..).unwrap_or_default();
            // Values are short: a loop beats a search that is set up for long ones.
            let stop = rest.iter().position(|c| CLASSES[usize::from(*c)] & STOP != 0);
            let stop = stop.map(|found| end + found);
            match stop {
                Some(stop) if self.peek(stop) == b'"' => {
                    return Ok((Text { span: Span::new(at + 1, stop), escaped }, stop + 1));
                }
                Some(stop) if self.peek(stop) == b'\\' && self.peek(stop + 1) != b'\n' => {
                    escaped = true;
                    end = stop + 2;
                }
                _ => return Err(Fault::At(at, "a closing quote on the same line")),
            }
        }
    }

    /// Labels from behind the opening brace to behind the closing one; a quoted metric name may come first.
    fn labels(
        self,
        mut at: usize,
        out: &mut Vec<RawLabel>,
        mut metric: Option<&mut Text>,
    ) -> Result<usize, Fault> {
        loop {
            at = self.blanks(at);
            let (name, end) = match self.peek(at) {
                b'}' => return Ok(at + 1),
                b'"' => self.quoted(at)?,
                _ => {
                    let end = self.name(at, false);
                    if end == at {
                        return Err(Fault::At(at, "a label name or `}`"));
                    }
                    (Text { span: Span::new(at, end), escaped: false }, end)
                }
            };
            let quoted = self.peek(at) == b'"';
            at = if self.peek(end) == b'=' { end } else { self.blanks(end) };
            if self.peek(at) == b'=' {
                let open = if self.peek(at + 1) == b'"' { at + 1 } else { self.blanks(at + 1) };
                if self.peek(open) != b'"' {
                    return Err(Fault::At(open, "a quoted label value"));
                }
                let (value, end) = self.quoted(open)?;
                out.push(RawLabel { name, value });
                at = self.blanks(end);
            } else if let Some(metric) = metric.take().filter(|_| quoted) {
                *metric = name;
            } else {
                return Err(Fault::At(at, "`=`"));
            }
            metric = None;
            match self.peek(at) {
                b',' => at += 1,
                b'}' => {}
                _ => return Err(Fault::At(at, "`,` or `}`")),
            }
        }
    }

    /// The sample line at `at` and the place behind its newline. What it refers to goes to `lists`.
    pub(crate) fn sample(self, at: usize, lists: &mut Lists) -> Result<(RawSample, usize), Fault> {
        let first = lists.labels.len() as u32;
        let start = if self.strict { at } else { self.blanks(at) };
        let mut end = self.name(start, true);
        let mut name = Text { span: Span::new(start, end), escaped: false };
        let bare = end > start;
        let brace = if self.strict { end } else { self.blanks(end) };
        if self.peek(brace) == b'{' {
            end = self.labels(brace + 1, &mut lists.labels, (!bare).then_some(&mut name))?;
        }
        if name.span.at == name.span.end {
            return Err(Fault::At(start, "a metric name"));
        }
        let value_at = self.gap(end)?;
        let (value, value_end) = self.number(value_at, "a number as value")?;
        let labels_end = lists.labels.len() as u32;
        let (tail, next) = self.tail(value_end, lists)?;
        let key = Span::new(at, value_at);
        Ok((RawSample { key, name, labels: (first, labels_end), value, tail }, next))
    }

    /// The number at `at` and its end.
    pub(crate) fn number(self, at: usize, expected: &'static str) -> Result<(f64, usize), Fault> {
        let rest = self.body.get(at..).unwrap_or_default();
        if let Some((value, len)) = float::prefix(rest)
            && rest.get(len) == Some(&b'\n')
        {
            return Ok((value, at + len));
        }
        let len = rest.iter().position(|c| matches!(c, b' ' | b'\t' | b'\n')).unwrap_or(rest.len());
        match float::token(rest.get(..len).unwrap_or_default()) {
            Some(value) => Ok((value, at + len)),
            None => Err(Fault::At(at, expected)),
        }
    }

    /// Whatever follows a value, to behind the newline.
    pub(crate) fn tail(self, at: usize, lists: &mut Lists) -> Result<(Tail, usize), Fault> {
        match (self.peek(at), self.strict) {
            (b'\n', _) => Ok((Tail::default(), at + 1)),
            (_, true) => self.tail_openmetrics(at, lists),
            (_, false) => {
                let mut at = self.blanks(at);
                let mut time = 0;
                if self.peek(at) != b'\n' {
                    let end = self.name_end(at);
                    time = self.millis(at, end)?;
                    at = self.blanks(end);
                }
                self.line_end(at).map(|next| (Tail { time, exemplar: 0 }, next))
            }
        }
    }

    fn name_end(self, mut at: usize) -> usize {
        while !matches!(self.peek(at), b' ' | b'\t' | b'\n' | 0) {
            at += 1;
        }
        at
    }

    fn line_end(self, at: usize) -> Result<usize, Fault> {
        match self.peek(at) {
            b'\n' => Ok(at + 1),
            _ if at >= self.body.len() => Err(Fault::Truncated("a newline")),
            _ => Err(Fault::At(at, "the end of the line")),
        }
    }

    /// Milliseconds to nanoseconds.
    fn millis(self, at: usize, end: usize) -> Result<i64, Fault> {
        std::str::from_utf8(Span::new(at, end).of(self.body))
            .ok()
            .and_then(|text| text.parse::<i64>().ok()?.checked_mul(1_000_000))
            .ok_or(Fault::At(at, "a timestamp in milliseconds"))
    }

    fn seconds(self, at: usize) -> Result<(i64, usize), Fault> {
        let (seconds, end) = self.number(at, "a timestamp in seconds")?;
        nanos(seconds).map(|time| (time, end)).ok_or(Fault::At(at, "a timestamp in seconds"))
    }

    fn tail_openmetrics(self, at: usize, lists: &mut Lists) -> Result<(Tail, usize), Fault> {
        let mut tail = Tail::default();
        let mut at = self.gap(at)?;
        if self.peek(at) != b'#' {
            (tail.time, at) = self.seconds(at)?;
            if self.peek(at) == b'\n' {
                return Ok((tail, at + 1));
            }
            at = self.gap(at)?;
        }
        if self.body.get(at..at + 3) != Some(b"# {") {
            return Err(Fault::At(at, "an exemplar or the end of the line"));
        }
        let first = lists.labels.len() as u32;
        let end = self.labels(at + 3, &mut lists.labels, None)?;
        let (value, end) = self.number(self.gap(end)?, "a number as exemplar")?;
        let mut time = 0;
        at = end;
        if self.peek(at) == b' ' {
            (time, at) = self.seconds(at + 1)?;
        }
        let labels = (first, lists.labels.len() as u32);
        lists.exemplars.push(RawExemplar { labels, value, time });
        tail.exemplar = lists.exemplars.len() as u32;
        self.line_end(at).map(|next| (tail, next))
    }

    /// What the line at `at`, which begins with `#` (after blanks, in text), is; and the place behind it.
    pub(crate) fn comment(self, at: usize) -> Result<(Comment, usize), Fault> {
        let rest = self.body.get(at..).unwrap_or_default();
        let end = memchr::memchr(b'\n', rest).map_or(self.body.len(), |len| at + len);
        let next = end + 1;
        if self.strict && self.body.get(at..end) == Some(b"# EOF") {
            return Ok((Comment::Eof, next.min(self.body.len())));
        }
        if end == self.body.len() {
            return Err(Fault::Truncated(if self.strict { "`# EOF`" } else { "a newline" }));
        }
        let hash = if self.strict { at } else { self.blanks(at) };
        let word = self.blanks(hash + 1);
        let comment: fn(Text, Span) -> Comment = match self.body.get(word..word + 4) {
            Some(b"HELP") => Comment::Help,
            Some(b"TYPE") => Comment::Type,
            Some(b"UNIT") if self.strict => Comment::Unit,
            _ if self.strict => {
                return Err(Fault::At(at, "`# HELP`, `# TYPE`, `# UNIT` or `# EOF`"));
            }
            _ => return Ok((Comment::Other, next)),
        };
        if word == hash + 1 || !matches!(self.peek(word + 4), b' ' | b'\t') {
            // `#HELP` and `# HELPFUL` are comments like any other.
            return match self.strict {
                true => Err(Fault::At(at, "`# HELP`, `# TYPE`, `# UNIT` or `# EOF`")),
                false => Ok((Comment::Other, next)),
            };
        }
        let name_at = self.blanks(word + 4);
        let (name, name_end) = if self.peek(name_at) == b'"' {
            self.quoted(name_at)?
        } else {
            let end = self.name(name_at, true);
            (Text { span: Span::new(name_at, end), escaped: false }, end)
        };
        if name_end == name_at {
            return Err(Fault::At(name_at, "a metric name"));
        }
        let text = match self.peek(name_end) {
            b' ' | b'\t' => name_end + 1,
            b'\n' => name_end,
            _ => return Err(Fault::At(name_end, "a space after the metric name")),
        };
        Ok((comment(name, Span::new(text, end)), next))
    }

    /// Where the value of the sample line `at..end` would begin, for look-ups: no line is judged here, but for every
    /// valid line the answer is the end of [`RawSample::key`].
    pub(crate) fn key_end(self, at: usize, end: usize) -> usize {
        let mut at = self.blanks(at);
        while at < end && !matches!(self.peek(at), b' ' | b'\t' | b'{') {
            at += 1;
        }
        let brace = self.blanks(at);
        if self.peek(brace) == b'{' {
            at = brace + 1;
            while at < end && self.peek(at) != b'}' {
                at = match self.peek(at) {
                    b'"' => self.quoted(at).map_or(end, |(_, next)| next),
                    _ => at + 1,
                };
            }
            at += 1;
        }
        self.blanks(at).min(end)
    }
}

/// Seconds to nanoseconds; `None` when that is no moment of this era.
pub(crate) fn nanos(seconds: f64) -> Option<i64> {
    let nanos = (seconds * 1e9).round();
    #[expect(clippy::cast_possible_truncation, reason = "checked")]
    (nanos.abs() < 9.2e18).then_some(nanos as i64)
}
