//! Numbered points: an OTLP client that remembers what it was told had been taken, to hold a backend's ledger against.
//!
//! The `n`th request of a source has one point for each of its series, of value `n`, whose time is `n` milliseconds after
//! the source began: wherever it ends up, a point's time says which one it is.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

/// The metric that a source sends; remote write names it so and adds nothing.
pub const NUMBERED: &str = "numbered_total";
/// The attribute that tells the series of all sources apart.
pub const NUMBERED_SERIES: &str = "series";

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The value of `Retry-After`.
    pub retry_after: Option<String>,
}

/// One client of its own resource.
#[derive(Debug)]
pub struct Source {
    address: String,
    name: String,
    series: usize,
    began_ms: i64,
    next: i64,
    line: Option<BufReader<TcpStream>>,
    sent: BTreeMap<String, HashSet<i64>>,
    unsure: HashSet<i64>,
    moves: usize,
    taken_at: BTreeMap<i64, (Instant, usize)>,
}

fn attribute(key: &str, text: &str) -> KeyValue {
    let value = Some(any_value::Value::StringValue(text.to_owned()));
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value }), ..KeyValue::default() }
}

impl Source {
    /// A client of the OTLP/HTTP receiver at `address`, of `series` series, whose names begin with `name`.
    pub fn new(address: &str, name: &str, series: usize) -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self {
            address: address.to_owned(),
            name: name.to_owned(),
            series,
            began_ms: began.as_millis() as i64,
            next: 1,
            line: None,
            sent: BTreeMap::new(),
            unsure: HashSet::new(),
            moves: 0,
            taken_at: BTreeMap::new(),
        }
    }

    /// The same client, with another address for the receiver: it came back after a restart.
    pub fn move_to(&mut self, address: &str) {
        address.clone_into(&mut self.address);
        self.line = None;
        self.moves += 1;
    }

    fn labels(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.series).map(|series| format!("{}-{series}", self.name))
    }

    /// The `n`th request.
    pub fn request(&self, n: i64) -> ExportMetricsServiceRequest {
        let data_points = self.labels().map(|label| NumberDataPoint {
            attributes: vec![attribute(NUMBERED_SERIES, &label)],
            start_time_unix_nano: self.began_ms as u64 * 1_000_000,
            time_unix_nano: (self.began_ms + n) as u64 * 1_000_000,
            value: Some(number_data_point::Value::AsInt(n)),
            ..NumberDataPoint::default()
        });
        let sum = Sum {
            data_points: data_points.collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        };
        let metric =
            Metric { name: NUMBERED.to_owned(), data: Some(Data::Sum(sum)), ..Metric::default() };
        let attributes =
            vec![attribute("service.name", "source"), attribute("service.instance.id", &self.name)];
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(Resource { attributes, ..Resource::default() }),
                scope_metrics: vec![ScopeMetrics {
                    metrics: vec![metric],
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        }
    }

    /// Sends the next request once. Its number is used up when it was taken, or when the connection broke before an
    /// answer: then nobody knows.
    pub fn send(&mut self) -> Option<Reply> {
        let number = self.next;
        let reply = self.attempt(&self.request(number).encode_to_vec());
        match &reply {
            Some(reply) if reply.status == 200 => {
                for label in (0..self.series).map(|series| format!("{}-{series}", self.name)) {
                    self.sent.entry(label).or_default().insert(self.began_ms + number);
                }
                self.taken_at.insert(self.began_ms + number, (Instant::now(), self.moves));
                self.next += 1;
            }
            Some(_) => {}
            None => {
                self.unsure.insert(self.began_ms + number);
                self.next += 1;
            }
        }
        reply
    }

    /// Sends a request of any content once.
    fn attempt(&mut self, body: &[u8]) -> Option<Reply> {
        let reply = self.exchange(body);
        if reply.is_none() {
            self.line = None;
        }
        reply
    }

    fn exchange(&mut self, body: &[u8]) -> Option<Reply> {
        if self.line.is_none() {
            let stream = TcpStream::connect(&self.address).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
            stream.set_nodelay(true).ok()?;
            self.line = Some(BufReader::new(stream));
        }
        let line = self.line.as_mut()?;
        let mut request = format!(
            "POST /v1/metrics HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        line.get_mut().write_all(&request).ok()?;
        let (mut status, mut length, mut retry_after) = (0, 0, None);
        loop {
            let mut text = String::new();
            if line.read_line(&mut text).ok()? == 0 {
                return None;
            }
            let text = text.trim_end();
            if let Some(rest) = text.strip_prefix("HTTP/1.1 ") {
                status = rest.get(..3)?.parse().ok()?;
            } else if let Some((name, value)) = text.split_once(": ") {
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.parse().ok()?,
                    "retry-after" => retry_after = Some(value.to_owned()),
                    _ => {}
                }
            } else if text.is_empty() {
                break;
            }
        }
        line.read_exact(&mut vec![0; length]).ok()?;
        Some(Reply { status, retry_after })
    }

    /// Sends `requests` requests, each until it is taken.
    pub fn send_all(&mut self, requests: usize) {
        for _ in 0..requests {
            crate::wait_until("a request is taken", Duration::from_secs(30), || {
                let reply = self.send().expect("the receiver answers");
                assert!(matches!(reply.status, 200 | 429 | 503), "{reply:?}");
                (reply.status == 200).then_some(())
            });
        }
    }

    /// Adds what was taken to `sent`, as [`crate::Ledger::judge`] wants it.
    pub fn add_to(&self, sent: &mut BTreeMap<String, HashSet<i64>>) {
        for (label, times) in &self.sent {
            sent.entry(label.clone()).or_default().extend(times);
        }
    }

    /// What was taken: for each series its times in milliseconds.
    pub fn sent(&self) -> &BTreeMap<String, HashSet<i64>> {
        &self.sent
    }

    /// Times of requests of which nobody knows whether they were taken.
    pub fn unsure(&self) -> &HashSet<i64> {
        &self.unsure
    }

    /// When each request that was taken, by the time of its points, was answered, and after how many moves.
    pub fn taken_at(&self) -> &BTreeMap<i64, (Instant, usize)> {
        &self.taken_at
    }

    /// Points that were taken.
    pub fn points(&self) -> usize {
        self.sent.values().map(HashSet::len).sum()
    }

    /// When it began, in milliseconds: the time of the point 0.
    pub fn began_ms(&self) -> i64 {
        self.began_ms
    }
}

/// Sends one request to the OTLP/HTTP receiver at `address`; `None` when there is no answer.
pub fn post_otlp(address: &str, request: &ExportMetricsServiceRequest) -> Option<Reply> {
    Source::new(address, "", 0).attempt(&request.encode_to_vec())
}
