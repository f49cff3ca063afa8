//! Where it listens, and who is let in.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, UnixStream};
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::certs::Authority;
use super::rpc::{METRICS, call, channel};
use super::*;

fn get(path: &str) -> http::Request<Bytes> {
    http::Request::get(path).header("host", "x").body(Bytes::new()).unwrap()
}

#[tokio::test]
async fn either_port_answers_both_protocols() {
    let bench = start(PLAIN).await;
    let body = metrics(1, 2).encode_to_vec();
    let answer = ask(bench.grpc(), post("/v1/metrics", PROTOBUF, body.clone())).await;
    assert_eq!(answer.status, 200);
    call(&mut channel(bench.http()).await, METRICS, body).await.unwrap();
    assert_eq!(bench.sink.points(), 4);
    bench.stop().await;
}

#[tokio::test]
async fn one_protocol_may_be_off() {
    let bench = start("http = { enabled = false }\ngrpc = { listen = \"127.0.0.1:0\" }").await;
    assert_eq!(bench.addresses.len(), 1);
    call(&mut channel(bench.grpc()).await, METRICS, Vec::new()).await.unwrap();
    bench.stop().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_or_left_out() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = other.local_addr().unwrap();
    let text =
        format!("grpc = {{ listen = \"{taken}\" }}\nhttp = {{ listen = \"127.0.0.1:0\" }}\n");
    let error = try_start(&text).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        format!("another process listens on {taken}; stop it or set `listen` (in `grpc`)")
    );
    assert!(matches!(error, StartError::Bind(_)));
    let bench = start(&format!("{text}when_taken = \"skip\"\n")).await;
    assert_eq!(bench.addresses.len(), 1);
    let body = metrics(1, 1).encode_to_vec();
    assert_eq!(ask(bench.http(), post("/v1/metrics", PROTOBUF, body)).await.status, 200);
    bench.stop().await;

    let text = format!(
        "grpc = {{ listen = \"{taken}\" }}\nhttp = {{ listen = \"{taken}\" }}\nwhen_taken = \"skip\"\n"
    );
    let bench = start(&text).await;
    assert!(bench.addresses.is_empty());
    // It idles until it is told to stop, rather than being taken for a failure.
    tokio::task::yield_now().await;
    assert_eq!(bench.tasks.len(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn a_unix_socket_takes_both_protocols_and_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("otlp.sock");
    let listen = format!("unix:{}", path.display());
    let bench =
        start(&format!("grpc = {{ listen = \"{listen}\" }}\nhttp = {{ enabled = false }}")).await;
    let io = UnixStream::connect(&path).await.unwrap();
    let body = metrics(1, 1).encode_to_vec();
    let answer = ask_over(io, post("/v1/metrics", PROTOBUF, body.clone())).await;
    assert_eq!(answer.status, 200);
    let channel = Endpoint::from_shared(format!("unix://{}", path.display())).unwrap();
    call(&mut channel.connect().await.unwrap(), METRICS, body).await.unwrap();
    assert_eq!(bench.sink.points(), 2);
    bench.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn only_tokens_are_let_in() {
    let text = format!(
        "tokens = [{{ token = \"k1\" }}, {{ token = \"slow\", requests_per_minute = 1 }}]\n{PLAIN}"
    );
    let bench = start(&text).await;
    let body = metrics(1, 1).encode_to_vec();
    let with = |authorization: &str| {
        let mut request = post("/v1/metrics", PROTOBUF, body.clone());
        if !authorization.is_empty() {
            request.headers_mut().insert("authorization", authorization.parse().unwrap());
        }
        request
    };
    assert_eq!(ask(bench.http(), with("Bearer k1")).await.status, 200);
    for wrong in ["", "Bearer k2", "Basic k1"] {
        let answer = ask(bench.http(), with(wrong)).await;
        assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, "Bearer"));
        assert_eq!(rpc::status_of(&answer.body).code, Code::Unauthenticated as i32);
    }
    assert_eq!(ask(bench.http(), with("Bearer slow")).await.status, 200);
    let limited = ask(bench.http(), with("Bearer slow")).await;
    assert_eq!(limited.status, 429);
    assert!((59..=60).contains(&limited.header("retry-after").parse::<u64>().unwrap()));

    let mut channel = channel(bench.grpc()).await;
    let error = call(&mut channel, METRICS, body.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    let mut request = tonic::Request::new(Bytes::from(body));
    request.metadata_mut().insert("authorization", "Bearer k1".parse().unwrap());
    rpc::call_with(&mut channel, METRICS, request, None).await.unwrap();
    assert_eq!(bench.sink.points(), 3);
    assert_eq!(bench.requests("http", "credentials"), 3);
    assert_eq!(bench.requests("grpc", "credentials"), 1);
    bench.stop().await;
}

#[tokio::test]
async fn with_a_client_authority_only_its_clients_are_let_in() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (server, client, stranger) =
        (ours.issue("server"), ours.issue("client"), theirs.issue("stranger"));
    let text = format!(
        "[grpc]\nlisten = \"127.0.0.1:0\"\n[grpc.tls]\ncert_file = {:?}\nkey_file = {:?}\nclient_ca_file = {:?}\n[http]\nenabled = false\n",
        server.cert_file,
        server.key_file,
        ours.file(),
    );
    let bench = start(&text).await;
    let connect = async |identity: Option<&certs::Issued>| {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ours.pem()))
            .domain_name("localhost");
        if let Some(issued) = identity {
            tls = tls.identity(Identity::from_pem(&issued.cert, &issued.key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", bench.grpc())).unwrap();
        let mut channel = endpoint.tls_config(tls).unwrap().connect_lazy();
        call(&mut channel, METRICS, metrics(1, 1).encode_to_vec()).await
    };
    connect(Some(&client)).await.unwrap();
    assert!(connect(None).await.is_err(), "no certificate");
    assert!(connect(Some(&stranger)).await.is_err(), "of another authority");
    // Without TLS there is no answer at all.
    assert!(
        rpc::connect(bench.grpc()).await.is_err() || {
            let mut plain = channel(bench.grpc()).await;
            call(&mut plain, METRICS, Vec::new()).await.is_err()
        }
    );
    assert_eq!(bench.sink.points(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn browsers_are_let_in_where_configured() {
    let text = "grpc = { enabled = false }\n[http]\nlisten = \"127.0.0.1:0\"\n[http.cors]\norigins = [\"https://*.example.com\"]\nheaders = [\"x-team\"]\n";
    let bench = start(text).await;
    let preflight = |origin: &str| {
        http::Request::options("/v1/metrics")
            .header("host", "x")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,x-team")
            .body(Bytes::new())
            .unwrap()
    };
    let yes = ask(bench.http(), preflight("https://app.example.com")).await;
    assert_eq!(yes.status, 204);
    assert_eq!(yes.header("access-control-allow-origin"), "https://app.example.com");
    assert_eq!(yes.header("access-control-allow-methods"), "POST");
    assert_eq!(
        yes.header("access-control-allow-headers"),
        "content-type, content-encoding, authorization, x-team"
    );
    assert_eq!((yes.header("access-control-max-age"), yes.header("vary")), ("7200", "origin"));
    let no = ask(bench.http(), preflight("https://example.net")).await;
    assert_eq!((no.status.as_u16(), no.header("access-control-allow-origin")), (403, ""));

    let mut request = post("/v1/metrics", JSON, "{}");
    request.headers_mut().insert("origin", "https://app.example.com".parse().unwrap());
    let answer = ask(bench.http(), request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example.com");
    // Errors can be read too, and a page of elsewhere reads nothing.
    let mut request = post("/v1/metrics", "text/plain", "x");
    request.headers_mut().insert("origin", "https://app.example.com".parse().unwrap());
    let answer = ask(bench.http(), request).await;
    assert_eq!(answer.status, 415);
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example.com");
    bench.stop().await;

    let bench = start(PLAIN).await;
    let answer = ask(bench.http(), preflight("https://app.example.com")).await;
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (405, ""));
    assert_eq!(ask(bench.http(), get("/v1/metrics")).await.header("allow"), "POST");
    bench.stop().await;
}

#[tokio::test]
async fn one_connection_carries_only_so_many_calls() {
    let text = "http = { enabled = false }\n[grpc]\nlisten = \"127.0.0.1:0\"\nmax_streams_per_connection = 1\n";
    let bench = start(text).await;
    let go = Arc::new(Notify::new());
    bench.sink.then(Say::Wait(Arc::clone(&go)));
    let channel = channel(bench.grpc()).await;
    let mut tasks = JoinSet::new();
    for n in 1..=2 {
        let mut channel = channel.clone();
        tasks.spawn(async move {
            call(&mut channel, METRICS, metrics(1, n).encode_to_vec()).await.unwrap();
        });
        if n == 1 {
            bench.sink.asked.notified().await;
        }
    }
    // The second waits on the client's side: it is neither refused nor taken.
    let early = tokio::time::timeout(Duration::from_millis(50), bench.sink.asked.notified()).await;
    assert!(early.is_err());
    go.notify_one();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_eq!(bench.sink.points(), 3);
    bench.stop().await;
}

/// Keeps the type in use that speaks to sockets that are no TCP.
#[tokio::test]
async fn a_client_that_sends_nonsense_costs_nothing() {
    let bench = start(PLAIN).await;
    for nonsense in
        [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxx"]
    {
        let mut io = TcpStream::connect(bench.grpc()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut io, nonsense).await.unwrap();
        drop(TokioIo::new(io));
    }
    let body = metrics(1, 1).encode_to_vec();
    assert_eq!(ask(bench.grpc(), post("/v1/metrics", PROTOBUF, body)).await.status, 200);
    bench.stop().await;
}
