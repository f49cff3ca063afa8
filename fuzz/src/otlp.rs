//! What must hold for any bytes that are given to the OTLP reader: it never panics, a refused body takes nothing, what
//! is taken is counted, and what a request says does not depend on the requests before.

use std::sync::Arc;
use std::time::Duration;

use pipeline_model::{Batch, Interner, Kind, Mark, Number};
use pipeline_wire::otlp::{MetricsReader, ReadError, ReadSettings, ReadStats};

/// Unix nanoseconds at which requests are received.
const NOW: i64 = 1_800_000_000_000_000_000;

/// The encodings of a request.
#[derive(Clone, Copy, Debug)]
pub enum Encoding {
    /// Protobuf.
    Protobuf,
    /// JSON.
    Json,
}

fn reader() -> MetricsReader {
    // What is rejected beyond a limit depends on what came before: those are out of reach. Sources may be small.
    let settings = ReadSettings { source_series_max: 8, ..ReadSettings::default() };
    MetricsReader::new(settings, Arc::new(Interner::new()))
}

fn read(
    reader: &MetricsReader,
    encoding: Encoding,
    body: &[u8],
) -> Result<(Vec<Batch>, ReadStats), ReadError> {
    let mut out = Vec::new();
    let read = match encoding {
        Encoding::Protobuf => reader.read(body, NOW, &mut out),
        Encoding::Json => reader.read_json(body, NOW, &mut out),
    };
    assert!(read.is_ok() || out.is_empty(), "a refused body takes nothing");
    read.map(|stats| (out, stats))
}

/// One line a point, in any order of batches.
fn content(batches: &[Batch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        assert_eq!(batch.values.len(), batch.shape.slots());
        for series in batch.shape.iter().filter(|s| batch.mark(s.row) == Mark::Present) {
            let bits = |slot: &pipeline_model::Slot| match series.metric.number {
                Number::Int => (slot.as_int() as f64).to_bits(),
                Number::Double => slot.as_double().to_bits(),
            };
            let mut values: Vec<u64> = batch.point(series.row).iter().map(bits).collect();
            if let Kind::Histogram { min_max: true, .. } = series.metric.kind {
                values.drain(2..4);
            }
            let native = batch.extras.as_ref().and_then(|extras| extras.exponential(series.row));
            lines.push(format!(
                "{:?} {} {} {} {values:?} {native:?} {} {}",
                series.group.resource,
                series.metric.name,
                series.metric.unit,
                series.labels,
                batch.time_of(series.row),
                batch.start(series.row),
            ));
        }
    }
    lines.sort();
    lines
}

/// Reads `data` as a request and as the one that follows it.
///
/// # Panics
/// When something does not hold.
pub fn check(encoding: Encoding, data: &[u8]) {
    let used = reader();
    let half = data.get(..data.len() / 2).unwrap_or_default();
    // Whatever that is, it must not matter.
    drop(read(&used, encoding, half));
    let alone = read(&reader(), encoding, data);
    let along = read(&used, encoding, data);
    match (alone, along) {
        (Ok((alone, one)), Ok((along, other))) => {
            assert_eq!(one.points, other.points);
            if one.rejected == 0 && other.rejected == 0 {
                assert_eq!(content(&alone), content(&along));
            }
        }
        (alone, along) => assert_eq!(alone.err(), along.err()),
    }
    let mut ended = Vec::new();
    used.sweep(Duration::from_secs(1), NOW + 2_000_000_000, &mut ended);
    assert!(ended.iter().all(|batch| batch.ended));
    assert_eq!(used.stats(), pipeline_wire::otlp::ReaderStats::default(), "all is given back");
}
