//! The local control plane: etcd and kube-apiserver.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait::eventually;
use crate::{audit, kubeconfig, private, tools};

/// Below the range that the kernel takes outgoing connections' ports from, so that only another such cluster can take
/// the port while the API server is down.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// etcd, kube-apiserver and their directory.
#[derive(Debug)]
pub(crate) struct Local {
    // The order is the order of the end: the API server, its store, its files.
    apiserver: Option<Process>,
    etcd: Process,
    directory: Scratch,
    admin_token: String,
    port: u16,
    audited: bool,
}

impl Local {
    /// Starts both and waits until the API server is ready; if `audited`, it keeps an audit log.
    pub(crate) async fn start(audited: bool) -> Result<Self> {
        let directory = Scratch::new("callgate-kubernetes-")?;
        let path = directory.path();
        let admin_token = private::token()?;
        let tokens = format!("{admin_token},admin,admin,system:masters\n");
        private::write(&path.join("tokens.csv"), tokens.as_bytes())?;
        let etcd = start_etcd(path)?;
        let mut local = Self {
            apiserver: None,
            etcd,
            directory,
            admin_token,
            port: 0,
            audited,
        };
        let mut attempts = 0;
        loop {
            local.port = free_port()?;
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
        let mut apiserver = start_apiserver(self.directory(), self.port, self.audited)?;
        let certificate = self.directory().join("pki/apiserver.crt");
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
            let mut command = Command::new(&kubectl);
            command
                .arg("--kubeconfig")
                .arg(&kubeconfig)
                .args(["get", "--raw", "/readyz"]);
            let output = command.output().context("cannot run kubectl")?;
            if !output.status.success() {
                return Err(anyhow!(
                    "{}",
                    String::from_utf8_lossy(&output.stderr).trim().to_owned()
                ));
            }
            Ok(Ok(()))
        })
        .await??;
        self.apiserver = Some(apiserver);
        Ok(())
    }

    /// The cluster as a kubeconfig spells it.
    fn cluster(&self) -> Result<Value> {
        // The API server signs its own certificate and writes it with the authority's behind it.
        let authority = std::fs::canonicalize(self.directory().join("pki/apiserver.crt"))?;
        Ok(
            json!({ "server": format!("https://127.0.0.1:{}", self.port), "certificate-authority": authority }),
        )
    }
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

fn start_apiserver(directory: &Path, port: u16, audited: bool) -> Result<Process> {
    let mut command = Command::new(tools::program("kube-apiserver")?);
    // The key of the certificate it signs itself also signs its tokens: one key less to make.
    let key = directory.join("pki/apiserver.key");
    command
        .arg(format!(
            "--etcd-servers=unix://{}",
            directory.join("etcd.sock").display()
        ))
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        // There are no endpoints to keep: loopback addresses are not allowed as such.
        .arg("--endpoint-reconciler-type=none")
        .arg(format!("--secure-port={port}"))
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
    if audited {
        audit::enable(&mut command, directory)?;
    }
    Process::start("kube-apiserver", &command, &directory.join("kube-apiserver.log"))
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
