//! [`Connection`]: requests to one target, one after the other, over one kept connection.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, timeout, timeout_at};

use super::link::Link;
use super::target::Target;
use super::{Answer, FetchError, Inner, Limits, Phase};
use crate::compress::{Coding, DecodeError, decode};

/// 5: enough for any sensible chain (http to https, a slash, a login page), short of a loop.
const REDIRECTS_MAX: usize = 5;

/// Bytes of a body that is of no interest, read only to keep the connection.
const DISCARD_BYTES_MAX: usize = 64 << 10;

/// The same in time: what is already known (the status) must not be lost to a deadline.
const DISCARD_WITHIN: Duration = Duration::from_millis(200);

/// The handle for one target. Keeps one connection open between requests, and the buffers to make them without
/// allocating.
///
/// Every method may be dropped at any await: the connection is then closed, and the next request opens another.
pub struct Connection {
    client: Arc<Inner>,
    target: Target,
    link: Option<Link>,
    /// Compressed bytes of an answer.
    wire: Vec<u8>,
    /// Headers of the last answer; the next request empties and uses the map.
    headers: HeaderMap,
    progress: Progress,
}

/// What happened so far; read by the deadline and by tests.
struct Progress {
    phase: Phase,
    connects: u64,
}

/// What is posted.
#[derive(Clone, Debug)]
pub struct Post {
    /// The bytes, coded already.
    pub body: Bytes,
    /// `Content-Type`.
    pub content_type: HeaderValue,
    /// How `body` is coded.
    pub content_encoding: Coding,
    /// More headers of this request; they replace those of the settings and those above. Never sent to another host,
    /// because posts follow no redirect.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// One request, to be sent as often as redirects and stale connections demand.
struct Order<'a> {
    method: Method,
    post: Option<&'a Post>,
    limits: Limits,
}

/// An answer whose body is still to come, and the link it comes over.
struct Pending {
    response: Response<Incoming>,
    link: Link,
}

impl Connection {
    pub(super) fn new(client: Arc<Inner>, target: Target) -> Self {
        let progress = Progress { phase: Phase::Connecting, connects: 0 };
        Self { client, target, link: None, wire: Vec::new(), headers: HeaderMap::new(), progress }
    }

    /// The address for messages: without the query.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.target.url
    }

    /// How often a connection was opened so far.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.progress.connects
    }

    /// Headers of the last answer; empty when the last request had none.
    #[must_use]
    pub fn answer_headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Gets the target's address. The body replaces what is in `body`; after an error `body` holds nothing of use.
    ///
    /// A request that fails on a kept connection before its answer began is sent once more on a fresh one: the server
    /// hung up while nobody looked. Redirects are followed as the settings say.
    ///
    /// # Errors
    /// No answer by the deadline, any status but 200, more bytes than allowed: see [`FetchError`].
    pub async fn get(
        &mut self,
        body: &mut Vec<u8>,
        limits: Limits,
        deadline: Instant,
    ) -> Result<Answer, FetchError> {
        let order = Order { method: Method::GET, post: None, limits };
        let answer = self.request(order, body, deadline).await?;
        if answer.status != StatusCode::OK {
            let Answer { status, retry_after, .. } = answer;
            let url = self.target.url.clone();
            return Err(FetchError::Status { status: status.as_u16(), retry_after, url });
        }
        Ok(answer)
    }

    /// Posts to the target's address. The answer's body replaces what is in `body`, whatever its status: the caller knows
    /// what the statuses of its protocol mean.
    ///
    /// Redirects are not followed. On a kept connection that turns out to be closed, the request is sent once more only if
    /// not one byte of it was written.
    ///
    /// # Errors
    /// No answer by the deadline, or one that cannot be read: see [`FetchError`]. The server may have got the request.
    pub async fn post(
        &mut self,
        post: &Post,
        body: &mut Vec<u8>,
        limits: Limits,
        deadline: Instant,
    ) -> Result<Answer, FetchError> {
        self.request(Order { method: Method::POST, post: Some(post), limits }, body, deadline).await
    }

    async fn request(
        &mut self,
        order: Order<'_>,
        body: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<Answer, FetchError> {
        body.clear();
        self.progress.phase = Phase::Connecting;
        match timeout_at(deadline, self.follow(&order, body)).await {
            Ok(done) => done,
            Err(_) => Err(FetchError::Timeout {
                phase: self.progress.phase,
                url: self.target.url.clone(),
            }),
        }
    }

    /// Sends the request where redirects lead and reads the answer at the end.
    async fn follow(
        &mut self,
        order: &Order<'_>,
        body: &mut Vec<u8>,
    ) -> Result<Answer, FetchError> {
        let Self { client, target: home, link: kept, wire, headers, progress } = self;
        // Once away from home we never come back with credentials: who sent us away chose the path.
        let mut away: Option<Target> = None;
        let mut path = home.path.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut unkept = None;
            let (target, slot) = match &away {
                None => (&*home, &mut *kept),
                Some(target) => (target, &mut unkept),
            };
            let call = Call { client, target, path: &path, trusted: away.is_none() };
            let Pending { response, mut link } =
                call.exchange(order, slot, headers, progress).await?;
            if !is_redirect(response.status()) || order.method != Method::GET {
                let reading = Reading { target, link: &mut link, wire, headers };
                let (answer, whole) = reading.read(response, body, order).await?;
                *slot = whole.then_some(link);
                return Ok(answer);
            }
            let stay = |found| FetchError::Redirect { found, url: target.url.clone() };
            if !client.follow_redirects {
                return Err(stay("a redirect, which `follow_redirects` forbids"));
            }
            let location = response
                .headers()
                .get(header::LOCATION)
                .and_then(|location| location.to_str().ok());
            let next = location.ok_or_else(|| stay("a redirect without a location"))?;
            let next = target
                .join(next)
                .ok_or_else(|| stay("a redirect to something that is not http"))?;
            *slot = discard(&mut link, response.into_body()).await.then_some(link);
            path = next.path.clone();
            if away.is_some() || !home.same_origin(&next) {
                away = Some(next);
            }
        }
        Err(FetchError::Redirect { found: "more than 5 redirects", url: home.url.clone() })
    }
}

/// One request to one server.
struct Call<'a> {
    client: &'a Inner,
    target: &'a Target,
    path: &'a Uri,
    /// The server is the one that the credentials are for.
    trusted: bool,
}

impl Call<'_> {
    /// Sends the request over the kept link, or a fresh one.
    async fn exchange(
        &self,
        order: &Order<'_>,
        kept: &mut Option<Link>,
        headers: &mut HeaderMap,
        progress: &mut Progress,
    ) -> Result<Pending, FetchError> {
        let mut reused = match kept.take() {
            Some(mut link) => link.ready().await.then_some(link),
            None => None,
        };
        loop {
            let (mut link, fresh) = match reused.take() {
                Some(link) => (link, false),
                None => {
                    progress.phase = Phase::Connecting;
                    progress.connects += 1;
                    (Link::connect(self.client, self.target, self.trusted).await?, true)
                }
            };
            let request = self.build(order, headers).await;
            progress.phase = Phase::Waiting;
            match link.send(request).await {
                Ok(response) => {
                    progress.phase = Phase::Reading;
                    return Ok(Pending { response, link });
                }
                Err(mut failed) => {
                    let unsent = failed.take_message().is_some();
                    let source = failed.into_error();
                    // A parse error means that an answer had begun.
                    let repeatable = unsent || (order.method == Method::GET && !source.is_parse());
                    if fresh || !repeatable {
                        return Err(FetchError::Protocol { url: self.target.url.clone(), source });
                    }
                }
            }
        }
    }

    /// Fills the header map kept from the last answer: no allocation once it has grown.
    async fn build(&self, order: &Order<'_>, headers: &mut HeaderMap) -> Request<Full<Bytes>> {
        let mut map = std::mem::take(headers);
        map.clear();
        map.insert(header::HOST, self.target.host_header.clone());
        for (name, value) in &self.client.headers {
            map.insert(name, value.clone());
        }
        if self.trusted {
            for (name, value) in &self.client.private_headers {
                map.insert(name, value.clone());
            }
            if let Some(authorization) = self.client.credentials.header().await {
                map.insert(header::AUTHORIZATION, authorization);
            }
        }
        let mut body = Bytes::new();
        if let Some(post) = order.post {
            body = post.body.clone();
            map.insert(header::CONTENT_TYPE, post.content_type.clone());
            if post.content_encoding != Coding::Identity {
                let name = HeaderValue::from_static(post.content_encoding.name());
                map.insert(header::CONTENT_ENCODING, name);
            }
            for (name, value) in &post.headers {
                map.insert(name, value.clone());
            }
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = order.method.clone();
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = map;
        request
    }
}

/// The reading of one answer.
struct Reading<'a> {
    target: &'a Target,
    link: &'a mut Link,
    wire: &'a mut Vec<u8>,
    headers: &'a mut HeaderMap,
}

impl Reading<'_> {
    /// Reads and decodes the body. The flag says whether the link can be used again.
    async fn read(
        self,
        response: Response<Incoming>,
        body: &mut Vec<u8>,
        order: &Order<'_>,
    ) -> Result<(Answer, bool), FetchError> {
        let Self { target, link, wire, headers } = self;
        let url = || target.url.clone();
        let (parts, incoming) = response.into_parts();
        let coding = match parts.headers.get(header::CONTENT_ENCODING) {
            None => Coding::Identity,
            Some(value) => value.to_str().ok().and_then(Coding::parse).ok_or_else(|| {
                let found = String::from_utf8_lossy(value.as_bytes()).into_owned();
                FetchError::Coding { found, url: url() }
            })?,
        };
        let mut answer = Answer {
            status: parts.status,
            content_type: parts.headers.get(header::CONTENT_TYPE).cloned(),
            content_encoding: coding,
            retry_after: retry_after(&parts.headers),
            wire_bytes: 0,
        };
        *headers = parts.headers;
        if order.method == Method::GET && answer.status != StatusCode::OK {
            return Ok((answer, discard(link, incoming).await));
        }
        let Limits { body_bytes_max, wire_bytes_max } = order.limits;
        if coding == Coding::Identity {
            collect(link, incoming, body, body_bytes_max, target).await?;
            answer.wire_bytes = body.len();
            return Ok((answer, true));
        }
        wire.clear();
        collect(link, incoming, wire, wire_bytes_max, target).await?;
        answer.wire_bytes = wire.len();
        // No body at all, as with 204, is nothing to decode.
        if !wire.is_empty() {
            decode(coding, wire, body, body_bytes_max).map_err(|source| match source {
                DecodeError::TooLarge { limit } => {
                    FetchError::TooLarge { limit, place: "after decompression", url: url() }
                }
                source => FetchError::Decode { url: url(), source },
            })?;
        }
        Ok((answer, true))
    }
}

/// Reads a body into a buffer.
async fn collect(
    link: &mut Link,
    mut incoming: Incoming,
    out: &mut Vec<u8>,
    limit: usize,
    target: &Target,
) -> Result<(), FetchError> {
    let too_large =
        || FetchError::TooLarge { limit, place: "on the wire", url: target.url.clone() };
    let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(too_large());
    }
    // A server that only announces gets no more than this.
    out.reserve(announced.min(1 << 20));
    while let Some(chunk) = link.chunk(&mut incoming).await {
        let chunk =
            chunk.map_err(|source| FetchError::Protocol { url: target.url.clone(), source })?;
        if out.len() + chunk.len() > limit {
            return Err(too_large());
        }
        out.extend_from_slice(&chunk);
    }
    Ok(())
}

/// Reads a body that is of no interest. Says whether it ended, so that the link can be used again.
async fn discard(link: &mut Link, mut incoming: Incoming) -> bool {
    let whole = async {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(chunk) = link.chunk(&mut incoming).await {
            let Some(rest) = chunk.ok().and_then(|chunk| left.checked_sub(chunk.len())) else {
                return false;
            };
            left = rest;
        }
        true
    };
    timeout(DISCARD_WITHIN, whole).await.unwrap_or(false)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// RFC 9110 section 10.2.3: seconds, or a date; one that has passed means now.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_ask_for_seconds_or_a_date() {
        let ask = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            retry_after(&headers)
        };
        assert_eq!(ask("7"), Some(Duration::from_secs(7)));
        assert_eq!(ask("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
        let found = ask(&later).unwrap().as_secs();
        assert!((3590..=3600).contains(&found), "{found}");
        assert_eq!(ask("soon"), None);
    }
}
