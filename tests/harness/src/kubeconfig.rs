//! Kubeconfig files with a token in them.

use std::path::Path;

use anyhow::{Context as _, Result};
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use crate::private;

/// Writes a kubeconfig that holds one cluster (as kubeconfig spells it) and one token.
pub(crate) fn write(path: &Path, cluster: &serde_json::Value, token: &str) -> Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "test", "cluster": cluster }],
        "users": [{ "name": "test", "user": { "token": token } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        "current-context": "test",
    });
    private::write(path, &serde_json::to_vec_pretty(&config)?)
}

/// A client that uses exactly this file.
pub(crate) async fn client(path: &Path) -> Result<kube::Client> {
    let config = Kubeconfig::read_from(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    // As the clients that daemons are given: a refusal is theirs to see.
    config.default_retry = false;
    Ok(kube::Client::try_from(config)?)
}

/// The cluster part (address and certificates) of the current context of a kubeconfig.
pub(crate) fn cluster_of(path: &Path) -> Result<serde_json::Value> {
    let config = Kubeconfig::read_from(path).with_context(|| format!("cannot read {}", path.display()))?;
    let current = config
        .current_context
        .as_deref()
        .context("the kubeconfig has no current-context")?;
    let context = config
        .contexts
        .iter()
        .find(|context| context.name == current)
        .and_then(|context| context.context.as_ref())
        .with_context(|| format!("the kubeconfig has no context {current}"))?;
    let cluster = config
        .clusters
        .iter()
        .find(|cluster| cluster.name == context.cluster)
        .and_then(|cluster| cluster.cluster.as_ref())
        .with_context(|| format!("the kubeconfig has no cluster {}", context.cluster))?;
    Ok(serde_json::to_value(cluster)?)
}
