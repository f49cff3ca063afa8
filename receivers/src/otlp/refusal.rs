//! [`Refusal`]: why a request was not taken, in the words of both protocols. The numbers are those of the specification's
//! tables of retryable and non-retryable answers: <https://opentelemetry.io/docs/specs/otlp/>.

use std::time::Duration;

use http::StatusCode;
use pipeline_component::ConsumeError;
use pipeline_net::{Access, server::BodyError};
use pipeline_wire::otlp::ReadError;
use prost::Message;
use serde_json::json;
use tonic::Code;

/// Bytes of a message: with gRPC it travels as a header.
const MESSAGE_BYTES_MAX: usize = 1000;

/// When a client that came at a bad moment should come again, where nobody knows better.
pub(super) const COME_AGAIN: Duration = Duration::from_secs(1);

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Not the message that was expected.
    Malformed,
    /// More bytes than allowed.
    TooLarge,
    /// Too many requests at a time, or with one token.
    Busy,
    /// The pipeline is full.
    Full,
    /// Shutting down.
    Closed,
    /// The body did not arrive in time.
    Slow,
    /// The client broke off.
    Gone,
    /// No token, or an unknown one.
    Credentials,
    /// A content type or coding that nobody knows here.
    Encoding,
    /// Not POST.
    Method,
    /// No such address, or traces.
    Path,
}

impl Cause {
    pub(super) const ALL: [Self; 11] = [
        Self::Malformed,
        Self::TooLarge,
        Self::Busy,
        Self::Full,
        Self::Closed,
        Self::Slow,
        Self::Gone,
        Self::Credentials,
        Self::Encoding,
        Self::Method,
        Self::Path,
    ];

    /// A word for self telemetry.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::Closed => "closed",
            Self::Slow => "slow",
            Self::Gone => "gone",
            Self::Credentials => "credentials",
            Self::Encoding => "encoding",
            Self::Method => "method",
            Self::Path => "path",
        }
    }

    /// The status over HTTP. A slow client gets one that it may retry, which 408 is not.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::Gone => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Full | Self::Closed | Self::Slow => StatusCode::SERVICE_UNAVAILABLE,
            Self::Credentials => StatusCode::UNAUTHORIZED,
            Self::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Path => StatusCode::NOT_FOUND,
        }
    }

    /// The status over gRPC, and in the bodies of HTTP errors.
    pub(super) fn code(self) -> Code {
        match self {
            Self::Malformed => Code::InvalidArgument,
            // Never to be sent again without RetryInfo, which only `Busy` brings.
            Self::TooLarge | Self::Busy => Code::ResourceExhausted,
            Self::Full | Self::Closed => Code::Unavailable,
            Self::Slow => Code::DeadlineExceeded,
            Self::Gone => Code::Cancelled,
            Self::Credentials => Code::Unauthenticated,
            Self::Encoding | Self::Method | Self::Path => Code::Unimplemented,
        }
    }
}

/// A request that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) cause: Cause,
    /// For the person who runs the client.
    pub(super) message: String,
    /// When the client should come again.
    pub(super) after: Option<Duration>,
}

impl Refusal {
    pub(super) fn new(cause: Cause, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        Self { cause, message, after: None }
    }

    pub(super) fn retry_after(self, after: Duration) -> Self {
        Self { after: Some(after), ..self }
    }

    pub(super) fn busy(message: &str) -> Self {
        Self::new(Cause::Busy, message).retry_after(COME_AGAIN)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("expected a request of at most {limit} bytes after decompression");
        Self::new(Cause::TooLarge, message)
    }

    /// `None`: may go on.
    pub(super) fn of_access(access: &Access) -> Option<Self> {
        match access {
            Access::Allowed { .. } => None,
            Access::Missing => {
                Some(Self::new(Cause::Credentials, "expected an authorization header, found none"))
            }
            Access::Wrong => Some(Self::new(Cause::Credentials, "unknown token")),
            Access::Limited { retry_after } => Some(
                Self::new(Cause::Busy, "too many requests with this token")
                    .retry_after(*retry_after),
            ),
        }
    }

    /// Whole seconds for `Retry-After`, at least one.
    pub(super) fn retry_seconds(&self) -> Option<u64> {
        let after = self.after?;
        Some((after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1))
    }

    /// As a `google.rpc.Status`.
    pub(super) fn to_protobuf(&self) -> Vec<u8> {
        let mut details = Vec::new();
        if let Some(after) = self.after {
            let delay = Delay {
                seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                // Below a billion.
                nanos: after.subsec_nanos() as i32,
            };
            details.push(Any::of("RetryInfo", &RetryInfo { delay: Some(delay) }));
        }
        if self.cause == Cause::Malformed {
            let violation = Violation { field: String::new(), description: self.message.clone() };
            details.push(Any::of("BadRequest", &BadRequest { violations: vec![violation] }));
        }
        let status =
            Status { code: self.cause.code() as i32, message: self.message.clone(), details };
        status.encode_to_vec()
    }

    /// As a `google.rpc.Status` in JSON.
    pub(super) fn to_json(&self) -> String {
        let mut details = Vec::new();
        if let Some(after) = self.after {
            let delay = format!("{}.{:09}s", after.as_secs(), after.subsec_nanos());
            details.push(json!({ "@type": format!("{TYPES}RetryInfo"), "retryDelay": delay }));
        }
        if self.cause == Cause::Malformed {
            details.push(json!({
                "@type": format!("{TYPES}BadRequest"),
                "fieldViolations": [{ "field": "", "description": self.message }],
            }));
        }
        let code = self.cause.code() as i32;
        json!({ "code": code, "message": self.message, "details": details }).to_string()
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        Self::new(Cause::Malformed, error.to_string())
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let text = error.to_string();
        match error {
            BodyError::TooLarge { limit } => Self::too_large(limit),
            BodyError::Timeout { .. } => Self::new(Cause::Slow, text).retry_after(COME_AGAIN),
            BodyError::Coding => Self::new(Cause::Encoding, text),
            BodyError::Decode(cause) => Self::new(Cause::Malformed, format!("{text}: {cause}")),
            BodyError::Broken(_) => Self::new(Cause::Gone, text),
        }
    }
}

impl From<ConsumeError> for Refusal {
    fn from(error: ConsumeError) -> Self {
        let text = error.to_string();
        match error {
            ConsumeError::Full { after } => Self::new(Cause::Full, text).retry_after(after),
            ConsumeError::Closed => Self::new(Cause::Closed, text),
            ConsumeError::Permanent(text) => Self::new(Cause::Malformed, text),
        }
    }
}

/// What begins the names of the details' types.
const TYPES: &str = "type.googleapis.com/google.rpc.";

/// `google.rpc.Status`: <https://github.com/googleapis/googleapis/blob/master/google/rpc/status.proto>.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

impl Any {
    fn of(name: &str, message: &impl Message) -> Self {
        Self { type_url: format!("{TYPES}{name}"), value: message.encode_to_vec() }
    }
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Delay {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// `google.rpc.BadRequest`.
#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    violations: Vec<Violation>,
}

/// `google.rpc.BadRequest.FieldViolation`.
#[derive(Clone, PartialEq, Message)]
struct Violation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}
