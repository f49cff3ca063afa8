//! OTLP metrics: the bytes of an export request and back. Sans-IO.
//!
//! [`MetricsReader`] turns requests into batches: it walks the protobuf where it lies and knows again what it has seen
//! before, so that in the steady state only numbers are decoded.
//!
//! Spec: <https://opentelemetry.io/docs/specs/otlp/>, messages: opentelemetry-proto, metrics/v1.

mod decode;
pub mod encode;

pub use decode::{MetricsReader, ReadError, ReadSettings, ReadStats, ReaderStats, Reason};
