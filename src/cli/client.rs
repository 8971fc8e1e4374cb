//! Which API server a subcommand talks to, and as whom.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::text::chain;

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
        .map_err(|error| {
            anyhow!(
                "no cluster to ask: {}; set KUBECONFIG or give --kubeconfig FILE",
                explain("kubeconfig", &error)
            )
        })?,
    };
    Ok(Client::try_from(config)?)
}

async fn from_file(path: PathBuf, context: Option<String>) -> anyhow::Result<Config> {
    let name = format!("kubeconfig {}", path.display());
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| anyhow!(explain(&name, &error)))?;
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| anyhow!(explain(&name, &error)))
}

/// What is wrong with a kubeconfig, which the error may or may not name.
fn explain(name: &str, error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(cause, path) => {
            format!("cannot read kubeconfig {}: {cause}", path.display())
        }
        error => format!("{name}: {}", chain(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_and_what_is_wrong_with_it_are_named_once() {
        let gone = KubeconfigError::ReadConfig(std::io::Error::other("on fire"), "/a/b".into());
        assert_eq!(
            explain("kubeconfig /a/b", &gone),
            "cannot read kubeconfig /a/b: on fire"
        );
        assert_eq!(
            explain("kubeconfig /a/b", &KubeconfigError::LoadContext("dev".to_owned())),
            "kubeconfig /a/b: failed to load current context: dev"
        );
    }
}
