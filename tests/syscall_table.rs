//! The table of system calls against the libseccomp at hand.

use callgate::filter::libseccomp_version;
use callgate::profile::syscalls::{self, lookup};
use callgate::profile::{Architecture, Version};
use libseccomp::{ScmpArch, ScmpSyscall};

/// Every number that can be one: x32 has bit 30 in all, the ABIs of MIPS begin at a thousand of their own, and 32-bit
/// Arm has a few far off.
fn numbers(architecture: Architecture) -> impl Iterator<Item = i32> {
    let (begin, far) = match architecture {
        Architecture::X32 => (0x4000_0000, 0..0),
        Architecture::Mips | Architecture::Mipsel => (4000, 0..0),
        Architecture::Mips64 | Architecture::Mipsel64 => (5000, 0..0),
        Architecture::Mips64N32 | Architecture::Mipsel64N32 => (6000, 0..0),
        Architecture::Arm => (0, 983_041..983_047),
        _ => (0, 0..0),
    };
    (begin..begin + 1000).chain(far)
}

/// As libseccomp names it; `None` where this one does not have it.
fn to_libseccomp(architecture: Architecture) -> Option<ScmpArch> {
    architecture.as_str().parse().ok()
}

#[test]
fn whatever_number_libseccomp_has_a_name_for_the_table_has_too() {
    let mut compared = 0;
    for &architecture in Architecture::ALL {
        let Some(arch) = to_libseccomp(architecture) else {
            continue;
        };
        for number in numbers(architecture) {
            let Ok(name) = ScmpSyscall::from(number).get_name_by_arch(arch) else {
                continue;
            };
            let call =
                lookup(&name).unwrap_or_else(|| panic!("{name} is in libseccomp and not in the table"));
            assert_eq!(
                call.number(architecture),
                Some(number.try_into().unwrap()),
                "{name} on {architecture}"
            );
            compared += 1;
        }
    }
    assert!(compared > 5_000, "{compared}");
}

#[test]
fn whatever_number_the_table_has_libseccomp_has_too_if_it_knows_the_name() {
    let mut compared = 0;
    for call in syscalls::all() {
        for architecture in call.architectures() {
            let Some(arch) = to_libseccomp(architecture) else {
                continue;
            };
            let number = i32::try_from(call.number(architecture).unwrap()).unwrap();
            // Unknown names have no number, and calls that this release has not on an architecture a negative one.
            let Ok(known) = ScmpSyscall::from_name_by_arch(call.name, arch) else {
                continue;
            };
            if i32::from(known) >= 0 {
                assert_eq!(i32::from(known), number, "{} on {architecture}", call.name);
                compared += 1;
            }
        }
    }
    assert!(compared > 5_000, "{compared}");
}

/// A distribution may add names to an old release, and does; none takes any away.
#[test]
fn libseccomp_knows_every_name_of_its_release_and_of_those_before() {
    let version: Version = libseccomp_version().parse().unwrap();
    let missing: Vec<_> = syscalls::all()
        .filter(|call| call.is_known_to(version) && ScmpSyscall::from_name(call.name).is_err())
        .map(|call| call.name)
        .collect();
    assert!(
        missing.is_empty(),
        "libseccomp {version} does not know {missing:?}"
    );
}
