//! Nodes that stop, leave, return, join, and change what they are.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use harness::eventually;
use serde_json::{Value, json};

use crate::lab::{Lab, alone, condition, profile, values};
use crate::pods::{pod, pod_under, under, waiting};
use crate::rollout::no_mkdir;

/// How often nodes join under the startup taint: as often as a large cluster gains one in a day.
const JOINS: usize = 50;

/// Profiles that a node which joins has to prove.
const MANY: u16 = 60;

impl Lab {
    /// Stops a node as a power cut does: everything on it ends at once.
    fn power_off(&mut self, node: &str) -> Result<()> {
        self.node_mut(node)?.power_off()
    }

    /// Starts it again, with these settings of its kubelet beside the usual ones, and its disk as it was.
    async fn power_on(&mut self, node: &str, settings: &Value) -> Result<()> {
        let nodes = self.local()?;
        nodes.node_mut(node)?.power_on(settings).await?;
        nodes.ready(node).await
    }

    /// Has a node leave the cluster and come back as one that was never in it: with a new Node object, and nothing in its
    /// store.
    async fn leaves(&mut self, node: &str, by: Exit) -> Result<()> {
        match by {
            Exit::PowerCut => self.power_off(node)?,
            Exit::KubeletStopped => {
                self.node_mut(node)?.kill_kubelet();
                self.kill(node, "agent")?;
                // With another pod the next agent has nothing to wait for.
                self.replace_agent(node).await?;
            }
        }
        self.kubectl(&["delete", "node", node]).await?;
        fs::remove_dir_all(self.store(node)?)?;
        Ok(())
    }

    /// What `callgate status` says of a profile.
    async fn status_of(&self, namespace: &str, name: &str) -> Result<String> {
        let status = self.status().await?;
        let mut lines = status.lines();
        let line = lines.find(|line| line.starts_with(&format!("{namespace}/{name} ")));
        Ok(line
            .with_context(|| format!("no line of {name}: {status}"))?
            .to_owned())
    }

    /// Has agents on nodes with these labels beside the usual ones; `null` takes one back.
    async fn select_agents(&self, labels: &Value) -> Result<()> {
        let patch = json!({ "spec": { "template": { "spec": { "nodeSelector": labels } } } }).to_string();
        let agents = [
            "patch",
            "daemonset/callgate-agent",
            "--namespace",
            harness::NAMESPACE,
        ];
        self.kubectl(&[&agents[..], &["--type=merge", "--patch", &patch]].concat())
            .await?;
        Ok(())
    }

    /// Has profiles in a namespace, so that a node that joins has some to prove first; the name of the one that it comes to
    /// last.
    async fn many_profiles(&self, namespace: &str) -> Result<String> {
        let profiles: Vec<Value> = (0..MANY)
            .map(|number| profile(namespace, &format!("web-{number:03}"), &no_mkdir(100 + number)))
            .collect();
        self.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": profiles }))
            .await?;
        let last = format!("web-{:03}", MANY - 1);
        self.profile_ready(namespace, &last).await?;
        Ok(last)
    }

    /// Waits until the API server hears of a node no more.
    async fn unknown(&self, node: &str) -> Result<()> {
        let state = ["--for=condition=Ready=Unknown", "--timeout=60s"];
        self.kubectl(&[&["wait", "node", node], &state[..]].concat())
            .await?;
        Ok(())
    }

    /// Waits until the agent of a node has synced.
    pub(crate) async fn synced(&self, node: &str) -> Result<()> {
        eventually(&format!("the agent of {node} to have synced"), async || {
            let report = self.get("seccompnode", "", node).await?;
            ensure!(
                condition(&report["conditions"], "Synced")["status"] == "True",
                "{report}"
            );
            let agent = self
                .get("pod", harness::NAMESPACE, &self.agent(node).await?)
                .await?;
            ensure!(
                condition(&agent["status"]["conditions"], "Ready")["status"] == "True",
                "{}",
                agent["status"]
            );
            Ok(())
        })
        .await
    }
}

/// A pod that the scheduler puts on a node: it heeds taints, and waits for the node.
fn scheduled(node: &str, mut pod: Value) -> Result<Value> {
    let spec = pod["spec"].as_object_mut().context("a pod has a spec")?;
    spec.remove("nodeName");
    spec.insert(
        "nodeSelector".to_owned(),
        json!({ "kubernetes.io/hostname": node }),
    );
    Ok(pod)
}

/// How a node ends.
#[derive(Clone, Copy)]
enum Exit {
    PowerCut,
    /// With its agent; all else goes on.
    KubeletStopped,
}

#[tokio::test]
async fn a_node_that_stops_holds_up_nothing_and_cleans_up_when_it_returns() -> Result<()> {
    let Some(mut lab) = alone().await? else {
        return Ok(());
    };
    let namespace = lab.namespace("stops").await?;
    lab.profile(&namespace, "old", &no_mkdir(70)).await?;
    let nodes = lab.nodes().await?;
    for node in &nodes {
        lab.power_off(node)?;
        lab.unknown(node).await?;
        // The others get what is new, and Ready says who did not.
        let name = format!("new-{node}");
        lab.profile(&namespace, &name, &no_mkdir(71)).await?;
        let profile = lab.get("scp", &namespace, &name).await?;
        let ready = condition(&profile["status"]["conditions"], "Ready")["message"].to_string();
        ensure!(
            ready.contains(node.as_str()),
            "Ready does not name {node}: {ready}"
        );
        let line = lab.status_of(&namespace, &name).await?;
        ensure!(line.contains("1/2"), "callgate status counts {node}: {line}");
        lab.kubectl(&["delete", "scp", "old", "--namespace", &namespace])
            .await?;

        lab.power_on(node, &json!({})).await?;
        lab.synced(node).await?;
        let (gone, new) = (
            lab.file(node, &namespace, "old")?,
            lab.file(node, &namespace, &name)?,
        );
        eventually(&format!("{node} to have what it missed"), async || {
            ensure!(new.exists(), "the new file is missing");
            ensure!(!gone.exists(), "the old file is there");
            Ok(())
        })
        .await?;
        lab.profile(&namespace, "old", &no_mkdir(70)).await?;
    }
    lab.done(&namespace).await
}

#[tokio::test]
async fn a_node_that_is_removed_and_registers_again_reports_again() -> Result<()> {
    let Some(mut lab) = alone().await? else {
        return Ok(());
    };
    let namespace = lab.namespace("again").await?;
    lab.profile(&namespace, "web", &no_mkdir(70)).await?;
    for node in lab.nodes().await? {
        lab.power_off(&node)?;
        lab.kubectl(&["delete", "node", &node]).await?;
        eventually("the report to go with its Node", async || {
            let reports = lab.kubectl(&["get", "seccompnodes", "-o", "name"]).await?;
            ensure!(!reports.contains(&node), "{reports}");
            Ok(())
        })
        .await?;
        lab.profile(&namespace, "web", &no_mkdir(71)).await?;
        let line = lab.status_of(&namespace, "web").await?;
        ensure!(line.contains("1/1"), "callgate status counts {node}: {line}");
        lab.power_on(&node, &json!({})).await?;
        lab.synced(&node).await?;
        let digest = lab.profile(&namespace, "web", &no_mkdir(72)).await?;
        lab.file_is(&node, &namespace, "web", &digest).await?;
    }
    lab.done(&namespace).await
}

#[tokio::test]
async fn under_the_startup_taint_no_pod_waits_for_its_profile_on_a_node_that_joins() -> Result<()> {
    let Some(mut lab) = alone().await? else {
        return Ok(());
    };
    let taint = ["--set", "agent.startupTaint.enabled=true"];
    lab.cluster().install_chart(&values(&taint)).await?;
    let namespace = lab.namespace("joins").await?;
    let last = lab.many_profiles(&namespace).await?;
    let nodes = lab.nodes().await?;
    let tainted =
        json!({ "registerWithTaints": [{ "key": "callgate.dev/agent-not-ready", "effect": "NoSchedule" }] });
    for round in 0..JOINS.div_ceil(nodes.len()) {
        let by = if round == 0 {
            Exit::PowerCut
        } else {
            Exit::KubeletStopped
        };
        let mut pods = Vec::new();
        for node in &nodes {
            lab.leaves(node, by).await?;
            let pod = scheduled(
                node,
                pod(
                    &namespace,
                    &format!("{node}-{round}"),
                    node,
                    under(waiting("main"), &namespace, &last),
                ),
            )?;
            lab.apply(&pod).await?;
            pods.push(pod);
        }
        for node in &nodes {
            match by {
                Exit::PowerCut => lab.power_on(node, &tainted).await?,
                Exit::KubeletStopped => lab.node_mut(node)?.start_kubelet(&tainted)?,
            }
        }
        for pod in &pods {
            lab.pod_ready(pod).await?;
            let troubles = lab.creation_failures(pod).await?;
            ensure!(troubles.is_empty(), "round {round}: {troubles:?}");
            lab.remove(pod).await?;
        }
    }
    lab.cluster().install_chart(&values(&[])).await?;
    for node in &nodes {
        lab.synced(node).await?;
    }
    lab.done(&namespace).await
}

#[tokio::test]
async fn without_the_taint_pods_on_a_node_that_joins_wait_for_its_agent_and_recover_alone() -> Result<()> {
    let Some(mut lab) = alone().await? else {
        return Ok(());
    };
    let namespace = lab.namespace("recover").await?;
    lab.profile(&namespace, "web", &no_mkdir(70)).await?;
    for node in lab.nodes().await? {
        lab.leaves(&node, Exit::PowerCut).await?;
        // So that the pod comes first.
        lab.select_agents(&json!({ "callgate-test": "nobody" })).await?;
        let pod = scheduled(&node, pod_under(&namespace, &node, "web"))?;
        lab.apply(&pod).await?;
        lab.power_on(&node, &json!({})).await?;
        let why = lab.waits(&pod, "CreateContainerError").await?;
        ensure!(
            why.contains(&format!("callgate/{namespace}/web.json")),
            "the pod does not say which file it waits for: {why}"
        );
        lab.select_agents(&json!({ "callgate-test": null })).await?;
        lab.pod_ready(&pod).await?;
        lab.synced(&node).await?;
    }
    lab.done(&namespace).await
}

#[tokio::test]
async fn an_agent_goes_on_without_its_kubelet() -> Result<()> {
    let Some(mut lab) = alone().await? else {
        return Ok(());
    };
    let namespace = lab.namespace("alive").await?;
    let node = lab.nodes().await?.swap_remove(0);
    lab.node_mut(&node)?.kill_kubelet();
    lab.unknown(&node).await?;
    let digest = lab.profile(&namespace, "web", &no_mkdir(70)).await?;
    lab.file_is(&node, &namespace, "web", &digest).await?;
    eventually("both nodes to be counted", async || {
        let line = lab.status_of(&namespace, "web").await?;
        ensure!(line.contains("2/2"), "{line}");
        Ok(())
    })
    .await?;
    lab.node_mut(&node)?.start_kubelet(&json!({}))?;
    lab.local()?.ready(&node).await?;
    lab.synced(&node).await?;
    lab.done(&namespace).await
}

#[tokio::test]
async fn labels_and_selectors_decide_which_nodes_have_a_profile_and_taints_do_not() -> Result<()> {
    let Some(lab) = alone().await? else { return Ok(()) };
    let namespace = lab.namespace("labels").await?;
    let mut spec = no_mkdir(70);
    spec["nodeSelector"] = json!({ "callgate-test": namespace });
    lab.apply_profile(&namespace, "web", &spec).await?;
    let nothing = lab
        .condition(&namespace, "web", "Ready", |status, reason| {
            status == "True" && reason == "NoNodesSelected"
        })
        .await;
    nothing.context("no node has the label yet")?;
    let label = format!("callgate-test={namespace}");
    for node in lab.nodes().await? {
        let file = lab.file(&node, &namespace, "web")?;
        ensure!(!file.exists(), "{node} has the file without the label");
        lab.kubectl(&["taint", "node", &node, "callgate-test=x:NoExecute"])
            .await?;
        lab.kubectl(&["label", "node", &node, &label]).await?;
        eventually(&format!("the file on {node}"), async || {
            ensure!(file.exists(), "it is missing");
            Ok(())
        })
        .await?;
        lab.kubectl(&["taint", "node", &node, "callgate-test-"]).await?;
        lab.kubectl(&["label", "node", &node, "callgate-test-"]).await?;
        eventually(&format!("the file on {node} to go"), async || {
            ensure!(!file.exists(), "it is there");
            Ok(())
        })
        .await?;
    }
    // A change of the selector does the same: every node is selected, and none again.
    let digest = lab.profile(&namespace, "web", &no_mkdir(70)).await?;
    for node in lab.nodes().await? {
        lab.file_is(&node, &namespace, "web", &digest).await?;
    }
    lab.apply_profile(&namespace, "web", &spec).await?;
    for node in lab.nodes().await? {
        let file = lab.file(&node, &namespace, "web")?;
        eventually(&format!("the file on {node} to go"), async || {
            ensure!(!file.exists(), "it is there");
            Ok(())
        })
        .await?;
    }
    lab.done(&namespace).await
}
