//! One JSON Schema for a whole file, for editors.

use schemars::Schema;
use serde_json::{Map, Value, json};

/// The schema of one component type.
#[derive(Clone, Debug)]
pub struct ComponentSchema {
    /// The table it is configured in: `receivers`.
    pub kind: String,
    /// Its `type`.
    pub type_name: String,
    /// One line: what it is for.
    pub summary: String,
    /// Its own settings.
    pub schema: Schema,
    /// Settings in the same table that the engine reads.
    pub engine: Vec<(String, Schema)>,
}

/// The schema of a table that is not a component.
#[derive(Clone, Debug)]
pub struct TableSchema {
    /// Its top-level name: `admin`, `pipelines`.
    pub name: String,
    /// Whether it is a table of such tables, each under a name of the user's.
    pub named: bool,
    /// What is in it.
    pub schema: Schema,
}

/// The schema of a whole file. The settings of a component depend on its `type`, which may be left out where the
/// component's name is a type.
#[must_use]
pub fn document(title: &str, components: &[ComponentSchema], tables: &[TableSchema]) -> Value {
    let mut defs = Map::new();
    let mut properties = Map::new();
    let mut kinds: Vec<&str> = Vec::new();
    for component in components {
        if !kinds.contains(&component.kind.as_str()) {
            kinds.push(&component.kind);
        }
        let name = definition(component);
        let mut schema = take_apart(&component.schema, &name, &mut defs);
        let mut own = Map::new();
        own.insert(
            "type".to_owned(),
            json!({ "const": component.type_name, "description": component.summary }),
        );
        for (key, schema) in &component.engine {
            own.insert(key.clone(), take_apart(schema, &format!("{name}.{key}"), &mut defs));
        }
        if let Some(object) = schema.as_object_mut() {
            let properties = object.entry("properties").or_insert_with(|| json!({}));
            if let Some(properties) = properties.as_object_mut() {
                // A type that has a setting of that name keeps it.
                own.retain(|key, _| !properties.contains_key(key));
                properties.extend(own);
            }
        }
        defs.insert(name, schema);
    }
    for kind in kinds {
        let of_kind: Vec<_> =
            components.iter().filter(|component| component.kind == kind).collect();
        properties.insert(kind.to_owned(), kind_schema(&of_kind));
    }
    for table in tables {
        let schema = take_apart(&table.schema, &table.name, &mut defs);
        let schema = if table.named {
            json!({ "type": "object", "additionalProperties": schema })
        } else {
            schema
        };
        properties.insert(table.name.clone(), schema);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "$defs": defs,
    })
}

fn definition(component: &ComponentSchema) -> String {
    format!("{}.{}", component.kind, component.type_name)
}

fn kind_schema(components: &[&ComponentSchema]) -> Value {
    let reference = |c: &ComponentSchema| json!({ "$ref": format!("#/$defs/{}", definition(c)) });
    let typed = |c: &ComponentSchema| json!({ "allOf": [reference(c), { "required": ["type"] }] });
    let by_name = components.iter().map(|named| {
        let one = |c: &&ComponentSchema| {
            if c.type_name == named.type_name { reference(c) } else { typed(c) }
        };
        let choice: Vec<Value> = components.iter().map(one).collect();
        (named.type_name.clone(), json!({ "description": named.summary, "oneOf": choice }))
    });
    let others: Vec<Value> = components.iter().map(|c| typed(c)).collect();
    json!({
        "type": "object",
        "properties": by_name.collect::<Map<_, _>>(),
        "additionalProperties": { "oneOf": others },
    })
}

/// The schema without its own definitions, which go to `defs` under names that start with `name`.
fn take_apart(schema: &Schema, name: &str, defs: &mut Map<String, Value>) -> Value {
    let mut value = schema.as_value().clone();
    rename(&mut value, name);
    if let Some(object) = value.as_object_mut() {
        object.remove("$schema");
        if let Some(Value::Object(own)) = object.remove("$defs") {
            defs.extend(own.into_iter().map(|(key, schema)| (format!("{name}.{key}"), schema)));
        }
    }
    value
}

/// Points references to the new names; a type that contains itself refers to `#`.
fn rename(value: &mut Value, name: &str) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|one| rename(one, name)),
        Value::Object(object) => {
            for (key, inner) in object.iter_mut() {
                match inner {
                    Value::String(target) if key == "$ref" => {
                        *target = match target.strip_prefix("#/$defs/") {
                            Some(own) => format!("#/$defs/{name}.{own}"),
                            None => format!("#/$defs/{name}"),
                        };
                    }
                    _ => rename(inner, name),
                }
            }
        }
        _ => {}
    }
}
