//! Where a series comes from: what OpenTelemetry's resource and scope become in Prometheus.
//!
//! Rules: <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>.

use pipeline_model::{Group, Resource, Scope};

/// Attributes that identify a resource, and become `job` and `instance`.
const IDENTITY: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

/// True for a series that OpenTelemetry's rules for names are for: a library that is named produced it, or a service.
/// What was read from a Prometheus page has neither, and its names have no dots.
pub(crate) fn is_otel(group: &Group, name: &str) -> bool {
    !group.scope.name.is_empty()
        || group.resource.attributes.get("service.name").is_some()
        || name.contains('.')
}

/// `job` and `instance` of a resource, each empty where it says nothing.
pub(crate) fn job_and_instance(resource: &Resource) -> (String, String) {
    let text = |name| resource.attributes.get(name).map(ToString::to_string).unwrap_or_default();
    let [name, namespace, instance] = IDENTITY.map(text);
    let job = match (namespace.is_empty(), name.is_empty()) {
        (_, true) => String::new(),
        (true, false) => name,
        (false, false) => format!("{namespace}/{name}"),
    };
    (job, instance)
}

/// True for an attribute that `target_info` carries: it is not in `job` or `instance` already.
pub(crate) fn is_target_info(attribute: &str) -> bool {
    !IDENTITY.contains(&attribute)
}

/// The labels of a scope, which every series of it carries. The scope's own attributes give way to its name, version and
/// schema.
pub(crate) fn scope_labels(scope: &Scope) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    for (name, value) in
        [("name", &scope.name), ("version", &scope.version), ("schema_url", &scope.schema_url)]
    {
        if !value.is_empty() {
            out.push((format!("otel_scope_{name}"), value.to_string()));
        }
    }
    for label in &scope.attributes {
        if !matches!(label.name.as_str(), "name" | "version" | "schema_url") {
            out.push((format!("otel_scope_{}", label.name), label.value.to_string()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pipeline_model::Labels;

    use super::*;

    fn resource(pairs: &[(&str, &str)]) -> Resource {
        let attributes = Labels::from_pairs(pairs.iter().copied());
        Resource { attributes, ..Resource::default() }
    }

    #[test]
    fn services_become_job_and_instance() {
        for (pairs, job, instance) in [
            (&[("service.name", "a"), ("service.namespace", "n")][..], "n/a", ""),
            (&[("service.name", "a"), ("service.instance.id", "i")], "a", "i"),
            (&[("service.namespace", "n"), ("host.name", "h")], "", ""),
        ] {
            let found = job_and_instance(&resource(pairs));
            assert_eq!(found, (job.to_owned(), instance.to_owned()), "{pairs:?}");
        }
        assert!(is_target_info("host.name") && !is_target_info("service.name"));
    }

    #[test]
    fn what_a_page_said_is_not_opentelemetrys() {
        let group = |resource, scope: &str| Group {
            resource: Arc::new(resource),
            scope: Arc::new(Scope { name: scope.into(), ..Scope::default() }),
            ..Group::default()
        };
        assert!(!is_otel(&group(resource(&[("k8s.pod.name", "p")]), ""), "up"));
        assert!(is_otel(&group(resource(&[("service.name", "s")]), ""), "up"));
        assert!(is_otel(&group(resource(&[]), "lib"), "up"));
        assert!(is_otel(&group(resource(&[]), ""), "a.b"));
    }

    #[test]
    fn a_scope_says_its_name_version_schema_and_attributes() {
        let scope = Scope {
            name: "lib".into(),
            version: "1".into(),
            attributes: Labels::from_pairs([("name", "not this"), ("team", "t")]),
            schema_url: "".into(),
        };
        let found = scope_labels(&scope);
        let shown: Vec<String> = found.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(shown, ["otel_scope_name=lib", "otel_scope_version=1", "otel_scope_team=t"]);
    }
}
