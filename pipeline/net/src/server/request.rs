//! [`Request`]: what a handler is asked, with a body that cannot be too large or take too long.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderName, Method, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::{Body, Response, ServerPlan};
use crate::compress::{Coding, DecodeError, decode};

/// How long a client may pause while what it sends is thrown away.
const DISCARD_PAUSE: Duration = Duration::from_secs(1);

/// Bytes up to which a body needs no permission, and where to get it for more. Many small bodies and a few large ones
/// bound the memory that requests take together.
#[derive(Clone, Copy, Debug)]
pub struct BodyGate<'a> {
    /// Bytes of a small body, as received and again after decompression.
    pub small_bytes_max: usize,
    /// One permit for each larger body at a time.
    pub large: &'a Semaphore,
}

/// A body, with the permission for a large one.
#[derive(Debug, Default)]
pub struct GatedBody<'a> {
    /// The bytes.
    pub bytes: Bytes,
    /// Held as long as the bytes are.
    pub permit: Option<SemaphorePermit<'a>>,
}

/// What a handler is asked.
#[derive(Debug)]
pub struct Request {
    /// Method, address, headers.
    pub head: Parts,
    /// Who asks. `None`: somebody on this machine, over a unix socket or without a network.
    pub peer: Option<SocketAddr>,
    body: Source,
    body_bytes_max: usize,
    body_timeout: Duration,
}

#[derive(Debug)]
enum Source {
    Network(Incoming),
    Memory(Bytes),
}

/// Why the body of a request cannot be had. [`BodyError::response`] tells the client.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Too many bytes.
    #[error("expected a body of at most {limit} bytes")]
    TooLarge {
        /// The limit, before and after decompression.
        limit: usize,
    },
    /// It did not arrive in time.
    #[error("expected the whole body within {within:?}")]
    Timeout {
        /// The time there was.
        within: Duration,
    },
    /// A content coding that is not supported.
    #[error("expected content-encoding gzip, zstd or identity")]
    Coding,
    /// The content coding is damaged.
    #[error("cannot decode the body")]
    Decode(#[from] DecodeError),
    /// The connection failed, or the client broke the protocol.
    #[error("expected a whole body, found a broken one")]
    Broken(#[from] hyper::Error),
}

impl BodyError {
    /// The status for the client: 413, 408, 415 or 400.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Timeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Coding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Decode(_) | Self::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// The answer for the client, as plain text.
    #[must_use]
    pub fn response(&self) -> Response {
        let text = match self {
            Self::Decode(cause) => format!("{self}: {cause}\n"),
            _ => format!("{self}\n"),
        };
        Body::text(self.status(), text)
    }
}

impl Request {
    pub(super) fn new(
        request: http::Request<Incoming>,
        peer: Option<SocketAddr>,
        plan: &ServerPlan,
    ) -> Self {
        let (head, body) = request.into_parts();
        let (body_bytes_max, body_timeout) = (plan.body_bytes_max, plan.body_timeout);
        Self { head, peer, body: Source::Network(body), body_bytes_max, body_timeout }
    }

    /// A request that comes from no network, for tests of handlers; with the limits of the default plan.
    #[must_use]
    pub fn from_memory(request: http::Request<Bytes>) -> Self {
        let (head, body) = request.into_parts();
        let ServerPlan { body_bytes_max, body_timeout, .. } = ServerPlan::default();
        Self { head, peer: None, body: Source::Memory(body), body_bytes_max, body_timeout }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The first value of a header. `None`: not there, or not ASCII.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// Lets the body have `max` bytes instead of those of the plan, before and after decompression.
    pub fn limit_body(&mut self, max: usize) {
        self.body_bytes_max = max;
    }

    /// Reads the whole body and decodes its `Content-Encoding`. A second call gives nothing.
    ///
    /// A body that arrives in one piece and is not compressed is not copied.
    ///
    /// # Errors
    /// The body is too large, too slow, damaged or of an unknown coding. Do not read on after an error: answer with
    /// [`BodyError::response`], and the connection is closed.
    pub async fn body(&mut self) -> Result<Bytes, BodyError> {
        static NO_GATE: Semaphore = Semaphore::const_new(0);
        let gate = BodyGate { small_bytes_max: self.body_bytes_max, large: &NO_GATE };
        Ok(self.gated_body(gate).await?.bytes)
    }

    /// As [`Request::body`], waiting for permission where the body is large.
    ///
    /// # Errors
    /// As [`Request::body`]; waiting counts as slowness.
    pub async fn gated_body<'a>(&mut self, gate: BodyGate<'a>) -> Result<GatedBody<'a>, BodyError> {
        let coding = match self.head.headers.get(header::CONTENT_ENCODING) {
            None => Coding::Identity,
            Some(value) => value.to_str().ok().and_then(Coding::parse).ok_or(BodyError::Coding)?,
        };
        let (limit, within) = (self.body_bytes_max, self.body_timeout);
        let mut raw = GatedBody::default();
        match &mut self.body {
            Source::Memory(bytes) => raw.bytes = std::mem::take(bytes),
            Source::Network(incoming) => {
                raw = timeout(within, collect(incoming, limit, gate))
                    .await
                    .map_err(|_| BodyError::Timeout { within })??;
            }
        }
        if raw.bytes.len() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        if coding == Coding::Identity || raw.bytes.is_empty() {
            return Ok(raw);
        }
        raw.inflate(coding, limit, gate, within).await
    }

    /// Throws away what the client still sends, for as long as it keeps sending and no longer than a body may take. A
    /// client that speaks HTTP/1 reads an answer only after it has sent everything, and a connection that is closed
    /// before looks to it like a failure of the network, to be tried again.
    pub async fn discard(&mut self) {
        let Source::Network(incoming) = &mut self.body else { return };
        // h2 says it without closing anything, and whoever expects to be told to go on has not begun.
        let waits = self.head.headers.contains_key(header::EXPECT);
        if self.head.version == Version::HTTP_2 || waits {
            return;
        }
        let all = async {
            loop {
                let frame = poll_fn(|cx| Pin::new(&mut *incoming).poll_frame(cx));
                let Ok(Some(Ok(_))) = timeout(DISCARD_PAUSE, frame).await else { return };
            }
        };
        // Late is as good as done: the answer goes out in either case.
        timeout(self.body_timeout, all).await.unwrap_or_default();
    }
}

impl<'a> GatedBody<'a> {
    /// Decompresses the bytes to at most `limit`; first as a small body, since most are.
    ///
    /// # Errors
    /// Too large, damaged, or no permission within `within`.
    pub async fn inflate(
        self,
        coding: Coding,
        limit: usize,
        gate: BodyGate<'a>,
        within: Duration,
    ) -> Result<Self, BodyError> {
        let Self { bytes, mut permit } = self;
        let (mut out, small) = (Vec::new(), gate.small_bytes_max.min(limit));
        let max = if permit.is_some() { limit } else { small };
        let mut decoded = decode(coding, &bytes, &mut out, max);
        if matches!(decoded, Err(DecodeError::TooLarge { .. })) && max < limit {
            // What there is of it must not wait in memory.
            out = Vec::new();
            let permitted = timeout(within, gate.large.acquire()).await;
            permit = permitted.map_err(|_| BodyError::Timeout { within })?.ok();
            decoded = decode(coding, &bytes, &mut out, limit);
        }
        match decoded {
            Ok(()) => Ok(Self { bytes: out.into(), permit }),
            Err(DecodeError::TooLarge { limit }) => Err(BodyError::TooLarge { limit }),
            Err(error) => Err(error.into()),
        }
    }
}

async fn collect<'a>(
    incoming: &mut Incoming,
    limit: usize,
    gate: BodyGate<'a>,
) -> Result<GatedBody<'a>, BodyError> {
    let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(BodyError::TooLarge { limit });
    }
    let (mut first, mut all, mut permit) = (Bytes::new(), BytesMut::new(), None);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *incoming).poll_frame(cx)).await {
        let Ok(chunk) = frame?.into_data() else { continue };
        let length = first.len() + all.len() + chunk.len();
        if length > limit {
            return Err(BodyError::TooLarge { limit });
        }
        if length > gate.small_bytes_max && permit.is_none() {
            // Never closed.
            permit = gate.large.acquire().await.ok();
        }
        if first.is_empty() && all.is_empty() {
            first = chunk;
            continue;
        }
        if all.is_empty() {
            // Not all that was announced at once: a client that only announces gets no memory.
            all.reserve(announced.min(1 << 20));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&chunk);
    }
    let bytes = if all.is_empty() { first } else { all.freeze() };
    Ok(GatedBody { bytes, permit })
}
