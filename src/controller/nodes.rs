//! What is known of every node: its labels, what its agent reported, whether that agent can be reached. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::api::{ConditionStatus, FailureGroup, LiveSet, NodeCondition, SeccompNodeReport, Tried, cut};
use crate::profile::Digest;

/// Bytes of a profile's key, of a reason and of a message that an agent reports.
const MAX_KEY: usize = SeccompNodeReport::MAX_PROFILE_NAME;
const MAX_REASON: usize = 64;
const MAX_MESSAGE: usize = 512;

/// Every node that has a Node object, a report or an agent's pod.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    by_name: BTreeMap<String, Node>,
    /// The nodes whose report holds any failure, so that a fold need not look at the others.
    troubled: BTreeSet<String>,
    /// Where each pod of an agent is, and whether it is ready.
    pods: HashMap<String, (String, bool)>,
}

/// One node.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Its labels; `None` while there is no Node object.
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// What its agent reported last.
    pub(super) report: Option<Report>,
    /// How many ready pods of the agent it has: two for a moment while one replaces the other.
    ready_pods: usize,
}

/// The part of a `SeccompNode` that decides about profiles.
///
/// A node may write what it likes into its own report, and into no other. What is kept of it is bounded all the same:
/// the live set by [`SeccompNodeReport::MAX_PROFILES`], the failures by their number (16 groups of 16) and by the
/// lengths above. So a hostile node takes 1 MiB of the controller's memory for its live set and 256 KiB for failures,
/// at most; an honest one some 16 bytes for each profile.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Report {
    /// What is on the node's disk.
    pub(super) live: LiveSet,
    /// Whether the first full sync is done.
    pub(super) synced: bool,
    /// A node-wide trouble that keeps profiles away.
    pub(super) trouble: Option<Trouble>,
    /// By NAMESPACE/NAME.
    pub(super) failures: HashMap<String, Failure>,
    /// Whether profiles failed that found no place among `failures`.
    pub(super) has_unlisted: bool,
    /// Of the Node that it says it belongs to.
    pub(super) node_uid: Option<String>,
}

/// What keeps all profiles off a node that it does not have yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Why, for programs.
    pub(super) reason: &'static str,
    /// Why, for people.
    pub(super) message: String,
}

/// Why one profile could not be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// What was tried.
    pub(super) tried: Tried,
    /// Why, for programs.
    pub(super) reason: String,
    /// What is on disk instead.
    pub(super) live_digest: Option<Digest>,
    /// Why, for people.
    pub(super) message: String,
}

/// What is known of a node that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NodeState {
    /// Its agent is up, has done its first sync, and reports nothing that keeps all profiles away.
    Reporting,
    /// Its agent is up and reports something that does: a full disk, say.
    Troubled,
    /// Its agent is up and has not done its first sync.
    NotSynced,
    /// It has a report, and no agent that is ready.
    NotAnswering,
    /// It has neither.
    NoAgent,
}

impl NodeState {
    pub(super) const ALL: [Self; 5] = [
        Self::Reporting,
        Self::Troubled,
        Self::NotSynced,
        Self::NotAnswering,
        Self::NoAgent,
    ];

    /// The name in metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Reporting => "reporting",
            Self::Troubled => "troubled",
            Self::NotSynced => "not_synced",
            Self::NotAnswering => "not_answering",
            Self::NoAgent => "no_agent",
        }
    }
}

/// Which profiles a change of the nodes can matter to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Affected {
    /// None.
    Nothing,
    /// Any.
    All,
    /// Those that differ between the two reports.
    Differing(Box<(Report, Report)>),
}

impl Nodes {
    /// By name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.by_name.iter().map(|(name, node)| (name.as_str(), node))
    }

    /// How many Nodes are in which state. A report without a Node is none.
    pub(super) fn counts(&self) -> BTreeMap<NodeState, i64> {
        let mut counts = BTreeMap::new();
        for state in self.by_name.values().filter_map(Node::state) {
            *counts.entry(state).or_default() += 1;
        }
        counts
    }

    /// Those whose report holds any failure, by name.
    pub(super) fn troubled(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.troubled
            .iter()
            .filter_map(|name| self.by_name.get_key_value(name))
            .map(|(name, node)| (name.as_str(), node))
    }

    /// There is such a Node, with these labels.
    pub(super) fn set_labels(&mut self, name: &str, labels: BTreeMap<String, String>) -> Affected {
        let node = self.by_name.entry(name.to_owned()).or_default();
        if node.labels.as_ref() == Some(&labels) {
            return Affected::Nothing;
        }
        node.labels = Some(labels);
        Affected::All
    }

    /// There is no such Node.
    pub(super) fn remove_labels(&mut self, name: &str) -> Affected {
        let Some(node) = self.by_name.get_mut(name) else {
            return Affected::Nothing;
        };
        node.labels = None;
        self.forget_if_blank(name);
        Affected::All
    }

    /// The agent of this node reports.
    pub(super) fn set_report(&mut self, name: &str, report: Report) -> Affected {
        if report.is_troubled() {
            self.troubled.insert(name.to_owned());
        } else {
            self.troubled.remove(name);
        }
        let node = self.by_name.entry(name.to_owned()).or_default();
        match node.report.replace(report.clone()) {
            Some(old) if old == report => Affected::Nothing,
            Some(old) => Affected::Differing(Box::new((old, report))),
            None => Affected::All,
        }
    }

    /// There is no such report.
    pub(super) fn remove_report(&mut self, name: &str) -> Affected {
        self.troubled.remove(name);
        let Some(node) = self.by_name.get_mut(name) else {
            return Affected::Nothing;
        };
        node.report = None;
        self.forget_if_blank(name);
        Affected::All
    }

    /// An agent's pod is on this node.
    pub(super) fn set_pod(&mut self, pod: &str, node: &str, ready: bool) -> Affected {
        if self
            .pods
            .get(pod)
            .is_some_and(|old| old.0 == node && old.1 == ready)
        {
            return Affected::Nothing;
        }
        self.remove_pod(pod);
        self.pods.insert(pod.to_owned(), (node.to_owned(), ready));
        self.by_name.entry(node.to_owned()).or_default().ready_pods += usize::from(ready);
        Affected::All
    }

    /// There is no such pod.
    pub(super) fn remove_pod(&mut self, pod: &str) -> Affected {
        let Some((name, ready)) = self.pods.remove(pod) else {
            return Affected::Nothing;
        };
        if let Some(node) = self.by_name.get_mut(&name) {
            node.ready_pods -= usize::from(ready);
        }
        self.forget_if_blank(&name);
        Affected::All
    }

    fn forget_if_blank(&mut self, name: &str) {
        let blank = |node: &Node| node.labels.is_none() && node.report.is_none() && node.ready_pods == 0;
        if self.by_name.get(name).is_some_and(blank) {
            self.by_name.remove(name);
        }
    }
}

impl Node {
    fn state(&self) -> Option<NodeState> {
        self.labels.as_ref()?;
        Some(match &self.report {
            Some(_) if !self.is_reachable() => NodeState::NotAnswering,
            None if !self.is_reachable() => NodeState::NoAgent,
            Some(report) if report.synced && report.trouble.is_some() => NodeState::Troubled,
            Some(report) if report.synced => NodeState::Reporting,
            Some(_) | None => NodeState::NotSynced,
        })
    }

    /// Whether a profile with this selector is for this node.
    pub(super) fn is_selected(&self, selector: &BTreeMap<String, String>) -> bool {
        self.labels
            .as_ref()
            .is_some_and(|labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
    }

    /// Whether more profiles failed here than its report has room for, and this one is not among those listed.
    pub(super) fn is_silent_about(&self, key: &str) -> bool {
        self.report
            .as_ref()
            .is_some_and(|report| report.has_unlisted && !report.failures.contains_key(key))
    }

    /// Whether its agent is up: a report of one that is not may be old.
    pub(super) const fn is_reachable(&self) -> bool {
        self.ready_pods > 0
    }
}

impl Report {
    fn is_troubled(&self) -> bool {
        self.trouble.is_some() || self.has_unlisted || !self.failures.is_empty()
    }
}

impl From<SeccompNodeReport> for Report {
    fn from(report: SeccompNodeReport) -> Self {
        let synced = report.conditions.iter().any(|condition| {
            condition.type_ == NodeCondition::Synced.as_str() && condition.status == ConditionStatus::True
        });
        let trouble = report.trouble().map(|(reason, message)| Trouble {
            reason,
            message: cut(message, MAX_MESSAGE),
        });
        let has_unlisted = report
            .failures
            .iter()
            .any(|group| usize::try_from(group.total).is_ok_and(|total| total > group.profiles.len()));
        let failures = report
            .failures
            .into_iter()
            .take(SeccompNodeReport::MAX_FAILURE_GROUPS)
            .flat_map(|group| {
                let reason = cut(&group.reason, MAX_REASON);
                let listed = group.profiles.into_iter().take(FailureGroup::MAX_PROFILES);
                let named = listed.filter(|failure| failure.profile.len() <= MAX_KEY);
                named.map(move |failure| {
                    let known = Failure {
                        tried: Tried {
                            generation: failure.generation,
                            digest: failure.digest.and_then(|digest| digest.parse().ok()),
                        },
                        reason: reason.clone(),
                        live_digest: failure.live_digest.and_then(|digest| digest.parse().ok()),
                        message: cut(&failure.message, MAX_MESSAGE),
                    };
                    (failure.profile, known)
                })
            })
            .collect();
        Self {
            live: report.profiles,
            synced,
            trouble,
            failures,
            has_unlisted,
            node_uid: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Failure as ReportedFailure;
    use crate::controller::testing::{condition, labels};

    #[test]
    fn labels_that_stay_the_same_affect_nothing() {
        let mut nodes = Nodes::default();
        assert_eq!(nodes.set_labels("a", labels(&[("zone", "x")])), Affected::All);
        assert_eq!(nodes.set_labels("a", labels(&[("zone", "x")])), Affected::Nothing);
        assert_eq!(nodes.set_labels("a", labels(&[("zone", "y")])), Affected::All);
    }

    #[test]
    fn a_report_that_stays_the_same_affects_nothing_and_one_that_changes_affects_what_differs() {
        let mut nodes = Nodes::default();
        let report = Report {
            synced: true,
            ..Report::default()
        };
        assert_eq!(nodes.set_report("a", Report::default()), Affected::All);
        assert_eq!(nodes.set_report("a", Report::default()), Affected::Nothing);
        assert_eq!(
            nodes.set_report("a", report.clone()),
            Affected::Differing(Box::new((Report::default(), report)))
        );
    }

    #[test]
    fn a_node_is_reachable_while_any_of_its_pods_is_ready() {
        let mut nodes = Nodes::default();
        nodes.set_labels("a", labels(&[]));
        let reachable = |nodes: &Nodes| nodes.by_name["a"].is_reachable();
        nodes.set_pod("old", "a", true);
        nodes.set_pod("new", "a", true);
        nodes.set_pod("old", "a", false);
        assert!(reachable(&nodes));
        nodes.remove_pod("old");
        assert!(reachable(&nodes));
        assert_eq!(nodes.set_pod("new", "a", true), Affected::Nothing);
        nodes.set_pod("new", "a", false);
        assert!(!reachable(&nodes));
        nodes.remove_pod("new");
        assert_eq!(nodes.remove_pod("new"), Affected::Nothing);
        assert!(!reachable(&nodes));
    }

    #[test]
    fn nodes_are_counted_by_what_is_known_of_their_agents() {
        let mut nodes = Nodes::default();
        let synced = || Report {
            synced: true,
            ..Report::default()
        };
        let full = Report {
            trouble: Some(Trouble {
                reason: "StoreNotWritable",
                message: "no space".to_owned(),
            }),
            ..synced()
        };
        for (name, report, up) in [
            ("reporting", Some(synced()), true),
            ("full", Some(full.clone()), true),
            ("syncing", Some(Report::default()), true),
            ("starting", None, true),
            ("silent", Some(full), false),
            ("windows", None, false),
        ] {
            nodes.set_labels(name, labels(&[]));
            if let Some(report) = report {
                nodes.set_report(name, report);
            }
            nodes.set_pod(&format!("agent-{name}"), name, up);
        }
        nodes.set_report("no such node", synced());
        let counts = nodes.counts();
        let count = |state| counts.get(&state).copied();
        assert_eq!(NodeState::ALL.map(count), [1, 1, 2, 1, 1].map(Some));
        assert_eq!(counts.values().sum::<i64>(), 6);
    }

    #[test]
    fn a_pod_that_moves_is_counted_where_it_is() {
        let mut nodes = Nodes::default();
        nodes.set_pod("agent", "a", true);
        nodes.set_pod("agent", "b", true);
        assert!(!nodes.by_name.contains_key("a"));
        assert!(nodes.by_name["b"].is_reachable());
    }

    #[test]
    fn nothing_is_kept_of_a_node_that_is_gone() {
        let mut nodes = Nodes::default();
        nodes.set_labels("a", labels(&[]));
        nodes.set_report("a", Report::default());
        nodes.set_pod("agent", "a", true);
        nodes.remove_labels("a");
        nodes.remove_report("a");
        nodes.remove_pod("agent");
        assert_eq!(nodes.iter().count(), 0);
        assert_eq!(nodes.remove_labels("a"), Affected::Nothing);
        assert_eq!(nodes.remove_report("a"), Affected::Nothing);
    }

    #[test]
    fn a_selector_asks_for_every_label_and_a_node_without_object_is_never_selected() {
        let node = Node {
            labels: Some(labels(&[("zone", "a"), ("gpu", "yes")])),
            ..Node::default()
        };
        assert!(node.is_selected(&labels(&[])));
        assert!(node.is_selected(&labels(&[("zone", "a"), ("gpu", "yes")])));
        assert!(!node.is_selected(&labels(&[("zone", "a"), ("gpu", "no")])));
        assert!(!node.is_selected(&labels(&[("disk", "")])));
        assert!(!Node::default().is_selected(&labels(&[])));
    }

    #[test]
    fn a_report_that_lists_fewer_failures_than_it_counts_is_known_to() {
        let report = Report::from(SeccompNodeReport {
            failures: vec![FailureGroup {
                reason: "LoadRefused".to_owned(),
                total: 1,
                profiles: Vec::new(),
            }],
            ..SeccompNodeReport::default()
        });
        assert!(report.has_unlisted);
        let mut nodes = Nodes::default();
        nodes.set_report("a", report);
        assert_eq!(nodes.troubled().count(), 1);
    }

    #[test]
    fn what_is_kept_of_a_report_is_bounded_whatever_the_node_writes() {
        let failure = |profile: String| ReportedFailure {
            profile,
            generation: 1,
            digest: None,
            live_digest: None,
            message: "m".repeat(10_000),
        };
        let group = |group: usize| FailureGroup {
            reason: "R".repeat(10_000),
            total: u32::MAX,
            profiles: (0..100)
                .map(|index| failure(format!("team/{group}-{index}")))
                .collect(),
        };
        let mut failures: Vec<_> = (0..100).map(group).collect();
        failures[0].profiles[0] = failure("n".repeat(MAX_KEY + 1));
        failures[0].profiles[1] = failure("n".repeat(MAX_KEY));
        let report = Report::from(SeccompNodeReport {
            failures,
            ..SeccompNodeReport::default()
        });
        let listed = SeccompNodeReport::MAX_FAILURE_GROUPS * FailureGroup::MAX_PROFILES;
        assert_eq!(
            report.failures.len(),
            listed - 1,
            "all but one that no profile can have"
        );
        let bytes =
            |(key, failure): (&String, &Failure)| key.len() + failure.reason.len() + failure.message.len();
        let kept: usize = report.failures.iter().map(bytes).sum();
        assert!(kept <= 256 << 10, "{kept}");
        assert!(report.has_unlisted);
    }

    #[test]
    fn a_report_is_read_with_hostile_parts_cut_or_left_out() {
        let report = Report::from(SeccompNodeReport {
            conditions: vec![
                condition("Synced", ConditionStatus::True, "Synced", ""),
                condition("DriftWatch", ConditionStatus::False, "Exhausted", "no matter"),
                condition("TestLoad", ConditionStatus::Unknown, "Starting", ""),
                condition(
                    "StoreWritable",
                    ConditionStatus::False,
                    "DiskFull",
                    &"no space ".repeat(1000),
                ),
            ],
            failures: vec![FailureGroup {
                reason: "R".repeat(1000),
                total: 1,
                profiles: vec![ReportedFailure {
                    profile: "team/web".to_owned(),
                    generation: 2,
                    digest: None,
                    live_digest: Some("sha256:nonsense".to_owned()),
                    message: "m".repeat(100_000),
                }],
            }],
            ..SeccompNodeReport::default()
        });
        assert!(report.synced && !report.has_unlisted);
        let trouble = report.trouble.unwrap();
        assert_eq!(trouble.reason, "StoreNotWritable");
        assert_eq!(trouble.message.len(), MAX_MESSAGE);
        let failure = &report.failures["team/web"];
        assert_eq!(failure.live_digest, None);
        assert!(failure.reason.len() <= MAX_REASON && failure.message.len() <= MAX_MESSAGE);
    }
}
