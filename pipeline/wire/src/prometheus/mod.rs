//! How the model is said to Prometheus, whatever the bytes: names, types, labels, bounds, native histograms.

pub(crate) mod escape;
pub(crate) mod family;
pub(crate) mod labels;
pub(crate) mod native;
pub(crate) mod number;
pub(crate) mod origin;
pub(crate) mod translate;

pub use escape::Escaping;
pub use translate::Naming;

use std::borrow::Cow;

use pipeline_model::{Contract, Series};

/// The name under which a store finds `series`: of a histogram without `_bucket` and the like. Metrics of the contract
/// keep theirs. `utf8`: it takes any name.
pub fn stored_name<'a>(
    series: &Series<'a>,
    contract: &Contract,
    naming: Naming,
    utf8: bool,
) -> Cow<'a, str> {
    let ty =
        family::Type::of(series.metric).unwrap_or_else(|| family::Type::of_delta(series.metric));
    let is_ours = contract.find(&series.metric.name).is_some();
    let otel = !is_ours && origin::is_otel(series.group, &series.metric.name);
    translate::stored_name(series.metric, ty, naming, otel, utf8)
}
