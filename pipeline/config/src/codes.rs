//! The codes of configuration errors, and the page that explains each.

/// The text is no TOML.
pub const SYNTAX: &str = "config::syntax";
/// A configuration file cannot be read.
pub const UNREADABLE: &str = "config::unreadable";
/// A `--set` argument is not `KEY=VALUE`.
pub const BAD_SET: &str = "config::bad-set";
/// `${env:NAME}` and NAME is not set.
pub const MISSING_ENV: &str = "config::missing-env";
/// `${file:PATH}` and PATH cannot be read.
pub const MISSING_FILE: &str = "config::missing-file";
/// `${…}` that is no substitution.
pub const BAD_SUBSTITUTION: &str = "config::bad-substitution";
/// A key that the table does not have.
pub const UNKNOWN_KEY: &str = "config::unknown-key";
/// A top-level key that does not exist.
pub const UNKNOWN_TABLE: &str = "config::unknown-table";
/// A component type that this build does not have.
pub const UNKNOWN_TYPE: &str = "config::unknown-type";
/// A value of the wrong type.
pub const BAD_TYPE: &str = "config::bad-type";
/// A value that cannot be.
pub const BAD_VALUE: &str = "config::bad-value";
/// A key that must be given.
pub const MISSING_KEY: &str = "config::missing-key";
/// Settings that exclude or need each other.
pub const CONFLICT: &str = "config::conflict";
/// A pipeline names a component that does not exist.
pub const DANGLING_ROUTE: &str = "config::dangling-route";
/// A component that no pipeline names.
pub const UNUSED: &str = "config::unused";
/// A pipeline without receivers or exporters, or nothing to run at all.
pub const INCOMPLETE: &str = "config::incomplete";
/// Processors in an order that works and loses something.
pub const ORDER: &str = "config::order";
/// An exporter that, when its queue is full, holds up the others of its pipeline.
pub const HOLDS_UP: &str = "config::holds-up";
/// A key with a newer name.
pub const DEPRECATED: &str = "config::deprecated";

/// Code and page.
const PAGES: [(&str, &str); 19] = [
    (
        SYNTAX,
        "The file is not valid TOML. The mark shows the place where reading failed; the fault is there or just before.

Wrong:
    endpoints = [\"http://a:8000\", \"http://b:8000\"
Right:
    endpoints = [\"http://a:8000\", \"http://b:8000\"]

Often: a string without quotes, a bracket that is not closed, the same key or table twice.",
    ),
    (
        UNREADABLE,
        "A file or directory given with --config cannot be read: it does not exist, this user may not read it, it is larger
than 8 MiB, or it is a directory without any *.toml file.

Look at it as the user that runs the agent: `ls -l FILE`.",
    ),
    (
        BAD_SET,
        "--set changes one setting on the command line, on top of all files. It wants a dotted key, `=` and a value. The value
is read as TOML; what is no TOML is taken as a string.

Wrong:
    --set exporters.prometheus.listen
Right:
    --set exporters.prometheus.listen=127.0.0.1:9464
    --set 'receivers.engines.targets=[\"http://a:8000/metrics\"]'",
    ),
    (
        MISSING_ENV,
        "A string contains ${env:NAME}, and the environment of this process has no NAME.

Set the variable where the agent is started (systemd: Environment=, Kubernetes: env:), or give a default that is used
while it is unset or empty:
    environment = \"${env:ENVIRONMENT:-production}\"
A plain dollar sign before a brace is written `$$`.",
    ),
    (
        MISSING_FILE,
        "A string contains ${file:PATH}, and PATH cannot be read as UTF-8 text of at most 1 MiB.

Check that the path is absolute, that the secret is mounted, and that the user that runs the agent may read it:
    api_key = \"${file:/var/run/secrets/datadog}\"
One newline at the end of the file is dropped. The content never shows in messages or in `config show`.",
    ),
    (
        BAD_SUBSTITUTION,
        "Inside strings, ${…} stands for a value from outside. These forms exist:
    ${env:NAME}   ${env:NAME:-default}   ${file:/path}
Anything else in ${…} is refused, so that a typing error does not become a password. Write `$$` for a plain dollar sign.

Wrong:
    api_key = \"${DATADOG_KEY}\"
Right:
    api_key = \"${env:DATADOG_KEY}\"
    pattern = \"$${1}\"",
    ),
    (
        UNKNOWN_KEY,
        "The table has no such setting. Keys are never ignored: a typing error would silently give the default.

Wrong:
    [receivers.engines]
    type = \"prometheus\"
    intervall = \"15s\"
Right:
    interval = \"15s\"

`inferometer config explain receivers.prometheus` lists the settings of a type.",
    ),
    (
        UNKNOWN_TABLE,
        "The top level of the configuration has no such key. Components are defined in `[receivers.NAME]`, `[processors.NAME]`
and `[exporters.NAME]`, and joined by `[pipelines.NAME]`.

Wrong:
    [exporter.prometheus]
Right:
    [exporters.prometheus]",
    ),
    (
        UNKNOWN_TYPE,
        "A component's type is its `type` key, or its own name where that is a type. This build has no such type;
`inferometer components` lists those it has.

Wrong:
    [receivers.engines]
Right:
    [receivers.engines]
    type = \"prometheus\"",
    ),
    (
        BAD_TYPE,
        "The value has another TOML type than the setting. The message says which was expected and which was found.

Wrong:
    targets = \"http://a:8000\"
    honor_labels = \"yes\"
Right:
    targets = [\"http://a:8000\"]
    honor_labels = true

A string that consists of substitutions also fits a number or a boolean.",
    ),
    (
        BAD_VALUE,
        "The value is of the right type, but cannot be: out of range, without a unit, not one of the allowed words.

Wrong:
    interval = 15
    buffer = \"64\"
Right:
    interval = \"15s\"
    buffer = \"64MiB\"

Durations have the units d, h, m, s, ms, us, ns; sizes B, KB, KiB, MB, MiB, GB, GiB, TB, TiB.",
    ),
    (
        MISSING_KEY,
        "The table needs a setting that has no default. The message names it.

Wrong:
    [[receivers.engines.static]]
    labels = { environment = \"production\" }
Right:
    [[receivers.engines.static]]
    targets = [\"http://a:8000\"]
    labels = { environment = \"production\" }",
    ),
    (
        CONFLICT,
        "Two settings exclude each other, or one needs another that is absent. The message names both; remove one, or add what
is missing.

Wrong:
    bearer_token = \"${file:/run/a}\"
    basic = { username = \"u\", password = \"${file:/run/b}\" }
Right:
    bearer_token = \"${file:/run/a}\"",
    ),
    (
        DANGLING_ROUTE,
        "A pipeline names a component that is not defined.

Wrong:
    [exporters.datadog]
    [pipelines.metrics]
    exporters = [\"datadgo\"]
Right:
    [pipelines.metrics]
    exporters = [\"datadog\"]",
    ),
    (
        UNUSED,
        "A component is defined, but no pipeline names it, so it would not run. Name it in a pipeline, or remove its table.

Wrong:
    [exporters.prometheus]
    [exporters.debug]
    [pipelines.metrics]
    receivers = [\"engines\"]
    exporters = [\"prometheus\"]
Right:
    exporters = [\"prometheus\", \"debug\"]",
    ),
    (
        INCOMPLETE,
        "A pipeline needs at least one receiver and one exporter; without them nothing flows.

Wrong:
    [pipelines.metrics]
    receivers = [\"engines\"]
Right:
    [pipelines.metrics]
    receivers = [\"engines\"]
    exporters = [\"prometheus\"]",
    ),
    (
        ORDER,
        "The processors of a pipeline work on what the ones before them leave. In this order one of them comes too late: what
it goes by has been folded or taken away. The pipeline runs, and something is missing from what it puts out; the message
says what, and which order is meant.

Wrong:
    processors = [\"normalize\", \"labels\", \"pod_id\"]
Right:
    processors = [\"normalize\", \"pod_id\", \"labels\"]",
    ),
    (
        HOLDS_UP,
        "A pipeline has several exporters, and the queue of one of them has when_full = \"backpressure\". While that queue is
full the receivers are told to wait, so the other exporters get nothing new either, however well their backends are.

That may be what is wanted: nobody loses anything. If it is not, let the queue drop instead, or give the exporter a
pipeline and receivers of its own.

Holds up the others:
    [exporters.store]
    queue = { when_full = \"backpressure\" }
Does not:
    queue = { when_full = \"drop_oldest\" }",
    ),
    (
        DEPRECATED,
        "The setting has a newer name. The old one works for two more minor versions; the message says which to write.",
    ),
];

/// The page of a code: what it means, an example wrong and right. `None` for a code that does not exist.
#[must_use]
pub fn explain(code: &str) -> Option<&'static str> {
    PAGES.iter().find(|(name, _)| *name == code).map(|(_, page)| *page)
}

/// All codes.
pub fn all() -> impl Iterator<Item = &'static str> {
    PAGES.iter().map(|(name, _)| *name)
}
