//! The policies on workloads, and those that are off by default.

use anyhow::{Context as _, Result, anyhow, ensure};
use callgate::api::SeccompProfile;
use callgate::profile::{listener_allowed, parse_spec};
use harness::{Cluster, Output, eventually};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{chart, refused};

/// One cluster for the tests of this file, with every policy on.
async fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER
        .get_or_try_init(async || {
            let cluster = Cluster::start().await?;
            let chart = chart()?;
            let install = [
                "install",
                "mine",
                &chart,
                "--namespace=tools",
                "--create-namespace",
                "--set=policies.ownNamespace.enabled=true",
                "--set=policies.ownNamespace.sharedProfiles={shared/*,base/web}",
                "--set=policies.listenerPrefixes=true",
                "--set=listenerPrefixes={/run/agents/,/var//run/./more}",
            ];
            cluster.helm(&install).await?.ok()?;
            cluster.in_force("tools").await?;
            for namespace in ["shop", "shared", "base", "foreign"] {
                cluster.namespace(namespace).await?;
            }
            for namespace in ["shop", "shared", "foreign"] {
                invalid_profile(&cluster, namespace, "bad").await?;
            }
            let dry_run = ["create", "--dry-run=server", "-f", "-"];
            eventually("every policy to be in force", async || {
                for path in [
                    "callgate/shop/bad.json",
                    "callgate/shared/bad.json",
                    "callgate/bad.json",
                ] {
                    let output = cluster.kubectl(&dry_run, &pod("shop", path).to_string()).await?;
                    ensure!(output.stderr.contains("Warning: "), "{path}: {output:?}");
                }
                let foreign = pod("shop", "callgate/foreign/bad.json").to_string();
                let output = cluster.kubectl(&dry_run, &foreign).await?;
                refused("a foreign profile", &output, "ValidatingAdmissionPolicy")?;
                let output = cluster.kubectl(&dry_run, &listener("/tmp/socket")).await?;
                refused("a listener", &output, "ValidatingAdmissionPolicy")
            })
            .await?;
            Ok(cluster)
        })
        .await
}

fn profile(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "callgate.dev/v1alpha1",
        "kind": "SeccompProfile",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"defaultAction": "SCMP_ACT_ALLOW"},
    })
}

/// Makes a profile, and says in its status what a controller would say of an invalid one.
async fn invalid_profile(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    let object = profile(namespace, name).to_string();
    cluster.kubectl(&["create", "-f", "-"], &object).await?.ok()?;
    let status = json!({"status": {
        "observedGeneration": 1,
        "conditions": [{
            "type": "Valid",
            "status": "False",
            "reason": "Invalid",
            "message": "spec.syscalls[0]: is wrong",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    }});
    Api::<SeccompProfile>::namespaced(cluster.admin().await?, namespace)
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    Ok(())
}

fn confined(path: &str) -> Value {
    json!({"seccompProfile": {"type": "Localhost", "localhostProfile": path}})
}

fn pod_spec(path: &str) -> Value {
    json!({
        "securityContext": confined(path),
        "restartPolicy": "Never",
        "containers": [{"name": "a", "image": "a"}],
    })
}

fn pod(namespace: &str, path: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": "pod"},
        "spec": pod_spec(path),
    })
}

/// A profile with a listener at this path.
fn listener(path: &str) -> String {
    let mut object = profile("shop", "listener");
    object["spec"]["listenerPath"] = json!(path);
    object["spec"]["syscalls"] = json!([{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]);
    object.to_string()
}

/// What the API server says to whoever would create this.
async fn dry_run(cluster: &Cluster, object: &Value) -> Result<Output> {
    cluster
        .kubectl(&["create", "--dry-run=server", "-f", "-"], &object.to_string())
        .await
}

/// A workload of each kind that makes pods of `spec`.
fn workloads(spec: &Value) -> Vec<Value> {
    let labels = json!({"app": "web"});
    let mut always = spec.clone();
    always["restartPolicy"] = json!("Always");
    let template = json!({"metadata": {"labels": labels}, "spec": always});
    let workload = |version: &str, kind: &str, spec: Value| {
        json!({
            "apiVersion": version,
            "kind": kind,
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": spec,
        })
    };
    let selected = json!({"selector": {"matchLabels": labels}, "template": template});
    let job = json!({"template": {"spec": spec}});
    vec![
        workload("v1", "Pod", spec.clone()),
        workload("apps/v1", "Deployment", selected.clone()),
        workload("apps/v1", "DaemonSet", selected.clone()),
        workload("apps/v1", "StatefulSet", selected.clone()),
        workload("apps/v1", "ReplicaSet", selected),
        workload("batch/v1", "Job", job.clone()),
        workload(
            "batch/v1",
            "CronJob",
            json!({"schedule": "0 0 * * *", "jobTemplate": {"spec": job}}),
        ),
    ]
}

const INVALID: &str = "SeccompProfile shop/bad is invalid; containers that need it get the version before it, or wait \
                       where there is none: spec.syscalls[0]: is wrong";

#[tokio::test]
async fn who_applies_a_workload_of_any_kind_that_names_an_invalid_profile_is_told_why() -> Result<()> {
    let cluster = cluster().await?;
    for workload in workloads(&pod_spec("callgate/shop/bad.json")) {
        let output = dry_run(cluster, &workload).await?;
        ensure!(
            output.success && output.stderr.contains(INVALID),
            "{}: {output:?}",
            workload["kind"]
        );
    }
    // And who changes one, so that it does.
    let mut workload = workloads(&pod_spec("callgate/shop/other.json")).swap_remove(1);
    let apply = ["apply", "--server-side", "-f", "-"];
    let output = cluster.kubectl(&apply, &workload.to_string()).await?;
    ensure!(output.success && output.stderr.is_empty(), "{output:?}");
    workload["spec"]["template"]["spec"]["securityContext"] = confined("callgate/shop/bad.json");
    let output = cluster.kubectl(&apply, &workload.to_string()).await?;
    ensure!(output.success && output.stderr.contains(INVALID), "{output:?}");
    let label = ["label", "deployment", "web", "--namespace=shop", "a=b"];
    let output = cluster.kubectl(&label, "").await?;
    ensure!(
        output.success && output.stderr.is_empty(),
        "a label, which changes no pod: {output:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_invalid_profile_is_seen_at_every_place_and_however_its_path_is_spelt() -> Result<()> {
    let cluster = cluster().await?;
    let container = |path: &str| json!({"name": "b", "image": "b", "securityContext": confined(path)});
    let plain = json!({"name": "a", "image": "a"});
    for spec in [
        json!({"containers": [plain, container("callgate/shop/bad.json")]}),
        json!({"containers": [plain], "initContainers": [container("callgate/shop/bad.json")]}),
        pod_spec("callgate//shop/bad.json"),
        pod_spec("./callgate/shop/./bad.json"),
        pod_spec("callgate/shop/bad.json/"),
    ] {
        for workload in workloads(&spec).into_iter().take(2) {
            let output = dry_run(cluster, &workload).await?;
            ensure!(
                output.success && output.stderr.contains(INVALID),
                "{workload}: {output:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_profile_is_looked_up_for_pods_and_replica_sets_of_controllers() -> Result<()> {
    let cluster = cluster().await?;
    for (label, is_warned) in [
        ("pod-template-hash", false),
        ("controller-revision-hash", false),
        ("batch.kubernetes.io/controller-uid", false),
        ("app", true),
    ] {
        for mut workload in workloads(&pod_spec("callgate/shop/bad.json")) {
            if !["Pod", "ReplicaSet"].contains(&workload["kind"].as_str().unwrap_or_default()) {
                continue;
            }
            workload["metadata"]["labels"] = json!({ label: "x" });
            let output = dry_run(cluster, &workload).await?;
            ensure!(
                output.success && output.stderr.contains(INVALID) == is_warned,
                "{label}: {workload}: {output:?}"
            );
        }
    }
    Ok(())
}

/// The API server gives such a Job the labels of its pods, and with them the one that tells its pods from others.
#[tokio::test]
async fn who_applies_a_job_whose_pods_have_labels_is_told_as_well() -> Result<()> {
    let cluster = cluster().await?;
    let jobs = workloads(&pod_spec("callgate/shop/bad.json"));
    let job = jobs.into_iter().find(|workload| workload["kind"] == "Job");
    let mut job = job.context("there is a Job among them")?;
    job["spec"]["template"]["metadata"] = json!({"labels": {"app": "web"}});
    let create = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
    let output = cluster.kubectl(&create, &job.to_string()).await?;
    ensure!(output.success && output.stderr.contains(INVALID), "{output:?}");
    let created: Value = serde_json::from_str(&output.stdout)?;
    ensure!(
        created["metadata"]["labels"]["batch.kubernetes.io/controller-uid"].is_string(),
        "{created}"
    );
    Ok(())
}

#[tokio::test]
async fn a_shared_profile_is_warned_about_in_every_namespace() -> Result<()> {
    let output = dry_run(cluster().await?, &pod("shop", "callgate/shared/bad.json")).await?;
    ensure!(
        output.success && output.stderr.contains("SeccompProfile shared/bad is invalid"),
        "{output:?}"
    );
    Ok(())
}

#[tokio::test]
async fn nothing_is_said_of_what_is_not_known_to_be_wrong() -> Result<()> {
    let cluster = cluster().await?;
    // Judged, and changed since.
    invalid_profile(cluster, "shop", "changed").await?;
    let change = r#"{"spec": {"defaultAction": "SCMP_ACT_LOG"}}"#;
    let patch = [
        "patch",
        "scp",
        "changed",
        "--namespace=shop",
        "--type=merge",
        "-p",
        change,
    ];
    cluster.kubectl(&patch, "").await?.ok()?;
    let unjudged = profile("shop", "unjudged").to_string();
    cluster.kubectl(&["create", "-f", "-"], &unjudged).await?.ok()?;
    eventually("the policy to see the change", async || {
        let output = dry_run(cluster, &pod("shop", "callgate/shop/changed.json")).await?;
        ensure!(output.success && output.stderr.is_empty(), "{output:?}");
        Ok(())
    })
    .await?;
    let mut unconfined = pod("shop", "callgate/shop/bad.json");
    unconfined["spec"]["securityContext"] = json!({"seccompProfile": {"type": "RuntimeDefault"}});
    for object in [
        pod("shop", "callgate/shop/unjudged.json"),
        pod("shop", "operator/bad.json"),
        pod("shop", "notcallgate/shop/bad.json"),
        // No profile is in this namespace, nor is any there that it may ask about.
        pod("base", "callgate/base/web.json"),
        unconfined,
    ] {
        let output = dry_run(cluster, &object).await?;
        ensure!(output.success && output.stderr.is_empty(), "{object}: {output:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_path_where_no_profile_can_be_is_told_at_once() -> Result<()> {
    let cluster = cluster().await?;
    // As a Deployment: of a pod the policy on namespaces, which is on here, refuses it.
    for path in [
        "callgate/web.json",
        "callgate/shop/web",
        "callgate/shop/web/web.json",
        "callgate/shop/Web.json",
        "callgate/.callgate/record.json",
        "callgate",
    ] {
        let output = dry_run(cluster, &workloads(&pod_spec(path))[1]).await?;
        let expected = format!("{path} is no path of a SeccompProfile");
        ensure!(
            output.success && output.stderr.contains(&expected),
            "{path}: {output:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn without_definitions_or_profiles_pods_are_created_as_ever() -> Result<()> {
    let cluster = Cluster::start().await?;
    let chart = chart()?;
    let install = [
        "install",
        "mine",
        &chart,
        "--namespace=tools",
        "--create-namespace",
    ];
    cluster.helm(&install).await?.ok()?;
    cluster.in_force("tools").await?;
    cluster.namespace("shop").await?;
    let pod = pod("shop", "callgate/shop/bad.json");
    let output = dry_run(&cluster, &pod).await?;
    ensure!(
        output.success && output.stderr.is_empty(),
        "no profile: {output:?}"
    );
    invalid_profile(&cluster, "shop", "bad").await?;
    eventually("the policy to be in force", async || {
        let output = dry_run(&cluster, &pod).await?;
        ensure!(output.success && output.stderr.contains(INVALID), "{output:?}");
        Ok(())
    })
    .await?;

    let definitions = [
        "delete",
        "crd",
        "seccompprofiles.callgate.dev",
        "seccompnodes.callgate.dev",
    ];
    cluster.kubectl(&definitions, "").await?.ok()?;
    dry_run(&cluster, &pod).await?.ok()?;
    eventually(
        "the policy to see that there are no profiles any more",
        async || {
            let output = dry_run(&cluster, &pod).await?;
            if !output.success {
                return Ok(Err(anyhow!("refused meanwhile: {output:?}")));
            }
            ensure!(output.stderr.is_empty(), "{output:?}");
            Ok(Ok(()))
        },
    )
    .await??;
    cluster
        .kubectl(&["create", "-f", "-"], &pod.to_string())
        .await?
        .ok()?;
    Ok(())
}

#[tokio::test]
async fn a_pod_names_profiles_of_its_own_namespace_and_shared_ones() -> Result<()> {
    let cluster = cluster().await?;
    for path in [
        "callgate/shop/web.json",
        "callgate//shop/./web.json",
        "callgate/shared/web.json",
        "callgate/shared/any.thing.json",
        "callgate/base/web.json",
        "operator/web.json",
    ] {
        dry_run(cluster, &pod("shop", path)).await?.ok()?;
    }
    let rule = "is not for pods in namespace shop: they may name callgate/shop/NAME.json, callgate/shared/*, callgate/base/web.json";
    for (path, cleaned) in [
        ("callgate/foreign/web.json", "callgate/foreign/web.json"),
        (".//callgate/./foreign//web.json", "callgate/foreign/web.json"),
        ("callgate/base/other.json", "callgate/base/other.json"),
        ("callgate/web.json", "callgate/web.json"),
        ("callgate/shop/../foreign/web.json", "must not contain '..'"),
    ] {
        let output = dry_run(cluster, &pod("shop", path)).await?;
        refused(path, &output, cleaned)?;
        if !path.contains("..") {
            refused(path, &output, rule)?;
        }
    }
    let container =
        json!({"name": "b", "image": "b", "securityContext": confined("callgate/foreign/web.json")});
    for list in ["containers", "initContainers"] {
        let mut object = pod("shop", "callgate/shop/web.json");
        match object["spec"][list].as_array_mut() {
            Some(containers) => containers.push(container.clone()),
            None => object["spec"][list] = json!([container]),
        }
        refused(list, &dry_run(cluster, &object).await?, rule)?;
    }
    Ok(())
}

#[tokio::test]
async fn an_ephemeral_container_names_no_foreign_profile_either() -> Result<()> {
    let cluster = cluster().await?;
    let mut object = pod("shop", "callgate/shop/web.json");
    object["metadata"]["name"] = json!("debugged");
    cluster
        .kubectl(&["create", "-f", "-"], &object.to_string())
        .await?
        .ok()?;
    let debug = async |path: &str| {
        let containers = json!([{"name": "debug", "image": "a", "securityContext": confined(path)}]);
        let patch = json!({"spec": {"ephemeralContainers": containers}}).to_string();
        let arguments = ["patch", "pod", "debugged", "--namespace=shop"];
        let subresource = ["--subresource=ephemeralcontainers", "-p", &patch];
        cluster
            .kubectl(&[&arguments[..], &subresource].concat(), "")
            .await
    };
    refused(
        "a foreign profile",
        &debug("callgate/foreign/web.json").await?,
        "callgate/foreign/web.json is not for pods in namespace shop",
    )?;
    debug("callgate/shared/web.json").await?.ok()?;
    Ok(())
}

#[tokio::test]
async fn a_listener_is_refused_where_the_proofs_would_refuse_it() -> Result<()> {
    let cluster = cluster().await?;
    let create = ["create", "--dry-run=server", "-f", "-"];
    for (path, allowed) in [
        ("/run/agents/a.sock", true),
        ("/run//agents/./deep/a.sock", true),
        ("/var/run/more/a.sock", true),
        ("/run/agents", false),
        ("/run/agents/.", false),
        ("/run/agents2/a.sock", false),
        ("/run/agents/../a.sock", false),
        ("/run/a.sock", false),
        ("/var/run/containerd/containerd.sock", false),
    ] {
        let object = listener(path);
        let spec = parse_spec(&serde_json::from_str::<Value>(&object)?["spec"])
            .map_err(|findings| anyhow!("{findings:?}"))?;
        let prefixes = ["/run/agents/", "/var//run/./more"].map(str::to_owned);
        assert_eq!(
            listener_allowed(&spec.profile, &prefixes).is_none(),
            allowed,
            "{path}"
        );
        let output = cluster.kubectl(&create, &object).await?;
        if allowed {
            output.ok()?;
            continue;
        }
        let expected = format!(
            "spec.listenerPath: {path} is not allowed: the container runtime would connect to it as root on the node, and \
             this installation allows sockets beneath /run/agents, /var/run/more"
        );
        refused(path, &output, &expected)?;
    }
    Ok(())
}
