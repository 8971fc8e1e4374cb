//! Texts as people write them, and texts as nobody should.

use proptest::prelude::*;

use super::*;
use crate::profile::model::Profile;

const OCI: &str = include_str!("../../../tests/data/profiles/oci.json");
const MANIFESTS: &str = include_str!("../../../tests/data/profiles/manifests.yaml");
const CONFIG: &str = include_str!("../../../tests/data/profiles/config.json");

fn profiles(text: &str) -> Vec<SourceProfile> {
    let documents = read(text.as_bytes());
    documents
        .into_iter()
        .filter_map(|document| match document {
            SourceDocument::Profile(profile) => Some(*profile),
            SourceDocument::Other { .. } => None,
        })
        .collect()
}

#[track_caller]
fn one(text: &str) -> SourceProfile {
    let mut profiles = profiles(text);
    assert_eq!(profiles.len(), 1, "{profiles:?}");
    profiles.remove(0)
}

/// Code, path, line and message of the only finding of the only profile.
#[track_caller]
fn refused(text: &str) -> (Code, String, usize, String) {
    let findings = one(text).spec.unwrap_err();
    assert_eq!(findings.len(), 1, "{findings:?}");
    let finding = findings[0].clone();
    (
        finding.code,
        finding.field.to_string(),
        finding.location.unwrap().line,
        finding.message,
    )
}

#[track_caller]
fn refused_with(text: &str, code: Code, field: &str, line: usize, part: &str) {
    let (found, path, at, message) = refused(text);
    assert_eq!((found, path.as_str(), at), (code, field, line), "{message}");
    assert!(message.contains(part), "{message}");
}

/// A good manifest with this head.
fn manifest(head: &str) -> String {
    format!("{head}\nspec:\n  defaultAction: SCMP_ACT_ALLOW\n")
}

const HEAD: &str = "apiVersion: callgate.dev/v1alpha1\nkind: SeccompProfile";

#[test]
fn a_profile_means_the_same_in_json_and_in_a_manifest() {
    let file = one(OCI);
    assert_eq!(
        (file.kind, file.name.clone(), file.line),
        (SourceKind::Oci, None, 1)
    );
    let documents = read(MANIFESTS.as_bytes());
    assert_eq!(documents.len(), 3, "the empty document is none");
    let SourceDocument::Profile(web) = &documents[1] else {
        panic!("{documents:?}")
    };
    assert_eq!(web.kind, SourceKind::Manifest);
    assert_eq!(web.name.as_ref().unwrap().to_string(), "team-a/web");
    let (file, web) = (file.spec.unwrap(), web.spec.as_ref().unwrap());
    assert_eq!(file.profile.canonical(), web.profile.canonical());
    assert_eq!(web.node_selector["kubernetes.io/os"], "linux");
}

#[test]
fn an_object_of_another_kind_is_said_and_skipped() {
    let documents = read(MANIFESTS.as_bytes());
    let SourceDocument::Other { kind, line } = &documents[0] else {
        panic!("{documents:?}")
    };
    assert_eq!((kind.as_str(), *line), ("Namespace", 2));
    let odd = "apiVersion: v1\nkind: ConfigMap\ndata: {a: !!binary aGk=, ~: 1}\nbinaryData: {<<: {a: b}}\n";
    assert!(matches!(&read(odd.as_bytes())[..], [SourceDocument::Other { kind, .. }] if kind == "ConfigMap"));
    let node = "apiVersion: callgate.dev/v1alpha1\nkind: SeccompNode\nmetadata: {name: n}\n";
    assert!(matches!(
        &read(node.as_bytes())[..],
        [SourceDocument::Other { .. }]
    ));
}

#[test]
fn one_broken_profile_does_not_hide_the_others_and_keeps_its_name() {
    let broken = profiles(MANIFESTS).remove(1);
    assert_eq!(broken.name.unwrap().to_string(), "default/broken");
    let findings = broken.spec.unwrap_err();
    assert_eq!(findings.len(), 1);
    assert_eq!(
        (findings[0].code, findings[0].field.as_str()),
        (Code::UnknownKey, "spec.syscalls[0].arg")
    );
    let line = MANIFESTS.lines().position(|line| line.contains("arg:")).unwrap() + 1;
    assert_eq!(
        findings[0].location.map(|at| (at.line, at.column)),
        Some((line, 7))
    );
}

#[test]
fn a_config_of_a_runtime_holds_a_profile() {
    let config = one(CONFIG);
    assert_eq!(config.kind, SourceKind::RuntimeConfig);
    let findings = config.spec.unwrap_err();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].field.as_str(), "linux.seccomp.syscalls[0].errnoRet");
    assert_eq!(findings[0].location.unwrap().line, 10);

    for (text, line) in [
        ("{\"ociVersion\": \"1.3.0\"}", 1),
        ("{\"ociVersion\": \"1.3.0\",\n\"linux\": {}}", 2),
        ("{\"linux\": {\"seccom\": {}}}", 1),
    ] {
        refused_with(text, Code::MissingKey, "linux.seccomp", line, "no filter");
    }
    refused_with(
        "{\"linux\": {\"seccomp\": null}}",
        Code::WrongType,
        "linux.seccomp",
        1,
        "null",
    );
    let twice = "{\"linux\": {\"seccomp\": {\"defaultAction\": \"SCMP_ACT_LOG\"},\n\"seccomp\": {}}}";
    refused_with(twice, Code::DuplicateKey, "linux.seccomp", 2, "twice");
}

#[test]
fn a_later_finding_gets_its_path_and_place() {
    let field = FieldPath::root().key("syscalls").index(2).key("args").index(1);
    let file = one(OCI);
    assert_eq!(file.prefix().join(&field).as_str(), "syscalls[2].args[1]");
    let place = file.locate(&file.prefix().join(&field));
    assert_eq!(place.map(|at| (at.line, at.column)), Some((23, 9)));
    let web = profiles(MANIFESTS).remove(0);
    assert_eq!(web.prefix().join(&field).as_str(), "spec.syscalls[2].args[1]");
    let line = MANIFESTS
        .lines()
        .position(|line| line.contains("index: 5"))
        .unwrap()
        + 1;
    assert_eq!(web.locate(&web.prefix().join(&field)).unwrap().line, line);
}

#[test]
fn the_items_of_a_list_are_read_each() {
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "callgate.dev/v1alpha1", "kind": "SeccompProfile", "metadata": {"name": "a"},
         "spec": {"defaultAction": "SCMP_ACT_ALLOW"}},
        {"apiVersion": "v1", "kind": "Pod"},
        {"apiVersion": "callgate.dev/v1alpha1", "kind": "SeccompProfileList", "items": [
            {"apiVersion": "callgate.dev/v1alpha1", "kind": "SeccompProfile", "metadata": {"name": "b"},
             "spec": {"defaultAction": "ALLOW"}}]}
    ]}"#;
    assert_eq!(read(list.as_bytes()).len(), 3);
    let profiles = profiles(list);
    assert!(profiles[0].spec.is_ok());
    let findings = profiles[1].spec.as_ref().unwrap_err();
    assert_eq!(findings[0].field.as_str(), "items[2].items[0].spec.defaultAction");
    assert_eq!((profiles[1].line, findings[0].location.unwrap().line), (6, 7));
    assert_eq!(profiles[1].name.as_ref().unwrap().name(), "b");
}

#[test]
fn a_list_without_items_is_no_profile_and_no_mistake() {
    for text in [
        r#"{"apiVersion": "v1", "kind": "List", "items": []}"#,
        r#"{"apiVersion": "v1", "kind": "List", "items": null}"#,
        "apiVersion: v1\nkind: List\nitems: []\n",
    ] {
        assert!(
            matches!(&read(text.as_bytes())[..], [SourceDocument::Other { kind, line: 1 }] if kind == "List"),
            "{text}"
        );
    }
    let typo = r#"{"apiVersion": "v1", "kind": "List", "item": []}"#;
    assert!(matches!(&read(typo.as_bytes())[..], [SourceDocument::Profile(_)]));
}

#[test]
fn findings_around_the_spec_are_bounded_too() {
    use std::fmt::Write as _;
    let mut text = format!("{HEAD}\nmetadata:\n  name: a\n");
    for n in 0..60_000 {
        writeln!(text, "  k{n}: 1").unwrap();
    }
    text.push_str("spec: {defaultAction: ALLOW}\n");
    let findings = one(&text).spec.unwrap_err();
    assert_eq!((findings.len(), findings.total()), (Findings::MAX, 60_001));
    let twice = format!("{{\"linux\": {{}}{}}}", ", \"linux\": {}".repeat(60_000));
    let findings = one(&twice).spec.unwrap_err();
    assert_eq!((findings.len(), findings.total()), (Findings::MAX, 60_000));
}

#[test]
fn an_object_of_another_group_says_what_to_write() {
    let spo = manifest(
        "apiVersion: security-profiles-operator.x-k8s.io/v1beta1\nkind: SeccompProfile\nmetadata: {name: a}",
    );
    refused_with(
        &spo,
        Code::BadValue,
        "apiVersion",
        1,
        "write apiVersion: callgate.dev/v1alpha1, and a namespace",
    );
    let old = manifest("apiVersion: callgate.dev/v1\nkind: SeccompProfile\nmetadata: {name: a}");
    refused_with(&old, Code::BadValue, "apiVersion", 1, "callgate.dev/v1alpha1");
    let typo = manifest("apiVersion: callgate.dev/v1alpha1\nkind: SecompProfile\nmetadata: {name: a}");
    refused_with(&typo, Code::BadValue, "kind", 2, "write kind: SeccompProfile");
    refused_with(
        &manifest("kind: SeccompProfile\nmetadata: {name: a}"),
        Code::MissingKey,
        "apiVersion",
        1,
        "write apiVersion",
    );
    refused_with(
        &manifest("apiVersion: callgate.dev/v1alpha1\nmetadata: {name: a}"),
        Code::MissingKey,
        "kind",
        1,
        "write kind",
    );
    refused_with(
        &manifest(""),
        Code::MissingKey,
        "",
        2,
        "not an object of Kubernetes",
    );
    refused_with(
        "defaultAction: SCMP_ACT_ALLOW",
        Code::MissingKey,
        "",
        1,
        "must be JSON",
    );
}

#[test]
fn a_name_is_what_kubectl_would_make_of_it() {
    let name = |metadata: &str| {
        one(&manifest(&format!("{HEAD}\nmetadata: {metadata}")))
            .name
            .map(|name| name.to_string())
    };
    assert_eq!(name("{name: a}").as_deref(), Some("default/a"));
    assert_eq!(name("{name: a, namespace: ''}").as_deref(), Some("default/a"));
    assert_eq!(
        name("{name: a.b-c, namespace: team}").as_deref(),
        Some("team/a.b-c")
    );

    let refused = |metadata: &str, code, field: &str| {
        let text = manifest(&format!("{HEAD}\nmetadata: {metadata}"));
        assert_eq!(one(&text).name, None, "{metadata}");
        refused_with(&text, code, field, 3, "");
    };
    refused("{name: ../../etc/passwd}", Code::BadName, "metadata.name");
    refused("{name: a/b}", Code::BadName, "metadata.name");
    refused("{name: \"a\\0\"}", Code::BadName, "metadata.name");
    refused(
        &format!("{{name: {}}}", "a".repeat(251)),
        Code::BadName,
        "metadata.name",
    );
    refused("{name: a, namespace: ..}", Code::BadName, "metadata.namespace");
    refused("{name: 1}", Code::WrongType, "metadata.name");
    refused("{name: a, namespace: on}", Code::WrongType, "metadata.namespace");
    refused("{generateName: a-}", Code::MissingKey, "metadata.name");
    refused("[]", Code::WrongType, "metadata");
}

#[test]
fn keys_around_the_spec_are_exact_too() {
    let text = manifest(&format!("{HEAD}\nmetadata:\n  name: a\n  namespce: b"));
    refused_with(
        &text,
        Code::UnknownKey,
        "metadata.namespce",
        5,
        "did you mean namespace?",
    );
    let text = manifest(&format!("{HEAD}\nmetadata:\n  name: a\n  name: b"));
    refused_with(&text, Code::DuplicateKey, "metadata.name", 5, "twice");
    let text = manifest(&format!("{HEAD}\nmetadata: {{name: a}}\nspec: {{}}"));
    refused_with(&text, Code::DuplicateKey, "spec", 5, "twice");
    let text = manifest(&format!("{HEAD}\nmetadata: {{name: a}}\nspce: {{}}"));
    refused_with(&text, Code::UnknownKey, "spce", 4, "did you mean spec?");
    let text = format!("{HEAD}\nmetadata: {{name: a}}\n");
    refused_with(&text, Code::MissingKey, "spec", 1, "missing");
}

#[test]
fn what_api_servers_add_is_no_mistake() {
    let text = format!(
        "{HEAD}\nmetadata:\n  name: a\n  uid: x\n  resourceVersion: '1'\n  generation: 2\n  creationTimestamp: null\n  \
         managedFields: [{{manager: kubectl}}]\n  annotations: {{a/b: c}}\nspec: {{defaultAction: SCMP_ACT_ALLOW}}\n\
         status: {{digest: x}}\n"
    );
    assert!(one(&text).spec.is_ok(), "{:?}", one(&text).spec);
}

#[test]
fn yaml_is_read_as_kubectl_sends_it() {
    let rule = |line: &str| {
        let text = format!(
            "{}  syscalls:\n  - names: [read]\n    action: SCMP_ACT_ALLOW\n    {line}\n",
            manifest(&format!("{HEAD}\nmetadata: {{name: a}}"))
        );
        one(&text).spec
    };
    let condition = |value: &str| rule(&format!("args: [{{index: 0, value: {value}, op: SCMP_CMP_EQ}}]"));
    for (written, value) in [
        ("010", 8),
        ("0x7E020000", 0x7E02_0000),
        ("1_000", 1000),
        ("'0x10'", 16),
    ] {
        assert_eq!(
            condition(written).unwrap().profile.syscalls[0].args[0].value,
            value,
            "{written}"
        );
    }
    for written in [
        "9223372036854775808",
        "0xFFFFFFFFFFFFFFFF",
        "1.5",
        ".inf",
        "null",
        "true",
        "12:30:45",
        "'010'",
        "\"\"",
    ] {
        assert!(condition(written).is_err(), "{written}");
    }
    assert!(rule("args:").is_err(), "no value is null");
    assert!(rule("args: []").is_ok());
}

#[test]
fn what_is_no_text_of_ours_is_one_unreadable_document() {
    for text in ["", "\n  \n", "# nothing\n", "---\n---\n", "null", "~"] {
        let document = one(text);
        assert_eq!(document.kind, SourceKind::Unreadable, "{text:?}");
        refused_with(text, Code::Syntax, "", 1, "empty");
    }
    for (text, line) in [
        ("{\"defaultAction\": \"SCMP_ACT_ALLOW\",\n}", 2),
        ("{}\n{}", 2),
        ("\u{feff}{}", 1),
        ("a: [\n", 1),
    ] {
        let (code, _, at, message) = refused(text);
        assert_eq!((code, at), (Code::Syntax, line), "{message}");
    }
    for (text, line) in [
        ("// mine\n{}", 1),
        ("\n/* mine */\n{}", 2),
        ("{\n  # mine\n}", 2),
        ("{\"syscalls\": [ // é\n]}", 1),
        ("{\"é\": 1 // mine\n}", 1),
    ] {
        refused_with(
            text,
            Code::Syntax,
            "",
            line,
            "it has no comments; remove this one",
        );
    }
    for (text, line) in [
        ("metadata:\n\tname: web\n", 2),
        ("items:\n- a: b\n\tc: d\n", 3),
        ("spec:\n\n\n\tsyscalls: []\n", 4),
    ] {
        refused_with(text, Code::Syntax, "", line, "indent with spaces");
    }
    let document = read(b"a: 1\nb: \xff\n");
    let [SourceDocument::Profile(document)] = &document[..] else {
        panic!("{document:?}")
    };
    let at = document.spec.as_ref().unwrap_err()[0].location.unwrap();
    assert_eq!((at.line, at.column), (2, 4));
}

#[test]
fn a_syntax_error_in_one_document_leaves_the_others() {
    let text = format!(
        "{}---\nkind: [\n---\n{}",
        manifest(&format!("{HEAD}\nmetadata: {{name: a}}")),
        manifest(&format!("{HEAD}\nmetadata: {{name: b}}"))
    );
    let read: Vec<_> = profiles(&text)
        .into_iter()
        .map(|profile| (profile.kind, profile.spec.is_ok()))
        .collect();
    assert_eq!(
        read,
        [
            (SourceKind::Manifest, true),
            (SourceKind::Unreadable, false),
            (SourceKind::Manifest, true)
        ]
    );
}

#[test]
fn a_text_is_bounded() {
    let text = vec![b' '; MAX_TEXT + 1];
    let documents = read(&text);
    let [SourceDocument::Profile(document)] = &documents[..] else {
        panic!()
    };
    assert_eq!(document.spec.as_ref().unwrap_err()[0].code, Code::TooLarge);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in any::<Vec<u8>>()) {
        prop_assert!(!read(&bytes).is_empty());
    }

    #[test]
    fn a_cut_or_altered_text_is_read_without_panic(
        text in prop::sample::select(&[OCI, MANIFESTS, CONFIG][..]),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = text.as_bytes().to_vec();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        for document in read(&bytes) {
            if let SourceDocument::Profile(profile) = document {
                match profile.spec {
                    Ok(spec) => { Profile::canonical(&spec.profile).unwrap(); }
                    Err(findings) => prop_assert!(findings.iter().all(|finding| finding.location.is_some())),
                }
            }
        }
    }
}
