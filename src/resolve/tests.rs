use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::profile::{Action, Code, Errno, Findings, SourceDocument};

fn host(caps: &[&str], arch: &str, kernel: &str) -> Host {
    Host {
        capabilities: caps.iter().map(|name| name.parse().unwrap()).collect(),
        architecture: arch.parse().unwrap(),
        kernel: kernel.parse().unwrap(),
    }
}

/// A host on which nothing special holds.
fn plain_host() -> Host {
    host(&[], "amd64", "6.1")
}

/// A profile of these entries.
fn of(entries: &serde_json::Value) -> String {
    json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": entries}).to_string()
}

/// Whether an entry under these filters stands on this host.
fn stands(includes: &serde_json::Value, excludes: &serde_json::Value, host: &Host) -> bool {
    let text = of(&json!([
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": includes, "excludes": excludes}
    ]));
    let resolved = read(&text).unwrap().resolve(host);
    let left_out: usize = resolved.left_out.values().sum();
    assert_eq!(resolved.profile.syscalls.len() + left_out, 1);
    left_out == 0
}

fn refused(text: &str) -> Findings {
    read(text).unwrap_err()
}

/// The text is refused for one thing, said of this field with these words.
fn refused_once(text: &str, code: Code, field: &str, words: &str) {
    let findings = refused(text);
    assert_eq!(findings.total(), 1, "{text}: {findings:?}");
    assert_eq!(
        (findings[0].code, findings[0].field.as_str()),
        (code, field),
        "{text}: {findings:?}"
    );
    assert!(findings[0].message.contains(words), "{}", findings[0].message);
    assert!(findings[0].location.is_some());
}

#[test]
fn an_entry_that_includes_capabilities_stands_with_all_of_them() {
    let both = json!({"caps": ["CAP_BPF", "CAP_PERFMON"]});
    let with = |caps: &[&str]| stands(&both, &json!({}), &host(caps, "amd64", "6.1"));
    assert!(with(&["CAP_BPF", "CAP_PERFMON", "CAP_KILL"]));
    assert!(!with(&["CAP_BPF"]));
    assert!(!with(&[]));
}

#[test]
fn an_entry_that_excludes_capabilities_falls_with_any_of_them() {
    let both = json!({"caps": ["CAP_BPF", "CAP_PERFMON"]});
    let with = |caps: &[&str]| stands(&json!({}), &both, &host(caps, "amd64", "6.1"));
    assert!(with(&[]) && with(&["CAP_KILL"]));
    assert!(!with(&["CAP_BPF"]));
    assert!(!with(&["CAP_BPF", "CAP_PERFMON"]));
}

#[test]
fn an_entry_is_for_any_architecture_that_it_includes_and_none_that_it_excludes() {
    let some = json!({"arches": ["arm64", "x32", "x86"]});
    for (arch, is_some) in [("arm64", true), ("386", true), ("amd64", false), ("arm", false)] {
        let host = host(&[], arch, "6.1");
        assert_eq!(stands(&some, &json!({}), &host), is_some, "{arch}");
        assert_eq!(stands(&json!({}), &some, &host), !is_some, "{arch}");
    }
}

#[test]
fn loongarch_is_called_what_either_program_calls_it() {
    for name in ["loongarch64", "loong64"] {
        let arches = json!({"arches": [name]});
        assert!(stands(&arches, &json!(null), &host(&[], "loong64", "6.1")));
        assert!(!stands(&arches, &json!(null), &host(&[], "riscv64", "6.1")));
    }
}

#[test]
fn an_entry_begins_or_ends_with_a_kernel() {
    let since = json!({"minKernel": "4.8"});
    for (kernel, is_reached) in [
        ("4.7", false),
        ("4.8", true),
        ("4.19.0-rc1", true),
        ("5.0", true),
        ("3.99", false),
    ] {
        let host = host(&[], "amd64", kernel);
        assert_eq!(stands(&since, &json!({}), &host), is_reached, "{kernel}");
        assert_eq!(stands(&json!({}), &since, &host), !is_reached, "{kernel}");
    }
}

#[test]
fn all_conditions_of_both_filters_must_hold_and_the_first_that_does_not_is_counted() {
    let text = of(&json!([
        {"names": ["a"], "action": "SCMP_ACT_ALLOW",
         "includes": {"caps": ["CAP_BPF"], "arches": ["amd64"], "minKernel": "5.0"}, "excludes": {"caps": ["CAP_KILL"]}},
        {"names": ["b"], "action": "SCMP_ACT_ALLOW"},
    ]));
    let source = read(&text).unwrap();
    let left_out = |caps: &[&str], arch: &str, kernel: &str| {
        let resolved = source.resolve(&host(caps, arch, kernel));
        assert_eq!(resolved.profile.syscalls.last().unwrap().names, ["b"]);
        resolved.left_out.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(left_out(&["CAP_BPF"], "amd64", "5.0"), []);
    assert_eq!(
        left_out(&["CAP_BPF", "CAP_KILL"], "amd64", "5.0"),
        [(Obstacle::Capabilities, 1)]
    );
    assert_eq!(
        left_out(&["CAP_BPF"], "arm64", "4.0"),
        [(Obstacle::Architecture, 1)]
    );
    assert_eq!(left_out(&["CAP_BPF"], "amd64", "4.0"), [(Obstacle::Kernel, 1)]);
    assert_eq!(left_out(&[], "arm64", "4.0"), [(Obstacle::Capabilities, 1)]);
}

#[test]
fn of_the_map_of_architectures_the_hosts_own_are_taken() {
    let text = json!({"defaultAction": "SCMP_ACT_ALLOW", "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null},
    ]})
    .to_string();
    let source = read(&text).unwrap();
    let on = |arch: &str| source.resolve(&host(&[], arch, "6.1")).profile.architectures;
    assert_eq!(
        on("amd64"),
        [Architecture::X86_64, Architecture::X86, Architecture::X32]
    );
    assert_eq!(on("riscv64"), [Architecture::Riscv64]);
    assert_eq!(on("arm64"), []);
    assert_eq!(on("386"), []);
    let lacks = |source: &DockerProfile, arch: &str| source.lacks(host(&[], arch, "6.1").architecture);
    assert!(lacks(&source, "arm64") && lacks(&source, "386"));
    assert!(!lacks(&source, "amd64") && !lacks(&source, "riscv64"));
    let without = read(&of(&json!([]))).unwrap();
    assert!(!lacks(&without, "arm64"), "nothing is missing where no map is");
}

#[test]
fn a_name_is_a_list_of_one() {
    let text = of(&json!([{"name": "read", "action": "SCMP_ACT_ALLOW", "args": null}]));
    let profile = read(&text).unwrap().resolve(&plain_host()).profile;
    assert_eq!(profile.syscalls[0].names, ["read"]);
}

#[test]
fn an_errno_by_name_or_in_digits_is_its_number() {
    for (errno, number) in [("ENOSYS", 38), ("EACCES", 13), ("42", 42), ("0", 0)] {
        let text = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": errno, "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": errno},
            {"names": ["write"], "action": "SCMP_ACT_ERRNO", "errno": errno, "errnoRet": number},
            {"names": ["open"], "action": "SCMP_ACT_ERRNO", "errno": ""},
        ]});
        let profile = read(&text.to_string()).unwrap().resolve(&plain_host()).profile;
        let errnos: Vec<_> = profile.syscalls.iter().map(|rule| rule.errno_ret).collect();
        let number = Errno::new(number);
        assert_eq!(profile.default_errno_ret, number);
        assert_eq!(errnos, [number, number, None]);
    }
}

#[test]
fn an_errno_that_two_programs_read_differently_is_refused() {
    let text =
        of(&json!([{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": "ENOSYS", "errnoRet": 1}]));
    refused_once(&text, Code::BadValue, "syscalls[0].errno", "dockerd the second");
    let text = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS", "defaultErrnoRet": 0});
    refused_once(
        &text.to_string(),
        Code::BadValue,
        "defaultErrno",
        "\"ENOSYS\" is 38",
    );
}

#[test]
fn an_errno_by_name_alone_and_a_kernel_in_one_file_are_refused() {
    let entry = |errno: serde_json::Value| {
        let mut lone = json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": "ENOSYS"});
        lone["errnoRet"] = errno;
        of(&json!([lone, {"names": ["write"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}}]))
    };
    refused_once(
        &entry(json!(null)),
        Code::BadValue,
        "syscalls[0].errno",
        "write errnoRet: 38",
    );
    read(&entry(json!(38))).unwrap();
}

#[test]
fn what_dockerd_or_podman_refuses_is_refused() {
    let text = of(&json!([{"name": "read", "names": ["read"], "action": "SCMP_ACT_ALLOW"}]));
    refused_once(&text, Code::BadValue, "syscalls[0].name", "keep names");
    let text = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
        "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]});
    refused_once(&text.to_string(), Code::BadValue, "archMap", "keep one");
    for version in ["", "4", "4.8.1", "0.0", "4.256", "4.8-rc1"] {
        let filter = json!({"minKernel": version});
        let text = of(&json!([{"names": ["read"], "action": "SCMP_ACT_ALLOW", "excludes": filter}]));
        refused_once(&text, Code::BadValue, "syscalls[0].excludes.minKernel", "4.8");
    }
    for errno in ["enosys", "EINTR", "-1"] {
        let text = of(&json!([{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": errno}]));
        refused_once(&text, Code::BadValue, "syscalls[0].errno", "unknown errno");
    }
}

/// A profile whose one entry is left out on amd64, and has this.
fn left_out_with(key: &str, value: serde_json::Value) -> String {
    let mut entry = json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}});
    entry[key] = value;
    of(&json!([entry]))
}

#[test]
fn what_can_only_be_a_mistake_is_refused_even_in_an_entry_that_is_left_out() {
    for (key, value, code, field, words) in [
        (
            "names",
            json!([]),
            Code::MissingKey,
            "syscalls[0].names",
            "required",
        ),
        (
            "action",
            json!("SCMP_ACT_ALOW"),
            Code::BadValue,
            "syscalls[0].action",
            "SCMP_ACT_ALLOW",
        ),
        (
            "include",
            json!({}),
            Code::UnknownKey,
            "syscalls[0].include",
            "includes",
        ),
        (
            "minKernel",
            json!("4.8"),
            Code::UnknownKey,
            "syscalls[0].minKernel",
            "excludes",
        ),
        ("name", json!(7), Code::BadValue, "syscalls[0].name", "keep names"),
        (
            "comment",
            json!(7),
            Code::WrongType,
            "syscalls[0].comment",
            "text",
        ),
        ("errno", json!(38), Code::WrongType, "syscalls[0].errno", "text"),
        (
            "args",
            json!([{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]),
            Code::BadValue,
            "syscalls[0].args[0].index",
            "0 to 5",
        ),
    ] {
        refused_once(&left_out_with(key, value), code, field, words);
    }
}

#[test]
fn a_condition_that_can_only_be_a_mistake_is_refused() {
    for (key, value, code, field, words) in [
        (
            "includes",
            json!([1]),
            Code::WrongType,
            "syscalls[0].includes",
            "an object",
        ),
        (
            "includes",
            json!({"cap": []}),
            Code::UnknownKey,
            "syscalls[0].includes.cap",
            "caps",
        ),
        (
            "includes",
            json!({"caps": "CAP_BPF"}),
            Code::WrongType,
            "syscalls[0].includes.caps",
            "a list",
        ),
        (
            "includes",
            json!({"caps": ["SYS_ADMIN"]}),
            Code::BadValue,
            "syscalls[0].includes.caps[0]",
            "CAP_SYS_ADMIN?",
        ),
        (
            "includes",
            json!({"caps": [7]}),
            Code::WrongType,
            "syscalls[0].includes.caps[0]",
            "text",
        ),
        (
            "includes",
            json!({"arches": ["x86_64"]}),
            Code::BadValue,
            "syscalls[0].includes.arches[0]",
            "amd64?",
        ),
        (
            "includes",
            json!({"arches": ["arm65"]}),
            Code::BadValue,
            "syscalls[0].includes.arches[0]",
            "unknown",
        ),
        (
            "includes",
            json!({"minKernel": 4.8}),
            Code::WrongType,
            "syscalls[0].includes.minKernel",
            "text",
        ),
    ] {
        refused_once(&left_out_with(key, value), code, field, words);
    }
}

#[test]
fn an_entry_must_have_a_name() {
    for (name, code, words) in [
        (json!(7), Code::WrongType, "text"),
        (json!(""), Code::MissingKey, "missing"),
    ] {
        let text = of(&json!([{"name": name, "action": "SCMP_ACT_ALLOW"}]));
        let findings = refused(&text);
        assert_eq!((findings.total(), findings[0].code), (1, code), "{findings:?}");
        assert!(findings[0].message.contains(words));
    }
}

#[test]
fn a_map_of_architectures_that_can_only_be_a_mistake_is_refused() {
    for map in [
        json!({}),
        json!([{}]),
        json!([{"architecture": "SCMP_ARCH_X64"}]),
        json!([{"architecture": "SCMP_ARCH_X86",
        "subArchitectures": "SCMP_ARCH_X32"}]),
        json!([{"architecture": "SCMP_ARCH_ARM"}, {"architecture": "SCMP_ARCH_ARM"}]),
    ] {
        let text = json!({"defaultAction": "SCMP_ACT_ALLOW", "archMap": map}).to_string();
        let findings = refused(&text);
        assert_eq!(findings.total(), 1, "{findings:?}");
        assert!(findings[0].field.as_str().starts_with("archMap"));
    }
}

#[test]
fn every_mistake_is_told_at_once_with_its_line() {
    let text = "{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [\n\
        {\"names\": [\"read\"], \"action\": \"ALLOW\"},\n\
        {\"names\": [\"read\"], \"names\": [], \"action\": \"SCMP_ACT_ALLOW\",\n\
         \"includes\": {\"caps\": [\"CAP_NONE\"]}}]}";
    let findings = refused(text);
    let places: Vec<_> = findings
        .iter()
        .map(|finding| (finding.code, finding.location.unwrap().line))
        .collect();
    assert_eq!(
        places,
        [(Code::DuplicateKey, 3), (Code::BadValue, 4), (Code::BadValue, 2)]
    );
}

#[test]
fn other_documents_and_no_documents_are_told_apart() {
    for (text, code, words) in [
        ("", Code::Syntax, "not JSON"),
        ("[]", Code::WrongType, "an object"),
        ("null", Code::WrongType, "an object"),
        ("{}", Code::MissingKey, "missing"),
        ("{\"syscalls\": []}", Code::MissingKey, "missing"),
        ("defaultAction: SCMP_ACT_ALLOW", Code::Syntax, "not JSON"),
        (
            "apiVersion: callgate.dev/v1alpha1\nkind: SeccompProfile",
            Code::Syntax,
            "put what is under the spec",
        ),
        (
            "{\"apiVersion\": \"v1\", \"kind\": \"List\"}",
            Code::UnknownKey,
            "put what is under the spec",
        ),
        (
            "{\"linux\": {}}",
            Code::UnknownKey,
            "put what is under linux.seccomp",
        ),
    ] {
        let findings = refused(text);
        assert_eq!(
            (findings.total(), findings[0].code),
            (1, code),
            "{text}: {findings:?}"
        );
        assert!(findings[0].message.contains(words), "{}", findings[0].message);
    }
}

#[test]
fn a_value_two_of_zero_is_written_only_where_it_is_compared_with() {
    let text = of(&json!([{"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
        {"index": 0, "value": 1, "valueTwo": 0, "op": "SCMP_CMP_EQ"},
        {"index": 1, "value": 1, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"},
        {"index": 2, "value": 1, "valueTwo": 7, "op": "SCMP_CMP_EQ"},
    ]}]));
    let profile = read(&text).unwrap().resolve(&plain_host()).profile;
    let seconds: Vec<_> = profile.syscalls[0].args.iter().map(|arg| arg.value_two).collect();
    assert_eq!(seconds, [None, Some(0), Some(7)]);
}

#[test]
fn all_that_is_common_to_both_formats_comes_through() {
    let plain = json!({"defaultAction": "SCMP_ACT_TRACE", "defaultErrnoRet": 7,
        "architectures": ["SCMP_ARCH_X86"], "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/run/a.sock",
        "listenerMetadata": "m", "syscalls": [
            {"names": ["mount"], "action": "SCMP_ACT_NOTIFY"},
            {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0,
             "args": [{"index": 5, "value": u64::MAX, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]}]})
    .to_string();
    let source = read(&plain).unwrap();
    assert!(source.is_plain());
    let profile = source.resolve(&plain_host()).profile;
    assert_eq!(profile, Profile::from_canonical(plain.as_bytes()).unwrap());
    assert_eq!(profile.default_action, Action::Trace);
}

#[test]
fn a_file_with_any_key_of_dockers_is_not_plain() {
    for key in ["comment", "includes", "excludes", "errno", "name"] {
        let mut entry = json!({"names": ["read"], "action": "SCMP_ACT_ERRNO"});
        entry[key] = json!(null);
        assert!(!read(&of(&json!([entry]))).unwrap().is_plain(), "{key}");
    }
}

#[test]
fn hostile_text_is_refused_and_no_more() {
    let deep = "[".repeat(100_000);
    let many = of(&json!(vec![json!({"includes": {"caps": ["X", "Y"]}}); 2_000]));
    for text in [deep, many, "{\"syscalls\": ".repeat(500), "\u{feff}{}".to_owned()] {
        let findings = refused(&text);
        assert!(!findings.is_empty() && findings.len() <= Findings::MAX);
    }
}

/// A profile in Docker's format, on a host: some entries apply, some do not.
fn any_source() -> impl Strategy<Value = String> {
    let caps = prop::sample::subsequence(vec!["CAP_BPF", "CAP_KILL", "CAP_CHOWN"], 0..=2);
    let arches = prop::sample::subsequence(vec!["amd64", "arm64", "x32"], 0..=2);
    let kernel = prop::option::of(prop::sample::select(vec!["4.8", "6.1", "6.2"]));
    let filter = (caps, arches, kernel)
        .prop_map(|(caps, arches, kernel)| json!({"caps": caps, "arches": arches, "minKernel": kernel}));
    let entry = (filter.clone(), filter, 0_u8..3).prop_map(|(includes, excludes, name)| {
        json!({"names": [format!("call{name}")], "action": "SCMP_ACT_ALLOW", "includes": includes, "excludes": excludes})
    });
    prop::collection::vec(entry, 0..8).prop_map(|entries| of(&json!(entries)))
}

proptest! {
    #[test]
    fn what_is_resolved_is_plain_and_resolves_to_itself(text in any_source(), caps in any::<bool>()) {
        let caps: &[&str] = if caps { &["CAP_BPF", "CAP_CHOWN"] } else { &[] };
        let source = read(&text).unwrap();
        let resolved = source.resolve(&host(caps, "amd64", "6.1"));
        prop_assert_eq!(resolved.profile.syscalls.len() + resolved.left_out.values().sum::<usize>(), source.entries());
        let bytes = resolved.profile.canonical().unwrap().bytes;
        let again = read(str::from_utf8(&bytes).unwrap()).unwrap();
        prop_assert!(again.is_plain());
        let other = host(&["CAP_KILL"], "arm64", "4.4");
        prop_assert_eq!(again.resolve(&other).profile.canonical().unwrap().bytes, bytes);
    }
}

/// Debian's `golang-github-containers-common` brings this file.
#[test]
fn podmans_profile_breaks_no_rule_once_resolved() {
    let path = "/usr/share/containers/seccomp.json";
    let text = std::fs::read_to_string(path).expect("install it with `make packages`");
    let source = read(&text).unwrap();
    let fatal = |host: &Host| {
        let bytes = source.resolve(host).profile.canonical().unwrap().bytes;
        let documents = crate::profile::read(&bytes);
        let [SourceDocument::Profile(profile)] = documents.as_slice() else {
            panic!("{documents:?}");
        };
        profile.spec.as_ref().err().cloned().unwrap_or_default()
    };
    for caps in [&[][..], &["CAP_SYS_ADMIN"]] {
        for arch in HostArchitecture::all() {
            let findings = fatal(&host(caps, &arch.to_string(), "6.1"));
            assert!(findings.is_empty(), "{arch} {caps:?}: {findings:?}");
        }
    }
}
