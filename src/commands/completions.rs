//! `inferometer completions`.

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::exit::Exit;

/// Prints completions for `shell`.
pub(crate) fn completions(shell: clap_complete::Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "inferometer", &mut script);
    crate::terminal::answer(&String::from_utf8_lossy(&script))
}
