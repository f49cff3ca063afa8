//! Folders and disks in all states.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipeline_model::Interner;

use super::{DIR, Source, assert_same, open, open_with, read_all, settings, times};
use crate::faulty::{Fault, FaultyDisk};
use crate::record::Header;
use crate::{AppendError, Journal, JournalSettings, OpenError};

/// On the real file system: what one process leaves, the next one has.
#[test]
fn batches_come_back_from_files() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("deep/queue");
    let open =
        || Journal::open(&dir, JournalSettings::new(1 << 20), Arc::new(Interner::new())).unwrap();
    let sources: Vec<_> = (0..4).map(Source::new).collect();
    let written: Vec<_> = (1..100).map(|time| sources[time as usize % 4].batch(time)).collect();
    {
        let (journal, recovered) = open();
        assert_eq!(recovered, crate::Recovered::default());
        for batch in &written {
            let position = journal.append(batch).unwrap();
            assert!(batch.time % 2 == 0 || journal.ack(position));
        }
        let committed = journal.commit().unwrap();
        assert_eq!(committed.sequence, 99);
        assert!(committed.bytes > 5000);
    }
    let (journal, recovered) = open();
    assert_eq!((recovered.batches, recovered.damaged_records), (49, 0));
    let read = read_all(&journal);
    for (_, batch) in &read {
        assert_same(batch, &written[batch.time as usize - 1], true);
    }
    assert_eq!(recovered.points, read.iter().map(|(position, _)| position.points()).sum::<u64>());
    assert!(read.iter().all(|(position, _)| journal.ack(*position)));
    journal.commit().unwrap();
    drop(journal);
    assert_eq!(open().1.batches, 0);
}

/// Two processes never write one folder; the error says which.
#[test]
fn a_folder_in_use_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let open =
        || Journal::open(root.path(), JournalSettings::new(1 << 20), Arc::new(Interner::new()));
    let first = open().unwrap();
    let error = open().unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }));
    let expected =
        format!("{} is in use by another process or another exporter", root.path().display());
    assert_eq!(error.to_string(), expected);
    drop(first);
    open().unwrap();
}

fn segment(id: u64) -> PathBuf {
    Path::new(DIR).join(format!("{id:016x}-{id:016x}.journal"))
}

/// Files of a newer version, and files that say nothing to us, are renamed and reported once. Others are left alone.
#[test]
fn what_cannot_be_read_is_set_aside() {
    let disk = FaultyDisk::new();
    let mut newer = Vec::new();
    Header::put(&mut newer, 2, 1);
    newer.extend_from_slice(b"who knows");
    disk.put(&segment(1), newer.clone());
    disk.put(&segment(2), b"rubbish".to_vec());
    disk.put(&segment(3), vec![0; 5000]);
    disk.put(&segment(4), Vec::new());
    let others = [Path::new(DIR).join("lock"), Path::new(DIR).join("1.journal.tmp")];
    others.iter().for_each(|path| disk.put(path, b"mine".to_vec()));

    let (journal, recovered) = open(&disk);
    let aside: Vec<PathBuf> =
        [1, 2].map(|id| format!("{}.set-aside", segment(id).display()).into()).into();
    assert_eq!(recovered.set_aside, aside);
    assert_eq!(disk.content(&aside[0]), Some(newer));
    journal.append(&Source::new(0).batch(1)).unwrap();
    journal.commit().unwrap();
    let mut expected = [&aside[..], &others, &[segment(5)]].concat();
    expected.sort();
    assert_eq!(disk.paths(), expected, "empty ones are gone, no number is used twice");
    drop(journal);

    let (journal, recovered) = open(&disk);
    assert_eq!(recovered.set_aside, Vec::<PathBuf>::new());
    assert_eq!(times(&read_all(&journal)), [1]);
}

/// Nothing to do is nothing done, also where nothing could be done.
#[test]
fn an_idle_commit_touches_nothing() {
    let disk = FaultyDisk::new();
    let (journal, _) = open(&disk);
    disk.fail(0, u64::MAX, Fault::Io);
    journal.commit().unwrap();
    assert!(disk.paths().is_empty());
    disk.heal();
    let position = journal.append(&Source::new(0).batch(1)).unwrap();
    journal.commit().unwrap();
    assert!(journal.ack(position));
    journal.commit().unwrap();
    disk.fail(0, u64::MAX, Fault::Io);
    assert_eq!(journal.commit().unwrap().bytes, 0);
}

/// A full disk: commits say so, memory is bounded, everything is readable meanwhile, and room brings everything to disk.
#[test]
fn a_full_disk_is_survived() {
    let disk = FaultyDisk::new();
    let (journal, _) = open(&disk);
    let source = Source::new(0);
    disk.set_capacity(Some(3000));
    let mut taken = Vec::new();
    let mut failed = 0;
    for time in 1.. {
        match journal.append(&source.batch(time)) {
            Ok(_) => taken.push(time),
            Err(error) => {
                assert_eq!(error, AppendError::Behind);
                break;
            }
        }
        if let Err(error) = journal.commit() {
            assert_eq!(error.source.raw_os_error(), Some(28));
            failed += 1;
        }
    }
    assert!(failed > 10);
    assert!(journal.stats().buffered <= settings().buffer_bytes_max as u64);
    assert_eq!(times(&read_all(&journal)), taken);
    disk.set_capacity(None);
    journal.commit().unwrap();
    assert_eq!(journal.stats().buffered, 0);
    drop(journal);
    disk.cut_power(3);
    assert_eq!(times(&read_all(&open(&disk).0)), taken);
}

/// A disk that is full of what was delivered is emptied although nothing can be written to say so.
#[test]
fn delivered_segments_make_room_on_a_full_disk() {
    let disk = FaultyDisk::new();
    let (journal, _) = open(&disk);
    let source = Source::new(0);
    let mut positions = Vec::new();
    while journal.stats().segments < 4 {
        positions.push(journal.append(&source.batch(1 + positions.len() as i64)).unwrap());
        journal.commit().unwrap();
    }
    drop(journal);
    let (journal, recovered) = open(&disk);
    assert_eq!(recovered.batches, positions.len() as u64);
    disk.set_capacity(Some(disk.bytes()));
    assert!(positions.iter().all(|position| journal.ack(*position)));
    // There is no room for a new segment to say so, and nothing that had to be said.
    journal.commit().unwrap();
    assert_eq!((disk.paths().len(), journal.stats()), (0, crate::JournalStats::default()));
}

/// The file that is written fills the disk: it goes too once all of it is delivered, and appending goes on.
#[test]
fn a_delivered_file_that_fills_the_disk_goes() {
    let disk = FaultyDisk::new();
    let (journal, _) = open_with(&disk, JournalSettings { segment_bytes: 1 << 20, ..settings() });
    let source = Source::new(0);
    disk.set_capacity(Some(3000));
    for round in 0..3 {
        let mut positions = Vec::new();
        let mut failed = 0;
        while failed < 5 {
            positions.push(journal.append(&source.batch(1 + round)).unwrap());
            failed += usize::from(journal.commit().is_err());
        }
        // As long as one batch waits there is something to write, and no room for it.
        let last = positions.pop().unwrap();
        if round > 0 {
            positions.drain(..).for_each(|position| assert!(journal.ack(position)));
            drop(journal.commit());
            assert_eq!(journal.stats().batches, 1);
        }
        positions.iter().chain([&last]).for_each(|position| assert!(journal.ack(*position)));
        journal.commit().unwrap();
        assert_eq!(journal.stats().batches, 0);
        assert!(disk.bytes() < 1000, "{}", disk.bytes());
    }
    let position = journal.append(&source.batch(7)).unwrap();
    journal.commit().unwrap();
    assert_eq!(journal.durable(), position.sequence());
    drop(journal);
    assert_eq!(times(&read_all(&open(&disk).0)), [7]);
}

/// While something always waits, the file that fills the disk still goes once its own batches are delivered.
#[test]
fn a_full_disk_is_worked_through_under_load() {
    let disk = FaultyDisk::new();
    let (journal, _) = open_with(&disk, JournalSettings { segment_bytes: 1 << 20, ..settings() });
    let source = Source::new(0);
    disk.set_capacity(Some(3000));
    let mut waiting = std::collections::VecDeque::new();
    let mut succeeded = 0;
    for time in 1..2000 {
        waiting.push_back(journal.append(&source.batch(time)).unwrap());
        if waiting.len() > 5 {
            assert!(journal.ack(waiting.pop_front().unwrap()));
        }
        succeeded += usize::from(journal.commit().is_ok());
    }
    assert!(succeeded > 1000, "{succeeded}");
}

/// What is said to be durable is what the next process finds, no more and no less.
#[test]
fn a_full_disk_keeps_what_it_says_it_keeps() {
    let disk = FaultyDisk::new();
    let (journal, _) = open(&disk);
    let source = Source::new(0);
    disk.set_capacity(Some(3000));
    let positions: Vec<_> = (1..=60)
        .map(|time| {
            let position = journal.append(&source.batch(time)).unwrap();
            drop(journal.commit());
            position
        })
        .collect();
    let durable = journal.durable();
    assert!((10..50).contains(&durable), "{durable}");
    let lost = positions.iter().filter(|position| position.sequence() > durable);
    let (n, points) = lost.fold((0, 0), |(n, points), at| (n + 1, points + at.points()));
    assert_eq!(journal.waiting_after(durable), (n, points));
    drop(journal);
    let (journal, recovered) = open(&disk);
    assert_eq!((recovered.batches, recovered.damaged_records), (durable, 0));
    assert_eq!(times(&read_all(&journal)), (1..=durable as i64).collect::<Vec<_>>());
}

/// Room is bounded: full is said, the oldest can go, and what was dropped is told to the batch.
#[test]
fn a_full_journal_drops_its_oldest_when_asked() {
    let disk = FaultyDisk::new();
    let (journal, _) = open(&disk);
    let source = Source::new(0);
    let mut waited = Vec::new();
    for time in 1..2000 {
        let batch = source.batch(time);
        let appended = journal.append(&batch);
        let position = match appended {
            Ok(position) => position,
            Err(error) => {
                assert_eq!(error, AppendError::Full);
                let dropped = journal.drop_oldest();
                assert!(!dropped.is_empty());
                assert_eq!(waited.drain(..dropped.len()).collect::<Vec<_>>(), dropped);
                assert!(!journal.ack(dropped[0]), "it is settled");
                journal.append(&batch).unwrap()
            }
        };
        waited.push(position);
        if time % 10 == 0 {
            journal.commit().unwrap();
            assert!(disk.bytes() as u64 <= settings().bytes_max);
        }
    }
    assert!(waited.len() > 100 && waited.len() < 1000, "{}", waited.len());
    let read: Vec<_> = read_all(&journal).into_iter().map(|(position, _)| position).collect();
    assert_eq!(read, waited);
}

/// In steady state, what is delivered soon leaves nothing behind but the segment that is written.
#[test]
fn delivered_segments_go() {
    let disk = FaultyDisk::new();
    let (journal, _) = open(&disk);
    let source = Source::new(0);
    for time in 1..3000 {
        let position = journal.append(&source.batch(time)).unwrap();
        journal.commit().unwrap();
        assert!(journal.ack(position));
        assert!(journal.stats().segments <= 2);
    }
    assert!(disk.bytes() < 3 * 4096);
}

/// A batch that cannot ever fit is refused, and nothing of it stays.
#[test]
fn too_large_is_said() {
    let disk = FaultyDisk::new();
    let settings = JournalSettings { bytes_max: 500, ..settings() };
    let (journal, _) = open_with(&disk, settings);
    let appended = journal.append(&Source::new(0).batch(1));
    assert!(matches!(appended, Err(AppendError::TooLarge { .. })));
    assert_eq!(journal.stats(), crate::JournalStats::default());
}

/// Read back in the process that wrote it, a batch has the very shape it had: senders know it.
#[test]
fn shapes_that_are_in_use_are_shared() {
    let disk = FaultyDisk::new();
    let (journal, _) = open(&disk);
    let source = Source::new(2);
    journal.append(&source.batch(1)).unwrap();
    journal.commit().unwrap();
    journal.append(&source.batch(2)).unwrap();
    let read = read_all(&journal);
    assert_eq!(times(&read), [1, 2]);
    for (_, batch) in read {
        assert_eq!((batch.shape.id(), batch.source), (source.shape.id(), source.id));
    }
}

/// Reading stops before the batch that memory still has.
#[test]
fn reading_stops_where_it_is_told_to() {
    let disk = FaultyDisk::new();
    let (journal, _) = open(&disk);
    let source = Source::new(0);
    let positions: Vec<_> =
        (1..=150).map(|time| journal.append(&source.batch(time)).unwrap()).collect();
    let mut cursor = journal.cursor_at(positions[99]);
    let chunk = journal.read(&mut cursor, Some(positions[109]), usize::MAX).unwrap();
    assert_eq!(times(&chunk.batches), (100..110).collect::<Vec<_>>());
    assert!(chunk.is_end);
    let chunk = journal.read(&mut cursor, Some(positions[111]), 1).unwrap();
    assert_eq!((times(&chunk.batches), chunk.is_end), (vec![110], false));
    let chunk = journal.read(&mut cursor, Some(positions[111]), 1).unwrap();
    assert_eq!((times(&chunk.batches), chunk.is_end), (vec![111], true));
}
