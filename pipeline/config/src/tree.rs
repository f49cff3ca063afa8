//! [`Node`]: a TOML value that remembers where each part of it was read.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::substitute::{Environment, Fault, Substituted, substitute};
use crate::{Diagnostic, Location, Source, codes};

/// Tables and lists inside each other. The parser's own limit is per nesting of brackets, and dotted keys multiply it.
const DEPTH_MAX: usize = 64;

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    String(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Node>),
    Table(BTreeMap<String, Entry>),
}

/// A value under a key.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where the key is.
    pub key: Location,
    pub node: Node,
}

impl Entry {
    /// What to point at as the definition of the name: a table's header, or the key.
    pub(crate) fn definition(&self) -> Location {
        match (&self.node.value, &self.node.at) {
            (Value::Table(_), Some(at)) if !at.span().is_empty() => at.clone(),
            _ => self.key.clone(),
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub value: Value,
    /// Where the value is; for a table its header or its braces.
    pub at: Option<Location>,
    /// What of it came from outside the text.
    pub substituted: Option<Substituted>,
    /// What makes the value unusable; reported when somebody asks for it.
    pub problems: Vec<Diagnostic>,
    /// Left out when decoding, since it has been reported already.
    pub skip: bool,
}

impl Node {
    pub(crate) fn new(value: Value, at: Option<Location>) -> Self {
        Self { value, at, substituted: None, problems: Vec::new(), skip: false }
    }

    pub(crate) fn empty_table(at: Option<Location>) -> Self {
        Self::new(Value::Table(BTreeMap::new()), at)
    }

    /// The tree of a parsed text, with substitutions done.
    pub(crate) fn from_toml(
        table: &DeTable<'_>,
        source: &Arc<Source>,
        env: &dyn Environment,
    ) -> Self {
        Builder { source, env }.table(table, Some(source.at(0..0)), 0)
    }

    /// A string that is no TOML but the text as it stands, with substitutions done.
    pub(crate) fn from_text(text: &str, at: Location, env: &dyn Environment) -> Self {
        string(text, at, env)
    }

    /// A child by key, or by index in a list.
    pub(crate) fn child(&self, segment: &str) -> Option<&Self> {
        match &self.value {
            Value::Table(table) => table.get(segment).map(|entry| &entry.node),
            Value::Array(list) => list.get(segment.parse::<usize>().ok()?),
            _ => None,
        }
    }

    fn child_mut(&mut self, segment: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Table(table) => table.get_mut(segment).map(|entry| &mut entry.node),
            Value::Array(list) => list.get_mut(segment.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// The value at a path.
    pub(crate) fn get<S: AsRef<str>>(&self, path: &[S]) -> Option<&Self> {
        path.iter().try_fold(self, |node, segment| node.child(segment.as_ref()))
    }

    pub(crate) fn get_mut<S: AsRef<str>>(&mut self, path: &[S]) -> Option<&mut Self> {
        path.iter().try_fold(self, |node, segment| node.child_mut(segment.as_ref()))
    }

    /// The entry at a path, where its parent is a table.
    pub(crate) fn entry<S: AsRef<str>>(&self, path: &[S]) -> Option<&Entry> {
        let (last, parent) = path.split_last()?;
        match &self.get(parent)?.value {
            Value::Table(table) => table.get(last.as_ref()),
            _ => None,
        }
    }

    /// Entries of a table in the order in which the user wrote them; nothing where it is none.
    pub(crate) fn entries(&self) -> Vec<(&String, &Entry)> {
        let Value::Table(table) = &self.value else { return Vec::new() };
        let mut list: Vec<_> = table.iter().collect();
        // Files keep their alphabetical order among each other; that is not the order of merging, but a stable one.
        list.sort_by(|(_, a), (_, b)| {
            let names = a.key.source().name().cmp(b.key.source().name());
            names.then(a.key.span().start.cmp(&b.key.span().start))
        });
        list
    }

    /// Lays `over` on top: tables merge, everything else is replaced.
    pub(crate) fn merge(&mut self, over: Self) {
        match (&mut self.value, over.value) {
            (Value::Table(below), Value::Table(above)) => {
                for (name, entry) in above {
                    match below.get_mut(&name) {
                        Some(old) => {
                            old.node.merge(entry.node);
                            old.key = entry.key;
                        }
                        None => {
                            below.insert(name, entry);
                        }
                    }
                }
                self.at = over.at;
            }
            (_, value) => *self = Self { value, ..over },
        }
    }

    /// Calls `visit` for every value, children before parents.
    pub(crate) fn walk(&mut self, visit: &mut impl FnMut(&mut Self)) {
        match &mut self.value {
            Value::Array(list) => list.iter_mut().for_each(|node| node.walk(visit)),
            Value::Table(table) => table.values_mut().for_each(|entry| entry.node.walk(visit)),
            _ => {}
        }
        visit(self);
    }

    /// Says whether `${file:}` gave part of the value; then it is a secret.
    pub(crate) fn is_from_file(&self) -> bool {
        self.substituted.as_ref().is_some_and(|substituted| substituted.file)
    }

    /// All values inside that `${file:}` gave.
    pub(crate) fn file_contents(&self) -> Vec<&str> {
        match &self.value {
            Value::String(text) if self.is_from_file() && !text.is_empty() => vec![text],
            Value::Array(list) => list.iter().flat_map(Self::file_contents).collect(),
            Value::Table(table) => {
                table.values().flat_map(|entry| entry.node.file_contents()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Says whether something inside is left out.
    pub(crate) fn has_skipped(&self) -> bool {
        match &self.value {
            Value::Array(list) => list.iter().any(|node| node.skip || node.has_skipped()),
            Value::Table(table) => {
                table.values().any(|entry| entry.node.skip || entry.node.has_skipped())
            }
            _ => false,
        }
    }
}

struct Builder<'a> {
    source: &'a Arc<Source>,
    env: &'a dyn Environment,
}

impl Builder<'_> {
    fn table(&self, table: &DeTable<'_>, at: Option<Location>, depth: usize) -> Node {
        let entry = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            let node = self.value(value, depth + 1);
            (key.get_ref().to_string(), Entry { key: self.source.at(key.span()), node })
        };
        Node::new(Value::Table(table.iter().map(entry).collect()), at)
    }

    fn value(&self, value: &Spanned<DeValue<'_>>, depth: usize) -> Node {
        let at = self.source.at(value.span());
        if depth > DEPTH_MAX {
            let problem = Diagnostic::error(
                codes::BAD_VALUE,
                format!("tables are nested deeper than {DEPTH_MAX}"),
            )
            .at(at.clone(), "too deep");
            return Node { problems: vec![problem], ..Node::empty_table(Some(at)) };
        }
        let out_of_range = |what: &str| {
            let problem = Diagnostic::error(
                codes::BAD_VALUE,
                format!("the {what} {} is out of range", at.text()),
            )
            .at(at.clone(), "");
            Node { problems: vec![problem], ..Node::new(Value::Integer(0), Some(at.clone())) }
        };
        let plain = match value.get_ref() {
            DeValue::String(text) => return string(text, at, self.env),
            DeValue::Table(table) => return self.table(table, Some(at), depth),
            DeValue::Array(list) => {
                Value::Array(list.iter().map(|item| self.value(item, depth + 1)).collect())
            }
            DeValue::Integer(n) => match i128::from_str_radix(n.as_str(), n.radix()) {
                Ok(n) => Value::Integer(n),
                Err(_) => return out_of_range("integer"),
            },
            DeValue::Float(n) => match n.as_str().parse::<f64>() {
                Ok(f) if f.is_finite() || n.as_str().contains("inf") || f.is_nan() => {
                    Value::Float(f)
                }
                _ => return out_of_range("number"),
            },
            DeValue::Boolean(b) => Value::Boolean(*b),
            DeValue::Datetime(d) => Value::Datetime(d.to_string()),
        };
        Node::new(plain, Some(at))
    }
}

fn string(text: &str, at: Location, env: &dyn Environment) -> Node {
    match substitute(text, env) {
        Ok(None) => Node::new(Value::String(text.to_owned()), Some(at)),
        Ok(Some((text, substituted))) => {
            Node { substituted, ..Node::new(Value::String(text), Some(at)) }
        }
        Err(faults) => {
            let problem = |fault: Fault| {
                Diagnostic::error(fault.code, fault.message)
                    .at(at.narrow(&fault.reference), fault.label)
                    .help(fault.help)
            };
            let problems = faults.into_iter().map(problem).collect();
            Node { problems, ..Node::new(Value::String(text.to_owned()), Some(at)) }
        }
    }
}
