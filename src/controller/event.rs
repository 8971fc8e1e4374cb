//! What happens, and what is to be done: the words between [`State`](super::state::State) and the world.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::news::News;
use super::nodes::Report;
use super::taint::Removal;
use crate::api::{RawSeccompProfile, SeccompProfileStatus};
use crate::proof::Verdict;

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    /// There is such a profile, and it looks like this.
    Profile(Box<RawSeccompProfile>),
    /// There is no such profile; NAMESPACE/NAME.
    ProfileGone(String),
    /// There is such a Node, with these labels.
    Node(String, BTreeMap<String, String>),
    /// There is such a Node, with the startup taint at this place in its `spec.taints`, or without.
    StartupTaint {
        /// Its name.
        node: String,
        /// Tells it from a later Node of the same name.
        uid: String,
        /// From 0.
        position: Option<usize>,
    },
    /// There is no such Node.
    NodeGone(String),
    /// The agent of this node reports.
    Report(String, Box<Report>),
    /// There is no such report.
    ReportGone(String),
    /// There is such a pod of an agent; its name, its node, and whether it is ready.
    Pod(String, String, bool),
    /// There is no such pod.
    PodGone(String),
    /// A watch has shown everything that there is.
    Synced(Watched),
    /// A proof ended.
    Proven(ObjectVersion, Box<Verdict>),
    /// A write ended.
    Written(ObjectVersion, Result<Box<RawSeccompProfile>, String>),
    /// A startup taint was taken off, or could not be.
    Untainted(Removal, Result<(), String>),
    /// This replica leads, or not.
    Leading(bool),
}

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Watched {
    Profiles,
    Reports,
    Nodes,
    Pods,
}

impl Watched {
    pub(super) const ALL: [Self; 4] = [Self::Profiles, Self::Reports, Self::Nodes, Self::Pods];

    /// The resource, in the plural.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Profiles => "seccompprofiles",
            Self::Reports => "seccompnodes",
            Self::Nodes => "nodes",
            Self::Pods => "pods",
        }
    }
}

/// Which object, and which generation of it, something is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectVersion {
    /// NAMESPACE/NAME.
    pub(super) key: String,
    /// Tells it from a later object of the same name.
    pub(super) uid: String,
    /// Of the object's `metadata`.
    pub(super) generation: i64,
}

impl ObjectVersion {
    pub(super) fn namespace(&self) -> &str {
        namespace_of(&self.key)
    }

    pub(super) fn name(&self) -> &str {
        self.key.split_once('/').map_or("", |(_, name)| name)
    }
}

/// What is to be done; its end is an [`Event`].
#[derive(Debug)]
pub(super) enum Action {
    /// Prove this `spec`.
    Prove(ObjectVersion, Arc<Value>),
    /// Make this the status.
    Write(ObjectVersion, Box<Write>),
    /// Take this startup taint off.
    Untaint(Removal),
}

/// A status to be written.
#[derive(Debug)]
pub(super) struct Write {
    /// All of it.
    pub(super) status: SeccompProfileStatus,
    /// What to tell once it is written.
    pub(super) news: Vec<News>,
    /// The resourceVersion as which this generation was first seen.
    pub(super) seen_as: u64,
}

/// The namespace in NAMESPACE/NAME.
pub(super) fn namespace_of(key: &str) -> &str {
    key.split_once('/').map_or(key, |(namespace, _)| namespace)
}
