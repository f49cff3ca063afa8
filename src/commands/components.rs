//! `inferometer components`: what this build contains.

use pipeline_component::Factory;

use crate::components::factories;
use crate::exit::Exit;
use crate::terminal::answer;

/// Lists every component with its stability.
pub(crate) fn components(json: bool) -> Exit {
    let all = factories();
    let mut rows = Vec::new();
    rows.extend(all.receivers.iter().map(|factory| row("receiver", factory)));
    rows.extend(all.processors.iter().map(|factory| row("processor", factory)));
    rows.extend(all.exporters.iter().map(|factory| row("exporter", factory)));
    if json {
        let list: Vec<_> = rows
            .iter()
            .map(|[kind, name, stability, summary]| {
                serde_json::json!({ "kind": kind, "type": name, "stability": stability, "summary": summary })
            })
            .collect();
        answer(&serde_json::Value::Array(list).to_string())
    } else {
        let lines: Vec<String> = rows
            .iter()
            .map(|[kind, name, stability, summary]| {
                format!("{kind:<10} {name:<12} {stability:<7} {summary}")
            })
            .collect();
        answer(&lines.join("\n"))
    }
}

fn row<B>(kind: &str, factory: &Factory<B>) -> [String; 4] {
    [
        kind.to_owned(),
        factory.type_name.to_owned(),
        factory.stability.to_string(),
        factory.summary.to_owned(),
    ]
}
