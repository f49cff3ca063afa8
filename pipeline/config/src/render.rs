//! Diagnostics as text in rustc's form, and as JSON in the form of language servers.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Element, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use crate::{Diagnostic, Diagnostics, Location, Severity, Source};

/// Whether text is coloured. Who asks for `auto` looks at the terminal first; this crate knows none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// With ANSI colours.
    Always,
    /// Plain text.
    Never,
}

impl Diagnostics {
    /// All of them, errors first, without the summary; ends with a newline unless empty.
    #[must_use]
    pub fn render(&self, color: Color) -> String {
        let renderer = match color {
            Color::Always => Renderer::styled(),
            Color::Never => Renderer::plain(),
        };
        let mut out = String::new();
        for one in self.sorted() {
            if !out.is_empty() {
                out.push('\n');
            }
            let text = renderer.render(&groups(one));
            for line in text.lines() {
                out.push_str(line.trim_end());
                out.push('\n');
            }
        }
        out
    }

    /// `2 errors, 1 warning in inferometer.toml`; empty where nothing is wrong.
    #[must_use]
    pub fn summary(&self) -> String {
        let sorted = self.sorted();
        let count = |severity, word| match sorted.iter().filter(|d| d.severity == severity).count()
        {
            0 => None,
            1 => Some(format!("1 {word}")),
            n => Some(format!("{n} {word}s")),
        };
        let counts = [count(Severity::Error, "error"), count(Severity::Warning, "warning")];
        let mut out = counts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let mut files: Vec<&str> = Vec::new();
        for name in sorted.iter().filter_map(|d| Some(d.primary.as_ref()?.source().name())) {
            if !files.contains(&name) {
                files.push(name);
            }
        }
        match files.as_slice() {
            [] => {}
            [one] => out.push_str(&format!(" in {}", printable(one))),
            [one, two] => out.push_str(&format!(" in {} and {}", printable(one), printable(two))),
            more => out.push_str(&format!(" in {} files", more.len())),
        }
        out
    }

    /// A list of objects as language servers use them, with `file` added: `range` (lines and UTF-16 characters from
    /// 0), `severity` (1 error, 2 warning), `code`, `message`, `related`, `notes`, `help`, `fixes`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.sorted().into_iter().map(diagnostic_json).collect()
    }
}

/// Control characters escaped, so that a file cannot send commands to the terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c.is_control() && c != '\n') {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| {
        if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() }
    };
    Cow::Owned(text.chars().map(escape).collect())
}

fn groups(d: &Diagnostic) -> Vec<Group<'_>> {
    let level = match d.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(printable(&d.message)).id(d.code));
    for snippet in snippets(d) {
        group = group.element(snippet);
    }
    for note in &d.notes {
        group = group.element(Level::NOTE.message(printable(note)));
    }
    match &d.help {
        // A title of its own would draw a bar to a snippet that is not there.
        Some(help) if d.primary.is_none() => {
            vec![group.element(Level::HELP.message(printable(help)))]
        }
        Some(help) => vec![group, Group::with_title(Level::HELP.secondary_title(printable(help)))],
        None => vec![group],
    }
}

/// One snippet for each file that the diagnostic points into, that of the fault first.
fn snippets(d: &Diagnostic) -> Vec<Element<'_>> {
    let primary =
        d.primary.iter().map(|at| (at, d.primary_label.as_str(), AnnotationKind::Primary));
    let others =
        d.secondary.iter().map(|(at, label)| (at, label.as_str(), AnnotationKind::Context));
    let mut files: Vec<(&Arc<Source>, Vec<_>)> = Vec::new();
    for (at, label, kind) in primary.chain(others) {
        let label = (!label.is_empty()).then(|| printable(label));
        let annotation = kind.span(visible(at)).label(label);
        match files.iter_mut().find(|(source, _)| Arc::ptr_eq(source, at.source())) {
            Some((_, annotations)) => annotations.push(annotation),
            None => files.push((at.source(), vec![annotation])),
        }
    }
    let mut out = Vec::with_capacity(files.len());
    for (source, annotations) in files {
        let snippet = Snippet::source(source.text()).path(printable(source.name()));
        out.push(snippet.annotations(annotations).into());
    }
    out
}

/// The span, widened to the next character where it is empty: the renderer counts an empty one at the start of a line
/// to the line before.
fn visible(at: &Location) -> Range<usize> {
    let span = at.span();
    let next = at.source().text().get(span.end..).and_then(|rest| rest.chars().next());
    match next {
        Some(next) if span.is_empty() && !next.is_control() => {
            span.start..span.end + next.len_utf8()
        }
        _ => span,
    }
}

fn range_json(at: &Location) -> Value {
    let [start, end] =
        at.utf16().map(|(line, character)| json!({ "line": line, "character": character }));
    json!({ "start": start, "end": end })
}

fn diagnostic_json(d: &Diagnostic) -> Value {
    let related = d.secondary.iter().map(|(at, label)| {
        json!({ "file": at.source().name(), "range": range_json(at), "message": label })
    });
    let fixes = d.fixes.iter().map(|fix| {
        json!({ "file": fix.at.source().name(), "range": range_json(&fix.at), "newText": fix.text })
    });
    json!({
        "file": d.primary.as_ref().map(|at| at.source().name()),
        "range": d.primary.as_ref().map(range_json),
        "severity": match d.severity { Severity::Error => 1, Severity::Warning => 2 },
        "code": d.code,
        "message": d.message,
        "label": d.primary_label,
        "related": related.collect::<Vec<_>>(),
        "notes": d.notes,
        "help": d.help,
        "fixes": fixes.collect::<Vec<_>>(),
    })
}
