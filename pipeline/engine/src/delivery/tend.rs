//! Tending the disk: one task per exporter opens the journal, makes it durable, and reads back what memory had no room
//! for. Everything that waits for the disk happens on a blocking thread; a disk that hangs holds up this task alone.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pipeline_component::{DiskSettings, RateLimiter, StartError};
use pipeline_journal::{Chunk, Cursor, FileSystem, Journal, JournalSettings, OpenError};
use pipeline_model::Interner;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tracing::{error, info, warn};

use super::disk::Disk;
use super::queue::{DeliveryQueue, State};

/// Pause after the disk has failed.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Bytes that are read at once, at most.
const CHUNK_MAX: usize = 4 << 20;
/// Bytes that are written down under one hold of the queue's lock.
const TAIL_MAX: usize = 1 << 20;
/// Bytes that may at least wait for a commit.
const BUFFER_MIN: usize = 1 << 20;
/// Acknowledgements are made durable this much sooner than batches: what is not is sent twice after a crash.
const ACK_SHARE: u32 = 4;

/// Where a journal is.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    pub(super) files: Arc<dyn FileSystem>,
    pub(super) interner: Arc<Interner>,
}

/// What the task needs.
pub(super) struct Tender {
    queue: Arc<DeliveryQueue>,
    place: Place,
    settings: DiskSettings,
    said: RateLimiter,
    full: RateLimiter,
    last_commit: Instant,
    /// The disk failed: not before then.
    not_before: Option<Instant>,
    commit_failed: bool,
    read_failed: bool,
}

/// Runs `work` on a blocking thread; a panic there is an error like any other.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    spawn_blocking(work).await.map_err(|_| "the journal panicked".to_owned())
}

/// What of `failed` is to end the start: durability was asked for, and waiting will not bring it.
fn as_start_error(failed: &OpenError) -> Option<StartError> {
    const OTHER: &str = "set `queue.disk.path` to a folder of its own, or end the other process";
    const DENIED: &str = "let this user write there, or set `queue.disk.path` to another folder";
    const WRONG: &str = "set `queue.disk.path` to a folder that can be made and written";
    match failed {
        OpenError::Locked { .. } => {
            Some(StartError::Other(format!("queue.disk: {failed}; {OTHER}")))
        }
        OpenError::Io { source, .. } => match source.kind() {
            ErrorKind::PermissionDenied => {
                Some(StartError::Permission(format!("queue.disk: {failed}; {DENIED}")))
            }
            ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                Some(StartError::Other(format!("queue.disk: {failed}; {WRONG}")))
            }
            _ => None,
        },
    }
}

impl Tender {
    pub(super) fn new(queue: Arc<DeliveryQueue>, place: Place, settings: DiskSettings) -> Self {
        Self {
            queue,
            place,
            settings,
            said: RateLimiter::default(),
            full: RateLimiter::default(),
            last_commit: Instant::now(),
            not_before: None,
            commit_failed: false,
            read_failed: false,
        }
    }

    fn journal(&self) -> Option<Arc<Journal>> {
        self.queue.lock().disk.as_ref()?.journal.clone()
    }

    /// Opens the journal, and takes on what an earlier process left in it. Where that fails it can be tried again.
    ///
    /// # Errors
    /// When the folder is one that somebody has to see to. A disk that fails or is full is only said.
    pub(super) async fn open(&mut self) -> Result<(), StartError> {
        let Place { dir, files, interner } = self.place.clone();
        let mut settings = JournalSettings::new(self.settings.bytes_max.get());
        // What waits for a slow disk is memory too.
        let share = (self.queue.bytes_max() / 2).max(BUFFER_MIN);
        settings.buffer_bytes_max = settings.buffer_bytes_max.min(share);
        let opened = blocking(move || Journal::open_on(files, &dir, settings, interner)).await;
        if let Ok(Err(failed)) = &opened
            && let Some(failed) = as_start_error(failed)
        {
            return Err(failed);
        }
        match opened.and_then(|opened| opened.map_err(|failed| failed.to_string())) {
            Ok((journal, found)) => {
                let (component, dir) = (self.queue.name(), self.place.dir.display());
                if found.batches > 0 {
                    let points = found.points;
                    info!(component, %dir, points, "found points that were not delivered");
                }
                if found.damaged_records > 0 || !found.set_aside.is_empty() {
                    let (damaged, bytes) = (found.damaged_records, found.damaged_bytes);
                    let set_aside = &found.set_aside;
                    warn!(component, %dir, damaged, bytes, ?set_aside, "the queue on disk is damaged, the rest is used");
                }
                let mut state = self.queue.lock();
                let State { disk: Some(disk), ledger, .. } = &mut *state else {
                    return Ok(());
                };
                disk.opened(journal, &found, ledger);
                disk.failing.set(0.0);
                self.queue.show(&state);
            }
            Err(failed) => self.failed("open", &failed),
        }
        Ok(())
    }

    fn failed(&mut self, what: &str, failed: &str) {
        if let Some(disk) = &self.queue.lock().disk {
            disk.errors.inc();
            disk.failing.set(1.0);
        }
        self.not_before = Some(Instant::now() + AGAIN_AFTER);
        if let Some(swallowed) = self.said.admit() {
            let component = self.queue.name();
            error!(
                component,
                what,
                error = failed,
                swallowed,
                "the queue on disk fails, going on from memory"
            );
        }
    }

    /// Tends until dropped.
    pub(super) async fn run(mut self) {
        let every = self.settings.commit_interval.get().max(Duration::from_millis(1));
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_tick = tokio::select! {
                _ = tick.tick() => true,
                () = self.queue.disk_wake.notified() => false,
            };
            if self.not_before.is_some_and(|then| then > Instant::now()) {
                continue;
            }
            if self.journal().is_none() {
                // What runs goes on.
                if let Err(failed) = self.open().await {
                    self.failed("open", &failed.to_string());
                }
                continue;
            }
            let is_due = is_tick || self.last_commit.elapsed() >= every / ACK_SHARE;
            if is_due {
                self.commit(is_tick).await;
            }
            if is_tick {
                self.resume().await;
            }
            while self.read_back().await {}
        }
    }

    /// Makes durable what was written, if `all`, or else if something was acknowledged.
    async fn commit(&mut self, all: bool) {
        let journal = {
            let mut state = self.queue.lock();
            let Some(disk) = &mut state.disk else { return };
            if !(disk.dirty && all || disk.acked) {
                return;
            }
            (disk.dirty, disk.acked) = (false, false);
            disk.journal.clone()
        };
        let Some(journal) = journal else { return };
        let commit =
            move || journal.commit().map(|_| journal.stats().bytes).map_err(|e| e.to_string());
        let outcome = blocking(commit).await;
        self.last_commit = Instant::now();
        match outcome.flatten() {
            Ok(bytes) => {
                if std::mem::take(&mut self.commit_failed) {
                    info!(component = self.queue.name(), "the queue on disk works again");
                }
                if let Some(disk) = &self.queue.lock().disk {
                    disk.bytes.set(bytes as f64);
                }
            }
            Err(failed) => {
                self.commit_failed = true;
                if let Some(disk) = &mut self.queue.lock().disk {
                    (disk.dirty, disk.acked) = (true, true);
                }
                self.failed("write", &failed);
            }
        }
    }

    /// Lets the journal take batches again when it has room, after what came in the meantime.
    async fn resume(&self) {
        loop {
            {
                let mut state = self.queue.lock();
                let State { disk: Some(disk), bytes, .. } = &mut *state else {
                    return;
                };
                let is_failing = disk.refusing || self.commit_failed || self.read_failed;
                disk.failing.set(f64::from(u8::from(is_failing)));
                let limit = self.settings.bytes_max.get();
                let used = disk.journal.as_ref().map_or(u64::MAX, |journal| journal.stats().bytes);
                // Some room, so that it does not refuse and take by turns.
                let has_room = used <= limit - limit / 16;
                if disk.refusing
                    && !has_room
                    && let Some(swallowed) = self.full.admit()
                {
                    let component = self.queue.name();
                    warn!(component, swallowed, "the queue on disk is full, going on from memory");
                }
                let is_open = has_room && !self.commit_failed;
                if !is_open || !(disk.refusing || disk.has_tail()) {
                    return;
                }
                let freed = disk.write_tail(TAIL_MAX);
                *bytes -= freed;
                if !disk.has_tail() {
                    disk.refusing = false;
                }
                self.queue.show(&state);
                if freed == 0 {
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Reads a chunk of what is on disk alone, if memory has room. True when there may be more to do at once.
    async fn read_back(&mut self) -> bool {
        let room = self.queue.bytes_max() / 2;
        let (journal, mut cursor, until) = {
            let mut state = self.queue.lock();
            let is_idle = state.is_idle();
            let has_room = state.bytes <= room;
            let Some(disk) = &mut state.disk else { return false };
            let Some(journal) = disk.journal.clone() else { return false };
            match if has_room { disk.readable(is_idle) } else { None } {
                Some((cursor, until)) => (journal, cursor, until),
                None => {
                    drop(state);
                    self.queue.catch_up();
                    return false;
                }
            }
        };
        let bytes = CHUNK_MAX.min(room / 2);
        let read = blocking(move || {
            let chunk = journal.read(&mut cursor, until, bytes);
            (cursor, chunk)
        });
        match read.await {
            Ok((cursor, Ok(chunk))) => {
                self.read_failed = false;
                !self.queue.admit_read(cursor, chunk)
            }
            Ok((cursor, Err(failed))) => {
                if let Some(disk) = &mut self.queue.lock().disk {
                    disk.cursor = Some(cursor);
                }
                self.read_failed = true;
                self.failed("read", &failed.to_string());
                false
            }
            Err(failed) => {
                if let Some(disk) = &mut self.queue.lock().disk {
                    disk.restart_cursor();
                }
                self.read_failed = true;
                self.failed("read", &failed);
                false
            }
        }
    }
}

impl DeliveryQueue {
    /// Puts what was read into its lanes. True when nothing came.
    fn admit_read(&self, cursor: Cursor, chunk: Chunk) -> bool {
        let mut state = self.lock();
        let State { disk, ledger, seq, .. } = &mut *state;
        let Some(disk) = disk else { return true };
        let entries = disk.read(cursor, chunk, seq, ledger);
        let is_empty = entries.is_empty();
        // Two earlier processes knew the same series by two ids: only one lane keeps them in order.
        let lane = disk.is_recovering().then_some(0);
        let mut due = Vec::new();
        for entry in entries {
            state.bytes += entry.bytes;
            due.extend(self.admit(&mut state, entry, lane));
        }
        self.show(&state);
        drop(state);
        due.into_iter().for_each(|lane| self.wake(lane));
        is_empty
    }

    /// Lets go on what waited behind the disk once nothing is there any more.
    fn catch_up(&self) {
        let mut state = self.lock();
        let Some(tail) = state.disk.as_mut().and_then(Disk::caught_up) else { return };
        for entry in tail {
            self.admit(&mut state, entry, None);
        }
        drop(state);
        self.wake_all();
    }

    /// The last commit, at exit: what is not durable by `deadline` is said.
    pub(crate) async fn commit_last(&self, deadline: Instant) {
        let journal = self.lock().disk.as_ref().and_then(|disk| disk.journal.clone());
        let Some(journal) = journal else { return };
        let commit = blocking(move || journal.commit().map_err(|failed| failed.to_string()));
        let failed = match timeout_at(deadline, commit).await {
            Ok(Ok(Ok(_))) => return,
            Ok(Ok(Err(failed)) | Err(failed)) => failed,
            Err(_) => "it takes too long".to_owned(),
        };
        error!(
            component = self.name(),
            error = failed,
            "the queue on disk could not be written at exit"
        );
    }
}
