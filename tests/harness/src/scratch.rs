//! The one directory that everything of a cluster is in.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// A temporary directory that only our user can look into. It is removed when this value is dropped, and when this
/// program ends in any way: a value in a static is never dropped.
#[derive(Debug)]
pub struct Scratch {
    // The order is that of the end.
    _sweeper: Sweeper,
    directory: TempDir,
}

impl Scratch {
    /// Where temporary files go.
    pub fn new(prefix: &str) -> Result<Self> {
        Self::within(&std::env::temp_dir(), prefix)
    }

    /// In this directory.
    pub fn within(parent: &Path, prefix: &str) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .with_context(|| format!("cannot make a temporary directory in {}", parent.display()))?;
        Ok(Self {
            _sweeper: Sweeper::start(REMOVE, &[directory.path().as_os_str()])?,
            directory,
        })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes a directory. The children are being killed at that moment and may still write.
const REMOVE: &str = r#"n=0; until rm -rf "$1" || [ $n -ge 10 ]; do sleep 1; n=$((n + 1)); done"#;

/// A shell that runs a script when its standard input ends, which it does when we end, however we end.
#[derive(Debug)]
pub struct Sweeper(Child);

impl Sweeper {
    /// `arguments` are the script's `$1` and so on.
    pub fn start(script: &str, arguments: &[&OsStr]) -> Result<Self> {
        // `read` gives nothing until we are gone.
        let child = Command::new("sh")
            .args([
                "-c",
                &format!("trap '' INT TERM HUP; read -r _; {script}"),
                "sweeper",
            ])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Whoever kills our whole group does not mean it.
            .process_group(0)
            .spawn()
            .context("cannot start sh")?;
        Ok(Self(child))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_user_may_enter_and_nothing_is_left() {
        let scratch = Scratch::new("callgate-scratch-").unwrap();
        let path = scratch.path().to_owned();
        std::fs::write(path.join("file"), "").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        drop(scratch);
        assert!(!path.exists());
    }
}
