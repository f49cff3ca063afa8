//! The server on real loopback sockets. Time is paused where it matters: it moves on when nobody has anything to do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;
use crate::client::{Client, ClientPlan, ClientSettings, Limits};
use crate::compress::{Coding, Encoder};
use crate::testcerts::Authority;

/// A server in the background.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    tasks: JoinSet<Served>,
}

async fn start(plan: ServerPlan, handler: impl Handler) -> Running {
    let bound = Server::bind(plan).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let address = bound.address().tcp().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(bound.serve(handler, async { stopped.await.unwrap_or_default() }));
    Running { address, stop, tasks }
}

impl Running {
    async fn stop(mut self) -> Served {
        self.stop.send(()).unwrap();
        self.tasks.join_next().await.unwrap().unwrap()
    }
}

/// Answers with what came in.
async fn echo(mut request: Request) -> Response {
    match request.body().await {
        Ok(body) => {
            let line = format!("{} {:?} ", request.path(), request.head.version);
            Body::text(StatusCode::OK, [line.as_bytes(), &body].concat())
        }
        Err(error) => error.response(),
    }
}

/// Sends bytes on a fresh connection and reads until the server closes it.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(bytes).await.unwrap();
    until_closed(&mut tcp).await
}

/// Reads until the server closes the connection, politely or not.
async fn until_closed(tcp: &mut TcpStream) -> String {
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = tcp.read(&mut piece).await {
        all.extend_from_slice(&piece[..n]);
    }
    String::from_utf8(all).unwrap()
}

/// Reads one answer whose end is known by its text.
async fn answer(tcp: &mut TcpStream, end: &str) -> String {
    let mut all = String::new();
    while !all.ends_with(end) {
        let mut piece = [0; 4096];
        let n = tcp.read(&mut piece).await.unwrap();
        assert!(n > 0, "closed after {all:?}");
        all.push_str(std::str::from_utf8(&piece[..n]).unwrap());
    }
    all
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[tokio::test]
async fn a_port_in_use_says_what_to_do() {
    let first = Server::bind(ServerPlan::default()).await.unwrap();
    let listen = |listen: &str| ServerPlan {
        listen: ListenSettings { listen: listen.to_owned(), ..ListenSettings::default() },
        ..ServerPlan::default()
    };
    let address = first.address().to_string();
    let error = async |text: &str| Server::bind(listen(text)).await.err().unwrap().to_string();
    assert_eq!(
        error(&address).await,
        format!("another process listens on {address}; stop it or set `listen`")
    );
    assert_eq!(
        error("9464").await,
        "expected `host:port` such as 127.0.0.1:9464 in `listen`, found `9464`"
    );
    assert_eq!(
        error("192.0.2.1:9464").await,
        "192.0.2.1:9464 is not an address of this machine; set `listen` to one, or to 0.0.0.0 for all"
    );
}

#[tokio::test]
async fn http1_and_h2_without_tls() {
    let server = start(ServerPlan::default(), echo).await;
    let got = raw(
        server.address,
        b"POST /a?b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
    )
    .await;
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.ends_with("/a HTTP/1.1 hi"), "{got}");

    let tcp = TcpStream::connect(server.address).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut h2, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(tcp)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let ask = http::Request::post("http://x/b")
        .body(http_body_util::Full::new(Bytes::from("ho")))
        .unwrap();
    let got = h2.send_request(ask).await.unwrap();
    let body = http_body_util::BodyExt::collect(got.into_body()).await.unwrap().to_bytes();
    assert_eq!(body, "/b HTTP/2.0 ho");
    assert_eq!(server.stop().await, Served { cut: 0 });
}

#[tokio::test]
async fn bodies_have_a_limit_before_and_after_decompression() {
    let plan = ServerPlan { body_bytes_max: 1000, ..ServerPlan::default() };
    let server = start(plan, echo).await;
    let post = async |coding: &str, body: &[u8]| {
        let head = format!(
            "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        raw(server.address, &[head.as_bytes(), body].concat()).await
    };
    let packed = |coding, input: &[u8]| {
        let mut out = Vec::new();
        Encoder::default().encode(coding, input, &mut out).unwrap();
        out
    };
    for coding in [Coding::Gzip, Coding::Zstd] {
        assert!(
            post(coding.name(), &packed(coding, &[b'x'; 900])).await.ends_with(&"x".repeat(900))
        );
        assert_eq!(status(&post(coding.name(), &packed(coding, &[b'x'; 1001])).await), "413");
        assert_eq!(status(&post(coding.name(), b"nonsense").await), "400");
    }
    assert_eq!(status(&post("identity", &[b'x'; 1000]).await), "200");
    assert_eq!(status(&post("identity", &[b'x'; 1001]).await), "413");
    assert_eq!(status(&post("br", b"x").await), "415");
    let chunked =
        b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = [b"190\r\n".as_slice(), &[b'x'; 0x190], b"\r\n"].concat();
    let endless = [chunked.as_slice(), &chunk, &chunk, &chunk].concat();
    assert_eq!(
        status(&raw(server.address, &endless).await),
        "413",
        "without an end, still refused"
    );
    let head = [b"GET / HTTP/1.1\r\nhost: x\r\nx: ".as_slice(), &[b'y'; 64 << 10]].concat();
    assert_eq!(status(&raw(server.address, &head).await), "431");
}

#[tokio::test(start_paused = true)]
async fn slow_clients_are_let_go() {
    let server = start(ServerPlan::default(), echo).await;
    let begun = Instant::now();
    assert_eq!(raw(server.address, b"").await, "", "says nothing");
    assert_eq!(begun.elapsed().as_secs(), 10);
    let begun = Instant::now();
    assert_eq!(raw(server.address, b"GET / HTTP/1.1\r\nhost").await, "", "never ends its head");
    assert_eq!(begun.elapsed().as_secs(), 10);
    let begun = Instant::now();
    let got =
        raw(server.address, b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhal").await;
    assert_eq!(status(&got), "408", "never ends its body");
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn dribbling_a_head_does_not_buy_time() {
    let server = start(ServerPlan::default(), echo).await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    let begun = Instant::now();
    let (mut reader, mut writer) = tcp.split();
    let dribble = async {
        while writer.write_all(b"x").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    };
    let closed = async { reader.read(&mut [0; 100]).await.unwrap_or(0) };
    tokio::select! { () = dribble => {}, n = closed => assert_eq!(n, 0) }
    assert!((10..=12).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn idle_connections_live_longer_than_a_scrape_interval() {
    let server = start(ServerPlan::default(), echo).await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..3 {
        tcp.write_all(b"GET /m HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(status(&answer(&mut tcp, "/m HTTP/1.1 ").await), "200");
        sleep(Duration::from_secs(60)).await;
    }
    // The second head on a kept connection has its own, shorter time.
    tcp.write_all(b"GET /m HT").await.unwrap();
    let begun = Instant::now();
    assert_eq!(until_closed(&mut tcp).await, "");
    assert_eq!(begun.elapsed().as_secs(), 10);

    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    tcp.write_all(b"GET /m HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    answer(&mut tcp, "/m HTTP/1.1 ").await;
    let begun = Instant::now();
    assert_eq!(until_closed(&mut tcp).await, "");
    assert_eq!(begun.elapsed().as_secs(), 150);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_let_go_and_its_stream_dropped() {
    let (ended, mut end) = mpsc::channel::<()>(1);
    let server = start(ServerPlan::default(), move |_| {
        let held = ended.clone();
        async move {
            Response::new(Body::stream(futures_util::stream::repeat_with(move || {
                assert!(!held.is_closed());
                Bytes::from_static(&[b'x'; 65_536])
            })))
        }
    })
    .await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    let begun = Instant::now();
    tcp.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let Running { address: _, stop, mut tasks } = server;
    sleep(Duration::from_secs(40)).await;
    // The only sender left belongs to the handler; it goes with the server.
    stop.send(()).unwrap();
    assert_eq!(
        tasks.join_next().await.unwrap().unwrap(),
        Served { cut: 0 },
        "nobody left after 30 s of silence"
    );
    assert!(end.recv().await.is_none());
    assert_eq!(begun.elapsed().as_secs(), 40);
}

#[tokio::test]
async fn one_connection_too_many_waits_for_its_turn() {
    let listen = ListenSettings { max_connections: NonZeroU32::MIN, ..ListenSettings::default() };
    let server = start(ServerPlan { listen, ..ServerPlan::default() }, echo).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(b"GET /1 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    answer(&mut first, "/1 HTTP/1.1 ").await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(b"GET /2 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let early = timeout(Duration::from_millis(50), second.readable()).await;
    assert!(early.is_err(), "the slot is taken");
    drop(first);
    answer(&mut second, "/2 HTTP/1.1 ").await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_requests_finish_and_closes_idle_connections() {
    let (go, started) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let gate = (Arc::clone(&go), Arc::clone(&started));
    let server = start(ServerPlan::default(), move |request: Request| {
        let (go, started) = (Arc::clone(&gate.0), Arc::clone(&gate.1));
        async move {
            if request.path() == "/slow" {
                started.notify_one();
                go.notified().await;
            }
            Body::text(StatusCode::OK, "done")
        }
    })
    .await;
    let address = server.address;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    answer(&mut idle, "done").await;
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    started.notified().await;
    let (served, (), ()) = tokio::join!(
        server.stop(),
        async { assert_eq!(until_closed(&mut idle).await, "") },
        async {
            go.notify_one();
            assert!(until_closed(&mut busy).await.ends_with("done"));
        }
    );
    assert_eq!(served, Served { cut: 0 });
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
}

#[tokio::test(start_paused = true)]
async fn the_drain_deadline_cuts_what_does_not_end() {
    let started = Arc::new(Notify::new());
    let gate = Arc::clone(&started);
    let server = start(ServerPlan::default(), move |_| {
        gate.notify_one();
        std::future::pending()
    })
    .await;
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    busy.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    started.notified().await;
    let begun = Instant::now();
    assert_eq!(server.stop().await, Served { cut: 1 });
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert_eq!(until_closed(&mut busy).await, "");
}

#[tokio::test]
async fn a_panicking_handler_costs_one_connection() {
    let server = start(ServerPlan::default(), async |request: Request| {
        assert!(request.path() != "/panic", "as asked");
        Body::text(StatusCode::OK, "fine")
    })
    .await;
    assert_eq!(raw(server.address, b"GET /panic HTTP/1.1\r\nhost: x\r\n\r\n").await, "");
    let got = raw(server.address, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(got.ends_with("fine"));
    assert_eq!(server.stop().await, Served { cut: 0 });
}

#[tokio::test]
async fn chunks_of_a_channel_arrive_as_they_are_sent() {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let slot = Mutex::new(Some(receiver));
    let server = start(ServerPlan::default(), move |_| {
        let receiver = slot.lock().unwrap().take().unwrap();
        async move { Response::new(receiver.into()) }
    })
    .await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    for text in ["one", "two"] {
        sender.send(Bytes::from_static(text.as_bytes())).await.unwrap();
        answer(&mut tcp, &format!("3\r\n{text}\r\n")).await;
    }
    drop(tcp);
    sender.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let (old, new) = (Authority::new(), Authority::new());
    let tls = old.server(&["127.0.0.1"]);
    let listen = ListenSettings { tls: Some(tls.clone()), ..ListenSettings::default() };
    let server = start(ServerPlan { listen, ..ServerPlan::default() }, echo).await;
    let url = format!("https://{}/", server.address);
    let ask = async |authority: &Authority| {
        let settings = ClientSettings { tls: authority.client(), ..ClientSettings::default() };
        let client = Client::new(ClientPlan { settings, ..ClientPlan::default() }).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let got = client
            .connection(&url)
            .unwrap()
            .get(&mut Vec::new(), Limits::bytes(100), deadline)
            .await;
        got.map_err(|error| error.cause())
    };
    assert!(ask(&old).await.is_ok());
    assert_eq!(ask(&new).await.unwrap_err(), "tls");
    let (cert, key) = new.issue("server", &["127.0.0.1"]);
    std::fs::write(&tls.cert_file, "half written").unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(ask(&old).await.is_ok(), "the last good pair stays");
    std::fs::copy(cert, &tls.cert_file).unwrap();
    std::fs::copy(key, &tls.key_file).unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(ask(&new).await.is_ok());
    assert_eq!(ask(&old).await.unwrap_err(), "tls");
}

#[tokio::test]
async fn tls_files_that_do_not_fit_are_named() {
    let authority = Authority::new();
    let mut tls = authority.server(&["localhost"]);
    let bind = async |tls: &ServerTls| {
        let listen = ListenSettings { tls: Some(tls.clone()), ..ListenSettings::default() };
        let error =
            Server::bind(ServerPlan { listen, ..ServerPlan::default() }).await.err().unwrap();
        std::error::Error::source(&error).unwrap().to_string()
    };
    let (_, other_key) = authority.issue("other", &["localhost"]);
    let good_key = std::mem::replace(&mut tls.key_file, other_key.clone());
    assert_eq!(
        bind(&tls).await,
        format!("cannot use {} with {}", tls.cert_file.display(), other_key.display())
    );
    tls.key_file = authority.dir.path().join("missing.key");
    assert_eq!(bind(&tls).await, format!("cannot read {} as PEM", tls.key_file.display()));
    let cert_file = std::mem::replace(&mut tls.cert_file, good_key.clone());
    tls.key_file = cert_file;
    assert_eq!(
        bind(&tls).await,
        format!("expected at least one certificate in {}, found none", good_key.display())
    );
}

#[tokio::test]
async fn a_unix_socket_serves_replaces_what_a_crash_left_and_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let plan = |tls| {
        let listen = format!("unix:{}", path.display());
        let listen = ListenSettings { listen, tls, ..ListenSettings::default() };
        ServerPlan { listen, ..ServerPlan::default() }
    };
    // A socket whose process is gone.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let bound = Server::bind(plan(None)).await.unwrap();
    assert_eq!(bound.address().to_string(), format!("unix:{}", path.display()));
    assert!(bound.address().is_local());
    let taken = Server::bind(plan(None)).await.err().unwrap();
    assert!(matches!(taken, BindError::InUse { .. }), "{taken}");
    let authority = Authority::new();
    let tls = authority.server(&["localhost"]);
    let error = Server::bind(plan(Some(tls))).await.err().unwrap();
    assert!(matches!(error, BindError::TlsOnSocket { .. }), "{error}");

    let (stop, stopped) = oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    let handler = async |request: Request| {
        assert_eq!(request.peer, None);
        echo(request).await
    };
    tasks.spawn(bound.serve(handler, async { stopped.await.unwrap_or_default() }));
    let mut unix = tokio::net::UnixStream::connect(&path).await.unwrap();
    unix.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut got = String::new();
    unix.read_to_string(&mut got).await.unwrap();
    assert!(got.ends_with("/a HTTP/1.1 "), "{got}");
    stop.send(()).unwrap();
    tasks.join_next().await.unwrap().unwrap();
    assert!(!path.exists());
    // What is no socket is not touched.
    std::fs::write(&path, "notes").unwrap();
    let error = Server::bind(plan(None)).await.err().unwrap();
    assert!(matches!(error, BindError::Io { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
}

#[tokio::test]
async fn trailers_follow_a_whole_body() {
    let server = start(ServerPlan::default(), async |_: Request| {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        Response::new(Body::with_trailers(Bytes::from_static(b"hi"), trailers))
    })
    .await;
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut h2, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(tcp)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let ask = http::Request::get("http://x/").body(http_body_util::Empty::<Bytes>::new()).unwrap();
    let got = h2.send_request(ask).await.unwrap();
    let got = http_body_util::BodyExt::collect(got.into_body()).await.unwrap();
    assert_eq!(got.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(got.to_bytes(), "hi");
}

#[tokio::test(start_paused = true)]
async fn an_h2_client_that_is_gone_is_noticed() {
    let server = start(ServerPlan::default(), echo).await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    // The preface and empty settings; then silence, pings unanswered.
    tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let begun = Instant::now();
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = tcp.read(&mut piece).await {
        all.extend_from_slice(&piece[..n]);
    }
    assert!((10..=51).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_client_that_sends_too_much_reads_the_answer_all_the_same() {
    let plan = ServerPlan { body_bytes_max: 1000, ..ServerPlan::default() };
    let server = start(plan, async |mut request: Request| match request.body().await {
        Ok(_) => Body::text(StatusCode::OK, "fine"),
        Err(error) => {
            request.discard().await;
            error.response()
        }
    })
    .await;
    // More than the sockets hold, so that somebody has to read it.
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    let size = 64 << 20;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n"
    );
    tcp.write_all(head.as_bytes()).await.unwrap();
    tcp.write_all(&vec![b'x'; size]).await.expect("all of it is read");
    assert_eq!(status(&until_closed(&mut tcp).await), "413");
    let head = "POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1001\r\n\r\n";
    assert_eq!(status(&raw(server.address, head.as_bytes()).await), "413", "without being sent");
}

#[tokio::test(start_paused = true)]
async fn what_is_thrown_away_does_not_hold_the_answer_up_for_long() {
    let server = start(ServerPlan::default(), async |mut request: Request| {
        request.discard().await;
        Body::text(StatusCode::OK, "no")
    })
    .await;
    let begun = Instant::now();
    let head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx";
    assert_eq!(status(&raw(server.address, head).await), "200");
    assert_eq!(begun.elapsed().as_secs(), 1);
}

#[tokio::test]
async fn large_bodies_wait_for_one_another_and_small_ones_do_not() {
    let gate = Arc::new(Semaphore::new(1));
    let (at_gate, mut came) = mpsc::channel::<bool>(4);
    let go = Arc::new(Notify::new());
    let (shared, wait) = (Arc::clone(&gate), Arc::clone(&go));
    let server = start(ServerPlan::default(), move |mut request: Request| {
        let (gate, at_gate, go) = (Arc::clone(&shared), at_gate.clone(), Arc::clone(&wait));
        async move {
            let gate = BodyGate { small_bytes_max: 100, large: &gate };
            let body = request.gated_body(gate).await.unwrap();
            assert_eq!(body.permit.is_some(), body.bytes.len() > 100);
            at_gate.send(body.permit.is_some()).await.unwrap();
            if body.permit.is_some() {
                go.notified().await;
            }
            Body::text(StatusCode::OK, body.bytes)
        }
    })
    .await;
    let post = |coding: Coding, size: usize| {
        let mut body = Vec::new();
        Encoder::default().encode(coding, &vec![b'x'; size], &mut body).unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-encoding: {}\r\ncontent-length: {}\r\n\r\n",
            coding.name(),
            body.len()
        );
        let address = server.address;
        async move { raw(address, &[head.as_bytes(), &body].concat()).await }
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(post(Coding::Identity, 101));
    assert_eq!(came.recv().await, Some(true));
    // Small before decompression, large after.
    tasks.spawn(post(Coding::Gzip, 5000));
    assert!(post(Coding::Zstd, 100).await.ends_with(&"x".repeat(100)));
    assert_eq!(came.recv().await, Some(false));
    assert!(came.try_recv().is_err(), "the second large one waits");
    go.notify_one();
    assert_eq!(came.recv().await, Some(true));
    go.notify_one();
    while let Some(answer) = tasks.join_next().await {
        assert_eq!(status(&answer.unwrap()), "200");
    }
    assert_eq!(gate.available_permits(), 1);
}
