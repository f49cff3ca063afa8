//! [`Document`]: the whole configuration.

use std::path::PathBuf;

use crate::load;
use crate::report::similar;
use crate::section::Section;
use crate::substitute::{Environment, Os};
use crate::tree::{Node, Value};
use crate::{Diagnostic, Diagnostics, Location, Source, codes};

/// Tables whose entries have a `type` key that belongs to the engine, not to the component.
const KINDS: [&str; 3] = ["receivers", "processors", "exporters"];

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Where it is written.
    pub at: Location,
    /// The references it was made from, as written: `${env:NAME}`.
    pub references: Vec<String>,
    /// Part of it was read from a file by `${file:}`; such values are secrets.
    pub secret: bool,
}

/// All files and `--set` arguments as one tree, in which every key and value knows its place.
#[derive(Clone, Debug)]
pub struct Document {
    root: Node,
}

impl Default for Document {
    fn default() -> Self {
        Self { root: Node::empty_table(None) }
    }
}

impl Document {
    /// Reads files (a directory stands for its `*.toml`, sorted) and `KEY=VALUE` arguments. Later ones win; tables
    /// merge, lists replace. Substitutions read the process' environment.
    ///
    /// A substitution that fails is no error here: it is one of the section that holds it, beside its other errors.
    ///
    /// # Errors
    /// Files that cannot be read, all syntax errors of all files, bad arguments.
    pub fn load(files: &[PathBuf], sets: &[String]) -> Result<Self, Diagnostics> {
        Self::load_with(files, sets, &Os)
    }

    /// [`Document::load`] with substitutions from `env`.
    ///
    /// # Errors
    /// As [`Document::load`].
    pub fn load_with(
        files: &[PathBuf],
        sets: &[String],
        env: &dyn Environment,
    ) -> Result<Self, Diagnostics> {
        Ok(Self { root: load::load(files, sets, env)? })
    }

    /// Parses one text, called `name` in messages.
    ///
    /// # Errors
    /// All syntax errors.
    pub fn parse(name: &str, text: &str) -> Result<Self, Diagnostics> {
        Self::parse_with(name, text, &Os)
    }

    /// [`Document::parse`] with substitutions from `env`.
    ///
    /// # Errors
    /// All syntax errors.
    pub fn parse_with(name: &str, text: &str, env: &dyn Environment) -> Result<Self, Diagnostics> {
        Ok(Self { root: load::parse(&Source::new(name, text), env)? })
    }

    /// This document with `KEY=VALUE` arguments on top, as [`Document::load`] applies them.
    ///
    /// # Errors
    /// Bad arguments.
    pub fn with_sets(mut self, sets: &[String]) -> Result<Self, Diagnostics> {
        load::apply(&mut self.root, sets, &Os)?;
        Ok(self)
    }

    /// Says whether nothing is configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root.entries().is_empty()
    }

    /// The entries of a table of tables, such as `receivers`, in the order of the file. Nothing where it is absent;
    /// what is no table is reported by [`Document::check_tables`].
    #[must_use]
    pub fn table(&self, path: &[&str]) -> Vec<(String, Section)> {
        let Some(node) = self.root.get(path) else { return Vec::new() };
        let has_type = path.len() == 1 && path.first().is_some_and(|first| KINDS.contains(first));
        let section = |name: &str, node: &Node| {
            let path = path.iter().copied().chain([name]).map(str::to_owned).collect();
            let section = Section::new(path, node.clone());
            if has_type { section.reserve(&["type"]) } else { section }
        };
        let entries = node.entries().into_iter();
        entries.map(|(name, entry)| (name.clone(), section(name, &entry.node))).collect()
    }

    /// The table at a path; `None` where it is absent ([`Section::empty`] then stands for its defaults).
    #[must_use]
    pub fn section(&self, path: &[&str]) -> Option<Section> {
        let node = self.root.get(path)?;
        Some(Section::new(path.iter().map(|&s| s.to_owned()).collect(), node.clone()))
    }

    /// The keys of a table, in the order of the file, with the place that defines each: a table's header, or the key.
    #[must_use]
    pub fn names(&self, path: &[&str]) -> Vec<(String, Location)> {
        let Some(node) = self.root.get(path) else { return Vec::new() };
        let entries = node.entries().into_iter();
        entries.map(|(name, entry)| (name.clone(), entry.definition())).collect()
    }

    /// Where the value at a path comes from; `None` where no file says it, that is, for defaults.
    #[must_use]
    pub fn origin<S: AsRef<str>>(&self, path: &[S]) -> Option<Origin> {
        let node = self.root.get(path)?;
        let substituted = node.substituted.clone().unwrap_or_default();
        Some(Origin {
            at: node.at.clone()?,
            references: substituted.references,
            secret: substituted.file,
        })
    }

    /// The values that were read by `${file:}`.
    pub(crate) fn file_contents(&self) -> Vec<&str> {
        self.root.file_contents()
    }

    /// The text at a path, such as a component's `type`.
    pub(crate) fn text<S: AsRef<str>>(&self, path: &[S]) -> Option<&str> {
        match &self.root.get(path)?.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Top-level keys that are neither in `named` (tables of tables, `receivers`) nor in `single` (`admin`), and
    /// those that are not the tables they should be.
    #[must_use]
    pub fn check_tables(&self, named: &[&str], single: &[&str]) -> Diagnostics {
        let mut out = Diagnostics::new();
        for (name, entry) in self.root.entries() {
            if named.contains(&name.as_str()) {
                if !out_of_shape(name, &entry.node, &mut out) {
                    for (inner, entry) in entry.node.entries() {
                        out_of_shape(&format!("{name}.{inner}"), &entry.node, &mut out);
                    }
                }
            } else if single.contains(&name.as_str()) {
                out_of_shape(name, &entry.node, &mut out);
            } else {
                let known: Vec<&str> = named.iter().chain(single).copied().collect();
                let error = Diagnostic::error(
                    codes::UNKNOWN_TABLE,
                    format!("unknown top-level key `{name}`"),
                );
                let error = error.at(entry.key.clone(), "not a part of the configuration");
                out.push(match similar(name, known.iter().copied()) {
                    Some(near) => {
                        error.help(format!("did you mean `{near}`?")).fix(entry.key.clone(), near)
                    }
                    None => error.note(format!("known tables: {}", known.join(", "))),
                });
            }
        }
        out
    }

    /// The error for a name that nothing defines: `exporters = ["datadgo"]`. `kind` is the table that should define
    /// it (`exporters`), `at` the place of the name.
    #[must_use]
    pub fn dangling(&self, kind: &str, name: &str, at: Option<Location>) -> Diagnostic {
        let one = kind.strip_suffix('s').unwrap_or(kind);
        let error =
            Diagnostic::error(codes::DANGLING_ROUTE, format!("{one} `{name}` does not exist"))
                .at(at.clone(), format!("no such {one}"));
        let defined = self.names(&[kind]);
        let near = similar(name, defined.iter().map(|(name, _)| name.as_str()));
        match near.and_then(|near| defined.iter().find(|(name, _)| name == near)) {
            Some((near, place)) => {
                let error = error.also(place.clone(), "a similar name is defined here");
                let error = error.help(format!("did you mean `{near}`?"));
                match at {
                    Some(at) => error.fix(at, format!("{near:?}")),
                    None => error,
                }
            }
            None if defined.is_empty() => error.help(format!("define it: `[{kind}.{name}]`")),
            None => {
                let names: Vec<&str> = defined.iter().map(|(name, _)| name.as_str()).collect();
                error.note(format!("defined {kind}: {}", names.join(", ")))
            }
        }
    }
}

/// Reports what is not a table.
fn out_of_shape(name: &str, node: &Node, out: &mut Diagnostics) -> bool {
    let bad = !matches!(node.value, Value::Table(_));
    if bad {
        let error = Diagnostic::error(
            codes::BAD_TYPE,
            format!("`{name}` must be a table, found {}", node.found()),
        );
        out.push(
            error.at(node.at.clone(), "expected a table").help(format!("write it as `[{name}]`")),
        );
    }
    bad
}
