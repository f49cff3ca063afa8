//! [`Resolver`]: where the values of the attached labels come from, and which source wins.

use std::collections::HashSet;

use pipeline_model::{Entity, Group, Labels, Metadata, Str, label_values};

use super::config::{Config, ReplicaFrom};
use crate::pod::{Pod, PodNames, short_name, text};
use crate::pod_id::POD_ID_LABEL;

/// The attached labels.
pub(super) const IDS: [&str; 6] =
    ["model_id", "model_name", "deployment_id", "environment", "rollout_phase", "replica"];
pub(super) const MODEL_ID: usize = 0;
pub(super) const DEPLOYMENT: usize = 2;
const ENVIRONMENT: usize = 3;
const PHASE: usize = 4;
pub(super) const REPLICA: usize = 5;

/// A value per label of [`IDS`].
pub(super) type Ids = [Option<Str>; IDS.len()];

/// What is known of a series.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Resolved {
    pub(super) ids: Ids,
    /// `replica` is the address or the pod's hash, for want of anything better.
    pub(super) replica_repeats: bool,
    /// `rollout_phase` was none of its values and is left out.
    pub(super) phase_is_bad: bool,
}

/// How far a series' own labels are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own<'a> {
    /// Not at all: they say nothing.
    No,
    /// For the attached labels by name: an engine's other labels are about its work.
    ByName(&'a Labels),
    /// Under every name; they may also name a pod of their own.
    All(&'a Labels),
}

pub(super) struct Resolver {
    attach: Ids,
    from: [Vec<String>; IDS.len()],
    replica_from: Vec<ReplicaFrom>,
    pod: PodNames,
    telling: HashSet<String>,
}

/// All that one look-up goes through.
struct Sources<'a> {
    group: &'a Group,
    group_pod: Option<&'a Pod<'a>>,
    own: Own<'a>,
    own_pod: Option<Pod<'a>>,
    deployment: Option<&'a Labels>,
}

impl Resolver {
    pub(super) fn new(config: &Config) -> Self {
        let (attach, from) = (&config.attach, &config.from);
        let attach = [
            &attach.model_id,
            &attach.model_name,
            &attach.deployment_id,
            &attach.environment,
            &attach.rollout_phase,
            &attach.replica,
        ];
        let from = [
            &from.model_id,
            &from.model_name,
            &from.deployment_id,
            &from.environment,
            &from.rollout_phase,
            &from.replica,
        ];
        let names = from.iter().copied().flatten().chain(config.pod.all()).cloned();
        Self {
            attach: attach.map(|value| (!value.is_empty()).then(|| Str::from(value.as_str()))),
            from: from.map(Clone::clone),
            replica_from: config.replica_from.clone(),
            pod: config.pod.clone(),
            telling: names.chain(IDS.map(str::to_owned)).collect(),
        }
    }

    /// True when a label of this name may say what a series belongs to.
    pub(super) fn is_telling(&self, name: &str) -> bool {
        self.telling.contains(name)
    }

    /// The pod of a whole group.
    pub(super) fn pod_of<'m>(&self, group: &Group, metadata: &'m Metadata) -> Option<Pod<'m>> {
        let get =
            |name: &str| group.labels.get(name).or_else(|| group.resource.attributes.get(name));
        self.pod.find(get, get, metadata)
    }

    /// Everything that is known of a series of `group` with the given own labels.
    pub(super) fn resolve(
        &self,
        group: &Group,
        group_pod: Option<&Pod<'_>>,
        own: Own<'_>,
        metadata: &Metadata,
    ) -> Resolved {
        let own_pod = match own {
            Own::All(labels) if self.pod.name_one_of(labels) => {
                let namespace = |name: &str| labels.get(name).or_else(|| group.labels.get(name));
                self.pod.find(|name| labels.get(name), namespace, metadata)
            }
            _ => None,
        };
        let mut sources = Sources { group, group_pod, own, own_pod, deployment: None };
        let deployment = self.one(DEPLOYMENT, &sources);
        sources.deployment =
            deployment.clone().and_then(|id| metadata.get(&Entity::Deployment(id)));
        let mut resolved = Resolved::default();
        for (idx, value) in resolved.ids.iter_mut().enumerate() {
            *value = if idx == DEPLOYMENT { deployment.clone() } else { self.one(idx, &sources) };
        }
        if resolved.ids[REPLICA].is_none() {
            let pod = sources.own_pod.as_ref().or(group_pod);
            (resolved.ids[REPLICA], resolved.replica_repeats) =
                self.replica(pod, sources.pod_id().as_ref());
        }
        let phases = label_values(IDS[PHASE]).unwrap_or_default();
        resolved.phase_is_bad =
            resolved.ids[PHASE].as_deref().is_some_and(|phase| !phases.contains(&phase));
        // Both belong to an environment: without one neither is put out.
        if resolved.phase_is_bad || resolved.ids[ENVIRONMENT].is_none() {
            resolved.ids[PHASE] = None;
        }
        resolved
    }

    /// The precedence: configuration; a pod that the series itself names; the target's label; the metadata store (pod,
    /// then deployment); the resource; the series' own label; the other names in the same order.
    fn one(&self, idx: usize, sources: &Sources<'_>) -> Option<Str> {
        let name = IDS[idx];
        let get = |labels: Option<&Labels>, name: &str| labels?.get(name).and_then(text);
        let Sources { group, group_pod, own, own_pod, deployment } = sources;
        let (by_name, by_all) = match own {
            Own::No => (None, None),
            // A model's id on an engine's page is no more than the page's claim.
            Own::ByName(labels) => ((idx != MODEL_ID).then_some(*labels), None),
            Own::All(labels) => (Some(*labels), Some(*labels)),
        };
        let own_facts = own_pod.as_ref().and_then(|pod| pod.facts);
        let facts = group_pod.and_then(|pod| pod.facts);
        let (target, resource) = (Some(&group.labels), Some(&group.resource.attributes));
        let others = &self.from[idx];
        self.attach[idx]
            .clone()
            .or_else(|| {
                let own_pod = own_pod.as_ref()?;
                get(own_facts, name)
                    .or_else(|| get(by_name, name))
                    .or_else(|| others.iter().find_map(|other| get(own_facts, other)))
                    .or_else(|| match self.replica(Some(own_pod), None) {
                        (id, false) if idx == REPLICA => id,
                        _ => None,
                    })
            })
            .or_else(|| {
                [target, facts, *deployment, resource, by_name]
                    .iter()
                    .find_map(|labels| get(*labels, name))
            })
            .or_else(|| {
                others.iter().find_map(|other| {
                    [target, facts, *deployment, resource, by_all]
                        .iter()
                        .find_map(|labels| get(*labels, other))
                })
            })
    }

    /// A replica's id made from what names its pod, and whether series say the same elsewhere.
    fn replica(&self, pod: Option<&Pod<'_>>, pod_id: Option<&Str>) -> (Option<Str>, bool) {
        let name = || pod?.name.as_deref();
        let made = self.replica_from.iter().find_map(|from| match from {
            ReplicaFrom::Pod => Some((short_name(name()?).into(), false)),
            ReplicaFrom::PodName => Some((name()?.into(), false)),
            ReplicaFrom::Address => Some((pod?.address.clone()?, true)),
            ReplicaFrom::PodId => Some((pod_id.cloned()?, true)),
        });
        made.map_or((None, false), |(id, repeats): (Str, bool)| (Some(id), repeats))
    }
}

impl Sources<'_> {
    /// The hash that `pod_id` left.
    fn pod_id(&self) -> Option<Str> {
        let own = match self.own {
            Own::No => None,
            Own::ByName(labels) | Own::All(labels) => labels.get(POD_ID_LABEL),
        };
        own.or_else(|| self.group.labels.get(POD_ID_LABEL)).and_then(text)
    }
}
