//! Each rule by its own examples, and by what they do not show.

mod affected;

use std::collections::BTreeSet;

use super::super::finding::Software;
use super::arguments::calls_through;
use super::*;
use crate::profile::finding::{Class, Version};
use crate::profile::model::{Architecture, Condition, Errno, Flag, Operator};

fn entry(action: Action, names: &[&str]) -> Entry {
    Entry {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action,
        errno_ret: None,
        args: Vec::new(),
    }
}

/// A profile in which nothing is found.
fn good() -> Profile {
    Profile {
        default_action: Action::Errno,
        default_errno_ret: Errno::new(38),
        architectures: Vec::new(),
        flags: Vec::new(),
        listener_path: None,
        listener_metadata: None,
        syscalls: vec![entry(Action::Allow, &["read", "execve"])],
    }
}

/// A profile with a listener, in which nothing is found but that it needs one, and who can have one.
fn listening() -> Profile {
    let mut profile = good();
    profile.listener_path = Some("/run/agent.sock".to_owned());
    profile.syscalls.push(entry(Action::Notify, &["mount"]));
    profile
}

fn spec(profile: &Profile, accept: &[&str]) -> ProfileSpec {
    ProfileSpec {
        profile: profile.clone(),
        node_selector: std::collections::BTreeMap::new(),
        accept_findings: accept.iter().map(|code| (*code).to_owned()).collect(),
        has_empty_flags: false,
    }
}

fn findings(profile: &Profile) -> Vec<Finding> {
    spec(profile, &[]).findings()
}

/// The places of the findings of one code.
fn places(profile: &Profile, code: Code) -> Vec<String> {
    let of_code = findings(profile)
        .into_iter()
        .filter(|finding| finding.code == code);
    of_code.map(|finding| finding.field.to_string()).collect()
}

#[track_caller]
fn accepted(profile: &Profile, code: Code) {
    assert_eq!(places(profile, code), [""; 0], "{code}");
}

#[track_caller]
fn found(profile: &Profile, code: Code, place: &str) {
    assert_eq!(places(profile, code), [place], "{code}");
}

fn json(text: &str) -> Profile {
    Profile::from_canonical(text.as_bytes()).unwrap_or_else(|findings| panic!("{text}: {findings:?}"))
}

#[test]
fn the_base_of_these_tests_has_no_finding() {
    assert_eq!(findings(&good()), []);
    found(&listening(), Code::NewerAction, "syscalls[1].action");
    found(&listening(), Code::ListenerNeeded, "listenerPath");
    assert_eq!(findings(&listening()).len(), 2);
}

#[test]
fn every_rule_accepts_and_finds_its_own_examples() {
    for rule in RULES {
        let example = rule.doc.example.as_ref().unwrap();
        let accepted = json(example.accepted);
        let fatal: Vec<_> = findings(&accepted)
            .into_iter()
            .filter(Finding::is_fatal)
            .collect();
        assert_eq!(fatal, [], "{}", rule.code);
        assert_eq!(rule.findings(&accepted), [], "{}", rule.code);

        let refused = findings(&json(example.refused));
        let of_rule: Vec<_> = refused
            .iter()
            .filter(|finding| finding.code == rule.code)
            .collect();
        assert!(!of_rule.is_empty(), "{}: {refused:?}", rule.code);
        for finding in of_rule {
            let names_who_differs = !finding.affects.is_empty();
            let may_name = match finding.class() {
                Class::Invalid => false,
                Class::NotPortable => true,
                Class::Lint | Class::Accepted => names_who_differs,
            };
            assert_eq!(names_who_differs, may_name, "{}", rule.code);
            assert_eq!(
                finding.class() == Class::Invalid,
                finding.is_fatal(),
                "{}",
                rule.code
            );
        }
    }
}

#[test]
fn every_rule_has_its_own_code() {
    let codes: BTreeSet<_> = RULES.iter().map(|rule| rule.code).collect();
    assert_eq!(codes.len(), RULES.len());
}

#[test]
fn notify_is_no_default_action() {
    let mut profile = listening();
    accepted(&profile, Code::NotifyByDefault);
    profile.default_action = Action::Notify;
    found(&profile, Code::NotifyByDefault, "defaultAction");
}

#[test]
fn an_errno_goes_with_errno_and_trace_alone() {
    for action in Action::ALL {
        let mut profile = good();
        profile.default_action = *action;
        profile.syscalls.push(entry(*action, &["ptrace"]));
        profile.syscalls[1].errno_ret = Errno::new(1);
        if matches!(action, Action::Errno | Action::Trace) {
            accepted(&profile, Code::ErrnoMisplaced);
        } else {
            assert_eq!(
                places(&profile, Code::ErrnoMisplaced),
                ["defaultErrnoRet", "syscalls[1].errnoRet"],
                "{action}"
            );
        }
    }
}

#[test]
fn a_default_that_denies_needs_an_entry_that_lets_a_call_through() {
    for action in Action::ALL {
        let mut profile = good();
        profile.default_action = *action;
        accepted(&profile, Code::NothingAllowed);
        for entries in [
            vec![],
            vec![entry(Action::KillProcess, &["read"])],
            vec![entry(Action::Allow, &["frobnicate", "opne"])],
        ] {
            profile.syscalls = entries;
            if denies(*action) {
                found(&profile, Code::NothingAllowed, "syscalls");
            } else {
                accepted(&profile, Code::NothingAllowed);
            }
        }
        profile.syscalls = vec![entry(Action::Log, &["frobnicate", "read"])];
        accepted(&profile, Code::NothingAllowed);
    }
}

#[test]
fn architectures_share_one_byte_order() {
    let mut profile = good();
    profile.architectures = vec![Architecture::X86_64, Architecture::Aarch64, Architecture::Sh];
    accepted(&profile, Code::MixedEndianness);
    profile.architectures = vec![Architecture::S390X, Architecture::Ppc64];
    accepted(&profile, Code::MixedEndianness);
    profile.architectures = vec![Architecture::X86_64, Architecture::S390X];
    found(&profile, Code::MixedEndianness, "architectures");
}

#[test]
fn what_is_listed_twice_is_told_at_its_place() {
    let mut profile = good();
    profile.architectures = vec![Architecture::X86, Architecture::X86_64, Architecture::X86];
    found(&profile, Code::RepeatedValue, "architectures[2]");
    profile.architectures.pop();
    profile.flags = vec![Flag::Log, Flag::SpecAllow, Flag::Log];
    found(&profile, Code::RepeatedValue, "flags[2]");
    profile.flags.pop();
    accepted(&profile, Code::RepeatedValue);
    // In two entries it may have two conditions.
    profile.syscalls.push(entry(Action::Log, &["read"]));
    accepted(&profile, Code::RepeatedValue);
    profile.syscalls[1].names.push("read".to_owned());
    found(&profile, Code::RepeatedValue, "syscalls[1].names[1]");
}

#[test]
fn what_is_listed_twice_has_its_other_findings_once() {
    let told = |profile: &Profile| {
        let codes: Vec<_> = findings(profile).iter().map(|finding| finding.code).collect();
        assert!(codes.contains(&Code::RepeatedValue), "{codes:?}");
        let distinct: BTreeSet<_> = codes.iter().collect();
        assert_eq!(distinct.len(), codes.len(), "{codes:?}");
    };
    for base in [good(), listening()] {
        for flag in Flag::ALL {
            let flags = vec![*flag, *flag];
            told(&Profile {
                flags,
                ..base.clone()
            });
        }
    }
    for architecture in Architecture::ALL {
        let architectures = vec![*architecture, *architecture];
        told(&Profile {
            architectures,
            ..good()
        });
    }
}

#[test]
fn tsync_is_useless_and_beside_a_listener_refused() {
    let mut profile = good();
    profile.flags = vec![Flag::Log, Flag::Tsync];
    accepted(&profile, Code::TsyncWithNotify);
    found(&profile, Code::TsyncUseless, "flags[1]");
    let mut profile = listening();
    profile.flags = vec![Flag::Log, Flag::Tsync];
    found(&profile, Code::TsyncWithNotify, "flags[1]");
    accepted(&profile, Code::TsyncUseless);
}

#[test]
fn the_flag_that_weakens_the_container_is_told() {
    for flag in Flag::ALL {
        let mut profile = listening();
        profile.flags = vec![*flag];
        let count = usize::from(*flag == Flag::SpecAllow);
        assert_eq!(places(&profile, Code::SpecAllow).len(), count, "{flag}");
    }
}

#[test]
fn wait_killable_recv_needs_a_listener() {
    let mut profile = listening();
    profile.flags = vec![Flag::WaitKillableRecv];
    accepted(&profile, Code::WaitKillableWithoutNotify);
    let mut profile = good();
    profile.flags = vec![Flag::WaitKillableRecv];
    found(&profile, Code::WaitKillableWithoutNotify, "flags[0]");
}

#[test]
fn the_listener_is_an_absolute_path_of_a_socket() {
    let mut profile = listening();
    let longest = format!("/{}", "s".repeat(106));
    for path in ["/s", &longest] {
        profile.listener_path = Some(path.to_owned());
        accepted(&profile, Code::BadValue);
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
        found(&profile, Code::BadValue, "listenerPath");
    }
}

#[test]
fn metadata_needs_a_listener_and_is_bounded() {
    let mut profile = listening();
    for metadata in [String::new(), "é".repeat(4096)] {
        profile.listener_metadata = Some(metadata);
        accepted(&profile, Code::TooLarge);
        accepted(&profile, Code::MetadataWithoutListener);
    }
    profile.listener_metadata = Some("m".repeat(4097));
    found(&profile, Code::TooLarge, "listenerMetadata");
    let mut profile = good();
    profile.listener_metadata = Some(String::new());
    found(&profile, Code::MetadataWithoutListener, "listenerMetadata");
}

#[test]
fn notify_and_a_listener_need_each_other() {
    accepted(&listening(), Code::NotifyWithoutListener);
    accepted(&listening(), Code::ListenerWithoutNotify);
    let mut profile = listening();
    profile.listener_path = None;
    found(&profile, Code::NotifyWithoutListener, "listenerPath");
    let mut profile = good();
    profile.listener_path = Some("/s".to_owned());
    found(&profile, Code::ListenerWithoutNotify, "listenerPath");
    accepted(&profile, Code::ListenerNeeded);
}

#[test]
fn notification_names_who_lacks_it_once() {
    let mut profile = listening();
    profile.syscalls.push(entry(Action::Notify, &["chroot"]));
    found(&profile, Code::NewerAction, "syscalls[1].action");
    accepted(&good(), Code::NewerAction);
}

#[test]
fn write_is_not_notified() {
    let mut profile = listening();
    profile.syscalls.push(entry(Action::Allow, &["write"]));
    accepted(&profile, Code::NotifyOnWrite);
    profile.syscalls[1].names.push("write".to_owned());
    found(&profile, Code::NotifyOnWrite, "syscalls[1].names[1]");
}

#[test]
fn one_older_call_that_is_notified_is_enough_for_youki() {
    let mut profile = listening();
    profile.syscalls[1].names = vec!["listmount".to_owned(), "frobnicate".to_owned()];
    found(&profile, Code::NotifyNewerSyscall, "syscalls[1].names");
    profile.syscalls.push(entry(Action::Notify, &["mount"]));
    accepted(&profile, Code::NotifyNewerSyscall);
}

#[test]
fn a_name_that_is_none_is_bad_and_one_that_no_call_has_unknown() {
    let mut profile = good();
    let longest = "a".repeat(64);
    profile
        .syscalls
        .push(entry(Action::Log, &["_sysctl", "clone3", "_llseek"]));
    accepted(&profile, Code::BadValue);
    accepted(&profile, Code::UnknownSyscall);
    for name in ["", "read\0", "getpgrp\0x", "read\n", &"a".repeat(65)] {
        profile.syscalls[1] = entry(Action::Log, &["read", name]);
        found(&profile, Code::BadValue, "syscalls[1].names[1]");
        accepted(&profile, Code::UnknownSyscall);
    }
    for (name, cure) in [
        ("Read", "did you mean read?"),
        ("open ", "did you mean open?"),
        ("3read", "did you mean "),
        ("re-ad", "did you mean "),
        ("réad", "did you mean "),
        ("frobnicate", "without a word"),
        (&longest, "without a word"),
    ] {
        profile.syscalls[1] = entry(Action::Log, &["read", name]);
        found(&profile, Code::UnknownSyscall, "syscalls[1].names[1]");
        let message = &findings(&profile)[0].message;
        assert!(message.contains(cure), "{message}");
    }
    profile.syscalls[1] = entry(Action::Log, &[]);
    found(&profile, Code::BadValue, "syscalls[1].names");
}

#[test]
fn several_near_names_are_all_suggested() {
    let mut profile = good();
    profile.syscalls.push(entry(Action::Log, &["lsta"]));
    let message = &findings(&profile)[0].message;
    assert!(
        message.contains("did you mean ") && message.contains(" or "),
        "{message}"
    );
}

#[test]
fn newer_names_are_told_once_for_each_release_at_the_first() {
    let mut profile = good();
    let names = ["read", "mseal", "cachestat", "listmount", "mount_setattr"];
    profile.syscalls.push(entry(Action::Log, &names));
    profile.syscalls.push(entry(
        Action::Log,
        &["mseal", "listns", "futex_waitv", "process_mrelease"],
    ));
    let of_code: Vec<_> = findings(&profile)
        .into_iter()
        .filter(|finding| finding.code == Code::NewerSyscall)
        .map(|finding| {
            let names = finding.message.rsplit(": ").next().unwrap().to_owned();
            (
                finding.affects[0].before.unwrap(),
                finding.field.to_string(),
                names,
            )
        })
        .collect();
    let expected = [
        ((2, 5, 3), "syscalls[2].names[3]", "process_mrelease"),
        ((2, 5, 4), "syscalls[2].names[2]", "futex_waitv"),
        ((2, 5, 5), "syscalls[1].names[2]", "cachestat"),
        ((2, 5, 6), "syscalls[1].names[1]", "mseal, listmount"),
        ((2, 6, 1), "syscalls[2].names[1]", "listns"),
    ];
    let expected = expected.map(|((major, minor, micro), place, names)| {
        (
            Version::new(major, minor, micro),
            place.to_owned(),
            names.to_owned(),
        )
    });
    assert_eq!(of_code, expected);
}

#[test]
fn a_call_that_no_listed_architecture_has_is_neither_newer_nor_risky() {
    use Architecture::{Aarch64, Riscv64, X32, X86, X86_64};
    let told = |code, name: &str, listed: &[Architecture]| {
        let mut profile = good();
        profile.architectures = listed.to_vec();
        profile.syscalls[0].names.push(name.to_owned());
        places(&profile, code).len()
    };
    for (code, name, listed, count) in [
        (Code::NewerSyscall, "riscv_hwprobe", &[X86_64][..], 0),
        (Code::NewerSyscall, "riscv_hwprobe", &[X86_64, Riscv64], 1),
        (Code::NewerSyscall, "riscv_hwprobe", &[], 1),
        (Code::NewerSyscall, "uretprobe", &[Aarch64], 0),
        (Code::NewerSyscall, "uretprobe", &[X86_64], 1),
        // The node's own is in the filter all the same.
        (Code::NewerSyscall, "uretprobe", &[X32], 1),
        (Code::RiskySyscall, "vm86", &[X86_64], 0),
        (Code::RiskySyscall, "vm86", &[X86_64, X86], 1),
        (Code::RiskySyscall, "iopl", &[Aarch64], 0),
        (Code::RiskySyscall, "iopl", &[], 1),
    ] {
        assert_eq!(told(code, name, listed), count, "{name} {listed:?}");
    }
}

#[test]
fn a_deny_list_of_calls_that_the_architectures_do_not_have_is_told() {
    use Architecture::{Aarch64, Riscv64, X32, X86, X86_64};
    let denying = |names: &[&str], listed: &[Architecture]| Profile {
        default_action: Action::Allow,
        default_errno_ret: None,
        architectures: listed.to_vec(),
        syscalls: vec![entry(Action::Errno, names)],
        ..good()
    };
    for (names, listed) in [
        (&["riscv_flush_icache", "vm86"][..], &[X86_64][..]),
        (&["chmod", "mknod"], &[Aarch64]),
        (&["vm86"], &[X32]),
    ] {
        found(&denying(names, listed), Code::AbsentSyscalls, "syscalls[0].names");
    }
    for (names, listed) in [
        (&["riscv_flush_icache", "vm86"][..], &[X86_64, X86][..]),
        (&["chmod", "fchmodat"], &[Aarch64]),
        (&["chmod"], &[Aarch64, X86_64]),
        (&["chmod"], &[]),
        // Through ipc, and by the node's own architecture.
        (&["semop"], &[X86_64, X86]),
        (&["umount2"], &[X86]),
        // Told as unknown.
        (&["chmod", "opne"], &[Aarch64]),
        (&["riscv_flush_icache"], &[Riscv64]),
    ] {
        accepted(&denying(names, listed), Code::AbsentSyscalls);
    }
    // What is allowed, or denied by default, is lost to nobody.
    let mut profile = denying(&["chmod"], &[Aarch64]);
    profile.syscalls[0].action = Action::Log;
    accepted(&profile, Code::AbsentSyscalls);
    profile.default_action = Action::KillProcess;
    profile.syscalls[0].action = Action::Errno;
    accepted(&profile, Code::AbsentSyscalls);

    let on = |native, names: &[&str], listed: &[Architecture], label: Option<&str>| {
        let mut spec = spec(&denying(names, listed), &[]);
        let labels = label.map(|label| ("kubernetes.io/arch".to_owned(), label.to_owned()));
        spec.node_selector = labels.into_iter().collect();
        let findings = on_machine(native, &spec).into_iter();
        findings
            .filter(|finding| finding.code == Code::AbsentSyscalls)
            .count()
    };
    assert_eq!(on(Aarch64, &["chmod"], &[], None), 1);
    assert_eq!(on(Aarch64, &["chmod"], &[], Some("arm64")), 1);
    assert_eq!(on(Aarch64, &["chmod"], &[], Some("amd64")), 0);
    assert_eq!(on(X86_64, &["chmod"], &[], None), 0);
    assert_eq!(on(Aarch64, &["chmod"], &[X86_64], None), 0);
}

#[test]
fn every_release_that_brought_names_has_its_finding() {
    let releases: BTreeSet<_> = crate::profile::syscalls::all()
        .filter_map(|call| call.libseccomp)
        .filter(|release| *release > crate::profile::syscalls::COMMON_LIBSECCOMP)
        .collect();
    assert!(names::RELEASES.iter().map(|(release, _)| release).eq(&releases));
}

/// The messages of the findings of one code.
fn messages(profile: &Profile, code: Code) -> Vec<String> {
    let of_code = findings(profile)
        .into_iter()
        .filter(|finding| finding.code == code);
    of_code.map(|finding| finding.message).collect()
}

#[test]
fn clone3_needs_an_answer_that_programs_know() {
    let mut profile = good();
    accepted(&profile, Code::NoClone3Answer);
    let message = |profile: &Profile| messages(profile, Code::NoClone3Answer).remove(0);
    for action in Action::ALL {
        profile.default_action = *action;
        profile.default_errno_ret = None;
        profile.syscalls.truncate(1);
        // Without a tracer the kernel answers ENOSYS.
        if !denies(*action) || *action == Action::Trace {
            accepted(&profile, Code::NoClone3Answer);
            continue;
        }
        found(&profile, Code::NoClone3Answer, "syscalls");
        assert!(message(&profile).contains("but for runc"));
        // The number before that of clone3.
        profile.syscalls[0].names.push("pidfd_open".to_owned());
        assert!(message(&profile).contains("but for runc"));
        profile.syscalls[0].names.pop();
        profile.syscalls.push(entry(Action::Errno, &["close_range"]));
        assert!(message(&profile).contains("also on runc, because the profile names close_range"));
        profile.syscalls[1] = entry(Action::Log, &["clone3"]);
        accepted(&profile, Code::NoClone3Answer);
        // Runtimes leave it out, and for runc's own answer it counts.
        profile.syscalls[1] = entry(*action, &["clone3"]);
        found(&profile, Code::NoClone3Answer, "syscalls");
        assert!(message(&profile).contains("also on runc, because the profile names it"));
    }
}

#[test]
fn an_entry_that_denies_clone3_does_so_with_enosys() {
    let mut profile = good();
    profile.architectures = vec![Architecture::X86_64];
    let mut ask = |default: Action, action: Action, errno: Option<u16>| {
        profile.default_action = default;
        profile.default_errno_ret = None;
        profile.syscalls.truncate(1);
        profile.syscalls.push(entry(action, &["mount", "clone3"]));
        profile.syscalls[1].errno_ret = errno.and_then(Errno::new);
        let message = messages(&profile, Code::NoClone3Answer).pop();
        assert!(message.is_none() || places(&profile, Code::NoClone3Answer) == ["syscalls[1].names[1]"]);
        message
    };
    for default in [Action::Allow, Action::KillProcess] {
        for (action, errno, with) in [
            (Action::Errno, None, "errno 1"),
            (Action::Errno, Some(0), "errno 0"),
            (Action::Errno, Some(37), "errno 37"),
            (Action::Errno, Some(39), "errno 39"),
            (Action::Trap, None, "SCMP_ACT_TRAP"),
            (Action::KillThread, None, "SCMP_ACT_KILL_THREAD"),
        ] {
            let message = ask(default, action, errno).unwrap();
            assert!(
                message.starts_with(&format!("clone3 is denied with {with}: ")),
                "{message}"
            );
        }
        for (action, errno) in [
            (Action::Errno, Some(38)),
            (Action::Trace, None),
            (Action::Log, None),
            (Action::Notify, None),
        ] {
            assert_eq!(ask(default, action, errno), None, "{action}");
        }
    }
    // Of a call that is denied under a condition alone, the condition on an address is told.
    profile.default_action = Action::Allow;
    profile.syscalls[1] = entry(Action::Errno, &["clone3"]);
    found(&profile, Code::NoClone3Answer, "syscalls[1].names[0]");
    profile.syscalls[1].args = vec![Condition {
        index: 0,
        value: 1,
        value_two: None,
        op: Operator::Equal,
    }];
    accepted(&profile, Code::NoClone3Answer);
    found(&profile, Code::PointerArgument, "syscalls[1].args[0]");
}

#[test]
fn a_multiplexer_opens_no_more_than_what_is_allowed_by_name() {
    use Architecture::{Aarch64, Mips, S390X, X32, X86, X86_64};
    let told = |listed: &[Architecture], names: &[&str]| {
        let mut profile = good();
        profile.architectures = listed.to_vec();
        profile.syscalls.push(entry(Action::Allow, names));
        let findings = findings(&profile).into_iter();
        let of_code = findings.filter(|finding| finding.code == Code::OpenMultiplexer);
        of_code
            .map(|finding| (finding.field.to_string(), finding.message))
            .collect::<Vec<_>>()
    };
    let ipc = [
        "ipc", "msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "shmat", "shmctl",
        "shmdt", "shmget",
    ];
    for listed in [&[X86][..], &[X86_64, X86], &[S390X], &[Mips]] {
        let found = told(listed, &["connect", "socketcall"]);
        assert_eq!(found.len(), 1, "{listed:?}");
        assert_eq!(found[0].0, "syscalls[1].names[1]");
        assert!(found[0].1.contains("through socketcall"), "{}", found[0].1);
        // With semop, semtimedop opens nothing.
        assert_eq!(told(listed, &ipc), []);
        let found = told(listed, &ipc[..11]);
        assert!(
            found[0].1.ends_with("that no entry allows: shmget"),
            "{}",
            found[0].1
        );
        assert_eq!(told(listed, &["connect", "shmget"]), []);
    }
    for listed in [&[X86_64][..], &[X86_64, X32], &[Aarch64], &[]] {
        assert_eq!(told(listed, &["socketcall", "ipc"]), [], "{listed:?}");
    }
    assert_eq!(told(&[X86], &["socketcall", "ipc"]).len(), 2);
    // Of calls that do the same, each one is as good as all.
    for (through, kin) in [
        ("socketcall", &["accept", "accept4"][..]),
        ("socketcall", &["recv", "recvfrom", "recvmmsg", "recvmsg"]),
        ("socketcall", &["send", "sendmmsg", "sendmsg", "sendto"]),
        ("ipc", &["semop", "semtimedop"]),
    ] {
        let others = calls_through(through).iter().copied();
        let without: Vec<_> = others
            .chain([through])
            .filter(|name| !kin.contains(name))
            .collect();
        let found = told(&[X86], &without);
        let end = format!("that no entry allows: {}", listed(kin));
        assert!(found[0].1.ends_with(&end), "{}", found[0].1);
        for one in kin {
            assert_eq!(told(&[X86], &[&without[..], &[*one]].concat()), [], "{one}");
        }
    }
    // What an entry denies is not allowed by it, and what a listener may let through is.
    for (action, is_told) in [
        (Action::Errno, true),
        (Action::Trace, true),
        (Action::Notify, false),
        (Action::Log, false),
    ] {
        let mut profile = good();
        profile.architectures = vec![X86];
        profile.syscalls.push(entry(Action::Allow, &ipc[..11]));
        profile.syscalls.push(entry(action, &ipc[11..]));
        let mut findings = findings(&profile).into_iter();
        let told = findings.any(|finding| finding.code == Code::OpenMultiplexer);
        assert_eq!(told, is_told, "{action}");
    }

    // Under a condition, denied, notified, or where all is allowed.
    let mut profile = good();
    profile.architectures = vec![X86_64, X86];
    profile.syscalls.push(entry(Action::Allow, &["socketcall"]));
    found(&profile, Code::OpenMultiplexer, "syscalls[1].names[0]");
    profile.syscalls[1].args = vec![Condition {
        index: 0,
        value: 3,
        value_two: None,
        op: Operator::Equal,
    }];
    accepted(&profile, Code::OpenMultiplexer);
    profile.syscalls[1].args.clear();
    for action in [Action::Errno, Action::KillProcess, Action::Notify] {
        profile.syscalls[1].action = action;
        accepted(&profile, Code::OpenMultiplexer);
    }
    profile.syscalls[1].action = Action::Log;
    found(&profile, Code::OpenMultiplexer, "syscalls[1].names[0]");
    profile.default_action = Action::Log;
    accepted(&profile, Code::OpenMultiplexer);
}

#[test]
fn an_empty_list_of_flags_is_told_and_one_that_is_absent_is_not() {
    let told = |flags: Option<&str>| {
        let flags = flags.map_or(String::new(), |flags| format!(r#", "flags": {flags}"#));
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW"{flags}, "syscalls": [{{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}}]}}"#
        );
        let findings = crate::profile::parse_spec(&serde_json::from_str(&text).unwrap())
            .unwrap()
            .findings();
        let empty = findings
            .into_iter()
            .find(|finding| finding.code == Code::EmptyFlags);
        empty.map(|finding| {
            let affects: Vec<_> = finding.affects.iter().map(ToString::to_string).collect();
            (finding.field.to_string(), affects.join(", "))
        })
    };
    assert_eq!(
        told(Some("[]")),
        Some(("flags".to_owned(), "runc from 1.2, crun".to_owned()))
    );
    assert_eq!(told(None), None);
    assert_eq!(told(Some(r#"["SECCOMP_FILTER_FLAG_LOG"]"#)), None);
}

#[test]
fn a_profile_without_effect_is_told() {
    for action in Action::ALL {
        let mut profile = good();
        profile.default_action = *action;
        profile.syscalls = vec![entry(*action, &["read"])];
        let count = usize::from(allows(*action));
        assert_eq!(places(&profile, Code::NoEffect).len(), count, "{action}");
        profile.syscalls.push(entry(Action::Trap, &["mount"]));
        accepted(&profile, Code::NoEffect);
    }
}

#[test]
fn killing_a_thread_is_told_by_default_and_in_entries() {
    for action in Action::ALL {
        let kills_thread = matches!(action, Action::Kill | Action::KillThread);
        let mut profile = good();
        profile.default_action = *action;
        assert_eq!(
            places(&profile, Code::KillThreadByDefault).len(),
            usize::from(kills_thread)
        );
        let mut profile = good();
        profile.syscalls.push(entry(*action, &["mount"]));
        assert_eq!(
            places(&profile, Code::KillThread).len(),
            usize::from(kills_thread)
        );
        let traces = usize::from(*action == Action::Trace);
        assert_eq!(places(&profile, Code::TraceWithoutTracer).len(), traces);
        profile.default_action = *action;
        assert_eq!(places(&profile, Code::TraceWithoutTracer).len(), 2 * traces);
    }
}

#[test]
fn the_cache_of_crun_is_told_once_at_the_first_errno_of_an_entry() {
    // The default's errno is part of what crun finds a filter by.
    accepted(&good(), Code::CrunErrnoCache);
    let mut profile = good();
    for name in ["mount", "mkdir", "chroot"] {
        profile.syscalls.push(entry(Action::Errno, &[name]));
    }
    accepted(&profile, Code::CrunErrnoCache);
    profile.syscalls[2].errno_ret = Errno::new(1);
    profile.syscalls[3].errno_ret = Errno::new(13);
    found(&profile, Code::CrunErrnoCache, "syscalls[2].errnoRet");
    // What must go anyway is told once, by the rule that says so.
    profile.syscalls[2].action = Action::Kill;
    found(&profile, Code::ErrnoMisplaced, "syscalls[2].errnoRet");
    found(&profile, Code::CrunErrnoCache, "syscalls[3].errnoRet");
    profile.syscalls[3].errno_ret = None;
    accepted(&profile, Code::CrunErrnoCache);
}

#[test]
fn odd_errnos_are_told_where_they_are_returned() {
    for (errno, zero, unnamed) in [
        (0, 1, 0),
        (1, 0, 0),
        (133, 0, 0),
        (134, 0, 1),
        (1133, 0, 0),
        (4094, 0, 1),
    ] {
        let mut profile = good();
        profile.syscalls.push(entry(Action::Errno, &["mount"]));
        profile.syscalls[1].errno_ret = Errno::new(errno);
        assert_eq!(places(&profile, Code::ErrnoZero).len(), zero, "{errno}");
        assert_eq!(places(&profile, Code::ErrnoUnnamed).len(), unnamed, "{errno}");
        found(&profile, Code::CrunErrnoCache, "syscalls[1].errnoRet");
        profile.default_errno_ret = Errno::new(errno);
        assert_eq!(places(&profile, Code::ErrnoZero).len(), 2 * zero, "{errno}");
        // For a tracer it is no errno.
        profile.default_action = Action::Trace;
        profile.syscalls[1].action = Action::Trace;
        accepted(&profile, Code::ErrnoZero);
        accepted(&profile, Code::ErrnoUnnamed);
    }
}

#[test]
fn thirty_two_bit_programs_are_thought_of() {
    let mut profile = good();
    profile.default_action = Action::Log;
    found(&profile, Code::NativeOnly, "defaultAction");
    profile.default_action = Action::Errno;
    accepted(&profile, Code::NativeOnly);

    for (listed, count) in [
        (vec![Architecture::X86, Architecture::X32], 2),
        (vec![Architecture::X86, Architecture::X86_64], 0),
        (vec![Architecture::S390], 1),
        (vec![Architecture::S390, Architecture::S390X], 0),
        (vec![Architecture::Arm], 0),
    ] {
        profile.architectures.clone_from(&listed);
        assert_eq!(places(&profile, Code::NativeNotListed).len(), count, "{listed:?}");
        accepted(&profile, Code::ForeignArchitecture);
    }
    profile.architectures = vec![Architecture::X86_64, Architecture::X86, Architecture::Aarch64];
    found(&profile, Code::ForeignArchitecture, "architectures[2]");
}

#[test]
fn every_architecture_belongs_to_one_family() {
    for first in Architecture::ALL {
        let mut profile = good();
        profile.architectures = vec![*first, *first];
        accepted(&profile, Code::ForeignArchitecture);
    }
}

#[test]
fn what_one_kernel_runs_is_no_foreign_architecture_and_all_else_is() {
    use Architecture::{Aarch64, Arm, Mips, Mips64, Mips64N32, Mipsel, Mipsel64, Mipsel64N32, Parisc};
    use Architecture::{Parisc64, Ppc, Ppc64, Ppc64Le, S390, S390X, X32, X86, X86_64};
    for family in [
        &[X86_64, X86, X32][..],
        &[Aarch64, Arm],
        &[Mips64, Mips, Mips64N32],
        &[Mipsel64, Mipsel, Mipsel64N32],
        &[Ppc64, Ppc],
        &[S390X, S390],
        &[Parisc64, Parisc],
    ] {
        let mut profile = good();
        profile.architectures = family.to_vec();
        accepted(&profile, Code::ForeignArchitecture);
        let is_of_another = |other: &&Architecture| {
            !family.contains(other) && other.is_big_endian() == family[0].is_big_endian()
        };
        for other in Architecture::ALL.iter().filter(is_of_another) {
            profile.architectures = vec![family[0], *other];
            found(&profile, Code::ForeignArchitecture, "architectures[1]");
        }
    }
    let mut profile = good();
    profile.architectures = vec![Ppc64Le, Architecture::Riscv64];
    found(&profile, Code::ForeignArchitecture, "architectures[1]");
}

#[test]
fn a_list_for_other_machines_alone_is_told_unless_the_profile_is_given_to_those() {
    use Architecture::{Aarch64, Arm, Mipsel, X32, X86, X86_64};
    let told = |listed: &[Architecture], label: Option<&str>| {
        let mut spec = spec(&good(), &[]);
        spec.profile.architectures = listed.to_vec();
        let labels = label.map(|label| ("kubernetes.io/arch".to_owned(), label.to_owned()));
        spec.node_selector = labels.into_iter().collect();
        let mut findings = on_machine(X86_64, &spec).into_iter();
        findings.next().map(|finding| {
            assert_eq!(
                (finding.code, finding.field.as_str()),
                (Code::NativeNotListed, "architectures")
            );
            finding.message
        })
    };
    let message = told(&[Aarch64, Arm], None).unwrap();
    assert!(message.starts_with("SCMP_ARCH_X86_64, "), "{message}");
    assert!(
        message.ends_with("with nodeSelector kubernetes.io/arch: arm64 in its manifest"),
        "{message}"
    );
    // As `resolve` lists them: a node is of the 64-bit one.
    assert_eq!(told(&[Arm, Aarch64], None), Some(message));
    assert!(
        told(&[Mipsel], None)
            .unwrap()
            .ends_with("with a nodeSelector in its manifest")
    );
    assert!(told(&[Aarch64], Some("amd64")).is_some());
    assert_eq!(told(&[Aarch64], Some("arm64")), None);
    // Without a list the native one is meant; of what is related, a rule tells.
    for listed in [
        &[][..],
        &[X86_64],
        &[Aarch64, X86_64],
        &[X86],
        &[X32],
        &[Aarch64, X86],
    ] {
        assert_eq!(told(listed, None), None, "{listed:?}");
    }
}

#[test]
fn a_list_of_the_other_byte_order_is_told_unless_the_profile_is_given_to_its_nodes() {
    use Architecture::{Aarch64, Mips64, S390, S390X, X86_64};
    let told = |native: Architecture, listed: &[Architecture], label: Option<&str>| {
        let mut spec = spec(&good(), &[]);
        spec.profile.architectures = listed.to_vec();
        let labels = label.map(|label| ("kubernetes.io/arch".to_owned(), label.to_owned()));
        spec.node_selector = labels.into_iter().collect();
        let findings = on_machine(native, &spec).into_iter();
        let mut told = findings.map(|finding| (finding.code, finding.field.to_string(), finding.message));
        let first = told.next();
        assert_eq!(told.next(), None);
        first
    };
    let (code, field, message) = told(X86_64, &[S390, S390X], None).unwrap();
    assert_eq!((code, field.as_str()), (Code::OtherByteOrder, "architectures"));
    assert!(
        message.starts_with(
            "SCMP_ARCH_S390 is big-endian and this machine little-endian, so no container starts"
        ),
        "{message}"
    );
    assert!(
        message.contains("with nodeSelector kubernetes.io/arch: s390x"),
        "{message}"
    );
    let (_, _, message) = told(X86_64, &[Mips64], None).unwrap();
    assert!(message.contains("with a nodeSelector"), "{message}");
    let (code, _, message) = told(S390X, &[X86_64], None).unwrap();
    assert_eq!(code, Code::OtherByteOrder);
    assert!(
        message.starts_with("SCMP_ARCH_X86_64 is little-endian and this machine big-endian"),
        "{message}"
    );
    for (native, listed, label) in [
        (X86_64, &[S390X][..], Some("s390x")),
        (X86_64, &[Mips64], Some("mips64")),
        (S390X, &[Aarch64], Some("arm64")),
        (S390X, &[S390X], None),
        (S390X, &[S390], None),
    ] {
        assert_eq!(told(native, listed, label), None, "{native} {listed:?}");
    }
}

#[test]
fn the_machine_itself_refuses_a_list_of_the_other_byte_order_and_says_whom_it_is_for() {
    use Architecture::{Ppc64, S390, S390X, X86_64};
    for (listed, selector) in [
        (&[S390X][..], "with nodeSelector kubernetes.io/arch: s390x"),
        (&[S390, S390X], "with nodeSelector kubernetes.io/arch: s390x"),
        (&[Ppc64], "with a nodeSelector"),
    ] {
        let mut profile = good();
        profile.architectures = listed.to_vec();
        let finding = unloadable(X86_64, &profile).unwrap();
        assert_eq!(
            (finding.code, finding.field.as_str()),
            (Code::CompileFailed, "architectures[0]")
        );
        assert!(
            finding.message.contains("It is for big-endian nodes:"),
            "{}",
            finding.message
        );
        let cure = format!("{selector} in its manifest, and install it on no other by hand");
        assert!(finding.message.ends_with(&cure), "{}", finding.message);
    }
}

#[test]
fn the_nodes_of_an_architecture_have_the_64_bit_one_of_its_family_and_byte_order() {
    use Architecture::{Arm, Mips, Mipsel64N32, Ppc, S390, Sh, Sheb, X32};
    for (architecture, native) in [
        (X32, Architecture::X86_64),
        (Arm, Architecture::Aarch64),
        (Mips, Architecture::Mips64),
        (Mipsel64N32, Architecture::Mipsel64),
        (Ppc, Architecture::Ppc64),
        (S390, Architecture::S390X),
        (Sh, Sh),
        (Sheb, Sheb),
    ] {
        assert_eq!(native_of(architecture), native);
    }
    for &architecture in Architecture::ALL {
        let native = native_of(architecture);
        assert!(
            native == architecture || architectures::runs(native, architecture),
            "{architecture}"
        );
        assert_eq!(native.is_big_endian(), architecture.is_big_endian());
    }
}

#[test]
fn a_mistake_that_settles_everything_is_told_without_what_it_makes_idle() {
    let codes = |profile: &Profile| -> Vec<Code> {
        findings(profile)
            .into_iter()
            .map(|finding| finding.code)
            .collect()
    };
    let mut profile = good();
    profile.architectures = vec![Architecture::X86_64, Architecture::S390X];
    assert_eq!(codes(&profile), [Code::MixedEndianness]);
    let mut profile = good();
    profile.default_errno_ret = None;
    profile.syscalls.clear();
    assert_eq!(codes(&profile), [Code::NothingAllowed]);
}

#[test]
fn risky_calls_are_told_by_kind_with_all_their_names() {
    let mut profile = good();
    profile.syscalls[0]
        .names
        .extend(["setns".to_owned(), "bpf".to_owned()]);
    profile.syscalls.push(entry(Action::Log, &["unshare", "setns"]));
    let risky: Vec<_> = findings(&profile)
        .into_iter()
        .filter(|finding| finding.code == Code::RiskySyscall)
        .map(|finding| (finding.field.to_string(), finding.message))
        .collect();
    assert_eq!(risky.len(), 2);
    assert_eq!(risky[0].0, "syscalls[0].names[2]");
    assert!(
        risky[0].1.starts_with("setns, unshare allowed: "),
        "{}",
        risky[0].1
    );
    assert_eq!(risky[1].0, "syscalls[0].names[3]");

    // Under a condition, denied, or notified.
    profile.syscalls = vec![
        entry(Action::Allow, &["read", "clone"]),
        entry(Action::Errno, &["bpf"]),
        entry(Action::Notify, &["mount"]),
    ];
    profile.syscalls[0].args = vec![Condition {
        index: 0,
        value: 0,
        value_two: None,
        op: Operator::Equal,
    }];
    accepted(&profile, Code::RiskySyscall);
    accepted(&profile, Code::RiskyByDefault);
}

#[test]
fn a_default_that_allows_says_how_many_risky_calls_it_lets_through() {
    let count = |profile: &Profile| {
        let mut findings = findings(profile).into_iter();
        let message = findings
            .find(|finding| finding.code == Code::RiskyByDefault)?
            .message;
        message.split(' ').nth(2).unwrap().parse::<usize>().ok()
    };
    let mut profile = good();
    profile.default_action = Action::Allow;
    profile.syscalls = vec![];
    let all = count(&profile).unwrap();
    assert!(all > 50, "{all}");
    profile.syscalls = vec![entry(Action::Errno, &["mount", "bpf", "read"])];
    assert_eq!(count(&profile), Some(all - 2));
    profile.syscalls.push(entry(Action::Allow, &["setns"]));
    assert_eq!(count(&profile), Some(all - 2));
    // What no architecture of the profile has cannot be let through: nfsservctl, stime, umount, vm86 and vm86old.
    profile.architectures = vec![Architecture::X86_64];
    let on_amd64 = count(&profile).unwrap();
    profile.architectures.push(Architecture::X86);
    assert!(on_amd64 < count(&profile).unwrap());
    profile.architectures = vec![Architecture::Aarch64];
    assert!(count(&profile).unwrap() < on_amd64);
}

#[test]
fn every_rule_that_is_broken_is_reported_the_worst_first() {
    let mut profile = good();
    profile.default_action = Action::Kill;
    profile.default_errno_ret = Errno::new(1);
    profile.listener_path = Some("/s".to_owned());
    profile.syscalls[0].errno_ret = Errno::new(1);
    let findings = findings(&profile);
    let fatal = findings.iter().take_while(|finding| finding.is_fatal()).count();
    assert_eq!(fatal, 3, "{findings:?}");
    assert!(findings.is_sorted_by_key(Finding::class));
    assert!(findings.len() > fatal);
}

#[test]
fn what_the_author_accepts_stays_visible_and_is_no_longer_fatal() {
    let mut profile = good();
    profile.syscalls.push(entry(Action::Log, &["opne", "mseal"]));
    let findings = spec(&profile, &["unknown-syscall", "newer-syscall"]).findings();
    assert_eq!(findings.len(), 2);
    assert!(
        findings
            .iter()
            .all(|finding| finding.accepted.is_some() && !finding.is_fatal())
    );
    // Another code accepts nothing of it.
    let findings = spec(&profile, &["errno-zero"]).findings();
    assert!(findings.iter().all(|finding| finding.accepted.is_none()));
    assert_eq!(findings.iter().filter(|finding| finding.is_fatal()).count(), 1);
}

#[test]
fn only_what_a_rule_says_can_be_accepted() {
    let mut profile = good();
    profile.syscalls.push(entry(Action::Log, &[""]));
    for code in Code::ALL {
        let findings = spec(&profile, &[code.as_str()]).findings();
        let refused = findings
            .iter()
            .find(|finding| finding.code == Code::BadAcceptance);
        assert_eq!(refused.is_none(), code.is_acceptable(), "{code}");
        assert!(
            findings
                .iter()
                .any(|finding| finding.code == Code::BadValue && finding.is_fatal())
        );
    }
    // Starts were tried on three runtimes, and an author may use another.
    let by_rule = |code: &Code| *code == Code::CannotStart || RULES.iter().any(|rule| rule.code == *code);
    let mut proofs = Code::ALL
        .iter()
        .filter(|code| !by_rule(code) && code.class() == Class::Invalid);
    assert!(proofs.all(|code| !code.is_acceptable()));
}

#[test]
fn a_code_that_is_none_is_told_with_the_nearest() {
    let findings = spec(&good(), &["errno-zero", "unknown-sycall", "frobnicate"]).findings();
    let told: Vec<_> = findings
        .iter()
        .map(|finding| (finding.code, finding.field.as_str(), finding.is_fatal()))
        .collect();
    assert_eq!(
        told,
        [
            (Code::BadAcceptance, "acceptFindings[1]", true),
            (Code::BadAcceptance, "acceptFindings[2]", true)
        ]
    );
    assert!(findings[0].message.contains("did you mean unknown-syscall?"));
}

#[test]
fn a_million_wrong_names_have_a_bounded_number_of_findings() {
    let mut profile = good();
    let names: Vec<String> = (0..1_000).map(|number| format!("frobnicat{number}")).collect();
    let wrong = Entry {
        names,
        ..entry(Action::Allow, &[])
    };
    profile.syscalls = vec![wrong; 1_000];
    let findings = findings(&profile);
    let unknown = findings
        .iter()
        .filter(|finding| finding.code == Code::UnknownSyscall);
    assert_eq!(unknown.clone().count(), Found::MAX);
    assert_eq!(unknown.map(|finding| 1 + finding.more).sum::<u32>(), 1_000_000);
    assert!(findings.len() < 1_000);
}

#[test]
fn beyond_the_limit_one_finding_is_listed_for_whom_no_other_is() {
    const RUNC: &[Affected] = &[Affected::always(Software::Runc)];
    let mut found = Found::new(Code::NewerSyscall);
    let add = |found: &mut Found, affects| found.add_for(affects, || (FieldPath::root(), "why".to_owned()));
    (0..Found::MAX + 3).for_each(|_| add(&mut found, &[]));
    (0..4).for_each(|_| add(&mut found, RUNC));
    add(&mut found, &[]);
    let findings = found.finish();
    let more = |affects: &[Affected]| {
        let of_these = findings.iter().filter(|finding| *finding.affects == *affects);
        of_these.fold((0, 0), |(listed, more), finding| {
            (listed + 1, more + finding.more)
        })
    };
    assert_eq!((more(&[]), more(RUNC)), ((Found::MAX, 4), (1, 3)));
}

#[test]
fn long_lists_are_cut_in_messages() {
    let names: Vec<_> = (0..20).map(|number| format!("n{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(listed(&names[..8]), names[..8].join(", "));
    assert_eq!(listed(&names), format!("{} and 12 more", names[..8].join(", ")));
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
    let mut profile = listening();
    profile.listener_path = Some("/run/agents/../a.sock".to_owned());
    let finding = listener_allowed(&profile, &["/run/agents".to_owned()]).unwrap();
    assert!(finding.message.contains("with .. in it"), "{}", finding.message);
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

/// What comes of a profile when the cure of a rule is followed, in each way that the cure names and no example shows.
const OTHER_CURES: &[(Code, &str)] = &[
    (
        Code::NoClone3Answer,
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["execve", "mseal"], "action": "SCMP_ACT_ALLOW"}, {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#,
    ),
    (
        Code::RepeatedArgument,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_LT", "value": 10}]}, {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_GT", "value": 20}]}]}"#,
    ),
    (
        Code::RepeatedArgument,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}]}, {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 4294967294, "valueTwo": 2}]}]}"#,
    ),
    (
        Code::NativeOnly,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
    ),
    (
        Code::UnusedValueTwo,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 9, "valueTwo": 8}]}]}"#,
    ),
    (
        Code::UpperHalf,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_GE", "value": 38}]}]}"#,
    ),
    (
        Code::NotifyWithoutListener,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
    ),
    (
        Code::RiskySyscall,
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["execve", "clone3"], "action": "SCMP_ACT_ALLOW"}]}"#,
    ),
    (
        Code::TraceWithoutTracer,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#,
    ),
];

#[test]
fn who_follows_a_cure_meets_no_other_finding_but_what_may_be_accepted() {
    let codes = |profile: &Profile| -> BTreeSet<Code> {
        findings(profile)
            .into_iter()
            .map(|finding| finding.code)
            .collect()
    };
    for rule in RULES {
        let example = rule.doc.example.as_ref().unwrap();
        let before = codes(&json(example.refused));
        let others = OTHER_CURES.iter().filter(|(code, _)| *code == rule.code);
        for cured in others.map(|(_, text)| *text).chain([example.accepted]) {
            let after = codes(&json(cured));
            assert!(!after.contains(&rule.code), "{}: {cured}", rule.code);
            let new: Vec<_> = after
                .difference(&before)
                .filter(|code| !is_informational(**code))
                .collect();
            assert_eq!(new, [] as [&Code; 0], "{}: {cured}", rule.code);
        }
    }
}

#[test]
fn what_a_cure_may_lead_to_says_that_it_may_be_accepted() {
    for rule in RULES.iter().filter(|rule| is_informational(rule.code)) {
        assert!(rule.code.is_acceptable(), "{}", rule.code);
        assert!(rule.doc.cure.to_lowercase().contains("accept"), "{}", rule.code);
        for finding in rule.findings(&json(rule.doc.example.as_ref().unwrap().refused)) {
            assert!(finding.message.contains("accept it"), "{}", finding.message);
        }
    }
}
