//! The changes that the disk did not take, and when each is tried again. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::trouble::{is_of_the_node, reason};
use super::{FIRST_RETRY, LAST_RETRY};
use crate::agent::backoff::Backoff;
use crate::agent::plan::Held;
use crate::agent::state::FileChange;
use crate::profile::ProfileName;
use crate::store::StoreError;

/// How many changes are made in one go, so that the loop turns in between.
const BATCH: usize = 32;

/// By profile.
#[derive(Debug, Default)]
pub(in crate::agent) struct Retries {
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
    /// Of all the changes that are wanted, those to make now: the first of them if there are many.
    pub(in crate::agent) fn due(&mut self, wanted: Vec<FileChange>, now: Instant) -> Vec<FileChange> {
        let names: BTreeSet<_> = wanted.iter().map(FileChange::name).collect();
        self.held.retain(|name, _| names.contains(name));
        self.forget_if_over();
        let mut changes = wanted;
        changes.retain(|change| self.is_due(change.name(), now));
        // Those that never failed go first, so that no number of others can keep them waiting.
        changes.sort_by_key(|change| self.held.contains_key(change.name()));
        changes.truncate(BATCH);
        changes
    }

    /// The disk took it.
    pub(in crate::agent) fn succeeded(&mut self, name: &ProfileName) {
        self.held.remove(name);
        self.forget_if_over();
    }

    /// The disk did not take it. Whether that is news about the whole directory.
    pub(in crate::agent) fn failed(&mut self, name: &ProfileName, error: StoreError, now: Instant) -> bool {
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
    pub(in crate::agent) fn is_due(&self, name: &ProfileName, now: Instant) -> bool {
        self.held.get(name).is_none_or(|retry| retry.again <= now)
    }

    /// The files, and why the disk does not take them.
    pub(in crate::agent) fn held(&self) -> BTreeMap<&ProfileName, &Held> {
        self.held.iter().map(|(name, retry)| (name, &retry.why)).collect()
    }

    /// When the first of them is tried again.
    pub(in crate::agent) fn wake(&self) -> Option<Instant> {
        self.held.values().map(|retry| retry.again).min()
    }

    /// Why no file of the directory can be changed, if that is so.
    pub(in crate::agent) fn of_the_node(&self) -> Option<&StoreError> {
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
        assert!(retries.held().is_empty() && retries.wake().is_none());
    }

    #[test]
    fn of_many_changes_those_that_never_failed_go_first_and_those_that_just_failed_wait() {
        let names: Vec<ProfileName> = (0..=BATCH)
            .map(|number| format!("a/p{number}").parse().unwrap())
            .collect();
        let wanted = || names.iter().cloned().map(FileChange::Remove).collect();
        let now = Instant::now();
        let mut retries = Retries::default();
        assert!(!retries.failed(&names[0], error(Errno::IO), now));
        let is_first = |change: &FileChange| change.name() == &names[0];
        let at_once = retries.due(wanted(), now);
        assert!(at_once.len() == BATCH && !at_once.iter().any(is_first));
        let later = retries.due(wanted(), now + FIRST_RETRY);
        assert!(later.len() == BATCH && !later.iter().any(is_first));
        let alone = retries.due(vec![FileChange::Remove(names[0].clone())], now + FIRST_RETRY);
        assert!(alone.iter().all(is_first) && alone.len() == 1);
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
        assert!(retries.due(Vec::new(), now).is_empty());
        assert_eq!(retries.of_the_node(), None);
    }
}
