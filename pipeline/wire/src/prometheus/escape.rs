//! Names and texts in exposition formats: escaping schemes, quoting, HELP and label values.

use std::borrow::Cow;
use std::fmt::Write;

/// What to do with names outside of the legacy character set (`[a-zA-Z_:][a-zA-Z0-9_:]*`; labels have no colon).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Escaping {
    /// Leave them and quote them.
    AllowUtf8,
    /// Each other character becomes `_`.
    #[default]
    Underscores,
    /// `.` becomes `_dot_`, `_` becomes `__`, each other character `_`.
    Dots,
    /// `U__` in front, `_` becomes `__`, each other character `_HEX_`.
    Values,
}

fn legal_at(c: char, start: bool, colon: bool) -> bool {
    c.is_ascii_alphabetic() || c == '_' || (colon && c == ':') || (!start && c.is_ascii_digit())
}

fn legal(name: &str, colon: bool) -> bool {
    !name.is_empty() && name.chars().enumerate().all(|(idx, c)| legal_at(c, idx == 0, colon))
}

/// True for names that need no quotes in front of `{`.
pub(crate) fn is_legal_metric(name: &str) -> bool {
    legal(name, true)
}

/// True for names that need no quotes in front of `=`.
pub(crate) fn is_legal_label(name: &str) -> bool {
    legal(name, false)
}

/// A metric's name under `escaping`.
pub(crate) fn metric_name(name: &str, escaping: Escaping) -> Cow<'_, str> {
    escaped(name, escaping, true)
}

/// A label's name under `escaping`. One that begins with a digit gets `key_` in front, as OpenTelemetry's Collector has it,
/// where characters become `_`: `1x` and `2x` stay two labels.
pub(crate) fn label_name(name: &str, escaping: Escaping) -> Cow<'_, str> {
    if escaping == Escaping::Underscores && name.starts_with(|first: char| first.is_ascii_digit()) {
        return Cow::Owned(escaped(&format!("key_{name}"), escaping, false).into_owned());
    }
    escaped(name, escaping, false)
}

fn escaped(name: &str, escaping: Escaping, colon: bool) -> Cow<'_, str> {
    let keep = match escaping {
        Escaping::AllowUtf8 => true,
        Escaping::Underscores | Escaping::Values => legal(name, colon),
        Escaping::Dots => legal(name, colon) && !name.contains('_'),
    };
    if keep {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() + 8);
    if escaping == Escaping::Values {
        out.push_str("U__");
    }
    for (idx, c) in name.chars().enumerate() {
        match (escaping, c) {
            (Escaping::Dots | Escaping::Values, '_') => out.push_str("__"),
            (Escaping::Dots, '.') => out.push_str("_dot_"),
            _ if legal_at(c, idx == 0, colon) => out.push(c),
            // Writing to a String cannot fail.
            (Escaping::Values, c) => _ = write!(out, "_{:x}_", u32::from(c)),
            _ => out.push('_'),
        }
    }
    if out.is_empty() {
        out.push('_');
    }
    Cow::Owned(out)
}

/// Appends the value of a label, between its quotes.
pub(crate) fn push_quoted(out: &mut Vec<u8>, text: &str) {
    push_text(out, text, true);
}

/// Appends HELP. OpenMetrics escapes double quotes there, Prometheus' text does not.
pub(crate) fn push_help(out: &mut Vec<u8>, text: &str, open_metrics: bool) {
    push_text(out, text, open_metrics);
}

fn push_text(out: &mut Vec<u8>, text: &str, quotes: bool) {
    for &byte in text.as_bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if quotes => out.extend_from_slice(b"\\\""),
            byte => out.push(byte),
        }
    }
}

/// Appends a name in a place where one that is not legal goes in quotes.
pub(crate) fn push_name(out: &mut Vec<u8>, name: &str, legal: bool) {
    if legal {
        out.extend_from_slice(name.as_bytes());
    } else {
        out.push(b'"');
        push_quoted(out, name);
        out.push(b'"');
    }
}
