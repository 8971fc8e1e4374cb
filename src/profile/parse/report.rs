//! What a reader found, and its help for misspelt names.

use super::super::finding::{Code, FieldPath, Finding, Location};

/// Findings in the order of the document, at most [`Report::MAX`]: a hostile document has a mistake in each byte.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
    dropped: usize,
}

impl Report {
    const MAX: usize = 100;

    pub(super) fn add(
        &mut self,
        code: Code,
        field: &FieldPath,
        location: Option<Location>,
        message: impl Into<String>,
    ) {
        self.push(Finding {
            location,
            ..Finding::new(code, field.clone(), message)
        });
    }

    pub(super) fn push(&mut self, finding: Finding) {
        if self.findings.len() < Self::MAX {
            self.findings.push(finding);
        } else {
            self.dropped += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// What was read, if nothing was found. A reader that gives `None` has reported why.
    pub(super) fn finish<T>(mut self, read: Option<T>) -> Result<T, Vec<Finding>> {
        match read {
            Some(read) if self.findings.is_empty() => Ok(read),
            _ => {
                if let Some(last) = self.findings.last_mut()
                    && self.dropped > 0
                {
                    last.message = format!("{} (and {} more findings)", last.message, self.dropped);
                }
                Err(self.findings)
            }
        }
    }
}

/// The name that was probably meant: the same but for case, the end of one (`ALLOW` for `SCMP_ACT_ALLOW`), or
/// one at most two edits away.
pub(super) fn nearest<'n>(text: &str, names: &[&'n str]) -> Option<&'n str> {
    if text.is_empty() || text.len() > 64 {
        return None;
    }
    let upper = text.to_ascii_uppercase();
    let is_end_of = |name: &str| {
        let rest = name.to_ascii_uppercase();
        rest.strip_suffix(&upper)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
    };
    if let Some(name) = names.iter().find(|name| is_end_of(name)) {
        return Some(name);
    }
    let close = |name: &&'n str| (distance(&upper, &name.to_ascii_uppercase()), *name);
    let (edits, name) = names.iter().map(close).min_by_key(|(edits, _)| *edits)?;
    (edits <= 2 && edits < text.chars().count()).then_some(name)
}

/// Levenshtein's distance, in characters.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_the_right_one() {
        let names = [
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_LOG",
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_PROCESS",
        ];
        for (text, expected) in [
            ("scmp_act_allow", Some("SCMP_ACT_ALLOW")),
            ("ALLOW", Some("SCMP_ACT_ALLOW")),
            ("kill_process", Some("SCMP_ACT_KILL_PROCESS")),
            ("SCMP_ACT_ALOW", Some("SCMP_ACT_ALLOW")),
            ("SCMP_ACT_LGO", Some("SCMP_ACT_LOG")),
            ("SCMP_ACT_PERMIT", None),
            ("", None),
            ("OW", None),
        ] {
            assert_eq!(nearest(text, &names), expected, "{text:?}");
        }
        assert_eq!(
            nearest("arg", &["names", "action", "errnoRet", "args"]),
            Some("args")
        );
        assert_eq!(nearest(&"a".repeat(100_000), &["args"]), None);
    }

    #[test]
    fn findings_are_bounded_and_the_rest_is_counted() {
        let mut report = Report::default();
        for _ in 0..Report::MAX + 5 {
            report.add(Code::BadValue, &FieldPath::root(), None, "bad");
        }
        let findings = report.finish(Some(())).unwrap_err();
        assert_eq!(findings.len(), Report::MAX);
        assert_eq!(findings.last().unwrap().message, "bad (and 5 more findings)");
    }
}
