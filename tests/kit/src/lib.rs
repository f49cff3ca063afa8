//! Parts that tests share: the built binary as a child process, a plain HTTP client, genuine third parties, a backend
//! that misbehaves, and a source whose points are numbered.
//!
//! A test stops where it stands: everything here panics with what it saw instead of returning errors.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test stops where it stands"
)]

mod backend;
mod binary;
mod http;
mod part;
mod samples;
mod source;

pub use backend::{
    Arrived, Backend, Fault, Ledger, NativeHistogram, Request, STALE, Series, Span, Verdict,
    WriteRequest, Written, otlp_count, otlp_shown,
};
pub use binary::Binary;
pub use http::{Answer, get, get_with};
pub use part::{Child, part, python_with, wait_until};
pub use samples::{Sample, samples, value};
pub use source::{NUMBERED, NUMBERED_SERIES, Reply, Source, post_otlp};
