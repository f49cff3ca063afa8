//! Tests of messages and of everything that joins several parts.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use expect_test::{Expect, expect};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ByteSize, Color, Diagnostics, Document, Duration, Environment, Ratio, Section, codes};

/// A component with one setting of every kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Time between two scrapes.
    pub scrape_interval: Duration,
    /// Largest page that is read.
    pub body_max: ByteSize,
    /// Share of requests kept.
    pub keep: Ratio,
    /// Port on every host.
    pub port: u16,
    /// Whether labels of the target win.
    pub honor_labels: bool,
    /// What to do with what is unknown.
    pub unknown: Unknown,
    /// Where to scrape.
    pub targets: Vec<Target>,
    /// Added to every series.
    pub labels: BTreeMap<String, String>,
    /// Transport security.
    pub tls: Tls,
    /// The key to log in with.
    pub api_key: Option<String>,
}

/// What to do with unknown metrics.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unknown {
    /// Pass it on.
    Pass,
    /// Drop it.
    Drop,
}

/// One place to scrape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// Its address.
    pub url: String,
    /// Its weight.
    #[serde(default)]
    pub weight: u8,
}

/// Transport security.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    /// Certificates to trust.
    pub ca_file: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scrape_interval: Duration::from_secs(10),
            body_max: ByteSize::from_mib(64),
            keep: Ratio::new(1.0).unwrap(),
            port: 8000,
            honor_labels: false,
            unknown: Unknown::Pass,
            targets: Vec::new(),
            labels: BTreeMap::new(),
            tls: Tls::default(),
            api_key: None,
        }
    }
}

/// A fixed environment: PORT, EMPTY and TOKEN are set; /key can be read.
pub(crate) struct Fixed;

impl Environment for Fixed {
    fn var(&self, name: &str) -> Option<String> {
        match name {
            "PORT" => Some("9000".to_owned()),
            "EMPTY" => Some(String::new()),
            "TOKEN" => Some("t0ken${env:PORT}".to_owned()),
            "TRUE" => Some("true".to_owned()),
            _ => None,
        }
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("/key") => Ok("hunter2\r\n".to_owned()),
            Some("/denied") => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
            _ => Err(io::Error::from_raw_os_error(2)),
        }
    }
}

fn parse(text: &str) -> Document {
    Document::parse_with("inferometer.toml", text, &Fixed).unwrap()
}

fn engines(document: &Document) -> Section {
    document.table(&["receivers"]).into_iter().next().unwrap().1
}

/// Everything wrong with the receiver `engines` of a file with this body.
fn errors(body: &str) -> Diagnostics {
    let text = format!("[receivers.engines]\ntype = \"prometheus\"\n{body}");
    engines(&parse(&text)).decode::<Config>().map_or_else(|e| e, |_| Diagnostics::new())
}

fn told(errors: &Diagnostics) -> String {
    format!("{}\n{}\n", errors.render(Color::Never), errors.summary())
}

fn check(body: &str, expected: &Expect) {
    expected.assert_eq(&told(&errors(body)));
}

#[test]
fn unknown_key() {
    check(
        "scrape_intervall = \"15s\"\n",
        &expect![[r#"
        error[config::unknown-key]: unknown key `scrape_intervall`
         --> inferometer.toml:3:1
          |
        3 | scrape_intervall = "15s"
          | ^^^^^^^^^^^^^^^^ not a setting of receivers.engines
          |
        help: did you mean `scrape_interval`?

        1 error in inferometer.toml
    "#]],
    );
}

#[test]
fn unknown_key_that_belongs_elsewhere_or_nowhere() {
    check(
        "ca_file = \"/ca\"\ntls = { nonsense = 1 }\n",
        &expect![[r#"
        error[config::unknown-key]: unknown key `ca_file`
         --> inferometer.toml:3:1
          |
        3 | ca_file = "/ca"
          | ^^^^^^^ not a setting of receivers.engines
          |
        help: did you mean `tls.ca_file` of receivers.engines?

        error[config::unknown-key]: unknown key `nonsense`
         --> inferometer.toml:4:9
          |
        4 | tls = { nonsense = 1 }
          |         ^^^^^^^^ not a setting of receivers.engines.tls
          |
          = note: known keys: ca_file

        2 errors in inferometer.toml
    "#]],
    );
}

#[test]
fn bad_values() {
    check(
        "scrape_interval = 15\nbody_max = \"64\"\nkeep = 25\nunknown = \"dorp\"\nport = 70000\n",
        &expect![[r#"
            error[config::bad-value]: `scrape_interval`: a duration needs a unit, found 15
             --> inferometer.toml:3:19
              |
            3 | scrape_interval = 15
              |                   ^^
              |
            help: write `"15s"` for seconds, `"15ms"` for milliseconds

            error[config::bad-value]: `body_max`: a size needs a unit, found 64
             --> inferometer.toml:4:12
              |
            4 | body_max = "64"
              |            ^^^^
              |
            help: write `"64B"` for bytes, `"64MiB"` for mebibytes

            error[config::bad-value]: `keep`: 25 is not from 0 to 1
             --> inferometer.toml:5:8
              |
            5 | keep = 25
              |        ^^
              |
            help: a quarter is `0.25` or `"25%"`

            error[config::bad-value]: `unknown` must be one of `pass`, `drop`, found "dorp"
             --> inferometer.toml:6:11
              |
            6 | unknown = "dorp"
              |           ^^^^^^ not one of them
              |
            help: did you mean `drop`?

            error[config::bad-value]: `port` must be an integer from 0 to 65535, found the integer 70000
             --> inferometer.toml:7:8
              |
            7 | port = 70000
              |        ^^^^^ expected an integer from 0 to 65535

            5 errors in inferometer.toml
        "#]],
    );
}

#[test]
fn wrong_types() {
    check(
        "scrape_interval = [1]\nhonor_labels = \"yes\"\ntargets = \"http://a\"\nlabels = { a = 1 }\nport = 1.5\ntls = true\n",
        &expect![[r#"
            error[config::bad-type]: `scrape_interval` must be a duration such as "10s", found a list
             --> inferometer.toml:3:19
              |
            3 | scrape_interval = [1]
              |                   ^^^ expected a duration such as "10s"

            error[config::bad-type]: `honor_labels` must be `true` or `false`, found the string "yes"
             --> inferometer.toml:4:16
              |
            4 | honor_labels = "yes"
              |                ^^^^^ expected `true` or `false`

            error[config::bad-type]: `targets` must be a list, found the string "http://a"
             --> inferometer.toml:5:11
              |
            5 | targets = "http://a"
              |           ^^^^^^^^^^ expected a list

            error[config::bad-type]: `labels.a` must be a string, found the integer 1
             --> inferometer.toml:6:16
              |
            6 | labels = { a = 1 }
              |                ^ expected a string

            error[config::bad-type]: `port` must be an integer from 0 to 65535, found the number 1.5
             --> inferometer.toml:7:8
              |
            7 | port = 1.5
              |        ^^^ expected an integer from 0 to 65535

            error[config::bad-type]: `tls` must be a table, found `true`
             --> inferometer.toml:8:7
              |
            8 | tls = true
              |       ^^^^ expected a table

            6 errors in inferometer.toml
        "#]],
    );
}

#[test]
fn errors_in_lists_have_their_place_and_none_follows_from_another() {
    check(
        "[[receivers.engines.targets]]\nurl = 1\n[[receivers.engines.targets]]\nurl = \"a\"\nweight = 300\nurll = \"\"\n\
         [[receivers.engines.targets]]\nweight = 1\n",
        &expect![[r#"
            error[config::bad-type]: `targets[0].url` must be a string, found the integer 1
             --> inferometer.toml:4:7
              |
            4 | url = 1
              |       ^ expected a string

            error[config::bad-value]: `targets[1].weight` must be an integer from 0 to 255, found the integer 300
             --> inferometer.toml:7:10
              |
            7 | weight = 300
              |          ^^^ expected an integer from 0 to 255

            error[config::unknown-key]: unknown key `urll`
             --> inferometer.toml:8:1
              |
            8 | urll = ""
              | ^^^^ not a setting of receivers.engines.targets[1]
              |
            help: did you mean `url`?

            error[config::missing-key]: `url` is missing in receivers.engines.targets[2]
             --> inferometer.toml:9:1
              |
            9 | [[receivers.engines.targets]]
              | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ has no `url`
              |
            help: add `url = …`

            4 errors in inferometer.toml
        "#]],
    );
}

#[test]
fn substitutions_without_a_value() {
    check(
        "api_key = \"x ${env:NOPE} ${file:/nope}\"\nscrape_interval = \"${file:/denied}\"\n\
         labels = { a = \"${HOME}\", b = \"${env:X\", c = '''multi\n ${env:LINE}''' }\nport = \"x\"\n",
        &expect![[r#"
            error[config::missing-env]: environment variable `NOPE` is not set
             --> inferometer.toml:3:14
              |
            3 | api_key = "x ${env:NOPE} ${file:/nope}"
              |              ^^^^^^^^^^^ needed here
              |
            help: set it before the start, or give a default: `${env:NOPE:-value}`

            error[config::missing-file]: cannot read `/nope`: no such file or directory
             --> inferometer.toml:3:26
              |
            3 | api_key = "x ${env:NOPE} ${file:/nope}"
              |                          ^^^^^^^^^^^^^ needed here
              |
            help: check the path, that the secret is mounted, and that this user may read it

            error[config::missing-file]: cannot read `/denied`: permission denied
             --> inferometer.toml:4:20
              |
            4 | scrape_interval = "${file:/denied}"
              |                    ^^^^^^^^^^^^^^^ needed here
              |
            help: check the path, that the secret is mounted, and that this user may read it

            error[config::bad-substitution]: `${HOME}` is no substitution
             --> inferometer.toml:5:17
              |
            5 | labels = { a = "${HOME}", b = "${env:X", c = '''multi
              |                 ^^^^^^^ expected `env:` or `file:`
              |
            help: write `${env:NAME}`, `${env:NAME:-default}` or `${file:/path}`; `$${HOME}` stands for the text itself

            error[config::bad-substitution]: `${` has no closing `}`
             --> inferometer.toml:5:32
              |
            5 | labels = { a = "${HOME}", b = "${env:X", c = '''multi
              |                                ^^^^^^^ starts here
              |
            help: close it with `}`, or write `$$` for a plain dollar sign

            error[config::missing-env]: environment variable `LINE` is not set
             --> inferometer.toml:6:2
              |
            6 |  ${env:LINE}''' }
              |  ^^^^^^^^^^^ needed here
              |
            help: set it before the start, or give a default: `${env:LINE:-value}`

            error[config::bad-type]: `port` must be an integer from 0 to 65535, found the string "x"
             --> inferometer.toml:7:8
              |
            7 | port = "x"
              |        ^^^ expected an integer from 0 to 65535

            7 errors in inferometer.toml
        "#]],
    );
}

#[test]
fn content_of_a_file_is_not_in_messages() {
    check(
        "scrape_interval = \"${file:/key}\"\nport = \"${file:/key}\"\nunknown = \"${file:/key}\"\n",
        &expect![[r#"
            error[config::bad-value]: `scrape_interval`: "***" is no duration
             --> inferometer.toml:3:19
              |
            3 | scrape_interval = "${file:/key}"
              |                   ^^^^^^^^^^^^^^
              |
            help: write a number and a unit: "10s", "500ms", "1m30s"

            error[config::bad-type]: `port` must be an integer from 0 to 65535, found the content of a file
             --> inferometer.toml:4:8
              |
            4 | port = "${file:/key}"
              |        ^^^^^^^^^^^^^^ expected an integer from 0 to 65535

            error[config::bad-value]: `unknown` must be one of `pass`, `drop`, found the content of a file
             --> inferometer.toml:5:11
              |
            5 | unknown = "${file:/key}"
              |           ^^^^^^^^^^^^^^ not one of them

            3 errors in inferometer.toml
        "#]],
    );
}

#[test]
fn substituted_values_fit_numbers_and_booleans() {
    let document = parse(
        "[receivers.engines]\nport = \"${env:PORT}\"\nhonor_labels = \"${env:TRUE}\"\nkeep = \"${env:K:-0.5}\"\n\
         api_key = \"${env:TOKEN}-${file:/key}-$${x}-$5\"\nlabels = { a = \"${env:EMPTY}\", b = \"${env:EMPTY:-b}\" }",
    );
    let config: Config = engines(&document).decode().unwrap();
    assert_eq!((config.port, config.honor_labels, config.keep.get()), (9000, true, 0.5));
    assert_eq!(config.api_key.as_deref(), Some("t0ken${env:PORT}-hunter2-${x}-$5"));
    assert_eq!(
        config.labels.into_iter().collect::<Vec<_>>(),
        [("a".into(), String::new()), ("b".into(), "b".into())]
    );
}

#[test]
fn syntax_errors_are_all_told() {
    let text = "\u{feff}a = foo\r\naa = True\nb =\nc = \"open\n[x\ny = 1\ny = 2\n[t]\n[t]\nl = [1, 2\nm = 3\nn = 4\n";
    let errors = Document::parse("a.toml", text).unwrap_err();
    expect![[r#"
        error[config::syntax]: a string needs quotes
         --> a.toml:1:6
          |
        1 | ﻿a = foo
          |     ^^^
          |
        help: write `"foo"`

        error[config::syntax]: booleans are in lower case
         --> a.toml:2:6
          |
        2 | aa = True
          |      ^^^^
          |
        help: write `true`

        error[config::syntax]: a value is missing here
         --> a.toml:3:4
          |
        3 | b =
          |    ^

        error[config::syntax]: invalid basic string, expected `"`
         --> a.toml:4:10
          |
        4 | c = "open
          |          ^

        error[config::syntax]: unclosed table, expected `]`
         --> a.toml:5:3
          |
        5 | [x
          |   ^

        error[config::syntax]: duplicate key
         --> a.toml:9:2
          |
        9 | [t]
          |  ^

        error[config::syntax]: missing comma between array elements, expected `,`
          --> a.toml:11:1
           |
        11 | m = 3
           | ^
           |
        help: close the list with `]`, or put a comma between its elements

        7 errors in a.toml
    "#]]
    .assert_eq(&told(&errors));
    assert!(Document::parse("a.toml", "\u{feff}a = 1\r\n").is_ok(), "a byte order mark is fine");
}

/// serde buffers such tables and forgets where it was.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[expect(dead_code, reason = "only decoded")]
enum Source {
    Static { targets: Vec<String> },
    Dns { name: String },
}

#[derive(Debug, Deserialize, JsonSchema)]
#[expect(dead_code, reason = "only decoded")]
struct Sources {
    sources: Vec<Source>,
}

#[test]
fn errors_inside_tagged_enums_have_a_place() {
    let text = "[[sources]]\nkind = \"dsn\"\n[[sources]]\nkind = \"dns\"\nname = \"a\"\nnmae = \"b\"\n\
                [[sources]]\nkind = \"static\"\ntargets = 5\n[[sources]]\nkind = \"dns\"\n";
    let errors = Section::from_toml("receivers.x", text).unwrap().decode::<Sources>().unwrap_err();
    expect![[r#"
        error[config::bad-value]: `sources[0].kind` must be one of `static`, `dns`, found "dsn"
         --> receivers.x.toml:2:8
          |
        2 | kind = "dsn"
          |        ^^^^^ not one of them
          |
        help: did you mean `dns`?

        error[config::unknown-key]: unknown key `nmae`
         --> receivers.x.toml:6:1
          |
        6 | nmae = "b"
          | ^^^^ not a setting of receivers.x.sources[1]
          |
        help: did you mean `name`?

        error[config::bad-type]: `sources[2].targets` must be a list, found the integer 5
         --> receivers.x.toml:9:11
          |
        9 | targets = 5
          |           ^ expected a list

        error[config::missing-key]: `name` is missing in receivers.x.sources[3]
          --> receivers.x.toml:10:1
           |
        10 | [[sources]]
           | ^^^^^^^^^^^ has no `name`
           |
        help: add `name = …`

        4 errors in receivers.x.toml
    "#]]
    .assert_eq(&told(&errors));
}

#[test]
fn tabs_carriage_returns_and_wide_characters_keep_the_mark_in_place() {
    check(
        "labels = { \"größe\" = \"日本\",\tb = 1 }\r\nport = \"ü\"\r\n",
        &expect![[r#"
        error[config::bad-type]: `labels.b` must be a string, found the integer 1
         --> inferometer.toml:3:32
          |
        3 | labels = { "größe" = "日本",    b = 1 }
          |                                     ^ expected a string

        error[config::bad-type]: `port` must be an integer from 0 to 65535, found the string "ü"
         --> inferometer.toml:4:8
          |
        4 | port = "ü"
          |        ^^^ expected an integer from 0 to 65535

        2 errors in inferometer.toml
    "#]],
    );
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let out = told(&errors("\"\\u001b[31mred\" = 1\nlabels = \"\\u0007\"\n"));
    assert!(out.contains("u{1b}") && !out.contains(['\u{1b}', '\u{7}']), "{out}");
}

#[test]
fn dangling_names_and_unknown_tables() {
    let document = parse(
        "[exporters.datadog]\n[exporters.prometheus]\n[pipelines.metrics]\nexporters = [\"datadgo\", \"xyz\"]\n\
         receivers = [\"engines\"]\n[exporter.x]\n[admin]\n[processors]\nlabels = 1\n",
    );
    let pipeline = document.section(&["pipelines", "metrics"]).unwrap();
    let mut errors =
        document.check_tables(&["receivers", "processors", "exporters", "pipelines"], &["admin"]);
    for kind in ["exporters", "receivers"] {
        errors.extend(
            pipeline
                .strings(&[kind])
                .into_iter()
                .map(|(name, at)| document.dangling(kind, &name, Some(at))),
        );
    }
    errors.push(pipeline.warning(&["processors"], codes::UNUSED, "nothing is processed", ""));
    expect![[r#"
        error[config::dangling-route]: exporter `datadgo` does not exist
         --> inferometer.toml:4:14
          |
        1 | [exporters.datadog]
          | ------------------- a similar name is defined here
        ...
        4 | exporters = ["datadgo", "xyz"]
          |              ^^^^^^^^^ no such exporter
          |
        help: did you mean `datadog`?

        error[config::dangling-route]: exporter `xyz` does not exist
         --> inferometer.toml:4:25
          |
        4 | exporters = ["datadgo", "xyz"]
          |                         ^^^^^ no such exporter
          |
          = note: defined exporters: datadog, prometheus

        error[config::dangling-route]: receiver `engines` does not exist
         --> inferometer.toml:5:14
          |
        5 | receivers = ["engines"]
          |              ^^^^^^^^^ no such receiver
          |
        help: define it: `[receivers.engines]`

        error[config::unknown-table]: unknown top-level key `exporter`
         --> inferometer.toml:6:2
          |
        6 | [exporter.x]
          |  ^^^^^^^^ not a part of the configuration
          |
        help: did you mean `exporters`?

        error[config::bad-type]: `processors.labels` must be a table, found the integer 1
         --> inferometer.toml:9:10
          |
        9 | labels = 1
          |          ^ expected a table
          |
        help: write it as `[processors.labels]`

        warning[config::unused]: nothing is processed
         --> inferometer.toml:3:1
          |
        3 | [pipelines.metrics]
          | ^^^^^^^^^^^^^^^^^^^

        5 errors, 1 warning in inferometer.toml
    "#]]
    .assert_eq(&told(&errors));
}

#[test]
fn files_merge_and_each_value_keeps_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let base = file("base.toml", b"[receivers.engines]\nport = 1\nlabels = { a = \"1\", b = \"2\" }\n[[receivers.engines.targets]]\nurl = \"x\"\n");
    let conf = dir.path().join("conf.d");
    std::fs::create_dir(&conf).unwrap();
    file("conf.d/20.toml", b"receivers.engines.port = 20\n");
    file("conf.d/10.toml", b"receivers.engines.port = 10\nreceivers.engines.labels.b = \"ten\"\nreceivers.engines.targets = []\n");
    file("conf.d/30.json", b"{");
    let sets =
        ["receivers.engines.honor_labels=true", "receivers.engines.tls.ca_file=/etc/ca file.pem"]
            .map(String::from);
    let document = Document::load_with(&[base, conf], &sets, &Fixed).unwrap();
    let config: Config = engines(&document).decode().unwrap();
    assert_eq!((config.port, config.targets.len(), config.honor_labels), (20, 0, true));
    assert_eq!(config.tls.ca_file.as_deref(), Some("/etc/ca file.pem"));
    let origin = |path: &[&str]| {
        let at =
            document.origin(&[&["receivers", "engines"], path].concat()).unwrap().at.to_string();
        at.replace(&dir.path().display().to_string(), "")
    };
    expect![[r#"
        /conf.d/20.toml:1:26
        /base.toml:3:16
        /conf.d/10.toml:2:30
        --set:1:32
    "#]]
    .assert_eq(&format!(
        "{}\n{}\n{}\n{}\n",
        origin(&["port"]),
        origin(&["labels", "a"]),
        origin(&["labels", "b"]),
        origin(&["honor_labels"])
    ));
}

#[test]
fn files_and_arguments_that_cannot_be_read_are_all_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let bad = [
        file("bad1.toml", b"a = \n"),
        file("bad2.toml", b"ok = 1\nb = \"\xff\"\n"),
        dir.path().join("none.toml"),
    ];
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let files = [&bad[..], &[empty]].concat();
    let sets =
        ["nokey", "=1", "a b=1", "a.=1", "receivers.engines.port=x\u{1F600}"].map(String::from);
    let errors = Document::load_with(&files, &sets, &Fixed).unwrap_err();
    expect![[r#"
        error[config::unreadable]: cannot read configuration DIR/none.toml: no such file or directory
         |
         = help: check the path after `--config`

        error[config::unreadable]: cannot read configuration DIR/empty: the directory has no *.toml file
         |
         = help: check the path after `--config`

        error[config::syntax]: a value is missing here
         --> DIR/bad1.toml:1:5
          |
        1 | a =
          |     ^

        error[config::syntax]: the file is not UTF-8 text
         --> DIR/bad2.toml:2:6
          |
        2 | b = "�"
          |      ^ not a character
          |
        help: save the file with UTF-8 encoding

        error[config::bad-set]: this `--set` has no `=`
         --> --set:1:1
          |
        1 | nokey
          | ^^^^^ expected `KEY=VALUE`
          |
        help: for example `--set exporters.prometheus.listen="127.0.0.1:9464"`

        error[config::bad-set]: this `--set` has no sound key
         --> --set:1:1
          |
        1 | =1
          | ^^ expected `KEY=VALUE`
          |
        help: for example `--set exporters.prometheus.listen="127.0.0.1:9464"`

        error[config::bad-set]: this `--set` has no sound key
         --> --set:1:1
          |
        1 | a b=1
          | ^^^^^ expected `KEY=VALUE`
          |
        help: for example `--set exporters.prometheus.listen="127.0.0.1:9464"`

        error[config::bad-set]: this `--set` has no sound key
         --> --set:1:1
          |
        1 | a.=1
          | ^^^^ expected `KEY=VALUE`
          |
        help: for example `--set exporters.prometheus.listen="127.0.0.1:9464"`

        8 errors in 3 files
    "#]].assert_eq(&told(&errors).replace(&dir.path().display().to_string(), "DIR"));
}

#[test]
fn set_arguments_are_pointed_at() {
    let sets = [
        "receivers.engines.port=abc",
        "receivers.engines.prot=1",
        "receivers.engines.api_key=${env:NOPE}",
    ];
    let document = Document::load_with(&[], &sets.map(String::from), &Fixed).unwrap();
    let errors = engines(&document).decode::<Config>().unwrap_err();
    expect![[r#"
        error[config::unknown-key]: unknown key `prot`
         --> --set:1:19
          |
        1 | receivers.engines.prot=1
          |                   ^^^^ not a setting of receivers.engines
          |
        help: did you mean `port`?

        error[config::bad-type]: `port` must be an integer from 0 to 65535, found the string "abc"
         --> --set:1:24
          |
        1 | receivers.engines.port=abc
          |                        ^^^ expected an integer from 0 to 65535

        error[config::missing-env]: environment variable `NOPE` is not set
         --> --set:1:27
          |
        1 | receivers.engines.api_key=${env:NOPE}
          |                           ^^^^^^^^^^^ needed here
          |
        help: set it before the start, or give a default: `${env:NOPE:-value}`

        3 errors in --set
    "#]]
    .assert_eq(&told(&errors));
}

#[test]
fn semantic_errors_point_at_the_value_or_around_it() {
    let document =
        parse("[receivers.engines]\nport = 0\n[receivers.engines.tls]\nca_file = \"x\"\n");
    let section = engines(&document);
    let errors: Diagnostics = [
        section.bad_value(&["port"], "port 0 cannot be scraped", "give the port of the engine"),
        section.error(&["tls", "key_file"], codes::CONFLICT, "`cert_file` needs `key_file`", ""),
        Section::empty("receivers.none").error(&["x"], codes::CONFLICT, "no place", "say so"),
    ]
    .into_iter()
    .collect();
    expect![[r#"
        error[config::conflict]: no place
         |
         = help: say so

        error[config::bad-value]: port 0 cannot be scraped
         --> inferometer.toml:2:8
          |
        2 | port = 0
          |        ^
          |
        help: give the port of the engine

        error[config::conflict]: `cert_file` needs `key_file`
         --> inferometer.toml:3:1
          |
        3 | [receivers.engines.tls]
          | ^^^^^^^^^^^^^^^^^^^^^^^

        3 errors in inferometer.toml
    "#]]
    .assert_eq(&told(&errors));
}

#[test]
fn json_has_the_shape_of_language_servers() {
    let errors = errors("labels = { \"😀\" = \"\", x = 1 }\nprot = 1\n");
    expect![[r#"
        [
          {
            "code": "config::bad-type",
            "file": "inferometer.toml",
            "fixes": [],
            "help": null,
            "label": "expected a string",
            "message": "`labels.x` must be a string, found the integer 1",
            "notes": [],
            "range": {
              "end": {
                "character": 27,
                "line": 2
              },
              "start": {
                "character": 26,
                "line": 2
              }
            },
            "related": [],
            "severity": 1
          },
          {
            "code": "config::unknown-key",
            "file": "inferometer.toml",
            "fixes": [
              {
                "file": "inferometer.toml",
                "newText": "port",
                "range": {
                  "end": {
                    "character": 4,
                    "line": 3
                  },
                  "start": {
                    "character": 0,
                    "line": 3
                  }
                }
              }
            ],
            "help": "did you mean `port`?",
            "label": "not a setting of receivers.engines",
            "message": "unknown key `prot`",
            "notes": [],
            "range": {
              "end": {
                "character": 4,
                "line": 3
              },
              "start": {
                "character": 0,
                "line": 3
              }
            },
            "related": [],
            "severity": 1
          }
        ]"#]]
    .assert_eq(&serde_json::to_string_pretty(&errors.to_json()).unwrap());
}

#[test]
fn colour_is_only_on_demand() {
    let errors = errors("prot = 1\n");
    assert!(errors.render(Color::Always).contains("\u{1b}["));
    assert!(!errors.render(Color::Never).contains('\u{1b}'));
}

#[test]
fn every_code_has_a_page() {
    assert_eq!(codes::all().count(), 19);
    assert!(codes::all().all(|code| codes::explain(code).is_some_and(|page| page.len() > 80)));
    assert_eq!(codes::explain("config::nonsense"), None);
}

#[test]
fn a_section_without_text_gives_the_defaults() {
    assert_eq!(
        Section::empty("receivers.prometheus").decode::<Config>().unwrap(),
        Config::default()
    );
    let section = Section::from_toml("receivers.x", "port = 1\nqueue = { a = 1 }")
        .unwrap()
        .reserve(&["queue"]);
    assert_eq!(section.decode::<Config>().unwrap().port, 1);
    assert_eq!(section.section(&["queue"]).unwrap().path(), "receivers.x.queue");
    assert_eq!(section.name(), "x");
}

mod output;
mod scalars;
