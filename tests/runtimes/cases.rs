//! Profiles to ask real runtimes about: one by one, each for a rule of what a profile means or of what makes it invalid.

use bed::RuntimeName;
use callgate::profile::Architecture::{X32, X86};
use callgate::startability::{PORTABLE_START, PORTABLE_START_PRIVILEGED};
use serde_json::{Value, json};

use crate::ask::{Ask, ask};
use crate::predict::Prediction;

mod invalid;
mod valid;

/// Stands in a file for the path of a listener that closes what it is handed.
pub(crate) const LISTENER: &str = "@listener@";

/// A profile, and what is known about it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The file.
    pub(crate) file: String,
    pub(crate) user: User,
    pub(crate) expected: Expected,
}

/// Who the container runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum User {
    /// As the `restricted` level of Pod Security level wants it: not root, `no_new_privs`.
    Restricted,
    /// Root, without `no_new_privs`.
    Root,
    /// Not root, without `no_new_privs`.
    Ordinary,
}

impl User {
    pub(crate) const fn uid(self) -> u32 {
        match self {
            Self::Restricted | Self::Ordinary => 1000,
            Self::Root => 0,
        }
    }

    pub(crate) const fn no_new_privs(self) -> bool {
        matches!(self, Self::Restricted)
    }
}

/// What should become of it.
#[derive(Debug, Clone)]
pub(crate) enum Expected {
    /// It starts, and gives the answers that are predicted.
    Valid {
        asks: Vec<Ask>,
        /// Except by these, which refuse it.
        refused_by: Vec<RuntimeName>,
    },
    /// At least one runtime, or containerd, refuses it, cannot start a container with it, or answers a call otherwise
    /// than it says.
    Invalid {
        /// What it says, to a reader who knows the specification.
        says: Vec<(Ask, Prediction)>,
    },
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = valid::cases();
    cases.extend(invalid::cases());
    cases
}

fn valid(name: &str, profile: &Value, asks: &[Ask]) -> Case {
    Case {
        name: name.to_owned(),
        file: profile.to_string(),
        user: User::Restricted,
        expected: Expected::Valid {
            asks: asks.to_vec(),
            refused_by: Vec::new(),
        },
    }
}

impl Case {
    pub(crate) fn by_root(self) -> Self {
        Self {
            user: User::Root,
            ..self
        }
    }

    /// Refused by every runc before 1.2, and so by Debian's.
    fn refused_by_old_runc(mut self) -> Self {
        if let Expected::Valid { refused_by, .. } = &mut self.expected {
            refused_by.push(RuntimeName::DebianRunc);
        }
        self
    }
}

/// Allows everything but what the entries say.
fn allowing(syscalls: &Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls })
}

/// Denies everything, by this default action, but what a start needs and what the entries say.
pub(crate) fn denying(action: &str, syscalls: &Value) -> Value {
    let mut all = vec![json!({ "names": PORTABLE_START, "action": "SCMP_ACT_ALLOW" })];
    all.extend(syscalls.as_array().into_iter().flatten().cloned());
    json!({ "defaultAction": action, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": all })
}

fn errno(names: &[&str], errno: u16, args: &Value) -> Value {
    json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": args })
}

pub(crate) fn arg(index: u32, op: &str, value: u64) -> Value {
    json!({ "index": index, "value": value, "op": format!("SCMP_CMP_{op}") })
}

pub(crate) fn masked(index: u32, mask: u64, value: u64) -> Value {
    json!({ "index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" })
}

/// The same call with each of these first arguments.
fn each(name: &'static str, values: &[u64]) -> Vec<Ask> {
    values.iter().map(|value| ask(name, &[*value])).collect()
}
