//! The JSON encoding: the specification's examples, and what decoders tend to lose.

use expect_test::{Expect, expect};

use super::facts::of_batches;
use super::*;

fn read_json(body: &str) -> (Vec<Batch>, ReadStats) {
    let mut out = Vec::new();
    let stats = reader().read_json(body.as_bytes(), NOW, &mut out).unwrap();
    (out, stats)
}

#[expect(clippy::needless_pass_by_value, reason = "as written where it is called")]
fn check(body: &str, expect: Expect) {
    let (batches, stats) = read_json(body);
    let text = of_batches(&batches).join("\n") + "\n" + &rejected(&stats);
    expect.assert_eq(text.trim_end());
}

fn gauge_of(point: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"g","gauge":{{"dataPoints":[{point}]}}}}]}}]}}]}}"#
    )
}

/// opentelemetry-proto, examples/metrics.json.
#[test]
fn the_example() {
    check(
        r#"{
  "resourceMetrics": [{
    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]},
    "scopeMetrics": [{
      "scope": {
        "name": "my.library", "version": "1.0.0",
        "attributes": [{"key": "my.scope.attribute", "value": {"stringValue": "some scope attribute"}}]
      },
      "metrics": [
        {
          "name": "my.counter", "unit": "1", "description": "I am a Counter",
          "sum": {
            "aggregationTemporality": 1, "isMonotonic": true,
            "dataPoints": [{
              "asDouble": 5, "startTimeUnixNano": "1544712660300000000", "timeUnixNano": "1544712660300000000",
              "attributes": [{"key": "my.counter.attr", "value": {"stringValue": "some value"}}]
            }]
          }
        },
        {
          "name": "my.gauge", "unit": "1", "description": "I am a Gauge",
          "gauge": {"dataPoints": [{
            "asDouble": 10, "timeUnixNano": "1544712660300000000",
            "attributes": [{"key": "my.gauge.attr", "value": {"stringValue": "some value"}}]
          }]}
        },
        {
          "name": "my.histogram", "unit": "1", "description": "I am a Histogram",
          "histogram": {
            "aggregationTemporality": 1,
            "dataPoints": [{
              "startTimeUnixNano": "1544712660300000000", "timeUnixNano": "1544712660300000000",
              "count": 2, "sum": 2, "bucketCounts": [1, 1], "explicitBounds": [1], "min": 0, "max": 2,
              "attributes": [{"key": "my.histogram.attr", "value": {"stringValue": "some value"}}]
            }]
          }
        },
        {
          "name": "my.exponential.histogram", "unit": "1", "description": "I am an Exponential Histogram",
          "exponentialHistogram": {
            "aggregationTemporality": 1,
            "dataPoints": [{
              "startTimeUnixNano": "1544712660300000000", "timeUnixNano": "1544712660300000000",
              "count": 3, "sum": 10, "scale": 0, "zeroCount": 1,
              "positive": {"offset": 1, "bucketCounts": [0, 2]}, "min": 0, "max": 5, "zeroThreshold": 0,
              "attributes": [{"key": "my.exponential.histogram.attr", "value": {"stringValue": "some value"}}]
            }]
          }
        }
      ]
    }]
  }]
}"#,
        expect![[r#"
            {service.name="my.service"}  | my.library 1.0.0 {my.scope.attribute="some scope attribute"}  | my.counter 1 sum true 1 | {my.counter.attr="some value"} {} | (1544712660300000000, 1544712660300000000) | 5.0 []
            {service.name="my.service"}  | my.library 1.0.0 {my.scope.attribute="some scope attribute"}  | my.exponential.histogram 1 exponential 1 | {my.exponential.histogram.attr="some value"} {} | (1544712660300000000, 1544712660300000000) | [10.0, 3.0] Some(ExponentialPoint { scale: 0, zero_count: 1.0, zero_threshold: 0.0, positive: ExponentialBuckets { offset: 1, counts: [0.0, 2.0] }, negative: ExponentialBuckets { offset: 0, counts: [] }, min: Some(0.0), max: Some(5.0) }) []
            {service.name="my.service"}  | my.library 1.0.0 {my.scope.attribute="some scope attribute"}  | my.gauge 1 gauge | {my.gauge.attr="some value"} {} | (1544712660300000000, 0) | 10.0 []
            {service.name="my.service"}  | my.library 1.0.0 {my.scope.attribute="some scope attribute"}  | my.histogram 1 histogram 1 | {my.histogram.attr="some value"} {} | (1544712660300000000, 1544712660300000000) | [2.0, 2.0] [0.0, 2.0] [1.0] [1.0] []"#]],
    );
}

#[test]
fn numbers_as_text_and_text_as_numbers() {
    for (value, expected) in [
        (r#""asInt":"-9007199254740993""#, "-9007199254740992.0"),
        (r#""asInt":5"#, "5.0"),
        (r#""asInt":"1e3""#, "1000.0"),
        (r#""asInt":2.0"#, "2.0"),
        (r#""asDouble":"NaN""#, "NaN"),
        (r#""asDouble":"-Infinity""#, "-inf"),
        (r#""asDouble":"0.1""#, "0.1"),
        (r#""asDouble":7"#, "7.0"),
        (r#""asDouble":0.30000000000000004"#, "0.30000000000000004"),
        (r#""asDouble":1.7976931348623157e308"#, "1.7976931348623157e308"),
    ] {
        let (batches, _) = read_json(&gauge_of(&format!("{{{value}}}")));
        let found = of_batches(&batches).concat();
        assert!(found.ends_with(&format!("| {expected} []")), "{value}: {found}");
    }
}

#[test]
fn nothing_is_nothing() {
    for body in [
        "{}",
        r#"{"resourceMetrics":null}"#,
        r#"{"resourceMetrics":[]}"#,
        r#"{"resourceMetrics":[{"scopeMetrics":null}]}"#,
        r#"{"resourceMetrics":[{}],"unknown":{"deep":[1,{"x":null}]}}"#,
        r#"{"resource_metrics":[{"scope_metrics":[{"metrics":[{"name":"snake"}]}]}]}"#,
    ] {
        let (batches, stats) = read_json(body);
        assert_eq!((batches.len(), stats), (0, ReadStats::default()), "{body}");
    }
}

#[test]
fn null_and_unknown_fields_lose_no_point() {
    check(
        &gauge_of(
            r#"{"attributes":null,"asInt":"1","exemplars":null,"newField":[{}]},
               {"attributes":[{"key":"a","value":null},{"key":"b","value":{}},{"key":"c"},
                              {"key":"d","value":{"newValue":1}}],"asInt":"2","timeUnixNano":null}"#,
        ),
        expect![[r#"
            {}  |   {}  | g  gauge | {a="",b="",c="",d=""} {} | (1800000000000000000, 0) | 2.0 []
            {}  |   {}  | g  gauge | {} {} | (1800000000000000000, 0) | 1.0 []"#]],
    );
}

#[test]
fn every_kind_of_value() {
    check(
        &gauge_of(
            r#"{"attributes":[
                {"key":"bool","value":{"boolValue":true}}, {"key":"int","value":{"intValue":"-7"}},
                {"key":"double","value":{"doubleValue":"Infinity"}}, {"key":"bytes","value":{"bytesValue":"_-8"}},
                {"key":"list","value":{"arrayValue":{"values":[{"stringValue":"\u00fc\ud83d\ude00"},{"intValue":1},{}]}}},
                {"key":"map","value":{"kvlistValue":{"values":[{"key":"k","value":{"boolValue":false}}]}}}],
               "exemplars":[{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","asDouble":1,
                             "timeUnixNano":5,"filteredAttributes":[{"key":"f","value":{"stringValue":"x"}}]}],
               "asDouble":1}"#,
        ),
        expect![[
            r#"{}  |   {}  | g  gauge | {bool="true",bytes="\"ffef\"",double="\"inf\"",int="-7",list="[\"ü😀\",1,null]",map="{\"k\":false}"} {} | (1800000000000000000, 0) | 1.0 ["1 5 {f=\"x\",span_id=\"eee19b7ec3c1b174\",trace_id=\"5b8efff798038103d269b633813fc60c\"}"]"#
        ]],
    );
}

#[test]
fn a_metric_without_data_is_counted() {
    let (_, stats) = read_json(
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"a","newKind":{"dataPoints":[{}]}},
           {"name":"b","gauge":{"dataPoints":[{"newValue":1}]}}]}]}]}"#,
    );
    assert_eq!((rejected(&stats), stats.points), ("no_value 2".into(), 2));
}

#[expect(clippy::needless_pass_by_value, reason = "as written where it is called")]
fn check_error(body: &str, expect: Expect) {
    let mut out = Vec::new();
    let error = reader().read_json(body.as_bytes(), NOW, &mut out).unwrap_err();
    assert!(out.is_empty());
    expect.assert_eq(&error.to_string());
}

#[test]
fn errors_say_where() {
    check_error("", expect!["malformed JSON at line 1 column 0: EOF while parsing a value"]);
    check_error(
        "[]",
        expect![[
            r#"malformed JSON at line 1 column 0: invalid type: sequence, expected an object with "resourceMetrics" and the like"#
        ]],
    );
    check_error("{} x", expect!["malformed JSON at line 1 column 4: trailing characters"]);
    check_error(
        &gauge_of(r#"{"asInt":"many"}"#),
        expect![[
            r#"malformed JSON at line 1 column 99: asInt: expected an integer of 64 bits, found a text"#
        ]],
    );
    check_error(
        &gauge_of(r#"{"asInt":1.5}"#),
        expect![
            "malformed JSON at line 1 column 96: asInt: expected an integer of 64 bits, found 1.5"
        ],
    );
    check_error(
        &gauge_of(r#"{"asInt":9223372036854775808}"#),
        expect![
            "malformed JSON at line 1 column 112: asInt: expected an integer of 64 bits, found 9223372036854775808"
        ],
    );
    check_error(
        &gauge_of(r#"{"flags":-1}"#),
        expect![
            "malformed JSON at line 1 column 95: flags: expected an integer from 0 to 2^32 - 1, found -1"
        ],
    );
    check_error(
        &gauge_of(r#"{"attributes":{"a":"b"}}"#),
        expect![
            "malformed JSON at line 1 column 99: attributes: expected a list of an object, found an object"
        ],
    );
    check_error(
        &gauge_of(r#"{"attributes":[null]}"#),
        expect!["malformed JSON at line 1 column 103: attributes: expected an object, found null"],
    );
    check_error(
        &gauge_of(r#"{"asDouble":[1]}"#),
        expect!["malformed JSON at line 1 column 97: asDouble: expected a number, found a list"],
    );
    check_error(
        &gauge_of(r#"{"exemplars":[{"traceId":"xyz"}]}"#),
        expect![[
            r#"malformed JSON at line 1 column 114: traceId: expected hex digits, found a text"#
        ]],
    );
    check_error(
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"sum":{"aggregationTemporality":"DELTA"}}]}]}]}"#,
        expect![[
            r#"malformed JSON at line 1 column 89: aggregationTemporality: expected the number of an enum, found a text"#
        ]],
    );
    check_error(
        &"[".repeat(100_000),
        expect![[
            r#"malformed JSON at line 1 column 0: invalid type: sequence, expected an object with "resourceMetrics" and the like"#
        ]],
    );
    check_error(
        &format!(r#"{{"x":{}"#, "[".repeat(100_000)),
        expect!["malformed JSON at line 1 column 100005: EOF while parsing a list"],
    );
}
