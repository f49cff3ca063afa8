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
