//! Where it all ends: from the objects that there are to the files, reports and statuses that there must be.

use std::collections::{BTreeMap, BTreeSet};

use super::action::PROFILES;
use super::content::{Content, Machine, selector};
use super::ghost::{matches, used_by};
use super::world::{NodeUnderTest, Promise, World, content_of, profile, status_of};
use crate::api::{ConditionStatus, LiveSet, NodeCondition, RawSeccompProfile};
use crate::controller::model::conditions;
use crate::profile::{Digest, ProfileName};
use crate::proof::RefusedBy;

/// What must be on a node's disk for a profile.
#[derive(Debug, PartialEq, Eq)]
enum File {
    /// Exactly this.
    This(Digest),
    /// What was written last, or nothing if nothing was: what does not pass replaces and removes nothing.
    LastGood,
    /// What was written last, because a pod uses it or nobody of ours put it there.
    Kept,
    None,
}

impl World {
    /// Holds everything against what the objects ask for.
    pub(super) fn check_fixed_point(&mut self) {
        let mut wrong = Vec::new();
        for node in &self.nodes {
            self.check_files(node, &mut wrong);
            self.check_report(node, &mut wrong);
        }
        for (key, object) in &self.server.profiles {
            self.check_status(key, object, &mut wrong);
        }
        if !wrong.is_empty() {
            self.violate(Promise::AllIsAsAsked, wrong.join("\n"));
        }
    }

    fn is_selected(&self, node: &NodeUnderTest, object: &RawSeccompProfile) -> bool {
        let node = &self.server.nodes[&node.name];
        let labels = node.metadata.labels.clone().unwrap_or_default();
        matches(&selector(&object.spec).unwrap_or_default(), &labels)
    }

    fn used(&self, node: &NodeUnderTest) -> BTreeSet<ProfileName> {
        let is_here = |pod: &&k8s_openapi::api::core::v1::Pod| {
            let spec = pod.spec.as_ref();
            spec.and_then(|spec| spec.node_name.as_ref()) == Some(&node.name)
        };
        self.server
            .pods
            .values()
            .filter(is_here)
            .filter_map(used_by)
            .collect()
    }

    fn file(&self, node: &NodeUnderTest, name: &ProfileName) -> File {
        let object = self.server.profiles.get(&name.to_string());
        match object.filter(|object| self.is_selected(node, object)) {
            Some(object) => {
                let content = content_of(object);
                match (content.refusal(node.machine), content.digest()) {
                    (None, Some(digest)) => File::This(digest),
                    _ => File::LastGood,
                }
            }
            None if self.used(node).contains(name) => File::Kept,
            // Of `callgate install`, and never anybody else's.
            None if node.disk.live.contains_key(name) && !node.written.contains_key(name) => File::Kept,
            None => File::None,
        }
    }

    fn check_files(&self, node: &NodeUnderTest, wrong: &mut Vec<String>) {
        for name in (0..PROFILES).map(profile) {
            let found = node.disk.digest(&name);
            let expected = self.file(node, &name);
            let is_right = match expected {
                File::This(digest) => found == Some(digest),
                File::None => found.is_none() && !node.disk.unproven.contains_key(&name),
                File::LastGood | File::Kept => found.is_none_or(|digest| node.may_have(&name, digest)),
            };
            if !is_right {
                wrong.push(format!(
                    "{} has {found:?} for {name}, not {expected:?}",
                    node.name
                ));
            }
        }
    }

    /// The failures that a node must report: by profile, generation, digest and reason.
    fn failures(
        &self,
        node: &NodeUnderTest,
    ) -> BTreeMap<String, (i64, Option<String>, String, Option<String>)> {
        let mut failures = BTreeMap::new();
        for (key, object) in &self.server.profiles {
            let name: ProfileName = key.parse().unwrap();
            let content = content_of(object);
            let Some((by, code)) = content.refusal(node.machine) else {
                continue;
            };
            let live = node.disk.digest(&name);
            // A file that passed stays good under newer rules.
            let is_tolerated = by == RefusedBy::Rule && live.is_some() && live == content.digest();
            // So does one of an unknown kernel's, until that was asked.
            if self.is_selected(node, object) && !is_tolerated {
                let generation = object.metadata.generation.unwrap();
                let digest = content.digest().map(|digest| digest.to_string());
                let live = live.map(|digest| digest.to_string());
                failures.insert(key.clone(), (generation, digest, code.reason(), live));
            }
        }
        failures
    }

    fn check_report(&self, node: &NodeUnderTest, wrong: &mut Vec<String>) {
        let Some(report) = self.server.reports.get(&node.name) else {
            wrong.push(format!("{} has no report", node.name));
            return;
        };
        let on_disk: BTreeMap<_, _> = node
            .disk
            .live
            .iter()
            .map(|(name, installed)| (name, &installed.file.digest))
            .collect();
        let live: LiveSet = on_disk.iter().map(|(name, digest)| (*name, *digest)).collect();
        if report.spec.profiles != live {
            wrong.push(format!(
                "the report of {} does not say that it has {on_disk:?}",
                node.name
            ));
        }
        let used: Vec<_> = self.used(node).iter().map(ToString::to_string).collect();
        if report.spec.in_use != used {
            wrong.push(format!(
                "{} reports the use of {:?}, not {used:?}",
                node.name, report.spec.in_use
            ));
        }
        let failures: BTreeMap<_, _> = report
            .spec
            .failures
            .iter()
            .flat_map(|group| {
                group
                    .profiles
                    .iter()
                    .map(|failure| (group.reason.clone(), failure))
            })
            .map(|(reason, failure)| {
                let failure = failure.clone();
                let what = (failure.generation, failure.digest, reason, failure.live_digest);
                (failure.profile, what)
            })
            .collect();
        let expected = self.failures(node);
        if failures != expected {
            wrong.push(format!("{} reports {failures:?}, not {expected:?}", node.name));
        }
        for condition in &report.spec.conditions {
            if condition.status != ConditionStatus::True {
                wrong.push(format!("{} reports {condition:?}", node.name));
            }
        }
        let synced = NodeCondition::Synced.as_str();
        if !report
            .spec
            .conditions
            .iter()
            .any(|condition| condition.type_ == synced)
        {
            wrong.push(format!("{} does not say whether it is synced", node.name));
        }
    }

    fn check_status(&self, key: &str, object: &RawSeccompProfile, wrong: &mut Vec<String>) {
        let status = status_of(object);
        let content = content_of(object);
        let [valid, ready] = conditions(&status);
        let (Some(valid), Some(ready)) = (valid, ready) else {
            wrong.push(format!("{key} has no conditions"));
            return;
        };
        let generation = object.metadata.generation;
        let digest = content.digest().map(|digest| digest.to_string());
        if (status.observed_generation, &status.digest) != (generation, &digest)
            || valid.observed_generation != generation
            || ready.observed_generation != generation
        {
            wrong.push(format!(
                "{key}: {status:?} is not about generation {generation:?}, {digest:?}"
            ));
        }
        // The controller's kernel is new; its rules may be either, and what an older one took stays valid.
        let machine = |new_rules| Machine {
            new_kernel: true,
            new_rules,
        };
        let passes = [true, false].map(|new_rules| content.refusal(machine(new_rules)).is_none());
        let is_valid = valid.status == ConditionStatus::True;
        if valid.status == ConditionStatus::Unknown || !passes.contains(&is_valid) {
            wrong.push(format!("{key} with {content:?} has {valid:?}"));
        }
        let failing: BTreeSet<_> = self
            .nodes
            .iter()
            .filter(|node| self.failures(node).contains_key(key))
            .map(|node| node.name.clone())
            .collect();
        let selected = self
            .nodes
            .iter()
            .filter(|node| self.is_selected(node, object))
            .count();
        let expected: &[(ConditionStatus, &str)] = match (is_valid, failing.is_empty(), selected) {
            (false, ..) => &[(ConditionStatus::False, "Invalid")],
            (true, false, _) => &[(ConditionStatus::False, "InstallFailed")],
            // It was installed before the nodes went.
            (true, true, 0) => &[
                (ConditionStatus::True, "NoNodesSelected"),
                (ConditionStatus::True, "Installed"),
            ],
            (true, true, _) => &[(ConditionStatus::True, "Installed")],
        };
        if !expected.contains(&(ready.status, ready.reason.as_str())) {
            wrong.push(format!(
                "{key} with {content:?}, failing on {failing:?}: {ready:?}, not {expected:?}"
            ));
        }
        let total = status.failures_total.unwrap_or(0);
        if usize::try_from(total).unwrap() != failing.len() {
            wrong.push(format!(
                "{key} fails on {failing:?} and says {:?}",
                status.failures
            ));
        }
        let is_stalled = status
            .conditions
            .iter()
            .any(|condition| condition.type_ == "Stalled");
        if is_stalled == is_valid {
            wrong.push(format!("{key}: Valid {is_valid}, Stalled {is_stalled}"));
        }
    }
}

impl NodeUnderTest {
    /// Whether this can be what was left of a profile.
    fn may_have(&self, name: &ProfileName, digest: Digest) -> bool {
        let of_install = Content::Good(0).digest();
        match self.written.get(name) {
            Some(written) => *written == digest,
            None => Some(digest) == of_install && *name == profile(0),
        }
    }
}
