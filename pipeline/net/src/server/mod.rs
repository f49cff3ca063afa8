//! An HTTP server: HTTP/1.1 and h2, with or without TLS, on a port or a unix socket, that gives every connection a limit and a deadline.
//!
//! It knows no routes: one handler sees every request. Connections live in a `JoinSet` of the `serve` future; dropping
//! that future drops them. Slow clients are dealt with at the socket, see `patient.rs`.

mod body;
mod listen;
mod patient;
mod request;
mod socket;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error, warn};

use crate::stream::Stream;
use crate::tls::{ServerTls, TlsError};
use crate::watch::Watched;

pub use body::Body;
pub use listen::{check_listen, check_listen_or_socket};
use patient::{Activity, Patient};
pub use request::{BodyError, BodyGate, GatedBody, Request};
pub use socket::Address;
use socket::Listener;

/// The answer of a handler.
pub type Response = http::Response<Body>;

/// Pause after the system ran out of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a lasting trouble of the listener is logged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Where and how to listen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenSettings {
    /// Address and port, such as `127.0.0.1:9464`, `[::]:9464` or `localhost:9464`, or `unix:` and the path of a socket.
    /// Port 0 takes any free one.
    pub listen: String,
    /// TLS. Absent: plain HTTP.
    pub tls: Option<ServerTls>,
    /// Connections served at the same time; the next ones wait until one of these ends.
    pub max_connections: NonZeroU32,
}

impl Default for ListenSettings {
    /// A free port of this machine only, without TLS, 1024 connections.
    fn default() -> Self {
        let max_connections = NonZeroU32::MIN.saturating_add(1023);
        Self { listen: "127.0.0.1:0".to_owned(), tls: None, max_connections }
    }
}

/// What a server is made from.
#[derive(Clone, Debug)]
pub struct ServerPlan {
    /// Where and how to listen.
    pub listen: ListenSettings,
    /// How long the head of a request may take, from its first byte; for the first request of a connection, from the
    /// accept. The TLS handshake has the same time.
    pub header_timeout: Duration,
    /// How long the body of a request may take.
    pub body_timeout: Duration,
    /// How long a connection without a request is kept.
    pub idle_timeout: Duration,
    /// How long a client may refuse to take any byte of an answer.
    pub write_timeout: Duration,
    /// How long requests may go on after shutdown has begun.
    pub drain_timeout: Duration,
    /// Bytes of a request's head. At least 8 KiB.
    pub header_bytes_max: usize,
    /// Bytes of a request's body: as received, and again after decompression.
    pub body_bytes_max: usize,
    /// What is peculiar to h2.
    pub h2: H2Plan,
}

/// How the h2 connections of a server are kept.
#[derive(Clone, Copy, Debug)]
pub struct H2Plan {
    /// How often the other side is asked whether it is still there.
    pub keepalive_interval: Duration,
    /// How long it may take to say so.
    pub keepalive_timeout: Duration,
    /// Requests at a time on one connection; the client holds back the next ones.
    pub streams_max: u32,
}

impl Default for H2Plan {
    fn default() -> Self {
        Self {
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            streams_max: 64,
        }
    }
}

impl Default for ServerPlan {
    fn default() -> Self {
        Self {
            listen: ListenSettings::default(),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            // Longer than the usual scrape interval of a minute, so that scrapers keep their connection.
            idle_timeout: Duration::from_secs(150),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
            header_bytes_max: 32 << 10,
            body_bytes_max: 16 << 20,
            h2: H2Plan::default(),
        }
    }
}

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Not an address, or a host without one.
    #[error("expected `host:port` such as 127.0.0.1:9464 in `listen`, found `{listen}`")]
    Address {
        /// What was there.
        listen: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// The port is taken.
    #[error("another process listens on {listen}; stop it or set `listen`")]
    InUse {
        /// The address.
        listen: String,
    },
    /// Ports below 1024 need a privilege.
    #[error(
        "no permission to listen on {listen}; use a port above 1023 or grant CAP_NET_BIND_SERVICE"
    )]
    Permission {
        /// The address.
        listen: String,
    },
    /// The folder of the socket belongs to somebody else.
    #[error(
        "no permission to make the socket {listen}; choose a folder that this user may write to"
    )]
    SocketPermission {
        /// The address.
        listen: String,
    },
    /// TLS where nobody listens in.
    #[error("expected no `tls` for the unix socket {listen}; remove it, or listen on host:port")]
    TlsOnSocket {
        /// The address.
        listen: String,
    },
    /// The address belongs to another machine.
    #[error(
        "{listen} is not an address of this machine; set `listen` to one, or to 0.0.0.0 for all"
    )]
    NotHere {
        /// The address.
        listen: String,
    },
    /// The system refuses for another reason.
    #[error("cannot listen on {listen}")]
    Io {
        /// The address.
        listen: String,
        /// The reason.
        source: io::Error,
    },
    /// The TLS files cannot be used.
    #[error("cannot use the tls settings of {listen}")]
    Tls {
        /// The address.
        listen: String,
        /// The reason.
        source: TlsError,
    },
}

impl BindError {
    /// The message with all its causes on one line, for the person who started the program.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(reason) = cause {
            text = format!("{text}: {reason}");
            cause = reason.source();
        }
        text
    }
}

/// Answers requests. Every `async fn(Request) -> Response` that can be called again and again is one.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Dropped when the client hangs up or the drain deadline passes.
    fn handle(&self, request: Request) -> impl Future<Output = Response> + Send;
}

impl<F, Fut> Handler for F
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response> + Send,
{
    fn handle(&self, request: Request) -> impl Future<Output = Response> + Send {
        self(request)
    }
}

/// Makes [`Bound`] servers.
#[derive(Debug)]
pub struct Server;

/// A server that listens but does not answer yet.
pub struct Bound {
    listener: Listener,
    address: Address,
    tls: Option<TlsWatch>,
    plan: Arc<ServerPlan>,
}

type TlsWatch = Arc<Watched<Arc<ServerConfig>, TlsError>>;

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Connections that were still busy at the drain deadline and were cut.
    pub cut: usize,
}

impl Server {
    /// Reads the TLS files and opens the port.
    ///
    /// # Errors
    /// The address, the port or the TLS files cannot be used; the message says what to do.
    pub async fn bind(plan: ServerPlan) -> Result<Bound, BindError> {
        let listen = || plan.listen.listen.clone();
        let tls = match plan.listen.tls.clone() {
            None => None,
            Some(tls) => Some(
                Watched::open(tls.files(), None, move || tls.load())
                    .map(Arc::new)
                    .map_err(|source| BindError::Tls { listen: listen(), source })?,
            ),
        };
        let (listener, address) = Listener::open(&plan).await?;
        Ok(Bound { listener, address, tls, plan: Arc::new(plan) })
    }
}

impl Bound {
    /// The address in use; tells the port when port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Answers requests until `shutdown` completes, then lets those in progress finish until the drain deadline.
    ///
    /// Dropping the future closes the port and all connections at once.
    pub async fn serve(self, handler: impl Handler, shutdown: impl Future<Output = ()>) -> Served {
        let Self { listener, address, tls, plan } = self;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared { handler, tls, plan, stopped });
        let slots = Arc::new(Semaphore::new(
            usize::try_from(shared.plan.listen.max_connections.get()).unwrap_or(1024),
        ));
        let mut connections = JoinSet::new();
        let mut complaints = Complaints::default();
        let mut shutdown = pin!(shutdown);
        loop {
            if slots.available_permits() == 0 && complaints.due() {
                warn!(%address, "connection limit reached, new connections wait");
            }
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(ended) = connections.join_next() => note(ended),
                accepted = accept(&listener, &slots) => match accepted {
                    Ok((stream, peer, slot)) => {
                        let shared = Arc::clone(&shared);
                        connections.spawn(async move {
                            shared.connection(stream, peer).await;
                            drop(slot);
                        });
                    }
                    // The client went away while it waited in the backlog.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        if complaints.due() {
                            warn!(%address, %error, "accepting a connection failed, will try again");
                        }
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        // Nobody listens when there is no connection left.
        stop.send_replace(true);
        let drained = async {
            while let Some(ended) = connections.join_next().await {
                note(ended);
            }
        };
        if timeout(shared.plan.drain_timeout, drained).await.is_ok() {
            return Served { cut: 0 };
        }
        let cut = connections.len();
        warn!(%address, connections = cut, "drain deadline passed, connections cut");
        connections.shutdown().await;
        Served { cut }
    }
}

/// What the connections of a server have in common.
struct Shared<H> {
    handler: H,
    tls: Option<TlsWatch>,
    plan: Arc<ServerPlan>,
    stopped: watch::Receiver<bool>,
}

impl<H: Handler> Shared<H> {
    /// Serves one connection to its end. Nothing that a client does is worth more than a debug line.
    async fn connection(self: Arc<Self>, stream: Stream, peer: Option<SocketAddr>) {
        let stream = match (&self.tls, stream) {
            (Some(tls), Stream::Plain(tcp)) => {
                let acceptor = TlsAcceptor::from(Arc::clone(&*tls.current().await));
                match timeout(self.plan.header_timeout, acceptor.accept(tcp)).await {
                    Ok(Ok(tls)) => Stream::Tls(Box::new(tls.into())),
                    Ok(Err(error)) => return debug!(?peer, %error, "tls handshake failed"),
                    Err(_) => return debug!(?peer, "tls handshake took too long"),
                }
            }
            (_, stream) => stream,
        };
        if let Err(error) = self.http(stream, peer).await {
            debug!(?peer, %error, "connection failed");
        }
    }

    async fn http(
        self: Arc<Self>,
        stream: Stream,
        peer: Option<SocketAddr>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let plan = Arc::clone(&self.plan);
        let activity = Arc::new(Activity::default());
        let io = Patient::new(stream, Arc::clone(&activity), &plan);
        let mut stopped = self.stopped.clone();
        let service = service_fn(move |request: http::Request<Incoming>| {
            let shared = Arc::clone(&self);
            let ticket = activity.begin(request.version() == http::Version::HTTP_2);
            async move {
                let request = Request::new(request, peer, &shared.plan);
                let response = shared.handler.handle(request).await;
                Ok::<_, Infallible>(response.map(|body| body.until_end(ticket)))
            }
        });
        let mut builder = Builder::new(Streams::default());
        // hyper's timeout of the head would also end idle connections; `Patient` tells the two apart.
        builder.http1().header_read_timeout(None).max_buf_size(plan.header_bytes_max.max(8 << 10));
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(plan.h2.keepalive_interval))
            .keep_alive_timeout(plan.h2.keepalive_timeout)
            .max_concurrent_streams(plan.h2.streams_max)
            .max_header_list_size(u32::try_from(plan.header_bytes_max).unwrap_or(u32::MAX));
        let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
        tokio::select! {
            ended = &mut connection => return ended,
            _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }
}

/// Runs the streams of one h2 connection: they end when the connection does.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<JoinSet<()>>>);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.try_join_next() {
            note(ended);
        }
        tasks.spawn(async move { drop(stream.await) });
    }
}

/// Waits for a slot, then for a connection. Dropping it loses neither.
async fn accept(
    listener: &Listener,
    slots: &Arc<Semaphore>,
) -> io::Result<(Stream, Option<SocketAddr>, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, slot))
}

/// A task that panicked took one connection with it, and nothing else.
fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(%error, "a request handler panicked, its connection is closed");
    }
}

/// Keeps the log from filling up with the same trouble.
#[derive(Default)]
struct Complaints(Option<Instant>);

impl Complaints {
    fn due(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}
