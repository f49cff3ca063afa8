//! [`Request`]: what a handler is asked, with a body that cannot be too large or take too long.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderName, Method, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use super::{Body, Response, ServerPlan};
use crate::compress::{Coding, DecodeError, decode};

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
        let coding = match self.head.headers.get(header::CONTENT_ENCODING) {
            None => Coding::Identity,
            Some(value) => value.to_str().ok().and_then(Coding::parse).ok_or(BodyError::Coding)?,
        };
        let (limit, within) = (self.body_bytes_max, self.body_timeout);
        let raw = match &mut self.body {
            Source::Memory(bytes) => std::mem::take(bytes),
            Source::Network(incoming) => timeout(within, collect(incoming, limit))
                .await
                .map_err(|_| BodyError::Timeout { within })??,
        };
        if raw.len() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        if coding == Coding::Identity || raw.is_empty() {
            return Ok(raw);
        }
        let mut out = Vec::new();
        match decode(coding, &raw, &mut out, limit) {
            Ok(()) => Ok(out.into()),
            Err(DecodeError::TooLarge { limit }) => Err(BodyError::TooLarge { limit }),
            Err(error) => Err(error.into()),
        }
    }
}

async fn collect(incoming: &mut Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(BodyError::TooLarge { limit });
    }
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *incoming).poll_frame(cx)).await {
        let Ok(chunk) = frame?.into_data() else { continue };
        if first.is_empty() && all.is_empty() {
            first = chunk;
            continue;
        }
        if all.is_empty() {
            // Not all that was announced at once: a client that only announces gets no memory.
            all.reserve(announced.min(1 << 20));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        if all.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        all.extend_from_slice(&chunk);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}
