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

/// One of the settings that make an `Authorization` header.
struct Kind<'a> {
    /// Its key, and whether the keys of its value and file are inside of it.
    key: &'static str,
    is_table: bool,
    shape: Shape,
    value: Option<&'a Secret>,
    file: Option<&'a Path>,
    /// The keys of its value and file.
    names: (&'static str, &'static str),
}

impl Kind<'_> {
    fn open(&self) -> Result<Credentials, CredentialError> {
        Credentials::open(self.shape.clone(), self.value, self.file, self.names)
    }

    /// Where the fault is that opening showed.
    fn place(&self, error: &CredentialError) -> Vec<&'static str> {
        let is_at_the_file = match error {
            CredentialError::Source { found, .. } if *found == "neither" => return vec![self.key],
            CredentialError::Source { .. } => true,
            _ => self.file.is_some(),
        };
        let name = if is_at_the_file { self.names.1 } else { self.names.0 };
        if self.is_table { vec![self.key, name] } else { vec![name] }
    }
}

/// The kinds that are set. A file and a value of a bearer token are two of them.
fn kinds(settings: &ClientSettings) -> Vec<Kind<'_>> {
    let ClientSettings { authorization, basic_auth, bearer_token, bearer_token_file, .. } =
        settings;
    let mut kinds = Vec::new();
    kinds.extend(authorization.as_ref().map(|header| Kind {
        key: "authorization",
        is_table: true,
        shape: Shape::Scheme(header.scheme.clone()),
        value: header.credentials.as_ref(),
        file: header.credentials_file.as_deref(),
        names: ("credentials", "credentials_file"),
    }));
    kinds.extend(basic_auth.as_ref().map(|basic| {
        static NONE: Secret = Secret::EMPTY;
        Kind {
            key: "basic_auth",
            is_table: true,
            shape: Shape::Basic { username: basic.username.clone() },
            value: basic.password.as_ref().or(basic.password_file.is_none().then_some(&NONE)),
            file: basic.password_file.as_deref(),
            names: ("password", "password_file"),
        }
    }));
    let bearer = |key, value, file| Kind {
        key,
        is_table: false,
        shape: Shape::Scheme("Bearer".to_owned()),
        value,
        file,
        names: ("bearer_token", "bearer_token_file"),
    };
    kinds.extend(bearer_token.as_ref().map(|token| bearer("bearer_token", Some(token), None)));
    kinds.extend(
        bearer_token_file.as_deref().map(|file| bearer("bearer_token_file", None, Some(file))),
    );
    kinds
}

/// Everything that is wrong with the credentials and where. Reads the files; blocks.
pub(super) fn faults(settings: &ClientSettings) -> Vec<(Vec<&'static str>, CredentialError)> {
    let kinds = kinds(settings);
    let mut found = Vec::new();
    if let [_, second, ..] = &kinds[..] {
        found.push((vec![second.key], CredentialError::Several { found: kinds.len() }));
    }
    for kind in &kinds {
        if let Err(error) = kind.shape.check() {
            found.push((vec![kind.key, kind.shape.key()], error));
        }
        if let Err(error) = kind.open() {
            found.push((kind.place(&error), error));
        }
    }
    found
}

impl Credentials {
    /// Reads the file, if there is one; blocks.
    pub(super) fn new(settings: &ClientSettings) -> Result<Self, CredentialError> {
        let kinds = kinds(settings);
        match &kinds[..] {
            [] => Ok(Self::None),
            [kind] => {
                kind.shape.check()?;
                kind.open()
            }
            _ => Err(CredentialError::Several { found: kinds.len() }),
        }
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
    /// The key of what [`Self::check`] checks.
    fn key(&self) -> &'static str {
        match self {
            Self::Scheme(_) => "type",
            Self::Basic { .. } => "username",
        }
    }

    fn check(&self) -> Result<(), CredentialError> {
        match self {
            Self::Scheme(scheme)
                if scheme.is_empty()
                    || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') =>
            {
                let (setting, expected) = ("authorization.type", "a scheme");
                Err(CredentialError::Malformed { setting, expected })
            }
            Self::Basic { username } if username.contains(':') => {
                let (setting, expected) = ("basic_auth.username", "a name without a colon");
                Err(CredentialError::Malformed { setting, expected })
            }
            Self::Scheme(_) | Self::Basic { .. } => Ok(()),
        }
    }

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
