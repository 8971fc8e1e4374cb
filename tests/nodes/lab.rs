//! The cluster that all tests share, and how they ask it for things.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use callgate::profile::Digest;
use harness::{
    AGENT_SERVICE_ACCOUNT, CONTROLLER_SERVICE_ACCOUNT, Cluster, NAMESPACE, Node, Nodes, Software, eventually,
};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

static LAB: OnceCell<RwLock<Lab>> = OnceCell::const_new();

/// The cluster, for a test that others may run beside.
pub(crate) async fn shared() -> Result<RwLockReadGuard<'static, Lab>> {
    let lab = lab().await?.read().await;
    lab.settled().await?;
    Ok(lab)
}

/// The cluster, for a test that also looks at the nodes' disks; nothing if it is somebody's own.
pub(crate) async fn disks() -> Result<Option<RwLockReadGuard<'static, Lab>>> {
    let lab = shared().await?;
    Ok(lab.is_local("it looks at the nodes' disks").then_some(lab))
}

/// The cluster, for a test that breaks it for a while; nothing if it is somebody's own.
pub(crate) async fn alone() -> Result<Option<RwLockWriteGuard<'static, Lab>>> {
    let lab = lab().await?.write().await;
    lab.settled().await?;
    Ok(lab.is_local("it breaks what runs there").then_some(lab))
}

async fn lab() -> Result<&'static RwLock<Lab>> {
    LAB.get_or_try_init(async || Lab::start().await.map(RwLock::new))
        .await
}

/// Whether the suite runs on somebody's own cluster; says then that a test does not run, and why.
#[expect(clippy::print_stderr, reason = "a test that does not run has to say so")]
pub(crate) fn is_existing(why_skipped: &str) -> bool {
    let is_existing = std::env::var_os("CALLGATE_TEST_KUBECONFIG").is_some();
    if is_existing {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        eprintln!("{name} is skipped on an existing cluster: {why_skipped}");
    }
    is_existing
}

/// A cluster with Callgate installed in it.
pub(crate) struct Lab {
    site: Site,
    names: AtomicU32,
    /// How much of the audit log is of times when even what is allowed was forbidden: Callgate was taken away, its rights
    /// first, or an API server had begun to answer and not read yet who may do what.
    excused: AtomicUsize,
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
            excused: AtomicUsize::new(0),
        })
    }

    fn is_local(&self, why_needed: &str) -> bool {
        matches!(self.site, Site::Local(_)) || !is_existing(why_needed)
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

    /// Waits until what the test before broke is whole again: every node, an agent on each, and a leader on one node with
    /// the other controller on another.
    async fn settled(&self) -> Result<()> {
        if matches!(self.site, Site::Existing(_)) {
            return Ok(());
        }
        let agents = ["get", "daemonset/callgate-agent", "--namespace", NAMESPACE];
        if self.cluster().kubectl(&agents, "").await?.success {
            self.nothing_was_forbidden()?;
        } else {
            // A test failed after it had taken Callgate away.
            self.cluster().install_chart(&values(&[])).await?;
        }
        let wait = ["wait", "node", "--all", "--for=condition=Ready", "--timeout=90s"];
        self.kubectl(&wait).await?;
        let rolled_out = async |workload: &str| {
            let status = ["rollout", "status", workload];
            self.kubectl(&[&status[..], &["--namespace", NAMESPACE, "--timeout=90s"]].concat())
                .await
        };
        rolled_out("daemonset/callgate-agent").await?;
        rolled_out("deployment/callgate-controller").await?;
        let component = "--selector=app.kubernetes.io/component=controller";
        let path = "jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName}{\"\\n\"}{end}";
        eventually("the controllers to be on two nodes", async || {
            let pods = self
                .kubectl(&["get", "pods", "--namespace", NAMESPACE, component, "-o", path])
                .await?;
            let pods: Vec<(&str, &str)> = pods.lines().filter_map(|line| line.split_once(' ')).collect();
            match pods[..] {
                [(_, one), (_, other)] if one != other => Ok(()),
                // The scheduler prefers to spread them, and does not move what runs.
                [(name, _), (_, _)] => {
                    self.kubectl(&["delete", "pod", name, "--namespace", NAMESPACE])
                        .await?;
                    bail!("both were on one node")
                }
                _ => bail!("{pods:?}"),
            }
        })
        .await?;
        rolled_out("deployment/callgate-controller").await?;
        Ok(())
    }

    /// Holds the chart's rights against all that Callgate has asked for until now, whatever test it was in.
    fn nothing_was_forbidden(&self) -> Result<()> {
        let accounts = [AGENT_SERVICE_ACCOUNT, CONTROLLER_SERVICE_ACCOUNT]
            .map(|account| format!("system:serviceaccount:{NAMESPACE}:{account}"));
        let requests = self.cluster().audited()?;
        let mut ours = requests
            .iter()
            .skip(self.excused.load(Ordering::Relaxed))
            .filter(|request| accounts.contains(&request.user))
            .peekable();
        ensure!(ours.peek().is_some(), "the audit log has nothing of Callgate's");
        let forbidden: Vec<_> = ours.filter(|request| !request.is_allowed).collect();
        ensure!(
            forbidden.is_empty(),
            "Callgate asked for what its rights do not allow: {forbidden:#?}"
        );
        Ok(())
    }

    /// Ends the API server.
    pub(crate) fn stop_apiserver(&mut self) -> Result<()> {
        self.nothing_was_forbidden()?;
        self.local()?.cluster_mut().stop_apiserver()
    }

    /// Starts the API server again and waits until it is ready, which it says once it has read its roles and bindings.
    pub(crate) async fn start_apiserver(&mut self) -> Result<()> {
        self.local()?.cluster_mut().start_apiserver().await?;
        self.excuse()
    }

    fn excuse(&self) -> Result<()> {
        let until = self.cluster().audited()?.len();
        self.excused.store(until, Ordering::Relaxed);
        Ok(())
    }

    /// Takes Callgate away, as its page says; profiles and files stay.
    pub(crate) async fn uninstall(&self) -> Result<()> {
        self.nothing_was_forbidden()?;
        let release = ["uninstall", "callgate", "--namespace", NAMESPACE];
        let arguments = [&release[..], &["--wait", "--timeout=2m"]].concat();
        self.cluster().helm(&arguments).await?.ok()?;
        eventually("Callgate's pods to be gone", async || {
            let pods = self
                .kubectl(&["get", "pods", "--namespace", NAMESPACE, "-o", "name"])
                .await?;
            ensure!(pods.trim().is_empty(), "{pods}");
            Ok(())
        })
        .await?;
        self.excuse()
    }

    /// Replaces the agent's pod on a node, at once; with a new one the kubelet does not wait after its ends.
    pub(crate) async fn replace_agent(&self, node: &str) -> Result<()> {
        let agent = self.agent(node).await?;
        self.kubectl(&[
            "delete",
            "pod",
            &agent,
            "--namespace",
            NAMESPACE,
            "--grace-period=0",
            "--force",
        ])
        .await?;
        Ok(())
    }

    /// Kills Callgate's processes of a role on a node, `agent` or `controller`, if there are any; how many that were.
    pub(crate) fn kill(&self, node: &str, role: &str) -> Result<usize> {
        let node = self.node(node)?;
        let processes = node.run("ps", &["-e", "-o", "pid=", "-o", "args="])?;
        let program = format!("callgate {role}");
        let found = processes.lines().filter(|line| line.contains(&program));
        let ids = found.filter_map(|line| line.split_whitespace().next());
        // Such as end together with others may be gone.
        Ok(ids.filter(|id| node.run("kill", &["-KILL", id]).is_ok()).count())
    }

    /// How often the containers of Callgate's pods were started again.
    pub(crate) async fn restarts(&self) -> Result<u64> {
        let path = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
        let counts = self
            .kubectl(&["get", "pods", "--namespace", NAMESPACE, "-o", path])
            .await?;
        Ok(counts
            .split_whitespace()
            .filter_map(|count| count.parse::<u64>().ok())
            .sum())
    }

    /// Waits until the file of a profile on a node has this digest.
    pub(crate) async fn file_is(&self, node: &str, namespace: &str, name: &str, digest: &str) -> Result<()> {
        let file = self.file(node, namespace, name)?;
        eventually(&format!("{namespace}/{name} on {node}"), async || {
            let now = Digest::of(&std::fs::read(&file)?).to_string();
            ensure!(now == digest, "{now} is there, and {digest} is to be");
            Ok(())
        })
        .await
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
        self.apply(&profile(namespace, name, spec)).await
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
            let condition = condition(&profile["status"]["conditions"], kind);
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

/// A profile, as an object.
pub(crate) fn profile(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "callgate.dev/v1alpha1",
        "kind": "SeccompProfile",
        "metadata": { "namespace": namespace, "name": name },
        "spec": spec,
    })
}

/// The arguments of helm that all tests here install with, and more.
pub(crate) fn values<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["--set", "agent.removalGrace=5s"], more].concat()
}

/// One of a list of conditions; null if it is not there.
pub(crate) fn condition(conditions: &Value, kind: &str) -> Value {
    let found = conditions
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["type"] == kind);
    found.cloned().unwrap_or_default()
}

/// Tells a time that was measured; shown with `--nocapture`.
#[expect(clippy::print_stdout, reason = "a measured time is to be read")]
pub(crate) fn tell(text: &str) {
    println!("{text}");
}
