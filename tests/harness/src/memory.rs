//! How much memory a process holds, with those that it started.

use std::fmt;
use std::fs;
use std::io::ErrorKind;

use anyhow::{Context as _, Result};

/// Memory of processes that run one program: pages of files count once, as a pod is charged for them. Summed up resident
/// sizes count those of the program once for each process.
///
/// What two processes map of files is the same but for a few pages, so it is taken to be what the larger one maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What is no page of a file, in bytes.
    anonymous: u64,
    /// Pages of files, in bytes.
    files: u64,
}

impl Memory {
    /// Of a process and all its descendants.
    pub fn of(process: u32) -> Result<Self> {
        let mut memory = Self::of_one(process)?;
        for child in children(process)? {
            let is_gone = |error: &anyhow::Error| {
                let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
                kind == Some(ErrorKind::NotFound)
            };
            match Self::of(child) {
                Ok(more) => memory = memory.with(more),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(memory)
    }

    fn of_one(process: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))
            .with_context(|| format!("cannot read the status of process {process}"))?;
        Self::parse(&status).with_context(|| format!("the status of process {process}"))
    }

    /// Reads a file as `proc_pid_status(5)` describes it. One that is ending gives its memory back before it is a zombie,
    /// and holds nothing; no line of its file then tells a size.
    fn parse(status: &str) -> Result<Self> {
        if !status.lines().any(|line| line.starts_with("Rss")) {
            return Ok(Self::default());
        }
        let bytes = |name| status_bytes(status, name);
        Ok(Self {
            anonymous: bytes("RssAnon:")? + bytes("RssShmem:")?,
            files: bytes("RssFile:")?,
        })
    }

    fn with(self, other: Self) -> Self {
        Self {
            anonymous: self.anonymous + other.anonymous,
            files: self.files.max(other.files),
        }
    }

    /// All of it, in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.anonymous + self.files
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = |bytes: u64| bytes * 10 / (1 << 20);
        let (all, anonymous) = (tenths(self.bytes()), tenths(self.anonymous));
        write!(f, "{}.{} MiB, ", all / 10, all % 10)?;
        write!(f, "{}.{} of it no pages of files", anonymous / 10, anonymous % 10)
    }
}

/// A size in a file as `proc_pid_status(5)` describes it, in bytes; `name` with its colon.
pub fn status_bytes(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.with_context(|| format!("no {name}"))?.trim();
    let number = number.trim_end_matches(" kB").parse::<u64>();
    Ok(1024 * number.with_context(|| format!("{name} is no number"))?)
}

/// Children of every thread of a process.
pub fn children(process: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let list = fs::read_to_string(thread?.path().join("children"))
            .context("cannot tell a process's children (a kernel with CONFIG_PROC_CHILDREN can)")?;
        children.extend(
            list.split_whitespace()
                .filter_map(|child| child.parse::<u32>().ok()),
        );
    }
    Ok(children)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn pages_of_a_file_count_once_and_all_others_for_each_process() {
        let parse = |text| Memory::parse(text).unwrap();
        let one = parse("VmRSS:\t  1200 kB\nRssAnon:\t  300 kB\nRssFile:\t  800 kB\nRssShmem:\t  100 kB\n");
        let other = parse("RssAnon:\t  50 kB\nRssFile:\t  900 kB\nRssShmem:\t  0 kB\n");
        assert_eq!(one.with(other).bytes(), (300 + 100 + 50 + 900) * 1024);
        Memory::parse("RssAnon:\t  50 kB\n").unwrap_err();
    }

    #[test]
    fn a_process_holds_what_its_children_hold_as_well() {
        let mut shell = Command::new("sh")
            .args(["-c", "cat; :"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while children(shell.id()).unwrap().is_empty() {
            std::thread::yield_now();
        }
        let own = Memory::of_one(shell.id()).unwrap();
        let all = Memory::of(shell.id()).unwrap();
        assert!(
            own.anonymous > 0 && all.anonymous > own.anonymous,
            "{own:?} {all:?}"
        );
        assert!(own.files > 0 && all.files < 2 * own.files, "{own:?} {all:?}");
        drop(shell.stdin.take());
        shell.wait().unwrap();
        Memory::of_one(shell.id()).unwrap_err();
    }

    #[test]
    fn a_process_that_is_ending_holds_nothing() {
        let status = "Name:\ttrue\nState:\tR (running)\nTgid:\t14526\nThreads:\t1\n";
        assert_eq!(Memory::parse(status).unwrap(), Memory::default());
    }

    #[test]
    fn a_process_that_ended_holds_nothing() {
        let mut ended = Command::new("true").spawn().unwrap();
        let memory = || Memory::of_one(ended.id()).unwrap();
        while memory() != Memory::default() {
            std::thread::yield_now();
        }
        ended.wait().unwrap();
    }
}
