//! What the API server checks beyond types and ranges, in CEL: the mistakes that are cheap to see, refused
//! while their author is watching.
//!
//! Everything here is checked again by `profile`, which also sees what CEL cannot: this is a courtesy, and no
//! wall. Messages say what to write. A rule must be cheap: the API server estimates its cost from the bounds
//! of the schema, refuses what is over budget, and runs it at every write of the object, of its status too.
//! In these rules `has` is false for a null, which the policy `callgate-profile-keys` refuses.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
use schemars::Schema;
use serde_json::{Value, json};

use crate::profile::{Architecture, ProfileName};

/// The keyword that holds the rules of a value.
pub(super) const RULES: &str = "x-kubernetes-validations";

fn rule(rule: impl Into<String>, message: impl Into<String>) -> ValidationRule {
    ValidationRule {
        rule: rule.into(),
        message: Some(message.into()),
        ..ValidationRule::default()
    }
}

fn at(field_path: &str, rule: ValidationRule) -> ValidationRule {
    ValidationRule {
        field_path: Some(field_path.to_owned()),
        ..rule
    }
}

fn forbidden(rule: ValidationRule) -> ValidationRule {
    ValidationRule {
        reason: Some("FieldValueForbidden".to_owned()),
        ..rule
    }
}

fn required(rule: ValidationRule) -> ValidationRule {
    ValidationRule {
        reason: Some("FieldValueRequired".to_owned()),
        ..rule
    }
}

/// Of a whole `SeccompProfile`. Such a rule also runs when only a label is written: `oldSelf` keeps it from
/// objects that were there before it.
pub(super) fn seccomp_profile() -> Vec<ValidationRule> {
    let max = ProfileName::MAX_NAME;
    vec![ValidationRule {
        optional_old_self: Some(true),
        ..at(
            ".metadata.name",
            rule(
                format!("oldSelf.hasValue() || self.metadata.name.size() <= {max}"),
                format!(
                    "the name of a profile has at most {max} characters, because its file NAME.json has at most 255"
                ),
            ),
        )
    }]
}

/// Of `spec`.
pub(super) fn spec() -> Vec<ValidationRule> {
    let big_endian: Vec<_> = Architecture::ALL
        .iter()
        .filter(|architecture| architecture.is_big_endian())
        .map(|architecture| format!("'{architecture}'"))
        .collect();
    let big_endian = big_endian.join(", ");
    let mut rules = vec![
        at(
            ".defaultAction",
            rule(
                "self.defaultAction != 'SCMP_ACT_NOTIFY'",
                "SCMP_ACT_NOTIFY cannot be the default action: no runtime takes it; name the system calls in an entry",
            ),
        ),
        at(
            ".defaultErrnoRet",
            forbidden(rule(
                "!has(self.defaultErrnoRet) || self.defaultAction in ['SCMP_ACT_ERRNO', 'SCMP_ACT_TRACE']",
                "defaultErrnoRet goes only with defaultAction SCMP_ACT_ERRNO or SCMP_ACT_TRACE",
            )),
        ),
        at(
            ".syscalls",
            required(rule(
                "self.defaultAction in ['SCMP_ACT_ALLOW', 'SCMP_ACT_LOG', 'SCMP_ACT_NOTIFY'] || (has(self.syscalls) && self.syscalls.size() > 0)",
                "the default action denies every system call and no entry allows one: no container can start; add entries with SCMP_ACT_ALLOW",
            )),
        ),
        at(
            ".listenerPath",
            required(rule(
                "has(self.listenerPath) || !has(self.syscalls) || !self.syscalls.exists(s, s.action == 'SCMP_ACT_NOTIFY')",
                "an entry with SCMP_ACT_NOTIFY needs listenerPath, the socket of the agent that answers",
            )),
        ),
        at(
            ".listenerPath",
            forbidden(rule(
                "!has(self.listenerPath) || (has(self.syscalls) && self.syscalls.exists(s, s.action == 'SCMP_ACT_NOTIFY'))",
                "listenerPath goes only with an entry that has SCMP_ACT_NOTIFY",
            )),
        ),
        at(
            ".listenerMetadata",
            forbidden(rule(
                "!has(self.listenerMetadata) || has(self.listenerPath)",
                "listenerMetadata goes only with listenerPath",
            )),
        ),
        at(
            ".flags",
            rule(
                "!has(self.flags) || !('SECCOMP_FILTER_FLAG_TSYNC' in self.flags && has(self.listenerPath))",
                "SECCOMP_FILTER_FLAG_TSYNC does not go with SCMP_ACT_NOTIFY: the kernel refuses the pair",
            ),
        ),
        at(
            ".flags",
            rule(
                "!has(self.flags) || !('SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV' in self.flags) || has(self.listenerPath)",
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV goes only with SCMP_ACT_NOTIFY",
            ),
        ),
        at(
            ".architectures",
            rule(
                format!(
                    "!has(self.architectures) || self.architectures.all(a, a in [{big_endian}]) || \
                     !self.architectures.exists(a, a in [{big_endian}])"
                ),
                "big-endian and little-endian architectures cannot share one filter; write one profile for each kind",
            ),
        ),
    ];
    let docker = [INCLUDES, EXCLUDES, NAME, ERRNO, COMMENT];
    rules.extend(docker.iter().map(DockerKey::refuse_in_syscalls));
    rules
}

/// Of one element of `spec.syscalls`.
pub(super) fn syscall() -> Vec<ValidationRule> {
    vec![
        at(
            ".errnoRet",
            forbidden(rule(
                "!has(self.errnoRet) || self.action in ['SCMP_ACT_ERRNO', 'SCMP_ACT_TRACE']",
                "errnoRet goes only with action SCMP_ACT_ERRNO or SCMP_ACT_TRACE",
            )),
        ),
        at(
            ".names",
            rule(
                "self.action != 'SCMP_ACT_NOTIFY' || !('write' in self.names)",
                "write cannot have SCMP_ACT_NOTIFY: a runtime needs it to hand over the listener",
            ),
        ),
        // No reason FieldValueDuplicate here or below: the API server then drops the message.
        at(
            ".args",
            ValidationRule {
                message_expression: Some(
                    "'two conditions on argument %d in one entry mean OR in every runtime; write one entry for each'\
                     .format([self.args.filter(a, !self.args.exists_one(b, b.index == a.index))[0].index])"
                        .to_owned(),
                ),
                ..rule(
                    "!has(self.args) || self.args.all(a, self.args.exists_one(b, b.index == a.index))",
                    "two conditions on one argument in one entry mean OR in every runtime; write one entry for each",
                )
            },
        ),
    ]
}

/// Of a list whose elements differ.
pub(super) fn distinct(element: &str) -> Vec<ValidationRule> {
    vec![rule(
        "self.all(a, self.exists_one(b, b == a))",
        format!("{element} is listed twice"),
    )]
}

/// Of `listenerPath`.
pub(super) fn listener_path() -> Vec<ValidationRule> {
    vec![rule(
        "self.startsWith('/')",
        "listenerPath is the absolute path of a socket",
    )]
}

/// Of `nodeSelector`.
pub(super) fn node_selector() -> Vec<ValidationRule> {
    vec![rule(
        "self.all(k, !format.qualifiedName().validate(k).hasValue())",
        "a key is no label key: write NAME or DOMAIN/NAME, like kubernetes.io/arch",
    )]
}

/// How `value` and `valueTwo` look as strings.
pub(super) const UINT64: &str = "^(0|[1-9][0-9]*|0x[0-9a-fA-F]{1,16})$";

/// Of `value` and `valueTwo`, beside [`UINT64`]: the range, and in words what most strings lack that are no number. Two
/// strings of twenty digits compare as their numbers do.
///
/// An API server of 1.33 takes such a value for megabytes long, whatever its `maxLength`, and a type for as long as can
/// be. So in its budget there is room neither for `matches` nor for `type(self) == int`.
pub(super) fn uint64() -> Vec<ValidationRule> {
    vec![rule(
        "type(self) in [int] ? self >= 0 : '0' <= self && self < ':' \
         && (self == '0' || !self.startsWith('0') || self.startsWith('0x') && size(self) < 19) \
         && (size(self) < 20 || self <= '18446744073709551615')",
        "not an unsigned 64-bit number: write an integer from 0 to 9223372036854775807, or a string, decimal to \
         \"18446744073709551615\" or 0x and 1 to 16 hexadecimal digits; -1 is \"0xffffffffffffffff\"",
    )]
}

/// A key of Docker's format that profiles have, and what to do about it. `callgate resolve` does it for a whole file.
struct DockerKey {
    name: &'static str,
    cure: &'static str,
}

impl DockerKey {
    /// A key is refused for every client if it is declared with its type and a rule finds it. (An unknown key would be
    /// refused for some clients, and pruned or kept for others.)
    fn declare(&self, schema: &mut Schema, mut declaration: Value) {
        declaration["description"] =
            json!("Not a field. A key of Docker's profile format, declared to be refused.");
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert(self.name.to_owned(), declaration);
        }
    }

    fn message(&self) -> String {
        format!("{} is a key of Docker's profile format; {}", self.name, self.cure)
    }

    /// Refuses it in the schema that declares it.
    fn refuse(&self) -> ValidationRule {
        forbidden(rule("false", self.message()))
    }

    /// Refuses it in all elements of `syscalls` at once. Docker's own profile has such keys in some twenty entries: a
    /// rule of the element would be answered with a line for each.
    fn refuse_in_syscalls(&self) -> ValidationRule {
        let Self { name, .. } = self;
        ValidationRule {
            message_expression: Some(format!(
                "\"{} (first in syscalls[%d], %d in all)\".format([\
                 self.syscalls.map(s, has(s.{name})).indexOf(true), self.syscalls.filter(s, has(s.{name})).size()])",
                self.message()
            )),
            ..at(
                ".syscalls",
                forbidden(rule(
                    format!("!has(self.syscalls) || !self.syscalls.exists(s, has(s.{name}))"),
                    self.message(),
                )),
            )
        }
    }
}

const ARCH_MAP: DockerKey = DockerKey {
    name: "archMap",
    cure: "runtimes under Kubernetes ignore it: list the architectures under architectures, or let callgate resolve do so",
};
const DEFAULT_ERRNO: DockerKey = DockerKey {
    name: "defaultErrno",
    cure: "runtimes under Kubernetes ignore it: write defaultErrnoRet, a number, or let callgate resolve do so",
};
const INCLUDES: DockerKey = DockerKey {
    name: "includes",
    cure: DECIDE,
};
const EXCLUDES: DockerKey = DockerKey {
    name: "excludes",
    cure: DECIDE,
};
const DECIDE: &str = "runtimes under Kubernetes ignore it and apply the entry to every container: \
                      let callgate resolve decide which entries remain";
const NAME: DockerKey = DockerKey {
    name: "name",
    cure: "runc skips an entry without names: write names, a list, or let callgate resolve do so",
};
const ERRNO: DockerKey = DockerKey {
    name: "errno",
    cure: "runtimes under Kubernetes ignore it: write errnoRet, a number, or let callgate resolve do so",
};
const COMMENT: DockerKey = DockerKey {
    name: "comment",
    cure: "the OCI specification does not have it: write a YAML comment, or let callgate resolve leave it out",
};

/// Declares keys of Docker's format on `spec`, to be refused with a message.
pub(super) fn refuse_docker_keys_of_spec(schema: &mut Schema) {
    let refused = |key: &DockerKey, mut declaration: Value| {
        declaration[RULES] = json!([key.refuse()]);
        declaration
    };
    let list =
        json!({"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    ARCH_MAP.declare(schema, refused(&ARCH_MAP, list));
    DEFAULT_ERRNO.declare(
        schema,
        refused(&DEFAULT_ERRNO, json!({"x-kubernetes-int-or-string": true})),
    );
}

/// Declares keys of Docker's format on an element of `spec.syscalls`: rules of `spec` refuse them.
pub(super) fn declare_docker_keys_of_syscall(schema: &mut Schema) {
    let object = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let text = json!({"type": "string"});
    INCLUDES.declare(schema, object.clone());
    EXCLUDES.declare(schema, object);
    NAME.declare(schema, text.clone());
    ERRNO.declare(schema, json!({"x-kubernetes-int-or-string": true}));
    COMMENT.declare(schema, text);
}
