//! The `llm_*` metrics of every engine against what really happened inside it, request by request: engines are simulated
//! in virtual time, their pages scraped and given to the `llm` processor. The comparison is a page of the reference;
//! `UPDATE_EXPECT=1 cargo test` rewrites it.

mod pods;
mod run;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use expect_test::expect_file;
use pipeline_model::CONTRACT;
use processors::llm::Method;
use simulator::{Histogram, Truth};

use self::pods::{Drafts, Hits, InFlight, PODS, Speed};
use self::run::{INTERVAL, Point, Run, Seen, run};

/// Unix time at which each engine starts.
const START: f64 = 1_760_000_000.0;
/// Where rounding of floating point is all that two equal numbers may differ by.
const EXACT: f64 = 1e-9;

impl Run {
    fn point(&self, name: &str) -> &Point {
        let point = self.points.get(name);
        assert!(point.is_some(), "{}: no {name}", self.pod.title);
        point.unwrap()
    }

    /// All eleven, in the order of the contract.
    fn rows(&self) -> Vec<Row> {
        const INPUT: &str = "llm_input_tokens_total";
        const OUTPUT: &str = "llm_output_tokens_total";
        let last = &self.last;
        let (input, output) = (last.prompt_tokens, last.generation_tokens);
        let mut rows = if self.pod.release.engine() == "vllm" {
            vec![
                self.counter(INPUT, input, EXACT, "counted when a prefill is done"),
                self.counter(OUTPUT, output, EXACT, "counted at every step"),
            ]
        } else {
            let (prompts, answers) = (last.finished_prompt_tokens, last.finished_generation_tokens);
            vec![
                self.counted_at_end(INPUT, input, prompts, EXACT, ""),
                self.counted_at_end(OUTPUT, output, answers, EXACT, ""),
            ]
        };
        rows.push(self.carried("llm_input_tokens_per_request", &last.request_prompt_tokens));
        rows.push(self.carried("llm_output_tokens_per_request", &last.request_generation_tokens));
        rows.extend(self.speeds());
        rows.extend(self.hit_rates());
        rows.extend(self.drafts());
        rows.extend(self.gauges());
        rows
    }

    fn counter(&self, name: &'static str, truth: u64, allowed: f64, how: &str) -> Row {
        let (truth, reported) = (truth as f64, self.point(name).slots[0]);
        assert!(truth > 1000.0, "{}: {name} is put to the test", self.pod.title);
        let error = (reported / truth - 1.0).abs();
        Row { error, allowed, ..Row::new(name, number(truth), number(reported), how) }
    }

    /// A counter that sees a request when it ends: `ended` is the sum of those that did.
    fn counted_at_end(
        &self,
        name: &'static str,
        truth: u64,
        ended: u64,
        within: f64,
        but: &str,
    ) -> Row {
        let of_ended = self.counter(name, ended, within, but);
        assert!(of_ended.is_right(), "{}: {}", self.pod.title, of_ended.line());
        let how = format!("counted when a request ends, and of these exact{but}");
        self.counter(name, truth, 0.01, &how)
    }

    /// A histogram of the engine that is passed on: count, sum and every bucket.
    fn carried(&self, name: &'static str, truth: &Histogram) -> Row {
        let point = self.point(name);
        let (how, buckets) = if self.pod.without.is_empty() {
            ("the engine's histogram: count, sum and every bucket", 5)
        } else {
            ("the engine has no histogram: count and sum alone, of its counters", 0)
        };
        assert!(point.bounds.len() >= buckets, "{}: {name} has buckets", self.pod.title);
        let error = differences(point, truth.count(), truth.sum(), |bound| truth.cumulative(bound));
        let mean = |sum: f64, count: f64| format!("{} × {}", number(count), number(sum / count));
        let shown = mean(truth.sum(), truth.count() as f64);
        let row = Row::new(name, shown, mean(point.sum(), point.count()), how);
        Row { error, allowed: EXACT, ..row }
    }

    fn speeds(&self) -> Vec<Row> {
        let name = "llm_tokens_per_second_per_request";
        let point = self.point(name);
        let since = |read: fn(&Truth) -> &Histogram| Since(read(&self.first), read(&self.last));
        let (requests, tokens) = (since(|truth| &truth.speed), since(|truth| &truth.token_speed));
        let (of, how) = match self.pod.speed {
            Speed::Requests => (&requests, "count and every bucket, of requests"),
            Speed::Tokens => (&tokens, "count and every bucket, of tokens: no page tells requests"),
            Speed::Intervals => (&requests, "count of requests; their speeds are not told apart"),
        };
        let counts = |count: f64| number(count);
        let whole = (of.count() / point.count() - 1.0).abs();
        let (error, allowed) = match self.pod.speed {
            // Requests of one token have no speed, but they end.
            Speed::Intervals => (whole, 0.02),
            _ => (differences(point, of.count() as u64, point.sum(), |b| of.cumulative(b)), EXACT),
        };
        let row = Row::new(name, counts(of.count()), counts(point.count()), how);
        let (truth, mean) = (requests.sum() / requests.count(), point.sum() / point.count());
        let how = match self.pod.speed {
            Speed::Requests => "estimate from the buckets and the total of the times",
            Speed::Tokens => "mean over tokens, in which a long pause is but one slow token",
            Speed::Intervals => "tokens by seconds of decoding, per interval",
        };
        let median = requests.median_bucket(&point.bounds).abs_diff(point.median_bucket());
        let off = usize::from(self.pod.speed != Speed::Requests);
        assert!(median <= off, "{}: the median is {median} buckets off", self.pod.title);
        vec![
            Row { error, allowed, ..row },
            Row {
                error: (mean / truth - 1.0).abs(),
                allowed: self.pod.allowed.speed,
                ..Row::new("", number(truth), number(mean), how)
            },
        ]
    }

    fn hit_rates(&self) -> Vec<Row> {
        let name = "llm_kv_cache_hit_rate";
        let point = self.point(name);
        let how = match self.pod.hits {
            Hits::Tokens => "one observation per page and worker: tokens found by tokens looked up",
            Hits::Blocks => "one observation per page and worker: blocks found by blocks looked up",
            Hits::AtEnd => "one observation per page: tokens of requests that ended in between",
            Hits::Gauge => "one observation per page with new prompts: the rate since the start",
        };
        let within = |bound: f64| self.rates.iter().filter(|rate| **rate <= bound).count() as u64;
        let sum: f64 = self.rates.iter().sum();
        let error = differences(point, self.rates.len() as u64, sum, within);
        let mean = |sum: f64, count: f64| format!("{} × {}", number(count), number(sum / count));
        let count = self.rates.len() as f64;
        let row = Row::new(name, mean(sum, count), mean(point.sum(), point.count()), how);
        let row = Row { error, allowed: EXACT, ..row };
        let (allowed, how) = match self.pod.hits {
            Hits::Tokens => return vec![row],
            Hits::Blocks => (0.02, "against tokens found by tokens looked up, per page"),
            Hits::AtEnd => (0.05, "against tokens found by tokens looked up, per page"),
            Hits::Gauge => (0.1, "against tokens found by tokens looked up, per page"),
        };
        let truth = self.true_rates.iter().sum::<f64>() / self.true_rates.len() as f64;
        let reported = point.sum() / point.count();
        let error = (reported / truth - 1.0).abs();
        vec![row, Row { error, allowed, ..Row::new("", number(truth), number(reported), how) }]
    }

    fn drafts(&self) -> Vec<Row> {
        const NAMES: [&str; 2] =
            ["llm_spec_decode_num_accepted_tokens_total", "llm_spec_decode_num_draft_tokens_total"];
        let last = &self.last;
        match self.pod.drafts {
            Drafts::Off => NAMES.map(|name| self.missing(name, "speculation is off")).into(),
            Drafts::Broken => {
                let why = "the engine adds its totals to its counters again and again";
                NAMES.map(|name| self.missing(name, why)).into()
            }
            Drafts::Counted => {
                let how = "counted at every step";
                vec![
                    self.counter(NAMES[0], last.accepted_tokens, EXACT, how),
                    self.counter(NAMES[1], last.draft_tokens, EXACT, how),
                ]
            }
            Drafts::AtEnd => {
                let ended = (last.finished_accepted_tokens, last.finished_draft_tokens);
                // A request that is put back into the queue makes its next token in prefill, once more.
                let but = " but for requests that were preempted";
                vec![
                    self.counted_at_end(NAMES[0], last.accepted_tokens, ended.0, 0.001, but),
                    self.counted_at_end(NAMES[1], last.draft_tokens, ended.1, EXACT, ""),
                ]
            }
        }
    }

    fn gauges(&self) -> Vec<Row> {
        let (pod, allowed) = (self.pod, self.pod.allowed);
        let how = match pod.in_flight {
            InFlight::Blocks => "used blocks of the KV cache: up to 15 tokens a request too many",
            InFlight::Reported => "used tokens of the KV cache when the engine last looked",
            InFlight::Requests => "running requests times their mean length",
        };
        for (seen, requests) in self.in_flight.iter().zip(&self.requests) {
            let deviation = (seen.reported - seen.said).abs();
            let said =
                pod.in_flight == InFlight::Requests || deviation <= EXACT * (1.0 + seen.said);
            assert!(said, "{}: {seen:?} is what the page says", pod.title);
            assert_eq!(requests.reported, requests.said, "{}", pod.title);
        }
        for seen in &self.average {
            assert!((seen.reported / seen.said - 1.0).abs() < EXACT, "{}: {seen:?}", pod.title);
        }
        let average =
            format!("trailing {} s, from pages every {} s", pod.window, INTERVAL.as_secs());
        let requests = match pod.in_flight {
            InFlight::Reported => "running and queued when the engine last looked",
            _ => "running and queued",
        };
        vec![
            gauge("llm_in_flight_tokens", &self.in_flight, allowed.in_flight, how),
            gauge("llm_avg_in_flight_tokens", &self.average, allowed.average, &average),
            gauge("llm_num_requests", &self.requests, allowed.requests, requests),
        ]
    }

    /// What an engine cannot supply must not be there.
    fn missing(&self, name: &'static str, why: &str) -> Row {
        assert!(!self.points.contains_key(name), "{}: {name} is there", self.pod.title);
        Row::new(name, String::new(), "not available".to_owned(), why)
    }
}

/// What a histogram of the truth has gained from the first page to the last.
struct Since<'a>(&'a Histogram, &'a Histogram);

impl Since<'_> {
    fn count(&self) -> f64 {
        (self.1.count() - self.0.count()) as f64
    }

    fn sum(&self) -> f64 {
        self.1.sum() - self.0.sum()
    }

    fn cumulative(&self, bound: f64) -> u64 {
        assert!(self.1.bounds().contains(&bound), "{bound} is a bound of the truth");
        self.1.cumulative(bound) - self.0.cumulative(bound)
    }

    fn median_bucket(&self, bounds: &[f64]) -> usize {
        let below = |bound: &&f64| (self.cumulative(**bound) as f64) * 2.0 < self.count();
        bounds.iter().take_while(below).count()
    }
}

/// The largest difference in count, sum or a bucket, in parts of the whole.
fn differences(point: &Point, count: u64, sum: f64, within: impl Fn(f64) -> u64) -> f64 {
    let whole = count as f64;
    assert!(whole > 50.0, "enough observations: {whole}");
    let of_whole = [point.count() / whole - 1.0, point.sum() / sum - 1.0];
    let buckets = point.buckets().map(|(bound, seen)| (seen - within(bound) as f64) / whole);
    let all = of_whole.into_iter().chain(buckets).map(f64::abs);
    // Once not a number, always not a number.
    all.fold(0.0, |largest, one| if one.is_nan() || one > largest { one } else { largest })
}

fn gauge(name: &'static str, seen: &[Seen], allowed: f64, how: &str) -> Row {
    let mean = |read: &dyn Fn(&Seen) -> f64| seen.iter().map(read).sum::<f64>() / seen.len() as f64;
    let (truth, reported) = (mean(&|seen| seen.truth), mean(&|seen| seen.reported));
    let error = mean(&|seen| (seen.reported - seen.truth).abs()) / truth;
    Row { error, allowed, ..Row::new(name, number(truth), number(reported), how) }
}

/// A line of a table.
struct Row {
    name: &'static str,
    truth: String,
    reported: String,
    /// Relative.
    error: f64,
    allowed: f64,
    how: String,
}

impl Row {
    fn new(name: &'static str, truth: String, reported: String, how: &str) -> Self {
        Self { name, truth, reported, error: 0.0, allowed: f64::INFINITY, how: how.to_owned() }
    }

    fn is_right(&self) -> bool {
        // Not a number is wrong.
        self.error <= self.allowed
    }

    fn line(&self) -> String {
        let Self { name, truth, reported, error, allowed, how } = self;
        let name = if name.is_empty() { "its mean".to_owned() } else { format!("`{name}`") };
        let percent = |part: f64| match part * 100.0 {
            part if part <= EXACT * 100.0 => "0".to_owned(),
            part if part < 0.1 => "< 0.1 %".to_owned(),
            part if part < 1.0 => format!("{part:.1} %"),
            part => format!("{part:.0} %"),
        };
        let (error, allowed) = match *allowed {
            f64::INFINITY => (String::new(), String::new()),
            allowed => (percent(*error), percent(allowed)),
        };
        format!("| {name} | {truth} | {reported} | {error} | {allowed} | {how} |\n")
    }
}

/// With few digits, so that a table can be read.
fn number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e4 => format!("{:.1} k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}

const INTRODUCTION: &str = "\
# The `llm_*` metrics, and how true they are

What the processor `llm` makes of each engine's page, and the proof: a test of this project lets engines of each kind \
serve ten minutes of rising and falling load in virtual time, scrapes them every five seconds beginning half a minute \
after their start, and holds each metric against what happened inside, request by request. It has written this page; \
do not edit.

## Formulas

In the engines' newest names without prefix; older names are translated first. `d(x)` is the increase from one page to \
the next. The method in use is told by `inferometer_llm_method`. What an engine does not count itself (speeds, hit rates) is counted from the agent's first page of a pod on: where the agent restarts it begins at zero, which `rate()` and `increase()` know how to read; where the engine restarts it goes on.

| metric | engine | releases | method | formula | quality |
|---|---|---|---|---|---|
";

const COMPARISON: &str = "
## Truth and report

Errors are relative to the truth: of counters and histograms on the last page (of a histogram the largest of count, sum \
and every bucket), of gauges the mean deviation over all pages, while truth and report are means. `n × m` is a histogram \
of `n` observations with mean `m`. Gauges are only known when a page is read: the fewer requests are in flight and the \
shorter they are, the further is the trailing average from the truth; a shorter scrape interval helps.
";

fn formulas(out: &mut String) {
    for method in processors::llm::methods() {
        let Method { metric, engine, releases, method, formula, quality } = method;
        let engine = if *engine == "vllm" { "vLLM" } else { "SGLang" };
        let method = if method.is_empty() { String::new() } else { format!("`{method}`") };
        writeln!(out, "| `{metric}` | {engine} | {releases} | {method} | {formula} | {quality} |")
            .unwrap();
    }
}

#[test]
fn every_metric_is_what_happened() {
    let mut out = INTRODUCTION.to_owned();
    formulas(&mut out);
    out.push_str(COMPARISON);
    let names = CONTRACT.iter().map(|metric| metric.name);
    let expected: BTreeSet<&str> = names.filter(|name| name.starts_with("llm_")).collect();
    assert_eq!(expected.len(), 11);
    let mut wrong = String::new();
    for pod in PODS {
        let run = run(pod);
        let rows = run.rows();
        let named: BTreeSet<&str> =
            rows.iter().map(|row| row.name).filter(|name| !name.is_empty()).collect();
        assert_eq!(named, expected, "{}", pod.title);
        assert!(run.points.keys().all(|name| expected.contains(name)), "{:?}", run.points.keys());
        write!(out, "\n### {}\n\n", pod.title).unwrap();
        out.push_str(
            "| metric | truth | reported | error | allowed | how |\n|---|---|---|---|---|---|\n",
        );
        for row in rows {
            out.push_str(&row.line());
            if !row.is_right() {
                let line = row.line();
                writeln!(wrong, "{}: {} ({})", pod.title, line.trim_end(), row.error).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    expect_file!["../../docs/reference/llm.md"].assert_eq(&out);
}
