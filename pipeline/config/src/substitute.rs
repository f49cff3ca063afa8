//! `${env:NAME}`, `${env:NAME:-default}` and `${file:/path}` inside strings; `$$` stands for one `$`.
//!
//! What was put in is not searched again, so a secret may contain any character.

use std::io::{self, Read};
use std::path::Path;

use crate::codes;

/// Bytes of a file that `${file:}` reads at most: room for a bundle of certificates, and no more.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where substitutions come from. A function from names to values is one without files.
pub trait Environment: Sync {
    /// The value of an environment variable.
    fn var(&self, name: &str) -> Option<String>;

    /// The text of a file.
    ///
    /// # Errors
    /// As the system gives them.
    fn read(&self, path: &Path) -> io::Result<String> {
        Err(io::Error::new(io::ErrorKind::NotFound, format!("no file {}", path.display())))
    }
}

impl<F: Fn(&str) -> Option<String> + Sync> Environment for F {
    fn var(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// The process' environment and the file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Os;

impl Environment for Os {
    fn var(&self, name: &str) -> Option<String> {
        // `var_os` would panic on these.
        let sound = !name.is_empty() && !name.contains(['=', '\0']);
        if sound { std::env::var(name).ok() } else { None }
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let bytes = read_limited(path, FILE_BYTES_MAX)?;
        String::from_utf8(bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the file is not UTF-8 text"))
    }
}

/// Reads a file that may be no larger than `bytes_max`.
pub(crate) fn read_limited(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("the file is larger than {bytes_max} bytes"),
        ));
    }
    Ok(bytes)
}

/// An IO error in words, without the number.
pub(crate) fn io_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// What a string's substitutions read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Substituted {
    /// The references as written: `${env:NAME}`.
    pub references: Vec<String>,
    /// One of them was a file; then the value is a secret.
    pub file: bool,
}

/// A reference that gave no value.
pub(crate) struct Fault {
    pub reference: String,
    pub code: &'static str,
    pub message: String,
    pub label: &'static str,
    pub help: String,
}

/// Replaces all references. `None` where the text has nothing to replace; `Some((text, None))` where only `$$` was.
///
/// # Errors
/// All references that gave no value.
pub(crate) fn substitute(
    text: &str,
    env: &dyn Environment,
) -> Result<Option<(String, Option<Substituted>)>, Vec<Fault>> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    let mut used = Substituted::default();
    let mut faults = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(body) = after.strip_prefix('{') {
            let Some((body, after)) = body.split_once('}') else {
                faults.push(unclosed(after));
                return Err(faults);
            };
            match resolve(body, env) {
                Ok(value) => out.push_str(&value),
                Err(fault) => faults.push(fault),
            }
            used.file |= body.starts_with("file:");
            used.references.push(format!("${{{body}}}"));
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    if faults.is_empty() {
        Ok(Some((out, (!used.references.is_empty()).then_some(used))))
    } else {
        Err(faults)
    }
}

fn unclosed(after: &str) -> Fault {
    Fault {
        reference: format!("${after}"),
        code: codes::BAD_SUBSTITUTION,
        message: "`${` has no closing `}`".to_owned(),
        label: "starts here",
        help: "close it with `}`, or write `$$` for a plain dollar sign".to_owned(),
    }
}

fn resolve(body: &str, env: &dyn Environment) -> Result<String, Fault> {
    let reference = format!("${{{body}}}");
    match body.split_once(':') {
        Some(("env", name)) => {
            let (name, default) = match name.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (name, None),
            };
            let value = env.var(name).filter(|value| default.is_none() || !value.is_empty());
            value.or_else(|| default.map(str::to_owned)).ok_or_else(|| Fault {
                reference,
                code: codes::MISSING_ENV,
                message: format!("environment variable `{name}` is not set"),
                label: "needed here",
                help: format!(
                    "set it before the start, or give a default: `${{env:{name}:-value}}`"
                ),
            })
        }
        Some(("file", path)) => {
            let text = env.read(Path::new(path)).map_err(|error| Fault {
                reference,
                code: codes::MISSING_FILE,
                message: format!("cannot read `{path}`: {}", io_words(&error)),
                label: "needed here",
                help: "check the path, that the secret is mounted, and that this user may read it"
                    .to_owned(),
            })?;
            let trimmed = text.strip_suffix('\n').map(|t| t.strip_suffix('\r').unwrap_or(t));
            Ok(trimmed.unwrap_or(&text).to_owned())
        }
        _ => Err(Fault {
            message: format!("`{reference}` is no substitution"),
            help: format!(
                "write `${{env:NAME}}`, `${{env:NAME:-default}}` or `${{file:/path}}`; `${reference}` stands for \
                 the text itself"
            ),
            reference,
            code: codes::BAD_SUBSTITUTION,
            label: "expected `env:` or `file:`",
        }),
    }
}
