//! Health, readiness and own metrics over HTTP.
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200 while the process can answer at all |
//! | `/readyz` | 200 once every component serves, else 503; a line per component |
//! | `/metrics` | self telemetry, Prometheus text format 0.0.4 |
//!
//! Not the exposition of the fleet's metrics: that is the exporter `prometheus`, on its own address.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::HeaderValue;
use http::{Method, StatusCode};
use pipeline_component::telemetry::Telemetry;
use pipeline_component::{Running, Shutdown, StartError};
use pipeline_config::{Diagnostics, Section};
use pipeline_engine::{Health, Status};
use pipeline_net::server::{
    BindError, Body, ListenSettings, Request, Response, Server, ServerPlan, check_listen,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::info;

/// Settings of the admin server.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// False: no admin server.
    pub enabled: bool,
    /// Where `/livez`, `/readyz` and the process' own `/metrics` are served.
    pub listen: String,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self { enabled: true, listen: "127.0.0.1:9465".to_owned() }
    }
}

impl AdminSettings {
    /// Checks what types alone do not say. A server that is off may listen on anything.
    ///
    /// # Errors
    /// Every mistake, located.
    pub fn check(&self, section: &Section) -> Result<(), Diagnostics> {
        let mut wrong = Diagnostics::new();
        if self.enabled
            && let Err(message) = check_listen(&self.listen)
        {
            wrong.push(section.bad_value(&["listen"], message, "for example `127.0.0.1:9465`"));
        }
        wrong.into_result()
    }
}

/// Binds the server. The future serves until `stop`.
///
/// # Errors
/// When the address cannot be bound.
pub async fn start(
    settings: AdminSettings,
    health: Arc<Health>,
    telemetry: Telemetry,
    stop: Shutdown,
) -> Result<(SocketAddr, Running), StartError> {
    let listen = ListenSettings { listen: settings.listen, ..ListenSettings::default() };
    let bound =
        Server::bind(ServerPlan { listen, ..ServerPlan::default() }).await.map_err(|wrong| {
            let text = format!("{} (in [admin])", wrong.with_causes());
            match wrong {
                BindError::Permission { .. } => StartError::Permission(text),
                _ => StartError::Bind(text),
            }
        })?;
    let Some(address) = bound.address().tcp() else {
        return Err(StartError::Bind("expected host:port in `listen` of [admin]".to_owned()));
    };
    info!(component = "admin", %address, "listening");
    let running = async move {
        let handler = move |request: Request| {
            let response = answer(&request, &health, &telemetry);
            async move { response }
        };
        bound.serve(handler, stop.owned()).await;
        Ok(())
    };
    Ok((address, Box::pin(running)))
}

fn answer(request: &Request, health: &Health, telemetry: &Telemetry) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Body::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    }
    match request.path() {
        "/livez" => Body::text(StatusCode::OK, "ok\n"),
        "/readyz" => readiness(health),
        "/metrics" => {
            let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            Body::response(StatusCode::OK, text, telemetry.text())
        }
        _ => Body::text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n"),
    }
}

fn readiness(health: &Health) -> Response {
    let lines: Vec<String> = health
        .components()
        .into_iter()
        .map(|(name, status)| match status {
            Status::Starting => format!("{name} starting\n"),
            Status::Running => format!("{name} running\n"),
            Status::Stopped => format!("{name} stopped\n"),
            Status::Failed(why) => format!("{name} failed: {why}\n"),
        })
        .collect();
    let status = if health.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Body::text(status, lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_address_is_located() {
        let check = |toml: &str| {
            let section = Section::from_toml("admin", toml).unwrap();
            section.decode::<AdminSettings>().unwrap().check(&section)
        };
        assert_eq!(check(""), Ok(()));
        assert_eq!(check("listen = \"metrics.internal:0\""), Ok(()));
        assert_eq!(check("enabled = false\nlisten = \"\""), Ok(()));
        let wrong = check("enabled = true\nlisten = \"nonsense\"").unwrap_err();
        let one = wrong.iter().next().unwrap();
        assert_eq!(one.message, "expected `host:port` such as 127.0.0.1:9464, found `nonsense`");
        assert_eq!(one.primary.as_ref().unwrap().line_column().0, 2);
    }
}
