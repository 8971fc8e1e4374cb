//! Test-loads on the real program, the real libseccomp and the real kernel.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "so do tests fail, in helpers as elsewhere"
)]

#[path = "testload/fork_server.rs"]
mod fork_server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use callgate::filter;
use callgate::profile::{Architecture, Canonical, Class, Code, Digest, Finding};
use callgate::testload::{Client, ForkServer, Limits, Verdict};
use fork_server::{PATIENCE, PROGRAM, kill, start_program};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A client, and the process of its first fork server.
fn start(limits: Limits) -> (Client, u32) {
    start_program(Path::new(PROGRAM), limits)
}

fn canonical(profile: &Value) -> Canonical {
    let bytes = serde_json::to_vec(profile).unwrap();
    Canonical {
        digest: Digest::of(&bytes),
        bytes: bytes.into(),
    }
}

fn small() -> Canonical {
    canonical(&json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }],
    }))
}

fn docker_size() -> Value {
    serde_json::from_str(include_str!("data/default.json")).unwrap()
}

/// Two legal entries over which every libseccomp up to 2.6.1 loops for ever.
fn hanging() -> Vec<Canonical> {
    let entry = |conditions: &[(u32, &str, u64)]| {
        let args: Vec<Value> = conditions
            .iter()
            .map(|(index, op, value)| json!({ "index": index, "op": op, "value": value }))
            .collect();
        json!({ "names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": args })
    };
    let profile =
        |entries: &[Value]| canonical(&json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries }));
    vec![
        profile(&[
            entry(&[(0, "SCMP_CMP_NE", 1 << 32), (1, "SCMP_CMP_NE", 1 << 33)]),
            entry(&[
                (0, "SCMP_CMP_NE", 1 << 32),
                (1, "SCMP_CMP_NE", 0xffff_ffff_0000_0000),
            ]),
        ]),
        profile(&[
            entry(&[(1, "SCMP_CMP_LT", 38), (0, "SCMP_CMP_LT", 0xffff_ffff)]),
            entry(&[(0, "SCMP_CMP_LT", 0xffff_ffff), (1, "SCMP_CMP_EQ", 1)]),
            entry(&[(0, "SCMP_CMP_LT", 2)]),
        ]),
    ]
}

fn refused(verdict: Verdict) -> Finding {
    match verdict {
        Verdict::Refused(findings) => findings[0].clone(),
        other => panic!("not refused: {other:?}"),
    }
}

fn is_loaded(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Passed { is_loaded: true, .. })
}

/// Waits for a condition that nobody announces.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The children of a process, zombies included (`proc_pid_children(5)`).
fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed
        .split_whitespace()
        .map(|child| child.parse().unwrap())
        .collect()
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[tokio::test]
async fn a_docker_size_profile_loads_on_one_and_on_three_architectures() {
    let (client, _) = start(Limits::default());
    let mut profile = docker_size();

    let native = filter::native().unwrap();
    let Verdict::Passed {
        is_loaded: true,
        filters: three,
        unknown_names,
        ..
    } = client.test_load("team", &canonical(&profile)).await
    else {
        panic!("three architectures do not load");
    };
    let named: BTreeSet<Architecture> = three.iter().map(|(architecture, _)| *architecture).collect();
    let listed = [native, Architecture::X86_64, Architecture::X86, Architecture::X32];
    assert_eq!(named, listed.into());
    assert!(
        unknown_names.iter().all(|name| name == "mseal"),
        "{unknown_names:?}"
    );

    profile.as_object_mut().unwrap().remove("architectures");
    let Verdict::Passed { filters: one, .. } = client.test_load("team", &canonical(&profile)).await else {
        panic!("one architecture does not load");
    };
    let [(architecture, instructions)] = one[..] else {
        panic!("{one:?}")
    };
    assert_eq!(architecture, native);
    assert!((100..4096).contains(&instructions), "{instructions}");
}

#[tokio::test]
async fn every_action_and_flag_that_the_kernel_has_loads() {
    let (client, _) = start(Limits::default());
    for action in [
        "KILL",
        "KILL_PROCESS",
        "KILL_THREAD",
        "TRAP",
        "ERRNO",
        "TRACE",
        "ALLOW",
        "LOG",
    ]
    .map(|action| format!("SCMP_ACT_{action}"))
    {
        let profile = json!({
            "defaultAction": action,
            "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
            "listenerPath": "/run/agent.sock",
            "syscalls": [{ "names": ["getcwd"], "action": "SCMP_ACT_NOTIFY" }],
        });
        let verdict = client.test_load("team", &canonical(&profile)).await;
        assert!(is_loaded(&verdict), "{action}: {verdict:?}");
    }
    // A flag about listeners it refuses where there is none.
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [{ "names": ["getcwd"], "action": "SCMP_ACT_ERRNO" }],
    });
    let finding = refused(client.test_load("team", &canonical(&profile)).await);
    assert_eq!(finding.class(), Class::Invalid, "{finding:?}");
}

#[tokio::test]
async fn what_no_runtime_can_load_is_refused_with_its_place() {
    let (client, _) = start(Limits::default());
    let deny = |errno: u16, conditions: &[(u32, u64)]| {
        let args: Vec<Value> = conditions
            .iter()
            .map(|(index, value)| json!({ "index": index, "op": "SCMP_CMP_EQ", "value": value }))
            .collect();
        json!({ "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": args })
    };
    let cases = [
        (
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_S390X", "SCMP_ARCH_X86_64"],
            }),
            "architectures",
        ),
        // A special case before the general one: libseccomp cannot keep both.
        (
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [deny(5, &[(0, 1), (1, 1)]), deny(6, &[(0, 1)])],
            }),
            "syscalls[1]",
        ),
    ];
    for (profile, field) in cases {
        let finding = refused(client.test_load("team", &canonical(&profile)).await);
        assert_eq!(finding.class(), Class::Invalid, "{profile}");
        assert!(finding.field.as_str().starts_with(field), "{finding:?}");
    }
}

#[tokio::test]
async fn names_that_libseccomp_does_not_know_are_told() {
    let (client, _) = start(Limits::default());
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["read", "frobnicate"], "action": "SCMP_ACT_ALLOW" }],
    });
    let verdict = client.test_load("team", &canonical(&profile)).await;
    assert!(matches!(verdict, Verdict::Passed { unknown_names, .. } if unknown_names == ["frobnicate"]));
}

#[tokio::test]
async fn bytes_that_are_no_profile_are_refused() {
    let (client, _) = start(Limits::default());
    for bytes in [&b""[..], b"{", b"\0\xff\xfe", b"[]", b"{\"defaultAction\":7}"] {
        let garbage = Canonical {
            digest: Digest::of(bytes),
            bytes: bytes.into(),
        };
        refused(client.test_load("team", &garbage).await);
    }
    assert!(is_loaded(&client.test_load("team", &small()).await));
}

#[tokio::test]
async fn profiles_that_hang_libseccomp_are_refused_while_other_tenants_proceed() {
    let limits = Limits {
        children: 2,
        cpu_seconds: 1,
        wall_seconds: 300,
        ..Limits::default()
    };
    let (client, server) = start(limits);
    let attackers: Vec<_> = hanging()
        .into_iter()
        .chain(hanging())
        .map(|profile| {
            let client = client.clone();
            tokio::spawn(async move { client.test_load("attacker", &profile).await })
        })
        .collect();
    eventually("a child that hangs", || !children(server).is_empty()).await;
    for _ in 0..100 {
        assert!(is_loaded(&client.test_load("neighbour", &small()).await));
    }
    assert!(
        attackers.iter().any(|attacker| !attacker.is_finished()),
        "nothing hung"
    );
    for attacker in attackers {
        let finding = refused(attacker.await.unwrap());
        assert_eq!(finding.code, Code::CompileExhausted);
        assert!(finding.message.contains("more than 1 s"), "{}", finding.message);
    }
}

#[tokio::test]
async fn a_profile_that_is_not_compiled_in_time_without_its_own_doing_is_unknown() {
    let (client, _) = start(Limits {
        cpu_seconds: 60,
        wall_seconds: 1,
        ..Limits::default()
    });
    let verdict = client.test_load("team", &hanging().remove(0)).await;
    assert!(
        matches!(&verdict, Verdict::Unknown(reason) if reason.contains("within 1 s")),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn a_profile_that_needs_more_memory_than_its_limit_is_refused() {
    let (client, _) = start(Limits {
        memory_bytes: 4 << 20,
        ..Limits::default()
    });
    let names = docker_size()["syscalls"][0]["names"].clone();
    let entries: Vec<Value> = (0..100)
        .map(|value: u64| {
            json!({
                "names": names,
                "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 1, "op": "SCMP_CMP_EQ", "value": value << 32 | value }],
            })
        })
        .collect();
    let profile = canonical(&json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": entries }));
    let finding = refused(client.test_load("team", &profile).await);
    assert_eq!(finding.code, Code::CompileExhausted, "{finding:?}");
    assert!(finding.message.contains("memory"), "{}", finding.message);
    assert!(is_loaded(&client.test_load("team", &small()).await));
}

/// The proof gives up before its child runs out of memory or time, so that libseccomp is not blamed for it.
#[tokio::test]
async fn conditions_that_multiply_without_end_are_too_complex_within_the_limits_of_a_child() {
    let (client, _) = start(Limits::default());
    let entries: Vec<Value> = (0..40)
        .map(|bit| {
            let mask = 1_u64 << bit;
            json!({
                "names": ["kill"],
                "action": "SCMP_ACT_ALLOW",
                "args": [
                    { "index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": mask },
                    { "index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": 0 },
                ],
            })
        })
        .collect();
    let profile = canonical(&json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": entries }));
    let finding = refused(client.test_load("team", &profile).await);
    assert_eq!(finding.code, Code::TooComplex, "{finding:?}");
}

#[tokio::test]
async fn a_profile_larger_than_any_canonical_one_is_refused_and_disturbs_nobody() {
    let (client, server) = start(Limits::default());
    let bytes = vec![b' '; Canonical::MAX_BYTES + 1];
    let profile = Canonical {
        digest: Digest::of(&bytes),
        bytes: bytes.into(),
    };
    assert_eq!(
        refused(client.test_load("team", &profile).await).code,
        Code::TooLarge
    );
    let largest = vec![b' '; Canonical::MAX_BYTES];
    let profile = Canonical {
        digest: Digest::of(&largest),
        bytes: largest.into(),
    };
    assert_eq!(
        refused(client.test_load("team", &profile).await).code,
        Code::Syntax
    );
    assert!(Path::new(&format!("/proc/{server}")).exists());
}

#[tokio::test]
async fn ten_thousand_requests_leave_no_descriptor_and_no_process_behind() {
    let (client, server) = start(Limits::default());
    assert!(is_loaded(&client.test_load("team", &small()).await));
    let before = descriptors(server);
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..2_500 {
                    let verdict = client.test_load(&format!("team-{worker}"), &small()).await;
                    assert!(is_loaded(&verdict), "{verdict:?}");
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(children(server), [] as [u32; 0]);
    assert_eq!(descriptors(server), before);
}

#[tokio::test]
async fn children_killed_at_any_point_leave_their_requests_unknown_and_the_server_well() {
    let (client, server) = start(Limits::default());
    let profile = canonical(&docker_size());
    let requests = tokio::spawn({
        let client = client.clone();
        async move {
            let (mut loaded, mut unknown) = (0, 0);
            while unknown < 20 || loaded < 20 {
                match client.test_load("team", &profile).await {
                    Verdict::Passed { .. } => loaded += 1,
                    Verdict::Unknown(_) => unknown += 1,
                    Verdict::Refused(finding) => panic!("{finding:?}"),
                }
            }
        }
    });
    // Every other child dies, each a little later in its life than the one before.
    let mut lives = BTreeMap::new();
    let end = Instant::now() + PATIENCE;
    while !requests.is_finished() {
        assert!(Instant::now() < end, "{} children seen", lives.len());
        for child in children(server) {
            let number = lives.len();
            let (number, looks) = lives.entry(child).or_insert((number, 0));
            if *number % 2 == 0 && *looks >= *number % 16 {
                kill(child);
            }
            *looks += 1;
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    requests.await.unwrap();
    assert!(client.is_alive());
    assert!(is_loaded(&client.test_load("team", &small()).await));
    assert_eq!(children(server), [] as [u32; 0]);
}

#[tokio::test]
async fn a_server_that_dies_leaves_requests_unknown_and_is_started_again() {
    // No limit ends an orphan while this waits for its end, and the one slot is free again.
    let (client, server) = start(Limits {
        children: 1,
        cpu_seconds: 600,
        wall_seconds: 600,
        ..Limits::default()
    });
    let hanging = hanging().remove(0);
    let in_flight = tokio::spawn({
        let client = client.clone();
        async move { client.test_load("team", &hanging).await }
    });
    eventually("a child that hangs", || !children(server).is_empty()).await;
    let orphans = children(server);
    kill(server);

    assert!(matches!(in_flight.await.unwrap(), Verdict::Unknown(_)));
    // This one waits for the next server.
    assert!(is_loaded(&client.test_load("team", &small()).await));
    assert!(client.is_alive());
    for orphan in orphans {
        eventually("the end of an orphan", || {
            fs::read_to_string(format!("/proc/{orphan}/stat")).map_or(true, |stat| stat.contains(") Z "))
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_that_stops_answering_is_not_waited_for_without_end() {
    let (client, server) = start(Limits {
        wall_seconds: 0,
        ..Limits::default()
    });
    kill_process(Pid::from_raw(server.cast_signed()).unwrap(), Signal::STOP).unwrap();
    let verdict = client.test_load("team", &small()).await;
    assert!(
        matches!(&verdict, Verdict::Unknown(reason) if reason.contains("does not answer")),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn who_panics_while_waiting_costs_nobody_else_an_answer() {
    let (client, server) = start(Limits {
        children: 1,
        ..Limits::default()
    });
    for _ in 0..10 {
        let client = client.clone();
        let waits = tokio::spawn(async move {
            let profile = canonical(&docker_size());
            tokio::select! {
                verdict = client.test_load("clumsy", &profile) => panic!("{verdict:?}"),
                () = eventually("its child", || !children(server).is_empty()) => panic!("while it waits"),
            }
        });
        assert!(waits.await.unwrap_err().is_panic());
    }
    assert!(is_loaded(&client.test_load("clumsy", &small()).await));
    assert!(is_loaded(&client.test_load("team", &small()).await));
    assert!(client.is_alive());
}

#[test]
fn a_client_whose_task_is_gone_says_that_nobody_answers() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = runtime();
    let (client, _) = first.block_on(async { start(Limits::default()) });
    assert!(client.is_alive());
    drop(first); // and the task with it, as a panic in it would end it
    assert!(!client.is_alive());
    let verdict = runtime().block_on(client.test_load("team", &small()));
    assert!(
        matches!(&verdict, Verdict::Unknown(reason) if reason.contains("shut down")),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn the_server_ends_with_its_last_client() {
    let (client, server) = start(Limits::default());
    let other = client.clone();
    drop(client);
    assert!(is_loaded(&other.test_load("team", &small()).await));
    drop(other);
    eventually("the end of the server", || {
        !Path::new(&format!("/proc/{server}")).exists()
    })
    .await;
}

#[tokio::test]
async fn the_server_holds_two_descriptors_no_environment_and_no_capability() {
    let (_client, server) = start(Limits::default());
    assert_eq!(descriptors(server), 2);
    assert_eq!(fs::read(format!("/proc/{server}/environ")).unwrap(), b"");
    let status = fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map_or("", |value| value.trim())
            .to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(
        (field("NoNewPrivs:"), field("Seccomp:"), field("Threads:")),
        ("1".into(), "2".into(), "1".into())
    );
}

#[tokio::test]
async fn a_child_that_compiles_has_a_second_filter_no_descriptor_and_its_limits() {
    let (client, server) = start(Limits {
        cpu_seconds: 5,
        // A busy machine gives processor time slowly.
        wall_seconds: 300,
        ..Limits::default()
    });
    let hanging = hanging().remove(0);
    let verdict = tokio::spawn(async move { client.test_load("team", &hanging).await });
    let mut found = String::new();
    eventually("a confined child", || {
        children(server).iter().any(|child| {
            let read = |file: &str| fs::read_to_string(format!("/proc/{child}/{file}")).unwrap_or_default();
            let is_confined = read("status").lines().any(|line| line == "Seccomp_filters:\t2");
            if is_confined {
                assert_eq!(descriptors(*child), 0);
                found = read("limits");
            }
            is_confined
        })
    })
    .await;
    for (limit, soft, hard) in [
        ("Max cpu time", "5", "6"),
        ("Max core file size", "0", "0"),
        ("Max open files", "16", "16"),
        ("Max file size", "1048576", "1048576"),
    ] {
        let line = found.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
        let values: Vec<_> = line.split_whitespace().take(2).collect();
        assert_eq!(values, [soft, hard], "{limit}");
    }
    assert_eq!(refused(verdict.await.unwrap()).code, Code::CompileExhausted);
}

/// The server, spoken to by hand.
struct Bare {
    socket: OwnedFd,
    process: Child,
}

impl Bare {
    fn start(limits: &[u8]) -> Self {
        Self::start_with(limits, |_| {})
    }

    /// With something done to the server's end first.
    fn start_with(limits: &[u8], prepare: impl FnOnce(&OwnedFd)) -> Self {
        let (socket, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        prepare(&theirs);
        let process = Command::new(PROGRAM)
            .arg("fork-server")
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let bare = Self { socket, process };
        bare.send(limits);
        bare
    }

    fn send(&self, packet: &[u8]) {
        // The server may have ended, which the next word shows.
        _ = rustix::net::send(&self.socket, packet, SendFlags::NOSIGNAL);
    }

    /// The next word; empty at the end.
    fn hear(&self) -> String {
        let mut buffer = vec![0; 64 * 1024];
        let (_, length) = rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty()).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn limits() -> Vec<u8> {
    serde_json::to_vec(&Limits::default()).unwrap()
}

#[test]
fn malformed_requests_are_answered_and_the_next_good_one_is_served() {
    let server = Bare::start(&limits());
    assert_eq!(server.hear(), "\"Ready\"");
    for malformed in [&[7][..], &[0; 7], &vec![b'x'; 150 * 1024]] {
        server.send(malformed);
        assert!(server.hear().starts_with("{\"Malformed\":"));
    }
    server.send(&[&9_u64.to_le_bytes()[..], b"no profile"].concat());
    assert!(
        server
            .hear()
            .starts_with("{\"Done\":{\"id\":9,\"outcome\":{\"Refused\"")
    );
    server.send(&[&10_u64.to_le_bytes()[..], &small().bytes].concat());
    assert!(
        server
            .hear()
            .starts_with("{\"Done\":{\"id\":10,\"outcome\":{\"Loaded\"")
    );
}

#[test]
fn a_server_without_sensible_limits_says_why_and_ends() {
    for nonsense in [&b"nonsense"[..], b"{}", &[0; 2000]] {
        let mut server = Bare::start(nonsense);
        assert!(server.hear().starts_with("{\"Broken\":"), "{nonsense:?}");
        assert_eq!(server.hear(), "");
        assert_eq!(server.process.wait().unwrap().code(), Some(1));
    }
}

#[test]
fn an_answer_too_big_for_the_socket_is_unknown_and_the_next_one_arrives() {
    let server = Bare::start_with(&limits(), |socket| {
        rustix::net::sockopt::set_socket_send_buffer_size(socket, 0).unwrap();
    });
    assert_eq!(server.hear(), "\"Ready\"");
    let names: Vec<String> = (0..64)
        .map(|number| format!("{}{number:02}", "x".repeat(62)))
        .collect();
    let wordy = canonical(&json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": [
            "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64",
            "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC64LE",
            "SCMP_ARCH_RISCV64",
        ],
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
    }));
    server.send(&[&1_u64.to_le_bytes()[..], &wordy.bytes].concat());
    let answer = server.hear();
    assert!(
        answer.starts_with("{\"Done\":{\"id\":1,\"outcome\":{\"Unknown\""),
        "{answer}"
    );
    assert!(answer.contains("net.core.wmem_max"), "{answer}");
    server.send(&[&2_u64.to_le_bytes()[..], &small().bytes].concat());
    assert!(
        server
            .hear()
            .starts_with("{\"Done\":{\"id\":2,\"outcome\":{\"Loaded\"")
    );
}

#[test]
fn more_requests_than_children_wait_their_turn() {
    let server = Bare::start(
        &serde_json::to_vec(&Limits {
            children: 1,
            ..Limits::default()
        })
        .unwrap(),
    );
    assert_eq!(server.hear(), "\"Ready\"");
    for id in 0..20_u64 {
        server.send(&[&id.to_le_bytes()[..], &small().bytes].concat());
    }
    for id in 0..20 {
        assert!(
            server.hear().starts_with(&format!("{{\"Done\":{{\"id\":{id},")),
            "{id}"
        );
    }
}

#[test]
fn a_server_started_by_hand_says_that_others_start_it() {
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    for stdin in [Stdio::null(), Stdio::piped(), OwnedFd::from(stream).into()] {
        let output = Command::new(PROGRAM)
            .arg("fork-server")
            .stdin(stdin)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("the other subcommands start it"), "{said}");
    }
}

#[test]
fn a_program_that_is_no_fork_server_is_an_error_that_names_it() {
    let missing = ForkServer::start_program(Path::new("/no/such/program"), Limits::default()).unwrap_err();
    assert!(missing.to_string().contains("/no/such/program"), "{missing}");
    let silent = ForkServer::start_program(Path::new("/bin/true"), Limits::default()).unwrap_err();
    assert!(silent.to_string().contains("did not start"), "{silent}");
}
