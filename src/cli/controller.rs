//! `callgate controller`.

use std::net::SocketAddr;

use prometheus_client::registry::Registry;

use super::run::{self, DaemonArgs};
use crate::confine::Opening;
use crate::controller::{self, Config, Metrics, TaintKey};
use crate::filter::libseccomp_version;
use crate::telemetry::{self, Health};

/// Judges every profile of a cluster, and says in its status where it is installed
///
/// Runs as a Deployment; of several replicas one leads, by a Lease. Agents do not wait for it: without
/// it profiles still arrive on nodes, and no status changes.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:
  callgate controller --namespace callgate --kubeconfig controller.kubeconfig"
)]
pub(super) struct Args {
    /// Its own namespace: the Lease and the agents' pods are there
    #[arg(long, env = "POD_NAMESPACE", default_value = "callgate")]
    namespace: String,
    /// Its name as a holder of the Lease, unique among replicas (default: host name and process id)
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
    /// Key of a `NoSchedule` taint that nodes join with, to take off once their agent has done its first full sync
    /// (default: no taint is touched)
    #[arg(long, env = "CALLGATE_STARTUP_TAINT", value_name = "KEY")]
    startup_taint: Option<TaintKey>,
    /// Address of /livez, /readyz and /metrics; all of IPv6 (::) means all of IPv4, too
    #[arg(long, env = "CALLGATE_LISTEN", default_value = "[::]:9441")]
    listen: SocketAddr,
    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let Args {
        namespace,
        identity,
        startup_taint,
        listen,
        daemon,
    } = args;
    let identity = identity.unwrap_or_else(|| {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        format!("{host}-{}", std::process::id())
    });
    let openings = vec![Opening::Listen(listen.port())];
    run::with_daemon(daemon, openings, async move |client, prover, _| {
        let mut registry = Registry::with_prefix("callgate_controller");
        telemetry::register_build(&mut registry, &libseccomp_version());
        prover.register(&mut registry);
        let metrics = Metrics::register(&mut registry);
        let health = Health::new();
        let config = Config {
            namespace,
            identity,
            startup_taint,
        };
        run::daemon(listen, health.clone(), registry, async move |shutdown| {
            Ok(controller::run(client, prover, config, health, metrics, shutdown).await?)
        })
        .await
    })
}
