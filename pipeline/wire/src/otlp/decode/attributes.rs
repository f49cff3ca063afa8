//! Attributes, resources and scopes, decoded with limits: the slow path, taken once per identity.

use std::str;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pipeline_model::{Interner, Label, Labels, Resource, Scope, Str, Value};

use super::cursor::{Cursor, Fault, Field};
use super::{ReadSettings, Reason};

/// Arrays and key-value lists within each other.
const DEPTH_MAX: usize = 16;

/// Why something is not taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// This alone is rejected.
    Reject(Reason),
    /// The whole body is malformed.
    Fault(Fault),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::Reject(reason)
    }
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    str::from_utf8(bytes).map_err(|_| Refusal::Reject(Reason::Text))
}

/// What is needed to take something new in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder<'a> {
    pub(super) settings: &'a ReadSettings,
    pub(super) interner: &'a Interner,
    /// Bytes that the reader holds.
    pub(super) held: &'a AtomicUsize,
}

impl Decoder<'_> {
    /// Accounts for `bytes` more; false, and nothing done, when there is no room for them.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        // Threads that reserve at once may go over by what they take: a limit on memory need not be sharper.
        let room = self.held.load(Relaxed).saturating_add(bytes) <= self.settings.bytes_max;
        if room {
            self.held.fetch_add(bytes, Relaxed);
        }
        room
    }

    /// The `KeyValue` fields of number `number` in `message`.
    pub(super) fn labels(&self, message: &[u8], number: u32) -> Result<Labels, Refusal> {
        let mut labels = Vec::new();
        let mut cursor = Cursor::new(message);
        while let Some((found, field)) = cursor.next()? {
            match field {
                Field::Bytes(pair) if found == number => {
                    if labels.len() >= self.settings.attributes_max {
                        return Err(Reason::Attributes.into());
                    }
                    let (name, value) = self.pair(pair, 0)?;
                    if name.is_empty() || name.len() > self.settings.name_bytes_max {
                        return Err(Reason::Name.into());
                    }
                    labels.push(Label { name, value });
                }
                _ if found == number => return Err(cursor.wrong_type().into()),
                _ => {}
            }
        }
        Ok(self.interner.labels(&Labels::new(labels)))
    }

    /// A `KeyValue`.
    fn pair(&self, message: &[u8], depth: usize) -> Result<(Str, Value), Refusal> {
        let (mut key, mut value): (&[u8], Option<&[u8]>) = (b"", None);
        let mut merged = Vec::new();
        let mut cursor = Cursor::new(message);
        while let Some(field) = cursor.next()? {
            match field {
                (1, Field::Bytes(bytes)) => key = bytes,
                (2, Field::Bytes(bytes)) if value.is_none() => value = Some(bytes),
                (2, Field::Bytes(bytes)) => {
                    merged.extend_from_slice(value.filter(|_| merged.is_empty()).unwrap_or(b""));
                    merged.extend_from_slice(bytes);
                }
                (1 | 2, _) => return Err(cursor.wrong_type().into()),
                _ => {}
            }
        }
        let value = if merged.is_empty() { value.unwrap_or(b"") } else { &merged };
        if value.len() > self.settings.value_bytes_max {
            return Err(Reason::Value.into());
        }
        Ok((self.interner.str(text(key)?), self.value(value, depth)?))
    }

    /// An `AnyValue`: of several values the last counts.
    fn value(&self, message: &[u8], depth: usize) -> Result<Value, Refusal> {
        if depth > DEPTH_MAX {
            return Err(Reason::Value.into());
        }
        let mut value = Value::Empty;
        let mut cursor = Cursor::new(message);
        while let Some(field) = cursor.next()? {
            value = match field {
                (1, Field::Bytes(bytes)) => Value::Str(self.interner.str(text(bytes)?)),
                (2, Field::Varint(flag)) => Value::Bool(flag != 0),
                (3, Field::Varint(int)) => Value::Int(int.cast_signed()),
                (4, Field::Fixed64(bits)) => Value::Double(f64::from_bits(bits)),
                (5, Field::Bytes(bytes)) => Value::List(self.list(bytes, depth)?),
                (6, Field::Bytes(bytes)) => Value::Map(self.map(bytes, depth)?),
                (7, Field::Bytes(bytes)) => Value::Bytes(bytes.into()),
                (1..=7, _) => return Err(cursor.wrong_type().into()),
                _ => value,
            };
        }
        Ok(value)
    }

    fn list(&self, message: &[u8], depth: usize) -> Result<Arc<[Value]>, Refusal> {
        let mut items = Vec::new();
        let mut cursor = Cursor::new(message);
        while let Some(field) = cursor.next()? {
            match field {
                (1, Field::Bytes(item)) => items.push(self.value(item, depth + 1)?),
                (1, _) => return Err(cursor.wrong_type().into()),
                _ => {}
            }
        }
        Ok(items.into())
    }

    fn map(&self, message: &[u8], depth: usize) -> Result<Arc<[(Str, Value)]>, Refusal> {
        let mut items = Vec::new();
        let mut cursor = Cursor::new(message);
        while let Some(field) = cursor.next()? {
            match field {
                (1, Field::Bytes(item)) => items.push(self.pair(item, depth + 1)?),
                (1, _) => return Err(cursor.wrong_type().into()),
                _ => {}
            }
        }
        Ok(items.into())
    }

    /// A name or unit, a schema or version.
    pub(super) fn name(&self, bytes: &[u8]) -> Result<Str, Refusal> {
        if bytes.len() > self.settings.name_bytes_max {
            return Err(Reason::Name.into());
        }
        Ok(self.interner.str(text(bytes)?))
    }

    /// A `Resource`.
    pub(super) fn resource(&self, message: &[u8], schema: &[u8]) -> Result<Resource, Refusal> {
        Ok(Resource { attributes: self.labels(message, 1)?, schema_url: self.name(schema)? })
    }

    /// An `InstrumentationScope`.
    pub(super) fn scope(&self, message: &[u8], schema: &[u8]) -> Result<Scope, Refusal> {
        let (mut name, mut version): (&[u8], &[u8]) = (b"", b"");
        let mut cursor = Cursor::new(message);
        while let Some(field) = cursor.next()? {
            match field {
                (1, Field::Bytes(bytes)) => name = bytes,
                (2, Field::Bytes(bytes)) => version = bytes,
                (1 | 2, _) => return Err(cursor.wrong_type().into()),
                _ => {}
            }
        }
        Ok(Scope {
            name: self.name(name)?,
            version: self.name(version)?,
            attributes: self.labels(message, 3)?,
            schema_url: self.name(schema)?,
        })
    }
}
