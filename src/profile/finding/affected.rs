//! For whom a finding holds: programs and ranges of their versions.

use std::fmt;
use std::str::FromStr;

/// A version, as container runtimes, libseccomp and kernels number theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    major: u16,
    minor: u16,
    micro: u16,
}

impl Version {
    /// `major.minor.micro`.
    #[must_use]
    pub const fn new(major: u16, minor: u16, micro: u16) -> Self {
        Self { major, minor, micro }
    }
}

impl fmt::Display for Version {
    /// The third part is left out where it is 0: `5.19`, `1.2`, `2.5.4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.micro == 0 {
            return Ok(());
        }
        write!(f, ".{}", self.micro)
    }
}

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version: expected one to three numbers with points between them, like 1.2 or 2.5.4")]
pub struct InvalidVersion(String);

impl FromStr for Version {
    type Err = InvalidVersion;

    /// Parts that are left out are 0.
    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let invalid = || InvalidVersion(text.chars().take(64).collect());
        let number = |part: &str| {
            let digits = part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse().ok().filter(|_| digits).ok_or_else(invalid)
        };
        let mut parts = [0; 3];
        let mut texts = text.split('.');
        for (part, text) in parts.iter_mut().zip(&mut texts) {
            *part = number(text)?;
        }
        let [major, minor, micro] = parts;
        match texts.next() {
            None => Ok(Self::new(major, minor, micro)),
            Some(_) => Err(invalid()),
        }
    }
}

/// What takes part when a container starts under a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Software {
    /// <https://github.com/opencontainers/runc>.
    Runc,
    /// <https://github.com/containers/crun>.
    Crun,
    /// <https://github.com/youki-dev/youki>.
    Youki,
    /// The libseccomp that a runtime is built with.
    Libseccomp,
    /// The node's kernel.
    Linux,
}

impl Software {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Runc, Self::Crun, Self::Youki, Self::Libseccomp, Self::Linux];

    /// Its name in messages and options.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Youki => "youki",
            Self::Libseccomp => "libseccomp",
            Self::Linux => "Linux",
        }
    }

    /// Whether it is a container runtime. What concerns libseccomp or the kernel concerns every runtime.
    #[must_use]
    pub const fn is_runtime(self) -> bool {
        matches!(self, Self::Runc | Self::Crun | Self::Youki)
    }
}

/// Some versions of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affected {
    /// Which program.
    pub software: Software,
    /// From this version on; `None` is from the first.
    pub from: Option<Version>,
    /// Up to this version, without it; `None` is up to the newest.
    pub before: Option<Version>,
}

impl Affected {
    /// All versions.
    #[must_use]
    pub const fn always(software: Software) -> Self {
        Self {
            software,
            from: None,
            before: None,
        }
    }

    /// The versions before one.
    #[must_use]
    pub const fn before(software: Software, version: Version) -> Self {
        Self {
            software,
            from: None,
            before: Some(version),
        }
    }

    /// One version and all after it.
    #[must_use]
    pub const fn since(software: Software, version: Version) -> Self {
        Self {
            software,
            from: Some(version),
            before: None,
        }
    }

    /// Whether a version is one of them.
    #[must_use]
    pub fn contains(&self, version: Version) -> bool {
        self.from.is_none_or(|from| from <= version) && self.before.is_none_or(|before| version < before)
    }
}

impl fmt::Display for Affected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.software.as_str())?;
        if let Some(from) = self.from {
            write!(f, " from {from}")?;
        }
        if let Some(before) = self.before {
            write!(f, " before {before}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_part_by_part() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert_eq!(version("2.5.4"), Version::new(2, 5, 4));
        assert_eq!(version("1.2"), Version::new(1, 2, 0));
        assert!(version("1.10") > version("1.9.9"));
        assert_eq!(version("1").to_string(), "1.0");
        assert_eq!(version("5.19.0").to_string(), "5.19");
        assert_eq!(version("2.5.4").to_string(), "2.5.4");
        for text in [
            "",
            "1.",
            "v1.2",
            "1.2.3.4",
            "1.2-rc1",
            "+1",
            "70000",
            &"9".repeat(1_000),
        ] {
            let error = text.parse::<Version>().unwrap_err().to_string();
            assert!(error.len() < 200, "{error}");
        }
    }

    #[test]
    fn a_range_begins_with_its_first_version_and_ends_before_its_last() {
        let two = Version::new(1, 2, 0);
        let old = Affected::before(Software::Runc, two);
        assert!(old.contains(Version::new(1, 1, 15)));
        assert!(!old.contains(two));
        let new = Affected::since(Software::Crun, two);
        assert!(new.contains(two));
        assert!(!new.contains(Version::new(1, 1, 9)));
        assert!(Affected::always(Software::Youki).contains(two));
        assert_eq!(old.to_string(), "runc before 1.2");
        assert_eq!(new.to_string(), "crun from 1.2");
        assert_eq!(Affected::always(Software::Youki).to_string(), "youki");
    }

    #[test]
    fn three_of_the_programs_are_runtimes() {
        let runtimes = Software::ALL.iter().filter(|software| software.is_runtime());
        let names: Vec<_> = runtimes.map(|software| software.as_str()).collect();
        assert_eq!(names, ["runc", "crun", "youki"]);
    }
}
