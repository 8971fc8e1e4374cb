//! How `callgate controller` and `callgate agent` end, as the real processes: when told to, and when killed. And how they
//! go on when their clock jumps.

mod clock;

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::{Cluster, NAMESPACE, Program, eventually};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::Api;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What a kubelet gives a pod to end in by default, before it kills it.
const GRACE: Duration = Duration::from_secs(30);

/// A controller that leads and an agent that is ready.
struct Daemons {
    cluster: Cluster,
    controller: Program,
    agent: Program,
}

impl Daemons {
    async fn start() -> Result<Self> {
        let callgate = Path::new(env!("CARGO_BIN_EXE_callgate"));
        let cluster = Cluster::start().await?;
        cluster.install().await?;
        let root = cluster.directory().join("seccomp");
        std::fs::create_dir(&root)?;
        let mut controller = cluster.start_controller(callgate, "1").await?;
        let mut agent = cluster.start_agent(callgate, "north", &root, "1s").await?;
        controller.ready().await?;
        agent.ready().await?;
        cluster.leads("1").await?;
        Ok(Self {
            cluster,
            controller,
            agent,
        })
    }
}

/// The controllers' Lease.
async fn lease(cluster: &Cluster) -> Result<LeaseSpec> {
    let leases = Api::<Lease>::namespaced(cluster.admin().await?, NAMESPACE);
    let lease = leases.get("callgate-controller").await?;
    lease.spec.context("the Lease is empty")
}

/// Who holds it; empty when nobody does.
async fn holder(cluster: &Cluster) -> Result<String> {
    let holder = lease(cluster).await?.holder_identity;
    holder.context("the Lease names no holder")
}

/// SIGTERM; it must end with 0 while a kubelet would still wait, and nothing of it may be left.
async fn terminate(mut program: Program) -> Result<()> {
    let family = family(program.process().id())?;
    ensure!(family.len() >= 2, "it has no fork server");
    tokio::time::timeout(GRACE, program.terminate())
        .await
        .context("a kubelet would have killed it")??;
    gone(&family).await
}

#[tokio::test]
async fn both_end_with_0_on_sigterm_and_leave_neither_children_nor_the_lease() -> Result<()> {
    let Daemons {
        cluster,
        controller,
        agent,
    } = Daemons::start().await?;
    // Clients that never say what they want are not waited for.
    let _silent = [
        TcpStream::connect(controller.address())?,
        TcpStream::connect(agent.address())?,
    ];
    terminate(agent).await.context("the agent")?;
    terminate(controller).await.context("the controller")?;
    assert_eq!(holder(&cluster).await?, "");
    Ok(())
}

#[tokio::test]
async fn without_an_api_server_both_go_on_and_end_with_0_on_sigterm() -> Result<()> {
    let mut daemons = Daemons::start().await?;
    let says = async |daemons: &Daemons, leads: u8| {
        eventually(&format!("leader to be {leads}"), async || {
            let metrics = daemons.controller.get("/metrics")?;
            let line = format!("callgate_controller_leader {leads}");
            ensure!(metrics.lines().any(|other| other == line), "{metrics}");
            Ok(())
        })
        .await
    };
    says(&daemons, 1).await?;
    daemons.cluster.stop_apiserver()?;
    for program in [&daemons.controller, &daemons.agent] {
        eventually("requests without an answer to be counted", async || {
            let metrics = program.get("/metrics")?;
            for series in ["watch_errors_total{", "verb=\"watch\",code=\"none\"}"] {
                let counted = |line: &str| line.contains(series) && !line.ends_with(" 0");
                ensure!(metrics.lines().any(counted), "{metrics}");
            }
            Ok(())
        })
        .await?;
    }
    // A kubelet restarts what ends or is not alive, and that would help nobody here: not even when the Lease is lost.
    says(&daemons, 0).await?;
    for program in [&mut daemons.controller, &mut daemons.agent] {
        program.get("/livez")?;
        program.get("/readyz")?;
        program.process().running()?;
    }
    daemons.cluster.start_apiserver().await?;
    says(&daemons, 1).await?;
    daemons.cluster.stop_apiserver()?;
    terminate(daemons.agent).await.context("the agent")?;
    terminate(daemons.controller).await.context("the controller")
}

#[tokio::test]
async fn the_fork_server_does_not_outlive_a_parent_that_is_killed() -> Result<()> {
    let mut daemons = Daemons::start().await?;
    for (name, program) in [
        ("controller", &mut daemons.controller),
        ("agent", &mut daemons.agent),
    ] {
        let parent = program.process().id();
        let mut children = family(parent)?;
        children.remove(&parent);
        assert!(!children.is_empty(), "{name} has no fork server");
        let parent = Pid::from_raw(i32::try_from(parent)?).context("no process id")?;
        kill_process(parent, Signal::KILL)?;
        gone(&children).await.context(name)?;
    }
    Ok(())
}

/// Lets the API server be reached over IPv6 as well, for as long as this lives. Where.
async fn reached_over_ipv6(server: SocketAddr) -> Result<(SocketAddr, JoinSet<()>)> {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            connections.spawn(async move {
                if let Ok(mut server) = tokio::net::TcpStream::connect(server).await {
                    // However it ends, both sides see it.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    Ok((address, tasks))
}

#[tokio::test]
async fn where_there_is_only_ipv6_an_agent_reaches_its_api_server() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    let path = cluster.kubeconfig_for(&cluster.agent_token("north").await?)?;
    let mut kubeconfig: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let server = &mut kubeconfig["clusters"][0]["cluster"]["server"];
    let address = server
        .as_str()
        .context("no address")?
        .trim_start_matches("https://");
    let (address, _proxy) = reached_over_ipv6(address.parse()?).await?;
    *server = format!("https://{address}").into();
    std::fs::write(&path, kubeconfig.to_string())?;
    let root = cluster.directory().join("seccomp");
    std::fs::create_dir(&root)?;
    let command = Command::new(env!("CARGO_BIN_EXE_callgate"));
    let mut agent = cluster.start_agent_with(command, "north", &path, &root, "1s")?;
    agent.ready().await?;
    agent.terminate().await
}

/// A process and its descendants.
fn family(process: u32) -> Result<BTreeSet<u32>> {
    let mut family = BTreeSet::from([process]);
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let children = std::fs::read_to_string(thread?.path().join("children"))?;
        for child in children.split_whitespace() {
            family.extend(self::family(child.parse()?)?);
        }
    }
    Ok(family)
}

/// Waits until none of these processes runs. Orphans may stay as zombies, where no init takes note of their end.
async fn gone(processes: &BTreeSet<u32>) -> Result<()> {
    eventually("processes to be gone", async || {
        for process in processes {
            if let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) {
                ensure!(status.contains("\nState:\tZ"), "{process} runs");
            }
        }
        Ok(())
    })
    .await
}
