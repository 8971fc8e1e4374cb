//! For whom the findings of each rule hold: what `--runtime` of `check` chooses by, version by version.

use super::*;

/// A finding, and whom it names.
struct Row {
    code: Code,
    profile: Profile,
    affects: &'static [&'static str],
}

fn with_names(names: &[&str]) -> Profile {
    let mut profile = good();
    profile.syscalls.push(entry(Action::Log, names));
    profile
}

fn with_flag(flag: Flag) -> Profile {
    Profile {
        flags: vec![flag],
        ..listening()
    }
}

fn with_architecture(architecture: Architecture) -> Profile {
    Profile {
        architectures: vec![architecture],
        ..good()
    }
}

fn with_conditions(conditions: &[(u8, Operator, u64)]) -> Profile {
    let mut profile = with_names(&["socket"]);
    let conditions = conditions.iter().map(|&(index, op, value)| Condition {
        index,
        value,
        value_two: None,
        op,
    });
    profile.syscalls[1].args = conditions.collect();
    profile
}

fn without_errno(architectures: &[Architecture]) -> Profile {
    Profile {
        default_errno_ret: None,
        architectures: architectures.to_vec(),
        ..good()
    }
}

fn table() -> Vec<Row> {
    const RUNC_1_2: &[&str] = &["runc before 1.2"];
    const RUNC: &[&str] = &["runc"];
    const RUNC_AND_LIBSECCOMP: &[&str] = &["runc", "libseccomp before 2.6"];
    let row = |code, profile, affects| Row {
        code,
        profile,
        affects,
    };
    let syscall = |name, affects| row(Code::NewerSyscall, with_names(&[name]), affects);
    let architecture = |one, affects| row(Code::NewerArchitecture, with_architecture(one), affects);
    let flag = |one, affects| row(Code::NewerFlag, with_flag(one), affects);
    let notified = |names: &[&str]| {
        let mut profile = listening();
        profile.syscalls[1] = entry(Action::Notify, names);
        profile
    };
    let mut with_errno = with_names(&["mount"]);
    with_errno.syscalls[1] = Entry {
        errno_ret: Errno::new(13),
        ..entry(Action::Errno, &["mount"])
    };
    vec![
        // `src/syscalls.csv` of each release of libseccomp.
        syscall("process_mrelease", &["libseccomp before 2.5.3"]),
        syscall("futex_waitv", &["libseccomp before 2.5.4"]),
        syscall("cachestat", &["libseccomp before 2.5.5"]),
        syscall("mseal", &["libseccomp before 2.5.6"]),
        syscall("atomic_barrier", &["libseccomp before 2.6"]),
        syscall("listns", &["libseccomp before 2.6.1"]),
        // `archs` in runc's libcontainer/seccomp/config.go; tried on runc 1.1.5 and 1.5, with libseccomp 2.5.4 and 2.6.1.
        architecture(Architecture::Riscv64, RUNC_1_2),
        architecture(
            Architecture::Loongarch64,
            &["runc before 1.5", "libseccomp before 2.6"],
        ),
        architecture(Architecture::Parisc, RUNC),
        architecture(Architecture::Parisc64, RUNC),
        architecture(Architecture::M68k, RUNC_AND_LIBSECCOMP),
        architecture(Architecture::Sh, RUNC_AND_LIBSECCOMP),
        architecture(Architecture::Sheb, RUNC_AND_LIBSECCOMP),
        // runc 1.1.5: "seccomp flags are not yet supported by runc".
        flag(Flag::Tsync, RUNC_1_2),
        flag(Flag::Log, RUNC_1_2),
        flag(Flag::SpecAllow, RUNC_1_2),
        // runc with libseccomp 2.5.4: "requires libseccomp >= 2.6.0 and API level >= 7"; seccomp(2) has the kernel.
        flag(
            Flag::WaitKillableRecv,
            &["runc before 1.5", "libseccomp before 2.6", "Linux before 5.19"],
        ),
        // https://github.com/opencontainers/runc/pull/2682.
        row(
            Code::NewerAction,
            listening(),
            &["libseccomp before 2.5", "Linux before 5.7"],
        ),
        // youki 0.7.0 still swaps the two.
        row(
            Code::MaskedEqYouki,
            with_conditions(&[(0, Operator::MaskedEqual, 3)]),
            &["youki"],
        ),
        // https://github.com/youki-dev/youki/pull/3489, in 0.7.0.
        row(
            Code::ConditionsOldYouki,
            with_conditions(&[(0, Operator::Equal, 1), (1, Operator::Equal, 1)]),
            &["youki before 0.7"],
        ),
        // Tried on youki 0.7.0, which starts nothing; runc and crun do.
        row(Code::NotifyNewerSyscall, notified(&["listmount"]), &["youki"]),
        // runc answers ENOSYS in its stub, since 1.1.15 also where no architecture is listed.
        row(
            Code::NoClone3Answer,
            without_errno(&[]),
            &["crun", "youki", "runc before 1.1.15"],
        ),
        row(
            Code::NoClone3Answer,
            without_errno(&[Architecture::X86_64]),
            &["crun", "youki"],
        ),
        // crun's cache came with 1.7, and is in 1.29.1.
        row(Code::CrunErrnoCache, with_errno, &["crun from 1.7"]),
    ]
}

#[test]
fn each_finding_names_whom_it_concerns_and_from_or_before_which_version() {
    for Row {
        code,
        profile,
        affects,
    } in table()
    {
        let named: Vec<Vec<String>> = findings(&profile)
            .iter()
            .filter(|finding| finding.code == code)
            .map(|finding| finding.affects.iter().map(ToString::to_string).collect())
            .collect();
        assert_eq!(named, [affects], "{code}: {profile:?}");
    }
}

#[test]
fn every_rule_that_names_somebody_and_each_value_that_it_does_so_for_is_in_the_table() {
    let table = table();
    let rows = |code| table.iter().filter(move |row| row.code == code);
    for rule in RULES {
        let findings = rule.findings(&json(rule.doc.example.as_ref().unwrap().refused));
        let names_somebody = findings.iter().any(|finding| !finding.affects.is_empty());
        // That one holds for everyone in its example, which names something newer.
        let is_in_table = rows(rule.code).next().is_some() && rule.code != Code::NoClone3Answer;
        assert_eq!(is_in_table, names_somebody, "{}", rule.code);
    }
    for flag in Flag::ALL {
        assert!(
            rows(Code::NewerFlag).any(|row| row.profile.flags == [*flag]),
            "{flag}"
        );
    }
    for architecture in Architecture::ALL {
        let told = places(&with_architecture(*architecture), Code::NewerArchitecture).len();
        let in_table =
            rows(Code::NewerArchitecture).filter(|row| row.profile.architectures == [*architecture]);
        assert_eq!(in_table.count(), told, "{architecture}");
    }
    assert_eq!(rows(Code::NewerSyscall).count(), names::RELEASES.len());
}
