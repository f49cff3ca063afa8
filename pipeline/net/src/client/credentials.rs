//! The `Authorization` header of a client, fixed or from a file that is read again.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ClientSettings;
use crate::secret::Secret;
use crate::watch::Watched;

/// A file of credentials is read again after this long even if it seems the same.
const REREAD_AFTER: Duration = Duration::from_secs(30);

/// 64 KiB: no header of that size gets through anywhere; what is longer is the wrong file.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// An `Authorization` header of any scheme: exactly one of `credentials` and `credentials_file`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthorizationSettings {
    /// The scheme, such as `Bearer` or `Api-Key`.
    #[serde(rename = "type")]
    pub scheme: String,
    /// What follows the scheme.
    pub credentials: Option<Secret>,
    /// File with what follows the scheme; read again when it changes and every 30 s.
    pub credentials_file: Option<PathBuf>,
}

impl Default for AuthorizationSettings {
    /// `Bearer`, as in Prometheus.
    fn default() -> Self {
        Self { scheme: "Bearer".to_owned(), credentials: None, credentials_file: None }
    }
}

/// User name and password: at most one of `password` and `password_file`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BasicAuthSettings {
    /// The user name, without a colon.
    pub username: String,
    /// The password.
    pub password: Option<Secret>,
    /// File with the password; read again when it changes and every 30 s.
    pub password_file: Option<PathBuf>,
}

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// More than one kind.
    #[error(
        "expected one of `authorization`, `basic_auth`, `bearer_token` and `bearer_token_file`, found {found}"
    )]
    Several {
        /// How many there are.
        found: usize,
    },
    /// Both a value and a file, or neither.
    #[error("expected either `{value}` or `{file}`, found {found}")]
    Source {
        /// The setting with the value.
        value: &'static str,
        /// The setting with the file.
        file: &'static str,
        /// `both` or `neither`.
        found: &'static str,
    },
    /// A user name with a colon, or a scheme with anything but letters, digits and `-`.
    #[error("expected {expected} in `{setting}`, found something else")]
    Malformed {
        /// The setting.
        setting: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
    /// A line break or another control character in the middle, or nothing at all.
    #[error("expected one line of text in {place}, found none or more")]
    Unusable {
        /// The setting or file.
        place: String,
    },
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The value of `Authorization`, if there is one.
pub(super) enum Credentials {
    None,
    Fixed(HeaderValue),
    File(Watched<HeaderValue, CredentialError>),
}

/// How text becomes a header.
#[derive(Clone)]
enum Shape {
    Scheme(String),
    Basic { username: String },
}

impl Credentials {
    /// Reads the file, if there is one; blocks.
    pub(super) fn new(settings: &ClientSettings) -> Result<Self, CredentialError> {
        let ClientSettings { authorization, basic_auth, bearer_token, bearer_token_file, .. } =
            settings;
        let kinds = [
            authorization.is_some(),
            basic_auth.is_some(),
            bearer_token.is_some(),
            bearer_token_file.is_some(),
        ];
        let found = kinds.into_iter().filter(|&there| there).count();
        if found > 1 {
            return Err(CredentialError::Several { found });
        }
        if let Some(AuthorizationSettings { scheme, credentials, credentials_file }) = authorization
        {
            if scheme.is_empty()
                || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            {
                return Err(CredentialError::Malformed {
                    setting: "authorization.type",
                    expected: "a scheme",
                });
            }
            let names = ("credentials", "credentials_file");
            return Self::open(
                Shape::Scheme(scheme.clone()),
                credentials.as_ref(),
                credentials_file.as_deref(),
                names,
            );
        }
        if let Some(BasicAuthSettings { username, password, password_file }) = basic_auth {
            if username.contains(':') {
                let expected = "a name without a colon";
                return Err(CredentialError::Malformed {
                    setting: "basic_auth.username",
                    expected,
                });
            }
            let shape = Shape::Basic { username: username.clone() };
            let none = Secret::default();
            let password = password.as_ref().or(password_file.is_none().then_some(&none));
            return Self::open(
                shape,
                password,
                password_file.as_deref(),
                ("password", "password_file"),
            );
        }
        if found == 0 {
            return Ok(Self::None);
        }
        let names = ("bearer_token", "bearer_token_file");
        Self::open(
            Shape::Scheme("Bearer".to_owned()),
            bearer_token.as_ref(),
            bearer_token_file.as_deref(),
            names,
        )
    }

    fn open(
        shape: Shape,
        value: Option<&Secret>,
        file: Option<&Path>,
        names: (&'static str, &'static str),
    ) -> Result<Self, CredentialError> {
        match (value, file) {
            (Some(value), None) => {
                shape.header(value.expose(), || format!("`{}`", names.0)).map(Self::Fixed)
            }
            (None, Some(file)) => {
                let file = file.to_owned();
                let watched = Watched::open(vec![file.clone()], Some(REREAD_AFTER), move || {
                    let text =
                        read(&file).map_err(|source| super::error::unreadable(&file, source))?;
                    shape.header(text.trim(), || file.display().to_string())
                });
                watched.map(Self::File)
            }
            (value, _) => {
                let found = if value.is_some() { "both" } else { "neither" };
                Err(CredentialError::Source { value: names.0, file: names.1, found })
            }
        }
    }

    /// The header as the file has it now.
    pub(super) async fn header(&self) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::Fixed(value) => Some(value.clone()),
            Self::File(watched) => Some((*watched.current().await).clone()),
        }
    }
}

impl Shape {
    fn header(
        &self,
        text: &str,
        place: impl Fn() -> String,
    ) -> Result<HeaderValue, CredentialError> {
        let value = match self {
            Self::Scheme(_) if text.is_empty() => {
                return Err(CredentialError::Unusable { place: place() });
            }
            Self::Scheme(scheme) => format!("{scheme} {text}"),
            Self::Basic { username } => {
                format!("Basic {}", base64(format!("{username}:{text}").as_bytes()))
            }
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| CredentialError::Unusable { place: place() })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn read(file: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(file)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Base64 with padding, RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = (0..3)
            .fold(0u32, |word, at| word << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let six = usize::try_from(word >> (18 - 6 * at) & 63).unwrap_or(0);
            text.push(if at <= chunk.len() { char::from(ALPHABET[six]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let settings: ClientSettings = serde_json::from_str(json).unwrap();
        let got = match Credentials::new(&settings) {
            Ok(Credentials::Fixed(value)) => value.to_str().unwrap().to_owned(),
            Ok(Credentials::None) => "none".to_owned(),
            Ok(Credentials::File(_)) => "a file".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn settings_become_a_header() {
        check("{}", "none");
        check(r#"{"bearer_token": "abc"}"#, "Bearer abc");
        check(
            r#"{"authorization": {"type": "Api-Key", "credentials": "abcd.1234"}}"#,
            "Api-Key abcd.1234",
        );
        check(r#"{"authorization": {"credentials": "k"}}"#, "Bearer k");
        check(
            r#"{"basic_auth": {"username": "Aladdin", "password": "open sesame"}}"#,
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        );
        check(r#"{"basic_auth": {"username": "a"}}"#, "Basic YTo=");
    }

    #[test]
    fn contradictions_are_named() {
        check(
            r#"{"bearer_token": "a", "basic_auth": {}}"#,
            "expected one of `authorization`, `basic_auth`, `bearer_token` and `bearer_token_file`, found 2",
        );
        check(
            r#"{"authorization": {}}"#,
            "expected either `credentials` or `credentials_file`, found neither",
        );
        check(
            r#"{"basic_auth": {"password": "p", "password_file": "f"}}"#,
            "expected either `password` or `password_file`, found both",
        );
        check(
            r#"{"bearer_token": "a\nb"}"#,
            "expected one line of text in `bearer_token`, found none or more",
        );
        check(
            r#"{"bearer_token": ""}"#,
            "expected one line of text in `bearer_token`, found none or more",
        );
        check(r#"{"bearer_token_file": "/does/not/exist"}"#, "cannot read /does/not/exist");
        check(
            r#"{"basic_auth": {"username": "a:b"}}"#,
            "expected a name without a colon in `basic_auth.username`, found something else",
        );
    }
}
