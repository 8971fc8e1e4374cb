//! Mistakes that people make in profiles, and corners of the format, each with its verdict: what is refused and what is
//! installed, under which code, and how much that matters.

use callgate::profile::Finding;
use callgate::startability::PORTABLE_START;

use super::*;

/// Whether it is installed, and what is found.
async fn judge(bench: &Bench, document: SourceDocument) -> (bool, Vec<Finding>) {
    let refused = match document {
        SourceDocument::Profile(profile) => match bench.prover.read_source(&profile) {
            Ok(read) => match bench.prover.prove("team", read).await {
                Verdict::Valid(proven) => return (true, proven.findings.iter().cloned().collect()),
                Verdict::Invalid(refused) => refused,
                Verdict::Unknown(why) => panic!("{why}"),
            },
            Err(refused) => refused,
        },
        other @ SourceDocument::Other { .. } => panic!("no profile: {other:?}"),
    };
    (false, refused.findings.iter().cloned().collect())
}

/// In a profile that allows by default.
fn allowing(rest: &str) -> String {
    format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", {rest}}}"#)
}

/// In a profile that allows by default and denies these calls, with what stands beside them.
fn denying(names: &str, rest: &str) -> String {
    allowing(&format!(
        r#""syscalls": [{{"names": [{names}], "action": "SCMP_ACT_ERRNO"{rest}}}]"#
    ))
}

fn conditions(conditions: &str) -> String {
    format!(r#", "args": [{conditions}]"#)
}

fn on(index: u8, op: &str, value: &str) -> String {
    format!(r#"{{"index": {index}, "op": "SCMP_CMP_{op}", "value": {value}}}"#)
}

/// Two entries about `socket`.
fn two(one: &str, other: &str) -> String {
    let entry = |rest| format!(r#"{{"names": ["socket"], {rest}}}"#);
    format!(r#""syscalls": [{}, {}]"#, entry(one), entry(other))
}

fn notifying(names: &str, rest: &str) -> String {
    allowing(&format!(
        r#""syscalls": [{{"names": [{names}], "action": "SCMP_ACT_NOTIFY"}}]{rest}"#
    ))
}

/// The portable start set, but for these.
fn start_without(denied: &[&str]) -> String {
    let names = PORTABLE_START.iter().filter(|name| !denied.contains(name));
    names
        .map(|name| format!("\"{name}\""))
        .collect::<Vec<_>>()
        .join(", ")
}

const LISTENER: &str = r#", "listenerPath": "/run/agent.sock""#;

/// What reading refuses, and under which code.
fn refused_by_reading() -> Vec<(Code, String)> {
    let many: Vec<_> = syscalls::all()
        .take(64)
        .map(|call| format!("\"{}\"", call.name))
        .collect();
    let entry = format!(
        r#"{{"names": [{}], "action": "SCMP_ACT_ERRNO"{}}}"#,
        many.join(", "),
        conditions(&[0, 1, 2, 3].map(|index| on(index, "EQ", "1")).join(", "))
    );
    let everything = vec![entry; 1_024].join(", ");
    vec![
        (Code::MissingKey, "{}".to_owned()),
        (
            Code::DockerFormat,
            denying(r#""mount""#, r#", "includes": {"caps": ["CAP_SYS_ADMIN"]}"#),
        ),
        (
            Code::DockerFormat,
            allowing(r#""syscalls": [{"name": "mount", "action": "SCMP_ACT_ERRNO"}]"#),
        ),
        (
            Code::UnknownKey,
            r#"{"DefaultAction": "SCMP_ACT_ALLOW"}"#.to_owned(),
        ),
        (
            Code::DuplicateKey,
            allowing(r#""defaultAction": "SCMP_ACT_ERRNO""#),
        ),
        (
            Code::BadValue,
            allowing(r#""architectures": ["SCMP_ARCH_NATIVE"]"#),
        ),
        (Code::BadValue, denying(r#""mount""#, r#", "errnoRet": 4095"#)),
        (
            Code::TooLarge,
            allowing(&format!(r#""syscalls": [{everything}]"#)),
        ),
        (Code::Syntax, "\u{feff}".to_owned() + &denying(r#""mount""#, "")),
        (
            Code::Syntax,
            denying(r#""mount""#, "").replacen('{', "{ // why\n", 1),
        ),
        (Code::Syntax, denying(r#""mount""#, "").replace("]}", "]},")),
        (Code::Syntax, denying(r#""mount""#, "") + "{}"),
    ]
}

/// What rules and proofs refuse, and under which code.
fn refused() -> Vec<(Code, String)> {
    let errno = r#""action": "SCMP_ACT_ERRNO""#;
    let alg = conditions(&on(0, "EQ", "38"));
    let hang = |values: [&str; 2]| conditions(&[on(0, "NE", values[0]), on(1, "NE", values[1])].join(", "));
    vec![
        (
            Code::MixedEndianness,
            allowing(r#""architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_S390X"]"#),
        ),
        (
            Code::WaitKillableWithoutNotify,
            allowing(r#""flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#),
        ),
        (
            Code::TsyncWithNotify,
            notifying(
                r#""mount""#,
                &format!(r#"{LISTENER}, "flags": ["SECCOMP_FILTER_FLAG_TSYNC"]"#),
            ),
        ),
        (
            Code::ErrnoMisplaced,
            allowing(r#""syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1}]"#),
        ),
        (
            Code::ErrnoMisplaced,
            r#"{"defaultAction": "SCMP_ACT_LOG", "defaultErrnoRet": 1}"#.to_owned(),
        ),
        // Beside one that allows, a condition is dead.
        (
            Code::Contradiction,
            format!(
                r#"{{"defaultAction": "SCMP_ACT_KILL_PROCESS", {}}}"#,
                two(r#""action": "SCMP_ACT_ALLOW""#, &format!("{errno}{alg}"))
            ),
        ),
        (
            Code::Contradiction,
            allowing(&two(
                &format!(r#"{errno}, "errnoRet": 5{alg}"#),
                &format!(r#"{errno}, "errnoRet": 6{alg}"#),
            )),
        ),
        (
            Code::RepeatedArgument,
            denying(
                r#""socket""#,
                &conditions(&[on(0, "GE", "1"), on(0, "LE", "9")].join(", ")),
            ),
        ),
        (
            Code::BitsOutsideMask,
            denying(
                r#""socket""#,
                &conditions(&on(1, "MASKED_EQ", r#"2, "valueTwo": 3"#)),
            ),
        ),
        // libseccomp does not come to an end.
        (
            Code::CompileExhausted,
            allowing(&two(
                &format!("{errno}{}", hang(["4294967296", "8589934592"])),
                &format!("{errno}{}", hang(["4294967296", "18446744069414584320"])),
            )),
        ),
        (Code::FilterTooLarge, too_large().to_string()),
        (Code::UnknownSyscall, denying(r#""Read""#, "")),
        (Code::UnknownSyscall, denying(r#""open ""#, "")),
        (Code::NotifyWithoutListener, notifying(r#""mount""#, "")),
        (Code::NotifyOnWrite, notifying(r#""write""#, LISTENER)),
        (
            Code::NotifyByDefault,
            format!(
                r#"{{"defaultAction": "SCMP_ACT_NOTIFY", "syscalls": [{{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}}]{LISTENER}}}"#
            ),
        ),
    ]
}

/// What is installed, and what is told of it, if anything.
fn installed() -> Vec<(Option<(Code, Class)>, String)> {
    use Class::{Lint, NotPortable};
    let start = start_without(&[]);
    let kill = |names: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_KILL", "syscalls": [{{"names": ["clone3", {names}], "action": "SCMP_ACT_ALLOW"}}]}}"#
        )
    };
    vec![
        (
            Some((Code::NewerFlag, NotPortable)),
            denying(r#""mount""#, "").replacen('{', r#"{"flags": ["SECCOMP_FILTER_FLAG_LOG"], "#, 1),
        ),
        (
            Some((Code::MaskedEqYouki, NotPortable)),
            denying(r#""clone""#, &conditions(&on(0, "MASKED_EQ", "2114060288"))),
        ),
        // crun starts without futex, so that this is no verdict on the profile for everyone; runc may hang.
        (
            Some((Code::StartFails, NotPortable)),
            kill(&start_without(&["futex"])),
        ),
        (Some((Code::KillThreadByDefault, Lint)), kill(&start)),
        (
            Some((Code::NoClone3Answer, Lint)),
            format!(
                r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["mseal", {start}], "action": "SCMP_ACT_ALLOW"}}]}}"#
            ),
        ),
        (
            Some((Code::NewerSyscall, NotPortable)),
            denying(r#""uprobe", "listns""#, ""),
        ),
        (
            Some((Code::CrunErrnoCache, Lint)),
            denying(r#""mount""#, r#", "errnoRet": 5"#),
        ),
        (
            None,
            denying(r#""lseek""#, &conditions(&on(1, "EQ", "18446744073709551615"))),
        ),
    ]
}

/// Hangs end soon.
fn impatient() -> Bench {
    Bench::limited(
        &["/run"],
        Limits {
            cpu_seconds: 1,
            ..Limits::default()
        },
    )
}

#[tokio::test]
async fn mistakes_are_refused_under_their_code() {
    let bench = impatient();
    for (code, text) in refused_by_reading().into_iter().chain(refused()) {
        let shown: String = text.chars().take(300).collect();
        let document = read(text.as_bytes()).remove(0);
        let (is_installed, findings) = judge(&bench, document).await;
        assert!(!is_installed, "{code}: {shown}");
        let fatal: Vec<_> = findings.iter().filter(|finding| finding.is_fatal()).collect();
        assert!(
            fatal.iter().any(|finding| finding.code == code),
            "{code}: {shown}: {fatal:?}"
        );
    }
}

#[tokio::test]
async fn what_is_odd_and_no_mistake_is_installed_and_told() {
    let bench = impatient();
    for (told, text) in installed() {
        let document = read(text.as_bytes()).remove(0);
        let (is_installed, findings) = judge(&bench, document).await;
        assert!(is_installed, "{text}: {findings:?}");
        let found = |(code, class)| {
            let mut found = findings.iter().filter(|finding| finding.code == code);
            found.all(|finding| finding.class() == class)
                && findings.iter().any(|finding| finding.code == code)
        };
        match told {
            Some(told) => assert!(found(told), "{told:?}: {text}: {findings:?}"),
            None => assert!(
                findings
                    .iter()
                    .all(|finding| !finding.field.as_str().contains("args")),
                "{text}: {findings:?}"
            ),
        }
    }
}

#[tokio::test]
async fn a_value_above_what_the_api_server_keeps_is_text_in_an_object() {
    let bench = impatient();
    let spec = |value: Value| {
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{
                "names": ["lseek"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{ "index": 1, "op": "SCMP_CMP_EQ", "value": value }],
            }],
        })
    };
    let refused = bench.prover.read(&spec(json!(u64::MAX))).unwrap_err();
    assert_eq!(refused.cause().unwrap().code, Code::BadValue);
    let verdict = bench.prove(&spec(json!("18446744073709551615"))).await;
    assert!(matches!(verdict, Verdict::Valid(_)), "{verdict:?}");
}
