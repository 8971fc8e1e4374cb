//! From a document to a profile: exact keys, right types, values in range, everything that is wrong at once.
//!
//! Knows the tree and the model. Which fields go together is the business of `rules`.

mod docker;
mod nearest;
mod report;
mod scalar;

use std::collections::BTreeMap;

use super::document::{Entry, Node, Value};
use super::finding::{Code, FieldPath, Findings, Place, quoted};
use super::label;
use super::model::{Action, Architecture, Condition, Profile, ProfileSpec, Rule};
use docker::{DockerKey, DockerKeys};
pub(crate) use nearest::{nearest, unknown_key};
pub(crate) use report::Report;

/// Who will read the document, which decides how a number above 2^63-1 is written and which keys there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A Kubernetes API server.
    Object,
    /// A container runtime.
    Oci,
}

/// The most entries under `syscalls`.
pub(super) const MAX_RULES: usize = 1024;
/// The most names in one entry.
pub(super) const MAX_NAMES: usize = 1024;
/// A system call has six arguments, and two conditions on one are refused.
pub(super) const MAX_CONDITIONS: usize = 6;
const MAX_ARCHITECTURES: usize = 32;
const MAX_FLAGS: usize = 8;
const MAX_LABELS: usize = 16;
/// What stands in a `LabelSelector` of Kubernetes, which `nodeSelector` is none of.
const SELECTOR_KEYS: [&str; 2] = ["matchLabels", "matchExpressions"];
const MAX_ACCEPTED: usize = 64;
const MAX_CODE: usize = 64;

/// Reads a profile and what is to be done with it. `path` is where the node stands, and begins the field paths.
pub(super) fn read_spec(node: &Node, path: &FieldPath, dialect: Dialect) -> Result<ProfileSpec, Findings> {
    let mut report = Report::default();
    let spec = read_spec_into(&mut report, node, path, dialect);
    report.finish(spec)
}

/// Like [`read_spec`], with findings about what surrounds the profile before its own.
pub(crate) fn read_spec_into(
    report: &mut Report,
    node: &Node,
    path: &FieldPath,
    dialect: Dialect,
) -> Option<ProfileSpec> {
    let mut reader = Reader {
        dialect,
        report,
        docker: DockerKeys::default(),
    };
    let spec = reader.spec(node, &Place::Start(path));
    let Reader { report, docker, .. } = reader;
    docker.report(path, report);
    spec
}

/// Reads the name of an architecture.
pub(crate) fn read_architecture(report: &mut Report, node: &Node, path: &FieldPath) -> Option<Architecture> {
    let mut reader = Reader {
        dialect: Dialect::Oci,
        report,
        docker: DockerKeys::default(),
    };
    reader.architecture(node, &Place::Start(path))
}

/// The keys of the OCI's `linux.seccomp`.
pub(crate) const OCI_PROFILE: [&str; 7] = [
    "defaultAction",
    "defaultErrnoRet",
    "architectures",
    "flags",
    "listenerPath",
    "listenerMetadata",
    "syscalls",
];

/// Those of an element of its `syscalls`.
pub(crate) const OCI_ENTRY: [&str; 4] = ["names", "action", "errnoRet", "args"];

/// The keys that an object may have.
struct Keys<const N: usize> {
    known: [&'static str; N],
    docker: &'static [DockerKey],
}

const SPEC: Keys<9> = {
    let [action, errno, architectures, flags, path, metadata, syscalls] = OCI_PROFILE;
    Keys {
        known: [
            action,
            errno,
            architectures,
            flags,
            path,
            metadata,
            syscalls,
            "nodeSelector",
            "acceptFindings",
        ],
        docker: docker::OF_SPEC,
    }
};

const RULE: Keys<4> = Keys {
    known: OCI_ENTRY,
    docker: docker::OF_RULE,
};

const CONDITION: Keys<4> = Keys {
    known: ["index", "value", "valueTwo", "op"],
    docker: &[],
};

struct Reader<'r> {
    dialect: Dialect,
    report: &'r mut Report,
    docker: DockerKeys,
}

impl Reader<'_> {
    fn spec(&mut self, node: &Node, path: &Place<'_>) -> Option<ProfileSpec> {
        let fields = self.object(
            node,
            path,
            &SPEC,
            "a seccomp profile, an object that has defaultAction",
        )?;
        let [
            action,
            errno,
            architectures,
            flags,
            listener_path,
            listener_metadata,
            syscalls,
            selector,
            accept,
        ] = fields;
        let action = self.required(node, action, &path.key("defaultAction"));
        let has_empty_flags =
            flags.is_some_and(|entry| matches!(&entry.value.value, Value::List(items) if items.is_empty()));
        let profile = Profile {
            default_action: self
                .read(action, &path.key("defaultAction"), Self::action)
                .unwrap_or(Action::Errno),
            default_errno_ret: self.read(errno, &path.key("defaultErrnoRet"), Self::errno),
            architectures: self.read_list(
                architectures,
                &path.key("architectures"),
                MAX_ARCHITECTURES,
                Self::architecture,
            ),
            flags: self.read_list(flags, &path.key("flags"), MAX_FLAGS, Self::flag),
            listener_path: self.read(listener_path, &path.key("listenerPath"), Self::text),
            listener_metadata: self.read(listener_metadata, &path.key("listenerMetadata"), Self::text),
            syscalls: self.read_list(syscalls, &path.key("syscalls"), MAX_RULES, Self::rule),
        };
        for (entry, key) in [(selector, "nodeSelector"), (accept, "acceptFindings")] {
            if let Some(entry) = entry
                && self.dialect == Dialect::Oci
            {
                let message = format!(
                    "{key} belongs to the spec of a SeccompProfile manifest, not to an OCI profile: remove it"
                );
                self.report
                    .add(Code::UnknownKey, &path.key(key), entry.at, message);
            }
        }
        let node_selector = self
            .read(selector, &path.key("nodeSelector"), Self::node_selector)
            .unwrap_or_default();
        let accept_findings = self.read_list(
            accept,
            &path.key("acceptFindings"),
            MAX_ACCEPTED,
            Self::finding_code,
        );
        Some(ProfileSpec {
            profile,
            node_selector,
            accept_findings,
            has_empty_flags,
        })
    }

    fn rule(&mut self, node: &Node, path: &Place<'_>) -> Option<Rule> {
        let fields = self.object(
            node,
            path,
            &RULE,
            "an entry, an object of names, action, errnoRet and args",
        )?;
        let [names, action, errno, args] = fields;
        let names = if names.is_none() && node.get("name").is_some() {
            None // `name` was refused, and the cure is `names`.
        } else {
            self.required(node, names, &path.key("names"))
        };
        let action = self.required(node, action, &path.key("action"));
        Some(Rule {
            names: self.read_list(names, &path.key("names"), MAX_NAMES, Self::text),
            action: self
                .read(action, &path.key("action"), Self::action)
                .unwrap_or(Action::Errno),
            errno_ret: self.read(errno, &path.key("errnoRet"), Self::errno),
            args: self.read_list(args, &path.key("args"), MAX_CONDITIONS, Self::condition),
        })
    }

    fn condition(&mut self, node: &Node, path: &Place<'_>) -> Option<Condition> {
        let fields = self.object(
            node,
            path,
            &CONDITION,
            "a condition, an object of index, value, valueTwo and op",
        )?;
        let [index, value, value_two, op] = fields;
        let index = self.required(node, index, &path.key("index"));
        let value = self.required(node, value, &path.key("value"));
        let op = self.required(node, op, &path.key("op"));
        let index = self.read(index, &path.key("index"), Self::index);
        let value = self.read(value, &path.key("value"), Self::unsigned);
        let value_two = self.read(value_two, &path.key("valueTwo"), Self::unsigned);
        let op = self.read(op, &path.key("op"), Self::operator);
        Some(Condition {
            index: index?,
            value: value?,
            value_two,
            op: op?,
        })
    }

    /// The entries of an object, in the order of its known keys; reports all others, and those that stand twice.
    fn object<'n, const N: usize>(
        &mut self,
        node: &'n Node,
        path: &Place<'_>,
        keys: &Keys<N>,
        expected: &str,
    ) -> Option<[Option<&'n Entry>; N]> {
        let Value::Map(entries) = &node.value else {
            self.wrong_type(node, path, expected);
            return None;
        };
        let mut found = [None; N];
        for entry in entries {
            let field = path.key(&entry.key);
            if let Some(slot) = keys.known.iter().position(|known| *known == entry.key) {
                if found[slot].replace(entry).is_some() {
                    let message = format!("{} stands twice in one object: remove one", entry.key);
                    self.report.add(Code::DuplicateKey, &field, entry.at, message);
                }
            } else if let Some(key) = DockerKey::find(keys.docker, &entry.key) {
                self.docker.see(key, entry, entries, &field, self.report);
            } else {
                self.report.add_with(Code::UnknownKey, &field, entry.at, || {
                    unknown_key(&entry.key, &keys.known)
                });
            }
        }
        Some(found)
    }

    /// Reports an entry that is missing.
    fn required<'n>(
        &mut self,
        parent: &Node,
        entry: Option<&'n Entry>,
        path: &Place<'_>,
    ) -> Option<&'n Entry> {
        if entry.is_none() {
            self.report
                .add(Code::MissingKey, path, parent.at, "required, and missing");
        }
        entry
    }

    /// Reads an optional value.
    fn read<T>(
        &mut self,
        entry: Option<&Entry>,
        path: &Place<'_>,
        read: impl FnOnce(&mut Self, &Node, &Place<'_>) -> Option<T>,
    ) -> Option<T> {
        entry.and_then(|entry| read(self, &entry.value, path))
    }

    /// Reads an optional list; without one it is empty.
    fn read_list<T>(
        &mut self,
        entry: Option<&Entry>,
        path: &Place<'_>,
        max: usize,
        read: impl Fn(&mut Self, &Node, &Place<'_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(Entry { value: node, .. }) = entry else {
            return Vec::new();
        };
        let Value::List(items) = &node.value else {
            self.wrong_type(node, path, "a list");
            return Vec::new();
        };
        if items.len() > max {
            let message = format!("{} items, and at most {max} are allowed", items.len());
            self.report.add(Code::TooLarge, path, node.at, message);
            return Vec::new();
        }
        items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| read(self, item, &path.index(index)))
            .collect()
    }

    fn node_selector(&mut self, node: &Node, path: &Place<'_>) -> Option<BTreeMap<String, String>> {
        let Value::Map(entries) = &node.value else {
            self.wrong_type(node, path, "a map of labels, like {kubernetes.io/arch: arm64}");
            return None;
        };
        if entries.len() > MAX_LABELS {
            let message = format!("{} labels, and at most {MAX_LABELS} are allowed", entries.len());
            self.report.add(Code::TooLarge, path, node.at, message);
            return None;
        }
        let mut labels = BTreeMap::new();
        for Entry { key, at, value } in entries {
            let field = path.key(key);
            if matches!(value.value, Value::Map(_) | Value::List(_)) && SELECTOR_KEYS.contains(&key.as_str())
            {
                let message = format!(
                    "nodeSelector is a map of labels itself, as that of a pod: write the labels under it, without {key}"
                );
                self.report.add(Code::WrongType, &field, *at, message);
                continue;
            }
            if let Err(reason) = label::check_key(key) {
                self.report.add(
                    Code::BadValue,
                    &field,
                    *at,
                    format!("{} is no label key: {reason}", quoted(key)),
                );
            }
            let Some(text) = self.text(value, &field) else {
                continue;
            };
            if let Err(reason) = label::check_value(&text) {
                let message = format!("{} is no label value: {reason}", quoted(&text));
                self.report.add(Code::BadValue, &field, value.at, message);
            }
            if labels.insert(key.clone(), text).is_some() {
                let message = format!("{} stands twice in one object: remove one", quoted(key));
                self.report.add(Code::DuplicateKey, &field, *at, message);
            }
        }
        Some(labels)
    }

    fn finding_code(&mut self, node: &Node, path: &Place<'_>) -> Option<String> {
        let text = self.text(node, path)?;
        let word = |word: &str| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if text.len() <= MAX_CODE && text.split('-').all(word) {
            return Some(text);
        }
        let message = format!(
            "{} is no code of a finding: write one as status shows it, in lower case",
            quoted(&text)
        );
        self.report.add(Code::BadValue, path, node.at, message);
        None
    }
}

#[cfg(test)]
mod tests;
