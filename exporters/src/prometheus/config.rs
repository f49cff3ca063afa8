//! What users write under `[exporters.prometheus]`.

use std::num::NonZeroU32;
use std::sync::Arc;

use pipeline_component::Settings;
use pipeline_config::{Diagnostics, Duration, Section, codes};
use pipeline_net::auth::TokensError;
use pipeline_net::server::check_listen;
use pipeline_net::tls::ServerTls;
use pipeline_net::{TokenSettings, Tokens};
use pipeline_wire::exposition::Otel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::remote_write::Translation;

/// A page for Prometheus and everything that reads what Prometheus reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port. The default serves this host only; `0.0.0.0:9464` serves every network the host is in, and
    /// should have tokens.
    pub listen: String,
    /// Path of the page.
    pub path: String,
    /// TLS. Absent: plain HTTP.
    pub tls: Option<ServerTls>,
    /// Connections served at the same time; the next ones wait.
    pub max_connections: NonZeroU32,
    /// Who may read, each with the models it may see and a limit of requests. Sent as `Authorization: Bearer K`,
    /// `Api-Key K` or `Bearer Api-Key K`. None: everybody may read everything.
    pub tokens: Vec<TokenSettings>,
    /// How long a source may be silent before its series leave the page.
    pub expiry: Duration,
    /// Readers within this time of each other get the same page. Also bounds how much work readers can cause.
    pub refresh: Duration,
    /// Series on the page. Those of sources that come later are left out and counted.
    pub max_series: NonZeroU32,
    /// Compresses with gzip or zstd for readers that ask for it, as Prometheus does. Over loopback, compressing costs
    /// more than it saves.
    pub compress: bool,
    /// In OpenMetrics, a `_created` line per counter and histogram whose start is known: one more series each.
    pub created: bool,
    /// Gives each sample the time of its source. Prometheus then does not notice when a series ends.
    pub timestamps: bool,
    /// What becomes of OpenTelemetry's names. Those of scraped metrics stay as they are.
    pub translation_strategy: Translation,
    /// Labels `otel_scope_name` and the like on metrics of OpenTelemetry's scopes.
    pub scope_labels: bool,
    /// A series `target_info` per job and instance of OpenTelemetry's resources, with their attributes.
    pub target_info: bool,
    /// Attributes of OpenTelemetry's resources that become labels of all their series.
    pub promote_resource_attributes: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // 9464: the port registered for OpenTelemetry's Prometheus exporters.
            listen: "127.0.0.1:9464".to_owned(),
            path: "/metrics".to_owned(),
            tls: None,
            max_connections: NonZeroU32::MIN.saturating_add(255),
            tokens: Vec::new(),
            expiry: Duration::from_secs(300),
            refresh: Duration::from_millis(100),
            max_series: NonZeroU32::MIN.saturating_add(1_999_999),
            compress: true,
            created: false,
            timestamps: false,
            translation_strategy: Translation::default(),
            scope_labels: true,
            target_info: true,
            promote_resource_attributes: Vec::new(),
        }
    }
}

impl Config {
    /// What becomes of OpenTelemetry's series.
    pub(super) fn otel(&self, settings: &Settings) -> Otel {
        Otel {
            naming: self.translation_strategy.naming(),
            scope_labels: self.scope_labels,
            target_info: self.target_info,
            promote: self.promote_resource_attributes.clone(),
            contract: Arc::clone(&settings.contract),
            interner: Arc::clone(&settings.interner),
        }
    }

    /// Checks what types alone do not say, and makes the tokens.
    ///
    /// # Errors
    /// Every mistake, located.
    pub(super) fn check(&self, section: &Section) -> Result<Option<Tokens>, Diagnostics> {
        let mut wrong = Diagnostics::new();
        if let Err(message) = check_listen(&self.listen) {
            wrong.push(section.bad_value(&["listen"], message, "for example `127.0.0.1:9464`"));
        }
        for (key, error) in self.tls.iter().flat_map(ServerTls::faults) {
            let path = ["tls", key];
            let path = if key.is_empty() { &path[..1] } else { &path[..] };
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            let message = format!("{error}{}", cause.unwrap_or_default());
            wrong.push(section.bad_value(path, message, ""));
        }
        if !self.path.starts_with('/') || self.path.contains(['?', '#', ' ']) {
            wrong.push(section.error(
                &["path"],
                codes::BAD_VALUE,
                format!("expected a path that starts with `/`, found `{}`", self.path),
                "for example `/metrics`",
            ));
        }
        if self.expiry.get().is_zero() {
            let message = "expected some time to live, found an expiry of nothing";
            wrong.push(section.error(
                &["expiry"],
                codes::BAD_VALUE,
                message,
                "for example `\"5m\"`",
            ));
        }
        let tokens = match Tokens::new(&self.tokens) {
            Ok(tokens) => Some(tokens),
            // No token is a choice here.
            Err(TokensError::None) => None,
            Err(error @ (TokensError::Unusable { number } | TokensError::Twice { number })) => {
                let idx = (number - 1).to_string();
                let path = ["tokens", &idx, "token"];
                wrong.push(section.error(&path, codes::BAD_VALUE, error.to_string(), ""));
                None
            }
        };
        wrong.into_result()?;
        Ok(tokens)
    }
}
