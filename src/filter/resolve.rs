//! Which calls the entries of a profile are about: names as numbers, on each architecture of its filter.
//!
//! Names are looked up as runtimes do it: a name that libseccomp does not know is left out. What libseccomp then
//! makes of a name on an architecture that has several calls in one (`socketcall(2)`, `ipc(2)`) is part of this:
//! a rule for the call's own number, if it has one, and a *companion* rule for the multiplexer.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use libseccomp::{ScmpArch, ScmpSyscall};

use super::arch::{is_known, node_architecture, to_libseccomp};
use super::compile::{CompileError, feasible};
use crate::profile::{Architecture, Profile, syscalls};

/// What a profile says about the calls of one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchitectureCalls {
    /// Which.
    pub architecture: Architecture,
    /// The entries that name a call, by its number and in the order of the profile.
    pub calls: BTreeMap<u32, Vec<Mention>>,
}

/// An entry that is about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mention {
    /// Its index in `syscalls`.
    pub entry: usize,
    /// The index of the name in `names`.
    pub name: usize,
    /// For a companion rule.
    pub selector: Option<Selector>,
}

/// How a call is made through a multiplexer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Selector {
    /// The multiplexer.
    pub multiplexer: &'static str,
    /// What its argument 0 must be, in place of the entry's own condition on argument 0. The entry's other
    /// conditions stay, and are asked of the multiplexer's arguments.
    pub value: u32,
}

/// The architectures of the filter that [`super::compile()`] makes: the node's, and of those that the profile lists the
/// ones that libseccomp knows, each once.
#[must_use]
pub fn architectures(profile: &Profile) -> Vec<Architecture> {
    let mut architectures: Vec<Architecture> = node_architecture(profile).into_iter().collect();
    for &architecture in &profile.architectures {
        if is_known(architecture) && !architectures.contains(&architecture) {
            architectures.push(architecture);
        }
    }
    architectures
}

/// Looks all names up, on all architectures.
///
/// Also tells of entries that runtimes leave out because they answer what the default does. Refuses what
/// [`super::compile()`] does not try.
pub fn resolve(profile: &Profile) -> Result<Vec<ArchitectureCalls>, CompileError> {
    feasible(profile)?;
    Ok(architectures(profile)
        .into_iter()
        .map(|architecture| resolve_on(profile, architecture))
        .collect())
}

fn resolve_on(profile: &Profile, architecture: Architecture) -> ArchitectureCalls {
    let mut known: HashMap<&str, Vec<Number>> = HashMap::new();
    let mut calls: BTreeMap<u32, Vec<Mention>> = BTreeMap::new();
    for (entry, rule) in profile.syscalls.iter().enumerate() {
        for (name, text) in rule.names.iter().enumerate() {
            for number in known.entry(text).or_insert_with(|| numbers(text, architecture)) {
                calls.entry(number.number).or_default().push(Mention {
                    entry,
                    name,
                    selector: number.selector,
                });
            }
        }
    }
    ArchitectureCalls { architecture, calls }
}

/// A number that a rule is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Number {
    number: u32,
    selector: Option<Selector>,
}

/// None, one, or two for a call that can be made directly and through a multiplexer.
fn numbers(name: &str, architecture: Architecture) -> Vec<Number> {
    let arch = to_libseccomp(architecture);
    let Ok(call) = ScmpSyscall::from_name(name) else {
        return Vec::new();
    };
    // A rule is made for the native number, and translated by its name. Two calls that the native architecture does
    // not have can share a placeholder there; then one of them is lost on the others.
    let Ok(resolved) = call
        .get_name()
        .and_then(|name| ScmpSyscall::from_name_by_arch(&name, arch))
    else {
        return Vec::new();
    };
    let resolved = i32::from(resolved);
    if let Ok(number) = u32::try_from(resolved) {
        return vec![Number {
            number,
            selector: None,
        }];
    }
    let Some(selector) = multiplexed(resolved) else {
        // A call that this architecture does not have.
        return Vec::new();
    };
    let direct = DIRECT
        .get(&architecture)
        .and_then(|names| names.get(name))
        .map(|&number| Number {
            number,
            selector: None,
        });
    let multiplexer = ScmpSyscall::from_name_by_arch_rewrite(name, arch)
        .ok()
        .and_then(|call| u32::try_from(i32::from(call)).ok())
        .map(|number| Number {
            number,
            selector: Some(selector),
        });
    direct.into_iter().chain(multiplexer).collect()
}

/// Which of a multiplexer's calls a pseudo number of libseccomp means: it writes the calls of `socketcall(2)` as
/// -101 to -120 and those of `ipc(2)` as -201 to -224. Source: `abi_syscall_rewrite` in libseccomp's `src/arch.c`.
fn multiplexed(pseudo: i32) -> Option<Selector> {
    let multiplexer = match pseudo {
        -120..=-101 => "socketcall",
        -224..=-201 => "ipc",
        _ => return None,
    };
    Some(Selector {
        multiplexer,
        value: pseudo.unsigned_abs() % 100,
    })
}

/// Architectures with multiplexers, and the numbers of the calls that can be made directly as well. libseccomp
/// has no function that answers this for a name, only one for a number.
static DIRECT: LazyLock<BTreeMap<Architecture, HashMap<String, u32>>> = LazyLock::new(|| {
    let multiplexing = Architecture::ALL.iter().filter(|&&architecture| {
        ScmpSyscall::from_name_by_arch("socket", to_libseccomp(architecture))
            .is_ok_and(|call| multiplexed(call.into()).is_some())
    });
    multiplexing
        .map(|&architecture| (architecture, direct_calls(to_libseccomp(architecture))))
        .collect()
});

/// Where system calls have their numbers; those of MIPS o32 begin at 4000.
const NUMBERS: [std::ops::Range<i32>; 2] = [0..1_000, 4_000..5_000];

fn direct_calls(arch: ScmpArch) -> HashMap<String, u32> {
    let numbers = NUMBERS.into_iter().flatten();
    numbers
        .filter_map(|number| {
            let name = ScmpSyscall::from(number).get_name_by_arch(arch).ok()?;
            let resolved = ScmpSyscall::from_name_by_arch(&name, arch).ok()?;
            multiplexed(resolved.into())?;
            Some((name, number.unsigned_abs()))
        })
        .collect()
}

/// The names that libseccomp knows calls of an architecture by, those with a number of their own.
#[cfg(test)]
pub(crate) fn names(architecture: Architecture) -> std::collections::BTreeSet<String> {
    let base = match architecture {
        Architecture::X32 => 0x4000_0000,
        Architecture::Mips64 | Architecture::Mipsel64 => 5_000,
        Architecture::Mips64N32 | Architecture::Mipsel64N32 => 6_000,
        Architecture::Mips | Architecture::Mipsel => 4_000,
        _ => 0,
    };
    (base..base + 1_000)
        .filter_map(|number| {
            ScmpSyscall::from(number)
                .get_name_by_arch(to_libseccomp(architecture))
                .ok()
        })
        .collect()
}

/// Looks up once what is needed of every profile, so that forked children find it done.
pub fn prepare() {
    LazyLock::force(&DIRECT);
    syscalls::prepare();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers_of(name: &str, architecture: Architecture) -> Vec<(u32, Option<u32>)> {
        numbers(name, architecture)
            .iter()
            .map(|number| (number.number, number.selector.map(|selector| selector.value)))
            .collect()
    }

    #[test]
    fn a_name_has_the_number_of_its_architecture() {
        assert_eq!(numbers_of("read", Architecture::X86_64), [(0, None)]);
        assert_eq!(numbers_of("read", Architecture::X86), [(3, None)]);
        assert_eq!(numbers_of("read", Architecture::X32), [(0x4000_0000, None)]);
        assert_eq!(numbers_of("read", Architecture::Aarch64), [(63, None)]);
        assert_eq!(numbers_of("read", Architecture::Mipsel), [(4003, None)]);
    }

    #[test]
    fn a_multiplexed_call_has_its_own_number_and_the_multiplexer() {
        assert_eq!(numbers_of("socket", Architecture::X86_64), [(41, None)]);
        assert_eq!(
            numbers_of("socket", Architecture::X86),
            [(359, None), (102, Some(1))]
        );
        assert_eq!(
            numbers_of("shmget", Architecture::X86),
            [(395, None), (117, Some(23))]
        );
        assert_eq!(
            numbers_of("socket", Architecture::Mipsel),
            [(4183, None), (4102, Some(1))]
        );
        // Never had a number of its own there.
        assert_eq!(numbers_of("semtimedop", Architecture::X86), [(117, Some(4))]);
        // The multiplexer itself.
        assert_eq!(numbers_of("socketcall", Architecture::X86), [(102, None)]);
    }

    #[test]
    fn libseccomp_multiplexes_the_calls_that_the_rules_warn_of() {
        for call in syscalls::all() {
            // libseccomp can look up what it knows alone.
            if ScmpSyscall::from_name(call.name).is_err() {
                continue;
            }
            let through = numbers(call.name, Architecture::X86)
                .iter()
                .find_map(|number| number.selector)
                .map(|selector| selector.multiplexer);
            assert_eq!(through, crate::profile::multiplexer(call.name), "{}", call.name);
        }
    }

    #[test]
    fn a_name_of_another_architecture_or_of_none_has_no_number() {
        assert_eq!(numbers_of("socketcall", Architecture::X86_64), []);
        assert_eq!(numbers_of("breakpoint", Architecture::X86_64), []);
        assert_eq!(numbers_of("no_such_call", Architecture::X86_64), []);
    }
}
