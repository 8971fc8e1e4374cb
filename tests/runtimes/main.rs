//! What profiles do on real container runtimes: several ages of runc and crun, and youki, started without Kubernetes.
//!
//! Needs root, and the runtimes: `tests/packages` installs Debian's, `tests/runtimes/build` builds the others. With
//! `CALLGATE_WRITE_RUNTIMES=1` in the environment the table of agreement is written to `docs/runtimes.md`.
#![cfg(target_arch = "x86_64")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "so do tests fail, in helpers as elsewhere"
)]

mod agreement;
mod ask;
mod cases;
mod containerd;
mod denial;
mod generated;
mod lab;
mod predict;
mod starts;
