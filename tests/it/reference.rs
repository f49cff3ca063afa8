//! The reference pages are made from what they describe: settings from their types, metrics from their tables.
//! `UPDATE_EXPECT=1 cargo test` rewrites them.

use std::fmt::Write as _;

use expect_test::expect_file;
use pipeline_component::{Factory, telemetry};
use pipeline_config::reference;
use pipeline_model::{CONTRACT, Contract, ContractMetric, EXTENSIONS, label_values};

fn page<B>(out: &mut String, factory: &Factory<B>) {
    let Factory { type_name, stability, .. } = factory;
    out.push('\n');
    out.push_str(&reference::markdown(type_name, &(factory.schema)(), &(factory.defaults)()));
    writeln!(out, "\nStability: {stability}.").unwrap();
}

fn pages<B>(title: &str, factories: &[Factory<B>]) -> String {
    let mut out = format!("# {title}\n\nMade from the settings' own types; do not edit.\n");
    factories.iter().for_each(|factory| page(&mut out, factory));
    out
}

#[test]
fn settings_of_receivers() {
    expect_file!["../../docs/reference/receivers.md"]
        .assert_eq(&pages("Receivers", &receivers::factories()));
}

#[test]
fn settings_of_processors() {
    expect_file!["../../docs/reference/processors.md"]
        .assert_eq(&pages("Processors", &processors::factories()));
}

#[test]
fn settings_of_exporters() {
    expect_file!["../../docs/reference/exporters.md"]
        .assert_eq(&pages("Exporters", &exporters::factories()));
}

#[test]
fn settings_of_the_process() {
    let mut out = "# The process\n\nMade from the settings' own types; do not edit.\n".to_owned();
    let value = |value: Result<toml::Value, toml::ser::Error>| value.unwrap();
    let tables = [
        (
            "service",
            schemars::schema_for!(pipeline_engine::Service),
            value(toml::Value::try_from(pipeline_engine::Service::default())),
        ),
        (
            "admin",
            schemars::schema_for!(pipeline_admin::AdminSettings),
            value(toml::Value::try_from(pipeline_admin::AdminSettings::default())),
        ),
        (
            "pipelines.NAME",
            schemars::schema_for!(pipeline_engine::PipelineConfig),
            value(toml::Value::try_from(pipeline_engine::PipelineConfig::default())),
        ),
    ];
    for (name, schema, defaults) in &tables {
        out.push('\n');
        out.push_str(&reference::markdown(name, schema, defaults));
    }
    expect_file!["../../docs/reference/process.md"].assert_eq(&out);
}

/// One row of the table of metrics.
fn metric_row(out: &mut String, contract: &Contract, metric: &ContractMetric) {
    let required: Vec<&str> = metric.required_names().collect();
    let labels: Vec<String> = metric
        .label_names()
        .map(
            |name| {
                if required.contains(&name) { format!("`{name}`") } else { format!("`{name}`?") }
            },
        )
        .collect();
    let (name, kind) = (contract.name(metric), metric.kind.as_str());
    let source = metric.source.replace('|', "or");
    let (unit, labels, help) = (metric.unit, labels.join(" "), metric.help);
    writeln!(out, "| `{name}` | {kind} | `{unit}` | {labels} | {help} | {source} |").unwrap();
}

const METRICS_HEAD: &str =
    "| metric | type | unit | labels | meaning | source |\n|---|---|---|---|---|---|\n";

#[test]
fn the_contract() {
    let contract = Contract::default();
    let mut out = "# The metric contract\n\nMade from the table in code; do not edit. The prefix is `service.metric_prefix`.\n\n".to_owned();
    out.push_str(METRICS_HEAD);
    CONTRACT.iter().for_each(|metric| metric_row(&mut out, &contract, metric));
    out.push_str(
        "\nLabels with `?` are there only when the deployment is tied to an environment.\n\n",
    );
    for label in ["condition", "is_async", "rollout_phase"] {
        writeln!(out, "- `{label}`: {}", label_values(label).unwrap().join(", ")).unwrap();
    }
    out.push_str(
        "- `status_code`: the three-digit HTTP code; a WebSocket's close code, or the HTTP code when the upgrade \
         never completed; gRPC's numeric status.\n\nHistogram bounds that this program chooses itself:\n\n",
    );
    for metric in ContractMetric::all().filter(|metric| metric.buckets.is_some()) {
        let bounds: Vec<String> = metric.buckets.unwrap().iter().map(f64::to_string).collect();
        writeln!(out, "- `{}`: {}", contract.name(metric), bounds.join(" ")).unwrap();
    }
    out.push_str(
        "\n## Beyond the contract\n\nOff until a processor's `extended` is set. Types, units and labels are held to as \
         strictly as the contract's.\n\n",
    );
    out.push_str(METRICS_HEAD);
    EXTENSIONS.iter().for_each(|metric| metric_row(&mut out, &contract, metric));
    expect_file!["../../docs/reference/metrics.md"].assert_eq(&out);
}

#[test]
fn self_telemetry() {
    let mut out = "# Self telemetry\n\nWhat `/metrics` of the admin address says. Made from the table in code; do not edit.\n\n".to_owned();
    out.push_str("| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for metric in telemetry::table::ALL {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (kind, unit, help) = (metric.kind.as_str(), metric.unit, metric.help);
        writeln!(out, "| `{}` | {kind} | `{unit}` | {} | {help} |", metric.name, labels.join(" "))
            .unwrap();
    }
    expect_file!["../../docs/reference/telemetry.md"].assert_eq(&out);
}
