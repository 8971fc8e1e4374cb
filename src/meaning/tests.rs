//! The proof against libseccomp, and against two independent readings of the same things: the rules evaluated one
//! by one, and the program run instruction by instruction.

mod random;

use proptest::prelude::*;

use super::reference::{EDGES, applies, arguments_of};
use super::*;
use crate::filter::{ByteOrder, SeccompData, compile, resolve};
use crate::profile::{Action, Class, Condition, Errno, Operator, Profile, Rule, syscalls};

fn a_condition(operators: &'static [Operator]) -> impl Strategy<Value = (u64, Option<u64>, Operator)> {
    let value = prop::sample::select(&EDGES[..]);
    (
        value.clone(),
        prop::option::of(value),
        prop::sample::select(operators),
    )
}

fn conditions_on(arguments: u8, operators: &'static [Operator]) -> impl Strategy<Value = Vec<Condition>> {
    prop::collection::vec(
        prop::option::weighted(0.6, a_condition(operators)),
        usize::from(arguments),
    )
    .prop_map(|list| {
        (0..)
            .zip(list)
            .filter_map(|(index, condition)| {
                let (value, value_two, op) = condition?;
                Some(Condition {
                    index,
                    value,
                    value_two,
                    op,
                })
            })
            .collect()
    })
}

/// Rules about one call, with one answer beside the default.
fn a_profile(
    rules: usize,
    arguments: u8,
    operators: &'static [Operator],
    architectures: &'static [Architecture],
) -> impl Strategy<Value = Profile> {
    prop::collection::vec(conditions_on(arguments, operators), 1..=rules).prop_map(move |rules| Profile {
        default_action: Action::Errno,
        default_errno_ret: Errno::new(1),
        architectures: architectures.to_vec(),
        flags: vec![],
        listener_path: None,
        listener_metadata: None,
        syscalls: rules
            .into_iter()
            .map(|args| Rule {
                names: vec!["kill".to_owned()],
                action: Action::Allow,
                errno_ret: None,
                args,
            })
            .collect(),
    })
}

fn some_arguments() -> impl Strategy<Value = [u64; 6]> {
    let value = prop_oneof![prop::sample::select(&EDGES[..]), any::<u64>()];
    [
        value.clone(),
        value.clone(),
        value.clone(),
        value.clone(),
        value.clone(),
        value,
    ]
}

fn evaluate(profile: &Profile, arguments: &[u64; 6]) -> Answer {
    let rule = profile
        .syscalls
        .iter()
        .find(|rule| applies(rule, None, arguments));
    match rule {
        Some(rule) => Answer::new(rule.action, rule.errno_ret),
        None => Answer::new(profile.default_action, profile.default_errno_ret),
    }
}

/// kill(2) on x86-64.
const KILL: u32 = 62;

fn run(program: &Program, architecture: Architecture, nr: u32, args: [u64; 6]) -> Answer {
    Answer::from_word(program.run(&SeccompData {
        nr,
        arch: audit_token(architecture),
        instruction_pointer: 0,
        args,
    }))
}

/// Compiles, and compares.
fn proven(profile: &Profile) -> (Program, Vec<Finding>) {
    let calls = resolve(profile).unwrap();
    let mut meaning = Meaning::of(profile, &calls).unwrap();
    let program = compile(profile).unwrap().program;
    let findings = meaning.compare(&program).unwrap();
    (program, findings)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_diagram_answers_as_the_rules_do(
        profile in a_profile(8, 3, Operator::ALL, &[]),
        calls in prop::collection::vec(some_arguments(), 64),
    ) {
        let resolved = resolve(&profile).unwrap();
        let meaning = Meaning::of(&profile, &resolved).unwrap();
        for arguments in calls {
            let said = meaning.answer(Architecture::X86_64, KILL, &arguments);
            prop_assert_eq!(said, Some(evaluate(&profile, &arguments)), "{:x?}", arguments);
        }
    }

    /// libseccomp compiles any number of these right, so a difference would be the proof's.
    #[test]
    fn equality_and_masks_are_never_called_miscompiled(
        profile in a_profile(
            8,
            2,
            &[Operator::Equal, Operator::MaskedEqual],
            &[Architecture::X86_64, Architecture::Aarch64],
        ).prop_map(within_masks),
        calls in prop::collection::vec(some_arguments(), 8),
    ) {
        let (program, findings) = proven(&profile);
        prop_assert_eq!(findings, vec![]);
        for arguments in calls {
            let answer = run(&program, Architecture::X86_64, KILL, arguments);
            prop_assert_eq!(answer, evaluate(&profile, &arguments), "{:x?}", arguments);
        }
    }

    /// As the cure of `miscompiled` says.
    #[test]
    fn values_below_33_bits_of_one_argument_are_never_called_miscompiled(
        profile in a_profile(8, 1, Operator::ALL, &[]).prop_map(within_32_bits),
    ) {
        let (_, findings) = proven(&profile);
        prop_assert_eq!(findings, vec![]);
    }

    /// Ranges on one argument: libseccomp compiles some of them wrong, and never hangs.
    #[test]
    fn a_filter_is_called_miscompiled_exactly_if_a_call_shows_it(
        profile in a_profile(8, 1, Operator::ALL, &[]).prop_map(within_masks),
        calls in prop::collection::vec(some_arguments(), 24),
    ) {
        let (program, findings) = proven(&profile);
        match findings.first() {
            Some(finding) => {
                let arguments = arguments_of(finding.witness.as_deref().unwrap());
                let answer = run(&program, Architecture::X86_64, KILL, arguments);
                prop_assert_ne!(answer, evaluate(&profile, &arguments), "{:?}", finding);
            }
            None => for arguments in calls {
                let answer = run(&program, Architecture::X86_64, KILL, arguments);
                prop_assert_eq!(answer, evaluate(&profile, &arguments), "{:x?}", arguments);
            },
        }
    }
}

fn within_32_bits(mut profile: Profile) -> Profile {
    let all = u64::from(u32::MAX);
    for condition in profile.syscalls.iter_mut().flat_map(|rule| &mut rule.args) {
        condition.value &= all;
    }
    within_masks(profile)
}

/// libseccomp cuts a datum to its mask, so that what can never match as written does match.
fn within_masks(mut profile: Profile) -> Profile {
    for condition in profile.syscalls.iter_mut().flat_map(|rule| &mut rule.args) {
        if condition.op == Operator::MaskedEqual {
            condition.value_two = condition.value_two.map(|datum| datum & condition.value);
        }
    }
    profile
}

fn profile(text: &str) -> Profile {
    Profile::from_canonical(text.as_bytes()).unwrap_or_else(|findings| panic!("{findings:#?}"))
}

/// With these entries, as JSON.
fn denying(architectures: &str, entries: &str) -> Profile {
    profile(&format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": [{architectures}], "syscalls": [{entries}]}}"#
    ))
}

fn allowing(architectures: &str, entries: &str) -> Profile {
    Profile {
        default_action: Action::Allow,
        ..denying(architectures, entries)
    }
}

/// What there is to say before a filter is made: code, place and witness.
fn said(profile: &Profile) -> Vec<(Code, String, Option<String>)> {
    let calls = resolve(profile).unwrap();
    let meaning = Meaning::of(profile, &calls).unwrap();
    meaning
        .findings()
        .iter()
        .map(|finding| {
            (
                finding.code,
                finding.field.as_str().to_owned(),
                finding.witness.clone(),
            )
        })
        .collect()
}

fn found(code: Code, field: &str, witness: &str) -> (Code, String, Option<String>) {
    let witness = Some(witness.to_owned()).filter(|witness| !witness.is_empty());
    (code, field.to_owned(), witness)
}

const X86: &str = r#""SCMP_ARCH_X86""#;
const ALL_OF_X86: &str = r#""SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32""#;

#[test]
fn every_call_of_every_architecture_is_answered_as_its_name_says() {
    use Architecture::{Loongarch64, M68k, Sh, Sheb};
    let (little, big) = Architecture::ALL
        .iter()
        // Newer than libseccomp 2.5.
        .filter(|architecture| !matches!(architecture, Loongarch64 | M68k | Sh | Sheb))
        .partition::<Vec<Architecture>, _>(|architecture| !architecture.is_big_endian());
    for architectures in [little, big] {
        let names: BTreeSet<String> = architectures
            .iter()
            .flat_map(|&architecture| crate::filter::names(architecture))
            .collect();
        assert!(names.len() > 400, "{}", names.len());
        let entry = |names: Vec<String>, args: &[Condition]| Rule {
            names,
            action: Action::Allow,
            errno_ret: None,
            args: args.to_vec(),
        };
        let odd = Condition {
            index: 1,
            value: 1,
            value_two: Some(1),
            op: Operator::MaskedEqual,
        };
        let (some, others) = names
            .into_iter()
            .enumerate()
            .partition::<Vec<_>, _>(|(at, _)| at % 2 == 0);
        let names = |list: Vec<(usize, String)>| list.into_iter().map(|(_, name)| name).collect();
        let profile = Profile {
            architectures,
            syscalls: vec![entry(names(some), &[]), entry(names(others), &[odd])],
            ..denying("", r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"}"#)
        };
        let (_, findings) = proven(&profile);
        assert_eq!(findings, vec![]);
    }
}

#[test]
fn what_libseccomp_compiles_wrong_is_found_with_a_call() {
    let cases = [
        // Confirmed on a live kernel.
        (
            r#"{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 2147483647, "op": "SCMP_CMP_NE"}, {"index": 1, "value": 1, "op": "SCMP_CMP_NE"}]},
               {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 1, "value": 38, "op": "SCMP_CMP_NE"}, {"index": 0, "value": 0, "op": "SCMP_CMP_NE"}]}"#,
            "socket(0x0, 0x1)",
        ),
        // One argument, and nothing unusual about it.
        (
            r#"{"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 9223372036854775808, "op": "SCMP_CMP_GE"}]},
               {"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_LE"}]}"#,
            "kill(0x80000000)",
        ),
    ];
    for (entries, witness) in cases {
        let profile = denying("", entries);
        assert_eq!(said(&profile), []);
        let (program, findings) = proven(&profile);
        let [finding] = &findings[..] else {
            panic!("{findings:#?}");
        };
        assert_eq!(
            (finding.code, finding.field.as_str()),
            (Code::Miscompiled, "syscalls[0]")
        );
        let shown = finding.witness.as_deref().unwrap();
        let number = if shown.starts_with("kill") { KILL } else { 41 };
        let arguments = arguments_of(shown);
        assert_ne!(
            run(&program, Architecture::X86_64, number, arguments),
            evaluate(&profile, &arguments),
            "{finding:?}"
        );
        // The known one differs as well, whichever was found.
        let known = arguments_of(witness);
        assert_ne!(
            run(&program, Architecture::X86_64, number, known),
            evaluate(&profile, &known)
        );
    }
}

#[test]
fn what_libseccomp_compiles_wrong_for_the_other_byte_order_is_found_with_a_call() {
    let (ge, le) = (
        r#"{"index": 0, "value": 9223372036854775808, "op": "SCMP_CMP_GE"}"#,
        r#"{"index": 0, "value": 2, "op": "SCMP_CMP_LE"}"#,
    );
    let entry =
        |argument| format!(r#"{{"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [{argument}]}}"#);
    for architecture in [
        Architecture::S390X,
        Architecture::Ppc64,
        Architecture::Mips64,
        Architecture::Aarch64,
    ] {
        let list = format!("\"{architecture}\"");
        let profile = denying(&list, &format!("{}, {}", entry(ge), entry(le)));
        assert_eq!(said(&profile), []);
        let (program, findings) = proven(&profile);
        let [finding] = &findings[..] else {
            panic!("{findings:#?}");
        };
        assert_eq!(finding.code, Code::Miscompiled);
        let kill = syscalls::lookup("kill").unwrap().number(architecture).unwrap();
        let known = arguments_of("kill(0x80000000)");
        for arguments in [arguments_of(finding.witness.as_deref().unwrap()), known] {
            assert_ne!(
                run(&program, architecture, kill, arguments),
                evaluate(&profile, &arguments),
                "{finding:?}"
            );
        }
        // Alone, each is right.
        for right in [ge, le] {
            assert_eq!(proven(&denying(&list, &entry(right))).1, vec![]);
        }
    }
}

#[test]
fn two_answers_to_one_call_are_a_contradiction_whatever_their_order_and_spelling() {
    let allow = r#"{"names": ["socket"], "action": "SCMP_ACT_ALLOW"}"#;
    let af_alg = r#"{"names": ["bind", "socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97, "args": [
        {"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}]}"#;
    let masked = r#"{"names": ["socket"], "action": "SCMP_ACT_LOG", "args": [
        {"index": 0, "value": 18446744073709551615, "valueTwo": 38, "op": "SCMP_CMP_MASKED_EQ"}]}"#;
    let contradiction = |field| found(Code::Contradiction, field, "socket(0x26)");
    assert_eq!(
        said(&denying("", &format!("{allow}, {af_alg}"))),
        [contradiction("syscalls[1].names[1]")]
    );
    assert_eq!(
        said(&denying("", &format!("{af_alg}, {allow}"))),
        [contradiction("syscalls[1].names[0]")]
    );
    assert_eq!(
        said(&denying("", &format!("{af_alg}, {masked}"))),
        [contradiction("syscalls[1].names[0]")]
    );
    // On nodes of the other byte order their own architecture goes without saying.
    assert_eq!(
        said(&denying(
            r#""SCMP_ARCH_S390X", "SCMP_ARCH_S390""#,
            r#"{"names": ["personality"], "action": "SCMP_ACT_ALLOW"},
               {"names": ["personality"], "action": "SCMP_ACT_LOG", "args": [
                {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}"#
        )),
        [found(
            Code::Contradiction,
            "syscalls[1].names[0]",
            "personality(0x8)"
        )]
    );
}

#[test]
fn conditions_that_exclude_each_other_contradict_nothing() {
    let entries = r#"{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_NE"}]},
        {"names": ["socket"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}]}"#;
    let profile = denying("", entries);
    assert_eq!(said(&profile), []);
    assert_eq!(proven(&profile).1, vec![]);
}

#[test]
fn an_entry_with_the_default_answer_does_nothing_and_may_not_be_meant_as_an_exception() {
    let restating = r#"{"names": ["socket"], "action": "SCMP_ACT_ERRNO"}"#;
    let restating_af_alg = r#"{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [
        {"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}]}"#;
    let allow = r#"{"names": ["socket"], "action": "SCMP_ACT_ALLOW"}"#;
    let allow_af_unix = r#"{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
        {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}"#;
    let lint = |field| found(Code::DefaultEntry, field, "");
    assert_eq!(said(&denying("", restating)), [lint("syscalls[0]")]);
    assert_eq!(
        said(&denying("", &format!("{restating}, {allow_af_unix}"))),
        [lint("syscalls[0]")]
    );
    assert_eq!(
        said(&denying("", &format!("{restating_af_alg}, {allow_af_unix}"))),
        [lint("syscalls[0]")]
    );
    // Meant to keep AF_ALG from what the other allows, and runtimes leave it out.
    assert_eq!(
        said(&denying("", &format!("{allow}, {restating_af_alg}"))),
        [found(Code::Contradiction, "syscalls[1].names[0]", "socket(0x26)")]
    );
    assert_eq!(
        said(&denying("", &format!("{allow}, {restating}"))),
        [found(Code::Contradiction, "syscalls[1].names[0]", "socket(0x0)")].map(|(code, field, _)| (
            code,
            field,
            Some("socket()".to_owned())
        ))
    );
}

#[test]
fn a_name_is_redundant_only_if_others_answer_every_call_that_it_stands_for() {
    let x86 = r#""SCMP_ARCH_X86_64", "SCMP_ARCH_X86""#;
    // Of accept, the entry about socketcall answers what 32-bit programs make of it alone.
    let socketcall = r#"{"names": ["socketcall"], "action": "SCMP_ACT_ALLOW"}"#;
    let accept = r#"{"names": ["accept"], "action": "SCMP_ACT_ALLOW"}"#;
    assert_eq!(said(&denying(x86, &format!("{socketcall}, {accept}"))), []);
    assert_eq!(
        said(&denying(
            x86,
            r#"{"names": ["accept", "socketcall"], "action": "SCMP_ACT_ALLOW"}"#
        )),
        []
    );
    assert_eq!(
        said(&denying(x86, &format!("{accept}, {socketcall}, {accept}"))),
        [found(Code::RedundantEntry, "syscalls[2].names[0]", "")]
    );
}

#[test]
fn entries_that_others_cover_are_redundant_in_either_order() {
    let all = r#"{"names": ["read", "kill"], "action": "SCMP_ACT_ALLOW"}"#;
    let some = r#"{"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}"#;
    assert_eq!(
        said(&denying("", &format!("{all}, {some}"))),
        [found(Code::RedundantEntry, "syscalls[1].names[0]", "")]
    );
    assert_eq!(
        said(&denying("", &format!("{some}, {all}"))),
        [found(Code::RedundantEntry, "syscalls[0].names[0]", "")]
    );
    // Of two that are the same, one is to go.
    assert_eq!(
        said(&denying("", &format!("{all}, {all}"))),
        [found(Code::RedundantEntry, "syscalls[1].names[0]", "")]
    );
    // Two halves that make a whole: both are needed.
    let half = |op: &str| {
        format!(
            r#"{{"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [{{"index": 0, "value": 9, "op": "{op}"}}]}}"#
        )
    };
    assert_eq!(
        said(&denying(
            "",
            &format!("{}, {}", half("SCMP_CMP_LT"), half("SCMP_CMP_GE"))
        )),
        []
    );
}

#[test]
fn conditions_that_decide_nothing_are_told() {
    let entry = |op: &str, value: &str| {
        format!(
            r#"{{"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [{{"index": 1, "value": {value}, "op": "{op}"}}]}}"#
        )
    };
    for (op, value) in [
        ("SCMP_CMP_GE", "0"),
        ("SCMP_CMP_LE", "18446744073709551615"),
        ("SCMP_CMP_MASKED_EQ", "0"),
    ] {
        let expected = found(Code::AlwaysHolds, "syscalls[0].args[0]", "");
        assert_eq!(said(&denying("", &entry(op, value))), [expected], "{op} {value}");
    }
    for (op, value) in [("SCMP_CMP_LT", "0"), ("SCMP_CMP_GT", "18446744073709551615")] {
        let expected = found(Code::NeverMatches, "syscalls[0].args", "");
        assert_eq!(said(&denying("", &entry(op, value))), [expected], "{op} {value}");
    }
}

#[test]
fn a_value_beyond_32_bits_makes_a_difference_where_libseccomp_cuts_it() {
    let entry = |op: &str, value: u64| {
        format!(
            r#"{{"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [
                {{"index": 0, "value": {value}, "op": "{op}"}}]}}"#
        )
    };
    let witness = |entries: &str, architectures: &str| {
        let (_, findings) = proven(&denying(architectures, entries));
        findings
            .into_iter()
            .next()
            .map(|finding| finding.witness.unwrap())
    };
    let equal = entry("SCMP_CMP_EQ", 0x1_0000_0008);
    assert_eq!(witness(&equal, ""), None);
    assert_eq!(
        witness(&equal, X86).as_deref(),
        Some("personality(0x8) on SCMP_ARCH_X86")
    );
    // libseccomp makes `< 0` of it: no call where every call was meant.
    let less = entry("SCMP_CMP_LT", 1 << 32);
    assert_eq!(
        witness(&less, X86).as_deref(),
        Some("personality(0x0) on SCMP_ARCH_X86")
    );
    // Cut, and the same for every value that there is.
    let mask = r#"{"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [
        {"index": 0, "value": 18446744069414584328, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}]}"#;
    assert_eq!(witness(mask, ALL_OF_X86), None);
}

#[test]
fn a_multiplexer_is_answered_by_every_entry_about_one_of_its_calls() {
    let deny = |family: u64, errno: u16| {
        format!(
            r#"{{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": {errno}, "args": [
                {{"index": 0, "value": {family}, "op": "SCMP_CMP_EQ"}}]}}"#
        )
    };
    let one = allowing(ALL_OF_X86, &deny(38, 97));
    assert_eq!(said(&one), []);
    let (program, findings) = proven(&one);
    assert_eq!(findings, vec![]);
    let socketcall = run(&program, Architecture::X86, 102, [1, 0xffff_d000, 0, 0, 0, 0]);
    assert_eq!(socketcall.errno(), Some(97));

    let two = format!("{}, {}", deny(38, 97), deny(40, 93));
    assert_eq!(said(&allowing("", &two)), []);
    assert_eq!(
        said(&allowing(X86, &two))[0],
        found(
            Code::Contradiction,
            "syscalls[1].names[0]",
            "socketcall(0x1) on SCMP_ARCH_X86"
        )
    );
    assert!(compile(&allowing(X86, &two)).is_err());
}

/// As on s390x, whose 64-bit programs have socketcall.
#[test]
#[cfg(target_arch = "x86_64")]
fn without_a_list_a_profile_means_on_each_machine_what_it_is_for_its_architecture_alone() {
    let entry = |op: &str, action: &str| {
        format!(
            r#"{{"names": ["socket"], "action": "{action}", "args": [{{"index": 0, "value": 38, "op": "{op}"}}]}}"#
        )
    };
    let entries = [
        entry("SCMP_CMP_NE", "SCMP_ACT_ERRNO"),
        entry("SCMP_CMP_EQ", "SCMP_ACT_KILL_PROCESS"),
    ]
    .join(", ");
    let without = allowing("", &entries);
    assert_eq!(resolve(&without).unwrap().len(), 1);
    assert_eq!(said(&without), []);
    let listed = said(&allowing(r#""SCMP_ARCH_S390X""#, &entries));
    assert_eq!(listed[0].0, Code::Contradiction);
}

#[test]
fn a_contradiction_that_a_multiplexer_makes_says_what_is_dropped_and_what_to_do() {
    let entry = |op: &str, action: &str| {
        format!(
            r#"{{"names": ["socket"], "action": "{action}", "args": [{{"index": 0, "value": 38, "op": "{op}"}}]}}"#
        )
    };
    let excluding = [
        entry("SCMP_CMP_NE", "SCMP_ACT_ERRNO"),
        entry("SCMP_CMP_EQ", "SCMP_ACT_KILL_PROCESS"),
    ]
    .join(", ");
    assert_eq!(said(&allowing("", &excluding)), []);
    let message = |architectures: &str, entries: &str| {
        let profile = allowing(architectures, entries);
        let calls = resolve(&profile).unwrap();
        let meaning = Meaning::of(&profile, &calls).unwrap();
        meaning.findings()[0].message.clone()
    };
    let told = message(X86, &excluding);
    assert!(
        told.ends_with(
            "programs of SCMP_ARCH_X86 make socket through socketcall as well, where libseccomp drops conditions on \
             argument 0: leave that architecture out, or give both entries one answer"
        ),
        "{told}"
    );
    // One that each program meets has another cure.
    let same = [
        entry("SCMP_CMP_EQ", "SCMP_ACT_ERRNO"),
        entry("SCMP_CMP_EQ", "SCMP_ACT_KILL_PROCESS"),
    ]
    .join(", ");
    let told = message(X86, &same);
    assert!(told.ends_with("keeps one answer or fails"), "{told}");
}

#[test]
fn a_filter_that_answers_strangers_is_not_what_the_profile_says() {
    let small = denying("", r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"}"#);
    let calls = resolve(&small).unwrap();
    for (stranger, shown) in [
        (Architecture::X86, "of architecture 0x40000003"),
        (
            Architecture::X32,
            "call number 1073741824 of architecture 0xc000003e",
        ),
    ] {
        let large = Profile {
            architectures: vec![stranger],
            ..small.clone()
        };
        let program = compile(&large).unwrap().program;
        let mut meaning = Meaning::of(&small, &calls).unwrap();
        let findings = meaning.compare(&program).unwrap();
        let [finding] = &findings[..] else {
            panic!("{findings:#?}");
        };
        assert_eq!(
            (finding.code, finding.field.as_str()),
            (Code::Miscompiled, "architectures")
        );
        assert!(finding.message.contains(shown), "{}", finding.message);
    }
}

#[test]
fn a_filter_that_does_what_no_filter_of_libseccomp_does_is_refused() {
    let profile = denying("", r#"{"names": ["kill"], "action": "SCMP_ACT_ALLOW"}"#);
    let calls = resolve(&profile).unwrap();
    let compiled = compile(&profile).unwrap().program;
    // In front, so that every jump still leads where it did: the accumulator into the index register, its complement,
    // a shift, the half of an instruction pointer.
    for (code, constant) in [(0x07_u16, 0_u32), (0x84, 0), (0x64, 1), (0x20, 8)] {
        let mut bytes = code.to_ne_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(constant.to_ne_bytes());
        bytes.extend(compiled.as_bytes());
        let program = Program::decode(&bytes).unwrap();
        let mut meaning = Meaning::of(&profile, &calls).unwrap();
        let unreadable = meaning.compare(&program).unwrap_err();
        assert_eq!(unreadable, Unreadable::Instruction(0));
        let finding = unreadable.finding();
        assert_eq!(
            (finding.code, finding.class()),
            (Code::Miscompiled, Class::Invalid)
        );
        assert!(finding.message.contains("instruction 0"), "{}", finding.message);
    }
}

#[test]
fn conditions_that_multiply_without_end_are_given_up() {
    // Bits of two arguments that must be alike: the diagram has a branch for every value of the first.
    let entries: Vec<String> = (0..40)
        .map(|bit| {
            let mask = 1_u64 << bit;
            format!(
                r#"{{"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [
                    {{"index": 0, "value": {mask}, "valueTwo": {mask}, "op": "SCMP_CMP_MASKED_EQ"}},
                    {{"index": 1, "value": {mask}, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}}]}}"#
            )
        })
        .collect();
    let profile = denying("", &entries.join(", "));
    let calls = resolve(&profile).unwrap();
    let finding = Meaning::of(&profile, &calls).err().unwrap().finding();
    assert_eq!(
        (finding.code, finding.field.as_str()),
        (Code::TooComplex, "syscalls[0].names[0]")
    );
    assert!(
        finding.message.starts_with("the conditions on kill, "),
        "{}",
        finding.message
    );
}

#[test]
fn as_many_values_as_a_filter_holds_are_proven() {
    let entry = |value: u64| Rule {
        names: vec!["kill".to_owned()],
        action: Action::Allow,
        errno_ret: None,
        args: vec![Condition {
            index: 0,
            value,
            value_two: None,
            op: Operator::Equal,
        }],
    };
    // Far apart, so that they share few branches. One whose upper half is its own takes four instructions.
    let narrow = (1..=4_000).map(|n: u64| (n * 0x9e37_79b9) & 0xffff_ffff);
    let wide = (1..=1_000).map(|n: u64| n << 32 | n);
    for values in [narrow.collect::<Vec<_>>(), wide.collect()] {
        let profile = Profile {
            syscalls: values.into_iter().map(entry).collect(),
            ..denying("", r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"}"#)
        };
        let (program, findings) = proven(&profile);
        assert_eq!(findings, vec![]);
        assert!(program.len() > 4_000, "{}", program.len());
    }
}

/// The names of the tests that `docs/semantics.md` names for one of its sentences, each with its file.
fn tests_named_by(sentence: &str) -> Vec<(&str, &str)> {
    let is_path = |word: &str| word.starts_with("src/") || word.starts_with("tests/");
    let is_test = |word: &str| {
        word.matches('_').count() > 2
            && !word.contains(|c: char| !(c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit()))
    };
    let mut named = Vec::new();
    // What is in one file stands together, and the file behind it.
    for group in sentence.split(';') {
        let words: Vec<&str> = group.split('`').skip(1).step_by(2).collect();
        let file = words.iter().copied().find(|word| is_path(word));
        let tests = words.iter().copied().filter(|word| is_test(word));
        named.extend(tests.map(|test| (test, file.unwrap_or("src/meaning/tests.rs"))));
    }
    named
}

#[test]
fn every_sentence_of_the_reference_names_a_test_that_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/semantics.md")).unwrap();
    // A sentence begins a line with its number, and has its own until the next one or a heading.
    let mut sentences: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for line in page.lines() {
        let number = line.split_once(". ").and_then(|(number, _)| number.parse().ok());
        if let Some(number) = number {
            sentences.push((number, String::new()));
            is_open = true;
        } else if line.starts_with('#') {
            is_open = false;
        }
        if let Some((_, text)) = sentences.last_mut().filter(|_| is_open) {
            text.push_str(line);
            text.push('\n');
        }
    }
    let numbers: Vec<usize> = sentences.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
    assert!(numbers.len() > 15);
    for (number, sentence) in &sentences {
        let named = tests_named_by(sentence);
        let by_rule = sentence
            .split_once("(rule `")
            .and_then(|(_, rest)| rest.split_once('`'));
        if let Some((code, _)) = by_rule {
            assert!(
                Code::ALL.iter().any(|one| one.as_str() == code),
                "{number}: no rule {code}"
            );
        }
        let is_held = !named.is_empty() || by_rule.is_some() || sentence.contains("(the same test)");
        assert_eq!(is_held, ![1, 4].contains(number), "sentence {number}");
        for (test, file) in named {
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            let is_there = text.split("#[test]").skip(1).any(|after| {
                let head = after.split_once('{').map_or("", |(head, _)| head);
                head.contains(&format!("fn {test}("))
            });
            assert!(is_there, "sentence {number} names {test}, which is not in {file}");
        }
    }
}
