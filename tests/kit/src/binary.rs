//! The built binary as a child process.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `inferometer`. Killed when dropped.
#[derive(Debug)]
pub struct Binary {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    /// Its own folder, for configuration and data.
    pub dir: tempfile::TempDir,
}

impl Binary {
    /// Starts `path` with `args` in a folder of its own, logs as logfmt. A `config` is written to `agent.toml` there
    /// and passed with `-c`.
    pub fn start(path: &str, args: &[&str], config: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(path);
        command.args(args).args(["--log-format", "logfmt"]).current_dir(dir.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("INFEROMETER_") {
                command.env_remove(name);
            }
        }
        if let Some(config) = config {
            std::fs::write(dir.path().join("agent.toml"), config).unwrap();
            command.args(["-c", "agent.toml"]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        for stream in [
            Box::new(child.stdout.take().unwrap()) as Box<dyn std::io::Read + Send>,
            Box::new(child.stderr.take().unwrap()),
        ] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, lines, seen: Vec::new(), dir }
    }

    /// Runs `path` to its end: status, standard output, standard error.
    pub fn output(path: &str, args: &[&str], dir: &Path) -> (i32, String, String) {
        let mut command = Command::new(path);
        command.args(args).current_dir(dir).env("NO_COLOR", "1");
        let out = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (out.status.code().unwrap_or(-1), text(out.stdout), text(out.stderr))
    }

    /// The first line, printed already or to come, that has all of `words`.
    pub fn line_with(&mut self, words: &[&str]) -> String {
        let fits = |line: &&String| words.iter().all(|word| line.contains(word));
        if let Some(line) = self.seen.iter().find(fits) {
            return line.clone();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line);
                    if let Some(line) = self.seen.last().filter(fits) {
                        return line.clone();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no line with {words:?} in:\n{}", self.seen.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended without a line with {words:?}:\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    /// The `address=` that the component named in the line says it listens on.
    pub fn address_of(&mut self, component: &str) -> String {
        self.address_with(&[component])
    }

    /// The `address=` of the line that says that something listens and has all of `words`.
    pub fn address_with(&mut self, words: &[&str]) -> String {
        let line = self.line_with(&[&["listening", "address="], words].concat());
        let rest = line.split("address=").nth(1).unwrap();
        rest.split(' ').next().unwrap().trim_matches('"').to_owned()
    }

    /// Its folder joined with `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash does, at once and without a word. Gives what it had said before.
    pub fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.seen.extend(self.lines.try_iter());
        self.seen.join("\n")
    }

    /// Asks it to stop and waits for the end.
    pub fn stop(mut self) -> (ExitStatus, String) {
        let killed =
            Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "still running after SIGTERM:\n{}",
                self.seen.join("\n")
            );
            crate::part::pause();
        };
        self.seen.extend(self.lines.try_iter());
        (status, self.seen.join("\n"))
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let mut rest = String::new();
            if let Some(mut stderr) = self.child.stderr.take() {
                drop(stderr.read_to_string(&mut rest));
            }
            self.seen.extend(self.lines.try_iter());
            let tail =
                self.seen.iter().rev().take(40).rev().cloned().collect::<Vec<_>>().join("\n");
            println_tail(&tail);
        }
    }
}

#[expect(clippy::print_stderr, reason = "the log of a failed test")]
fn println_tail(tail: &str) {
    eprintln!("--- last lines of the binary ---\n{tail}");
}
