//! All that the agent knows, and what it does next. Pure: events, time and the state of the disk come in; questions for
//! the kernel, changes of files and reports go out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::catalogue::{Catalogue, Question, Version};
use super::disk::files::Files;
use super::draft::{Draft, Unsent};
use super::listing::Listing;
use super::plan::{self, Failed, Held, Plan};
use super::report::{self, Aspect};
use super::usage::Usage;
use super::watch::{Change, NodeFacts, Seen, Trouble, Watched};
use crate::api::{ConditionStatus, NodeCondition, SeccompNode, Versions};
use crate::profile::{Canonical, ProfileName};
use crate::proof::{Read, Refused, Verdict};

/// How long a first sync may take before a report says that it is not done.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an agent knows.
#[derive(Debug)]
pub(super) struct State {
    node_name: String,
    versions: Versions,
    removal_grace: Duration,
    started: Instant,

    catalogue: Catalogue,
    profiles: Listing<String>,
    usage: Usage,
    in_use: BTreeSet<ProfileName>,
    pods: Listing<String>,
    node: Option<NodeFacts>,
    /// What each watch cannot do.
    troubles: BTreeMap<Watched, Trouble>,

    plan: Plan,
    /// What of the plan before is in the log.
    logged: Vec<Failed>,
    logged_tolerated: BTreeMap<ProfileName, String>,
    /// Whether every profile was dealt with once.
    ready: bool,
    draft: Draft,
}

/// The disk, as decisions see it.
#[derive(Debug)]
pub(super) struct OnDisk<'a> {
    /// Whether the directory is open, be it ours or not.
    pub(super) is_open: bool,
    /// Whether it is open, and our cluster's.
    pub(super) is_ours: bool,
    pub(super) files: &'a Files,
    /// Files that lost their record.
    pub(super) unproven: BTreeSet<&'a ProfileName>,
    /// What it did not take.
    pub(super) held: BTreeMap<&'a ProfileName, &'a Held>,
}

/// What to do to a file.
#[derive(Debug)]
pub(super) enum FileChange {
    Write(ProfileName, Canonical),
    Remove(ProfileName),
}

/// What a report says that only the parts around the decisions know.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) writable: Aspect,
    pub(super) watching: Aspect,
    pub(super) test_load: Aspect,
    pub(super) confined: Aspect,
}

/// What is so, as numbers, and what to tell the API server of it.
#[derive(Debug)]
pub(super) struct Conclusion {
    pub(super) live: usize,
    pub(super) failed: usize,
    pub(super) pending: usize,
    pub(super) in_use: usize,
    pub(super) conditions: [(NodeCondition, ConditionStatus); report::OURS.len()],
    /// To be written now.
    pub(super) send: Option<SeccompNode>,
}

impl FileChange {
    pub(super) const fn name(&self) -> &ProfileName {
        match self {
            Self::Write(name, _) | Self::Remove(name) => name,
        }
    }
}

impl State {
    pub(super) fn new(node_name: String, versions: Versions, removal_grace: Duration, now: Instant) -> Self {
        Self {
            draft: Draft::new(node_name.clone()),
            node_name,
            versions,
            removal_grace,
            started: now,
            catalogue: Catalogue::default(),
            profiles: Listing::default(),
            usage: Usage::default(),
            in_use: BTreeSet::new(),
            pods: Listing::default(),
            node: None,
            troubles: BTreeMap::new(),
            plan: Plan::default(),
            logged: Vec::new(),
            logged_tolerated: BTreeMap::new(),
            ready: false,
        }
    }

    /// Takes in what a watch tells. Specs are read with `read`. Whether it may change what is planned or reported.
    pub(super) fn see(
        &mut self,
        seen: Seen,
        read: impl FnOnce(&Value) -> Result<Read, Refused>,
        now: Instant,
    ) -> bool {
        match seen {
            Seen::Profile(Change::Begin) => self.profiles.begin(),
            Seen::Profile(Change::Set(key, object)) => {
                self.profiles.saw(&key);
                return self.catalogue.set(object, read);
            }
            Seen::Profile(Change::Unset(key)) => self.catalogue.unset(&key),
            Seen::Profile(Change::End) => {
                if let Some(keys) = self.profiles.end() {
                    self.catalogue.retain(&keys);
                }
            }
            Seen::Pod(Change::Begin) => self.pods.begin(),
            Seen::Pod(Change::Set(uid, profiles)) => {
                self.pods.saw(&uid);
                self.usage.set(&uid, profiles, now);
            }
            Seen::Pod(Change::Unset(uid)) => self.usage.set(&uid, BTreeSet::new(), now),
            Seen::Pod(Change::End) => {
                if let Some(uids) = self.pods.end() {
                    self.usage.retain(&uids, now);
                }
            }
            Seen::Node(Change::Set((), node)) => {
                self.draft.node_is(Some(node.uid.clone()));
                self.node = Some(node);
            }
            // Its labels stay what they were: a Node that is registered anew must find its files.
            Seen::Node(Change::Unset(())) => self.draft.node_is(None),
            Seen::Node(Change::End) if self.node.is_none() => {
                tracing::error!(
                    node = self.node_name,
                    "there is no such Node object; is --node right? waiting for it"
                );
            }
            Seen::Node(Change::Begin | Change::End) | Seen::Cluster(_) => {}
            Seen::Report(change) => self.draft.see(change),
            Seen::Trouble(what, Some(trouble)) => {
                self.troubles.insert(what, trouble);
            }
            Seen::Trouble(what, None) => {
                self.troubles.remove(&what);
            }
        }
        true
    }

    /// Takes in what the kernel answered.
    pub(super) fn answered(&mut self, name: &ProfileName, version: &Version, verdict: Verdict, now: Instant) {
        self.catalogue.answer(name, version, verdict, now);
    }

    /// The write of a report ended: what was written, and what the API server holds now.
    pub(super) fn reported(&mut self, ended: Result<(SeccompNode, SeccompNode), Unsent>, now: Instant) {
        match ended {
            Ok((object, held)) => self.draft.sent(object, held, now),
            Err(why) => self.draft.failed(&why, now),
        }
    }

    /// Decides what is to be done now. What to ask the kernel.
    pub(super) fn plan(&mut self, disk: &OnDisk<'_>, now: Instant) -> Vec<Question> {
        self.usage.expire(now);
        self.in_use = self.usage.profiles();
        self.plan = plan::plan(&plan::Facts {
            desired: self.catalogue.desired(),
            labels: self.node.as_ref().map(|node| &node.labels),
            live: disk.files.by_name(),
            unproven: &disk.unproven,
            in_use: &self.in_use,
            held: &disk.held,
            profiles_synced: self.profiles.is_whole() && !self.troubles.contains_key(&Watched::Profiles),
            pods_synced: self.pods.is_whole() && !self.troubles.contains_key(&Watched::Pods),
            unwanted: &self.plan.unwanted,
            grace: self.removal_grace,
            now,
        });
        let questions = std::mem::take(&mut self.plan.prove);
        questions
            .iter()
            .filter_map(|name| self.catalogue.question(name))
            .collect()
    }

    /// What the plan changes on disk.
    pub(super) fn changes(&self) -> Vec<FileChange> {
        let write = self.plan.write.iter().filter_map(|name| {
            let file = self.catalogue.file(name)?.clone();
            Some(FileChange::Write(name.clone(), file))
        });
        let remove = self.plan.remove.iter().cloned().map(FileChange::Remove);
        write.chain(remove).collect()
    }

    /// `current` is the file of a profile that is on disk, and proven as well as it can be.
    pub(super) fn settle<'a>(&mut self, current: impl Fn(&ProfileName) -> Option<&'a Canonical>) {
        self.catalogue.settle(current);
    }

    /// Whether every profile was dealt with once since the start.
    pub(super) const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether the API server has a report of this node, as far as is known.
    pub(super) const fn is_reported(&self) -> bool {
        self.draft.is_reported()
    }

    /// When to plan or to report again, if nothing else happens.
    pub(super) fn wake(&self) -> Option<Instant> {
        [self.plan.wake, self.usage.next_expiry(), self.draft.wake()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Says what is so after the last plan: in the log, in numbers and to the API server.
    pub(super) fn conclude(
        &mut self,
        disk: &OnDisk<'_>,
        around: Surroundings,
        now: Instant,
        time: &Time,
    ) -> Conclusion {
        let mut failures: Vec<Failed> = self.catalogue.misnamed().collect();
        failures.append(&mut self.plan.failures);
        self.log(&failures);

        let is_synced = self.profiles.complete && self.pods.complete && self.node.is_some();
        if !self.ready && is_synced && disk.is_ours && self.plan.pending == 0 {
            self.ready = true;
            tracing::info!(
                seconds = now.duration_since(self.started).as_secs_f32(),
                "ready: every profile was dealt with"
            );
        }
        let aspects = [
            (NodeCondition::Synced, self.synced()),
            (NodeCondition::StoreWritable, around.writable),
            (NodeCondition::DriftWatch, around.watching),
            (NodeCondition::TestLoad, around.test_load),
            (NodeCondition::Confined, around.confined),
        ];
        let conditions = aspects
            .each_ref()
            .map(|(condition, aspect)| (*condition, aspect.status));
        let facts = report::Facts {
            versions: &self.versions,
            live: disk.is_open.then(|| disk.files.set().clone()),
            failures: self.profiles.complete.then_some(&failures),
            in_use: self.pods.complete.then_some(&self.in_use),
            aspects,
        };
        let pending = self.plan.pending;
        let send = if self.ready || now >= self.started + PATIENCE {
            self.draft.report(facts, pending > 0, now, time)
        } else {
            None
        };
        let failed = failures.len();
        self.logged = failures;
        Conclusion {
            live: disk.files.by_name().len(),
            failed,
            pending,
            in_use: self.in_use.len(),
            conditions,
            send,
        }
    }

    /// Logs what was not so before.
    fn log(&mut self, failures: &[Failed]) {
        for failed in failures.iter().filter(|failed| !self.logged.contains(failed)) {
            let [digest, live] =
                [failed.digest, failed.live].map(|digest| digest.map(|digest| digest.to_string()));
            tracing::warn!(
                profile = failed.profile,
                generation = failed.generation,
                reason = failed.reason,
                digest,
                live,
                "profile not installed: {}",
                failed.message
            );
        }
        let tolerated = std::mem::take(&mut self.plan.tolerated);
        for (name, message) in &tolerated {
            if self.logged_tolerated.get(name) != Some(message) {
                tracing::warn!(
                    profile = %name,
                    "stays installed until it changes, although a newer rule would refuse it: {message}"
                );
            }
        }
        self.logged_tolerated = tolerated;
    }

    fn synced(&self) -> Aspect {
        let missing = [
            (self.profiles.complete, Watched::Profiles, "the profiles"),
            (self.pods.complete, Watched::Pods, "the pods of this node"),
        ];
        let refused = [
            (Watched::Profiles, "ProfilesNotReadable"),
            (Watched::Pods, "PodsNotReadable"),
        ]
        .into_iter()
        .find_map(|(watched, reason)| {
            let trouble = self.troubles.get(&watched).filter(|trouble| trouble.is_refusal);
            trouble.map(|trouble| (reason, trouble))
        });
        match missing.into_iter().find(|(complete, ..)| !complete) {
            Some((_, watched, what)) => Aspect {
                status: ConditionStatus::False,
                reason: "NotSynced",
                message: match self.troubles.get(&watched) {
                    Some(trouble) => trouble.message.clone(),
                    None => format!("Not all of {what} have been seen yet."),
                },
            },
            // It was synced, and a rollout need not wait for it; what changed since is not seen.
            None if self.ready
                && let Some((reason, trouble)) = refused =>
            {
                Aspect {
                    status: ConditionStatus::True,
                    reason,
                    message: format!(
                        "Every profile was dealt with once; what changes now is not seen, so no file is removed: {}",
                        trouble.message
                    ),
                }
            }
            None if self.ready => Aspect {
                status: ConditionStatus::True,
                reason: "Synced",
                message: "Every profile has been dealt with since the agent started.".to_owned(),
            },
            None => Aspect {
                status: ConditionStatus::False,
                reason: "Settling",
                message: "Every profile has been seen, and not every one is settled yet.".to_owned(),
            },
        }
    }
}
