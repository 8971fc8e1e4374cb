//! The handle that tests hold.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail};
use kube::Client;

use crate::local::{Local, Options};
use crate::scratch::Scratch;
use crate::{kubeconfig, tools};

/// A Kubernetes to test against.
#[derive(Debug)]
pub struct Cluster {
    control_plane: ControlPlane,
    admin: PathBuf,
    files: AtomicUsize,
}

#[derive(Debug)]
enum ControlPlane {
    Local(Box<Local>),
    /// Somebody else's; the directory is for our kubeconfig files.
    Existing(Scratch),
}

/// What kubectl answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Whether it ended with 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// The standard output of a command that must have worked.
    pub fn ok(self) -> Result<String> {
        if !self.success {
            bail!("kubectl failed: {}", self.stderr.trim());
        }
        Ok(self.stdout)
    }
}

impl Cluster {
    /// Starts a local Kubernetes, new and empty, and waits until it is ready (about four seconds).
    pub async fn start() -> Result<Self> {
        Self::start_local(false).await
    }

    /// Like [`Cluster::start`], with an audit log of what service accounts ask for: [`Cluster::audited`].
    pub async fn start_audited() -> Result<Self> {
        Self::start_local(true).await
    }

    async fn start_local(audited: bool) -> Result<Self> {
        let options = Options {
            audited,
            ..Options::default()
        };
        Ok(Self::of(Local::start(options).await?))
    }

    pub(crate) fn of(local: Local) -> Self {
        let admin = local.kubeconfig();
        Self::new(ControlPlane::Local(Box::new(local)), admin)
    }

    /// The cluster that the kubeconfig in `CALLGATE_TEST_KUBECONFIG` names; without that variable a local one. For
    /// tests that need no cluster of their own: others may use it at the same time, and may have used it before.
    pub async fn provided() -> Result<Self> {
        let Some(file) = std::env::var_os("CALLGATE_TEST_KUBECONFIG") else {
            return Self::start().await;
        };
        let admin = std::fs::canonicalize(&file)
            .with_context(|| format!("CALLGATE_TEST_KUBECONFIG={}", PathBuf::from(&file).display()))?;
        let files = Scratch::new("callgate-test-")?;
        Ok(Self::new(ControlPlane::Existing(files), admin))
    }

    fn new(control_plane: ControlPlane, admin: PathBuf) -> Self {
        Self {
            control_plane,
            admin,
            files: AtomicUsize::new(0),
        }
    }

    /// The kubeconfig of a user who may do everything.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.admin
    }

    /// A client who may do everything.
    pub async fn admin(&self) -> Result<Client> {
        kubeconfig::client(&self.admin).await
    }

    /// A client that shows this token and nothing else.
    pub async fn client_for(&self, token: &str) -> Result<Client> {
        kubeconfig::client(&self.kubeconfig_for(token)?).await
    }

    /// A kubeconfig file with this token; it lives as long as the cluster.
    pub fn kubeconfig_for(&self, token: &str) -> Result<PathBuf> {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let path = self.directory().join(format!("{number}.kubeconfig"));
        kubeconfig::write(&path, &kubeconfig::cluster_of(&self.admin)?, token)?;
        Ok(path)
    }

    /// Runs kubectl as the admin, with `stdin` as its standard input.
    pub async fn kubectl(&self, arguments: &[&str], stdin: &str) -> Result<Output> {
        let mut command = self.kubectl_command()?;
        command.args(arguments);
        run(command, stdin).await.context("kubectl")
    }

    /// Runs helm as the admin. Its own files lie in the cluster's directory.
    pub async fn helm(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(tools::helm()?);
        command
            .args(arguments)
            // It has variables that name a cluster, too.
            .env_clear()
            .env("KUBECONFIG", &self.admin)
            .env("HOME", self.directory().join("helm"));
        run(command, "").await.context("helm")
    }

    /// kubectl for this cluster, as a command to add arguments to.
    pub fn kubectl_command(&self) -> Result<Command> {
        let mut command = Command::new(tools::program("kubectl")?);
        command.envs(self.kubectl_environment()?);
        Ok(command)
    }

    /// What kubectl and `callgate status` need in their environment to mean this cluster, and to leave the files of
    /// the user alone; with kubectl in front of `PATH`, for shells.
    pub fn kubectl_environment(&self) -> Result<Vec<(&'static str, OsString)>> {
        let kubectl = tools::program("kubectl")?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories = kubectl
            .parent()
            .map(Path::to_owned)
            .into_iter()
            .chain(std::env::split_paths(&path));
        Ok(vec![
            ("KUBECONFIG", self.admin.clone().into()),
            ("KUBECACHEDIR", self.directory().join("kubectl-cache").into()),
            ("KUBERC", "off".into()),
            ("PATH", std::env::join_paths(directories)?),
        ])
    }

    /// A directory that is removed with the cluster.
    #[must_use]
    pub fn directory(&self) -> &Path {
        match &self.control_plane {
            ControlPlane::Local(local) => local.directory(),
            ControlPlane::Existing(directory) => directory.path(),
        }
    }

    /// Kills the API server; [`Cluster::start_apiserver`] brings it back. Only a local one can be stopped.
    pub fn stop_apiserver(&mut self) -> Result<()> {
        self.local()?.stop_apiserver();
        Ok(())
    }

    /// Starts the API server again, on the same port and with the same data and keys, and waits until it is ready.
    pub async fn start_apiserver(&mut self) -> Result<()> {
        self.local()?.start_apiserver().await
    }

    /// Kills the API server's store and starts it again with its data. The API server goes on.
    pub async fn restart_etcd(&mut self) -> Result<()> {
        self.local()?.restart_etcd().await
    }

    /// The process ids of etcd and, while it runs, the API server; none for a cluster that is not ours.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        match &self.control_plane {
            ControlPlane::Local(local) => local.processes(),
            ControlPlane::Existing(_) => Vec::new(),
        }
    }

    fn local(&mut self) -> Result<&mut Local> {
        match &mut self.control_plane {
            ControlPlane::Local(local) => Ok(local),
            ControlPlane::Existing(_) => bail!(
                "the API server of an existing cluster (CALLGATE_TEST_KUBECONFIG) cannot be stopped: unset the variable \
                 to use a local one"
            ),
        }
    }
}

async fn run(mut command: Command, stdin: &str) -> Result<Output> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let stdin = stdin.to_owned();
    let output = tokio::task::spawn_blocking(move || -> Result<_> {
        let mut child = command.spawn().context("cannot start it")?;
        // It may answer before it has read everything; its answer says why.
        let _ = child
            .stdin
            .take()
            .context("it has no standard input")?
            .write_all(stdin.as_bytes());
        Ok(child.wait_with_output()?)
    })
    .await??;
    Ok(Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
