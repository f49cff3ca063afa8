//! `config show`, `config schema` and the reference.

use expect_test::expect;
use schemars::schema_for;
use serde_json::json;
use toml::Value;

use super::{Config, Fixed, Tls};
use crate::schema::{ComponentSchema, TableSchema};
use crate::show::{Part, to_json, to_toml};
use crate::{Document, reference, schema};

fn effective(text: &str) -> (Document, Vec<Part>) {
    let sets = ["receivers.engines.port=1".to_owned()];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("inferometer.toml");
    std::fs::write(&file, text).unwrap();
    let document = Document::load_with(&[file], &sets, &Fixed).unwrap();
    let part = |(name, section): (String, crate::Section)| Part {
        path: vec!["receivers".to_owned(), name],
        value: Value::try_from(section.decode::<Config>().unwrap()).unwrap(),
    };
    let parts = document.table(&["receivers"]).into_iter().map(part).collect();
    (document, parts)
}

const TEXT: &str = "[receivers.engines]
type = \"prometheus\"
api_key = \"visible?\"
targets = [{ url = \"http://u:pass@a:1/x@y\" }, { url = \"http://b/${file:/key}\" }]
labels = { \"a b\" = \"${env:PORT}\", c = \"${file:/key}\", d = \"http://a/x:y@z\" }
";

#[test]
fn the_effective_configuration_shows_origins_and_no_secrets() {
    let (document, parts) = effective(TEXT);
    let name = document
        .origin(&["receivers", "engines", "api_key"])
        .unwrap()
        .at
        .source()
        .name()
        .to_owned();
    let out = to_toml(&document, &parts).replace(&name, "inferometer.toml");
    expect![[r#"
        [receivers.engines]
        type = "prometheus"  # inferometer.toml:2
        api_key = "***"  # inferometer.toml:3
        body_max = "64MiB"  # default
        honor_labels = false  # default
        keep = 1.0  # default
        port = 1  # --set
        scrape_interval = "10s"  # default
        targets = [{ url = "http://u:***@a:1/x@y", weight = 0 }, { url = "***", weight = 0 }]  # inferometer.toml:4
        tls = {}  # default
        unknown = "pass"  # default

        [receivers.engines.labels]
        "a b" = "9000"  # inferometer.toml:5 ${env:PORT}
        c = "***"  # inferometer.toml:5 ${file:/key}
        d = "http://a/x:y@z"  # inferometer.toml:5
    "#]].assert_eq(&out);
    assert!(out.parse::<toml::Table>().is_ok());
}

#[test]
fn the_effective_configuration_as_json() {
    let (document, parts) = effective(TEXT);
    let name = document
        .origin(&["receivers", "engines", "api_key"])
        .unwrap()
        .at
        .source()
        .name()
        .to_owned();
    let json = serde_json::to_string_pretty(&to_json(&document, &parts))
        .unwrap()
        .replace(&name, "inferometer.toml");
    expect![[r#"
        {
          "config": {
            "receivers": {
              "engines": {
                "api_key": "***",
                "body_max": "64MiB",
                "honor_labels": false,
                "keep": 1.0,
                "labels": {
                  "a b": "9000",
                  "c": "***",
                  "d": "http://a/x:y@z"
                },
                "port": 1,
                "scrape_interval": "10s",
                "targets": [
                  {
                    "url": "http://u:***@a:1/x@y",
                    "weight": 0
                  },
                  {
                    "url": "***",
                    "weight": 0
                  }
                ],
                "tls": {},
                "type": "prometheus",
                "unknown": "pass"
              }
            }
          },
          "origins": {
            "receivers.engines.api_key": "inferometer.toml:3",
            "receivers.engines.body_max": "default",
            "receivers.engines.honor_labels": "default",
            "receivers.engines.keep": "default",
            "receivers.engines.labels.\"a b\"": "inferometer.toml:5 ${env:PORT}",
            "receivers.engines.labels.c": "inferometer.toml:5 ${file:/key}",
            "receivers.engines.labels.d": "inferometer.toml:5",
            "receivers.engines.port": "--set",
            "receivers.engines.scrape_interval": "default",
            "receivers.engines.targets": "inferometer.toml:4",
            "receivers.engines.tls": "default",
            "receivers.engines.type": "inferometer.toml:2",
            "receivers.engines.unknown": "default"
          }
        }"#]]
    .assert_eq(&json);
}

#[test]
fn the_reference_lists_every_setting() {
    let defaults = Value::try_from(Config::default()).unwrap();
    expect![[r###"
        ## `prometheus`

        A component with one setting of every kind.

        | Setting | Type | Default | Meaning |
        |---|---|---|---|
        | `api_key` | string |  | The key to log in with. |
        | `body_max` | size | `"64MiB"` | Largest page that is read. |
        | `honor_labels` | `true`, `false` | `false` | Whether labels of the target win. |
        | `keep` | share | `1.0` | Share of requests kept. |
        | `labels` | table of string | `{}` | Added to every series. |
        | `port` | integer | `8000` | Port on every host. |
        | `scrape_interval` | duration | `"10s"` | Time between two scrapes. |
        | `targets` | list of table | `[]` | Where to scrape. |
        | `targets[].url` | string | required | Its address. |
        | `targets[].weight` | integer | `0` | Its weight. |
        | `tls` | table | `{}` | Transport security. |
        | `tls.ca_file` | string |  | Certificates to trust. |
        | `unknown` | `"pass"`, `"drop"` | `"pass"` | What to do with what is unknown. |
    "###]]
    .assert_eq(&reference::markdown("prometheus", &schema_for!(Config), &defaults));
}

#[test]
fn one_schema_describes_the_file() {
    let component = |type_name: &str, schema, engine| ComponentSchema {
        kind: "receivers".to_owned(),
        type_name: type_name.to_owned(),
        summary: format!("The {type_name}."),
        schema,
        engine,
    };
    let queue = ("queue".to_owned(), schema_for!(Tls));
    let components = [
        component("prometheus", schema_for!(Config), vec![queue]),
        component("host", schema_for!(Tls), vec![]),
    ];
    let admin = TableSchema { name: "admin".to_owned(), named: false, schema: schema_for!(Tls) };
    let schema = schema::document("Inferometer", &components, &[admin]);
    let mut references = Vec::new();
    collect(&schema, &mut references);
    assert!(references.len() > 5);
    for reference in references {
        assert!(
            schema.pointer(reference.trim_start_matches('#')).is_some(),
            "{reference} leads nowhere"
        );
    }
    let lines =
        ["admin", "receivers"].map(|name| format!("{}\n", schema["properties"][name])).concat();
    expect![[r##"
        {"additionalProperties":false,"description":"Transport security.","properties":{"ca_file":{"default":null,"description":"Certificates to trust.","type":["string","null"]}},"title":"Tls","type":"object"}
        {"additionalProperties":{"oneOf":[{"allOf":[{"$ref":"#/$defs/receivers.prometheus"},{"required":["type"]}]},{"allOf":[{"$ref":"#/$defs/receivers.host"},{"required":["type"]}]}]},"properties":{"host":{"description":"The host.","oneOf":[{"allOf":[{"$ref":"#/$defs/receivers.prometheus"},{"required":["type"]}]},{"$ref":"#/$defs/receivers.host"}]},"prometheus":{"description":"The prometheus.","oneOf":[{"$ref":"#/$defs/receivers.prometheus"},{"allOf":[{"$ref":"#/$defs/receivers.host"},{"required":["type"]}]}]}},"type":"object"}
    "##]].assert_eq(&lines);
    assert_eq!(schema["$defs"]["receivers.host"]["properties"]["type"]["const"], json!("host"));
    assert_eq!(schema["$defs"]["receivers.host"]["additionalProperties"], json!(false));
}

fn collect<'a>(value: &'a serde_json::Value, out: &mut Vec<&'a str>) {
    match value {
        serde_json::Value::Object(object) => {
            out.extend(object.get("$ref").and_then(serde_json::Value::as_str));
            object.values().for_each(|inner| collect(inner, out));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|inner| collect(inner, out)),
        _ => {}
    }
}
