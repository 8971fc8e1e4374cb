//! What the model's API server holds and tells.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use serde_json::value::RawValue;

use crate::api::{RawSeccompProfile, SeccompNode};

/// A kind of objects, as one watch shows it: to an agent the pods are those of its node, to a controller those of
/// agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Profiles,
    Nodes,
    Pods,
    Reports,
}

/// An object of any kind.
#[derive(Debug, Clone)]
pub(crate) enum Object {
    Profile(Box<RawSeccompProfile>),
    Node(Box<PartialObjectMeta<Node>>),
    Pod(Box<Pod>),
    Report(Box<SeccompNode>),
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Profiles, Self::Nodes, Self::Pods, Self::Reports];
}

impl Object {
    pub(crate) fn unread_profile(self) -> RawSeccompProfile<Box<RawValue>> {
        let RawSeccompProfile {
            metadata,
            spec,
            status,
        } = self.profile();
        let text = |value| serde_json::value::to_raw_value(&value).unwrap();
        RawSeccompProfile {
            metadata,
            spec: text(spec),
            status: text(status),
        }
    }

    pub(crate) fn profile(self) -> RawSeccompProfile {
        match self {
            Self::Profile(profile) => *profile,
            other => panic!("no profile: {other:?}"),
        }
    }

    pub(crate) fn node(self) -> PartialObjectMeta<Node> {
        match self {
            Self::Node(node) => *node,
            other => panic!("no Node: {other:?}"),
        }
    }

    pub(crate) fn pod(self) -> Pod {
        match self {
            Self::Pod(pod) => *pod,
            other => panic!("no pod: {other:?}"),
        }
    }

    pub(crate) fn report(self) -> SeccompNode {
        match self {
            Self::Report(report) => *report,
            other => panic!("no SeccompNode: {other:?}"),
        }
    }
}

/// The same event about what an object is turned into.
pub(crate) fn map<A, B>(event: Event<A>, turn: impl Fn(A) -> B) -> Event<B> {
    match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(turn(object)),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(turn(object)),
        Event::Delete(object) => Event::Delete(turn(object)),
    }
}
