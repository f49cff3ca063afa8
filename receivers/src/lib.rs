//! Receivers: one folder each.

pub mod otlp;
pub mod prometheus;

use pipeline_component::ReceiverFactory;

/// Every receiver of this crate.
pub fn factories() -> Vec<ReceiverFactory> {
    vec![
        ReceiverFactory::receiver::<prometheus::Prometheus>(),
        ReceiverFactory::receiver::<otlp::Otlp>(),
    ]
}
