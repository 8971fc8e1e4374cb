//! The image of this machine's architecture, unpacked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

/// An image, and the bundle that umoci makes of it for a runtime.
pub(crate) struct Image {
    folder: TempDir,
    /// Its configuration, as its archive has it.
    pub(crate) config: Value,
}

impl Image {
    /// Unpacks what `make image` left.
    pub(crate) fn unpack() -> Result<Self> {
        let folder = TempDir::new()?;
        let layout = folder.path().join("layout");
        fs::create_dir(&layout)?;
        let archive = file("oci.tar")?;
        run(Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(&layout))?;
        let reference = format!("{}:{}", layout.display(), env!("CARGO_PKG_VERSION"));
        let bundle = folder.path().join("bundle");
        run(Command::new("umoci")
            .args(["unpack", "--image", &reference])
            .arg(&bundle))?;
        let config =
            run(Command::new("skopeo").args(["inspect", "--config", "--raw", &format!("oci:{reference}")]))?;
        let config = serde_json::from_str(&config)?;
        Ok(Self { folder, config })
    }

    /// The root file system.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("bundle/rootfs")
    }

    /// The configuration for a runtime that follows from the image alone.
    pub(crate) fn runtime_config(&self) -> Result<Value> {
        let config = fs::read(self.folder.path().join("bundle/config.json"))?;
        Ok(serde_json::from_slice(&config)?)
    }

    /// Every path in it, with a slash in front.
    pub(crate) fn paths(&self) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                }
                paths.push(Path::new("/").join(entry.path().strip_prefix(self.root())?));
            }
        }
        paths.sort();
        Ok(paths)
    }
}

/// The path of one of the files that `make image` makes.
pub(crate) fn file(extension: &str) -> Result<PathBuf> {
    let name = format!("target/image/callgate-{}.{extension}", architecture());
    let path = harness::repository().join(&name);
    ensure!(path.is_file(), "{name} is missing: run make image");
    Ok(path)
}

/// This machine's architecture, as images call it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The standard output of a command that must work.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}: run tests/packages"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
