//! OTLP metrics in: [`MetricsReader`].
//!
//! `cursor` and `points` walk the bytes, `known`, `vocabulary` and `source` are what is remembered of a resource, `fill`
//! brings the two together and `late` sorts out several points of one series. Whatever is not known yet is decoded in
//! `attributes`. JSON is translated to protobuf first, in `json`.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use pipeline_model::{Batch, Interner};

use attributes::{Decoder, Refusal};
use cursor::{Cursor, Fault, Field, Run};
use fill::{Fill, Request};
use known::{Known, Swept};
use late::Unfinished;

mod attributes;
mod cursor;
mod fill;
mod json;
mod known;
mod late;
mod points;
mod report;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod vocabulary;
mod write;

pub use report::{ReadError, ReadStats, ReaderStats, Reason};
pub use settings::ReadSettings;

/// Locks that connections share.
const SHARDS: usize = 16;
/// Resources of one body that are sorted by identity at a time: a bound on memory, far beyond any real request.
const PARTS_MAX: usize = 4096;

type Shard = HashTable<Box<Known>>;

/// Reads the export requests of one receiver. Many connections use one reader at once.
///
/// Each resource is a source of its own: the bytes of its `Resource` message are its identity, and its shape grows by
/// the series that its requests bring. A series that a request lacks is absent, not ended; what is silent for long
/// ends by [`MetricsReader::sweep`]. A resource with very many series is several sources.
///
/// A point is known again by its bytes: resource, scope, metric and attributes are compared with those that came at
/// this place in the resource's last request, else looked up by hash, else decoded.
#[derive(Debug)]
pub struct MetricsReader {
    settings: ReadSettings,
    interner: Arc<Interner>,
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    resources: AtomicUsize,
    /// Bytes that all of them hold.
    held: AtomicUsize,
}

/// A `ResourceMetrics` of a body.
struct Part<'a> {
    message: &'a [u8],
    resource: Run,
    schema: &'a [u8],
    hash: u64,
}

impl Part<'_> {
    fn identity(&self) -> (&[u8], &[u8]) {
        (self.resource.of(self.message), self.schema)
    }
}

impl MetricsReader {
    /// A reader that knows nothing yet.
    pub fn new(settings: ReadSettings, interner: Arc<Interner>) -> Self {
        Self {
            settings,
            interner,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
            resources: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
        }
    }

    /// Reads the protobuf of an `ExportMetricsServiceRequest` and appends its points to `out`: one batch for each
    /// resource, several in order of time where a series has several points. `received` (Unix nanoseconds) is the
    /// time of points without one.
    ///
    /// # Errors
    /// When the bytes are no such message; then nothing of it was taken and `out` is as before.
    pub fn read(
        &self,
        body: &[u8],
        received: i64,
        out: &mut Vec<Batch>,
    ) -> Result<ReadStats, ReadError> {
        let before = out.len();
        self.walk(body, received, out).map_err(|fault| {
            out.truncate(before);
            fault.locate(body)
        })
    }

    /// Reads a request in OTLP's JSON encoding, else as [`MetricsReader::read`].
    ///
    /// # Errors
    /// When the text is no such message; then nothing of it was taken and `out` is as before.
    pub fn read_json(
        &self,
        body: &[u8],
        received: i64,
        out: &mut Vec<Batch>,
    ) -> Result<ReadStats, ReadError> {
        let message = json::translate(body)?;
        self.read(&message, received, out)
    }

    /// Ends the resources that were silent for `idle`, and forgets single series that were silent for between once
    /// and twice that; `now` is Unix nanoseconds on the clock of `received`. Call it a few times per `idle`.
    pub fn sweep(&self, idle: Duration, now: i64, out: &mut Vec<Batch>) {
        let idle = i64::try_from(idle.as_nanos()).unwrap_or(i64::MAX);
        for shard in &self.shards {
            lock(shard).retain(|known| match known.sweep(&self.interner, idle, now, out) {
                Swept::Nothing => true,
                Swept::Series { released } => {
                    self.release(released);
                    true
                }
                Swept::All => {
                    self.forget(known);
                    false
                }
            });
        }
    }

    /// What is remembered now.
    pub fn stats(&self) -> ReaderStats {
        let series = |shard| lock(shard).iter().map(|known| known.series()).sum::<usize>();
        ReaderStats {
            resources: self.resources.load(Relaxed),
            series: self.shards.iter().map(series).sum(),
            bytes: self.held.load(Relaxed),
        }
    }

    fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Relaxed);
    }

    fn walk(&self, body: &[u8], received: i64, out: &mut Vec<Batch>) -> Result<ReadStats, Fault> {
        let mut request = Request::new(received);
        let mut parts = Vec::new();
        let mut cursor = Cursor::new(body);
        while let Some(field) = cursor.next()? {
            match field {
                (1, Field::Bytes(message)) => parts.push(self.part(message)?),
                (1, _) => return Err(cursor.wrong_type()),
                _ => {}
            }
            if parts.len() >= PARTS_MAX {
                self.parts(&mut parts, &mut request, out)?;
            }
        }
        self.parts(&mut parts, &mut request, out)?;
        Ok(request.stats)
    }

    fn part<'a>(&self, message: &'a [u8]) -> Result<Part<'a>, Fault> {
        let mut part = Part { message, resource: Run::default(), schema: b"", hash: 0 };
        let mut cursor = Cursor::new(message);
        while let Some(field) = cursor.next()? {
            match field {
                (1, Field::Bytes(bytes)) => {
                    part.resource.add(message, cursor.pos() - bytes.len(), cursor.pos());
                }
                (3, Field::Bytes(url)) => part.schema = url,
                (2, Field::Bytes(_)) => {}
                (1..=3, _) => return Err(cursor.wrong_type()),
                _ => {}
            }
        }
        part.hash = self.hasher.hash_one(part.identity());
        Ok(part)
    }

    /// Reads `parts` resource by resource, and leaves none.
    fn parts(
        &self,
        parts: &mut Vec<Part<'_>>,
        request: &mut Request,
        out: &mut Vec<Batch>,
    ) -> Result<(), Fault> {
        // Stable: what one resource has in several parts stays in order.
        parts.sort_by(|a, b| a.hash.cmp(&b.hash).then_with(|| a.identity().cmp(&b.identity())));
        let mut resources: Vec<&[Part<'_>]> =
            parts.chunk_by(|a, b| a.identity() == b.identity()).collect();
        resources.sort_by_key(|of_one| of_one.first().map(|part| part.message.as_ptr()));
        for of_one in resources {
            self.resource(of_one, request, out)?;
        }
        parts.clear();
        Ok(())
    }

    /// Reads the parts of one resource.
    fn resource(
        &self,
        parts: &[Part<'_>],
        request: &mut Request,
        out: &mut Vec<Batch>,
    ) -> Result<(), Fault> {
        let Some(first) = parts.first() else { return Ok(()) };
        let (raw, schema) = first.identity();
        let hasher = &self.hasher;
        // The high bits: tables use the others.
        let shard = self.shards.get((first.hash >> 60) as usize % SHARDS);
        let Some(mut shard) = shard.map(lock) else { return Ok(()) };
        let hash_of = |known: &_| hasher.hash_one(Known::identity(known));
        match shard.entry(first.hash, |known| known.is(raw, schema), |known| hash_of(known)) {
            Entry::Occupied(mut known) => {
                let read = self.fill(known.get_mut(), parts, request, out);
                if let Err(Unfinished::Mistake(_)) = read {
                    let (known, _) = known.remove();
                    self.forget(&known);
                }
                read.or_else(Unfinished::into_fault)
            }
            Entry::Vacant(place) => {
                let mut known = match self.new_resource(raw, schema) {
                    Ok(known) => known,
                    Err(Refusal::Fault(fault)) => return Err(fault),
                    Err(Refusal::Reject(reason)) => {
                        let points = parts.iter().map(|part| fill::all_points(part.message));
                        let points = points.sum::<Result<u64, Fault>>()?;
                        request.stats.points += points;
                        request.stats.reject(reason, points);
                        return Ok(());
                    }
                };
                let read = self.fill(&mut known, parts, request, out);
                if read.is_ok() && known.series() > 0 {
                    place.insert(known);
                } else {
                    self.forget(&known);
                }
                read.or_else(Unfinished::into_fault)
            }
        }
    }

    fn new_resource(&self, raw: &[u8], schema: &[u8]) -> Result<Box<Known>, Refusal> {
        if self.resources.load(Relaxed) >= self.settings.resources_max {
            return Err(Reason::Resources.into());
        }
        let decoder = self.decoder();
        let resource = decoder.resource(raw, schema)?;
        if !decoder.reserve(Known::bytes_of(raw, schema)) {
            return Err(Reason::Memory.into());
        }
        self.resources.fetch_add(1, Relaxed);
        Ok(Box::new(Known::new(raw, schema, resource, self.hasher.clone())))
    }

    /// Takes back what a resource, no longer known, was accounted for.
    fn forget(&self, known: &Known) {
        self.resources.fetch_sub(1, Relaxed);
        self.release(known.bytes());
    }

    fn decoder(&self) -> Decoder<'_> {
        Decoder { settings: &self.settings, interner: &self.interner, held: &self.held }
    }

    fn fill(
        &self,
        known: &mut Known,
        parts: &[Part<'_>],
        request: &mut Request,
        out: &mut Vec<Batch>,
    ) -> Result<(), Unfinished> {
        let mut fill = Fill::new(known, self.decoder(), request);
        let walked = parts.iter().try_for_each(|part| fill.resource_metrics(part.message));
        // After a fault too: shapes must go on from what the walk has taken in.
        let finished = fill.finish(out);
        walked.map_err(Unfinished::Fault).and(finished)
    }
}

impl Unfinished {
    /// A mistake of ours is none of the sender's.
    fn into_fault(self) -> Result<(), Fault> {
        match self {
            Self::Fault(fault) => Err(fault),
            Self::Mistake(what) => {
                debug_assert!(false, "{what}");
                Ok(())
            }
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // A panic elsewhere leaves at worst a resource whose last request is lost.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
