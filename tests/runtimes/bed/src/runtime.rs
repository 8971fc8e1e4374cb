//! The container runtimes: where they are, and which versions.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Which runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuntimeName {
    /// The runc that `tests/runtimes/build` builds.
    Runc,
    /// The older runc of Debian.
    DebianRunc,
    /// The crun of Debian.
    Crun,
    /// The youki that `tests/runtimes/build` builds.
    Youki,
}

impl RuntimeName {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Runc, Self::DebianRunc, Self::Crun, Self::Youki];

    /// The program's own name.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Runc | Self::DebianRunc => "runc",
            Self::Crun => "crun",
            Self::Youki => "youki",
        }
    }

    fn places(self) -> Vec<PathBuf> {
        let program = self.program();
        match self {
            Self::Runc | Self::Youki => {
                vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../bin").join(program)]
            }
            // Not by PATH, where something else may come first.
            Self::DebianRunc | Self::Crun => ["/usr/sbin", "/usr/bin"]
                .map(|folder| Path::new(folder).join(program))
                .into(),
        }
    }

    const fn cure(self) -> &'static str {
        match self {
            Self::Runc | Self::Youki => "run tests/runtimes/build",
            Self::DebianRunc | Self::Crun => "run tests/packages",
        }
    }
}

/// A runtime that is there.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Which.
    pub name: RuntimeName,
    /// The program.
    pub program: PathBuf,
    /// Its version, as `1.5.2`.
    pub version: String,
}

impl Runtime {
    /// Finds it and asks for its version.
    pub fn find(name: RuntimeName) -> Result<Self> {
        let places = name.places();
        let Some(program) = places.iter().find(|place| place.exists()) else {
            bail!(
                "{} is not at {}: {}",
                name.program(),
                places[0].display(),
                name.cure()
            );
        };
        let output = Command::new(program).arg("--version").output();
        let output = output.with_context(|| format!("cannot run {}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        // "runc version 1.1.5+ds1", "crun version 1.8.1", "youki version: 0.7.0".
        let version = text
            .lines()
            .find_map(|line| line.split_once("version").map(|(_, version)| version))
            .and_then(|version| version.trim_matches([':', ' ']).split('+').next())
            .with_context(|| format!("{} --version says {text:?}", program.display()))?;
        Ok(Self {
            name,
            version: version.to_owned(),
            program: program.clone(),
        })
    }

    /// Options before the subcommand. Control groups by files everywhere: there may be no systemd.
    pub(crate) const fn options(&self) -> &'static [&'static str] {
        match self.name {
            RuntimeName::Crun => &["--cgroup-manager=cgroupfs"],
            RuntimeName::Runc | RuntimeName::DebianRunc | RuntimeName::Youki => &[],
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name.program(), self.version)
    }
}
