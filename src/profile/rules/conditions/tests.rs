//! Each rule about conditions, operator by operator.

use super::super::multiplexers::MULTIPLEXED_CALL;
use super::*;
use crate::profile::model::{Action, Architecture};

const WIDE: u64 = 1 << 32;

fn condition(op: Operator, value: u64, value_two: Option<u64>) -> Condition {
    Condition {
        index: 0,
        value,
        value_two,
        op,
    }
}

fn profile(default: Action, action: Action, name: &str, args: Vec<Condition>) -> Profile {
    let rule = Entry {
        names: vec!["getpid".to_owned(), name.to_owned()],
        action,
        errno_ret: None,
        args,
    };
    Profile {
        default_action: default,
        default_errno_ret: None,
        architectures: Vec::new(),
        flags: Vec::new(),
        listener_path: None,
        listener_metadata: None,
        syscalls: vec![rule],
    }
}

/// The places of what a rule finds in an entry that denies one call under one condition.
fn found(rule: &Rule, name: &str, condition: Condition) -> Vec<String> {
    let findings = rule.findings(&profile(Action::Allow, Action::Errno, name, vec![condition]));
    findings
        .into_iter()
        .map(|finding| finding.field.to_string())
        .collect()
}

#[test]
fn an_entry_has_one_condition_on_each_argument() {
    let on = |index| Condition {
        index,
        ..condition(Operator::Equal, 1, None)
    };
    let found = |indices: &[u8]| {
        let args = indices.iter().copied().map(on).collect();
        let findings = REPEATED_ARGUMENT.findings(&profile(Action::Allow, Action::Errno, "socket", args));
        findings
            .into_iter()
            .map(|finding| finding.field.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&[0, 1, 2, 3, 4, 5]), [""; 0]);
    assert_eq!(found(&[2, 0, 2]), ["syscalls[0].args[2]"]);
}

#[test]
fn several_conditions_name_the_youki_that_splits_them() {
    let on = |index| Condition {
        index,
        ..condition(Operator::Equal, 1, None)
    };
    let findings =
        |args| SEVERAL_ON_OLD_YOUKI.findings(&profile(Action::Allow, Action::Errno, "socket", args));
    assert_eq!(findings(vec![on(0)]), []);
    let [finding] = &findings(vec![on(0), on(1)])[..] else {
        panic!("none")
    };
    assert!(finding.affects[0].contains(Version::new(0, 6, 0)));
    assert!(!finding.affects[0].contains(Version::new(0, 7, 0)));
}

#[test]
fn a_masked_value_lies_within_its_mask() {
    for (mask, datum, count) in [
        (2, Some(3), 1),
        (0, Some(5), 1),
        (3, Some(2), 0),
        (3, Some(3), 0),
        (0, None, 0),
        (u64::MAX, Some(u64::MAX), 0),
    ] {
        let masked = condition(Operator::MaskedEqual, mask, datum);
        assert_eq!(
            found(&BITS_OUTSIDE_MASK, "socket", masked).len(),
            count,
            "{mask} {datum:?}"
        );
    }
    // Other operators do not read it.
    let equal = condition(Operator::Equal, 2, Some(3));
    assert_eq!(found(&BITS_OUTSIDE_MASK, "socket", equal.clone()), [""; 0]);
    assert_eq!(
        found(&UNUSED_VALUE_TWO, "socket", equal),
        ["syscalls[0].args[0].valueTwo"]
    );
    let masked = condition(Operator::MaskedEqual, 3, Some(2));
    assert_eq!(found(&UNUSED_VALUE_TWO, "socket", masked), [""; 0]);
}

/// Compared with what the two conditions say of every 32-bit argument that can make a difference.
#[test]
fn a_cut_value_is_told_exactly_where_it_changes_an_answer() {
    let holds = |op: Operator, argument: u64, value: u64, datum: u64| match op {
        Operator::NotEqual => argument != value,
        Operator::Less => argument < value,
        Operator::LessOrEqual => argument <= value,
        Operator::Equal => argument == value,
        Operator::GreaterOrEqual => argument >= value,
        Operator::Greater => argument > value,
        Operator::MaskedEqual => argument & value == datum,
    };
    let all = u64::from(u32::MAX);
    let values = [
        0,
        1,
        8,
        all - 1,
        all,
        WIDE,
        WIDE + 1,
        WIDE + 8,
        WIDE | all,
        u64::MAX - 1,
        u64::MAX,
    ];
    let mut changed = 0;
    for op in Operator::ALL {
        for value in values {
            for datum in values.map(|datum| datum & value) {
                let others = [2, 7, 9, all - 2];
                let mut arguments = values.iter().chain(&others).map(|argument| argument & all);
                let differs = arguments.any(|argument| {
                    holds(*op, argument, value, datum) != holds(*op, argument, value & all, datum & all)
                });
                let condition = condition(*op, value, Some(datum));
                assert_eq!(is_changed_by_cutting(&condition), differs, "{condition:?}");
                changed += usize::from(differs);
            }
        }
    }
    assert!(changed > 100, "{changed}");
}

#[test]
fn a_wide_value_is_told_where_an_architecture_compares_32_bits() {
    let wide = condition(Operator::Equal, WIDE + 8, None);
    for architecture in Architecture::ALL {
        let mut profile = profile(Action::Allow, Action::Errno, "lseek", vec![wide.clone()]);
        profile.architectures = vec![*architecture];
        let is_64_bit = matches!(
            architecture.as_str(),
            "SCMP_ARCH_X86_64" | "SCMP_ARCH_PPC64LE" | "SCMP_ARCH_S390X"
        ) || architecture.as_str().ends_with("64");
        assert_eq!(
            VALUE_CUT.findings(&profile).len(),
            usize::from(!is_64_bit),
            "{architecture}"
        );
    }
    assert_eq!(found(&VALUE_CUT, "lseek", wide), [""; 0]);
}

#[test]
fn a_wide_value_is_told_where_the_call_gets_it_and_nowhere_else() {
    use Architecture::{S390, S390X, X32, X86, X86_64};
    let at = |index| Condition {
        index,
        ..condition(Operator::Equal, WIDE + 8, None)
    };
    let told = |name: &str, index, listed: &[Architecture]| {
        let mut profile = profile(Action::Allow, Action::Errno, name, vec![at(index)]);
        profile.syscalls[0].names.remove(0);
        profile.architectures = listed.to_vec();
        let found = VALUE_CUT.findings(&profile);
        let all = |profile: &Profile| VALUE_CUT.findings(profile).len();
        // Covered, or with the answer of the default.
        profile.syscalls.push(Entry {
            args: Vec::new(),
            ..profile.syscalls[0].clone()
        });
        assert_eq!(all(&profile), 0, "{name}");
        profile.syscalls.truncate(1);
        profile.syscalls[0].action = Action::Allow;
        assert_eq!(all(&profile), 0, "{name}");
        found.into_iter().next().map(|finding| finding.message)
    };
    // X86 has fstatat64.
    assert_eq!(told("newfstatat", 3, &[X86_64, X86]), None);
    let message = told("newfstatat", 3, &[X86_64, X86, X32]).unwrap();
    assert!(message.contains("for newfstatat on SCMP_ARCH_X32"), "{message}");
    // semop goes through ipc there, whose argument 0 is no argument of it.
    assert_eq!(told("semop", 0, &[X86_64, X86]), None);
    assert!(told("semop", 2, &[X86_64, X86]).is_some());
    assert!(told("socket", 0, &[X86_64, X86]).is_some());
    assert!(told("lseek", 1, &[S390X, S390]).is_some());
}

#[test]
fn of_an_entry_that_runtimes_leave_out_no_condition_is_told() {
    let at = |index, value_two| Condition {
        index,
        ..condition(Operator::MaskedEqual, 2, Some(value_two))
    };
    let rules = [
        REPEATED_ARGUMENT,
        BITS_OUTSIDE_MASK,
        MASKED_EQ_YOUKI,
        SEVERAL_ON_OLD_YOUKI,
    ];
    let told = |profile: &Profile| rules.each_ref().map(|rule| rule.findings(profile).len());
    let of = |args: Vec<Condition>| profile(Action::Errno, Action::Errno, "socket", args);
    let mut twice = of(vec![at(0, 1), at(0, 2)]);
    let mut several = of(vec![at(0, 2), at(1, 2)]);
    for profile in [&mut twice, &mut several] {
        assert_eq!(told(profile), [0; 4]);
        // EPERM is what is not written.
        profile.syscalls[0].errno_ret = crate::profile::model::Errno::new(1);
        assert_eq!(told(profile), [0; 4]);
        profile.syscalls[0].errno_ret = crate::profile::model::Errno::new(2);
    }
    // What is told of the second condition is enough.
    assert_eq!(told(&twice), [1, 1, 1, 0]);
    assert_eq!(told(&several), [0, 0, 0, 1]);
    let mut killed = profile(Action::Kill, Action::KillThread, "socket", vec![at(0, 1)]);
    assert_eq!(told(&killed), [0; 4]);
    killed.syscalls[0].action = Action::KillProcess;
    assert_eq!(told(&killed), [0, 1, 1, 0]);
}

#[test]
fn no_cure_of_a_range_is_one_of_two_entries_that_hold_for_everything() {
    let twice = ["SCMP_CMP_GE", "SCMP_CMP_LE"].map(|op| condition(op.parse().unwrap(), 5, None));
    let findings = REPEATED_ARGUMENT.findings(&profile(Action::Allow, Action::Errno, "socket", twice.into()));
    let message = &findings[0].message;
    for part in [
        "entries are OR as well",
        "SCMP_CMP_EQ",
        "SCMP_CMP_MASKED_EQ",
        "gets the default action",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("one entry for each,"), "{message}");
}

#[test]
fn youki_swaps_what_is_not_alike() {
    for (mask, datum, said) in [
        (0x7e02_0000, None, Some("always holds")),
        (3, Some(1), Some("(argument & 0x1) with 0x1")),
        (3, Some(3), None),
        (0, None, None),
    ] {
        let masked = condition(Operator::MaskedEqual, mask, datum);
        let findings =
            MASKED_EQ_YOUKI.findings(&profile(Action::Errno, Action::Allow, "clone", vec![masked]));
        match said {
            None => assert_eq!(findings, [], "{mask}"),
            Some(said) => {
                assert!(findings[0].message.contains(said), "{}", findings[0].message);
                assert_eq!(findings[0].affects[0].software, Software::Youki);
            }
        }
    }
    let equal = condition(Operator::Equal, 3, Some(1));
    assert_eq!(found(&MASKED_EQ_YOUKI, "clone", equal), [""; 0]);
}

#[test]
fn an_address_is_compared_with_zero_alone() {
    for (name, op, value, count) in [
        ("clone3", Operator::Equal, 1, 1),
        ("clone3", Operator::Equal, 0, 0),
        ("clone3", Operator::NotEqual, 0, 0),
        ("clone3", Operator::MaskedEqual, 0, 1),
        ("clone", Operator::Equal, 1, 0),
        ("socket", Operator::Equal, 1, 0),
    ] {
        let places = found(&POINTER_ARGUMENT, name, condition(op, value, None));
        assert_eq!(places.len(), count, "{name} {op} {value}");
    }
}

#[test]
fn what_is_an_address_for_some_requests_is_compared_beside_the_request() {
    let on = |index, op, value, value_two| Condition {
        index,
        ..condition(op, value, value_two)
    };
    let told = |name: &str, request: Option<Condition>, data: Condition| {
        let args = request.into_iter().chain([data]).collect();
        let findings = POINTER_ARGUMENT.findings(&profile(Action::Allow, Action::Errno, name, args));
        let told = findings
            .into_iter()
            .map(|finding| (finding.field.to_string(), finding.message));
        told.collect::<Vec<_>>()
    };
    let data = || on(2, Operator::Equal, 7, None);
    let equal = |value| Some(on(1, Operator::Equal, value, None));
    let masked = |mask, value| Some(on(1, Operator::MaskedEqual, mask, Some(value)));

    let alone = told("ioctl", None, data());
    assert_eq!(alone.len(), 1);
    assert_eq!(alone[0].0, "syscalls[0].args[0]");
    assert!(
        alone[0].1.contains("does not say which request"),
        "{}",
        alone[0].1
    );
    // Not one request.
    for request in [
        Some(on(1, Operator::NotEqual, 0x540b, None)),
        Some(on(1, Operator::GreaterOrEqual, 0x540b, None)),
        masked(0xff, 0x0b),
    ] {
        assert_eq!(told("ioctl", request, data()).len(), 1);
    }
    // TIOCSTI and TCGETS take an address, TCFLSH a number.
    for request in [
        equal(0x5412),
        equal(0x5401),
        equal(1 << 32 | 0x5412),
        masked(u64::MAX, 0x5412),
    ] {
        let found = told("ioctl", request, data());
        assert_eq!(found[0].0, "syscalls[0].args[1]");
        assert!(
            found[0].1.contains("is an address with the request 0x54"),
            "{}",
            found[0].1
        );
    }
    for request in [equal(0x540b), masked(0xffff_ffff, 0x540b)] {
        assert_eq!(told("ioctl", request, data()), []);
    }
    // Nothing, and what is a request itself or of another call.
    assert_eq!(told("ioctl", None, on(2, Operator::Equal, 0, None)), []);
    assert_eq!(told("ioctl", None, on(1, Operator::Equal, 7, None)), []);
    assert_eq!(told("fcntl", None, data()), []);
}

#[test]
fn upper_bits_of_an_old_id_are_told_where_the_kernel_reads_16() {
    let told = |listed: &[Architecture], name: &str, condition: Condition| {
        let mut profile = profile(Action::Allow, Action::Errno, name, vec![condition]);
        profile.architectures = listed.to_vec();
        let findings = UPPER_HALF.findings(&profile).into_iter();
        findings.map(|finding| finding.message).collect::<Vec<_>>()
    };
    let masked = |mask| condition(Operator::MaskedEqual, mask, Some(0));
    let both = [Architecture::X86_64, Architecture::X86];
    assert_eq!(told(&both[..1], "setuid", masked(0xffff_ffff)), [""; 0]);
    let message = told(&both, "setuid", masked(0xffff_ffff)).remove(0);
    assert!(
        message.starts_with("the kernel reads 16 bits of argument 0 of setuid on SCMP_ARCH_X86, "),
        "{message}"
    );
    assert!(message.contains("the mask 0xffff,"), "{message}");
    assert_eq!(told(&both, "setuid", masked(0xffff)), [""; 0]);
    assert_eq!(told(&both, "setuid", masked(0x1_ffff)).len(), 1);
    assert_eq!(told(&both, "setuid32", masked(0xffff_ffff)), [""; 0]);
    assert_eq!(told(&both, "socket", masked(0xffff_ffff)), [""; 0]);
    // As on all others where it is not the old one.
    let message = told(&both, "socket", condition(Operator::Equal, 1, None)).remove(0);
    assert!(
        message.starts_with("the kernel reads 32 bits of argument 0 of socket, "),
        "{message}"
    );
}

#[test]
fn upper_bits_are_told_where_they_get_around_an_answer() {
    let found = |default, action, name, condition| {
        UPPER_HALF
            .findings(&profile(default, action, name, vec![condition]))
            .len()
    };
    for op in Operator::ALL {
        let small = condition(*op, 38, Some(38));
        let denies = matches!(op, Operator::Equal | Operator::Less | Operator::LessOrEqual);
        let allows = matches!(
            op,
            Operator::NotEqual | Operator::Greater | Operator::GreaterOrEqual
        );
        let in_deny_list = found(Action::Allow, Action::Errno, "socket", small.clone());
        let in_allow_list = found(Action::Errno, Action::Allow, "socket", small.clone());
        assert_eq!(
            (in_deny_list, in_allow_list),
            (usize::from(denies), usize::from(allows)),
            "{op}"
        );
        // The default says the same, or the argument has 64 bits.
        assert_eq!(
            found(Action::Log, Action::Allow, "socket", small.clone()),
            0,
            "{op}"
        );
        assert_eq!(
            found(Action::Kill, Action::Errno, "socket", small.clone()),
            0,
            "{op}"
        );
        assert_eq!(found(Action::Allow, Action::Errno, "brk", small), 0, "{op}");
    }
    for name in ["close", "read", "write", "dup", "dup2", "dup3", "readv"] {
        let standard = condition(Operator::Greater, 2, None);
        assert_eq!(found(Action::Errno, Action::Allow, name, standard), 1, "{name}");
        let one = condition(Operator::NotEqual, 1, None);
        assert_eq!(
            found(Action::Errno, Action::Allow, name, one.clone()),
            1,
            "{name}"
        );
        assert_eq!(found(Action::Allow, Action::Errno, name, one), 0, "{name}");
    }
    for (mask, count) in [
        (u64::from(u32::MAX), 0),
        (1 << 32, 1),
        (0x1_ffff_ffff, 1),
        (u64::MAX, 1),
    ] {
        let masked = condition(Operator::MaskedEqual, mask, Some(38));
        assert_eq!(
            found(Action::Allow, Action::Errno, "socket", masked),
            count,
            "{mask:#x}"
        );
    }
    let root = condition(Operator::Equal, 0, None);
    for name in [
        "setuid",
        "setgid",
        "setresuid",
        "setfsuid",
        "semget",
        "msgget",
        "prlimit64",
    ] {
        assert_eq!(
            found(Action::Allow, Action::Errno, name, root.clone()),
            1,
            "{name}"
        );
    }
}

#[test]
fn the_cure_of_upper_bits_has_as_many_bits_as_the_kernel_reads() {
    let set_uid = |op, value| Condition {
        index: 1,
        ..condition(op, value, Some(0o4755))
    };
    let told = |condition| {
        let findings = UPPER_HALF.findings(&profile(Action::Allow, Action::Errno, "fchmod", vec![condition]));
        findings.into_iter().next().map(|finding| finding.message)
    };
    let message = told(set_uid(Operator::Equal, 0o4755)).unwrap();
    assert!(
        message.starts_with("the kernel reads 16 bits of argument 1 of fchmod"),
        "{message}"
    );
    assert!(message.contains("the mask 0xffff,"), "{message}");
    // fchmod(fd, 0x10000 | 04755) sets 04755.
    assert!(told(set_uid(Operator::MaskedEqual, 0xffff_ffff)).is_some());
    assert_eq!(told(set_uid(Operator::MaskedEqual, 0xffff)), None);
    let message = told(Condition {
        index: 0,
        ..condition(Operator::Equal, 1, None)
    });
    assert!(message.unwrap().contains("the mask 0xffffffff,"));
}

#[test]
fn a_multiplexed_call_is_told_where_the_architecture_has_the_way_around() {
    let found = |name: &str, architecture, args: Vec<Condition>| {
        let mut profile = profile(Action::Allow, Action::Errno, name, args);
        profile.architectures = vec![Architecture::X86_64, architecture];
        let findings = MULTIPLEXED_CALL.findings(&profile);
        findings
            .into_iter()
            .map(|finding| finding.message)
            .collect::<Vec<_>>()
    };
    let one = || vec![condition(Operator::Equal, 1, None)];
    let messages = found("socket", Architecture::X86, one());
    assert!(messages[0].contains("socket through socketcall"), "{messages:?}");
    let messages = found("shmat", Architecture::X86, one());
    assert!(messages[0].contains("shmat through ipc"), "{messages:?}");
    assert!(
        messages[0].ends_with("applies to every such call"),
        "{messages:?}"
    );
    let other = || Condition {
        index: 1,
        ..condition(Operator::Equal, 5, None)
    };
    for args in [vec![other()], [one(), vec![other()]].concat()] {
        let messages = found("socket", Architecture::X86, args);
        assert!(
            messages[0].ends_with("asks the others of the arguments of socketcall itself"),
            "{messages:?}"
        );
    }
    assert_eq!(found("socket", Architecture::X86, vec![]), [""; 0]);
    assert_eq!(found("socket", Architecture::X32, one()), [""; 0]);
    assert_eq!(found("read", Architecture::X86, one()), [""; 0]);
}
