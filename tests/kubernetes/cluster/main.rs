//! `make cluster`: a cluster of two nodes with Callgate installed by its chart, for a person to try things on. It stays
//! until Ctrl-C.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use harness::{Nodes, Software};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    anstream::println!("Starting a control plane and two nodes (half a minute) ...");
    let nodes = Nodes::start(&[Software::Newest, Software::Debian]).await?;
    for node in nodes.nodes() {
        anstream::println!(
            "{} is ready: containers by {}",
            node.name(),
            node.software().runtime()
        );
    }
    anstream::println!("Installing charts/callgate ...");
    nodes.cluster().install_chart(&[]).await?;
    anstream::println!(
        "In another terminal:\n  export KUBECONFIG={}\n  kubectl get pods -A\nCtrl-C ends and removes everything.",
        nodes.cluster().kubeconfig().display()
    );
    tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")
}
