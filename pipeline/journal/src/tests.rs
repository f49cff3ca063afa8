//! A journal on a disk that fails: see `model` for what holds whatever happens, `damage` for bytes that change.

mod damage;
mod disk;
mod model;

use std::path::Path;
use std::sync::Arc;

use pipeline_model::{
    Batch, Bounds, Exemplar, ExponentialBuckets, ExponentialPoint, Extras, Group, Hint, Interner,
    Kind, Label, Labels, Mark, Metric, Number, Resource, Scope, Shape, ShapeBuilder, Slot,
    SourceId, Temporality, Value,
};

use crate::faulty::FaultyDisk;
use crate::{Journal, JournalSettings, Position, Recovered};

const DIR: &str = "/queue";

fn settings() -> JournalSettings {
    JournalSettings { bytes_max: 64 << 10, segment_bytes: 4096, buffer_bytes_max: 16 << 10 }
}

fn open(disk: &FaultyDisk) -> (Journal, Recovered) {
    open_with(disk, settings())
}

fn open_with(disk: &FaultyDisk, settings: JournalSettings) -> (Journal, Recovered) {
    let interner = Arc::new(Interner::new());
    Journal::open_on(Arc::new(disk.clone()), Path::new(DIR), settings, interner).unwrap()
}

/// All that is waited for.
#[track_caller]
fn read_all(journal: &Journal) -> Vec<(Position, Batch)> {
    let mut cursor = journal.cursor();
    let mut all = Vec::new();
    loop {
        let chunk = journal.read(&mut cursor, None, 300).unwrap();
        assert_eq!(chunk.lost, [], "nothing is lost");
        all.extend(chunk.batches);
        if chunk.is_end {
            return all;
        }
    }
}

fn times(read: &[(Position, Batch)]) -> Vec<i64> {
    read.iter().map(|(_, batch)| batch.time).collect()
}

/// A source: what its batches are like is said by its number.
#[derive(Debug)]
struct Source {
    number: usize,
    id: SourceId,
    interner: Interner,
    shape: Arc<Shape>,
    starts: Arc<Vec<i64>>,
}

fn metric(name: &str, kind: Kind) -> Arc<Metric> {
    Arc::new(Metric::new(name, "s", "How long.", kind))
}

impl Source {
    fn new(number: usize) -> Self {
        let interner = Interner::new();
        let shape = Self::shape(&interner, number, 1);
        let starts = (0..shape.len() as i64).map(|row| row * 1_000_000_007).collect();
        Self { number, id: SourceId::next(), interner, shape, starts: Arc::new(starts) }
    }

    /// Numbers 0 and 3 have equal tables; 2 has everything there is.
    fn shape(interner: &Interner, number: usize, generation: usize) -> Arc<Shape> {
        let mut builder = ShapeBuilder::new(interner);
        let group = builder.group(Group {
            resource: Arc::new(Resource {
                attributes: Labels::from_pairs([("host", format!("h{number}").as_str())]),
                schema_url: "https://example.com".into(),
            }),
            labels: Labels::from_pairs([("instance", number.to_string().as_str())]),
            ..Group::default()
        });
        let rows = 5 * generation + number % 3;
        for row in 0..rows {
            let labels = Labels::from_pairs([("row", row.to_string().as_str())]);
            builder.push(group, &metric("requests_total", Kind::COUNTER), &labels).unwrap();
        }
        if number == 2 {
            Self::push_rich(&mut builder);
        }
        builder.finish()
    }

    fn push_rich(builder: &mut ShapeBuilder<'_>) {
        let scope = Scope { name: "meter".into(), version: "1".into(), ..Scope::default() };
        let group = builder.group(Group { scope: Arc::new(scope), ..Group::default() });
        let nested = Value::Map(Arc::from([
            ("b".into(), Value::List(Arc::from([Value::Int(-1), Value::Empty]))),
            ("a".into(), Value::Bytes(Arc::from([0u8, 255]))),
        ]));
        let label = |name: &str, value| Label { name: name.into(), value };
        let labels = Labels::new(vec![
            label("nested", nested),
            label("nan", Value::Double(f64::NAN)),
            label("flag", Value::Bool(true)),
        ]);
        let bounds = Bounds::new(&[0.5, 1.0, 2.5]);
        let kinds = [
            Kind::Gauge,
            Kind::Sum { monotonic: false, temporality: Temporality::Delta },
            Kind::histogram(bounds.clone()),
            Kind::Histogram {
                temporality: Temporality::Delta,
                bounds: bounds.clone(),
                min_max: true,
            },
            Kind::Summary { quantiles: bounds },
            Kind::ExponentialHistogram { temporality: Temporality::Delta },
        ];
        for (idx, kind) in kinds.into_iter().enumerate() {
            let mut metric = (*metric(&format!("rich_{idx}"), kind)).clone();
            if idx == 0 {
                (metric.number, metric.hint) = (Number::Int, Hint::StateSet);
            }
            builder.push(group, &Arc::new(metric), &labels).unwrap();
        }
    }

    /// Another shape from here on.
    fn grow(&mut self, generation: usize) {
        self.shape = Self::shape(&self.interner, self.number, generation);
        self.starts = Arc::new(vec![7; self.shape.len()]);
    }

    /// The batch of a moment.
    fn batch(&self, time: i64) -> Batch {
        let slots = self.shape.slots();
        let values = (0..slots).map(|slot| Slot::double(time as f64 + slot as f64 / 1e3)).collect();
        let mut batch = Batch::new(self.id, Arc::clone(&self.shape), time, values);
        if self.number != 1 {
            batch.starts = Some(Arc::clone(&self.starts));
        }
        if self.number == 2 {
            let rows = self.shape.len();
            let mark = |row: usize| match (row + time as usize) % 4 {
                0 => Mark::Absent,
                1 => Mark::Stale,
                _ => Mark::Present,
            };
            batch.marks = Some(Arc::new((0..rows).map(mark).collect()));
            batch.extras = Some(Arc::new(self.extras(time)));
            batch.ended = time % 5 == 0;
        }
        batch
    }

    fn extras(&self, time: i64) -> Extras {
        let rows = self.shape.len();
        let point = ExponentialPoint {
            scale: -3,
            zero_count: 0.5,
            zero_threshold: 1e-9,
            positive: ExponentialBuckets { offset: -7, counts: vec![1.0, 0.0, -0.0, 1e300] },
            negative: ExponentialBuckets::default(),
            min: Some(-1.0),
            max: None,
        };
        let exemplar = Exemplar {
            row: 1,
            value: 0.25,
            time: time - 1,
            labels: Labels::from_pairs([("trace_id", format!("{time:032x}").as_str())]),
        };
        Extras {
            times: Some((0..rows as i64).map(|row| time + row % 2).collect()),
            exponentials: vec![(rows as u32 - 1, point)],
            exemplars: vec![exemplar],
        }
    }
}

/// Asserts that `read` is `written`, its source apart; `starts` says whether start times must be there.
#[track_caller]
fn assert_same(read: &Batch, written: &Batch, starts: bool) {
    assert_eq!(read.time, written.time);
    assert_eq!(read.ended, written.ended);
    assert_eq!(read.shape.groups(), written.shape.groups());
    assert_eq!(read.shape.len(), written.shape.len());
    for (a, b) in read.shape.iter().zip(written.shape.iter()) {
        assert_eq!((a.metric, a.labels, a.slots()), (b.metric, b.labels, b.slots()));
        assert_eq!(a.group_idx, b.group_idx);
        assert_eq!(read.mark(a.row), written.mark(a.row));
        if written.mark(a.row) != Mark::Absent {
            assert_eq!(read.point(a.row), written.point(a.row));
        }
    }
    if starts || read.starts.is_some() {
        assert_eq!(read.starts, written.starts);
    }
    assert_eq!(read.extras, written.extras);
}
