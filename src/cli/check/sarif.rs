//! Findings in the format of code scanners: SARIF 2.1.0.
//!
//! Source: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>, below "the specification".

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Component, Path};

use serde::Serialize;
use serde::ser::{SerializeSeq as _, Serializer};
use serde_json::{Value, json};

use super::super::finding::{acceptance, level};
use super::place::Places;
use super::{Checked, Report};
use crate::profile::{AcceptedBy, Code, Finding};
use crate::proof::Verdict;
use crate::text::{chain, count, printable_json};

/// One log with one run, and a newline.
pub(super) fn render(report: &Report<'_>) -> serde_json::Result<String> {
    let findings = report.checked.iter().flat_map(|one| &one.findings);
    let codes: BTreeSet<Code> = findings.map(|finding| finding.code).collect();
    let codes: Vec<Code> = codes.into_iter().collect();
    let log = Log {
        schema: "https://json.schemastore.org/sarif-2.1.0.json",
        version: "2.1.0",
        runs: [Run {
            tool: json!({"driver": {
                "name": env!("CARGO_PKG_NAME"),
                "version": env!("CARGO_PKG_VERSION"),
                "rules": codes.iter().map(|code| rule(*code)).collect::<Vec<_>>(),
            }}),
            column_kind: "unicodeCodePoints",
            invocations: json!([{
                "executionSuccessful": report.exit_code() != 2,
                "exitCode": report.exit_code(),
                "toolExecutionNotifications": notifications(report),
            }]),
            results: Results {
                report,
                codes: &codes,
            },
        }],
    };
    Ok(printable_json(&serde_json::to_string_pretty(&log)?) + "\n")
}

#[derive(Serialize)]
struct Log<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run<'a> {
    tool: Value,
    column_kind: &'static str,
    invocations: Value,
    results: Results<'a>,
}

/// Made one by one while they are written: together they would take many times the memory of their findings.
struct Results<'a> {
    report: &'a Report<'a>,
    codes: &'a [Code],
}

impl Serialize for Results<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { report, codes } = *self;
        let mut list = serializer.serialize_seq(None)?;
        for of_file in report.checked.chunk_by(|a, b| std::ptr::eq(a.file, b.file)) {
            let places = Places::new(of_file.first().map_or("", |one| &one.file.text));
            for one in of_file {
                for finding in &one.findings {
                    list.serialize_element(&result(report, one, finding, &places, codes))?;
                }
            }
        }
        list.end()
    }
}

fn rule(code: Code) -> Value {
    json!({
        "id": code.as_str(),
        "name": code.reason(),
        "shortDescription": {"text": code.as_str().replace('-', " ")},
        "fullDescription": {"text": code.meaning()},
        "help": {"text": code.cure()},
        "defaultConfiguration": {"level": level(code.class())},
        "properties": {"class": code.class().as_str()},
    })
}

fn result(
    report: &Report<'_>,
    one: &Checked<'_>,
    finding: &Finding,
    places: &Places<'_>,
    codes: &[Code],
) -> Value {
    let region = finding.location.map_or_else(
        || json!({"startLine": one.line()}),
        |at| {
            let mut region = json!({"startLine": at.line, "startColumn": at.column});
            // An end that is the start would say that something is to be inserted there.
            if let Some(length @ 1..) = places.word_length(at) {
                region["endColumn"] = json!(at.column + length);
            }
            region
        },
    );
    let mut location = json!({
        "physicalLocation": {"artifactLocation": {"uri": uri(&one.file.name)}, "region": region},
    });
    if !finding.field.as_str().is_empty() {
        location["logicalLocations"] = json!([{"fullyQualifiedName": finding.field.as_str()}]);
    }
    let is_denied = report.denies(finding);
    json!({
        "ruleId": finding.code.as_str(),
        "ruleIndex": codes.binary_search(&finding.code).ok(),
        "level": if is_denied { "error" } else { level(finding.class()) },
        "message": {"text": message(finding)},
        "locations": [location],
        "suppressions": suppressions(finding),
        "properties": {"profile": one.title(), "accepted": finding.accepted.is_some(), "denied": is_denied},
    })
}

/// Who took responsibility for it, if anybody did: an empty list says that nobody did, and is no different from none.
/// Where one result has a list, all have (section 3.27.23).
fn suppressions(finding: &Finding) -> Vec<Value> {
    let kind = match finding.accepted {
        None => return Vec::new(),
        Some(AcceptedBy::Profile) => "inSource",
        Some(AcceptedBy::Caller) => "external",
    };
    vec![json!({"kind": kind, "justification": acceptance(finding)})]
}

/// The message and the cure, and a call that shows it: SARIF has no place of its own for them.
fn message(finding: &Finding) -> String {
    let mut text = finding.sentence();
    // Writing to a String cannot fail.
    if let Some(call) = &finding.witness
        && !text.contains(call.as_str())
    {
        let _ = write!(text, " (call: {call})");
    }
    text
}

/// What is no finding: what could not be read, proven or loaded, and findings that are not listed.
fn notifications(report: &Report<'_>) -> Vec<Value> {
    let notification = |level: &str, file: &str, line: Option<usize>, text: String| {
        let mut place = json!({"artifactLocation": {"uri": uri(file)}});
        if let Some(line) = line {
            place["region"] = json!({"startLine": line});
        }
        json!({
            "level": level,
            "message": {"text": text},
            "locations": [{"physicalLocation": place}],
        })
    };
    let mut all = Vec::new();
    for one in &report.checked {
        let (file, line, title) = (&one.file.name, Some(one.line()), one.title());
        match one.verdict() {
            Some(Verdict::Unknown(reason)) => {
                let text = format!("{title} could not be proven: {reason}");
                all.push(notification("error", file, line, text));
            }
            Some(Verdict::Valid(proven)) if !proven.is_loaded => {
                let text =
                    format!("{title} was proven but not loaded: this machine has the other byte order");
                all.push(notification("note", file, line, text));
            }
            _ => {}
        }
        if one.unlisted > 0 {
            let text = format!("{} in {title}", count(one.unlisted, "more finding"));
            all.push(notification("warning", file, line, text));
        }
    }
    for unread in report.unread {
        let text = chain(unread.error.as_ref());
        all.push(notification("error", &unread.name, None, text));
    }
    all
}

/// A path as a reference: `file:` and the path if that is absolute, and else relative to wherever the reader
/// puts it. Source: <https://www.rfc-editor.org/rfc/rfc3986#section-4.2>.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    if path.starts_with('/') {
        uri.push_str("file://");
    }
    let parts = Path::new(path).components();
    let parts = parts.filter(|part| !matches!(part, Component::CurDir | Component::RootDir));
    for (index, part) in parts.enumerate() {
        if index > 0 || path.starts_with('/') {
            uri.push('/');
        }
        for byte in part.as_os_str().as_encoded_bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                uri.push(char::from(*byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::FieldPath;

    #[test]
    fn a_path_becomes_a_reference_that_leads_to_it() {
        for (path, expected) in [
            ("profiles/web.json", "profiles/web.json"),
            ("./a/./b.json", "a/b.json"),
            ("../a.json", "../a.json"),
            ("/tmp/a.json", "file:///tmp/a.json"),
            ("a:b %é\u{1b}.json", "a%3Ab%20%25%C3%A9%1B.json"),
        ] {
            assert_eq!(uri(path), expected);
        }
    }

    #[test]
    fn a_witness_is_told_unless_the_message_does() {
        let finding =
            |message: &str| Finding::new(Code::BadValue, FieldPath::root(), message).shown_by("socket(0x26)");
        assert_eq!(
            message(&finding("two answers")),
            "two answers (call: socket(0x26))"
        );
        assert_eq!(message(&finding("socket(0x26): two")), "socket(0x26): two");
    }
}
