//! What may be written to a terminal: colours, and standard output that closes early.

use std::io::{self, Write as _};

use crate::cli::Color;
use crate::exit::Exit;

/// True when colours may be written to a stream that is (not) a terminal. NO_COLOR, CLICOLOR_FORCE and TERM=dumb are
/// honoured.
pub(crate) fn colour(choice: Color, is_terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match choice {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if set("NO_COLOR") => false,
        Color::Auto if set("CLICOLOR_FORCE") => true,
        Color::Auto => is_terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
    }
}

/// Writes an answer to standard output and says how the command ended. A reader that has gone away (`| head`) ends the
/// output quietly; a full disk is a failure.
pub(crate) fn answer(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(end.as_bytes()));
    match written.and_then(|()| out.flush()) {
        Ok(()) => Exit::Fine,
        Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => Exit::Fine,
        Err(wrong) => {
            remark(&format!("error: cannot write to standard output: {wrong}"));
            Exit::Failed
        }
    }
}

/// Writes a remark to standard error.
pub(crate) fn remark(text: &str) {
    let mut err = io::stderr().lock();
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(err, "{}", text.trim_end_matches('\n')));
}
