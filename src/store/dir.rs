//! A directory, by its handle, and every system call that this room makes.
//!
//! Names are single components. Nothing here follows a symlink, leaves the directory or crosses into another
//! file system, and nothing blocks on a FIFO or device. Knows nothing of profiles.

mod remove;

use std::ffi::{OsStr, OsString};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, ResolveFlags, Stat, chmod, chown, fchmod, flock, fstat,
    fsync, mkdirat, open, openat2, renameat, statat, unlinkat,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

use super::Failure;

/// What `openat2` may not do on the way.
const CONFINED: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// An open directory, and how it was reached (for messages only).
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// Which file an inode is, while it lives.
pub(super) type Identity = (u64, u64);

/// What lies under a name.
#[derive(Debug)]
pub(super) enum Content {
    /// Nothing.
    Missing,
    /// No regular file, or more bytes than asked for, or behind a mount.
    Other,
    /// A regular file, whole.
    File { bytes: Vec<u8>, stat: Stat },
}

impl Dir {
    /// Opens a directory by path. Symlinks on the way are the administrator's choice, and followed.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match retry_on_intr(|| open(path, flags, Mode::empty())) {
            Ok(fd) => Ok(Self {
                fd,
                path: path.to_owned(),
            }),
            Err(errno) => Err(Failure {
                operation: "open directory",
                path: path.to_owned(),
                errno,
            }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn try_clone(&self) -> Result<Self, Failure> {
        let fd = self.fd.try_clone().map_err(|error| Failure {
            operation: "duplicate the handle of",
            path: self.path.clone(),
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        })?;
        Ok(Self {
            fd,
            path: self.path.clone(),
        })
    }

    /// A path of this handle for calls that take no handle. It leads to this very directory, wherever it was
    /// moved to. Source: `proc_pid_fd(5)`.
    pub(super) fn magic_path(&self) -> String {
        magic_path(self.fd.as_fd())
    }

    pub(super) fn stat(&self) -> Result<Stat, Failure> {
        self.try_here("look at", fstat(&self.fd))
    }

    pub(super) fn identity(&self) -> Result<Identity, Failure> {
        self.stat().map(|stat| identity(&stat))
    }

    /// What lies under a name, itself, not what it links to. `None` is nothing.
    pub(super) fn stat_of(&self, name: impl AsRef<OsStr>) -> Result<Option<Stat>, Failure> {
        let name = name.as_ref();
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            result => self.try_on(name, "look at", result).map(Some),
        }
    }

    /// Opens a directory in this one. `Errno::LOOP` where a symlink, `Errno::NOTDIR` where another thing,
    /// `Errno::XDEV` where a mount lies in its place.
    pub(super) fn open_dir(&self, name: impl AsRef<OsStr>) -> Result<Self, Failure> {
        let name = name.as_ref();
        let fd = self.open_beneath(name, OFlags::RDONLY | OFlags::DIRECTORY);
        Ok(Self {
            fd: self.try_on(name, "open directory", fd)?,
            path: self.path.join(name),
        })
    }

    /// Opens a directory in this one, and makes it if nothing is there.
    pub(super) fn open_or_make_dir(&self, name: impl AsRef<OsStr>, mode: Mode) -> Result<Self, Failure> {
        let name = name.as_ref();
        match mkdirat(&self.fd, name, mode) {
            Err(Errno::EXIST) => self.open_dir(name),
            result => {
                self.try_on(name, "make directory", result)?;
                let dir = self.open_dir(name)?;
                dir.try_here("set the mode of", fchmod(&dir.fd, mode))?; // whatever the umask
                self.sync()?;
                Ok(dir)
            }
        }
    }

    /// Gives a directory or regular file in this one its mode back, also where the mode forbids to open it, and
    /// a directory its owner: whoever owns it may do there as they please. Whether anything differed.
    ///
    /// Anything else is left as it is, and a file with a second name too: that may be a file of others.
    pub(super) fn mend_mode(&self, name: impl AsRef<OsStr>, mode: Mode) -> Result<bool, Failure> {
        let name = name.as_ref();
        let fd = self.try_on(name, "open", self.open_beneath(name, OFlags::PATH))?;
        let stat = self.try_on(name, "look at", fstat(&fd))?;
        if !(is_dir(&stat) || is_file(&stat) && stat.st_nlink == 1) {
            return Ok(false);
        }
        // An O_PATH handle takes no fchown and no fchmod; its magic link does.
        let path = magic_path(fd.as_fd());
        let is_foreign = is_dir(&stat) && stat.st_uid != geteuid().as_raw();
        if is_foreign {
            self.try_on(name, "become the owner of", chown(&path, Some(geteuid()), None))?;
        }
        let has_other_mode = stat.st_mode & 0o777 != mode.as_raw_mode();
        if has_other_mode {
            self.try_on(name, "set the mode of", chmod(&path, mode))?;
        }
        Ok(is_foreign || has_other_mode)
    }

    /// Reads a regular file of at most `limit` bytes.
    pub(super) fn read(&self, name: impl AsRef<OsStr>, limit: usize) -> Result<Content, Failure> {
        let name = name.as_ref();
        let Some(before) = self.stat_of(name)? else {
            return Ok(Content::Missing);
        };
        // Devices are not opened at all: for some that alone has effects.
        if !is_file(&before) {
            return Ok(Content::Other);
        }
        let fd = match self.open_beneath(name, OFlags::RDONLY | OFlags::NONBLOCK) {
            Err(Errno::NOENT) => return Ok(Content::Missing),
            Err(Errno::LOOP | Errno::XDEV | Errno::WOULDBLOCK) => return Ok(Content::Other),
            result => self.try_on(name, "open", result)?,
        };
        let stat = self.try_on(name, "look at", fstat(&fd))?;
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if !is_file(&stat) || size > limit {
            return Ok(Content::Other);
        }
        let mut bytes = vec![0; size + 1]; // one more, to see that it does not grow
        let mut length = 0;
        while length < bytes.len() {
            let read = retry_on_intr(|| rustix::io::read(&fd, &mut bytes[length..]));
            match self.try_on(name, "read", read)? {
                0 => break,
                read => length += read,
            }
        }
        if length > size {
            return Ok(Content::Other);
        }
        bytes.truncate(length);
        Ok(Content::File { bytes, stat })
    }

    /// Puts a file under a name, whole or not at all, durably; whatever file was there is replaced.
    pub(super) fn put(&self, name: impl AsRef<OsStr>, bytes: &[u8], mode: Mode) -> Result<(), Failure> {
        let name = name.as_ref();
        let temporary =
            temporary_name().map_err(|errno| self.failure(name, "find a temporary name for", errno))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| openat2(&self.fd, temporary.as_str(), flags, mode, CONFINED));
        let fd = self.try_on(temporary.as_ref(), "create", fd)?;
        let written = self
            .try_on(temporary.as_ref(), "write", write_all(&fd, bytes))
            .and_then(|()| self.try_on(temporary.as_ref(), "set the mode of", fchmod(&fd, mode)))
            .and_then(|()| self.try_on(temporary.as_ref(), "write", fsync(&fd)))
            .and_then(|()| {
                let renamed = renameat(&self.fd, temporary.as_str(), &self.fd, name);
                self.try_on(name, "replace", renamed)
            });
        if let Err(failure) = written {
            // The failure above is the one to tell; a leftover goes with the next repair.
            _ = unlinkat(&self.fd, temporary.as_str(), AtFlags::empty());
            return Err(failure);
        }
        self.sync()
    }

    /// Like [`Dir::put`], and removes a directory that lies in the file's place. `top` as in [`Dir::remove_all`].
    pub(super) fn put_over(
        &self,
        name: impl AsRef<OsStr>,
        bytes: &[u8],
        mode: Mode,
        top: &Self,
    ) -> Result<(), Failure> {
        let name = name.as_ref();
        match self.put(name, bytes, mode) {
            Err(failure) if matches!(failure.errno, Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => {
                self.remove_all(name, top)?;
                self.put(name, bytes, mode)
            }
            result => result,
        }
    }

    /// The names in it, without `.` and `..`.
    pub(super) fn entries(&self) -> Result<impl Iterator<Item = Result<OsString, Failure>>, Failure> {
        let mut stream = self.try_here("list", rustix::fs::Dir::read_from(&self.fd))?;
        Ok(std::iter::from_fn(move || {
            loop {
                match stream.read()? {
                    Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                    Ok(entry) => return Some(Ok(OsString::from_vec(entry.file_name().to_bytes().to_vec()))),
                    Err(errno) => return Some(self.try_here("list", Err(errno))),
                }
            }
        }))
    }

    /// Takes this directory for this process alone; `None` if another has it.
    pub(super) fn try_lock(self) -> Result<Option<Locked>, Failure> {
        match flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => self.try_here("lock", Err(errno)),
            Ok(()) => Ok(Some(Locked(self))),
        }
    }

    /// Makes what was removed here stay so after a crash of the machine.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        self.try_here("write directory", fsync(&self.fd))
    }

    fn open_beneath(&self, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // EAGAIN: a rename elsewhere disturbed the walk (openat2(2)); a lease on a file gives the same.
        let open = || openat2(&self.fd, name, flags, Mode::empty(), CONFINED);
        retry_on_intr(open).or_else(|errno| match errno {
            Errno::AGAIN => retry_on_intr(open),
            errno => Err(errno),
        })
    }

    fn try_here<T>(&self, operation: &'static str, result: Result<T, Errno>) -> Result<T, Failure> {
        result.map_err(|errno| Failure {
            operation,
            path: self.path.clone(),
            errno,
        })
    }

    fn try_on<T>(
        &self,
        name: &OsStr,
        operation: &'static str,
        result: Result<T, Errno>,
    ) -> Result<T, Failure> {
        result.map_err(|errno| self.failure(name, operation, errno))
    }

    fn failure(&self, name: &OsStr, operation: &'static str, errno: Errno) -> Failure {
        Failure {
            operation,
            path: self.path.join(name),
            errno,
        }
    }
}

/// A directory that is this process's alone, until dropped or the process ends.
#[derive(Debug)]
pub(super) struct Locked(Dir);

impl Deref for Locked {
    type Target = Dir;

    fn deref(&self) -> &Dir {
        &self.0
    }
}

impl Drop for Locked {
    /// To close it would not do: a process that was just forked holds the handle too, until it runs its program,
    /// and the lock with it.
    fn drop(&mut self) {
        _ = flock(&self.0.fd, FlockOperation::Unlock);
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(super) fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// Whether this is the name of a file that a crash left half-written.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    name.as_bytes().starts_with(TEMPORARY.as_bytes())
}

const TEMPORARY: &str = ".callgate-tmp-";

fn temporary_name() -> Result<String, Errno> {
    let mut random = [0; 8];
    retry_on_intr(|| getrandom(&mut random, GetRandomFlags::empty()))?;
    Ok(format!("{TEMPORARY}{:016x}", u64::from_ne_bytes(random)))
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn magic_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn write_all(fd: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match retry_on_intr(|| rustix::io::write(fd, bytes))? {
            0 => return Err(Errno::IO),
            written => bytes = &bytes[written..],
        }
    }
    Ok(())
}
