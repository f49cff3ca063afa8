//! One careful question to a port nobody told us about: `GET /metrics`, no credentials, little time, little memory.
//!
//! It is not the scrape client: it hangs up on the first bytes that are not HTTP, never retries, and gives credentials
//! to nobody.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of a page is looked at. The largest page of an engine is below 300 kB.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Starts of the family names of vLLM (bare and behind Ray), SGLang and its router.
const ENGINE_FAMILIES: [&[u8]; 9] = [
    b"vllm:",
    b"vllm_",
    b"sglang:",
    b"sglang_",
    b"ray_vllm",
    b"sgl_router_",
    b"sgl_tokenizer_",
    b"smg_",
    b"router_mesh_",
];

/// Families that only somebody who scrapes himself has: us, an agent, a federation.
const SECOND_HAND: [&[u8]; 2] = [b"scrape_samples_scraped", b"inferometer_"];

/// What a port turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// An engine or a router of engines.
    Engine,
    /// An HTTP server with another page, or another status.
    Other(u16),
    /// Something that does not speak HTTP.
    NotHttp,
    /// Nothing within the time, or nobody there.
    Silent,
}

/// Asks `port` at `ip`, and at `::1` when nobody is there. Returns who answered.
pub(super) async fn probe(ip: IpAddr, port: u16, path: &str) -> (IpAddr, Verdict) {
    let (ip, stream) = match timeout(PROBE_TIMEOUT, TcpStream::connect((ip, port))).await {
        Ok(Ok(stream)) => (ip, stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused && ip.is_ipv4() => {
            let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
            match timeout(PROBE_TIMEOUT, TcpStream::connect((v6, port))).await {
                Ok(Ok(stream)) => (v6, stream),
                _ => return (ip, Verdict::Silent),
            }
        }
        _ => return (ip, Verdict::Silent),
    };
    let first = ask(stream, SocketAddr::new(ip, port), path).await;
    if !matches!(first, Verdict::Other(307 | 308)) {
        return (ip, first);
    }
    // vLLM 0.3.3 to 0.4.1 redirects /metrics to /metrics/; nothing else is followed.
    let Ok(Ok(stream)) = timeout(PROBE_TIMEOUT, TcpStream::connect((ip, port))).await else {
        return (ip, Verdict::Silent);
    };
    (ip, ask(stream, SocketAddr::new(ip, port), &format!("{path}/")).await)
}

async fn ask(mut stream: TcpStream, at: SocketAddr, path: &str) -> Verdict {
    let mut page = Vec::new();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {at}\r\nAccept: text/plain;version=0.0.4\r\nUser-Agent: inferometer/{}\r\nConnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION"),
    );
    let answer = async {
        stream.write_all(request.as_bytes()).await?;
        while page.len() < PAGE_BYTES_MAX && !is_complete(&page) {
            if stream.read_buf(&mut page).await? == 0 || !may_be_http(&page) {
                break;
            }
        }
        io::Result::Ok(())
    };
    // Late, cut short or too long: what is there is judged all the same.
    let in_time = timeout(PROBE_TIMEOUT, answer).await.is_ok_and(|answer| answer.is_ok());
    match (page.is_empty(), in_time) {
        // Hung up without a word: a protocol in which the client has to say something else.
        (true, true) => Verdict::NotHttp,
        (true, false) => Verdict::Silent,
        (false, _) => judge(&page),
    }
}

fn may_be_http(page: &[u8]) -> bool {
    const START: &[u8] = b"HTTP/1.";
    page.iter().zip(START).all(|(a, b)| a == b)
}

/// True when the body has the length that its head promises; without a promise the end of the connection tells.
fn is_complete(page: &[u8]) -> bool {
    let Some(head_len) = page.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let (head, body) = page.split_at(head_len);
    let length = head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| body.len().saturating_sub(4) >= length)
}

fn judge(page: &[u8]) -> Verdict {
    if !may_be_http(page) {
        return Verdict::NotHttp;
    }
    let status = page.get(9..12).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
    match status {
        Some(200) if is_engine_page(page) => Verdict::Engine,
        Some(status) => Verdict::Other(status),
        None => Verdict::NotHttp,
    }
}

/// Looks for families of engines at the beginnings of lines; the head of the answer and the lengths between chunks do no
/// harm there.
fn is_engine_page(page: &[u8]) -> bool {
    let mut engine = false;
    for line in page.split(|byte| *byte == b'\n') {
        let name =
            line.strip_prefix(b"# TYPE ").or_else(|| line.strip_prefix(b"# HELP ")).unwrap_or(line);
        if SECOND_HAND.iter().any(|family| name.starts_with(family)) {
            return false;
        }
        engine |= ENGINE_FAMILIES.iter().any(|family| name.starts_with(family));
    }
    engine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_engines_and_of_others() {
        let page = |body: &str| judge(format!("HTTP/1.1 200 OK\r\nA: b\r\n\r\n{body}").as_bytes());
        assert_eq!(page("# HELP vllm:num_requests_running x\n"), Verdict::Engine);
        assert_eq!(page("python_info 1\n1f\r\nsglang_token_usage{a=\"b\"} 0.5\n"), Verdict::Engine);
        assert_eq!(page("# TYPE smg_http_requests_total counter\n"), Verdict::Engine);
        assert_eq!(
            page("# TYPE vllm:x gauge\n# TYPE scrape_samples_scraped gauge\n"),
            Verdict::Other(200)
        );
        assert_eq!(page("about vllm: it serves\n<html>"), Verdict::Other(200));
        assert_eq!(judge(b"HTTP/1.1 401 Unauthorized\r\n\r\nvllm:\n"), Verdict::Other(401));
        assert_eq!(judge(b"\x15\x03\x03\x00\x02\x02\x46"), Verdict::NotHttp);
        assert_eq!(judge(b"HTTP/1."), Verdict::NotHttp);
    }

    #[test]
    fn a_promised_length_ends_the_answer() {
        assert!(is_complete(b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 3\r\n\r\nabc"));
        assert!(!is_complete(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc"));
        assert!(!is_complete(b"HTTP/1.1 200 OK\r\n\r\nabc"));
        assert!(!is_complete(b"HTTP/1.1 200 OK\r\nContent-Length: 4"));
    }
}
