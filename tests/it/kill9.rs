//! kill -9 under load: an agent with a queue on disk dies again and again, at random times, while its backend comes and
//! goes; the ledger tells what that cost.
//!
//! ```sh
//! INFEROMETER_KILLS=100 cargo test --release --test it kills_at_random_times -- --ignored --nocapture
//! ```

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use testkit::{Backend, NUMBERED_SERIES, Source, wait_until};

use crate::agent::PATIENCE;
use crate::flow::{Flow, QUICK, config, sent};

/// What a commit may be behind what was taken: the interval, and the time of one write.
const COMMIT: Duration = Duration::from_millis(100);
/// The time of a write to a busy disk, and of a thread to be scheduled.
const SLACK: Duration = Duration::from_millis(150);

/// What the kills cost, in points.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) kills: usize,
    pub(crate) taken: usize,
    /// Taken, and never delivered.
    pub(crate) lost: usize,
    /// The oldest of those when the agent died.
    pub(crate) oldest_lost: Duration,
    /// Lost, and taken longer before the kill than a commit may be behind.
    pub(crate) beyond_commit: usize,
    pub(crate) late: usize,
    pub(crate) foreign: usize,
    pub(crate) duplicates: usize,
    /// Came twice, although the first came longer before the connections were broken than a commit may be behind.
    pub(crate) duplicates_not_in_flight: usize,
}

impl Told {
    /// Nothing beyond the last commit is lost, nothing is out of order, nothing comes twice but what was in flight.
    pub(crate) fn assert_within_bounds(&self) {
        assert!(self.kills > 0 && self.taken > 0, "{self:?}");
        assert_eq!((self.beyond_commit, self.late, self.foreign), (0, 0, 0), "{self:?}");
        assert_eq!(self.duplicates_not_in_flight, 0, "{self:?}");
        assert!(self.lost < self.taken && self.duplicates < self.taken, "{self:?}");
        assert!(self.oldest_lost <= COMMIT + SLACK, "{self:?}");
    }
}

/// A small generator, so that a seed repeats a run.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

#[expect(clippy::disallowed_methods, reason = "what happens to fall into this time is the test")]
fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// Sends at some hundred requests a second until told to stop.
fn sender(source: Arc<Mutex<Source>>, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            // Nobody listens while the agent is dead.
            drop(source.lock().unwrap().send());
            pass(Duration::from_millis(2));
        }
    })
}

/// Kills the agent `kills` times.
pub(crate) fn run(kills: usize, seed: u64) -> Told {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::start();
    let queue = format!("queue = {{ disk = {{ path = {:?} }} }}\n", dir.path().join("queue"));
    let config = config(
        &[],
        &format!(
            "[exporters.out]\ntype = \"otlp\"\nprotocol = \"http\"\nendpoint = \"{}\"\n{QUICK}{queue}",
            backend.url("")
        ),
    );
    let mut random = Random(seed);
    let (mut died, mut broken) = (Vec::new(), Vec::new());
    let mut flow = Flow::run(&config);
    let source = Arc::new(Mutex::new(flow.source("a", 20)));
    let stop = Arc::new(AtomicBool::new(false));
    let thread = sender(Arc::clone(&source), Arc::clone(&stop));
    for kill in 0..kills {
        if random.below(2) == 0 {
            broken.push(Instant::now());
            backend.down();
        }
        pass(Duration::from_millis(100 + random.below(700)));
        if random.below(3) == 0 {
            backend.up();
            pass(Duration::from_millis(random.below(50)));
        }
        broken.push(Instant::now());
        let log = flow.binary.kill();
        died.push(Instant::now());
        assert!(!log.contains("level=error") && !log.contains("damaged"), "{log}");
        if kill % 2 == 0 {
            backend.up();
        }
        flow = Flow::run(&config);
        source.lock().unwrap().move_to(&flow.http);
    }
    backend.up();
    pass(Duration::from_millis(200));
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    wait_until("the exporter has delivered all", PATIENCE * 4, || {
        (flow.books("out").waiting == 0.0).then_some(())
    });
    let source = source.lock().unwrap();
    told(&backend, &source, &died, &broken)
}

/// How long after `at` the next of `events` was. What was on its way came shortly after it.
fn until(events: &[Instant], at: Instant) -> Option<Duration> {
    let next = events.iter().find(|event| **event + SLACK >= at)?;
    Some(next.saturating_duration_since(at))
}

/// `died`: when each life of the agent was over. `broken`: when connections to the backend began to break, by that or by
/// the backend.
fn told(backend: &Backend, source: &Source, died: &[Instant], broken: &[Instant]) -> Told {
    let expected = sent(&[source]);
    let verdict = backend.with_ledger(|ledger| ledger.judge(NUMBERED_SERIES, &expected));
    let mut told = Told {
        kills: died.len(),
        taken: source.points(),
        lost: verdict.missing,
        late: verdict.late,
        duplicates: verdict.duplicates,
        ..Told::default()
    };
    let requests = backend.requests();
    let ledger = backend.ledger();
    let mut came: HashMap<&str, BTreeMap<i64, Instant>> = HashMap::new();
    for (series, arrived) in ledger.series() {
        let Some(label) = series.get(NUMBERED_SERIES) else { continue };
        let seen = came.entry(label).or_default();
        for one in arrived {
            let at = requests[one.request as usize].at;
            let known =
                expected[label].contains(&one.time_ms) || source.unsure().contains(&one.time_ms);
            told.foreign += usize::from(!known);
            if let Some(first) = seen.insert(one.time_ms, at)
                && until(broken, first).is_none_or(|after| after > COMMIT + SLACK)
            {
                told.duplicates_not_in_flight += 1;
            }
        }
    }
    for (label, times) in &expected {
        let seen = came.get(label.as_str());
        for time in times.iter().filter(|time| !seen.is_some_and(|seen| seen.contains_key(*time))) {
            let (taken, life) = source.taken_at()[time];
            let before = died.get(life).map_or(Duration::MAX, |death| *death - taken);
            told.oldest_lost = told.oldest_lost.max(before);
            told.beyond_commit += usize::from(before > COMMIT + SLACK);
        }
    }
    told
}

/// The long run that docs/reliability.md has the figures of.
#[test]
#[ignore = "minutes: by hand, for the figures in docs/reliability.md"]
#[expect(clippy::print_stdout, reason = "figures for the person at the terminal")]
fn kills_at_random_times() {
    let kills = std::env::var("INFEROMETER_KILLS").map_or(100, |text| text.parse().unwrap());
    let told = run(kills, 42);
    println!("{told:#?}");
    told.assert_within_bounds();
}
