//! Bytes that change on disk: what they do not hit comes back.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use pipeline_model::Batch;
use proptest::prelude::*;

use super::{Source, assert_same, open, open_with, read_all, settings, times};
use crate::bytes::Reader;
use crate::codec::{BatchHead, ShapeHead, table_number};
use crate::faulty::FaultyDisk;
use crate::record::{Bytes, Header, Item, Kind, Records};
use crate::state::read_acks;
use crate::{JournalSettings, Recovered};

impl Bytes for Vec<u8> {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(out.len());
        out[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

/// Segments with batches 1 to `n` of four sources; some acknowledged. Gives them, acknowledged or not.
fn log(n: i64, settings: JournalSettings) -> (FaultyDisk, Vec<(Batch, bool)>) {
    let disk = FaultyDisk::new();
    let (journal, _) = open_with(&disk, settings);
    let sources: Vec<_> = (0..4).map(Source::new).collect();
    let mut written = Vec::new();
    for time in 1..=n {
        let batch = sources[time as usize % 4].batch(time);
        let position = journal.append(&batch).unwrap();
        // Never all of a segment: its file would go.
        let is_acked = time % 7 == 3 && journal.ack(position);
        written.push((batch, is_acked));
        if time % 5 == 0 {
            journal.commit().unwrap();
        }
    }
    journal.commit().unwrap();
    (disk, written)
}

/// The sequences of `content` that survive `is_hit`, and those acknowledged by records that do; whether start times do.
fn survivors(
    content: &Vec<u8>,
    is_hit: impl Fn(u64, u64) -> bool,
    alive: &mut HashSet<u64>,
    acked: &mut HashSet<u64>,
) -> bool {
    let mut records = Records::new(content, 0, content.len() as u64, Vec::new());
    assert!(matches!(Header::read(records.peek(Header::BYTES).unwrap()), Header::Known { .. }));
    records.skip(Header::BYTES as u64);
    let (mut tables, mut shapes) = (HashSet::new(), HashSet::new());
    let mut has_starts = true;
    while let Some(item) = records.next().unwrap() {
        let Item::Record { offset, bytes } = item else { panic!("the log is whole") };
        let (kind, body) = Kind::of(records.payload()).unwrap();
        if is_hit(offset, offset + bytes) {
            has_starts &= kind != Kind::Starts;
            continue;
        }
        match kind {
            Kind::Table => {
                tables.insert(table_number(body).unwrap());
            }
            Kind::Shape => {
                let head = ShapeHead::read(&mut Reader::new(body)).unwrap();
                if tables.contains(&head.table) {
                    shapes.insert(head.number);
                }
            }
            Kind::Batch => {
                let head = BatchHead::read(&mut Reader::new(body)).unwrap();
                if shapes.contains(&head.shape) {
                    alive.insert(head.sequence);
                }
            }
            Kind::Acks => {
                for (from, to) in read_acks(body).unwrap() {
                    acked.extend(from..to);
                }
            }
            Kind::Starts => {}
        }
    }
    has_starts
}

/// Opens `disk`, whose file at `path` was `before` and had bytes `is_hit` changed, and asserts that nothing else is lost.
fn check(
    disk: &FaultyDisk,
    written: &[(Batch, bool)],
    path: &Path,
    before: &Vec<u8>,
    is_hit: impl Fn(u64, u64) -> bool,
) -> Recovered {
    let (mut alive, mut acked) = (HashSet::new(), HashSet::new());
    let mut has_starts = true;
    for other in disk.paths() {
        if other == path {
            has_starts &= survivors(before, &is_hit, &mut alive, &mut acked);
        } else {
            let content = disk.content(&other).unwrap();
            survivors(&content, |_, _| false, &mut alive, &mut acked);
        }
    }
    let (journal, recovered) = open(disk);
    let read = read_all(&journal);
    let found: HashSet<u64> = read.iter().map(|(position, _)| position.sequence()).collect();
    assert_eq!(found.len(), read.len(), "once");
    assert!(read.is_sorted_by_key(|(position, _)| *position), "in order");
    for (position, batch) in &read {
        // Sequences begin at 1, as the times do.
        assert_same(batch, &written[position.sequence() as usize - 1].0, has_starts);
        assert!(!acked.contains(&position.sequence()), "acknowledged and back");
    }
    let missing: Vec<_> =
        alive.difference(&acked).filter(|sequence| !found.contains(sequence)).collect();
    assert_eq!(missing, Vec::<&u64>::new(), "lost without being hit");
    // It goes on as if nothing had happened.
    let next = Source::new(0).batch(1_000_000);
    journal.append(&next).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let (journal, _) = open(disk);
    let after = times(&read_all(&journal));
    assert_eq!(after.split_last().unwrap(), (&1_000_000, &times(&read)[..]));
    recovered
}

fn nth(disk: &FaultyDisk, idx: usize) -> (PathBuf, Vec<u8>) {
    let paths = disk.paths();
    let path = paths[idx % paths.len()].clone();
    let content = disk.content(&path).unwrap();
    (path, content)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Flipped bits cost the records they hit, and the batches that need these.
    #[test]
    fn flipped_bits_lose_only_what_they_hit(
        file in 0..20usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..8),
    ) {
        let (disk, written) = log(120, settings());
        let (path, before) = nth(&disk, file);
        let mut after = before.clone();
        for (at, bit) in &flips {
            after[at.index(before.len())] ^= 1 << bit;
        }
        let hit: Vec<u64> =
            (0..before.len()).filter(|at| before[*at] != after[*at]).map(|at| at as u64).collect();
        disk.put(&path, after);
        let is_hit = |from, to| hit.iter().any(|at| (from..to).contains(at));
        let recovered = check(&disk, &written, &path, &before, is_hit);
        prop_assert_eq!(recovered.damaged_records > 0, !hit.is_empty());
    }

    /// A file that was cut off, with or without zeros or rubbish in place of what is gone, has what was before.
    #[test]
    fn a_cut_file_has_what_was_before_the_cut(
        file in 0..20usize,
        at in any::<prop::sample::Index>(),
        tail in prop_oneof![Just(None), Just(Some(0u8)), Just(Some(0xf5u8))],
    ) {
        let (disk, written) = log(120, settings());
        let (path, before) = nth(&disk, file);
        let at = at.index(before.len());
        let mut after = before[..at].to_vec();
        if let Some(byte) = tail {
            after.resize(before.len(), byte);
        }
        disk.put(&path, after);
        // A header is no record.
        if at >= Header::BYTES {
            check(&disk, &written, &path, &before, |_, to| to > at as u64);
        }
    }
}

/// A sector that the disk cannot read costs the block it is in; a file that cannot be read at all is set aside.
#[test]
fn an_unreadable_sector_loses_only_what_is_near() {
    let long = JournalSettings { bytes_max: 1 << 20, segment_bytes: 16 << 10, ..settings() };
    let (disk, written) = log(240, long);
    let (path, before) = nth(&disk, 0);
    assert!(before.len() > 3 * 4096);
    disk.set_unreadable(&path, 5000..5100);
    let recovered = check(&disk, &written, &path, &before, |from, to| from < 8192 && to > 4096);
    assert_eq!((recovered.damaged_records, recovered.set_aside.len()), (1, 0));

    let (disk, written) = log(240, settings());
    let (path, before) = nth(&disk, 0);
    disk.set_unreadable(&path, 0..u64::MAX);
    let recovered = check(&disk, &written, &path, &before, |_, _| true);
    assert_eq!(recovered.set_aside.len(), 1);
}

/// What is damaged while the process lives is reported once, and does not keep it from what comes after.
#[test]
fn damage_after_opening_is_reported_as_lost() {
    let (disk, written) = log(120, settings());
    let (journal, _) = open(&disk);
    let (path, mut content) = nth(&disk, 1);
    let len = content.len();
    content[len / 2..].fill(0x55);
    disk.put(&path, content);
    let mut cursor = journal.cursor();
    let (mut read, mut lost) = (Vec::new(), Vec::new());
    loop {
        let chunk = journal.read(&mut cursor, None, 1000).unwrap();
        read.extend(chunk.batches);
        lost.extend(chunk.lost);
        if chunk.is_end {
            break;
        }
    }
    let waited = written.iter().filter(|(_, is_acked)| !is_acked).count();
    assert!(!lost.is_empty());
    assert_eq!(read.len() + lost.len(), waited);
    assert_eq!(read.last().unwrap().1.time, 120);
    assert_eq!(journal.stats().batches, read.len() as u64);
    assert!(lost.iter().all(|position| !journal.ack(*position)));
}

/// Values that look like records do not make a damaged segment slow to read, nor are they mistaken for its records.
#[test]
fn values_that_look_like_marks_are_only_values() {
    let mut content = Vec::new();
    Header::put(&mut content, 1, 1);
    while content.len() < 4 << 20 {
        content.extend_from_slice(&[0xf5, 0xc1, 0x4a, 0x9e, 0, 0, 0x20, 0]);
    }
    let len = content.len() as u64;
    let mut records = Records::new(&content, 0, len, Vec::new());
    records.skip(Header::BYTES as u64);
    let damaged = len - Header::BYTES as u64;
    assert_eq!(records.next().unwrap(), Some(Item::Damaged { bytes: damaged }));
    assert_eq!(records.next().unwrap(), None);
}

/// A damaged table or shape costs no batch while another segment of the same process has it too.
#[test]
fn shapes_are_found_in_other_segments() {
    for kind in [Kind::Table, Kind::Shape] {
        let (disk, written) = log(120, settings());
        let (path, mut content) = nth(&disk, 1);
        let mut records = Records::new(&content, 0, content.len() as u64, Vec::new());
        records.skip(Header::BYTES as u64);
        let mut of_kind = Vec::new();
        while let Some(item) = records.next().unwrap() {
            if let Item::Record { offset, bytes } = item
                && Kind::of(records.payload()).unwrap().0 == kind
            {
                of_kind.push((offset + bytes - 1) as usize);
            }
        }
        drop(records);
        assert!(of_kind.len() > 2);
        of_kind.iter().for_each(|at| content[*at] ^= 1);
        disk.put(&path, content);
        let (journal, recovered) = open(&disk);
        let waited: Vec<_> =
            written.iter().filter(|(_, is_acked)| !is_acked).map(|(batch, _)| batch).collect();
        let read = read_all(&journal);
        assert_eq!(read.len(), waited.len());
        for ((_, batch), written) in read.iter().zip(waited) {
            assert_same(batch, written, true);
        }
        assert_eq!(recovered.damaged_records, of_kind.len() as u64);
    }
}
