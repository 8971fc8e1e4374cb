//! The status of every profile, folded from proofs and node reports.
//!
//! ```text
//!  watch ─────► state ─────► run ─────► proof, status write
//!  (4 streams)  (pure:       (I/O)          │
//!                judge,                     │
//!                fold)  ◄───────────────────┘ results
//! ```
//!
//! What became so is told as an Event as well (`news`, `events`).
//!
//! Decisions are pure (`judge`, `fold`, `state`); the rest is a thin shell around watches and writes. The
//! controller is not on the way from `kubectl apply` to a node's disk: agents install without it.
//!
//! Knows `api`, `proof` and `profile`; never `agent`.

mod event;
mod events;
mod fold;
mod judge;
mod lease;
mod measured;
mod metrics;
#[cfg(test)]
pub(crate) mod model;
mod news;
mod nodes;
mod pace;
mod run;
mod state;
mod status;
mod taint;
#[cfg(test)]
mod testing;
mod watch;

#[doc(hidden)]
pub use measured::Fleet;
pub use metrics::Metrics;
pub use run::run;
pub use taint::TaintKey;

/// What a controller is told by its installation.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its own namespace: the Lease and the agents' pods are there.
    pub namespace: String,
    /// Its name as a holder of the Lease: unique among replicas.
    pub identity: String,
    /// The taint that nodes join with and lose once their agent has synced; without one, Nodes are only read.
    pub startup_taint: Option<TaintKey>,
}

/// Why a controller cannot go on. The kubelet starts it again. An API server that cannot be reached is none: it would
/// not be reached sooner.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A part of the program ended that never should.
    #[error("{0} ended unexpectedly; this is a bug")]
    Ended(&'static str),
}
