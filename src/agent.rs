//! One node: what the API server says, proven, on its disk, and reported.
//!
//! ```text
//!  watch ──► state (pure: catalogue, usage, plan, report, draft)
//!              │ ▲           │ ▲             │ ▲
//!              ▼ │           ▼ │             ▼ │
//!             proof          disk           outbox
//! ```
//!
//! Decisions are pure (`state` and what it is made of); the rest is a thin shell around watches, `proof` and `store`.
//! One loop (`sync`) owns all state. It needs no controller, and goes on without the API server.

mod backoff;
mod catalogue;
mod disk;
mod draft;
mod listing;
mod metrics;
#[cfg(test)]
pub(crate) mod model;
mod outbox;
mod plan;
mod report;
mod state;
mod sync;
mod usage;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use metrics::Metrics;

use crate::confine::Confinement;
use crate::proof::Prover;
use crate::store::{Bounds, StoreError};
use crate::telemetry::Health;

/// What an agent is told by its installation.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of its Node object.
    pub node: String,
    /// The kubelet's seccomp directory.
    pub seccomp_root: PathBuf,
    /// How far its process is shut in; `None` where whoever runs it has not tried.
    pub confinement: Option<Confinement>,
    /// Where its process can write, if it cannot write everywhere.
    pub bounds: Option<Bounds>,
    /// How long the file of a deleted or deselected profile stays.
    pub removal_grace: Duration,
    /// How often the whole directory is looked at, whatever inotify says.
    pub rescan: Duration,
}

/// Why an agent cannot go on. Whatever else happens, it reports and tries again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The seccomp root is gone or replaced ([`StoreError::RootGone`]), or `callgate` in it
    /// ([`StoreError::OutOfBounds`]): only a new process writes where the kubelet reads.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A watch panicked: without it nothing that is read can be trusted.
    #[error("a watch of the API server ended: {0}")]
    Watch(String),
}

/// Runs until the token is cancelled, and then returns at once: a write to the disk that is under way ends by
/// itself, whole.
///
/// Within a tokio runtime of several threads.
pub async fn run(
    client: kube::Client,
    prover: Prover,
    config: Config,
    health: Health,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let agent = sync::Agent::new(client, prover.for_here(), config, health, metrics);
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        ended = agent.run() => ended,
    }
}
