//! What users write under `[exporters.grafana_cloud]`.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipeline_component::{BatchSettings, Delivery, QueueSettings, RetrySettings, Settings};
use pipeline_config::{Diagnostics, Duration, Section, codes};
use pipeline_net::client::BasicAuthSettings;
use pipeline_net::tls::ClientTls;
use pipeline_net::{Client, ClientSettings, Coding, Secret};
use pipeline_wire::otlp::encode;
use pipeline_wire::remote_write::{Options, TargetInfos};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::report::Report;
use crate::otlp::{self, Balance, Rules};
use crate::remote_write::rules::{self, DropLabels, KeepBuckets, Translation};
use crate::remote_write::{Dialect, Plan, batch};

/// Metrics to Grafana Cloud, with what they cost in view: one sample per series and minute, and a report of the series.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address that Grafana Cloud's portal shows: for remote write `https://prometheus-….grafana.net/api/prom/push`,
    /// for OTLP `https://otlp-gateway-….grafana.net/otlp`.
    pub endpoint: String,
    /// The number of the instance, which the portal shows beside the address as "username"; it is another one for OTLP.
    pub instance_id: String,
    /// The token of an access policy with the scope `metrics:write`.
    pub token: Secret,
    /// How metrics are sent.
    pub protocol: Protocol,
    /// At most one sample per series in this time: data points are billed. `"0s"` sends all.
    pub interval: Duration,
    /// Metrics with the most series that the report names.
    pub report_metrics: usize,
    /// What becomes of OpenTelemetry's names. Those of scraped metrics stay as they are. Over OTLP it is Grafana Cloud's
    /// choice.
    pub translation_strategy: Translation,
    /// Labels `otel_scope_name` and the like on metrics of OpenTelemetry's scopes. Over OTLP it is Grafana Cloud's choice.
    pub scope_labels: bool,
    /// Attributes of OpenTelemetry's resources that become labels of all their series. Over OTLP it is Grafana Cloud's
    /// choice.
    pub promote_resource_attributes: Vec<String>,
    /// Labels of every series that has none of the name; not with OTLP.
    pub external_labels: BTreeMap<String, String>,
    /// Metrics that are not sent, by the name that the store sees (histograms without `_bucket`); `*` and `?` are
    /// wildcards.
    pub drop_metrics: Vec<String>,
    /// Labels that some metrics are sent without. The first rule that fits counts.
    pub drop_labels: Vec<DropLabels>,
    /// Buckets that some histograms are sent with; not with OTLP. The first rule that fits counts.
    pub keep_buckets: Vec<KeepBuckets>,
    /// TLS: authorities of a proxy, for instance.
    pub tls: ClientTls,
    /// How long one attempt may take, connecting included.
    pub timeout: Duration,
    /// What waits for Grafana Cloud.
    pub queue: QueueSettings,
    /// What goes into one request.
    pub batch: BatchSettings,
    /// What happens after a failure that is worth another attempt.
    pub retry: RetrySettings,
    /// Requests in flight at a time. Those of one source stay in order.
    pub concurrency: usize,
}

/// How metrics are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Prometheus' remote write, 2.0 or else 1.0: names, markers and buckets are as this side makes them.
    #[default]
    RemoteWrite,
    /// OTLP over HTTP.
    Otlp,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            instance_id: String::new(),
            token: Secret::default(),
            protocol: Protocol::default(),
            // One data point a minute is what an active series has for free.
            interval: Duration::from_secs(60),
            report_metrics: 20,
            translation_strategy: Translation::default(),
            scope_labels: true,
            promote_resource_attributes: Vec::new(),
            external_labels: BTreeMap::new(),
            drop_metrics: Vec::new(),
            drop_labels: Vec::new(),
            keep_buckets: Vec::new(),
            tls: ClientTls::default(),
            timeout: Duration::from_secs(30),
            queue: QueueSettings::default(),
            batch: batch(),
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

    /// The client, once all is right.
    ///
    /// # Errors
    /// Every mistake, located.
    fn client(&self, section: &Section) -> Result<Client, Diagnostics> {
        let mut wrong = Diagnostics::new();
        otlp::check_common(section, self.timeout, &self.delivery(), &mut wrong);
        rules::check(section, &self.drop_labels, &self.keep_buckets, &mut wrong);
        for (key, missing, help) in [
            ("instance_id", self.instance_id.is_empty(), "for example `instance_id = \"123456\"`"),
            (
                "token",
                self.token.is_empty(),
                "for example `token = \"${env:GRAFANA_CLOUD_TOKEN}\"`",
            ),
        ] {
            if missing {
                let message = format!("expected `{key}`, found none");
                wrong.push(section.bad_value(&[key], message, help));
            }
        }
        if !self.instance_id.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = "expected the number of an instance, found something else";
            let help = "the portal shows it beside the address as \"username\"";
            wrong.push(section.bad_value(&["instance_id"], message, help));
        }
        if self.protocol == Protocol::RemoteWrite && self.endpoint.contains("://otlp-gateway") {
            let message = "expected an address for remote write, found one for OTLP";
            let help = "`protocol = \"otlp\"`, or the address and `instance_id` that the portal shows for Prometheus";
            wrong.push(section.bad_value(&["endpoint"], message, help));
        }
        if self.protocol == Protocol::Otlp {
            for (key, set) in [
                ("keep_buckets", !self.keep_buckets.is_empty()),
                ("external_labels", !self.external_labels.is_empty()),
            ] {
                if set {
                    let message = format!("expected no `{key}` with `protocol = \"otlp\"`");
                    wrong.push(section.bad_value(&[key], message, "remote write has it"));
                }
            }
        }
        let settings = ClientSettings {
            basic_auth: Some(BasicAuthSettings {
                username: self.instance_id.clone(),
                password: Some(self.token.clone()),
                ..BasicAuthSettings::default()
            }),
            tls: self.tls.clone(),
            follow_redirects: false,
            ..ClientSettings::default()
        };
        // Of what is missing has been told.
        let client = if wrong.has_errors() {
            None
        } else {
            otlp::client(settings, self.timeout, section, &mut wrong)
        };
        if self.endpoint.is_empty() {
            let message = "expected the `endpoint` that Grafana Cloud's portal shows, found none";
            let help = "for example `endpoint = \"https://prometheus-prod-01-eu-west-0.grafana.net/api/prom/push\"`";
            wrong.push(section.error(&[], codes::BAD_VALUE, message, help));
        } else if let Some(Err(error)) =
            client.as_ref().map(|client| client.connection(&self.endpoint))
        {
            wrong.push(section.bad_value(&["endpoint"], error.to_string(), ""));
        }
        match client {
            Some(client) => wrong.into_result().map(|()| client),
            None => Err(wrong),
        }
    }

    /// What is meant, for remote write.
    ///
    /// # Errors
    /// Every mistake, located.
    pub(super) fn plan(&self, section: &Section, settings: &Settings) -> Result<Plan, Diagnostics> {
        Ok(Plan {
            client: self.client(section)?,
            url: self.endpoint.clone(),
            dialect: Dialect::new(crate::remote_write::Protocol::Auto),
            zstd: false,
            timeout: self.timeout.get(),
            options: Options {
                naming: self.translation_strategy.naming(),
                scope_labels: self.scope_labels,
                target_info: true,
                promote: self.promote_resource_attributes.clone(),
                external_labels: self.external_labels.clone().into_iter().collect(),
                buckets: rules::buckets(&self.keep_buckets),
                native_histograms: true,
                contract: Arc::clone(&settings.contract),
            },
            infos: Arc::new(TargetInfos::default()),
            metadata_interval: std::time::Duration::from_secs(60),
            report: Some(Arc::new(Report::new(self.report_metrics, settings))),
        })
    }

    /// What is meant, for OTLP.
    ///
    /// # Errors
    /// Every mistake, located.
    pub(super) fn otlp(&self, section: &Section) -> Result<otlp::Plan, Diagnostics> {
        Ok(otlp::Plan {
            client: self.client(section)?,
            urls: vec![otlp::url_of(&self.endpoint, otlp::Protocol::Http)],
            balance: Balance::Failover,
            resolve_interval: std::time::Duration::MAX,
            protocol: otlp::Protocol::Http,
            // The one compression that the gateway's documentation promises.
            coding: Coding::Gzip,
            timeout: self.timeout.get(),
            // 4 MiB: no limit is documented, and requests are not worth more.
            raw_bytes_max: 4 << 20,
            wire_bytes_max: usize::MAX,
            options: encode::Options { ends: true, ..encode::Options::default() },
            rules: Rules {
                retry_any_failure: true,
                refused: "Grafana Cloud refuses the token; check `instance_id`, `token` and `endpoint`",
            },
        })
    }
}
