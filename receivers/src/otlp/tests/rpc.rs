//! gRPC, as tonic's client sees it, and as one that breaks the rules does.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut};
use http_body_util::StreamBody;
use hyper::body::Frame;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::super::refusal;
use super::*;

pub(super) const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Messages as bytes.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

pub(super) async fn connect(address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await
}

pub(super) async fn channel(address: SocketAddr) -> Channel {
    connect(address).await.unwrap()
}

pub(super) async fn call(
    channel: &mut Channel,
    path: &'static str,
    message: impl Into<Bytes>,
) -> Result<Bytes, Status> {
    call_with(channel, path, tonic::Request::new(message.into()), None).await
}

pub(super) async fn call_with(
    channel: &mut Channel,
    path: &'static str,
    request: tonic::Request<Bytes>,
    coding: Option<CompressionEncoding>,
) -> Result<Bytes, Status> {
    let mut client = Grpc::new(channel.clone());
    if let Some(coding) = coding {
        client = client.send_compressed(coding);
    }
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = http::uri::PathAndQuery::from_static(path);
    client.unary(request, path, Raw).await.map(tonic::Response::into_inner)
}

/// The `google.rpc.Status` of an answer.
pub(super) fn status_of(bytes: &[u8]) -> refusal::Status {
    refusal::Status::decode(bytes).unwrap()
}

/// When to come again, if the answer says.
pub(super) fn retry_info(bytes: &[u8]) -> Option<Duration> {
    let details = status_of(bytes).details;
    let any = details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = refusal::RetryInfo::decode(any.value.as_slice()).unwrap().delay.unwrap();
    Some(Duration::new(delay.seconds as u64, delay.nanos as u32))
}

#[tokio::test]
async fn points_are_taken_with_every_coding() {
    let bench = start(PLAIN).await;
    let mut channel = channel(bench.grpc()).await;
    let message = Bytes::from(metrics(2, 50).encode_to_vec());
    for coding in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let request = tonic::Request::new(message.clone());
        let reply = call_with(&mut channel, METRICS, request, coding).await.unwrap();
        assert!(reply.is_empty(), "partial_success is unset when all is well");
    }
    assert_eq!(bench.sink.points(), 300);
    assert_eq!(bench.requests("grpc", "accepted"), 3);
    let labels = [("transport", "grpc")];
    let bytes = bench.settings.telemetry.counter(&table::OTLP_RECEIVED_BYTES, &labels).get();
    assert_eq!(bytes, 3 * message.len() as u64, "after decompression");
    assert!(call(&mut channel, METRICS, "").await.unwrap().is_empty(), "nothing is fine");
    bench.stop().await;
}

#[tokio::test]
async fn what_is_rejected_is_said() {
    let bench = start(PLAIN).await;
    let mut channel = channel(bench.grpc()).await;
    let reply = call(&mut channel, METRICS, partly_bad().encode_to_vec()).await.unwrap();
    let partial = response(&reply).partial_success.unwrap();
    assert_eq!(partial.rejected_data_points, 1);
    assert!(partial.error_message.contains("without a value"), "{}", partial.error_message);
    assert_eq!((bench.sink.points(), bench.rejected("no_value")), (2, 1));

    bench.sink.then(Say::Refuse(ConsumeError::Permanent("not wanted".to_owned())));
    let reply = call(&mut channel, METRICS, metrics(2, 3).encode_to_vec()).await.unwrap();
    let partial = response(&reply).partial_success.unwrap();
    assert_eq!(partial.rejected_data_points, 3);
    assert_eq!(partial.error_message, "refused by the pipeline: not wanted");
    assert_eq!((bench.sink.points(), bench.rejected("refused")), (5, 3));
    assert_eq!(bench.requests("grpc", "partial"), 2);
    bench.stop().await;
}

#[tokio::test]
async fn logs_are_rejected_and_counted_and_traces_have_no_place() {
    let bench = start(PLAIN).await;
    let mut channel = channel(bench.grpc()).await;
    let reply = call(&mut channel, LOGS, logs()).await.unwrap();
    let partial = ExportLogsServiceResponse::decode(&reply[..]).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_log_records, 3);
    assert!(partial.error_message.contains("no pipeline for logs"));
    assert_eq!(bench.rejected("logs"), 3);
    assert!(call(&mut channel, LOGS, "").await.unwrap().is_empty());
    let error = call(&mut channel, TRACES, "").await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    assert_eq!(error.message(), "traces are not taken here, only metrics and logs");
    let error = call(&mut channel, "/x.y/Z", "").await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    bench.stop().await;
}

#[tokio::test]
async fn a_full_pipeline_is_worth_another_try_and_an_ending_one_too() {
    let bench = start(PLAIN).await;
    let mut channel = channel(bench.grpc()).await;
    // The first resource is taken, the second is not: all of it has to come again.
    bench.sink.then(Say::Take);
    bench.sink.then(Say::Refuse(FULL));
    let message = Bytes::from(metrics(2, 1).encode_to_vec());
    let error = call(&mut channel, METRICS, message.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(retry_info(error.details()), Some(Duration::from_millis(2_500)));
    assert_eq!(status_of(error.details()).code, Code::Unavailable as i32);
    bench.sink.then(Say::Refuse(ConsumeError::Closed));
    let error = call(&mut channel, METRICS, message.clone()).await.unwrap_err();
    assert_eq!((error.code(), retry_info(error.details())), (Code::Unavailable, None));
    call(&mut channel, METRICS, message).await.unwrap();
    assert_eq!(bench.sink.points(), 3, "one twice, none lost");
    assert_eq!((bench.requests("grpc", "full"), bench.requests("grpc", "closed")), (1, 1));
    bench.stop().await;
}

#[tokio::test]
async fn too_many_at_a_time_come_again() {
    let bench = start(&format!("max_concurrent_requests = 1\n{PLAIN}")).await;
    let go = Arc::new(Notify::new());
    bench.sink.then(Say::Wait(Arc::clone(&go)));
    let mut channel = channel(bench.grpc()).await;
    let message = Bytes::from(metrics(1, 1).encode_to_vec());
    let mut tasks = JoinSet::new();
    let (mut other, first) = (channel.clone(), message.clone());
    tasks.spawn(async move { call(&mut other, METRICS, first).await.unwrap() });
    bench.sink.asked.notified().await;
    let error = call(&mut channel, METRICS, message.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert_eq!(retry_info(error.details()), Some(Duration::from_secs(1)));
    let answer = ask(bench.http(), post("/v1/metrics", PROTOBUF, message)).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "1"));
    go.notify_one();
    tasks.join_next().await.unwrap().unwrap();
    assert_eq!(bench.sink.points(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn what_is_too_large_is_never_to_come_again() {
    let bench = start(&format!("max_request_bytes = \"4KiB\"\n{PLAIN}")).await;
    let mut channel = channel(bench.grpc()).await;
    // A message of the limit: 4096 bytes of an unknown field, which is skipped.
    let fits = [&[0x7a, 0xfd, 0x1f][..], &[0; 4093]].concat();
    assert_eq!(fits.len(), 4096);
    let over = [&[0x7a, 0xfe, 0x1f][..], &[0; 4094]].concat();
    let bomb = vec![0; 32 << 20];
    for coding in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let mut send = async |message: &[u8]| {
            let request = tonic::Request::new(Bytes::copy_from_slice(message));
            call_with(&mut channel, METRICS, request, coding).await
        };
        send(&fits).await.unwrap();
        for large in [&over, &bomb] {
            let error = send(large).await.unwrap_err();
            assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
            assert_eq!(retry_info(error.details()), None);
            let text = "expected a request of at most 4096 bytes after decompression";
            assert_eq!(error.message(), text);
        }
    }
    assert_eq!(bench.requests("grpc", "too_large"), 6);
    bench.stop().await;
}

/// Sends the bytes of a body over h2 as they are; gives the code and message of the answer.
async fn raw(bench: &Bench, headers: &[(&'static str, &str)], body: &[u8]) -> (String, String) {
    let body = Full::new(Bytes::copy_from_slice(body));
    let mut request = http::Request::post(format!("http://x{METRICS}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (mut sender, _tasks) = h2(bench.grpc()).await;
    let answer = sender.send_request(request.body(body).unwrap()).await.unwrap();
    let header = |headers: &HeaderMap, name| {
        headers
            .get(name)
            .map_or(String::new(), |value: &http::HeaderValue| value.to_str().unwrap().to_owned())
    };
    let headers = answer.headers().clone();
    let trailers = answer.into_body().collect().await.unwrap();
    let ends = trailers.trailers().unwrap_or(&headers);
    (header(ends, "grpc-status"), header(ends, "grpc-message").replace("%20", " "))
}

type Sender<B> = hyper::client::conn::http2::SendRequest<B>;

async fn h2<B>(address: SocketAddr) -> (Sender<B>, JoinSet<Result<(), hyper::Error>>)
where
    B: hyper::body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    (sender, tasks)
}

#[tokio::test]
async fn broken_frames_are_bad_arguments() {
    let bench = start(PLAIN).await;
    let invalid = (Code::InvalidArgument as i32).to_string();
    for (body, said) in [
        (&b""[..], "expected a message, found the end of the request"),
        (&[0, 0, 0][..], "expected a message, found the end of the request"),
        (&[0, 0, 0, 0, 9, 1][..], "expected a whole message, found the end of the request"),
        (&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], "expected one message, found more"),
        (&[1, 0, 0, 0, 0][..], "a compressed message without grpc-encoding"),
        (&[7, 0, 0, 0, 0][..], "expected a flag of 0 or 1 before the message"),
    ] {
        assert_eq!(raw(&bench, &[], body).await, (invalid.clone(), said.to_owned()));
    }
    let (code, message) = raw(&bench, &[], &[0, 0, 0, 0, 2, 0x0a, 0x05]).await;
    assert_eq!(code, invalid);
    assert!(message.starts_with("malformed protobuf at byte "), "{message}");
    let (code, _) = raw(&bench, &[], &[0, 0xff, 0xff, 0xff, 0xff]).await;
    assert_eq!(code, (Code::ResourceExhausted as i32).to_string());
    for coding in ["gzip", "zstd"] {
        let (code, message) =
            raw(&bench, &[("grpc-encoding", coding)], &[1, 0, 0, 0, 3, 1, 2, 3]).await;
        assert_eq!(code, invalid);
        assert!(message.contains(coding), "{message}");
    }
    let (code, _) = raw(&bench, &[("grpc-encoding", "br")], &[0; 5]).await;
    assert_eq!(code, (Code::Unimplemented as i32).to_string());
    assert_eq!(raw(&bench, &[], &[0; 5]).await.0, "0");
    assert_eq!(bench.sink.batches(), 0);
    bench.stop().await;
}

#[tokio::test]
async fn what_is_not_protobuf_over_h2_is_not_grpc() {
    let bench = start(PLAIN).await;
    let answer = ask(bench.grpc(), post(METRICS, "application/grpc-web+proto", "")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (415, PROTOBUF));
    let answer = ask(bench.grpc(), post(METRICS, "application/grpc", vec![0; 5])).await;
    assert_eq!(answer.status, 400, "over HTTP/1.1 nobody would see the trailers");
    bench.stop().await;
}

/// A body that gives some bytes and then nothing, for ever.
struct Stuck(Option<Bytes>);

impl hyper::body::Body for Stuck {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.0.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}

fn grpc_request<B>(body: B) -> http::Request<B> {
    let request = http::Request::post(format!("http://x{METRICS}"));
    request.header("content-type", "application/grpc").body(body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_ends_its_message_is_told() {
    let bench = start(&format!("request_timeout = \"7s\"\n{PLAIN}")).await;
    let (mut sender, _tasks) = h2(bench.grpc()).await;
    let begun = tokio::time::Instant::now();
    let stuck = Stuck(Some(Bytes::from_static(&[0, 0, 0, 0, 9, 1])));
    let answer = sender.send_request(grpc_request(stuck)).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "4", "deadline exceeded, which may be repeated");
    assert_eq!(begun.elapsed().as_secs(), 7);
    assert_eq!(bench.requests("grpc", "slow"), 1);
    bench.stop().await;
}

#[tokio::test]
async fn clients_that_hang_up_free_their_place() {
    let bench = start(&format!("max_concurrent_requests = 1\n{PLAIN}")).await;
    let go = Arc::new(Notify::new());
    bench.sink.then(Say::Wait(go));
    // One leaves while the pipeline thinks, one in the middle of its message.
    let (mut sender, tasks) = h2(bench.grpc()).await;
    let message = metrics(1, 1).encode_to_vec();
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(&message);
    let mut waiting =
        Box::pin(sender.send_request(grpc_request(Full::new(Bytes::from(frame.clone())))));
    tokio::select! {
        _ = &mut waiting => panic!("answered"),
        () = bench.sink.asked.notified() => {}
    }
    drop((waiting, sender, tasks));
    let (mut sender, tasks) = h2(bench.grpc()).await;
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from(
        frame[..9].to_vec(),
    )))]);
    let chunks = StreamBody::new(futures_util::StreamExt::chain(
        chunks,
        futures_util::stream::once(std::future::ready(Err(std::io::Error::other("gone")))),
    ));
    let broken = sender.send_request(grpc_request(Box::pin(chunks))).await;
    assert!(broken.is_err());
    drop((sender, tasks));
    // The place is free again as soon as the server has noticed.
    let mut channel = channel(bench.grpc()).await;
    while call(&mut channel, METRICS, message.clone()).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.sink.points(), 1);
    assert!(bench.requests("grpc", "hung_up") + bench.requests("grpc", "gone") >= 1);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_silent_ends() {
    let bench = start(&format!("expiry = \"100s\"\n{PLAIN}")).await;
    let message = metrics(2, 3).encode_to_vec();
    assert_eq!(ask(bench.http(), post("/v1/metrics", PROTOBUF, message)).await.status, 200);
    let ended = || bench.sink.taken.lock().unwrap().iter().filter(|batch| batch.ended).count();
    assert_eq!(ended(), 0);
    bench.clock.advance(Duration::from_secs(101));
    // A full pipeline is told again.
    bench.sink.then(Say::Refuse(FULL));
    tokio::time::advance(Duration::from_secs(10)).await;
    while ended() < 2 {
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    assert_eq!(bench.settings.telemetry.gauge(&table::OTLP_RESOURCES, &[]).get(), 0.0);
    bench.stop().await;
}
