//! What operators of the controller can count on.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::event::Watched;
use crate::proof::Verdict;

/// What is counted. Handed down, no globals. Cheap to clone; clones share the numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    profiles: Family<ProfileLabels, Gauge>,
    proofs: Family<ProofLabels, Counter>,
    writes: Family<WriteLabels, Counter>,
    watch_errors: Family<WatchLabels, Counter>,
    undecodable: Counter<u64, AtomicU64>,
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
struct WriteLabels {
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
            profiles: Family::default(),
            proofs: Family::default(),
            writes: Family::default(),
            watch_errors: Family::default(),
            undecodable: Counter::default(),
            leading: Gauge::default(),
        };
        registry.register(
            "profiles",
            "Profiles, by what their status says of Valid and Ready",
            metrics.profiles.clone(),
        );
        registry.register("proofs", "Proofs made, by verdict", metrics.proofs.clone());
        registry.register(
            "status_writes",
            "Writes of a profile's status, by result",
            metrics.writes.clone(),
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
            "leader",
            "Whether this replica writes (1) or stands by (0)",
            metrics.leading.clone(),
        );
        // A series that is absent until its first error cannot be alerted on.
        for watched in Watched::ALL {
            drop(metrics.watch_errors.get_or_create(&watch_labels(watched)));
        }
        for result in ["ok", "error"] {
            drop(metrics.writes.get_or_create(&WriteLabels { result }));
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
        self.writes.get_or_create(&WriteLabels { result }).inc();
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
