//! All that the controller knows, and what it does next. Pure: time and events come in, actions go out.

mod profile;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::event::{Action, Event, ObjectVersion, Watched, Write, namespace_of};
use super::fold::fold;
use super::judge::judge_name;
use super::news::news;
use super::nodes::{Affected, NodeState, Nodes};
use super::pace::pause;
use super::status::{READY, VALID, compose, find};
use super::taint::{Removal, StartupTaints};
use crate::api::{ConditionStatus, RawSeccompProfile};
use crate::profile::ProfileName;
use crate::proof::Verdict;
use profile::{Profile, Proof};

/// How long the first write of a generation waits for nodes that may be about to complete the rollout: with few
/// nodes, one write then says both that it is valid and that it is ready.
const COMBINE: Duration = Duration::from_millis(75);
/// Proofs under way for one namespace. Those of different namespaces do not wait for each other.
const PROOFS_PER_NAMESPACE: usize = 8;

/// What the controller knows.
#[derive(Debug, Default)]
pub(super) struct State {
    profiles: BTreeMap<String, Profile>,
    nodes: Nodes,
    taints: StartupTaints,
    synced: BTreeSet<Watched>,
    leading: bool,
    /// Profiles to look at again at once, and at some time.
    dirty: BTreeSet<String>,
    wakes: BTreeSet<(Instant, String)>,
    /// By namespace: how many proofs are under way, and whose are not.
    proving: HashMap<String, usize>,
    waiting: HashMap<String, VecDeque<String>>,
}

impl State {
    /// Takes note of an event.
    pub(super) fn apply(&mut self, event: Event, now: Instant) {
        match event {
            Event::Profile(object) => self.set_profile(*object, now),
            Event::ProfileGone(key) => {
                self.profiles.remove(&key);
            }
            Event::Node(name, labels) => {
                let affected = self.nodes.set_labels(&name, labels);
                self.mark(affected);
            }
            Event::StartupTaint { node, uid, position } => self.taints.set_node(&node, uid, position, now),
            Event::NodeGone(name) => {
                self.taints.remove_node(&name);
                let affected = self.nodes.remove_labels(&name);
                self.mark(affected);
            }
            Event::Report(name, report) => {
                self.taints
                    .set_report(&name, report.node_uid.as_deref(), report.synced);
                let affected = self.nodes.set_report(&name, *report);
                self.mark(affected);
            }
            Event::ReportGone(name) => {
                self.taints.remove_report(&name);
                let affected = self.nodes.remove_report(&name);
                self.mark(affected);
            }
            Event::Pod(pod, node, ready) => {
                let affected = self.nodes.set_pod(&pod, &node, ready);
                self.mark(affected);
            }
            Event::PodGone(pod) => {
                let affected = self.nodes.remove_pod(&pod);
                self.mark(affected);
            }
            Event::Synced(watched) => {
                if self.synced.insert(watched) && self.is_synced() {
                    self.mark(Affected::All);
                }
            }
            Event::Proven(version, verdict) => self.proven(&version, &verdict, now),
            Event::Written(version, outcome) => self.written(&version, outcome, now),
            Event::Untainted(removal, outcome) => self.untainted(&removal, outcome, now),
            Event::Leading(leading) => {
                self.leading = leading;
                if !leading {
                    // What was under way was stopped: whether it arrived, the watch says.
                    for profile in self.profiles.values_mut() {
                        profile.writing = None;
                    }
                    self.taints.stopped();
                }
                self.mark(Affected::All);
            }
        }
    }

    /// What is to be done now. `time` is what a clock on the wall says.
    pub(super) fn next(&mut self, now: Instant, time: &Time) -> Vec<Action> {
        while self.wakes.first().is_some_and(|(at, _)| *at <= now) {
            self.dirty.extend(self.wakes.pop_first().map(|(_, key)| key));
        }
        let mut actions = Vec::new();
        if !self.is_synced() {
            return actions;
        }
        while let Some(key) = self.dirty.pop_first() {
            actions.extend(self.start_proof(&key, now));
            actions.extend(self.start_write(&key, now, time));
        }
        if self.leading {
            actions.extend(self.taints.due(now).into_iter().map(Action::Untaint));
        }
        actions
    }

    /// When to ask again if nothing happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let taints = self.leading.then(|| self.taints.wake_at()).flatten();
        self.wakes
            .first()
            .map(|(at, _)| *at)
            .into_iter()
            .chain(taints)
            .min()
    }

    /// Whether everything that there is has been seen.
    pub(super) fn is_synced(&self) -> bool {
        self.synced.len() == Watched::ALL.len()
    }

    /// How many nodes are in which state.
    pub(super) fn node_counts(&self) -> BTreeMap<NodeState, i64> {
        self.nodes.counts()
    }

    /// How many profiles are to be proven, and are not being proven yet.
    pub(super) fn waiting_proofs(&self) -> usize {
        let waits = |profile: &&Profile| matches!(profile.proof, Proof::Wanted { .. });
        self.profiles.values().filter(waits).count()
    }

    /// How many profiles have these values of Valid and Ready.
    pub(super) fn counts(&self) -> BTreeMap<(&'static str, &'static str), i64> {
        let mut counts = BTreeMap::new();
        for profile in self.profiles.values() {
            let value = |type_| match find(&profile.status, type_).map(|condition| condition.status) {
                Some(ConditionStatus::True) => "true",
                Some(ConditionStatus::False) => "false",
                Some(ConditionStatus::Unknown) | None => "unknown",
            };
            *counts.entry((value(VALID), value(READY))).or_default() += 1;
        }
        counts
    }

    fn mark(&mut self, affected: Affected) {
        match affected {
            Affected::Nothing => {}
            Affected::All => self.dirty.extend(self.profiles.keys().cloned()),
            Affected::Differing(reports) => {
                let (old, new) = &*reports;
                let differing = self
                    .profiles
                    .iter()
                    .filter(|(key, profile)| profile.differs(key, old, new))
                    .map(|(key, _)| key.clone());
                self.dirty.extend(differing);
            }
        }
    }

    fn set_profile(&mut self, object: RawSeccompProfile, now: Instant) {
        let metadata = object.metadata;
        let namespace = metadata.namespace.unwrap_or_default();
        let name = metadata.name.unwrap_or_default();
        let key = format!("{namespace}/{name}");
        let uid = metadata.uid.unwrap_or_default();
        let generation = metadata.generation.unwrap_or_default();
        // Resource versions grow.
        // Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
        let resource_version = metadata.resource_version.and_then(|version| version.parse().ok());
        let status = serde_json::from_value(object.status).unwrap_or_default();
        let known = self.profiles.get_mut(&key).filter(|profile| profile.uid == uid);
        if let Some(profile) = known {
            // What a watch says may be older than the answer to our own last write. A version that is no number
            // says nothing about age: what comes with it is taken, and is compared with nothing later.
            if resource_version.is_some_and(|version| version < profile.resource_version) {
                return;
            }
            profile.resource_version = resource_version.unwrap_or(profile.resource_version);
            profile.status = status;
            if profile.generation != generation {
                profile.generation = generation;
                profile.seen_as = profile.resource_version;
                profile.want(object.spec, now);
            }
        } else {
            let mut profile = Profile::new(ProfileName::new(namespace, name), uid, object.spec, now);
            profile.generation = generation;
            profile.resource_version = resource_version.unwrap_or_default();
            profile.seen_as = profile.resource_version;
            profile.status = status;
            self.profiles.insert(key.clone(), profile);
        }
        self.dirty.insert(key);
    }

    fn proven(&mut self, version: &ObjectVersion, verdict: &Verdict, now: Instant) {
        self.free_place(&version.key);
        let Some(profile) = self
            .profiles
            .get_mut(&version.key)
            .filter(|profile| profile.uid == version.uid)
        else {
            return;
        };
        profile.take_verdict(version.generation, verdict, now);
        self.dirty.insert(version.key.clone());
    }

    fn written(
        &mut self,
        version: &ObjectVersion,
        outcome: Result<Box<RawSeccompProfile>, String>,
        now: Instant,
    ) {
        let Some(profile) = self
            .profiles
            .get_mut(&version.key)
            .filter(|profile| profile.uid == version.uid)
        else {
            return;
        };
        let sent = profile.writing.take();
        self.dirty.insert(version.key.clone());
        match outcome {
            Ok(object) => {
                profile.failed_writes = 0;
                let held = serde_json::from_value(object.status.clone()).unwrap_or_default();
                profile.changed = sent
                    .filter(|sent| **sent != held)
                    .map(|sent| Box::new([*sent, held]));
                self.set_profile(*object, now);
            }
            Err(error) => {
                profile.failed_writes += 1;
                let pause = pause(profile.failed_writes);
                profile.write_after = now + pause;
                tracing::warn!(
                    profile = version.key,
                    error,
                    "the status could not be written; tried again in {} s",
                    pause.as_secs()
                );
            }
        }
    }

    fn untainted(&mut self, removal: &Removal, outcome: Result<(), String>, now: Instant) {
        let pause = self.taints.removed(removal, outcome.is_ok(), now);
        match outcome {
            Ok(()) => tracing::info!(
                node = removal.node,
                "the startup taint is off: the agent has synced"
            ),
            Err(error) => {
                tracing::warn!(
                    node = removal.node,
                    error,
                    again_in = pause.map(|pause| pause.as_secs()),
                    "the startup taint could not be taken off"
                );
            }
        }
    }

    /// One proof of this profile's namespace ended, so another may begin.
    fn free_place(&mut self, key: &str) {
        let namespace = namespace_of(key);
        if let Some(count) = self.proving.get_mut(namespace) {
            *count -= 1;
            if *count == 0 {
                self.proving.remove(namespace);
            }
        }
        if let Some(waiting) = self.waiting.get_mut(namespace) {
            let is_wanted = |key: &String| {
                let profile = self.profiles.get(key);
                profile.is_some_and(|profile| matches!(profile.proof, Proof::Wanted { .. }))
            };
            let next = std::iter::from_fn(|| waiting.pop_front()).find(is_wanted);
            self.dirty.extend(next);
            if waiting.is_empty() {
                self.waiting.remove(namespace);
            }
        }
    }

    fn start_proof(&mut self, key: &str, now: Instant) -> Option<Action> {
        let profile = self.profiles.get_mut(key)?;
        let Proof::Wanted {
            spec,
            after,
            failures,
        } = &profile.proof
        else {
            return None;
        };
        if let Err(error) = &profile.name {
            profile.judgement = Some(judge_name(profile.generation, error));
            profile.proof = Proof::Done;
            return None;
        }
        if *after > now {
            self.wakes.insert((*after, key.to_owned()));
            return None;
        }
        let namespace = namespace_of(key);
        let under_way = self.proving.entry(namespace.to_owned()).or_default();
        if *under_way >= PROOFS_PER_NAMESPACE {
            let waiting = self.waiting.entry(namespace.to_owned()).or_default();
            if !waiting.iter().any(|other| other == key) {
                waiting.push_back(key.to_owned());
            }
            return None;
        }
        *under_way += 1;
        let (spec, failures) = (Arc::clone(spec), *failures);
        profile.proof = Proof::Running {
            spec: Arc::clone(&spec),
            failures,
        };
        Some(Action::Prove(profile.version(key), spec))
    }

    fn start_write(&mut self, key: &str, now: Instant, time: &Time) -> Option<Action> {
        let profile = self.profiles.get_mut(key)?;
        let judgement = profile.judgement.as_ref()?;
        if !self.leading || profile.writing.is_some() || profile.is_better_known(judgement) {
            return None;
        }
        let tolerated = judgement.despite_newer_rule(&profile.status);
        let judgement = tolerated.as_ref().unwrap_or(judgement);
        let rollout = fold(key, judgement, &self.nodes, &profile.status);
        let is_first = profile.status.observed_generation != Some(judgement.generation);
        let combined = profile.judged_at + COMBINE;
        if is_first && rollout.is_installing() && now < combined {
            self.wakes.insert((combined, key.to_owned()));
            return None;
        }
        let status = compose(&profile.status, judgement, rollout, time);
        if profile.holds(&status) {
            return None;
        }
        if now < profile.write_after {
            self.wakes.insert((profile.write_after, key.to_owned()));
            return None;
        }
        if let Err(later) = profile.budget.take(now) {
            self.wakes.insert((later, key.to_owned()));
            return None;
        }
        profile.writing = Some(Box::new(status.clone()));
        let write = Write {
            news: news(&profile.status, &status),
            status,
            seen_as: profile.seen_as,
        };
        Some(Action::Write(profile.version(key), Box::new(write)))
    }
}

#[cfg(test)]
mod tests;
