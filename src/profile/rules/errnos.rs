//! Errnos, of entries and by default.

use super::super::finding::{Affected, Code, FieldPath, Software, Version};
use super::super::model::{Action, Errno, Profile};
use super::{Doc, Example, Found, Rule, entries, field};

/// The highest errno that has a name on most architectures: EHWPOISON. Source: errno(3).
const LAST_NAMED: u16 = 133;
/// EDQUOT on MIPS.
const LAST_NAMED_ON_MIPS: u16 = 1133;

/// Every place of an errno, its action and its value.
fn errnos(profile: &Profile) -> impl Iterator<Item = (FieldPath, Action, Errno)> {
    let default = profile
        .default_errno_ret
        .map(|errno| (field("defaultErrnoRet"), profile.default_action, errno));
    let of_entries = entries(profile)
        .filter_map(|(path, entry)| Some((path.key("errnoRet"), entry.action, entry.errno_ret?)));
    default.into_iter().chain(of_entries)
}

pub(super) const MISPLACED: Rule = Rule {
    code: Code::ErrnoMisplaced,
    check: misplaced,
    doc: Doc {
        why: "Under crun no container starts; the others ignore the value.",
        evidence: "The specification lets a runtime fail. crun: \"errno value specified for action\".",
        cure: "Remove the errno, or write SCMP_ACT_ERRNO.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1, "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
        }),
    },
};

fn misplaced(profile: &Profile, found: &mut Found) {
    for (path, action, _) in errnos(profile) {
        if !action.takes_errno() {
            found.add(|| {
                let message = format!(
                    "an errno goes only with SCMP_ACT_ERRNO or SCMP_ACT_TRACE, and the action is {action}: remove it"
                );
                (path, message)
            });
        }
    }
}

pub(super) const ZERO: Rule = Rule {
    code: Code::ErrnoZero,
    check: zero,
    doc: Doc {
        why: "The call is not made and returns 0, which is success: a program goes on as if its file had been \
              written, its user changed or its limit set.",
        evidence: "Seen on runc, crun and youki. runc still answers ENOSYS to calls newer than those in the profile.",
        cure: "Write the errno that is meant: 1 is EPERM, 38 ENOSYS.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 0, "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}]}"#,
        }),
    },
};

fn zero(profile: &Profile, found: &mut Found) {
    for (path, action, errno) in errnos(profile) {
        if action == Action::Errno && errno.get() == 0 {
            let message = "0 is success: the call is not made, and the program believes that it was; write the errno \
                           that is meant, 1 is EPERM and 38 ENOSYS";
            found.add(|| (path, message.to_owned()));
        }
    }
}

pub(super) const UNNAMED: Rule = Rule {
    code: Code::ErrnoUnnamed,
    check: unnamed,
    doc: Doc {
        why: "Programs do not expect it, and some of these numbers have a meaning inside the kernel alone.",
        evidence: "errno(3): the highest errno is 133, on MIPS 1133.",
        cure: "Write the errno that is meant: 1 is EPERM, 38 ENOSYS.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 133}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 512}]}"#,
        }),
    },
};

fn unnamed(profile: &Profile, found: &mut Found) {
    for (path, action, errno) in errnos(profile) {
        let number = errno.get();
        if action == Action::Errno && number > LAST_NAMED && number != LAST_NAMED_ON_MIPS {
            found.add(|| {
                let message = format!("no errno has the number {number}: write the one that is meant");
                (path, message)
            });
        }
    }
}

pub(super) const CRUN_CACHE: Rule = Rule {
    code: Code::CrunErrnoCache,
    check: crun_cache,
    doc: Doc {
        why: "crun keeps compiled filters, and finds them by everything in a profile but the errnoRet of its \
              entries. After a change of an errnoRet alone, containers on such a node get the filter from before.",
        evidence: "crun since 1.7, up to 1.29.1 at least: two profiles that differ in one errnoRet shared a filter.",
        cure: "Nothing now. When you change an errnoRet one day, change the rules as well (split an entry, say), or restart \
               the nodes that have crun. Accept the finding once you know, or if no node has crun.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#,
        }),
    },
};

/// Once for a profile: all its errnos share the fate. One that is misplaced does not: it goes, and that is told.
fn crun_cache(profile: &Profile, found: &mut Found) {
    const CRUN: &[Affected] = &[Affected::since(Software::Crun, Version::new(1, 7, 0))];
    let first = entries(profile).find(|(_, entry)| entry.errno_ret.is_some() && entry.action.takes_errno());
    if let Some((path, _)) = first {
        let message = "for later: crun since 1.7 takes the filter of the version before if nothing but an errnoRet is \
                       changed, so change another part of the profile with it; accept it once you know";
        found.add_for(CRUN, || (path.key("errnoRet"), message.to_owned()));
    }
}
