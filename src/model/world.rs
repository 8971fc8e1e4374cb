//! A cluster: agents and controllers at work on an API server, over a network that delays and loses.

mod healing;
mod network;
mod promises;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::Event;

use super::Broken;
use super::action::{Action, Damage, NODES, PROFILES};
use super::content::{Content, Machine, content, spec};
use super::ghost::Ghost;
use super::object::Kind;
use super::server::{Server, Told, Watch};
use crate::agent::model::{Agent, Disk};
use crate::api::{RawSeccompProfile, SeccompProfileStatus};
use crate::controller::model::{Controller, StatusWrite};
use crate::profile::{Digest, ProfileName};
use crate::store::{Installed, Origin};

pub(super) use promises::{Promise, Violation};

/// How long the file of a profile that is gone stays.
pub(super) const GRACE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct NodeUnderTest {
    pub(super) name: String,
    pub(super) disk: Disk,
    pub(super) agent: Option<Agent>,
    pub(super) machine: Machine,
    watches: [Watch; Kind::ALL.len()],
    ghost: Ghost,
    /// What its kernel took.
    passed: BTreeSet<Digest>,
    /// What each object had when it last was written: by the object's name. A file that stays is this one.
    pub(super) written: BTreeMap<ProfileName, Digest>,
    /// A file of `callgate install`, while the record says so.
    foreign: Option<ProfileName>,
    /// In its next turn it dies after so many changes.
    dies_after: Option<usize>,
    /// The kernel says nothing.
    is_silent: bool,
    /// Since the agent started it said nothing once, or the disk did not take a change.
    was_hindered: bool,
}

#[derive(Debug)]
struct Replica {
    controller: Controller,
    watches: [Watch; Kind::ALL.len()],
    ghost: Ghost,
    /// What the API server answered to its last write of each profile.
    answers: BTreeMap<String, RawSeccompProfile>,
}

impl Replica {
    fn start(new_rules: bool) -> Self {
        Self {
            controller: Controller::start(new_rules),
            watches: Watch::all(None),
            ghost: Ghost::new(),
            answers: BTreeMap::new(),
        }
    }

    /// A profile as it last was told of it, by its watch or in an answer.
    fn told(&self, key: &str) -> Option<RawSeccompProfile> {
        let watched = self.ghost.profile(key)?;
        let version = |object: &RawSeccompProfile| -> Option<u64> {
            object.metadata.resource_version.as_ref()?.parse().ok()
        };
        let is_newer = |answer: &&RawSeccompProfile| {
            answer.metadata.uid == watched.metadata.uid && version(answer) > version(&watched)
        };
        Some(self.answers.get(key).filter(is_newer).cloned().unwrap_or(watched))
    }
}

/// All of it.
pub(super) struct World {
    broken: Option<Broken>,
    now: Instant,
    seconds: i64,
    pub(super) server: Server,
    pub(super) nodes: Vec<NodeUnderTest>,
    replicas: Vec<Replica>,
    leader: Option<usize>,
    /// Of each version of a report: what was on disk when it was made.
    truths: BTreeMap<(String, String), BTreeMap<ProfileName, Digest>>,
    /// Of each report on its way.
    made: BTreeMap<String, BTreeMap<ProfileName, Digest>>,
    /// Statuses of processes that are gone, still on their way.
    stray_writes: Vec<StatusWrite>,
    /// How many statuses have arrived.
    pub(super) status_writes: usize,
    pub(super) violation: Option<Violation>,
}

impl World {
    pub(super) fn new(broken: Option<Broken>) -> Self {
        // The waits of agents are random, and are to be the same when a run is repeated.
        fastrand::seed(0);
        let machine = Machine {
            new_kernel: false,
            new_rules: false,
        };
        let node = |index: u8| {
            let name = format!("n{index}");
            NodeUnderTest {
                disk: Disk::default(),
                agent: None,
                machine: Machine {
                    new_kernel: index > 0,
                    ..machine
                },
                watches: Watch::all(Some(&name)),
                ghost: Ghost::new(),
                passed: BTreeSet::new(),
                written: BTreeMap::new(),
                foreign: None,
                dies_after: None,
                is_silent: false,
                was_hindered: false,
                name,
            }
        };
        let mut world = Self {
            broken,
            now: Instant::now(),
            seconds: 1_000_000,
            server: Server::default(),
            nodes: (0..NODES).map(node).collect(),
            replicas: (0..2).map(|_| Replica::start(false)).collect(),
            leader: None,
            truths: BTreeMap::new(),
            made: BTreeMap::new(),
            stray_writes: Vec::new(),
            status_writes: 0,
            violation: None,
        };
        // On the last node `callgate install` put a file of one of the profiles.
        let file = Content::Good(0).file().unwrap();
        let last = &mut world.nodes[usize::from(NODES) - 1];
        last.passed.insert(file.digest);
        last.disk.proofs.insert(file.digest, last.machine);
        last.foreign = Some(profile(0));
        let origin = if broken == Some(Broken::TakesAllForItsOwn) {
            Origin::Cluster
        } else {
            Origin::Install
        };
        last.disk.live.insert(profile(0), Installed { file, origin });
        for index in 0..NODES {
            world.server.register(&format!("n{index}"), Some(index % 2));
            world.start_agent(usize::from(index));
        }
        world.leader = Some(0);
        let now = world.now;
        world.replicas[0].controller.lead(true, now);
        world.settle();
        world
    }

    fn time(&self) -> Time {
        Time(Timestamp::from_second(self.seconds).unwrap())
    }

    pub(super) fn violate(&mut self, promise: Promise, how: String) {
        self.violation.get_or_insert(Violation { promise, how });
    }

    pub(super) fn act(&mut self, action: &Action) {
        let node = |index: u8| usize::from(index % NODES);
        match *action {
            Action::Apply(name, content, zone) => {
                self.server.apply(&profile(name).to_string(), spec(content, zone));
            }
            Action::Delete(name) => self.server.delete(&profile(name).to_string()),
            Action::Register(index, zone) => self.server.register(&self.nodes[node(index)].name, zone),
            Action::Unregister(index) => self.server.unregister(&self.nodes[node(index)].name),
            Action::StartPod(index, name) => {
                let name = profile(name).to_string();
                self.server.start_pod(&self.nodes[node(index)].name, &name);
            }
            Action::FinishPod(number) => {
                if let Some(uid) = self.pod(number) {
                    self.server.finish_pod(&uid);
                }
            }
            Action::DeletePod(number) => {
                if let Some(uid) = self.pod(number) {
                    self.server.delete_pod(&uid);
                }
            }
            Action::CollectGarbage => self.server.collect_garbage(),
            Action::Deliver(process, kind, count) => self.deliver(process, kind, usize::from(count)),
            Action::Repeat(process, kind) => {
                let watch = self.watch(process, kind);
                if let Some(Told::Event(Event::Apply(_))) = watch.queue.front() {
                    let again = watch.queue[0].clone();
                    watch.queue.push_front(again);
                }
            }
            Action::Cut(process, kind) => self.watch(process, kind).cut(),
            Action::Connect(process, kind) => self.connect(process, kind),
            Action::Answer(process, number, silent) => self.answer(process, usize::from(number), silent),
            Action::Report(index, arrives, answered) => self.land_report(node(index), arrives, answered),
            Action::Status(replica, number, arrives, answered) => {
                self.land_status(usize::from(replica % 2), usize::from(number), arrives, answered);
            }
            Action::StrayStatus => {
                if let Some(write) = self.stray_writes.pop() {
                    self.arrive(&write);
                }
            }
            Action::Crash(index, damage) => self.crash_agent(node(index), damage),
            Action::DieAfter(index, changes) => {
                self.nodes[node(index)].dies_after = Some(usize::from(changes));
            }
            Action::Start(index, upgrade) => {
                let index = node(index);
                if self.nodes[index].agent.is_none() {
                    self.nodes[index].machine.new_kernel |= upgrade & 1 > 0;
                    self.nodes[index].machine.new_rules |= upgrade & 2 > 0;
                    self.start_agent(index);
                }
            }
            Action::Identify(index) => {
                if let Some(agent) = &mut self.nodes[node(index)].agent {
                    agent.identified();
                }
            }
            Action::Probe(index) => self.probe(node(index)),
            Action::RestartController(replica, new_rules) => {
                self.restart_controller(usize::from(replica % 2), new_rules);
            }
            Action::Lead(replica) => self.lead(replica.map(|replica| usize::from(replica % 2))),
            Action::DiskFull(index, is_full) => self.nodes[node(index)].disk.is_full = is_full,
            Action::FileStuck(index, name) => self.nodes[node(index)].disk.stuck = name.map(profile),
            Action::KernelSilent(index, is_silent) => self.nodes[node(index)].is_silent = is_silent,
            Action::Pass(milliseconds) => self.pass(Duration::from_millis(milliseconds)),
            Action::Settle => self.settle(),
        }
        self.spread();
        self.turn_all();
    }

    fn pod(&self, number: u8) -> Option<String> {
        let count = self.server.pods.len();
        let index = usize::from(number).checked_rem(count)?;
        self.server.pods.keys().nth(index).cloned()
    }

    fn start_agent(&mut self, index: usize) {
        let grace = if self.broken == Some(Broken::ShortGrace) {
            GRACE / 10
        } else {
            GRACE
        };
        let node = &mut self.nodes[index];
        node.agent = Some(Agent::start(&node.name, node.machine, grace, self.now));
        node.ghost = Ghost::new();
        node.watches = Watch::all(Some(&node.name));
        node.dies_after = None;
        node.was_hindered = false;
    }

    fn crash_agent(&mut self, index: usize, damage: Damage) {
        let node = &mut self.nodes[index];
        let Some(agent) = node.agent.take() else { return };
        match damage {
            Damage::None => {}
            Damage::Record => {
                node.disk.lose_record();
                node.foreign = None;
            }
            Damage::File(name) => {
                node.disk.live.remove(&profile(name));
                node.disk.unproven.remove(&profile(name));
            }
            // What it was about to report arrives after its end.
            Damage::LateReport => {
                if let Some(object) = agent.sending {
                    self.report_arrives(index, &object);
                }
            }
        }
    }

    fn probe(&mut self, index: usize) {
        let node = &self.nodes[index];
        let is_ready = node.agent.as_ref().is_some_and(Agent::is_ready);
        self.server.probe(&node.name, is_ready);
    }

    fn restart_controller(&mut self, replica: usize, new_rules: bool) {
        if self.leader == Some(replica) {
            self.leader = None;
        }
        let next = Replica::start(new_rules);
        let gone = std::mem::replace(&mut self.replicas[replica], next);
        self.stray_writes.extend(gone.controller.writes);
    }

    fn lead(&mut self, next: Option<usize>) {
        let now = self.now;
        if let Some(before) = self.leader.take() {
            let controller = &mut self.replicas[before].controller;
            controller.lead(false, now);
            // Stopped, and perhaps already sent.
            self.stray_writes.append(&mut controller.writes);
        }
        if let Some(next) = next {
            self.replicas[next].controller.lead(true, now);
            self.leader = Some(next);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.seconds += i64::try_from(time.as_secs()).unwrap();
    }

    fn turn_all(&mut self) {
        for index in 0..self.nodes.len() {
            self.turn_agent(index);
        }
        for replica in 0..self.replicas.len() {
            self.turn_controller(replica);
        }
        self.spread();
    }

    fn turn_agent(&mut self, index: usize) {
        let (now, time) = (self.now, self.time());
        let broken = self.broken;
        let node = &mut self.nodes[index];
        let Some(agent) = &mut node.agent else { return };
        let files = node.disk.live.keys().chain(node.disk.unproven.keys());
        node.ghost.note_unwanted(files, now);
        let turned = agent.turn(&mut node.disk, now, &time, node.dies_after.take());
        if turned.crashed {
            node.agent = None;
        }
        node.was_hindered |= turned.failed;
        for changed in &turned.changed {
            self.check_change(index, changed);
        }
        self.check_told(index, &turned);
        if let Some(mut object) = turned.sent {
            let node = &self.nodes[index];
            let on_disk = node.disk.live.iter();
            let mut truth: BTreeMap<_, _> = on_disk
                .map(|(name, installed)| (name.clone(), installed.file.digest))
                .collect();
            if broken == Some(Broken::ReportsWhatIsWanted) {
                let wanted = node
                    .ghost
                    .profiles()
                    .filter_map(|name| Some((name.clone(), node.ghost.wanted(&name)?)));
                let all: BTreeMap<_, _> = wanted.collect();
                object.spec.profiles = all.iter().collect();
                if let Some(agent) = &mut self.nodes[index].agent {
                    agent.sending = Some(object.clone());
                }
            }
            self.check_truth(index, &object.spec.profiles, &truth);
            let name = self.nodes[index].name.clone();
            std::mem::swap(self.made.entry(name).or_default(), &mut truth);
        }
    }

    fn turn_controller(&mut self, replica: usize) {
        let (now, time) = (self.now, self.time());
        let writes = self.replicas[replica].controller.turn(now, &time);
        for write in writes {
            self.check_repeat(replica, &write);
            self.check_ready(replica, &write);
        }
    }
}

/// A profile's name.
pub(super) fn profile(number: u8) -> ProfileName {
    let names = ["a/x", "a/y", "b/x"];
    names[usize::from(number % PROFILES)].parse().unwrap()
}

/// The status of an object.
pub(super) fn status_of(object: &RawSeccompProfile) -> SeccompProfileStatus {
    serde_json::from_value(object.status.clone()).unwrap_or_default()
}

/// What the spec of an object says.
pub(super) fn content_of(object: &RawSeccompProfile) -> Content {
    content(&object.spec)
}
