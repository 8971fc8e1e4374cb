//! Which API server a subcommand talks to, and as whom.

use std::path::PathBuf;

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// For a daemon: the given file, or the service account of the pod that it runs in. Never a person's current
/// context by accident.
pub(super) async fn daemon(kubeconfig: Option<PathBuf>) -> anyhow::Result<Client> {
    let config = match kubeconfig {
        Some(path) => from_file(path, None).await?,
        None => Config::incluster().context(
            "not in a pod with a service account; outside a cluster, --kubeconfig FILE says which to use",
        )?,
    };
    Ok(Client::try_from(config)?)
}

/// For a person: as kubectl finds it.
pub(super) async fn person(kubeconfig: Option<PathBuf>, context: Option<String>) -> anyhow::Result<Client> {
    let config = match kubeconfig {
        Some(path) => from_file(path, context).await?,
        None => Config::from_kubeconfig(&KubeConfigOptions {
            context,
            ..KubeConfigOptions::default()
        })
        .await
        .context("no cluster to ask: set KUBECONFIG or give --kubeconfig FILE")?,
    };
    Ok(Client::try_from(config)?)
}

async fn from_file(path: PathBuf, context: Option<String>) -> anyhow::Result<Config> {
    let name = path.display().to_string();
    let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("cannot read kubeconfig {name}"))?;
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .with_context(|| format!("kubeconfig {name} does not say how to reach a cluster"))
}
