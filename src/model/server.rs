//! An API server: objects with versions, and what its watches tell.

use std::collections::{BTreeMap, VecDeque};

use k8s_openapi::api::core::v1::{
    Container, Node, Pod, PodCondition, PodSpec, PodStatus, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use serde_json::Value;

use super::content::labels;
use super::object::{Kind, Object};
use crate::api::{RawSeccompProfile, SeccompNode, SeccompProfileStatus};

/// All that there is.
#[derive(Debug, Default)]
pub(super) struct Server {
    version: u64,
    pub(super) profiles: BTreeMap<String, RawSeccompProfile>,
    pub(super) nodes: BTreeMap<String, PartialObjectMeta<Node>>,
    pub(super) reports: BTreeMap<String, SeccompNode>,
    /// Those that use profiles, by uid.
    pub(super) pods: BTreeMap<String, Pod>,
    /// Those of agents, by node.
    pub(super) agents: BTreeMap<String, Pod>,
    /// What watches are to be told.
    pub(super) news: Vec<(Scope, Event<Object>)>,
}

/// Who is told of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    Profiles,
    /// Of this name.
    Node(String),
    Report(String),
    /// On this node.
    Pods(String),
    Agents,
}

/// One watch of one process.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) kind: Kind,
    /// Whose; a controller's see all nodes.
    node: Option<String>,
    pub(super) is_connected: bool,
    pub(super) queue: VecDeque<Told>,
}

/// What a watch has to tell.
#[derive(Debug, Clone)]
pub(super) enum Told {
    Event(Event<Object>),
    /// It does not work, or works again.
    Trouble(bool),
}

impl Server {
    fn next(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// What a client's `apply` does.
    pub(super) fn apply(&mut self, key: &str, spec: Value) {
        let version = self.next();
        let (namespace, name) = key.split_once('/').unwrap();
        let object = self
            .profiles
            .entry(key.to_owned())
            .or_insert_with(|| RawSeccompProfile {
                metadata: ObjectMeta {
                    namespace: Some(namespace.to_owned()),
                    name: Some(name.to_owned()),
                    uid: Some(format!("profile-{version}")),
                    generation: Some(0),
                    ..ObjectMeta::default()
                },
                spec: Value::Null,
                status: Value::Null,
            });
        if object.spec == spec {
            return;
        }
        object.spec = spec;
        object.metadata.generation = object.metadata.generation.map(|generation| generation + 1);
        object.metadata.resource_version = Some(version);
        let told = Object::Profile(Box::new(object.clone()));
        self.news.push((Scope::Profiles, Event::Apply(told)));
    }

    pub(super) fn delete(&mut self, key: &str) {
        if let Some(gone) = self.profiles.remove(key) {
            let gone = Object::Profile(Box::new(gone));
            self.news.push((Scope::Profiles, Event::Delete(gone)));
        }
    }

    /// A status arrives. What is held then; `None` where there is no such object any more.
    pub(super) fn set_status(
        &mut self,
        key: &str,
        uid: &str,
        status: &SeccompProfileStatus,
    ) -> Option<RawSeccompProfile> {
        let version = self.next();
        let object = self
            .profiles
            .get_mut(key)
            .filter(|object| object.metadata.uid.as_deref() == Some(uid))?;
        let status = serde_json::to_value(status).unwrap();
        if object.status != status {
            object.status = status;
            object.metadata.resource_version = Some(version);
            let told = Object::Profile(Box::new(object.clone()));
            self.news.push((Scope::Profiles, Event::Apply(told)));
        }
        Some(object.clone())
    }

    pub(super) fn register(&mut self, name: &str, zone: Option<u8>) {
        let version = self.next();
        let node = self.nodes.entry(name.to_owned()).or_insert_with(|| {
            let uid = Some(format!("node-{version}"));
            let name = Some(name.to_owned());
            PartialObjectMeta {
                metadata: ObjectMeta {
                    name,
                    uid,
                    ..ObjectMeta::default()
                },
                ..PartialObjectMeta::default()
            }
        });
        node.metadata.labels = Some(labels(zone));
        let told = Object::Node(Box::new(node.clone()));
        self.news.push((Scope::Node(name.to_owned()), Event::Apply(told)));
    }

    pub(super) fn unregister(&mut self, name: &str) {
        if let Some(gone) = self.nodes.remove(name) {
            let gone = Object::Node(Box::new(gone));
            self.news
                .push((Scope::Node(name.to_owned()), Event::Delete(gone)));
        }
    }

    /// A report arrives. What is held then.
    pub(super) fn report(&mut self, object: &SeccompNode) -> SeccompNode {
        let name = object.metadata.name.clone().unwrap();
        let version = self.next();
        let before = self.reports.get(&name);
        let mut held = object.clone();
        let uid = before.and_then(|before| before.metadata.uid.clone());
        held.metadata.uid = uid.or_else(|| Some(format!("report-{version}")));
        held.metadata.resource_version = Some(version);
        self.reports.insert(name.clone(), held.clone());
        let told = Object::Report(Box::new(held.clone()));
        self.news.push((Scope::Report(name), Event::Apply(told)));
        held
    }

    /// Removes the reports whose Node is gone, as the garbage collector does.
    pub(super) fn collect_garbage(&mut self) {
        let uid = |name: &str| self.nodes.get(name).and_then(|node| node.metadata.uid.clone());
        let is_orphan = |name: &str, report: &SeccompNode| {
            let owner = report.metadata.owner_references.iter().flatten().next();
            owner.map(|owner| owner.uid.clone()) != uid(name)
        };
        let orphans: Vec<String> = self
            .reports
            .iter()
            .filter(|(name, report)| is_orphan(name, report))
            .map(|(name, _)| name.clone())
            .collect();
        for name in orphans {
            if let Some(gone) = self.reports.remove(&name) {
                let gone = Object::Report(Box::new(gone));
                self.news.push((Scope::Report(name), Event::Delete(gone)));
            }
        }
    }

    /// A pod that uses a profile is bound to a node.
    pub(super) fn start_pod(&mut self, node: &str, profile: &str) {
        let uid = format!("pod-{}", self.next());
        let seccomp = SeccompProfile {
            type_: "Localhost".to_owned(),
            localhost_profile: Some(format!("callgate/{profile}.json")),
        };
        let container = Container {
            security_context: Some(SecurityContext {
                seccomp_profile: Some(seccomp),
                ..SecurityContext::default()
            }),
            ..Container::default()
        };
        let pod = Pod {
            metadata: ObjectMeta {
                name: Some(uid.clone()),
                uid: Some(uid.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                containers: vec![container],
                node_name: Some(node.to_owned()),
                ..PodSpec::default()
            }),
            status: None,
        };
        self.set_pod(uid, pod);
    }

    /// Its containers have ended.
    pub(super) fn finish_pod(&mut self, uid: &str) {
        if let Some(pod) = self.pods.get(uid) {
            let status = PodStatus {
                phase: Some("Succeeded".to_owned()),
                ..PodStatus::default()
            };
            let pod = Pod {
                status: Some(status),
                ..pod.clone()
            };
            self.set_pod(uid.to_owned(), pod);
        }
    }

    fn set_pod(&mut self, uid: String, pod: Pod) {
        let scope = Scope::Pods(node_of(&pod));
        let told = Object::Pod(Box::new(pod.clone()));
        self.pods.insert(uid, pod);
        self.news.push((scope, Event::Apply(told)));
    }

    pub(super) fn delete_pod(&mut self, uid: &str) {
        if let Some(gone) = self.pods.remove(uid) {
            let scope = Scope::Pods(node_of(&gone));
            let gone = Object::Pod(Box::new(gone));
            self.news.push((scope, Event::Delete(gone)));
        }
    }

    /// The kubelet says whether the pod of this node's agent is ready.
    pub(super) fn probe(&mut self, node: &str, ready: bool) {
        let condition = PodCondition {
            type_: "Ready".to_owned(),
            status: if ready { "True" } else { "False" }.to_owned(),
            ..PodCondition::default()
        };
        let pod = Pod {
            metadata: ObjectMeta {
                name: Some(format!("agent-{node}")),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                node_name: Some(node.to_owned()),
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                conditions: Some(vec![condition]),
                ..PodStatus::default()
            }),
        };
        if self.agents.get(node) != Some(&pod) {
            self.agents.insert(node.to_owned(), pod.clone());
            let told = Object::Pod(Box::new(pod));
            self.news.push((Scope::Agents, Event::Apply(told)));
        }
    }

    /// All that a watch shows.
    fn list(&self, watch: &Watch) -> Vec<Object> {
        let is_seen = |name: &str| watch.node.as_deref().is_none_or(|node| node == name);
        let seen = |name: &&String| is_seen(name);
        match watch.kind {
            Kind::Profiles => {
                let all = self.profiles.values().cloned();
                all.map(|object| Object::Profile(Box::new(object))).collect()
            }
            Kind::Nodes => {
                let all = self.nodes.keys().filter(seen);
                all.map(|name| Object::Node(Box::new(self.nodes[name].clone())))
                    .collect()
            }
            Kind::Reports => {
                let all = self.reports.keys().filter(seen);
                all.map(|name| Object::Report(Box::new(self.reports[name].clone())))
                    .collect()
            }
            Kind::Pods => {
                let all = match &watch.node {
                    Some(_) => &self.pods,
                    None => &self.agents,
                };
                let all = all.values().filter(|pod| is_seen(&node_of(pod)));
                all.map(|pod| Object::Pod(Box::new(pod.clone()))).collect()
            }
        }
    }
}

fn node_of(pod: &Pod) -> String {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    node.unwrap_or_default()
}

impl Watch {
    /// The watches of a process, about to connect.
    pub(super) fn all(node: Option<&str>) -> [Self; Kind::ALL.len()] {
        Kind::ALL.map(|kind| Self {
            kind,
            node: node.map(str::to_owned),
            is_connected: false,
            queue: VecDeque::new(),
        })
    }

    fn shows(&self, scope: &Scope) -> bool {
        let is_seen = |name: &String| self.node.as_ref().is_none_or(|node| node == name);
        match (self.kind, scope) {
            (Kind::Profiles, Scope::Profiles) => true,
            (Kind::Nodes, Scope::Node(name)) | (Kind::Reports, Scope::Report(name)) => is_seen(name),
            (Kind::Pods, Scope::Pods(node)) => self.node.as_ref() == Some(node),
            (Kind::Pods, Scope::Agents) => self.node.is_none(),
            _ => false,
        }
    }

    /// Takes in what is news to it.
    pub(super) fn tell(&mut self, scope: &Scope, event: &Event<Object>) {
        if self.is_connected && self.shows(scope) {
            self.queue.push_back(Told::Event(event.clone()));
        }
    }

    /// What was under way is lost.
    pub(super) fn cut(&mut self) {
        if std::mem::replace(&mut self.is_connected, false) {
            self.queue.clear();
            self.queue.push_back(Told::Trouble(true));
        }
    }

    /// Begins anew with all that there is.
    pub(super) fn connect(&mut self, server: &Server) {
        if std::mem::replace(&mut self.is_connected, true) {
            return;
        }
        self.queue.push_back(Told::Event(Event::Init));
        self.queue.push_back(Told::Trouble(false));
        let all = server.list(self).into_iter().map(Event::InitApply);
        self.queue.extend(all.map(Told::Event));
        self.queue.push_back(Told::Event(Event::InitDone));
    }
}
