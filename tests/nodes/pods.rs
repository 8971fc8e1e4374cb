//! Pods of the tests, and what is seen of them.

use anyhow::{Context as _, Result, bail, ensure};
use harness::eventually;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::lab::Lab;

/// The image that every node of a test has.
const IMAGE: &str = "docker.io/callgate/workload:1";

/// A container that does what its arguments say.
pub(crate) fn container(name: &str, command: &[&str]) -> Value {
    json!({ "name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": command })
}

/// One that waits until it is told to end.
pub(crate) fn waiting(name: &str) -> Value {
    container(
        name,
        &[
            "sh",
            "-c",
            "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done",
        ],
    )
}

/// The reference to a profile that containers and pods make.
pub(crate) fn localhost(namespace: &str, profile: &str) -> Value {
    json!({ "seccompProfile": {
        "type": "Localhost",
        "localhostProfile": format!("callgate/{namespace}/{profile}.json"),
    } })
}

/// The container, under a profile.
pub(crate) fn under(mut container: Value, namespace: &str, profile: &str) -> Value {
    container["securityContext"] = localhost(namespace, profile);
    container
}

/// A pod of one container, on a node.
#[expect(clippy::needless_pass_by_value, reason = "a container is made for its pod")]
pub(crate) fn pod(namespace: &str, name: &str, node: &str, container: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 2,
            "containers": [container],
        },
    })
}

/// A pod with the name of its node, which waits there under a profile.
pub(crate) fn pod_under(namespace: &str, node: &str, profile: &str) -> Value {
    pod(namespace, node, node, under(waiting("main"), namespace, profile))
}

impl Lab {
    /// Makes a pod and waits until all its containers run.
    pub(crate) async fn run(&self, pod: &Value) -> Result<()> {
        self.apply(pod).await?;
        self.pod_ready(pod).await
    }

    /// Waits until all containers of a pod run.
    pub(crate) async fn pod_ready(&self, pod: &Value) -> Result<()> {
        let (namespace, name) = name_of(pod)?;
        eventually(&format!("pod {namespace}/{name} to be Ready"), async || {
            let pod = self.get("pod", namespace, name).await?;
            ensure!(
                crate::lab::condition(&pod["status"]["conditions"], "Ready")["status"] == "True",
                "{}",
                pod["status"]
            );
            Ok(())
        })
        .await
    }

    /// Adds an ephemeral container to a pod that runs.
    pub(crate) async fn add_ephemeral(&self, pod: &Value, container: &Value) -> Result<()> {
        let (namespace, name) = name_of(pod)?;
        let pods: Api<Pod> = Api::namespaced(self.cluster().admin().await?, namespace);
        let patch = json!({ "spec": { "ephemeralContainers": [container] } });
        pods.patch_ephemeral_containers(name, &PatchParams::default(), &Patch::Strategic(&patch))
            .await
            .context("an ephemeral container")?;
        Ok(())
    }

    /// Waits until a pod has run to its end, and returns how it looks then.
    pub(crate) async fn finished(&self, pod: &Value) -> Result<Value> {
        let (namespace, name) = name_of(pod)?;
        eventually(&format!("pod {namespace}/{name} to end"), async || {
            let pod = self.get("pod", namespace, name).await?;
            match pod["status"]["phase"].as_str() {
                Some("Succeeded" | "Failed") => Ok(pod),
                _ => bail!("{}", pod["status"]),
            }
        })
        .await
    }

    /// Removes a pod, and waits for that.
    pub(crate) async fn remove(&self, pod: &Value) -> Result<()> {
        let (namespace, name) = name_of(pod)?;
        self.kubectl(&["delete", "pod", name, "--namespace", namespace, "--timeout=60s"])
            .await?;
        Ok(())
    }

    /// Why a container of a pod waits, once it does.
    pub(crate) async fn waits(&self, pod: &Value, reason: &str) -> Result<String> {
        let (namespace, name) = name_of(pod)?;
        eventually(&format!("pod {namespace}/{name} to wait: {reason}"), async || {
            let pod = self.get("pod", namespace, name).await?;
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            ensure!(waiting["reason"] == reason, "{}", pod["status"]);
            Ok(waiting["message"].as_str().unwrap_or_default().to_owned())
        })
        .await
    }

    /// What the kubelet told of containers of a pod that it could not create.
    pub(crate) async fn creation_failures(&self, pod: &Value) -> Result<Vec<String>> {
        let (namespace, name) = name_of(pod)?;
        let events = format!("--field-selector=involvedObject.name={name},reason=Failed");
        let path = "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}";
        let messages = self
            .kubectl(&["get", "events", "--namespace", namespace, &events, "-o", path])
            .await?;
        Ok(messages.lines().map(str::to_owned).collect())
    }

    /// Runs a command in a pod's container, which must work.
    pub(crate) async fn exec(&self, pod: &Value, command: &[&str]) -> Result<String> {
        let (namespace, name) = name_of(pod)?;
        self.kubectl(&[&["exec", "--namespace", namespace, name, "--"], command].concat())
            .await
    }

    /// Ends the first process of a pod's container, and waits until the kubelet has started another one.
    pub(crate) async fn restart(&self, pod: &Value) -> Result<()> {
        let (namespace, name) = name_of(pod)?;
        let restarts = async || -> Result<u64> {
            let pod = self.get("pod", namespace, name).await?;
            let status = &pod["status"]["containerStatuses"][0];
            ensure!(
                status["state"]["running"].is_object(),
                "it does not run: {status}"
            );
            status["restartCount"].as_u64().context("no count of restarts")
        };
        let before = restarts().await?;
        // The command ends with the container that it is in, now and then by force: what counts is the restart.
        let kill = [
            "exec",
            "--namespace",
            namespace,
            name,
            "--",
            "sh",
            "-c",
            "kill -TERM 1",
        ];
        self.cluster().kubectl(&kill, "").await?;
        eventually("the container to run again", async || {
            let now = restarts().await?;
            ensure!(now > before, "it has not ended yet");
            Ok(())
        })
        .await
    }
}

/// Namespace and name.
pub(crate) fn name_of(object: &Value) -> Result<(&str, &str)> {
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().context("it has no namespace")?;
    Ok((namespace, metadata["name"].as_str().context("it has no name")?))
}
