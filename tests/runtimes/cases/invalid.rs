//! Profiles that no verdict may call valid: containerd or a runtime refuses them, no container starts with them, or they
//! do something else than they say.

use super::*;
use crate::predict::Prediction::Made;

const EPERM: Prediction = Prediction::Stopped(bed::Answer::errno(1));
const NUMBER_77: Prediction = Prediction::Stopped(bed::Answer::errno(77));
const NUMBER_78: Prediction = Prediction::Stopped(bed::Answer::errno(78));

pub(super) fn cases() -> Vec<Case> {
    [
        texts(),
        top_level(),
        lists(),
        entries(),
        arguments(),
        docker(),
        starts(),
        libseccomp(),
    ]
    .concat()
}

/// One that is refused or does not start.
fn invalid(name: &str, profile: &Value) -> Case {
    otherwise(name, profile, &[])
}

/// One that says something else than it does.
fn otherwise(name: &str, profile: &Value, says: &[(Ask, Prediction)]) -> Case {
    text(name, &profile.to_string(), says)
}

fn text(name: &str, file: &str, says: &[(Ask, Prediction)]) -> Case {
    Case {
        name: name.to_owned(),
        file: file.to_owned(),
        user: User::Restricted,
        expected: Expected::Invalid { says: says.to_vec() },
    }
}

/// A profile that denies getpgid, and has one thing more.
fn with(key: &str, value: &Value) -> Value {
    let mut profile = allowing(&json!([errno(&["getpgid"], 77, &json!([]))]));
    profile[key] = value.clone();
    profile
}

/// The same with one thing more in its entry.
fn with_entry(key: &str, value: &Value) -> Value {
    let mut entry = errno(&["getpgid"], 77, &json!([]));
    entry[key] = value.clone();
    allowing(&json!([entry]))
}

fn with_arg(arg: &Value) -> Value {
    allowing(&json!([errno(&["getsid"], 77, &json!([arg]))]))
}

fn texts() -> Vec<Case> {
    let good = r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#;
    let denied = (ask("getpgid", &[]), EPERM);
    vec![
        text("an empty file", "", &[]),
        text("a byte order mark", &format!("\u{feff}{good}"), &[]),
        text("a comment", &format!("// allow all\n{good}"), &[]),
        text("a trailing comma", r#"{"defaultAction":"SCMP_ACT_ALLOW",}"#, &[]),
        text("two documents", &format!("{good}{good}"), &[]),
        text("an array", "[]", &[]),
        text("null", "null", &[denied]),
        text("nothing at all in it", "{}", &[denied]),
        text(
            "a key in another case",
            r#"{"DefaultAction":"SCMP_ACT_ALLOW"}"#,
            &[],
        ),
        text(
            "a key twice",
            r#"{"defaultAction":"SCMP_ACT_LOG","defaultAction":"SCMP_ACT_ALLOW"}"#,
            &[],
        ),
        text(
            "a name cut by NUL",
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["getpgid\u0000x"],"action":"SCMP_ACT_ERRNO"}]}"#,
            &[(ask("getpgid", &[]), Made)],
        ),
    ]
}

fn top_level() -> Vec<Case> {
    let only = |action: &str| json!({ "defaultAction": action });
    vec![
        otherwise("no default action", &only(""), &[(ask("getpgid", &[]), EPERM)]),
        invalid("an unknown default action", &only("SCMP_ACT_DENY")),
        invalid("a default action in lower case", &only("scmp_act_allow")),
        invalid("notify as the default action", &only("SCMP_ACT_NOTIFY")),
        invalid(
            "a default errno beside a default of LOG",
            &json!({
                "defaultAction": "SCMP_ACT_LOG", "defaultErrnoRet": 1,
            }),
        ),
        invalid(
            "a default errno of 4095",
            &json!({
                "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4095,
                "syscalls": [{ "names": PORTABLE_START, "action": "SCMP_ACT_ALLOW" }],
            }),
        ),
        invalid(
            "listener metadata without a listener, and NOTIFY",
            &json!({
                "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x",
                "syscalls": [{ "names": ["getpgid"], "action": "SCMP_ACT_NOTIFY" }],
            }),
        ),
        invalid(
            "a listener and nothing to tell it",
            &with("listenerPath", &json!("/nowhere/socket")),
        ),
        invalid(
            "a relative listener",
            &json!({
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "agent.sock",
                "syscalls": [{ "names": ["getpgid"], "action": "SCMP_ACT_NOTIFY" }],
            }),
        ),
        invalid(
            "NOTIFY for write",
            &json!({
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": LISTENER,
                "syscalls": [{ "names": ["write"], "action": "SCMP_ACT_NOTIFY" }],
            }),
        ),
        invalid(
            "TSYNC and NOTIFY",
            &json!({
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": LISTENER, "flags": ["SECCOMP_FILTER_FLAG_TSYNC"],
                "syscalls": [{ "names": ["getpgid"], "action": "SCMP_ACT_NOTIFY" }],
            }),
        ),
    ]
}

fn lists() -> Vec<Case> {
    let architectures = |list: &[&str]| with("architectures", &json!(list));
    let flags = |list: &[&str]| with("flags", &json!(list));
    vec![
        invalid("an unknown architecture", &architectures(&["SCMP_ARCH_VAX"])),
        invalid("an architecture without its prefix", &architectures(&["x86_64"])),
        invalid("the architecture NATIVE", &architectures(&["SCMP_ARCH_NATIVE"])),
        invalid(
            "an architecture that runc does not know",
            &architectures(&["SCMP_ARCH_PARISC"]),
        ),
        invalid(
            "two byte orders",
            &architectures(&["SCMP_ARCH_X86_64", "SCMP_ARCH_S390X"]),
        ),
        invalid("an unknown flag", &flags(&["SECCOMP_FILTER_FLAG_NEW_LISTENER"])),
        invalid(
            "WAIT_KILLABLE_RECV without NOTIFY",
            &flags(&["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
        ),
    ]
}

fn entries() -> Vec<Case> {
    let denied = (ask("getpgid", &[]), NUMBER_77);
    let two = |first: &Value, second: &Value| allowing(&json!([first, second]));
    let deny = |number: u16, args: Value| errno(&["getsid"], number, &args);
    vec![
        otherwise(
            "an entry without names",
            &json!({
                "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "action": "SCMP_ACT_ERRNO" }],
            }),
            &[],
        ),
        otherwise("an empty name", &with_entry("names", &json!([""])), &[]),
        otherwise(
            "names with a typo",
            &allowing(&json!([errno(&["Getpgid", "getpgid "], 77, &json!([]))])),
            &[denied],
        ),
        invalid(
            "an entry without an action",
            &allowing(&json!([{ "names": ["getpgid"] }])),
        ),
        invalid(
            "an errno on ALLOW",
            &json!({
                "defaultAction": "SCMP_ACT_LOG",
                "syscalls": [{ "names": ["getpgid"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1 }],
            }),
        ),
        invalid("an errno of 4095", &with_entry("errnoRet", &json!(4095))),
        otherwise(
            "an errno beyond 16 bits",
            &with_entry("errnoRet", &json!(65_536 + 5)),
            &[denied],
        ),
        invalid("a negative errno", &with_entry("errnoRet", &json!(-1))),
        otherwise(
            "an errno as text",
            &with_entry("errnoRet", &json!("77")),
            &[denied],
        ),
        otherwise(
            "two answers to one call",
            &two(&deny(77, json!([])), &deny(78, json!([]))),
            &[(ask("getsid", &[]), NUMBER_78)],
        ),
        otherwise(
            "a dead condition",
            &denying(
                "SCMP_ACT_ERRNO",
                &json!([
                    { "names": ["getsid"], "action": "SCMP_ACT_ALLOW" },
                    errno(&["getsid"], 77, &json!([arg(0, "EQ", 38)])),
                ]),
            ),
            &[(ask("getsid", &[38]), NUMBER_77)],
        ),
        invalid(
            "one condition, two errnos",
            &two(
                &deny(77, json!([arg(0, "EQ", 1)])),
                &deny(78, json!([arg(0, "EQ", 1)])),
            ),
        ),
        otherwise(
            "overlapping ranges",
            &two(
                &deny(77, json!([arg(0, "GE", 1)])),
                &deny(78, json!([arg(0, "GE", 2)])),
            ),
            &[(ask("getsid", &[2]), NUMBER_77)],
        ),
    ]
}

fn arguments() -> Vec<Case> {
    let range = |low: u64, high: u64| {
        allowing(&json!([errno(
            &["getsid"],
            77,
            &json!([arg(0, "GE", low), arg(0, "LE", high)])
        )]))
    };
    let many: Vec<Value> = (0..7).map(|value| arg(0, "EQ", value)).collect();
    vec![
        otherwise(
            "a range in one entry",
            &range(5, 9),
            &[(ask("getsid", &[20]), Made)],
        ),
        otherwise(
            "seven conditions",
            &allowing(&json!([errno(&["getsid"], 77, &json!(many))])),
            &[(ask("getsid", &[3]), Made)],
        ),
        invalid("a seventh argument", &with_arg(&arg(6, "EQ", 1))),
        otherwise(
            "no index",
            &with_arg(&json!({ "value": 1, "op": "SCMP_CMP_EQ" })),
            &[],
        ),
        otherwise(
            "no value",
            &with_arg(&json!({ "index": 0, "op": "SCMP_CMP_EQ" })),
            &[],
        ),
        invalid("no operator", &with_arg(&json!({ "index": 0, "value": 1 }))),
        invalid("an unknown operator", &with_arg(&arg(0, "BETWEEN", 1))),
        invalid(
            "a negative value",
            &with_arg(&json!({ "index": 0, "value": -1, "op": "SCMP_CMP_EQ" })),
        ),
        text(
            "a value beyond 64 bits",
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["getsid"],"action":"SCMP_ACT_ERRNO",
                "args":[{"index":0,"value":18446744073709551616,"op":"SCMP_CMP_EQ"}]}]}"#,
            &[],
        ),
        invalid(
            "a value with a fraction",
            &with_arg(&json!({ "index": 0, "value": 2.0, "op": "SCMP_CMP_EQ" })),
        ),
        otherwise(
            "bits outside the mask",
            &with_arg(&masked(0, 2, 3)),
            &[(ask("getsid", &[2]), Made)],
        ),
    ]
}

fn docker() -> Vec<Case> {
    let list = json!([{
        "names": ["getpgid"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN"] },
    }]);
    let mut mapped = denying(
        "SCMP_ACT_ERRNO",
        &json!([{ "names": ["getpgid"], "action": "SCMP_ACT_ALLOW" }]),
    );
    mapped["archMap"] =
        json!([{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] }]);
    mapped.as_object_mut().expect("an object").remove("architectures");
    let mut named = denying(
        "SCMP_ACT_ERRNO",
        &json!([{ "names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errno": "ENOSYS" }]),
    );
    named["defaultErrno"] = json!("ENOSYS");
    vec![
        otherwise(
            "Docker's includes",
            &denying("SCMP_ACT_ERRNO", &list),
            &[(ask("getpgid", &[]), EPERM)],
        ),
        otherwise(
            "Docker's archMap",
            &mapped,
            &[(ask("getpgid", &[]).on(X86), Made)],
        ),
        otherwise(
            "Podman's errno names",
            &named,
            &[(ask("getpgid", &[]), Prediction::Stopped(bed::Answer::errno(38)))],
        ),
        otherwise(
            "Docker's old name",
            &json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "name": "getpgid", "action": "SCMP_ACT_ERRNO" }] }),
            &[(ask("getpgid", &[]), EPERM)],
        ),
    ]
}

fn starts() -> Vec<Case> {
    let nothing = |action: &str| json!({ "defaultAction": action });
    let list = |action: &str, but: &str| {
        let names: Vec<_> = PORTABLE_START.iter().filter(|name| **name != but).collect();
        json!({
            "defaultAction": action,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
        })
    };
    vec![
        invalid("ERRNO for everything", &nothing("SCMP_ACT_ERRNO")),
        invalid("death for everything", &nothing("SCMP_ACT_KILL_PROCESS")),
        invalid("a trap for everything", &nothing("SCMP_ACT_TRAP")),
        invalid("the death of a thread for everything", &nothing("SCMP_ACT_KILL")),
        invalid(
            "execve denied",
            &allowing(&json!([errno(&["execve"], 1, &json!([]))])),
        ),
        invalid(
            "execve deadly",
            &allowing(&json!([{ "names": ["execve"], "action": "SCMP_ACT_KILL_PROCESS" }])),
        ),
        invalid(
            "execve denied for every path",
            &allowing(&json!([errno(&["execve"], 1, &json!([arg(0, "NE", 0)]))])),
        ),
        invalid(
            "close deadly for what is opened",
            &allowing(
                &json!([{ "names": ["close"], "action": "SCMP_ACT_KILL_PROCESS", "args": [arg(0, "GT", 2)] }]),
            ),
        ),
        invalid("a list without execve", &list("SCMP_ACT_ERRNO", "execve")),
        invalid(
            "a deadly list without execve",
            &list("SCMP_ACT_KILL_PROCESS", "execve"),
        ),
        invalid(
            "a deadly list without close",
            &list("SCMP_ACT_KILL_PROCESS", "close"),
        ),
    ]
}

fn libseccomp() -> Vec<Case> {
    let not = |first: (u32, u64), second: (u32, u64)| {
        errno(
            &["socket"],
            77,
            &json!([arg(first.0, "NE", first.1), arg(second.0, "NE", second.1)]),
        )
    };
    let values = |count: u64| {
        allowing(&Value::Array(
            (0..count)
                .map(|value| errno(&["getsid"], 77, &json!([arg(0, "EQ", value)])))
                .collect(),
        ))
    };
    vec![
        invalid(
            "two entries that libseccomp never finishes",
            &allowing(&json!([
                not((0, 1 << 32), (1, 1 << 33)),
                not((0, 1 << 32), (1, 0xffff_ffff_0000_0000))
            ])),
        ),
        otherwise(
            "two entries that libseccomp gets wrong",
            &allowing(&json!([not((0, 2_147_483_647), (1, 1)), not((1, 38), (0, 0))])),
            &[(ask("socket", &[0, 1]), Made)],
        ),
        otherwise(
            "two ranges of 64 bits that libseccomp gets wrong",
            &allowing(&json!([
                errno(&["getsid"], 77, &json!([arg(0, "GE", 1 << 63)])),
                errno(&["getsid"], 77, &json!([arg(0, "LE", 2)])),
            ])),
            &[(ask("getsid", &[0x8000_0000]), Made)],
        ),
        invalid("a filter that is too large", &values(4_200)),
        invalid(
            "more comparisons than libseccomp finishes in time",
            &allowing(&json!([{
                "names": ["getsid", "getpgid", "getpriority", "dup", "lseek", "umask", "fcntl", "mincore", "socket", "ioctl"],
                "action": "SCMP_ACT_ERRNO",
                "args": (0..4_000).map(|value| arg(0, "EQ", value << 32)).collect::<Vec<_>>(),
            }])),
        ),
    ]
}
