//! Changes in the directory, noticed by inotify.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::inotify::{CreateFlags, Event, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

use super::dir::Dir;
use super::place::META;
use super::repair::is_obstacle;
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

/// What may have changed: where to look, so that one written file is not a reason to read them all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// No more than these: the name of a directory in ours, and of an entry of it that came, went or changed.
    Entries(BTreeSet<(OsString, OsString)>),
    /// Anything: a directory, more than the kernel remembers, or more than [`Changes::MAX_ENTRIES`].
    Anything,
}

impl Default for Changes {
    fn default() -> Self {
        Self::Entries(BTreeSet::new())
    }
}

impl Changes {
    /// How many entries are told apart.
    pub const MAX_ENTRIES: usize = 1000;

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds other changes to these.
    pub fn add(&mut self, others: Self) {
        match (self, others) {
            (Self::Anything, _) => {}
            (this, Self::Anything) => *this = Self::Anything,
            (this, Self::Entries(others)) => {
                for (dir, entry) in others {
                    this.add_entry(&dir, &entry);
                }
            }
        }
    }

    fn add_entry(&mut self, dir: &OsStr, entry: &OsStr) {
        if let Self::Entries(entries) = self {
            entries.insert((dir.to_owned(), entry.to_owned()));
            if entries.len() > Self::MAX_ENTRIES {
                *self = Self::Anything;
            }
        }
    }
}

/// Notices changes in the directory, in those of its namespaces, and that it was replaced or taken away.
///
/// Also notices what [`Store`](super::Store) itself writes. A repair that finds nothing to mend writes nothing,
/// so to repair after each change comes to an end.
#[derive(Debug)]
pub struct DriftWatch {
    inotify: AsyncFd<OwnedFd>,
    root: Dir,
    watches: Watches,
}

/// The directories that are watched, by the watch's descriptor.
#[derive(Debug, Default)]
struct Watches(BTreeMap<i32, Watched>);

#[derive(Debug)]
enum Watched {
    /// The seccomp root, in which others have their own files.
    Root,
    /// Our directory.
    Home,
    /// One in it, by its name.
    Below(OsString),
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
            watches: Watches::default(),
        };
        watch.refresh()?;
        Ok(watch)
    }

    /// Returns what changed since the last call, once something did; a burst of changes is one. Cancel safe.
    ///
    /// An error ([`StoreError::WatchLimit`] above all) means that changes may go unnoticed from now on: look at
    /// intervals, and make a new watch when it works again.
    pub async fn changed(&mut self) -> Result<Changes, StoreError> {
        loop {
            let mut ready = self.inotify.readable().await.map_err(|error| {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                failure(&self.root, "watch", errno)
            })?;
            let (changes, drained) = drain(self.inotify.get_ref(), &self.watches)
                .map_err(|errno| failure(&self.root, "read changes of", errno))?;
            if drained {
                ready.clear_ready_matching(Ready::READABLE);
            }
            if changes == Changes::Anything {
                // First the watches, then the caller's look: what happens in between is seen by one of them.
                self.refresh()?;
            }
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    /// Watches the directories that there are now, and those no longer that are elsewhere now.
    fn refresh(&mut self) -> Result<(), StoreError> {
        let mut watches = BTreeMap::from([(self.add(&self.root)?, Watched::Root)]);
        if let Some(home) = open_dir(&self.root, ProfileName::DIRECTORY)? {
            watches.insert(self.add(&home)?, Watched::Home);
            for entry in home.entries()? {
                let name = entry?;
                if (name == META || name.to_str().is_some_and(is_namespace))
                    && let Some(dir) = open_dir(&home, &name)?
                {
                    watches.insert(self.add(&dir)?, Watched::Below(name));
                }
            }
        }
        for gone in self.watches.0.keys().filter(|watch| !watches.contains_key(watch)) {
            // The kernel has removed those of deleted directories itself.
            _ = remove_watch(self.inotify.get_ref(), *gone);
        }
        self.watches = Watches(watches);
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

impl Watches {
    /// Adds what an event says to what changed.
    fn tell(&self, event: &Event<'_>, changes: &mut Changes) {
        // A watch that ended says nothing that the event which ended it has not said.
        if event.events() == ReadFlags::IGNORED {
            return;
        }
        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
        match (self.0.get(&event.wd()), name) {
            (Some(Watched::Root), Some(name)) if name != ProfileName::DIRECTORY => {}
            (Some(Watched::Below(dir)), Some(name)) => changes.add_entry(dir, name),
            _ => *changes = Changes::Anything,
        }
    }
}

/// Reads what is queued: what of it counts, and whether nothing is left.
fn drain(inotify: &OwnedFd, watches: &Watches) -> Result<(Changes, bool), Errno> {
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut reader = Reader::new(inotify, &mut buffer);
    let (mut changes, mut reads) = (Changes::default(), 0);
    loop {
        if reader.is_buffer_empty() {
            if reads == MAX_READS {
                return Ok((changes, false));
            }
            reads += 1;
        }
        match reader.next() {
            Err(Errno::WOULDBLOCK) => return Ok((changes, true)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(event) => watches.tell(&event, &mut changes),
        }
    }
}

/// A directory, or `None` where there is none that may be opened: that is watched from above, and its change is one of the
/// directory it lies in.
fn open_dir(parent: &Dir, name: impl AsRef<OsStr>) -> Result<Option<Dir>, Failure> {
    match parent.open_dir(name) {
        Ok(dir) => Ok(Some(dir)),
        Err(failure) if is_obstacle(&failure) || failure.errno == Errno::ACCESS => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn failure(dir: &Dir, operation: &'static str, errno: Errno) -> Failure {
    Failure {
        operation,
        path: dir.path().to_owned(),
        errno,
    }
}
