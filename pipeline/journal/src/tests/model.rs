//! The promise, against a model: what was committed and not acknowledged comes back once and in order, what was
//! committed as acknowledged does not, whatever the disk did and whenever the process or the power went.

use std::collections::HashMap;

use pipeline_model::{Batch, SourceId};
use proptest::prelude::*;

use super::{DIR, Source, assert_same, open, settings};
use crate::faulty::{Fault, FaultyDisk};
use crate::{AppendError, Cursor, Journal, Position};

#[derive(Clone, Debug)]
enum Op {
    Append {
        source: usize,
        times: usize,
    },
    /// The source's next batches have another shape.
    Grow {
        source: usize,
        generation: usize,
    },
    Commit,
    /// Of what is waited for, from the oldest: skip so many, acknowledge so many.
    Ack {
        skip: usize,
        times: usize,
    },
    DropOldest,
    Fail {
        calls_before: u64,
        times: u64,
        fault: Fault,
    },
    /// All with a cursor of its own.
    ReadAll,
    /// On with the one cursor.
    ReadOn {
        bytes: usize,
    },
    /// The process is killed; what it wrote stays.
    Kill,
    /// The power goes.
    PowerCut {
        seed: u64,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let fault = prop_oneof![Just(Fault::NoSpace), Just(Fault::Io)];
    let op = prop_oneof![
        8 => (0..4usize, 1..12usize).prop_map(|(source, times)| Op::Append { source, times }),
        1 => (0..4usize, 1..4usize)
            .prop_map(|(source, generation)| Op::Grow { source, generation }),
        6 => Just(Op::Commit),
        5 => (0..6usize, 1..20usize).prop_map(|(skip, times)| Op::Ack { skip, times }),
        1 => Just(Op::DropOldest),
        2 => (0..8u64, 1..5u64, fault)
            .prop_map(|(calls_before, times, fault)| Op::Fail { calls_before, times, fault }),
        1 => Just(Op::ReadAll),
        2 => (1..2000usize).prop_map(|bytes| Op::ReadOn { bytes }),
        1 => Just(Op::Kill),
        2 => any::<u64>().prop_map(|seed| Op::PowerCut { seed }),
    ];
    prop::collection::vec(op, 1..80)
}

#[derive(Debug)]
struct Entry {
    batch: Batch,
    position: Position,
    is_committed: bool,
    is_acked: bool,
    is_ack_committed: bool,
}

struct Model {
    disk: FaultyDisk,
    /// Dropped before the disk is opened again.
    journal: Option<Journal>,
    cursor: Cursor,
    sources: Vec<Source>,
    entries: Vec<Entry>,
    /// The last time that the cursor read.
    read_to: i64,
    /// The last time that was appended: times tell batches apart.
    time: i64,
}

impl Model {
    fn new() -> Self {
        let disk = FaultyDisk::new();
        let (journal, _) = open(&disk);
        Self {
            disk,
            cursor: journal.cursor(),
            journal: Some(journal),
            sources: (0..4).map(Source::new).collect(),
            entries: Vec::new(),
            read_to: 0,
            time: 0,
        }
    }

    fn journal(&self) -> &Journal {
        self.journal.as_ref().unwrap()
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Append { source, times } => (0..*times).for_each(|_| self.append(*source)),
            Op::Grow { source, generation } => self.sources[*source].grow(*generation),
            Op::Commit => self.commit(),
            Op::Ack { skip, times } => self.ack(*skip, *times),
            Op::DropOldest => self.drop_oldest(),
            Op::Fail { calls_before, times, fault } => {
                self.disk.fail(*calls_before, *times, *fault);
            }
            Op::ReadAll => self.read_all(),
            Op::ReadOn { bytes } => self.read_on(*bytes),
            Op::Kill => self.reopen(None),
            Op::PowerCut { seed } => self.reopen(Some(*seed)),
        }
        let waited = self.entries.iter().filter(|entry| !entry.is_acked);
        let stats = self.journal().stats();
        assert_eq!(stats.batches, waited.clone().count() as u64);
        assert_eq!(stats.points, waited.map(|entry| entry.batch.points() as u64).sum::<u64>());
    }

    fn append(&mut self, source: usize) {
        self.time += 1;
        let batch = self.sources[source].batch(self.time);
        let position = match self.journal().append(&batch) {
            Ok(position) => position,
            Err(AppendError::Full | AppendError::Behind) => return,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(position.points(), batch.points() as u64);
        assert!(self.entries.last().is_none_or(|last| last.position < position));
        self.entries.push(Entry {
            batch,
            position,
            is_committed: false,
            is_acked: false,
            is_ack_committed: false,
        });
    }

    fn commit(&mut self) {
        let Ok(committed) = self.journal().commit() else { return };
        for entry in &mut self.entries {
            assert!(entry.position.sequence() <= committed.sequence);
            entry.is_committed = true;
            entry.is_ack_committed = entry.is_acked;
        }
        let shapes = 16 << 10;
        assert!(self.disk.bytes() as u64 <= settings().bytes_max + shapes);
    }

    fn ack(&mut self, skip: usize, times: usize) {
        let waited = self.entries.iter().enumerate().filter(|(_, entry)| !entry.is_acked);
        let idxs: Vec<_> = waited.map(|(idx, _)| idx).skip(skip).take(times).collect();
        for idx in idxs {
            let position = self.entries[idx].position;
            assert!(self.journal().ack(position));
            assert!(!self.journal().ack(position), "once");
            self.entries[idx].is_acked = true;
        }
    }

    fn drop_oldest(&mut self) {
        let dropped = self.journal().drop_oldest();
        let waited = self.entries.iter_mut().filter(|entry| !entry.is_acked);
        for (entry, position) in waited.zip(&dropped) {
            assert_eq!(entry.position, *position, "the oldest go");
            entry.is_acked = true;
        }
        if dropped.is_empty() {
            assert!(self.entries.iter().all(|entry| entry.is_acked));
        }
    }

    fn read_all(&mut self) {
        let read = super::read_all(self.journal());
        let waited: Vec<_> = self.entries.iter().filter(|entry| !entry.is_acked).collect();
        assert_eq!(read.len(), waited.len());
        for ((position, batch), entry) in read.iter().zip(waited) {
            assert_eq!((*position, batch.source), (entry.position, entry.batch.source));
            assert_same(batch, &entry.batch, true);
        }
    }

    fn read_on(&mut self, bytes: usize) {
        let mut cursor = std::mem::take(&mut self.cursor);
        let chunk = self.journal().read(&mut cursor, None, bytes).unwrap();
        self.cursor = cursor;
        assert_eq!(chunk.lost, []);
        let mut expected = self
            .entries
            .iter()
            .filter(|entry| !entry.is_acked && entry.batch.time > self.read_to)
            .map(|entry| entry.batch.time);
        for (_, batch) in &chunk.batches {
            assert_eq!(Some(batch.time), expected.next());
        }
        assert_eq!(chunk.is_end, expected.next().is_none());
        self.read_to = chunk.batches.last().map_or(self.read_to, |(_, batch)| batch.time);
    }

    fn reopen(&mut self, power_cut: Option<u64>) {
        self.journal = None;
        self.disk.heal();
        if let Some(seed) = power_cut {
            self.disk.cut_power(seed);
        }
        let (journal, recovered) = open(&self.disk);
        let read = super::read_all(&journal);
        assert_eq!(recovered.batches, read.len() as u64);
        assert!(recovered.set_aside.is_empty(), "everything is ours");
        self.take_recovered(&read);
        self.cursor = journal.cursor();
        self.read_to = 0;
        self.journal = Some(journal);
        self.sources = (0..4).map(Source::new).collect();
    }

    fn take_recovered(&mut self, read: &[(Position, Batch)]) {
        assert!(read.is_sorted_by_key(|(position, batch)| (position.sequence(), batch.time)));
        let mut of_time: HashMap<i64, &(Position, Batch)> = HashMap::new();
        for entry in read {
            assert!(of_time.insert(entry.1.time, entry).is_none(), "once");
        }
        let mut ids: HashMap<SourceId, SourceId> = HashMap::new();
        self.entries.retain_mut(|entry| {
            let found = of_time.remove(&entry.batch.time);
            if entry.is_committed && !entry.is_acked {
                assert!(found.is_some(), "{:?} was committed", entry.position);
            }
            if entry.is_ack_committed {
                assert!(found.is_none(), "{:?} was acknowledged", entry.position);
            }
            let Some((position, batch)) = found else { return false };
            assert_eq!(*position, entry.position);
            assert_same(batch, &entry.batch, entry.is_committed);
            let id = *ids.entry(entry.batch.source).or_insert(batch.source);
            assert_eq!(id, batch.source, "a source stays one source");
            entry.batch = batch.clone();
            (entry.is_committed, entry.is_acked) = (true, false);
            true
        });
        assert!(of_time.is_empty(), "nothing comes back that is gone: {:?}", of_time.keys());
        let mut new: Vec<_> = ids.values().collect();
        new.sort_unstable();
        assert!(new.windows(2).all(|pair| pair[0] != pair[1]), "two sources stay two");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// The promise.
    #[test]
    fn whatever_happens_what_was_committed_and_not_acknowledged_comes_back(ops in ops()) {
        let mut model = Model::new();
        for op in &ops {
            model.run(op);
        }
        // Whatever was wrong is over: a commit works, and the next process finds exactly what is waited for.
        model.disk.heal();
        model.commit();
        assert!(model.entries.iter().all(|entry| entry.is_committed));
        model.reopen(Some(1));
        model.ack(0, usize::MAX);
        model.commit();
        model.commit();
        let left = model.disk.paths();
        assert!(left.len() <= 1, "only the segment that is written is left: {left:?}");
        assert!(left.iter().all(|path| path.starts_with(DIR)));
    }
}
