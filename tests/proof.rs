//! Proofs on the real program: what the verdicts say, and which of them are remembered.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "so do tests fail, in helpers as elsewhere"
)]

#[path = "testload/fork_server.rs"]
mod fork_server;
#[path = "proof/mistakes.rs"]
mod mistakes;

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Instant;

use callgate::profile::{Class, Code, Digest, SourceDocument, SourceProfile, explain, read, syscalls};
use callgate::proof::{Prover, RefusedBy, Verdict};
use callgate::testload::Limits;
use fork_server::{PATIENCE, PROGRAM, kill, start_program};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A prover, and the fork server beneath it, which can be taken away and given back.
struct Bench {
    prover: Prover,
    server: u32,
    program: PathBuf,
    _folder: TempDir,
}

impl Bench {
    fn new(listener_prefixes: &[&str]) -> Self {
        Self::limited(listener_prefixes, Limits::default())
    }

    fn limited(listener_prefixes: &[&str], limits: Limits) -> Self {
        let folder = TempDir::new().unwrap();
        let program = folder.path().join("callgate");
        symlink(PROGRAM, &program).unwrap();
        let (client, server) = start_program(&program, limits);
        let prefixes = listener_prefixes.iter().map(ToString::to_string).collect();
        Self {
            server,
            prover: Prover::new(client, prefixes),
            program,
            _folder: folder,
        }
    }

    /// Ends the server, and lets no other start.
    fn take_server(&self) {
        std::fs::remove_file(&self.program).unwrap();
        kill(self.server);
    }

    /// Lets servers start again.
    fn give_server(&self) {
        symlink(PROGRAM, &self.program).unwrap();
    }

    async fn prove(&self, spec: &Value) -> Verdict {
        self.prover.prove("team", self.prover.read(spec).unwrap()).await
    }
}

fn deny(name: &str) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": [name], "action": "SCMP_ACT_ERRNO" }],
    })
}

/// Can be read, but libseccomp cannot keep both entries.
fn contradictory() -> Value {
    let entry = |errno: u16| {
        json!({
            "names": ["socket"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": errno,
            "args": [{ "index": 0, "op": "SCMP_CMP_EQ", "value": 38 }],
        })
    };
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry(5), entry(6)] })
}

/// More instructions than the kernel takes.
fn too_large() -> Value {
    let value = |value: u64| {
        json!({
            "names": ["kill"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{ "index": 0, "op": "SCMP_CMP_EQ", "value": value << 32 | value }],
        })
    };
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": (1..=1_024).map(value).collect::<Vec<_>>(),
    })
}

fn notifying(listener: &str) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": listener,
        "syscalls": [{ "names": ["mount"], "action": "SCMP_ACT_NOTIFY" }],
    })
}

fn source_of(text: &str) -> SourceProfile {
    match read(text.as_bytes()).remove(0) {
        SourceDocument::Profile(profile) => *profile,
        other @ SourceDocument::Other { .. } => panic!("no profile: {other:?}"),
    }
}

#[tokio::test]
async fn an_example_in_which_a_code_is_not_found_is_a_valid_profile() {
    let bench = Bench::new(&["/run"]);
    let mut proven = 0;
    for code in Code::ALL {
        let text = explain(*code);
        let Some((_, example)) = text.split_once("Not found in:\n\n```json\n") else {
            continue;
        };
        let (example, _) = example.split_once("\n```").unwrap();
        let read = bench.prover.read_source(&source_of(example)).unwrap();
        let Verdict::Valid(valid) = bench.prover.prove("team", read).await else {
            panic!("{code}: {example}");
        };
        let found: Vec<_> = valid.findings.iter().map(|finding| finding.code).collect();
        assert!(!found.contains(code), "{code}: {example}");
        proven += 1;
    }
    assert!(proven > 40, "{proven}");
}

#[tokio::test]
async fn a_valid_profile_comes_back_with_its_file_and_its_filter() {
    let bench = Bench::new(&[]);
    let mut spec = deny("mkdir");
    spec["nodeSelector"] = json!({ "pool": "web" });
    let read = bench.prover.read(&spec).unwrap();
    let digest = read.canonical.digest;
    let Verdict::Valid(proven) = bench.prover.prove("team", read).await else {
        panic!("not valid");
    };
    assert_eq!(proven.canonical.digest, digest);
    assert_eq!(proven.spec.node_selector["pool"], "web");
    let [(_, instructions)] = proven.filters[..] else {
        panic!("{:?}", proven.filters);
    };
    assert!((2..64).contains(&instructions), "{instructions}");
    assert!(
        proven
            .findings
            .iter()
            .all(|finding| finding.class() == Class::Lint),
        "{:?}",
        proven.findings
    );
}

#[tokio::test]
async fn two_answers_to_one_call_are_invalid_at_their_place_in_the_object() {
    let bench = Bench::new(&[]);
    let mut spec = contradictory();
    spec["nodeSelector"] = json!({ "pool": "web" });
    let read = bench.prover.read(&spec).unwrap();
    let digest = read.canonical.digest;
    // The second verdict comes from memory, and says the same.
    for read in [read.clone(), read] {
        let Verdict::Invalid(refused) = bench.prover.prove("team", read).await else {
            panic!("not invalid");
        };
        assert_eq!(refused.digest, Some(digest));
        assert_eq!(refused.node_selector.as_ref().unwrap()["pool"], "web");
        let cause = refused.cause().unwrap();
        assert_eq!(cause.code, Code::Contradiction);
        assert_eq!(cause.witness.as_deref(), Some("socket(0x26)"));
        assert!(cause.field.as_str().starts_with("spec.syscalls[1]"), "{cause:?}");
    }
}

/// Big-endian architectures, whose filters no kernel of this machine takes.
#[cfg(target_endian = "little")]
mod other_byte_order {
    use super::*;

    fn for_nodes_of(label: Option<&str>, architectures: &[&str], mut spec: Value) -> Value {
        spec["architectures"] = json!(architectures);
        if let Some(label) = label {
            spec["nodeSelector"] = json!({ "kubernetes.io/arch": label });
        }
        spec
    }

    #[tokio::test]
    async fn what_is_for_its_nodes_alone_is_proven_and_not_loaded() {
        let bench = Bench::new(&[]);
        for (label, architectures) in [
            ("s390x", &["SCMP_ARCH_S390X", "SCMP_ARCH_S390"][..]),
            ("ppc64", &["SCMP_ARCH_PPC64"]),
            (
                "mips64",
                &["SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"],
            ),
        ] {
            let spec = for_nodes_of(Some(label), architectures, deny("mkdir"));
            // The second verdict comes from memory, and says the same.
            for _ in 0..2 {
                let Verdict::Valid(proven) = bench.prove(&spec).await else {
                    panic!("not valid: {label}");
                };
                assert!(!proven.is_loaded);
                let proven_for: Vec<_> = proven.filters.iter().map(|(one, _)| one.as_str()).collect();
                assert_eq!(proven_for, architectures);
                assert!(proven.filters.iter().all(|(_, size)| (2..64).contains(size)));
                assert!(
                    proven
                        .findings
                        .iter()
                        .all(|finding| finding.class() == Class::Lint),
                    "{:?}",
                    proven.findings
                );
            }
        }
        let Verdict::Valid(proven) = bench.prove(&deny("mkdir")).await else {
            panic!("not valid");
        };
        assert!(proven.is_loaded);
    }

    #[tokio::test]
    async fn what_any_node_gets_is_told_where_it_starts_nothing_and_refused_on_such_a_node() {
        let bench = Bench::new(&[]);
        let mut spec = for_nodes_of(None, &["SCMP_ARCH_S390X"], deny("mkdir"));
        let told = |proven: &callgate::proof::Proven| {
            let mut findings = proven.findings.iter();
            let finding = findings.find(|finding| finding.code == Code::OtherByteOrder)?;
            assert_eq!(finding.field.as_str(), "spec.architectures");
            assert!(
                finding
                    .message
                    .contains("with nodeSelector kubernetes.io/arch: s390x"),
                "{}",
                finding.message
            );
            Some(finding.class())
        };
        for (accepted, class) in [
            (json!([]), Class::NotPortable),
            (json!(["other-byte-order"]), Class::Accepted),
        ] {
            spec["acceptFindings"] = accepted;
            let Verdict::Valid(proven) = bench.prove(&spec).await else {
                panic!("not valid");
            };
            assert_eq!(told(&proven), Some(class));
            assert!(!proven.is_loaded);

            // Whoever accepts it, this machine cannot have it.
            let here = bench.prover.clone().for_here();
            let Verdict::Invalid(refused) = here.prove("team", here.read(&spec).unwrap()).await else {
                panic!("not invalid");
            };
            assert_eq!(refused.by, RefusedBy::TestLoad);
            let cause = refused.cause().unwrap();
            assert_eq!(
                (cause.code, cause.field.as_str()),
                (Code::CompileFailed, "spec.architectures[0]")
            );
            assert!(
                cause.message.contains("It is for big-endian nodes"),
                "{}",
                cause.message
            );
        }
        // On nodes of this byte order alone it starts nothing at all.
        let spec = for_nodes_of(Some("amd64"), &["SCMP_ARCH_S390X"], deny("mkdir"));
        let refused = bench.prover.read(&spec).unwrap_err();
        assert_eq!(refused.cause().unwrap().code, Code::MixedEndianness);
    }

    #[tokio::test]
    async fn what_is_wrong_with_its_meaning_is_found_with_a_call() {
        let bench = Bench::new(&[]);
        let range = |op: &str, value: &str| json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": op, "value": value}]});
        let wrong = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [range("SCMP_CMP_GE", "0x8000000000000000"), range("SCMP_CMP_LE", "2")],
        });
        for (spec, code, witness) in [
            // s390x makes the call through socketcall as well.
            (contradictory(), Code::Contradiction, "socketcall(0x1"),
            (wrong, Code::Miscompiled, "kill(0x"),
        ] {
            let spec = for_nodes_of(Some("s390x"), &["SCMP_ARCH_S390X"], spec);
            let Verdict::Invalid(refused) = bench.prove(&spec).await else {
                panic!("not invalid: {code}");
            };
            let cause = refused.cause().unwrap();
            assert_eq!(cause.code, code);
            assert!(
                cause
                    .witness
                    .as_deref()
                    .is_some_and(|call| call.starts_with(witness)),
                "{cause:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_the_rules_find_in_a_valid_profile_is_told_beside_the_verdict() {
    let bench = Bench::new(&[]);
    for _ in 0..2 {
        let Verdict::Valid(proven) = bench.prove(&deny("mseal")).await else {
            panic!("not valid");
        };
        let newer: Vec<_> = proven
            .findings
            .iter()
            .filter(|finding| finding.code == Code::NewerSyscall)
            .collect();
        let [finding] = &newer[..] else {
            panic!("{:?}", proven.findings);
        };
        assert_eq!(
            (finding.class(), finding.field.as_str()),
            (Class::NotPortable, "spec.syscalls[0].names[0]")
        );
        assert!(finding.message.contains("mseal"), "{}", finding.message);
    }
}

#[tokio::test]
async fn a_name_that_no_call_has_is_invalid_unless_its_author_accepts_it() {
    let bench = Bench::new(&[]);
    let mut spec = deny("opne");
    let refused = bench.prover.read(&spec).unwrap_err();
    let cause = refused.cause().unwrap();
    assert_eq!(
        (cause.code, cause.field.as_str()),
        (Code::UnknownSyscall, "spec.syscalls[0].names[0]")
    );
    assert!(cause.message.contains("did you mean open?"), "{}", cause.message);

    spec["acceptFindings"] = json!(["unknown-syscall"]);
    let Verdict::Valid(proven) = bench.prove(&spec).await else {
        panic!("not valid");
    };
    let accepted: Vec<_> = proven
        .findings
        .iter()
        .filter(|finding| finding.accepted.is_some())
        .collect();
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].code, Code::UnknownSyscall);

    // What does not compile, nobody can accept.
    let mut spec = contradictory();
    spec["acceptFindings"] = json!(["compile-failed"]);
    let refused = bench.prover.read(&spec).unwrap_err();
    assert_eq!(refused.cause().unwrap().code, Code::BadAcceptance);
}

#[tokio::test]
async fn a_profile_under_which_no_container_starts_is_invalid_unless_its_author_knows_a_runtime() {
    let bench = Bench::new(&[]);
    let half = |op: &str| {
        json!({"names": ["execve"], "action": "SCMP_ACT_ERRNO",
               "args": [{"index": 2, "op": op, "value": 0}]})
    };
    // What counts is what the entries come to, not how they are written.
    let mut spec =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [half("SCMP_CMP_EQ"), half("SCMP_CMP_NE")]});
    let Verdict::Invalid(refused) = bench.prove(&spec).await else {
        panic!("not invalid");
    };
    assert_eq!(refused.by, RefusedBy::Rule);
    let cause = refused.cause().unwrap();
    assert_eq!(cause.code, Code::CannotStart);
    assert_eq!(cause.field.as_str(), "spec.syscalls[0].names[0]");

    spec["acceptFindings"] = json!(["cannot-start"]);
    let Verdict::Valid(proven) = bench.prove(&spec).await else {
        panic!("not valid");
    };
    assert!(
        proven
            .findings
            .iter()
            .any(|finding| finding.accepted.is_some() && finding.code == Code::CannotStart)
    );

    spec["syscalls"].as_array_mut().unwrap().pop();
    let Verdict::Valid(proven) = bench.prove(&spec).await else {
        panic!("not valid");
    };
    assert!(
        proven
            .findings
            .iter()
            .all(|finding| finding.code != Code::CannotStart)
    );
}

#[tokio::test]
async fn what_a_filter_answers_to_a_start_comes_out_of_the_child_and_is_told_for_each_runtime() {
    let bench = Bench::new(&[]);
    let list = json!({
        "defaultAction": "SCMP_ACT_KILL",
        "syscalls": [{"names": ["execve", "close", "close_range"], "action": "SCMP_ACT_ALLOW"},
                     {"names": ["mount"], "action": "SCMP_ACT_ERRNO"}],
    });
    // The second answer comes from the cache.
    for _ in 0..2 {
        let Verdict::Valid(proven) = bench.prove(&list).await else {
            panic!("not valid");
        };
        let told = |code, what: &str| {
            proven
                .findings
                .iter()
                .any(|finding| finding.code == code && finding.message.contains(what))
        };
        assert!(told(Code::StartFails, "runc 1.5.2, 1.4.4"));
        assert!(told(Code::StartFails, "runc then hangs"));
        assert!(told(Code::StartFails, "youki 0.7.0 cannot start"));
        assert!(told(Code::NeedsNoNewPrivs, "crun 1.21 and 1.8.1 can start"));
    }
}

/// The names of system calls in the cure that the reference has for a code.
fn calls_of_the_cure(code: Code) -> Vec<String> {
    let text = explain(code);
    // Words of the language that are calls as well stand before the list.
    let start = text.rfind(": ").unwrap();
    let list = text[start..].split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    list.filter(|word| syscalls::lookup(word).is_some())
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn a_profile_to_which_the_cure_is_applied_is_valid_and_has_that_finding_no_more() {
    let bench = Bench::new(&[]);
    let portable = calls_of_the_cure(Code::CannotStart);
    let more = calls_of_the_cure(Code::NeedsNoNewPrivs);
    assert!(portable.len() > 30 && more.len() > 10, "{portable:?} {more:?}");
    let both = [portable.clone(), more].concat();
    for action in [
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL",
        "SCMP_ACT_TRAP",
    ] {
        let list = |names: &[String]| json!({"defaultAction": action, "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]});
        let minimal = ["close".to_owned(), "execve".to_owned()];
        for (code, example, cure) in [
            (Code::CannotStart, &minimal[..1], &portable),
            (Code::StartFails, &minimal, &portable),
            (Code::NeedsNoNewPrivs, &minimal, &both),
            (Code::NeedsNoNewPrivs, &portable, &both),
        ] {
            // As a list, and as the message says it, one finding after the other.
            let told = |verdict: Verdict| -> Option<String> {
                let findings = match verdict {
                    Verdict::Valid(proven) => proven.findings.iter().cloned().collect::<Vec<_>>(),
                    Verdict::Invalid(refused) => refused.findings.iter().cloned().collect(),
                    Verdict::Unknown(reason) => panic!("{reason}"),
                };
                let mut all = findings.into_iter().filter(|finding| finding.code == code);
                all.next().map(|finding| finding.message)
            };
            let mut message = told(bench.prove(&list(example)).await);
            assert!(message.is_some(), "{action}: {code} is not found");
            let cured = [example.to_vec(), cure.clone()].concat();
            let cured: BTreeSet<String> = cured.into_iter().collect();
            let cured: Vec<String> = cured.into_iter().collect();
            let verdict = bench.prove(&list(&cured)).await;
            assert!(matches!(verdict, Verdict::Valid(_)), "{action}: {code}");
            assert_eq!(told(verdict), None, "{action}: {code}");

            let mut names: BTreeSet<String> = example.iter().cloned().collect();
            for _ in 0..20 {
                let Some(text) = message else { break };
                let (before, _) = text.split_once(", which the profile denies").unwrap();
                let mut forms = ["need one or another of ", "needs ", "need "].into_iter();
                let (_, denied) = forms.find_map(|form| before.rsplit_once(form)).unwrap();
                let count = names.len();
                names.extend(denied.split(", ").map(str::to_owned));
                assert!(names.len() > count, "{text}");
                message = told(bench.prove(&list(&Vec::from_iter(names.clone()))).await);
            }
            assert_eq!(message, None, "{action}: {code}, {names:?}");
        }
    }
}

#[tokio::test]
async fn one_verdict_is_told_at_the_place_of_each_document() {
    let bench = Bench::new(&[]);
    let text = contradictory().to_string();
    let bare = bench.prover.read_source(&source_of(&text)).unwrap();
    let object = bench.prover.read(&contradictory()).unwrap();
    assert_eq!(bare.canonical.digest, object.canonical.digest);
    for (read, field) in [(object, "spec.syscalls[1]"), (bare, "syscalls[1]")] {
        let Verdict::Invalid(refused) = bench.prover.prove("team", read).await else {
            panic!("not invalid");
        };
        let cause = refused.cause().unwrap();
        assert!(cause.field.as_str().starts_with(field), "{cause:?}");
    }
}

#[tokio::test]
async fn what_a_rule_finds_in_a_file_has_its_place_there() {
    let text = "{\"defaultAction\": \"SCMP_ACT_ERRNO\",\n \"syscalls\": [{\"names\": [\"read\",\n\"Read\"], \
                \"action\": \"SCMP_ACT_ALLOW\"}]}";
    let source = source_of(text);
    let refused = Bench::new(&[]).prover.read_source(&source).unwrap_err();
    let cause = refused.cause().unwrap();
    assert_eq!(cause.field.as_str(), "syscalls[0].names[1]");
    let place = source.locate(&cause.field).map(|at| (at.line, at.column));
    assert_eq!(place, Some((3, 1)));
}

#[tokio::test]
async fn what_a_rule_refuses_is_known_by_its_bytes_and_nodes_and_what_cannot_be_read_is_not() {
    let bench = Bench::new(&[]);
    let against_rules = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "defaultErrnoRet": 5,
        "nodeSelector": {"zone": "a"},
    });
    let refused = bench.prover.read(&against_rules).unwrap_err();
    assert_eq!(refused.by, RefusedBy::Rule);
    assert_eq!(refused.cause().unwrap().code, Code::ErrnoMisplaced);
    let file = "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"defaultErrnoRet\":5}\n";
    assert_eq!(refused.digest, Some(Digest::of(file.as_bytes())));
    assert_eq!(refused.node_selector.unwrap()["zone"], "a");

    let unreadable = json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrno": 5});
    let refused = bench.prover.read(&unreadable).unwrap_err();
    assert_eq!((refused.by, refused.digest), (RefusedBy::Rule, None));

    for (bench, spec, by) in [
        (&bench, contradictory(), RefusedBy::Rule),
        (&bench, too_large(), RefusedBy::TestLoad),
        (&bench, notifying("/run/a.sock"), RefusedBy::Installation),
    ] {
        let refused = match bench.prover.read(&spec) {
            Ok(read) => match bench.prover.prove("team", read).await {
                Verdict::Invalid(refused) => refused,
                verdict => panic!("{verdict:?}"),
            },
            Err(refused) => refused,
        };
        assert_eq!(refused.by, by);
    }
}

#[tokio::test]
async fn a_listener_is_let_through_beneath_the_directories_of_the_installation_only() {
    let closed = Bench::new(&[]);
    let open = Bench::new(&["/run/agents"]);
    for (bench, listener) in [
        (&closed, "/run/agents/a.sock"),
        (&open, "/run/other/a.sock"),
        (&open, "/run/agents-not/a.sock"),
    ] {
        let refused = bench.prover.read(&notifying(listener)).unwrap_err();
        let cause = refused.cause().unwrap();
        assert_eq!(
            (cause.code, cause.field.as_str()),
            (Code::ListenerNotAllowed, "spec.listenerPath"),
            "{listener}"
        );
        assert!(refused.digest.is_some(), "{listener}");
    }
    let verdict = open.prove(&notifying("/run/agents/a.sock")).await;
    assert!(matches!(verdict, Verdict::Valid(_)), "{verdict:?}");
}

#[tokio::test]
async fn what_is_known_is_answered_without_a_server_and_what_is_unknown_is_asked_again() {
    let bench = Bench::new(&[]);
    assert!(matches!(bench.prove(&deny("mkdir")).await, Verdict::Valid(_)));
    assert!(matches!(bench.prove(&contradictory()).await, Verdict::Invalid(_)));

    bench.take_server();
    let Verdict::Unknown(reason) = bench.prove(&deny("rmdir")).await else {
        panic!("a verdict on a new profile, and no server");
    };
    assert!(reason.contains("fork server"), "{reason}");
    assert!(!bench.prover.is_alive());
    // Nor does one wait for a server that does not start.
    assert!(matches!(bench.prove(&deny("rmdir")).await, Verdict::Unknown(_)));
    assert!(matches!(bench.prove(&deny("mkdir")).await, Verdict::Valid(_)));
    assert!(matches!(bench.prove(&contradictory()).await, Verdict::Invalid(_)));

    bench.give_server();
    let end = Instant::now() + PATIENCE;
    while let Verdict::Unknown(reason) = bench.prove(&deny("rmdir")).await {
        assert!(Instant::now() < end, "still unknown: {reason}");
    }
    assert!(bench.prover.is_alive());
}
