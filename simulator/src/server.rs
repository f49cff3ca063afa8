//! HTTP on loopback: the endpoints of an engine, and the ways in which its server can misbehave.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::engine::Engine;

/// How a server misbehaves on `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Not at all.
    #[default]
    None,
    /// The right answer, after this time.
    Slow(Duration),
    /// This HTTP status and no page; anything that is no status becomes 500.
    Status(u16),
    /// Half of the page, then the connection closes although the length promised all of it.
    Truncated,
    /// Status 200 and text that is no exposition.
    Garbage,
    /// The page, and then further series without end.
    Endless,
}

/// The content type of text format 0.0.4.
pub(crate) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One engine and its port.
pub(crate) struct Slot {
    engine: Mutex<Engine>,
    pub(crate) address: SocketAddr,
    /// Whether the port shall answer.
    pub(crate) up: watch::Sender<bool>,
    /// Whether it does.
    pub(crate) listening: watch::Sender<bool>,
}

impl Slot {
    pub(crate) fn new(engine: Engine, address: SocketAddr) -> Self {
        let up = engine.is_up();
        Slot {
            engine: Mutex::new(engine),
            address,
            up: watch::Sender::new(up),
            listening: watch::Sender::new(up),
        }
    }

    pub(crate) fn engine(&self) -> MutexGuard<'_, Engine> {
        // An engine left half advanced by a panic elsewhere is still an engine.
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the port follow the engine.
    pub(crate) fn sync(&self) {
        let running = self.engine().is_up();
        self.up.send_if_modified(|up| std::mem::replace(up, running) != running);
    }
}

/// Serves an engine for as long as the fleet lives: while it is up on its port, else not at all.
pub(crate) async fn serve_engine(slot: Arc<Slot>, listener: TcpListener) {
    let mut up = slot.up.subscribe();
    let mut listener = Some(listener);
    loop {
        if up.wait_for(|up| *up).await.is_err() {
            return;
        }
        let bound = match listener.take() {
            Some(listener) => listener,
            None => match TcpListener::bind(slot.address).await {
                Ok(listener) => listener,
                Err(_) => {
                    // Somebody else has the port at this moment, as can happen to a real engine.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        slot.listening.send_replace(true);
        let mut connections = JoinSet::new();
        let handler = {
            let slot = Arc::clone(&slot);
            move |request| answer(Arc::clone(&slot), request)
        };
        tokio::select! {
            () = accept(&bound, &mut connections, handler) => {}
            _ = up.wait_for(|up| !*up) => {}
        }
        drop(bound);
        connections.shutdown().await;
        slot.listening.send_replace(false);
    }
}

/// Takes connections for ever and answers every request on them with `handler`.
pub(crate) async fn accept<H, F>(listener: &TcpListener, connections: &mut JoinSet<()>, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Answer>> + Send + 'static,
{
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, handler.clone()));
                }
                // Out of file descriptors, most likely: wait for some to come free.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn converse<H, F>(stream: TcpStream, handler: H)
where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Answer>>,
{
    // Without it, the tail of an answer waits for the client's delayed acknowledgement.
    let _best_effort = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let response = handler(request);
        async move { Ok::<_, std::convert::Infallible>(response.await) }
    });
    // A client that goes away is no event here.
    let _closed = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(slot: Arc<Slot>, request: Request<Incoming>) -> Response<Answer> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    }
    match request.uri().path() {
        "/metrics" => metrics(&slot).await,
        "/health" => plain(StatusCode::OK, ""),
        "/version" => {
            let release = slot.engine().spec().release;
            if !release.is_vllm() {
                return plain(StatusCode::NOT_FOUND, "not found\n");
            }
            let body = format!("{{\"version\":\"{}\"}}", release.version());
            response(StatusCode::OK, "application/json", Answer::whole(body))
        }
        _ => plain(StatusCode::NOT_FOUND, "not found\n"),
    }
}

async fn metrics(slot: &Slot) -> Response<Answer> {
    let fault = slot.engine().fault().clone();
    if let Fault::Slow(time) = fault {
        tokio::time::sleep(time).await;
    }
    let page = || slot.engine().page();
    match fault {
        Fault::None | Fault::Slow(_) => response(StatusCode::OK, TEXT, Answer::whole(page())),
        Fault::Status(status) => {
            let status = StatusCode::from_u16(status).ok().filter(|status| status.as_u16() >= 200);
            plain(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "simulated fault\n")
        }
        Fault::Truncated => response(StatusCode::OK, TEXT, Answer::half(page())),
        Fault::Garbage => response(StatusCode::OK, TEXT, Answer::whole(GARBAGE)),
        Fault::Endless => response(StatusCode::OK, TEXT, Answer::endless(&page())),
    }
}

/// No line of this is a sample, a comment or empty.
const GARBAGE: &str = "<!doctype html>\n<title>simulated fault</title>\n{\"metrics\": [\n\u{1}\u{2}{{{=\"\"} NaN NaN NaN x\n";

pub(crate) fn response(
    status: StatusCode,
    content_type: &'static str,
    body: Answer,
) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<Answer> {
    response(status, "text/plain; charset=utf-8", Answer::whole(text))
}

/// A response body.
pub(crate) enum Answer {
    Whole(Bytes),
    /// `sent`, then a broken connection; `promised` bytes in all.
    Half {
        sent: Bytes,
        promised: u64,
        flushed: bool,
    },
    Endless {
        first: Bytes,
        again: Bytes,
    },
}

impl Answer {
    pub(crate) fn whole(text: impl Into<Bytes>) -> Self {
        Answer::Whole(text.into())
    }

    fn half(page: String) -> Self {
        let page = Bytes::from(page);
        let promised = page.len() as u64;
        Answer::Half { sent: page.slice(..page.len() / 2), promised, flushed: false }
    }

    fn endless(page: &str) -> Self {
        let again = "simulator:endless_total{fault=\"endless\"} 1.0\n".repeat(1000);
        Answer::Endless { first: Bytes::copy_from_slice(page.as_bytes()), again: again.into() }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let next = match &mut *self {
            Answer::Whole(rest) | Answer::Endless { first: rest, .. } if !rest.is_empty() => {
                std::mem::take(rest)
            }
            Answer::Whole(_) => return Poll::Ready(None),
            Answer::Endless { again, .. } => again.clone(),
            Answer::Half { sent, .. } if !sent.is_empty() => std::mem::take(sent),
            Answer::Half { flushed, .. } if !*flushed => {
                // The first half leaves before the connection breaks.
                *flushed = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Answer::Half { .. } => {
                return Poll::Ready(Some(Err(io::Error::other("simulated fault"))));
            }
        };
        Poll::Ready(Some(Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Answer::Whole(rest) if rest.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(rest) => SizeHint::with_exact(rest.len() as u64),
            Answer::Half { promised, .. } => SizeHint::with_exact(*promised),
            Answer::Endless { .. } => SizeHint::default(),
        }
    }
}
