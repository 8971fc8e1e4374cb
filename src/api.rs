//! The custom resources, `callgate.dev/v1alpha1`: types, and what is decided by their types alone.
//!
//! Knows Kubernetes types and `profile`, and does no I/O.

mod condition;
mod crd;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod live;
mod node;
mod profile;
mod raw;
mod rules;
mod schema;
mod text;

pub use condition::{Condition, ConditionStatus, now_in_seconds, set_condition};
pub use crd::{CrdFile, crd_files, crds};
pub use live::{LiveKey, LiveSet};
pub use node::{Failure, FailureGroup, NodeCondition, SeccompNode, SeccompNodeReport, Tried, Versions};
pub use profile::{
    ArchitectureFilter, Arg, Finding, NodeFailure, SeccompProfile, SeccompProfileSpec, SeccompProfileStatus,
    Syscall, Uint64,
};
pub use raw::RawSeccompProfile;
pub use text::cut;

/// The API group.
pub const GROUP: &str = "callgate.dev";
/// The API version.
pub const VERSION: &str = "v1alpha1";
