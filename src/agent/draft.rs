//! The report between what is so and what the API server holds: when to write it, and whether. One write per settled
//! burst, none for what the API server holds already, and the newest state sooner or later whatever happens. Pure.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff::Backoff;
use super::report::{self, Facts};
use super::watch::Change;
use crate::api::{LiveSet, SeccompNode};

/// How long a change waits for others when no work is under way.
const SETTLED: Duration = Duration::from_millis(20);
/// How long while there is.
const UNSETTLED: Duration = Duration::from_millis(250);
/// How long after the start of one write the next may start; doubled up to the longer while every write tells of several
/// profiles at once. So a burst that goes on is told of less and less often, and one change after the other at once.
const SPACING: Duration = Duration::from_millis(200);
const LAST_SPACING: Duration = Duration::from_secs(2);
/// How long after the end of a write that told of several profiles the next may start: so many times as long as it took,
/// and at the latest. An API server that has too much to do is asked for less.
const REST: u32 = 2;
const LAST_REST: Duration = Duration::from_secs(10);
/// How soon a failed write is tried again.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// At the latest, where the API server was not reached.
const LAST_RETRY: Duration = Duration::from_secs(2);
/// At the latest, where it was reached and said no.
const LAST_RETRY_REFUSED: Duration = Duration::from_secs(30);
/// How soon, and at the latest, where it has too much to do: each try costs it some more.
const FIRST_RETRY_BUSY: Duration = Duration::from_secs(1);
const LAST_RETRY_BUSY: Duration = Duration::from_secs(10);

/// The report, and how far its writing is.
#[derive(Debug)]
pub(super) struct Draft {
    node: String,
    /// The uid of the Node object, while there is one: without it there is no owner.
    node_uid: Option<String>,
    /// What the API server holds, once that was seen.
    held: Held,
    /// What was written last, and as which resourceVersion: not to be written again while that stands, even if
    /// the API server made something else of it.
    written: Option<(SeccompNode, Option<String>)>,
    /// Since when what it holds is not what is so.
    stale: Option<Instant>,
    due: Option<Instant>,
    started: Option<Instant>,
    /// How long after that the next may start.
    spacing: Duration,
    /// Whether it told of several profiles.
    is_burst: bool,
    /// Whether a write is under way: at most one.
    sending: bool,
    unreached: Backoff,
    refused: Backoff,
    busy: Backoff,
    /// When to try again what failed.
    again: Option<Instant>,
}

#[derive(Debug)]
enum Held {
    NotSeen,
    Nothing,
    Report(Box<SeccompNode>),
    /// An object that no agent would write.
    Unreadable,
}

/// Why a report could not be written.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The API server's answer.
    Refused(String),
    /// It has too much to do: it said so, or did not answer in time, and the write may yet arrive.
    Busy(String),
    /// It was not reached.
    Unreached(String),
}

impl Draft {
    pub(super) const fn new(node: String) -> Self {
        Self {
            node,
            node_uid: None,
            held: Held::NotSeen,
            written: None,
            stale: None,
            due: None,
            started: None,
            spacing: SPACING,
            is_burst: false,
            sending: false,
            unreached: Backoff::new(FIRST_RETRY, LAST_RETRY),
            refused: Backoff::new(FIRST_RETRY, LAST_RETRY_REFUSED),
            busy: Backoff::new(FIRST_RETRY_BUSY, LAST_RETRY_BUSY),
            again: None,
        }
    }

    /// The Node object has this uid, or is gone.
    pub(super) fn node_is(&mut self, uid: Option<String>) {
        self.node_uid = uid;
    }

    /// What the API server holds.
    pub(super) fn see(&mut self, change: Change<(), Option<Box<SeccompNode>>>) {
        match change {
            // A list follows; if it names no report, there is none.
            Change::Begin => self.held = Held::NotSeen,
            Change::Set((), Some(report)) => self.hold(report),
            Change::Set((), None) => self.held = Held::Unreadable,
            Change::Unset(()) => self.held = Held::Nothing,
            Change::End if matches!(self.held, Held::NotSeen) => self.held = Held::Nothing,
            Change::End => {}
        }
    }

    /// Holds a report unless it is older than the one already held: the watch comes after the answer to a write.
    fn hold(&mut self, report: Box<SeccompNode>) {
        let number = |report: &SeccompNode| report.metadata.resource_version.as_ref()?.parse::<u128>().ok();
        if let Held::Report(held) = &self.held
            && held.metadata.uid == report.metadata.uid
            && let (Some(old), Some(new)) = (number(held), number(&report))
            && new < old
        {
            return;
        }
        self.held = Held::Report(report);
    }

    /// This is so now. What is to be written now; if nothing is, then at [`Draft::wake`], or not at all.
    pub(super) fn report(
        &mut self,
        facts: Facts<'_>,
        unsettled: bool,
        now: Instant,
        time: &Time,
    ) -> Option<SeccompNode> {
        self.due = None;
        let uid = self.node_uid.as_ref()?;
        let before = match &self.held {
            Held::NotSeen => return None,
            Held::Nothing | Held::Unreadable => None,
            Held::Report(held) => Some(&**held),
        };
        let report = report::report(facts, before.map(|held| &held.spec), time);
        let object = report::object(&self.node, uid, report);
        let stands = |held: &SeccompNode| {
            self.written.as_ref().is_some_and(|(written, version)| {
                *version == held.metadata.resource_version && report::is_held(written, &object)
            })
        };
        if before.is_some_and(|held| report::is_held(held, &object) || stands(held)) {
            self.stale = None;
            return None;
        }
        let stale = *self.stale.get_or_insert(now);
        let settled = stale + if unsettled { UNSETTLED } else { SETTLED };
        let spaced = self.started.map(|started| started + self.spacing);
        let due = [Some(settled), spaced, self.again]
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(settled);
        if self.sending {
            // The end of that write makes the next turn.
            return None;
        }
        if due > now {
            self.due = Some(due);
            return None;
        }
        let none = LiveSet::default();
        let held = before.map_or(&none, |held| &held.spec.profiles);
        let live = &object.spec.profiles;
        self.is_burst = live.beyond(held).max(held.beyond(live)) > 1;
        self.spacing = if self.is_burst {
            LAST_SPACING.min(2 * self.spacing)
        } else {
            SPACING
        };
        self.started = Some(now);
        self.stale = None;
        self.sending = true;
        Some(object)
    }

    /// Whether the API server has a report of this node, readable or not, as far as is known.
    pub(super) const fn is_reported(&self) -> bool {
        matches!(self.held, Held::Unreadable | Held::Report(_))
    }

    /// When a report is due.
    pub(super) const fn wake(&self) -> Option<Instant> {
        self.due
    }

    /// The write ended: the API server holds this of that object now.
    pub(super) fn sent(&mut self, object: SeccompNode, held: SeccompNode, now: Instant) {
        self.sending = false;
        self.unreached.reset();
        self.refused.reset();
        self.busy.reset();
        let took = self.started.map(|started| now.saturating_duration_since(started));
        let rest = took
            .filter(|_| self.is_burst)
            .map(|took| LAST_REST.min(REST * took));
        self.again = rest.map(|rest| now + rest);
        self.written = Some((object, held.metadata.resource_version.clone()));
        self.hold(Box::new(held));
    }

    /// The write ended, and is to be made again.
    pub(super) fn failed(&mut self, why: &Unsent, now: Instant) {
        self.sending = false;
        let wait = match why {
            Unsent::Refused(_) => self.refused.wait(),
            Unsent::Busy(_) => self.busy.wait(),
            Unsent::Unreached(_) => self.unreached.wait(),
        };
        self.again = Some(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::agent::report::{Aspect, OURS};
    use crate::api::{ConditionStatus, Versions};
    use crate::profile::{Digest, ProfileName};

    /// A draft that has seen that there is no report, and an API server that takes every write at once.
    struct Desk {
        draft: Draft,
        now: Instant,
        written: usize,
    }

    impl Desk {
        fn new() -> Self {
            let mut draft = Draft::new("node".to_owned());
            draft.node_is(Some("uid".to_owned()));
            draft.see(Change::Begin);
            draft.see(Change::End);
            Self {
                draft,
                now: Instant::now(),
                written: 0,
            }
        }

        /// These versions of profiles are live from now on. What is to be written now.
        fn turn(&mut self, live: &[(usize, usize)]) -> Option<SeccompNode> {
            let live: Vec<_> = live
                .iter()
                .map(|(profile, version)| {
                    let name = ProfileName::new("team", format!("p{profile}")).unwrap();
                    (name, Digest::of(version.to_string().as_bytes()))
                })
                .collect();
            let aspects = OURS.map(|condition| {
                let aspect = Aspect {
                    status: ConditionStatus::True,
                    reason: "Test",
                    message: String::new(),
                };
                (condition, aspect)
            });
            let facts = Facts {
                versions: &Versions::default(),
                live: Some(live.iter().map(|(name, digest)| (name, digest)).collect()),
                failures: Some(&[]),
                in_use: Some(&BTreeSet::new()),
                aspects,
            };
            let time = Time(Timestamp::UNIX_EPOCH);
            self.draft.report(facts, false, self.now, &time)
        }

        fn accept(&mut self, object: SeccompNode) {
            self.written += 1;
            let mut held = object.clone();
            held.metadata.resource_version = Some(self.written.to_string());
            self.draft.sent(object, held, self.now);
        }

        /// The same, until the API server holds it: how long that takes.
        fn settle(&mut self, live: &[(usize, usize)]) -> Duration {
            let began = self.now;
            loop {
                if let Some(object) = self.turn(live) {
                    self.accept(object);
                }
                match self.draft.wake() {
                    Some(at) => self.now = at,
                    None => return self.now - began,
                }
            }
        }

        fn fail(&mut self, why: &Unsent, live: &[(usize, usize)]) -> Duration {
            let failed = self.now;
            self.draft.failed(why, self.now);
            while self.turn(live).is_none() {
                self.now = self.draft.wake().unwrap();
            }
            self.now - failed
        }
    }

    #[test]
    fn a_burst_of_a_hundred_changes_is_fewer_than_ten_writes_and_ends_with_all_of_them() {
        let mut desk = Desk::new();
        let mut live: Vec<_> = (0..100).map(|profile| (profile, 0)).collect();
        desk.settle(&live);
        desk.now += Duration::from_secs(10);
        let before = desk.written;
        for profile in 0..100 {
            live[profile].1 = 1;
            let next = desk.now + Duration::from_millis(50);
            while desk.now < next {
                if let Some(object) = desk.turn(&live) {
                    desk.accept(object);
                }
                desk.now = desk.draft.wake().map_or(next, |wake| wake.min(next));
            }
        }
        assert!(desk.settle(&live) <= LAST_SPACING);
        let written = desk.written - before;
        assert!((2..10).contains(&written), "{written}");
        assert_eq!(desk.settle(&live), Duration::ZERO, "all is held");
    }

    #[test]
    fn a_burst_is_told_of_less_often_the_longer_the_api_server_takes() {
        for took in [1, 2, 8].map(Duration::from_secs) {
            let mut desk = Desk::new();
            desk.settle(&(0..100).map(|profile| (profile, 0)).collect::<Vec<_>>());
            desk.now += Duration::from_secs(60);
            let (began, before) = (desk.now, desk.written);
            while desk.now < began + Duration::from_secs(180) {
                // All of them change all the time.
                let version = (desk.now - began).as_millis().try_into().unwrap();
                let live: Vec<_> = (0..100).map(|profile| (profile, version)).collect();
                let object = desk.turn(&live);
                desk.now = desk.draft.wake().unwrap_or(desk.now) + Duration::from_millis(1);
                if let Some(object) = object {
                    desk.now += took;
                    desk.accept(object);
                }
            }
            let each = took + LAST_REST.min(REST * took);
            let written = desk.written - before;
            let most = Duration::from_secs(180).div_duration_f64(each);
            assert!(
                (2.0..=most + 2.0).contains(&f64::from(u32::try_from(written).unwrap())),
                "{written} of {most}"
            );
        }
    }

    #[test]
    fn one_change_after_another_is_told_at_once() {
        let mut desk = Desk::new();
        desk.settle(&[(0, 0), (1, 0)]);
        desk.now += Duration::from_secs(10);
        for version in 1..50 {
            let took = desk.settle(&[(0, version), (1, 0)]);
            assert!(took <= SETTLED + SPACING, "{took:?}");
        }
    }

    #[test]
    fn an_api_server_that_has_too_much_to_do_is_asked_less_often_than_one_that_is_away() {
        let live = [(0, 0)];
        let mut desk = Desk::new();
        while desk.turn(&live).is_none() {
            desk.now = desk.draft.wake().unwrap();
        }
        let mut waits = |why: &Unsent| (0..20).map(|_| desk.fail(why, &live)).collect::<Vec<_>>();
        let busy = waits(&Unsent::Busy(String::new()));
        assert!(busy.iter().all(|wait| *wait >= FIRST_RETRY_BUSY / 2));
        assert!(busy.iter().any(|wait| *wait >= LAST_RETRY_BUSY / 2));
        let away = waits(&Unsent::Unreached(String::new()));
        assert!(away.iter().all(|wait| *wait <= LAST_RETRY));
    }
}
