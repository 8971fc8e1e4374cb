//! The loop around [`State`]: events in, actions out, everything else in tasks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::select_all;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::event::{Action, Event, ObjectVersion};
use super::events::Events;
use super::lease::{self, Lease, Lost};
use super::state::State;
use super::status::{READY, VALID, find, patch};
use super::taint::{Removal, TaintKey};
use super::watch::watch_all;
use super::{Config, Error, Metrics};
use crate::api::{RawSeccompProfile, SeccompProfileStatus, now_in_seconds};
use crate::patience::patient;
use crate::proof::{Prover, Verdict, apart};
use crate::telemetry::Health;

const FIELD_MANAGER: &str = "callgate-controller";
/// How long one write may take: as long as a busy API server lets a request wait for its turn. Given up before that, it is
/// to be made anew, and waits again.
/// Source: `requestWaitLimit` of `k8s.io/apiserver`, `pkg/util/flowcontrol`, a quarter of `--request-timeout`
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long writes under way are waited for at the end.
const LAST_WRITES: Duration = Duration::from_secs(1);
/// Events that are taken in before anything is decided: a burst of reports is one look at each profile.
const BATCH: usize = 1024;
/// How often the loop turns when nothing happens, and how seldom is too seldom.
const IDLE: Duration = Duration::from_secs(10);
const STUCK: Duration = Duration::from_secs(60);

/// Runs until the token is cancelled. However it ends, it lets go of the Lease if it has it.
///
/// Every replica watches and proves, so that it knows everything when it comes to lead; only the one that holds
/// the Lease writes. One that loses it stands by again.
pub async fn run(
    client: Client,
    prover: Prover,
    config: Config,
    health: Health,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let heartbeat = health.heartbeat("the controller's loop", STUCK);
    tracing::info!(
        identity = config.identity,
        namespace = config.namespace,
        version = env!("CARGO_PKG_VERSION"),
        "the controller starts"
    );
    let client = metrics.observe(client);
    let mut watches = select_all(watch_all(
        &patient(client.clone()),
        &config.namespace,
        config.startup_taint.as_ref(),
        &metrics,
    ))
    .ready_chunks(BATCH);
    let mut tasks = Tasks {
        client: client.clone(),
        prover,
        metrics: metrics.clone(),
        events: Arc::new(Events::start(
            patient(client.clone()),
            &config.identity,
            metrics.clone(),
        )),
        startup_taint: config.startup_taint.clone(),
        proofs: JoinSet::new(),
        writes: JoinSet::new(),
    };
    let mut leadership = Leadership::start(client, &config);
    let turns = async {
        let mut state = State::default();
        loop {
            let now = Instant::now();
            for action in state.next(now, &now_in_seconds()) {
                tasks.start(action);
            }
            metrics.profiles(&state.counts());
            metrics.nodes(&state.node_counts());
            metrics.waiting(state.waiting_proofs());
            if state.is_synced() && !health.is_ready() {
                tracing::info!("every watch has shown what there is");
                health.set_ready();
                leadership.synced.notify_one();
            }
            heartbeat.beat();
            let wake = state.wake_at().map_or(now + IDLE, |at| at.min(now + IDLE));
            let events = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                events = watches.next() => events.ok_or(Error::Ended("a watch"))?,
                Some(event) = tasks.proofs.join_next() => vec![event.map_err(|_| Error::Ended("a proof"))?],
                Some(event) = tasks.writes.join_next() => vec![event.map_err(|_| Error::Ended("a write"))?],
                change = leadership.changes.recv() => match change {
                    Some(Ok(())) => {
                        tracing::info!(identity = config.identity, "this replica leads");
                        metrics.leading(true);
                        vec![Event::Leading(true)]
                    }
                    Some(Err(lost)) => {
                        // Another replica may write from here on.
                        tasks.writes.shutdown().await;
                        tracing::warn!(
                            identity = config.identity,
                            "the Lease {}/{} is lost: {lost}; this replica stands by",
                            config.namespace,
                            lease::NAME
                        );
                        metrics.leading(false);
                        vec![Event::Leading(false)]
                    }
                    None => return Err(Error::Ended("the election")),
                },
                () = sleep_until(wake.into()) => Vec::new(),
            };
            let now = Instant::now();
            for event in events {
                state.apply(event, now);
            }
        }
    };
    let outcome = turns.await;
    // What is on its way arrives before another replica may lead.
    let last_writes = async { while tasks.writes.join_next().await.is_some() {} };
    // Those that are still under way then are stopped below.
    let _ = timeout(LAST_WRITES, last_writes).await;
    tasks.writes.shutdown().await;
    leadership.end().await;
    outcome
}

/// What is under way. Each ends with the event of its result.
struct Tasks {
    client: Client,
    prover: Prover,
    metrics: Metrics,
    events: Arc<Events>,
    startup_taint: Option<TaintKey>,
    proofs: JoinSet<Event>,
    writes: JoinSet<Event>,
}

impl Tasks {
    fn start(&mut self, action: Action) {
        let metrics = self.metrics.clone();
        match action {
            Action::Prove(version, spec) => {
                let prover = self.prover.clone();
                self.proofs.spawn(async move {
                    let verdict = apart(prove(prover, version.clone(), spec)).await;
                    if let Verdict::Unknown(reason) = &verdict {
                        tracing::warn!(profile = version.key, "not proven, to be tried again: {reason}");
                    }
                    metrics.proven(&verdict);
                    Event::Proven(version, Box::new(verdict))
                });
            }
            Action::Write(version, to_write) => {
                let (client, events) = (self.client.clone(), Arc::clone(&self.events));
                self.writes.spawn(async move {
                    let outcome = write(client, &version, &to_write.status).await;
                    metrics.written(outcome.is_ok());
                    if outcome.is_ok() {
                        events.tell(&version, to_write.seen_as, to_write.news);
                    }
                    Event::Written(version, outcome.map(Box::new))
                });
            }
            Action::Untaint(removal) => {
                // Without a key no node is seen to be tainted.
                let Some(key) = self.startup_taint.clone() else {
                    return;
                };
                let client = self.client.clone();
                self.writes.spawn(async move {
                    let outcome = untaint(client, &removal, &key).await;
                    metrics.untainted(outcome.is_ok());
                    Event::Untainted(removal, outcome)
                });
            }
        }
    }
}

async fn prove(prover: Prover, version: ObjectVersion, spec: Arc<Value>) -> Verdict {
    match prover.read(&spec) {
        Ok(read) => prover.prove(version.namespace(), read).await,
        Err(refused) => Verdict::Invalid(refused),
    }
}

async fn write(
    client: Client,
    version: &ObjectVersion,
    status: &SeccompProfileStatus,
) -> Result<RawSeccompProfile, String> {
    let patch = Patch::Merge(patch(&version.uid, status).map_err(|error| error.to_string())?);
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let profiles = Api::<RawSeccompProfile>::namespaced(client, version.namespace());
    let written = profiles.patch_status(version.name(), &parameters, &patch);
    match timeout(WRITE_TIMEOUT, written).await {
        Ok(Ok(object)) => {
            let reason = |type_| find(status, type_).map(|condition| condition.reason.as_str());
            tracing::info!(
                profile = version.key,
                generation = version.generation,
                digest = status.digest,
                valid = reason(VALID),
                ready = reason(READY),
                failed_nodes = status.failures_total,
                "status written"
            );
            Ok(object)
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer in {} s", WRITE_TIMEOUT.as_secs())),
    }
}

async fn untaint(client: Client, removal: &Removal, key: &TaintKey) -> Result<(), String> {
    let patch = removal.patch(key).map_err(|error| error.to_string())?;
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let nodes = Api::<Node>::all(client);
    let patch = Patch::<Node>::Json(patch);
    match timeout(
        WRITE_TIMEOUT,
        nodes.patch_metadata(&removal.node, &parameters, &patch),
    )
    .await
    {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer in {} s", WRITE_TIMEOUT.as_secs())),
    }
}

/// The election, in a task of its own: no burst of work may keep the holder from renewing.
struct Leadership {
    /// An `Ok` each time that this replica comes to lead, an `Err` each time that it no longer does.
    changes: mpsc::Receiver<Result<(), Lost>>,
    /// To be told once every watch has shown what there is: who cannot see does not stand for election.
    synced: Arc<Notify>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Leadership {
    fn start(client: Client, config: &Config) -> Self {
        let mut lease = Lease::new(client, &config.namespace, config.identity.clone());
        let (sender, changes) = mpsc::channel(1);
        let (synced, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let (may_begin, stopped) = (Arc::clone(&synced), stop.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let lead = async {
                may_begin.notified().await;
                loop {
                    lease.acquire().await;
                    // Nobody listens any more where the controller has ended for another reason.
                    let _ = sender.send(Ok(())).await;
                    let lost = lease.keep().await;
                    let _ = sender.send(Err(lost)).await;
                }
            };
            stopped.run_until_cancelled(lead).await;
            lease.release().await;
        }));
        Self {
            changes,
            synced,
            stop,
            task,
        }
    }

    /// Releases the Lease if this replica holds it.
    async fn end(self) {
        self.stop.cancel();
        // It cannot fail but by a panic, which has been reported.
        let _ = self.task.await;
    }
}
