//! Remote write as its two specifications have it, written out by hand, and a strict reader of both.

use std::collections::BTreeMap;

use prost::Message;

use super::ledger::Series;

/// Labels and samples of one series of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// Name and labels.
    pub series: Series,
    /// Value, and time in milliseconds.
    pub samples: Vec<(f64, i64)>,
    /// Start times of the samples in milliseconds, 0 where none is told; 2.0 only.
    pub starts: Vec<i64>,
    /// Native histograms.
    pub histograms: Vec<NativeHistogram>,
    /// Exemplars: labels, value, time in milliseconds.
    pub exemplars: Vec<(Series, f64, i64)>,
    /// Type number and help, 2.0 only.
    pub metadata: Option<(i32, String, String)>,
}

/// What one request said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Its series.
    pub written: Vec<Written>,
    /// Family name to type number, help and unit; 1.0 only.
    pub metadata: BTreeMap<String, (i32, String, String)>,
    /// Where it breaks the specification.
    pub violations: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
    #[prost(int64, tag = "3")]
    start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar1 {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

/// Neighbouring buckets of a native histogram.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Span {
    /// Gap to the last span, or the first index.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// Buckets.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// A native histogram of whole numbers.
#[derive(Clone, PartialEq, Message)]
pub struct NativeHistogram {
    /// Observations.
    #[prost(uint64, tag = "1")]
    pub count: u64,
    /// Their sum.
    #[prost(double, tag = "3")]
    pub sum: f64,
    /// Scale, or -53 for buckets of its own.
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    /// Width of the zero bucket.
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    #[prost(uint64, tag = "6")]
    pub zero_count: u64,
    /// Negative buckets.
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<Span>,
    /// Their counts, as differences.
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    /// Positive buckets.
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<Span>,
    /// Their counts, as differences.
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    /// Whether it may have been reset.
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    /// Milliseconds.
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Series1 {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<Exemplar1>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<NativeHistogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata1 {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    family: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, PartialEq, Message)]
struct Request1 {
    #[prost(message, repeated, tag = "1")]
    series: Vec<Series1>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Metadata1>,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata2 {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "3")]
    help_ref: u32,
    #[prost(uint32, tag = "4")]
    unit_ref: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Series2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<NativeHistogram>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<Exemplar2>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<Metadata2>,
}

#[derive(Clone, PartialEq, Message)]
struct Request2 {
    /// `prometheus.WriteRequest` has its series here: in 2.0 the number is reserved.
    #[prost(message, repeated, tag = "1")]
    reserved: Vec<Series1>,
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    series: Vec<Series2>,
}

/// Names and values in the order in which they came, judged.
fn labels(pairs: &[(String, String)], needs_name: bool, violations: &mut Vec<String>) -> Series {
    if let Some(pair) = pairs.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        violations.push(format!("labels are not sorted and unique: {pair:?}"));
    }
    if let Some(empty) = pairs.iter().find(|(name, value)| name.is_empty() || value.is_empty()) {
        violations.push(format!("an empty label name or value: {empty:?}"));
    }
    if needs_name && !pairs.iter().any(|(name, _)| name == "__name__") {
        violations.push(format!("no __name__: {pairs:?}"));
    }
    pairs.iter().cloned().collect()
}

fn one(written: Written, request: &mut Request) {
    let times = written.samples.iter().map(|(_, time)| *time);
    if !times.clone().zip(times.skip(1)).all(|(before, after)| before < after) {
        let shown = (&written.series, &written.samples);
        request.violations.push(format!("samples are not in the order of time: {shown:?}"));
    }
    if written.samples.is_empty() && written.histograms.is_empty() {
        request.violations.push(format!("a series without samples: {:?}", written.series));
    }
    request.written.push(written);
}

/// Reads a 1.0 body after decompression.
pub(super) fn read_1(body: &[u8]) -> Result<Request, String> {
    let message = Request1::decode(body).map_err(|wrong| wrong.to_string())?;
    let mut request = Request::default();
    for series in message.series {
        let pairs = |labels: Vec<Label>| -> Vec<(String, String)> {
            labels.into_iter().map(|label| (label.name, label.value)).collect()
        };
        let mut written = Written {
            series: labels(&pairs(series.labels), true, &mut request.violations),
            samples: series.samples.iter().map(|s| (s.value, s.timestamp)).collect(),
            histograms: series.histograms,
            ..Written::default()
        };
        for exemplar in series.exemplars {
            let own = labels(&pairs(exemplar.labels), false, &mut request.violations);
            written.exemplars.push((own, exemplar.value, exemplar.timestamp));
        }
        one(written, &mut request);
    }
    for told in message.metadata {
        request.metadata.insert(told.family, (told.kind, told.help, told.unit));
    }
    Ok(request)
}

/// Reads a 2.0 body after decompression.
pub(super) fn read_2(body: &[u8]) -> Result<Request, String> {
    let message = Request2::decode(body).map_err(|wrong| wrong.to_string())?;
    let mut request = Request::default();
    if !message.reserved.is_empty() {
        request.violations.push("a 1.0 request under the name of 2.0".to_owned());
    }
    if message.symbols.first().is_none_or(|first| !first.is_empty()) {
        request.violations.push("the first symbol is not empty".to_owned());
    }
    let mut known = std::collections::HashSet::new();
    if let Some(again) = message.symbols.iter().find(|symbol| !known.insert(*symbol)) {
        request.violations.push(format!("symbol {again:?} twice"));
    }
    let symbol = |at: u32| {
        let found = message.symbols.get(at as usize);
        found.cloned().ok_or_else(|| format!("symbol {at} of {}", message.symbols.len()))
    };
    let pairs = |refs: &[u32]| -> Result<Vec<(String, String)>, String> {
        if !refs.len().is_multiple_of(2) {
            return Err(format!("{} references", refs.len()));
        }
        refs.chunks(2).map(|pair| Ok((symbol(pair[0])?, symbol(pair[1])?))).collect()
    };
    for series in &message.series {
        if !series.samples.is_empty() && !series.histograms.is_empty() {
            request.violations.push("samples and histograms in one series".to_owned());
        }
        let mut written = Written {
            series: labels(&pairs(&series.labels_refs)?, true, &mut request.violations),
            samples: series.samples.iter().map(|s| (s.value, s.timestamp)).collect(),
            starts: series.samples.iter().map(|s| s.start_timestamp).collect(),
            histograms: series.histograms.clone(),
            ..Written::default()
        };
        for exemplar in &series.exemplars {
            let own = labels(&pairs(&exemplar.labels_refs)?, false, &mut request.violations);
            written.exemplars.push((own, exemplar.value, exemplar.timestamp));
        }
        if let Some(told) = &series.metadata {
            written.metadata = Some((told.kind, symbol(told.help_ref)?, symbol(told.unit_ref)?));
        }
        one(written, &mut request);
    }
    Ok(request)
}
