//! Whether containers can start under a profile: what runtimes need between the loading of a container's filter and
//! the start of its program, and whether the profile lets them.
//!
//! A runtime loads the filter into its own process before it calls execve(2), and some of what it does in between is
//! subject to the filter. Which calls that are depends on the runtime, its version, and `no_new_privs`: without it the
//! filter must be loaded while the process still has its privileges, so earlier.
//!
//! The needs are data, measured by starting containers, and so are the arguments that runtimes pass. Asked are the
//! meanings of calls: a start fails for certain if a need is denied whatever a runtime may pass. Where some of that is
//! denied and it is not known whether the runtime passes it or gets over it, the start may fail, and that is said.
//! Pure; knows `profile`, `meaning`, and of `filter` what it exports.

mod answers;
mod call;
mod findings;
mod needs;
mod room;
mod sites;

pub use answers::{CallAnswer, StartAnswers, start_calls};
pub use call::{Argument, Call, Site};
pub use findings::findings;
pub use needs::{PORTABLE_START, PORTABLE_START_PRIVILEGED, START_NEEDS};
pub use room::nearly_too_large;

use std::fmt;
use std::ops::{BitOr, Sub};

use crate::profile::{Affected, Software};

/// Ways in which a filter keeps a call from being made, as a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Denials(u8);

impl Denials {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// The call returns 0, as if it had succeeded: an errno of 0.
    pub const ZERO: Self = Self(1);
    /// The call fails with EPERM.
    pub const EPERM: Self = Self(2);
    /// The call fails with ENOSYS.
    pub const ENOSYS: Self = Self(4);
    /// The call fails with some other errno. Measured with EACCES.
    pub const OTHER: Self = Self(8);
    /// The call ends its process or thread.
    pub const KILL: Self = Self(16);
    /// Any errno but 0.
    pub const ERRNO: Self = Self(2 | 4 | 8);
    /// Each of them.
    pub const ANY: Self = Self(31);

    /// The five of which all are made up, with their names in tables.
    pub const NAMED: [(Self, &'static str); 5] = [
        (Self::ZERO, "errno 0"),
        (Self::EPERM, "EPERM"),
        (Self::ENOSYS, "ENOSYS"),
        (Self::OTHER, "another errno"),
        (Self::KILL, "kill"),
    ];

    /// As a number, of which each bit is one of [`Denials::NAMED`].
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Of such a number; `None` if it has other bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits & !Self::ANY.0 == 0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// The denial that an errno is.
    #[must_use]
    pub const fn of_errno(errno: u16) -> Self {
        match errno {
            0 => Self::ZERO,
            1 => Self::EPERM,
            38 => Self::ENOSYS,
            _ => Self::OTHER,
        }
    }

    /// Whether the two have something in common.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it is some, and none but these.
    #[must_use]
    pub const fn is_some_of(self, these: Self) -> bool {
        self.0 != 0 && self.0 & !these.0 == 0
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Denials {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl Sub for Denials {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Display for Denials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Self::NAMED
            .iter()
            .filter(|(one, _)| self.intersects(*one))
            .map(|(_, name)| *name)
            .collect();
        f.write_str(&names.join(", "))
    }
}

/// One way in which a start fails: each of the calls is denied in one of the ways beside it. More than one call where
/// the runtime has a second way to do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// Names of system calls, and the denials that the runtime does not get over.
    pub calls: &'static [(&'static str, Denials)],
    /// Whether every start needs it. Go's runtime makes some calls at moments of its own: a start that is denied one
    /// of those fails now and then.
    pub always: bool,
    /// Whether containers that run as root need it, too.
    pub root: bool,
}

impl Need {
    const fn new(calls: &'static [(&'static str, Denials)]) -> Self {
        Self {
            calls,
            always: true,
            root: true,
        }
    }

    const fn now_and_then(self) -> Self {
        Self {
            always: false,
            ..self
        }
    }

    const fn unless_root(self) -> Self {
        Self { root: false, ..self }
    }

    /// What becomes of a start of this user, as far as it depends on this. `end` says what would become of it if
    /// nothing but the answers to this call counted, of which these are fatal.
    pub fn end(&self, uid: u32, end: impl Fn(&'static str, Denials) -> End) -> End {
        if !self.root && uid == 0 {
            return End::Starts;
        }
        let ends = self.calls.iter().map(|(name, fatal)| end(name, *fatal));
        ends.min().unwrap_or(End::Starts)
    }
}

/// What becomes of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It succeeds.
    Starts,
    /// It fails if the runtime passes what the filter denies, and does not get over that.
    Perhaps,
    /// It fails.
    Fails,
}

/// What one version of a runtime needs.
#[derive(Debug, Clone, Copy)]
pub struct StartNeeds {
    /// The runtime.
    pub runtime: Software,
    /// The version that was measured, by starting containers under filters that deny one call or two.
    pub version: &'static str,
    /// The versions that are taken to need the same. Those between two that were measured are taken to need what
    /// either does.
    pub versions: Affected,
    /// Of containers with Kubernetes' `allowPrivilegeEscalation: false`.
    pub with_no_new_privs: Start,
    /// Of others.
    pub without_no_new_privs: Start,
}

/// What starts need of one kind, in lists so that what is common to several is there once.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    needs: &'static [&'static [Need]],
    sites: &'static [&'static [Site]],
}

impl StartNeeds {
    /// Of one kind of start.
    #[must_use]
    pub const fn start(&self, no_new_privs: bool) -> &Start {
        if no_new_privs {
            &self.with_no_new_privs
        } else {
            &self.without_no_new_privs
        }
    }
}

impl Start {
    /// Each of its needs.
    pub fn needs(&self) -> impl Iterator<Item = &'static Need> + use<> {
        self.needs.iter().copied().flatten()
    }

    /// Every call that is made and of which something is known.
    pub fn sites(&self) -> impl Iterator<Item = &'static Site> + use<> {
        self.sites.iter().copied().flatten()
    }

    /// The needs for want of which a start of this user fails, where `denial` says how the filter denies a call, if it
    /// does so whatever the arguments.
    pub fn missing(&self, uid: u32, denial: impl Fn(&str) -> Denials) -> impl Iterator<Item = &'static Need> {
        let end = move |name: &'static str, fatal| {
            if denial(name).is_some_of(fatal) {
                End::Fails
            } else {
                End::Starts
            }
        };
        self.needs().filter(move |need| need.end(uid, &end) == End::Fails)
    }

    /// What becomes of a start as far as it depends on this call, of whose denials these are fatal.
    #[must_use]
    pub fn end(&self, name: &'static str, fatal: Denials, answer: impl Fn(Call) -> CallAnswer) -> End {
        let mut sites: Vec<Site> = self
            .sites()
            .filter(|site| site.call.name == name)
            .copied()
            .collect();
        if sites.is_empty() {
            sites.push(Site::new(name, &[]));
        }
        let answers: Vec<_> = sites.iter().map(|site| (site, answer(site.call))).collect();
        let fails = |answer: &CallAnswer| answer.always_denied().is_some_of(fatal);
        // Death is never got over. With an answer that is, the runtime may go another way and never come to the others.
        let decides = |(site, answer): &(&Site, CallAnswer)| {
            let is_decided = site.decides && !answer.denials.intersects(Denials::ZERO);
            fails(answer) && (is_decided || answer.denials == Denials::KILL)
        };
        let is_plain = |answer: &CallAnswer| fails(answer) || answer.denials.is_empty();
        if answers.iter().all(|(_, answer)| fails(answer))
            || (answers.iter().any(decides) && answers.iter().all(|(_, answer)| is_plain(answer)))
        {
            End::Fails
        } else if answers.iter().any(|(_, answer)| answer.denials.intersects(fatal)) {
            End::Perhaps
        } else {
            End::Starts
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn without(denied: &'static [(&'static str, Denials)]) -> impl Fn(&str) -> Denials {
        |name| {
            denied
                .iter()
                .find(|(one, _)| *one == name)
                .map_or(Denials::NONE, |(_, denials)| *denials)
        }
    }

    fn needs_of(runtime: &str, no_new_privs: bool) -> &'static Start {
        let mut all = START_NEEDS.iter();
        let needs = all.find(|needs| needs.runtime.as_str() == runtime).unwrap();
        needs.start(no_new_privs)
    }

    /// Each of them, with its runtime and whether it is with `no_new_privs`.
    fn starts() -> impl Iterator<Item = (String, bool, &'static Start)> {
        START_NEEDS.iter().flat_map(|needs| {
            [true, false].map(|no_new_privs| {
                let runtime = format!("{} {}", needs.runtime.as_str(), needs.version);
                (runtime, no_new_privs, needs.start(no_new_privs))
            })
        })
    }

    #[test]
    fn nothing_is_missing_where_nothing_is_denied() {
        for (runtime, _, start) in starts() {
            assert_eq!(start.missing(1000, |_| Denials::NONE).count(), 0, "{runtime}");
        }
    }

    #[test]
    fn the_portable_calls_are_enough_for_every_runtime_whatever_the_others_get() {
        for (runtime, no_new_privs, start) in starts() {
            for (denial, name) in Denials::NAMED {
                let allowed = |call: &&str| PORTABLE_START.contains(call);
                let privileged = |call: &&str| !no_new_privs && PORTABLE_START_PRIVILEGED.contains(call);
                let answer = |call: &str| {
                    if allowed(&call) || privileged(&call) {
                        Denials::NONE
                    } else {
                        denial
                    }
                };
                let missing: Vec<&Need> = start.missing(1000, answer).collect();
                assert!(missing.is_empty(), "{runtime} under {name}: {missing:?}");
            }
        }
    }

    #[test]
    fn one_of_two_ways_is_enough() {
        let runc = needs_of("runc", true);
        let openat2 = without(&[("openat2", Denials::ENOSYS)]);
        assert_eq!(runc.missing(0, openat2).count(), 0);
        let both = without(&[("openat2", Denials::ENOSYS), ("readlinkat", Denials::KILL)]);
        assert_eq!(runc.missing(0, both).count(), 1);
    }

    #[test]
    fn an_answer_that_the_runtime_gets_over_is_not_missing() {
        let youki = needs_of("youki", true);
        assert_eq!(
            youki.missing(0, without(&[("statx", Denials::ENOSYS)])).count(),
            0
        );
        assert_eq!(youki.missing(0, without(&[("statx", Denials::EPERM)])).count(), 1);
    }

    #[test]
    fn some_needs_are_those_of_ordinary_users_alone() {
        let runc = needs_of("runc", false);
        let fchown = without(&[("fchown", Denials::KILL)]);
        assert_eq!(runc.missing(0, &fchown).count(), 0);
        assert_eq!(runc.missing(1000, &fchown).count(), 1);
    }

    #[test]
    fn a_call_that_is_denied_in_several_ways_is_missing_if_each_of_them_is_fatal() {
        let runc = needs_of("runc", true);
        let fcntl = |denials| runc.missing(0, without_fcntl(denials)).count();
        assert_eq!(fcntl(Denials::KILL), 1);
        assert_eq!(fcntl(Denials::KILL | Denials::EPERM), 0);
    }

    fn without_fcntl(denials: Denials) -> impl Fn(&str) -> Denials {
        move |name| if name == "fcntl" { denials } else { Denials::NONE }
    }

    #[test]
    fn what_fails_with_no_new_privs_fails_without() {
        let calls: BTreeSet<&str> = start_calls().map(|call| call.name).collect();
        for needs in START_NEEDS {
            let [with, without] = [true, false].map(|no_new_privs| needs.start(no_new_privs));
            for one in &calls {
                for other in &calls {
                    for (denials, _) in Denials::NAMED {
                        let denial = |name: &str| {
                            if name == *one || name == *other {
                                denials
                            } else {
                                Denials::NONE
                            }
                        };
                        let fails = |start: &Start| start.missing(0, denial).any(|need| need.always);
                        assert!(
                            !fails(with) || fails(without),
                            "{} {}: {one}, {other}: {denials}",
                            needs.runtime.as_str(),
                            needs.version
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn tables_are_sorted_and_say_nothing_twice() {
        for (runtime, no_new_privs, start) in starts() {
            for list in start.needs {
                let calls: Vec<_> = list.iter().map(|need| need.calls[0].0).collect();
                assert!(calls.is_sorted(), "{runtime}: {calls:?}");
            }
            for list in start.sites {
                let names: Vec<_> = list.iter().map(|site| site.call.name).collect();
                assert!(names.is_sorted(), "{runtime}: {names:?}");
            }
            let needs: Vec<_> = start.needs().collect();
            assert!(!no_new_privs || needs.iter().all(|need| need.root));
            for (index, site) in start.sites().enumerate() {
                let is_needed = |need: &&Need| need.calls.iter().any(|(name, _)| *name == site.call.name);
                assert!(
                    needs.iter().copied().any(|need| is_needed(&need)),
                    "{runtime}: {}",
                    site.call
                );
                let is_same = |other: &&Site| other.call == site.call;
                assert!(
                    !start.sites().skip(index + 1).any(|other| is_same(&other)),
                    "{runtime}: {}",
                    site.call
                );
            }
        }
        assert!(PORTABLE_START.is_sorted() && PORTABLE_START_PRIVILEGED.is_sorted());
        assert!(
            !PORTABLE_START
                .iter()
                .any(|call| PORTABLE_START_PRIVILEGED.contains(call))
        );
    }

    /// What becomes of a start that passes two things to `openat`, both errnos fatal.
    fn of_two(decides: bool, answers: [CallAnswer; 2]) -> End {
        const FIRST: Call = Call {
            name: "openat",
            arguments: &[Argument::Is(1)],
        };
        const SITES: [Site; 2] = [
            Site::new("openat", &[Argument::Is(1)]),
            Site::new("openat", &[Argument::Is(2)]),
        ];
        const DECIDING: [Site; 2] = [SITES[0].decides(), SITES[1]];
        let start = Start {
            needs: &[],
            sites: if decides { &[&DECIDING] } else { &[&SITES] },
        };
        start.end("openat", Denials::EPERM | Denials::KILL, |call| {
            answers[usize::from(call != FIRST)]
        })
    }

    #[test]
    fn a_start_fails_if_all_that_a_runtime_passes_to_a_call_is_denied_or_some_of_it_by_death() {
        let always = |denials| CallAnswer {
            denials,
            is_always_denied: true,
            ..CallAnswer::default()
        };
        let through = CallAnswer::default();
        let sometimes = CallAnswer {
            denials: Denials::EPERM,
            ..through
        };
        let [eperm, killed, other] = [Denials::EPERM, Denials::KILL, Denials::OTHER].map(always);
        assert_eq!(of_two(false, [through, through]), End::Starts);
        assert_eq!(of_two(false, [eperm, eperm]), End::Fails);
        assert_eq!(of_two(false, [eperm, killed]), End::Fails);
        assert_eq!(of_two(false, [killed, through]), End::Fails);
        // Whether it gets over that is known where it decides.
        assert_eq!(of_two(false, [eperm, through]), End::Perhaps);
        assert_eq!(of_two(true, [eperm, through]), End::Fails);
        assert_eq!(of_two(true, [through, eperm]), End::Perhaps);
        // Whether it passes that is not known.
        assert_eq!(of_two(true, [sometimes, through]), End::Perhaps);
        // That it gets over.
        assert_eq!(of_two(true, [other, other]), End::Starts);
        assert_eq!(of_two(true, [other, killed]), End::Perhaps);
    }
}
