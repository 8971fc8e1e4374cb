//! What is counted. Handed down, no globals.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::watch::Watched;
use crate::proof::Verdict;
use crate::store::Repaired;

/// What an agent counts. Cheap to clone; clones share one count.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    profiles: Family<ByState, Gauge>,
    in_use: Gauge,
    proofs: Family<ByVerdict, Counter>,
    files_written: Counter,
    files_removed: Counter,
    files_restored: Counter,
    strays_removed: Counter,
    store_errors: Family<ByReason, Counter>,
    reports: Family<ByOutcome, Counter>,
    watch_errors: Family<ByResource, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
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
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResource {
    resource: &'static str,
}

impl Metrics {
    /// Registers every series.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let Self {
            profiles,
            in_use,
            proofs,
            files_written,
            files_removed,
            files_restored,
            strays_removed,
            store_errors,
            reports,
            watch_errors,
        } = Self::default();
        registry.register(
            "profiles",
            "Profiles of this node by state: live on its disk, failed, pending",
            profiles.clone(),
        );
        registry.register(
            "profiles_in_use",
            "Profiles that pods of this node use",
            in_use.clone(),
        );
        registry.register("proofs", "Answers of the test-load by verdict", proofs.clone());
        registry.register(
            "files_written",
            "Files put on disk for a profile",
            files_written.clone(),
        );
        registry.register(
            "files_removed",
            "Files taken off the disk for want of a profile",
            files_removed.clone(),
        );
        registry.register(
            "files_restored",
            "Files that somebody changed or removed, put back",
            files_restored.clone(),
        );
        registry.register(
            "strays_removed",
            "Paths of others in the directory, removed",
            strays_removed.clone(),
        );
        registry.register(
            "store_errors",
            "Failed operations on the directory by reason",
            store_errors.clone(),
        );
        registry.register("reports", "Writes of the SeccompNode by outcome", reports.clone());
        registry.register("watch_errors", "Failed watches by resource", watch_errors.clone());
        Self {
            profiles,
            in_use,
            proofs,
            files_written,
            files_removed,
            files_restored,
            strays_removed,
            store_errors,
            reports,
            watch_errors,
        }
    }

    pub(super) fn profiles(&self, live: usize, failed: usize, pending: usize, in_use: usize) {
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        for (state, count) in [("live", live), ("failed", failed), ("pending", pending)] {
            self.profiles.get_or_create(&ByState { state }).set(number(count));
        }
        self.in_use.set(number(in_use));
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

    pub(super) fn reported(&self, written: bool) {
        let outcome = if written { "written" } else { "failed" };
        self.reports.get_or_create(&ByOutcome { outcome }).inc();
    }

    pub(super) fn watch_failed(&self, what: Watched) {
        self.watch_errors
            .get_or_create(&ByResource {
                resource: what.as_str(),
            })
            .inc();
    }
}
