//! Labels (Prometheus) and attributes (OpenTelemetry): sorted, unique, immutable name and value pairs.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::Str;

/// The value of an attribute: OTLP's `AnyValue`. Prometheus labels are always [`Value::Str`].
#[derive(Clone, Debug)]
pub enum Value {
    /// A text; the only kind that Prometheus knows.
    Str(Str),
    /// True or false.
    Bool(bool),
    /// A signed 64-bit integer.
    Int(i64),
    /// A double; equal when the bits are equal, so that identities with NaN stay identities.
    Double(f64),
    /// Raw bytes.
    Bytes(Arc<[u8]>),
    /// An array.
    List(Arc<[Value]>),
    /// A key-value list, in the sender's order.
    Map(Arc<[(Str, Value)]>),
    /// OTLP's value without a value.
    Empty,
}

impl Value {
    /// The text of a string value; `None` for every other kind.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Double(a), Self::Double(b)) => a.to_bits() == b.to_bits(),
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Empty, Self::Empty) => true,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Str(v) => v.hash(state),
            Self::Bool(v) => v.hash(state),
            Self::Int(v) => v.hash(state),
            Self::Double(v) => v.to_bits().hash(state),
            Self::Bytes(v) => v.hash(state),
            Self::List(v) => v.hash(state),
            Self::Map(v) => v.hash(state),
            Self::Empty => {}
        }
    }
}

/// Text as it is, everything else as JSON: the rule of OpenTelemetry's Prometheus compatibility page.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Str(text) => f.write_str(text),
            Self::Empty => Ok(()),
            other => json(other, f),
        }
    }
}

fn json(value: &Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value {
        Value::Str(text) => quoted(text, f),
        Value::Bool(v) => write!(f, "{v}"),
        Value::Int(v) => write!(f, "{v}"),
        Value::Double(v) if v.is_finite() => write!(f, "{v}"),
        Value::Double(v) => write!(f, "\"{v}\""),
        Value::Bytes(bytes) => {
            f.write_str("\"")?;
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            f.write_str("\"")
        }
        Value::List(items) => {
            f.write_str("[")?;
            for (idx, item) in items.iter().enumerate() {
                if idx > 0 {
                    f.write_str(",")?;
                }
                json(item, f)?;
            }
            f.write_str("]")
        }
        Value::Map(items) => {
            f.write_str("{")?;
            for (idx, (key, item)) in items.iter().enumerate() {
                if idx > 0 {
                    f.write_str(",")?;
                }
                quoted(key, f)?;
                f.write_str(":")?;
                json(item, f)?;
            }
            f.write_str("}")
        }
        Value::Empty => f.write_str("null"),
    }
}

fn quoted(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            c if c < ' ' => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

impl From<Str> for Value {
    fn from(text: Str) -> Self {
        Self::Str(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(Str::new(text))
    }
}

/// One name and its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    /// The name, unique within its [`Labels`].
    pub name: Str,
    /// The value.
    pub value: Value,
}

/// A set of labels: sorted by name (byte order), names unique, shared and immutable.
#[derive(Clone, Debug)]
pub struct Labels(pub(crate) Arc<[Label]>);

impl Labels {
    /// The empty set.
    pub fn empty() -> Self {
        Self(Arc::from([]))
    }

    /// Sorts `labels` by name; of several with one name the last wins, as in every merge of label sets here.
    pub fn new(mut labels: Vec<Label>) -> Self {
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        labels.dedup_by(|later, kept| {
            let same = later.name == kept.name;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        Self(Arc::from(labels))
    }

    /// From borrowed pairs; a convenience for tables and tests.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::new(
            pairs
                .into_iter()
                .map(|(name, value)| Label { name: name.into(), value: value.into() })
                .collect(),
        )
    }

    /// The value under `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        // Sets are small (two to ten): a scan beats a binary search.
        self.0.iter().find(|label| label.name == *name).map(|label| &label.value)
    }

    /// The text under `name`; `None` when absent or not a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// The labels in order of their names.
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// This set without the names that `drop` says; itself (no allocation) when it says none.
    pub fn without(&self, mut drop: impl FnMut(&str) -> bool) -> Self {
        if !self.iter().any(|label| drop(&label.name)) {
            return self.clone();
        }
        Self(self.iter().filter(|label| !drop(&label.name)).cloned().collect())
    }

    /// This set and `other` as one; where both have a name, `other` wins.
    pub fn merged(&self, other: &Self) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        Self::new(self.iter().chain(other.iter()).cloned().collect())
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (idx, label) in self.iter().enumerate() {
            if idx > 0 {
                f.write_str(",")?;
            }
            write!(f, "{}=", label.name)?;
            quoted(&label.value.to_string(), f)?;
        }
        f.write_str("}")
    }
}
