//! Files of profiles, as people name them: paths, patterns, folders, and `-` for standard input.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::profile::{MAX_TEXT, SourceDocument};

/// A file, and the documents in it.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// As messages name it.
    pub(super) name: String,
    /// The same for every way to name it: without links and dots where it exists, and `-` for standard input.
    pub(super) path: PathBuf,
    /// Its text.
    pub(super) text: String,
    /// What the text holds, in its order.
    pub(super) documents: Vec<SourceDocument>,
}

impl SourceFile {
    /// Whether anything in it is a profile, or was to be one.
    pub(super) fn has_profile(&self) -> bool {
        self.documents
            .iter()
            .any(|document| matches!(document, SourceDocument::Profile(_)))
    }
}

/// Reads one file; `-` is standard input. An error where it cannot be read, is no UTF-8, or is larger than
/// [`MAX_TEXT`]; what is wrong with its profiles is in the documents.
pub(super) fn read(path: &Path) -> anyhow::Result<SourceFile> {
    if path == Path::new("-") {
        return read_from(
            std::io::stdin().lock(),
            "standard input".to_owned(),
            path.to_owned(),
        );
    }
    let name = path.display().to_string();
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {name}"))?;
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    read_from(file, name, real)
}

/// What a pattern (`profiles/*.json`) stands for, sorted, as a shell has it: hidden ones only where it says so. `None` for
/// what is no pattern, or is the name of something as it stands. An error where nothing matches.
pub(super) fn matching(pattern: &Path) -> Option<anyhow::Result<Vec<PathBuf>>> {
    let text = pattern.to_str()?;
    if !text.contains(['*', '?', '[']) || pattern.symlink_metadata().is_ok() {
        return None;
    }
    Some(matches(text))
}

fn matches(pattern: &str) -> anyhow::Result<Vec<PathBuf>> {
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let found = glob::glob_with(pattern, options)
        .with_context(|| format!("{pattern} is no file, and no pattern of names"))?;
    let mut paths: Vec<PathBuf> = found
        .collect::<Result<_, _>>()
        .with_context(|| format!("cannot read all that {pattern} may stand for"))?;
    paths.retain(|path| path.is_dir() || may_be_read(path));
    if paths.is_empty() {
        bail!("no file matches {pattern}");
    }
    Ok(paths)
}

/// The files of a folder that may hold profiles (`.yaml`, `.yml`, `.json`), sorted. Hidden files and subfolders
/// are left out.
pub(super) fn in_folder(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    list(folder).map(|listed| listed.files)
}

/// The files of a folder and all its subfolders that may hold profiles, folder by folder, and which subfolders
/// could not be read. Hidden files and folders are left out, and symlinks to folders not followed.
pub(super) fn in_tree(folder: &Path) -> (Vec<PathBuf>, Vec<anyhow::Error>) {
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        match list(&folder) {
            Ok(mut listed) => {
                files.append(&mut listed.files);
                waiting.extend(listed.folders.into_iter().rev());
            }
            Err(error) => errors.push(error),
        }
    }
    (files, errors)
}

/// What lies in one folder, sorted.
struct Listed {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

fn list(folder: &Path) -> anyhow::Result<Listed> {
    let cannot = || format!("cannot read folder {}", folder.display());
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type().with_context(cannot)?.is_dir() {
            folders.push(path);
        } else if is_named_as_ours(&path) && may_be_read(&path) {
            files.push(path);
        }
    }
    files.sort();
    folders.sort();
    Ok(Listed { files, folders })
}

fn is_named_as_ours(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| matches!(extension.as_encoded_bytes(), b"yaml" | b"yml" | b"json"))
}

/// A file, or what leads nowhere and is to be complained about. To open a pipe or a device might take for ever.
fn may_be_read(path: &Path) -> bool {
    path.metadata().map_or(true, |metadata| metadata.is_file())
}

fn read_from(reader: impl std::io::Read, name: String, path: PathBuf) -> anyhow::Result<SourceFile> {
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
        path,
        text,
        documents,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(root: &Path, paths: &[PathBuf]) -> Vec<String> {
        let name = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
        paths.iter().map(name).collect()
    }

    #[test]
    fn a_tree_is_read_to_its_leaves_without_hidden_parts_pipes_and_loops() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        std::fs::create_dir_all(path("a/b")).unwrap();
        std::fs::create_dir(path(".git")).unwrap();
        for file in [
            "z.yaml",
            "a/b/c.json",
            "a/d.yml",
            "a/notes.txt",
            ".hidden.yaml",
            ".git/e.yaml",
        ] {
            std::fs::write(path(file), "").unwrap();
        }
        std::os::unix::fs::symlink(root.path(), path("a/loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", path("broken.yaml")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe.yaml"), rustix::fs::Mode::RWXU).unwrap();
        let (files, errors) = in_tree(root.path());
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(
            names(root.path(), &files),
            ["broken.yaml", "z.yaml", "a/d.yml", "a/b/c.json"]
        );
        assert_eq!(
            names(root.path(), &in_folder(root.path()).unwrap()),
            ["broken.yaml", "z.yaml"]
        );
        let (files, errors) = in_tree(&path("missing"));
        assert_eq!((files.len(), errors.len()), (0, 1));
    }
}
