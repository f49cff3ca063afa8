//! Bytes to model and back: the Prometheus expositions, OTLP, remote write. Sans-IO.

pub mod exposition;
pub mod otlp;
pub mod prometheus;
pub mod proto;
pub mod remote_write;
pub mod scrape;
