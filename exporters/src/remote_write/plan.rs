//! [`Plan`]: what a sender needs to know, whichever exporter it is made for; and which version the store takes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pipeline_net::Client;
use pipeline_wire::remote_write::{Options, TargetInfos, Version};
use tokio::time::Instant;
use tracing::{info, warn};

use super::config::Protocol;
use crate::grafana_cloud::Report;

/// How long a store that does not take version 2.0, or native histograms, goes without before it is asked again: it may
/// have been updated.
const REMEMBER: Duration = Duration::from_secs(3600);

/// What is meant by a configuration of `remote_write`, or of a preset on it.
pub(crate) struct Plan {
    /// Credentials, headers, TLS.
    pub(crate) client: Client,
    pub(crate) url: String,
    pub(crate) dialect: Dialect,
    /// zstd instead of Snappy.
    pub(crate) zstd: bool,
    /// Of one attempt.
    pub(crate) timeout: Duration,
    pub(crate) options: Options,
    pub(crate) infos: Arc<TargetInfos>,
    /// Zero: no metadata with version 1.0.
    pub(crate) metadata_interval: Duration,
    /// Where to tell what is sent.
    pub(crate) report: Option<Arc<Report>>,
}

/// Which version is spoken, and whether with native histograms: what was found out by one sender is known to all.
pub(crate) struct Dialect {
    protocol: Protocol,
    /// Until when 1.0 is spoken.
    v1_until: Mutex<Option<Instant>>,
    /// Until when native histograms are left out.
    plain_until: Mutex<Option<Instant>>,
}

impl Dialect {
    pub(crate) fn new(protocol: Protocol) -> Self {
        Self { protocol, v1_until: Mutex::new(None), plain_until: Mutex::new(None) }
    }

    /// The version to speak now.
    pub(super) fn version(&self) -> Version {
        match self.protocol {
            Protocol::V1 => Version::V1,
            Protocol::V2 => Version::V2,
            Protocol::Auto => {
                if lasts(&self.v1_until) {
                    Version::V1
                } else {
                    Version::V2
                }
            }
        }
    }

    /// True when the other version may be tried.
    pub(super) fn may_fall_back(&self) -> bool {
        self.protocol == Protocol::Auto
    }

    /// The store took 1.0 after it did not take 2.0.
    pub(super) fn fell_back(&self, url: &str) {
        let mut until = self.v1_until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_none() {
            info!(url, "the store takes remote write 1.0 and not 2.0");
        }
        *until = Some(Instant::now() + REMEMBER);
    }

    /// False while the store is known to take no native histograms.
    pub(super) fn natives(&self) -> bool {
        !lasts(&self.plain_until)
    }

    /// The store takes no native histograms, it says.
    pub(super) fn no_natives(&self, url: &str, said: &str) {
        let mut until = self.plain_until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_none() {
            warn!(url, said, "the store takes no native histograms: those points are lost");
        }
        *until = Some(Instant::now() + REMEMBER);
    }
}

fn lasts(until: &Mutex<Option<Instant>>) -> bool {
    let until = *until.lock().unwrap_or_else(PoisonError::into_inner);
    until.is_some_and(|until| Instant::now() < until)
}
