//! [`Fleet`]: the targets that are scraped, one task each, started and ended as discovery says.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pipeline_component::Shutdown;
use pipeline_component::telemetry::{Gauge, Telemetry, table};
use pipeline_model::Group;
use pipeline_net::{Client, ClientError, ClientPlan};
use pipeline_wire::scrape::{PageReader, PageSettings};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use super::discovery::Found;
use super::failure::chain;
use super::scrape::{Loop, Shared};
use super::target::{Candidate, Defaults, Key, Target};

/// How long targets that go may take to say so before new ones start.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// Distinct timeouts (and so clients) that targets may ask for.
const CLIENTS_MAX: usize = 64;

/// What the targets of a receiver are made from.
pub(super) struct FleetPlan {
    pub(super) defaults: Defaults,
    pub(super) statics: Vec<Candidate>,
    pub(super) targets_max: Option<usize>,
    /// Open files that this process may have.
    pub(super) files_max: usize,
    pub(super) client: ClientPlan,
    /// For every target; its group is the target's own.
    pub(super) pages: PageSettings,
}

/// The targets that are scraped.
pub(super) struct Fleet {
    plan: FleetPlan,
    shared: Arc<Shared>,
    stop: Shutdown,
    /// One per timeout, because the timeout is a header.
    clients: HashMap<Duration, Client>,
    running: HashMap<Key, Running>,
    loops: JoinSet<()>,
    counts: Counts,
}

/// A loop that runs.
struct Running {
    id: Id,
    gone: Shutdown,
}

struct Counts {
    targets: Gauge,
    invalid: Gauge,
    duplicate: Gauge,
    over_limit: Gauge,
}

/// The targets to scrape, and how many of what was found are none.
#[derive(Default)]
struct Wanted {
    targets: Vec<Target>,
    invalid: usize,
    duplicate: usize,
    over_limit: usize,
}

impl Fleet {
    /// Checks the client's settings, and reads the files they name.
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub(super) async fn new(
        plan: FleetPlan,
        shared: Arc<Shared>,
        telemetry: &Telemetry,
        stop: Shutdown,
    ) -> Result<Self, ClientError> {
        let refused = |reason| telemetry.gauge(&table::TARGETS_REFUSED, &[("reason", reason)]);
        let counts = Counts {
            targets: telemetry.gauge(&table::TARGETS, &[]),
            invalid: refused("invalid"),
            duplicate: refused("duplicate"),
            over_limit: refused("limit"),
        };
        let mut fleet = Self {
            shared,
            stop,
            clients: HashMap::new(),
            running: HashMap::new(),
            loops: JoinSet::new(),
            counts,
            plan,
        };
        fleet.client(fleet.plan.defaults.timeout).await?;
        Ok(fleet)
    }

    /// Scrapes what is listed and what was `found`, and nothing else any more.
    pub(super) async fn apply(&mut self, found: &Found) {
        let wanted = self.wanted(found);
        self.tell(&wanted);
        let keys: HashSet<&Key> = wanted.targets.iter().map(|target| &target.key).collect();
        let mut leaving = HashSet::new();
        self.running.retain(|key, running| {
            let stays = keys.contains(key);
            if !stays {
                running.gone.trigger();
                leaving.insert(running.id);
            }
            stays
        });
        // A target that changes its labels may keep series: the old ones end before the new ones begin.
        let deadline = Instant::now() + LEAVE_WITHIN;
        while !leaving.is_empty() {
            let Ok(Some(ended)) = timeout_at(deadline, self.loops.join_next_with_id()).await else {
                break;
            };
            leaving.remove(&self.ended(ended));
        }
        for target in wanted.targets {
            if !self.running.contains_key(&target.key) {
                self.start(target).await;
            }
        }
        self.counts.targets.set(self.running.len() as f64);
    }

    /// Waits for a loop that ended. Cancel safe.
    pub(super) async fn watch(&mut self) {
        match self.loops.join_next_with_id().await {
            Some(ended) => _ = self.ended(ended),
            None => std::future::pending().await,
        }
    }

    /// Keeps the shared layouts to those in use.
    pub(super) fn tidy(&self) {
        self.shared.counts.tidy(&self.shared.layouts);
    }

    /// Tells what of the last minute was too much for a line each.
    pub(super) fn sum_up(&self) {
        self.shared.budget.sum_up();
    }

    /// Waits for all loops after `stop`.
    pub(super) async fn close(mut self) {
        while self.loops.join_next().await.is_some() {}
    }

    fn ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) -> Id {
        match ended {
            Ok((id, ())) => id,
            Err(failure) => {
                let id = failure.id();
                self.running.retain(|_, running| running.id != id);
                // Loops contain their panics, so this is one in saying good-bye.
                error!(error = %failure, "a target ended in a panic");
                id
            }
        }
    }

    fn wanted(&self, found: &Found) -> Wanted {
        let mut wanted = Wanted::default();
        let mut keys = HashSet::new();
        let mut here = HashSet::new();
        let listed =
            self.plan.statics.iter().chain(found.files.iter()).map(|candidate| (candidate, false));
        for (candidate, is_local) in
            listed.chain(found.local.iter().map(|candidate| (candidate, true)))
        {
            let target = match self.plan.defaults.resolve(candidate) {
                Ok(target) => target,
                Err(error) => {
                    if wanted.invalid == 0 {
                        warn!(address = %candidate.address, %error, "a target that was found cannot be scraped");
                    }
                    wanted.invalid += 1;
                    continue;
                }
            };
            let port = port_here(&target.key.url);
            if !is_local {
                here.extend(port);
            }
            // An engine of this host that is listed already is not scraped twice.
            let is_listed = is_local && port.is_some_and(|port| here.contains(&port));
            if is_listed || keys.contains(&target.key) {
                wanted.duplicate += 1;
            } else if self.plan.targets_max.is_some_and(|max| wanted.targets.len() >= max) {
                wanted.over_limit += 1;
            } else {
                keys.insert(target.key.clone());
                wanted.targets.push(target);
            }
        }
        wanted
    }

    fn tell(&self, wanted: &Wanted) {
        let (targets, files_max) = (wanted.targets.len(), self.plan.files_max);
        if targets >= files_max && (self.counts.targets.get() as usize) < files_max {
            warn!(
                targets,
                files_max, "every target keeps a connection open; raise the limit of open files"
            );
        }
        self.counts.invalid.set(wanted.invalid as f64);
        self.counts.duplicate.set(wanted.duplicate as f64);
        let before = self.counts.over_limit.get();
        self.counts.over_limit.set(wanted.over_limit as f64);
        if wanted.over_limit > 0 && before == 0.0 {
            error!(
                left_out = wanted.over_limit,
                limit = self.plan.targets_max,
                "more targets than `target_limit` allows, the rest is not scraped"
            );
        }
    }

    async fn start(&mut self, target: Target) {
        let started = match self.client(target.key.timeout).await {
            Ok(client) => client.connection(&target.key.url).map_err(|error| chain(&error)),
            Err(error) => Err(chain(&error)),
        };
        let connection = match started {
            Ok(connection) => connection,
            Err(error) => {
                self.counts.invalid.set(self.counts.invalid.get() + 1.0);
                warn!(%error, "a target cannot be scraped");
                return;
            }
        };
        let group =
            Group { labels: self.shared.interner.labels(&target.key.labels), ..Group::default() };
        let reader = PageReader::new(PageSettings { group, ..self.plan.pages.clone() });
        let gone = Shutdown::new();
        let key = target.key.clone();
        let scrapes = Loop::new(Arc::clone(&self.shared), target, connection, reader);
        let id = self.loops.spawn(scrapes.run(self.stop.clone(), gone.clone())).id();
        self.running.insert(key, Running { id, gone });
    }

    /// The client for targets with this timeout.
    async fn client(&mut self, timeout: Duration) -> Result<Client, ClientError> {
        if let Some(client) = self.clients.get(&timeout) {
            return Ok(client.clone());
        }
        let mut plan = self.plan.client.clone();
        plan.connect_timeout = timeout;
        let header = "X-Prometheus-Scrape-Timeout-Seconds";
        if !plan.settings.headers.keys().any(|name| name.eq_ignore_ascii_case(header)) {
            let seconds = timeout.as_secs_f64().to_string();
            plan.settings.headers.insert(header.to_owned(), seconds.into());
        }
        let client = match tokio::task::spawn_blocking(move || Client::new(plan)).await {
            Ok(client) => client?,
            Err(failure) => match failure.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime goes down.
                Err(_) => std::future::pending().await,
            },
        };
        if self.clients.len() >= CLIENTS_MAX {
            self.clients.clear();
        }
        self.clients.insert(timeout, client.clone());
        Ok(client)
    }
}

/// The port of a target on this host, when its address says so.
fn port_here(url: &str) -> Option<u16> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let is_here =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    is_here.then(|| uri.port_u16()).flatten()
}
