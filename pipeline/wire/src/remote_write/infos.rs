//! Who says `target_info`: of several sources with one job and instance the first, whichever encoder it goes through.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use pipeline_model::SourceId;

use super::source::NEVER;

/// Resources that nobody speaks for any more and whose last time is remembered all the same.
const FREE_MAX: usize = 10_000;

/// Job and instance.
pub(super) type Key = (String, String);

/// Leave to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// After which time, Unix milliseconds.
    pub(super) after: i64,
    /// It had none before.
    pub(super) new: bool,
}

/// Who speaks for a job and instance, and up to when that was said by who did before.
#[derive(Debug)]
struct Owner {
    source: Option<SourceId>,
    ms: i64,
}

/// Shared by the encoders of one exporter.
#[derive(Debug, Default)]
pub struct TargetInfos {
    of: Mutex<HashMap<Key, Owner>>,
    /// Grows when somebody lets go.
    freed: AtomicU64,
}

impl TargetInfos {
    fn of(&self) -> MutexGuard<'_, HashMap<Key, Owner>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `source` may speak for a job and instance from now on.
    pub(super) fn claim(&self, key: &Key, source: SourceId) -> Option<Claim> {
        let mut of = self.of();
        match of.get_mut(key) {
            Some(owner) => {
                let new = owner.source.is_none();
                let mine = *owner.source.get_or_insert(source) == source;
                mine.then_some(Claim { after: owner.ms, new })
            }
            None => {
                of.insert(key.clone(), Owner { source: Some(source), ms: NEVER });
                Some(Claim { after: NEVER, new: true })
            }
        }
    }

    /// Lets go of one for which `source` spoke up to `ms`.
    pub(super) fn release(&self, key: &Key, source: SourceId, ms: i64) {
        let mut of = self.of();
        if let Some(owner) = of.get_mut(key).filter(|owner| owner.source == Some(source)) {
            (owner.source, owner.ms) = (None, owner.ms.max(ms));
            self.freed.fetch_add(1, Ordering::Relaxed);
            if of.len() > FREE_MAX {
                of.retain(|_, owner| owner.source.is_some());
            }
        }
    }

    /// Changes when it is worth asking again.
    pub(super) fn freed(&self) -> u64 {
        self.freed.load(Ordering::Relaxed)
    }
}
