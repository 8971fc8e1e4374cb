//! The keys of Docker's profile format, which containerd and CRI-O hand on and container runtimes ignore.
//!
//! A key that a filter could hold, did runtimes read it, is a finding each time: without it the profile means something
//! else. What says nothing (a comment, an empty `includes`, an `errno` beside the `errnoRet` that says the same)
//! stands in every entry of such a file, and is one finding for the whole of it.
//!
//! Source: `Seccomp` and `Syscall` in
//! <https://github.com/moby/profiles/blob/seccomp/v0.1.0/seccomp/seccomp.go>, and
//! <https://github.com/containers/common/blob/v0.64.2/pkg/seccomp/types.go>.

use std::collections::BTreeMap;

use super::super::document::{Entry, Value};
use super::super::finding::{Code, FieldPath, Finding, Location};
use super::report::Report;

/// A key of Docker's format.
#[derive(Debug)]
pub(super) struct DockerKey {
    name: &'static str,
    /// The key of the OCI's format that says the same; where both stand, this one adds nothing.
    same_as: Option<&'static str>,
    /// What to write in its place; `None` for what never says anything.
    cure: Option<&'static str>,
}

const REMOVE: &str =
    "containerd ignores it and applies the entry everywhere: keep the entry without it, or remove the entry";

/// Of the profile.
pub(super) const OF_SPEC: &[DockerKey] = &[
    DockerKey::new(
        "archMap",
        "containerd ignores it: list the architectures under architectures",
    ),
    DockerKey {
        same_as: Some("defaultErrnoRet"),
        ..DockerKey::new(
            "defaultErrno",
            "containerd ignores it: write defaultErrnoRet, a number",
        )
    },
    DockerKey::COMMENT,
];

/// Of an entry under `syscalls`.
pub(super) const OF_RULE: &[DockerKey] = &[
    DockerKey::new("includes", REMOVE),
    DockerKey::new("excludes", REMOVE),
    DockerKey::new(
        "minKernel",
        "runtimes ignore it: keep the entry without it, or remove the entry",
    ),
    DockerKey::new("name", "runc skips such an entry: write names, a list"),
    DockerKey {
        same_as: Some("errnoRet"),
        ..DockerKey::new("errno", "containerd ignores it: write errnoRet, a number")
    },
    DockerKey::COMMENT,
];

impl DockerKey {
    const COMMENT: Self = Self {
        name: "comment",
        same_as: None,
        cure: None,
    };

    const fn new(name: &'static str, cure: &'static str) -> Self {
        Self {
            name,
            same_as: None,
            cure: Some(cure),
        }
    }

    /// The key of this name.
    pub(super) fn find(keys: &'static [Self], name: &str) -> Option<&'static Self> {
        keys.iter().find(|key| key.name == name)
    }

    /// What to say of it, where it means something.
    fn meaning(&self, entry: &Entry, beside: &[Entry]) -> Option<String> {
        let is_said_beside = |same: &str| beside.iter().any(|other| other.key == same);
        if is_empty(&entry.value.value) || self.same_as.is_some_and(is_said_beside) {
            return None;
        }
        let cure = self.cure?;
        Some(format!(
            "{} is a key of Docker's format, not of the OCI's; {cure}",
            self.name
        ))
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Text(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        Value::Bool(_) | Value::Integer(_) | Value::Number(_) => false,
    }
}

/// The keys of a document that say nothing.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// Where the first one stands, and how many findings were listed before it.
    first: Option<(FieldPath, Option<Location>, usize)>,
    /// How often each stands there.
    counts: BTreeMap<&'static str, usize>,
}

impl Idle {
    /// Reports a key of Docker's format at once, or keeps it for [`Idle::report`]. `beside` is the object that
    /// it stands in.
    pub(super) fn see(
        &mut self,
        key: &'static DockerKey,
        entry: &Entry,
        beside: &[Entry],
        field: &FieldPath,
        report: &mut Report,
    ) {
        if let Some(message) = key.meaning(entry, beside) {
            report.add(Code::DockerFormat, field, entry.at, message);
        } else {
            *self.counts.entry(key.name).or_default() += 1;
            self.first
                .get_or_insert_with(|| (field.clone(), entry.at, report.len()));
        }
    }

    /// Reports all that say nothing as one finding, at the place of the first.
    pub(super) fn report(self, report: &mut Report) {
        let Some((field, location, index)) = self.first else {
            return;
        };
        let keys: Vec<String> = self
            .counts
            .iter()
            .map(|(key, count)| match count {
                1 => format!("{key} (once)"),
                count => format!("{key} ({count} times)"),
            })
            .collect();
        let message = format!(
            "keys of Docker's format, not of the OCI's, that say nothing here: {}; remove them (a YAML manifest can have \
             comments)",
            keys.join(", ")
        );
        let finding = Finding {
            location,
            ..Finding::new(Code::DockerFormat, field, message)
        };
        report.insert(index, finding);
    }
}
