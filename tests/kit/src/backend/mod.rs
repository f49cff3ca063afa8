//! A backend that tests deliver to: OTLP over HTTP and gRPC and remote write 1.0 and 2.0 on one port of loopback. It
//! misbehaves as scripted, and keeps a ledger of what it took.
//!
//! It judges by the specifications, and knows nothing of the product.

mod ledger;
mod otlp;
mod remote_write;
mod serve;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use tokio::sync::watch;

pub use ledger::{Arrived, Ledger, STALE, Series, Verdict};
pub use otlp::{count as otlp_count, shown as otlp_shown};
pub use remote_write::{NativeHistogram, Request as WriteRequest, Span, Written};

/// How a request is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// As it should be.
    None,
    /// Refused with this HTTP status, or what it means in gRPC, and a `Retry-After` (seconds or a date).
    Status(u16, Option<String>),
    /// The connection is reset before anything is taken.
    Reset,
    /// Taken, and answered after this time.
    Slow(Duration),
    /// Taken, and the connection closed without an answer.
    TakeThenClose,
    /// Taken, and answered with this status all the same.
    TakeThenStatus(u16),
    /// Taken, but for the first points of a number that the answer says were rejected.
    Partial(u64),
    /// Refused as too large when the body, after decompression, has more bytes than this.
    TooLargeAbove(usize),
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// Path.
    pub path: String,
    /// Header lines in lower case, `name: value`.
    pub head: Vec<String>,
    /// Body bytes as sent.
    pub wire_bytes: usize,
    /// The body after decompression and without a gRPC frame.
    pub body: bytes::Bytes,
    /// Points in it, markers of an end included.
    pub points: usize,
    /// Whether the ledger took them.
    pub taken: bool,
    /// When it had been read.
    pub at: Instant,
}

impl Request {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// What the server and the test share.
#[derive(Default)]
struct State {
    ledger: Ledger,
    requests: Vec<Request>,
    otlp: Vec<ExportMetricsServiceRequest>,
    written: Vec<WriteRequest>,
    violations: Vec<String>,
    next: VecDeque<Fault>,
    always: Option<Fault>,
    refuses_2: bool,
}

impl State {
    fn fault(&mut self) -> Fault {
        self.next.pop_front().or_else(|| self.always.clone()).unwrap_or(Fault::None)
    }
}

/// A running backend; dropping it ends it.
pub struct Backend {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    up: watch::Sender<bool>,
    listening: watch::Receiver<bool>,
    runtime: tokio::runtime::Runtime,
}

impl Backend {
    /// Listens on a free port of loopback.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("backend")
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let up = watch::Sender::new(true);
        let (told, listening) = watch::channel(true);
        // Owned by the runtime, which is owned by the backend.
        drop(runtime.spawn(serve::serve(
            listener,
            address,
            Arc::clone(&state),
            up.subscribe(),
            told,
        )));
        Self { address, state, up, listening, runtime }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// `http://127.0.0.1:port` with `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers the next requests so, one each, before anything else.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().next.extend(faults);
    }

    /// Faults that wait for requests.
    pub fn faults_left(&self) -> usize {
        self.state().next.len()
    }

    /// Answers all requests so, until told otherwise; `Fault::None` ends it.
    pub fn always(&self, fault: Fault) {
        self.state().always = Some(fault);
    }

    /// Answers remote write 2.0 with 415, as a receiver of 1.0 does.
    pub fn refuse_write_2(&self) {
        self.state().refuses_2 = true;
    }

    /// Stops listening and breaks every connection; returns when it is so.
    pub fn down(&self) {
        self.switch(false);
    }

    /// Listens again on the same port.
    pub fn up(&self) {
        self.switch(true);
    }

    fn switch(&self, up: bool) {
        self.up.send_replace(up);
        let mut listening = self.listening.clone();
        self.runtime.block_on(listening.wait_for(|is| *is == up)).unwrap();
    }

    /// What it took so far.
    pub fn ledger(&self) -> Ledger {
        self.state().ledger.clone()
    }

    /// Looks at what it took so far, without a copy.
    pub fn with_ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.state().ledger)
    }

    /// Requests so far, in the order in which they were read.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// Number of requests so far.
    pub fn requests_n(&self) -> usize {
        self.state().requests.len()
    }

    /// OTLP requests that it took.
    pub fn otlp(&self) -> Vec<ExportMetricsServiceRequest> {
        self.state().otlp.clone()
    }

    /// Remote-write requests that it took.
    pub fn written(&self) -> Vec<WriteRequest> {
        self.state().written.clone()
    }

    /// Where requests broke a specification.
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// Points that it took.
    pub fn points(&self) -> usize {
        self.state().requests.iter().filter(|request| request.taken).map(|r| r.points).sum()
    }
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").field("address", &self.address).finish_non_exhaustive()
    }
}
