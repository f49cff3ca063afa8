//! Receiver `otlp`: metrics from SDKs, collectors and gateways, over gRPC and HTTP.
//!
//! [`intake`] hands the bytes of a request to the reader and its batches to the pipeline; [`grpc`] and [`web`] say the
//! outcome in their protocol's words. Either port answers both protocols, so nobody can dial the wrong one.
//!
//! A client is told that all is well once the pipeline has taken everything. Where a part was taken and another was not,
//! it is told to come again with all of it: a point may come twice, but none is lost.
//!
//! Spec: <https://opentelemetry.io/docs/specs/otlp/>.

mod config;
mod cors;
mod counts;
mod grpc;
mod intake;
mod logs;
mod refusal;
mod reply;
#[cfg(test)]
mod tests;
mod web;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pipeline_component::{
    BoxFuture, BuildReceiver, Component, Consumer, Receiver, Running, Settings, Shutdown,
    Stability, StartError,
};
use pipeline_config::{Diagnostics, Section};
use pipeline_net::{Address, BindError, Bound, Request, Response, Server, ServerPlan, Tokens};
use pipeline_wire::otlp::MetricsReader;
use tokio::sync::Semaphore;
use tracing::{info, warn};

pub use config::{Config, CorsConfig, GrpcConfig, HttpConfig, SenderToken, WhenTaken};
use cors::Cors;
use counts::Counts;
use intake::{Intake, LARGE_MAX};

/// The receiver.
pub struct Otlp {
    config: Config,
    tokens: Option<Tokens>,
    settings: Settings,
}

impl Component for Otlp {
    type Config = Config;
    const TYPE: &'static str = "otlp";
    const STABILITY: Stability = Stability::Beta;
    const SUMMARY: &'static str = "takes OTLP metrics over gRPC and HTTP";
}

impl BuildReceiver for Otlp {
    fn build(
        config: Config,
        section: &Section,
        settings: Settings,
    ) -> Result<Box<dyn Receiver>, Diagnostics> {
        Ok(Box::new(Self::new(config, section, settings)?))
    }
}

/// A server that is ready to answer.
struct Door {
    bound: Bound,
    cors: Option<Arc<Cors>>,
}

impl Otlp {
    fn new(config: Config, section: &Section, settings: Settings) -> Result<Self, Diagnostics> {
        let tokens = config.check(section)?;
        Ok(Self { config, tokens, settings })
    }

    /// Opens what is enabled.
    async fn open(&self) -> Result<Vec<Door>, StartError> {
        let Config { grpc, http, .. } = &self.config;
        let mut doors = Vec::new();
        if grpc.enabled {
            let bound = self.bind("grpc", self.config.grpc_plan()).await?;
            doors.extend(bound.map(|bound| Door { bound, cors: None }));
        }
        if http.enabled {
            let bound = self.bind("http", self.config.http_plan()).await?;
            let cors = http.cors.as_ref().map(|cors| Arc::new(Cors::new(cors)));
            doors.extend(bound.map(|bound| Door { bound, cors }));
        }
        Ok(doors)
    }

    /// `None`: somebody else is there already, and that is fine.
    async fn bind(
        &self,
        protocol: &'static str,
        plan: ServerPlan,
    ) -> Result<Option<Bound>, StartError> {
        let component = &self.settings.id;
        let tls = plan.listen.tls.clone();
        let bound = match Server::bind(plan).await {
            Ok(bound) => bound,
            Err(BindError::InUse { listen }) if self.config.when_taken == WhenTaken::Skip => {
                warn!(%component, protocol, %listen, "another process listens there already; going on without this address, what is sent to it is not seen here");
                return Ok(None);
            }
            Err(error) => return Err(start_error(protocol, &error)),
        };
        let address = bound.address();
        info!(%component, protocol, %address, "listening");
        let asks = self.tokens.is_some() || tls.is_some_and(|tls| tls.client_ca_file.is_some());
        if !address.is_local() && !asks {
            warn!(%component, protocol, %address, "everybody who reaches this address can send metrics; set `tokens` or `tls.client_ca_file`");
        }
        Ok(Some(bound))
    }

    fn intake(self, next: Arc<dyn Consumer>) -> Intake {
        let Self { config, tokens, settings } = self;
        let slots = usize::try_from(config.max_concurrent_requests.get()).unwrap_or(usize::MAX);
        Intake {
            reader: MetricsReader::new(config.read_settings(), Arc::clone(&settings.interner)),
            next,
            clock: settings.clock,
            counts: Counts::new(&settings.telemetry, settings.id.to_string()),
            tokens,
            slots: Semaphore::new(slots.min(Semaphore::MAX_PERMITS)),
            large: Semaphore::new(LARGE_MAX),
            bytes_max: config.max_request_bytes.as_usize(),
            timeout: config.request_timeout.get(),
        }
    }

    /// Opens the doors; with their addresses, for tests that cannot know them before.
    async fn begin(
        self,
        next: Arc<dyn Consumer>,
        stop: Shutdown,
    ) -> Result<(Vec<Address>, Running), StartError> {
        let doors = self.open().await?;
        let addresses = doors.iter().map(|door| door.bound.address().clone()).collect();
        let expiry = self.config.expiry.get();
        let intake = Arc::new(self.intake(next));
        let running: Running = Box::pin(async move {
            serve(doors, intake, expiry, stop).await;
            Ok(())
        });
        Ok((addresses, running))
    }
}

/// Answers requests until `stop`.
async fn serve(doors: Vec<Door>, intake: Arc<Intake>, expiry: Duration, stop: Shutdown) {
    let serving = doors.into_iter().map(|Door { bound, cors }| {
        let (intake, stop) = (Arc::clone(&intake), stop.owned());
        let handler = move |request| {
            let (intake, cors) = (Arc::clone(&intake), cors.clone());
            async move { answer(&intake, cors.as_deref(), request).await }
        };
        async move {
            let served = bound.serve(handler, stop).await;
            if served.cut > 0 {
                warn!(connections = served.cut, "clients were cut at the end");
            }
        }
    });
    let serving = async {
        // Without any door there is nothing to do but to wait.
        join_all(serving).await;
        stop.triggered().await;
    };
    tokio::select! {
        () = serving => {}
        () = intake.tidy(expiry) => {}
    }
}

async fn answer(intake: &Intake, cors: Option<&Cors>, request: Request) -> Response {
    if grpc::is_grpc(&request) {
        grpc::answer(intake, request).await
    } else {
        web::answer(intake, cors, request).await
    }
}

/// What binding tells, with its cause, classified by what the user has to change.
fn start_error(protocol: &str, error: &BindError) -> StartError {
    let text = format!("{} (in `{protocol}`)", error.with_causes());
    match error {
        BindError::Permission { .. } | BindError::SocketPermission { .. } => {
            StartError::Permission(text)
        }
        BindError::Tls { .. } | BindError::TlsOnSocket { .. } => StartError::Other(text),
        BindError::Address { .. }
        | BindError::InUse { .. }
        | BindError::NotHere { .. }
        | BindError::Io { .. } => StartError::Bind(text),
    }
}

impl Receiver for Otlp {
    fn start(
        self: Box<Self>,
        next: Arc<dyn Consumer>,
        stop: Shutdown,
    ) -> BoxFuture<'static, Result<Running, StartError>> {
        Box::pin(async move { Ok(self.begin(next, stop).await?.1) })
    }
}
