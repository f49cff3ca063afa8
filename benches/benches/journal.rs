//! What an exporter's queue on disk costs: a table of cost a point and bytes of disk a point.
//!
//! Batches of 500 and of 10 points of 200 sources, as at 100 000 points a second: a commit with its sync every 10 000
//! points, and every batch acknowledged two commits later. `cpu` is what the process spent, the kernel's part of writing
//! and syncing included; `wall` has the waiting for the disk. Then the same log is opened and read by the next process.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark: prints, and stops where it stands"
)]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pipeline_journal::{Journal, JournalSettings};
use pipeline_model::{
    Batch, Group, Interner, Kind, Labels, Metric, Shape, ShapeBuilder, Slot, SourceId,
};

const SOURCES: usize = 200;
const POINTS: usize = 10_000_000;
/// Points between two commits.
const COMMIT: usize = 10_000;

fn main() {
    let root = tempfile::tempdir().expect("a folder");
    println!(
        "points a batch │ append+ack+commit, ns a point │ bytes a point │ open, ns a point │ read, ns a point"
    );
    println!(
        "               │     cpu     wall               │               │                  │    cpu"
    );
    for points in [500, 10] {
        let dir = root.path().join(points.to_string());
        let (cpu, wall) = steady(&dir, points);
        let (bytes, open, read) = backlog(&dir, points);
        println!(
            "{points:>14} │ {cpu:>7.1}  {wall:>7.1}               │ {bytes:>13.2} │ {open:>16.1} │ {read:>6.1}"
        );
    }
}

fn journal(dir: &Path) -> Journal {
    let settings = JournalSettings::new(1 << 30);
    Journal::open(dir, settings, Arc::new(Interner::new())).expect("it opens").0
}

fn shape(interner: &Interner, source: usize, points: usize) -> Arc<Shape> {
    let mut builder = ShapeBuilder::new(interner);
    let instance = format!("10.0.{}.{}:8000", source / 250, source % 250);
    let labels = Labels::from_pairs([("instance", instance.as_str()), ("job", "vllm")]);
    let group = builder.group(Group { labels, ..Group::default() });
    let metric = Arc::new(Metric::new("requests_total", "", "Requests.", Kind::COUNTER));
    for row in 0..points {
        let labels = Labels::from_pairs([("handler", format!("/v1/{row}").as_str())]);
        builder.push(group, &metric, &labels).expect("it is new");
    }
    builder.finish()
}

/// Ever the next batch.
fn batches(points: usize) -> impl Iterator<Item = Batch> {
    let interner = Interner::new();
    let sources: Vec<_> = (0..SOURCES)
        .map(|source| {
            let shape = shape(&interner, source, points);
            let values = (0..points).map(|slot| Slot::double(slot as f64)).collect();
            let mut batch = Batch::new(SourceId::next(), shape, 0, values);
            batch.starts = Some(Arc::new((0..points as i64).collect()));
            batch
        })
        .collect();
    let mut time = 0;
    (0..).map(move |n| {
        time += 1;
        Batch { time, ..sources[n % SOURCES].clone() }
    })
}

/// Nanoseconds a point, of processor and of wall.
fn steady(dir: &Path, points: usize) -> (f64, f64) {
    let journal = journal(dir);
    let mut batches = batches(points);
    let (cpu, wall) = (cpu_ns(), Instant::now());
    let mut waiting = VecDeque::new();
    for _ in 0..POINTS / COMMIT {
        let mut positions = Vec::with_capacity(COMMIT / points);
        for _ in 0..COMMIT / points {
            let batch = batches.next().expect("they do not end");
            positions.push(journal.append(&batch).expect("there is room"));
        }
        waiting.push_back(positions);
        if waiting.len() > 2 {
            for position in waiting.pop_front().unwrap_or_default() {
                journal.ack(position);
            }
        }
        journal.commit().expect("the disk writes");
    }
    let each = |ns: u64| ns as f64 / POINTS as f64;
    let spent = (each(cpu_ns() - cpu), each(wall.elapsed().as_nanos() as u64));
    for position in waiting.into_iter().flatten() {
        journal.ack(position);
    }
    journal.commit().expect("the disk writes");
    spent
}

/// Bytes a point; nanoseconds a point of opening and of reading.
fn backlog(dir: &Path, points: usize) -> (f64, f64, f64) {
    let n = 2_000_000;
    {
        let journal = journal(dir);
        for (idx, batch) in batches(points).take(n / points).enumerate() {
            journal.append(&batch).expect("there is room");
            if idx % 1000 == 0 {
                journal.commit().expect("the disk writes");
            }
        }
        journal.commit().expect("the disk writes");
    }
    let each = |ns: u64| ns as f64 / n as f64;
    let before = cpu_ns();
    let journal = journal(dir);
    let open = each(cpu_ns() - before);
    let bytes = journal.stats().bytes as f64 / n as f64;
    let before = cpu_ns();
    let mut cursor = journal.cursor();
    let mut read = 0;
    loop {
        let chunk = journal.read(&mut cursor, None, 1 << 20).expect("the disk reads");
        read += chunk.batches.iter().map(|(position, _)| position.points()).sum::<u64>();
        if chunk.is_end {
            break;
        }
    }
    assert_eq!(read, n as u64);
    (bytes, open, each(cpu_ns() - before))
}

/// Nanoseconds that this thread ran, in the kernel too.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("it is Linux");
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("the first number")
}
