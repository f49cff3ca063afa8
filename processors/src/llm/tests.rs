//! Pages in, `llm_*` series out: every formula by hand-made pages whose answer is known, and every odd page.

use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use pipeline_component::{BuildProcessor, Processor, Settings, telemetry::table};
use pipeline_config::Section;
use pipeline_model::{Batch, Compute, Entity, Group, Labels, Mark, Slot, SourceId};
use pipeline_wire::scrape::{Layouts, PageFormat, PageReader, PageSettings};

use super::Llm;
use super::odd::{Odd, Reason};

const SECOND: i64 = 1_000_000_000;

/// A target that is scraped, and the processor behind it.
struct Target {
    settings: Settings,
    compute: Box<dyn Compute>,
    reader: PageReader,
    layouts: Layouts,
    source: SourceId,
}

fn compute(toml: &str, settings: &Settings) -> Box<dyn Compute> {
    let section = Section::from_toml("processors.llm", toml).unwrap();
    let steps = Llm::build(section.decode().unwrap(), &section, settings.clone()).unwrap();
    match steps.into_iter().next() {
        Some(Processor::Compute(make)) => make(),
        _ => panic!("a compute step was expected"),
    }
}

impl Target {
    fn new(toml: &str) -> Self {
        Self::labelled(toml, &[("instance", "10.0.0.1:8000"), ("deployment_id", "d")])
    }

    fn labelled(toml: &str, labels: &[(&str, &str)]) -> Self {
        let settings = Settings::standalone("processor", "llm");
        let group =
            Group { labels: Labels::from_pairs(labels.iter().copied()), ..Group::default() };
        let page = PageSettings { group, ..PageSettings::default() };
        Self {
            compute: compute(toml, &settings),
            settings,
            reader: PageReader::new(page),
            layouts: Layouts::new(),
            source: SourceId::next(),
        }
    }

    fn give(&mut self, batch: Batch) -> Vec<Batch> {
        let mut out = Vec::new();
        self.compute.compute(batch, &mut out);
        out
    }

    fn batch(&mut self, page: &str, seconds: i64) -> Batch {
        let (interner, layouts) = (&self.settings.interner, &self.layouts);
        let page = self.reader.read(PageFormat::Text, page.as_bytes(), interner, layouts).unwrap();
        Batch {
            starts: page.starts,
            marks: page.marks.map(Arc::new),
            ..Batch::new(self.source, page.shape, seconds * SECOND, page.values)
        }
    }

    /// What comes out beside the page that was scraped at so many seconds.
    fn scrape(&mut self, page: &str, seconds: i64) -> Batch {
        let batch = self.batch(page, seconds);
        let mut out = self.give(batch);
        assert_eq!(out.len(), 2, "the page and its series");
        out.remove(1)
    }

    /// A scrape that failed: all that was there is stale.
    fn fail(&mut self, seconds: i64) -> Batch {
        let gone = self.reader.gone(&self.settings.interner);
        let batch = Batch {
            marks: gone.marks.map(Arc::new),
            ..Batch::new(self.source, gone.shape, seconds * SECOND, gone.values)
        };
        self.give(batch).remove(1)
    }

    fn odd(&self, reason: Reason) -> u64 {
        Odd::new(&self.settings.telemetry).get(reason)
    }

    /// The methods on show.
    fn methods(&self) -> Vec<String> {
        let text = self.settings.telemetry.text();
        let lines = text.lines().filter(|line| line.starts_with(table::LLM_METHOD.name));
        let part = |line: &str, label: &str| {
            let (_, rest) = line.split_once(&format!("{label}=\"")).unwrap();
            rest.split('"').next().unwrap().to_owned()
        };
        lines.map(|line| format!("{} by {}", part(line, "metric"), part(line, "method"))).collect()
    }
}

/// The slots of the series called `name` (without prefixes) in `batch`; the mark where it is not there.
fn point(batch: &Batch, name: &str) -> Result<Vec<f64>, Mark> {
    let full = format!("baseten_llm_{name}");
    let mut found = batch.shape.iter().filter(|series| *series.metric.name == *full);
    let series = found.next().unwrap_or_else(|| panic!("no {full} in {}", lines(batch)));
    assert!(found.next().is_none(), "one {full}");
    match batch.mark(series.row) {
        Mark::Present => Ok(batch.values[series.slots()].iter().map(|s| s.as_double()).collect()),
        gone => Err(gone),
    }
}

fn number(batch: &Batch, name: &str) -> f64 {
    let found = point(batch, name).unwrap();
    assert_eq!(found.len(), 1);
    found[0]
}

fn has(batch: &Batch, name: &str) -> bool {
    batch.shape.iter().any(|series| *series.metric.name == *format!("baseten_llm_{name}"))
}

/// All series with their labels and values; of histograms the counts that rise.
fn lines(batch: &Batch) -> String {
    let mut text = String::new();
    for series in batch.shape.iter() {
        let values: Vec<f64> = batch.values[series.slots()].iter().map(|s| s.as_double()).collect();
        let labels = Labels::new(series.labels_merged().cloned().collect());
        let name = series.metric.name.trim_start_matches("baseten_llm_");
        let value = match (batch.mark(series.row), &series.metric.kind) {
            (Mark::Present, pipeline_model::Kind::Histogram { bounds, .. }) => {
                let mut below = 0.0;
                let counts = bounds.as_slice().iter().zip(&values[2..]);
                let steps: Vec<String> = counts
                    .filter(|(_, count)| **count > std::mem::replace(&mut below, **count))
                    .map(|(bound, count)| format!("{bound}:{count}"))
                    .collect();
                format!("sum {} count {} [{}]", values[0], values[1], steps.join(" "))
            }
            (Mark::Present, _) => values[0].to_string(),
            (mark, _) => format!("{mark:?}"),
        };
        text += &format!("{name}{labels} {value}\n");
    }
    text
}

fn check(found: &str, expected: Expect) {
    expected.assert_eq(found);
}

/// The newest vLLM with two engines, as far as this processor reads it.
fn vllm(scale: f64) -> String {
    let mut page = String::new();
    let of = |value: f64| value * scale;
    for (family, kind, zero, one) in [
        ("num_requests_running", "gauge", 3.0, 2.0),
        ("num_requests_waiting", "gauge", 1.0, 0.0),
        ("kv_cache_usage_perc", "gauge", 0.25, 0.5),
        ("prompt_tokens_total", "counter", of(1000.0), of(500.0)),
        ("generation_tokens_total", "counter", of(100.0), of(50.0)),
        ("prefix_cache_queries_total", "counter", of(1000.0), of(500.0)),
        ("prefix_cache_hits_total", "counter", of(250.0), of(500.0)),
        ("spec_decode_num_accepted_tokens_total", "counter", of(30.0), of(10.0)),
        ("spec_decode_num_draft_tokens_total", "counter", of(60.0), of(40.0)),
        ("num_preemptions_total", "counter", of(1.0), of(2.0)),
    ] {
        page += &format!("# TYPE vllm:{family} {kind}\n");
        for (engine, value) in [(0, zero), (1, one)] {
            page += &format!("vllm:{family}{{engine=\"{engine}\",model_name=\"m\"}} {value}\n");
        }
    }
    page += "# TYPE vllm:cache_config_info gauge\n";
    for engine in [0, 1] {
        page += &format!(
            "vllm:cache_config_info{{engine=\"{engine}\",block_size=\"16\",num_gpu_blocks=\"3000\",kv_cache_size_tokens=\"24000\"}} 1\n"
        );
    }
    let mut histogram = |family: &str, buckets: &[(f64, f64)], sum: f64, count: f64| {
        page += &format!("# TYPE vllm:{family} histogram\n");
        for engine in [0, 1] {
            let labels = format!("engine=\"{engine}\",model_name=\"m\"");
            for (le, within) in buckets {
                let within = of(*within);
                page += &format!("vllm:{family}_bucket{{{labels},le=\"{le}\"}} {within}\n");
            }
            let (sum, count) = (of(sum), of(count));
            page += &format!("vllm:{family}_bucket{{{labels},le=\"+Inf\"}} {count}\n");
            page += &format!(
                "vllm:{family}_sum{{{labels}}} {sum}\nvllm:{family}_count{{{labels}}} {count}\n"
            );
        }
    };
    histogram("request_prompt_tokens", &[(100.0, 2.0), (200.0, 3.0)], 500.0, 4.0);
    histogram("request_generation_tokens", &[(10.0, 1.0), (20.0, 4.0)], 50.0, 4.0);
    // Four requests at 0.02 s (1), 0.04 s (2) and 0.5 s (1) a token.
    histogram(
        "request_time_per_output_token_seconds",
        &[(0.025, 1.0), (0.05, 3.0), (1.0, 4.0)],
        0.6,
        4.0,
    );
    page
}

#[test]
fn the_newest_vllm_with_two_engines() {
    let mut target = Target::new("");
    check(
        &lines(&target.scrape(&vllm(1.0), 0)),
        expect![[r#"
            input_tokens_total{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 1500
            output_tokens_total{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 150
            input_tokens_per_request{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} sum 1000 count 8 [100:4 200:6]
            output_tokens_per_request{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} sum 100 count 8 [10:2 20:8]
            tokens_per_second_per_request{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} sum 0 count 0 []
            kv_cache_hit_rate{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} sum 0 count 0 []
            spec_decode_num_accepted_tokens_total{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 40
            spec_decode_num_draft_tokens_total{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 100
            in_flight_tokens{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 18000
            avg_in_flight_tokens{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 18000
            num_requests{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 6
        "#]],
    );
    check(
        &lines(&target.scrape(&vllm(2.0), 10)),
        expect![[r#"
            input_tokens_total{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 3000
            output_tokens_total{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 300
            input_tokens_per_request{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} sum 2000 count 16 [100:8 200:12]
            output_tokens_per_request{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} sum 200 count 16 [10:4 20:16]
            tokens_per_second_per_request{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} sum 271.43647054242433 count 8 [20:2 40:6]
            kv_cache_hit_rate{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} sum 1.25 count 2 [0.25:1 1:2]
            spec_decode_num_accepted_tokens_total{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 80
            spec_decode_num_draft_tokens_total{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 200
            in_flight_tokens{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 18000
            avg_in_flight_tokens{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 18000
            num_requests{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 6
        "#]],
    );
    check(
        &target.methods().join("\n"),
        expect![[r#"
            llm_spec_decode_num_accepted_tokens_total by counters
            llm_input_tokens_per_request by histogram
            llm_output_tokens_per_request by histogram
            llm_in_flight_tokens by kv_usage
            llm_kv_cache_hit_rate by prefix_cache
            llm_tokens_per_second_per_request by time_per_output_token"#]],
    );
}
