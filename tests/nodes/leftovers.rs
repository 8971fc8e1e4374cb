//! Local nodes leave nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use harness::{DIRECTORY, Nodes, Software, eventually};

use crate::lab::alone;

/// What there is on the machine that nodes could leave: mounts, interfaces, rules, control groups with the processes in them,
/// the processes of a control plane and of its network, files and settings of the machine, and temporary directories.
/// Other control planes may begin meanwhile, and what `make chaos` starts and stops; not another cluster of this harness.
fn everything() -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        // One that has just ended has neither.
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let (name, arguments, groups) = (read("comm"), read("cmdline"), read("cgroup"));
        // What holds the network between nodes has its script as an argument.
        if arguments.contains("ip link add br0 type bridge") {
            all.insert(format!("process {} of a network", entry.file_name().display()));
        }
        all.extend(ours(&groups).map(|group| format!("a process in {group}")));
        let is_of_a_control_plane = ["kube-", "etcd"].iter().any(|begin| name.starts_with(begin));
        if is_of_a_control_plane && arguments.contains(DIRECTORY) {
            all.insert(format!("process {} {}", entry.file_name().display(), name.trim()));
        }
    }
    // Groups and files of others may go while it looks.
    let find = |arguments: &[&str]| -> Result<String> {
        let found = Command::new("find").args(arguments).output()?;
        Ok(String::from_utf8_lossy(&found.stdout).into_owned())
    };
    let groups = find(&["/sys/fs/cgroup", "-noleaf", "-type", "d"])?;
    all.extend(ours(&groups).map(|group| format!("control group {group}")));
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    all.extend(mounts.lines().map(|line| format!("mount {line}")));
    let rules = Command::new("nft").args(["list", "ruleset"]).output()?;
    ensure!(
        rules.status.success(),
        "nft: {}",
        String::from_utf8_lossy(&rules.stderr)
    );
    let rules = String::from_utf8(rules.stdout)?;
    all.extend(rules.lines().map(|line| format!("rule {line}")));
    let interfaces = fs::read_to_string("/proc/self/net/dev")?;
    let names = interfaces.lines().filter_map(|line| line.split_once(':'));
    all.extend(names.map(|(name, _)| format!("interface {}", name.trim())));
    for directory in ["/etc", "/opt", "/run", "/usr", "/var/lib", "/var/log"] {
        let found = find(&[directory, "-xdev", "-maxdepth", "3"])?;
        all.extend(found.lines().map(|path| format!("path {path}")));
    }
    for setting in [
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/keys/root_maxkeys",
        "kernel/keys/root_maxbytes",
        "net/ipv4/ip_forward",
    ] {
        let value = fs::read_to_string(Path::new("/proc/sys").join(setting))?;
        all.insert(format!("setting {setting} {value}"));
    }
    for entry in fs::read_dir(std::env::temp_dir())?.flatten() {
        let name = entry.file_name().display().to_string();
        if name.starts_with(DIRECTORY) {
            all.insert(format!("directory {name}"));
        }
    }
    Ok(all)
}

/// The namespaces that threads of processes in such control groups are in.
fn namespaces(is_meant: impl Fn(&str) -> bool) -> Result<BTreeSet<PathBuf>> {
    let mut all = BTreeSet::new();
    for process in fs::read_dir("/proc")?.flatten().map(|entry| entry.path()) {
        // What is no process, or has just ended, has none.
        if !fs::read_to_string(process.join("cgroup")).is_ok_and(|groups| is_meant(&groups)) {
            continue;
        }
        let threads = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
        all.extend(
            threads
                .flat_map(|thread| {
                    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];
                    kinds.map(|kind| fs::read_link(thread.path().join("ns").join(kind)))
                })
                .flatten(),
        );
    }
    Ok(all)
}

/// The namespaces that nodes have made since these were all.
fn namespaces_since(before: &BTreeSet<PathBuf>) -> Result<BTreeSet<PathBuf>> {
    let of_nodes = namespaces(|groups| ours(groups).next().is_some())?;
    let made: BTreeSet<PathBuf> = of_nodes.difference(before).cloned().collect();
    ensure!(made.len() >= 5, "the nodes have made {made:?}");
    Ok(made)
}

/// The control groups of nodes in a list of paths.
fn ours(paths: &str) -> impl Iterator<Item = &str> {
    paths
        .split(['/', '\n'])
        .filter(|part| part.starts_with("callgate-node-"))
}

/// Waits until everything that was not there before is gone, and nobody is in these namespaces.
async fn nothing_left(before: &BTreeSet<String>, made: &BTreeSet<PathBuf>) -> Result<()> {
    eventually("what the nodes made to be gone", async || {
        let now = everything()?;
        let left: Vec<&String> = now.difference(before).collect();
        ensure!(left.is_empty(), "{left:#?}");
        let all = namespaces(|_| true)?;
        let left: Vec<&PathBuf> = all.intersection(made).collect();
        ensure!(left.is_empty(), "somebody is in {left:#?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nodes_that_end_leave_nothing() -> Result<()> {
    let Some(_lab) = alone().await? else { return Ok(()) };
    let (before, namespaces) = (everything()?, namespaces(|_| true)?);
    let nodes = Nodes::start(&[Software::Newest]).await?;
    ensure!(
        everything()?.len() >= before.len() + 5,
        "nothing of the nodes is seen"
    );
    let made = namespaces_since(&namespaces)?;
    drop(nodes);
    nothing_left(&before, &made).await
}

#[tokio::test]
async fn nodes_whose_holder_is_killed_leave_nothing() -> Result<()> {
    let Some(_lab) = alone().await? else { return Ok(()) };
    let (before, namespaces) = (everything()?, namespaces(|_| true)?);
    let program = std::env::current_exe()?;
    let examples = program
        .ancestors()
        .nth(2)
        .map(|directory| directory.join("examples/cluster"));
    let mut holder = Command::new(examples.context("no directory of examples")?)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the cluster of make cluster")?;
    let output = BufReader::new(holder.stdout.take().context("it is piped")?);
    let ready = output
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains("node-2 is ready"));
    ensure!(ready, "it ended before its nodes were ready");
    ensure!(
        everything()?.len() >= before.len() + 5,
        "nothing of the nodes is seen"
    );
    let made = namespaces_since(&namespaces)?;
    holder.kill()?;
    holder.wait()?;
    nothing_left(&before, &made).await
}
