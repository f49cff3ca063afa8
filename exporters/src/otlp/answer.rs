//! What a backend's answer means: delivered, delivered in part, worth another attempt, too large, or in vain.
//!
//! Source: OpenTelemetry protocol specification, "OTLP/gRPC Response", "OTLP/HTTP Response", "Failures".

use std::time::Duration;

use pipeline_component::{Delivered, ExportError};
use pipeline_net::{Answer, FetchError, GrpcAnswer};
use prost::Message;

use super::plan::Rules;

/// Characters of a server's words that are told.
const WORDS_MAX: usize = 300;

/// Type of the answers that the specification has.
const PROTOBUF: &str = "application/x-protobuf";

/// `ExportMetricsServiceResponse`.
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `ExportMetricsPartialSuccess`.
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// An answer over HTTP.
pub(super) fn of_http(
    answer: &Answer,
    body: &[u8],
    rules: Rules,
) -> Result<Delivered, ExportError> {
    let status = answer.status.as_u16();
    if answer.status.is_success() {
        return taken(answer, body);
    }
    let words = words_of(answer, body);
    let said = said(&format!("HTTP status {status}"), &words);
    Err(match status {
        429 | 502 | 503 | 504 => ExportError::Retryable { reason: said, after: answer.retry_after },
        408 | 500..=599 if rules.retry_any_failure => {
            ExportError::Retryable { reason: said, after: answer.retry_after }
        }
        413 => ExportError::TooLarge(said),
        401 | 403 => ExportError::Permanent(format!("{said}: {}", rules.refused)),
        _ => ExportError::Permanent(said),
    })
}

/// What a success says. One in words of another kind comes from something else: a login page, a wrong address. That may
/// be put right while the queue keeps what waits, so it is worth another attempt.
fn taken(answer: &Answer, body: &[u8]) -> Result<Delivered, ExportError> {
    let foreign = if is_type(answer, "text/html") {
        true
    } else if body.is_empty() {
        return Ok(Delivered::default());
    } else if is_type(answer, "application/json") {
        // The same message in its other encoding, of a server that has only that one.
        !body.trim_ascii_start().starts_with(b"{")
    } else {
        ExportResponse::decode(body).is_err()
    };
    if !foreign {
        return Ok(partial(body));
    }
    let status = answer.status.as_u16();
    let reason = format!(
        "HTTP status {status}, but the answer is none of an OTLP endpoint; check the address"
    );
    Err(ExportError::Retryable { reason: said(&reason, &text_of(body)), after: answer.retry_after })
}

/// What a failure says: the message of `google.rpc.Status`, or the body as it is.
fn words_of(answer: &Answer, body: &[u8]) -> String {
    if !is_type(answer, PROTOBUF) {
        return text_of(body);
    }
    match Status::decode(body) {
        Ok(status) if !status.message.is_empty() => status.message,
        // A status without words; as text it would be noise.
        Ok(Status { details, .. }) if !details.is_empty() => String::new(),
        Ok(_) | Err(_) => text_of(body),
    }
}

/// The begin of a body as text.
fn text_of(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..4 * WORDS_MAX).unwrap_or(body)).into_owned()
}

fn is_type(answer: &Answer, name: &str) -> bool {
    let value = answer.content_type.as_ref().map(http::HeaderValue::as_bytes);
    let start = value.and_then(|value| value.get(..name.len()));
    start.is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
}

/// An answer over gRPC.
pub(super) fn of_grpc(
    answer: &GrpcAnswer,
    body: &[u8],
    rules: Rules,
) -> Result<Delivered, ExportError> {
    if answer.code == 0 {
        return Ok(partial(body));
    }
    let after = answer.details.as_deref().and_then(retry_delay);
    let reason = said(&format!("gRPC status {}", name(answer.code)), &answer.message);
    // gRPC has no code for "too large": servers say RESOURCE_EXHAUSTED or OUT_OF_RANGE, and what they mean in words.
    // OUT_OF_RANGE would otherwise be sent again for ever, since the specification has it among the retryable codes.
    if matches!(answer.code, 8 | 11) && after.is_none() && speaks_of_size(&answer.message) {
        return Err(ExportError::TooLarge(reason));
    }
    Err(match answer.code {
        1 | 4 | 10 | 11 | 14 | 15 => ExportError::Retryable { reason, after },
        8 if after.is_some() => ExportError::Retryable { reason, after },
        7 | 16 => ExportError::Permanent(format!("{reason}: {}", rules.refused)),
        _ => ExportError::Permanent(reason),
    })
}

/// No answer.
pub(super) fn of_failure(error: &FetchError) -> ExportError {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    match error {
        // There was an answer. Asking again would get the same one, and deliver everything twice each time.
        FetchError::TooLarge { .. } | FetchError::Coding { .. } | FetchError::Decode { .. } => {
            ExportError::Permanent(format!("cannot read the answer: {reason}"))
        }
        _ => ExportError::Retryable { reason, after: None },
    }
}

/// What a response says of the request that it took. One that cannot be read says nothing.
fn partial(body: &[u8]) -> Delivered {
    let partial = ExportResponse::decode(body).ok().and_then(|response| response.partial_success);
    let Some(PartialSuccess { rejected, message }) = partial else { return Delivered::default() };
    Delivered { rejected: u64::try_from(rejected).unwrap_or(0), message: words(&message) }
}

/// The delay in `google.rpc.RetryInfo`, if there is one.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = Status::decode(details).ok()?;
    let info =
        status.details.iter().find(|detail| detail.type_url.ends_with("google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.delay.unwrap_or_default();
    let seconds = u64::try_from(delay.seconds).unwrap_or(0);
    Some(Duration::new(seconds, u32::try_from(delay.nanos).unwrap_or(0)))
}

/// The words of grpc-go, grpc-java, tonic and this program.
fn speaks_of_size(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["larger than", "too large", "exceeds max", "size limit", "exceeds the limit"]
        .iter()
        .any(|words| message.contains(words))
}

fn said(status: &str, message: &str) -> String {
    let message = words(message);
    if message.is_empty() { status.to_owned() } else { format!("{status}: {message}") }
}

/// A server's words as one line of bounded length.
fn words(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect()
}

/// Source: <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>.
fn name(code: u32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(code as usize).copied().unwrap_or("of an unknown code")
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode};
    use pipeline_net::Coding;

    use super::*;

    fn show(result: Result<Delivered, ExportError>) -> String {
        match result {
            Ok(Delivered { rejected, message }) => format!("delivered but {rejected} {message}"),
            Err(ExportError::Retryable { after, .. }) => format!("again {after:?}"),
            Err(ExportError::TooLarge(_)) => "halves".to_owned(),
            Err(ExportError::Permanent(why)) => format!("never: {why}"),
        }
    }

    #[track_caller]
    fn http(status: u16, retry_after: Option<u64>, protobuf: bool, body: &[u8], expected: &str) {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            content_type: protobuf.then(|| HeaderValue::from_static("application/x-protobuf")),
            content_encoding: Coding::Identity,
            retry_after: retry_after.map(Duration::from_secs),
            wire_bytes: 0,
        };
        assert_eq!(show(of_http(&answer, body, Rules::OTLP)), expected, "{status}");
    }

    fn response(rejected: i64, message: &str) -> Vec<u8> {
        let partial = PartialSuccess { rejected, message: message.to_owned() };
        ExportResponse { partial_success: Some(partial) }.encode_to_vec()
    }

    #[test]
    fn statuses_of_http() {
        http(200, None, true, b"", "delivered but 0 ");
        http(200, None, true, &response(3, "too\nold"), "delivered but 3 too old");
        http(200, None, true, &response(-3, ""), "delivered but 0 ");
        for status in [429, 502, 503, 504] {
            http(status, Some(7), false, b"", "again Some(7s)");
            http(status, None, false, b"", "again None");
        }
        http(413, None, false, b"", "halves");
        http(400, None, false, b"bad  \n thing", "never: HTTP status 400: bad thing");
        let status = Status { message: "no such tenant".to_owned(), details: Vec::new() };
        http(404, None, true, &status.encode_to_vec(), "never: HTTP status 404: no such tenant");
        http(500, None, false, b"", "never: HTTP status 500");
        http(302, None, false, b"", "never: HTTP status 302");
        let refused =
            "the endpoint refuses the credentials; check `headers`, `bearer_token` or `basic_auth`";
        http(401, None, false, b"", &format!("never: HTTP status 401: {refused}"));
        http(403, None, false, b"", &format!("never: HTTP status 403: {refused}"));
    }

    #[track_caller]
    fn of_type(status: u16, content_type: &'static str, body: &[u8]) -> String {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            content_type: Some(HeaderValue::from_static(content_type)),
            content_encoding: Coding::Identity,
            retry_after: None,
            wire_bytes: 0,
        };
        match of_http(&answer, body, Rules::OTLP) {
            Err(ExportError::Retryable { reason, .. }) => format!("again: {reason}"),
            other => show(other),
        }
    }

    /// Of something that knows nothing of OTLP a success is none.
    #[test]
    fn a_success_in_other_words() {
        let foreign =
            "again: HTTP status 200, but the answer is none of an OTLP endpoint; check the address";
        let page = b"<html>hello</html>";
        for kind in [PROTOBUF, "text/html", "Text/HTML; charset=utf-8", "text/plain"] {
            assert_eq!(of_type(200, kind, page), format!("{foreign}: <html>hello</html>"));
        }
        assert_eq!(of_type(200, "text/html", b""), foreign);
        assert_eq!(of_type(200, "application/json", b"[]"), format!("{foreign}: []"));
        for kind in [PROTOBUF, "text/plain", "application/json"] {
            assert_eq!(of_type(200, kind, b""), "delivered but 0 ");
        }
        assert_eq!(of_type(200, "application/json", b"{}"), "delivered but 0 ");
        assert_eq!(of_type(200, PROTOBUF, &response(2, "old")), "delivered but 2 old");
    }

    /// A failure is told in the words of whoever failed, whatever type they claim to be.
    #[test]
    fn a_failure_in_other_words() {
        for kind in [PROTOBUF, "text/html", "application/json"] {
            assert_eq!(
                of_type(400, kind, b"upstream\nsays no"),
                "never: HTTP status 400: upstream says no"
            );
        }
        let long = of_type(502, PROTOBUF, "<x".repeat(5000).as_bytes());
        assert_eq!(long.len(), "again: HTTP status 502: ".len() + WORDS_MAX);
        let status = Status { details: vec![Detail::default()], ..Status::default() };
        assert_eq!(of_type(400, PROTOBUF, &status.encode_to_vec()), "never: HTTP status 400");
    }

    #[track_caller]
    fn grpc(code: u32, message: &str, delay: Option<(i64, i32)>, expected: &str) {
        let details = delay.map(|(seconds, nanos)| {
            let info = RetryInfo { delay: Some(Delay { seconds, nanos }) };
            let detail = Detail {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
                value: info.encode_to_vec(),
            };
            Status { message: String::new(), details: vec![detail] }.encode_to_vec()
        });
        let answer = GrpcAnswer { code, message: message.to_owned(), details };
        assert_eq!(show(of_grpc(&answer, &[], Rules::OTLP)), expected, "{code}");
    }

    #[test]
    fn codes_of_grpc() {
        grpc(0, "", None, "delivered but 0 ");
        for code in [1, 4, 10, 11, 14, 15] {
            grpc(code, "busy", None, "again None");
            grpc(code, "busy", Some((2, 500_000_000)), "again Some(2.5s)");
        }
        grpc(8, "quota", Some((1, 0)), "again Some(1s)");
        grpc(8, "quota", None, "never: gRPC status RESOURCE_EXHAUSTED: quota");
        grpc(8, "grpc: received message larger than max (5 vs. 4)", None, "halves");
        grpc(11, "Error, decoded message length too large: found 5 bytes", None, "halves");
        grpc(3, "bad", None, "never: gRPC status INVALID_ARGUMENT: bad");
        grpc(12, "", None, "never: gRPC status UNIMPLEMENTED");
        grpc(99, "", None, "never: gRPC status of an unknown code");
        assert!(
            show(of_grpc(&GrpcAnswer { code: 16, ..GrpcAnswer::default() }, &[], Rules::OTLP))
                .contains("UNAUTHENTICATED: the endpoint refuses")
        );
    }

    #[test]
    fn a_backend_may_have_rules_of_its_own() {
        let rules = Rules { retry_any_failure: true, refused: "check `api_key`" };
        let answer = |status: u16| Answer {
            status: StatusCode::from_u16(status).unwrap(),
            content_type: None,
            content_encoding: Coding::Identity,
            retry_after: None,
            wire_bytes: 0,
        };
        for status in [408, 500, 520] {
            assert_eq!(show(of_http(&answer(status), b"", rules)), "again None");
        }
        assert_eq!(
            show(of_http(&answer(403), b"", rules)),
            "never: HTTP status 403: check `api_key`"
        );
    }
}
