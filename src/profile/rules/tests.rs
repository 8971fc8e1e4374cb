//! Each rule by what it accepts and what it refuses.

use super::*;
use crate::profile::model::{Condition, Errno, Operator};

fn rule(action: Action, names: &[&str]) -> Rule {
    Rule {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action,
        errno_ret: None,
        args: Vec::new(),
    }
}

/// A profile that every rule accepts.
fn good() -> Profile {
    Profile {
        default_action: Action::Errno,
        default_errno_ret: None,
        architectures: Vec::new(),
        flags: Vec::new(),
        listener_path: None,
        listener_metadata: None,
        syscalls: vec![rule(Action::Allow, &["read", "execve"])],
    }
}

/// A profile with a listener that every rule accepts.
fn listening() -> Profile {
    let mut profile = good();
    profile.listener_path = Some("/run/agent.sock".to_owned());
    profile.syscalls.push(rule(Action::Notify, &["mount"]));
    profile
}

/// Code and path of everything found.
fn found(profile: &Profile) -> Vec<(Code, String)> {
    check(profile)
        .into_iter()
        .map(|finding| (finding.code, finding.field.to_string()))
        .collect()
}

#[track_caller]
fn accepted(profile: &Profile) {
    assert_eq!(check(profile), []);
}

#[track_caller]
fn refused(profile: &Profile, code: Code, field: &str) {
    assert_eq!(found(profile), [(code, field.to_owned())]);
}

#[test]
fn notify_is_no_default_action() {
    accepted(&listening());
    let mut profile = listening();
    profile.default_action = Action::Notify;
    refused(&profile, Code::NotifyMisuse, "defaultAction");
}

#[test]
fn a_default_errno_goes_with_errno_and_trace_alone() {
    for action in Action::ALL {
        let mut profile = good();
        profile.default_action = *action;
        profile.default_errno_ret = Errno::new(0);
        let refused = found(&profile).contains(&(Code::ErrnoMisplaced, "defaultErrnoRet".to_owned()));
        assert_eq!(
            refused,
            !matches!(action, Action::Errno | Action::Trace),
            "{action}"
        );
    }
}

#[test]
fn a_default_that_denies_needs_entries() {
    for action in Action::ALL.iter().filter(|action| **action != Action::Notify) {
        let mut profile = good();
        profile.default_action = *action;
        accepted(&profile);
        profile.syscalls.clear();
        if matches!(action, Action::Allow | Action::Log) {
            accepted(&profile);
        } else {
            refused(&profile, Code::NothingAllowed, "syscalls");
        }
    }
}

#[test]
fn architectures_share_one_byte_order() {
    let mut profile = good();
    profile.architectures = vec![Architecture::X86_64, Architecture::Aarch64, Architecture::Sh];
    accepted(&profile);
    profile.architectures = vec![Architecture::S390X, Architecture::Ppc64];
    accepted(&profile);
    profile.architectures = vec![Architecture::X86_64, Architecture::S390X];
    refused(&profile, Code::MixedEndianness, "architectures");
}

#[test]
fn architectures_and_flags_stand_once() {
    let mut profile = good();
    profile.architectures = vec![Architecture::X86, Architecture::X86_64];
    profile.flags = vec![Flag::Log, Flag::SpecAllow];
    accepted(&profile);
    profile.architectures.push(Architecture::X86);
    refused(&profile, Code::RepeatedValue, "architectures[2]");
    profile.architectures.pop();
    profile.flags.push(Flag::Log);
    refused(&profile, Code::RepeatedValue, "flags[2]");
}

#[test]
fn tsync_does_not_go_with_a_listener() {
    let mut profile = good();
    profile.flags = vec![Flag::Tsync];
    accepted(&profile);
    let mut profile = listening();
    profile.flags = vec![Flag::Log, Flag::Tsync];
    refused(&profile, Code::NotifyMisuse, "flags[1]");
}

#[test]
fn wait_killable_recv_needs_a_listener() {
    let mut profile = listening();
    profile.flags = vec![Flag::WaitKillableRecv];
    accepted(&profile);
    let mut profile = good();
    profile.flags = vec![Flag::WaitKillableRecv];
    refused(&profile, Code::NotifyMisuse, "flags[0]");
}

#[test]
fn the_listener_is_an_absolute_path_of_a_socket() {
    let mut profile = listening();
    let longest = format!("/{}", "s".repeat(106));
    for path in ["/s", &longest] {
        profile.listener_path = Some(path.to_owned());
        accepted(&profile);
    }
    for path in [
        "",
        "run/s",
        "./s",
        "/a\0b",
        &format!("{longest}s"),
        &format!("/{}", "é".repeat(54)),
    ] {
        profile.listener_path = Some(path.to_owned());
        refused(&profile, Code::BadValue, "listenerPath");
    }
}

#[test]
fn metadata_needs_a_listener_and_is_bounded() {
    let mut profile = listening();
    for metadata in [String::new(), "é".repeat(4096)] {
        profile.listener_metadata = Some(metadata);
        accepted(&profile);
    }
    profile.listener_metadata = Some("m".repeat(4097));
    refused(&profile, Code::TooLarge, "listenerMetadata");
    let mut profile = good();
    profile.listener_metadata = Some(String::new());
    refused(&profile, Code::NotifyMisuse, "listenerMetadata");
}

#[test]
fn notify_and_a_listener_need_each_other() {
    accepted(&listening());
    let mut profile = listening();
    profile.listener_path = None;
    refused(&profile, Code::NotifyMisuse, "listenerPath");
    let mut profile = good();
    profile.listener_path = Some("/s".to_owned());
    refused(&profile, Code::NotifyMisuse, "listenerPath");
}

#[test]
fn write_is_not_notified() {
    let mut profile = listening();
    profile.syscalls.push(rule(Action::Allow, &["write"]));
    accepted(&profile);
    profile.syscalls[1].names.push("write".to_owned());
    refused(&profile, Code::NotifyMisuse, "syscalls[1].names[1]");
}

#[test]
fn an_entry_names_system_calls() {
    let mut profile = good();
    let longest = "a".repeat(64);
    profile
        .syscalls
        .push(rule(Action::Log, &["_sysctl", "clone3", "_llseek", &longest]));
    accepted(&profile);
    let long = "a".repeat(65);
    for name in [
        "",
        "Read",
        "open ",
        "3read",
        "re-ad",
        "read\0",
        "getpgrp\0x",
        "réad",
        "read\n",
        &long,
    ] {
        profile.syscalls[1] = rule(Action::Log, &["read", name]);
        refused(&profile, Code::BadValue, "syscalls[1].names[1]");
    }
    profile.syscalls[1] = rule(Action::Log, &[]);
    refused(&profile, Code::BadValue, "syscalls[1].names");
}

#[test]
fn an_errno_goes_with_errno_and_trace_alone() {
    for action in Action::ALL {
        let mut profile = listening();
        profile.syscalls.push(rule(*action, &["ptrace"]));
        profile.syscalls[2].errno_ret = Errno::new(0);
        if matches!(action, Action::Errno | Action::Trace) {
            accepted(&profile);
        } else {
            refused(&profile, Code::ErrnoMisplaced, "syscalls[2].errnoRet");
        }
    }
}

#[test]
fn an_entry_has_one_condition_on_each_argument() {
    let condition = |index| Condition {
        index,
        value: 1,
        value_two: None,
        op: Operator::Equal,
    };
    let mut profile = good();
    profile.syscalls[0].args = (0..6).map(condition).collect();
    accepted(&profile);
    profile.syscalls[0].args = vec![condition(2), condition(0), condition(2)];
    refused(&profile, Code::RepeatedArgument, "syscalls[0].args[2]");
}

#[test]
fn every_rule_that_is_broken_is_reported() {
    let mut profile = good();
    profile.default_action = Action::Kill;
    profile.default_errno_ret = Errno::new(1);
    profile.listener_path = Some("s".to_owned());
    profile.syscalls[0].errno_ret = Errno::new(1);
    let fields: BTreeSet<String> = found(&profile).into_iter().map(|(_, field)| field).collect();
    assert_eq!(fields.len(), 3, "{fields:?}");
    assert_eq!(check(&profile).len(), 4);
}

#[test]
fn a_listener_is_allowed_beneath_a_prefix_by_whole_components() {
    let allowed = |path: &str, prefixes: &[&str]| {
        let mut profile = listening();
        profile.listener_path = Some(path.to_owned());
        let prefixes: Vec<String> = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        listener_allowed(&profile, &prefixes).is_none()
    };
    assert!(allowed("/run/agents/a.sock", &["/run/agents"]));
    assert!(allowed("/run/agents/x/a.sock", &["/srv", "/run/agents/"]));
    assert!(allowed("/run//agents/./a.sock", &["/run/agents"]));
    assert!(allowed("/a.sock", &["/"]));

    assert!(!allowed("/run/agents/a.sock", &[]));
    assert!(!allowed("/run/agents-evil/a.sock", &["/run/agents"]));
    assert!(!allowed("/run/agents/../docker.sock", &["/run/agents"]));
    assert!(!allowed("/run/agents/x/../a.sock", &["/run/agents"]));
    assert!(!allowed("/run/agents", &["/run/agents"]));
    assert!(!allowed("run/agents/a.sock", &["run/agents"]));
    assert!(!allowed("/run/a.sock", &["/run/../run"]));
    assert!(!allowed("/run/a.sock", &[""]));
}

#[test]
fn without_a_listener_no_prefix_is_needed() {
    assert_eq!(listener_allowed(&good(), &[]), None);
    let finding = listener_allowed(&listening(), &["/srv".to_owned()]).unwrap();
    assert_eq!(
        (finding.code, finding.field.as_str()),
        (Code::ListenerNotAllowed, "listenerPath")
    );
    assert!(finding.message.contains("/srv"), "{}", finding.message);
}
