//! From a profile to the BPF program that the kernel runs, by libseccomp; and that program: decode, run, size.
//!
//! The one room that knows libseccomp's compiler. Knows `profile`; no Kubernetes, no async runtime.
//!
//! libseccomp may hang, crash or take all memory on a hostile profile, so [`compile()`] belongs into a process
//! that can be lost: `testload` is the way to call it on what others wrote.

mod answer;
mod arch;
mod compile;
mod cost;
mod program;
mod resolve;

pub use answer::Answer;
pub use arch::{ByteOrder, X32_BIT, audit_token, native, node_architecture};
pub use compile::{CompileError, Filter, compile, detect_features, libseccomp_version};
pub use cost::{Costliest, MAX_COST, cost, costliest};
pub use program::{
    Alu, Instruction, InvalidProgram, MAX_INSTRUCTIONS, Operand, Program, SeccompData, Test, Value,
};
#[cfg(test)]
pub(crate) use resolve::names;
pub use resolve::{ArchitectureCalls, Mention, Selector, architectures, prepare, resolve};
