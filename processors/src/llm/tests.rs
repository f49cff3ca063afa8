//! Pages in, `llm_*` series out: every formula by hand-made pages whose answer is known, and every odd page.

use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use pipeline_component::{BuildProcessor, Processor, Settings, telemetry::table};
use pipeline_config::Section;
use pipeline_model::{Batch, Compute, Entity, Group, Kind, Labels, Mark, SourceId};
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
            (Mark::Present, Kind::Histogram { bounds, .. }) => {
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

fn check(found: &str, expected: &Expect) {
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
        &expect![[r#"
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
        &expect![[r#"
            input_tokens_total{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 3000
            output_tokens_total{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 300
            input_tokens_per_request{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} sum 2000 count 16 [100:8 200:12]
            output_tokens_per_request{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} sum 200 count 16 [10:4 20:16]
            tokens_per_second_per_request{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} sum 219.94160583941604 count 8 [20:2 40:6]
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
        &expect![[r#"
            llm_spec_decode_num_accepted_tokens_total by counters
            llm_spec_decode_num_draft_tokens_total by counters
            llm_input_tokens_per_request by histogram
            llm_output_tokens_per_request by histogram
            llm_in_flight_tokens by kv_usage
            llm_kv_cache_hit_rate by prefix_cache
            llm_tokens_per_second_per_request by time_per_output_token"#]],
    );
}

/// Replaces the value of every series whose line begins with `series`.
fn with(page: &str, series: &str, value: &str) -> String {
    let mut hits = 0;
    let lines = page.lines().map(|line| {
        if !line.starts_with(series) {
            return format!("{line}\n");
        }
        hits += 1;
        format!("{} {value}\n", line.rsplit_once(' ').unwrap().0)
    });
    let page = lines.collect();
    assert!(hits > 0, "no {series}");
    page
}

fn without(page: &str, family: &str) -> String {
    let lines = page.lines().filter(|line| !line.contains(family));
    lines.map(|line| format!("{line}\n")).collect()
}

fn sglang(scale: f64, more: &str) -> String {
    let of = |value: f64| value * scale;
    format!(
        "# TYPE sglang:num_running_reqs gauge\n\
         sglang:num_running_reqs{{engine_type=\"unified\",model_name=\"q\",tp_rank=\"0\"}} 4\n\
         sglang:num_running_reqs{{engine_type=\"unified\",model_name=\"q\",tp_rank=\"1\"}} 4\n\
         # TYPE sglang:num_queue_reqs gauge\n\
         sglang:num_queue_reqs{{engine_type=\"unified\",model_name=\"q\",tp_rank=\"0\"}} 2\n\
         sglang:num_queue_reqs{{engine_type=\"unified\",model_name=\"q\",tp_rank=\"1\"}} 2\n\
         # TYPE sglang:num_grammar_queue_reqs gauge\n\
         sglang:num_grammar_queue_reqs{{engine_type=\"unified\",model_name=\"q\",tp_rank=\"0\"}} 1\n\
         # TYPE sglang:num_used_tokens gauge\n\
         sglang:num_used_tokens{{engine_type=\"unified\",model_name=\"q\",tp_rank=\"0\"}} 5000\n\
         sglang:num_used_tokens{{engine_type=\"unified\",model_name=\"q\",tp_rank=\"1\"}} 5000\n\
         # TYPE sglang:prompt_tokens_total counter\n\
         sglang:prompt_tokens_total{{model_name=\"q\"}} {}\n\
         # TYPE sglang:generation_tokens_total counter\n\
         sglang:generation_tokens_total{{model_name=\"q\"}} {}\n\
         # TYPE sglang:num_requests_total counter\n\
         sglang:num_requests_total{{model_name=\"q\"}} {}\n{more}",
        of(1000.0),
        of(500.0),
        of(10.0),
    )
}

#[test]
fn an_sglang_over_two_devices_with_little_on_its_page() {
    let mut target = Target::new("");
    target.scrape(&sglang(1.0, ""), 0);
    check(
        &lines(&target.scrape(&sglang(3.0, ""), 10)),
        &expect![[r#"
        input_tokens_total{deployment_id="d",instance="10.0.0.1:8000",model_name="q"} 3000
        output_tokens_total{deployment_id="d",instance="10.0.0.1:8000",model_name="q"} 1500
        input_tokens_per_request{deployment_id="d",instance="10.0.0.1:8000",model_name="q"} sum 3000 count 30 []
        output_tokens_per_request{deployment_id="d",instance="10.0.0.1:8000",model_name="q"} sum 1500 count 30 []
        tokens_per_second_per_request{deployment_id="d",instance="10.0.0.1:8000",model_name="q"} sum 500 count 20 [25:20]
        kv_cache_hit_rate{deployment_id="d",instance="10.0.0.1:8000",model_name="q"} sum 0 count 1 [0:1]
        in_flight_tokens{deployment_id="d",instance="10.0.0.1:8000",model_name="q"} 5000
        avg_in_flight_tokens{deployment_id="d",instance="10.0.0.1:8000",model_name="q"} 5000
        num_requests{deployment_id="d",instance="10.0.0.1:8000",model_name="q"} 7
    "#]],
    );
    check(
        &target.methods().join("\n"),
        &expect![[r#"
        llm_kv_cache_hit_rate by cached_tokens
        llm_tokens_per_second_per_request by interval
        llm_input_tokens_per_request by mean
        llm_output_tokens_per_request by mean
        llm_in_flight_tokens by used_tokens"#]],
    );
}

/// In the order in which they are preferred; each is measured over one interval.
#[test]
fn hit_rates_of_sglang_by_what_the_page_has() {
    let rate = |more: &dyn Fn(f64) -> String| {
        let mut target = Target::new("");
        target.scrape(&sglang(1.0, &more(1.0)), 0);
        let found = point(&target.scrape(&sglang(2.0, &more(2.0)), 10), "kv_cache_hit_rate");
        let by = target
            .methods()
            .into_iter()
            .find_map(|line| line.strip_prefix("llm_kv_cache_hit_rate by ").map(str::to_owned));
        (found.map(|point| (point[0], point[1])), by.unwrap())
    };
    let cached = |scale: f64| {
        format!(
            "# TYPE sglang:cached_tokens_total counter\n\
             sglang:cached_tokens_total{{model_name=\"q\",cache_source=\"device\"}} {}\n\
             sglang:cached_tokens_total{{model_name=\"q\",cache_source=\"host\"}} {}\n",
            100.0 * scale,
            150.0 * scale
        )
    };
    let realtime = |scale: f64| {
        let line = |mode: &str, value: f64| {
            format!("sglang:realtime_tokens_total{{mode=\"{mode}\",tp_rank=\"0\"}} {value}\n")
        };
        format!(
            "# TYPE sglang:realtime_tokens_total counter\n{}{}{}",
            line("prefill_compute", 900.0 * scale),
            line("prefill_cache", 100.0 * scale),
            line("decode", 500.0 * scale)
        )
    };
    let prefill = |scale: f64| {
        let line = |mode: &str, value: f64| {
            format!(
                "sglang:prefill_effective_tokens_total{{mode=\"{mode}\",tp_rank=\"0\"}} {value}\n"
            )
        };
        format!(
            "# TYPE sglang:prefill_effective_tokens_total counter\n{}{}{}",
            line("input", 500.0 * scale),
            line("device_hit", 300.0 * scale),
            line("storage_hit", 200.0 * scale)
        )
    };
    assert_eq!(rate(&cached), (Ok((0.25, 1.0)), "cached_tokens".into()));
    let both = |scale| cached(scale) + &realtime(scale);
    assert_eq!(rate(&both), (Ok((0.1, 1.0)), "realtime_tokens".into()));
    let all = |scale| both(scale) + &prefill(scale);
    assert_eq!(rate(&all), (Ok((0.5, 1.0)), "prefill_tokens".into()));
}

/// SGLang has no series of cached tokens until the first hit: that is no hits, and the first ones count.
#[test]
fn the_first_hit_of_an_sglang_is_not_lost() {
    let cached = |tokens| {
        format!(
            "# TYPE sglang:cached_tokens_total counter\nsglang:cached_tokens_total{{model_name=\"q\"}} {tokens}\n"
        )
    };
    let mut target = Target::new("");
    target.scrape(&sglang(1.0, ""), 0);
    let page = target.scrape(&sglang(2.0, ""), 10);
    assert_eq!(point(&page, "kv_cache_hit_rate").unwrap()[..2], [0.0, 1.0]);
    let page = target.scrape(&sglang(3.0, &cached(500)), 20);
    assert_eq!(point(&page, "kv_cache_hit_rate").unwrap()[..2], [0.5, 2.0]);
}

/// The page of an SGLang before 0.4.3.post4 never has cached tokens, and says nothing about hits.
#[test]
fn an_old_sglang_has_no_hit_rate() {
    let mut target = Target::new("");
    let page = sglang(1.0, "").replace("engine_type=\"unified\",", "");
    let page = without(&without(&page, "tp_rank=\"1\""), "grammar").replace(",tp_rank=\"0\"", "");
    assert!(!has(&target.scrape(&page, 0), "kv_cache_hit_rate"));
}

#[test]
fn speculation_of_sglang_from_its_verify_calls() {
    let spec = |calls: f64, length: f64| {
        format!(
            "# TYPE sglang:spec_verify_calls_total counter\n\
             sglang:spec_verify_calls_total{{model_name=\"q\"}} {calls}\n\
             # TYPE sglang:spec_num_draft_tokens gauge\n\
             sglang:spec_num_draft_tokens{{model_name=\"q\",tp_rank=\"0\"}} {length}\n"
        )
    };
    let counters = |batch: &Batch| {
        let number = |name| number(batch, &format!("spec_decode_num_{name}_tokens_total"));
        (number("accepted"), number("draft"))
    };
    let mut target = Target::new("extended = true");
    // 500 tokens of 10 requests in 200 calls of 3 draft tokens.
    let first = target.scrape(&sglang(1.0, &spec(200.0, 4.0)), 0);
    assert_eq!(counters(&first), (290.0, 600.0));
    assert_eq!(point(&first, "spec_decode_acceptance_ratio"), Err(Mark::Absent));
    // The draft got shorter in between: what was counted before stays.
    let second = target.scrape(&sglang(2.0, &spec(500.0, 3.0)), 10);
    assert_eq!(counters(&second), (480.0, 1200.0));
    assert_eq!(number(&second, "spec_decode_acceptance_ratio"), 190.0 / 600.0);
    // A restart shows as one.
    let third = target.scrape(&sglang(0.1, &spec(20.0, 3.0)), 20);
    assert_eq!(counters(&third), (29.0, 40.0));
    assert!(target.odd(Reason::CounterReset) > 0);
    // Aborted requests finish without their tokens: no counter falls.
    let page = with(&sglang(0.1, &spec(21.0, 3.0)), "sglang:num_requests_total", "9");
    assert_eq!(counters(&target.scrape(&page, 30)), (29.0, 42.0));
}

#[test]
fn a_restart_shows_where_the_engine_counts_and_not_where_it_is_counted_here() {
    let mut target = Target::new("");
    target.scrape(&vllm(1.0), 0);
    target.scrape(&vllm(2.0), 10);
    let page = target.scrape(&vllm(0.5), 20);
    assert_eq!(number(&page, "input_tokens_total"), 750.0);
    let speed = point(&page, "tokens_per_second_per_request").unwrap();
    assert_eq!(speed[1], 8.0 + 4.0);
    let rate = point(&page, "kv_cache_hit_rate").unwrap();
    assert_eq!(rate[..2], [2.5, 4.0]);
    assert!(target.odd(Reason::CounterReset) > 0);
}

#[test]
fn a_failed_scrape_ends_the_series_and_leaves_a_gap_in_the_average() {
    let mut target = Target::new("");
    let page = without(&vllm(1.0), "engine=\"1\"");
    let at = |usage: &str| with(&page, "vllm:kv_cache_usage_perc", usage);
    target.scrape(&at("0.1"), 0);
    let second = target.scrape(&at("0.1"), 10);
    assert_eq!(number(&second, "avg_in_flight_tokens"), 2400.0);
    let failed = target.fail(20);
    for series in failed.shape.iter() {
        assert_eq!(failed.mark(series.row), Mark::Stale, "{}", series.metric.name);
    }
    // What was in flight from 10 to 30 is not known.
    assert_eq!(number(&target.scrape(&at("0.3"), 30), "avg_in_flight_tokens"), 2400.0);
    assert_eq!(number(&target.scrape(&at("0.3"), 40), "avg_in_flight_tokens"), 4800.0);
}

/// Nothing that is no number gets out, and the next page is as if it had not been.
#[test]
fn values_that_are_none() {
    let cases = [
        ("vllm:kv_cache_usage_perc", "NaN", Reason::NotANumber, "in_flight_tokens"),
        ("vllm:kv_cache_usage_perc", "-1", Reason::Negative, "in_flight_tokens"),
        ("vllm:num_requests_running", "+Inf", Reason::NotANumber, "num_requests"),
        ("vllm:prompt_tokens_total", "NaN", Reason::NotANumber, "input_tokens_total"),
        ("vllm:request_prompt_tokens_count", "NaN", Reason::Buckets, "input_tokens_per_request"),
    ];
    for (series, value, reason, metric) in cases {
        let mut target = Target::new("");
        let page = without(&vllm(1.0), "engine=\"1\"");
        let before = lines(&target.scrape(&page, 0));
        let bad = with(&page, series, value);
        // Both the text of the count and of its last bucket.
        let bad = if series.ends_with("_count") {
            with(&bad, "vllm:request_prompt_tokens_bucket", value)
        } else {
            bad
        };
        let odd = target.scrape(&bad, 10);
        assert!(point(&odd, metric).is_err(), "{series} {value}");
        assert!(target.odd(reason) > 0, "{series} {value}");
        assert_eq!(lines(&target.scrape(&page, 20)), before, "{series} {value}");
    }
    // What is counted here stays as it was.
    for series in ["vllm:request_time_per_output_token_seconds_sum", "vllm:prefix_cache_hits_total"]
    {
        let mut target = Target::new("");
        target.scrape(&vllm(1.0), 0);
        let before = target.scrape(&vllm(2.0), 10);
        let odd = target.scrape(&with(&vllm(3.0), series, "NaN"), 20);
        for metric in ["tokens_per_second_per_request", "kv_cache_hit_rate"] {
            let (before, odd) = (point(&before, metric).unwrap(), point(&odd, metric).unwrap());
            assert!(odd.iter().all(|value| value.is_finite()), "{series} {odd:?}");
            assert!(odd[1] >= before[1], "{series}");
        }
    }
}

#[test]
fn more_hits_than_queries_are_no_observation() {
    let mut target = Target::new("");
    target.scrape(&vllm(1.0), 0);
    let odd = with(&vllm(2.0), "vllm:prefix_cache_hits_total{engine=\"1\"", "2000");
    assert_eq!(point(&target.scrape(&odd, 10), "kv_cache_hit_rate").unwrap()[..2], [0.25, 1.0]);
    assert_eq!(target.odd(Reason::HitsAboveQueries), 1);
    // Nobody asked: nothing was observed.
    assert_eq!(point(&target.scrape(&odd, 20), "kv_cache_hit_rate").unwrap()[..2], [0.25, 1.0]);
}

#[test]
fn the_gauge_of_the_first_engine_generation() {
    let page = |rate: &str, prompts: u32| {
        format!(
            "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 1\n\
             # TYPE vllm:num_requests_swapped gauge\nvllm:num_requests_swapped 2\n\
             # TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting 4\n\
             # TYPE vllm:gpu_cache_usage_perc gauge\nvllm:gpu_cache_usage_perc 0.5\n\
             # TYPE vllm:gpu_prefix_cache_hit_rate gauge\nvllm:gpu_prefix_cache_hit_rate {rate}\n\
             # TYPE vllm:prompt_tokens counter\nvllm:prompt_tokens_total {prompts}\n\
             # TYPE vllm:spec_decode_num_draft_tokens counter\nvllm:spec_decode_num_draft_tokens_total 9\n\
             # TYPE vllm:spec_decode_num_accepted_tokens counter\nvllm:spec_decode_num_accepted_tokens_total 9\n\
             # TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{{block_size=\"16\",num_gpu_blocks=\"100\"}} 1\n"
        )
    };
    let mut target = Target::new("");
    target.scrape(&page("0.5", 10), 0);
    let seen = |batch: &Batch| point(batch, "kv_cache_hit_rate").unwrap()[..2].to_vec();
    let batch = target.scrape(&page("0.5", 20), 10);
    assert_eq!(seen(&batch), [0.5, 1.0]);
    assert_eq!(number(&batch, "num_requests"), 7.0);
    assert_eq!(number(&batch, "in_flight_tokens"), 800.0);
    assert!(!has(&batch, "spec_decode_num_draft_tokens_total"), "they count nothing sensible");
    // No prompt, no observation; and -1 is no rate.
    assert_eq!(seen(&target.scrape(&page("0.5", 20), 20)), [0.5, 1.0]);
    assert_eq!(seen(&target.scrape(&page("-1", 30), 30)), [0.5, 1.0]);
}

#[test]
fn tokens_in_flight_without_a_known_capacity() {
    let page = without(&without(&vllm(1.0), "cache_config_info"), "engine=\"1\"");
    let mut target = Target::new("");
    // 3 running, 125 prompt and 12.5 generated tokens on average.
    assert_eq!(number(&target.scrape(&page, 0), "in_flight_tokens"), 3.0 * 137.5);
    assert!(target.methods().contains(&"llm_in_flight_tokens by mean_length".to_owned()));
    // Before anything has finished there is no mean.
    let mut target = Target::new("");
    let fresh = without(&without(&vllm(0.0), "cache_config_info"), "engine=\"1\"");
    assert_eq!(point(&target.scrape(&fresh, 0), "in_flight_tokens"), Err(Mark::Absent));
    let idle = with(&fresh, "vllm:num_requests_running", "0");
    assert_eq!(number(&target.scrape(&idle, 10), "in_flight_tokens"), 0.0);
}

/// Without per-request times: tokens by requests running, once per finished request.
#[test]
fn speeds_from_intervals() {
    let page = |generated: u32, running: u32, finished: u32| {
        format!(
            "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running {running}\n\
             # TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc 0.5\n\
             # TYPE vllm:prompt_tokens counter\nvllm:prompt_tokens_total 1\n\
             # TYPE vllm:generation_tokens counter\nvllm:generation_tokens_total {generated}\n\
             # TYPE vllm:request_success counter\nvllm:request_success_total{{finished_reason=\"stop\"}} {finished}\n"
        )
    };
    let mut target = Target::new("");
    let mut speed = |page: String, at| {
        point(&target.scrape(&page, at), "tokens_per_second_per_request").unwrap()[..2].to_vec()
    };
    assert_eq!(speed(page(0, 2, 0), 0), [0.0, 0.0]);
    // 1000 tokens of 2 requests in 10 seconds, but nobody is done yet.
    assert_eq!(speed(page(1000, 2, 0), 10), [0.0, 0.0]);
    // 600 more by 2, then 4 requests: 50 running seconds in all, 3 requests done.
    assert_eq!(speed(page(1600, 4, 3), 20), [3.0 * 1600.0 / 50.0, 3.0]);
    // After a pause of an hour nothing is known of the time between.
    assert_eq!(speed(page(900_000, 4, 500), 3620), [96.0, 3.0]);
    assert_eq!(speed(page(900_400, 4, 501), 3630), [96.0 + 10.0, 4.0]);
    assert_eq!(target.odd(Reason::Gap), 1);
}

/// With speculation an output event brings several tokens: the time between events tells how long was decoded.
#[test]
fn speeds_from_decode_time() {
    let page = |generated: u32, seconds: f64, finished: u32| {
        format!(
            "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 0\n\
             # TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc 0.5\n\
             # TYPE vllm:prompt_tokens counter\nvllm:prompt_tokens_total 1\n\
             # TYPE vllm:generation_tokens counter\nvllm:generation_tokens_total {generated}\n\
             # TYPE vllm:spec_decode_num_draft_tokens counter\nvllm:spec_decode_num_draft_tokens_total 5\n\
             # TYPE vllm:inter_token_latency_seconds histogram\n\
             vllm:inter_token_latency_seconds_bucket{{le=\"1.0\"}} {generated}\n\
             vllm:inter_token_latency_seconds_bucket{{le=\"+Inf\"}} {generated}\n\
             vllm:inter_token_latency_seconds_count {generated}\n\
             vllm:inter_token_latency_seconds_sum {seconds}\n\
             # TYPE vllm:request_success counter\nvllm:request_success_total{{finished_reason=\"stop\"}} {finished}\n"
        )
    };
    let mut target = Target::new("");
    let mut speed = |page: String, at| {
        point(&target.scrape(&page, at), "tokens_per_second_per_request").unwrap()[..2].to_vec()
    };
    assert_eq!(speed(page(100, 1.0, 1), 0), [0.0, 0.0]);
    // Nobody is done, and nobody runs when the page is read; nothing of it is lost.
    assert_eq!(speed(page(400, 3.0, 1), 10), [0.0, 0.0]);
    // 502 tokens of which 2 came from prefill, in 5 seconds.
    assert_eq!(speed(page(602, 6.0, 3), 20), [200.0, 2.0]);
    // After a pause: counters know.
    assert_eq!(speed(page(703, 7.0, 4), 3620), [300.0, 3.0]);
    assert!(
        target.methods().contains(&"llm_tokens_per_second_per_request by decode_time".to_owned())
    );
}

#[test]
fn a_clock_that_steps_back_starts_intervals_anew() {
    let mut target = Target::new("");
    target.scrape(&vllm(1.0), 1000);
    target.scrape(&vllm(2.0), 1010);
    let page = target.scrape(&vllm(3.0), 500);
    assert_eq!(target.odd(Reason::ClockStep), 1);
    assert_eq!(number(&page, "avg_in_flight_tokens"), 18_000.0);
    // Counters do not care for the time.
    assert_eq!(point(&page, "tokens_per_second_per_request").unwrap()[1], 16.0);
}

/// An upgrade in place: the engine's buckets are others now, and what was counted with the old ones stays behind.
#[test]
fn other_buckets_start_a_new_histogram() {
    let mut target = Target::new("");
    let old = without(&vllm(1.0), "engine=\"1\"");
    target.scrape(&old, 0);
    target.scrape(&without(&vllm(2.0), "engine=\"1\""), 10);
    let new = old.replace("le=\"0.025\"", "le=\"0.03\"");
    let page = target.scrape(&new, 20);
    assert_eq!(point(&page, "tokens_per_second_per_request").unwrap()[..2], [0.0, 0.0]);
    assert_eq!(target.odd(Reason::BoundsChanged), 1);
    // The rest goes on.
    assert_eq!(point(&page, "kv_cache_hit_rate").unwrap()[1], 2.0);
}

#[test]
fn families_may_be_missing_and_come_later() {
    let mut target = Target::new("");
    let whole = without(&vllm(1.0), "engine=\"1\"");
    let least = "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 1\n\
                 # TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc 0.5\n";
    let page = target.scrape(least, 0);
    check(
        &lines(&page),
        &expect![[r#"
        num_requests{deployment_id="d",instance="10.0.0.1:8000"} 1
    "#]],
    );
    let page = target.scrape(&whole, 10);
    assert_eq!(number(&page, "input_tokens_total"), 1000.0);
    assert_eq!(point(&page, "tokens_per_second_per_request").unwrap()[..2], [0.0, 0.0]);
    // Gone again: the shape lacks them, or they are marked.
    let page = target.scrape(least, 20);
    let gone =
        page.shape.iter().find(|series| *series.metric.name == *"baseten_llm_input_tokens_total");
    assert!(gone.is_none_or(|series| page.mark(series.row) != Mark::Present));
}

#[test]
fn pages_without_an_engine_pass_and_cost_nothing() {
    let mut target = Target::new("");
    let page = "# TYPE node_load1 gauge\nnode_load1 1\n";
    for second in 0..3 {
        let batch = target.batch(page, second);
        assert_eq!(target.give(batch).len(), 1);
    }
    // An engine takes the address over, and goes again.
    let series = target.scrape(&vllm(1.0), 10);
    assert!(!series.ended);
    let ended = target.scrape(page, 20);
    assert!(ended.ended && ended.source == series.source);
    let batch = target.batch(page, 30);
    assert_eq!(target.give(batch).len(), 1);
}

#[test]
fn a_pod_that_goes_takes_its_series() {
    let mut target = Target::new("");
    let series = target.scrape(&vllm(1.0), 0);
    let shape = target.batch(&vllm(1.0), 5).shape;
    let out = target.give(Batch::end(target.source, shape, 10 * SECOND));
    assert_eq!(out.len(), 2);
    assert!(out[1].ended && out[1].source == series.source);
    assert!(out[1].marks.as_ref().unwrap().iter().all(|mark| *mark == Mark::Stale));
    // It begins anew if it comes back.
    let page = target.scrape(&vllm(2.0), 20);
    assert_eq!(point(&page, "tokens_per_second_per_request").unwrap()[1], 0.0);
}

#[test]
fn silent_sources_are_let_go() {
    let mut target = Target::new("");
    target.scrape(&vllm(1.0), 0);
    target.compute.sweep(Duration::from_secs(3600));
    assert_eq!(point(&target.scrape(&vllm(2.0), 10), "kv_cache_hit_rate").unwrap()[1], 2.0);
    target.compute.sweep(Duration::ZERO);
    assert_eq!(point(&target.scrape(&vllm(3.0), 20), "kv_cache_hit_rate").unwrap()[1], 0.0);
}

/// What labels say may change at any time; what was counted does not.
#[test]
fn metadata_that_changes_keeps_what_was_counted() {
    let mut target = Target::new("");
    let at = |usage: &str, scale| with(&vllm(scale), "vllm:kv_cache_usage_perc", usage);
    target.scrape(&at("0", 1.0), 0);
    target.scrape(&at("0", 2.0), 100);
    target.settings.metadata.update(|metadata| {
        let window = Labels::from_pairs([("autoscaling_window", "300")]);
        metadata.set(Entity::Deployment("d".into()), window)
    });
    // 48000 tokens for the last 50 of 200 known seconds.
    target.scrape(&at("0", 3.0), 150);
    let page = target.scrape(&at("1", 3.0), 151);
    assert_eq!(point(&page, "kv_cache_hit_rate").unwrap()[1], 4.0);
    let page = target.scrape(&at("1", 3.0), 200);
    let average = number(&page, "avg_in_flight_tokens");
    assert!((average - 48_000.0 * 49.5 / 200.0).abs() < 100.0, "{average}");
}

#[test]
fn windows_per_deployment() {
    let average = |toml: &str, labels: &[(&str, &str)], told: &str| {
        let mut target = Target::labelled(toml, labels);
        if !told.is_empty() {
            target.settings.metadata.update(|metadata| {
                let window = Labels::from_pairs([("autoscaling_window", told)]);
                metadata.set(Entity::Deployment("d".into()), window)
            });
        }
        let at = |usage: &str| with(&vllm(1.0), "vllm:kv_cache_usage_perc", usage);
        target.scrape(&at("0"), 0);
        target.scrape(&at("0"), 180);
        target.scrape(&at("1"), 180);
        (number(&target.scrape(&at("1"), 200), "avg_in_flight_tokens") / 480.0).round()
    };
    let (d, e) = ([("deployment_id", "d")], [("deployment_id", "e")]);
    let config = "[deployments.d]\nautoscaling_window = '20s'";
    assert_eq!(average("", &d, ""), 33.0, "20 of 60 seconds");
    assert_eq!(average("autoscaling_window = '200s'", &d, ""), 10.0);
    assert_eq!(average(config, &d, ""), 100.0);
    assert_eq!(average(config, &e, ""), 33.0);
    assert_eq!(average("", &d, "200"), 10.0);
    assert_eq!(average(config, &d, "200"), 100.0, "the configuration wins");
    assert_eq!(average("", &d, "soon"), 33.0);
}

#[test]
fn tokens_queued_in_a_router_are_in_flight() {
    let mut target = Target::new("queued_tokens = ['router_queued_tokens']");
    let page = vllm(1.0) + "# TYPE router_queued_tokens gauge\nrouter_queued_tokens 500\n";
    assert_eq!(number(&target.scrape(&page, 0), "in_flight_tokens"), 18_500.0);
}

/// A federated page: the pods are told by the series' own labels.
#[test]
fn several_pods_on_one_page_are_kept_apart() {
    let mut target = Target::new("");
    let of = |pod: &str, scale| {
        without(&vllm(scale), "engine=\"1\"")
            .replace("model_name=\"m\"", &format!("model_name=\"m\",pod=\"{pod}\""))
            .replace("block_size", &format!("pod=\"{pod}\",block_size"))
    };
    let (a, b) = (of("a", 1.0), of("b", 2.0));
    let page = a + &b
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect::<String>();
    let batch = target.scrape(&page, 0);
    let inputs: Vec<String> = lines(&batch)
        .lines()
        .filter(|line| line.starts_with("input_tokens_total") || line.starts_with("in_flight"))
        .map(str::to_owned)
        .collect();
    check(
        &inputs.join("\n"),
        &expect![[r#"
        input_tokens_total{deployment_id="d",instance="10.0.0.1:8000",model_name="m",pod="a"} 1000
        in_flight_tokens{deployment_id="d",instance="10.0.0.1:8000",model_name="m",pod="a"} 6000
        input_tokens_total{deployment_id="d",instance="10.0.0.1:8000",model_name="m",pod="b"} 2000
        in_flight_tokens{deployment_id="d",instance="10.0.0.1:8000",model_name="m",pod="b"} 6000"#]],
    );
}

#[test]
fn beyond_the_contract() {
    let mut target = Target::new("extended = true");
    let page = |scale| vllm(scale).replace("request_prompt_tokens", "request_queue_time_seconds");
    target.scrape(&page(1.0), 0);
    let batch = target.scrape(&page(2.0), 10);
    assert_eq!(point(&batch, "queue_time_seconds").unwrap()[..2], [2000.0, 16.0]);
    assert_eq!(number(&batch, "preemptions_total"), 6.0);
    assert_eq!(number(&batch, "spec_decode_acceptance_ratio"), 0.4);
    assert_eq!(number(&batch, "prefix_cache_hit_ratio"), 0.5);
    // Nothing happened since: there is no ratio.
    let batch = target.scrape(&page(2.0), 20);
    assert_eq!(point(&batch, "prefix_cache_hit_ratio"), Err(Mark::Stale));
}

#[test]
fn configurations_that_are_wrong() {
    for (toml, at) in [
        ("autoscaling_window = '5s'", "autoscaling_window"),
        ("autoscaling_window = '2h'", "autoscaling_window"),
        ("[deployments.d]\nautoscaling_window = '1s'", "deployments.d.autoscaling_window"),
        ("max_gap = '0s'", "max_gap"),
        ("queued_tokens = ['']", "queued_tokens"),
    ] {
        let section = Section::from_toml("processors.llm", toml).unwrap();
        let settings = Settings::standalone("processor", "llm");
        let found = Llm::build(section.decode().unwrap(), &section, settings).err().unwrap();
        let text = format!("{found:?}");
        assert!(text.contains(at.rsplit('.').next().unwrap()), "{at}: {text}");
    }
}

/// In the steady state columns are filled again, not made anew.
#[test]
fn columns_are_used_again() {
    let mut target = Target::new("");
    let page = vllm(1.0);
    let mut held: Option<Batch> = None;
    let mut columns = Vec::new();
    for second in 0..6 {
        let batch = target.scrape(&page, second);
        columns.push(batch.values.as_ptr());
        // As an exporter does, which holds the newest.
        held = Some(batch);
    }
    assert!(held.is_some());
    assert_eq!(columns[2..4], columns[4..6]);
    assert_ne!(columns[4], columns[5]);
}

#[test]
fn start_times_are_the_engines_or_that_of_the_first_page() {
    let mut target = Target::new("");
    let page = without(&vllm(1.0), "engine=\"1\"")
        + "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 5\n";
    let batch = target.scrape(&page, 100);
    let start = |name: &str| {
        let full = format!("baseten_llm_{name}");
        let series = batch.shape.iter().find(|series| *series.metric.name == *full).unwrap();
        batch.starts.as_ref().map_or(0, |starts| starts[series.row as usize])
    };
    assert_eq!(start("kv_cache_hit_rate"), 100 * SECOND);
    assert_eq!(start("num_requests"), 0);
    let again = target.scrape(&page, 110);
    assert!(Arc::ptr_eq(batch.starts.as_ref().unwrap(), again.starts.as_ref().unwrap()));
}

/// A gauge without a usable value goes: the last one must not stand for it.
#[test]
fn gauges_without_a_value_end() {
    let mut target = Target::new("extended = true");
    let page = without(&vllm(1.0), "engine=\"1\"");
    target.scrape(&page, 0);
    for (series, value, gone) in [
        ("vllm:kv_cache_usage_perc", "NaN", "in_flight_tokens"),
        ("vllm:kv_cache_usage_perc", "1e308", "avg_in_flight_tokens"),
        ("vllm:num_requests_running", "-1", "num_requests"),
    ] {
        let bad = with(&page, series, value);
        assert_eq!(point(&target.scrape(&bad, 10), gone), Err(Mark::Stale), "{series} {value}");
        assert_eq!(point(&target.scrape(&bad, 20), gone), Err(Mark::Absent), "said once");
        assert!(point(&target.scrape(&page, 30), gone).is_ok());
    }
}

/// A histogram that is passed on is looked at all the same.
#[test]
fn buckets_that_do_not_ascend_are_not_passed_on() {
    let mut target = Target::new("");
    let page = without(&vllm(1.0), "engine=\"1\"");
    target.scrape(&page, 0);
    let bad = with(
        &page,
        "vllm:request_prompt_tokens_bucket{engine=\"0\",model_name=\"m\",le=\"100\"}",
        "9",
    );
    assert_eq!(point(&target.scrape(&bad, 10), "input_tokens_per_request"), Err(Mark::Absent));
    assert_eq!(target.odd(Reason::Buckets), 1);
}

/// A new process may have counted more than the old one by the time it is read: its start tells, and so do most of its
/// counters. One counter alone that fell is not a new process.
#[test]
fn a_new_process_is_known_as_one() {
    let one = |scale| without(&vllm(scale), "engine=\"1\"");
    let count = |batch: &Batch| point(batch, "tokens_per_second_per_request").unwrap()[1];
    // 4 requests; then 5 of a process that had fewer tokens.
    let mut target = Target::new("");
    target.scrape(&one(1.0), 0);
    let overtaken = one(1.25);
    let mut fewer = overtaken.clone();
    for family in
        ["prompt_tokens_total", "generation_tokens_total", "spec_decode_num_draft_tokens_total"]
    {
        fewer = with(&fewer, &format!("vllm:{family}"), "3");
    }
    assert_eq!(count(&target.scrape(&fewer, 10)), 5.0);
    let mut target = Target::new("");
    target.scrape(&one(1.0), 0);
    let dip = with(&overtaken, "vllm:prompt_tokens_total", "999");
    assert_eq!(count(&target.scrape(&dip, 10)), 1.0);
    // The start alone.
    let started = |page: &str, at: u32| {
        let created = ["prompt_tokens", "generation_tokens"].map(|family| {
            format!("# TYPE vllm:{family}_created gauge\nvllm:{family}_created{{engine=\"0\",model_name=\"m\"}} {at}\n")
        });
        format!("{page}{}", created.concat())
    };
    let mut target = Target::new("");
    let first = target.scrape(&started(&one(1.0), 5), 100);
    assert!(first.starts.is_some());
    assert_eq!(count(&target.scrape(&started(&overtaken, 105), 110)), 5.0);
}

/// The hits of a new process and the queries of the old one are no rate.
#[test]
fn hits_and_queries_restart_together() {
    let mut target = Target::new("");
    let one = without(&vllm(1.0), "engine=\"1\"");
    target.scrape(&one, 0);
    let page = with(&one, "vllm:prefix_cache_queries_total", "1200");
    let page = with(&page, "vllm:prefix_cache_hits_total", "30");
    assert_eq!(point(&target.scrape(&page, 10), "kv_cache_hit_rate").unwrap()[..2], [0.025, 1.0]);
}

/// One of two engines leaves: the other one's tokens are what is in flight.
#[test]
fn a_rank_that_leaves_takes_only_its_own() {
    let mut target = Target::new("");
    assert_eq!(number(&target.scrape(&vllm(1.0), 0), "in_flight_tokens"), 18_000.0);
    let one = without(&vllm(1.0), "engine=\"1\"");
    for second in 1..3 {
        let page = target.scrape(&one, second * 10);
        assert_eq!(number(&page, "in_flight_tokens"), 6000.0);
        assert_eq!(number(&page, "input_tokens_total"), 1500.0, "what it had counted stays");
    }
}

#[test]
fn two_models_on_one_page_know_their_caches() {
    let mut target = Target::new("");
    let page = vllm(1.0).replace("engine=\"1\",model_name=\"m\"", "engine=\"1\",model_name=\"n\"");
    let batch = target.scrape(&page, 0);
    let found = lines(&batch);
    let tokens: Vec<&str> = found.lines().filter(|line| line.starts_with("in_flight")).collect();
    check(
        &tokens.join("\n"),
        &expect![[r#"
        in_flight_tokens{deployment_id="d",instance="10.0.0.1:8000",model_name="m"} 6000
        in_flight_tokens{deployment_id="d",instance="10.0.0.1:8000",model_name="n"} 12000"#]],
    );
}
