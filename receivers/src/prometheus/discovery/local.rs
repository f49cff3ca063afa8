//! Engines on this host: listening ports, asked for their page, and watched until they are gone.
//!
//! Not a port scanner: only sockets that the kernel lists as listening on loopback or on any address are asked, each
//! once and then ever more rarely. Ports where engines usually live, and sockets of processes that look like engines,
//! are asked every few seconds, so that an engine shows within five seconds of its start. A confirmed engine is not
//! probed any more: its scrapes tell whether it is there.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use pipeline_component::Shutdown;
use pipeline_component::telemetry::Counter;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::Found;
use super::listeners::{self, Listener};
use super::probe::{Verdict, probe};
use crate::prometheus::config::PortRange;
use crate::prometheus::target::Candidate;

/// How often the table of listening sockets is read: two small files.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Time between probes of a port where an engine is likely.
const LIKELY_AGAIN: Duration = Duration::from_secs(5);

/// The longest time between probes of a port.
const AGAIN_MAX: Duration = Duration::from_secs(300);

/// vLLM; SGLang and the main port of its router; the metrics port of that router.
const LIKELY_PORTS: [u16; 3] = [8000, 30_000, 29_000];

/// Below it ports need privileges, and engines do not live there.
const PORT_MIN: u16 = 1024;

/// Ports that are kept in mind; more listeners than that are no host of engines.
const PORTS_MAX: usize = 1024;

/// Probes at a time.
const PROBES_MAX: usize = 4;

/// What is looked for.
#[derive(Clone, Debug)]
pub(in crate::prometheus) struct LocalPlan {
    /// The only ports to ask; empty: all from 1024.
    pub(in crate::prometheus) ports: Vec<PortRange>,
    /// Ports never to ask.
    pub(in crate::prometheus) deny_ports: Vec<PortRange>,
    /// Failed scrapes in a row after which an engine is gone.
    pub(in crate::prometheus) lost_after: u32,
    /// Path of the page.
    pub(in crate::prometheus) path: String,
    /// Where the kernel's tables are: `/proc`.
    pub(in crate::prometheus) proc: PathBuf,
    /// Whether sockets of this process are left out.
    pub(in crate::prometheus) skip_own: bool,
}

/// A port that is kept in mind.
#[derive(Debug)]
struct Port {
    inode: u64,
    likely: bool,
    listening: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// To be asked at `due`, and `again` after that.
    Unknown { due: Instant, again: Duration },
    /// Being asked.
    Asked { again: Duration },
    /// An engine, to be reached at this address.
    Engine(Candidate),
}

/// Looks for engines until told to stop.
pub(in crate::prometheus) struct Local {
    plan: LocalPlan,
    /// By the address to dial.
    ports: BTreeMap<(IpAddr, u16), Port>,
    /// Sockets of the last look.
    seen: HashSet<u64>,
    /// Those of them that are ours.
    own: HashSet<u64>,
    errors: Counter,
}

/// One look at the tables of the kernel.
struct Look {
    listeners: Vec<Listener>,
    own: HashSet<u64>,
    engines: HashSet<u64>,
}

impl Local {
    /// `errors` counts looks that failed.
    pub(in crate::prometheus) fn new(plan: LocalPlan, errors: Counter) -> Self {
        Self { plan, ports: BTreeMap::new(), seen: HashSet::new(), own: HashSet::new(), errors }
    }

    /// Publishes the engines it knows with every change, until `stop`.
    pub(in crate::prometheus) async fn run(mut self, out: watch::Sender<Found>, stop: Shutdown) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probes = JoinSet::new();
        loop {
            let changed = tokio::select! {
                () = stop.triggered() => return,
                _ = ticks.tick() => {
                    let changed = self.look().await;
                    self.ask(&mut probes);
                    changed
                }
                Some(answer) = probes.join_next(), if !probes.is_empty() => {
                    let changed = answer.is_ok_and(|(key, at, verdict)| self.learn(key, at, verdict, Instant::now()));
                    self.ask(&mut probes);
                    changed
                }
            };
            if changed {
                let engines = self.engines();
                out.send_modify(|found| found.local = engines);
            }
        }
    }

    /// Reads the kernel's tables. True when an engine is gone.
    async fn look(&mut self) -> bool {
        let (plan, seen) = (self.plan.clone(), self.seen.clone());
        let look = tokio::task::spawn_blocking(move || look(&plan, &seen)).await;
        match look {
            Ok(Ok(look)) => self.update(&look, Instant::now()),
            Ok(Err(error)) => {
                if self.errors.get() == 0 {
                    warn!(%error, path = %self.plan.proc.display(), "cannot list listening ports; discover = \"local\" finds nothing");
                }
                self.errors.inc();
                false
            }
            Err(_) => false,
        }
    }

    /// Takes in what listens now.
    fn update(&mut self, look: &Look, now: Instant) -> bool {
        self.seen = look.listeners.iter().map(|listener| listener.inode).collect();
        self.own.extend(&look.own);
        self.own.retain(|inode| self.seen.contains(inode));
        self.ports.values_mut().for_each(|port| port.listening = false);
        for listener in &look.listeners {
            let Some(ip) = listener.dial() else { continue };
            let key = (ip, listener.port);
            if let Some(port) = self.ports.get_mut(&key).filter(|port| !port.listening) {
                port.listening = true;
                port.likely |= look.engines.contains(&listener.inode);
                if port.inode != listener.inode && matches!(port.state, State::Unknown { .. }) {
                    port.state = State::Unknown { due: now, again: LIKELY_AGAIN };
                }
                port.inode = listener.inode;
                continue;
            }
            let own = self.plan.skip_own && self.own.contains(&listener.inode);
            let room = self.ports.len() < PORTS_MAX;
            if room && !own && !self.ports.contains_key(&key) && self.plan.allows(listener.port) {
                let likely = LIKELY_PORTS.contains(&listener.port)
                    || self.plan.ports.iter().any(|range| range.contains(listener.port))
                    || look.engines.contains(&listener.inode);
                let state = State::Unknown { due: now, again: LIKELY_AGAIN };
                self.ports
                    .insert(key, Port { inode: listener.inode, likely, listening: true, state });
            }
        }
        self.forget(now)
    }

    /// Drops ports nobody listens on, and engines that do not answer any more.
    fn forget(&mut self, now: Instant) -> bool {
        let lost_after = self.plan.lost_after;
        let mut changed = false;
        self.ports.retain(|_, port| {
            let State::Engine(candidate) = &port.state else { return port.listening };
            if candidate.failures.load(Ordering::Relaxed) < lost_after {
                return true;
            }
            changed = true;
            info!(address = %candidate.address, "an engine is gone: its page did not answer");
            port.state = State::Unknown { due: now + LIKELY_AGAIN, again: LIKELY_AGAIN };
            port.listening
        });
        changed
    }

    /// Starts the probes that are due, likely ones first, a few at a time.
    fn ask(&mut self, probes: &mut JoinSet<((IpAddr, u16), IpAddr, Verdict)>) {
        let now = Instant::now();
        for likely in [true, false] {
            for (key, port) in &mut self.ports {
                if probes.len() >= PROBES_MAX {
                    return;
                }
                let State::Unknown { due, again } = port.state else { continue };
                if port.likely == likely && port.listening && due <= now {
                    port.state = State::Asked { again };
                    let (key, path) = (*key, self.plan.path.clone());
                    probes.spawn(async move {
                        let (at, verdict) = probe(key.0, key.1, &path).await;
                        (key, at, verdict)
                    });
                }
            }
        }
    }

    /// Takes in an answer. True when it is a new engine.
    fn learn(&mut self, key: (IpAddr, u16), at: IpAddr, verdict: Verdict, now: Instant) -> bool {
        let Some(port) = self.ports.get_mut(&key) else { return false };
        let State::Asked { again } = port.state else { return false };
        let address = SocketAddr::new(at, key.1).to_string();
        debug!(%address, ?verdict, "probed a listening port");
        if verdict == Verdict::Engine {
            info!(%address, "found an engine");
            port.state = State::Engine(candidate(&address));
            return true;
        }
        if let (true, Verdict::Other(401 | 403)) = (port.likely && again == LIKELY_AGAIN, verdict) {
            info!(%address, "a likely engine wants credentials for its page; add it to `targets` of a receiver with `authorization`");
        }
        let wait = match verdict {
            Verdict::NotHttp => AGAIN_MAX,
            _ if port.likely => LIKELY_AGAIN,
            _ => again,
        };
        port.state = State::Unknown { due: now + wait, again: (again * 2).min(AGAIN_MAX) };
        false
    }

    fn engines(&self) -> Arc<[Candidate]> {
        self.ports
            .values()
            .filter_map(|port| match &port.state {
                State::Engine(candidate) => Some(candidate.clone()),
                State::Unknown { .. } | State::Asked { .. } => None,
            })
            .collect()
    }
}

impl LocalPlan {
    fn allows(&self, port: u16) -> bool {
        let listed = |ranges: &[PortRange]| ranges.iter().any(|range| range.contains(port));
        let wanted = if self.ports.is_empty() { port >= PORT_MIN } else { listed(&self.ports) };
        wanted && !listed(&self.deny_ports)
    }
}

fn candidate(address: &str) -> Candidate {
    static EPOCH: AtomicU64 = AtomicU64::new(1);
    Candidate {
        // The probe spoke plain HTTP.
        labels: BTreeMap::from([("__scheme__".to_owned(), "http".to_owned())]),
        failures: Arc::new(AtomicU32::new(0)),
        epoch: EPOCH.fetch_add(1, Ordering::Relaxed),
        ..Candidate::at(address)
    }
}

/// Blocks. Owners of sockets are looked up only when there is one that was not there before: that reads much of `/proc`.
fn look(plan: &LocalPlan, seen: &HashSet<u64>) -> std::io::Result<Look> {
    let listeners = listeners::read(&plan.proc)?;
    let is_new =
        |l: &Listener| l.dial().is_some() && plan.allows(l.port) && !seen.contains(&l.inode);
    let (own, engines) = if listeners.iter().any(is_new) {
        (listeners::own_sockets(&plan.proc), listeners::engine_sockets(&plan.proc))
    } else {
        (HashSet::new(), HashSet::new())
    };
    Ok(Look { listeners, own, engines })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn local(ports: &[PortRange], deny: &[PortRange]) -> Local {
        let plan = LocalPlan {
            ports: ports.to_vec(),
            deny_ports: deny.to_vec(),
            lost_after: 3,
            path: "/metrics".to_owned(),
            proc: PathBuf::from("/proc"),
            skip_own: true,
        };
        Local::new(plan, Counter::default())
    }

    fn listens(listeners: &[(u16, u64)], own: &[u64], engines: &[u64]) -> Look {
        let listener = |(port, inode): &(u16, u64)| Listener {
            ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: *port,
            inode: *inode,
        };
        Look {
            listeners: listeners.iter().map(listener).collect(),
            own: own.iter().copied().collect(),
            engines: engines.iter().copied().collect(),
        }
    }

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Takes every due port out, as `ask` does, and answers for it.
    fn probe_all(local: &mut Local, verdict: Verdict, now: Instant) -> Vec<u16> {
        let mut asked = Vec::new();
        for (key, port) in &mut local.ports {
            if let State::Unknown { due, again } = port.state
                && due <= now
                && port.listening
            {
                port.state = State::Asked { again };
                asked.push(*key);
            }
        }
        asked.iter().for_each(|key| _ = local.learn(*key, HERE, verdict, now));
        asked.iter().map(|key| key.1).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn unlikely_ports_are_asked_ever_more_rarely() {
        let mut local = local(&[], &[PortRange::new(9464, 9464)]);
        let start = Instant::now();
        let look =
            listens(&[(8000, 1), (5555, 2), (9464, 3), (22, 4), (7777, 5), (6666, 6)], &[5], &[6]);
        let mut times: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        for second in (0..1200).step_by(2) {
            let now = start + Duration::from_secs(second);
            local.update(&look, now);
            for port in probe_all(&mut local, Verdict::Other(404), now) {
                times.entry(port).or_default().push(second);
            }
        }
        assert_eq!(times.keys().copied().collect::<Vec<_>>(), [5555, 6666, 8000]);
        assert_eq!(times[&5555], [0, 6, 16, 36, 76, 156, 316, 616, 916]);
        assert!(
            times[&8000].windows(2).all(|pair| pair[1] - pair[0] == 6),
            "likely: each time it is due"
        );
        assert_eq!(times[&6666], times[&8000], "the process looks like an engine");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_speak_http_is_left_alone_until_it_is_another_socket() {
        let mut local = local(&[], &[]);
        let start = Instant::now();
        local.update(&listens(&[(8000, 1)], &[], &[]), start);
        assert_eq!(probe_all(&mut local, Verdict::NotHttp, start), [8000]);
        let later = start + Duration::from_secs(290);
        local.update(&listens(&[(8000, 1)], &[], &[]), later);
        assert_eq!(probe_all(&mut local, Verdict::NotHttp, later), [0; 0]);
        local.update(&listens(&[(8000, 2)], &[], &[]), later);
        assert_eq!(probe_all(&mut local, Verdict::Engine, later), [8000]);
        assert_eq!(local.engines().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_stays_through_a_restart_and_goes_after_failed_scrapes() {
        let mut local = local(&[PortRange::new(1, 2000)], &[]);
        let now = Instant::now();
        local.update(&listens(&[(1000, 1), (8000, 7)], &[], &[]), now);
        probe_all(&mut local, Verdict::Engine, now);
        let engines = local.engines();
        assert_eq!(
            engines.iter().map(|e| e.address.as_str()).collect::<Vec<_>>(),
            ["127.0.0.1:1000"]
        );
        assert!(!local.update(&listens(&[], &[], &[]), now));
        engines[0].failures.store(2, Ordering::Relaxed);
        assert!(!local.update(&listens(&[(1000, 9)], &[], &[]), now));
        assert_eq!(local.engines()[0].epoch, engines[0].epoch);
        engines[0].failures.store(3, Ordering::Relaxed);
        assert!(local.update(&listens(&[(1000, 9)], &[], &[]), now));
        assert!(local.engines().is_empty());
        let later = now + LIKELY_AGAIN;
        local.update(&listens(&[(1000, 9)], &[], &[]), later);
        probe_all(&mut local, Verdict::Engine, later);
        assert_ne!(local.engines()[0].epoch, engines[0].epoch, "another life of it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_full_of_listeners_stays_bounded() {
        let mut local = local(&[], &[]);
        let all: Vec<(u16, u64)> = (1024..u16::MAX).map(|port| (port, u64::from(port))).collect();
        local.update(&listens(&all, &[], &[]), Instant::now());
        assert_eq!(local.ports.len(), PORTS_MAX);
    }
}
