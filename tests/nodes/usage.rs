//! What pods use is kept from deletion; what was deleted all the same stays on a node until its last pod there ended.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow, ensure};
use harness::eventually;
use serde_json::{Value, json};

use crate::lab::{Lab, disks, shared};
use crate::pods::{container, localhost, name_of, pod, under, waiting};
use crate::rollout::no_mkdir;

/// Where a pod names a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Pod,
    Container,
    Init,
    Ephemeral,
}

impl Level {
    const ALL: [Self; 4] = [Self::Pod, Self::Container, Self::Init, Self::Ephemeral];

    fn name(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Container => "container",
            Self::Init => "init",
            Self::Ephemeral => "ephemeral",
        }
    }

    /// A pod on `node` that names the profile of this level's name there and nowhere else.
    fn pod(self, namespace: &str, node: &str) -> Value {
        let name = format!("{}-{node}", self.name());
        let mut pod = pod(namespace, &name, node, waiting("main"));
        let spec = &mut pod["spec"];
        match self {
            Self::Pod => spec["securityContext"] = localhost(namespace, self.name()),
            Self::Container => spec["containers"][0] = under(waiting("main"), namespace, self.name()),
            // The pod is what it is made for as long as this runs.
            Self::Init => spec["initContainers"] = json!([under(waiting("init"), namespace, self.name())]),
            Self::Ephemeral => {}
        }
        pod
    }
}

impl Lab {
    /// Starts the pod, and waits until the node's report says that it uses its profile.
    async fn use_profile(&self, level: Level, pod: &Value) -> Result<()> {
        self.apply(pod).await?;
        let (namespace, _) = name_of(pod)?;
        if level == Level::Ephemeral {
            self.pod_ready(pod).await?;
            self.add_ephemeral(pod, &under(waiting("debug"), namespace, level.name()))
                .await?;
        }
        let node = pod["spec"]["nodeName"].as_str().context("a pod without a node")?;
        let profile = format!("{namespace}/{}", level.name());
        eventually(&format!("{node} to use {profile}"), async || {
            let report = self.get("seccompnode", "", node).await?;
            let used = report["inUse"].as_array();
            ensure!(
                used.into_iter().flatten().any(|one| *one == profile),
                "{}",
                report["inUse"]
            );
            Ok(())
        })
        .await
    }

    async fn delete_profile(&self, namespace: &str, name: &str) -> Result<harness::Output> {
        let arguments = ["delete", "scp", name, "--namespace", namespace, "--timeout=30s"];
        self.cluster().kubectl(&arguments, "").await
    }

    /// Waits until no node has the file.
    async fn file_gone(&self, namespace: &str, name: &str) -> Result<()> {
        for node in self.nodes().await? {
            self.file_gone_from(&node, namespace, name).await?;
        }
        Ok(())
    }

    async fn file_gone_from(&self, node: &str, namespace: &str, name: &str) -> Result<()> {
        let file = self.file(node, namespace, name)?;
        eventually(&format!("{namespace}/{name} to go from {node}"), async || {
            ensure!(!file.exists(), "it is there");
            Ok(())
        })
        .await
    }
}

#[tokio::test]
async fn a_profile_that_running_pods_use_is_kept_by_the_api_server_and_then_by_the_node() -> Result<()> {
    let Some(lab) = disks().await? else { return Ok(()) };
    let namespace = lab.namespace("in-use").await?;
    let nodes = lab.nodes().await?;
    let mut pods = Vec::new();
    for level in Level::ALL {
        lab.profile(&namespace, level.name(), &no_mkdir(70)).await?;
        for node in &nodes {
            let pod = level.pod(&namespace, node);
            lab.use_profile(level, &pod).await?;
            pods.push(pod);
        }
    }
    for level in Level::ALL {
        let answer = lab.delete_profile(&namespace, level.name()).await?;
        ensure!(!answer.success, "{level:?}: a profile in use was deleted");
        ensure!(
            nodes.iter().any(|node| answer.stderr.contains(node)),
            "{level:?}: the refusal names no node: {}",
            answer.stderr
        );
        let allow = "callgate.dev/allow-delete-in-use=true";
        lab.kubectl(&["annotate", "scp", level.name(), "--namespace", &namespace, allow])
            .await?;
        lab.delete_profile(&namespace, level.name()).await?.ok()?;
    }
    // One that nothing uses, deleted after the others: once it is gone, the grace of the others is over.
    lab.profile(&namespace, "unused", &no_mkdir(71)).await?;
    lab.delete_profile(&namespace, "unused").await?.ok()?;
    lab.file_gone(&namespace, "unused").await?;
    for node in &nodes {
        for level in Level::ALL {
            let file = lab.file(node, &namespace, level.name())?;
            ensure!(file.exists(), "{} went while a pod used it", file.display());
        }
        // The kubelet reads the file at each start of a container.
        lab.restart(&Level::Container.pod(&namespace, node)).await?;
    }
    // Each node keeps a file for its own pods.
    for (index, node) in nodes.iter().enumerate() {
        for pod in pods.iter().filter(|pod| pod["spec"]["nodeName"] == **node) {
            lab.remove(pod).await?;
        }
        for level in Level::ALL {
            lab.file_gone_from(node, &namespace, level.name()).await?;
            for other in &nodes[index + 1..] {
                let file = lab.file(other, &namespace, level.name())?;
                ensure!(file.exists(), "{} went with the pods of {node}", file.display());
            }
        }
    }
    lab.done(&namespace).await
}

#[tokio::test]
async fn a_pod_that_ran_to_its_end_holds_no_profile() -> Result<()> {
    let lab = shared().await?;
    let namespace = lab.namespace("finished").await?;
    lab.profile(&namespace, "job", &no_mkdir(70)).await?;
    for node in lab.nodes().await? {
        let mut pod = pod(
            &namespace,
            &node,
            &node,
            under(container("main", &["true"]), &namespace, "job"),
        );
        pod["spec"]["restartPolicy"] = json!("Never");
        lab.apply(&pod).await?;
        lab.finished(&pod).await?;
    }
    // Its use, if any node noticed it, is forgotten after a minute, so that short jobs cause no flapping.
    eventually("the deletion to be allowed", async || {
        lab.delete_profile(&namespace, "job").await?.ok()
    })
    .await?;
    lab.done(&namespace).await
}

#[tokio::test]
async fn a_namespace_goes_with_profiles_that_its_pods_use_and_files_stay_until_their_pods_ended() -> Result<()>
{
    let Some(lab) = disks().await? else { return Ok(()) };
    let namespace = lab.namespace("goes").await?;
    let namespace = namespace.as_str();
    let nodes = lab.nodes().await?;
    lab.profile(namespace, "container", &no_mkdir(70)).await?;
    for node in &nodes {
        let mut pod = Level::Container.pod(namespace, node);
        let slow = "trap 'sleep 10; exit 0' TERM; while :; do sleep 1 & wait $!; done";
        pod["spec"]["containers"][0]["command"] = json!(["sh", "-c", slow]);
        pod["spec"]["terminationGracePeriodSeconds"] = json!(30);
        lab.use_profile(Level::Container, &pod).await?;
        lab.pod_ready(&pod).await?;
    }
    lab.kubectl(&["delete", "namespace", namespace, "--wait=false"])
        .await?;
    eventually(&format!("namespace {namespace} to go"), async || {
        // Before the pods: one that is there afterwards was there when its node had the file or not.
        let mut files = BTreeMap::new();
        for node in &nodes {
            files.insert(node.as_str(), lab.file(node, namespace, "container")?.exists());
        }
        let of_pods = "jsonpath={.items[*].spec.nodeName}";
        let list = ["get", "pods", "--namespace", namespace, "-o", of_pods];
        for node in lab.kubectl(&list).await?.split_whitespace() {
            if !files[node] {
                return Ok(Err(anyhow!("the file went from {node} while a pod used it")));
            }
        }
        let itself = ["get", "namespace", namespace, "--ignore-not-found", "-o", "name"];
        ensure!(lab.kubectl(&itself).await?.is_empty(), "it is there");
        Ok(Ok(()))
    })
    .await??;
    lab.file_gone(namespace, "container").await
}

#[tokio::test]
async fn nothing_that_callgate_makes_has_a_finalizer() -> Result<()> {
    let lab = shared().await?;
    let namespace = lab.namespace("free").await?;
    lab.profile(&namespace, "web", &no_mkdir(70)).await?;
    for kind in ["scp", "seccompnodes"] {
        let path = "jsonpath={.items[*].metadata.finalizers}";
        let held = lab
            .kubectl(&["get", kind, "--all-namespaces", "-o", path])
            .await?;
        assert_eq!(held, "", "{kind}");
    }
    lab.done(&namespace).await
}
