//! What a reader found.

use super::super::document::Node;
use super::super::finding::{Code, FieldPath, Finding, Findings, Location, quoted};

/// Findings in the order of the document.
#[derive(Debug, Default)]
pub(crate) struct Report {
    findings: Findings,
}

impl Report {
    pub(crate) fn add(
        &mut self,
        code: Code,
        field: impl Into<FieldPath>,
        location: Option<Location>,
        message: impl Into<String>,
    ) {
        self.add_with(code, field, location, || message.into());
    }

    /// Adds a finding whose message costs something; it is made only if it will be read.
    pub(crate) fn add_with(
        &mut self,
        code: Code,
        field: impl Into<FieldPath>,
        location: Option<Location>,
        message: impl FnOnce() -> String,
    ) {
        self.findings.push(|| Finding {
            location,
            ..Finding::new(code, field.into(), message())
        });
    }

    /// Adds a finding for each key of a map that an earlier one repeats.
    pub(crate) fn add_repeated_keys(&mut self, node: &Node, path: &FieldPath) {
        for entry in node.repeated_keys() {
            self.add_with(Code::DuplicateKey, path.key(&entry.key), entry.at, || {
                format!("{} stands twice in one object: remove one", quoted(&entry.key))
            });
        }
    }

    pub(super) fn insert(&mut self, index: usize, finding: Finding) {
        self.findings.insert(index, finding);
    }

    /// How many findings are listed so far.
    pub(super) fn len(&self) -> usize {
        self.findings.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// What was read, if nothing was found. A reader that gives `None` has reported why.
    pub(crate) fn finish<T>(self, read: Option<T>) -> Result<T, Findings> {
        match read {
            Some(read) if self.findings.is_empty() => Ok(read),
            _ => Err(self.findings),
        }
    }
}
