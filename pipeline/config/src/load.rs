//! From files and `--set` arguments to one tree.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use crate::substitute::{Environment, io_words, read_limited};
use crate::tree::{Node, Value};
use crate::{Diagnostic, Diagnostics, Location, Source, codes};

/// Bytes of one configuration file at most; larger ones are not what somebody wrote.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Syntax errors told of one file; further ones mostly follow from the first.
const SYNTAX_ERRORS_MAX: usize = 16;

/// Stack to parse with: four times what the deepest text took in a debug build. Only used pages cost memory.
const STACK_BYTES: usize = 32 << 20;

/// What messages call the source of a `--set` argument.
pub(crate) const SET: &str = "--set";

/// Reads and merges all files, then the `--set` arguments.
pub(crate) fn load(
    files: &[PathBuf],
    sets: &[String],
    env: &dyn Environment,
) -> Result<Node, Diagnostics> {
    let mut errors = Diagnostics::new();
    let mut root = Node::empty_table(None);
    for file in files {
        for path in errors.keep(expand(file)).unwrap_or_default() {
            let part = read(&path).and_then(|source| parse(&source, env));
            if let Some(part) = errors.keep(part) {
                root.merge(part);
            }
        }
    }
    errors.keep(apply(&mut root, sets, env));
    if errors.is_empty() { Ok(root) } else { Err(errors) }
}

/// Puts `--set` arguments on top of `root`.
pub(crate) fn apply(
    root: &mut Node,
    sets: &[String],
    env: &dyn Environment,
) -> Result<(), Diagnostics> {
    let mut errors = Diagnostics::new();
    for set in sets {
        if let Some(part) = errors.keep(parse_set(set, env)) {
            root.merge(part);
        }
    }
    errors.into_result()
}

fn unreadable(path: &Path, why: &str) -> Diagnostic {
    Diagnostic::error(
        codes::UNREADABLE,
        format!("cannot read configuration {}: {why}", path.display()),
    )
    .help("check the path after `--config`")
}

/// A directory stands for its `*.toml`, in alphabetical order.
fn expand(path: &Path) -> Result<Vec<PathBuf>, Diagnostics> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let listing = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let listing = listing.map_err(|error| unreadable(path, &io_words(&error)))?;
    let mut files: Vec<PathBuf> = listing.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "toml") && !file.is_dir());
    files.sort();
    if files.is_empty() {
        return Err(unreadable(path, "the directory has no *.toml file").into());
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Arc<Source>, Diagnostics> {
    let bytes =
        read_limited(path, FILE_BYTES_MAX).map_err(|error| unreadable(path, &io_words(&error)))?;
    let name = path.display().to_string();
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(name, text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            // Up to the first bad byte the lossy text is the same text, so the place holds.
            let source = Source::new(name, String::from_utf8_lossy(error.as_bytes()));
            let place = source.at(at..at + 1);
            Err(Diagnostic::error(codes::SYNTAX, "the file is not UTF-8 text")
                .at(place, "not a character")
                .help("save the file with UTF-8 encoding")
                .into())
        }
    }
}

/// Parses one text.
///
/// On a thread of its own: the parser allows 80 brackets with 80 dotted keys in each, and its tree is built and freed
/// by recursion, which would overflow the stack of a usual thread and end the process.
pub(crate) fn parse(source: &Arc<Source>, env: &dyn Environment) -> Result<Node, Diagnostics> {
    let failed = |why: &str| {
        Err(Diagnostic::error(codes::UNREADABLE, format!("cannot parse {}: {why}", source.name()))
            .into())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, || parse_here(source, env)) {
            Ok(thread) => thread.join().unwrap_or_else(|_| failed("the parser failed")),
            Err(error) => failed(&io_words(&error)),
        }
    })
}

fn parse_here(source: &Arc<Source>, env: &dyn Environment) -> Result<Node, Diagnostics> {
    let (table, errors) = DeTable::parse_recoverable(source.text());
    if errors.is_empty() {
        return Ok(Node::from_toml(table.get_ref(), source, env));
    }
    let place = |error: &toml::de::Error| error.span().map(|span| source.at(span));
    let mut errors: Vec<_> = errors.iter().map(|error| (place(error), error.message())).collect();
    errors.sort_by_key(|(at, _)| at.as_ref().map(|at| at.span().start));
    let mut out = Diagnostics::new();
    // The parser goes on behind an error; what it finds in the same line follows from that error, and behind a list
    // that is not closed so does what it finds in the next.
    let (mut line_last, mut in_list) = (0, false);
    for (at, message) in errors {
        let line = at.as_ref().map_or(0, |at| at.line_column().0);
        let follows = line != 0 && (line == line_last || (in_list && line == line_last + 1));
        if !follows && out.len() < SYNTAX_ERRORS_MAX {
            out.push(syntax_error(at, message));
        }
        in_list = message.contains("array") || (in_list && follows);
        line_last = line;
    }
    Err(out)
}

/// The parser's message, in other words where those would mislead.
fn syntax_error(at: Option<Location>, message: &str) -> Diagnostic {
    let text = at.as_ref().map_or("", |at| at.text()).trim();
    let is_word =
        ["string values must be quoted", "invalid boolean"].iter().any(|m| message.starts_with(m));
    let (message, help) = if is_word && text.is_empty() {
        ("a value is missing here", String::new())
    } else if is_word && ["true", "false"].contains(&text.to_lowercase().as_str()) {
        ("booleans are in lower case", format!("write `{}`", text.to_lowercase()))
    } else if is_word {
        ("a string needs quotes", format!("write `\"{text}\"`"))
    } else if message.starts_with("missing comma between array elements") {
        (message, "close the list with `]`, or put a comma between its elements".to_owned())
    } else {
        (message, String::new())
    };
    Diagnostic::error(codes::SYNTAX, message).at(at, "").help(help)
}

/// Parses `a.b.c=value`: the value as TOML, or as text where it is none.
fn parse_set(set: &str, env: &dyn Environment) -> Result<Node, Diagnostics> {
    let source = Source::new(SET, set);
    if let Ok(node) = parse(&source, env)
        && node.entries().len() == 1
    {
        return Ok(node);
    }
    let bad = |message: &str| {
        Diagnostics::from(
            Diagnostic::error(codes::BAD_SET, message)
                .at(source.at(0..set.len()), "expected `KEY=VALUE`")
                .help("for example `--set exporters.prometheus.listen=\"127.0.0.1:9464\"`"),
        )
    };
    let (key, value) = set.split_once('=').ok_or_else(|| bad("this `--set` has no `=`"))?;
    // The key alone, with a value that surely parses: its places are those in the argument.
    let probe = format!("{key}=0");
    let table = DeTable::parse(&probe).map_err(|_| bad("this `--set` has no sound key"))?;
    let mut node = Node::from_toml(table.get_ref(), &source, env);
    let at = source.at(key.len() + 1..set.len());
    node.walk(&mut |leaf| {
        if let Value::Integer(_) = leaf.value {
            *leaf = Node::from_text(value, at.clone(), env);
        }
    });
    if node.entries().len() == 1 { Ok(node) } else { Err(bad("this `--set` has no sound key")) }
}
