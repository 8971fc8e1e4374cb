//! Which profiles the pods of this node use. Pure.
//!
//! Of a pod nothing is kept but its uid and the profiles it names; of a pod that names none, nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, SeccompProfile};

use crate::profile::ProfileName;

/// How long a profile counts as used after its last pod is gone: short jobs, one after the other, are one use.
pub(super) const LINGER: Duration = Duration::from_secs(60);

/// The profiles that containers of this pod run under, or are about to.
///
/// A pod-level profile counts although every container may have its own: a container that is added later
/// (an ephemeral one) inherits it.
pub(super) fn profiles_of(pod: &Pod) -> BTreeSet<ProfileName> {
    let finished = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
    let Some(spec) = pod.spec.as_ref().filter(|_| !finished) else {
        return BTreeSet::new();
    };
    let of_pod = spec
        .security_context
        .iter()
        .filter_map(|context| context.seccomp_profile.as_ref());
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|container| &container.security_context);
    let ephemeral = spec
        .ephemeral_containers
        .iter()
        .flatten()
        .map(|container| &container.security_context);
    let of_containers = containers
        .chain(ephemeral)
        .flatten()
        .filter_map(|context| context.seccomp_profile.as_ref());
    of_pod.chain(of_containers).filter_map(localhost).collect()
}

fn localhost(profile: &SeccompProfile) -> Option<ProfileName> {
    if profile.type_ != "Localhost" {
        return None;
    }
    ProfileName::from_localhost_profile(profile.localhost_profile.as_deref()?)
}

/// The profiles in use: at once when a pod arrives, until [`LINGER`] after the last one left.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pods: BTreeMap<String, BTreeSet<ProfileName>>,
    /// Used by no pod any more, and since when.
    released: BTreeMap<ProfileName, Instant>,
}

impl Usage {
    /// This pod uses these profiles now, and no others.
    pub(super) fn set(&mut self, uid: &str, profiles: BTreeSet<ProfileName>, now: Instant) {
        for name in &profiles {
            self.released.remove(name);
        }
        let before = if profiles.is_empty() {
            self.pods.remove(uid)
        } else {
            self.pods.insert(uid.to_owned(), profiles)
        };
        for name in before.into_iter().flatten() {
            if !self.pods.values().any(|names| names.contains(&name)) {
                self.released.insert(name, now);
            }
        }
    }

    /// Only these pods are left; the others went while nobody looked.
    pub(super) fn retain(&mut self, uids: &BTreeSet<String>, now: Instant) {
        let gone: Vec<String> = self
            .pods
            .keys()
            .filter(|uid| !uids.contains(*uid))
            .cloned()
            .collect();
        for uid in gone {
            self.set(&uid, BTreeSet::new(), now);
        }
    }

    /// Forgets what nobody has used for [`LINGER`].
    pub(super) fn expire(&mut self, now: Instant) {
        self.released.retain(|_, since| now < *since + LINGER);
    }

    /// When [`Usage::expire`] next has something to do.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.released.values().min().map(|since| *since + LINGER)
    }

    /// Every profile in use.
    pub(super) fn profiles(&self) -> BTreeSet<ProfileName> {
        self.pods
            .values()
            .flatten()
            .chain(self.released.keys())
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: &Value, phase: &str) -> Pod {
        let mut spec = spec.clone();
        for list in ["containers", "initContainers", "ephemeralContainers"] {
            for container in spec
                .get_mut(list)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                container["name"] = json!("c");
            }
        }
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{"name": "plain"}]);
        }
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n"}, "spec": spec, "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn context(path: &str) -> Value {
        json!({"seccompProfile": {"type": "Localhost", "localhostProfile": path}})
    }

    fn names(texts: &[&str]) -> BTreeSet<ProfileName> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn all_four_places_of_a_pod_count() {
        let pod = pod(
            &json!({
                "securityContext": context("callgate/a/pod.json"),
                "containers": [{"securityContext": context("callgate/a/main.json")}, {}],
                "initContainers": [{"securityContext": context("callgate/b/init.json")}],
                "ephemeralContainers": [{"securityContext": context("callgate/c/debug.json")}],
            }),
            "Running",
        );
        assert_eq!(
            profiles_of(&pod),
            names(&["a/pod", "a/main", "b/init", "c/debug"])
        );
    }

    #[test]
    fn a_pod_that_has_not_started_counts_and_a_finished_one_does_not() {
        let spec = json!({"securityContext": context("callgate/a/b.json")});
        for phase in ["Pending", "Running", "Unknown", ""] {
            assert_eq!(profiles_of(&pod(&spec, phase)), names(&["a/b"]), "{phase}");
        }
        for phase in ["Succeeded", "Failed"] {
            assert_eq!(profiles_of(&pod(&spec, phase)), names(&[]), "{phase}");
        }
    }

    #[test]
    fn a_pod_without_status_or_spec_is_no_trouble() {
        let mut unbound = pod(&json!({"securityContext": context("callgate/a/b.json")}), "");
        unbound.status = None;
        assert_eq!(profiles_of(&unbound), names(&["a/b"]));
        assert_eq!(profiles_of(&Pod::default()), names(&[]));
    }

    #[test]
    fn the_path_counts_as_the_kubelet_cleans_it() {
        for (path, expected) in [
            ("callgate/a/b.json", Some("a/b")),
            ("callgate//a/./b.json", Some("a/b")),
            ("./callgate/a/b.json/", Some("a/b")),
            ("callgate/a/b.c.json", Some("a/b.c")),
            ("operator/a/b.json", None),
            ("callgate/a/b", None),
            ("callgate/b.json", None),
            ("callgate/a/b/c.json", None),
            ("", None),
        ] {
            let found = profiles_of(&pod(&json!({"securityContext": context(path)}), "Running"));
            assert_eq!(found, names(expected.as_slice()), "{path}");
        }
    }

    #[test]
    fn other_types_of_profile_do_not_count() {
        for context in [
            json!({"seccompProfile": {"type": "RuntimeDefault"}}),
            json!({"seccompProfile": {"type": "Unconfined", "localhostProfile": "callgate/a/b.json"}}),
            json!({"seccompProfile": {"type": "Localhost"}}),
            json!({}),
        ] {
            let pod = pod(&json!({"securityContext": context}), "Running");
            assert_eq!(profiles_of(&pod), names(&[]), "{context}");
        }
    }

    #[test]
    fn use_begins_at_once_and_ends_a_minute_after_the_last_pod() {
        let start = Instant::now();
        let mut usage = Usage::default();
        usage.set("1", names(&["a/b"]), start);
        usage.set("2", names(&["a/b", "a/c"]), start);
        assert_eq!(usage.profiles(), names(&["a/b", "a/c"]));
        assert_eq!(usage.next_expiry(), None);

        usage.set("2", names(&[]), start);
        assert_eq!(usage.next_expiry(), Some(start + LINGER));
        usage.expire(start + LINGER.saturating_sub(Duration::from_secs(1)));
        assert_eq!(usage.profiles(), names(&["a/b", "a/c"]), "a/c lingers");
        usage.expire(start + LINGER);
        assert_eq!(usage.profiles(), names(&["a/b"]), "pod 1 still uses a/b");
        assert_eq!(usage.next_expiry(), None);
    }

    #[test]
    fn a_profile_that_is_used_again_no_longer_lingers() {
        let start = Instant::now();
        let mut usage = Usage::default();
        usage.set("job-1", names(&["a/b"]), start);
        usage.set("job-1", names(&[]), start);
        usage.set("job-2", names(&["a/b"]), start + Duration::from_secs(30));
        usage.expire(start + 2 * LINGER);
        assert_eq!(usage.profiles(), names(&["a/b"]));
    }

    #[test]
    fn a_pod_that_names_another_profile_releases_the_first() {
        let start = Instant::now();
        let mut usage = Usage::default();
        usage.set("1", names(&["a/b"]), start);
        usage.set("1", names(&["a/c"]), start);
        usage.expire(start + LINGER);
        assert_eq!(usage.profiles(), names(&["a/c"]));
    }

    #[test]
    fn pods_that_went_unseen_are_released_by_the_next_list() {
        let start = Instant::now();
        let mut usage = Usage::default();
        usage.set("1", names(&["a/b"]), start);
        usage.set("2", names(&["a/c"]), start);
        usage.retain(&BTreeSet::from(["2".to_owned(), "unknown".to_owned()]), start);
        usage.expire(start + LINGER);
        assert_eq!(usage.profiles(), names(&["a/c"]));
    }
}
