//! HTTP: `POST /v1/metrics` and `/v1/logs`, in protobuf or JSON, answered in the same.

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use pipeline_net::{Body, Request, Response};

use super::cors::Cors;
use super::counts::Transport;
use super::intake::Intake;
use super::refusal::{Cause, Refusal};
use super::reply::{Format, Reply, Signal};

/// Answers a request.
pub(super) async fn answer(intake: &Intake, cors: Option<&Cors>, mut request: Request) -> Response {
    let origin = cors.and_then(|cors| cors.origin(&request));
    if let Some(preflight) = cors.and_then(|cors| cors.preflight(&request, origin.as_ref())) {
        return preflight;
    }
    let tally = intake.counts.begin(Transport::Http);
    let format = format_of(&request);
    let posted = post(intake, &mut request, format, |bytes| tally.message(bytes)).await;
    tally.end(posted.as_ref().map(|(_, reply)| reply));
    let mut response = match posted {
        Ok((signal, reply)) => {
            // Nothing is taken that has no known format.
            let format = format.unwrap_or(Format::Protobuf);
            Body::response(StatusCode::OK, content_type(format), reply.encode(signal, format))
        }
        Err(refusal) => {
            // Whoever was too slow already is not waited for.
            if !matches!(refusal.cause, Cause::Slow | Cause::Gone) {
                request.discard().await;
            }
            failure(&refusal, format)
        }
    };
    if let Some(cors) = cors {
        cors.mark(&mut response, origin);
    }
    response
}

async fn post(
    intake: &Intake,
    request: &mut Request,
    format: Option<Format>,
    count: impl FnOnce(usize),
) -> Result<(Signal, Reply), Refusal> {
    if *request.method() != Method::POST {
        return Err(Refusal::new(Cause::Method, "expected POST to /v1/metrics or /v1/logs"));
    }
    let signal = signal(request.path())?;
    let _turn = intake.admit(request)?;
    let Some(format) = format else {
        let text = "expected content-type application/x-protobuf or application/json";
        return Err(Refusal::new(Cause::Encoding, text));
    };
    let body = request.gated_body(intake.gate()).await?;
    count(body.bytes.len());
    Ok((signal, intake.take(signal, format, &body.bytes).await?))
}

fn signal(path: &str) -> Result<Signal, Refusal> {
    match path {
        "/v1/metrics" => Ok(Signal::Metrics),
        "/v1/logs" => Ok(Signal::Logs),
        "/v1/traces" => {
            Err(Refusal::new(Cause::Path, "traces are not taken here, only metrics and logs"))
        }
        _ => Err(Refusal::new(Cause::Path, "there are /v1/metrics and /v1/logs")),
    }
}

/// How a request is written down. `None`: in no way that is known here.
fn format_of(request: &Request) -> Option<Format> {
    let kind = request.header(&header::CONTENT_TYPE)?.split(';').next()?.trim();
    if kind.eq_ignore_ascii_case("application/x-protobuf") {
        Some(Format::Protobuf)
    } else if kind.eq_ignore_ascii_case("application/json") {
        Some(Format::Json)
    } else {
        None
    }
}

fn content_type(format: Format) -> HeaderValue {
    HeaderValue::from_static(match format {
        Format::Protobuf => "application/x-protobuf",
        Format::Json => "application/json",
    })
}

/// A status in the format of the request. Whoever sends OTLP under another name gets it too, as the specification wants
/// it; whoever names no format at all, with a browser for instance, gets plain text.
pub(super) fn failure(refusal: &Refusal, format: Option<Format>) -> Response {
    let status = refusal.cause.status();
    let format = format.or_else(|| (refusal.cause == Cause::Encoding).then_some(Format::Protobuf));
    let mut response = match format {
        Some(format @ Format::Protobuf) => {
            Body::response(status, content_type(format), refusal.to_protobuf())
        }
        Some(format @ Format::Json) => {
            Body::response(status, content_type(format), refusal.to_json())
        }
        None => Body::text(status, Bytes::from(format!("{}\n", refusal.message))),
    };
    let headers = response.headers_mut();
    if let Some(seconds) = refusal.retry_seconds() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    match refusal.cause {
        Cause::Credentials => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Cause::Method => {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        _ => {}
    }
    response
}
