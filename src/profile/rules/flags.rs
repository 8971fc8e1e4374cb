//! The list of flags.

use super::super::finding::{Affected, Code, FieldPath, Finding, Software, Version};
use super::super::model::{Flag, Profile, ProfileSpec};
use super::architectures::affected;
use super::{Doc, Example, Found, Rule, distinct, field, notifies};

/// Where a flag is listed.
fn place(profile: &Profile, wanted: Flag) -> Option<FieldPath> {
    let index = profile.flags.iter().position(|flag| *flag == wanted)?;
    Some(field("flags").index(index))
}

pub(super) const TSYNC_WITH_NOTIFY: Rule = Rule {
    code: Code::TsyncWithNotify,
    check: tsync_with_notify,
    doc: Doc {
        why: "Under crun no container starts.",
        evidence: "The kernel refuses SECCOMP_FILTER_FLAG_TSYNC beside a listener with EINVAL (seccomp(2)). crun \
                   passes both; runc ignores the flag; youki adds SECCOMP_FILTER_FLAG_TSYNC_ESRCH, which is allowed.",
        cure: "Remove the flag.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/run/agent.sock", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_TSYNC"], "listenerPath": "/run/agent.sock", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#,
        }),
    },
};

fn tsync_with_notify(profile: &Profile, found: &mut Found) {
    if notifies(profile)
        && let Some(place) = place(profile, Flag::Tsync)
    {
        found.add(|| {
            let message = format!(
                "{} does not go with SCMP_ACT_NOTIFY, the kernel refuses the pair: remove it",
                Flag::Tsync
            );
            (place, message)
        });
    }
}

pub(super) const WAIT_KILLABLE_WITHOUT_NOTIFY: Rule = Rule {
    code: Code::WaitKillableWithoutNotify,
    check: wait_killable_without_notify,
    doc: Doc {
        why: "Under runc no container starts. crun loads the filter without any flag, so that the others are lost \
              as well.",
        evidence: "The kernel refuses the flag without a listener with EINVAL (seccomp(2)). youki leaves it out.",
        cure: "Remove the flag, or give an entry SCMP_ACT_NOTIFY.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], "listenerPath": "/run/agent.sock", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
        }),
    },
};

fn wait_killable_without_notify(profile: &Profile, found: &mut Found) {
    if !notifies(profile)
        && let Some(place) = place(profile, Flag::WaitKillableRecv)
    {
        found.add(|| {
            let message = format!(
                "{} goes only with an entry that has SCMP_ACT_NOTIFY, the kernel refuses it alone: remove it",
                Flag::WaitKillableRecv
            );
            (place, message)
        });
    }
}

pub(super) const NEWER: Rule = Rule {
    code: Code::NewerFlag,
    check: newer,
    doc: Doc {
        why: "A runtime that does not know a flag starts no container.",
        evidence: "runc before 1.2: \"seccomp flags are not yet supported by runc\". \
                   SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs runc 1.5, libseccomp 2.6 and Linux 5.19.",
        cure: "Remove the flag, or update the runtimes. Accept the finding if no node has one of those that are named.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
        }),
    },
};

fn newer(profile: &Profile, found: &mut Found) {
    const ANY: &[Affected] = &[Affected::before(Software::Runc, Version::new(1, 2, 0))];
    const WAIT_KILLABLE_RECV: &[Affected] = &[
        Affected::before(Software::Runc, Version::new(1, 5, 0)),
        Affected::before(Software::Libseccomp, Version::new(2, 6, 0)),
        Affected::before(Software::Linux, Version::new(5, 19, 0)),
    ];
    for (index, flag) in distinct(&profile.flags) {
        let affects = match flag {
            Flag::Tsync | Flag::Log | Flag::SpecAllow => ANY,
            Flag::WaitKillableRecv => WAIT_KILLABLE_RECV,
        };
        found.add_for(affects, || {
            let message = format!(
                "{flag} is not known to {}, and no container starts there: remove it, or accept it if no node has \
                 these",
                affected(affects)
            );
            (field("flags").index(index), message)
        });
    }
}

pub(super) const TSYNC_USELESS: Rule = Rule {
    code: Code::TsyncUseless,
    check: tsync_useless,
    doc: Doc {
        why: "A runtime loads the filter into a process that is about to become the container's first, and has no \
              other threads that the program would inherit.",
        evidence: "runc ignores the flag; crun and youki pass it to the kernel.",
        cure: "Remove the flag.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_TSYNC"], "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
        }),
    },
};

/// Beside a listener it is worse than useless, and another rule's.
fn tsync_useless(profile: &Profile, found: &mut Found) {
    if !notifies(profile)
        && let Some(place) = place(profile, Flag::Tsync)
    {
        found.add(|| {
            let message = format!("{} does nothing in a container: remove it", Flag::Tsync);
            (place, message)
        });
    }
}

pub(super) const SPEC_ALLOW: Rule = Rule {
    code: Code::SpecAllow,
    check: spec_allow,
    doc: Doc {
        why: "The kernel leaves Speculative Store Bypass on for the container, so that it can be attacked by \
              Spectre variant 4 from within. Without any flag runc since 1.2 and crun do the same of their own accord.",
        evidence: "seccomp(2), SECCOMP_FILTER_FLAG_SPEC_ALLOW.",
        cure: "Remove the flag, and name another, such as SECCOMP_FILTER_FLAG_LOG, to have the protection on all \
               runtimes.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"], "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
        }),
    },
};

fn spec_allow(profile: &Profile, found: &mut Found) {
    if let Some(place) = place(profile, Flag::SpecAllow) {
        found.add(|| {
            let message = format!(
                "{} takes the protection against Speculative Store Bypass from the container: remove it, unless its \
                 speed is needed",
                Flag::SpecAllow
            );
            (place, message)
        });
    }
}

/// Of a list that is written and empty. Told beside the rules, because a profile is the same with and without it.
pub(super) fn empty(spec: &ProfileSpec) -> Option<Finding> {
    const WHO: &[Affected] = &[
        Affected::since(Software::Runc, Version::new(1, 2, 0)),
        Affected::always(Software::Crun),
    ];
    spec.has_empty_flags.then(|| {
        let message = format!(
            "an empty list is not handed on, and without flags {} set {} of their own accord: remove it, or name a flag \
             such as {} if none of that is to happen",
            affected(WHO),
            Flag::SpecAllow,
            Flag::Log
        );
        Finding::new(Code::EmptyFlags, field("flags"), message).affecting(WHO)
    })
}
