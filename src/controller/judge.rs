//! From a verdict to what status says about the profile itself. Pure.

use std::collections::BTreeMap;

use super::status::{VALID, find};
use crate::api::{ArchitectureFilter, ConditionStatus, Finding as StatusFinding, SeccompProfileStatus, cut};
use crate::profile::{Code, Digest, FieldPath, Finding, InvalidName, ProfileName};
use crate::proof::{RefusedBy, Verdict};
use crate::text::count;

/// Findings that status lists.
pub(super) const MAX_FINDINGS: usize = 20;
/// Bytes of the message of one finding, and of each part of it that a profile's author chooses.
pub(super) const MAX_MESSAGE: usize = 512;
const MAX_FIELD: usize = 256;

/// What the proofs say about one generation of a profile.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Judgement {
    /// The generation of the object.
    pub(super) generation: i64,
    /// Whether it may be installed; `Unknown` where no proof could be made.
    pub(super) valid: ConditionStatus,
    /// Why, for programs.
    pub(super) reason: String,
    /// Why, and what to do, for people.
    pub(super) message: String,
    /// What a pod writes to use it; absent where the object's name is no file name.
    pub(super) localhost_profile: Option<String>,
    /// Of the profile's file; absent where the object is no profile.
    pub(super) digest: Option<Digest>,
    /// Which nodes it is for.
    pub(super) selector: BTreeMap<String, String>,
    /// Sizes of the compiled filters.
    pub(super) filters: Vec<ArchitectureFilter>,
    /// The first findings, the worst first.
    pub(super) findings: Vec<StatusFinding>,
    /// How many findings there are in all.
    pub(super) findings_total: u32,
    /// Whether rules alone stand against it, which may be newer than an earlier verdict on the same bytes.
    pub(super) by_rule: bool,
}

/// What status says after this verdict on this generation.
pub(super) fn judge(name: &ProfileName, generation: i64, verdict: &Verdict) -> Judgement {
    let blank = Judgement {
        localhost_profile: Some(name.localhost_profile()),
        ..Judgement::blank(generation)
    };
    match verdict {
        Verdict::Valid(proven) => {
            let (findings, _) = listed(&proven.findings);
            Judgement {
                valid: ConditionStatus::True,
                reason: "Proven".to_owned(),
                message: praise(proven.is_loaded, proven.findings.total()),
                digest: Some(proven.canonical.digest),
                selector: proven.spec.node_selector.clone(),
                filters: proven
                    .filters
                    .iter()
                    .map(|&(architecture, instructions)| ArchitectureFilter {
                        architecture: architecture.as_str().to_owned(),
                        instructions,
                    })
                    .collect(),
                findings,
                findings_total: u32::try_from(proven.findings.total()).unwrap_or(u32::MAX),
                ..blank
            }
        }
        Verdict::Invalid(refused) => Judgement {
            digest: refused.digest,
            selector: refused.node_selector.clone().unwrap_or_default(),
            findings_total: u32::try_from(refused.findings.total()).unwrap_or(u32::MAX),
            by_rule: refused.by == RefusedBy::Rule,
            ..invalid(blank, &refused.findings)
        },
        Verdict::Unknown(why) => Judgement {
            reason: "TestLoadUnavailable".to_owned(),
            message: cut(
                &format!(
                    "The profile could not be proven, and that is not its own doing: {why}. It is tried again; \
                     nothing changes on the nodes because of it."
                ),
                2 * MAX_MESSAGE,
            ),
            ..blank
        },
    }
}

/// What status says about an object whose name can be no file's.
pub(super) fn judge_name(generation: i64, error: &InvalidName) -> Judgement {
    let finding = Finding::new(
        Code::BadName,
        FieldPath::root().key("metadata").key("name"),
        format!("{error}; create the profile under another name"),
    );
    invalid(Judgement::blank(generation), &[finding])
}

impl Judgement {
    fn blank(generation: i64) -> Self {
        Self {
            generation,
            valid: ConditionStatus::Unknown,
            reason: String::new(),
            message: String::new(),
            localhost_profile: None,
            digest: None,
            selector: BTreeMap::new(),
            filters: Vec::new(),
            findings: Vec::new(),
            findings_total: 0,
            by_rule: false,
        }
    }

    /// What status goes on to say where it said of this very generation, and of these bytes, that they are valid,
    /// and a rule that is newer than that verdict would refuse them. `None` where the judgement stands as it is.
    ///
    /// An upgrade of Callgate takes no profile away: nodes that have the file keep it, and so it stays valid, with
    /// a warning, until its spec changes. A node that does not have it yet refuses it and reports that. What does
    /// not compile or load any more is no matter of rules, and is invalid.
    pub(super) fn despite_newer_rule(&self, status: &SeccompProfileStatus) -> Option<Self> {
        let was_valid = find(status, VALID).is_some_and(|valid| {
            valid.status == ConditionStatus::True && valid.observed_generation == Some(self.generation)
        });
        let is_unchanged = status.observed_generation == Some(self.generation)
            && self
                .digest
                .is_some_and(|digest| status.digest == Some(digest.to_string()));
        if self.valid != ConditionStatus::False || !self.by_rule || !was_valid || !is_unchanged {
            return None;
        }
        let message = format!(
            "An earlier version of Callgate proved it, and nodes that have it keep it. A newer rule refuses it on \
             nodes that do not have it yet, and once its spec changes: {}",
            self.message
        );
        Some(Self {
            valid: ConditionStatus::True,
            reason: "ProvenBeforeNewerRule".to_owned(),
            message: cut(&message, 3 * MAX_MESSAGE),
            filters: status.filters.clone(),
            ..self.clone()
        })
    }
}

fn invalid(blank: Judgement, found: &[Finding]) -> Judgement {
    let (findings, findings_total) = listed(found);
    let (reason, message) = match Finding::cause(found) {
        Some((first, more)) => (first.code.reason(), blame(first, more)),
        None => ("Invalid".to_owned(), "The profile is invalid.".to_owned()),
    };
    Judgement {
        valid: ConditionStatus::False,
        reason,
        message,
        findings,
        findings_total,
        ..blank
    }
}

/// The first mistake in full, and how many more wait in `status.findings`.
fn blame(first: &Finding, more: usize) -> String {
    let field = first.field.as_str();
    let place = if field.is_empty() {
        String::new()
    } else {
        format!("{}: ", cut(field, MAX_FIELD))
    };
    let rest = if more == 0 {
        String::new()
    } else {
        format!(" ({more} more in status.findings)")
    };
    format!("{place}{}{rest}", cut(&first.sentence(), MAX_MESSAGE))
}

fn praise(is_loaded: bool, findings: usize) -> String {
    let proven = if is_loaded {
        "The filter answers every call as the profile says, and the kernel takes it."
    } else {
        "The filter answers every call as the profile says. It is proven, not loaded: it is for nodes of the other byte order \
         than this controller's, and their agents load it."
    };
    if findings == 0 {
        proven.to_owned()
    } else {
        format!("{proven} See status.findings: {}.", count(findings, "finding"))
    }
}

/// The first findings as status holds them, the worst first, otherwise in their order; and how many there are.
fn listed(found: &[Finding]) -> (Vec<StatusFinding>, u32) {
    let mut sorted: Vec<_> = found.iter().collect();
    sorted.sort_by_key(|finding| finding.class());
    let listed = sorted
        .into_iter()
        .take(MAX_FINDINGS)
        .map(|finding| StatusFinding {
            code: finding.code.as_str().to_owned(),
            class: finding.class().as_str().to_owned(),
            field: cut(finding.field.as_str(), MAX_FIELD),
            message: cut(&finding.sentence(), MAX_MESSAGE),
        })
        .collect();
    (listed, u32::try_from(found.len()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Condition;
    use crate::controller::testing::{condition, invalid_verdict, name, valid_verdict};
    use crate::profile::{Architecture, parse_spec};
    use crate::proof::{Proven, Refused};

    fn finding(code: Code, field: &str, message: &str) -> Finding {
        Finding::new(code, FieldPath::root().key(field), message)
    }

    #[test]
    fn a_proven_profile_is_valid_and_says_how_to_use_it() {
        let Verdict::Valid(proven) = valid_verdict("one", &[("zone", "a")]) else {
            panic!("not valid")
        };
        let digest = proven.canonical.digest;
        let verdict = Verdict::Valid(Proven {
            filters: vec![(Architecture::X86_64, 17), (Architecture::X86, 19)],
            ..proven
        });
        let judgement = judge(&name("team/web"), 3, &verdict);
        assert_eq!(judgement.generation, 3);
        assert_eq!(judgement.valid, ConditionStatus::True);
        assert_eq!(judgement.reason, "Proven");
        assert_eq!(
            judgement.localhost_profile.as_deref(),
            Some("callgate/team/web.json")
        );
        assert_eq!(judgement.digest, Some(digest));
        assert_eq!(judgement.selector, [("zone".to_owned(), "a".to_owned())].into());
        assert_eq!(judgement.filters[1].architecture, "SCMP_ARCH_X86");
        assert_eq!(judgement.filters[1].instructions, 19);
        assert!(judgement.findings.is_empty());
        assert!(
            judgement.message.contains("the kernel takes it"),
            "{}",
            judgement.message
        );
    }

    #[test]
    fn a_profile_that_was_proven_and_not_loaded_is_valid_and_says_so() {
        let Verdict::Valid(proven) = valid_verdict("one", &[("kubernetes.io/arch", "s390x")]) else {
            panic!("not valid")
        };
        let verdict = Verdict::Valid(Proven {
            is_loaded: false,
            ..proven
        });
        let judgement = judge(&name("team/web"), 3, &verdict);
        assert_eq!(
            (judgement.valid, judgement.reason.as_str()),
            (ConditionStatus::True, "Proven")
        );
        assert!(
            judgement.message.contains("proven, not loaded"),
            "{}",
            judgement.message
        );
    }

    #[test]
    fn an_invalid_profile_names_field_value_and_cure_of_the_first_mistake_and_counts_the_others() {
        let verdict = invalid_verdict(&[
            finding(
                Code::UnknownKey,
                "arg",
                "\"arg\" is not a field; did you mean \"args\"?",
            ),
            finding(Code::BadValue, "op", "no"),
            finding(Code::MissingKey, "names", "no"),
        ]);
        let judgement = judge(&name("team/web"), 1, &verdict);
        assert_eq!(judgement.valid, ConditionStatus::False);
        assert_eq!(judgement.reason, "UnknownKey");
        assert_eq!(
            judgement.message,
            "arg: \"arg\" is not a field; did you mean \"args\"? (2 more in status.findings)"
        );
        assert_eq!(judgement.findings_total, 3);
        assert_eq!(judgement.findings[0].class, "invalid");
    }

    #[test]
    fn a_refused_profile_that_could_be_read_keeps_its_digest_and_selector() {
        let digest = Digest::of(b"it");
        let selector: BTreeMap<_, _> = [("zone".to_owned(), "b".to_owned())].into();
        let verdict = Verdict::Invalid(Refused {
            by: RefusedBy::TestLoad,
            digest: Some(digest),
            node_selector: Some(selector.clone()),
            findings: finding(Code::LoadRefused, "spec", "EINVAL").into(),
        });
        let judgement = judge(&name("team/web"), 1, &verdict);
        assert_eq!(judgement.digest, Some(digest));
        assert_eq!(judgement.selector, selector);
    }

    #[test]
    fn a_newer_rule_takes_back_no_verdict_on_the_same_bytes_and_generation_and_a_failed_proof_does() {
        let digest = Some(Digest::of(b"it"));
        let verdict = |by, digest| {
            Verdict::Invalid(Refused {
                by,
                digest,
                node_selector: Some([("zone".to_owned(), "b".to_owned())].into()),
                findings: finding(Code::BadValue, "spec", "no longer").into(),
            })
        };
        let judged = |generation, by, digest| judge(&name("team/web"), generation, &verdict(by, digest));
        let status = |valid, observed| SeccompProfileStatus {
            observed_generation: Some(3),
            digest: digest.map(|digest| digest.to_string()),
            conditions: vec![Condition {
                observed_generation: Some(observed),
                ..condition(VALID, valid, "Proven", "")
            }],
            filters: vec![ArchitectureFilter {
                architecture: "SCMP_ARCH_X86_64".to_owned(),
                instructions: 17,
            }],
            ..SeccompProfileStatus::default()
        };
        let proven = status(ConditionStatus::True, 3);
        let refused = judged(3, RefusedBy::Rule, digest);
        let kept = refused.despite_newer_rule(&proven).unwrap();
        assert_eq!(
            (kept.valid, kept.reason.as_str(), &kept.filters),
            (ConditionStatus::True, "ProvenBeforeNewerRule", &proven.filters)
        );
        assert!(kept.message.ends_with("spec: no longer"), "{}", kept.message);
        assert_eq!(
            (&kept.findings, &kept.selector),
            (&refused.findings, &refused.selector)
        );

        for (what, judgement, status) in [
            ("compile or load", judged(3, RefusedBy::TestLoad, digest), &proven),
            ("listener", judged(3, RefusedBy::Installation, digest), &proven),
            ("generation", judged(4, RefusedBy::Rule, digest), &proven),
            (
                "bytes",
                judged(3, RefusedBy::Rule, Some(Digest::of(b"other"))),
                &proven,
            ),
            ("unreadable", judged(3, RefusedBy::Rule, None), &proven),
            (
                "invalid before",
                refused.clone(),
                &status(ConditionStatus::False, 3),
            ),
            (
                "unknown before",
                refused.clone(),
                &status(ConditionStatus::Unknown, 3),
            ),
            (
                "older verdict",
                refused.clone(),
                &status(ConditionStatus::True, 2),
            ),
            ("new object", refused, &SeccompProfileStatus::default()),
        ] {
            assert_eq!(judgement.despite_newer_rule(status), None, "{what}");
        }
    }

    #[test]
    fn status_lists_twenty_findings_and_says_how_many_there_are() {
        let many: Vec<_> = (0..1000)
            .map(|i| finding(Code::BadValue, &format!("f{i}"), "no"))
            .collect();
        let judgement = judge(&name("team/web"), 1, &invalid_verdict(&many));
        assert_eq!(judgement.findings.len(), MAX_FINDINGS);
        assert_eq!(judgement.findings[19].field, "f19");
        assert_eq!(judgement.findings_total, 1000);
    }

    #[test]
    fn findings_that_no_reader_listed_are_counted_too() {
        let names: Vec<_> = (0..500).map(|n| format!("key{n}")).collect();
        let spec: serde_json::Map<_, _> = names.into_iter().map(|name| (name, 0.into())).collect();
        let verdict = Verdict::Invalid(Refused {
            by: RefusedBy::Rule,
            digest: None,
            node_selector: None,
            findings: parse_spec(&spec.into()).unwrap_err(),
        });
        // The last one is that defaultAction is missing.
        assert_eq!(judge(&name("team/web"), 1, &verdict).findings_total, 501);
    }

    #[test]
    fn hostile_texts_are_cut_to_size() {
        let long = "é".repeat(1_000_000);
        let judgement = judge(
            &name("team/web"),
            1,
            &invalid_verdict(&[finding(Code::UnknownKey, &long, &long)]),
        );
        assert!(judgement.findings[0].message.len() <= MAX_MESSAGE);
        assert!(judgement.findings[0].field.len() <= MAX_FIELD);
        assert!(judgement.message.len() <= 2 * MAX_MESSAGE);
        let unknown = judge(&name("team/web"), 1, &Verdict::Unknown(long));
        assert!(unknown.message.len() <= 2 * MAX_MESSAGE);
    }

    #[test]
    fn what_could_not_be_proven_is_unknown_and_no_fault_of_the_profile() {
        let judgement = judge(
            &name("team/web"),
            1,
            &Verdict::Unknown("no process could be started".to_owned()),
        );
        assert_eq!(judgement.valid, ConditionStatus::Unknown);
        assert_eq!(judgement.reason, "TestLoadUnavailable");
        assert!(judgement.message.contains("no process could be started"));
        assert_eq!(judgement.digest, None);
    }

    #[test]
    fn a_name_that_is_no_file_name_is_invalid_and_says_what_to_do() {
        let long = "x".repeat(251);
        let judgement = judge_name(4, &ProfileName::new("team", &long).unwrap_err());
        assert_eq!(judgement.valid, ConditionStatus::False);
        assert_eq!(judgement.reason, "BadName");
        assert!(
            judgement.message.starts_with("metadata.name: "),
            "{}",
            judgement.message
        );
        assert!(
            judgement
                .message
                .ends_with("create the profile under another name")
        );
        assert_eq!(judgement.localhost_profile, None);
    }
}
