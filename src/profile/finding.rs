//! What is wrong with a profile, where, and what to do about it.

mod affected;
mod code;
mod list;
mod path;

use std::fmt;

pub use affected::{Affected, InvalidSoftware, InvalidVersion, Software, Version};
pub use code::{Code, UnknownCode};
pub use list::Findings;
pub use path::FieldPath;
pub(super) use path::Place;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The profile is never written to disk.
    Invalid,
    /// Named runtimes or versions do something else.
    NotPortable,
    /// Allowed, and probably not meant.
    Lint,
    /// Whatever its rule says of it, somebody has taken responsibility: it refuses nothing and fails nothing. A class of
    /// findings, never of a [`Code`].
    Accepted,
}

impl Class {
    /// The name in status, JSON output and docs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotPortable => "not-portable",
            Self::Lint => "lint",
            Self::Accepted => "accepted",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place in a text file. Both count from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule found it.
    pub code: Code,
    /// Where in the object.
    pub field: FieldPath,
    /// Where in the file; `None` for what came from the API server.
    pub location: Option<Location>,
    /// The value and the reason, for a person; and the cure, unless [`Finding::help`] says it.
    pub message: String,
    /// A call that shows it, where there is one: `socket(0x26, 0x0)`.
    pub witness: Option<String>,
    /// For whom it holds, where that is not everyone: what [`Class::NotPortable`] names.
    pub affects: Box<[Affected]>,
    /// Who has taken responsibility for it, if anybody has.
    pub accepted: Option<AcceptedBy>,
    /// How many more of its code, for the same programs, are not listed.
    pub more: u32,
}

/// Who takes responsibility for a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AcceptedBy {
    /// The author of the profile, in its `acceptFindings`.
    Profile,
    /// Who had it proven.
    Caller,
}

impl Finding {
    /// A finding whose place in a file is not known (yet).
    #[must_use]
    pub fn new(code: Code, field: FieldPath, message: impl Into<String>) -> Self {
        Self {
            code,
            field,
            location: None,
            message: message.into(),
            witness: None,
            affects: Box::default(),
            accepted: None,
            more: 0,
        }
    }

    /// The same finding, with a call that shows it.
    #[must_use]
    pub fn shown_by(self, witness: impl Into<String>) -> Self {
        Self {
            witness: Some(witness.into()),
            ..self
        }
    }

    /// The same finding, for these alone.
    #[must_use]
    pub fn affecting(self, affects: impl Into<Box<[Affected]>>) -> Self {
        Self {
            affects: affects.into(),
            ..self
        }
    }

    /// Whether it concerns who runs these: it makes the profile Invalid, holds for everyone, or for one of them.
    #[must_use]
    pub fn concerns(&self, present: &[Affected]) -> bool {
        let is_for_all = self.affects.is_empty() || self.is_fatal();
        is_for_all || self.affects.iter().any(|affected| affected.concerns(present))
    }

    /// The same finding, as one that somebody has taken responsibility for.
    #[must_use]
    pub fn accept(self, by: AcceptedBy) -> Self {
        Self {
            accepted: Some(by),
            ..self
        }
    }

    /// The finding to name first, the first that makes a profile Invalid, and how many more do.
    #[must_use]
    pub fn cause(findings: &[Self]) -> Option<(&Self, usize)> {
        let mut fatal = findings.iter().filter(|finding| finding.is_fatal());
        let first = fatal.next()?;
        Some((
            first,
            fatal.fold(first.more as usize, |count, other| {
                count + 1 + other.more as usize
            }),
        ))
    }

    /// Whether it alone makes a profile Invalid.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.class() == Class::Invalid
    }

    /// How much it matters: as much as its rule says, until it is accepted.
    #[must_use]
    pub const fn class(&self) -> Class {
        if self.accepted.is_some() {
            Class::Accepted
        } else {
            self.code.class()
        }
    }

    /// The same finding, seen from a document that holds its object at `path`.
    #[must_use]
    pub fn under(self, path: &FieldPath) -> Self {
        Self {
            field: path.join(&self.field),
            ..self
        }
    }
}

/// The longest part of a foreign text, in characters, that a message or a path repeats.
const QUOTED: usize = 64;

/// A foreign text as a message may repeat it: in quotes, on one line, cut when it is long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((cut, _)) => format!("\"{}…\"", text[..cut].escape_debug()),
        None => format!("\"{}\"", text.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_is_of_a_class_of_its_own_and_no_longer_fatal() {
        let finding = |code| Finding::new(code, FieldPath::root(), "why");
        assert!(finding(Code::UnknownSyscall).is_fatal());
        assert!(!finding(Code::NewerSyscall).is_fatal());
        for code in [Code::UnknownSyscall, Code::NewerSyscall, Code::NoEffect] {
            assert_eq!(finding(code).class(), code.class());
            let accepted = finding(code).accept(AcceptedBy::Profile);
            assert_eq!(accepted.class(), Class::Accepted);
            assert!(!accepted.is_fatal());
        }
    }

    #[test]
    fn only_what_holds_for_some_alone_does_not_concern_others() {
        const YOUKI: &[Affected] = &[Affected::always(Software::Youki)];
        let finding = |code| Finding::new(code, FieldPath::root(), "why");
        let runc = ["runc".parse().unwrap()];
        let youki = ["runc".parse().unwrap(), "youki".parse().unwrap()];
        for code in [Code::MaskedEqYouki, Code::CrunErrnoCache] {
            assert!(finding(code).concerns(&runc));
            assert!(!finding(code).affecting(YOUKI).concerns(&runc));
            assert!(
                !finding(code)
                    .affecting(YOUKI)
                    .accept(AcceptedBy::Profile)
                    .concerns(&runc)
            );
            assert!(finding(code).affecting(YOUKI).concerns(&youki));
            assert!(finding(code).affecting(YOUKI).concerns(&[]));
        }
        // Without it nobody would know why.
        assert!(finding(Code::UnknownSyscall).affecting(YOUKI).concerns(&runc));
    }

    #[test]
    fn what_matters_most_comes_first() {
        let classes = [Class::Invalid, Class::NotPortable, Class::Lint, Class::Accepted];
        assert!(classes.is_sorted());
        assert!(Code::ALL.iter().all(|code| code.class() != Class::Accepted));
    }
}
