//! HTTP: every answer, in the format of its request.

use std::io::Write;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use super::rpc::{retry_info, status_of};
use super::*;

async fn send(bench: &Bench, kind: &str, body: impl Into<Bytes>) -> Answer {
    ask(bench.http(), post("/v1/metrics", kind, body)).await
}

fn json_of(answer: &Answer) -> Json {
    assert_eq!(answer.header("content-type"), JSON);
    serde_json::from_slice(&answer.body).unwrap()
}

fn point(value: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"s"}}}}]}},
        "scopeMetrics":[{{"metrics":[{{"name":"m","gauge":{{"dataPoints":[
        {{"timeUnixNano":"1700000000000000000","asDouble":1.5}},
        {{"timeUnixNano":1700000000000000001,"attributes":[{{"key":"a","value":{{"stringValue":"b"}}}}],{value}}}]}}}}]}}]}}]}}"#
    )
}

#[tokio::test]
async fn protobuf_and_json_are_taken_and_answered_alike() {
    let bench = start(PLAIN).await;
    let answer = send(&bench, PROTOBUF, metrics(1, 2).encode_to_vec()).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, PROTOBUF));
    assert!(answer.body.is_empty());
    let answer = send(&bench, "Application/JSON; charset=utf-8", point("\"asInt\":\"3\"")).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "{}"));
    assert_eq!(json_of(&answer), json!({}));
    assert_eq!(bench.sink.points(), 4);
    for empty in ["{}", r#"{"resourceMetrics":null}"#, r#"{"resourceMetrics":[]}"#] {
        assert_eq!(send(&bench, JSON, empty).await.text(), "{}");
    }
    assert!(send(&bench, PROTOBUF, "").await.body.is_empty());
    assert_eq!(bench.requests("http", "accepted"), 6);
    bench.stop().await;
}

#[tokio::test]
async fn what_is_rejected_is_said() {
    let bench = start(PLAIN).await;
    let answer = send(&bench, PROTOBUF, partly_bad().encode_to_vec()).await;
    assert_eq!(response(&answer.body).partial_success.unwrap().rejected_data_points, 1);
    let answer = send(&bench, JSON, point("\"x\":1")).await;
    let partial = &json_of(&answer)["partialSuccess"];
    assert_eq!(partial["rejectedDataPoints"], "1");
    assert!(partial["errorMessage"].as_str().unwrap().contains("without a value"));
    assert_eq!(bench.rejected("no_value"), 2);

    let answer = ask(bench.http(), post("/v1/logs", PROTOBUF, logs())).await;
    assert_eq!(response(&answer.body).partial_success.unwrap().rejected_data_points, 3);
    let text = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{},{}]}]}]}"#;
    let answer = ask(bench.http(), post("/v1/logs", JSON, text)).await;
    let partial = &json_of(&answer)["partialSuccess"];
    assert_eq!(partial["rejectedLogRecords"], "2");
    assert!(partial["errorMessage"].as_str().unwrap().contains("no pipeline for logs"));
    assert_eq!(bench.rejected("logs"), 5);
    bench.stop().await;
}

#[tokio::test]
async fn nonsense_is_a_bad_request() {
    let bench = start(PLAIN).await;
    for path in ["/v1/metrics", "/v1/logs"] {
        let answer = ask(bench.http(), post(path, PROTOBUF, vec![0x0a, 0x05, 1])).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (400, PROTOBUF));
        let status = status_of(&answer.body);
        assert_eq!(status.code, Code::InvalidArgument as i32);
        assert!(status.details[0].type_url.ends_with("google.rpc.BadRequest"));
        let answer = ask(bench.http(), post(path, JSON, "{\"resource")).await;
        assert_eq!(answer.status, 400);
        let status = json_of(&answer);
        assert_eq!(status["code"], 3);
        assert!(status["message"].as_str().unwrap().starts_with("malformed JSON"));
        assert_eq!(status["details"][0]["@type"], "type.googleapis.com/google.rpc.BadRequest");
    }
    let deep = format!("{{\"resourceMetrics\":{}", "[".repeat(1 << 20));
    assert_eq!(send(&bench, JSON, deep).await.status, 400);
    assert_eq!(bench.requests("http", "malformed"), 5);
    assert_eq!(bench.sink.batches(), 0);
    bench.stop().await;
}

#[tokio::test]
async fn wrong_paths_methods_and_types() {
    let bench = start(PLAIN).await;
    let answer = ask(bench.http(), post("/v1/traces", JSON, "{}")).await;
    assert_eq!(answer.status, 404);
    assert_eq!(json_of(&answer)["message"], "traces are not taken here, only metrics and logs");
    assert_eq!(ask(bench.http(), post("/v1/traces", PROTOBUF, "")).await.status, 404);
    let answer = ask(bench.http(), post("/metrics", PROTOBUF, "")).await;
    assert_eq!(answer.status, 404);
    assert_eq!(status_of(&answer.body).message, "there are /v1/metrics and /v1/logs");
    let get = http::Request::get("/v1/metrics").header("host", "x").body(Bytes::new()).unwrap();
    let answer = ask(bench.http(), get).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "POST"));
    let answer = send(&bench, "text/plain", "x").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (415, PROTOBUF));
    let text = "expected content-type application/x-protobuf or application/json";
    assert_eq!(status_of(&answer.body).message, text);
    let mut request = post("/v1/metrics", JSON, "x");
    request.headers_mut().insert("content-encoding", "br".parse().unwrap());
    let answer = ask(bench.http(), request).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (415, JSON));
    bench.stop().await;
}

#[tokio::test]
async fn compressed_bodies_and_their_limits() {
    let bench = start(&format!("max_request_bytes = \"64KiB\"\n{PLAIN}")).await;
    let gzip = |bytes: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| {
        let mut out = Vec::new();
        let mut encoder = pipeline_net::compress::Encoder::default();
        encoder.encode(pipeline_net::Coding::Zstd, bytes, &mut out).unwrap();
        out
    };
    let good = metrics(1, 10).encode_to_vec();
    for (coding, packed, bomb) in [
        ("gzip", gzip(&good), gzip(&vec![0; 32 << 20])),
        ("zstd", zstd(&good), zstd(&vec![0; 32 << 20])),
    ] {
        let with = |body: Vec<u8>| {
            let mut request = post("/v1/metrics", PROTOBUF, body);
            request.headers_mut().insert("content-encoding", coding.parse().unwrap());
            request
        };
        assert_eq!(ask(bench.http(), with(packed.clone())).await.status, 200);
        assert_eq!(ask(bench.http(), with(packed[..packed.len() / 2].to_vec())).await.status, 400);
        let answer = ask(bench.http(), with(bomb)).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (413, ""));
        assert_eq!(status_of(&answer.body).code, Code::ResourceExhausted as i32);
        assert_eq!(retry_info(&answer.body), None);
    }
    assert_eq!(bench.sink.points(), 20);
    for size in [65 << 10, 64 << 20] {
        // The larger one does not fit into the sockets: the client reads the answer once it is rid of it.
        let answer = send(&bench, JSON, vec![b' '; size]).await;
        assert_eq!(answer.status, 413);
        assert_eq!(json_of(&answer)["code"], 8);
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_full_pipeline_says_when_to_come_again() {
    let bench = start(PLAIN).await;
    let body = metrics(1, 1).encode_to_vec();
    bench.sink.then(Say::Refuse(FULL));
    let answer = send(&bench, PROTOBUF, body.clone()).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "3"));
    assert_eq!(retry_info(&answer.body), Some(Duration::from_millis(2_500)));
    bench.sink.then(Say::Refuse(FULL));
    let answer = send(&bench, JSON, point("\"asInt\":1")).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "3"));
    let status = json_of(&answer);
    assert_eq!(
        (&status["code"], &status["details"][0]["retryDelay"]),
        (&json!(14), &json!("2.500000000s"))
    );
    bench.sink.then(Say::Refuse(ConsumeError::Closed));
    let answer = send(&bench, PROTOBUF, body.clone()).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, ""));
    assert_eq!(send(&bench, PROTOBUF, body).await.status, 200);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_told_to_come_again() {
    let bench = start(&format!("request_timeout = \"7s\"\n{PLAIN}")).await;
    let mut tcp = TcpStream::connect(bench.http()).await.unwrap();
    let head = format!(
        "POST /v1/metrics HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ncontent-length: 9\r\n\r\n{{"
    );
    tcp.write_all(head.as_bytes()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    assert_eq!(begun.elapsed().as_secs(), 7);
    bench.stop().await;
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_is_no_trouble() {
    let bench = start(PLAIN).await;
    let mut tcp = TcpStream::connect(bench.http()).await.unwrap();
    let head = format!(
        "POST /v1/metrics HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ncontent-length: 9\r\n\r\n{{"
    );
    tcp.write_all(head.as_bytes()).await.unwrap();
    // It says that it has said everything: half of the connection is closed.
    tcp.shutdown().await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let body = metrics(1, 1).encode_to_vec();
    assert_eq!(send(&bench, PROTOBUF, body).await.status, 200);
    assert_eq!(bench.sink.points(), 1);
    bench.stop().await;
}

/// What is known goes on when there is no memory for more.
#[tokio::test]
async fn new_series_are_rejected_when_memory_is_used_up() {
    let bench = start(&format!("max_memory = \"1MiB\"\n{PLAIN}")).await;
    let send = async |request: ExportMetricsServiceRequest| {
        let answer = send(&bench, PROTOBUF, request.encode_to_vec()).await;
        assert_eq!(answer.status, 200);
        response(&answer.body).partial_success.unwrap_or_default()
    };
    let many = send(metrics(1, 20_000)).await;
    let rejected = many.rejected_data_points;
    assert!((1..19_000).contains(&rejected), "{rejected}");
    let reason = "of series for which there is no memory";
    assert!(many.error_message.contains(reason), "{}", many.error_message);
    assert_eq!(send(metrics(1, 100)).await.rejected_data_points, 0);
    let other = send(metrics(2, 100)).await;
    assert_eq!(other.rejected_data_points, 100);
    assert_eq!(bench.rejected("no_memory"), rejected as u64 + 100);
    assert_eq!(bench.sink.points() as i64, 20_000 - rejected + 200);
    bench.stop().await;
}
