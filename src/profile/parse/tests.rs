//! What an object and an OCI file may hold, and what is said of everything else.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::profile::document::read_json;
use crate::profile::parse_spec;

/// Code, path and message of everything found in an object.
#[track_caller]
fn refused(spec: &serde_json::Value) -> Vec<(Code, String, String)> {
    let findings = parse_spec(spec).unwrap_err();
    findings
        .into_iter()
        .map(|finding| (finding.code, finding.field.to_string(), finding.message))
        .collect()
}

/// An object with one entry, in which `key` has this value.
fn with_rule(key: &str, value: serde_json::Value) -> serde_json::Value {
    let mut rule = json!({"names": ["read"], "action": "SCMP_ACT_ERRNO"});
    rule[key] = value;
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
}

fn with_condition(key: &str, value: serde_json::Value) -> serde_json::Value {
    let mut condition = json!({"index": 0, "value": 1, "op": "SCMP_CMP_EQ"});
    condition[key] = value;
    with_rule("args", json!([condition]))
}

#[track_caller]
fn refused_once(spec: &serde_json::Value, code: Code, field: &str, part: &str) {
    let findings = refused(spec);
    assert_eq!(findings.len(), 1, "{findings:?}");
    let (found, path, message) = &findings[0];
    assert_eq!((*found, path.as_str()), (code, field), "{message}");
    assert!(message.contains(part), "{message}");
}

fn oci(text: &str) -> Result<Profile, Findings> {
    Profile::from_canonical(text.as_bytes())
}

#[test]
fn every_field_of_an_object_is_read() {
    let spec = parse_spec(&json!({
        "defaultAction": "SCMP_ACT_TRACE",
        "defaultErrnoRet": 0,
        "architectures": ["SCMP_ARCH_AARCH64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": "/run/a.sock",
        "listenerMetadata": "",
        "syscalls": [
            {"names": ["mount"], "action": "SCMP_ACT_NOTIFY"},
            {"names": ["read", "write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4094, "args": [
                {"index": 5, "value": "18446744073709551615", "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"},
                {"index": 0, "value": 9_223_372_036_854_775_807_u64, "op": "SCMP_CMP_GE"},
            ]},
        ],
        "nodeSelector": {"kubernetes.io/os": "linux", "empty": ""},
        "acceptFindings": ["masked-eq-youki"],
    }))
    .unwrap();
    let profile = &spec.profile;
    assert_eq!(profile.default_action, Action::Trace);
    assert_eq!(profile.default_errno_ret.unwrap().get(), 0);
    assert_eq!(profile.architectures.len() + profile.flags.len(), 2);
    assert_eq!(profile.listener_path.as_deref(), Some("/run/a.sock"));
    assert_eq!(profile.listener_metadata.as_deref(), Some(""));
    assert_eq!(profile.syscalls[1].names, ["read", "write"]);
    assert_eq!(profile.syscalls[1].errno_ret.unwrap().get(), 4094);
    let args = &profile.syscalls[1].args;
    assert_eq!(
        (args[0].index, args[0].value, args[0].value_two),
        (5, u64::MAX, Some(0))
    );
    assert_eq!(
        (args[1].value, args[1].value_two),
        (i64::MAX.unsigned_abs(), None)
    );
    assert_eq!(spec.node_selector["kubernetes.io/os"], "linux");
    assert_eq!(spec.accept_findings, ["masked-eq-youki"]);
}

#[test]
fn all_mistakes_are_found_at_once() {
    let findings = refused(&json!({
        "defaultAction": "ALLOW",
        "architectures": "SCMP_ARCH_X86",
        "archMap": [],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": -1, "arg": []},
            {"action": 1, "args": [{"index": 6, "value": 1.5}]},
        ],
    }));
    let found: Vec<_> = findings
        .iter()
        .map(|(code, field, _)| (code.as_str(), field.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("docker-format", "spec.archMap"),
            ("bad-value", "spec.defaultAction"),
            ("wrong-type", "spec.architectures"),
            ("unknown-key", "spec.syscalls[0].arg"),
            ("bad-value", "spec.syscalls[0].errnoRet"),
            ("missing-key", "spec.syscalls[1].names"),
            ("wrong-type", "spec.syscalls[1].action"),
            ("missing-key", "spec.syscalls[1].args[0].op"),
            ("bad-value", "spec.syscalls[1].args[0].index"),
            ("bad-value", "spec.syscalls[1].args[0].value"),
        ]
    );
}

#[test]
fn what_is_no_object_is_refused() {
    for value in [
        json!(null),
        json!([]),
        json!("SCMP_ACT_ALLOW"),
        json!(1),
        json!(true),
    ] {
        refused_once(
            &value,
            Code::WrongType,
            "spec",
            "an object that has defaultAction",
        );
    }
    refused_once(&json!({}), Code::MissingKey, "spec.defaultAction", "missing");
}

#[test]
fn keys_are_exact() {
    refused_once(
        &with_rule("arg", json!([])),
        Code::UnknownKey,
        "spec.syscalls[0].arg",
        "did you mean args?",
    );
    refused_once(
        &with_condition("valuetwo", json!(1)),
        Code::UnknownKey,
        "spec.syscalls[0].args[0].valuetwo",
        "valueTwo",
    );
    let spec = json!({"defaultAction": "SCMP_ACT_ALLOW", "Syscalls": []});
    refused_once(&spec, Code::UnknownKey, "spec.Syscalls", "did you mean syscalls?");
    let spec = json!({"defaultAction": "SCMP_ACT_ALLOW", "<<": {"syscalls": []}});
    refused_once(&spec, Code::UnknownKey, "spec[\"<<\"]", "merge");
    let spec = json!({"defaultAction": "SCMP_ACT_ALLOW", "x\ny": 1});
    refused_once(&spec, Code::UnknownKey, "spec[\"x\\ny\"]", "the keys are");
}

#[test]
fn keys_of_dockers_format_say_what_to_write() {
    for (key, value, cure) in [
        ("includes", json!({"arches": ["amd64"]}), "remove the entry"),
        ("excludes", json!({"caps": ["CAP_SYS_ADMIN"]}), "remove the entry"),
        ("minKernel", json!("4.8"), "remove the entry"),
        ("errno", json!("EPERM"), "errnoRet"),
        ("includes", json!({}), "includes (once); remove them"),
        ("excludes", json!(null), "excludes (once); remove them"),
        ("comment", json!("why"), "comment (once); remove them"),
    ] {
        refused_once(
            &with_rule(key, value),
            Code::DockerFormat,
            &format!("spec.syscalls[0].{key}"),
            cure,
        );
    }
    for (key, value, cure) in [
        (
            "archMap",
            json!([{"architecture": "SCMP_ARCH_X86_64"}]),
            "architectures",
        ),
        ("archMap", json!([]), "remove them"),
        ("defaultErrno", json!("ENOSYS"), "defaultErrnoRet"),
    ] {
        let mut spec = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        spec[key] = value;
        refused_once(&spec, Code::DockerFormat, &format!("spec.{key}"), cure);
    }
    let old = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "read", "action": "SCMP_ACT_ERRNO"}]});
    refused_once(&old, Code::DockerFormat, "spec.syscalls[0].name", "write names");
}

#[test]
fn each_key_of_dockers_format_is_one_finding_in_the_order_of_the_document() {
    let entry = |n: u32| {
        json!({
            "names": ["read"],
            "action": "SCMP_ACT_ALLOW",
            "comment": "",
            "includes": {"caps": [format!("CAP_{n}")]},
            "excludes": {"minKernel": "4.8"},
        })
    };
    let mut spec = json!({"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture": "SCMP_ARCH_ARM"}]});
    spec["syscalls"] = (0..200).map(entry).collect();
    spec["syscalls"][100]["lable"] = json!(1);
    let findings = parse_spec(&spec).unwrap_err();
    let found: Vec<_> = findings
        .iter()
        .map(|finding| (finding.code.as_str(), finding.field.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("docker-format", "spec.archMap"),
            ("docker-format", "spec.syscalls[0].comment"),
            ("docker-format", "spec.syscalls[0].excludes"),
            ("docker-format", "spec.syscalls[0].includes"),
            ("unknown-key", "spec.syscalls[100].lable"),
        ]
    );
    assert!(
        findings[3].message.contains("stands 200 times"),
        "{}",
        findings[3].message
    );
    for finding in [&findings[0], &findings[2], &findings[3]] {
        assert!(
            finding
                .message
                .contains("put what is under spec into a file of its own, as JSON, and let callgate resolve"),
            "{}",
            finding.message
        );
    }
}

#[test]
fn a_label_selector_is_no_node_selector() {
    for (key, value) in [
        ("matchLabels", json!({"kubernetes.io/arch": "arm64"})),
        ("matchExpressions", json!([{"key": "a", "operator": "Exists"}])),
    ] {
        let spec = json!({"defaultAction": "SCMP_ACT_ALLOW", "nodeSelector": {key: value}});
        let field = format!("spec.nodeSelector.{key}");
        refused_once(
            &spec,
            Code::WrongType,
            &field,
            "nodeSelector is a map of labels itself",
        );
    }
    let label = json!({"defaultAction": "SCMP_ACT_ALLOW", "nodeSelector": {"matchLabels": "yes"}});
    parse_spec(&label).unwrap();
}

#[test]
fn what_says_nothing_in_dockers_format_is_one_finding_where_it_first_stands() {
    let entry = |n: u32| {
        format!(
            "{{\"names\": [\"read\"], \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": {n}, \"errno\": \"EPERM\",\n\
             \"args\": [], \"comment\": \"\", \"includes\": {{}}, \"excludes\": {{}}}}"
        )
    };
    let with_meaning = "{\"names\": [\"bpf\"], \"action\": \"SCMP_ACT_ALLOW\",\n\"includes\": {\"caps\": [\"CAP_BPF\"]}, \
                        \"excludes\": {}, \"lable\": 1}";
    let text = format!(
        "{{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 38,\n\"defaultErrno\": \"ENOSYS\", \
         \"syscalls\": [\n{with_meaning},\n{}]}}",
        (0..40).map(entry).collect::<Vec<_>>().join(",\n")
    );
    let found: Vec<_> = oci(&text)
        .unwrap_err()
        .into_iter()
        .map(|finding| {
            (
                finding.code,
                finding.field.to_string(),
                finding.location.unwrap().line,
                finding.message,
            )
        })
        .collect();
    assert_eq!(found.len(), 3, "{found:?}");
    let (code, field, line, message) = &found[0];
    assert_eq!(
        (*code, field.as_str(), *line),
        (Code::DockerFormat, "defaultErrno", 2)
    );
    for part in [
        "comment (40 times)",
        "defaultErrno (once)",
        "errno (40 times)",
        "excludes (41 times)",
        "includes (40 times)",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert_eq!(
        (found[1].0, found[1].1.as_str(), found[1].2),
        (Code::DockerFormat, "syscalls[0].includes", 4)
    );
    assert_eq!(
        (found[2].0, found[2].1.as_str()),
        (Code::UnknownKey, "syscalls[0].lable")
    );
}

#[test]
fn a_document_full_of_unknown_keys_is_counted_to_the_last_and_listed_to_a_limit() {
    const KEYS: usize = 60_000;
    let keys: Vec<String> = (0..KEYS).map(|n| format!("\"defaultActio{n}\": 0")).collect();
    let findings = oci(&format!(
        "{{\"defaultAction\": \"SCMP_ACT_ALLOW\", {}}}",
        keys.join(",")
    ))
    .unwrap_err();
    assert_eq!(
        (findings.len(), findings.unlisted()),
        (Findings::MAX, KEYS - Findings::MAX)
    );
}

#[test]
fn an_explicit_null_is_no_absent_value() {
    for key in ["names", "action", "errnoRet", "args"] {
        let field = format!("spec.syscalls[0].{key}");
        refused_once(
            &with_rule(key, json!(null)),
            Code::WrongType,
            &field,
            "found null; leave the key out",
        );
    }
    for key in ["index", "value", "valueTwo", "op"] {
        let field = format!("spec.syscalls[0].args[0].{key}");
        refused_once(
            &with_condition(key, json!(null)),
            Code::WrongType,
            &field,
            "found null",
        );
    }
    for key in [
        "defaultErrnoRet",
        "architectures",
        "flags",
        "listenerPath",
        "listenerMetadata",
        "syscalls",
        "nodeSelector",
        "acceptFindings",
    ] {
        let mut spec = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        spec[key] = json!(null);
        refused_once(&spec, Code::WrongType, &format!("spec.{key}"), "found null");
    }
}

#[test]
fn an_unknown_name_finds_its_neighbour_or_the_list() {
    refused_once(
        &with_rule("action", json!("SCMP_ACT_ERNO")),
        Code::BadValue,
        "spec.syscalls[0].action",
        "did you mean SCMP_ACT_ERRNO?",
    );
    refused_once(
        &with_rule("action", json!("")),
        Code::BadValue,
        "spec.syscalls[0].action",
        "SCMP_ACT_KILL, ",
    );
    refused_once(
        &with_condition("op", json!("==")),
        Code::BadValue,
        "spec.syscalls[0].args[0].op",
        "SCMP_CMP_NE, ",
    );
    let spec = |key: &str, value: &str| json!({"defaultAction": "SCMP_ACT_ALLOW", key: [value]});
    refused_once(
        &spec("architectures", "x86_64"),
        Code::BadValue,
        "spec.architectures[0]",
        "SCMP_ARCH_X86_64?",
    );
    for (other, name) in [
        ("amd64", "SCMP_ARCH_X86_64"),
        ("SCMP_ARCH_X64", "SCMP_ARCH_X86_64"),
        ("SCMP_ARCH_AMD64", "SCMP_ARCH_X86_64"),
        ("i686", "SCMP_ARCH_X86"),
        ("arm64", "SCMP_ARCH_AARCH64"),
        ("SCMP_ARCH_ARM64", "SCMP_ARCH_AARCH64"),
        ("armv7l", "SCMP_ARCH_ARM"),
        ("mips64el", "SCMP_ARCH_MIPSEL64"),
        ("ppc64el", "SCMP_ARCH_PPC64LE"),
        ("loong64", "SCMP_ARCH_LOONGARCH64"),
    ] {
        refused_once(
            &spec("architectures", other),
            Code::BadValue,
            "spec.architectures[0]",
            &format!("did you mean {name}?"),
        );
    }
    refused_once(
        &spec("architectures", "SCMP_ARCH_NATIVE"),
        Code::BadValue,
        "spec.architectures[0]",
        "always holds the native",
    );
    refused_once(
        &spec("flags", "SECCOMP_FILTER_FLAG_NEW_LISTENER"),
        Code::BadValue,
        "spec.flags[0]",
        "SECCOMP_FILTER_FLAG_LOG",
    );
}

#[test]
fn numbers_keep_their_range() {
    for (key, max) in [("errnoRet", 4094), ("index", 5)] {
        let (spec, field): (fn(&str, serde_json::Value) -> _, _) = match key {
            "index" => (with_condition, "spec.syscalls[0].args[0].index"),
            _ => (with_rule, "spec.syscalls[0].errnoRet"),
        };
        parse_spec(&spec(key, json!(max))).unwrap();
        for value in [
            json!(max + 1),
            json!(-1),
            json!(65541),
            json!(4_294_967_296_u64),
            json!(u64::MAX),
        ] {
            refused_once(
                &spec(key, value),
                Code::BadValue,
                field,
                &format!("from 0 to {max}"),
            );
        }
        refused_once(
            &spec(key, json!(1.0)),
            Code::BadValue,
            field,
            "1.0 is not written as an integer",
        );
        refused_once(
            &spec(key, json!("1")),
            Code::WrongType,
            field,
            "found the text \"1\"",
        );
    }
}

#[test]
fn a_value_of_an_object_is_what_the_api_server_keeps() {
    let field = "spec.syscalls[0].args[0].value";
    let value = |value: serde_json::Value| {
        parse_spec(&with_condition("value", value)).map(|spec| spec.profile.syscalls[0].args[0].value)
    };
    assert_eq!(value(json!(i64::MAX)), Ok(i64::MAX.unsigned_abs()));
    assert_eq!(value(json!("0xffffffffffffffff")), Ok(u64::MAX));
    for (written, part) in [
        (
            json!(9_223_372_036_854_775_808_u64),
            "write it in quotes, \"9223372036854775808\"",
        ),
        (json!(-1), "out of range"),
        (json!(2.0), "without fraction"),
        (json!(1e30), "not written as an integer"),
        (
            json!("18446744073709551616"),
            "write an integer from 0 to 9223372036854775807, or a string",
        ),
        (json!("010"), "no unsigned 64-bit number"),
        (json!("x".repeat(1_000_000)), "…"),
    ] {
        refused_once(&with_condition("value", written), Code::BadValue, field, part);
    }
    refused_once(
        &with_condition("value", json!(true)),
        Code::WrongType,
        field,
        "found the boolean true",
    );
}

#[test]
fn a_value_of_an_oci_file_is_an_integer() {
    let profile = |value: &str| {
        oci(&format!(
            "{{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{{\"names\": [\"read\"], \
             \"action\": \"SCMP_ACT_LOG\", \"args\": [{{\"index\": 0, \"op\": \"SCMP_CMP_EQ\", \"value\": {value}}}]}}]}}"
        ))
    };
    assert_eq!(
        profile("18446744073709551615").unwrap().syscalls[0].args[0].value,
        u64::MAX
    );
    for (value, code, part) in [
        (
            "18446744073709551616",
            Code::BadValue,
            "18446744073709551616 is out of range",
        ),
        ("-1", Code::BadValue, "out of range"),
        ("2.0", Code::BadValue, "2.0 is not written as an integer"),
        ("2e0", Code::BadValue, "2e0 is not written as an integer"),
        ("\"2\"", Code::WrongType, "found the text \"2\""),
    ] {
        let findings = profile(value).unwrap_err();
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].code, code, "{value}");
        assert_eq!(findings[0].field.as_str(), "syscalls[0].args[0].value");
        assert!(findings[0].message.contains(part), "{}", findings[0].message);
        assert_eq!(findings[0].location.unwrap().line, 1);
    }
}

#[test]
fn an_oci_file_has_no_fields_of_a_manifest() {
    for key in ["nodeSelector", "acceptFindings"] {
        let findings = oci(&format!(
            "{{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"{key}\": {{}}}}"
        ))
        .unwrap_err();
        assert_eq!(
            (findings[0].code, findings[0].field.as_str()),
            (Code::UnknownKey, key)
        );
    }
}

#[test]
fn a_repeated_key_is_refused_where_it_stands_again() {
    let text = "{\"defaultAction\": \"SCMP_ACT_ALLOW\",\n \"defaultAction\": \"SCMP_ACT_LOG\"}";
    let findings = oci(text).unwrap_err();
    assert_eq!(findings.len(), 1);
    assert_eq!(
        (findings[0].code, findings[0].field.as_str()),
        (Code::DuplicateKey, "defaultAction")
    );
    assert_eq!(findings[0].location.map(|at| (at.line, at.column)), Some((2, 2)));
}

#[test]
fn lists_are_bounded() {
    let rule = json!({"names": ["read"], "action": "SCMP_ACT_LOG"});
    let spec = |count| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": vec![rule.clone(); count]});
    parse_spec(&spec(MAX_RULES)).unwrap();
    refused_once(
        &spec(MAX_RULES + 1),
        Code::TooLarge,
        "spec.syscalls",
        "1025 items, and at most 1024",
    );

    parse_spec(&with_rule("names", json!(vec!["read"; MAX_NAMES]))).unwrap();
    refused_once(
        &with_rule("names", json!(vec!["read"; MAX_NAMES + 1])),
        Code::TooLarge,
        "spec.syscalls[0].names",
        "1024",
    );

    let condition = json!({"index": 0, "value": 1, "op": "SCMP_CMP_EQ"});
    let args = vec![condition; MAX_CONDITIONS + 1];
    refused_once(
        &with_rule("args", json!(args)),
        Code::TooLarge,
        "spec.syscalls[0].args",
        "at most 6",
    );
}

#[test]
fn labels_and_codes_are_checked_as_kubernetes_does() {
    let spec =
        |selector: serde_json::Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "nodeSelector": selector});
    refused_once(
        &spec(json!({"a b": "x"})),
        Code::BadValue,
        "spec.nodeSelector[\"a b\"]",
        "no label key",
    );
    refused_once(
        &spec(json!({"a": "x y"})),
        Code::BadValue,
        "spec.nodeSelector.a",
        "no label value",
    );
    refused_once(
        &spec(json!({"a": true})),
        Code::WrongType,
        "spec.nodeSelector.a",
        "in quotes",
    );
    refused_once(
        &spec(json!([])),
        Code::WrongType,
        "spec.nodeSelector",
        "a map of labels",
    );
    let many: serde_json::Map<_, _> = (0..17).map(|n| (format!("l{n}"), json!(""))).collect();
    refused_once(
        &spec(json!(many)),
        Code::TooLarge,
        "spec.nodeSelector",
        "at most 16",
    );

    for code in ["", "Masked", "a--b", "-a", "a b", &"a".repeat(65)] {
        let spec = json!({"defaultAction": "SCMP_ACT_ALLOW", "acceptFindings": [code]});
        refused_once(
            &spec,
            Code::BadValue,
            "spec.acceptFindings[0]",
            "no code of a finding",
        );
    }
}

#[test]
fn a_hostile_object_gets_a_bounded_answer() {
    let keys = (0..MAX_NAMES).map(|at| (format!("{at}{}", "\u{202e}\n".repeat(50)), json!(1)));
    let findings = parse_spec(&serde_json::Value::Object(keys.collect())).unwrap_err();
    // And one for the missing default action.
    assert_eq!((findings.len(), findings.total()), (Findings::MAX, MAX_NAMES + 1));
    assert!(findings.iter().all(|finding| finding.message.len() < 1024));
}

/// Debian's `golang-github-containers-common` brings this file, in Docker's format.
#[test]
fn a_profile_in_dockers_format_is_refused_by_its_keys() {
    let path = "/usr/share/containers/seccomp.json";
    let text = std::fs::read_to_string(path).expect("install it with `make packages`");
    let findings = oci(&text).unwrap_err();
    // What says nothing, archMap, the entries with a condition of Docker's, and an `args` that is null.
    assert!(findings.len() < 60, "{findings:?}");
    let others: Vec<_> = findings
        .iter()
        .filter(|finding| finding.code != Code::DockerFormat)
        .map(|finding| finding.code)
        .collect();
    assert_eq!(others, [Code::WrongType]);
    assert!(findings.iter().all(|finding| finding.location.is_some()));
    assert!(findings.iter().any(|finding| finding.field.as_str() == "archMap"));

    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let object = value.as_object_mut().unwrap();
    object.retain(|key, _| !matches!(key.as_str(), "archMap" | "defaultErrno"));
    for rule in object["syscalls"].as_array_mut().unwrap() {
        let keep = |key: &str| matches!(key, "names" | "action" | "errnoRet" | "args");
        rule.as_object_mut()
            .unwrap()
            .retain(|key, value| keep(key) && !value.is_null());
    }
    let profile = oci(&value.to_string()).unwrap();
    assert!(profile.syscalls.len() > 20);
    assert_eq!(parse_spec(&value).unwrap().profile, profile);
    profile.canonical().unwrap();
}

fn any_value() -> impl Strategy<Value = serde_json::Value> {
    let keys: Vec<&str> = [&SPEC.known[..], &RULE.known[..], &CONDITION.known[..]].concat();
    let words = [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_NOTIFY",
        "SCMP_ARCH_X86",
        "SCMP_CMP_EQ",
        "read",
        "write",
        "/s",
        "0x1",
    ];
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(|number| json!(number)),
        any::<String>().prop_map(Into::into),
        prop::sample::select(words.to_vec()).prop_map(Into::into),
    ];
    let key = prop_oneof![9 => prop::sample::select(keys).prop_map(str::to_owned), 1 => any::<String>()];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::btree_map(key.clone(), inner, 0..10)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_is_a_profile_or_has_findings(value in any_value()) {
        match parse_spec(&value) {
            // The rules take whatever was read.
            Ok(spec) => drop(spec.findings()),
            Err(findings) => {
                prop_assert!(!findings.is_empty());
                prop_assert!(findings.iter().all(|finding| finding.field.as_str().starts_with("spec")));
            }
        }
    }

    #[test]
    fn a_file_has_the_same_findings_as_its_value_and_places_for_them(value in any_value()) {
        let node = read_json(&value.to_string()).unwrap();
        let root = FieldPath::root().key("spec");
        let from_file = read_spec(&node, &root, Dialect::Object);
        // A number may be written otherwise than `serde_json` shows it.
        let fields = |findings: Findings| -> std::collections::BTreeSet<_> {
            findings.into_iter().map(|finding| (finding.code, finding.field)).collect()
        };
        if let Err(findings) = &from_file {
            prop_assert!(findings.iter().all(|finding| finding.location.is_some()));
        }
        prop_assert_eq!(from_file.map_err(fields), parse_spec(&value).map_err(fields));
    }
}
