//! Where a series comes from: what OpenTelemetry's resource and scope become in Prometheus.
//!
//! Rules: <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>.

use pipeline_model::{Group, Resource, Scope};

use super::Escaping;
use super::escape::label_name;
use super::labels::escaped_labels;

/// Attributes that identify a resource, and become `job` and `instance`.
const IDENTITY: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

/// True for a series that OpenTelemetry's rules for names are for: a library that is named produced it, or a service.
/// What was read from a Prometheus page has neither, and its names have no dots.
pub(crate) fn is_otel(group: &Group, name: &str) -> bool {
    is_otel_group(group) || name.contains('.')
}

/// True when a library that is named, or a service, produced the series of `group`.
pub(crate) fn is_otel_group(group: &Group) -> bool {
    !group.scope.name.is_empty() || group.resource.attributes.get("service.name").is_some()
}

/// `job` and `instance` of a resource, each empty where it says nothing.
fn job_and_instance(resource: &Resource) -> (String, String) {
    let text = |name| resource.attributes.get(name).map(ToString::to_string).unwrap_or_default();
    let [name, namespace, instance] = IDENTITY.map(text);
    let job = match (namespace.is_empty(), name.is_empty()) {
        (_, true) => String::new(),
        (true, false) => name,
        (false, false) => format!("{namespace}/{name}"),
    };
    (job, instance)
}

/// A label that a series has from where it comes. Never empty.
pub(crate) struct OriginLabel {
    pub(crate) name: String,
    pub(crate) value: String,
    /// It takes the place of one that the series brings; else it gives way.
    pub(crate) wins: bool,
}

impl OriginLabel {
    /// Puts it among the labels of a series.
    pub(crate) fn put(self, labels: &mut Vec<(String, String)>) {
        match labels.iter_mut().find(|(known, _)| *known == self.name) {
            Some((_, known)) if self.wins || known.is_empty() => *known = self.value,
            Some(_) => {}
            None => labels.push((self.name, self.value)),
        }
    }
}

/// What OpenTelemetry's series in `group` have in labels from it, in the order in which they are put: those of the scope
/// if `scope`, `job`, `instance`, and the attributes `promote` of the resource.
pub(crate) fn origin_labels(
    group: &Group,
    escaping: Escaping,
    scope: bool,
    promote: &[String],
) -> Vec<OriginLabel> {
    let attributes = &group.resource.attributes;
    let mut out = Vec::new();
    let mut add = |name: &str, value: String, wins: bool| {
        if !value.is_empty() {
            out.push(OriginLabel { name: label_name(name, escaping).into_owned(), value, wins });
        }
    };
    if scope {
        scope_labels(&group.scope).into_iter().for_each(|(name, value)| add(&name, value, true));
    }
    let (job, instance) = job_and_instance(&group.resource);
    add("job", job, true);
    add("instance", instance, true);
    for name in promote {
        add(name, attributes.get(name).map(ToString::to_string).unwrap_or_default(), false);
    }
    out
}

/// Job and instance, and all labels.
pub(crate) type Told = ((String, String), Vec<(String, String)>);

/// What `target_info` says of a resource: its job and instance, and all labels, these two among them even if empty.
/// `None`: there is nobody to speak of, or nothing to say.
pub(crate) fn target_info(resource: &Resource, escaping: Escaping) -> Option<Told> {
    let key = job_and_instance(resource);
    if key.0.is_empty() && key.1.is_empty() {
        return None;
    }
    // Those of the identity are in `job` and `instance` already.
    let rest = resource.attributes.iter().filter(|label| !IDENTITY.contains(&label.name.as_str()));
    let mut labels: Vec<(String, String)> = escaped_labels(rest, escaping, None)
        .into_iter()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .filter(|(name, value)| {
            !value.is_empty() && !matches!(name.as_str(), "" | "job" | "instance" | "__name__")
        })
        .collect();
    if labels.is_empty() {
        return None;
    }
    labels.push(("job".to_owned(), key.0.clone()));
    labels.push(("instance".to_owned(), key.1.clone()));
    Some((key, labels))
}

/// The labels of a scope, which every series of it carries. The scope's own attributes give way to its name, version and
/// schema.
fn scope_labels(scope: &Scope) -> Vec<(String, String)> {
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
        let of = |pairs| target_info(&resource(pairs), Escaping::Underscores);
        assert_eq!(of(&[("service.name", "a")]), None, "nothing to say");
        assert_eq!(of(&[("host.name", "h")]), None, "nobody to speak of");
        let (_, labels) = of(&[("service.name", "a"), ("host.name", "h")]).expect("both");
        let shown: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(shown, ["host_name=h", "job=a", "instance="]);
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
