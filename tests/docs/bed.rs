//! Where the commands of a page run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use harness::{Cluster, Program, eventually, repository};

use crate::page::{Setting, Step, is_shown};

const CALLGATE: &str = env!("CARGO_BIN_EXE_callgate");
/// What a page calls the kubelet's seccomp directory.
const SECCOMP: &str = "/var/lib/kubelet/seccomp";
/// What commands name by a path from the root of the tree.
const COPIED: [&str; 4] = ["charts", "crds", "deploy", "docs"];
/// Seconds that one step may take.
const PATIENCE: &str = "120";

/// A cluster, a node's directory, and a copy of the tree.
pub(crate) struct Bed {
    // The order is that of the end.
    _programs: Vec<Program>,
    _cluster: Cluster,
    environment: Vec<(&'static str, OsString)>,
    tree: PathBuf,
    seccomp: String,
}

impl Bed {
    pub(crate) async fn make(setting: Setting) -> Result<Self> {
        let cluster = Cluster::start().await?;
        let tree = cluster.directory().join("tree");
        std::fs::create_dir(&tree)?;
        for name in COPIED {
            let from = repository().join(name);
            if from.is_dir() {
                let copied = Command::new("cp").arg("-r").arg(from).arg(&tree).status()?;
                ensure!(copied.success(), "cannot copy {name}");
            }
        }
        let seccomp = cluster.directory().join("kubelet/seccomp");
        std::fs::create_dir_all(&seccomp)?;
        let mut programs = Vec::new();
        if setting == Setting::Running {
            let callgate = Path::new(CALLGATE);
            cluster.install().await?;
            cluster.namespace("shop").await?;
            programs.push(cluster.start_controller(callgate, "1").await?);
            programs.push(cluster.start_agent(callgate, "node-1", &seccomp, "1s").await?);
            for program in &mut programs {
                program.ready().await?;
            }
        }

        let mut environment = cluster.kubectl_environment()?;
        for (name, value) in &mut environment {
            if *name == "PATH" {
                let callgate = Path::new(CALLGATE).parent().map(Path::to_owned);
                let helm = repository().join("tests/kubernetes/bin");
                let others = std::env::split_paths(value);
                *value = std::env::join_paths(callgate.into_iter().chain(others).chain([helm]))?;
            }
        }
        environment.push(("HOME", cluster.directory().join("home").into()));
        environment.push(("SECCOMP", seccomp.clone().into()));
        Ok(Self {
            _programs: programs,
            _cluster: cluster,
            environment,
            tree,
            seccomp: seccomp.to_str().context("its path is not UTF-8")?.to_owned(),
        })
    }

    /// Runs a step; an error where the page says otherwise.
    pub(crate) async fn run(&self, step: &Step) -> Result<()> {
        let Some(shown) = &step.shown else {
            let (success, printed) = self.answer(&step.command)?;
            ensure!(success, "it failed:\n{printed}");
            return Ok(());
        };
        let compare = || {
            let (_, printed) = self.answer(&step.command)?;
            if !is_shown(shown, &printed) {
                bail!("the page shows:\n{shown}\nit prints:\n{printed}");
            }
            Ok(())
        };
        if only_looks(&step.command) {
            // The page shows what is there in the end.
            return eventually("the output that the page shows", async || compare()).await;
        }
        compare()
    }

    fn answer(&self, command: &str) -> Result<(bool, String)> {
        let command = command.replace(SECCOMP, &self.seccomp);
        let output = Command::new("timeout")
            .args([PATIENCE, "bash", "-euo", "pipefail", "-c"])
            // Both outputs into one pipe, in the order they come, as at a terminal.
            .arg(format!("exec 2>&1\n{command}"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.tree)
            .stdin(Stdio::null())
            .output()
            .context("cannot run bash")?;
        let printed = String::from_utf8_lossy(&output.stdout).replace(&self.seccomp, SECCOMP);
        Ok((output.status.success(), printed))
    }
}

/// Whether a command may be run again and again.
fn only_looks(command: &str) -> bool {
    let looks = ["callgate status", "cat ", "ls ", "sha256sum "];
    (command.starts_with("kubectl ") && (command.contains(" get ") || command.contains(" events ")))
        || looks.iter().any(|look| command.starts_with(look))
}
