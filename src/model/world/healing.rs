//! The end of all faults: what is under way comes to its end.

use std::time::Duration;

use super::{Promise, World};
use crate::agent::model::Agent;
use crate::controller::model::Controller;
use crate::model::object::Kind;

impl World {
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
    pub(super) fn settle(&mut self) {
        for _ in 0..4 {
            self.round();
            self.pass(Duration::from_millis(300));
        }
    }

    /// Ends all faults, and follows until nothing is left to do.
    pub(in crate::model) fn heal(&mut self) {
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
