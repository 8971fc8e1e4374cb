//! What processes have logged, shown when a test fails.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};

use anyhow::{Context as _, Result};

/// Lines of a log that are shown.
const LINES: usize = 20;
/// Characters of a line that are shown; kube-apiserver logs some of thousands.
const WIDTH: usize = 400;

/// The logs of the processes that run.
static LOGS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The log file of one process that runs.
#[derive(Debug)]
pub(crate) struct Log(PathBuf);

impl Log {
    /// From now on, until the value is dropped, a panic of any thread shows the end of this file. An assertion that
    /// fails says what it saw, and why that is so, the processes know.
    pub(crate) fn register(path: &Path) -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                hook(panic);
                show(&tails());
            }));
        });
        LOGS.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(path.to_owned());
        Self(path.to_owned())
    }

    /// The whole file.
    pub(crate) fn read(&self) -> Result<String> {
        read(&self.0)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let mut logs = LOGS.lock().unwrap_or_else(PoisonError::into_inner);
        // One of several that write to the same file, as an API server after its restart does.
        if let Some(index) = logs.iter().position(|path| *path == self.0) {
            logs.swap_remove(index);
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "what a test prints this way is shown with the failed test"
)]
fn show(text: &str) {
    eprint!("{text}");
}

/// The ends of the logs of all processes that run, each with the path of its file.
pub(crate) fn tails() -> String {
    let logs = LOGS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut text = String::new();
    for path in logs {
        let end = read(&path).map_or_else(|error| format!("{error:#}"), |log| tail(&log));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "--- the end of {}:\n{end}", path.display());
    }
    text
}

/// The last lines of a log.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<String> = log
        .lines()
        .map(|line| line.chars().take(WIDTH).collect())
        .collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_has_few_lines_and_none_is_long() {
        let log = format!("first\n{}\n{}\nlast\n", "ä".repeat(1000), "x\n".repeat(17));
        let tail = tail(&log);
        let lines: Vec<&str> = tail.lines().collect();
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines[0], "ä".repeat(WIDTH));
        assert_eq!(lines[LINES - 1], "last");
        assert_eq!(super::tail(""), "");
    }

    #[test]
    fn the_log_of_a_process_is_shown_until_the_process_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("some.log");
        std::fs::write(&path, "it said so\n").unwrap();
        let log = Log::register(&path);
        let shown = format!("--- the end of {}:\nit said so\n", path.display());
        assert!(tails().contains(&shown), "{}", tails());
        drop(log);
        assert!(!tails().contains(&shown), "{}", tails());
    }
}
