//! The node's directory, `<kubelet root>/seccomp/callgate`: written atomically, scanned, repaired, watched.
//!
//! Knows `profile`. Everything in it may be hostile, and the disk may be full.
//!
//! ```text
//! <seccomp root>/callgate/
//!     .callgate/owner.json       whose directory it is; without it nothing here is ever touched
//!     .callgate/record.json      which file holds which digest, and what each digest was proven with
//!     <namespace>/<name>.json    a profile, as runtimes read it
//! ```
//!
//! One process at a time works on it (a lock on `.callgate`, which ends with the process). Each file is written
//! under a temporary name, synchronised and renamed. The record is written before the file it speaks of, and
//! names the digest before that one too: wherever a crash happens, the record vouches for what is on disk.
//!
//! What happens to a file that was found when the directory was opened:
//!
//! | the file | the record | then it is |
//! |---|---|---|
//! | has the digest that the record says | names a proof | live |
//! | was altered, or is not in the record | readable | a stray: the next [`Store::repair`] removes it. Nobody knows the right bytes; no file is better than one that nobody proved |
//! | well named and regular | lost or damaged | [unproven](Store::unproven): kept, since pods may use it, and not vouched for. The caller proves it anew and [writes](Store::write) it, or removes it |

mod dir;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod ground;
mod load;
mod place;
mod record;
mod repair;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::profile::{Canonical, Digest, ProfileName};
pub use error::{Failure, StoreError};
pub use ground::{Bounds, Ground};
use place::{Attended, DIR_MODE, FILE_MODE, Place, RECORD};
use record::{Entry, Proofs, Record};
pub use repair::Repaired;
pub use watch::{Changes, DriftWatch};

/// Who owns a directory, as its marker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    /// `callgate install`. A cluster may take it over.
    Install,
    /// The node agent of a cluster, which the uid of the namespace kube-system stands for.
    Cluster(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Install => f.write_str("`callgate install`"),
            Self::Cluster(uid) => write!(f, "the cluster whose namespace kube-system has the uid {uid:?}"),
        }
    }
}

/// Who put a file there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// `callgate install`, and no agent has written it since: never removed for want of an object. Also where the
    /// record of it was lost, and then it is [unproven](Store::unproven).
    Install,
    /// A node agent, for an object of its cluster.
    Cluster,
}

/// What a digest was proven with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenWith {
    /// The running kernel.
    pub kernel: String,
    /// The libseccomp that compiled it.
    pub libseccomp: String,
    /// The version of Callgate.
    pub callgate: String,
}

impl ProvenWith {
    /// What a proof that this program makes now, with this libseccomp, is made with.
    #[must_use]
    pub fn here(libseccomp: String) -> Self {
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            libseccomp,
            callgate: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// A file in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its bytes, kept so that it can be put back without the API server, and their digest.
    pub file: Canonical,
    /// Who put it there.
    pub origin: Origin,
}

/// The directory, open, and this process's alone.
///
/// Every call blocks on the disk.
#[derive(Debug)]
pub struct Store {
    place: Place,
    live: BTreeMap<ProfileName, Installed>,
    unproven: BTreeMap<ProfileName, Installed>,
    proofs: Proofs,
    /// What was found and mended, and no repair has told yet.
    untold: Repaired,
    /// Of the record on disk, if it is as it should be.
    saved: Option<Digest>,
}

impl Store {
    /// Opens `<seccomp_root>/callgate`, makes it and its marker if need be, and takes over what a previous run
    /// left: files that its record vouches for. Changes no profile.
    ///
    /// An error where another owner's marker lies there, or files and no marker. Without an owner (an agent that
    /// cannot reach its API server yet) only a marked directory opens, whoever owns it; see [`Store::claim`].
    pub fn open(seccomp_root: &Path, owner: Option<&Owner>) -> Result<Self, StoreError> {
        Self::open_within(seccomp_root, owner, None)
    }

    /// Whether this directory is one of ours, and no seccomp root.
    #[must_use]
    pub fn is_home(path: &Path) -> bool {
        path.join(place::META).join(place::MARKER).is_file()
    }

    /// Like [`Store::open`], for a process that has shut itself in and can write within these bounds alone:
    /// [`StoreError::OutOfBounds`] where, now or later, another directory lies there, or none.
    pub fn open_within(
        seccomp_root: &Path,
        owner: Option<&Owner>,
        bounds: Option<Bounds>,
    ) -> Result<Self, StoreError> {
        let place = Place::open(seccomp_root, owner, bounds)?;
        let mut store = Self {
            place,
            live: BTreeMap::new(),
            unproven: BTreeMap::new(),
            proofs: Proofs::default(),
            untold: Repaired::default(),
            saved: None,
        };
        store.load()?;
        Ok(store)
    }

    /// Makes it an owner's, once that is known. [`Owner::Cluster`] takes over what is [`Owner::Install`]'s (its
    /// files stay, and keep their origin); anything else that is not the owner's already is an error.
    pub fn claim(&mut self, owner: &Owner) -> Result<(), StoreError> {
        self.place.claim(owner)
    }

    /// Whose directory it is.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        self.place.owner()
    }

    /// What is on disk, whole, as written and proven.
    #[must_use]
    pub fn live(&self) -> &BTreeMap<ProfileName, Installed> {
        &self.live
    }

    /// What was found on disk and lost its record: pods may use it, and nothing says that it was ever proven.
    #[must_use]
    pub fn unproven(&self) -> &BTreeMap<ProfileName, Installed> {
        &self.unproven
    }

    /// With what this digest was proven, if it was. Also known for the latest few that are on disk no longer.
    #[must_use]
    pub fn proven(&self, digest: &Digest) -> Option<&ProvenWith> {
        self.proofs.get(digest)
    }

    /// Puts a proven profile on disk, whole or not at all, and remembers its proof. Its origin becomes the
    /// owner's. After an error the file is the one that was there before.
    pub fn write(
        &mut self,
        name: &ProfileName,
        file: &Canonical,
        proof: &ProvenWith,
    ) -> Result<(), StoreError> {
        only(self.write_all(&BTreeMap::from([(name.clone(), file.clone())]), proof))
    }

    /// Like [`Store::write`], of many, with one record for all. What failed, and why; the others are there.
    pub fn write_all(
        &mut self,
        files: &BTreeMap<ProfileName, Canonical>,
        proof: &ProvenWith,
    ) -> BTreeMap<ProfileName, StoreError> {
        if let Err(error) = self.attend() {
            return all_failed(files.keys(), &error);
        }
        let origin = match self.owner() {
            Owner::Install => Origin::Install,
            Owner::Cluster(_) => Origin::Cluster,
        };
        let next = |(name, file): (&ProfileName, &Canonical)| {
            let file = file.clone();
            (name.clone(), Installed { file, origin })
        };
        let next: BTreeMap<_, _> = files.iter().map(next).collect();
        let is_known = |(name, next): (&ProfileName, &Installed)| {
            self.live.get(name) == Some(next) && self.proofs.get(&next.file.digest) == Some(proof)
        };
        if self.saved.is_none() || !next.iter().all(is_known) {
            for installed in next.values() {
                self.proofs.remember(installed.file.digest, proof.clone());
            }
            if let Err(error) = self.save(&next) {
                return all_failed(next.keys(), &error);
            }
        }
        let mut failed = BTreeMap::new();
        for (name, installed) in next {
            if let Err(failure) = self.exchange(&name, &installed.file) {
                failed.insert(name, failure.into());
            } else {
                self.unproven.remove(&name);
                self.live.insert(name, installed);
            }
        }
        failed
    }

    /// Takes a profile off the disk, and the directory of its namespace if it was the last there. Not an error
    /// if it is gone.
    pub fn remove(&mut self, name: &ProfileName) -> Result<(), StoreError> {
        only(self.remove_all(&BTreeSet::from([name.clone()])))
    }

    /// Like [`Store::remove`], of many, with one record for all. What failed, and why; the others are gone.
    pub fn remove_all(&mut self, names: &BTreeSet<ProfileName>) -> BTreeMap<ProfileName, StoreError> {
        if let Err(error) = self.attend() {
            return all_failed(names, &error);
        }
        let mut failed = BTreeMap::new();
        let mut forgotten = Vec::new();
        for name in names {
            if let Err(failure) = self.take_off(name) {
                failed.insert(name.clone(), failure.into());
            } else if self.live.remove(name).is_some() | self.unproven.remove(name).is_some() {
                forgotten.push(name);
            }
        }
        // After the files: on a full disk this fails, and the removal must not. A record of a file that is not
        // there harms nobody, and the next repair writes it anew.
        if !forgotten.is_empty()
            && let Err(error) = self.save(&BTreeMap::new())
        {
            failed.append(&mut all_failed(forgotten, &error));
        }
        failed
    }

    /// Starts to notice changes that others make from now on. To be called within a tokio runtime.
    pub fn watch(&self) -> Result<DriftWatch, StoreError> {
        DriftWatch::new(&self.place.root)
    }

    /// Whether there is a file of this profile, proven or not.
    #[must_use]
    pub fn has(&self, name: &ProfileName) -> bool {
        self.installed(name).is_some()
    }

    fn installed(&self, name: &ProfileName) -> Option<&Installed> {
        self.live.get(name).or_else(|| self.unproven.get(name))
    }

    /// Puts a file, which the record vouches for, in the place of the one that is there.
    fn exchange(&self, name: &ProfileName, next: &Canonical) -> Result<(), Failure> {
        if self.is_intact(name, next) {
            return Ok(());
        }
        self.put(name, next).inspect_err(|_| {
            // If only the last step failed, the new file is there, and may not last. The old one is to be what
            // the caller, and the next record, take it for.
            if let Some(before) = self.installed(name)
                && !self.is_intact(name, &before.file)
            {
                _ = self.put(name, &before.file);
            }
        })
    }

    /// Removes the file of a profile, if there is one.
    fn take_off(&self, name: &ProfileName) -> Result<(), Failure> {
        let home = &self.place.home;
        if home.stat_of(name.namespace())?.is_none() {
            return Ok(());
        }
        match home.open_dir(name.namespace()) {
            Ok(namespace) => {
                namespace.remove_all(name.file_name(), home)?;
                namespace.sync()?;
                home.remove_empty_dir(name.namespace())?;
                Ok(())
            }
            // Not a directory: no profile of ours lies there. It is for repair.
            Err(failure) if repair::is_obstacle(&failure) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Before a change: if the directory was taken away or replaced, that change alone would leave the rest
    /// missing.
    fn attend(&mut self) -> Result<(), StoreError> {
        match self.place.attend()? {
            Attended::Same => Ok(()),
            attended => {
                self.mend(attended);
                Ok(())
            }
        }
    }

    /// Writes the record of what is on disk, and of what is about to be.
    fn save(&mut self, next: &BTreeMap<ProfileName, Installed>) -> Result<(), StoreError> {
        let mut files: BTreeMap<ProfileName, Entry> = self
            .live
            .iter()
            .chain(&self.unproven)
            .map(|(name, installed)| {
                let entry = Entry {
                    digest: installed.file.digest,
                    previous: None,
                    origin: installed.origin,
                };
                (name.clone(), entry)
            })
            .collect();
        for (name, installed) in next {
            let digest = installed.file.digest;
            let previous = files.get(name).map(|entry| entry.digest);
            let entry = Entry {
                digest,
                previous: previous.filter(|previous| *previous != digest),
                origin: installed.origin,
            };
            files.insert(name.clone(), entry);
        }
        let used: BTreeSet<Digest> = files
            .values()
            .flat_map(|entry| [Some(entry.digest), entry.previous])
            .flatten()
            .collect();
        self.proofs.prune(&used);
        let bytes = Record::to_bytes(&files, &self.proofs);
        self.saved = None;
        let Place { meta, home, .. } = &self.place;
        meta.put_over(RECORD, &bytes, FILE_MODE, home)?;
        self.saved = Some(Digest::of(&bytes));
        Ok(())
    }
}

/// The outcome of a change of one file.
fn only(failed: BTreeMap<ProfileName, StoreError>) -> Result<(), StoreError> {
    failed.into_values().next().map_or(Ok(()), Err)
}

fn all_failed<'a>(
    names: impl IntoIterator<Item = &'a ProfileName>,
    error: &StoreError,
) -> BTreeMap<ProfileName, StoreError> {
    names
        .into_iter()
        .map(|name| (name.clone(), error.clone()))
        .collect()
}

fn is_namespace(name: &str) -> bool {
    ProfileName::new(name, "x").is_ok()
}
