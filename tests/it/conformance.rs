//! The contract from end to end: a page with every metric of it, and beyond it, goes in, and exactly that comes out.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use pipeline_model::{Contract, ContractMetric, ContractType, LabelGroup};
use testkit::samples;

use crate::agent::{Agent, config};

/// Serves one page to every request until the test ends.
pub(crate) fn serve(page: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok() {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nConnection: close";
                // The scraper may have gone.
                drop(write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{page}", page.len()));
            }
        }
    });
    address
}

fn own_labels(metric: &ContractMetric) -> String {
    let mut labels = Vec::new();
    for group in metric.labels {
        match group {
            LabelGroup::Request => labels.extend(["status_code=\"200\"", "is_async=\"false\""]),
            LabelGroup::Gpu => labels.push("gpu=\"0\""),
            LabelGroup::Condition => labels.push("condition=\"true\""),
            LabelGroup::Model | LabelGroup::Env | LabelGroup::Replica | LabelGroup::Pod => {}
        }
    }
    labels.push("noise=\"must go\"");
    labels.join(",")
}

/// A page with one series of every metric, without the labels that the pipeline attaches.
fn source_page(contract: &Contract) -> String {
    let mut page = String::new();
    for metric in ContractMetric::all() {
        let (name, labels) = (contract.name(metric), own_labels(metric));
        page.push_str(&format!(
            "# HELP {name} somebody else's words\n# TYPE {name} {}\n",
            metric.kind.as_str()
        ));
        match metric.kind {
            ContractType::Histogram => {
                for bound in
                    metric.buckets.unwrap().iter().map(f64::to_string).chain(["+Inf".to_owned()])
                {
                    page.push_str(&format!("{name}_bucket{{{labels},le=\"{bound}\"}} 4\n"));
                }
                page.push_str(&format!("{name}_sum{{{labels}}} 2\n{name}_count{{{labels}}} 4\n"));
            }
            ContractType::Counter | ContractType::Gauge => {
                page.push_str(&format!("{name}{{{labels}}} 7\n"));
            }
        }
    }
    page
}

fn agent_for(contract: &Contract, prefix: &str, environment: &str) -> Agent {
    let address = serve(source_page(contract));
    let labels = format!(
        "model_id = \"m1\", model_name = \"Model One\", deployment_id = \"d1\", replica = \"abcde\", \
         pod = \"vllm-7d9f-abcde\", namespace = \"prod\"{environment}"
    );
    let receiver = format!(
        "[[receivers.engines.static]]\ntargets = [\"{address}\"]\nlabels = {{ {labels} }}\n"
    );
    Agent::start(
        &config(&receiver)
            .replace("[service]\n", &format!("[service]\nmetric_prefix = \"{prefix}\"\n")),
    )
}

fn check(prefix: &str, with_environment: bool) {
    let contract = Contract::new(prefix);
    let environment = if with_environment {
        ", environment = \"production\", rollout_phase = \"stable\""
    } else {
        ""
    };
    let agent = agent_for(&contract, prefix, environment);
    let last = contract.name(ContractMetric::all().last().unwrap());
    let page = agent.page_when("the contract on the exposition", |page| page.contains(&last));
    let all = samples(&page);
    for metric in ContractMetric::all() {
        let name = contract.name(metric);
        assert!(
            page.contains(&format!("# TYPE {name} {}\n", metric.kind.as_str())),
            "TYPE of {name}"
        );
        assert!(page.contains(&format!("# HELP {name} {}\n", metric.help)), "HELP of {name}");
        let sample_name = if metric.kind == ContractType::Histogram {
            format!("{name}_count")
        } else {
            name.clone()
        };
        let found: Vec<_> = all.iter().filter(|sample| sample.name == sample_name).collect();
        assert_eq!(found.len(), 1, "{name}");
        let labels: BTreeSet<&str> = found[0].labels.keys().map(String::as_str).collect();
        let expected: BTreeSet<&str> = if with_environment {
            metric.label_names().collect()
        } else {
            metric.required_names().collect()
        };
        assert_eq!(labels, expected, "labels of {name}");
        if let Some(bounds) = metric.buckets {
            let buckets =
                all.iter().filter(|sample| sample.name == format!("{name}_bucket")).count();
            assert_eq!(buckets, bounds.len() + 1, "buckets of {name}");
        }
    }
    for raw in ["vllm-7d9f-abcde", "must go"] {
        let leaks: Vec<_> = all
            .iter()
            .filter(|s| contract.find(&s.name).is_some_and(|m| m.labels.contains(&LabelGroup::Pod)))
            .filter(|s| s.labels.values().any(|value| value.contains(raw)))
            .collect();
        assert!(leaks.is_empty(), "{raw} leaks: {leaks:?}");
    }
}

#[test]
fn the_exposition_is_the_contract_with_an_environment() {
    check("baseten", true);
}

#[test]
fn the_exposition_is_the_contract_without_an_environment_and_with_another_prefix() {
    check("acme", false);
}
