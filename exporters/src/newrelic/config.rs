//! What users write under `[exporters.newrelic]`.

use std::collections::BTreeMap;

use pipeline_component::{BatchSettings, Delivery, QueueSettings, RetrySettings};
use pipeline_config::{ByteSize, Diagnostics, Duration, Section};
use pipeline_net::tls::ClientTls;
use pipeline_net::{ClientSettings, Secret};
use pipeline_temporality::Initial;
use pipeline_wire::otlp::encode::{Limits, Options};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::otlp::{
    Balance, Compression, Plan, Protocol, Rules, bad_endpoint, check_common, check_request_bytes,
    client, url_of,
};

/// Keys that New Relic uses itself: an attribute of that name would be lost behind its own.
/// Source: New Relic's documentation, "Metric API: limits and restricted attributes", 2026-11.
const RESERVED: &[&str] = &[
    "common",
    "count",
    "endTimestamp",
    "entity.guid",
    "entity.name",
    "entity.type",
    "interval.ms",
    "max",
    "metricName",
    "metrics",
    "min",
    "newrelic.source",
    "sum",
    "timestamp",
    "value",
];

/// Metrics to New Relic, by OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The license key of the account ("ingest - license").
    pub api_key: Secret,
    /// Where the account is.
    pub region: Region,
    /// Another address than the region's, for a proxy. `/v1/metrics` is added unless it ends so.
    pub endpoint: Option<String>,
    /// Compression of requests.
    pub compression: Compression,
    /// Largest request as sent. What would be more is split.
    pub request_bytes_max: ByteSize,
    /// What becomes of the first value of a counter, which may have been counted before anybody looked.
    pub initial: Initial,
    /// Labels of scraped targets that become attributes of the resource; the others become attributes of each point,
    /// but for `job` and `instance`, which are `service.name` and `service.instance.id`.
    pub resource_labels: Vec<String>,
    /// TLS: authorities of a proxy, for instance.
    pub tls: ClientTls,
    /// How long one attempt may take, connecting included.
    pub timeout: Duration,
    /// What waits for New Relic.
    pub queue: QueueSettings,
    /// What goes into one request.
    pub batch: BatchSettings,
    /// What happens after a failure that is worth another attempt.
    pub retry: RetrySettings,
    /// Requests in flight at a time. Those of one source stay in order.
    pub concurrency: usize,
}

/// Where an account is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Region {
    /// United States.
    #[default]
    #[serde(rename = "us")]
    Us,
    /// European Union.
    #[serde(rename = "eu")]
    Eu,
    /// United States, FedRAMP.
    #[serde(rename = "gov-us")]
    GovUs,
}

impl Region {
    /// Source: New Relic's documentation, "New Relic OTLP endpoint", 2026-11.
    fn endpoint(self) -> &'static str {
        match self {
            Self::Us => "https://otlp.nr-data.net",
            Self::Eu => "https://otlp.eu01.nr-data.net",
            Self::GovUs => "https://gov-otlp.nr-data.net",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_key: Secret::default(),
            region: Region::default(),
            endpoint: None,
            compression: Compression::Zstd,
            // 10^6 bytes a POST: New Relic's limit.
            request_bytes_max: ByteSize::from_bytes(1_000_000),
            initial: Initial::default(),
            resource_labels: Vec::new(),
            tls: ClientTls::default(),
            timeout: Duration::from_secs(10),
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

    /// What is meant.
    ///
    /// # Errors
    /// Every mistake, located.
    pub(super) fn plan(&self, section: &Section) -> Result<Plan, Diagnostics> {
        let mut wrong = Diagnostics::new();
        if self.api_key.is_empty() {
            let message = "expected the account's license key, found none";
            let help = "for example `api_key = \"${env:NEW_RELIC_LICENSE_KEY}\"`";
            wrong.push(section.bad_value(&["api_key"], message, help));
        }
        check_common(section, self.timeout, &self.delivery(), &mut wrong);
        check_request_bytes(section, self.request_bytes_max, &mut wrong);
        let settings = ClientSettings {
            headers: BTreeMap::from([("api-key".to_owned(), self.api_key.clone())]),
            tls: self.tls.clone(),
            follow_redirects: false,
            ..ClientSettings::default()
        };
        let client = client(settings, self.timeout, section, &mut wrong);
        let endpoint = self.endpoint.as_deref().unwrap_or(self.region.endpoint());
        let url = url_of(endpoint, Protocol::Http);
        let Some(client) = client else { return Err(wrong) };
        if let Err(error) = client.connection(&url) {
            wrong.push(bad_endpoint(section, &["endpoint"], endpoint, &error));
        }
        wrong.into_result()?;
        Ok(Plan {
            client,
            urls: vec![url],
            balance: Balance::Failover,
            resolve_interval: std::time::Duration::MAX,
            protocol: Protocol::Http,
            coding: self.compression.coding(),
            timeout: self.timeout.get(),
            // The limit is on what is sent; what it inflates to is kept within reason.
            raw_bytes_max: self.request_bytes_max.as_usize().saturating_mul(8),
            wire_bytes_max: self.request_bytes_max.as_usize(),
            options: Options {
                resource_labels: self.resource_labels.clone(),
                ends: false,
                only_finite: true,
                no_up_down_deltas: true,
                limits: LIMITS,
                ..Options::default()
            },
            rules: Rules {
                retry_any_failure: true,
                refused: "New Relic refuses the license key; check `api_key` and `region`",
            },
        })
    }
}

/// What is beyond would be cut off there, with an `NrIntegrationError` event each time.
/// Source: New Relic's documentation, "OTLP: attribute limits", 2026-11.
const LIMITS: Limits = Limits {
    key_bytes_max: 255,
    text_bytes_max: 4095,
    resource_max: 64,
    scope_max: 8,
    point_max: 128,
    reserved: RESERVED,
    only_plain: true,
};
