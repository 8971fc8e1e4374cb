//! System calls that a container engine's own profile keeps from containers.
//!
//! Source: Docker's default profile (<https://github.com/moby/profiles>, seccomp/default.json of 2026), which allows
//! these to containers with a capability such as `CAP_SYS_ADMIN` alone, or to none; the reasons are those of
//! <https://docs.docker.com/engine/security/seccomp/> and of the CVEs named.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::LazyLock;

use foldhash::fast::FixedState;

use super::super::finding::Code;
use super::super::model::Profile;
use super::super::syscalls::{self, COMMON_LIBSECCOMP};
use super::architectures::can_be_made;
use super::{Doc, Example, FieldPath, Found, Rule, allows, denies, entries, field, listed};
use crate::text::count;

/// Calls of one kind.
struct Group {
    names: &'static [&'static str],
    /// What they give to a container, as the end of a sentence.
    risk: &'static str,
}

const GROUPS: [Group; 16] = [
    Group {
        names: &[
            "clone",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "setns",
            "umount",
            "umount2",
            "unshare",
        ],
        risk: "new namespaces and mounts, and with them parts of the kernel that are written for root (CVE-2022-0185, \
               CVE-2022-0492); give clone a condition on its flags",
    },
    Group {
        names: &["chroot", "pivot_root"],
        risk: "another root directory, the first step of many ways out of a container",
    },
    Group {
        names: &["open_by_handle_at"],
        risk: "files of the host by their number, which was a way out of containers",
    },
    Group {
        names: &[
            "delete_module",
            "finit_module",
            "init_module",
            "kexec_file_load",
            "kexec_load",
            "reboot",
        ],
        risk: "code in the host's kernel, another kernel, or a restart of the host",
    },
    Group {
        names: &["kcmp", "pidfd_getfd", "process_madvise"],
        risk: "descriptors and memory of other processes",
    },
    Group {
        names: &["bpf", "perf_event_open"],
        risk: "programs and probes in the kernel (CVE-2020-8835, CVE-2021-3490, CVE-2013-2094)",
    },
    Group {
        names: &["io_uring_enter", "io_uring_register", "io_uring_setup"],
        risk: "a second way to make calls that no filter sees, with many flaws in the past (CVE-2022-29582, \
               CVE-2023-2598)",
    },
    Group {
        names: &["add_key", "keyctl", "request_key"],
        risk: "the kernel's keyrings, which know no containers (CVE-2016-0728)",
    },
    Group {
        names: &["userfaultfd"],
        risk: "page faults that wait for the program, which makes races in the kernel easy to win",
    },
    Group {
        names: &["socket"],
        risk: "sockets of every family, AF_ALG and AF_VSOCK among them, which reach the kernel's cryptography and the \
               host of a virtual machine; give it a condition on the family",
    },
    Group {
        names: &["clock_settime", "clock_settime64", "settimeofday", "stime"],
        risk: "the host's clock",
    },
    Group {
        names: &["ioperm", "iopl"],
        risk: "the ports of the host's devices",
    },
    Group {
        names: &["acct", "quotactl", "quotactl_fd", "swapoff", "swapon"],
        risk: "the host's swap space, quotas and accounting",
    },
    Group {
        names: &["setdomainname", "sethostname", "syslog", "vhangup"],
        risk: "the kernel's log, the host name, or others' terminals",
    },
    Group {
        names: &[
            "fanotify_init",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
        ],
        risk: "what security modules and file monitors see",
    },
    Group {
        names: &[
            "_sysctl",
            "nfsservctl",
            "sysfs",
            "uselib",
            "ustat",
            "vm86",
            "vm86old",
        ],
        risk: "old code that no program needs",
    },
];

pub(super) const RISKY_SYSCALL: Rule = Rule {
    code: Code::RiskySyscall,
    check: risky_syscall,
    doc: Doc {
        why: "The profile denies by default and opens these on purpose, under no condition. Most of them need a \
              capability as well; a user namespace, io_uring, keyrings and userfaultfd do not.",
        evidence: "Docker's default profile allows them to containers with a capability alone, or to none.",
        cure: "Remove the names that the program does not need, and give clone and socket a condition. Accept the finding \
               if the program needs the rest.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["execve", "clone3"], "action": "SCMP_ACT_ALLOW"}, {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 2114060288}]}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["execve", "clone3", "io_uring_setup"], "action": "SCMP_ACT_ALLOW"}]}"#,
        }),
    },
};

/// The group of each call.
static BY_NAME: LazyLock<HashMap<&'static str, usize, FixedState>> = LazyLock::new(|| {
    let groups = GROUPS.iter().enumerate();
    groups
        .flat_map(|(index, group)| group.names.iter().map(move |name| (*name, index)))
        .collect()
});

/// Once for each group, at its first name.
fn risky_syscall(profile: &Profile, found: &mut Found) {
    if !denies(profile.default_action) {
        return;
    }
    let mut opened: [Option<(FieldPath, BTreeSet<&str>)>; GROUPS.len()] = [const { None }; GROUPS.len()];
    for (path, entry) in entries(profile) {
        if !allows(entry.action) || !entry.args.is_empty() {
            continue;
        }
        for (index, name) in entry.names.iter().enumerate() {
            if let Some(group) = BY_NAME.get(name.as_str())
                && can_be_made(profile, name)
            {
                opened[*group]
                    .get_or_insert_with(|| (path.key("names").index(index), BTreeSet::new()))
                    .1
                    .insert(name);
            }
        }
    }
    for (group, opened) in GROUPS.iter().zip(opened) {
        if let Some((path, names)) = opened {
            let names: Vec<_> = names.into_iter().collect();
            found.add(|| (path, format!("{} allowed: {}", listed(&names), group.risk)));
        }
    }
}

pub(super) const RISKY_BY_DEFAULT: Rule = Rule {
    code: Code::RiskyByDefault,
    check: risky_by_default,
    doc: Doc {
        why: "A list of what is denied misses what nobody thought of. The finding counts the calls that RuntimeDefault \
              would deny, and that this profile lets through under every condition; those that only newer versions of \
              libseccomp know, or that no architecture of the profile has, are left out.",
        evidence: "Docker's default profile allows them to containers with a capability alone, or to none.",
        cure: "Deny by default, with defaultErrnoRet 38, and allow what the program needs. Or deny all that is listed \
               here, clone and socket under a condition; docs/examples/web.yaml does so. Or accept the finding, if \
               the profile is to deny a few calls and no more.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [{"names": ["execve", "read"], "action": "SCMP_ACT_ALLOW"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
        }),
    },
};

/// Once for a profile.
fn risky_by_default(profile: &Profile, found: &mut Found) {
    if !allows(profile.default_action) {
        return;
    }
    let other = profile
        .syscalls
        .iter()
        .filter(|entry| !allows(entry.action) || !entry.args.is_empty());
    let looked_at: BTreeSet<&str> = other.flat_map(|entry| &entry.names).map(String::as_str).collect();
    // To name what many a libseccomp does not know would not deny it there.
    let is_common =
        |name: &str| syscalls::lookup(name).is_some_and(|call| call.is_known_to(COMMON_LIBSECCOMP));
    let risky = GROUPS.iter().flat_map(|group| group.names).copied();
    let open: Vec<_> = risky
        .filter(|name| !looked_at.contains(name) && is_common(name) && can_be_made(profile, name))
        .collect();
    if !open.is_empty() {
        found.add(|| {
            let message = format!(
                "{} lets {} through that container engines deny: {}; deny by default, or deny these as well (callgate \
                 check --explain {} lists all), or accept it",
                profile.default_action,
                count(open.len(), "system call"),
                listed(&open),
                Code::RiskyByDefault
            );
            (field("defaultAction"), message)
        });
    }
}

/// All that these rules are about, as a list in Markdown.
pub(super) fn list() -> String {
    let mut text = String::new();
    for group in &GROUPS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "- {}: {}", group.names.join(", "), group.risk);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::syscalls;

    #[test]
    fn the_groups_name_system_calls_each_once() {
        let all: Vec<_> = GROUPS.iter().flat_map(|group| group.names).collect();
        let once: BTreeSet<_> = all.iter().collect();
        assert_eq!(once.len(), all.len());
        for name in all {
            assert!(syscalls::lookup(name).is_some(), "{name}");
        }
    }
}
