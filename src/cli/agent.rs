//! `callgate agent`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use prometheus_client::registry::Registry;

use super::run::{self, DaemonArgs};
use crate::agent::{self, Config, Metrics};
use crate::confine::Opening;
use crate::filter::libseccomp_version;
use crate::store::Ground;
use crate::telemetry::{self, Health};

/// Installs the profiles of a cluster on this node, keeps them there, and reports
///
/// Runs as a daemon set, one on every node. The kubelet's seccomp directory must exist; what it holds
/// beside `callgate` is left alone. Ends on SIGTERM and SIGINT; the files stay.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:
  callgate agent --node worker-1 --kubeconfig agent.kubeconfig \\
    --seccomp-root /var/lib/kubelet/seccomp"
)]
pub(super) struct Args {
    /// Name of the Node object of this machine
    #[arg(long, env = "NODE_NAME")]
    node: String,
    /// The kubelet's seccomp directory: seccomp in its root directory
    #[arg(
        long,
        env = "CALLGATE_SECCOMP_ROOT",
        default_value = "/var/lib/kubelet/seccomp"
    )]
    seccomp_root: PathBuf,
    /// How long the file of a deleted profile stays: 30s, 5m, 1h
    #[arg(long, env = "CALLGATE_REMOVAL_GRACE", default_value = "5m", value_parser = super::duration::parse)]
    removal_grace: Duration,
    /// Address of /livez, /readyz and /metrics; all of IPv6 (::) means all of IPv4, too
    #[arg(long, env = "CALLGATE_LISTEN", default_value = "[::]:9440")]
    listen: SocketAddr,
    #[command(flatten)]
    daemon: DaemonArgs,
}

/// How often an agent looks at its whole directory, whatever inotify says: a change that slipped through is
/// mended within a pod's restart back-off (5 minutes).
const RESCAN: Duration = Duration::from_secs(300);

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let Args {
        node,
        seccomp_root,
        removal_grace,
        listen,
        daemon,
    } = args;
    let ground = Ground::prepare(&seccomp_root)?;
    let root = ground.root();
    let openings = vec![
        Opening::List(root),
        // Where there is no directory, the store tries to make one, and so learns when it can be made.
        ground
            .home()
            .map_or(Opening::MakeDirectories(root), Opening::Write),
        Opening::Listen(listen.port()),
    ];
    let bounds = ground.bounds();
    run::with_daemon(daemon, openings, async move |client, prover, confinement| {
        let mut registry = Registry::with_prefix("callgate_agent");
        telemetry::register_build(&mut registry, &libseccomp_version());
        prover.register(&mut registry);
        let metrics = Metrics::register(&mut registry);
        let health = Health::new();
        let config = Config {
            node,
            seccomp_root,
            bounds: confinement.holds_files().then_some(bounds),
            confinement: Some(confinement),
            removal_grace,
            rescan: RESCAN,
        };
        run::daemon(listen, health.clone(), registry, async move |shutdown| {
            Ok(agent::run(client, prover, config, health, metrics, shutdown).await?)
        })
        .await
    })
}
