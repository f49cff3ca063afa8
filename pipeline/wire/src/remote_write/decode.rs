//! Reading requests, strictly: for tests and tools that stand where a store would.
//!
//! Written from the specifications and apart from the encoder: field by field, and whatever they forbid is an error.

use std::collections::HashSet;

use super::Version;

/// What was wrong, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

type Result<T> = std::result::Result<T, Malformed>;

/// A label's name and value.
pub type LabelPair = (String, String);

/// A sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Its value, by its bits.
    pub bits: u64,
    /// Unix milliseconds.
    pub ms: i64,
    /// When its series began, Unix milliseconds; 0 = unknown.
    pub start_ms: i64,
}

impl Sample {
    /// Its value.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.bits)
    }
}

/// A native histogram. Of counts and buckets either the whole ones or the doubles are there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// All observations.
    pub count: f64,
    /// Their sum, by its bits.
    pub sum_bits: u64,
    /// Resolution.
    pub schema: i64,
    /// Half width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in it.
    pub zero_count: f64,
    /// Index and count of each bucket that is not empty, Prometheus' numbering.
    pub positive: Vec<(i64, f64)>,
    /// The same of negative observations.
    pub negative: Vec<(i64, f64)>,
    /// Unix milliseconds.
    pub ms: i64,
    /// When its series began; 0 = unknown.
    pub start_ms: i64,
}

/// An exemplar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exemplar {
    /// Its labels.
    pub labels: Vec<LabelPair>,
    /// The observed value.
    pub value: f64,
    /// Unix milliseconds.
    pub ms: i64,
}

/// What is said of a metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The metric; of the second version empty, it stands with a series.
    pub name: String,
    /// The number of its type.
    pub ty: u64,
    /// HELP.
    pub help: String,
    /// Unit.
    pub unit: String,
}

/// A series with its points.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Its labels, `__name__` among them.
    pub labels: Vec<LabelPair>,
    /// Float samples.
    pub samples: Vec<Sample>,
    /// Native histograms.
    pub histograms: Vec<Histogram>,
    /// Exemplars.
    pub exemplars: Vec<Exemplar>,
    /// Second version only.
    pub metadata: Option<Metadata>,
}

impl Series {
    /// The value of a label; empty when there is none.
    pub fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// `name{a="b"}`.
    pub fn text(&self) -> String {
        let others = self.labels.iter().filter(|(name, _)| name != "__name__");
        let labels: Vec<String> = others.map(|(n, v)| format!("{n}={v:?}")).collect();
        format!("{}{{{}}}", self.label("__name__"), labels.join(","))
    }
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Its series.
    pub series: Vec<Series>,
    /// First version only.
    pub metadata: Vec<Metadata>,
    /// Second version only.
    pub symbols: Vec<String>,
}

/// Reads Snappy's block format; at most `max` bytes come out.
///
/// # Errors
/// Not that format, or more.
pub fn unsnappy(block: &[u8], max: usize) -> Result<Vec<u8>> {
    let wrong = |error: snap::Error| Malformed(error.to_string());
    let len = snap::raw::decompress_len(block).map_err(wrong)?;
    if len > max {
        return Err(Malformed(format!("{len} bytes, at most {max}")));
    }
    snap::raw::Decoder::new().decompress_vec(block).map_err(wrong)
}

/// Reads a request, uncompressed.
///
/// # Errors
/// Whatever the specification of the version forbids, and fields that it does not have.
pub fn request(version: Version, bytes: &[u8]) -> Result<Request> {
    let mut out = Request::default();
    let mut fields = Fields(bytes);
    // Symbols may come behind the series that refer to them.
    let mut series = Vec::new();
    while let Some((field, value)) = fields.next()? {
        match (version, field, value) {
            (Version::V1, 1, Value::Bytes(bytes)) | (Version::V2, 5, Value::Bytes(bytes)) => {
                series.push(bytes);
            }
            (Version::V1, 3, Value::Bytes(bytes)) => out.metadata.push(metadata_v1(bytes)?),
            (Version::V2, 4, Value::Bytes(bytes)) => out.symbols.push(text(bytes)?),
            (_, field, _) => return unknown("a request", field),
        }
    }
    if version == Version::V2 {
        check(out.symbols.first().is_some_and(String::is_empty), || {
            "no empty first symbol".into()
        })?;
        let mut known = HashSet::new();
        check(out.symbols.iter().all(|symbol| known.insert(symbol)), || "a symbol twice".into())?;
    }
    for bytes in series {
        let series = one_series(version, bytes, &out.symbols)?;
        checked(version, &series)?;
        out.series.push(series);
    }
    Ok(out)
}

fn check(holds: bool, what: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Malformed(what())) }
}

fn unknown<T>(place: &str, field: u64) -> Result<T> {
    Err(Malformed(format!("field {field} in {place}, or of another type")))
}

/// What both specifications say of a series.
fn checked(version: Version, series: &Series) -> Result<()> {
    let name = || series.text();
    check(!series.label("__name__").is_empty(), || format!("no name: {}", name()))?;
    check(series.labels.is_sorted_by(|(a, _), (b, _)| a < b), || {
        format!("labels unsorted or twice: {}", name())
    })?;
    check(series.labels.iter().all(|(n, v)| !n.is_empty() && !v.is_empty()), || {
        format!("an empty label: {}", name())
    })?;
    check(series.samples.is_empty() || series.histograms.is_empty(), || {
        format!("samples and histograms: {}", name())
    })?;
    check(!(series.samples.is_empty() && series.histograms.is_empty()), || {
        format!("no points: {}", name())
    })?;
    check(series.samples.is_sorted_by(|a, b| a.ms < b.ms), || format!("out of order: {}", name()))?;
    if version == Version::V2 {
        check(series.exemplars.iter().all(|exemplar| exemplar.ms != 0), || {
            format!("an exemplar without time: {}", name())
        })?;
        return check(series.metadata.is_some(), || format!("no metadata: {}", name()));
    }
    let legal = |text: &str, colon: bool| {
        text.bytes().enumerate().all(|(idx, b)| {
            b.is_ascii_alphabetic()
                || b == b'_'
                || (colon && b == b':')
                || (idx > 0 && b.is_ascii_digit())
        })
    };
    check(legal(series.label("__name__"), true), || format!("an illegal name: {}", name()))?;
    check(series.labels.iter().all(|(name, _)| legal(name, false)), || {
        format!("an illegal label: {}", name())
    })
}

fn one_series(version: Version, bytes: &[u8], symbols: &[String]) -> Result<Series> {
    let mut out = Series::default();
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        match (version, field, value) {
            (Version::V1, 1, Value::Bytes(bytes)) => out.labels.push(label_v1(bytes)?),
            (Version::V2, 1, Value::Bytes(bytes)) => out.labels.extend(label_refs(bytes, symbols)?),
            (_, 2, Value::Bytes(bytes)) => out.samples.push(sample(version, bytes)?),
            (Version::V1, 4, Value::Bytes(bytes)) | (Version::V2, 3, Value::Bytes(bytes)) => {
                out.histograms.push(histogram(version, bytes)?);
            }
            (Version::V1, 3, Value::Bytes(bytes)) | (Version::V2, 4, Value::Bytes(bytes)) => {
                out.exemplars.push(exemplar(version, bytes, symbols)?);
            }
            (Version::V2, 5, Value::Bytes(bytes)) => {
                check(out.metadata.is_none(), || "metadata twice".into())?;
                out.metadata = Some(metadata_v2(bytes, symbols)?);
            }
            (_, field, _) => return unknown("a series", field),
        }
    }
    Ok(out)
}

fn label_v1(bytes: &[u8]) -> Result<LabelPair> {
    let (mut name, mut value) = (String::new(), String::new());
    let mut fields = Fields(bytes);
    while let Some((field, found)) = fields.next()? {
        match (field, found) {
            (1, Value::Bytes(bytes)) => name = text(bytes)?,
            (2, Value::Bytes(bytes)) => value = text(bytes)?,
            (field, _) => return unknown("a label", field),
        }
    }
    Ok((name, value))
}

fn symbol(symbols: &[String], reference: u64) -> Result<String> {
    let found = usize::try_from(reference).ok().and_then(|idx| symbols.get(idx));
    found.cloned().ok_or_else(|| Malformed(format!("reference {reference} out of range")))
}

fn label_refs(bytes: &[u8], symbols: &[String]) -> Result<Vec<LabelPair>> {
    let mut out = Vec::new();
    let mut packed = Fields(bytes);
    while !packed.0.is_empty() {
        let name = symbol(symbols, packed.varint()?)?;
        check(!packed.0.is_empty(), || "an odd number of references".into())?;
        out.push((name, symbol(symbols, packed.varint()?)?));
    }
    Ok(out)
}

fn sample(version: Version, bytes: &[u8]) -> Result<Sample> {
    let mut out = Sample { bits: 0, ms: 0, start_ms: 0 };
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Fixed(bits)) => out.bits = bits,
            (2, Value::Varint(ms)) => out.ms = ms.cast_signed(),
            (3, Value::Varint(ms)) if version == Version::V2 => out.start_ms = ms.cast_signed(),
            (field, _) => return unknown("a sample", field),
        }
    }
    Ok(out)
}

fn exemplar(version: Version, bytes: &[u8], symbols: &[String]) -> Result<Exemplar> {
    let mut out = Exemplar::default();
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        match (version, field, value) {
            (Version::V1, 1, Value::Bytes(bytes)) => out.labels.push(label_v1(bytes)?),
            (Version::V2, 1, Value::Bytes(bytes)) => out.labels.extend(label_refs(bytes, symbols)?),
            (_, 2, Value::Fixed(bits)) => out.value = f64::from_bits(bits),
            (_, 3, Value::Varint(ms)) => out.ms = ms.cast_signed(),
            (_, field, _) => return unknown("an exemplar", field),
        }
    }
    Ok(out)
}

fn metadata_v1(bytes: &[u8]) -> Result<Metadata> {
    let mut out = Metadata::default();
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Varint(ty)) => out.ty = ty,
            (2, Value::Bytes(bytes)) => out.name = text(bytes)?,
            (4, Value::Bytes(bytes)) => out.help = text(bytes)?,
            (5, Value::Bytes(bytes)) => out.unit = text(bytes)?,
            (field, _) => return unknown("metadata", field),
        }
    }
    check(out.ty <= 7, || format!("metadata of type {}", out.ty))?;
    Ok(out)
}

fn metadata_v2(bytes: &[u8], symbols: &[String]) -> Result<Metadata> {
    let mut out = Metadata::default();
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Varint(ty)) => out.ty = ty,
            (3, Value::Varint(reference)) => out.help = symbol(symbols, reference)?,
            (4, Value::Varint(reference)) => out.unit = symbol(symbols, reference)?,
            (field, _) => return unknown("metadata", field),
        }
    }
    check(out.ty <= 7, || format!("metadata of type {}", out.ty))?;
    Ok(out)
}

/// One sign of a native histogram, as it comes.
#[derive(Default)]
struct Side {
    spans: Vec<(i64, u64)>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Side {
    fn span(&mut self, bytes: &[u8]) -> Result<()> {
        let (mut offset, mut length) = (0, 0);
        let mut fields = Fields(bytes);
        while let Some((field, value)) = fields.next()? {
            match (field, value) {
                (1, Value::Varint(value)) => offset = unzigzag(value),
                (2, Value::Varint(value)) => length = value,
                (field, _) => return unknown("a span", field),
            }
        }
        check(offset >= 0 || self.spans.is_empty(), || "a span that goes back".into())?;
        self.spans.push((offset, length));
        Ok(())
    }

    fn buckets(self) -> Result<Vec<(i64, f64)>> {
        check(self.deltas.is_empty() || self.counts.is_empty(), || "deltas and counts".into())?;
        let mut sum = 0i64;
        let mut whole = Vec::with_capacity(self.deltas.len());
        for delta in &self.deltas {
            sum = sum.wrapping_add(*delta);
            check(sum >= 0, || "a bucket below nothing".into())?;
            whole.push(sum as f64);
        }
        let counts = if self.counts.is_empty() { whole } else { self.counts };
        let length = self.spans.iter().fold(0u64, |sum, span| sum.saturating_add(span.1));
        check(length == counts.len() as u64, || "spans and buckets differ".into())?;
        let (mut out, mut counts) = (Vec::with_capacity(counts.len()), counts.into_iter());
        let mut idx = 0i64;
        for (offset, length) in self.spans {
            idx = idx.saturating_add(offset);
            for count in counts.by_ref().take(usize::try_from(length).unwrap_or(usize::MAX)) {
                out.push((idx, count));
                idx = idx.saturating_add(1);
            }
        }
        Ok(out)
    }
}

fn histogram(version: Version, bytes: &[u8]) -> Result<Histogram> {
    let mut out = Histogram::default();
    let (mut negative, mut positive) = (Side::default(), Side::default());
    let mut counted = 0;
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Varint(count)) => (out.count, counted) = (count as f64, counted + 1),
            (2, Value::Fixed(bits)) => (out.count, counted) = (f64::from_bits(bits), counted + 1),
            (3, Value::Fixed(bits)) => out.sum_bits = bits,
            (4, Value::Varint(schema)) => out.schema = unzigzag(schema),
            (5, Value::Fixed(bits)) => out.zero_threshold = f64::from_bits(bits),
            (6, Value::Varint(count)) => out.zero_count = count as f64,
            (7, Value::Fixed(bits)) => out.zero_count = f64::from_bits(bits),
            (8, Value::Bytes(bytes)) => negative.span(bytes)?,
            (9, Value::Bytes(bytes)) => negative.deltas = zigzags(bytes)?,
            (10, Value::Bytes(bytes)) => negative.counts = doubles(bytes)?,
            (11, Value::Bytes(bytes)) => positive.span(bytes)?,
            (12, Value::Bytes(bytes)) => positive.deltas = zigzags(bytes)?,
            (13, Value::Bytes(bytes)) => positive.counts = doubles(bytes)?,
            (14, Value::Varint(_)) => {}
            (15, Value::Varint(ms)) => out.ms = ms.cast_signed(),
            (17, Value::Varint(ms)) if version == Version::V2 => out.start_ms = ms.cast_signed(),
            (field, _) => return unknown("a histogram", field),
        }
    }
    check(counted == 1, || format!("{counted} counts in a histogram"))?;
    check((-4..=8).contains(&out.schema), || format!("schema {}", out.schema))?;
    (out.negative, out.positive) = (negative.buckets()?, positive.buckets()?);
    Ok(out)
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn zigzags(bytes: &[u8]) -> Result<Vec<i64>> {
    let (mut packed, mut out) = (Fields(bytes), Vec::new());
    while !packed.0.is_empty() {
        out.push(unzigzag(packed.varint()?));
    }
    Ok(out)
}

fn doubles(bytes: &[u8]) -> Result<Vec<f64>> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    check(rest.is_empty(), || "packed doubles cut short".into())?;
    Ok(chunks.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect())
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|error| Malformed(error.to_string()))
}

/// The value of a field.
enum Value<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// Protobuf fields that are left.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64> {
        let mut out = 0u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) =
                self.0.split_first().ok_or_else(|| Malformed("a varint cut short".into()))?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            check(shift < 63 || bits < 2, || "a varint beyond 64 bits".into())?;
            out |= bits << shift;
            if byte & 0x80 == 0 {
                check(*byte != 0 || shift == 0, || "a varint longer than needed".into())?;
                return Ok(out);
            }
        }
        Err(Malformed("a varint without end".into()))
    }

    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                let (head, rest) = self
                    .0
                    .split_first_chunk::<8>()
                    .ok_or_else(|| Malformed("eight bytes cut short".into()))?;
                self.0 = rest;
                Value::Fixed(u64::from_le_bytes(*head))
            }
            2 => {
                let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let (head, rest) = self
                    .0
                    .split_at_checked(len)
                    .ok_or_else(|| Malformed("a field cut short".into()))?;
                self.0 = rest;
                Value::Bytes(head)
            }
            other => return Err(Malformed(format!("wire type {other}"))),
        };
        Ok(Some((tag >> 3, value)))
    }
}

/// True when no two series of a request have the same labels and time: what a store may refuse.
pub fn is_distinct(request: &Request) -> bool {
    let mut seen = HashSet::new();
    request.series.iter().all(|series| {
        let times = series.samples.iter().map(|sample| sample.ms);
        let times = times.chain(series.histograms.iter().map(|histogram| histogram.ms));
        times.into_iter().all(|ms| seen.insert((series.labels.clone(), ms)))
    })
}
