//! What is counted. Handed down, no globals.

use kube::Client;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::disk;
use super::report;
use super::watch::Watched;
use crate::api::{ConditionStatus, NodeCondition};
use crate::proof::Verdict;
use crate::store::Repaired;
use crate::telemetry::{ApiMetrics, Asked};

/// What an agent asks of the API server.
const ASKED: &[Asked] = &[
    ("seccompprofiles", "list"),
    ("seccompprofiles", "watch"),
    ("nodes", "list"),
    ("nodes", "watch"),
    ("pods", "list"),
    ("pods", "watch"),
    ("seccompnodes", "list"),
    ("seccompnodes", "watch"),
    ("seccompnodes", "create"),
    ("seccompnodes", "patch"),
    ("namespaces", "get"),
];

/// What an agent counts. Cheap to clone; clones share one count.
#[derive(Debug, Clone)]
pub struct Metrics {
    api: ApiMetrics,
    profiles: Family<ByState, Gauge>,
    in_use: Gauge,
    conditions: Family<ByCondition, Gauge>,
    syncs: Counter,
    proofs: Family<ByVerdict, Counter>,
    files_written: Counter,
    files_removed: Counter,
    files_restored: Counter,
    strays_removed: Counter,
    store_errors: Family<ByReason, Counter>,
    report_writes: Family<ByResult, Counter>,
    watch_errors: Family<ByResource, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCondition {
    condition: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVerdict {
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResource {
    resource: &'static str,
}

impl Metrics {
    /// Registers every series; the registry brings the prefix.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            api: ApiMetrics::register(registry, ASKED),
            profiles: Family::default(),
            in_use: Gauge::default(),
            conditions: Family::default(),
            syncs: Counter::default(),
            proofs: Family::default(),
            files_written: Counter::default(),
            files_removed: Counter::default(),
            files_restored: Counter::default(),
            strays_removed: Counter::default(),
            store_errors: Family::default(),
            report_writes: Family::default(),
            watch_errors: Family::default(),
        };
        metrics.create_series();
        registry.register(
            "profiles",
            "Profiles for this node: live, a file on its disk; failed, not installed as they are now (an earlier \
             version may be live); pending, not dealt with yet",
            metrics.profiles.clone(),
        );
        registry.register(
            "profiles_in_use",
            "Profiles that pods of this node use",
            metrics.in_use.clone(),
        );
        registry.register(
            "condition",
            "Whether a condition of the node's report is True (1) or not (0)",
            metrics.conditions.clone(),
        );
        registry.register(
            "syncs",
            "Times that the node was compared with what it should have, and brought up to it",
            metrics.syncs.clone(),
        );
        registry.register("proofs", "Profiles proven, by verdict", metrics.proofs.clone());
        registry.register(
            "files_written",
            "Files put on disk for a profile",
            metrics.files_written.clone(),
        );
        registry.register(
            "files_removed",
            "Files taken off the disk for want of a profile",
            metrics.files_removed.clone(),
        );
        registry.register(
            "files_restored",
            "Drift: files that somebody changed or removed, put back",
            metrics.files_restored.clone(),
        );
        registry.register(
            "strays_removed",
            "Drift: paths of others in the directory, removed",
            metrics.strays_removed.clone(),
        );
        registry.register(
            "store_errors",
            "Failed operations on the directory, by reason; each is tried again",
            metrics.store_errors.clone(),
        );
        registry.register(
            "report_writes",
            "Writes of the SeccompNode, by result",
            metrics.report_writes.clone(),
        );
        registry.register(
            "watch_errors",
            "Errors of watches, by resource; each is tried again",
            metrics.watch_errors.clone(),
        );
        metrics
    }

    /// A series that is absent until its first error cannot be alerted on.
    fn create_series(&self) {
        self.profiles(0, 0, 0, 0);
        for condition in report::OURS {
            self.condition(condition, ConditionStatus::Unknown);
        }
        for verdict in ["valid", "invalid", "unknown"] {
            drop(self.proofs.get_or_create(&ByVerdict { verdict }));
        }
        for reason in disk::trouble::REASONS {
            drop(self.store_errors.get_or_create(&ByReason { reason }));
        }
        for result in ["ok", "error"] {
            drop(self.report_writes.get_or_create(&ByResult { result }));
        }
        for watched in Watched::ALL {
            drop(self.watch_errors.get_or_create(&by_resource(watched)));
        }
    }

    /// The same client, whose requests are counted.
    pub(super) fn observe(&self, client: Client) -> Client {
        self.api.observe(client)
    }

    pub(super) fn profiles(&self, live: usize, failed: usize, pending: usize, in_use: usize) {
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        for (state, count) in [("live", live), ("failed", failed), ("pending", pending)] {
            self.profiles.get_or_create(&ByState { state }).set(number(count));
        }
        self.in_use.set(number(in_use));
    }

    pub(super) fn condition(&self, condition: NodeCondition, status: ConditionStatus) {
        let condition = condition.as_str();
        self.conditions
            .get_or_create(&ByCondition { condition })
            .set(i64::from(status == ConditionStatus::True));
    }

    pub(super) fn synced(&self) {
        self.syncs.inc();
    }

    pub(super) fn answered(&self, verdict: &Verdict) {
        let verdict = match verdict {
            Verdict::Valid(_) => "valid",
            Verdict::Invalid(_) => "invalid",
            Verdict::Unknown(_) => "unknown",
        };
        self.proofs.get_or_create(&ByVerdict { verdict }).inc();
    }

    pub(super) fn written(&self) {
        self.files_written.inc();
    }

    pub(super) fn removed(&self) {
        self.files_removed.inc();
    }

    pub(super) fn repaired(&self, repaired: &Repaired) {
        let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
        self.files_restored.inc_by(number(repaired.restored.len()));
        self.strays_removed.inc_by(number(repaired.strays_total));
    }

    pub(super) fn store_failed(&self, reason: &'static str) {
        self.store_errors.get_or_create(&ByReason { reason }).inc();
    }

    pub(super) fn reported(&self, is_ok: bool) {
        let result = if is_ok { "ok" } else { "error" };
        self.report_writes.get_or_create(&ByResult { result }).inc();
    }

    pub(super) fn watch_failed(&self, watched: Watched) {
        self.watch_errors.get_or_create(&by_resource(watched)).inc();
    }
}

const fn by_resource(watched: Watched) -> ByResource {
    ByResource {
        resource: watched.plural(),
    }
}
