//! `SeccompNode`: what one node's agent reports.

#![expect(
    clippy::doc_markdown,
    reason = "the comments are plain text for kubectl explain"
)]
#![expect(clippy::duplicated_attributes, reason = "several columns have one type")]

use std::borrow::Cow;

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::live::BYTES;
use super::schema::{items, tidy};
use super::{Condition, ConditionStatus, LiveSet};
use crate::profile::Digest;

/// The report of the agent on one node: what is installed there, what failed and why, and what running pods
/// use. Named after the node, owned by its Node object, written by its agent only.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "callgate.dev",
    version = "v1alpha1",
    kind = "SeccompNode",
    plural = "seccompnodes",
    no_spec,
    derive = "PartialEq",
    schema = "manual",
    doc = "The report of the agent on one node.",
    printcolumn(
        name = "Agent",
        type_ = "string",
        json_path = ".versions.agent",
        description = "The version of the agent."
    ),
    printcolumn(
        name = "Synced",
        type_ = "string",
        json_path = ".conditions[?(@.type==\"Synced\")].status",
        description = "Whether the agent has dealt with every profile since it started."
    ),
    printcolumn(
        name = "Writable",
        type_ = "string",
        json_path = ".conditions[?(@.type==\"StoreWritable\")].status",
        description = "Whether the node's seccomp directory takes files."
    ),
    printcolumn(
        name = "libseccomp",
        type_ = "string",
        json_path = ".versions.libseccomp",
        description = "The libseccomp that the agent proves with.",
        priority = 1
    ),
    printcolumn(
        name = "Kernel",
        type_ = "string",
        json_path = ".versions.kernel",
        description = "The kernel that the agent proves on.",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct SeccompNodeReport {
    /// The programs that made the report.
    #[serde(default)]
    pub versions: Versions,

    /// What is live on the node's disk, packed: base64 of the sorted 8-byte prefixes of sha256(NAMESPACE/NAME,
    /// a zero byte, the 32 bytes of the digest), one for each profile. `callgate status` reads it.
    #[serde(default)]
    #[schemars(with = "String", length(max = Self::MAX_PACKED), regex(pattern = "^[A-Za-z0-9+/]*={0,2}$"))]
    pub profiles: LiveSet,

    /// Profiles that could not be installed, grouped by reason. At most 16 groups.
    #[serde(default)]
    #[schemars(length(max = Self::MAX_FAILURE_GROUPS))]
    pub failures: Vec<FailureGroup>,

    /// The profiles that running pods on the node use, as NAMESPACE/NAME, sorted. At most 1024. Such a profile
    /// is not deleted unless its author insists.
    #[serde(default)]
    #[schemars(length(max = Self::MAX_IN_USE), transform = items(json!({"maxLength": Self::MAX_PROFILE_NAME})))]
    pub in_use: Vec<String>,

    /// The state of the node as a whole. Synced: the agent has dealt with every profile since it started.
    /// StoreWritable: the node's seccomp directory takes files. DriftWatch: changes of files by others are noticed
    /// at once. TestLoad: the process that compiles and loads filters answers. Confined: the agent has no privilege
    /// left, and the kernel lets it write nowhere but in its own directory.
    #[serde(default)]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]),
    )]
    pub conditions: Vec<Condition>,
}

impl SeccompNodeReport {
    /// Bytes of NAMESPACE/NAME of an object: 63, 1 and 253.
    pub const MAX_PROFILE_NAME: usize = 317;
    /// How many groups `failures` may have.
    pub const MAX_FAILURE_GROUPS: usize = 16;
    /// How many names `in_use` may have.
    pub const MAX_IN_USE: usize = 1024;
    /// How many profiles `profiles` may have: 512 KiB of an object that may have 1.5 MiB.
    pub const MAX_PROFILES: usize = 65_536;

    /// As base64.
    const MAX_PACKED: usize = (Self::MAX_PROFILES * BYTES).div_ceil(3) * 4;

    /// What keeps every profile off the node that it does not have yet: the reason that stands for it in the
    /// status of such a profile, and the message of the agent.
    #[must_use]
    pub fn trouble(&self) -> Option<(&'static str, &str)> {
        [
            (NodeCondition::StoreWritable, "StoreNotWritable"),
            (NodeCondition::TestLoad, "TestLoadUnavailable"),
        ]
        .into_iter()
        .find_map(|(wanted, reason)| {
            let condition = self.conditions.iter().find(|condition| {
                condition.type_ == wanted.as_str() && condition.status == ConditionStatus::False
            })?;
            Some((reason, condition.message.as_str()))
        })
    }
}

/// Names and versions of what an agent works with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Versions {
    /// The version of Callgate.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub agent: String,

    /// The version of the libseccomp that compiled the filters. The container runtime may use another.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub libseccomp: String,

    /// The release of the running kernel.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub kernel: String,
}

/// Profiles that failed for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureGroup {
    /// Why, as one word for programs.
    #[schemars(length(min = 1, max = 128))]
    pub reason: String,

    /// How many profiles in all, with those that found no place in `profiles`.
    pub total: u32,

    /// The first of them, by name. At most 16.
    #[schemars(length(max = Self::MAX_PROFILES))]
    pub profiles: Vec<Failure>,
}

impl FailureGroup {
    /// How many elements `profiles` may have.
    pub const MAX_PROFILES: usize = 16;
}

/// One profile that could not be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The profile, as NAMESPACE/NAME.
    #[schemars(length(min = 1, max = SeccompNodeReport::MAX_PROFILE_NAME))]
    pub profile: String,

    /// The `metadata.generation` of the profile that was tried.
    #[schemars(range(min = 0))]
    pub generation: i64,

    /// The digest that was tried; absent where the object is no profile at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,

    /// The digest of an earlier version that stays on the node; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub live_digest: Option<String>,

    /// Why, and what to do, for people. At most 512 bytes.
    #[schemars(length(max = 512))]
    pub message: String,
}

/// One version of a profile: what an agent tried, or what is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// The `metadata.generation` of the profile.
    pub generation: i64,
    /// Of its file; `None` where the object is no profile.
    pub digest: Option<Digest>,
}

impl Tried {
    /// Whether what became of the one is known of the other: they are the same generation, or the same bytes under
    /// two (a change of `nodeSelector` alone makes a new generation of the same file).
    #[must_use]
    pub fn concerns(&self, other: &Self) -> bool {
        self.generation == other.generation || (self.digest.is_some() && self.digest == other.digest)
    }
}

/// The node-wide conditions of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeCondition {
    /// The agent has done its first full sync.
    Synced,
    /// The store takes writes.
    StoreWritable,
    /// Changes by others are noticed at once.
    DriftWatch,
    /// The fork server answers.
    TestLoad,
    /// The agent's process is shut in.
    Confined,
}

impl NodeCondition {
    /// The type of the condition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "Synced",
            Self::StoreWritable => "StoreWritable",
            Self::DriftWatch => "DriftWatch",
            Self::TestLoad => "TestLoad",
            Self::Confined => "Confined",
        }
    }
}

impl JsonSchema for SeccompNode {
    fn schema_name() -> Cow<'static, str> {
        "SeccompNode".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = SeccompNodeReport::json_schema(generator);
        tidy(&mut schema);
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_concerns_its_generation_and_every_generation_of_the_same_bytes() {
        let tried = |generation, bytes: Option<&[u8]>| Tried {
            generation,
            digest: bytes.map(Digest::of),
        };
        for (one, other, same) in [
            (tried(1, Some(b"a")), tried(1, Some(b"a")), true),
            (tried(1, Some(b"a")), tried(2, Some(b"a")), true),
            (tried(1, Some(b"a")), tried(2, Some(b"b")), false),
            // The agent could not read it, the one who asks can: a newer version of Callgate.
            (tried(1, None), tried(1, Some(b"a")), true),
            // Two that are no profiles have no bytes in common.
            (tried(1, None), tried(2, None), false),
        ] {
            assert_eq!(one.concerns(&other), same, "{one:?} {other:?}");
            assert_eq!(other.concerns(&one), same, "{one:?} {other:?}");
        }
    }

    #[test]
    fn what_keeps_profiles_off_a_node_is_a_condition_that_is_false_and_not_one_that_is_unknown() {
        let report = |conditions: &[(&str, &str)]| SeccompNodeReport {
            conditions: conditions
                .iter()
                .map(|(type_, status)| {
                    serde_json::from_value(json!({"type": type_, "status": status, "reason": "R",
                        "message": type_, "lastTransitionTime": "2026-01-01T00:00:00Z"}))
                    .unwrap()
                })
                .collect(),
            ..SeccompNodeReport::default()
        };
        assert_eq!(report(&[]).trouble(), None);
        assert_eq!(
            report(&[
                ("TestLoad", "Unknown"),
                ("StoreWritable", "True"),
                ("DriftWatch", "False")
            ])
            .trouble(),
            None
        );
        assert_eq!(
            report(&[("TestLoad", "False")]).trouble(),
            Some(("TestLoadUnavailable", "TestLoad"))
        );
        assert_eq!(
            report(&[("TestLoad", "False"), ("StoreWritable", "False")]).trouble(),
            Some(("StoreNotWritable", "StoreWritable"))
        );
    }
}
