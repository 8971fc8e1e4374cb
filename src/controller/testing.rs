//! What the tests of this room share: short ways to make its inputs.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::api::{Condition, ConditionStatus};
use crate::profile::{Action, Canonical, Digest, Finding, Findings, Profile, ProfileName, ProfileSpec};
use crate::proof::{Proven, Refused, RefusedBy, Verdict};

pub(super) fn name(text: &str) -> ProfileName {
    text.parse().unwrap()
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

pub(super) fn condition(type_: &str, status: ConditionStatus, reason: &str, message: &str) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status,
        observed_generation: None,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

/// A profile that passed, whose digest is that of `content`.
pub(super) fn valid_verdict(content: &str, selector: &[(&str, &str)]) -> Verdict {
    Verdict::Valid(Proven {
        spec: ProfileSpec {
            profile: Profile {
                default_action: Action::Allow,
                default_errno_ret: None,
                architectures: Vec::new(),
                flags: Vec::new(),
                listener_path: None,
                listener_metadata: None,
                syscalls: Vec::new(),
            },
            node_selector: labels(selector),
            accept_findings: Vec::new(),
            has_empty_flags: false,
        },
        canonical: Canonical {
            bytes: content.as_bytes().into(),
            digest: Digest::of(content.as_bytes()),
        },
        filters: Vec::new(),
        is_loaded: true,
        findings: Findings::default(),
    })
}

pub(super) fn invalid_verdict(findings: &[Finding]) -> Verdict {
    Verdict::Invalid(Refused {
        by: RefusedBy::Rule,
        digest: None,
        node_selector: None,
        findings: findings.to_vec().into(),
    })
}
