//! Exit codes: documented in `--help`, tested, stable.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// As asked.
    Fine,
    /// Failed at run time.
    Failed,
    /// Asked for something that does not exist.
    Usage,
    /// Warnings with `--deny-warnings`.
    Warnings,
    /// The configuration is invalid.
    Config,
    /// An address could not be bound.
    Bind,
    /// The operating system denies something.
    Permission,
    /// Stopped by a second signal before the clean end: 128 + its number.
    Signal(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Warnings => 3,
            Exit::Config => 4,
            Exit::Bind => 6,
            Exit::Permission => 7,
            Exit::Signal(number) => 128 + number,
        })
    }
}
