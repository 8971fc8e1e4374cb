//! One profile: which generation of it there is, how far its proof is, what its status says. Pure.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::api::{ConditionStatus, LiveSet, SeccompProfileStatus};
use crate::controller::event::ObjectVersion;
use crate::controller::judge::{Judgement, judge};
use crate::controller::nodes::Report;
use crate::controller::pace::{Budget, pause};
use crate::controller::status::{VALID, find};
use crate::profile::{InvalidName, ProfileName};
use crate::proof::Verdict;

/// Proofs without a result after which status says so.
const UNKNOWN_AFTER: u32 = 2;

/// One profile.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) name: Result<ProfileName, InvalidName>,
    pub(super) uid: String,
    pub(super) generation: i64,
    pub(super) resource_version: u64,
    /// What that was when this generation was first seen.
    pub(super) seen_as: u64,
    /// As the API server has it, our own last write included.
    pub(super) status: SeccompProfileStatus,
    /// What we wrote last and what the API server made of it, where that is not the same: a definition that is older than
    /// this controller lacks fields.
    pub(super) changed: Option<Box<[SeccompProfileStatus; 2]>>,
    pub(super) proof: Proof,
    /// Of this generation.
    pub(super) judgement: Option<Judgement>,
    pub(super) judged_at: Instant,
    /// What is being written.
    pub(super) writing: Option<Box<SeccompProfileStatus>>,
    pub(super) budget: Budget,
    pub(super) failed_writes: u32,
    pub(super) write_after: Instant,
}

/// How far the proof of a profile's generation is.
#[derive(Debug)]
pub(super) enum Proof {
    /// To be made, not before this time.
    Wanted {
        spec: Arc<Value>,
        after: Instant,
        failures: u32,
    },
    /// Under way, for the generation that the [`ObjectVersion`] of the action names. The spec is kept in case
    /// nothing comes of it.
    Running { spec: Arc<Value>, failures: u32 },
    /// Made. What is large is no longer needed.
    Done,
}

impl Profile {
    /// One that was never seen before, to be proven now.
    pub(super) fn new(
        name: Result<ProfileName, InvalidName>,
        uid: String,
        spec: Value,
        now: Instant,
    ) -> Self {
        Self {
            name,
            uid,
            generation: 0,
            resource_version: 0,
            seen_as: 0,
            status: SeccompProfileStatus::default(),
            changed: None,
            proof: Proof::Wanted {
                spec: Arc::new(spec),
                after: now,
                failures: 0,
            },
            judgement: None,
            judged_at: now,
            writing: None,
            budget: Budget::full(now),
            failed_writes: 0,
            write_after: now,
        }
    }

    pub(super) fn version(&self, key: &str) -> ObjectVersion {
        ObjectVersion {
            key: key.to_owned(),
            uid: self.uid.clone(),
            generation: self.generation,
        }
    }

    /// There is a new generation to prove. One proof at a time: what runs is waited for, and its result dropped.
    pub(super) fn want(&mut self, spec: Value, now: Instant) {
        let spec = Arc::new(spec);
        self.judgement = None;
        self.budget = Budget::full(now);
        self.proof = match self.proof {
            Proof::Running { .. } => Proof::Running { spec, failures: 0 },
            Proof::Wanted { .. } | Proof::Done => Proof::Wanted {
                spec,
                after: now,
                failures: 0,
            },
        };
    }

    pub(super) fn take_verdict(&mut self, generation: i64, verdict: &Verdict, now: Instant) {
        let (Proof::Running { spec, failures }, Ok(name)) = (&self.proof, &self.name) else {
            return;
        };
        let (spec, mut failures, mut after) = (Arc::clone(spec), *failures, now);
        if generation == self.generation {
            let judgement = judge(name, generation, verdict);
            if judgement.valid != ConditionStatus::Unknown {
                self.judgement = Some(judgement);
                self.judged_at = now;
                self.proof = Proof::Done;
                return;
            }
            failures += 1;
            after += pause(failures);
            if failures >= UNKNOWN_AFTER {
                self.judgement = Some(judgement);
            }
        }
        self.proof = Proof::Wanted {
            spec,
            after,
            failures,
        };
    }

    /// Whether status already tells of this generation whether it is valid, and the judgement does not: a proof
    /// that cannot be made again, on a node that is out of memory after a restart say, takes back none that was.
    pub(super) fn is_better_known(&self, judgement: &Judgement) -> bool {
        judgement.valid == ConditionStatus::Unknown
            && self.status.observed_generation == Some(judgement.generation)
            && find(&self.status, VALID).is_some_and(|valid| valid.status != ConditionStatus::Unknown)
    }

    /// Whether the API server holds this status, or what it makes of it.
    pub(super) fn holds(&self, status: &SeccompProfileStatus) -> bool {
        let changed = self.changed.as_deref();
        *status == self.status
            || changed.is_some_and(|[written, held]| status == written && self.status == *held)
    }

    /// Whether what this profile's status says can depend on which of two reports a node makes.
    pub(super) fn differs(&self, key: &str, old: &Report, new: &Report) -> bool {
        if old.synced != new.synced || old.trouble != new.trouble || old.has_unlisted != new.has_unlisted {
            return true;
        }
        if old.failures.get(key) != new.failures.get(key) {
            return true;
        }
        let digest = self.judgement.as_ref().and_then(|judgement| judgement.digest);
        self.name.as_ref().ok().zip(digest).is_some_and(|(name, digest)| {
            let wanted = LiveSet::key(name, &digest);
            old.live.contains_key(&wanted) != new.live.contains_key(&wanted)
        })
    }
}
