//! The container runtimes: where they are, and which versions.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Which runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuntimeName {
    /// The runc that `tests/runtimes/build` builds from `tests/runtimes/runc/go.mod`.
    Runc,
    /// An older one, of `tests/runtimes/runc.versions`.
    OlderRunc(&'static str),
    /// The oldest runc, of Debian.
    DebianRunc,
    /// The crun of a newer Debian, with its libraries.
    NewerCrun,
    /// The crun of Debian.
    Crun,
    /// The youki that `tests/runtimes/build` builds.
    Youki,
}

impl RuntimeName {
    /// All of them, newest first.
    pub const ALL: [Self; 11] = [
        Self::Runc,
        Self::OlderRunc("1.4.4"),
        Self::OlderRunc("1.4.0"),
        Self::OlderRunc("1.3.4"),
        Self::OlderRunc("1.3.2"),
        Self::OlderRunc("1.2.9"),
        Self::OlderRunc("1.2.6"),
        Self::DebianRunc,
        Self::NewerCrun,
        Self::Crun,
        Self::Youki,
    ];

    /// The program's own name.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Runc | Self::OlderRunc(_) | Self::DebianRunc => "runc",
            Self::NewerCrun | Self::Crun => "crun",
            Self::Youki => "youki",
        }
    }

    fn places(self) -> Vec<PathBuf> {
        let program = self.program();
        let built = |program: &str| vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../bin").join(program)];
        match self {
            Self::Runc | Self::NewerCrun | Self::Youki => built(program),
            Self::OlderRunc(version) => built(&format!("{program}-{version}")),
            // Not by PATH, where something else may come first.
            Self::DebianRunc | Self::Crun => ["/usr/sbin", "/usr/bin"]
                .map(|folder| Path::new(folder).join(program))
                .into(),
        }
    }

    const fn cure(self) -> &'static str {
        match self {
            Self::Runc | Self::OlderRunc(_) | Self::NewerCrun | Self::Youki => "run tests/runtimes/build",
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

    /// The version of the libseccomp that came with it; `None` if it uses that of the machine.
    #[must_use]
    pub fn own_libseccomp(&self) -> Option<String> {
        let link = self.program.parent()?.join("debian-13/libseccomp.so.2");
        let file = link
            .canonicalize()
            .ok()
            .filter(|_| self.name == RuntimeName::NewerCrun)?;
        Some(
            file.file_name()?
                .to_str()?
                .strip_prefix("libseccomp.so.")?
                .to_owned(),
        )
    }

    /// Options before the subcommand. Control groups by files everywhere: there may be no systemd.
    pub(crate) const fn options(&self) -> &'static [&'static str] {
        match self.name {
            RuntimeName::NewerCrun | RuntimeName::Crun => &["--cgroup-manager=cgroupfs"],
            RuntimeName::Runc | RuntimeName::OlderRunc(_) | RuntimeName::DebianRunc | RuntimeName::Youki => {
                &[]
            }
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name.program(), self.version)
    }
}
