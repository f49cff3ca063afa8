//! What must hold for any bytes that are given to the page reader: it never panics, and what it makes of a page does
//! not depend on the pages before.

use std::sync::Arc;

use pipeline_model::{Group, Interner, Kind, Labels, Mark, Metric};
use pipeline_wire::scrape::{Layouts, Page, PageFormat, PageReader, PageSettings};

/// Between the pages of one input.
const SEPARATOR: &[u8] = b"%%\n";
/// Pages of one input that are read; the rest is ignored.
const PAGES_MAX: usize = 8;

fn settings() -> PageSettings {
    PageSettings {
        group: Group { labels: Labels::from_pairs([("instance", "t")]), ..Group::default() },
        synthetic: Arc::new([Arc::new(Metric::new("up", "", "", Kind::Gauge))]),
        ..PageSettings::default()
    }
}

/// One line per series: who it is and what it says.
fn content(page: &Page) -> Vec<String> {
    let mut lines: Vec<String> = page
        .shape
        .iter()
        .filter(|series| {
            let mark = page.marks.as_ref().and_then(|marks| marks.get(series.row as usize));
            mark.is_none_or(|mark| *mark == Mark::Present)
        })
        .map(|series| {
            let row = series.row as usize;
            let values: Vec<u64> = page
                .values
                .get(series.slots())
                .unwrap_or_default()
                .iter()
                .map(|slot| slot.as_double().to_bits())
                .collect();
            let start =
                page.starts.as_ref().and_then(|starts| starts.get(row)).copied().unwrap_or(0);
            let extras = page.extras.as_ref();
            let times = extras.and_then(|extras| extras.times.as_ref());
            let time = times.and_then(|times| times.get(row)).copied().unwrap_or(0);
            let exemplars: Vec<_> = extras
                .iter()
                .flat_map(|extras| &extras.exemplars)
                .filter(|exemplar| exemplar.row == series.row)
                .map(|e| (e.value.to_bits(), e.time, e.labels.to_string()))
                .collect();
            let native = extras.and_then(|extras| extras.exponential(series.row));
            format!(
                "{:?} {} {values:?} {start} {time} {exemplars:?} {native:?}",
                series.metric, series.labels
            )
        })
        .collect();
    lines.sort();
    lines
}

fn pages(mut data: &[u8]) -> Vec<&[u8]> {
    let mut pages = Vec::new();
    while pages.len() < PAGES_MAX {
        match data.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
            Some(at) => {
                pages.push(&data[..at]);
                data = &data[at + SEPARATOR.len()..];
            }
            None => {
                pages.push(data);
                break;
            }
        }
    }
    pages
}

/// Reads the pages of `data` one after the other, and each by itself.
///
/// # Panics
/// When the two do not agree.
pub fn check(format: PageFormat, data: &[u8]) {
    let (interner, layouts) = (Interner::new(), Layouts::new());
    let mut reader = PageReader::new(settings());
    for body in pages(data) {
        let along = reader.read(format, body, &interner, &layouts);
        let alone = PageReader::new(settings()).read(format, body, &interner, &layouts);
        match (along, alone) {
            (Ok(along), Ok(alone)) => {
                assert_eq!(content(&along), content(&alone));
                assert_eq!(along.values.len(), along.shape.slots());
                assert_eq!(along.stats.samples, alone.stats.samples);
                assert_eq!(along.stats.duplicates, alone.stats.duplicates);
            }
            (along, alone) => assert_eq!(along.err(), alone.err()),
        }
    }
    let gone = reader.gone(&interner);
    assert_eq!(content(&gone).len(), 1, "only `up` is there");
}
