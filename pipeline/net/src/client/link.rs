//! [`Link`]: one TCP (and TLS) connection with HTTP/1.1 on it, driven by whoever uses it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::target::Target;
use super::{FetchError, Inner, Phase};
use crate::stream::Stream;

/// Bytes of a read, and with it of an answer's head. A kept connection holds its buffer while it idles: hyper's own
/// adaptive buffer grew to 128 KiB on pages of that size, which was most of an agent's memory at hundreds of targets.
const READ_BYTES: usize = 16 << 10;

/// A connection to a server.
pub(super) struct Link {
    sender: SendRequest<Full<Bytes>>,
    /// Does the reading and writing, when polled. `None`: it has ended.
    http: Option<Http>,
}

type Http = Pin<Box<Connection<TokioIo<Stream>, Full<Bytes>>>>;

impl Link {
    /// Connects within the connect timeout. `trusted`: with the client certificate.
    pub(super) async fn connect(
        client: &Inner,
        target: &Target,
        trusted: bool,
    ) -> Result<Self, FetchError> {
        let connecting = tokio::time::timeout(
            client.connect_timeout,
            Self::connect_now(client, target, trusted),
        );
        let late = |_| FetchError::Timeout { phase: Phase::Connecting, url: target.url.clone() };
        connecting.await.map_err(late)?
    }

    async fn connect_now(
        client: &Inner,
        target: &Target,
        trusted: bool,
    ) -> Result<Self, FetchError> {
        let url = || target.url.clone();
        let stream = connect_stream(client, target, trusted, None).await?;
        let (sender, http) = Builder::new()
            .read_buf_exact_size(Some(READ_BYTES))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| FetchError::Protocol { url: url(), source })?;
        Ok(Self { sender, http: Some(Box::pin(http)) })
    }

    /// Says whether another request can be sent; notices here that the server hung up in the meantime.
    pub(super) async fn ready(&mut self) -> bool {
        let Self { sender, http } = self;
        poll_fn(|cx| {
            drive(http, cx);
            sender.poll_ready(cx)
        })
        .await
        .is_ok()
    }

    /// Sends a request and waits for the head of the answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        let Self { sender, http } = self;
        let mut answer = std::pin::pin!(sender.try_send_request(request));
        poll_fn(|cx| {
            drive(http, cx);
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// Waits for the next piece of a body. `None`: that was all.
    pub(super) async fn chunk(
        &mut self,
        body: &mut Incoming,
    ) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            let frame = poll_fn(|cx| {
                drive(&mut self.http, cx);
                Pin::new(&mut *body).poll_frame(cx)
            });
            match frame.await?.map(|frame| frame.into_data()) {
                Ok(Ok(chunk)) => return Some(Ok(chunk)),
                // Trailers.
                Ok(Err(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Lets the connection work. Its errors reach the request that waits, so they are not needed here.
fn drive(http: &mut Option<Http>, cx: &mut Context<'_>) {
    if let Some(connection) = http
        && connection.as_mut().poll(cx).is_ready()
    {
        *http = None;
    }
}

/// Connects TCP and, where the target wants it, TLS. `alpn` replaces the protocol that TLS negotiates.
pub(super) async fn connect_stream(
    client: &Inner,
    target: &Target,
    trusted: bool,
    alpn: Option<&[u8]>,
) -> Result<Stream, FetchError> {
    let url = || target.url.clone();
    let tcp = connect_tcp(target).await?;
    // Requests are written in one piece; without this they would wait for nothing. Failing costs speed only.
    tcp.set_nodelay(true).unwrap_or_default();
    let Some(name) = &target.server_name else { return Ok(Stream::Plain(tcp)) };
    let tls = client.tls().await.map_err(|source| FetchError::TlsFiles { url: url(), source })?;
    let mut config = Arc::clone(if trusted { &tls.trusted } else { &tls.stranger });
    if let Some(protocol) = alpn {
        Arc::make_mut(&mut config).alpn_protocols = vec![protocol.to_vec()];
    }
    let tls = TlsConnector::from(config).connect(name.clone(), tcp).await;
    Ok(Stream::Tls(Box::new(tls.map_err(|source| FetchError::Tls { url: url(), source })?.into())))
}

/// Tries the addresses of the host one after the other.
async fn connect_tcp(target: &Target) -> Result<TcpStream, FetchError> {
    if let Some(address) = target.address {
        let refused = |source| FetchError::Refused { url: target.url.clone(), source };
        return connect_one(address).await.map_err(refused);
    }
    let dns = |source| FetchError::Dns { host: target.host.clone(), source };
    let addresses =
        lookup_host((target.host.as_str(), target.port)).await.map_err(|error| dns(Some(error)))?;
    let mut last = None;
    for address in addresses {
        match connect_one(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = Some(error),
        }
    }
    let source = last.ok_or_else(|| dns(None))?;
    Err(FetchError::Refused { url: target.url.clone(), source })
}

async fn connect_one(address: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect(address).await
}
