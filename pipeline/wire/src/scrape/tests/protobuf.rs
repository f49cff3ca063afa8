//! Delimited protobuf pages.

use prost::Message;

use super::*;
use crate::proto::client_model as pb;

fn pairs(labels: &[(&str, &str)]) -> Vec<pb::LabelPair> {
    let pair = |(name, value): &(&str, &str)| pb::LabelPair {
        name: Some((*name).to_owned()),
        value: Some((*value).to_owned()),
    };
    labels.iter().map(pair).collect()
}

fn family(name: &str, of: pb::MetricType, metric: Vec<pb::Metric>) -> pb::MetricFamily {
    pb::MetricFamily {
        name: Some(name.to_owned()),
        help: Some("H.".to_owned()),
        r#type: Some(of as i32),
        metric,
        unit: Some("seconds".to_owned()),
    }
}

fn page(families: &[pb::MetricFamily]) -> Vec<u8> {
    families.iter().flat_map(pb::MetricFamily::encode_length_delimited_to_vec).collect()
}

fn read(families: &[pb::MetricFamily], limits: PageLimits) -> Result<Page, PageError> {
    let (interner, layouts) = (Interner::new(), Layouts::new());
    let mut reader = PageReader::new(PageSettings { limits, ..PageSettings::default() });
    reader.read(PageFormat::Protobuf, &page(families), &interner, &layouts)
}

fn show(families: &[pb::MetricFamily]) -> String {
    match read(families, PageLimits::default()) {
        Ok(page) => {
            let mut out = String::new();
            for (series, values) in content(&page) {
                writeln!(out, "{series} = {values}").unwrap();
            }
            let PageStats { samples, duplicates, incomplete, .. } = page.stats;
            write!(out, "{samples} samples, {duplicates} duplicates, {incomplete} incomplete")
                .unwrap();
            out
        }
        Err(error) => error.to_string(),
    }
}

fn counter(labels: &[(&str, &str)], value: f64) -> pb::Metric {
    pb::Metric {
        label: pairs(labels),
        counter: Some(pb::Counter {
            value: Some(value),
            exemplar: Some(pb::Exemplar {
                label: pairs(&[("trace_id", "ab")]),
                value: Some(0.5),
                timestamp: Some(pb::Timestamp { seconds: 5, nanos: 7 }),
            }),
            created_timestamp: Some(pb::Timestamp { seconds: 1_500_000_000, nanos: 1 }),
        }),
        timestamp_ms: Some(1234),
        ..pb::Metric::default()
    }
}

fn bucket(upper: f64, count: u64) -> pb::Bucket {
    pb::Bucket { upper_bound: Some(upper), cumulative_count: Some(count), ..pb::Bucket::default() }
}

fn histogram(histogram: pb::Histogram) -> pb::Metric {
    pb::Metric { histogram: Some(histogram), ..pb::Metric::default() }
}

fn native() -> pb::Histogram {
    pb::Histogram {
        sample_count: Some(10),
        sample_sum: Some(5.5),
        schema: Some(3),
        zero_threshold: Some(1e-128),
        zero_count: Some(1),
        positive_span: vec![
            pb::BucketSpan { offset: Some(2), length: Some(2) },
            pb::BucketSpan { offset: Some(1), length: Some(1) },
        ],
        positive_delta: vec![3, -1, 2],
        bucket: vec![bucket(1.0, 4)],
        ..pb::Histogram::default()
    }
}

#[test]
fn families_of_all_types() {
    let gauge =
        pb::Metric { gauge: Some(pb::Gauge { value: Some(-1.0) }), ..pb::Metric::default() };
    let untyped =
        pb::Metric { untyped: Some(pb::Untyped { value: None }), ..pb::Metric::default() };
    let summary = pb::Metric {
        summary: Some(pb::Summary {
            sample_count: Some(2),
            sample_sum: None,
            quantile: vec![pb::Quantile { quantile: Some(0.5), value: Some(3.0) }],
            created_timestamp: None,
        }),
        ..pb::Metric::default()
    };
    let classic = histogram(pb::Histogram {
        sample_count: Some(4),
        sample_sum: Some(2.5),
        bucket: vec![bucket(2.0, 3), bucket(1.0, 1), bucket(f64::INFINITY, 4)],
        ..pb::Histogram::default()
    });
    let families = [
        family(
            "c_total",
            pb::MetricType::Counter,
            vec![
                counter(&[("x", "1"), ("e", "")], 1.0),
                counter(&[("x", "1")], 2.0),
                gauge.clone(),
            ],
        ),
        family("g", pb::MetricType::Gauge, vec![gauge]),
        family("u", pb::MetricType::Untyped, vec![untyped]),
        family("s", pb::MetricType::Summary, vec![summary]),
        family("h", pb::MetricType::Histogram, vec![classic.clone()]),
        family("gh", pb::MetricType::GaugeHistogram, vec![classic]),
        family("n", pb::MetricType::Histogram, vec![histogram(native())]),
    ];
    expect![[r#"
        c_total{x="1"} counter [s] "H." = [1.0] since 1500000000000000001 at 1234000000 # {trace_id="ab"} 0.5 5000000007
        gh{} histogram[1.0, 2.0] GaugeHistogram [s] "H." = [2.5, 4.0, 1.0, 3.0]
        g{} gauge [s] "H." = [-1.0]
        h{} histogram[1.0, 2.0] [s] "H." = [2.5, 4.0, 1.0, 3.0]
        n{} native [s] "H." = [5.5, 10.0] ExponentialPoint { scale: 3, zero_count: 1.0, zero_threshold: 1e-128, positive: ExponentialBuckets { offset: 1, counts: [3.0, 2.0, 0.0, 4.0] }, negative: ExponentialBuckets { offset: 0, counts: [] }, min: None, max: None }
        s{} summary[0.5] [s] "H." = [NaN, 2.0, 3.0]
        u{} gauge Unknown [s] "H." = [0.0]
        19 samples, 1 duplicates, 1 incomplete"#]].assert_eq(&show(&families));
}

#[test]
fn native_histograms_that_are_none() {
    let mut out = String::new();
    let short = pb::Histogram { positive_delta: vec![3], ..native() };
    let long = pb::Histogram { positive_delta: vec![3, 1, 1, 1], ..native() };
    let custom = pb::Histogram { schema: Some(-53), ..native() };
    let span = |offset, length| pb::BucketSpan { offset: Some(offset), length: Some(length) };
    let sparse = pb::Histogram { positive_span: vec![span(0, 1), span(i32::MAX, 2)], ..native() };
    let overlap = pb::Histogram { positive_span: vec![span(0, 1), span(-1, 2)], ..native() };
    let endless = pb::Histogram { positive_span: vec![span(i32::MIN, u32::MAX)], ..native() };
    for each in [short, long, custom, sparse, overlap, endless] {
        let families = [family("n", pb::MetricType::Histogram, vec![histogram(each)])];
        writeln!(out, "{}", show(&families)).unwrap();
    }
    let limits = PageLimits { native_buckets: 2, ..PageLimits::default() };
    let families = [family("n", pb::MetricType::Histogram, vec![histogram(native())])];
    writeln!(out, "{}", read(&families, limits).unwrap_err()).unwrap();
    expect![[r#"
        protobuf family 1: fewer bucket counts than spans tell
        protobuf family 1: more bucket counts than spans tell
        1 samples, 0 duplicates, 1 incomplete
        1 samples, 0 duplicates, 1 incomplete
        protobuf family 1: spans of buckets overlap
        1 samples, 0 duplicates, 1 incomplete
        3 buckets of one native histogram, the limit is 2
    "#]]
    .assert_eq(&out);
}

#[test]
fn floats_and_gaps() {
    let span = |offset, length| pb::BucketSpan { offset: Some(offset), length: Some(length) };
    let float = pb::Histogram {
        sample_count_float: Some(2.5),
        negative_span: vec![span(-3, 1), span(2, 1)],
        negative_count: vec![1.5, 1.0],
        positive_span: Vec::new(),
        positive_delta: Vec::new(),
        ..native()
    };
    let families = [family("n", pb::MetricType::Histogram, vec![histogram(float)])];
    expect![[r#"
        n{} native [s] "H." = [5.5, 2.5] ExponentialPoint { scale: 3, zero_count: 1.0, zero_threshold: 1e-128, positive: ExponentialBuckets { offset: 0, counts: [] }, negative: ExponentialBuckets { offset: -4, counts: [1.5, 0.0, 0.0, 1.0] }, min: None, max: None }
        1 samples, 0 duplicates, 0 incomplete"#]].assert_eq(&show(&families));
}

#[test]
fn cut_short_at_any_byte() {
    let families = [
        family("c_total", pb::MetricType::Counter, vec![counter(&[("x", "1")], 1.0)]),
        family("n", pb::MetricType::Histogram, vec![histogram(native())]),
    ];
    let whole = page(&families);
    let first = families[0].encode_length_delimited_to_vec().len();
    let (interner, layouts) = (Interner::new(), Layouts::new());
    let mut reader = PageReader::new(PageSettings::default());
    for end in 1..whole.len() {
        let read = reader.read(PageFormat::Protobuf, &whole[..end], &interner, &layouts);
        assert_eq!(read.is_ok(), end == first, "{end}");
    }
}

#[test]
fn a_million_empty_messages_take_little_memory() {
    // Two bytes each: tag 4, length 0. As structs they would be hundreds of megabytes.
    let mut message = vec![0x0a, 1, b'x', 0x18, 1];
    message.extend([0x22, 0].repeat(1_000_000));
    let mut body = Vec::new();
    prost::encoding::encode_varint(message.len() as u64, &mut body);
    body.extend(message);
    let (interner, layouts) = (Interner::new(), Layouts::new());
    let mut reader = PageReader::new(PageSettings::default());
    let page = reader.read(PageFormat::Protobuf, &body, &interner, &layouts).unwrap();
    assert_eq!((page.shape.len(), page.stats.incomplete), (0, 1_000_000));
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
        let (interner, layouts) = (Interner::new(), Layouts::new());
        let mut reader = PageReader::new(PageSettings::default());
        drop(reader.read(PageFormat::Protobuf, &bytes, &interner, &layouts));
        let mut valid = page(&[family("n", pb::MetricType::Histogram, vec![histogram(native())])]);
        let idx = at.index(valid.len());
        valid[idx] = byte;
        drop(reader.read(PageFormat::Protobuf, &valid, &interner, &layouts));
    }
}
