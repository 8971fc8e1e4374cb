//! Whether containers can start under a profile: what runtimes need between the loading of a container's filter and
//! the start of its program, and whether the profile lets them.
//!
//! A runtime loads the filter into its own process before it calls execve(2), and some of what it does in between is
//! subject to the filter. Which calls that are depends on the runtime, its version, and `no_new_privs`: without it the
//! filter must be loaded while the process still has its privileges, so earlier.
//!
//! The needs are data, measured by starting containers. Asked are the meanings of calls, so what is said is certain: a
//! call that is denied for some arguments alone is not counted, unless runtimes are certain to pass those. Pure; knows `profile`, `meaning`, and of
//! `filter` what it exports.

mod answers;
mod findings;
mod needs;

pub use answers::{CallAnswer, StartAnswers, start_calls};
pub use findings::findings;
pub use needs::{PORTABLE_START, PORTABLE_START_PRIVILEGED, START_NEEDS};

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

    /// Whether a start of this user fails for want of it, where `denial` says how the filter denies a call, if it does
    /// so for all arguments.
    pub fn fails(&self, uid: u32, denial: impl Fn(&str) -> Denials) -> bool {
        (self.root || uid != 0)
            && self
                .calls
                .iter()
                .all(|(name, fatal)| denial(name).is_some_of(*fatal))
    }
}

/// What one version of a runtime needs, as seen by starting it.
#[derive(Debug, Clone, Copy)]
pub struct StartNeeds {
    /// The runtime.
    pub runtime: Software,
    /// The version that was measured.
    pub version: &'static str,
    /// The versions that are taken to need the same. Those between two that were measured are taken to need what
    /// either does.
    pub versions: Affected,
    /// Kubernetes' `allowPrivilegeEscalation: false`.
    pub no_new_privs: bool,
    /// Each of them.
    pub needs: &'static [Need],
}

impl StartNeeds {
    /// Those for want of which a start of this user fails.
    pub fn missing(&self, uid: u32, denial: impl Fn(&str) -> Denials) -> impl Iterator<Item = &Need> {
        self.needs.iter().filter(move |need| need.fails(uid, &denial))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(denied: &'static [(&'static str, Denials)]) -> impl Fn(&str) -> Denials {
        |name| {
            denied
                .iter()
                .find(|(one, _)| *one == name)
                .map_or(Denials::NONE, |(_, denials)| *denials)
        }
    }

    fn needs_of(runtime: &str, no_new_privs: bool) -> &'static StartNeeds {
        START_NEEDS
            .iter()
            .find(|needs| needs.runtime.as_str() == runtime && needs.no_new_privs == no_new_privs)
            .unwrap()
    }

    #[test]
    fn nothing_is_missing_where_nothing_is_denied() {
        for needs in START_NEEDS {
            assert_eq!(needs.missing(1000, |_| Denials::NONE).count(), 0, "{needs:?}");
        }
    }

    #[test]
    fn the_portable_calls_are_enough_for_every_runtime_whatever_the_others_get() {
        for needs in START_NEEDS {
            for (denial, name) in Denials::NAMED {
                let allowed = |call: &&str| PORTABLE_START.contains(call);
                let privileged =
                    |call: &&str| !needs.no_new_privs && PORTABLE_START_PRIVILEGED.contains(call);
                let answer = |call: &str| {
                    if allowed(&call) || privileged(&call) {
                        Denials::NONE
                    } else {
                        denial
                    }
                };
                let missing: Vec<&Need> = needs.missing(1000, answer).collect();
                assert!(
                    missing.is_empty(),
                    "{} under {name}: {missing:?}",
                    needs.runtime.as_str()
                );
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
        let calls: Vec<&str> = start_calls().collect();
        let pairs = START_NEEDS.chunks(2).map(|pair| (&pair[0], &pair[1]));
        for (with, without) in pairs {
            assert_eq!((with.runtime, with.version), (without.runtime, without.version));
            assert!(with.no_new_privs && !without.no_new_privs);
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
                        let fails = |needs: &StartNeeds| needs.missing(0, denial).any(|need| need.always);
                        assert!(
                            !fails(with) || fails(without),
                            "{} {}: {one}, {other}: {denials}",
                            with.runtime.as_str(),
                            with.version
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn tables_are_sorted_and_say_nothing_twice() {
        for needs in START_NEEDS {
            let calls: Vec<_> = needs.needs.iter().map(|need| need.calls[0].0).collect();
            assert!(
                calls.is_sorted(),
                "{} {}: {calls:?}",
                needs.runtime.as_str(),
                needs.version
            );
        }
        let restricted = START_NEEDS.iter().filter(|needs| needs.no_new_privs);
        assert!(restricted.flat_map(|needs| needs.needs).all(|need| need.root));
        assert!(PORTABLE_START.is_sorted() && PORTABLE_START_PRIVILEGED.is_sorted());
        assert!(
            !PORTABLE_START
                .iter()
                .any(|call| PORTABLE_START_PRIVILEGED.contains(call))
        );
    }
}
