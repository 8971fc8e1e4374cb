//! The startup taint: taken off by the controller's own rights, which a policy narrows to just that.

use anyhow::{Context as _, Result, ensure};
use callgate::api::SeccompNode;
use callgate::controller::{self, Config, Metrics};
use callgate::proof::Prover;
use callgate::telemetry::Health;
use callgate::testload::{Client as TestLoad, ForkServer, Limits};
use harness::{CONTROLLER_SERVICE_ACCOUNT, Cluster, eventually};
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::chart;

const KEY: &str = "example.com/wait";

/// A cluster where the chart takes off a taint of this key, with a client that has the controller's rights.
async fn start() -> Result<(Cluster, Client)> {
    let cluster = Cluster::start().await?;
    let install = [
        "install",
        "mine",
        &chart()?,
        "--namespace=tools",
        "--create-namespace",
        "--set=agent.startupTaint.enabled=true",
        &format!("--set=agent.startupTaint.key={KEY}"),
    ];
    cluster.helm(&install).await?.ok()?;
    cluster.in_force("tools").await?;
    let account = format!("tools/{CONTROLLER_SERVICE_ACCOUNT}");
    let client = cluster.client_for(&cluster.token(&account, None).await?).await?;
    Ok((cluster, client))
}

fn taint(key: &str, effect: &str) -> Value {
    json!({"key": key, "effect": effect})
}

async fn join(cluster: &Cluster, name: &str, taints: &[Value]) -> Result<Node> {
    cluster.node(name, &[]).await?;
    let nodes = Api::<Node>::all(cluster.admin().await?);
    let patch = Patch::Merge(json!({"spec": {"taints": taints}}));
    Ok(nodes.patch(name, &PatchParams::default(), &patch).await?)
}

/// What an agent writes.
async fn report(cluster: &Cluster, node: &str, owner: &str, synced: &str) -> Result<()> {
    let report = json!({
        "apiVersion": "callgate.dev/v1alpha1",
        "kind": "SeccompNode",
        "metadata": {
            "name": node,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": owner}],
        },
        "conditions": [{
            "type": "Synced",
            "status": synced,
            "reason": "Because",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    });
    let reports = Api::<SeccompNode>::all(cluster.admin().await?);
    let parameters = PatchParams::apply("test").force();
    reports.patch(node, &parameters, &Patch::Apply(report)).await?;
    Ok(())
}

async fn taints(cluster: &Cluster, node: &str) -> Result<Vec<(String, String)>> {
    let node = Api::<Node>::all(cluster.admin().await?).get(node).await?;
    let taints: Vec<Taint> = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    Ok(taints
        .into_iter()
        .map(|taint| (taint.key, taint.effect))
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_loses_its_startup_taint_and_no_other_once_its_agent_has_synced() -> Result<()> {
    let (cluster, client) = start().await?;
    let others = [taint("dedicated", "NoSchedule"), taint(KEY, "NoExecute")];
    let all = [others[0].clone(), taint(KEY, "NoSchedule"), others[1].clone()];
    let first = join(&cluster, "first", &all).await?;
    let again = join(&cluster, "again", &all).await?;
    report(
        &cluster,
        "first",
        &first.uid().context("a Node has a uid")?,
        "False",
    )
    .await?;
    // The report of a Node of this name that is gone.
    report(&cluster, "again", "00000000-0000-4000-8000-000000000000", "True").await?;

    let server = ForkServer::start_program(
        std::path::Path::new(env!("CARGO_BIN_EXE_callgate")),
        Limits::default(),
    )?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let (health, shutdown) = (Health::new(), CancellationToken::new());
    let config = Config {
        namespace: "tools".to_owned(),
        identity: "replica".to_owned(),
        startup_taint: Some(KEY.parse().map_err(anyhow::Error::msg)?),
    };
    let prover = Prover::new(TestLoad::new(server), Vec::new());
    let run = controller::run(client, prover, config, health, metrics, shutdown.clone());
    let running = tokio::spawn(run);

    let third = join(&cluster, "third", &all).await?;
    report(
        &cluster,
        "third",
        &third.uid().context("a Node has a uid")?,
        "True",
    )
    .await?;
    let left = || -> Vec<(String, String)> {
        vec![
            ("dedicated".to_owned(), "NoSchedule".to_owned()),
            (KEY.to_owned(), "NoExecute".to_owned()),
        ]
    };
    eventually("the node whose agent has synced to lose its taint", async || {
        let found = taints(&cluster, "third").await?;
        ensure!(found == left(), "{found:?}");
        Ok(())
    })
    .await?;
    // The controller has seen these reports before that one.
    for node in ["first", "again"] {
        ensure!(taints(&cluster, node).await?.len() == 3, "{node}");
    }
    report(
        &cluster,
        "first",
        &first.uid().context("a Node has a uid")?,
        "True",
    )
    .await?;
    report(
        &cluster,
        "again",
        &again.uid().context("a Node has a uid")?,
        "True",
    )
    .await?;
    eventually("the others to lose it as well", async || {
        for node in ["first", "again"] {
            let found = taints(&cluster, node).await?;
            ensure!(found == left(), "{node}: {found:?}");
        }
        Ok(())
    })
    .await?;
    shutdown.cancel();
    running.await??;
    Ok(())
}

#[tokio::test]
async fn the_controllers_rights_on_nodes_take_off_that_taint_and_do_nothing_else() -> Result<()> {
    let (cluster, client) = start().await?;
    join(
        &cluster,
        "held",
        &[taint("dedicated", "NoSchedule"), taint(KEY, "NoSchedule")],
    )
    .await?;
    let nodes = Api::<Node>::all(client);
    let cordoned = json!({"spec": {"unschedulable": true}});
    // A policy may be in force some seconds after it was made; until then this is a right to cordon nodes.
    eventually("the policy on the controller's rights", async || {
        let dry_run = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let taken = nodes.patch("held", &dry_run, &Patch::Merge(&cordoned)).await;
        ensure!(taken.is_err(), "a dry run cordoned it");
        Ok(())
    })
    .await?;
    for (what, patch, message) in [
        (
            "cordons",
            cordoned.clone(),
            "changes nothing in the spec of a Node but one taint",
        ),
        (
            "labels",
            json!({"metadata": {"labels": {"role": "mine"}}}),
            "changes nothing in the metadata",
        ),
        (
            "annotates",
            json!({"metadata": {"annotations": {"a": "b"}}}),
            "changes nothing in the metadata",
        ),
        (
            "takes off another taint",
            json!({"spec": {"taints": [taint(KEY, "NoSchedule")]}}),
            "removes only the taint example.com/wait:NoSchedule",
        ),
        (
            "adds a taint",
            json!({"spec": {"taints": [taint("dedicated", "NoSchedule"), taint("more", "NoExecute")]}}),
            "removes only the taint example.com/wait:NoSchedule",
        ),
    ] {
        let outcome = nodes
            .patch("held", &PatchParams::default(), &Patch::Merge(patch))
            .await;
        match outcome {
            Ok(_) => anyhow::bail!("{what}: taken"),
            Err(error) => ensure!(error.to_string().contains(message), "{what}: {error}"),
        }
    }
    let status = Patch::Merge(json!({"status": {"phase": "Running"}}));
    let outcome = nodes.patch_status("held", &PatchParams::default(), &status).await;
    ensure!(
        outcome
            .as_ref()
            .is_err_and(|error| error.to_string().contains("forbidden")),
        "{outcome:?}"
    );
    let only_it = Patch::Merge(json!({"spec": {"taints": [taint("dedicated", "NoSchedule")]}}));
    nodes.patch("held", &PatchParams::default(), &only_it).await?;
    ensure!(taints(&cluster, "held").await?.len() == 1, "it is taken off");
    Ok(())
}
