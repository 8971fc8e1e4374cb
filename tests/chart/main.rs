//! The Helm chart with the real helm, and what it installs on a real API server.

mod life;
mod policies;
mod rendered;
mod running;
mod skew;
mod taint;
mod uninstall;
mod upgrade;

use anyhow::{Context as _, Result, ensure};
use harness::{AGENT_SERVICE_ACCOUNT, Cluster, Output};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;

/// The chart.
fn chart() -> Result<String> {
    let chart = harness::repository().join("charts/callgate");
    Ok(chart
        .to_str()
        .context("the repository's path is not UTF-8")?
        .to_owned())
}

/// A client with the token that the agent on this node would find in its pod, which is in `namespace`.
async fn agent(cluster: &Cluster, namespace: &str, node: &str) -> Result<Client> {
    cluster.node(node, &[]).await?;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": format!("{AGENT_SERVICE_ACCOUNT}-{node}")},
        "spec": {
            "serviceAccountName": AGENT_SERVICE_ACCOUNT,
            "nodeName": node,
            "containers": [{"name": "agent", "image": "callgate"}],
        },
    }))?;
    let pods = Api::<Pod>::namespaced(cluster.admin().await?, namespace);
    let pod = pods.create(&PostParams::default(), &pod).await?;
    let account = format!("{namespace}/{AGENT_SERVICE_ACCOUNT}");
    cluster
        .client_for(&cluster.token(&account, Some(&pod)).await?)
        .await
}

/// It did not work, and said this.
fn refused(what: &str, output: &Output, message: &str) -> Result<()> {
    ensure!(!output.success, "{what} was taken: {}", output.stdout);
    ensure!(
        output.stderr.contains(message),
        "{what}\nexpected: {message}\nanswered: {}",
        output.stderr
    );
    Ok(())
}
