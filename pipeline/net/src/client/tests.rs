//! The client against real loopback servers: well-behaved ones, and scripts that misbehave byte by byte.

use std::net::SocketAddr;

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;
use crate::compress::Encoder;
use crate::server::{Body, Handler, ListenSettings, Request, Response, Server, ServerPlan};
use crate::testcerts::Authority;
use crate::tls::ServerTls;

const LIMITS: Limits = Limits::bytes(1 << 20);

/// A server in the background; ends when dropped.
struct Peer {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Peer {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn serve(tls: Option<ServerTls>, handler: impl Handler) -> Peer {
    let listen = ListenSettings { tls, ..ListenSettings::default() };
    let bound = Server::bind(ServerPlan { listen, ..ServerPlan::default() }).await.unwrap();
    let (address, mut tasks) = (bound.address().tcp().unwrap(), JoinSet::new());
    tasks.spawn(async move {
        bound.serve(handler, std::future::pending()).await;
    });
    Peer { address, _tasks: tasks }
}

/// What a script does with a connection, request after request.
#[derive(Clone, Copy)]
enum Act {
    /// Reads a request, writes this, goes on.
    Say(&'static str),
    /// Reads a request, writes this, closes.
    Last(&'static str),
    /// Reads a request, says nothing.
    Hang,
}

/// Plays one list of acts per connection, then accepts no more.
async fn script(connections: &'static [&'static [Act]]) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, mut tasks) = (listener.local_addr().unwrap(), JoinSet::new());
    tasks.spawn(async move {
        let mut all = JoinSet::new();
        for acts in connections {
            let (tcp, _) = listener.accept().await.unwrap();
            all.spawn(play(tcp, acts));
        }
        drop(listener);
        while all.join_next().await.is_some() {}
    });
    Peer { address, _tasks: tasks }
}

async fn play(mut tcp: TcpStream, acts: &'static [Act]) {
    for act in acts {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = tcp.read_u8().await else { return };
            head.push(byte);
        }
        match act {
            Act::Say(text) => tcp.write_all(text.as_bytes()).await.unwrap(),
            Act::Last(text) => return tcp.write_all(text.as_bytes()).await.unwrap(),
            Act::Hang => std::future::pending().await,
        }
    }
    // Held open until the client goes.
    drop(tcp.read(&mut [0; 1]).await);
}

fn client(settings: ClientSettings) -> Client {
    Client::new(ClientPlan { settings, ..ClientPlan::default() }).unwrap()
}

fn plain() -> Client {
    client(ClientSettings::default())
}

async fn get(connection: &mut Connection) -> Result<String, FetchError> {
    let mut body = Vec::new();
    connection.get(&mut body, LIMITS, Instant::now() + Duration::from_secs(10)).await?;
    Ok(String::from_utf8(body).unwrap())
}

async fn error(url: &str) -> FetchError {
    get(&mut plain().connection(url).unwrap()).await.unwrap_err()
}

#[tokio::test]
async fn one_connection_serves_all_requests_in_every_coding() {
    let text = "vllm:num_requests_running 3\n".repeat(5000);
    let expected = text.clone();
    let server = serve(None, move |request: Request| {
        let mut out = Vec::new();
        let coding = crate::negotiate::coding(
            request.header(&header::ACCEPT_ENCODING),
            &[Coding::Gzip, Coding::Zstd],
        );
        Encoder::default().encode(coding.unwrap(), text.as_bytes(), &mut out).unwrap();
        let mut answer = Body::text(StatusCode::OK, out);
        answer
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.unwrap().name()));
        std::future::ready(answer)
    })
    .await;
    for coding in [Coding::Gzip, Coding::Zstd, Coding::Identity] {
        let plan = ClientPlan { accept_encoding: vec![coding], ..ClientPlan::default() };
        let mut connection =
            Client::new(plan).unwrap().connection(&server.url("/metrics")).unwrap();
        let (mut body, mut capacity) = (Vec::new(), 0);
        for round in 0..5 {
            let deadline = Instant::now() + Duration::from_secs(10);
            let answer = connection.get(&mut body, LIMITS, deadline).await.unwrap();
            assert!(body == expected.as_bytes());
            assert_eq!(answer.content_encoding, coding);
            assert_eq!(answer.content_type.unwrap(), "text/plain; charset=utf-8");
            assert_eq!(answer.wire_bytes < body.len() / 10, coding != Coding::Identity);
            assert!(round == 0 || body.capacity() == capacity, "the buffer is reused");
            capacity = body.capacity();
        }
        assert_eq!(connection.connects(), 1);
    }
}

#[tokio::test]
async fn a_request_says_who_asks_and_for_what() {
    let server = serve(None, async |request: Request| {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}\n", value.to_str().unwrap())
        };
        let mut lines: Vec<_> = request.head.headers.iter().map(line).collect();
        lines.sort();
        Body::text(StatusCode::OK, format!("{}\n{}", request.head.uri, lines.concat()))
    })
    .await;
    let settings = ClientSettings {
        bearer_token: Some("t".into()),
        headers: [("X-Org".to_owned(), "acme".into())].into(),
        ..ClientSettings::default()
    };
    let accept = Some(HeaderValue::from_static("text/plain"));
    let client = Client::new(ClientPlan { settings, accept, ..ClientPlan::default() }).unwrap();
    let mut connection = client.connection(&server.url("/m?x=1")).unwrap();
    let expected = format!(
        "/m?x=1\naccept-encoding: zstd, gzip\naccept: text/plain\nauthorization: Bearer t\nhost: {}\n\
         user-agent: {USER_AGENT}\nx-org: acme\n",
        server.address
    );
    for _ in 0..2 {
        assert_eq!(get(&mut connection).await.unwrap(), expected, "the same with reused headers");
    }
    let post = Post {
        body: "{}".into(),
        content_type: HeaderValue::from_static("application/json"),
        content_encoding: Coding::Identity,
        headers: vec![
            (header::CONTENT_ENCODING, HeaderValue::from_static("snappy")),
            (HeaderName::from_static("x-org"), HeaderValue::from_static("other")),
        ],
    };
    let mut body = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    let answer = connection.post(&post, &mut body, LIMITS, deadline).await.unwrap();
    let text = String::from_utf8(body).unwrap();
    let headers = "content-encoding: snappy\ncontent-length: 2\ncontent-type: application/json\n";
    assert!(text.contains(headers) && text.contains("x-org: other\n"), "{text}");
    assert_eq!(connection.answer_headers().get("content-length").unwrap(), &text.len().to_string());
    assert_eq!((answer.status, connection.connects()), (StatusCode::OK, 1));
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_replaced() {
    let server = script(&[&[Act::Last(OK)], &[Act::Say(OK), Act::Last("")], &[Act::Say(OK)]]).await;
    let mut connection = plain().connection(&server.url("/")).unwrap();
    for connects in 1..=3 {
        assert_eq!(get(&mut connection).await.unwrap(), "ok");
        assert_eq!(connection.connects(), connects);
    }
}

#[tokio::test]
async fn what_may_have_arrived_is_not_posted_twice() {
    let server = script(&[&[Act::Say(OK), Act::Last("")], &[Act::Say(OK)]]).await;
    let mut connection = plain().connection(&server.url("/")).unwrap();
    let post = Post {
        body: Bytes::new(),
        content_type: HeaderValue::from_static("text/plain"),
        content_encoding: Coding::Identity,
        headers: Vec::new(),
    };
    let mut body = Vec::new();
    let mut send = async || {
        connection.post(&post, &mut body, LIMITS, Instant::now() + Duration::from_secs(9)).await
    };
    assert!(send().await.is_ok());
    assert_eq!(send().await.unwrap_err().cause(), "protocol");
    assert!(send().await.is_ok());
}

#[tokio::test]
async fn a_fresh_connection_gets_one_try() {
    let server = script(&[&[Act::Last("")], &[Act::Say(OK)]]).await;
    let mut connection = plain().connection(&server.url("/")).unwrap();
    let error = get(&mut connection).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("expected a complete http answer from {}, found none", server.url("/"))
    );
    assert_eq!(connection.connects(), 1);
    assert_eq!(get(&mut connection).await.unwrap(), "ok");
}

#[tokio::test]
async fn broken_answers_are_classified() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
    let coded = "HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 2\r\n\r\nxx";
    let damaged = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx";
    let cases: [(&'static str, &str); 4] = [
        ("SSH-2.0-OpenSSH\r\n", "protocol"),
        (cut, "protocol"),
        (coded, "decode"),
        (damaged, "decode"),
    ];
    for (text, cause) in cases {
        let acts: &'static [Act] = Box::leak(Box::new([Act::Last(text)]));
        let server = script(Box::leak(Box::new([acts]))).await;
        assert_eq!(error(&server.url("/")).await.cause(), cause, "{text}");
    }
    let nowhere = error("http://a..b/").await;
    assert_eq!(
        (nowhere.cause(), nowhere.to_string().as_str()),
        ("dns", "expected an address for host a..b, found none")
    );
    let nobody = script(&[]).await;
    tokio::task::yield_now().await;
    let error = error(&nobody.url("/m?key=secret")).await;
    assert_eq!(error.cause(), "refused");
    assert_eq!(error.to_string(), format!("expected a server at {}, found none", nobody.url("/m")));
}

#[tokio::test]
async fn statuses_are_errors_that_keep_the_connection() {
    const BUSY: &str = "HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 5\r\n\r\nlater";
    let server = script(&[&[Act::Say(BUSY), Act::Say(OK)]]).await;
    let mut connection = plain().connection(&server.url("/m?q")).unwrap();
    let error = get(&mut connection).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("expected status 200 from {}, found 503", server.url("/m"))
    );
    assert!(
        matches!(error, FetchError::Status { retry_after: Some(after), .. } if after.as_secs() == 7)
    );
    assert_eq!(get(&mut connection).await.unwrap(), "ok");
    assert_eq!(connection.connects(), 1);
}

#[tokio::test]
async fn bodies_end_at_their_limit() {
    // Members may follow one another, and each of these is a thousand times its size.
    let mut member = Vec::new();
    Encoder::new(1, 1).encode(Coding::Gzip, &vec![b'0'; 8 << 20], &mut member).unwrap();
    let bomb = Bytes::from(member.repeat((3 << 20) / member.len()));
    assert!(bomb.len() > 2 << 20, "{} bytes", bomb.len());
    let server = serve(None, move |_| {
        let mut answer = Response::new(bomb.clone().into());
        answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        std::future::ready(answer)
    })
    .await;
    let mut connection = plain().connection(&server.url("/")).unwrap();
    let mut body = Vec::new();
    let mut limited = async |limits| {
        let deadline = Instant::now() + Duration::from_secs(10);
        let error = connection.get(&mut body, limits, deadline).await.unwrap_err();
        assert!(body.capacity() <= 4 << 20, "{} bytes held", body.capacity());
        error.to_string()
    };
    let url = server.url("/");
    let wide = Limits { body_bytes_max: 1 << 20, wire_bytes_max: 8 << 20 };
    assert_eq!(
        limited(wide).await,
        format!("expected at most 1048576 bytes after decompression from {url}, found more")
    );
    assert_eq!(
        limited(LIMITS).await,
        format!("expected at most 1048576 bytes on the wire from {url}, found more")
    );

    let flood = serve(None, async |_| {
        Response::new(Body::stream(futures_util::stream::repeat(Bytes::from_static(&[0; 999]))))
    })
    .await;
    assert_eq!(error(&flood.url("/")).await.cause(), "too_large");
}

#[tokio::test(start_paused = true)]
async fn slow_answers_end_at_the_deadline() {
    let server = script(&[
        &[Act::Hang],
        &[Act::Say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"), Act::Hang],
    ])
    .await;
    let mut connection = plain().connection(&server.url("/")).unwrap();
    for missing in ["an answer from", "the whole body from"] {
        let begun = Instant::now();
        let error = get(&mut connection).await.unwrap_err();
        assert_eq!(error.to_string(), format!("expected {missing} {} in time", server.url("/")));
        assert_eq!(begun.elapsed().as_secs(), 10);
    }
}

#[tokio::test]
async fn a_dropped_request_costs_the_connection_and_nothing_else() {
    let server = script(&[&[Act::Say(OK), Act::Hang], &[Act::Say(OK)]]).await;
    let mut connection = plain().connection(&server.url("/")).unwrap();
    assert_eq!(get(&mut connection).await.unwrap(), "ok");
    let dropped = tokio::time::timeout(Duration::from_millis(20), get(&mut connection)).await;
    assert!(dropped.is_err());
    assert_eq!(get(&mut connection).await.unwrap(), "ok");
    assert_eq!(connection.connects(), 2);
}

/// Redirects `/to?TARGET`, and shows what private things a request carried.
async fn mirror(request: Request) -> Response {
    if request.path() == "/to" {
        let mut answer = Response::default();
        *answer.status_mut() = StatusCode::FOUND;
        let location = HeaderValue::from_str(request.head.uri.query().unwrap_or_default()).unwrap();
        answer.headers_mut().insert(header::LOCATION, location);
        return answer;
    }
    let x = HeaderName::from_static("x-key");
    let shown = [request.header(&header::AUTHORIZATION), request.header(&x)]
        .map(|value| value.unwrap_or("-"));
    Body::text(StatusCode::OK, format!("{} {}", request.path(), shown.join(" ")))
}

#[tokio::test]
async fn redirects_never_carry_credentials_to_another_host() {
    let (home, other) = (serve(None, mirror).await, serve(None, mirror).await);
    let settings = ClientSettings {
        bearer_token: Some("t".into()),
        headers: [("x-key".to_owned(), "k".into())].into(),
        ..ClientSettings::default()
    };
    let follow = async |location: &str| {
        let mut connection =
            client(settings.clone()).connection(&home.url(&format!("/to?{location}"))).unwrap();
        let got = get(&mut connection).await;
        (got.unwrap_or_else(|error| error.cause().to_owned()), connection.connects())
    };
    assert_eq!(follow("/m").await, ("/m Bearer t k".to_owned(), 1), "same origin, same connection");
    assert_eq!(follow("m").await.0, "/m Bearer t k");
    assert_eq!(follow(&home.url("/m")).await.0, "/m Bearer t k");
    assert_eq!(follow(&other.url("/m")).await, ("/m - -".to_owned(), 2));
    let localhost = format!("http://localhost:{}/m", home.address.port());
    assert_eq!(follow(&localhost).await.0, "/m - -", "another name is another host");
    let back = other.url(&format!("/to?{}", home.url("/m")));
    assert_eq!(follow(&back).await.0, "/m - -", "no way back to credentials");
    assert_eq!(follow("/to?").await.0, "redirect", "a loop");
    assert_eq!(follow("file:///etc/passwd").await.0, "redirect");
    let mut stay = client(ClientSettings { follow_redirects: false, ..settings.clone() })
        .connection(&home.url("/to?/m"))
        .unwrap();
    assert_eq!(
        get(&mut stay).await.unwrap_err().to_string(),
        format!(
            "expected an answer from {}, found a redirect, which `follow_redirects` forbids",
            home.url("/to")
        )
    );
}

#[tokio::test]
async fn tls_trusts_whom_it_should() {
    let (ours, strangers) = (Authority::new(), Authority::new());
    let server = serve(Some(ours.server(&["localhost", "metrics.internal"])), mirror).await;
    let ask = async |host: &str, tls: ClientTls| {
        let url = format!("https://{host}:{}/m", server.address.port());
        let got = get(&mut client(ClientSettings { tls, ..ClientSettings::default() })
            .connection(&url)
            .unwrap())
        .await;
        got.map_err(|error| error.cause())
    };
    let fine = Ok("/m - -".to_owned());
    assert_eq!(ask("localhost", ours.client()).await, fine);
    let pem = ClientTls { ca_pem: Some(ours.ca_pem()), ..ClientTls::default() };
    assert_eq!(ask("localhost", pem).await, fine);
    assert_eq!(ask("localhost", strangers.client()).await, Err("tls"));
    assert_eq!(ask("127.0.0.1", ours.client()).await, Err("tls"), "not in the certificate");
    let named = ClientTls { server_name: Some("metrics.internal".to_owned()), ..ours.client() };
    assert_eq!(ask("127.0.0.1", named).await, fine);
    let careless = ClientTls { insecure_skip_verify: true, ..ClientTls::default() };
    assert_eq!(ask("127.0.0.1", careless).await, fine);
    let plain_http = format!("http://{}/", server.address);
    assert_eq!(error(&plain_http).await.cause(), "protocol");
}

#[tokio::test]
async fn a_client_certificate_opens_the_door() {
    let (ours, strangers) = (Authority::new(), Authority::new());
    let tls = ServerTls { client_ca_file: Some(ours.ca_file()), ..ours.server(&["127.0.0.1"]) };
    let server = serve(Some(tls), mirror).await;
    let ask = async |pair: Option<(std::path::PathBuf, std::path::PathBuf)>| {
        let (cert_file, key_file) = pair.unzip();
        let tls = ClientTls { cert_file, key_file, ..ours.client() };
        let url = format!("https://{}/m", server.address);
        get(&mut client(ClientSettings { tls, ..ClientSettings::default() })
            .connection(&url)
            .unwrap())
        .await
        .is_ok()
    };
    assert!(ask(Some(ours.issue("client", &["c"]))).await);
    assert!(!ask(Some(strangers.issue("client", &["c"]))).await);
    assert!(!ask(None).await);
}

#[tokio::test(start_paused = true)]
async fn a_token_file_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let settings =
        ClientSettings { bearer_token_file: Some(file.clone()), ..ClientSettings::default() };
    let client = client(settings);
    let header = async || client.inner.credentials.header().await.unwrap();
    assert_eq!(header().await, "Bearer first");
    assert!(header().await.is_sensitive());
    std::fs::write(&file, "the second\n").unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(header().await, "Bearer the second");
    std::fs::write(&file, "").unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(header().await, "Bearer the second", "an empty file is not a token");
}

#[test]
fn impossible_plans_are_refused() {
    let error = |json: &str| {
        let settings = serde_json::from_str(json).unwrap();
        Client::new(ClientPlan { settings, ..ClientPlan::default() }).err().unwrap().to_string()
    };
    assert_eq!(
        error(r#"{"headers": {"a b": "x"}}"#),
        "expected a header name in `headers`, found `a b`"
    );
    assert_eq!(
        error(r#"{"headers": {"Host": "x"}}"#),
        "header `Host` cannot be set, it follows from the request"
    );
    assert!(error(r#"{"headers": {"Authorization": "x"}}"#).contains("use `authorization`"));
    assert_eq!(error(r#"{"tls": {"ca_pem": "x"}}"#), "cannot use the tls settings");
    assert_eq!(error(r#"{"tls": {"cert_file": "/x"}}"#), "cannot use the tls settings");
}
