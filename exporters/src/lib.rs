//! Exporters: one folder each.

pub mod debug;
pub mod grafana_cloud;
pub mod newrelic;
pub mod otlp;
pub mod prometheus;
pub mod remote_write;

use pipeline_component::ExporterFactory;

/// Every exporter of this crate.
pub fn factories() -> Vec<ExporterFactory> {
    vec![
        ExporterFactory::exporter::<prometheus::Prometheus>(),
        ExporterFactory::exporter::<debug::Debug>(),
        ExporterFactory::exporter::<otlp::Otlp>(),
        ExporterFactory::exporter::<newrelic::NewRelic>(),
        ExporterFactory::exporter::<remote_write::RemoteWrite>(),
        ExporterFactory::exporter::<grafana_cloud::GrafanaCloud>(),
    ]
}
