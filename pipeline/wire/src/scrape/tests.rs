//! Tests of the page reader: what pages mean, what is refused, and that the layout never changes the answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use expect_test::{Expect, expect};
use pipeline_model::{Kind, Labels};
use proptest::prelude::*;

use super::*;

/// What a page says, series by series: identity to values. Equal for equal pages, whatever the order of rows.
fn content(page: &Page) -> BTreeMap<String, String> {
    let shape = &page.shape;
    let mut out = BTreeMap::new();
    for series in shape.iter() {
        let row = series.row as usize;
        if page.marks.as_ref().is_some_and(|marks| marks[row] != Mark::Present) {
            continue;
        }
        let metric = series.metric;
        let kind = match &metric.kind {
            Kind::Gauge => "gauge".to_owned(),
            Kind::Sum { monotonic: true, .. } => "counter".to_owned(),
            Kind::Histogram { bounds, .. } => format!("histogram{:?}", bounds.as_slice()),
            Kind::Summary { quantiles } => format!("summary{:?}", quantiles.as_slice()),
            Kind::ExponentialHistogram { .. } => "native".to_owned(),
            other @ Kind::Sum { .. } => format!("{other:?}"),
        };
        let labels = Labels::new(series.labels_merged().cloned().collect());
        let mut key = format!("{}{labels} {kind}", metric.name);
        if metric.hint != pipeline_model::Hint::None {
            write!(key, " {:?}", metric.hint).unwrap();
        }
        if !metric.unit.is_empty() || !metric.description.is_empty() {
            write!(key, " [{}] {:?}", metric.unit, &*metric.description).unwrap();
        }
        let values: Vec<f64> = page.values[series.slots()].iter().map(|s| s.as_double()).collect();
        let mut text = format!("{values:?}");
        match page.starts.as_ref().and_then(|starts| starts.get(row)) {
            None | Some(0) => {}
            Some(start) => write!(text, " since {start}").unwrap(),
        }
        if let Some(extras) = &page.extras {
            match extras.times.as_ref().map(|times| times[row]) {
                None | Some(0) => {}
                Some(time) => write!(text, " at {time}").unwrap(),
            }
            for exemplar in extras.exemplars.iter().filter(|e| e.row == series.row) {
                let (labels, value, time) = (&exemplar.labels, exemplar.value, exemplar.time);
                write!(text, " # {labels} {value} {time}").unwrap();
            }
            if let Some(point) = extras.exponential(series.row) {
                write!(text, " {point:?}").unwrap();
            }
        }
        assert!(out.insert(key.clone(), text).is_none(), "{key} twice");
    }
    out
}

struct Bench {
    interner: Interner,
    layouts: Layouts,
    reader: PageReader,
}

impl Bench {
    fn new(settings: PageSettings) -> Self {
        Self {
            interner: Interner::new(),
            layouts: Layouts::new(),
            reader: PageReader::new(settings),
        }
    }

    fn read(&mut self, format: PageFormat, body: &str) -> Result<Page, PageError> {
        let page = self.reader.read(format, body.as_bytes(), &self.interner, &self.layouts)?;
        assert_eq!(page.values.len(), page.shape.slots());
        Ok(page)
    }

    fn text(&mut self, body: &str) -> Page {
        self.read(PageFormat::Text, body).unwrap()
    }
}

fn check(format: PageFormat, body: &str, expected: &Expect) {
    let mut bench = Bench::new(PageSettings::default());
    let mut out = String::new();
    match bench.read(format, body) {
        Ok(page) => {
            for (series, values) in content(&page) {
                writeln!(out, "{series} = {values}").unwrap();
            }
            let stats = page.stats;
            write!(out, "{} samples", stats.samples).unwrap();
            for (count, what) in
                [(stats.duplicates, "duplicates"), (stats.incomplete, "incomplete")]
            {
                if count > 0 {
                    write!(out, ", {count} {what}").unwrap();
                }
            }
            // The same page along its own layout says the same.
            let again = bench.read(format, body).unwrap();
            assert_eq!(content(&again), content(&page));
            assert!(Arc::ptr_eq(&again.shape, &page.shape));
            let counts = |s: PageStats| (s.samples, s.duplicates, s.incomplete);
            assert_eq!(counts(again.stats), counts(stats));
        }
        Err(error) => write!(out, "{error}").unwrap(),
    }
    expected.assert_eq(&out);
}

fn text(body: &str, expected: &Expect) {
    check(PageFormat::Text, body, expected);
}

fn openmetrics(body: &str, expected: &Expect) {
    check(PageFormat::OpenMetrics, body, expected);
}

#[test]
fn numbers_of_all_types() {
    text(
        "# HELP jobs_total Jobs \\\\ done\\n\n# TYPE jobs_total counter\njobs_total{queue=\"a\"} 3\n\
         # a remark\n\n  # TYPE depth gauge\n depth { queue = \"a\\\"\\n\\\\\\x\" , } -0.5 1700000000123 \nplain NaN\n",
        &expect![[r#"
            depth{queue="a\"\n\\\\x"} gauge = [-0.5] at 1700000000123000000
            jobs_total{queue="a"} counter [] "Jobs \\ done\n" = [3.0]
            plain{} gauge Unknown = [NaN]
            3 samples"#]],
    );
}

#[test]
fn quoted_names() {
    text(
        "# TYPE \"jobs.done\" counter\n{\"jobs.done\",\"queue.name\"=\"a\"} 1\n{\"depth\"} 2\n{ \"x\" , a=\"b\",} 3\n",
        &expect![[r#"
            depth{} gauge Unknown = [2.0]
            jobs.done{queue.name="a"} counter = [1.0]
            x{a="b"} gauge Unknown = [3.0]
            3 samples"#]],
    );
}

#[test]
fn histograms_in_any_order() {
    // Sum first, le in any place and spelling, families that interleave, TYPE behind its samples.
    text(
        "a_sum{x=\"1\"} 4.5\na_bucket{le=\"1e0\",x=\"1\"} 2\na_bucket{x=\"1\",le=\"+Inf\"} 4\n\
         b_count 7\na_bucket{x=\"1\",le=\"0.5\"} 1\na_count{x=\"1\"} 4\nb_bucket{le=\"2\"} 6\n\
         a_bucket{x=\"1\",le=\"1.0\"} 99\n# TYPE a histogram\n# TYPE b histogram\n",
        &expect![[r#"
            a{x="1"} histogram[0.5, 1.0] = [4.5, 4.0, 1.0, 2.0]
            b{} histogram[2.0] = [NaN, 7.0, 6.0]
            8 samples, 1 duplicates"#]],
    );
}

#[test]
fn histograms_that_lack_something() {
    text(
        "# TYPE no_count histogram\nno_count_bucket{le=\"1\"} 1\nno_count_bucket{le=\"+Inf\"} 3\n\
         # TYPE no_inf histogram\nno_inf_bucket{le=\"1\"} 1\nno_inf_count 3\n\
         # TYPE neither histogram\nneither_bucket{le=\"1\"} 1\nneither_bucket{le=\"2\"} 2\n\
         # TYPE no_bucket histogram\nno_bucket_sum 1\nno_bucket_count 3\n\
         # TYPE only_sum histogram\nonly_sum_sum 1\n\
         # TYPE bare histogram\nbare 5\nbare_bucket{le=\"x\"} 2\nbare_bucket 1\n\
         untyped_bucket{le=\"1\"} 1\n",
        &expect![[r#"
            bare_bucket{le="x"} gauge Unknown = [2.0]
            bare_bucket{} gauge Unknown = [1.0]
            bare{} gauge Unknown = [5.0]
            neither{} histogram[1.0, 2.0] = [NaN, 2.0, 1.0, 2.0]
            no_bucket{} histogram[] = [1.0, 3.0]
            no_count{} histogram[1.0] = [NaN, 3.0, 1.0]
            no_inf{} histogram[1.0] = [NaN, 3.0, 1.0]
            untyped_bucket{le="1"} gauge Unknown = [1.0]
            13 samples, 1 incomplete"#]],
    );
}

#[test]
fn summaries() {
    text(
        "# TYPE s summary\ns{quantile=\"0.99\"} 9\ns{quantile=\"0.5\"} 5\ns_sum 20\ns_count 4\n\
         s{quantile=\"0.5\",x=\"1\"} NaN\n",
        &expect![[r#"
            s{x="1"} summary[0.5] = [NaN, 0.0, NaN]
            s{} summary[0.5, 0.99] = [20.0, 4.0, 5.0, 9.0]
            5 samples"#]],
    );
}

#[test]
fn created_gauges_of_the_python_client() {
    // A `_created` family is a start time only where its parent is known.
    text(
        "# TYPE c_total counter\nc_total{x=\"1\"} 5\nc_total{x=\"2\"} 6\n# TYPE c_created gauge\n\
         c_created{x=\"1\"} 1.7953193486548054e+09\nc_created{x=\"3\"} 1.7e+09\n\
         # TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 1\n# TYPE h_created gauge\nh_created 1.5e+09\n\
         # TYPE file_created gauge\nfile_created 1.6e+09\n",
        &expect![[r#"
            c_total{x="1"} counter = [5.0] since 1795319348654805504
            c_total{x="2"} counter = [6.0]
            file_created{} gauge = [1600000000.0]
            h{} histogram[] = [1.0, 1.0] since 1500000000000000000
            9 samples"#]],
    );
}

#[test]
fn openmetrics_page() {
    openmetrics(
        "# TYPE req counter\n# UNIT req requests\n# HELP req All \\\"of\\\" them\n\
         req_total{x=\"1\"} 3 1700000000.5 # {trace_id=\"ab\"} 0.5 1700000000\nreq_created{x=\"1\"} 1600000000\n\
         # TYPE lat_seconds histogram\n# UNIT lat_seconds seconds\n\
         lat_seconds_bucket{le=\"0.1\"} 1 # {} 0.05\nlat_seconds_bucket{le=\"+Inf\"} 2 # {a=\"b\"} 0.7\n\
         lat_seconds_count 2\nlat_seconds_sum 0.75\nlat_seconds_created 1.5e9\n\
         # TYPE build info\nbuild_info{v=\"1\"} 1\n# TYPE mode stateset\nmode{mode=\"a\"} 1\nmode{mode=\"b\"} 0\n\
         # TYPE size gaugehistogram\nsize_bucket{le=\"1\"} 1\nsize_bucket{le=\"+Inf\"} 2\nsize_gcount 2\nsize_gsum 3\n\
         # TYPE what unknown\nwhat 1\n# EOF\n",
        &expect![[r#"
            build_info{v="1"} gauge Info = [1.0]
            lat_seconds{} histogram[0.1] [s] "" = [0.75, 2.0, 1.0] since 1500000000000000000 # {} 0.05 0 # {a="b"} 0.7 0
            mode{mode="a"} gauge StateSet = [1.0]
            mode{mode="b"} gauge StateSet = [0.0]
            req_total{x="1"} counter [requests] "All \"of\" them" = [3.0] since 1600000000000000000 at 1700000000500000000 # {trace_id="ab"} 0.5 1700000000000000000
            size{} histogram[1.0] GaugeHistogram = [3.0, 2.0, 1.0]
            what{} gauge Unknown = [1.0]
            15 samples"#]],
    );
}

#[test]
fn samples_escaped_but_metadata_not() {
    openmetrics(
        "# HELP eng:tokens Tokens.\n# TYPE eng:tokens counter\neng_tokens_total 5\n\
         # TYPE eng:wait_seconds histogram\neng_wait_seconds_sum 1\neng_wait_seconds_bucket{le=\"1.0\"} 1\n\
         eng_wait_seconds_bucket{le=\"+Inf\"} 2\neng_wait_seconds_count 2\n# EOF",
        &expect![[r#"
            eng_tokens_total{} counter [] "Tokens." = [5.0]
            eng_wait_seconds{} histogram[1.0] = [1.0, 2.0, 1.0]
            5 samples"#]],
    );
}

#[test]
fn first_of_duplicates_counts() {
    text(
        "a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 2\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"2\",z=\"\"} 4\n",
        &expect![[r#"
            a{x="1",y="2"} gauge Unknown = [1.0]
            4 samples, 3 duplicates"#]],
    );
}

const REFUSED: &[&str] = &[
    "h_bucket.7e+09\n",
    "a+1\n",
    "a 1",
    "a 1\nb 2 # {} 1\n",
    "a 1\nb\n",
    "a 1\r\n",
    "a 1e400\n",
    "a 0x1p3\n",
    "a{x=\"1\n\"} 1\n",
    "a{x=\"1\" y=\"2\"} 1\n",
    "a{x=\"1\",x=\"2\"} 1\n",
    "a{__name__=\"b\"} 1\n",
    "a{:=\"1\"} 1\n",
    "a 1 99999999999999999999\n",
    "# TYPE a\n",
    "# TYPE a sometype\n",
    "# HELP \n",
    "{a=\"b\"} 1\n",
    "{\"a\",\"b\"} 1\n",
    "a\0 1\n",
    "1a 1\n",
];

#[test]
fn refused_pages() {
    let mut out = String::new();
    for body in REFUSED {
        let error = Bench::new(PageSettings::default()).read(PageFormat::Text, body).unwrap_err();
        writeln!(out, "{body:?}: {error}").unwrap();
    }
    let cases = [
        "a 1\n",
        "a 1\n# EOF\na 2\n",
        "a 1\n# EO",
        "a  1\n# EOF\n",
        "\n# EOF\n",
        "# remark\n# EOF\n",
        "a 1 # {x=\"1\"}\n# EOF\n",
    ];
    for body in cases {
        let error =
            Bench::new(PageSettings::default()).read(PageFormat::OpenMetrics, body).unwrap_err();
        writeln!(out, "om {body:?}: {error}").unwrap();
    }
    let bytes = b"a 1\nb{x=\"\xff\"} 1\n";
    let mut bench = Bench::new(PageSettings::default());
    let error =
        bench.reader.read(PageFormat::Text, bytes, &bench.interner, &bench.layouts).unwrap_err();
    writeln!(out, "{error}").unwrap();
    expect![[r##"
        "h_bucket.7e+09\n": line 1: expected a blank between name and value, found ".7e+09"
        "a+1\n": line 1: expected a blank between name and value, found "+1"
        "a 1": truncated after line 0: a newline is missing
        "a 1\nb 2 # {} 1\n": line 2: expected a timestamp in milliseconds, found "# {} 1"
        "a 1\nb\n": line 2: expected a blank between name and value, found ""
        "a 1\r\n": line 1: expected a number as value, found "1\r"
        "a 1e400\n": line 1: expected a number as value, found "1e400"
        "a 0x1p3\n": line 1: expected a number as value, found "0x1p3"
        "a{x=\"1\n\"} 1\n": line 1: expected a closing quote on the same line, found "\"1"
        "a{x=\"1\" y=\"2\"} 1\n": line 1: expected `,` or `}`, found "y=\"2\"} 1"
        "a{x=\"1\",x=\"2\"} 1\n": line 1: expected label names that differ, found "a{x=\"1\",x=\"2\"} 1"
        "a{__name__=\"b\"} 1\n": line 1: expected a label other than `__name__`, found "a{__name__=\"b\"} 1"
        "a{:=\"1\"} 1\n": line 1: expected a label name or `}`, found ":=\"1\"} 1"
        "a 1 99999999999999999999\n": line 1: expected a timestamp in milliseconds, found "99999999999999999999"
        "# TYPE a\n": line 1: expected a metric type, found ""
        "# TYPE a sometype\n": line 1: expected a metric type, found "sometype"
        "# HELP \n": line 1: expected a metric name, found ""
        "{a=\"b\"} 1\n": line 1: expected a metric name, found "{a=\"b\"} 1"
        "{\"a\",\"b\"} 1\n": line 1: expected `=`, found "} 1"
        "a\0 1\n": line 1: expected no NUL byte, found "\0 1"
        "1a 1\n": line 1: expected a metric name, found "1a 1"
        om "a 1\n": truncated after line 1: `# EOF` is missing
        om "a 1\n# EOF\na 2\n": line 3: expected nothing after `# EOF`, found "a 2"
        om "a 1\n# EO": truncated after line 1: `# EOF` is missing
        om "a  1\n# EOF\n": line 1: expected a number as value, found " 1"
        om "\n# EOF\n": line 1: expected a metric name, found ""
        om "# remark\n# EOF\n": line 1: expected `# HELP`, `# TYPE`, `# UNIT` or `# EOF`, found "# remark"
        om "a 1 # {x=\"1\"}\n# EOF\n": line 1: expected one space, found ""
        line 2: expected valid UTF-8, found "�\"} 1"
    "##]].assert_eq(&out);
}

fn target() -> PageSettings {
    PageSettings {
        group: Group {
            labels: Labels::from_pairs([("instance", "t"), ("job", "j")]),
            ..Group::default()
        },
        synthetic: Arc::new([
            Arc::new(Metric::new("up", "", "", Kind::Gauge)),
            Arc::new(Metric::new("scrape_duration_seconds", "s", "", Kind::Gauge)),
        ]),
        ..PageSettings::default()
    }
}

#[test]
fn target_labels_and_synthetic_rows() {
    let body = "up 5\na{instance=\"p\",exported_instance=\"q\"} 1\nb{job=\"x\"} 2\nup{x=\"1\"} 6\n";
    let mut out = String::new();
    for honor_labels in [false, true] {
        let mut bench = Bench::new(PageSettings { honor_labels, ..target() });
        for _ in 0..2 {
            let page = bench.text(body);
            writeln!(out, "{:?} {:?}", content(&page), page.stats).unwrap();
        }
    }
    expect![[r#"
        {"a{exported_exported_instance=\"p\",exported_instance=\"q\",instance=\"t\",job=\"j\"} gauge Unknown": "[1.0]", "b{exported_job=\"x\",instance=\"t\",job=\"j\"} gauge Unknown": "[2.0]", "scrape_duration_seconds{instance=\"t\",job=\"j\"} gauge [s] \"\"": "[0.0]", "up{instance=\"t\",job=\"j\",x=\"1\"} gauge Unknown": "[6.0]", "up{instance=\"t\",job=\"j\"} gauge": "[0.0]"} PageStats { samples: 4, series_added: 3, duplicates: 1, incomplete: 0, path: Full }
        {"a{exported_exported_instance=\"p\",exported_instance=\"q\",instance=\"t\",job=\"j\"} gauge Unknown": "[1.0]", "b{exported_job=\"x\",instance=\"t\",job=\"j\"} gauge Unknown": "[2.0]", "scrape_duration_seconds{instance=\"t\",job=\"j\"} gauge [s] \"\"": "[0.0]", "up{instance=\"t\",job=\"j\",x=\"1\"} gauge Unknown": "[6.0]", "up{instance=\"t\",job=\"j\"} gauge": "[0.0]"} PageStats { samples: 4, series_added: 0, duplicates: 1, incomplete: 0, path: Cached }
        {"a{exported_instance=\"q\",instance=\"p\",job=\"j\"} gauge Unknown": "[1.0]", "b{instance=\"t\",job=\"x\"} gauge Unknown": "[2.0]", "scrape_duration_seconds{instance=\"t\",job=\"j\"} gauge [s] \"\"": "[0.0]", "up{instance=\"t\",job=\"j\",x=\"1\"} gauge Unknown": "[6.0]", "up{instance=\"t\",job=\"j\"} gauge": "[0.0]"} PageStats { samples: 4, series_added: 3, duplicates: 1, incomplete: 0, path: Full }
        {"a{exported_instance=\"q\",instance=\"p\",job=\"j\"} gauge Unknown": "[1.0]", "b{instance=\"t\",job=\"x\"} gauge Unknown": "[2.0]", "scrape_duration_seconds{instance=\"t\",job=\"j\"} gauge [s] \"\"": "[0.0]", "up{instance=\"t\",job=\"j\",x=\"1\"} gauge Unknown": "[6.0]", "up{instance=\"t\",job=\"j\"} gauge": "[0.0]"} PageStats { samples: 4, series_added: 0, duplicates: 1, incomplete: 0, path: Cached }
    "#]].assert_eq(&out);
}

#[test]
fn limits_fail_the_page() {
    let body = "a{x=\"1\",long_name=\"long value\"} 1\n# c\na{x=\"2\"} 1\nb 2\n";
    let mut out = String::new();
    for limits in [
        PageLimits { samples: 2, ..PageLimits::default() },
        PageLimits { labels: 4, ..PageLimits::default() },
        PageLimits { label_name_bytes: 8, ..PageLimits::default() },
        PageLimits { label_value_bytes: 9, ..PageLimits::default() },
        PageLimits {
            samples: 3,
            labels: 5,
            label_name_bytes: 9,
            label_value_bytes: 10,
            native_buckets: 1,
        },
    ] {
        let mut bench = Bench::new(PageSettings { limits, ..target() });
        match bench.read(PageFormat::Text, body) {
            Ok(page) => writeln!(out, "{} samples", page.stats.samples).unwrap(),
            Err(error) => writeln!(out, "{error}").unwrap(),
        }
        // A page that only grows beyond the limit is refused as well.
        if limits.samples == 3 {
            writeln!(out, "{}", bench.read(PageFormat::Text, &format!("{body}c 1\n")).unwrap_err())
                .unwrap();
        }
    }
    expect![[r#"
        3 samples on the page, the limit is 2
        5 labels of one series, the limit is 4
        9 bytes of a label name, the limit is 8: "long_name"
        10 bytes of a label value, the limit is 9: "long_name"
        3 samples
        4 samples on the page, the limit is 3
    "#]]
    .assert_eq(&out);
}

/// Marks by name, for pages whose series differ in name.
fn marks(page: &Page) -> String {
    let mark = |row: usize| page.marks.as_ref().map_or(Mark::Present, |marks| marks[row]);
    let mut all: Vec<String> = page
        .shape
        .iter()
        .filter(|series| mark(series.row as usize) != Mark::Present)
        .map(|series| {
            format!("{}{}:{:?}", series.metric.name, series.labels, mark(series.row as usize))
        })
        .collect();
    all.sort();
    format!("{:?} +{} {}", page.stats.path, page.stats.series_added, all.join(" "))
}

#[test]
fn rows_that_come_and_go() {
    let mut bench = Bench::new(target());
    let mut out = String::new();
    for body in [
        "a 1\nb 2\nc 3\n",
        "a 1\nc 3\n",
        "a 1\nc 3\n",
        "c 3\nb 2\na 1\n",
        "a 1\nb 2\nc 3\nd{x=\"1\"} 4\n",
        "a 1\nb 2\nc 3\nd{x=\"1\"} 4\n",
        "# TYPE e counter\na 1\nb 2\ne 4\n",
        "",
        "a 1\n",
    ] {
        let page = bench.text(body);
        writeln!(out, "{}", marks(&page)).unwrap();
    }
    for _ in 0..2 {
        let page = bench.reader.gone(&bench.interner);
        writeln!(out, "gone: {}", marks(&page)).unwrap();
    }
    writeln!(out, "back: {}", marks(&bench.text("a 1\n"))).unwrap();
    expect![[r#"
        Full +3 
        Patched +0 b{}:Stale
        Patched +0 b{}:Absent
        Patched +1 
        Patched +1 
        Cached +0 
        Full +1 
        Patched +0 a{}:Stale b{}:Stale e{}:Stale
        Patched +1 b{}:Absent e{}:Absent
        gone: Full +0 a{}:Stale b{}:Absent e{}:Absent
        gone: Full +0 a{}:Absent b{}:Absent e{}:Absent
        back: Patched +1 b{}:Absent e{}:Absent
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_type_that_comes_back_counts_for_rows_that_came_meanwhile() {
    let mut bench = Bench::new(target());
    for body in
        ["# TYPE h histogram\na 1\n", "a 1\nh_count 2\n", "# TYPE h histogram\na 1\nh_count 2\n"]
    {
        let fresh = Bench::new(target()).text(body);
        assert_eq!(content(&bench.text(body)), content(&fresh));
    }
}

#[test]
fn shapes_and_starts_stay_while_nothing_changes() {
    let page = |v: u32| format!("# TYPE a_total counter\na_total {v}\na_created 1.5e9\nb {v}\n");
    let mut bench = Bench::new(target());
    let first = bench.text(&page(1));
    let second = bench.text(&page(2));
    assert!(Arc::ptr_eq(&first.shape, &second.shape));
    assert!(Arc::ptr_eq(first.starts.as_ref().unwrap(), second.starts.as_ref().unwrap()));
    let reset = bench.text("# TYPE a_total counter\na_total 0\na_created 1.6e9\nb 0\n");
    assert!(Arc::ptr_eq(&first.shape, &reset.shape));
    assert_eq!(reset.starts.unwrap()[2], 1_600_000_000_000_000_000);
}

#[test]
fn equal_pages_share_a_layout() {
    let (interner, layouts) = (Interner::new(), Layouts::new());
    let body = "# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\"} 1\n";
    let mut readers: Vec<PageReader> = (0..3)
        .map(|idx| {
            let labels = Labels::from_pairs([("instance", ["p", "q", "r"][idx])]);
            PageReader::new(PageSettings {
                group: Group { labels, ..Group::default() },
                ..target()
            })
        })
        .collect();
    for reader in &mut readers {
        reader.read(PageFormat::Text, body.as_bytes(), &interner, &layouts).unwrap();
    }
    assert_eq!(layouts.stats().layouts, 1);
    assert!(layouts.stats().bytes > body.len());
    drop(readers);
    layouts.sweep();
    assert_eq!(layouts.stats(), LayoutStats::default());
}

#[test]
fn a_page_that_always_changes_is_read_without_a_layout() {
    let mut bench = Bench::new(target());
    let page = |n: u32| format!("# HELP a at {n}\n# TYPE a gauge\na{{id=\"{n}\"}} {n}\n");
    let paths: Vec<PagePath> = (0..60).map(|n| bench.text(&page(n)).stats.path).collect();
    let count = |path| paths.iter().filter(|p| **p == path).count();
    assert!(count(PagePath::Uncached) >= 32, "{paths:?}");
    bench.layouts.sweep();
    assert!(bench.layouts.stats().layouts <= 1);
    // Quiet again, it is read along a layout before long.
    let last: Vec<PagePath> = (0..40).map(|_| bench.text(&page(0)).stats.path).collect();
    assert_eq!(last.last(), Some(&PagePath::Cached));
}

#[test]
fn growing_for_ever_drops_what_is_gone() {
    let mut bench = Bench::new(target());
    let mut largest = 0;
    for n in 0..500 {
        let mut body = String::new();
        (0..200).for_each(|idx| writeln!(body, "fixed{{idx=\"{idx}\"}} 1").unwrap());
        // A new series every third scrape, alive for three.
        writeln!(body, "moving{{id=\"{}\"}} 1", n / 3).unwrap();
        largest = largest.max(bench.text(&body).shape.len());
    }
    assert!(largest < 230, "{largest} rows");
}

mod any_two_pages;
mod protobuf;
