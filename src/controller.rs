//! The status of every profile, folded from proofs and node reports.
//!
//! ```text
//!  watch ─────► state ─────► run ─────► proof, status write
//!  (4 streams)  (pure:       (I/O)          │
//!                judge,                     │
//!                fold)  ◄───────────────────┘ results
//! ```
//!
//! Decisions are pure (`judge`, `fold`, `state`); the rest is a thin shell around watches and writes. The
//! controller is not on the way from `kubectl apply` to a node's disk: agents install without it.
//!
//! Knows `api`, `proof` and `profile`; never `agent`.

mod event;
mod fold;
mod judge;
mod lease;
mod metrics;
mod nodes;
mod pace;
mod run;
mod state;
mod status;
#[cfg(test)]
mod testing;
mod watch;

pub use lease::Lost;
pub use metrics::Metrics;
pub use run::run;

/// What a controller is told by its installation.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its own namespace: the Lease and the agents' pods are there.
    pub namespace: String,
    /// Its name as a holder of the Lease: unique among replicas.
    pub identity: String,
}

/// Why a controller cannot go on. The kubelet starts it again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It led, and no longer does: another replica may write now.
    #[error("the Lease {}/{} is lost: {reason}", namespace, lease::NAME)]
    LeaseLost {
        /// The Lease's namespace.
        namespace: String,
        /// How that came.
        reason: Lost,
    },
    /// A part of the program ended that never should.
    #[error("{0} ended unexpectedly; this is a bug")]
    Ended(&'static str),
}
