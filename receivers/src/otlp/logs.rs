//! How many log records a request has. Nothing takes logs yet, so this is all that is known of them; whatever will take
//! them starts here.

use std::fmt;
use std::marker::PhantomData;

use pipeline_wire::otlp::ReadError;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::reply::Format;

/// Counts the records of an `ExportLogsServiceRequest` without keeping any of it.
///
/// # Errors
/// When the bytes are no such message.
pub(super) fn count(body: &[u8], format: Format) -> Result<u64, ReadError> {
    match format {
        // resource_logs, then scope_logs, then log_records.
        Format::Protobuf => count_nested(body, &[1, 2, 2])
            .map_err(|(rest, what)| ReadError::Protobuf { offset: body.len() - rest, what }),
        Format::Json => {
            let logs: Logs = serde_json::from_slice(body).map_err(|error| ReadError::Json {
                at: format!("line {} column {}", error.line(), error.column()),
                what: error.to_string(),
            })?;
            Ok(records(logs.resource_logs.as_ref()))
        }
    }
}

/// Where a message is broken, as the bytes that remain, and how.
type Broken = (usize, &'static str);

/// Counts the messages at the end of a path of field numbers.
fn count_nested(mut message: &[u8], path: &[u64]) -> Result<u64, Broken> {
    let Some((&wanted, below)) = path.split_first() else { return Ok(1) };
    let mut found = 0;
    while !message.is_empty() {
        let (key, rest) = varint(message)?;
        let (field, kind) = (key >> 3, key & 7);
        message = match kind {
            0 => varint(rest)?.1,
            1 => skip(rest, 8)?,
            2 => {
                let (length, rest) = varint(rest)?;
                let after = skip(rest, length)?;
                if field == wanted {
                    let inner = rest.get(..rest.len() - after.len()).unwrap_or_default();
                    let broken = |(left, what): Broken| (left + after.len(), what);
                    found += count_nested(inner, below).map_err(broken)?;
                }
                after
            }
            5 => skip(rest, 4)?,
            _ => return Err((message.len(), "a field of an unknown wire type")),
        };
    }
    Ok(found)
}

fn skip(bytes: &[u8], length: u64) -> Result<&[u8], Broken> {
    let rest = usize::try_from(length).ok().and_then(|length| bytes.get(length..));
    rest.ok_or((bytes.len(), "a field longer than its message"))
}

fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), Broken> {
    let mut value = 0;
    for (idx, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * idx);
        if byte < 0x80 {
            return Ok((value, bytes.get(idx + 1..).unwrap_or_default()));
        }
    }
    Err((bytes.len(), "a number that does not end"))
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Logs {
    resource_logs: Option<Sum<ResourceLogs>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ResourceLogs {
    scope_logs: Option<Sum<ScopeLogs>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ScopeLogs {
    log_records: Option<Sum<IgnoredAny>>,
}

/// A list of which only the number of records in it is kept.
struct Sum<T>(u64, PhantomData<T>);

fn records<T>(list: Option<&Sum<T>>) -> u64 {
    list.map_or(0, |list| list.0)
}

/// Something with log records in it.
trait Records {
    fn records(&self) -> u64;
}

impl Records for ResourceLogs {
    fn records(&self) -> u64 {
        records(self.scope_logs.as_ref())
    }
}

impl Records for ScopeLogs {
    fn records(&self) -> u64 {
        records(self.log_records.as_ref())
    }
}

impl Records for IgnoredAny {
    fn records(&self) -> u64 {
        1
    }
}

impl<'de, T: Deserialize<'de> + Records> Deserialize<'de> for Sum<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + Records> Visitor<'de> for List<T> {
            type Value = Sum<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Sum<T>, A::Error> {
                let mut found = 0;
                while let Some(one) = list.next_element::<T>()? {
                    found += one.records();
                }
                Ok(Sum(found, PhantomData))
            }
        }
        deserializer.deserialize_seq(List(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_at_their_place_only() {
        // resource_logs { resource {}; scope_logs { scope {}; 2 records; schema_url }; scope_logs { 1 record } }
        let one = [0x12, 0x02, 0x08, 0x01];
        let scope = [&[0x0a, 0x00][..], &one, &one, &[0x1a, 0x01, b's']].concat();
        let mut resource = vec![0x0a, 0x00, 0x12, scope.len() as u8];
        resource.extend(&scope);
        resource.extend([0x12, 0x02, 0x12, 0x00]);
        let mut body = vec![0x0a, resource.len() as u8];
        body.extend(&resource);
        assert_eq!(count(&body, Format::Protobuf), Ok(3));
        assert_eq!(count(b"", Format::Protobuf), Ok(0));
        for cut in [1, 3, 5, body.len() - 1] {
            assert!(count(&body[..cut], Format::Protobuf).is_err(), "cut at {cut}");
        }
        let huge = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        let error = count(&huge, Format::Protobuf).unwrap_err();
        assert_eq!(
            error,
            ReadError::Protobuf { offset: 10, what: "a field longer than its message" }
        );
    }

    #[test]
    fn json_records_are_counted() {
        let text = r#"{"resourceLogs":[{"resource":{},"scopeLogs":[{"logRecords":[{"a":[1]},{}]},
            {"logRecords":null}]},{"x":1}],"y":{}}"#;
        assert_eq!(count(text.as_bytes(), Format::Json), Ok(2));
        assert_eq!(count(br#"{"resourceLogs":null}"#, Format::Json), Ok(0));
        for wrong in ["", "[", "3", r#"{"resourceLogs":3}"#, &"[".repeat(100_000)] {
            assert!(count(wrong.as_bytes(), Format::Json).is_err());
        }
    }
}
