//! Exposition: "the newest batch of each source" as a page that Prometheus scrapes. Sans-IO.
//!
//! The one idea: a line is `name{` + the group's labels + the row's own labels + `} ` + a number, and all but the
//! number is known before the value is. The names are written once per family and render, the labels of a group once
//! per shape, the own labels of a row once per [`pipeline_model::Table`] - which thousands of equal targets share - so
//! a render is a loop of short copies and number prints.
//!
//! [`Exposition`] keeps the newest batch of each source and decides, when a source's shape changes, which of its series
//! can be shown, and how: OpenTelemetry's under Prometheus' names ([`Otel`]), one type per family name, one owner per series. [`Exposition::snapshot`] is cheap and is rendered
//! without holding anything up.
//!
//! Formats: <https://prometheus.io/docs/instrumenting/exposition_formats/>,
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>; name escaping:
//! <https://prometheus.io/docs/instrumenting/escaping_schemes/>.

mod carry;
mod index;
mod label_text;
mod native;
mod otel;
mod protobuf;
mod snapshot;
mod state;
mod text;

pub use crate::prometheus::{Escaping, Naming};
pub use otel::Otel;
pub use snapshot::{Only, Snapshot};
pub use state::{Dropped, Exposition};

#[cfg(test)]
mod otel_tests;
#[cfg(test)]
mod roundtrip;
#[cfg(test)]
mod tests;

/// What a page is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text, versions 0.0.4 and 1.0.0: they differ only in what escaping readers of them ask for.
    Text,
    /// OpenMetrics text 1.0.
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages; the only one with native histograms.
    Protobuf,
}

/// A format and what it does with names outside `[a-zA-Z_:][a-zA-Z0-9_:]*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Style {
    /// The format.
    pub format: Format,
    /// The escaping of names.
    pub escaping: Escaping,
}

/// What a page says beside values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Options {
    /// In OpenMetrics a `_created` line per counter, histogram and summary whose start is known: one more series each.
    pub created: bool,
    /// Explicit timestamps. Prometheus does not mark such series stale when they vanish.
    pub timestamps: bool,
}
