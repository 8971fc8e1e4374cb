//! `socketcall` and `ipc`, through which 32-bit programs make other calls as well.

use std::cell::LazyCell;
use std::collections::HashSet;

use super::super::finding::Code;
use super::super::model::Profile;
use super::super::syscalls;
use super::arguments::{calls_through, is_call, multiplexer};
use super::{Doc, Example, Found, Rule, allows, denies, effective, entries, listed};

pub(super) const MULTIPLEXED_CALL: Rule = Rule {
    code: Code::MultiplexedCall,
    check: multiplexed_call,
    doc: Doc {
        why: "32-bit programs make such calls through socketcall or ipc as well, with their arguments in memory. \
              libseccomp adds a rule for that way, without the condition on argument 0, which is the number of the \
              call there: an entry with no other condition applies to all of these calls. Conditions on other \
              arguments stay and are asked of the arguments of socketcall or ipc itself, which are other things (of \
              socketcall an address).",
        evidence: "Seen with libseccomp 2.5.4 and X86; architectures with socketcall or ipc are X86, S390, S390X, \
                   MIPS, PPC, M68K and SH. Docker's profile denied socketcall for this reason and allowed it again \
                   (moby commit 7158007).",
        cure: "Leave out the architecture, if no 32-bit programs are to run. Otherwise accept the finding, and know that \
               there the conditions do not ask what they say.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 38}]}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 38}]}]}"#,
        }),
    },
};

fn multiplexed_call(profile: &Profile, found: &mut Found) {
    for (path, entry) in effective(profile).filter(|(_, entry)| !entry.args.is_empty()) {
        let way = |name: &String| {
            let through = syscalls::lookup(multiplexer(name)?)?;
            let on = profile
                .architectures
                .iter()
                .find(|architecture| through.number(**architecture).is_some())?;
            Some((name.clone(), through.name, *on))
        };
        if let Some((name, through, architecture)) = entry.names.iter().find_map(way) {
            found.add(|| {
                let only_first = entry.args.iter().all(|condition| condition.index == 0);
                let what = if only_first {
                    "drops the condition on argument 0, and the entry applies to every such call".to_owned()
                } else {
                    format!(
                        "drops a condition on argument 0, and asks the others of the arguments of {through} itself"
                    )
                };
                let message =
                    format!("programs of {architecture} make {name} through {through} as well: there libseccomp {what}");
                (path.key("args"), message)
            });
        }
    }
}

pub(super) const OPEN_MULTIPLEXER: Rule = Rule {
    code: Code::OpenMultiplexer,
    check: open_multiplexer,
    doc: Doc {
        why: "socketcall makes every call about sockets, and ipc every one of System V: which one, its argument 0 says, and \
              the arguments of that call lie in memory. A 32-bit program that may call socketcall opens sockets, although \
              no entry allows socket.",
        evidence: "socketcall(2), ipc(2); the kernel asks the filter of socketcall alone. Architectures that have them are X86, \
                   S390, S390X, MIPS, PPC, M68K and SH.",
        cure: "Take the name out of the entry: where the calls themselves are allowed, libseccomp allows them through it as \
               well. Or allow all that can be made through it. Or leave out the architecture, if no 32-bit programs are to \
               run.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": [{"names": ["execve", "connect"], "action": "SCMP_ACT_ALLOW"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": [{"names": ["execve", "connect", "socketcall"], "action": "SCMP_ACT_ALLOW"}]}"#,
        }),
    },
};

/// Calls that do what this one does, so that nothing is lost with one of them.
fn kin(name: &str) -> &'static [&'static str] {
    const KIN: [&[&str]; 4] = [
        &["accept", "accept4"],
        &["recv", "recvfrom", "recvmmsg", "recvmsg"],
        &["semop", "semtimedop"],
        &["send", "sendmmsg", "sendmsg", "sendto"],
    ];
    KIN.into_iter()
        .find(|kin| kin.contains(&name))
        .unwrap_or_default()
}

/// Once for each of the two, at its first place, where calls through it are denied when they are made as themselves.
fn open_multiplexer(profile: &Profile, found: &mut Found) {
    if allows(profile.default_action) {
        return;
    }
    // Where they are allowed under a condition, another rule tells.
    let allowed = LazyCell::new(|| -> HashSet<&str> {
        let allowing = profile.syscalls.iter().filter(|entry| !denies(entry.action));
        allowing
            .flat_map(|entry| &entry.names)
            .map(String::as_str)
            .collect()
    });
    for through in ["socketcall", "ipc"] {
        let Some(architecture) = profile.architectures.iter().find(|one| is_call(through, **one)) else {
            continue;
        };
        let place = entries(profile).find_map(|(path, entry)| {
            let index = entry.names.iter().position(|name| name == through)?;
            (allows(entry.action) && entry.args.is_empty()).then(|| path.key("names").index(index))
        });
        let Some(place) = place else {
            continue;
        };
        let does_no_more = |name| kin(name).iter().any(|other| allowed.contains(other));
        let all = calls_through(through).iter().copied();
        let denied: Vec<&str> = all
            .filter(|name| !allowed.contains(name) && !does_no_more(name))
            .collect();
        if !denied.is_empty() {
            found.add(|| {
                let message = format!(
                    "programs of {architecture} can make all calls of its kind through {through}, also those that no entry \
                     allows: {}",
                    listed(&denied)
                );
                (place, message)
            });
        }
    }
}
