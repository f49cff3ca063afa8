//! Bytes that are no request: refused as a whole, with the place, and nothing taken.

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{ExponentialHistogram, Histogram, Summary};
use proptest::prelude::*;

use super::super::{ReadError, ReadSettings};
use super::*;

/// A request with everything in it.
fn rich() -> Vec<u8> {
    let now = NOW.cast_unsigned();
    let mut with_exemplar = point(&[("a", "1"), ("b", "2")], now, Number::AsInt(3));
    with_exemplar.exemplars = vec![opentelemetry_proto::tonic::metrics::v1::Exemplar {
        trace_id: vec![1; 16],
        filtered_attributes: vec![attribute("user", "u")],
        ..Default::default()
    }];
    let histograms = vec![histogram(&[("a", "1")], &[1, 2], &[0.5])];
    request(vec![
        of_resource(
            "p",
            vec![
                gauge("g", vec![point(&[("a", "1")], now, Number::AsDouble(0.5)), with_exemplar]),
                metric(
                    "h",
                    Data::Histogram(Histogram {
                        data_points: histograms,
                        aggregation_temporality: 2,
                    }),
                ),
                metric(
                    "e",
                    Data::ExponentialHistogram(ExponentialHistogram {
                        data_points: vec![Default::default()],
                        aggregation_temporality: 1,
                    }),
                ),
                metric("q", Data::Summary(Summary { data_points: vec![Default::default()] })),
            ],
        ),
        of_resource("q", vec![counter("c", 2, vec![point(&[], now, Number::AsInt(1))])]),
    ])
    .encode_to_vec()
}

#[test]
fn a_truncated_body_takes_nothing() {
    let body = rich();
    let (fresh, used) = (reader(), reader());
    let (whole, _) = read(&used, &body);
    let ends: Vec<usize> = (0..body.len())
        .filter(|len| {
            let mut out = Vec::new();
            let fresh = fresh.read(&body[..*len], NOW, &mut out);
            let used = used.read(&body[..*len], NOW, &mut out);
            assert_eq!(fresh.is_ok(), used.is_ok(), "cut after {len} bytes");
            if fresh.is_err() {
                assert!(out.is_empty());
            }
            fresh.is_ok()
        })
        .collect();
    // It is whole again only where a resource ends.
    assert_eq!(ends.len(), 2, "{ends:?}");
    // And in the end it is as if nothing had been.
    let (again, stats) = read(&used, &body);
    assert_eq!(facts::of_batches(&again), facts::of_batches(&whole));
    assert_eq!((stats.points, stats.rejected), (6, 0));
}

#[test]
fn errors_say_where() {
    let cases: [(&[u8], usize, &str); 9] = [
        (b"\x0a", 1, "truncated varint"),
        (b"\x0a\x05\x12", 2, "length beyond the end of the message"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10, "length beyond the end of the message"),
        (
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            11,
            "length beyond the end of the message",
        ),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10, "varint of more than 64 bits"),
        (b"\x02\x00", 1, "field number out of range"),
        (b"\x08\x01", 2, "wrong wire type for a known field"),
        (b"\x0a\x00\x53", 3, "wire type that proto3 does not have"),
        (b"\x0a\x02\x08\x01", 4, "wrong wire type for a known field"),
    ];
    for (body, at, expected) in cases {
        let ReadError::Protobuf { offset, what } = read_err(&reader(), body) else { panic!() };
        assert_eq!((offset, what), (at, expected), "{body:?}");
    }
}

#[test]
fn lengths_that_cannot_be_within_a_point() {
    // The last field of the only point: its attributes.
    let body = body(vec![gauge("g", vec![point(&[("key", "value")], 1, Number::AsInt(1))])]);
    let at = body.windows(5).position(|w| w == b"value").unwrap() - 1;
    for len in [6_u8, 0x7f, 0x80, 0xff] {
        let mut body = body.clone();
        body[at] = len;
        read_err(&reader(), &body);
    }
}

#[test]
fn values_within_each_other() {
    // By hand: the generated types would overflow the stack.
    let varint = |mut value: usize| {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let field = |tag: u8, content: Vec<u8>| [vec![tag], varint(content.len()), content].concat();
    let nested = |depth: usize| {
        let mut value = text("x").encode_to_vec();
        for _ in 0..depth {
            value = field(0x2a, field(0x0a, value));
        }
        let pair = [field(0x0a, b"k".to_vec()), field(0x12, value)].concat();
        let value = [&[0x21][..], &1.0_f64.to_le_bytes()].concat();
        let deep = field(0x0a, [field(0x3a, pair), value.clone()].concat());
        let data = [deep, field(0x0a, value)].concat();
        let metric = [field(0x0a, b"g".to_vec()), field(0x2a, data)].concat();
        field(0x0a, field(0x12, field(0x12, metric)))
    };
    assert_eq!(rejected(&read(&reader(), &nested(16)).1), "");
    assert_eq!(rejected(&read(&reader(), &nested(17)).1), "bad_attribute_value 1");
    let settings = ReadSettings { value_bytes_max: usize::MAX, ..ReadSettings::default() };
    let reader = MetricsReader::new(settings, Arc::new(Interner::new()));
    assert_eq!(rejected(&read(&reader, &nested(20_000)).1), "bad_attribute_value 1");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any damage gives an error or some other request, never a panic.
    #[test]
    fn damage(at in 0..rich().len(), byte: u8) {
        let mut body = rich();
        body[at] = byte;
        let reader = reader();
        read(&reader, &rich());
        let mut out = Vec::new();
        if reader.read(&body, NOW, &mut out).is_err() {
            prop_assert!(out.is_empty());
        }
        // The walk does not care how often it is damaged.
        let mut again = Vec::new();
        let mut twice = out.clone();
        twice.clear();
        prop_assert_eq!(
            reader.read(&body, NOW, &mut again).is_err(),
            reader.read(&body, NOW, &mut twice).is_err()
        );
    }

    #[test]
    fn any_bytes(body in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut out = Vec::new();
        if reader().read(&body, NOW, &mut out).is_err() {
            prop_assert!(out.is_empty());
        }
    }
}
