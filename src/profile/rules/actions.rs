//! Actions, of entries and by default.

use super::super::finding::Code;
use super::super::model::{Action, Profile};
use super::super::syscalls;
use super::{DEFAULT_ERRNO, Doc, Entry, Example, Found, Rule, denies, entries, field};
use crate::profile::model::Errno;

pub(super) const NOTIFY_BY_DEFAULT: Rule = Rule {
    code: Code::NotifyByDefault,
    check: notify_by_default,
    doc: Doc {
        why: "The runtime itself would wait for a listener before the container has one.",
        evidence: "runc, youki and libseccomp refuse it; crun does not, and hangs.",
        cure: "Give SCMP_ACT_NOTIFY to the entries whose calls the listener answers, and write another default action.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "listenerPath": "/run/agent.sock", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}, {"names": ["execve"], "action": "SCMP_ACT_ALLOW"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/run/agent.sock", "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}]}"#,
        }),
    },
};

fn notify_by_default(profile: &Profile, found: &mut Found) {
    if profile.default_action == Action::Notify {
        let message = "SCMP_ACT_NOTIFY cannot be the default action, no runtime takes it: \
                       give it to the entries whose calls the listener answers";
        found.add(|| (field("defaultAction"), message.to_owned()));
    }
}

pub(super) const NOTHING_ALLOWED: Rule = Rule {
    code: Code::NothingAllowed,
    check: nothing_allowed,
    doc: Doc {
        why: "The first call of a container, execve, is denied. With SCMP_ACT_KILL or SCMP_ACT_KILL_THREAD runc does \
              not even fail: it hangs, and the pod stays in creation.",
        evidence: "runc: \"container process is already dead\" or \"exec fifo is empty\"; crun: exit code 139 or \
                   159; youki: \"BrokenChannel\". Names that no system call has do not count: runtimes skip them.",
        cure: "Add entries that allow what the program needs, and write defaultErrnoRet 38 beside them.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [{"names": ["execve", "read"], "action": "SCMP_ACT_ALLOW"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#,
        }),
    },
};

/// Whether no call is let through, by the default or an entry.
pub(super) fn allows_nothing(profile: &Profile) -> bool {
    let lets_through = |entry: &Entry| {
        !denies(entry.action) && entry.names.iter().any(|name| syscalls::lookup(name).is_some())
    };
    denies(profile.default_action) && !profile.syscalls.iter().any(lets_through)
}

fn nothing_allowed(profile: &Profile, found: &mut Found) {
    if allows_nothing(profile) {
        let message = "the default action denies every system call and no entry allows one, so no container can \
                       start: add entries with SCMP_ACT_ALLOW";
        found.add(|| (field("syscalls"), message.to_owned()));
    }
}

pub(super) const NO_EFFECT: Rule = Rule {
    code: Code::NoEffect,
    check: no_effect,
    doc: Doc {
        why: "A pod that names it looks confined and is not. With SCMP_ACT_LOG each call is at least logged.",
        evidence: "runc, crun and youki leave out entries whose answer is the default one.",
        cure: "Deny something, or let the pod use RuntimeDefault.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#,
        }),
    },
};

fn no_effect(profile: &Profile, found: &mut Found) {
    let default = profile.default_action;
    let all_equal = profile.syscalls.iter().all(|entry| entry.action == default);
    let message = match default {
        Action::Allow => {
            "every system call is allowed, as without a profile: deny what the program does not need"
        }
        Action::Log => {
            "every system call is allowed and logged, and none is denied: use it to record what a program needs, \
             then deny the rest"
        }
        _ => return,
    };
    if all_equal {
        found.add(|| (field("defaultAction"), message.to_owned()));
    }
}

pub(super) const TRACE_WITHOUT_TRACER: Rule = Rule {
    code: Code::TraceWithoutTracer,
    check: trace_without_tracer,
    doc: Doc {
        why: "Nothing traces a container in Kubernetes, and without a tracer the kernel answers ENOSYS.",
        evidence: "seccomp(2), SECCOMP_RET_TRACE; runc, crun and youki pass it on.",
        cure: "Write SCMP_ACT_ERRNO with the errno that is meant; 38 is ENOSYS.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_TRACE"}]}"#,
        }),
    },
};

fn trace_without_tracer(profile: &Profile, found: &mut Found) {
    let message = "SCMP_ACT_TRACE asks a tracer, and a container has none, so the call fails with ENOSYS: write \
                   SCMP_ACT_ERRNO";
    if profile.default_action == Action::Trace {
        found.add(|| (field("defaultAction"), message.to_owned()));
    }
    for (path, entry) in entries(profile) {
        if entry.action == Action::Trace {
            found.add(|| (path.key("action"), message.to_owned()));
        }
    }
}

pub(super) const KILL_THREAD: Rule = Rule {
    code: Code::KillThread,
    check: kill_thread,
    doc: Doc {
        why: "The other threads go on without the one that was killed, holding its locks: a program that hangs \
              instead of a program that ends. SCMP_ACT_KILL is the old name of SCMP_ACT_KILL_THREAD.",
        evidence: "seccomp(2), SECCOMP_RET_KILL_THREAD; runc, crun and youki treat both names alike.",
        cure: "Write SCMP_ACT_KILL_PROCESS, which every kernel since 4.14 has.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_KILL"}]}"#,
        }),
    },
};

const fn kills_thread(action: Action) -> bool {
    matches!(action, Action::Kill | Action::KillThread)
}

fn kill_thread(profile: &Profile, found: &mut Found) {
    for (path, entry) in entries(profile) {
        if kills_thread(entry.action) {
            found.add(|| {
                let message = format!(
                    "{} kills one thread and leaves the others: write SCMP_ACT_KILL_PROCESS",
                    entry.action
                );
                (path.key("action"), message)
            });
        }
    }
}

pub(super) const KILL_THREAD_BY_DEFAULT: Rule = Rule {
    code: Code::KillThreadByDefault,
    check: kill_thread_by_default,
    doc: Doc {
        why: "If the list lacks one call that runc needs, the kernel kills the thread that made it, and the process \
              stays: runc hangs, and the pod stays in creation without a message.",
        evidence: "runc 1.1.5 and 1.5 hang, and `runc delete --force` leaves the process behind; crun ends with 159.",
        cure: "Write SCMP_ACT_KILL_PROCESS, or SCMP_ACT_ERRNO.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [{"names": ["close", "execve", "clone3"], "action": "SCMP_ACT_ALLOW"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_KILL", "syscalls": [{"names": ["close", "execve", "clone3"], "action": "SCMP_ACT_ALLOW"}]}"#,
        }),
    },
};

fn kill_thread_by_default(profile: &Profile, found: &mut Found) {
    if kills_thread(profile.default_action) {
        found.add(|| {
            let message = format!(
                "{} as the default kills one thread and leaves the process: runc hangs if the entries lack a call \
                 that it needs, and so may programs; write SCMP_ACT_KILL_PROCESS",
                profile.default_action
            );
            (field("defaultAction"), message)
        });
    }
}

/// What `SCMP_ACT_ERRNO` returns; `None` for another action.
pub(super) fn errno_of(action: Action, errno: Option<Errno>) -> Option<u16> {
    (action == Action::Errno).then(|| errno.map_or(DEFAULT_ERRNO, Errno::get))
}
