//! A controller as [`model`](crate::model) runs it: the parts that decide, and no I/O.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event as WatchEvent;
use prometheus_client::registry::Registry;
use serde_json::Value;

use super::Metrics;
use super::event::{Action, Event, ObjectVersion, Watched};
use super::fold::without_words;
use super::state::State;
use super::status::{READY, VALID, find};
use super::watch::{Known, node_event, pod_event, report};
use crate::api::{Condition, RawSeccompProfile, SeccompProfileStatus};
use crate::model::content::{Machine, content, prove, read};
use crate::model::object::{Kind, Object, map};
use crate::proof::Verdict;

/// One process.
#[derive(Debug)]
pub(crate) struct Controller {
    state: State,
    known: [Known; Kind::ALL.len()],
    metrics: Metrics,
    machine: Machine,
    proofs: Vec<(ObjectVersion, Arc<Value>)>,
    /// On their way to the API server.
    pub(crate) writes: Vec<StatusWrite>,
}

/// A status that is to be written.
#[derive(Debug, Clone)]
pub(crate) struct StatusWrite {
    version: ObjectVersion,
    pub(crate) status: SeccompProfileStatus,
}

impl StatusWrite {
    /// NAMESPACE/NAME.
    pub(crate) fn key(&self) -> &str {
        &self.version.key
    }

    pub(crate) fn uid(&self) -> &str {
        &self.version.uid
    }
}

impl Controller {
    pub(crate) fn start(new_rules: bool) -> Self {
        Self {
            state: State::default(),
            known: Default::default(),
            metrics: Metrics::register(&mut Registry::default()),
            machine: Machine {
                new_kernel: true,
                new_rules,
            },
            proofs: Vec::new(),
            writes: Vec::new(),
        }
    }

    pub(crate) fn see(&mut self, kind: Kind, event: WatchEvent<Object>, now: Instant) {
        let [profiles, nodes, pods, reports] = &mut self.known;
        let events = match kind {
            Kind::Profiles => profiles.follow(
                map(event, Object::profile),
                |profile| Some(Event::Profile(Box::new(profile))),
                Event::ProfileGone,
                Watched::Profiles,
            ),
            Kind::Nodes => nodes.follow(
                map(event, Object::node),
                |node| Some(node_event(node.metadata)),
                Event::NodeGone,
                Watched::Nodes,
            ),
            Kind::Pods => pods.follow(
                map(event, Object::pod),
                |pod| pod_event(&pod),
                Event::PodGone,
                Watched::Pods,
            ),
            Kind::Reports => reports.follow(
                map(event, |object| DeserializeGuard(Ok(object.report()))),
                |guarded| Some(report(guarded, &self.metrics)),
                Event::ReportGone,
                Watched::Reports,
            ),
        };
        for event in events {
            self.state.apply(event, now);
        }
    }

    pub(crate) fn lead(&mut self, leads: bool, now: Instant) {
        self.state.apply(Event::Leading(leads), now);
    }

    pub(crate) fn questions(&self) -> usize {
        self.proofs.len()
    }

    /// The kernel answers the question with this number, or says nothing about the profile.
    pub(crate) fn answer(&mut self, number: usize, silent: bool, now: Instant) {
        let (version, spec) = self.proofs.remove(number);
        let verdict = match read(&spec, self.machine) {
            Err(refused) => Verdict::Invalid(refused),
            Ok(_) if silent => Verdict::Unknown("no memory".to_owned()),
            Ok(read) => prove(read, content(&spec), self.machine),
        };
        self.state.apply(Event::Proven(version, Box::new(verdict)), now);
    }

    /// A write ended; with what the API server holds now, if it said so.
    pub(crate) fn written(&mut self, write: StatusWrite, held: Option<RawSeccompProfile>, now: Instant) {
        let outcome = held.map(Box::new).ok_or_else(|| "lost".to_owned());
        self.state.apply(Event::Written(write.version, outcome), now);
    }

    /// When there is something to do, if nothing happens.
    pub(crate) fn wake(&self) -> Option<Instant> {
        self.state.wake_at()
    }

    /// As the loop does. What it started to write.
    pub(crate) fn turn(&mut self, now: Instant, time: &Time) -> Vec<StatusWrite> {
        let mut writes = Vec::new();
        for action in self.state.next(now, time) {
            match action {
                Action::Prove(version, spec) => self.proofs.push((version, spec)),
                Action::Write(version, write) => writes.push(StatusWrite {
                    version,
                    status: write.status,
                }),
                Action::Untaint(removal) => panic!("no node has a taint: {removal:?}"),
            }
        }
        self.writes.extend(writes.iter().cloned());
        writes
    }
}

/// The conditions Valid and Ready of a status.
pub(crate) fn conditions(status: &SeccompProfileStatus) -> [Option<&Condition>; 2] {
    [find(status, VALID), find(status, READY)]
}

/// What a status says in other than words: two in a row that say the same are one too many.
pub(crate) fn meaning(status: &SeccompProfileStatus) -> impl PartialEq + std::fmt::Debug + use<> {
    let condition = |condition: Option<&Condition>| {
        condition.map(|condition| {
            (
                condition.status,
                condition.reason.clone(),
                condition.observed_generation,
            )
        })
    };
    (
        status.observed_generation,
        status.digest.clone(),
        conditions(status).map(condition),
        without_words(&status.failures),
    )
}
