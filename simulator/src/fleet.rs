//! A running fleet: engines on their ports, and the clock that moves them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::engine::Engine;
use crate::server::{Fault, Slot, serve_engine};
use crate::spec::{EngineSpec, Release};
use crate::truth::Truth;

/// The wall clock moves the fleet this often.
const TICK: Duration = Duration::from_millis(250);
/// Longest time that one tick makes up for, for example after the machine slept.
const TICK_MAX: Duration = Duration::from_secs(5);

/// The engines of a fleet, and when simulated time begins.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetSpec {
    /// The engines, one port each.
    pub engines: Vec<EngineSpec>,
    /// Unix time of simulated time zero, in seconds: the start time of the first processes.
    pub unix_seconds: f64,
}

impl FleetSpec {
    /// A fleet that begins now.
    pub fn new(engines: Vec<EngineSpec>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        FleetSpec { engines, unix_seconds: since.as_secs_f64() }
    }
}

/// Engines that answer on 127.0.0.1. Dropping it, or [`Fleet::shutdown`], ends all of them.
///
/// Engines are named by their index in the spec; an index beyond it panics.
pub struct Fleet {
    slots: Vec<Arc<Slot>>,
    tasks: JoinSet<()>,
}

impl Fleet {
    /// Binds every engine's port and serves it. Simulated time stands still until [`Fleet::advance`] or
    /// [`Fleet::run_clock`].
    ///
    /// # Errors
    ///
    /// A port cannot be bound.
    pub async fn start(spec: FleetSpec) -> io::Result<Fleet> {
        let mut fleet = Fleet { slots: Vec::new(), tasks: JoinSet::new() };
        for engine in spec.engines {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, engine.port)).await?;
            let slot =
                Arc::new(Slot::new(Engine::new(engine, spec.unix_seconds), listener.local_addr()?));
            fleet.tasks.spawn(serve_engine(Arc::clone(&slot), listener));
            fleet.slots.push(slot);
        }
        Ok(fleet)
    }

    /// Number of engines.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are no engines.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Where the engines answer, in the order of the spec.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.slots.iter().map(|slot| slot.address).collect()
    }

    /// Where `engine` answers.
    pub fn address(&self, engine: usize) -> SocketAddr {
        self.slots[engine].address
    }

    /// What `engine` is; its release follows upgrades.
    pub fn spec(&self, engine: usize) -> EngineSpec {
        self.slots[engine].engine().spec().clone()
    }

    /// Totals of the current process of `engine`; zero while stopped.
    pub fn truth(&self, engine: usize) -> Truth {
        self.slots[engine].engine().truth()
    }

    /// Looks at `engine`, or does something to it; afterwards its port follows its state.
    pub fn with_engine<R>(&self, engine: usize, act: impl FnOnce(&mut Engine) -> R) -> R {
        let slot = &self.slots[engine];
        let result = act(&mut slot.engine());
        slot.sync();
        result
    }

    /// Lets simulated time pass for all engines.
    pub fn advance(&self, time: Duration) {
        for slot in &self.slots {
            slot.engine().advance(time);
            slot.sync();
        }
    }

    /// From now on, simulated time follows the wall clock, `speed` times as fast, in ticks of 250 ms.
    pub fn run_clock(&mut self, speed: f64) {
        let slots = self.slots.clone();
        for slot in &slots {
            slot.engine().set_speed(speed);
        }
        self.tasks.spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let mut last = Instant::now();
            loop {
                let now = ticks.tick().await;
                let passed = now.saturating_duration_since(last).min(TICK_MAX);
                last = now;
                for slot in &slots {
                    slot.engine().advance(passed.mul_f64(speed));
                    slot.sync();
                }
            }
        });
    }

    /// Makes the server of `engine` misbehave, until [`Fault::None`] is set.
    pub fn set_fault(&self, engine: usize, fault: Fault) {
        self.with_engine(engine, |engine| engine.set_fault(fault));
    }

    /// Replaces the process of `engine` by a new one: counters at zero, new start time.
    pub fn restart(&self, engine: usize) {
        self.with_engine(engine, Engine::restart);
    }

    /// Replaces the process of `engine` by one of another release.
    pub fn upgrade(&self, engine: usize, release: Release) {
        self.with_engine(engine, |engine| engine.upgrade(release));
    }

    /// Ends the process of `engine`; its port refuses when this returns.
    pub async fn stop(&self, engine: usize) {
        self.with_engine(engine, Engine::stop);
        self.settled().await;
    }

    /// Starts a new process of `engine` if none runs; its port, the same as before, answers when this returns.
    pub async fn start_engine(&self, engine: usize) {
        self.with_engine(engine, Engine::start);
        self.settled().await;
    }

    /// Waits until every port has followed its engine, as after scripted stops and starts.
    pub async fn settled(&self) {
        for slot in &self.slots {
            let up = *slot.up.borrow();
            let mut listening = slot.listening.subscribe();
            // The sender lives in the slot, so this cannot fail.
            let _open = listening.wait_for(|listening| *listening == up).await;
        }
    }

    /// Ends all engines and waits for their tasks.
    pub async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}
