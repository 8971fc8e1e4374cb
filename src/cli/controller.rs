//! `callgate controller`.

use std::net::SocketAddr;
use std::path::PathBuf;

use prometheus_client::registry::Registry;

use super::{client, run};
use crate::controller::{self, Config, Metrics};
use crate::telemetry::{self, Health, LogFormat};

/// Runs as a Deployment; of several replicas one leads, by a Lease.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  callgate controller --namespace callgate --kubeconfig controller.kubeconfig")]
pub(super) struct Args {
    /// Its own namespace: the Lease and the agents' pods are there
    #[arg(long, env = "POD_NAMESPACE", default_value = "callgate")]
    namespace: String,
    /// Its name as a holder of the Lease, unique among replicas (default: host name and process id)
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
    /// Directory that a profile's listenerPath may lie in; may be given several times (default: none)
    #[arg(
        long = "listener-prefix",
        env = "CALLGATE_LISTENER_PREFIXES",
        value_delimiter = ',',
        value_name = "DIR"
    )]
    listener_prefixes: Vec<String>,
    /// How to reach the API server (default: the service account of the pod)
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "CALLGATE_LISTEN", default_value = "0.0.0.0:9441")]
    listen: SocketAddr,
    /// How log lines look
    #[arg(long, env = "CALLGATE_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let Args {
        namespace,
        identity,
        listener_prefixes,
        kubeconfig,
        listen,
        log_format,
    } = args;
    let identity = identity.unwrap_or_else(|| {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        format!("{host}-{}", std::process::id())
    });
    telemetry::init_logs(log_format);
    run::with_prover(listener_prefixes, async move |prover| {
        let client = client::daemon(kubeconfig).await?;
        let mut registry = Registry::with_prefix("callgate_controller");
        let metrics = Metrics::register(&mut registry);
        let health = Health::new();
        let config = Config { namespace, identity };
        run::daemon(listen, health.clone(), registry, async move |shutdown| {
            Ok(controller::run(client, prover, config, health, metrics, shutdown).await?)
        })
        .await
    })
}
