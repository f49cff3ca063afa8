//! The backend's server: connections that can be broken, requests that are read whole, answers in three protocols.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::ledger::Arrived;
use super::{Fault, State, otlp, remote_write};

type Body = BoxBody<Bytes, Infallible>;

/// A connection that can be reset.
struct Line {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // The peer sees the end either way.
            drop(self.stream.set_zero_linger());
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Serves while `up` says so, for as long as the runtime lives.
pub(super) async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    mut up: watch::Receiver<bool>,
    listening: watch::Sender<bool>,
) {
    let mut first = Some(listener);
    loop {
        let listener = match first.take() {
            Some(listener) => listener,
            None => match TcpListener::bind(address).await {
                Ok(listener) => listener,
                Err(_) => {
                    // Somebody else's connection has the port at this moment.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        listening.send_replace(true);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        connections.spawn(converse(stream, Arc::clone(&state)));
                    }
                }
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                gone = up.wait_for(|up| !*up) => {
                    if gone.is_err() {
                        return;
                    }
                    break;
                }
            }
        }
        drop(listener);
        connections.shutdown().await;
        listening.send_replace(false);
        if up.wait_for(|up| *up).await.is_err() {
            return;
        }
    }
}

async fn converse(stream: TcpStream, state: Arc<Mutex<State>>) {
    drop(stream.set_nodelay(true));
    let reset = Arc::new(AtomicBool::new(false));
    let end = Arc::new(Notify::new());
    let line = Line { stream, reset: Arc::clone(&reset) };
    let service = {
        let end = Arc::clone(&end);
        hyper::service::service_fn(move |request| {
            let (state, reset, end) = (Arc::clone(&state), Arc::clone(&reset), Arc::clone(&end));
            async move {
                match answer(request, &state).await {
                    Outcome::Answer(response) => Ok::<_, Infallible>(response),
                    Outcome::Close { with_reset } => {
                        reset.store(with_reset, Ordering::Relaxed);
                        end.notify_one();
                        std::future::pending().await
                    }
                }
            }
        })
    };
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    tokio::select! {
        // A client that goes away is no event here.
        _ = builder.serve_connection(TokioIo::new(line), service) => {}
        () = end.notified() => {}
    }
}

enum Outcome {
    Answer(Response<Body>),
    Close { with_reset: bool },
}

/// Which protocol a request speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    OtlpHttp,
    OtlpGrpc,
    Write1,
    Write2,
}

fn protocol(head: &HeaderMap, path: &str) -> Option<Protocol> {
    let kind = head.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/grpc") {
        return path.ends_with("MetricsService/Export").then_some(Protocol::OtlpGrpc);
    }
    if path.ends_with("/v1/metrics") {
        return (kind == "application/x-protobuf").then_some(Protocol::OtlpHttp);
    }
    match kind {
        "application/x-protobuf" | "application/x-protobuf;proto=prometheus.WriteRequest" => {
            Some(Protocol::Write1)
        }
        "application/x-protobuf;proto=io.prometheus.write.v2.Request" => Some(Protocol::Write2),
        _ => None,
    }
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed()
}

fn plain(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    response
}

fn grpc_code(status: u16) -> u32 {
    match status {
        400 => 3,
        401 => 16,
        403 => 7,
        404 => 5,
        413 | 429 => 8,
        501 => 12,
        502..=504 => 14,
        _ => 13,
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// `google.rpc.Status` with `RetryInfo`, as the trailer has it.
fn retry_info(code: u32, seconds: u64) -> String {
    let (mut duration, mut info, mut any, mut status) = (vec![8], vec![], vec![], vec![8]);
    varint(&mut duration, seconds);
    field(&mut info, 1, &duration);
    field(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
    field(&mut any, 2, &info);
    varint(&mut status, u64::from(code));
    field(&mut status, 2, b"scripted");
    field(&mut status, 3, &any);
    base64(&status)
}

/// Base64 without padding, as gRPC's binary headers are written.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            out.push(DIGITS[(word >> (18 - 6 * digit) & 63) as usize] as char);
        }
    }
    out
}

fn refusal(protocol: Protocol, status: u16, after: Option<&str>) -> Response<Body> {
    if protocol != Protocol::OtlpGrpc {
        let mut response = plain(status, "scripted\n");
        if protocol == Protocol::Write2 {
            written(response.headers_mut(), 0, 0, 0);
        }
        if let Some(after) = after.and_then(|after| HeaderValue::from_str(after).ok()) {
            response.headers_mut().insert("retry-after", after);
        }
        return response;
    }
    let code = grpc_code(status);
    let mut response = plain(200, "");
    let head = response.headers_mut();
    head.insert("content-type", HeaderValue::from_static("application/grpc"));
    head.insert("grpc-status", HeaderValue::from(code));
    head.insert("grpc-message", HeaderValue::from_static("scripted"));
    if let Some(seconds) = after.and_then(|after| after.parse().ok()) {
        let details = HeaderValue::from_str(&retry_info(code, seconds)).unwrap();
        head.insert("grpc-status-details-bin", details);
    }
    response
}

/// What a receiver of 2.0 says of everything that it understood, taken or not.
fn written(head: &mut HeaderMap, samples: u64, histograms: u64, exemplars: u64) {
    let counts = [("samples", samples), ("histograms", histograms), ("exemplars", exemplars)];
    for (kind, count) in counts {
        let name = format!("x-prometheus-remote-write-{kind}-written");
        let name = hyper::header::HeaderName::from_bytes(name.as_bytes()).unwrap();
        head.insert(name, HeaderValue::from(count));
    }
}

/// What it answers to a request that it took.
fn success(protocol: Protocol, read: &Read, rejected: u64) -> Response<Body> {
    match protocol {
        Protocol::Write1 => plain(if rejected > 0 { 400 } else { 204 }, ""),
        Protocol::Write2 => {
            let mut response = plain(if rejected > 0 { 400 } else { 204 }, "");
            let samples = read.samples - rejected;
            written(response.headers_mut(), samples, read.histograms, read.exemplars);
            response
        }
        Protocol::OtlpHttp | Protocol::OtlpGrpc => {
            let partial_success = (rejected > 0).then(|| ExportMetricsPartialSuccess {
                rejected_data_points: rejected as i64,
                error_message: "scripted".to_owned(),
            });
            let message = ExportMetricsServiceResponse { partial_success }.encode_to_vec();
            if protocol == Protocol::OtlpHttp {
                let mut response = plain(200, message);
                let kind = HeaderValue::from_static("application/x-protobuf");
                response.headers_mut().insert("content-type", kind);
                return response;
            }
            let mut data = vec![0];
            data.extend_from_slice(&(message.len() as u32).to_be_bytes());
            data.extend_from_slice(&message);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let frames = [Frame::data(Bytes::from(data)), Frame::trailers(trailers)];
            let frames = frames.map(Ok::<_, Infallible>);
            let stream = futures_util::stream::iter(frames);
            let mut response = Response::new(StreamBody::new(stream).boxed());
            let kind = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert("content-type", kind);
            response
        }
    }
}

fn inflate(encoding: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    let wrong = |wrong: std::io::Error| format!("{encoding}: {wrong}");
    match encoding {
        "" | "identity" => Ok(body.to_vec()),
        "gzip" => {
            let mut out = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(body), &mut out)
                .map_err(wrong)?;
            Ok(out)
        }
        "zstd" => zstd::stream::decode_all(body).map_err(wrong),
        "snappy" => snap::raw::Decoder::new()
            .decompress_vec(body)
            .map_err(|wrong| format!("snappy: {wrong}")),
        other => Err(format!("content-encoding {other}")),
    }
}

/// The message of a unary gRPC request.
fn unframed<'a>(head: &HeaderMap, body: &'a [u8]) -> Result<(String, &'a [u8]), String> {
    let (prefix, message) = body.split_at_checked(5).ok_or("a gRPC frame is short")?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if message.len() != length {
        return Err(format!("a gRPC frame of {length} bytes has {}", message.len()));
    }
    let encoding = match prefix[0] {
        0 => "",
        _ => head.get("grpc-encoding").and_then(|value| value.to_str().ok()).unwrap_or_default(),
    };
    Ok((encoding.to_owned(), message))
}

/// A request's content.
#[derive(Default)]
struct Read {
    body: Bytes,
    samples: u64,
    histograms: u64,
    exemplars: u64,
    otlp: Option<ExportMetricsServiceRequest>,
    written: Option<remote_write::Request>,
}

fn read(protocol: Protocol, head: &HeaderMap, body: &[u8]) -> Result<Read, String> {
    let encoding = head.get("content-encoding").and_then(|value| value.to_str().ok());
    let encoding = encoding.unwrap_or_default().to_owned();
    let (encoding, body) = match protocol {
        Protocol::OtlpGrpc => unframed(head, body)?,
        _ => (encoding, body),
    };
    let body = Bytes::from(inflate(&encoding, body)?);
    let mut read = Read { body: body.clone(), ..Read::default() };
    match protocol {
        Protocol::OtlpHttp | Protocol::OtlpGrpc => {
            let message = ExportMetricsServiceRequest::decode(body).map_err(|w| w.to_string())?;
            read.samples = otlp::count(&message) as u64;
            read.otlp = Some(message);
        }
        Protocol::Write1 | Protocol::Write2 => {
            let version = head.get("x-prometheus-remote-write-version");
            let version = version.and_then(|version| version.to_str().ok()).unwrap_or_default();
            let mut request = if protocol == Protocol::Write1 {
                remote_write::read_1(&body)?
            } else {
                remote_write::read_2(&body)?
            };
            let expected = if protocol == Protocol::Write1 { "0.1.0" } else { "2.0.0" };
            if version != expected {
                request.violations.push(format!("version {version:?}, not {expected}"));
            }
            if !head.contains_key("user-agent") {
                request.violations.push("no user-agent".to_owned());
            }
            for written in &request.written {
                read.samples += written.samples.len() as u64;
                read.histograms += written.histograms.len() as u64;
                read.exemplars += written.exemplars.len() as u64;
            }
            read.written = Some(request);
        }
    }
    Ok(read)
}

/// Enters a request into the ledger, without its first `rejected` points.
fn take(state: &mut State, read: &Read, request: u64, rejected: u64) {
    let mut passed = 0;
    let ledger = &mut state.ledger;
    let mut add = |series, arrived| {
        if passed < rejected {
            passed += 1;
        } else {
            ledger.add(series, arrived);
        }
    };
    if let Some(message) = &read.otlp {
        otlp::points(message, request, &mut add);
        state.otlp.push(message.clone());
    }
    if let Some(message) = &read.written {
        for written in &message.written {
            for (value, time_ms) in &written.samples {
                add(written.series.clone(), Arrived { time_ms: *time_ms, value: *value, request });
            }
            for histogram in &written.histograms {
                let value = histogram.count as f64;
                let time_ms = histogram.timestamp;
                add(written.series.clone(), Arrived { time_ms, value, request });
            }
        }
        state.violations.extend(message.violations.iter().cloned());
        state.written.push(message.clone());
    }
}

/// Notes a request and takes it, unless the fault whose turn it is says otherwise.
fn enter(state: &mut State, mut arrived: super::Request, read: &Read) -> Fault {
    let fault = state.fault();
    arrived.taken = match &fault {
        Fault::Status(..) | Fault::Reset => false,
        Fault::TooLargeAbove(most) => read.body.len() <= *most,
        _ => true,
    };
    let number = state.requests.len() as u64;
    if arrived.taken {
        let rejected = if let Fault::Partial(rejected) = fault { rejected } else { 0 };
        take(state, read, number, rejected);
    }
    state.requests.push(arrived);
    fault
}

async fn answer(request: Request<Incoming>, state: &Mutex<State>) -> Outcome {
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let Ok(body) = body.collect().await else { return Outcome::Close { with_reset: true } };
    let body = body.to_bytes();
    if parts.method != hyper::Method::POST {
        // Somebody looks for pages to scrape on every port of this host.
        return Outcome::Answer(plain(404, "nothing to read\n"));
    }
    let Some(protocol) = protocol(&parts.headers, &path) else {
        lock().violations.push(format!("{path} with headers {:?}", parts.headers));
        return Outcome::Answer(plain(415, "no protocol that is known\n"));
    };
    if protocol == Protocol::Write2 && lock().refuses_2 {
        return Outcome::Answer(plain(415, "only 1.0\n"));
    }
    let read = match read(protocol, &parts.headers, &body) {
        Ok(read) => read,
        Err(wrong) => {
            lock().violations.push(format!("{path}: {wrong}"));
            return Outcome::Answer(refusal(protocol, 400, None));
        }
    };
    let head = parts.headers.iter();
    let head = head.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or_default()));
    let arrived = super::Request {
        path,
        head: head.collect(),
        wire_bytes: body.len(),
        body: read.body.clone(),
        points: (read.samples + read.histograms) as usize,
        taken: false,
        at: std::time::Instant::now(),
    };
    let fault = enter(&mut lock(), arrived, &read);
    match fault {
        Fault::Status(status, after) => {
            Outcome::Answer(refusal(protocol, status, after.as_deref()))
        }
        Fault::TooLargeAbove(most) if read.body.len() > most => {
            Outcome::Answer(refusal(protocol, 413, None))
        }
        Fault::Reset => Outcome::Close { with_reset: true },
        Fault::TakeThenClose => Outcome::Close { with_reset: false },
        Fault::TakeThenStatus(status) => Outcome::Answer(refusal(protocol, status, None)),
        Fault::Slow(time) => {
            tokio::time::sleep(time).await;
            Outcome::Answer(success(protocol, &read, 0))
        }
        Fault::Partial(rejected) => Outcome::Answer(success(protocol, &read, rejected)),
        Fault::None | Fault::TooLargeAbove(_) => Outcome::Answer(success(protocol, &read, 0)),
    }
}
