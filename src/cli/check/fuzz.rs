//! What must hold of every report. See [`crate::fuzz`].

use super::*;
use crate::proof::{Refused, RefusedBy};

/// Whatever a file holds: a report in each format, nothing in it that a terminal would obey, and every place in the
/// text.
pub(crate) fn report(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let file = SourceFile {
        name: "name\u{1b}.yaml".to_owned(),
        path: PathBuf::from("name.yaml"),
        text: text.to_owned(),
        documents: profile::read(bytes),
    };
    let judged = |document: &SourceDocument| match document {
        SourceDocument::Other { .. } => CheckResult::Skipped,
        SourceDocument::Profile(profile) => {
            let findings = match &profile.spec {
                Ok(spec) => {
                    let under = |finding: Finding| finding.under(profile.prefix());
                    spec.findings().into_iter().map(under).collect::<Vec<_>>().into()
                }
                Err(findings) => findings.clone(),
            };
            let refused = Verdict::Invalid(Refused {
                by: RefusedBy::Rule,
                digest: None,
                node_selector: None,
                findings,
            });
            CheckResult::Judged(Box::new(refused), Findings::default())
        }
    };
    let checked = file.documents.iter();
    let checked = checked.map(|document| Checked::new(&file, document, judged(document), &[]));
    let report = Report {
        checked: checked.collect(),
        unread: &[],
        denied: &[Deny::Lint],
    };
    let places = place::Places::new(text);
    for one in &report.checked {
        for finding in &one.findings {
            let location = finding.location;
            assert!(
                location.is_none_or(|location| places.excerpt(location).is_some()),
                "{finding:?}"
            );
        }
    }
    let human = anstream::adapter::strip_str(&human::render(&report)).to_string();
    assert!(!human.chars().any(|c| c.is_control() && c != '\n'), "{human:?}");
    for written in [json::render(&report), sarif::render(&report)] {
        let read = written.map(|text| serde_json::from_str::<serde_json::Value>(&text));
        assert!(matches!(read, Ok(Ok(_))));
    }
}
