//! What a profile answers to the calls of a start.

use std::collections::{BTreeMap, BTreeSet};

use super::{Call, Denials, START_NEEDS, Start};
use crate::filter::{Answer, ArchitectureCalls};
use crate::meaning::Meaning;
use crate::profile::{Action, Profile, syscalls};

/// Go's runtime ends itself by it; without it a start that fails hangs.
const EXIT: &str = "exit_group";

/// All calls that matter to a start, in order, each once: of each name the one with whatever arguments, and those that
/// runtimes make.
pub fn start_calls() -> impl Iterator<Item = Call> {
    let starts = || {
        START_NEEDS
            .iter()
            .flat_map(|needs| [true, false].map(|no_new_privs| needs.start(no_new_privs)))
    };
    let needs = starts().flat_map(Start::needs).flat_map(|need| need.calls);
    let names = needs.map(|(name, _)| *name).chain([EXIT]).map(Call::any);
    let made = starts().flat_map(Start::sites).map(|site| site.call);
    names.chain(made).collect::<BTreeSet<_>>().into_iter()
}

/// What becomes of one call, for all the arguments that it may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is asked alone, and all combinations occur"
)]
pub struct CallAnswer {
    /// In which ways it is denied, for some arguments.
    pub denials: Denials,
    /// Whether no arguments let it through.
    pub is_always_denied: bool,
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
        let mut all = Self {
            is_always_denied: true,
            ..Self::default()
        };
        for answer in answers {
            all.kills_thread |= answer == Answer::KILL_THREAD;
            all.asks_listener |= answer.asks_listener();
            match denial(answer) {
                Some(denial) => all.denials = all.denials | denial,
                None => all.is_always_denied = false,
            }
        }
        all
    }

    /// In which ways it is denied if no arguments let it through; otherwise none.
    #[must_use]
    pub const fn always_denied(self) -> Denials {
        if self.is_always_denied {
            self.denials
        } else {
            Denials::NONE
        }
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

/// What a profile answers to the calls of a start: to those that are not simply let through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartAnswers(BTreeMap<Call, CallAnswer>);

impl StartAnswers {
    /// Of a profile on the architecture of these calls, the native one.
    #[must_use]
    pub fn of(profile: &Profile, calls: &ArchitectureCalls, meaning: &mut Meaning<'_>) -> Self {
        Self::new(|call| answer(profile, calls, meaning, call))
    }

    /// Of each call of [`start_calls`] its answer.
    pub fn new(mut answer: impl FnMut(Call) -> CallAnswer) -> Self {
        let answers = start_calls().map(|call| (call, answer(call)));
        Self(
            answers
                .filter(|(_, answer)| *answer != CallAnswer::default())
                .collect(),
        )
    }

    /// What becomes of a call, one of [`start_calls`].
    #[must_use]
    pub fn get(&self, call: Call) -> CallAnswer {
        self.0.get(&call).copied().unwrap_or_default()
    }

    /// Whether all calls of this name are simply let through.
    pub(super) fn let_through(&self, name: &'static str) -> bool {
        // That without arguments is the first of its name.
        let mut from_here = self.0.range(Call::any(name)..);
        from_here.next().is_none_or(|(call, _)| call.name != name)
    }

    /// Whether Go's runtime tries to end itself and cannot. One that is killed for it has ended.
    pub(super) fn survives_exit(&self) -> bool {
        let denials = self.get(Call::any(EXIT)).always_denied();
        denials.is_some_of(Denials::ERRNO | Denials::ZERO)
    }

    /// Those that are not simply let through.
    pub fn iter(&self) -> impl Iterator<Item = (Call, CallAnswer)> {
        self.0.iter().map(|(call, answer)| (*call, *answer))
    }
}

fn answer(profile: &Profile, calls: &ArchitectureCalls, meaning: &mut Meaning<'_>, call: Call) -> CallAnswer {
    let architecture = calls.architecture;
    let has_stub = !matches!(
        profile.default_action,
        Action::Allow | Action::Log | Action::Trace
    );
    let highest = calls.calls.keys().next_back().copied().filter(|_| has_stub);
    let number = syscalls::lookup(call.name).and_then(|known| known.number(architecture));
    let answers = number.and_then(|number| {
        let answers = meaning.answers(architecture, number, &[])?;
        // Most profiles ask nothing of the arguments of these calls.
        let is_decided = answers.len() == 1 || call.arguments.is_empty();
        let within = (!is_decided).then(|| meaning.answers(architecture, number, &call.conditions()));
        Some((number, within.unwrap_or(Some(answers))?))
    });
    let Some((number, answers)) = answers else {
        return CallAnswer::default();
    };
    CallAnswer {
        is_unknown_to_runc: highest.is_some_and(|highest| number > highest),
        ..CallAnswer::new(answers.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Argument;
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
        assert_eq!(of(&[(Action::Errno, None)]).always_denied(), Denials::EPERM);
        assert_eq!(
            of(&[(Action::Errno, Some(38)), (Action::Trap, None)]).always_denied(),
            Denials::ENOSYS | Denials::KILL
        );
        for through in [Action::Allow, Action::Log, Action::Notify] {
            let answer = of(&[(Action::KillProcess, None), (through, None)]);
            assert_eq!(answer.always_denied(), Denials::NONE, "{through}");
            assert_eq!(answer.denials, Denials::KILL, "{through}");
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

    #[test]
    fn a_call_is_let_through_where_all_that_are_made_of_its_name_are() {
        let [accept, read, write] = ["accept", "read", "write"].map(Call::any);
        let with_argument = Call {
            arguments: &[Argument::Standard],
            ..read
        };
        for (denied, expected) in [
            (vec![], [true, true, true]),
            (vec![read], [true, false, true]),
            (vec![with_argument], [true, false, true]),
            (vec![accept, write], [false, true, false]),
        ] {
            let answers = denied.iter().map(|call| (*call, of(&[(Action::Errno, None)])));
            let answers = StartAnswers(answers.collect());
            let through = [accept, read, write].map(|call| answers.let_through(call.name));
            assert_eq!(through, expected, "{denied:?}");
        }
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
        assert!(!answers.get(Call::any("openat2")).is_unknown_to_runc);
        assert!(!answers.get(Call::any("close_range")).is_unknown_to_runc);
        assert!(answers.get(Call::any("faccessat2")).is_unknown_to_runc);
        assert!(
            list("SCMP_ACT_KILL_PROCESS", "statx")
                .get(Call::any("openat2"))
                .is_unknown_to_runc
        );
        assert!(
            !list("SCMP_ACT_TRACE", "statx")
                .get(Call::any("openat2"))
                .is_unknown_to_runc
        );
        assert!(
            !list("SCMP_ACT_ALLOW", "statx")
                .get(Call::any("openat2"))
                .is_unknown_to_runc
        );
    }

    #[test]
    fn of_a_condition_counts_what_runtimes_are_certain_to_pass() {
        const FILE: Call = Call {
            name: "openat",
            arguments: &[Argument::Descriptor, Argument::Address, Argument::Is(0x80000)],
        };
        let denials = |op: &str, index: u8, value: u64| {
            let text = format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["openat"], "action": "SCMP_ACT_ERRNO",
                    "args": [{{"index": {index}, "op": "SCMP_CMP_{op}", "value": {value}}}]}}]}}"#
            );
            let profile = Profile::from_canonical(text.as_bytes()).unwrap();
            let calls = resolve(&profile).unwrap();
            let answer = answer(
                &profile,
                &calls[0],
                &mut Meaning::of(&profile, &calls).unwrap(),
                FILE,
            );
            (!answer.always_denied().is_empty(), !answer.denials.is_empty())
        };
        let (always, perhaps, never) = ((true, true), (false, true), (false, false));
        assert_eq!(denials("NE", 2, 0), always);
        assert_eq!(denials("EQ", 2, 0x80000), always);
        assert_eq!(denials("EQ", 2, 0x80001), never);
        assert_eq!(denials("GT", 0, 2), always);
        assert_eq!(denials("GT", 0, 3), perhaps);
        assert_eq!(denials("LE", 0, 2), never);
        assert_eq!(denials("NE", 1, 0), always);
        assert_eq!(denials("GT", 1, 1 << 20), perhaps);
        assert_eq!(denials("EQ", 3, 0), perhaps);
    }

    #[test]
    fn calls_of_a_start_are_sorted_and_each_is_there_once() {
        let calls: Vec<_> = start_calls().collect();
        assert!(calls.is_sorted_by(|one, other| one < other), "{calls:?}");
        assert!(calls.contains(&Call::any("execve")) && calls.contains(&Call::any(EXIT)));
        // As words they are told apart, too: so do they travel.
        let words: BTreeSet<String> = calls.iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), calls.len());
    }
}
