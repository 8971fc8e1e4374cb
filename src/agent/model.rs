//! An agent as [`model`](crate::model) runs it: the parts that decide, with a made-up disk and no I/O.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::watcher::Event;
use rustix::io::Errno;

use super::catalogue::Question;
use super::disk::files::Files;
use super::disk::retries::Retries;
use super::disk::trouble::{Trouble as DiskTrouble, writable};
use super::draft::Unsent;
use super::report::Aspect;
use super::state::{FileChange, OnDisk, State, Surroundings};
use super::watch::{Seen, Trouble, Watched, change, node_facts, pod, profile};
use crate::api::{ConditionStatus, SeccompNode, Versions};
use crate::model::content::{Content, Machine, of_file, prove, read};
use crate::model::object::{Kind, Object, map};
use crate::profile::{Digest, ProfileName};
use crate::proof::Verdict;
use crate::store::{Failure, Installed, Origin, StoreError};

/// What of a node outlives its agent's process: the store's files and its record.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) live: BTreeMap<ProfileName, Installed>,
    pub(crate) unproven: BTreeMap<ProfileName, Installed>,
    pub(crate) proofs: BTreeMap<Digest, Machine>,
    /// Takes no writes.
    pub(crate) is_full: bool,
    /// Takes no change of this file.
    pub(crate) stuck: Option<ProfileName>,
}

/// A change of a file that was made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Wrote(ProfileName, Digest),
    Removed(ProfileName),
}

/// What an agent did in one turn.
#[derive(Debug, Default)]
pub(crate) struct Turned {
    pub(crate) changed: Vec<Changed>,
    pub(crate) sent: Option<SeccompNode>,
    /// It became ready.
    pub(crate) is_now_ready: bool,
    /// The disk did not take a change.
    pub(crate) failed: bool,
    /// It died before it was done.
    pub(crate) crashed: bool,
}

/// One process.
#[derive(Debug)]
pub(crate) struct Agent {
    state: State,
    retries: Retries,
    is_identified: bool,
    machine: Machine,
    questions: Vec<(Question, Option<Content>)>,
    /// On its way to the API server.
    pub(crate) sending: Option<SeccompNode>,
}

impl Disk {
    /// As [`Store`](crate::store::Store) does: the record first, then the file.
    fn take(&mut self, change: FileChange, machine: Machine) -> Result<Changed, StoreError> {
        let fail = |errno| {
            Err(StoreError::from(Failure {
                operation: "write",
                path: "/made-up".into(),
                errno,
            }))
        };
        if self.stuck.as_ref() == Some(change.name()) {
            return fail(Errno::IO);
        }
        match change {
            FileChange::Write(..) if self.is_full => fail(Errno::NOSPC),
            FileChange::Write(name, file) => {
                let digest = file.digest;
                self.proofs.insert(digest, machine);
                self.unproven.remove(&name);
                let origin = Origin::Cluster;
                self.live.insert(name.clone(), Installed { file, origin });
                Ok(Changed::Wrote(name, digest))
            }
            FileChange::Remove(name) => {
                self.live.remove(&name);
                self.unproven.remove(&name);
                Ok(Changed::Removed(name))
            }
        }
    }

    /// The record is gone.
    pub(crate) fn lose_record(&mut self) {
        self.proofs.clear();
        for (name, found) in std::mem::take(&mut self.live) {
            let origin = Origin::Install;
            self.unproven.insert(name, Installed { origin, ..found });
        }
    }

    pub(crate) fn digest(&self, name: &ProfileName) -> Option<Digest> {
        self.live.get(name).map(|installed| installed.file.digest)
    }

    /// Its files, as decisions see them.
    fn files(&self, machine: Machine) -> Files {
        Files::new(&self.live, |digest| self.proofs.get(digest) == Some(&machine))
    }

    fn seen<'a>(&'a self, files: &'a Files, retries: &'a Retries, is_ours: bool) -> OnDisk<'a> {
        OnDisk {
            is_open: true,
            is_ours,
            files,
            unproven: self.unproven.keys().collect(),
            held: retries.held(),
        }
    }
}

impl Agent {
    pub(crate) fn start(node: &str, machine: Machine, grace: Duration, now: Instant) -> Self {
        Self {
            state: State::new(node.to_owned(), Versions::default(), grace, now),
            retries: Retries::default(),
            is_identified: false,
            machine,
            questions: Vec::new(),
            sending: None,
        }
    }

    /// The API server has said which cluster this is.
    pub(crate) fn identified(&mut self) {
        self.is_identified = true;
    }

    pub(crate) fn see(&mut self, kind: Kind, event: Event<Object>, now: Instant) {
        let seen = match kind {
            Kind::Profiles => Seen::Profile(change(map(event, Object::unread_profile), profile)),
            Kind::Nodes => Seen::Node(change(map(event, Object::node), node_facts)),
            Kind::Pods => Seen::Pod(change(map(event, Object::pod), |one| pod(&one))),
            Kind::Reports => Seen::Report(change(map(event, Object::report), |report| {
                ((), Some(Box::new(report)))
            })),
        };
        let machine = self.machine;
        self.state.see(seen, |spec| read(spec, machine), now);
    }

    /// A watch is interrupted, or goes on.
    pub(crate) fn trouble(&mut self, kind: Kind, is_troubled: bool, now: Instant) {
        let what = match kind {
            Kind::Profiles => Watched::Profiles,
            Kind::Nodes => Watched::Node,
            Kind::Pods => Watched::Pods,
            Kind::Reports => Watched::Report,
        };
        let trouble = is_troubled.then(|| Trouble {
            message: "interrupted".to_owned(),
            is_refusal: false,
        });
        let machine = self.machine;
        self.state
            .see(Seen::Trouble(what, trouble), |spec| read(spec, machine), now);
    }

    pub(crate) fn questions(&self) -> usize {
        self.questions.len()
    }

    /// The kernel answers the question with this number, or says nothing about the profile. The digest that it took.
    pub(crate) fn answer(&mut self, number: usize, silent: bool, now: Instant) -> Option<Digest> {
        let (question, content) = self.questions.remove(number);
        let verdict = match content {
            Some(content) if !silent => prove(question.read, content, self.machine),
            _ => Verdict::Unknown("no memory".to_owned()),
        };
        let passed = match &verdict {
            Verdict::Valid(proven) => Some(proven.canonical.digest),
            Verdict::Invalid(_) | Verdict::Unknown(_) => None,
        };
        self.state
            .answered(&question.name, &question.version, verdict, now);
        passed
    }

    /// The write of the report ended; with what the API server holds now, if it said so.
    pub(crate) fn reported(&mut self, held: Option<SeccompNode>, now: Instant) {
        let Some(object) = self.sending.take() else { return };
        let ended = held
            .map(|held| (object, held))
            .ok_or_else(|| Unsent::Unreached("lost".to_owned()));
        self.state.reported(ended, now);
    }

    pub(crate) const fn is_ready(&self) -> bool {
        self.state.is_ready()
    }

    /// When there is something to do, if nothing happens.
    pub(crate) fn wake(&self) -> Option<Instant> {
        self.state.wake().into_iter().chain(self.retries.wake()).min()
    }

    /// As the loop does, but for a process that dies after so many changes of files.
    pub(crate) fn turn(
        &mut self,
        disk: &mut Disk,
        now: Instant,
        time: &Time,
        dies_after: Option<usize>,
    ) -> Turned {
        let mut turned = Turned::default();
        let machine = self.machine;
        self.plan(disk, now);
        if self.is_identified {
            let due = self.retries.due(self.state.changes(), now);
            let is_changed = !due.is_empty();
            for (number, change) in due.into_iter().enumerate() {
                if dies_after == Some(number) {
                    turned.crashed = true;
                    return turned;
                }
                let name = change.name().clone();
                match disk.take(change, machine) {
                    Ok(changed) => {
                        self.retries.succeeded(&name);
                        turned.changed.push(changed);
                    }
                    Err(error) => {
                        turned.failed = true;
                        self.retries.failed(&name, error, now);
                    }
                }
            }
            if is_changed {
                self.plan(disk, now);
            }
        }
        let files = disk.files(machine);
        let is_current = |name: &ProfileName| files.by_name().get(name).is_some_and(|live| live.current);
        self.state.settle(|name| {
            let installed = disk.live.get(name).filter(|_| is_current(name));
            installed.map(|installed| &installed.file)
        });
        let was_ready = self.is_ready();
        let trouble = self.retries.of_the_node().cloned().map(DiskTrouble::Whole);
        let around = Surroundings {
            writable: writable(trouble.as_ref(), self.is_identified),
            watching: holds(),
            test_load: holds(),
            confined: holds(),
        };
        let on_disk = disk.seen(&files, &self.retries, self.is_identified);
        turned.sent = self.state.conclude(&on_disk, around, now, time).send;
        self.sending = turned.sent.clone().or_else(|| self.sending.take());
        turned.is_now_ready = self.is_ready() && !was_ready;
        turned
    }

    fn plan(&mut self, disk: &Disk, now: Instant) {
        let files = disk.files(self.machine);
        let on_disk = disk.seen(&files, &self.retries, self.is_identified);
        let questions = self.state.plan(&on_disk, now);
        self.questions.extend(questions.into_iter().map(|question| {
            let bytes = &question.read.canonical.bytes;
            let content = of_file(bytes);
            (question, content)
        }));
    }
}

fn holds() -> Aspect {
    Aspect {
        status: ConditionStatus::True,
        reason: "Holds",
        message: String::new(),
    }
}
