//! The loop: what is seen and answered goes in, what is decided comes out and is carried out. A thin shell around
//! [`State`], which decides.
//!
//! One task owns all state. What takes long (proofs, writes to the API server, the disk) runs elsewhere and
//! comes back as an event.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::catalogue::{Question, Version};
use super::disk::Disk;
use super::outbox::Outbox;
use super::report::Aspect;
use super::state::{State, Surroundings};
use super::watch::{self, Seen, Watched};
use super::{Config, Error, Metrics};
use crate::api::{ConditionStatus, Versions, now_in_seconds};
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

/// An agent at work.
pub(super) struct Agent {
    prover: Prover,
    config: Config,
    health: Health,
    metrics: Metrics,
    heartbeat: Heartbeat,

    state: State,
    disk: Disk,
    outbox: Outbox,

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
            state: State::new(
                config.node.clone(),
                versions,
                config.removal_grace,
                Instant::now(),
            ),
            disk: Disk::new(
                config.seccomp_root.clone(),
                config.bounds,
                config.rescan,
                proof,
                metrics.clone(),
            ),
            outbox: Outbox::new(client, config.node.clone(), metrics.clone()),
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
            // Most of what is seen is that the status of a profile was written.
            let mut is_news = false;
            while !is_news {
                is_news = true;
                tokio::select! {
                    _ = self.seen.recv_many(&mut events, EVENTS) => {
                        is_news = false;
                        for event in events.drain(..) {
                            is_news |= self.see(event);
                        }
                    }
                    Some(Err(error)) = self.watches.join_next() => return Err(Error::Watch(error.to_string())),
                    Some(Ok(answer)) = self.answers.join_next() => self.answered(answer),
                    ended = self.outbox.sent() => self.state.reported(ended, Instant::now()),
                    () = self.disk.changed() => {}
                    () = tokio::time::sleep_until(wake.into()) => {}
                }
            }
            while let Some(Ok(answer)) = self.answers.try_join_next() {
                self.answered(answer);
            }
        }
    }

    /// Whether it may change what is to be done.
    fn see(&mut self, seen: Seen) -> bool {
        match &seen {
            Seen::Cluster(uid) => self.disk.belongs_to(uid.clone()),
            Seen::Trouble(Watched::Cluster, Some(_)) => self.disk.belongs_to_nobody_known(),
            _ => {}
        }
        self.state
            .see(seen, |spec| self.prover.read(spec), Instant::now())
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
        self.state.answered(&name, &version, verdict, Instant::now());
    }

    /// Brings the disk and the report up to what is known now. When to turn again if nothing happens.
    async fn turn(&mut self) -> Result<Instant, Error> {
        self.disk.tend().await?;
        let now = Instant::now();
        self.plan(now);
        let mut more = false;
        if self.disk.is_ours() && self.disk.change(self.state.changes()).await? {
            self.plan(now);
            let wanted = self.state.changes();
            more = self.disk.is_ours() && wanted.iter().any(|change| self.disk.is_due(change.name()));
        }
        self.state.settle(|name| self.disk.current(name));
        self.tell(now);
        self.metrics.synced();

        let wakes = [
            Some(now + PULSE),
            self.disk.wake(),
            self.state.wake(),
            more.then_some(now),
        ];
        Ok(wakes.into_iter().flatten().min().unwrap_or(now))
    }

    /// Plans, and asks the kernel what the plan says. One task per profile; the prover sees to fairness between
    /// namespaces.
    fn plan(&mut self, now: Instant) {
        for Question { name, version, read } in self.state.plan(&self.disk.seen(), now) {
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

    /// Says what is so: in the log, to the probes, in numbers and to the API server.
    fn tell(&mut self, now: Instant) {
        let around = Surroundings {
            writable: self.disk.writable(),
            watching: self.disk.watching(),
            test_load: self.aspect_test_load(),
            confined: self.aspect_confined(),
        };
        let told = self
            .state
            .conclude(&self.disk.seen(), around, now, &now_in_seconds());
        if self.state.is_ready() && !self.health.is_ready() {
            self.health.set_ready();
        }
        self.metrics
            .profiles(told.live, told.failed, told.pending, told.in_use);
        for (condition, status) in told.conditions {
            self.metrics.condition(condition, status);
        }
        if let Some(object) = told.send {
            self.outbox.send(object, self.state.is_reported());
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
