//! An HTTP/1.1 client for scraping and delivery, and unary gRPC over HTTP/2: one kept connection per target, bodies into reused buffers, a limit and
//! a deadline on everything.
//!
//! A [`Client`] is what many targets share (credentials, TLS, headers); a [`Connection`] belongs to one target and one
//! task. There is no pool and no task: the connection is driven by whoever waits for the answer, so nothing outlives a
//! dropped future.

mod connection;
mod credentials;
mod error;
mod faults;
mod grpc;
mod link;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::compress::Coding;
use crate::secret::Secret;
use crate::tls::{ClientConfigs, ClientTls, TlsError};
use crate::watch::Watched;

pub use connection::{Connection, Post};
use credentials::Credentials;
pub use credentials::{AuthorizationSettings, BasicAuthSettings, CredentialError};
pub use error::{ClientError, FetchError, Phase, UrlError};
pub use faults::Fault;
pub use grpc::{Call, GrpcAnswer, GrpcConnection};
use target::Target;

/// What we call ourselves.
const USER_AGENT: &str = concat!("inferometer/", env!("CARGO_PKG_VERSION"));

/// Headers that are made here; a setting for them would be ignored or break the request.
const OWN_HEADERS: &[HeaderName] = &[
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::ACCEPT_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
];

/// How to talk to an HTTP server. At most one of `authorization`, `basic_auth`, `bearer_token` and `bearer_token_file`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientSettings {
    /// An `Authorization` header of any scheme.
    pub authorization: Option<AuthorizationSettings>,
    /// User name and password.
    pub basic_auth: Option<BasicAuthSettings>,
    /// A bearer token.
    pub bearer_token: Option<Secret>,
    /// File with a bearer token; read again when it changes and every 30 s.
    pub bearer_token_file: Option<std::path::PathBuf>,
    /// More headers for every request. Like credentials, they are never sent to another host.
    pub headers: BTreeMap<String, Secret>,
    /// TLS, for `https` addresses.
    pub tls: ClientTls,
    /// Follows redirects, up to 5; to another host without credentials, `headers` and client certificate.
    pub follow_redirects: bool,
}

impl Default for ClientSettings {
    /// No credentials, the certificate authorities of the system, redirects followed.
    fn default() -> Self {
        Self {
            authorization: None,
            basic_auth: None,
            bearer_token: None,
            bearer_token_file: None,
            headers: BTreeMap::new(),
            tls: ClientTls::default(),
            follow_redirects: true,
        }
    }
}

/// What a client is made from.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// What the user wants.
    pub settings: ClientSettings,
    /// How long DNS, TCP and TLS may take together. The deadline of a request counts as well.
    pub connect_timeout: Duration,
    /// The `Accept` header of every request.
    pub accept: Option<HeaderValue>,
    /// The content codings to ask for, the preferred one first. Empty: identity.
    pub accept_encoding: Vec<Coding>,
}

impl Default for ClientPlan {
    /// 10 s to connect, zstd or gzip.
    fn default() -> Self {
        Self {
            settings: ClientSettings::default(),
            connect_timeout: Duration::from_secs(10),
            accept: None,
            accept_encoding: vec![Coding::Zstd, Coding::Gzip],
        }
    }
}

/// How much an answer may hold, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of the body, after decompression.
    pub body_bytes_max: usize,
    /// Of a compressed body, as received.
    pub wire_bytes_max: usize,
}

impl Limits {
    /// The same limit before and after decompression.
    #[must_use]
    pub const fn bytes(max: usize) -> Self {
        Self { body_bytes_max: max, wire_bytes_max: max }
    }
}

/// What came back, besides the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// `Content-Type`.
    pub content_type: Option<HeaderValue>,
    /// How the body was coded on its way; it is decoded now.
    pub content_encoding: Coding,
    /// `Retry-After`, a number of seconds or the time until a date.
    pub retry_after: Option<Duration>,
    /// Bytes of the body as received, before decompression.
    pub wire_bytes: usize,
}

/// What targets share: credentials, TLS, headers. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    /// For every host.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// For the target itself only.
    private_headers: Vec<(HeaderName, HeaderValue)>,
    credentials: Credentials,
    tls: ClientTls,
    /// Made when the first connection needs it: the authorities of the system take a while to read.
    tls_configs: OnceCell<Watched<ClientConfigs, TlsError>>,
    connect_timeout: Duration,
    follow_redirects: bool,
}

impl Client {
    /// Checks the plan and reads the files it names; blocks on them.
    ///
    /// # Errors
    /// Settings that contradict each other, or files that cannot be used.
    pub fn new(plan: ClientPlan) -> Result<Self, ClientError> {
        let ClientPlan { settings, connect_timeout, accept, accept_encoding } = plan;
        let mut headers = vec![(header::USER_AGENT, HeaderValue::from_static(USER_AGENT))];
        headers.extend(accept.map(|accept| (header::ACCEPT, accept)));
        headers.push((header::ACCEPT_ENCODING, accept_encoding_header(&accept_encoding)));
        let private_headers =
            settings.headers.iter().map(extra_header).collect::<Result<Vec<_>, _>>()?;
        headers.retain(|(name, _)| private_headers.iter().all(|(private, _)| private != name));
        let inner = Inner {
            headers,
            private_headers,
            credentials: Credentials::new(&settings)?,
            tls_configs: OnceCell::new(),
            tls: settings.tls,
            connect_timeout,
            follow_redirects: settings.follow_redirects,
        };
        if inner.tls != ClientTls::default() {
            let configs =
                Inner::open_tls(&inner.tls).map_err(|source| ClientError::Tls { source })?;
            inner.tls_configs.set(configs).unwrap_or_default();
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes the handle for one target, `http://host[:port]/path?query` or `https://…`. Does not connect yet.
    ///
    /// # Errors
    /// Not such an address, or one with a user name in it.
    pub fn connection(&self, url: &str) -> Result<Connection, UrlError> {
        self.connection_at(url, None)
    }

    /// As [`Client::connection`], to one `address` of the target's host instead of those that its name resolves to.
    ///
    /// # Errors
    /// As [`Client::connection`].
    pub fn connection_at(
        &self,
        url: &str,
        address: Option<SocketAddr>,
    ) -> Result<Connection, UrlError> {
        Ok(Connection::new(Arc::clone(&self.inner), self.target(url, address)?))
    }

    /// Makes the handle for gRPC calls to one server, `http://host:port` or `https://…`, at one `address` of it if one
    /// is given. Does not connect yet.
    ///
    /// # Errors
    /// As [`Client::connection`].
    pub fn grpc(&self, url: &str, address: Option<SocketAddr>) -> Result<GrpcConnection, UrlError> {
        Ok(GrpcConnection::new(Arc::clone(&self.inner), self.target(url, address)?))
    }

    fn target(&self, url: &str, address: Option<SocketAddr>) -> Result<Target, UrlError> {
        let target = Target::parse(url, self.inner.tls.server_name.as_deref())?;
        Ok(Target { address, ..target })
    }
}

impl Inner {
    fn open_tls(tls: &ClientTls) -> Result<Watched<ClientConfigs, TlsError>, TlsError> {
        let tls = tls.clone();
        Watched::open(tls.files(), None, move || tls.load())
    }

    /// The TLS side as its files have it now.
    async fn tls(&self) -> Result<Arc<ClientConfigs>, TlsError> {
        let configs = self.tls_configs.get_or_try_init(|| async {
            let tls = self.tls.clone();
            // Not a crash when the runtime is going down and cancels the job.
            tokio::task::spawn_blocking(move || Self::open_tls(&tls))
                .await
                .unwrap_or(Err(TlsError::NoRoots))
        });
        Ok(configs.await?.current().await)
    }
}

fn accept_encoding_header(codings: &[Coding]) -> HeaderValue {
    let names = codings.iter().map(|coding| coding.name()).collect::<Vec<_>>().join(", ");
    HeaderValue::from_str(&names)
        .ok()
        .filter(|value| !value.is_empty())
        .unwrap_or(HeaderValue::from_static(Coding::Identity.name()))
}

fn extra_header(
    (name, value): (&String, &Secret),
) -> Result<(HeaderName, HeaderValue), ClientError> {
    let header = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| ClientError::HeaderName { name: name.clone() })?;
    if OWN_HEADERS.contains(&header) {
        return Err(ClientError::HeaderReserved { name: name.clone() });
    }
    if header == header::AUTHORIZATION {
        return Err(ClientError::HeaderAuthorization);
    }
    let mut value = HeaderValue::from_str(value.expose())
        .map_err(|_| ClientError::HeaderValue { name: name.clone() })?;
    value.set_sensitive(true);
    Ok((header, value))
}
