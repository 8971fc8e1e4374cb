//! `make demo`: a tour of Callgate on a local Kubernetes, as a transcript of commands and what they answered. For root it
//! is a whole one with a node that runs pods, and Callgate is installed by its chart; for others it is an API server, and
//! Callgate's programs run beside it.
//!
//! Every command shown is run, every output is shown as it came, and every claim is checked: the tour ends with an
//! error where Callgate does not do what the text says. At a terminal everything then stays up until Ctrl-C.

mod shell;
mod tour;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use harness::{Cluster, Nodes, Software};
use rustix::process::geteuid;

use crate::shell::{Shell, progress, say};

const NODE: &str = "node-1";

#[tokio::main]
async fn main() -> ExitCode {
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<()> {
    if geteuid().is_root() {
        on_a_node().await
    } else {
        beside_an_api_server().await
    }
}

async fn on_a_node() -> Result<()> {
    let callgate = callgate()?;
    let nodes = progress(
        "Starting a Kubernetes with one node",
        Nodes::start(&[Software::Newest]),
    )
    .await?;
    let cluster = nodes.cluster();
    progress(
        "Installing charts/callgate, until its pods are ready",
        cluster.install_chart(&["--set", "agent.removalGrace=2s"]),
    )
    .await?;
    let seccomp = nodes.node(NODE)?.path("/var/lib/kubelet/seccomp");
    let mut environment = cluster.kubectl_environment()?;
    environment.push(("SECCOMP", seccomp.clone().into()));
    let shell = Shell::new(environment, &callgate)?;
    cluster
        .kubectl(&["create", "namespace", "shop", "--save-config"], "")
        .await?
        .ok()?;
    tour::on_a_node(&shell).await?;
    stay(cluster, &seccomp).await?;
    drop(nodes);
    done();
    Ok(())
}

async fn beside_an_api_server() -> Result<()> {
    let callgate = callgate()?;
    let cluster = progress("Starting etcd and kube-apiserver", Cluster::start()).await?;
    progress(
        "Installing deploy/, until the policies are in force",
        cluster.install(),
    )
    .await?;
    cluster.namespace("shop").await?;

    let seccomp = cluster.directory().join("seccomp");
    std::fs::create_dir(&seccomp).context("cannot make a directory for the node's profiles")?;
    let mut controller = cluster.start_controller(&callgate, "1").await?;
    let mut agent = cluster.start_agent(&callgate, NODE, &seccomp, "2s").await?;
    progress("Starting callgate controller and callgate agent", async {
        controller.ready().await?;
        agent.ready().await
    })
    .await?;

    let mut environment = cluster.kubectl_environment()?;
    environment.push(("SECCOMP", seccomp.clone().into()));
    let shell = Shell::new(environment, &callgate)?;
    if let Err(error) = tour::beside_an_api_server(&shell, &cluster).await {
        for (name, program) in [("controller", &mut controller), ("agent", &mut agent)] {
            anstream::eprintln!("\n--- the log of callgate {name}:\n{}", program.process().log()?);
        }
        return Err(error);
    }
    stay(&cluster, &seccomp).await?;
    agent.terminate().await.context("callgate agent")?;
    controller.terminate().await.context("callgate controller")?;
    done();
    Ok(())
}

/// At a terminal, waits for Ctrl-C.
async fn stay(cluster: &Cluster, seccomp: &Path) -> Result<()> {
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        say(&format!(
            "That was all. Everything stays up until Ctrl-C. In another terminal:\n  export KUBECONFIG={} SECCOMP={}",
            cluster.kubeconfig().display(),
            seccomp.display(),
        ));
        tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")?;
    }
    Ok(())
}

fn done() {
    say(
        "Done: every step did what it says, and everything is stopped and removed. Next: callgate check on a profile of\n\
         your own (target/debug/callgate check FILE), then \"Install it\" in README.md.",
    );
}

/// The program that the same build made: `target/PROFILE/callgate` beside `target/PROFILE/examples/demo`.
fn callgate() -> Result<PathBuf> {
    let demo = std::env::current_exe().context("cannot find this program")?;
    let path = demo
        .ancestors()
        .nth(2)
        .map(|directory| directory.join("callgate"))
        .unwrap_or_default();
    if !path.is_file() {
        bail!("{} is missing: run make demo, which builds it", path.display());
    }
    Ok(path)
}
