//! Names of system calls, and what is listed twice.

use std::collections::HashSet;
use std::hash::Hash;

use super::super::finding::{Affected, Code, FieldPath, Finding, Software, Version, quoted};
use super::super::model::{Action, Architecture, Errno, Profile};
use super::super::similar::did_you_mean;
use super::super::syscalls::{self, COMMON_LIBSECCOMP};
use super::actions::{allows_nothing, errno_of};
use super::architectures::can_be_made;
use super::arguments::is_made_on;
use super::{Doc, Entry, Example, Found, Rule, allows, denies, effective, entries, field, listed};

pub(super) const UNKNOWN: Rule = Rule {
    code: Code::UnknownSyscall,
    check: unknown,
    doc: Doc {
        why: "A deny list with a typo denies nothing: the call that was meant is still allowed. An allow list with \
              one denies a call that the program needs.",
        evidence: "runc, crun and youki leave a name out that their libseccomp does not know, and start. The table is \
                   that of libseccomp 2.6.1, Linux 7.1. Names are compared exactly: case and blanks count.",
        cure: "Write the name as the manual pages of section 2 do. If it is newer than the table, accept the finding.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["open", "socketcall"], "action": "SCMP_ACT_ERRNO"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["opne"], "action": "SCMP_ACT_ERRNO"}]}"#,
        }),
    },
};

fn unknown(profile: &Profile, found: &mut Found) {
    for (path, entry) in entries(profile) {
        for (index, name) in entry.names.iter().enumerate() {
            if syscalls::lookup(name).is_some() {
                continue;
            }
            found.add(|| {
                let mut message = format!(
                    "{} is no system call, and runtimes ignore it without a word",
                    quoted(name)
                );
                if let Some(question) = did_you_mean(&syscalls::nearest(name)) {
                    message = format!("{message}: {question}");
                }
                (path.key("names").index(index), message)
            });
        }
    }
}

pub(super) const NEWER: Rule = Rule {
    code: Code::NewerSyscall,
    check: newer,
    doc: Doc {
        why: "Where the libseccomp of a runtime does not know the name, the runtime leaves it out without a word, and \
              the call gets the default action.",
        evidence: "The tables of libseccomp 2.5.2 (Red Hat's Linux 8 and 9) to 2.6.1. 2.5.6 has those of 2.6.0, but for three. What a runtime was built with, \
                   `runc --version` and `crun --version` say; distributions sometimes add names to older releases.",
        cure: "Update libseccomp on the nodes that have an older one. Accept the finding if no node has, or if the default \
               action will do there.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount_setattr"], "action": "SCMP_ACT_ERRNO"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mseal"], "action": "SCMP_ACT_ERRNO"}]}"#,
        }),
    },
};

/// A release of libseccomp, and for whom its new names are unknown.
macro_rules! releases {
    ($($major:literal.$minor:literal.$micro:literal)+) => {
        [$((
            Version::new($major, $minor, $micro),
            &[Affected::before(Software::Libseccomp, Version::new($major, $minor, $micro))],
        )),+]
    };
}

/// The releases after [`COMMON_LIBSECCOMP`] that brought names.
pub(super) const RELEASES: [(Version, &[Affected]); 6] =
    releases!(2 . 5 . 3  2 . 5 . 4  2 . 5 . 5  2 . 5 . 6  2 . 6 . 0  2 . 6 . 1);

/// Once for each release, at the first of its names.
fn newer(profile: &Profile, found: &mut Found) {
    let mut seen = HashSet::new();
    let mut newer: Vec<(Version, FieldPath, &str)> = Vec::new();
    for (path, entry) in entries(profile) {
        for (index, name) in entry.names.iter().enumerate() {
            if let Some(call) = syscalls::lookup(name)
                && let Some(since) = call.libseccomp
                && since > COMMON_LIBSECCOMP
                && can_be_made(profile, name)
                && seen.insert(call.name)
            {
                newer.push((since, path.key("names").index(index), call.name));
            }
        }
    }
    for (release, affects) in RELEASES {
        let of_release = || newer.iter().filter(|(since, ..)| *since == release);
        if let Some((_, path, _)) = of_release().next() {
            let names: Vec<_> = of_release().map(|(_, _, name)| *name).collect();
            found.add_for(affects, || {
                let message = format!(
                    "ignored by runtimes built with libseccomp before {release}, so that the call gets the default \
                     action there; accept it if no node has one: {}",
                    listed(&names)
                );
                (path.clone(), message)
            });
        }
    }
}

pub(super) const ABSENT: Rule = Rule {
    code: Code::AbsentSyscalls,
    check: absent,
    doc: Doc {
        why: "The default action allows, and what the entry was to deny is done on these architectures with other calls.",
        evidence: "The kernel's tables of system calls. Runtimes leave such names out, without a word. Told where an \
                   architecture has none of an entry's names: of those that are listed, and of the node's own, by a \
                   proof, where none is.",
        cure: "Name the calls that the architecture has: 64-bit Arm, RISC-V and LoongArch have fchmodat and mknodat in place \
               of chmod and mknod, and openat in place of open. Or list the architecture that is meant. Accept the finding \
               if the entry is for others.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_AARCH64"], "syscalls": [{"names": ["mknod", "mknodat"], "action": "SCMP_ACT_ERRNO"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_AARCH64"], "syscalls": [{"names": ["mknod"], "action": "SCMP_ACT_ERRNO"}]}"#,
        }),
    },
};

fn absent(profile: &Profile, found: &mut Found) {
    if !profile.architectures.is_empty() {
        absent_where(
            profile,
            |name| can_be_made(profile, name),
            "no architecture that is listed has",
            found,
        );
    }
}

/// The same for a profile that lists no architecture, on a machine with this native one.
pub(super) fn absent_from(native: Architecture, profile: &Profile) -> Vec<Finding> {
    let mut found = Found::new(Code::AbsentSyscalls);
    let nowhere = format!("{native}, which is this machine's, has none of");
    absent_where(profile, |name| is_made_on(name, native), &nowhere, &mut found);
    found.finish()
}

/// Of what the default denies anyway nothing is lost, and a name that no call has is another rule's.
fn absent_where(profile: &Profile, is_made: impl Fn(&str) -> bool, nowhere: &str, found: &mut Found) {
    if !allows(profile.default_action) {
        return;
    }
    let is_absent = |name: &String| syscalls::lookup(name).is_some() && !is_made(name);
    for (path, entry) in entries(profile) {
        if !denies(entry.action) || entry.names.is_empty() || !entry.names.iter().all(is_absent) {
            continue;
        }
        found.add(|| {
            let names: Vec<_> = entry.names.iter().map(String::as_str).collect();
            let message = format!(
                "{nowhere} {}: the entry denies nothing; name the calls that do this there, or list the \
                 architecture that is meant",
                listed(&names)
            );
            (path.key("names"), message)
        });
    }
}

pub(super) const REPEATED_VALUE: Rule = Rule {
    code: Code::RepeatedValue,
    check: repeated_value,
    doc: Doc {
        why: "It changes nothing, and another name may have been meant.",
        evidence: "runc, crun and youki take it; the file that is written names each once. The API server refuses \
                   architectures and flags that are listed twice.",
        cure: "Remove one.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount", "umount2"], "action": "SCMP_ACT_ERRNO"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount", "mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
        }),
    },
};

fn repeated_value(profile: &Profile, found: &mut Found) {
    repeated(&field("architectures"), &profile.architectures, found);
    repeated(&field("flags"), &profile.flags, found);
    for (path, entry) in entries(profile) {
        repeated(&path.key("names"), &entry.names, found);
    }
}

fn repeated<T: Hash + Eq + std::fmt::Display>(list: &FieldPath, values: &[T], found: &mut Found) {
    let mut seen = HashSet::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        if !seen.insert(value) {
            found.add(|| {
                let message = format!("{} is listed twice: remove one", quoted(&value.to_string()));
                (list.index(index), message)
            });
        }
    }
}

pub(super) const NO_CLONE3_ANSWER: Rule = Rule {
    code: Code::NoClone3Answer,
    check: no_clone3_answer,
    doc: Doc {
        why: "glibc since 2.34 starts threads with clone3, and falls back to clone only on ENOSYS. With another errno, \
              by default or of an entry, pthread_create fails; with a killing action the program dies.",
        evidence: "runc answers ENOSYS to calls with a number above the highest in the profile (clone3 has 435), so a \
                   profile that names none above works there, and naming one more breaks it. crun and youki give the \
                   default action to all.",
        cure: "With SCMP_ACT_ERRNO by default write defaultErrnoRet 38: what is denied then looks like a call that the \
               kernel does not have. Otherwise give clone3 SCMP_ACT_ERRNO with errnoRet 38, in an entry of its own. (To \
               allow it allows new namespaces: a filter cannot see the flags of clone3.)",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [{"names": ["execve", "mseal"], "action": "SCMP_ACT_ALLOW"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["execve", "mseal"], "action": "SCMP_ACT_ALLOW"}]}"#,
        }),
    },
};

/// ENOSYS.
const NOT_IMPLEMENTED: u16 = 38;
/// Of clone3, on every architecture that has it.
const CLONE3: u32 = 435;

/// Who does not answer ENOSYS to a call newer than all that the profile names. runc before 1.1.15, the last, does so only
/// where its own architecture is listed.
const WITHOUT_STUB: &[Affected] = &[
    Affected::always(Software::Crun),
    Affected::always(Software::Youki),
    Affected::before(Software::Runc, Version::new(1, 1, 15)),
];

/// Whether a call that gets this fails with ENOSYS. Nothing traces a container.
fn is_not_implemented(action: Action, errno: Option<Errno>) -> bool {
    action == Action::Trace || errno_of(action, errno) == Some(NOT_IMPLEMENTED)
}

fn no_clone3_answer(profile: &Profile, found: &mut Found) {
    if allows_nothing(profile) {
        return;
    }
    let about = |entry: &Entry| entry.names.iter().position(|name| name == "clone3");
    let mut denial = None;
    for (path, entry) in effective(profile) {
        let Some(index) = about(entry) else { continue };
        if !denies(entry.action) || is_not_implemented(entry.action, entry.errno_ret) {
            return;
        }
        if entry.args.is_empty() {
            denial.get_or_insert_with(|| (path.key("names").index(index), entry));
        }
    }
    if let Some((place, entry)) = denial {
        found.add(|| {
            let with = match errno_of(entry.action, entry.errno_ret) {
                Some(errno) => format!("errno {errno}"),
                None => entry.action.to_string(),
            };
            let message = format!(
                "clone3 is denied with {with}: programs with glibc 2.34 or newer cannot start threads, they fall back to \
                 clone on ENOSYS alone; give clone3 SCMP_ACT_ERRNO with errnoRet 38"
            );
            (place, message)
        });
    } else if denies(profile.default_action)
        && !is_not_implemented(profile.default_action, profile.default_errno_ret)
    {
        clone3_by_default(profile, found);
    }
}

fn clone3_by_default(profile: &Profile, found: &mut Found) {
    let mut names = profile.syscalls.iter().flat_map(|entry| &entry.names);
    // New calls have one number everywhere, and those of 64-bit Arm are all new above it. What an entry names that
    // runtimes leave out counts for runc as well.
    let is_not_older = |name: &&String| {
        let number = syscalls::lookup(name).and_then(|call| call.number(Architecture::Aarch64));
        number.is_some_and(|number| number >= CLONE3)
    };
    let (affects, on_runc) = match names.find(is_not_older) {
        Some(name) if name == "clone3" => (&[][..], "also on runc, because the profile names it".to_owned()),
        Some(name) => (
            &[][..],
            format!("also on runc, because the profile names {name}, which is newer"),
        ),
        None if profile.architectures.is_empty() => (
            WITHOUT_STUB,
            "but for runc since 1.1.15, which answers ENOSYS as long as the profile names nothing newer"
                .to_owned(),
        ),
        None => (
            &WITHOUT_STUB[..2],
            "but for runc, which answers ENOSYS as long as the profile names nothing newer".to_owned(),
        ),
    };
    let cure = match profile.default_action {
        Action::Errno => "write defaultErrnoRet 38, or give clone3 SCMP_ACT_ERRNO with errnoRet 38",
        _ => "give clone3 SCMP_ACT_ERRNO with errnoRet 38",
    };
    let message = format!(
        "clone3 gets the default action, {on_runc}: programs with glibc 2.34 or newer cannot start threads; {cure}"
    );
    found.add_for(affects, || (field("syscalls"), message));
}
