//! From JSON text to a profile in Docker's format: exact keys, everything that is wrong at once, each with its place.
//!
//! The keys that the OCI's format has too are left to the reader of `profile`: it gets the same document with the other
//! keys translated or taken out, so that paths and places stay those of the text.

use std::collections::BTreeMap;

use super::errno;
use super::host::{ARCHES, Capability, KernelVersion};
use super::{DockerProfile, Entry, Filter};
use crate::profile::{
    Architecture, Code, Dialect, FieldPath, Finding, Findings, Location, Node, OCI_ENTRY, OCI_PROFILE,
    Report, SyntaxError, UnknownName, Value, nearest, quoted, read_architecture, read_json, read_spec_into,
    unknown_key,
};

type Member = crate::profile::Entry;

/// What Docker's format has beside the keys of the OCI's.
const DOCKER_PROFILE: [&str; 3] = ["archMap", "defaultErrno", "comment"];
const DOCKER_ENTRY: [&str; 5] = ["name", "comment", "includes", "excludes", "errno"];
const FILTER: [&str; 3] = ["caps", "arches", "minKernel"];
const ARCH_MAP: [&str; 2] = ["architecture", "subArchitectures"];

/// What else holds profiles, by a key that it has and a profile has not, and what to do with it.
const OTHER_DOCUMENTS: [(&str, &str); 3] = [
    (
        "apiVersion",
        "this is an object of Kubernetes, and this reads a profile alone: put what is under the spec of a SeccompProfile into \
         a file of its own, as JSON, and resolve that",
    ),
    ("ociVersion", RUNTIME_CONFIG),
    ("linux", RUNTIME_CONFIG),
];

const RUNTIME_CONFIG: &str = "this is the config.json of a container runtime, and this reads a profile alone: put what is under \
                              linux.seccomp into a file of its own, and resolve that";

/// Reads a profile in Docker's format, or a plain one. It lists at most [`Findings::MAX`] mistakes.
pub fn read(text: &str) -> Result<DockerProfile, Findings> {
    let node = read_json(text).map_err(|SyntaxError { at, message }| {
        let cure = if looks_like_yaml(text) {
            "; profiles are JSON: put what is under the spec of a manifest into a file of its own, as JSON, and resolve that"
        } else {
            ""
        };
        Finding {
            location: Some(at),
            ..Finding::new(Code::Syntax, FieldPath::root(), message + cure)
        }
    })?;
    let mut reader = Reader::default();
    let profile = reader.profile(&node);
    reader.report.finish(profile)
}

fn looks_like_yaml(text: &str) -> bool {
    text.starts_with("---") || text.lines().any(|line| line.starts_with("apiVersion:"))
}

#[derive(Default)]
struct Reader {
    report: Report,
    /// Whether a key was seen that is Docker's alone.
    is_docker: bool,
    /// Whether a key was seen that dockerd alone reads.
    has_min_kernel: bool,
    /// The first errno that Podman and CRI-O alone read: what is to be written for it, and where it stands.
    lone_errno: Option<(String, FieldPath, Option<Location>)>,
}

/// An object without what is empty: programs in Go take an absent, a null and an empty value for the same.
struct Object<'n> {
    at: Option<Location>,
    members: BTreeMap<&'n str, &'n Member>,
}

impl<'n> Object<'n> {
    fn get(&self, key: &str) -> Option<&'n Member> {
        self.members.get(key).copied()
    }

    /// These members alone, as a document.
    fn only(&self, keys: &[&str]) -> Vec<Member> {
        keys.iter().filter_map(|key| self.get(key)).cloned().collect()
    }
}

impl Reader {
    fn profile(&mut self, node: &Node) -> Option<DockerProfile> {
        let root = FieldPath::root();
        if let Value::Map(members) = &node.value
            && let Some((key, cure)) = OTHER_DOCUMENTS
                .into_iter()
                .find(|(key, _)| members.iter().any(|member| member.key == *key))
        {
            self.report.add(Code::UnknownKey, root.key(key), node.at, cure);
            return None;
        }
        let object = self.object(node, &root, &OCI_PROFILE, &DOCKER_PROFILE)?;
        let mut plain = object.only(&OCI_PROFILE);
        plain.extend(self.errno(&object, ["defaultErrno", "defaultErrnoRet"], &root));
        self.comment(&object, &root);

        let arch_map = self.arch_map(&object);
        let mut conditions = Vec::new();
        if let Some(syscalls) = plain.iter_mut().find(|member| member.key == "syscalls")
            && let Value::List(entries) = &mut syscalls.value.value
        {
            let path = root.key("syscalls");
            for (index, entry) in entries.iter_mut().enumerate() {
                let (rule, filters) = self.entry(entry, &path.index(index));
                *entry = rule;
                conditions.push(filters);
            }
        }
        if let Some((cure, path, at)) = self.lone_errno.take()
            && self.has_min_kernel
        {
            let message = format!(
                "dockerd does not read it, and Podman and CRI-O do not read the minKernel that this file has too: write {cure}"
            );
            self.report.add(Code::BadValue, &path, at, message);
        }

        let plain = Node {
            value: Value::Map(plain),
            at: object.at,
        };
        let mut base = read_spec_into(&mut self.report, &plain, &root, Dialect::Oci)?.profile;
        let rules = std::mem::take(&mut base.syscalls);
        // Where an entry could not be read they are not as many; then this profile is not given out.
        let entries = rules
            .into_iter()
            .zip(conditions)
            .map(|(rule, [includes, excludes])| Entry {
                rule,
                includes,
                excludes,
            })
            .collect();
        Some(DockerProfile {
            base,
            arch_map,
            entries,
            is_plain: !self.is_docker,
        })
    }

    /// What the OCI's format would hold in place of an entry, and the two filters of the entry.
    fn entry(&mut self, node: &Node, path: &FieldPath) -> (Node, [Filter; 2]) {
        let Some(object) = self.object(node, path, &OCI_ENTRY, &DOCKER_ENTRY) else {
            return (node.clone(), [Filter::default(), Filter::default()]);
        };
        let mut plain = object.only(&OCI_ENTRY);
        if let Some(name) = object.get("name") {
            if object.get("names").is_some() {
                let message = "name and names in one entry: no container starts under dockerd, Podman or CRI-O; keep names";
                self.report
                    .add(Code::BadValue, path.key("name"), name.at, message);
            } else if name.value.text().is_some() {
                let names = Value::List(vec![name.value.clone()]);
                plain.push(replaced(name, "names", names));
            } else {
                self.wrong_type(&name.value, &path.key("name"), "text");
                // So that it is not said to be missing as well.
                plain.push(replaced(name, "names", Value::List(Vec::new())));
            }
        }
        plain.extend(self.errno(&object, ["errno", "errnoRet"], path));
        self.comment(&object, path);
        let filters = ["includes", "excludes"].map(|key| self.filter(object.get(key), &path.key(key)));
        let node = Node {
            value: Value::Map(plain),
            at: object.at,
        };
        (node, filters)
    }

    fn filter(&mut self, member: Option<&Member>, path: &FieldPath) -> Filter {
        let Some(object) = member.and_then(|member| self.object(&member.value, path, &[], &FILTER)) else {
            return Filter::default();
        };
        let capabilities = self.texts(object.get("caps"), &path.key("caps"), |text| {
            text.parse::<Capability>()
                .map_err(|UnknownName { known, .. }| unknown("capability", text, &known))
        });
        let architectures = self.texts(object.get("arches"), &path.key("arches"), |text| {
            let known = ARCHES.into_iter().find(|name| *name == text);
            known.ok_or_else(|| unknown_arch(text))
        });
        let min_kernel = object
            .get("minKernel")
            .and_then(|member| self.min_kernel(member, &path.key("minKernel")));
        Filter {
            capabilities,
            architectures,
            min_kernel,
        }
    }

    fn min_kernel(&mut self, member: &Member, path: &FieldPath) -> Option<KernelVersion> {
        self.has_min_kernel = true;
        let Some(text) = member.value.text() else {
            self.wrong_type(&member.value, path, "text, for example \"4.8\"");
            return None;
        };
        let version = KernelVersion::from_condition(text);
        if version.is_none() {
            let message = format!(
                "{} is no kernel version: write two numbers, each at most 255, for example \"4.8\"",
                quoted(text)
            );
            self.report.add(Code::BadValue, path, member.value.at, message);
        }
        version
    }

    fn arch_map(&mut self, profile: &Object<'_>) -> BTreeMap<Architecture, Vec<Architecture>> {
        let mut map = BTreeMap::new();
        let Some(member) = profile.get("archMap") else {
            return map;
        };
        let path = FieldPath::root().key("archMap");
        if profile.get("architectures").is_some() {
            let message = "archMap and architectures in one profile: no container starts under dockerd, Podman or CRI-O; keep one";
            self.report.add(Code::BadValue, &path, member.at, message);
        }
        for (item, path) in self.items(member, &path) {
            let Some(object) = self.object(item, &path, &[], &ARCH_MAP) else {
                continue;
            };
            let Some(native) = object.get("architecture") else {
                let path = path.key("architecture");
                self.report
                    .add(Code::MissingKey, &path, item.at, "required, and missing");
                continue;
            };
            let native_path = path.key("architecture");
            let Some(architecture) = read_architecture(&mut self.report, &native.value, &native_path) else {
                continue;
            };
            let mut all = vec![architecture];
            if let Some(others) = object.get("subArchitectures") {
                for (item, path) in self.items(others, &path.key("subArchitectures")) {
                    all.extend(read_architecture(&mut self.report, item, &path));
                }
            }
            if map.insert(architecture, all).is_some() {
                let message = format!(
                    "{architecture} stands twice in archMap, and only the first counts: make them one"
                );
                self.report
                    .add(Code::BadValue, &native_path, native.value.at, message);
            }
        }
        map
    }

    /// The number that stands for an errno which is given as text, where none is given as a number.
    fn errno(
        &mut self,
        object: &Object<'_>,
        [key, number_key]: [&str; 2],
        path: &FieldPath,
    ) -> Option<Member> {
        let member = object.get(key)?;
        let path = path.key(key);
        let Some(text) = member.value.text() else {
            self.wrong_type(&member.value, &path, "text, the name of an errno");
            return None;
        };
        let Some(number) = errno::number(text) else {
            let message = unknown("errno", text, &errno::names());
            self.report.add(Code::BadValue, &path, member.value.at, message);
            return None;
        };
        let Some(beside) = object.get(number_key) else {
            self.lone_errno
                .get_or_insert_with(|| (format!("{number_key}: {number}"), path, member.at));
            return Some(replaced(member, number_key, Value::Integer(number.into())));
        };
        if let Value::Integer(beside) = beside.value.value
            && beside != i128::from(number)
        {
            let message = format!(
                "{} is {number}, and {number_key} beside it is {beside}: Podman and CRI-O take the first, dockerd the second; \
                 make them the same",
                quoted(text)
            );
            self.report.add(Code::BadValue, &path, member.value.at, message);
        }
        None
    }

    /// It says nothing, but programs in Go read nothing but text.
    fn comment(&mut self, object: &Object<'_>, path: &FieldPath) {
        if let Some(member) = object.get("comment")
            && member.value.text().is_none()
        {
            self.wrong_type(&member.value, &path.key("comment"), "text");
        }
    }

    /// The members of an object that say something. `None` for what is no object; reports keys that are not known or
    /// stand twice.
    fn object<'n>(
        &mut self,
        node: &'n Node,
        path: &FieldPath,
        oci: &[&str],
        docker: &[&str],
    ) -> Option<Object<'n>> {
        let Value::Map(members) = &node.value else {
            self.wrong_type(node, path, "an object");
            return None;
        };
        self.report.add_repeated_keys(node, path);
        let mut object = Object {
            at: node.at,
            members: BTreeMap::new(),
        };
        for member in members {
            let key = member.key.as_str();
            let is_docker = docker.contains(&key);
            self.is_docker |= is_docker;
            if !is_docker && !oci.contains(&key) {
                self.report
                    .add_with(Code::UnknownKey, path.key(key), member.at, || {
                        unknown_key(key, &[oci, docker].concat())
                    });
            } else if !is_empty(&member.value.value) || is_kernel_zero(member) {
                object.members.insert(key, member);
            }
        }
        Some(object)
    }

    /// The items of a list, each with its path.
    fn items<'n>(&mut self, member: &'n Member, path: &FieldPath) -> Vec<(&'n Node, FieldPath)> {
        let Value::List(items) = &member.value.value else {
            self.wrong_type(&member.value, path, "a list");
            return Vec::new();
        };
        let with_path = items.iter().enumerate();
        with_path.map(|(index, item)| (item, path.index(index))).collect()
    }

    /// A list of texts; without one it is empty.
    fn texts<T>(
        &mut self,
        member: Option<&Member>,
        path: &FieldPath,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut texts = Vec::new();
        let items = member.map_or_else(Vec::new, |member| self.items(member, path));
        for (item, path) in items {
            match item.text().map(&read) {
                Some(Ok(read)) => texts.push(read),
                Some(Err(message)) => self.report.add(Code::BadValue, &path, item.at, message),
                None => self.wrong_type(item, &path, "text"),
            }
        }
        texts
    }

    fn wrong_type(&mut self, node: &Node, path: &FieldPath, expected: &str) {
        let message = format!("expected {expected}, found {}", node.value.describe());
        self.report.add(Code::WrongType, path, node.at, message);
    }
}

/// A member at the place of another.
fn replaced(member: &Member, key: &str, value: Value) -> Member {
    Member {
        key: key.to_owned(),
        at: member.at,
        value: Node {
            value,
            at: member.value.at,
        },
    }
}

/// An empty text is as good as none, but for this: to dockerd every kernel is as new as that, and an entry that excludes
/// such kernels is never taken.
fn is_kernel_zero(member: &Member) -> bool {
    member.key == "minKernel" && member.value.text() == Some("")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Text(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(_) | Value::Bool(_) | Value::Integer(_) | Value::Number(_) => false,
    }
}

/// What to say of a name that is none of `known`.
pub(crate) fn unknown(what: &str, text: &str, known: &[&str]) -> String {
    let cure = match nearest(text, known) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("write one of {}", known.join(", ")),
    };
    format!("unknown {what} {}; {cure}", quoted(text))
}

/// What kernels call an architecture is not what the format calls it.
fn unknown_arch(text: &str) -> String {
    let meant = match text {
        "x86_64" | "x86-64" | "x64" => "amd64",
        "aarch64" => "arm64",
        "386" | "i386" | "i686" => "x86",
        _ => return unknown("architecture", text, &ARCHES),
    };
    format!("unknown architecture {}; did you mean {meant}?", quoted(text))
}
