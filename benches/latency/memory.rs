//! How much memory a process and its children hold.

use std::fmt;

use anyhow::{Context as _, Result};

/// Resident memory in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    all: u64,
    /// What is not pages of a file, as the program's own are, which count for each process that maps them.
    anonymous: u64,
}

impl Memory {
    /// Of a process and all its descendants.
    pub(crate) fn with_children(process: u32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))
            .with_context(|| format!("process {process} is gone"))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let text = line.with_context(|| format!("process {process} has no {name}"))?;
            text.trim()
                .trim_end_matches(" kB")
                .parse()
                .with_context(|| format!("{name} is not a number"))
        };
        let mut total = Self {
            all: field("VmRSS:")?,
            anonymous: field("RssAnon:")?,
        };
        for child in children(process)? {
            let memory = Self::with_children(child)?;
            total.all += memory.all;
            total.anonymous += memory.anonymous;
        }
        Ok(total)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = |kibibytes: u64| kibibytes * 10 / 1024;
        let (all, anonymous) = (tenths(self.all), tenths(self.anonymous));
        write!(f, "{}.{} MiB, ", all / 10, all % 10)?;
        write!(f, "{}.{} of it anonymous", anonymous / 10, anonymous % 10)
    }
}

/// Children of every thread of the process.
fn children(process: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let list = std::fs::read_to_string(thread?.path().join("children"))
            .context("cannot tell a process's children (a kernel with CONFIG_PROC_CHILDREN can)")?;
        children.extend(
            list.split_whitespace()
                .filter_map(|child| child.parse::<u32>().ok()),
        );
    }
    Ok(children)
}
