//! [`DeliveryQueue`]: what one exporter has taken and not settled. One lock for all of its shards, held for
//! a few moves of pointers, so that limits and counts are exact.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pipeline_component::telemetry::Telemetry;
use pipeline_component::{Delivery, Shutdown, WhenFull};
use pipeline_journal::Position;
use pipeline_model::{Batch, SourceId};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tracing::error;

use super::disk::Disk;
use super::entry::{Entry, Lane, Wake};
use super::ledger::{Ledger, Outcome, Reason, Shown};
use super::losses::Losses;
use super::request::Request;

/// When a receiver may come again where nothing better is known.
const FULL_FOR: Duration = Duration::from_secs(1);

/// Everything under the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) lanes: Vec<Lane>,
    /// Bytes of memory: what waits in lanes, what is in flight, what waits behind the disk.
    pub(super) bytes: usize,
    pub(super) ledger: Ledger,
    pub(super) disk: Option<Disk>,
    pub(super) seq: u64,
    closed: bool,
    /// The backend asked for silence until then.
    quiet_until: Option<Instant>,
}

/// One exporter's queue, in front of its shards.
#[derive(Debug)]
pub(crate) struct DeliveryQueue {
    name: String,
    pub(super) settings: Delivery,
    state: Mutex<State>,
    wakes: Vec<Notify>,
    /// For the one that tends the disk: something was settled, or closed.
    pub(super) disk_wake: Notify,
    pub(super) closing: Shutdown,
    pub(super) shown: Shown,
    pub(super) losses: Losses,
}

impl DeliveryQueue {
    /// An empty queue; `telemetry` is scoped to the exporter `name`.
    pub(crate) fn new(name: &str, settings: Delivery, telemetry: &Telemetry) -> Self {
        let lanes = settings.concurrency.max(1);
        let state = State {
            lanes: std::iter::repeat_with(Lane::default).take(lanes).collect(),
            bytes: 0,
            ledger: Ledger::new(telemetry),
            disk: settings.queue.disk.as_ref().map(|_| Disk::new(telemetry)),
            seq: 0,
            closed: false,
            quiet_until: None,
        };
        Self {
            name: name.to_owned(),
            settings,
            state: Mutex::new(state),
            wakes: std::iter::repeat_with(Notify::new).take(lanes).collect(),
            disk_wake: Notify::new(),
            closing: Shutdown::new(),
            shown: Shown::new(telemetry),
            losses: Losses::default(),
        }
    }

    /// Who it belongs to.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How many shards take from it.
    pub(crate) fn lanes(&self) -> usize {
        self.wakes.len()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.settings.queue.bytes_max.as_usize()
    }

    /// Bytes of one request: never so many that requests alone fill the queue.
    fn request_bytes_max(&self) -> usize {
        let share = self.bytes_max() / (2 * self.lanes());
        self.settings.batch.bytes_max.as_usize().min(share).max(1)
    }

    /// True when receivers are to wait rather than anything be lost.
    pub(crate) fn holds_back(&self) -> bool {
        self.settings.queue.when_full == WhenFull::Backpressure
    }

    /// When it is worth coming again, if there is no room now.
    pub(crate) fn full_for(&self) -> Option<Duration> {
        let state = self.lock();
        let is_full =
            state.bytes >= self.bytes_max() && state.disk.as_ref().is_none_or(|disk| !disk.takes());
        is_full.then(|| {
            let quiet = state.quiet_until.map(|until| until.duration_since(Instant::now()));
            quiet.unwrap_or_default().max(FULL_FOR)
        })
    }

    /// Takes `batch`, or drops it or older ones by `when_full`, counted. Never waits. Gives its points.
    pub(crate) fn push(&self, batch: Batch) -> usize {
        let entry = Entry::new(batch, Instant::now());
        let points = entry.size.points;
        let mut state = self.lock();
        state.ledger.take(points);
        let lane = if state.closed {
            state.ledger.drop(Reason::Shutdown, points);
            None
        } else {
            self.place(&mut state, entry)
        };
        self.show(&state);
        drop(state);
        if let Some(wake) = lane.and_then(|lane| self.wakes.get(lane)) {
            wake.notify_one();
        }
        points
    }

    /// Puts `entry` where it belongs; gives the lane whose shard is to be woken.
    fn place(&self, state: &mut State, mut entry: Entry) -> Option<usize> {
        entry.seq = state.seq;
        state.seq += 1;
        let has_room = state.bytes + entry.bytes <= self.bytes_max();
        if let State { disk: Some(disk), ledger, .. } = state {
            entry.position = disk.append(&entry.part.batch, self.settings.queue.when_full, ledger);
            match entry.position {
                Some(position) if disk.is_ahead() || !has_room => {
                    disk.spill(position, entry.taken);
                    self.disk_wake.notify_one();
                    return None;
                }
                _ => {}
            }
        }
        if !has_room && !self.make_room(state, entry.bytes) {
            self.lost(state, Reason::QueueFull, entry.size.points);
            return None;
        }
        state.bytes += entry.bytes;
        match &mut state.disk {
            // What the disk has goes first.
            Some(disk) if disk.is_ahead() => {
                disk.tail.push(entry);
                None
            }
            _ => self.admit(state, entry, None),
        }
    }

    /// Puts `entry`, whose bytes are counted, in `lane` or else that of its source; gives it if its shard is to be woken.
    pub(super) fn admit(
        &self,
        state: &mut State,
        entry: Entry,
        lane: Option<usize>,
    ) -> Option<usize> {
        let source = entry.part.batch.source;
        let idx = lane.unwrap_or_else(|| lane_of(source, state.lanes.len()));
        let lane = state.lanes.get_mut(idx)?;
        lane.push(entry).then_some(idx)
    }

    /// Drops the oldest until there is room for `bytes`; false when the new is to be dropped instead.
    fn make_room(&self, state: &mut State, bytes: usize) -> bool {
        match self.settings.queue.when_full {
            // Receivers were told to wait; what was on its way by then is kept.
            WhenFull::Backpressure => {}
            // A batch larger than the whole queue is taken alone.
            WhenFull::DropNewest => return state.bytes == 0,
            WhenFull::DropOldest => {
                while state.bytes + bytes > self.bytes_max() {
                    let Some(oldest) = state.pop_oldest() else { break };
                    state.bytes -= oldest.bytes;
                    if let (Some(disk), Some(position)) = (&mut state.disk, oldest.position) {
                        disk.ack(position);
                    }
                    self.lost(state, Reason::QueueFull, oldest.size.points);
                }
            }
        }
        true
    }

    fn lost(&self, state: &mut State, reason: Reason, points: usize) {
        state.ledger.drop(reason, points);
        self.tell_lost(reason, points, "the queue is full");
    }

    /// The next request of a shard, in order; `None` once closed and empty. Waits until it is full or its first entry
    /// has waited for the batch timeout. The one before must be finished. Cancel safe.
    pub(super) async fn next(&self, lane: usize, weight_max: usize) -> Option<Request> {
        let bytes_max = self.request_bytes_max();
        let timeout = self.settings.batch.timeout.get();
        let wake = self.wakes.get(lane)?;
        loop {
            let due = {
                let mut state = self.lock();
                let closed = state.closed;
                let has_more = state.disk.as_ref().is_some_and(Disk::is_ahead);
                let own = state.lanes.get_mut(lane)?;
                debug_assert!(!own.flight.is_open(), "one request at a time");
                let due = own.waiting.front().map(|front| front.taken + timeout);
                let is_full = own.size.weight >= weight_max || own.bytes >= bytes_max;
                match due {
                    Some(due) if closed || is_full || due <= Instant::now() => {
                        own.wake = Wake::No;
                        let request = own.take(weight_max, bytes_max);
                        self.show(&state);
                        return Some(request);
                    }
                    None if closed && !has_more => return None,
                    Some(_) => own.wake = Wake::At { weight: weight_max, bytes: bytes_max },
                    None => own.wake = Wake::First,
                }
                due
            };
            match due {
                // Whichever it was, the state tells.
                Some(due) => drop(timeout_at(due, wake.notified()).await),
                None => wake.notified().await,
            }
        }
    }

    /// A request of `lane` was taken by the backend, but for `rejected` of its points.
    pub(super) fn delivered(&self, lane: usize, points: usize, rejected: usize) {
        let mut state = self.lock();
        let State { lanes, ledger, .. } = &mut *state;
        ledger.deliver(points.saturating_sub(rejected));
        ledger.drop(Reason::Rejected, rejected.min(points));
        if let Some(lane) = lanes.get_mut(lane) {
            lane.flight.points -= points;
        }
        self.show(&state);
    }

    /// A request of `lane` is given up.
    pub(super) fn refused(&self, lane: usize, points: usize, reason: Reason) {
        let mut state = self.lock();
        state.ledger.drop(reason, points);
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.flight.points -= points;
        }
        self.show(&state);
    }

    /// All that [`Self::next`] gave is settled. Points that are not are lost by a panic of ours.
    pub(super) fn finish(&self, lane: usize) {
        let mut state = self.lock();
        let State { lanes, ledger, disk, bytes, .. } = &mut *state;
        let Some(lane) = lanes.get_mut(lane) else { return };
        let flight = &mut lane.flight;
        let lost = std::mem::take(&mut flight.points);
        if lost > 0 {
            ledger.drop(Reason::Panic, lost);
            self.tell_lost(Reason::Panic, lost, "delivery panicked");
        }
        *bytes -= std::mem::take(&mut flight.bytes);
        flight.oldest = None;
        if let Some(disk) = disk {
            flight.positions.drain(..).for_each(|position| disk.ack(position));
            self.disk_wake.notify_one();
        }
        debug_assert_eq!(state.unaccounted(), 0, "taken = delivered + waiting + dropped");
        self.show(&state);
    }

    /// The backend asked for silence: all shards keep it.
    pub(super) fn keep_quiet(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        state.quiet_until = state.quiet_until.max(Some(until));
    }

    /// Resolves when the backend may be spoken to.
    pub(super) async fn quiet(&self) {
        loop {
            let until = self.lock().quiet_until;
            match until {
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                Some(_) | None => return,
            }
        }
    }

    /// An attempt ended.
    pub(super) fn attempt(&self, outcome: Outcome, took: Duration) {
        self.shown.attempt(outcome, took);
    }

    /// The exporter's own steps made `given` points of `taken`.
    pub(crate) fn reshaped(&self, taken: usize, given: usize) {
        self.shown.reshaped(taken, given);
    }

    /// One of the exporter's own steps panicked on a batch of `points`.
    pub(crate) fn step_panicked(&self, points: usize) {
        self.shown.panicked();
        let mut state = self.lock();
        state.ledger.take(points);
        state.ledger.drop(Reason::Panic, points);
        self.tell_lost(Reason::Panic, points, "a step before the exporter panicked");
    }

    /// No more batches will come; what waits is still handed out, without waiting for more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.closing.trigger();
        self.wake_all();
        self.disk_wake.notify_one();
    }

    /// Lets every shard look again.
    pub(super) fn wake_all(&self) {
        self.wakes.iter().for_each(Notify::notify_one);
    }

    /// Lets the shard of `lane` look again.
    pub(super) fn wake(&self, lane: usize) {
        if let Some(wake) = self.wakes.get(lane) {
            wake.notify_one();
        }
    }

    /// The shards are gone and will not come back: what is not durable on disk is lost, and counted. Gives the points
    /// that are lost, and those that stay on disk.
    pub(crate) fn abandon(&self) -> (usize, usize) {
        let mut state = self.lock();
        state.closed = true;
        let State { lanes, ledger, disk, bytes, .. } = &mut *state;
        let mut lost = 0;
        let kept = disk.as_ref().map(Disk::kept);
        let is_kept = |position: &Position| {
            kept.as_ref().is_some_and(|kept| kept.contains(&position.sequence()))
        };
        for lane in lanes {
            let flight = &mut lane.flight;
            let kept = flight.positions.iter().filter(|position| is_kept(position));
            let kept: usize = kept.map(|position| position.points() as usize).sum();
            lost += flight.points.saturating_sub(kept);
            flight.points = flight.points.min(kept);
            (lane.size, lane.bytes) = Default::default();
            for entry in std::mem::take(&mut lane.waiting) {
                if entry.position.as_ref().is_some_and(is_kept) {
                    // Counted with the flight from here on: not delivered, not lost.
                    lane.flight.points += entry.size.points;
                } else {
                    lost += entry.size.points;
                }
            }
        }
        if let (Some(disk), Some(kept)) = (disk, &kept) {
            lost += disk.lose_rest(kept);
        }
        *bytes = 0;
        ledger.drop(Reason::Shutdown, lost);
        self.show(&state);
        (lost, state.waiting())
    }

    /// Says so if flows and stocks do not agree. Called at exit.
    pub(crate) fn audit(&self) {
        let state = self.lock();
        let off = state.unaccounted();
        if off > 0 {
            state.ledger.unbalanced(off);
            error!(component = %self.name, points = off, "taken = delivered + waiting + dropped does not hold");
        }
        debug_assert_eq!(off, 0, "taken = delivered + waiting + dropped");
    }

    /// Brings the gauges up to date.
    pub(super) fn show(&self, state: &State) {
        let in_flight: usize = state.lanes.iter().map(|lane| lane.flight.points).sum();
        self.shown.queue_bytes.set(state.bytes as f64);
        self.shown.queue_points.set((state.waiting() - in_flight) as f64);
        self.shown.in_flight.set(in_flight as f64);
        if let Some(disk) = &state.disk {
            self.shown.disk_points.set(disk.points as f64);
        }
    }

    /// Keeps the age of the oldest batch up to date, and tells of losses that no line told of.
    pub(crate) async fn show_age(&self) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let mut disk_told = [(Reason::DiskFull, 0), (Reason::DiskDamaged, 0)];
        loop {
            tick.tick().await;
            let oldest = self.lock().oldest();
            let age = oldest.map_or(0.0, |oldest| oldest.elapsed().as_secs_f64());
            self.shown.oldest.set(age);
            self.tell_due(&mut disk_told);
        }
    }
}

impl State {
    /// The oldest entry that waits in memory. What is in flight stays there.
    fn pop_oldest(&mut self) -> Option<Entry> {
        let fronts = self.lanes.iter_mut().filter(|lane| !lane.waiting.is_empty());
        match fronts.min_by_key(|lane| lane.waiting.front().map(|front| front.seq)) {
            Some(lane) => lane.pop(),
            None => self.disk.as_mut()?.tail.pop(),
        }
    }

    /// Points that are neither delivered nor lost, counted where they are.
    pub(super) fn waiting(&self) -> usize {
        let lanes = self.lanes.iter().map(|lane| lane.size.points + lane.flight.points);
        lanes.sum::<usize>() + self.disk.as_ref().map_or(0, Disk::waiting)
    }

    /// Points by which flows and stocks disagree.
    pub(super) fn unaccounted(&self) -> u64 {
        self.ledger.unaccounted(self.waiting())
    }

    fn oldest(&self) -> Option<Instant> {
        let disk = self.disk.as_ref().and_then(Disk::oldest);
        self.lanes.iter().filter_map(Lane::oldest).chain(disk).min()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.lanes.iter().all(Lane::is_idle)
    }
}

/// The lane of a source: always the same one, so that its order is kept.
fn lane_of(source: SourceId, lanes: usize) -> usize {
    // Fibonacci hashing: ids are consecutive numbers or hashes, and pipelines share them out by their lowest bits.
    let mixed = source.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (mixed % lanes.max(1) as u64) as usize
}
