//! The seccomp profile: what it is, how it is read, what its bytes are.
//!
//! Pure: this room knows neither Kubernetes nor an async runtime nor libseccomp, does no I/O, and never
//! panics on what it is given.
//!
//! ```text
//!  file, manifest, config.json ──► source ──┐
//!                                           ▼
//!  object of the API server ──────────► document ──► parse ──► ProfileSpec ──► rules: what is wrong with it
//!                                                                   │
//!                    the bytes of its file, their digest ◄── canonical (by way of oci)
//! ```

mod canonical;
mod document;
mod finding;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod label;
mod model;
mod name;
mod oci;
mod parse;
mod rules;
mod similar;
mod source;
pub mod syscalls;

pub use canonical::Canonical;
pub use document::MAX_TEXT;
pub use finding::{
    AcceptedBy, Affected, Class, Code, FieldPath, Finding, Findings, InvalidSoftware, InvalidVersion,
    Location, Software, UnknownCode, Version,
};
pub use model::{
    Action, Architecture, Condition, Digest, Errno, Flag, InvalidDigest, Operator, Profile, ProfileSpec,
    Rule, UnknownName,
};
pub use name::{InvalidName, ProfileName};
#[cfg(test)]
pub(crate) use rules::multiplexer;
// A taint has a key of the same form.
pub(crate) use label::check_key as check_label_key;
// For `resolve`, whose format holds this one.
pub(crate) use document::{Entry, Node, SyntaxError, Value, read_json};
pub(crate) use finding::quoted;
pub(crate) use parse::{
    Dialect, OCI_ENTRY, OCI_PROFILE, Report, nearest, read_architecture, read_spec_into, unknown_key,
};
pub use rules::{
    explain, listener_allowed, native_of, on_machine, reference, unloadable, unproven_architecture,
};
pub use source::{SourceDocument, SourceKind, SourceProfile, is_json, read};

/// Reads the `spec` of an object as the API server gave it. Field paths begin with `spec`.
///
/// What it gives may break any rule: [`ProfileSpec::findings`] says which. It lists at most [`Findings::MAX`] mistakes.
pub fn parse_spec(spec: &serde_json::Value) -> Result<ProfileSpec, Findings> {
    parse::read_spec(&Node::from(spec), &FieldPath::root().key("spec"), Dialect::Object)
}
