//! What must hold whatever happens, and whether it does after each thing that a process did.

use std::collections::BTreeMap;

use crate::agent::model::{Changed, Turned};
use crate::api::{Condition, ConditionStatus, LiveSet, RawSeccompProfile};
use crate::controller::model::{StatusWrite, conditions, meaning};
use crate::model::content::selector;
use crate::model::ghost::matches;
use crate::model::object::Kind;
use crate::profile::{Digest, ProfileName};

use super::{GRACE, World, content_of, status_of};

/// Which promise was broken, and how.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::model) struct Violation {
    pub(in crate::model) promise: Promise,
    pub(in crate::model) how: String,
}

/// What must hold, whatever happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::model) enum Promise {
    /// A report lists what is on the node's disk when it is made, and no more and no less.
    ReportsAreTrue,
    /// A profile that a pod uses is in the report, from the moment that the agent was told of the pod.
    UsedFilesAreReported,
    /// No file goes that a pod uses of which the agent was told.
    UsedFilesStay,
    /// No file goes while there may be pods, profiles or labels that the agent was not told of.
    NothingGoesUntold,
    /// No file goes whose profile is wanted, or was until less than the grace ago.
    FilesStayForTheGrace,
    /// No file of `callgate install` goes unless an object's took its place.
    FilesOfOthersStay,
    /// What is written passed on this node, and is what its profile says.
    OnlyProvenIsWritten,
    /// An agent is ready once every profile that it was told of was dealt with.
    ReadyAgentsAreDone,
    /// Ready=True of a generation: every node that the controller could wait for said that it has these bytes, and had
    /// them when it said so.
    ReadyIsTrue,
    /// Each write of a status says something new.
    WritesSaySomething,
    /// When faults stop, all comes to an end.
    ItSettles,
    /// And files, reports and statuses are then what the objects ask for.
    AllIsAsAsked,
}

impl World {
    pub(super) fn check_change(&mut self, index: usize, changed: &Changed) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let ghost = &node.ghost;
        let violation = match changed {
            Changed::Wrote(name, digest) => {
                node.written.insert(name.clone(), *digest);
                node.foreign.take_if(|foreign| foreign == name);
                let is_asked = ghost.wanted(name) == Some(*digest);
                let is_proven = node.passed.contains(digest);
                (!is_asked || !is_proven).then_some((
                    Promise::OnlyProvenIsWritten,
                    format!(
                        "{}: {name} {digest} written, asked {is_asked}, proven {is_proven}",
                        node.name
                    ),
                ))
            }
            Changed::Removed(name) => {
                let is_told = ghost.is_whole(Kind::Profiles)
                    && ghost.is_whole(Kind::Pods)
                    && ghost.is_complete(Kind::Nodes);
                let since = ghost.unwanted_since(name);
                if node.foreign.as_ref() == Some(name) {
                    Some((
                        Promise::FilesOfOthersStay,
                        format!("{}: {name} removed", node.name),
                    ))
                } else if ghost.used().contains(name) {
                    Some((
                        Promise::UsedFilesStay,
                        format!("{}: {name} removed, and a pod uses it", node.name),
                    ))
                } else if !is_told {
                    Some((
                        Promise::NothingGoesUntold,
                        format!("{}: {name} removed, and not everything was told", node.name),
                    ))
                } else if since.is_none_or(|since| now < since + GRACE) {
                    Some((
                        Promise::FilesStayForTheGrace,
                        format!(
                            "{}: {name} removed, unwanted since {since:?}, now {now:?}",
                            node.name
                        ),
                    ))
                } else {
                    None
                }
            }
        };
        if let Some((promise, how)) = violation {
            self.violate(promise, how);
        }
    }

    /// `truth` is what is on the disk of the node.
    pub(super) fn check_truth(
        &mut self,
        index: usize,
        said: &LiveSet,
        truth: &BTreeMap<ProfileName, Digest>,
    ) {
        if *said != truth.iter().collect::<LiveSet>() {
            let name = &self.nodes[index].name;
            let how = format!("{name} reports {said:?} with {truth:?} on disk");
            self.violate(Promise::ReportsAreTrue, how);
        }
    }

    pub(super) fn check_told(&mut self, index: usize, turned: &Turned) {
        let node = &self.nodes[index];
        let used = node.ghost.used();
        if let Some(object) = &turned.sent
            && node.ghost.is_complete(Kind::Pods)
            && let Some(missed) = used
                .iter()
                .find(|name| !object.spec.in_use.contains(&name.to_string()))
        {
            let how = format!("{} does not report that a pod uses {missed}", node.name);
            self.violate(Promise::UsedFilesAreReported, how);
            return;
        }
        if turned.is_now_ready {
            // What the disk did not take, or the kernel did not answer, is dealt with.
            let is_missing = |name: &ProfileName| {
                let wanted = node.ghost.wanted(name);
                let profile = node.ghost.profile(&name.to_string());
                let passes =
                    profile.is_some_and(|profile| content_of(&profile).refusal(node.machine).is_none());
                passes && wanted.is_some() && node.disk.digest(name) != wanted
            };
            let missing = node.ghost.profiles().find(is_missing);
            let missing = missing.filter(|_| !node.was_hindered);
            if let Some(missing) = missing {
                let how = format!("{} is ready without {missing}", node.name);
                self.violate(Promise::ReadyAgentsAreDone, how);
            }
        }
    }

    /// A write whose answer was lost is made again until the watch tells of it.
    pub(super) fn check_repeat(&mut self, replica: usize, write: &StatusWrite) {
        let is_said = |object: Option<&RawSeccompProfile>| {
            object.is_some_and(|object| meaning(&status_of(object)) == meaning(&write.status))
        };
        let told = self.replicas[replica].told(write.key());
        if is_said(told.as_ref()) && is_said(self.server.profiles.get(write.key())) {
            let (key, meaning) = (write.key(), meaning(&write.status));
            self.violate(
                Promise::WritesSaySomething,
                format!("{key} is to say once more: {meaning:?}"),
            );
        }
    }

    pub(super) fn check_ready(&mut self, replica: usize, write: &StatusWrite) {
        let [valid, ready] = conditions(&write.status);
        let is_true = |condition: Option<&Condition>| {
            condition.is_some_and(|condition| condition.status == ConditionStatus::True)
        };
        if !is_true(ready) {
            return;
        }
        let before = self.server.profiles.get(write.key());
        let Some(before) = before.filter(|object| object.metadata.uid.as_deref() == Some(write.uid())) else {
            return;
        };
        let spec = before.spec.clone();
        // By a status that arrived, or one that this controller was told of: it was ready once.
        let is_latched = |object: &RawSeccompProfile| {
            let status = status_of(object);
            let [_, ready] = conditions(&status);
            is_true(ready)
                && object.metadata.uid.as_deref() == Some(write.uid())
                && ready.and_then(|ready| ready.observed_generation) == write.status.observed_generation
        };
        let told = self.replicas[replica].ghost.profile(write.key());
        let is_latched = is_latched(before) || told.as_ref().is_some_and(is_latched);
        let name: ProfileName = write.key().parse().unwrap();
        let digest = write.status.digest.clone();
        // Of an older generation, of which the controller was not told otherwise yet, the selector is not known here.
        let is_latest = write.status.observed_generation == before.metadata.generation;
        let selector = selector(&spec);
        let mut lacking = Vec::new();
        if let (true, false, Some(selector)) = (is_latest, is_latched, selector) {
            for node in self.replicas[replica].ghost.nodes() {
                let counts = matches(&selector, &node.labels) && node.is_synced && node.is_reachable;
                let truth = node
                    .report
                    .and_then(|version| self.truths.get(&(node.name.clone(), version)));
                let has = truth.and_then(|truth| truth.get(&name)).map(ToString::to_string);
                if counts && has != digest {
                    lacking.push((node.name, has));
                }
            }
        }
        if !lacking.is_empty() || !is_true(valid) {
            let how = format!("{} is Ready={digest:?}, and {lacking:?}", write.key());
            self.violate(Promise::ReadyIsTrue, how);
        }
    }
}
