//! Delivery: everything between a pipeline's workers and an exporter's senders.
//!
//! ```text
//!                      ┌─ lane ─▶ shard: request, attempts ─▶ sender
//! worker ─ steps ─▶ queue ┼─ lane ─▶ shard …
//!                      └─ disk (journal): what memory has no room for
//! ```
//!
//! A source always has the same lane, so its order is kept. One ledger per exporter: taken = delivered + waiting +
//! in flight + dropped, at all times.

mod backoff;
mod disk;
mod entry;
mod ledger;
mod losses;
mod queue;
mod request;
mod shard;
mod tend;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pipeline_component::StartError;
use pipeline_journal::{FileSystem, Os};
use pipeline_model::Interner;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info};

pub(crate) use queue::DeliveryQueue;
use shard::{MakeSender, Said, Shard};
use tend::{Place, Tender};

/// What the last commit may take beyond the deadline of a shutdown.
const COMMIT_AFTER_DEADLINE: Duration = Duration::from_secs(2);

/// One pushing exporter: its queue, and what is needed to run it.
pub(crate) struct DeliveryNode {
    pub(crate) queue: Arc<DeliveryQueue>,
    make: Arc<MakeSender>,
    dir: PathBuf,
    files: Arc<dyn FileSystem>,
}

impl DeliveryNode {
    /// `dir` is where a queue on disk is kept.
    pub(crate) fn new(queue: Arc<DeliveryQueue>, make: MakeSender, dir: PathBuf) -> Self {
        Self { queue, make: Arc::new(make), dir, files: Arc::new(Os) }
    }

    /// Keeps its queue on another file system.
    #[cfg(test)]
    pub(crate) fn on(self, files: Arc<dyn FileSystem>) -> Self {
        Self { files, ..self }
    }

    /// Takes on what is on disk, and starts the shards in `shards` and everything else in `helpers`.
    ///
    /// # Errors
    /// When the folder of a queue on disk cannot be used.
    pub(crate) async fn start(
        self,
        shards: &mut JoinSet<()>,
        helpers: &mut JoinSet<()>,
        interner: &Arc<Interner>,
    ) -> Result<Arc<DeliveryQueue>, StartError> {
        let Self { queue, make, dir, files } = self;
        if let Some(settings) = queue.settings.queue.disk.clone() {
            let place = Place { dir, files, interner: Arc::clone(interner) };
            let mut tender = Tender::new(Arc::clone(&queue), place, settings);
            tender.open().await?;
            helpers.spawn(tender.run());
        }
        let said = Arc::new(Said::default());
        for lane in 0..queue.lanes() {
            let seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
            let (make, said) = (Arc::clone(&make), Arc::clone(&said));
            shards.spawn(Shard::new(Arc::clone(&queue), lane, make, said, seed).run());
        }
        let shown = Arc::clone(&queue);
        helpers.spawn(async move { shown.show_age().await });
        Ok(queue)
    }
}

/// Settles what is left once the shards are gone: lost and counted, or kept on disk.
pub(crate) async fn end(queue: &DeliveryQueue, deadline: Instant) {
    // First: only what is durable by then is kept.
    queue.commit_last(deadline.max(Instant::now()) + COMMIT_AFTER_DEADLINE).await;
    let (lost, kept) = queue.abandon();
    if lost > 0 {
        error!(component = queue.name(), points = lost, "not delivered before the deadline, lost");
    }
    if kept > 0 {
        info!(component = queue.name(), points = kept, "kept on disk for the next start");
    }
    queue.tell_totals();
    queue.audit();
}

/// The folder of the exporter `name` below `data_dir`; what is no plain file name is written in hex.
pub(crate) fn folder(data_dir: &Path, name: &str) -> PathBuf {
    let mut safe = String::with_capacity(name.len());
    for (idx, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || b"_-".contains(&byte) || (byte == b'.' && idx > 0) {
            safe.push(char::from(byte));
        } else {
            safe.push_str(&format!("%{byte:02x}"));
        }
    }
    data_dir.join("queue").join(safe)
}
