//! What became of a container.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::call::Answer;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `create` failed, with this exit code of the runtime.
    CreateFailed(i32),
    /// `start` failed, with this exit code of the runtime.
    StartFailed(i32),
    /// It, or its runtime, was still busy at the deadline.
    Hung,
    /// The container's first process exited with this code.
    Exited(i32),
    /// The container's first process was ended by this signal.
    Signalled(i32),
    /// It started, and how its first process ended is not known: the runtime kept it for itself.
    Lost,
}

/// All that is known of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Whether the probe ran: the filter let the container start.
    pub ran: bool,
    /// What the calls returned, in their order. Shorter than the list of calls if one of them was deadly.
    pub answers: Vec<Answer>,
    /// What the runtime said.
    pub log: String,
}

impl Outcome {
    /// From what `init` and the probe wrote.
    pub(crate) fn read(report: &str, out: &str, log: String, calls: usize) -> Result<Self> {
        let mut end = End::Lost;
        for line in report.lines() {
            let (what, number) = line.split_once(' ').unwrap_or((line, "0"));
            let number: i32 = number.parse().with_context(|| format!("init wrote {line:?}"))?;
            end = match (what, number) {
                ("create" | "start", 0) => continue,
                ("create", code) => End::CreateFailed(code),
                ("start", code) => End::StartFailed(code),
                ("hung", _) => End::Hung,
                ("exit", code) => End::Exited(code),
                ("signal", signal) => End::Signalled(signal),
                _ => bail!("init wrote {line:?}"),
            };
        }
        let (ran, answers) = match out.strip_prefix("h\n") {
            Some(lines) => {
                let mut answers = lines.lines().map(Answer::parse).collect::<Result<Vec<_>>>()?;
                if let End::Signalled(signal) = end
                    && answers.len() < calls
                {
                    answers.push(Answer::Killed(signal));
                }
                (true, answers)
            }
            None => (end == End::Signalled(Signal::ILL.as_raw()), Vec::new()),
        };
        Ok(Self {
            end,
            ran,
            answers,
            log,
        })
    }

    /// Whether the runtime gave up before it read the profile, for a reason that goes by itself: youki copies its program
    /// into memory and seals the copy, which Linux refuses while anything else holds one of its pages for a moment (`EBUSY`
    /// of `F_SEAL_WRITE`, [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html)).
    pub(crate) fn is_by_chance(&self) -> bool {
        matches!(self.end, End::CreateFailed(_) | End::StartFailed(_))
            && self.log.contains("failed to seal /proc/self/exe")
            && self.log.contains("Device or resource busy")
    }

    /// The last thing the runtime said, cut to what fits into a table.
    #[must_use]
    pub fn last_words(&self) -> &str {
        let line = self
            .log
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or("");
        line.split_once("msg=").map_or(line, |(_, message)| message)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateFailed(code) => write!(f, "create failed with exit code {code}"),
            Self::StartFailed(code) => write!(f, "start failed with exit code {code}"),
            Self::Hung => f.write_str("hung"),
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::Signalled(signal) => write!(f, "ended by signal {signal}"),
            Self::Lost => f.write_str("ended unseen"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: &str =
        "Error: failed to seal /proc/self/exe\n\nCaused by:\n    Device or resource busy (os error 16)\n";

    fn outcome(report: &str, log: &str) -> Outcome {
        Outcome::read(report, "", log.to_owned(), 0).unwrap()
    }

    #[test]
    fn a_runtime_that_cannot_seal_its_own_program_says_nothing_of_the_profile() {
        assert!(outcome("create 1\n", BUSY).is_by_chance());
        assert!(outcome("create 0\nstart 1\n", BUSY).is_by_chance());

        let denied = BUSY.replace(
            "Device or resource busy (os error 16)",
            "Operation not permitted (os error 1)",
        );
        assert!(!outcome("create 1\n", &denied).is_by_chance());
        assert!(!outcome("create 1\n", "Error: Device or resource busy (os error 16)\n").is_by_chance());
        assert!(!outcome("create 0\nstart 0\nexit 0\n", BUSY).is_by_chance());
    }
}
