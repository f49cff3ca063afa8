//! What must hold for any bytes in the files of a journal: it opens, what it gives comes in order, and it goes on: what
//! is appended and what was there before come back when it is opened again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use pipeline_journal::faulty::FaultyDisk;
use pipeline_journal::{Journal, JournalSettings, Position, Recovered};
use pipeline_model::{
    Batch, Bounds, Exemplar, ExponentialPoint, Extras, Group, Interner, Kind, Label, Labels, Mark,
    Metric, Shape, ShapeBuilder, Slot, SourceId, Temporality, Value,
};

const DIR: &str = "/queue";
/// Time of the batch that is appended after the damage.
const LAST: i64 = 1 << 40;

fn shape(interner: &Interner, rows: usize) -> Arc<Shape> {
    let mut builder = ShapeBuilder::new(interner);
    let group =
        builder.group(Group { labels: Labels::from_pairs([("pod", "a")]), ..Group::default() });
    let nested = Value::List(Arc::from([
        Value::Int(7),
        Value::Map(Arc::from([("k".into(), Value::Empty)])),
    ]));
    let labels = Labels::new(vec![Label { name: "nested".into(), value: nested }]);
    for row in 0..rows {
        let kind = match row % 4 {
            0 => Kind::COUNTER,
            1 => Kind::histogram(Bounds::new(&[1.0, 2.0])),
            2 => Kind::Summary { quantiles: Bounds::new(&[0.5, 0.9]) },
            _ => Kind::ExponentialHistogram { temporality: Temporality::Delta },
        };
        let metric = Arc::new(Metric::new(&format!("metric_{row}"), "s", "Help.", kind));
        builder.push(group, &metric, &labels).unwrap();
    }
    builder.finish()
}

fn batch(shape: &Arc<Shape>, source: SourceId, time: i64) -> Batch {
    let values = (0..shape.slots()).map(|slot| Slot::double(slot as f64)).collect();
    let mut batch = Batch::new(source, Arc::clone(shape), time, values);
    batch.starts = Some(Arc::new((0..shape.len() as i64).map(|row| row << 40).collect()));
    if time % 2 == 0 {
        batch.marks = Some(Arc::new(
            (0..shape.len())
                .map(|row| if row % 3 == 0 { Mark::Absent } else { Mark::Present })
                .collect(),
        ));
        let exemplar =
            Exemplar { row: 1, value: 1.5, time, labels: Labels::from_pairs([("trace_id", "ab")]) };
        batch.extras = Some(Arc::new(Extras {
            times: Some(vec![time + 1; shape.len()]),
            exponentials: vec![(3, ExponentialPoint::default())],
            exemplars: vec![exemplar],
        }));
    }
    batch
}

fn open(disk: &FaultyDisk) -> (Journal, Recovered) {
    let settings =
        JournalSettings { bytes_max: 1 << 20, segment_bytes: 4096, buffer_bytes_max: 1 << 20 };
    let (disk, interner) = (Arc::new(disk.clone()), Arc::new(Interner::new()));
    Journal::open_on(disk, Path::new(DIR), settings, interner).unwrap()
}

/// A whole log of three segments, some of it acknowledged.
fn files() -> &'static [(PathBuf, Vec<u8>)] {
    static FILES: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let disk = FaultyDisk::new();
        let (journal, _) = open(&disk);
        let interner = Interner::new();
        let shapes = [shape(&interner, 5), shape(&interner, 12)];
        let sources = [SourceId::next(), SourceId::next()];
        for time in 0..50 {
            let of = time as usize % 2;
            let position = journal.append(&batch(&shapes[of], sources[of], time)).unwrap();
            if time % 5 == 1 {
                journal.ack(position);
            }
            journal.commit().unwrap();
        }
        disk.paths().into_iter().map(|path| (path.clone(), disk.content(&path).unwrap())).collect()
    })
}

/// Writes the checksums of all records anew, as far as their lengths lead: a damaged record then counts as whole.
fn reseal(content: &mut [u8]) {
    let mut at = 24;
    while let Some(frame) = content.get(at..at + 12) {
        let length = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]) as usize;
        let Some(payload) = content.get(at + 12..at + 12 + length) else { return };
        let mut crc = crc32fast::Hasher::new();
        crc.update(&frame[4..8]);
        crc.update(payload);
        content[at + 8..at + 12].copy_from_slice(&crc.finalize().to_le_bytes());
        at += 12 + length;
    }
}

fn read_all(journal: &Journal) -> Vec<(Position, i64)> {
    let mut cursor = journal.cursor();
    let mut all = Vec::new();
    loop {
        let chunk = journal.read(&mut cursor, None, 1000).unwrap();
        for (position, batch) in &chunk.batches {
            assert_eq!(batch.values.len(), batch.shape.slots());
            all.push((*position, batch.time));
        }
        if chunk.is_end {
            return all;
        }
    }
}

/// The first byte says which file is damaged, and whether its checksums are made to fit; then each four bytes are one
/// change: what, where (two bytes), with what.
pub fn check(data: &[u8]) {
    let Some((first, changes)) = data.split_first() else { return };
    let disk = FaultyDisk::new();
    for (idx, (path, content)) in files().iter().enumerate() {
        let mut content = content.clone();
        if idx == (first >> 1) as usize % files().len() {
            for change in changes.chunks_exact(4).take(64) {
                let at = u16::from_le_bytes([change[1], change[2]]) as usize % content.len().max(1);
                match change[0] % 4 {
                    0 => content.truncate(at),
                    1 => content.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= change[3]),
                    2 => content.iter_mut().skip(at).take(1).for_each(|byte| *byte = change[3]),
                    _ => content
                        .iter_mut()
                        .skip(at)
                        .take(change[3] as usize)
                        .for_each(|byte| *byte = 0),
                }
            }
            if first & 1 == 1 {
                reseal(&mut content);
            }
        }
        disk.put(path, content);
    }
    let (journal, _) = open(&disk);
    let before = read_all(&journal);
    assert!(before.is_sorted_by(|a, b| a.0 < b.0), "in order, each once");
    let interner = Interner::new();
    journal.append(&batch(&shape(&interner, 5), SourceId::next(), LAST)).unwrap();
    journal.commit().unwrap();
    drop(journal);
    let (journal, recovered) = open(&disk);
    let mut after = read_all(&journal);
    assert_eq!(after.pop().map(|(_, time)| time), Some(LAST));
    if first & 1 == 1 {
        // Records that lie may be refused once and believed when the ones that they contradict are gone.
        return;
    }
    // A batch whose own segment lacks its shape goes with the last segment that had it, and is counted.
    let missing = before.iter().filter(|found| !after.contains(found)).count();
    assert!(missing as u64 <= recovered.damaged_records, "{missing} are missing");
    assert_eq!(after.len() + missing, before.len());
}
