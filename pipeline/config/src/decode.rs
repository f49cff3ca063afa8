//! From the tree to any type: a serde deserializer whose errors know their path and say what was found.

use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
    value::{BorrowedStrDeserializer, MapAccessDeserializer, StrDeserializer},
};
use serde::forward_to_deserialize_any;

use crate::tree::{Entry, Node, Value};

/// Characters of a found value that a message repeats.
const FOUND_CHARS_MAX: usize = 60;

/// What went wrong, as data.
#[derive(Debug)]
pub(crate) enum Kind {
    Type { expected: String, found: String },
    Value { expected: String, found: String },
    Length { expected: String },
    UnknownKey { key: String, known: &'static [&'static str] },
    UnknownVariant { variant: String, known: &'static [&'static str] },
    Missing { key: &'static str },
    Custom(String),
}

/// A decoding error and where it arose; `path` runs from the value outwards while it is being made.
#[derive(Debug)]
pub(crate) struct DecodeError {
    pub kind: Box<Kind>,
    path: Vec<String>,
}

impl DecodeError {
    fn new(kind: Kind) -> Self {
        Self { kind: Box::new(kind), path: Vec::new() }
    }

    fn inside(mut self, segment: impl Into<String>) -> Self {
        self.path.push(segment.into());
        self
    }

    /// Keys and indexes from the section to the value.
    pub(crate) fn path(&self) -> Vec<String> {
        self.path.iter().rev().cloned().collect()
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.kind, self.path().join("."))
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Kind::Custom(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Kind::Type { expected: expected.to_string(), found: words(found) })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Kind::Value { expected: expected.to_string(), found: words(found) })
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::new(Kind::Length { expected: expected.to_string() })
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownVariant { variant: variant.to_owned(), known })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownKey { key: key.to_owned(), known })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Kind::Missing { key })
    }

    fn duplicate_field(key: &'static str) -> Self {
        Self::new(Kind::Custom(format!(
            "the key is given twice, also as `{key}`; keep one of them"
        )))
    }
}

/// A found value in words.
pub(crate) fn words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(b) => format!("`{b}`"),
        Unexpected::Unsigned(n) => format!("the integer {n}"),
        Unexpected::Signed(n) => format!("the integer {n}"),
        Unexpected::Float(n) => format!("the number {n}"),
        Unexpected::Str(text) => {
            let mut short: String = text.chars().take(FOUND_CHARS_MAX).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            format!("the string {short:?}")
        }
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

impl Node {
    fn unexpected(&self) -> Unexpected<'_> {
        match &self.value {
            Value::String(text) => Unexpected::Str(text),
            Value::Datetime(_) => Unexpected::Other("a date"),
            Value::Integer(n) => match (i64::try_from(*n), u64::try_from(*n)) {
                (Ok(n), _) => Unexpected::Signed(n),
                (_, Ok(n)) => Unexpected::Unsigned(n),
                _ => Unexpected::Other("an integer out of range"),
            },
            Value::Float(n) => Unexpected::Float(*n),
            Value::Boolean(b) => Unexpected::Bool(*b),
            Value::Array(_) => Unexpected::Seq,
            Value::Table(_) => Unexpected::Map,
        }
    }

    /// The value in words, for `found …`; content of files is not shown.
    pub(crate) fn found(&self) -> String {
        if self.is_from_file() {
            "the content of a file".to_owned()
        } else {
            words(self.unexpected())
        }
    }
}

/// Decodes a node.
#[derive(Clone, Copy)]
pub(crate) struct NodeDeserializer<'a>(pub &'a Node);

impl<'de> NodeDeserializer<'de> {
    /// The text, where it came from a substitution and so may stand for another type.
    fn substituted(&self) -> Option<&'de str> {
        match &self.0.value {
            Value::String(text) if self.0.substituted.is_some() => Some(text.trim()),
            _ => None,
        }
    }

    fn number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.substituted().and_then(|text| text.parse::<i128>().ok()) {
            Some(n) => integer(n, visitor),
            None => self.deserialize_any(visitor),
        }
    }

    fn float<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.substituted().and_then(|text| text.parse::<f64>().ok()) {
            Some(n) => visitor.visit_f64(n),
            None => self.deserialize_any(visitor),
        }
    }
}

fn integer<'de, V: Visitor<'de>>(n: i128, visitor: V) -> Result<V::Value, DecodeError> {
    if let Ok(n) = i64::try_from(n) {
        visitor.visit_i64(n)
    } else if let Ok(n) = u64::try_from(n) {
        visitor.visit_u64(n)
    } else {
        visitor.visit_i128(n)
    }
}

macro_rules! numbers {
    ($how:ident: $($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            self.$how(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for NodeDeserializer<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.0.value {
            Value::String(text) | Value::Datetime(text) => visitor.visit_borrowed_str(text),
            Value::Integer(n) => integer(*n, visitor),
            Value::Float(n) => visitor.visit_f64(*n),
            Value::Boolean(b) => visitor.visit_bool(*b),
            Value::Array(list) => visitor.visit_seq(List { items: list, next_idx: 0 }),
            Value::Table(_) => visitor.visit_map(Table::new(self.0)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.substituted().and_then(|text| text.parse::<bool>().ok()) {
            Some(b) => visitor.visit_bool(b),
            None => self.deserialize_any(visitor),
        }
    }

    numbers! { number: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
    deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 }
    numbers! { float: deserialize_f32 deserialize_f64 }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match &self.0.value {
            Value::String(text) => visitor.visit_enum(BorrowedStrDeserializer::new(text)),
            Value::Table(_) => visitor.visit_enum(MapAccessDeserializer::new(Table::new(self.0))),
            _ => Err(de::Error::invalid_type(self.0.unexpected(), &"string or map")),
        }
    }

    forward_to_deserialize_any! { char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
    identifier ignored_any }
}

impl<'de> IntoDeserializer<'de, DecodeError> for NodeDeserializer<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

struct List<'a> {
    items: &'a [Node],
    next_idx: usize,
}

impl<'de> SeqAccess<'de> for List<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        while let Some(node) = self.items.get(self.next_idx) {
            let idx = self.next_idx;
            self.next_idx += 1;
            if !node.skip {
                return seed
                    .deserialize(NodeDeserializer(node))
                    .map(Some)
                    .map_err(|e| e.inside(idx.to_string()));
            }
        }
        Ok(None)
    }
}

struct Table<'a> {
    entries: std::vec::IntoIter<(&'a String, &'a Entry)>,
    current: Option<(&'a String, &'a Entry)>,
}

impl<'a> Table<'a> {
    fn new(node: &'a Node) -> Self {
        Self { entries: node.entries().into_iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Table<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        self.current = self.entries.find(|(_, entry)| !entry.node.skip);
        let Some((name, _)) = self.current else { return Ok(None) };
        let key: StrDeserializer<'_, DecodeError> = name.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|e| e.inside(name))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        let Some((name, entry)) = self.current else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(NodeDeserializer(&entry.node)).map_err(|e| e.inside(name))
    }
}
