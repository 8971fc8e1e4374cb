//! What this node reports, from what is so. Pure.
//!
//! A report says the same of the same state, whatever came between: it is written only when it differs from
//! what the API server holds.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

use super::plan::Failed;
use crate::api::{
    Condition, ConditionStatus, Failure, FailureGroup, LiveSet, NodeCondition, SeccompNode,
    SeccompNodeReport, Versions, cut, set_condition,
};
use crate::profile::ProfileName;

/// How many reasons have a group of their own; the rest share [`OTHER`].
const GROUPS: usize = SeccompNodeReport::MAX_FAILURE_GROUPS;
/// How many failures a group lists.
const LISTED: usize = FailureGroup::MAX_PROFILES;
/// How many bytes a message has at most.
const MESSAGE: usize = 512;
/// The reason of the group that holds what has no group of its own.
const OTHER: &str = "Other";

/// The conditions of a report.
pub(super) const OURS: [NodeCondition; 5] = [
    NodeCondition::Synced,
    NodeCondition::StoreWritable,
    NodeCondition::DriftWatch,
    NodeCondition::TestLoad,
    NodeCondition::Confined,
];

/// Whether a node-wide condition holds, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aspect {
    pub(super) status: ConditionStatus,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Everything that a report is made from.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) versions: &'a Versions,
    /// `None` while the directory is not open: what the last report said stands.
    pub(super) live: Option<LiveSet>,
    /// `None` while not every profile has been seen: what the last report said stands.
    pub(super) failures: Option<&'a [Failed]>,
    /// `None` while not every pod has been seen: what the last report said stands.
    pub(super) in_use: Option<&'a BTreeSet<ProfileName>>,
    pub(super) aspects: [(NodeCondition, Aspect); OURS.len()],
}

/// The report, with the times of transition of the one before it.
pub(super) fn report(facts: Facts<'_>, before: Option<&SeccompNodeReport>, now: &Time) -> SeccompNodeReport {
    let mut conditions = before.map(|before| before.conditions.clone()).unwrap_or_default();
    conditions.retain(|old| is_ours(&old.type_));
    for (condition, aspect) in facts.aspects {
        set_condition(
            &mut conditions,
            Condition {
                type_: condition.as_str().to_owned(),
                status: aspect.status,
                observed_generation: None,
                last_transition_time: now.clone(),
                reason: aspect.reason.to_owned(),
                message: cut(&aspect.message, MESSAGE),
            },
        );
    }
    SeccompNodeReport {
        versions: facts.versions.clone(),
        profiles: match facts.live {
            Some(live) => live,
            None => before.map(|before| before.profiles.clone()).unwrap_or_default(),
        },
        failures: match facts.failures {
            Some(failures) => grouped(failures),
            None => before.map(|before| before.failures.clone()).unwrap_or_default(),
        },
        in_use: match facts.in_use {
            Some(in_use) => in_use
                .iter()
                .take(SeccompNodeReport::MAX_IN_USE)
                .map(ToString::to_string)
                .collect(),
            None => before.map(|before| before.in_use.clone()).unwrap_or_default(),
        },
        conditions,
    }
}

/// The object that holds a report: named after the node and owned by its Node object.
pub(super) fn object(node: &str, node_uid: &str, report: SeccompNodeReport) -> SeccompNode {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: node_uid.to_owned(),
        ..OwnerReference::default()
    };
    SeccompNode {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: report,
    }
}

/// Whether the API server already holds what this object says. Conditions that others added say nothing, and go
/// with the next write.
pub(super) fn is_held(held: &SeccompNode, object: &SeccompNode) -> bool {
    fn ours(report: &SeccompNodeReport) -> BTreeMap<&str, &Condition> {
        let conditions = report.conditions.iter();
        conditions
            .filter(|condition| is_ours(&condition.type_))
            .map(|condition| (condition.type_.as_str(), condition))
            .collect()
    }
    // Named one by one, so that no field is forgotten.
    let SeccompNodeReport {
        versions,
        profiles,
        failures,
        in_use,
        conditions: _,
    } = &object.spec;
    held.metadata.owner_references == object.metadata.owner_references
        && (versions, profiles, failures, in_use)
            == (
                &held.spec.versions,
                &held.spec.profiles,
                &held.spec.failures,
                &held.spec.in_use,
            )
        && ours(&object.spec) == ours(&held.spec)
}

fn is_ours(type_: &str) -> bool {
    OURS.iter().any(|condition| condition.as_str() == type_)
}

/// Groups by reason, the largest first. In a group, every namespace has its first failure listed before one has
/// its second: nobody's many hide another's one.
fn grouped(failures: &[Failed]) -> Vec<FailureGroup> {
    let mut by_reason: BTreeMap<&str, Vec<&Failed>> = BTreeMap::new();
    for failed in failures {
        by_reason.entry(&failed.reason).or_default().push(failed);
    }
    let mut groups: Vec<_> = by_reason.into_iter().collect();
    groups.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
    if groups.len() > GROUPS {
        let rest = groups
            .split_off(GROUPS - 1)
            .into_iter()
            .flat_map(|(_, members)| members)
            .collect();
        groups.push((OTHER, rest));
    }
    groups
        .into_iter()
        .map(|(reason, members)| FailureGroup {
            reason: reason.to_owned(),
            total: u32::try_from(members.len()).unwrap_or(u32::MAX),
            profiles: listed(members),
        })
        .collect()
}

fn listed(mut members: Vec<&Failed>) -> Vec<Failure> {
    members.sort_by(|a, b| a.profile.cmp(&b.profile));
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ranked: Vec<_> = members
        .into_iter()
        .map(|failed| {
            let namespace = failed.profile.split('/').next().unwrap_or_default();
            let rank = seen.entry(namespace).or_default();
            *rank += 1;
            (*rank, failed)
        })
        .collect();
    ranked.sort_by_key(|(rank, failed)| (*rank, &failed.profile));
    ranked.truncate(LISTED);
    ranked.sort_by_key(|(_, failed)| &failed.profile);
    ranked
        .into_iter()
        .map(|(_, failed)| Failure {
            profile: failed.profile.clone(),
            generation: failed.generation,
            digest: failed.digest.map(|digest| digest.to_string()),
            live_digest: failed.live.map(|digest| digest.to_string()),
            message: cut(&failed.message, MESSAGE),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Digest;

    fn time(seconds: i64) -> Time {
        Time::from(k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap())
    }

    fn holds(reason: &'static str) -> Aspect {
        Aspect {
            status: ConditionStatus::True,
            reason,
            message: String::new(),
        }
    }

    fn aspects() -> [(NodeCondition, Aspect); OURS.len()] {
        [
            (NodeCondition::Synced, holds("Synced")),
            (NodeCondition::StoreWritable, holds("Writable")),
            (NodeCondition::DriftWatch, holds("Inotify")),
            (NodeCondition::TestLoad, holds("Answering")),
            (NodeCondition::Confined, holds("Confined")),
        ]
    }

    fn failed(profile: &str, reason: &str) -> Failed {
        Failed {
            profile: profile.to_owned(),
            generation: 3,
            reason: reason.to_owned(),
            message: "no".to_owned(),
            digest: Some(Digest::of(b"tried")),
            live: Some(Digest::of(b"live")),
        }
    }

    fn names(texts: &[&str]) -> BTreeSet<ProfileName> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn facts<'a>(
        versions: &'a Versions,
        failures: Option<&'a [Failed]>,
        in_use: Option<&'a BTreeSet<ProfileName>>,
    ) -> Facts<'a> {
        Facts {
            versions,
            live: Some(LiveSet::default()),
            failures,
            in_use,
            aspects: aspects(),
        }
    }

    fn of_failures(failures: &[Failed]) -> Vec<FailureGroup> {
        report(facts(&Versions::default(), Some(failures), None), None, &time(1)).failures
    }

    #[test]
    fn a_report_says_what_is_live_in_use_and_with_which_versions() {
        let versions = Versions {
            agent: "0.1.0".to_owned(),
            libseccomp: "2.5.4".to_owned(),
            kernel: "6.1".to_owned(),
        };
        let name: ProfileName = "a/b".parse().unwrap();
        let digest = Digest::of(b"v1");
        let in_use = names(&["b/z", "a/b", "b/a"]);
        let facts = Facts {
            live: Some([(&name, &digest)].into_iter().collect()),
            ..facts(&versions, Some(&[]), Some(&in_use))
        };
        let report = report(facts, None, &time(1));
        assert!(report.profiles.contains(&name, &digest));
        assert_eq!(report.in_use, ["a/b", "b/a", "b/z"]);
        assert_eq!(report.versions, versions);
        let types: Vec<_> = report
            .conditions
            .iter()
            .map(|condition| condition.type_.as_str())
            .collect();
        assert_eq!(
            types,
            ["Synced", "StoreWritable", "DriftWatch", "TestLoad", "Confined"]
        );
    }

    #[test]
    fn what_is_not_known_now_stays_as_it_was_reported() {
        let versions = Versions::default();
        let (name, digest) = ("a/b".parse().unwrap(), Digest::of(b"v1"));
        let failures = [failed("a/c", "LoadRefused")];
        let in_use = names(&["a/b"]);
        let known = Facts {
            live: Some([(&name, &digest)].into_iter().collect()),
            ..facts(&versions, Some(&failures), Some(&in_use))
        };
        let before = report(known, None, &time(1));
        let unknown = Facts {
            live: None,
            ..facts(&versions, None, None)
        };
        assert_eq!(report(unknown, Some(&before), &time(9)), before);
    }

    #[test]
    fn the_same_state_makes_the_same_report_at_any_time() {
        let versions = Versions::default();
        let failures = [failed("a/b", "LoadRefused")];
        let in_use = names(&["a/b"]);
        let first = report(facts(&versions, Some(&failures), Some(&in_use)), None, &time(1));
        let second = report(
            facts(&versions, Some(&failures), Some(&in_use)),
            Some(&first),
            &time(9),
        );
        assert_eq!(first, second);
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let versions = Versions::default();
        let first = report(facts(&versions, Some(&[]), None), None, &time(1));
        let full = Aspect {
            status: ConditionStatus::False,
            reason: "DiskFull",
            message: "make room".to_owned(),
        };
        let mut changed = facts(&versions, Some(&[]), None);
        changed.aspects[1].1 = full;
        let second = report(changed, Some(&first), &time(2));
        assert_eq!(second.conditions[0], first.conditions[0]);
        let store = &second.conditions[1];
        assert_eq!(
            (
                store.status,
                store.reason.as_str(),
                store.message.as_str(),
                &store.last_transition_time
            ),
            (ConditionStatus::False, "DiskFull", "make room", &time(2))
        );
    }

    #[test]
    fn conditions_that_others_added_are_dropped() {
        let versions = Versions::default();
        let mut before = report(facts(&versions, Some(&[]), None), None, &time(1));
        let clean = before.clone();
        before.conditions.insert(
            0,
            Condition {
                type_: "Foreign".to_owned(),
                ..before.conditions[0].clone()
            },
        );
        assert_eq!(
            report(facts(&versions, Some(&[]), None), Some(&before), &time(2)),
            clean
        );
    }

    #[test]
    fn what_is_not_known_yet_stays_as_the_last_report_said() {
        let versions = Versions::default();
        let failures = [failed("a/b", "LoadRefused")];
        let in_use = names(&["a/b"]);
        let before = report(facts(&versions, Some(&failures), Some(&in_use)), None, &time(1));
        let after = report(facts(&versions, None, None), Some(&before), &time(2));
        assert_eq!((after.failures, after.in_use), (before.failures, before.in_use));
    }

    #[test]
    fn failures_of_one_reason_are_one_group_with_what_was_tried_and_what_is_live() {
        let groups = of_failures(&[
            failed("b/y", "LoadRefused"),
            failed("a/x", "LoadRefused"),
            failed("a/z", "BadValue"),
        ]);
        assert_eq!(groups.len(), 2);
        assert_eq!((groups[0].reason.as_str(), groups[0].total), ("LoadRefused", 2));
        let listed: Vec<_> = groups[0]
            .profiles
            .iter()
            .map(|failure| failure.profile.as_str())
            .collect();
        assert_eq!(listed, ["a/x", "b/y"]);
        let failure = &groups[0].profiles[0];
        assert_eq!(failure.digest, Some(Digest::of(b"tried").to_string()));
        assert_eq!(failure.live_digest, Some(Digest::of(b"live").to_string()));
        assert_eq!((groups[1].reason.as_str(), groups[1].total), ("BadValue", 1));
    }

    #[test]
    fn a_group_lists_as_many_as_the_api_takes_and_counts_all() {
        let many: Vec<_> = (0..250)
            .map(|i| failed(&format!("a/p{i:03}"), "LoadRefused"))
            .collect();
        let groups = of_failures(&many);
        assert_eq!(
            (groups.len(), groups[0].total, groups[0].profiles.len()),
            (1, 250, LISTED)
        );
        assert_eq!(groups[0].profiles[LISTED - 1].profile, "a/p015");
    }

    #[test]
    fn the_many_failures_of_one_namespace_do_not_hide_the_one_of_another() {
        let mut many: Vec<_> = (0..50)
            .map(|i| failed(&format!("a/p{i:03}"), "LoadRefused"))
            .collect();
        many.push(failed("z/last", "LoadRefused"));
        let listed = of_failures(&many).remove(0).profiles;
        assert_eq!(listed.len(), LISTED);
        assert_eq!(listed[LISTED - 1].profile, "z/last");
    }

    #[test]
    fn reasons_beyond_the_last_group_share_it() {
        let failures: Vec<_> = (0..GROUPS + 2)
            .flat_map(|reason| {
                (0..=reason).map(move |i| failed(&format!("a/p{reason}{i}"), &format!("Reason{reason}")))
            })
            .collect();
        let groups = of_failures(&failures);
        let summary: Vec<_> = groups
            .iter()
            .map(|group| (group.reason.as_str(), group.total))
            .collect();
        assert_eq!(summary.len(), GROUPS);
        assert_eq!(summary[..2], [("Reason17", 18), ("Reason16", 17)]);
        assert_eq!(summary[GROUPS - 2..], [("Reason3", 4), ("Other", 3 + 2 + 1)]);
    }

    /// etcd takes no request above 1.5 MiB. Source: <https://etcd.io/docs/v3.6/dev-guide/limit/>.
    #[test]
    fn the_largest_report_that_any_cluster_can_cause_is_one_that_etcd_takes() {
        let mut failures = Vec::new();
        for reason in 0..20 {
            for profile in 0..20 {
                failures.push(Failed {
                    message: "\"".repeat(10_000),
                    ..failed(
                        &format!("{}/{reason:02}{profile:02}{}", "n".repeat(63), "p".repeat(249)),
                        &format!("Reason{reason:02}{}", "r".repeat(56)),
                    )
                });
            }
        }
        let used = |number: usize| format!("{}/{number:04}{}", "n".repeat(63), "p".repeat(246));
        let in_use: BTreeSet<ProfileName> = (0..2000).map(|number| used(number).parse().unwrap()).collect();
        let names: Vec<ProfileName> = (0..SeccompNodeReport::MAX_PROFILES)
            .map(|number| format!("n/p{number}").parse().unwrap())
            .collect();
        let digest = Digest::of(b"live");
        let versions = Versions {
            agent: "v".repeat(128),
            libseccomp: "v".repeat(128),
            kernel: "v".repeat(128),
        };
        let mut everything = Facts {
            live: Some(names.iter().map(|name| (name, &digest)).collect()),
            ..facts(&versions, Some(&failures), Some(&in_use))
        };
        for (_, aspect) in &mut everything.aspects {
            aspect.message = "m".repeat(10_000);
        }
        let object = object("node", "uid", report(everything, None, &time(1)));
        let bytes = serde_json::to_vec(&object).unwrap().len();
        // With room for the metadata that the API server adds.
        assert!((1_300_000..1_540_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let mut long = failed("a/b", "LoadRefused");
        long.message = "ä".repeat(400);
        let message = of_failures(&[long]).remove(0).profiles.remove(0).message;
        assert!(message.len() <= MESSAGE, "{}", message.len());
        assert!(message.ends_with("ä…"), "{message}");
    }

    #[test]
    fn the_object_is_named_after_the_node_and_owned_by_it() {
        let object = object("node-1", "uid-1", SeccompNodeReport::default());
        assert_eq!(object.metadata.name.as_deref(), Some("node-1"));
        let owner = &object.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!(
            (
                owner.api_version.as_str(),
                owner.kind.as_str(),
                owner.name.as_str(),
                owner.uid.as_str()
            ),
            ("v1", "Node", "node-1", "uid-1")
        );
        assert_eq!(
            (owner.controller, owner.block_owner_deletion),
            (None, None),
            "no rights on the Node needed"
        );
    }

    #[test]
    fn an_object_is_held_until_report_or_owner_differ() {
        let wanted = object("node-1", "uid-1", SeccompNodeReport::default());
        let mut held = wanted.clone();
        held.metadata.resource_version = Some("5".to_owned());
        held.metadata.labels = Some([("team".to_owned(), "x".to_owned())].into());
        assert!(is_held(&held, &wanted));
        assert!(
            !is_held(&held, &object("node-1", "uid-2", SeccompNodeReport::default())),
            "the node was registered anew"
        );
        held.spec.in_use.push("a/b".to_owned());
        assert!(!is_held(&held, &wanted));
    }

    #[test]
    fn conditions_are_compared_by_type_and_those_of_others_not_at_all() {
        let versions = Versions::default();
        let report = report(facts(&versions, Some(&[]), None), None, &time(1));
        let wanted = object("node-1", "uid-1", report);
        let mut held = wanted.clone();
        held.spec.conditions.reverse();
        let foreign = Condition {
            type_: "Foreign".to_owned(),
            ..held.spec.conditions[0].clone()
        };
        held.spec.conditions.push(foreign);
        assert!(is_held(&held, &wanted));
        held.spec.conditions[0].message = "changed".to_owned();
        assert!(!is_held(&held, &wanted));
    }
}
