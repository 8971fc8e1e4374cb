//! The loop: what is seen and answered goes in, one plan comes out, and is carried out.
//!
//! One task owns all state. What takes long (proofs, writes to the API server, the disk) runs elsewhere and
//! comes back as an event.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::catalogue::{Catalogue, Question, Version};
use super::disk::{self, Disk};
use super::listing::Listing;
use super::outbox::Outbox;
use super::plan::{self, Failed, Plan};
use super::report::{self, Aspect};
use super::usage::Usage;
use super::watch::{self, Change, NodeFacts, Seen, Trouble, Watched};
use super::{Config, Error, Metrics};
use crate::api::{ConditionStatus, LiveSet, NodeCondition, Versions};
use crate::filter::libseccomp_version;
use crate::profile::ProfileName;
use crate::proof::{Prover, Verdict, apart};
use crate::store::ProvenWith;
use crate::telemetry::{Health, Heartbeat};

/// How often the loop turns if nothing happens.
const PULSE: Duration = Duration::from_secs(5);
/// How long one turn may take before the process counts as stuck.
const STUCK: Duration = Duration::from_secs(120);
/// How many events are taken in before the next plan.
const EVENTS: usize = 64;
/// How long a first sync may take before a report says that it is not done.
const PATIENCE: Duration = Duration::from_secs(5);

/// An agent at work.
pub(super) struct Agent {
    prover: Prover,
    config: Config,
    health: Health,
    metrics: Metrics,
    heartbeat: Heartbeat,
    started: Instant,

    catalogue: Catalogue,
    profiles: Listing<String>,
    usage: Usage,
    pods: Listing<String>,
    node: Option<NodeFacts>,
    /// What each watch cannot do.
    troubles: BTreeMap<Watched, Trouble>,

    disk: Disk,
    plan: Plan,
    /// What of the plan before is in the log.
    logged: Vec<Failed>,
    logged_tolerated: BTreeMap<ProfileName, String>,
    outbox: Outbox,
    versions: Versions,

    seen: mpsc::Receiver<Seen>,
    answers: JoinSet<Answer>,
    /// Aborted when dropped.
    watches: JoinSet<()>,
}

struct Answer {
    name: ProfileName,
    version: Version,
    verdict: Verdict,
}

impl Agent {
    pub(super) fn new(
        client: kube::Client,
        prover: Prover,
        config: Config,
        health: Health,
        metrics: Metrics,
    ) -> Self {
        let proof = ProvenWith::here(libseccomp_version());
        let versions = Versions {
            agent: proof.callgate.clone(),
            libseccomp: proof.libseccomp.clone(),
            kernel: proof.kernel.clone(),
        };
        tracing::info!(
            node = config.node,
            root = %config.seccomp_root.display(),
            version = versions.agent,
            libseccomp = versions.libseccomp,
            kernel = versions.kernel,
            "the agent starts"
        );
        let client = metrics.observe(client);
        let (seen, watches) = watch::start(&client, &config.node, &metrics);
        Self {
            heartbeat: health.heartbeat("the agent's loop", STUCK),
            started: Instant::now(),
            catalogue: Catalogue::default(),
            profiles: Listing::default(),
            usage: Usage::default(),
            pods: Listing::default(),
            node: None,
            troubles: BTreeMap::new(),
            disk: Disk::new(
                config.seccomp_root.clone(),
                config.bounds,
                config.rescan,
                proof,
                metrics.clone(),
            ),
            plan: Plan::default(),
            logged: Vec::new(),
            logged_tolerated: BTreeMap::new(),
            outbox: Outbox::new(client, config.node.clone(), metrics.clone()),
            versions,
            seen,
            answers: JoinSet::new(),
            watches,
            prover,
            config,
            health,
            metrics,
        }
    }

    /// Turns for ever, or until only a new process can go on.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            self.heartbeat.beat();
            let wake = self.turn().await?;
            tokio::select! {
                _ = self.seen.recv_many(&mut events, EVENTS) => {}
                Some(Err(error)) = self.watches.join_next() => return Err(Error::Watch(error.to_string())),
                Some(Ok(answer)) = self.answers.join_next() => self.answered(answer),
                () = self.outbox.sent() => {}
                () = self.disk.changed() => {}
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            while let Some(Ok(answer)) = self.answers.try_join_next() {
                self.answered(answer);
            }
            for event in events.drain(..) {
                self.see(event);
            }
        }
    }

    fn see(&mut self, seen: Seen) {
        let now = Instant::now();
        match seen {
            Seen::Profile(Change::Begin) => self.profiles.begin(),
            Seen::Profile(Change::Set(key, object)) => {
                self.profiles.saw(&key);
                self.catalogue.set(object, &self.prover);
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
                self.outbox.node_is(Some(node.uid.clone()));
                self.node = Some(node);
            }
            // Its labels stay what they were: a Node that is registered anew must find its files.
            Seen::Node(Change::Unset(())) => self.outbox.node_is(None),
            Seen::Node(Change::End) if self.node.is_none() => {
                tracing::error!(
                    node = self.config.node,
                    "there is no such Node object; is --node right? waiting for it"
                );
            }
            Seen::Node(Change::Begin | Change::End) => {}
            Seen::Report(change) => self.outbox.see(change),
            Seen::Cluster(uid) => self.disk.belongs_to(uid),
            Seen::Trouble(what, Some(trouble)) => {
                if what == Watched::Cluster {
                    self.disk.belongs_to_nobody_known();
                }
                self.troubles.insert(what, trouble);
            }
            Seen::Trouble(what, None) => {
                self.troubles.remove(&what);
            }
        }
    }

    fn answered(
        &mut self,
        Answer {
            name,
            version,
            verdict,
        }: Answer,
    ) {
        self.metrics.answered(&verdict);
        if let Verdict::Unknown(reason) = &verdict {
            tracing::warn!(profile = %name, "not proven, to be tried again: {reason}");
        }
        self.catalogue.answer(&name, &version, verdict, Instant::now());
    }

    /// Brings the disk and the report up to what is known now. When to turn again if nothing happens.
    async fn turn(&mut self) -> Result<Instant, Error> {
        self.disk.tend().await?;
        let now = Instant::now();
        self.usage.expire(now);
        let in_use = self.usage.profiles();
        self.plan = self.make_plan(&in_use, now);
        self.ask_all();
        let mut more = false;
        if self.disk.is_ours() && self.disk.change(self.changes()).await? {
            self.plan = self.make_plan(&in_use, now);
            self.ask_all();
            let mut wanted = self.plan.write.iter().chain(&self.plan.remove);
            more = self.disk.is_ours() && wanted.any(|name| self.disk.is_due(name));
        }
        for (name, file) in self.disk.current() {
            self.catalogue.settle(name, file);
        }
        self.tell(&in_use, now);
        self.metrics.synced();

        let wakes = [
            Some(now + PULSE),
            self.disk.wake(),
            self.plan.wake,
            self.usage.next_expiry(),
            self.outbox.wake(),
            more.then_some(now),
        ];
        Ok(wakes.into_iter().flatten().min().unwrap_or(now))
    }

    fn make_plan(&self, in_use: &BTreeSet<ProfileName>, now: Instant) -> Plan {
        plan::plan(&plan::Facts {
            desired: self.catalogue.desired(),
            labels: self.node.as_ref().map(|node| &node.labels),
            live: self.disk.live(),
            unproven: self.disk.unproven(),
            in_use,
            held: self.disk.held(),
            profiles_synced: self.profiles.is_whole() && !self.troubles.contains_key(&Watched::Profiles),
            pods_synced: self.pods.is_whole() && !self.troubles.contains_key(&Watched::Pods),
            unwanted: &self.plan.unwanted,
            grace: self.config.removal_grace,
            now,
        })
    }

    /// Asks the kernel what the plan says. One task per profile; the prover sees to fairness between namespaces.
    fn ask_all(&mut self) {
        for name in std::mem::take(&mut self.plan.prove) {
            let Some(Question { name, version, read }) = self.catalogue.question(&name) else {
                continue;
            };
            let prover = self.prover.clone();
            let tenant = name.namespace().to_owned();
            self.answers.spawn(async move {
                let verdict = apart(async move { prover.prove(&tenant, read).await }).await;
                Answer {
                    name,
                    version,
                    verdict,
                }
            });
        }
    }

    fn changes(&self) -> Vec<disk::Change> {
        let write = self.plan.write.iter().filter_map(|name| {
            let file = self.catalogue.file(name)?.clone();
            Some(disk::Change::Write(name.clone(), file))
        });
        let remove = self.plan.remove.iter().cloned().map(disk::Change::Remove);
        write.chain(remove).collect()
    }

    fn synced(&self) -> bool {
        self.profiles.complete && self.pods.complete && self.node.is_some()
    }

    /// Says what is so: in the log, to the probes, in numbers and to the API server.
    fn tell(&mut self, in_use: &BTreeSet<ProfileName>, now: Instant) {
        let mut failures: Vec<Failed> = self.catalogue.misnamed().collect();
        failures.append(&mut self.plan.failures);
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

        let settled = self.synced() && self.disk.is_ours() && self.plan.pending == 0;
        if settled && !self.health.is_ready() {
            self.health.set_ready();
            tracing::info!(
                seconds = self.started.elapsed().as_secs_f32(),
                "ready: every profile was dealt with"
            );
        }
        let on_disk = self.disk.live();
        let live = || -> LiveSet { on_disk.iter().map(|(name, live)| (*name, &live.digest)).collect() };
        let live = self.disk.is_open().then(live);
        self.metrics
            .profiles(on_disk.len(), failures.len(), self.plan.pending, in_use.len());

        let aspects = [
            (NodeCondition::Synced, self.aspect_synced()),
            (NodeCondition::StoreWritable, self.disk.writable()),
            (NodeCondition::DriftWatch, self.disk.watching()),
            (NodeCondition::TestLoad, self.aspect_test_load()),
            (NodeCondition::Confined, self.aspect_confined()),
        ];
        for (condition, aspect) in &aspects {
            self.metrics.condition(*condition, aspect.status);
        }
        let facts = report::Facts {
            versions: &self.versions,
            live,
            failures: self.profiles.complete.then_some(&failures),
            in_use: self.pods.complete.then_some(in_use),
            aspects,
        };
        if self.health.is_ready() || now >= self.started + PATIENCE {
            self.outbox.report(facts, self.plan.pending > 0, now);
        }
        self.logged = failures;
        self.logged_tolerated = tolerated;
    }

    fn aspect_synced(&self) -> Aspect {
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
            None if self.health.is_ready()
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
            None if self.health.is_ready() => Aspect {
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

    fn aspect_test_load(&self) -> Aspect {
        if self.prover.is_alive() {
            Aspect {
                status: ConditionStatus::True,
                reason: "Answering",
                message: "The process that compiles and loads filters answers.".to_owned(),
            }
        } else {
            Aspect {
                status: ConditionStatus::False,
                reason: "NotAnswering",
                message:
                    "The process that compiles and loads filters does not answer: files stay, and no new \
                          profile is proven. See the agent's log."
                        .to_owned(),
            }
        }
    }

    fn aspect_confined(&self) -> Aspect {
        match &self.config.confinement {
            Some(confinement) => Aspect {
                status: if confinement.is_confined() {
                    ConditionStatus::True
                } else {
                    ConditionStatus::False
                },
                reason: confinement.reason(),
                message: confinement.message(),
            },
            None => Aspect {
                status: ConditionStatus::Unknown,
                reason: "NotTried",
                message: "The agent runs in a process that has not tried to shut itself in.".to_owned(),
            },
        }
    }
}
