//! Texts that a record repeats, said once at its beginning, and the labels made of them.

use std::sync::Arc;

use foldhash::HashMap;
use pipeline_model::{Label, Labels, Str, Value};

use crate::bytes::{Malformed, Reader, put_bytes, put_f64, put_signed, put_varint};

/// How deep attribute values may nest when read: twice what any sender is let through with.
const DEPTH_MAX: usize = 200;

/// The texts of a record that is being written.
#[derive(Default)]
pub(super) struct Texts<'a> {
    number: HashMap<&'a str, u64>,
    list: Vec<&'a str>,
}

/// Appends what `body` writes, after the texts that it used.
pub(super) fn put_with_texts<'a>(
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>, &mut Texts<'a>),
) {
    let mut texts = Texts::default();
    let mut bytes = Vec::new();
    body(&mut bytes, &mut texts);
    put_varint(out, texts.list.len() as u64);
    for text in texts.list {
        put_bytes(out, text.as_bytes());
    }
    out.extend_from_slice(&bytes);
}

impl<'a> Texts<'a> {
    pub(super) fn put(&mut self, out: &mut Vec<u8>, text: &'a str) {
        let next = self.list.len() as u64;
        let number = *self.number.entry(text).or_insert(next);
        if number == next {
            self.list.push(text);
        }
        put_varint(out, number);
    }

    pub(super) fn put_labels(&mut self, out: &mut Vec<u8>, labels: &'a Labels) {
        put_varint(out, labels.len() as u64);
        for label in labels {
            self.put(out, &label.name);
            self.put_value(out, &label.value);
        }
    }

    fn put_value(&mut self, out: &mut Vec<u8>, value: &'a Value) {
        match value {
            Value::Str(text) => {
                out.push(0);
                self.put(out, text);
            }
            Value::Bool(value) => out.extend_from_slice(&[1, u8::from(*value)]),
            Value::Int(value) => {
                out.push(2);
                put_signed(out, *value);
            }
            Value::Double(value) => {
                out.push(3);
                put_f64(out, *value);
            }
            Value::Bytes(bytes) => {
                out.push(4);
                put_bytes(out, bytes);
            }
            Value::List(items) => {
                out.push(5);
                put_varint(out, items.len() as u64);
                items.iter().for_each(|item| self.put_value(out, item));
            }
            Value::Map(items) => {
                out.push(6);
                put_varint(out, items.len() as u64);
                for (key, item) in items.iter() {
                    self.put(out, key);
                    self.put_value(out, item);
                }
            }
            Value::Empty => out.push(7),
        }
    }
}

/// The texts of a record that is being read.
pub(super) struct ReadTexts {
    list: Vec<Str>,
}

impl ReadTexts {
    pub(super) fn read(
        from: &mut Reader<'_>,
        make: impl Fn(&str) -> Str,
    ) -> Result<Self, Malformed> {
        let n = from.count(1)?;
        let list = (0..n).map(|_| from.text().map(&make)).collect::<Result<_, _>>()?;
        Ok(Self { list })
    }

    pub(super) fn text(&self, from: &mut Reader<'_>) -> Result<Str, Malformed> {
        let idx = from.index(self.list.len())?;
        Ok(self.list[idx].clone())
    }

    pub(super) fn labels(&self, from: &mut Reader<'_>) -> Result<Labels, Malformed> {
        let n = from.count(2)?;
        let labels = (0..n)
            .map(|_| Ok(Label { name: self.text(from)?, value: self.value(from, 0)? }))
            .collect::<Result<Vec<_>, Malformed>>()?;
        Ok(Labels::new(labels))
    }

    fn value(&self, from: &mut Reader<'_>, depth: usize) -> Result<Value, Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed);
        }
        Ok(match from.u8()? {
            0 => Value::Str(self.text(from)?),
            1 => Value::Bool(from.u8()? != 0),
            2 => Value::Int(from.signed()?),
            3 => Value::Double(from.f64()?),
            4 => Value::Bytes(Arc::from(from.bytes()?)),
            5 => {
                let n = from.count(1)?;
                let items = (0..n).map(|_| self.value(from, depth + 1));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            6 => {
                let n = from.count(2)?;
                let items = (0..n).map(|_| Ok((self.text(from)?, self.value(from, depth + 1)?)));
                Value::Map(items.collect::<Result<_, Malformed>>()?)
            }
            7 => Value::Empty,
            _ => return Err(Malformed),
        })
    }
}
