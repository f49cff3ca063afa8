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
        let path = place(&error, &work);
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

/// The path of an error, down to the key at fault where serde buffered the table and names only that.
fn place(error: &DecodeError, work: &Node) -> Vec<String> {
    let mut path = error.path();
    let Some(Value::Table(table)) = work.get(&path).map(|node| &node.value) else { return path };
    let inner = match &*error.kind {
        Kind::UnknownKey { key, .. } if path.last() != Some(key) => table.get_key_value(key),
        Kind::UnknownVariant { variant, .. } => table
            .iter()
            .find(|(_, entry)| matches!(&entry.node.value, Value::String(text) if text == variant)),
        // A table that was expected to be something else is one of its values, where only one can be meant.
        Kind::Type { found, .. } | Kind::Value { found, .. } if found != "a table" => {
            let mut same =
                table.iter().filter(|(_, entry)| !entry.node.skip && entry.node.found() == *found);
            same.next().filter(|_| same.next().is_none())
        }
        _ => None,
    };
    path.extend(inner.map(|(key, _)| key.clone()));
    path
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
        let place = self.node().and_then(|node| node.at.clone());
        let name = self.name();
        match &*error.kind {
            Kind::UnknownKey { key, known } => self.unknown_key(key, known, schema),
            Kind::Type { expected, found } => self.mismatch(codes::BAD_TYPE, expected, found),
            Kind::Value { expected, found } => self.mismatch(codes::BAD_VALUE, expected, found),
            Kind::Length { expected } => self.mismatch(codes::BAD_VALUE, expected, &self.found()),
            Kind::UnknownVariant { variant, known } => {
                let list = known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
                let in_file = self.node().is_some_and(Node::is_from_file);
                let found = if in_file { self.found() } else { format!("{variant:?}") };
                let one_of = if known.len() == 1 { list } else { format!("one of {list}") };
                let error = Diagnostic::error(
                    codes::BAD_VALUE,
                    format!("{name} must be {one_of}, found {found}"),
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

    fn mismatch(&self, code: &'static str, expected: &str, found: &str) -> Diagnostic {
        let expected = expected_words(expected);
        let place = self.node().and_then(|node| node.at.clone());
        let is_secret = self.node().is_some_and(|node| !node.file_contents().is_empty());
        let found = if is_secret { self.found() } else { found.to_owned() };
        Diagnostic::error(code, format!("{} must be {expected}, found {found}", self.name()))
            .at(place, format!("expected {expected}"))
    }

    fn unknown_key(
        &self,
        key: &str,
        known: &[&'static str],
        schema: &dyn Fn() -> Schema,
    ) -> Diagnostic {
        let entry = self.work.entry(self.path);
        let table = self.path.split_last().map_or(self.path, |(_, table)| table);
        let place = entry.map(|entry| entry.key.clone()).or_else(|| self.node()?.at.clone());
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

    fn node(&self) -> Option<&Node> {
        self.work.get(self.path)
    }

    fn found(&self) -> String {
        self.node().map_or_else(|| "nothing".to_owned(), Node::found)
    }

    /// The text without the content of a file, which may be a secret.
    fn without_secret(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.node().map(Node::file_contents).unwrap_or_default() {
            for form in [secret, secret.trim(), &secret.escape_debug().to_string()] {
                if !form.is_empty() {
                    text = text.replace(form, "***");
                }
            }
        }
        text
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
    /// A string and its place.
    pub(crate) fn text(&self) -> Option<(String, Location)> {
        match &self.value {
            Value::String(text) => Some((text.clone(), self.at.clone()?)),
            _ => None,
        }
    }
}
