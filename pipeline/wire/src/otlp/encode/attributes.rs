//! Labels as lists of `KeyValue`, with limits where a backend has some.

use std::borrow::Cow;

use pipeline_model::{Label, Value};

use super::back::Back;

/// What a backend takes of attributes. What is beyond is cut off or left out here, so that it is not refused there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a key.
    pub key_bytes_max: usize,
    /// Bytes of a text.
    pub text_bytes_max: usize,
    /// Attributes of a resource.
    pub resource_max: usize,
    /// Attributes of a scope.
    pub scope_max: usize,
    /// Attributes of a point.
    pub point_max: usize,
    /// Keys that mean something else there; they get an underscore at the end.
    pub reserved: &'static [&'static str],
    /// Leaves out attributes without a value, and lists and maps of points.
    pub only_plain: bool,
}

impl Limits {
    /// None.
    pub const NONE: Self = Self {
        key_bytes_max: usize::MAX,
        text_bytes_max: usize::MAX,
        resource_max: usize::MAX,
        scope_max: usize::MAX,
        point_max: usize::MAX,
        reserved: &[],
        only_plain: false,
    };

    fn key<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let name = cut(name, self.key_bytes_max);
        if self.reserved.contains(&name) {
            Cow::Owned(format!("{name}_"))
        } else {
            Cow::Borrowed(name)
        }
    }

    fn passes(&self, value: &Value) -> bool {
        !(self.only_plain && matches!(value, Value::Empty | Value::Map(_)))
    }
}

/// The longest beginning of `text` within `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

/// Writes labels as fields `tag`, at most `max`: the first in their order. Gives how many.
pub(super) fn write<'a>(
    back: &mut Back,
    tag: u8,
    labels: impl Iterator<Item = &'a Label>,
    max: usize,
    limits: &Limits,
) -> usize {
    let kept: Vec<&Label> = labels.filter(|label| limits.passes(&label.value)).take(max).collect();
    for label in kept.iter().rev() {
        pair(back, tag, &limits.key(&label.name), &label.value, limits);
    }
    kept.len()
}

/// Writes one `KeyValue` as field `tag`.
pub(super) fn pair(back: &mut Back, tag: u8, key: &str, value: &Value, limits: &Limits) {
    let mark = back.len();
    any_value(back, 0x12, value, limits);
    back.field(0x0a, key.as_bytes());
    back.close(tag, mark);
}

/// Writes one `AnyValue` as field `tag`. Recursion is as deep as the value is, which whoever read it has bounded.
fn any_value(back: &mut Back, tag: u8, value: &Value, limits: &Limits) {
    let mark = back.len();
    match value {
        // Members of a oneof are written even when they are zero.
        Value::Str(text) => back.field(0x0a, cut(text, limits.text_bytes_max).as_bytes()),
        Value::Bool(value) => back.varint_field(0x10, u64::from(*value)),
        Value::Int(value) => back.varint_field(0x18, value.cast_unsigned()),
        Value::Double(value) => back.double_field(0x21, *value),
        Value::List(items) => {
            let list = back.len();
            items.iter().rev().for_each(|item| any_value(back, 0x0a, item, limits));
            back.close(0x2a, list);
        }
        Value::Map(items) => {
            let map = back.len();
            items.iter().rev().for_each(|(key, item)| pair(back, 0x0a, key, item, limits));
            back.close(0x32, map);
        }
        Value::Bytes(bytes) => back.field(0x3a, bytes),
        Value::Empty => {}
    }
    back.close(tag, mark);
}
