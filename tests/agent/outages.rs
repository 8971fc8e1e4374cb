//! Without the API server, without definitions, without rights.

use std::fs;

use anyhow::{Context as _, Result};
use callgate::api::{ConditionStatus, NodeCondition};
use harness::{AGENT_SERVICE_ACCOUNT, Cluster, NAMESPACE};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::bed::{Bed, LONG, NONE, errno};

#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_server_files_are_kept_and_repaired_and_with_it_the_agent_catches_up() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    cluster.install().await?;
    let (old, new) = (errno(1, "mount"), errno(2, "mount"));
    let bed = Bed::on(&cluster, "away").await?;
    let agent = bed.start_ready(NONE).await?;
    bed.apply("p", &old).await?;
    bed.live("p", &old).await?;
    let file = bed.file("p");

    cluster.stop_apiserver()?;
    fs::write(&file, "{}")?;
    bed.installed("p", &old)
        .await
        .context("repaired by the agent that lost its API server")?;
    agent.stop().await?;

    let agent = bed.start(NONE)?;
    // When the stray is gone, the agent knows its directory.
    fs::write(bed.file("stray"), "{}")?;
    bed.gone("stray").await?;
    fs::write(&file, "{}")?;
    bed.installed("p", &old)
        .await
        .context("repaired by an agent that never saw its API server")?;
    assert!(!agent.health.is_ready());
    assert_eq!(agent.health.stuck(), "");

    cluster.start_apiserver().await?;
    agent.ready().await?;
    bed.apply("p", &new).await?;
    bed.installed("p", &new).await?;
    bed.live("p", &new).await?;

    // Once more, under an agent that keeps running.
    cluster.stop_apiserver()?;
    cluster.start_apiserver().await?;
    bed.delete("p").await?;
    bed.gone("p").await?;
    agent.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_and_rights_that_are_missing_are_waited_for() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.namespace(NAMESPACE).await?;
    let accounts = Api::<ServiceAccount>::namespaced(cluster.admin().await?, NAMESPACE);
    let metadata = ObjectMeta {
        name: Some(AGENT_SERVICE_ACCOUNT.to_owned()),
        ..ObjectMeta::default()
    };
    accounts
        .create(
            &PostParams::default(),
            &ServiceAccount {
                metadata,
                ..ServiceAccount::default()
            },
        )
        .await?;
    let bed = Bed::on(&cluster, "early").await?;
    let agent = bed.start(LONG)?;
    cluster.install().await?;
    let spec = errno(1, "mount");
    bed.apply("p", &spec).await?;
    bed.installed("p", &spec).await?;
    agent.ready().await?;
    bed.live("p", &spec).await?;
    agent.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_pods_may_not_be_read_no_file_is_removed_and_the_report_says_why() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    cluster.install().await?;
    let bed = Bed::on(&cluster, "blind").await?;
    let agent = bed.start_ready(NONE).await?;
    let spec = errno(1, "mount");
    bed.apply("p", &spec).await?;
    bed.live("p", &spec).await?;

    let roles = Api::<ClusterRole>::all(bed.admin.clone());
    let granted = roles.get("callgate-agent").await?.rules;
    let mut without = granted.clone().unwrap_or_default();
    for rule in &mut without {
        rule.resources
            .iter_mut()
            .for_each(|names| names.retain(|name| name != "pods"));
    }
    let grant = async |rules: &_| {
        let patch = Patch::Merge(json!({"rules": rules}));
        roles
            .patch("callgate-agent", &PatchParams::default(), &patch)
            .await
    };
    grant(&Some(without)).await?;
    // A watch that is open stays open; the next one is refused.
    cluster.stop_apiserver()?;
    cluster.start_apiserver().await?;
    let message = bed
        .condition(NodeCondition::Synced, ConditionStatus::True, "PodsNotReadable")
        .await?;
    assert!(
        message.contains("may not read pods") && message.contains("no file is removed"),
        "{message}"
    );
    bed.delete("p").await?;
    bed.caught_up().await?;
    assert!(
        bed.file("p").exists(),
        "removed while nobody knew whether a pod uses it"
    );

    grant(&granted).await?;
    bed.gone("p").await?;
    bed.condition(NodeCondition::Synced, ConditionStatus::True, "Synced")
        .await?;
    agent.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_ends_when_told_to_whatever_it_waits_for() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    cluster.install().await?;
    let bed = Bed::on(&cluster, "end").await?;
    cluster.stop_apiserver()?;
    bed.start(LONG)?.stop().await
}
