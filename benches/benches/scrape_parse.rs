//! Reading pages: along the layout of the page before, with changes, and in full. Divide by the items for one sample.
//!
//! Pages are the simulator's: the newest vLLM with 500 and 1100 series, whose values move from scrape to scrape.

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use pipeline_model::Interner;
use pipeline_wire::scrape::{Layouts, Page, PageFormat, PagePath, PageReader, PageSettings};
use simulator::{Release, bulk_page};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

const SERIES: [usize; 2] = [500, 1100];
/// Pages taken in turn.
const PAGES: usize = 16;

fn main() {
    divan::main();
}

struct Target {
    interner: Interner,
    layouts: Layouts,
    reader: PageReader,
}

impl Target {
    fn new() -> Self {
        Self {
            interner: Interner::new(),
            layouts: Layouts::new(),
            reader: PageReader::new(PageSettings::default()),
        }
    }

    fn read(&mut self, body: &[u8]) -> Page {
        match self.reader.read(PageFormat::Text, body, &self.interner, &self.layouts) {
            Ok(page) => page,
            Err(error) => {
                unreachable!("{error}")
            }
        }
    }
}

fn pages(series: usize) -> Vec<Vec<u8>> {
    (0..PAGES).map(|sequence| bulk_page(Release::Vllm0_33_0, series, sequence as u64)).collect()
}

/// `body` without every `step`th gauge.
fn thinned(body: &[u8], step: usize) -> Vec<u8> {
    let parts = ["_bucket{", "_sum{", "_count{", "_created{", "_total{"];
    let mut gauges = 0;
    let text = String::from_utf8_lossy(body);
    let kept = text.split_inclusive('\n').filter(|line| {
        let gauge = line.starts_with("vllm:") && !parts.iter().any(|part| line.contains(part));
        gauges += usize::from(gauge);
        !gauge || gauges % step != 0
    });
    kept.collect::<String>().into_bytes()
}

/// Metadata and samples in blocks of one family, last block first.
fn reversed(body: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    let mut blocks: Vec<&str> = text.split("# HELP ").collect();
    blocks.reverse();
    blocks
        .iter()
        .filter(|block| !block.is_empty())
        .flat_map(|block| ["# HELP ", block])
        .collect::<String>()
        .into_bytes()
}

/// Reads `bodies` in turn; after the first round none is parsed in full.
fn bench(bencher: Bencher<'_, '_>, bodies: &[Vec<u8>]) {
    let mut target = Target::new();
    let mut last = None;
    for body in bodies.iter().chain(bodies) {
        last = Some(target.read(body));
    }
    let Some(last) = last else { return };
    assert!(matches!(last.stats.path, PagePath::Cached | PagePath::Patched), "{:?}", last.stats);
    let mut turn = 0;
    bencher.counter(ItemsCount::new(last.stats.samples)).bench_local(|| {
        turn += 1;
        let body = bodies.get(turn % bodies.len()).map(Vec::as_slice).unwrap_or_default();
        black_box(target.read(black_box(body)))
    });
}

/// The page looks as before: what every scrape but the first costs.
#[divan::bench(args = SERIES)]
fn same(bencher: Bencher<'_, '_>, series: usize) {
    bench(bencher, &pages(series));
}

/// Every third gauge is missing on every other page.
#[divan::bench(args = SERIES)]
fn some_missing(bencher: Bencher<'_, '_>, series: usize) {
    let whole = pages(series);
    let Some(first) = whole.first() else { return };
    bench(bencher, &[first.clone(), thinned(first, 3)]);
}

/// Every other page has its families in reverse order: the layout follows one of them.
#[divan::bench(args = SERIES)]
fn families_reversed(bencher: Bencher<'_, '_>, series: usize) {
    let whole = pages(series);
    let Some(first) = whole.first() else { return };
    bench(bencher, &[first.clone(), reversed(first)]);
}

/// The first page of one more target like others: everything interned already, no layout yet.
#[divan::bench(args = SERIES)]
fn full(bencher: Bencher<'_, '_>, series: usize) {
    let body = bulk_page(Release::Vllm0_33_0, series, 1);
    let mut target = Target::new();
    let samples = target.read(&body).stats.samples;
    bencher.counter(ItemsCount::new(samples)).bench_local(|| {
        target.reader = PageReader::new(PageSettings::default());
        black_box(target.read(black_box(&body)))
    });
}
