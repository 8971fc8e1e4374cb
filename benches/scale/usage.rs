//! What processes take: processor time and memory, with their children.

use std::fs;

use anyhow::{Context as _, Result};
use harness::{children, status_bytes};

/// Of a process and all its descendants.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Seconds of processor time so far, those of descendants that have ended included.
    pub(crate) cpu: f64,
    /// Resident memory now, in bytes; pages of a file count for each process.
    pub(crate) memory: u64,
    /// The most that it was since [`forget_peaks`].
    pub(crate) peak: u64,
}

impl Usage {
    pub(crate) fn of(process: u32) -> Result<Self> {
        let mut usage = Self::of_one(process, 4)?;
        for child in children(process)? {
            // One that has just ended is counted with its parent.
            let Ok(more) = Self::of(child) else { continue };
            usage.cpu += more.cpu;
            usage.memory += more.memory;
            usage.peak += more.peak;
        }
        Ok(usage)
    }

    /// Of this program, without its children: all simulated agents, and what measures them.
    pub(crate) fn of_agents() -> Result<Self> {
        Self::of_one(std::process::id(), 2)
    }

    /// `times` is how many of the four fields count: user, system, and the same of children that have ended.
    fn of_one(process: u32, times: usize) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            fs::read_to_string(&path).with_context(|| format!("process {process} is gone"))
        };
        let stat = read("stat")?;
        // The name may hold blanks, and ends with the last parenthesis.
        let (_, fields) = stat.rsplit_once(") ").context("a stat file without a name")?;
        let ticks: u64 = fields
            .split(' ')
            .skip(11)
            .take(times)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        let status = read("status")?;
        let bytes =
            |name| status_bytes(&status, name).with_context(|| format!("the status of process {process}"));
        Ok(Self {
            cpu: float(ticks) / float(rustix::param::clock_ticks_per_second()),
            memory: bytes("VmRSS:")?,
            peak: bytes("VmHWM:")?,
        })
    }
}

/// Peaks of this process and its descendants begin anew.
pub(crate) fn forget_peaks(process: u32) -> Result<()> {
    fs::write(format!("/proc/{process}/clear_refs"), "5")
        .with_context(|| format!("cannot reset the peak of process {process}"))?;
    for child in children(process)? {
        // It may have ended.
        let _ = forget_peaks(child);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}
