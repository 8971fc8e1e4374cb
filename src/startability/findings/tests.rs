use super::*;
use crate::profile::{Architecture, Class, Version};
use crate::startability::{CallAnswer, PORTABLE_START, PORTABLE_START_PRIVILEGED, start_calls};

fn denied(denials: Denials) -> CallAnswer {
    CallAnswer {
        denials,
        is_always_denied: true,
        ..CallAnswer::default()
    }
}

/// A profile that denies some calls in one way.
fn denying(denials: Denials, is_denied: impl Fn(&str) -> bool) -> Vec<Finding> {
    let answers = StartAnswers::new(|call| {
        if is_denied(call.name) {
            denied(denials)
        } else {
            CallAnswer::default()
        }
    });
    findings(&allowing("{}"), &answers)
}

fn allowing(entry: &str) -> Profile {
    let entries = if entry == "{}" { "" } else { entry };
    let text = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{entries}]}}"#);
    Profile::from_canonical(text.as_bytes()).unwrap()
}

/// Code, and whom it affects.
fn told(findings: &[Finding]) -> Vec<(Code, String)> {
    let affects = |finding: &Finding| {
        let all: Vec<String> = finding.affects.iter().map(ToString::to_string).collect();
        all.join(", ")
    };
    findings
        .iter()
        .map(|finding| (finding.code, affects(finding)))
        .collect()
}

#[test]
fn where_nothing_is_denied_there_is_nothing_to_say() {
    assert_eq!(denying(Denials::KILL, |_| false), []);
}

#[test]
fn without_execve_no_container_starts_and_that_is_invalid() {
    let findings = denying(Denials::EPERM, |name| name == "execve");
    let [finding] = &findings[..] else {
        panic!("{findings:?}")
    };
    assert_eq!(
        (finding.code, finding.class()),
        (Code::CannotStart, Class::Invalid)
    );
    assert!(finding.is_fatal());
    assert_eq!(finding.witness.as_deref(), Some("execve()"));
    assert!(finding.message.ends_with("Allow it"), "{}", finding.message);
    // An errno on close keeps runc from starting, and crun gets over it.
    assert!(
        denying(Denials::EPERM, |name| name == "close")
            .iter()
            .all(|finding| finding.code == Code::StartFails)
    );
    let killed = denying(Denials::KILL, |name| name == "close");
    assert_eq!(killed[0].code, Code::CannotStart);
}

#[test]
fn a_runtime_that_cannot_start_is_named_with_its_versions_and_what_it_needs() {
    let statx = denying(Denials::EPERM, |name| name == "statx");
    assert_eq!(
        told(&statx),
        [
            (
                Code::StartFails,
                "runc from 1.2.8 before 1.3, runc from 1.3.3".to_owned()
            ),
            (Code::StartFails, "youki".to_owned())
        ]
    );
    let message = &statx[0].message;
    assert!(
        message.starts_with("runc 1.5.2, 1.4.4, 1.4.0, 1.3.4 and 1.2.9 cannot start a container")
            && message.contains("they need statx, which")
            && message.contains("Other versions were not tried"),
        "{message}"
    );
    assert!(
        statx[1].message.starts_with("youki 0.7.0 cannot start")
            && statx[1].message.contains("it needs statx"),
        "{}",
        statx[1].message
    );
    let concerns = |version| statx[0].affects.iter().any(|one| one.contains(version));
    assert!(
        concerns(Version::new(1, 2, 8)) && concerns(Version::new(1, 4, 2)) && concerns(Version::new(1, 6, 0))
    );
    assert!(!concerns(Version::new(1, 2, 7)) && !concerns(Version::new(1, 3, 0)));

    let both = denying(Denials::EPERM, |name| name == "fstatfs");
    assert_eq!(told(&both), [(Code::StartFails, "runc".to_owned())]);
}

#[test]
fn where_there_is_a_second_way_the_first_is_named_once_both_are_denied() {
    let one = denying(Denials::EPERM, |name| name == "openat2");
    assert_eq!(one, []);
    let both = denying(Denials::EPERM, |name| ["openat2", "readlinkat"].contains(&name));
    assert_eq!(
        told(&both),
        [(
            Code::StartFails,
            "runc from 1.2.8 before 1.3, runc from 1.3.3".to_owned()
        )]
    );
    assert!(
        both[0].message.contains("they need openat2, which"),
        "{}",
        both[0].message
    );
}

#[test]
fn versions_that_lack_different_calls_are_told_of_together() {
    // runc 1.2.6 and 1.1.5 ask for their number and poll, 1.3.2 polls, 1.2.9 asks for its number.
    let findings = denying(Denials::KILL, |name| ["getpid", "epoll_ctl"].contains(&name));
    let never = &findings[0];
    assert_eq!(
        told(std::slice::from_ref(never)),
        [(Code::StartFails, "runc before 1.3.3".to_owned())]
    );
    assert!(
        never
            .message
            .starts_with("runc 1.3.2, 1.2.9, 1.2.6 and 1.1.5 cannot")
            && never
                .message
                .contains("they need one or another of epoll_ctl, getpid, which"),
        "{}",
        never.message
    );
}

#[test]
fn crun_that_cannot_close_a_range_needs_what_it_looks_for_descriptors_with() {
    let denied = |range| {
        let answers = StartAnswers::new(|call| match call.name {
            "close_range" => denied(range),
            "fstatfs" => denied(Denials::KILL),
            _ => CallAnswer::default(),
        });
        let findings = findings(&allowing("{}"), &answers);
        let of_crun = findings
            .into_iter()
            .filter(|finding| finding.affects[0].software == Software::Crun);
        told(&of_crun.collect::<Vec<_>>())
    };
    assert_eq!(
        denied(Denials::EPERM),
        [(Code::StartFails, "crun from 1.9".to_owned())]
    );
    assert_eq!(denied(Denials::OTHER), []);
}

#[test]
fn what_fails_now_and_then_is_told_so() {
    let findings = denying(Denials::EPERM, |name| name == "rt_sigreturn");
    assert_eq!(told(&findings), [(Code::StartFails, "runc".to_owned())]);
    assert!(
        findings[0].message.contains("now and then"),
        "{}",
        findings[0].message
    );
}

#[test]
fn the_portable_calls_are_enough_with_no_new_privs_and_the_others_without() {
    let listed = denying(Denials::ENOSYS, |name| !PORTABLE_START.contains(&name));
    assert_eq!(
        told(&listed),
        ["runc", "crun", "youki"].map(|runtime| (Code::NeedsNoNewPrivs, runtime.to_owned()))
    );
    assert!(listed.iter().all(|finding| finding.class() == Class::NotPortable));
    let all = denying(Denials::ENOSYS, |name| {
        !PORTABLE_START.contains(&name) && !PORTABLE_START_PRIVILEGED.contains(&name)
    });
    assert_eq!(all, []);
}

#[test]
fn what_ordinary_users_alone_need_is_told_so() {
    let findings = denying(Denials::KILL, |name| name == "fchown");
    assert_eq!(told(&findings), [(Code::NeedsNoNewPrivs, "runc".to_owned())]);
    assert!(
        findings[0]
            .message
            .contains("allowPrivilegeEscalation: false or as root;"),
        "{}",
        findings[0].message
    );
}

#[test]
fn runc_answers_a_call_that_it_takes_for_unknown_in_its_own_way() {
    // youki falls back from ENOSYS alone, runc needs statx in any case.
    let answers = |denials, is_unknown_to_runc| {
        StartAnswers::new(|call| match call.name {
            "faccessat2" => CallAnswer {
                is_unknown_to_runc,
                ..denied(denials)
            },
            _ => CallAnswer::default(),
        })
    };
    let profile = allowing("{}");
    let killed = findings(&profile, &answers(Denials::KILL, false));
    assert_eq!(told(&killed), [(Code::NeedsNoNewPrivs, "runc".to_owned())]);
    // Old runc has no such answer unless the profile lists the architecture.
    let stubbed = findings(&profile, &answers(Denials::KILL, true));
    assert_eq!(
        told(&stubbed),
        [(Code::NeedsNoNewPrivs, "runc before 1.2".to_owned())]
    );
    let mut listed = profile.clone();
    listed.architectures.extend(crate::filter::native());
    assert_eq!(findings(&listed, &answers(Denials::KILL, true)), []);
    let mut others = profile;
    others.architectures.push(Architecture::X86);
    assert_eq!(
        told(&findings(&others, &answers(Denials::KILL, true))),
        told(&stubbed)
    );
    // Nobody else has it: runc gets over ENOSYS where crun meets the profile's answer.
    let of_crun = StartAnswers::new(|call| match call.name {
        "close_range" => CallAnswer {
            is_unknown_to_runc: true,
            ..denied(Denials::KILL)
        },
        _ => CallAnswer::default(),
    });
    assert_eq!(
        told(&findings(&listed, &of_crun)),
        [(Code::StartFails, "crun from 1.9".to_owned())]
    );
}

#[test]
fn versions_that_touch_are_told_as_one_range_and_others_apart() {
    let version = |minor| Version::new(1, minor, 0);
    let between = |from: Option<u16>, before: Option<u16>| Affected {
        software: Software::Runc,
        from: from.map(version),
        before: before.map(version),
    };
    for (ranges, expected) in [
        // In any order, and where one lies in another.
        (
            vec![between(Some(4), None), between(None, Some(2))],
            vec![between(None, Some(2)), between(Some(4), None)],
        ),
        (
            vec![between(Some(2), Some(3)), between(None, Some(2))],
            vec![between(None, Some(3))],
        ),
        (
            vec![between(Some(1), Some(5)), between(Some(2), Some(3))],
            vec![between(Some(1), Some(5))],
        ),
        (
            vec![between(Some(1), Some(3)), between(Some(2), Some(5))],
            vec![between(Some(1), Some(5))],
        ),
        (
            vec![between(Some(1), None), between(Some(2), Some(3))],
            vec![between(Some(1), None)],
        ),
        (
            vec![between(None, Some(2)), between(None, None)],
            vec![between(None, None)],
        ),
        (
            vec![between(Some(1), Some(2)), between(Some(3), Some(4))],
            vec![between(Some(1), Some(2)), between(Some(3), Some(4))],
        ),
    ] {
        assert_eq!(versions(ranges.clone().into_iter()), expected, "{ranges:?}");
    }
}

#[test]
fn what_is_taken_to_need_the_same_covers_every_version_and_holds_the_one_that_was_started() {
    for software in [Software::Runc, Software::Crun, Software::Youki] {
        let needs = START_NEEDS.iter().filter(|needs| needs.runtime == software);
        assert_eq!(
            versions(needs.clone().map(|needs| needs.versions)),
            [Affected::always(software)]
        );
        for needs in needs {
            let started = needs.version.parse().unwrap();
            assert!(needs.versions.contains(started), "{software:?} {}", needs.version);
        }
    }
}

#[test]
fn a_start_that_hangs_is_told_so() {
    let hangs = |findings: &[Finding]| -> Vec<bool> {
        findings
            .iter()
            .map(|finding| finding.message.contains("hangs"))
            .collect()
    };
    assert_eq!(hangs(&denying(Denials::EPERM, |name| name == "fstatfs")), [false]);
    let without_exit = denying(Denials::EPERM, |name| ["fstatfs", "exit_group"].contains(&name));
    assert_eq!(hangs(&without_exit), [true]);
    let answers = StartAnswers::new(|call| match call.name {
        "statx" => CallAnswer {
            kills_thread: true,
            ..denied(Denials::KILL)
        },
        _ => CallAnswer::default(),
    });
    // A process that is killed for its exit has ended.
    let deadly = denying(Denials::KILL, |name| ["fstatfs", "exit_group"].contains(&name));
    assert_eq!(hangs(&deadly), [false]);
    // And one that is killed for another call needs no exit.
    let killed = StartAnswers::new(|call| match call.name {
        "fstatfs" => denied(Denials::KILL),
        "exit_group" => denied(Denials::EPERM),
        _ => CallAnswer::default(),
    });
    assert_eq!(hangs(&findings(&allowing("{}"), &killed)), [false]);
    // youki is no program of Go's.
    assert_eq!(hangs(&findings(&allowing("{}"), &answers)), [true, false]);
}

#[test]
fn a_finding_points_to_the_entry_that_denies_or_to_the_default() {
    let entry = r#"{"names": ["read", "execve"], "action": "SCMP_ACT_ALLOW"},
                   {"names": ["getcwd", "execve"], "action": "SCMP_ACT_ERRNO"}"#;
    let answers = StartAnswers::new(|call| match call.name {
        "execve" => denied(Denials::EPERM),
        _ => CallAnswer::default(),
    });
    let place = |profile: &Profile| findings(profile, &answers)[0].field.to_string();
    assert_eq!(place(&allowing(entry)), "syscalls[1].names[1]");
    assert_eq!(place(&allowing("{}")), "defaultAction");
    let conditional = r#"{"names": ["execve"], "action": "SCMP_ACT_ALLOW",
                          "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]}"#;
    assert_eq!(place(&allowing(conditional)), "syscalls[0].names[0]");
}

#[test]
fn a_listener_is_told_for_the_runtimes_that_ask_it_before_the_program_does() {
    let asked = |names: &'static [&'static str]| {
        let answers = StartAnswers::new(|call| CallAnswer {
            asks_listener: names.contains(&call.name),
            ..CallAnswer::default()
        });
        let findings = findings(&allowing("{}"), &answers);
        let message = findings.first().map(|finding| finding.message.clone());
        (told(&findings), message.unwrap_or_default())
    };
    for (names, who, says) in [
        (
            &["openat", "getcwd"][..],
            "runc, youki",
            "runc and youki themselves may call getcwd, openat before the program starts: runc then waits for the \
             listener, and containers start only if that lets those through at once; with youki none may start",
        ),
        (
            &["setgroups"],
            "runc",
            "runc itself may call setgroups before the program starts: runc then waits for the listener, and containers \
             start only if that lets that through at once",
        ),
        (
            &["sendmsg", "socket"],
            "youki",
            "youki itself may call sendmsg, socket before the program starts, and then none may start with it",
        ),
        (
            &["setgroups", "sendmsg"],
            "runc, youki",
            "runc itself may call setgroups, and youki sendmsg, before the program starts: runc then waits for the \
             listener, and containers start only if that lets that through at once; with youki none may start",
        ),
    ] {
        let (codes, message) = asked(names);
        assert_eq!(codes, [(Code::NotifyAtStart, who.to_owned())]);
        assert_eq!(message, says);
    }
    // crun starts all the same, and nothing else asks.
    assert_eq!(asked(&["pselect6"]).0, []);
    assert_eq!(asked(&["mount"]).0, []);
}

#[test]
fn the_reference_lists_the_portable_start_set() {
    let explained = crate::profile::explain(Code::CannotStart);
    let more = crate::profile::explain(Code::NeedsNoNewPrivs);
    let listed =
        |text: &str, name: &str| text.contains(&format!(" {name},")) || text.contains(&format!(" {name}."));
    for name in PORTABLE_START {
        assert!(listed(&explained, name), "{name}");
    }
    for name in PORTABLE_START_PRIVILEGED {
        assert!(listed(&more, name), "{name}");
    }
    assert!(start_calls().count() > 40);
}

#[test]
fn what_depends_on_arguments_that_nobody_knows_is_told_as_possible() {
    let sometimes = |denied: &'static str| {
        let answers = StartAnswers::new(|call| CallAnswer {
            denials: if call.name == denied {
                Denials::EPERM
            } else {
                Denials::NONE
            },
            ..CallAnswer::default()
        });
        findings(&allowing("{}"), &answers)
    };
    let execve = sometimes("execve");
    assert_eq!(
        told(&execve),
        ["runc", "crun", "youki"].map(|runtime| (Code::StartFails, runtime.to_owned()))
    );
    assert!(
        execve[0].message.starts_with("runc 1.5.2, 1.4.4")
            && execve[0].message.contains("they call execve, and"),
        "{}",
        execve[0].message
    );
    let setuid = sometimes("setuid");
    assert_eq!(told(&setuid), [(Code::NeedsNoNewPrivs, "runc".to_owned())]);
    assert!(
        setuid[0].message.contains("1.1.5 may be unable"),
        "{}",
        setuid[0].message
    );
}
