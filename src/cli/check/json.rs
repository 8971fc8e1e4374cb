//! Findings for programs, as `docs/check.schema.json` and `docs/check.md` describe them.

use serde::Serialize;

use super::{Checked, Report, Unread};
use crate::proof::Verdict;
use crate::text::{chain, printable_json};

#[derive(Serialize)]
struct Output<'a> {
    files: Vec<Document<'a>>,
}

/// One document of a file, or a file that could not be read. Every member is always there; null says that there
/// is nothing.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    file: &'a str,
    /// Of the document's first line, from 1.
    line: Option<usize>,
    title: Option<String>,
    profile: Option<String>,
    verdict: &'static str,
    /// Whether it may be installed, whatever is denied; nothing where there is no verdict.
    valid: Option<bool>,
    /// Why there is no verdict.
    reason: Option<String>,
    digest: Option<String>,
    findings: Vec<Finding<'a>>,
    /// With those that are not listed.
    findings_total: usize,
    filters: Vec<Filter<'a>>,
    /// Whether this machine's kernel took the filter; nothing where there is none.
    loaded: Option<bool>,
}

#[derive(Serialize)]
struct Finding<'a> {
    code: &'static str,
    class: &'static str,
    accepted: bool,
    denied: bool,
    path: &'a str,
    line: Option<usize>,
    column: Option<usize>,
    message: &'a str,
    help: &'static str,
    witness: Option<&'a str>,
}

#[derive(Serialize)]
struct Filter<'a> {
    architecture: &'a str,
    instructions: u32,
}

/// One object, and a newline.
pub(super) fn render(report: &Report<'_>) -> serde_json::Result<String> {
    let documents = report.checked.iter().map(|one| document(report, one));
    let output = Output {
        files: documents.chain(report.unread.iter().map(unread)).collect(),
    };
    Ok(printable_json(&serde_json::to_string_pretty(&output)?) + "\n")
}

fn document<'a>(report: &Report<'_>, one: &'a Checked<'_>) -> Document<'a> {
    let (verdict, valid, reason, digest) = match one.verdict() {
        None => ("skipped", None, None, None),
        Some(Verdict::Valid(proven)) => ("valid", Some(true), None, Some(proven.canonical.digest)),
        Some(Verdict::Invalid(refused)) => ("invalid", Some(false), None, refused.digest),
        Some(Verdict::Unknown(reason)) => ("unknown", None, Some(reason.clone()), None),
    };
    let (filters, loaded) = match one.verdict() {
        Some(Verdict::Valid(proven)) => (proven.filters.as_slice(), Some(proven.is_loaded)),
        _ => (&[][..], None),
    };
    Document {
        file: &one.file.name,
        line: Some(one.line()),
        title: Some(one.title()),
        profile: one.name(),
        verdict,
        valid,
        reason,
        digest: digest.map(|digest| digest.to_string()),
        findings: one
            .findings
            .iter()
            .map(|finding| Finding {
                code: finding.code.as_str(),
                class: finding.class().as_str(),
                accepted: finding.accepted.is_some(),
                denied: report.denies(finding),
                path: finding.field.as_str(),
                line: finding.location.map(|location| location.line),
                column: finding.location.map(|location| location.column),
                message: &finding.message,
                help: finding.code.cure(),
                witness: finding.witness.as_deref(),
            })
            .collect(),
        findings_total: one.total(),
        filters: filters
            .iter()
            .map(|(architecture, instructions)| Filter {
                architecture: architecture.as_str(),
                instructions: *instructions,
            })
            .collect(),
        loaded,
    }
}

fn unread(unread: &Unread) -> Document<'_> {
    Document {
        file: &unread.name,
        line: None,
        title: None,
        profile: None,
        verdict: "unreadable",
        valid: None,
        reason: Some(chain(unread.error.as_ref())),
        digest: None,
        findings: Vec::new(),
        findings_total: 0,
        filters: Vec::new(),
        loaded: None,
    }
}
