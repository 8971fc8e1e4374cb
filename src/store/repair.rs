//! Drift, and its end: what is missing or altered comes back, what is not ours goes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::geteuid;

use super::dir::{Content, Dir};
use super::place::{Attended, MARKER, META};
use super::record::Record;
use super::{Changes, DIR_MODE, FILE_MODE, Failure, RECORD, Store, StoreError};
use crate::profile::{Canonical, Digest, ProfileName};

/// What a look at the directory found and mended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Files that were missing, altered, or not to be read or safe from others, and are back; each once.
    pub restored: Vec<ProfileName>,
    /// Files that a previous run left and that were missing or altered when the directory was opened: nobody
    /// knows their bytes any more, so they are not there until they are written again.
    pub lost: Vec<ProfileName>,
    /// Paths, relative to our directory, that were not ours and are gone: at most [`Repaired::MAX_STRAYS`].
    pub strays: Vec<PathBuf>,
    /// How many there were.
    pub strays_total: usize,
    /// What could not be mended: each is tried again by the next repair.
    pub failed: Vec<StoreError>,
}

impl Repaired {
    /// How many strays are listed.
    pub const MAX_STRAYS: usize = 100;
    const MAX_FAILED: usize = 100;

    /// Whether everything was as it should be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    fn stray(&mut self, path: PathBuf) {
        self.strays_total += 1;
        if self.strays.len() < Self::MAX_STRAYS {
            self.strays.push(path);
        }
    }

    fn fail(&mut self, error: impl Into<StoreError>) {
        if self.failed.len() < Self::MAX_FAILED {
            self.failed.push(error.into());
        }
    }
}

/// The directory of a namespace, its expected files.
type Expected = BTreeMap<String, BTreeSet<OsString>>;

impl Store {
    /// Looks at every file; puts back what is missing or altered, then removes what is not ours. Writes nothing
    /// if all is as it should be.
    ///
    /// An error means that the directory as a whole cannot be used, and then nothing was changed; what is wrong
    /// with single files is in [`Repaired::failed`].
    pub fn repair(&mut self) -> Result<Repaired, StoreError> {
        let attended = self.place.attend()?;
        self.mend(attended);
        Ok(std::mem::take(&mut self.untold))
    }

    /// Whether [`Store::repair`] may have something to mend, after these changes of a directory that was as it should
    /// be, or something to tell: not if each entry is what was written there.
    #[must_use]
    pub fn has_drifted(&self, changes: &Changes) -> bool {
        let is_as_written = match changes {
            Changes::Anything => false,
            Changes::Entries(entries) => entries.iter().all(|(dir, entry)| self.is_as_written(dir, entry)),
        };
        !is_as_written || !self.untold.is_clean()
    }

    fn is_as_written(&self, dir: &OsStr, entry: &OsStr) -> bool {
        if dir == META {
            return match entry {
                entry if entry == RECORD => self.is_record_as_saved(),
                entry if entry == MARKER => false, // written once; a change of it is rare
                entry => matches!(self.place.meta.stat_of(entry), Ok(None)),
            };
        }
        let stem = entry.to_str().and_then(|entry| entry.strip_suffix(".json"));
        let name = dir
            .to_str()
            .zip(stem)
            .map(|(dir, stem)| ProfileName::new(dir, stem));
        if let Some(Ok(name)) = name {
            if let Some(installed) = self.live.get(&name) {
                return self.is_intact(&name, &installed.file);
            }
            if self.unproven.contains_key(&name) {
                return false; // rare too
            }
        }
        match self.place.home.open_dir(dir) {
            Ok(dir) => matches!(dir.stat_of(entry), Ok(None)),
            Err(failure) => failure.errno == Errno::NOENT,
        }
    }

    fn is_record_as_saved(&self) -> bool {
        let on_disk = match self.place.meta.read(RECORD, Record::MAX_BYTES) {
            Ok(Content::File { bytes, .. }) => Some(Digest::of(&bytes)),
            _ => None,
        };
        self.saved.is_some() && on_disk == self.saved
    }

    /// Mends everything, and remembers what for the next repair to tell.
    pub(super) fn mend(&mut self, attended: Attended) {
        let mut repaired = std::mem::take(&mut self.untold);
        repaired.failed.clear(); // they are tried again now
        self.put_back(attended, &mut repaired);
        self.forget_altered(&mut repaired);
        self.remove_strays(&mut repaired);
        self.mend_record(&mut repaired);
        self.untold = repaired;
    }

    fn put_back(&mut self, attended: Attended, repaired: &mut Repaired) {
        let home = &self.place.home;
        let reopened: BTreeSet<String> = self
            .namespaces()
            .filter(|namespace| match home.mend_mode(namespace, DIR_MODE) {
                Ok(mended) => mended || attended == Attended::Reopened,
                Err(failure) if is_obstacle(&failure) => false,
                Err(failure) => {
                    repaired.fail(failure);
                    false
                }
            })
            .map(str::to_owned)
            .collect();
        for (name, installed) in &self.live {
            if !self.is_intact(name, &installed.file) {
                match self.put(name, &installed.file) {
                    Ok(()) => repaired.restored.push(name.clone()),
                    Err(failure) => repaired.fail(failure),
                }
            } else if reopened.contains(name.namespace()) {
                repaired.restored.push(name.clone());
            }
        }
        // Two mends may be told by one repair.
        repaired.restored.sort();
        repaired.restored.dedup();
    }

    /// Of an unproven file that was altered nobody knows the right bytes. It is a stray now.
    fn forget_altered(&mut self, repaired: &mut Repaired) {
        let mut altered = Vec::new();
        for (name, found) in &self.unproven {
            match self.read(name) {
                Ok(Some(file)) if file.digest == found.file.digest => {}
                Ok(_) => altered.push(name.clone()),
                Err(error) => repaired.fail(error),
            }
        }
        for name in altered {
            self.unproven.remove(&name);
            self.saved = None;
            repaired.lost.push(name);
        }
    }

    fn remove_strays(&self, repaired: &mut Repaired) {
        let home = &self.place.home;
        let mut expected: Expected = BTreeMap::new();
        for name in self.live.keys().chain(self.unproven.keys()) {
            let files = expected.entry(name.namespace().to_owned()).or_default();
            files.insert(name.file_name().into());
        }
        let is_expected =
            |name: &OsStr| name == META || name.to_str().is_some_and(|name| expected.contains_key(name));
        sweep(home, Path::new(""), home, is_expected, repaired);
        sweep(
            &self.place.meta,
            Path::new(META),
            home,
            |name| name == MARKER || name == RECORD,
            repaired,
        );
        for (namespace, files) in &expected {
            match home.open_dir(namespace) {
                Ok(dir) => sweep(
                    &dir,
                    Path::new(namespace),
                    home,
                    |name| files.contains(name),
                    repaired,
                ),
                Err(failure) if is_obstacle(&failure) => {} // put_back has said why
                Err(failure) => repaired.fail(failure),
            }
        }
    }

    fn mend_record(&mut self, repaired: &mut Repaired) {
        if !self.is_record_as_saved()
            && let Err(error) = self.save(&BTreeMap::new())
        {
            repaired.fail(error);
        }
    }

    /// Whether the file of a profile is there as it was written, and nobody but us may change it.
    pub(super) fn is_intact(&self, name: &ProfileName, file: &Canonical) -> bool {
        let Ok(namespace) = self.place.home.open_dir(name.namespace()) else {
            return false;
        };
        let Ok(Content::File { bytes, stat }) = namespace.read(name.file_name(), Canonical::MAX_BYTES) else {
            return false;
        };
        *bytes == *file.bytes
            && stat.st_mode & 0o7777 == FILE_MODE.as_raw_mode()
            && stat.st_uid == geteuid().as_raw()
            // Another name of it is another way to change it.
            && stat.st_nlink == 1
    }

    /// Puts the file of a profile in its place, whatever is there now.
    pub(super) fn put(&self, name: &ProfileName, file: &Canonical) -> Result<(), Failure> {
        let home = &self.place.home;
        let namespace = match home.open_or_make_dir(name.namespace(), DIR_MODE) {
            Err(failure) if matches!(failure.errno, Errno::LOOP | Errno::NOTDIR) => {
                home.remove_all(name.namespace(), home)?;
                home.open_or_make_dir(name.namespace(), DIR_MODE)?
            }
            result => result?,
        };
        namespace.put_over(name.file_name(), &file.bytes, FILE_MODE, home)
    }

    /// Tries to make the file of a profile readable.
    pub(super) fn mend_access(&self, name: &ProfileName) {
        let home = &self.place.home;
        // Whoever reads it afterwards says what is still wrong.
        _ = home.mend_mode(name.namespace(), DIR_MODE);
        if let Ok(namespace) = home.open_dir(name.namespace()) {
            _ = namespace.mend_mode(name.file_name(), FILE_MODE);
        }
    }

    fn namespaces(&self) -> impl Iterator<Item = &str> {
        let names = self.live.keys().chain(self.unproven.keys());
        names
            .map(ProfileName::namespace)
            .collect::<BTreeSet<_>>()
            .into_iter()
    }
}

/// Removes everything in a directory that is not expected there.
fn sweep(
    dir: &Dir,
    relative: &Path,
    top: &Dir,
    is_expected: impl Fn(&OsStr) -> bool,
    repaired: &mut Repaired,
) {
    let entries = match dir.entries() {
        Ok(entries) => entries,
        Err(failure) => return repaired.fail(failure),
    };
    let mut removed = false;
    for entry in entries {
        let name = match entry {
            Ok(name) if is_expected(&name) => continue,
            Ok(name) => name,
            Err(failure) => return repaired.fail(failure),
        };
        match dir.remove_all(&name, top) {
            Ok(()) => {
                repaired.stray(relative.join(&name));
                removed = true;
            }
            Err(failure) => repaired.fail(failure),
        }
    }
    if removed && let Err(failure) = dir.sync() {
        repaired.fail(failure);
    }
}

/// Whether the failure to open a directory means that there is none.
pub(super) fn is_obstacle(failure: &Failure) -> bool {
    matches!(
        failure.errno,
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV
    )
}
