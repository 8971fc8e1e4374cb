//! What a profile answers to the calls of a start.

use std::collections::{BTreeMap, BTreeSet};

use super::{Denials, START_NEEDS};
use crate::filter::{Answer, ArchitectureCalls};
use crate::meaning::Meaning;
use crate::profile::{Action, Condition, Operator, Profile, syscalls};

/// Go's runtime ends itself by it; without it a start that fails hangs.
const EXIT: &str = "exit_group";

/// The names of all calls that matter to a start, in order, each once.
pub fn start_calls() -> impl Iterator<Item = &'static str> {
    let needs = START_NEEDS.iter().flat_map(|needs| needs.needs);
    let calls = needs.flat_map(|need| need.calls).map(|(name, _)| *name);
    calls.chain([EXIT]).collect::<BTreeSet<_>>().into_iter()
}

/// What runtimes are certain to pass to a call during a start.
///
/// Their descriptors are those that they opened, so above the three standard ones; what they pass a pointer for lies
/// between the first page (`vm.mmap_min_addr`) and the end of user space; and without `no_new_privs` all of them drop
/// capabilities from the bounding set.
fn arguments(name: &str) -> Vec<Condition> {
    const PR_CAPBSET_DROP: u64 = 24;
    let compare = |index, op, value| Condition {
        index,
        value,
        value_two: None,
        op,
    };
    let between = |index, [least, most]: [u64; 2]| {
        [
            compare(index, Operator::GreaterOrEqual, least),
            compare(index, Operator::LessOrEqual, most),
        ]
    };
    let (descriptor, pointer) = ([3, 1 << 20], [1 << 16, (1 << 47) - 1]);
    match name {
        "close" => between(0, descriptor).to_vec(),
        "write" => [between(0, descriptor), between(1, pointer)].concat(),
        "capget" | "capset" => [between(0, pointer), between(1, pointer)].concat(),
        "execve" => [between(0, pointer), between(1, pointer), between(2, pointer)].concat(),
        "prctl" => vec![compare(0, Operator::Equal, PR_CAPBSET_DROP)],
        _ => Vec::new(),
    }
}

/// What becomes of one call, whatever its arguments, as far as those of runtimes are not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallAnswer {
    /// In which ways it is denied; none if it is let through for some arguments.
    pub denials: Denials,
    /// Whether the kernel ends the thread and leaves the process, for some arguments.
    pub kills_thread: bool,
    /// Whether a listener is asked, for some arguments.
    pub asks_listener: bool,
    /// Whether runc answers it with ENOSYS before the filter is asked: its number is above all that the profile names,
    /// and the default denies. Source: `libcontainer/seccomp/patchbpf/enosys_linux.go` of runc.
    pub is_unknown_to_runc: bool,
}

impl CallAnswer {
    /// From all answers that a filter gives to a call.
    #[must_use]
    pub fn new(answers: impl Iterator<Item = Answer>) -> Self {
        let mut all = Self::default();
        let mut lets_through = false;
        for answer in answers {
            all.kills_thread |= answer == Answer::KILL_THREAD;
            all.asks_listener |= answer.asks_listener();
            match denial(answer) {
                Some(denial) => all.denials = all.denials | denial,
                None => lets_through = true,
            }
        }
        if lets_through {
            all.denials = Denials::NONE;
        }
        all
    }
}

/// How an answer denies a call. A listener can let it through.
fn denial(answer: Answer) -> Option<Denials> {
    if answer.lets_through() || answer.asks_listener() {
        None
    } else if let Some(errno) = answer.errno() {
        Some(Denials::of_errno(errno))
    } else if answer.asks_tracer() {
        // Containers have none: seccomp(2), SECCOMP_RET_TRACE.
        Some(Denials::ENOSYS)
    } else {
        Some(Denials::KILL)
    }
}

/// What a profile answers to the calls of a start, by name: those that are not simply let through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartAnswers(BTreeMap<&'static str, CallAnswer>);

impl StartAnswers {
    /// Of a profile on the architecture of these calls, the native one.
    #[must_use]
    pub fn of(profile: &Profile, calls: &ArchitectureCalls, meaning: &mut Meaning<'_>) -> Self {
        let architecture = calls.architecture;
        let has_stub = !matches!(
            profile.default_action,
            Action::Allow | Action::Log | Action::Trace
        );
        let highest = calls.calls.keys().next_back().copied().filter(|_| has_stub);
        Self::new(|name| {
            let number = syscalls::lookup(name).and_then(|call| call.number(architecture));
            let Some(number) = number else {
                return CallAnswer::default();
            };
            let answers = meaning
                .answers(architecture, number, &arguments(name))
                .unwrap_or_default();
            CallAnswer {
                is_unknown_to_runc: highest.is_some_and(|highest| number > highest),
                ..CallAnswer::new(answers.into_iter())
            }
        })
    }

    /// Of each call of [`start_calls`] its answer.
    pub fn new(mut answer: impl FnMut(&'static str) -> CallAnswer) -> Self {
        let answers = start_calls().map(|name| (name, answer(name)));
        Self(
            answers
                .filter(|(_, answer)| *answer != CallAnswer::default())
                .collect(),
        )
    }

    /// What becomes of a call.
    #[must_use]
    pub fn get(&self, name: &str) -> CallAnswer {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Whether Go's runtime tries to end itself and cannot. One that is killed for it has ended.
    pub(super) fn survives_exit(&self) -> bool {
        self.get(EXIT).denials.is_some_of(Denials::ERRNO | Denials::ZERO)
    }

    /// Those that are not simply let through.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, CallAnswer)> {
        self.0.iter().map(|(name, answer)| (*name, *answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::resolve;
    use crate::profile::Errno;

    fn of(answers: &[(Action, Option<u16>)]) -> CallAnswer {
        let answers = answers
            .iter()
            .map(|(action, errno)| Answer::new(*action, errno.and_then(Errno::new)));
        CallAnswer::new(answers)
    }

    #[test]
    fn a_call_is_denied_if_no_argument_lets_it_through() {
        assert_eq!(of(&[(Action::Errno, None)]).denials, Denials::EPERM);
        assert_eq!(
            of(&[(Action::Errno, Some(38)), (Action::Trap, None)]).denials,
            Denials::ENOSYS | Denials::KILL
        );
        for through in [Action::Allow, Action::Log, Action::Notify] {
            let answer = of(&[(Action::KillProcess, None), (through, None)]);
            assert_eq!(answer.denials, Denials::NONE, "{through}");
        }
        assert_eq!(of(&[(Action::Allow, None)]), CallAnswer::default());
    }

    #[test]
    fn nobody_traces_a_container() {
        assert_eq!(of(&[(Action::Trace, Some(5))]).denials, Denials::ENOSYS);
    }

    #[test]
    fn threads_that_die_and_listeners_that_are_asked_are_noted() {
        assert!(of(&[(Action::Kill, None)]).kills_thread);
        assert!(!of(&[(Action::KillProcess, None)]).kills_thread);
        assert!(of(&[(Action::Allow, None), (Action::Notify, None)]).asks_listener);
    }

    /// What a profile says of the calls of a start.
    fn read(text: &str) -> StartAnswers {
        let profile = Profile::from_canonical(text.as_bytes()).unwrap();
        let calls = resolve(&profile).unwrap();
        let mut meaning = Meaning::of(&profile, &calls).unwrap();
        StartAnswers::of(&profile, &calls[0], &mut meaning)
    }

    #[test]
    fn runc_takes_calls_above_the_highest_named_one_for_unknown_if_the_default_denies() {
        let list = |default: &str, highest: &str| {
            read(&format!(
                r#"{{"defaultAction": "{default}", "syscalls": [{{"names": ["execve", "{highest}"], "action": "SCMP_ACT_LOG"}}]}}"#
            ))
        };
        let answers = list("SCMP_ACT_ERRNO", "openat2");
        assert!(!answers.get("openat2").is_unknown_to_runc);
        assert!(!answers.get("close_range").is_unknown_to_runc);
        assert!(answers.get("faccessat2").is_unknown_to_runc);
        assert!(
            list("SCMP_ACT_KILL_PROCESS", "statx")
                .get("openat2")
                .is_unknown_to_runc
        );
        assert!(!list("SCMP_ACT_TRACE", "statx").get("openat2").is_unknown_to_runc);
        assert!(!list("SCMP_ACT_ALLOW", "statx").get("openat2").is_unknown_to_runc);
    }

    #[test]
    fn of_a_condition_counts_what_runtimes_are_certain_to_pass() {
        let denying = |name: &str, op: &str, index: u8, value: u64| {
            let text = format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["{name}"], "action": "SCMP_ACT_ERRNO",
                    "args": [{{"index": {index}, "op": "SCMP_CMP_{op}", "value": {value}}}]}}]}}"#
            );
            !read(&text).get(name).denials.is_empty()
        };
        assert!(denying("execve", "NE", 0, 0));
        assert!(denying("execve", "GT", 2, 0));
        assert!(!denying("execve", "EQ", 2, 0));
        assert!(denying("close", "GT", 0, 2));
        assert!(!denying("close", "GT", 0, 3));
        assert!(denying("write", "GE", 0, 3));
        assert!(denying("capset", "NE", 0, 0));
        assert!(denying("prctl", "EQ", 0, 24) && !denying("prctl", "EQ", 0, 15));
        // Of other calls nothing is certain.
        assert!(!denying("openat", "GT", 0, 2));
    }

    #[test]
    fn calls_of_a_start_are_sorted_and_each_is_there_once() {
        let calls: Vec<_> = start_calls().collect();
        assert!(calls.is_sorted_by(|one, other| one < other), "{calls:?}");
        assert!(calls.contains(&"execve") && calls.contains(&EXIT));
    }
}
