//! What comes to the processes, and what they send: both on their way for as long as it takes, if they arrive at all.

use super::{NodeUnderTest, Replica, World};
use crate::api::{RawSeccompProfile, SeccompNode};
use crate::controller::model::StatusWrite;
use crate::model::Broken;
use crate::model::object::Kind;
use crate::model::server::{Told, Watch};

/// Whose number that is: the agents come first, then the controllers.
enum Process {
    Agent(usize),
    Controller(usize),
}

impl World {
    fn process(&self, number: u8) -> Process {
        let agents = self.nodes.len();
        let number = usize::from(number) % (agents + self.replicas.len());
        match number.checked_sub(agents) {
            None => Process::Agent(number),
            Some(replica) => Process::Controller(replica),
        }
    }

    pub(super) fn watch(&mut self, process: u8, kind: Kind) -> &mut Watch {
        match self.process(process) {
            Process::Agent(index) => &mut self.nodes[index].watches[kind as usize],
            Process::Controller(replica) => &mut self.replicas[replica].watches[kind as usize],
        }
    }

    pub(super) fn connect(&mut self, process: u8, kind: Kind) {
        // Taken out for a moment: it reads from the server.
        let server = std::mem::take(&mut self.server);
        self.watch(process, kind).connect(&server);
        self.server = server;
    }

    pub(super) fn spread(&mut self) {
        for (scope, event) in std::mem::take(&mut self.server.news) {
            let of_agents = self.nodes.iter_mut().flat_map(|node| &mut node.watches);
            let of_controllers = self.replicas.iter_mut().flat_map(|replica| &mut replica.watches);
            for watch in of_agents.chain(of_controllers) {
                watch.tell(&scope, &event);
            }
        }
    }

    pub(super) fn deliver(&mut self, process: u8, kind: Kind, count: usize) {
        for _ in 0..count {
            let Some(told) = self.watch(process, kind).queue.pop_front() else {
                return;
            };
            self.hear(process, kind, told);
        }
    }

    pub(super) fn hear(&mut self, process: u8, kind: Kind, told: Told) {
        let (now, broken) = (self.now, self.broken);
        let index = match self.process(process) {
            Process::Agent(index) => index,
            Process::Controller(replica) => {
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
        };
        let NodeUnderTest {
            agent: Some(agent),
            ghost,
            name,
            ..
        } = &mut self.nodes[index]
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

    pub(super) fn answer(&mut self, process: u8, number: usize, silent: bool) {
        let (now, broken) = (self.now, self.broken);
        let index = match self.process(process) {
            Process::Agent(index) => index,
            Process::Controller(replica) => {
                let controller = &mut self.replicas[replica].controller;
                if let Some(number) = number.checked_rem(controller.questions()) {
                    controller.answer(number, silent, now);
                }
                return;
            }
        };
        let NodeUnderTest {
            agent: Some(agent),
            passed,
            is_silent,
            was_hindered,
            ..
        } = &mut self.nodes[index]
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

    pub(super) fn land_report(&mut self, index: usize, arrives: bool, answered: bool) {
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

    pub(super) fn report_arrives(&mut self, index: usize, object: &SeccompNode) -> SeccompNode {
        let held = self.server.report(object);
        let node = self.nodes[index].name.clone();
        let truth = self.made.get(&node).cloned().unwrap_or_default();
        let version = held.metadata.resource_version.clone().unwrap();
        self.truths.insert((node, version), truth);
        held
    }

    pub(super) fn land_status(&mut self, replica: usize, number: usize, arrives: bool, answered: bool) {
        let now = self.now;
        let writes = &mut self.replicas[replica].controller.writes;
        let Some(number) = number.checked_rem(writes.len()) else {
            return;
        };
        let write = writes.remove(number);
        let held = if arrives { self.arrive(&write) } else { None };
        let held = held.filter(|_| answered);
        let Replica {
            controller, answers, ..
        } = &mut self.replicas[replica];
        if let Some(held) = &held {
            answers.insert(write.key().to_owned(), held.clone());
        }
        controller.written(write, held, now);
    }

    pub(super) fn arrive(&mut self, write: &StatusWrite) -> Option<RawSeccompProfile> {
        let held = self.server.set_status(write.key(), write.uid(), &write.status)?;
        self.status_writes += 1;
        Some(held)
    }
}
