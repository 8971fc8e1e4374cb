//! `callgate resolve` against dockerd's own code, on its own profile, on Podman's, and on generated ones.
//!
//! tests/runtimes/moby is that code as a program. What it makes of a profile for one host and container must be what
//! Callgate makes of it, to the byte of the canonical form; what it refuses, Callgate must refuse.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on says where"
)]

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use callgate::profile::Profile;
use callgate::resolve::{Capability, Host, read};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Of `golang-github-containers-common`.
const PODMAN: &str = "/usr/share/containers/seccomp.json";
/// Kubernetes' name of an architecture, and dockerd's.
const ARCHITECTURES: [(&str, &str); 8] = [
    ("386", "x86"),
    ("amd64", "amd64"),
    ("arm", "arm"),
    ("arm64", "arm64"),
    ("loong64", "loongarch64"),
    ("ppc64le", "ppc64le"),
    ("riscv64", "riscv64"),
    ("s390x", "s390x"),
];
const KERNELS: [&str; 4] = ["3.10.0-1160.el7.x86_64", "4.7.10", "4.8.0", "6.1.0-18-amd64"];

/// dockerd's resolver.
struct Moby {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Moby {
    fn start() -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runtimes/bin/moby");
        let mut process = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; run tests/runtimes/build", program.display()));
        Self {
            requests: process.stdin.take().unwrap(),
            answers: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    /// What it answers, or why it refuses.
    fn ask(&mut self, request: &Value) -> Result<Value, String> {
        writeln!(self.requests, "{request}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["profile"].take()),
        }
    }

    /// The profile that it brings along.
    fn default(&mut self) -> Value {
        self.ask(&json!({"default": true})).unwrap()
    }

    fn resolve(&mut self, profile: &Value, on: &On) -> Result<Value, String> {
        self.ask(&json!({"arch": on.arch.1, "kernel": on.kernel, "caps": on.caps, "profile": profile}))
    }
}

impl Drop for Moby {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A host, and a container on it.
#[derive(Debug, Clone)]
struct On {
    arch: (&'static str, &'static str),
    kernel: &'static str,
    caps: Vec<&'static str>,
}

impl On {
    fn host(&self) -> Host {
        Host {
            capabilities: self.caps.iter().map(|name| name.parse().unwrap()).collect(),
            architecture: self.arch.0.parse().unwrap(),
            kernel: self.kernel.parse().unwrap(),
        }
    }
}

/// None, those of containerd and Docker, those of CRI-O, some that open much, and all.
fn capability_sets() -> [Vec<&'static str>; 5] {
    let cri_o = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_KILL",
    ];
    [
        Vec::new(),
        Capability::DEFAULT.map(Capability::as_str).to_vec(),
        cri_o.to_vec(),
        vec!["CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_PTRACE", "CAP_AUDIT_WRITE"],
        Capability::all().map(Capability::as_str).collect(),
    ]
}

fn every_host() -> impl Iterator<Item = On> {
    let kernels = || KERNELS.into_iter();
    let on_kernels = move |arch| kernels().map(move |kernel| (arch, kernel));
    ARCHITECTURES
        .into_iter()
        .flat_map(on_kernels)
        .flat_map(|(arch, kernel)| capability_sets().map(|caps| On { arch, kernel, caps }))
}

/// The bytes of its file, if the profile can be resolved.
fn ours(profile: &Value, on: &On) -> Result<Vec<u8>, String> {
    let source = read(&profile.to_string()).map_err(|findings| format!("{findings:?}"))?;
    let resolved = source.resolve(&on.host()).profile;
    Ok(resolved.canonical().unwrap().bytes.to_vec())
}

/// The same of what dockerd hands to a runtime.
fn theirs(moby: &mut Moby, profile: &Value, on: &On) -> Result<Vec<u8>, String> {
    let resolved = moby.resolve(profile, on)?;
    let read = Profile::from_canonical(resolved.to_string().as_bytes()).unwrap();
    Ok(read.canonical().unwrap().bytes.to_vec())
}

fn assert_same_everywhere(moby: &mut Moby, profile: &Value) {
    let mut results = std::collections::BTreeSet::new();
    for on in every_host() {
        let bytes = ours(profile, &on).unwrap();
        assert!(bytes == theirs(moby, profile, &on).unwrap(), "{on:?}");
        results.insert(bytes);
    }
    assert!(results.len() > 10, "hosts and capabilities make no difference");
}

#[test]
fn dockers_profile_is_resolved_as_dockerd_does() {
    let mut moby = Moby::start();
    let profile = moby.default();
    assert_same_everywhere(&mut moby, &profile);
}

/// Its errnos stand by number beside each name, and it has no `minKernel`: to dockerd, Podman and CRI-O it means the same.
#[test]
fn podmans_profile_is_resolved_as_dockerd_does() {
    let text = std::fs::read_to_string(PODMAN).expect("install it with tests/packages");
    assert_same_everywhere(&mut Moby::start(), &serde_json::from_str(&text).unwrap());
}

#[test]
fn what_dockerd_refuses_is_refused() {
    let mut moby = Moby::start();
    let on = every_host().next().unwrap();
    let of = |entry: Value| json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [entry]});
    let kernel = |version: Value| {
        of(json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": version}}))
    };
    let mut profiles = vec![
        of(json!({"name": "read", "names": ["read"], "action": "SCMP_ACT_ALLOW"})),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
            "archMap": [{"architecture": "SCMP_ARCH_X86_64"}], "syscalls": []}),
    ];
    profiles.extend(
        [
            json!("4"),
            json!("4.8.1"),
            json!("0.0"),
            json!("4.256"),
            json!("v4.8"),
            json!(4.8),
        ]
        .map(kernel),
    );
    for profile in profiles {
        moby.resolve(&profile, &on).unwrap_err();
        ours(&profile, &on).unwrap_err();
    }
}

fn any_filter() -> impl Strategy<Value = Value> {
    let caps = prop::sample::subsequence(vec!["CAP_SYS_ADMIN", "CAP_BPF", "CAP_KILL"], 0..=2);
    let arches = prop::sample::subsequence(
        vec![
            "amd64",
            "arm64",
            "arm",
            "x86",
            "x32",
            "s390x",
            "loongarch64",
            "ppc64le",
        ],
        0..=3,
    );
    let kernel = prop::option::of(prop::sample::select(vec![
        "3.10", "4.8", "4.10", "6.1", "6.2", "255.255",
    ]));
    let filter = (caps, arches, kernel)
        .prop_map(|(caps, arches, kernel)| json!({"caps": caps, "arches": arches, "minKernel": kernel}));
    prop_oneof![1 => Just(json!(null)), 1 => Just(json!({})), 4 => filter]
}

fn any_entry() -> impl Strategy<Value = Value> {
    let condition =
        (0_u8..6, any::<u64>(), 0_u64..3, any::<bool>()).prop_map(|(index, value, second, masked)| {
            let op = if masked {
                "SCMP_CMP_MASKED_EQ"
            } else {
                "SCMP_CMP_GE"
            };
            // What a Go program does not write, it reads as 0.
            let second = if masked { second + 1 } else { second };
            json!({"index": index, "value": value, "valueTwo": second, "op": op})
        });
    let name = prop::sample::select(vec!["read", "write", "clone", "bpf"]);
    let action = prop::sample::select(vec!["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_LOG"]);
    (
        any::<bool>(),
        prop::collection::vec(name, 1..4),
        action,
        prop::option::of(0_u16..=4094),
        prop::collection::vec(condition, 0..3),
        any_filter(),
        any_filter(),
    )
        .prop_map(|(is_old, names, action, errno, args, includes, excludes)| {
            let mut entry = json!({"action": action, "errnoRet": errno, "args": args, "includes": includes,
                "excludes": excludes, "comment": "c"});
            if is_old {
                entry["name"] = json!(names[0]);
            } else {
                entry["names"] = json!(names);
            }
            entry
        })
}

fn any_profile() -> impl Strategy<Value = Value> {
    let architecture = || {
        prop::sample::select(vec![
            "SCMP_ARCH_X86_64",
            "SCMP_ARCH_X86",
            "SCMP_ARCH_AARCH64",
            "SCMP_ARCH_ARM",
            "SCMP_ARCH_S390X",
            "SCMP_ARCH_LOONGARCH64",
        ])
    };
    let others = || prop::collection::vec(architecture(), 0..3);
    let arch_map =
        prop::collection::btree_map(architecture(), prop::option::of(others()), 0..4).prop_map(|map| {
            let rows = map.into_iter();
            rows.map(|(native, others)| json!({"architecture": native, "subArchitectures": others}))
                .collect::<Value>()
        });
    let architectures = prop_oneof![
        arch_map.prop_map(|map| json!({"archMap": map})),
        others().prop_map(|list| json!({"architectures": list, "archMap": []})),
    ];
    let errno = prop::option::of(0_u16..=4094);
    (architectures, prop::collection::vec(any_entry(), 0..6), errno).prop_map(
        |(mut profile, entries, errno)| {
            profile["defaultAction"] = json!("SCMP_ACT_ERRNO");
            profile["defaultErrnoRet"] = json!(errno);
            profile["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG"]);
            profile["syscalls"] = json!(entries);
            profile
        },
    )
}

fn any_host() -> impl Strategy<Value = On> {
    let capabilities =
        prop::sample::subsequence(vec!["CAP_SYS_ADMIN", "CAP_BPF", "CAP_KILL", "CAP_CHOWN"], 0..=4);
    (
        prop::sample::select(ARCHITECTURES.to_vec()),
        prop::sample::select(KERNELS.to_vec()),
        capabilities,
    )
        .prop_map(|(arch, kernel, caps)| On { arch, kernel, caps })
}

#[test]
fn generated_profiles_are_resolved_as_dockerd_does() {
    let moby = RefCell::new(Moby::start());
    let config = ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(profile in any_profile(), on in any_host())| {
        let theirs = theirs(&mut moby.borrow_mut(), &profile, &on).unwrap();
        let ours = ours(&profile, &on).unwrap();
        prop_assert_eq!(String::from_utf8(ours).unwrap(), String::from_utf8(theirs).unwrap());
    });
}
