//! [`Body`]: what a handler answers with, whole or in chunks.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

use super::Response;
use super::patient::Ticket;

/// The body of a [`Response`].
#[derive(Default)]
pub struct Body {
    content: Content,
}

#[derive(Default)]
enum Content {
    #[default]
    Empty,
    Whole(Bytes),
    /// What follows a whole body once that is sent.
    Trailed(Bytes, HeaderMap),
    Trailers(HeaderMap),
    Chunks(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl Body {
    /// A body that is made while it is sent. The stream is asked for more only when the client takes it, and is dropped
    /// when the client goes away.
    pub fn stream(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self { content: Content::Chunks(Box::pin(chunks)) }
    }

    /// A whole body with trailers after it, as gRPC ends its answers. HTTP/1.1 clients see the trailers only where they
    /// asked for them.
    #[must_use]
    pub fn with_trailers(bytes: Bytes, trailers: HeaderMap) -> Self {
        Self { content: Content::Trailed(bytes, trailers) }
    }

    /// A plain text answer.
    #[must_use]
    pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response {
        Self::response(status, HeaderValue::from_static("text/plain; charset=utf-8"), text)
    }

    /// An answer of any type.
    #[must_use]
    pub fn response(
        status: StatusCode,
        content_type: HeaderValue,
        body: impl Into<Bytes>,
    ) -> Response {
        let mut response = Response::new(body.into().into());
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    }

    /// The bytes of a body that is whole; for tests of handlers. `None`: it is a stream.
    #[must_use]
    pub fn whole(&self) -> Option<&Bytes> {
        static NOTHING: Bytes = Bytes::new();
        match &self.content {
            Content::Empty => Some(&NOTHING),
            Content::Whole(bytes) | Content::Trailed(bytes, _) => Some(bytes),
            Content::Trailers(_) | Content::Chunks(_) => None,
        }
    }

    /// Holds on to the ticket of the request until the body has been sent or dropped.
    pub(super) fn until_end(self, ticket: Ticket) -> Ticketed {
        Ticketed { body: self, _ticket: ticket }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self { content: if bytes.is_empty() { Content::Empty } else { Content::Whole(bytes) } }
    }
}

impl From<mpsc::Receiver<Bytes>> for Body {
    /// The chunks of a channel; the channel closes when the client goes away.
    fn from(mut chunks: mpsc::Receiver<Bytes>) -> Self {
        Self::stream(futures_util::stream::poll_fn(move |cx| chunks.poll_recv(cx)))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Content::Chunks(chunks) = &mut self.content {
            let chunk = ready!(chunks.as_mut().poll_next(cx));
            return Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))));
        }
        let (frame, rest) = match std::mem::take(&mut self.content) {
            Content::Empty | Content::Chunks(_) => return Poll::Ready(None),
            Content::Whole(bytes) => (Frame::data(bytes), Content::Empty),
            Content::Trailed(bytes, trailers) => (Frame::data(bytes), Content::Trailers(trailers)),
            Content::Trailers(trailers) => (Frame::trailers(trailers), Content::Empty),
        };
        self.content = rest;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Whole(bytes) => {
                SizeHint::with_exact(bytes.len().try_into().unwrap_or(u64::MAX))
            }
            // Neither has a length that could be announced: trailers need a body in chunks.
            Content::Trailed(..) | Content::Trailers(_) | Content::Chunks(_) => SizeHint::default(),
        }
    }
}

/// A [`Body`] with the ticket of its request.
pub(super) struct Ticketed {
    body: Body,
    _ticket: Ticket,
}

impl hyper::body::Body for Ticketed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
