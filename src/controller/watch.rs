//! The four watches, each a stream of events that never ends: what fails is logged, counted and tried again.

use std::collections::HashSet;
use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event as WatchEvent, ExponentialBackoff, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::Metrics;
use super::event::{Event, Watched};
use super::nodes::Report;
use super::taint::TaintKey;
use crate::api::{RawSeccompProfile, SeccompNode};

/// What `kubectl apply` remembers in an object: all of it, once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Objects in one page of a list: a profile may have a megabyte, and takes many times that while it is read.
const PAGE: u32 = 50;

/// The labels that the pods of agents carry.
const AGENT_LABELS: &str = "app.kubernetes.io/name=callgate,app.kubernetes.io/component=agent";

/// A stream of events.
pub(super) type Events = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// Everything that is watched.
pub(super) fn watch_all(
    client: &Client,
    namespace: &str,
    startup_taint: Option<&TaintKey>,
    metrics: &Metrics,
) -> [Events; 4] {
    let all = || watcher::Config::default().page_size(PAGE);
    [
        // Its spec and status are kept as they come, so none of these is undecodable.
        changes(
            Api::<RawSeccompProfile>::all(client.clone()),
            all(),
            Watched::Profiles,
            metrics.clone(),
            |profile| Some(Event::Profile(Box::new(slim(profile)))),
            Event::ProfileGone,
        ),
        changes(
            Api::<DeserializeGuard<SeccompNode>>::all(client.clone()),
            all(),
            Watched::Reports,
            metrics.clone(),
            {
                let metrics = metrics.clone();
                move |guarded| Some(report(guarded, &metrics))
            },
            Event::ReportGone,
        ),
        match startup_taint.cloned() {
            None => changes(
                Api::<PartialObjectMeta<Node>>::all(client.clone()),
                all(),
                Watched::Nodes,
                metrics.clone(),
                |node| [node_event(node.metadata)],
                Event::NodeGone,
            ),
            Some(key) => changes(
                Api::<Node>::all(client.clone()),
                all(),
                Watched::Nodes,
                metrics.clone(),
                move |node| [startup_taint_event(&node, &key), node_event(node.metadata)],
                Event::NodeGone,
            ),
        },
        changes(
            Api::<Pod>::namespaced(client.clone(), namespace),
            all().labels(AGENT_LABELS),
            Watched::Pods,
            metrics.clone(),
            |pod| pod_event(&pod),
            Event::PodGone,
        ),
    ]
}

/// Watches one kind of object: `set` says what one means that is there, `gone` what its key
/// means once it is not.
fn changes<K, I>(
    api: Api<K>,
    config: watcher::Config,
    watched: Watched,
    metrics: Metrics,
    set: impl Fn(K) -> I + Send + Sync + 'static,
    gone: fn(String) -> Event,
) -> Events
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    I: IntoIterator<Item = Event> + 'static,
{
    let mut known = Known::default();
    let mut failures = 0_u32;
    let events = watcher(api, config).backoff(pauses()).map(move |event| {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                metrics.watch_failed(watched);
                failures = failures.saturating_add(1);
                // 1, 2, 4, 8 …: an outage of an hour is a dozen lines.
                if failures.is_power_of_two() {
                    complain(watched, &error);
                }
                return Vec::new();
            }
        };
        // An `Init` precedes every attempt to list, also one that fails.
        if !matches!(event, WatchEvent::Init) {
            failures = 0;
        }
        known.follow(event, &set, gone, watched)
    });
    Box::pin(events.flat_map(futures::stream::iter))
}

/// Between tries of a watch that fails: half a second to two, with the jitter. Short, as a status is to be right soon after
/// an outage, and there are few controllers.
fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
        .without_max_times()
        .into()
}

/// The keys of the objects that there are, so that those which vanished while nobody watched are noticed.
#[derive(Debug, Default)]
pub(super) struct Known {
    keys: HashSet<String>,
    listed: HashSet<String>,
}

impl Known {
    pub(super) fn follow<K: Resource, I: IntoIterator<Item = Event>>(
        &mut self,
        event: WatchEvent<K>,
        set: impl Fn(K) -> I,
        gone: fn(String) -> Event,
        watched: Watched,
    ) -> Vec<Event> {
        match event {
            WatchEvent::Init => {
                self.listed.clear();
                Vec::new()
            }
            WatchEvent::InitApply(object) => {
                self.listed.insert(key(object.meta()));
                set(object).into_iter().collect()
            }
            WatchEvent::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let before = std::mem::replace(&mut self.keys, listed);
                let vanished = before.into_iter().filter(|key| !self.keys.contains(key));
                vanished.map(gone).chain([Event::Synced(watched)]).collect()
            }
            WatchEvent::Apply(object) => {
                self.keys.insert(key(object.meta()));
                set(object).into_iter().collect()
            }
            WatchEvent::Delete(object) => {
                let key = key(object.meta());
                self.keys.remove(&key);
                vec![gone(key)]
            }
        }
    }
}

/// NAMESPACE/NAME of a profile, the name of anything else.
fn key(metadata: &kube::core::ObjectMeta) -> String {
    let name = metadata.name.as_deref().unwrap_or_default();
    match &metadata.namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

/// Without what doubles an object in memory and decides nothing.
fn slim(mut profile: RawSeccompProfile) -> RawSeccompProfile {
    profile.metadata.managed_fields = None;
    if let Some(annotations) = &mut profile.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    profile
}

pub(super) fn report(guarded: DeserializeGuard<SeccompNode>, metrics: &Metrics) -> Event {
    match guarded.0 {
        Ok(node) => {
            let owner = node.metadata.owner_references.iter().flatten().next();
            let node_uid = owner.map(|owner| owner.uid.clone());
            let name = node.name_any();
            Event::Report(
                name,
                Box::new(Report {
                    node_uid,
                    ..node.spec.into()
                }),
            )
        }
        Err(invalid) => {
            let node = invalid.metadata.name.unwrap_or_default();
            metrics.undecodable();
            tracing::warn!(
                node,
                error = invalid.error,
                "the SeccompNode cannot be read and counts as one that has not synced: see that agents and \
                 controller are of one version"
            );
            Event::Report(node, Box::default())
        }
    }
}

pub(super) fn node_event(metadata: kube::core::ObjectMeta) -> Event {
    Event::Node(
        metadata.name.unwrap_or_default(),
        metadata.labels.unwrap_or_default(),
    )
}

fn startup_taint_event(node: &Node, key: &TaintKey) -> Event {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    Event::StartupTaint {
        node: node.name_any(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        position: key.position_in(taints.unwrap_or_default()),
    }
}

pub(super) fn pod_event(pod: &Pod) -> Option<Event> {
    // A pod that is not bound yet comes again once it is.
    let node = pod.spec.as_ref()?.node_name.clone()?;
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let leaving = pod.metadata.deletion_timestamp.is_some();
    Some(Event::Pod(key(&pod.metadata), node, ready && !leaving))
}

fn complain(watched: Watched, error: &watcher::Error) {
    let resource = watched.as_str();
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    };
    let cure = match status {
        Some(status) if status.is_not_found() => {
            "; are the CRDs installed? kubectl apply --server-side -f crds"
        }
        Some(status) if status.is_forbidden() => {
            "; is ClusterRole callgate-controller bound to its ServiceAccount?"
        }
        _ => "",
    };
    tracing::warn!(
        resource,
        error = error as &dyn std::error::Error,
        "the watch failed and is tried again{cure}"
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str) -> Node {
        serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
    }

    fn pod(value: serde_json::Value) -> Option<(String, String, bool)> {
        match pod_event(&serde_json::from_value(value).unwrap()) {
            Some(Event::Pod(pod, node, ready)) => Some((pod, node, ready)),
            _ => None,
        }
    }

    #[test]
    fn what_vanished_while_nobody_watched_is_noticed_once_the_list_is_complete() {
        let mut known = Known::default();
        let mut follow = |event: WatchEvent<Node>| -> Vec<String> {
            let set = |node: Node| Some(Event::Node(node.name_any(), std::collections::BTreeMap::new()));
            known
                .follow(event, set, Event::NodeGone, Watched::Nodes)
                .into_iter()
                .map(|event| match event {
                    Event::Node(name, _) => format!("+{name}"),
                    Event::NodeGone(name) => format!("-{name}"),
                    other => format!("{other:?}"),
                })
                .collect()
        };
        follow(WatchEvent::Init);
        assert_eq!(follow(WatchEvent::InitApply(node("a"))), ["+a"]);
        assert_eq!(follow(WatchEvent::InitDone), ["Synced(Nodes)"]);
        assert_eq!(follow(WatchEvent::Apply(node("b"))), ["+b"]);
        assert_eq!(follow(WatchEvent::Delete(node("a"))), ["-a"]);
        follow(WatchEvent::Init);
        // An attempt to list that failed half-way.
        follow(WatchEvent::InitApply(node("b")));
        follow(WatchEvent::Init);
        follow(WatchEvent::InitApply(node("c")));
        assert_eq!(follow(WatchEvent::InitDone), ["-b", "Synced(Nodes)"]);
    }

    #[test]
    fn a_node_says_where_its_startup_taint_stands_and_a_report_of_which_node_it_is() {
        let key: TaintKey = "callgate.dev/agent-not-ready".parse().unwrap();
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "a", "uid": "uid"},
            "spec": {"taints": [
                {"key": "other", "effect": "NoSchedule"},
                {"key": "callgate.dev/agent-not-ready", "effect": "NoSchedule"},
            ]},
        }))
        .unwrap();
        let Event::StartupTaint { node, uid, position } = startup_taint_event(&node, &key) else {
            panic!("another event");
        };
        assert_eq!((node.as_str(), uid.as_str(), position), ("a", "uid", Some(1)));

        let guarded: DeserializeGuard<SeccompNode> = serde_json::from_value(json!({
            "apiVersion": "callgate.dev/v1alpha1",
            "kind": "SeccompNode",
            "metadata": {
                "name": "a",
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "uid"}],
            },
        }))
        .unwrap();
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let Event::Report(name, report) = report(guarded, &metrics) else {
            panic!("another event");
        };
        assert_eq!((name.as_str(), report.node_uid.as_deref()), ("a", Some("uid")));
    }

    #[test]
    fn a_pod_counts_once_it_is_on_a_node_and_is_ready_until_it_is_to_go() {
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let named = |more: serde_json::Value| {
            let mut metadata = json!({"name": "agent", "namespace": "callgate"});
            metadata
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            metadata
        };
        let found = |ready| Some(("callgate/agent".to_owned(), "a".to_owned(), ready));
        assert_eq!(pod(json!({"metadata": named(json!({})), "status": ready})), None);
        let spec = json!({"nodeName": "a", "containers": []});
        assert_eq!(
            pod(json!({"metadata": named(json!({})), "spec": spec})),
            found(false)
        );
        assert_eq!(
            pod(json!({"metadata": named(json!({})), "spec": spec, "status": ready})),
            found(true)
        );
        let leaving = named(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}));
        assert_eq!(
            pod(json!({"metadata": leaving, "spec": spec, "status": ready})),
            found(false)
        );
    }
}
