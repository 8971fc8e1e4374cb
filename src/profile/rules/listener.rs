//! `SCMP_ACT_NOTIFY`, and the listener that answers.

use std::path::{Component, Path};

use super::super::finding::{Affected, Code, Finding, Software, Version, quoted};
use super::super::model::{Action, Profile};
use super::super::syscalls::{self, COMMON_LIBSECCOMP};
use super::architectures::affected;
use super::{Doc, Example, Found, Rule, entries, field, notifies};

/// Refuses a listener outside the directories that an installation allows, with one finding; the field path is
/// relative to the profile.
///
/// A runtime connects to the path as root on the host. So both sides are compared by whole components, and a
/// path with `..` is beneath no prefix.
#[must_use]
pub fn listener_allowed(profile: &Profile, prefixes: &[String]) -> Option<Finding> {
    let path = profile.listener_path.as_deref()?;
    let leads_up = |path: &Path| path.components().any(|part| part == Component::ParentDir);
    let clean = |path: &Path| path.is_absolute() && !leads_up(path);
    let beneath = |prefix: &String| {
        let prefix = Path::new(prefix);
        clean(prefix) && Path::new(path) != prefix && Path::new(path).starts_with(prefix)
    };
    if clean(Path::new(path)) && prefixes.iter().any(beneath) {
        return None;
    }
    let allowed = match prefixes {
        [] => "this installation allows none".to_owned(),
        _ if leads_up(Path::new(path)) => {
            "with .. in it, it is beneath no directory: write where it leads".to_owned()
        }
        prefixes => format!("this installation allows sockets beneath {}", prefixes.join(", ")),
    };
    let message = format!(
        "{} is not allowed: the container runtime would connect to it as root on the node, and {allowed}",
        quoted(path)
    );
    Some(Finding::new(
        Code::ListenerNotAllowed,
        field("listenerPath"),
        message,
    ))
}

pub(super) const NOTIFY_ON_WRITE: Rule = Rule {
    code: Code::NotifyOnWrite,
    check: notify_on_write,
    doc: Doc {
        why: "The runtime writes to hand the listener over, and would wait for the listener to let it.",
        evidence: "runc and youki refuse it, whatever the conditions of the entry. crun accepts it.",
        cure: "Take write out of the entry.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock", "syscalls": [{"names": ["mount", "write"], "action": "SCMP_ACT_NOTIFY"}]}"#,
        }),
    },
};

fn notify_on_write(profile: &Profile, found: &mut Found) {
    for (path, entry) in entries(profile) {
        if entry.action != Action::Notify {
            continue;
        }
        if let Some(index) = entry.names.iter().position(|name| name == "write") {
            let message = "write cannot have SCMP_ACT_NOTIFY, runtimes need it to hand over the listener: remove it here";
            found.add(|| (path.key("names").index(index), message.to_owned()));
        }
    }
}

pub(super) const NOTIFY_WITHOUT_LISTENER: Rule = Rule {
    code: Code::NotifyWithoutListener,
    check: notify_without_listener,
    doc: Doc {
        why: "Under runc and youki no container starts; under crun the calls fail with ENOSYS.",
        evidence: "runc: \"listenerPath is not set\".",
        cure: "Add listenerPath, the socket of the agent that answers, in a directory that the installation allows; or use \
               another action.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#,
        }),
    },
};

fn notify_without_listener(profile: &Profile, found: &mut Found) {
    if notifies(profile) && profile.listener_path.is_none() {
        let message =
            "an entry with SCMP_ACT_NOTIFY needs listenerPath, the socket of the agent that answers";
        found.add(|| (field("listenerPath"), message.to_owned()));
    }
}

pub(super) const LISTENER_WITHOUT_NOTIFY: Rule = Rule {
    code: Code::ListenerWithoutNotify,
    check: listener_without_notify,
    doc: Doc {
        why: "Under crun no container starts where nobody listens; the others ignore the path.",
        evidence: "crun connects to the socket and hands it a listener, even though nothing is notified.",
        cure: "Remove listenerPath.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
        }),
    },
};

fn listener_without_notify(profile: &Profile, found: &mut Found) {
    if !notifies(profile) && profile.listener_path.is_some() {
        let message = "listenerPath goes only with an entry that has SCMP_ACT_NOTIFY: remove it";
        found.add(|| (field("listenerPath"), message.to_owned()));
    }
}

pub(super) const METADATA_WITHOUT_LISTENER: Rule = Rule {
    code: Code::MetadataWithoutListener,
    check: metadata_without_listener,
    doc: Doc {
        why: "There is nobody to send it to.",
        evidence: "The specification: it MUST NOT be set without a path. runc, crun and youki ignore it.",
        cure: "Remove listenerMetadata.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock", "listenerMetadata": "x", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
        }),
    },
};

fn metadata_without_listener(profile: &Profile, found: &mut Found) {
    if profile.listener_metadata.is_some() && profile.listener_path.is_none() {
        let message = "listenerMetadata goes only with listenerPath: remove it";
        found.add(|| (field("listenerMetadata"), message.to_owned()));
    }
}

pub(super) const NEWER_ACTION: Rule = Rule {
    code: Code::NewerAction,
    check: newer_action,
    doc: Doc {
        why: "A runtime whose libseccomp or kernel lacks the action starts no container.",
        evidence: "https://github.com/opencontainers/runc/pull/2682: SCMP_ACT_NOTIFY needs libseccomp 2.5.0 and Linux 5.7. \
                   The kernel has it since 5.0; libseccomp asks in addition for SECCOMP_FILTER_FLAG_TSYNC_ESRCH, which is of \
                   5.7 (seccomp(2), seccomp_api_get(3)).",
        cure: "Use another action, or update libseccomp and the kernels. Accept the finding if no node has one of those that \
               are named.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#,
        }),
    },
};

/// Once for a profile, at the first entry that has it.
fn newer_action(profile: &Profile, found: &mut Found) {
    const NOTIFY: &[Affected] = &[
        Affected::before(Software::Libseccomp, Version::new(2, 5, 0)),
        Affected::before(Software::Linux, Version::new(5, 7, 0)),
    ];
    let mut notified = entries(profile).filter(|(_, entry)| entry.action == Action::Notify);
    if let Some((path, _)) = notified.next() {
        found.add_for(NOTIFY, || {
            let message = format!(
                "{} is not known to {}, and no container starts there: use another action, or accept it if no node has \
                 these",
                Action::Notify,
                affected(NOTIFY)
            );
            (path.key("action"), message)
        });
    }
}

pub(super) const NOTIFY_NEWER_SYSCALL: Rule = Rule {
    code: Code::NotifyNewerSyscall,
    check: notify_newer_syscall,
    doc: Doc {
        why: "Where the libseccomp of the runtime knows none of the names, nothing is notified, and the listener is \
              waited for all the same.",
        evidence: "youki starts no container then, because the kernel made no listener. runc and crun go on without.",
        cure: "Name a call that every libseccomp knows as well, or update libseccomp on the nodes. Accept the finding if no \
               node runs youki.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock", "syscalls": [{"names": ["mount", "listmount"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock", "syscalls": [{"names": ["listmount"], "action": "SCMP_ACT_NOTIFY"}]}"#,
        }),
    },
};

fn notify_newer_syscall(profile: &Profile, found: &mut Found) {
    const YOUKI: &[Affected] = &[Affected::always(Software::Youki)];
    let mut notified = entries(profile).filter(|(_, entry)| entry.action == Action::Notify);
    let Some((path, first)) = notified.next() else {
        return;
    };
    let is_common =
        |name: &String| syscalls::lookup(name).is_some_and(|call| call.is_known_to(COMMON_LIBSECCOMP));
    let common = |names: &[String]| names.iter().any(is_common);
    if !common(&first.names) && !notified.any(|(_, entry)| common(&entry.names)) {
        let message = format!(
            "libseccomp {COMMON_LIBSECCOMP} knows no call that has SCMP_ACT_NOTIFY here, and youki built with it \
             starts no container: name an older call as well, or accept it if no node runs youki"
        );
        found.add_for(YOUKI, || (path.key("names"), message));
    }
}

pub(super) const LISTENER_NEEDED: Rule = Rule {
    code: Code::ListenerNeeded,
    check: listener_needed,
    doc: Doc {
        why: "The runtime connects to the socket when the container starts, and fails if nobody listens. An agent \
              that ends later lets the calls fail with ENOSYS.",
        evidence: "Seen on runc, crun and youki.",
        cure: "See that the agent runs on every node that the profile is for, and before its pods; then accept the \
               finding.",
        example: Some(Example {
            accepted: r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
            refused: r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#,
        }),
    },
};

fn listener_needed(profile: &Profile, found: &mut Found) {
    if let Some(path) = profile.listener_path.as_deref()
        && notifies(profile)
    {
        found.add(|| {
            let message = format!(
                "no container starts on a node where nobody listens at {}: see that the agent runs on each of \
                 them, then accept it",
                quoted(path)
            );
            (field("listenerPath"), message)
        });
    }
}
