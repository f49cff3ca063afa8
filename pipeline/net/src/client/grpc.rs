//! Unary gRPC calls over one kept HTTP/2 connection. Messages are bytes; who calls knows what they mean.
//!
//! Not a gRPC library: no streams, no balancing, no retries. It shares with the HTTP/1.1 client what costs to get right
//! once: credentials, TLS files that change, names that are resolved at every connect, limits and deadlines.
//!
//! Protocol: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::link::connect_stream;
use super::target::Target;
use super::{FetchError, Inner, Limits, Phase};
use crate::compress::{Coding, DecodeError, decode};

/// Flag and length before a message.
const PREFIX_BYTES: usize = 5;

/// What is called.
#[derive(Clone, Debug)]
pub struct Call {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// One message with its prefix; see [`Call::frame`].
    pub frame: Bytes,
    /// How the message is coded.
    pub coding: Coding,
}

impl Call {
    /// A message with the prefix that says how it is coded and how long it is.
    ///
    /// Messages above 4 GiB cannot be said; their prefix is wrong, and the server will refuse them.
    #[must_use]
    pub fn frame(message: &[u8], coding: Coding) -> Bytes {
        let mut frame = Vec::with_capacity(PREFIX_BYTES + message.len());
        frame.push(u8::from(coding != Coding::Identity));
        frame.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
        frame.extend_from_slice(message);
        frame.into()
    }
}

/// What came back, besides the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcAnswer {
    /// gRPC's status code; 0 is success. Where a proxy answered by HTTP alone, the code that gRPC maps its status to.
    pub code: u32,
    /// The server's words.
    pub message: String,
    /// `google.rpc.Status` in protobuf, where the server sent one.
    pub details: Option<Vec<u8>>,
}

/// The handle for one server. Keeps one connection open between calls; what drives it ends with it.
///
/// A call may be dropped at any await: the connection stays, the server is told that nobody waits.
pub struct GrpcConnection {
    client: Arc<Inner>,
    target: Target,
    link: Option<GrpcLink>,
    phase: Phase,
    connects: u64,
}

struct GrpcLink {
    sender: SendRequest<Full<Bytes>>,
    _tasks: Tasks,
}

/// Runs hyper's HTTP/2 tasks; they end when the last clone is dropped.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

impl GrpcConnection {
    pub(super) fn new(client: Arc<Inner>, target: Target) -> Self {
        Self { client, target, link: None, phase: Phase::Connecting, connects: 0 }
    }

    /// The address for messages: without the query.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.target.url
    }

    /// How often a connection was opened so far.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.connects
    }

    /// Makes one call. The message of the answer, decoded and without its prefix, replaces what is in `body`.
    ///
    /// A call on a kept connection that turns out to be closed is made once more on a fresh one only if nothing of it was
    /// sent. After an error, or a deadline, the next call connects anew and resolves the name again.
    ///
    /// # Errors
    /// No answer by the deadline, or one that cannot be read: see [`FetchError`]. The server may have got the call. Every
    /// status is an answer.
    pub async fn call(
        &mut self,
        call: &Call,
        body: &mut Vec<u8>,
        limits: Limits,
        deadline: Instant,
    ) -> Result<GrpcAnswer, FetchError> {
        body.clear();
        self.phase = Phase::Connecting;
        let done = match timeout_at(deadline, self.exchange(call, body, limits, deadline)).await {
            Ok(done) => done,
            Err(_) => Err(FetchError::Timeout { phase: self.phase, url: self.target.url.clone() }),
        };
        if done.is_err() {
            self.link = None;
        }
        done
    }

    async fn exchange(
        &mut self,
        call: &Call,
        body: &mut Vec<u8>,
        limits: Limits,
        deadline: Instant,
    ) -> Result<GrpcAnswer, FetchError> {
        let protocol = |source| FetchError::Protocol { url: self.target.url.clone(), source };
        let mut fresh = false;
        loop {
            if self.link.as_ref().is_none_or(|link| link.sender.is_closed()) {
                self.link = None;
                self.connects += 1;
                let connecting =
                    timeout(self.client.connect_timeout, connect(&self.client, &self.target));
                let late = |_| FetchError::Timeout {
                    phase: Phase::Connecting,
                    url: self.target.url.clone(),
                };
                self.link = Some(connecting.await.map_err(late)??);
                fresh = true;
            }
            let Some(link) = &mut self.link else { continue };
            let request = build(&self.client, &self.target, call, deadline).await;
            self.phase = Phase::Waiting;
            if link.sender.ready().await.is_err() && !fresh {
                self.link = None;
                continue;
            }
            match link.sender.try_send_request(request).await {
                Ok(response) => {
                    self.phase = Phase::Reading;
                    let (parts, incoming) = response.into_parts();
                    let answer = Incomplete { status: parts.status, headers: parts.headers };
                    return answer.read(incoming, body, limits, &self.target.url).await;
                }
                Err(mut failed) => {
                    let unsent = failed.take_message().is_some();
                    let source = failed.into_error();
                    if fresh || !unsent {
                        return Err(protocol(source));
                    }
                    self.link = None;
                }
            }
        }
    }
}

async fn connect(client: &Inner, target: &Target) -> Result<GrpcLink, FetchError> {
    let stream = connect_stream(client, target, true, Some(b"h2")).await?;
    let tasks = Tasks::default();
    let (sender, http) = Builder::new(tasks.clone())
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|source| FetchError::Protocol { url: target.url.clone(), source })?;
    // Errors of the connection reach the calls that wait.
    hyper::rt::Executor::execute(&tasks, async move { drop(http.await) });
    Ok(GrpcLink { sender, _tasks: tasks })
}

/// The server's name and the method's.
fn uri(target: &Target, path: &'static str) -> Uri {
    let scheme = if target.server_name.is_some() { "https" } else { "http" };
    let authority = target.host_header.as_bytes();
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(path)
        .build()
        .unwrap_or_default()
}

async fn build(
    client: &Inner,
    target: &Target,
    call: &Call,
    deadline: Instant,
) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(call.frame.clone()));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri(target, call.path);
    let map = request.headers_mut();
    let own = client.headers.iter().filter(|(name, _)| *name != header::ACCEPT_ENCODING);
    for (name, value) in own.chain(&client.private_headers) {
        map.insert(name, value.clone());
    }
    if let Some(authorization) = client.credentials.header().await {
        map.insert(header::AUTHORIZATION, authorization);
    }
    map.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    map.insert(header::TE, HeaderValue::from_static("trailers"));
    map.insert("grpc-accept-encoding", HeaderValue::from_static("identity, gzip, zstd"));
    if call.coding != Coding::Identity {
        map.insert("grpc-encoding", HeaderValue::from_static(call.coding.name()));
    }
    // At most eight digits; a day is enough.
    let left = deadline.saturating_duration_since(Instant::now()).as_millis().min(86_400_000);
    if let Ok(value) = HeaderValue::from_str(&format!("{left}m")) {
        map.insert("grpc-timeout", value);
    }
    request
}

/// An answer whose body is still to come.
struct Incomplete {
    status: StatusCode,
    headers: HeaderMap,
}

impl Incomplete {
    async fn read(
        self,
        mut incoming: Incoming,
        body: &mut Vec<u8>,
        limits: Limits,
        url: &str,
    ) -> Result<GrpcAnswer, FetchError> {
        let protocol = |source| FetchError::Protocol { url: url.to_owned(), source };
        let (mut wire, mut trailers) = (Vec::new(), None);
        while let Some(frame) = incoming.frame().await {
            match frame.map_err(protocol)?.into_data() {
                Ok(chunk) if wire.len() + chunk.len() > limits.wire_bytes_max => {
                    let (limit, place) = (limits.wire_bytes_max, "on the wire");
                    return Err(FetchError::TooLarge { limit, place, url: url.to_owned() });
                }
                Ok(chunk) => wire.extend_from_slice(&chunk),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        // Trailers, or headers alone where there is no message.
        let status = trailers.as_ref().and_then(status).or_else(|| status(&self.headers));
        let Some(answer) = status else { return Ok(by_http(self.status)) };
        if answer.code == 0 && wire.len() > PREFIX_BYTES {
            self.message(&wire, body, limits.body_bytes_max, url)?;
        }
        Ok(answer)
    }

    /// Takes the message out of its prefix.
    fn message(
        &self,
        wire: &[u8],
        body: &mut Vec<u8>,
        body_bytes_max: usize,
        url: &str,
    ) -> Result<(), FetchError> {
        let [flag, _, _, _, _, message @ ..] = wire else { return Ok(()) };
        if *flag == 0 {
            body.extend_from_slice(message);
            return Ok(());
        }
        let name = self.headers.get("grpc-encoding").and_then(|name| name.to_str().ok());
        let coding = name.and_then(Coding::parse).ok_or_else(|| FetchError::Coding {
            found: name.unwrap_or_default().to_owned(),
            url: url.to_owned(),
        })?;
        decode(coding, message, body, body_bytes_max).map_err(|source| match source {
            DecodeError::TooLarge { limit } => {
                FetchError::TooLarge { limit, place: "after decompression", url: url.to_owned() }
            }
            source => FetchError::Decode { url: url.to_owned(), source },
        })
    }
}

/// Reads `grpc-status` and what belongs to it.
fn status(headers: &HeaderMap) -> Option<GrpcAnswer> {
    let code = headers.get("grpc-status")?.to_str().ok()?.trim().parse().ok()?;
    let message =
        headers.get("grpc-message").map_or(String::new(), |text| unescape(text.as_bytes()));
    let details = headers.get("grpc-status-details-bin").and_then(|value| {
        let text = value.as_bytes().trim_ascii_end();
        let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |at| at + 1);
        STANDARD_NO_PAD.decode(text.get(..end)?).ok()
    });
    Some(GrpcAnswer { code, message, details })
}

/// What an answer without a gRPC status means.
/// Source: <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>.
fn by_http(status: StatusCode) -> GrpcAnswer {
    let code = match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    };
    let message = format!("expected a gRPC answer, found HTTP status {}", status.as_u16());
    GrpcAnswer { code, message, details: None }
}

/// Percent decoding; what is malformed stays as it is.
fn unescape(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(status(&headers), None);
        headers.insert("grpc-status", HeaderValue::from_static("8"));
        headers.insert("grpc-message", HeaderValue::from_static("too%20much %e2%82%ac 5%"));
        headers.insert("grpc-status-details-bin", HeaderValue::from_static("CAg="));
        let expected =
            GrpcAnswer {
                code: 8, message: "too much € 5%".to_owned(), details: Some(vec![8, 8])
            };
        assert_eq!(status(&headers), Some(expected));
        headers.insert("grpc-status-details-bin", HeaderValue::from_static("CAg"));
        assert_eq!(status(&headers).unwrap().details, Some(vec![8, 8]));
    }

    #[test]
    fn proxies_are_understood() {
        let codes = [400, 401, 403, 404, 429, 503, 500]
            .map(|status| by_http(StatusCode::from_u16(status).unwrap()).code);
        assert_eq!(codes, [13, 16, 7, 12, 14, 14, 2]);
    }
}
