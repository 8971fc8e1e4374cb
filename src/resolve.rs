//! Docker's and Podman's profile format, turned into the plain profile of the OCI for one kind of host and container.
//!
//! Pure; knows `profile` only. dockerd, Podman and CRI-O read profiles in a format that holds more than the OCI's: entries
//! under conditions (`includes`, `excludes`) on the capabilities of the container, the architecture and the kernel of the
//! host; architectures for each kind of host (`archMap`); errnos by name. What a container runtime gets is the profile that
//! is left when all that is decided. containerd decides nothing of it: it hands the file to the runtime, which ignores what
//! it does not know.
//!
//! # Whose reading
//!
//! There are two: dockerd's (`setupSeccomp` of github.com/moby/profiles/seccomp, v0.3.0) and that of Podman and CRI-O
//! (`setupSeccomp` of github.com/containers/common/pkg/seccomp, v0.50.1). What follows is common to both:
//!
//! - An entry stands if all its conditions hold: those of `includes` and none of `excludes`. `includes.caps` asks for every
//!   capability, `excludes.caps` and both `arches` for any one. Capabilities are those of the bounding set.
//! - Of `archMap`, the architecture of the host and its `subArchitectures` are taken. `architectures` beside it is an error.
//! - `name` is a list of one name; `name` and `names` in one entry is an error.
//! - `comment` says nothing. What is absent, null and empty is the same.
//!
//! Where they differ, a key is read as the programs read it that know it:
//!
//! | in the file | dockerd | Podman, CRI-O | here |
//! |---|---|---|---|
//! | `minKernel` | asked, by the first two numbers | ignored | as dockerd |
//! | `errno`, `defaultErrno`: a name, or digits | ignored | taken, before `errnoRet` and `defaultErrnoRet` | as CRI-O; an error where the number beside it is another |
//! | both of the above, the number not beside it | | | an error: no program reads both |
//! | `archMap` on a host that is not amd64, arm64, s390x or MIPS | taken | adds nothing | as dockerd |
//! | `loongarch64`, `loong64` in `arches` | the first | the second | either |
//! | `name` and `names` in an entry that is left out | an error | ignored | an error |
//!
//! An input that both take can be an error here, because it says what its author cannot have meant: an unknown key, a key
//! that stands twice, a capability or architecture that does not exist, an `excludes.minKernel` that is empty (dockerd
//! leaves such an entry out everywhere), an entry without a name, a profile without `defaultAction` (neither of them
//! installs a filter then). CRI-O's own default is no such file: CRI-O takes `unshare` out of Podman's first.

mod errno;
mod host;
mod read;

use std::collections::BTreeMap;
use std::fmt;

pub use host::{Capability, Host, HostArchitecture, InvalidRelease, KernelVersion};
pub use read::read;
pub(crate) use read::unknown;

use crate::profile::{Architecture, Operator, Profile, Rule};

/// A profile in Docker's format, as [`read()`] found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerProfile {
    /// All that is not said for some hosts only; its `syscalls` are empty.
    base: Profile,
    /// What `architectures` is on each kind of host, by its native architecture.
    arch_map: BTreeMap<Architecture, Vec<Architecture>>,
    entries: Vec<Entry>,
    is_plain: bool,
}

/// An entry of `syscalls`, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    rule: Rule,
    includes: Filter,
    excludes: Filter,
}

/// Conditions on host and container. None is none at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Filter {
    capabilities: Vec<Capability>,
    /// As the format calls them.
    architectures: Vec<&'static str>,
    min_kernel: Option<KernelVersion>,
}

/// What an entry is left out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Obstacle {
    /// `caps`.
    Capabilities,
    /// `arches`.
    Architecture,
    /// `minKernel`.
    Kernel,
}

impl fmt::Display for Obstacle {
    /// The key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Capabilities => "caps",
            Self::Architecture => "arches",
            Self::Kernel => "minKernel",
        })
    }
}

/// The profile for one kind of host, and what is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What a container runtime gets.
    pub profile: Profile,
    /// How many entries are left out, by the first condition that does not hold in the order of [`Obstacle`].
    pub left_out: BTreeMap<Obstacle, usize>,
}

impl DockerProfile {
    /// Whether the file has no key but those of the OCI's format, so that it means the same everywhere.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Whether its `archMap` says nothing of this host: the profile then lists no architectures there.
    #[must_use]
    pub fn lacks(&self, architecture: HostArchitecture) -> bool {
        !self.arch_map.is_empty() && !self.arch_map.contains_key(&architecture.native())
    }

    /// How many entries the file has.
    #[must_use]
    pub const fn entries(&self) -> usize {
        self.entries.len()
    }

    /// What a container runtime on this host gets for a container with these capabilities. The entries keep their
    /// order. No rule is asked: that the format can be resolved says nothing about the profile.
    #[must_use]
    pub fn resolve(&self, host: &Host) -> Resolved {
        let mut profile = self.base.clone();
        if let Some(architectures) = self.arch_map.get(&host.architecture.native()) {
            profile.architectures.clone_from(architectures);
        }
        let mut left_out = BTreeMap::new();
        for entry in &self.entries {
            match entry.obstacle(host) {
                Some(obstacle) => *left_out.entry(obstacle).or_default() += 1,
                None => profile.syscalls.push(written(&entry.rule)),
            }
        }
        Resolved { profile, left_out }
    }
}

impl Entry {
    /// The first condition that does not hold.
    fn obstacle(&self, host: &Host) -> Option<Obstacle> {
        let Self {
            includes, excludes, ..
        } = self;
        let has = |capability: &Capability| host.capabilities.contains(capability);
        let is = |name: &&'static str| host.architecture.is_called(name);
        let is_reached = |min: KernelVersion| host.kernel >= min;

        if !includes.capabilities.iter().all(has) || excludes.capabilities.iter().any(has) {
            return Some(Obstacle::Capabilities);
        }
        let names = &includes.architectures;
        if !(names.is_empty() || names.iter().any(is)) || excludes.architectures.iter().any(is) {
            return Some(Obstacle::Architecture);
        }
        if !includes.min_kernel.is_none_or(is_reached) || excludes.min_kernel.is_some_and(is_reached) {
            return Some(Obstacle::Kernel);
        }
        None
    }
}

/// A `valueTwo` of 0 is not written by programs in Go; but where it is compared with, it is to be seen.
fn written(rule: &Rule) -> Rule {
    let mut rule = rule.clone();
    for condition in &mut rule.args {
        if condition.op != Operator::MaskedEqual {
            condition.value_two = condition.value_two.filter(|value| *value != 0);
        }
    }
    rule
}

#[cfg(test)]
mod tests;
