//! [`Plan`]: what a sender needs to know, whichever exporter it is made for.

use std::time::Duration;

use pipeline_net::{Client, Coding};
use pipeline_wire::otlp::encode;

use super::config::{Balance, Protocol};

/// What is meant by a configuration of `otlp`, or of a preset on it.
pub(crate) struct Plan {
    /// Credentials, headers, TLS.
    pub(crate) client: Client,
    /// Where to; for HTTP with the path. At least one.
    pub(crate) urls: Vec<String>,
    pub(crate) balance: Balance,
    pub(crate) resolve_interval: Duration,
    pub(crate) protocol: Protocol,
    pub(crate) coding: Coding,
    /// Of one attempt.
    pub(crate) timeout: Duration,
    /// Largest request before compression.
    pub(crate) raw_bytes_max: usize,
    /// Largest request after it.
    pub(crate) wire_bytes_max: usize,
    pub(crate) options: encode::Options,
    pub(crate) rules: Rules,
}

/// How a backend's answers are to be understood where the specification leaves it open, or is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Every 5xx and 408 are worth another attempt, not only 502, 503 and 504.
    pub(crate) retry_any_failure: bool,
    /// What to say when credentials are refused.
    pub(crate) refused: &'static str,
}

impl Rules {
    /// The specification.
    pub(crate) const OTLP: Self = Self {
        retry_any_failure: false,
        refused: "the endpoint refuses the credentials; check `headers`, `bearer_token` or `basic_auth`",
    };
}
