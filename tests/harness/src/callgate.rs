//! Callgate's own programs, each a process with the identity and the rights that `deploy/` gives it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;

use crate::process::Process;
use crate::wait::eventually;
use crate::{CONTROLLER_SERVICE_ACCOUNT, Cluster, NAMESPACE, local};

/// The controllers' Lease.
const LEASE: &str = "callgate-controller";

/// A running `callgate controller` or `callgate agent`.
#[derive(Debug)]
pub struct Program {
    process: Process,
    address: SocketAddr,
    started: Instant,
}

impl Cluster {
    /// Starts `callgate controller` in a pod of its own whose name ends with `suffix`; the pod is made if it is missing.
    /// `callgate` is the path of the program.
    pub async fn start_controller(&self, callgate: &Path, suffix: &str) -> Result<Program> {
        self.start_controller_with(Command::new(callgate), suffix).await
    }

    /// Like [`Cluster::start_controller`], with a command that becomes callgate with the arguments that are added to it.
    pub async fn start_controller_with(&self, mut command: Command, suffix: &str) -> Result<Program> {
        let kubeconfig = self.kubeconfig_for(&self.controller_token(suffix).await?)?;
        command
            .arg("controller")
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--namespace={NAMESPACE}"))
            .arg(format!("--identity={CONTROLLER_SERVICE_ACCOUNT}-{suffix}"));
        self.start_program(command, &format!("controller-{suffix}"))
    }

    /// Starts `callgate agent` on `node`, with `seccomp_root` as the kubelet's seccomp directory there. The Node and
    /// the agent's pod are made if they are missing. `grace` is how long the file of a deleted profile stays.
    pub async fn start_agent(
        &self,
        callgate: &Path,
        node: &str,
        seccomp_root: &Path,
        grace: &str,
    ) -> Result<Program> {
        let kubeconfig = self.kubeconfig_for(&self.agent_token(node).await?)?;
        self.start_agent_with(Command::new(callgate), node, &kubeconfig, seccomp_root, grace)
    }

    /// Like [`Cluster::start_agent`], with a command that becomes callgate with the arguments that are added to it, and
    /// the kubeconfig of an agent on `node`.
    pub fn start_agent_with(
        &self,
        mut command: Command,
        node: &str,
        kubeconfig: &Path,
        seccomp_root: &Path,
        grace: &str,
    ) -> Result<Program> {
        command
            .arg("agent")
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--node={node}"))
            .arg(format!("--seccomp-root={}", seccomp_root.display()))
            .arg(format!("--removal-grace={grace}"));
        self.start_program(command, &format!("agent-{node}"))
    }

    /// Waits until the controller in the pod whose name ends with `suffix` leads.
    pub async fn leads(&self, suffix: &str) -> Result<()> {
        let leases = Api::<Lease>::namespaced(self.admin().await?, NAMESPACE);
        let wanted = format!("{CONTROLLER_SERVICE_ACCOUNT}-{suffix}");
        eventually(&format!("{wanted} to lead"), async || {
            let spec = leases.get(LEASE).await?.spec;
            let holder = spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
            ensure!(holder == wanted, "the Lease is held by {holder:?}");
            Ok(())
        })
        .await
    }

    /// Starts this command, which is to serve on the address that `--listen` gives it. `name` is that of its log file.
    pub fn start_program(&self, mut command: Command, name: &str) -> Result<Program> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, local::free_port()?));
        command.arg(format!("--listen={address}"));
        let log = self.directory().join(format!("{name}.log"));
        let started = Instant::now();
        let process = Process::start(&format!("callgate {name}"), &command, &log)?;
        Ok(Program {
            process,
            address,
            started,
        })
    }
}

impl Program {
    /// Waits until its `/readyz` says so; an error with its log if it ends instead.
    pub async fn ready(&mut self) -> Result<()> {
        eventually("callgate to be ready", async || {
            if let Err(error) = self.process.running() {
                return Ok(Err(error));
            }
            self.get("/readyz")?;
            Ok(Ok(()))
        })
        .await?
    }

    /// What it answers to a GET of `path`, if the answer is 200.
    pub fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address).context("it does not listen")?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("it does not speak HTTP")?;
        if head.split(' ').nth(1) != Some("200") {
            bail!(
                "{path}: {}: {}",
                head.lines().next().unwrap_or_default(),
                body.trim()
            );
        }
        Ok(body.to_owned())
    }

    /// Where it answers probes and scrapes.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The moment just before its process was made.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The process itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Asks it to end (SIGTERM) and waits for that; an error if it does not end with 0.
    pub async fn terminate(self) -> Result<()> {
        let status = self.process.terminate().await?;
        if !status.success() {
            bail!("it ended with {status}");
        }
        Ok(())
    }
}
