//! The proof against libseccomp, and against two independent readings of the same things: the rules evaluated one
//! by one, and the program run instruction by instruction.

use proptest::prelude::*;

use super::*;
use crate::filter::resolve;
use crate::profile::{Action, Condition, Errno, Operator, Profile, Rule};

/// Where operators, halves and signs change what they say.
const VALUES: [u64; 14] = [
    0,
    1,
    2,
    8,
    38,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0008,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_0000_0000,
    u64::MAX,
];

fn a_condition() -> impl Strategy<Value = (u64, Option<u64>, Operator)> {
    let value = prop::sample::select(&VALUES[..]);
    (
        value.clone(),
        prop::option::of(value),
        prop::sample::select(Operator::ALL),
    )
}

fn conditions_on(arguments: u8) -> impl Strategy<Value = Vec<Condition>> {
    prop::collection::vec(prop::option::weighted(0.6, a_condition()), usize::from(arguments)).prop_map(
        |list| {
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
        },
    )
}

/// Rules about one call, with one answer beside the default.
fn a_profile(
    rules: usize,
    arguments: u8,
    architectures: &'static [Architecture],
) -> impl Strategy<Value = Profile> {
    prop::collection::vec(conditions_on(arguments), 1..=rules).prop_map(move |rules| Profile {
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
    let value = prop_oneof![prop::sample::select(&VALUES[..]), any::<u64>()];
    [
        value.clone(),
        value.clone(),
        value.clone(),
        value.clone(),
        value.clone(),
        value,
    ]
}

/// Independent of the diagrams: does a rule apply, by the words of the specification?
fn applies(rule: &Rule, arguments: &[u64; 6]) -> bool {
    rule.args.iter().all(|condition| {
        let (argument, value) = (arguments[usize::from(condition.index)], condition.value);
        match condition.op {
            Operator::Equal => argument == value,
            Operator::NotEqual => argument != value,
            Operator::Less => argument < value,
            Operator::LessOrEqual => argument <= value,
            Operator::Greater => argument > value,
            Operator::GreaterOrEqual => argument >= value,
            Operator::MaskedEqual => argument & value == condition.value_two.unwrap_or(0),
        }
    })
}

fn evaluate(profile: &Profile, arguments: &[u64; 6]) -> Answer {
    let rule = profile.syscalls.iter().find(|rule| applies(rule, arguments));
    match rule {
        Some(rule) => Answer::new(rule.action, rule.errno_ret),
        None => Answer::new(profile.default_action, profile.default_errno_ret),
    }
}

const KILL: u32 = 62;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_diagram_answers_as_the_rules_do(
        profile in a_profile(8, 3, &[]),
        calls in prop::collection::vec(some_arguments(), 16),
    ) {
        let resolved = resolve(&profile).unwrap();
        let meaning = Meaning::of(&profile, &resolved).unwrap();
        for arguments in calls {
            let said = meaning.answer(Architecture::X86_64, KILL, &arguments);
            prop_assert_eq!(said, Some(evaluate(&profile, &arguments)), "{:x?}", arguments);
        }
    }
}
