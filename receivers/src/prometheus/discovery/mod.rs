//! Where targets come from: files, and the listening ports of this host. Static targets need no discovery.
//!
//! A provider runs as a task of its own and publishes the whole list of what it knows now; the newest list wins, so a
//! slow reader loses nothing but intermediate states.

pub(super) mod file_sd;
mod listeners;
pub(super) mod local;
mod probe;

use std::sync::Arc;

use super::target::Candidate;

/// What all providers know now.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Targets in files.
    pub(super) files: Arc<[Candidate]>,
    /// Engines on this host.
    pub(super) local: Arc<[Candidate]>,
}
