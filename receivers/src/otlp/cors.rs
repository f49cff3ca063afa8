//! [`Cors`]: which web pages may send. OTLP says nothing about it; browsers ask all the same.
//! <https://fetch.spec.whatwg.org/#http-cors-protocol>

use http::{HeaderValue, Method, StatusCode, header};
use pipeline_net::{Body, Request, Response};

use super::config::CorsConfig;

/// The answers to browsers.
#[derive(Debug)]
pub(super) struct Cors {
    origins: Vec<String>,
    headers: HeaderValue,
    max_age: HeaderValue,
}

impl Cors {
    pub(super) fn new(config: &CorsConfig) -> Self {
        let mut headers = "content-type, content-encoding, authorization".to_owned();
        for name in &config.headers {
            headers.push_str(", ");
            headers.push_str(name);
        }
        // The names were checked with the configuration.
        let headers = HeaderValue::try_from(headers)
            .unwrap_or_else(|_| HeaderValue::from_static("content-type"));
        let max_age = HeaderValue::from(config.max_age.get().as_secs());
        Self { origins: config.origins.clone(), headers, max_age }
    }

    /// The origin of a request, where it may send.
    pub(super) fn origin(&self, request: &Request) -> Option<HeaderValue> {
        let origin = request.head.headers.get(header::ORIGIN)?;
        let text = origin.to_str().ok()?;
        self.origins.iter().any(|pattern| fits(pattern, text)).then(|| origin.clone())
    }

    /// The answer to a browser that asks first. `None`: this is no such question.
    pub(super) fn preflight(
        &self,
        request: &Request,
        origin: Option<&HeaderValue>,
    ) -> Option<Response> {
        let asks = *request.method() == Method::OPTIONS
            && request.head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !asks {
            return None;
        }
        let Some(origin) = origin else {
            let text = "this origin may not send; see `cors.origins` of the receiver\n";
            return Some(Body::text(StatusCode::FORBIDDEN, text));
        };
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        self.mark(&mut response, Some(origin.clone()));
        let headers = response.headers_mut();
        let methods = HeaderValue::from_static("POST");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone());
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        Some(response)
    }

    /// Lets the page of `origin` read the answer.
    pub(super) fn mark(&self, response: &mut Response, origin: Option<HeaderValue>) {
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let exposed = HeaderValue::from_static("retry-after");
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }
}

/// Whether `origin` is what `pattern` says, of which one `*` stands for anything.
fn fits(pattern: &str, origin: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern.eq_ignore_ascii_case(origin),
        Some((before, after)) => {
            let rest = origin.strip_prefix(before);
            rest.is_some_and(|rest| rest.len() > after.len() && rest.ends_with(after))
                || pattern == "*"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn origins_fit_whole() {
        assert!(fits("https://a.example.com", "https://a.example.com"));
        assert!(fits("https://*.example.com", "https://a.b.example.com"));
        assert!(fits("http://localhost:*", "http://localhost:8080"));
        assert!(fits("*", "null"));
        for (pattern, origin) in [
            ("https://a.example.com", "https://a.example.com.evil.net"),
            ("https://*.example.com", "https://.example.com"),
            ("https://*.example.com", "https://example.com"),
            ("https://*.example.com", "http://a.example.com"),
            ("https://*.example.com", "https://a.example.com.evil.net"),
        ] {
            assert!(!fits(pattern, origin), "{pattern} {origin}");
        }
    }
}
