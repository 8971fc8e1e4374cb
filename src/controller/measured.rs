//! What `make bench` measures of this room: the one decision whose cost grows with the nodes.

use super::fold::fold;
use super::judge::{Judgement, judge};
use super::nodes::{Nodes, Report};
use crate::api::{ConditionStatus, LiveSet, SeccompProfileStatus};
use crate::profile::{Digest, ProfileName};
use crate::proof::Verdict;

/// A profile, and nodes that all report it: all are looked at before it can be called Ready.
#[derive(Debug)]
pub struct Fleet {
    key: String,
    judgement: Judgement,
    nodes: Nodes,
}

impl Fleet {
    /// So many nodes, each of which reports so many other profiles, too.
    #[must_use]
    pub fn that_has(name: &ProfileName, verdict: &Verdict, nodes: usize, others: &[ProfileName]) -> Self {
        let judgement = judge(name, 1, verdict);
        let other = Digest::of(b"another");
        let own = judgement.digest.iter().map(|digest| (name, digest));
        let live: LiveSet = others.iter().map(|name| (name, &other)).chain(own).collect();
        let mut known = Nodes::default();
        for number in 0..nodes {
            let node = format!("node-{number}");
            let report = Report {
                live: live.clone(),
                synced: true,
                ..Report::default()
            };
            known.set_labels(&node, judgement.selector.clone());
            known.set_report(&node, report);
            known.set_pod(&format!("agent-{number}"), &node, true);
        }
        Self {
            key: name.to_string(),
            judgement,
            nodes: known,
        }
    }

    /// Folds all reports into what a first status says: whether it is Ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let previous = SeccompProfileStatus::default();
        fold(&self.key, &self.judgement, &self.nodes, &previous).ready == ConditionStatus::True
    }
}
