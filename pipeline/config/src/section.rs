//! [`Section`]: the table of one component, with everything needed to point into it.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::report;
use crate::tree::{Node, Value};
use crate::{Diagnostic, Diagnostics, Document, Location, codes};

/// A table of the configuration and the path to it.
///
/// Paths of its functions are relative to it; a segment is a key, or an index into a list (`"0"`).
#[derive(Clone, Debug)]
pub struct Section {
    path: Vec<String>,
    node: Node,
    reserved: Vec<&'static str>,
}

impl Section {
    pub(crate) fn new(path: Vec<String>, node: Node) -> Self {
        Self { path, node, reserved: Vec::new() }
    }

    /// A section that no file mentions: it decodes to the defaults. `path` is dotted: `receivers.prometheus`.
    #[must_use]
    pub fn empty(path: &str) -> Self {
        Self::new(path.split('.').map(str::to_owned).collect(), Node::empty_table(None))
    }

    /// A section made from the text of its body, for tests and tools. `path` is dotted.
    ///
    /// # Errors
    /// All syntax errors.
    pub fn from_toml(path: &str, text: &str) -> Result<Self, Diagnostics> {
        let document = Document::parse(&format!("{path}.toml"), text)?;
        let body =
            document.section(&[]).map_or_else(|| Node::empty_table(None), |section| section.node);
        Ok(Self { node: body, ..Self::empty(path) })
    }

    /// Keys of this table that somebody else reads (`type`, or the queue of an exporter): decoding neither refuses
    /// nor sees them, unless the type has such a field itself.
    #[must_use]
    pub fn reserve(mut self, keys: &[&'static str]) -> Self {
        self.reserved.extend_from_slice(keys);
        self
    }

    /// The dotted path: `receivers.engines`.
    #[must_use]
    pub fn path(&self) -> String {
        self.path.join(".")
    }

    /// The last part of the path: `engines`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    /// Says whether the user wrote something at a path.
    #[must_use]
    pub fn has(&self, path: &[&str]) -> bool {
        self.node.get(path).is_some()
    }

    /// Where the value at a path is, or the nearest table around it that is written down; `None` for a section that
    /// no file mentions.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<Location> {
        let mut path = path;
        loop {
            if let Some(at) = self.node.get(path).and_then(|node| node.at.clone()) {
                return Some(at);
            }
            path = path.split_last()?.1;
        }
    }

    /// Where the key at a path is; otherwise as [`Section::at`].
    #[must_use]
    pub fn key_at(&self, path: &[&str]) -> Option<Location> {
        self.node.entry(path).map(|entry| entry.key.clone()).or_else(|| self.at(path))
    }

    /// A string and its place, where there is one.
    #[must_use]
    pub fn text(&self, path: &[&str]) -> Option<(String, Location)> {
        self.node.get(path)?.text()
    }

    /// The strings of a list, each with its place; what is no string is left out, since decoding reports it.
    #[must_use]
    pub fn strings(&self, path: &[&str]) -> Vec<(String, Location)> {
        match self.node.get(path).map(|node| &node.value) {
            Some(Value::Array(list)) => list.iter().filter_map(Node::text).collect(),
            _ => Vec::new(),
        }
    }

    /// The keys of the table, in the order of the file, and where each is.
    #[must_use]
    pub fn keys(&self) -> Vec<(String, Location)> {
        self.node
            .entries()
            .into_iter()
            .map(|(name, entry)| (name.clone(), entry.key.clone()))
            .collect()
    }

    /// A table inside; `None` where it is absent.
    #[must_use]
    pub fn section(&self, path: &[&str]) -> Option<Self> {
        let node = self.node.get(path)?.clone();
        let path = self.path.iter().cloned().chain(path.iter().map(|&s| s.to_owned())).collect();
        Some(Self::new(path, node))
    }

    /// The typed settings.
    ///
    /// A string from a substitution also fits a number or a boolean. A type that explains itself by a custom error
    /// may write `what is wrong; what to do`: the second part becomes the help.
    ///
    /// # Errors
    /// Everything that is wrong in the section: unknown keys, wrong types, bad values, missing keys, substitutions
    /// without a value. Inside tagged enums and flattened structs serde forgets where it was; there only the first
    /// error is told, with the place of the table around it.
    pub fn decode<T: DeserializeOwned + JsonSchema>(&self) -> Result<T, Diagnostics> {
        report::decode(&self.node, &self.path(), &self.reserved)
    }

    /// An error at a path: what only the component can know to be wrong. An empty help is none.
    pub fn error(
        &self,
        path: &[&str],
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic::error(code, message).at(self.at(path), "").help(help)
    }

    /// A warning at a path, as [`Section::error`].
    pub fn warning(
        &self,
        path: &[&str],
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic::warning(code, message).at(self.at(path), "").help(help)
    }

    /// A value that is of the right type and yet cannot be; code `config::bad-value`.
    pub fn bad_value(
        &self,
        path: &[&str],
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Diagnostic {
        self.error(path, codes::BAD_VALUE, message, help)
    }
}
