//! What users write under `[receivers.otlp]`.

use std::num::NonZeroU32;

use http::HeaderName;
use pipeline_config::{ByteSize, Diagnostics, Duration, Section};
use pipeline_net::auth::TokensError;
use pipeline_net::server::check_listen_or_socket;
use pipeline_net::tls::ServerTls;
use pipeline_net::{H2Plan, ListenSettings, Secret, ServerPlan, TokenSettings, Tokens};
use pipeline_wire::otlp::ReadSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes of an export request at most, unless configured: what OTLP recommends.
const REQUEST_BYTES_MAX: u64 = 64 << 20;

/// Takes OTLP from SDKs, collectors and gateways.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where gRPC is expected.
    pub grpc: GrpcConfig,
    /// Where HTTP is expected.
    pub http: HttpConfig,
    /// Who may send, each with a limit of requests. Sent as `Authorization: Bearer K`, `Api-Key K` or `Bearer Api-Key K`,
    /// with gRPC as metadata of that name. None: everybody who reaches the address may send.
    pub tokens: Vec<SenderToken>,
    /// Bytes of a request at most: as received, and again after decompression. Larger ones are refused for good.
    pub max_request_bytes: ByteSize,
    /// Requests worked on at the same time, over both protocols. The next ones are told to come again.
    pub max_concurrent_requests: NonZeroU32,
    /// How long a request may take to arrive.
    pub request_timeout: Duration,
    /// How long a resource may be silent before its series end and are forgotten. A metric that is sent less often than
    /// this ends in between.
    pub expiry: Duration,
    /// Resources remembered. The points of others are rejected until one of these has expired.
    pub max_resources: NonZeroU32,
    /// Series of one resource. Points of further ones are rejected.
    pub max_series_per_resource: NonZeroU32,
    /// Memory for knowing resources and series again. When it is used up, points of new series are rejected, and those
    /// of known ones go on.
    pub max_memory: ByteSize,
    /// What to do about an address on which another process listens.
    pub when_taken: WhenTaken,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SenderToken {
    /// The token, sent as `Authorization: Bearer <token>` or `Api-Key <token>`.
    pub token: Secret,
    /// Requests per minute, which may also come all at once. Absent: no limit.
    #[serde(default)]
    pub requests_per_minute: Option<NonZeroU32>,
}

/// What to do about an address on which another process listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenTaken {
    /// Do not start.
    #[default]
    Fail,
    /// Say so and go on without it.
    Skip,
}

/// Where gRPC is expected. HTTP requests are answered there as well.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    /// Whether to listen at all.
    pub enabled: bool,
    /// Address and port, or `unix:` and the path of a socket. The default serves this host only.
    pub listen: String,
    /// TLS; with `client_ca_file`, only for clients with a certificate. Absent: without TLS.
    pub tls: Option<ServerTls>,
    /// Connections served at the same time; the next ones wait.
    pub max_connections: NonZeroU32,
    /// Requests at a time on one connection; the client holds back the next ones.
    pub max_streams_per_connection: NonZeroU32,
    /// How often a client is asked whether it is still there.
    pub keepalive_interval: Duration,
    /// How long it may take to say so.
    pub keepalive_timeout: Duration,
}

/// Where HTTP is expected. gRPC is answered there as well.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Whether to listen at all.
    pub enabled: bool,
    /// Address and port, or `unix:` and the path of a socket. The default serves this host only.
    pub listen: String,
    /// TLS; with `client_ca_file`, only for clients with a certificate. Absent: without TLS.
    pub tls: Option<ServerTls>,
    /// Connections served at the same time; the next ones wait.
    pub max_connections: NonZeroU32,
    /// Which web pages may send. Absent: none, since browsers ask first.
    pub cors: Option<CorsConfig>,
}

/// Which web pages may send.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorsConfig {
    /// Their origins, such as `https://app.example.com`; one `*` in each stands for anything.
    pub origins: Vec<String>,
    /// Headers that they may send beside `content-type`, `content-encoding` and `authorization`.
    pub headers: Vec<String>,
    /// How long browsers may remember the answer.
    pub max_age: Duration,
}

fn at_most(connections: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(connections - 1)
}

impl Default for Config {
    fn default() -> Self {
        let read = ReadSettings::default();
        let count =
            |n: usize| u32::try_from(n).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        Self {
            grpc: GrpcConfig::default(),
            http: HttpConfig::default(),
            tokens: Vec::new(),
            max_request_bytes: ByteSize::from_bytes(REQUEST_BYTES_MAX),
            max_concurrent_requests: at_most(64),
            request_timeout: Duration::from_secs(30),
            expiry: Duration::from_secs(600),
            max_resources: count(read.resources_max),
            max_series_per_resource: count(read.series_max),
            max_memory: ByteSize::from_mib(256),
            when_taken: WhenTaken::default(),
        }
    }
}

impl Default for GrpcConfig {
    fn default() -> Self {
        let h2 = H2Plan::default();
        let seconds = |duration: std::time::Duration| Duration::from_secs(duration.as_secs());
        Self {
            enabled: true,
            // 4317 and 4318: the ports registered for OTLP.
            listen: "127.0.0.1:4317".to_owned(),
            tls: None,
            max_connections: at_most(1024),
            max_streams_per_connection: at_most(h2.streams_max),
            keepalive_interval: seconds(h2.keepalive_interval),
            keepalive_timeout: seconds(h2.keepalive_timeout),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: "127.0.0.1:4318".to_owned(),
            tls: None,
            max_connections: at_most(1024),
            cors: None,
        }
    }
}

impl Default for CorsConfig {
    fn default() -> Self {
        Self { origins: Vec::new(), headers: Vec::new(), max_age: Duration::from_secs(2 * 3600) }
    }
}

impl Config {
    /// Checks what types alone do not say, and makes the tokens.
    ///
    /// # Errors
    /// Every mistake, located.
    pub(super) fn check(&self, section: &Section) -> Result<Option<Tokens>, Diagnostics> {
        let mut wrong = Diagnostics::new();
        let Self { grpc, http, .. } = self;
        if !grpc.enabled && !http.enabled {
            let help = "remove one `enabled = false`, or the receiver";
            wrong.push(section.bad_value(&[], "neither gRPC nor HTTP is enabled", help));
        }
        if grpc.enabled {
            check_door("grpc", &grpc.listen, grpc.tls.as_ref(), section, &mut wrong);
        }
        if http.enabled {
            check_door("http", &http.listen, http.tls.as_ref(), section, &mut wrong);
        }
        let durations: [(&[&str], Duration); 4] = [
            (&["request_timeout"], self.request_timeout),
            (&["expiry"], self.expiry),
            (&["grpc", "keepalive_interval"], grpc.keepalive_interval),
            (&["grpc", "keepalive_timeout"], grpc.keepalive_timeout),
        ];
        for (path, duration) in durations {
            if duration.get().is_zero() {
                let key = path.last().unwrap_or(&"");
                let help = "write a duration such as \"30s\"";
                wrong.push(section.bad_value(path, format!("`{key}` is zero"), help));
            }
        }
        let bytes = self.max_request_bytes.get();
        if bytes == 0 || bytes > u64::from(u32::MAX) {
            let message =
                format!("expected a size from 1 B to 4 GiB, found {}", self.max_request_bytes);
            wrong.push(section.bad_value(&["max_request_bytes"], message, "for example \"64MiB\""));
        }
        if self.max_memory.get() < 1 << 20 {
            let message = format!("expected at least 1 MiB, found {}", self.max_memory);
            wrong.push(section.bad_value(&["max_memory"], message, "for example \"256MiB\""));
        }
        if let Some(cors) = &http.cors {
            check_cors(cors, section, &mut wrong);
        }
        let tokens = self.tokens(section, &mut wrong);
        wrong.into_result()?;
        Ok(tokens)
    }

    fn tokens(&self, section: &Section, wrong: &mut Diagnostics) -> Option<Tokens> {
        let of = |SenderToken { token, requests_per_minute }: &SenderToken| TokenSettings {
            token: token.clone(),
            model_ids: None,
            requests_per_minute: *requests_per_minute,
        };
        let tokens: Vec<_> = self.tokens.iter().map(of).collect();
        match Tokens::new(&tokens) {
            Ok(tokens) => Some(tokens),
            // No token is a choice here.
            Err(TokensError::None) => None,
            Err(error @ (TokensError::Unusable { number } | TokensError::Twice { number })) => {
                let idx = (number - 1).to_string();
                wrong.push(section.bad_value(&["tokens", &idx, "token"], error.to_string(), ""));
                None
            }
        }
    }

    /// The server for gRPC.
    pub(super) fn grpc_plan(&self) -> ServerPlan {
        let GrpcConfig { listen, tls, max_connections, .. } = self.grpc.clone();
        let h2 = H2Plan {
            keepalive_interval: self.grpc.keepalive_interval.get(),
            keepalive_timeout: self.grpc.keepalive_timeout.get(),
            streams_max: self.grpc.max_streams_per_connection.get(),
        };
        ServerPlan { h2, ..self.plan(ListenSettings { listen, tls, max_connections }) }
    }

    /// The server for HTTP.
    pub(super) fn http_plan(&self) -> ServerPlan {
        let HttpConfig { listen, tls, max_connections, .. } = self.http.clone();
        self.plan(ListenSettings { listen, tls, max_connections })
    }

    fn plan(&self, listen: ListenSettings) -> ServerPlan {
        ServerPlan {
            listen,
            body_timeout: self.request_timeout.get(),
            body_bytes_max: self.max_request_bytes.as_usize(),
            ..ServerPlan::default()
        }
    }

    /// What the reader lets in.
    pub(super) fn read_settings(&self) -> ReadSettings {
        let count = |n: NonZeroU32| usize::try_from(n.get()).unwrap_or(usize::MAX);
        ReadSettings {
            resources_max: count(self.max_resources),
            series_max: count(self.max_series_per_resource),
            bytes_max: self.max_memory.as_usize(),
            ..ReadSettings::default()
        }
    }
}

fn check_door(
    door: &str,
    listen: &str,
    tls: Option<&ServerTls>,
    section: &Section,
    wrong: &mut Diagnostics,
) {
    if let Err(message) = check_listen_or_socket(listen) {
        let help = "for example `127.0.0.1:4317` or `unix:/run/inferometer/otlp.sock`";
        wrong.push(section.bad_value(&[door, "listen"], message, help));
    }
    if tls.is_some() && listen.starts_with("unix:") {
        let message = "tls over a unix socket protects nothing";
        wrong.push(section.bad_value(&[door, "tls"], message, "remove it"));
        return;
    }
    for (key, error) in tls.into_iter().flat_map(ServerTls::faults) {
        let path = [door, "tls", key];
        let path = if key.is_empty() { &path[..2] } else { &path[..] };
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        let message = format!("{error}{}", cause.unwrap_or_default());
        wrong.push(section.bad_value(path, message, ""));
    }
}

fn check_cors(cors: &CorsConfig, section: &Section, wrong: &mut Diagnostics) {
    if cors.origins.is_empty() {
        let help = "list `origins`, or remove `cors`";
        wrong.push(section.bad_value(&["http", "cors"], "`cors` without origins", help));
    }
    for (idx, origin) in cors.origins.iter().enumerate() {
        let stars = origin.matches('*').count();
        let is_origin = origin == "*" || (origin.contains("://") && !origin.ends_with('/'));
        if stars > 1 || !is_origin {
            let message =
                format!("expected scheme://host[:port] with at most one `*`, found `{origin}`");
            let path = ["http", "cors", "origins", &idx.to_string()];
            wrong.push(section.bad_value(&path, message, "for example `https://app.example.com`"));
        }
    }
    for (idx, name) in cors.headers.iter().enumerate() {
        if HeaderName::try_from(name.as_str()).is_err() {
            let message = format!("expected the name of a header, found `{name}`");
            let path = ["http", "cors", "headers", &idx.to_string()];
            wrong.push(section.bad_value(&path, message, ""));
        }
    }
}
