//! Architectures, as libseccomp and the kernel name them.

use libseccomp::{ScmpArch, ScmpSyscall};

use crate::profile::{Architecture, Profile, native_of};

/// Which byte of a word comes first in a program and in what it is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteOrder {
    /// The least significant.
    Little,
    /// The most significant.
    Big,
}

impl ByteOrder {
    /// That of this machine.
    pub const HERE: Self = if cfg!(target_endian = "big") {
        Self::Big
    } else {
        Self::Little
    };

    /// That of an architecture.
    #[must_use]
    pub const fn of(architecture: Architecture) -> Self {
        if architecture.is_big_endian() {
            Self::Big
        } else {
            Self::Little
        }
    }

    /// A word as it stands in memory.
    pub(super) const fn bytes(self, word: u32) -> [u8; 4] {
        match self {
            Self::Little => word.to_le_bytes(),
            Self::Big => word.to_be_bytes(),
        }
    }

    /// Whether the upper half of the 64-bit value around this offset of `struct seccomp_data` begins there, not the lower.
    pub(crate) const fn has_upper_half_at(self, offset: u32) -> bool {
        offset.is_multiple_of(8) == matches!(self, Self::Big)
    }
}

const IS_64_BIT: u32 = 0x8000_0000;
const IS_LITTLE_ENDIAN: u32 = 0x4000_0000;
const IS_MIPS_N32: u32 = 0x2000_0000;

/// The `AUDIT_ARCH_*` word that a filter finds in `seccomp_data.arch`. X32 calls carry that of x86-64, and
/// bit 30 in their number.
///
/// Source: `include/uapi/linux/audit.h` and `elf-em.h` of Linux.
#[must_use]
pub const fn audit_token(architecture: Architecture) -> u32 {
    match architecture {
        Architecture::X86 => 0x0003 | IS_LITTLE_ENDIAN,
        Architecture::X86_64 | Architecture::X32 => 0x003e | IS_64_BIT | IS_LITTLE_ENDIAN,
        Architecture::Arm => 0x0028 | IS_LITTLE_ENDIAN,
        Architecture::Aarch64 => 0x00b7 | IS_64_BIT | IS_LITTLE_ENDIAN,
        Architecture::Mips => 0x0008,
        Architecture::Mips64 => 0x0008 | IS_64_BIT,
        Architecture::Mips64N32 => 0x0008 | IS_64_BIT | IS_MIPS_N32,
        Architecture::Mipsel => 0x0008 | IS_LITTLE_ENDIAN,
        Architecture::Mipsel64 => 0x0008 | IS_64_BIT | IS_LITTLE_ENDIAN,
        Architecture::Mipsel64N32 => 0x0008 | IS_64_BIT | IS_LITTLE_ENDIAN | IS_MIPS_N32,
        Architecture::Ppc => 0x0014,
        Architecture::Ppc64 => 0x0015 | IS_64_BIT,
        Architecture::Ppc64Le => 0x0015 | IS_64_BIT | IS_LITTLE_ENDIAN,
        Architecture::S390 => 0x0016,
        Architecture::S390X => 0x0016 | IS_64_BIT,
        Architecture::Parisc => 0x000f,
        Architecture::Parisc64 => 0x000f | IS_64_BIT,
        Architecture::Riscv64 => 0x00f3 | IS_64_BIT | IS_LITTLE_ENDIAN,
        Architecture::Loongarch64 => 0x0102 | IS_64_BIT | IS_LITTLE_ENDIAN,
        Architecture::M68k => 0x0004,
        Architecture::Sh => 0x002a | IS_LITTLE_ENDIAN,
        Architecture::Sheb => 0x002a,
    }
}

/// Set in the number of every X32 call, and in no other (`__X32_SYSCALL_BIT`).
pub const X32_BIT: u32 = 0x4000_0000;

pub(super) const fn to_libseccomp(architecture: Architecture) -> ScmpArch {
    match architecture {
        Architecture::X86 => ScmpArch::X86,
        Architecture::X86_64 => ScmpArch::X8664,
        Architecture::X32 => ScmpArch::X32,
        Architecture::Arm => ScmpArch::Arm,
        Architecture::Aarch64 => ScmpArch::Aarch64,
        Architecture::Mips => ScmpArch::Mips,
        Architecture::Mips64 => ScmpArch::Mips64,
        Architecture::Mips64N32 => ScmpArch::Mips64N32,
        Architecture::Mipsel => ScmpArch::Mipsel,
        Architecture::Mipsel64 => ScmpArch::Mipsel64,
        Architecture::Mipsel64N32 => ScmpArch::Mipsel64N32,
        Architecture::Ppc => ScmpArch::Ppc,
        Architecture::Ppc64 => ScmpArch::Ppc64,
        Architecture::Ppc64Le => ScmpArch::Ppc64Le,
        Architecture::S390 => ScmpArch::S390,
        Architecture::S390X => ScmpArch::S390X,
        Architecture::Parisc => ScmpArch::Parisc,
        Architecture::Parisc64 => ScmpArch::Parisc64,
        Architecture::Riscv64 => ScmpArch::Riscv64,
        Architecture::Loongarch64 => ScmpArch::Loongarch64,
        Architecture::M68k => ScmpArch::M68k,
        Architecture::Sh => ScmpArch::Sh,
        Architecture::Sheb => ScmpArch::Sheb,
    }
}

/// The architecture of this machine's kernel, as libseccomp was built for it. `None` where the specification
/// has no name for it.
#[must_use]
pub fn native() -> Option<Architecture> {
    let native = ScmpArch::native();
    Architecture::ALL
        .iter()
        .copied()
        .find(|&architecture| to_libseccomp(architecture) == native)
}

/// The native architecture of the nodes that a profile is compiled for: this machine's. Where all that it lists is of the
/// other byte order, no filter can hold this machine's as well, and it is that of the nodes which can load it.
#[must_use]
pub fn node_architecture(profile: &Profile) -> Option<Architecture> {
    let native = native()?;
    let listed = &profile.architectures;
    let is_here = |one: &Architecture| ByteOrder::of(*one) == ByteOrder::of(native);
    if listed.iter().any(is_here) {
        return Some(native);
    }
    let first = listed.iter().find(|one| is_known(**one));
    Some(first.map_or(native, |first| native_of(*first)))
}

/// Whether the libseccomp at hand knows this architecture.
pub(super) fn is_known(architecture: Architecture) -> bool {
    // A call that every architecture has.
    ScmpSyscall::from_name_by_arch("read", to_libseccomp(architecture)).is_ok()
}

#[cfg(test)]
mod tests {
    use libseccomp::error::SeccompErrno;
    use libseccomp::{ScmpAction, ScmpFilterContext};

    use super::*;

    #[test]
    fn every_architecture_but_x32_has_a_token_of_its_own() {
        let tokens: std::collections::BTreeSet<u32> = Architecture::ALL
            .iter()
            .map(|&architecture| audit_token(architecture))
            .collect();
        assert_eq!(tokens.len(), Architecture::ALL.len() - 1);
    }

    #[test]
    fn the_token_says_the_byte_order() {
        for &architecture in Architecture::ALL {
            let little = audit_token(architecture) & IS_LITTLE_ENDIAN != 0;
            assert_eq!(little, !architecture.is_big_endian(), "{architecture}");
        }
    }

    #[test]
    fn this_machine_has_an_architecture_of_its_own_byte_order() {
        assert_eq!(native().unwrap().is_big_endian(), cfg!(target_endian = "big"));
    }

    #[test]
    fn the_node_is_this_machine_unless_the_whole_list_is_of_the_other_byte_order() {
        let here = native().unwrap();
        let node = |listed: &[Architecture]| {
            let mut profile = Profile::from_canonical(br#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
            profile.architectures = listed.to_vec();
            node_architecture(&profile).unwrap()
        };
        assert_eq!(node(&[]), here);
        let is_of_here = |one: &Architecture| ByteOrder::of(*one) == ByteOrder::HERE;
        let (same, other): (Vec<_>, Vec<_>) = Architecture::ALL.iter().partition(|one| is_of_here(one));
        let (known, unknown): (Vec<_>, Vec<_>) = other.into_iter().partition(|one| is_known(*one));
        for one in same {
            assert_eq!(node(&[one]), here, "{one}");
            assert_eq!(node(&[known[0], one]), here, "{one} and {}", known[0]);
        }
        for one in &known {
            assert_eq!(node(&[*one]), native_of(*one), "{one}");
        }
        for one in unknown {
            assert_eq!(node(&[one, known[0]]), native_of(known[0]), "{one}");
        }
    }

    #[test]
    fn an_architecture_is_known_that_a_filter_takes_or_refuses_for_its_byte_order_alone() {
        for &architecture in Architecture::ALL {
            let mut context = ScmpFilterContext::new(ScmpAction::Allow).unwrap();
            let answer = context.add_arch(to_libseccomp(architecture)).map(|_| ());
            let order = answer.err().map(|error| error.errno());
            let is_taken = matches!(order, None | Some(Some(SeccompErrno::EDOM)));
            assert_eq!(is_known(architecture), is_taken, "{architecture}: {order:?}");
        }
    }
}
