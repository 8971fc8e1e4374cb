//! What people, schedulers and kubelets do meanwhile: profiles come, change, break and go, nodes change labels, pods start
//! and end. All of it past the proxy, so that what was done is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;

use anyhow::{Context as _, Result};
use callgate::api::{RawSeccompProfile, SeccompNode, SeccompProfile};
use callgate::profile::Digest;
use harness::Cluster;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::model::{self, Difference, Kind, Objects};
use crate::insist::{self, insist};
use crate::report::Outcome;

const NAMESPACES: [&str; 3] = ["shop", "bank", "x"];
/// Of each namespace.
const PROFILES: u8 = 8;
/// The label that profiles select nodes by, and its values.
const LABEL: &str = "zone";
const ZONES: [&str; 3] = ["a", "b", "c"];
/// That of nodes that come and go without an agent.
const GHOSTS: &str = "ghost";
/// Pods at once, at most.
const PODS: usize = 30;
/// The namespace of profiles that are good once and never again: one for each node, which a pod uses from before the faults
/// until after them and which is deleted meanwhile; and one for all, which is broken meanwhile. Also that of all pods.
const KEPT: &str = "kept";
const BROKEN: &str = "kept/broken";

/// What was done, as far as the API server does not know it.
pub(super) struct Churn {
    client: Client,
    nodes: u8,
    /// Digests of all good versions that ever stood under a name.
    pub(super) history: BTreeMap<String, BTreeSet<Digest>>,
    /// What must be on a node for the pod that uses it.
    kept: BTreeMap<(String, String), Digest>,
    /// There now, with their nodes.
    pods: Vec<String>,
    ghosts: Vec<String>,
    number: u32,
}

/// The name of a node.
pub(super) fn node(number: u8) -> String {
    format!("node-{number}")
}

impl Churn {
    pub(super) async fn start(cluster: &Cluster, nodes: u8) -> Result<Self> {
        for namespace in NAMESPACES.iter().chain(&[KEPT]) {
            cluster.namespace(namespace).await?;
        }
        let mut churn = Self {
            client: cluster.admin().await?,
            nodes,
            history: BTreeMap::new(),
            kept: BTreeMap::new(),
            pods: Vec::new(),
            ghosts: Vec::new(),
            number: 0,
        };
        churn.apply(BROKEN, Kind::Good(0), None).await?;
        for number in 0..nodes {
            let node = node(number);
            churn
                .kept
                .insert((node.clone(), BROKEN.to_owned()), model::digest(Kind::Good(0))?);
            let name = format!("{KEPT}/{node}");
            churn.apply(&name, Kind::Good(number.into()), None).await?;
            churn.run(&format!("kept-{node}"), &node, &name).await?;
            churn
                .kept
                .insert((node, name), model::digest(Kind::Good(number.into()))?);
        }
        Ok(churn)
    }

    /// One thing happens.
    pub(super) async fn step(&mut self, random: &mut fastrand::Rng, outcome: &mut Outcome) -> Result<()> {
        self.number += 1;
        let name = format!(
            "{}/p-{}",
            random.choice(NAMESPACES).unwrap_or(NAMESPACES[0]),
            random.u8(..PROFILES)
        );
        let zone = match random.u8(..10) {
            0 => Some(GHOSTS),
            _ => random.choice(ZONES).filter(|_| random.bool()),
        };
        let done = match random.u8(..100) {
            0..40 => {
                self.apply(&name, Kind::Good(self.number), zone).await?;
                "profiles created or updated"
            }
            40..50 => {
                let kind = if random.u8(..8) == 0 {
                    Kind::Enormous(self.number)
                } else {
                    Kind::Listening(self.number)
                };
                if random.u8(..10) == 0 {
                    self.apply(BROKEN, kind, None).await?;
                }
                self.apply(&name, kind, zone).await?;
                "profiles broken"
            }
            50..65 => {
                // What nobody used for long goes as well: the pods that hold it are still there.
                let kept = self.kept.keys().nth(random.usize(..self.kept.len()));
                let kept = kept.filter(|(_, name)| name != BROKEN && random.u8(..10) == 0);
                let name = kept.map_or(&name, |(_, name)| name);
                self.delete(name).await?;
                "profiles deleted, if they were there"
            }
            65..70 => {
                let ghost = format!("ghost-{}", self.number);
                let node = json!({"metadata": {"name": ghost, "labels": {LABEL: GHOSTS}}});
                let api = Api::<Node>::all(self.client.clone());
                insist::create(&api, &serde_json::from_value(node)?).await?;
                self.ghosts.push(ghost);
                if self.ghosts.len() > 2 {
                    self.bury(1).await?;
                }
                "nodes without an agent, come and gone"
            }
            70..75 => {
                let node = node(random.u8(..self.nodes));
                let labels = random.choice(ZONES);
                let patch = Patch::Merge(json!({"metadata": {"labels": {LABEL: labels}}}));
                let api = Api::<Node>::all(self.client.clone());
                insist(async || api.patch(&node, &PatchParams::default(), &patch).await).await?;
                "labels of nodes changed"
            }
            75..88 if self.pods.len() < PODS => {
                let pod = format!("pod-{}", self.number);
                self.run(&pod, &node(random.u8(..self.nodes)), &name).await?;
                self.pods.push(pod);
                "pods started"
            }
            _ if !self.pods.is_empty() => {
                let pod = self.pods.swap_remove(random.usize(..self.pods.len()));
                let api = self.pods();
                if random.bool() {
                    let patch = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
                    insist(async || api.patch_status(&pod, &PatchParams::default(), &patch).await).await?;
                } else {
                    insist::delete(&api, &pod).await?;
                }
                "pods ended"
            }
            _ => return Ok(()),
        };
        outcome.count(done, 1);
        Ok(())
    }

    /// The last things that happen.
    pub(super) async fn end(&mut self) -> Result<()> {
        self.bury(self.ghosts.len()).await
    }

    /// The oldest nodes without an agent go.
    async fn bury(&mut self, count: usize) -> Result<()> {
        let api = Api::<Node>::all(self.client.clone());
        for ghost in self.ghosts.drain(..count) {
            insist::delete(&api, &ghost).await?;
        }
        Ok(())
    }

    async fn apply(&mut self, name: &str, kind: Kind, zone: Option<&str>) -> Result<()> {
        // Before any agent can see it.
        if let Kind::Good(_) = kind {
            self.history
                .entry(name.to_owned())
                .or_default()
                .insert(model::digest(kind)?);
        }
        let (api, name) = self.profiles(name)?;
        let mut spec = kind.spec()?;
        if let Some(zone) = zone {
            spec["nodeSelector"] = json!({ LABEL: zone });
        }
        let object = json!({
            "apiVersion": "callgate.dev/v1alpha1",
            "kind": "SeccompProfile",
            "metadata": {
                "name": name,
                "annotations": {
                    model::KIND: kind.to_string(),
                    // What running pods use is deleted, too: agents keep its file.
                    "callgate.dev/allow-delete-in-use": "true",
                },
            },
            "spec": spec,
        });
        let (parameters, patch) = (PatchParams::apply("chaos").force(), Patch::Apply(&object));
        insist(async || api.patch(&name, &parameters, &patch).await).await?;
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let (api, name) = self.profiles(name)?;
        insist::delete(&api, &name).await
    }

    fn profiles(&self, name: &str) -> Result<(Api<DynamicObject>, String)> {
        let (namespace, name) = name.split_once('/').context("a name without namespace")?;
        let resource = ApiResource::erase::<SeccompProfile>(&());
        let api = Api::namespaced_with(self.client.clone(), namespace, &resource);
        Ok((api, name.to_owned()))
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), KEPT)
    }

    /// A pod that runs on a node under a profile.
    async fn run(&self, pod: &str, node: &str, profile: &str) -> Result<()> {
        let object = json!({
            "metadata": { "name": pod },
            "spec": {
                "nodeName": node,
                "containers": [{
                    "name": "main",
                    "image": "image",
                    "securityContext": {
                        "seccompProfile": { "type": "Localhost", "localhostProfile": format!("callgate/{profile}.json") },
                    },
                }],
            },
        });
        let api = self.pods();
        insist::create(&api, &serde_json::from_value(object)?).await?;
        let running = Patch::Merge(json!({"status": {"phase": "Running"}}));
        insist(async || api.patch_status(pod, &PatchParams::default(), &running).await).await?;
        Ok(())
    }

    /// What is not as the model says: on these disks, in statuses, in reports.
    pub(super) async fn differences(&self, roots: BTreeMap<&str, &Path>) -> Result<Difference> {
        let client = &self.client;
        let profiles = list(&Api::<RawSeccompProfile>::all(client.clone())).await?;
        let nodes = list(&Api::<Node>::all(client.clone())).await?;
        let pods = list(&self.pods()).await?;
        let reports = list(&Api::<SeccompNode>::all(client.clone())).await?;
        let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for pod in &pods {
            if let Some((node, profile)) = use_of(pod) {
                used.entry(node).or_default().insert(profile);
            }
        }
        let objects = Objects {
            labels: nodes
                .iter()
                .map(|node| (node.name_any(), node.labels().clone()))
                .collect(),
            profiles: profiles
                .into_iter()
                .map(|profile| {
                    let namespace = profile.namespace().unwrap_or_default();
                    (format!("{namespace}/{}", profile.name_any()), profile)
                })
                .collect(),
            used,
            reports: reports
                .into_iter()
                .map(|report| (report.name_any(), report))
                .collect(),
        };
        model::differences(&objects, &self.history, &self.kept, &roots)
    }
}

async fn list<K>(api: &Api<K>) -> Result<Vec<K>>
where
    K: Clone + DeserializeOwned + Debug,
{
    let all = ListParams::default();
    Ok(insist(async || api.list(&all).await).await?.items)
}

/// The node that a pod runs on, and the profile that it uses.
fn use_of(pod: &Pod) -> Option<(String, String)> {
    let is_running = pod.status.as_ref()?.phase.as_deref() == Some("Running");
    let spec = pod.spec.as_ref().filter(|_| is_running)?;
    let spec: Value = serde_json::to_value(spec).ok()?;
    let path = spec["containers"][0]["securityContext"]["seccompProfile"]["localhostProfile"].as_str()?;
    let profile = path.strip_prefix("callgate/")?.strip_suffix(".json")?;
    Some((spec["nodeName"].as_str()?.to_owned(), profile.to_owned()))
}
