//! How a fork server is started, and what its parent holds of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::Limits;
use super::message::{MAX_REPLY, MAX_REQUEST, Reply};
use super::packet::{make_room, receive, send};

/// The hidden subcommand that becomes the server.
const SUBCOMMAND: &str = "fork-server";
/// How long it may take to confine itself.
const START: Duration = Duration::from_secs(10);

/// Why there is no fork server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program could not be run.
    #[error("cannot start the fork server {}: {error}", program.display())]
    Spawn {
        /// What was to be run.
        program: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It could not confine itself.
    #[error("the fork server cannot confine itself: {0}")]
    Confine(String),
    /// It ended, or said nothing in time.
    #[error("the fork server did not start: {0}")]
    Silent(String),
}

/// A fork server that runs. It ends when this is dropped.
#[derive(Debug)]
pub struct ForkServer {
    pub(super) launch: Launch,
    pub(super) connection: Connection,
}

impl ForkServer {
    /// Starts one, of this very program, and waits until it is confined. To be called before this process has
    /// threads or secrets, though nothing of either would reach the server.
    pub fn start(limits: Limits) -> Result<Self, StartError> {
        Self::start_program(Path::new("/proc/self/exe"), limits)
    }

    /// Starts one of another program, which must call [`serve`](super::serve) on `fork-server` as its first argument.
    pub fn start_program(program: &Path, limits: Limits) -> Result<Self, StartError> {
        let spawn = |error| StartError::Spawn {
            program: program.to_owned(),
            error,
        };
        let launch = Launch {
            program: program.to_owned(),
            limits,
            nowhere: Arc::new(File::options().write(true).open("/dev/null").map_err(spawn)?),
        };
        Ok(Self {
            connection: launch.start()?,
            launch,
        })
    }

    /// The id of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.connection.process.id()
    }
}

/// How to start a server, and start it again.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    program: PathBuf,
    pub(super) limits: Limits,
    /// Its standard output. Opened once: a parent that has shut itself in can write no file, not even this one.
    nowhere: Arc<File>,
}

impl Launch {
    pub(super) fn start(&self) -> Result<Connection, StartError> {
        let spawn = |error| StartError::Spawn {
            program: self.program.clone(),
            error,
        };
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(|errno| spawn(errno.into()))?;
        for socket in [&ours, &theirs] {
            // Less only makes large ones fail, each for itself.
            _ = make_room(socket.as_fd(), 2 * MAX_REQUEST);
        }
        let process = Command::new(&self.program)
            .arg0("callgate")
            .arg(SUBCOMMAND)
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(self.nowhere.try_clone().map_err(spawn)?)
            .spawn()
            .map_err(spawn)?;
        let connection = Connection {
            socket: ours,
            process,
        };

        #[expect(clippy::expect_used, reason = "a struct of numbers always serialises")]
        let limits = serde_json::to_vec(&self.limits).expect("plain data");
        let silent = |errno: rustix::io::Errno| StartError::Silent(errno.to_string());
        send(connection.socket.as_fd(), &limits).map_err(silent)?;
        let mut ready = [PollFd::new(&connection.socket, PollFlags::IN)];
        let timeout = Timespec {
            tv_sec: START.as_secs().cast_signed(),
            tv_nsec: 0,
        };
        if poll(&mut ready, Some(&timeout)).map_err(silent)? == 0 {
            return Err(StartError::Silent(format!(
                "no word within {} s",
                START.as_secs()
            )));
        }
        match receive(connection.socket.as_fd(), MAX_REPLY)
            .map_err(silent)?
            .and_then(|(kept, _)| Reply::decode(&kept))
        {
            Some(Reply::Ready) => Ok(connection),
            Some(Reply::Broken(reason)) => Err(StartError::Confine(reason)),
            Some(other) => Err(StartError::Silent(format!("unexpected word {other:?}"))),
            None => Err(StartError::Silent("it ended".to_owned())),
        }
    }
}

/// A server's process and the socket to it. Both end with it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    process: Child,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Its children follow it (PR_SET_PDEATHSIG). Nothing is to be done should it be gone already.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
