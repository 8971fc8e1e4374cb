//! What people keep profiles in: OCI JSON, manifests of Kubernetes, an OCI runtime's `config.json`.
//!
//! A text that begins with `{` is JSON, as for kubectl, and then strictly so (`//` begins none, and is told as such); every other text is YAML, and can
//! only hold manifests, because container runtimes read JSON alone.

mod manifest;

use std::sync::Arc;

use super::document::{MAX_DOCUMENTS, MAX_TEXT, Node, SyntaxError, Value, read_json, read_yaml};
use super::finding::{Code, FieldPath, Finding, Findings, Location};
use super::model::ProfileSpec;
use super::name::ProfileName;
use super::parse::{Dialect, Report, read_spec, read_spec_into};

/// What a profile was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// The OCI runtime-spec's `linux.seccomp` object alone, as JSON.
    Oci,
    /// A `SeccompProfile` object.
    Manifest,
    /// The `linux.seccomp` of an OCI runtime's `config.json`.
    RuntimeConfig,
    /// What is no document at all, or none of the above.
    Unreadable,
}

/// One document of a text.
#[derive(Debug, Clone)]
pub enum SourceDocument {
    /// A profile, or what was to be one.
    Profile(Box<SourceProfile>),
    /// An object that is none of ours, such as the namespace that a manifest brings along.
    Other {
        /// Its `kind`.
        kind: String,
        /// The line on which it begins.
        line: usize,
    },
}

/// A profile as it was read, and the places of its text.
#[derive(Debug, Clone)]
pub struct SourceProfile {
    /// What it was found in.
    pub kind: SourceKind,
    /// Namespace and name of a manifest. `None` for the other kinds, and for a bad name, which is then among
    /// the findings.
    pub name: Option<ProfileName>,
    /// The line on which the document, or the item of a list, begins.
    pub line: usize,
    /// The profile, or all that is wrong, with paths within the document and places in the text.
    pub spec: Result<ProfileSpec, Findings>,
    document: Arc<Node>,
    prefix: FieldPath,
    /// Where the object stands within the document.
    object: FieldPath,
}

impl SourceProfile {
    /// Where the profile lies within the document: findings about the profile alone are named from there.
    #[must_use]
    pub fn prefix(&self) -> &FieldPath {
        &self.prefix
    }

    /// Where a manifest has its name.
    #[must_use]
    pub fn name_path(&self) -> FieldPath {
        self.object.key("metadata").key("name")
    }

    /// The place of the value that a path within the document leads to, or of the nearest one around it.
    #[must_use]
    pub fn locate(&self, field: &FieldPath) -> Option<Location> {
        self.document.locate(field)
    }
}

/// How many findings of one text are listed; beyond them, each document lists its first alone.
const MAX_LISTED: usize = 10_000;

/// Reads every document of a text. Never empty: a text without any document is one unreadable document.
#[must_use]
pub fn read(text: &[u8]) -> Vec<SourceDocument> {
    let begin = Location { line: 1, column: 1 };
    if text.len() > MAX_TEXT {
        let message = format!(
            "{} bytes, and at most {} MiB are read",
            text.len(),
            MAX_TEXT / (1024 * 1024)
        );
        return vec![unreadable(Code::TooLarge, message, begin)];
    }
    let text = match str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            let good = String::from_utf8_lossy(&text[..error.valid_up_to()]);
            let last = good.rsplit('\n').next().unwrap_or_default();
            let at = Location {
                line: good.matches('\n').count() + 1,
                column: last.chars().count() + 1,
            };
            return vec![unreadable(Code::Syntax, "not UTF-8", at)];
        }
    };
    let documents = if is_json(text) { json(text) } else { yaml(text) };
    let Documents {
        list: mut documents,
        has_more,
        ..
    } = documents;
    if has_more {
        let message = format!("more than {MAX_DOCUMENTS} documents, and no more are read: split the file");
        documents.push(unreadable(Code::TooLarge, message, begin));
    }
    if documents.is_empty() {
        let message = "empty: expected an OCI seccomp profile in JSON, or SeccompProfile manifests";
        return vec![unreadable(Code::Syntax, message, begin)];
    }
    documents
}

/// Whether a text is read as JSON, and not as YAML: their lines end differently.
#[must_use]
pub fn is_json(text: &str) -> bool {
    let first = text.trim_start_matches(|c: char| c == '\u{feff}' || c.is_ascii_whitespace());
    // No manifest in YAML begins with what programs take for a comment in JSON.
    first.starts_with(['{', '/'])
}

/// What was found in a text so far. It has bounds, whatever the text holds.
#[derive(Default)]
struct Documents {
    /// At most [`MAX_DOCUMENTS`].
    list: Vec<SourceDocument>,
    /// Whether there are more.
    has_more: bool,
    /// Findings that are listed.
    listed: usize,
}

impl Documents {
    fn push(&mut self, mut document: SourceDocument) {
        if self.list.len() == MAX_DOCUMENTS {
            self.has_more = true;
            return;
        }
        if let SourceDocument::Profile(profile) = &mut document
            && let Err(findings) = &mut profile.spec
        {
            findings.shorten(MAX_LISTED.saturating_sub(self.listed).max(1));
            self.listed += findings.len();
        }
        self.list.push(document);
    }
}

fn json(text: &str) -> Documents {
    let mut documents = Documents::default();
    let document = match read_json(text) {
        Ok(node) => Arc::new(node),
        Err(SyntaxError { at, message }) => {
            documents.push(unreadable(Code::Syntax, message, at));
            return documents;
        }
    };
    let root = FieldPath::root();
    if manifest::read_objects(&document, &[], &mut documents) {
        return documents;
    }
    let is_config = ["ociVersion", "linux", "process"]
        .iter()
        .any(|key| document.entry(key).is_some());
    let (kind, prefix, spec) = if is_config {
        let prefix = root.key("linux").key("seccomp");
        (
            SourceKind::RuntimeConfig,
            prefix.clone(),
            runtime_config(&document, &prefix),
        )
    } else {
        (
            SourceKind::Oci,
            root.clone(),
            read_spec(&document, &root, Dialect::Oci),
        )
    };
    let line = document.at.map_or(1, |at| at.line);
    documents.push(SourceDocument::Profile(Box::new(SourceProfile {
        kind,
        name: None,
        line,
        spec,
        document,
        prefix,
        object: root,
    })));
    documents
}

fn runtime_config(document: &Node, path: &FieldPath) -> Result<ProfileSpec, Findings> {
    let mut report = Report::default();
    report.add_repeated_keys(document, &FieldPath::root());
    let linux = document.get("linux");
    if let Some(linux) = linux {
        report.add_repeated_keys(linux, &FieldPath::root().key("linux"));
    }
    let spec = match linux.and_then(|linux| linux.get("seccomp")) {
        // Which of the two was meant?
        _ if !report.is_empty() => None,
        Some(seccomp) => read_spec_into(&mut report, seccomp, path, Dialect::Oci),
        None => {
            let message = "missing: without it the container runs under no filter";
            report.add(Code::MissingKey, path, linux.unwrap_or(document).at, message);
            None
        }
    };
    report.finish(spec)
}

fn yaml(text: &str) -> Documents {
    let read = read_yaml(text);
    let mut documents = Documents {
        has_more: read.len() > MAX_DOCUMENTS,
        ..Documents::default()
    };
    for document in read {
        let node = match document.read {
            Ok(node) if node.value == Value::Null && document.errors.is_empty() => continue,
            Ok(node) => Arc::new(node),
            Err(SyntaxError { at, message }) => {
                documents.push(unreadable(Code::Syntax, message, at));
                continue;
            }
        };
        if !manifest::read_objects(&node, &document.errors, &mut documents) {
            let message = "not an object of Kubernetes: a manifest has apiVersion, kind, metadata and spec; \
                           an OCI profile must be JSON, because runtimes read nothing else";
            documents.push(unreadable(Code::MissingKey, message, document.at));
        }
    }
    documents
}

fn unreadable(code: Code, message: impl Into<String>, at: Location) -> SourceDocument {
    let finding = Finding {
        location: Some(at),
        ..Finding::new(code, FieldPath::root(), message)
    };
    SourceDocument::Profile(Box::new(SourceProfile {
        kind: SourceKind::Unreadable,
        name: None,
        line: at.line,
        spec: Err(finding.into()),
        document: Arc::new(Node {
            value: Value::Null,
            at: Some(at),
        }),
        prefix: FieldPath::root(),
        object: FieldPath::root(),
    }))
}

#[cfg(test)]
mod tests;
