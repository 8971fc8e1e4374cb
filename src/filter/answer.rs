//! What a filter answers, as the kernel reads it.

use std::fmt;

use crate::profile::{Action, Errno};

/// What runtimes answer where a profile says `SCMP_ACT_ERRNO` or `SCMP_ACT_TRACE` and no errno: EPERM.
pub(super) const DEFAULT_ERRNO: u16 = 1;

/// A `SECCOMP_RET_*` action with its datum. Source: seccomp(2) and `include/uapi/linux/seccomp.h` of Linux.
///
/// `SCMP_ACT_KILL` and `SCMP_ACT_KILL_THREAD` are one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Answer(u32);

impl Answer {
    /// The calling thread dies. Also what libseccomp answers to a call of an architecture that a filter does not
    /// hold (`SCMP_FLTATR_ACT_BADARCH`, which no profile can set).
    pub const KILL_THREAD: Self = Self(0);

    const KILL_PROCESS: u32 = 0x8000_0000;
    const TRAP: u32 = 0x0003_0000;
    const ERRNO: u32 = 0x0005_0000;
    const NOTIFY: u32 = 0x7fc0_0000;
    const TRACE: u32 = 0x7ff0_0000;
    const LOG: u32 = 0x7ffc_0000;
    const ALLOW: u32 = 0x7fff_0000;
    const ACTION: u32 = 0xffff_0000;

    /// Of an action of a profile.
    #[must_use]
    pub fn new(action: Action, errno: Option<Errno>) -> Self {
        let errno = u32::from(errno.map_or(DEFAULT_ERRNO, Errno::get));
        Self(match action {
            Action::Kill | Action::KillThread => Self::KILL_THREAD.0,
            Action::KillProcess => Self::KILL_PROCESS,
            Action::Trap => Self::TRAP,
            Action::Errno => Self::ERRNO | errno,
            Action::Trace => Self::TRACE | errno,
            Action::Allow => Self::ALLOW,
            Action::Log => Self::LOG,
            Action::Notify => Self::NOTIFY,
        })
    }

    /// Of a word that a program returned.
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    /// The word.
    #[must_use]
    pub const fn word(self) -> u32 {
        self.0
    }

    /// Whether the call is made.
    #[must_use]
    pub const fn lets_through(self) -> bool {
        matches!(self.0 & Self::ACTION, Self::ALLOW | Self::LOG)
    }

    /// Whether a listener decides.
    #[must_use]
    pub const fn asks_listener(self) -> bool {
        self.0 & Self::ACTION == Self::NOTIFY
    }

    /// Whether a tracer decides.
    #[must_use]
    pub const fn asks_tracer(self) -> bool {
        self.0 & Self::ACTION == Self::TRACE
    }

    /// The errno that the call fails with, for an answer that is one.
    #[must_use]
    pub const fn errno(self) -> Option<u16> {
        match self.0 & Self::ACTION {
            // The lower half of the word.
            Self::ERRNO => Some((self.0 & 0xffff) as u16),
            _ => None,
        }
    }
}

impl fmt::Display for Answer {
    /// The name of the action in the specification, and the errno in parentheses: `SCMP_ACT_ERRNO(38)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let datum = self.0 & !Self::ACTION;
        match self.0 & Self::ACTION {
            Self::KILL_PROCESS => f.write_str("SCMP_ACT_KILL_PROCESS"),
            0 => f.write_str("SCMP_ACT_KILL_THREAD"),
            Self::TRAP => f.write_str("SCMP_ACT_TRAP"),
            Self::ERRNO => write!(f, "SCMP_ACT_ERRNO({datum})"),
            Self::NOTIFY => f.write_str("SCMP_ACT_NOTIFY"),
            Self::TRACE => write!(f, "SCMP_ACT_TRACE({datum})"),
            Self::LOG => f.write_str("SCMP_ACT_LOG"),
            Self::ALLOW => f.write_str("SCMP_ACT_ALLOW"),
            _ => write!(f, "{:#010x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_as_the_action_it_was_made_of() {
        for &action in Action::ALL {
            let text = Answer::new(action, Errno::new(38)).to_string();
            let expected = match action {
                Action::Kill => "SCMP_ACT_KILL_THREAD".to_owned(),
                action if action.takes_errno() => format!("{action}(38)"),
                action => action.to_string(),
            };
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn the_words_are_those_of_the_kernel() {
        let words = [
            (Action::KillProcess, libc::SECCOMP_RET_KILL_PROCESS),
            (Action::KillThread, libc::SECCOMP_RET_KILL_THREAD),
            (Action::Trap, libc::SECCOMP_RET_TRAP),
            (Action::Errno, libc::SECCOMP_RET_ERRNO | 1),
            (Action::Notify, libc::SECCOMP_RET_USER_NOTIF),
            (Action::Trace, libc::SECCOMP_RET_TRACE | 1),
            (Action::Log, libc::SECCOMP_RET_LOG),
            (Action::Allow, libc::SECCOMP_RET_ALLOW),
        ];
        for (action, word) in words {
            assert_eq!(Answer::new(action, None).word(), word, "{action}");
        }
    }

    #[test]
    fn only_allowed_and_logged_calls_are_made() {
        let made: Vec<_> = Action::ALL
            .iter()
            .filter(|&&action| Answer::new(action, None).lets_through())
            .collect();
        assert_eq!(made, [&Action::Allow, &Action::Log]);
    }
}
