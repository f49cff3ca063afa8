//! The receiver on real sockets, asked by a real gRPC client and by plain HTTP, with a pipeline that says what it is told.

mod certs;
mod config;
mod doors;
mod rpc;
mod web;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use pipeline_component::telemetry::table;
use pipeline_component::{
    BoxFuture, ConsumeError, Consumer, Settings, Shutdown, StartError, TimeSource,
};
use pipeline_config::Section;
use pipeline_model::Batch;
use pipeline_net::Address;
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::*;

/// What the pipeline says to a batch.
#[derive(Clone, Debug)]
pub(super) enum Say {
    Take,
    Refuse(ConsumeError),
    /// Nothing, until told.
    Wait(Arc<Notify>),
}

/// A pipeline that follows a script, and then takes everything.
#[derive(Default)]
pub(super) struct Sink {
    script: Mutex<VecDeque<Say>>,
    taken: Mutex<Vec<Batch>>,
    /// A batch has come.
    asked: Notify,
}

impl Sink {
    pub(super) fn then(&self, say: Say) {
        self.script.lock().unwrap().push_back(say);
    }

    pub(super) fn points(&self) -> usize {
        self.taken.lock().unwrap().iter().filter(|batch| !batch.ended).map(Batch::points).sum()
    }

    pub(super) fn batches(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
}

impl Consumer for Sink {
    fn consume(&self, batch: Batch) -> BoxFuture<'_, Result<(), ConsumeError>> {
        Box::pin(async move {
            self.asked.notify_one();
            let say = self.script.lock().unwrap().pop_front().unwrap_or(Say::Take);
            match say {
                Say::Take => {}
                Say::Refuse(error) => return Err(error),
                Say::Wait(go) => go.notified().await,
            }
            self.taken.lock().unwrap().push(batch);
            Ok(())
        })
    }
}

/// A wall clock that is moved by hand.
#[derive(Debug)]
struct Clock(AtomicI64);

impl TimeSource for Clock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clock {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_nanos() as i64, Ordering::Relaxed);
    }
}

/// A receiver in the background.
pub(super) struct Bench {
    clock: Arc<Clock>,
    addresses: Vec<Address>,
    sink: Arc<Sink>,
    stop: Shutdown,
    settings: Settings,
    tasks: JoinSet<()>,
}

/// Both doors on free ports, and nothing else.
const PLAIN: &str = "grpc = { listen = \"127.0.0.1:0\" }\nhttp = { listen = \"127.0.0.1:0\" }\n";

pub(super) fn made(text: &str) -> Result<Otlp, String> {
    let section = Section::from_toml("receivers.otlp", text).map_err(|wrong| wrong.to_string())?;
    let config = section.decode().map_err(|wrong| wrong.to_string())?;
    let settings = Settings::standalone("receiver", "otlp");
    Otlp::new(config, &section, settings).map_err(|wrong| wrong.to_string())
}

async fn try_start(text: &str) -> Result<Bench, StartError> {
    let mut otlp = made(text).unwrap();
    let clock = Arc::new(Clock(AtomicI64::new(1_700_000_000_000_000_000)));
    otlp.settings.clock = Arc::clone(&clock) as Arc<dyn TimeSource>;
    let settings = otlp.settings.clone();
    let (sink, stop) = (Arc::new(Sink::default()), Shutdown::new());
    let (addresses, running) =
        otlp.begin(Arc::clone(&sink) as Arc<dyn Consumer>, stop.clone()).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { running.await.unwrap() });
    Ok(Bench { clock, addresses, sink, stop, settings, tasks })
}

async fn start(text: &str) -> Bench {
    try_start(text).await.unwrap()
}

impl Bench {
    fn grpc(&self) -> SocketAddr {
        self.addresses[0].tcp().unwrap()
    }

    fn http(&self) -> SocketAddr {
        self.addresses[self.addresses.len() - 1].tcp().unwrap()
    }

    fn requests(&self, transport: &str, outcome: &str) -> u64 {
        let labels = [("transport", transport), ("outcome", outcome)];
        self.settings.telemetry.counter(&table::OTLP_REQUESTS, &labels).get()
    }

    fn rejected(&self, reason: &str) -> u64 {
        self.settings.telemetry.counter(&table::OTLP_REJECTED, &[("reason", reason)]).get()
    }

    async fn stop(mut self) {
        self.stop.trigger();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

pub(super) fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// `resources` resources with `points` series of one gauge each.
pub(super) fn metrics(resources: usize, points: usize) -> ExportMetricsServiceRequest {
    let point = |n: usize| NumberDataPoint {
        attributes: vec![attribute("n", &n.to_string())],
        time_unix_nano: 1_700_000_000_000_000_000,
        value: Some(Number::AsDouble(n as f64)),
        ..NumberDataPoint::default()
    };
    let gauge = |points: usize| Metric {
        name: "queue_depth".to_owned(),
        data: Some(metric::Data::Gauge(Gauge { data_points: (0..points).map(point).collect() })),
        ..Metric::default()
    };
    let resource = |n: usize| ResourceMetrics {
        resource: Some(Resource {
            attributes: vec![attribute("service.name", &format!("s{n}"))],
            ..Resource::default()
        }),
        scope_metrics: vec![ScopeMetrics {
            metrics: vec![gauge(points)],
            ..ScopeMetrics::default()
        }],
        ..ResourceMetrics::default()
    };
    ExportMetricsServiceRequest { resource_metrics: (0..resources).map(resource).collect() }
}

/// Two points that are taken and one without a value.
pub(super) fn partly_bad() -> ExportMetricsServiceRequest {
    let mut request = metrics(1, 3);
    let metric = &mut request.resource_metrics[0].scope_metrics[0].metrics[0];
    let Some(metric::Data::Gauge(gauge)) = &mut metric.data else { panic!("a gauge") };
    gauge.data_points[1].value = None;
    request
}

/// Three log records.
pub(super) fn logs() -> Bytes {
    // resource_logs { scope_logs { log_records {} x 3 } }
    Bytes::from_static(&[0x0a, 8, 0x12, 6, 0x12, 0, 0x12, 0, 0x12, 0])
}

pub(super) fn response(body: &[u8]) -> ExportMetricsServiceResponse {
    ExportMetricsServiceResponse::decode(body).unwrap()
}

/// An answer over HTTP.
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Asks over HTTP/1.1 on a fresh connection.
pub(super) async fn ask(address: SocketAddr, request: http::Request<Bytes>) -> Answer {
    ask_over(TcpStream::connect(address).await.unwrap(), request).await
}

pub(super) async fn ask_over(
    io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    request: http::Request<Bytes>,
) -> Answer {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let (head, body) = sender.send_request(request.map(Full::new)).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: head.status, headers: head.headers, body }
}

/// A request for `path` with a body of a type.
pub(super) fn post(path: &str, kind: &str, body: impl Into<Bytes>) -> http::Request<Bytes> {
    let request = http::Request::post(path).header("host", "x").header("content-type", kind);
    request.body(body.into()).unwrap()
}

pub(super) const PROTOBUF: &str = "application/x-protobuf";
pub(super) const JSON: &str = "application/json";
pub(super) const FULL: ConsumeError = ConsumeError::Full { after: Duration::from_millis(2_500) };
