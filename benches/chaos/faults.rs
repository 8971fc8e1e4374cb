//! Agents and a controller behind a faulty API server, during churn; then the faults stop, and everything must come to
//! what a model says.

mod churn;
mod model;
mod proxy;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use harness::{Cluster, NAMESPACE, Program};

use self::churn::Churn;
use self::proxy::Proxy;
use crate::callgate;
use crate::report::Outcome;

/// Short, so that removals happen during the churn.
const GRACE: &str = "2s";
/// How long after the end of the churn the faults go on. A profile counts as used for a minute after its last pod.
const QUIET: Duration = Duration::from_secs(65);
/// How long after the end of the faults everything may take.
const SETTLED: Duration = Duration::from_secs(120);
/// How often the disks are looked at meanwhile.
const LOOK: Duration = Duration::from_millis(500);

/// Everything that runs.
struct Bed {
    cluster: Cluster,
    proxy: Proxy,
    controller: Program,
    agents: Vec<Agent>,
}

struct Agent {
    node: String,
    root: PathBuf,
    kubeconfig: PathBuf,
    program: Program,
}

pub(crate) async fn run(
    nodes: u8,
    time: Duration,
    outcome: &mut Outcome,
    random: &mut fastrand::Rng,
) -> Result<()> {
    let mut bed = Bed::start(nodes, fastrand::Rng::with_seed(random.u64(..))).await?;
    let mut churn = Churn::start(&bed.cluster, nodes).await?;
    bed.settle(&churn, "before the churn", outcome).await?;

    bed.proxy.set_bad(true);
    let started = Instant::now();
    let mut looked = started;
    let mut told = 0;
    while started.elapsed() < time {
        churn.step(random, outcome).await?;
        if random.u8(..50) == 0 {
            let agent = random.usize(..bed.agents.len());
            bed.restart(agent, outcome)?;
        }
        bed.keep_up(outcome).await?;
        if looked.elapsed() > LOOK {
            looked = Instant::now();
            for agent in &bed.agents {
                let found = model::whole(&agent.root, &churn.history)?;
                outcome.violations(&format!("during the churn, on {}", agent.node), found);
            }
            outcome.count("looks at all disks meanwhile", 1);
        }
        let tenth = started.elapsed().as_millis() * 10 / time.as_millis().max(1);
        if tenth > told {
            told = tenth;
            anstream::eprintln!("  {tenth} tenths of the churn");
        }
        tokio::time::sleep(Duration::from_millis(random.u64(..150))).await;
    }
    churn.end().await?;
    // What there still is to do is done under faults, too.
    let quiet = Instant::now();
    while quiet.elapsed() < QUIET {
        bed.keep_up(outcome).await?;
        tokio::time::sleep(LOOK).await;
    }
    bed.proxy.set_bad(false);
    bed.settle(&churn, "after the churn", outcome).await?;
    for (what, count) in bed.proxy.done() {
        outcome.count(what, count);
    }
    Ok(())
}

impl Bed {
    async fn start(nodes: u8, random: fastrand::Rng) -> Result<Self> {
        let cluster = Cluster::start().await?;
        cluster.install().await?;
        let proxy = Proxy::start(cluster.kubeconfig(), random).await?;
        let controller = start_controller(&cluster, &proxy).await?;
        let mut agents = Vec::new();
        for number in 0..nodes {
            let node = churn::node(number);
            let root = cluster.directory().join(format!("seccomp-{node}"));
            std::fs::create_dir(&root)?;
            let kubeconfig = cluster.directory().join(format!("{node}.kubeconfig"));
            proxy.kubeconfig(&cluster.agent_token(&node).await?, &kubeconfig)?;
            agents.push(Agent {
                program: cluster.start_agent_with(
                    Command::new(callgate()),
                    &node,
                    &kubeconfig,
                    &root,
                    GRACE,
                )?,
                node,
                root,
                kubeconfig,
            });
        }
        Ok(Self {
            cluster,
            proxy,
            controller,
            agents,
        })
    }

    /// Kills an agent and starts it again.
    fn restart(&mut self, number: usize, outcome: &mut Outcome) -> Result<()> {
        let agent = &mut self.agents[number];
        let command = Command::new(callgate());
        let program =
            self.cluster
                .start_agent_with(command, &agent.node, &agent.kubeconfig, &agent.root, GRACE);
        // Dropping the one before kills it; the new one waits for its lock meanwhile.
        agent.program = program?;
        outcome.count("agents killed and started again", 1);
        Ok(())
    }

    /// Starts again what has ended, as a kubelet would. No fault of the API server may end an agent, nor a controller: it
    /// asks for nothing before its loop begins, and one that can no longer be sure to lead stands by. What its `Error` is
    /// for, a task or a stream that ends by itself, is a mistake in it.
    async fn keep_up(&mut self, outcome: &mut Outcome) -> Result<()> {
        for number in 0..self.agents.len() {
            if let Err(error) = self.agents[number].program.process().running() {
                outcome.violations("an agent ended by itself", [format!("{error:#}")]);
                self.restart(number, outcome)?;
            }
        }
        if let Err(error) = self.controller.process().running() {
            outcome.violations("the controller ended by itself", [format!("{error:#}")]);
            self.controller = start_controller(&self.cluster, &self.proxy).await?;
        }
        Ok(())
    }

    /// Waits until everything is as the model says, and stays so for a moment.
    async fn settle(&mut self, churn: &Churn, when: &str, outcome: &mut Outcome) -> Result<()> {
        let started = Instant::now();
        let mut agreed = 0;
        loop {
            self.keep_up(outcome).await?;
            let roots = self
                .agents
                .iter()
                .map(|agent| (agent.node.as_str(), agent.root.as_path()));
            let found = churn.differences(roots.collect()).await?;
            agreed = if found.wrong.is_empty() { agreed + 1 } else { 0 };
            if agreed == 3 {
                outcome.count("files, statuses and reports that the model fixes", found.fixed);
                outcome.count("files of which the model allows several", found.free);
                anstream::eprintln!("  settled {when} after {} s", started.elapsed().as_secs());
                return Ok(());
            }
            if started.elapsed() > SETTLED {
                outcome.violations(when, found.wrong);
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn start_controller(cluster: &Cluster, proxy: &Proxy) -> Result<Program> {
    let kubeconfig = cluster.directory().join("controller.kubeconfig");
    proxy.kubeconfig(&cluster.controller_token("1").await?, &kubeconfig)?;
    let mut command = Command::new(callgate());
    command
        .arg("controller")
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--namespace={NAMESPACE}"))
        .arg("--identity=callgate-controller-1");
    cluster
        .start_program(command, "controller-1")
        .context("the controller")
}
