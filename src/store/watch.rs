//! Changes in the directory, noticed by inotify.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

use super::dir::Dir;
use super::place::META;
use super::{Failure, StoreError, is_namespace};
use crate::profile::ProfileName;

/// All that changes a file, a directory or what may be done with them; nothing that only reads, so that a look
/// at the directory is no event.
const MASK: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// How many times the queue is read before a change is told: somebody may fill it without end.
const MAX_READS: usize = 64;

/// Notices changes in the directory, in those of its namespaces, and that it was replaced or taken away.
///
/// Also notices what [`Store`](super::Store) itself writes. A repair that finds nothing to mend writes nothing,
/// so to repair after each change comes to an end.
#[derive(Debug)]
pub struct DriftWatch {
    inotify: AsyncFd<OwnedFd>,
    root: Dir,
    root_watch: i32,
    watches: BTreeSet<i32>,
}

impl DriftWatch {
    pub(super) fn new(root: &Dir) -> Result<Self, StoreError> {
        let root = root.try_clone()?;
        let failed = |errno| failure(&root, "watch", errno);
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|errno| match errno {
            Errno::MFILE | Errno::NFILE => StoreError::WatchLimit(failed(errno)),
            errno => failed(errno).into(),
        })?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for the sake of types whose descriptor may change; that of OwnedFd does not"
        )]
        let inotify = AsyncFd::with_interest(inotify, Interest::READABLE)
            .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        let mut watch = Self {
            inotify,
            root,
            root_watch: -1,
            watches: BTreeSet::new(),
        };
        watch.refresh()?;
        Ok(watch)
    }

    /// Returns once something changed since the last call; a burst of changes is one. Cancel safe.
    ///
    /// An error ([`StoreError::WatchLimit`] above all) means that changes may go unnoticed from now on: look at
    /// intervals, and make a new watch when it works again.
    pub async fn changed(&mut self) -> Result<(), StoreError> {
        loop {
            let mut ready = self.inotify.readable().await.map_err(|error| {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                failure(&self.root, "watch", errno)
            })?;
            let (changed, drained) = drain(self.inotify.get_ref(), self.root_watch)
                .map_err(|errno| failure(&self.root, "read changes of", errno))?;
            if drained {
                ready.clear_ready_matching(Ready::READABLE);
            }
            if changed {
                // First the watches, then the caller's look: what happens in between is seen by one of them.
                self.refresh()?;
                return Ok(());
            }
        }
    }

    /// Watches the directories that there are now, and those no longer that are elsewhere now.
    fn refresh(&mut self) -> Result<(), StoreError> {
        self.root_watch = self.add(&self.root)?;
        let mut watches = BTreeSet::from([self.root_watch]);
        // What cannot be opened is watched from above: its change is one of the directory it lies in.
        if let Ok(home) = self.root.open_dir(ProfileName::DIRECTORY) {
            watches.insert(self.add(&home)?);
            for entry in home.entries()? {
                let name = entry?;
                if (name == META || name.to_str().is_some_and(is_namespace))
                    && let Ok(dir) = home.open_dir(&name)
                {
                    watches.insert(self.add(&dir)?);
                }
            }
        }
        for gone in self.watches.difference(&watches) {
            // The kernel has removed those of deleted directories itself.
            _ = remove_watch(self.inotify.get_ref(), *gone);
        }
        self.watches = watches;
        Ok(())
    }

    fn add(&self, dir: &Dir) -> Result<i32, StoreError> {
        add_watch(self.inotify.get_ref(), dir.magic_path(), MASK).map_err(|errno| {
            let failure = failure(dir, "watch", errno);
            match errno {
                Errno::NOSPC => StoreError::WatchLimit(failure),
                _ => failure.into(),
            }
        })
    }
}

/// Reads what is queued: whether anything of it counts, and whether nothing is left.
fn drain(inotify: &OwnedFd, root_watch: i32) -> Result<(bool, bool), Errno> {
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut reader = Reader::new(inotify, &mut buffer);
    let (mut changed, mut reads) = (false, 0);
    loop {
        if reader.is_buffer_empty() {
            if reads == MAX_READS {
                return Ok((changed, false));
            }
            reads += 1;
        }
        match reader.next() {
            Err(Errno::WOULDBLOCK) => return Ok((changed, true)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(event) => {
                // In the root others have their own files. A watch that ended says nothing that the event which
                // ended it has not said.
                let elsewhere = event.wd() == root_watch
                    && event
                        .file_name()
                        .is_some_and(|name| name.to_bytes() != ProfileName::DIRECTORY.as_bytes());
                changed |= !elsewhere && event.events() != ReadFlags::IGNORED;
            }
        }
    }
}

fn failure(dir: &Dir, operation: &'static str, errno: Errno) -> Failure {
    Failure {
        operation,
        path: dir.path().to_owned(),
        errno,
    }
}
