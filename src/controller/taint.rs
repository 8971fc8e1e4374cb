//! Startup taints: a node that joins with one keeps pods off until its agent has done its first full sync. Which to
//! take off is decided here, purely; taking it off is an [`Action`](super::event::Action).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Taint;

use super::pace::pause;

/// The effect of a startup taint. Others of its key are somebody else's.
/// Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>.
const EFFECT: &str = "NoSchedule";

/// The key of the startup taint: that of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaintKey(String);

impl std::str::FromStr for TaintKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        crate::profile::check_label_key(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl TaintKey {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the startup taint stands in the `spec.taints` of a node; there is at most one of a key and an effect.
    pub(super) fn position_in(&self, taints: &[Taint]) -> Option<usize> {
        taints
            .iter()
            .position(|taint| taint.key == self.0 && taint.effect == EFFECT)
    }
}

/// A taint to take off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removal {
    /// The node's name.
    pub(super) node: String,
    /// Tells it from a later Node of the same name.
    pub(super) uid: String,
    /// Where in `spec.taints`.
    pub(super) position: usize,
}

impl Removal {
    /// As a JSON patch, which fails where this taint is not what stands there.
    pub(super) fn patch(&self, key: &TaintKey) -> serde_json::Result<json_patch::Patch> {
        let at = |field: &str| format!("/spec/taints/{}{field}", self.position);
        serde_json::from_value(serde_json::json!([
            { "op": "test", "path": "/metadata/uid", "value": self.uid },
            { "op": "test", "path": at("/key"), "value": key.as_str() },
            { "op": "test", "path": at("/effect"), "value": EFFECT },
            { "op": "remove", "path": at("") },
        ]))
    }
}

/// The nodes that carry the startup taint, and those whose agents have synced.
#[derive(Debug, Default)]
pub(super) struct StartupTaints {
    tainted: BTreeMap<String, Tainted>,
    /// The uid of the Node that the report of a synced agent belongs to, by node name.
    synced: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Tainted {
    uid: String,
    position: usize,
    removing: bool,
    failures: u32,
    after: Instant,
}

impl StartupTaints {
    /// There is such a Node, and the startup taint stands there in it.
    pub(super) fn set_node(&mut self, name: &str, uid: String, position: Option<usize>, now: Instant) {
        let Some(position) = position else {
            self.tainted.remove(name);
            return;
        };
        let known = self.tainted.get_mut(name).filter(|known| known.uid == uid);
        if let Some(known) = known {
            known.position = position;
        } else {
            let tainted = Tainted {
                uid,
                position,
                removing: false,
                failures: 0,
                after: now,
            };
            self.tainted.insert(name.to_owned(), tainted);
        }
    }

    /// There is no such Node.
    pub(super) fn remove_node(&mut self, name: &str) {
        self.tainted.remove(name);
    }

    /// There is such a report: of which Node, and whether its agent has synced.
    pub(super) fn set_report(&mut self, name: &str, owner: Option<&str>, synced: bool) {
        match owner.filter(|_| synced) {
            Some(owner) => self.synced.insert(name.to_owned(), owner.to_owned()),
            None => self.synced.remove(name),
        };
    }

    /// There is no such report.
    pub(super) fn remove_report(&mut self, name: &str) {
        self.synced.remove(name);
    }

    /// Removals under way were stopped: whether one arrived, the watch says.
    pub(super) fn stopped(&mut self) {
        for tainted in self.tainted.values_mut() {
            tainted.removing = false;
        }
    }

    /// A removal ended. Where it failed: how long until the next attempt.
    pub(super) fn removed(&mut self, removal: &Removal, worked: bool, now: Instant) -> Option<Duration> {
        let tainted = self.tainted.get_mut(&removal.node)?;
        if tainted.uid != removal.uid {
            return None;
        }
        tainted.removing = false;
        if worked {
            self.tainted.remove(&removal.node);
            return None;
        }
        tainted.failures += 1;
        let pause = pause(tainted.failures);
        tainted.after = now + pause;
        Some(pause)
    }

    /// What is to be taken off now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Removal> {
        let synced = &self.synced;
        let due = self.tainted.iter_mut().filter(|(node, tainted)| {
            !tainted.removing && tainted.after <= now && belongs(synced, node, tainted)
        });
        due.map(|(node, tainted)| {
            tainted.removing = true;
            Removal {
                node: node.clone(),
                uid: tainted.uid.clone(),
                position: tainted.position,
            }
        })
        .collect()
    }

    /// When to ask again, with no event before.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let waiting = self
            .tainted
            .iter()
            .filter(|(node, tainted)| !tainted.removing && belongs(&self.synced, node, tainted));
        waiting.map(|(_, tainted)| tainted.after).min()
    }
}

/// Whether the report is that of this Node, and not of an earlier one of its name.
fn belongs(synced: &BTreeMap<String, String>, node: &str, tainted: &Tainted) -> bool {
    synced.get(node) == Some(&tainted.uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> TaintKey {
        "callgate.dev/agent-not-ready".parse().unwrap()
    }

    fn removal(node: &str, uid: &str, position: usize) -> Removal {
        Removal {
            node: node.to_owned(),
            uid: uid.to_owned(),
            position,
        }
    }

    #[test]
    fn a_key_is_that_of_a_label() {
        assert_eq!(key().as_str(), "callgate.dev/agent-not-ready");
        for wrong in ["", "a b", "callgate.dev/", "Callgate.dev/a"] {
            assert!(wrong.parse::<TaintKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_taint_of_this_key_that_keeps_new_pods_off_is_a_startup_taint() {
        let taint = |key: &str, effect: &str| Taint {
            key: key.to_owned(),
            effect: effect.to_owned(),
            ..Taint::default()
        };
        let taints = [
            taint("callgate.dev/agent-not-ready", "NoExecute"),
            taint("node.kubernetes.io/not-ready", "NoSchedule"),
            taint("callgate.dev/agent-not-ready", "NoSchedule"),
        ];
        assert_eq!(key().position_in(&taints), Some(2));
        assert_eq!(key().position_in(&taints[..2]), None);
    }

    #[test]
    fn a_taint_goes_once_the_agent_of_this_very_node_has_synced() {
        let now = Instant::now();
        let mut taints = StartupTaints::default();
        taints.set_node("a", "new".to_owned(), Some(1), now);
        assert_eq!(taints.due(now), []);
        // The report of a Node that was deleted and came again, not collected yet.
        taints.set_report("a", Some("old"), true);
        taints.set_report("b", Some("b"), true);
        assert_eq!(taints.due(now), []);
        taints.set_report("a", Some("new"), false);
        assert_eq!(taints.due(now), []);
        assert_eq!(taints.wake_at(), None);
        taints.set_report("a", Some("new"), true);
        assert_eq!(taints.due(now), [removal("a", "new", 1)]);
        assert_eq!(taints.due(now), [], "under way");
        assert_eq!(taints.removed(&removal("a", "new", 1), true, now), None);
        assert_eq!(taints.due(now), []);
        // Somebody sets it again: the agent is there, so it goes again.
        taints.set_node("a", "new".to_owned(), Some(0), now);
        assert_eq!(taints.due(now), [removal("a", "new", 0)]);
    }

    #[test]
    fn a_removal_that_fails_is_tried_again_after_a_pause_at_the_place_where_the_taint_is_then() {
        let now = Instant::now();
        let mut taints = StartupTaints::default();
        taints.set_report("a", Some("uid"), true);
        taints.set_node("a", "uid".to_owned(), Some(1), now);
        let [first] = &taints.due(now)[..] else {
            panic!("one is due")
        };
        let pause = taints.removed(first, false, now).unwrap();
        assert_eq!(taints.due(now), []);
        assert_eq!(taints.wake_at(), Some(now + pause));
        taints.set_node("a", "uid".to_owned(), Some(0), now);
        assert_eq!(taints.due(now + pause), [removal("a", "uid", 0)]);
        taints.remove_node("a");
        assert_eq!(taints.removed(&removal("a", "uid", 0), false, now), None);
        assert_eq!(taints.wake_at(), None);
    }

    #[test]
    fn a_node_whose_taint_is_gone_or_whose_report_is_lost_is_left_alone() {
        let now = Instant::now();
        let mut taints = StartupTaints::default();
        taints.set_report("a", Some("uid"), true);
        taints.set_node("a", "uid".to_owned(), Some(0), now);
        taints.set_node("a", "uid".to_owned(), None, now);
        assert_eq!(taints.due(now), []);
        taints.set_node("a", "uid".to_owned(), Some(0), now);
        taints.remove_report("a");
        assert_eq!(taints.due(now), []);
    }

    #[test]
    fn the_patch_fails_where_another_taint_stands_there() {
        let patch = removal("a", "uid", 2).patch(&key()).unwrap();
        assert_eq!(
            serde_json::to_value(patch).unwrap(),
            serde_json::json!([
                { "op": "test", "path": "/metadata/uid", "value": "uid" },
                { "op": "test", "path": "/spec/taints/2/key", "value": "callgate.dev/agent-not-ready" },
                { "op": "test", "path": "/spec/taints/2/effect", "value": "NoSchedule" },
                { "op": "remove", "path": "/spec/taints/2" },
            ])
        );
    }
}
