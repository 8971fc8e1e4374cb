//! A file system, as far as it promises anything about what is there after a power loss.
//!
//! It promises the least that POSIX systems do, and less than ext4 and XFS do:
//!
//! - fsync(2) of a file makes its bytes and length last; not its name. Until then each loss may leave it as it last was
//!   synchronised, empty, cut off, with pages of zeroes, or as it was written.
//! - fsync(2) of a directory makes the names in it last; not what they lead to, and not its own name. Until then each
//!   change of a name may be lost while later ones are not: in any order.
//! - A change of a name is atomic: rename(2) within one directory is there as a whole or not at all, which needs a journal
//!   or its like (ext4, XFS, btrfs), and what was synchronised stays.
//! - Disks do what they are told: no torn sectors, no lie about a flush.
//!
//! Sources: fsync(2) ("does not necessarily ensure that the entry in the directory containing the file has also reached
//! disk"), <https://man7.org/linux/man-pages/man2/fsync.2.html>; rename(2),
//! <https://pubs.opengroup.org/onlinepubs/9799919799/functions/rename.html>; ext4's delayed allocation, by which a file
//! that was renamed and not synchronised may be empty: `auto_da_alloc` in
//! <https://docs.kernel.org/admin-guide/ext4.html>.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::tree::Tree;

const PAGE: usize = 4096;

/// Which of what is not synchronised is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    Everything,
    Nothing,
    /// Names stay, and bytes are lost: as with a journal of metadata alone.
    DataOnly,
    /// Each name and each file by lot; names in order as often as not.
    Sample,
}

#[derive(Debug)]
enum Inode {
    File {
        synchronised: Vec<u8>,
        /// What a running system shows.
        shown: Vec<u8>,
    },
    Directory {
        synchronised: Names,
        shown: Names,
        /// Changes since then.
        pending: Vec<Rebinding>,
    },
}

type Names = BTreeMap<String, usize>;

/// Names that change at once, and what they lead to then.
#[derive(Debug, Clone)]
struct Rebinding {
    /// In the order of all changes of the file system.
    number: usize,
    names: Vec<(String, Option<usize>)>,
}

/// The file system beneath a seccomp root. Inode 0 is that root.
#[derive(Debug)]
pub(super) struct Disk {
    inodes: Vec<Inode>,
    changes: usize,
}

impl Disk {
    /// As it is beneath this directory, all of it synchronised.
    pub(super) fn load(root: &Path) -> Result<Self> {
        let mut disk = Self {
            inodes: Vec::new(),
            changes: 0,
        };
        disk.load_directory(root)?;
        Ok(disk)
    }

    fn load_directory(&mut self, path: &Path) -> Result<usize> {
        let number = self.add_directory();
        let mut names = Names::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let inode = if entry.file_type()?.is_dir() {
                self.load_directory(&entry.path())?
            } else {
                let bytes = fs::read(entry.path())?;
                self.inodes.push(Inode::File {
                    synchronised: bytes.clone(),
                    shown: bytes,
                });
                self.inodes.len() - 1
            };
            names.insert(entry.file_name().to_string_lossy().into_owned(), inode);
        }
        self.inodes[number] = Inode::Directory {
            synchronised: names.clone(),
            shown: names,
            pending: Vec::new(),
        };
        Ok(number)
    }

    fn add_directory(&mut self) -> usize {
        self.inodes.push(Inode::Directory {
            synchronised: Names::new(),
            shown: Names::new(),
            pending: Vec::new(),
        });
        self.inodes.len() - 1
    }

    pub(super) fn create(&mut self, directory: &Path, name: &str) -> Result<()> {
        self.inodes.push(Inode::File {
            synchronised: Vec::new(),
            shown: Vec::new(),
        });
        let file = self.inodes.len() - 1;
        self.rebind(directory, vec![(name.to_owned(), Some(file))])
    }

    pub(super) fn make_directory(&mut self, directory: &Path, name: &str) -> Result<()> {
        let made = self.add_directory();
        self.rebind(directory, vec![(name.to_owned(), Some(made))])
    }

    pub(super) fn write(&mut self, file: &Path, bytes: &[u8]) -> Result<()> {
        let number = self.find(file)?;
        match &mut self.inodes[number] {
            Inode::File { shown, .. } => shown.extend(bytes),
            Inode::Directory { .. } => bail!("it is a directory"),
        }
        Ok(())
    }

    pub(super) fn synchronise(&mut self, path: &Path) -> Result<()> {
        let number = self.find(path)?;
        match &mut self.inodes[number] {
            Inode::File { synchronised, shown } => synchronised.clone_from(shown),
            Inode::Directory {
                synchronised,
                shown,
                pending,
            } => {
                synchronised.clone_from(shown);
                pending.clear();
            }
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, old: &str, to: &Path, new: &str) -> Result<()> {
        ensure!(
            from == to,
            "a rename from one directory to another is not modelled"
        );
        let inode = self.find(&from.join(old))?;
        self.rebind(from, vec![(old.to_owned(), None), (new.to_owned(), Some(inode))])
    }

    pub(super) fn remove(&mut self, directory: &Path, name: &str) -> Result<()> {
        self.rebind(directory, vec![(name.to_owned(), None)])
    }

    fn rebind(&mut self, directory: &Path, names: Vec<(String, Option<usize>)>) -> Result<()> {
        let number = self.find(directory)?;
        self.changes += 1;
        let rebinding = Rebinding {
            number: self.changes,
            names,
        };
        match &mut self.inodes[number] {
            Inode::Directory { shown, pending, .. } => {
                rebinding.apply(shown);
                pending.push(rebinding);
            }
            Inode::File { .. } => bail!("it is a file"),
        }
        Ok(())
    }

    fn find(&self, path: &Path) -> Result<usize> {
        let mut number = 0;
        for name in path {
            let Inode::Directory { shown, .. } = &self.inodes[number] else {
                bail!("{} leads through a file", path.display());
            };
            let inode = shown.get(&*name.to_string_lossy());
            number = *inode.with_context(|| format!("nothing at {}", path.display()))?;
        }
        Ok(number)
    }

    /// What is there after the power came back.
    pub(super) fn after(&self, loss: Loss, random: &mut fastrand::Rng) -> Left {
        let order = match loss {
            Loss::Everything => Order::None,
            Loss::Nothing | Loss::DataOnly => Order::All,
            Loss::Sample if random.bool() => Order::Until(random.usize(..=self.changes)),
            Loss::Sample => Order::Any,
        };
        let mut left = Left::default();
        self.leave(0, Path::new(""), loss, order, random, &mut left);
        left
    }

    fn leave(
        &self,
        number: usize,
        path: &Path,
        loss: Loss,
        order: Order,
        random: &mut fastrand::Rng,
        left: &mut Left,
    ) {
        match &self.inodes[number] {
            Inode::File { synchronised, shown } => {
                let bytes = match loss {
                    Loss::Nothing => shown.clone(),
                    _ if synchronised == shown => shown.clone(),
                    Loss::Everything | Loss::DataOnly => synchronised.clone(),
                    Loss::Sample => half_written(synchronised, shown, random),
                };
                left.files.insert(path.to_owned(), bytes);
            }
            Inode::Directory {
                synchronised,
                pending,
                ..
            } => {
                let mut names = synchronised.clone();
                for rebinding in pending {
                    let stays = match order {
                        Order::None => false,
                        Order::All => true,
                        Order::Until(last) => rebinding.number <= last,
                        Order::Any => random.bool(),
                    };
                    if stays {
                        rebinding.apply(&mut names);
                    }
                }
                left.directories.push(path.to_owned());
                for (name, inode) in names {
                    self.leave(inode, &path.join(name), loss, order, random, left);
                }
            }
        }
    }
}

/// Which changes of names stay.
#[derive(Debug, Clone, Copy)]
enum Order {
    None,
    All,
    /// All up to this one: a journal.
    Until(usize),
    Any,
}

impl Rebinding {
    fn apply(&self, names: &mut Names) {
        for (name, inode) in &self.names {
            match inode {
                Some(inode) => names.insert(name.clone(), *inode),
                None => names.remove(name),
            };
        }
    }
}

/// What a file may hold that was not synchronised.
fn half_written(synchronised: &[u8], shown: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    match random.u8(..5) {
        0 => synchronised.to_vec(),
        1 => shown.to_vec(),
        2 => shown[..random.usize(..=shown.len())].to_vec(),
        3 => vec![0; shown.len()],
        _ => {
            let mut bytes = shown.to_vec();
            for page in bytes.chunks_mut(PAGE) {
                if random.bool() {
                    page.fill(0);
                }
            }
            bytes
        }
    }
}

/// What a power loss left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The root first.
    directories: Vec<PathBuf>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Left {
    pub(super) fn tree(&self) -> Tree {
        let mut tree = Tree::default();
        let within =
            |path: &Path| -> Option<PathBuf> { Some(path.strip_prefix("callgate").ok()?.to_owned()) };
        for directory in self.directories.iter().filter_map(|path| within(path)) {
            let is_empty = !self
                .files
                .keys()
                .any(|file| file.starts_with(Path::new("callgate").join(&directory)));
            if is_empty && !directory.as_os_str().is_empty() {
                tree.add_empty(&directory);
            }
        }
        for (path, bytes) in &self.files {
            if let Some(path) = within(path) {
                tree.add(&path, bytes.clone());
            }
        }
        tree
    }

    /// Onto a real disk, into an empty directory.
    pub(super) fn write(&self, root: &Path) -> Result<()> {
        for directory in self
            .directories
            .iter()
            .filter(|path| !path.as_os_str().is_empty())
        {
            let path = root.join(directory);
            fs::create_dir(&path)?;
            let mode = if directory.ends_with(".callgate") {
                0o700
            } else {
                0o755
            };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        for (path, bytes) in &self.files {
            let path = root.join(path);
            fs::write(&path, bytes)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        }
        Ok(())
    }
}
