//! Where the programs and the repository are.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The root of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    let harness = Path::new(env!("CARGO_MANIFEST_DIR"));
    harness.ancestors().nth(2).unwrap_or(harness)
}

/// The path of the `helm` that `tests/kubernetes/build helm` made.
pub fn helm() -> Result<PathBuf> {
    built("helm")
}

/// The path of the `promtool` that `tests/kubernetes/build promtool` made.
pub fn promtool() -> Result<PathBuf> {
    built("promtool")
}

/// The path of the `kind` that `tests/kubernetes/build nodes` made.
pub fn kind() -> Result<PathBuf> {
    node_program("kind")
}

/// The path of a program of a node or of what controls nodes, as `tests/kubernetes/build nodes` made it.
pub(crate) fn node_program(name: &str) -> Result<PathBuf> {
    let directory = repository().join("tests/kubernetes/bin");
    find(&directory, name, "run tests/kubernetes/build nodes")
}

fn built(name: &str) -> Result<PathBuf> {
    let directory = repository().join("tests/kubernetes/bin");
    find(&directory, name, &format!("run tests/kubernetes/build {name}"))
}

/// The path of `etcd`, `kube-apiserver` or `kubectl`: from the directory `KUBEBUILDER_ASSETS` names, as other
/// operators' tests have it, or as `tests/kubernetes/build` made it.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let (directory, cure) = match std::env::var_os("KUBEBUILDER_ASSETS") {
        Some(directory) => (
            PathBuf::from(directory),
            "KUBEBUILDER_ASSETS names a directory without it",
        ),
        None => (
            repository().join("tests/kubernetes/bin"),
            "run tests/kubernetes/build",
        ),
    };
    find(&directory, name, cure)
}

fn find(directory: &Path, name: &str, cure: &str) -> Result<PathBuf> {
    // A child may have another working directory.
    let path = std::path::absolute(directory.join(name))?;
    if !path.is_file() {
        bail!("{} is missing: {cure}", path.display());
    }
    Ok(path)
}
