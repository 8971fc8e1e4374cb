//! One version beside the next: reports of older and newer agents, and definitions that know more than the programs do.
//! Definitions that know less are in `upgrade`.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use callgate::api::{LiveSet, SeccompNode};
use callgate::profile::{Digest, ProfileName};
use harness::{Cluster, eventually};
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::chart;
use crate::running::{Running, TEAM, apply_profile, ready, requests};

/// Gives the definitions what a newer version could: fields at several depths, some with a default, which the API server
/// then puts into every object.
async fn add_fields(cluster: &Cluster) -> Result<()> {
    let schema = |path: &str| format!("/spec/versions/0/schema/openAPIV3Schema/properties/{path}");
    let add = |path: &str, field: Value| json!({"op": "add", "path": schema(path), "value": field});
    let with_default = json!({"type": "string", "default": "as before"});
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let reports = [
        add("future", anything),
        add("mode", with_default.clone()),
        add("versions/properties/runtime", with_default.clone()),
        add("failures/items/properties/since", with_default.clone()),
        add("conditions/items/properties/severity", with_default.clone()),
    ];
    // Not in a spec: what this version does not know there, its policy refuses.
    let profiles = [
        add("status/properties/mode", with_default.clone()),
        add(
            "status/properties/conditions/items/properties/severity",
            with_default,
        ),
    ];
    for (name, patch) in [
        ("seccompnodes", json!(reports)),
        ("seccompprofiles", json!(profiles)),
    ] {
        let definition = format!("{name}.callgate.dev");
        let patch = [
            "patch",
            "crd",
            &definition,
            "--type=json",
            "--patch",
            &patch.to_string(),
        ];
        cluster.kubectl(&patch, "").await?.ok()?;
    }
    Ok(())
}

/// Writes a report as the agent on this node.
async fn write_report(cluster: &Cluster, node: &str, report: Value) -> Result<()> {
    let owner = cluster.node(node, &[]).await?;
    let mut object = json!({
        "apiVersion": "callgate.dev/v1alpha1",
        "kind": "SeccompNode",
        "metadata": {
            "name": node,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": owner.uid()}],
        },
    });
    let fields = report.as_object().context("not an object")?.clone();
    object.as_object_mut().context("not an object")?.extend(fields);
    let reports = Api::<DynamicObject>::all_with(
        cluster.agent_client(node).await?,
        &ApiResource::erase::<SeccompNode>(&()),
    );
    let params = PatchParams::apply("callgate-agent").force();
    reports.patch(node, &params, &Patch::Apply(&object)).await?;
    Ok(())
}

fn condition(type_: &str) -> Value {
    json!({
        "type": type_,
        "status": "True",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "reason": "Synced",
        "message": "",
    })
}

#[tokio::test]
async fn reports_of_older_and_newer_agents_count_and_newer_definitions_cause_no_writes() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.namespace(TEAM).await?;
    let install = [
        "install",
        "callgate",
        &chart()?,
        "--namespace=callgate",
        "--create-namespace",
    ];
    cluster.helm(&install).await?.ok()?;
    cluster.in_force("callgate").await?;
    add_fields(&cluster).await?;

    let root = tempfile::tempdir()?;
    let running = Running::start(&cluster, "callgate", root.path(), "1h").await?;
    // One after the other, so that whoever writes again and again what another changes has the time for it.
    for (name, errno) in [("first", 1), ("second", 2), ("third", 3)] {
        apply_profile(&cluster, name, errno).await?;
        ready(&cluster, &[name]).await?;
    }
    let writes = ["APPLY", "PATCH", "POST", "PUT"];
    // The first report, and each profile: on a busy machine also while it is still to be installed.
    let reports = requests(&cluster, &writes, "seccompnodes").await?;
    ensure!(reports <= 7, "{reports} writes");
    // Each is said to be valid, and to be ready.
    let statuses = requests(&cluster, &writes, "seccompprofiles/status").await?;
    ensure!(statuses <= 6, "{statuses} writes");

    for node in ["older", "newer"] {
        cluster.node(node, &[]).await?;
        cluster.agent_pod(node).await?;
    }
    apply_profile(&cluster, "everywhere", 4).await?;
    let newer = |profiles: &Value, failures: &Value| {
        let mut unknown = condition("Future");
        unknown["severity"] = json!("dire");
        json!({
            "profiles": profiles,
            "failures": failures,
            "inUse": ["team/everywhere"],
            "conditions": [unknown, condition("Synced")],
            "versions": {"agent": "999.0.0", "runtime": "crun 9"},
            "mode": "another",
            "future": {"any": ["thing"]},
        })
    };
    let failure = json!({"profile": "team/everywhere", "generation": 1, "message": "no"});
    let mut failures = json!([{"reason": "Unheard", "total": 1, "profiles": [failure]}]);
    let nothing = serde_json::to_value(LiveSet::default())?;
    let older = json!({"failures": failures, "conditions": [condition("Synced")]});
    write_report(&cluster, "older", older).await?;
    failures[0]["since"] = json!("always");
    write_report(&cluster, "newer", newer(&nothing, &failures)).await?;
    eventually("the failures on both nodes to be told", async || {
        let get = ["get", "scp", "everywhere", "--namespace", TEAM, "--output=json"];
        let profile: Value = serde_json::from_str(&cluster.kubectl(&get, "").await?.ok()?)?;
        let conditions = profile["status"]["conditions"].as_array().context("none")?;
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        let message = ready.and_then(|ready| ready["message"].as_str());
        let message = message.context("no message")?;
        ensure!(
            message.starts_with("Not installed on newer, older: Unheard"),
            "{message}"
        );
        Ok(())
    })
    .await?;

    let name = ProfileName::new(TEAM, "everywhere")?;
    let file = fs::read(root.path().join("callgate/team/everywhere.json"))?;
    let live = serde_json::to_value(LiveSet::from_iter([(&name, &Digest::of(&file))]))?;
    write_report(
        &cluster,
        "older",
        json!({"profiles": live, "conditions": [condition("Synced")]}),
    )
    .await?;
    write_report(&cluster, "newer", newer(&live, &json!([]))).await?;
    ready(&cluster, &["everywhere"]).await?;
    running.terminate().await
}
