//! What `llm` adds per sample of the pages it reads. Divide by the items, which are samples of the page.
//!
//! `steady` is a scrape after the first, of pages of 500 and 1100 samples of a newest vLLM and of an SGLang; exporters
//! hold the newest column, as they do in the agent. `first` is a target's first page, where everything is bound.
#![expect(clippy::expect_used, reason = "a benchmark stops where it stands")]

use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use pipeline_component::{BuildProcessor, Processor, Settings};
use pipeline_config::Section;
use pipeline_model::{Batch, Compute, SourceId};
use pipeline_wire::scrape::{Layouts, PageFormat, PageReader, PageSettings};
use processors::llm::Llm;
use simulator::{Release, bulk_page};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

/// Pages taken in turn, so that there is something to count.
const PAGES: u64 = 16;

const CASES: [(Release, usize); 3] =
    [(Release::Vllm0_33_0, 500), (Release::Vllm0_33_0, 1100), (Release::Sglang0_5_23, 500)];

fn main() {
    divan::main();
}

fn compute(settings: &Settings) -> Box<dyn Compute> {
    let section = Section::from_toml("processors.llm", "").expect("it is TOML");
    let config = section.decode().expect("it is a configuration");
    let steps = Llm::build(config, &section, settings.clone()).expect("it is right");
    let step = steps.into_iter().next().expect("there is one");
    match step {
        Processor::Compute(make) => make(),
        Processor::Reshape(_) => unreachable!("llm works on values"),
    }
}

/// Batches of one source, and the samples of a page.
fn batches(settings: &Settings, (release, series): (Release, usize)) -> (Vec<Batch>, usize) {
    let (layouts, source) = (Layouts::new(), SourceId::next());
    let mut reader = PageReader::new(PageSettings::default());
    let mut samples = 0;
    let batches = (0..PAGES).map(|sequence| {
        let body = bulk_page(release, series, sequence);
        let page = reader.read(PageFormat::Text, &body, &settings.interner, &layouts);
        let page = page.expect("it is a page");
        samples = page.stats.samples;
        let time = i64::try_from(sequence).unwrap_or_default() * 5_000_000_000;
        Batch {
            starts: page.starts,
            marks: page.marks.map(Arc::new),
            ..Batch::new(source, page.shape, time, page.values)
        }
    });
    (batches.collect(), samples)
}

#[divan::bench(args = CASES)]
fn steady(bencher: Bencher<'_, '_>, case: (Release, usize)) {
    let settings = Settings::standalone("processor", "bench");
    let (batches, samples) = batches(&settings, case);
    let mut step = compute(&settings);
    let mut out = Vec::with_capacity(4);
    let mut held = None;
    for batch in &batches {
        step.compute(batch.clone(), &mut out);
        held = out.pop();
        out.clear();
    }
    let (mut turn, mut time) = (0, PAGES as i64 * 5_000_000_000);
    bencher.counter(ItemsCount::new(samples)).bench_local(|| {
        turn += 1;
        time += 5_000_000_000;
        let batch = &batches[turn % batches.len()];
        step.compute(Batch { time, ..black_box(batch).clone() }, &mut out);
        held = out.pop();
        out.clear();
    });
    assert!(held.is_some_and(|batch| batch.shape.len() >= 9), "the series of the contract");
}

#[divan::bench(args = CASES)]
fn first(bencher: Bencher<'_, '_>, case: (Release, usize)) {
    let settings = Settings::standalone("processor", "bench");
    let (batches, samples) = batches(&settings, case);
    let mut out = Vec::with_capacity(4);
    bencher.counter(ItemsCount::new(samples)).with_inputs(|| compute(&settings)).bench_local_refs(
        |step| {
            step.compute(black_box(&batches[0]).clone(), &mut out);
            out.clear();
        },
    );
}
