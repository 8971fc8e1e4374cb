//! What a thousand agents in one process need of the machine beyond its defaults.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use harness::{Scratch, Sweeper};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Of the whole machine, for each user.
const INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";
/// For others while the agents have theirs.
const OTHERS: u64 = 256;
/// Puts the old value back, unless somebody else has set another one since.
const RESTORE: &str = r#"[ "$(cat "$1")" = "$2" ] && echo "$3" > "$1""#;
/// Where directories of nodes are in memory.
const MEMORY: &str = "/dev/shm";
/// Of a file of a profile and of its inode, generously.
const BYTES_PER_FILE: u64 = 16 * 1024;

/// What was changed for this run. It is as it was once this value is dropped, and when this program ends in any way.
pub(crate) struct Limits {
    _inotify: Option<Sweeper>,
}

impl Limits {
    /// For this many agents: open files of this process, and instances of inotify, one for each agent.
    pub(crate) fn raise(agents: u64) -> Result<Self> {
        let files = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: files.maximum,
            ..files
        };
        setrlimit(Resource::Nofile, raised).context("cannot raise the limit on open files")?;
        let needed = 500 + 16 * agents;
        ensure!(
            files.maximum.is_none_or(|maximum| maximum >= needed),
            "{agents} agents in one process need {needed} open files: raise the hard limit (ulimit -Hn)"
        );

        let before: u64 = fs::read_to_string(INSTANCES)?.trim().parse()?;
        let needed = agents + OTHERS;
        if before >= needed {
            return Ok(Self { _inotify: None });
        }
        let (old, new) = (before.to_string(), needed.to_string());
        let restore = Sweeper::start(RESTORE, &[INSTANCES.as_ref(), new.as_ref(), old.as_ref()])?;
        fs::write(INSTANCES, &new).with_context(|| {
            format!(
                "{agents} agents need {needed} instances of inotify, and this user may have {before}: run this as \
                 root, which raises {INSTANCES} meanwhile, or raise it yourself"
            )
        })?;
        Ok(Self {
            _inotify: Some(restore),
        })
    }
}

/// A directory for the nodes' own ones: in memory if they fit there with room to spare.
pub(crate) fn ground(files: u64) -> Result<(Scratch, &'static str)> {
    let free = rustix::fs::statvfs(MEMORY).map_or(0, |memory| memory.f_bavail * memory.f_frsize);
    let (parent, kind) = if free / 2 > files * BYTES_PER_FILE {
        (PathBuf::from(MEMORY), "in memory (tmpfs)")
    } else {
        (std::env::temp_dir(), "on disk")
    };
    Ok((Scratch::within(Path::new(&parent), "callgate-scale-")?, kind))
}
