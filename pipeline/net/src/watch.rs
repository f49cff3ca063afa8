//! [`Watched`]: a value made from files, made again when they change.
//!
//! Not a watcher with a task of its own: whoever needs the value asks, and a look at the files costs a `stat` at most once
//! per [`LOOK_EVERY`]. A file that cannot be read any more leaves the last good value in place, with a warning.

use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::{info, warn};

/// How often the files are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A value made from files.
pub(crate) struct Watched<T, E> {
    inner: Arc<Inner<T, E>>,
}

struct Inner<T, E> {
    files: Vec<PathBuf>,
    load: Box<dyn Fn() -> Result<T, E> + Send + Sync>,
    reread_after: Option<Duration>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    stamps: Vec<Stamp>,
    looked: Instant,
    loaded: Instant,
}

/// What tells two versions of a file apart. The length is in it because the clock of a file system may be coarse.
type Stamp = Option<(SystemTime, u64)>;

impl<T, E> Watched<T, E>
where
    T: Send + Sync + 'static,
    E: Error + Send + 'static,
{
    /// Makes the first value; blocks on the files. `reread_after` makes it again that long after the last time, even
    /// when no file seems to have changed. Without files the value stays as it is.
    pub(crate) fn open(
        files: Vec<PathBuf>,
        reread_after: Option<Duration>,
        load: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        let stamps = stamps(&files);
        let value = Arc::new(load()?);
        let now = Instant::now();
        let state = Mutex::new(State { value, stamps, looked: now, loaded: now });
        Ok(Self { inner: Arc::new(Inner { files, load: Box::new(load), reread_after, state }) })
    }

    /// Gives the value as the files have it now (give or take [`LOOK_EVERY`]).
    pub(crate) async fn current(&self) -> Arc<T> {
        if self.inner.due() {
            let inner = Arc::clone(&self.inner);
            if let Err(error) = tokio::task::spawn_blocking(move || inner.look()).await {
                warn!(%error, "looking at watched files failed");
            }
        }
        Arc::clone(&self.inner.state().value)
    }
}

impl<T, E: Error> Inner<T, E> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether it is time to look, and takes the turn.
    fn due(&self) -> bool {
        if self.files.is_empty() {
            return false;
        }
        let mut state = self.state();
        let due = state.looked.elapsed() >= LOOK_EVERY;
        if due {
            state.looked = Instant::now();
        }
        due
    }

    fn look(&self) {
        let found = stamps(&self.files);
        {
            let mut state = self.state();
            let old = self.reread_after.is_some_and(|after| state.loaded.elapsed() >= after);
            if state.stamps == found && !old {
                return;
            }
            // Also when loading fails below: the next try waits for the next change (a key that follows its
            // certificate, say) instead of warning every second.
            state.stamps.clone_from(&found);
            state.loaded = Instant::now();
        }
        match (self.load)() {
            Ok(value) => {
                self.state().value = Arc::new(value);
                if self.reread_after.is_none() {
                    info!(files = ?self.files, "loaded changed files");
                }
            }
            Err(error) => {
                let cause = error.source().map(ToString::to_string);
                warn!(files = ?self.files, %error, cause, "loading changed files failed, the last good ones stay in use");
            }
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let meta = std::fs::metadata(file).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(file: PathBuf, reread_after: Option<Duration>) -> Watched<u32, std::io::Error> {
        let load = {
            let file = file.clone();
            move || std::fs::read_to_string(&file)?.parse().map_err(std::io::Error::other)
        };
        Watched::open(vec![file], reread_after, load).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn follows_the_file_and_keeps_the_last_good_value() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("n");
        std::fs::write(&file, "1").unwrap();
        let watched = numbers(file.clone(), None);
        std::fs::write(&file, "22").unwrap();
        assert_eq!(*watched.current().await, 1, "within a second nobody looks");
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(*watched.current().await, 22);
        std::fs::write(&file, "oops").unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(*watched.current().await, 22);
        std::fs::remove_file(&file).unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(*watched.current().await, 22);
        std::fs::write(&file, "333").unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(*watched.current().await, 333);
    }

    #[tokio::test(start_paused = true)]
    async fn reads_again_after_a_while_even_when_the_stamp_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("n");
        std::fs::write(&file, "1").unwrap();
        let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
        let watched = numbers(file.clone(), Some(Duration::from_secs(30)));
        std::fs::write(&file, "2").unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
        tokio::time::advance(Duration::from_secs(29)).await;
        assert_eq!(*watched.current().await, 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(*watched.current().await, 2);
    }
}
