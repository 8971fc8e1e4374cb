//! A release with its programs at work: what its pods would be.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use harness::{AGENT_SERVICE_ACCOUNT, CONTROLLER_SERVICE_ACCOUNT, Cluster, Program, eventually};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::Api;
use serde_json::{Value, json};

/// The namespace of the profiles.
pub(crate) const TEAM: &str = "team";
/// The node that the agent is on.
pub(crate) const NODE: &str = "north";

/// A controller that leads, and the agent of one node.
pub(crate) struct Running {
    pub(crate) controller: Program,
    pub(crate) agent: Program,
}

impl Running {
    /// Starts both in `namespace`, and waits until they are at work. `root` is the kubelet's seccomp directory.
    pub(crate) async fn start(cluster: &Cluster, namespace: &str, root: &Path, grace: &str) -> Result<Self> {
        let callgate = || Command::new(env!("CARGO_BIN_EXE_callgate"));
        cluster.node(NODE, &[]).await?;
        let identity = format!("{CONTROLLER_SERVICE_ACCOUNT}-1");
        let mut controller = callgate();
        controller
            .arg("controller")
            .arg("--kubeconfig")
            .arg(kubeconfig(cluster, namespace, CONTROLLER_SERVICE_ACCOUNT, &identity, None).await?)
            .arg(format!("--namespace={namespace}"))
            .arg(format!("--identity={identity}"));
        let name = format!("{AGENT_SERVICE_ACCOUNT}-{NODE}");
        let agent = kubeconfig(cluster, namespace, AGENT_SERVICE_ACCOUNT, &name, Some(NODE)).await?;
        let mut running = Self {
            controller: cluster.start_program(controller, &format!("controller-in-{namespace}"))?,
            agent: cluster.start_agent_with(callgate(), NODE, &agent, root, grace)?,
        };
        running.controller.ready().await?;
        running.agent.ready().await?;
        cluster.pod_ready(namespace, &name, true).await?;
        eventually("the controller to lead", async || {
            let metrics = running.controller.get("/metrics")?;
            ensure!(
                metrics.contains("\ncallgate_controller_leader 1\n"),
                "it does not"
            );
            Ok(())
        })
        .await?;
        Ok(running)
    }

    /// Ends both as a kubelet does.
    pub(crate) async fn terminate(self) -> Result<()> {
        self.agent.terminate().await?;
        self.controller.terminate().await
    }
}

/// The pod of one of the programs, if it is missing, and a kubeconfig with the token that it would find there.
async fn kubeconfig(
    cluster: &Cluster,
    namespace: &str,
    account: &str,
    name: &str,
    node: Option<&str>,
) -> Result<PathBuf> {
    let component = account.strip_prefix("callgate-").context("not ours")?;
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/name": "callgate", "app.kubernetes.io/component": component},
        },
        "spec": {
            "serviceAccountName": account,
            "nodeName": node,
            "containers": [{"name": component, "image": "callgate"}],
        },
    });
    apply(cluster, &pod).await?;
    let pod = Api::<Pod>::namespaced(cluster.admin().await?, namespace)
        .get(name)
        .await?;
    let token = cluster
        .token(&format!("{namespace}/{account}"), Some(&pod))
        .await?;
    cluster.kubeconfig_for(&token)
}

/// `kubectl apply --server-side` of one object.
pub(crate) async fn apply(cluster: &Cluster, object: &Value) -> Result<()> {
    let apply = ["apply", "--server-side", "-f", "-"];
    let applied = cluster.kubectl(&apply, &object.to_string()).await?.ok();
    applied.with_context(|| object.to_string())?;
    Ok(())
}

/// Applies a profile of the team that denies one call with this errno.
pub(crate) async fn apply_profile(cluster: &Cluster, name: &str, errno: u16) -> Result<()> {
    let spec = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}],
    });
    apply(cluster, &profile(name, &spec)).await
}

/// A profile of the team.
pub(crate) fn profile(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "callgate.dev/v1alpha1",
        "kind": "SeccompProfile",
        "metadata": {"name": name, "namespace": TEAM},
        "spec": spec,
    })
}

/// Waits until the controller says that profiles of the team are on every node.
pub(crate) async fn ready(cluster: &Cluster, profiles: &[&str]) -> Result<()> {
    let objects: Vec<_> = profiles.iter().map(|name| format!("scp/{name}")).collect();
    let objects: Vec<_> = objects.iter().map(String::as_str).collect();
    let namespace = format!("--namespace={TEAM}");
    let wait = ["wait", "--for=condition=Ready", "--timeout=1s", &namespace];
    eventually("the profiles to be Ready", async || {
        cluster.kubectl(&[&wait, &objects[..]].concat(), "").await?.ok()
    })
    .await?;
    Ok(())
}

/// A pod of the team that runs on the node, with a profile of the team.
pub(crate) fn pod(name: &str, profile: &str) -> Value {
    let path = format!("callgate/{TEAM}/{profile}.json");
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": TEAM},
        "spec": {
            "nodeName": NODE,
            "securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": path}},
            "containers": [{"name": "main", "image": "main"}],
        },
    })
}

/// What there is of one kind, by name: the version of each object, which grows with each write.
pub(crate) async fn versions(cluster: &Cluster, kind: &str) -> Result<BTreeMap<String, String>> {
    let list = ["get", kind, "--all-namespaces", "--output=json"];
    let list: kube::core::ObjectList<kube::core::DynamicObject> =
        serde_json::from_str(&cluster.kubectl(&list, "").await?.ok()?)?;
    let versions = list.items.into_iter().map(|object| {
        let version = object.resource_version().context("no version")?;
        Ok((object.name_any(), version))
    });
    versions.collect()
}

/// One file, and what tells whether anybody touched it since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    inode: u64,
    /// Whatever is done to a file's content, name, owner or mode changes this, and nobody can set it.
    changed: (i64, i64),
    content: Vec<u8>,
}

/// The files of profiles beneath the kubelet's seccomp directory, by NAMESPACE/FILE.
pub(crate) fn files(root: &Path) -> Result<BTreeMap<String, File>> {
    let mut files = BTreeMap::new();
    for namespace in fs::read_dir(root.join("callgate"))? {
        let namespace = namespace?;
        // Ours, about the files.
        if namespace.file_name() == ".callgate" {
            continue;
        }
        for file in fs::read_dir(namespace.path())? {
            let path = file?.path();
            let metadata = fs::metadata(&path)?;
            files.insert(
                path.strip_prefix(root.join("callgate"))?.display().to_string(),
                File {
                    inode: metadata.ino(),
                    changed: (metadata.ctime(), metadata.ctime_nsec()),
                    content: fs::read(&path)?,
                },
            );
        }
    }
    Ok(files)
}

/// How often the API server was asked for this verb of this resource.
pub(crate) async fn requests(cluster: &Cluster, verbs: &[&str], resource: &str) -> Result<u64> {
    let requests = cluster.requests().await?;
    let counted = requests
        .iter()
        .filter(|(request, _)| request.resource == resource && verbs.contains(&request.verb.as_str()));
    Ok(counted.map(|(_, count)| count).sum())
}
