//! What the conditions of Docker's format are about: a host, and the capabilities of a container on it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::profile::{Architecture, UnknownName};

/// A host, and a container on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The bounding set of the container: all that it may ever have.
    pub capabilities: BTreeSet<Capability>,
    /// Of the host.
    pub architecture: HostArchitecture,
    /// Of the host.
    pub kernel: KernelVersion,
}

/// The name of a capability, `CAP_` and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(&'static str);

/// Source: capabilities(7), and `include/uapi/linux/capability.h` of Linux 6.12. The newest is of Linux 5.9.
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

impl Capability {
    /// What containerd and dockerd give a container that asks for nothing.
    ///
    /// Source: `defaultUnixCaps` in
    /// <https://github.com/containerd/containerd/blob/v2.0.0/pkg/oci/spec.go>, and `DefaultCapabilities` in
    /// <https://github.com/moby/moby/blob/v28.0.0/oci/caps/defaults.go>.
    pub const DEFAULT: [Self; 14] = [
        Self("CAP_AUDIT_WRITE"),
        Self("CAP_CHOWN"),
        Self("CAP_DAC_OVERRIDE"),
        Self("CAP_FOWNER"),
        Self("CAP_FSETID"),
        Self("CAP_KILL"),
        Self("CAP_MKNOD"),
        Self("CAP_NET_BIND_SERVICE"),
        Self("CAP_NET_RAW"),
        Self("CAP_SETFCAP"),
        Self("CAP_SETGID"),
        Self("CAP_SETPCAP"),
        Self("CAP_SETUID"),
        Self("CAP_SYS_CHROOT"),
    ];

    /// Every capability of Linux.
    pub fn all() -> impl Iterator<Item = Self> {
        CAPABILITIES.into_iter().map(Self)
    }

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl FromStr for Capability {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let known = CAPABILITIES.into_iter().find(|name| *name == text);
        known.map(Self).ok_or_else(|| UnknownName {
            value: text.to_owned(),
            known: CAPABILITIES.to_vec(),
        })
    }
}

/// The architecture of a host that containers run on, by the name that Go and Kubernetes give it (`kubernetes.io/arch`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostArchitecture(&'static Row);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Row {
    go: &'static str,
    /// In Rust's `std::env::consts::ARCH`.
    rust: &'static str,
    /// In `arches`, to dockerd and to Podman.
    called: &'static [&'static str],
    native: Architecture,
}

/// Those that Kubernetes and its container runtimes are built for. MIPS is none of them, and has errnos of its own.
///
/// Source: `goToNative` and `nativeToSeccomp` in
/// <https://github.com/moby/profiles/blob/seccomp/v0.3.0/seccomp/seccomp_linux.go>, and `ScmpArch.String` in
/// <https://github.com/seccomp/libseccomp-golang/blob/v0.11.0/seccomp.go>.
static HOSTS: [Row; 8] = [
    Row::new("386", "x86", &["x86"], Architecture::X86),
    Row::new("amd64", "x86_64", &["amd64"], Architecture::X86_64),
    Row::new("arm", "arm", &["arm"], Architecture::Arm),
    Row::new("arm64", "aarch64", &["arm64"], Architecture::Aarch64),
    Row::new(
        "loong64",
        "loongarch64",
        &["loongarch64", "loong64"],
        Architecture::Loongarch64,
    ),
    Row::new("ppc64le", "powerpc64", &["ppc64le"], Architecture::Ppc64Le),
    Row::new("riscv64", "riscv64", &["riscv64"], Architecture::Riscv64),
    Row::new("s390x", "s390x", &["s390x"], Architecture::S390X),
];

impl Row {
    const fn new(
        go: &'static str,
        rust: &'static str,
        called: &'static [&'static str],
        native: Architecture,
    ) -> Self {
        Self {
            go,
            rust,
            called,
            native,
        }
    }
}

impl HostArchitecture {
    /// Every one.
    pub fn all() -> impl Iterator<Item = Self> {
        HOSTS.iter().map(Self)
    }

    /// That of this program. `None` on a machine that is none of these.
    #[must_use]
    pub fn of_this_machine() -> Option<Self> {
        let is_big_endian = cfg!(target_endian = "big");
        Self::all().find(|host| {
            host.0.rust == std::env::consts::ARCH && host.native().is_big_endian() == is_big_endian
        })
    }

    /// The ABI of its kernel.
    #[must_use]
    pub const fn native(self) -> Architecture {
        self.0.native
    }

    /// Whether an `arches` that holds this name means it.
    #[must_use]
    pub fn is_called(self, name: &str) -> bool {
        self.0.called.contains(&name)
    }
}

impl fmt::Display for HostArchitecture {
    /// The name that Go gives it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.go)
    }
}

impl FromStr for HostArchitecture {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::all()
            .find(|host| host.0.go == text)
            .ok_or_else(|| UnknownName {
                value: text.to_owned(),
                known: HOSTS.iter().map(|row| row.go).collect(),
            })
    }
}

/// Every name that `arches` may hold: those of the hosts above, and of what else dockerd or libseccomp-golang has a name
/// for.
pub(super) const ARCHES: [&str; 25] = [
    "amd64",
    "arm",
    "arm64",
    "loong64",
    "loongarch64",
    "m68k",
    "mips",
    "mips3l64n32",
    "mips64",
    "mips64n32",
    "mipsel",
    "mipsel64",
    "mipsel64n32",
    "parisc",
    "parisc64",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv64",
    "s390",
    "s390x",
    "sh",
    "sheb",
    "x32",
    "x86",
];

/// The first two numbers of a kernel's release, which are all that conditions look at: 6.1 of `6.1.0-18-amd64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    version: u32,
    patchlevel: u32,
}

impl KernelVersion {
    /// These two numbers.
    #[must_use]
    pub const fn new(version: u32, patchlevel: u32) -> Self {
        Self { version, patchlevel }
    }

    /// Reads what `minKernel` may be: two numbers and nothing else, each at most 255, and not 0.0.
    ///
    /// Source: `KernelVersion.UnmarshalJSON` in
    /// <https://github.com/moby/profiles/blob/seccomp/v0.3.0/seccomp/seccomp.go>.
    #[must_use]
    pub fn from_condition(text: &str) -> Option<Self> {
        let (version, patchlevel) = text.split_once('.')?;
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse::<u8>().ok()).flatten()
        };
        let read = Self::new(number(version)?.into(), number(patchlevel)?.into());
        (read != Self::new(0, 0)).then_some(read)
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.version, self.patchlevel)
    }
}

/// A text that does not begin like the release of a kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no release of a kernel: write it as uname -r does, or its first two numbers, for example 6.1"
)]
pub struct InvalidRelease(String);

impl FromStr for KernelVersion {
    type Err = InvalidRelease;

    /// Reads a release; what follows its first two numbers is not looked at.
    fn from_str(release: &str) -> Result<Self, InvalidRelease> {
        let read = || {
            let (version, rest) = release.split_once('.')?;
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let is_number = version.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| Some(Self::new(version.parse().ok()?, rest[..end].parse().ok()?)))?
        };
        read().ok_or_else(|| InvalidRelease(release.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_called_as_their_nodes_are_labelled() {
        for architecture in Architecture::ALL {
            let host = HostArchitecture::all().find(|host| host.native() == *architecture);
            let name = host.map(|host| host.to_string());
            assert_eq!(architecture.node_label(), name.as_deref(), "{architecture}");
        }
    }

    #[test]
    fn a_release_is_its_first_two_numbers() {
        for (release, version) in [
            ("6.1", (6, 1)),
            ("6.1.0-18-amd64", (6, 1)),
            ("3.12-1-amd64", (3, 12)),
            ("3.12.25-gentoo", (3, 12)),
            ("5.10-rc5", (5, 10)),
            ("6.18+", (6, 18)),
            ("4.300", (4, 300)),
        ] {
            let (version, patchlevel) = version;
            assert_eq!(
                release.parse(),
                Ok(KernelVersion::new(version, patchlevel)),
                "{release}"
            );
        }
        for text in [
            "",
            "6",
            "6.",
            ".1",
            "v6.1",
            "6.x",
            "-6.1",
            "+6.1",
            " 6.1",
            "6 .1",
            "99999999999.1",
        ] {
            assert!(text.parse::<KernelVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn versions_are_compared_by_number() {
        let version = |text: &str| text.parse::<KernelVersion>().unwrap();
        assert!(version("4.8") < version("4.19"));
        assert!(version("4.19") < version("5.0"));
        assert!(version("6.1.0") == version("6.1.99"));
    }

    #[test]
    fn a_condition_is_two_numbers_alone() {
        assert_eq!(
            KernelVersion::from_condition("4.8"),
            Some(KernelVersion::new(4, 8))
        );
        assert_eq!(
            KernelVersion::from_condition("0.1"),
            Some(KernelVersion::new(0, 1))
        );
        for text in [
            "", "4", "4.8.0", "4.8-rc1", "0.0", "4.256", "+4.8", "4.-8", "4. 8", "x.y",
        ] {
            assert_eq!(KernelVersion::from_condition(text), None, "{text}");
        }
    }

    #[test]
    fn capabilities_are_known_by_their_whole_name() {
        assert_eq!(Capability::all().count(), 41);
        assert_eq!("CAP_BPF".parse(), Ok(Capability("CAP_BPF")));
        for text in ["BPF", "cap_bpf", "CAP_", "CAP_BPF ", ""] {
            assert!(text.parse::<Capability>().is_err(), "{text}");
        }
        for capability in Capability::DEFAULT {
            assert_eq!(capability.as_str().parse(), Ok(capability));
        }
    }

    #[test]
    fn every_host_is_called_something_that_arches_may_hold() {
        for host in HostArchitecture::all() {
            assert_eq!(host.to_string().parse(), Ok(host));
            assert!(!host.0.called.is_empty());
            for name in host.0.called {
                assert!(ARCHES.contains(name) && host.is_called(name), "{name}");
                let others = HostArchitecture::all().filter(|other| *other != host);
                assert!(others.into_iter().all(|other| !other.is_called(name)), "{name}");
            }
        }
        assert!("x86_64".parse::<HostArchitecture>().is_err());
    }

    #[test]
    fn this_machine_is_one_of_them() {
        assert!(HostArchitecture::of_this_machine().is_some());
    }
}
