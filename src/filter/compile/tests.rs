use super::*;
use crate::filter::{SeccompData, audit_token};
use crate::profile::native_of;

fn rule(names: &[&str], action: Action) -> Rule {
    Rule {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        action,
        errno_ret: None,
        args: vec![],
    }
}

fn errno_rule(names: &[&str], errno: u16) -> Rule {
    Rule {
        errno_ret: Errno::new(errno),
        ..rule(names, Action::Errno)
    }
}

fn when(rule: Rule, args: &[Condition]) -> Rule {
    Rule {
        args: args.to_vec(),
        ..rule
    }
}

fn condition(index: u8, op: Operator, value: u64) -> Condition {
    Condition {
        index,
        value,
        value_two: None,
        op,
    }
}

fn masked(index: u8, mask: u64, datum: u64) -> Condition {
    Condition {
        index,
        value: mask,
        value_two: Some(datum),
        op: Operator::MaskedEqual,
    }
}

fn profile(default_action: Action, syscalls: Vec<Rule>) -> Profile {
    Profile {
        default_action,
        default_errno_ret: None,
        architectures: vec![],
        flags: vec![],
        listener_path: None,
        listener_metadata: None,
        syscalls,
    }
}

fn call(architecture: Architecture, name: &str, args: &[u64]) -> SeccompData {
    let number = ScmpSyscall::from_name_by_arch(name, to_libseccomp(architecture)).unwrap();
    let mut data = SeccompData {
        nr: number.as_raw_syscall().cast_unsigned(),
        arch: audit_token(architecture),
        ..SeccompData::default()
    };
    data.args[..args.len()].copy_from_slice(args);
    data
}

/// What the filter answers to a native call.
fn answer(filter: &Filter, name: &str, args: &[u64]) -> u32 {
    filter.program.run(&call(native().unwrap(), name, args))
}

fn errno(number: u32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number
}

fn finding(profile: &Profile) -> Finding {
    compile(profile).unwrap_err().finding().unwrap()
}

#[test]
fn each_call_gets_the_answer_of_its_entry_and_all_others_the_default() {
    let trace = Rule {
        errno_ret: Errno::new(7),
        ..rule(&["reboot"], Action::Trace)
    };
    let profile = Profile {
        default_errno_ret: Errno::new(38),
        ..profile(
            Action::Errno,
            vec![
                rule(&["read", "write"], Action::Allow),
                errno_rule(&["getcwd"], 5),
                rule(&["ptrace"], Action::KillProcess),
                rule(&["bpf"], Action::Kill),
                rule(&["mount"], Action::Trap),
                rule(&["chdir"], Action::Log),
                rule(&["umount2"], Action::Notify),
                trace,
            ],
        )
    };
    let filter = compile(&profile).unwrap();
    let expected = [
        ("read", libc::SECCOMP_RET_ALLOW),
        ("write", libc::SECCOMP_RET_ALLOW),
        ("getcwd", errno(5)),
        ("ptrace", libc::SECCOMP_RET_KILL_PROCESS),
        ("bpf", libc::SECCOMP_RET_KILL_THREAD),
        ("mount", libc::SECCOMP_RET_TRAP),
        ("chdir", libc::SECCOMP_RET_LOG),
        ("umount2", libc::SECCOMP_RET_USER_NOTIF),
        ("reboot", libc::SECCOMP_RET_TRACE | 7),
        ("openat", errno(38)),
        ("exit_group", errno(38)),
    ];
    for (name, expected) in expected {
        assert_eq!(answer(&filter, name, &[]), expected, "{name}");
    }
    assert!(filter.unknown_names.is_empty());
}

#[test]
fn an_errno_is_eperm_where_the_profile_names_none_and_may_be_zero_or_the_highest() {
    let entries = vec![errno_rule(&["chdir"], 0), errno_rule(&["getcwd"], Errno::MAX)];
    let filter = compile(&profile(Action::Errno, entries)).unwrap();
    assert_eq!(answer(&filter, "read", &[]), errno(1));
    assert_eq!(answer(&filter, "chdir", &[]), errno(0));
    assert_eq!(answer(&filter, "getcwd", &[]), errno(4094));

    let unsaid = compile(&profile(Action::Allow, vec![rule(&["getcwd"], Action::Errno)])).unwrap();
    assert_eq!(answer(&unsaid, "getcwd", &[]), errno(1));
}

#[test]
fn every_operator_compares_all_64_bits() {
    let pivots = [
        0,
        1,
        0x7fff_ffff,
        0xffff_ffff,
        0x1_0000_0000,
        0x8000_0000_0000_0000,
        u64::MAX,
    ];
    for &op in Operator::ALL {
        for pivot in pivots {
            let condition = match op {
                Operator::MaskedEqual => masked(2, pivot, pivot & 0x5555_5555_5555_5555),
                _ => condition(2, op, pivot),
            };
            let holds = |argument: u64| match op {
                Operator::NotEqual => argument != pivot,
                Operator::Less => argument < pivot,
                Operator::LessOrEqual => argument <= pivot,
                Operator::Equal => argument == pivot,
                Operator::GreaterOrEqual => argument >= pivot,
                Operator::Greater => argument > pivot,
                Operator::MaskedEqual => argument & pivot == pivot & 0x5555_5555_5555_5555,
            };
            let entry = when(rule(&["ioctl"], Action::Allow), &[condition]);
            let filter = compile(&profile(Action::Errno, vec![entry])).unwrap();
            for near in pivots {
                for argument in [near.wrapping_sub(1), near, near.wrapping_add(1)] {
                    let expected = if holds(argument) {
                        libc::SECCOMP_RET_ALLOW
                    } else {
                        errno(1)
                    };
                    let found = answer(&filter, "ioctl", &[9, 9, argument]);
                    assert_eq!(found, expected, "{argument:#x} {op} {pivot:#x}");
                }
            }
        }
    }
}

#[test]
fn a_masked_comparison_takes_value_as_the_mask_and_value_two_as_the_datum() {
    let entry = when(rule(&["clone"], Action::Allow), &[masked(0, 0x7E02_0000, 0)]);
    let filter = compile(&profile(Action::Errno, vec![entry])).unwrap();
    assert_eq!(answer(&filter, "clone", &[0x11]), libc::SECCOMP_RET_ALLOW);
    assert_eq!(answer(&filter, "clone", &[0x1000_0000]), errno(1));
}

#[test]
fn conditions_of_one_entry_must_all_hold_and_entries_stand_for_themselves() {
    let entries = vec![
        when(
            rule(&["socket"], Action::Allow),
            &[condition(0, Operator::Equal, 2), condition(1, Operator::Equal, 1)],
        ),
        when(
            rule(&["socket"], Action::Allow),
            &[condition(0, Operator::Equal, 1)],
        ),
    ];
    let filter = compile(&profile(Action::Errno, entries)).unwrap();
    assert_eq!(answer(&filter, "socket", &[2, 1]), libc::SECCOMP_RET_ALLOW);
    assert_eq!(answer(&filter, "socket", &[1, 7]), libc::SECCOMP_RET_ALLOW);
    assert_eq!(answer(&filter, "socket", &[2, 2]), errno(1));
}

#[test]
fn an_entry_with_the_default_answer_is_left_out() {
    let same = vec![errno_rule(&["getcwd"], 1), rule(&["chdir"], Action::Allow)];
    let without = vec![rule(&["chdir"], Action::Allow)];
    assert_eq!(
        compile(&profile(Action::Errno, same)).unwrap().program,
        compile(&profile(Action::Errno, without)).unwrap().program,
    );
    let another = vec![errno_rule(&["getcwd"], 38), rule(&["chdir"], Action::Allow)];
    let filter = compile(&profile(Action::Errno, another)).unwrap();
    assert_eq!(answer(&filter, "getcwd", &[]), errno(38));
    // The two names of one action.
    let kill = vec![rule(&["getcwd"], Action::Kill), rule(&["chdir"], Action::Allow)];
    assert!(compile(&profile(Action::KillThread, kill)).is_ok());
}

#[test]
fn names_that_libseccomp_does_not_know_are_left_out_and_told_once() {
    let long = "x".repeat(200);
    let names = ["read", "frobnicate", "Read", "frobnicate", "", "a\0b", &long];
    let filter = compile(&profile(Action::Errno, vec![rule(&names, Action::Allow)])).unwrap();
    assert_eq!(filter.unknown_names, ["frobnicate", "Read", "", "a\0b", &long]);
    assert_eq!(answer(&filter, "read", &[]), libc::SECCOMP_RET_ALLOW);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn every_architecture_of_the_profile_is_answered_and_no_other() {
    use Architecture::{Aarch64, X32, X86, X86_64};
    let profile = Profile {
        architectures: vec![X86, X32, X86],
        ..profile(Action::Allow, vec![errno_rule(&["getcwd"], 9)])
    };
    let filter = compile(&profile).unwrap();
    assert_eq!(filter.architectures, [X86_64, X86, X32]);
    for architecture in [X86_64, X86, X32] {
        let run = |name| filter.program.run(&call(architecture, name, &[]));
        assert_eq!(run("getcwd"), errno(9), "{architecture}");
        assert_eq!(run("read"), libc::SECCOMP_RET_ALLOW, "{architecture}");
    }
    assert_eq!(
        filter.program.run(&call(Aarch64, "read", &[])),
        libc::SECCOMP_RET_KILL_THREAD
    );
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_size_is_told_per_architecture() {
    use Architecture::{X32, X86, X86_64};
    let entries: Vec<Rule> = (0..50)
        .map(|value| {
            when(
                rule(&["personality"], Action::Allow),
                &[condition(0, Operator::Equal, value)],
            )
        })
        .collect();
    let one = compile(&profile(Action::Errno, entries.clone())).unwrap();
    let three = compile(&Profile {
        architectures: vec![X86_64, X86, X32],
        ..profile(Action::Errno, entries)
    })
    .unwrap();
    let size = |filter: &Filter, architecture| filter.program.reachable(architecture) as usize;

    assert!(
        (50..=one.program.len()).contains(&size(&one, X86_64)),
        "{}",
        size(&one, X86_64)
    );
    // Another architecture meets the comparison of its name, and the refusal.
    assert!(size(&one, Architecture::Aarch64) <= 4);
    for architecture in [X86_64, X86, X32] {
        assert!(
            (50..three.program.len()).contains(&size(&three, architecture)),
            "{architecture}"
        );
    }
}

#[test]
fn two_answers_to_one_call_are_refused_at_the_second_entry() {
    let condition = [condition(0, Operator::Equal, 1)];
    let entries = vec![
        rule(&["read"], Action::Allow),
        when(errno_rule(&["socket"], 5), &condition),
        when(errno_rule(&["bind", "socket"], 6), &condition),
    ];
    let finding = finding(&profile(Action::Allow, entries));
    assert_eq!(finding.code, Code::CompileFailed);
    assert_eq!(finding.field.as_str(), "syscalls[2]");
    for part in ["\"socket\"", "args[0]", "EEXIST", "differently"] {
        assert!(finding.message.contains(part), "{part} in {}", finding.message);
    }
}

#[test]
fn two_conditions_on_one_argument_are_refused() {
    let range = [
        condition(0, Operator::GreaterOrEqual, 1),
        condition(0, Operator::LessOrEqual, 9),
    ];
    let finding = finding(&profile(
        Action::Errno,
        vec![when(rule(&["socket"], Action::Allow), &range)],
    ));
    assert_eq!(finding.field.as_str(), "syscalls[0]");
    assert!(
        finding.message.contains("two conditions on one argument"),
        "{}",
        finding.message
    );
}

#[test]
fn both_byte_orders_in_one_profile_are_refused() {
    let foreign = if cfg!(target_endian = "little") {
        Architecture::S390X
    } else {
        Architecture::X86_64
    };
    let finding = finding(&Profile {
        architectures: vec![native().unwrap(), foreign],
        ..profile(Action::Allow, vec![])
    });
    assert_eq!(finding.field.as_str(), "architectures[1]");
    assert!(
        finding.message.contains("cannot hold both byte orders"),
        "{}",
        finding.message
    );
}

/// Of the byte order that this machine does not have, those that libseccomp 2.5 knows.
fn of_the_other_order() -> Vec<Architecture> {
    let others = Architecture::ALL.iter().copied();
    others
        .filter(|one| ByteOrder::of(*one) != ByteOrder::HERE && is_known(*one))
        .collect()
}

#[test]
fn a_list_of_the_other_byte_order_is_compiled_as_on_a_node_of_its_own() {
    let all = of_the_other_order();
    assert!(all.len() > 7, "{all:?}");
    let lists = all.iter().map(|one| vec![*one]).chain([all.clone()]);
    for listed in lists {
        let some = when(
            errno_rule(&["kill"], 7),
            &[condition(0, Operator::Greater, 0x1_2345_6789)],
        );
        let filter = compile(&Profile {
            architectures: listed.clone(),
            ..profile(Action::Allow, vec![errno_rule(&["mkdirat"], 9), some])
        })
        .unwrap();
        let node = native_of(listed[0]);
        assert_eq!(filter.architectures.first(), Some(&node));
        assert!(!filter.architectures.contains(&native().unwrap()));
        assert_eq!(filter.program.byte_order(), ByteOrder::of(node));
        // The node's own is in it as well, where a 32-bit one alone is listed.
        for &architecture in listed.iter().chain([&node]) {
            assert!(filter.architectures.contains(&architecture));
            let answer = |name: &str, args: &[u64]| filter.program.run(&call(architecture, name, args));
            assert_eq!(answer("mkdirat", &[]), errno(9), "{architecture}");
            assert_eq!(answer("getpid", &[]), libc::SECCOMP_RET_ALLOW, "{architecture}");
            if !architecture.compares_32_bits() {
                assert_eq!(
                    answer("kill", &[0x1_2345_6789]),
                    libc::SECCOMP_RET_ALLOW,
                    "{architecture}"
                );
                assert_eq!(answer("kill", &[0x1_2345_678a]), errno(7), "{architecture}");
                assert_eq!(
                    answer("kill", &[0x2345_678a]),
                    libc::SECCOMP_RET_ALLOW,
                    "{architecture}"
                );
            }
        }
        // This machine's own calls are strangers to it.
        let stranger = call(native().unwrap(), "getpid", &[]);
        assert_eq!(filter.program.run(&stranger), libc::SECCOMP_RET_KILL_THREAD);
    }
}

#[test]
fn an_architecture_that_libseccomp_does_not_know_is_left_out_and_alone_it_is_no_proof() {
    let native = native().unwrap();
    let listing = |architectures| Profile {
        architectures,
        ..profile(Action::Allow, vec![errno_rule(&["getcwd"], 9)])
    };
    let of_this_order = |one: &&Architecture| one.is_big_endian() == native.is_big_endian();
    for &architecture in Architecture::ALL.iter().filter(of_this_order) {
        let beside = compile(&listing(vec![architecture, native])).unwrap();
        assert!(beside.architectures.contains(&native));
        assert_eq!(
            beside.architectures.contains(&architecture),
            is_known(architecture)
        );
        match compile(&listing(vec![architecture])) {
            Ok(filter) => assert!(filter.architectures.contains(&architecture)),
            Err(error) => {
                assert!(!is_known(architecture), "{architecture}: {error}");
                assert!(matches!(error, CompileError::NoKnownArchitecture(_)), "{error:?}");
            }
        }
    }
}

#[test]
fn a_libseccomp_that_is_too_old_for_a_profile_is_not_held_against_it() {
    let error = CompileError::NoKnownArchitecture(vec![Architecture::Loongarch64, Architecture::Sh]);
    assert_eq!(error.finding(), None);
    let message = error.to_string();
    assert!(
        message.contains("(SCMP_ARCH_LOONGARCH64, SCMP_ARCH_SH)"),
        "{message}"
    );
}

#[test]
fn a_failure_that_memory_may_have_caused_is_not_held_against_the_profile() {
    assert_eq!(CompileError::OutOfMemory.finding(), None);
    assert_eq!(CompileError::Fault.finding(), None);
}

#[test]
fn a_profile_that_multiplies_out_is_refused_before_libseccomp_sees_it() {
    let many: Vec<Rule> = (0..300)
        .map(|value| {
            when(
                rule(&["read"; 300], Action::Allow),
                &[condition(0, Operator::Equal, value)],
            )
        })
        .collect();
    let finding = finding(&profile(Action::Errno, many));
    assert_eq!(
        (finding.code, finding.field.as_str()),
        (Code::TooLarge, "syscalls")
    );
}

#[test]
fn a_filter_that_the_kernel_would_not_take_is_refused_with_its_size() {
    let entries: Vec<Rule> = (0..1_400)
        .map(|value| {
            when(
                rule(&["ioctl"], Action::Allow),
                &[condition(1, Operator::Equal, value << 33 | value)],
            )
        })
        .collect();
    let both = [Architecture::X86_64, Architecture::Aarch64];
    let finding = finding(&Profile {
        architectures: both.to_vec(),
        ..profile(Action::Errno, entries)
    });
    assert_eq!(
        (finding.code, finding.field.as_str()),
        (Code::FilterTooLarge, "syscalls")
    );
    let numbers = |text: &str| -> Vec<u32> {
        let parts = text.split(|c: char| !c.is_ascii_digit());
        parts.filter_map(|part| part.parse().ok()).collect()
    };
    let (whole, rest) = finding.message.split_once(" instructions (").unwrap();
    let (parts, _) = rest.split_once("), the kernel takes at most 4096").unwrap();
    let whole = numbers(whole)[0];
    for architecture in both {
        let part = parts
            .split(", ")
            .find(|part| part.contains(architecture.as_str()));
        let part = numbers(part.unwrap())[0];
        assert!(4096 < part && part < whole, "{}", finding.message);
    }
}

#[test]
fn the_flags_that_libseccomp_has_attributes_for_are_taken() {
    let profile = Profile {
        flags: vec![Flag::Log, Flag::SpecAllow, Flag::Tsync],
        ..profile(Action::Allow, vec![])
    };
    assert!(compile(&profile).is_ok());
}

#[test]
fn the_version_is_three_numbers() {
    assert_eq!(
        libseccomp_version()
            .split('.')
            .filter(|part| part.parse::<u32>().is_ok())
            .count(),
        3
    );
}

#[test]
fn as_many_comparisons_are_tried_as_the_bound_says_and_no_more_whatever_the_byte_order() {
    // A list of one architecture, which is the node's own: counted once.
    for architecture in [native().unwrap(), Architecture::S390X, Architecture::Ppc64Le] {
        if is_known(architecture) && native_of(architecture) == architecture {
            let is_alone = node_architecture(&Profile {
                architectures: vec![architecture],
                ..profile(Action::Errno, vec![])
            }) == Some(architecture);
            let entries = if is_alone { 1024 } else { 512 };
            let mut most = profile(Action::Errno, vec![rule(&["read"; 64], Action::Allow); entries]);
            most.architectures.push(architecture);
            assert!(feasible(&most).is_ok(), "{architecture}");
            most.syscalls.push(rule(&["read"], Action::Allow));
            assert!(
                matches!(feasible(&most), Err(CompileError::TooCostly(cost)) if cost > MAX_COST),
                "{architecture}"
            );
        }
    }
}
