//! What a process was told, kept apart from what it made of it: the invariants are about this.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;

use super::content::selector;
use super::object::{Kind, Object};
use crate::api::{ConditionStatus, NodeCondition, RawSeccompProfile};
use crate::profile::{Digest, ProfileName};

/// What one watch has told so far.
#[derive(Debug)]
struct Seen {
    objects: BTreeMap<String, Object>,
    /// What a list under way has named.
    listed: Option<BTreeMap<String, Object>>,
    /// There was a whole list.
    is_complete: bool,
    /// It is known not to work.
    is_troubled: bool,
}

/// What a process was told.
#[derive(Debug)]
pub(super) struct Ghost {
    seen: [Seen; Kind::ALL.len()],
    /// Since when files on the disk of this agent are for nobody, as far as it was told.
    unwanted: BTreeMap<ProfileName, Instant>,
    /// The labels of the agent's node, which stay when its Node object goes.
    labels: Option<BTreeMap<String, String>>,
}

/// A node as a controller was told of it.
#[derive(Debug)]
pub(super) struct ToldNode {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    /// The resourceVersion of its report.
    pub(super) report: Option<String>,
    pub(super) is_synced: bool,
    pub(super) is_reachable: bool,
}

impl Ghost {
    pub(super) fn new() -> Self {
        Self {
            seen: Kind::ALL.map(|_| Seen {
                objects: BTreeMap::new(),
                listed: None,
                is_complete: false,
                is_troubled: false,
            }),
            unwanted: BTreeMap::new(),
            labels: None,
        }
    }

    fn of(&self, kind: Kind) -> &Seen {
        &self.seen[kind as usize]
    }

    pub(super) fn trouble(&mut self, kind: Kind, is_troubled: bool) {
        self.seen[kind as usize].is_troubled = is_troubled;
    }

    pub(super) fn see(&mut self, kind: Kind, event: &Event<Object>) {
        if let (Kind::Nodes, Event::Apply(node) | Event::InitApply(node)) = (kind, event) {
            self.labels = Some(node.clone().node().metadata.labels.unwrap_or_default());
        }
        let seen = &mut self.seen[kind as usize];
        match event {
            Event::Init => seen.listed = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                // An object that a list names is known at once; what it does not name is gone when it ends.
                seen.objects.insert(key(object), object.clone());
                if let Some(listed) = &mut seen.listed {
                    listed.insert(key(object), object.clone());
                }
            }
            Event::InitDone => {
                seen.objects = seen.listed.take().unwrap_or_default();
                seen.is_complete = true;
            }
            Event::Apply(object) => {
                seen.objects.insert(key(object), object.clone());
            }
            Event::Delete(object) => {
                seen.objects.remove(&key(object));
            }
        }
    }

    /// Whether a process that was told this may take a file for unwanted or unused: it was told all there is, and
    /// knows of nothing that keeps more from it.
    pub(super) fn is_whole(&self, kind: Kind) -> bool {
        let seen = self.of(kind);
        seen.is_complete && seen.listed.is_none() && !seen.is_troubled
    }

    pub(super) fn is_complete(&self, kind: Kind) -> bool {
        self.of(kind).is_complete
    }

    /// The profiles that pods use.
    pub(super) fn used(&self) -> BTreeSet<ProfileName> {
        let pods = self.of(Kind::Pods).objects.values();
        pods.filter_map(|object| match object {
            Object::Pod(pod) => used_by(pod),
            _ => None,
        })
        .collect()
    }

    /// Whether there is a profile of this name that is for this agent's node.
    fn is_wanted(&self, name: &ProfileName) -> bool {
        let Some(profile) = self.profile(&name.to_string()) else {
            return false;
        };
        match (selector(&profile.spec), &self.labels) {
            (None, _) => true,
            (Some(selector), _) if selector.is_empty() => true,
            (Some(selector), Some(labels)) => matches(&selector, labels),
            (Some(_), None) => false,
        }
    }

    /// What that profile's file is to be, if it can be read.
    pub(super) fn wanted(&self, name: &ProfileName) -> Option<Digest> {
        let profile = self.profile(&name.to_string()).filter(|_| self.is_wanted(name));
        super::content::content(&profile?.spec).digest()
    }

    /// The profiles that an agent was told of.
    pub(super) fn profiles(&self) -> impl Iterator<Item = ProfileName> {
        let keys = self.of(Kind::Profiles).objects.keys();
        keys.map(|key| key.parse().unwrap())
    }

    /// A profile as a process was told of it.
    pub(super) fn profile(&self, key: &str) -> Option<RawSeccompProfile> {
        let object = self.of(Kind::Profiles).objects.get(key)?;
        Some(object.clone().profile())
    }

    /// Brings up to date since when files are unwanted.
    pub(super) fn note_unwanted<'a>(&mut self, files: impl Iterator<Item = &'a ProfileName>, now: Instant) {
        let before = std::mem::take(&mut self.unwanted);
        self.unwanted = files
            .filter(|name| !self.is_wanted(name))
            .map(|name| (name.clone(), before.get(name).copied().unwrap_or(now)))
            .collect();
    }

    pub(super) fn unwanted_since(&self, name: &ProfileName) -> Option<Instant> {
        self.unwanted.get(name).copied()
    }

    /// The nodes that there are, as a controller was told.
    pub(super) fn nodes(&self) -> impl Iterator<Item = ToldNode> {
        self.of(Kind::Nodes).objects.iter().map(|(name, node)| {
            let report = self.of(Kind::Reports).objects.get(name);
            let report = report.map(|report| report.clone().report());
            let agent = self.of(Kind::Pods).objects.get(&format!("agent-{name}"));
            ToldNode {
                name: name.clone(),
                labels: node.clone().node().metadata.labels.unwrap_or_default(),
                is_synced: report.as_ref().is_some_and(|report| {
                    report.spec.conditions.iter().any(|condition| {
                        condition.type_ == NodeCondition::Synced.as_str()
                            && condition.status == ConditionStatus::True
                    })
                }),
                report: report.and_then(|report| report.metadata.resource_version),
                is_reachable: agent.is_some_and(|pod| is_ready(&pod.clone().pod())),
            }
        })
    }
}

fn key(object: &Object) -> String {
    let metadata = match object {
        Object::Profile(profile) => &profile.metadata,
        Object::Node(node) => &node.metadata,
        Object::Pod(pod) => &pod.metadata,
        Object::Report(report) => &report.metadata,
    };
    let name = metadata.name.clone().unwrap_or_default();
    match &metadata.namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    }
}

/// The profile that a pod of the model uses, unless it has ended.
pub(super) fn used_by(pod: &Pod) -> Option<ProfileName> {
    let has_ended = pod.status.as_ref().is_some_and(|status| status.phase.is_some());
    let container = pod.spec.as_ref()?.containers.first()?;
    let context = container.security_context.as_ref()?.seccomp_profile.as_ref()?;
    let path = context.localhost_profile.as_deref()?;
    let name = path.strip_prefix("callgate/")?.strip_suffix(".json")?;
    (!has_ended).then(|| name.parse().unwrap())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.status == "True")
}

/// Whether a node with these labels is meant.
pub(super) fn matches(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
