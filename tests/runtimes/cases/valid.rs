//! Profiles that mean what they say on every runtime, or, where a runtime is named, on all but that.

use callgate::filter::compile;
use callgate::profile::{SourceDocument, read};

use super::*;

/// No call has this number, and none that profiles here name has a higher one.
const BEYOND: &str = "999";

pub(super) fn cases() -> Vec<Case> {
    [
        actions(),
        conditions(),
        architectures(),
        lists(),
        flags_and_others(),
        starts(),
    ]
    .concat()
}

/// Lists that lack a call which some runtimes need to start a container.
fn starts() -> Vec<Case> {
    let list = |action: &str, more: &[&'static str], but: &str| {
        let names = PORTABLE_START.iter().chain(more).filter(|name| **name != but);
        json!({
            "defaultAction": action,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{ "names": names.collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW" }],
        })
    };
    let restricted = [
        (
            "SCMP_ACT_ERRNO",
            &[
                "close", "fstatfs", "openat", "openat2", "sendmsg", "statx", "write",
            ][..],
        ),
        (
            "SCMP_ACT_KILL_PROCESS",
            &["epoll_ctl", "fcntl", "getpid", "newfstatat", "socket"],
        ),
        ("SCMP_ACT_KILL", &["getdents64"]),
    ];
    let mut cases = Vec::new();
    for (action, names) in restricted {
        for but in names {
            cases.push(valid(
                &format!("{action} without {but}"),
                &list(action, &[], but),
                &[],
            ));
        }
    }
    for but in ["capset", "faccessat2", "prctl", "setresuid", "setuid"] {
        let profile = list("SCMP_ACT_ERRNO", PORTABLE_START_PRIVILEGED, but);
        cases.push(valid(&format!("SCMP_ACT_ERRNO without {but}, as root"), &profile, &[]).by_root());
    }
    cases.push(
        valid(
            "the start set of no_new_privs, as root",
            &list("SCMP_ACT_ERRNO", &[], ""),
            &[],
        )
        .by_root(),
    );
    let mut named = list("SCMP_ACT_ERRNO", PORTABLE_START_PRIVILEGED, "prctl");
    let set_name = json!({ "names": ["prctl"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, "EQ", 15)] });
    named["syscalls"].as_array_mut().expect("a list").push(set_name);
    cases.push(valid("prctl for names alone, as root", &named, &[]).by_root());
    let standard = json!({ "names": ["write"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, "LE", 2)] });
    let mut written = list("SCMP_ACT_ERRNO", &[], "write");
    written["syscalls"].as_array_mut().expect("a list").push(standard);
    cases.push(valid("write for standard output alone", &written, &[]));
    cases.extend(conditional_starts());
    let conditional = errno(&["execve"], 1, &json!([arg(2, "EQ", 0)]));
    cases.push(valid(
        "execve denied without an environment",
        &allowing(&json!([conditional])),
        &[],
    ));
    cases
}

/// Lists with all that a start needs, of which one call is allowed for some arguments alone.
fn conditional_starts() -> Vec<Case> {
    let list = |action: &str, more: &[&'static str], name: &str, condition: Value| {
        let names = PORTABLE_START.iter().chain(more).filter(|other| **other != name);
        json!({
            "defaultAction": action,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                { "names": names.collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW" },
                { "names": [name], "action": "SCMP_ACT_ALLOW", "args": [condition] },
            ],
        })
    };
    let restricted = [
        ("openat without flags alone", "openat", arg(2, "EQ", 0)),
        ("openat that only writes", "openat", masked(2, 1, 1)),
        (
            "openat for the working directory alone",
            "openat",
            arg(0, "EQ", 0xffff_ff9c),
        ),
        (
            "getdents64 with a large buffer alone",
            "getdents64",
            arg(2, "GE", 0x8000),
        ),
        (
            "getdents64 with a small buffer alone",
            "getdents64",
            arg(2, "LE", 0x8000),
        ),
        ("statx for all fields alone", "statx", arg(3, "EQ", 0xfff)),
        ("write of lines alone", "write", arg(2, "GT", 1)),
        ("close above the standard ones alone", "close", arg(0, "GT", 2)),
    ];
    let deadly = [
        (
            "fcntl to duplicate alone, and death",
            "fcntl",
            arg(1, "EQ", 0x406),
        ),
        (
            "epoll_ctl to remove alone, and death",
            "epoll_ctl",
            arg(1, "EQ", 2),
        ),
        ("openat that only writes, and death", "openat", masked(2, 1, 1)),
        (
            "sockets of the Internet alone, and death",
            "socket",
            arg(0, "EQ", 2),
        ),
        (
            "sockets of the machine alone, and death",
            "socket",
            arg(0, "EQ", 1),
        ),
    ];
    let by_root = [
        (
            "rt_sigaction to ask alone, as root",
            "rt_sigaction",
            arg(1, "EQ", 0),
        ),
        (
            "pselect6 with a timeout alone, as root",
            "pselect6",
            arg(4, "NE", 0),
        ),
        ("capget of both, as root", "capget", arg(1, "NE", 0)),
        (
            "fstat of standard descriptors alone, as root",
            "fstat",
            arg(0, "LE", 2),
        ),
    ];
    let with = |action: &str, more, (title, name, condition): (&str, &str, Value)| {
        valid(title, &list(action, more, name, condition), &[])
    };
    let restricted = restricted.map(|one| with("SCMP_ACT_ERRNO", &[][..], one));
    let deadly = deadly.map(|one| with("SCMP_ACT_KILL_PROCESS", &[], one));
    let by_root = by_root.map(|one| with("SCMP_ACT_ERRNO", PORTABLE_START_PRIVILEGED, one).by_root());
    restricted.into_iter().chain(deadly).chain(by_root).collect()
}

fn actions() -> Vec<Case> {
    let by = |name: &str, action: &str| {
        let profile = allowing(&json!([{ "names": ["getpgid"], "action": action }]));
        valid(name, &profile, &[ask("getsid", &[]), ask("getpgid", &[])])
    };
    vec![
        by("an errno, by default EPERM", "SCMP_ACT_ERRNO"),
        by("kill the process", "SCMP_ACT_KILL_PROCESS"),
        by("kill the thread", "SCMP_ACT_KILL_THREAD"),
        by("kill, the old name", "SCMP_ACT_KILL"),
        by("trap without a handler", "SCMP_ACT_TRAP"),
        by("trace without a tracer", "SCMP_ACT_TRACE"),
        by("log", "SCMP_ACT_LOG"),
        by("allow, as the default does", "SCMP_ACT_ALLOW"),
        valid(
            "an errno of its own",
            &allowing(&json!([errno(&["getpgid"], 77, &json!([]))])),
            &[ask("getpgid", &[])],
        ),
        valid(
            "the highest errno",
            &allowing(&json!([errno(&["getpgid"], 4094, &json!([]))])),
            &[ask("getpgid", &[])],
        ),
        valid(
            "errno 0 looks like success",
            &allowing(&json!([errno(&["chdir"], 0, &json!([]))])),
            &[ask("chdir", &[])],
        ),
        valid(
            "allow all, and no entries",
            &json!({ "defaultAction": "SCMP_ACT_ALLOW" }),
            &[ask("getpgid", &[])],
        ),
        valid(
            "log all, and no entries",
            &json!({ "defaultAction": "SCMP_ACT_LOG" }),
            &[ask("getpgid", &[])],
        ),
    ]
}

fn conditions() -> Vec<Case> {
    const EDGES: [u64; 9] = [0, 1, 7, 8, 9, 0xffff_ffff, 1 << 32, (1 << 32) + 8, u64::MAX];
    let one = |name: &str, arg: Value| {
        let profile = allowing(&json!([errno(&["getsid"], 77, &json!([arg]))]));
        valid(name, &profile, &each("getsid", &EDGES))
    };
    vec![
        one("equal", arg(0, "EQ", 8)),
        one("not equal", arg(0, "NE", 8)),
        one("less", arg(0, "LT", 8)),
        one("less or equal", arg(0, "LE", 8)),
        one("greater", arg(0, "GT", 8)),
        one("greater or equal", arg(0, "GE", 8)),
        one("equal above 32 bits", arg(0, "EQ", (1 << 32) + 8)),
        one("greater above 32 bits", arg(0, "GT", (1 << 32) + 8)),
        one("the highest value", arg(0, "EQ", u64::MAX)),
        one("the highest bit", arg(0, "GE", 1 << 63)),
        one("always true", arg(0, "GE", 0)),
        one("never true", arg(0, "LT", 0)),
        one("the same mask and value", masked(0, 8, 8)),
        one(
            "a mask and none of its bits, which youki takes for always",
            masked(0, 0xf8, 0),
        ),
        one(
            "a mask and some of its bits, which youki takes for never",
            masked(0, 0xff, 8),
        ),
        valid(
            "two arguments, both to hold",
            &allowing(&json!([errno(
                &["getpriority"],
                77,
                &json!([arg(0, "EQ", 1), arg(1, "EQ", 2)])
            )])),
            &[
                ask("getpriority", &[1, 2]),
                ask("getpriority", &[1, 3]),
                ask("getpriority", &[0, 2]),
            ],
        ),
        valid(
            "two entries, either to hold",
            &allowing(&json!([
                errno(&["getsid"], 77, &json!([arg(0, "EQ", 1)])),
                errno(&["getsid"], 77, &json!([arg(0, "EQ", 9)])),
            ])),
            &each("getsid", &EDGES),
        ),
        valid(
            "a second value where the operator takes one",
            &allowing(&json!([errno(
                &["getsid"],
                77,
                &json!([{ "index": 0, "value": 8, "valueTwo": 9, "op": "SCMP_CMP_EQ" }])
            )])),
            &each("getsid", &EDGES),
        ),
        valid(
            "a condition beside an unconditional entry that says what the default says",
            &denying(
                "SCMP_ACT_ERRNO",
                &json!([
                    { "names": ["getsid"], "action": "SCMP_ACT_ERRNO" },
                    { "names": ["getsid"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, "EQ", 8)] },
                ]),
            ),
            &each("getsid", &[7, 8]),
        ),
    ]
}

fn architectures() -> Vec<Case> {
    let listing = |mut profile: Value, architectures: &[&str]| {
        profile["architectures"] = json!(architectures);
        profile
    };
    let deny = allowing(&json!([errno(&["getpgid"], 77, &json!([]))]));
    let three = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    let doors = [
        ask("getpgid", &[]),
        ask("getpgid", &[]).on(X32),
        ask("getpgid", &[]).on(X86),
        ask("getsid", &[]).on(X86),
    ];
    let deny_family = allowing(&json!([errno(&["socket"], 77, &json!([arg(0, "EQ", 38)]))]));
    let deny_persona = allowing(&json!([errno(&["personality"], 77, &json!([arg(0, "EQ", 8)]))]));
    vec![
        valid("only the native architecture", &deny, &doors[..2]),
        valid("a 32-bit call under a native-only profile", &deny, &doors[2..]),
        valid("three architectures", &listing(deny.clone(), &three), &doors),
        valid(
            "32 bits beside the native one",
            &listing(deny.clone(), &three[1..2]),
            &doors,
        ),
        valid(
            "a foreign architecture",
            &listing(deny.clone(), &["SCMP_ARCH_AARCH64"]),
            &doors[..1],
        ),
        valid(
            "an architecture newer than some runc",
            &listing(deny.clone(), &["SCMP_ARCH_RISCV64"]),
            &doors[..1],
        )
        .refused_by_old_runc(),
        valid(
            "a socket family, and the multiplexed call that 32-bit programs use",
            &listing(deny_family, &three),
            &[
                ask("socket", &[38, 5]),
                ask("socket", &[1, 77]),
                ask("socketcall", &[1, 0]).on(X86),
                ask("socketcall", &[2, 0]).on(X86),
            ],
        ),
        valid(
            "32-bit calls are compared by 32 bits",
            &listing(deny_persona, &three),
            &[
                ask("personality", &[8]),
                ask("personality", &[(1 << 32) + 8]),
                ask("personality", &[8]).on(X86),
                ask("personality", &[0]).on(X86),
            ],
        ),
        valid(
            "a call of another architecture only",
            &allowing(&json!([errno(&["socketcall", "breakpoint"], 77, &json!([]))])),
            &[ask("getpgid", &[])],
        ),
    ]
}

fn lists() -> Vec<Case> {
    let asks = [
        ask("getpgid", &[]),
        ask("getsid", &[]),
        ask("clone3", &[]),
        ask(BEYOND, &[]),
    ];
    let high = json!([{ "names": ["getpgid", "futex_waitv"], "action": "SCMP_ACT_ALLOW" }]);
    let low = json!([{ "names": ["getpgid"], "action": "SCMP_ACT_ALLOW" }]);
    let mut unnamed = denying("SCMP_ACT_ERRNO", &low);
    unnamed
        .as_object_mut()
        .expect("an object")
        .remove("architectures");
    let mut enosys = denying("SCMP_ACT_ERRNO", &high);
    enosys["defaultErrnoRet"] = json!(38);
    let mut own = denying("SCMP_ACT_ERRNO", &low);
    own["defaultErrnoRet"] = json!(77);
    let privileged = json!([
        { "names": ["getpgid"], "action": "SCMP_ACT_ALLOW" },
        { "names": PORTABLE_START_PRIVILEGED, "action": "SCMP_ACT_ALLOW" },
    ]);
    let mut cases = vec![
        valid("a list without the native architecture", &unnamed, &asks),
        valid(
            "a list that names a high number",
            &denying("SCMP_ACT_ERRNO", &high),
            &asks,
        ),
        valid("a list whose default is ENOSYS", &enosys, &asks),
        valid("a list with an errno of its own", &own, &asks),
        valid(
            "the portable list as root",
            &denying("SCMP_ACT_ERRNO", &privileged),
            &asks,
        )
        .by_root(),
        valid(
            "the portable list as root, and death for the rest",
            &denying("SCMP_ACT_KILL_PROCESS", &privileged),
            &asks,
        )
        .by_root(),
        valid(
            "a list that denies what it allowed, for one value",
            &denying(
                "SCMP_ACT_ERRNO",
                &json!([{
                    "names": ["getsid"], "action": "SCMP_ACT_ALLOW", "args": [arg(0, "NE", 8)],
                }]),
            ),
            &each("getsid", &[7, 8]),
        ),
    ];
    for action in ["ERRNO", "KILL_PROCESS", "KILL_THREAD", "TRAP", "TRACE", "LOG"] {
        let profile = denying(&format!("SCMP_ACT_{action}"), &low);
        cases.push(valid(
            &format!("the portable list, and {action} for the rest"),
            &profile,
            &asks,
        ));
    }
    cases
}

fn flags_and_others() -> Vec<Case> {
    let deny = allowing(&json!([errno(&["getpgid"], 77, &json!([]))]));
    let asks = [ask("getpgid", &[]), ask("getsid", &[])];
    let flagged = |flags: &[&str]| {
        let mut profile = deny.clone();
        profile["flags"] = json!(flags);
        profile
    };
    let mut cases = vec![
        valid("the flag LOG", &flagged(&["SECCOMP_FILTER_FLAG_LOG"]), &asks).refused_by_old_runc(),
        valid(
            "the flag SPEC_ALLOW",
            &flagged(&["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
            &asks,
        )
        .refused_by_old_runc(),
        valid("the flag TSYNC", &flagged(&["SECCOMP_FILTER_FLAG_TSYNC"]), &asks).refused_by_old_runc(),
        valid(
            "names newer than the runtimes' libseccomp",
            &allowing(&json!([errno(&["getpgid", "listns", "uprobe"], 77, &json!([]))])),
            &asks,
        ),
        valid(
            "a call that only one of two ways needs",
            &allowing(&json!([errno(&["openat2"], 1, &json!([]))])),
            &asks,
        ),
        valid(
            "a call that only one of two ways needs, as root",
            &allowing(&json!([errno(&["openat2"], 38, &json!([]))])),
            &asks,
        )
        .by_root(),
        valid(
            "an entry twice",
            &allowing(&json!([
                errno(&["getpgid"], 77, &json!([])),
                errno(&["getpgid"], 77, &json!([]))
            ])),
            &asks,
        ),
        valid(
            "many values of one argument",
            &allowing(&Value::Array(
                (0..900)
                    .map(|value| errno(&["getsid"], 77, &json!([arg(0, "EQ", 3 * value)])))
                    .collect(),
            )),
            &each("getsid", &[0, 1, 3, 1500, 2697, 2700]),
        ),
        // The stub that runc puts before a filter needs room, too.
        Case {
            expected: Expected::Valid {
                asks: Vec::new(),
                refused_by: RuntimeName::ALL
                    .into_iter()
                    .filter(|name| name.program() == "runc")
                    .collect(),
            },
            ..valid(
                "a filter that only runc's additions make too large",
                &nearly_too_large(),
                &[],
            )
        },
    ];
    cases.push(valid(
        "a listener that gives no answer",
        &json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": LISTENER,
            "listenerMetadata": "test",
            "syscalls": [{ "names": ["getpgid"], "action": "SCMP_ACT_NOTIFY" }],
        }),
        &asks,
    ));
    cases
}

/// The largest of its kind that fits: each value with upper bits of its own takes four instructions of 4,096.
fn nearly_too_large() -> Value {
    let with = |count: u64| {
        let values =
            (1..=count).map(|value| errno(&["getsid"], 77, &json!([arg(0, "EQ", value << 32 | value)])));
        denying("SCMP_ACT_ERRNO", &values.collect())
    };
    let fits = |profile: &Value| {
        let source = read(profile.to_string().as_bytes()).remove(0);
        let SourceDocument::Profile(profile) = source else {
            panic!("no profile")
        };
        compile(&profile.spec.expect("a profile").profile).is_ok()
    };
    (900..1_023)
        .rev()
        .map(with)
        .find(fits)
        .expect("the smaller of them fit")
}
