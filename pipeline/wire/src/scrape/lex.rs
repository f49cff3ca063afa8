//! Lines of the text formats, taken apart: spans into the body, nothing copied.
//!
//! Text 0.0.4 and 1.0.0 and OpenMetrics 1.0 differ in blanks, comments and what may follow a value; the rest is one
//! grammar. Where Prometheus' own lexer is stricter or laxer than the specifications, Prometheus is followed, but for
//! one thing: a label value never spans lines here.

use super::PageFormat;
use super::error::Fault;
use super::float;
use super::raw::{Comment, Lists, RawExemplar, RawLabel, RawSample, Span, Tail, Text};

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

/// How many bytes both begin with.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut len = 0;
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        let (Some(a), Some(b)) = (a.first_chunk(), b.first_chunk()) else { break };
        let differ = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differ != 0 {
            return len + differ.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    let tails = a.get(len..).unwrap_or_default().iter().zip(b.get(len..).unwrap_or_default());
    len + tails.take_while(|(a, b)| a == b).count()
}

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
        let braced = self.peek(brace) == b'{';
        if braced {
            end = self.labels(brace + 1, &mut lists.labels, (!bare).then_some(&mut name))?;
        }
        if name.span.at == name.span.end {
            return Err(Fault::At(start, "a metric name"));
        }
        let value_at = self.gap(end)?;
        // Where name and value meet without a blank, what is which depends on the digits: no key for a layout.
        if !braced && value_at == end {
            return Err(Fault::At(end, "a blank between name and value"));
        }
        let (value, value_end) = self.number(value_at, "a number as value")?;
        let labels_end = lists.labels.len() as u32;
        let (tail, next) = self.tail(value_end, lists)?;
        let key = Span::new(at, value_at);
        let labels = (first, labels_end);
        Ok((RawSample { key, name, labels, value, tail, changed: u32::MAX }, next))
    }

    /// The same for a line that is `last`, the line before, with another value of one label: the next bucket of a
    /// histogram, mostly. `None` when it is not, or when anything about it is unusual.
    pub(crate) fn sibling(
        self,
        at: usize,
        last: &RawSample,
        lists: &mut Lists,
    ) -> Option<(RawSample, usize)> {
        let old = last.key.of(self.body);
        let common = common_prefix(old, self.body.get(at..)?) as u32 + last.key.at;
        let labels = lists.labels(last.labels);
        let covers =
            |label: &RawLabel| (label.value.span.at..=label.value.span.end).contains(&common);
        let changed = labels.iter().position(covers)?;
        let value = labels.get(changed).filter(|label| !label.value.escaped)?.value.span;
        // What comes before the label's value moves by this much.
        let before = at as u32 - last.key.at;
        let new_at = value.at + before;
        let rest = self.body.get(new_at as usize..)?;
        let len = rest.iter().position(|c| CLASSES[usize::from(*c)] & STOP != 0)?;
        let new_end = new_at + len as u32;
        // And what comes after, beginning with the quote, by this much.
        let after = new_end - value.end;
        let behind = Span { at: value.end, end: last.key.end }.of(self.body);
        if !rest.get(len..)?.starts_with(behind) {
            return None;
        }
        let own_first = lists.labels.len() as u32;
        let (first, end) = last.labels;
        for idx in first..end {
            let mut label = *lists.labels.get(idx as usize)?;
            let own = (idx - first) as usize;
            label.name.span = label.name.span.moved(if own <= changed { before } else { after });
            label.value.span = match own {
                own if own < changed => label.value.span.moved(before),
                own if own > changed => label.value.span.moved(after),
                _ => Span { at: new_at, end: new_end },
            };
            lists.labels.push(label);
        }
        let key = Span { at: at as u32, end: last.key.end + after };
        let (value, value_end) = self.number(key.end as usize, "").ok()?;
        let labels = (own_first, lists.labels.len() as u32);
        let (tail, next) = self.tail(value_end, lists).ok()?;
        let name = Text { span: last.name.span.moved(before), ..last.name };
        Some((RawSample { key, name, labels, value, tail, changed: changed as u32 }, next))
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
