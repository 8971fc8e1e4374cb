//! Child processes that end with us.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal};

use crate::logs::{Log, tail};
use crate::wait::eventually;

/// A running program. It is killed when this value is dropped, and when the process that started it ends in any way.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Log,
}

impl Process {
    /// Starts `command` with its output going to the file `log`.
    ///
    /// It runs in its own process group, so that a Ctrl-C on the terminal reaches only us. Only the program, the
    /// arguments, the environment and the working directory of `command` are used.
    pub fn start(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        // The standard library has no safe way to ask for a signal on the parent's death; util-linux's setpriv asks
        // and then becomes the program: same process id.
        let mut wrapped = Command::new("setpriv");
        wrapped
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            wrapped.current_dir(directory);
        }
        wrapped
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("cannot duplicate a log file")?)
            .stderr(file);
        let child =
            spawn(wrapped).with_context(|| format!("cannot start {name} through setpriv (util-linux)"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: Log::register(log),
        })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn log(&self) -> Result<String> {
        self.log.read()
    }

    /// An error with the end of its log when it no longer runs.
    pub fn running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "{} ended ({status}); the end of its log:\n{}",
                self.name,
                tail(&self.log.read()?)
            );
        }
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits for that.
    pub async fn terminate(self) -> Result<ExitStatus> {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM)
            .with_context(|| format!("cannot signal {}", self.name))?;
        self.ended().await
    }

    /// Kills it, and waits for that.
    pub(crate) fn kill(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end, which is known to come at once.
    pub(crate) fn wait(&mut self) {
        let _ = self.child.wait();
    }

    /// Waits until it ends.
    pub async fn ended(mut self) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        eventually(&what, async || self.child.try_wait()?.context("it still runs")).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Spawns on a thread that lives as long as the process: the kernel sends the death signal when the *thread* that
/// forked ends, and a test's thread ends before the tests that share its cluster.
fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, SyncSender<io::Result<Child>>);
    static SPAWNER: LazyLock<Sender<Job>> = LazyLock::new(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in jobs {
                // The receiver waits below for as long as the job runs.
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, answer) = sync_channel(1);
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    SPAWNER
        .send((command, reply))
        .map_err(|_| io::Error::other("the thread that starts processes is gone"))?;
    answer.recv().map_err(gone)?
}
