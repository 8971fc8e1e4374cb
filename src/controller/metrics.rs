//! What operators of the controller can count on.

use std::collections::BTreeMap;

use kube::Client;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::event::Watched;
use super::nodes::NodeState;
use crate::proof::Verdict;
use crate::telemetry::{ApiMetrics, Asked};

/// What a controller asks of the API server.
const ASKED: &[Asked] = &[
    ("seccompprofiles", "list"),
    ("seccompprofiles", "watch"),
    ("seccompprofiles/status", "patch"),
    ("seccompnodes", "list"),
    ("seccompnodes", "watch"),
    ("nodes", "list"),
    ("nodes", "watch"),
    ("pods", "list"),
    ("pods", "watch"),
    ("leases", "get"),
    ("leases", "create"),
    ("leases", "update"),
    ("events", "create"),
    ("events", "patch"),
    ("nodes", "patch"),
];

/// What is counted. Handed down, no globals. Cheap to clone; clones share the numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    api: ApiMetrics,
    profiles: Family<ProfileLabels, Gauge>,
    nodes: Family<NodeLabels, Gauge>,
    proofs: Family<ProofLabels, Counter>,
    waiting: Gauge,
    writes: Family<ResultLabels, Counter>,
    events: Family<ResultLabels, Counter>,
    watch_errors: Family<WatchLabels, Counter>,
    undecodable: Counter,
    untainted: Family<ResultLabels, Counter>,
    leading: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProfileLabels {
    valid: &'static str,
    ready: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProofLabels {
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    resource: &'static str,
}

impl Metrics {
    /// Registers every series; the registry brings the prefix.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            api: ApiMetrics::register(registry, ASKED),
            profiles: Family::default(),
            nodes: Family::default(),
            proofs: Family::default(),
            waiting: Gauge::default(),
            writes: Family::default(),
            events: Family::default(),
            watch_errors: Family::default(),
            undecodable: Counter::default(),
            untainted: Family::default(),
            leading: Gauge::default(),
        };
        registry.register(
            "profiles",
            "Profiles, by what their status says of Valid and Ready",
            metrics.profiles.clone(),
        );
        registry.register(
            "nodes",
            "Nodes by what is known of their agents: reporting; troubled, which take no new profile; not_synced; \
             not_answering, with a report and no ready agent; no_agent, with neither",
            metrics.nodes.clone(),
        );
        registry.register("proofs", "Profiles proven, by verdict", metrics.proofs.clone());
        registry.register(
            "proofs_waiting",
            "Profiles that are to be proven, or proven again after a verdict unknown, and wait for it",
            metrics.waiting.clone(),
        );
        registry.register(
            "status_writes",
            "Writes of a profile's status, by result",
            metrics.writes.clone(),
        );
        registry.register(
            "events",
            "Events on profiles, by result; dropped are those that came faster than they could be recorded",
            metrics.events.clone(),
        );
        registry.register(
            "watch_errors",
            "Errors of watches, by resource; each is tried again",
            metrics.watch_errors.clone(),
        );
        registry.register(
            "undecodable_reports",
            "Times that a SeccompNode could not be read",
            metrics.undecodable.clone(),
        );
        registry.register(
            "startup_taint_removals",
            "Startup taints taken off nodes whose agent has synced, by result",
            metrics.untainted.clone(),
        );
        registry.register(
            "leader",
            "Whether this replica writes (1) or stands by (0)",
            metrics.leading.clone(),
        );
        // A series that is absent until its first error cannot be alerted on.
        for watched in Watched::ALL {
            drop(metrics.watch_errors.get_or_create(&watch_labels(watched)));
        }
        metrics.profiles(&BTreeMap::new());
        metrics.nodes(&BTreeMap::new());
        for result in ["ok", "error"] {
            drop(metrics.writes.get_or_create(&ResultLabels { result }));
            drop(metrics.untainted.get_or_create(&ResultLabels { result }));
        }
        for result in ["ok", "error", "dropped"] {
            drop(metrics.events.get_or_create(&ResultLabels { result }));
        }
        for verdict in ["valid", "invalid", "unknown"] {
            drop(metrics.proofs.get_or_create(&ProofLabels { verdict }));
        }
        metrics
    }

    pub(super) fn profiles(&self, counts: &BTreeMap<(&'static str, &'static str), i64>) {
        for valid in ["true", "false", "unknown"] {
            for ready in ["true", "false", "unknown"] {
                let count = counts.get(&(valid, ready)).copied().unwrap_or_default();
                self.profiles
                    .get_or_create(&ProfileLabels { valid, ready })
                    .set(count);
            }
        }
    }

    /// The same client, whose requests are counted.
    pub(super) fn observe(&self, client: Client) -> Client {
        self.api.observe(client)
    }

    pub(super) fn nodes(&self, counts: &BTreeMap<NodeState, i64>) {
        for state in NodeState::ALL {
            let count = counts.get(&state).copied().unwrap_or_default();
            let state = state.as_str();
            self.nodes.get_or_create(&NodeLabels { state }).set(count);
        }
    }

    pub(super) fn waiting(&self, proofs: usize) {
        self.waiting.set(i64::try_from(proofs).unwrap_or(i64::MAX));
    }

    /// An Event was recorded, could not be, or was not tried.
    pub(super) fn told(&self, result: &'static str) {
        self.events.get_or_create(&ResultLabels { result }).inc();
    }

    pub(super) fn proven(&self, verdict: &Verdict) {
        let verdict = match verdict {
            Verdict::Valid(_) => "valid",
            Verdict::Invalid(_) => "invalid",
            Verdict::Unknown(_) => "unknown",
        };
        self.proofs.get_or_create(&ProofLabels { verdict }).inc();
    }

    pub(super) fn written(&self, is_ok: bool) {
        let result = if is_ok { "ok" } else { "error" };
        self.writes.get_or_create(&ResultLabels { result }).inc();
    }

    pub(super) fn untainted(&self, is_ok: bool) {
        let result = if is_ok { "ok" } else { "error" };
        self.untainted.get_or_create(&ResultLabels { result }).inc();
    }

    pub(super) fn watch_failed(&self, watched: Watched) {
        self.watch_errors.get_or_create(&watch_labels(watched)).inc();
    }

    pub(super) fn undecodable(&self) {
        self.undecodable.inc();
    }

    pub(super) fn leading(&self, leading: bool) {
        self.leading.set(i64::from(leading));
    }
}

const fn watch_labels(watched: Watched) -> WatchLabels {
    WatchLabels {
        resource: watched.as_str(),
    }
}
