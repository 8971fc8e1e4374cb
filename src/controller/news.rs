//! What is worth an Event when a status changes. Pure.
//!
//! The status says what is so, and an Event that something became so: at most two for one write of a status, none for
//! one that says the same of another node, and never one for each node.

use super::fold::INSTALL_FAILED;
use super::status::{READY, VALID, find};
use crate::api::{Condition, ConditionStatus, SeccompProfileStatus, cut};

/// What the API server takes of a note.
/// Source: <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>.
const MAX_NOTE: usize = 1024;

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct News {
    /// Whether somebody may have to do something.
    pub(super) is_warning: bool,
    /// What happened, for programs.
    pub(super) reason: &'static str,
    /// What the controller was at, for programs.
    pub(super) action: &'static str,
    /// What happened, and why.
    pub(super) note: String,
}

/// What is told when a status becomes another.
pub(super) fn news(before: &SeccompProfileStatus, after: &SeccompProfileStatus) -> Vec<News> {
    let changed = |type_: &str| {
        let after = find(after, type_)?;
        let before = find(before, type_);
        (!before.is_some_and(|before| is_the_same(before, after))).then_some((before, after))
    };
    let valid = changed(VALID).and_then(|(before, after)| judged(before, after));
    let ready = changed(READY).and_then(|(_, after)| rolled_out(after));
    valid.into_iter().chain(ready).collect()
}

/// Whether two conditions say the same of one generation, in whatever words.
fn is_the_same(one: &Condition, other: &Condition) -> bool {
    let said = |condition: &Condition| (condition.status, condition.observed_generation);
    // Of a rollout the reason is part of what is said: "being installed" is not yet "failed".
    said(one) == said(other) && (one.type_ == VALID || one.reason == other.reason)
}

fn judged(before: Option<&Condition>, after: &Condition) -> Option<News> {
    let was_invalid = before.is_some_and(|before| before.status == ConditionStatus::False);
    let news = |is_warning, reason, note: &str| News {
        is_warning,
        reason,
        action: "Prove",
        note: cut(note, MAX_NOTE),
    };
    match after.status {
        ConditionStatus::False => Some(news(
            true,
            "Invalid",
            &format!("{}: {}", after.reason, after.message),
        )),
        ConditionStatus::True if was_invalid => {
            Some(news(false, "Valid", "Valid again: it passed every proof."))
        }
        // That a new profile is valid, the news of its rollout says.
        ConditionStatus::True | ConditionStatus::Unknown => None,
    }
}

fn rolled_out(after: &Condition) -> Option<News> {
    let news = |is_warning, reason| News {
        is_warning,
        reason,
        action: "Install",
        note: cut(&after.message, MAX_NOTE),
    };
    match after.status {
        ConditionStatus::True => Some(news(false, "Ready")),
        ConditionStatus::False if after.reason == INSTALL_FAILED => Some(news(true, INSTALL_FAILED)),
        ConditionStatus::False | ConditionStatus::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::testing::condition;
    use ConditionStatus::{False, True, Unknown};

    /// A status of this generation, as status, reason and message of Valid and Ready.
    fn status(
        generation: i64,
        valid: (ConditionStatus, &str, &str),
        ready: (ConditionStatus, &str, &str),
    ) -> SeccompProfileStatus {
        let condition = |type_, (status, reason, message): (ConditionStatus, &str, &str)| Condition {
            observed_generation: Some(generation),
            ..condition(type_, status, reason, message)
        };
        SeccompProfileStatus {
            observed_generation: Some(generation),
            conditions: vec![condition(VALID, valid), condition(READY, ready)],
            ..SeccompProfileStatus::default()
        }
    }

    const PROVEN: (ConditionStatus, &str, &str) = (True, "Proven", "all is well");
    const BAD: (ConditionStatus, &str, &str) = (False, "BadValue", "spec.defaultAction: no such action");
    const INSTALLING: (ConditionStatus, &str, &str) = (False, "Installing", "wait");
    const INSTALLED: (ConditionStatus, &str, &str) = (True, "Installed", "Installed on every selected node.");
    const NOT_INSTALLED: (ConditionStatus, &str, &str) = (False, "Invalid", "see condition Valid");

    fn failed(nodes: &str) -> (ConditionStatus, &str, &str) {
        (False, "InstallFailed", nodes)
    }

    fn told(before: &SeccompProfileStatus, after: &SeccompProfileStatus) -> Vec<(&'static str, bool)> {
        let news = news(before, after);
        news.iter().map(|news| (news.reason, news.is_warning)).collect()
    }

    #[test]
    fn a_new_profile_is_told_of_once_it_is_ready() {
        let (none, installing) = (SeccompProfileStatus::default(), status(1, PROVEN, INSTALLING));
        let installed = status(1, PROVEN, INSTALLED);
        assert_eq!(told(&none, &installing), []);
        assert_eq!(told(&installing, &installed), [("Ready", false)]);
        assert_eq!(told(&none, &installed), [("Ready", false)]);
        let selected = status(1, PROVEN, (True, "NoNodesSelected", "none"));
        assert_eq!(told(&none, &selected), [("Ready", false)]);
    }

    #[test]
    fn that_a_profile_is_invalid_is_told_with_the_reason_for_each_generation_and_once() {
        let (none, bad) = (SeccompProfileStatus::default(), status(1, BAD, NOT_INSTALLED));
        let told_of = news(&none, &bad);
        assert_eq!(
            told_of,
            [News {
                is_warning: true,
                reason: "Invalid",
                action: "Prove",
                note: "BadValue: spec.defaultAction: no such action".to_owned(),
            }]
        );
        assert_eq!(told(&bad, &bad), []);
        let other_words = status(1, (False, "UnknownKey", "said by a newer version"), NOT_INSTALLED);
        assert_eq!(told(&bad, &other_words), []);
        let next = status(2, BAD, NOT_INSTALLED);
        assert_eq!(told(&bad, &next), [("Invalid", true)]);
    }

    #[test]
    fn a_profile_that_is_valid_again_is_told_of_and_its_rollout_too() {
        let bad = status(1, BAD, NOT_INSTALLED);
        let mended = status(2, PROVEN, INSTALLING);
        assert_eq!(told(&bad, &mended), [("Valid", false)]);
        let at_once = status(2, PROVEN, INSTALLED);
        assert_eq!(told(&bad, &at_once), [("Valid", false), ("Ready", false)]);
    }

    #[test]
    fn nodes_that_fail_are_told_of_once_however_many_follow() {
        let installed = status(1, PROVEN, INSTALLED);
        let one = status(1, PROVEN, failed("Not installed on a: DiskFull"));
        let two = status(1, PROVEN, failed("Not installed on a, b: DiskFull"));
        assert_eq!(told(&installed, &one), [("InstallFailed", true)]);
        assert_eq!(news(&installed, &one)[0].note, "Not installed on a: DiskFull");
        assert_eq!(told(&one, &two), []);
        assert_eq!(told(&two, &installed), [("Ready", false)]);
        let next = status(2, PROVEN, failed("Not installed on a, b: DiskFull"));
        assert_eq!(told(&two, &next), [("InstallFailed", true)]);
    }

    #[test]
    fn nothing_is_told_of_what_is_unknown_waits_or_stays_as_it_is() {
        let installed = status(1, PROVEN, INSTALLED);
        let not_proven = (Unknown, "NotProven", "the machine is short of memory");
        for (before, after) in [
            (installed.clone(), installed.clone()),
            (installed.clone(), status(2, not_proven, not_proven)),
            (installed.clone(), status(2, PROVEN, INSTALLING)),
            (
                status(1, PROVEN, INSTALLING),
                status(1, PROVEN, (False, "NoAgentReady", "nobody")),
            ),
            (
                installed,
                status(1, (True, "ProvenBeforeNewerRule", "stays"), INSTALLED),
            ),
        ] {
            assert_eq!(told(&before, &after), [], "{before:?} {after:?}");
        }
    }

    #[test]
    fn a_note_is_no_longer_than_the_api_server_takes() {
        let long = "x".repeat(5000);
        let bad = status(1, (False, "BadValue", &long), NOT_INSTALLED);
        let told = news(&SeccompProfileStatus::default(), &bad);
        assert_eq!(told[0].note.len(), MAX_NOTE);
    }
}
