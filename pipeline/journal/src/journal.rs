//! [`Journal`]: memory, files and the order between them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use pipeline_model::{Batch, Interner, SourceId};

use crate::api::{
    AppendError, CommitError, Committed, JournalSettings, JournalStats, OpenError, Position,
    Recovered,
};
use crate::fs::{DiskFile, FileSystem, Lock, Os};
use crate::recover::recover;
use crate::state::{Chunk, State};

/// A log of batches in files; see the front page of the crate.
#[derive(Debug)]
pub struct Journal {
    pub(crate) dir: PathBuf,
    pub(crate) files: Arc<dyn FileSystem>,
    pub(crate) interner: Arc<Interner>,
    state: Mutex<State>,
    /// The file that is written, kept open. Held for the whole of a commit: one at a time.
    writing: Mutex<Option<Writing>>,
    /// Who the sources of earlier processes are in this one.
    sources: Mutex<HashMap<(u64, u64), SourceId>>,
    _lock: Lock,
}

#[derive(Debug)]
struct Writing {
    segment: u64,
    file: Box<dyn DiskFile>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these; if something did, refusing all work would lose more.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Journal {
    /// Opens the journal in `dir`, made when it is not there. Whatever state a crash, a power cut or a bad disk left it
    /// in: what can be read is kept, the rest is counted.
    ///
    /// # Errors
    /// When somebody else has it open, or the operating system refuses.
    pub fn open(
        dir: &Path,
        settings: JournalSettings,
        interner: Arc<Interner>,
    ) -> Result<(Self, Recovered), OpenError> {
        Self::open_on(Arc::new(Os), dir, settings, interner)
    }

    /// [`Journal::open`] on another file system, for tests.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_on(
        files: Arc<dyn FileSystem>,
        dir: &Path,
        settings: JournalSettings,
        interner: Arc<Interner>,
    ) -> Result<(Self, Recovered), OpenError> {
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |source| OpenError::Io { path, source }
        };
        files.create_dir(dir).map_err(at(dir))?;
        let path = dir.join("lock");
        let Some(lock) = files.lock(&path).map_err(at(&path))? else {
            return Err(OpenError::Locked { dir: dir.to_path_buf() });
        };
        let (state, recovered) = recover(&*files, dir, settings)?;
        let journal = Self {
            dir: dir.to_path_buf(),
            files,
            interner,
            state: Mutex::new(state),
            writing: Mutex::default(),
            sources: Mutex::default(),
            _lock: lock,
        };
        Ok((journal, recovered))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Appends `batch`. It is durable after the next [`Journal::commit`] that succeeds.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn append(&self, batch: &Batch) -> Result<Position, AppendError> {
        self.state().append(batch)
    }

    /// Says that the batch at `position` was delivered or dropped: it never comes back once this is committed. False
    /// when that was said before, by [`Journal::drop_oldest`] for instance.
    pub fn ack(&self, position: Position) -> bool {
        self.state().ack(position.sequence)
    }

    /// Gives up the batches of the oldest file that has any, to make room. They are acknowledged by this, also those
    /// that are on their way. Empty when there is nothing to give up.
    #[must_use = "what is dropped is to be counted"]
    pub fn drop_oldest(&self) -> Vec<Position> {
        self.state().drop_oldest()
    }

    /// How much it holds.
    pub fn stats(&self) -> JournalStats {
        self.state().stats()
    }

    /// All batches that are waited for, up to the one with this [`Position::sequence`], are durable: what a process that
    /// ends now leaves to the next.
    pub fn durable(&self) -> u64 {
        self.state().durable()
    }

    /// How many batches after `sequence` are waited for, and their points.
    pub fn waiting_after(&self, sequence: u64) -> (u64, u64) {
        self.state().waiting_after(sequence)
    }

    /// Who `source` of the process `epoch` is here.
    pub(crate) fn source(&self, epoch: u64, source: u64) -> SourceId {
        if epoch == self.state().epoch() {
            return SourceId::from_raw(source);
        }
        *lock(&self.sources).entry((epoch, source)).or_insert_with(SourceId::next)
    }

    /// Makes durable what was appended and acknowledged so far, and removes files that nobody needs. Without anything
    /// to do it touches nothing. Appending goes on meanwhile.
    ///
    /// # Errors
    /// When the disk refuses: it is worth trying again later. Nothing is lost by it as long as the process lives.
    pub fn commit(&self) -> Result<Committed, CommitError> {
        let mut writing = lock(&self.writing);
        let (chunks, sequence) = self.state().begin_commit();
        let mut bytes = 0;
        let mut outcome = Ok(());
        for chunks in chunks.chunk_by(|a, b| a.segment == b.segment) {
            outcome = self.write(&mut writing, chunks);
            if outcome.is_err() {
                // What a failed sync left behind is unknown: all of it is written again, to a file opened anew.
                *writing = None;
                break;
            }
            bytes += chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum::<u64>();
        }
        let is_idle = outcome.is_err() && self.state().write_failed();
        // Room may be what is missing, so this comes after a failure too.
        let removed = self.remove_disposable();
        // Where everything could be removed, nothing is left that had to be written.
        outcome.or_else(|failed| if is_idle { Ok(()) } else { Err(failed) }).and(removed)?;
        Ok(Committed { sequence, bytes })
    }

    /// Writes chunks of one segment, and makes them durable; where the disk has no room for all of them, those it has.
    fn write(&self, writing: &mut Option<Writing>, chunks: &[Chunk]) -> Result<(), CommitError> {
        let Some(first) = chunks.first() else { return Ok(()) };
        let id = first.segment;
        let (path, is_linked) = {
            let mut state = self.state();
            let Some(segment) = state.segment_mut(id) else { return Ok(()) };
            segment.is_created = true;
            (segment.name.path(&self.dir), segment.is_linked)
        };
        let at = |source| CommitError { path: path.clone(), source };
        let file = match writing {
            Some(open) if open.segment == id => &open.file,
            _ => {
                let file = self.files.create(&path).map_err(at)?;
                &writing.insert(Writing { segment: id, file }).file
            }
        };
        let (mut last, mut outcome) = (None, Ok(()));
        for chunk in chunks {
            outcome = file.write_all_at(&chunk.bytes, chunk.offset).map_err(at);
            if outcome.is_err() {
                // What is not durable is not to come back either: it will have been counted as lost. Where the disk
                // refuses this too, the next attempt writes over it.
                let _cut = file.truncate(chunk.offset);
                break;
            }
            last = Some(chunk);
        }
        let Some(last) = last else { return outcome };
        file.sync().map_err(at)?;
        if !is_linked {
            self.sync_dir()?;
        }
        self.state().written(last);
        outcome
    }

    /// Removes the files that nobody needs, each for good before the next: one that came back after a power cut while
    /// a later one stayed away would have lost its acknowledgements.
    fn remove_disposable(&self) -> Result<(), CommitError> {
        loop {
            let found = self.state().disposable();
            let Some((name, is_created)) = found else { return Ok(()) };
            if is_created {
                let path = name.path(&self.dir);
                match self.files.remove(&path) {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        return Err(CommitError { path, source });
                    }
                    _ => self.sync_dir()?,
                }
            }
            self.state().removed(name.id);
        }
    }

    fn sync_dir(&self) -> Result<(), CommitError> {
        self.files
            .sync_dir(&self.dir)
            .map_err(|source| CommitError { path: self.dir.clone(), source })
    }
}
