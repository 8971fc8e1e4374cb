//! `SeccompProfile`: a profile, and what became of it.
//!
//! The types of `spec` are the schema, and a builder for programs that write objects; what comes from the API
//! server is read as [`super::RawSeccompProfile`]. Their comments are what `kubectl explain` prints.

#![expect(
    clippy::doc_markdown,
    reason = "the comments are plain text for kubectl explain"
)]
#![expect(clippy::duplicated_attributes, reason = "several columns have one type")]

use std::borrow::Cow;
use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Condition;
use super::rules::{self, RULES};
use super::schema::{items, names, tidy, values};
use crate::profile::{Action, Architecture, Errno, Flag, Operator};

/// What the profile allows and denies: the fields of `linux.seccomp` in the OCI runtime specification, under
/// their own names, so that an OCI seccomp JSON file can be pasted here; and which nodes get it.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "callgate.dev",
    version = "v1alpha1",
    kind = "SeccompProfile",
    plural = "seccompprofiles",
    shortname = "scp",
    namespaced,
    status = "SeccompProfileStatus",
    derive = "PartialEq",
    schema = "manual",
    doc = "A seccomp profile that every selected node gets as a file, once it is proven to work there.",
    printcolumn(
        name = "Valid",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Valid\")].status",
        description = "Whether the profile passed every proof."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether every selected node has it."
    ),
    printcolumn(
        name = "Localhost Profile",
        type_ = "string",
        json_path = ".status.localhostProfile",
        description = "What a pod writes as seccompProfile.localhostProfile."
    ),
    printcolumn(
        name = "Digest",
        type_ = "string",
        json_path = ".status.digest",
        description = "The sha256 of the profile's file.",
        priority = 1
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is ready, or not.",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("x-kubernetes-preserve-unknown-fields" = true, "x-kubernetes-validations" = rules::spec()),
    transform = rules::refuse_docker_keys_of_spec,
)]
pub struct SeccompProfileSpec {
    /// What happens to a system call that no entry of `syscalls` matches. Any action but SCMP_ACT_NOTIFY; see
    /// `syscalls.action` for what each one does.
    #[schemars(extend("enum" = names(Action::ALL, Action::as_str)))]
    pub default_action: String,

    /// The errno that SCMP_ACT_ERRNO as `defaultAction` returns, or the number that SCMP_ACT_TRACE gives to the
    /// tracer; goes with no other default action. From 0 to 4094; EPERM (1) where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = Errno::MAX))]
    pub default_errno_ret: Option<i32>,

    /// The system call ABIs that the profile is for, beside the native one of the node, which is always
    /// included. A call through any other ABI kills the thread that makes it, whatever `defaultAction` says.
    /// Big-endian and little-endian architectures cannot stand together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = Architecture::ALL.len()),
        extend("x-kubernetes-validations" = rules::distinct("an architecture")),
        transform = items(json!({"enum": names(Architecture::ALL, Architecture::as_str)})),
    )]
    pub architectures: Option<Vec<String>>,

    /// Flags for seccomp(2): SECCOMP_FILTER_FLAG_LOG logs every call that is not allowed;
    /// SECCOMP_FILTER_FLAG_SPEC_ALLOW leaves the mitigation of Speculative Store Bypass off;
    /// SECCOMP_FILTER_FLAG_TSYNC gives the filter to all threads (runtimes do so anyway);
    /// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV lets a call that waits for the listener be interrupted by a fatal
    /// signal only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = Flag::ALL.len()),
        extend("x-kubernetes-validations" = rules::distinct("a flag")),
        transform = items(json!({"enum": names(Flag::ALL, Flag::as_str)})),
    )]
    pub flags: Option<Vec<String>>,

    /// The absolute path on the node of the Unix socket where an agent listens that answers SCMP_ACT_NOTIFY.
    /// At most 107 bytes. The container runtime connects to it as root, so the path must lie beneath a prefix that the
    /// installation of Callgate allows; by default there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 107), extend("x-kubernetes-validations" = rules::listener_path()))]
    pub listener_path: Option<String>,

    /// Text that the runtime sends to the agent behind `listenerPath` with each container's descriptor. At most
    /// 4096 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub listener_metadata: Option<String>,

    /// The entries: each gives an action to some system calls, under conditions on their arguments. At most
    /// 1024. A call that no entry matches gets `defaultAction`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub syscalls: Option<Vec<Syscall>>,

    /// Labels that a node must carry, all of them, to get the profile. Every node gets it where this is absent
    /// or empty. At most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        extend("maxProperties" = 16, "x-kubernetes-validations" = rules::node_selector()),
        transform = values(json!({
            "maxLength": 63,
            "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        })),
    )]
    pub node_selector: Option<BTreeMap<String, String>>,

    /// Codes of findings (`status.findings.code`) that the author has read and takes responsibility for: they stay
    /// visible, and no longer make the profile invalid. What says that it cannot be read, compiled, loaded or
    /// allowed here cannot be accepted. At most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-validations" = rules::distinct("a code")),
        transform = items(json!({"maxLength": 64, "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"})),
    )]
    pub accept_findings: Option<Vec<String>>,
}

/// One entry: these system calls, under all of these conditions, get this action.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    extend("x-kubernetes-preserve-unknown-fields" = true, "x-kubernetes-validations" = rules::syscall()),
    transform = rules::declare_docker_keys_of_syscall,
)]
pub struct Syscall {
    /// Names of system calls, as the manual pages of section 2 write them; from 1 to 1024. A name that an
    /// architecture does not have is skipped there.
    #[schemars(
        length(min = 1, max = 1024),
        transform = items(json!({"maxLength": 64, "pattern": "^[a-z_][a-z0-9_]*$"})),
    )]
    pub names: Vec<String>,

    /// What happens to these calls. SCMP_ACT_ALLOW makes the call; SCMP_ACT_LOG makes and logs it;
    /// SCMP_ACT_ERRNO does not make it and returns an errno; SCMP_ACT_KILL_PROCESS kills the process;
    /// SCMP_ACT_KILL_THREAD, and SCMP_ACT_KILL, its old name, kill the thread; SCMP_ACT_TRAP sends SIGSYS;
    /// SCMP_ACT_TRACE asks a tracer, and returns ENOSYS where there is none; SCMP_ACT_NOTIFY asks the agent
    /// behind `listenerPath`.
    #[schemars(extend("enum" = names(Action::ALL, Action::as_str)))]
    pub action: String,

    /// The errno that SCMP_ACT_ERRNO returns, or the number that SCMP_ACT_TRACE gives to the tracer; goes with
    /// no other action. From 0 to 4094; EPERM (1) where it is absent. With 0 the call returns success, and is
    /// not made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = Errno::MAX))]
    pub errno_ret: Option<i32>,

    /// Conditions on the arguments of the call; the entry applies where all of them hold, and always where
    /// there is none. At most 6, each on another argument. For "or", write one entry for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 6))]
    pub args: Option<Vec<Arg>>,
}

/// A condition: one argument of the call, compared with a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Arg {
    /// Which argument of the system call, from 0 to 5.
    #[schemars(range(min = 0, max = 5))]
    pub index: i32,

    /// The number that the argument is compared with; for SCMP_CMP_MASKED_EQ the mask. Unsigned, 64 bits: an
    /// integer to 9223372036854775807, or a string, decimal or hexadecimal: "18446744073709551615",
    /// "0xffffffffffffffff".
    #[schemars(extend("x-kubernetes-validations" = rules::uint64()))]
    pub value: Uint64,

    /// For SCMP_CMP_MASKED_EQ the number that the masked argument must equal; no other operator reads it.
    /// Unsigned, 64 bits: an integer to 9223372036854775807, or a string, decimal or hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Uint64", extend("x-kubernetes-validations" = rules::uint64()))]
    pub value_two: Option<Uint64>,

    /// How the argument is compared, as an unsigned number. SCMP_CMP_EQ: it equals `value`. SCMP_CMP_NE: it
    /// does not. SCMP_CMP_LT, SCMP_CMP_LE, SCMP_CMP_GE, SCMP_CMP_GT: it is less than, at most, at least, or greater
    /// than `value`. SCMP_CMP_MASKED_EQ: its bits under the mask equal `valueTwo`, that is
    /// (argument & `value`) == `valueTwo`.
    #[schemars(extend("enum" = names(Operator::ALL, Operator::as_str)))]
    pub op: String,
}

/// An unsigned 64-bit number as the API takes it: an integer up to 2^63-1, or a string, decimal or 0x.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Uint64 {
    /// As an integer.
    Int(i64),
    /// As a string.
    Text(String),
}

impl From<u64> for Uint64 {
    /// The integer where the API server takes it, else the decimal string.
    fn from(number: u64) -> Self {
        i64::try_from(number).map_or_else(|_| Self::Text(number.to_string()), Self::Int)
    }
}

impl JsonSchema for Uint64 {
    fn schema_name() -> Cow<'static, str> {
        "Uint64".into()
    }

    /// Without the usual `anyOf`, which only adds lines to error messages.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true, "maxLength": 20, "pattern": rules::UINT64})
    }
}

/// What became of the profile. It changes when a generation of it is judged, when its rollout completes, and
/// when its set of failures changes; `callgate status` counts nodes as they are now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeccompProfileStatus {
    /// The `metadata.generation` that the rest of the status was judged for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// What a pod writes as `securityContext.seccompProfile.localhostProfile` to use the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub localhost_profile: Option<String>,

    /// The digest of the profile's file on every node that has it: "sha256:" and 64 hexadecimal digits. Absent
    /// where the object is no profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,

    /// Valid: the profile passed every proof. Ready: every selected node that can be asked has it, and the message
    /// tells of the others; stays True for this generation when nodes join later. Stalled, while the profile is
    /// invalid: nothing more will happen until it is changed.
    #[serde(default)]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]),
    )]
    pub conditions: Vec<Condition>,

    /// Nodes that could not install the profile. Nodes that share reason and live digest share an entry. At most 10
    /// entries. Nodes whose agent cannot be asked are named in the message of condition Ready instead.
    #[serde(default)]
    #[schemars(length(max = Self::MAX_FAILURES))]
    pub failures: Vec<NodeFailure>,

    /// How many nodes `failures` is about in all, with those that found no place in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures_total: Option<u32>,

    /// The size of the compiled filter, by architecture.
    #[serde(default)]
    #[schemars(length(max = Architecture::ALL.len()))]
    pub filters: Vec<ArchitectureFilter>,

    /// What the proofs found, the gravest first. At most 20.
    #[serde(default)]
    #[schemars(length(max = Self::MAX_FINDINGS))]
    pub findings: Vec<Finding>,

    /// How many findings there are in all, with those that found no place in `findings`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings_total: Option<u32>,
}

impl SeccompProfileStatus {
    /// How many elements `failures` may have.
    pub const MAX_FAILURES: usize = 10;
    /// How many elements `findings` may have.
    pub const MAX_FINDINGS: usize = 20;
}

/// Why one node, or several, do not have the profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeFailure {
    /// The node, or the first by name of those that share the entry.
    #[schemars(length(max = 253))]
    pub node: String,

    /// How many other nodes share the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<u32>,

    /// Why, as one word for programs.
    #[schemars(length(min = 1, max = 128))]
    pub reason: String,

    /// Why, and what to do, for people. At most 512 bytes.
    #[schemars(length(max = 512))]
    pub message: String,

    /// The digest of an earlier version that these nodes keep; absent where they have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub live_digest: Option<String>,
}

/// The compiled filter of one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArchitectureFilter {
    /// The architecture, like SCMP_ARCH_X86_64.
    #[schemars(length(min = 1, max = 64))]
    pub architecture: String,

    /// How many BPF instructions the filter has for it. The kernel takes 4096 in all.
    pub instructions: u32,
}

/// One thing that the proofs found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The stable name of the rule that found it; what `spec.acceptFindings` takes.
    #[schemars(length(min = 1, max = 63))]
    pub code: String,

    /// How much it matters. invalid: the profile is not installed, and stays where an earlier version of Callgate,
    /// with fewer rules, installed it. not-portable: named runtimes or versions do
    /// something else. lint: allowed, and probably not meant. accepted: whatever its code says of it,
    /// `spec.acceptFindings` takes responsibility for it.
    #[schemars(length(min = 1, max = 32))]
    pub class: String,

    /// Where in the object, like `spec.syscalls[3].args[0].index`; empty for the object as a whole.
    #[schemars(length(max = 512))]
    pub field: String,

    /// The value, what is wrong with it, and the cure. At most 512 bytes.
    #[schemars(length(max = 512))]
    pub message: String,
}

impl JsonSchema for SeccompProfile {
    fn schema_name() -> Cow<'static, str> {
        "SeccompProfile".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({
            "description": "A seccomp profile that every selected node gets as a file, once it is proven to work \
                there. A pod uses it by writing callgate/NAMESPACE/NAME.json as its localhostProfile.",
            "type": "object",
            "required": ["spec"],
            "properties": {
                // A rule can speak only of what is declared.
                "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
                "spec": SeccompProfileSpec::json_schema(generator),
                "status": SeccompProfileStatus::json_schema(generator),
            },
        });
        tidy(&mut schema);
        schema.insert(RULES.into(), json!(rules::seccomp_profile()));
        if let Some(status) = schema.pointer_mut("/properties/status") {
            status["default"] = json!({});
            status["properties"]["conditions"]["default"] = pending();
        }
        schema
    }
}

/// What the API server shows as the conditions of an object that no controller has seen: `kubectl get` then
/// says Unknown at once, and `kubectl wait` has something to wait on.
fn pending() -> Value {
    let condition = |kind: &str| {
        json!({
            "type": kind,
            "status": "Unknown",
            "reason": "Pending",
            "message": "no controller has looked at the profile yet",
            // A default is a constant; the first real transition brings the first real time.
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        })
    };
    json!([condition("Valid"), condition("Ready")])
}
