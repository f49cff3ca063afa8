//! What the receiver counts and says of its requests.

use pipeline_component::RateLimiter;
use pipeline_component::telemetry::{Counter, Gauge, Telemetry, table};
use pipeline_wire::otlp::{ReadStats, ReaderStats, Reason};
use tracing::warn;

use super::refusal::{Cause, Refusal};
use super::reply::Reply;

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Grpc,
    Http,
}

impl Transport {
    fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// The counters of one protocol.
struct Requests {
    accepted: Counter,
    partial: Counter,
    hung_up: Counter,
    refused: [Counter; Cause::ALL.len()],
    bytes: Counter,
}

impl Requests {
    fn new(telemetry: &Telemetry, transport: Transport) -> Self {
        let transport = ("transport", transport.as_str());
        let of =
            |outcome| telemetry.counter(&table::OTLP_REQUESTS, &[transport, ("outcome", outcome)]);
        Self {
            accepted: of("accepted"),
            partial: of("partial"),
            hung_up: of("hung_up"),
            refused: Cause::ALL.map(|cause| of(cause.as_str())),
            bytes: telemetry.counter(&table::OTLP_RECEIVED_BYTES, &[transport]),
        }
    }
}

/// All counters of the receiver.
pub(super) struct Counts {
    name: String,
    grpc: Requests,
    http: Requests,
    rejected: [Counter; Reason::ALL.len()],
    /// Points that the pipeline refused for good.
    refused_points: Counter,
    /// Log records.
    logs: Counter,
    resources: Gauge,
    series: Gauge,
    bytes: Gauge,
    refusals: [RateLimiter; Cause::ALL.len()],
    rejections: RateLimiter,
}

impl Counts {
    /// `telemetry` is scoped to the receiver, whose name is `name`.
    pub(super) fn new(telemetry: &Telemetry, name: String) -> Self {
        let reason = |word| telemetry.counter(&table::OTLP_REJECTED, &[("reason", word)]);
        Self {
            name,
            grpc: Requests::new(telemetry, Transport::Grpc),
            http: Requests::new(telemetry, Transport::Http),
            rejected: Reason::ALL.map(|one| reason(one.as_str())),
            refused_points: reason("refused"),
            logs: reason("logs"),
            resources: telemetry.gauge(&table::OTLP_RESOURCES, &[]),
            series: telemetry.gauge(&table::OTLP_SERIES, &[]),
            bytes: telemetry.gauge(&table::OTLP_READER_BYTES, &[]),
            refusals: Cause::ALL.map(|_| RateLimiter::default()),
            rejections: RateLimiter::default(),
        }
    }

    fn of(&self, transport: Transport) -> &Requests {
        match transport {
            Transport::Grpc => &self.grpc,
            Transport::Http => &self.http,
        }
    }

    /// A request begins; it counts as one whose client hung up unless its end is told.
    pub(super) fn begin(&self, transport: Transport) -> Tally<'_> {
        Tally { counts: self, transport, ended: false }
    }

    /// Points that the reader rejected.
    pub(super) fn rejected(&self, stats: &ReadStats) {
        for (reason, points) in stats.reasons() {
            if let Some(counter) = self.rejected.get(reason as usize) {
                counter.add(points);
            }
        }
    }

    /// Points that the pipeline refused for good.
    pub(super) fn refused_points(&self, points: u64) {
        self.refused_points.add(points);
    }

    /// Log records that were rejected.
    pub(super) fn logs(&self, records: u64) {
        self.logs.add(records);
    }

    /// What the reader remembers.
    pub(super) fn remembered(&self, stats: ReaderStats) {
        self.resources.set(stats.resources as f64);
        self.series.set(stats.series as f64);
        self.bytes.set(stats.bytes as f64);
    }
}

/// One request until it is answered.
pub(super) struct Tally<'a> {
    counts: &'a Counts,
    transport: Transport,
    ended: bool,
}

impl Tally<'_> {
    /// Its message has `bytes`, after decompression.
    pub(super) fn message(&self, bytes: usize) {
        self.counts.of(self.transport).bytes.add(bytes as u64);
    }

    /// It is answered in this way.
    pub(super) fn end(mut self, outcome: Result<&Reply, &Refusal>) {
        self.ended = true;
        let Self { counts, transport, .. } = &self;
        let (component, of) = (&counts.name, counts.of(*transport));
        match outcome {
            Ok(reply) if reply.is_plain() => of.accepted.inc(),
            Ok(reply) => {
                of.partial.inc();
                if let Some(swallowed) = counts.rejections.admit() {
                    let (rejected, reason) = (reply.rejected, &reply.message);
                    warn!(%component, rejected, %reason, swallowed, "part of a request was rejected");
                }
            }
            Err(refusal) => {
                let idx = refusal.cause as usize;
                if let Some(counter) = of.refused.get(idx) {
                    counter.inc();
                }
                // Whoever looks for pages on open ports asks here too, and is no sender in trouble.
                if refusal.cause == Cause::Method {
                    return;
                }
                if let Some(swallowed) = counts.refusals.get(idx).and_then(RateLimiter::admit) {
                    let (cause, reason) = (refusal.cause.as_str(), &refusal.message);
                    warn!(%component, transport = transport.as_str(), cause, %reason, swallowed, "a request was refused");
                }
            }
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.counts.of(self.transport).hung_up.inc();
        }
    }
}
