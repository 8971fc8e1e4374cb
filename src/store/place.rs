//! Where the directory lies: the seccomp root, `callgate` in it, our own files in `callgate/.callgate`; whose it
//! is, that nobody else works on it, and that it is still the one that the kubelet reads.

use std::ffi::OsStr;
use std::path::Path;

use rustix::fs::{Mode, stat};
use rustix::io::Errno;

use super::dir::{Content, Dir, Locked, identity, is_temporary};
use super::ground::Bounds;
use super::record::{marker, parse_marker};
use super::{Failure, Owner, StoreError};
use crate::profile::ProfileName;

/// The directory of our own files. No namespace is named so.
pub(super) const META: &str = ".callgate";
/// In it: whose the directory is.
pub(super) const MARKER: &str = "owner.json";
/// In it: what was written and proven.
pub(super) const RECORD: &str = "record.json";

const MARKER_MAX_BYTES: usize = 4096;

pub(super) const DIR_MODE: Mode = Mode::from_raw_mode(0o755);
/// So that nobody but us can take the lock on it.
pub(super) const META_MODE: Mode = Mode::from_raw_mode(0o700);
pub(super) const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// An open place, locked for this process.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) root: Dir,
    /// `callgate`.
    pub(super) home: Dir,
    /// `callgate/.callgate`. Its lock (flock(2)) ends with the process, however that ends.
    pub(super) meta: Locked,
    owner: Owner,
    bounds: Option<Bounds>,
}

/// What [`Place::attend`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attended {
    /// Everything where it was.
    Same,
    /// `callgate` had another mode or owner: others could not read it, or could write it.
    Reopened,
    /// `callgate` or `.callgate` is another now: files or the record may be missing.
    Replaced,
}

impl Place {
    /// Opens it, or makes it for an owner. See [`super::Store::open_within`].
    pub(super) fn open(
        root: &Path,
        owner: Option<&Owner>,
        bounds: Option<Bounds>,
    ) -> Result<Self, StoreError> {
        if let Some(bounds) = bounds
            && !bounds.has_root(&stat(root).map_err(|errno| no_root(root, errno))?)
        {
            return Err(replaced(root));
        }
        let root = Dir::open(root).map_err(|failure| no_root(root, failure.errno))?;
        let (home, meta, owner) = enter(&root, owner, bounds)?;
        Ok(Self {
            root,
            home,
            meta,
            owner,
            bounds,
        })
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Makes it an owner's, if it is that owner's or may become it.
    pub(super) fn claim(&mut self, owner: &Owner) -> Result<(), StoreError> {
        if may_take(&self.owner, owner, self.home.path())? {
            self.meta.put(MARKER, &marker(owner), FILE_MODE)?;
            self.owner = owner.clone();
        }
        Ok(())
    }

    /// Makes sure that the handles are what the paths lead to. Where `callgate` or `.callgate` is gone it is
    /// made again, where it was replaced by one of ours that one is taken.
    pub(super) fn attend(&mut self) -> Result<Attended, StoreError> {
        self.attend_root()?;
        let home = self.root.stat_of(ProfileName::DIRECTORY)?;
        if home.map(|stat| identity(&stat)) != Some(self.home.identity()?) {
            (self.home, self.meta, self.owner) = enter(&self.root, Some(&self.owner), self.bounds)?;
            return Ok(Attended::Replaced);
        }
        // Before anything in it is looked at, which a wrong mode would deny.
        let mended = self.root.mend_mode(ProfileName::DIRECTORY, DIR_MODE)?;
        let meta = self.home.stat_of(META)?;
        let moved = meta.map(|stat| identity(&stat)) != Some(self.meta.identity()?);
        if moved {
            // Inside what is ours: whatever lies there goes, unless another process works with it.
            if let Ok(found) = self.home.open_dir(META) {
                lock(found, &self.home)?;
            }
            self.home.remove_all(META, &self.home)?;
            self.meta = lock(self.home.open_or_make_dir(META, META_MODE)?, &self.home)?;
        }
        self.home.mend_mode(META, META_MODE)?;
        let is_marked = match read_marker(&self.meta) {
            // A file of ours that was closed to us. It is replaced.
            Err(StoreError::Denied(_)) => false,
            found => found? == Marker::Of(self.owner.clone()),
        };
        if !is_marked {
            self.meta
                .put_over(MARKER, &marker(&self.owner), FILE_MODE, &self.home)?;
        }
        Ok(match (moved, mended) {
            (true, _) => Attended::Replaced,
            (false, true) => Attended::Reopened,
            (false, false) => Attended::Same,
        })
    }

    fn attend_root(&self) -> Result<(), StoreError> {
        let gone = |reason| StoreError::RootGone {
            path: self.root.path().to_owned(),
            reason,
        };
        let opened = self.root.stat()?;
        // A mount keeps a deleted directory alive; only its count of links tells.
        if opened.st_nlink == 0 {
            return Err(gone("was deleted"));
        }
        // Looked at, not opened: who has shut itself in may not open another one.
        match stat(self.root.path()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Err(gone("was deleted, moved or unmounted")),
            Err(errno) => Err(Failure {
                operation: "look at",
                path: self.root.path().to_owned(),
                errno,
            }
            .into()),
            Ok(found) if identity(&found) != identity(&opened) => Err(replaced(self.root.path())),
            Ok(_) => Ok(()),
        }
    }
}

/// The error of a root that does not open.
pub(super) fn no_root(root: &Path, errno: Errno) -> StoreError {
    let gone = |reason| StoreError::RootGone {
        path: root.to_owned(),
        reason,
    };
    match errno {
        Errno::NOENT => gone("does not exist"),
        Errno::NOTDIR => gone("is no directory"),
        errno => Failure {
            operation: "open directory",
            path: root.to_owned(),
            errno,
        }
        .into(),
    }
}

fn replaced(root: &Path) -> StoreError {
    StoreError::RootGone {
        path: root.to_owned(),
        reason: "was replaced by another one",
    }
}

/// Opens `callgate` in a root, and makes it for an owner if nothing is there. Without an owner it must be marked.
fn enter(
    root: &Dir,
    owner: Option<&Owner>,
    bounds: Option<Bounds>,
) -> Result<(Dir, Locked, Owner), StoreError> {
    let path = root.path().join(ProfileName::DIRECTORY);
    let not_ours = |reason| StoreError::NotOurs {
        path: path.clone(),
        reason,
    };
    let no_owner = || StoreError::NoOwner { path: path.clone() };
    let out_of_bounds = || StoreError::OutOfBounds { path: path.clone() };
    let home = match root.open_dir(ProfileName::DIRECTORY) {
        Ok(home) => home,
        Err(failure) => match failure.errno {
            // The next process makes it, for whatever owner.
            Errno::NOENT if bounds.is_some_and(|bounds| bounds.has_home()) => return Err(out_of_bounds()),
            Errno::NOENT => {
                owner.ok_or_else(no_owner)?;
                root.open_or_make_dir(ProfileName::DIRECTORY, DIR_MODE)?
            }
            Errno::LOOP => return Err(not_ours("a symlink lies in its place")),
            Errno::NOTDIR => return Err(not_ours("it is no directory")),
            Errno::XDEV => return Err(not_ours("another file system is mounted on it")),
            _ => return Err(failure.into()),
        },
    };
    if let Some(bounds) = bounds
        && !bounds.is_home(&home.stat()?)
    {
        return Err(out_of_bounds());
    }
    let meta = match home.open_dir(META) {
        Ok(meta) => meta,
        Err(failure) => match failure.errno {
            Errno::NOENT if holds_only(&home, |_| false)? => {
                owner.ok_or_else(no_owner)?;
                home.open_or_make_dir(META, META_MODE)?
            }
            Errno::NOENT => return Err(not_ours("it holds files and no marker of ours")),
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV => {
                return Err(not_ours("its .callgate is no plain directory"));
            }
            _ => return Err(failure.into()),
        },
    };
    let meta = lock(meta, &home)?;
    let owner = match read_marker(&meta)? {
        Marker::Of(found) => match owner {
            Some(wanted) if may_take(&found, wanted, &path)? => {
                meta.put(MARKER, &marker(wanted), FILE_MODE)?;
                wanted.clone()
            }
            _ => found,
        },
        // A crash while it was made leaves it so.
        Marker::Missing if holds_only(&home, |name| name == META)? && holds_only(&meta, is_temporary)? => {
            let owner = owner.ok_or_else(no_owner)?;
            meta.put(MARKER, &marker(owner), FILE_MODE)?;
            owner.clone()
        }
        Marker::Missing => return Err(not_ours("it holds files and no marker of ours")),
        Marker::Unreadable => {
            return Err(not_ours(
                "its marker .callgate/owner.json is none that this version can read",
            ));
        }
    };
    Ok((home, meta, owner))
}

#[derive(PartialEq)]
enum Marker {
    Missing,
    Unreadable,
    Of(Owner),
}

fn read_marker(meta: &Dir) -> Result<Marker, StoreError> {
    Ok(match meta.read(MARKER, MARKER_MAX_BYTES)? {
        Content::Missing => Marker::Missing,
        Content::Other => Marker::Unreadable,
        Content::File { bytes, .. } => parse_marker(&bytes).map_or(Marker::Unreadable, Marker::Of),
    })
}

/// Whether the marker must change, or an error if it may not: a cluster takes over what `callgate install` left
/// on a node, and nobody takes what is a cluster's.
fn may_take(found: &Owner, wanted: &Owner, path: &Path) -> Result<bool, StoreError> {
    match (found, wanted) {
        _ if found == wanted => Ok(false),
        (Owner::Install, Owner::Cluster(_)) => Ok(true),
        _ => Err(StoreError::OtherOwner {
            path: path.to_owned(),
            found: found.clone(),
            wanted: wanted.clone(),
        }),
    }
}

fn lock(meta: Dir, home: &Dir) -> Result<Locked, StoreError> {
    meta.try_lock()?.ok_or_else(|| StoreError::Busy {
        path: home.path().to_owned(),
    })
}

fn holds_only(dir: &Dir, allowed: impl Fn(&OsStr) -> bool) -> Result<bool, StoreError> {
    for entry in dir.entries()? {
        if !allowed(&entry?) {
            return Ok(false);
        }
    }
    Ok(true)
}
