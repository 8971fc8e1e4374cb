//! Conditions, as the Kubernetes API conventions define them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Not known (yet).
    Unknown,
}

// Source: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties
impl ConditionStatus {
    /// As the API spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One aspect of the state of an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect of the object the condition is about.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// Whether it holds: True, False, or Unknown.
    pub status: ConditionStatus,
    /// The `metadata.generation` of the object that this was judged for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    pub last_transition_time: Time,
    /// Why, as one word for programs.
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    )]
    pub reason: String,
    /// Why, and what to do, for people.
    #[schemars(length(max = 32768))]
    pub message: String,
}

/// The time as the API server keeps it, in whole seconds: what was written then compares with what is held.
#[must_use]
pub fn now_in_seconds() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Puts a condition in the place of the one of its type, and keeps the time of the last transition where the
/// status is the same.
pub fn set_condition(conditions: &mut Vec<Condition>, mut condition: Condition) {
    match conditions.iter_mut().find(|old| old.type_ == condition.type_) {
        Some(old) => {
            if old.status == condition.status {
                condition.last_transition_time = old.last_transition_time.clone();
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn condition(type_: &str, status: ConditionStatus, time: &str, message: &str) -> Condition {
        Condition {
            type_: type_.to_owned(),
            status,
            observed_generation: Some(1),
            last_transition_time: serde_json::from_value(json!(time)).unwrap(),
            reason: "Because".to_owned(),
            message: message.to_owned(),
        }
    }

    const NOON: &str = "2026-01-01T12:00:00Z";
    const LATER: &str = "2026-01-01T13:00:00Z";

    #[test]
    fn a_condition_of_a_new_type_is_added_and_others_stay_in_place() {
        let mut conditions = vec![condition("Valid", ConditionStatus::True, NOON, "")];
        set_condition(
            &mut conditions,
            condition("Ready", ConditionStatus::Unknown, LATER, ""),
        );
        let types: Vec<_> = conditions
            .iter()
            .map(|condition| condition.type_.as_str())
            .collect();
        assert_eq!(types, ["Valid", "Ready"]);
    }

    #[test]
    fn the_time_of_the_last_transition_changes_with_the_status_and_with_nothing_else() {
        let mut conditions = vec![condition("Ready", ConditionStatus::False, NOON, "one node")];
        set_condition(
            &mut conditions,
            condition("Ready", ConditionStatus::False, LATER, "two nodes"),
        );
        assert_eq!(
            conditions,
            [condition("Ready", ConditionStatus::False, NOON, "two nodes")]
        );
        set_condition(
            &mut conditions,
            condition("Ready", ConditionStatus::True, LATER, "done"),
        );
        assert_eq!(
            conditions,
            [condition("Ready", ConditionStatus::True, LATER, "done")]
        );
    }

    #[test]
    fn it_is_written_as_kubernetes_writes_conditions() {
        let ready = condition("Ready", ConditionStatus::True, NOON, "done");
        let written = json!({
            "type": "Ready",
            "status": "True",
            "observedGeneration": 1,
            "lastTransitionTime": NOON,
            "reason": "Because",
            "message": "done",
        });
        assert_eq!(serde_json::to_value(&ready).unwrap(), written);
        assert_eq!(serde_json::from_value::<Condition>(written).unwrap(), ready);
    }
}
