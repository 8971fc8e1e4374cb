//! Install, upgrade, uninstall, and what is left.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use callgate::api::{SeccompNode, SeccompNodeReport};
use harness::{Cluster, eventually};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Node, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::{agent, chart, refused};

/// Every object of the cluster that names Callgate, Helm or the namespace `tools`, sorted. The rest is the API server's own,
/// which makes some of it late.
pub(crate) async fn objects(cluster: &Cluster) -> Result<Vec<String>> {
    let kinds = cluster
        .kubectl(&["api-resources", "--verbs=list", "--output=name"], "")
        .await?
        .ok()?;
    let kinds: Vec<_> = kinds
        .lines()
        // Of a definition it makes another object, which goes with it; these are events, and what is deprecated.
        .filter(|kind| {
            !["apiservices", "events", "componentstatuses"]
                .iter()
                .any(|own| kind.starts_with(own))
        })
        .collect();
    let list = ["get", &kinds.join(","), "--all-namespaces", "--output=name"];
    let objects = cluster.kubectl(&list, "").await?.ok()?;
    let mut objects: Vec<_> = objects
        .lines()
        .filter(|object| {
            ["callgate", "helm", "/tools"]
                .iter()
                .any(|name| object.contains(name))
        })
        .map(str::to_owned)
        .collect();
    objects.sort();
    Ok(objects)
}

/// An agent in `namespace`, on a node of this name, reports for its own node and for no other.
async fn holds_agents_to_their_nodes(cluster: &Cluster, namespace: &str, node: &str) -> Result<()> {
    let reports = Api::<SeccompNode>::all(agent(cluster, namespace, node).await?);
    let own: Node = cluster.node(node, &[]).await?;
    let report = |name: &str| {
        let mut report = SeccompNode::new(name, SeccompNodeReport::default());
        report.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: own.name_any(),
            uid: own.uid().unwrap_or_default(),
            ..OwnerReference::default()
        }]);
        report
    };
    let foreign = reports
        .create(&PostParams::default(), &report("somebody-elses"))
        .await;
    let error = foreign.err().context("it wrote a foreign report")?.to_string();
    let expected = format!("an agent on node {node} writes SeccompNode {node}, not somebody-elses");
    ensure!(error.contains(&expected), "{error}");
    reports.create(&PostParams::default(), &report(node)).await?;
    Ok(())
}

#[tokio::test]
async fn a_release_lives_in_any_namespace_and_leaves_nothing_but_definitions_and_profiles() -> Result<()> {
    let cluster = Cluster::start().await?;
    let chart = chart()?;
    ensure!(objects(&cluster).await?.is_empty());
    let older = older_chart()?;
    let install = [
        "install",
        "mine",
        older.path().to_str().context("the folder's path is not UTF-8")?,
        "--namespace=tools",
        "--create-namespace",
    ];
    let notes = cluster.helm(&install).await?.ok()?;
    ensure!(
        notes.contains("kubectl rollout status daemonset/callgate-agent --namespace tools"),
        "{notes}"
    );
    cluster.in_force("tools").await?;
    holds_agents_to_their_nodes(&cluster, "tools", "one").await?;
    let example = notes
        .split_once("<<EOF\n")
        .and_then(|(_, rest)| rest.split_once("EOF\n"));
    let (profile, _) = example.context("the notes have no example")?;
    cluster.kubectl(&["apply", "-f", "-"], profile).await?.ok()?;

    let agents = Api::<DaemonSet>::namespaced(cluster.admin().await?, "tools");
    assert_eq!(log_format(&agents).await?, "text");
    let upgrade = [
        "upgrade",
        "mine",
        &chart,
        "--namespace=tools",
        "--set=logFormat=json",
    ];
    cluster.helm(&upgrade).await?.ok()?;
    assert_eq!(log_format(&agents).await?, "json");
    let definition = ["get", "crd", "seccompprofiles.callgate.dev", "-o", "yaml"];
    let definition = cluster.kubectl(&definition, "").await?.ok()?;
    ensure!(definition.contains(DESCRIPTION), "{definition}");

    let second = [
        "install",
        "mine",
        &chart,
        "--namespace=elsewhere",
        "--create-namespace",
    ];
    refused(
        "a second one in another namespace",
        &cluster.helm(&second).await?,
        "Callgate is installed in this cluster already, as release mine in namespace tools, and a cluster takes one.",
    )?;
    let second = ["install", "another", &chart, "--namespace=tools"];
    refused(
        "a second one in the same namespace",
        &cluster.helm(&second).await?,
        "uninstall it first (helm uninstall mine --namespace tools)",
    )?;

    cluster
        .helm(&["uninstall", "mine", "--namespace=tools"])
        .await?
        .ok()?;
    assert_eq!(
        objects(&cluster).await?,
        [
            "customresourcedefinition.apiextensions.k8s.io/seccompnodes.callgate.dev",
            "customresourcedefinition.apiextensions.k8s.io/seccompprofiles.callgate.dev",
            // Helm made it, and never deletes one.
            "namespace/tools",
            // This test's.
            "pod/callgate-agent-one",
            "seccompnode.callgate.dev/one",
            "seccompprofile.callgate.dev/first",
        ]
    );

    let elsewhere = [
        "install",
        "other",
        &chart,
        "--namespace=elsewhere",
        "--create-namespace",
    ];
    refused(
        "an install beside the definitions of another release",
        &cluster.helm(&elsewhere).await?,
        "seccompnodes.callgate.dev",
    )?;
    cluster
        .helm(&[&elsewhere[..], &["--take-ownership"]].concat())
        .await?
        .ok()?;
    cluster.in_force("elsewhere").await?;
    holds_agents_to_their_nodes(&cluster, "elsewhere", "two").await?;
    cluster
        .kubectl(&["get", "scp", "first", "--namespace=default"], "")
        .await?
        .ok()?;
    Ok(())
}

/// The chart as it was when a definition said something else.
fn older_chart() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let copied = std::process::Command::new("cp")
        .args(["--recursive", &format!("{}/.", chart()?)])
        .arg(folder.path())
        .status()?;
    ensure!(copied.success());
    let definition = folder.path().join("files/crds/seccompprofiles.yaml");
    let text = std::fs::read_to_string(&definition)?;
    ensure!(text.contains(DESCRIPTION));
    std::fs::write(&definition, text.replace(DESCRIPTION, "Older."))?;
    Ok(folder)
}

/// What a column of the definition says of itself.
const DESCRIPTION: &str = "Whether every selected node has it.";

async fn log_format(agents: &Api<DaemonSet>) -> Result<String> {
    let template = agents
        .get("callgate-agent")
        .await?
        .spec
        .context("no spec")?
        .template;
    let containers = template.spec.context("no pod")?.containers;
    let variable = containers[0]
        .env
        .iter()
        .flatten()
        .find(|variable| variable.name == "CALLGATE_LOG_FORMAT");
    variable
        .and_then(|variable| variable.value.clone())
        .context("it is not told how to log")
}

#[tokio::test]
async fn what_kubectl_applied_takes_any_namespace_with_its_policies_refuses_a_second_and_moves_to_helm()
-> Result<()> {
    let cluster = Cluster::start().await?;
    let folder = tempfile::tempdir()?;
    // A kustomization names folders by relative paths only.
    let here = folder.path().canonicalize()?;
    let deploy = harness::repository().join("deploy").canonicalize()?;
    let up = "../".repeat(here.components().count() - 1);
    let relative = format!("{up}{}", deploy.strip_prefix("/")?.display());
    std::fs::write(
        here.join("kustomization.yaml"),
        format!("namespace: moved\nresources: [{relative}]\n"),
    )?;
    let folder = here.to_str().context("the folder's path is not UTF-8")?;
    cluster
        .kubectl(&["apply", "--server-side", "-k", folder], "")
        .await?
        .ok()?;
    cluster.in_force("moved").await?;
    holds_agents_to_their_nodes(&cluster, "moved", "one").await?;
    let workloads_and_rights = [
        "get",
        "ds,deploy,role,rolebinding,sa,pdb",
        "--all-namespaces",
        "-o",
    ];
    let namespaces = cluster
        .kubectl(
            &[
                &workloads_and_rights[..],
                &["jsonpath={.items[*].metadata.namespace}"],
            ]
            .concat(),
            "",
        )
        .await?
        .ok()?;
    let callgates: BTreeSet<_> = namespaces
        .split(' ')
        .filter(|name| *name != "kube-system" && *name != "kube-public")
        .collect();
    assert_eq!(callgates, BTreeSet::from(["moved"]));

    // A second one by kubectl does not get the rights of the first, whichever way that was installed.
    let deploy = deploy.to_str().context("the path is not UTF-8")?;
    let second = ["apply", "--server-side", "-k", deploy];
    let taken = "Callgate is installed in this cluster already, in namespace moved, and a cluster takes one";
    let dry_run = [&second[..], &["--dry-run=server"]].concat();
    eventually("the policy on rights to be in force", async || {
        refused("a second one", &cluster.kubectl(&dry_run, "").await?, taken)
    })
    .await?;
    refused(
        "a second one by kubectl",
        &cluster.kubectl(&second, "").await?,
        taken,
    )?;
    assert_eq!(namespaces_with_rights(&cluster).await?, "moved moved");

    let chart = chart()?;
    let elsewhere = [
        "install",
        "mine",
        &chart,
        "--namespace=elsewhere",
        "--create-namespace",
    ];
    refused(
        "a release in another namespace",
        &cluster
            .helm(&[&elsewhere[..], &["--take-ownership"]].concat())
            .await?,
        "Callgate is installed in this cluster already, in namespace moved and not by Helm",
    )?;
    let here = [
        "install",
        "mine",
        &chart,
        "--namespace=moved",
        "--take-ownership",
        "--force-conflicts",
    ];
    cluster.helm(&here).await?.ok()?;

    let second = cluster.kubectl(&second, "").await?;
    refused(
        "a second one by kubectl",
        &second,
        "conflict with \"helm\": .subjects",
    )?;
    let forced = ["apply", "--server-side", "--force-conflicts", "-k", deploy];
    refused(
        "a second one that is forced",
        &cluster.kubectl(&forced, "").await?,
        taken,
    )?;
    assert_eq!(namespaces_with_rights(&cluster).await?, "moved moved");
    Ok(())
}

/// Where the agents and the controller are that have the rights.
async fn namespaces_with_rights(cluster: &Cluster) -> Result<String> {
    let bindings = [
        "get",
        "clusterrolebinding",
        "callgate-agent",
        "callgate-controller",
        "-o",
        "jsonpath={.items[*].subjects[*].namespace}",
    ];
    cluster.kubectl(&bindings, "").await?.ok()
}

/// Creates a pod of this template, as a Deployment or `DaemonSet` would, and says what the API server answered.
async fn create_pod(
    cluster: &Cluster,
    namespace: &str,
    template: &PodTemplateSpec,
) -> Result<harness::Output> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "of-template-", "namespace": namespace},
        "spec": template.spec,
    });
    cluster.kubectl(&["create", "-f", "-"], &pod.to_string()).await
}

#[tokio::test]
async fn a_controller_passes_restricted_and_an_agent_lacks_one_volume_for_baseline() -> Result<()> {
    let cluster = Cluster::start().await?;
    let namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: strict, labels: \
                     {pod-security.kubernetes.io/enforce: restricted}}}";
    cluster.kubectl(&["create", "-f", "-"], namespace).await?.ok()?;
    let chart = chart()?;
    let notes = cluster
        .helm(&["install", "mine", &chart, "--namespace=strict"])
        .await?
        .ok()?;
    ensure!(
        notes.contains("NO AGENT CAN START YET: this namespace enforces PodSecurity \"restricted\""),
        "{notes}"
    );

    let admin = cluster.admin().await?;
    let controller = Api::<Deployment>::namespaced(admin.clone(), "strict")
        .get("callgate-controller")
        .await?
        .spec
        .context("no spec")?
        .template;
    let agent = Api::<DaemonSet>::namespaced(admin, "strict")
        .get("callgate-agent")
        .await?
        .spec
        .context("no spec")?
        .template;
    create_pod(&cluster, "strict", &controller).await?.ok()?;
    refused(
        "an agent under restricted",
        &create_pod(&cluster, "strict", &agent).await?,
        // The directory and its owner, and nothing else: no capability, no privilege escalation, a seccomp profile.
        "violates PodSecurity \"restricted:latest\": restricted volume types (volume \"seccomp\" uses restricted volume \
         type \"hostPath\"), runAsNonRoot != true (pod or container \"agent\" must set \
         securityContext.runAsNonRoot=true), runAsUser=0 (container \"agent\" must not set runAsUser=0)\n",
    )?;

    let label = async |level: &str| {
        let label = format!("pod-security.kubernetes.io/enforce={level}");
        cluster
            .kubectl(&["label", "--overwrite", "namespace", "strict", &label], "")
            .await?
            .ok()
    };
    label("baseline").await?;
    eventually("the namespace to enforce baseline", async || {
        refused(
            "an agent under baseline",
            &create_pod(&cluster, "strict", &agent).await?,
            // And nothing else.
            "violates PodSecurity \"baseline:latest\": hostPath volumes (volume \"seccomp\")\n",
        )
    })
    .await?;
    // The line of the notes.
    label("privileged").await?;
    eventually("the namespace to enforce nothing", async || {
        create_pod(&cluster, "strict", &agent).await?.ok()
    })
    .await?;
    Ok(())
}
