//! Which fields of a profile go together: the rules that the API server checks as well, one function each.
//!
//! Pure; knows the model alone. Field paths are relative to the profile. What a rule says about runtimes was
//! seen on runc, crun and youki; "the specification" is
//! <https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config-linux.md#seccomp>.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::finding::{Code, FieldPath, Finding, quoted};
use super::model::{Action, Architecture, Flag, Profile, Rule};

/// The longest path of a socket: `sun_path` has 108 bytes, the last one NUL. Source: unix(7).
const MAX_LISTENER_PATH: usize = 107;
/// The longest metadata, in characters as the API server counts.
const MAX_LISTENER_METADATA: usize = 4096;
/// The longest name of a system call; the longest that exists has half of it.
const MAX_NAME: usize = 64;

const RULES: [fn(&Profile) -> Vec<Finding>; 14] = [
    default_notify,
    default_errno,
    nothing_allowed,
    mixed_endianness,
    repeated_architectures,
    repeated_flags,
    flags_and_notify,
    listener_path,
    listener_metadata,
    notify_and_listener,
    names,
    notify_on_write,
    rule_errno,
    repeated_arguments,
];

/// Everything that the rules find, by rule.
pub(super) fn check(profile: &Profile) -> Vec<Finding> {
    RULES.iter().flat_map(|rule| rule(profile)).collect()
}

/// Refuses a listener outside the directories that an installation allows, with one finding; the field path is
/// relative to the profile.
///
/// A runtime connects to the path as root on the host. So both sides are compared by whole components, and a
/// path with `..` is beneath no prefix.
#[must_use]
pub fn listener_allowed(profile: &Profile, prefixes: &[String]) -> Option<Finding> {
    let path = profile.listener_path.as_deref()?;
    let clean =
        |path: &Path| path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    let beneath = |prefix: &String| {
        let prefix = Path::new(prefix);
        clean(prefix) && Path::new(path) != prefix && Path::new(path).starts_with(prefix)
    };
    if clean(Path::new(path)) && prefixes.iter().any(beneath) {
        return None;
    }
    let allowed = match prefixes {
        [] => "this installation allows none".to_owned(),
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

fn field(key: &str) -> FieldPath {
    FieldPath::root().key(key)
}

fn one(code: Code, field: FieldPath, message: impl Into<String>) -> Vec<Finding> {
    vec![Finding::new(code, field, message)]
}

/// Every entry with its path.
fn entries(profile: &Profile) -> impl Iterator<Item = (FieldPath, &Rule)> {
    profile
        .syscalls
        .iter()
        .enumerate()
        .map(|(index, rule)| (field("syscalls").index(index), rule))
}

fn notifies(profile: &Profile) -> bool {
    profile.syscalls.iter().any(|rule| rule.action == Action::Notify)
}

/// runc, youki and libseccomp refuse it; crun hangs.
fn default_notify(profile: &Profile) -> Vec<Finding> {
    if profile.default_action != Action::Notify {
        return Vec::new();
    }
    let message = "SCMP_ACT_NOTIFY cannot be the default action, no runtime takes it: \
                   give it to the entries whose calls the listener answers";
    one(Code::NotifyMisuse, field("defaultAction"), message)
}

/// The specification lets a runtime fail, and crun does.
fn default_errno(profile: &Profile) -> Vec<Finding> {
    if profile.default_errno_ret.is_none() || profile.default_action.takes_errno() {
        return Vec::new();
    }
    let message = format!(
        "defaultErrnoRet goes only with SCMP_ACT_ERRNO or SCMP_ACT_TRACE, and the defaultAction is {}: remove it",
        profile.default_action
    );
    one(Code::ErrnoMisplaced, field("defaultErrnoRet"), message)
}

/// The container's first call, execve, is denied.
fn nothing_allowed(profile: &Profile) -> Vec<Finding> {
    let denies = !matches!(
        profile.default_action,
        Action::Allow | Action::Log | Action::Notify
    );
    if !denies || !profile.syscalls.is_empty() {
        return Vec::new();
    }
    let message = "the default action denies every system call and no entry allows one, so no container can start: \
                   add entries";
    one(Code::NothingAllowed, field("syscalls"), message)
}

/// libseccomp answers EDOM: one filter holds architectures of one byte order. Source: `seccomp_arch_add(3)`.
fn mixed_endianness(profile: &Profile) -> Vec<Finding> {
    let of_order = |big| {
        profile
            .architectures
            .iter()
            .find(move |architecture| architecture.is_big_endian() == big)
    };
    let (Some(big), Some(little)) = (of_order(true), of_order(false)) else {
        return Vec::new();
    };
    let message = format!(
        "{big} is big-endian and {little} little-endian, and one filter cannot hold both: write a profile for each"
    );
    one(Code::MixedEndianness, field("architectures"), message)
}

fn repeated_architectures(profile: &Profile) -> Vec<Finding> {
    repeated("architectures", &profile.architectures, Architecture::as_str)
}

fn repeated_flags(profile: &Profile) -> Vec<Finding> {
    repeated("flags", &profile.flags, Flag::as_str)
}

fn repeated<T: Copy + Ord>(key: &str, values: &[T], name: fn(T) -> &'static str) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let again = values
        .iter()
        .enumerate()
        .filter(|(_, value)| !seen.insert(**value));
    let path = field(key);
    again
        .map(|(index, value)| {
            let message = format!("{} is listed twice: remove one", name(*value));
            Finding::new(Code::RepeatedValue, path.index(index), message)
        })
        .collect()
}

/// The kernel refuses TSYNC beside a listener, and `WAIT_KILLABLE_RECV` without one. Source: seccomp(2).
fn flags_and_notify(profile: &Profile) -> Vec<Finding> {
    let notifies = notifies(profile);
    let problem = |flag: &Flag| match flag {
        Flag::Tsync if notifies => {
            Some("does not go with SCMP_ACT_NOTIFY, the kernel refuses the pair: remove it")
        }
        Flag::WaitKillableRecv if !notifies => {
            Some("goes only with an entry that has SCMP_ACT_NOTIFY, the kernel refuses it alone: remove it")
        }
        _ => None,
    };
    let path = field("flags");
    let refused = profile
        .flags
        .iter()
        .enumerate()
        .filter_map(|(index, flag)| Some((index, flag, problem(flag)?)));
    refused
        .map(|(index, flag, problem)| {
            Finding::new(Code::NotifyMisuse, path.index(index), format!("{flag} {problem}"))
        })
        .collect()
}

fn listener_path(profile: &Profile) -> Vec<Finding> {
    let Some(path) = profile.listener_path.as_deref() else {
        return Vec::new();
    };
    let problem = if !path.starts_with('/') {
        "is not the absolute path of a socket".to_owned()
    } else if path.contains('\0') {
        "has a NUL character, which ends a path".to_owned()
    } else if path.len() > MAX_LISTENER_PATH {
        format!(
            "has {} bytes, and the path of a socket has at most {MAX_LISTENER_PATH}",
            path.len()
        )
    } else {
        return Vec::new();
    };
    one(
        Code::BadValue,
        field("listenerPath"),
        format!("{} {problem}", quoted(path)),
    )
}

/// The specification: it MUST NOT be set without a path.
fn listener_metadata(profile: &Profile) -> Vec<Finding> {
    let Some(metadata) = profile.listener_metadata.as_deref() else {
        return Vec::new();
    };
    let path = field("listenerMetadata");
    let length = metadata.chars().count();
    if profile.listener_path.is_none() {
        return one(
            Code::NotifyMisuse,
            path,
            "listenerMetadata goes only with listenerPath: remove it",
        );
    }
    if length > MAX_LISTENER_METADATA {
        let message = format!("{length} characters, and at most {MAX_LISTENER_METADATA} are allowed");
        return one(Code::TooLarge, path, message);
    }
    Vec::new()
}

/// Without a path runc and youki refuse to start, and crun lets the calls fail with ENOSYS. With a path alone
/// crun refuses to start where nobody listens, and the others ignore it.
fn notify_and_listener(profile: &Profile) -> Vec<Finding> {
    let message = match (notifies(profile), &profile.listener_path) {
        (true, None) => {
            "an entry with SCMP_ACT_NOTIFY needs listenerPath, the socket of the agent that answers"
        }
        (false, Some(_)) => "listenerPath goes only with an entry that has SCMP_ACT_NOTIFY: remove it",
        _ => return Vec::new(),
    };
    one(Code::NotifyMisuse, field("listenerPath"), message)
}

/// Runtimes skip an entry without names, and names that they do not know, without a word.
fn names(profile: &Profile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, rule) in entries(profile) {
        let path = path.key("names");
        if rule.names.is_empty() {
            let message = "an entry needs at least one name: add names or remove the entry";
            findings.push(Finding::new(Code::BadValue, path, message));
            continue;
        }
        let bad = rule
            .names
            .iter()
            .enumerate()
            .filter(|(_, name)| !is_syscall_name(name));
        findings.extend(bad.map(|(index, name)| {
            let message = format!(
                "{} is no name of a system call: expected 1 to {MAX_NAME} of a-z, 0-9 and '_', not beginning with \
                 a digit",
                quoted(name)
            );
            Finding::new(Code::BadValue, path.index(index), message)
        }));
    }
    findings
}

fn is_syscall_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() <= MAX_NAME
        && bytes
            .first()
            .is_some_and(|byte| byte.is_ascii_lowercase() || *byte == b'_')
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_')
}

/// runc and youki refuse it: they write to hand the listener over.
fn notify_on_write(profile: &Profile) -> Vec<Finding> {
    let notified = entries(profile).filter(|(_, rule)| rule.action == Action::Notify);
    let positions = notified.filter_map(|(path, rule)| {
        let index = rule.names.iter().position(|name| name == "write")?;
        Some(path.key("names").index(index))
    });
    let message =
        "write cannot have SCMP_ACT_NOTIFY, runtimes need it to hand over the listener: remove it here";
    positions
        .map(|path| Finding::new(Code::NotifyMisuse, path, message))
        .collect()
}

/// The specification lets a runtime fail, and crun does.
fn rule_errno(profile: &Profile) -> Vec<Finding> {
    let misplaced =
        entries(profile).filter(|(_, rule)| rule.errno_ret.is_some() && !rule.action.takes_errno());
    misplaced
        .map(|(path, rule)| {
            let message = format!(
                "errnoRet goes only with SCMP_ACT_ERRNO or SCMP_ACT_TRACE, and the action is {}: remove it",
                rule.action
            );
            Finding::new(Code::ErrnoMisplaced, path.key("errnoRet"), message)
        })
        .collect()
}

/// libseccomp takes one condition on each argument, so runtimes make every condition of such an entry a rule of
/// its own. Source: <https://github.com/opencontainers/runc/issues/2735>.
fn repeated_arguments(profile: &Profile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, rule) in entries(profile) {
        let mut seen = BTreeSet::new();
        let again = rule
            .args
            .iter()
            .enumerate()
            .filter(|(_, condition)| !seen.insert(condition.index));
        findings.extend(again.map(|(index, condition)| {
            let message = format!(
                "a second condition on argument {}: runtimes apply the conditions of such an entry as OR, not AND; \
                 write one entry for each, or one condition",
                condition.index
            );
            Finding::new(Code::RepeatedArgument, path.key("args").index(index), message)
        }));
    }
    findings
}

#[cfg(test)]
mod tests;
