//! What an opened directory holds: files that its record vouches for, or, where that is lost, files that nothing does.

use rustix::io::Errno;

use super::dir::Content;
use super::place::{DIR_MODE, FILE_MODE, RECORD};
use super::record::Record;
use super::{Installed, Origin, Store, StoreError, is_namespace, repair};
use crate::profile::{Canonical, Digest, ProfileName};

impl Store {
    /// Takes over what the record vouches for.
    pub(super) fn load(&mut self) -> Result<(), StoreError> {
        // Tried only, as in what follows: whoever reads it says what is still wrong.
        _ = self.place.meta.mend_mode(RECORD, FILE_MODE);
        let record = match self.place.meta.read(RECORD, Record::MAX_BYTES)? {
            Content::File { bytes, .. } => {
                self.saved = Some(Digest::of(&bytes));
                Record::parse(&bytes)
            }
            Content::Missing | Content::Other => None,
        };
        let Some(record) = record else {
            self.saved = None;
            return self.load_unproven();
        };
        self.proofs = record.proofs;
        for (name, entry) in record.files {
            let file = self
                .read(&name)?
                .filter(|file| file.digest == entry.digest || Some(file.digest) == entry.previous);
            match file {
                None => {
                    self.untold.lost.push(name);
                    self.saved = None;
                }
                Some(file) => {
                    if file.digest != entry.digest {
                        // Whoever puts the other one there later is not to be vouched for.
                        self.saved = None;
                    }
                    let map = match self.proofs.get(&file.digest) {
                        Some(_) => &mut self.live,
                        None => &mut self.unproven,
                    };
                    let origin = entry.origin;
                    map.insert(name, Installed { file, origin });
                }
            }
        }
        Ok(())
    }

    fn load_unproven(&mut self) -> Result<(), StoreError> {
        for namespace in self.place.home.entries()? {
            let namespace = namespace?;
            let Some(namespace) = namespace.to_str().filter(|name| is_namespace(name)) else {
                continue;
            };
            // Tried only; where it stays closed, the line after says so.
            _ = self.place.home.mend_mode(namespace, DIR_MODE);
            let dir = match self.place.home.open_dir(namespace) {
                Ok(dir) => dir,
                // Not a directory, or gone since.
                Err(failure) if repair::is_obstacle(&failure) => continue,
                Err(failure) => return Err(failure.into()),
            };
            for file in dir.entries()? {
                let file = file?;
                let name = file.to_str().and_then(|file| file.strip_suffix(".json"));
                let Some(Ok(name)) = name.map(|name| ProfileName::new(namespace, name)) else {
                    continue;
                };
                if let Some(file) = self.read(&name)? {
                    let origin = Origin::Install;
                    self.unproven.insert(name, Installed { file, origin });
                }
            }
        }
        Ok(())
    }

    /// The file of a profile as it is on disk, if it is a regular one that we may read.
    pub(super) fn read(&self, name: &ProfileName) -> Result<Option<Canonical>, StoreError> {
        let read = || {
            let namespace = self.place.home.open_dir(name.namespace())?;
            namespace.read(name.file_name(), Canonical::MAX_BYTES)
        };
        let content = match read() {
            // Without capabilities uid 0 too is denied what a mode denies, and may change the mode of its own.
            Err(failure) if failure.errno == Errno::ACCESS => {
                self.mend_access(name);
                read()
            }
            result => result,
        };
        Ok(match content {
            Err(failure) if repair::is_obstacle(&failure) || failure.errno == Errno::ACCESS => None,
            Err(failure) => return Err(failure.into()),
            Ok(Content::Missing | Content::Other) => None,
            Ok(Content::File { bytes, .. }) => Some(Canonical {
                digest: Digest::of(&bytes),
                bytes: bytes.into(),
            }),
        })
    }
}
