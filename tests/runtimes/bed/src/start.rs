//! Starting one container.

use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{geteuid, getpid};
use tempfile::TempDir;

use crate::call::Call;
use crate::config::config;
use crate::outcome::Outcome;
use crate::runtime::Runtime;

/// What `init` may take beyond the deadline of the container, to end and remove it.
const CLEARING: Duration = Duration::from_secs(30);

/// How often a start is made that the runtime gave up by chance.
const TRIES: u32 = 20;

/// Counts the control groups of this process.
static STARTS: AtomicU32 = AtomicU32::new(0);

/// One start to try.
#[derive(Debug, Clone, Copy)]
pub struct Container<'a> {
    /// The user and group of its process.
    pub uid: u32,
    /// Kubernetes' `allowPrivilegeEscalation: false`.
    pub no_new_privs: bool,
    /// `linux.seccomp` of its configuration, as JSON text, to the letter; `None` for a container without a filter.
    pub seccomp: Option<&'a str>,
    /// What to ask. Without calls the probe makes none at all, not even to write.
    pub calls: &'a [Call],
    /// How long it may take.
    pub deadline: Duration,
}

/// A place to start containers from: the compiled helpers, and a root file system with nothing but the probe.
#[derive(Debug)]
pub struct Bed {
    folder: TempDir,
    init: PathBuf,
    rootfs: PathBuf,
}

impl Bed {
    /// Compiles the helpers. Fails, with what to do, where containers cannot be started at all.
    pub fn new() -> Result<Self> {
        ensure!(
            geteuid().is_root(),
            "container runtimes are started with namespaces and mounts of their own: run this as root"
        );
        let folder = TempDir::new().context("cannot make a temporary directory")?;
        let (init, rootfs) = (folder.path().join("init"), folder.path().join("rootfs"));
        for mount_point in ["proc", "dev"] {
            fs::create_dir_all(rootfs.join(mount_point))?;
        }
        compile(include_str!("init.c"), &init, &[])?;
        let bare = [
            "-nostdlib",
            "-static",
            "-ffreestanding",
            "-fno-stack-protector",
            "-fno-pie",
            "-no-pie",
            "-mno-red-zone",
        ];
        compile(include_str!("probe.c"), &rootfs.join("probe"), &bare)?;
        Ok(Self { folder, init, rootfs })
    }

    /// Lets the runtime create and start a container, and waits for its end or its deadline. An error is one of the
    /// machine or of this bed, never the runtime's refusal. What was started is gone when this returns.
    pub fn start(&self, runtime: &Runtime, container: &Container<'_>) -> Result<Outcome> {
        for _ in 0..TRIES {
            let outcome = self.start_once(runtime, container)?;
            if !outcome.is_by_chance() {
                return Ok(outcome);
            }
        }
        bail!("{runtime} could not seal a copy of its own program, {TRIES} times in a row")
    }

    fn start_once(&self, runtime: &Runtime, container: &Container<'_>) -> Result<Outcome> {
        let number = STARTS.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("callgate-test-{}-{number}", getpid());
        let bundle = self.folder.path().join(number.to_string());
        fs::create_dir(&bundle)?;
        let rootfs = self
            .rootfs
            .to_str()
            .context("the temporary directory has no plain name")?;
        fs::write(bundle.join("config.json"), config(container, rootfs, &cgroup))?;
        let mut child = Command::new("unshare")
            .args([
                "--mount",
                "--propagation=private",
                "--pid",
                "--fork",
                "--kill-child=KILL",
                "--mount-proc",
            ])
            .arg(&self.init)
            .arg(container.deadline.as_secs().to_string())
            .args([&bundle, Path::new(&cgroup), &runtime.program])
            .args(runtime.options())
            // youki would put a trace of its own calls behind the reason.
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run unshare (Debian package util-linux)")?;
        let report = collect(&mut child, container.deadline + CLEARING)
            .with_context(|| format!("starting a container with {runtime}"))?;
        let read = |name| fs::read(bundle.join(name)).unwrap_or_default();
        let log = String::from_utf8_lossy(&read("log")).into_owned();
        let outcome = Outcome::read(
            &report,
            &String::from_utf8_lossy(&read("out")),
            log,
            container.calls.len(),
        )?;
        fs::remove_dir_all(&bundle)?;
        Ok(outcome)
    }
}

fn compile(source: &str, program: &Path, options: &[&str]) -> Result<()> {
    let file = program.with_extension("c");
    fs::write(&file, source)?;
    let output = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-Werror"])
        .args(options)
        .arg("-o")
        .args([program, &file])
        .output()
        .context("cannot run cc: run tests/packages, or install a C compiler")?;
    ensure!(
        output.status.success(),
        "cc cannot compile {}:\n{}",
        file.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    fs::remove_file(file)?;
    Ok(())
}

/// Reads what `init` says until it ends. Everything in its namespaces ends with it.
fn collect(child: &mut Child, patience: Duration) -> Result<String> {
    let end = Instant::now() + patience;
    let mut stdout = child.stdout.take().context("standard output is piped")?;
    let mut report = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            child.kill()?;
            child.wait()?;
            bail!("the runtime could not be ended within {} s", patience.as_secs());
        }
        let timeout = Timespec::try_from(left)?;
        let stdout_fd = stdout.as_fd();
        match poll(&mut [PollFd::new(&stdout_fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut buffer = [0; 256];
        match stdout.read(&mut buffer)? {
            0 => break,
            count => report.extend_from_slice(&buffer[..count]),
        }
    }
    let mut errors = String::new();
    child
        .stderr
        .take()
        .context("standard error is piped")?
        .read_to_string(&mut errors)?;
    let status = child.wait()?;
    ensure!(
        status.success() && errors.is_empty(),
        "init: {status}: {}",
        errors.trim()
    );
    Ok(String::from_utf8(report)?)
}
