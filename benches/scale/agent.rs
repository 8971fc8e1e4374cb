//! One agent of many in this process: the product's own code, with a node, a token and a directory of its own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use callgate::agent::{self, Config, Metrics};
use callgate::proof::Prover;
use callgate::telemetry::Health;
use harness::Cluster;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long the file of a deleted profile stays: short, so that a deletion can be seen through.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// As the agent's command has it.
const RESCAN: Duration = Duration::from_secs(300);
/// How long an agent may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) struct Agent {
    pub(crate) node: String,
    pub(crate) root: PathBuf,
    token: String,
    running: Option<Running>,
}

struct Running {
    health: Health,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), agent::Error>>,
}

impl Agent {
    /// With its Node, its pod and its directory made.
    pub(crate) async fn new(cluster: &Cluster, node: String, root: PathBuf) -> Result<Self> {
        std::fs::create_dir(&root)?;
        Ok(Self {
            token: cluster.agent_token(&node).await?,
            node,
            root,
            running: None,
        })
    }

    /// A client with the agent's identity, and connections of its own.
    pub(crate) async fn client(&self, cluster: &Cluster) -> Result<kube::Client> {
        cluster.client_for(&self.token).await
    }

    /// Starts it; the prover is that of all.
    pub(crate) async fn start(&mut self, cluster: &Cluster, prover: &Prover) -> Result<()> {
        let health = Health::new();
        let shutdown = CancellationToken::new();
        let config = Config {
            node: self.node.clone(),
            seccomp_root: self.root.clone(),
            // It would shut in all of this process.
            confinement: None,
            bounds: None,
            removal_grace: GRACE,
            rescan: RESCAN,
        };
        let run = agent::run(
            self.client(cluster).await?,
            prover.clone(),
            config,
            health.clone(),
            Metrics::register(&mut Registry::default()),
            shutdown.clone(),
        );
        self.running = Some(Running {
            health,
            shutdown,
            task: tokio::spawn(run),
        });
        Ok(())
    }

    /// Waits until its readiness probe would pass.
    pub(crate) async fn ready(&self) -> Result<()> {
        let running = self.running.as_ref().context("the agent does not run")?;
        let ready = async {
            while !running.health.is_ready() {
                if running.task.is_finished() {
                    bail!("the agent of {} ended", self.node);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        let in_time = tokio::time::timeout(PATIENCE, ready).await;
        in_time.with_context(|| format!("the agent of {} is not ready", self.node))?
    }

    /// Ends it as SIGTERM does; nothing where it does not run.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        running.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, running.task).await;
        let ended = ended.with_context(|| format!("the agent of {} does not end", self.node))?;
        Ok(ended??)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| !running.task.is_finished())
    }
}
