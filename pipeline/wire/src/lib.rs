//! Bytes to model and back: Prometheus text, OpenMetrics, protobuf exposition, compression with caps. Sans-IO.

pub mod exposition;
pub mod otlp;
pub mod prometheus;
pub mod proto;
pub mod remote_write;
pub mod scrape;
