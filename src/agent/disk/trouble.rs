//! What an error of the store says about the node: as a condition, and as one word. Pure.

use crate::agent::report::Aspect;
use crate::api::ConditionStatus;
use crate::store::StoreError;

/// What is wrong, and with how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::agent) enum Trouble {
    /// The directory could not be opened, claimed or looked at.
    Whole(StoreError),
    /// Something in it could not be mended.
    Part(StoreError),
}

impl Trouble {
    /// Of what could not be mended: first what every file suffers from.
    pub(in crate::agent) fn among(failed: Vec<StoreError>) -> Option<Self> {
        let (of_the_node, of_a_file): (Vec<_>, Vec<_>) = failed.into_iter().partition(is_of_the_node);
        of_the_node.into_iter().chain(of_a_file).next().map(Self::Part)
    }

    /// The error itself.
    pub(in crate::agent) const fn error(&self) -> &StoreError {
        match self {
            Self::Whole(error) | Self::Part(error) => error,
        }
    }
}

/// Whether the store takes writes: false where it is certain that it does not, unknown where the next try may show that
/// nothing is wrong, or that it is with one path alone.
pub(in crate::agent) fn writable(trouble: Option<&Trouble>, is_ours: bool) -> Aspect {
    let (status, reason, message) = match trouble {
        Some(trouble) => {
            let is_certain = match trouble {
                Trouble::Whole(StoreError::Denied(_)) => true,
                Trouble::Whole(error) | Trouble::Part(error) => is_of_the_node(error),
            };
            let status = if is_certain {
                ConditionStatus::False
            } else {
                ConditionStatus::Unknown
            };
            (status, reason(trouble.error()), trouble.error().to_string())
        }
        None if is_ours => (
            ConditionStatus::True,
            "Writable",
            "The node's directory takes files.".to_owned(),
        ),
        None => (
            ConditionStatus::Unknown,
            "NotOpen",
            "The node's directory waits to be opened.".to_owned(),
        ),
    };
    Aspect {
        status,
        reason,
        message,
    }
}

/// Whether every file of the directory has this trouble.
pub(in crate::agent) const fn is_of_the_node(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::NoSpace(_)
            | StoreError::ReadOnly(_)
            | StoreError::NotOurs { .. }
            | StoreError::OtherOwner { .. }
    )
}

/// Every [`reason`] that is counted: the process ends where the root is gone, and waits for its owner.
pub(in crate::agent) const REASONS: [&str; 7] = [
    "NotOurs",
    "OtherOwner",
    "Busy",
    "DiskFull",
    "ReadOnly",
    "PermissionDenied",
    "InputOutput",
];

/// Of a condition.
pub(in crate::agent) const fn reason(error: &StoreError) -> &'static str {
    match error {
        StoreError::NotOurs { .. } => "NotOurs",
        StoreError::OtherOwner { .. } => "OtherOwner",
        StoreError::NoOwner { .. } => "NoOwner",
        StoreError::Busy { .. } => "Busy",
        StoreError::RootGone { .. } => "RootGone",
        StoreError::OutOfBounds { .. } => "OutOfBounds",
        StoreError::WatchLimit(_) => "WatchLimit",
        StoreError::NoSpace(_) => "DiskFull",
        StoreError::ReadOnly(_) => "ReadOnly",
        StoreError::Denied(_) => "PermissionDenied",
        StoreError::Io(_) => "InputOutput",
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::store::Failure;

    fn error(errno: Errno) -> StoreError {
        let failure = Failure {
            operation: "open",
            path: "/x".into(),
            errno,
        };
        failure.into()
    }

    #[test]
    fn only_what_is_certain_says_that_the_store_takes_no_writes() {
        use ConditionStatus::{False, Unknown};
        let not_ours = StoreError::NotOurs {
            path: "/x".into(),
            reason: "it is no directory",
        };
        let busy = StoreError::Busy { path: "/x".into() };
        for (error, whole, part) in [
            (error(Errno::NOSPC), False, False),
            (error(Errno::DQUOT), False, False),
            (error(Errno::ROFS), False, False),
            (error(Errno::ACCESS), False, Unknown),
            (not_ours, False, False),
            (busy, Unknown, Unknown),
            (error(Errno::IO), Unknown, Unknown),
            (error(Errno::MFILE), Unknown, Unknown),
        ] {
            let told = |trouble: Trouble| writable(Some(&trouble), true).status;
            assert_eq!(told(Trouble::Whole(error.clone())), whole, "{error}");
            assert_eq!(told(Trouble::Part(error.clone())), part, "{error}");
        }
    }

    #[test]
    fn of_many_things_that_could_not_be_mended_the_full_disk_is_told() {
        let found = Trouble::among(vec![error(Errno::BUSY), error(Errno::NOSPC)]);
        assert_eq!(found, Some(Trouble::Part(error(Errno::NOSPC))));
        assert_eq!(
            Trouble::among(vec![error(Errno::BUSY)]),
            Some(Trouble::Part(error(Errno::BUSY)))
        );
        assert_eq!(Trouble::among(Vec::new()), None);
    }
}
