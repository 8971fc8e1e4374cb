//! `callgate agent`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use prometheus_client::registry::Registry;

use super::{client, run};
use crate::agent::{self, Config, Metrics};
use crate::telemetry::{self, Health, LogFormat};

/// Runs as a `DaemonSet`, one on every node.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  callgate agent --node worker-1 --kubeconfig agent.kubeconfig \\
    --seccomp-root /var/lib/kubelet/seccomp")]
pub(super) struct Args {
    /// Name of the Node object of this machine
    #[arg(long, env = "NODE_NAME")]
    node: String,
    /// The kubelet's seccomp directory, `seccomp` in its root directory
    #[arg(
        long,
        env = "CALLGATE_SECCOMP_ROOT",
        default_value = "/var/lib/kubelet/seccomp"
    )]
    seccomp_root: PathBuf,
    /// How long the file of a deleted profile stays: 30s, 5m, 1h
    #[arg(long, env = "CALLGATE_REMOVAL_GRACE", default_value = "5m", value_parser = super::duration::parse)]
    removal_grace: Duration,
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
    #[arg(long, env = "CALLGATE_LISTEN", default_value = "0.0.0.0:9440")]
    listen: SocketAddr,
    /// How log lines look
    #[arg(long, env = "CALLGATE_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// How often an agent looks at its whole directory, whatever inotify says: a change that slipped through is
/// mended within a pod's restart back-off (5 minutes).
const RESCAN: Duration = Duration::from_secs(300);

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let Args {
        node,
        seccomp_root,
        removal_grace,
        listener_prefixes,
        kubeconfig,
        listen,
        log_format,
    } = args;
    telemetry::init_logs(log_format);
    run::with_prover(listener_prefixes, async move |prover| {
        let client = client::daemon(kubeconfig).await?;
        let mut registry = Registry::with_prefix("callgate_agent");
        let metrics = Metrics::register(&mut registry);
        let health = Health::new();
        let config = Config {
            node,
            seccomp_root,
            removal_grace,
            rescan: RESCAN,
        };
        run::daemon(listen, health.clone(), registry, async move |shutdown| {
            Ok(agent::run(client, prover, config, health, metrics, shutdown).await?)
        })
        .await
    })
}
