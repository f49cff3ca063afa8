//! A simulated server process: its data-parallel schedulers, its life (start, stop, restart, upgrade), its scripted
//! fate and its page. Time moves only by [`Engine::advance`].

use std::time::Duration;

use crate::pages;
use crate::scheduler::{Report, Scheduler};
use crate::server::Fault;
use crate::spec::{EngineSpec, Event, Release};
use crate::truth::{Now, Truth};

/// One engine process and what became of its predecessors.
pub struct Engine {
    spec: EngineSpec,
    clock: f64,
    unix: UnixClock,
    up: bool,
    fault: Fault,
    starts: u64,
    started_unix: f64,
    ranks: Vec<Scheduler>,
    past: Truth,
    next_event: usize,
    script_round: u32,
}

/// How simulated seconds map to Unix time.
struct UnixClock {
    at: f64,
    clock: f64,
    speed: f64,
}

impl UnixClock {
    fn read(&self, clock: f64) -> f64 {
        self.at + (clock - self.clock) / self.speed
    }
}

impl Engine {
    /// A running engine at simulated time zero, which is `unix_seconds` on the calendar.
    pub fn new(spec: EngineSpec, unix_seconds: f64) -> Self {
        let mut engine = Engine {
            spec,
            clock: 0.0,
            unix: UnixClock { at: unix_seconds, clock: 0.0, speed: 1.0 },
            up: true,
            fault: Fault::None,
            starts: 0,
            started_unix: unix_seconds,
            ranks: Vec::new(),
            past: Truth::default(),
            next_event: 0,
            script_round: 0,
        };
        engine.start();
        engine
    }

    /// What this engine is; `release` follows upgrades.
    pub fn spec(&self) -> &EngineSpec {
        &self.spec
    }

    /// Whether the process runs.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// How its server misbehaves.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// Makes its server misbehave, until [`Fault::None`] is set.
    pub fn set_fault(&mut self, fault: Fault) {
        self.fault = fault;
    }

    /// Simulated time since the fleet's start.
    pub fn clock(&self) -> Duration {
        Duration::from_secs_f64(self.clock)
    }

    /// Unix time at which the current (or last) process started, in seconds.
    pub fn started_unix(&self) -> f64 {
        self.started_unix
    }

    /// From now on, `speed` simulated seconds pass per calendar second. Decides the start times of later processes.
    pub fn set_speed(&mut self, speed: f64) {
        self.unix = UnixClock { at: self.unix.read(self.clock), clock: self.clock, speed };
    }

    /// Lets `time` pass: requests come and go, scripted events happen. A stopped engine only waits.
    pub fn advance(&mut self, time: Duration) {
        let target = self.clock + time.as_secs_f64();
        while let Some((at, event)) = self.due_event(target) {
            self.run_until(at.max(self.clock));
            self.happen(event);
        }
        self.run_until(target);
    }

    /// Ends the process: its requests are lost.
    pub fn stop(&mut self) {
        if !self.up {
            return;
        }
        self.past = self.lifetime();
        for rank in self.ranks.drain(..) {
            let now = rank.now();
            self.past.lost += now.running + now.waiting;
        }
        self.up = false;
    }

    /// Starts a new process if none runs: all counters at zero, a new start time.
    pub fn start(&mut self) {
        if self.up && !self.ranks.is_empty() {
            return;
        }
        self.up = true;
        self.starts += 1;
        self.started_unix = self.unix.read(self.clock);
        for rank in 0..u64::from(self.spec.data_parallel.max(1)) {
            // Every process and every rank has its own sequence, all named by the one seed.
            let seed = self.spec.seed ^ self.starts.rotate_left(32) ^ rank.rotate_left(48);
            self.ranks.push(Scheduler::new(&self.spec, seed, self.clock));
        }
    }

    /// Replaces the process by a new one of the same release.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// Replaces the process by one of another release, as a rolling upgrade does.
    pub fn upgrade(&mut self, release: Release) {
        self.stop();
        self.spec.release = release;
        self.start();
    }

    /// Totals of the current process over all its ranks; zero while stopped.
    pub fn truth(&self) -> Truth {
        let mut all = Truth::default();
        for rank in &self.ranks {
            all.add(&rank.truth());
        }
        all
    }

    /// Totals of the current process, one entry per data-parallel engine; empty while stopped.
    pub fn truth_by_rank(&self) -> Vec<Truth> {
        self.ranks.iter().map(Scheduler::truth).collect()
    }

    /// Totals over all processes since the fleet's start.
    pub fn lifetime(&self) -> Truth {
        let mut all = self.past.clone();
        all.add(&self.truth());
        all
    }

    /// The state of each data-parallel engine; empty while stopped.
    pub fn now(&self) -> Vec<Now> {
        self.ranks.iter().map(Scheduler::now).collect()
    }

    /// The state of each data-parallel engine as its page says it: SGLang refreshes its gauges at prefill batches and
    /// every 40 decode steps only, vLLM at every step. Empty while stopped.
    pub fn reported(&self) -> Vec<Now> {
        if self.spec.release.is_vllm() {
            self.now()
        } else {
            self.ranks.iter().map(|rank| rank.report().now).collect()
        }
    }

    /// The `/metrics` page of this moment, in text format 0.0.4.
    pub fn page(&self) -> String {
        pages::render(self)
    }

    pub(crate) fn ranks(&self) -> &[Scheduler] {
        &self.ranks
    }

    fn run_until(&mut self, target: f64) {
        for rank in &mut self.ranks {
            rank.advance_to(target);
        }
        self.clock = target;
    }

    /// The next scripted event up to `target`, with its time.
    fn due_event(&mut self, target: f64) -> Option<(f64, Event)> {
        let script = &self.spec.script;
        if self.next_event >= script.events.len() {
            script.every?;
            self.next_event = 0;
            self.script_round += 1;
        }
        let round = script.every.unwrap_or_default().as_secs_f64() * f64::from(self.script_round);
        let (at, event) = script.events.get(self.next_event)?;
        let at = round + at.as_secs_f64();
        if at > target {
            return None;
        }
        self.next_event += 1;
        Some((at, event.clone()))
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Stop => self.stop(),
            Event::Start => self.start(),
            Event::Restart => self.restart(),
            Event::Upgrade(release) => self.upgrade(release),
            Event::Fault(fault) => self.fault = fault,
        }
    }
}

/// What a metric reads: one rank's totals and report, or several ranks' together.
pub(crate) struct View<'a> {
    pub(crate) spec: &'a EngineSpec,
    pub(crate) truth: Truth,
    pub(crate) now: Now,
    pub(crate) report: Report,
    pub(crate) v0: crate::scheduler::V0,
}

impl<'a> View<'a> {
    /// One data-parallel engine.
    pub(crate) fn rank(spec: &'a EngineSpec, rank: &Scheduler) -> Self {
        let (report, v0) = (rank.report().clone(), rank.v0().clone());
        View { spec, truth: rank.truth(), now: rank.now(), report, v0 }
    }

    /// The requests of all ranks, without streaming (0), with it (1) or both (`None`).
    pub(crate) fn requests(engine: &'a Engine, streaming: Option<usize>) -> Self {
        let mut view = View::idle(&engine.spec);
        for rank in &engine.ranks {
            for (index, truth) in rank.truth_by_streaming().iter().enumerate() {
                if streaming.is_none_or(|wanted| wanted == index) {
                    view.truth.add(truth);
                }
            }
        }
        view
    }

    /// A rank that reports nothing but zeros.
    pub(crate) fn idle(spec: &'a EngineSpec) -> Self {
        View {
            spec,
            truth: Truth::default(),
            now: Now::default(),
            report: Report::default(),
            v0: crate::scheduler::V0::default(),
        }
    }
}
