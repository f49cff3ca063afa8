//! `inferometer config`: what is configured, and what can be.

use pipeline_admin::AdminSettings;
use pipeline_component::{Factories, Factory};
use pipeline_config::reference::Setting;
use pipeline_config::schema::{ComponentSchema, TableSchema};
use pipeline_config::show::{Part, to_json, to_toml};
use pipeline_config::{Diagnostics, Document, codes, reference, similar};
use pipeline_engine::{PipelineConfig, Service};
use schemars::{JsonSchema, Schema, schema_for};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::agent;
use crate::cli::Global;
use crate::components::factories;
use crate::exit::Exit;
use crate::terminal::{answer, remark};

/// Prints the merged configuration: with every default, or only what the files say.
pub(crate) fn show(global: &Global, key: Option<&str>, given: bool) -> Exit {
    let document = match agent::load(global) {
        Ok(document) => document,
        Err(exit) => return exit,
    };
    let mut parts = match effective(&document) {
        Ok(parts) => parts,
        Err(found) => {
            agent::tell(global, &found);
            return Exit::Config;
        }
    };
    if given {
        parts.iter_mut().for_each(|part| keep_given(&document, &part.path, &mut part.value));
    }
    if let Some(key) = key {
        parts = match at_key(parts, key) {
            Some(part) => vec![part],
            None => {
                remark(&format!(
                    "error: nothing is configured at `{key}`\nhelp: `inferometer config show` shows all"
                ));
                return Exit::Usage;
            }
        };
    }
    if global.json {
        return answer(&to_json(&document, &parts).to_string());
    }
    answer(&to_toml(&document, &parts))
}

/// Every table with its defaults filled in.
fn effective(document: &Document) -> Result<Vec<Part>, Diagnostics> {
    let mut found = Diagnostics::new();
    let mut parts = vec![
        Part { path: path(&["service"]), value: table::<Service>(document, "service", &mut found) },
        Part {
            path: path(&["admin"]),
            value: table::<AdminSettings>(document, "admin", &mut found),
        },
    ];
    let all = factories();
    parts.extend(components(document, "receivers", &all.receivers, &mut found));
    parts.extend(components(document, "processors", &all.processors, &mut found));
    parts.extend(components(document, "exporters", &all.exporters, &mut found));
    for (name, section) in document.table(&["pipelines"]) {
        if let Some(config) = found.keep(section.decode::<PipelineConfig>()) {
            parts.push(Part { path: path(&["pipelines", &name]), value: value_of(&config) });
        }
    }
    // Names and types that do not fit are told by the same check that `run` makes.
    found.keep(
        agent::build(document, &pipeline_component::telemetry::Telemetry::default()).map(drop),
    );
    if found.has_errors() { Err(found) } else { Ok(parts) }
}

fn path(segments: &[&str]) -> Vec<String> {
    segments.iter().map(|segment| (*segment).to_owned()).collect()
}

fn value_of(config: &impl Serialize) -> toml::Value {
    toml::Value::try_from(config).unwrap_or_else(|_| toml::Value::Table(toml::Table::new()))
}

fn table<T>(document: &Document, name: &str, found: &mut Diagnostics) -> toml::Value
where
    T: Default + Serialize + DeserializeOwned + JsonSchema,
{
    match document.section(&[name]) {
        None => value_of(&T::default()),
        Some(section) => value_of(&found.keep(section.decode::<T>()).unwrap_or_default()),
    }
}

fn components<B>(
    document: &Document,
    kind: &str,
    factories: &[Factory<B>],
    found: &mut Diagnostics,
) -> Vec<Part> {
    let mut parts = Vec::new();
    for (name, section) in document.table(&[kind]) {
        let type_name = section.text(&["type"]).map_or_else(|| name.clone(), |(text, _)| text);
        let Some(factory) = factories.iter().find(|factory| factory.type_name == type_name) else {
            continue;
        };
        if let Some(mut value) = found.keep((factory.effective)(&section)) {
            if let Some(table) = value.as_table_mut() {
                table.insert("type".to_owned(), factory.type_name.into());
            }
            parts.push(Part { path: path(&[kind, &name]), value });
        }
    }
    parts
}

/// Removes what no file says.
fn keep_given(document: &Document, path: &[String], value: &mut toml::Value) {
    let Some(table) = value.as_table_mut() else { return };
    let names: Vec<String> = table.keys().cloned().collect();
    for name in names {
        let inner: Vec<String> = path.iter().cloned().chain([name.clone()]).collect();
        if document.origin(&inner).is_none() {
            table.remove(&name);
        } else if let Some(value) = table.get_mut(&name) {
            keep_given(document, &inner, value);
        }
    }
}

/// The part at a dotted key, or what is within a part; tables above parts are put together.
fn at_key(parts: Vec<Part>, key: &str) -> Option<Part> {
    let wanted: Vec<String> = key.split('.').map(str::to_owned).collect();
    let mut whole = toml::Table::new();
    for Part { path, value } in parts {
        if wanted.starts_with(&path) {
            let rest = wanted.get(path.len()..).unwrap_or_default();
            let inner = rest.iter().try_fold(&value, |value, key| value.get(key))?.clone();
            return Some(Part { path: wanted, value: inner });
        }
        if path.starts_with(&wanted)
            && let Some(name) = path.get(wanted.len())
        {
            whole.insert(name.clone(), value);
        }
    }
    (!whole.is_empty()).then_some(Part { path: wanted, value: toml::Value::Table(whole) })
}

/// Explains an error code, a component type (or another table of the file), or one setting.
pub(crate) fn explain(global: &Global, what: &str) -> Exit {
    if let Some(page) = codes::explain(what) {
        return if global.json {
            answer(&json!({ "code": what, "page": page }).to_string())
        } else {
            answer(page)
        };
    }
    let schemas = schemas();
    if let Some((table, schema)) = schemas.iter().find(|(table, _)| table == what) {
        let settings = reference::settings(schema);
        if global.json {
            let all: Vec<_> = settings.iter().map(|setting| row(table, setting)).collect();
            return answer(&serde_json::Value::Array(all).to_string());
        }
        let lines: Vec<String> = settings
            .iter()
            .map(|setting| {
                format!("{:<28} {:<16} {}", setting.path, default_of(setting), setting.description)
            })
            .collect();
        return answer(&format!("{table}\n{}", lines.join("\n")));
    }
    let mut names: Vec<String> = codes::all().map(str::to_owned).collect();
    for (table, schema) in &schemas {
        for setting in reference::settings(schema) {
            let name = format!("{table}.{}", setting.path);
            if name == what {
                return answer(&if global.json {
                    row(table, &setting).to_string()
                } else {
                    page(&name, &setting)
                });
            }
            names.push(name);
        }
    }
    names.extend(schemas.into_iter().map(|(table, _)| table));
    let near = similar(what, names.iter().map(String::as_str));
    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    remark(&format!(
        "error: no setting, component type or error code `{what}`{hint}\nhelp: write the type's name: receivers.prometheus, receivers.prometheus.interval, or a code: config::unknown-key"
    ));
    Exit::Usage
}

fn default_of(setting: &Setting) -> String {
    match &setting.default {
        _ if setting.required => "required".to_owned(),
        None => "none".to_owned(),
        Some(value) => value.to_string(),
    }
}

fn page(name: &str, setting: &Setting) -> String {
    let Setting { description, type_words, .. } = setting;
    format!(
        "{name}\n  {description}\n\n  type     {type_words}\n  default  {}\n",
        default_of(setting)
    )
}

fn row(table: &str, setting: &Setting) -> serde_json::Value {
    json!({
        "setting": format!("{table}.{}", setting.path),
        "type": setting.type_words,
        "required": setting.required,
        "default": setting.default,
        "description": setting.description,
    })
}

/// Every table that settings can be in, by its path with type names.
fn schemas() -> Vec<(String, Schema)> {
    let mut all = vec![
        ("service".to_owned(), schema_for!(Service)),
        ("admin".to_owned(), schema_for!(AdminSettings)),
        ("pipelines".to_owned(), schema_for!(PipelineConfig)),
    ];
    let Factories { receivers, processors, exporters } = factories();
    all.extend(receivers.iter().map(|f| (format!("receivers.{}", f.type_name), (f.schema)())));
    all.extend(processors.iter().map(|f| (format!("processors.{}", f.type_name), (f.schema)())));
    all.extend(exporters.iter().map(|f| (format!("exporters.{}", f.type_name), (f.schema)())));
    all
}

/// Prints the JSON Schema of the whole file.
pub(crate) fn schema() -> Exit {
    let Factories { receivers, processors, exporters } = factories();
    let mut components = Vec::new();
    components.extend(receivers.iter().map(|factory| component_schema("receivers", factory)));
    components.extend(processors.iter().map(|factory| component_schema("processors", factory)));
    components.extend(exporters.iter().map(|factory| component_schema("exporters", factory)));
    let table = |name: &str, named, schema| TableSchema { name: name.to_owned(), named, schema };
    let tables = [
        table("service", false, schema_for!(Service)),
        table("admin", false, schema_for!(AdminSettings)),
        table("pipelines", true, schema_for!(PipelineConfig)),
    ];
    let whole = pipeline_config::schema::document("inferometer", &components, &tables);
    answer(&serde_json::to_string_pretty(&whole).unwrap_or_default())
}

fn component_schema<B>(kind: &str, factory: &Factory<B>) -> ComponentSchema {
    ComponentSchema {
        kind: kind.to_owned(),
        type_name: factory.type_name.to_owned(),
        summary: factory.summary.to_owned(),
        schema: (factory.schema)(),
        engine: Vec::new(),
    }
}
