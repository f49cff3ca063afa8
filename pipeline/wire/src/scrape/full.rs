//! A text page parsed in full: lines, then families, then rows, then a shape, its values and a layout for next time.

use pipeline_model::{Interner, RowId, Shape, ShapeBuilder};

use super::error::{Fault, PageError, PageLimit};
use super::family::{Families, NONE};
use super::filling::{Filling, TailSource};
use super::labeler::Labeler;
use super::layout::{Action, LayoutBuilder, Layouts};
use super::lex::Lexer;
use super::raw::{Comment, Lists, RawSample, Span};
use super::rows::{Assembler, NO_ROW, Placed};
use super::{Page, PageFormat, PagePath, PageReader};

/// All lines of a page.
#[derive(Debug, Default)]
pub(crate) struct Lines<'a> {
    /// The page.
    text: &'a str,
    pub(crate) samples: Vec<RawSample>,
    pub(crate) lists: Lists,
    pub(crate) families: Families<'a>,
    /// HELP, TYPE and UNIT lines with their families.
    metas: Vec<(Span, u32)>,
}

/// Checks what is the same for all lines: UTF-8 without NUL, and an end.
pub(crate) fn check(body: &[u8], format: PageFormat) -> Result<&str, Fault> {
    let text =
        std::str::from_utf8(body).map_err(|error| Fault::At(error.valid_up_to(), "valid UTF-8"))?;
    if let Some(at) = memchr::memchr(0, body) {
        return Err(Fault::At(at, "no NUL byte"));
    }
    match format {
        PageFormat::OpenMetrics
            if !body.ends_with(b"\n") && !body.ends_with(b"\n# EOF") && body != b"# EOF" =>
        {
            Err(Fault::Truncated("`# EOF`"))
        }
        PageFormat::Text if !body.is_empty() && !body.ends_with(b"\n") => {
            Err(Fault::Truncated("a newline"))
        }
        _ => Ok(text),
    }
}

impl<'a> Lines<'a> {
    /// Takes a page apart.
    pub(crate) fn read(
        body: &'a [u8],
        format: PageFormat,
        samples_max: usize,
    ) -> Result<Self, Fault> {
        let text = check(body, format)?;
        let mut lines = Self { text, ..Self::default() };
        // Lines are a hundred bytes or so; short of that the lists grow.
        lines.samples.reserve(body.len() / 100);
        lines.lists.labels.reserve(body.len() / 40);
        let lexer = Lexer::new(body, format);
        let mut at = 0;
        let mut ended = false;
        while at < body.len() {
            if ended {
                return Err(Fault::At(at, "nothing after `# EOF`"));
            }
            let first = match format {
                PageFormat::OpenMetrics => at,
                PageFormat::Text | PageFormat::Protobuf => lexer.blanks(at),
            };
            match body.get(first) {
                Some(b'#') => {
                    let (comment, next) = lexer.comment(at)?;
                    ended = matches!(comment, Comment::Eof);
                    if let Some(family) = lines.families.add(comment, text)? {
                        lines.metas.push((Span::new(at, next), family));
                    }
                    at = next;
                }
                Some(b'\n') if format == PageFormat::Text => at = first + 1,
                _ => {
                    let labels = lines.lists.labels.len();
                    let last = lines.samples.last();
                    let sibling = last.and_then(|last| lexer.sibling(at, last, &mut lines.lists));
                    let (sample, next) = match sibling {
                        Some(sibling) => sibling,
                        None => {
                            lines.lists.labels.truncate(labels);
                            lexer.sample(at, &mut lines.lists)?
                        }
                    };
                    lines.samples.push(sample);
                    at = next;
                    if samples_max != 0 && lines.samples.len() > samples_max {
                        return Err(too_many(body, samples_max).into());
                    }
                }
            }
        }
        if format == PageFormat::OpenMetrics && !ended {
            return Err(Fault::Truncated("`# EOF`"));
        }
        Ok(lines)
    }
}

/// How many there are is not known without reading on, but lines that are no comments are counted quickly.
fn too_many(body: &[u8], allowed: usize) -> PageError {
    let found = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .count();
    PageError::Limit { limit: PageLimit::Samples, allowed, found, at: None }
}

/// Reads a page without looking at the last one, and remembers it.
pub(crate) fn read(
    reader: &mut PageReader,
    format: PageFormat,
    body: &[u8],
    interner: &Interner,
    layouts: &Layouts,
) -> Result<Page, Fault> {
    let mut lines = Lines::read(body, format, reader.settings.limits.samples)?;
    let labeler = Labeler { interner, settings: &reader.settings };
    let mut rows =
        Assembler::new(lines.text, &lines.lists, std::mem::take(&mut lines.families), labeler);
    reader.settings.synthetic.iter().for_each(|metric| rows.synthetic(metric));
    rows.add_all(&lines.samples)?;
    let mut builder = ShapeBuilder::new(interner);
    let (group, slot) = reader.start_shape(&mut builder);
    rows.finish(&mut builder, group, slot)?;
    let shape = builder.finish_or(reader.shape.as_ref());
    let Assembler { placed, fixes, loose, families, .. } = rows;

    let source = TailSource {
        body,
        lists: &lines.lists,
        interner,
        honor_timestamps: reader.settings.honor_timestamps,
    };
    let mut filling = Filling::new(shape.len(), shape.slots(), None);
    fill(&mut filling, &lines.samples, &placed, &source);
    filling.fix(&fixes);
    filling.stats.samples = lines.samples.len();

    let lines_of = count_lines(&shape, &placed);
    if reader.uncached_left > 0 {
        reader.uncached_left -= 1;
        reader.layout = None;
        return Ok(reader.replace(shape, filling, &lines_of, PagePath::Uncached));
    }
    let keys = lines.samples.iter().map(|sample| sample.key);
    let bytes = keys.chain(lines.metas.iter().map(|meta| meta.0)).map(Span::len).sum();
    let mut layout = LayoutBuilder::new(lines.samples.len() + lines.metas.len(), bytes);
    push_lines(&mut layout, body, &lines, &placed);
    let layout = layout.finish(format, fixes, loose, families.ambiguous);
    reader.layout = Some(layouts.intern(layout));
    Ok(reader.replace(shape, filling, &lines_of, PagePath::Full))
}

/// Puts the values of `samples` into their places.
pub(crate) fn fill(
    filling: &mut Filling,
    samples: &[RawSample],
    placed: &[Placed],
    source: &TailSource<'_>,
) {
    for (idx, (sample, place)) in samples.iter().zip(placed).enumerate() {
        if place.owner != idx as u32 {
            filling.stats.duplicates += 1;
            continue;
        }
        filling.store(place.action, place.row, sample.value);
        if sample.tail.time != 0 || sample.tail.exemplar != 0 {
            filling.tail(place.row, &sample.tail, source);
        }
    }
}

fn count_lines(shape: &Shape, placed: &[Placed]) -> Vec<u32> {
    let mut lines_of = vec![0; shape.len()];
    for place in placed {
        if let Some(count) = lines_of.get_mut(place.row as usize) {
            *count += 1;
        }
    }
    lines_of
}

/// The action of a line that is not an alias of another.
pub(crate) fn own_action(place: &Placed) -> (Action, RowId) {
    if place.owner == NONE { (Action::Duplicate, NO_ROW) } else { (place.action, place.row) }
}

/// Metadata and samples in page order.
fn push_lines(layout: &mut LayoutBuilder, body: &[u8], lines: &Lines<'_>, placed: &[Placed]) {
    let mut metas = lines.metas.iter().peekable();
    let mut entry_of = Vec::with_capacity(placed.len());
    for (idx, (sample, place)) in lines.samples.iter().zip(placed).enumerate() {
        while let Some((span, family)) = metas.next_if(|(span, _)| span.at < sample.key.at) {
            layout.push(span.of(body), Action::Meta, NO_ROW, *family);
        }
        if place.owner != idx as u32 && place.owner != NONE {
            entry_of.push(NONE);
            continue;
        }
        let (action, row) = own_action(place);
        entry_of.push(layout.push(sample.key.of(body), action, row, place.family));
    }
    for (span, family) in metas {
        layout.push(span.of(body), Action::Meta, NO_ROW, *family);
    }
    // An owner may come after its duplicate in no case, but of two buckets with one bound the first in the order of
    // lines owns; so owners are all known by now.
    for (idx, (sample, place)) in lines.samples.iter().zip(placed).enumerate() {
        if place.owner == idx as u32 {
            continue;
        }
        if let Some(owner) = entry_of.get(place.owner as usize).filter(|owner| **owner != NONE) {
            layout.alias(sample.key.of(body), *owner);
        }
    }
}

/// Only the metadata of a page: the families, and the lines that speak of them.
pub(crate) fn families(
    text: &str,
    format: PageFormat,
) -> Result<(Families<'_>, Vec<(Span, u32)>), Fault> {
    let mut families = Families::default();
    let mut metas = Vec::new();
    let body = text.as_bytes();
    let lexer = Lexer::new(body, format);
    let mut at = 0;
    while at < body.len() {
        let first = lexer.blanks(at);
        if body.get(first) == Some(&b'#') {
            let (comment, next) = lexer.comment(at)?;
            if let Some(family) = families.add(comment, text)? {
                metas.push((Span::new(at, next), family));
            }
            at = next;
        } else {
            let rest = body.get(at..).unwrap_or_default();
            at = memchr::memchr(b'\n', rest).map_or(body.len(), |len| at + len + 1);
        }
    }
    Ok((families, metas))
}
