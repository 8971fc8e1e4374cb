//! Callgate distributes seccomp profiles to the nodes of a Kubernetes cluster, and proves each one before a
//! container depends on it.
//!
//! # The way of the data
//!
//! ```text
//!  kubectl apply ──► API server: schema + CEL + policies
//!                        │ watch
//!        ┌───────────────┴────────────────┐
//!        ▼                                ▼
//!   controller                       agent (one per node)
//!   prove → SeccompProfile.status    prove → store → SeccompNode
//!        ▲                                │
//!        └──────────── watch ─────────────┘
//! ```
//!
//! # The rooms
//!
//! | module | what it is for | what it may know |
//! |---|---|---|
//! | [`profile`] | the OCI model, parsing with locations, rules, system calls, canonical form, digest | nothing of ours |
//! | [`filter`] | profile → seccomp filter; the BPF program: decode, run, size | `profile`, libseccomp |
//! | [`meaning`] | what a profile and a filter answer to each call, compared exactly | `profile`, `filter` |
//! | [`startability`] | whether containers can start: what runtimes need, what the meaning lets them | `profile`, `filter`, `meaning` |
//! | [`confine`] | the process shuts itself in: privileges, files, ports | nothing of ours |
//! | [`testload`] | the fork server: compile, prove and load a filter in a child | the five above |
//! | [`proof`] | parse, rules, meaning, test-load and starts as one verdict, cached by digest | the six above |
//! | [`resolve`] | Docker's and Podman's profile format, made plain | `profile` |
//! | [`store`] | the node's directory: write, scan, remove, watch | `profile` |
//! | [`api`] | the types of the custom resources | `profile` |
//! | [`agent`] | API server → store, on one node | all of the above |
//! | [`controller`] | profile status, folded from proofs and node reports | `api`, `proof`, `profile` |
//! | [`telemetry`] | logs, metrics, health | nothing of ours |
//! | `patience` | requests to an API server that has too much to do | nothing of ours |
//! | `text` | words for people: counts, error chains, foreign texts | nothing of ours |
//! | [`cli`] | one file per subcommand | everything |
//! | `fuzz` | what must hold of any bytes; compiled for tests and fuzzers alone | everything |
//! | `model` | what must hold of agents and controllers whatever happens between them; compiled for tests alone | everything |
//!
//! `agent` and `controller` never know each other. `profile` and `filter` know neither kube nor tokio.
//! `unsafe` is allowed in `testload` only.

pub mod agent;
pub mod api;
pub mod cli;
pub mod confine;
pub mod controller;
pub mod filter;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod meaning;
#[cfg(test)]
mod model;
mod patience;
pub mod profile;
pub mod proof;
pub mod resolve;
pub mod startability;
pub mod store;
pub mod telemetry;
pub mod testload;
mod text;
