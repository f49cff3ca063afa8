//! Parts that tests share: the built binary as a child process, a plain HTTP client, genuine third parties.
//!
//! A test stops where it stands: everything here panics with what it saw instead of returning errors.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test stops where it stands"
)]

mod binary;
mod http;
mod part;
mod samples;

pub use binary::Binary;
pub use http::{Answer, get, get_with};
pub use part::{Child, part, python_with, wait_until};
pub use samples::{Sample, samples, value};
