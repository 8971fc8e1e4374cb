//! Whole nodes: kubelet, container runtime, pod network and kube-proxy, and the controllers and the scheduler that give
//! them work. Everything is in namespaces that are made for it, as it would be on machines of its own: nothing is
//! written, mounted or configured outside of them, and nothing is left when a [`Nodes`] ends, however it ends. It needs
//! root.
//!
//! What it may know: what the rest of the harness knows, and Linux.

mod fabric;
mod machine;
mod software;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::geteuid;
use serde_json::{Value, json};

pub(crate) use self::fabric::{API_SERVER, Fabric, Gate};
pub use self::software::Software;

use self::machine::Machine;
use self::software::{WORKLOAD_IMAGE, kube_proxy_command, kubelet_command, write_cni_settings};
use crate::cluster::Cluster;
use crate::local::{Local, Options};
use crate::process::Process;
use crate::wait::eventually;
use crate::{kubeconfig, private, tools};

/// The controllers' and the scheduler's users.
const MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";
const PROXY: &str = "system:kube-proxy";

/// Images that each node gets: archives in `target/image`, and the target of make that makes them.
const IMAGES: [(&str, &str); 2] = [("callgate", "image"), ("workload", "nodes")];

const POWER_OFF: &str = include_str!("nodes/power_off.sh");

/// A cluster with nodes.
#[derive(Debug)]
pub struct Nodes {
    // The order is that of the end: what runs on the nodes and controls them, then the API server and the network.
    all: Vec<Node>,
    _managers: Vec<Process>,
    cluster: Cluster,
}

impl Nodes {
    /// Starts a control plane and a node for each of `software`, named `node-1` and so on, and waits until they are
    /// Ready with the images of Callgate and of the tests' workload on them (about half a minute).
    pub async fn start(software: &[Software]) -> Result<Self> {
        ensure!(
            geteuid().is_root(),
            "nodes need namespaces and mounts of their own: run this as root"
        );
        // Nodes have directories of their own there, and would not find the programs or their settings.
        let (tree, temporary) = (tools::repository(), std::env::temp_dir());
        let hidden = ["/run", "/var/lib", "/var/log"]
            .into_iter()
            .find(|hidden| tree.starts_with(hidden) || temporary.starts_with(hidden));
        if let Some(hidden) = hidden {
            bail!("nodes cannot be run from a tree, or with a TMPDIR, beneath {hidden}: move it");
        }
        let names: Vec<String> = (1..=software.len())
            .map(|number| format!("node-{number}"))
            .collect();
        let mut users = Vec::new();
        for name in [MANAGER, SCHEDULER, PROXY] {
            users.push((name.to_owned(), None, private::token()?));
        }
        for name in &names {
            let group = Some("system:nodes".to_owned());
            users.push((format!("system:node:{name}"), group, private::token()?));
        }
        let tokens: Vec<String> = users.iter().map(|(_, _, token)| token.clone()).collect();
        let local = Local::start_in_fabric(Options { audited: true, users }).await?;
        let fabric = local.fabric().context("a control plane without a network")?;
        let directory = local.directory();
        let kubeconfig_of = |name: &str, token: &str| -> Result<PathBuf> {
            let path = directory.join(format!("{name}.kubeconfig"));
            let server = json!({
                "server": format!("https://{API_SERVER}"),
                "certificate-authority": fs::canonicalize(local.authority())?,
            });
            kubeconfig::write(&path, &server, token)?;
            Ok(path)
        };
        let proxy = kubeconfig_of("kube-proxy", &tokens[2])?;
        let managers = vec![
            start_manager(&local, &kubeconfig_of("kube-controller-manager", &tokens[0])?)?,
            start_scheduler(&local, &kubeconfig_of("kube-scheduler", &tokens[1])?)?,
        ];
        let mut nodes = Vec::new();
        for ((name, software), token) in names.iter().zip(software).zip(&tokens[3..]) {
            let number = u8::try_from(nodes.len() + 1)?;
            let machine = Machine::start(name, &directory.join(name)).await?;
            fabric.connect(&machine, number)?;
            write_cni_settings(&machine, number)?;
            nodes.push(Node {
                number,
                software: *software,
                kubeconfig: kubeconfig_of(name, token)?,
                proxy: proxy.clone(),
                containerd: None,
                kubelet: None,
                kube_proxy: None,
                machine,
            });
        }
        for node in &mut nodes {
            node.start_containerd().await?;
            node.load_images()?;
            node.start_kube_proxy()?;
            node.start_kubelet(&json!({}))?;
        }
        let mut started = Self {
            all: nodes,
            _managers: managers,
            cluster: Cluster::of(local),
        };
        for name in &names {
            started.ready(name).await?;
        }
        Ok(started)
    }

    /// The cluster that they are in, audited.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The same, to stop and start its API server.
    pub const fn cluster_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    /// The nodes, in the order that they were asked for.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.all
    }

    /// One of them.
    pub fn node(&self, name: &str) -> Result<&Node> {
        let node = self.all.iter().find(|node| node.name() == name);
        node.with_context(|| format!("there is no node {name}"))
    }

    /// One of them, to stop and start what runs on it.
    pub fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        let node = self.all.iter_mut().find(|node| node.name() == name);
        node.with_context(|| format!("there is no node {name}"))
    }

    /// Waits until a node is Ready.
    pub async fn ready(&mut self, name: &str) -> Result<()> {
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")]}";
        let arguments = ["get", "node", name, "-o", path];
        eventually(&format!("{name} to be Ready"), async || {
            if let Some(node) = self.all.iter_mut().find(|node| node.name() == name)
                && let Err(error) = node.running()
            {
                return Ok(Err(error));
            }
            let condition = self.cluster.kubectl(&arguments, "").await?.ok()?;
            let condition: Value = serde_json::from_str(&condition).context("it has no conditions yet")?;
            if condition["status"] != "True" {
                bail!("{}", condition["message"]);
            }
            Ok(Ok(()))
        })
        .await?
    }
}

/// One node.
#[derive(Debug)]
pub struct Node {
    number: u8,
    software: Software,
    kubeconfig: PathBuf,
    proxy: PathBuf,
    // The order is that of the end.
    kubelet: Option<Process>,
    kube_proxy: Option<Process>,
    containerd: Option<Process>,
    machine: Machine,
}

impl Node {
    /// Its name in the cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        self.machine.name()
    }

    /// What runs its containers.
    #[must_use]
    pub const fn software(&self) -> Software {
        self.software
    }

    /// Where one of its files is, seen from here.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.machine.path(path)
    }

    /// Runs a program on it to its end, and gives its standard output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.machine.run(program, arguments)
    }

    /// Starts the container runtime and waits until it answers.
    pub async fn start_containerd(&mut self) -> Result<()> {
        ensure!(self.containerd.is_none(), "containerd runs already");
        let log = self.machine.directory().join("containerd.log");
        let mut containerd = Process::start(
            "containerd",
            &self.software.containerd_command(&self.machine)?,
            &log,
        )?;
        eventually("containerd to answer", async || {
            if let Err(error) = containerd.running() {
                return Ok(Err(error));
            }
            self.software
                .ctr(&self.machine, &["--timeout=5s", "version"])
                .map(Ok)
        })
        .await??;
        self.containerd = Some(containerd);
        Ok(())
    }

    /// Kills the container runtime. What it started goes on.
    pub fn kill_containerd(&mut self) {
        self.containerd = None;
    }

    /// Starts the kubelet with these settings beside the usual ones.
    pub fn start_kubelet(&mut self, settings: &Value) -> Result<()> {
        ensure!(self.kubelet.is_none(), "the kubelet runs already");
        let command = kubelet_command(&self.machine, self.number, &self.kubeconfig, settings)?;
        let log = self.machine.directory().join("kubelet.log");
        self.kubelet = Some(Process::start("kubelet", &command, &log)?);
        Ok(())
    }

    /// Kills the kubelet. Containers go on.
    pub fn kill_kubelet(&mut self) {
        self.kubelet = None;
    }

    /// Ends everything on the node at once, as a power cut does. Its disk stays.
    pub fn power_off(&mut self) -> Result<()> {
        self.kubelet = None;
        self.kube_proxy = None;
        self.containerd = None;
        self.machine.run("sh", &["-c", POWER_OFF])?;
        Ok(())
    }

    /// Starts everything on it again, the kubelet with these settings beside the usual ones.
    pub async fn power_on(&mut self, settings: &Value) -> Result<()> {
        write_cni_settings(&self.machine, self.number)?;
        self.start_containerd().await?;
        self.start_kube_proxy()?;
        self.start_kubelet(settings)
    }

    fn start_kube_proxy(&mut self) -> Result<()> {
        let command = kube_proxy_command(&self.machine, &self.proxy)?;
        let log = self.machine.directory().join("kube-proxy.log");
        self.kube_proxy = Some(Process::start("kube-proxy", &command, &log)?);
        Ok(())
    }

    fn load_images(&self) -> Result<()> {
        for (name, target) in IMAGES {
            let archive = image_archive(name);
            ensure!(
                archive.is_file(),
                "{} is missing: run make {target}",
                archive.display()
            );
            let archive = archive.to_str().context("the repository's path is not UTF-8")?;
            self.software.ctr(&self.machine, &["images", "import", archive])?;
        }
        ensure!(
            self.software
                .ctr(&self.machine, &["images", "list", "--quiet"])?
                .contains(WORKLOAD_IMAGE),
            "the archive of the workload has another image than {WORKLOAD_IMAGE}"
        );
        Ok(())
    }

    fn running(&mut self) -> Result<()> {
        for process in [&mut self.containerd, &mut self.kubelet, &mut self.kube_proxy]
            .into_iter()
            .flatten()
        {
            process.running()?;
        }
        Ok(())
    }
}

/// Of an image for this architecture, in the format that `ctr` and `kind` take.
fn image_archive(name: &str) -> PathBuf {
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    tools::repository().join(format!("target/image/{name}-{architecture}.docker.tar"))
}

fn start_manager(local: &Local, kubeconfig: &Path) -> Result<Process> {
    let mut command = Command::new(tools::node_program("kube-controller-manager")?);
    command
        .arg(format!(
            "--service-account-private-key-file={}",
            local.service_account_key().display()
        ))
        .arg(format!("--root-ca-file={}", local.authority().display()))
        .args(["--use-service-account-credentials", "--bind-address=127.0.0.1"])
        // A node that is gone is noticed in the time of a test.
        .args([
            "--node-monitor-grace-period=12s",
            "--node-monitor-period=2s",
            "--node-startup-grace-period=30s",
        ]);
    start_control(local, "kube-controller-manager", command, kubeconfig)
}

fn start_scheduler(local: &Local, kubeconfig: &Path) -> Result<Process> {
    let mut command = Command::new(tools::node_program("kube-scheduler")?);
    command.arg("--bind-address=127.0.0.1");
    start_control(local, "kube-scheduler", command, kubeconfig)
}

fn start_control(local: &Local, name: &str, mut command: Command, kubeconfig: &Path) -> Result<Process> {
    let fabric = local.fabric().context("a control plane without a network")?;
    command
        .arg("--leader-elect=false")
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--authentication-kubeconfig={}", kubeconfig.display()))
        .arg(format!("--authorization-kubeconfig={}", kubeconfig.display()))
        .current_dir(local.directory());
    let log = local.directory().join(format!("{name}.log"));
    Process::start(name, &fabric.within(&command), &log)
}
