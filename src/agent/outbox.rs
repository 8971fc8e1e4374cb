//! When to write the report, and whether: one write per settled burst, none for what the API server holds
//! already, and the newest state sooner or later whatever happens.

use std::time::{Duration, Instant};

use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use tokio::task::JoinSet;

use super::Metrics;
use super::backoff::Backoff;
use super::report::{self, Facts};
use super::watch::Change;
use crate::api::{SeccompNode, now_in_seconds};
use crate::text::chain;

/// Who writes, for server-side apply.
const MANAGER: &str = "callgate-agent";
/// What the API server says where its definition is older than this agent and lacks a field of the report.
/// Source: `ValidationError` of `sigs.k8s.io/structured-merge-diff`, `typed/validate.go`
const UNDECLARED: &str = "field not declared in schema";
/// How long a change waits for others when no work is under way.
const SETTLED: Duration = Duration::from_millis(20);
/// How long while there is.
const UNSETTLED: Duration = Duration::from_millis(250);
/// How long after the start of one write the next may start.
const SPACING: Duration = Duration::from_millis(200);
/// How long a write may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How soon a failed write is tried again.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// At the latest, where the API server was not reached.
const LAST_RETRY: Duration = Duration::from_secs(2);
/// At the latest, where it was reached and said no.
const LAST_RETRY_REFUSED: Duration = Duration::from_secs(30);

/// The report on its way.
#[derive(Debug)]
pub(super) struct Outbox {
    api: Api<SeccompNode>,
    node: String,
    metrics: Metrics,
    /// The uid of the Node object, while there is one: without it there is no owner.
    node_uid: Option<String>,
    /// What the API server holds, once that was seen.
    held: Held,
    /// What was written last, and as which resourceVersion: not to be written again while that stands, even if
    /// the API server made something else of it.
    written: Option<(SeccompNode, Option<String>)>,
    /// Whether that was all of the report.
    is_whole: bool,
    /// Since when what it holds is not what is so.
    stale: Option<Instant>,
    due: Option<Instant>,
    started: Option<Instant>,
    failures: Failures,
    /// At most one.
    sending: JoinSet<Sent>,
}

#[derive(Debug)]
enum Held {
    NotSeen,
    Nothing,
    Report(Box<SeccompNode>),
    /// An object that no agent would write.
    Unreadable,
}

#[derive(Debug)]
struct Failures {
    unreached: Backoff,
    refused: Backoff,
    again: Option<Instant>,
    told: Option<String>,
}

type Sent = (SeccompNode, Result<Written, Unsent>);

/// What the API server holds after a write.
#[derive(Debug)]
struct Written {
    held: SeccompNode,
    /// Whether it knows all that was written.
    is_whole: bool,
}

#[derive(Debug)]
enum Unsent {
    /// The API server's answer.
    Refused(String),
    Unreached(String),
}

impl Outbox {
    pub(super) fn new(client: kube::Client, node: String, metrics: Metrics) -> Self {
        Self {
            api: Api::all(client),
            node,
            metrics,
            node_uid: None,
            held: Held::NotSeen,
            written: None,
            is_whole: true,
            stale: None,
            due: None,
            started: None,
            failures: Failures {
                unreached: Backoff::new(FIRST_RETRY, LAST_RETRY),
                refused: Backoff::new(FIRST_RETRY, LAST_RETRY_REFUSED),
                again: None,
                told: None,
            },
            sending: JoinSet::new(),
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

    /// This is so now. Written now, or at [`Outbox::wake`], or not at all.
    pub(super) fn report(&mut self, facts: Facts<'_>, unsettled: bool, now: Instant) {
        self.due = None;
        let Some(uid) = &self.node_uid else { return };
        let before = match &self.held {
            Held::NotSeen => return,
            Held::Nothing | Held::Unreadable => None,
            Held::Report(held) => Some(&**held),
        };
        let time = now_in_seconds();
        let report = report::report(facts, before.map(|held| &held.spec), &time);
        let object = report::object(&self.node, uid, report);
        let stands = |held: &SeccompNode| {
            self.written.as_ref().is_some_and(|(written, version)| {
                *version == held.metadata.resource_version && report::is_held(written, &object)
            })
        };
        if before.is_some_and(|held| report::is_held(held, &object) || stands(held)) {
            self.stale = None;
            return;
        }
        let stale = *self.stale.get_or_insert(now);
        let settled = stale + if unsettled { UNSETTLED } else { SETTLED };
        let spaced = self.started.map(|started| started + SPACING);
        let due = [Some(settled), spaced, self.failures.again]
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(settled);
        if !self.sending.is_empty() {
            // The end of that write makes the next turn.
        } else if due <= now {
            self.send(object, now);
        } else {
            self.due = Some(due);
        }
    }

    /// When a report is due.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.due
    }

    fn send(&mut self, object: SeccompNode, now: Instant) {
        self.started = Some(now);
        self.stale = None;
        let (api, node, is_whole) = (self.api.clone(), self.node.clone(), self.is_whole);
        self.sending.spawn(async move {
            let written = write(&api, &node, &object, is_whole);
            let outcome = match tokio::time::timeout(TIMEOUT, written).await {
                Ok(Ok(written)) => Ok(written),
                Ok(Err(kube::Error::Api(status))) => Err(Unsent::Refused(status.message)),
                Ok(Err(error)) => Err(Unsent::Unreached(chain(&error))),
                Err(_) => Err(Unsent::Unreached(format!(
                    "no answer within {} s",
                    TIMEOUT.as_secs()
                ))),
            };
            (object, outcome)
        });
    }

    /// Returns when a write has ended. Cancel safe.
    pub(super) async fn sent(&mut self) {
        let Some(ended) = self.sending.join_next().await else {
            return std::future::pending().await;
        };
        let now = Instant::now();
        let (wait, message) = match ended {
            Ok((object, Ok(Written { held, is_whole }))) => {
                self.metrics.reported(true);
                if std::mem::replace(&mut self.is_whole, is_whole) && !is_whole {
                    tracing::warn!(
                        node = self.node,
                        "the definition of SeccompNodes is older than this agent: what it does not know of the report is \
                         left out; apply the CustomResourceDefinitions of this version"
                    );
                }
                if self.failures.told.take().is_some() {
                    tracing::info!(node = self.node, "the report is written again");
                }
                self.failures.unreached.reset();
                self.failures.refused.reset();
                self.failures.again = None;
                self.written = Some((object, held.metadata.resource_version.clone()));
                self.hold(Box::new(held));
                return;
            }
            Ok((_, Err(Unsent::Refused(message)))) => (self.failures.refused.wait(), message),
            Ok((_, Err(Unsent::Unreached(message)))) => (self.failures.unreached.wait(), message),
            Err(error) => (self.failures.refused.wait(), error.to_string()),
        };
        self.metrics.reported(false);
        if self.failures.told.as_ref() != Some(&message) {
            tracing::error!(
                node = self.node,
                "cannot write the SeccompNode: {message}; trying again"
            );
            self.failures.told = Some(message);
        }
        self.failures.again = Some(now + wait);
    }
}

/// Writes the report, owned field by field. A definition that is older than this agent refuses that for a field which it
/// does not know; from then on it is written as one that the API server takes such fields out of, until it takes none.
async fn write(
    api: &Api<SeccompNode>,
    node: &str,
    object: &SeccompNode,
    was_whole: bool,
) -> kube::Result<Written> {
    if was_whole {
        let apply = PatchParams::apply(MANAGER).force();
        match api.patch(node, &apply, &Patch::Apply(object)).await {
            Err(kube::Error::Api(status)) if status.message.contains(UNDECLARED) => {}
            outcome => return outcome.map(|held| Written { held, is_whole: true }),
        }
    }
    let field_manager = Some(MANAGER.to_owned());
    let merge = PatchParams {
        field_manager: field_manager.clone(),
        ..PatchParams::default()
    };
    let held = match api.patch(node, &merge, &Patch::Merge(object)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            let create = PostParams {
                field_manager,
                ..PostParams::default()
            };
            api.create(&create, object).await?
        }
        outcome => outcome?,
    };
    Ok(Written {
        is_whole: report::is_held(&held, object),
        held,
    })
}
