//! The OCI runtime-spec's `linux.seccomp` object as Rust types that cannot hold a value out of range.
//!
//! Source: <https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config-linux.md#seccomp>.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A text that is no name of the enum it was read into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not one of {}", known.join(", "))]
pub struct UnknownName {
    /// The text as given.
    pub value: String,
    /// Every name that would do.
    pub known: Vec<&'static str>,
}

/// Declares an enum of the specification: its variants, their names there, and the way between the two.
macro_rules! named {
    ($(#[$meta:meta])* $enum:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $enum { $($(#[$doc])* $variant,)+ }

        impl $enum {
            /// Every variant, in the order of the specification.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in the specification.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl FromStr for $enum {
            type Err = UnknownName;

            fn from_str(value: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().copied().find(|variant| variant.as_str() == value).ok_or_else(|| UnknownName {
                    value: value.to_owned(),
                    known: Self::ALL.iter().map(|variant| variant.as_str()).collect(),
                })
            }
        }

        impl fmt::Display for $enum {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named! {
    /// What happens to a system call.
    Action {
        /// Kills the thread; the old name of [`Action::KillThread`].
        Kill = "SCMP_ACT_KILL",
        /// Kills the whole process.
        KillProcess = "SCMP_ACT_KILL_PROCESS",
        /// Kills the thread.
        KillThread = "SCMP_ACT_KILL_THREAD",
        /// Sends SIGSYS.
        Trap = "SCMP_ACT_TRAP",
        /// The call fails with an errno.
        Errno = "SCMP_ACT_ERRNO",
        /// Asks a tracer; without one the call fails with ENOSYS.
        Trace = "SCMP_ACT_TRACE",
        /// The call is made.
        Allow = "SCMP_ACT_ALLOW",
        /// The call is made and logged.
        Log = "SCMP_ACT_LOG",
        /// Asks the listener behind the notification descriptor.
        Notify = "SCMP_ACT_NOTIFY",
    }
}

impl Action {
    /// Whether the action carries an errno (or, for a tracer, a datum): the only ones that `errnoRet` and
    /// `defaultErrnoRet` go with.
    #[must_use]
    pub const fn takes_errno(self) -> bool {
        matches!(self, Self::Errno | Self::Trace)
    }
}

named! {
    /// A system call ABI, by the name that the specification gives it.
    Architecture {
        /// i386.
        X86 = "SCMP_ARCH_X86",
        /// x86-64.
        X86_64 = "SCMP_ARCH_X86_64",
        /// x86-64 with 32-bit pointers.
        X32 = "SCMP_ARCH_X32",
        /// 32-bit Arm, EABI.
        Arm = "SCMP_ARCH_ARM",
        /// 64-bit Arm.
        Aarch64 = "SCMP_ARCH_AARCH64",
        /// MIPS o32, big-endian.
        Mips = "SCMP_ARCH_MIPS",
        /// MIPS n64, big-endian.
        Mips64 = "SCMP_ARCH_MIPS64",
        /// MIPS n32, big-endian.
        Mips64N32 = "SCMP_ARCH_MIPS64N32",
        /// MIPS o32, little-endian.
        Mipsel = "SCMP_ARCH_MIPSEL",
        /// MIPS n64, little-endian.
        Mipsel64 = "SCMP_ARCH_MIPSEL64",
        /// MIPS n32, little-endian.
        Mipsel64N32 = "SCMP_ARCH_MIPSEL64N32",
        /// 32-bit PowerPC.
        Ppc = "SCMP_ARCH_PPC",
        /// 64-bit PowerPC, big-endian.
        Ppc64 = "SCMP_ARCH_PPC64",
        /// 64-bit PowerPC, little-endian.
        Ppc64Le = "SCMP_ARCH_PPC64LE",
        /// 31-bit z/Architecture.
        S390 = "SCMP_ARCH_S390",
        /// 64-bit z/Architecture.
        S390X = "SCMP_ARCH_S390X",
        /// 32-bit PA-RISC.
        Parisc = "SCMP_ARCH_PARISC",
        /// 64-bit PA-RISC.
        Parisc64 = "SCMP_ARCH_PARISC64",
        /// 64-bit RISC-V.
        Riscv64 = "SCMP_ARCH_RISCV64",
        /// 64-bit `LoongArch`.
        Loongarch64 = "SCMP_ARCH_LOONGARCH64",
        /// Motorola 68000.
        M68k = "SCMP_ARCH_M68K",
        /// `SuperH`, little-endian.
        Sh = "SCMP_ARCH_SH",
        /// `SuperH`, big-endian.
        Sheb = "SCMP_ARCH_SHEB",
    }
}

impl Architecture {
    /// Whether its most significant byte comes first. One filter cannot hold both kinds.
    #[must_use]
    pub const fn is_big_endian(self) -> bool {
        matches!(
            self,
            Self::Mips
                | Self::Mips64
                | Self::Mips64N32
                | Self::Ppc
                | Self::Ppc64
                | Self::S390
                | Self::S390X
                | Self::Parisc
                | Self::Parisc64
                | Self::M68k
                | Self::Sheb
        )
    }

    /// What the label `kubernetes.io/arch` of a node says whose kernel has this native architecture; `None` where
    /// Kubernetes is not built for it.
    #[must_use]
    pub const fn node_label(self) -> Option<&'static str> {
        match self {
            Self::X86 => Some("386"),
            Self::X86_64 => Some("amd64"),
            Self::Arm => Some("arm"),
            Self::Aarch64 => Some("arm64"),
            Self::Loongarch64 => Some("loong64"),
            Self::Ppc64Le => Some("ppc64le"),
            Self::Riscv64 => Some("riscv64"),
            Self::S390X => Some("s390x"),
            _ => None,
        }
    }

    /// Whether libseccomp compares the lower 32 bits of arguments alone. They have no others, but for X32 and MIPS
    /// n32, whose registers have 64 bits.
    ///
    /// Source: `.size` in the `arch_def` of each architecture in libseccomp's `src/arch-*.c`.
    #[must_use]
    pub const fn compares_32_bits(self) -> bool {
        match self {
            Self::X86
            | Self::X32
            | Self::Arm
            | Self::Mips
            | Self::Mips64N32
            | Self::Mipsel
            | Self::Mipsel64N32
            | Self::Ppc
            | Self::S390
            | Self::Parisc
            | Self::M68k
            | Self::Sh
            | Self::Sheb => true,
            Self::X86_64
            | Self::Aarch64
            | Self::Mips64
            | Self::Mipsel64
            | Self::Ppc64
            | Self::Ppc64Le
            | Self::S390X
            | Self::Parisc64
            | Self::Riscv64
            | Self::Loongarch64 => false,
        }
    }
}

named! {
    /// A flag of seccomp(2).
    Flag {
        /// Every thread of the process gets the filter.
        Tsync = "SECCOMP_FILTER_FLAG_TSYNC",
        /// What is not allowed is logged.
        Log = "SECCOMP_FILTER_FLAG_LOG",
        /// Speculative Store Bypass stays on.
        SpecAllow = "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        /// A call that waits for its listener can only be killed.
        WaitKillableRecv = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    }
}

named! {
    /// How an argument is compared.
    Operator {
        /// Not equal.
        NotEqual = "SCMP_CMP_NE",
        /// Less than.
        Less = "SCMP_CMP_LT",
        /// Less than or equal.
        LessOrEqual = "SCMP_CMP_LE",
        /// Equal.
        Equal = "SCMP_CMP_EQ",
        /// Greater than or equal.
        GreaterOrEqual = "SCMP_CMP_GE",
        /// Greater than.
        Greater = "SCMP_CMP_GT",
        /// `(argument & value) == valueTwo`.
        MaskedEqual = "SCMP_CMP_MASKED_EQ",
    }
}

/// An errno, or the datum of [`Action::Trace`], from 0 to [`Errno::MAX`].
///
/// libseccomp takes no more (`seccomp_rule_add(3)`: the kernel's `MAX_ERRNO` is 4095, exclusive there).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(u16);

impl Errno {
    /// The highest value.
    pub const MAX: u16 = 4094;

    /// `None` above [`Errno::MAX`].
    #[must_use]
    pub const fn new(value: u16) -> Option<Self> {
        if value <= Self::MAX {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// One comparison of one argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// What it is compared with; for [`Operator::MaskedEqual`] the mask.
    pub value: u64,
    /// For [`Operator::MaskedEqual`] what the masked argument must be; no other operator reads it.
    pub value_two: Option<u64>,
    /// How.
    pub op: Operator,
}

/// One entry of `syscalls`: these calls, under all of these conditions, get this action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Names of system calls, at least one.
    pub names: Vec<String>,
    /// What they get.
    pub action: Action,
    /// With which errno; `None` is the runtime's own choice, EPERM.
    pub errno_ret: Option<Errno>,
    /// All must hold, each on another argument; none holds always.
    pub args: Vec<Condition>,
}

/// A seccomp profile, as the specification defines it.
///
/// An empty list and an absent one are the same here: container managers in Kubernetes drop empty lists
/// before a runtime sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// What a call gets that no rule names.
    pub default_action: Action,
    /// With which errno.
    pub default_errno_ret: Option<Errno>,
    /// System call ABIs beside the native one.
    pub architectures: Vec<Architecture>,
    /// Flags for seccomp(2).
    pub flags: Vec<Flag>,
    /// The socket of the agent that answers [`Action::Notify`].
    pub listener_path: Option<String>,
    /// What that agent is told beside the descriptor.
    pub listener_metadata: Option<String>,
    /// The rules.
    pub syscalls: Vec<Rule>,
}

/// What a `SeccompProfile` object specifies: a profile, and what is to be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileSpec {
    /// The profile.
    pub profile: Profile,
    /// Labels that a node must carry to get it; none is every node.
    pub node_selector: BTreeMap<String, String>,
    /// Codes of rule findings that the author takes responsibility for.
    pub accept_findings: Vec<String>,
    /// Whether `flags` is written, as an empty list; in the file there is none.
    pub has_empty_flags: bool,
}

/// The sha256 of a profile's canonical bytes, which are the bytes of its file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    /// `sha256:` and 64 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: [char; 16] = [
            '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
        ];
        // The record of a directory is many of them, and is written with every file.
        let digit = |half: u8| DIGITS[usize::from(half)];
        let mut text = String::with_capacity(2 * self.0.len());
        text.extend(
            self.0
                .iter()
                .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]),
        );
        f.write_str("sha256:")?;
        f.write_str(&text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a digest: expected \"sha256:\" and 64 lower-case hexadecimal digits")]
pub struct InvalidDigest(String);

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest(text.to_owned());
        let hex = text.strip_prefix("sha256:").ok_or_else(invalid)?.as_bytes();
        let nibble = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut digest = [0; 32];
        if hex.len() != 2 * digest.len() {
            return Err(invalid());
        }
        for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = (nibble(pair[0]).ok_or_else(invalid)? << 4) | nibble(pair[1]).ok_or_else(invalid)?;
        }
        Ok(Self(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_exactly() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(*action));
        }
        for text in ["", "scmp_act_allow", "SCMP_ACT_ALLOW ", "ALLOW"] {
            let error = text.parse::<Action>().unwrap_err();
            assert_eq!((error.value.as_str(), error.known.len()), (text, 9));
        }
    }

    #[test]
    fn the_specification_has_23_architectures_and_native_is_none() {
        assert_eq!(Architecture::ALL.len(), 23);
        assert!("SCMP_ARCH_NATIVE".parse::<Architecture>().is_err());
    }

    #[test]
    fn an_errno_ends_where_libseccomp_does() {
        assert_eq!(Errno::new(4094).map(Errno::get), Some(4094));
        assert_eq!(Errno::new(4095), None);
        assert_eq!(Errno::new(u16::MAX), None);
    }

    #[test]
    fn a_digest_comes_back_from_its_text() {
        let digest = Digest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
    }

    #[test]
    fn what_is_not_exactly_a_digest_is_refused() {
        let good = Digest::of(b"").to_string();
        let upper = good.to_uppercase().replace("SHA", "sha");
        let long = format!("{good}0");
        let short = &good[..good.len() - 1];
        let foreign = good.replace("e3b0c442", "é3b0c44");
        for text in [
            "",
            "sha256:",
            &good[7..],
            &upper,
            &long,
            short,
            &foreign,
            &good.replace("256", "512"),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
