//! From a judgement and all node reports to what status says about the rollout. Pure.
//!
//! What comes out changes only when the rollout completes or the set of failures changes, and for nothing that
//! merely comes or goes: every write of a status is sent to every agent.

use std::collections::BTreeMap;

use super::judge::Judgement;
use super::nodes::{Node, Nodes};
use super::status::{READY, find};
use crate::api::{
    Condition, ConditionStatus, LiveKey, LiveSet, NodeFailure, SeccompProfileStatus, Tried, cut,
};
use crate::profile::{Digest, ProfileName};
use crate::text::count;

/// Groups of failures that status lists.
const MAX_FAILURES: usize = 10;
/// Nodes that a message names.
const MAX_NAMED: usize = 5;
const MAX_MESSAGE: usize = 1024;

/// How far a generation has come.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rollout {
    /// Whether every selected node has it.
    pub(super) ready: ConditionStatus,
    /// Why, for programs.
    pub(super) reason: String,
    /// Why, and what to do, for people.
    pub(super) message: String,
    /// The nodes that could not install it, grouped by reason and live digest, the largest group first.
    pub(super) failures: Vec<NodeFailure>,
    /// How many nodes that is in all.
    pub(super) failures_total: u32,
}

impl Rollout {
    /// Whether it may only wait for nodes, so that a moment more may complete it.
    pub(super) fn is_installing(&self) -> bool {
        let may_follow = |failure: &NodeFailure| failure.reason == NOT_LISTED;
        self.reason == INSTALLING || (self.reason == INSTALL_FAILED && self.failures.iter().all(may_follow))
    }
}

/// The reasons of Ready.
const INSTALLED: &str = "Installed";
const NO_NODES_SELECTED: &str = "NoNodesSelected";
const INSTALLING: &str = "Installing";
const NO_AGENT: &str = "NoAgentReady";
pub(super) const INSTALL_FAILED: &str = "InstallFailed";
const INVALID: &str = "Invalid";
const NOT_PROVEN: &str = "NotProven";

/// The reason of a failure that the node's report may have had no room for.
const NOT_LISTED: &str = "NotInstalled";
const NOT_LISTED_MESSAGE: &str = "It is not there, and more profiles failed on the node than its report has room for: \
                                  see the log of the agent on that node.";

/// What is known of nodes that had more failures than their reports have room for.
const MAY_STAY: &str = "An earlier version may be live, unreported among too many failures, on";

const ON_EVERY_NODE: &str = "Installed on every selected node.";

/// How far the judged generation of the profile `key` (NAMESPACE/NAME) has come. `previous` is the status
/// as it stands: it remembers whether this generation was ready once.
pub(super) fn fold(
    key: &str,
    judgement: &Judgement,
    nodes: &Nodes,
    previous: &SeccompProfileStatus,
) -> Rollout {
    let wanted = key
        .parse::<ProfileName>()
        .ok()
        .zip(judgement.digest)
        .map(|(name, digest)| LiveSet::key(&name, &digest));
    let failures = Failures::collect(key, wanted.as_ref(), judgement, nodes);
    let before = latest(previous, judgement);
    let new = match judgement.valid {
        ConditionStatus::Unknown => {
            failures.rollout(ConditionStatus::Unknown, NOT_PROVEN, &judgement.message)
        }
        ConditionStatus::False => failures.rollout(ConditionStatus::False, INVALID, &failures.what_stays()),
        ConditionStatus::True if !failures.is_empty() => {
            failures.rollout(ConditionStatus::False, INSTALL_FAILED, &failures.what_failed())
        }
        ConditionStatus::True => progress(key, wanted.as_ref(), judgement, nodes, before),
    };
    match before {
        Some(ready) if new.says_the_same(ready, previous) => Rollout {
            reason: ready.reason.clone(),
            message: ready.message.clone(),
            failures: previous.failures.clone(),
            ..new
        },
        _ => new,
    }
}

/// The condition Ready, if it speaks of this generation and these bytes.
fn latest<'a>(previous: &'a SeccompProfileStatus, judgement: &Judgement) -> Option<&'a Condition> {
    let ready = find(previous, READY)?;
    let same_bytes = previous.digest == judgement.digest.map(|digest| digest.to_string());
    (ready.observed_generation == Some(judgement.generation) && same_bytes).then_some(ready)
}

/// How far a valid profile has come on nodes none of which failed.
fn progress(
    key: &str,
    wanted: Option<&LiveKey>,
    judgement: &Judgement,
    nodes: &Nodes,
    before: Option<&Condition>,
) -> Rollout {
    let once =
        |reason| before.is_some_and(|ready| ready.status == ConditionStatus::True && ready.reason == reason);
    if once(INSTALLED) {
        return Rollout::new(ConditionStatus::True, INSTALLED, ON_EVERY_NODE);
    }
    match Progress::of(wanted, judgement, nodes) {
        Progress::NoNodes => no_nodes(),
        // No node was selected when this generation was judged: nodes that join later do not unset that.
        Progress::Pending | Progress::NoAgent if once(NO_NODES_SELECTED) => no_nodes(),
        Progress::Pending => Rollout::new(
            ConditionStatus::False,
            INSTALLING,
            &format!("Being installed on the selected nodes; `callgate status {key}` shows how far it is."),
        ),
        Progress::NoAgent => Rollout::new(
            ConditionStatus::False,
            NO_AGENT,
            "No agent on the selected nodes has this version or can be reached: see whether the pods of the \
             agents' DaemonSet run and are ready.",
        ),
        Progress::Complete { unreached, unsynced } => Rollout::new(
            ConditionStatus::True,
            INSTALLED,
            &installed(&unreached, &unsynced),
        ),
    }
}

/// Where a complete rollout came to, and where it did not wait to come to.
fn installed(unreached: &[&str], unsynced: &[&str]) -> String {
    if unreached.is_empty() && unsynced.is_empty() {
        return ON_EVERY_NODE.to_owned();
    }
    let mut message = "Installed on every selected node that could be asked.".to_owned();
    if !unreached.is_empty() {
        message += " The agents of these could not be reached when the rollout completed: ";
        message += &enumerate(unreached);
        message.push('.');
    }
    if !unsynced.is_empty() {
        message += " These had no agent past its first sync then: ";
        message += &enumerate(unsynced);
        message += ". A node gets it before its agent is ready.";
    }
    message
}

fn no_nodes() -> Rollout {
    Rollout::new(
        ConditionStatus::True,
        NO_NODES_SELECTED,
        "No node matched spec.nodeSelector when this generation was judged, so there was nothing to install. \
         Nodes that match later get it.",
    )
}

/// Where a valid profile is.
enum Progress<'a> {
    /// No node is selected.
    NoNodes,
    /// At least one node can be expected to install it, and has not.
    Pending,
    /// Nodes are selected, none has it, and of none can it be expected.
    NoAgent,
    /// Every selected node has it, but for those that cannot be asked.
    Complete {
        /// They reported once, and their agents are not ready.
        unreached: Vec<&'a str>,
        /// They have no agent past its first sync: nodes that join, or on which none is to run.
        unsynced: Vec<&'a str>,
    },
}

impl<'a> Progress<'a> {
    fn of(wanted: Option<&LiveKey>, judgement: &Judgement, nodes: &'a Nodes) -> Self {
        let Some(wanted) = wanted else {
            return Self::Pending;
        };
        let (mut selected, mut live) = (false, false);
        let (mut unreached, mut unsynced) = (Vec::new(), Vec::new());
        for (node_name, node) in nodes
            .iter()
            .filter(|(_, node)| node.is_selected(&judgement.selector))
        {
            selected = true;
            let Some(report) = node.report.as_ref().filter(|report| report.synced) else {
                unsynced.push(node_name);
                continue;
            };
            // Live is live, also where an earlier object of the same name and bytes put it there: the agent keeps
            // the file for the grace, and for good once it has seen the new object. Only where the grace ends in
            // that very moment does the file go and come back, and the kubelet tries a container again that it
            // could not start meanwhile. To close that gap would take a report per node and object that says that
            // nothing has changed.
            if report.live.contains_key(wanted) {
                live = true;
            } else if node.is_reachable() {
                return Self::Pending;
            } else {
                unreached.push(node_name);
            }
        }
        match (selected, live) {
            (false, _) => Self::NoNodes,
            (true, false) => Self::NoAgent,
            (true, true) => Self::Complete { unreached, unsynced },
        }
    }
}

/// The nodes that could not install a profile.
struct Failures<'a> {
    /// By reason and by what they have instead.
    groups: BTreeMap<(&'a str, Option<Digest>), Group<'a>>,
    /// How many more nodes had more failures than their reports have room for, and so do not say what they have.
    unlisted: usize,
}

struct Group<'a> {
    /// In the order of their names.
    nodes: Vec<&'a str>,
    /// Of the first of them.
    message: &'a str,
}

impl<'a> Failures<'a> {
    fn collect(key: &str, wanted: Option<&LiveKey>, judgement: &Judgement, nodes: &'a Nodes) -> Self {
        let mut groups = BTreeMap::new();
        let mut unlisted = 0;
        let selected = nodes
            .troubled()
            .filter(|(_, node)| node.is_selected(&judgement.selector));
        for (node_name, node) in selected {
            if let Some((reason, live, message)) = failure_of(key, wanted, judgement, node) {
                groups
                    .entry((reason, live))
                    .or_insert_with(|| Group {
                        nodes: Vec::new(),
                        message,
                    })
                    .nodes
                    .push(node_name);
            } else if node.is_silent_about(key) {
                unlisted += 1;
            }
        }
        Self { groups, unlisted }
    }

    fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn total(&self) -> usize {
        self.groups.values().map(|group| group.nodes.len()).sum()
    }

    /// The largest group first; of equal ones the one with the first node.
    fn sorted(&self) -> Vec<(&(&'a str, Option<Digest>), &Group<'a>)> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, group)| (std::cmp::Reverse(group.nodes.len()), group.nodes[0]));
        groups
    }

    fn what_failed(&self) -> String {
        let groups = self.sorted();
        let Some(((reason, live), group)) = groups.first() else {
            return String::new();
        };
        let instead = live.map_or_else(String::new, |live| format!(" {} stays in place.", short(&live)));
        let others = groups.len() - 1;
        let more = if others == 0 {
            String::new()
        } else {
            format!(" {others} more in status.failures.")
        };
        format!(
            "Not installed on {}: {reason}: {}{instead}{more}",
            enumerate(&group.nodes),
            group.message
        )
    }

    fn what_stays(&self) -> String {
        let stays: Vec<_> = self
            .sorted()
            .into_iter()
            .filter_map(|((_, live), group)| {
                Some(format!("{} on {}", short(&(*live)?), enumerate(&group.nodes)))
            })
            .collect();
        let mut parts = vec!["Not installed: the profile is invalid, see condition Valid.".to_owned()];
        if !stays.is_empty() {
            parts.push(format!(
                "The last good version stays in place: {}.",
                stays.join("; ")
            ));
        }
        if self.unlisted > 0 {
            parts.push(format!("{MAY_STAY} {}.", count(self.unlisted, "node")));
        }
        parts.join(" ")
    }

    fn rollout(&self, ready: ConditionStatus, reason: &str, message: &str) -> Rollout {
        let failures = self
            .sorted()
            .into_iter()
            .take(MAX_FAILURES)
            .map(|(&(reason, live), group)| NodeFailure {
                node: group.nodes[0].to_owned(),
                others: u32::try_from(group.nodes.len() - 1)
                    .ok()
                    .filter(|others| *others > 0),
                reason: reason.to_owned(),
                message: group.message.to_owned(),
                live_digest: live.map(|digest| digest.to_string()),
            })
            .collect();
        Rollout {
            failures,
            failures_total: u32::try_from(self.total()).unwrap_or(u32::MAX),
            ..Rollout::new(ready, reason, message)
        }
    }
}

/// Why this node does not have the profile, and what it has instead; `None` if it has it, or may yet.
fn failure_of<'a>(
    key: &str,
    wanted: Option<&LiveKey>,
    judgement: &Judgement,
    node: &'a Node,
) -> Option<(&'a str, Option<Digest>, &'a str)> {
    let report = node.report.as_ref()?;
    let is_live = || wanted.is_some_and(|wanted| report.live.contains_key(wanted));
    let judged = Tried {
        generation: judgement.generation,
        digest: judgement.digest,
    };
    let reported = report
        .failures
        .get(key)
        .filter(|failure| failure.tried.concerns(&judged));
    if let Some(failure) = reported {
        return (!is_live()).then_some((&failure.reason, failure.live_digest, &failure.message));
    }
    // The rest matters only to what is to be written.
    if judgement.valid != ConditionStatus::True || is_live() {
        return None;
    }
    if let Some(trouble) = &report.trouble {
        return Some((trouble.reason, None, &trouble.message));
    }
    // After its first sync a node has what it could install, but for what changed a moment ago. To call that failed
    // for the moment is better than to say for ever that it is being installed.
    (report.synced && report.has_unlisted).then_some((NOT_LISTED, None, NOT_LISTED_MESSAGE))
}

impl Rollout {
    fn new(ready: ConditionStatus, reason: &str, message: &str) -> Self {
        Self {
            ready,
            reason: reason.to_owned(),
            message: cut(message, MAX_MESSAGE),
            failures: Vec::new(),
            failures_total: 0,
        }
    }

    /// Whether it differs from the status before in words alone.
    fn says_the_same(&self, ready: &Condition, previous: &SeccompProfileStatus) -> bool {
        // Once it is known that there are nodes whose failure is not listed, that is worth a write; how many is not.
        let may_stay = |message: &str| message.contains(MAY_STAY);
        // Whether anybody can be waited for depends on pods that come and go.
        let waiting = |reason: &str| matches!(reason, INSTALLING | NO_AGENT);
        ready.status == self.ready
            && (ready.reason == self.reason || (waiting(&ready.reason) && waiting(&self.reason)))
            && may_stay(&ready.message) == may_stay(&self.message)
            && without_words(&self.failures) == without_words(&previous.failures)
            && self.failures_total == previous.failures_total.unwrap_or(0)
    }
}

/// What failures say in other than words: node, how many others, reason, and what is live there.
pub(super) fn without_words(failures: &[NodeFailure]) -> Vec<(String, Option<u32>, String, Option<String>)> {
    let told = failures.iter().map(|failure| {
        (
            failure.node.clone(),
            failure.others,
            failure.reason.clone(),
            failure.live_digest.clone(),
        )
    });
    told.collect()
}

/// "a, b and 3 other nodes".
fn enumerate(nodes: &[&str]) -> String {
    let (named, others) = nodes.split_at(nodes.len().min(MAX_NAMED));
    match others.len() {
        0 => named.join(", "),
        others => format!("{} and {}", named.join(", "), count(others, "other node")),
    }
}

/// As many digits as tell two versions apart.
fn short(digest: &Digest) -> String {
    let mut text = digest.to_string();
    text.truncate("sha256:".len() + 12);
    text
}

#[cfg(test)]
mod tests;
