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

    /// The version that a text writes, and the first after all that begin like it: 1.1 and 1.2 for `1.1`, 2.5.4 and
    /// 2.5.5 for `2.5.4`. `None` stands for no such version, because numbers end.
    fn series(text: &str) -> Result<(Self, Option<Self>), InvalidVersion> {
        let first: Self = text.parse()?;
        let Self { major, minor, micro } = first;
        let next = match text.split('.').count() {
            1 => major.checked_add(1).map(|major| Self::new(major, 0, 0)),
            2 => minor.checked_add(1).map(|minor| Self::new(major, minor, 0)),
            _ => micro.checked_add(1).map(|micro| Self::new(major, minor, micro)),
        };
        Ok((first, next))
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

    /// The software of this name, in whatever case.
    fn named(name: &str) -> Option<Self> {
        let is_named = |software: &&Self| software.as_str().eq_ignore_ascii_case(name);
        Self::ALL.iter().find(is_named).copied()
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

    /// Whether it is any of these. What is not named may be there in every version; but where runtimes are named, there
    /// are no others.
    #[must_use]
    pub fn concerns(&self, present: &[Self]) -> bool {
        let named = || present.iter().filter(|one| one.software == self.software);
        if named().next().is_some() {
            return named().any(|one| self.overlaps(one));
        }
        let is_complete = self.software.is_runtime() && present.iter().any(|one| one.software.is_runtime());
        !is_complete
    }

    /// Whether a version is one of both.
    fn overlaps(&self, other: &Self) -> bool {
        let ends_after = |one: &Self, other: &Self| {
            let pair = one.before.zip(other.from);
            pair.is_none_or(|(before, from)| from < before)
        };
        self.software == other.software && ends_after(self, other) && ends_after(other, self)
    }
}

/// A text that names no software, or no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSoftware {
    /// The name is none.
    #[error("{0:?} is not known: write {known} with or without a version, as in runc@1.1", known = known())]
    Name(String),
    /// The name of what has others start containers.
    #[error(
        "{0:?} starts no container itself: name the runtime that it starts them with, which is {1} as a rule"
    )]
    Engine(String, &'static str),
    /// What follows `@` is no version.
    #[error(transparent)]
    Version(#[from] InvalidVersion),
}

/// What people call their container runtime, and what it starts containers with unless told otherwise.
const ENGINES: [(&str, &str); 7] = [
    ("containerd", "runc"),
    ("docker", "runc"),
    ("dockerd", "runc"),
    ("moby", "runc"),
    ("cri-o", "crun"),
    ("crio", "crun"),
    ("podman", "crun"),
];

fn known() -> String {
    let names = Software::ALL
        .iter()
        .map(|software| software.as_str().to_ascii_lowercase());
    let names: Vec<String> = names.collect();
    match names.split_last() {
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

impl FromStr for Affected {
    type Err = InvalidSoftware;

    /// `runc`, which is every version, or `runc@1.1`, which is each that begins so.
    fn from_str(text: &str) -> Result<Self, InvalidSoftware> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let unknown = || {
            let engine = ENGINES
                .iter()
                .find(|(engine, _)| engine.eq_ignore_ascii_case(name));
            match engine {
                Some((_, runtime)) => InvalidSoftware::Engine(name.to_owned(), runtime),
                None => InvalidSoftware::Name(name.chars().take(64).collect()),
            }
        };
        let software = Software::named(name).ok_or_else(unknown)?;
        let Some(version) = version else {
            return Ok(Self::always(software));
        };
        let (first, next) = Version::series(version)?;
        Ok(Self {
            before: next,
            ..Self::since(software, first)
        })
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

    fn present(texts: &[&str]) -> Vec<Affected> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn who_has_others_start_containers_is_told_whose_name_to_write() {
        for (text, runtime) in [
            ("containerd@1.7", "runc"),
            ("Docker", "runc"),
            ("CRI-O@1.30", "crun"),
        ] {
            let error = text.parse::<Affected>().unwrap_err();
            assert!(
                matches!(&error, InvalidSoftware::Engine(_, named) if *named == runtime),
                "{error}"
            );
        }
        let error = "kata".parse::<Affected>().unwrap_err();
        assert!(matches!(error, InvalidSoftware::Name(_)), "{error}");
    }

    #[test]
    fn a_named_version_is_each_that_begins_so() {
        for (text, shown) in [
            ("runc", "runc"),
            ("LINUX@6", "Linux from 6.0 before 7.0"),
            ("runc@1.1", "runc from 1.1 before 1.2"),
            ("libseccomp@2.5.4", "libseccomp from 2.5.4 before 2.5.5"),
            ("crun@65535", "crun from 65535.0"),
        ] {
            assert_eq!(text.parse::<Affected>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_software_or_no_version_is_told_with_what_is_known() {
        let told = |text: &str| text.parse::<Affected>().unwrap_err().to_string();
        assert_eq!(
            told("kata@2"),
            "\"kata\" is not known: write runc, crun, youki, libseccomp or linux with or without a version, as in \
             runc@1.1"
        );
        for text in ["", "@", "@1.1", "runc 1.1", "runc=1"] {
            assert!(told(text).contains("is not known"), "{text:?}");
        }
        for text in [
            "runc@",
            "runc@v1",
            "runc@1.1@2",
            "runc@latest",
            "linux@6.18.0-rc1",
        ] {
            assert!(told(text).contains("is no version"), "{text:?}");
        }
        assert!(told(&"\u{1b}".repeat(100_000)).len() < 1_000);
    }

    #[test]
    fn what_concerns_a_runtime_concerns_who_runs_it_at_that_version() {
        let (old, since) = (Version::new(1, 1, 15), Version::new(1, 5, 0));
        let before = Affected::before(Software::Runc, old);
        for (named, concerned) in [
            (&[][..], true),
            (&["runc"], true),
            (&["runc@1.0"], true),
            (&["runc@1.1.14"], true),
            (&["runc@1.1.15"], false),
            // Some of them are older.
            (&["runc@1.1"], true),
            (&["runc@1"], true),
            (&["runc@1.2"], false),
            (&["runc@1.2", "runc@1.1.3"], true),
            (&["crun"], false),
            (&["crun", "runc@1.1.2"], true),
            // Says nothing of runtimes.
            (&["libseccomp@2.5", "linux@6.1"], true),
        ] {
            assert_eq!(before.concerns(&present(named)), concerned, "{named:?}");
        }
        let from = Affected::since(Software::Crun, since);
        assert!(from.concerns(&present(&["crun@1.5.0"])));
        assert!(from.concerns(&present(&["crun@1"])));
        assert!(!from.concerns(&present(&["crun@1.4"])));
        assert!(!Affected::always(Software::Youki).concerns(&present(&["runc", "crun"])));
    }

    #[test]
    fn what_concerns_the_libseccomp_or_the_kernel_concerns_every_runtime() {
        let libseccomp = Affected::before(Software::Libseccomp, Version::new(2, 6, 0));
        for (named, concerned) in [
            (&["runc"][..], true),
            (&["libseccomp"], true),
            (&["libseccomp@2.5"], true),
            (&["libseccomp@2.6"], false),
            (&["runc", "libseccomp@2.6"], false),
            (&["linux@6.1"], true),
        ] {
            assert_eq!(libseccomp.concerns(&present(named)), concerned, "{named:?}");
        }
    }

    #[test]
    fn three_of_the_programs_are_runtimes() {
        let runtimes = Software::ALL.iter().filter(|software| software.is_runtime());
        let names: Vec<_> = runtimes.map(|software| software.as_str()).collect();
        assert_eq!(names, ["runc", "crun", "youki"]);
    }
}
