//! [`Sender`]: one attempt to deliver, in the version that the store takes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use pipeline_component::{BoxFuture, Delivered, ExportError, Part};
use pipeline_net::client::UrlError;
use pipeline_net::compress::Encoder as Compressor;
use pipeline_net::{Coding, Connection, Limits, Post};
use pipeline_wire::remote_write::{Encoder, Form, Options, Version, Written};
use tokio::time::Instant;
use tracing::debug;

use super::answer::{self, Counted, Meaning};
use super::plan::Plan;
use crate::grafana_cloud::Teller;

/// Of an answer's body; its first kilobyte is told.
const ANSWER: Limits = Limits::bytes(1 << 20);
/// zstd's level: the fastest. Samples repeat themselves so much that more effort gains a tenth.
const LEVEL: i32 = 1;

/// Refusals in a row for which requests are halved: twice the halvings from a full request to a single point.
const BAD_MAX: u32 = 32;
/// After so many no request is halved for so long.
const BAD_PAUSE: Duration = Duration::from_secs(60);

const V1_TYPE: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const V2_TYPE: HeaderValue =
    HeaderValue::from_static("application/x-protobuf;proto=io.prometheus.write.v2.Request");
const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");
const VICTORIA_VERSION: HeaderName =
    HeaderName::from_static("x-victoriametrics-remote-write-version");
const RETRY_ATTEMPT: HeaderName = HeaderName::from_static("retry-attempt");

/// One shard's worth of delivery.
pub(crate) struct Sender {
    plan: Arc<Plan>,
    encoder: Encoder,
    compressor: Compressor,
    connection: Result<Connection, UrlError>,
    /// Body of the last answer.
    body: Vec<u8>,
    message: Vec<u8>,
    /// How often the parts at hand were sent in vain.
    attempts: u64,
    /// When metadata of all metrics were sent, and of how many they have been since.
    metadata: (Option<Instant>, usize),
    teller: Option<Teller>,
    /// The encoder leaves native histograms out, because the store takes none.
    plain: bool,
    /// Requests refused for some of their samples since the last that was taken, and when the last was.
    bad: (u32, Option<Instant>),
}

impl Sender {
    pub(crate) fn new(plan: &Arc<Plan>) -> Self {
        Self {
            encoder: Encoder::new(plan.options.clone(), Arc::clone(&plan.infos)),
            compressor: Compressor::new(1, LEVEL),
            connection: plan.client.connection(&plan.url),
            body: Vec::new(),
            message: Vec::new(),
            attempts: 0,
            metadata: (None, 0),
            teller: plan.report.as_ref().map(Teller::new),
            plain: false,
            bad: (0, None),
            plan: Arc::clone(plan),
        }
    }

    async fn attempt(&mut self, parts: &[Part]) -> Result<Delivered, ExportError> {
        self.natives(self.plan.dialect.natives());
        let mut outcome = self.any_version(parts).await?;
        if let Meaning::NoNatives(said) = &outcome.1 {
            self.plan.dialect.no_natives(&self.plan.url, said);
            self.natives(false);
            outcome = self.any_version(parts).await?;
        }
        let (written, meaning) = outcome;
        let (missing, said) = match meaning {
            Meaning::Taken { missing } => (missing, String::new()),
            Meaning::Partly { missing, said } => (missing, said),
            Meaning::Failed(error) => return Err(error),
            Meaning::NoNatives(said) => return Err(ExportError::Permanent(said)),
            Meaning::BadSamples(said) => return Err(self.bad_samples(parts, said)),
            Meaning::OtherVersion => {
                let text = "the store takes no version of remote write";
                return Err(ExportError::Permanent(text.to_owned()));
            }
        };
        self.bad = (0, None);
        self.encoder.commit();
        if let Some(teller) = &mut self.teller {
            teller.sent(written.samples + written.histograms, &self.encoder);
        }
        self.metadata().await;
        Ok(delivered(parts, written, missing, &said, self.plain))
    }

    /// One request, and another one where the store does not take the version.
    async fn any_version(&mut self, parts: &[Part]) -> Result<(Written, Meaning), ExportError> {
        let version = self.plan.dialect.version();
        let outcome = self.once(parts, version).await?;
        if outcome.1 != Meaning::OtherVersion {
            return Ok(outcome);
        }
        if !self.plan.dialect.may_fall_back() {
            let text = "the store does not take remote write 2.0; set `protocol = \"auto\"`";
            return Err(ExportError::Permanent(text.to_owned()));
        }
        let outcome = self.once(parts, Version::V1).await?;
        if matches!(outcome.1, Meaning::Taken { .. }) {
            self.plan.dialect.fell_back(&self.plan.url);
        }
        Ok(outcome)
    }

    /// Makes an encoder that says native histograms, or leaves them out, where this one does not. It knows nothing of what
    /// was sent; that happens once in an hour at most.
    fn natives(&mut self, natives: bool) {
        if self.plain != natives || !self.plan.options.native_histograms {
            return;
        }
        self.plain = !natives;
        let options = Options { native_histograms: natives, ..self.plan.options.clone() };
        self.encoder = Encoder::new(options, Arc::clone(&self.plan.infos));
    }

    /// Halves find out which samples are at fault. Where all are, as after a long silence, that would be a request for each:
    /// after [`BAD_MAX`] in vain no more are halved for [`BAD_PAUSE`], unless a request is taken.
    fn bad_samples(&mut self, parts: &[Part], said: String) -> ExportError {
        let (count, last) = &mut self.bad;
        if last.is_some_and(|last| last.elapsed() >= BAD_PAUSE) {
            *count = 0;
        }
        *count += 1;
        if *count <= BAD_MAX {
            *last = Some(Instant::now());
        }
        if *count <= BAD_MAX && parts.iter().map(Part::points).sum::<usize>() > 1 {
            ExportError::TooLarge(said)
        } else {
            ExportError::Permanent(said)
        }
    }

    /// One request. Without anything to say none is sent.
    async fn once(
        &mut self,
        parts: &[Part],
        version: Version,
    ) -> Result<(Written, Meaning), ExportError> {
        let form = Form { version, snappy: !self.plan.zstd };
        self.message.clear();
        let items = parts.iter().map(|part| (&part.batch, part.rows.clone()));
        let written = self.encoder.encode(items, form, &mut self.message);
        if written.is_empty() {
            return Ok((written, Meaning::Taken { missing: 0 }));
        }
        let meaning = self.post(version, written).await?;
        Ok((written, meaning))
    }

    /// Posts the message.
    async fn post(&mut self, version: Version, written: Written) -> Result<Meaning, ExportError> {
        let body = self.packed()?;
        let connection = match &mut self.connection {
            Ok(connection) => connection,
            // It was checked when the exporter was made.
            Err(error) => return Err(ExportError::Permanent(error.to_string())),
        };
        let (content_type, number) = match version {
            Version::V1 => (V1_TYPE, "0.1.0"),
            Version::V2 => (V2_TYPE, "2.0.0"),
        };
        let mut headers = Vec::with_capacity(4);
        headers.push((VERSION, HeaderValue::from_static(number)));
        if self.plan.zstd {
            headers.push((header::CONTENT_ENCODING, HeaderValue::from_static("zstd")));
            headers.push((VICTORIA_VERSION, HeaderValue::from_static("1")));
        } else {
            headers.push((header::CONTENT_ENCODING, HeaderValue::from_static("snappy")));
        }
        if self.attempts > 0 {
            headers.push((RETRY_ATTEMPT, HeaderValue::from(self.attempts)));
        }
        let post = Post { body, content_type, content_encoding: Coding::Identity, headers };
        let deadline = Instant::now() + self.plan.timeout;
        match connection.post(&post, &mut self.body, ANSWER, deadline).await {
            Ok(answer) => {
                let counted = Counted::new(connection.answer_headers());
                Ok(answer::of(&answer, &self.body, counted, version, written))
            }
            Err(error) => Err(answer::of_failure(&error)),
        }
    }

    /// The message as it is sent.
    fn packed(&mut self) -> Result<Bytes, ExportError> {
        if !self.plan.zstd {
            return Ok(Bytes::copy_from_slice(&self.message));
        }
        let mut out = Vec::new();
        match self.compressor.encode(Coding::Zstd, &self.message, &mut out) {
            Ok(()) => Ok(out.into()),
            Err(error) => {
                let reason = format!("cannot compress a request: {error}");
                Err(ExportError::Retryable { reason, after: None })
            }
        }
    }

    /// Says now and then what is known of metrics, and of new ones at once. It is said again later, so a failure is of no
    /// matter.
    async fn metadata(&mut self) {
        let every = self.plan.metadata_interval;
        if every.is_zero() || self.plan.dialect.version() == Version::V2 {
            return;
        }
        let (sent, mut known) = self.metadata;
        let families = self.encoder.families();
        if families < known || sent.is_none_or(|sent| sent.elapsed() >= every) {
            known = 0;
        }
        if families == known {
            return;
        }
        let sent = if known == 0 { Some(Instant::now()) } else { sent };
        self.metadata = (sent, families);
        self.message.clear();
        self.encoder.metadata(known, !self.plan.zstd, &mut self.message);
        match self.post(Version::V1, Written::default()).await {
            Ok(Meaning::Taken { .. }) => {}
            other => debug!(?other, "metadata were not taken"),
        }
    }
}

/// What became of the points of a request that was taken.
fn delivered(parts: &[Part], written: Written, missing: u64, said: &str, plain: bool) -> Delivered {
    let Written { late, delta, duplicate, native, .. } = written;
    let left_out = late + delta + duplicate + native;
    let mut words = Vec::new();
    let natives = if plain {
        "points are native histograms, which the store takes none of"
    } else {
        "points cannot be said as native histograms"
    };
    for (count, what) in [
        (missing, "samples were not written by the store"),
        (late, "points are not newer than what was sent of their series"),
        (delta, "points are deltas"),
        (duplicate, "points have the name and labels of another series of their source"),
        (native, natives),
    ] {
        if count > 0 {
            words.push(format!("{count} {what}"));
        }
    }
    if !said.is_empty() {
        words.push(said.to_owned());
    }
    // The store counts samples, of which a histogram's point has many.
    let points = parts.iter().map(Part::points).sum::<usize>() as u64;
    let sent = points.saturating_sub(left_out);
    let samples = (written.samples + written.histograms).max(1);
    let refused = (missing.saturating_mul(sent)).div_ceil(samples).min(sent);
    Delivered { rejected: (left_out + refused).min(points), message: words.join(", ") }
}

impl pipeline_component::Sender for Sender {
    fn send<'a>(&'a mut self, parts: &'a [Part]) -> BoxFuture<'a, Result<Delivered, ExportError>> {
        Box::pin(async move {
            let outcome = self.attempt(parts).await;
            self.attempts = match outcome {
                Err(ExportError::Retryable { .. }) => self.attempts.saturating_add(1),
                _ => 0,
            };
            outcome
        })
    }
}
