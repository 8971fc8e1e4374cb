//! What a process takes hold of before it shuts itself in, to write there and nowhere else.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, Stat, fstat, open};
use rustix::io::{Errno, retry_on_intr};

use super::dir::{Dir, Identity, identity};
use super::place::{DIR_MODE, no_root};
use super::{Failure, StoreError};
use crate::profile::ProfileName;

/// The seccomp root and `callgate` in it, as they are now.
#[derive(Debug)]
pub struct Ground {
    root: OwnedFd,
    home: Option<Dir>,
    bounds: Bounds,
}

/// Which directories those were: a process that shut itself in may write in no other, whatever lies under their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    root: Identity,
    home: Option<Identity>,
}

impl Ground {
    /// Takes hold of `<seccomp_root>/callgate`, and makes it if nothing is there; whose it is, [`Store`](super::Store)
    /// finds out. Where it can be neither opened nor made, there is none: that too the store tells, and when it is
    /// mended.
    ///
    /// An error where there is no seccomp root.
    pub fn prepare(seccomp_root: &Path) -> Result<Self, StoreError> {
        // Not to be read: whether that is allowed is for the store to tell.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = retry_on_intr(|| open(seccomp_root, flags, Mode::empty()))
            .map_err(|errno| no_root(seccomp_root, errno))?;
        let stat = fstat(&root).map_err(|errno| no_root(seccomp_root, errno))?;
        let home = home(seccomp_root).ok();
        let bounds = Bounds {
            root: identity(&stat),
            home: home.as_ref().map(Dir::identity).transpose()?,
        };
        Ok(Self { root, home, bounds })
    }

    /// The seccomp root.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// `callgate` in it, if there is one.
    #[must_use]
    pub fn home(&self) -> Option<BorrowedFd<'_>> {
        self.home.as_ref().map(Dir::as_fd)
    }

    /// What a store is to be held to.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }
}

fn home(seccomp_root: &Path) -> Result<Dir, Failure> {
    let root = Dir::open(seccomp_root)?;
    match root.open_dir(ProfileName::DIRECTORY) {
        Err(failure) if failure.errno == Errno::NOENT => {
            root.open_or_make_dir(ProfileName::DIRECTORY, DIR_MODE)
        }
        opened => opened,
    }
}

impl Bounds {
    pub(super) fn has_root(&self, root: &Stat) -> bool {
        self.root == identity(root)
    }

    pub(super) fn has_home(&self) -> bool {
        self.home.is_some()
    }

    pub(super) fn is_home(&self, home: &Stat) -> bool {
        self.home == Some(identity(home))
    }
}
