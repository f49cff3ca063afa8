//! What a store's answer means.
//!
//! Sources: Prometheus Remote-Write 1.0 and 2.0 specifications, "Retries and backoff", "Required written response
//! headers", "Invalid samples"; Mimir's distributor for what it says of requests that are too large; Prometheus' and
//! Mimir's errors for what they say of samples.

use pipeline_component::ExportError;
use pipeline_net::{Answer, FetchError};
use pipeline_wire::remote_write::{Version, Written};

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It was taken, but for so many samples and histograms.
    Taken { missing: u64 },
    /// Some of it was taken, but not so many samples and histograms; what the store says of them.
    Partly { missing: u64, said: String },
    /// The store does not know this version.
    OtherVersion,
    /// The store takes no native histograms, and nothing of a request that has some. What it says.
    NoNatives(String),
    /// Some of the samples are at fault, and nothing says which. What the store says.
    BadSamples(String),
    /// It was not taken.
    Failed(ExportError),
}

/// What the store counted. A header that is not there says 0; without any of them the store knows nothing of the second
/// version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) samples: Option<u64>,
    pub(super) histograms: Option<u64>,
    pub(super) exemplars: Option<u64>,
}

impl Counted {
    pub(super) fn new(headers: &http::HeaderMap) -> Self {
        let get = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse().ok();
        Self {
            samples: get("x-prometheus-remote-write-samples-written"),
            histograms: get("x-prometheus-remote-write-histograms-written"),
            exemplars: get("x-prometheus-remote-write-exemplars-written"),
        }
    }

    fn is_none(self) -> bool {
        self == Self::default()
    }

    /// True when something was written.
    fn any(self) -> bool {
        self.samples.unwrap_or(0) + self.histograms.unwrap_or(0) > 0
    }

    /// Samples and histograms of a request that were not written.
    fn missing(self, written: Written) -> u64 {
        let of = |sent: u64, counted: Option<u64>| sent.saturating_sub(counted.unwrap_or(0));
        of(written.samples, self.samples) + of(written.histograms, self.histograms)
    }
}

/// The meaning of an answer to a request of `version`.
pub(super) fn of(
    answer: &Answer,
    body: &[u8],
    counted: Counted,
    version: Version,
    written: Written,
) -> Meaning {
    let status = answer.status.as_u16();
    let v2 = version == Version::V2;
    if answer.status.is_success() {
        // Success without a count: the store took the message for one of the first version, and found nothing in it.
        return match v2 {
            true if counted.is_none() => Meaning::OtherVersion,
            true => Meaning::Taken { missing: counted.missing(written) },
            false => Meaning::Taken { missing: 0 },
        };
    }
    let said = said(status, body);
    if matches!(status, 400 | 422 | 500..=599) && written.histograms > 0 && refuses_natives(&said) {
        return Meaning::NoNatives(said);
    }
    Meaning::Failed(match status {
        429 | 500..=599 => ExportError::Retryable { reason: said, after: answer.retry_after },
        413 => ExportError::TooLarge(said),
        415 if v2 => return Meaning::OtherVersion,
        400 if is_too_large(&said) => ExportError::TooLarge(said),
        400 if v2 && counted.is_none() => return Meaning::OtherVersion,
        400 if v2 && counted.any() => {
            return Meaning::Partly { missing: counted.missing(written), said };
        }
        400 if !v2 && is_about_samples(&said) => return Meaning::BadSamples(said),
        401 | 403 => ExportError::Permanent(format!("{said}; check the credentials")),
        _ => ExportError::Permanent(said),
    })
}

/// Mimir has no status of its own for it.
fn is_too_large(said: &str) -> bool {
    said.contains("message size") && said.contains("larger than")
}

/// Prometheus without the feature says `native histograms are disabled`, with status 500. That native histograms *out of
/// order* are disabled is another matter, of single samples.
fn refuses_natives(said: &str) -> bool {
    let said = said.to_ascii_lowercase().replace('-', " ");
    said.contains("native histogram")
        && ["disabled", "not enabled", "not supported"].iter().any(|word| said.contains(word))
        && !["out of order", "ooo"].iter().any(|word| said.contains(word))
}

/// What Prometheus, Cortex and Mimir say of single samples or series, for which they refuse a request.
const OF_SAMPLES: &[&str] = &[
    "out of bounds",
    "out of order",
    "too old",
    "too far in the future",
    "too far in future",
    "duplicate sample",
    "duplicate timestamp",
    "label limit",
    "too many labels",
    "label names per series",
    "label name too long",
    "label value too long",
];

fn is_about_samples(said: &str) -> bool {
    let said = said.to_ascii_lowercase().replace(['-', '_'], " ");
    OF_SAMPLES.iter().any(|words| said.contains(words))
}

/// Status and the first kilobyte of what the store says about it, on one line.
fn said(status: u16, body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body.get(..1024).unwrap_or(body));
    let words: Vec<&str> = body
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
        .collect();
    if words.is_empty() {
        format!("HTTP status {status}")
    } else {
        format!("HTTP status {status}: {}", words.join(" "))
    }
}

/// No answer: the same request may be worth another attempt.
pub(super) fn of_failure(error: &FetchError) -> ExportError {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    match error {
        // There was an answer; asking again would get the same one.
        FetchError::TooLarge { .. } | FetchError::Coding { .. } | FetchError::Decode { .. } => {
            ExportError::Permanent(format!("cannot read the answer: {reason}"))
        }
        _ => ExportError::Retryable { reason, after: None },
    }
}
