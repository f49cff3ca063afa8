//! The reshape step: which series carry the hash, whose, and what is taken off them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pipeline_component::Settings;
use pipeline_component::telemetry::{Counter, Gauge, table};
use pipeline_model::{
    Context, Contract, Feed, Fold, Group, Label, LabelGroup, Labels, Metric, PushError, Reshape,
    Reshaped, Resource, Scope, Series, Shape, Str, Value,
};
use tracing::warn;

use super::key::{Keys, host_name};
use super::{Carriers, Config, POD_ID_LABEL};
use crate::causes::Causes;
use crate::engine::is_engine;
use crate::pod::{Identity, Pod, PodNames, host_of, short_name, text};

/// Pods whose hashes are remembered. Beyond it all are forgotten and hashed anew, which costs microseconds.
const PODS_MAX: usize = 16_384;

/// Labels that say which deployment a series belongs to: never taken off for looking like the pod's name, since a
/// bare pod may be called like its model.
const NEVER_THE_POD: [&str; 5] =
    ["model_id", "model_name", "deployment_id", "environment", "rollout_phase"];

/// The current id and, while keys change, the previous one.
#[derive(Clone)]
struct Ids {
    current: Str,
    previous: Option<Str>,
}

pub(super) struct Step {
    carriers: Carriers,
    names: PodNames,
    remove: HashSet<String>,
    keys: Keys,
    host: OnceLock<String>,
    known: Mutex<HashMap<Identity, Ids>>,
    contract: Arc<Contract>,
    pods: Gauge,
    missing: Counter,
    duplicates: Counter,
    causes: Causes,
}

/// Output groups of one pod: one, or two while keys change.
type Targets = (u32, Option<u32>);

/// What one run of the step remembers.
struct Run<'r, 'm, 'o> {
    input: &'r Shape,
    context: &'r Context<'m>,
    out: &'r mut Reshaped<'o>,
    /// Per input group: its pod's groups, once asked for; inner `None` when nothing names a pod.
    of_group: Vec<Option<Option<(Targets, Names)>>>,
    /// Pods named by series' own labels.
    of_series: HashMap<(u32, Identity), (Targets, Names)>,
}

/// What gives a pod away inside a value.
#[derive(Clone, Default)]
struct Names {
    /// Found anywhere in a value.
    uids: Vec<String>,
    /// Found where no letter, digit or dash goes before or after.
    words: Vec<String>,
}

impl Reshape for Step {
    fn reshape(&self, input: &Shape, context: &Context<'_>, out: &mut Reshaped<'_>) {
        let mut carries: HashMap<*const Metric, bool> = HashMap::new();
        let groups = input.groups().len();
        let mut run =
            Run { input, context, out, of_group: vec![None; groups], of_series: HashMap::new() };
        for series in input.iter() {
            let metric = series.metric;
            let carries =
                *carries.entry(Arc::as_ptr(metric)).or_insert_with(|| self.carries(&metric.name));
            let pushed = if carries {
                self.carry(&mut run, &series)
            } else {
                run.out.keep(&series).map(drop)
            };
            if let Err(error) = pushed {
                self.duplicates.inc();
                if self.causes.is_new(&format!("duplicate {}", metric.name)) {
                    warn!(metric = %metric.name, %error, "pod_id: series of one pod are equal without its name, all but one are dropped");
                }
            }
        }
    }
}

impl Step {
    pub(super) fn new(config: Config, keys: Keys, settings: &Settings) -> Self {
        let telemetry = &settings.telemetry;
        let named = config
            .pod
            .uid
            .iter()
            .chain(&config.pod.name)
            .chain(&config.pod.ip)
            .chain(&config.pod.address);
        Self {
            carriers: config.series,
            remove: config.remove.iter().chain(named).cloned().collect(),
            names: config.pod,
            keys,
            host: OnceLock::new(),
            known: Mutex::default(),
            contract: Arc::clone(&settings.contract),
            pods: telemetry.gauge(&table::POD_ID_PODS, &[]),
            missing: telemetry.counter(&table::POD_ID_MISSING, &[]),
            duplicates: telemetry.counter(&table::POD_ID_DUPLICATES, &[]),
            causes: Causes::default(),
        }
    }

    fn carries(&self, metric: &str) -> bool {
        let must =
            self.contract.find(metric).is_some_and(|row| row.labels.contains(&LabelGroup::Pod));
        must || (self.carriers == Carriers::Engines && is_engine(metric))
    }

    /// Puts `series` out with its pod's hash, or as it is when nothing names its pod.
    fn carry(&self, run: &mut Run<'_, '_, '_>, series: &Series<'_>) -> Result<(), PushError> {
        if series.attribute(POD_ID_LABEL).and_then(text).is_some() {
            return self.carry_on(run, series);
        }
        let Some(((current, previous), names)) = self.targets(run, series) else {
            self.missing.inc();
            if self.causes.is_new(&format!("missing {}", series.metric.name)) {
                warn!(
                    metric = %series.metric.name,
                    labels = %series.group.labels,
                    "pod_id: nothing names the pod of this series, it goes out without an id"
                );
            }
            return run.out.keep(series).map(drop);
        };
        let labels = self.stripped(series.labels, &names);
        let feed = Feed::of(series.row);
        run.out.push(current, series.metric, &labels, Fold::Only, feed)?;
        if let Some(previous) = previous {
            run.out.push(previous, series.metric, &labels, Fold::Only, feed)?;
        }
        Ok(())
    }

    /// A series that comes with a hash, from another agent's page: it keeps it, and loses names by which it might be
    /// told all the same.
    fn carry_on(&self, run: &mut Run<'_, '_, '_>, series: &Series<'_>) -> Result<(), PushError> {
        let names = Names::default();
        let group = Group {
            resource: Arc::new(Resource {
                attributes: self.stripped(&series.group.resource.attributes, &names),
                schema_url: series.group.resource.schema_url.clone(),
            }),
            scope: Arc::clone(&series.group.scope),
            labels: self.stripped(&series.group.labels, &names),
        };
        let group = run.out.group(group);
        let labels = self.stripped(series.labels, &names);
        run.out.push(group, series.metric, &labels, Fold::Only, Feed::of(series.row)).map(drop)
    }

    /// The groups for the pod that `series` names: by its own labels, else by its group's.
    fn targets(&self, run: &mut Run<'_, '_, '_>, series: &Series<'_>) -> Option<(Targets, Names)> {
        let metadata = run.context.metadata;
        if self.names.name_one_of(series.labels)
            && let Some(pod) =
                self.names.find(|n| series.labels.get(n), |n| series.attribute(n), metadata)
        {
            let key = (series.group_idx, pod.identity.clone());
            if let Some(known) = run.of_series.get(&key) {
                return Some(known.clone());
            }
            let made = self.groups_of(run, series.group, &pod);
            run.of_series.insert(key, made.clone());
            return Some(made);
        }
        let idx = series.group_idx as usize;
        if let Some(known) = run.of_group.get(idx).and_then(Option::as_ref) {
            return known.clone();
        }
        let group = run.input.groups().get(idx)?;
        let get =
            |name: &str| group.labels.get(name).or_else(|| group.resource.attributes.get(name));
        let made = self.names.find(get, get, metadata).map(|pod| self.groups_of(run, group, &pod));
        run.of_group[idx] = Some(made.clone());
        made
    }

    fn groups_of(
        &self,
        run: &mut Run<'_, '_, '_>,
        group: &Group,
        pod: &Pod<'_>,
    ) -> (Targets, Names) {
        let names = Names::of(pod);
        let ids = self.ids(&pod.identity);
        let bare = Group {
            resource: Arc::new(Resource {
                attributes: self.attributes(group, pod, &names),
                schema_url: group.resource.schema_url.clone(),
            }),
            scope: Arc::new(Scope {
                attributes: self.stripped(&group.scope.attributes, &names),
                ..Scope::clone(&group.scope)
            }),
            labels: self.stripped(&group.labels, &names),
        };
        let mut with = |id: Str| {
            let id = Labels::new(vec![Label {
                name: run.out.interner().str(POD_ID_LABEL),
                value: Value::Str(id),
            }]);
            run.out.group(Group { labels: bare.labels.merged(&id), ..bare.clone() })
        };
        ((with(ids.current), ids.previous.map(with)), names)
    }

    /// The resource's attributes without the pod's names, with what is known about the pod otherwise: what `labels`
    /// would ask the metadata store for, had it the name.
    fn attributes(&self, group: &Group, pod: &Pod<'_>, names: &Names) -> Labels {
        let mut known = group.resource.attributes.clone();
        if let Some(facts) = pod.facts {
            known = known.merged(facts);
        }
        let replica = known.get("replica").or_else(|| group.labels.get("replica")).and_then(text);
        if let (None, Some(name)) = (replica, &pod.name)
            && short_name(name) != &**name
        {
            let replica = Label { name: "replica".into(), value: short_name(name).into() };
            known = known.merged(&Labels::new(vec![replica]));
        }
        self.stripped(&known, names)
    }

    /// `labels` without what names the pod; the same allocation when there is nothing to take off.
    fn stripped(&self, labels: &Labels, names: &Names) -> Labels {
        let goes = |label: &Label| {
            self.remove.contains(&*label.name)
                || (!NEVER_THE_POD.contains(&&*label.name)
                    && text(&label.value).is_some_and(|v| names.are_in(&v)))
        };
        if !labels.iter().any(goes) {
            return labels.clone();
        }
        Labels::new(labels.iter().filter(|label| !goes(label)).cloned().collect())
    }

    fn ids(&self, identity: &Identity) -> Ids {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ids) = known.get(identity) {
            return ids.clone();
        }
        let host = self.host.get_or_init(host_name);
        let ids = Ids {
            current: self.keys.current().id(identity, host).into(),
            previous: self.keys.previous.as_ref().map(|key| key.id(identity, host).into()),
        };
        if known.len() >= PODS_MAX {
            known.clear();
        }
        known.insert(identity.clone(), ids.clone());
        self.pods.set(known.len() as f64);
        ids
    }
}

impl Names {
    fn of(pod: &Pod<'_>) -> Self {
        let uids = pod
            .uid
            .iter()
            .flat_map(|uid| [uid.to_string(), uid.replace('-', "_"), uid.replace('_', "-")]);
        let host = pod.address.as_deref().map(host_of);
        let words = [pod.name.as_deref(), pod.ip.as_deref(), pod.address.as_deref(), host];
        Self {
            uids: uids.collect(),
            words: words
                .into_iter()
                .flatten()
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect(),
        }
    }

    fn are_in(&self, value: &str) -> bool {
        self.uids.iter().any(|uid| value.contains(&**uid))
            || self.words.iter().any(|word| has_word(value, word))
    }
}

/// True when `word` stands in `value` and is not part of a longer name.
fn has_word(value: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '-';
    value.match_indices(word).any(|(at, _)| {
        let (before, after) = (value.get(..at), value.get(at + word.len()..));
        !before.is_some_and(|text| text.ends_with(part))
            && !after.is_some_and(|text| text.starts_with(part))
    })
}
