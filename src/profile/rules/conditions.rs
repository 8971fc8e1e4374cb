//! Conditions on arguments. What several conditions mean together, across entries, is not seen here.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashSet};

use super::super::finding::{Affected, Code, FieldPath, Software, Version};
use super::super::model::{Architecture, Condition, Operator, Profile};
use super::arguments::{bits_read, cut_to_16_bits, depends_on_request, is_call, is_multiplexed, is_pointer};
use super::{Doc, Entry, Example, Found, Rule, allows, denies, effective};

/// Every condition that a runtime reads, with its path and its entry.
fn conditions(profile: &Profile) -> impl Iterator<Item = (FieldPath, &Entry, &Condition)> {
    effective(profile).flat_map(|(path, entry)| {
        let list = path.key("args");
        let conditions = entry.args.iter().enumerate();
        conditions.map(move |(index, condition)| (list.index(index), entry, condition))
    })
}

pub(super) const REPEATED_ARGUMENT: Rule = Rule {
    code: Code::RepeatedArgument,
    check: repeated_argument,
    doc: Doc {
        why: "A range such as \">= 1 and <= 9\" in one entry matches every value: runtimes make each condition of \
              such an entry a rule of its own, those on other arguments included.",
        evidence: "libseccomp takes one condition on each argument. Seen on runc \
                   (https://github.com/opencontainers/runc/issues/2735), crun and youki.",
        cure: "If OR is meant, write an entry for each condition. Entries are alternatives as well, so two of them are no \
               range. What is in a range can only get the default action: then give what is outside the other one, in \
               an entry for each end. To give another action to what is in it, write an entry for each value with \
               SCMP_CMP_EQ, or for each block of values with SCMP_CMP_MASKED_EQ.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 38}, {"index": 1, "op": "SCMP_CMP_EQ", "value": 5}]}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_GE", "value": 1}, {"index": 0, "op": "SCMP_CMP_LE", "value": 9}]}]}"#,
        }),
    },
};

fn repeated_argument(profile: &Profile, found: &mut Found) {
    for (path, entry) in effective(profile) {
        for (index, condition) in repeated(entry) {
            found.add(|| {
                let message = format!(
                    "a second condition on argument {}: runtimes apply the conditions of such an entry as OR, not AND, \
                     and entries are OR as well; for a range write an entry for each value with SCMP_CMP_EQ, or for \
                     each block with SCMP_CMP_MASKED_EQ; by its two ends only a range can be written that gets the \
                     default action: an entry for what is below it, and one for what is above",
                    condition.index
                );
                (path.key("args").index(index), message)
            });
        }
    }
}

/// The conditions of an entry on arguments that an earlier one is on.
fn repeated(entry: &Entry) -> impl Iterator<Item = (usize, &Condition)> {
    let mut seen = BTreeSet::new();
    let conditions = entry.args.iter().enumerate();
    conditions.filter(move |(_, condition)| !seen.insert(condition.index))
}

pub(super) const BITS_OUTSIDE_MASK: Rule = Rule {
    code: Code::BitsOutsideMask,
    check: bits_outside_mask,
    doc: Doc {
        why: "As written it never holds: what is masked out is 0. libseccomp takes the bits out of valueTwo, and \
              matches calls that are not meant.",
        evidence: "SCMP_CMP_MASKED_EQ is (argument & value) == valueTwo. Seen on runc, crun and youki: mask 2 with 3 \
                   acts as mask 2 with 2, mask 0 with 5 matches every call.",
        cure: "Write a valueTwo whose bits are all in value.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": 3, "valueTwo": 2}]}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": 2, "valueTwo": 3}]}]}"#,
        }),
    },
};

/// What the masked argument must be; an absent valueTwo is 0.
fn datum(condition: &Condition) -> u64 {
    condition.value_two.unwrap_or_default()
}

fn bits_outside_mask(profile: &Profile, found: &mut Found) {
    for (path, _, condition) in conditions(profile) {
        if condition.op == Operator::MaskedEqual && datum(condition) & !condition.value != 0 {
            found.add(|| {
                let (mask, datum) = (condition.value, datum(condition));
                let message = format!(
                    "(argument & {mask:#x}) is never {datum:#x}, and libseccomp compares with {:#x} instead: write that, \
                     or another mask",
                    datum & mask
                );
                (path.key("valueTwo"), message)
            });
        }
    }
}

pub(super) const VALUE_CUT: Rule = Rule {
    code: Code::ValueCut,
    check: value_cut,
    doc: Doc {
        why: "On 32-bit architectures libseccomp compares the lower 32 bits of a value and forgets the others. So the \
              condition matches calls there that it does not mean.",
        evidence: "Seen with libseccomp 2.5.4: personality with the value 0x100000008, and X86 in the list, lets \
                   personality(8) of a 32-bit program through. x32 counts as a 32-bit architecture here.",
        cure: "Write a value below 0x100000000, or leave out the 32-bit architectures.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "op": "SCMP_CMP_EQ", "value": 4294967304}]}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": [{"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "op": "SCMP_CMP_EQ", "value": 4294967304}]}]}"#,
        }),
    },
};

/// A condition that holds for an argument of 32 bits once the values of a condition are cut to 32 bits, and did not
/// before, or the other way round.
fn is_changed_by_cutting(condition: &Condition) -> bool {
    const ALL: u64 = u32::MAX as u64;
    let (value, cut) = (condition.value, condition.value & ALL);
    match condition.op {
        // A mask whose datum has no upper half asks nothing of it.
        Operator::MaskedEqual => datum(condition) > ALL,
        _ if value <= ALL => false,
        Operator::LessOrEqual | Operator::Greater => cut != ALL,
        Operator::Equal | Operator::NotEqual | Operator::Less | Operator::GreaterOrEqual => true,
    }
}

fn value_cut(profile: &Profile, found: &mut Found) {
    // Where an entry answers a call without a condition, libseccomp keeps that one alone.
    let answered = LazyCell::new(|| -> HashSet<&str> {
        let unconditional = effective(profile).filter(|(_, entry)| entry.args.is_empty());
        let names = unconditional.flat_map(|(_, entry)| &entry.names);
        names.map(String::as_str).collect()
    });
    for (path, entry, condition) in conditions(profile) {
        if !is_changed_by_cutting(condition) {
            continue;
        }
        if let Some((name, narrow)) = cut_on(profile, entry, condition, &answered) {
            found.add(|| {
                let (key, value) = match condition.op {
                    Operator::MaskedEqual => ("valueTwo", datum(condition)),
                    _ => ("value", condition.value),
                };
                let message = format!(
                    "{value:#x} has more than 32 bits, and for {name} on {narrow} libseccomp compares with {:#x}: write \
                     a value below 0x100000000, or leave that architecture out",
                    value & u64::from(u32::MAX)
                );
                (path.key(key), message)
            });
        }
    }
}

/// A call of an entry, and an architecture of 32 bits that has it.
fn cut_on<'a>(
    profile: &Profile,
    entry: &'a Entry,
    condition: &Condition,
    answered: &HashSet<&str>,
) -> Option<(&'a str, Architecture)> {
    let narrow = || profile.architectures.iter().filter(|one| one.compares_32_bits());
    let mut names = entry
        .names
        .iter()
        .map(String::as_str)
        .filter(|name| !answered.contains(name));
    names.find_map(|name| {
        let is_cut = |one: &&Architecture| {
            // Argument 0 of a multiplexer is the number of the call.
            is_call(name, **one) || condition.index > 0 && is_multiplexed(name, **one)
        };
        narrow().find(is_cut).map(|one| (name, *one))
    })
}

pub(super) const MASKED_EQ_YOUKI: Rule = Rule {
    code: Code::MaskedEqYouki,
    check: masked_eq_youki,
    doc: Doc {
        why: "youki reads valueTwo as the mask and value as what to compare with. With valueTwo 0, as Docker's default \
              profile has it for clone, the condition holds for every call there.",
        evidence: "Seen on youki 0.7.0: under Docker's default profile clone(CLONE_NEWUSER) succeeds, and fails with \
                   EPERM on runc and crun.",
        cure: "If no node runs youki, accept the finding. Otherwise write value and valueTwo alike (all bits of the mask \
               set), which means the same everywhere, or give such profiles a nodeSelector.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["clone"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 268435456, "valueTwo": 268435456}]}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["clone"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 2114060288, "valueTwo": 268435456}]}]}"#,
        }),
    },
};

fn masked_eq_youki(profile: &Profile, found: &mut Found) {
    const YOUKI: &[Affected] = &[Affected::always(Software::Youki)];
    for (path, _, condition) in conditions(profile) {
        if condition.op == Operator::MaskedEqual && datum(condition) != condition.value {
            found.add_for(YOUKI, || {
                let (mask, datum) = (condition.value, datum(condition));
                let there = if datum == 0 {
                    "and its condition always holds".to_owned()
                } else {
                    format!("and compares (argument & {datum:#x}) with {:#x}", mask & datum)
                };
                let message = format!(
                    "(argument & {mask:#x}) == {datum:#x}: youki swaps the two values, {there}; accept it if no node \
                     runs youki, and otherwise write the two alike"
                );
                (path, message)
            });
        }
    }
}

pub(super) const SEVERAL_ON_OLD_YOUKI: Rule = Rule {
    code: Code::ConditionsOldYouki,
    check: several_on_old_youki,
    doc: Doc {
        why: "youki before 0.7 makes a rule of each condition, so that one of them is enough: an entry that allows, \
              allows more there.",
        evidence: "https://github.com/youki-dev/youki/pull/3489.",
        cure: "Update youki, or write one condition. Accept the finding if no node runs youki before 0.7.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 38}]}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 38}, {"index": 1, "op": "SCMP_CMP_EQ", "value": 5}]}]}"#,
        }),
    },
};

fn several_on_old_youki(profile: &Profile, found: &mut Found) {
    const YOUKI: &[Affected] = &[Affected::before(Software::Youki, Version::new(0, 7, 0))];
    for (path, entry) in effective(profile) {
        if entry.args.len() > 1 && repeated(entry).next().is_none() {
            let message = "all conditions must hold, and for youki before 0.7 any one of them is enough; accept it if no \
                           node runs that";
            found.add_for(YOUKI, || (path.key("args"), message.to_owned()));
        }
    }
}

pub(super) const UNUSED_VALUE_TWO: Rule = Rule {
    code: Code::UnusedValueTwo,
    check: unused_value_two,
    doc: Doc {
        why: "Only SCMP_CMP_MASKED_EQ reads it, so something else may have been meant, such as a range.",
        evidence: "runc, crun and youki ignore it.",
        cure: "Remove valueTwo. If a mask is meant, write SCMP_CMP_MASKED_EQ with the mask in value.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 8, "valueTwo": 0}]}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 8, "valueTwo": 9}]}]}"#,
        }),
    },
};

/// A zero is what Go programs write for an absent value.
fn unused_value_two(profile: &Profile, found: &mut Found) {
    for (path, _, condition) in conditions(profile) {
        if condition.op != Operator::MaskedEqual && datum(condition) != 0 {
            found.add(|| {
                let message = format!(
                    "{} does not read valueTwo: remove it, or write SCMP_CMP_MASKED_EQ",
                    condition.op
                );
                (path.key("valueTwo"), message)
            });
        }
    }
}

pub(super) const POINTER_ARGUMENT: Rule = Rule {
    code: Code::PointerArgument,
    check: pointer_argument,
    doc: Doc {
        why: "The address of a path, a name or a structure differs from call to call, and is the caller's choice. Only \
              whether it is 0 can be told. Argument 2 of ioctl is an address for most requests and a number for others, and \
              says nothing as long as the request is not known.",
        evidence: "seccomp(2): a filter sees the six registers, and cannot follow pointers. Which arguments are addresses, the \
                   kernel's prototypes say; of ioctl, ioctl_tty(2) and others.",
        cure: "Put no condition on it, and for ioctl one on the request, which is argument 1. Paths are for AppArmor, SELinux or Landlock; for clone3 write ENOSYS, so that \
               programs use clone.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["openat"], "action": "SCMP_ACT_LOG", "args": [{"index": 1, "op": "SCMP_CMP_EQ", "value": 0}]}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["openat"], "action": "SCMP_ACT_LOG", "args": [{"index": 1, "op": "SCMP_CMP_EQ", "value": 4096}]}]}"#,
        }),
    },
};

fn pointer_argument(profile: &Profile, found: &mut Found) {
    for (path, entry, condition) in conditions(profile) {
        let argument = condition.index;
        if condition.value == 0 && condition.op != Operator::MaskedEqual {
            continue;
        }
        let request = fixed(entry, 1);
        if let Some(name) = entry.names.iter().find(|name| is_pointer(name, argument)) {
            found.add(|| {
                let message = format!(
                    "argument {argument} of {name} is an address: the condition compares that, never what lies there; \
                     remove it"
                );
                (path, message)
            });
        } else if let Some(name) = entry
            .names
            .iter()
            .find(|name| depends_on_request(name, argument, request))
        {
            found.add(|| {
                let message = match request {
                    Some(request) => format!(
                        "argument {argument} of {name} is an address with the request {request:#x}: the condition \
                         compares that, never what lies there; remove it"
                    ),
                    None => format!(
                        "argument {argument} of {name} is an address or a number, as the request (argument 1) says, and \
                         the entry does not say which request: add a condition on argument 1 with SCMP_CMP_EQ, or \
                         remove this one"
                    ),
                };
                (path, message)
            });
        }
    }
}

/// The 32 bits that an argument must be under the conditions of an entry, if they leave it no choice.
fn fixed(entry: &Entry, argument: u8) -> Option<u64> {
    const ALL: u64 = u32::MAX as u64;
    let mut on_it = entry.args.iter().filter(|condition| condition.index == argument);
    on_it.find_map(|condition| match condition.op {
        Operator::Equal => Some(condition.value & ALL),
        Operator::MaskedEqual if condition.value & ALL == ALL => Some(datum(condition) & ALL),
        _ => None,
    })
}

pub(super) const UPPER_HALF: Rule = Rule {
    code: Code::UpperHalf,
    check: upper_half,
    doc: Doc {
        why: "The kernel reads 32 bits of such an argument, or 16 of a mode and of the user and group IDs of old \
              32-bit calls, and the filter 64 or 32. A program that sets an upper bit is past \
              the condition, and its call means the same as before. This is how CVE-2019-7303 got around a filter \
              against ioctl(TIOCSTI).",
        evidence: "Seen on x86-64, Linux 6.18: socket(0x100000001, …) is a call with another value than 1 for a \
                   filter, and makes a socket of family 1 all the same. So it is with descriptors: write(0x100000001, …) writes to \
                   descriptor 1, and close, dup and readv take theirs alike. Which arguments they are, the kernel's prototypes \
                   say.",
        cure: "In an entry that denies, deny all from a value on with SCMP_CMP_GE or SCMP_CMP_GT, which upper bits cannot \
               get around, or a single value with SCMP_CMP_MASKED_EQ and the mask 0xffffffff in value, 0xffff for a mode or an old ID (youki reads \
               that otherwise, which masked-eq-youki tells). In one that allows, list what is allowed with SCMP_CMP_EQ.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 4294967295, "valueTwo": 38}]}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 38}]}]}"#,
        }),
    },
};

/// Whether upper bits take a call out of what is denied, or into what is allowed.
fn is_passed_by_upper_bits(entry: &Entry, condition: &Condition, read: u64) -> bool {
    match condition.op {
        Operator::Equal | Operator::Less | Operator::LessOrEqual => denies(entry.action),
        Operator::NotEqual | Operator::Greater | Operator::GreaterOrEqual => allows(entry.action),
        // Bits outside the mask are ignored, as the kernel does.
        Operator::MaskedEqual => denies(entry.action) && condition.value > read,
    }
}

fn upper_half(profile: &Profile, found: &mut Found) {
    for (path, entry, condition) in conditions(profile) {
        // Whoever needs no upper bits to be allowed gains nothing by them.
        if allows(entry.action) == allows(profile.default_action) {
            continue;
        }
        let is_passed = |bits: u32| is_passed_by_upper_bits(entry, condition, (1 << bits) - 1);
        let passed = entry.names.iter().find_map(|name| {
            let old = cut_to_16_bits(name, condition.index, &profile.architectures);
            let old = old
                .filter(|_| is_passed(16))
                .map(|old| (16, format!(" on {old}")));
            let all = || bits_read(name, condition.index).filter(|bits| is_passed(*bits));
            let (bits, place) = old.or_else(|| Some((all()?, String::new())))?;
            Some((name, bits, place))
        });
        if let Some((name, bits, place)) = passed {
            found.add(|| {
                let cure = if allows(entry.action) {
                    "list what is allowed with SCMP_CMP_EQ".to_owned()
                } else {
                    format!(
                        "write SCMP_CMP_MASKED_EQ with the mask {:#x}, or SCMP_CMP_GE to deny all from a value on",
                        (1_u64 << bits) - 1
                    )
                };
                let message = format!(
                    "the kernel reads {bits} bits of argument {} of {name}{place}, and the condition compares more: a \
                     caller with other bits above these gets around it; {cure}",
                    condition.index
                );
                (path, message)
            });
        }
    }
}

#[cfg(test)]
mod tests;
