//! Objects of Kubernetes: which are profiles, and what surrounds their `spec`.

use std::sync::Arc;

use super::super::document::{Node, SyntaxError, Value};
use super::super::finding::{Code, FieldPath, quoted};
use super::super::name::{InvalidName, ProfileName};
use super::super::parse::{Dialect, Report, read_spec_into, unknown_key};
use super::{Documents, SourceDocument, SourceKind, SourceProfile};

const GROUP: &str = "callgate.dev/";
const API_VERSION: &str = "callgate.dev/v1alpha1";
const KIND: &str = "SeccompProfile";
const LIST: &str = "SeccompProfileList";
/// Kinds of our group that are no profiles.
const OTHER_KINDS: [&str; 1] = ["SeccompNode"];
/// Where kubectl puts an object that names no namespace.
const DEFAULT_NAMESPACE: &str = "default";

const OBJECT_KEYS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
/// Source: `ObjectMeta` in
/// <https://github.com/kubernetes/kubernetes/blob/v1.36.3/staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/types.go>.
const METADATA_KEYS: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

/// Adds the objects that a document holds: itself, or the items of a list. False for what has neither `kind` nor
/// `apiVersion`. `errors` are what kubectl would read differently in this document.
pub(super) fn read_objects(document: &Arc<Node>, errors: &[SyntaxError], objects: &mut Documents) -> bool {
    if document.entry("kind").is_none() && document.entry("apiVersion").is_none() {
        return false;
    }
    Reader { document, errors }.object(document, &FieldPath::root(), objects);
    true
}

struct Reader<'d> {
    document: &'d Arc<Node>,
    errors: &'d [SyntaxError],
}

impl Reader<'_> {
    /// Recurses with lists of lists, which the nesting of documents bounds.
    fn object(&self, node: &Node, path: &FieldPath, objects: &mut Documents) {
        let api_version = node.get("apiVersion").and_then(Node::text);
        let kind = node.get("kind").and_then(Node::text);
        if let (Some(version), Some(kind)) = (api_version, kind) {
            let ours = version.starts_with(GROUP);
            if (version == "v1" && kind == "List") || (ours && kind == LIST) {
                let items = match node.get("items").map(|items| &items.value) {
                    Some(Value::List(items)) => Some(items.as_slice()),
                    // What programs in Go write of a list without items.
                    Some(Value::Null) => Some(&[][..]),
                    _ => None,
                };
                if let Some(items) = items {
                    if items.is_empty() {
                        objects.push(other(kind, node));
                    }
                    let path = path.key("items");
                    for (index, item) in items.iter().enumerate() {
                        if objects.has_more {
                            return;
                        }
                        self.object(item, &path.index(index), objects);
                    }
                    return;
                }
            } else if kind != KIND && (!ours || OTHER_KINDS.contains(&kind)) {
                objects.push(other(kind, node));
                return;
            }
        }
        objects.push(SourceDocument::Profile(Box::new(self.profile(node, path))));
    }

    fn profile(&self, node: &Node, path: &FieldPath) -> SourceProfile {
        let prefix = path.key("spec");
        let mut report = Report::default();
        for error in self.errors {
            report.add_with(Code::Syntax, path, Some(error.at), || error.message.clone());
        }
        check_type(node, path, &mut report);
        check_keys(node, path, &OBJECT_KEYS, &mut report);
        let name = read_name(node, path, &mut report);
        let spec = if let Some(spec) = node.get("spec") {
            read_spec_into(&mut report, spec, &prefix, Dialect::Object)
        } else {
            report.add(
                Code::MissingKey,
                &prefix,
                node.at,
                "required, and missing: the profile",
            );
            None
        };
        SourceProfile {
            kind: SourceKind::Manifest,
            name,
            line: node.at.map_or(1, |at| at.line),
            spec: report.finish(spec),
            document: Arc::clone(self.document),
            prefix,
            object: path.clone(),
        }
    }
}

fn other(kind: &str, node: &Node) -> SourceDocument {
    SourceDocument::Other {
        kind: kind.to_owned(),
        line: node.at.map_or(1, |at| at.line),
    }
}

/// Checks `apiVersion` and `kind`.
fn check_type(node: &Node, path: &FieldPath, report: &mut Report) {
    for (key, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        let path = path.key(key);
        let Some(value) = node.get(key) else {
            let message = format!("missing: write {key}: {expected}");
            report.add(Code::MissingKey, &path, node.at, message);
            continue;
        };
        let message = match value.text() {
            Some(text) if text == expected => continue,
            Some(text) if text.starts_with("security-profiles-operator.x-k8s.io/") => format!(
                "{} is the Security Profiles Operator's: write {key}: {expected}, and a namespace under metadata",
                quoted(text)
            ),
            Some(text) => format!("{} is not Callgate's: write {key}: {expected}", quoted(text)),
            None => format!(
                "expected text, found {}: write {key}: {expected}",
                value.value.describe()
            ),
        };
        report.add(Code::BadValue, &path, value.at, message);
    }
}

/// Reports keys that are not known, or stand twice.
fn check_keys(node: &Node, path: &FieldPath, known: &[&str], report: &mut Report) {
    if let Value::Map(entries) = &node.value {
        for entry in entries
            .iter()
            .filter(|entry| !known.contains(&entry.key.as_str()))
        {
            report.add_with(Code::UnknownKey, path.key(&entry.key), entry.at, || {
                unknown_key(&entry.key, known)
            });
        }
    }
    report.add_repeated_keys(node, path);
}

/// Reads namespace and name. What is wrong with them is reported.
fn read_name(node: &Node, path: &FieldPath, report: &mut Report) -> Option<ProfileName> {
    let path = path.key("metadata");
    let Some(metadata) = node.get("metadata") else {
        let message = "required, and missing: write a name under it";
        report.add(Code::MissingKey, &path, node.at, message);
        return None;
    };
    if !matches!(metadata.value, Value::Map(_)) {
        let message = format!("expected an object, found {}", metadata.value.describe());
        report.add(Code::WrongType, &path, metadata.at, message);
        return None;
    }
    check_keys(metadata, &path, &METADATA_KEYS, report);
    let mut text = |key: &str| {
        let value = metadata.get(key).filter(|value| value.value != Value::Null)?;
        if value.text().is_none() {
            let message = format!(
                "expected text, found {}: write it in quotes",
                value.value.describe()
            );
            report.add(Code::WrongType, path.key(key), value.at, message);
        }
        Some(value.text())
    };
    let (namespace, name) = (text("namespace"), text("name"));
    let namespace = match namespace {
        None | Some(Some("")) => DEFAULT_NAMESPACE,
        Some(namespace) => namespace?,
    };
    let Some(name) = name else {
        let message = "required, and missing: the file of the profile is named after it";
        report.add(Code::MissingKey, path.key("name"), metadata.at, message);
        return None;
    };
    match ProfileName::new(namespace, name?) {
        Ok(name) => Some(name),
        Err(error) => {
            let key = if matches!(error, InvalidName::Namespace(_)) {
                "namespace"
            } else {
                "name"
            };
            let value = metadata.get(key).unwrap_or(metadata);
            report.add(Code::BadName, path.key(key), value.at, error.to_string());
            None
        }
    }
}
