//! What users write under `[exporters.otlp]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pipeline_component::{BatchSettings, Delivery, QueueSettings, RetrySettings};
use pipeline_config::{ByteSize, Diagnostic, Diagnostics, Duration, Section, codes};
use pipeline_net::client::{AuthorizationSettings, BasicAuthSettings, UrlError};
use pipeline_net::tls::ClientTls;
use pipeline_net::{Client, ClientPlan, ClientSettings, Coding, Secret};
use pipeline_wire::otlp::encode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::{Plan, Rules};

/// Metrics to an OTLP endpoint: a gateway, an OpenTelemetry Collector, a backend.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to: `http://host:4317` or `https://…`. For HTTP, `/v1/metrics` is added unless it ends so.
    pub endpoint: String,
    /// Several of them, instead of `endpoint`.
    pub endpoints: Vec<String>,
    /// How several endpoints are used.
    pub balance: Balance,
    /// How often the names of `endpoints` are resolved with `balance = "series"`; after a failure they are at once.
    pub resolve_interval: Duration,
    /// gRPC, or protobuf over HTTP.
    pub protocol: Protocol,
    /// Compression of requests.
    pub compression: Compression,
    /// More headers for every request.
    pub headers: BTreeMap<String, Secret>,
    /// An `Authorization` header of any scheme. At most one of this, `basic_auth` and the bearer tokens.
    pub authorization: Option<AuthorizationSettings>,
    /// User name and password.
    pub basic_auth: Option<BasicAuthSettings>,
    /// A bearer token.
    pub bearer_token: Option<Secret>,
    /// File with a bearer token; read again when it changes.
    pub bearer_token_file: Option<PathBuf>,
    /// TLS, for `https`.
    pub tls: ClientTls,
    /// How long one attempt may take, connecting included.
    pub timeout: Duration,
    /// Largest request, before compression. What would be more is split.
    pub request_bytes_max: ByteSize,
    /// Labels of scraped targets that become attributes of the resource; the others become attributes of each point,
    /// but for `job` and `instance`, which are `service.name` and `service.instance.id`.
    pub resource_labels: Vec<String>,
    /// Says when a series has ended, by a point with the flag `NO_RECORDED_VALUE`.
    pub stale_markers: bool,
    /// What waits for the backend.
    pub queue: QueueSettings,
    /// What goes into one request.
    pub batch: BatchSettings,
    /// What happens after a failure that is worth another attempt.
    pub retry: RetrySettings,
    /// Requests in flight at a time. Those of one source stay in order.
    pub concurrency: usize,
}

/// How several endpoints are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The first that works.
    #[default]
    Failover,
    /// All of them, at every address that their names resolve to: each source (resource and target labels) always goes
    /// to one address, the same from every agent, while the addresses stay.
    Series,
}

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// gRPC over HTTP/2; port 4317 by convention.
    #[default]
    Grpc,
    /// Protobuf over HTTP/1.1; port 4318 by convention.
    Http,
}

/// Compression of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// None.
    None,
    /// gzip, which every OTLP server understands.
    #[default]
    Gzip,
    /// zstd: smaller and faster, where the server understands it.
    Zstd,
}

impl Compression {
    /// The content coding.
    pub(crate) fn coding(self) -> Coding {
        match self {
            Self::None => Coding::Identity,
            Self::Gzip => Coding::Gzip,
            Self::Zstd => Coding::Zstd,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            endpoints: Vec::new(),
            balance: Balance::default(),
            resolve_interval: Duration::from_secs(30),
            protocol: Protocol::default(),
            compression: Compression::default(),
            headers: BTreeMap::new(),
            authorization: None,
            basic_auth: None,
            bearer_token: None,
            bearer_token_file: None,
            tls: ClientTls::default(),
            // 10 s: OpenTelemetry's default for exporters.
            timeout: Duration::from_secs(10),
            // 4 MiB: what gRPC servers take unless told otherwise.
            request_bytes_max: ByteSize::from_mib(4),
            resource_labels: Vec::new(),
            stale_markers: true,
            queue: QueueSettings::default(),
            batch: BatchSettings::default(),
            retry: RetrySettings::default(),
            concurrency: 2,
        }
    }
}

impl Config {
    /// How it queues, batches and retries.
    pub(super) fn delivery(&self) -> Delivery {
        let Self { queue, batch, retry, concurrency, .. } = self.clone();
        Delivery { queue, batch, retry, concurrency }
    }

    fn client_settings(&self) -> ClientSettings {
        ClientSettings {
            authorization: self.authorization.clone(),
            basic_auth: self.basic_auth.clone(),
            bearer_token: self.bearer_token.clone(),
            bearer_token_file: self.bearer_token_file.clone(),
            headers: self.headers.clone(),
            tls: self.tls.clone(),
            follow_redirects: false,
        }
    }

    /// What is meant.
    ///
    /// # Errors
    /// Every mistake, located.
    pub(super) fn plan(&self, section: &Section) -> Result<Plan, Diagnostics> {
        let mut wrong = Diagnostics::new();
        let listed = self.endpoints.iter().enumerate();
        let mut endpoints: Vec<(Vec<String>, &String)> =
            listed.map(|(at, url)| (vec!["endpoints".to_owned(), at.to_string()], url)).collect();
        match (self.endpoint.is_empty(), endpoints.is_empty()) {
            (false, true) => endpoints.push((vec!["endpoint".to_owned()], &self.endpoint)),
            (false, false) => wrong.push(section.bad_value(
                &["endpoints"],
                "expected one of `endpoint` and `endpoints`, found both",
                "move the endpoint into the list",
            )),
            (true, true) => wrong.push(section.error(
                &[],
                codes::BAD_VALUE,
                "expected an `endpoint`, found none",
                "for example `endpoint = \"http://gateway:4317\"`",
            )),
            (true, false) => {}
        }
        check_common(section, self.timeout, &self.delivery(), &mut wrong);
        check_request_bytes(section, self.request_bytes_max, &mut wrong);
        if self.resolve_interval.get().is_zero() {
            let message = "expected some time between two looks, found none";
            wrong.push(section.bad_value(&["resolve_interval"], message, "for example `\"30s\"`"));
        }
        let client = client(self.client_settings(), self.timeout, section, &mut wrong);
        let urls = endpoints.iter().map(|(_, url)| url_of(url, self.protocol)).collect();
        let Some(client) = client else { return Err(wrong) };
        for (path, url) in &endpoints {
            if let Err(error) = client.connection(url) {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                wrong.push(bad_endpoint(section, &path, url, &error));
            }
        }
        wrong.into_result()?;
        let options = encode::Options {
            resource_labels: self.resource_labels.clone(),
            ends: self.stale_markers,
            ..encode::Options::default()
        };
        Ok(Plan {
            client,
            urls,
            balance: self.balance,
            resolve_interval: self.resolve_interval.get(),
            protocol: self.protocol,
            coding: self.compression.coding(),
            timeout: self.timeout.get(),
            raw_bytes_max: self.request_bytes_max.as_usize(),
            wire_bytes_max: usize::MAX,
            options,
            rules: Rules::OTLP,
        })
    }
}

/// Checks what all exporters that speak OTLP have.
pub(crate) fn check_common(
    section: &Section,
    timeout: Duration,
    delivery: &Delivery,
    wrong: &mut Diagnostics,
) {
    if timeout.get().is_zero() {
        let message = "expected some time for an attempt, found none";
        wrong.push(section.bad_value(&["timeout"], message, "for example `\"10s\"`"));
    }
    delivery.check(section, wrong);
}

/// Checks that a request has room for anything at all.
pub(crate) fn check_request_bytes(section: &Section, bytes: ByteSize, wrong: &mut Diagnostics) {
    if bytes.get() < 1 << 10 {
        let message = format!("expected requests of at least 1 KiB, found {bytes}");
        let help = "for example `\"4MiB\"`";
        wrong.push(section.bad_value(&["request_bytes_max"], message, help));
    }
}

/// Says what is wrong with an address, and what one of OTLP looks like.
pub(crate) fn bad_endpoint(
    section: &Section,
    path: &[&str],
    endpoint: &str,
    error: &UrlError,
) -> Diagnostic {
    let UrlError::Form { .. } = error else {
        return section.bad_value(path, error.to_string(), "");
    };
    // What is behind a question mark may be a secret.
    let endpoint = endpoint.split('?').next().unwrap_or_default();
    let message = format!("expected an address such as https://gw:4317, found `{endpoint}`");
    let help = if endpoint.is_empty() || endpoint.contains("://") {
        "`http://` or `https://`, a host, and a port unless it is the usual one".to_owned()
    } else {
        format!("write `https://{endpoint}`, or `http://{endpoint}` for one without TLS")
    };
    section.bad_value(path, message, help)
}

/// Makes the client, or says everything that is wrong with its settings.
pub(crate) fn client(
    settings: ClientSettings,
    timeout: Duration,
    section: &Section,
    wrong: &mut Diagnostics,
) -> Option<Client> {
    let faults = settings.faults();
    for fault in &faults {
        let path: Vec<&str> = fault.path.iter().map(String::as_str).collect();
        wrong.push(section.bad_value(&path, fault.message.clone(), fault.help));
    }
    if !faults.is_empty() {
        return None;
    }
    let plan = ClientPlan { settings, connect_timeout: timeout.get(), ..ClientPlan::default() };
    match Client::new(plan) {
        Ok(client) => Some(client),
        Err(error) => {
            wrong.push(section.error(&[], codes::BAD_VALUE, error.to_string(), ""));
            None
        }
    }
}

/// The address of metrics: over HTTP a path of its own, as the Collector's exporter makes it.
pub(crate) fn url_of(endpoint: &str, protocol: Protocol) -> String {
    const PATH: &str = "/v1/metrics";
    if protocol == Protocol::Grpc || endpoint.ends_with(PATH) {
        return endpoint.to_owned();
    }
    match endpoint.split_once('?') {
        Some((path, query)) => format!("{}{PATH}?{query}", path.trim_end_matches('/')),
        None => format!("{}{PATH}", endpoint.trim_end_matches('/')),
    }
}
