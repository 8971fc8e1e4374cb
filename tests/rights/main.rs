//! What agents, the controller and people may do in a cluster: what they need, and nothing else.

mod life;
mod right;
mod writes;

use anyhow::{Context as _, Result};
use harness::{Cluster, NAMESPACE};

/// Installs the chart, or makes the release another, with these `--set`s.
async fn install(cluster: &Cluster, values: &[&str]) -> Result<()> {
    let chart = harness::repository().join("charts/callgate");
    let chart = chart.to_str().context("the repository's path is not UTF-8")?;
    let namespace = format!("--namespace={NAMESPACE}");
    let install = [
        "upgrade",
        "--install",
        "mine",
        chart,
        &namespace,
        "--create-namespace",
    ];
    cluster.helm(&[&install, values].concat()).await?.ok()?;
    cluster.in_force(NAMESPACE).await
}
