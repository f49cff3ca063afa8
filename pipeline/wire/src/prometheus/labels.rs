//! Labels as Prometheus has them: texts under unique names.

use std::borrow::Cow;

use pipeline_model::{Kind, Label, Value};

use super::Escaping;
use super::escape::label_name;

/// The label that lines of `kind` carry beside the series' own: nobody else may use its name there.
pub(crate) fn reserved_label(kind: &Kind) -> Option<&'static str> {
    match kind {
        Kind::Histogram { .. } | Kind::ExponentialHistogram { .. } => Some("le"),
        Kind::Summary { .. } => Some("quantile"),
        Kind::Gauge | Kind::Sum { .. } => None,
    }
}

/// To Prometheus an empty label is none.
pub(crate) fn is_empty(value: &Value) -> bool {
    matches!(value, Value::Empty) || value.as_str() == Some("")
}

/// Labels with escaped names. Names that become equal are one label with the values joined by `;` in the order of the
/// original names, as OpenTelemetry's Prometheus page has it; a reserved name is left out.
pub(crate) fn escaped_labels<'a>(
    labels: impl Iterator<Item = &'a Label>,
    escaping: Escaping,
    reserved: Option<&str>,
) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
    let mut out: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
    for label in labels {
        let name = label_name(&label.name, escaping);
        if reserved == Some(&*name) {
            continue;
        }
        let value = match &label.value {
            Value::Str(text) => Cow::Borrowed(text.as_str()),
            other => Cow::Owned(other.to_string()),
        };
        match out.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => {
                let known = known.to_mut();
                known.push(';');
                known.push_str(&value);
            }
            None => out.push((name, value)),
        }
    }
    out
}
