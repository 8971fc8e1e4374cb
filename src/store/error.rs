//! What can go wrong with the directory, in words a person can act on.

use std::fmt;
use std::path::PathBuf;

use rustix::io::Errno;

use super::Owner;

/// Why the directory, or something in it, could not be used. Each names the path and the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Something is there, and no marker says that it is ours. Nothing in it was touched.
    #[error(
        "{}: not a directory of Callgate: {reason}; nothing there was touched; move it away, or name another seccomp root",
        path.display()
    )]
    NotOurs {
        /// What lies in our place.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The marker names somebody else. Nothing was touched.
    #[error(
        "{}: belongs to {found}, not to {wanted}; nothing there was touched; uninstall the one, or delete this directory once no pod on this node uses a profile in it",
        path.display()
    )]
    OtherOwner {
        /// The directory.
        path: PathBuf,
        /// Whom the marker names.
        found: Owner,
        /// Who asked.
        wanted: Owner,
    },
    /// No directory of ours is there yet, and the caller does not know for whom to make one.
    #[error(
        "{}: there is no directory of Callgate yet; it is made once the API server has said which cluster this is",
        path.display()
    )]
    NoOwner {
        /// Where it would be.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error(
        "{}: another callgate process works on this directory; end it first (one agent or one `callgate install` at a time)",
        path.display()
    )]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// The seccomp root is not there, or no longer the one that was opened: what is written now, no kubelet
    /// reads. The process must end and open it afresh.
    #[error(
        "{}: the kubelet's seccomp directory {reason}; create it or mount it again, then restart this process",
        path.display()
    )]
    RootGone {
        /// The seccomp root.
        path: PathBuf,
        /// What became of it.
        reason: &'static str,
    },
    /// `callgate` is not what it was when this process shut itself in ([`Bounds`](super::Bounds)): what lies there now,
    /// if anything, this process cannot write. Nothing was touched. The process must end; the next one takes what it
    /// finds.
    #[error(
        "{}: is not the directory that was there when this process started, and it has shut itself in to write in no \
         other; it ends, and the next one starts with what is there now",
        path.display()
    )]
    OutOfBounds {
        /// The directory.
        path: PathBuf,
    },
    /// The kernel has no inotify instance or watch left for us. Everything else works; look at the directory
    /// at intervals instead.
    #[error("changes cannot be noticed at once, only by looking every few seconds: {0}; raise {limit} on this node", limit = watch_limit(.0))]
    WatchLimit(Failure),
    /// The disk, its inodes or a quota is full. What was there before is still there.
    #[error("{0}; free space or inodes on that file system, or raise its quota")]
    NoSpace(Failure),
    /// The file system is mounted read-only.
    #[error("{0}; mount it writable (a kernel remounts a failing disk read-only: see the node's kernel log)")]
    ReadOnly(Failure),
    /// The kernel denied it.
    #[error(
        "{0}; the process needs to own this path (chown, chmod, chattr -i), and no security module may deny it"
    )]
    Denied(Failure),
    /// Anything else.
    #[error("{0}; see the node's kernel log and the mounts below this path")]
    Io(Failure),
}

impl StoreError {
    /// Whether this process can do nothing about it, whatever else happens, and a new one can.
    #[must_use]
    pub const fn needs_a_new_process(&self) -> bool {
        matches!(self, Self::RootGone { .. } | Self::OutOfBounds { .. })
    }
}

/// One system call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was tried, as in "cannot OPERATION PATH".
    pub operation: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the kernel answered.
    pub errno: Errno,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot {} {}: {}",
            self.operation,
            self.path.display(),
            self.errno
        )
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure.errno {
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace(failure),
            Errno::ROFS => Self::ReadOnly(failure),
            Errno::ACCESS | Errno::PERM => Self::Denied(failure),
            _ => Self::Io(failure),
        }
    }
}

/// Source: `inotify(7)`, `inotify_init(2)`, `inotify_add_watch(2)`.
fn watch_limit(failure: &Failure) -> &'static str {
    match failure.errno {
        Errno::NOSPC => "fs.inotify.max_user_watches",
        _ => "fs.inotify.max_user_instances, or the limit of open files",
    }
}
