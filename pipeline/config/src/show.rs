//! The configuration as it takes effect: every setting, where it comes from, and no secrets.

use serde_json::{Map, json};
use toml::{Table, Value};

use crate::Document;
use crate::reference::{bare, inline};

/// What stands for a secret.
const MASK: &str = "***";
/// Ends of the names of keys that hold secrets.
const SECRET_KEYS: [&str; 10] = [
    "token",
    "tokens",
    "password",
    "passphrase",
    "secret",
    "api_key",
    "apikey",
    "license_key",
    "authorization",
    "credentials",
];

/// One table of the effective configuration.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its path: `["receivers", "engines"]`.
    pub path: Vec<String>,
    /// Its settings, with defaults filled in.
    pub value: Value,
}

/// The parts as TOML; each setting has its origin beside it: `# inferometer.toml:12`, `# --set`, `# default`.
#[must_use]
pub fn to_toml(document: &Document, parts: &[Part]) -> String {
    let mut out = String::new();
    for part in redacted(document, parts) {
        if let Value::Table(table) = &part.value {
            table_text(document, &part.path, table, &mut out);
        }
    }
    out
}

/// The parts as JSON: `{"config": {...}, "origins": {"receivers.engines.interval": "inferometer.toml:12"}}`.
#[must_use]
pub fn to_json(document: &Document, parts: &[Part]) -> serde_json::Value {
    let mut config = json!({});
    let mut origins = Map::new();
    for part in redacted(document, parts) {
        let place = part.path.iter().try_fold(&mut config, |at, key| {
            Some(at.as_object_mut()?.entry(key.as_str()).or_insert_with(|| json!({})))
        });
        if let Some(place) = place {
            // What JSON cannot say (a float that is no number) becomes null.
            *place = serde_json::to_value(&part.value).unwrap_or_default();
        }
        origins_of(document, &part.path, &part.value, &mut origins);
    }
    json!({ "config": config, "origins": origins })
}

/// Hides what looks like a secret: values of keys such as `api_key`, what `${file:}` read, passwords in URLs. Types
/// that know themselves to be secret serialise as `***` already.
pub fn redact(document: &Document, value: &mut Value) {
    mask(value, &document.file_contents(), false);
}

fn redacted(document: &Document, parts: &[Part]) -> Vec<Part> {
    let secrets = document.file_contents();
    let one = |part: &Part| {
        let mut part = part.clone();
        let type_path: Vec<&str> = part.path.iter().map(String::as_str).chain(["type"]).collect();
        if let (Value::Table(table), Some(name)) = (&mut part.value, document.text(&type_path)) {
            table.entry("type").or_insert_with(|| Value::from(name));
        }
        mask(&mut part.value, &secrets, false);
        part
    };
    parts.iter().map(one).collect()
}

fn mask(value: &mut Value, secrets: &[&str], is_secret: bool) {
    match value {
        Value::String(text) => {
            // Short contents could be part of anything; those are only hidden where they are the whole value.
            let from_file = secrets.iter().any(|s| s == text || (s.len() >= 4 && text.contains(s)));
            if (is_secret || from_file) && !text.is_empty() {
                MASK.clone_into(text);
            } else if let Some(without) = without_password(text) {
                *text = without;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| mask(item, secrets, is_secret)),
        Value::Table(table) => {
            for (key, inner) in table.iter_mut() {
                let key = key.to_lowercase().replace('-', "_");
                mask(inner, secrets, SECRET_KEYS.iter().any(|end| key.ends_with(end)));
            }
        }
        _ => {}
    }
}

/// `http://user:password@host` without the password; `None` where there is none.
fn without_password(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user_info, _) = authority.rsplit_once('@')?;
    let (user, _) = user_info.split_once(':')?;
    let after = rest.strip_prefix(user_info)?;
    Some(format!("{scheme}://{user}:{MASK}{after}"))
}

fn table_text(document: &Document, path: &[String], table: &Table, out: &mut String) {
    let is_table = |value: &Value| value.as_table().is_some_and(|t| !t.is_empty());
    let (tables, plain): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| is_table(value));
    if !plain.is_empty() || tables.is_empty() {
        if !out.is_empty() {
            out.push('\n');
        }
        let header = path.iter().map(|key| bare(key)).collect::<Vec<_>>().join(".");
        out.push_str(&format!("[{header}]\n"));
    }
    let (types, others): (Vec<_>, Vec<_>) = plain.into_iter().partition(|(key, _)| *key == "type");
    for (key, value) in types.into_iter().chain(others) {
        let inner = inner_path(path, key);
        out.push_str(&format!(
            "{} = {}  # {}\n",
            bare(key),
            inline(value),
            origin_words(document, &inner)
        ));
    }
    for (key, value) in tables {
        if let Value::Table(table) = value {
            table_text(document, &inner_path(path, key), table, out);
        }
    }
}

fn origins_of(
    document: &Document,
    path: &[String],
    value: &Value,
    out: &mut Map<String, serde_json::Value>,
) {
    match value {
        Value::Table(table) if !table.is_empty() => {
            for (key, value) in table {
                origins_of(document, &inner_path(path, key), value, out);
            }
        }
        _ => {
            let name = path.iter().map(|key| bare(key)).collect::<Vec<_>>().join(".");
            out.insert(name, origin_words(document, path).into());
        }
    }
}

fn inner_path(path: &[String], key: &str) -> Vec<String> {
    path.iter().cloned().chain([key.to_owned()]).collect()
}

/// `inferometer.toml:12 ${env:NAME}`
fn origin_words(document: &Document, path: &[String]) -> String {
    let Some(origin) = document.origin(path) else { return "default".to_owned() };
    let file = origin.at.source().name();
    let mut words = if file == crate::load::SET {
        file.to_owned()
    } else {
        format!("{file}:{}", origin.at.line_column().0)
    };
    for reference in &origin.references {
        words.push(' ');
        words.push_str(reference);
    }
    // A reference may hold a line break, which would end the comment.
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
