//! The keys of Docker's profile format, which containerd and CRI-O hand on and container runtimes ignore.
//!
//! Such a file has them in most of its entries, so each key is one finding, at the first place and with a count. So is
//! all that says nothing: a comment, an empty `includes`, an `errno` beside the `errnoRet` that says the same.
//!
//! Source: `Seccomp` and `Syscall` in
//! <https://github.com/moby/profiles/blob/seccomp/v0.1.0/seccomp/seccomp.go>, and
//! <https://github.com/containers/common/blob/v0.64.2/pkg/seccomp/types.go>.

use std::collections::BTreeMap;

use super::super::document::{Entry, Value};
use super::super::finding::{Code, FieldPath, Finding, Location, Place};
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
    "containerd ignores it and applies the entry everywhere: keep each entry without it, or remove the entry";

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
        "runtimes ignore it: keep each entry without it, or remove the entry",
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

    /// Whether a filter could hold what it says, and nothing beside it says the same.
    fn says_something(&self, entry: &Entry, beside: &[Entry]) -> bool {
        let is_said_beside = |same: &str| beside.iter().any(|other| other.key == same);
        self.cure.is_some() && !is_empty(&entry.value.value) && !self.same_as.is_some_and(is_said_beside)
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

/// The keys of Docker's format in a document.
#[derive(Debug, Default)]
pub(super) struct DockerKeys {
    /// In the order in which the first of each kind was seen.
    kinds: Vec<Kind>,
}

/// Those of which one finding is told.
#[derive(Debug)]
struct Kind {
    /// What they mean; `None` for all that say nothing.
    meaning: Option<&'static DockerKey>,
    /// Where the first one stands, and how many findings were listed before it.
    field: FieldPath,
    location: Option<Location>,
    index: usize,
    /// How often each stands there.
    counts: BTreeMap<&'static str, usize>,
}

impl DockerKeys {
    /// Keeps a key for [`DockerKeys::report`]. `beside` is the object that it stands in.
    pub(super) fn see(
        &mut self,
        key: &'static DockerKey,
        entry: &Entry,
        beside: &[Entry],
        field: &Place<'_>,
        report: &Report,
    ) {
        let meaning = key.says_something(entry, beside).then_some(key);
        let name = |key: Option<&'static DockerKey>| key.map(|key| key.name);
        let known = self
            .kinds
            .iter()
            .position(|kind| name(kind.meaning) == name(meaning));
        let index = known.unwrap_or_else(|| {
            self.kinds.push(Kind {
                meaning,
                field: field.into(),
                location: entry.at,
                index: report.len(),
                counts: BTreeMap::new(),
            });
            self.kinds.len() - 1
        });
        *self.kinds[index].counts.entry(key.name).or_default() += 1;
    }

    /// Reports each kind as one finding, at the place of its first. `path` is where the profile lies.
    pub(super) fn report(self, path: &FieldPath, report: &mut Report) {
        // From the last on: those before keep their places.
        for kind in self.kinds.into_iter().rev() {
            report.insert(kind.index, kind.finding(path));
        }
    }
}

impl Kind {
    fn finding(self, path: &FieldPath) -> Finding {
        let message = match self.meaning.and_then(|key| key.cure) {
            Some(cure) => self.one(cure, path),
            None => self.idle(),
        };
        Finding {
            location: self.location,
            ..Finding::new(Code::DockerFormat, self.field, message)
        }
    }

    /// One key, and what to write in its place.
    fn one(&self, cure: &str, path: &FieldPath) -> String {
        let times = |(name, count): (&&str, &usize)| match count {
            1 => format!("{name} is a key of Docker's format, not of the OCI's"),
            count => format!(
                "{name} is a key of Docker's format, not of the OCI's, and stands {count} times in this profile"
            ),
        };
        let keys: Vec<String> = self.counts.iter().map(times).collect();
        let keys = keys.join(", ");
        match path.as_str() {
            "" => format!(
                "{keys}; {cure}, or let callgate resolve make a profile of the file that has no such keys"
            ),
            path => format!(
                "{keys}; {cure}, or put what is under {path} into a file of its own, as JSON, and let callgate resolve make a \
                 profile of that which has no such keys"
            ),
        }
    }

    /// All that say nothing.
    fn idle(&self) -> String {
        let times = |(name, count): (&&str, &usize)| match count {
            1 => format!("{name} (once)"),
            count => format!("{name} ({count} times)"),
        };
        let keys: Vec<String> = self.counts.iter().map(times).collect();
        format!(
            "keys of Docker's format, not of the OCI's, that are empty or comments and say nothing: {}; remove \
             them (a YAML manifest can have comments)",
            keys.join(", ")
        )
    }
}
