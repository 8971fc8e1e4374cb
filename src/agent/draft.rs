//! The report between what is so and what the API server holds: when to write it, and whether. One write per settled
//! burst, none for what the API server holds already, and the newest state sooner or later whatever happens. Pure.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff::Backoff;
use super::report::{self, Facts};
use super::watch::Change;
use crate::api::SeccompNode;

/// How long a change waits for others when no work is under way.
const SETTLED: Duration = Duration::from_millis(20);
/// How long while there is.
const UNSETTLED: Duration = Duration::from_millis(250);
/// How long after the start of one write the next may start.
const SPACING: Duration = Duration::from_millis(200);
/// How soon a failed write is tried again.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// At the latest, where the API server was not reached.
const LAST_RETRY: Duration = Duration::from_secs(2);
/// At the latest, where it was reached and said no.
const LAST_RETRY_REFUSED: Duration = Duration::from_secs(30);

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
    /// Whether a write is under way: at most one.
    sending: bool,
    unreached: Backoff,
    refused: Backoff,
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
    /// It was not reached, or did not answer.
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
            sending: false,
            unreached: Backoff::new(FIRST_RETRY, LAST_RETRY),
            refused: Backoff::new(FIRST_RETRY, LAST_RETRY_REFUSED),
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
        let spaced = self.started.map(|started| started + SPACING);
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
        self.started = Some(now);
        self.stale = None;
        self.sending = true;
        Some(object)
    }

    /// When a report is due.
    pub(super) const fn wake(&self) -> Option<Instant> {
        self.due
    }

    /// The write ended: the API server holds this of that object now.
    pub(super) fn sent(&mut self, object: SeccompNode, held: SeccompNode) {
        self.sending = false;
        self.unreached.reset();
        self.refused.reset();
        self.again = None;
        self.written = Some((object, held.metadata.resource_version.clone()));
        self.hold(Box::new(held));
    }

    /// The write ended, and is to be made again.
    pub(super) fn failed(&mut self, why: &Unsent, now: Instant) {
        self.sending = false;
        let wait = match why {
            Unsent::Refused(_) => self.refused.wait(),
            Unsent::Unreached(_) => self.unreached.wait(),
        };
        self.again = Some(now + wait);
    }
}
