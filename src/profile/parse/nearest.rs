//! Help for misspelt names.

use super::super::finding::quoted;

/// What to say of a key that is none of `known`.
pub(crate) fn unknown_key(key: &str, known: &[&str]) -> String {
    match nearest(key, known) {
        Some(near) => format!("unknown key {}; did you mean {near}?", quoted(key)),
        None if key == "<<" => "a YAML merge is not followed: write the keys themselves".to_owned(),
        None => format!("unknown key {}; the keys are {}", quoted(key), known.join(", ")),
    }
}

/// The longest text that may be a misspelt name, in bytes.
const MAX_TEXT: usize = 64;
/// What a typo costs at most. See [`cost`].
const MAX_COST: usize = 2;
/// Of a digit that is another one or too many: 32 and 64 are no typos of each other.
const DIGIT: usize = 3;

/// The name that was probably meant: the same but for case, the end of one (`ALLOW` for `SCMP_ACT_ALLOW`), or one that is
/// a typo or two away. `None` where two are as near.
///
/// The words that all names begin with count for nothing where they are missing or incomplete.
pub(crate) fn nearest<'n>(text: &str, names: &[&'n str]) -> Option<&'n str> {
    if text.is_empty() || text.len() > MAX_TEXT {
        return None;
    }
    let text = text.to_ascii_uppercase();
    let is_end_of = |name: &str| {
        let rest = name.to_ascii_uppercase();
        rest.strip_suffix(&text)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
    };
    if let Some(name) = names.iter().find(|name| is_end_of(name)) {
        return Some(name);
    }
    let prefix = common_words(names);
    let short = without_words(&text, prefix);
    let mut best: Option<(usize, &'n str)> = None;
    let mut is_alone = true;
    for &name in names {
        let whole = name.to_ascii_uppercase();
        let costs = [typo(&text, &whole), typo(&short, &whole[prefix.len()..])];
        let Some(cost) = costs.into_iter().flatten().min() else {
            continue;
        };
        match best {
            Some((least, _)) if least < cost => {}
            Some((least, _)) if least == cost => is_alone = false,
            _ => (best, is_alone) = (Some((cost, name)), true),
        }
    }
    best.filter(|_| is_alone).map(|(_, name)| name)
}

/// What it costs to take the text for the name; `None` where that is too far-fetched.
fn typo(text: &str, name: &str) -> Option<usize> {
    let (text, name): (Vec<char>, Vec<char>) = (text.chars().collect(), name.chars().collect());
    let cost = cost(&text, &name);
    (cost <= MAX_COST && cost < text.len()).then_some(cost)
}

/// The edits that make the name of the text: a character put in, taken out or replaced, or two neighbours
/// exchanged, 1 each, but [`DIGIT`] for a digit taken out or replaced ("optimal string alignment").
fn cost(text: &[char], name: &[char]) -> usize {
    let weight = |c: char| if c.is_ascii_digit() { DIGIT } else { 1 };
    let width = name.len() + 1;
    let mut before = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for (i, &a) in text.iter().enumerate() {
        let mut row = vec![last[0] + weight(a); width];
        for (j, &b) in name.iter().enumerate() {
            let replaced = last[j] + if a == b { 0 } else { weight(a) };
            let put_in = row[j] + 1;
            let taken_out = last[j + 1] + weight(a);
            row[j + 1] = replaced.min(put_in).min(taken_out);
            if i > 0 && j > 0 && a == name[j - 1] && text[i - 1] == b {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[name.len()]
}

/// What all names begin with, up to and with its last `_`.
fn common_words<'n>(names: &[&'n str]) -> &'n str {
    let Some((first, others)) = names.split_first() else {
        return "";
    };
    first
        .rmatch_indices('_')
        .map(|(at, _)| &first[..=at])
        .find(|words| !others.is_empty() && others.iter().all(|name| name.starts_with(words)))
        .unwrap_or_default()
}

/// A text without the words of a prefix that it begins with.
fn without_words(text: &str, prefix: &str) -> String {
    let is_of_prefix = |word: &&str| prefix.split('_').any(|other| other == *word && !word.is_empty());
    let words: Vec<&str> = text.split('_').skip_while(is_of_prefix).collect();
    words.join("_")
}

#[cfg(test)]
mod tests {
    use super::super::super::model::{Action, Architecture, Flag, Operator};
    use super::super::{CONDITION, RULE, SPEC};
    use super::*;

    #[track_caller]
    fn assert_nearest(names: &[&str], expected: &[(&str, Option<&str>)]) {
        for (text, name) in expected {
            assert_eq!(nearest(text, names), *name, "{text:?}");
        }
    }

    fn all<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<&'static str> {
        all.iter().map(|one| name(*one)).collect()
    }

    #[test]
    fn every_name_is_its_own_nearest_in_any_case_and_without_its_prefix() {
        let actions = all(Action::ALL, Action::as_str);
        let architectures = all(Architecture::ALL, Architecture::as_str);
        let operators = all(Operator::ALL, Operator::as_str);
        for names in [&actions, &architectures, &operators] {
            for name in names {
                assert_eq!(nearest(&name.to_ascii_lowercase(), names), Some(*name));
                let short = &name[common_words(names).len()..];
                assert_eq!(nearest(short, names), Some(*name));
            }
        }
    }

    #[test]
    fn a_misspelt_action_finds_the_right_one() {
        assert_nearest(
            &all(Action::ALL, Action::as_str),
            &[
                ("SCMP_ACT_ALOW", Some("SCMP_ACT_ALLOW")),
                ("SCMP_ACT_LGO", Some("SCMP_ACT_LOG")),
                ("SCMP_ACT_ERNO", Some("SCMP_ACT_ERRNO")),
                ("SCMP_ACT_ERROR", Some("SCMP_ACT_ERRNO")),
                ("SCMP_ACT_TARP", Some("SCMP_ACT_TRAP")),
                ("SCMP_ACT_TRCE", Some("SCMP_ACT_TRACE")),
                ("SCMP_ACT_KILLPROCESS", Some("SCMP_ACT_KILL_PROCESS")),
                ("SCMP_ACT_KILL_THRAED", Some("SCMP_ACT_KILL_THREAD")),
                ("SCMP_KILL_PROCESS", Some("SCMP_ACT_KILL_PROCESS")),
                ("ACT_ALLOW", Some("SCMP_ACT_ALLOW")),
                ("SCPM_ACT_ALLOW", Some("SCMP_ACT_ALLOW")),
                ("kill_process", Some("SCMP_ACT_KILL_PROCESS")),
                ("SCMP_ACT_PERMIT", None),
                ("SCMP_ACT_", None),
                ("SCMP", None),
                ("OW", None),
                ("", None),
            ],
        );
    }

    #[test]
    fn a_misspelt_architecture_finds_the_right_one_and_never_another_width() {
        assert_nearest(
            &all(Architecture::ALL, Architecture::as_str),
            &[
                ("SCMP_ARCH_X8664", Some("SCMP_ARCH_X86_64")),
                ("SCMP_ARCH_X86-64", Some("SCMP_ARCH_X86_64")),
                ("SCMP_ARCH_X86_46", Some("SCMP_ARCH_X86_64")),
                ("SCMP_ARCH_X68", Some("SCMP_ARCH_X86")),
                ("SCMP_X86", Some("SCMP_ARCH_X86")),
                ("SCMP_ARCH_ARCH64", Some("SCMP_ARCH_AARCH64")),
                ("SCMP_ARCH_AARCH46", Some("SCMP_ARCH_AARCH64")),
                ("SCMP_ARCH_PPC64EL", Some("SCMP_ARCH_PPC64LE")),
                ("SCMP_ARCH_MIPSLE", Some("SCMP_ARCH_MIPSEL")),
                ("SCMP_ARCH_RISCV", Some("SCMP_ARCH_RISCV64")),
                ("SCMP_ARCH_LONGARCH64", Some("SCMP_ARCH_LOONGARCH64")),
                ("SCMP_ARCH_S309X", Some("SCMP_ARCH_S390X")),
                // Another width, or neither.
                ("SCMP_ARCH_X64", None),
                ("SCMP_ARCH_X84", None),
                ("SCMP_ARCH_MIPS32", None),
                ("SCMP_ARCH_AARCH32", None),
                ("SCMP_ARCH_PARISC32", None),
                ("SCMP_ARCH_SPARC", None),
            ],
        );
    }

    #[test]
    fn a_misspelt_operator_or_flag_finds_the_right_one() {
        assert_nearest(
            &all(Operator::ALL, Operator::as_str),
            &[
                ("SCMP_CMP_MASKEDEQ", Some("SCMP_CMP_MASKED_EQ")),
                ("SCMP_CMP_MASK_EQ", Some("SCMP_CMP_MASKED_EQ")),
                ("SCMP_EQ", Some("SCMP_CMP_EQ")),
                ("masked_eq", Some("SCMP_CMP_MASKED_EQ")),
                // As near to SCMP_CMP_NE as to SCMP_CMP_LE and SCMP_CMP_GE.
                ("SCMP_CMP_E", None),
                ("==", None),
            ],
        );
        assert_nearest(
            &all(Flag::ALL, Flag::as_str),
            &[
                ("TSYNCH", Some("SECCOMP_FILTER_FLAG_TSYNC")),
                ("SECCOMP_FLAG_LOG", Some("SECCOMP_FILTER_FLAG_LOG")),
                (
                    "SECCOMP_FILTER_FLAG_SPECALLOW",
                    Some("SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
                ),
                ("SECCOMP_FILTER_FLAG_NEW_LISTENER", None),
            ],
        );
    }

    #[test]
    fn a_misspelt_key_finds_the_right_one() {
        assert_nearest(
            &SPEC.known,
            &[
                ("syscall", Some("syscalls")),
                ("sycsalls", Some("syscalls")),
                ("default_action", Some("defaultAction")),
                ("DefaultAction", Some("defaultAction")),
                ("defaultActoin", Some("defaultAction")),
                ("architecture", Some("architectures")),
                ("listnerPath", Some("listenerPath")),
                ("nodeselector", Some("nodeSelector")),
                ("rules", None),
            ],
        );
        assert_nearest(
            &RULE.known,
            &[
                ("arg", Some("args")),
                ("name", Some("names")),
                ("acton", Some("action")),
                ("errno_ret", Some("errnoRet")),
                ("conditions", None),
            ],
        );
        assert_nearest(
            &CONDITION.known,
            &[
                ("indx", Some("index")),
                ("valuetwo", Some("valueTwo")),
                ("vlaue", Some("value")),
                ("value2", None),
            ],
        );
        assert_eq!(nearest(&"a".repeat(100_000), &["args"]), None);
        assert_eq!(nearest("a", &[]), None);
    }
}
