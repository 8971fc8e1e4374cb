//! Which replica leads: the one that holds a Lease.
//!
//! As client-go does it: a replica never compares its clock with another's, it looks for how long the Lease has
//! not changed; and every write names the version that was read, so that of two replicas one fails.
//! Source: <https://github.com/kubernetes/client-go/blob/v0.36.3/tools/leaderelection/leaderelection.go>.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{sleep, timeout};

/// The name of the Lease.
pub(super) const NAME: &str = "callgate-controller";

/// How long a Lease that is not renewed keeps others away.
const DURATION: Duration = Duration::from_secs(15);
/// How long its holder goes on without having renewed it; the rest of [`DURATION`] is for what is on its way.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often its holder renews it.
const RENEW: Duration = Duration::from_secs(5);
/// How often the others look, and the pause after a failed renewal.
const RETRY: Duration = Duration::from_secs(1);
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// One replica's side of the Lease.
#[derive(Debug)]
pub(super) struct Lease {
    api: Api<LeaseObject>,
    identity: String,
    /// The version that was seen last, and since when.
    seen: Option<(String, Instant)>,
}

/// Why a replica no longer leads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    /// Somebody took it.
    #[error("another replica holds it")]
    Taken,
    /// The API server did not take a renewal in time.
    #[error("it could not be renewed in {} s: {error}", DEADLINE.as_secs())]
    Expired {
        /// Of the last attempt.
        error: String,
    },
}

impl Lease {
    pub(super) fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            identity,
            seen: None,
        }
    }

    /// Returns once this replica holds the Lease.
    pub(super) async fn acquire(&mut self) {
        let mut failures = 0_u32;
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => failures = 0,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures.is_power_of_two() {
                        tracing::warn!(
                            lease = NAME,
                            error,
                            "the Lease could not be read or taken; tried again"
                        );
                    }
                }
            }
            sleep(RETRY).await;
        }
    }

    /// Renews the Lease; returns once it is lost.
    pub(super) async fn keep(&mut self) -> Lost {
        let mut renewed = Instant::now();
        let mut pause = RENEW;
        loop {
            sleep(pause).await;
            let started = Instant::now();
            match self.attempt().await {
                Ok(true) => (renewed, pause) = (started, RENEW),
                Ok(false) => return Lost::Taken,
                Err(error) if renewed.elapsed() + RETRY + TIMEOUT > DEADLINE => {
                    return Lost::Expired { error };
                }
                Err(error) => {
                    tracing::warn!(lease = NAME, error, "the Lease could not be renewed; tried again");
                    pause = RETRY;
                }
            }
        }
    }

    /// Lets go of the Lease, so that another replica leads at once.
    pub(super) async fn release(mut self) {
        let let_go = async {
            let Some(lease) = self.api.get_opt(NAME).await? else {
                return Ok(());
            };
            if lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()) != Some(&self.identity) {
                return Ok(());
            }
            let spec = LeaseSpec {
                holder_identity: Some(String::new()),
                lease_duration_seconds: Some(1),
                ..lease.spec.unwrap_or_default()
            };
            self.seen = None;
            self.write(lease.metadata, spec).await.map(|_| ())
        };
        match timeout(TIMEOUT, let_go).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(
                lease = NAME,
                error = &error as &dyn std::error::Error,
                "the Lease could not be released; another replica leads in {} s",
                DURATION.as_secs()
            ),
            Err(_) => tracing::warn!(lease = NAME, "the Lease could not be released in time"),
        }
    }

    /// Takes or renews the Lease if that is allowed now. Whether this replica holds it after that.
    async fn attempt(&mut self) -> Result<bool, String> {
        match timeout(TIMEOUT, self.try_hold()).await {
            Ok(Ok(held)) => Ok(held),
            // Somebody else was faster: what they wrote is looked at next time.
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => {
                Ok(false)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer in {} s", TIMEOUT.as_secs())),
        }
    }

    async fn try_hold(&mut self) -> Result<bool, kube::Error> {
        let lease = self.api.get_opt(NAME).await?.unwrap_or_default();
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let unchanged_since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => self.seen.insert((version, Instant::now())).1,
        };
        let now = MicroTime(Timestamp::now());
        match claim(
            lease.spec.as_ref(),
            &self.identity,
            unchanged_since.elapsed(),
            &now,
        ) {
            Some(spec) => self.write(lease.metadata, spec).await.map(|_| true),
            None => Ok(false),
        }
    }

    /// Writes what was read at this version, or something new.
    async fn write(&self, read: ObjectMeta, spec: LeaseSpec) -> Result<LeaseObject, kube::Error> {
        let is_new = read.resource_version.is_none();
        let lease = LeaseObject {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                ..read
            },
            spec: Some(spec),
        };
        let parameters = PostParams::default();
        if is_new {
            self.api.create(&parameters, &lease).await
        } else {
            self.api.replace(NAME, &parameters, &lease).await
        }
    }
}

/// What `identity` writes to hold a Lease that looks like this and has not changed for this long; `None` while
/// another holds it.
fn claim(
    held: Option<&LeaseSpec>,
    identity: &str,
    unchanged: Duration,
    now: &MicroTime,
) -> Option<LeaseSpec> {
    let held = held.cloned().unwrap_or_default();
    let holder = held.holder_identity.as_deref().unwrap_or_default();
    let is_ours = holder == identity;
    let seconds = u64::try_from(held.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
    let is_free = holder.is_empty() || unchanged >= Duration::from_secs(seconds);
    if !is_ours && !is_free {
        return None;
    }
    let transitions = held.lease_transitions.unwrap_or_default();
    Some(LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: held
            .acquire_time
            .filter(|_| is_ours)
            .or_else(|| Some(now.clone())),
        renew_time: Some(now.clone()),
        lease_transitions: Some(if is_ours {
            transitions
        } else {
            transitions.saturating_add(1)
        }),
        ..LeaseSpec::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> MicroTime {
        MicroTime(Timestamp::from_second(second).unwrap())
    }

    fn held_by(identity: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: Some(15),
            acquire_time: Some(at(1)),
            renew_time: Some(at(2)),
            lease_transitions: Some(7),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_that_nobody_holds_is_taken_at_once() {
        let spec = claim(None, "a", Duration::ZERO, &at(9)).unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("a"));
        assert_eq!((spec.acquire_time, spec.renew_time), (Some(at(9)), Some(at(9))));
        let released = claim(Some(&held_by("")), "a", Duration::ZERO, &at(9)).unwrap();
        assert_eq!(released.lease_transitions, Some(8));
    }

    #[test]
    fn a_lease_of_another_is_taken_once_it_has_not_changed_for_its_whole_duration() {
        let other = held_by("b");
        assert_eq!(
            claim(Some(&other), "a", Duration::from_millis(14_999), &at(9)),
            None
        );
        let spec = claim(Some(&other), "a", Duration::from_secs(15), &at(9)).unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("a"));
        assert_eq!(
            (spec.acquire_time, spec.lease_transitions),
            (Some(at(9)), Some(8))
        );
    }

    #[test]
    fn the_holder_renews_without_a_transition() {
        let spec = claim(Some(&held_by("a")), "a", Duration::ZERO, &at(9)).unwrap();
        assert_eq!((spec.acquire_time, spec.renew_time), (Some(at(1)), Some(at(9))));
        assert_eq!(spec.lease_transitions, Some(7));
    }

    #[test]
    fn nonsense_in_a_lease_does_not_keep_it_for_ever() {
        let nonsense = LeaseSpec {
            lease_duration_seconds: Some(-5),
            lease_transitions: Some(i32::MAX),
            ..held_by("b")
        };
        assert!(claim(Some(&nonsense), "a", Duration::ZERO, &at(9)).is_some());
    }
}
