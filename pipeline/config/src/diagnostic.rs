//! [`Diagnostic`], one thing that is wrong and where, and [`Diagnostics`], all that is.

use std::fmt;

use crate::{Color, Location};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably does not do what was meant.
    Warning,
}

/// A change of the text that mends the fault without changing what was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// What to replace.
    pub at: Location,
    /// By what.
    pub text: String,
}

/// One fault. Texts are lower case without a full stop; the message says what is wrong, the help what to type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name with a page in [`crate::codes`]: `config::unknown-key`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where; `None` for what has no place, such as a file that cannot be opened.
    pub primary: Option<Location>,
    /// Words beside the place; may be empty.
    pub primary_label: String,
    /// Other places that explain the fault.
    pub secondary: Vec<(Location, String)>,
    /// Why, in sentences.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Option<String>,
    /// Changes that are safe to apply.
    pub fixes: Vec<Fix>,
}

impl Diagnostic {
    fn new(severity: Severity, code: &'static str, message: String) -> Self {
        Self {
            severity,
            code,
            message,
            primary: None,
            primary_label: String::new(),
            secondary: Vec::new(),
            notes: Vec::new(),
            help: None,
            fixes: Vec::new(),
        }
    }

    /// An error without a place yet.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message.into())
    }

    /// A warning without a place yet.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message.into())
    }

    /// Says where, with words beside it.
    #[must_use]
    pub fn at(mut self, place: impl Into<Option<Location>>, label: impl Into<String>) -> Self {
        self.primary = place.into();
        self.primary_label = label.into();
        self
    }

    /// Points at another place.
    #[must_use]
    pub fn also(mut self, place: Location, label: impl Into<String>) -> Self {
        self.secondary.push((place, label.into()));
        self
    }

    /// Says why.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Says what to do; nothing where the text is empty.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        let help = help.into();
        self.help = (!help.is_empty()).then_some(help);
        self
    }

    /// Adds a safe change.
    #[must_use]
    pub fn fix(mut self, at: Location, text: impl Into<String>) -> Self {
        self.fixes.push(Fix { at, text: text.into() });
        self
    }
}

/// All faults that were found. As an error, it shows itself in full, without colour.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Nothing wrong so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, one: Diagnostic) {
        self.list.push(one);
    }

    /// Gives the value, or keeps what was wrong with it: for going on to the next component after an error.
    pub fn keep<T>(&mut self, result: Result<T, Self>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(errors) => {
                self.list.extend(errors.list);
                None
            }
        }
    }

    /// Fails with all of it where there is an error; warnings alone pass and are lost.
    ///
    /// # Errors
    /// The diagnostics, where one of them is an error.
    pub fn into_result(self) -> Result<(), Self> {
        if self.has_errors() { Err(self) } else { Ok(()) }
    }

    /// Says whether something is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|d| d.severity == Severity::Error)
    }

    /// Says whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// One by one, as added.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// Errors first, then by file and place; each once.
    pub(crate) fn sorted(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<&Diagnostic> = Vec::with_capacity(self.list.len());
        for one in &self.list {
            if !sorted.contains(&one) {
                sorted.push(one);
            }
        }
        // A stable sort: files stay in the order in which they were first named.
        let names: Vec<&str> =
            self.list.iter().filter_map(|d| Some(d.primary.as_ref()?.source().name())).collect();
        sorted.sort_by_key(|d| {
            let place = d.primary.as_ref().map(|p| {
                let file = names.iter().position(|n| *n == p.source().name());
                (file, p.span().start)
            });
            (d.severity, place)
        });
        sorted
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, more: I) {
        self.list.extend(more);
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(list: I) -> Self {
        Self { list: list.into_iter().collect() }
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(one: Diagnostic) -> Self {
        Self { list: vec![one] }
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Color::Never))
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Diagnostics {}
