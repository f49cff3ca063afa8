//! [`Intake`]: from the message of a request to batches that the pipeline has taken, the same for both protocols.

use std::sync::Arc;
use std::time::Duration;

use pipeline_component::{ConsumeError, Consumer, TimeSource};
use pipeline_model::Batch;
use pipeline_net::Tokens;
use pipeline_net::server::{BodyGate, Request};
use pipeline_wire::otlp::MetricsReader;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::interval;

use super::counts::Counts;
use super::logs;
use super::refusal::Refusal;
use super::reply::{Format, Reply, Signal};

/// What both protocols work with.
pub(super) struct Intake {
    pub(super) reader: MetricsReader,
    pub(super) next: Arc<dyn Consumer>,
    pub(super) clock: Arc<dyn TimeSource>,
    pub(super) counts: Counts,
    /// `None`: everybody may send.
    pub(super) tokens: Option<Tokens>,
    /// One for each request that may be worked on.
    pub(super) slots: Semaphore,
    /// One for each large message that may be held.
    pub(super) large: Semaphore,
    /// Bytes of a message at most.
    pub(super) bytes_max: usize,
    /// How long a message may take to come.
    pub(super) timeout: Duration,
}

/// Bytes up to which a message is small; the usual ones are far below.
const SMALL_BYTES_MAX: usize = 2 << 20;

/// Larger messages held at a time.
pub(super) const LARGE_MAX: usize = 4;

impl Intake {
    /// What large messages wait at.
    pub(super) fn gate(&self) -> BodyGate<'_> {
        BodyGate { small_bytes_max: SMALL_BYTES_MAX, large: &self.large }
    }

    /// Whether the client may send at all, and has its turn. Held until the answer.
    pub(super) fn admit(&self, request: &Request) -> Result<SemaphorePermit<'_>, Refusal> {
        if let Some(tokens) = &self.tokens {
            let access = tokens.check(request.head.headers.get(http::header::AUTHORIZATION));
            if let Some(refusal) = Refusal::of_access(&access) {
                return Err(refusal);
            }
        }
        self.slots.try_acquire().map_err(|_| Refusal::busy("too many requests at a time"))
    }

    /// Takes the message of a request. The reply is the pipeline's word: it has taken what is not said to be rejected.
    pub(super) async fn take(
        &self,
        signal: Signal,
        format: Format,
        message: &[u8],
    ) -> Result<Reply, Refusal> {
        match signal {
            Signal::Metrics => self.take_metrics(format, message).await,
            Signal::Logs => self.take_logs(format, message),
        }
    }

    async fn take_metrics(&self, format: Format, message: &[u8]) -> Result<Reply, Refusal> {
        let (now, mut batches) = (self.clock.now(), Vec::new());
        let stats = match format {
            Format::Protobuf => self.reader.read(message, now, &mut batches)?,
            Format::Json => self.reader.read_json(message, now, &mut batches)?,
        };
        let mut reply = Reply { rejected: stats.rejected, message: stats.message() };
        for batch in batches {
            let points = batch.points() as u64;
            match self.next.consume(batch).await {
                Ok(()) => {}
                Err(ConsumeError::Permanent(reason)) => {
                    self.counts.refused_points(points);
                    reply.refuse(points, &reason);
                }
                // Batches before this one are in already and will come twice: better than losing the others.
                Err(error @ (ConsumeError::Full { .. } | ConsumeError::Closed)) => {
                    return Err(error.into());
                }
            }
        }
        self.counts.rejected(&stats);
        Ok(reply)
    }

    fn take_logs(&self, format: Format, message: &[u8]) -> Result<Reply, Refusal> {
        let rejected = logs::count(message, format)?;
        self.counts.logs(rejected);
        // An empty request is fine, whatever it would have carried.
        let message = match rejected {
            0 => String::new(),
            _ => format!("rejected all {rejected} log records: there is no pipeline for logs here"),
        };
        Ok(Reply { rejected, message })
    }

    /// Ends what is silent for `expiry`, for ever.
    pub(super) async fn tidy(&self, expiry: Duration) {
        let mut every =
            interval((expiry / 10).clamp(Duration::from_secs(1), Duration::from_secs(15)));
        let mut ended: Vec<Batch> = Vec::new();
        loop {
            every.tick().await;
            self.reader.sweep(expiry, self.clock.now(), &mut ended);
            self.hand_over(&mut ended).await;
            self.counts.remembered(self.reader.stats());
        }
    }

    /// Ends wait for a pipeline that is full: without them, what follows would keep the series for ever.
    async fn hand_over(&self, ended: &mut Vec<Batch>) {
        while let Some(batch) = ended.last() {
            if matches!(self.next.consume(batch.clone()).await, Err(ConsumeError::Full { .. })) {
                return;
            }
            ended.pop();
        }
    }
}
