//! The bytes themselves, and that nothing is lost on the way to them and back.

use proptest::collection::{hash_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::*;
use crate::profile::model::{Action, Architecture, Condition, Errno, Flag, Operator, Rule};

fn text(profile: &Profile) -> String {
    String::from_utf8(profile.canonical().unwrap().bytes.to_vec()).unwrap()
}

fn small() -> Profile {
    Profile {
        default_action: Action::Errno,
        default_errno_ret: None,
        architectures: Vec::new(),
        flags: Vec::new(),
        listener_path: None,
        listener_metadata: None,
        syscalls: vec![Rule {
            names: vec!["read".to_owned()],
            action: Action::Allow,
            errno_ret: None,
            args: Vec::new(),
        }],
    }
}

/// A digest is a promise to every node and every later version: these bytes must never change.
#[test]
fn the_bytes_are_pinned() {
    assert_eq!(
        text(&small()),
        "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\"}]}\n"
    );
    assert_eq!(
        small().canonical().unwrap().digest.to_string(),
        "sha256:acb42d2d26d0b6d1626a8879561021d3c9aa6b13969fdb2a5dc38d1cff3dab41"
    );
    let all = Profile {
        default_action: Action::Trace,
        default_errno_ret: Errno::new(0),
        architectures: vec![Architecture::Aarch64, Architecture::X86_64, Architecture::Aarch64],
        flags: vec![Flag::WaitKillableRecv, Flag::Log],
        listener_path: Some("/run/é.sock".to_owned()),
        listener_metadata: Some("\"quoted\"\n/".to_owned()),
        syscalls: vec![Rule {
            names: vec!["write".to_owned(), "mount".to_owned(), "write".to_owned()],
            action: Action::Errno,
            errno_ret: Errno::new(0),
            args: vec![
                Condition {
                    index: 5,
                    value: u64::MAX,
                    value_two: Some(0),
                    op: Operator::MaskedEqual,
                },
                Condition {
                    index: 0,
                    value: 0,
                    value_two: None,
                    op: Operator::NotEqual,
                },
            ],
        }],
    };
    assert_eq!(
        text(&all),
        concat!(
            r#"{"defaultAction":"SCMP_ACT_TRACE","defaultErrnoRet":0,"#,
            r#""architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_AARCH64"],"#,
            r#""flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],"#,
            r#""listenerPath":"/run/é.sock","listenerMetadata":"\"quoted\"\n/","#,
            r#""syscalls":[{"names":["mount","write"],"action":"SCMP_ACT_ERRNO","errnoRet":0,"#,
            r#""args":[{"index":0,"value":0,"op":"SCMP_CMP_NE"},"#,
            r#"{"index":5,"value":18446744073709551615,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#,
            "\n"
        )
    );
}

#[test]
fn empty_lists_are_left_out_because_old_youkis_make_no_rule_of_empty_args() {
    let read = |lists: &str| {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO"{lists}, "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": []}}]}}"#
        );
        Profile::from_canonical(text.as_bytes()).unwrap()
    };
    assert_eq!(text(&read("")), text(&small()));
    assert_eq!(
        text(&read(r#", "architectures": [], "flags": []"#)),
        text(&small())
    );
}

#[test]
fn the_order_of_entries_is_kept() {
    let mut one = small();
    one.syscalls.push(Rule {
        action: Action::Log,
        ..one.syscalls[0].clone()
    });
    let mut other = one.clone();
    other.syscalls.reverse();
    assert_ne!(one.canonical().unwrap().digest, other.canonical().unwrap().digest);
}

#[test]
fn a_file_has_at_most_128_kib() {
    let mut profile = small();
    let name = |number: usize| format!("{}{number:06}", "a".repeat(58));
    let room = Canonical::MAX_BYTES - text(&profile).len();
    let each = name(0).len() + 3;
    profile.syscalls[0].names.extend((0..room / each).map(name));
    let rest = "b".repeat(room % each - 3);
    profile.syscalls[0].names.push(rest.clone());
    assert_eq!(profile.canonical().unwrap().bytes.len(), Canonical::MAX_BYTES);
    profile.syscalls[0].names.push(format!("{rest}b"));
    assert_eq!(profile.canonical().unwrap_err().code, Code::TooLarge);
}

#[test]
fn bytes_that_are_no_profile_are_findings() {
    for bytes in [
        &b""[..],
        b"\xff",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"{\"defaultAction\": \"SCMP_ACT_ALLOW\"} x",
    ] {
        let findings = Profile::from_canonical(bytes).unwrap_err();
        assert!(!findings.is_empty(), "{bytes:?}");
    }
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let number = || prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), Just(1 << 63)];
    let args = hash_set(0..6u8, 0..=6).prop_flat_map(move |indices| {
        let conditions = indices.into_iter().map(move |index| {
            (number(), option::of(number()), any::<Index>()).prop_map(move |(value, value_two, op)| {
                Condition {
                    index,
                    value,
                    value_two,
                    op: *op.get(Operator::ALL),
                }
            })
        });
        conditions.collect::<Vec<_>>()
    });
    let actions: Vec<Action> = Action::ALL
        .iter()
        .copied()
        .filter(|action| *action != Action::Notify)
        .collect();
    (
        vec("[a-z_][a-z0-9_]{0,63}", 1..5),
        any::<Index>(),
        option::of(0..=Errno::MAX),
        args,
    )
        .prop_map(move |(names, action, errno, args)| {
            let action = *action.get(&actions);
            let errno_ret = errno.and_then(Errno::new).filter(|_| action.takes_errno());
            Rule {
                names,
                action,
                errno_ret,
                args,
            }
        })
}

/// Profiles that every rule accepts.
fn any_profile() -> impl Strategy<Value = Profile> {
    let architectures = any::<bool>().prop_flat_map(|big| {
        let same: Vec<_> = Architecture::ALL
            .iter()
            .copied()
            .filter(|it| it.is_big_endian() == big)
            .collect();
        let count = same.len();
        subsequence(same, 0..=count).prop_shuffle()
    });
    let defaults: Vec<Action> = Action::ALL
        .iter()
        .copied()
        .filter(|it| *it != Action::Notify)
        .collect();
    (
        (any::<Index>(), option::of(0..=Errno::MAX)),
        architectures,
        subsequence(Flag::ALL.to_vec(), 0..=Flag::ALL.len()).prop_shuffle(),
        option::of(("/[^\0]{0,20}", option::of(any::<String>()))),
        vec(any_rule(), 1..6),
    )
        .prop_map(
            move |((action, errno), architectures, mut flags, listener, mut syscalls)| {
                let default_action = *action.get(&defaults);
                let unfit = if listener.is_some() {
                    Flag::Tsync
                } else {
                    Flag::WaitKillableRecv
                };
                flags.retain(|flag| *flag != unfit);
                if listener.is_some() {
                    let names = vec!["mount".to_owned()];
                    syscalls.push(Rule {
                        names,
                        action: Action::Notify,
                        errno_ret: None,
                        args: Vec::new(),
                    });
                }
                let (listener_path, listener_metadata) = listener.unzip();
                Profile {
                    default_action,
                    default_errno_ret: errno
                        .and_then(Errno::new)
                        .filter(|_| default_action.takes_errno()),
                    architectures,
                    flags,
                    listener_path,
                    listener_metadata: listener_metadata.flatten(),
                    syscalls,
                }
            },
        )
}

proptest! {
    #[test]
    fn a_profile_comes_back_from_its_bytes(profile in any_profile()) {
        let canonical = profile.canonical().unwrap();
        let back = Profile::from_canonical(&canonical.bytes).unwrap();
        prop_assert_eq!(&back, &profile.normalized());
        prop_assert_eq!(back.canonical().unwrap(), canonical);
    }

    #[test]
    fn a_profile_survives_the_types_of_oci_spec(profile in any_profile()) {
        let typed = LinuxSeccomp::from(&profile);
        let json = serde_json::to_vec(&typed).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<LinuxSeccomp>(&json).unwrap(), &typed);
        prop_assert_eq!(&Profile::from_canonical(&json).unwrap(), &profile);
    }

    #[test]
    fn what_order_does_not_mean_does_not_change_the_bytes(profile in any_profile(), seed in any::<Index>()) {
        let mut other = profile.clone();
        other.architectures.reverse();
        other.flags.reverse();
        for rule in &mut other.syscalls {
            rule.args.reverse();
            let again = rule.names[seed.index(rule.names.len())].clone();
            rule.names.insert(0, again);
        }
        prop_assert_eq!(profile.canonical().unwrap(), other.canonical().unwrap());
    }
}

#[test]
fn every_name_of_the_specification_is_one_of_oci_spec() {
    let text =
        |value: Result<serde_json::Value, serde_json::Error>| value.unwrap().as_str().unwrap().to_owned();
    for action in Action::ALL {
        let other = oci_spec::runtime::LinuxSeccompAction::from(*action);
        assert_eq!(text(serde_json::to_value(other)), action.as_str());
    }
    for architecture in Architecture::ALL {
        let other = oci_spec::runtime::Arch::from(*architecture);
        assert_eq!(text(serde_json::to_value(other)), architecture.as_str());
    }
    for flag in Flag::ALL {
        let other = oci_spec::runtime::LinuxSeccompFilterFlag::from(*flag);
        assert_eq!(text(serde_json::to_value(other)), flag.as_str());
    }
    for operator in Operator::ALL {
        let other = oci_spec::runtime::LinuxSeccompOperator::from(*operator);
        assert_eq!(text(serde_json::to_value(other)), operator.as_str());
    }
}
