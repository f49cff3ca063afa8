//! Decodes a section and tells all that is wrong with it, not only the first thing.
//!
//! serde stops at the first error. So the value at fault is reported, left out, and the rest is decoded again, until
//! nothing is wrong any more; then what follows from something left out (a key "missing" since its value was bad) is
//! told apart from what is wrong by itself.

use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;

use crate::decode::{DecodeError, Kind, NodeDeserializer};
use crate::tree::{Node, Value};
use crate::{Diagnostic, Diagnostics, Location, codes, reference};

/// Errors told of one section.
const ERRORS_MAX: usize = 64;
/// Characters of a found value that a message repeats.
const FOUND_CHARS_MAX: usize = 60;

/// Decodes `node`, which is at the dotted `section`.
pub(crate) fn decode<T: DeserializeOwned + JsonSchema>(
    node: &Node,
    section: &str,
    reserved: &[&'static str],
) -> Result<T, Diagnostics> {
    let mut errors = Diagnostics::new();
    let mut work = node.clone();
    work.walk(&mut |node| {
        if !node.problems.is_empty() {
            errors.extend(node.problems.drain(..));
            node.skip = true;
        }
    });
    while errors.len() < ERRORS_MAX {
        let error = match T::deserialize(NodeDeserializer(&work)) {
            Ok(value) if errors.is_empty() => return Ok(value),
            Ok(_) => return Err(errors),
            Err(error) => error,
        };
        let path = error.path();
        if !is_reserved(&error, &path, reserved) && !follows(&error, &path, &work) {
            let schema = || schemars::schema_for!(T);
            errors.push(Report { work: &work, section, path: &path }.diagnostic(&error, &schema));
        }
        match work.get_mut(&path) {
            Some(node) if !path.is_empty() && !node.skip => node.skip = true,
            _ => break,
        }
    }
    Err(errors)
}

fn is_reserved(error: &DecodeError, path: &[String], reserved: &[&str]) -> bool {
    matches!(*error.kind, Kind::UnknownKey { .. })
        && matches!(path, [key] if reserved.contains(&key.as_str()))
}

/// Says whether the error is only there because something was left out.
fn follows(error: &DecodeError, path: &[String], work: &Node) -> bool {
    let Some(node) = work.get(path) else { return false };
    match &*error.kind {
        Kind::Missing { key } => node.child(key).is_some_and(|child| child.skip),
        Kind::UnknownKey { .. } | Kind::UnknownVariant { .. } | Kind::Type { .. } => false,
        Kind::Length { .. } | Kind::Value { .. } | Kind::Custom(_) => node.has_skipped(),
    }
}

/// The nearest of some names, where one is near enough to have been meant.
#[must_use]
pub fn similar<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names that users mistype are short; the distance takes time by the product of the lengths.
    if name.len() > 100 {
        return None;
    }
    let fold = |text: &str| text.to_lowercase().replace('-', "_");
    let name = fold(name);
    let distance = |k: &&str| strsim::damerau_levenshtein(&name, &fold(k));
    let near = known.into_iter().filter(|k| k.len() <= 100).min_by_key(distance)?;
    let limit = (name.chars().count().max(near.chars().count()) / 3).max(1);
    (distance(&near) <= limit).then_some(near)
}

struct Report<'a> {
    work: &'a Node,
    section: &'a str,
    path: &'a [String],
}

impl Report<'_> {
    fn diagnostic(&self, error: &DecodeError, schema: &dyn Fn() -> Schema) -> Diagnostic {
        let place = self.work.get(self.path).and_then(|node| node.at.clone());
        let name = self.name();
        match &*error.kind {
            Kind::UnknownKey { key, known } => self.unknown_key(key, known, schema),
            Kind::Type { expected } => self.mismatch(codes::BAD_TYPE, expected),
            Kind::Value { expected } | Kind::Length { expected } => {
                self.mismatch(codes::BAD_VALUE, expected)
            }
            Kind::UnknownVariant { variant, known } => {
                let list = known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
                let one_of = if known.len() == 1 { list } else { format!("one of {list}") };
                let error = Diagnostic::error(
                    codes::BAD_VALUE,
                    format!("{name} must be {one_of}, found {}", self.found()),
                );
                let error = error.at(place.clone(), "not one of them");
                match (similar(variant, known.iter().copied()), place) {
                    (Some(near), Some(at)) => {
                        error.help(format!("did you mean `{near}`?")).fix(at, format!("{near:?}"))
                    }
                    _ => error,
                }
            }
            Kind::Missing { key } => Diagnostic::error(
                codes::MISSING_KEY,
                format!("`{key}` is missing in {}", self.full()),
            )
            .at(place, format!("has no `{key}`"))
            .help(format!("add `{key} = …`")),
            Kind::Custom(text) => {
                let text = self.without_secret(text);
                let (text, help) = text.split_once("; ").unwrap_or((&text, ""));
                Diagnostic::error(codes::BAD_VALUE, format!("{name}: {text}"))
                    .at(place, "")
                    .help(help)
            }
        }
    }

    fn mismatch(&self, code: &'static str, expected: &str) -> Diagnostic {
        let expected = expected_words(expected);
        let place = self.work.get(self.path).and_then(|node| node.at.clone());
        Diagnostic::error(
            code,
            format!("{} must be {expected}, found {}", self.name(), self.found()),
        )
        .at(place, format!("expected {expected}"))
    }

    fn unknown_key(
        &self,
        key: &str,
        known: &[&'static str],
        schema: &dyn Fn() -> Schema,
    ) -> Diagnostic {
        // Where serde buffered the table, the error names the table and not the key.
        let direct =
            self.work.entry(self.path).filter(|_| self.path.last().is_some_and(|last| last == key));
        let entry = direct.or_else(|| match &self.work.get(self.path)?.value {
            Value::Table(table) => table.get(key),
            _ => None,
        });
        let table = if direct.is_some() {
            self.path.split_last().map_or(self.path, |(_, t)| t)
        } else {
            self.path
        };
        let place =
            entry.map(|entry| entry.key.clone()).or_else(|| self.work.get(table)?.at.clone());
        let error = Diagnostic::error(codes::UNKNOWN_KEY, format!("unknown key `{key}`"))
            .at(place.clone(), format!("not a setting of {}", join(self.section, table)));
        if let Some(near) = similar(key, known.iter().copied()) {
            let error = error.help(format!("did you mean `{near}`?"));
            return match place {
                Some(at) => error.fix(at, near),
                None => error,
            };
        }
        // The right word in the wrong table is as common as a typing error.
        let elsewhere = reference::keys(&schema()).into_iter().find(|path| {
            path.rsplit('.').next().is_some_and(|last| last == key) && *path != join("", table)
        });
        match elsewhere {
            Some(path) => error.help(format!("did you mean `{path}` of {}?", self.section)),
            None if known.is_empty() => error.note("it has no settings"),
            None => error.note(format!("known keys: {}", known.join(", "))),
        }
    }

    /// The value's name relative to the section, or the section's own.
    fn name(&self) -> String {
        if self.path.is_empty() {
            format!("`{}`", self.section)
        } else {
            format!("`{}`", join("", self.path))
        }
    }

    fn full(&self) -> String {
        join(self.section, self.path)
    }

    fn found(&self) -> String {
        self.work.get(self.path).map_or_else(|| "nothing".to_owned(), Node::found)
    }

    /// The text without the content of a file, which may be a secret.
    fn without_secret(&self, text: &str) -> String {
        match self.work.get(self.path).map(|node| (&node.value, &node.substituted)) {
            Some((Value::String(value), Some(s))) if s.file && !value.is_empty() => {
                text.replace(value, "***")
            }
            _ => text.to_owned(),
        }
    }
}

/// `a.b[0].c`
fn join(section: &str, path: &[String]) -> String {
    let mut out = section.to_owned();
    for segment in path {
        if segment.bytes().all(|b| b.is_ascii_digit()) && !out.is_empty() {
            out.push_str(&format!("[{segment}]"));
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(segment);
        }
    }
    out
}

/// serde's words for what it expected, in those of the people who write TOML.
fn expected_words(serde: &str) -> String {
    let integer = |min: i128, max: i128| format!("an integer from {min} to {max}");
    let words = match serde {
        "u8" => return integer(0, u8::MAX.into()),
        "u16" => return integer(0, u16::MAX.into()),
        "u32" => return integer(0, u32::MAX.into()),
        "i8" => return integer(i8::MIN.into(), i8::MAX.into()),
        "i16" => return integer(i16::MIN.into(), i16::MAX.into()),
        "i32" => return integer(i32::MIN.into(), i32::MAX.into()),
        "a nonzero u8" => return integer(1, u8::MAX.into()),
        "a nonzero u16" => return integer(1, u16::MAX.into()),
        "a nonzero u32" => return integer(1, u32::MAX.into()),
        "a nonzero u64" | "a nonzero usize" => "an integer of at least 1",
        "u64" | "usize" | "u128" => "an integer of at least 0",
        "i64" | "isize" | "i128" => "an integer",
        "f32" | "f64" => "a number",
        "a boolean" => "`true` or `false`",
        "a sequence" | "an array" => "a list",
        "a map" => "a table",
        "string or map" => "a string or a table",
        "path string" | "string" => "a string",
        _ if serde.starts_with("struct ") => "a table",
        _ if serde.starts_with("an array of ") || serde.starts_with("a tuple of size ") => {
            return serde
                .replace("an array of length ", "a list of ")
                .replace("a tuple of size ", "a list of ");
        }
        other => other,
    };
    words.to_owned()
}

impl Node {
    /// The value in words, for `found …`; content of files is not shown.
    pub(crate) fn found(&self) -> String {
        match &self.value {
            Value::String(_) if self.substituted.as_ref().is_some_and(|s| s.file) => {
                "the content of a file".to_owned()
            }
            Value::String(text) => {
                let mut short: String = text.chars().take(FOUND_CHARS_MAX).collect();
                if short.len() < text.len() {
                    short.push('…');
                }
                format!("the string {short:?}")
            }
            Value::Integer(n) => format!("the integer {n}"),
            Value::Float(n) => format!("the number {n}"),
            Value::Boolean(b) => format!("`{b}`"),
            Value::Datetime(d) => format!("the date {d}"),
            Value::Array(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
        }
    }

    /// A string and its place.
    pub(crate) fn text(&self) -> Option<(String, Location)> {
        match &self.value {
            Value::String(text) => Some((text.clone(), self.at.clone()?)),
            _ => None,
        }
    }
}
