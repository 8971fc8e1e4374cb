//! What lies in a seccomp root, and whether it is what must be there after a crash, and after the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use callgate::profile::{Digest, ProfileName};
use callgate::store::{Owner, Store};
use serde_json::Value;

use crate::versions::{self, Versions};

/// A seccomp root, as it was found.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Files of profiles, by NAMESPACE/NAME.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    marker: Option<Vec<u8>>,
    record: Option<Vec<u8>>,
    /// Everything else, and directories without anything in them.
    others: Vec<PathBuf>,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        let home = root.join("callgate");
        let Some(directories) = names(&home)? else {
            return Ok(tree);
        };
        for directory in directories {
            let path = home.join(&directory);
            if !path.is_dir() {
                tree.others.push(directory.into());
                continue;
            }
            // What goes while it is read is not there.
            let Some(files) = names(&path)? else { continue };
            if files.is_empty() {
                tree.add_empty(Path::new(&directory));
            }
            for file in files {
                match fs::read(path.join(&file)) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    bytes => tree.add(
                        &Path::new(&directory).join(&file),
                        bytes.with_context(|| format!("{directory}/{file}"))?,
                    ),
                }
            }
        }
        Ok(tree)
    }

    /// A directory without anything in it, by its path in `callgate`.
    pub(crate) fn add_empty(&mut self, directory: &Path) {
        if directory != Path::new(".callgate") {
            self.others.push(directory.to_owned());
        }
    }

    /// A file, by its path in `callgate`.
    pub(crate) fn add(&mut self, path: &Path, bytes: Vec<u8>) {
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        match &parts[..] {
            [directory, file] if directory == ".callgate" && file == "owner.json" => {
                self.marker = Some(bytes);
            }
            [directory, file] if directory == ".callgate" && file == "record.json" => {
                self.record = Some(bytes);
            }
            [namespace, file] if namespace != ".callgate" && file.ends_with(".json") => {
                let name = file.trim_end_matches(".json");
                self.files.insert(format!("{namespace}/{name}"), bytes);
            }
            _ => self.others.push(path.to_owned()),
        }
    }

    /// What a finished start must not leave.
    pub(crate) fn leftovers(&self) -> impl Iterator<Item = String> {
        self.others
            .iter()
            .map(|path| format!("{} is left over", path.display()))
    }

    /// What must not be so at any moment of a change from `before` to `after`, however it was interrupted: each file is
    /// of the one or of the other, whole, and there if it is in both; besides, there are temporary files at most.
    pub(crate) fn torn(&self, before: &Versions, after: &Versions) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let names: BTreeSet<&String> = before
            .keys()
            .chain(after.keys())
            .chain(self.files.keys())
            .collect();
        for name in names {
            let allowed: Vec<Option<Vec<u8>>> = [before.get(name), after.get(name)]
                .into_iter()
                .map(|version| version.copied().map(versions::bytes).transpose())
                .collect::<Result<_>>()?;
            let file = self.files.get(name);
            if !allowed.iter().any(|allowed| allowed.as_ref() == file) {
                found.push(match file {
                    None => format!("{name} is missing, and was in the old and in the new state"),
                    Some(bytes) => format!("{name} is neither the old nor the new one: {}", show(bytes)),
                });
            }
        }
        for path in &self.others {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_new_directory = after
                .keys()
                .chain(before.keys())
                .any(|key| key.starts_with(&format!("{name}/")));
            if !name.starts_with(".callgate-tmp-") && !is_new_directory {
                found.push(format!("{} is nothing that a write leaves", path.display()));
            }
        }
        for (what, bytes) in [("the marker", &self.marker), ("the record", &self.record)] {
            match bytes {
                Some(bytes) if serde_json::from_slice::<Value>(bytes).is_err() => {
                    found.push(format!("{what} is not whole: {}", show(bytes)));
                }
                None if !self.files.is_empty() => found.push(format!("{what} is missing beside files")),
                _ => {}
            }
        }
        Ok(found)
    }

    /// What is not as it must be once all of `wanted`, and nothing else, is installed; leftovers included.
    pub(crate) fn unsettled(&self, wanted: &Versions) -> Result<Vec<String>> {
        let mut found = self.torn(wanted, wanted)?;
        found.extend(self.leftovers());
        let mut digests = BTreeMap::new();
        for (name, version) in wanted {
            digests.insert(name.clone(), Digest::of(&versions::bytes(*version)?).to_string());
        }
        let record: Option<Value> = self
            .record
            .as_ref()
            .and_then(|bytes| serde_json::from_slice(bytes).ok());
        let recorded: Option<BTreeMap<String, String>> = record
            .as_ref()
            .and_then(|record| record.get("files")?.as_object())
            .map(|files| {
                let digest = |entry: &Value| entry["digest"].as_str().unwrap_or_default().to_owned();
                files
                    .iter()
                    .map(|(name, entry)| (name.clone(), digest(entry)))
                    .collect()
            });
        if recorded.as_ref() != Some(&digests) {
            found.push(format!(
                "the record says {recorded:?}, and there must be {digests:?}"
            ));
        }
        Ok(found)
    }
}

/// What the store does not know again of a root that a change from `before` to `after` was interrupted on; and what it
/// leaves there that is neither. It mends that root.
pub(crate) fn forgotten(root: &Path, before: &Versions, after: &Versions) -> Result<Vec<String>> {
    let mut store = match Store::open(root, Some(&Owner::Install)) {
        Ok(store) => store,
        Err(error) => return Ok(vec![format!("the store does not open: {error}")]),
    };
    let repaired = store.repair()?;
    let mut found: Vec<String> = repaired.failed.iter().map(ToString::to_string).collect();
    for (name, old) in before {
        let Some(new) = after.get(name) else { continue };
        let live = store
            .live()
            .get(&name.parse::<ProfileName>()?)
            .map(|live| live.file.digest);
        let known = [
            Digest::of(&versions::bytes(*old)?),
            Digest::of(&versions::bytes(*new)?),
        ];
        if !live.is_some_and(|live| known.contains(&live)) {
            found.push(format!("the store has forgotten {name}: {repaired:?}"));
        }
    }
    drop(store);
    found.extend(Tree::read(root)?.leftovers());
    Ok(found)
}

/// The names in a directory, sorted; `None` if there is none.
fn names(directory: &Path) -> Result<Option<Vec<String>>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries.with_context(|| directory.display().to_string())?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(Some(names))
}

fn show(bytes: &[u8]) -> String {
    let begin = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
    format!("{} bytes, {begin:?}", bytes.len())
}
