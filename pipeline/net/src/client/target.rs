//! [`Target`]: an address taken apart once, so that a request only clones reference-counted pieces of it.

use std::net::SocketAddr;

use http::uri::{Parts, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use rustls::pki_types::ServerName;

use super::UrlError;

/// Where requests go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// The one address of the host to connect to. `None`: whatever the name resolves to.
    pub(super) address: Option<SocketAddr>,
    /// The name that the certificate must carry. `None`: plain HTTP.
    pub(super) server_name: Option<ServerName<'static>>,
    pub(super) host_header: HeaderValue,
    /// Path and query, as the request line has it.
    pub(super) path: Uri,
    /// For messages: without the query.
    pub(super) url: String,
}

impl Target {
    /// Takes an absolute address apart. `server_name` replaces the host in the check of the certificate.
    pub(super) fn parse(url: &str, server_name: Option<&str>) -> Result<Self, UrlError> {
        let form = || UrlError::Form {
            found: url.split(['?', '#']).next().unwrap_or_default().to_owned(),
        };
        let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
        if after_scheme
            .split(['/', '?', '#'])
            .next()
            .is_some_and(|authority| authority.contains('@'))
        {
            return Err(UrlError::Credentials);
        }
        let uri: Uri = url.parse().map_err(|_| form())?;
        let Parts { scheme: Some(scheme), authority: Some(authority), path_and_query, .. } =
            uri.into_parts()
        else {
            return Err(form());
        };
        let tls = if scheme == Scheme::HTTPS {
            true
        } else if scheme == Scheme::HTTP {
            false
        } else {
            return Err(form());
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (explicit, usual) = (authority.port_u16(), if tls { 443 } else { 80 });
        // `host:` and `host:99999` have a port that is none.
        if host.is_empty()
            || (explicit.is_none() && authority.as_str().len() != authority.host().len())
        {
            return Err(form());
        }
        let port = explicit.unwrap_or(usual);
        let host_text = if port == usual { authority.host() } else { authority.as_str() };
        let host_header = HeaderValue::from_str(host_text).map_err(|_| form())?;
        let server_name = tls.then(|| {
            let name = server_name.unwrap_or(&host);
            ServerName::try_from(name.to_owned())
                .map_err(|_| UrlError::ServerName { found: name.to_owned() })
        });
        let path_and_query = path_and_query.unwrap_or(PathAndQuery::from_static("/"));
        let url = format!("{scheme}://{authority}{}", path_and_query.path());
        Ok(Self {
            host,
            port,
            address: None,
            server_name: server_name.transpose()?,
            host_header,
            path: path_and_query.into(),
            url,
        })
    }

    /// Says whether credentials for this target may go to the other one.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        let tls = |target: &Self| target.server_name.is_some();
        self.host.eq_ignore_ascii_case(&other.host)
            && self.port == other.port
            && tls(self) == tls(other)
    }

    /// Resolves a `Location`, RFC 3986 section 5.2. `None`: not something that can be followed.
    ///
    /// `server_name` is only kept where the origin stays.
    pub(super) fn join(&self, location: &str) -> Option<Self> {
        let scheme = if self.server_name.is_some() { "https" } else { "http" };
        let absolute = if location.contains("://") && !location.starts_with('/') {
            location.to_owned()
        } else if let Some(rest) = location.strip_prefix("//") {
            format!("{scheme}://{rest}")
        } else {
            let authority = self.url.split('/').nth(2)?;
            let path = self.path.path();
            let merged = if location.starts_with('/') {
                location.to_owned()
            } else if location.is_empty() || location.starts_with(['?', '#']) {
                format!("{path}{location}")
            } else {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                format!("{folder}/{location}")
            };
            format!("{scheme}://{authority}{}", without_dots(&merged))
        };
        let mut next = Self::parse(&absolute, None).ok()?;
        if self.same_origin(&next) {
            next.server_name.clone_from(&self.server_name);
        }
        Some(next)
    }
}

/// Removes `.` and `..` segments from the path of `path?query`.
fn without_dots(path: &str) -> String {
    let end = path.find(['?', '#']).unwrap_or(path.len());
    let (path, query) = path.split_at_checked(end).unwrap_or((path, ""));
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if segments.peek().is_none() {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let got = match Target::parse(url, None) {
            Ok(target) => format!(
                "{} {} {} {} {}",
                target.host,
                target.port,
                target.host_header.to_str().unwrap(),
                target.path,
                if target.server_name.is_some() { "tls" } else { "plain" }
            ),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected, "{url}");
    }

    #[test]
    fn addresses() {
        check("http://pod-1:8000/metrics?x=1#f", "pod-1 8000 pod-1:8000 /metrics?x=1 plain");
        check("https://Example.com", "Example.com 443 Example.com / tls");
        check("https://example.com:443/", "example.com 443 example.com / tls");
        check("http://[::1]:9090/m", "::1 9090 [::1]:9090 /m plain");
        check("https://[::1]/m", "::1 443 [::1] /m tls");
        let bad = |found| {
            format!("expected an address such as http://host:8000/metrics, found `{found}`")
        };
        check("pod-1:8000/metrics?key=secret", &bad("pod-1:8000/metrics"));
        check("ftp://host/", &bad("ftp://host/"));
        check("/metrics", &bad("/metrics"));
        check("http://host:99999/", &bad("http://host:99999/"));
        check("http://host:/", &bad("http://host:/"));
        check("", &bad(""));
        check("user:pw@host/", "credentials in an address end up in logs; use `basic_auth`");
        check("http://user:pw@host/", "credentials in an address end up in logs; use `basic_auth`");
    }

    #[test]
    fn locations() {
        let target = Target::parse("http://h:8000/a/b?q=1", None).unwrap();
        let join = |location: &str| {
            let next = target.join(location)?;
            Some(format!("{}:{}{}", next.host, next.port, next.path))
        };
        let checks = [
            ("/m", "h:8000/m"),
            ("m", "h:8000/a/m"),
            ("../m?x=1", "h:8000/m?x=1"),
            ("./", "h:8000/a/"),
            ("../../../..", "h:8000/"),
            ("?z", "h:8000/a/b?z"),
            ("//other/x", "other:80/x"),
            ("https://other:1/x", "other:1/x"),
            ("/login?next=http://elsewhere/", "h:8000/login?next=http://elsewhere/"),
        ];
        for (location, expected) in checks {
            assert_eq!(join(location).as_deref(), Some(expected), "{location}");
        }
        assert_eq!(join("file:///etc/passwd"), None);
        assert_eq!(join("http://u:p@h:8000/"), None);
    }

    #[test]
    fn origins() {
        let same =
            |a, b| Target::parse(a, None).unwrap().same_origin(&Target::parse(b, None).unwrap());
        assert!(same("http://h/a", "http://H:80/b"));
        assert!(!same("http://h/", "https://h/"));
        assert!(!same("http://h:443/", "https://h/"));
        assert!(!same("http://h/", "http://h:81/"));
        assert!(!same("http://h/", "http://h.evil/"));
    }
}
