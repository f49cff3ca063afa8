//! [`Sender`]: one attempt to deliver, to one address or to several at once.
//!
//! With several addresses a part of an attempt may succeed. What was delivered is remembered until other parts come, and
//! is not sent again with those that failed. An address that fails costs the others the time of one attempt at most:
//! its share goes to other addresses at once. One that is alive and asks for time (429, `RetryInfo`) is given it; that
//! is the one thing for which the share of the others waits.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::HashMap;
use futures_util::future::join_all;
use pipeline_component::{BoxFuture, Delivered, ExportError, Part};
use pipeline_model::{RowId, Slot};
use pipeline_net::Coding;
use pipeline_net::compress::Encoder as Compressor;
use pipeline_wire::otlp::encode::{Encoder, LeftOut};

use super::lane::{Lane, too_large};
use super::plan::Plan;
use super::routes::Routes;

/// Levels of gzip and zstd: the fastest. Metrics repeat themselves so much that more effort gains a tenth.
const LEVEL: (u32, i32) = (1, 1);

/// One shard's worth of delivery.
pub(crate) struct Sender {
    plan: Arc<Plan>,
    encoder: Encoder,
    compressor: Compressor,
    /// The compressed message.
    wire: Vec<u8>,
    routes: Routes,
    done: Done,
}

/// A request to one lane.
struct Request {
    lane: usize,
    frame: Bytes,
    points: usize,
    left_out: LeftOut,
    /// Index of a part, and of a group in its shape.
    groups: Vec<(usize, u32)>,
}

/// Rows of one group, by its index in the shape.
type Piece = (Range<RowId>, u32);

/// What of the last parts was delivered.
#[derive(Default)]
struct Done {
    /// By the address of the values, which are held so that nobody else gets it.
    parts: HashMap<usize, (Arc<Vec<Slot>>, Vec<Piece>)>,
    /// What backends said of it, not yet told.
    delivered: Delivered,
}

impl Done {
    fn is_done(&self, part: &Part, group: u32) -> bool {
        let known = self.parts.get(&(Arc::as_ptr(&part.batch.values) as usize));
        known.is_some_and(|(_, done)| {
            done.iter().any(|(rows, of)| {
                *of == group && rows.start <= part.rows.start && part.rows.end <= rows.end
            })
        })
    }

    /// Forgets everything when these are other parts than the last ones, or halves of them.
    fn begin(&mut self, parts: &[Part]) {
        let known =
            |part: &Part| self.parts.contains_key(&(Arc::as_ptr(&part.batch.values) as usize));
        if !parts.iter().any(known) {
            self.parts.clear();
        }
        for part in parts {
            self.of(part);
        }
    }

    /// What of the values of a part was delivered.
    fn of(&mut self, part: &Part) -> &mut Vec<Piece> {
        let values = &part.batch.values;
        let entry = self.parts.entry(Arc::as_ptr(values) as usize);
        &mut entry.or_insert_with(|| (Arc::clone(values), Vec::new())).1
    }

    fn any(&self) -> bool {
        self.parts.values().any(|(_, done)| !done.is_empty())
    }

    /// Adds what a backend said.
    fn tell(&mut self, said: Delivered) {
        self.delivered.rejected += said.rejected;
        if self.delivered.message.is_empty() {
            self.delivered.message = said.message;
        }
    }
}

/// What stands in the way after a round.
#[derive(Default)]
struct Failures {
    too_large: Option<String>,
    /// Asked for time.
    busy: Option<(String, Duration)>,
    /// Did not answer.
    silent: Option<String>,
    permanent: Option<String>,
    /// Some of it was taken, now or before.
    delivered: bool,
}

impl Sender {
    pub(crate) fn new(plan: &Arc<Plan>) -> Self {
        Self {
            plan: Arc::clone(plan),
            encoder: Encoder::new(plan.options.clone()),
            compressor: Compressor::new(LEVEL.0, LEVEL.1),
            wire: Vec::new(),
            routes: Routes::new(plan),
            done: Done::default(),
        }
    }

    async fn attempt(&mut self, parts: &[Part]) -> Result<Delivered, ExportError> {
        self.routes.refresh().await?;
        // One lane gets all or nothing.
        if self.routes.lanes.len() > 1 {
            self.done.begin(parts);
        }
        // Every round but the last one loses a lane.
        loop {
            let requests = self.requests(parts)?;
            if requests.is_empty() {
                return Ok(std::mem::take(&mut self.done.delivered));
            }
            let failures = self.round(parts, requests).await;
            if let Some(text) = failures.too_large {
                return Err(ExportError::TooLarge(text));
            }
            if let Some((reason, after)) = failures.busy {
                return Err(ExportError::Retryable { reason, after: Some(after) });
            }
            if let Some(reason) = failures.silent {
                if self.routes.any_in() {
                    self.routes.refresh().await?;
                    continue;
                }
                self.routes.let_in();
                return Err(ExportError::Retryable { reason, after: None });
            }
            return match failures.permanent {
                Some(text) if !failures.delivered => {
                    self.done = Done::default();
                    Err(ExportError::Permanent(text))
                }
                _ => Ok(std::mem::take(&mut self.done.delivered)),
            };
        }
    }

    /// What is to be sent now.
    fn requests(&mut self, parts: &[Part]) -> Result<Vec<Request>, ExportError> {
        if self.routes.lanes.len() == 1 {
            return Ok(vec![self.request(parts, 0, None)?]);
        }
        // Of each lane: its parts, and which of their groups.
        let mut shares: Vec<Vec<(usize, Vec<bool>)>> = Vec::new();
        shares.resize_with(self.routes.lanes.len(), Vec::new);
        for (at, part) in parts.iter().enumerate() {
            let owners = self.routes.owners(&part.batch.shape);
            for (group, lane) in owners.iter().enumerate() {
                if self.done.is_done(part, group as u32) {
                    continue;
                }
                let Some(share) = shares.get_mut(*lane) else { continue };
                if share.last().is_none_or(|(last, _)| *last != at) {
                    share.push((at, vec![false; owners.len()]));
                }
                if let Some(mine) = share.last_mut().and_then(|(_, groups)| groups.get_mut(group)) {
                    *mine = true;
                }
            }
        }
        let mut requests = Vec::new();
        for (lane, share) in shares.into_iter().enumerate() {
            if !share.is_empty() {
                requests.push(self.request(parts, lane, Some(&share))?);
            }
        }
        Ok(requests)
    }

    /// The request to a lane: its share of the parts, or all of them.
    fn request(
        &mut self,
        parts: &[Part],
        lane: usize,
        share: Option<&[(usize, Vec<bool>)]>,
    ) -> Result<Request, ExportError> {
        let Self { plan, encoder, compressor, wire, .. } = self;
        let encoded = match share {
            None => encoder.encode(parts.iter().map(|part| (&part.batch, part.rows.clone()))),
            Some(share) => {
                let items =
                    share.iter().map(|(at, _)| (&parts[*at].batch, parts[*at].rows.clone()));
                encoder.encode_some(items, |item, group| {
                    let groups = share.get(item).map(|(_, groups)| groups);
                    groups.and_then(|groups| groups.get(group as usize)).is_some_and(|is| *is)
                })
            }
        };
        let message = match plan.coding {
            Coding::Identity => encoded.bytes,
            coding => {
                let out_of_memory = |error| ExportError::Retryable {
                    reason: format!("cannot compress a request: {error}"),
                    after: None,
                };
                compressor.encode(coding, encoded.bytes, wire).map_err(out_of_memory)?;
                wire
            }
        };
        if let Some(error) = too_large(plan, encoded.bytes.len(), message.len()) {
            return Err(error);
        }
        let each = |(at, groups): &(usize, Vec<bool>)| {
            let mine = groups.iter().enumerate().filter(|(_, is)| **is);
            let at = *at;
            mine.map(move |(group, _)| (at, group as u32)).collect::<Vec<_>>()
        };
        Ok(Request {
            lane,
            frame: Lane::frame(plan, message),
            points: encoded.points,
            left_out: encoded.left_out,
            groups: share.unwrap_or_default().iter().flat_map(each).collect(),
        })
    }

    /// Sends all requests at once, and sees what became of each.
    async fn round(&mut self, parts: &[Part], requests: Vec<Request>) -> Failures {
        let mut at_lane: Vec<Option<Request>> = Vec::new();
        at_lane.resize_with(self.routes.lanes.len(), || None);
        for request in requests {
            let lane = request.lane;
            if let Some(slot) = at_lane.get_mut(lane) {
                *slot = Some(request);
            }
        }
        let lanes = self.routes.lanes.iter_mut().zip(at_lane);
        let attempts = lanes.filter_map(|(route, request)| Some((&mut route.lane, request?)));
        let outcomes = join_all(attempts.map(async |(lane, request)| {
            // Nothing but what is left out here: there is nothing to say to the backend.
            let result = match request.points {
                0 => Ok(Delivered::default()),
                _ => lane.send(request.frame.clone()).await,
            };
            (request, result)
        }));
        let mut failures = Failures { delivered: self.done.any(), ..Failures::default() };
        let outcomes = outcomes.await;
        for (request, result) in outcomes {
            self.settle(parts, &request, result, &mut failures);
        }
        failures
    }

    fn settle(
        &mut self,
        parts: &[Part],
        request: &Request,
        result: Result<Delivered, ExportError>,
        failures: &mut Failures,
    ) {
        match result {
            Ok(said) => {
                failures.delivered = true;
                self.done.tell(said);
                self.done.tell(left_out(request.left_out));
            }
            Err(ExportError::Permanent(text)) => {
                let rejected = (request.points + request.left_out.values()) as u64;
                self.done.tell(Delivered { rejected, message: text.clone() });
                failures.permanent = Some(text);
            }
            Err(ExportError::TooLarge(text)) => return failures.too_large = Some(text),
            Err(ExportError::Retryable { reason, after: Some(after) }) => {
                let longest = failures.busy.as_ref().map_or(Duration::ZERO, |(_, after)| *after);
                return failures.busy = Some((reason, after.max(longest)));
            }
            Err(ExportError::Retryable { reason, after: None }) => {
                self.routes.failed(request.lane);
                return failures.silent = Some(reason);
            }
        }
        for (part, group) in &request.groups {
            self.done.of(&parts[*part]).push((parts[*part].rows.clone(), *group));
        }
    }
}

/// What the backend does not take, in words.
fn left_out(left_out: LeftOut) -> Delivered {
    let LeftOut { not_finite, up_down_deltas, .. } = left_out;
    let message = match (not_finite, up_down_deltas) {
        (0, 0) => String::new(),
        (numbers, 0) => format!("left out {numbers} numbers that are NaN or infinite"),
        (0, deltas) => format!("left out {deltas} deltas of sums that go up and down"),
        (numbers, deltas) => format!(
            "left out {numbers} numbers that are NaN or infinite and {deltas} deltas of sums that go up and down"
        ),
    };
    Delivered { rejected: left_out.values() as u64, message }
}

impl pipeline_component::Sender for Sender {
    fn send<'a>(&'a mut self, parts: &'a [Part]) -> BoxFuture<'a, Result<Delivered, ExportError>> {
        Box::pin(self.attempt(parts))
    }
}
