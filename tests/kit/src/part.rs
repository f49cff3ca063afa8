//! Genuine third parties: found on the machine, or the test says why it skips.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The path of `program`; `None`, with the reason printed, when it is not installed. With `INFEROMETER_TEST_PARTS=all`
/// (as in CI) a missing one fails the test instead.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
pub fn part(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file());
    if found.is_none() {
        let must = std::env::var_os("INFEROMETER_TEST_PARTS").is_some_and(|value| value == "all");
        assert!(
            !must,
            "{program} is not installed, and INFEROMETER_TEST_PARTS=all wants every part"
        );
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// A Python that can import `module`; `None`, with the reason printed, when there is none.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
pub fn python_with(module: &str) -> Option<PathBuf> {
    let python = std::env::var_os("INFEROMETER_TEST_PYTHON")
        .map_or_else(|| part("python3"), |p| Some(p.into()))?;
    let mut command = Command::new(&python);
    let imports = command.args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status();
    if imports.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    let must = std::env::var_os("INFEROMETER_TEST_PARTS").is_some_and(|value| value == "all");
    assert!(
        !must,
        "Python's {module} is not installed, and INFEROMETER_TEST_PARTS=all wants every part"
    );
    eprintln!("skipped: Python's {module} is not installed");
    None
}

/// A child process that is killed when dropped.
#[derive(Debug)]
pub struct Child(pub std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test that waits for another process has no runtime to wait in"
)]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

/// Asks `question` until it answers, for at most `patience`; panics with `what` when it never does.
pub fn wait_until<T>(what: &str, patience: Duration, mut question: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        pause();
    }
}
