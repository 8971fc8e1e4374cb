//! Compiles and loads a profile in a forked child, so that a hostile one costs a child and nothing else.
//!
//! The only room with `unsafe`. Knows `profile`, `filter` and `confine`.
//!
//! ```text
//!  this process                    fork server                        children, one at a time per request
//!  Client ──► queue ──► socket ──► single thread, own sandbox ──fork──► compile: libseccomp, stricter sandbox
//!    ▲       (fair per                   │                    └─fork──► load: seccomp(2), and nothing else
//!    └────────tenant)◄──── verdict ◄─────┘ reaps, judges ◄── shared pages ──┘
//! ```
//!
//! - The fork server is a re-exec of this program, so it holds nothing of its parent but one socket. It is
//!   started before any thread exists, and again whenever it dies.
//! - Two processes work on a request, one after the other, both forked from the server. The first meets the
//!   hostile text, and can neither fork nor call seccomp(2) nor signal nor reach a descriptor. The second meets
//!   only the program that came of it, gives it to the kernel, and dies: what it loaded may deny every further
//!   call, so it reports through a shared page and ends by touching a forbidden one.
//! - Limits are the kernel's (`setrlimit(2)`, `alarm(2)`): the server needs no right to signal anybody.
//! - What a child tells is data of the same trust as the profile: it can falsify the verdict on its own profile
//!   (of which the kernel's answer is the part that counts), and nothing else.

mod client;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod judge;
mod launch;
mod message;
mod metrics;
mod packet;
mod process;
mod queue;
mod region;
mod sandbox;
mod server;
mod worker;

pub use client::Client;
pub use launch::{ForkServer, StartError};
pub use server::serve;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::profile::{Architecture, Findings};
use crate::startability::StartAnswers;

/// What came of a test-load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The filter means what the profile says, and the kernel took it.
    Passed {
        /// False for a filter of the other byte order, which this machine's kernel cannot take and was not given.
        is_loaded: bool,
        /// Per architecture: instructions that a call of it can meet.
        filters: Vec<(Architecture, u32)>,
        /// Names in the profile that this libseccomp does not know: such a call gets the default action. At
        /// most 64, each at most 64 bytes.
        unknown_names: Vec<String>,
        /// What is probably not meant; none is Invalid. At most 16 are listed.
        findings: Findings,
        /// What the profile answers to the calls of a start.
        start: StartAnswers,
    },
    /// The profile contradicts itself, or cannot be compiled to what it says or be loaded here, and that is its own
    /// doing. At most 16 findings are listed, the first Invalid.
    Refused(Findings),
    /// Nothing is known about the profile: the machine is short of something. To be tried again.
    Unknown(String),
}

/// What children may take.
///
/// `children × memory_bytes` must stay below what the container may use beside the rest of the program: the
/// kubelet ends the whole container when one of its processes runs out of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// How many may live at once, at least 1. With more than one, a single tenant never has them all.
    pub children: u32,
    /// CPU time of one child, in seconds.
    pub cpu_seconds: u32,
    /// Its life, in seconds.
    pub wall_seconds: u32,
    /// Address space that it may add to that of the server, in bytes.
    pub memory_bytes: u64,
}

impl Default for Limits {
    /// A Docker-size profile takes milliseconds and about 2 MiB; the costliest that `filter::MAX_COST` lets
    /// through and that ends within the CPU limit stays below 64 MiB.
    fn default() -> Self {
        Self {
            children: 3,
            cpu_seconds: 10,
            wall_seconds: 30,
            memory_bytes: 64 * 1024 * 1024,
        }
    }
}
