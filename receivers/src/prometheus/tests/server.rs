//! A server whose every answer the test decides.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What is answered to every request.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    pub(super) delay: Duration,
}

/// What was asked.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) connections: usize,
    pub(super) requests: Vec<(String, HeaderMap)>,
}

/// A server on a free port, until dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    script: Arc<Mutex<Script>>,
    pub(super) seen: Arc<Mutex<Seen>>,
    tasks: JoinSet<()>,
}

pub(super) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Server {
    /// Serves `body` as text 0.0.4.
    pub(super) async fn start(body: &str) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), body).await
    }

    pub(super) async fn at(address: SocketAddr, body: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Script {
            status: 200,
            headers: vec![("content-type", TEXT.to_owned())],
            body: body.into(),
            delay: Duration::ZERO,
        };
        let (script, seen) = (Arc::new(Mutex::new(script)), Arc::new(Mutex::new(Seen::default())));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&script), Arc::clone(&seen)));
        Self { address, script, seen, tasks }
    }

    /// A server that never ends its answer.
    pub(super) async fn endless() -> Self {
        let mut server = Self::start("").await;
        server.tasks.abort_all();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        server.address = listener.local_addr().unwrap();
        server.tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\n\r\n");
                let mut sent = stream.write_all(head.as_bytes()).await;
                while sent.is_ok() {
                    sent = stream.write_all(&b"endless_total{a=\"b\"} 1\n".repeat(1000)).await;
                }
            }
        });
        server
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    pub(super) fn body(&self, body: &str) {
        self.set(|script| script.body = body.into());
    }

    pub(super) fn requests(&self) -> usize {
        self.seen.lock().unwrap().requests.len()
    }

    /// Closes the port and all connections.
    pub(super) async fn close(mut self) -> SocketAddr {
        self.tasks.shutdown().await;
        self.address
    }
}

async fn accept(listener: TcpListener, script: Arc<Mutex<Script>>, seen: Arc<Mutex<Seen>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        seen.lock().unwrap().connections += 1;
        let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
        let service = service_fn(move |request: Request<Incoming>| {
            let script = script.lock().unwrap().clone();
            seen.lock()
                .unwrap()
                .requests
                .push((request.uri().to_string(), request.headers().clone()));
            async move {
                tokio::time::sleep(script.delay).await;
                let mut response = Response::builder().status(script.status);
                for (name, value) in script.headers {
                    response = response.header(name, value);
                }
                Ok::<_, Infallible>(response.body(Full::new(Bytes::from(script.body))).unwrap())
            }
        });
        connections.spawn(async move {
            // A client that hangs up is part of several tests.
            let _closed = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
