//! Reference pages from the JSON schema of a type: its doc comments are the documentation.

use schemars::Schema;
use serde_json::{Map, Value};

/// Tables inside tables that a page shows; a type that contains itself would never end.
const DEPTH_MAX: usize = 6;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Dotted path; `[]` stands for an element of a list, `*` for a name the user chooses.
    pub path: String,
    /// The type in words: `duration`, `list of string`.
    pub type_words: String,
    /// Whether it must be given.
    pub required: bool,
    /// What the schema says it is when absent; only plain values.
    pub default: Option<Value>,
    /// The doc comment, on one line.
    pub description: String,
}

/// All settings of a type, by name; tables come before what is in them.
#[must_use]
pub fn settings(schema: &Schema) -> Vec<Setting> {
    let mut out = Vec::new();
    collect(schema.as_value(), schema.as_value(), "", 0, &mut out);
    out
}

/// The dotted paths of all settings.
pub(crate) fn keys(schema: &Schema) -> Vec<String> {
    settings(schema).into_iter().map(|setting| setting.path).collect()
}

/// A table of all settings in Markdown: name, type, default, description.
#[must_use]
pub fn markdown(type_name: &str, schema: &Schema, defaults: &toml::Value) -> String {
    let mut out = format!("## `{type_name}`\n\n");
    if let Some(text) = schema.get("description").and_then(Value::as_str) {
        out.push_str(&format!("{text}\n\n"));
    }
    let settings = settings(schema);
    if settings.is_empty() {
        out.push_str("No settings.\n");
        return out;
    }
    out.push_str("| Setting | Type | Default | Meaning |\n|---|---|---|---|\n");
    for setting in &settings {
        let default = match default_of(defaults, &setting.path) {
            Some(value) => format!("`{}`", inline(value)),
            None if setting.required => "required".to_owned(),
            None => setting.default.as_ref().map_or_else(String::new, |value| format!("`{value}`")),
        };
        let cells = [
            format!("`{}`", setting.path),
            setting.type_words.clone(),
            default,
            setting.description.clone(),
        ];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    out
}

/// A value as it is written after `key =`.
pub(crate) fn inline(value: &toml::Value) -> String {
    match value {
        toml::Value::Array(list) => {
            format!("[{}]", list.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        toml::Value::Table(table) if table.is_empty() => "{}".to_owned(),
        toml::Value::Table(table) => {
            let entry = |(key, value): (&String, &toml::Value)| {
                format!("{} = {}", bare(key), inline(value))
            };
            format!("{{ {} }}", table.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A key as TOML wants it, in quotes where it must.
pub(crate) fn bare(key: &str) -> String {
    let plain =
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if plain { key.to_owned() } else { toml::Value::from(key).to_string() }
}

fn default_of<'a>(defaults: &'a toml::Value, path: &str) -> Option<&'a toml::Value> {
    path.split('.').try_fold(defaults, |value, key| value.as_table()?.get(key)).filter(|value| {
        // Tables have rows of their own.
        value.as_table().is_none_or(toml::Table::is_empty)
    })
}

fn collect(root: &Value, schema: &Value, prefix: &str, depth: usize, out: &mut Vec<Setting>) {
    if depth > DEPTH_MAX {
        return;
    }
    for table in alternatives(root, schema) {
        let Some(properties) = table.get("properties").and_then(Value::as_object) else { continue };
        let required = |name: &str| {
            table
                .get("required")
                .and_then(Value::as_array)
                .is_some_and(|list| list.iter().any(|r| r == name))
        };
        for (name, property) in properties {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            if out.iter().any(|setting| setting.path == path) {
                continue;
            }
            out.push(Setting {
                type_words: type_words(root, property, 0),
                required: required(name),
                default: property
                    .get("default")
                    .filter(|v| !v.is_null() && !v.is_object())
                    .cloned(),
                description: description(root, property),
                path: path.clone(),
            });
            inside(root, property, &path, depth, out);
        }
    }
}

/// What is in a property: a table, a list of tables, tables by name.
fn inside(root: &Value, property: &Value, path: &str, depth: usize, out: &mut Vec<Setting>) {
    for one in alternatives(root, property) {
        if one.contains_key("properties") {
            collect(root, &Value::Object(one.clone()), path, depth + 1, out);
        } else if let Some(items) = one.get("items") {
            collect(root, items, &format!("{path}[]"), depth + 1, out);
        } else if let Some(items) = one.get("additionalProperties") {
            collect(root, items, &format!("{path}.*"), depth + 1, out);
        }
    }
}

/// The schema behind references, or the several that it may be; `null` is not among them.
fn alternatives<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Map<String, Value>> {
    let mut out = Vec::new();
    let mut todo = vec![(schema, 0)];
    while let Some((schema, depth)) = todo.pop() {
        let Some(object) = schema.as_object().filter(|_| depth <= DEPTH_MAX) else { continue };
        if let Some(target) = object.get("$ref").and_then(Value::as_str) {
            todo.extend(
                root.pointer(target.trim_start_matches('#')).map(|target| (target, depth + 1)),
            );
        }
        for key in ["oneOf", "anyOf", "allOf"] {
            let list = object.get(key).and_then(Value::as_array).into_iter().flatten();
            todo.extend(list.rev().map(|one| (one, depth + 1)));
        }
        let is_null = object.get("type").is_some_and(|t| t == "null");
        if !is_null
            && ["properties", "items", "additionalProperties"]
                .iter()
                .any(|key| object.contains_key(*key))
        {
            out.push(object);
        }
    }
    out
}

fn description(root: &Value, schema: &Value) -> String {
    let own = schema.get("description").and_then(Value::as_str);
    let target = schema.get("$ref").and_then(Value::as_str);
    let target =
        target.and_then(|t| root.pointer(t.trim_start_matches('#'))?.get("description")?.as_str());
    own.or(target).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn type_words(root: &Value, schema: &Value, depth: usize) -> String {
    let any = || "any value".to_owned();
    let Some(object) = schema.as_object().filter(|_| depth <= DEPTH_MAX) else { return any() };
    if let Some(words) = object.get("x-type").and_then(Value::as_str) {
        return words.to_owned();
    }
    if let Some(target) = object.get("$ref").and_then(Value::as_str) {
        return root
            .pointer(target.trim_start_matches('#'))
            .map_or_else(any, |target| type_words(root, target, depth + 1));
    }
    if let Some(value) = object.get("const") {
        return format!("`{value}`");
    }
    if let Some(values) = object.get("enum").and_then(Value::as_array) {
        return values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        if let Some(list) = object.get(key).and_then(Value::as_array) {
            let mut words: Vec<String> = Vec::new();
            for one in list.iter().filter(|one| one.get("type").is_none_or(|t| t != "null")) {
                let one = type_words(root, one, depth + 1);
                if !words.contains(&one) {
                    words.push(one);
                }
            }
            let consts = words.iter().all(|word| word.starts_with('`'));
            return words.join(if consts { ", " } else { " or " });
        }
    }
    let name = match object.get("type") {
        Some(Value::String(name)) => name.as_str(),
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|n| *n != "null").unwrap_or("any")
        }
        _ => return any(),
    };
    match name {
        "array" => match object.get("items") {
            Some(items) => format!("list of {}", type_words(root, items, depth + 1)),
            None => "list".to_owned(),
        },
        "object" => match object.get("additionalProperties") {
            Some(items) if items.is_object() => {
                format!("table of {}", type_words(root, items, depth + 1))
            }
            _ => "table".to_owned(),
        },
        "string" if object.get("format").is_some_and(|f| f == "password") => "secret".to_owned(),
        "boolean" => "`true`, `false`".to_owned(),
        other => other.to_owned(),
    }
}
