//! Removal: of what is empty, and of trees that others may fill while they go.

use std::ffi::{OsStr, OsString};

use rustix::fs::{AtFlags, Mode, renameat, unlinkat};
use rustix::io::Errno;

use super::{Dir, is_dir, temporary_name};
use crate::store::Failure;

/// How deep a tree is descended into; what is deeper is moved up before it is removed.
const MAX_DEPTH: usize = 16;

/// How often a directory is emptied while others fill it.
const PASSES: usize = 8;

impl Dir {
    /// Removes a directory in this one if it is empty. Whether it is gone.
    pub(in crate::store) fn remove_empty_dir(&self, name: impl AsRef<OsStr>) -> Result<bool, Failure> {
        let name = name.as_ref();
        match unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(Errno::NOENT) => Ok(true),
            result => self
                .try_on(name, "remove directory", result)
                .and_then(|()| self.sync())
                .map(|()| true),
        }
    }

    /// Removes whatever lies under a name, with all that is in it. Not an error if nothing is there. Not durable
    /// before [`Dir::sync`].
    ///
    /// `top` is a directory of the same file system that takes what is too deep to be reached on foot, under
    /// temporary names, until it is removed too.
    pub(in crate::store) fn remove_all(&self, name: impl AsRef<OsStr>, top: &Self) -> Result<(), Failure> {
        let name = name.as_ref();
        let mut moved: Vec<OsString> = Vec::new();
        loop {
            let removed = match moved.last() {
                Some(name) => top.remove_tree(name, top, 0)?,
                None => self.remove_tree(name, top, 0)?,
            };
            match removed {
                Removed::TooDeep(rest) => moved.push(rest),
                Removed::Whole if moved.pop().is_none() => return Ok(()),
                Removed::Whole => {}
            }
        }
    }

    fn remove_tree(&self, name: &OsStr, top: &Self, depth: usize) -> Result<Removed, Failure> {
        let Some(stat) = self.stat_of(name)? else {
            return Ok(Removed::Whole);
        };
        if !is_dir(&stat) {
            return match unlinkat(&self.fd, name, AtFlags::empty()) {
                Err(Errno::NOENT) => Ok(Removed::Whole),
                result => self.try_on(name, "remove", result).map(|()| Removed::Whole),
            };
        }
        // Where this is denied, the calls below fail too, and say more.
        _ = self.mend_mode(name, Mode::RWXU);
        if depth == MAX_DEPTH {
            let rest =
                temporary_name().map_err(|errno| self.failure(name, "find a temporary name for", errno))?;
            self.try_on(name, "move", renameat(&self.fd, name, &top.fd, rest.as_str()))?;
            return Ok(Removed::TooDeep(rest.into()));
        }
        // A directory that is read while its entries go may skip some.
        for _ in 0..PASSES {
            match unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(Removed::Whole),
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(errno) => return Err(self.failure(name, "remove directory", errno)),
            }
            let dir = self.open_dir(name)?;
            for entry in dir.entries()? {
                let removed = dir.remove_tree(&entry?, top, depth + 1)?;
                if matches!(removed, Removed::TooDeep(_)) {
                    return Ok(removed);
                }
            }
        }
        Err(self.failure(name, "empty", Errno::NOTEMPTY))
    }
}

/// How far the removal of a tree came.
enum Removed {
    Whole,
    /// A part was moved to the top, under this name; the rest is still there.
    TooDeep(OsString),
}
