//! `inferometer metrics`: the contract, as one can read it.

use pipeline_model::{CONTRACT, Contract, ContractMetric, DEFAULT_PREFIX, label_values};
use serde_json::json;

use crate::exit::Exit;
use crate::terminal::{answer, remark};

/// Lists every metric of the contract.
pub(crate) fn list(as_json: bool) -> Exit {
    let contract = Contract::default();
    if as_json {
        let rows: Vec<_> = CONTRACT.iter().map(|metric| row(&contract, metric)).collect();
        answer(&serde_json::Value::Array(rows).to_string());
    } else {
        let lines: Vec<String> = CONTRACT
            .iter()
            .map(|m| {
                format!("{:<52} {:<9} {:<13} {}", contract.name(m), m.kind.as_str(), m.unit, m.help)
            })
            .collect();
        answer(&lines.join("\n"));
    }
    Exit::Fine
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
    })
}

/// Explains one metric.
pub(crate) fn explain(name: &str, as_json: bool) -> Exit {
    let contract = Contract::default();
    let bare = name.strip_prefix(&format!("{DEFAULT_PREFIX}_")).unwrap_or(name);
    let Some(metric) = CONTRACT.iter().find(|metric| metric.name == bare) else {
        let near = CONTRACT.iter().max_by(|a, b| {
            strsim::jaro_winkler(bare, a.name).total_cmp(&strsim::jaro_winkler(bare, b.name))
        });
        let hint = near
            .map(|near| format!("; did you mean `{}`?", contract.name(near)))
            .unwrap_or_default();
        remark(&format!(
            "error: no metric `{name}` in the contract{hint}\nhelp: `inferometer metrics list` shows all"
        ));
        return Exit::Usage;
    };
    if as_json {
        answer(&row(&contract, metric).to_string());
        return Exit::Fine;
    }
    let mut text = format!(
        "{}\n  {}\n\n  type    {}\n  unit    {}\n  source  {}\n  graph   {}\n  labels\n",
        contract.name(metric),
        metric.help,
        metric.kind.as_str(),
        metric.unit,
        metric.source,
        metric.graph
    );
    let required: Vec<&str> = metric.required_names().collect();
    for label in metric.label_names() {
        let need = if required.contains(&label) { "required" } else { "only with an environment" };
        let values = label_values(label)
            .map(|values| format!("; one of {}", values.join(", ")))
            .unwrap_or_default();
        text.push_str(&format!("    {label:<18} {need}{values}\n"));
    }
    if let Some(buckets) = metric.buckets {
        let bounds: Vec<String> = buckets.iter().map(f64::to_string).collect();
        text.push_str(&format!(
            "  bounds  {} (an engine's own histogram keeps its own)\n",
            bounds.join(" ")
        ));
    }
    answer(&text);
    Exit::Fine
}
