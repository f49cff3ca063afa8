//! Exporters: one folder each.

pub mod debug;
pub mod newrelic;
pub mod otlp;
pub mod prometheus;

use pipeline_component::ExporterFactory;

/// Every exporter of this crate.
pub fn factories() -> Vec<ExporterFactory> {
    vec![
        ExporterFactory::exporter::<prometheus::Prometheus>(),
        ExporterFactory::exporter::<debug::Debug>(),
        ExporterFactory::exporter::<otlp::Otlp>(),
        ExporterFactory::exporter::<newrelic::NewRelic>(),
    ]
}
