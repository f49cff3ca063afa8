//! OTLP's JSON, translated to protobuf as it is read.
//!
//! One reader then serves both encodings. Nothing is lost silently: what is known must be of its type, what is not
//! known is skipped, as the specification wants it, and null is the same as nothing.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::ReadError;
use schema::{FieldSpec, Fields, Type};

mod schema;

/// The protobuf of the `ExportMetricsServiceRequest` in `body`.
///
/// # Errors
/// When it is none.
pub(super) fn translate(body: &[u8]) -> Result<Vec<u8>, ReadError> {
    let mut out = Vec::with_capacity(body.len() / 2);
    let mut json = serde_json::Deserializer::from_slice(body);
    let request = Object { fields: &schema::REQUEST, out: &mut out };
    match json.deserialize_map(request).and_then(|()| json.end()) {
        Ok(()) => Ok(out),
        Err(error) => {
            let text = error.to_string();
            let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
            let at = format!("line {} column {}", error.line(), error.column());
            Err(ReadError::Json { at, what: what.into() })
        }
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a field of bytes whose content `write` appends.
fn delimited<T, E>(
    number: u32,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
) -> Result<T, E> {
    varint(u64::from(number) << 3 | 2, out);
    let start = out.len();
    let written = write(out)?;
    let len = out.len() - start;
    varint(len as u64, out);
    // The length, now at the end, belongs before the content.
    if let Some(field) = out.get_mut(start..) {
        field.rotate_left(len);
    }
    Ok(written)
}

/// Finds the field of a key.
struct Key(&'static Fields);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<&'static FieldSpec>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<&'static FieldSpec>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.0.iter().find(|field| field.name == key))
    }
}

/// The fields of a message, in whatever order they come.
struct Object<'o> {
    fields: &'static Fields,
    out: &'o mut Vec<u8>,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fields.0.first() {
            Some(first) => write!(f, "an object with \"{}\" and the like", first.name),
            None => f.write_str("an object"),
        }
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(field) = map.next_key_seed(Key(self.fields))? {
            match field {
                Some(field) => map.next_value_seed(Value { field, out: self.out, item: false })?,
                None => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Ok(())
    }
}

/// The content of a message.
impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

/// The value of a field, or an item of a repeated one.
struct Value<'o> {
    field: &'static FieldSpec,
    out: &'o mut Vec<u8>,
    item: bool,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl Value<'_> {
    fn is_list(&self) -> bool {
        self.field.repeated && !self.item
    }

    fn put<E: Error>(self, token: &Token<'_>) -> Result<(), E> {
        if self.is_list() {
            return Err(self.wrong(token));
        }
        let Some(scalar) = scalar(self.field.of, token) else {
            return Err(self.wrong(token));
        };
        let packed = self.field.repeated;
        let tag = |wire: u64, out: &mut Vec<u8>| {
            if !packed {
                varint(u64::from(self.field.number) << 3 | wire, out);
            }
        };
        match scalar {
            Scalar::Varint(value) => {
                tag(0, self.out);
                varint(value, self.out);
            }
            Scalar::Fixed64(bits) => {
                tag(1, self.out);
                self.out.extend_from_slice(&bits.to_le_bytes());
            }
            Scalar::Bytes(bytes) => {
                delimited(self.field.number, self.out, |out| {
                    out.extend_from_slice(&bytes);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    fn wrong<E: Error>(&self, found: &Token<'_>) -> E {
        let (name, expected) = (self.field.name, self.field.of.name());
        let list = if self.is_list() { "a list of " } else { "" };
        E::custom(format_args!("{name}: expected {list}{expected}, found {found}"))
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value of \"{}\"", self.field.name)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        // Null is the same as no field; in a list it is nothing that could be left out.
        if self.item { Err(self.wrong(&Token::Null)) } else { Ok(()) }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.put(&Token::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.put(&Token::Integer(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.put(&Token::Integer(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.put(&Token::Double(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.put(&Token::Text(value))
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<(), M::Error> {
        match self.field.of {
            Type::Message(fields) if !self.is_list() => {
                delimited(self.field.number, self.out, |out| Object { fields, out }.visit_map(map))
            }
            _ => Err(self.wrong(&Token::Object)),
        }
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        if !self.is_list() {
            return Err(self.wrong(&Token::List));
        }
        let field = self.field;
        let mut items = |out: &mut Vec<u8>| {
            while list.next_element_seed(Value { field, out, item: true })?.is_some() {}
            Ok(())
        };
        if field.of.is_packed() {
            delimited(field.number, self.out, items)
        } else {
            items(self.out)
        }
    }
}

/// A value of JSON.
enum Token<'t> {
    Bool(bool),
    Integer(i128),
    Double(f64),
    Text(&'t str),
    Null,
    List,
    Object,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Double(value) => write!(f, "{value}"),
            Self::Text(_) => f.write_str("a text"),
            Self::Null => f.write_str("null"),
            Self::List => f.write_str("a list"),
            Self::Object => f.write_str("an object"),
        }
    }
}

/// A value of protobuf.
enum Scalar {
    Varint(u64),
    Fixed64(u64),
    Bytes(Vec<u8>),
}

/// `token` as a value of type `of`; `None` when it is none.
fn scalar(of: Type, token: &Token<'_>) -> Option<Scalar> {
    Some(match of {
        Type::Message(_) => return None,
        Type::Text => Scalar::Bytes(text(token)?.into()),
        Type::Bytes => Scalar::Bytes(base64(text(token)?)?),
        Type::Id => Scalar::Bytes(hex(text(token)?)?),
        Type::Bool => match token {
            Token::Bool(value) => Scalar::Varint(u64::from(*value)),
            _ => return None,
        },
        Type::Double => Scalar::Fixed64(double(token)?.to_bits()),
        Type::Fixed64 => Scalar::Fixed64(integer(token)?.try_into().ok()?),
        Type::Sfixed64 => Scalar::Fixed64(i64::try_from(integer(token)?).ok()?.cast_unsigned()),
        Type::Int64 => Scalar::Varint(i64::try_from(integer(token)?).ok()?.cast_unsigned()),
        Type::Uint64 => Scalar::Varint(integer(token)?.try_into().ok()?),
        Type::Uint32 => Scalar::Varint(u32::try_from(integer(token)?).ok()?.into()),
        Type::Sint32 => {
            let value = i32::try_from(integer(token)?).ok()?;
            Scalar::Varint(u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()))
        }
        // By number only: names are not allowed.
        Type::Enum => match token {
            Token::Integer(value) => Scalar::Varint(i32::try_from(*value).ok()?.try_into().ok()?),
            _ => return None,
        },
    })
}

fn text<'t>(token: &Token<'t>) -> Option<&'t str> {
    match token {
        Token::Text(text) => Some(text),
        _ => None,
    }
}

/// An integer, as number or text; with fraction or exponent as long as it is whole.
fn integer(token: &Token<'_>) -> Option<i128> {
    let whole = |value: f64| {
        // 2^64: no field holds more, and as i128 it is exact.
        let fits = value.fract() == 0.0 && value.abs() <= 18_446_744_073_709_551_616.0;
        fits.then_some(value as i128)
    };
    match token {
        Token::Integer(value) => Some(*value),
        Token::Double(value) => whole(*value),
        Token::Text(text) => text.parse().ok().or_else(|| whole(number(text)?)),
        _ => None,
    }
}

fn double(token: &Token<'_>) -> Option<f64> {
    match token {
        Token::Integer(value) => Some(*value as f64),
        Token::Double(value) => Some(*value),
        Token::Text("NaN") => Some(f64::NAN),
        Token::Text("Infinity") => Some(f64::INFINITY),
        Token::Text("-Infinity") => Some(f64::NEG_INFINITY),
        Token::Text(text) => number(text),
        _ => None,
    }
}

/// A finite number as text.
fn number(text: &str) -> Option<f64> {
    let digits =
        text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    text.parse::<f64>().ok().filter(|value| digits && value.is_finite())
}

/// Standard or URL-safe, with or without padding: what readers of protobuf's JSON must accept.
fn base64(text: &str) -> Option<Vec<u8>> {
    const ANY_PADDING: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    bytes.collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())
}
