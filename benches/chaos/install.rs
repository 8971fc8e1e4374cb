//! `callgate install`, which runs the agent's own store on a folder: what starts fast enough to be killed by the thousand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, ensure};
use harness::Scratch;
use serde_json::json;

use crate::callgate;
use crate::versions::{self, Versions};

/// Namespaces and names that profiles have.
const NAMESPACES: [&str; 3] = ["shop", "bank", "x"];
const NAMES: [&str; 3] = ["web", "db", "a.b-c"];

/// From one set of profiles to another.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) before: Versions,
    pub(crate) after: Versions,
}

impl Change {
    /// From `before`: some profiles go, some change, some come, and at least one differs. `after` is never empty.
    pub(crate) fn random(before: &Versions, random: &mut fastrand::Rng) -> Self {
        let mut after = before.clone();
        while after.is_empty() || after == *before {
            for _ in 0..random.u32(1..=4) {
                let there: Vec<String> = after.keys().cloned().collect();
                let there = random.choice(there).filter(|_| random.u8(..3) > 0);
                match there {
                    Some(name) if random.bool() => {
                        after.remove(&name);
                    }
                    there => {
                        let name = there.unwrap_or_else(|| any_name(random));
                        after.insert(name, random.u32(1..1_000_000));
                    }
                }
            }
        }
        Self {
            before: before.clone(),
            after,
        }
    }

    /// From a random set, empty at times.
    pub(crate) fn from_anything(random: &mut fastrand::Rng) -> Self {
        let nothing = Versions::new();
        let before = if random.u8(..4) == 0 {
            nothing
        } else {
            Self::random(&nothing, random).after
        };
        Self::random(&before, random)
    }
}

fn any_name(random: &mut fastrand::Rng) -> String {
    let namespace = random.choice(NAMESPACES).unwrap_or(NAMESPACES[0]);
    let name = random.choice(NAMES).unwrap_or(NAMES[0]);
    format!("{namespace}/{name}")
}

/// A directory for seccomp roots and folders of manifests, of which nothing stays, however this program ends.
#[derive(Debug)]
pub(crate) struct Workplace(Scratch);

impl Workplace {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Scratch::new("callgate-chaos-")?))
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A folder with these profiles, and nothing else.
    pub(crate) fn folder(&self, name: &str, wanted: &Versions) -> Result<PathBuf> {
        let folder = self.fresh(name)?;
        for (profile, version) in wanted {
            let (namespace, name) = profile.split_once('/').context("a name without namespace")?;
            let manifest = json!({
                "apiVersion": "callgate.dev/v1alpha1",
                "kind": "SeccompProfile",
                "metadata": { "name": name, "namespace": namespace },
                "spec": versions::spec(*version)?,
            });
            fs::write(
                folder.join(format!("{namespace}-{name}.json")),
                manifest.to_string(),
            )?;
        }
        Ok(folder)
    }

    /// An empty directory of this name, whatever was there.
    pub(crate) fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// A seccomp root with these profiles installed.
    pub(crate) fn root(&self, name: &str, installed: &Versions) -> Result<PathBuf> {
        let root = self.fresh(name)?;
        if !installed.is_empty() {
            let folder = self.folder("before", installed)?;
            let status = install(Command::new(callgate()), &folder, &root)?;
            ensure!(status.success(), "the first install ended with {status}");
        }
        Ok(root)
    }

    /// A copy of a seccomp root.
    pub(crate) fn copy(&self, root: &Path, name: &str) -> Result<PathBuf> {
        let copy = self.path(name);
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        let status = Command::new("cp").arg("-a").arg(root).arg(&copy).status()?;
        ensure!(status.success(), "cp -a ended with {status}");
        Ok(copy)
    }
}

/// Makes `root` what `folder` says. `command` becomes callgate with the arguments that are added to it.
pub(crate) fn install(command: Command, folder: &Path, root: &Path) -> Result<ExitStatus> {
    installing(command, folder, root)
        .status()
        .context("cannot start it")
}

/// The same, to be started.
pub(crate) fn installing(mut command: Command, folder: &Path, root: &Path) -> Command {
    command
        .arg("install")
        .arg(folder)
        .arg("--seccomp-root")
        .arg(root)
        .arg("--prune")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}
