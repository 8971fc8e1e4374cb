//! Findings for programs.

use serde::Serialize;

use super::Checked;
use crate::proof::Verdict;
use crate::text::printable_json;

/// One document.
#[derive(Serialize)]
struct Document<'a> {
    file: &'a str,
    /// Of the document's first line, from 1.
    line: usize,
    name: String,
    verdict: &'static str,
    /// Why there is no verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    filters: Vec<Filter<'a>>,
    findings: Vec<Finding>,
    /// With those that are not listed.
    #[serde(rename = "findingsTotal")]
    findings_total: usize,
}

#[derive(Serialize)]
struct Filter<'a> {
    architecture: &'a str,
    instructions: u32,
}

#[derive(Serialize)]
struct Finding {
    code: &'static str,
    class: &'static str,
    field: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    message: String,
}

/// An array with an object for each document, and a newline.
pub(super) fn render(checked: &[Checked<'_>]) -> serde_json::Result<String> {
    let documents: Vec<_> = checked.iter().map(document).collect();
    Ok(printable_json(&serde_json::to_string_pretty(&documents)?) + "\n")
}

fn document<'a>(one: &'a Checked<'_>) -> Document<'a> {
    let (verdict, reason, digest) = match one.verdict() {
        None => ("skipped", None, None),
        Some(Verdict::Valid(proven)) => ("valid", None, Some(proven.canonical.digest)),
        Some(Verdict::Invalid(refused)) => ("invalid", None, refused.digest),
        Some(Verdict::Unknown(reason)) => ("unknown", Some(reason.as_str()), None),
    };
    let filters = match one.verdict() {
        Some(Verdict::Valid(proven)) => proven.filters.as_slice(),
        _ => &[],
    };
    let findings: Vec<_> = one.findings();
    Document {
        findings_total: findings.len() + one.unlisted(),
        file: &one.file.name,
        line: one.line(),
        name: one.title(),
        verdict,
        reason,
        digest: digest.map(|digest| digest.to_string()),
        filters: filters
            .iter()
            .map(|(architecture, instructions)| Filter {
                architecture: architecture.as_str(),
                instructions: *instructions,
            })
            .collect(),
        findings: findings
            .into_iter()
            .map(|finding| Finding {
                code: finding.code.as_str(),
                class: finding.class().as_str(),
                line: finding.location.map(|location| location.line),
                column: finding.location.map(|location| location.column),
                field: finding.field.to_string(),
                message: finding.message,
            })
            .collect(),
    }
}
