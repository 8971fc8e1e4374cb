//! One node's namespaces: what runs in them sees a machine of its own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::process::Process;
use crate::scratch::Sweeper;
use crate::wait::eventually;

const SCRIPT: &str = include_str!("machine.sh");

/// Counts the machines of this process.
static MACHINES: AtomicU32 = AtomicU32::new(0);

/// Removes the groups with the name `$1` beneath those that the caller is in, innermost first. What was in them is
/// being killed at that moment.
const REMOVE_GROUPS: &str = r#"
# What makes them may not have been told of our end yet.
sleep 1
n=0
while [ $n -lt 600 ]; do
    # Groups go while it looks: that is no error, and the number of links of a directory says nothing.
    found=$(find /sys/fs/cgroup -noleaf -depth -type d \( -name "$1" -o -path "*/$1/*" \) 2>/dev/null || true)
    [ -n "$found" ] || break
    rmdir $found 2>/dev/null || sleep 0.1
    n=$((n + 1))
done"#;

/// The namespaces, the control group and the first process of a node. All of it goes with this value, and with the
/// process that holds it however that one ends.
#[derive(Debug)]
pub(crate) struct Machine {
    name: String,
    // The order is that of the end: the processes, then their groups.
    init: Process,
    pid: u32,
    group: String,
    script: PathBuf,
    _groups: Sweeper,
    directory: PathBuf,
}

impl Machine {
    /// Makes it; `directory` is for its logs.
    pub(crate) async fn start(name: &str, directory: &Path) -> Result<Self> {
        fs::create_dir(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let script = directory.join("machine.sh");
        fs::write(&script, SCRIPT)?;
        let number = MACHINES.fetch_add(1, Ordering::Relaxed);
        let group = format!("callgate-node-{}-{number}", std::process::id());
        let groups = Sweeper::start(REMOVE_GROUPS, &[group.as_ref()])?;
        let mut command = Command::new("sh");
        command.arg(&script).args(["host", name, &group]);
        let mut init = Process::start(name, &command, &directory.join("machine.log"))?;
        let outer = init.id();
        let pid = eventually("the first process of a node", async || {
            if let Err(error) = init.running() {
                return Ok(Err(error));
            }
            let log = init.log()?;
            ensure!(log.lines().any(|line| line == "ready"), "it says: {log}");
            only_child(outer).map(Ok)
        })
        .await??;
        Ok(Self {
            name: name.to_owned(),
            init,
            pid,
            group,
            script,
            _groups: groups,
            directory: directory.to_owned(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Of its first process, seen from here.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Where a file of it is, seen from here.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// The directory for its logs and settings, the same inside and outside.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A command that runs in it, to add arguments to.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        command
            .arg(&self.script)
            .args(["run", &self.group, &self.pid.to_string()])
            .arg(program);
        command
    }

    /// Runs a program in it to its end.
    pub(crate) fn run(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<String> {
        let program = program.as_ref();
        let output = self
            .command(program)
            .args(arguments)
            .output()
            .context("cannot run sh")?;
        if !output.status.success() {
            bail!(
                "{} {} on {}: {}: {}",
                program.display(),
                arguments.join(" "),
                self.name,
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With the first process the kernel kills all others, and unshare ends, which `init` waits for. Its number is
        // another's if it has ended before.
        if only_child(self.init.id()).ok() == Some(self.pid)
            && let Some(pid) = Pid::from_raw(self.pid.cast_signed())
        {
            let _ = kill_process(pid, Signal::KILL);
            self.init.wait();
        }
    }
}

/// The one child of a process.
pub(crate) fn only_child(parent: u32) -> Result<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    let mut children = children.split_whitespace();
    match (children.next(), children.next()) {
        (Some(child), None) => Ok(child.parse()?),
        (None, _) => bail!("process {parent} has no child yet"),
        (Some(_), Some(_)) => bail!("process {parent} has several children"),
    }
}
