//! What a profile means, by the words of the specification and without diagrams: what tests and fuzzers compare with.

use super::condition::Width;
use crate::filter::{Answer, Mention, Selector};
use crate::profile::{Condition, Operator, Profile, Rule};

/// Where operators, halves and signs change what they say.
pub(super) const EDGES: [u64; 14] = [
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

/// Does a condition hold?
pub(super) fn holds(condition: &Condition, argument: u64) -> bool {
    let value = condition.value;
    match condition.op {
        Operator::Equal => argument == value,
        Operator::NotEqual => argument != value,
        Operator::Less => argument < value,
        Operator::LessOrEqual => argument <= value,
        Operator::Greater => argument > value,
        Operator::GreaterOrEqual => argument >= value,
        Operator::MaskedEqual => argument & value == condition.value_two.unwrap_or(0),
    }
}

/// Do all conditions of an entry hold? A selector stands in place of the one on argument 0.
pub(super) fn applies(rule: &Rule, selector: Option<Selector>, arguments: &[u64; 6]) -> bool {
    let selected = selector.is_none_or(|selector| arguments[0] == u64::from(selector.value));
    let mut conditions = rule.args.iter();
    selected
        && conditions.all(|condition| {
            (selector.is_some() && condition.index == 0)
                || holds(condition, arguments[usize::from(condition.index)])
        })
}

/// What a call gets that these entries are about. They must not contradict each other.
pub(super) fn evaluate(
    profile: &Profile,
    mentions: &[Mention],
    width: Width,
    arguments: &[u64; 6],
) -> Answer {
    let default = Answer::new(profile.default_action, profile.default_errno_ret);
    let arguments = &seen(width, arguments);
    let mut answers = mentions.iter().filter_map(|mention| {
        let rule = &profile.syscalls[mention.entry];
        let answer = Answer::new(rule.action, rule.errno_ret);
        // Runtimes leave entries out that answer what the default does.
        (answer != default && applies(rule, mention.selector, arguments)).then_some(answer)
    });
    answers.next().unwrap_or(default)
}

/// The arguments of which a filter sees so much.
pub(super) fn seen(width: Width, arguments: &[u64; 6]) -> [u64; 6] {
    match width {
        Width::Bits32 => arguments.map(|argument| argument & 0xffff_ffff),
        Width::Bits64 => *arguments,
    }
}

/// The arguments in a witness like `kill(0x1, 0x2)`; those that it leaves out do not matter.
pub(super) fn arguments_of(witness: &str) -> [u64; 6] {
    let inner = witness.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    let texts = inner.map_or("", |(inner, _)| inner).split(", ");
    let mut arguments = [0; 6];
    for (argument, text) in arguments.iter_mut().zip(texts.filter(|text| !text.is_empty())) {
        let digits = text
            .strip_prefix("0x")
            .map(|digits| u64::from_str_radix(digits, 16));
        assert!(matches!(digits, Some(Ok(_))), "{witness}");
        *argument = digits.and_then(Result::ok).unwrap_or(0);
    }
    arguments
}
