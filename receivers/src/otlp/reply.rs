//! [`Reply`]: what became of a request that was taken, as an `Export…ServiceResponse`.

use bytes::Bytes;
use prost::Message;
use serde_json::json;

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Metrics,
    Logs,
}

/// How a request is written down; its answer is written in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Protobuf,
    Json,
}

/// What became of a request that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// Points or records that were not taken, and must not be sent again.
    pub(super) rejected: u64,
    /// Why. Empty: all is well.
    pub(super) message: String,
}

impl Reply {
    /// Whether there is nothing to say.
    pub(super) fn is_plain(&self) -> bool {
        self.rejected == 0 && self.message.is_empty()
    }

    /// Adds what the pipeline refused for good.
    pub(super) fn refuse(&mut self, points: u64, reason: &str) {
        self.rejected += points;
        // One reason is enough: the others are likely to be the same.
        if !self.message.contains("refused by the pipeline") {
            let comma = if self.message.is_empty() { "" } else { ", " };
            self.message.push_str(&format!("{comma}refused by the pipeline: {reason}"));
        }
    }

    /// The response message; without `partial_success` when all is well, as the specification wants.
    pub(super) fn encode(&self, signal: Signal, format: Format) -> Bytes {
        match format {
            Format::Protobuf if self.is_plain() => Bytes::new(),
            Format::Protobuf => {
                let rejected = i64::try_from(self.rejected).unwrap_or(i64::MAX);
                let partial = Partial { rejected, message: self.message.clone() };
                Response { partial: Some(partial) }.encode_to_vec().into()
            }
            Format::Json if self.is_plain() => Bytes::from_static(b"{}"),
            Format::Json => {
                let key = match signal {
                    Signal::Metrics => "rejectedDataPoints",
                    Signal::Logs => "rejectedLogRecords",
                };
                // 64-bit numbers are strings in the JSON of protobuf.
                let partial =
                    json!({ key: self.rejected.to_string(), "errorMessage": self.message });
                json!({ "partialSuccess": partial }).to_string().into()
            }
        }
    }
}

/// `ExportMetricsServiceResponse` and `ExportLogsServiceResponse`, which differ in names alone.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial: Option<Partial>,
}

/// `ExportMetricsPartialSuccess` and `ExportLogsPartialSuccess`.
#[derive(Clone, PartialEq, Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}
