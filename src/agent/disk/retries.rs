//! The changes that the disk did not take, and when each is tried again. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::trouble::{is_of_the_node, reason};
use super::{FIRST_RETRY, LAST_RETRY};
use crate::agent::backoff::Backoff;
use crate::agent::plan::Held;
use crate::profile::ProfileName;
use crate::store::StoreError;

/// By profile.
#[derive(Debug, Default)]
pub(super) struct Retries {
    held: BTreeMap<ProfileName, Retry>,
    /// The trouble of the whole directory among these.
    of_the_node: Option<StoreError>,
}

/// A file that could not be changed, and is tried again.
#[derive(Debug)]
struct Retry {
    why: Held,
    backoff: Backoff,
    again: Instant,
}

impl Retries {
    /// Only these changes are still wanted.
    pub(super) fn retain(&mut self, wanted: &BTreeSet<&ProfileName>) {
        self.held.retain(|name, _| wanted.contains(name));
        self.forget_if_over();
    }

    /// The disk took it.
    pub(super) fn succeeded(&mut self, name: &ProfileName) {
        self.held.remove(name);
        self.forget_if_over();
    }

    /// The disk did not take it. Whether that is news about the whole directory.
    pub(super) fn failed(&mut self, name: &ProfileName, error: StoreError, now: Instant) -> bool {
        let of_the_node = is_of_the_node(&error);
        let why = if of_the_node {
            Held::ByNode
        } else {
            Held::ByFile {
                reason: reason(&error),
                message: error.to_string(),
            }
        };
        let before = self.held.remove(name).map(|retry| retry.backoff);
        let mut backoff = before.unwrap_or_else(|| Backoff::new(FIRST_RETRY, LAST_RETRY));
        let again = now + backoff.wait();
        self.held.insert(name.clone(), Retry { why, backoff, again });
        let is_news = of_the_node && self.of_the_node.as_ref() != Some(&error);
        if of_the_node {
            self.of_the_node = Some(error);
        }
        is_news
    }

    /// Whether a change of this file is to be tried now.
    pub(super) fn is_due(&self, name: &ProfileName, now: Instant) -> bool {
        self.held.get(name).is_none_or(|retry| retry.again <= now)
    }

    /// Whether the last change of this file failed.
    pub(super) fn has(&self, name: &ProfileName) -> bool {
        self.held.contains_key(name)
    }

    /// The files, and why the disk does not take them.
    pub(super) fn held(&self) -> BTreeMap<&ProfileName, &Held> {
        self.held.iter().map(|(name, retry)| (name, &retry.why)).collect()
    }

    /// When the first of them is tried again.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.held.values().map(|retry| retry.again).min()
    }

    /// Why no file of the directory can be changed, if that is so.
    pub(super) fn of_the_node(&self) -> Option<&StoreError> {
        self.of_the_node.as_ref()
    }

    fn forget_if_over(&mut self) {
        if self.held.is_empty() {
            self.of_the_node = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::io::Errno;

    use super::*;
    use crate::store::Failure;

    fn error(errno: Errno) -> StoreError {
        let failure = Failure {
            operation: "write",
            path: "/x".into(),
            errno,
        };
        failure.into()
    }

    #[test]
    fn a_change_that_failed_is_due_again_after_a_pause_and_holds_no_other() {
        let (one, other): (ProfileName, ProfileName) = ("a/one".parse().unwrap(), "a/other".parse().unwrap());
        let now = Instant::now();
        let mut retries = Retries::default();
        assert!(!retries.failed(&one, error(Errno::IO), now), "one file's trouble");
        assert!(!retries.is_due(&one, now) && retries.is_due(&other, now));
        assert!(retries.is_due(&one, now + FIRST_RETRY));
        assert!(matches!(
            retries.held()[&one],
            Held::ByFile {
                reason: "InputOutput",
                ..
            }
        ));
        assert!(
            retries
                .wake()
                .is_some_and(|at| at > now && at <= now + FIRST_RETRY)
        );
        retries.succeeded(&one);
        assert!(!retries.has(&one) && retries.wake().is_none());
    }

    #[test]
    fn a_full_disk_is_news_once_and_over_when_nothing_waits_for_room() {
        let (one, other): (ProfileName, ProfileName) = ("a/one".parse().unwrap(), "a/other".parse().unwrap());
        let now = Instant::now();
        let mut retries = Retries::default();
        assert!(retries.failed(&one, error(Errno::NOSPC), now));
        assert!(!retries.failed(&other, error(Errno::NOSPC), now + Duration::from_secs(1)));
        assert_eq!(retries.held()[&one], &Held::ByNode);
        retries.succeeded(&one);
        assert_eq!(retries.of_the_node(), Some(&error(Errno::NOSPC)));
        retries.retain(&BTreeSet::new());
        assert_eq!(retries.of_the_node(), None);
    }
}
