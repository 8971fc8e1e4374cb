//! The status of a profile, put together from a judgement and a rollout. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::fold::Rollout;
use super::judge::Judgement;
use crate::api::{Condition, ConditionStatus, SeccompProfileStatus, set_condition};

/// The profile may be installed.
pub(super) const VALID: &str = "Valid";
/// Every selected node has it.
pub(super) const READY: &str = "Ready";
/// Nothing more happens until a person changes the object; there only while that is so.
/// Source: <https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>.
pub(super) const STALLED: &str = "Stalled";

/// The fields of status that are absent at times.
const OPTIONAL: [&str; 5] = [
    "observedGeneration",
    "localhostProfile",
    "digest",
    "failuresTotal",
    "findingsTotal",
];

/// The condition of a type.
pub(super) fn find<'a>(status: &'a SeccompProfileStatus, type_: &str) -> Option<&'a Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
}

/// What status is to be. Equal to `previous` where there is nothing to say.
pub(super) fn compose(
    previous: &SeccompProfileStatus,
    judgement: &Judgement,
    rollout: Rollout,
    now: &Time,
) -> SeccompProfileStatus {
    let mut conditions = previous.conditions.clone();
    let mut set = |type_: &str, status, reason: &str, message: &str| {
        set_condition(
            &mut conditions,
            Condition {
                type_: type_.to_owned(),
                status,
                observed_generation: Some(judgement.generation),
                last_transition_time: now.clone(),
                reason: reason.to_owned(),
                message: message.to_owned(),
            },
        );
    };
    set(VALID, judgement.valid, &judgement.reason, &judgement.message);
    set(READY, rollout.ready, &rollout.reason, &rollout.message);
    if judgement.valid == ConditionStatus::False {
        set(
            STALLED,
            ConditionStatus::True,
            &judgement.reason,
            &judgement.message,
        );
    } else {
        conditions.retain(|condition| condition.type_ != STALLED);
    }
    SeccompProfileStatus {
        observed_generation: Some(judgement.generation),
        localhost_profile: judgement.localhost_profile.clone(),
        digest: judgement.digest.map(|digest| digest.to_string()),
        conditions,
        failures: rollout.failures,
        failures_total: Some(rollout.failures_total).filter(|total| *total > 0),
        filters: judgement.filters.clone(),
        findings: judgement.findings.clone(),
        findings_total: Some(judgement.findings_total).filter(|total| *total > 0),
    }
}

/// The JSON merge patch that makes the status of the object with this uid what it is to be, whatever it was.
///
/// The uid makes the API server refuse it for a later object of the same name.
pub(super) fn patch(uid: &str, status: &SeccompProfileStatus) -> Result<Value, serde_json::Error> {
    let mut status = serde_json::to_value(status)?;
    if let Some(fields) = status.as_object_mut() {
        for name in OPTIONAL {
            fields.entry(name).or_insert(Value::Null);
        }
    }
    Ok(json!({ "metadata": { "uid": uid }, "status": status }))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::controller::fold::fold;
    use crate::controller::judge::judge;
    use crate::controller::nodes::Nodes;
    use crate::controller::testing::{invalid_verdict, name, valid_verdict};
    use crate::profile::{Code, FieldPath, Finding};
    use crate::proof::Verdict;

    fn status_after(
        previous: &SeccompProfileStatus,
        generation: i64,
        verdict: &Verdict,
        at: i64,
    ) -> SeccompProfileStatus {
        let judgement = judge(&name("team/web"), generation, verdict);
        let rollout = fold("team/web", &judgement, &Nodes::default(), previous);
        compose(
            previous,
            &judgement,
            rollout,
            &Time(Timestamp::from_second(at).unwrap()),
        )
    }

    fn refused() -> Verdict {
        invalid_verdict(&[Finding::new(Code::BadValue, FieldPath::root().key("spec"), "no")])
    }

    #[test]
    fn nothing_new_is_the_same_status_whatever_the_time() {
        let verdict = valid_verdict("one", &[]);
        let first = status_after(&SeccompProfileStatus::default(), 1, &verdict, 10);
        assert_eq!(status_after(&first, 1, &verdict, 99), first);
    }

    #[test]
    fn stalled_is_there_while_the_profile_is_invalid_and_gone_once_it_is_not() {
        let invalid = status_after(&SeccompProfileStatus::default(), 1, &refused(), 10);
        let stalled = find(&invalid, STALLED).unwrap();
        assert_eq!(stalled.status, ConditionStatus::True);
        assert_eq!(stalled.reason, "BadValue");
        assert_eq!(find(&invalid, VALID).unwrap().status, ConditionStatus::False);
        assert_eq!(invalid.findings_total, Some(1));
        let mended = status_after(&invalid, 2, &valid_verdict("two", &[]), 20);
        assert_eq!(find(&mended, STALLED), None);
        assert_eq!(find(&mended, VALID).unwrap().observed_generation, Some(2));
        assert_eq!(mended.findings_total, None);
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let first = status_after(
            &SeccompProfileStatus::default(),
            1,
            &valid_verdict("one", &[]),
            10,
        );
        let second = status_after(&first, 2, &valid_verdict("two", &[]), 20);
        assert_eq!(
            find(&second, VALID).unwrap().last_transition_time,
            find(&first, VALID).unwrap().last_transition_time
        );
        let third = status_after(&second, 3, &refused(), 30);
        assert_eq!(
            find(&third, VALID).unwrap().last_transition_time,
            Time(Timestamp::from_second(30).unwrap())
        );
    }

    #[test]
    fn a_patch_clears_what_is_no_longer_said_and_is_bound_to_one_object() {
        let status = status_after(&SeccompProfileStatus::default(), 1, &refused(), 10);
        let patch = patch("abc", &status).unwrap();
        assert_eq!(patch["metadata"], json!({ "uid": "abc" }));
        assert_eq!(patch["status"]["digest"], Value::Null);
        assert_eq!(patch["status"]["failures"], json!([]));
        assert_eq!(patch["status"]["observedGeneration"], json!(1));
        let everything = SeccompProfileStatus {
            observed_generation: Some(1),
            localhost_profile: Some(String::new()),
            digest: Some(String::new()),
            failures_total: Some(1),
            findings_total: Some(1),
            ..SeccompProfileStatus::default()
        };
        let all = serde_json::to_value(&everything).unwrap();
        let none = serde_json::to_value(SeccompProfileStatus::default()).unwrap();
        let mut optional: Vec<_> = all
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| none.get(key).is_none())
            .map(String::as_str)
            .collect();
        let mut known = OPTIONAL.to_vec();
        optional.sort_unstable();
        known.sort_unstable();
        assert_eq!(optional, known);
    }
}
