//! The reshape step: which labels each series ends up with.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::HashMap as FastMap;
use pipeline_component::Settings;
use pipeline_component::telemetry::{Telemetry, table};
use pipeline_model::{
    Context, Contract, ContractMetric, Feed, Fold, Group, Label, Labels, Metric, PushError,
    Reshape, Reshaped, Series, Shape, Str, Value, label_values,
};
use tracing::warn;

use super::config::{Config, Other};
use super::guard::{Guard, OTHER};
use super::resolve::{DEPLOYMENT, IDS, Ids, MODEL_ID, Own, REPLICA, Resolved, Resolver};
use super::rules::{
    Breach, Class, MODEL_NAME, as_in_contract, fits, fold, help, is_attached, is_claim, stays,
    with_model_id,
};
use crate::causes::Causes;
use crate::engine::{exported, is_engine, is_health};
use crate::pod::{Pod, text};
use crate::pod_id::POD_ID_LABEL;

pub(super) struct Step {
    resolver: Resolver,
    guard: Guard,
    other: Other,
    strict: bool,
    contract: Arc<Contract>,
    telemetry: Telemetry,
    causes: Causes,
}

/// What is decided once per metric.
struct MetricPlan {
    class: Class,
    /// A key of the class: metrics with equal ones get equal groups.
    set: u16,
    /// As it is put out.
    metric: Arc<Metric>,
    type_fits: bool,
}

/// What is decided once per output group.
struct Target {
    group: u32,
    /// Required labels that the group does not have.
    missing: Vec<&'static str>,
    /// Labels whose values were replaced.
    limited: Vec<Str>,
    is_other: bool,
    phase_is_bad: bool,
}

/// A group's pod, and what is known of series that say nothing themselves.
type OfGroup<'m> = Rc<(Option<Pod<'m>>, Resolved)>;

/// What one run of the step remembers.
struct Run<'r, 'o> {
    context: &'r Context<'r>,
    out: &'r mut Reshaped<'o>,
    other: Value,
    of_group: Vec<Option<OfGroup<'r>>>,
    metrics: FastMap<*const Metric, Rc<MetricPlan>>,
    plain: FastMap<(u32, u16), Rc<Target>>,
    told: HashMap<(u32, u16, Ids), Rc<Target>>,
    /// Series by metric (or kind of metric), breach and label.
    breaches: HashMap<(Str, Breach, Str), u64>,
    limited: HashMap<Str, u64>,
}

impl Reshape for Step {
    fn reshape(&self, input: &Shape, context: &Context<'_>, out: &mut Reshaped<'_>) {
        let other = Value::Str(out.interner().str(OTHER));
        let of_group = vec![None; input.groups().len()];
        let mut run = Run {
            context,
            out,
            other,
            of_group,
            metrics: FastMap::default(),
            plain: FastMap::default(),
            told: HashMap::new(),
            breaches: HashMap::new(),
            limited: HashMap::new(),
        };
        for series in input.iter() {
            self.series(&mut run, &series);
        }
        self.report(run.breaches, run.limited);
    }
}

impl Step {
    pub(super) fn new(config: Config, settings: &Settings) -> Self {
        Self {
            resolver: Resolver::new(&config),
            guard: Guard::new(config.limits),
            other: config.other,
            strict: config.strict,
            contract: Arc::clone(&settings.contract),
            telemetry: settings.telemetry.clone(),
            causes: Causes::default(),
        }
    }

    fn metric(&self, run: &mut Run<'_, '_>, metric: &Arc<Metric>) -> Rc<MetricPlan> {
        if let Some(known) = run.metrics.get(&Arc::as_ptr(metric)) {
            return Rc::clone(known);
        }
        let after = ContractMetric::all().count() as u16;
        let (class, set) = match self.contract.find(&metric.name) {
            // Metrics with equal label groups share their sets: the first of them gives the key.
            Some(row) => {
                let set = ContractMetric::all()
                    .position(|first| first.labels == row.labels)
                    .unwrap_or_default();
                (Class::Contract(row), set as u16)
            }
            None if is_engine(&metric.name) => (Class::Engine, after),
            None => (Class::Other { kept: is_health(&metric.name) }, after + 1),
        };
        let (metric_out, type_fits) = match class {
            Class::Contract(row) if fits(row.kind, &metric.kind) => {
                (as_in_contract(row, metric), true)
            }
            Class::Contract(_) => (Arc::clone(metric), false),
            Class::Engine | Class::Other { .. } => (Arc::clone(metric), true),
        };
        let plan = Rc::new(MetricPlan { class, set, metric: metric_out, type_fits });
        run.metrics.insert(Arc::as_ptr(metric), Rc::clone(&plan));
        plan
    }

    /// Puts out what becomes of one series.
    fn series(&self, run: &mut Run<'_, '_>, series: &Series<'_>) {
        let plan = self.metric(run, series.metric);
        if self.other == Other::Drop && matches!(plan.class, Class::Other { kept: false }) {
            return;
        }
        let (labels, target) = self.resolved(run, series, &plan);
        let (labels, row_is_other) = self.limited(run, labels);
        for label in &target.limited {
            *run.limited.entry(label.clone()).or_default() += 1;
        }
        if !self.conforms(run, &plan, &target, &labels) && self.strict {
            return;
        }
        let fold = if row_is_other || target.is_other { fold(&plan.metric) } else { Fold::Only };
        let pushed = run.out.push(target.group, &plan.metric, &labels, fold, Feed::of(series.row));
        if let Err(error) = pushed {
            // The shape's own limits are its reader's to count; here all that can be is that two became one.
            debug_assert!(matches!(error, PushError::Duplicate(_)), "{error}");
            breach(run, &plan, Breach::Collision, "");
        }
    }

    /// The series' own labels as they are put out, and its group.
    fn resolved(
        &self,
        run: &mut Run<'_, '_>,
        series: &Series<'_>,
        plan: &MetricPlan,
    ) -> (Labels, Rc<Target>) {
        let tells = match plan.class {
            Class::Engine => series
                .labels
                .iter()
                .any(|label| is_attached(plan.class, &label.name) || *label.name == *POD_ID_LABEL),
            Class::Contract(_) | Class::Other { .. } => {
                series.labels.iter().any(|label| self.resolver.is_telling(&label.name))
            }
        };
        if !tells {
            let labels = self.own(run, series.labels, plan, None);
            if let Some(known) = run.plain.get(&(series.group_idx, plan.set)) {
                return (labels, Rc::clone(known));
            }
            let of_group = self.of_group(run, series);
            let target = Rc::new(self.target(run, series.group, plan, of_group.1.clone()));
            run.plain.insert((series.group_idx, plan.set), Rc::clone(&target));
            return (labels, target);
        }
        let of_group = self.of_group(run, series);
        let own = match plan.class {
            Class::Engine => Own::ByName(series.labels),
            Class::Contract(_) | Class::Other { .. } => Own::All(series.labels),
        };
        let mut resolved =
            self.resolver.resolve(series.group, of_group.0.as_ref(), own, run.context.metadata);
        let labels = self.own(run, series.labels, plan, Some(&resolved.ids));
        // What the series has itself, its group need not have: other series then share the group.
        for (name, value) in IDS.iter().zip(&mut resolved.ids) {
            if labels.get(name).is_some() {
                *value = None;
            }
        }
        let key = (series.group_idx, plan.set, resolved.ids.clone());
        if let Some(known) = run.told.get(&key) {
            return (labels, Rc::clone(known));
        }
        let target = Rc::new(self.target(run, series.group, plan, resolved));
        run.told.insert(key, Rc::clone(&target));
        (labels, target)
    }

    fn of_group<'r>(&self, run: &mut Run<'r, '_>, series: &Series<'_>) -> OfGroup<'r> {
        let idx = series.group_idx as usize;
        if let Some(known) = run.of_group.get(idx).and_then(Option::as_ref) {
            return Rc::clone(known);
        }
        let metadata = run.context.metadata;
        let pod = self.resolver.pod_of(series.group, metadata);
        let resolved = self.resolver.resolve(series.group, pod.as_ref(), Own::No, metadata);
        let made = Rc::new((pod, resolved));
        run.of_group[idx] = Some(Rc::clone(&made));
        made
    }

    /// A series' own labels less those that its class does not have, and those whose value another source decides.
    fn own(
        &self,
        run: &mut Run<'_, '_>,
        labels: &Labels,
        plan: &MetricPlan,
        ids: Option<&Ids>,
    ) -> Labels {
        let overruled = |label: &Label| {
            let idx = IDS.iter().position(|name| label.name == **name);
            idx.is_some_and(|idx| ids.is_some_and(|ids| ids[idx] != text(&label.value)))
        };
        let goes = |label: &Label| match plan.class {
            Class::Contract(row) => {
                !row.label_names().any(|name| label.name == *name)
                    || text(&label.value).is_none()
                    || overruled(label)
            }
            Class::Engine => {
                label.name == *IDS[MODEL_ID]
                    || is_claim(&label.name)
                    || (is_attached(plan.class, &label.name) && overruled(label))
            }
            Class::Other { .. } => false,
        };
        if !labels.iter().any(goes) {
            return labels.clone();
        }
        if let Class::Contract(row) = plan.class {
            for label in
                labels.iter().filter(|label| !row.label_names().any(|name| label.name == *name))
            {
                // Labels that say what the series belongs to have served their purpose.
                if !self.resolver.is_telling(&label.name) {
                    breach(run, plan, Breach::Extra, &label.name);
                }
            }
        }
        let mut stay: Vec<Label> = labels.iter().filter(|label| !goes(label)).cloned().collect();
        // The model that an engine serves: its series are called so where the target says nothing of a model, and
        // nothing else tells those of several models on one page apart.
        if matches!(plan.class, Class::Engine)
            && labels.get(MODEL_NAME).is_none()
            && let Some(served) = labels.iter().find(|l| exported(&l.name) == Some(MODEL_NAME))
        {
            let name = run.out.interner().str(MODEL_NAME);
            stay.push(Label { name, value: served.value.clone() });
        }
        Labels::new(stay)
    }

    /// The output group of `group`'s series of a class, with the given values attached.
    fn target(
        &self,
        run: &mut Run<'_, '_>,
        group: &Group,
        plan: &MetricPlan,
        resolved: Resolved,
    ) -> Target {
        let mut labels: Vec<Label> = Vec::with_capacity(group.labels.len() + IDS.len());
        labels.extend(
            group
                .labels
                .iter()
                .filter(|label| stays(plan.class, &label.name) && text(&label.value).is_some())
                .cloned(),
        );
        let interner = run.out.interner();
        let model_id = resolved.ids[MODEL_ID].clone();
        for (idx, (name, value)) in IDS.iter().zip(resolved.ids).enumerate() {
            // The address is on these series anyway, as `instance`, and so is the pod's hash.
            let repeats = idx == REPLICA
                && resolved.replica_repeats
                && matches!(plan.class, Class::Other { .. });
            if let Some(value) = value
                && is_attached(plan.class, name)
                && !repeats
            {
                labels.push(Label {
                    name: interner.str(name),
                    value: Value::Str(interner.str(&value)),
                });
            }
        }
        let mut limited = Vec::new();
        let mut is_other = false;
        for label in labels.iter_mut().filter(|label| self.guard.limits(&label.name)) {
            if text(&label.value).is_some_and(|value| !self.guard.admits(&label.name, &value)) {
                label.value = run.other.clone();
                limited.push(label.name.clone());
            }
            is_other |= label.value == run.other;
        }
        let labels = Labels::new(labels);
        let required: Vec<&'static str> = match plan.class {
            Class::Contract(row) => row.required_names().collect(),
            Class::Engine => vec![IDS[DEPLOYMENT], IDS[REPLICA]],
            Class::Other { .. } => Vec::new(),
        };
        let missing = required.into_iter().filter(|name| labels.get(name).is_none()).collect();
        let phase_is_bad = resolved.phase_is_bad && matches!(plan.class, Class::Contract(_));
        let resource = with_model_id(group, &labels, model_id);
        let group = run.out.group(Group { labels, resource, ..group.clone() });
        Target { group, missing, limited, is_other, phase_is_bad }
    }

    /// `labels` with values beyond a cap replaced, and whether one is `other` now.
    fn limited(&self, run: &mut Run<'_, '_>, labels: Labels) -> (Labels, bool) {
        if !labels.iter().any(|label| self.guard.limits(&label.name)) {
            return (labels, false);
        }
        let (mut is_other, mut changed) = (false, false);
        let limited = labels.iter().map(|label| {
            let mut label = label.clone();
            if self.guard.limits(&label.name) {
                if text(&label.value).is_some_and(|value| !self.guard.admits(&label.name, &value)) {
                    *run.limited.entry(label.name.clone()).or_default() += 1;
                    label.value = run.other.clone();
                    changed = true;
                }
                is_other |= label.value == run.other;
            }
            label
        });
        let limited = Labels::new(limited.collect());
        (if changed { limited } else { labels }, is_other)
    }

    /// True when the series is as its class demands; counts what is not.
    fn conforms(
        &self,
        run: &mut Run<'_, '_>,
        plan: &MetricPlan,
        target: &Target,
        labels: &Labels,
    ) -> bool {
        let mut conforms = plan.type_fits;
        if !plan.type_fits {
            breach(run, plan, Breach::Type, "");
        }
        for name in &target.missing {
            if labels.get(name).is_none() {
                breach(run, plan, Breach::Missing, name);
                // An engine's series without its deployment is still worth having, even to the strict.
                conforms &= !matches!(plan.class, Class::Contract(_));
            }
        }
        if matches!(plan.class, Class::Contract(_)) {
            if target.phase_is_bad {
                breach(run, plan, Breach::Value, "rollout_phase");
            }
            for label in labels {
                let Some(values) = label_values(&label.name) else { continue };
                if !label.value.as_str().is_some_and(|value| values.contains(&value)) {
                    breach(run, plan, Breach::Value, &label.name);
                    conforms = false;
                }
            }
        }
        conforms
    }

    fn report(&self, breaches: HashMap<(Str, Breach, Str), u64>, limited: HashMap<Str, u64>) {
        for ((metric, breach, label), series) in breaches {
            let reason = breach.as_str();
            self.telemetry
                .counter(&table::LABELS_VIOLATIONS, &[("metric", &metric), ("reason", reason)])
                .add(series);
            if self.causes.is_new(&format!("{metric} {reason} {label}")) {
                let help = help(breach, &label);
                warn!(%metric, reason, %label, series, help, "labels: series break their label set");
            }
        }
        for (label, series) in limited {
            self.telemetry.counter(&table::LABELS_LIMITED, &[("label", &label)]).add(series);
            if self.causes.is_new(&format!("limited {label}")) {
                warn!(%label, series, "labels: a label has more values than its limit, further ones become `other`");
            }
        }
    }
}

fn breach(run: &mut Run<'_, '_>, plan: &MetricPlan, breach: Breach, label: &str) {
    let interner = run.out.interner();
    let metric = match plan.class {
        Class::Contract(_) => plan.metric.name.clone(),
        Class::Engine => interner.str("engine"),
        Class::Other { .. } => interner.str("other"),
    };
    *run.breaches.entry((metric, breach, interner.str(label))).or_default() += 1;
}
