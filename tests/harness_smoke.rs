//! The local Kubernetes that the other tests stand on.

use anyhow::{Context as _, Result};
use harness::Cluster;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

async fn review(client: Client) -> Result<SelfSubjectReview> {
    Ok(Api::all(client)
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await?)
}

#[tokio::test]
async fn a_cluster_keeps_its_data_over_a_restart_and_leaves_nothing_behind() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let client = cluster.admin().await?;
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    let map = ConfigMap {
        metadata: named("kept"),
        ..ConfigMap::default()
    };
    maps.create(&PostParams::default(), &map).await?;

    cluster.stop_apiserver()?;
    assert!(maps.get("kept").await.is_err(), "a stopped API server answered");
    assert!(!cluster.kubectl(&["get", "configmap", "kept"], "").await?.success);
    cluster.start_apiserver().await?;
    maps.get("kept")
        .await
        .context("after the restart, with the client from before")?;
    assert!(
        cluster
            .kubectl(&["get", "configmap", "kept", "-o", "name"], "")
            .await?
            .ok()?
            .contains("kept")
    );

    let processes = cluster.processes();
    let directory = cluster.directory().to_owned();
    assert_eq!(processes.len(), 2);
    drop(cluster);
    for process in processes {
        assert!(
            !std::path::Path::new(&format!("/proc/{process}")).exists(),
            "process {process} is still there"
        );
    }
    assert!(!directory.exists(), "{} is still there", directory.display());
    Ok(())
}

#[tokio::test]
async fn a_token_of_an_agents_pod_names_the_pods_node() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.namespace(harness::NAMESPACE).await?;
    let accounts = Api::<ServiceAccount>::namespaced(cluster.admin().await?, harness::NAMESPACE);
    let account = ServiceAccount {
        metadata: named(harness::AGENT_SERVICE_ACCOUNT),
        ..ServiceAccount::default()
    };
    accounts.create(&PostParams::default(), &account).await?;

    let client = cluster.agent_client("north").await?;
    let user = review(client)
        .await?
        .status
        .and_then(|status| status.user_info)
        .context("no answer")?;
    assert_eq!(
        user.username.as_deref(),
        Some("system:serviceaccount:callgate:callgate-agent")
    );
    let extra = user.extra.unwrap_or_default();
    assert_eq!(
        extra.get("authentication.kubernetes.io/node-name"),
        Some(&vec!["north".to_owned()])
    );
    assert_eq!(
        extra.get("authentication.kubernetes.io/pod-name"),
        Some(&vec!["callgate-agent-north".to_owned()])
    );
    Ok(())
}

#[tokio::test]
async fn requests_are_counted_by_verb_and_resource() -> Result<()> {
    let cluster = Cluster::start().await?;
    let maps = Api::<ConfigMap>::namespaced(cluster.admin().await?, "default");
    let posts = async || -> Result<u64> {
        let request = harness::Request {
            verb: "POST".to_owned(),
            resource: "configmaps".to_owned(),
        };
        Ok(cluster
            .requests()
            .await?
            .get(&request)
            .copied()
            .unwrap_or_default())
    };
    let before = posts().await?;
    for name in ["one", "two", "three"] {
        let map = ConfigMap {
            metadata: named(name),
            ..ConfigMap::default()
        };
        maps.create(&PostParams::default(), &map).await?;
    }
    assert_eq!(posts().await? - before, 3);
    Ok(())
}

#[tokio::test]
async fn an_installed_cluster_serves_the_definitions_and_enforces_the_policies() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    cluster
        .kubectl(&["get", "scp,seccompnodes", "--all-namespaces"], "")
        .await?
        .ok()?;
    let typo = "{apiVersion: callgate.dev/v1alpha1, kind: SeccompProfile, metadata: {name: typo}, \
                spec: {defaultAction: SCMP_ACT_ALLOW, sycalls: []}}";
    let answer = cluster
        .kubectl(&["create", "--validate=false", "-f", "-"], typo)
        .await?;
    assert!(!answer.success && answer.stderr.contains("sycalls"), "{answer:?}");
    Ok(())
}
