//! The cluster that all tests share, and how they ask it for things.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use harness::{Cluster, NAMESPACE, Node, Nodes, Software, eventually};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

static LAB: OnceCell<RwLock<Lab>> = OnceCell::const_new();

/// The cluster, for a test that others may run beside.
pub(crate) async fn shared() -> Result<RwLockReadGuard<'static, Lab>> {
    Ok(lab().await?.read().await)
}

/// The cluster, for a test that also looks at the nodes' disks; nothing if it is somebody's own.
pub(crate) async fn disks() -> Result<Option<RwLockReadGuard<'static, Lab>>> {
    let lab = shared().await?;
    Ok(lab.is_local("it looks at the nodes' disks").then_some(lab))
}

/// The cluster, for a test that breaks it for a while; nothing if it is somebody's own.
pub(crate) async fn alone() -> Result<Option<RwLockWriteGuard<'static, Lab>>> {
    let lab = lab().await?.write().await;
    Ok(lab.is_local("it breaks what runs there").then_some(lab))
}

async fn lab() -> Result<&'static RwLock<Lab>> {
    LAB.get_or_try_init(async || Lab::start().await.map(RwLock::new))
        .await
}

/// A cluster with Callgate installed in it.
pub(crate) struct Lab {
    site: Site,
    names: AtomicU32,
}

enum Site {
    Local(Nodes),
    Existing(Cluster),
}

impl Lab {
    async fn start() -> Result<Self> {
        let site = if std::env::var_os("CALLGATE_TEST_KUBECONFIG").is_some() {
            Site::Existing(Cluster::provided().await?)
        } else {
            let nodes = Nodes::start(&[Software::Newest, Software::Debian]).await?;
            nodes.cluster().install_chart(&values(&[])).await?;
            Site::Local(nodes)
        };
        Ok(Self {
            site,
            names: AtomicU32::new(0),
        })
    }

    #[expect(clippy::print_stderr, reason = "a test that does not run has to say so")]
    fn is_local(&self, why_needed: &str) -> bool {
        let local = matches!(self.site, Site::Local(_));
        if !local {
            let name = std::thread::current().name().unwrap_or("a test").to_owned();
            eprintln!("{name} is skipped on an existing cluster: {why_needed}");
        }
        local
    }

    /// The API server.
    pub(crate) fn cluster(&self) -> &Cluster {
        match &self.site {
            Site::Local(nodes) => nodes.cluster(),
            Site::Existing(cluster) => cluster,
        }
    }

    /// All of a local cluster.
    pub(crate) fn local(&mut self) -> Result<&mut Nodes> {
        match &mut self.site {
            Site::Local(nodes) => Ok(nodes),
            Site::Existing(_) => bail!("an existing cluster cannot be broken"),
        }
    }

    /// A local node.
    pub(crate) fn node(&self, name: &str) -> Result<&Node> {
        match &self.site {
            Site::Local(nodes) => nodes.node(name),
            Site::Existing(_) => bail!("an existing cluster's nodes cannot be looked at"),
        }
    }

    /// A local node, to be broken.
    pub(crate) fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        self.local()?.node_mut(name)
    }

    /// The nodes that run pods.
    pub(crate) async fn nodes(&self) -> Result<Vec<String>> {
        let nodes: Value = serde_json::from_str(&self.kubectl(&["get", "nodes", "-o", "json"]).await?)?;
        let names = nodes["items"].as_array().into_iter().flatten().filter(|node| {
            let taints = node["spec"]["taints"].as_array();
            !taints
                .into_iter()
                .flatten()
                .any(|taint| taint["effect"] == "NoSchedule")
        });
        let names: Vec<String> = names
            .filter_map(|node| Some(node["metadata"]["name"].as_str()?.to_owned()))
            .collect();
        ensure!(!names.is_empty(), "the cluster has no node that takes pods");
        Ok(names)
    }

    /// Runs kubectl, which must work.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let output = self.cluster().kubectl(arguments, "").await?.ok();
        output.with_context(|| format!("kubectl {}", arguments.join(" ")))
    }

    /// Applies an object.
    pub(crate) async fn apply(&self, object: &Value) -> Result<()> {
        let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        let output = self
            .cluster()
            .kubectl(&arguments, &object.to_string())
            .await?
            .ok();
        output.with_context(|| format!("applying {object}"))?;
        Ok(())
    }

    /// An object, or its error.
    pub(crate) async fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Value> {
        let object = self
            .kubectl(&["get", kind, name, "--namespace", namespace, "-o", "json"])
            .await?;
        Ok(serde_json::from_str(&object)?)
    }

    /// A new namespace whose name begins with this.
    pub(crate) async fn namespace(&self, name: &str) -> Result<String> {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{number}", std::process::id());
        self.kubectl(&["create", "namespace", &name]).await?;
        eventually("the namespace's service account", async || {
            self.get("serviceaccount", &name, "default").await
        })
        .await?;
        Ok(name)
    }

    /// Removes a namespace that a test is done with, without waiting for it.
    pub(crate) async fn done(&self, namespace: &str) -> Result<()> {
        self.kubectl(&["delete", "namespace", namespace, "--wait=false"])
            .await?;
        Ok(())
    }

    /// Applies a profile, and does not wait.
    pub(crate) async fn apply_profile(&self, namespace: &str, name: &str, spec: &Value) -> Result<()> {
        self.apply(&json!({
            "apiVersion": "callgate.dev/v1alpha1",
            "kind": "SeccompProfile",
            "metadata": { "namespace": namespace, "name": name },
            "spec": spec,
        }))
        .await
    }

    /// Applies a profile, and waits until it is Ready; returns its digest.
    pub(crate) async fn profile(&self, namespace: &str, name: &str, spec: &Value) -> Result<String> {
        self.apply_profile(namespace, name, spec).await?;
        self.profile_ready(namespace, name).await
    }

    /// Waits until the profile as it is now is Ready; returns its digest.
    pub(crate) async fn profile_ready(&self, namespace: &str, name: &str) -> Result<String> {
        let profile = self
            .condition(namespace, name, "Ready", |status, _| status == "True")
            .await?;
        let digest = profile["status"]["digest"].as_str();
        Ok(digest.context("a Ready profile without a digest")?.to_owned())
    }

    /// Waits until a condition of the profile, of its newest generation, has a status and reason that please; returns
    /// the profile.
    pub(crate) async fn condition(
        &self,
        namespace: &str,
        name: &str,
        kind: &str,
        pleases: impl Fn(&str, &str) -> bool,
    ) -> Result<Value> {
        eventually(&format!("{kind} of {namespace}/{name}"), async || {
            let profile = self.get("scp", namespace, name).await?;
            let condition = condition(&profile, kind);
            let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
            ensure!(
                condition["observedGeneration"] == profile["metadata"]["generation"],
                "not yet of this generation: {condition}"
            );
            ensure!(pleases(&text("status"), &text("reason")), "{condition}");
            Ok(profile)
        })
        .await
    }

    /// Where a node has the file of a profile, seen from here.
    pub(crate) fn file(&self, node: &str, namespace: &str, name: &str) -> Result<PathBuf> {
        Ok(self.store(node)?.join(namespace).join(format!("{name}.json")))
    }

    /// Where a node has all files.
    pub(crate) fn store(&self, node: &str) -> Result<PathBuf> {
        Ok(self.node(node)?.path("/var/lib/kubelet/seccomp/callgate"))
    }

    /// The name of the agent's pod on a node.
    pub(crate) async fn agent(&self, node: &str) -> Result<String> {
        let pods = self
            .kubectl(&[
                "get",
                "pods",
                "--namespace",
                NAMESPACE,
                "--selector=app.kubernetes.io/component=agent",
                &format!("--field-selector=spec.nodeName={node}"),
                "-o",
                "jsonpath={.items[*].metadata.name}",
            ])
            .await?;
        match *pods.split_whitespace().collect::<Vec<_>>() {
            [name] => Ok(name.to_owned()),
            [] => bail!("{node} has no agent"),
            _ => bail!("{node} has several agents: {pods}"),
        }
    }

    /// What the agent on a node says in its metrics.
    pub(crate) async fn metric(&self, node: &str, name: &str) -> Result<f64> {
        let agent = self.agent(node).await?;
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{agent}:9440/proxy/metrics");
        let metrics = self.kubectl(&["get", "--raw", &path]).await?;
        let values = metrics.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        Ok(values
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// `callgate status` of all.
    pub(crate) async fn status(&self) -> Result<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_callgate"));
        command.arg("status").envs(self.cluster().kubectl_environment()?);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        ensure!(
            output.status.success(),
            "callgate status: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// The arguments of helm that all tests here install with, and more.
pub(crate) fn values<'a>(more: &[&'a str]) -> Vec<&'a str> {
    // Half a second less than `GRACE` would be seen as well; the tests wait for what happens.
    [&["--set", "agent.removalGrace=5s"], more].concat()
}

/// A condition of an object; null if it has none.
pub(crate) fn condition(object: &Value, kind: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|one| one["type"] == kind);
    found.cloned().unwrap_or_default()
}
