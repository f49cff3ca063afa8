//! Ten minutes of one pod: its pages through the processor, and what happened meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pipeline_component::Settings;
use pipeline_model::{Batch, Group, Kind, Labels, Mark, Number, Slot, SourceId};
use pipeline_wire::scrape::{Layouts, PageFormat, PageReader, PageSettings};
use simulator::{Engine, Truth};

use super::START;
use super::pods::{Hits, Lookups, Pod};

/// It has served for a while when it is first scraped.
const FIRST: Duration = Duration::from_secs(30);
/// From page to page.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
/// Ten minutes of pages after the first.
const SCRAPES: usize = 120;

/// The point of a series: bounds of its buckets and its slots.
#[derive(Clone, Debug, Default)]
pub(super) struct Point {
    pub(super) bounds: Vec<f64>,
    pub(super) slots: Vec<f64>,
}

impl Point {
    pub(super) fn sum(&self) -> f64 {
        self.slots[0]
    }

    pub(super) fn count(&self) -> f64 {
        self.slots[1]
    }

    /// Bounds with the observations up to each.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (f64, f64)> {
        self.bounds.iter().copied().zip(self.slots.iter().skip(2).copied())
    }

    /// Index of the bucket with the median.
    pub(super) fn median_bucket(&self) -> usize {
        self.buckets().take_while(|(_, within)| within * 2.0 < self.count()).count()
    }
}

/// The series of `batches` that the processor made, by name without prefix; each there once.
pub(super) fn points(batches: &[Batch], settings: &Settings) -> BTreeMap<&'static str, Point> {
    let mut points = BTreeMap::new();
    for batch in batches {
        for series in batch.shape.iter().filter(|s| batch.mark(s.row) == Mark::Present) {
            let Some(metric) = settings.contract.find(&series.metric.name) else { continue };
            assert_eq!(series.label_text("deployment_id"), Some("truth"), "{}", metric.name);
            let read = |slot: &Slot| match series.metric.number {
                Number::Double => slot.as_double(),
                Number::Int => slot.as_int() as f64,
            };
            let bounds = match &series.metric.kind {
                Kind::Histogram { bounds, .. } => bounds.as_slice().to_vec(),
                _ => Vec::new(),
            };
            let slots = batch.point(series.row).iter().map(read).collect();
            let before = points.insert(metric.name, Point { bounds, slots });
            assert!(before.is_none(), "{} twice", metric.name);
        }
    }
    points
}

/// A gauge on one page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) truth: f64,
    /// What the engine's own page says it is.
    pub(super) said: f64,
    pub(super) reported: f64,
}

/// One pod after ten minutes.
pub(super) struct Run {
    pub(super) pod: &'static Pod,
    /// At the first page, and at the last.
    pub(super) first: Truth,
    pub(super) last: Truth,
    pub(super) points: BTreeMap<&'static str, Point>,
    /// Hit rates that the pages between tell, as one would read them by hand.
    pub(super) rates: Vec<f64>,
    /// Hit rates as they were: tokens found by tokens looked up between two pages.
    pub(super) true_rates: Vec<f64>,
    pub(super) in_flight: Vec<Seen>,
    pub(super) average: Vec<Seen>,
    pub(super) requests: Vec<Seen>,
}

pub(super) fn run(pod: &'static Pod) -> Run {
    let settings = Settings::standalone("processor", "llm");
    let (mut llm, mut engine) = (pod.processor(&settings), pod.engine());
    let labels = Labels::from_pairs([("deployment_id", "truth"), ("replica", "r0")]);
    let group = Group { labels, ..Group::default() };
    let mut reader = PageReader::new(PageSettings { group, ..PageSettings::default() });
    let (layouts, source) = (Layouts::new(), SourceId::next());
    engine.advance(FIRST);
    let mut run = Run {
        pod,
        first: engine.truth(),
        last: Truth::default(),
        points: BTreeMap::new(),
        rates: Vec::new(),
        true_rates: Vec::new(),
        in_flight: Vec::new(),
        average: Vec::new(),
        requests: Vec::new(),
    };
    let mut lookups = Vec::new();
    let mut areas = Vec::new();
    for scrape in 0..=SCRAPES {
        if scrape > 0 {
            engine.advance(INTERVAL);
        }
        let body = pod.page(&engine);
        let page = reader.read(PageFormat::Text, body.as_bytes(), &settings.interner, &layouts);
        let page = page.unwrap();
        let time = ((START + engine.clock().as_secs_f64()) * 1e9) as i64;
        let batch = Batch {
            starts: page.starts,
            marks: page.marks.map(Arc::new),
            extras: page.extras.map(Arc::new),
            ..Batch::new(source, page.shape, time, page.values)
        };
        let mut out = Vec::new();
        llm.compute(batch, &mut out);
        run.points = points(&out, &settings);
        run.last = engine.truth();
        areas.push(run.last.in_flight_token_seconds);
        run.note_gauges(&engine, &areas);
        let before = std::mem::replace(&mut lookups, pod.lookups(&engine));
        run.note_rates(&before, &lookups);
    }
    run
}

impl Run {
    pub(super) fn gauge(&self, name: &str) -> f64 {
        self.points.get(name).map_or(f64::NAN, |point| point.slots[0])
    }

    /// `areas`: token-seconds in flight up to each page.
    fn note_gauges(&mut self, engine: &Engine, areas: &[f64]) {
        let (now, said) = (engine.now(), engine.reported());
        let total = |now: &[simulator::Now], read: fn(&simulator::Now) -> u64| -> f64 {
            now.iter().map(read).sum::<u64>() as f64
        };
        self.in_flight.push(Seen {
            truth: total(&now, |now| now.sequence_tokens),
            said: total(&said, |now| now.kv_used_tokens),
            reported: self.gauge("llm_in_flight_tokens"),
        });
        self.requests.push(Seen {
            truth: total(&now, |now| now.running + now.waiting),
            said: total(&said, |now| now.running + now.waiting),
            reported: self.gauge("llm_num_requests"),
        });
        let pages = self.pod.window / INTERVAL.as_secs() as usize;
        if let [.., end] = areas
            && let Some(start) = areas.len().checked_sub(pages + 1)
        {
            let truth = (end - areas[start]) / self.pod.window as f64;
            let reported = self.gauge("llm_avg_in_flight_tokens");
            // The best that the pages allow: straight lines from one to the next.
            let lines = self.in_flight[start..].windows(2);
            let said: f64 =
                lines.map(|ends| f64::midpoint(ends[0].reported, ends[1].reported)).sum();
            self.average.push(Seen { truth, said: said / pages as f64, reported });
        }
    }

    fn note_rates(&mut self, before: &[Lookups], after: &[Lookups]) {
        for (before, after) in before.iter().zip(after) {
            let queries = after.queries - before.queries;
            if after.true_queries > before.true_queries {
                let hits = (after.true_hits - before.true_hits) as f64;
                self.true_rates.push(hits / (after.true_queries - before.true_queries) as f64);
            }
            if self.pod.hits == Hits::Gauge && after.prompts > before.prompts {
                self.rates.push(after.hits / after.queries);
            } else if self.pod.hits != Hits::Gauge && queries > 0.0 {
                self.rates.push((after.hits - before.hits) / queries);
            }
        }
    }
}
