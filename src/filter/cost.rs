//! How much work a profile is for libseccomp, told before libseccomp sees it.

use std::collections::HashMap;

use crate::profile::{Architecture, Profile};

/// The highest [`cost`] that is tried.
///
/// Generous on purpose: size says little before compilation, as libseccomp shares equal chains (6,000 rules on
/// three architectures, 18,000 here, make about 690 instructions and start everywhere). The time of adding
/// rules is quadratic: 9,000 take 1.5 s, 20,000 take 8 s, so what lies between and this bound meets the CPU
/// limit of its process. Above it lies what libseccomp 2.6.0 and older crash on (66,000 rules, GHSA-2hqh-5c36-grrm).
pub const MAX_COST: u64 = 65_536;

/// Comparisons that libseccomp has to arrange: for each entry its names, times its conditions (one for none),
/// times the architectures. Counted by multiplication, so that a small text that multiplies out is told at once.
#[must_use]
pub fn cost(profile: &Profile, native: Option<Architecture>) -> u64 {
    let mut architectures = profile.architectures.clone();
    architectures.extend(native);
    architectures.sort_unstable();
    architectures.dedup();

    let per_architecture = profile.syscalls.iter().fold(0_u64, |sum, rule| {
        sum.saturating_add((rule.names.len() as u64).saturating_mul(rule.args.len().max(1) as u64))
    });
    per_architecture.saturating_mul(architectures.len() as u64)
}

/// The call that a profile has most conditions on.
#[derive(Debug, PartialEq, Eq)]
pub struct Costliest<'a> {
    /// Its name.
    pub call: &'a str,
    /// How many conditions.
    pub conditions: usize,
    /// In how many entries.
    pub entries: usize,
    /// The first of those that have most of them.
    pub entry: usize,
}

/// What to look at first where libseccomp gives up: by all that is known, conditions are what it gives up on. `None`
/// where there are none.
#[must_use]
pub fn costliest(profile: &Profile) -> Option<Costliest<'_>> {
    let mut calls: Vec<Costliest<'_>> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (entry, rule) in profile.syscalls.iter().enumerate() {
        let conditions = rule.args.len();
        for call in rule.names.iter().filter(|_| conditions > 0) {
            let at = *known.entry(call).or_insert_with(|| {
                calls.push(Costliest {
                    call,
                    conditions: 0,
                    entries: 0,
                    entry,
                });
                calls.len() - 1
            });
            let one = &mut calls[at];
            one.conditions += conditions;
            one.entries += 1;
            if conditions > profile.syscalls[one.entry].args.len() {
                one.entry = entry;
            }
        }
    }
    // Of equal ones the first.
    calls.into_iter().rev().max_by_key(|one| one.conditions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Action, Condition, Operator, Rule};

    fn profile(names: usize, conditions: usize, entries: usize, architectures: &[Architecture]) -> Profile {
        let condition = Condition {
            index: 0,
            value: 1,
            value_two: None,
            op: Operator::Equal,
        };
        let rule = Rule {
            names: vec!["read".to_owned(); names],
            action: Action::Allow,
            errno_ret: None,
            args: vec![condition; conditions],
        };
        Profile {
            default_action: Action::Errno,
            default_errno_ret: None,
            architectures: architectures.to_vec(),
            flags: vec![],
            listener_path: None,
            listener_metadata: None,
            syscalls: vec![rule; entries],
        }
    }

    #[test]
    fn six_thousand_rules_on_three_architectures_are_tried() {
        use Architecture::{X32, X86, X86_64};
        let cost = cost(&profile(100, 1, 60, &[X86, X86_64, X32]), Some(X86_64));
        assert_eq!(cost, 18_000);
        assert!(cost <= MAX_COST);
    }

    #[test]
    fn the_call_with_most_conditions_is_the_one_to_look_at_and_without_any_there_is_none() {
        let mut profile = profile(1, 1, 3, &[]);
        for (entry, name) in ["write", "read", "write"].into_iter().enumerate() {
            name.clone_into(&mut profile.syscalls[entry].names[0]);
        }
        let condition = profile.syscalls[0].args[0].clone();
        let look_at = |profile: &Profile| costliest(profile).map(|one| (one.call.to_owned(), one.entry));
        profile.syscalls[1].args = vec![condition.clone(); 2];
        assert_eq!(look_at(&profile), Some(("write".to_owned(), 0)));
        profile.syscalls[2].args = vec![condition; 4];
        let found = costliest(&profile).unwrap();
        assert_eq!((found.conditions, found.entries, found.entry), (5, 2, 2));
        profile.syscalls.iter_mut().for_each(|rule| rule.args.clear());
        assert_eq!(look_at(&profile), None);
    }

    #[test]
    fn thirty_kilobytes_that_multiply_out_to_a_hundred_thousand_rules_are_not() {
        assert!(cost(&profile(1_000, 1, 100, &[]), Some(Architecture::X86_64)) > MAX_COST);
    }

    #[test]
    fn an_architecture_counts_once_and_the_native_one_always() {
        let twice = profile(1, 0, 1, &[Architecture::X86, Architecture::X86]);
        assert_eq!(cost(&twice, Some(Architecture::X86_64)), 2);
        assert_eq!(cost(&twice, Some(Architecture::X86)), 1);
    }
}
