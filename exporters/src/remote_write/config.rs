//! What users write under `[exporters.remote_write]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pipeline_component::{BatchSettings, Delivery, QueueSettings, RetrySettings, Settings};
use pipeline_config::{ByteSize, Diagnostics, Duration, Section, codes};
use pipeline_net::client::{AuthorizationSettings, BasicAuthSettings};
use pipeline_net::tls::ClientTls;
use pipeline_net::{ClientSettings, Secret};
use pipeline_wire::remote_write::{Options, TargetInfos};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::{Dialect, Plan};
use super::rules::{self, DropLabels, KeepBuckets, Translation};

/// Metrics to a store that takes Prometheus' remote write: Prometheus, Mimir, Thanos, VictoriaMetrics and others.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to, with the path: `http://prometheus:9090/api/v1/write`.
    pub endpoint: String,
    /// Version of the protocol.
    pub protocol: Protocol,
    /// Compression of requests. VictoriaMetrics takes `zstd`, with version 1.0 alone; everybody else `snappy`.
    pub compression: Compression,
    /// More headers for every request, such as `X-Scope-OrgID`.
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
    /// What becomes of OpenTelemetry's names. Those of scraped metrics stay as they are.
    pub translation_strategy: Translation,
    /// Labels `otel_scope_name` and the like on metrics of OpenTelemetry's scopes.
    pub scope_labels: bool,
    /// A series `target_info` per job and instance of OpenTelemetry's resources, with their attributes.
    pub target_info: bool,
    /// Attributes of OpenTelemetry's resources that become labels of all their series.
    pub promote_resource_attributes: Vec<String>,
    /// Exponential histograms go out as native histograms, which the store must take; else they are left out.
    pub native_histograms: bool,
    /// Labels of every series that has none of the name.
    pub external_labels: BTreeMap<String, String>,
    /// How often type, help and unit of all metrics are sent with version 1.0; with 2.0 every series says them. `"0s"`:
    /// never.
    pub metadata_interval: Duration,
    /// Metrics that are not sent, by the name that the store sees (histograms without `_bucket`); `*` and `?` are
    /// wildcards.
    pub drop_metrics: Vec<String>,
    /// Labels that some metrics are sent without. The first rule that fits counts.
    pub drop_labels: Vec<DropLabels>,
    /// Buckets that some histograms are sent with. The first rule that fits counts.
    pub keep_buckets: Vec<KeepBuckets>,
    /// What waits for the store.
    pub queue: QueueSettings,
    /// What goes into one request.
    pub batch: BatchSettings,
    /// What happens after a failure that is worth another attempt.
    pub retry: RetrySettings,
    /// Requests in flight at a time. Those of one source stay in order.
    pub concurrency: usize,
}

/// Version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Protocol {
    /// 2.0, and 1.0 with stores that take only that; 2.0 is tried again after an hour.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// 1.0, which every store takes.
    #[serde(rename = "1.0")]
    V1,
    /// 2.0: smaller, and with metadata and start times.
    #[serde(rename = "2.0")]
    V2,
}

/// Compression of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Snappy's block format: the specification's.
    #[default]
    Snappy,
    /// zstd: VictoriaMetrics' own.
    Zstd,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            protocol: Protocol::default(),
            compression: Compression::default(),
            headers: BTreeMap::new(),
            authorization: None,
            basic_auth: None,
            bearer_token: None,
            bearer_token_file: None,
            tls: ClientTls::default(),
            // 30 s: Prometheus' `remote_timeout`.
            timeout: Duration::from_secs(30),
            translation_strategy: Translation::default(),
            scope_labels: true,
            target_info: true,
            promote_resource_attributes: Vec::new(),
            native_histograms: true,
            external_labels: BTreeMap::new(),
            // A minute: Prometheus' `metadata_config.send_interval`.
            metadata_interval: Duration::from_secs(60),
            drop_metrics: Vec::new(),
            drop_labels: Vec::new(),
            keep_buckets: Vec::new(),
            queue: QueueSettings::default(),
            batch: batch(),
            retry: RetrySettings::default(),
            concurrency: 2,
        }
    }
}

/// A point of a histogram is some twenty samples, and stores have their limits in samples.
pub(crate) fn batch() -> BatchSettings {
    BatchSettings { points_max: 4096, bytes_max: ByteSize::from_mib(2), ..BatchSettings::default() }
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
    pub(super) fn plan(&self, section: &Section, settings: &Settings) -> Result<Plan, Diagnostics> {
        let mut wrong = Diagnostics::new();
        crate::otlp::check_common(section, self.timeout, &self.delivery(), &mut wrong);
        rules::check(section, &self.drop_labels, &self.keep_buckets, &mut wrong);
        if self.compression == Compression::Zstd && self.protocol == Protocol::V2 {
            let message = "expected `snappy`: version 2.0 has no other compression";
            let help = "zstd is VictoriaMetrics', which takes version 1.0";
            wrong.push(section.bad_value(&["compression"], message, help));
        }
        let client = crate::otlp::client(self.client_settings(), self.timeout, section, &mut wrong);
        let Some(client) = client else { return Err(wrong) };
        if self.endpoint.is_empty() {
            let message = "expected an `endpoint`, found none";
            let help = "for example `endpoint = \"http://prometheus:9090/api/v1/write\"`";
            wrong.push(section.error(&[], codes::BAD_VALUE, message, help));
        } else if let Err(error) = client.connection(&self.endpoint) {
            wrong.push(section.bad_value(&["endpoint"], error.to_string(), ""));
        }
        wrong.into_result()?;
        let zstd = self.compression == Compression::Zstd;
        Ok(Plan {
            client,
            url: self.endpoint.clone(),
            dialect: Dialect::new(if zstd { Protocol::V1 } else { self.protocol }),
            zstd,
            timeout: self.timeout.get(),
            options: Options {
                naming: self.translation_strategy.naming(),
                scope_labels: self.scope_labels,
                target_info: self.target_info,
                promote: self.promote_resource_attributes.clone(),
                external_labels: self.external_labels.clone().into_iter().collect(),
                buckets: rules::buckets(&self.keep_buckets),
                native_histograms: self.native_histograms,
                contract: Arc::clone(&settings.contract),
            },
            infos: Arc::new(TargetInfos::default()),
            metadata_interval: self.metadata_interval.get(),
            report: None,
        })
    }
}
