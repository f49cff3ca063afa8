//! What can go wrong with a client, classified where it is known.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::CredentialError;
use crate::compress::DecodeError;
use crate::tls::TlsError;

/// Why a [`super::ClientPlan`] cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The TLS files or settings.
    #[error("cannot use the tls settings")]
    Tls {
        /// Why.
        source: TlsError,
    },
    /// Credentials that contradict each other or cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// A header with an impossible name.
    #[error("expected a header name in `headers`, found `{name}`")]
    HeaderName {
        /// The name.
        name: String,
    },
    /// A header with a line break or the like in its value.
    #[error("expected a value without control characters for header `{name}`")]
    HeaderValue {
        /// The name.
        name: String,
    },
    /// A header that the client makes itself.
    #[error("header `{name}` cannot be set, it follows from the request")]
    HeaderReserved {
        /// The name.
        name: String,
    },
    /// Credentials have settings of their own.
    #[error(
        "header `authorization` cannot be set in `headers`; use `authorization`, `basic_auth` or `bearer_token`"
    )]
    HeaderAuthorization,
}

/// Why an address cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not an absolute http or https address.
    #[error("expected an address such as http://host:8000/metrics, found `{found}`")]
    Form {
        /// What was there.
        found: String,
    },
    /// `https` for a host that no certificate can be made out to, or an impossible `server_name`.
    #[error("expected a host name or an ip address for tls, found `{found}`")]
    ServerName {
        /// What was there.
        found: String,
    },
    /// `user:password@host`. The address is not repeated here.
    #[error("credentials in an address end up in logs; use `basic_auth`")]
    Credentials,
}

/// Where a request was when its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// DNS, TCP, TLS.
    Connecting,
    /// The request is on its way, no answer yet.
    Waiting,
    /// The body of the answer.
    Reading,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "a connection to",
            Self::Waiting => "an answer from",
            Self::Reading => "the whole body from",
        })
    }
}

/// Why there is no answer. `url` is always without its query, which may hold secrets.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The host has no address.
    #[error("expected an address for host {host}, found none")]
    Dns {
        /// The host.
        host: String,
        /// What the resolver says.
        source: Option<io::Error>,
    },
    /// Nobody accepts connections there, or there is no way there.
    #[error("expected a server at {url}, found none")]
    Refused {
        /// The address.
        url: String,
        /// What the system says.
        source: io::Error,
    },
    /// The deadline, or the connect timeout.
    #[error("expected {phase} {url} in time")]
    Timeout {
        /// What was missing.
        phase: Phase,
        /// The address.
        url: String,
    },
    /// The TLS handshake failed.
    #[error("expected a trusted tls connection to {url}, found none")]
    Tls {
        /// The address.
        url: String,
        /// Certificate, protocol or connection trouble.
        source: io::Error,
    },
    /// The TLS files of this side cannot be used.
    #[error("cannot use the tls settings for {url}")]
    TlsFiles {
        /// The address.
        url: String,
        /// Why.
        source: TlsError,
    },
    /// An answer, but not the one wanted.
    #[error("expected status 200 from {url}, found {status}")]
    Status {
        /// The status.
        status: u16,
        /// `Retry-After`, a number of seconds or the time until a date.
        retry_after: Option<Duration>,
        /// The address.
        url: String,
    },
    /// The body is longer than allowed.
    #[error("expected at most {limit} bytes {place} from {url}, found more")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// `on the wire` or `after decompression`.
        place: &'static str,
        /// The address.
        url: String,
    },
    /// A content coding that was not asked for.
    #[error("expected content-encoding zstd, gzip or identity from {url}, found `{found}`")]
    Coding {
        /// The value of the header.
        found: String,
        /// The address.
        url: String,
    },
    /// A damaged body.
    #[error("cannot decode the body from {url}")]
    Decode {
        /// The address.
        url: String,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The server does not speak HTTP, or hung up before the end of its answer.
    #[error("expected a complete http answer from {url}, found none")]
    Protocol {
        /// The address.
        url: String,
        /// What happened.
        source: hyper::Error,
    },
    /// A redirect that is not followed.
    #[error("expected an answer from {url}, found {found}")]
    Redirect {
        /// Why it is not followed.
        found: &'static str,
        /// The address that redirects.
        url: String,
    },
}

impl FetchError {
    /// The cause as a word for a metric label: one of `dns`, `refused`, `timeout`, `tls`, `status`, `too_large`, `decode`,
    /// `protocol`, `redirect`.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Dns { .. } => "dns",
            Self::Refused { .. } => "refused",
            Self::Timeout { .. } => "timeout",
            Self::Tls { .. } | Self::TlsFiles { .. } => "tls",
            Self::Status { .. } => "status",
            Self::TooLarge { .. } => "too_large",
            Self::Coding { .. } | Self::Decode { .. } => "decode",
            Self::Protocol { .. } => "protocol",
            Self::Redirect { .. } => "redirect",
        }
    }
}

/// A file of credentials that cannot be read, for [`CredentialError`].
pub(super) fn unreadable(path: &std::path::Path, source: io::Error) -> CredentialError {
    CredentialError::Read { path: PathBuf::from(path), source }
}
