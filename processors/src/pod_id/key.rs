//! The secret key, where it comes from, and the hash made with it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tracing::warn;

use crate::pod::{Identity, host_of};

/// Shorter keys could be guessed from a few ids of known pods.
const KEY_BYTES_MIN: usize = 16;
/// A key file is one line.
const KEY_FILE_BYTES_MAX: u64 = 4096;
/// BLAKE3's context string: ids change when it does.
const CONTEXT: &str = "inferometer 2025-11 pod_id key";
/// Bytes of the hash that are shown: 128 bits make two pods with one id a matter of 2^64 pods.
const ID_BYTES: usize = 16;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("the key has {found} bytes, at least {KEY_BYTES_MIN} are needed")]
    TooShort { found: usize },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} holds more than a key: over {KEY_FILE_BYTES_MAX} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// A key of BLAKE3's keyed mode, derived from text of any length.
#[derive(Clone)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// From text as configured; white space around it does not count, since files end in a newline.
    pub(super) fn from_text(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.len() < KEY_BYTES_MIN {
            return Err(KeyError::TooShort { found: text.len() });
        }
        Ok(Self(blake3::derive_key(CONTEXT, text.as_bytes())))
    }

    /// From the text in a file.
    pub(super) fn from_file(path: &Path) -> Result<Self, KeyError> {
        let mut text = String::new();
        let read =
            |text: &mut String| File::open(path)?.take(KEY_FILE_BYTES_MAX + 1).read_to_string(text);
        read(&mut text).map_err(|source| KeyError::Read { path: path.to_owned(), source })?;
        if text.len() as u64 > KEY_FILE_BYTES_MAX {
            return Err(KeyError::TooLong { path: path.to_owned() });
        }
        Self::from_text(&text)
    }

    /// The id of `identity`: 32 lower-case hex digits. `host` tells loopback addresses of different hosts apart.
    pub(super) fn id(&self, identity: &Identity, host: &str) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        // Parts are told apart by NUL, which no name contains; kinds by their tag.
        let mut parts = |parts: &[&str]| {
            for part in parts {
                hasher.update(part.as_bytes());
                hasher.update(&[0]);
            }
        };
        match identity {
            Identity::Uid(uid) => parts(&["uid", uid]),
            Identity::Name { namespace, name } => parts(&["name", namespace, name]),
            Identity::Address(address) if is_loopback(address) => {
                parts(&["local", host, address]);
            }
            Identity::Address(address) => parts(&["address", address]),
        }
        let hash = hasher.finalize().to_hex();
        hash.chars().take(2 * ID_BYTES).collect()
    }
}

fn is_loopback(address: &str) -> bool {
    let host = host_of(address);
    host == "localhost" || host == "::1" || host == "0.0.0.0" || host.starts_with("127.")
}

/// The current key and, while keys change, the one before.
pub(super) struct Keys {
    current: Current,
    pub(super) previous: Option<Key>,
}

enum Current {
    Known(Key),
    /// None was configured and no file is there yet: it is written when the first pod is hashed, so that looking at
    /// a configuration leaves no trace.
    Generated {
        file: PathBuf,
        text: String,
        settled: OnceLock<Key>,
    },
}

impl Keys {
    pub(super) fn known(key: Key, previous: Option<Key>) -> Self {
        Self { current: Current::Known(key), previous }
    }

    /// The key in `file`, or one that is generated now and kept there later.
    pub(super) fn kept_in(file: PathBuf, previous: Option<Key>) -> Result<Self, KeyError> {
        match Key::from_file(&file) {
            Ok(key) => Ok(Self::known(key, previous)),
            Err(KeyError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let text = generated()?.to_owned();
                Ok(Self {
                    current: Current::Generated { file, text, settled: OnceLock::new() },
                    previous,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// The current key; settles a generated one at the first call.
    pub(super) fn current(&self) -> &Key {
        match &self.current {
            Current::Known(key) => key,
            Current::Generated { file, text, settled } => {
                settled.get_or_init(|| settle(file, text))
            }
        }
    }
}

/// One generated key for the whole process: two processors that cannot keep it must still agree.
fn generated() -> Result<&'static str, KeyError> {
    static TEXT: OnceLock<String> = OnceLock::new();
    if let Some(text) = TEXT.get() {
        return Ok(text);
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
    Ok(TEXT.get_or_init(|| blake3::Hash::from(bytes).to_hex().to_string()))
}

fn settle(file: &Path, text: &str) -> Key {
    let kept =
        keep(file, text).map_err(|error| KeyError::Read { path: file.to_owned(), source: error });
    match kept.and_then(|()| Key::from_file(file)) {
        Ok(key) => {
            warn!(
                file = %file.display(),
                "pod_id: no key is configured, one was generated; ids differ between agents unless they share a key"
            );
            key
        }
        Err(error) => {
            warn!(
                file = %file.display(),
                error = %error_chain(&error),
                "pod_id: no key is configured and the generated one cannot be kept; ids change when this process restarts"
            );
            Key(blake3::derive_key(CONTEXT, text.as_bytes()))
        }
    }
}

pub(super) fn error_chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", error_chain(source)),
        None => error.to_string(),
    }
}

/// Puts `text` into `file` unless there is one already: of several processes that start at once, one wins and all
/// read the same key.
fn keep(file: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut draft = file.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let mut out =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.sync_all()?;
    // A link, unlike a rename, fails where a file is.
    let linked = fs::hard_link(&draft, file);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// This host's name, for loopback addresses; empty where the system does not tell.
pub(super) fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
