//! A cluster: agents and controllers at work on an API server, over a network that delays and loses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::Event;

use super::Broken;
use super::action::{Action, Damage, NODES, PROFILES};
use super::content::{Content, Machine, content, spec};
use super::ghost::{Ghost, matches};
use super::object::Kind;
use super::server::{Server, Told, Watch};
use crate::agent::model::{Agent, Changed, Disk, Turned};
use crate::api::{Condition, ConditionStatus, LiveSet, RawSeccompProfile, SeccompNode, SeccompProfileStatus};
use crate::controller::model::{Controller, StatusWrite, conditions, meaning};
use crate::profile::{Digest, ProfileName};
use crate::store::{Installed, Origin};

/// How long the file of a profile that is gone stays.
pub(super) const GRACE: Duration = Duration::from_secs(20);

/// Which promise was broken, and how.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) promise: Promise,
    pub(super) how: String,
}

/// What must hold, whatever happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    /// A report lists what is on the node's disk when it is made, and no more and no less.
    ReportsAreTrue,
    /// A profile that a pod uses is in the report, from the moment that the agent was told of the pod.
    UsedFilesAreReported,
    /// No file goes that a pod uses of which the agent was told, nor before it was told of all.
    UsedFilesStay,
    /// No file goes whose profile is wanted, or was until less than the grace ago.
    FilesStayForTheGrace,
    /// No file of `callgate install` goes unless an object's took its place.
    FilesOfOthersStay,
    /// What is written passed on this node, and is what its profile says.
    OnlyProvenIsWritten,
    /// An agent is ready once every profile that it was told of was dealt with.
    ReadyAgentsAreDone,
    /// Ready=True of a generation: every node that the controller could wait for said that it has these bytes, and had
    /// them when it said so.
    ReadyIsTrue,
    /// Each write of a status says something new.
    WritesSaySomething,
    /// When faults stop, all comes to an end.
    ItSettles,
    /// And files, reports and statuses are then what the objects ask for.
    AllIsAsAsked,
}

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
        let replica = |_| Replica {
            controller: Controller::start(false),
            watches: Watch::all(None),
            ghost: Ghost::new(),
        };
        let mut world = Self {
            broken,
            now: Instant::now(),
            seconds: 1_000_000,
            server: Server::default(),
            nodes: (0..NODES).map(node).collect(),
            replicas: (0..2).map(replica).collect(),
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

    /// The agents come first, then the controllers.
    fn watch(&mut self, process: u8, kind: Kind) -> &mut Watch {
        let agents = self.nodes.len();
        let process = usize::from(process) % (agents + self.replicas.len());
        match process.checked_sub(agents) {
            None => &mut self.nodes[process].watches[kind as usize],
            Some(replica) => &mut self.replicas[replica].watches[kind as usize],
        }
    }

    fn connect(&mut self, process: u8, kind: Kind) {
        // Taken out for a moment: it reads from the server.
        let server = std::mem::take(&mut self.server);
        self.watch(process, kind).connect(&server);
        self.server = server;
    }

    fn spread(&mut self) {
        for (scope, event) in std::mem::take(&mut self.server.news) {
            let of_agents = self.nodes.iter_mut().flat_map(|node| &mut node.watches);
            let of_controllers = self.replicas.iter_mut().flat_map(|replica| &mut replica.watches);
            for watch in of_agents.chain(of_controllers) {
                watch.tell(&scope, &event);
            }
        }
    }

    fn deliver(&mut self, process: u8, kind: Kind, count: usize) {
        for _ in 0..count {
            let Some(told) = self.watch(process, kind).queue.pop_front() else {
                return;
            };
            self.hear(process, kind, told);
        }
    }

    fn hear(&mut self, process: u8, kind: Kind, told: Told) {
        let agents = self.nodes.len();
        let process = usize::from(process) % (agents + self.replicas.len());
        let (now, broken) = (self.now, self.broken);
        if let Some(replica) = process.checked_sub(agents) {
            let Replica {
                controller, ghost, ..
            } = &mut self.replicas[replica];
            if let Told::Event(event) = told {
                ghost.see(kind, &event);
                if let Some(event) = Broken::distort(broken, None, kind, event) {
                    controller.see(kind, event, now);
                }
            }
            return;
        }
        let NodeUnderTest {
            agent: Some(agent),
            ghost,
            name,
            ..
        } = &mut self.nodes[process]
        else {
            return;
        };
        match told {
            Told::Event(event) => {
                ghost.see(kind, &event);
                if let Some(event) = Broken::distort(broken, Some(name), kind, event) {
                    agent.see(kind, event, now);
                }
            }
            Told::Trouble(is_troubled) => {
                ghost.trouble(kind, is_troubled);
                if broken != Some(Broken::MissesTrouble) {
                    agent.trouble(kind, is_troubled, now);
                }
            }
        }
    }

    fn answer(&mut self, process: u8, number: usize, silent: bool) {
        let agents = self.nodes.len();
        let process = usize::from(process) % (agents + self.replicas.len());
        let now = self.now;
        let broken = self.broken;
        if let Some(replica) = process.checked_sub(agents) {
            let controller = &mut self.replicas[replica].controller;
            if let Some(number) = number.checked_rem(controller.questions()) {
                controller.answer(number, silent, now);
            }
            return;
        }
        let NodeUnderTest {
            agent: Some(agent),
            passed,
            is_silent,
            was_hindered,
            ..
        } = &mut self.nodes[process]
        else {
            return;
        };
        if let Some(number) = number.checked_rem(agent.questions()) {
            let silent = silent || *is_silent || broken == Some(Broken::NeverAnswers);
            *was_hindered |= silent;
            let took = agent.answer(number, silent && broken != Some(Broken::BelievesSilence), now);
            passed.extend(took.filter(|_| !silent));
        }
    }

    fn land_report(&mut self, index: usize, arrives: bool, answered: bool) {
        let now = self.now;
        let Some(object) = self.nodes[index]
            .agent
            .as_ref()
            .and_then(|agent| agent.sending.clone())
        else {
            return;
        };
        let held = arrives.then(|| self.report_arrives(index, &object));
        if let Some(agent) = &mut self.nodes[index].agent {
            agent.reported(held.filter(|_| answered), now);
        }
    }

    fn report_arrives(&mut self, index: usize, object: &SeccompNode) -> SeccompNode {
        let held = self.server.report(object);
        let node = self.nodes[index].name.clone();
        let truth = self.made.get(&node).cloned().unwrap_or_default();
        let version = held.metadata.resource_version.clone().unwrap();
        self.truths.insert((node, version), truth);
        held
    }

    fn land_status(&mut self, replica: usize, number: usize, arrives: bool, answered: bool) {
        let now = self.now;
        let writes = &mut self.replicas[replica].controller.writes;
        let Some(number) = number.checked_rem(writes.len()) else {
            return;
        };
        let write = writes.remove(number);
        let held = if arrives { self.arrive(&write) } else { None };
        let held = held.filter(|_| answered);
        self.replicas[replica].controller.written(write, held, now);
    }

    fn arrive(&mut self, write: &StatusWrite) -> Option<RawSeccompProfile> {
        let held = self.server.set_status(write.key(), write.uid(), &write.status)?;
        self.status_writes += 1;
        Some(held)
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
        let next = Replica {
            controller: Controller::start(new_rules),
            watches: Watch::all(None),
            ghost: Ghost::new(),
        };
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
            let said: LiveSet = truth.iter().collect();
            if object.spec.profiles != said {
                self.violate(
                    Promise::ReportsAreTrue,
                    format!(
                        "{} reports {:?} with {truth:?} on disk",
                        self.nodes[index].name, object.spec.profiles
                    ),
                );
            }
            let name = self.nodes[index].name.clone();
            std::mem::swap(self.made.entry(name).or_default(), &mut truth);
        }
    }

    fn check_change(&mut self, index: usize, changed: &Changed) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let ghost = &node.ghost;
        let violation = match changed {
            Changed::Wrote(name, digest) => {
                node.written.insert(name.clone(), *digest);
                node.foreign.take_if(|foreign| foreign == name);
                let is_asked = ghost.wanted(name) == Some(*digest);
                let is_proven = node.passed.contains(digest);
                (!is_asked || !is_proven).then_some((
                    Promise::OnlyProvenIsWritten,
                    format!(
                        "{}: {name} {digest} written, asked {is_asked}, proven {is_proven}",
                        node.name
                    ),
                ))
            }
            Changed::Removed(name) => {
                let is_told = ghost.is_whole(Kind::Profiles)
                    && ghost.is_whole(Kind::Pods)
                    && ghost.is_complete(Kind::Nodes);
                let since = ghost.unwanted_since(name);
                if node.foreign.as_ref() == Some(name) {
                    Some((
                        Promise::FilesOfOthersStay,
                        format!("{}: {name} removed", node.name),
                    ))
                } else if ghost.used().contains(name) || !is_told {
                    Some((
                        Promise::UsedFilesStay,
                        format!("{}: {name} removed, told all: {is_told}", node.name),
                    ))
                } else if since.is_none_or(|since| now < since + GRACE) {
                    Some((
                        Promise::FilesStayForTheGrace,
                        format!(
                            "{}: {name} removed, unwanted since {since:?}, now {now:?}",
                            node.name
                        ),
                    ))
                } else {
                    None
                }
            }
        };
        if let Some((promise, how)) = violation {
            self.violate(promise, how);
        }
    }

    fn check_told(&mut self, index: usize, turned: &Turned) {
        let node = &self.nodes[index];
        let used = node.ghost.used();
        if let Some(object) = &turned.sent
            && node.ghost.is_complete(Kind::Pods)
            && let Some(missed) = used
                .iter()
                .find(|name| !object.spec.in_use.contains(&name.to_string()))
        {
            let how = format!("{} does not report that a pod uses {missed}", node.name);
            self.violate(Promise::UsedFilesAreReported, how);
            return;
        }
        if turned.is_now_ready {
            // What the disk did not take, or the kernel did not answer, is dealt with.
            let is_missing = |name: &ProfileName| {
                let wanted = node.ghost.wanted(name);
                let profile = node.ghost.profile(&name.to_string());
                let passes =
                    profile.is_some_and(|profile| content_of(&profile).refusal(node.machine).is_none());
                passes && wanted.is_some() && node.disk.digest(name) != wanted
            };
            let missing = node.ghost.profiles().find(is_missing);
            let missing = missing.filter(|_| !node.was_hindered);
            if let Some(missing) = missing {
                let how = format!("{} is ready without {missing}", node.name);
                self.violate(Promise::ReadyAgentsAreDone, how);
            }
        }
    }

    fn turn_controller(&mut self, replica: usize) {
        let (now, time) = (self.now, self.time());
        let writes = self.replicas[replica].controller.turn(now, &time);
        for write in writes {
            // A write whose answer was lost is made again until the watch tells of it.
            let is_said = |object: Option<&RawSeccompProfile>| {
                object.is_some_and(|object| meaning(&status_of(object)) == meaning(&write.status))
            };
            let told = self.replicas[replica].ghost.profile(write.key());
            if is_said(told.as_ref()) && is_said(self.server.profiles.get(write.key())) {
                let how = format!(
                    "{} is to say once more: {:?}",
                    write.key(),
                    meaning(&write.status)
                );
                self.violate(Promise::WritesSaySomething, how);
            }
            self.check_ready(replica, &write);
        }
    }

    fn check_ready(&mut self, replica: usize, write: &StatusWrite) {
        let [valid, ready] = conditions(&write.status);
        let is_true = |condition: Option<&Condition>| {
            condition.is_some_and(|condition| condition.status == ConditionStatus::True)
        };
        if !is_true(ready) {
            return;
        }
        let before = self.server.profiles.get(write.key());
        let Some(before) = before.filter(|object| object.metadata.uid.as_deref() == Some(write.uid())) else {
            return;
        };
        let spec = before.spec.clone();
        // By a status that arrived, or one that this controller was told of: it was ready once.
        let is_latched = |object: &RawSeccompProfile| {
            let status = status_of(object);
            let [_, ready] = conditions(&status);
            is_true(ready)
                && object.metadata.uid.as_deref() == Some(write.uid())
                && ready.and_then(|ready| ready.observed_generation) == write.status.observed_generation
        };
        let told = self.replicas[replica].ghost.profile(write.key());
        let is_latched = is_latched(before) || told.as_ref().is_some_and(is_latched);
        let name: ProfileName = write.key().parse().unwrap();
        let digest = write.status.digest.clone();
        // Of an older generation, of which the controller was not told otherwise yet, the selector is not known here.
        let is_latest = write.status.observed_generation == before.metadata.generation;
        let selector = super::content::selector(&spec);
        let mut lacking = Vec::new();
        if let (true, false, Some(selector)) = (is_latest, is_latched, selector) {
            for node in self.replicas[replica].ghost.nodes() {
                let counts = matches(&selector, &node.labels) && node.is_synced && node.is_reachable;
                let truth = node
                    .report
                    .and_then(|version| self.truths.get(&(node.name.clone(), version)));
                let has = truth.and_then(|truth| truth.get(&name)).map(ToString::to_string);
                if counts && has != digest {
                    lacking.push((node.name, has));
                }
            }
        }
        if !lacking.is_empty() || !is_true(valid) {
            let how = format!("{} is Ready={digest:?}, and {lacking:?}", write.key());
            self.violate(Promise::ReadyIsTrue, how);
        }
    }

    /// Lets everything that is under way come to its end, while nothing fails but what is broken for good.
    fn round(&mut self) -> bool {
        let mut moved = false;
        let processes = u8::try_from(self.nodes.len() + self.replicas.len()).unwrap();
        for process in 0..processes {
            for kind in Kind::ALL {
                self.connect(process, kind);
                let count = self.watch(process, kind).queue.len();
                moved |= count > 0;
                self.deliver(process, kind, count);
            }
        }
        for index in 0..self.nodes.len() {
            if let Some(agent) = &mut self.nodes[index].agent {
                agent.identified();
                moved |= agent.sending.is_some() || agent.questions() > 0;
                for _ in 0..agent.questions() {
                    self.answer(u8::try_from(index).unwrap(), 0, false);
                }
            }
            self.land_report(index, true, true);
            self.probe(index);
        }
        for replica in 0..self.replicas.len() {
            let process = u8::try_from(self.nodes.len() + replica).unwrap();
            for _ in 0..self.replicas[replica].controller.questions() {
                moved = true;
                self.answer(process, 0, false);
            }
            for _ in 0..self.replicas[replica].controller.writes.len() {
                moved = true;
                self.land_status(replica, 0, true, true);
            }
        }
        while let Some(write) = self.stray_writes.pop() {
            moved = true;
            self.arrive(&write);
        }
        self.server.collect_garbage();
        moved |= !self.server.news.is_empty();
        self.spread();
        self.turn_all();
        moved || self.is_under_way()
    }

    /// Whether a question or a write waits for its end.
    fn is_under_way(&self) -> bool {
        let asks = |agent: &Agent| agent.sending.is_some() || agent.questions() > 0;
        let proves = |controller: &Controller| !controller.writes.is_empty() || controller.questions() > 0;
        self.nodes.iter().filter_map(|node| node.agent.as_ref()).any(asks)
            || self.replicas.iter().any(|replica| proves(&replica.controller))
    }

    /// A few rounds, a moment apart.
    fn settle(&mut self) {
        for _ in 0..4 {
            self.round();
            self.pass(Duration::from_millis(300));
        }
    }

    /// Ends all faults, and follows until nothing is left to do.
    pub(super) fn heal(&mut self) {
        const ROUNDS: usize = 200;
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            node.disk.is_full = false;
            node.disk.stuck = None;
            node.is_silent = false;
            node.dies_after = None;
            if node.agent.is_none() {
                self.start_agent(index);
            }
            let name = &self.nodes[index].name;
            if !self.server.nodes.contains_key(name) {
                self.server.register(name, Some(0));
            }
        }
        if self.leader.is_none() {
            self.lead(Some(0));
        }
        for _ in 0..ROUNDS {
            if self.violation.is_some() {
                return;
            }
            if self.round() {
                self.pass(Duration::from_millis(300));
                continue;
            }
            let of_agents = self.nodes.iter().filter_map(|node| node.agent.as_ref()?.wake());
            let of_controllers = self
                .replicas
                .iter()
                .filter_map(|replica| replica.controller.wake());
            match of_agents.chain(of_controllers).min() {
                Some(wake) if wake > self.now => self.pass(wake - self.now + Duration::from_millis(1)),
                Some(_) => self.pass(Duration::from_millis(300)),
                None => {
                    self.check_fixed_point();
                    return;
                }
            }
        }
        let wakes: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.agent.as_ref().and_then(Agent::wake))
            .collect();
        self.violate(Promise::ItSettles, format!("after {ROUNDS} rounds: {wakes:?}"));
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
