//! The rules of the step: which labels each class of metric has, and what else depends on names and kinds alone.

use std::sync::Arc;

use pipeline_model::{
    ContractMetric, ContractType, Fold, Group, Hint, Kind, Label, Labels, Metric, Number, Resource,
    Str, Temporality, Value,
};

use super::resolve::{DEPLOYMENT, IDS, MODEL_ID, REPLICA};
use crate::engine::exported;
use crate::pod_id::POD_ID_LABEL;

/// The one label of the contract that engines have as their own.
pub(super) const MODEL_NAME: &str = "model_name";

/// Whose label set a metric gets.
#[derive(Clone, Copy)]
pub(super) enum Class {
    /// The contract's, exactly.
    Contract(&'static ContractMetric),
    /// Its own labels and the engine's two.
    Engine,
    /// Its own and the target's; `kept` even where others are dropped.
    Other { kept: bool },
}

/// Why a series breaks its label set; the value of the label `reason`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Breach {
    Missing,
    Extra,
    Value,
    Type,
    Collision,
}

impl Breach {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Value => "value",
            Self::Type => "type",
            Self::Collision => "collision",
        }
    }
}

/// What to do about it.
pub(super) fn help(breach: Breach, label: &str) -> Option<&'static str> {
    (breach == Breach::Missing && IDS.contains(&label))
        .then_some("set it under [processors.labels.attach], or as a label of the target")
}

/// True for what a page says under a name of the contract and had to give way to the target's label of that name.
pub(super) fn is_claim(name: &str) -> bool {
    let mut bare = name;
    while let Some(rest) = exported(bare) {
        bare = rest;
    }
    bare.len() < name.len() && ContractMetric::all().any(|row| row.label_names().any(|n| n == bare))
}

/// The resource of `group`, with the id of the model where `labels` do not say it: series that do not show it can
/// be found by it all the same.
pub(super) fn with_model_id(
    group: &Group,
    labels: &Labels,
    model_id: Option<Str>,
) -> Arc<Resource> {
    let Resource { attributes, schema_url } = &*group.resource;
    match model_id {
        Some(id)
            if labels.get(IDS[MODEL_ID]).is_none()
                && attributes.text(IDS[MODEL_ID]) != Some(&id) =>
        {
            let own = Label { name: IDS[MODEL_ID].into(), value: Value::Str(id) };
            Arc::new(Resource {
                attributes: attributes.merged(&Labels::new(vec![own])),
                schema_url: schema_url.clone(),
            })
        }
        _ => Arc::clone(&group.resource),
    }
}

/// True when the class gets this one of [`IDS`] attached.
pub(super) fn is_attached(class: Class, name: &str) -> bool {
    match class {
        Class::Contract(row) => row.label_names().any(|allowed| allowed == name),
        Class::Engine | Class::Other { .. } => name == IDS[DEPLOYMENT] || name == IDS[REPLICA],
    }
}

/// True when a target's label stays on series of the class; attached ones are put on afterwards.
pub(super) fn stays(class: Class, name: &str) -> bool {
    match class {
        Class::Contract(row) => {
            !IDS.contains(&name) && row.label_names().any(|allowed| allowed == name)
        }
        // There only where `pod_id` was told to.
        Class::Engine => name == POD_ID_LABEL,
        Class::Other { .. } => true,
    }
}

pub(super) fn fits(contract: ContractType, kind: &Kind) -> bool {
    match contract {
        ContractType::Counter => matches!(kind, Kind::Sum { monotonic: true, .. }),
        ContractType::Gauge => matches!(kind, Kind::Gauge),
        ContractType::Histogram => {
            matches!(kind, Kind::Histogram { .. } | Kind::ExponentialHistogram { .. })
        }
    }
}

/// The metric under its own name with the contract's unit and help; how points lie stays the source's affair.
pub(super) fn as_in_contract(row: &ContractMetric, metric: &Metric) -> Arc<Metric> {
    Arc::new(Metric {
        name: metric.name.clone(),
        unit: row.unit.into(),
        description: row.help.into(),
        kind: metric.kind.clone(),
        number: metric.number,
        hint: Hint::None,
    })
}

/// How series that become equal under `other` are added up: increases of what is cumulative, values of the rest.
/// What cannot be added (quantiles, ragged buckets, exact integers) stays single, and the others of its kind are
/// counted as collisions.
pub(super) fn fold(metric: &Metric) -> Fold {
    if metric.number == Number::Int {
        return Fold::Only;
    }
    match metric.kind {
        Kind::Sum { monotonic: true, temporality: Temporality::Cumulative }
        | Kind::Histogram { temporality: Temporality::Cumulative, min_max: false, .. } => {
            Fold::SumCounter
        }
        Kind::Gauge | Kind::Sum { .. } | Kind::Histogram { min_max: false, .. } => Fold::Sum,
        Kind::Histogram { .. } | Kind::ExponentialHistogram { .. } | Kind::Summary { .. } => {
            Fold::Only
        }
    }
}
