//! What an uninstall leaves, in which order soever it is done, and that nothing hangs on it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use harness::{Cluster, eventually};
use serde_json::json;

use crate::life::objects;
use crate::running::{NODE, Running, TEAM, apply_profile, files, pod, ready, requests};
use crate::{chart, refused};

/// What a person may do, in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Profiles,
    Definitions,
    Release,
    Namespace,
}

use Step::{Definitions, Namespace, Profiles, Release};

/// That of docs/upgrade.md.
const DOCUMENTED: [Step; 4] = [Profiles, Release, Definitions, Namespace];
/// With these it is as few as hold any three steps in every order.
const OTHERS: [[Step; 4]; 5] = [
    [Profiles, Namespace, Definitions, Release],
    [Release, Namespace, Profiles, Definitions],
    [Definitions, Release, Profiles, Namespace],
    [Definitions, Namespace, Profiles, Release],
    [Namespace, Release, Definitions, Profiles],
];

/// In which Callgate is.
const HERE: &str = "--namespace=callgate";

/// An installation that is taken down.
struct Uninstall<'a> {
    cluster: &'a Cluster,
    running: Option<Running>,
    done: Vec<Step>,
}

impl<'a> Uninstall<'a> {
    fn new(cluster: &'a Cluster, running: Running) -> Self {
        Self {
            cluster,
            running: Some(running),
            done: Vec::new(),
        }
    }

    async fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Profiles => self.delete_profiles().await?,
            Definitions => self.delete_definitions().await?,
            Release => self.uninstall().await?,
            Namespace => self.delete_namespace().await?,
        }
        self.done.push(step);
        // Pods with profiles go on to be made, whatever is left of the policies about them.
        let create = ["create", "--dry-run=server", "-f", "-"];
        let pod = pod("in-between", "web").to_string();
        self.cluster.kubectl(&create, &pod).await?.ok()?;
        Ok(())
    }

    async fn delete_profiles(&self) -> Result<()> {
        let delete = [
            "delete",
            "seccompprofiles.callgate.dev",
            "--all",
            "--all-namespaces",
            "--timeout=30s",
        ];
        let deleted = self.cluster.kubectl(&delete, "").await?;
        if self.definitions_are_gone() {
            return refused("to delete them", &deleted, "doesn't have a resource type");
        }
        deleted.ok()?;
        Ok(())
    }

    async fn delete_definitions(&self) -> Result<()> {
        let delete = [
            "delete",
            "crd",
            "seccompprofiles.callgate.dev",
            "seccompnodes.callgate.dev",
            "--timeout=30s",
        ];
        let deleted = self.cluster.kubectl(&delete, "").await?;
        if self.definitions_are_gone() {
            return refused("to delete them", &deleted, "not found");
        }
        deleted.ok()?;
        Ok(())
    }

    fn definitions_are_gone(&self) -> bool {
        let with_the_release = self.done.contains(&Namespace) && self.done.contains(&Release);
        self.done.contains(&Definitions) || (with_the_release && self.record_was_lost())
    }

    /// Whether the namespace went before the release, and Helm's record of the release with it.
    fn record_was_lost(&self) -> bool {
        let position = |step| self.done.iter().position(|done| *done == step);
        position(Namespace) < position(Release)
    }

    async fn uninstall(&mut self) -> Result<()> {
        let uninstalled = self.cluster.helm(&["uninstall", "callgate", HERE]).await?;
        if self.done.contains(&Namespace) {
            refused("to uninstall it", &uninstalled, "not found")?;
            let manifests = self
                .cluster
                .helm(&["template", "callgate", &chart()?])
                .await?
                .ok()?;
            let delete = ["delete", "--ignore-not-found", "--timeout=30s", "-f", "-"];
            self.cluster.kubectl(&delete, &manifests).await?.ok()?;
            return Ok(());
        }
        uninstalled.ok()?;
        // What the controllers of DaemonSets and Deployments do.
        self.end_pods().await
    }

    async fn end_pods(&mut self) -> Result<()> {
        if let Some(running) = self.running.take() {
            running.terminate().await?;
        }
        let delete = ["delete", "pods", "--all", HERE, "--force", "--grace-period=0"];
        self.cluster.kubectl(&delete, "").await?.ok()?;
        Ok(())
    }

    /// With what the namespace controller does.
    async fn delete_namespace(&mut self) -> Result<()> {
        let delete = ["delete", "namespace", "callgate", "--wait=false"];
        self.cluster.kubectl(&delete, "").await?.ok()?;
        self.end_pods().await?;
        let kinds = "ds,deploy,pdb,role,rolebinding,sa,secret,cm,lease,event";
        let delete = ["delete", kinds, "--all", HERE, "--timeout=30s"];
        self.cluster.kubectl(&delete, "").await?.ok()?;
        let finalized = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "callgate"}});
        let finalize = [
            "replace",
            "--raw",
            "/api/v1/namespaces/callgate/finalize",
            "-f",
            "-",
        ];
        self.cluster
            .kubectl(&finalize, &finalized.to_string())
            .await?
            .ok()?;
        Ok(())
    }
}

/// Installs it, with a profile on the node.
async fn install(cluster: &Cluster, root: &Path, grace: &str) -> Result<Running> {
    let install = ["install", "callgate", &chart()?, HERE, "--create-namespace"];
    cluster.helm(&install).await?.ok()?;
    cluster.in_force("callgate").await?;
    let running = Running::start(cluster, "callgate", root, grace).await?;
    apply_profile(cluster, "web", 1).await?;
    ready(cluster, &["web"]).await?;
    Ok(running)
}

/// All requests for what the definitions define, and for the definitions.
async fn asked(cluster: &Cluster) -> Result<u64> {
    let mut asked = 0;
    for resource in ["seccompprofiles", "seccompnodes", "customresourcedefinitions"] {
        let verbs = [
            "GET",
            "LIST",
            "WATCH",
            "POST",
            "PUT",
            "PATCH",
            "APPLY",
            "DELETE",
            "DELETECOLLECTION",
        ];
        asked += requests(cluster, &verbs, resource).await?;
    }
    Ok(asked)
}

#[test]
fn the_orders_hold_any_three_steps_in_every_order() {
    let mut orders = BTreeSet::new();
    for [a, b, c, d] in OTHERS.into_iter().chain([DOCUMENTED]) {
        orders.extend([[a, b, c], [a, b, d], [a, c, d], [b, c, d]]);
    }
    assert_eq!(orders.len(), 4 * 3 * 2);
}

#[tokio::test]
async fn the_documented_order_leaves_nothing_but_which_cluster_a_node_was_of() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.namespace(TEAM).await?;
    let root = tempfile::tempdir()?;
    let root = root.path();
    let mut uninstall = Uninstall::new(&cluster, install(&cluster, root, "1s").await?);
    for step in DOCUMENTED {
        uninstall.step(step).await.with_context(|| format!("{step:?}"))?;
        if step == Profiles {
            eventually("the agent to remove the files", async || {
                let files = files(root)?;
                ensure!(files.is_empty(), "{files:?}");
                Ok(())
            })
            .await?;
        }
    }
    assert_eq!(objects(&cluster).await?, [""; 0]);
    let left: Vec<_> = fs::read_dir(root.join("callgate"))?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_>>()?;
    assert_eq!(left, [".callgate"]);
    Ok(())
}

#[tokio::test]
async fn in_any_other_order_nothing_hangs_or_stays_but_files() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.namespace(TEAM).await?;
    for order in OTHERS {
        let root = tempfile::tempdir()?;
        let root = root.path();
        let mut uninstall = Uninstall::new(&cluster, install(&cluster, root, "1h").await?);
        let (before, asked_before) = (files(root)?, asked(&cluster).await?);
        ensure!(before.len() == 1, "{before:?}");
        for step in order {
            let done = uninstall.step(step).await;
            done.with_context(|| format!("{step:?} of {order:?}"))?;
        }
        assert_eq!(objects(&cluster).await?, [""; 0], "{order:?}");
        assert_eq!(files(root)?, before, "{order:?}");
        // These were some fifteen.
        let requests = asked(&cluster).await? - asked_before;
        ensure!(requests < 60, "{order:?} took {requests} requests");
    }
    Ok(())
}

#[tokio::test]
async fn an_agent_whose_definitions_are_deleted_keeps_its_files_and_goes_on_once_they_are_back() -> Result<()>
{
    let cluster = Cluster::start().await?;
    cluster.namespace(TEAM).await?;
    let root = tempfile::tempdir()?;
    let root = root.path();
    let running = install(&cluster, root, "1h").await?;
    let before = files(root)?;
    let delete = [
        "delete",
        "crd",
        "seccompprofiles.callgate.dev",
        "seccompnodes.callgate.dev",
    ];
    cluster.kubectl(&delete, "").await?.ok()?;
    for program in [&running.agent, &running.controller] {
        eventually("the definitions to be missed", async || {
            let metrics = program.get("/metrics")?;
            for resource in ["seccompprofiles", "seccompnodes"] {
                let counted = |line: &str| {
                    line.contains("watch_errors_total{") && line.contains(resource) && !line.ends_with(" 0")
                };
                ensure!(metrics.lines().any(counted), "{metrics}");
            }
            Ok(())
        })
        .await?;
        program.get("/livez")?;
        program.get("/readyz")?;
    }
    assert_eq!(files(root)?, before);

    cluster
        .helm(&["upgrade", "callgate", &chart()?, HERE])
        .await?
        .ok()?;
    cluster.in_force("callgate").await?;
    apply_profile(&cluster, "web", 1).await?;
    apply_profile(&cluster, "new", 2).await?;
    ready(&cluster, &["web", "new"]).await?;
    cluster
        .kubectl(&["get", "seccompnodes.callgate.dev", NODE], "")
        .await?
        .ok()?;
    let mut after = files(root)?;
    ensure!(after.remove("team/new.json").is_some());
    assert_eq!(after, before);
    running.terminate().await
}
