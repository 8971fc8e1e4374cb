//! The list of architectures.

use super::super::finding::{Affected, Code, Finding, Software, Version};
use super::super::model::{Architecture, Profile, ProfileSpec};
use super::arguments::is_made_on;
use super::{Doc, Example, Found, Rule, allows, distinct, field};

pub(super) const MIXED_ENDIANNESS: Rule = Rule {
    code: Code::MixedEndianness,
    check: mixed_endianness,
    doc: Doc {
        why: "No container starts: one filter holds architectures of one byte order, and libseccomp adds that of the node.",
        evidence: "libseccomp answers EDOM (seccomp_arch_add(3)), and runc, crun and youki fail with it. So it does on every node \
                   that nodeSelector names where those are of the other byte order than the list.",
        cure: "Write one profile for each byte order, and use nodeSelector.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_S390X"], "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
        }),
    },
};

/// The first of each byte order, big and little, where there are both.
fn both_orders(listed: &[Architecture]) -> Option<(Architecture, Architecture)> {
    let of_order = |big| {
        listed
            .iter()
            .copied()
            .find(|architecture| architecture.is_big_endian() == big)
    };
    Some((of_order(true)?, of_order(false)?))
}

fn mixed_endianness(profile: &Profile, found: &mut Found) {
    if let Some((big, little)) = both_orders(&profile.architectures) {
        found.add(|| {
            let message = format!(
                "{big} is big-endian and {little} little-endian, and one filter cannot hold both: write a profile \
                 for each"
            );
            (field("architectures"), message)
        });
    }
}

pub(super) const NEWER: Rule = Rule {
    code: Code::NewerArchitecture,
    check: newer,
    doc: Doc {
        why: "A runtime that does not know a name in the list starts no container, on whatever node.",
        evidence: "runc knows RISCV64 since 1.2 and LOONGARCH64 since 1.5, and PARISC, PARISC64, M68K, SH and SHEB \
                   not at all. libseccomp has LOONGARCH64, M68K, SH and SHEB since 2.6; runtimes built with an older one \
                   fail, and a proof with an older one leaves them out and says so. Where it knows no architecture of \
                   the list, nothing is proven, and the profile is neither valid nor invalid there.",
        cure: "Leave the architecture out, or update the runtimes. Accept the finding if no node has one of those that are \
               named.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_AARCH64"], "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_RISCV64"], "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
        }),
    },
};

/// Those that libseccomp has since 2.6 are unknown to what is older.
const LIBSECCOMP: Affected = Affected::before(Software::Libseccomp, Version::new(2, 6, 0));

/// An architecture that the libseccomp of a proof does not know, so that the proof left it out; the field path is
/// relative to the profile.
#[must_use]
pub fn unproven_architecture(index: usize, architecture: Architecture, libseccomp: &str) -> Finding {
    const OLD: &[Affected] = &[LIBSECCOMP];
    let message = format!(
        "libseccomp {libseccomp}, with which this was proven, does not know {architecture}: runtimes built with it start \
         no container, and what the profile means on that architecture was not proven; accept it if no node has one"
    );
    Finding::new(
        Code::NewerArchitecture,
        field("architectures").index(index),
        message,
    )
    .affecting(OLD)
}

fn newer(profile: &Profile, found: &mut Found) {
    const RISCV64: &[Affected] = &[Affected::before(Software::Runc, Version::new(1, 2, 0))];
    const LOONGARCH64: &[Affected] = &[
        Affected::before(Software::Runc, Version::new(1, 5, 0)),
        LIBSECCOMP,
    ];
    const PARISC: &[Affected] = &[Affected::always(Software::Runc)];
    const OTHERS: &[Affected] = &[Affected::always(Software::Runc), LIBSECCOMP];
    for (index, architecture) in distinct(&profile.architectures) {
        let affects = match architecture {
            Architecture::Riscv64 => RISCV64,
            Architecture::Loongarch64 => LOONGARCH64,
            Architecture::Parisc | Architecture::Parisc64 => PARISC,
            Architecture::M68k | Architecture::Sh | Architecture::Sheb => OTHERS,
            _ => continue,
        };
        found.add_for(affects, || {
            let message = format!(
                "{architecture} is not known to {}, and no container starts there: leave it out, or accept it if \
                 no node has these",
                affected(affects)
            );
            (field("architectures").index(index), message)
        });
    }
}

/// ` and `-joined, for messages.
pub(super) fn affected(affects: &[Affected]) -> String {
    let names: Vec<_> = affects.iter().map(ToString::to_string).collect();
    names.join(" and ")
}

pub(super) const NATIVE_ONLY: Rule = Rule {
    code: Code::NativeOnly,
    check: native_only,
    doc: Doc {
        why: "A filter answers calls of an architecture that it does not hold by killing the thread, whatever the \
              default action: 32-bit programs die with SIGSYS.",
        evidence: "libseccomp's action for foreign architectures is KILL, and no runtime lets a profile change it.",
        cure: "List the 64-bit architecture alone, to say that this is meant. If 32-bit programs are to run, list theirs as \
               well: SCMP_ARCH_X86_64, SCMP_ARCH_X86 and SCMP_ARCH_X32, or SCMP_ARCH_AARCH64 and SCMP_ARCH_ARM.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
        }),
    },
};

fn native_only(profile: &Profile, found: &mut Found) {
    if allows(profile.default_action) && profile.architectures.is_empty() {
        let message = "no architecture is listed, so only 64-bit programs run: 32-bit ones are killed, although the \
                       default action allows; list under architectures the 64-bit one if that is meant, and the \
                       32-bit ones as well if not";
        // Where the list is missing, the place of the promise that is not kept.
        found.add(|| (field("defaultAction"), message.to_owned()));
    }
}

/// A 64-bit architecture, and those whose programs its kernels run as well.
const FAMILIES: [&[Architecture]; 12] = [
    &[Architecture::X86_64, Architecture::X86, Architecture::X32],
    &[Architecture::Aarch64, Architecture::Arm],
    &[Architecture::Mips64, Architecture::Mips, Architecture::Mips64N32],
    &[
        Architecture::Mipsel64,
        Architecture::Mipsel,
        Architecture::Mipsel64N32,
    ],
    &[Architecture::Ppc64, Architecture::Ppc],
    &[Architecture::Ppc64Le],
    &[Architecture::S390X, Architecture::S390],
    &[Architecture::Parisc64, Architecture::Parisc],
    &[Architecture::Riscv64],
    &[Architecture::Loongarch64],
    &[Architecture::M68k],
    &[Architecture::Sh, Architecture::Sheb],
];

/// Whether the kernels of one machine run programs of both.
pub(super) fn are_related(one: Architecture, other: Architecture) -> bool {
    FAMILIES
        .iter()
        .any(|family| family.contains(&one) && family.contains(&other))
}

/// The native architecture of the nodes that run programs of this one: the 64-bit one, where there is one.
#[must_use]
pub fn native_of(architecture: Architecture) -> Architecture {
    FAMILIES
        .iter()
        .find(|family| family.contains(&architecture))
        .and_then(|family| family.first().copied())
        .filter(|first| first.is_big_endian() == architecture.is_big_endian())
        .unwrap_or(architecture)
}

/// Whether a node with this native architecture runs programs of another.
pub(super) fn runs(native: Architecture, other: Architecture) -> bool {
    native == other
        || FAMILIES
            .iter()
            .any(|family| family.first() == Some(&native) && family.contains(&other))
}

/// Whether a filter of the profile can meet a call of this name: some architecture in it has the call. libseccomp adds that
/// of the node, which is the 64-bit one of a family that is listed, or any where none is.
pub(super) fn can_be_made(profile: &Profile, name: &str) -> bool {
    let listed = &profile.architectures;
    let families = || {
        FAMILIES
            .iter()
            .filter(|family| family.iter().any(|one| listed.contains(one)))
    };
    let natives = families().filter_map(|family| family.first());
    listed.is_empty() || listed.iter().chain(natives).any(|one| is_made_on(name, *one))
}

pub(super) const NATIVE_NOT_LISTED: Rule = Rule {
    code: Code::NativeNotListed,
    check: native_not_listed,
    doc: Doc {
        why: "libseccomp always adds the architecture of the node, so leaving it out denies nothing. And runc before \
              1.1.15 then answers new system calls with the default action instead of ENOSYS. If the node runs no \
              program of any that is listed, they are never used.",
        evidence: "seccomp_init(3); runc commit ccc500c42. That nothing in the list is for the machine at hand, a proof \
                   tells, unless nodeSelector names another kubernetes.io/arch.",
        cure: "List it. If the profile is for other nodes, give it to them alone, with nodeSelector.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": [{"names": ["execve", "clone3"], "action": "SCMP_ACT_ALLOW"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"], "syscalls": [{"names": ["execve", "clone3"], "action": "SCMP_ACT_ALLOW"}]}"#,
        }),
    },
};

/// 32-bit Arm, MIPS and PowerPC can be a node's own architecture, so they are left alone.
fn native_not_listed(profile: &Profile, found: &mut Found) {
    let listed = &profile.architectures;
    for (index, architecture) in distinct(listed) {
        let native = match architecture {
            Architecture::X86 | Architecture::X32 => Architecture::X86_64,
            Architecture::S390 => Architecture::S390X,
            _ => continue,
        };
        if !listed.contains(&native) {
            found.add(|| {
                let message = format!(
                    "{architecture} is listed and {native} is not: on a 64-bit node it is in the filter all the same; \
                     list it"
                );
                (field("architectures").index(index), message)
            });
        }
    }
}

/// The `kubernetes.io/arch` of the nodes that get it, where the author says.
pub(super) fn selected(spec: &ProfileSpec) -> Option<&str> {
    spec.node_selector.get("kubernetes.io/arch").map(String::as_str)
}

pub(super) const FOREIGN: Rule = Rule {
    code: Code::ForeignArchitecture,
    check: foreign,
    doc: Doc {
        why: "No program of another processor family runs on a node, so its part of the filter is never used; it \
              counts towards the kernel's limit of 4,096 instructions all the same.",
        evidence: "Architectures of one byte order load together on runc, crun and youki.",
        cure: "One profile for each kind of node, with nodeSelector. If the profile is small and its nodes are of several \
               kinds, accept the finding.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"], "syscalls": [{"names": ["execve", "clone3"], "action": "SCMP_ACT_ALLOW"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"], "syscalls": [{"names": ["execve", "clone3"], "action": "SCMP_ACT_ALLOW"}]}"#,
        }),
    },
};

/// Once for a profile, at the first architecture of a second family. Two byte orders are worse, and told alone.
fn foreign(profile: &Profile, found: &mut Found) {
    let first = profile.architectures.first();
    let Some(first) = first.filter(|_| both_orders(&profile.architectures).is_none()) else {
        return;
    };
    let other = profile
        .architectures
        .iter()
        .enumerate()
        .find(|(_, other)| !are_related(**other, *first));
    if let Some((index, other)) = other {
        found.add(|| {
            let message = format!(
                "{other} is of another processor family than {first}: on every node one of them is never used, and \
                 makes the filter larger; split the profile, or accept it if it is to be one for all nodes"
            );
            (field("architectures").index(index), message)
        });
    }
}
