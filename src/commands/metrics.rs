//! `inferometer metrics`: the contract, as one can read it.

use std::fmt::Write as _;

use pipeline_config::similar;
use pipeline_engine::Service;
use pipeline_model::{CONTRACT, Contract, ContractMetric, EXTENSIONS, label_values};
use serde_json::json;

use crate::agent;
use crate::cli::Global;
use crate::exit::Exit;
use crate::terminal::{answer, remark};

/// The contract with the prefix that the configuration says.
fn contract(global: &Global) -> Result<Contract, Exit> {
    let document = agent::load(global)?;
    let service = document.section(&["service"]).map(|section| section.decode::<Service>());
    match service.transpose() {
        Ok(service) => Ok(Contract::new(&service.unwrap_or_default().metric_prefix)),
        Err(found) => {
            agent::tell(global, &found);
            Err(Exit::Config)
        }
    }
}

/// Lists every metric of the contract, then what goes beyond it.
pub(crate) fn list(global: &Global) -> Exit {
    let contract = match contract(global) {
        Ok(contract) => contract,
        Err(exit) => return exit,
    };
    if global.json {
        let rows: Vec<_> = ContractMetric::all().map(|metric| row(&contract, metric)).collect();
        return answer(&serde_json::Value::Array(rows).to_string());
    }
    let line = |m: &ContractMetric| {
        format!("{:<52} {:<9} {:<13} {}", contract.name(m), m.kind.as_str(), m.unit, m.help)
    };
    let mut lines: Vec<String> = CONTRACT.iter().map(line).collect();
    lines.push("\nBeyond the contract, off until a processor's `extended` is set:\n".to_owned());
    lines.extend(EXTENSIONS.iter().map(line));
    answer(&lines.join("\n"))
}

fn row(contract: &Contract, metric: &ContractMetric) -> serde_json::Value {
    json!({
        "name": contract.name(metric),
        "type": metric.kind.as_str(),
        "unit": metric.unit,
        "labels": metric.label_names().collect::<Vec<_>>(),
        "required": metric.required_names().collect::<Vec<_>>(),
        "buckets": metric.buckets,
        "help": metric.help,
        "source": metric.source,
        "graph": metric.graph,
        "extension": metric.is_extension(),
    })
}

/// Explains one metric, named with or without prefix.
pub(crate) fn explain(global: &Global, name: &str) -> Exit {
    let contract = match contract(global) {
        Ok(contract) => contract,
        Err(exit) => return exit,
    };
    let found =
        contract.find(name).or_else(|| ContractMetric::all().find(|metric| metric.name == name));
    let Some(metric) = found else {
        let names: Vec<String> =
            ContractMetric::all().map(|metric| contract.name(metric)).collect();
        let hint = similar(name, names.iter().map(String::as_str))
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        remark(&format!(
            "error: no metric `{name}` in the contract{hint}\nhelp: `inferometer metrics list` shows all"
        ));
        return Exit::Usage;
    };
    if global.json {
        return answer(&row(&contract, metric).to_string());
    }
    answer(&page(&contract, metric))
}

fn page(contract: &Contract, metric: &ContractMetric) -> String {
    let graph = if metric.is_extension() {
        "none: beyond the contract, off until a processor's `extended` is set"
    } else {
        metric.graph
    };
    let mut text = format!(
        "{}\n  {}\n\n  type    {}\n  unit    {}\n  source  {}\n  graph   {graph}\n  labels\n",
        contract.name(metric),
        metric.help,
        metric.kind.as_str(),
        metric.unit,
        metric.source
    );
    let required: Vec<&str> = metric.required_names().collect();
    for label in metric.label_names() {
        let need = if required.contains(&label) { "required" } else { "only with an environment" };
        let values = label_values(label)
            .map(|values| format!("; one of {}", values.join(", ")))
            .unwrap_or_default();
        // Writing to a String cannot fail.
        _ = writeln!(text, "    {label:<18} {need}{values}");
    }
    if let Some(buckets) = metric.buckets {
        let bounds: Vec<String> = buckets.iter().map(f64::to_string).collect();
        _ = writeln!(
            text,
            "  bounds  {} (an engine's own histogram keeps its own)",
            bounds.join(" ")
        );
    }
    text
}
