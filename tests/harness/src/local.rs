//! The local control plane: etcd and kube-apiserver.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::nodes::{API_SERVER, Fabric, Gate};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait::eventually;
use crate::{audit, kubeconfig, private, tools};

/// Below the range that the kernel takes outgoing connections' ports from, so that only another such cluster can take
/// the port while the API server is down.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// How the directory of each cluster begins. Every process of its control plane has it in its arguments.
pub const DIRECTORY: &str = "callgate-kubernetes-";

/// etcd, kube-apiserver and their directory.
#[derive(Debug)]
pub(crate) struct Local {
    // The order is the order of the end: the API server, its store, its network, its files.
    apiserver: Option<Process>,
    etcd: Process,
    site: Site,
    directory: Scratch,
    admin_token: String,
    options: Options,
}

/// How a control plane is set up.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// The API server keeps an audit log.
    pub(crate) audited: bool,
    /// Users beside the admin: name and group, if it has one, and the token.
    pub(crate) users: Vec<(String, Option<String>, String)>,
}

/// Where the API server listens.
#[derive(Debug)]
enum Site {
    /// On this port of the machine's loopback interface.
    Loopback(u16),
    /// In the network of nodes, with a port on the loopback interface that leads there.
    Fabric(Gate, Fabric),
}

impl Site {
    const fn port(&self) -> u16 {
        match self {
            Self::Loopback(port) => *port,
            Self::Fabric(gate, _) => gate.port(),
        }
    }
}

impl Local {
    /// Starts both and waits until the API server is ready.
    pub(crate) async fn start(options: Options) -> Result<Self> {
        let mut local = Self::prepare(Scratch::new(DIRECTORY)?, Site::Loopback(0), options)?;
        let mut attempts = 0;
        loop {
            local.site = Site::Loopback(free_port()?);
            match local.start_apiserver().await {
                Ok(()) => return Ok(local),
                // Somebody took the port between the look and the bind.
                Err(error) if attempts < 5 && format!("{error:#}").contains("address already in use") => {
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The same in the network of nodes.
    pub(crate) async fn start_in_fabric(options: Options) -> Result<Self> {
        let directory = Scratch::new(DIRECTORY)?;
        let fabric = Fabric::start(directory.path()).await?;
        let mut local = Self::prepare(directory, Site::Fabric(fabric.gate()?, fabric), options)?;
        local.start_apiserver().await?;
        Ok(local)
    }

    fn prepare(directory: Scratch, site: Site, options: Options) -> Result<Self> {
        let path = directory.path();
        let admin_token = private::token()?;
        let mut tokens = format!("{admin_token},admin,admin,system:masters\n");
        for (name, group, token) in &options.users {
            let group = group
                .as_ref()
                .map(|group| format!(",{group}"))
                .unwrap_or_default();
            writeln!(tokens, "{token},{name},{name}{group}")?;
        }
        private::write(&path.join("tokens.csv"), tokens.as_bytes())?;
        let etcd = start_etcd(path)?;
        Ok(Self {
            apiserver: None,
            etcd,
            site,
            directory,
            admin_token,
            options,
        })
    }

    /// The network of nodes, if it is there.
    pub(crate) const fn fabric(&self) -> Option<&Fabric> {
        match &self.site {
            Site::Fabric(_, fabric) => Some(fabric),
            Site::Loopback(_) => None,
        }
    }

    /// The authority that signed the API server's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        // The API server signs its own certificate and writes it with the authority's behind it.
        self.directory().join("pki/apiserver.crt")
    }

    /// The key that signs the tokens of service accounts.
    pub(crate) fn service_account_key(&self) -> PathBuf {
        // That of the API server's certificate: one key less to make.
        self.directory().join("pki/apiserver.key")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory().join("admin.kubeconfig")
    }

    pub(crate) fn processes(&self) -> Vec<u32> {
        std::iter::once(&self.etcd)
            .chain(&self.apiserver)
            .map(Process::id)
            .collect()
    }

    /// Kills the API server: its clients see their connections break.
    pub(crate) fn stop_apiserver(&mut self) {
        self.apiserver = None;
    }

    /// Starts the API server with the port, data and keys it had, and waits until it is ready.
    pub(crate) async fn start_apiserver(&mut self) -> Result<()> {
        if self.apiserver.is_some() {
            bail!("the API server runs already");
        }
        let mut apiserver = self.apiserver()?;
        let certificate = self.authority();
        eventually("kube-apiserver to write its certificate", async || {
            if let Err(error) = apiserver.running() {
                return Ok(Err(error));
            }
            if !certificate.is_file() {
                bail!("{} is missing", certificate.display());
            }
            Ok(Ok(()))
        })
        .await??;
        kubeconfig::write(&self.kubeconfig(), &self.cluster()?, &self.admin_token)?;
        let kubectl = tools::program("kubectl")?;
        let kubeconfig = self.kubeconfig();
        eventually("kube-apiserver to be ready", async || {
            if let Err(error) = apiserver.running() {
                return Ok(Err(error));
            }
            ready(&kubectl, &kubeconfig).map(Ok)
        })
        .await??;
        self.apiserver = Some(apiserver);
        Ok(())
    }

    /// Kills etcd, starts it again with its data, and waits until the API server has it back.
    pub(crate) async fn restart_etcd(&mut self) -> Result<()> {
        self.etcd.kill();
        self.etcd = start_etcd(self.directory())?;
        let kubectl = tools::program("kubectl")?;
        eventually("the API server to have its store back", async || {
            self.etcd.running()?;
            ready(&kubectl, &self.kubeconfig())
        })
        .await
    }

    /// The cluster as a kubeconfig spells it.
    fn cluster(&self) -> Result<Value> {
        let authority = std::fs::canonicalize(self.authority())?;
        Ok(json!({
            "server": format!("https://127.0.0.1:{}", self.site.port()),
            // In whatever network it listens, its certificate has this name.
            "tls-server-name": "kubernetes.default.svc",
            "certificate-authority": authority,
        }))
    }

    fn apiserver(&self) -> Result<Process> {
        let directory = self.directory();
        let mut command = Command::new(tools::program("kube-apiserver")?);
        let key = self.service_account_key();
        command
            .arg(format!(
                "--etcd-servers=unix://{}",
                directory.join("etcd.sock").display()
            ))
            .arg(format!("--cert-dir={}", directory.join("pki").display()))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-account-key-file={}", key.display()))
            .arg(format!("--service-account-signing-key-file={}", key.display()))
            .arg(format!(
                "--token-auth-file={}",
                directory.join("tokens.csv").display()
            ))
            .arg("--authorization-mode=Node,RBAC")
            .arg("--service-cluster-ip-range=10.0.0.0/24")
            .arg("--allow-privileged");
        if self.options.audited {
            audit::enable(&mut command, directory)?;
        }
        let log = directory.join("kube-apiserver.log");
        match &self.site {
            Site::Loopback(port) => {
                command
                    .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
                    .arg(format!("--secure-port={port}"))
                    // There are no endpoints to keep: loopback addresses are not allowed as such.
                    .arg("--endpoint-reconciler-type=none");
                Process::start("kube-apiserver", &command, &log)
            }
            Site::Fabric(_, fabric) => {
                command
                    .arg("--bind-address=0.0.0.0")
                    .arg(format!("--advertise-address={}", API_SERVER.ip()))
                    .arg(format!("--secure-port={}", API_SERVER.port()))
                    .arg("--enable-admission-plugins=NodeRestriction")
                    .arg("--kubelet-preferred-address-types=InternalIP");
                Process::start("kube-apiserver", &fabric.within(&command), &log)
            }
        }
    }
}

/// Asks the API server whether it is ready.
fn ready(kubectl: &Path, kubeconfig: &Path) -> Result<()> {
    let mut command = Command::new(kubectl);
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["get", "--raw", "/readyz"]);
    let output = command.output().context("cannot run kubectl")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// etcd listens on sockets in the directory: no port to compete for, and none that another user of this machine could
/// connect to, as who reaches etcd may read and write everything.
fn start_etcd(directory: &Path) -> Result<Process> {
    let mut command = Command::new(tools::program("etcd")?);
    let client = format!("unix://{}", directory.join("etcd.sock").display());
    let peer = "http://localhost:0";
    command
        .current_dir(directory)
        .arg("--name=callgate")
        .arg(format!("--data-dir={}", directory.join("etcd").display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        // Of this URL etcd takes the host only; with a path it would be empty, and the socket one that anybody may
        // connect to.
        .arg("--listen-peer-urls=unix://peer.sock")
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=callgate={peer}"))
        .args(["--unsafe-no-fsync", "--log-level=warn"]);
    Process::start("etcd", &command, &directory.join("etcd.log"))
}

/// A port that nobody listens on at this moment, and another one at each call. Different processes begin their search
/// in different places.
pub fn free_port() -> Result<u16> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let calls = CALLS.fetch_add(1, Ordering::Relaxed);
    let offset = std::process::id().wrapping_mul(97).wrapping_add(calls) % u32::from(PORTS.end - PORTS.start);
    let middle = PORTS.start + u16::try_from(offset)?;
    (middle..PORTS.end)
        .chain(PORTS.start..middle)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .with_context(|| format!("no free port on the loopback interface in {PORTS:?}"))
}
