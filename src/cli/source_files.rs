//! Files of profiles, as people name them: paths, and `-` for standard input.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::profile::{MAX_TEXT, SourceDocument};

/// A file, and the documents in it.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// As messages name it.
    pub(super) name: String,
    /// Its text.
    pub(super) text: String,
    /// What the text holds, in its order.
    pub(super) documents: Vec<SourceDocument>,
}

/// Reads one file; `-` is standard input. An error where it cannot be read, is no UTF-8, or is larger than
/// [`MAX_TEXT`]; what is wrong with its profiles is in the documents.
pub(super) fn read(path: &Path) -> anyhow::Result<SourceFile> {
    if path == Path::new("-") {
        return read_from(std::io::stdin().lock(), "standard input".to_owned());
    }
    let name = path.display().to_string();
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {name}"))?;
    read_from(file, name)
}

/// The files of a folder that may hold profiles (`.yaml`, `.yml`, `.json`), sorted; hidden files and
/// subfolders are left out, as kubectl leaves them.
pub(super) fn in_folder(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let name = folder.display();
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read folder {name}"))? {
        let path = entry
            .with_context(|| format!("cannot read folder {name}"))?
            .path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let known = path
            .extension()
            .is_some_and(|e| matches!(e.as_encoded_bytes(), b"yaml" | b"yml" | b"json"));
        if known && !hidden && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read_from(reader: impl std::io::Read, name: String) -> anyhow::Result<SourceFile> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_TEXT as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {name}"))?;
    if bytes.len() > MAX_TEXT {
        bail!(
            "{name} is larger than {} MiB, so it is no file of profiles",
            MAX_TEXT >> 20
        );
    }
    let text = String::from_utf8(bytes).with_context(|| format!("{name} is not UTF-8 text"))?;
    let documents = crate::profile::read(text.as_bytes());
    Ok(SourceFile {
        name,
        text,
        documents,
    })
}
