//! Bytes to model and back: Prometheus text, OpenMetrics, protobuf exposition, compression with caps. Sans-IO.

pub mod exposition;
pub mod otlp;
pub mod proto;
pub mod scrape;
