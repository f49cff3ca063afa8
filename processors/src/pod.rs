//! Which pod a series is about: the names under which sources say it, and what the metadata store knows beside.
//!
//! Shared by `pod_id`, which turns the answer into a hash, and `labels`, which asks for the pod's deployment.

use pipeline_model::{Entity, Labels, Metadata, Str, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Labels, or resource attributes where there is no such label, that say which pod a series is about. Of each list
/// the first one present counts; an empty list takes that source of identity out of use.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PodNames {
    /// Hold the pod's uid.
    pub uid: Vec<String>,
    /// Hold the pod's namespace.
    pub namespace: Vec<String>,
    /// Hold the pod's name.
    pub name: Vec<String>,
    /// Hold the pod's IP address.
    pub ip: Vec<String>,
    /// Hold the address, `host:port`, that the series were read from.
    pub address: Vec<String>,
}

/// Labels and attributes under which a deployment's id is also found.
pub(crate) const DEPLOYMENT_NAMES: [&str; 2] = ["deployment", "k8s.deployment.name"];

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

impl Default for PodNames {
    fn default() -> Self {
        Self {
            uid: owned(&["k8s.pod.uid", "pod_uid"]),
            namespace: owned(&["k8s.namespace.name", "namespace"]),
            name: owned(&["k8s.pod.name", "pod", "pod_name"]),
            ip: owned(&["k8s.pod.ip", "pod_ip"]),
            address: owned(&["instance"]),
        }
    }
}

/// What tells one pod from another, best first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    /// Its uid, in lower case and with dashes.
    Uid(String),
    /// Namespace (empty when unknown) and name.
    Name { namespace: String, name: String },
    /// Its IP, or the address it was scraped at.
    Address(String),
}

/// A pod as far as it is known.
#[derive(Clone, Debug)]
pub(crate) struct Pod<'m> {
    pub(crate) identity: Identity,
    pub(crate) uid: Option<Str>,
    pub(crate) name: Option<Str>,
    pub(crate) ip: Option<Str>,
    pub(crate) address: Option<Str>,
    /// Its labels in the metadata store.
    pub(crate) facts: Option<&'m Labels>,
}

impl PodNames {
    /// True when one of `labels` says which pod they are about.
    pub(crate) fn name_one_of(&self, labels: &Labels) -> bool {
        let lists = [&self.uid, &self.name, &self.ip, &self.address];
        labels.iter().any(|label| lists.iter().any(|list| list.iter().any(|n| label.name == **n)))
    }

    /// All names.
    pub(crate) fn all(&self) -> impl Iterator<Item = &String> {
        [&self.uid, &self.namespace, &self.name, &self.ip, &self.address].into_iter().flatten()
    }

    /// The pod that `get` tells of, `namespace_of` being asked for the namespace alone.
    pub(crate) fn find<'m, 'v>(
        &self,
        get: impl Fn(&str) -> Option<&'v Value>,
        namespace_of: impl Fn(&str) -> Option<&'v Value>,
        metadata: &'m Metadata,
    ) -> Option<Pod<'m>> {
        let uid = first(&self.uid, &get);
        let name = first(&self.name, &get);
        let namespace = first(&self.namespace, &namespace_of);
        let ip = first(&self.ip, &get);
        let address = first(&self.address, &get);
        let facts = [
            uid.clone().map(Entity::PodUid),
            name.clone()
                .map(|name| Entity::Pod { namespace: namespace.clone().unwrap_or_default(), name }),
            ip.clone().map(Entity::PodIp),
            address.clone().map(Entity::Address),
            address.as_deref().map(|address| Entity::PodIp(host_of(address).into())),
        ]
        .into_iter()
        .flatten()
        .find_map(|entity| metadata.get(&entity));
        let known = |names: &[String]| facts.and_then(|facts| first(names, &|n| facts.get(n)));
        let uid = uid.or_else(|| known(&self.uid));
        let name = name.or_else(|| known(&self.name));
        let namespace = namespace.or_else(|| known(&self.namespace));
        let identity = match (&uid, &name, ip.as_ref().or(address.as_ref())) {
            (Some(uid), ..) => Identity::Uid(uid.to_ascii_lowercase().replace('_', "-")),
            (None, Some(name), _) => Identity::Name {
                namespace: namespace.as_deref().unwrap_or_default().to_owned(),
                name: name.to_string(),
            },
            (None, None, Some(address)) => Identity::Address(address.to_string()),
            (None, None, None) => return None,
        };
        Some(Pod { identity, uid, name, ip, address, facts })
    }
}

fn first<'v>(names: &[String], get: &impl Fn(&str) -> Option<&'v Value>) -> Option<Str> {
    names.iter().find_map(|name| text(get(name)?))
}

/// A value as label text; an empty one is none.
pub(crate) fn text(value: &Value) -> Option<Str> {
    let text = match value {
        Value::Str(text) => text.clone(),
        other => Str::from(other.to_string()),
    };
    (!text.is_empty()).then_some(text)
}

/// The host of `host:port`, `[v6]:port`, a bare host, or a URL with one of them.
pub(crate) fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let rest = rest.split('/').next().unwrap_or(rest);
    if let Some((host, _)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    match rest.split_once(':') {
        // More than one colon outside brackets: an IPv6 address without a port.
        Some((host, port)) if !port.contains(':') => host,
        _ => rest,
    }
}

/// The last segment of a pod's name: the short id that tools show for a replica. `vllm-7d9f8-abcde` is `abcde`.
pub(crate) fn short_name(pod: &str) -> &str {
    pod.rsplit('-').next().unwrap_or(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(labels: &[(&str, &str)], metadata: &Metadata) -> Option<Identity> {
        let labels = Labels::from_pairs(labels.iter().copied());
        let get = |name: &str| labels.get(name);
        PodNames::default().find(get, get, metadata).map(|pod| pod.identity)
    }

    #[test]
    fn hosts_of_addresses() {
        for (address, host) in [
            ("10.0.0.1:8000", "10.0.0.1"),
            ("[::1]:8000", "::1"),
            ("::1", "::1"),
            ("engine", "engine"),
            ("http://engine:8000/metrics", "engine"),
            ("https://[fe80::1]/x", "fe80::1"),
            ("", ""),
        ] {
            assert_eq!(host_of(address), host, "{address}");
        }
    }

    #[test]
    fn identity_is_the_best_that_is_known() {
        let none = Metadata::default();
        let uid = Identity::Uid("0aa3-1".into());
        assert_eq!(
            find(&[("pod_uid", "0AA3_1"), ("pod", "p"), ("instance", "i:1")], &none),
            Some(uid)
        );
        let name = Identity::Name { namespace: "ns".into(), name: "p".into() };
        assert_eq!(
            find(&[("namespace", "ns"), ("pod", "p"), ("instance", "i:1")], &none),
            Some(name)
        );
        assert_eq!(find(&[("instance", "i:1")], &none), Some(Identity::Address("i:1".into())));
        assert_eq!(find(&[("pod", ""), ("namespace", "ns"), ("job", "x")], &none), None);
    }

    /// Whatever names the pod, the store leads to the same uid.
    #[test]
    fn metadata_leads_to_the_uid() {
        let mut metadata = Metadata::default();
        let facts = Labels::from_pairs([("k8s.pod.uid", "u-1")]);
        for entity in [
            Entity::Pod { namespace: "ns".into(), name: "p".into() },
            Entity::PodIp("10.0.0.1".into()),
            Entity::Address("node:8000".into()),
        ] {
            metadata.set(entity, facts.clone());
        }
        for labels in [
            &[("namespace", "ns"), ("pod", "p")][..],
            &[("pod_ip", "10.0.0.1")],
            &[("instance", "10.0.0.1:8000")],
            &[("instance", "node:8000")],
            &[("k8s.pod.uid", "u-1")],
        ] {
            assert_eq!(find(labels, &metadata), Some(Identity::Uid("u-1".into())), "{labels:?}");
        }
    }
}
