//! Files that pods use.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::bed::{Bed, NONE, errno, shared};

fn context(path: &str) -> Value {
    json!({"seccompProfile": {"type": "Localhost", "localhostProfile": path}})
}

/// Makes a pod on the bed's node.
async fn pod(bed: &Bed, name: &str, mut spec: Value) -> Result<()> {
    spec["nodeName"] = json!(bed.name);
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "main", "image": "none"}]);
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    let pods: Api<Pod> = Api::namespaced(bed.admin.clone(), &bed.name);
    pods.patch(name, &PatchParams::apply("test"), &Patch::Apply(&pod))
        .await?;
    Ok(())
}

async fn in_use(bed: &Bed, expected: &[&str]) -> Result<()> {
    let expected: Vec<String> = expected
        .iter()
        .map(|profile| format!("{}/{profile}", bed.name))
        .collect();
    bed.reported(&format!("{expected:?} in use"), |report| {
        ensure!(report.spec.in_use == expected);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_pod_uses_outlives_its_profile_in_all_four_places_and_spellings() -> Result<()> {
    let bed = Bed::new("use").await?;
    let agent = bed.start_ready(NONE).await?;
    let profiles = ["container", "ephemeral", "init", "level", "unused"];
    for profile in profiles {
        bed.apply(profile, &errno(1, profile_call(profile))).await?;
    }
    pod(
        &bed,
        "all",
        json!({
            "securityContext": context("callgate//use/./level.json"),
            "initContainers": [{"name": "init", "image": "none", "securityContext": context("./callgate/use//init.json")}],
            "containers": [{"name": "main", "image": "none", "securityContext": context("callgate/use/container.json")}],
        }),
    )
    .await?;
    let debug = json!({"spec": {"ephemeralContainers": [
        {"name": "debug", "image": "none", "securityContext": context("callgate/use/ephemeral.json")},
    ]}});
    let pods: Api<Pod> = Api::namespaced(bed.admin.clone(), "use");
    pods.patch_ephemeral_containers("all", &PatchParams::default(), &Patch::Strategic(&debug))
        .await?;
    in_use(&bed, &["container", "ephemeral", "init", "level"]).await?;

    for profile in profiles {
        bed.installed(profile, &errno(1, profile_call(profile))).await?;
        bed.insist_on_deleting(profile).await?;
    }
    bed.gone("unused").await?;
    bed.caught_up().await?;
    for profile in ["container", "ephemeral", "init", "level"] {
        assert!(
            bed.file(profile).exists(),
            "{profile} was removed under a pod that uses it"
        );
    }
    agent.stop().await?;

    let agent = bed.start_ready(NONE).await?;
    bed.caught_up().await?;
    for profile in ["container", "ephemeral", "init", "level"] {
        assert!(
            bed.file(profile).exists(),
            "{profile} was removed by the next agent"
        );
    }
    agent.stop().await
}

/// So that each profile has bytes of its own.
fn profile_call(profile: &str) -> &'static str {
    match profile {
        "container" => "mount",
        "ephemeral" => "umount2",
        "init" => "reboot",
        "level" => "swapon",
        _ => "swapoff",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_pods_and_pods_elsewhere_do_not_hold_a_file() -> Result<()> {
    let bed = Bed::new("finished").await?;
    shared().await?.node("finished-elsewhere", &[]).await?;
    for (name, phase) in [("done", "Succeeded"), ("broke", "Failed")] {
        pod(
            &bed,
            name,
            json!({"securityContext": context("callgate/finished/p.json")}),
        )
        .await?;
        let pods: Api<Pod> = Api::namespaced(bed.admin.clone(), "finished");
        let status = json!({"status": {"phase": phase}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await?;
    }
    let elsewhere = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "elsewhere"},
        "spec": {
            "nodeName": "finished-elsewhere",
            "securityContext": context("callgate/finished/p.json"),
            "containers": [{"name": "main", "image": "none"}],
        },
    });
    let pods: Api<Pod> = Api::namespaced(bed.admin.clone(), "finished");
    pods.patch(
        "elsewhere",
        &PatchParams::apply("test"),
        &Patch::Apply(&elsewhere),
    )
    .await?;

    let agent = bed.start_ready(NONE).await?;
    let spec = errno(1, "mount");
    bed.apply("p", &spec).await?;
    bed.live("p", &spec).await?;
    in_use(&bed, &[]).await?;
    bed.delete("p").await?;
    bed.gone("p").await?;
    agent.stop().await
}
