//! gRPC: one message in, one message out, over h2.
//!
//! A unary call is a body of one frame and an answer of one frame with trailers. It is read with the server's own limits
//! and decoders rather than with tonic's server: that one lets a compressed message of a few bytes ask for a window of
//! 128 MiB, makes a decoder for each message, and tells clients to repeat what is too large (OUT_OF_RANGE).
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use pipeline_net::server::BodyError;
use pipeline_net::{Body, Coding, Request, Response};
use tonic::Status;

use super::counts::Transport;
use super::intake::Intake;
use super::refusal::{Cause, Refusal};
use super::reply::{Format, Reply, Signal};
use super::web;

/// What begins the content type of every gRPC request.
const CONTENT_TYPE: &str = "application/grpc";

/// Bytes before a message: whether it is compressed, and its length.
const FRAME_HEAD_BYTES: usize = 5;

/// The one method of each service: opentelemetry-proto, collector/*/v1.
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Whether a request is gRPC's to answer.
pub(super) fn is_grpc(request: &Request) -> bool {
    request.header(&header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with(CONTENT_TYPE))
}

/// Answers a call.
pub(super) async fn answer(intake: &Intake, mut request: Request) -> Response {
    // Other content types than protobuf, gRPC-Web among them, are answered by HTTP alone: their clients could not read
    // anything else.
    let kind = request.header(&header::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim_end();
    if kind != CONTENT_TYPE && kind != "application/grpc+proto" {
        let text = format!("expected {CONTENT_TYPE} with protobuf, found `{kind}`");
        return web::failure(&Refusal::new(Cause::Encoding, text), None);
    }
    if *request.method() != Method::POST || request.head.version != Version::HTTP_2 {
        return Body::text(StatusCode::BAD_REQUEST, "expected POST over HTTP/2, which is gRPC's\n");
    }
    let tally = intake.counts.begin(Transport::Grpc);
    let called = call(intake, &mut request, |bytes| tally.message(bytes)).await;
    tally.end(called.as_ref().map(|(_, reply)| reply));
    match called {
        Ok((signal, reply)) => success(&reply, signal),
        Err(refusal) => failure(&refusal),
    }
}

async fn call(
    intake: &Intake,
    request: &mut Request,
    count: impl FnOnce(usize),
) -> Result<(Signal, Reply), Refusal> {
    let signal = signal(request.path())?;
    let _turn = intake.admit(request)?;
    let coding = match request.head.headers.get("grpc-encoding") {
        None => Coding::Identity,
        Some(name) => {
            let known = name.to_str().ok().and_then(Coding::parse);
            known.ok_or_else(|| {
                Refusal::new(Cause::Encoding, "expected grpc-encoding gzip, zstd or identity")
            })?
        }
    };
    request.limit_body(intake.bytes_max.saturating_add(FRAME_HEAD_BYTES));
    let body = request.gated_body(intake.gate()).await;
    let mut body = body.map_err(|error| match error {
        // The limit of the message, which is the one that users know.
        BodyError::TooLarge { .. } => Refusal::too_large(intake.bytes_max),
        other => other.into(),
    })?;
    let is_packed = unframe(&mut body.bytes, coding, intake.bytes_max)?;
    if is_packed {
        body = body.inflate(coding, intake.bytes_max, intake.gate(), intake.timeout).await?;
    }
    count(body.bytes.len());
    Ok((signal, intake.take(signal, Format::Protobuf, &body.bytes).await?))
}

fn signal(path: &str) -> Result<Signal, Refusal> {
    match path {
        METRICS => Ok(Signal::Metrics),
        LOGS => Ok(Signal::Logs),
        TRACES => {
            Err(Refusal::new(Cause::Path, "traces are not taken here, only metrics and logs"))
        }
        _ => Err(Refusal::new(Cause::Path, format!("there is no method {path}"))),
    }
}

/// Takes the head off the one message of a body; says whether it is compressed.
fn unframe(body: &mut Bytes, coding: Coding, max: usize) -> Result<bool, Refusal> {
    let malformed = |text: &str| Err(Refusal::new(Cause::Malformed, text));
    if body.len() < FRAME_HEAD_BYTES {
        return malformed("expected a message, found the end of the request");
    }
    let (flag, length) = (body.get_u8(), body.get_u32());
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > max {
        return Err(Refusal::too_large(max));
    }
    if body.len() < length {
        return malformed("expected a whole message, found the end of the request");
    }
    if body.len() > length {
        return malformed("expected one message, found more");
    }
    match (flag, coding) {
        (0, _) => Ok(false),
        (1, Coding::Gzip | Coding::Zstd) => Ok(true),
        (1, Coding::Identity) => malformed("a compressed message without grpc-encoding"),
        _ => malformed("expected a flag of 0 or 1 before the message"),
    }
}

fn success(reply: &Reply, signal: Signal) -> Response {
    let message = reply.encode(signal, Format::Protobuf);
    let frame = if message.is_empty() {
        Bytes::from_static(&[0; FRAME_HEAD_BYTES])
    } else {
        let mut frame = BytesMut::with_capacity(FRAME_HEAD_BYTES + message.len());
        frame.extend_from_slice(&[0]);
        frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
        frame.extend_from_slice(&message);
        frame.freeze()
    };
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    with_head(Response::new(Body::with_trailers(frame, trailers)))
}

/// An answer without a message has its status among the headers.
fn failure(refusal: &Refusal) -> Response {
    let (code, message) = (refusal.cause.code(), refusal.message.clone());
    let details = refusal.to_protobuf().into();
    with_head(Status::with_details(code, message, details).into_http())
}

fn with_head(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity,gzip,zstd"));
    response
}
