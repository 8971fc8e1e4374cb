//! Real container runtimes for Callgate's tests: starts a container under a seccomp profile as a container manager
//! does, and reports whether it came up and what the system calls in it returned. No Kubernetes, no container engine.
//!
//! Each start runs in PID and mount namespaces of its own, with a control group of its own; both go with it, however it
//! ends. It needs root, `unshare` (util-linux) and a C compiler: the two helpers, `probe.c` (the program in the
//! container) and `init.c` (the first process around the runtime), are compiled when a [`Bed`] is made.
//!
//! What it may know: runtimes, and the `config.json` that container managers write. Nothing of Callgate's library.

mod call;
mod config;
mod outcome;
mod runtime;
mod start;

pub use self::call::{Abi, Answer, Call};
pub use self::outcome::{End, Outcome};
pub use self::runtime::{Runtime, RuntimeName};
pub use self::start::{Bed, Container};
